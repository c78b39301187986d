"""`truc version`."""

from __future__ import annotations

import sys

import click

from node.cli.face import Command, json_option
from node.cli.talk import json_line


def number() -> str:
    """The installed version; "0" where the program runs from a source tree that was never installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("truc")
    except PackageNotFoundError:
        return "0"


def line() -> str:
    return f"truc {number()}"


@click.command(cls=Command, texts=("In phiên bản.", "Show the version."))
@json_option
def command(as_json: bool) -> None:
    if as_json:
        import sqlite3

        python = ".".join(map(str, sys.version_info[:3]))
        json_line({"version": number(), "python": python, "sqlite": sqlite3.sqlite_version})
    else:
        click.echo(line())

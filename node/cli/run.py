"""`truc run`: the node itself, in the foreground, until SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from node.cli.face import Command, config_option
from node.cli.talk import config_path


@click.command(
    cls=Command,
    texts=(
        "Chạy nút ở tiền cảnh cho đến khi nhận SIGTERM.\nMã thoát 78: cấu hình sai, chạy lại cũng vô ích.",
        "Run the node in the foreground until SIGTERM.\nExit code 78: the configuration is wrong, starting again is useless.",
    ),
)
@config_option
def command() -> int:
    with _without("rich"):
        from node.app import main

    return main(config_path())


@contextmanager
def _without(package: str) -> Iterator[None]:
    """As if it were not installed. structlog loads rich where it finds it, for tracebacks in colour on a terminal: a tenth of the
    time in which a killed node is back, for what a node never prints."""
    absent = package not in sys.modules
    if absent:
        sys.modules[package] = None  # type: ignore[assignment]
    yield
    if absent:
        del sys.modules[package]

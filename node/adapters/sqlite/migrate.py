"""Numbered SQL files, forward only, one transaction each, tracked by `PRAGMA user_version`."""

from __future__ import annotations

import sqlite3
from importlib import resources


class SchemaTooNew(Exception):
    """The database was written by a later version of truc; this one must not touch it."""


def scripts() -> list[tuple[int, str]]:
    """(number, SQL) of every migration in the package, in order. Numbers run from 1 without a gap."""
    folder = resources.files("node.adapters.sqlite").joinpath("migrations")
    found = sorted(
        (int(item.name[:4]), item.read_text(encoding="utf-8")) for item in folder.iterdir() if item.name.endswith(".sql")
    )
    assert [number for number, _ in found] == list(range(1, len(found) + 1)), "migrations must be numbered without a gap"
    return found


def statements(script: str) -> list[str]:
    """A script cut into statements. Needed because `executescript` commits by itself before it begins."""
    result: list[str] = []
    part = ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            result.append(part.strip())
            part = ""
    assert not part.strip(), "a migration ends in the middle of a statement"
    return result


def migrate(db: sqlite3.Connection) -> int:
    """Bring the database to the newest schema and return its number.

    Raises SchemaTooNew when the file is ahead of this program. A failing script leaves the database as it was.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    todo = scripts()
    if version > len(todo):
        raise SchemaTooNew(f"schema {version}, this program knows {len(todo)}")
    for number, script in todo[version:]:
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements(script):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={number:d}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    return len(todo)

"""A scan for times that are in no form of ours: what is printed is ISO 8601 with an offset, what is stored is UTC ms in a column
(or under a key) that says so. # QĐ 28/2018 Điều 14.4"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOOKS_LIKE_A_TIME = re.compile(r"\d{1,4}[-/]\d{1,2}[-/]\d{1,4}[ T]\d{1,2}:\d{2}\S*|\b\d{1,2}:\d{2}:\d{2}\b")
ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(\+07:00|Z)")
MS = range(1_500_000_000_000, 2_500_000_000_000)
SECONDS = range(1_500_000_000, 2_500_000_000)
NOT_OURS = {"envelope.hops", "outbox.hops"}
"""Columns with a part of the link's own wire form, where an instant's place says what it is."""


def in_value(value: Any, where: str = "") -> Iterator[str]:
    """What is wrong in a JSON value: its place and itself."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from in_value(each, f"{where}.{key}")
    elif isinstance(value, list):
        for each in value:
            yield from in_value(each, where)
    elif isinstance(value, str):
        yield from (f"{where}: {found[0]}" for found in LOOKS_LIKE_A_TIME.finditer(value) if not in_iso(value, found.start()))
    elif isinstance(value, int) and not isinstance(value, bool) and not _said(value, where):
        yield f"{where}: {value}"


def _said(value: int, where: str) -> bool:
    """Whether a number is no instant, or is under a name that says which."""
    if value in MS:
        return where.endswith("_ms")
    return value not in SECONDS or where.endswith(("_s", "_seconds", "_bytes", ".number"))  # of a revocation list: it only grows


def in_iso(text: str, at: int) -> bool:
    """Whether what looks like a time there is one in our form, or lies in one."""
    return any(found.start() <= at < found.end() for found in ISO.finditer(text))


def in_lines(path: Path) -> Iterator[str]:
    """A log: one JSON object a line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield from in_value(json.loads(line), path.parent.name)


def in_database(path: Path) -> Iterator[str]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for table in tables:
            rows = database.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    place = f"{table}.{column}"
                    if place not in NOT_OURS and not isinstance(value, bytes):
                        yield from in_value(value, place)

"""One SQLite connection on its own thread (aiosqlite's), to which whole functions are sent instead of single statements.

A hop to the thread costs tens of microseconds, a statement two or three: so a group of transactions is one hop. The
simulator puts another class with the same two methods here. Knows nothing of tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import aiosqlite

T = TypeVar("T")

BUSY_TIMEOUT_S = 10.0
PAGE_BYTES = 4096
"""SQLite's own, beside 24 of each page's head in the WAL."""


class Connection(Protocol):
    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work on the connection's thread and return what it returns or raise what it raises."""
        ...

    async def close(self) -> None: ...


class ThreadConnection:
    """The production connection. Open with `open_writer` or `open_reader`."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        self._db = db

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # aiosqlite offers no public way to run a function on its thread; this is the only line that reaches inside it.
        result: T = await self._db._execute(lambda: work(self._db._conn))  # type: ignore[no-untyped-call]
        return result

    async def close(self) -> None:
        await self._db.close()


def settings(wal_pages_max: int) -> Callable[[sqlite3.Connection], None]:
    """What the writing connection is told when it opens, in production as in the rehearsal. wal_pages_max: pages in the WAL after
    which a commit folds it back into the database."""

    def apply(db: sqlite3.Connection) -> None:
        (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":  # an error on the way leaves the old mode, and says nothing
            raise sqlite3.OperationalError(f"journal_mode is {mode}, not wal")
        # An acknowledged document survives a power cut only with FULL: NORMAL loses commits (measured, see docs/adr/0003).
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA wal_autocheckpoint={wal_pages_max:d}")
        # A single large transaction makes the WAL as long as it is; afterwards it shrinks to what is usual again.
        db.execute(f"PRAGMA journal_size_limit={2 * wal_pages_max * PAGE_BYTES:d}")
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("PRAGMA secure_delete=ON")
        db.execute("PRAGMA temp_store=MEMORY")
        db.execute("PRAGMA cache_size=-16000")

    return apply


async def open_writer(path: Path, wal_pages_max: int) -> ThreadConnection:
    """The one connection that may write. Transactions are begun and ended by `writer.py` alone."""
    path.touch(mode=0o600, exist_ok=True)  # noqa: ASYNC240 – once, before anything is served
    connection = ThreadConnection(await aiosqlite.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S))
    await connection.run(settings(wal_pages_max))
    return connection


async def open_reader(path: Path) -> ThreadConnection:
    """A connection that sees the last commit and can change nothing."""
    connection = ThreadConnection(await aiosqlite.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S))
    await connection.run(lambda db: db.execute("PRAGMA query_only=ON"))
    await connection.run(lambda db: db.execute("PRAGMA cache_size=-8000"))
    return connection

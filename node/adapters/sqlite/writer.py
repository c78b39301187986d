"""The one writer: everything that waits is committed together, and only then does anybody hear of it.

A transaction is a plain function of a `Transaction`; a group of them shares one BEGIN IMMEDIATE … COMMIT, each under a
savepoint of its own, so that a member's failure leaves its neighbours alone. Knows the journal's hash chain (it must grow in
the order of commits) and no other table.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from node.adapters.sqlite.connection import Connection
from node.core.errors import Deferred, Reason
from node.core.identifier import OrgId
from node.core.tally import Tally

T = TypeVar("T")

FULL_RETRY_S = 30.0


class StoreFailed(Exception):
    """The disk or the database let us down. The process exits and never repeats the sync (architecture, decision 3)."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The instant rows of one call carry: UTC ms, its bound, and whether the clock was synchronised."""

    at_ms: int
    bound_ms: int
    synchronised: bool


class Transaction:
    """What a member may use: the connection, and the journal whose chain runs through all members.

    Rows that are only ever added wait here and are written together, a statement for each table, before the member ends.
    """

    def __init__(self, db: sqlite3.Connection, laid: set[OrgId] | None = None) -> None:
        self.db = db
        self.laid: set[OrgId] = set() if laid is None else laid
        """Organs before which something was laid. A member that was undone may leave one: who is woken for nothing looks again."""
        self._head: tuple[int, bytes] | None = None
        """Number and hash of the journal's last row; None until the first row is written: many groups write none."""
        self._added: list[tuple[str, tuple[Any, ...]]] = []

    def journal(
        self,
        stamp: Stamp,
        event: str,
        *,
        envelope: str = "",
        recipient: str = "",
        neighbour: str = "",
        reason: str = "",
        detail: str = "",
    ) -> None:
        """Append a row. detail is JSON or a short text; never a document's content."""
        last, before = self._head or self._last()
        fields = (last + 1, stamp.at_ms, stamp.bound_ms, event, envelope, recipient, neighbour, reason, detail)
        digest = chained(before, fields)
        self.add(_JOURNAL, (*fields, digest))
        self._head = (last + 1, digest)

    def add(self, statement: str, row: tuple[Any, ...]) -> None:
        """Have a row written before the member ends, by an INSERT that nobody reads from within the transaction."""
        self._added.append((statement, row))

    def flush(self) -> None:
        """Write what waits."""
        by_statement: dict[str, list[tuple[Any, ...]]] = {}
        for statement, row in self._added:
            by_statement.setdefault(statement, []).append(row)
        self._added.clear()
        for statement, rows in by_statement.items():
            self.db.executemany(statement, rows)

    def mark(self) -> tuple[tuple[int, bytes] | None, int]:
        """Where a savepoint begins; for `back_to`."""
        return self._head, len(self._added)

    def back_to(self, mark: tuple[tuple[int, bytes] | None, int]) -> None:
        """What was added since then is forgotten, as the savepoint's own rows are."""
        self._head, length = mark
        del self._added[length:]

    def _last(self) -> tuple[int, bytes]:
        row = self.db.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
        return (row[0], bytes(row[1])) if row else (0, b"\0" * 32)


_JOURNAL = "INSERT INTO journal VALUES (?,?,?,?,?,?,?,?,?,?)"
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def chained(previous: bytes, fields: tuple[Any, ...]) -> bytes:
    """SHA-256 over the hash before and the row as compact JSON: what `journal.hash` holds."""
    return hashlib.sha256(previous + _COMPACT(fields).encode()).digest()


@dataclass(slots=True)
class _Member(Generic[T]):
    work: Callable[[Transaction], T]
    future: asyncio.Future[T]


@dataclass(slots=True)
class Attempt:
    """What a member came to. alone: it was tried a second time, in a transaction of its own."""

    value: Any = None
    error: Exception | None = None
    alone: bool = False


def commit_group(
    db: sqlite3.Connection, works: list[Callable[[Transaction], Any]], laid: set[OrgId] | None = None
) -> list[Attempt]:
    """Run every member in one transaction and commit. A member that raises is undone alone; a constraint error gets one
    retry in a transaction of its own. Errors of the engine itself pass through, with everything rolled back. laid: filled with
    the organs before which something was laid."""
    if len(works) == 1:
        return [_single(db, works[0], laid)]
    outcomes: list[Attempt] = []
    with _transaction(db, laid) as transaction:
        for work in works:
            outcomes.append(attempt(transaction, _whole(work)))
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome.error, sqlite3.IntegrityError):
            outcomes[index] = _alone(db, works[index], laid)
    return outcomes


@contextmanager
def _transaction(db: sqlite3.Connection, laid: set[OrgId] | None) -> Iterator[Transaction]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield Transaction(db, laid)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _whole(work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """A member with all its rows."""

    def member(transaction: Transaction) -> T:
        value = work(transaction)
        transaction.flush()
        return value

    return member


def _single(db: sqlite3.Connection, work: Callable[[Transaction], Any], laid: set[OrgId] | None) -> Attempt:
    """A group of one, as most are: the transaction is its savepoint."""
    try:
        with _transaction(db, laid) as transaction:
            return Attempt(value=_whole(work)(transaction))
    except Exception as error:
        if _is_engine(error):
            raise
        return Attempt(error=error)


def _alone(db: sqlite3.Connection, work: Callable[[Transaction], Any], laid: set[OrgId] | None) -> Attempt:
    """The others of its group are committed: a disk that is full now is this member's news only."""
    try:
        outcome = _single(db, work, laid)
    except sqlite3.Error as error:
        if not is_full(error):
            raise
        return Attempt(error=Deferred(FULL_RETRY_S, Reason.DISK_FULL), alone=True)
    outcome.alone = True
    return outcome


def is_full(error: BaseException) -> bool:
    """Whether the disk had no room for what the engine wanted to write."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _is_engine(error: Exception) -> bool:
    """Whether the engine or the disk failed, rather than what one member asked of them. A malformed file has no class of its
    own."""
    return isinstance(error, sqlite3.OperationalError | sqlite3.InternalError) or type(error) is sqlite3.DatabaseError


def attempt(transaction: Transaction, work: Callable[[Transaction], Any]) -> Attempt:
    """Run work under a savepoint: when it raises, it alone is undone. Errors of the engine pass through."""
    db = transaction.db
    mark = transaction.mark()
    db.execute("SAVEPOINT member")
    try:
        value = work(transaction)
    except Exception as error:
        if _is_engine(error):
            raise
        db.execute("ROLLBACK TO member")
        db.execute("RELEASE member")
        transaction.back_to(mark)
        return Attempt(error=error)
    db.execute("RELEASE member")
    return Attempt(value=value)


class Writer:
    """Owns the write connection. `do` may be called from anywhere; `run` is the one task that commits."""

    def __init__(self, connection: Connection, group_max: int, tally: Tally) -> None:
        self._connection = connection
        self._group_max = group_max
        self._tally = tally
        self._waiting: deque[_Member[Any]] = deque()
        self._wake = asyncio.Event()
        self._closed: Exception | None = None
        self.when_laid: Callable[[frozenset[OrgId]], None] = lambda organs: None
        """Called after each commit that laid something before organs, with those organs."""

    async def do(self, work: Callable[[Transaction], T]) -> T:
        """Have work committed with whatever else waits; returns after the commit.

        Raises what work raised; Deferred when the disk is full or the writer has gone (then nobody knows whether the row
        exists: the caller's retry will meet it).
        """
        if self._closed is not None:
            raise Deferred(FULL_RETRY_S, Reason.NOT_NOW, in_doubt=True) from self._closed
        member: _Member[T] = _Member(work, asyncio.get_running_loop().create_future())
        self._waiting.append(member)
        self._wake.set()
        return await member.future

    async def run(self) -> None:
        """Commit until cancelled. Raises StoreFailed when the engine fails; whoever waits hears `Deferred`."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._commit([self._waiting.popleft() for _ in range(min(len(self._waiting), self._group_max))])
        except BaseException as error:
            self._closed = error if isinstance(error, Exception) else StoreFailed("the writer has stopped")
            self._abandon(list(self._waiting))
            self._waiting.clear()
            raise

    async def drain(self) -> None:
        """Wait until nothing waits any more (used while stopping)."""
        if self._closed is None:
            await self.do(lambda transaction: None)

    async def _commit(self, group: list[_Member[Any]]) -> None:
        laid: set[OrgId] = set()
        try:
            outcomes = await self._connection.run(lambda db: commit_group(db, [member.work for member in group], laid))
        except sqlite3.Error as error:
            if is_full(error):
                self._abandon(group, Deferred(FULL_RETRY_S, Reason.DISK_FULL))
                return
            self._abandon(group)
            raise StoreFailed(str(error)) from error
        except BaseException:
            self._abandon(group)
            raise
        self._tally.add("truc_commits_total")
        self._tally.add("truc_commit_members_total", len(group))
        self._tally.add("truc_commit_retries_total", sum(outcome.alone for outcome in outcomes))
        for member, outcome in zip(group, outcomes, strict=True):
            if member.future.done():
                continue
            if outcome.error is not None:
                member.future.set_exception(outcome.error)
            else:
                member.future.set_result(outcome.value)
        if laid:
            self.when_laid(frozenset(laid))

    def _abandon(self, group: list[_Member[Any]], error: Exception | None = None) -> None:
        for member in group:
            if not member.future.done():
                member.future.set_exception(error or Deferred(FULL_RETRY_S, Reason.NOT_NOW, in_doubt=True))
                member.future.exception()  # a caller that was cancelled meanwhile must not leave a warning behind

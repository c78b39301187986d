"""The one writer: everything that waits is committed together, and only then does anybody hear of it.

A transaction is a plain function of a `Transaction`; a group of them shares one BEGIN IMMEDIATE … COMMIT, each under a
savepoint of its own, so that a member's failure leaves its neighbours alone. A question stands until a group answers it: it is
asked at the end of each group that fed its key, so that what one member brings the next one takes along in the same commit.
Knows the journal's hash chain (it must grow in the order of commits) and no other table.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from json.encoder import encode_basestring
from typing import Any, Generic, TypeVar

from node.adapters.sqlite.connection import Connection
from node.core.errors import Deferred, Reason
from node.core.tally import Tally

T = TypeVar("T")

FULL_RETRY_S = 30.0
QUESTIONS_MAX = 32
"""So many are answered in one commit, each with a batch in memory; who waits besides, in a country-wide broadcast, is answered by
the next ones."""


class StoreFailed(Exception):
    """The disk or the database let us down. The process exits and never repeats the sync (architecture, decision 3)."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The instant rows of one call carry: UTC ms, its bound, and whether the clock was synchronised. on_trial: of these codes, at
    an instant (UTC ms), whether one is connected on trial only."""

    at_ms: int
    bound_ms: int
    synchronised: bool
    on_trial: Callable[[Sequence[str], int], bool] = lambda codes, at_ms: False


Depths = Counter[tuple[str, int]]
"""How much there is, or by how much that changes: rows that wait by (neighbour, lane), items under MAILBOX, bytes of bodies under
FILES. Counted as it changes, because counting all of it takes the longer the more there is."""
MAILBOX = ("", -1)
FILES = ("", -2)
Mark = tuple[tuple[int, bytes] | None, int, Depths]

Key = tuple[str, str]
"""What a question waits for: a word and a code."""


def towards(neighbour: str) -> Key:
    """Rows of a neighbour have changed so that one more of them may be offered."""
    return ("towards", neighbour)


def laid_before(organ: str) -> Key:
    """Something was laid before an organ."""
    return ("before", organ)


COUNTABLE: Key = ("count", "")
"""A day's figures may have changed: a row of the ledger, or a statement from below."""


class Transaction:
    """What a member may use: the connection, and the journal whose chain runs through all members.

    Rows that are only ever added wait here and are written together, a statement for each table, before the member ends.
    """

    def __init__(self, db: sqlite3.Connection, stamp: Stamp = Stamp(0, 0, False)) -> None:
        self.db = db
        self.stamp = stamp
        """Of the moment the group began: no stamp of its members is later."""
        self.fed: set[Key] = set()
        """What was done that a question may wait for. A member that was undone may leave some: who is asked for nothing finds
        nothing."""
        self.read: dict[str, bytes] = {}
        """Bodies that were read in this transaction, by digest: many children may be given the same."""
        self._head: tuple[int, bytes] | None = None
        """Number and hash of the journal's last row; None until the first row is written: many groups write none."""
        self._added: list[tuple[str, tuple[Any, ...]]] = []
        self.depths: Depths = Counter()

    def queued(self, neighbour: str, lane: int, rows: int = 1) -> None:
        """So many rows more wait for a neighbour in a lane; fewer where rows is below 0. Held rows do not wait."""
        self.depths[neighbour, lane] += rows

    def boxed(self, items: int = 1) -> None:
        """So many items more lie open in mailboxes."""
        self.depths[MAILBOX] += items

    def filed(self, size: int) -> None:
        """Bodies in files have so many bytes more."""
        self.depths[FILES] += size

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

    def note_tail(self) -> None:
        """Say where the journal ends now, so that rows cannot be taken off its end unseen."""
        if self._head is not None:
            self.db.execute(_TAIL, (TAIL, f"{self._head[0]} {self._head[1].hex()}"))

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

    def mark(self) -> Mark:
        """Where a savepoint begins; for `back_to`."""
        return self._head, len(self._added), self.depths.copy()

    def back_to(self, mark: Mark) -> None:
        """What was added since then is forgotten, as the savepoint's own rows are."""
        self._head, length, self.depths = mark
        del self._added[length:]

    def _last(self) -> tuple[int, bytes]:
        """Where the journal goes on. Rows that were taken off its end leave a gap, whatever is written after them."""
        row = self.db.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
        last = (row[0], bytes(row[1])) if row else (0, b"\0" * 32)
        noted = noted_tail(self.db)
        return last if noted is None or noted[0] <= last[0] else noted


def noted_tail(db: sqlite3.Connection) -> tuple[int, bytes] | None:
    """Number and hash of the journal's last row as the writer noted them with the commit; None: it never has."""
    row = db.execute("SELECT value FROM meta WHERE key=?", (TAIL,)).fetchone()
    if row is None:
        return None
    seq, _, hexed = row[0].partition(" ")
    return int(seq), bytes.fromhex(hexed)


TAIL = "journal"
_TAIL = "INSERT INTO meta VALUES (?,?) ON CONFLICT DO UPDATE SET value=excluded.value"
_JOURNAL = "INSERT INTO journal VALUES (?,?,?,?,?,?,?,?,?,?)"
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def chained(previous: bytes, fields: tuple[Any, ...]) -> bytes:
    """SHA-256 over the hash before and the row as compact JSON: what `journal.hash` holds."""
    try:
        text = f"[{','.join([str(each) if type(each) is int else encode_basestring(each) for each in fields])}]"
    except TypeError:  # no row of ours: some other value was put into it
        text = _COMPACT(fields)
    return hashlib.sha256(previous + text.encode()).digest()


Joint = Callable[[Transaction, Sequence[Any]], Sequence[Any]]
"""Does for many callers at once what each has asked for: what they have given, to what became of each, in order."""


@dataclass(slots=True)
class _Member(Generic[T]):
    """What somebody waits for. joint: it is done together with its neighbours of the same kind, each with its given."""

    work: Callable[[Transaction], T]
    future: asyncio.Future[T]
    joint: Joint | None = None
    given: Any = None


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What a question found. answer None: nothing yet; then due_ms says when to ask again if nobody feeds it (UTC ms)."""

    answer: T | None = None
    due_ms: int | None = None


@dataclass(slots=True, eq=False)
class Question(Generic[T]):
    """Asked in the next group, and then at the end of each that feeds one of its keys, until it has an answer or is cancelled.
    stands False: asked once, and None is an answer."""

    keys: Sequence[Key]
    work: Callable[[Transaction], Look[T]]
    future: asyncio.Future[T | None]
    stands: bool
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Attempt:
    """What a member came to. alone: it was tried a second time, in a transaction of its own."""

    value: Any = None
    error: Exception | None = None
    alone: bool = False


@dataclass(slots=True)
class Group:
    """What one commit takes: members, and questions to ask at its end. asked: those to ask in any case; find: those that stand
    under a key. looks is filled with what was found, curious with who asked, left with whose turn is in the next group, depths
    with what has changed of what waits, once that is committed."""

    works: list[Callable[[Transaction], Any]]
    asked: list[Question[Any]]
    find: Callable[[Key], Sequence[Question[Any]]]
    stamp: Stamp
    looks: list[tuple[Question[Any], Attempt]] = field(default_factory=list)
    curious: list[Question[Any]] = field(default_factory=list)
    left: list[Question[Any]] = field(default_factory=list)
    depths: Depths = field(default_factory=Counter)


def commit_group(db: sqlite3.Connection, group: Group) -> list[Attempt]:
    """Run every member and every question in one transaction and commit. A member that raises is undone alone; a constraint
    error gets one retry in a transaction of its own. Errors of the engine itself pass through, with everything rolled back."""
    if len(group.works) == 1 and not group.asked:
        return [_single(db, group.works[0], group)]
    outcomes: list[Attempt] = []
    with _transaction(db, group) as transaction:
        for work in group.works:
            outcomes.append(attempt(transaction, _whole(work)))
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome.error, sqlite3.IntegrityError):
            outcomes[index] = _alone(db, group.works[index], group)
    return outcomes


@contextmanager
def _transaction(db: sqlite3.Connection, group: Group) -> Iterator[Transaction]:
    looked = len(group.looks)
    db.execute("BEGIN IMMEDIATE")
    try:
        transaction = Transaction(db, group.stamp)
        yield transaction
        _look(transaction, group)
        transaction.note_tail()
        db.execute("COMMIT")
    except BaseException:
        del group.looks[looked:]  # what was found was undone
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    group.depths.update(transaction.depths)


def _look(transaction: Transaction, group: Group) -> None:
    """Ask what is to be asked now that the members have done their part; what has an answer is not asked again."""
    fed = [question for key in sorted(transaction.fed) for question in group.find(key)]
    answered = {question for question, outcome in group.looks if outcome.error is not None or outcome.value.answer is not None}
    curious = [each for each in dict.fromkeys((*group.asked, *fed)) if each not in answered and not each.future.done()]
    group.left += curious[QUESTIONS_MAX:]
    for question in curious[:QUESTIONS_MAX]:
        group.curious.append(question)
        group.looks.append((question, attempt(transaction, _whole(question.work))))
    group.asked = []


def _whole(work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """A member with all its rows."""

    def member(transaction: Transaction) -> T:
        value = work(transaction)
        transaction.flush()
        return value

    return member


def _single(db: sqlite3.Connection, work: Callable[[Transaction], Any], group: Group) -> Attempt:
    """A group of one, as most are: the transaction is its savepoint."""
    try:
        with _transaction(db, group) as transaction:
            return Attempt(value=_whole(work)(transaction))
    except Exception as error:
        if _is_engine(error):
            raise
        return Attempt(error=error)


def _alone(db: sqlite3.Connection, work: Callable[[Transaction], Any], group: Group) -> Attempt:
    """The others of its group are committed: a disk that is full now is this member's news only."""
    try:
        outcome = _single(db, work, group)
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
    """Owns the write connection. `do` and `ask` may be called from anywhere; `run` is the one task that commits."""

    def __init__(self, connection: Connection, group_max: int, tally: Tally, stamp: Callable[[], Stamp]) -> None:
        self._connection = connection
        self._group_max = group_max
        self._tally = tally
        self._stamp = stamp
        self._waiting: deque[_Member[Any]] = deque()
        self._questions: dict[Key, list[Question[Any]]] = {}
        self._put = self._taken = 0
        self._fresh: dict[Question[Any], int] = {}
        """Questions to be asked in any case, and how many members stand before each."""
        self._wake = asyncio.Event()
        self._closed: Exception | None = None
        self.depths: Depths = Counter()
        """How much there is now, on top of what was counted when the database was opened."""

    async def do(self, work: Callable[[Transaction], T]) -> T:
        """Have work committed with whatever else waits; returns after the commit. Raises as `put` says."""
        return await self.put(work)

    def put(self, work: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """Have work committed behind what was put before, whether or not anybody waits for it.

        The future raises what work raised; Deferred when the disk is full or the writer has gone (then nobody knows whether the
        row exists: the caller's retry will meet it).
        """
        return self._add(_Member(work, asyncio.get_running_loop().create_future()))

    def join(self, joint: Joint, given: Any) -> asyncio.Future[Any]:
        """As `put`, for what is done with fewer statements together: those who stand one behind another in a group are one member,
        and what that raises all of them hear."""
        return self._add(_Member(lambda tx: joint(tx, [given])[0], asyncio.get_running_loop().create_future(), joint, given))

    def _add(self, member: _Member[T]) -> asyncio.Future[T]:
        if self._closed is not None:
            _refuse(member.future)
            return member.future
        self._put += 1
        self._waiting.append(member)
        self._wake.set()
        return member.future

    def ask(self, keys: Sequence[Key], work: Callable[[Transaction], Look[T]], *, stands: bool) -> asyncio.Future[T | None]:
        """Ask behind what was put before. The answer comes after the commit of the group that gave it. Raises as `put` says. A
        future that is done, also by its owner, is forgotten."""
        future: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        if self._closed is not None:
            _refuse(future)
            return future
        question = Question(keys, work, future, stands)
        future.add_done_callback(lambda _: self._forget(question))
        self._again(question)
        return future

    def _again(self, question: Question[Any]) -> None:
        self._fresh[question] = self._put
        self._wake.set()

    def _forget(self, question: Question[Any]) -> None:
        if question.timer is not None:
            question.timer.cancel()
        self._fresh.pop(question, None)
        for key in question.keys:
            standing = self._questions.get(key, [])
            if question in standing:
                standing.remove(question)
                if not standing:
                    del self._questions[key]

    def _stand(self, question: Question[Any]) -> None:
        """From its first asking on, and not before: until then no group may answer it, for what was put before it is not done."""
        for key in question.keys:
            standing = self._questions.setdefault(key, [])
            if question not in standing:
                standing.append(question)

    def _standing(self, key: Key) -> Sequence[Question[Any]]:
        return tuple(self._questions.get(key, ()))

    async def run(self) -> None:
        """Commit until cancelled. Raises StoreFailed when the engine fails; whoever waits hears `Deferred`."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting or self._fresh:
                    await self._commit([self._waiting.popleft() for _ in range(min(len(self._waiting), self._group_max))])
        except BaseException as error:
            self._closed = error if isinstance(error, Exception) else StoreFailed("the writer has stopped")
            standing = [each for questions in self._questions.values() for each in questions]
            self._abandon([*self._waiting, *self._fresh, *standing])
            self._waiting.clear()
            raise

    async def drain(self) -> None:
        """Wait until nothing waits any more (used while stopping)."""
        if self._closed is None:
            await self.do(lambda transaction: None)

    async def _commit(self, members: list[_Member[Any]]) -> None:
        self._taken += len(members)
        asked = [question for question, put in self._fresh.items() if put <= self._taken]
        for question in asked:
            del self._fresh[question]
            self._stand(question)
        runs = [tuple(run) for _, run in groupby(members, key=lambda member: member.joint or id(member))]
        group = Group([_joined(run) for run in runs], list(asked), self._standing, self._stamp())
        try:
            outcomes = await self._run(group)
        except sqlite3.Error as error:
            if is_full(error):
                self._abandon([*members, *asked], Deferred(FULL_RETRY_S, Reason.DISK_FULL))
                return
            self._abandon([*members, *asked])
            raise StoreFailed(str(error)) from error
        except BaseException:
            self._abandon([*members, *asked])
            raise
        self.depths.update(group.depths)
        self._tally.add("truc_commits_total")
        self._tally.add("truc_commit_members_total", len(members))
        self._tally.add("truc_commit_retries_total", sum(outcome.alone for outcome in outcomes))
        for run, outcome in zip(runs, outcomes, strict=True):
            values = outcome.value if len(run) > 1 and outcome.error is None else [outcome.value] * len(run)
            for member, value in zip(run, values, strict=True):
                if member.future.done():
                    continue
                if outcome.error is not None:
                    member.future.set_exception(outcome.error)
                else:
                    member.future.set_result(value)
        for question, outcome in group.looks:
            self._answer(question, outcome)
        for question in group.left:
            if not question.future.done():
                self._again(question)

    async def _run(self, group: Group) -> list[Attempt]:
        try:
            return await self._connection.run(lambda db: commit_group(db, group))
        except sqlite3.Error as error:
            if not (is_full(error) and group.curious):
                raise
        # It may be what a question wanted to mark that found no room: its members are not to suffer for it, and go without.
        self._abandon(group.curious, Deferred(FULL_RETRY_S, Reason.DISK_FULL))
        alone = Group(group.works, [], lambda key: (), group.stamp)
        outcomes = await self._connection.run(lambda db: commit_group(db, alone))
        group.depths = alone.depths
        return outcomes

    def _answer(self, question: Question[Any], outcome: Attempt) -> None:
        if question.future.done():
            return
        if outcome.error is not None:
            _refuse(question.future, outcome.error)
            return
        look: Look[Any] = outcome.value
        if look.answer is not None or not question.stands:
            question.future.set_result(look.answer)
            return
        if question.timer is not None:
            question.timer.cancel()
            question.timer = None
        if look.due_ms is not None:
            wait_s = max(0, look.due_ms - self._stamp().at_ms) / 1000
            question.timer = asyncio.get_running_loop().call_later(wait_s, self._again, question)

    def _abandon(self, waiting: Iterable[_Member[Any] | Question[Any]], error: Exception | None = None) -> None:
        for each in waiting:
            if not each.future.done():
                _refuse(each.future, error)


def _joined(run: Sequence[_Member[Any]]) -> Callable[[Transaction], Any]:
    """One work for members that are done together; a list of what became of each, where there are several."""
    joint, given = run[0].joint, [member.given for member in run]
    return run[0].work if joint is None or len(run) == 1 else lambda tx: joint(tx, given)


def _refuse(future: asyncio.Future[Any], error: Exception | None = None) -> None:
    future.set_exception(error or Deferred(FULL_RETRY_S, Reason.NOT_NOW, in_doubt=True))
    future.exception()  # a caller that was cancelled meanwhile must not leave a warning behind

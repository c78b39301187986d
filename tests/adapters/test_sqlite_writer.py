"""One commit for all who wait, and only then a word to anybody; what fails, fails alone, but for the disk's own failures."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from node.adapters.sqlite.connection import ThreadConnection, open_reader, open_writer
from node.adapters.sqlite.migrate import migrate
from node.adapters.sqlite.writer import QUESTIONS_MAX, Key, Look, Stamp, StoreFailed, Transaction, Writer, towards
from node.core.errors import Deferred, Reason
from node.core.tally import Tally

T = TypeVar("T")
STAMP = Stamp(1_930_000_000_000, 1000, True)
MEGABYTE = 1 << 20


class Bench:
    """A writer on a file, with a table of its own to write to. `gate` holds commits back, `fault` replaces them."""

    def __init__(self, connection: ThreadConnection, reader: ThreadConnection, group_max: int) -> None:
        self.connection, self.reader = connection, reader
        self.tally = Tally()
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.fault: Exception | None = None
        self.writer = Writer(self, group_max, self.tally, lambda: STAMP)
        self.running = asyncio.create_task(self.writer.run())

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.entered.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await self.connection.run(work)

    async def close(self) -> None:
        self.running.cancel()
        try:
            with suppress(asyncio.CancelledError, StoreFailed):
                await self.running
        finally:
            await self.reader.close()
            await self.connection.close()

    async def values(self) -> list[int]:
        return [
            value for (value,) in await self.reader.run(lambda db: db.execute("SELECT value FROM t ORDER BY value").fetchall())
        ]

    @property
    def commits(self) -> int:
        return self.tally.value("truc_commits_total")


async def lay(tmp_path: Path, group_max: int = 512) -> Bench:
    path = tmp_path / "t.db"
    connection = await open_writer(path, 4000)
    await connection.run(migrate)
    await connection.run(lambda db: db.execute("CREATE TABLE t (value INTEGER PRIMARY KEY, ballast BLOB)"))
    return Bench(connection, await open_reader(path), group_max)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = await lay(tmp_path)
    yield found
    await found.close()


def put(value: int, ballast: int = 0) -> Callable[[Transaction], int]:
    def work(tx: Transaction) -> int:
        tx.db.execute("INSERT INTO t VALUES (?,?)", (value, b"\0" * ballast))
        tx.journal(STAMP, "put", detail=str(value))
        return value

    return work


async def outcomes(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


# --- the group -------------------------------------------------------------------------------------------------------------


async def test_all_who_wait_share_one_commit(bench: Bench) -> None:
    assert await outcomes(*(bench.writer.do(put(n)) for n in range(50))) == list(range(50))
    assert bench.commits == 1
    assert bench.tally.value("truc_commit_members_total") == 50
    assert await bench.values() == list(range(50))


async def test_a_group_has_a_largest_size(tmp_path: Path) -> None:
    bench = await lay(tmp_path, group_max=10)
    await outcomes(*(bench.writer.do(put(n)) for n in range(45)))
    assert bench.commits == 5
    await bench.close()


async def test_members_are_committed_in_the_order_in_which_they_came(bench: Bench) -> None:
    await outcomes(*(bench.writer.do(put(n)) for n in (3, 1, 2)))
    details = await bench.reader.run(lambda db: db.execute("SELECT detail FROM journal ORDER BY seq").fetchall())
    assert details == [("3",), ("1",), ("2",)]


async def test_who_stand_behind_one_another_and_want_the_same_are_one_member_each_with_its_own_answer(bench: Bench) -> None:
    seen: list[list[int]] = []

    def all_of(tx: Transaction, given: Sequence[int]) -> list[int]:
        seen.append(list(given))
        return [put(each)(tx) * 10 for each in given]

    join = partial(bench.writer.join, all_of)
    found = await outcomes(
        join(1), join(2), bench.writer.put(put(3)), join(4), bench.writer.put(put(5)), join(6), join(5), join(7)
    )
    assert found[:5] == [10, 20, 3, 40, 5]
    assert seen[:4] == [[1, 2], [4], [6, 5, 7], [6, 5, 7]], "what could not be written with the others was tried once more alone"
    assert [type(each) for each in found[5:]] == [sqlite3.IntegrityError] * 3
    assert await bench.values() == [1, 2, 3, 4, 5]


async def test_nobody_hears_of_a_commit_before_it_is_done(bench: Bench) -> None:
    """Decision 3: nothing is acknowledged before its commit."""
    bench.gate.clear()
    calls = [asyncio.ensure_future(bench.writer.do(put(n))) for n in range(3)]
    await bench.entered.wait()
    assert not any(call.done() for call in calls)
    assert await bench.values() == []
    bench.gate.set()
    assert await asyncio.gather(*calls) == [0, 1, 2]
    assert await bench.values() == [0, 1, 2]


async def test_who_comes_while_a_commit_runs_is_in_the_next(bench: Bench) -> None:
    bench.gate.clear()
    first = asyncio.ensure_future(bench.writer.do(put(1)))
    await bench.entered.wait()
    second = asyncio.ensure_future(bench.writer.do(put(2)))
    bench.gate.set()
    await asyncio.gather(first, second)
    assert bench.commits == 2


# --- what fails alone ------------------------------------------------------------------------------------------------------


async def test_a_member_that_raises_is_undone_alone(bench: Bench) -> None:
    def broken(tx: Transaction) -> None:
        put(99)(tx)
        raise KeyError("our bug")

    one, error, two = await outcomes(bench.writer.do(put(1)), bench.writer.do(broken), bench.writer.do(put(2)))
    assert (one, type(error), two) == (1, KeyError, 2)
    assert await bench.values() == [1, 2]
    assert bench.commits == 1
    details = await bench.reader.run(lambda db: db.execute("SELECT seq,detail FROM journal ORDER BY seq").fetchall())
    assert details == [(1, "1"), (2, "2")], "nor is there a gap in the journal"


async def test_a_constraint_error_is_retried_alone(bench: Bench) -> None:
    """Decision 3: a neighbour in the group may have been the reason."""
    tries = []

    def touchy(tx: Transaction) -> str:
        tries.append(tx)
        tx.db.execute("INSERT INTO t VALUES (7,NULL)")
        if len(tries) == 1:
            raise sqlite3.IntegrityError("as if another member had been in the way")
        return "done"

    assert await outcomes(bench.writer.do(put(1)), bench.writer.do(touchy), bench.writer.do(put(2))) == [1, "done", 2]
    assert await bench.values() == [1, 2, 7]
    assert bench.tally.value("truc_commit_retries_total") == 1
    assert len(tries) == 2


async def test_a_constraint_error_that_stays_is_its_members_own(bench: Bench) -> None:
    one, error = await outcomes(bench.writer.do(put(1)), bench.writer.do(put(1)))
    assert one == 1
    assert isinstance(error, sqlite3.IntegrityError)
    with pytest.raises(sqlite3.IntegrityError):
        await bench.writer.do(put(1))
    assert await bench.values() == [1]


async def test_a_caller_who_goes_away_disturbs_nobody(bench: Bench) -> None:
    bench.gate.clear()
    calls = [asyncio.ensure_future(bench.writer.do(put(n))) for n in range(3)]
    await bench.entered.wait()
    calls[1].cancel()
    bench.gate.set()
    assert list(await asyncio.gather(calls[0], calls[2])) == [0, 2]
    with pytest.raises(asyncio.CancelledError):
        await calls[1]
    assert await bench.values() == [0, 1, 2], "its row may be there: its retry will meet it"
    assert await bench.writer.do(put(3)) == 3


# --- a full disk -----------------------------------------------------------------------------------------------------------


async def limit_pages(bench: Bench, more: int) -> None:
    def work(db: sqlite3.Connection) -> None:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count={pages + more}")

    await bench.connection.run(work)


async def test_a_full_disk_is_later_for_everybody_and_the_store_works_when_there_is_room_again(bench: Bench) -> None:
    await bench.writer.do(put(1))
    await limit_pages(bench, 4)
    group = [bench.writer.do(put(2)), bench.writer.do(put(3, ballast=MEGABYTE)), bench.writer.do(put(4))]
    for error in await outcomes(*group):
        assert isinstance(error, Deferred)
        assert (error.reason, error.in_doubt) == (Reason.DISK_FULL, False)
    assert await bench.values() == [1], "nothing is half there"
    assert await bench.writer.do(put(5)) == 5, "what still fits is taken"
    await limit_pages(bench, 10_000)
    assert await bench.writer.do(put(3, ballast=MEGABYTE)) == 3
    assert await bench.values() == [1, 3, 5]


async def test_a_disk_that_fills_while_a_member_is_retried_alone_is_not_the_others_news(bench: Bench) -> None:
    """They are committed: telling them otherwise would make their callers throw away what the rows name."""
    tries = []

    def touchy(tx: Transaction) -> None:
        tries.append(tx)
        if len(tries) == 1:
            raise sqlite3.IntegrityError("first try")
        put(7, ballast=MEGABYTE)(tx)

    await bench.writer.do(put(0))
    await limit_pages(bench, 4)
    one, error = await outcomes(bench.writer.do(put(1)), bench.writer.do(touchy))
    assert one == 1
    assert isinstance(error, Deferred)
    assert error.reason is Reason.DISK_FULL
    assert await bench.values() == [0, 1]
    assert not bench.running.done()


# --- the disk or the database lets us down ---------------------------------------------------------------------------------


def io_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


async def test_an_error_of_the_disk_ends_the_writer_and_everybody_hears_that_nobody_knows(bench: Bench) -> None:
    """Decision 3: the row may or may not exist; the process exits and never repeats the sync."""
    bench.gate.clear()
    group = [asyncio.ensure_future(bench.writer.do(put(n))) for n in range(2)]
    await bench.entered.wait()
    late = asyncio.ensure_future(bench.writer.do(put(9)))
    await asyncio.sleep(0)
    bench.fault = io_error()
    bench.gate.set()
    for error in await outcomes(*group, late):
        assert isinstance(error, Deferred)
        assert error.in_doubt
    with pytest.raises(StoreFailed, match="disk I/O error"):
        await bench.running
    bench.fault = None
    with pytest.raises(Deferred) as caught:
        await bench.writer.do(put(10))
    assert caught.value.in_doubt
    await bench.writer.drain()
    assert await bench.values() == []


@pytest.mark.parametrize(
    "error", [io_error(), sqlite3.DatabaseError("database disk image is malformed"), sqlite3.InternalError("")]
)
async def test_an_error_of_the_engine_inside_a_member_is_nobodys_private_matter(bench: Bench, error: Exception) -> None:
    """A malformed database must not go on taking documents one by one."""

    def broken(tx: Transaction) -> None:
        raise error

    one, two = await outcomes(bench.writer.do(put(1)), bench.writer.do(broken))
    assert isinstance(one, Deferred)
    assert isinstance(two, Deferred)
    with pytest.raises(StoreFailed):
        await bench.running
    assert await bench.values() == []


async def test_a_writer_that_is_stopped_tells_those_who_wait(bench: Bench) -> None:
    bench.gate.clear()
    call = asyncio.ensure_future(bench.writer.do(put(1)))
    await bench.entered.wait()
    waiting = asyncio.ensure_future(bench.writer.do(put(2)))
    await asyncio.sleep(0)
    bench.running.cancel()
    for error in await outcomes(call, waiting):
        assert isinstance(error, Deferred)
        assert error.in_doubt


async def test_draining_waits_for_what_came_before(bench: Bench) -> None:
    calls = [asyncio.ensure_future(bench.writer.do(put(n))) for n in range(5)]
    await asyncio.sleep(0)
    await bench.writer.drain()
    assert await bench.values() == [0, 1, 2, 3, 4]
    await asyncio.gather(*calls)


# --- the file --------------------------------------------------------------------------------------------------------------


async def test_a_commit_is_synced_and_the_file_is_its_owners_alone(bench: Bench, tmp_path: Path) -> None:
    """Decision 3: WAL with synchronous=FULL; NORMAL loses acknowledged commits in a power cut."""

    def settings(db: sqlite3.Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await bench.connection.run(settings) == ["wal", 2, 1, 1]
    assert (tmp_path / "t.db").stat().st_mode & 0o777 == 0o600


async def test_one_large_transaction_does_not_leave_a_large_wal(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    wal = tmp_path / "t.db-wal"
    connection = await open_writer(path, 100)
    try:
        await connection.run(lambda db: db.execute("CREATE TABLE t (value INTEGER PRIMARY KEY, ballast BLOB)"))
        await connection.run(lambda db: db.execute("INSERT INTO t VALUES (1,?)", (bytes(8 * MEGABYTE),)))
        assert wal.stat().st_size > 8 * MEGABYTE
        for _ in range(3):  # the next one begins the WAL anew
            await connection.run(lambda db: db.execute("INSERT INTO t (ballast) VALUES (NULL)"))
        assert wal.stat().st_size < MEGABYTE
    finally:
        await connection.close()


async def test_a_reader_can_change_nothing(bench: Bench) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await bench.reader.run(lambda db: db.execute("INSERT INTO t VALUES (1,NULL)"))


# --- questions that stand --------------------------------------------------------------------------------------------------


H54_FED, H41_FED = towards("H54"), towards("H41")


def feeding(value: int, key: Key = H54_FED, ballast: int = 0) -> Callable[[Transaction], int]:
    def work(tx: Transaction) -> int:
        tx.fed.add(key)
        return put(value, ballast)(tx)

    return work


def largest(tx: Transaction) -> Look[int]:
    """Answered once there is a value; what is found is marked in the same commit."""
    (value,) = tx.db.execute("SELECT max(value) FROM t").fetchone()
    if value is not None:
        tx.journal(STAMP, "found", detail=str(value))
    return Look(value)


async def details(bench: Bench) -> list[str]:
    return [row[0] for row in await bench.reader.run(lambda db: db.execute("SELECT detail FROM journal ORDER BY seq").fetchall())]


async def test_a_question_is_answered_by_the_commit_that_feeds_it(bench: Bench) -> None:
    asked = bench.writer.ask([H54_FED], largest, stands=True)
    await bench.writer.drain()
    before = bench.commits
    assert await bench.writer.do(feeding(7)) == 7
    assert await asked == 7
    assert bench.commits == before + 1, "what was found is marked in the commit that brought it"
    assert await details(bench) == ["7", "7"]


async def test_a_question_is_not_asked_by_what_feeds_another(bench: Bench) -> None:
    asked = bench.writer.ask([H54_FED], largest, stands=True)
    await bench.writer.drain()
    await bench.writer.do(put(1))
    await bench.writer.do(feeding(2, H41_FED))
    assert not asked.done()
    await bench.writer.do(feeding(3))
    assert await asked == 3


async def test_a_question_is_asked_behind_what_was_put_before_it(tmp_path: Path) -> None:
    bench = await lay(tmp_path, group_max=10)
    calls = [bench.writer.put(put(n)) for n in range(25)]
    asked = bench.writer.ask([H54_FED], largest, stands=False)
    later = bench.writer.put(put(99))
    assert await asked in (24, 99)
    assert all(call.done() for call in calls)
    await later
    await bench.close()


async def test_a_question_that_does_not_stand_is_answered_with_nothing(bench: Bench) -> None:
    assert await bench.writer.ask([H54_FED], largest, stands=False) is None


async def test_all_questions_that_wait_for_the_same_are_asked(bench: Bench) -> None:
    asked = [bench.writer.ask([H41_FED, H54_FED], largest, stands=True) for _ in range(3)]
    await bench.writer.drain()
    await bench.writer.do(feeding(1))
    assert await asyncio.gather(*asked) == [1, 1, 1]
    assert bench.writer._questions == {}, "none of them is kept"


async def test_of_many_questions_one_commit_answers_some_and_the_next_ones_the_rest(bench: Bench) -> None:
    """A country-wide broadcast: what is given to all children at once lies in memory at once."""
    asked = [bench.writer.ask([H54_FED], largest, stands=True) for _ in range(QUESTIONS_MAX * 2 + 5)]
    await bench.writer.drain()
    answered: list[int] = []
    for question in asked:
        question.add_done_callback(lambda _: answered.append(bench.commits))
    await bench.writer.do(feeding(1))
    assert await asyncio.gather(*asked) == [1] * len(asked)
    assert sorted(Counter(answered).values()) == [5, QUESTIONS_MAX, QUESTIONS_MAX], "so many by each of three commits"


async def test_a_question_nobody_waits_for_any_more_is_not_asked(bench: Bench) -> None:
    asked = bench.writer.ask([H54_FED], largest, stands=True)
    await bench.writer.drain()
    asked.cancel()
    await bench.writer.do(feeding(1))
    assert await details(bench) == ["1"]


async def test_a_question_is_asked_again_when_it_said_it_should_be(bench: Bench) -> None:
    asked_at: list[int] = []
    now = [1000]
    bench.writer._stamp = lambda: Stamp(now[0], 1000, True)

    def due(tx: Transaction) -> Look[str]:
        asked_at.append(tx.stamp.at_ms)
        now[0] += 20
        return Look("due") if tx.stamp.at_ms >= 1020 else Look(due_ms=1020)

    async with asyncio.timeout(5):
        assert await bench.writer.ask([H54_FED], due, stands=True) == "due"
    assert asked_at == [1000, 1020]


async def test_a_question_that_raises_is_undone_alone(bench: Bench) -> None:
    def broken(tx: Transaction) -> Look[int]:
        put(99)(tx)
        raise KeyError("our bug")

    asked = bench.writer.ask([H54_FED], broken, stands=True)
    one = bench.writer.put(put(1))
    with pytest.raises(KeyError):
        await asked
    assert await one == 1
    assert await bench.values() == [1]


async def test_a_member_that_is_retried_alone_does_not_answer_a_question_twice(bench: Bench) -> None:
    tries: list[int] = []

    def touchy(tx: Transaction) -> None:
        tries.append(1)
        tx.fed.add(H54_FED)
        if len(tries) == 1:
            raise sqlite3.IntegrityError("as if another member had been in the way")

    asked = bench.writer.ask([H54_FED], largest, stands=True)
    await bench.writer.drain()
    await outcomes(bench.writer.do(feeding(1)), bench.writer.do(touchy))
    assert await asked == 1
    assert await details(bench) == ["1", "1"]


async def test_a_full_disk_is_told_to_who_asks_and_not_to_who_waits(bench: Bench) -> None:
    standing = bench.writer.ask([H54_FED], largest, stands=True)
    await bench.writer.drain()
    await limit_pages(bench, 10)

    def greedy(tx: Transaction) -> Look[int]:
        put(5, MEGABYTE)(tx)
        return Look(5)

    with pytest.raises(Deferred) as caught:
        await bench.writer.ask([H41_FED], greedy, stands=True)
    assert caught.value.reason is Reason.DISK_FULL
    with pytest.raises(Deferred):
        await bench.writer.do(feeding(6, ballast=MEGABYTE))
    assert not standing.done()
    await limit_pages(bench, 10_000)
    await bench.writer.do(feeding(7))
    assert await standing == 7


async def test_who_asks_a_writer_that_has_gone_hears_later(bench: Bench) -> None:
    asked = bench.writer.ask([H54_FED], largest, stands=True)
    await bench.writer.drain()
    bench.running.cancel()
    for each in (asked, bench.writer.ask([H41_FED], largest, stands=True)):
        with pytest.raises(Deferred):
            await each


async def test_a_question_is_not_answered_before_what_was_put_before_it(bench: Bench) -> None:
    """Decision 6: what became of an offer is recorded before the next one is cut, whoever feeds the neighbour meanwhile."""
    bench.gate.clear()
    fed = bench.writer.put(feeding(1))
    await bench.entered.wait()
    settled = bench.writer.put(lambda tx: tx.db.execute("DELETE FROM t").rowcount)
    asked = bench.writer.ask([H54_FED], largest, stands=True)
    bench.gate.set()
    assert (await fed, await settled) == (1, 1)
    await bench.writer.drain()
    assert not asked.done(), "there is nothing left to find"
    await bench.writer.do(feeding(2))
    assert await asked == 2


async def test_a_question_that_finds_no_room_does_not_keep_its_members_out(bench: Bench) -> None:
    """A full disk: who feeds a question is not refused for what the question wants to mark."""

    def greedy(tx: Transaction) -> Look[int]:
        (found,) = tx.db.execute("SELECT count(*) FROM t").fetchone()
        if not found:
            return Look()
        put(99, MEGABYTE)(tx)
        return Look(99)

    asked = bench.writer.ask([H54_FED], greedy, stands=True)
    await bench.writer.drain()
    await limit_pages(bench, 10)
    assert await bench.writer.do(feeding(1)) == 1
    with pytest.raises(Deferred) as caught:
        await asked
    assert caught.value.reason is Reason.DISK_FULL
    assert await bench.values() == [1]

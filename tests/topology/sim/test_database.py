"""The store on a simulated disk: what power cuts, errors, full disks and kills may cost it, which is nothing acknowledged."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from node.adapters.sqlite.connection import settings
from node.adapters.sqlite.store import SqliteStore
from node.adapters.sqlite.writer import StoreFailed
from node.core.custody import End, Homeward, Settled, Settlement
from node.core.errors import Deferred, Reason
from node.core.lifecycle import Transport
from node.core.routing import Deliver, Forward
from node.core.tally import Tally
from tests.adapters.pki import NOW_MS, Clock
from tests.making import EVERYTHING, H41, HUB, OFFICE, arrival, body, header, org, submission
from topology.sim import database
from topology.sim.database import SimConnection, open_connection
from topology.sim.disk import Disk, Kind
from topology.sim.loop import Ended, Life, SimLoop
from topology.sim.record import Record, stream

UNIT = org("H41.07")
WAL_PAGES = 60
"""Few, so that checkpoints happen in the middle of every story."""
SEEDS = 30
CUTS = 2


def name(number: int) -> str:
    return f"01900000-0000-7000-9000-{number:012x}"


class Node:
    """A store on a disk of its own, its process started as often as needed, and what it acknowledged."""

    def __init__(self, seed: int) -> None:
        self.loop = SimLoop()
        self.seed = seed
        self.record = Record(self.loop.time)
        self.disk = Disk("h41", stream(seed, "disk"), self.record)
        self.acknowledged: list[str] = []
        self.errors: list[BaseException] = []
        self.life: Life | None = None

    def run(self, story: Callable[[SqliteStore], Coroutine[Any, Any, None]]) -> None:
        """Start the process, let the story run in it until it is told or the process is dead."""
        if self.disk.dead:
            self.disk.mount()
        self.loop.run_until_complete(self._outside(story))
        assert self.loop.problems == []

    async def _outside(self, story: Callable[[SqliteStore], Coroutine[Any, Any, None]]) -> None:
        over = asyncio.Event()
        life = self.life = Life(self.loop, "h41")
        life.ending.append(over.set)

        async def process() -> None:
            connection = await open_connection(self.disk, "node.db", WAL_PAGES)
            store = SqliteStore(connection, connection, Clock(), Tally(), 512, Path("node.db"))
            await store.prepare(H41)
            writer = asyncio.create_task(store.run())
            try:
                await story(store)
                await store.drain()
            finally:
                writer.cancel()
                with suppress(asyncio.CancelledError):
                    await writer
            await store.close()

        def done(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, Ended):
                self.errors.append(error)
            over.set()

        life.start(process()).add_done_callback(done)
        await over.wait()
        life.end()
        await asyncio.sleep(1.0)

    def die(self) -> None:
        assert self.life is not None
        self.life.end()

    async def admit(self, store: SqliteStore, number: int) -> None:
        content = body(f"văn bản {number} " * 40)
        head = header(UNIT, id=name(number), doc_id=name(number), content=content)
        await store.admit([arrival(head, Deliver(), content=content)], HUB)
        self.acknowledged.append(head.id)

    def judge(self) -> set[str]:
        """Restart; the database is whole and its journal a chain. Returns what was acknowledged and is not there."""
        found: set[str] = set()

        async def look(store: SqliteStore) -> None:
            found.update(await store._ask(lambda db: [id_ for (id_,) in db.execute("SELECT id FROM seen")]))
            assert await store._ask(lambda db: db.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]
            assert await store.verify_chain() is None

        self.errors.clear()
        self.run(look)
        assert self.errors == []
        return set(self.acknowledged) - found


@contextmanager
def node(seed: int) -> Iterator[Node]:
    found = Node(seed)
    try:
        yield found
    finally:
        found.loop.close()


def with_power_cuts(seed: int, *, lying: bool = False) -> tuple[set[str], Node]:
    """Documents are admitted one after another, and the power goes at drawn operations of the disk."""
    draws = stream(seed, "cuts")
    with node(seed) as at:
        at.disk.lying = lying

        async def work(store: SqliteStore) -> None:
            at.disk.strike_in(draws.randrange(1, 1200), "power", at.die)
            while True:
                await at.admit(store, len(at.acknowledged))

        for _ in range(CUTS):
            at.run(work)
            assert at.errors == []
        return at.judge(), at


# --- power cuts ------------------------------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_every_power_cut() -> None:
    acknowledged = 0
    for seed in range(SEEDS):
        lost, at = with_power_cuts(seed)
        assert lost == set(), f"seed {seed}"
        assert at.record.counts["fault/power"] == CUTS
        acknowledged += len(at.acknowledged)
    assert acknowledged > 15 * SEEDS


def test_a_database_that_syncs_only_at_checkpoints_loses_acknowledged_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rehearsal must notice if somebody writes NORMAL where production says FULL."""

    def normal(wal_pages_max: int) -> Callable[[sqlite3.Connection], None]:
        def apply(db: sqlite3.Connection) -> None:
            settings(wal_pages_max)(db)
            db.execute("PRAGMA synchronous=NORMAL")

        return apply

    monkeypatch.setattr(database, "settings", normal)
    losing = sum(bool(with_power_cuts(seed)[0]) for seed in range(SEEDS))
    assert losing > SEEDS // 3


def test_a_disk_whose_sync_lies_loses_acknowledged_documents() -> None:
    losing = 0
    for seed in range(SEEDS):
        try:
            losing += bool(with_power_cuts(seed, lying=True)[0])
        except (AssertionError, sqlite3.DatabaseError):
            losing += 1  # not only lost: damaged, or not even openable
    assert losing > SEEDS // 3


def test_a_killed_process_loses_nothing_it_wrote() -> None:
    for seed in range(6):
        with node(seed) as at:

            async def work(store: SqliteStore, at: Node = at, strike: int = 400 + seed) -> None:
                at.disk.strike_in(strike, "kill", at.die)
                while True:
                    await at.admit(store, len(at.acknowledged))

            at.run(work)
            assert len(at.acknowledged) > 3
            assert at.judge() == set()


# --- errors ----------------------------------------------------------------------------------------------------------------


async def a_days_work(at: Node, store: SqliteStore) -> None:
    """One of each kind of transaction that carries a document."""
    for number in range(3):
        await at.admit(store, number)
    await store.submit(submission(OFFICE))
    (item,) = await store.items_of([UNIT], name(0))
    await store.fetched(item.item)
    await store.collect(item.item, Homeward(End(Transport.COLLECTED, NOW_MS)))
    await store.admit([arrival(header(), Forward(UNIT))], HUB)
    offer = await store.ask(UNIT, EVERYTHING, stands=False)
    assert offer is not None
    await store.settle(UNIT, [Settlement(row.item, Settled.TAKEN, NOW_MS) for row in offer.rows])
    await store.forget(handed_over_ms=0, collected_ms=0, sent_ms=0, evidence_ms=0, limit=100)


EXPECTED = (StoreFailed, Deferred, sqlite3.OperationalError, OSError)
"""What an error of the disk may look like to whoever waits: the process exits, or says "later"."""


@pytest.mark.parametrize(
    ("kind", "number"), [("read", errno.EIO), ("write", errno.EIO), ("sync", errno.EIO), ("write", errno.ENOSPC)]
)
def test_an_error_at_any_operation_loses_nothing_acknowledged_even_if_the_power_goes_then(kind: Kind, number: int) -> None:
    struck = 0
    for operation in range(400):
        with node(operation) as at:
            at.disk.load("node.db", prepared())
            at.disk.fail(kind, number, operation)
            at.run(lambda store, at=at: a_days_work(at, store))  # type: ignore[misc]
            assert all(isinstance(error, EXPECTED) for error in at.errors), at.errors
            hit = at.record.counts[f"fault/disk-{kind}"]
            at.disk.die(power=True)
            assert at.judge() == set(), f"{kind} {operation}"
            struck += hit
            if not hit:
                break
    assert struck > 8


@cache
def prepared() -> bytes:
    """The file of a store that was started once."""

    async def nothing(store: SqliteStore) -> None:
        await store.depths()

    with node(0) as at:
        at.run(nothing)
        assert (at.errors, at.disk.paths()) == ([], ["node.db"])
        return at.disk.content("node.db")


def test_an_error_at_any_operation_of_the_very_first_start_leaves_what_a_second_one_can_use() -> None:
    for kind in ("read", "write", "sync"):
        for operation in range(12):
            with node(operation) as at:
                at.disk.fail(kind, errno.EIO, operation)
                at.run(lambda store: store.drain())
                assert all(isinstance(error, EXPECTED) for error in at.errors), at.errors
                at.disk.die(power=True)
                at.judge()


def test_a_failed_sync_ends_the_process_and_every_caller_hears_later() -> None:
    with node(1) as at:
        heard: list[BaseException | None] = []

        async def story(store: SqliteStore) -> None:
            await at.admit(store, 0)
            at.disk.fail("sync", errno.EIO)
            heard.extend(await asyncio.gather(*(at.admit(store, n) for n in (1, 2)), return_exceptions=True))

        at.run(story)
        assert [type(error) for error in heard] == [Deferred, Deferred]
        assert all(isinstance(error, Deferred) and error.in_doubt for error in heard)
        assert [type(error) for error in at.errors] == [StoreFailed]


def test_a_full_disk_defers_and_work_resumes_when_there_is_room() -> None:
    with node(1) as at:

        async def story(store: SqliteStore) -> None:
            await at.admit(store, 0)
            at.disk.capacity_bytes = at.disk.used_bytes() + 2048
            with pytest.raises(Deferred) as deferred:
                for number in range(1, 100):
                    await at.admit(store, number)
            assert deferred.value.reason is Reason.DISK_FULL
            at.disk.capacity_bytes = None
            await at.admit(store, 200)

        at.run(story)
        assert at.errors == []
        at.disk.die(power=True)
        assert at.judge() == set()


# --- the connection --------------------------------------------------------------------------------------------------------


def alone(story: Callable[[SimConnection, Disk], Coroutine[Any, Any, None]], *, in_memory: bool = False) -> Disk:
    loop = SimLoop()
    disk = Disk("h41", stream(1, "disk"), Record(loop.time))
    disk.in_memory = in_memory

    async def told() -> None:
        connection = await open_connection(disk, "node.db", 1000)
        await story(connection, disk)
        await connection.close()

    try:
        loop.run_until_complete(told())
        assert loop.problems == []
    finally:
        loop.close()
    return disk


def sql(*statements: str) -> Callable[[sqlite3.Connection], list[Any]]:
    return lambda db: [db.execute(statement).fetchall() for statement in statements][-1]


def test_productions_settings_hold_on_it() -> None:
    async def story(connection: SimConnection, disk: Disk) -> None:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("temp_store", 2)):
            assert await connection.run(sql(f"PRAGMA {pragma}")) == [(value,)]

    alone(story)


def test_its_errors_are_those_of_sqlite3() -> None:
    async def story(connection: SimConnection, disk: Disk) -> None:
        await connection.run(sql("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT NOT NULL)"))
        for statement, kind, code in (
            ("INSERT INTO t VALUES(1,NULL)", sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT_NOTNULL),
            ("SELECT nothing", sqlite3.OperationalError, sqlite3.SQLITE_ERROR),
        ):
            with pytest.raises(kind) as raised:
                await connection.run(sql(statement))
            assert raised.value.sqlite_errorcode == code
            assert raised.value.sqlite_errorname == ("SQLITE_CONSTRAINT_NOTNULL" if "INSERT" in statement else "SQLITE_ERROR")
        with pytest.raises(sqlite3.ProgrammingError):
            await connection.run(lambda db: db.execute("SELECT ?", (1, 2)))
        disk.fail("write", errno.ENOSPC)
        with pytest.raises(sqlite3.OperationalError) as full:
            await connection.run(sql("INSERT INTO t VALUES(1,'x')"))
        assert full.value.sqlite_errorcode == sqlite3.SQLITE_FULL
        disk.fail("sync", errno.EIO)
        with pytest.raises(sqlite3.OperationalError) as failed:
            await connection.run(sql("INSERT INTO t VALUES(1,'x')"))
        assert failed.value.sqlite_errorcode == sqlite3.SQLITE_IOERR_FSYNC

    alone(story)


def test_a_malformed_file_is_a_database_error_of_no_class_of_its_own() -> None:
    loop = SimLoop()
    disk = Disk("h41", stream(1, "disk"), Record(loop.time))
    disk.load("node.db", b"no database at all " * 300)
    with pytest.raises(sqlite3.DatabaseError) as raised:
        loop.run_until_complete(open_connection(disk, "node.db", 1000))
    assert type(raised.value) is sqlite3.DatabaseError
    loop.close()


def test_its_cursors_are_those_of_sqlite3() -> None:
    def work(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        assert (cursor := db.execute("INSERT INTO t(b) VALUES(?)", ("x",))).lastrowid == 1
        assert cursor.rowcount == 1
        assert db.execute("INSERT OR IGNORE INTO t VALUES(1,2)").rowcount == 0
        assert db.executemany("INSERT INTO t(b) VALUES(?)", [(each,) for each in (b"b", None, 2.5)]).rowcount == 3
        cursor = db.execute("SELECT a, b AS c FROM t ORDER BY a")
        assert [column[0] for column in cursor.description] == ["a", "c"]
        assert (cursor.fetchone(), list(cursor), cursor.fetchone()) == ((1, "x"), [(2, b"b"), (3, None), (4, 2.5)], None)
        assert not db.in_transaction
        db.execute("BEGIN")
        assert db.in_transaction
        db.execute("ROLLBACK")

    async def story(connection: SimConnection, disk: Disk) -> None:
        await connection.run(work)

    alone(story)


def test_an_answer_takes_as_long_as_the_disk_took() -> None:
    async def story(connection: SimConnection, disk: Disk) -> None:
        loop = asyncio.get_running_loop()
        disk.slow_s = 3.0
        before = loop.time()
        await connection.run(sql("CREATE TABLE t(a)"))
        assert loop.time() - before > 3.0
        before = loop.time()
        await connection.run(sql("SELECT * FROM t"))
        assert 0 < loop.time() - before < 0.001

    alone(story)


def test_the_connection_of_a_dead_machine_says_ended_and_touches_nothing_more(capfd: pytest.CaptureFixture[str]) -> None:
    async def story(connection: SimConnection, disk: Disk) -> None:
        await connection.run(sql("CREATE TABLE t(a)", "INSERT INTO t VALUES(1)"))
        disk.strike_in(2, "power", lambda: None)

        def work(db: sqlite3.Connection) -> None:
            try:
                db.execute("INSERT INTO t VALUES(2)")
            except Exception as error:
                raise AssertionError("a program that ends catches nothing") from error

        with pytest.raises(Ended):
            await connection.run(work)
        with pytest.raises(Ended):
            await connection.run(sql("SELECT 1"))
        disk.mount()
        before = [(path, disk.content(path)) for path in disk.paths()], disk.operations
        with pytest.raises(Ended):
            await connection.run(sql("SELECT 1"))
        await connection.close()
        assert ([(path, disk.content(path)) for path in disk.paths()], disk.operations) == before
        successor = await open_connection(disk, "node.db", 1000)
        assert (1,) in await successor.run(sql("SELECT a FROM t"))
        await successor.close()

    alone(story)
    assert capfd.readouterr() == ("", "")


def test_the_connection_of_an_ended_process_leaves_the_files_to_its_successor() -> None:
    with node(1) as at:

        async def story(store: SqliteStore) -> None:
            await at.admit(store, 0)
            at.die()
            with pytest.raises(Ended):
                await at.admit(store, 1)

        at.run(story)
        assert not at.disk.dead
        assert "node.db-wal" in at.disk.paths(), "a process that exits by itself would have folded it in"
        assert at.judge() == set()


def test_the_same_seed_gives_the_same_operations_and_bytes() -> None:
    def told(seed: int) -> tuple[int, list[tuple[str, bytes]], str]:
        _, at = with_power_cuts(seed)
        return at.disk.operations, [(path, at.disk.content(path)) for path in at.disk.paths()], at.record.digest()

    assert told(4) == told(4)
    assert told(4)[2] != told(5)[2]


def test_an_error_of_a_checkpoint_is_not_one_of_the_commit_before_it() -> None:
    """SQLite keeps it to itself and tries again; the WAL does not grow for ever."""

    async def story(connection: SimConnection, disk: Disk) -> None:
        await connection.run(sql("CREATE TABLE t(a)"))
        for number in range(40):
            disk.fail("sync", errno.EIO, 1)  # the second one of a commit is the checkpoint's
            await connection.run(sql("INSERT INTO t VALUES(zeroblob(100000))"))
            assert await connection.run(sql("SELECT count(*) FROM t")) == [(number + 1,)]
        disk.fail("sync", errno.EIO, 1000)
        for _ in range(40):
            await connection.run(sql("INSERT INTO t VALUES(zeroblob(100000))"))
        assert len(disk.content("node.db-wal")) < 9_000_000
        disk.die(power=True)
        disk.mount()
        successor = await open_connection(disk, "node.db", 1000)
        assert await successor.run(sql("PRAGMA integrity_check")) == [("ok",)]
        assert await successor.run(sql("SELECT count(*) FROM t")) == [(80,)]
        await successor.close()

    alone(story)


def test_a_sort_needs_no_file_without_a_name() -> None:
    rows = "INSERT INTO t WITH RECURSIVE c(x) AS (VALUES(1) UNION ALL SELECT x+1 FROM c WHERE x<3000) SELECT x FROM c"

    async def story(connection: SimConnection, disk: Disk) -> None:
        await connection.run(sql("CREATE TABLE t(a)", rows))
        assert len(await connection.run(sql("SELECT a FROM t ORDER BY -a"))) == 3000

    assert alone(story).paths() == ["node.db"], "and a connection that is closed folds its WAL in"


# --- in memory -------------------------------------------------------------------------------------------------------------


def test_in_memory_nothing_acknowledged_is_lost_whatever_ends_the_process() -> None:
    unheard = 0
    for how in ("kill", "power"):
        for strike in range(10, 22):
            with node(strike) as at:
                at.disk.in_memory = True

                async def work(store: SqliteStore, at: Node = at, strike: int = strike, how: Any = how) -> None:
                    at.disk.strike_in(strike, how, at.die)
                    while True:
                        await at.admit(store, len(at.acknowledged))

                at.run(work)
                assert at.errors == []
                assert at.acknowledged
                assert at.judge() == set()
                assert at.disk.paths() == []
                ((count,),) = at.disk.memory.execute("SELECT count(*) FROM seen").fetchall()
                unheard += count - len(at.acknowledged)
    assert unheard > 0, "some of them died between a commit and its answer"


def test_in_memory_a_commit_takes_as_long_as_a_sync_and_a_question_no_time() -> None:
    async def story(connection: SimConnection, disk: Disk) -> None:
        loop = asyncio.get_running_loop()
        await connection.run(sql("CREATE TABLE t(a)"))
        disk.slow_s = 3.0
        before = loop.time()
        await connection.run(sql("INSERT INTO t VALUES(1)"))
        assert loop.time() - before > 3.0
        before = loop.time()
        assert await connection.run(sql("SELECT a FROM t")) == [(1,)]
        assert loop.time() == before

    alone(story, in_memory=True)


def test_in_memory_the_connection_of_a_dead_machine_says_ended_and_leaves_the_rows_to_its_successor() -> None:
    async def story(connection: SimConnection, disk: Disk) -> None:
        await connection.run(sql("CREATE TABLE t(a)", "INSERT INTO t VALUES(1)"))
        disk.die(power=False)
        with pytest.raises(Ended):
            await connection.run(sql("INSERT INTO t VALUES(2)"))
        disk.mount()
        with pytest.raises(Ended):
            await connection.run(sql("INSERT INTO t VALUES(2)"))
        await connection.close()
        successor = await open_connection(disk, "node.db", 1000)
        assert connection.gone and not successor.gone
        assert successor.look("SELECT a FROM t") == [(1,)]
        assert successor.look("PRAGMA foreign_keys") == [(1,)]

    alone(story, in_memory=True)


def test_in_memory_two_machines_share_nothing_but_the_tables_they_begin_with() -> None:
    async def story(connection: SimConnection, disk: Disk) -> None:
        other = Disk("h42", stream(2, "disk"), Record(lambda: 0.0))
        other.in_memory = True
        second = await open_connection(other, "node.db", 1000)
        await connection.run(sql("INSERT INTO meta VALUES ('node','H41')"))
        assert second.look("SELECT * FROM meta WHERE key='node'") == []

    alone(story, in_memory=True)

"""A store with its writer running, on any connection class, and a look at its file from outside."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.adapters.sqlite import road
from node.adapters.sqlite.connection import Connection, open_reader, open_writer
from node.adapters.sqlite.store import SqliteStore
from node.core.custody import Admitted, Arrival, Candidate, Offered, Settled, Settlement, Window
from node.core.envelope import Lane
from node.core.errors import Reason
from node.core.identifier import OrgId
from node.core.office import LaidOut
from node.core.tally import Tally
from tests.adapters.pki import Clock
from tests.making import EVERYTHING, H41
from topology.sim.database import open_connection
from topology.sim.disk import Disk
from topology.sim.record import Record

Look = Callable[[], Path]
"""Where SQLite finds the database from outside, as it is now."""


async def threads(path: Path) -> tuple[Connection, Connection, Look]:
    """The production class: aiosqlite's threads."""
    return await open_writer(path, 4000), await open_reader(path), lambda: path


async def rehearsed(path: Path) -> tuple[Connection, Connection, Look]:
    """The rehearsal's class: SQLite on a simulated disk. A look from outside is a look at a copy."""
    disk = Disk("node", random.Random(7), Record(asyncio.get_running_loop().time))
    connection = await open_connection(disk, path.name, 4000)

    def look() -> Path:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        for name in disk.paths():
            path.with_name(name).write_bytes(disk.content(name))
        return path

    return connection, connection, look


async def remembered(path: Path) -> tuple[Connection, Connection, Look]:
    """The rehearsal's class on a database in memory, as a whole country has it. A look from outside is a look at a copy."""
    disk = Disk("node", random.Random(7), Record(asyncio.get_running_loop().time))
    disk.in_memory = True
    connection = await open_connection(disk, path.name, 4000)

    def look() -> Path:
        path.write_bytes(disk.memory.serialize("main"))
        return path

    return connection, connection, look


OPENERS: dict[str, Callable[[Path], Awaitable[tuple[Connection, Connection, Look]]]] = {
    "threads": threads,
    "rehearsed": rehearsed,
    "remembered": remembered,
}
"""Another connection class joins the contract with one line here."""


@dataclass
class Opened:
    """A store of node H41 whose writer runs, and a way to look at its file as SQLite sees it from outside.

    look: the path of that file as it is now; reading only, it may be a copy.
    """

    store: SqliteStore
    clock: Clock
    tally: Tally
    look: Look
    writer: Connection

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.look()}?mode=ro", uri=True)) as db:
            return db.execute(query, values).fetchall()

    async def depths_are_right(self) -> None:
        """What waits is what was counted while it came and went."""
        waiting = "SELECT neighbour,lane,count(*) FROM outbox WHERE state<>'held' GROUP BY neighbour,lane ORDER BY neighbour,lane"
        found = await self.store.depths()
        assert [(row["neighbour"], Lane[row["lane"].upper()], row["depth"]) for row in found["outbox"]] == self.rows(waiting)
        assert found["file_bytes"] == self.one("SELECT coalesce(sum(size),0) FROM body WHERE file IS NOT NULL")
        assert found["mailbox"] == self.one("SELECT count(*) FROM mailbox WHERE state IN ('initial','processing','fail')")

    async def tamper(self, statement: str, *values: object) -> None:
        """Change a row behind the store's back."""
        await self.writer.run(lambda db: db.execute(statement, values))

    def one(self, query: str, *values: object) -> Any:
        ((value,),) = self.rows(query, *values)
        return value

    def count(self, table: str) -> int:
        return int(self.one(f"SELECT count(*) FROM {table}"))

    def events(self, *names: str) -> list[str]:
        """Of the journal, in order; only these names if any are given."""
        return [event for (event,) in self.rows("SELECT event FROM journal ORDER BY seq") if not names or event in names]

    async def admit(self, arrival: Arrival, neighbour: OrgId) -> Admitted:
        (admitted,) = await self.store.admit([arrival], neighbour)
        return admitted

    async def window(self, neighbour: OrgId, **room: Any) -> Window:
        """What a batch is cut from."""
        return await self.writer.run(lambda db: road.candidates(db, str(neighbour), self.clock.now_ms, **room))

    async def candidates(self, neighbour: OrgId, **room: Any) -> Mapping[Lane, Sequence[Candidate]]:
        return (await self.window(neighbour, **room)).lanes

    async def waiting_for(self, neighbour: OrgId) -> list[int]:
        """Outbox rows that may be offered to this neighbour now, in the order of their coming."""
        lanes = await self.candidates(neighbour, bytes_max=1 << 30, rows_max=1000, after={})
        return sorted(row.item for rows in lanes.values() for row in rows)

    async def offer(self, neighbour: OrgId, items: Sequence[int] | None = None) -> list[Offered]:
        """What is offered when all that waits is asked for; or only these rows."""
        if items is not None:
            return await self.store._do(lambda tx: road.offer(tx, str(neighbour), items))
        offer = await self.store.ask(neighbour, EVERYTHING, stands=False)
        return [] if offer is None else sorted(offer.rows, key=lambda row: row.item)

    async def laid_out(
        self,
        organs: Sequence[OrgId],
        kind: str = "edoc",
        *,
        after: int | None = None,
        limit: int = 10,
        room_bytes: int | None = None,
    ) -> LaidOut:
        found = await self.store.lay_out(organs, kind, after=after, limit=limit, room_bytes=room_bytes, stands=False)
        return found or LaidOut()

    async def inline_bodies(self, neighbour: OrgId, digest: str) -> dict[str, bytes]:
        return await self.writer.run(lambda db: road.inline_bodies(db, str(neighbour), [digest]))

    async def next_due(self, neighbour: OrgId, after_ms: int) -> int | None:
        return await self.writer.run(lambda db: road.next_due(db, str(neighbour), after_ms))

    async def settle(
        self, neighbour: OrgId, settled: Settled, offered: Sequence[Offered], *, reason: Reason | None = None, **more: Any
    ) -> None:
        due_ms = more.pop("due_ms", self.clock.now_ms)
        await self.store.settle(neighbour, [Settlement(row.item, settled, due_ms, reason, **more) for row in offered])

    async def hand_over(self, neighbour: OrgId) -> list[Offered]:
        """Everything that waits for this neighbour is offered and taken."""
        offered = await self.offer(neighbour)
        await self.settle(neighbour, Settled.TAKEN, offered)
        return offered


@asynccontextmanager
async def opened(path: Path, opener: str = "threads", node: OrgId = H41, group_max: int = 512) -> AsyncIterator[Opened]:
    clock, tally = Clock(), Tally()
    writer, reader, look = await OPENERS[opener](path)
    store = SqliteStore(writer, reader, clock, tally, group_max, path)
    running = None
    try:
        await store.prepare(node)
        running = asyncio.create_task(store.run())
        at = Opened(store, clock, tally, look, writer)
        yield at
        await at.depths_are_right()
    finally:
        try:
            if running is not None:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
        finally:
            await store.close()

"""A store with its writer running, on any connection class, and a look at its file from outside."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.adapters.sqlite.connection import Connection, open_reader, open_writer
from node.adapters.sqlite.store import SqliteStore
from node.core.custody import Admitted, Arrival, Offered, Settled, Settlement
from node.core.errors import Reason
from node.core.identifier import OrgId
from node.core.tally import Tally
from tests.adapters.pki import Clock
from tests.making import H41


async def threads(path: Path) -> tuple[Connection, Connection]:
    """The production class: aiosqlite's threads."""
    return await open_writer(path, 4000), await open_reader(path)


OPENERS: dict[str, Callable[[Path], Awaitable[tuple[Connection, Connection]]]] = {"threads": threads}
"""Another connection class joins the contract with one line here."""


@dataclass
class Opened:
    """A store of node H41 whose writer runs, and a way to look at its file as SQLite sees it from outside."""

    store: SqliteStore
    clock: Clock
    tally: Tally
    path: Path

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            return db.execute(query, values).fetchall()

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

    async def waiting_for(self, neighbour: OrgId) -> list[int]:
        """Outbox rows that may be offered to this neighbour now, in the order of their coming."""
        lanes = await self.store.candidates(neighbour, 1000)
        return sorted(row.item for rows in lanes.values() for row in rows)

    async def offer(self, neighbour: OrgId, items: Sequence[int] | None = None) -> list[Offered]:
        return await self.store.offer(neighbour, await self.waiting_for(neighbour) if items is None else items)

    async def settle(
        self, neighbour: OrgId, settled: Settled, offered: Sequence[Offered], *, reason: Reason | None = None, **more: Any
    ) -> frozenset[OrgId]:
        due_ms = more.pop("due_ms", self.clock.now_ms)
        return await self.store.settle(neighbour, [Settlement(row.item, settled, due_ms, reason, **more) for row in offered])

    async def hand_over(self, neighbour: OrgId) -> list[Offered]:
        """Everything that waits for this neighbour is offered and taken."""
        offered = await self.offer(neighbour)
        await self.settle(neighbour, Settled.TAKEN, offered)
        return offered


@asynccontextmanager
async def opened(path: Path, opener: str = "threads", node: OrgId = H41, group_max: int = 512) -> AsyncIterator[Opened]:
    clock, tally = Clock(), Tally()
    writer, reader = await OPENERS[opener](path)
    store = SqliteStore(writer, reader, clock, tally, group_max, path)
    running = None
    try:
        await store.prepare(node)
        running = asyncio.create_task(store.run())
        yield Opened(store, clock, tally, path)
    finally:
        try:
            if running is not None:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
        finally:
            await store.close()

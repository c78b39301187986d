"""The slow duties: lifetimes that end, content past its retention, files nobody needs, registers that changed on disk.

Knows `core`, the ports and `origin`. A round never takes the node down: what cannot be done now is done in the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from node.core.custody import End, Expired
from node.core.errors import Deferred, Reason
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.tally import Tally
from node.origin import Origin
from node.ports import Bodies, Clock, Store

log = structlog.get_logger()

BATCH = 500
PARTS_MS = 7 * 86_400_000
"""A part of a body that nobody has added to for so long is of no use to anybody."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long (ms) to keep what was handed over, what was collected here, the state of what was sent here, and receipts."""

    handed_over_ms: int
    collected_ms: int
    sent_ms: int
    evidence_ms: int


class Housekeeper:
    """refresh: reads again what changed on disk (directory, systems). find_strays: routes anew what lost its neighbour. closed:
    organs of this node for which nobody will collect any more."""

    def __init__(
        self,
        store: Store,
        bodies: Bodies,
        clock: Clock,
        origin: Origin,
        tally: Tally,
        refresh: Callable[[], None],
        find_strays: Callable[[], Awaitable[None]],
        closed: Callable[[], Sequence[OrgId]],
        keep: Keep,
        sweep_s: float,
    ) -> None:
        self._store = store
        self._bodies = bodies
        self._clock = clock
        self._origin = origin
        self._tally = tally
        self._refresh = refresh
        self._find_strays = find_strays
        self._closed = closed
        self._keep = keep
        self._sweep_s = sweep_s

    async def run(self) -> None:
        while True:
            try:
                await self.round()
            except Deferred as deferred:
                log.warning("housekeeping waits", reason=deferred.reason.value)
            await asyncio.sleep(self._sweep_s)

    async def round(self) -> None:
        """One turn of everything."""
        self._refresh()
        await self._find_strays()
        await self.give_back()
        await self.expire()
        if self._clock.synchronised():  # a wrong clock would forget keys and content too early
            await self.note_overdue()
            await self.forget()

    async def give_back(self) -> int:
        """Return what lies before organs that are closed and that no office system collects for, each with one notice home that
        names the successor; what was fetched already is its office's. # QĐ 09/2025/QĐ-TTg"""
        ended = 0
        organs = self._closed()
        while organs and (found := await self._store.left_behind(organs, BATCH)):
            now_ms = self._clock.utc_ms()
            for each in found:
                await self._end(each, End(Transport.REFUSED, now_ms, Reason.RECIPIENT_CLOSED))
                log.warning("recipient closed, returned", envelope=each.header.id, count=len(each.recipients))
            ended += len(found)
        return ended

    async def expire(self) -> int:
        """End what outlived its hạn chuyển, each with one notice home. An unsynchronised node expires nothing (decision 11).

        Both bounds speak for the document: it ends only when it is over on every clock within them (the origin's bound is in the
        row already).
        """
        if not self._clock.synchronised():
            return 0
        ended = 0
        while True:
            now_ms = self._clock.utc_ms()
            found = await self._store.expired(now_ms - self._clock.bound_ms(), BATCH)
            for each in found:
                await self._expire(each, now_ms)
            ended += len(found)
            if len(found) < BATCH:
                return ended

    async def _expire(self, found: Expired, now_ms: int) -> None:
        await self._end(found, End(Transport.EXPIRED, now_ms, Reason.EXPIRED))
        log.warning("lifetime over", envelope=found.header.id, count=len(found.recipients))

    async def _end(self, found: Expired, end: End) -> None:
        home = await self._origin.homeward(found.header, found.recipients, end)
        await self._store.expire(found, home)
        self._tally.add("truc_deliveries_total", result=end.state.value)

    async def note_overdue(self) -> None:
        """Time limits for processing that are over are noted, for the figures. # QĐ 28/2018 Điều 10.2.o"""
        while await self._store.numbers.note_overdue(self._clock.utc_ms() - self._clock.bound_ms(), BATCH) == BATCH:
            pass

    async def forget(self) -> None:
        """Free what is past its retention, a batch at a time."""
        while True:
            files, removed = await self._store.forget(
                handed_over_ms=self._keep.handed_over_ms,
                collected_ms=self._keep.collected_ms,
                sent_ms=self._keep.sent_ms,
                evidence_ms=self._keep.evidence_ms,
                limit=BATCH,
            )
            await self._bodies.delete(files)
            if removed < BATCH:
                break
        await self._bodies.forget_parts(self._clock.utc_ms() - PARTS_MS)

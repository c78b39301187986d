"""Asks the parent for the time and feeds the node's clock; says in the log what is wrong with it.

Knows `core` and the ports. What an answer is worth, and when to ask again, is decided in `core/timekeeping.py`. At the hub, and
where nobody answers, it looks at the clock all the same: a host clock that was set is noticed by looking.
"""

from __future__ import annotations

import asyncio
import random

import structlog

from node.core.clock_filter import Exchange
from node.core.errors import Deferred, Reason, Refused
from node.core.tally import Tally
from node.core.timekeeping import Alarm, State
from node.ports import KeptClock, Link

log = structlog.get_logger()

EXCHANGES = 3
"""In one round: the first opens the connection, the others measure."""
JITTER = 0.1


class Timekeeper:
    """link: None at the hub, whose reference is its own host."""

    def __init__(self, clock: KeptClock, link: Link | None, tally: Tally, rng: random.Random) -> None:
        self._clock = clock
        self._link = link
        self._tally = tally
        self._rng = rng
        self._stirred = asyncio.Event()
        self._tried = asyncio.Event()
        self._told: tuple[State | None, frozenset[Alarm]] = (None, frozenset())
        clock.stepped = self._stirred.set

    async def run(self) -> None:
        while True:
            if self._link is not None:
                await self._round(self._link)
            self._tell()
            self._tried.set()
            self._stirred.clear()
            try:
                async with asyncio.timeout(self._clock.wait_s() * self._rng.uniform(1 - JITTER, 1 + JITTER)):
                    await self._stirred.wait()
            except TimeoutError:
                pass

    async def first(self, within_s: float) -> None:
        """Until the parent was asked once: what is stamped then is not stamped by a host that is wrong. Not for long, though."""
        try:
            async with asyncio.timeout(within_s):
                await self._tried.wait()
        except TimeoutError:
            log.warning("serving before the time is known")

    async def _round(self, link: Link) -> None:
        for _ in range(EXCHANGES):
            try:
                await self._exchange(link)
            except Deferred as failure:
                log.debug("no time from the parent", reason=failure.reason.value)
                self._count("silent")
                return self._clock.silent()
            except Refused as refusal:
                if refusal.reason is not Reason.OPERATION_UNKNOWN:
                    log.warning("question for the time refused", reason=refusal.reason.value)
                self._count("refused")
                return self._clock.alone()
        self._clock.round_over()

    async def _exchange(self, link: Link) -> None:
        clock = self._clock
        asked_us = clock.moment().utc_us
        sent_ns = clock.mono_ns()
        answer = await link.clock(asked_us)
        back_ns = clock.mono_ns()
        came_ns, left_ns, distance_ns = answer.t2_us * 1000, answer.t3_us * 1000, answer.distance_us * 1000
        clock.heard(Exchange(sent_ns, came_ns, left_ns, back_ns, distance_ns, answer.stratum, answer.synchronised))
        self._count("answered")

    def _count(self, result: str) -> None:
        self._tally.add("truc_clock_exchanges_total", result=result)

    def _tell(self) -> None:
        """Each change is said once."""
        found = self._clock.reading()
        state, alarms = self._told
        names = dict(found.alarms)
        for alarm in sorted(names.keys() - alarms):
            log.warning("clock alarm", reason=alarm.value, value=_figure(alarm, names[alarm]))
        for alarm in sorted(alarms - names.keys()):
            log.info("clock alarm over", reason=alarm.value)
        if found.state is not state:
            log.info("clock state", state=found.state.value, stratum=found.stratum, bound_ms=found.bound_ns // 1_000_000)
        self._told = found.state, frozenset(names)


def _figure(alarm: Alarm, value: int) -> str:
    return f"{value} ppm" if alarm is Alarm.DRIFT else f"{value / 1e9:+.3f} s"

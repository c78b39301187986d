"""Lays the reports of periods that are over into a folder, for whoever collects them there: as XLSX, and as a page to be printed.

A report that changes afterwards (a late statement, a correction) is written anew in place of the old one. Knows `core`, the ports
and the reports; how a format looks and how a file is written is handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from node.core.errors import Deferred, Refused
from node.core.instant import day
from node.core.periods import Kind, Period, Rule, around
from node.core.report_document import Document
from node.core.tally import Tally
from node.ports import Clock

log = structlog.get_logger()

KINDS = (Kind.DAY, Kind.MONTH, Kind.QUARTER, Kind.YEAR)
LOOK_S = 900.0
"""How often the reports of the last periods are looked at again."""

Write = Callable[[str, Document], Awaitable[bool]]
"""(name without ending, document) -> whether files were written, that is: were not there with the same figures. `OSError`."""


class Deliverer:
    """ask: the report of a period; rule: by which calendar the owner's periods run."""

    def __init__(
        self, ask: Callable[[Period], Awaitable[Document]], write: Write, clock: Clock, rule: Rule, tally: Tally
    ) -> None:
        self._ask = ask
        self._write = write
        self._clock = clock
        self._rule = rule
        self._tally = tally

    async def run(self) -> None:
        while True:
            await self.deliver()
            await asyncio.sleep(LOOK_S)

    async def deliver(self) -> None:
        """The last day, month, quarter and year that are over."""
        today = day(self._clock.utc_ms())
        for kind in KINDS:
            period = around(kind, around(kind, today, self._rule).first - timedelta(1), self._rule)
            try:
                document = await self._ask(period)
                written = _stated(document) and await self._write(f"{period.kind.value}-{period.key}", document)
            except (Deferred, Refused, OSError) as error:
                self._tally.add("truc_reports_total", result="failed")
                log.error("report not delivered", period=period.key, reason=str(error)[:500])
                continue
            if written:
                self._tally.add("truc_reports_total", result="written")
                log.info("report delivered", period=period.key)


def _stated(document: Document) -> bool:
    """Whether there is any figure of the period: not of one before this tree began to count."""
    coverage = document["summary"]["coverage"]
    return bool(coverage["in"] or coverage["late"])

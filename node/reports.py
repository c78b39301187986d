"""Reports of this node's subtree: a period is asked for, figures come from the reporter, a document goes to whoever shows it.

Knows `core` and the ports; nothing of how figures are kept, nor of formats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, timedelta
from typing import TypeVar

from node.core.connections import connections
from node.core.directory import Directory
from node.core.errors import Reason, Refused
from node.core.identifier import HUB, OrgId
from node.core.instant import day, iso
from node.core.periods import BadPeriod, Kind, Period, Rule, around, named
from node.core.report import Report
from node.core.report_document import Document, Place, Row, document, rows_of
from node.ports import Clock

_Word = TypeVar("_Word", Kind, Rule)

Ask = Callable[[date, date], Awaitable[Report]]
"""First day, last day -> everything a report over them is made of."""

Heard = Callable[[date], Awaitable[Mapping[OrgId, date]]]
"""Since when to look -> by organ the last day on which it did something."""

CONNECTIONS = "connections"
RECONCILE = "reconcile"
RECONCILE_DAYS_MAX = 3_660
HEARD_DAYS = 400
ROWS_AT_ONCE = 200
"""Of a report, in one turn of the loop."""


class Reports:
    """rule: by which calendar this owner's periods run, unless another is asked for."""

    def __init__(
        self, place: Place, ask: Ask, heard: Heard, clock: Clock, directory: Callable[[], Directory], rule: Rule
    ) -> None:
        self._place = place
        self._ask = ask
        self._heard = heard
        self._clock = clock
        self._directory = directory
        self._rule = rule
        self.reconcile: Callable[[int, int], Awaitable[Document]] | None = None
        """Finds what does not add up: (days back, now as UTC ms)."""

    async def document(self, kind: str, period: str = "", rule: str = "", organ: str = "") -> Document:
        """What an operator may ask for: `figures`, or kind `connections`, or `reconcile` with so many days back as the period."""
        if kind == CONNECTIONS:
            return await self.connections()
        if kind == RECONCILE:
            return await self._reconciled(period)
        return await self.figures(kind, period, rule, organ)

    async def figures(self, kind: str, period: str = "", rule: str = "", organ: str = "") -> Document:
        """Sums over a period, and nothing of single documents: what everybody may read who may read figures. kind: a word of
        `periods.Kind`; period: its key, "" for the one that today lies in; rule: "" for the owner's; organ: a code as people
        write it, "" for all. `Refused(REQUEST_MALFORMED)` for what cannot be read, and for an organ outside of this node's
        subtree. # QĐ 28/2018 Điều 14.3"""
        chosen = self._period(_word(Kind, "kind", kind), period, _word(Rule, "rule", rule) if rule else self._rule)
        return await self.of(chosen, self._inside(organ) if organ else None)

    def _inside(self, organ: str) -> OrgId:
        """A code of which this node sees all: of one above it, or beside it, it knows a part at most."""
        directory = self._directory()
        code, node = directory.resolve(organ), directory.node(self._place.code)
        if node is not None and node.code != HUB and not any(prefix.covers(code) for prefix in node.prefixes):
            raise Refused(Reason.REQUEST_MALFORMED, "organ", organ, f"mã thuộc phạm vi của nút {node.code}")
        return code

    async def of(self, period: Period, organ: OrgId | None = None) -> Document:
        found = await self._ask(period.first, period.last)
        rows: list[Row] = []
        for row in rows_of(found, period, self._name, organ):
            rows.append(row)
            if len(rows) % ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return document(found, period, self._place, rows, organ)

    async def _reconciled(self, days: str) -> Document:
        """Deliveries that do not add up, named."""
        if not (days.isascii() and days.isdecimal() and 0 < int(days) <= RECONCILE_DAYS_MAX) or self.reconcile is None:
            raise Refused(Reason.REQUEST_MALFORMED, "days", days, f"1..{RECONCILE_DAYS_MAX}")
        return await self.reconcile(int(days), self._clock.utc_ms())

    async def connections(self) -> Document:
        """Who is connected, and who is silent. # QĐ 28/2018 Điều 21, 22.3"""
        now_ms = self._clock.utc_ms()
        today = day(now_ms)
        heard = await self._heard(today - timedelta(HEARD_DAYS))
        return connections(self._directory(), self._place, heard, today, iso(now_ms))

    def _period(self, kind: Kind, key: str, rule: Rule) -> Period:
        if not key:
            return around(kind, day(self._clock.utc_ms()), rule)
        try:
            return named(kind, key, rule)
        except BadPeriod as error:
            raise Refused(Reason.REQUEST_MALFORMED, "period", error.text, error.example) from None

    def _name(self, code: OrgId, node: bool) -> str:
        directory = self._directory()
        if node:
            found = directory.node(code)
            if found is not None and found.name:
                return found.name
        return directory.name(code, day(self._clock.utc_ms()))


def _word(words: type[_Word], name: str, text: str) -> _Word:
    try:
        return words(text)
    except ValueError:
        raise Refused(Reason.REQUEST_MALFORMED, name, text[:40], ", ".join(each.value for each in words)) from None

"""The deliverer: which periods, and that one that fails does not stop the others."""

from __future__ import annotations

from node.core.errors import Deferred
from node.core.periods import Kind, Period, Rule
from node.core.report_document import Document
from node.core.tally import Tally
from node.deliverer import Deliverer
from tests.reporting import Clock, made


async def test_of_a_time_before_anything_was_counted_there_is_no_report() -> None:
    written: list[str] = []

    async def ask(period: Period) -> Document:
        document = made(period=period)
        document["summary"]["coverage"] = {"in": [], "late": [], "missing": ["H41"]}
        return document

    async def write(name: str, document: Document) -> bool:
        written.append(name)
        return True

    await Deliverer(ask, write, Clock(), Rule.CALENDAR, Tally()).deliver()
    assert written == []


async def test_the_last_periods_that_are_over_are_laid_down() -> None:
    written: list[str] = []
    tally = Tally()

    async def ask(period: Period) -> Document:
        if period.kind is Kind.MONTH:
            raise Deferred(1)
        return made(period=period)

    async def write(name: str, document: Document) -> bool:
        if name.startswith("year"):
            raise OSError("đầy")
        written.append(name)
        return name.startswith("day")

    await Deliverer(ask, write, Clock(), Rule.OFFICIAL, tally).deliver()
    assert written == ["day-2026-11-21", "quarter-2026-Q3"]
    assert tally.value("truc_reports_total", result="written") == 1
    assert tally.value("truc_reports_total", result="failed") == 2

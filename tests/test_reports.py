"""Reports of a node: the period that is meant, the owner's rule, what cannot be read."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from node.core.directory import Directory, Entry, NodeEntry
from node.core.errors import Reason, Refused
from node.core.identifier import HUB, OrgId
from node.core.periods import Kind, Rule
from node.core.report import Report
from node.reports import Reports
from tests.reporting import H41, PLACE, UNIT, Clock, figures

DIRECTORY = Directory(
    (Entry(H41, "Tỉnh Nghệ An"), Entry(UNIT, "Sở Nội vụ")),
    (NodeEntry(HUB, PLACE.name, "trung ương", None, ()), NodeEntry(H41, "Nút Nghệ An", "tỉnh", HUB, (H41,))),
    "Trục liên thông văn bản quốc gia",
    "",
    1,
)


def reports(rule: Rule = Rule.CALENDAR) -> tuple[Reports, list[tuple[date, date]]]:
    asked: list[tuple[date, date]] = []

    async def ask(first: date, last: date) -> Report:
        asked.append((first, last))
        return replace(figures(), first=first, last=last)

    async def heard(since: date) -> dict[OrgId, date]:
        return {H41: date(2026, 11, 20)}

    return Reports(PLACE, ask, heard, Clock(), lambda: DIRECTORY, rule), asked


async def test_without_a_date_the_period_that_today_lies_in_is_meant() -> None:
    made, asked = reports()
    found = await made.document("day")
    assert (found["period"], found["kind"], found["rule"]) == ("2026-11-22", "day", "calendar")
    await made.document("quarter")
    assert asked == [(date(2026, 11, 22), date(2026, 11, 22)), (date(2026, 10, 1), date(2026, 12, 31))]


async def test_the_owners_rule_counts_unless_another_is_asked_for() -> None:
    made, asked = reports(Rule.OFFICIAL)
    await made.document("quarter", "2026-Q1")
    await made.document("quarter", "2026-Q1", "calendar")
    assert asked == [(date(2025, 12, 15), date(2026, 3, 14)), (date(2026, 1, 1), date(2026, 3, 31))]


async def test_names_are_the_directorys_of_organs_and_of_nodes() -> None:
    made, _ = reports()
    rows = (await made.document("day", organ="000.00.00.H41"))["rows"]
    named = {(row.get("organ"), row.get("total_of")): row["name"] for row in rows}
    assert named[("H41", None)] == "Tỉnh Nghệ An"
    assert named[(None, "H41")] == "Nút Nghệ An"
    assert named[("H41.07", None)] == "Sở Nội vụ"


async def test_the_connection_table_is_a_report_too() -> None:
    made, _ = reports()
    found = await made.document("connections")
    assert [(row["organ"], row["last_traffic"]) for row in found["rows"]] == [("H41", "2026-11-20"), ("H41.07", None)]
    assert found["summary"]["cut_off"] == "2026-11-22T10:00:00.123+07:00"


@pytest.mark.parametrize(
    ("asked", "element"),
    [
        (("week",), "kind"),
        (("day", "2026-13-01"), "period"),
        (("range", "2026-01-02..2026-01-01"), "period"),
        (("month", "2026-11", "lunar"), "rule"),
        (("day", "", "", "H14"), "organ"),
    ],
)
async def test_what_cannot_be_read_is_named(asked: tuple[str, ...], element: str) -> None:
    made, _ = reports()
    with pytest.raises(Refused) as caught:
        await made.document(*asked)
    assert (caught.value.reason, caught.value.element) == (Reason.REQUEST_MALFORMED, element)


def test_every_kind_is_a_word_of_the_command() -> None:
    from node.cli.report import command

    assert {kind.value for kind in Kind} <= set(command.commands)


@pytest.mark.parametrize("kind", ["reconcile", "connections"])
async def test_at_an_offices_door_there_are_sums_only(kind: str) -> None:
    """Single documents of others, and a search through the whole tree, are the operator's. # QĐ 28/2018 Điều 14.3"""
    made, _ = reports()
    with pytest.raises(Refused) as caught:
        await made.figures(kind, "31")
    assert caught.value.element == "kind"
    assert (await made.figures("day"))["kind"] == "day"


async def test_a_node_tells_nothing_of_a_code_above_it_or_beside_it() -> None:
    """Of those it knows a part, which would read as the whole. # QĐ 28/2018 Điều 11.1–3"""
    asked, _ = reports()
    below = Reports(replace(PLACE, code=H41), asked._ask, asked._heard, Clock(), lambda: DIRECTORY, Rule.CALENDAR)
    assert (await below.document("day", organ="H41.07"))["rows"]
    for outside in ("G22", "H4"):
        with pytest.raises(Refused, match="thuộc phạm vi"):
            await below.document("day", organ=outside)

"""What is counted of answers: a document that an office acknowledges, once; a time limit that is over, once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from node.core.counting import Said
from node.core.custody import End, Homeward
from node.core.lifecycle import Transport
from node.core.package import Business
from tests.adapters.pki import NOW_MS
from tests.contracts.opened import Opened
from tests.contracts.test_store_boxes import lay, report, status, tell
from tests.making import HUB, OFFICE, OTHER_OFFICE, arrival, header, org, received_by, submission

UNIT, FOCAL = org("H41.07"), org("H41.01")
HOUR_MS = 3_600_000


async def answer(at: Opened, code: str = "01", document_id: str = "12", **changes: Any) -> None:
    """The office of H41.07 says something of a document under that id."""
    package = submission(OFFICE, kind="status", document_id=document_id, expires_ms=0, **changes)
    await at.store.submit(replace(package, answers=code != "13"))


async def collect(at: Opened, doc_id: str, organ: Any = UNIT) -> None:
    item, *_ = await at.store.items_of([organ], doc_id)
    await at.store.collect(item.item, Homeward(End(Transport.COLLECTED, at.clock.now_ms)))


def acknowledged(at: Opened) -> list[tuple[Any, ...]]:
    return at.rows("SELECT organ,counterpart,office,at_ms-?1,made_ms-?1,document FROM ledger WHERE event='acknowledged'", NOW_MS)


async def test_a_document_is_acknowledged_by_the_first_status_of_the_office_that_collected_it(at: Opened) -> None:
    """NĐ 30/2020 Điều 21.2.c"""
    head = await lay(at, sender=OFFICE, document_id="12")
    await collect(at, head.doc_id)
    at.clock.now_ms += HOUR_MS
    await answer(at)
    at.clock.now_ms += HOUR_MS
    await answer(at, "03")
    assert acknowledged(at) == [("H41.07", "H54.02", "", HOUR_MS, 0, 1)]


async def test_what_is_said_before_the_office_confirms_counts_when_it_does(at: Opened) -> None:
    head = await lay(at, sender=OFFICE, document_id="12")
    await answer(at, document_id=head.doc_id)
    assert acknowledged(at) == []
    at.clock.now_ms += HOUR_MS
    await collect(at, head.doc_id)
    await answer(at, "03")
    assert acknowledged(at) == [("H41.07", "H54.02", "", HOUR_MS, HOUR_MS, 1)]


async def test_a_focal_point_acknowledges_for_the_code_it_receives_for_once(at: Opened) -> None:
    """QĐ 28/2018 Điều 21.2: also where another code of the same office came after it was done."""
    head = header(recipients=received_by(FOCAL, UNIT, org("H41.08")), sender=OFFICE, document_id="12")
    await at.admit(arrival(head, remaining=(UNIT,)), HUB)
    await collect(at, head.doc_id, FOCAL)
    await answer(at)
    await at.admit(arrival(head, remaining=(org("H41.08"),)), HUB)
    await collect(at, head.doc_id, FOCAL)
    await answer(at, "03")
    assert acknowledged(at) == [("H41.07", "H54.02", "H41.01", 0, 0, 1)]


async def test_one_document_for_one_office_has_arrived_once_whatever_the_codes_and_the_copies(at: Opened) -> None:
    """QĐ 28/2018 Điều 11, 21.2: what comes for another code after the first item is done is another item of the same document."""
    head = header(recipients=received_by(FOCAL, UNIT, org("H41.08")), sender=OFFICE)
    for code in (UNIT, org("H41.08")):
        await at.admit(arrival(head, remaining=(code,)), HUB)
        await collect(at, head.doc_id, FOCAL)
    for event in ("arrived", "collected"):
        assert at.rows("SELECT organ,document FROM ledger WHERE event=? ORDER BY seq", event) == [("H41.07", 1), ("H41.08", 0)]


async def test_what_is_no_answer_to_something_received_acknowledges_nothing(at: Opened) -> None:
    head = await lay(at, sender=OFFICE, document_id="12")
    await collect(at, head.doc_id)
    await answer(at, "13")
    await answer(at, "01", document_id="13")
    await answer(at, "01", document_id="")
    await answer(at, "01", sender=FOCAL)
    assert acknowledged(at) == []


def overdue(at: Opened) -> list[tuple[Any, ...]]:
    return at.rows("SELECT organ,counterpart,made_ms-? FROM ledger WHERE event='overdue' ORDER BY seq", NOW_MS)


async def send(at: Opened, *to: Any, limit_ms: int = HOUR_MS, **changes: Any) -> Any:
    package = replace(submission(*(to or (OFFICE,)), **changes), said=Said(due_ms=NOW_MS + limit_ms))
    await at.store.submit(package)
    return package.local.envelope.header


async def test_a_delivery_that_is_not_dealt_with_in_its_time_is_overdue_once(at: Opened) -> None:
    """QĐ 28/2018 Điều 10.2.o"""
    await send(at, OFFICE, OTHER_OFFICE, document_id="12")
    await status(at, report("06", document_id="12"))
    assert await at.store.numbers.note_overdue(NOW_MS + HOUR_MS - 1, 10) == 0
    at.clock.now_ms += 3 * HOUR_MS
    assert [await at.store.numbers.note_overdue(at.clock.now_ms, 10) for _ in range(2)] == [1, 0]
    assert overdue(at) == [("H41.07", "H54.03", HOUR_MS)]


@pytest.mark.parametrize("code", ["02", "03", "06", "15"])
async def test_what_is_said_after_the_limit_comes_too_late_also_before_anybody_looked(at: Opened, code: str) -> None:
    await send(at, document_id="12")
    at.clock.now_ms += HOUR_MS + at.clock.bound_ms()
    await status(at, report(code, document_id="12"))
    assert overdue(at) == [("H41.07", "H54.02", HOUR_MS)]
    assert await at.store.numbers.note_overdue(at.clock.now_ms, 10) == 0


async def test_what_ended_what_is_no_new_document_and_a_limit_that_was_over_before_are_never_overdue(at: Opened) -> None:
    ended = await send(at)
    await tell(at, ended, End(Transport.REFUSED, NOW_MS))
    await send(at, business=Business.RECALL)
    await send(at, limit_ms=-NOW_MS)
    await send(at, limit_ms=0)
    assert await at.store.numbers.note_overdue(NOW_MS + 9 * HOUR_MS, 10) == 1
    assert overdue(at) == []


async def test_what_a_package_says_of_itself_is_kept_with_the_document_and_not_with_its_other_receivers(at: Opened) -> None:
    package = submission(OFFICE, OTHER_OFFICE)
    await at.store.submit(replace(package, said=Said(signed="unsigned", flaws=("date-missing", "type-missing"))))
    await at.store.submit(submission(OFFICE))
    kept = at.rows("SELECT document,signed,flaws FROM ledger ORDER BY seq")
    assert kept == [(1, "unsigned", "date-missing type-missing"), (0, "", None), (1, "", None)]
    assert (await at.store.numbers.tail(10, stocks=False)).rows[0].flaws == "date-missing type-missing"

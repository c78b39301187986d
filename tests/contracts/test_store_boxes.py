"""What a store owes the offices: items that stay until confirmed, states of what was sent, statuses joined to their documents."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from node.core.custody import (
    FIRST,
    BoxItem,
    Confirmed,
    DoorRefusal,
    End,
    EndOf,
    Homeward,
    LocalEnvelope,
    Settled,
    StatusReport,
    StoredBody,
)
from node.core.envelope import Header, derived_doc_id
from node.core.errors import Reason
from node.core.identifier import OrgId
from node.core.lifecycle import StatusFlag, Transport
from node.core.office import LaidOut, SentLine
from node.core.package import Priority
from node.core.routing import Deliver
from tests.adapters.pki import NOW_MS
from tests.contracts.opened import Opened
from tests.making import (
    EVERYTHING,
    H41,
    H54,
    HUB,
    OFFICE,
    OTHER_OFFICE,
    arrival,
    body,
    header,
    local,
    org,
    received_by,
    submission,
)

UNIT, FOCAL = org("H41.07"), org("H41.01")
DONE = Homeward(End(Transport.COLLECTED, NOW_MS))


async def lay(at: Opened, *codes: OrgId, **changes: Any) -> Header:
    """One envelope into the mailbox of H41.07, or of the codes named."""
    head = header(*(codes or (UNIT,)), **changes)
    await at.admit(arrival(head), HUB)
    return head


async def item_of(at: Opened, head: Header, organ: OrgId = UNIT) -> BoxItem:
    return (await at.store.items_of([organ], head.doc_id))[0]


# --- the mailbox -----------------------------------------------------------------------------------------------------------


async def test_the_urgent_are_listed_first_then_in_order_of_arrival(at: Opened) -> None:
    """QĐ 28/2018 Điều 6.2"""
    priorities = [Priority.NORMAL, Priority.URGENT, Priority.EXPRESS_TIMED, Priority.NORMAL, Priority.VERY_URGENT]
    heads = [await lay(at, priority=priority) for priority in priorities]
    listed = [line.doc_id for line in await at.store.waiting([UNIT], "edoc", 10)]
    assert listed == [heads[number].doc_id for number in (2, 4, 1, 0, 3)]
    assert [line.doc_id for line in await at.store.waiting([UNIT], "edoc", 2)] == listed[:2]
    assert await at.store.count([UNIT], "edoc") == 5


async def test_a_mailbox_shows_its_own_organs_and_kind_only(at: Opened) -> None:
    await lay(at)
    await lay(at, kind="status", expires_ms=0)
    await lay(at, FOCAL)
    assert await at.store.count([UNIT], "edoc") == await at.store.count([UNIT], "status") == 1
    assert await at.store.count([UNIT, FOCAL], "edoc") == 2
    assert await at.store.waiting([OFFICE], "edoc", 10) == []


async def test_an_item_stays_listed_until_it_is_confirmed(at: Opened) -> None:
    """Hand-over cannot be one step with the office's own commit. # QĐ 28/2018 Điều 9.2"""
    head = await lay(at)
    item = await item_of(at, head)
    assert await at.store.body_of(item.item) == (body().sha256, body().size, body().data, None)
    assert await at.store.fetched(item.item)
    assert await at.store.fetched(item.item), "it may be fetched again"
    assert await at.store.count([UNIT], "edoc") == 1
    await at.store.collect(item.item, DONE)
    assert await at.store.count([UNIT], "edoc") == 0
    assert at.events("fetched", "collected") == ["fetched", "collected"]
    assert at.rows("SELECT event,count(*) FROM ledger GROUP BY event ORDER BY 1") == [("arrived", 1), ("collected", 1)]


async def test_a_second_confirmation_changes_nothing(at: Opened) -> None:
    """Decision 12: nothing is counted twice; decision 11: exactly one notice."""
    head = await lay(at, origin=H54, sender=OFFICE)
    item = await item_of(at, head)
    end = End(Transport.COLLECTED, NOW_MS)
    told = body("báo nhận")
    notice = local(header(H54, content=told, kind="notice", sender=H41, expires_ms=0), {H54: HUB}, told)
    home = Homeward(end, (EndOf(H54, head.id, UNIT, end),), notice=notice)
    await at.store.collect(item.item, home)
    await at.store.collect(item.item, home)
    assert at.count("outbox") == 1
    assert at.events("collected") == ["collected"]


async def test_done_before_the_first_fetch_is_remembered_and_the_item_stays_listed(at: Opened) -> None:
    head = await lay(at)
    await at.store.set_word((await item_of(at, head)).item, "done")
    item = await item_of(at, head)
    assert (item.done_early, item.fetched, item.state) == (True, False, "initial")
    assert await at.store.count([UNIT], "edoc") == 1


async def test_processing_is_shown(at: Opened) -> None:
    head = await lay(at)
    await at.store.set_word((await item_of(at, head)).item, "processing")
    assert [line.state for line in await at.store.waiting([UNIT], "edoc", 10)] == ["processing"]


async def test_five_failures_hold_an_item_until_a_person_releases_it(at: Opened) -> None:
    head = await lay(at)
    item = await item_of(at, head)
    held = []
    for _ in range(5):
        assert await at.store.count([UNIT], "edoc") == 1
        held.append(await at.store.fail(item.item, 5, "office-fail"))
    assert held == [False] * 4 + [True]
    assert await at.store.count([UNIT], "edoc") == 0
    assert not await at.store.fail(item.item, 5, "office-fail"), "held it is, and stays so"
    ((shown,), _) = await at.store.held(FIRST, 10)
    assert (shown["item"], shown["reason"], shown["attempts"]) == (f"box-{item.item}", "office-fail", 5)
    assert await at.store.release_box(item.item, "chị Hoa", "hệ thống đã sửa")
    assert not await at.store.release_box(item.item, "chị Hoa", "lần nữa")
    assert (await item_of(at, head)).fails == 0
    assert await at.store.count([UNIT], "edoc") == 1


async def test_nobody_reads_what_the_sender_was_told_had_expired(at: Opened) -> None:
    """The other way round too: what was fetched before its lifetime ended is not expired under the office's hands."""
    head = await lay(at)
    item = await item_of(at, head)
    (expired,) = await at.store.expired(1 << 52, 10)
    await at.store.expire(expired, Homeward(End(Transport.EXPIRED, NOW_MS, Reason.EXPIRED)))
    assert not await at.store.fetched(item.item)
    assert at.events("expired", "fetched") == ["expired"]


async def test_codes_without_a_connection_come_under_the_organ_that_receives_for_them(at: Opened) -> None:
    """QĐ 28/2018 Điều 21.2: one item for all codes of one package, the addressed codes kept."""
    head = header(recipients=received_by(FOCAL, org("H41.05"), org("H41.06")))
    await at.admit(arrival(head), HUB)
    (line,) = await at.store.waiting([FOCAL], "edoc", 10)
    assert line.recipient == "H41.05;H41.06"
    item = await item_of(at, head, FOCAL)
    await at.store.collect(item.item, DONE)
    assert at.rows("SELECT organ FROM ledger WHERE event='collected' ORDER BY 1") == [("H41.05",), ("H41.06",)]


async def test_a_receiver_that_comes_after_its_organ_has_collected_is_an_item_of_its_own(at: Opened) -> None:
    """Decision 12: the first is not counted as collected a second time. The office has the content: it may know it by its docId
    and confirm without fetching it again."""
    first, late = org("H41.05"), org("H41.06")
    head = header(recipients=received_by(FOCAL, first, late))
    await at.admit(arrival(head, remaining=[first]), HUB)
    collected = (await item_of(at, head, FOCAL)).item
    assert await at.store.fetched(collected)
    await at.store.collect(collected, DONE)
    await at.admit(arrival(head, remaining=[late]), HUB)
    item = await item_of(at, head, FOCAL)
    assert (item.recipients, item.state, item.fetched) == ((late,), "initial", True)
    await at.store.collect(item.item, DONE)
    assert at.rows("SELECT organ FROM ledger WHERE event='collected' ORDER BY 1") == [("H41.05",), ("H41.06",)]


async def test_receivers_of_one_organ_that_come_apart_while_it_is_open_share_its_item(at: Opened) -> None:
    first, late = org("H41.05"), org("H41.06")
    head = header(recipients=received_by(FOCAL, first, late))
    await at.admit(arrival(head, remaining=[first]), HUB)
    await at.admit(arrival(head, remaining=[late]), HUB)
    assert (await item_of(at, head, FOCAL)).recipients == (first, late)
    assert at.count("mailbox") == 1


async def test_of_several_items_under_one_doc_id_the_open_one_comes_first(at: Opened) -> None:
    head = header(UNIT, FOCAL)
    await at.admit(arrival(head), HUB)
    await at.store.collect((await item_of(at, head)).item, DONE)
    items = await at.store.items_of([UNIT, FOCAL], head.doc_id)
    assert [(item.organ, item.state) for item in items] == [(FOCAL, "initial"), (UNIT, "done")]


# --- the sent list ---------------------------------------------------------------------------------------------------------


def plain(state: str, reason: str, written: str, successor: str) -> str:
    return "|".join((state, reason, written, successor))


async def sent(at: Opened, doc_id: str | None = None, system: str = "so-noi-vu", status: bool = False) -> list[SentLine]:
    return await at.store.sent(system, status, doc_id, 100, plain)


async def tell(at: Opened, head: Header, end: End, recipient: OrgId | None = None, returned: LocalEnvelope | None = None) -> None:
    """A notice reaches H41 with the end of one of its deliveries."""
    code = recipient or head.recipients[0].code
    one = EndOf(head.origin, head.id, code, end)
    notice = header(H41, kind="notice", sender=H54, origin=H54, expires_ms=0)
    returns = {} if returned is None else {(str(head.origin), head.id, code): returned}
    await at.admit(arrival(notice, Deliver(), ends=(one,), returns=returns), HUB)


async def test_every_receiver_of_a_package_is_a_line_with_a_state_of_its_own(at: Opened) -> None:
    """QĐ 28/2018 Điều 6.3, 8.2: the sender follows each one, those refused at the door too."""
    refused = [DoorRefusal("H26", "000.00.00.H26", Reason.RECIPIENT_CLOSED, "H01")]
    package = submission(OFFICE, OTHER_OFFICE, refused=refused)
    head = package.local.envelope.header
    await at.store.submit(package)
    await at.settle(HUB, Settled.TAKEN, (await at.offer(HUB))[:1])
    await tell(at, head, End(Transport.COLLECTED, NOW_MS + 5, receiver_doc_id="their-doc"))
    states = {
        line.recipient: (line.send_state, line.send_text, line.receiver_doc_id, line.received_ms) for line in await sent(at)
    }
    assert states == {
        "H26": ("refused", "refused|recipient-closed|000.00.00.H26|H01", "", 0),
        "H54.02": ("collected", "collected||H54.02|", "their-doc", NOW_MS + 5),
        "H54.03": ("queued", "queued||H54.03|", "", 0),
    }


async def test_a_system_sees_what_it_has_sent_itself_newest_first(at: Opened) -> None:
    first, second = submission(), submission()
    await at.store.submit(first)
    at.clock.now_ms += 1
    await at.store.submit(second)
    await at.store.submit(submission(kind="status", expires_ms=0))
    ids = [each.local.envelope.header.doc_id for each in (second, first)]
    assert [line.doc_id for line in await sent(at)] == ids
    assert [line.doc_id for line in await sent(at, ids[1])] == ids[1:]
    assert len(await at.store.sent("so-noi-vu", False, None, 1, plain)) == 1
    assert len(await sent(at, status=True)) == 1
    assert await sent(at, system="he-thong-khac") == []
    assert await at.store.owns_sent("so-noi-vu", ids[0])
    assert not await at.store.owns_sent("he-thong-khac", ids[0])


async def test_a_local_receiver_is_in_its_mailbox_at_once(at: Opened) -> None:
    await at.store.submit(submission(UNIT, next_hop=None))
    assert [line.send_state for line in await sent(at)] == ["in-mailbox"]
    assert at.rows("SELECT event FROM ledger ORDER BY seq") == [("arrived",), ("sent",)]
    (item,) = await at.store.items_of([UNIT], (await sent(at))[0].doc_id)
    end = End(Transport.COLLECTED, NOW_MS)
    await at.store.collect(item.item, Homeward(end, (EndOf(H41, item.header.id, UNIT, end),)))
    assert [line.send_state for line in await sent(at)] == ["collected"]


async def test_a_status_between_two_offices_here_is_counted_as_a_status(at: Opened) -> None:
    """QĐ 28/2018 Điều 11: documents and statuses are counted apart, also where both sides hang on one node."""
    await at.store.submit(submission(UNIT, next_hop=None, kind="status", expires_ms=0))
    assert at.rows("SELECT event FROM ledger ORDER BY seq") == [("status-arrived",), ("status-sent",)]


# --- notices ---------------------------------------------------------------------------------------------------------------


async def test_a_notice_is_applied_once(at: Opened) -> None:
    """Decision 11: one end, one change, one 02 in the sender's mailbox, however often it is told."""
    package = submission()
    head = package.local.envelope.header
    await at.store.submit(package)
    await at.hand_over(HUB)
    for minute in range(3):
        told = header(UNIT, kind="status", sender=org("TRUC"), expires_ms=0)
        end = End(Transport.REFUSED, NOW_MS + minute, Reason.RECIPIENT_UNKNOWN)
        await tell(at, head, end, returned=local(told, {UNIT: None}))
    assert [(line.send_state, line.send_text) for line in await sent(at)] == [("refused", "refused|recipient-unknown|H54.02|")]
    assert await at.store.count([UNIT], "status") == 1
    assert at.rows("SELECT count(*) FROM ledger WHERE event='known-refused'") == [(1,)]
    assert at.events("refused", "notice") == ["refused", "notice", "notice"]


async def test_a_notice_is_no_envelope_for_anybody_here(at: Opened) -> None:
    package = submission()
    await at.store.submit(package)
    await tell(at, package.local.envelope.header, End(Transport.COLLECTED, NOW_MS))
    assert at.count("mailbox") == 0
    assert at.rows("SELECT kind FROM envelope") == [("edoc",)]


@pytest.mark.parametrize("ended", [Transport.EXPIRED, Transport.REFUSED])
async def test_what_ended_somewhere_on_the_way_and_was_collected_all_the_same_is_collected(at: Opened, ended: Transport) -> None:
    """The receiver's word wins, and nothing takes it back. # QĐ 28/2018 Điều 6.3"""
    package = submission()
    head = package.local.envelope.header
    await at.store.submit(package)
    await tell(at, head, End(ended, NOW_MS, Reason.EXPIRED))
    await tell(at, head, End(Transport.COLLECTED, NOW_MS))
    await tell(at, head, End(Transport.REFUSED, NOW_MS))
    assert [line.send_state for line in await sent(at)] == ["collected"]


async def test_a_notice_about_a_package_nobody_here_has_sent_changes_nothing(at: Opened) -> None:
    await tell(at, header(), End(Transport.COLLECTED, NOW_MS))
    assert at.events() == ["notice"]
    assert at.count("ledger") == 0


# --- statuses join their document ------------------------------------------------------------------------------------------


def report(code: str = "01", **changes: Any) -> StatusReport:
    fields = {"document_id": "", "notation": "", "date": ""}
    return StatusReport(OFFICE, code, f"trạng thái {code}", NOW_MS, UNIT, **{**fields, **changes})


async def status(at: Opened, said: StatusReport) -> StatusFlag | None:
    """An office status of H54.02 for H41.07 arrives."""
    head = header(UNIT, kind="status", sender=OFFICE, origin=H54, expires_ms=0)
    return (await at.admit(arrival(head, report=said), HUB)).flag


@pytest.mark.parametrize("by", ["docId", "derived docId", "DocumentId", "notation and date"])
async def test_a_status_finds_its_document(at: Opened, by: str) -> None:
    """Statuses join by docId, by DocumentId, or by (organ, number/notation, date). # QĐ 28/2018 Điều 6.3, 9.2"""
    package = submission(OFFICE, OTHER_OFFICE, document_id="H41.07,2031,12")
    await at.store.submit(package)
    doc_id = package.local.envelope.header.doc_id
    keys: dict[str, dict[str, str]] = {
        "docId": {"document_id": doc_id},
        "derived docId": {"document_id": derived_doc_id(doc_id, "H54.02")},
        "DocumentId": {"document_id": "H41.07,2031,12"},
        "notation and date": {"document_id": "không ai biết", "notation": "12/SNV", "date": "2031/03/01"},
    }
    assert await status(at, report("03", **keys[by])) is StatusFlag.NONE
    lines = {line.recipient: (line.receive_state, line.receive_text) for line in await sent(at)}
    assert lines == {"H54.02": ("03", "trạng thái 03"), "H54.03": ("", "")}
    assert await at.store.count([UNIT], "status") == 1, "and is laid before the sender's office"


async def test_a_status_of_a_focal_point_joins_the_delivery_it_received(at: Opened) -> None:
    """QĐ 28/2018 Điều 21.2: the organ that receives answers for the one addressed."""
    await at.store.submit(submission(recipients=received_by(OFFICE, org("H54.02.07")), document_id="12"))
    assert await status(at, report(document_id="12")) is StatusFlag.NONE
    assert [(line.recipient, line.receive_state) for line in await sent(at)] == [("H54.02.07", "01")]


async def test_the_newest_of_two_documents_under_one_id_is_meant(at: Opened) -> None:
    """Decision 1: DocumentId never deduplicates: a corrected resend reuses it."""
    for _ in range(2):
        at.clock.now_ms += 1
        await at.store.submit(submission(document_id="12"))
    await status(at, report(document_id="12"))
    assert [line.receive_state for line in await sent(at)] == ["01", ""]


@pytest.mark.parametrize(
    "said",
    [
        report(document_id="không có"),
        report(notation="12/SNV"),
        report(notation="12/SNV", date="2030/01/01"),
        report(),
        StatusReport(org("H54.99"), "01", "", NOW_MS, UNIT, "12", "", ""),
        StatusReport(OFFICE, "01", "", NOW_MS, FOCAL, "12", "", ""),
    ],
)
async def test_a_status_without_its_document_is_delivered_and_flagged(at: Opened, said: StatusReport) -> None:
    """Unmatched ones stay visible, and never land on somebody else's document."""
    await at.store.submit(submission(document_id="12"))
    assert await status(at, said) is StatusFlag.UNMATCHED
    assert [line.receive_state for line in await sent(at)] == [""]
    assert at.rows("SELECT flag FROM mailbox") == [("unmatched",)]
    assert at.events("unmatched") == ["unmatched"]
    assert (await at.store.depths())["unmatched"] == 1


async def test_a_status_out_of_order_is_delivered_flagged_and_changes_nothing(at: Opened) -> None:
    """QĐ 28/2018 Điều 6.3: 06 before 03 still reaches the sender."""
    await at.store.submit(submission(document_id="12"))
    flags = [await status(at, report(code, document_id="12")) for code in ("01", "06", "03", "06")]
    assert flags == [StatusFlag.NONE, StatusFlag.NONE, StatusFlag.OUT_OF_ORDER, StatusFlag.REPEATED]
    assert [line.receive_state for line in await sent(at)] == ["06"]
    assert at.rows("SELECT flag FROM mailbox ORDER BY item") == [("",), ("",), ("out-of-order",), ("repeated",)]
    assert await at.store.count([UNIT], "status") == 4


async def test_a_status_is_no_transport_state(at: Opened) -> None:
    """Two vocabularies: an office may speak before the confirmation has come home. # QĐ 28/2018 Điều 6.3"""
    await at.store.submit(submission(document_id="12"))
    await at.hand_over(HUB)
    await status(at, report("02", document_id="12"))
    assert [(line.send_state, line.receive_state) for line in await sent(at)] == [("moving", "02")]


@pytest.mark.parametrize("by_doc_id", [True, False])
async def test_a_13_is_joined_to_the_document_its_receiver_has(at: Opened, by_doc_id: bool) -> None:
    """The sender speaks: lấy lại concerns what lies, or lay, in the receiver's mailbox."""
    head = await lay(at, sender=OFFICE, document_id="" if by_doc_id else "H54.02,2031,7")
    known = head.doc_id if by_doc_id else head.document_id
    assert await status(at, report("13", document_id=known)) is StatusFlag.NONE
    assert await status(at, report("13", document_id="khác")) is StatusFlag.UNMATCHED
    assert await status(at, report("13")) is StatusFlag.UNMATCHED


async def test_whom_a_status_concerns_is_known_from_the_document_itself(at: Opened) -> None:
    head = await lay(at, sender=OFFICE, document_id="H54.02,2031,7")
    newer = await lay(at, sender=OTHER_OFFICE, document_id="H54.02,2031,7")
    assert await at.store.addressee(UNIT, head.doc_id) == [OFFICE]
    assert await at.store.addressee(UNIT, newer.document_id) == [OTHER_OFFICE], "the newest"
    assert await at.store.addressee(FOCAL, head.doc_id) == []
    assert await at.store.addressee(UNIT, "") == []


async def test_an_organ_served_by_another_may_answer_for_itself(at: Opened) -> None:
    """QĐ 28/2018 Điều 21.2"""
    head = header(recipients=received_by(FOCAL, UNIT), sender=OFFICE)
    await at.admit(arrival(head), HUB)
    assert await at.store.addressee(UNIT, head.doc_id) == await at.store.addressee(FOCAL, head.doc_id) == [OFFICE]


async def test_a_13_goes_to_everybody_who_was_sent_the_document(at: Opened) -> None:
    refused = [DoorRefusal("H26", "H26", Reason.RECIPIENT_CLOSED, "")]
    package = submission(OFFICE, OTHER_OFFICE, document_id="12", refused=refused)
    await at.store.submit(package)
    both = [OFFICE, OTHER_OFFICE]
    assert await at.store.receivers(UNIT, "12", "", "") == both
    assert await at.store.receivers(UNIT, package.local.envelope.header.doc_id, "", "") == both
    assert await at.store.receivers(UNIT, "", package.notation, package.date) == both
    assert await at.store.receivers(UNIT, "khác", package.notation, package.date) == both
    assert await at.store.receivers(FOCAL, "12", "", "") == await at.store.receivers(UNIT, "", "", "") == []


async def test_a_request_of_an_office_waits_for_a_person(at: Opened) -> None:
    number = await at.store.request_agency("so-noi-vu", "register", {"code": "H41.07.05"})
    assert [row["item"] for row in (await at.store.held(FIRST, 10))[0]] == [f"agency-{number}"]
    assert await at.store.decide_agency(number, "released", "chị Hoa", "đúng thẩm quyền")
    assert not await at.store.decide_agency(number, "dropped", "anh Ba", "")
    assert at.rows("SELECT state FROM agency_request") == [("released",)]


# --- many at once ----------------------------------------------------------------------------------------------------------


async def test_a_list_of_many_is_urgent_first_also_a_page_of_what_arrived_behind_a_number(at: Opened) -> None:
    """QĐ 28/2018 Điều 6.2."""
    priorities = [Priority.NORMAL, Priority.URGENT, Priority.NORMAL, Priority.URGENT]
    heads = [await lay(at, priority=priority) for priority in priorities]
    await lay(at, kind="status", expires_ms=0)
    await lay(at, FOCAL)
    first = (await at.laid_out([UNIT])).lines
    assert [line.doc_id for line in first] == [heads[number].doc_id for number in (1, 3, 0, 2)]
    numbers = sorted(line.item for line in first)
    behind = (await at.laid_out([UNIT], after=numbers[1])).lines
    assert [line.doc_id for line in behind] == [heads[3].doc_id, heads[2].doc_id]
    assert [line.item for line in (await at.laid_out([UNIT], after=numbers[1], limit=1)).lines] == [numbers[2]]
    assert (await at.laid_out([UNIT], after=numbers[3])).lines == ()
    assert (await at.laid_out([])).lines == ()
    (line,) = (await at.laid_out([UNIT], "status")).lines
    assert (line.kind, line.sender, line.recipients) == ("status", "H41.07", ("H41.07",))
    assert (line.size, line.digest, line.done_early) == (body().size, body().sha256, False)


async def test_packages_of_a_list_are_data_or_files(at: Opened) -> None:
    await lay(at)
    other = header(UNIT, content=body("khác"))
    plain = body("khác")
    await at.admit(arrival(other, content=StoredBody(plain.sha256, plain.size, file="aa/bb")), HUB)
    found = await at.laid_out([UNIT], room_bytes=1 << 20)
    first, second = (line.item for line in found.lines)
    assert (found.packages, found.files, found.damaged) == ({first: body().data}, {second: "aa/bb"}, frozenset())
    assert at.events("fetched") == ["fetched"], "what has not been read was not fetched"
    assert await at.store.fetched_many([second, 99]) == {second}
    assert at.events("fetched") == ["fetched"] * 2


async def test_many_are_fetched_in_one_commit_but_none_that_has_ended(at: Opened) -> None:
    heads = [await lay(at) for _ in range(3)]
    items = [(await item_of(at, head)).item for head in heads]
    (_, last, *_) = await at.store.expired(1 << 52, 10)
    await at.store.expire(last, Homeward(End(Transport.EXPIRED, NOW_MS, Reason.EXPIRED)))
    before = at.tally.value("truc_commits_total")
    found = await at.laid_out([UNIT], room_bytes=1 << 20)
    assert set(found.packages) == {item for item in items if item != last.item}
    assert at.tally.value("truc_commits_total") == before + 1
    assert at.events("fetched") == ["fetched"] * 2


async def test_a_content_that_has_been_damaged_does_not_come_along(at: Opened) -> None:
    """QĐ 28/2018 Điều 6.1."""
    await lay(at)
    await at.tamper("UPDATE body SET data=?", "khác hẳn".encode())
    found = await at.laid_out([UNIT], room_bytes=1 << 20)
    assert found.packages == {}
    assert found.damaged == {found.lines[0].item}
    assert at.events("fetched") == []


async def test_many_are_found_by_their_doc_ids_as_one_is(at: Opened) -> None:
    heads = [await lay(at) for _ in range(2)]
    found = await at.store.items_of_many([UNIT], [head.doc_id for head in heads] + ["không có"])
    assert {item.doc_id: item for item in found} == {head.doc_id: await item_of(at, head) for head in heads}
    assert await at.store.items_of_many([FOCAL], [head.doc_id for head in heads]) == []
    assert await at.store.items_of_many([], []) == []


async def confirmed_together(at: Opened, *heads: Header) -> Confirmed:
    """All of them by one notice."""
    end = End(Transport.COLLECTED, NOW_MS)
    told = body("báo nhận")
    notice = local(header(H54, content=told, kind="notice", sender=H41, expires_ms=0), {H54: HUB}, told)
    items = [((await item_of(at, head)).item, Homeward(end, (EndOf(H54, head.id, UNIT, end),))) for head in heads]
    return Confirmed(items, notice)


async def test_many_are_collected_in_one_commit_and_one_notice_tells_of_all(at: Opened) -> None:
    """Decision 11: each end is told once."""
    heads = [await lay(at, origin=H54, sender=OFFICE) for _ in range(3)]
    groups = [await confirmed_together(at, *heads)]
    before = at.tally.value("truc_commits_total")
    assert await at.store.collect_many(groups) == [True]
    assert at.tally.value("truc_commits_total") == before + 1
    assert at.events("collected") == ["collected"] * 3
    assert at.count("outbox") == 1
    assert at.one("SELECT count(*) FROM envelope WHERE boxed=1 AND ended_ms IS NULL") == 0


async def test_a_notice_that_is_to_leave_later_wakes_who_asks_for_its_neighbour_then(at: Opened) -> None:
    (confirmed,) = [await confirmed_together(at, await lay(at, origin=H54, sender=OFFICE))]
    assert confirmed.notice is not None
    asked = at.store.ask(HUB, EVERYTHING, stands=True)
    due_ms = at.clock.now_ms + 50
    assert await at.store.collect_many([replace(confirmed, notice=replace(confirmed.notice, due_ms=due_ms))]) == [True]
    await at.store.drain()
    assert not asked.done()
    assert await at.waiting_for(HUB) == []
    at.clock.now_ms = due_ms
    async with asyncio.timeout(10):
        offer = await asked
    assert offer is not None
    assert len(offer.rows) == 1


async def test_where_one_of_a_notice_was_collected_before_nothing_of_it_happens(at: Opened) -> None:
    """Decision 11: an end is not told a second time."""
    before, other = [await lay(at, origin=H54, sender=OFFICE) for _ in range(2)]
    alone = await lay(at, origin=H54, sender=OFFICE)
    groups = [await confirmed_together(at, before, other), await confirmed_together(at, alone)]
    await at.store.collect((await item_of(at, before)).item, DONE)
    assert await at.store.collect_many(groups) == [False, True]
    assert (await item_of(at, other)).state == "initial"
    assert at.events("collected") == ["collected"] * 2
    assert at.count("outbox") == 1


async def test_an_item_that_another_code_joined_is_left_alone_and_the_others_are_collected(at: Opened) -> None:
    joined = header(recipients=received_by(UNIT, org("H41.05"), org("H41.06")))
    await at.admit(arrival(joined), HUB)
    head = await lay(at)
    end = End(Transport.COLLECTED, NOW_MS)
    short = Homeward(end, (EndOf(joined.origin, joined.id, org("H41.05"), end),))
    both = [Confirmed([((await item_of(at, joined)).item, short)]), Confirmed([((await item_of(at, head)).item, DONE)])]
    assert await at.store.collect_many(both) == [False, True]
    assert (await item_of(at, joined)).state == "initial"
    assert (await item_of(at, head)).state == "done"


async def test_a_question_stands_until_something_is_laid_and_what_comes_along_is_fetched_in_that_commit(at: Opened) -> None:
    def asked(*organs: OrgId) -> asyncio.Future[LaidOut | None]:
        return at.store.lay_out(organs, "edoc", after=None, limit=10, room_bytes=1 << 20, stands=True)

    waiting, other = asked(UNIT, FOCAL), asked(OFFICE)
    await at.store.drain()
    before = at.tally.value("truc_commits_total")
    head = await lay(at)
    found = await waiting
    assert found is not None
    assert [line.doc_id for line in found.lines] == [head.doc_id]
    assert at.tally.value("truc_commits_total") == before + 1
    assert (await item_of(at, head)).fetched
    assert not other.done()


async def test_what_a_person_releases_is_laid_anew(at: Opened) -> None:
    item = (await item_of(at, await lay(at))).item
    await at.store.fetched(item)
    assert await at.store.fail(item, 1, "office-fail")
    waiting = at.store.lay_out([UNIT], "edoc", after=None, limit=10, room_bytes=None, stands=True)
    await at.store.drain()
    assert not waiting.done()
    assert await at.store.release_box(item, "chị Hoa", "hệ thống đã sửa")
    assert await waiting is not None

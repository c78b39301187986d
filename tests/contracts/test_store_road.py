"""What a store owes the road: rows in order, doubt kept, every verdict recorded, ends told home once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from node.adapters.sqlite.road import DUE_FURTHEST_MS
from node.core.custody import End, EndOf, Homeward, Settled, Settlement, StoredBody
from node.core.envelope import BodyRef, Lane
from node.core.errors import Reason
from node.core.forwarding import Turn, cut_batch
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.package import Business, Priority
from node.core.routing import Deliver
from node.core.wire import limits_for
from tests.adapters.pki import NOW_MS
from tests.contracts.opened import Opened
from tests.making import (
    DAY_MS,
    EVERYTHING,
    H41,
    H54,
    HUB,
    LIFETIME_MS,
    OFFICE,
    OTHER_OFFICE,
    WEIGHTS,
    arrival,
    body,
    header,
    local,
    org,
    submission,
    to,
)

UNIT, OTHER_UNIT = org("H41.07"), org("H41.08")
OVER_MS = NOW_MS + LIFETIME_MS + 1000
"""The lifetime of what `making` makes is over after this, its bound included."""


async def put(at: Opened, *codes: OrgId, neighbour: OrgId = UNIT, **changes: object) -> int:
    """One more envelope for a neighbour; returns the number of its (last) row."""
    await at.admit(arrival(header(*codes, **changes), to(neighbour)), HUB)  # type: ignore[arg-type]
    return int(at.one("SELECT max(item) FROM outbox"))


# --- order, decision 9 -----------------------------------------------------------------------------------------------------


async def test_new_update_and_replace_of_one_document_go_one_after_the_other(at: Opened) -> None:
    """Decision 9: order is kept among new, update, replace of one (sender, recipient, DocumentId) in one lane."""
    items = [
        await put(at, document_id="H41.07,2031,12", business=business)
        for business in (Business.NEW, Business.UPDATE, Business.REPLACE)
    ]
    for item in items:
        assert await at.waiting_for(UNIT) == [item]
        await at.settle(UNIT, Settled.TAKEN, await at.offer(UNIT))
    assert await at.waiting_for(UNIT) == []


@pytest.mark.parametrize("settled", [Settled.LATER, Settled.IN_DOUBT, Settled.UNSENT, Settled.CHOKED])
async def test_a_document_on_the_road_keeps_its_successor_back_whatever_happens_to_it(at: Opened, settled: Settled) -> None:
    first = await put(at, document_id="12")
    await put(at, document_id="12", business=Business.UPDATE)
    await at.settle(UNIT, settled, await at.offer(UNIT, [first]), reason=Reason.NOT_NOW, due_ms=NOW_MS + 500)
    assert await at.waiting_for(UNIT) == []
    at.clock.now_ms += 501
    assert await at.waiting_for(UNIT) == [first]


async def test_a_held_document_releases_its_successors(at: Opened) -> None:
    """Decision 9: poison blocks nobody."""
    first = await put(at, document_id="12")
    second = await put(at, document_id="12", business=Business.UPDATE)
    await at.settle(UNIT, Settled.HELD, await at.offer(UNIT), reason=Reason.INTERNAL)
    assert await at.waiting_for(UNIT) == [second]
    assert await at.store.act_queue("release", [first], None, "chị Hoa", "đã sửa") == 1
    assert await at.waiting_for(UNIT) == [first], "released, it stands before its successor again"


async def test_other_receivers_senders_documents_and_priorities_do_not_wait(at: Opened) -> None:
    items = [
        await put(at, document_id="12"),
        await put(at, OTHER_OFFICE, document_id="12"),
        await put(at, document_id="12", sender=org("H41.09")),
        await put(at, document_id="13"),
        await put(at, document_id=""),
        await put(at, document_id=""),
        await put(at, document_id="12", priority=Priority.EXPRESS),
    ]
    assert await at.waiting_for(UNIT) == items


async def test_recalls_and_statuses_overtake(at: Opened) -> None:
    """Decision 9; a recall must not wait behind the document it recalls. # QĐ 28/2018 Điều 8.2"""
    await put(at, document_id="12")
    recall = await put(at, document_id="12", business=Business.RECALL)
    status = await put(at, document_id="12", kind="status", expires_ms=0)
    lanes = await at.candidates(UNIT, bytes_max=1 << 20, rows_max=10, after={})
    assert [row.item for row in lanes[Lane.CONTROL]] == [recall, status]


async def test_who_stands_behind_a_thousand_rows_of_another_sender_is_seen_all_the_same(at: Opened) -> None:
    """Decision 9: fair between senders, also where one fills the whole window."""
    flood = [arrival(header(sender=org("H41.07")), to(UNIT)) for _ in range(30)]
    await at.store.admit(flood, HUB)
    small = [await put(at, sender=org(code)) for code in ("H41.05", "H41.09")]
    lanes = await at.candidates(UNIT, bytes_max=1 << 20, rows_max=20, after={})
    rows = lanes[Lane.NORMAL]
    assert {row.item for row in rows if row.sender != "H41.07"} == set(small)
    assert len([row for row in rows if row.sender == "H41.07"]) == 20


async def flooded(at: Opened, number: int = 600) -> None:
    """One sender fills more than a batch."""
    await at.store.admit([arrival(header(sender=org("H41.07")), to(UNIT)) for _ in range(number)], HUB)


async def test_another_sender_gets_half_of_a_full_batch(at: Opened) -> None:
    """Decision 9: fair between senders. Threats, row 28."""
    await flooded(at)
    await at.store.admit([arrival(header(sender=org("H41.05")), to(UNIT)) for _ in range(600)], HUB)
    window = await at.window(UNIT, bytes_max=1 << 20, rows_max=500, after={})
    batch, _ = cut_batch(window.lanes, WEIGHTS, Turn(), bytes_max=1 << 20, rows_max=500, envelopes_max=500)
    assert [row.sender for row in batch].count("H41.05") == 250


async def test_more_senders_than_one_window_holds_all_get_their_turn(at: Opened) -> None:
    """Also where those that are looked at first have nothing that is due."""
    await flooded(at)
    waiting = [await put(at, sender=org(f"H41.30.{number:03}")) for number in range(1, 81)]
    one = await at.offer(UNIT, waiting[:70])
    later = [Settlement(row.item, Settled.LATER, at.clock.now_ms + 60_000, Reason.NOT_NOW) for row in one]
    await at.store.settle(UNIT, later)
    seen: set[int] = set()
    after: Mapping[Lane, str] = {}
    for _ in range(2):
        window = await at.window(UNIT, bytes_max=1 << 20, rows_max=500, after=after)
        after = window.looked
        seen |= {row.item for row in window.lanes[Lane.NORMAL]}
    assert seen.issuperset(waiting[70:])


async def test_the_hub_whose_code_is_empty_gets_its_turn_too(at: Opened) -> None:
    await flooded(at)
    own = await put(at, sender=HUB)
    lanes = await at.candidates(UNIT, bytes_max=1 << 20, rows_max=500, after={Lane.NORMAL: "H41.07"})
    assert own in {row.item for row in lanes[Lane.NORMAL]}


async def test_a_batch_of_large_envelopes_can_be_read_and_no_envelope_crosses_twice(at: Opened) -> None:
    """Decision 7, behind a flood and from many senders: a header is charged wherever it stands, and its rows stay together."""
    await flooded(at)
    codes = [org(f"H41.07.{number:03}") for number in range(1, 101)]
    large = [header(*codes, sender=org(f"H41.30.{number:03}")) for number in range(1, 21)]
    for head in large:
        await at.admit(arrival(head, to(UNIT)), HUB)
    limits = limits_for(1 << 16, 500)
    crossed: list[str] = []
    after: Mapping[Lane, str] = {}
    turn = Turn()
    for _ in range(200):
        window = await at.window(UNIT, bytes_max=1 << 16, rows_max=500, after=after)
        after = {**after, **window.looked}
        rows, turn = cut_batch(window.lanes, WEIGHTS, turn, bytes_max=1 << 16, rows_max=500, envelopes_max=500)
        if not rows:
            break
        offered = await at.offer(UNIT, [row.item for row in rows])
        headers = {row.id: len(row.header) for row in offered}
        bodies: dict[str, bytes] = {}
        for row in offered:
            for ref in row.bodies:
                bodies |= await at.inline_bodies(UNIT, ref.sha256)
        assert sum(headers.values()) + sum(map(len, bodies.values())) <= limits.bytes_max
        crossed += headers
        await at.store.settle(UNIT, [Settlement(row.item, Settled.TAKEN) for row in offered])
    assert sorted(crossed) == sorted(set(crossed)), "once"
    assert {head.id for head in large} <= set(crossed)


async def test_a_body_that_a_header_names_twice_is_charged_once(at: Opened) -> None:
    one = body("x" * 1000)
    head = header(bodies=(BodyRef(one.sha256, one.size),) * 3)
    await at.admit(replace(arrival(head, to(UNIT)), inline=(one, one, one)), HUB)
    lanes = await at.candidates(UNIT, bytes_max=1 << 20, rows_max=10, after={})
    assert lanes[Lane.NORMAL][0].bytes < 3000


async def test_a_neighbour_sees_its_own_rows_only(at: Opened) -> None:
    mine, other = await put(at), await put(at, neighbour=OTHER_UNIT)
    assert (await at.waiting_for(UNIT), await at.waiting_for(OTHER_UNIT)) == ([mine], [other])
    assert await at.offer(UNIT, [other]) == []


# --- doubt, decision 6 -----------------------------------------------------------------------------------------------------


async def test_a_row_is_in_doubt_on_disk_before_a_byte_of_it_leaves(at: Opened) -> None:
    """Decision 6: should the process die now, the copy is frozen."""
    item = await put(at)
    (row,) = await at.offer(UNIT)
    assert (row.item, row.in_doubt) == (item, False)
    assert at.one("SELECT in_doubt FROM outbox") == 1


@pytest.mark.parametrize(
    ("settled", "before", "after"),
    [
        (Settled.LATER, True, 0),
        (Settled.BODY, True, 0),
        (Settled.IN_DOUBT, False, 1),
        (Settled.IN_DOUBT, True, 1),
        (Settled.UNSENT, False, 0),
        (Settled.UNSENT, True, 1),
        (Settled.CHOKED, True, 1),
        (Settled.HELD, True, 1),
        (Settled.HELD, False, 0),
    ],
)
async def test_only_the_neighbours_word_lays_a_doubt_to_rest(at: Opened, settled: Settled, before: bool, after: int) -> None:
    """Decision 6: an offer that did not happen leaves an older doubt as it was."""
    await put(at)
    if before:
        await at.settle(UNIT, Settled.IN_DOUBT, await at.offer(UNIT), reason=Reason.NOT_NOW)
    offered = await at.offer(UNIT)
    assert offered[0].in_doubt is before
    await at.settle(UNIT, settled, offered, reason=Reason.NOT_NOW, was_in_doubt=before)
    assert at.one("SELECT in_doubt FROM outbox") == after


async def test_a_copy_in_doubt_never_expires(at: Opened) -> None:
    """Decision 6: it may not expire until that neighbour has answered for it."""
    await put(at)
    at.clock.now_ms = OVER_MS + 365 * DAY_MS
    (found,) = await at.store.expired(at.clock.now_ms, 10)
    offered = await at.offer(UNIT)
    assert await at.store.expired(at.clock.now_ms, 10) == []
    home = Homeward(End(Transport.EXPIRED, at.clock.now_ms, Reason.EXPIRED))
    await at.store.expire(found, home)
    assert at.count("outbox") == 1, "asked again inside the transaction: it was offered between the query and now"
    await at.settle(UNIT, Settled.LATER, offered)
    assert await at.store.expired(at.clock.now_ms, 10) == [found]
    await at.store.expire(found, home)
    assert at.count("outbox") == 0
    assert at.events("expired") == ["expired"]


async def test_held_rows_and_fetched_items_never_expire_by_themselves(at: Opened) -> None:
    """Decision 11: they delay, hold and alarm; a person or the office ends them."""
    await put(at)
    await at.settle(UNIT, Settled.HELD, await at.offer(UNIT), reason=Reason.INTERNAL)
    head = header(UNIT)
    await at.admit(arrival(head), HUB)
    (item,) = await at.store.items_of([UNIT], head.doc_id)
    assert len(await at.store.expired(OVER_MS + 1, 10)) == 1
    assert await at.store.fetched(item.item)
    assert await at.store.expired(OVER_MS + 365 * DAY_MS, 10) == []


@pytest.mark.parametrize(("before_ms", "found"), [(OVER_MS, 0), (OVER_MS + 1, 2)])
async def test_both_bounds_speak_for_the_document(at: Opened, before_ms: int, found: int) -> None:
    """Decision 11: it is over when it is over by the origin's clock at its slowest."""
    await put(at)
    await at.admit(arrival(header(UNIT)), HUB)
    assert len(await at.store.expired(before_ms, 10)) == found


async def test_a_bound_of_years_does_not_make_a_document_immortal_nor_hide_others_behind_it(at: Opened) -> None:
    await put(at, bound_ms=1 << 47)
    await put(at)
    assert len(await at.store.expired(OVER_MS + DAY_MS, 1)) == 1
    assert len(await at.store.expired(OVER_MS + DAY_MS, 10)) == 2


@pytest.mark.parametrize("kind", ["status", "notice"])
async def test_statuses_and_notices_never_expire(at: Opened, kind: str) -> None:
    """Decision 11."""
    await put(at, kind=kind, expires_ms=0)
    assert await at.store.expired(NOW_MS + 10_000 * DAY_MS, 10) == []


# --- what a verdict does to a row ------------------------------------------------------------------------------------------

_DUE = NOW_MS + 777


@pytest.mark.parametrize(
    ("settled", "row"),
    [
        (Settled.LATER, ("waiting", 1, _DUE, "not-now")),
        (Settled.IN_DOUBT, ("waiting", 0, _DUE, "not-now")),
        (Settled.UNSENT, ("waiting", 0, _DUE, "not-now")),
        (Settled.CHOKED, ("waiting", 1, _DUE, "not-now")),
        (Settled.HELD, ("held", 1, 0, "not-now")),
    ],
)
async def test_a_row_that_was_not_taken_stays_with_its_reason(at: Opened, settled: Settled, row: tuple[object, ...]) -> None:
    await put(at)
    await at.settle(UNIT, settled, await at.offer(UNIT), reason=Reason.NOT_NOW, due_ms=_DUE)
    assert at.rows("SELECT state,attempts,due_ms,reason FROM outbox") == [row]


async def test_a_taken_row_leaves_and_its_key_remembers_who_has_it(at: Opened) -> None:
    head = header()
    await at.admit(arrival(head, to(UNIT)), HUB)
    await at.hand_over(UNIT)
    assert at.count("outbox") == 0
    assert at.one("SELECT handed_to FROM seen") == "H41.07"
    assert at.one("SELECT ended_ms FROM envelope") == NOW_MS
    assert await at.store.holds_body_of(UNIT, body().sha256), "it was given the body"
    assert at.events() == ["taken", "handed-over"]


async def test_handing_over_moves_the_delivery_of_our_own_package(at: Opened) -> None:
    await at.store.submit(submission(OFFICE, OTHER_OFFICE))
    (first, _second) = await at.offer(HUB)
    await at.settle(HUB, Settled.TAKEN, [first])
    assert at.rows("SELECT recipient,state FROM delivery ORDER BY 1") == [("H54.02", "moving"), ("H54.03", "queued")]
    assert at.one("SELECT ended_ms FROM envelope") is None, "the origin keeps a package until its final verdict (decision 14)"


async def put_large(at: Opened, text: str) -> StoredBody:
    """An envelope for UNIT whose body is a file, asked for."""
    large = replace(body(text), data=None, file="aa/large")
    await at.store.body_arrived(large, HUB)
    await at.admit(arrival(header(content=large), to(UNIT), inline=False), HUB)
    await at.settle(UNIT, Settled.BODY, await at.offer(UNIT), need=(large.sha256,), due_ms=_DUE)
    return large


async def test_an_envelope_waits_for_its_large_body_until_that_has_crossed(at: Opened) -> None:
    large = await put_large(at, "lớn")
    assert at.rows("SELECT state,in_doubt,due_ms FROM outbox") == [("body", 0, _DUE)]
    assert await at.waiting_for(UNIT) == []
    await at.store.body_crossed(OTHER_UNIT, large.sha256)
    assert await at.waiting_for(UNIT) == []
    await at.store.body_crossed(UNIT, large.sha256)
    assert len(await at.waiting_for(UNIT)) == 1


async def test_an_envelope_is_offered_again_though_nobody_said_that_its_body_crossed(at: Opened) -> None:
    await put_large(at, "lớn")
    at.clock.now_ms = _DUE
    assert len(await at.waiting_for(UNIT)) == 1


async def test_a_small_body_crosses_a_link_once_unless_the_neighbour_asks_for_it(at: Opened) -> None:
    """Decision 7: whoever asks for a body has it not, whatever we believed."""
    small = body("nhỏ")
    await at.admit(arrival(header(content=small), to(UNIT), content=small), HUB)
    assert await at.inline_bodies(UNIT, small.sha256) == {small.sha256: small.data}
    await at.hand_over(UNIT)
    assert await at.inline_bodies(UNIT, small.sha256) == {}
    assert await at.inline_bodies(OTHER_UNIT, small.sha256) != {}
    await at.admit(arrival(header(content=small), to(UNIT), content=small), HUB)
    await at.settle(UNIT, Settled.BODY, await at.offer(UNIT), need=(small.sha256,), due_ms=_DUE)
    assert len(await at.waiting_for(UNIT)) == 1, "it is offered again at once, with its body"
    assert await at.inline_bodies(UNIT, small.sha256) != {}


async def test_children_that_are_given_the_same_body_in_one_commit_share_one_copy_of_it(at: Opened) -> None:
    """A country-wide broadcast lies in memory once and not once for each child."""
    children = [org(f"H41.{number:02}") for number in range(10, 14)]
    asked = [at.store.ask(child, EVERYTHING, stands=True) for child in children]
    await at.store.drain()
    await at.admit(arrival(header(*children), {child: to(child) for child in children}), HUB)
    offers = await asyncio.gather(*asked)
    copies = {id(content) for offer in offers if offer is not None for content in offer.bodies.values()}
    assert len(copies) == 1
    assert all(offer is not None and offer.bodies == {body().sha256: body().data} for offer in offers)


async def test_a_body_is_served_only_to_who_is_offered_an_envelope_that_names_it(at: Opened) -> None:
    """Decision 7."""
    content = body("chỉ cho H41.07")
    await at.admit(arrival(header(content=content), to(UNIT), content=content), HUB)
    assert await at.store.offered_body(UNIT, content.sha256) == (None, content.data, content.size)
    assert await at.store.offered_body(OTHER_UNIT, content.sha256) is None
    await at.hand_over(UNIT)
    assert await at.store.offered_body(UNIT, content.sha256) is None


async def test_what_cannot_cross_because_its_body_is_damaged_is_held(at: Opened) -> None:
    """QĐ 28/2018 Điều 6.1: a damaged copy is never delivered, and a person hears of it."""
    large = await put_large(at, "hỏng")
    assert await at.store.hold_body(OTHER_UNIT, large.sha256, "body-damaged") == 0
    assert await at.store.hold_body(UNIT, large.sha256, "body-damaged") == 1
    assert at.rows("SELECT state,reason FROM outbox") == [("held", "body-damaged")]


async def test_a_refused_row_ends_with_one_notice_on_its_way_in_the_same_commit(at: Opened) -> None:
    """Decision 11: each end sends exactly one notice home; decision 5: the presenter alone sends it."""
    head = header(origin=H54, sender=org("H54.02"))
    await at.admit(arrival(head, to(UNIT)), HUB)
    offered = await at.offer(UNIT)
    end = End(Transport.REFUSED, NOW_MS, Reason.RECIPIENT_UNKNOWN)
    content = body("thông báo")
    notice = header(H54, content=content, kind="notice", sender=H41, expires_ms=0)
    home = Homeward(end, (EndOf(H54, head.id, OFFICE, end),), notice=local(notice, {H54: HUB}, content))
    commits = at.tally.value("truc_commits_total")
    await at.settle(UNIT, Settled.ENDED, offered, reason=Reason.RECIPIENT_UNKNOWN, home=home)
    assert at.tally.value("truc_commits_total") == commits + 1
    assert at.rows("SELECT neighbour,recipient,expires_ms FROM outbox") == [("", "H54", 0)]
    assert at.rows("SELECT event,organ,reason FROM ledger") == [("refused", "H54.02", "recipient-unknown")]
    assert at.events("refused") == ["refused"]
    await at.settle(UNIT, Settled.ENDED, offered, home=home)
    assert at.count("outbox") == 1, "the row is gone: no second notice"


async def test_a_verdict_for_a_row_that_ended_meanwhile_changes_nothing(at: Opened) -> None:
    await put(at)
    offered = await at.offer(UNIT)
    await at.settle(UNIT, Settled.TAKEN, offered)
    for settled in (Settled.TAKEN, Settled.LATER, Settled.HELD, Settled.IN_DOUBT):
        await at.settle(UNIT, settled, offered, reason=Reason.NOT_NOW)
    assert at.count("outbox") == 0
    assert at.events() == ["taken", "handed-over"]


@pytest.mark.parametrize("settled", [Settled.LATER, Settled.UNSENT, Settled.HELD])
async def test_a_row_that_has_another_way_meanwhile_is_settled_by_the_new_neighbour(at: Opened, settled: Settled) -> None:
    """Decision 6: the first one's word says nothing about what the second was offered."""
    await put(at)
    offered = await at.offer(UNIT)
    await at.store.reroute(offered[0].item, OTHER_UNIT)
    await at.offer(OTHER_UNIT)
    await at.settle(UNIT, settled, offered, reason=Reason.NOT_NOW, due_ms=_DUE)
    assert at.rows("SELECT neighbour,state,in_doubt,attempts FROM outbox") == [(str(OTHER_UNIT), "waiting", 1, 0)]
    await at.depths_are_right()


async def test_a_row_that_has_another_way_meanwhile_is_gone_all_the_same_where_the_first_neighbour_took_it(at: Opened) -> None:
    await put(at)
    offered = await at.offer(UNIT)
    await at.store.reroute(offered[0].item, OTHER_UNIT)
    await at.settle(UNIT, Settled.TAKEN, offered)
    assert at.count("outbox") == 0
    assert at.one("SELECT handed_to FROM seen") == str(UNIT)
    await at.depths_are_right()


@pytest.mark.parametrize(
    ("what", "value"), [("outbox SET recipient", "h41-07"), ("envelope SET origin", "?"), ("envelope SET hops", "[[1]]")]
)
async def test_a_row_that_cannot_be_read_is_held_and_stops_nobody(at: Opened, what: str, value: str) -> None:
    """A damaged disk, or an older program's row: a person looks at it, the next ones go on."""
    bad = await put(at)
    await at.tamper(f"UPDATE {what}=?", value)
    alone = await at.store.ask(UNIT, EVERYTHING, stands=False)
    assert alone is not None
    assert (alone.rows, alone.aside) == ([], 1)
    good = await put(at)
    assert [row.item for row in await at.offer(UNIT)] == [good]
    assert at.rows("SELECT item,state,reason FROM outbox ORDER BY item") == [(bad, "held", "internal"), (good, "waiting", "")]
    assert "held" in at.events()
    await at.depths_are_right()


async def test_a_row_whose_header_is_none_any_more_can_be_held(at: Opened) -> None:
    """The neighbour calls it bad, and nobody can say under what to count it: the journal says so."""
    await put(at)
    offered = await at.offer(UNIT)
    await at.tamper("UPDATE envelope SET header=?", b"{}")
    await at.settle(UNIT, Settled.HELD, offered, reason=Reason.WIRE_MALFORMED)
    assert at.rows("SELECT state,reason FROM outbox") == [("held", "wire-malformed")]
    assert at.events()[-2:] == ["held", "not-counted"]


async def test_what_an_operator_holds_while_it_is_on_the_road_stays_held_unless_it_was_taken(at: Opened) -> None:
    held, gone = await put(at), await put(at)
    offered = await at.offer(UNIT)
    assert await at.store.act_queue("hold", [held, gone], None, "anh Ba", "kiểm tra") == 2
    await at.settle(UNIT, Settled.LATER, offered[:1], due_ms=_DUE, reason=Reason.NOT_NOW)
    await at.settle(UNIT, Settled.TAKEN, offered[1:])
    assert at.rows("SELECT item,state,reason FROM outbox") == [(held, "held", "operator: kiểm tra")]


# --- when to offer ---------------------------------------------------------------------------------------------------------


async def test_a_row_is_offered_when_it_is_due(at: Opened) -> None:
    item = await put(at)
    await at.settle(UNIT, Settled.LATER, await at.offer(UNIT), due_ms=_DUE)
    assert await at.waiting_for(UNIT) == []
    assert await at.next_due(UNIT, NOW_MS) == _DUE
    assert await at.next_due(OTHER_UNIT, NOW_MS) is None
    at.clock.now_ms = _DUE
    assert await at.waiting_for(UNIT) == [item]
    assert await at.next_due(UNIT, _DUE - 1) == _DUE, "asked for what was not due at the last look"
    assert await at.next_due(UNIT, _DUE) is None


async def test_a_due_time_further_off_than_any_wait_means_now(at: Opened) -> None:
    """Decision 11: a clock that was a year ahead wrote it."""
    item = await put(at)
    await at.settle(UNIT, Settled.LATER, await at.offer(UNIT), due_ms=NOW_MS + DUE_FURTHEST_MS + 1)
    assert await at.waiting_for(UNIT) == [item]
    await at.settle(UNIT, Settled.LATER, await at.offer(UNIT), due_ms=NOW_MS + DUE_FURTHEST_MS)
    assert await at.waiting_for(UNIT) == []


async def test_a_new_session_makes_everything_due_but_what_is_held(at: Opened) -> None:
    """Decision 8: a restored link finds everything ready, whatever the backoff said."""
    later, held, other = await put(at), await put(at), await put(at, neighbour=OTHER_UNIT)
    await at.settle(UNIT, Settled.LATER, await at.offer(UNIT, [later]), due_ms=_DUE)
    await at.settle(UNIT, Settled.HELD, await at.offer(UNIT, [held]), reason=Reason.INTERNAL)
    await at.settle(OTHER_UNIT, Settled.LATER, await at.offer(OTHER_UNIT, [other]), due_ms=_DUE)
    await at.store.session_began(UNIT)
    assert await at.waiting_for(UNIT) == [later]
    assert await at.waiting_for(OTHER_UNIT) == []


async def test_what_waited_for_a_body_is_offered_again_after_a_restart(at: Opened) -> None:
    await put_large(at, "lớn")
    assert at.rows("SELECT state FROM outbox") == [("body",)]
    await at.store.prepare(H41)
    assert at.rows("SELECT state FROM outbox") == [("waiting",)]


async def test_an_offered_row_carries_all_that_its_envelope_needs(at: Opened) -> None:
    """Decision 7: one envelope per link; recipients of one envelope are rows of one envelope."""
    head = header(OFFICE, OTHER_OFFICE)
    await at.admit(arrival(head, to(UNIT)), HUB)
    lanes = await at.candidates(UNIT, bytes_max=1 << 20, rows_max=10, after={})
    first, second = lanes[Lane.NORMAL]
    assert first.envelope == second.envelope
    assert first.bytes == second.bytes > 500, "whichever stands first in a batch brings header and body"
    one, two = await at.offer(UNIT)
    assert (one.id, one.origin, one.recipient, two.recipient) == (head.id, H41, OFFICE, OTHER_OFFICE)
    assert one.bodies == head.bodies
    assert await at.store.chain(one.certificate) is not None


async def test_an_update_does_not_overtake_its_elder_in_one_batch_though_only_it_can_be_written_by_the_batch(at: Opened) -> None:
    """Decision 9: the elder also stays here in part, so it goes one by one."""
    elder = header(OFFICE, UNIT, document_id="12")
    update = header(OFFICE, document_id="12", business=Business.UPDATE)
    other = header(OTHER_OFFICE, document_id="13")
    mixed = arrival(elder, {OFFICE: to(OTHER_UNIT), UNIT: Deliver()})
    await at.store.admit([mixed, arrival(update, to(OTHER_UNIT)), arrival(other, to(OTHER_UNIT))], HUB)
    order = [id_ for (id_,) in at.rows("SELECT e.id FROM outbox o JOIN envelope e ON e.seq=o.envelope ORDER BY o.item")]
    assert order.index(elder.id) < order.index(update.id)

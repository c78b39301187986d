"""What a store owes whoever hands it documents: custody at commit, one answer per key, a ticket for every body."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.adapters.sqlite import admission
from node.adapters.sqlite.store import WrongNode
from node.core.custody import Admitted, DoorRefusal, End, EndOf, Homeward, Settled, Settlement, Stored, StoredBody
from node.core.envelope import Header
from node.core.errors import Reason
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.package import Business
from node.core.routing import Decision, Deliver, Forward, Refuse
from node.core.wire import Outcome, Verdict
from tests.adapters.pki import NOW_MS
from tests.contracts.opened import Opened, opened
from tests.making import (
    CHAIN,
    DAY_MS,
    H41,
    HUB,
    KEY,
    OFFICE,
    OTHER_OFFICE,
    arrival,
    body,
    envelope,
    header,
    org,
    received_by,
    submission,
)

TAKEN = Verdict(Outcome.TAKEN)
UNIT, OTHER_UNIT = org("H41.07"), org("H41.08")
"""Two children of H41; its parent is the hub."""
DOWN, UP = Forward(UNIT), Forward(HUB)


def outcomes(admitted: Admitted) -> dict[str, str]:
    return {str(code): verdict.outcome.value for code, verdict in admitted.verdicts.items()}


# --- decision 3: custody passes at commit ----------------------------------------------------------------------------------


async def test_what_is_answered_taken_is_in_the_file_with_all_that_belongs_to_it(at: Opened) -> None:
    """Decision 3: nothing is answered "taken" before one commit holds the rows and every body they name."""
    head = header()
    commits = at.tally.value("truc_commits_total")
    admitted = await at.admit(arrival(head, DOWN), HUB)
    assert admitted.verdicts == {OFFICE: TAKEN}
    assert at.rows("SELECT DISTINCT neighbour FROM outbox") == [(str(UNIT),)]
    assert at.tally.value("truc_commits_total") == commits + 1
    assert at.rows("SELECT recipient,neighbour,state,in_doubt FROM outbox") == [("H54.02", "H41.07", "waiting", 0)]
    assert at.one("SELECT data FROM body") == body().data
    assert at.one("SELECT header FROM envelope") == envelope(head).header_bytes
    assert at.one("SELECT chain FROM certificate WHERE digest=?", KEY) == CHAIN
    assert at.rows("SELECT id,recipient,handed_to FROM seen") == [(head.id, "H54.02", None)]
    assert at.events() == ["taken"]


async def test_a_submission_is_one_commit_with_its_deliveries_and_its_ledger_rows(at: Opened) -> None:
    """Decision 12: ledger rows are written in the transaction of the event. # QĐ 28/2018 Điều 11"""
    commits = at.tally.value("truc_commits_total")
    stored = await at.store.submit(submission(OFFICE, OTHER_OFFICE))
    assert not stored.repeated
    assert at.rows("SELECT DISTINCT neighbour FROM outbox") == [(str(HUB),)]
    assert at.tally.value("truc_commits_total") == commits + 1
    assert at.rows("SELECT recipient,state FROM delivery ORDER BY recipient") == [("H54.02", "queued"), ("H54.03", "queued")]
    assert at.rows("SELECT event,organ,counterpart FROM ledger ORDER BY counterpart") == [
        ("sent", "H41.07", "H54.02"),
        ("sent", "H41.07", "H54.03"),
    ]


async def test_an_envelope_for_an_office_here_lies_in_its_mailbox_at_the_answer(at: Opened) -> None:
    await at.admit(arrival(header(UNIT), Deliver()), HUB)
    (waiting,) = await at.store.waiting([UNIT], "edoc", 10)
    assert (waiting.recipient, waiting.state) == ("H41.07", "initial")
    assert at.rows("SELECT event,organ,counterpart FROM ledger") == [("arrived", "H41.07", "H41.07")]


async def test_the_answer_survives_a_restart(tmp_path: Path) -> None:
    head = header()
    async with opened(tmp_path / "node.db") as before:
        await before.admit(arrival(head, DOWN), HUB)
    async with opened(tmp_path / "node.db") as after:
        assert (await after.admit(arrival(head, DOWN), HUB)).duplicates == 1
        assert after.count("outbox") == 1


# --- decision 4: at least once on every link, once at every door -----------------------------------------------------------


@pytest.mark.parametrize("presenter", [HUB, OTHER_UNIT])
async def test_a_known_key_is_answered_with_the_first_outcome_whoever_presents_it(at: Opened, presenter: OrgId) -> None:
    """Decision 4: and nothing is stored, sent on or counted as arrived a second time. Threats, row 19."""
    head = header(UNIT)
    await at.admit(arrival(head), HUB)
    before = at.rows("SELECT * FROM envelope"), at.rows("SELECT * FROM mailbox"), at.rows("SELECT * FROM seen")
    again = await at.admit(arrival(head), presenter)
    assert (again.verdicts, again.duplicates) == ({UNIT: TAKEN}, 1)
    assert (at.rows("SELECT * FROM envelope"), at.rows("SELECT * FROM mailbox"), at.rows("SELECT * FROM seen")) == before
    assert at.rows("SELECT event,count(*) FROM ledger GROUP BY event") == [("arrived", 1), ("duplicate", 1)]


async def test_a_copy_of_what_is_long_delivered_is_still_known(at: Opened) -> None:
    head = header(UNIT)
    await at.admit(arrival(head), HUB)
    (item,) = await at.store.items_of([UNIT], head.doc_id)
    await at.store.fetched(item.item)
    await at.store.collect(item.item, Homeward(End(Transport.COLLECTED, NOW_MS)))
    at.clock.now_ms += 20 * DAY_MS
    await at.store.forget(handed_over_ms=0, collected_ms=0, sent_ms=0, evidence_ms=0, limit=100)
    assert at.count("envelope") == 0
    assert (await at.admit(arrival(head), HUB)).duplicates == 1
    assert await at.store.count([UNIT], "edoc") == 0


async def test_the_key_is_origin_and_id_and_recipient(at: Opened) -> None:
    """Decision 4: another origin's envelope of the same id, and another recipient of the same envelope, are first copies."""
    head = header(OFFICE, OTHER_OFFICE)
    assert (await at.admit(arrival(head, DOWN, remaining=[OFFICE]), HUB)).duplicates == 0
    assert (await at.admit(arrival(replace(head, origin=org("H54")), DOWN, remaining=[OFFICE]), HUB)).duplicates == 0
    second = await at.admit(arrival(head, DOWN), HUB)
    assert (outcomes(second), second.duplicates) == ({"H54.02": "taken", "H54.03": "taken"}, 1)
    assert at.rows("SELECT origin,recipient FROM seen ORDER BY 1,2") == [
        ("H41", "H54.02"),
        ("H41", "H54.03"),
        ("H54", "H54.02"),
    ]


async def test_only_taken_is_remembered(at: Opened) -> None:
    """Decision 4: what was refused, postponed or lacked a body may come again and be judged by what holds then."""
    head = header()
    refuse = Refuse(Reason.RECIPIENT_UNKNOWN)
    assert outcomes(await at.admit(arrival(head, refuse), HUB)) == {"H54.02": "refused"}
    later = Verdict(Outcome.LATER, retry_s=30)
    assert outcomes(await at.admit(arrival(head, DOWN, later=later), HUB)) == {"H54.02": "later"}
    assert outcomes(await at.admit(arrival(head, DOWN, inline=False), HUB)) == {"H54.02": "need"}
    assert at.count("seen") == at.count("envelope") == at.count("outbox") == 0
    assert outcomes(await at.admit(arrival(head, DOWN), HUB)) == {"H54.02": "taken"}


async def test_the_same_copy_twice_in_one_batch_is_taken_once(at: Opened) -> None:
    head = header()
    first, second = await at.store.admit([arrival(head, DOWN), arrival(head, DOWN)], HUB)
    assert (first.duplicates, second.duplicates) == (0, 1)
    assert at.count("outbox") == 1


async def test_what_the_neighbour_itself_was_handed_comes_back_and_is_routed_anew(at: Opened) -> None:
    """Decision 4: presented by the very neighbour it was handed to, custody reopens, exempt from the rules for a first copy."""
    head = header()
    await at.admit(arrival(head, DOWN), HUB)
    await at.hand_over(UNIT)
    back = arrival(head, Refuse(Reason.LOOP), anew=Forward(OTHER_UNIT), hops=[H41, UNIT])
    admitted = await at.admit(back, UNIT)
    assert (admitted.verdicts, admitted.comebacks, admitted.duplicates) == ({OFFICE: TAKEN}, 1, 0)
    assert at.rows("SELECT DISTINCT neighbour FROM outbox") == [(str(OTHER_UNIT),)]
    assert at.rows("SELECT neighbour,state FROM outbox") == [("H41.08", "waiting")]
    assert at.one("SELECT handed_to FROM seen") is None
    assert at.events("come-back") == ["come-back"]
    assert (await at.admit(back, UNIT)).duplicates == 1, "it is ours again: a second such copy is a repeat"


async def test_what_was_handed_to_another_neighbour_does_not_come_back(at: Opened) -> None:
    head = header()
    await at.admit(arrival(head, DOWN), HUB)
    await at.hand_over(UNIT)
    for presenter in (OTHER_UNIT, HUB):
        assert (await at.admit(arrival(head, Forward(HUB), anew=Forward(HUB)), presenter)).duplicates == 1
    assert at.count("outbox") == 0


@pytest.mark.parametrize(
    ("way", "anew", "outcome"),
    [
        ([H41, UNIT, HUB, H41], Forward(OTHER_UNIT), "taken"),
        ([H41, UNIT, HUB, H41], DOWN, "refused"),  # it would go round once more
        ([H41, OTHER_UNIT, HUB, H41], Forward(OTHER_UNIT), "repeated"),  # another copy: ours is where we gave it
    ],
)
async def test_what_comes_round_by_others_from_whom_it_was_handed_to_is_ours_again(
    at: Opened, way: list[OrgId], anew: Decision, outcome: str
) -> None:
    """Units and their parents have moved until the road was a circle. Said taken to, as to a copy, nobody would have it."""
    head = header()
    await at.admit(arrival(head, DOWN), HUB)
    await at.hand_over(UNIT)
    admitted = await at.admit(arrival(head, Refuse(Reason.LOOP), anew=anew, hops=way), HUB)
    assert {"repeated" if admitted.duplicates else outcomes(admitted)["H54.02"]} == {outcome}
    assert admitted.comebacks == at.count("outbox") == (1 if outcome == "taken" else 0)


@pytest.mark.parametrize(("held", "outcome"), [(False, "later"), (True, "taken")])
async def test_what_comes_round_before_its_neighbour_has_answered_waits_until_we_have_heard(
    at: Opened, held: bool, outcome: str
) -> None:
    """Or its answer would make us forget what we have just called a copy. What a person has to decide is ours as it is."""
    head = header()
    await at.admit(arrival(head, DOWN), HUB)
    (row,) = await at.offer(UNIT)
    if held:
        await at.store.settle(UNIT, [Settlement(row.item, Settled.HELD, reason=Reason.WIRE_MALFORMED, was_in_doubt=True)])
    round_ = arrival(head, Refuse(Reason.LOOP), anew=Forward(OTHER_UNIT), hops=[H41, UNIT, HUB, H41])
    assert outcomes(await at.admit(round_, HUB)) == {"H54.02": outcome}
    assert at.count("outbox") == 1


async def test_what_is_not_yet_confirmed_by_the_neighbour_does_not_come_back(at: Opened) -> None:
    """Its copy is in doubt here: it must not forget the document before we know that it was handed over, nor we keep two."""
    head = header()
    await at.admit(arrival(head, DOWN), HUB)
    await at.offer(UNIT)
    admitted = await at.admit(arrival(head, UP, anew=UP, hops=[H41, UNIT, H41]), UNIT)
    assert [verdict.outcome for verdict in admitted.verdicts.values()] == [Outcome.LATER]
    assert at.rows("SELECT neighbour,in_doubt FROM outbox") == [("H41.07", 1)]


async def test_two_nodes_that_offer_each_other_the_same_copy_do_not_wait_for_each_other_for_ever(at: Opened) -> None:
    """We took it from the hub, our answer was lost, and a moved prefix sends it back there: to the hub's repeat we say taken, so
    that it can take it back from us (decision 4)."""
    head = header()
    await at.admit(arrival(head, UP), HUB)
    await at.offer(HUB)
    assert (await at.admit(arrival(head, DOWN), HUB)).verdicts == {OFFICE: TAKEN}
    assert at.rows("SELECT neighbour FROM outbox") == [("",)]


async def test_what_we_give_back_and_are_offered_again_before_we_heard_of_it_is_kept_by_one_of_the_two(at: Opened) -> None:
    """Two directories disagree: the hub has taken it back from us, and presents it again before its answer is here. Said taken
    to, it would forget the document, and so would we at its answer: nobody would have it."""
    head = header()
    await at.admit(arrival(head, UP, hops=[HUB, H41]), HUB)
    await at.offer(HUB)
    again = arrival(head, UP, anew=UP, hops=[HUB, H41, HUB, H41])
    assert [verdict.outcome for verdict in (await at.admit(again, HUB)).verdicts.values()] == [Outcome.LATER]


@pytest.mark.parametrize(("neighbour", "outcome"), [(HUB, Outcome.LATER), (UNIT, Outcome.TAKEN)])
async def test_of_two_copies_that_went_different_ways_the_lesser_node_keeps_its_own(
    at: Opened, neighbour: OrgId, outcome: Outcome
) -> None:
    head = header()
    await at.admit(arrival(head, Forward(neighbour), hops=[org("H54"), H41]), OTHER_UNIT)
    await at.offer(neighbour)
    other = arrival(head, Forward(neighbour), hops=[org("H01"), neighbour, H41])
    assert [verdict.outcome for verdict in (await at.admit(other, neighbour)).verdicts.values()] == [outcome]


async def test_what_comes_back_to_the_neighbour_it_would_go_to_waits_there(at: Opened) -> None:
    """Two directories disagree: it does not go to and fro until its hops are used up."""
    head = header()
    await at.admit(arrival(head, DOWN), HUB)
    await at.hand_over(UNIT)
    back = arrival(head, Refuse(Reason.LOOP), anew=DOWN, hops=[H41, UNIT, H41])
    assert (await at.admit(back, UNIT)).verdicts == {OFFICE: Verdict(Outcome.REFUSED, reason=Reason.LOOP)}
    assert at.rows("SELECT handed_to FROM seen") == [("H41.07",)]


async def test_one_of_two_recipients_may_come_back_alone(at: Opened) -> None:
    """Decision 5: verdicts and custody are per recipient. The other one's row keeps the way it has come."""
    head = header(OFFICE, OTHER_OFFICE)
    await at.admit(arrival(head, {OFFICE: DOWN, OTHER_OFFICE: Forward(OTHER_UNIT)}), HUB)
    await at.hand_over(UNIT)
    back = arrival(head, Refuse(Reason.LOOP), anew=Forward(OTHER_UNIT), remaining=[OFFICE], hops=[H41, UNIT, H41])
    assert (await at.admit(back, UNIT)).comebacks == 1
    offered = {str(row.recipient): row for row in await at.offer(OTHER_UNIT)}
    assert [hop.node for hop in offered["H54.02"].hops] == [H41, UNIT, H41], "bounded by hops: they must grow"
    assert [hop.node for hop in offered["H54.03"].hops] == [H41]


async def test_a_come_back_whose_body_is_missing_leaves_no_trace_but_the_question(at: Opened) -> None:
    head = header()
    await at.admit(arrival(head, DOWN), HUB)
    await at.hand_over(UNIT)
    at.clock.now_ms += 2 * DAY_MS
    await at.store.forget(handed_over_ms=0, collected_ms=0, sent_ms=0, evidence_ms=0, limit=100)
    for _ in range(3):
        back = await at.admit(arrival(head, anew=UP, inline=False), UNIT)
        assert (outcomes(back), back.comebacks) == ({"H54.02": "need"}, 0)
    assert at.events("come-back") == []
    assert (await at.admit(arrival(head, anew=UP), UNIT)).comebacks == 1


async def test_the_same_key_with_another_digest_is_an_alarm_and_never_taken(at: Opened) -> None:
    """Decision 4."""
    head = header(OFFICE, OTHER_OFFICE)
    await at.admit(arrival(head, DOWN, remaining=[OFFICE]), HUB)
    forged = replace(head, sender=org("H41.09"))
    for _ in range(2):
        admitted = await at.admit(arrival(forged, DOWN), HUB)
        assert admitted.conflicts == 1
        assert set(admitted.verdicts.values()) == {Verdict(Outcome.REFUSED, reason=Reason.DIGEST_CONFLICT)}
        await at.hand_over(UNIT)
        at.clock.now_ms += 20 * DAY_MS
        await at.store.forget(handed_over_ms=0, collected_ms=0, sent_ms=0, evidence_ms=0, limit=100)
    assert at.count("envelope") == 0, "known by its outcome alone, the second time"
    assert at.events("digest-conflict") == ["digest-conflict"] * 2


# --- decision 5: verdicts are per (envelope, recipient) --------------------------------------------------------------------


async def test_each_recipient_of_one_envelope_gets_its_own_verdict(at: Opened) -> None:
    """Decision 5. One unknown receiver does not stop the others. # QĐ 28/2018 Điều 8.2"""
    known, gone, here = OFFICE, OTHER_OFFICE, UNIT
    head = header(known, gone, here)
    await at.admit(arrival(head, DOWN, remaining=[known]), HUB)
    refuse = Refuse(Reason.RECIPIENT_UNKNOWN)
    admitted = await at.admit(arrival(head, {known: DOWN, gone: refuse, here: Deliver()}), HUB)
    assert admitted.verdicts == {
        known: TAKEN,
        gone: Verdict(Outcome.REFUSED, reason=Reason.RECIPIENT_UNKNOWN),
        here: TAKEN,
    }
    assert at.rows("SELECT recipient FROM outbox") == [("H54.02",)]
    assert at.rows("SELECT recipients FROM mailbox") == [('["H41.07"]',)]
    assert at.rows("SELECT recipient FROM seen ORDER BY 1") == [("H41.07",), ("H54.02",)]


@pytest.mark.parametrize(
    "judgement",
    [
        {"route": Refuse(Reason.EXPIRED)},
        {"route": DOWN, "later": Verdict(Outcome.LATER, reason=Reason.DISK_FULL, retry_s=30)},
        {"route": DOWN, "inline": False, "chain": None},
    ],
)
async def test_a_copy_whose_answer_was_lost_hears_the_first_outcome_not_what_we_think_today(
    at: Opened, judgement: dict[str, object]
) -> None:
    """Decision 4: refusals and `later` are for first copies; else the presenter would end what was delivered."""
    head = header()
    await at.admit(arrival(head, DOWN), HUB)
    assert (await at.admit(arrival(head, **judgement), HUB)).verdicts == {OFFICE: TAKEN}  # type: ignore[arg-type]


async def test_one_envelope_that_cannot_be_stored_does_not_stop_its_neighbours(at: Opened) -> None:
    """An error nobody classified is `later` for that one; after enough attempts the presenter holds it for a person."""
    good, bad, last = header(), header(), header()
    broken = replace(arrival(bad, DOWN), judged={})
    first, second, third = await at.store.admit([arrival(good, DOWN), broken, arrival(last, DOWN)], HUB)
    assert (outcomes(first), outcomes(third)) == ({"H54.02": "taken"}, {"H54.02": "taken"})
    assert second.verdicts[OFFICE].outcome is Outcome.LATER
    assert second.verdicts[OFFICE].reason is Reason.INTERNAL
    assert at.rows("SELECT id FROM envelope ORDER BY seq") == [(good.id,), (last.id,)]
    assert await at.store.verify_chain() is None


# --- decision 7: a digest is no ticket to a file ---------------------------------------------------------------------------


async def test_a_body_that_is_not_here_is_asked_for(at: Opened) -> None:
    head = header()
    admitted = await at.admit(arrival(head, DOWN, inline=False), HUB)
    assert admitted.verdicts == {OFFICE: Verdict(Outcome.NEED, need=(head.bodies[0].sha256,))}


async def test_a_body_held_from_another_neighbour_does_not_count(at: Opened) -> None:
    """Decision 7: who only knows a digest must not get at the file, nor learn that we have it."""
    content = body("văn bản của cơ quan khác")
    await at.admit(arrival(header(content=content), DOWN, content=content), HUB)
    curious = header(UNIT, content=content)
    asked = await at.admit(arrival(curious, content=content, inline=False), OTHER_UNIT)
    assert outcomes(asked) == {"H41.07": "need"}
    assert not await at.store.holds_body_of(OTHER_UNIT, content.sha256)
    assert await at.store.holds_body_of(HUB, content.sha256)
    assert outcomes(await at.admit(arrival(curious, content=content), OTHER_UNIT)) == {"H41.07": "taken"}
    assert at.count("body") == 1


async def test_a_body_the_neighbour_itself_has_sent_is_not_asked_for_again(at: Opened) -> None:
    content = body("gửi hai lần")
    await at.admit(arrival(header(content=content), DOWN, content=content), HUB)
    assert outcomes(await at.admit(arrival(header(content=content), DOWN, content=content, inline=False), HUB)) == {
        "H54.02": "taken"
    }


async def test_a_body_the_neighbour_was_given_is_not_asked_for_when_the_envelope_comes_back(at: Opened) -> None:
    head = header()
    await at.admit(arrival(head, DOWN), HUB)
    await at.hand_over(UNIT)
    assert outcomes(await at.admit(arrival(head, anew=UP, inline=False), UNIT)) == {"H54.02": "taken"}


async def test_a_body_that_crossed_by_itself_answers_the_question(at: Opened, tmp_path: Path) -> None:
    content = body("tệp lớn")
    head = header(content=content)
    assert outcomes(await at.admit(arrival(head, DOWN, inline=False), HUB)) == {"H54.02": "need"}
    crossed = StoredBody(content.sha256, content.size, file="aa/bb")
    assert await at.store.body_arrived(crossed, HUB) == ()
    assert await at.store.holds_body_of(HUB, content.sha256)
    assert outcomes(await at.admit(arrival(head, DOWN, inline=False), HUB)) == {"H54.02": "taken"}
    assert await at.store.body_arrived(replace(crossed, file="aa/cc"), OTHER_UNIT) == ("aa/cc",), "stored once per node"


async def test_a_chain_that_nobody_has_shown_is_asked_for(at: Opened) -> None:
    assert (await at.admit(arrival(header(), DOWN, chain=None), HUB)).verdicts[OFFICE].need == (KEY,)
    await at.admit(arrival(header(), DOWN), HUB)
    assert outcomes(await at.admit(arrival(header(), DOWN, chain=None), HUB)) == {"H54.02": "taken"}


async def test_what_the_destination_could_not_look_at_is_asked_for_though_it_has_come_meanwhile(at: Opened) -> None:
    """Between the judgement and the commit another batch may bring the chain: the signature was not verified all the same."""
    await at.admit(arrival(header(), DOWN), HUB)
    unread = arrival(header(UNIT), chain=None, unseen=(KEY,))
    assert (await at.admit(unread, HUB)).verdicts == {UNIT: Verdict(Outcome.NEED, need=(KEY,))}
    assert at.count("mailbox") == 0


# --- the repeat window at the door -----------------------------------------------------------------------------------------


async def test_the_same_file_from_the_same_system_within_a_day_is_the_same_document(at: Opened) -> None:
    content = StoredBody("ce" * 32, 300_000, file="ce/first")
    first = await at.store.submit(submission(content=content))
    at.clock.now_ms += DAY_MS - 1000
    copy = replace(content, file="ce/second")
    second = await at.store.submit(submission(content=copy, repeat_since_ms=at.clock.now_ms - DAY_MS))
    assert (second.doc_id, second.repeated) == (first.doc_id, True)
    assert second.orphans == ("ce/second",), "the copy's file is needed by nobody"
    assert at.count("outbox") == at.count("submission") == 1
    assert at.events() == ["accepted", "repeated"]


async def test_another_system_or_another_day_is_another_document(at: Opened) -> None:
    content = body("cùng một tệp")
    ids = {(await at.store.submit(submission(content=content))).doc_id}
    ids.add((await at.store.submit(submission(content=content, system="he-thong-khac"))).doc_id)
    at.clock.now_ms += DAY_MS + 1
    ids.add((await at.store.submit(submission(content=content, repeat_since_ms=at.clock.now_ms - DAY_MS))).doc_id)
    assert len(ids) == at.count("outbox") == 3
    assert at.count("body") == 1, "and the body is stored once"


async def test_a_status_never_repeats_a_document(at: Opened) -> None:
    content = body("cùng một tệp")
    await at.store.submit(submission(content=content))
    assert not (await at.store.submit(submission(content=content, kind="status", expires_ms=0))).repeated


async def test_two_identical_files_in_one_group_commit_are_one_document(at: Opened) -> None:
    content = body("bấm gửi hai lần")
    first, second = await asyncio.gather(
        at.store.submit(submission(content=content)), at.store.submit(submission(content=content))
    )
    assert (first.doc_id, first.repeated, second.repeated) == (second.doc_id, False, True)
    assert at.count("outbox") == 1


# --- packages together -----------------------------------------------------------------------------------------------------

WRITTEN = ("envelope", "body", "envelope_body", "certificate", "outbox", "seen", "submission", "delivery", "journal", "ledger")


async def test_packages_together_leave_the_rows_that_each_would_leave_by_itself(
    at: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [submission(OFFICE, OTHER_OFFICE, document_id="12"), submission(), submission(document_id="12", kind="status")]
    stored = await at.store.submit_many(many)
    assert [each.doc_id for each in stored if isinstance(each, Stored)] == [each.local.envelope.header.doc_id for each in many]
    async with opened(tmp_path / "khac.db") as other:
        monkeypatch.setattr(admission, "_certainly_new", lambda db, submissions: [])
        await other.store.submit_many(many)
        assert [at.rows(f"SELECT * FROM {table}") for table in WRITTEN] == [
            other.rows(f"SELECT * FROM {table}") for table in WRITTEN
        ]
        assert (await at.store.depths())["outbox"] == (await other.store.depths())["outbox"]


async def test_of_packages_together_each_is_what_it_is(at: Opened) -> None:
    """A repeat, one for this node's own mailbox, one with a receiver refused at the door, and one that cannot be written."""
    content = body("gửi hai lần một lúc")
    first = submission(content=content)
    broken = submission(doc_id=first.local.envelope.header.doc_id)
    refused = [DoorRefusal("H26", "000.00.00.H26", Reason.RECIPIENT_CLOSED, "H01")]
    many = [
        first,
        submission(content=content),
        broken,
        submission(UNIT, next_hop=None),
        submission(refused=refused),
        submission(),
    ]
    found = await at.store.submit_many(many)
    assert [each.repeated if isinstance(each, Stored) else each.reason for each in found] == [
        *(False, True, Reason.INTERNAL),
        *(False, False, False),
    ]
    assert at.count("submission") == at.count("envelope") == 4
    assert [waiting.doc_id for waiting in await at.store.waiting([UNIT], "edoc", 10)] == [many[3].local.envelope.header.doc_id]
    again = await at.store.submit_many(many[4:])
    assert [each.repeated for each in again if isinstance(each, Stored)] == [True, True]


async def test_what_is_written_together_overtakes_nothing_of_its_document(at: Opened) -> None:
    """Decision 9: an update stays behind what it updates, though that is written by itself."""
    refused = [DoorRefusal("H26", "000.00.00.H26", Reason.RECIPIENT_CLOSED, "H01")]
    first, second = submission(document_id="12", refused=refused), submission(document_id="12", business=Business.UPDATE)
    await at.store.submit_many([first, second])
    told = at.rows("SELECT e.id FROM outbox o JOIN envelope e ON e.seq=o.envelope ORDER BY o.item")
    assert told == [(first.local.envelope.header.id,), (second.local.envelope.header.id,)]


@pytest.mark.parametrize("change", [{}, {"kind": "status", "expires_ms": 0}, {"kind": "to-trinh"}])
async def test_envelopes_together_leave_the_rows_that_each_would_leave_by_itself(
    at: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """One for an office here, one that goes on, one that does both, and one for two codes that one organ receives for."""
    mixed: dict[OrgId, Decision] = {OFFICE: Deliver(), UNIT: DOWN}
    shared = header(recipients=received_by(OFFICE, *(org("H54.02.09"), org("H54.02.08"))), document_id="12", **change)
    many = [
        *(arrival(header(OFFICE, **change)), arrival(header(OFFICE, **change), DOWN)),
        *(arrival(header(OFFICE, UNIT, document_id="12", **change), mixed), arrival(shared, doc_ids={OFFICE: "cua-he-thong"})),
    ]
    alone = [TAKEN] * len(many)
    found = await at.store.admit(many, HUB)
    assert [set(each.verdicts.values()) for each in found] == [{each} for each in alone]
    async with opened(tmp_path / "khac.db") as other:
        monkeypatch.setattr(admission, "_plain", lambda tx, arrivals: [])
        assert await other.store.admit(many, HUB) == found
        for table in (*WRITTEN, "body_peer", "mailbox"):
            assert at.rows(f"SELECT * FROM {table}") == other.rows(f"SELECT * FROM {table}"), table
        assert await at.store.depths() == await other.store.depths()
        assert await at.store.verify_chain() is None


async def test_what_lies_before_an_office_wakes_it_though_it_came_with_others(at: Opened) -> None:
    asked = at.store.lay_out([OFFICE], "edoc", after=None, limit=10, room_bytes=None, stands=True)
    await at.store.admit([arrival(header(OFFICE)), arrival(header(OTHER_OFFICE))], HUB)
    async with asyncio.timeout(10):
        laid = await asked
    assert laid is not None
    assert len(laid.lines) == 1


async def test_a_receiver_refused_at_the_door_does_not_make_the_file_new(at: Opened) -> None:
    """It never was a delivery: the caller was told at once. # QĐ 28/2018 Điều 7.1"""
    content = body("một Bên nhận đã đóng")
    refused = [DoorRefusal("H26", "000.00.00.H26", Reason.RECIPIENT_CLOSED, "H01")]
    await at.store.submit(submission(content=content, refused=refused))
    assert (await at.store.submit(submission(content=content, refused=refused))).repeated


@pytest.mark.parametrize("state", [Transport.REFUSED, Transport.EXPIRED, Transport.STOPPED])
async def test_a_delivery_that_ended_without_success_makes_the_file_new(at: Opened, state: Transport) -> None:
    content = body("gửi lại sau khi bị trả")
    first = submission(OFFICE, OTHER_OFFICE, content=content)
    await at.store.submit(first)
    await ended(at, first.local.envelope.header, state)
    second = await at.store.submit(submission(OFFICE, OTHER_OFFICE, content=content))
    assert not second.repeated
    assert second.doc_id != first.local.envelope.header.doc_id


async def test_a_collected_delivery_leaves_the_file_a_repeat(at: Opened) -> None:
    content = body("đã đến nơi")
    first = submission(content=content)
    await at.store.submit(first)
    await ended(at, first.local.envelope.header, Transport.COLLECTED)
    assert (await at.store.submit(submission(content=content))).repeated


async def ended(at: Opened, head: Header, state: Transport) -> None:
    """A notice tells H41 how the first recipient's delivery ended."""
    end = EndOf(head.origin, head.id, head.recipients[0].code, End(state, at.clock.now_ms))
    notice = header(H41, kind="notice", sender=org("H54"), origin=org("H54"), expires_ms=0)
    assert outcomes(await at.admit(arrival(notice, ends=(end,)), HUB)) == {"H41": "taken"}


async def test_a_code_written_twice_is_refused_once(at: Opened) -> None:
    """Decision 12: nothing is counted twice."""
    twice = [DoorRefusal("H26", written, Reason.RECIPIENT_CLOSED, "H01") for written in ("H26", "000.00.00.H26")]
    await at.store.submit(submission(refused=twice))
    assert at.rows("SELECT event,count(*) FROM ledger GROUP BY event ORDER BY 1") == [("refused-at-door", 1), ("sent", 1)]
    assert at.events("refused-at-door") == ["refused-at-door"]


# --- whose store it is -----------------------------------------------------------------------------------------------------


async def test_a_database_of_another_node_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    async with opened(path, node=H41) as at:
        await at.admit(arrival(header(), DOWN, inline=True), HUB)
        before = at.rows("SELECT * FROM outbox"), at.rows("SELECT * FROM journal")
    with pytest.raises(WrongNode, match="H54"):
        async with opened(path, node=org("H54")):
            pass
    async with opened(path, node=H41) as at:
        assert (at.rows("SELECT * FROM outbox"), at.rows("SELECT * FROM journal")) == before
        kept = at.rows("SELECT key,value FROM meta WHERE key<>'journal' ORDER BY 1")
        assert kept == [("epoch", "1"), ("node", "H41"), ("starts", "2")]


async def test_a_store_has_an_epoch_from_the_first_day(tmp_path: Path) -> None:
    """Decision 14: the column exists; restoring a backup will raise it."""
    async with opened(tmp_path / "node.db") as at:
        assert at.store.epoch == 1
    with closing(sqlite3.connect(tmp_path / "node.db")) as db, db:
        db.execute("UPDATE meta SET value='7' WHERE key='epoch'")
    async with opened(tmp_path / "node.db") as at:
        assert at.store.epoch == 7

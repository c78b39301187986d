"""Documents on, seen from the parent: what a child's pull gets, what its verdicts do, and what happens when they are lost."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node import forwarder
from node.core.envelope import Lane
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.package import Priority
from node.core.wire import Batch, EnvelopeVerdicts, Outcome, PullRequest, Verdict
from node.forwarder import UNCONFIRMED_MAX, Neighbour
from tests.making import EVERYTHING
from tests.tree import H41, H54, HUB, PATIENCE_S, UNIT, Site, Tree, document, hold, org, planted, refused_with, status

OFFICE = org("H54.02")
TAKEN = Verdict(Outcome.TAKEN)


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    """The hub and a province below it, whose pulls the tests make by hand."""
    async with planted(tmp_path, HUB, H54) as found:
        yield found


class Child:
    """H54 as its parent sees it: pulls with a running number and says of the last batch what it is told to."""

    def __init__(self, site: Site, code: OrgId = H54, session: str = "session-1") -> None:
        self.forwarder = site.duties.forwarder
        self.code = code
        self.session = session
        self.sequence = 0
        self.last = Batch()

    async def pull(self, verdict: Verdict | None = None, *, wait_ms: int = 0, confirm: bool = True, **more: Any) -> Batch:
        """verdict: on every recipient of the last batch; without confirm its answer was lost."""
        said = tuple(
            EnvelopeVerdicts(each.header.origin, each.header.id, dict.fromkeys(each.remaining, verdict))
            for each in self.last.envelopes
            if verdict is not None
        )
        return await self.send(said, wait_ms=wait_ms, confirm=confirm, **more)

    async def send(
        self, said: Sequence[EnvelopeVerdicts], *, wait_ms: int = 0, confirm: bool = True, room: int = 1 << 30
    ) -> Batch:
        confirmed = self.last.sequence if confirm and self.last.envelopes else 0
        self.sequence += 1
        request = PullRequest(self.session, self.sequence, confirmed, tuple(said), room, wait_ms)
        self.last = await self.forwarder.pull(self.code, request)
        return self.last


async def send(tree: Tree, *to: str, **more: Any) -> str:
    """The hub's own office sends a document; returns its docId."""
    return (await tree[HUB].send("vpcp", document(*(to or ("H54.02",)), **{"sender": "G22", **more}))).doc_id


def outbox(site: Site, *columns: str) -> list[tuple[Any, ...]]:
    return site.rows(f"SELECT {','.join(columns)} FROM outbox ORDER BY item")


# --- a slow link -----------------------------------------------------------------------------------------------------------

ROOM = 10_000


async def hoa_toc(tree: Tree, **more: Any) -> str:
    """A hỏa tốc whose body crosses by itself; its digest."""
    data = document("H54.02", sender="G22", priority=Priority.EXPRESS, content=os.urandom(200_000), **more)
    await tree[HUB].send("vpcp", data)
    return hashlib.sha256(data).hexdigest()


async def test_on_a_slow_link_others_go_on_beside_the_body_of_a_hoa_toc_only_as_their_weight_allows(tree: Tree) -> None:
    """Decision 9: the link is the body's, and the others have their share of it, piece by piece."""
    child = Child(tree[HUB])
    digest = await hoa_toc(tree)
    for number in range(30):
        await send(tree, number=str(number), content=os.urandom(1_000))
    first = await child.pull(room=ROOM)
    assert [each.header.priority for each in first.envelopes] == [Priority.EXPRESS]
    assert len((await child.pull(Verdict(Outcome.NEED, (digest,)), room=ROOM)).envelopes) == 1, "their turn, and it is short"
    assert (await child.pull(TAKEN, room=ROOM)).envelopes == (), "the body's turn"
    waiting = asyncio.ensure_future(child.pull(room=ROOM, wait_ms=60_000))
    await asyncio.sleep(0)
    sizes = list[int]()
    for offset in range(0, 150_000, 50_000):
        await tree[HUB].duties.forwarder.get_body(H54, digest, offset, 50_000)
        async with asyncio.timeout(PATIENCE_S):
            batch = await waiting
        sizes.append(sum(map(len, batch.bodies.values())))
        waiting = asyncio.ensure_future(child.pull(TAKEN, room=ROOM, wait_ms=60_000))
    waiting.cancel()
    assert all(0 < size <= ROOM for size in sizes), "each piece of the body lets some of the others go"


async def test_on_a_fast_link_nothing_waits_for_a_body(tree: Tree) -> None:
    child = Child(tree[HUB])
    digest = await hoa_toc(tree)
    await send(tree)
    assert len((await child.pull()).envelopes) == 2
    await send(tree, number="2")
    assert len((await child.pull(Verdict(Outcome.NEED, (digest,)))).envelopes) == 1


async def test_a_body_that_does_not_move_makes_room_again(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "CROSSING_S", 0.05)
    child = Child(tree[HUB])
    digest = await hoa_toc(tree)
    await send(tree)
    await child.pull(room=ROOM)
    async with asyncio.timeout(PATIENCE_S):
        batch = await child.pull(Verdict(Outcome.NEED, (digest,)), room=ROOM, wait_ms=60_000)
    assert [each.header.priority for each in batch.envelopes] == [Priority.NORMAL]


async def test_once_its_envelope_is_taken_nobody_makes_room_for_a_body(tree: Tree) -> None:
    child = Child(tree[HUB])
    digest = await hoa_toc(tree)
    await send(tree)
    await child.pull(room=ROOM)
    await child.pull(Verdict(Outcome.NEED, (digest,)), room=ROOM)
    await tree[HUB].duties.forwarder.get_body(H54, digest, 0, 300_000)
    assert Priority.EXPRESS in {each.header.priority for each in (await child.pull(room=ROOM)).envelopes}
    assert digest in tree[HUB].duties.forwarder.neighbours[H54].crossing
    await child.pull(TAKEN, room=ROOM)
    assert tree[HUB].duties.forwarder.neighbours[H54].crossing == {}


async def test_a_newer_pull_ends_an_older_one_that_waits_for_a_body(tree: Tree) -> None:
    child = Child(tree[HUB])
    digest = await hoa_toc(tree)
    await send(tree)
    await child.pull(room=ROOM)
    older = asyncio.ensure_future(child.pull(Verdict(Outcome.NEED, (digest,)), room=ROOM, wait_ms=60_000))
    while tree[HUB].duties.forwarder.neighbours[H54].asking is None:
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await child.pull(room=ROOM, confirm=False)
        assert (await older).envelopes == ()


# --- a pull and its answer -------------------------------------------------------------------------------------------------


async def test_a_pull_gets_what_waits_and_the_next_one_confirms_it(tree: Tree) -> None:
    child = Child(tree[HUB])
    await send(tree)
    batch = await child.pull()
    assert (batch.sequence, len(batch.envelopes), len(batch.bodies), len(batch.certificates)) == (1, 1, 1, 1)
    assert outbox(tree[HUB], "in_doubt") == [(1,)]
    assert (await child.pull(TAKEN)).envelopes == ()
    assert outbox(tree[HUB], "item") == []
    assert (await tree[HUB].sent("vpcp"))["H54.02"].send_state == "moving"
    assert tree[HUB].tally.value("truc_attempts_total", neighbour="H54", result="taken") == 1


async def test_one_envelope_carries_all_its_receivers_and_a_body_crosses_once(tree: Tree) -> None:
    """Decision 7: one envelope per link, whatever the number of recipients."""
    child = Child(tree[HUB])
    await send(tree, "H54.02", "H54.03", "H54")
    (envelope,) = (await child.pull()).envelopes
    assert [str(code) for code in envelope.remaining] == ["H54.02", "H54.03", "H54"]
    await child.pull(TAKEN)
    assert (await tree[HUB].send("vpcp", document("H54.02", sender="G22"))).repeated is False
    assert len((await child.pull()).bodies) == 1, "another package is another body"


async def test_a_chain_travels_once_in_a_session(tree: Tree) -> None:
    child = Child(tree[HUB])
    await send(tree)
    assert len((await child.pull()).certificates) == 1
    await send(tree, number="2")
    assert (await child.pull(TAKEN)).certificates == {}
    await send(tree, number="3")
    other = Child(tree[HUB], session="second")
    assert len((await other.pull()).certificates) == 1


async def test_a_chain_that_is_asked_for_is_sent_again(tree: Tree) -> None:
    child = Child(tree[HUB])
    await send(tree)
    (envelope,) = (await child.pull()).envelopes
    again = await child.pull(Verdict(Outcome.NEED, need=(envelope.header.key,)))
    assert list(again.certificates) == [envelope.header.key]


async def test_what_a_child_confirms_to_a_full_disk_counts_when_it_says_it_again(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a document that was taken would be offered, and taken, again and again until the disk has room."""
    child = Child(tree[HUB])
    await send(tree)
    assert len((await child.pull()).envelopes) == 1
    store = tree[HUB].store
    really = store.settle

    def full(*_: Any) -> asyncio.Future[None]:
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refused.set_exception(Deferred(30, Reason.DISK_FULL))
        return refused

    monkeypatch.setattr(store, "settle", full)
    for _ in range(2):
        with pytest.raises(Deferred):
            await child.pull(TAKEN)
    monkeypatch.setattr(store, "settle", really)
    assert (await child.pull(TAKEN)).envelopes == ()
    assert outbox(tree[HUB], "item") == []


async def test_a_waiting_pull_is_answered_by_the_next_document(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(tree[HUB])
    begun = waiting_begins(tree, monkeypatch)
    waiting = asyncio.ensure_future(child.pull(wait_ms=60_000))
    await begun.wait()
    await send(tree)
    async with asyncio.timeout(PATIENCE_S):
        assert len((await waiting).envelopes) == 1


def waiting_begins(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when a pull begins to wait for something to come."""
    store, begun = tree[HUB].store, asyncio.Event()
    really = store.ask

    def ask(*values: Any, stands: bool) -> Any:
        if stands:
            begun.set()
        return really(*values, stands=stands)

    monkeypatch.setattr(store, "ask", ask)
    return begun


async def test_a_newer_pull_ends_an_older_one(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most two idle connections per child: the older one is answered at once, with nothing."""
    older, newer = Child(tree[HUB]), Child(tree[HUB])
    begun = waiting_begins(tree, monkeypatch)
    first = asyncio.ensure_future(older.pull(wait_ms=60_000))
    await begun.wait()
    second = asyncio.ensure_future(newer.pull(wait_ms=60_000))
    async with asyncio.timeout(PATIENCE_S):
        assert (await first).envelopes == ()
    await send(tree)
    async with asyncio.timeout(PATIENCE_S):
        assert len((await second).envelopes) == 1


async def test_a_node_that_stops_answers_waiting_pulls_and_sends_new_ones_away(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Child(tree[HUB])
    begun = waiting_begins(tree, monkeypatch)
    waiting = asyncio.ensure_future(child.pull(wait_ms=60_000))
    await begun.wait()
    tree[HUB].duties.forwarder.release()
    async with asyncio.timeout(PATIENCE_S):
        assert (await waiting).envelopes == ()
    with pytest.raises(Deferred) as caught:
        await child.pull()
    assert not caught.value.in_doubt


async def test_a_stranger_gets_nothing(tree: Tree) -> None:
    for call in (
        tree[HUB].duties.forwarder.pull(UNIT, PullRequest("s", 1, 0, (), 0, 0)),
        tree[HUB].duties.forwarder.get_body(UNIT, "ab" * 32, 0, 10),
    ):
        with pytest.raises(Refused) as caught:
            await call
        assert refused_with(caught) is Reason.PEER_UNKNOWN


async def test_hoa_toc_goes_before_what_came_earlier(tree: Tree) -> None:
    """QĐ 28/2018 Điều 6.2"""
    await send(tree)
    await send(tree, number="2", priority=Priority.EXPRESS)
    batch = await Child(tree[HUB]).pull()
    assert [each.header.lane for each in batch.envelopes] == [Lane.EXPRESS, Lane.NORMAL]


async def test_a_child_with_little_room_gets_one_at_a_time(tree: Tree) -> None:
    child = Child(tree[HUB])
    for number in "12":
        await send(tree, number=number)
    assert len((await child.send((), room=10)).envelopes) == 1


# --- a reply that was lost -------------------------------------------------------------------------------------------------


async def test_a_batch_without_a_word_on_it_is_offered_again_at_once_and_stays_in_doubt(tree: Tree) -> None:
    """Decision 6."""
    child = Child(tree[HUB])
    await send(tree)
    first = await child.pull()
    again = await child.pull(confirm=False)
    assert [each.header.id for each in again.envelopes] == [each.header.id for each in first.envelopes]
    assert outbox(tree[HUB], "in_doubt", "state") == [(1, "waiting")]
    await child.pull(TAKEN)
    assert outbox(tree[HUB], "item") == []


async def test_verdicts_of_another_session_do_not_count(tree: Tree) -> None:
    """A child that was killed and restored must not be believed about what it had before."""
    child = Child(tree[HUB])
    await send(tree)
    await child.pull()
    child.session = "another"
    again = await child.pull(TAKEN)
    assert len(again.envelopes) == 1
    assert outbox(tree[HUB], "in_doubt") == [(1,)]


async def test_verdicts_on_an_older_batch_do_not_count_for_this_one(tree: Tree) -> None:
    child = Child(tree[HUB])
    await send(tree)
    await child.pull()
    child.last = replace(child.last, sequence=7)
    assert len((await child.pull(TAKEN)).envelopes) == 1


async def test_a_new_session_makes_everything_due(tree: Tree) -> None:
    """Decision 8: whatever the backoff said."""
    child = Child(tree[HUB])
    await send(tree)
    await child.pull()
    assert (await child.pull(Verdict(Outcome.LATER, retry_s=300))).envelopes == ()
    assert len((await Child(tree[HUB], session="second").pull()).envelopes) == 1


async def test_a_batch_that_never_finds_an_answer_is_taken_apart_until_the_poison_is_held(tree: Tree) -> None:
    """What the child cannot read must not keep its neighbours from passing; a person decides about it (decision 11)."""
    child = Child(tree[HUB])
    poison = await send(tree)
    good = [await send(tree, number=str(number)) for number in range(2, 5)]
    passed: list[str] = []
    for _ in range(400):
        ids = [each.header.doc_id for each in child.last.envelopes]
        if poison in ids:
            await child.pull(confirm=False)  # it cannot make anything of such a batch
        else:
            passed += ids
            await child.pull(TAKEN)
        if not child.last.envelopes:
            if outbox(tree[HUB], "state") == [("held",)]:
                break
            tree.clock.now_ms += 300_000
    assert sorted(passed) == sorted(good)
    assert outbox(tree[HUB], "state", "reason", "in_doubt") == [("held", "wire-malformed", 1)]
    assert tree[HUB].tally.value("truc_held_total", reason="wire-malformed") == 1


async def test_a_line_that_loses_a_few_answers_is_no_poison(tree: Tree) -> None:
    child = Child(tree[HUB])
    await send(tree)
    for _ in range(UNCONFIRMED_MAX - 1):
        await child.pull(confirm=False)
    assert outbox(tree[HUB], "attempts") == [(0,)]


# --- verdicts --------------------------------------------------------------------------------------------------------------


async def test_each_receiver_has_its_own_verdict(tree: Tree) -> None:
    """Decision 5: one refused, one later, one taken, one without a word."""
    child = Child(tree[HUB])
    await send(tree, "H54.02", "H54.03", "H54", "H54.02.09")
    (envelope,) = (await child.pull()).envelopes
    first, second, third, _fourth = envelope.remaining
    verdicts = {
        first: Verdict(Outcome.REFUSED, reason=Reason.RECIPIENT_UNKNOWN),
        second: Verdict(Outcome.LATER, retry_s=30),
        third: TAKEN,
    }
    await child.send([EnvelopeVerdicts(envelope.header.origin, envelope.header.id, verdicts)])
    lines = await tree[HUB].sent("vpcp")
    assert {code: line.send_state for code, line in lines.items()} == {
        "H54.02": "refused",
        "H54.03": "queued",
        "H54": "moving",
        "H54.02.09": "queued",
    }
    assert outbox(tree[HUB], "recipient", "in_doubt") == [("H54.03", 0), ("H54.02.09", 1)]


async def test_a_refusal_over_there_comes_home_as_a_02_from_the_axis(tree: Tree) -> None:
    """Decision 5: the presenter alone tells; decision 11: once. # QĐ 28/2018 Điều 8.2"""
    child = Child(tree[HUB])
    await send(tree)
    await child.pull()
    await child.pull(Verdict(Outcome.REFUSED, reason=Reason.RECIPIENT_UNKNOWN))
    (line,) = await tree[HUB].inbox("vpcp", "status")
    package = (await tree[HUB].fetch("vpcp", line.doc_id)).decode()
    assert ">02<" in package
    assert ">TRUC<" in package
    assert "[Trục]" in package
    assert outbox(tree[HUB], "item") == []
    assert tree[HUB].tally.value("truc_deliveries_total", result="refused") == 1
    assert tree[HUB].events("refused") == ["refused"] * 2, "of the row, and of the delivery it was"


async def test_what_the_neighbour_found_expired_has_expired(tree: Tree) -> None:
    child = Child(tree[HUB])
    await send(tree)
    await child.pull()
    await child.pull(Verdict(Outcome.REFUSED, reason=Reason.EXPIRED))
    assert (await tree[HUB].sent("vpcp"))["H54.02"].send_state == "expired"


@pytest.mark.parametrize("reason", [Reason.DIGEST_CONFLICT, Reason.ORIGIN_SIGNATURE])
async def test_an_alarm_is_held_and_not_told_to_the_sender(tree: Tree, reason: Reason) -> None:
    """Decision 4: same key with another digest is an alarm: a person looks first."""
    child = Child(tree[HUB])
    await send(tree)
    await child.pull()
    await child.pull(Verdict(Outcome.REFUSED, reason=reason))
    assert outbox(tree[HUB], "state", "reason", "in_doubt") == [("held", reason.value, 0)]
    assert (await tree[HUB].sent("vpcp"))["H54.02"].send_state == "held"
    assert await tree[HUB].inbox("vpcp", "status") == []


async def test_a_refused_status_is_held_and_causes_no_notice(tree: Tree) -> None:
    """Decision 11: notices and statuses never cause notices; they are held."""
    child = Child(tree[HUB])
    await tree[HUB].send("vpcp", status("01", "", sender="G22", organ="H54"))
    await child.pull()
    await child.pull(Verdict(Outcome.REFUSED, reason=Reason.RECIPIENT_UNKNOWN))
    assert outbox(tree[HUB], "state") == [("held",)]
    assert tree[HUB].count("envelope") == 1


async def test_a_document_from_below_that_is_refused_sends_one_notice_home(tmp_path: Path) -> None:
    """Decision 11: on the control lane, never expiring, in the same commit as the end."""
    async with planted(tmp_path) as tree:
        tree[H41].run("push")
        await tree[H41].send("ubnd-41", document("H54.02"))
        await tree.until(lambda: tree[HUB].count("outbox") == 1)
        child = Child(tree[HUB])
        await child.pull()
        await child.pull(Verdict(Outcome.REFUSED, reason=Reason.RECIPIENT_UNKNOWN))
        assert outbox(tree[HUB], "neighbour", "recipient", "lane", "expires_ms") == [("H41", "H41", 0, 0)]
        tree[H41].run("pull")
        await tree.until(lambda: tree[H41].inbox("ubnd-41", "status"))
        assert (await tree[H41].sent("ubnd-41"))["H54.02"].send_state == "refused"


def move(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the hub's table names H41 for all that was under H54."""
    table = tree[HUB].surroundings.table()
    everything = tuple(prefix for child in table.children for prefix in child.prefixes)
    children = tuple(replace(child, prefixes=everything if child.code == H41 else ()) for child in table.children)
    moved = replace(table, children=children)
    monkeypatch.setattr(tree[HUB].duties.origin, "_table", lambda: moved)


@pytest.mark.parametrize("reason", [Reason.LOOP, Reason.RECIPIENT_UNKNOWN])
async def test_what_the_old_way_refuses_goes_the_way_the_table_names_now(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, reason: Reason
) -> None:
    """A unit moved while its document was on the road: no end, no notice, another neighbour (decision 11)."""
    child = Child(tree[HUB])
    await send(tree)
    await child.pull()
    move(tree, monkeypatch)
    await child.pull(Verdict(Outcome.REFUSED, reason=reason))
    assert outbox(tree[HUB], "neighbour", "state", "in_doubt") == [("H41", "waiting", 0)]
    assert await tree[HUB].inbox("vpcp", "status") == []
    assert await tree[HUB].store.ask(H41, EVERYTHING, stands=False) is not None


async def test_two_directories_that_disagree_delay_a_document_and_never_end_it(tree: Tree) -> None:
    """Decision 11: held for a person at last; the sender is not told of an end."""
    child = Child(tree[HUB])
    await send(tree)
    for _ in range(40):
        await child.pull(Verdict(Outcome.REFUSED, reason=Reason.LOOP))
        if outbox(tree[HUB], "state") == [("held",)]:
            break
        tree.clock.now_ms += 300_000
    assert outbox(tree[HUB], "state", "reason", "in_doubt") == [("held", "loop", 0)]
    assert await tree[HUB].inbox("vpcp", "status") == []
    assert (await tree[HUB].sent("vpcp"))["H54.02"].send_state == "held"


async def test_rows_for_a_neighbour_that_is_none_of_ours_any_more_find_another_way(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tree[HUB]
    await send(tree, number="1")
    await Child(site).pull()  # in doubt, and it stays so until the new neighbour answers (decision 6)
    await send(tree, number="2")
    await send(tree, number="3")
    ((last,),) = site.rows("SELECT max(item) FROM outbox")
    await site.store.act_queue("hold", [last], None, "chị Hoa", "")
    move(tree, monkeypatch)
    monkeypatch.delitem(site.duties.forwarder.neighbours, H54)
    asked = site.store.ask(H41, replace(EVERYTHING, envelopes_max=1), stands=True)
    await site.duties.housekeeper.round()
    assert outbox(site, "neighbour", "state", "in_doubt") == [("H41", "waiting", 1), ("H41", "waiting", 0), ("H54", "held", 0)]
    async with asyncio.timeout(PATIENCE_S):
        assert await asked is not None


async def test_a_copy_in_doubt_at_a_node_that_is_gone_is_held_until_a_person_answers_for_it(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tree[HUB]
    await send(tree)
    await Child(site).pull()
    move(tree, monkeypatch)
    monkeypatch.delitem(site.duties.forwarder.neighbours, H54)
    monkeypatch.setattr(site.duties.forwarder._origin, "has_node", lambda code: code != H54)
    await site.duties.housekeeper.round()
    assert outbox(site, "neighbour", "state", "in_doubt", "reason") == [("H54", "held", 1, "neighbour-gone")]
    ((item,),) = site.rows("SELECT item FROM outbox")
    assert await site.store.act_queue("release", [item], None, "chị Hoa", "chưa nhận") == 1
    await site.duties.housekeeper.round()
    assert outbox(site, "neighbour", "state", "in_doubt") == [("H41", "waiting", 0)]


async def test_rows_without_any_way_stay_where_they_can_be_seen(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tree[HUB]
    await send(tree)
    monkeypatch.delitem(site.duties.forwarder.neighbours, H54)
    await site.duties.housekeeper.round()
    assert outbox(site, "neighbour", "state") == [("H54", "waiting")]


async def test_a_busy_neighbour_is_offered_the_row_again_when_it_said(tree: Tree) -> None:
    child = Child(tree[HUB])
    await send(tree)
    await child.pull()
    assert (await child.pull(Verdict(Outcome.LATER, retry_s=30))).envelopes == ()
    tree.clock.now_ms += 29_999
    assert (await child.pull()).envelopes == ()
    tree.clock.now_ms += 1
    assert len((await child.pull()).envelopes) == 1


async def test_a_pull_that_waits_wakes_up_for_a_row_that_becomes_due(tree: Tree) -> None:
    """Also for one that becomes due between the look at the queue and the question when the next is due."""
    child = Child(tree[HUB])
    await send(tree)
    await child.pull()
    await child.pull(Verdict(Outcome.LATER, retry_s=0.02))
    waiting = asyncio.ensure_future(child.pull(wait_ms=60_000))
    await asyncio.sleep(0)
    tree.clock.now_ms += 1000
    async with asyncio.timeout(PATIENCE_S):
        assert len((await waiting).envelopes) == 1


# --- large bodies ----------------------------------------------------------------------------------------------------------


async def large(tree: Tree) -> tuple[Child, str, bytes]:
    """A package with a large body, offered; (child, digest, bytes)."""
    data = document("H54.02", sender="G22", content=os.urandom(300_000))
    await tree[HUB].send("vpcp", data)
    child = Child(tree[HUB])
    batch = await child.pull()
    assert batch.bodies == {}
    return child, hashlib.sha256(data).hexdigest(), data


async def test_a_large_body_is_served_piece_by_piece_and_its_envelope_offered_again(tree: Tree) -> None:
    child, digest, data = await large(tree)
    assert (await child.pull(Verdict(Outcome.NEED, need=(digest,)))).envelopes == ()
    forwarder = tree[HUB].duties.forwarder
    pieces = [await forwarder.get_body(H54, digest, start, 100_000) for start in range(0, len(data), 100_000)]
    assert b"".join(pieces) == data
    assert len((await child.pull()).envelopes) == 1
    assert tree[HUB].tally.value("truc_bodies_total", direction="out") == 1


async def test_a_body_of_nobodys_envelope_does_not_exist(tree: Tree) -> None:
    """Decision 7: a digest is not a ticket to read a file."""
    child, digest, _ = await large(tree)
    await child.pull(TAKEN)
    with pytest.raises(Refused) as caught:
        await tree[HUB].duties.forwarder.get_body(H54, digest, 0, 10)
    assert refused_with(caught) is Reason.BODY_UNKNOWN


async def test_a_child_that_has_been_served_but_is_still_committing_is_asked_again_ever_less_often(tree: Tree) -> None:
    child, digest, data = await large(tree)
    need = Verdict(Outcome.NEED, need=(digest,))
    await child.pull(need)
    await tree[HUB].duties.forwarder.get_body(H54, digest, 0, len(data))
    assert len((await child.pull()).envelopes) == 1
    assert len((await child.pull(need)).envelopes) == 1, "at once: it may have been answered before the last byte was here"
    waits = []
    for _ in range(12):
        assert (await child.pull(need)).envelopes == ()
        ((due_ms,),) = outbox(tree[HUB], "due_ms")
        waits.append(due_ms - tree.clock.now_ms)
        tree.clock.now_ms = due_ms
        assert len((await child.pull()).envelopes) == 1
    assert waits[:4] == [200, 400, 800, 1600]
    assert waits[-1] == 30_000


async def test_what_was_served_is_remembered_within_bounds(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.forwarder.SERVED_MAX", 3)
    _child, digest, data = await large(tree)
    neighbour: Neighbour = tree[HUB].duties.forwarder.neighbours[H54]
    neighbour.served.update("abc")
    await tree[HUB].duties.forwarder.get_body(H54, digest, 0, len(data))
    assert neighbour.served == {digest}


# --- races -----------------------------------------------------------------------------------------------------------------


async def test_a_child_that_hangs_up_while_its_verdicts_are_recorded_does_not_undo_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with planted(tmp_path) as tree:
        tree[H41].run("push")
        await tree[H41].send("ubnd-41", document("H54.02"))
        hub = tree[HUB]
        await tree.until(lambda: hub.count("outbox") == 1)
        child = Child(hub)
        await child.pull()
        gate, entered = asyncio.Event(), asyncio.Event()
        hold(hub, gate, entered)
        recording, really = asyncio.Event(), hub.store.settle

        def settle(*values: Any) -> Any:
            recording.set()
            return really(*values)

        monkeypatch.setattr(hub.store, "settle", settle)
        asked = hub.store.ask(H41, EVERYTHING, stands=True)
        await entered.wait()
        pulling = asyncio.ensure_future(child.pull(Verdict(Outcome.REFUSED, reason=Reason.RECIPIENT_UNKNOWN)))
        await recording.wait()
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        gate.set()
        async with asyncio.timeout(PATIENCE_S):
            assert await asked is not None
        assert hub.rows("SELECT kind FROM envelope e JOIN outbox o ON o.envelope=e.seq") == [("notice",)]


async def test_it_is_said_since_when_a_neighbour_is_up_or_down(tree: Tree) -> None:
    forwarder = tree[HUB].duties.forwarder
    neighbour = forwarder.neighbours[H54]
    forwarder.seen(neighbour, True)
    since = neighbour.since_ms
    tree.clock.now_ms += 5000
    forwarder.seen(neighbour, True)
    assert (neighbour.since_ms, neighbour.last_seen_ms) == (since, tree.clock.now_ms)
    forwarder.seen(neighbour, False)
    assert (neighbour.up, neighbour.since_ms, neighbour.last_seen_ms) == (False, tree.clock.now_ms, tree.clock.now_ms)

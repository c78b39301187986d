"""The road to the parent: what is lost on it is sent again, nothing arrives twice, and a restored line is found at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node import uplink
from node.core.envelope import Lane
from node.core.errors import Deferred, Reason, Refused
from node.core.pace import Way
from node.core.package import Priority
from node.uplink import BODY_TRIES_MAX, PROBE_MIN_S, Crossings
from tests.tree import H41, H54, HUB, PATIENCE_S, UNIT, Site, Tree, document, planted, status

FAULTS = ("lost", "no answer", "twice", "unsent")


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path, HUB, H41, H54, UNIT) as found:
        yield found


async def arrived(tree: Tree, count: int, kind: str = "edoc") -> Any:
    """So many items wait for the offices of Thái Bình."""

    async def all_there() -> Any:
        found = await tree[H54].inbox("thai-binh", kind)
        return found if len(found) >= count else None

    return await tree.until(all_there, f"{count} items at H54")


def empty(*sites: Site) -> bool:
    return not any(site.count("outbox") for site in sites)


# --- there and back --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 300_000])
async def test_a_package_crosses_four_nodes_unchanged_and_its_statuses_come_home(tree: Tree, size: int) -> None:
    """Decision 2: the bytes an office handed in are what the other office gets. # QĐ 28/2018 Điều 6.3, 9.2, 10.1"""
    tree.run()
    data = document("H54.02", sender="000.00.07.H41", content=os.urandom(size))
    taken = await tree[UNIT].send("so-noi-vu", data)
    (line,) = await arrived(tree, 1)
    assert line.doc_id == taken.doc_id
    assert await tree[H54].fetch("thai-binh", line.doc_id) == data
    await tree[H54].report("thai-binh", line.doc_id, "done")
    for code in ("01", "03", "06"):
        await tree[H54].send("thai-binh", status(code, line.doc_id, organ="H41.07"))

    async def home() -> bool:
        sent = (await tree[UNIT].sent("so-noi-vu"))["H54.02"]
        return (sent.send_state, sent.receive_state, len(await tree[UNIT].inbox("so-noi-vu", "status"))) == ("collected", "06", 3)

    await tree.until(home)
    assert await tree[H54].inbox("thai-binh") == []
    await tree.until(lambda: empty(*tree.sites.values()))


async def test_three_identities_are_never_mixed(tree: Tree) -> None:
    """Decision 1: one envelope id over all hops; a docId for each accepted package; a DocumentId kept as sent, which may come
    again (a corrected resend reuses it) and is never a reason to think a document known."""
    tree.run()
    sent = [
        await tree[H41].send("ubnd-41", document("H54.02", document_id="000.00.00.H41,2031/03/01,12", number=number))
        for number in ("12", "12 (đính chính)")
    ]
    found = await arrived(tree, 2)
    assert [line.doc_id for line in found] == [each.doc_id for each in sent]
    seen = [tree[code].rows("SELECT id,doc_id,document_id FROM envelope ORDER BY seq") for code in (H41, HUB, H54)]
    assert seen[0] == seen[1] == seen[2]
    assert {document_id for _, _, document_id in seen[0]} == {"000.00.00.H41,2031/03/01,12"}
    assert len({name for id_, doc_id, _ in seen[0] for name in (id_, doc_id)}) == 4


async def test_every_node_on_the_way_has_its_instant_in_the_hops(tree: Tree) -> None:
    tree.run()
    await tree[UNIT].send("so-noi-vu", document("H54.02", sender="H41.07"))
    await arrived(tree, 1)
    ((hops,),) = tree[H54].rows("SELECT hops FROM envelope")
    assert [code for code, _, _ in json.loads(hops)] == ["H41.07", "H41", "", "H54"]


# --- decision 4: at least once on every link, once at every door -----------------------------------------------------------


@pytest.mark.parametrize("call", ["push", "pull"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_a_line_does_every_document_arrives_once(tree: Tree, call: str, fault: str) -> None:
    """Decision 4, in both directions: requests and answers lost, calls made twice."""
    up, down = tree[H41].line, tree[H54].line
    (up if call == "push" else down).fault(call, *[fault] * 3)
    tree.run()
    ids = {(await tree[H41].send("ubnd-41", document("H54.02", number=str(number)))).doc_id for number in range(3)}
    found = await arrived(tree, 3)
    assert {line.doc_id for line in found} == ids
    await tree.until(lambda: empty(tree[H41], tree[HUB]))
    assert tree[H54].count("mailbox") == 3
    assert tree[H54].rows("SELECT count(*) FROM ledger WHERE event='arrived'") == [(3,)]


async def test_a_body_crosses_though_its_line_is_cut_again_and_again(tree: Tree) -> None:
    """Large bodies resume after any cut, upward and downward."""
    data = document("H54.02", content=os.urandom(400_000))
    tree[H41].line.fault("put", "unsent", "", "lost", "", "no answer", "", "unsent", "", "twice", "no answer")
    tree[H54].line.fault("get", "lost", "no answer", "", "unsent", "no answer", "twice")
    tree.run()
    await tree[H41].send("ubnd-41", data)
    (line,) = await arrived(tree, 1)
    assert await tree[H54].fetch("thai-binh", line.doc_id) == data
    offsets = [offset for offset, length in tree[H41].line.made("put") if length]
    assert offsets == sorted(offsets), "nobody begins anew"
    assert len(offsets) == len(set(offsets)) + 3, "what did not arrive was sent again, and only that"


async def test_a_node_that_dies_between_its_commit_and_its_answer_takes_the_document_once(tree: Tree) -> None:
    """Decision 3: killed after the commit, before the reply; the child's retry meets the row."""
    tree[H41].line.fault("push", "no answer")
    tree[H41].run("push")
    await tree[H41].send("ubnd-41", document("H54.02"))
    await tree.until(lambda: len(tree[H41].line.made("push")) >= 1)
    await tree.crash(HUB)
    tree[H54].run()
    await arrived(tree, 1)
    await tree.until(lambda: empty(tree[H41], tree[HUB]))
    assert tree[H54].count("mailbox") == 1


@pytest.mark.parametrize("victim", [H41, HUB, H54])
async def test_a_killed_node_goes_on_where_it_was(tree: Tree, victim: Any) -> None:
    tree.run()
    ids = [
        (await tree[H41].send("ubnd-41", document("H54.02", number=str(n), content=os.urandom(9000)))).doc_id for n in range(20)
    ]
    for _ in range(3):
        await tree.crash(victim)
    found = await arrived(tree, 20)
    assert sorted(line.doc_id for line in found) == sorted(ids)
    await tree.until(lambda: empty(tree[H41], tree[HUB]))
    assert tree[H54].count("mailbox") == 20
    for site in tree.sites.values():
        assert await site.store.verify_chain() is None


# --- decision 6: in doubt --------------------------------------------------------------------------------------------------


async def test_a_push_whose_answer_was_lost_leaves_its_copy_frozen(tree: Tree) -> None:
    """Decision 6: the parent may hold it; it must not expire here."""
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02"))
    site.line.fault("push", "no answer")
    await site.turn()
    assert site.rows("SELECT in_doubt FROM outbox") == [(1,)]
    tree.clock.now_ms += 100 * 86_400_000
    assert await site.duties.housekeeper.expire() == 0
    assert (await site.sent("ubnd-41"))["H54.02"].send_state == "queued"
    await site.turn()
    assert empty(site)
    assert tree[HUB].tally.value("truc_duplicates_total", door="link") == 1


async def test_a_push_that_never_left_leaves_no_doubt(tree: Tree) -> None:
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02"))
    site.line.down = True
    await site.turn()
    assert site.rows("SELECT in_doubt,attempts FROM outbox") == [(0, 0)]
    tree.clock.now_ms += 8 * 86_400_000
    assert await site.duties.housekeeper.expire() == 1


@pytest.mark.parametrize("where", ["link", "store"])
async def test_an_error_nobody_classified_leaves_everything_in_doubt_and_the_loop_alive(
    tree: Tree, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one catch-all of the road."""
    if where == "link":
        tree[H41].line.fault("push", ZeroDivisionError())
    else:
        forwarder = tree[H41].duties.forwarder
        judged, faults = forwarder.judged, [ZeroDivisionError()]

        async def judge(*of: Any) -> Any:
            if faults:
                raise faults.pop()
            return await judged(*of)

        monkeypatch.setattr(forwarder, "judged", judge)
    tree.run()
    await tree[H41].send("ubnd-41", document("H54.02"))
    await arrived(tree, 1)


# --- decision 8: the child dials, and finds a restored line ----------------------------------------------------------------


async def test_documents_wait_below_while_the_parent_is_down_and_all_arrive_once_when_it_is_back(tree: Tree) -> None:
    """Decision 8: a restored link is found by a probe, whatever the backoff said; decision 11: a dead peer ends nothing."""
    line = tree[H41].line
    line.down = True
    tree.run()
    ids = {(await tree[H41].send("ubnd-41", document("H54.02", number=str(number)))).doc_id for number in range(60)}
    await tree.until(lambda: len(line.made("push")) > 5)
    neighbour = tree[H41].duties.forwarder.neighbours[HUB]
    assert not neighbour.up
    assert tree[H41].count("outbox") == 60
    line.down = False
    found = await arrived(tree, 60)
    assert {each.doc_id for each in found} == ids
    assert neighbour.up
    assert tree[H54].count("mailbox") == 60


class Measured:
    """Randomness that remembers which pauses were asked for, and makes none."""

    def __init__(self) -> None:
        self.pauses: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.pauses.append((a, b))
        return 0.0


async def test_probes_are_jittered_and_never_further_apart_than_the_bound(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 8: found within 15 s; the bound is at most that (configuration)."""
    site = tree[H41]
    chance = Measured()
    monkeypatch.setattr(site.uplink, "_rng", chance)
    failures = 0
    for _ in range(20):
        failures = await site.uplink._pause(failures, Deferred(600))
    lows, highs = zip(*chance.pauses, strict=True)
    assert set(lows) == {PROBE_MIN_S / 2}
    assert list(highs[:4]) == pytest.approx([0.2, 0.3, 0.45, 0.675])
    assert max(highs) == site.settings.link.probe_max_s <= 15


async def test_a_loop_that_pauses_goes_on_as_soon_as_another_has_found_the_parent(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tree[H41]
    monkeypatch.setattr(site.uplink._rng, "uniform", lambda a, b: 600.0)
    pausing = asyncio.ensure_future(site.uplink._pause(9, Deferred(600)))
    await asyncio.sleep(0)
    site.uplink._answered()
    async with asyncio.timeout(PATIENCE_S):
        assert await pausing == 10


async def test_the_parent_serves_all_lanes_over_one_pull_and_two_calls_are_open_at_most(tree: Tree) -> None:
    """Decision 8: upward is push, downward is a long-poll pull; the parent never dials."""
    tree.run()
    await tree[HUB].send("vpcp", document("H54.02", sender="G22"))
    await arrived(tree, 1)
    assert not hasattr(tree[HUB], "line")
    names = {name for name, _ in tree[H54].line.calls}
    assert names == {"pull"}


# --- poison ----------------------------------------------------------------------------------------------------------------


async def test_a_batch_that_is_refused_whole_is_taken_apart_and_only_the_bad_one_is_held(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poison is held and blocks nobody."""
    site = tree[H41]
    ids = [(await site.send("ubnd-41", document("H54.02", number=str(number)))).doc_id for number in range(5)]
    really = site.line.push

    async def push(batch: Any) -> Any:
        if any(each.header.doc_id == ids[2] for each in batch.envelopes):
            raise Refused(Reason.WIRE_MALFORMED, "batch")
        return await really(batch)

    monkeypatch.setattr(site.line, "push", push)
    for _ in range(200):
        tree.clock.now_ms += 1000
        await site.turn()
        if site.rows("SELECT state FROM outbox") == [("held",)]:
            break
    assert site.rows("SELECT e.doc_id,o.state FROM outbox o JOIN envelope e ON e.seq=o.envelope") == [(ids[2], "held")]
    assert tree[HUB].count("envelope") == 4


# --- the pull --------------------------------------------------------------------------------------------------------------


async def test_verdicts_the_parent_cannot_read_are_not_sent_for_ever(tree: Tree) -> None:
    await tree[HUB].send("vpcp", document("H54.02", sender="G22"))
    line = tree[H54].line
    tree[H54].run("pull")
    line.fault("pull", "", Refused(Reason.WIRE_MALFORMED, "verdicts"))
    await tree.until(lambda: empty(tree[HUB]))
    confirmed = [request.confirmed for request in line.made("pull")]
    assert confirmed[:3] == [0, 1, 0]
    assert tree[H54].count("mailbox") == 1


async def test_our_own_full_disk_says_later_and_does_not_stop_the_loops(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 3: nothing is lost; and it is no choking, which would end with a person."""
    site = tree[H54]
    really, full = site.store.admit, [5]

    async def admit(*values: Any) -> Any:
        if full[0]:
            full[0] -= 1
            raise Deferred(30, Reason.DISK_FULL)
        return await really(*values)

    monkeypatch.setattr(site.store, "admit", admit)
    tree.run()
    await tree[HUB].send("vpcp", document("H54.02", sender="G22"))
    await arrived(tree, 1)
    assert site.duties.forwarder.neighbours[HUB].up, "it was not the parent that failed"
    await tree.until(lambda: empty(tree[HUB]))
    results = tree[HUB].tally
    assert results.value("truc_attempts_total", neighbour="H54", result="later") >= 5
    assert results.value("truc_attempts_total", neighbour="H54", result="in-doubt") == 0


@pytest.mark.parametrize("method", ["ask", "settle", "session_began"])
async def test_our_own_full_disk_does_not_stop_the_pushes(tree: Tree, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    site = tree[H41]
    really, full = getattr(site.store, method), [3]

    def fails(*values: Any, **more: Any) -> Any:
        if not full[0]:
            return really(*values, **more)
        full[0] -= 1
        refused = asyncio.get_running_loop().create_future()
        refused.set_exception(Deferred(30, Reason.DISK_FULL))
        return refused

    monkeypatch.setattr(site.store, method, fails)
    tree.run()
    await site.send("ubnd-41", document("H54.02"))
    await arrived(tree, 1)
    await tree.until(lambda: empty(site, tree[HUB]))
    assert tree[H54].count("mailbox") == 1


# --- a slow link -----------------------------------------------------------------------------------------------------------

SLOW = 32_000
"""256 kbit/s."""


def carries(site: Site, way: Way, bytes_per_s: float) -> None:
    """What finished pieces told of the link."""
    for _ in range(30):
        size = site.uplink.piece_bytes(way, 1 << 20)
        site.line.moved(way, size, size / bytes_per_s)


@pytest.mark.parametrize("way", list(Way))
async def test_pieces_are_as_long_as_the_link_carries_in_their_time(tree: Tree, way: Way) -> None:
    """Decision 9; 2 s unless configured otherwise."""
    uplink = tree[H41].uplink
    carries(tree[H41], way, 50_000_000)
    assert uplink.piece_bytes(way, 256_000) == 256_000
    assert not uplink.is_slow(way)
    carries(tree[H41], way, SLOW)
    assert uplink.piece_bytes(way, 256_000) == pytest.approx(2 * SLOW, rel=0.05)
    assert uplink.is_slow(way)


async def test_up_a_slow_link_batches_and_chunks_are_short(tree: Tree) -> None:
    site = tree[H41]
    carries(site, Way.UP, SLOW / 4)
    site.run("push", "uploads")
    for number in range(20):
        await site.send("ubnd-41", document("H54.02", number=str(number), content=os.urandom(5_000)))
    await site.send("ubnd-41", document("H54.02", number="large", content=os.urandom(200_000)))
    await tree.until(lambda: empty(site))
    lengths = [length for _, length in site.line.made("put") if length]
    assert max(lengths) <= SLOW
    assert max(sum(map(len, batch.bodies.values())) for batch in site.line.made("push")) <= SLOW


async def test_down_a_slow_link_the_child_asks_for_little_at_a_time(tree: Tree) -> None:
    site = tree[H54]
    carries(site, Way.DOWN, SLOW / 4)
    tree.run()
    await tree[HUB].send("vpcp", document("H54.02", sender="G22", content=os.urandom(200_000)))
    await arrived(tree, 1)
    assert max(length for _, length in site.line.made("get")) <= SLOW
    assert max(request.room_bytes for request in site.line.made("pull")) <= SLOW


async def test_a_parent_that_does_not_answer_has_to_show_anew_what_the_link_carries(tree: Tree) -> None:
    site = tree[H41]
    carries(site, Way.UP, 50_000_000)
    await site.uplink._pause(0, Deferred(0))
    assert site.uplink.is_slow(Way.UP)
    carries(site, Way.UP, 50_000_000)
    await site.uplink._pause(0, Deferred(0), lost=False)
    assert not site.uplink.is_slow(Way.UP), "our own store says nothing of the link"


@pytest.mark.parametrize("bytes_per_s", [SLOW, 50_000_000])
@pytest.mark.parametrize("way", list(Way))
async def test_the_body_of_a_hoa_toc_does_not_wait_for_a_large_one_to_cross(tree: Tree, way: Way, bytes_per_s: float) -> None:
    """QĐ 28/2018 Điều 6.2: it waits for one piece at most, whatever the link, and the large one goes on where it was."""
    site, call = (tree[H41], "put") if way is Way.UP else (tree[H54], "get")
    carries(site, way, bytes_per_s)
    tree.run()
    really, gate, begun = getattr(site.line, f"{call}_body"), asyncio.Event(), asyncio.Event()
    order = list[str]()

    async def slow(sha256: str, *rest: Any) -> Any:
        if way is Way.DOWN or rest[2]:
            order.append(sha256)
            begun.set()
            await gate.wait()
        return await really(sha256, *rest)

    setattr(site.line, f"{call}_body", slow)
    large, urgent = (
        document("H54.02", number=number, content=os.urandom(size), priority=priority)
        for number, size, priority in (("1", 1_000_000, Priority.NORMAL), ("2", 200_000, Priority.EXPRESS))
    )
    await tree[H41].send("ubnd-41", large)
    await begun.wait()
    await tree[H41].send("ubnd-41", urgent)
    wanted = hashlib.sha256(urgent).hexdigest()
    crossings = site.uplink._uploads if way is Way.UP else site.uplink._downloads
    await tree.until(lambda: wanted in crossings._waiting)
    gate.set()
    await arrived(tree, 2)
    assert order.index(wanted) == 1, "after the piece that was on its way"
    assert order[-1] == hashlib.sha256(large).hexdigest()
    assert tree[H54].count("mailbox") == 2


# --- large bodies ----------------------------------------------------------------------------------------------------------


async def test_a_damaged_copy_is_never_delivered_and_a_person_hears_of_it(tree: Tree) -> None:
    """QĐ 28/2018 Điều 6.1: one flipped byte at rest."""
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02", content=os.urandom(300_000)))
    ((file,),) = site.rows("SELECT file FROM body")
    path = site.folder / "bodies" / file
    data = path.read_bytes()
    path.write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
    tree.run()
    await tree.until(lambda: site.tally.value("truc_held_total", reason="body-damaged") == 1)
    assert site.rows("SELECT state,reason FROM outbox") == [("held", "body-damaged")]
    assert tree[HUB].count("body") == 0
    await site.send("ubnd-41", document("H54.02", number="2"))
    await arrived(tree, 1)


async def test_a_copy_damaged_on_the_way_is_sent_again(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tree[H41]
    really, spoiled = site.line.put_body, [2]

    async def put_body(sha256: str, size: int, offset: int, chunk: bytes) -> int:
        if chunk and spoiled[0]:
            spoiled[0] -= 1
            chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
        return await really(sha256, size, offset, chunk)

    monkeypatch.setattr(site.line, "put_body", put_body)
    data = document("H54.02", content=os.urandom(100_000))
    tree.run()
    await site.send("ubnd-41", data)
    (line,) = await arrived(tree, 1)
    assert await tree[H54].fetch("thai-binh", line.doc_id) == data


async def test_a_body_the_parent_will_never_have_is_held_after_a_few_tries(tree: Tree) -> None:
    site = tree[H41]
    site.line.fault("put", *[Refused(Reason.PACKAGE_TOO_LARGE, "size")] * BODY_TRIES_MAX)
    tree.run()
    await site.send("ubnd-41", document("H54.02", content=os.urandom(300_000)))
    await tree.until(lambda: site.rows("SELECT 1 FROM outbox WHERE state='held' AND reason='package-too-large'"))
    assert len(site.line.made("put")) == BODY_TRIES_MAX


async def test_the_tries_of_one_body_are_not_counted_on_another(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a document would be held for a person for what went wrong with its neighbour in the queue."""
    site = tree[H41]
    refusal = Refused(Reason.BODY_DAMAGED, "sha256")
    bodies = [document("H54.02", number=number, content=os.urandom(200_000)) for number in ("1", "2")]
    first, second = (hashlib.sha256(data).hexdigest() for data in bodies)
    awaited: dict[str, list[Exception]] = {first: [*[refusal] * (BODY_TRIES_MAX - 1), Deferred(0)], second: [refusal]}
    really, done = site.line.put_body, list[str]()

    async def put_body(sha256: str, size: int, offset: int, chunk: bytes) -> int:
        if awaited[sha256]:
            done.append(sha256)
            raise awaited[sha256].pop(0)
        return await really(sha256, size, offset, chunk)

    monkeypatch.setattr(site.line, "put_body", put_body)
    for data in bodies:
        await site.send("ubnd-41", data)
    await site.turn()
    assert site.rows("SELECT state FROM outbox") == [("body",), ("body",)]
    tree.run()
    await arrived(tree, 2)
    assert (done.count(first), done.count(second)) == (BODY_TRIES_MAX, 1)
    assert site.tally.value("truc_held_total", reason="body-damaged") == 0


async def test_what_is_known_of_a_body_is_kept_while_it_waits_and_no_longer() -> None:
    crossings = Crossings(lambda: None)
    crossings.add("one", Lane.NORMAL, 10, fresh=True)
    one = await crossings.next()
    assert one.fresh
    one.refusals += 1
    crossings.add("one", Lane.EXPRESS, 10, fresh=True)
    crossings.later(one)
    again = await crossings.next()
    assert (again.refusals, again.lane, again.fresh) == (1, Lane.EXPRESS, False), "after a try it may hold a part"
    crossings.done(again)
    crossings.add("one", Lane.NORMAL, 10, fresh=True)
    anew = await crossings.next()
    assert (anew.refusals, anew.lane, anew.fresh) == (0, Lane.NORMAL, True)


async def test_a_body_under_way_is_given_to_one_loop_only() -> None:
    crossings = Crossings(lambda: None)
    crossings.add("one", Lane.NORMAL, 10)
    one = await crossings.next()
    crossings.add("one", Lane.EXPRESS, 10)
    other = asyncio.ensure_future(crossings.next())
    await asyncio.sleep(0)
    assert not other.done()
    crossings.add("two", Lane.NORMAL, 10)
    assert (await other).sha256 == "two"
    assert one.lane is Lane.EXPRESS


async def test_a_body_asked_for_again_in_the_moment_it_has_crossed_is_looked_at_once_more() -> None:
    """Else who asked would wait until its row is due by itself."""
    crossings = Crossings(lambda: None)
    crossings.add("one", Lane.NORMAL, 10, fresh=True)
    one = await crossings.next()
    crossings.add("one", Lane.NORMAL, 10)
    crossings.done(one)
    again = await crossings.next()
    assert (again.sha256, again.fresh) == ("one", False)
    crossings.done(again)
    assert crossings.known() == set()


async def test_a_batch_waits_for_the_last_piece_of_what_it_names_and_for_nothing_else() -> None:
    crossings = Crossings(lambda: None)
    for sha256 in ("first", "last", "waiting"):
        crossings.add(sha256, Lane.NORMAL, 10)
    await crossings.next()
    last = await crossings.next()
    await crossings.ended(lambda: ["first", "last", "waiting", "unknown"], 60)
    last.ending = True
    await crossings.ended(lambda: ["first", "waiting", "unknown"], 60)
    waiting = asyncio.ensure_future(crossings.ended(lambda: ["last"], 60))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    crossings.done(last)
    async with asyncio.timeout(PATIENCE_S):
        await waiting
    last.ending = True
    crossings.add("last", Lane.NORMAL, 10)
    other = await crossings.next()
    other.ending = True
    await crossings.ended(lambda: [other.sha256], 0.01)  # and not for ever


@pytest.mark.parametrize("torn", [HUB, H54])
async def test_a_part_that_a_power_cut_tore_costs_no_try(tree: Tree, monkeypatch: pytest.MonkeyPatch, torn: Any) -> None:
    """Upward and downward: power cuts must not add up to a document that is held for a person."""
    monkeypatch.setattr(uplink, "BODY_TRIES_MAX", 1)
    data = document("H54.02", content=os.urandom(200_000))
    await tree[H41].send("ubnd-41", data)
    await tree[H41].turn()  # offered, and asked for the body
    await tree[torn].bodies.receive(H41 if torn == HUB else HUB, hashlib.sha256(data).hexdigest(), 0, bytes(100_000))
    for site in (torn, H41):
        await tree.crash(site)
    tree.run()
    (line,) = await arrived(tree, 1)
    assert await tree[H54].fetch("thai-binh", line.doc_id) == data
    made = tree[H41].line.made("put") if torn == HUB else tree[H54].line.made("get")
    offsets = [offset for offset, length in made if length]
    assert offsets[0] == 100_000, "it was resumed"
    assert offsets.count(0) == 1, "and sent anew"


async def test_holding_it_waits_for_room_on_our_own_disk(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tree[H41]
    site.line.fault("put", *[Refused(Reason.PACKAGE_TOO_LARGE, "size")] * (BODY_TRIES_MAX + 1))
    really, full = site.store.hold_body, [1]

    async def hold_body(*values: Any) -> int:
        if full[0]:
            full[0] -= 1
            raise Deferred(30, Reason.DISK_FULL)
        return int(await really(*values))

    monkeypatch.setattr(site.store, "hold_body", hold_body)
    tree.run()
    await site.send("ubnd-41", document("H54.02", content=os.urandom(300_000)))
    await tree.until(lambda: site.rows("SELECT 1 FROM outbox WHERE state='held'"))


async def test_the_most_urgent_body_crosses_first_and_each_once(tree: Tree) -> None:
    """Decision 9: large bodies move in chunks, the urgent one next."""
    crossings = Crossings(lambda: None)
    crossings.add("ordinary", Lane.NORMAL, 10)
    crossings.add("urgent", Lane.EXPRESS, 20)
    crossings.add("ordinary", Lane.NORMAL, 10)
    urgent = await crossings.next()
    assert (urgent.sha256, urgent.lane, urgent.size) == ("urgent", Lane.EXPRESS, 20)
    crossings.done(urgent)
    crossings.add("ordinary", Lane.CONTROL, 10)
    ordinary = await crossings.next()
    assert (ordinary.sha256, ordinary.lane) == ("ordinary", Lane.CONTROL)
    crossings.done(ordinary)
    waiting = asyncio.ensure_future(crossings.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    crossings.add("late", Lane.URGENT, 1)
    assert (await waiting).sha256 == "late"


async def test_an_urgent_document_does_not_wait_for_a_large_body_to_cross(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """QĐ 28/2018 Điều 6.2"""
    site = tree[H41]
    tree.run()
    gate, entered = asyncio.Event(), asyncio.Event()
    really = site.line.put_body

    async def slow(*values: Any) -> int:
        entered.set()
        await gate.wait()
        return await really(*values)

    monkeypatch.setattr(site.line, "put_body", slow)
    large = document("H54.02", content=os.urandom(300_000))
    await site.send("ubnd-41", large)
    await entered.wait()
    urgent = await site.send("ubnd-41", document("H54.02", number="2"))
    (line,) = await arrived(tree, 1)
    assert line.doc_id == urgent.doc_id
    gate.set()
    await arrived(tree, 2)
    assert hashlib.sha256(large).hexdigest() in [digest for (digest,) in tree[H54].rows("SELECT digest FROM body")]


@pytest.mark.parametrize("slow", [False, True])
async def test_what_is_fetched_in_a_moment_is_taken_at_its_first_offer(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    """Its verdict waits for the body, and many in one batch are taken with one commit; on a slow line nothing waits."""
    monkeypatch.setattr(uplink, "FETCH_WAIT_S", PATIENCE_S)
    site, hub = tree[H54], tree[HUB]
    if slow:
        site.uplink._downloads.last_s = 2 * PATIENCE_S
    large = [document("H54.02", sender="G22", number=str(n), content=os.urandom(200_000)) for n in range(3)]
    for data in (*large, document("H54.02", sender="G22", number="small")):
        await hub.send("vpcp", data)
    tree.run()
    found = await arrived(tree, 4)
    assert {*large} < {await site.fetch("thai-binh", line.doc_id) for line in found}
    await tree.until(lambda: empty(hub))
    taken = hub.tally.value("truc_attempts_total", neighbour="H54", result="taken")
    asked = hub.tally.value("truc_attempts_total", neighbour="H54", result="body")
    assert (taken, asked) == (4, 3 if slow else 0)
    assert hub.tally.value("truc_duplicates_total", door="link") == site.tally.value("truc_duplicates_total", door="link") == 0


async def test_an_unknown_body_is_asked_for_no_more(tree: Tree) -> None:
    """The envelope went another way meanwhile."""
    site = tree[H54]
    site.uplink._downloads.add("ab" * 32, Lane.NORMAL, 10)
    site.run("downloads")
    await tree.until(lambda: site.line.made("get"))
    site.uplink._downloads.add("cd" * 32, Lane.NORMAL, 10)
    await tree.until(lambda: len(site.line.made("get")) == 2)

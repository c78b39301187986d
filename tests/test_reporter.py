"""Numbers: what offices sent and collected is counted once, goes up signed, and adds up at every tier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from node import reporter
from node.adapters.sqlite.numbers import _add_counted, due
from node.adapters.sqlite.writer import Transaction
from node.core import instant
from node.core.directory import Connection, Directory
from node.core.errors import Deferred
from node.core.identifier import OrgId
from node.core.package import Business, Priority
from node.core.report import Report
from node.core.statement import Kept, Pair, Post, Statement, Version, decode_statement, encode_statement
from tests.adapters.pki import NOW_MS
from tests.tree import CALENDAR, H41, H54, HUB, NODES, UNIT, Site, Tree, document, org, planted, status

DAY_MS = 86_400_000
TODAY = instant.day(NOW_MS)
UP = (UNIT, H41, H54, HUB)
"""Each before its parent."""


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path, HUB, H41, H54, UNIT) as found:
        yield found


async def send(tree: Tree, *to: str, sender: str = "", site: OrgId = H41, system: str = "ubnd-41", **more: object) -> str:
    taken = await tree[site].send(system, document(*to, sender=sender or "000.00.00.H41", **more))  # type: ignore[arg-type]
    return taken.doc_id


async def collect(tree: Tree, site: OrgId, system: str, count: int = 1, kind: str = "edoc") -> None:
    async def there() -> bool:
        return len(await tree[site].inbox(system, kind)) >= count

    await tree.until(there, f"{count} items before {system}")
    for line in await tree[site].inbox(system, kind):
        await tree[site].fetch(system, line.doc_id)
        await tree[site].report(system, line.doc_id, "done")


async def quiet(tree: Tree) -> None:
    """Nothing is on its way any more."""
    await tree.until(lambda: all(site.count("outbox") == 0 for site in tree.sites.values()))


async def up(tree: Tree, *codes: OrgId) -> None:
    """Everybody counts and hands up, from below."""
    for code in codes or UP:
        if code in tree.sites:
            await tree[code].duties.reporter.state_due()
            if code != HUB:
                await tree[code].duties.reporter.push_due()


async def reported(site: Site, first: date = TODAY, last: date | None = None) -> Report:
    return await site.duties.reporter.report(first, last or first)


def counts(found: Report, organ: str, *keys: str) -> list[int]:
    return [found.organs[org(organ)].get(key, 0) for key in keys]


async def some_traffic(tree: Tree) -> None:
    """Three documents of the province, one of them to two receivers, one urgent; a recall; one of the unit; and an answer."""
    tree.run()
    await send(tree, "H54.02", "H41.07", number="1")
    urgent = await send(tree, "H54.02", number="2", priority=Priority.EXPRESS)
    await send(tree, "H54", number="3")
    await send(tree, "H54.02", number="1", business=Business.RECALL)
    await send(tree, "H54.03", sender="H41.07", site=UNIT, system="so-noi-vu", number="4")
    await collect(tree, H54, "thai-binh", 4)
    await collect(tree, UNIT, "so-noi-vu")
    await tree[H54].send("thai-binh", status("03", urgent))
    await collect(tree, H41, "ubnd-41", kind="status")
    await quiet(tree)


async def test_every_tier_counts_what_its_offices_saw_and_the_whole_is_the_sum_of_its_parts(tree: Tree) -> None:
    """QĐ 28/2018 Điều 11"""
    await some_traffic(tree)
    await up(tree)
    hub = await reported(tree[HUB])
    assert counts(hub, "H41", "sent", "sent_deliveries", "sent_recall", "sent_priority.3") == [3, 5, 1, 1]
    assert counts(hub, "H41", "received", "statuses_received", "statuses_sent") == [0, 1, 0]
    assert counts(hub, "H41.07", "sent", "received") == [1, 1]
    assert counts(hub, "H54.02", "acknowledged_same_day", "acknowledged_later") == [1, 0]
    assert counts(hub, "H41", "sent_indeterminate", "sent_flawless", "sent_electronic_only", "sent_on_time") == [3, 3, 3, 3]
    assert counts(hub, "H54.02", "received", "received_recall", "received_priority.3", "arrived", "statuses_sent") == [
        2,
        1,
        1,
        3,
        1,
    ]
    assert counts(hub, "H54.03", "received") == [1]
    assert counts(hub, "H54", "arrived", "received") == [1, 0], "it lies there"
    assert hub.organs[org("G22")] == {}, "a silent organ is a row of zeros"
    assert set(hub.organs) == {org(code) for code in ("G22", "H41", "H41.05", "H41.07", "H54", "H54.02", "H54.03")}
    assert hub.totals[HUB]["sent"] == 4
    assert hub.totals[H41]["sent"] == 4
    assert hub.totals[UNIT]["sent"] == 1
    assert hub.totals[H54] == {**hub.totals[H54], "received": 3, "received_recall": 1, "arrived": 5}
    assert hub.proof.holds
    flows = {flow.pair: flow.counts for flow in hub.proof.flows}
    assert flows[Pair(H41, H54)] == {"sent": 5, "collected": 4, "waiting": 1}
    assert [branch.node for branch in hub.proof.branches] == [H41, H54]
    assert hub.open
    assert all([await site.store.numbers.waiting_up() == 0 for site in tree.sites.values()])
    assert hub.coverage.in_ == (HUB, H41, UNIT, H54)
    province = await reported(tree[H41])
    assert province.organs == {code: row for code, row in hub.organs.items() if H41.covers(code)}
    assert province.proof.holds
    assert [flow.pair for flow in province.proof.flows] == [Pair(H41, H41)], "of other pairs it sees one side"
    unit = await reported(tree[UNIT])
    assert unit.organs == {UNIT: hub.organs[UNIT]}


async def test_what_only_passes_is_stated_anew_when_it_has_passed(tree: Tree) -> None:
    """A relay writes no row of the ledger for it."""
    tree[UNIT].run()
    await send(tree, "H54.03", sender="H41.07", site=UNIT, system="so-noi-vu", number="4")
    await tree.until(lambda: [tree[code].count("outbox") for code in (UNIT, H41)] == [0, 1])
    await up(tree)
    flow = (await reported(tree[HUB])).proof.flows[0]
    assert (flow.counts, flow.difference) == ({"sent": 1, "moving": 1}, 0)
    tree[H41].run()
    await tree.until(lambda: [tree[code].count("outbox") for code in (H41, HUB)] == [0, 1])
    await up(tree)
    flow = (await reported(tree[HUB])).proof.flows[0]
    assert (flow.counts, flow.difference) == ({"sent": 1, "moving": 1}, 0), "it has come as far as the hub"


async def test_nothing_is_counted_twice_however_often_a_node_dies(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 12. A repeat at the door and a copy met again are no documents."""
    monkeypatch.setattr(reporter, "ROWS_MAX", 2)
    tree.run()
    tree[H41].line.fault("push", "no answer", "twice")
    for number in ("1", "2", "1", "2"):
        await send(tree, "H54.02", number=number)
    await collect(tree, H54, "thai-binh", 2)
    await quiet(tree)
    for code in (H41, H54):
        numbers = tree[code].store.numbers
        fold, state = numbers.fold, numbers.state
        for step, broken in (("fold", fold), ("state", state)):

            async def dies(*given: object, step: str = step, work: object = broken) -> None:
                await work(*given)  # type: ignore[operator]
                raise Deferred(0, in_doubt=True)  # the commit happened, and nobody heard of it

            monkeypatch.setattr(tree[code].store.numbers, step, dies)
            with pytest.raises(Deferred):
                await tree[code].duties.reporter.state_due()
            await tree.crash(code)
    tree[H41].line.fault("statements", "no answer", "twice")
    with pytest.raises(Deferred):
        await up(tree, H41)
    await up(tree)
    await up(tree)
    hub = await reported(tree[HUB])
    assert counts(hub, "H41", "sent", "sent_deliveries") == [2, 2]
    assert counts(hub, "H54.02", "received") == [2]
    assert hub.road[HUB]["duplicates"] >= 1
    assert hub.proof.holds


async def test_a_day_is_closed_when_it_is_over_and_what_comes_late_is_a_new_version(tree: Tree) -> None:
    await some_traffic(tree)
    tree.clock.now_ms = instant.start_ms(TODAY + timedelta(days=1)) + reporter.OVER_MS + tree.clock.bound_ms()
    await up(tree)
    tomorrow = TODAY + timedelta(days=1)
    both = await reported(tree[HUB], TODAY, tomorrow)
    assert both.coverage.in_ == (HUB, H41, UNIT, H54)
    assert both.open
    first = await reported(tree[HUB])
    assert (first.open, first.coverage.late, first.organs) == (False, (), both.organs)
    assert tree[HUB].rows("SELECT DISTINCT day,final FROM statement ORDER BY day") == [(str(TODAY), 1), (str(tomorrow), 0)]
    quiet_day = await reported(tree[HUB], tomorrow)
    assert not any(quiet_day.organs.values())
    assert quiet_day.proof.holds
    assert max(tree[HUB].rows("SELECT max(length(data)) FROM statement WHERE node='H41.07' AND day=?", str(tomorrow))) < (1000,)
    late = decode_statement(tree[UNIT].rows("SELECT data FROM statement WHERE day=?", str(TODAY))[0][0])
    more = replace(late, version=Version(1, late.version.n + 1), organs={UNIT: {"sent": 9}})
    assert await bring(tree, H41, UNIT, more) == Kept.NEW
    await up(tree, H41, HUB)
    after = await reported(tree[HUB])
    assert counts(after, "H41.07", "sent") == [9]
    assert tree[H41].rows("SELECT node,n FROM statement_past WHERE node='H41.07'") == [("H41.07", late.version.n)]
    assert await bring(tree, H41, UNIT, replace(more, version=Version(2, 1))) == Kept.NEW, "a restored store is above"


async def bring(tree: Tree, parent: OrgId, child: OrgId, statement: Statement, sign_as: OrgId | None = None) -> str:
    """A child presents what it says is a statement."""
    data = encode_statement(statement)
    signer = tree[child if sign_as is None else sign_as].signer
    post = Post(((data, signer.sign(data)),), {signer.key_id: signer.chain_pem})
    (word,) = await tree[parent].duties.reporter.receive(child, post)
    return word


async def test_an_altered_a_forged_and_a_replayed_statement_are_named_and_a_withheld_one_is_missing(tree: Tree) -> None:
    """What somebody on the way does to a statement is named. Threats, row 23."""
    await some_traffic(tree)
    await up(tree)
    before = await reported(tree[HUB])
    kept = decode_statement(tree[HUB].rows("SELECT data FROM statement WHERE node='H41'")[0][0])
    forged = replace(kept, version=Version(1, 99), organs={H41: {"sent": 1_000}})
    assert await bring(tree, HUB, H41, replace(kept, organs={H41: {"sent": 1_000}})) == Kept.ALTERED
    assert await bring(tree, HUB, H41, replace(kept, version=Version(1, 99)), sign_as=H54) == Kept.SIGNATURE
    assert await bring(tree, HUB, H54, forged) == Kept.OUTSIDE
    (data,) = tree[HUB].rows("SELECT data FROM statement WHERE node='H41'")[0]
    post = Post(((data.replace(b'"sent":4', b'"sent":5'), b"x"), (b"rubbish", b"x")), {})
    assert await tree[HUB].duties.reporter.receive(H41, post) == (Kept.SIGNATURE, Kept.MALFORMED)
    await send(tree, "H54.02", number="77")
    await up(tree, H41)
    assert await bring(tree, HUB, H41, kept) == Kept.OLDER
    found = await reported(tree[HUB])
    assert {(each.node, each.reason) for each in found.refusals} == {
        (H41, "statement-altered"),
        (H41, "statement-signature"),
        (H41, "statement-outside"),
        (H41, "statement-malformed"),
        (H41, "statement-older"),
    }
    assert counts(found, "H41", "sent") == [before.organs[H41]["sent"] + 1], "nothing else has changed"
    assert tree[HUB].events("statement-refused") == ["statement-refused"] * 5
    tree.clock.now_ms += DAY_MS
    await up(tree, H41, H54, HUB)
    assert (await reported(tree[HUB], TODAY, TODAY)).coverage.late == (UNIT,)
    assert (await reported(tree[HUB], TODAY + timedelta(days=1))).coverage.missing == (UNIT,)


async def test_a_trial_that_ends_at_midnight_leaves_no_trace_in_any_figure(tree: Tree) -> None:
    """QĐ 28/2018 Điều 21.1. The document counts for the other receiver, wherever the one on trial stands in the list."""
    tomorrow = TODAY + timedelta(days=1)
    for site in tree.sites.values():
        there = site.surroundings.directory
        (entry,) = [each for each in there.entries if each.code == org("H54.03")]
        trial = replace(entry, connection=Connection.TRIAL, valid_to=TODAY)
        entries = [each for each in there.entries if each is not entry]
        site.surroundings.take(replace(there, entries=(*entries, trial, replace(entry, valid_from=tomorrow)), version=2))
    await send(tree, "H54.03", "H54.02", number="1")
    await up(tree, H41, HUB)
    flows = {flow.pair: flow.counts for flow in (await reported(tree[HUB])).proof.flows}
    assert flows == {Pair(H41, H54): {"sent": 1, "moving": 1}}
    assert counts(await reported(tree[HUB]), "H41", "sent", "sent_deliveries") == [1, 1]
    tree.run()
    await quiet(tree)
    tree.clock.now_ms += DAY_MS
    await up(tree)
    found = await reported(tree[HUB])
    assert found.proof.holds, "it waits in the mailbox of what is official by now"
    await send(tree, "H54.03", number="2")
    await collect(tree, H54, "thai-binh", 3)
    await quiet(tree)
    await up(tree)
    both = await reported(tree[HUB], TODAY, tomorrow)
    assert both.proof.holds
    assert (counts(both, "H54.03", "received", "arrived"), counts(both, "H54.02", "received")) == ([1, 1], [1])
    assert counts(both, "H41", "sent", "sent_deliveries") == [2, 2]


async def test_nobody_adds_to_the_figures_of_another(tree: Tree) -> None:
    """A node speaks for the organs it serves and, as their parent, for those below. Threats, row 23."""
    await some_traffic(tree)
    await up(tree)
    before = (await reported(tree[HUB])).organs
    kept = decode_statement(tree[HUB].rows("SELECT data FROM statement WHERE node='H41.07'")[0][0])
    for place, organ in enumerate(("H54.02", "H41", "G22")):
        forged = replace(kept, version=Version(1, 90 + place), organs={org(organ): {"sent": 1_000}})
        assert await bring(tree, H41, UNIT, forged) == Kept.OUTSIDE
    assert (await reported(tree[H41])).organs[H41] == before[H41]
    more = replace(kept, version=Version(1, 99), organs={**kept.organs, org("H41.07.77"): {"sent": 1}})
    assert await bring(tree, H41, UNIT, more) == Kept.NEW, "a code of its own that the directory does not have yet"


async def test_a_clock_that_nobody_vouches_for_states_no_silent_day(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that wakes in 1970 would be missing every day since."""
    right_ms, synchronised = tree.clock.now_ms, tree.clock.synchronised
    monkeypatch.setattr(tree.clock, "synchronised", lambda: False)
    tree.clock.now_ms = 1_000
    await up(tree)
    tree.clock.now_ms = right_ms
    monkeypatch.setattr(tree.clock, "synchronised", synchronised)
    await up(tree)
    assert (await reported(tree[HUB], TODAY - timedelta(days=30), TODAY)).coverage.in_ == (HUB, H41, UNIT, H54)
    assert tree[HUB].rows("SELECT DISTINCT day FROM statement") == [(str(TODAY),)]


async def test_what_a_clock_a_day_ahead_has_said_there_is_does_not_stay(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until that day came, nothing said later would have counted as the last word."""
    right_ms, synchronised = tree.clock.now_ms, tree.clock.synchronised
    monkeypatch.setattr(tree.clock, "synchronised", lambda: False)
    tree.clock.now_ms += DAY_MS
    await send(tree, "H54.02", number="1")
    await tree[H41].duties.reporter.state_due()
    tree.clock.now_ms = right_ms
    monkeypatch.setattr(tree.clock, "synchronised", synchronised)
    await tree[H41].duties.reporter.push_due()
    tree.run()
    await collect(tree, H54, "thai-binh")
    await quiet(tree)
    await up(tree)
    found = await reported(tree[HUB])
    assert [(str(flow.pair), dict(flow.counts)) for flow in found.proof.flows] == [("H41>H54", {"sent": 1, "collected": 1})]
    assert counts(await reported(tree[HUB], TODAY + timedelta(days=1)), "H41", "sent") == [1], "it bears that day, and is marked"


async def test_a_parent_that_was_set_up_anew_asks_for_chains_and_a_claim_that_does_not_add_up_is_named(tree: Tree) -> None:
    await some_traffic(tree)
    await up(tree)
    kept = decode_statement(tree[HUB].rows("SELECT data FROM statement WHERE node='H41'")[0][0])
    data = encode_statement(replace(kept, version=Version(1, 50), key="0" * 64))
    assert await tree[HUB].duties.reporter.receive(H41, Post(((data, b""),), {})) == (Kept.CHAIN,)
    assert await bring(tree, HUB, H41, replace(kept, version=Version(1, 51), subtree={**kept.subtree, "sent": 40})) == Kept.NEW
    found = await reported(tree[HUB])
    assert found.proof.unequal == (H41,)
    assert found.proof.branches[0].difference == {"sent": 36}
    flows = replace(kept, version=Version(1, 52), pairs={Pair(H41, H54): {"sent": 6}})
    assert await bring(tree, HUB, H41, flows) == Kept.NEW
    assert Pair(H41, H54) in (await reported(tree[HUB])).proof.unbalanced


async def the_unit_moves(tree: Tree) -> None:
    moved = tuple(replace(node, parent=H54) if node.code == UNIT else node for node in NODES)
    for site in tree.sites.values():
        there = site.surroundings.directory
        site.surroundings.directory = Directory(there.entries, moved, there.axis_name, there.axis_code_text, 2)
        site.surroundings._table = site.surroundings._tabled(site.surroundings.directory)
    await tree[UNIT].rest()
    tree[UNIT].duties.reporter._parent = H54
    tree[UNIT].connect(tree.door(H54))


async def test_a_day_whose_end_no_parent_has_heard_goes_to_the_new_one(tree: Tree) -> None:
    """It was closed under the former parent, on whose line nothing went any more: that one drops what it never saw finished."""
    await some_traffic(tree)
    await up(tree)
    tree.clock.now_ms += DAY_MS
    await up(tree, H41, H54, HUB)
    await tree[UNIT].duties.reporter.state_due()
    await the_unit_moves(tree)
    for _ in range(2):
        await up(tree, UNIT, H41, H54, HUB)
    found = await reported(tree[HUB])
    assert (found.totals[H41]["sent"], found.totals[H54].get("sent", 0), found.proof.unequal) == (3, 1, ())
    assert tree[UNIT].rows("SELECT final,parent,up FROM statement WHERE day=?", str(TODAY)) == [(1, "H54", 1)]


async def test_a_unit_that_moves_is_split_at_the_date(tree: Tree) -> None:
    """What it stated before belongs to its former parent, the day of the move to the new one."""
    await some_traffic(tree)
    tree.clock.now_ms += DAY_MS
    await up(tree)
    await send(tree, "H54.03", sender="H41.07", site=UNIT, system="so-noi-vu", number="5")
    await up(tree)
    await the_unit_moves(tree)
    yesterday = TODAY + timedelta(days=1)
    for _ in range(2):
        await up(tree, UNIT, H41, H54, HUB)
    open_day = await reported(tree[HUB], yesterday)
    assert (open_day.totals[H54]["sent"], open_day.proof.unequal) == (1, ()), "at once, though nothing more was counted"
    assert (await reported(tree[H54], yesterday)).coverage.missing == ()
    await send(tree, "H54.03", sender="H41.07", site=UNIT, system="so-noi-vu", number="6")
    tree.clock.now_ms += DAY_MS
    for _ in range(2):
        await up(tree, UNIT, H41, H54, HUB)
    hub = await reported(tree[HUB], TODAY, yesterday)
    assert counts(hub, "H41.07", "sent") == [3]
    assert (hub.totals[H41]["sent"], hub.totals[H54]["sent"], hub.totals[HUB]["sent"]) == (4, 2, 6)
    assert hub.proof.unequal == ()
    assert counts(await reported(tree[H41], TODAY, yesterday), "H41.07", "sent") == [1]
    new = await reported(tree[H54], TODAY, yesterday)
    assert counts(new, "H41.07", "sent") == [2]
    assert new.coverage.missing == ()
    await counted_late(tree[UNIT], "H41.07")
    for _ in range(2):
        await up(tree, UNIT, H41, H54, HUB)
    late = await reported(tree[HUB])
    assert counts(late, "H41.07", "sent") == [2]
    totals = (late.totals[H41]["sent"], late.totals[H54].get("sent", 0), late.totals[HUB]["sent"])
    assert totals == (5, 0, 5), "a day that was closed under H41 stays its own, also where it is corrected after the move"
    assert late.proof.unequal == (H41,), "who cannot know"
    assert (await reported(tree[H54])).totals[H54].get("sent", 0) == 0


async def counted_late(site: Site, organ: str) -> None:
    """One more document turns out to belong to a day that is closed."""

    def work(tx: Transaction) -> None:
        _add_counted(tx.db, TODAY, f"o{organ}", {"sent": 1})
        due(tx, [TODAY])

    await site.store._do(work)


async def test_a_node_whose_clock_nobody_vouches_for_closes_no_day(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree.clock, "synchronised", lambda: False)
    await send(tree, "H41.05")
    tree.clock.now_ms += DAY_MS
    await up(tree, H41, HUB)
    found = await reported(tree[H41])
    assert (found.coverage.late, counts(found, "H41", "sent")) == ((H41,), [1])
    assert decode_statement(tree[HUB].rows("SELECT data FROM statement WHERE node='H41' AND day=?", str(TODAY))[0][0]).marked == 2


async def test_the_hub_hears_of_an_open_day_by_itself(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loop as in service, with shorter pauses."""
    monkeypatch.setattr(reporter, "SETTLE_S", 0.005)
    tasks = []
    for site in tree.sites.values():
        site.duties.reporter._paces = reporter.Paces(0.01, 0.01)
        tasks.append(asyncio.create_task(site.duties.reporter.run()))
        if site.code != HUB:
            tasks.append(asyncio.create_task(site.duties.reporter.run_upward()))
    await some_traffic(tree)

    async def told() -> bool:
        await asyncio.sleep(0.01)
        tree.stirred.set()
        found = await reported(tree[HUB])
        return found.proof.holds and not found.coverage.missing and counts(found, "H41", "sent") == [3]

    try:
        await tree.until(told)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert CALENDAR.works(TODAY) is (TODAY.weekday() < 5)

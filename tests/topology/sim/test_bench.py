"""The bench: offices reach their node through the network, and what was promised is looked for after every restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from node.core.identifier import HUB, OrgId
from tests.topology.sim.tiny import CALM, bench_of, run
from topology.sim.bench import Bench
from topology.sim.ledger import Violation
from topology.sim.profile import SLOW, Profile

H41 = OrgId.canonical("H41")
LARGE = replace(CALM, traffic=replace(CALM.traffic, p_large=1.0, p_broken=0.0, p_only_bad=0.0, p_update=0.0))


@pytest.fixture
def made() -> Iterator[list[Bench]]:
    """Benches to end after the test."""
    benches: list[Bench] = []
    yield benches
    for bench in benches:
        bench.end()
        run(bench, asyncio.sleep(0))
        bench.loop.close()


def booted(made: list[Bench], profile: Profile = CALM, *, until_s: float = 0.0) -> Bench:
    bench = bench_of(profile)
    made.append(bench)
    run(bench, bench.boot(60.0))
    bench.open_offices()
    run(bench, asyncio.sleep(until_s))
    return bench


def finish(bench: Bench) -> None:
    """Until all work is done."""

    async def wait() -> None:
        bench.hurry()
        for _ in range(200):
            await asyncio.sleep(5.0)
            if bench.done():
                return
        raise AssertionError("the work did not end")

    run(bench, wait())
    run(bench, bench.read_sent())


def test_offices_hand_in_and_collect_until_all_work_is_done_and_nothing_is_wrong(made: list[Bench]) -> None:
    bench = booted(made)
    assert not bench.done(), "there are documents to send"
    finish(bench)
    assert sum(item.processed for item in bench.ledger.items.values()) >= 5
    assert bench.judge() == []
    assert not bench.wrong()
    assert run(bench, bench.held()) == 0
    assert not run(bench, bench.release())


def test_a_node_that_does_not_come_up_in_time_is_told(made: list[Bench]) -> None:
    bench = bench_of()
    made.append(bench)
    bench.world.machines[H41].start = lambda: None  # type: ignore[method-assign]
    run(bench, bench.boot(30.0))
    assert bench.world.violations == ["h41 did not come up in 30.0 s"]


def test_an_office_whose_node_is_down_does_not_reach_it(made: list[Bench]) -> None:
    bench = booted(made)
    bench.world.machines[H41].fall(power=False, again_s=120.0)
    run(bench, asyncio.sleep(100.0))
    assert bench.ledger.counts["office/not reached"] > 0
    assert not bench.done()


def test_a_promise_that_a_restart_has_forgotten_is_found(made: list[Bench]) -> None:
    bench = booted(made, until_s=60.0)
    finish(bench)
    hub = bench.world.machines[HUB]
    hub.taken["H41", "an-id", "G22"] = None
    hub.fall(power=False, again_s=1.0)
    run(bench, asyncio.sleep(20.0))
    assert bench.known() == [Violation("lost", "hub has taken an-id of H41 for G22 and forgot it")]
    assert bench.wrong()


def test_a_large_body_that_is_not_what_was_taken_is_found_at_the_next_restart_unless_the_run_has_turned_a_bit(
    made: list[Bench],
) -> None:
    bench = booted(made, LARGE, until_s=60.0)
    finish(bench)
    machine, path = next(
        (each, path) for each in bench.world.machines.values() for path in each.disk.paths() if path.startswith("bodies/")
    )
    content = machine.disk.content(path)
    machine.disk.load(path, content[:512] + bytes(512) + content[1024:])
    machine.fall(power=False, again_s=1.0)
    run(bench, asyncio.sleep(20.0))
    assert ["is not what was taken" in violation.text for violation in bench.known()] == [True]
    machine.disk.flipped[path] = None
    bench.found.clear()
    machine.fall(power=False, again_s=1.0)
    run(bench, asyncio.sleep(20.0))
    assert bench.known() == []


def test_lines_carry_what_the_profile_says_until_offices_are_told_to_hurry(made: list[Bench]) -> None:
    bench = booted(made, replace(CALM, line_bytes_per_s=5_000.0))
    line = bench.world.network.line("h41", "hub")
    assert line.bytes_per_s == 5_000.0
    assert bench.world.network.line("office:nghean", "h41").bytes_per_s > 5_000.0
    bench.hurry()
    assert line.bytes_per_s == bench.world.network.usual.bytes_per_s


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_only_the_line_at_one_end_of_the_road_is_slow_where_the_profile_says_so(made: list[Bench], seed: int) -> None:
    profile = replace(CALM, traffic=replace(SLOW.traffic, documents=2), line_bytes_per_s=5_000.0, one_line=True)
    bench = bench_of(profile, seed)
    made.append(bench)
    run(bench, bench.boot(60.0))
    bench.open_offices()
    package = bench.ledger.sent[1].package
    ends = {package.system, bench.addresses.owner[package.good[0].organ].id}
    slow = {line.source for line in bench.world.network.lines() if line.bytes_per_s == 5_000.0}
    nodes = {machine.name: {system.id for system in machine.site.systems} for machine in bench.world.machines.values()}
    assert len(slow) == 2, "there and back"
    assert any(nodes[name] & ends for name in slow)


def test_a_profile_in_which_lifetimes_end_allows_documents_to_expire(made: list[Bench]) -> None:
    for profile in (CALM, replace(CALM, expires=True, patience_s=7.0)):
        bench = bench_of(profile)
        made.append(bench)
        assert (bench._rules().may_expire, bench._rules().patience_s) == (profile.expires, profile.patience_s)


def test_ways_out_of_faults_are_read_from_the_nodes_own_counters(made: list[Bench]) -> None:
    bench = booted(made)
    assert bench.paths() == {}
    bench.world.machines[HUB].tally.add("truc_duplicates_total", 3, door="link")
    bench.world.machines[H41].tally.add("truc_held_total", reason="office-fail")
    assert bench.paths() == {"path/duplicate on a link": 3, "path/held office-fail": 1}

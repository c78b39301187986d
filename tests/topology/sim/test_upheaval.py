"""News that reach the nodes one after the other: a closed organ, a unit under another parent; never half done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from node.core.directory import Connection, Directory
from node.core.identifier import OrgId
from tests.topology.sim.tiny import bench_of, run
from topology.sim.bench import Bench
from topology.sim.record import stream
from topology.sim.upheaval import ROLL_OUT_S, claimed, gone_back, moved, removed

SET_UP_S = 3 * ROLL_OUT_S + 100.0


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = bench_of()
    run(bench, bench.boot(60.0))
    yield bench
    bench.end()
    run(bench, asyncio.sleep(0))
    bench.loop.close()


def directories(bench: Bench) -> list[Directory]:
    return [machine.run.duties.registrar.directory for machine in bench.world.machines.values() if machine.run is not None]


def test_a_closed_organ_is_closed_at_every_node_and_not_at_once(bench: Bench) -> None:
    run(bench, removed(bench.world, stream(1, "removed")))
    code, *_ = bench.world.changed
    known = set()
    for _ in range(3 * int(ROLL_OUT_S)):
        known.add(len({each.version for each in directories(bench)}))
        run(bench, asyncio.sleep(1.0))
    assert known == {1, 2}, "for a while they disagree"
    for each in directories(bench):
        assert [entry.connection for entry in each.history(OrgId.canonical(code))] == [Connection.CLOSED]
    assert code in bench.ledger.changed, "the judges know of it"


def test_a_node_that_goes_back_is_given_what_it_lost_and_nobody_follows_it(bench: Bench) -> None:
    run(bench, removed(bench.world, stream(1, "removed")))
    run(bench, asyncio.sleep(3 * ROLL_OUT_S))
    (version,) = {each.version for each in directories(bench)}
    for number in range(4):
        run(bench, gone_back(bench.world, stream(number, "gone back")))
    run(bench, asyncio.sleep(2 * ROLL_OUT_S))
    assert {each.version for each in directories(bench)} == {version}
    assert bench.world.violations == []


def test_what_a_bad_node_claims_is_believed_by_nobody_and_is_named(bench: Bench) -> None:
    for number in range(3):
        run(bench, claimed(bench.world, stream(number, "claimed")))
    run(bench, asyncio.sleep(2 * ROLL_OUT_S))
    assert bench.world.violations == []
    assert all(each.run is not None and each.run.desk.registered()["aside"] for each in bench.world.machines.values())
    assert bench.world.total().value("truc_directory_refused_total", reason="signature") > 0


@pytest.mark.parametrize("cut_short_after_s", [None, 1.0, ROLL_OUT_S])
def test_a_moved_unit_hangs_under_its_new_parent_also_when_the_storm_ends_before(
    bench: Bench, cut_short_after_s: float | None
) -> None:
    task = bench.loop.create_task(moved(bench.world, stream(1, "moved")))
    if cut_short_after_s is not None:
        run(bench, asyncio.sleep(cut_short_after_s))
        task.cancel()
    run(bench, asyncio.sleep(SET_UP_S))
    assert task.done()
    ((unit, parent),) = bench.world.moved.items()
    assert bench.world.machines[unit].parent == parent
    for each in directories(bench):
        node = each.node(unit)
        assert node is not None
        assert node.parent == parent
    assert all(machine.run is not None for machine in bench.world.machines.values())
    above = bench.world.machines[parent].run
    assert above is not None
    assert above.duties.forwarder.neighbours[unit].last_seen_ms > 0, "it calls there"
    assert bench.world.violations == []


def test_a_unit_moves_once_in_a_run(bench: Bench) -> None:
    for number in range(2 * len(bench.world.machines)):
        run(bench, moved(bench.world, stream(number, "moved")))
    run(bench, asyncio.sleep(SET_UP_S))
    assert len(bench.world.moved) <= len(bench.world.machines)
    for unit, parent in bench.world.moved.items():
        assert {getattr(each.node(unit), "parent", None) for each in directories(bench)} == {parent}

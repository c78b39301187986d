"""News that reach the nodes one after the other: a closed organ, a unit under another parent; never half done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from node.core.directory import Connection
from node.core.identifier import OrgId
from tests.topology.sim.tiny import bench_of, run
from topology.sim.bench import Bench
from topology.sim.record import stream
from topology.sim.upheaval import ROLL_OUT_S, moved, removed, roll_out

SET_UP_S = 3 * ROLL_OUT_S + 100.0


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = bench_of()
    run(bench, bench.boot(60.0))
    yield bench
    bench.end()
    run(bench, asyncio.sleep(0))
    bench.loop.close()


def parents_by_directory(bench: Bench) -> dict[str, OrgId | None]:
    return {str(node.code): node.parent for node in bench.world.directory.nodes}


def test_a_closed_organ_is_closed_at_every_node_within_the_roll_out_and_not_at_once(bench: Bench) -> None:
    run(bench, removed(bench.world, stream(1, "removed")))
    (code,) = bench.world.changed
    given = [machine.given for machine in bench.world.machines.values()]
    assert {each.directory.version for each in given} == {bench.world.directory.version - 1}
    run(bench, asyncio.sleep(ROLL_OUT_S / 2))
    assert len({each.directory.version for each in given}) == 2, "for a while they disagree"
    run(bench, asyncio.sleep(ROLL_OUT_S))
    for each in given:
        (entry,) = [entry for entry in each.directory.entries if str(entry.code) == code]
        assert entry.connection is Connection.CLOSED
    assert code in bench.ledger.changed, "the judges know of it"


def test_an_older_directory_does_not_replace_a_newer_one(bench: Bench) -> None:
    old = bench.world.directory
    run(bench, removed(bench.world, stream(1, "removed")))
    run(bench, asyncio.sleep(ROLL_OUT_S))
    roll_out(bench.world, old, stream(2, "late"))
    run(bench, asyncio.sleep(ROLL_OUT_S))
    assert {machine.given.directory.version for machine in bench.world.machines.values()} == {old.version + 1}


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
    assert parents_by_directory(bench)[str(unit)] == parent
    assert all(machine.run is not None for machine in bench.world.machines.values())
    above = bench.world.machines[parent].run
    assert above is not None
    assert above.duties.forwarder.neighbours[unit].last_seen_ms > 0, "it calls there"
    assert bench.world.violations == []


def test_a_unit_moves_once_in_a_run(bench: Bench) -> None:
    first = bench.world.directory.version
    for number in range(2 * len(bench.world.machines)):
        run(bench, moved(bench.world, stream(number, "moved")))
    assert bench.world.directory.version == first + len(bench.world.moved)

"""Every kind of fault does something, and is over when it says so: afterwards nothing of it is left, also if it was cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from node.core.identifier import HUB
from tests.topology.sim.tiny import CALM, bench_of, run
from topology.sim import faults
from topology.sim.bench import Bench
from topology.sim.faults import KINDS, strike
from topology.sim.lines import Line
from topology.sim.profile import CRASHES, Stroke

NEWS = frozenset({"removed", "moved"})
"""Not a fault but a decision of people: it stays."""
WORDS = frozenset({"claimed", "gone back"})
"""What is said of the directory: `test_upheaval.py`."""
MARKS = frozenset({"forged", "bit flip"})
"""Done in an instant, and not undone: a forgery is asked for, a bit is turned."""
BUSY = replace(CALM, traffic=replace(CALM.traffic, documents=30, span_s=240.0, p_large=0.3), certificates=1.0)
ACT_S = 600.0
OVER_S = 3_600.0
STEP_S = 0.25
TRIES = 30


def condition(line: Line) -> tuple[float, ...]:
    """What a line is like now."""
    return (
        *(line.cut, line.clogged, line.reset, line.bytes_per_s, line.latency_s),
        *(line.p_refuse, line.p_lose_request, line.p_lose_reply, line.p_reset, line.p_duplicate, line.p_reorder),
    )


class Stage:
    """A world at work."""

    def __init__(self) -> None:
        self.bench = bench_of(BUSY)
        self.world = self.bench.world
        run(self.bench, self.bench.boot(60.0))
        self.bench.open_offices()
        self.let_pass(40.0)
        self.before = self.state()

    def let_pass(self, seconds: float) -> None:
        run(self.bench, asyncio.sleep(seconds))

    def begin(self, kind: str, number: int = 1) -> asyncio.Task[None]:
        began_s = self.bench.loop.time()
        return self.bench.loop.create_task(strike(self.world, Stroke(0.5, kind, number), began_s))

    def state(self) -> dict[str, Any]:
        """All that a fault may change and must put back."""
        network, machines = self.world.network, self.world.machines.values()
        lines = {(line.source, line.target): condition(line) for line in network.lines()}
        healthy = condition(network.usual)
        now_s = self.bench.loop.time()
        return {
            "lines": {ends: now for ends, now in lines.items() if now != healthy},
            "modes": {name: network.mode(name) for name in self.world.by_name},
            "disks": {each.name: (each.disk.capacity_bytes, each.disk.slow_s, each.disk.lying) for each in machines},
            "clocks": {each.name: round(each.clock.wall_ns() / 1e9 - now_s, 1) for each in machines},
            "lied to": [each.name for each in machines if each.lied_to],
            "poisoned": dict(self.world.poisoned),
            "sparing": dict(self.world.sparing),
            "forging": dict(self.world.forging),
            "without certificate": [name for name in self.world.by_name if self.bare(name)],
            "paused": [each.name for each in machines if each.life is not None and not each.life.runs],
            "changed": dict(self.world.changed),
        }

    def bare(self, name: str) -> bool:
        """Whether something is the matter with its certificate."""
        assert self.world.network.papers is not None
        paper = self.world.network.papers.of(self.world.by_name[name])
        return paper.troubled or paper.revoked_s is not None

    def acted(self) -> bool:
        """Whether something is other than it was, or has struck."""
        counts = self.world.record.counts
        struck = ("down", "stopped", "exit", "fault/flip", "fault/disk-read", "fault/disk-write", "fault/disk-sync")
        return self.state() != self.before or any(counts[event] for event in struck)

    def acted_or_did_not(self, kind: str, task: asyncio.Task[None]) -> bool:
        """Whether it is known by now if a fault has acted."""
        return self.acted() or (task.done() and kind in MARKS)

    def until(self, what: Callable[[], bool], most_s: float) -> bool:
        async def wait() -> bool:
            until_s = self.bench.loop.time() + most_s
            while not what() and self.bench.loop.time() < until_s:
                await asyncio.sleep(STEP_S)
            return what()

        return bool(run(self.bench, wait()))

    def up(self) -> bool:
        return all(machine.run is not None for machine in self.world.machines.values())


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.bench.end()
    stage.let_pass(0.0)
    stage.bench.loop.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WORDS])
def test_it_acts_and_undoes_itself_when_it_is_over(stage: Stage, kind: str) -> None:
    for number in range(1, TRIES):  # the machine that is drawn may have no body yet in which a bit could turn
        task = stage.begin(kind, number)
        if stage.until(partial(stage.acted_or_did_not, kind, task), ACT_S) and stage.acted():
            break
    assert stage.acted(), "a fault that does nothing tests nothing"
    if kind == "clock wrong":  # lasts until the end of the storm
        task.cancel()
    assert stage.until(task.done, OVER_S)
    assert task.cancelled() or task.exception() is None
    assert stage.world.record.counts[f"fault/{kind}"] == number
    assert stage.until(stage.up, OVER_S), "whatever fell comes up by itself"
    if kind not in NEWS | MARKS:
        assert stage.state() == stage.before
    assert stage.world.violations == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NEWS | MARKS | WORDS])
def test_cut_short_it_undoes_itself_too(stage: Stage, kind: str) -> None:
    task = stage.begin(kind)
    stage.until(lambda: stage.acted() or task.done(), ACT_S)
    task.cancel()
    stage.until(task.done, 1.0)
    assert task.done()
    assert stage.state() == stage.before
    stage.world.heal()
    assert stage.until(stage.up, OVER_S)
    stage.let_pass(30.0)
    assert stage.up(), "an operation that was to be its last is forgotten when the world heals"


@pytest.mark.parametrize("kind", sorted(CRASHES))
def test_what_ends_a_process_ends_one(stage: Stage, kind: str) -> None:
    stage.begin(kind)
    counts = stage.world.record.counts
    assert stage.until(lambda: counts["down"] + counts["stopped"] > 0, ACT_S)


def test_a_fault_begins_at_its_time_and_is_told(stage: Stage) -> None:
    began_s = stage.bench.loop.time()
    stage.bench.loop.create_task(strike(stage.world, Stroke(30.0, "cut", 7), began_s))
    stage.let_pass(29.9)
    assert stage.world.record.counts["fault/cut"] == 0
    stage.let_pass(0.2)
    assert stage.world.record.counts["fault/cut"] == 1
    assert stage.state() != stage.before


def test_choices_follow_from_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []

    async def kind(_world: Any, rng: Any) -> None:
        drawn.append(rng.random())

    monkeypatch.setattr(faults, "KINDS", {"a": kind, "b": kind})
    bench: Bench = bench_of(CALM)
    for name, number in (("a", 1), ("a", 1), ("a", 2), ("b", 1)):
        run(bench, strike(bench.world, Stroke(0.0, name, number), 0.0))
    bench.loop.close()
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_a_lying_disk_is_spared_the_power_cut_that_was_planned_for_it(stage: Stage) -> None:
    machine = stage.world.machines[HUB]
    struck: list[bool] = []
    machine.disk.strike_in(1_000, "power", lambda: struck.append(True))
    for number in range(1, 60):  # until one of them chooses the hub
        stage.begin("lying disk", number)
        if stage.until(lambda: machine.lied_to, 2.0):
            break
    assert machine.lied_to
    stage.until(lambda: machine.starts > 1, OVER_S)
    assert (struck, stage.world.record.counts["fault/power"]) == ([], 0)

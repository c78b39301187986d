"""The smallest rehearsals that still are ones: seven nodes, a handful of documents, seconds of real time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from topology.load import default_topology, load_lawful
from topology.sim.bench import Bench
from topology.sim.loop import SimLoop
from topology.sim.offices import Habits
from topology.sim.profile import NODE_OPTIONS, SMALL, Profile
from topology.sim.record import Record
from topology.sim.traffic import Traffic

TREE = load_lawful(default_topology())
CALM = Profile("calm", Traffic(documents=6, span_s=60.0), Habits(poll_s=20.0, p_answered=0.2), 0, 0, {}, NODE_OPTIONS, 900.0)
STORMY = replace(
    SMALL,
    name="stormy",
    traffic=replace(SMALL.traffic, documents=20, span_s=240.0),
    crashes=8,
    settle_s=1_200.0,
    certificates=0.0,
)
"""Like `small`, only less of it; what never ends is given up sooner."""


def bench_of(profile: Profile = CALM, seed: int = 1) -> Bench:
    """A bench on a loop of its own, not yet booted."""
    loop = SimLoop()
    return Bench(TREE, profile, seed, loop, Record(loop.time))


def run(bench: Bench, work: Any) -> Any:
    """Run something to its end on the bench's loop."""
    return bench.loop.run_until_complete(work)

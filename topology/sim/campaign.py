"""Many seeds: worker processes, a summary, and what must have happened at least once over a batch.

One seed in fifty is run again in a fresh process with another PYTHONHASHSEED: another digest is a failure above all others. Knows
the rows that workers print and nothing of what a run is made of.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
"""The outcome of one seed as JSON: seed, digest, ok, violations, documents, deliveries, lost, doubled, stuck, faults, paths …"""

REPEAT_EVERY = 50
BATCH_MIN = 200
"""A batch of so many seeds or more must have met everything in `must`."""
SEEDS_PER_WORKER = 50
"""A worker is replaced by a fresh one after so many: memory it may have kept goes with it."""
ROW_BYTES_MAX = 64 << 20
SHOWN_MAX = 5
TOTALS = ("documents", "deliveries", "statuses", "lost", "doubled", "stuck", "wrong")


class WorkerFailed(Exception):
    """A worker process ended in the middle of a seed; the text says which and what it wrote last."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. topology: the tree's file, None for the default one. must: names of events ("fault/…", "path/…") that a batch
    of BATCH_MIN seeds or more has to meet. known: rows of an earlier, interrupted campaign by seed; they are not run again."""

    profile: str
    seeds: Sequence[int]
    jobs: int = 2
    topology: Path | None = None
    mutant: str = ""
    must: Sequence[str] = ()
    known: Mapping[int, Row] = field(default_factory=dict)
    stop_at_first: bool = False


@dataclass
class Summary:
    """What a campaign came to. failed: seeds with violations; differing: seeds whose repetition gave another digest."""

    plan: Plan
    totals: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    differing: list[int] = field(default_factory=list)
    repeated: int = 0
    seeds: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0

    def add(self, row: Row) -> None:
        self.seeds += 1
        self.totals.update({name: int(row[name]) for name in TOTALS})
        self.events.update(row["events"])
        self.virtual_s += float(row["virtual_s"])
        if not row["ok"]:
            self.failed.append(int(row["seed"]))

    @property
    def missing(self) -> list[str]:
        """What must happen in a large batch and did not."""
        return [name for name in self.plan.must if not self.events[name]]

    @property
    def good(self) -> bool:
        unmet = self.missing if self.seeds >= BATCH_MIN else []
        return not (self.failed or self.differing or unmet)

    def row(self) -> dict[str, Any]:
        """The last line of `--json`."""
        faults = {name.removeprefix("fault/"): count for name, count in sorted(self.events.items()) if name.startswith("fault/")}
        paths = {name.removeprefix("path/"): count for name, count in sorted(self.events.items()) if name.startswith("path/")}
        return {
            "summary": True,
            "profile": self.plan.profile,
            "seeds": self.seeds,
            "ok": self.good,
            **{name: self.totals[name] for name in TOTALS},
            "nondeterministic": len(self.differing),
            "repeated": self.repeated,
            "failed_seeds": sorted(self.failed),
            "differing_seeds": sorted(self.differing),
            "faults": faults,
            "paths": paths,
            "did_not_happen": self.missing,
            "virtual_s": round(self.virtual_s, 1),
            "real_s": round(self.real_s, 1),
        }


async def run(plan: Plan, heard: Callable[[Row], None]) -> Summary:
    """Run every seed of the plan. heard: called with the row of each seed as it ends, also with the known ones first."""
    summary = Summary(plan)
    began = asyncio.get_running_loop().time()
    for seed in plan.seeds:
        if seed in plan.known:
            summary.add(plan.known[seed])
            heard(plan.known[seed])
    waiting = deque(seed for seed in plan.seeds if seed not in plan.known)
    digests: dict[int, str] = {}
    again = deque(seed for place, seed in enumerate(waiting) if place % REPEAT_EVERY == 0)

    def first(row: Row) -> None:
        digests[int(row["seed"])] = str(row["digest"])
        summary.add(row)
        heard(row)
        if plan.stop_at_first and not row["ok"]:
            waiting.clear()
            again.clear()

    def second(row: Row) -> None:
        summary.repeated += 1
        if digests[int(row["seed"])] != row["digest"]:
            summary.differing.append(int(row["seed"]))

    await _all(plan, waiting, first, hash_seed=1)
    again = deque(seed for seed in again if seed in digests)
    await _all(plan, again, second, hash_seed=2)
    summary.real_s = asyncio.get_running_loop().time() - began
    return summary


async def _all(plan: Plan, seeds: deque[int], heard: Callable[[Row], None], hash_seed: int) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(max(1, min(plan.jobs, len(seeds)))):
            group.create_task(_work(plan, seeds, heard, hash_seed + 2 * number))


async def _work(plan: Plan, seeds: deque[int], heard: Callable[[Row], None], hash_seed: int) -> None:
    """One worker after the other, until no seed is left."""
    while seeds:
        environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "topology.sim.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=ROW_BYTES_MAX,
            env=environment,
        )
        try:
            for _ in range(SEEDS_PER_WORKER):
                if not seeds:
                    break
                heard(await _one(worker, plan, seeds.popleft()))
        finally:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()


async def _one(worker: asyncio.subprocess.Process, plan: Plan, seed: int) -> Row:
    assert worker.stdin is not None and worker.stdout is not None
    topology = str(plan.topology.absolute()) if plan.topology is not None else None
    job = {"topology": topology, "profile": plan.profile, "seed": seed, "mutant": plan.mutant}
    worker.stdin.write(json.dumps(job).encode() + b"\n")
    await worker.stdin.drain()
    line = await worker.stdout.readline()
    if not line:
        raise WorkerFailed(f"seed {seed}: the worker ended with {await worker.wait()}; see what it wrote above")
    row: Row = json.loads(line)
    return row


def read_rows(lines: Iterable[str]) -> dict[int, Row]:
    """Rows of an earlier campaign (`--json` into a file): those that are whole and no summary, by seed."""
    rows: dict[int, Row] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # the campaign ended in the middle of a line
            continue
        if isinstance(row, dict) and "seed" in row and "digest" in row:
            rows[int(row["seed"])] = row
    return rows

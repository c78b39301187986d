"""A process that runs seeds: one JSON job a line on its standard input, one JSON outcome a line on its standard output.

Several run side by side, each with a PYTHONHASHSEED of its own, so that a seed repeated elsewhere shows whether it repeats.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from topology.load import default_topology, load_lawful
from topology.model import Tree
from topology.sim.mutants import planted
from topology.sim.profile import PROFILES
from topology.sim.run import Outcome, simulate


def main() -> None:
    """Until the input ends."""
    trees: dict[str, Tree] = {}
    gc.collect()
    gc.freeze()  # the modules: each seed begins with a collection, and they are most of what it would walk through
    for line in sys.stdin:
        print(json.dumps(work(json.loads(line), trees).row(), ensure_ascii=False), flush=True)


def work(job: Mapping[str, Any], trees: dict[str, Tree], tell: Callable[[float, str, str, int], None] | None = None) -> Outcome:
    """Run one job. trees: those read before, by the path of their file. Unless the job says `whole`, a run in which something
    is known to be wrong ends there: its work may never end."""
    path = str(job.get("topology") or default_topology())
    tree = trees[path] if path in trees else trees.setdefault(path, load_lawful(Path(path)))
    passed_s = stopwatch()
    with planted(job.get("mutant") or ""):
        outcome = simulate(tree, PROFILES[job["profile"]], int(job["seed"]), tell, hasty=not job.get("whole"))
    outcome.real_s = passed_s()
    return outcome


def stopwatch() -> Callable[[], float]:
    """Real seconds since now. The one place of the rehearsal that looks at a real clock: nothing that happens in it may."""
    began_s = time.perf_counter()
    return lambda: time.perf_counter() - began_s


if __name__ == "__main__":
    main()

"""Many seeds: each runs once, some again elsewhere; what differs, dies or never happens is told. The workers are stand-ins."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from topology.sim import campaign
from topology.sim.campaign import BATCH_MIN, REPEAT_EVERY, Plan, Row, Summary, WorkerFailed, read_rows

PYTHON = sys.executable
WORKER = """\
#!{python}
import json, os, sys
log = open({log!r}, "a")
for line in sys.stdin:
    job = json.loads(line)
    seed, hash_seed = job["seed"], os.environ["PYTHONHASHSEED"]
    print(seed, hash_seed, os.getpid(), job["profile"], job["topology"], job["mutant"], file=log, flush=True)
    digest, lost, ok = "d%d" % seed, 0, True
    {behaviour}
    row = dict(profile=job["profile"], seed=seed, digest=digest, ok=ok, documents=50, deliveries=60, statuses=9, held=0,
               lost=lost,
               doubled=0, stuck=0, wrong=0, violations=["lost: x"] * lost,
               events={{"fault/kill": 2, "path/recovered": 1}}, virtual_s=600.0, real_s=0.5)
    print(json.dumps(row), flush=True)
"""


class Stage:
    """Workers that behave as told, and the log of what they were asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.monkeypatch = monkeypatch
        self.heard: list[Row] = []
        self.behave("pass")

    def behave(self, behaviour: str) -> None:
        worker = self.folder / "worker"
        worker.write_text(WORKER.format(python=PYTHON, log=str(self.log), behaviour=behaviour))
        worker.chmod(0o755)
        self.monkeypatch.setattr(sys, "executable", str(worker))

    def run(self, seeds: range, **more: Any) -> Summary:
        return asyncio.run(campaign.run(Plan("small", seeds, **more), self.heard.append))

    @property
    def asked(self) -> list[list[str]]:
        """One for each seed a worker ran: seed, PYTHONHASHSEED, process, profile, topology, mutant."""
        return [line.split(" ") for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_every_seed_runs_once_and_its_row_is_heard(stage: Stage) -> None:
    summary = stage.run(range(1, 8), jobs=2)
    assert sorted(row["seed"] for row in stage.heard) == list(range(1, 8))
    assert (summary.seeds, summary.good, summary.totals["documents"], summary.virtual_s) == (7, True, 350, 4200.0)


def test_the_worker_is_told_the_profile_the_tree_and_the_bug(stage: Stage, tmp_path: Path) -> None:
    stage.run(range(3, 4), topology=tmp_path / "t.toml", mutant="dedup-off")
    assert stage.asked[0][3:] == ["small", str(tmp_path / "t.toml"), "dedup-off"]


def test_one_seed_in_fifty_runs_again_in_a_fresh_process_with_another_hash_seed(stage: Stage) -> None:
    summary = stage.run(range(1, REPEAT_EVERY + 2), jobs=2)
    runs: dict[str, list[list[str]]] = {}
    for asked in stage.asked:
        runs.setdefault(asked[0], []).append(asked)
    again = {seed for seed, each in runs.items() if len(each) == 2}
    assert again == {"1", str(REPEAT_EVERY + 1)}
    assert (summary.repeated, summary.differing) == (2, [])
    for seed in again:
        first, second = runs[seed]
        assert first[1] != second[1], "the same PYTHONHASHSEED would hide the order of a set"
        assert first[2] != second[2]


def test_a_seed_that_comes_out_otherwise_the_second_time_fails_the_batch(stage: Stage) -> None:
    stage.behave('digest += hash_seed if seed == 1 else ""')
    summary = stage.run(range(1, 4))
    assert (summary.differing, summary.failed, summary.good) == ([1], [], False)
    assert summary.row()["nondeterministic"] == 1
    assert summary.row()["differing_seeds"] == [1]


def test_a_worker_that_dies_is_an_error_that_names_its_seed(stage: Stage) -> None:
    stage.behave("if seed == 3: sys.exit(9)")
    with pytest.raises(ExceptionGroup) as found:
        stage.run(range(1, 6), jobs=1)
    (error,) = found.value.exceptions
    assert isinstance(error, WorkerFailed)
    assert "seed 3" in str(error)
    assert "9" in str(error)


def test_a_worker_is_replaced_after_its_share_of_seeds(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "SEEDS_PER_WORKER", 2)
    stage.run(range(1, 6), jobs=1)
    assert len({asked[2] for asked in stage.asked[:5]}) == 3


def test_known_seeds_do_not_run_again_and_count(stage: Stage) -> None:
    stage.run(range(1, 3), jobs=1)
    known = {int(row["seed"]): row for row in stage.heard}
    stage.log.unlink()
    stage.heard.clear()
    summary = stage.run(range(1, 5), jobs=1, known=known)
    assert sorted({asked[0] for asked in stage.asked}) == ["3", "4"]
    assert [row["seed"] for row in stage.heard] == [1, 2, 3, 4]
    assert summary.totals["documents"] == 200


def test_a_known_violation_stays_one(stage: Stage) -> None:
    stage.behave("lost, ok = int(seed == 2), seed != 2")
    first = stage.run(range(1, 4), jobs=1)
    known = {int(row["seed"]): row for row in stage.heard}
    assert first.failed == [2]
    assert stage.run(range(1, 4), known=known).failed == [2]


def test_where_one_find_is_enough_the_rest_does_not_run(stage: Stage) -> None:
    stage.behave("lost, ok = int(seed == 2), seed != 2")
    summary = stage.run(range(1, 30), jobs=1, stop_at_first=True)
    assert (summary.seeds, summary.failed, summary.repeated) == (2, [2], 0)


@pytest.mark.parametrize(("seeds", "good"), [(BATCH_MIN - 1, True), (BATCH_MIN, False)])
def test_what_must_happen_is_asked_of_a_large_batch_and_only_listed_for_a_small_one(stage: Stage, seeds: int, good: bool) -> None:
    stage.run(range(1))
    row = stage.heard[0]
    known = {seed: {**row, "seed": seed} for seed in range(seeds)}
    summary = stage.run(range(seeds), known=known, must=("fault/kill", "path/come-back"))
    assert summary.missing == ["path/come-back"]
    assert summary.row()["did_not_happen"] == ["path/come-back"]
    assert summary.good is good


def test_the_summary_has_every_key_that_is_promised(stage: Stage) -> None:
    row = stage.run(range(1, 3)).row()
    promised = ("documents", "deliveries", "lost", "doubled", "stuck", "faults", "virtual_s", "real_s", "seeds", "ok")
    assert [key for key in promised if key not in row] == []
    assert row["faults"] == {"kill": 4}
    assert row["paths"] == {"recovered": 2}
    assert row["real_s"] >= 0
    json.dumps(row)


def test_rows_of_an_interrupted_campaign_are_read_but_not_its_last_half_line_nor_a_summary() -> None:
    lines = ['{"seed": 1, "digest": "a", "ok": true}', '{"summary": true, "seeds": 1}', "12", '{"seed": 2, "dig']
    assert read_rows(lines) == {1: {"seed": 1, "digest": "a", "ok": True}}

"""A process that runs seeds: one line in, one line out, the same digest whatever the order of its sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from node.adapters.sqlite import admission
from topology.load import default_topology
from topology.sim import worker
from topology.sim.run import Outcome

ROOT = Path(__file__).parents[3]
JOB = {"topology": None, "profile": "small", "seed": 2, "mutant": ""}


def answers(hash_seed: int, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
    done = subprocess.run(
        (sys.executable, "-m", "topology.sim.worker"),
        input="".join(json.dumps(job) + "\n" for job in jobs),
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_stormy_seed_gives_the_same_digest_in_two_processes_with_different_hash_seeds() -> None:
    (one,), (other,) = answers(1, JOB), answers(4242, JOB)
    assert one["digest"] == other["digest"]
    assert {name: value for name, value in one.items() if name != "real_s"} == {
        name: value for name, value in other.items() if name != "real_s"
    }
    assert (one["ok"], one["seed"], one["profile"]) == (True, 2, "small")
    assert one["real_s"] > 0


class Stand:
    """Instead of a run: remembers what it was asked, and which code was in place meanwhile."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, int, bool]] = []
        self.known: list[object] = []

    def __call__(self, tree: Any, profile: Any, seed: int, tell: Any, *, hasty: bool) -> Outcome:
        self.asked.append((len(tree.sites), profile.name, seed, hasty))
        self.known.append(admission._known)
        return Outcome(profile.name, seed)


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    stand = Stand()
    monkeypatch.setattr(worker, "simulate", stand)
    return stand


def test_a_job_names_its_profile_seed_and_tree(stand: Stand) -> None:
    trees: dict[str, Any] = {}
    worker.work(JOB, trees)
    worker.work({**JOB, "topology": str(default_topology()), "profile": "quiet", "seed": 9}, trees)
    assert stand.asked == [(7, "small", 2, True), (7, "quiet", 9, True)]
    assert list(trees) == [str(default_topology())], "a tree is read once"


def test_a_bug_is_planted_for_its_job_alone(stand: Stand) -> None:
    before = admission._known
    worker.work({**JOB, "mutant": "dedup-off"}, {})
    worker.work(JOB, {})
    assert stand.known[0] is not before
    assert stand.known[1] is before


def test_a_run_ends_as_soon_as_something_is_known_to_be_wrong_unless_it_is_wanted_whole(stand: Stand) -> None:
    worker.work(JOB, {})
    worker.work({**JOB, "whole": True}, {})
    assert [hasty for *_, hasty in stand.asked] == [True, False]


def test_real_time_is_taken_outside_the_run(stand: Stand) -> None:
    assert worker.work(JOB, {}).real_s > 0

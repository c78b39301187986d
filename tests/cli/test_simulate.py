"""`truc simulate`: what it prints, what it ends with, and what it refuses. The runs are stand-ins, but for the last test."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from node.cli.root import truc
from topology.load import default_topology
from topology.sim import campaign, country, worker
from topology.sim.campaign import Plan, Row, Summary, WorkerFailed
from topology.sim.ledger import Violation
from topology.sim.profile import PROFILES
from topology.sim.run import Outcome


def run(*arguments: str) -> Result:
    return CliRunner().invoke(truc, ["simulate", *arguments])


def row(plan: Plan, seed: int, violations: Sequence[str] = ()) -> Row:
    found = [Violation("lost", text) for text in violations]
    outcome = Outcome(plan.profile, seed, f"digest{seed}", 50, 61, 12, 0, found, virtual_s=600.0, real_s=1.5)
    outcome.events.update({"fault/power cut": 3, "path/recovered": 2})
    return outcome.row()


class Stand:
    """Instead of a campaign: every seed passes but those in `bad`."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.bad: dict[int, str] = {}
        self.differing: list[int] = []
        self.error: Exception | None = None

    async def run(self, plan: Plan, heard: Callable[[Row], None]) -> Summary:
        self.plans.append(plan)
        summary = Summary(plan, real_s=2.0, differing=self.differing)
        if self.error is not None:
            raise ExceptionGroup("workers", [self.error])
        for seed in plan.seeds:
            found = plan.known.get(seed) or row(plan, seed, [self.bad[seed]] if seed in self.bad else [])
            summary.add(found)
            heard(found)
            if plan.stop_at_first and not found["ok"]:
                break
        return summary


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    stand = Stand()
    monkeypatch.setattr(campaign, "run", stand.run)
    return stand


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_without_options_twenty_seeds_of_the_small_profile_run_in_two_processes(stand: Stand) -> None:
    result = run("run")
    assert result.exit_code == 0
    plan = stand.plans[0]
    assert (plan.profile, list(plan.seeds), plan.jobs, plan.topology, plan.known) == ("small", list(range(1, 21)), 2, None, {})
    assert "20 seed: 1000 văn bản, 1220 lượt gửi. Mất 0, trùng 0, kẹt 0, sai khác 0" in result.stdout
    assert "power cut 60" in result.stdout
    assert "20/20 seed, 0 vi phạm" in result.stderr


def test_json_is_one_line_for_each_seed_and_a_last_one_with_the_summary(stand: Stand) -> None:
    *rows, summary = lines(run("run", "--seeds", "3..5", "--json"))
    assert [(each["seed"], each["digest"], each["ok"]) for each in rows] == [(seed, f"digest{seed}", True) for seed in (3, 4, 5)]
    for each in (*rows, summary):
        assert [
            key for key in ("documents", "deliveries", "lost", "doubled", "stuck", "virtual_s", "real_s") if key not in each
        ] == []
    assert (summary["summary"], summary["documents"], summary["faults"]) == (True, 150, {"power cut": 9})


def test_a_violation_ends_with_1_is_shown_and_names_the_line_to_replay_it(stand: Stand) -> None:
    stand.bad = {4: "package 7 was lost"}
    result = run("run", "--seeds", "1..9")
    assert result.exit_code == 1
    assert "seed 4: lost: package 7 was lost" in result.stderr
    assert "Xem lại: truc simulate replay --profile small --seed 4\n" in result.stderr
    assert "Seed có vi phạm: 4" in result.stdout


def test_the_line_to_replay_names_the_tree_too(stand: Stand) -> None:
    stand.bad = {1: "lost"}
    result = run("run", "--seeds", "1", "--topology", str(default_topology()), "--json", "--profile", "quiet")
    assert f"truc simulate replay --profile quiet --seed 1 --topology {default_topology()}\n" in result.stderr
    assert [line["ok"] for line in lines(result)] == [False, False]


def test_what_does_not_repeat_ends_with_1(stand: Stand) -> None:
    stand.differing = [2]
    result = run("run", "--seeds", "1..3", "--json")
    assert result.exit_code == 1
    assert lines(result)[-1]["nondeterministic"] == 1


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [((), True), (("--profile", "quiet"), False), (("--topology", str(default_topology())), False)],
)
def test_only_the_default_tree_in_a_storm_must_meet_everything(stand: Stand, arguments: tuple[str, ...], asked: bool) -> None:
    result = run("run", "--seeds", "1..3", *arguments)
    assert bool(stand.plans[0].must) is asked
    assert result.exit_code == 0, "a small batch only lists what did not happen"
    assert ("Chưa xảy ra lần nào: " in result.stdout) is asked


def test_a_large_batch_that_has_not_met_everything_ends_with_1(stand: Stand) -> None:
    assert run("run", "--seeds", "1..199").exit_code == 0
    assert run("run", "--seeds", "1..200").exit_code == 1


def test_a_campaign_goes_on_where_it_ended_only_when_asked(stand: Stand, tmp_path: Path) -> None:
    before = tmp_path / "rows"
    before.write_text(run("run", "--seeds", "1..3", "--json").stdout + '{"seed": 4, "dig', encoding="utf-8")
    result = run("run", "--seeds", "1..5", "--json", "--resume", str(before))
    assert result.exit_code == 0
    assert sorted(stand.plans[-1].known) == [1, 2, 3]
    assert [line.get("seed") for line in lines(result)] == [1, 2, 3, 4, 5, None]
    run("run", "--seeds", "1..5")
    assert stand.plans[-1].known == {}


def test_rows_of_another_profile_are_refused(stand: Stand, tmp_path: Path) -> None:
    before = tmp_path / "rows"
    before.write_text(run("run", "--seeds", "1..3", "--json", "--profile", "quiet").stdout, encoding="utf-8")
    result = run("run", "--resume", str(before))
    assert result.exit_code == 2
    assert "các dòng của kịch bản quiet" in result.stderr
    assert len(stand.plans) == 1


def test_a_file_that_cannot_be_read_is_refused(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"\xff\xfe")
    for name in ("none", "rows"):
        result = run("run", "--resume", str(tmp_path / name))
        assert (result.exit_code, stand.plans) == (2, [])
        assert "không đọc được" in result.stderr


def test_a_worker_that_dies_ends_with_1_and_the_seed(stand: Stand) -> None:
    stand.error = WorkerFailed("seed 3: the worker ended with -9; see what it wrote above")
    result = run("run", "--seeds", "1..5")
    assert result.exit_code == 1
    assert "tiến trình diễn tập dừng: seed 3: the worker ended with -9" in result.stderr


@pytest.mark.parametrize("seeds", ["", "x", "5..1", "1..", "-3..2", "0..1000000"])
def test_seeds_that_are_none_are_refused(stand: Stand, seeds: str) -> None:
    result = run("run", "--seeds", seeds)
    assert (result.exit_code, stand.plans) == (2, [])


def test_a_profile_or_a_bug_that_is_none_is_refused_with_those_there_are(stand: Stand) -> None:
    result = run("run", "--profile", "smal")
    assert result.exit_code == 2
    assert f"chọn: {', '.join(PROFILES)}" in result.stderr
    assert run("mutants", "--only", "no-bug").exit_code == 2
    assert run("replay", "--seed", "1", "--mutant", "no-bug").exit_code == 2


def test_the_help_names_every_profile() -> None:
    text = " ".join(run("run", "--help").stdout.split())
    assert f"kịch bản: {', '.join(PROFILES)} (mặc định: small)" in text


def test_a_tree_that_cannot_be_used_ends_with_78(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("zone = 1", encoding="utf-8")
    assert run("run", "--topology", str(tmp_path / "t.toml")).exit_code == 78
    assert stand.plans == []


def test_mutants_tells_by_which_seed_each_bug_was_found_and_ends_with_1_for_one_that_was_not(stand: Stand) -> None:
    stand.bad = {2: "lost"}
    result = run("mutants", "--only", "dedup-off", "--only", "lane-starves", "--seeds", "1..5", "--json")
    assert result.exit_code == 0
    assert [(line["mutant"], line["found"], line["seed"], line["seeds"]) for line in lines(result)] == [
        ("dedup-off", True, 2, 2),
        ("lane-starves", True, 2, 2),
    ]
    assert [(plan.profile, plan.mutant, plan.stop_at_first) for plan in stand.plans] == [
        ("small", "dedup-off", True),
        ("flood", "lane-starves", True),
    ]
    stand.bad = {}
    result = run("mutants", "--only", "dedup-off", "--seeds", "1..5")
    assert result.exit_code == 1
    assert "KHÔNG" in result.stdout


class Work:
    """Instead of one run: three events and an outcome."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.outcome = Outcome("small", 7, "abc", 50, 60)

    def __call__(self, job: dict[str, Any], trees: dict[str, Any], tell: Callable[[float, str, str, int], None]) -> Outcome:
        self.jobs.append(job)
        for at_s, name, event, size in ((1.5, "hub", "start", 1), (2.0, "h41", "ready", 0), (9.0, "", "fault/cut", 3)):
            tell(at_s, name, event, size)
        return self.outcome


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    work = Work()
    monkeypatch.setattr(worker, "work", work)
    return work


def test_replay_prints_what_happens_and_the_outcome(work: Work) -> None:
    result = run("replay", "--seed", "7")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()[:3]] == [
        ["1.500000", "hub", "start", "1"],
        ["2.000000", "h41", "ready"],
        ["9.000000", "-", "fault/cut", "3"],
    ]
    assert "seed 7: 50 văn bản, 60 lượt gửi" in result.stdout
    assert work.jobs == [{"topology": None, "profile": "small", "seed": 7, "mutant": "", "whole": True}]


def test_replay_shows_one_node_or_the_beginning_only(work: Work) -> None:
    assert "start" not in run("replay", "--seed", "7", "--node", "h41").stdout
    assert "fault/cut" not in run("replay", "--seed", "7", "--until", "2").stdout


def test_replay_of_a_violation_ends_with_1_and_json_stays_one_line(work: Work) -> None:
    work.outcome.violations.append(Violation("stuck", "package 3"))
    result = run("replay", "--seed", "7", "--json", "--mutant", "dedup-off")
    assert (result.exit_code, len(lines(result))) == (1, 1)
    assert lines(result)[0]["violations"] == ["stuck: package 3"]
    assert "ready" in result.stderr
    assert work.jobs[0]["mutant"] == "dedup-off"


def test_country_runs_a_day_of_the_year_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, int]] = []

    def day(year: str, documents: int, seed: int, say: Callable[[str, str], None]) -> Outcome:
        asked.append((year, documents, seed))
        say("một nửa", "half")
        return Outcome("country", seed, "abc", documents, documents)

    monkeypatch.setattr(country, "day", day)
    result = run("country", "--year", "2025", "--documents", "300", "--seed", "4", "--json")
    assert (result.exit_code, asked) == (0, [("2025", 300, 4)])
    assert "một nửa" in result.stderr
    assert lines(result)[0]["documents"] == 300


def test_one_real_seed_runs_twice_in_processes_of_its_own_and_nothing_is_wrong() -> None:
    result = run("run", "--profile", "quiet", "--seeds", "1..1", "--jobs", "1", "--json")
    assert result.exit_code == 0, result.stderr
    one, summary = lines(result)
    assert (one["seed"], one["documents"], one["violations"], len(one["digest"])) == (1, 50, [], 32)
    assert (summary["repeated"], summary["nondeterministic"], summary["ok"]) == (1, 0, True)

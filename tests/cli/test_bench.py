"""`truc bench`: what it asks for, what it prints, what it ends with. The nodes are a stand-in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from node.cli.bench import command
from node.cli.root import truc
from node.config import ConfigError
from topology.bench import run as bench
from topology.bench.doors import DOORS
from topology.bench.run import BenchFailed
from topology.bench.stand import NODES_MAX
from topology.bench.workloads import WORKLOADS, Plan
from topology.local import SandboxError

ROWS: list[Mapping[str, Any]] = [
    {"what": "idle", "node": "relay_node", "rss_mb": 70.0, "pss_mb": 50.0, "cpu_percent": 0.1},
    {"what": "run", "run": 1, "p50_ms": 12.0},
    {"what": "figure", "figure": "p50_ms", "min": 11.0, "median": 12.0, "max": 13.0, "noise": 1.25, "command": "truc bench x"},
]


class Stand:
    """Instead of a bench: keeps what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Plan, str, Path | None]] = []
        self.error: Exception | None = None

    def run(self, plan: Plan, written: str, heard: Any, say: Any, keep: Path | None) -> None:
        self.asked.append((plan, written, keep))
        say("Đang dựng …", "Setting up …")
        if self.error is not None:
            raise self.error
        for row in ROWS:
            heard(row)


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    stand = Stand()
    monkeypatch.setattr(bench, "run", stand.run)
    return stand


def run(*arguments: str) -> Result:
    return CliRunner().invoke(truc, ["bench", *arguments])


def test_every_workload_is_a_command_and_every_door_a_choice() -> None:
    assert isinstance(command, click.Group)
    assert command.list_commands(click.Context(command)) == list(WORKLOADS)
    for each in command.commands.values():
        door = next(param for param in each.params if param.name == "door")
        assert isinstance(door.type, click.Choice)
        assert tuple(door.type.choices) == DOORS


@pytest.mark.parametrize(
    ("arguments", "plan"),
    [
        (["relay"], Plan("relay", 2000)),
        (["relay", "--documents", "5", "--window", "2", "--runs", "1"], Plan("relay", 5, window=2, runs=1)),
        (["light", "--rate", "7"], Plan("light", 200, window=8, rate=7)),
        (["large", "--door", "native"], Plan("large", 60, size=1_000_000, window=8, door="native")),
        (["fanout", "--recipients", "9"], Plan("fanout", 3, size=1_000_000, window=1, recipients=9, nodes=6)),
        (["urgent"], Plan("urgent", 2000, rate=5)),
        (["backlog"], Plan("backlog", 2000)),
        (["poll", "--systems", "3"], Plan("poll", 2000, window=32, recipients=3)),
        (["children", "--children", "7"], Plan("children", 1, children=7)),
        (["kill", "--documents", "10"], Plan("kill", 10)),
        (["grown", "--history", "0"], Plan("grown", 1000, backlog=100_000, history=0)),
    ],
)
def test_what_is_asked_for_is_run(stand: Stand, arguments: list[str], plan: Plan) -> None:
    assert run(*arguments).exit_code == 0
    assert stand.asked[0][0] == plan


def test_the_command_is_told_with_every_option_that_counts(stand: Stand, tmp_path: Path) -> None:
    run("poll", "--json", "--keep", str(tmp_path / "x"), "--runs", "2")
    _, written, keep = stand.asked[0]
    assert written == "truc bench poll --documents 2000 --door native --systems 200 --runs 2 --window 32"
    assert keep == tmp_path / "x"


def test_json_is_a_line_for_each_item_and_talk_is_elsewhere(stand: Stand) -> None:
    result = run("relay", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == ROWS
    assert "Đang dựng" in result.stderr


def test_people_see_tables_the_noise_and_the_command(stand: Stand) -> None:
    shown = run("relay").stdout
    assert "p50_ms" in shown and "relay_node" in shown
    assert "Độ nhiễu của máy: 1.25. truc bench x" in shown
    assert "Noise of the machine: 1.25" in run("relay", "--lang", "en").stdout


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BenchFailed("văn bản 3 đến hai lần", "document 3 arrived twice"), 1, "văn bản 3 đến hai lần"),
        (SandboxError("cổng bận", "port taken"), 1, "cổng bận"),
        (ConfigError(["bench.toml: sai"]), 78, "bench.toml: sai"),
    ],
)
def test_a_bench_without_figures_says_why(stand: Stand, error: Exception, code: int, text: str) -> None:
    stand.error = error
    result = run("relay", "--json")
    assert (result.exit_code, result.stdout) == (code, "")
    assert text in result.stderr


@pytest.mark.parametrize(
    "arguments", [["relay", "--door", "rest"], ["light", "--rate", "0"], ["fanout", "--nodes", str(NODES_MAX + 1)]]
)
def test_what_cannot_be_run_is_refused(stand: Stand, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
    assert stand.asked == []

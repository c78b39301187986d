"""Every workload once on real nodes, small: what is sent arrives once, unchanged, and each figure is there. Never how fast."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from topology.bench.run import run
from topology.bench.workloads import COMPARED, WORKLOADS, Plan

COST = {"cpu_ms_sender_node", "cpu_ms_relay_node", "cpu_ms_receiver_nodes", "cpu_ms_clients", "rss_mb_relay_node"}
WAITS = {"p50_ms", "p99_ms", "max_ms"}
THROUGH = {"documents_per_s", "mb_per_s", "accepted_per_s"}
AT_A_START = ("rss_mb", "start_ms", "start_rss_mb", "store_mb")
SMALL = (
    (Plan("relay", 20, window=8, runs=2), THROUGH),
    (Plan("light", 20, window=4, rate=100, runs=1), WAITS),
    (Plan("large", 4, size=300_000, window=2, runs=1), THROUGH),
    (
        Plan("fanout", 2, size=300_000, window=1, recipients=6, nodes=2, runs=1),
        {"bodies_on_first_link", "first_ms", "last_ms"},
    ),
    (
        Plan("urgent", 20, window=8, rate=50, runs=1),
        {"urgent_documents", *WAITS, *(f"ordinary_{name}" for name in WAITS)},
    ),
    (Plan("backlog", 20, window=8, runs=1), {"accepted_per_s", "documents_per_s", "resumed_ms"}),
    (Plan("poll", 20, window=4, recipients=10, runs=1), {"questions_per_s", *WAITS}),
    (Plan("kill", 30, window=8, runs=1), {f"{which}{what}" for which in ("", "backlog_") for what in ("ready_ms", "resumed_ms")}),
    (
        Plan("grown", 20, window=8, runs=1, backlog=30, history=60),
        {f"ratio_{name}" for name in COMPARED}
        | {f"{which}_{name}" for which in ("empty", "grown") for name in (*COMPARED, *AT_A_START)},
    ),
    (
        Plan("children", 1, children=5, runs=1, idle_s=0.2),
        {
            *("dial_s", "cpu_ms_dial", "idle_cpu_percent", "rss_mb_before", "rss_mb_two_connections", "rss_mb_idle"),
            "rss_kb_per_child",
        },
    ),
)


def test_every_workload_is_tried() -> None:
    assert [plan.workload for plan, _ in SMALL] == list(WORKLOADS)


def test_recipients_are_spread_over_the_nodes() -> None:
    assert Plan("fanout", 1, recipients=60, nodes=6).organs() == [10] * 6
    assert Plan("fanout", 1, recipients=5, nodes=3).organs() == [2, 2, 1]


@pytest.mark.processes
@pytest.mark.parametrize(("plan", "figures"), SMALL, ids=lambda value: value.workload if isinstance(value, Plan) else "")
def test_a_small_one_is_complete(tmp_path: Path, plan: Plan, figures: set[str]) -> None:
    rows: list[Mapping[str, Any]] = []
    folder = tmp_path / "nodes"
    run(plan, "truc bench", rows.append, lambda vi, en: None, folder, idle_s=0.1)
    gc.collect()  # a connection left open would be complained of here
    told = [row for row in rows if row["what"] == "figure"]
    assert {row["figure"] for row in told} == figures | (COST if plan.workload not in ("grown", "children") else set())
    assert all(row["min"] <= row["median"] <= row["max"] and row["runs"] == plan.runs for row in told)
    assert [row["run"] for row in rows if row["what"] == "run"] == list(range(1, plan.runs + 1))
    assert [row["node"] for row in rows if row["what"] == "idle"] == ["sender_node", "relay_node", "receiver_nodes"]
    if plan.workload == "fanout":
        assert {row["figure"]: row["median"] for row in told}["bodies_on_first_link"] == 1.0
    logs = [line for path in folder.rglob("node.log") for line in path.read_text().splitlines()]
    assert logs
    assert not [line for line in logs if '"level": "error"' in line]

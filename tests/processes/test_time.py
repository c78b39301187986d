"""The time comes down a tree of real processes: how far the lowest node is from the hub, and what it does without a parent."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.processes.tree import Node, Tree, eventually
from tests.processes.trees import tree_text

DEEP = ("", "H41", "H41.07", "H41.07.01", "H41.07.01.02")
CLOSE_S = 0.005
"""On loopback, four tiers below the hub."""


async def figures(node: Node) -> dict[str, float]:
    """The node's metrics of the clock, by the end of their names."""
    _, text = await node.ask("/metrics")
    return {name: float(value) for name, value in re.findall(r"^truc_clock_(\w+) (\S+)$", text, re.MULTILINE)}


@pytest.mark.timeout(180)
async def test_the_lowest_of_five_tiers_has_the_hubs_time(tmp_path: Path) -> None:
    """On one host, whose time is the hub's: what differs from it differs from the hub. # QĐ 28/2018 Điều 14.4"""
    topology = tmp_path / "deep.toml"
    topology.write_text(tree_text("sau", {child: parent for parent, child in pairwise(DEEP)}), encoding="utf-8")
    with Tree(tmp_path / "tree", topology) as tree:
        nodes = [tree.nodes[code] for code in DEEP]

        async def close() -> bool:
            found = await figures(nodes[-1])
            return found.get("synchronised") == 1 and found["stratum"] == len(DEEP) and abs(found["offset_seconds"]) < CLOSE_S

        await eventually(close, "the lowest node has the hub's time", 60.0)
        hub, *below = [await figures(node) for node in nodes]
        for depth, found in enumerate(below, 1):
            offset_s, bound_s = found["offset_seconds"], found["bound_seconds"]
            print(f"tier {depth}: {offset_s * 1000:+.3f} ms off the hub, bound {bound_s:.3f} s, stratum {found['stratum']:.0f}")
            assert found["stratum"] == depth + 1
            assert abs(offset_s) <= bound_s - hub["bound_seconds"], "the bound holds without the hub's share, too"
        tree.nodes["H41"].kill()
        _, text = await tree.nodes["H41.07"].ask("/readyz")
        assert "[!]clock" not in text, "it holds the time over"

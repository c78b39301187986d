"""The tree of a bench is lawful at any size, and what a node says of itself is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from topology.bench.stand import SENDER, Stand, receiving, roles, tree_text
from topology.load import load_lawful


def tree(tmp_path: Path, *organs: int) -> Any:
    path = tmp_path / "bench.toml"
    path.write_text(tree_text(organs), encoding="utf-8")
    return load_lawful(path)


@pytest.mark.parametrize("organs", [(1,), (10,) * 6, (500,), (1,) * 40])
def test_the_tree_is_lawful(tmp_path: Path, organs: tuple[int, ...]) -> None:
    found = tree(tmp_path, *organs)
    assert len(found.sites) == 2 + len(organs)
    assert [len(site.systems) for site in found.sites] == [0, 1, *organs]
    assert all(len(system.codes) == 1 for site in found.sites for system in site.systems)


READY = {
    "nodes": [
        {"code": "", "systems": []},
        {"code": SENDER, "systems": [{"id": "h41"}]},
        {"code": "H51", "systems": [{"id": "h51.1", "codes": ["H51.1"]}, {"id": "h51.2", "codes": ["H51.2"]}]},
        {"code": "H52", "systems": [{"id": "h52.1", "codes": ["H52.1"]}]},
    ]
}


def test_nodes_are_known_by_what_they_do() -> None:
    found = {role: [node["code"] for node in nodes] for role, nodes in roles(READY).items()}
    assert found == {"sender_node": [SENDER], "relay_node": [""], "receiver_nodes": ["H51", "H52"]}
    assert [system["id"] for _, system in receiving(READY)] == ["h51.1", "h51.2", "h52.1"]


class Counting:
    """Instead of the nodes' admin listeners."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def metrics(self, node: object) -> str:
        return self.text


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('truc_body_bytes_total{direction="in"} 5.0\ntruc_body_bytes_total{direction="out"} 1.5e+06\n', 3_000_000),
        ("truc_commits_total 9.0\n", 0),
    ],
)
async def test_what_nodes_have_sent_is_what_they_count(text: str, sent: float) -> None:
    rehearsal: Any = Counting(text)
    stand = Stand(READY, rehearsal, None, (), lambda: 0.0, None)  # type: ignore[arg-type]
    assert await stand.body_bytes_sent("receiver_nodes") == sent
    assert stand.codes == ["H51.1", "H51.2", "H52.1"]

"""A small campaign on the seven nodes, killed and paused at random; `scripts/chaos` runs large ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.campaign import Campaign, Scale
from tests.processes.tree import Tree


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [11])
async def test_nothing_is_lost_or_doubled_while_nodes_are_killed(tmp_path: Path, seed: int) -> None:
    with Tree(tmp_path / "tree") as tree:
        campaign = Campaign(tree, Scale(documents=70, kills=9, minutes=2, hangups=0.05), seed)
        await campaign.run()
        assert tree.stop() == 0
    print(f"\n{campaign.summary()}")
    assert campaign.judge() == []
    assert campaign.ledger.counts["killed"] >= 9
    assert sum(bool(package.doc_id) for package in campaign.ledger.packages) > 50

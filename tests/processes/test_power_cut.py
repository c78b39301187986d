"""A node's machine loses power under load: what it acknowledged was on the disk, and what was on the road comes once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.processes.disks import PowerCutDisk
from tests.processes.flow import Flow
from tests.processes.machine import no_power_cut, skip_without
from tests.processes.tree import Tree

CUTS = 4


@pytest.mark.timeout(180)
async def test_no_acknowledged_letter_is_lost_or_doubled_when_the_power_of_a_node_between_fails(
    small: Callable[[], Tree], record_property: Callable[[str, object], None]
) -> None:
    """Its own office's letters, taken moments before, and those that cross it both ways. # QĐ 28/2018 Điều 6.1"""
    skip_without(no_power_cut)
    with small() as tree:
        node = tree.nodes["H41"]
        node.kill()
        disk = PowerCutDisk(tree, node)
        node.start()
        await node.ready()
        async with Flow(tree, ("H41", "G22"), ("H41.07", "G22"), ("G22", "H41.07"), ("G22", "H41")) as flow:
            for number in range(CUTS):
                await flow.more(3 + 7 * number)
                disk.cut_power()
                node.start()
                await node.ready()
            await flow.more(4)
            await flow.settle()
        record_property("letters", len(flow.sent))
        assert node.query("PRAGMA integrity_check") == [("ok",)]

"""A disk fills up and is enlarged while the node runs: offices hear "later", neighbours wait, nothing is lost, work resumes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from node.adapters.bodies.folder import FREE_S
from node.core.package import Priority
from tests.processes.disks import SmallDisk
from tests.processes.flow import Flow
from tests.processes.letters import connector, later, letter
from tests.processes.machine import no_tmpfs, skip_without
from tests.processes.tree import Node, Tree, eventually
from tests.vxp_client import VxpClient

OTHERS = 40_000_000
"""What else is on the disk, so that a letter is no percent of it."""
LEFT = 150_000
"""What is free when the disk is called full: less than a few letters."""


def to_the_last_byte(node: Node) -> None:
    """The node takes on work until the disk itself says no, and asks again soon."""
    options = "\n[store]\nfree_bulk_percent = 0\nfree_urgent_percent = 0\n\n[forwarding]\nretry_max_s = 1.0\n"
    node.config.write_text(node.config.read_text() + options)


async def laid(tree: Tree, code: str) -> tuple[Node, SmallDisk]:
    """A node on a small disk, up again."""
    node = tree.nodes[code]
    node.kill()
    to_the_last_byte(node)
    disk = SmallDisk(tree, node)
    node.start()
    await node.ready()
    return node, disk


@pytest.mark.timeout(150)
async def test_an_office_hears_later_from_a_full_disk_and_is_served_again_when_the_disk_has_grown(
    small: Callable[[], Tree],
) -> None:
    """Threats, row 27."""
    skip_without(no_tmpfs)
    with small() as tree:
        node, disk = await laid(tree, "H41.07")
        pid = node.pid
        async with Flow(tree, ("H41.07", "G22"), ("G22", "H41.07")) as flow:
            await flow.more(6)
            disk.leave(LEFT)
            await flow.until(lambda: flow.told["disk-full"] >= 3, "the office heard that the disk is full")
            disk.enlarge()
            await flow.more(8)
            await flow.settle()
        assert node.alive()
        assert node.pid == pid  # a full disk is no reason to fall over
        assert node.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.timeout(150)
async def test_letters_wait_below_a_node_between_whose_disk_is_full_and_pass_once_it_has_grown(
    small: Callable[[], Tree],
) -> None:
    skip_without(no_tmpfs)
    with small() as tree:
        node, disk = await laid(tree, "H41")
        pid = node.pid
        below = tree.nodes["H41.07"]
        async with Flow(tree, ("H41.07", "G22"), ("G22", "H41.07")) as flow:
            await flow.more(6)
            disk.leave(LEFT)
            await flow.until(lambda: below.count("outbox WHERE reason='disk-full'"), "the child was told later")
            await flow.more(4)  # the office below is served all the same
            disk.enlarge()
            await flow.settle()
        assert node.alive()
        assert node.pid == pid
        assert node.query("PRAGMA integrity_check") == [("ok",)]


async def test_below_three_percent_nothing_new_is_taken_although_there_still_is_room(small: Callable[[], Tree]) -> None:
    """The runway: an urgent letter lands where a plain one does not, and in the end neither. # architecture, section 5"""
    skip_without(no_tmpfs)
    with small() as tree:
        node = tree.nodes["H41.07"]
        node.kill()
        disk = SmallDisk(tree, node)
        (node.data / "others").write_bytes(bytes(OTHERS))
        node.start()
        await node.ready()
        plain = letter("H41.07", "G22", number=1)
        urgent = [letter("H41.07", "G22", number=n, priority=Priority.EXPRESS) for n in (2, 3)]
        async with connector(tree, "H41.07") as office:
            await leave(disk, disk.used // 15)
            assert await told(office, plain) == "disk-full"
            assert await told(office, urgent[0]) == "OK"
            await leave(disk, disk.used // 50)
            assert await told(office, urgent[1]) == "disk-full"
            disk.enlarge()
            await seen_by_the_node()
            assert await told(office, plain) == "OK"
            assert await told(office, urgent[1]) == "OK"
        assert not any(Path(node.data / "bodies" / "spool").iterdir())


@pytest.mark.timeout(150)
async def test_a_start_on_a_full_disk_says_what_to_do_and_succeeds_once_there_is_room(small: Callable[[], Tree]) -> None:
    skip_without(no_tmpfs)
    with small() as tree:
        node, disk = await laid(tree, "H41.07")
        async with Flow(tree, ("H41.07", "G22"), ("G22", "H41.07")) as flow:
            await flow.more(6)  # the WAL is worth copying
            node.kill()
            disk.leave(0)
            node.start()
            await eventually(lambda: node.exit_code() == 1, "the start has failed", 30)
            told = [line for line in node.log_lines() if line["level"] == "error"]
            assert [line["event"] for line in told] == ["no room on the disk to start: make room, then start again"]
            disk.enlarge()
            node.start()
            await node.ready()
            await flow.settle()


async def leave(disk: SmallDisk, free: int) -> None:
    disk.leave(free)
    await seen_by_the_node()


async def seen_by_the_node() -> None:
    """An answer about free space counts for so long; the next one is asked of the disk as it is now."""
    await asyncio.sleep(FREE_S)


async def told(office: VxpClient, package: bytes) -> str:
    """What the office hears: OK, or the reason."""
    answer = await office.send(package)
    return later(answer) or str(answer["status"])

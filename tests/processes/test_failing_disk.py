"""System calls that fail: an I/O error ends the node, which never asks the disk again; a full disk is "later", no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.processes.flow import Flow
from tests.processes.injection import SYNCS, calls_of, tracer
from tests.processes.letters import NO_ANSWER, connector, letter
from tests.processes.machine import no_strace, skip_without
from tests.processes.tree import Node, Tree, eventually

ROADS = (("H41", "G22"), ("H41.07", "G22"), ("G22", "H41.07"))
"""Letters made at the node between, and letters that cross it both ways."""


@contextmanager
def traced(node: Node, calls: str, fate: str) -> Iterator[None]:
    """The node runs with this fate until the block ends; then it is killed."""
    node.kill()
    node.around = tracer(node, calls, fate)
    node.start()
    try:
        yield
    finally:
        node.kill()
        node.around = ()


def repeated(node: Node) -> list[str]:
    """Files that were synced again after a sync of them had failed."""
    failed: set[str] = set()
    again = []
    for call in calls_of(node):
        if call.file in failed and not call.injected:
            again.append(f"{call.name} {call.file}")
        if call.injected:
            failed.add(call.file)
    return again


async def struck(flow: Flow, node: Node, calls: str, number: int) -> set[str]:
    """The node's `number`-th of these calls fails; what was struck. The node ends by itself, and is started again."""
    with traced(node, calls, f"error=EIO:when={number}"):
        await flow.until(lambda: node.exit_code() is not None, f"the node ends at its {calls} {number}")
        assert node.exit_code() == 1
    node.start()
    await node.ready()
    return {call.file.rpartition("/")[2] for call in calls_of(node) if call.injected}


@pytest.mark.timeout(240)
async def test_a_node_whose_sync_fails_exits_and_has_all_it_acknowledged_when_it_is_started_again(
    small: Callable[[], Tree],
) -> None:
    """# architecture, decision 3"""
    skip_without(no_strace)
    failed: set[str] = set()
    with small() as tree:
        node = tree.nodes["H41"]
        async with Flow(tree, *ROADS) as flow:
            for number in (2, 9, 13, 17, 21):  # each thread counts its own: which file is struck depends on what a start syncs
                failed |= await struck(flow, node, SYNCS, number)
                await flow.more(3)
                if "node.db-wal" in failed:
                    break
            await flow.settle()
        assert node.query("PRAGMA integrity_check") == [("ok",)]
    assert "node.db-wal" in failed, f"no commit was struck: the story was not told ({failed})"


async def test_a_sync_of_the_database_that_failed_is_not_repeated_by_the_node_that_ends(small: Callable[[], Tree]) -> None:
    """The second sync says yes to what the first has lost. # architecture, decision 3"""
    skip_without(no_strace)
    with small() as tree:
        node = tree.nodes["H41"]
        async with Flow(tree, ROADS[0]) as flow:
            assert await struck(flow, node, "fdatasync", 6) == {"node.db-wal"}
            assert repeated(node) == []


async def test_a_node_that_cannot_make_a_body_durable_exits(small: Callable[[], Tree]) -> None:
    """# architecture, decision 3"""
    skip_without(no_strace)
    with small() as tree:
        node = tree.nodes["H41"]
        with traced(node, "fsync", "error=EIO:when=4"):  # per thread: more than the one that starts the node makes
            await node.ready()
            async with connector(tree, "H41") as office:
                with suppress(*NO_ANSWER):
                    for number in range(4):
                        answer = await office.send(letter("H41", "G22", number=number, size=300_000))
                        if answer["status"] != "OK":
                            break
            assert [call.file.rpartition("/data/")[2][:6] for call in calls_of(node) if call.injected] == ["bodies"]
            await eventually(lambda: node.exit_code() == 1, "the node has ended", 5)


@pytest.mark.timeout(240)
async def test_while_the_disk_takes_no_more_everybody_hears_later_and_then_work_resumes(small: Callable[[], Tree]) -> None:
    """The same process goes on: a full disk damages nothing."""
    skip_without(no_strace)
    with small() as tree:
        node = tree.nodes["H41"]
        node.config.write_text(node.config.read_text() + "\n[forwarding]\nretry_max_s = 1.0\n")
        async with Flow(tree, *ROADS) as flow:
            with traced(node, "pwrite64", "error=ENOSPC:when=40..60"):
                await node.ready()
                await flow.until(lambda: any(call.injected for call in calls_of(node)), "the disk is full")
                await flow.until(lambda: flow.told["disk-full"], "the office heard of it")
                taken = node.count("submission")
                await flow.until(lambda: node.count("submission") > taken + 2, "the same process takes letters again")
                assert node.alive()
                assert node.query("PRAGMA integrity_check") == [("ok",)]
            node.start()
            await flow.settle()

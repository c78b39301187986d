"""The clock of a running node's host is set by a day, forward and back, and its node's time is not moved by it: nothing is lost,
doubled or expired, and the alarm has a name."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest

from node.core import words
from tests.processes.clocks import DAY_S, SEEN_S, WrongClock
from tests.processes.flow import Flow
from tests.processes.letters import arrived, connector, letter
from tests.processes.machine import no_faketime, skip_without
from tests.processes.tree import Node, Tree, eventually

ANSWER_S = 5.0
ROADS = (("H41", "G22"), ("H41.07", "G22"), ("G22", "H41.07"), ("G22", "H41"))
LEAVES_S = 20.0
"""What waits at a node leaves within this once its parent is back."""


def ahead_s(node: Node) -> float:
    """How far the node's last word on a delivery is ahead of this machine; 0 while there is none."""
    (newest,) = node.query("SELECT max(updated_ms) FROM delivery")
    return float(newest[0]) / 1000 - time.time() if newest[0] else 0.0


async def clocked(tree: Tree) -> tuple[Node, WrongClock]:
    node = tree.nodes["H41"]
    node.kill()
    clock = WrongClock(node)
    node.start()
    await node.ready()
    return node, clock


async def alarmed(node: Node, alarm: str) -> bool:
    """Whether the node names what is wrong with a clock; it is ready all the same."""
    status, text = await node.ask("/readyz?format=json")
    detail = "".join(check["detail"] for check in json.loads(text)["checks"] if check["name"] == "clock") if status else ""
    return status == 200 and words.label("problem", alarm) in detail


def nothing_expired(tree: Tree) -> None:
    for node in tree.nodes.values():
        assert node.count("delivery WHERE state='expired'") == 0
        assert node.count("journal WHERE event='expired'") == 0


@pytest.mark.timeout(180)
async def test_a_day_forward_and_a_day_back_lose_double_and_expire_nothing(small: Callable[[], Tree]) -> None:
    """A node between: letters of its own office, and those that cross it. # QĐ 28/2018 Điều 7.1; architecture, decision 11"""
    skip_without(no_faketime)
    with small() as tree:
        node, clock = await clocked(tree)
        async with Flow(tree, *ROADS) as flow, connector(tree, "H41", ANSWER_S) as office:
            await flow.more(8)
            assert abs(ahead_s(node)) < 60
            for offset_s in (-DAY_S, 0, DAY_S, 0, -DAY_S):
                clock.set(offset_s)
                await asyncio.sleep(SEEN_S)
                await flow.more(5)
                await eventually(lambda: alarmed(node, "clock-step"), "the step is named")
                assert abs(ahead_s(node)) < 60
                await office.received()
                assert (await node.ask("/healthz"))[0] == 200
            await flow.settle()
            assert abs(ahead_s(node)) < 60
        nothing_expired(tree)
        assert node.exit_code() is None


@pytest.mark.timeout(180)
async def test_what_a_node_took_while_its_clock_was_a_day_ahead_leaves_when_it_is_started_with_the_right_time(
    small: Callable[[], Tree],
) -> None:
    """The hours for which it put its work off were those of the wrong clock."""
    skip_without(no_faketime)
    with small() as tree:
        node, clock = await clocked(tree)
        tree.nodes[""].kill()
        node.kill()
        clock.set(DAY_S)
        node.start()  # nobody is there to tell it the time
        await node.ready()
        async with connector(tree, "H41") as sender:
            sent = [(await sender.send(letter("H41", "G22", number=n)))["DocId"] for n in range(5)]
            assert ahead_s(node) > DAY_S / 2
        async with connector(tree, "H41.07") as sender:
            sent += [(await sender.send(letter("H41.07", "G22", number=n)))["DocId"] for n in range(5)]
        await eventually(lambda: node.count("outbox") == len(sent), "all wait at the node between")
        node.kill()
        clock.set(0)
        node.start()
        tree.nodes[""].start()
        await node.ready()
        await tree.nodes[""].ready()
        async with connector(tree, "G22") as receiver:
            for doc_id in sent:
                assert await eventually(lambda d=doc_id: arrived(receiver, d), f"{doc_id} came", LEAVES_S)  # type: ignore[misc]
            assert len(await receiver.received()) == len(sent)
        nothing_expired(tree)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("offset_s", "alarm"), [(3_600, "clock-zone"), (-DAY_S, "clock-skew"), (90, "clock-skew")])
async def test_a_host_that_is_off_from_the_start_is_named_and_its_node_has_the_right_time(
    small: Callable[[], Tree], offset_s: int, alarm: str
) -> None:
    """# QĐ 28/2018 Điều 14.4"""
    skip_without(no_faketime)
    with small() as tree:
        node, clock = await clocked(tree)
        node.kill()
        clock.set(offset_s)
        node.start()
        await node.ready()
        await eventually(lambda: alarmed(node, alarm), "it is named")
        async with Flow(tree, *ROADS) as flow:
            await flow.more(4)
            await flow.settle()
        assert abs(ahead_s(node)) < 30
        assert node.query("SELECT count(*) FROM ledger WHERE synchronised=0") == [(0,)]

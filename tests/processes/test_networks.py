"""Lines between nodes that fall silent, in one direction or both, that reset, that are slow: nobody hangs, nothing is lost.

Every node has a network namespace of its own; the offices of a node are on its side of the line.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.flow import Flow
from tests.processes.letters import connector, letter
from tests.processes.machine import no_namespaces, no_slow_lines, skip_without
from tests.processes.networks import Lines
from tests.processes.tree import Node, Tree, eventually
from tests.processes.trees import tree_text

CODES = ("H41", "H14", "H22", "H40")
NOTICED_S = 20.0
"""A connection that fell silent is given up after 15 s."""
FOUND_S = 15.0
"""A restored link is found within this. # architecture, decision 8"""
ANSWER_S = 5.0


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tree, Lines]]:
    """A hub and four provinces, each node in its namespace."""
    skip_without(no_namespaces)
    folder: Path = tmp_path_factory.mktemp("star")
    topology = folder / "star.toml"
    topology.write_text(tree_text("luoi", dict.fromkeys(CODES, ""), request_timeout_s=10.0))
    with Tree(folder / "tree", topology) as tree:
        lines = Lines(tree)
        asyncio.run(joined(tree))
        yield tree, lines


async def joined(tree: Tree) -> None:
    for node in tree.nodes.values():
        node.start()
    for node in tree.nodes.values():
        await node.ready()
    for node in tree.nodes.values():
        await eventually(lambda node=node: linked(node), f"{node.code or 'hub'} has its parent")  # type: ignore[misc]


async def linked(node: Node) -> bool:
    """Whether the node knows its parent to be reachable."""
    status, text = await node.ask("/readyz")
    return status == 200 and "[!]parent" not in text


async def unlinked(node: Node) -> bool:
    status, text = await node.ask("/readyz")
    return status == 200 and "[!]parent" in text


async def answers(tree: Tree, code: str) -> None:
    """The node talks with its offices as if nothing was."""
    began = time.monotonic()
    async with connector(tree, code, ANSWER_S) as office:
        await office.received()
    assert (await tree.nodes[tree.system_of(code).node].ask("/healthz"))[0] == 200
    assert time.monotonic() - began < ANSWER_S


@pytest.mark.timeout(180)
async def test_lines_that_fall_silent_hang_nobody_and_are_found_again_when_they_heal(star: tuple[Tree, Lines]) -> None:
    """One is silent both ways, on one only what goes up is lost, on one only what comes down: then the parent has what the child
    believes lost."""
    tree, lines = star
    roads = [("G22", code) for code in CODES[:3]] + [(code, "G22") for code in CODES[:3]]
    async with Flow(tree, *roads, seed="silence") as flow:
        await flow.more(12)
        lines.silence("H41")
        lines.silence("H14", down=False)
        lines.silence("H22", up=False)
        cut = [tree.nodes[code] for code in CODES[:3]]
        try:
            for node in cut:
                await flow.until(lambda node=node: unlinked(node), f"{node.code} knows of it", NOTICED_S)  # type: ignore[misc]
            assert tree.nodes["H22"].count("outbox WHERE in_doubt=1")  # offered, taken above, and the answer lost
            for code in ("G22", *CODES):
                await answers(tree, code)
            await flow.more(6)
        finally:
            lines.heal_all()
        healed = time.monotonic()
        for node in cut:
            await flow.until(lambda node=node: linked(node), f"{node.code} has its parent again", FOUND_S)  # type: ignore[misc]
        found_s = time.monotonic() - healed
        await flow.settle()
    print(f"\nfound again after {found_s:.1f} s, {len(flow.sent)} letters")


@pytest.mark.timeout(120)
async def test_a_line_that_resets_every_connection_costs_nothing_but_time(star: tuple[Tree, Lines]) -> None:
    tree, lines = star
    async with Flow(tree, ("G22", "H41"), ("H41", "G22"), seed="reset") as flow:
        await flow.more(4)
        lines.reset("H41")
        try:
            await flow.until(lambda: unlinked(tree.nodes["H41"]), "it knows of it")
            await flow.more(4)
        finally:
            lines.heal("H41")
        await flow.until(lambda: linked(tree.nodes["H41"]), "it has its parent again", FOUND_S)
        await flow.settle()


@pytest.mark.timeout(120)
async def test_on_a_slow_line_a_large_letter_comes_and_small_ones_pass_it(star: tuple[Tree, Lines]) -> None:
    """256 kbit/s: a letter of 300 kB takes about ten seconds by itself."""
    skip_without(no_slow_lines)
    tree, lines = star
    lines.slow("H40")
    try:
        async with connector(tree, "H40") as sender, connector(tree, "G22") as receiver:
            large = letter("H40", "G22", number=1, size=300_000, seed="slow")
            first = (await sender.send(large))["DocId"]
            await eventually(lambda: tree.nodes["H40"].count("outbox WHERE state='body'"), "its body is on the way")
            small = [(await sender.send(letter("H40", "G22", number=n, seed="slow")))["DocId"] for n in range(2, 7)]
            came: dict[str, bytes] = {}

            async def collect() -> bool:
                for line in await receiver.received():
                    came[line["docId"]] = await receiver.get(line["docId"])
                    assert (await receiver.update(line["docId"], "done"))["status"] == "OK"
                return len(came) >= 6

            await eventually(collect, "all have come", 60)
            assert sorted(came) == sorted([first, *small])
            assert list(came)[-1] == first
            assert hashlib.sha256(came[first]).digest() == hashlib.sha256(large).digest()
    finally:
        lines.heal("H40")
    await asyncio.gather(*(answers(tree, code) for code in CODES))

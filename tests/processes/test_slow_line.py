"""A line of 256 kbit/s behind which thousands of documents wait, in each direction, when a hỏa tốc comes: it passes them all, and
they move beside it.

Two nodes, each in a network namespace of its own; the kernel shapes the line. # QĐ 28/2018 Điều 6.2
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from node.core.package import Priority
from tests.processes.letters import letter
from tests.processes.machine import no_slow_lines, skip_without
from tests.processes.networks import Lines
from tests.processes.test_native_door import native, send
from tests.processes.tree import Node, Tree, eventually
from tests.processes.trees import tree_text

LINE_BYTES_PER_S = 256_000 / 8
WAITING = int(os.environ.get("TRUC_TEST_WAITING", "2500"))
"""10,000 take a minute longer to lay out: docs/performance.md has their figures."""
MANY = 500
BULK_BYTES = 2_000
URGENT_BYTES = 200_000
URGENT_S = 20.0
"""6.3 s of the bare line."""
TOGETHER = 3
SHARE = 0.1


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Tree, Lines]]:
    """A hub and a province."""
    skip_without(no_slow_lines)
    topology = tmp_path / "pair.toml"
    topology.write_text(tree_text("cham", {"H40": ""}))
    with Tree(tmp_path / "tree", topology) as tree:
        lines = Lines(tree)
        for node in tree.nodes.values():
            node.start()
        yield tree, lines


class Road:
    """One direction: who sends, who receives, and what of it has come so far."""

    def __init__(self, tree: Tree, sender: str, receiver: str, door: Any) -> None:
        self._sender, self._receiver, self._door = sender, receiver, door
        self.source: Node = tree.nodes[tree.system_of(sender).node]
        self.target: Node = tree.nodes[tree.system_of(receiver).node]
        self.name = f"{sender} -> {receiver}"

    async def lay(self) -> None:
        for first in range(0, WAITING, MANY):
            numbers = range(first, first + MANY)
            packages = {str(n): letter(self._sender, self._receiver, number=n, size=BULK_BYTES, seed="bulk") for n in numbers}
            results = await send(self._door, packages)
            assert {each["status"] for each in results} == {"accepted"}

    async def urgent(self, *numbers: int) -> str:
        """Hand in so many hỏa tốc, wait until they lie before their office, and say what that took and what passed beside."""
        packages = {
            str(n): letter(self._sender, self._receiver, number=n, size=URGENT_BYTES, priority=Priority.EXPRESS, seed="urgent")
            for n in numbers
        }
        began, before = time.monotonic(), self.bulk_bytes()
        doc_ids = [each["doc_id"] for each in await send(self._door, packages)]
        marks = ",".join("?" * len(doc_ids))

        def all_there() -> bool:
            found = self.target.count(f"mailbox m JOIN envelope e ON e.seq=m.envelope WHERE e.doc_id IN ({marks})", *doc_ids)
            return found == len(doc_ids)

        await eventually(all_there, f"{self.name}: {len(doc_ids)} hỏa tốc have come", URGENT_S * len(doc_ids))
        took_s = time.monotonic() - began
        share = (before - self.bulk_bytes()) / took_s / LINE_BYTES_PER_S
        if len(numbers) > 1:
            assert share >= SHARE, f"{self.name}: bulk had {share:.1%} of the line"
        return f"{self.name}: {len(numbers)} hỏa tốc in {took_s:.1f} s, bulk had {share:.0%} of the line"

    def bulk_bytes(self) -> int:
        """What still waits, in bytes on the line."""
        ((waiting,),) = self.source.query("SELECT coalesce(sum(bytes),0) FROM outbox WHERE lane=4")
        return int(waiting)


@pytest.mark.timeout(240)
async def test_a_hoa_toc_passes_thousands_of_documents_that_wait_behind_a_slow_line(pair: tuple[Tree, Lines]) -> None:
    tree, lines = pair
    async with AsyncExitStack() as stack:
        for node in tree.nodes.values():
            await node.ready()
        up = Road(tree, "H40", "G22", await stack.enter_async_context(native(tree, "H40")))
        down = Road(tree, "G22", "H40", await stack.enter_async_context(native(tree, "G22")))
        lines.silence("H40")
        await asyncio.gather(up.lay(), down.lay())
        waiting = {road: road.bulk_bytes() for road in (up, down)}
        lines.slow("H40")
        lines.speak("H40")
        for road in (up, down):
            await eventually(lambda road=road: road.bulk_bytes() < waiting[road] - 200_000, f"{road.name} flows", 60)  # type: ignore[misc]
        for numbers in ((1,), tuple(range(2, 2 + TOGETHER))):
            for line in await asyncio.gather(up.urgent(*numbers), down.urgent(*numbers)):
                print(f"\n{line}", end="")
        assert min(up.bulk_bytes(), down.bulk_bytes()) > 0, "there was bulk to pass all the time"
        lines.heal("H40")

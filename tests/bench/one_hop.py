"""Measures, never asserts: documents per second over one hop, CPU per document at both nodes, memory of an idle node.

Two nodes on this machine, office to office, packages of 10 kB, real TLS on every side. The clients share the machine: what they
use is told beside. One JSON line per run, then one per figure with min, median and max over the runs. `scripts/bench` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.processes.letters import connector, letter
from tests.processes.tree import Node, Tree, cpu_s, eventually, memory_kb, missing
from tests.vxp_client import VxpClient

TWO_NODES = """\
zone = "do.truc.internal"

[axis]
name = "Trục đo"
code = "TRUC"

[[sites]]
name = "Gốc"
code = ""
prefixes = ["G22"]
[[sites.systems]]
id = "vpcp"
codes = ["G22"]

[[sites]]
name = "Nghệ An"
code = "H41"
parent = ""
prefixes = ["H41"]
[[sites.systems]]
id = "nghean"
codes = ["H41"]

[[organs]]
code = "G22"
name = "Văn phòng Chính phủ"
connection = "chinh-thuc"

[[organs]]
code = "H41"
name = "UBND tỉnh Nghệ An"
connection = "chinh-thuc"
"""

ROUTES = {"up": ("H41", "G22"), "down": ("G22", "H41")}
ARRIVE_S = 300.0
EMPTIERS = 8


async def one_run(tree: Tree, direction: str, documents: int, size: int, clients: int, run: int) -> dict[str, Any]:
    """Send all as fast as the node takes them; the clock stops when the last waits in the other office's mailbox."""
    sender, receiver = ROUTES[direction]
    packages = deque(letter(sender, receiver, number=n, size=size, seed=f"{direction} {run}") for n in range(documents))
    used = {code: cpu_s(node.pid) for code, node in tree.nodes.items()}
    own = time.process_time()
    async with AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(connector(tree, sender)) for _ in range(clients)]
        watcher = await stack.enter_async_context(connector(tree, receiver))
        began = time.monotonic()
        await asyncio.gather(*(_send(client, packages) for client in senders))
        accepted_s = time.monotonic() - began
        await eventually(lambda: _count(watcher, documents), "all have arrived", ARRIVE_S, 0.02)
        arrived_s = time.monotonic() - began
    cpu_ms = {code or "hub": (cpu_s(node.pid) - used[code]) * 1000 / documents for code, node in tree.nodes.items()}
    own_ms = (time.process_time() - own) * 1000 / documents
    await _empty(tree, receiver)
    return {
        "accepted_per_s": documents / accepted_s,
        "arrived_per_s": documents / arrived_s,
        "cpu_ms_per_document_sender_node": cpu_ms[sender if sender in cpu_ms else "hub"],
        "cpu_ms_per_document_receiver_node": cpu_ms[receiver if receiver in cpu_ms else "hub"],
        "cpu_ms_per_document_clients": own_ms,
    }


async def _send(client: VxpClient, packages: deque[bytes]) -> None:
    while packages:
        answer = await client.send(packages.popleft())
        if answer["status"] != "OK":
            raise SystemExit(f"refused: {answer}")


async def _count(client: VxpClient, documents: int) -> bool:
    return await client.count() >= documents


async def _empty(tree: Tree, code: str) -> None:
    """Collect everything, so that each run begins with empty mailboxes."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connector(tree, code)) for _ in range(EMPTIERS)]
        while waiting := deque(await clients[0].received()):
            await asyncio.gather(*(_take(client, waiting) for client in clients))
    await eventually(lambda: not any(node.count("outbox") for node in tree.nodes.values()), "the road is empty", ARRIVE_S)


async def _take(client: VxpClient, waiting: deque[dict[str, Any]]) -> None:
    while waiting:
        doc_id = waiting.popleft()["docId"]
        await client.get(doc_id)
        await client.update(doc_id, "done")


async def idle(nodes: Sequence[Node], rest_s: float) -> list[dict[str, Any]]:
    """Memory of nodes that have nothing to do, and the CPU they use for it."""
    before = {node.pid: cpu_s(node.pid) for node in nodes}
    await asyncio.sleep(rest_s)  # the time measured
    figures = []
    for node in nodes:
        memory = memory_kb(node.pid)
        figures.append(
            {
                "node": node.code or "hub",
                "rss_mb": round(memory["rss"] / 1024, 1),
                "pss_mb": round(memory.get("pss", 0) / 1024, 1),
                "cpu_percent": round((cpu_s(node.pid) - before[node.pid]) / rest_s * 100, 2),
            }
        )
    return figures


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": round(min(values), 2), "median": round(statistics.median(values), 2), "max": round(max(values), 2)}


def tell(**line: Any) -> None:
    print(json.dumps(line, ensure_ascii=False), flush=True)


async def measure(tree: Tree, given: argparse.Namespace) -> None:
    tell(what="machine", cores=os.cpu_count(), python=sys.version.split()[0])
    for figures in await idle(list(tree.nodes.values()), given.idle_s):
        tell(what="idle", **figures)
    for direction in ROUTES:
        runs = []
        for run in range(1, given.runs + 1):
            figures = await one_run(tree, direction, given.documents, given.size, given.clients, run)
            runs.append(figures)
            tell(what="one hop", direction=direction, run=run, **{name: round(value, 2) for name, value in figures.items()})
        for name in runs[0]:
            tell(what="one hop, all runs", direction=direction, figure=name, **spread([each[name] for each in runs]))
    for figures in await idle(list(tree.nodes.values()), given.idle_s):
        tell(what="idle after the runs", **figures)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="One-hop throughput and idle memory, as JSON lines.")
    parser.add_argument("--runs", type=int, default=5, help="runs in each direction (default 5)")
    parser.add_argument("--documents", type=int, default=500, help="documents in a run, at most 1000 (default 500)")
    parser.add_argument("--size", type=int, default=10_000, help="bytes of a package (default 10000)")
    parser.add_argument("--clients", type=int, default=8, help="connectors that send at once (default 8)")
    parser.add_argument("--idle-s", type=float, default=10.0, help="seconds of rest over which idleness is measured (default 10)")
    given = parser.parse_args()
    if why := missing():
        print(why, file=sys.stderr)
        return 69
    with tempfile.TemporaryDirectory(prefix="truc-bench-") as temporary:
        topology = Path(temporary) / "two.toml"
        topology.write_text(TWO_NODES)
        with Tree(Path(temporary) / "tree", topology) as tree:
            asyncio.run(measure(tree, given))
    return 0


if __name__ == "__main__":
    sys.exit(main())

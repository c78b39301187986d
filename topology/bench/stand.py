"""What a bench stands on: the tree, and its nodes and offices once they run.

The hub only passes on: the sender's node and the receivers' nodes hang below it, so that a document goes up one link and down
another. Every receiving organ has an office system of its own.
"""

from __future__ import annotations

import os
import re
import signal
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from topology.bench.doors import Door, open_door
from topology.office import Rehearsal
from topology.processes import cpu_s, memory_mb, tell

SENDER = "H41"
SENDING_CONNECTIONS = 64
RECEIVERS_FIRST = 50
"""Receivers' nodes are H51, H52 …"""
NODES_MAX = 48
SILENT = "H40"
"""A node whose code is known and that never runs."""
Node = MutableMapping[str, Any]


def tree_text(organs: Sequence[int], silent: Collection[str] = ()) -> str:
    """The tree's file: below the hub the sender's node and one more for each number, with so many receiving organs. silent: codes
    of nodes beside them, with an organ each and no office."""
    assert len(organs) <= NODES_MAX
    codes = {f"H{RECEIVERS_FIRST + place}": count for place, count in enumerate(organs, 1)}
    leaves = {SENDER: [SENDER]} | {node: [f"{node}.{number}" for number in range(1, count + 1)] for node, count in codes.items()}
    leaves |= {code: [] for code in silent}
    lines = ['zone = "do.truc.internal"', "[axis]", 'name = "Trục đo"', 'code = "TRUC"']
    lines += ["[[sites]]", 'name = "Nút giữa"', 'code = ""', "prefixes = []"]
    for node, served in leaves.items():
        lines += ["[[sites]]", f'name = "Nút {node}"', f'code = "{node}"', 'parent = ""']
        for code in served:
            lines += ["[[sites.systems]]", f'id = "{code.lower()}"', f'codes = ["{code}"]']
    for code in (code for served in leaves.values() for code in served):
        lines += ["[[organs]]", f'code = "{code}"', f'name = "Cơ quan {code}"', 'connection = "chinh-thuc"']
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Stand:
    """The running nodes, and the doors of the offices at them. ready: the ready line of the sandbox.

    receiving: the connections of the receivers' doors. waiting: rows in the outbox of the node between that nobody will take.
    """

    ready: Mapping[str, Any]
    rehearsal: Rehearsal
    sender: Door
    receivers: Sequence[Door]
    now: Callable[[], float]
    receiving: aiohttp.ClientSession
    waiting: int = 0
    buried_cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def nodes(self) -> Mapping[str, Sequence[Node]]:
        """By what they do: sender_node, relay_node, receiver_nodes."""
        return roles(self.ready)

    @property
    def codes(self) -> Sequence[str]:
        """The receiving organs, in the order of their doors."""
        return [system["codes"][0] for _, system in receiving(self.ready)]

    async def hang_up(self) -> None:
        """Cut the receivers' connections, also of calls under way; of a cancelled call it would wait for the node's goodbye."""
        await self.receiving.close()

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, of the nodes by what they do and of the clients, which is this process."""
        used = {role: sum(cpu_s(node["pid"]) for node in nodes) + self.buried_cpu_s[role] for role, nodes in self.nodes.items()}
        return used | {"clients": cpu_s(os.getpid())}

    def memory_mb(self) -> dict[str, dict[str, float]]:
        """rss and pss by what a node does; of several the mean."""
        found = {}
        for role, nodes in self.nodes.items():
            each = [memory_mb(node["pid"]) for node in nodes]
            found[role] = {key: sum(one[key] for one in each) / len(each) for key in ("rss", "pss")}
        return found

    def kill(self, role: str) -> None:
        """SIGKILL for these nodes; what they have used still counts."""
        for node in self.nodes[role]:
            self.buried_cpu_s[role] += cpu_s(node["pid"])
            tell(node["pid"], signal.SIGKILL)

    def store_mb(self, role: str) -> float:
        """Database and WAL of these nodes on the disk."""
        found = [path for node in self.nodes[role] for path in Path(node["data"]).glob("node.db*")]
        return sum(path.stat().st_size for path in found) / 1e6

    async def body_bytes_sent(self, role: str) -> float:
        """Bytes of large bodies that these nodes have sent over their links, as they count them themselves."""
        return float(sum([await self._counter(node, 'truc_body_bytes_total{direction="out"}') for node in self.nodes[role]]))

    async def _counter(self, node: Node, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", await self.rehearsal.metrics(node), re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def at_rest(self) -> bool:
        """Every mailbox is empty and nothing waits for a neighbour, in the order in which news of the end travels home."""
        for door in self.receivers:
            if await door.look():
                return False
        for role in ("receiver_nodes", "relay_node", "sender_node"):
            if await self.depth(role) > (self.waiting if role == "relay_node" else 0):
                return False
        return True

    async def depth(self, role: str) -> int:
        """How much waits in the outboxes of these nodes."""
        return sum([(await self.rehearsal.ask(node, "/api/status"))["outbox"]["depth"] for node in self.nodes[role]])


def roles(ready: Mapping[str, Any]) -> dict[str, list[Node]]:
    nodes: list[Node] = ready["nodes"]
    return {
        "sender_node": [node for node in nodes if node["code"] == SENDER],
        "relay_node": [node for node in nodes if not node["code"]],
        "receiver_nodes": [node for node in nodes if node["code"] not in ("", SENDER)],
    }


def receiving(ready: Mapping[str, Any]) -> list[tuple[Node, Mapping[str, Any]]]:
    """Every receiving system with its node."""
    return [(node, system) for node in roles(ready)["receiver_nodes"] for system in node["systems"]]


@asynccontextmanager
async def offices(ready: Mapping[str, Any], door: str, now: Callable[[], float], waiting: int = 0) -> AsyncIterator[Stand]:
    """The offices at the running nodes, for as long as the block lasts. door: one of `doors.DOORS`."""
    async with connect(Path(ready["ca"]), SENDING_CONNECTIONS) as sending, connect(Path(ready["ca"]), 0) as receiving_:
        node = roles(ready)["sender_node"][0]
        sender = open_door(door, sending, node, node["systems"][0])
        receivers = [open_door(door, receiving_, node, system) for node, system in receiving(ready)]
        yield Stand(ready, Rehearsal(ready, receiving_), sender, receivers, now, receiving_, waiting)


def connect(ca: Path, connections: int) -> aiohttp.ClientSession:
    """Kept-alive connections that trust the tree's certificates; connections: at most so many, 0 for any number."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(ca)), limit=connections)
    return aiohttp.ClientSession(connector=connector)

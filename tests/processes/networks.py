"""A network namespace for each node of a tree, and lines between them that fall silent, reset, or are slow.

All links run over one bridge in a namespace of its own that leads nowhere else. A node's offices and its operator are at home in
its namespace: they reach it on its loopback, whatever happens to its lines. Needs root. Knows of nodes only where they listen.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.processes.machine import sh
from tests.processes.tree import Node, Tree

NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000
ADDRESS = "10.213.0.{}"
BRIDGE = "br0"


def socket_in(namespace: str, *_: object) -> socket.socket:
    """A socket that belongs to a network namespace, wherever it is used then: the thread that makes it goes there, not we."""

    def make() -> socket.socket:
        handle = os.open(NETNS / namespace, os.O_RDONLY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(handle, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {namespace}")
        finally:
            os.close(handle)
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        return made

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


class Lines:
    """The lines of a tree. Making them kills every node; each stands in its namespace when it is started again.

    A line is named by its child. up: what the child sends; down: what its parent sends.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        mark = f"truc{os.getpid()}"
        self._ground = f"{mark}-ground"
        self._number = {code: number for number, code in enumerate(tree.nodes, 1)}
        self._names = {code: f"{mark}-{number}" for code, number in self._number.items()}
        self._faults: set[str] = set()
        self._lay()
        for node in tree.nodes.values():
            self._move(node)

    @property
    def children(self) -> list[str]:
        return [code for code, node in self._tree.nodes.items() if node.parent is not None]

    def silence(self, child: str, *, up: bool = True, down: bool = True) -> None:
        """Packets vanish, and nobody is told."""
        self._rule(child, up, down, "drop")

    def reset(self, child: str) -> None:
        """Every packet is answered by a reset: connections break at their next byte, new ones are refused."""
        self._rule(child, True, True, "meta l4proto tcp reject with tcp reset")

    def slow(self, child: str, bits: str = "256kbit") -> None:
        """Each direction gets this bandwidth."""
        shape = f"root tbf rate {bits} burst 16kb latency 400ms"
        for namespace, device in self._ends(child):
            sh("tc", "-n", namespace, "qdisc", "replace", "dev", device, *shape.split())
        self._faults.add(child)

    def speak(self, child: str) -> None:
        """It is not silent any more; as slow as before."""
        for namespace in (self._names[child], self._names[self._parent(child)]):
            _filter(namespace, _forgotten(self._table(child)))

    def heal(self, child: str) -> None:
        """This line is as good as new."""
        if child not in self._faults:
            return
        self.speak(child)
        for namespace, device in self._ends(child):
            if "tbf" in sh("tc", "-n", namespace, "qdisc", "show", "dev", device):
                sh("tc", "-n", namespace, "qdisc", "del", "dev", device, "root")
        self._faults.discard(child)

    def heal_all(self) -> None:
        for child in sorted(self._faults):
            self.heal(child)

    def _parent(self, child: str) -> str:
        parent = self._tree.nodes[child].parent
        assert parent is not None, "the hub has no line above it"
        return parent

    def _address(self, code: str) -> str:
        return ADDRESS.format(self._number[code])

    def _table(self, child: str) -> str:
        return f"line{self._number[child]}"

    def _ends(self, child: str) -> tuple[tuple[str, str], tuple[str, str]]:
        """Where the child sends into the bridge, and where the bridge sends to the child."""
        return (self._names[child], "eth0"), (self._ground, f"v{self._number[child]}")

    def _rule(self, child: str, up: bool, down: bool, fate: str) -> None:
        """At the receiving end, so that the sending one learns nothing."""
        self._faults.add(child)
        parent = self._parent(child)
        for struck, here, there in ((up, parent, child), (down, child, parent)):
            rule = f"ip saddr {self._address(there)} {fate}\n" if struck else ""
            chain = f"chain arriving {{\ntype filter hook input priority 0;\n{rule}}}\n"
            _filter(self._names[here], f"{_forgotten(self._table(child))}\ntable inet {self._table(child)} {{\n{chain}}}\n")

    def _lay(self) -> None:
        self._tree.undo.callback(_remove, [self._ground, *self._names.values()])
        for name in (self._ground, *self._names.values()):
            sh("ip", "netns", "add", name)
        ground = [f"link add {BRIDGE} type bridge", f"link set {BRIDGE} up"]
        for code, number in self._number.items():
            name = self._names[code]
            ground += [
                f"link add v{number} type veth peer name eth0 netns {name}",
                f"link set v{number} master {BRIDGE} up",
            ]
        sh("ip", "-n", self._ground, "-batch", "-", given="\n".join(ground))
        for code, name in self._names.items():
            own = ["link set lo up", f"addr add {self._address(code)}/24 dev eth0", "link set eth0 up"]
            sh("ip", "-n", name, "-batch", "-", given="\n".join(own))

    def _move(self, node: Node) -> None:
        """Its link listener and its parent's address are those of the namespaces; all else stays where it was."""
        node.kill()
        text = node.config.read_text()
        text = re.sub(r'(\[link\]\nlisten_host = )"[^"]*"', rf'\1"{self._address(node.code)}"', text)
        if node.parent is not None:
            text = re.sub(r'(parent_url = "https://)[^:"]*:', rf"\g<1>{self._address(node.parent)}:", text)
        node.config.write_text(text)
        # not `ip netns exec`, whose mount namespace would hold on to a disk that is to go
        node.around = ("nsenter", f"--net={NETNS / self._names[node.code]}", *node.around)
        node.dial = partial(socket_in, self._names[node.code])


def _forgotten(table: str) -> str:
    """Taken away whether it is there or not."""
    return f"add table inet {table}\ndelete table inet {table}"


def _filter(namespace: str, script: str) -> None:
    sh("ip", "netns", "exec", namespace, "nft", "-f", "-", given=script)


def _remove(names: Iterable[str]) -> None:
    for name in names:
        if (NETNS / name).exists():
            sh("ip", "netns", "del", name)

"""The storm of a campaign: faults of many kinds that strike nodes and lines at random, and what must be laid out for them first.

    stage = Stage(tree, kinds, rng)          # restarts every node in the surroundings that the kinds need
    await stage.raised()
    await Storm(stage, rng, counts, kills=30).blow()

Every node is up, every line and disk is well when a storm has passed. Knows nothing of what travels through the tree.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from tests.processes.clocks import DAY_S, WrongClock
from tests.processes.disks import PowerCutDisk, SmallDisk
from tests.processes.injection import SYNCS, tracer
from tests.processes.machine import (
    Probe,
    no_faketime,
    no_namespaces,
    no_power_cut,
    no_slow_lines,
    no_strace,
    no_tmpfs,
)
from tests.processes.networks import Lines
from tests.processes.tree import Late, Node, Tree, eventually


def nothing_needed() -> str:
    return ""


KINDS: Mapping[str, Probe] = {
    "kill": nothing_needed,
    "pause": nothing_needed,
    "silent line": no_namespaces,
    "one-way line": no_namespaces,
    "reset line": no_namespaces,
    "slow line": no_slow_lines,
    "disk error": no_strace,
    "disk full": no_tmpfs,
    "kill at a sync": no_strace,
    "power cut": no_power_cut,
    "clock step": no_faketime,
}
"""Every kind of fault and what it needs of the machine."""
ON_LINES = frozenset({"silent line", "one-way line", "reset line", "slow line"})
ON_FEW = ("power cut", "disk full", "clock step")
SYNCS_MAX = 60
"""A traced node is struck at one of its first so many syncs, per thread."""
STRUCK_S = 12.0
"""A traced node that was not struck by then is killed."""
FREE_MAX = 200_000
STRUCK_LOG = "struck.log"
"""What a node says whose disk fails is not judged as what a healthy one says."""


def available(wanted: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The kinds this machine can do, and why not the others."""
    why = {kind: KINDS[kind]() for kind in wanted}
    return [kind for kind, reason in why.items() if not reason], {kind: reason for kind, reason in why.items() if reason}


class Stage:
    """What the kinds need: namespaces for all nodes, two nodes on each sort of disk, one with a clock of its own."""

    def __init__(self, tree: Tree, kinds: Iterable[str], rng: random.Random) -> None:
        self.tree = tree
        self.kinds = list(kinds)
        self.lines: Lines | None = None
        self.power: dict[str, PowerCutDisk] = {}
        self.small: dict[str, SmallDisk] = {}
        self.clocks: dict[str, WrongClock] = {}
        if set(self.kinds) <= {"kill", "pause"}:
            return
        for node in tree.nodes.values():
            node.kill()
        if ON_LINES & set(self.kinds):
            self.lines = Lines(tree)
        nodes = rng.sample(list(tree.nodes.values()), len(tree.nodes))
        if "power cut" in self.kinds:
            self.power = {node.code: PowerCutDisk(tree, node) for node in nodes[:2]}
        if "disk full" in self.kinds:
            self.small = {node.code: SmallDisk(tree, node) for node in nodes[2:4]}
        if "clock step" in self.kinds:
            self.clocks = {node.code: WrongClock(node) for node in nodes[4:5]}
        for node in tree.nodes.values():
            node.start()

    async def raised(self) -> None:
        for node in self.tree.nodes.values():
            await node.ready()

    def can(self, node: Node) -> list[str]:
        """The kinds that may strike this node (or the line above it)."""
        lacking = {
            "power cut": node.code not in self.power,
            "disk full": node.code not in self.small,
            "clock step": node.code not in self.clocks,
            **dict.fromkeys(ON_LINES, node.parent is None),
        }
        return [kind for kind in self.kinds if not lacking.get(kind, False)]


class Storm:
    """Strikes until `kills` nodes have been killed, or until `lasts_s` have passed where that is given.

    faults: how often each kind struck. failing: the nodes whose disk failed under them.
    """

    def __init__(self, stage: Stage, rng: random.Random, counts: Counter[str], *, kills: int, lasts_s: float = 0.0) -> None:
        self._stage = stage
        self._rng = rng
        self._counts = counts
        self._wanted = kills
        self._lasts_s = lasts_s
        self._began = time.monotonic()
        self.kills = 0
        self.faults: Counter[str] = Counter()
        self.failing: set[str] = set()

    @property
    def progress(self) -> float:
        """0..1."""
        if self._lasts_s:
            return min(1.0, (time.monotonic() - self._began) / self._lasts_s)
        return min(1.0, self.kills / self._wanted) if self._wanted else 1.0

    async def blow(self) -> None:
        self._began = time.monotonic()
        nodes = list(self._stage.tree.nodes.values())
        while self.progress < 1:
            struck = self._rng.sample(nodes, len(nodes) if self._rng.random() < 0.05 else self._rng.choice((1, 1, 2)))
            kinds = [self._rng.choice(self._likely(node)) for node in struck]
            async with asyncio.TaskGroup() as group:
                for node, kind in zip(struck, kinds, strict=True):
                    group.create_task(self._strike(node, kind, random.Random(self._rng.random())))
            await asyncio.sleep(self._rng.uniform(0, 1.5))  # the storm's own rhythm
        for node in nodes:
            await node.ready()

    def _likely(self, node: Node) -> list[str]:
        """Kills are the commonest, and what only few nodes can suffer is likely there."""
        kinds = self._stage.can(node)
        return kinds + [kind for kind in kinds if kind in ("kill", *ON_FEW)] * 3

    async def _strike(self, node: Node, kind: str, rng: random.Random) -> None:
        if not node.alive():
            node.start()
        self.faults[kind] += 1
        match kind:
            case "kill":
                await self._shoot(node, rng)
            case "pause":
                await self._freeze(node, rng)
            case "disk error" | "kill at a sync":
                await self._fail(node, kind, rng)
            case "disk full":
                await self._fill(node, rng)
            case "power cut":
                await self._cut_power(node, rng)
            case "clock step":
                await self._set_clock(node, rng)
            case _:
                await self._break_line(node, kind, rng)

    async def _shoot(self, node: Node, rng: random.Random) -> None:
        if rng.random() < 0.4:
            await self._until_a_body_moves(node)
        self._kill(node)
        await asyncio.sleep(rng.uniform(0, 2.0))
        node.start()
        while rng.random() < 0.25:  # in the middle of its recovery, or a moment after
            await asyncio.sleep(rng.uniform(0.2, 2.5))
            self._kill(node)
            self._counts["killed while recovering"] += 1
            node.start()
        if rng.random() < 0.6:
            await node.ready()

    async def _freeze(self, node: Node, rng: random.Random) -> None:
        node.pause()
        await asyncio.sleep(rng.uniform(0.05, 3))
        if rng.random() < 0.3:
            self._kill(node)
            node.start()
        node.resume()

    async def _fail(self, node: Node, kind: str, rng: random.Random) -> None:
        """At one of its next syncs the disk fails, or the node dies. It runs traced until then."""
        around, log = node.around, node.log
        if kind == "disk error":
            self.failing.add(node.code)
        self._kill(node)
        fate = "error=EIO" if kind == "disk error" else "signal=KILL"
        node.around = (*around, *tracer(node, SYNCS, f"{fate}:when={rng.randint(1, SYNCS_MAX)}"))
        node.log = STRUCK_LOG
        node.start()
        try:
            await eventually(lambda: node.exit_code() is not None, "it was struck", STRUCK_S)
            self._counts[f"{kind} at a chosen sync"] += 1
        except Late:
            self._kill(node)
        finally:
            node.around, node.log = around, log
        node.start()

    async def _fill(self, node: Node, rng: random.Random) -> None:
        disk = self._stage.small[node.code]
        disk.leave(rng.randint(0, FREE_MAX))
        try:
            await asyncio.sleep(rng.uniform(1, 8))
            if rng.random() < 0.2:
                self._kill(node)
                await asyncio.sleep(rng.uniform(0, 1))
        finally:
            disk.enlarge()
        if not node.alive():
            node.start()

    async def _cut_power(self, node: Node, rng: random.Random) -> None:
        if rng.random() < 0.4:
            await self._until_a_body_moves(node)
        self._stage.power[node.code].cut_power()
        await asyncio.sleep(rng.uniform(0, 2.0))
        node.start()

    async def _set_clock(self, node: Node, rng: random.Random) -> None:
        clock = self._stage.clocks[node.code]
        clock.set(rng.choice((-DAY_S, -3600, 3600, DAY_S)))
        try:
            await asyncio.sleep(rng.uniform(0.5, 8))
            if rng.random() < 0.3:
                self._kill(node)
                node.start()
                await node.ready()
        finally:
            clock.set(0)

    async def _break_line(self, child: Node, kind: str, rng: random.Random) -> None:
        lines = self._stage.lines
        assert lines is not None, "no lines without namespaces"
        match kind:
            case "silent line":
                lines.silence(child.code)
            case "one-way line":
                up = rng.random() < 0.5
                lines.silence(child.code, up=up, down=not up)
            case "reset line":
                lines.reset(child.code)
            case _:
                lines.slow(child.code, rng.choice(("64kbit", "256kbit", "1mbit")))
        try:
            await asyncio.sleep(rng.choice((rng.uniform(0.2, 3), rng.uniform(3, 25))))
        finally:
            lines.heal(child.code)

    async def _until_a_body_moves(self, node: Node) -> None:
        """The moment when a large body is half there; after a second any moment will do."""
        bodies = node.data / "bodies"
        try:
            await eventually(lambda: any(bodies.glob("partial/*")) or any(bodies.glob("spool/*")), "a body moves", 1.0, 0.003)
            self._counts["aimed at a body"] += 1
        except Late:
            pass

    def _kill(self, node: Node) -> None:
        node.kill()
        self.kills += 1
        self._counts["killed"] += 1
        self._counts[f"killed {node.code or 'hub'}"] += 1

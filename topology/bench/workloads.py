"""The workloads: what is sent, how, and which figures come of it. Every one ends with the nodes at rest.

`WORKLOADS` is the list of them, with the tree each wants. Knows doors, letters and arrivals; not how nodes are started.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp

from node.core.package import Priority
from topology.bench.arrivals import Arrivals, Incomplete
from topology.bench.children import Children, Papers
from topology.bench.figures import Figures, latencies
from topology.bench.letters import Letters
from topology.bench.stand import SENDER, Stand
from topology.processes import tell

MB = 1_000_000
REST_POLL_S = 0.05
READY_POLL_S = 0.01
REST_S = 120.0
"""How long the news of the last document may take to come home."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a user asked for. documents: in one run (poll: questions). size: bytes of content in each, before edXML and base64.

    window: calls under way at once. rate: documents in a second (light, and urgent ones beside the others). recipients: organs
    that each document goes to (poll: office systems that ask), spread over so many nodes. backlog, history: of grown, envelopes
    that wait at the node between for a neighbour that is silent, and envelopes that it has handed over. children: of the node
    between, beside the two that are nodes; idle_s: they are looked at for so long.
    """

    workload: str
    documents: int
    size: int = 10_000
    window: int = 64
    rate: float = 0.0
    recipients: int = 1
    nodes: int = 1
    door: str = "native"
    runs: int = 3
    backlog: int = 0
    history: int = 0
    children: int = 0
    idle_s: float = 30.0

    def organs(self) -> list[int]:
        """Recipients per node."""
        each, more = divmod(self.recipients, self.nodes)
        return [each + (place < more) for place in range(self.nodes)]


class Work:
    """One run after the other at one stand. letters and urgent: what is written, to every receiver. start: starts the node of a
    configuration again that has ended, and says its process id. beside: the same at a stand to compare with. papers: of the
    children that are no nodes."""

    def __init__(
        self,
        plan: Plan,
        stand: Stand,
        arrivals: Arrivals,
        start: Callable[[Path], int],
        beside: Work | None = None,
        papers: Sequence[Papers] = (),
    ) -> None:
        self.plan = plan
        self.stand = stand
        self.arrivals = arrivals
        self.beside = beside
        self.papers = papers
        self._start = start
        self.letters = Letters(SENDER, stand.codes)
        self.urgent = Letters(SENDER, stand.codes, Priority.EXPRESS)

    async def warm_up(self) -> None:
        """As many as are under way at once, so that every connection is there; where nobody collects, one look at each door."""
        if self.plan.workload in COLLECTING:
            await self.send_all(self.arrivals.expect(self.plan.window))
            await self.arrivals.complete()
            await self.rest()
        else:
            await asyncio.gather(*(door.look() for door in self.stand.receivers))

    async def send(self, letters: Letters, number: int) -> None:
        await self.stand.sender.send(letters.write(number, self.arrivals.leaves(number)))

    async def send_all(self, numbers: Iterable[int]) -> float:
        """All of them, `window` at a time; seconds until the last was taken."""
        began = self.stand.now()
        left = iter(numbers)
        await asyncio.gather(*(self._send_some(left) for _ in range(self.plan.window)))
        return self.stand.now() - began

    async def _send_some(self, left: Iterator[int]) -> None:
        for number in left:
            await self.send(self.letters, number)

    async def send_at_rate(self, letters: Letters, numbers: Sequence[int]) -> None:
        """One after the other on the beat, whatever becomes of those before."""
        began = self.stand.now()
        async with asyncio.TaskGroup() as tasks:
            for place, number in enumerate(numbers):
                await asyncio.sleep(began + place / self.plan.rate - self.stand.now())
                tasks.create_task(self.send(letters, number))

    async def rest(self) -> None:
        """Until the receivers have confirmed all and the sender's node knows it."""
        await self._until(self.stand.at_rest)

    async def passed_on(self, role: str) -> None:
        """Until nothing waits any more in the outboxes of these nodes."""

        async def empty() -> bool:
            return await self.stand.depth(role) == 0

        await self._until(empty)

    async def _until(self, done: Callable[[], Awaitable[bool]]) -> None:
        deadline = self.stand.now() + REST_S
        while not await done():
            if self.stand.now() > deadline:
                raise Incomplete(
                    f"sau {REST_S:.0f} giây vẫn còn mục chờ chuyển hoặc chờ lấy",
                    f"items still wait in an outbox or a mailbox after {REST_S:.0f} s",
                )
            await asyncio.sleep(REST_POLL_S)

    async def kill_and_start(self) -> float:
        """The node between dies and is started at once; seconds until it is ready again."""
        began = self.stand.now()
        self.stand.kill("relay_node")
        for node in self.stand.nodes["relay_node"]:
            node["pid"] = self._start(Path(node["config"]))
            while not await self.stand.rehearsal.is_ready(node):
                if self.stand.now() - began > REST_S:
                    raise Incomplete("nút giữa không chạy lại được", "the node between does not start again")
                await asyncio.sleep(READY_POLL_S)
        return self.stand.now() - began

    async def measured(self, work: Awaitable[Figures], documents: int) -> Figures:
        """The figures of a piece of work, and what it cost: CPU until all is at rest again, memory then."""
        before = self.stand.cpu_s()
        figures = await work
        if self.plan.workload in COLLECTING:
            await self.rest()
        after = self.stand.cpu_s()
        cpu = {f"cpu_ms_{role}": (after[role] - before[role]) * 1000 / documents for role in before}
        return {**figures, **cpu, "rss_mb_relay_node": self.stand.memory_mb()["relay_node"]["rss"]}


async def relay(work: Work) -> Figures:
    """As fast as the nodes take them."""
    numbers = work.arrivals.expect(work.plan.documents)

    async def through() -> Figures:
        accepted_s = await work.send_all(numbers)
        await work.arrivals.complete()
        arrived_per_s = len(numbers) / work.arrivals.span_s(numbers)
        return {
            "documents_per_s": arrived_per_s,
            "mb_per_s": arrived_per_s * work.plan.size / MB,
            "accepted_per_s": len(numbers) / accepted_s,
        }

    return await work.measured(through(), len(numbers))


async def light(work: Work) -> Figures:
    """A few in a second: how long each is on the way."""
    numbers = work.arrivals.expect(work.plan.documents)

    async def through() -> Figures:
        await work.send_at_rate(work.letters, numbers)
        await work.arrivals.complete()
        return latencies(work.arrivals.waits_s(numbers))

    return await work.measured(through(), len(numbers))


async def fanout(work: Work) -> Figures:
    """One document to many, one after the other: what crosses the first link, when the first and the last receiver have it."""
    package_bytes = len(work.letters.write(0, bytes(work.plan.size)))

    async def through() -> Figures:
        sent_bytes = await work.stand.body_bytes_sent("sender_node")
        waits = []
        for _ in range(work.plan.documents):
            numbers = work.arrivals.expect(1)
            await work.send(work.letters, numbers[0])
            await work.arrivals.complete()
            waits.append(work.arrivals.waits_s(numbers))
        sent_bytes = await work.stand.body_bytes_sent("sender_node") - sent_bytes
        return {
            "bodies_on_first_link": sent_bytes / package_bytes / len(waits),
            "first_ms": statistics.median(min(each) for each in waits) * 1000,
            "last_ms": statistics.median(max(each) for each in waits) * 1000,
        }

    return await work.measured(through(), work.plan.documents)


async def urgent(work: Work) -> Figures:
    """Beside a full load of ordinary documents a few of the highest priority: how long those are on the way."""
    ordinary = work.arrivals.expect(work.plan.documents)
    express: list[int] = []

    async def through() -> Figures:
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(work.send_all(ordinary))
            while not load.done():
                express.extend(work.arrivals.expect(1))
                await work.send(work.urgent, express[-1])
                await asyncio.sleep(1 / work.plan.rate)
        await work.arrivals.complete()
        bulk = {f"ordinary_{name}": value for name, value in latencies(work.arrivals.waits_s(ordinary)).items()}
        waits = [wait for number in express for wait in work.arrivals.waits_s(range(number, number + 1))]
        return {"urgent_documents": float(len(express)), **latencies(waits), **bulk}

    return await work.measured(through(), len(ordinary))


async def backlog(work: Work) -> Figures:
    """The node in the middle stands still until all wait at the first; then how fast they go on."""
    numbers = work.arrivals.expect(work.plan.documents)

    async def through() -> Figures:
        with _standstill(work.stand.nodes["relay_node"]):
            accepted_s = await work.send_all(numbers)
        began = work.stand.now()
        await work.arrivals.complete()
        return {
            "accepted_per_s": len(numbers) / accepted_s,
            "documents_per_s": len(numbers) / (work.arrivals.last(numbers) - began),
            "resumed_ms": (work.arrivals.first(numbers) - began) * 1000,
        }

    return await work.measured(through(), len(numbers))


@contextmanager
def _standstill(nodes: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    for node in nodes:
        tell(node["pid"], signal.SIGSTOP)
    try:
        yield
    finally:
        for node in nodes:
            tell(node["pid"], signal.SIGCONT)


async def poll(work: Work) -> Figures:
    """Many office systems ask for their empty mailboxes, `window` of them at once, turn and turn about."""
    waits: list[float] = []
    doors = cycle(work.stand.receivers)
    questions = iter(range(work.plan.documents))

    async def some() -> None:
        for _ in questions:
            began = work.stand.now()
            if await next(doors).look():
                raise Incomplete("hộp văn bản chờ lấy không trống", "a mailbox is not empty")
            waits.append(work.stand.now() - began)

    async def through() -> Figures:
        began = work.stand.now()
        await asyncio.gather(*(some() for _ in range(work.plan.window)))
        return {"questions_per_s": len(waits) / (work.stand.now() - began), **latencies(waits)}

    return await work.measured(through(), work.plan.documents)


async def kill(work: Work) -> Figures:
    """The node between is killed in the middle of the stream, and once more when all the others wait there for a receivers' node
    that stands still; each time it is started again at once."""
    numbers = work.arrivals.expect(work.plan.documents)

    async def through() -> Figures:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work.send_all(numbers))
            await work.arrivals.complete(but=len(numbers) * 2 // 3)
            streaming = await _killed(work)
            await work.arrivals.complete()
        first = _resumed_ms(work, numbers, *streaming)
        await work.rest()
        others = work.arrivals.expect(work.plan.documents)
        with _standstill(work.stand.nodes["receiver_nodes"]):
            await work.send_all(others)
            await work.passed_on("sender_node")
            waiting = await _killed(work)
        await work.arrivals.complete()
        second = _resumed_ms(work, others, *waiting)
        return {"ready_ms": streaming[1] * 1000, "backlog_ready_ms": waiting[1] * 1000} | {
            "resumed_ms": first,
            "backlog_resumed_ms": second,
        }

    return await work.measured(through(), 2 * len(numbers))


async def _killed(work: Work) -> tuple[float, float]:
    """(when, seconds until it was ready again) of a kill of the node between."""
    at = work.stand.now()
    return at, await work.kill_and_start()


def _resumed_ms(work: Work, numbers: range, killed: float, ready_s: float) -> float:
    """From the kill to the first document that arrived after the node was ready again."""
    return (work.arrivals.first(numbers, since=killed + ready_s) - killed) * 1000


async def grown(work: Work) -> Figures:
    """As `relay`, at an empty node and at one with a backlog and a history, in turn; then each is killed and started again."""
    assert work.beside is not None
    found: dict[str, float] = {}
    for name, each in (("empty", work.beside), ("grown", work)):
        figures = await relay(each)
        found |= {f"{name}_{figure}": value for figure, value in figures.items() if figure in COMPARED}
        found[f"{name}_rss_mb"] = figures["rss_mb_relay_node"]
        found[f"{name}_start_ms"] = await each.kill_and_start() * 1000
        found[f"{name}_start_rss_mb"] = each.stand.memory_mb()["relay_node"]["rss"]
        found[f"{name}_store_mb"] = each.stand.store_mb("relay_node")
    ratios = {f"ratio_{figure}": found[f"grown_{figure}"] / found[f"empty_{figure}"] for figure in COMPARED}
    return ratios | found


async def children(work: Work) -> Figures:
    """So many children dial at the node between, hold a pull open and have nothing to say: what they take of it."""
    node, count = "relay_node", len(work.papers)

    def memory() -> float:
        return work.stand.memory_mb()[node]["rss"]

    before_mb, before_s, began = memory(), work.stand.cpu_s()[node], work.stand.now()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
        crowd = Children(work.papers, session)
        await crowd.dial()
        dialled = {
            "dial_s": work.stand.now() - began,
            "cpu_ms_dial": (work.stand.cpu_s()[node] - before_s) * 1000 / count,
        }
        living = tasks.create_task(crowd.live())
        await crowd.push()
        busy_mb = memory()
        await asyncio.sleep(work.plan.idle_s)  # longer than a connection may say nothing: the one with the pull is left
        idle_s = work.stand.cpu_s()[node]
        await asyncio.sleep(work.plan.idle_s)  # longer than a pull waits: each child asks once more
        cpu_percent = (work.stand.cpu_s()[node] - idle_s) * 100 / work.plan.idle_s
        idle_mb = memory()
        living.cancel()
        await session.close()
    return {
        **dialled,
        "idle_cpu_percent": cpu_percent,
        "rss_mb_before": before_mb,
        "rss_mb_two_connections": busy_mb,
        "rss_mb_idle": idle_mb,
        "rss_kb_per_child": (idle_mb - before_mb) * 1000 / count,
    }


COMPARED = ("documents_per_s", "cpu_ms_relay_node")
"""What of a grown node is told beside an empty one's, and as their ratio."""

Workload = Callable[[Work], Awaitable[Figures]]

WORKLOADS: Mapping[str, Workload] = {
    "relay": relay,
    "light": light,
    "large": relay,
    "fanout": fanout,
    "urgent": urgent,
    "backlog": backlog,
    "poll": poll,
    "kill": kill,
    "grown": grown,
    "children": children,
}
"""By the name a user gives. large is relay with documents of 1 MB."""
COLLECTING = frozenset(WORKLOADS) - {"poll", "children"}
"""In these the receivers collect all the time."""

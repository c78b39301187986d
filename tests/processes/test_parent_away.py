"""The parent is away while a thousand documents are accepted below; when it is back they all arrive, once, in bounded time."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from tests.processes.letters import connector, letter
from tests.processes.tree import Tree, eventually
from tests.vxp_client import VxpClient

DOCUMENTS = 1_000
CLIENTS = 8
ARRIVE_S = 60.0
"""From the parent's readiness to the last arrival two hops further. A quiet machine of two cores needs a tenth of it."""


async def send_many(tree: Tree, numbers: range) -> dict[str, str]:
    """One connector sends its share in turn; digest by docId."""
    found = {}
    async with connector(tree, "H41.07") as client:
        for number in numbers:
            package = letter("H41.07", "G22", number=number, size=2_000 + number % 9 * 1_000, seed="parent away")
            answer = await client.send(package)
            assert answer["status"] == "OK", answer
            found[answer["DocId"]] = hashlib.sha256(package).hexdigest()
    return found


async def collect_many(clients: list[VxpClient]) -> Counter[str]:
    """Everything that waits, each item fetched and confirmed; digests by docId, counted."""
    found: Counter[str] = Counter()
    while lines := await clients[0].received():
        waiting = deque(line["docId"] for line in lines)
        await asyncio.gather(*(collect_some(client, waiting, found) for client in clients))
    return found


async def collect_some(client: VxpClient, waiting: deque[str], found: Counter[str]) -> None:
    while waiting:
        doc_id = waiting.popleft()
        found[f"{doc_id} {hashlib.sha256(await client.get(doc_id)).hexdigest()}"] += 1
        assert (await client.update(doc_id, "done"))["status"] == "OK"


@pytest.mark.timeout(240)
async def test_a_thousand_documents_accepted_while_the_parent_is_away_all_arrive_once(
    small: Callable[[], Tree], record_property: Callable[[str, object], None]
) -> None:
    with small() as tree:
        parent, below = tree.nodes["H41"], tree.nodes["H41.07"]
        parent.kill()
        began = time.monotonic()
        share = DOCUMENTS // CLIENTS
        parts = await asyncio.gather(*(send_many(tree, range(n * share, (n + 1) * share)) for n in range(CLIENTS)))
        accepted_s = time.monotonic() - began
        sent = {doc_id: digest for part in parts for doc_id, digest in part.items()}
        assert len(sent) == DOCUMENTS
        assert below.count("outbox") == DOCUMENTS

        parent.start()
        await parent.ready()
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connector(tree, "G22")) for _ in range(CLIENTS)]

            async def all_there() -> bool:
                return await clients[0].count() == DOCUMENTS

            await eventually(all_there, "all have arrived", ARRIVE_S, 0.05)
            arrived_s = time.monotonic() - began
            found = await collect_many(clients)
        collected_s = time.monotonic() - began
        assert found == Counter(f"{doc_id} {digest}" for doc_id, digest in sent.items())
        await eventually(lambda: not below.count("delivery WHERE state<>'collected'"), "the senders know", ARRIVE_S)
        figures = {"accepted_s": accepted_s, "arrived_s": arrived_s, "collected_s": collected_s}
        for name, value in figures.items():
            record_property(name, round(value, 1))
        print(f"\n{DOCUMENTS} documents: {figures}")

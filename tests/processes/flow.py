"""Letters that keep flowing between offices while something happens to a node, and what came of them.

Each office insists with the same bytes until it is answered; each acknowledged letter must come once, whole. The ledger is the
offices' own. Knows nothing of what happens meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from tests.processes.letters import NO_ANSWER, connector, later, letter
from tests.processes.tree import Late, Tree, eventually
from tests.vxp_client import VxpClient, VxpFailed

CALL_S = 20.0
PAUSE_S = 0.1
SIZES = (2_000, 30_000, 5_000, 160_000, 2_000, 9_000)
"""In turn; one in six is a file that crosses each link by itself."""


class Flow:
    """roads: (sender, receiver) pairs of codes; in each, letters leave one after the other while `async with` lasts.

    sent: docId -> digest of what was acknowledged. arrived: "docId digest" of what was fetched and confirmed, counted. told: how
    often an office heard "later", by reason.
    """

    def __init__(self, tree: Tree, *roads: tuple[str, str], seed: object = 0, sizes: tuple[int, ...] = SIZES) -> None:
        self._tree = tree
        self._roads = roads
        self._seed = seed
        self._sizes = sizes
        self._stopped = asyncio.Event()
        self.sent: dict[str, str] = {}
        self.arrived: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.unanswered = 0
        self.wrong: list[str] = []

    async def __aenter__(self) -> Self:
        self._stack = await AsyncExitStack().__aenter__()
        receivers = list(dict.fromkeys(receiver for _, receiver in self._roads))
        self._sending = [self._start(self._send(*road)) for road in self._roads]
        self._receiving = [self._start(self._receive(code)) for code in receivers]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)
        return task

    async def more(self, count: int, within_s: float = 30.0) -> None:
        """Until `count` more letters have been acknowledged."""
        wanted = len(self.sent) + count
        await self.until(lambda: len(self.sent) >= wanted, f"{count} more letters are taken", within_s)

    async def until(self, question: Callable[[], Any], what: str, within_s: float = 30.0) -> None:
        """Letters flow until the answer is true."""
        await eventually(lambda: self._checked() and question(), what, within_s)

    async def settle(self, within_s: float = 60.0) -> None:
        """No new letters; all that were acknowledged have come, once and whole."""
        self._stopped.set()
        async with asyncio.timeout(within_s):
            await asyncio.gather(*self._sending)
        try:
            await self.until(lambda: self._expected() <= self.arrived.keys(), "all acknowledged letters come", within_s)
        except Late as late:
            raise Late(f"{late}: {sorted(self._expected() - self.arrived.keys())}") from None
        assert self.wrong == []
        assert self.arrived == Counter(self._expected())

    def _expected(self) -> set[str]:
        return {f"{doc_id} {digest}" for doc_id, digest in self.sent.items()}

    def _checked(self) -> bool:
        for task in (*self._sending, *self._receiving):
            if task.done():
                task.result()
        return True

    async def _insist(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """The same call until it is answered with more than "later"."""
        while True:
            try:
                answer = await call()
            except NO_ANSWER:
                self.unanswered += 1
                await asyncio.sleep(PAUSE_S)
                continue
            except VxpFailed as failed:
                if not later(failed):
                    raise
                answer = failed.answer
            reason = later(answer)
            if not reason:
                return answer
            self.told[reason] += 1
            await asyncio.sleep(PAUSE_S)  # a connector's pause before it tries again

    async def _send(self, sender: str, receiver: str) -> None:
        number = 0
        async with connector(self._tree, sender, CALL_S) as client:
            while not self._stopped.is_set():
                size = self._sizes[number % len(self._sizes)]
                package = letter(sender, receiver, number=number, size=size, seed=f"{self._seed}/{sender}/{receiver}")
                answer = await self._insist(lambda package=package: client.send(package))  # type: ignore[misc]
                assert answer["status"] == "OK", answer
                self.sent[answer["DocId"]] = hashlib.sha256(package).hexdigest()
                number += 1
                await asyncio.sleep(PAUSE_S)  # letters come one by one

    async def _receive(self, code: str) -> None:
        done: set[str] = set()
        async with connector(self._tree, code, CALL_S) as client:
            while True:
                for line in await self._insist(client.received):
                    if (doc_id := line["docId"]) in done:
                        self.wrong.append(f"{code}: {doc_id} was confirmed and is offered again")
                    else:
                        await self._collect(client, doc_id)
                        done.add(doc_id)
                await asyncio.sleep(PAUSE_S)  # between two looks into the mailbox

    async def _collect(self, client: VxpClient, doc_id: str) -> None:
        content = await self._insist(lambda: client.get(doc_id))
        answer = await self._insist(lambda: client.update(doc_id, "done"))
        self.arrived[f"{doc_id} {hashlib.sha256(content).hexdigest()}"] += 1
        if answer["status"] != "OK":
            self.wrong.append(f"done for {doc_id} is answered {answer['ErrorDesc']}")

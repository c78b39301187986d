"""Short questions across a link, either way: a kind, what is asked, a bounded answer. Never stored, answered soon or not at all.

Upward a question is one call. Downward it rides on the answer to the child's waiting pull, and the child calls with what it has
to say (decision 8: the child dials, always). What a kind means is its handler's matter: whoever has something to tell registers
one. Knows `core`, the ports and the forwarder's view of the neighbours.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog

from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.tally import Tally
from node.core.wire import ANSWER_BYTES_MAX, Question, question
from node.forwarder import Forwarder
from node.ports import Link

log = structlog.get_logger()

ANSWER_S = 2.0
"""How long a question waits (architecture, section 4)."""
AT_ONCE_MAX = 16
"""Questions of one neighbour that are being answered, and questions that one neighbour still owes an answer."""

Handler = Callable[[OrgId, bytes, float], Awaitable[bytes]]
"""(who asks, what, seconds left) -> the answer, not empty. May raise Refused and Deferred."""


class Questions:
    """One per node. `handlers` by kind; `link` leads to the parent, where there is one."""

    def __init__(self, parent: OrgId | None, forwarder: Forwarder, tally: Tally, rng: random.Random) -> None:
        self._parent = parent
        self._forwarder = forwarder
        self._tally = tally
        self._last = rng.getrandbits(40)  # so that an answer to the process before this one is none to this one's question
        self._open: dict[tuple[OrgId, int], asyncio.Future[bytes]] = {}
        self._busy: Counter[OrgId] = Counter()
        self.link: Link | None = None
        self.handlers: dict[str, Handler] = {}

    async def ask(self, neighbour: OrgId, kind: str, body: bytes, within_s: float = ANSWER_S) -> bytes:
        """The neighbour's answer. Deferred: there is none, and nobody knows why. Refused: it has none to this."""
        asked = question(kind, body, max(0, int(within_s * 1000)))
        try:
            async with asyncio.timeout(within_s):
                data = await (self._up(asked) if neighbour == self._parent else self._down(neighbour, asked))
        except TimeoutError:
            self._tally.add("truc_questions_total", result="late")
            raise Deferred(ANSWER_S) from None
        if not data:
            self._tally.add("truc_questions_total", result="none")
            raise Deferred(ANSWER_S)
        self._tally.add("truc_questions_total", result="answered")
        return data

    async def _up(self, asked: Question) -> bytes:
        if self.link is None:
            raise Deferred(ANSWER_S)
        return await self.link.query(asked)

    async def _down(self, child: OrgId, asked: Question) -> bytes:
        if child not in self._forwarder.neighbours or sum(peer == child for peer, _ in self._open) >= AT_ONCE_MAX:
            raise Deferred(ANSWER_S)
        self._last += 1
        key = child, self._last
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._open[key] = answer
        try:
            self._forwarder.put_question(child, Question(asked.kind, asked.body, asked.within_ms, self._last))
            return await answer
        finally:
            del self._open[key]

    async def answered(self, peer: OrgId, number: int, data: bytes) -> None:
        """A child says what it was asked under this number; too late, it speaks to nobody."""
        waiting = self._open.get((peer, number))
        if waiting is not None and not waiting.done():
            waiting.set_result(data)

    async def asked(self, peer: OrgId, asked: Question) -> bytes:
        """Answer a neighbour. Refused: nobody here answers such a question; Deferred: it could not be in time."""
        handler = self.handlers.get(asked.kind)
        if handler is None:
            raise Refused(Reason.OPERATION_UNKNOWN, "kind", asked.kind)
        if self._busy[peer] >= AT_ONCE_MAX:
            self._tally.add("truc_refusals_total", door="link", reason=Reason.NOT_NOW.value)
            raise Deferred(ANSWER_S)
        self._busy[peer] += 1
        try:
            async with asyncio.timeout(asked.within_ms / 1000):
                answer = await handler(peer, asked.body, asked.within_ms / 1000)
        except TimeoutError:
            raise Deferred(ANSWER_S) from None
        finally:
            self._busy[peer] -= 1
        if len(answer) > ANSWER_BYTES_MAX:
            raise Refused(Reason.WIRE_TOO_LARGE, "answer", str(len(answer)), f"≤ {ANSWER_BYTES_MAX}")
        return answer

    async def asked_from_above(self, asked: Question) -> bytes:
        """The same for the parent, whose question came with a pull: what cannot be answered is answered with nothing, so that it
        need not wait."""
        assert self._parent is not None
        try:
            return await self.asked(self._parent, asked)
        except (Refused, Deferred) as error:
            log.info("question not answered", kind=asked.kind, reason=error.reason.value)
            return b""

"""The uplink over the simulated network: the `Link` port, with the bytes of `core/wire.py` in both directions.

Speaks for both ends of production's link: what its client concludes of a call, what its server answers. An answer is three
digits of status, then the body; a status stands for what HTTP's stands for there. Knows the network's one primitive, the link's
section of the configuration and the two duty sides as ports; nothing of batching or retries.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from node import config
from node.adapters.http.link_client import (
    ABOUT_US,
    ANSWER_S,
    BODY_CONNECTIONS_MAX,
    BODY_IDLE_S,
    CLOCK_ANSWER_S,
    ERROR_BYTES_MAX,
    QUESTION_IDLE_S,
    RETRY_AFTER_MAX_S,
)
from node.adapters.http.link_trust import (
    TRUST_BYTES_MAX,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
)
from node.core.directory_wire import EXCHANGE_BYTES_MAX, Exchange, decode_exchange, encode_exchange
from node.core.envelope import Fields, strict_json
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.pace import Way
from node.core.standing import TrustAnswer, TrustQuestion
from node.core.statement import KEPT_BYTES_MAX, Post, decode_kept, decode_post, encode_kept, encode_post
from node.core.wire import (
    ANSWER_BYTES_MAX,
    BODY_CHUNK_MAX,
    CLOCK_BYTES_MAX,
    Batch,
    ClockAnswer,
    EnvelopeVerdicts,
    PullRequest,
    Question,
    decode_batch,
    decode_clock_answer,
    decode_clock_question,
    decode_pull,
    decode_verdicts,
    encode_batch,
    encode_clock_answer,
    encode_clock_question,
    encode_pull,
    encode_verdicts,
    limits_for,
    told_time,
)
from node.ports import Downlink
from topology.sim.lines import Closed, Lost, Unreached
from topology.sim.loop import Life

if TYPE_CHECKING:
    from topology.sim.network import Network

Value = TypeVar("Value")

_OK, _REFUSED, _LATER, _FAILED = b"200", b"400", b"503", b"500"
HEAD_BYTES = 400
"""What HTTP's head takes on the line."""


class SimLink:
    """The parent as `ports.Link` for one life of a child. section: the child's; the parent answers within the limits of its own
    (`Network.serve`)."""

    def __init__(self, network: Network, child: str, code: OrgId, parent: str, life: Life, section: config.Link) -> None:
        self._network = network
        self._child = child
        self._code = code
        self._parent = parent
        self._life = life
        self._section = section
        self._limits = limits_for(section.batch_bytes_max, section.batch_envelopes_max)
        self._body_turn = asyncio.Semaphore(BODY_CONNECTIONS_MAX)
        self._pulled = Batch()
        self._tell: Callable[[Way, int, float], None] = lambda way, size, seconds: None

    def when_moved(self, tell: Callable[[Way, int, float], None]) -> None:
        self._tell = tell

    def reload(self) -> None:
        """There are no files to be read again."""

    async def close(self) -> None:
        """Nothing is kept that a life's end does not close."""

    async def push(self, batch: Batch) -> tuple[EnvelopeVerdicts, ...]:
        data = encode_batch(batch)

        async def serve() -> bytes:
            limits = self._parents_limits()
            arrived = decode_batch(data, limits)
            verdicts = await self._door().push(self._code, arrived)
            self._network.said(self._parent, arrived, verdicts)
            return encode_verdicts(verdicts)

        began_s = self._network.loop.time()
        answer = await self._ask("push", data, serve, self._limits.verdict_bytes_max, self._section.request_timeout_s)
        self._tell(Way.UP, len(data), self._network.loop.time() - began_s)
        return self._read(lambda: decode_verdicts(answer, self._limits))

    async def pull(self, request: PullRequest) -> Batch:
        data = encode_pull(request)
        if request.verdicts and request.confirmed == self._pulled.sequence:
            self._network.said(self._child, self._pulled, request.verdicts)

        left_s = 0.0

        async def serve() -> bytes:
            nonlocal left_s
            batch = await self._door().pull(self._code, decode_pull(data, self._parents_limits()))
            left_s = self._network.loop.time()
            return encode_batch(batch)

        timeout_s = self._section.request_timeout_s + request.wait_ms / 1000
        answer = await self._ask("pull", data, serve, self._limits.bytes_max, timeout_s)
        self._tell(Way.DOWN, len(answer), self._network.loop.time() - left_s)
        self._pulled = self._read(lambda: decode_batch(answer, self._limits))
        return self._pulled

    async def put_body(self, sha256: str, size: int, offset: int, chunk: bytes) -> int:
        async def serve() -> bytes:
            if len(chunk) > BODY_CHUNK_MAX:
                raise Refused(Reason.WIRE_TOO_LARGE, "body", str(len(chunk)), f"≤ {BODY_CHUNK_MAX}")
            if offset + len(chunk) > size:
                raise Refused(Reason.WIRE_MALFORMED, "size", str(size), f"≥ {offset + len(chunk)}")
            return _json({"held": await self._door().put_body(self._code, sha256, size, offset, chunk)})

        answer = await self._ask_of_bodies("put", chunk, serve, ERROR_BYTES_MAX, Way.UP)
        return self._read(lambda: Fields(strict_json(answer), "answer").whole("held", 0, size))

    async def get_body(self, sha256: str, offset: int, length: int) -> bytes:
        async def serve() -> bytes:
            if not 1 <= length <= BODY_CHUNK_MAX:
                raise Refused(Reason.WIRE_MALFORMED, "length", str(length), f"1..{BODY_CHUNK_MAX}")
            return await self._door().get_body(self._code, sha256, offset, length)

        return await self._ask_of_bodies("get", b"", serve, length, Way.DOWN)

    async def clock(self, t1_us: int) -> ClockAnswer:
        data = encode_clock_question(t1_us)

        async def serve() -> bytes:
            door = self._door()
            came = door.moment()
            return encode_clock_answer(told_time(decode_clock_question(data), came, door.moment()))

        answer = await self._ask("clock", data, serve, CLOCK_BYTES_MAX, CLOCK_ANSWER_S)
        found = self._read(lambda: decode_clock_answer(answer))
        if found.t1_us != t1_us:
            raise self._rubbish()
        return found

    async def statements(self, post: Post) -> tuple[str, ...]:
        data = encode_post(post)

        async def serve() -> bytes:
            return encode_kept(await self._door().statements(self._code, decode_post(data)))

        answer = await self._ask_of_bodies("statements", data, serve, KEPT_BYTES_MAX, None)
        return self._read(lambda: decode_kept(answer, len(post.items)))

    async def query(self, asked: Question) -> bytes:
        async def serve() -> bytes:
            return await self._door().query(self._code, asked)

        return await self._ask("query", asked.body, serve, ANSWER_BYTES_MAX, asked.within_ms / 1000, QUESTION_IDLE_S)

    async def answer(self, number: int, data: bytes) -> None:
        async def serve() -> bytes:
            await self._door().answered(self._code, number, data)
            return b""

        await self._ask("answer", data, serve, ERROR_BYTES_MAX, ANSWER_S, QUESTION_IDLE_S)

    async def directory(self, said: Exchange) -> Exchange:
        data = encode_exchange(said)

        async def serve() -> bytes:
            return encode_exchange(await self._door().directory(self._code, decode_exchange(data)))

        answer = await self._ask("directory", data, serve, EXCHANGE_BYTES_MAX, self._section.request_timeout_s)
        return self._read(lambda: decode_exchange(answer))

    async def trust(self, question: TrustQuestion) -> TrustAnswer:
        """What a `Warden` asks, in a run in which something happens to certificates."""
        data = encode_question(question)

        async def serve() -> bytes:
            papers = self._network.papers
            assert papers is not None
            return encode_answer(await papers.answer(self._parent, self._code, decode_question(data)))

        answer = await self._ask("trust", data, serve, TRUST_BYTES_MAX, self._section.request_timeout_s)
        return self._read(lambda: decode_answer(answer))

    # the parent's end

    def _door(self) -> Downlink:
        door: Downlink = self._network.door(self._parent)
        return door

    def _parents_limits(self) -> Any:
        section = self._network.section(self._parent) or self._section
        return limits_for(section.batch_bytes_max, section.batch_envelopes_max)

    async def _meet(self, name: str, serve: Callable[[], Awaitable[bytes]]) -> bytes:
        """Both look at each other's certificate before anything is done; a pull that waits while that changes is cut off."""
        papers = self._network.papers
        if papers is None:
            return await self._answer(serve)
        refused = papers.refusal(self._child, self._parent, name)
        if refused is not None:
            return _REFUSED + _json({"reason": refused, "element": "", "value": "", "rule": ""})
        answer = await self._answer(serve)
        if name == "pull" and papers.refusal(self._child, self._parent, name) is not None:
            raise Closed(self._parent)
        return answer

    async def _answer(self, serve: Callable[[], Awaitable[bytes]]) -> bytes:
        """As production's listener answers, `node/adapters/http/link_server.py`."""
        try:
            return _OK + await serve()
        except Refused as refused:
            text = {"reason": refused.reason, "element": refused.element, "value": refused.value, "rule": refused.rule}
            return _REFUSED + _json(text)
        except Deferred as deferred:
            if deferred.in_doubt:
                return _FAILED
            wait_s = min(max(deferred.retry_after_s, 0.0), RETRY_AFTER_MAX_S)
            return _LATER + _json({"reason": deferred.reason, "retry_s": wait_s})
        except Closed:
            raise
        except Exception as error:
            self._network.loop.call_exception_handler({"message": f"link request failed at {self._parent}", "exception": error})
            return _FAILED

    # the child's end

    async def _ask_of_bodies(
        self, name: str, data: bytes, serve: Callable[[], Awaitable[bytes]], most: int, way: Way | None
    ) -> bytes:
        """Bodies up and down share a few connections and take turns on them; the wait counts."""
        began_s = self._network.loop.time()
        async with self._body_turn:
            left_s = self._section.request_timeout_s - (self._network.loop.time() - began_s)
            if left_s <= 0:
                raise Deferred(self._section.probe_max_s, in_doubt=True)
            began_s = self._network.loop.time()
            answer = await self._ask(name, data, serve, most, left_s, BODY_IDLE_S)
            if way is not None and (size := len(data if way is Way.UP else answer)):
                self._tell(way, size, self._network.loop.time() - began_s)
            return answer

    async def _ask(
        self,
        name: str,
        data: bytes,
        serve: Callable[[], Awaitable[bytes]],
        most: int,
        timeout_s: float,
        idle_s: float | None = None,
    ) -> bytes:
        """One request, and what `node/adapters/http/link_client.py` concludes of its end."""
        network, section = self._network, self._section
        network.record.note(self._child, f"link/{name}", len(data))
        try:
            answer = await network.exchange(
                self._child,
                self._parent,
                self._life,
                HEAD_BYTES + len(data),
                lambda: self._meet(name, serve),
                timeout_s,
                connect_timeout_s=section.handshake_timeout_s,
                idle_s=section.idle_timeout_s * 2 / 3 if idle_s is None else idle_s,
                spoil=_spoil,
            )
        except Unreached as error:
            network.record.note(self._child, "link/unreached")
            raise Deferred(section.probe_max_s) from error
        except Lost as error:
            network.record.note(self._child, "link/lost")
            raise Deferred(section.probe_max_s, in_doubt=True) from error
        status, body = answer[:3], answer[3:]
        network.record.note(self._child, f"link/{name}-{status.decode()}", len(body))
        if len(body) > (most if status == _OK else ERROR_BYTES_MAX) or status == _FAILED:
            raise self._rubbish()
        if status == _OK:
            return body
        raise self._failure(status, body)

    def _failure(self, status: bytes, body: bytes) -> Exception:
        fields = json.loads(body)  # only ever made by `_answer`
        reason = Reason(fields["reason"])
        if status == _LATER:
            return Deferred(fields["retry_s"], reason)
        if reason in ABOUT_US:
            return Deferred(self._section.probe_max_s, reason)
        return Refused(reason, fields["element"][:100], fields["value"], fields["rule"][:100])

    def _read(self, decode: Callable[[], Value]) -> Value:
        try:
            return decode()
        except Refused as refused:
            raise self._rubbish() from refused

    def _rubbish(self) -> Deferred:
        return Deferred(self._section.probe_max_s, Reason.WIRE_MALFORMED, in_doubt=True)


def _spoil(mode: str, chance: random.Random) -> bytes:
    return _FAILED if mode == "errors" else _OK + chance.randbytes(chance.randrange(1, 200))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()

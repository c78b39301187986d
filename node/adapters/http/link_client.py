"""The uplink over HTTP: the `Link` port on aiohttp, for the one parent this node has.

The parent's certificate is judged at every request before a byte of it is sent. What comes back is read within limits and
believed only in the expected form. Knows `core`, `ports` and the link's section of the configuration; nothing of batching,
retries or backoff.

What the caller may conclude:

    no connection, or not our parent's        Deferred, nothing left this node
    503, 408, or the parent does not know us  Deferred, nothing was taken
    4xx with a reason                         Refused
    cut, late, 5xx, anything else             Deferred in doubt: the parent may have it

In TLS 1.3 a child whose certificate the parent's handshake refuses is cut only after it has sent its request, so that is
in doubt too.
"""

from __future__ import annotations

import asyncio
import io
import math
import re
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import aiohttp
import structlog
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter

from node import config
from node.adapters.http.keepalive import keep_alive
from node.adapters.http.link_trust import (
    RENEWED_BYTES_MAX,
    TRUST_BYTES_MAX,
    decode_answer,
    decode_renewed,
    encode_question,
    encode_renewal,
)
from node.adapters.http.progress import Progress
from node.adapters.http.tls import Standing, judge, link_client_context, peer_chain, registered
from node.core.directory_wire import EXCHANGE_BYTES_MAX, Exchange, decode_exchange, encode_exchange, since_text
from node.core.envelope import Fields, strict_json
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.pace import Way
from node.core.standing import TrustAnswer, TrustQuestion
from node.core.statement import KEPT_BYTES_MAX, Post, decode_kept, encode_post
from node.core.wire import (
    ANSWER_BYTES_MAX,
    CLOCK_BYTES_MAX,
    MEDIA_TYPE,
    Batch,
    ClockAnswer,
    EnvelopeVerdicts,
    PullRequest,
    Question,
    decode_batch,
    decode_clock_answer,
    decode_verdicts,
    encode_batch,
    encode_clock_question,
    encode_pull,
    limits_for,
)
from node.ports import Clock

log = structlog.get_logger()

JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"
CONNECTIONS_MAX = 2
"""One waits in a pull, one pushes; both may stay open (architecture, decision 8)."""
BODY_CONNECTIONS_MAX = 2
BODY_IDLE_S = 2.0
"""The connections for large bodies are not kept."""
BODY_BUFFER_BYTES = 256 * 1024
"""As much as one read of a TLS connection brings."""
WRITE_BYTES = 256 * 1024
CLOCK_IDLE_S = 2.0
"""The connection for the time serves the exchanges of one round."""
CLOCK_ANSWER_S = 5.0
QUESTIONS_AT_ONCE = 4
QUESTION_IDLE_S = 2.0
"""The connections for short questions and answers are not kept, as those for bodies are not."""
ANSWER_S = 2.0
ERROR_BYTES_MAX = 4096
RETRY_AFTER_MAX_S = 3600.0

ABOUT_US = frozenset(
    {
        *(Reason.PEER_UNKNOWN, Reason.PEER_NAME, Reason.PEER_KEY, Reason.PEER_DATES),
        *(Reason.PEER_REVOKED, Reason.PEER_LIST_OLD),
    }
)
"""The parent refuses this node, not what it sends: no fault of any document."""

_SECONDS = re.compile(r"[0-9]{1,9}")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Call:
    """One request: what goes, and what may come back: its media type, its bytes at most. timeout_s: no byte moves for so long.
    way: the direction in which it carries a batch or a piece of a body, if it does."""

    method: str
    path: str
    body: bytes
    body_type: str
    answer_type: str
    answer_bytes_max: int
    timeout_s: float
    way: Way | None
    query: Mapping[str, int | str] | None = None
    came: list[bytes] | None = None
    """Where a part of the answer is worth having: what has come of it."""
    may_lack: bool = False
    """A parent of an older version may not know the question."""


class HttpLink:
    """The parent as `ports.Link`. Made before the loop runs; connects at the first call; `close` at the end."""

    def __init__(self, section: config.Link, zone: str, clock: Clock, standing: Standing = lambda chain, now_ms: None) -> None:
        """Raises `tls.TlsFileError`, and ValueError for a parent_url that is not https."""
        if not section.parent_url.startswith("https://"):
            raise ValueError(f"link.parent_url: {section.parent_url!r} does not begin with https://")
        parent = OrgId.canonical(section.parent_code)
        self._section = section
        self._limits = limits_for(section.batch_bytes_max, section.batch_envelopes_max)
        self._dns_name = parent.dns_name(zone)
        self.revoked = False
        """Whether the parent has last said that this node's certificate is revoked: its list does not reach whom it cuts off."""
        self._parent = parent
        self._expected = dict(registered([(parent, section.parent_pins)], zone))
        self._judge = judge(self._expected, clock, standing)
        self._url = section.parent_url.rstrip("/") + "/link/v1/"
        self._tell: Callable[[Way, int, float], None] = lambda way, size, seconds: None
        self._calls: aiohttp.ClientSession | None = None
        self._bodies: aiohttp.ClientSession | None = None
        self._clock: aiohttp.ClientSession | None = None
        self._questions: aiohttp.ClientSession | None = None
        self._trust: aiohttp.ClientSession | None = None
        self.reload()

    def reload(self) -> None:
        """Read the TLS files again: for new connections; calls in progress end on the old ones. Raises `tls.TlsFileError`."""
        self._context = link_client_context(self._section.certificate, self._section.key, self._section.trust)

    async def close(self) -> None:
        for session in (self._calls, self._bodies, self._clock, self._questions, self._trust):
            if session is not None:
                await session.close()
        self._calls = self._bodies = self._clock = self._questions = self._trust = None

    async def push(self, batch: Batch) -> tuple[EnvelopeVerdicts, ...]:
        most, timeout_s = self._limits.verdict_bytes_max, self._section.request_timeout_s
        call = _Call("POST", "push", encode_batch(batch), MEDIA_TYPE, JSON_TYPE, most, timeout_s, Way.UP)
        answer = await self._ask(self._for_calls(), call)
        return self._read(call, lambda: decode_verdicts(answer, self._limits))

    async def pull(self, request: PullRequest) -> Batch:
        most, timeout_s = self._limits.bytes_max, self._section.request_timeout_s + request.wait_ms / 1000
        call = _Call("POST", "pull", encode_pull(request), JSON_TYPE, MEDIA_TYPE, most, timeout_s, Way.DOWN)
        answer = await self._ask(self._for_calls(), call)
        return self._read(call, lambda: decode_batch(answer, self._limits))

    async def put_body(self, sha256: str, size: int, offset: int, chunk: bytes) -> int:
        query = {"offset": offset, "size": size}
        timeout_s = self._section.request_timeout_s
        call = _Call("PUT", f"bodies/{sha256}", chunk, BYTES_TYPE, JSON_TYPE, ERROR_BYTES_MAX, timeout_s, Way.UP, query)
        answer = await self._ask(self._for_bodies(), call)
        return self._read(call, lambda: Fields(strict_json(answer), "answer").whole("held", 0, size))

    async def get_body(self, sha256: str, offset: int, length: int) -> bytes:
        query = {"offset": offset, "length": length}
        timeout_s = self._section.request_timeout_s
        call = _Call("GET", f"bodies/{sha256}", b"", BYTES_TYPE, BYTES_TYPE, length, timeout_s, Way.DOWN, query, came=[])
        try:
            return await self._ask(self._for_bodies(), call)
        except Deferred:
            if not call.came:
                raise
            return b"".join(call.came)

    def when_moved(self, tell: Callable[[Way, int, float], None]) -> None:
        self._tell = tell

    async def directory(self, said: Exchange) -> Exchange:
        since = None if said.changes else since_text(said.have)
        method, query = ("POST", None) if since is None else ("GET", {"since": since})
        body = b"" if since is not None else encode_exchange(said)
        timeout_s = self._section.request_timeout_s
        call = _Call(method, "directory", body, JSON_TYPE, JSON_TYPE, EXCHANGE_BYTES_MAX, timeout_s, None, query, may_lack=True)
        answer = await self._ask(self._for_calls(), call)
        return self._read(call, lambda: decode_exchange(answer))

    async def clock(self, t1_us: int) -> ClockAnswer:
        question = encode_clock_question(t1_us)
        call = _Call("POST", "clock", question, JSON_TYPE, JSON_TYPE, CLOCK_BYTES_MAX, CLOCK_ANSWER_S, None, may_lack=True)
        data = await self._ask(self._for_clock(), call)
        answer = self._read(call, lambda: decode_clock_answer(data))
        if answer.t1_us != t1_us:
            raise self._rubbish(call, "the answer to another question")
        return answer

    async def statements(self, post: Post) -> tuple[str, ...]:
        """On the connections of large bodies: a document does not wait for figures."""
        data, timeout_s = encode_post(post), self._section.request_timeout_s
        call = _Call("POST", "statements", data, JSON_TYPE, JSON_TYPE, KEPT_BYTES_MAX, timeout_s, None, may_lack=True)
        answer = await self._ask(self._for_bodies(), call)
        return self._read(call, lambda: decode_kept(answer, len(post.items)))

    async def query(self, asked: Question) -> bytes:
        query: dict[str, int | str] = {"kind": asked.kind, "within_ms": asked.within_ms}
        timeout_s = asked.within_ms / 1000
        call = _Call("POST", "query", asked.body, BYTES_TYPE, BYTES_TYPE, ANSWER_BYTES_MAX, timeout_s, None, query, may_lack=True)
        return await self._ask(self._for_questions(), call)

    async def answer(self, number: int, data: bytes) -> None:
        query = {"number": number}
        call = _Call("POST", "answer", data, BYTES_TYPE, JSON_TYPE, ERROR_BYTES_MAX, ANSWER_S, None, query, may_lack=True)
        await self._ask(self._for_questions(), call)

    async def trust(self, question: TrustQuestion) -> TrustAnswer:
        """What the parent has to say about keys; asked also of one whose lists are too old here, for it has newer ones, and of
        one with another key, for it has the old one's word for it."""
        data, timeout_s = encode_question(question), self._section.request_timeout_s
        call = _Call("POST", "trust", data, JSON_TYPE, JSON_TYPE, TRUST_BYTES_MAX, timeout_s, None, may_lack=True)
        answer = await self._ask(self._for_trust(), call)
        return self._read(call, lambda: decode_answer(answer))

    async def renew(self, csr: str, authority_csr: str) -> tuple[str, str]:
        """New certificates for these requests, under the one this node has: its chain, and its authority's ("" if not asked)."""
        data, timeout_s = encode_renewal(csr, authority_csr), self._section.request_timeout_s
        call = _Call("POST", "renew", data, JSON_TYPE, JSON_TYPE, RENEWED_BYTES_MAX, timeout_s, None, may_lack=True)
        answer = await self._ask(self._for_calls(), call)
        return self._read(call, lambda: decode_renewed(answer))

    async def move(self, host: str, port: int) -> bool:
        """Call the parent at this address from now on, if it is there: who answers is judged as at every call, and hears nothing.
        False: nobody can be reached. `Refused(PEER_*)`: another one is there."""
        timeout_s = self._section.handshake_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(host, port, ssl=self._context, server_hostname=self._dns_name)
        except ssl.SSLCertVerificationError:
            raise Refused(Reason.PEER_UNKNOWN, "certificate") from None
        except (OSError, TimeoutError):
            return False
        try:
            self._check(writer.transport, dates=True, ages=True, pins=True)
        finally:
            writer.transport.abort()
        at = f"[{host}]" if ":" in host else host
        self._url = f"https://{at}:{port}/link/v1/"
        return True

    def pin(self, pins: Collection[str]) -> None:
        """The keys by which the parent is known from now on; none: any key the tree's authorities vouch for."""
        self._expected[self._dns_name] = (self._parent, frozenset(pins))

    # one request

    async def _ask(self, session: aiohttp.ClientSession, call: _Call) -> bytes:
        headers = {hdrs.ACCEPT: call.answer_type, hdrs.ACCEPT_ENCODING: "identity"}
        if call.body_type and call.method != "GET":
            headers[hdrs.CONTENT_TYPE] = call.body_type
        limit = asyncio.timeout(call.timeout_s)
        progress = Progress(limit, call.timeout_s)
        try:
            async with (
                limit,
                session.request(
                    call.method,
                    self._url + call.path,
                    params=call.query,
                    data=_InSlices(call.body, progress) if call.body else None,
                    headers=headers,
                    ssl=self._context,
                    server_hostname=self._dns_name,
                    allow_redirects=False,
                ) as response,
            ):
                answered_s = progress.moved()
                answer = await self._answer(call, response, progress)
                self._measured(call, answer, progress, answered_s)
                return answer
        except _NotOurParent as error:
            log.warning("parent's certificate refused", reason=error.refused.reason, value=error.refused.value)
            raise Deferred(self._section.probe_max_s, error.refused.reason) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            log.info("no connection to the parent", why=type(error).__name__)
            raise Deferred(self._section.probe_max_s) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("no answer from the parent", call=call.path.split("/")[0], why=type(error).__name__)
            raise Deferred(self._section.probe_max_s, in_doubt=True) from error
        finally:
            progress.end()

    def _measured(self, call: _Call, answer: bytes, progress: Progress, answered_s: float) -> None:
        """What goes up is on the way until the parent's word on it; what comes down, from its head to its end."""
        if call.way is Way.UP and call.body:
            self._tell(Way.UP, len(call.body), answered_s - progress.began_s)
        elif call.way is Way.DOWN and answer:
            self._tell(Way.DOWN, len(answer), progress.moved_s - answered_s)

    async def _answer(self, call: _Call, response: aiohttp.ClientResponse, progress: Progress) -> bytes:
        match response.status:
            case 200:
                self.revoked = False
                if response.content_type != call.answer_type or hdrs.CONTENT_ENCODING in response.headers:
                    raise self._rubbish(call, "another media type or coding")
                return await self._bounded(call, response, progress, call.answer_bytes_max)
            case 503:
                raise self._later(response, await self._bounded(call, response, progress, ERROR_BYTES_MAX))
            case 408:
                raise Deferred(self._section.probe_max_s)
            case status if 400 <= status < 500:
                raise self._refusal(call, status, await self._bounded(call, response, progress, ERROR_BYTES_MAX))
            case status:
                raise self._rubbish(call, f"status {status}")

    async def _bounded(self, call: _Call, response: aiohttp.ClientResponse, progress: Progress, most: int) -> bytes:
        body = call.came if call.came is not None and response.status == 200 else []
        size = 0
        while chunk := await response.content.readany():
            progress.moved()
            size += len(chunk)
            if size > most:
                body.clear()
                raise self._rubbish(call, f"more than {most} bytes")
            body.append(chunk)
        return b"".join(body)

    def _read(self, call: _Call, decode: Callable[[], Value]) -> Value:
        try:
            return decode()
        except Refused as refused:
            raise self._rubbish(call, f"{refused.element}: {refused.rule}") from refused

    def _rubbish(self, call: _Call, why: str) -> Deferred:
        log.warning("parent's answer makes no sense", call=call.path.split("/")[0], why=why)
        return Deferred(self._section.probe_max_s, Reason.WIRE_MALFORMED, in_doubt=True)

    def _later(self, response: aiohttp.ClientResponse, body: bytes) -> Deferred:
        """Nothing was taken. The wait is the one in the answer, bounded; ours where it names none that can be read."""
        fields = _object(body)
        wait_s = fields.get("retry_s")
        if not isinstance(wait_s, int | float) or isinstance(wait_s, bool):
            header = response.headers.get(hdrs.RETRY_AFTER, "")
            wait_s = float(header) if _SECONDS.fullmatch(header) else self._section.probe_max_s
        if math.isnan(wait_s) or wait_s < 0:
            wait_s = self._section.probe_max_s
        return Deferred(min(float(wait_s), RETRY_AFTER_MAX_S), _reason(fields) or Reason.NOT_NOW)

    def _refusal(self, call: _Call, status: int, body: bytes) -> Exception:
        fields = _object(body)
        reason = _reason(fields)
        if reason is None and status == 404 and call.may_lack:
            return Refused(Reason.OPERATION_UNKNOWN, call.path)
        if reason is None:
            return self._rubbish(call, f"status {status} without a reason")
        if reason in ABOUT_US:
            self.revoked = reason is Reason.PEER_REVOKED
            log.warning("parent does not know this node", reason=reason)
            return Deferred(self._section.probe_max_s, reason)
        element, value, rule = (str(fields.get(name, "")) for name in ("element", "value", "rule"))
        return Refused(reason, element[:100], value, rule[:100])

    # sessions, made when the loop runs

    def _for_calls(self) -> aiohttp.ClientSession:
        if self._calls is None:
            # shorter than the parent's patience, so that we are not the one who writes into a closed connection
            idle_s = self._section.idle_timeout_s * 2 / 3
            self._calls = self._session(CONNECTIONS_MAX, idle_s, self._section.handshake_timeout_s)
        return self._calls

    def _for_bodies(self) -> aiohttp.ClientSession:
        if self._bodies is None:
            # a chunk going up and one coming down take turns, on a slow line at length
            self._bodies = self._session(BODY_CONNECTIONS_MAX, BODY_IDLE_S, self._section.request_timeout_s)
        return self._bodies

    def _for_clock(self) -> aiohttp.ClientSession:
        if self._clock is None:
            self._clock = self._session(1, CLOCK_IDLE_S, self._section.handshake_timeout_s, dates=False)
        return self._clock

    def _for_questions(self) -> aiohttp.ClientSession:
        if self._questions is None:
            self._questions = self._session(QUESTIONS_AT_ONCE, QUESTION_IDLE_S, self._section.handshake_timeout_s)
        return self._questions

    def _for_trust(self) -> aiohttp.ClientSession:
        if self._trust is None:
            self._trust = self._session(1, CLOCK_IDLE_S, self._section.handshake_timeout_s, ages=False, pins=False)
        return self._trust

    def _session(
        self, connections: int, idle_s: float, turn_s: float, *, dates: bool = True, ages: bool = True, pins: bool = True
    ) -> aiohttp.ClientSession:
        connect_s = self._section.handshake_timeout_s
        return aiohttp.ClientSession(
            connector=_Connector(
                partial(self._check, dates=dates, ages=ages, pins=pins), limit=connections, keepalive_timeout=idle_s
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=turn_s, sock_connect=connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={hdrs.USER_AGENT: "truc"},
            read_bufsize=BODY_BUFFER_BYTES,
        )

    def _check(self, transport: asyncio.BaseTransport | None, *, dates: bool, ages: bool, pins: bool) -> None:
        secured = None if transport is None else transport.get_extra_info("ssl_object")
        if not isinstance(secured, ssl.SSLObject):
            raise Refused(Reason.PEER_UNKNOWN, "TLS")
        self._judge(peer_chain(secured), dates=dates, ages=ages, pins=pins)


class _NotOurParent(aiohttp.ClientConnectionError):
    def __init__(self, refused: Refused) -> None:
        self.refused = refused
        super().__init__(str(refused))


class _InSlices(aiohttp.BytesIOPayload):
    """A request's body, written a slice at a time: none is encrypted before the one before it is on its way."""

    def __init__(self, body: bytes, progress: Progress) -> None:
        super().__init__(io.BytesIO(body))
        self._body = body
        self._progress = progress

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        most = len(self._body) if content_length is None else min(content_length, len(self._body))
        whole = memoryview(self._body)
        self._progress.begin()
        for start in range(0, most, WRITE_BYTES):
            await writer.write(whole[start : min(start + WRITE_BYTES, most)])
            self._progress.moved()
        self._progress.follow(getattr(writer, "transport", None))


class _Connector(aiohttp.TCPConnector):
    """Hands out a connection, new or kept, only after a look at who is at its other end."""

    def __init__(self, check: Callable[[asyncio.BaseTransport | None], None], **options: Any) -> None:
        super().__init__(**options)
        self._check = check

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*args, **kwargs)
        try:
            self._check(connection.transport)
        except Refused as refused:
            connection.close()
            raise _NotOurParent(refused) from None
        keep_alive(connection.transport)
        return connection


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = strict_json(body)
    except Refused:
        return {}
    return value if isinstance(value, dict) else {}


def _reason(fields: Mapping[str, Any]) -> Reason | None:
    """The reason in an error answer; one that we do not know is still a reason."""
    word = fields.get("reason")
    if not isinstance(word, str):
        return None
    return Reason(word) if word in Reason.__members__.values() else Reason.INTERNAL

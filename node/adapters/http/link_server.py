"""The parent's side of the link: push, pull, bodies and the time over HTTP, each call handed to a `Downlink` with its caller.

Who calls is read from the certificate alone, never from what is sent. Knows `core`, `ports` and the link's section of the
configuration; nothing of what becomes of an envelope.

Answers: 200 with what was asked; 4xx and {"reason", "element", "value", "rule"} where the very request is bad (`Refused`);
503 with Retry-After where nothing was taken (`Deferred`); 408 where the body did not come in time; 500 where we do not know
what we did. A cancelled handler is a child that hung up.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from weakref import WeakKeyDictionary

import structlog
from aiohttp import hdrs, web

from node import config
from node.adapters.http.link_enrol import ENROL, REQUEST_BYTES_MAX, NewcomersDoor
from node.adapters.http.link_trust import (
    RENEW_BYTES_MAX,
    TRUST_BYTES_MAX,
    TRUST_PATH,
    TrustDoor,
    decode_question,
    decode_renewal,
    encode_answer,
    encode_renewed,
)
from node.adapters.http.progress import Progress
from node.adapters.http.tls import Judge, peer_chain
from node.core.directory_wire import EXCHANGE_BYTES_MAX, Exchange, decode_exchange, encode_exchange, read_since
from node.core.envelope import TIME_MAX_MS
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.statement import POST_BYTES_MAX, decode_post, encode_kept
from node.core.wire import (
    ANSWER_BYTES_MAX,
    ANSWER_WAIT_MAX_MS,
    BODY_CHUNK_MAX,
    CLOCK_BYTES_MAX,
    MEDIA_TYPE,
    QUESTION_BYTES_MAX,
    decode_batch,
    decode_clock_question,
    decode_pull,
    encode_batch,
    encode_clock_answer,
    encode_verdicts,
    limits_for,
    question,
    told_time,
)
from node.ports import Downlink

log = structlog.get_logger()

JSON_TYPE = "application/json"
CLOCK_PATH = "/link/v1/clock"
BYTES_TYPE = "application/octet-stream"
RETRY_AFTER_MAX_S = 3600.0
BYTES_PER_S_MIN = 256
"""A request that comes slower than this, after its first minute, does not come."""
PIECE_BYTES = 1024 * 1024
"""What is held of a body that goes down, however long its chunk."""
TAKEN_BYTES = 2 * 1024 * 1024
TAKEN_S = 0.2
"""What is held of one that comes up: handed on after so many bytes, or after so long, if it comes slowly. So what all neighbours
together have here is bounded by the line, and a cut costs no more than that."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_WHOLE = re.compile(r"[0-9]{1,16}")
_STATUS = {
    Reason.WIRE_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Reason.PEER_UNKNOWN: HTTPStatus.FORBIDDEN,
    Reason.PEER_NAME: HTTPStatus.FORBIDDEN,
    Reason.PEER_KEY: HTTPStatus.FORBIDDEN,
    Reason.PEER_DATES: HTTPStatus.FORBIDDEN,
    Reason.PEER_REVOKED: HTTPStatus.FORBIDDEN,
    Reason.PEER_LIST_OLD: HTTPStatus.FORBIDDEN,
    Reason.INVITE_UNKNOWN: HTTPStatus.FORBIDDEN,
    Reason.INVITE_EXPIRED: HTTPStatus.FORBIDDEN,
    Reason.INVITE_USED: HTTPStatus.FORBIDDEN,
    Reason.PEER_REGISTERED: HTTPStatus.FORBIDDEN,
    Reason.SENDER_OUTSIDE: HTTPStatus.FORBIDDEN,
    Reason.BODY_UNKNOWN: HTTPStatus.NOT_FOUND,
}
"""Any other reason is 400."""


def link_app(
    section: config.Link,
    downlink: Downlink,
    peers: Judge,
    count: Callable[[Reason], None] | None = None,
    newcomers: NewcomersDoor | None = None,
    trust: TrustDoor | None = None,
) -> web.Application:
    """The application behind the link listener. peers: who bears a certificate, asked at every request. count: hears of each
    request refused, with the reason. newcomers: the one call that needs no certificate, where the node enrols others. trust:
    what neighbours tell each other about keys."""
    face = _LinkFace(section, downlink, peers, count, newcomers, trust)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", face.answer)  # who calls is judged before what is called
    return app


def unwelcome(peers: Judge) -> Callable[[ssl.SSLObject], bool]:
    """Whether the other end of an open connection may no longer be there. Dates are left to its next request: one whose clock is
    wrong may be asking for the time."""

    def judged(shaken: ssl.SSLObject) -> bool:
        chain = peer_chain(shaken)
        try:
            if chain:
                peers(chain, dates=False)
        except Refused as refused:
            said = hashlib.sha256(chain[0]).hexdigest()
            log.warning("peer cut off", reason=refused.reason, value=refused.value, certificate=said)
            return True
        return False

    return judged


class _LinkFace:
    def __init__(
        self,
        section: config.Link,
        downlink: Downlink,
        peers: Judge,
        count: Callable[[Reason], None] | None,
        newcomers: NewcomersDoor | None,
        trust: TrustDoor | None,
    ) -> None:
        self._newcomers = newcomers
        self._trust = trust
        self._timeout_s = section.request_timeout_s
        self._limits = limits_for(section.batch_bytes_max, section.batch_envelopes_max)
        self._downlink = downlink
        self._peers = peers
        self._count = count
        self._chains: WeakKeyDictionary[ssl.SSLObject, tuple[bytes, ...]] = WeakKeyDictionary()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = await self._outcome(request)
        if not self._chain(request):
            response.force_close()  # a stranger gets one answer
        await self._send(request, response)
        return response

    async def _outcome(self, request: web.Request) -> web.StreamResponse:
        peer = None
        try:
            if self._newcomers is not None and (request.method, request.path) == ENROL:
                return await self._enrol(self._newcomers, request)
            peer = self._judge(request)
            return await self._call(peer, request)
        except Refused as refused:
            return self._refusal(peer, refused)
        except Deferred as deferred:
            if deferred.in_doubt:  # the store failed: nobody knows what was taken, so the child must not hear that nothing was
                return _short(HTTPStatus.INTERNAL_SERVER_ERROR)
            return _later(deferred)
        except web.HTTPException as error:
            return _short(error.status)
        except Exception:
            log.exception("link request failed", neighbour=str(peer), path=request.path[:100])
            return _short(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _call(self, peer: OrgId, request: web.Request) -> web.StreamResponse:
        match request.method, request.path.split("/")[1:]:
            case "POST", ["link", "v1", "push"]:
                return await self._push(peer, request)
            case "POST", ["link", "v1", "pull"]:
                return await self._pull(peer, request)
            case "POST", ["link", "v1", "clock"]:
                return await self._clock(request)
            case "POST", ["link", "v1", "statements"]:
                return await self._statements(peer, request)
            case "POST", ["link", "v1", "query"]:
                return await self._query(peer, request)
            case "POST", ["link", "v1", "answer"]:
                return await self._take_answer(peer, request)
            case "POST", ["link", "v1", "trust"] if self._trust is not None:
                question = decode_question(await self._body(request, JSON_TYPE, TRUST_BYTES_MAX))
                answer = await self._trust.answer(peer, self._chain(request), question)
                return web.Response(body=encode_answer(answer), content_type=JSON_TYPE)
            case "POST", ["link", "v1", "renew"] if self._trust is not None:
                csr, below = decode_renewal(await self._body(request, JSON_TYPE, RENEW_BYTES_MAX))
                renewed = await self._trust.renew(peer, self._chain(request), csr, below)
                return web.Response(body=encode_renewed(*renewed), content_type=JSON_TYPE)
            case "GET" | "POST", ["link", "v1", "directory"]:
                return await self._directory(peer, request)
            case "PUT", ["link", "v1", "bodies", sha256] if _DIGEST.fullmatch(sha256):
                return await self._put_body(peer, request, sha256)
            case "GET", ["link", "v1", "bodies", sha256] if _DIGEST.fullmatch(sha256):
                return await self._get_body(peer, request, sha256)
            case _:
                raise web.HTTPNotFound

    async def _enrol(self, newcomers: NewcomersDoor, request: web.Request) -> web.Response:
        try:
            newcomers.admit(request.remote or "")
        except Deferred:
            if self._count is not None:
                self._count(Reason.NOT_NOW)
            raise
        try:
            answer = await newcomers.answer(await self._body(request, JSON_TYPE, REQUEST_BYTES_MAX))
        except Refused as refused:
            log.warning("enrolment refused", reason=refused.reason, element=refused.element, address=request.remote)
            raise
        return web.Response(body=_json(answer), content_type=JSON_TYPE)

    async def _push(self, peer: OrgId, request: web.Request) -> web.Response:
        batch = decode_batch(await self._body(request, MEDIA_TYPE, self._limits.bytes_max), self._limits)
        verdicts = await self._downlink.push(peer, batch)
        return web.Response(body=encode_verdicts(verdicts), content_type=JSON_TYPE)

    async def _pull(self, peer: OrgId, request: web.Request) -> web.Response:
        asked = decode_pull(await self._body(request, JSON_TYPE, self._limits.verdict_bytes_max), self._limits)
        batch = await self._downlink.pull(peer, asked)
        return web.Response(body=encode_batch(batch), content_type=MEDIA_TYPE)

    async def _directory(self, peer: OrgId, request: web.Request) -> web.Response:
        """GET ?since=: a child that brings nothing; POST: one that brings what this node lacks, or has much to say of itself."""
        if request.method == "GET":
            said = Exchange(read_since(request.query.get("since", "")))
        else:
            said = decode_exchange(await self._body(request, JSON_TYPE, EXCHANGE_BYTES_MAX))
        return web.Response(body=encode_exchange(await self._downlink.directory(peer, said)), content_type=JSON_TYPE)

    async def _clock(self, request: web.Request) -> web.Response:
        """Asked of nobody but the clock: no writer, no disk and no other child is waited for."""
        came = self._downlink.moment()
        t1_us = decode_clock_question(await self._body(request, JSON_TYPE, CLOCK_BYTES_MAX))
        answer = told_time(t1_us, came, self._downlink.moment())
        return web.Response(body=encode_clock_answer(answer), content_type=JSON_TYPE)

    async def _statements(self, peer: OrgId, request: web.Request) -> web.Response:
        post = decode_post(await self._body(request, JSON_TYPE, POST_BYTES_MAX))
        return web.Response(body=encode_kept(await self._downlink.statements(peer, post)), content_type=JSON_TYPE)

    async def _query(self, peer: OrgId, request: web.Request) -> web.Response:
        within_ms = _whole(request, "within_ms", 0, ANSWER_WAIT_MAX_MS)
        body = await self._body(request, BYTES_TYPE, QUESTION_BYTES_MAX)
        answer = await self._downlink.query(peer, question(request.query.get("kind", ""), body, within_ms))
        return web.Response(body=answer, content_type=BYTES_TYPE)

    async def _take_answer(self, peer: OrgId, request: web.Request) -> web.Response:
        """What a child says to what it was asked with its pull."""
        number = _whole(request, "number")
        await self._downlink.answered(peer, number, await self._body(request, BYTES_TYPE, ANSWER_BYTES_MAX))
        return web.Response(body=_json({}), content_type=JSON_TYPE)

    async def _put_body(self, peer: OrgId, request: web.Request, sha256: str) -> web.Response:
        offset, size = _whole(request, "offset"), _whole(request, "size")
        held = None
        async for piece in self._pieces(request, BYTES_TYPE, BODY_CHUNK_MAX):
            if offset + len(piece) > size:
                raise Refused(Reason.WIRE_MALFORMED, "size", str(size), f"≥ {offset + len(piece)}")
            if held in (None, offset):  # else the rest does not fit what is held
                held = await self._downlink.put_body(peer, sha256, size, offset, piece)
            offset += len(piece)
        return web.Response(body=_json({"held": held}), content_type=JSON_TYPE)

    async def _get_body(self, peer: OrgId, request: web.Request, sha256: str) -> web.StreamResponse:
        offset, length = _whole(request, "offset"), _whole(request, "length", 1, BODY_CHUNK_MAX)
        piece = await self._downlink.get_body(peer, sha256, offset, min(length, PIECE_BYTES))
        if len(piece) == length or len(piece) < PIECE_BYTES:
            return web.Response(body=piece, content_type=BYTES_TYPE)

        async def after(sent: int) -> bytes:
            left = min(length - sent, PIECE_BYTES)
            return await self._downlink.get_body(peer, sha256, offset + sent, left) if left else b""

        return _Poured(piece, after)

    def _judge(self, request: web.Request) -> OrgId:
        """The child's code. The chain is kept for the connection; what it is worth is judged at every request."""
        chain = self._chain(request)
        if not chain:
            log.warning("peer refused", reason=Reason.PEER_UNKNOWN, value="no certificate", address=request.remote)
            raise Refused(Reason.PEER_UNKNOWN, "certificate")
        try:
            # who has a wrong clock may still ask for the time (architecture section 4), who has old lists for newer ones
            return self._peers(chain, dates=request.path != CLOCK_PATH, ages=request.path != TRUST_PATH)
        except Refused as refused:
            value = "" if refused.reason is Reason.PEER_NAME else refused.value
            log.warning(
                "peer refused",
                reason=refused.reason,
                value=value,
                certificate=hashlib.sha256(chain[0]).hexdigest(),
                address=request.remote,
            )
            raise

    def _chain(self, request: web.Request) -> tuple[bytes, ...]:
        """What the caller has shown and the handshake has verified; () where it has shown nothing."""
        secured = request.get_extra_info("ssl_object")
        chain = self._chains.get(secured) if secured is not None else ()
        if chain is None:
            chain = self._chains[secured] = peer_chain(secured)
        return chain

    async def _body(self, request: web.Request, media_type: str, most: int) -> bytes:
        """The whole body, at most so many bytes, within the request's time."""
        return b"".join([piece async for piece in self._pieces(request, media_type, most)])

    async def _pieces(self, request: web.Request, media_type: str, most: int) -> AsyncIterator[bytes]:
        """The body in pieces, at least one, as they come; at most so many bytes together, within the request's time, which grows
        with the bytes that come."""
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity" or request.content_type != media_type:
            raise web.HTTPUnsupportedMediaType
        if (request.content_length or 0) > most:
            raise Refused(Reason.WIRE_TOO_LARGE, "body", str(request.content_length), f"≤ {most}")
        now = asyncio.get_running_loop().time
        until = now() + self._timeout_s
        total, whole = 0, False
        while not whole:
            held: list[bytes] = []
            size = 0
            enough_s = now() + TAKEN_S
            try:
                async with asyncio.timeout_at(until + total / BYTES_PER_S_MIN) as limit:
                    while not whole and size < TAKEN_BYTES and (now() < enough_s or not size):
                        held.append(await request.content.readany())
                        size += len(held[-1])
                        limit.reschedule(until + (total + size) / BYTES_PER_S_MIN)
                        whole = not held[-1]
                        if total + size > most:
                            raise Refused(Reason.WIRE_TOO_LARGE, "body", str(total + size), f"≤ {most}")
            except TimeoutError:
                raise web.HTTPRequestTimeout from None
            except web.RequestPayloadError:
                raise Refused(Reason.WIRE_MALFORMED, "body", rule="chunked") from None
            if size or not total:
                yield b"".join(held)
            total += size

    async def _send(self, request: web.Request, response: web.StreamResponse) -> None:
        """Write the answer here, where a child that does not read it can be cut off."""
        limit = asyncio.timeout(self._timeout_s)
        progress = Progress(limit, self._timeout_s)
        try:
            async with limit:
                progress.follow(request.transport)
                await response.prepare(request)
                if isinstance(response, _Poured):
                    await response.pour()
                await response.write_eof()
        except TimeoutError:
            log.warning("answer not read in time", address=request.remote)
            if request.transport is not None:
                request.transport.abort()
        except (Refused, Deferred) as error:  # too late for words: what has come keeps its worth, the child asks for the rest
            log.warning("answer broken off", address=request.remote, reason=error.reason.value)
            if request.transport is not None:
                request.transport.abort()
        except OSError:
            log.debug("child left before its answer was out", address=request.remote)  # it asks again when it is back
        finally:
            progress.end()

    def _refusal(self, peer: OrgId | None, refused: Refused) -> web.Response:
        if peer is not None:
            log.info("link request refused", neighbour=str(peer), reason=refused.reason, element=refused.element)
        if self._count is not None:
            self._count(refused.reason)
        text = {"reason": refused.reason, "element": refused.element, "value": refused.value, "rule": refused.rule}
        status = _STATUS.get(refused.reason, HTTPStatus.BAD_REQUEST)
        response = web.Response(status=status, body=_json(text), content_type=JSON_TYPE)
        if status is HTTPStatus.FORBIDDEN:
            response.force_close()
        return response


class _Poured(web.StreamResponse):
    """A long answer, read while it is written. after: what follows so many bytes, b"" at the end."""

    def __init__(self, first: bytes, after: Callable[[int], Awaitable[bytes]]) -> None:
        super().__init__(headers={hdrs.CONTENT_TYPE: BYTES_TYPE})
        self._first = first
        self._after = after

    async def pour(self) -> None:
        """Raises what `after` raises."""
        piece, sent = self._first, 0
        while piece:
            await self.write(piece)
            sent += len(piece)
            piece = await self._after(sent)


def _later(deferred: Deferred) -> web.Response:
    wait_s = min(max(deferred.retry_after_s, 0.0), RETRY_AFTER_MAX_S)
    return web.Response(
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        body=_json({"reason": deferred.reason, "retry_s": wait_s}),
        content_type=JSON_TYPE,
        headers={hdrs.RETRY_AFTER: str(math.ceil(wait_s))},
    )


def _short(status: int) -> web.Response:
    return web.Response(status=status, text=HTTPStatus(status).phrase)


def _whole(request: web.Request, name: str, least: int = 0, most: int = TIME_MAX_MS) -> int:
    text = request.query.get(name, "")
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise Refused(Reason.WIRE_MALFORMED, name, text, f"{least}..{most}")
    return int(text)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()

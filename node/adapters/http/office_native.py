"""The native face: `/api/v1`, for connectors that move many packages at once. HTTP Basic with the system's id and secret.

Who calls is found out here; many packages in one body are taken apart in `native_parts`, answers are worded in `native_answers`;
every decision about a package is behind the `NativeDoor`. Must not know the store, the duty files or the link.
Every call is harmless when repeated, whatever became of its answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Protocol

import structlog
from aiohttp import hdrs, web

from node.adapters.http import native_answers as answers
from node.adapters.http.native_openapi import DOCUMENT
from node.adapters.http.native_parts import (
    BATCH_BYTES_MAX,
    KINDS,
    PARTS_MAX,
    Part,
    boundary_for,
    boundary_of,
    joined_heads,
    split,
)
from node.adapters.http.office_face import SHOWN_AT_HANDSHAKE, Door, OfficeFace, Tell, expect, shown_certificate
from node.adapters.http.pieces import gathered
from node.adapters.http.vxp_body import RATE_WINDOW_S
from node.adapters.http.vxp_call import is_doc_id
from node.adapters.http.vxp_out import FILE_HEADERS, JSON_HEADERS, Gone, closing, write_stream, write_whole
from node.adapters.http.vxp_signing import may_call_from
from node.config import Office
from node.core.envelope import strict_json
from node.core.errors import Deferred, Reason, Refused
from node.core.instant import FIRST_MS, LAST_MS, parse_iso
from node.core.office import Claim, Given, NodeTime, Page, Submitted, System
from node.core.report_document import texts

FACE = "native"
PREFIX = "/api/v1"
UNKNOWN = "unknown"
CREDENTIALS_CHARS_MAX = 4096
ASKED_CHARS_MAX = 80
ITEMS_MAX = 1000
WAIT_S_MAX = 25
ROOM_BYTES = 8 * 1024 * 1024
ROOM_BYTES_MAX = BATCH_BYTES_MAX
SETTLE_BYTES_MAX = 256 * 1024
"""The body that names a thousand docIds."""
TOGETHER_MAX = 32
"""Packages of one request that are judged without a pause and committed together; others have their turn between."""
JUDGED_AT_ONCE = 2
"""Such groups of one request in the hands of the node: one is judged while another is committed."""
BATCHES_AT_ONCE = 4
"""Requests with many packages of one system whose bodies are held in memory; further ones wait, unread."""
PIECE_BYTES = 256 * 1024
REPORTS_AT_ONCE = 2
FIGURES_FRESH_S, FIGURES_KEPT_MAX = 5.0, 4
FIGURES_ASKED = (("kind", "day"), ("period", ""), ("rule", ""), ("organ", ""))
NOBODY = System("", (), ())
"""Who reads figures without credentials, where the owner lets them."""

_NOBODY = ("khoa-cua-khong-ai",)  # an unknown system costs the caller as much time as a known one
_NUMBER = re.compile(r"[0-9]{1,18}")
_DIGEST = re.compile(r"(?i)(?:^|,)\s*sha-256\s*=\s*:?([0-9A-Za-z+/]{43}=):?\s*(?=,|$)")

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class NativeDoor(Door, Protocol):
    """What this face asks beyond the others."""

    async def page(
        self, system: System, kind: str, *, after: int | None, limit: int, wait_s: float, room_bytes: int | None
    ) -> Page:
        """Open items, many at once; held back up to wait_s while there is nothing. room_bytes: contents given inline, or None."""
        ...

    def time(self) -> NodeTime: ...

    def told_time(self, system: System, claimed_ms: int) -> None:
        """The system has said in this very call what time it is by its clock."""
        ...

    async def statistics(self, kind: str, period: str, rule: str, organ: str) -> Mapping[str, Any]:
        """The report of this node's subtree. `Refused(REQUEST_MALFORMED)`."""
        ...

    async def submit_many(
        self, system: System, packages: Sequence[tuple[Iterable[bytes], Claim]]
    ) -> Sequence[Submitted | Refused | Deferred]:
        """`submit` for a few together: what became of each, in order."""
        ...

    async def settle_many(self, system: System, doc_ids: Sequence[str], word: str) -> Sequence[Refused | Deferred | None]:
        """`settle` for many: what kept each from being settled, in order. `Refused(STATUS_WORD_UNKNOWN)`."""
        ...


class NotKnown(Refused):
    """The caller hears one and the same reason whether the system or the secret was wrong; the log hears the truth."""

    def __init__(self, truth: Reason) -> None:
        super().__init__(Reason.CREDENTIALS_WRONG, hdrs.AUTHORIZATION)
        self.truth = truth


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request. limit: the deadline, moved on with every sign of progress."""

    request: web.Request
    system: System
    limit: asyncio.Timeout

    def asked(self, name: str, default: str = "") -> str:
        return self.request.query.get(name, default)

    def number(self, name: str, default: int, least: int, most: int) -> int:
        text = self.asked(name, str(default))
        if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
            raise Refused(Reason.REQUEST_MALFORMED, name, text, f"{least} … {most}")
        return int(text)

    def word(self, name: str, *known: str) -> str:
        """One of the known words; the first where nothing is said."""
        text = self.asked(name, known[0])
        if text not in known:
            raise Refused(Reason.REQUEST_MALFORMED, name, text, ", ".join(known))
        return text


@dataclass(frozen=True, slots=True)
class Operation:
    """One path under `/api/v1`. takes_package: its body may be as large as a package, and is read to the end before an answer."""

    name: str
    method: str
    path: str
    answering: Callable[[Call], Awaitable[web.StreamResponse]]
    takes_package: bool = False
    figures: bool = False
    """For systems that only read figures, too."""


class NativeFace(OfficeFace):
    """All operations of the face. `register` puts them on an application; nothing is started."""

    def __init__(
        self,
        door: NativeDoor,
        office: Office,
        *,
        tell: Tell | None = None,
        rate_window_s: float = RATE_WINDOW_S,
        anonymous: bool = False,
    ) -> None:
        """anonymous: figures are read without credentials, too."""
        super().__init__(office, tell, rate_window_s)
        self._door = door
        self._anonymous = anonymous
        self._reports = asyncio.Semaphore(REPORTS_AT_ONCE)
        self._figures: dict[tuple[str, str, str, str], tuple[float, bytes]] = {}
        """Reports that were asked for lately, with the loop's time: many systems ask the same, and the road comes first."""
        self._batches: dict[str, asyncio.Semaphore] = {}  # registered systems only, so the registry bounds it
        self.operations = (
            Operation("send", hdrs.METH_POST, "/packages", self._send, takes_package=True),
            Operation("mailbox", hdrs.METH_GET, "/mailbox", self._mailbox),
            Operation("settle", hdrs.METH_POST, "/mailbox/done", self._settle),
            Operation("package", hdrs.METH_GET, "/mailbox/{doc_id}/package", self._package),
            Operation("time", hdrs.METH_GET, "/time", self._time, figures=True),
            Operation("statistics", hdrs.METH_GET, "/statistics", self._statistics, figures=True),
            Operation("openapi", hdrs.METH_GET, "/openapi.json", self._openapi, figures=True),
        )

    def register(self, app: web.Application) -> None:
        """Serve everything under `/api`: what is no operation hears so in this face's words. Never a redirect."""
        for each in self.operations:
            app.router.add_route("*", PREFIX + each.path, partial(self._serve, each), expect_handler=expect)
        app.router.add_route("*", "/api{rest:(?:/.*)?}", partial(self._serve, None), expect_handler=expect)

    async def _serve(self, operation: Operation | None, request: web.Request) -> web.StreamResponse:
        """The one place where a call of this face fails: every fault ends as a problem document."""
        known = UNKNOWN if operation is None else operation.name
        began = asyncio.get_running_loop().time()
        try:
            response = await self._answer(request, operation)
        except Gone:
            log.debug("office client left before its answer was out", face=FACE, operation=known, remote=request.remote)
            self._told(known, "gone")
            return web.Response()
        except Exception as error:
            refused, later_s, truth = _why(error)
            # Who and why, never what was sent; only here and in the counter a wrong id is told from a wrong secret.
            log.info("office call refused", face=FACE, operation=known, remote=request.remote, reason=truth)
            self._told(known, truth)
            return await self._refuse(request, operation, refused, later_s)
        self._told(known, "ok")
        duration_ms = round((asyncio.get_running_loop().time() - began) * 1000)
        log.debug("office call served", face=FACE, operation=known, duration_ms=duration_ms)
        return response

    async def _answer(self, request: web.Request, operation: Operation | None) -> web.StreamResponse:
        timeout_s = self._office.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s) as limit:
                system = self._authenticate(request, operation)
                self._hear(system, request)
                if operation is None or operation.method != request.method:
                    asked = f"{request.method} {request.path}"[:ASKED_CHARS_MAX]
                    raise Refused(Reason.OPERATION_UNKNOWN, "", asked, "" if operation is None else operation.method)
                return await operation.answering(Call(request, system, limit))
        except TimeoutError:
            if not limit.expired():
                raise
            # Whether a commit happened is open; the same call again finds out.
            raise Deferred(timeout_s) from None

    def _authenticate(self, request: web.Request, operation: Operation | None) -> System:
        """Who calls: the secret first, so that a stranger learns nothing of a system; then its state and its network."""
        if (
            self._anonymous
            and operation is not None
            and operation.name == "statistics"
            and not request.headers.get(hdrs.AUTHORIZATION)
        ):
            return NOBODY
        system_id, secret = _credentials(request)
        found = self._door.system(system_id)
        right = False
        for each in found.secrets if found is not None else _NOBODY:
            right |= hmac.compare_digest(_digest(each), _digest(secret))  # never leave early
        if found is None or not right:
            raise NotKnown(Reason.SYSTEM_UNKNOWN if found is None else Reason.CREDENTIALS_WRONG)
        if found.disabled:
            raise Refused(Reason.SYSTEM_DISABLED, "", found.id)
        if not may_call_from(found.networks, request.remote):
            raise Refused(Reason.NETWORK_FORBIDDEN, "", request.remote or "")
        if found.certificates:
            now = self._door.time()
            found.require_certificate(shown_certificate(request), now_ms=now.utc_ms, bound_ms=now.bound_ms)
        coding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
        if coding.strip().lower() != "identity":
            raise Refused(Reason.REQUEST_MALFORMED, hdrs.CONTENT_ENCODING, coding, "identity")
        if not found.codes and operation is not None and not operation.figures:
            raise Refused(Reason.SENDER_NOT_ALLOWED, "", found.id)
        return found

    def _hear(self, system: System, request: web.Request) -> None:
        """A `Date` of the caller shows how far its clock is off; whole seconds, so the middle of one."""
        if hdrs.DATE not in request.headers:
            return
        try:
            said = parsedate_to_datetime(request.headers[hdrs.DATE])
        except ValueError:
            return
        if said.tzinfo is not None:
            self._door.told_time(system, int(said.timestamp()) * 1000 + 500)

    async def _time(self, call: Call) -> web.StreamResponse:
        """Four timestamps: the caller has t1 and t4, and finds its offset as ((t2 - t1) + (t3 - t4)) / 2."""
        received = self._door.time()
        asked = call.asked("t1")
        asked_ms = _instant(asked) if asked else None
        if asked_ms is not None:
            self._door.told_time(call.system, asked_ms)
        return await self._json(call, answers.node_time(asked, asked_ms, received, self._door.time()))

    async def _statistics(self, call: Call) -> web.StreamResponse:
        """# QĐ 28/2018 Điều 14.3, Sơn La 14.3"""
        kind, period, rule, organ = (call.asked(name, default) for name, default in FIGURES_ASKED)
        asked, now = (kind, period, rule, organ), asyncio.get_running_loop().time
        async with self._reports:
            told_s, body = self._figures.get(asked, (-FIGURES_FRESH_S, b""))
            if now() - told_s >= FIGURES_FRESH_S:
                body = await gathered(texts(dict(await self._door.statistics(kind, period, rule, organ))))
                self._figures.pop(asked, None)
                self._figures[asked] = (now(), body)
                for eldest in list(self._figures)[:-FIGURES_KEPT_MAX]:
                    del self._figures[eldest]
        return await self._whole(call, body)

    # -- in ------------------------------------------------------------------------------------------------------------

    async def _send(self, call: Call) -> web.StreamResponse:
        content_type = call.request.headers.get(hdrs.CONTENT_TYPE, "")
        if content_type.lstrip().lower().startswith("multipart/"):
            return await self._send_many(call, boundary_of(content_type))
        kind = call.word("kind", *KINDS)
        claimed = _claimed_digest(call.request)
        limit_bytes = self._office.package_bytes_max
        _require_room(call.request, limit_bytes)
        package = _compared(self._body(call.request, limit_bytes, call.limit), claimed)
        async with closing(package):
            result = await self._door.submit(call.system, package, Claim(kind))
        log.info("package accepted", face=FACE, system=call.system.id, doc_id=result.doc_id, repeated=result.repeated)
        return await self._json(call, answers.submitted(result))

    async def _send_many(self, call: Call, boundary: bytes) -> web.StreamResponse:
        """Every part is judged alone; nothing is submitted of a body that is not whole and well-formed."""
        _require_room(call.request, BATCH_BYTES_MAX)
        async with self._batches.setdefault(call.system.id, asyncio.Semaphore(BATCHES_AT_ONCE)):
            body = self._body(call.request, BATCH_BYTES_MAX, call.limit)
            parts = split(b"".join([chunk async for chunk in body]), boundary)
            few = asyncio.Semaphore(JUDGED_AT_ONCE)
            groups = [parts[begin : begin + TOGETHER_MAX] for begin in range(0, len(parts), TOGETHER_MAX)]
            answered = await asyncio.gather(*(self._send_parts(call, each, few) for each in groups))
        results = [each for some in answered for each in some]
        taken = sum(each["status"] in ("accepted", "repeated") for each in results)
        log.info("packages accepted", face=FACE, system=call.system.id, count=taken, refused=len(results) - taken)
        return await self._json(call, {"results": results})

    async def _send_parts(self, call: Call, parts: Sequence[Part], few: asyncio.Semaphore) -> list[answers.Answer]:
        async with few:
            packages = [(_pieces(part.content), Claim(part.kind)) for part in parts]
            outcomes = await self._door.submit_many(call.system, packages)
        self._allow(call.limit, 0)
        for outcome in outcomes:
            if not isinstance(outcome, Submitted):
                self._told("send", str(outcome.reason))
        return [answers.part(part.ref, outcome) for part, outcome in zip(parts, outcomes, strict=True)]

    # -- out -----------------------------------------------------------------------------------------------------------

    async def _mailbox(self, call: Call) -> web.StreamResponse:
        kind = call.word("kind", *KINDS)
        inline = call.word("content", "inline", "none") == "inline"
        limit = call.number("limit", 100, 1, ITEMS_MAX)
        after = call.number("after", 0, 0, 10**18) if call.asked("after") else None
        wait_s = call.number("wait_s", 0, 0, WAIT_S_MAX)
        room = call.number("room_bytes", ROOM_BYTES, 0, ROOM_BYTES_MAX)
        call.limit.reschedule(asyncio.get_running_loop().time() + self._office.request_timeout_s + wait_s)
        page = await self._door.page(
            call.system, kind, after=after, limit=limit, wait_s=wait_s, room_bytes=room if inline else None
        )
        async with closing(page.bodies):
            if not inline:
                return await self._json(call, answers.page(page))
            return await self._mixed(call, page)

    async def _mixed(self, call: Call, page: Page) -> web.StreamResponse:
        index = answers.encode(answers.page(page))
        boundary = boundary_for(index)
        contents = [(line.doc_id, line.size) for line, given in page.items if given is Given.INLINE]
        first, heads, last = joined_heads(boundary, index, contents)
        total = len(first) + sum(map(len, heads)) + sum(size for _, size in contents) + len(last)
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: f'multipart/mixed; boundary="{boundary.decode()}"'}

        async def parts() -> AsyncIterator[bytes]:
            yield first
            begun = iter(heads)
            async for content in page.bodies:
                yield next(begun)
                yield content
            yield last

        async with closing(parts()) as pieces:
            return await write_stream(call.request, pieces, total, headers, partial(self._allow, call.limit))

    async def _package(self, call: Call) -> web.StreamResponse:
        fetched = await self._door.fetch(call.system, _doc_id(call.request.match_info["doc_id"]))
        async with closing(fetched.chunks) as parts:
            return await write_stream(call.request, parts, fetched.size, FILE_HEADERS, partial(self._allow, call.limit))

    async def _settle(self, call: Call) -> web.StreamResponse:
        body = self._body(call.request, SETTLE_BYTES_MAX, call.limit)
        doc_ids, word = _read_settle(b"".join([chunk async for chunk in body]))
        known = [doc_id for doc_id in doc_ids if is_doc_id(doc_id)]
        found = dict(zip(known, await self._door.settle_many(call.system, known, word), strict=True))
        outcomes = [found[each] if each in found else Refused(Reason.DOC_UNKNOWN, "doc_ids", each) for each in doc_ids]
        for outcome in outcomes:
            if outcome is not None:
                self._told("settle", str(outcome.reason))
        log.info("deliveries settled by their office", face=FACE, system=call.system.id, count=outcomes.count(None), word=word)
        return await self._json(call, answers.settled(doc_ids, outcomes))

    async def _openapi(self, call: Call) -> web.StreamResponse:
        return await self._json(call, DOCUMENT)

    async def _json(self, call: Call, answer: answers.Answer) -> web.StreamResponse:
        return await self._whole(call, answers.encode(answer))

    async def _whole(self, call: Call, body: bytes) -> web.StreamResponse:
        self._allow(call.limit, len(body))
        return await write_whole(call.request, web.Response(body=body, headers=JSON_HEADERS))

    async def _refuse(
        self, request: web.Request, operation: Operation | None, refused: Refused, later_s: float | None
    ) -> web.StreamResponse:
        """Answer a failure, once the client has written all it wants to write: many read nothing before."""
        if request.transport is None or request.transport.is_closing():
            return web.Response()  # nobody to tell: the client left, or the answer under way was cut on purpose
        whole = await self._drain(request, operation is not None and operation.takes_package, refused)
        whole = whole and refused.reason not in SHOWN_AT_HANDSHAKE
        status = answers.http_status(refused.reason)
        headers = {hdrs.CONTENT_TYPE: "application/problem+json"}
        if refused.reason is Reason.OPERATION_UNKNOWN and operation is not None:
            status = 405
            headers[hdrs.ALLOW] = operation.method
        if status == 401:
            headers[hdrs.WWW_AUTHENTICATE] = 'Basic realm="truc", charset="UTF-8"'
        if later_s is not None:
            headers[hdrs.RETRY_AFTER] = str(answers.whole_s(later_s))
        body = answers.encode(answers.problem(refused, status, later_s))
        response = web.Response(status=status, body=body, headers=headers)
        return await self._say(request, response, whole)


def _why(error: Exception) -> tuple[Refused, float | None, str]:
    """What the caller is told of a fault, when to come again, and what the log and the counter are told."""
    if isinstance(error, NotKnown):
        return error, None, str(error.truth)
    if isinstance(error, Refused):
        return error, None, str(error.reason)
    if isinstance(error, Deferred):
        told = Reason.DISK_FULL if error.reason is Reason.DISK_FULL else Reason.NOT_NOW
        return Refused(told), error.retry_after_s, str(error.reason)
    log.exception("office call failed", face=FACE)
    return Refused(Reason.INTERNAL), None, str(Reason.INTERNAL)


def _credentials(request: web.Request) -> tuple[str, str]:
    """The id and the secret presented; what is no Basic at all is nobody. Nothing of it is ever repeated."""
    given = request.headers.getall(hdrs.AUTHORIZATION, [])
    if not given:
        raise Refused(Reason.SIGNATURE_MISSING, hdrs.AUTHORIZATION)
    scheme, _, token = given[0].strip().partition(" ")
    if len(given) > 1 or scheme.lower() != "basic" or len(token) > CREDENTIALS_CHARS_MAX:
        raise NotKnown(Reason.CREDENTIALS_WRONG)
    try:
        system_id, colon, secret = base64.b64decode(token.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise NotKnown(Reason.CREDENTIALS_WRONG) from None
    if not colon:
        raise NotKnown(Reason.CREDENTIALS_WRONG)
    return system_id, secret


def _digest(secret: str) -> bytes:
    """Two secrets are compared by this, so that their lengths show nothing."""
    return hashlib.sha256(secret.encode()).digest()


def _require_room(request: web.Request, bytes_max: int) -> None:
    declared = request.content_length
    if declared is not None and declared > bytes_max:
        raise Refused(Reason.PACKAGE_TOO_LARGE, "body", str(declared), str(bytes_max))


def _claimed_digest(request: web.Request) -> bytes | None:
    """SHA-256 of the body as Content-Digest (RFC 9530) or Digest (RFC 3230) tells it, if one does; other digests are not read."""
    for name in ("Content-Digest", "Digest"):
        given = ",".join(request.headers.getall(name, []))
        if "sha-256" not in given.lower():
            continue
        found = _DIGEST.search(given)
        if found is None:
            raise Refused(Reason.REQUEST_MALFORMED, name, given, "sha-256=…")
        return base64.b64decode(found[1])
    return None


async def _compared(body: AsyncIterator[bytes], claimed: bytes | None) -> AsyncIterator[bytes]:
    """The body; at its end `Refused(DIGEST_MISMATCH)` if it is not what was claimed."""
    digest = hashlib.sha256()
    async for chunk in body:
        if claimed is not None:
            digest.update(chunk)
        yield chunk
    if claimed is not None and not hmac.compare_digest(digest.digest(), claimed):
        raise Refused(Reason.DIGEST_MISMATCH, "Content-Digest")


def _pieces(content: memoryview) -> Iterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield bytes(content[start : start + PIECE_BYTES])


def _instant(text: str) -> int:
    """UTC ms as a whole number, or ISO 8601 with an offset (a space for the plus that a careless client left unescaped)."""
    found = int(text) if _NUMBER.fullmatch(text) else parse_iso(text.replace(" ", "+"))
    if found is None or not FIRST_MS <= found <= LAST_MS:
        raise Refused(Reason.REQUEST_MALFORMED, "t1", text[:ASKED_CHARS_MAX], "2026-11-22T10:00:00.000+07:00")
    return found


def _doc_id(text: str) -> str:
    if not is_doc_id(text):
        raise Refused(Reason.DOC_UNKNOWN, "doc_id", text)
    return text


def _read_settle(body: bytes) -> tuple[list[str], str]:
    """The docIds and the word; `Refused(REQUEST_MALFORMED)` for anything but an object with a list of texts."""
    try:
        value = strict_json(body)
    except Refused:
        raise Refused(Reason.REQUEST_MALFORMED, "body", "", "JSON") from None
    doc_ids = value.get("doc_ids") if isinstance(value, dict) else None
    if not isinstance(doc_ids, list) or not all(isinstance(each, str) for each in doc_ids):
        raise Refused(Reason.REQUEST_MALFORMED, "doc_ids", "", '["…"]')
    if not 1 <= len(doc_ids) <= PARTS_MAX:
        raise Refused(Reason.REQUEST_MALFORMED, "doc_ids", str(len(doc_ids)), f"1 … {PARTS_MAX}")
    word = value.get("status", "done")
    if not isinstance(word, str):
        raise Refused(Reason.REQUEST_MALFORMED, "status", "", "processing, done, fail")
    return doc_ids, word

"""The VXP face: what connectors built on the vendor's SDK speak. They move over by changing their endpoint.

Who calls is found out here (`vxp_signing`), the body is read and cut here (`vxp_body`), answers are put into the SDK's words
(`vxp_answers`); every decision about a package is behind the `Door`. Must not know the store, the duty files or the link.
The signature covers neither path nor body nor a fresh instant, so every call must be harmless when repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from aiohttp import hdrs, web

from node.adapters.http import vxp_answers as answers
from node.adapters.http import vxp_signing as signing
from node.adapters.http.office_face import (
    SHOWN_AT_HANDSHAKE,
    SMALL_BODY_BYTES_MAX,
    Door,
    OfficeFace,
    Tell,
    expect,
    shown_certificate,
)
from node.adapters.http.vxp_body import RATE_WINDOW_S, PackageBody
from node.adapters.http.vxp_call import Call, is_doc_id, operation_name, read_agency, read_timestamp
from node.adapters.http.vxp_out import (
    FILE_HEADERS,
    JSON_HEADERS,
    Gone,
    as_base64,
    base64_size,
    closing,
    write_stream,
    write_whole,
)
from node.config import Office
from node.core.envelope import KIND_DOCUMENT, KIND_STATUS
from node.core.errors import Deferred, Reason, Refused
from node.core.instant import day
from node.core.office import Claim, System
from node.ports import Clock

PATH = "vxp"
UNKNOWN = "unknown"
STATUS_WORDS = ("processing", "done", "fail")
NAME_CHARS_MAX = 40
CHOICES_MAX = 1000
"""Choices between two ids that are remembered for a repeat, which comes within a second."""
OLD_SIGNATURE_MS = 24 * 3_600_000

_HTTP_STATUS = {
    Reason.SIGNATURE_WRONG: 401,
    Reason.SIGNATURE_MISSING: 401,
    Reason.SIGNATURE_TEXT_DAMAGED: 401,
    Reason.HEADER_MISMATCH: 401,
    Reason.SYSTEM_DISABLED: 403,
    Reason.NETWORK_FORBIDDEN: 403,
    Reason.CLIENT_CERTIFICATE_MISSING: 403,
    Reason.CLIENT_CERTIFICATE_UNKNOWN: 403,
    Reason.CLIENT_CERTIFICATE_DATES: 403,
    Reason.CLIENT_CERTIFICATE_REVOKED: 403,
    Reason.DOC_UNKNOWN: 404,
    Reason.NOT_NOW: 503,
    Reason.DISK_FULL: 503,
    Reason.INTERNAL: 500,
}

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Answering = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Operation:
    """answering: what it does. methods: how it may be called. empty: `data` of a failure; None: its failures have no body at all.

    takes_package: its body may be as large as a package, and is read to the end before any answer.
    """

    answering: Answering
    methods: frozenset[str]
    empty: str | tuple[()] | None = ()
    takes_package: bool = False


READ = frozenset({hdrs.METH_GET, hdrs.METH_POST})
WRITE = frozenset({hdrs.METH_POST})


class VxpFace(OfficeFace):
    """All operations of the face. `register` puts them on an application; nothing is started."""

    def __init__(
        self,
        door: Door,
        clock: Clock,
        office: Office,
        *,
        tell: Tell | None = None,
        rate_window_s: float = RATE_WINDOW_S,
        ahead: Callable[[str, int], None] = lambda system, claimed_ms: None,
    ) -> None:
        """ahead: called with the system's id and its instant (UTC ms) where that lies ahead of the node's time."""
        super().__init__(office, tell, rate_window_s)
        self._door = door
        self._clock = clock
        self._ahead = ahead
        self._old_signers: set[str] = set()  # registered systems only, so the registry bounds it
        self._choices: dict[tuple[str, tuple[str, ...], str], str] = {}
        self._operations: Mapping[str, Operation] = {
            "sendEdoc": Operation(self._send, WRITE, takes_package=True),
            "getReceivedEdocList": Operation(self._received, READ),
            "getSentEdocList": Operation(self._sent, READ),
            "getEdoc": Operation(self._get, READ, ""),
            "downloadEdoc": Operation(self._download, READ, None),
            "updateStatus": Operation(self._update, WRITE),
            "countReceiveEdoc": Operation(self._count_documents, READ),
            "countReceiveStatus": Operation(self._count_statuses, READ),
            "getAgenciesList": Operation(self._agencies, READ),
            "getAgenciesListQD20": Operation(self._agencies_by_level, READ),
            "getSynchronizeUnit": Operation(self._units, READ),
            "registerAgency": Operation(self._register_agency, WRITE),
            "deleteAgency": Operation(self._delete_agency, WRITE),
        }

    def register(self, app: web.Application) -> None:
        """Serve `/vxp/<operation>`; slashes may be doubled and trail (the SDK joins by plain concatenation). Never a redirect."""
        app.router.add_route("*", rf"/{{lead:/*}}{PATH}{{rest:(?:/.*)?}}", self._serve, expect_handler=expect)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        """The one place where a call of this face fails: every fault ends as an answer the SDK can read."""
        name = operation_name(request.path)
        operation = self._operations.get(name)
        known = UNKNOWN if operation is None else name
        began = asyncio.get_running_loop().time()
        try:
            if operation is None or request.method not in operation.methods:
                raise Refused(Reason.OPERATION_UNKNOWN, "", f"{request.method} {name}"[:NAME_CHARS_MAX])
            response = await self._answer(request, operation)
        except Gone:
            log.debug("office client left before its answer was out", face=PATH, operation=known, remote=request.remote)
            self._told(known, "gone")
            return web.Response()
        except Exception as error:
            refused, truth = _why(error)
            # Who and why, never what was sent; only here and in the counter a wrong id is told from a wrong secret.
            log.info("office call refused", face=PATH, operation=known, remote=request.remote, reason=truth)
            self._told(known, truth)
            return await self._refuse(request, operation, refused)
        self._told(known, "ok")
        duration_ms = round((asyncio.get_running_loop().time() - began) * 1000)
        log.debug("office call served", face=PATH, operation=known, duration_ms=duration_ms)
        return response

    async def _answer(self, request: web.Request, operation: Operation) -> web.StreamResponse:
        timeout_s = self._office.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s) as limit:
                system, signed = self._authenticate(request)
                return await operation.answering(Call(request, system, signed, limit))
        except TimeoutError:
            if not limit.expired():
                raise
            # The SDK waits without end on a silent server. Whether a commit happened is open; the same file again finds out.
            raise Deferred(timeout_s) from None

    def _authenticate(self, request: web.Request) -> tuple[System, signing.Signed]:
        """Who calls: signature first, so that a stranger learns nothing of a system; then its state, its network, its headers."""
        coding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
        if coding.strip().lower() != "identity":
            raise Refused(Reason.REQUEST_MALFORMED, hdrs.CONTENT_ENCODING, coding, "identity")
        presented = signing.present(request.raw_headers, self._office.header_bytes_max)
        system, signed = signing.verify(presented, self._door.system)
        if system.disabled:
            raise Refused(Reason.SYSTEM_DISABLED, "", system.id)
        if not signing.may_call_from(system.networks, request.remote):
            raise Refused(Reason.NETWORK_FORBIDDEN, "", request.remote or "")
        if system.certificates:
            shown, now_ms = shown_certificate(request), self._clock.utc_ms()
            system.require_certificate(shown, now_ms=now_ms, bound_ms=self._clock.bound_ms())
        if not system.codes:  # it only reads figures, at the native door
            raise Refused(Reason.SENDER_NOT_ALLOWED, "", system.id)
        signing.check_headers(signed, request.raw_headers)
        self._notice_old_signature(system, signed)
        return system, signed

    def _notice_old_signature(self, system: System, signed: signing.Signed) -> None:
        """A service object takes its timestamp once and keeps it for days: worth one line, never a refusal."""
        signed_ms = read_timestamp(signed.get("timestamp") or "")
        if signed_ms is None:
            return
        age_ms = self._clock.utc_ms() - signed_ms
        if age_ms < 0:
            self._ahead(system.id, signed_ms)  # how far its clock is behind cannot be told from how old the object is
        if system.id in self._old_signers:
            return
        if age_ms > OLD_SIGNATURE_MS:
            self._old_signers.add(system.id)
            log.warning("office system signs with an old timestamp", face=PATH, system=system.id, age_h=age_ms // 3_600_000)

    # -- documents ---------------------------------------------------------------------------------------------------

    async def _send(self, call: Call) -> web.StreamResponse:
        call.require_service()
        kind = call.kind()
        hash_file = call.field("hash-file")
        if not hash_file:  # the body is signed through it alone
            raise Refused(Reason.SIGNATURE_MISSING, signing.PREFIX + "hash-file")
        limit_bytes = self._office.package_bytes_max + 2
        declared = call.request.content_length
        if declared is not None and declared > limit_bytes:
            raise Refused(Reason.PACKAGE_TOO_LARGE, "body", str(declared), str(self._office.package_bytes_max))
        package = PackageBody(self._body(call.request, limit_bytes, call.limit), hash_file)
        # `from` is only logged (the package's own From decides), so it alone may hold letters beyond ASCII.
        claim = Claim(kind, (call.signed.get("from") or "").strip())
        result = await self._door.submit(call.system, package, claim)
        assert package.complete, "custody was taken of a package whose digest nobody compared"
        log.info("package accepted", face=PATH, system=call.system.id, doc_id=result.doc_id, repeated=result.repeated)
        return await self._json(call, answers.submitted(result))

    async def _received(self, call: Call) -> web.StreamResponse:
        """Only messagetype selects: docId, status and from are left over from calls before."""
        call.require_service()
        items = await self._door.waiting(call.system, call.kind())
        return await self._json(call, answers.succeed([answers.received_line(item) for item in items[: self._office.list_max]]))

    async def _sent(self, call: Call) -> web.StreamResponse:
        """A docId that is no package of this system is a left-over of getEdoc, not a question."""
        call.require_service()
        doc_id: str | None = (call.signed.get("docId") or "").strip()
        if not doc_id or not is_doc_id(doc_id) or not await self._door.owns_sent(call.system, doc_id):
            doc_id = None
        lines = await self._door.sent(call.system, call.kind(), doc_id)
        return await self._json(call, answers.succeed([answers.sent_line(line) for line in lines[: self._office.list_max]]))

    async def _get(self, call: Call) -> web.StreamResponse:
        doc_id = call.doc_id()
        fetched = await self._door.fetch(call.system, doc_id)
        head, tail = answers.encode(answers.succeed("", doc_id)).rsplit(b'""', 1)
        head, tail = head + b'"', b'"' + tail
        total = len(head) + base64_size(fetched.size) + len(tail)
        async with closing(fetched.chunks) as chunks, closing(as_base64(head, chunks, tail)) as parts:
            return await write_stream(call.request, parts, total, JSON_HEADERS, partial(self._allow, call.limit))

    async def _download(self, call: Call) -> web.StreamResponse:
        fetched = await self._door.fetch(call.system, call.doc_id())
        async with closing(fetched.chunks) as parts:
            return await write_stream(call.request, parts, fetched.size, FILE_HEADERS, partial(self._allow, call.limit))

    async def _update(self, call: Call) -> web.StreamResponse:
        word = call.field("status").lower()
        if word not in STATUS_WORDS:
            raise Refused(Reason.STATUS_WORD_UNKNOWN, signing.PREFIX + "status", word, ", ".join(STATUS_WORDS))
        doc_id = await self._which_delivery(call, word)
        await self._door.settle(call.system, doc_id, word)
        log.info("delivery settled by its office", face=PATH, system=call.system.id, doc_id=doc_id, word=word)
        return await self._json(call, answers.succeed([], doc_id))

    async def _which_delivery(self, call: Call, word: str) -> str:
        """`docId` of an earlier getEdoc and `docid` of this call may both be signed: the one still open here is meant.

        The SDK repeats a call whose answer was lost, byte for byte; then none is open any more, and the first choice holds.
        """
        doc_ids = call.doc_ids()
        if len(doc_ids) < 2:
            return call.doc_id()
        question = (call.system.id, doc_ids, word)
        still_open = await self._door.open_deliveries(call.system, doc_ids)
        if not still_open and question in self._choices:
            return self._choices[question]
        if len(still_open) != 1:
            raise Refused(Reason.DOC_AMBIGUOUS, signing.PREFIX + "docId", doc_ids[0], ", ".join(doc_ids[1:5]))
        while len(self._choices) >= CHOICES_MAX:
            del self._choices[next(iter(self._choices))]
        self._choices[question] = still_open[0]
        return still_open[0]

    async def _count_documents(self, call: Call) -> web.StreamResponse:
        return await self._json(call, answers.counted(await self._door.count(call.system, KIND_DOCUMENT)))

    async def _count_statuses(self, call: Call) -> web.StreamResponse:
        return await self._json(call, answers.counted(await self._door.count(call.system, KIND_STATUS)))

    # -- the directory -----------------------------------------------------------------------------------------------

    async def _agencies(self, call: Call) -> web.StreamResponse:
        entries = await self._door.agencies()
        return await self._json(call, answers.succeed(answers.agencies(entries, day(self._clock.utc_ms()))))

    async def _agencies_by_level(self, call: Call) -> web.StreamResponse:
        entries = await self._door.agencies()
        items = answers.agencies_by_level(entries, day(self._clock.utc_ms()), call.level())
        return await self._json(call, answers.succeed(items))

    async def _units(self, call: Call) -> web.StreamResponse:
        entries = await self._door.agencies()
        return await self._json(call, answers.succeed(answers.units(entries, day(self._clock.utc_ms()), self._door.said())))

    async def _register_agency(self, call: Call) -> web.StreamResponse:
        """The content is unsigned, so it is a request to a person and nothing more."""
        body = self._body(call.request, SMALL_BODY_BYTES_MAX, call.limit)
        fields = read_agency(b"".join([chunk async for chunk in body]))
        number = await self._door.request_agency(call.system, "register", fields)
        return await self._json(call, answers.succeed([], text=answers.WAITS_FOR_OPERATOR.format(number=number)))

    async def _delete_agency(self, call: Call) -> web.StreamResponse:
        code = call.field("AgencyCode")
        if not code:
            raise Refused(Reason.REQUEST_MALFORMED, signing.PREFIX + "AgencyCode", "", "AgencyCode")
        number = await self._door.request_agency(call.system, "delete", {"code": code})
        return await self._json(call, answers.succeed([], text=answers.WAITS_FOR_OPERATOR.format(number=number)))

    # -- in and out --------------------------------------------------------------------------------------------------

    async def _json(self, call: Call, answer: Mapping[str, Any]) -> web.StreamResponse:
        # Always 200, also on FAIL: the SDK does not look at it, and a proxy may replace the body of an error with a page.
        body = answers.encode(answer)
        self._allow(call.limit, len(body))
        return await write_whole(call.request, web.Response(body=body, headers=JSON_HEADERS))

    async def _refuse(self, request: web.Request, operation: Operation | None, refused: Refused) -> web.StreamResponse:
        """Answer a failure, once the client has written all it wants to write: it reads nothing before."""
        if request.transport is None or request.transport.is_closing():
            return web.Response()  # nobody to tell: the client left, or the answer under way was cut on purpose
        whole = await self._drain(request, operation is not None and operation.takes_package, refused)
        whole = whole and refused.reason not in SHOWN_AT_HANDSHAKE
        if operation is not None and operation.empty is None:
            # The SDK saves any body, whatever the HTTP status, as the package, and calls it a success: only emptiness fails.
            response = web.Response(status=http_status(refused.reason))
        else:
            empty = () if operation is None else operation.empty
            response = web.Response(body=answers.encode(answers.fail(refused, empty)), headers=JSON_HEADERS)
        return await self._say(request, response, whole)


def _why(error: Exception) -> tuple[Refused, str]:
    """What the caller is told of a fault, and what the log and the counter are."""
    if isinstance(error, signing.NotGenuine):
        return error, str(error.truth)
    if isinstance(error, Refused):
        return error, str(error.reason)
    if isinstance(error, Deferred):
        told = Reason.DISK_FULL if error.reason is Reason.DISK_FULL else Reason.NOT_NOW
        return Refused(told), str(error.reason)
    log.exception("office call failed", face=PATH)
    return Refused(Reason.INTERNAL), str(Reason.INTERNAL)


def http_status(reason: Reason) -> int:
    """For failures without a body (downloadEdoc): the status is all that can be told."""
    return _HTTP_STATUS.get(reason, 400)


def malformed(status: int) -> bytes:
    """What a request that is no HTTP hears: JSON, since the SDK takes a page for a successful empty list."""
    return answers.encode(answers.fail(Refused(Reason.REQUEST_MALFORMED, "HTTP", str(status)), ()))


@web.middleware
async def no_pages(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """For the whole office application: an error is never a page. The SDK takes a page instead of a list for "no mail"."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        reason = Reason.OPERATION_UNKNOWN if error.status in (404, 405) else Reason.REQUEST_MALFORMED
        refused, status = Refused(reason, "", f"{request.method} {request.path}"[:NAME_CHARS_MAX]), error.status
    except Exception:
        log.exception("office request failed", remote=request.remote)
        refused, status = Refused(Reason.INTERNAL), 500
    return web.Response(status=status, body=answers.encode(answers.fail(refused, ())), headers=JSON_HEADERS)

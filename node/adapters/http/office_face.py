"""What every office face has in common: the door it stands before, bodies read and deadlines moved, manners before an answer.

Knows aiohttp and the body's guards; nothing of how a caller is found out, or of the words of an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from node.adapters.http.vxp_body import BodyStopped, IncomingBody, drain
from node.adapters.http.vxp_out import Gone, write_whole
from node.config import Office
from node.core.directory import Entry
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.office import Claim, Fetched, SentLine, Submitted, System, Waiting

SMALL_BODY_BYTES_MAX = 64 * 1024
"""The body of registerAgency; bodies of most other calls are `{}` or nothing and are not read."""
DRAIN_SLACK_BYTES = 64 * 1024 * 1024
"""How much more than the largest package is read and thrown away before the answer that refuses it."""

SHOWN_AT_HANDSHAKE = frozenset(
    (
        Reason.CLIENT_CERTIFICATE_MISSING,
        Reason.CLIENT_CERTIFICATE_UNKNOWN,
        Reason.CLIENT_CERTIFICATE_DATES,
        Reason.CLIENT_CERTIFICATE_REVOKED,
    )
)
"""What no further call on the same connection can mend: it is closed, and the next one is asked for its certificate anew."""

Tell = Callable[[str, str], None]
"""Called once per request: the operation ("unknown" if there is none of that name), and "ok", "gone" or the reason's code."""


class Door(Protocol):
    """What an office face asks of the node. Every method may raise `Refused` (final) and `Deferred` (not yet)."""

    def system(self, system_id: str) -> System | None: ...

    async def submit(self, system: System, chunks: AsyncIterator[bytes], claim: Claim) -> Submitted:
        """Read the package to its end, judge it, take custody. What the chunks raise (`Refused`) stops it, nothing is kept."""
        ...

    async def waiting(self, system: System, kind: str) -> Sequence[Waiting]:
        """What waits to be collected, the urgent first, then the oldest; kind "edoc" or "status"."""
        ...

    async def count(self, system: System, kind: str) -> int: ...

    async def sent(self, system: System, kind: str, doc_id: str | None) -> Sequence[SentLine]: ...

    async def owns_sent(self, system: System, doc_id: str) -> bool: ...

    async def open_deliveries(self, system: System, doc_ids: Sequence[str]) -> Sequence[str]:
        """Which of these wait for this system still."""
        ...

    async def fetch(self, system: System, doc_id: str) -> Fetched:
        """`Refused(DOC_UNKNOWN)` for what was never laid before this system."""
        ...

    async def settle(self, system: System, doc_id: str, word: str) -> None:
        """word: processing, done or fail; the same again is no fault. `Refused(DOC_UNKNOWN)`."""
        ...

    async def agencies(self) -> Sequence[Entry]:
        """All entries of the directory, closed ones too."""
        ...

    def said(self) -> Mapping[OrgId, int]:
        """When something was last signed of each code, UTC ms."""
        ...

    async def request_agency(self, system: System, action: str, fields: Mapping[str, str]) -> int:
        """action: "register" or "delete". Returns the number of the request; an operator decides on it."""
        ...


class OfficeFace:
    """Base of the faces: their common manners."""

    def __init__(self, office: Office, tell: Tell | None, rate_window_s: float) -> None:
        self._office = office
        self._tell = tell
        self._rate_window_s = rate_window_s

    def _told(self, operation: str, result: str) -> None:
        if self._tell is not None:
            self._tell(operation, result)

    def _body(self, request: web.Request, bytes_max: int, limit: asyncio.Timeout | None) -> IncomingBody:
        """A body whose every chunk moves the deadline on: a slow line may take its time, a sender below the rate may not."""

        def moved() -> None:
            if limit is not None:
                self._allow(limit, 0)

        return IncomingBody(request, bytes_max, self._office.body_rate_min, self._rate_window_s, moved)

    def _allow(self, limit: asyncio.Timeout, size: int) -> None:
        """Move a deadline on: the ordinary time from now, or longer where so many bytes at the least rate take longer."""
        seconds = max(self._office.request_timeout_s, size / self._office.body_rate_min)
        limit.reschedule(asyncio.get_running_loop().time() + seconds)

    async def _drain(self, request: web.Request, takes_package: bool, refused: Refused) -> bool:
        """Read and throw away what the client still sends, within bounds. True when nothing of the body is left unread."""
        if not request.body_exists or request.content.at_eof():
            return True
        if isinstance(refused, BodyStopped):
            return False
        bytes_max = self._office.package_bytes_max + DRAIN_SLACK_BYTES if takes_package else SMALL_BODY_BYTES_MAX
        try:
            async with asyncio.timeout(self._office.request_timeout_s):
                return await drain(self._body(request, bytes_max, None))
        except TimeoutError:
            return False

    async def _say(self, request: web.Request, response: web.Response, whole: bool) -> web.StreamResponse:
        """The answer that refuses. whole: nothing of the request is left unread, so the connection may be used again."""
        if not whole:
            response.force_close()
        try:
            async with asyncio.timeout(self._office.request_timeout_s):
                return await write_whole(request, response)
        except (Gone, TimeoutError):
            return response


def shown_certificate(request: web.Request) -> str:
    """The fingerprint (SHA-256 of the DER, hex) of the certificate whose key the caller's connection has proven; "" for none."""
    shaken = None if request.transport is None else request.transport.get_extra_info("ssl_object")
    der = None if shaken is None else shaken.getpeercert(binary_form=True)
    return "" if der is None else hashlib.sha256(der).hexdigest()


async def expect(request: web.Request) -> web.StreamResponse | None:
    """`100 Continue` at once: the SDK waits 3 s for it. Another expectation is ignored: aiohttp would answer it with a page."""
    if request.version == HttpVersion11 and request.headers.get(hdrs.EXPECT, "").strip().lower() == "100-continue":
        try:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError:
            return None  # the client has left: its call finds that out, and so far nothing is wrong here
        request.writer.output_size = 0  # the answer itself has not begun
    return None

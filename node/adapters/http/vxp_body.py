"""The body of a VXP call: counted, timed, and cut where the SDK added two bytes. Nothing is kept but those two bytes.

Knows aiohttp's stream and the two words of `errors`; nothing of systems, signatures of headers, or answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from typing import Self

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from node.core.errors import Reason, Refused

RATE_WINDOW_S = 15.0
"""The least rate of a sender is judged over this much waiting."""
ADDED = b"\r\n"
"""What the SDK sends after the file."""


class BodyStopped(Refused):
    """The body ended before its end: too slow, too long, cut off. There is nothing to wait for any more."""


class IncomingBody:
    """The request's body as chunks of bytes, each at most what aiohttp buffers.

    Raises `BodyStopped`: more than `bytes_max`, fewer than `rate_min` bytes per second over a window of waiting, broken framing,
    connection lost. Only waiting counts towards the rate: a node that is slow itself blames nobody. `moved` is called per chunk.
    """

    def __init__(
        self, request: web.BaseRequest, bytes_max: int, rate_min: int, window_s: float, moved: Callable[[], None]
    ) -> None:
        self._content = request.content
        self._loop = asyncio.get_running_loop()
        self._bytes_max = bytes_max
        self._rate_min = rate_min
        self._window_s = window_s
        self._moved = moved
        self._total = 0
        self._in_window = 0
        self._left_s = window_s

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._read()
        if not chunk:
            raise StopAsyncIteration
        self._total += len(chunk)
        self._in_window += len(chunk)
        if self._total > self._bytes_max:
            raise BodyStopped(Reason.PACKAGE_TOO_LARGE, "body", "", str(self._bytes_max))
        self._moved()
        return chunk

    async def _read(self) -> bytes:
        while True:
            began = self._loop.time()
            try:
                async with asyncio.timeout(self._left_s):
                    chunk = await self._content.readany()
            except TimeoutError:
                self._judge_rate()
                continue
            except (OSError, HttpProcessingError, web.RequestPayloadError):
                raise BodyStopped(Reason.REQUEST_MALFORMED, "body") from None
            self._left_s -= self._loop.time() - began
            return chunk

    def _judge_rate(self) -> None:
        floor = int(self._rate_min * self._window_s)
        if self._in_window < floor:
            raise BodyStopped(Reason.REQUEST_MALFORMED, "body", f"{self._in_window} B", f"≥ {self._rate_min} B/s")
        self._in_window = 0
        self._left_s = self._window_s


async def drain(body: IncomingBody) -> bool:
    """Read on to the end and throw away: the SDK looks at no answer before its last byte is out. False: gave up early."""
    try:
        async for _ in body:
            pass
    except BodyStopped:
        return False
    return True


class PackageBody:
    """A file out of a sendEdoc body: as iterator of chunks, without the CR LF the SDK adds, checked against hash-file.

    The last two bytes are held back. At the end the file without them is compared first, then (other clients) the whole body;
    neither: `Refused(DIGEST_MISMATCH)`, before the last chunk is given out. A file's own final CR LF stays.
    """

    def __init__(self, body: IncomingBody, hash_file: str) -> None:
        self._body = body
        self._claimed = hash_file.strip().lower().encode()
        self._digest = hashlib.sha256()
        self._held = b""
        self.complete = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self.complete:
            raise StopAsyncIteration
        async for chunk in self._body:
            known = self._held + chunk
            self._held = known[-len(ADDED) :]
            ready = known[: -len(ADDED)]
            if ready:
                self._digest.update(ready)
                return ready
        self.complete = True
        rest = self._rest()
        if not rest:
            raise StopAsyncIteration
        return rest

    def _rest(self) -> bytes:
        """What of the two bytes held back belongs to the file."""
        if self._held == ADDED and self._matches():
            return b""
        self._digest.update(self._held)
        if not self._matches():
            raise Refused(Reason.DIGEST_MISMATCH, "hash-file")
        return self._held

    def _matches(self) -> bool:
        digest = self._digest.digest()
        return any(hmac.compare_digest(form.encode(), self._claimed) for form in (short_hex(digest), digest.hex()))


def short_hex(digest: bytes) -> str:
    """Hex as the SDK prints it: each byte without its leading zero, so that 0A becomes `a`."""
    return "".join(f"{byte:x}" for byte in digest)

"""Answers of the VXP face on their way out: small ones in one write, packages as a stream of exact length and constant memory.

An answer that cannot be finished breaks its connection: every SDK takes that for a failure, while a short body saved as a file
looks like a package. Knows aiohttp; nothing of what the bytes mean, who asked for them, or where they come from.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from aiohttp import hdrs, web

SMALL_BYTES_MAX = 256 * 1024
"""Up to here head and body leave in one write: two small writes cost the SDK 45 to 60 ms a call."""
STREAM_CHUNK_BYTES = 48 * 1024
"""Divisible by 3, so that the base64 of each chunk stands without padding."""

JSON_HEADERS: Mapping[str, str] = {hdrs.CONTENT_TYPE: "application/json"}
FILE_HEADERS: Mapping[str, str] = {hdrs.CONTENT_TYPE: "application/octet-stream"}

Allow = Callable[[int], None]
"""Called before so many bytes are written: the deadline moves on."""


class Gone(Exception):
    """The client left before its answer was out. Nothing is wrong here, and there is nobody to tell."""


async def write_whole(request: web.BaseRequest, response: web.Response) -> web.Response:
    """Send a small answer now, under the caller's deadline: a client that takes nothing must not hold its memory for ever."""
    with _cutting(request):
        await _sent(response.prepare(request))
        await _sent(response.write_eof())
    return response


async def write_stream(
    request: web.BaseRequest, parts: AsyncIterator[bytes], total: int, headers: Mapping[str, str], allow: Allow
) -> web.StreamResponse:
    """Send parts that are `total` bytes together; another sum is our bug, raised before the answer can look whole."""
    if total <= SMALL_BYTES_MAX:
        body = b"".join([part async for part in parts])
        _require_size(len(body), total)
        allow(len(body))
        return await write_whole(request, web.Response(body=body, headers=headers))
    part = await _next(parts)  # what fails before a byte is out can still be told in words
    response = web.StreamResponse(headers=headers)
    response.content_length = total
    written = 0
    with _cutting(request):
        await _sent(response.prepare(request))
        while part:
            following = await _next(parts)
            written += len(part)
            if not following or written >= total:  # the part that makes the answer look whole goes out only if it is
                _require_size(written + len(following), total)
            allow(len(part))
            await _sent(response.write(part))
            part = following
        await _sent(response.write_eof())
    return response


@asynccontextmanager
async def closing(chunks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close a stream that was not read to its end, where it can be closed: it may hold a file."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


async def as_base64(head: bytes, chunks: AsyncIterator[bytes], tail: bytes) -> AsyncIterator[bytes]:
    """The chunks as one base64 text between head and tail, cut anew so that padding stands at the very end only."""
    held = b""
    before = head
    async for chunk in chunks:
        held += chunk
        for start in range(0, len(held) - STREAM_CHUNK_BYTES + 1, STREAM_CHUNK_BYTES):
            yield before + base64.b64encode(held[start : start + STREAM_CHUNK_BYTES])
            before = b""
        held = held[len(held) - len(held) % STREAM_CHUNK_BYTES :]
    yield before + base64.b64encode(held) + tail


def base64_size(size: int) -> int:
    return 4 * ((size + 2) // 3)


def cut(request: web.BaseRequest) -> None:
    """Break the connection at once; what was promised and not sent can never look complete."""
    if request.transport is not None:
        request.transport.abort()


@contextmanager
def _cutting(request: web.BaseRequest) -> Iterator[None]:
    try:
        yield
    except BaseException:
        cut(request)
        raise


async def _next(parts: AsyncIterator[bytes]) -> bytes:
    """The next part that holds something; b"" after the last."""
    async for part in parts:
        if part:
            return part
    return b""


async def _sent(write: Awaitable[object]) -> None:
    try:
        await write
    except OSError as error:
        raise Gone from error


def _require_size(written: int, total: int) -> None:
    if written != total:
        raise RuntimeError(f"an answer of {total} bytes was promised, its parts made {written}")

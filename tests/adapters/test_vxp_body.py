"""The body on its way in: cut right however it was chopped, counted, timed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.adapters.http.vxp_body import BodyStopped, IncomingBody, PackageBody, drain, short_hex
from node.core.errors import Reason, Refused


class Feed:
    """aiohttp's stream as far as it is used: gives what the test lays out; a number is a wait in seconds."""

    def __init__(self, *parts: bytes | float | Exception) -> None:
        self._parts = list(parts)

    async def readany(self) -> bytes:
        while self._parts:
            part = self._parts[0]
            if isinstance(part, bytes):
                return cast(bytes, self._parts.pop(0))
            if isinstance(part, Exception):
                raise part
            began = asyncio.get_running_loop().time()
            try:
                await asyncio.sleep(part)
            except asyncio.CancelledError:
                self._parts[0] = part - (asyncio.get_running_loop().time() - began)
                raise
            self._parts.pop(0)
        return b""


def body_of(*parts: bytes | float | Exception, bytes_max: int = 1000, rate_min: int = 100, window_s: float = 0.1) -> IncomingBody:
    moved: list[int] = []
    request = cast(Any, SimpleNamespace(content=Feed(*parts)))
    return IncomingBody(request, bytes_max, rate_min, window_s, lambda: moved.append(1))


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


def chop(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


FILES = st.one_of(st.binary(min_size=1, max_size=40), st.lists(st.sampled_from([b"\r", b"\n", b"a"]), min_size=1).map(b"".join))


@given(FILES, st.lists(st.integers(0, 1000), max_size=6), st.booleans(), st.booleans())
def test_a_file_comes_out_as_it_was_however_the_body_was_chopped(file: bytes, cuts: list[int], added: bool, short: bool) -> None:
    digest = hashlib.sha256(file).digest()
    parts = chop(file + b"\r\n" if added else file, cuts)

    async def read() -> tuple[bytes, bool]:
        package = PackageBody(body_of(*parts), short_hex(digest) if short else digest.hex())
        return await whole(package), package.complete

    assert asyncio.run(read()) == (file, True)


@given(FILES, st.lists(st.integers(0, 1000), max_size=4), st.binary(min_size=1, max_size=3))
def test_any_other_end_is_another_file(file: bytes, cuts: list[int], extra: bytes) -> None:
    async def read() -> None:
        await whole(PackageBody(body_of(*chop(file + extra, cuts)), hashlib.sha256(file).hexdigest()))

    if extra == b"\r\n":
        asyncio.run(read())
        return
    with pytest.raises(Refused) as caught:
        asyncio.run(read())
    assert caught.value.reason is Reason.DIGEST_MISMATCH


async def test_the_whole_file_is_not_given_out_before_it_was_compared() -> None:
    given_out = b""
    package = PackageBody(body_of(b"abcdef"), "00")
    with pytest.raises(Refused):
        async for chunk in package:
            given_out += chunk
    assert (given_out == b"abcd" and not package.complete) or given_out == b"abcd"


def test_short_hex_loses_the_leading_zero_of_each_byte() -> None:
    assert short_hex(bytes([0x0A, 0x00, 0xFF, 0x10])) == "a0ff10"
    digest = hashlib.sha256(bytes.fromhex("3c613e7468e1bbad20313c2f613e0a")).digest()
    assert short_hex(digest) == "37f9fc5e33b3468ae5ac839d8352f98f89a7898b49f57ef68ae4c7c4bbcd915"


async def test_a_body_beyond_its_limit_stops() -> None:
    assert await whole(body_of(b"x" * 600, b"x" * 400)) == b"x" * 1000
    with pytest.raises(BodyStopped) as caught:
        await whole(body_of(b"x" * 600, b"x" * 401))
    assert (caught.value.reason, caught.value.rule) == (Reason.PACKAGE_TOO_LARGE, "1000")


async def test_silence_is_cut_off_after_a_window() -> None:
    with pytest.raises(BodyStopped) as caught:
        await whole(body_of(b"x" * 9, 60.0))
    assert caught.value.reason is Reason.REQUEST_MALFORMED and caught.value.rule == "≥ 100 B/s"


async def test_a_burst_does_not_buy_later_silence() -> None:
    with pytest.raises(BodyStopped):
        await whole(body_of(b"x" * 900, 60.0))


async def test_a_trickle_is_cut_off_though_it_never_falls_silent() -> None:
    parts: list[bytes | float] = []
    for _ in range(200):
        parts += [0.02, b"x"]
    with pytest.raises(BodyStopped):
        await whole(body_of(*parts))


async def test_a_steady_sender_above_the_rate_is_left_in_peace() -> None:
    parts: list[bytes | float] = []
    for _ in range(20):
        parts += [0.015, b"x" * 40]
    assert len(await whole(body_of(*parts))) == 800


async def test_a_node_that_is_slow_itself_blames_nobody() -> None:
    body = body_of(b"a", 0.001, b"b", 0.001, b"c")
    got = []
    async for chunk in body:
        await asyncio.sleep(0.12)  # longer than the window, on our side
        got.append(chunk)
    assert got == [b"a", b"b", b"c"]


@pytest.mark.parametrize("fault", [ConnectionResetError("gone"), OSError("gone")])
async def test_a_lost_connection_is_a_refusal(fault: Exception) -> None:
    with pytest.raises(BodyStopped) as caught:
        await whole(body_of(b"x", fault))
    assert caught.value.reason is Reason.REQUEST_MALFORMED
    assert await drain(body_of(b"x", fault)) is False


async def test_draining_ends_with_the_body_or_with_patience() -> None:
    assert await drain(body_of(b"x", b"y")) is True
    assert await drain(body_of(b"x" * 2000)) is False
    assert await drain(body_of(60.0)) is False

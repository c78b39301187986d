"""Packages on their way out as base64: one text, whatever the pieces."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from node.adapters.http.vxp_out import STREAM_CHUNK_BYTES, Gone, as_base64, base64_size, closing, write_whole


async def of(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def joined(pieces: list[bytes]) -> list[bytes]:
    async def run() -> list[bytes]:
        return [part async for part in as_base64(b"<", of(pieces), b">")]

    return asyncio.run(run())


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(0, 3))
def test_padding_stands_at_the_very_end_only(pieces: list[bytes], large: int) -> None:
    pieces = [*pieces, b"z" * (large * STREAM_CHUNK_BYTES + large), *pieces]
    whole = b"".join(pieces)
    text = b"".join(joined(pieces))
    assert text == b"<" + base64.b64encode(whole) + b">"
    assert len(text) == base64_size(len(whole)) + 2


def test_parts_stay_small_when_the_pieces_are_large() -> None:
    parts = joined([b"z" * (10 * STREAM_CHUNK_BYTES + 1)])
    assert len(parts) == 11 and max(map(len, parts)) <= base64_size(STREAM_CHUNK_BYTES) + 1


async def test_a_stream_left_early_is_closed() -> None:
    events: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"1"
            yield b"2"
        finally:
            events.append("closed")

    async with closing(pieces()) as stream:
        assert await anext(stream) == b"1"
        events.append("left")
    assert events == ["left", "closed"]


async def test_a_stream_that_cannot_be_closed_is_left_alone() -> None:
    class Plain:
        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> bytes:
            raise StopAsyncIteration

    async with closing(Plain()) as stream:
        assert [piece async for piece in stream] == []


async def test_a_client_that_left_is_told_apart_from_a_fault_of_ours() -> None:
    class Leaving(web.Response):
        async def prepare(self, request: web.BaseRequest) -> None:
            raise ConnectionResetError("gone")

    with pytest.raises(Gone):
        await write_whole(make_mocked_request("GET", "/"), Leaving())

"""A limit that moves on while bytes do, and ends when none does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from node.adapters.http.progress import LOOKS, Progress

LIMIT_S = 0.2


class Connection:
    """A connection of which the other side takes a byte whenever it is looked at, as long as it has any left to take. As those
    of uvloop it is no child of asyncio's."""

    def __init__(self, takes: int) -> None:
        self._left: Iterator[int] = iter(range(1000, 1000 - takes, -1))
        self._now = 1000
        self.looks = 0

    def get_write_buffer_size(self) -> int:
        self.looks += 1
        self._now = next(self._left, self._now)
        return self._now

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


async def waited_for(connection: Connection | None) -> Progress:
    """Wait until the limit is over."""
    limit = asyncio.timeout(LIMIT_S)
    progress = Progress(limit, LIMIT_S)
    progress.follow(cast("asyncio.BaseTransport | None", connection))
    with pytest.raises(TimeoutError):
        async with limit:
            await asyncio.Event().wait()
    progress.end()
    return progress


async def test_a_limit_counts_from_the_last_byte_that_moved() -> None:
    limit = asyncio.timeout(5.0)
    progress = Progress(limit, 60.0)
    async with limit:
        progress.begin()
        assert progress.began_s == progress.moved_s <= asyncio.get_running_loop().time()
        assert limit.when() == progress.moved_s + 60.0
        progress.end()
        progress.moved()
        assert limit.when() == progress.began_s + 60.0, "nobody waits any more"
    progress.moved()


async def test_a_connection_that_takes_something_moves_the_limit_and_one_that_takes_nothing_ends_it() -> None:
    moving, still = Connection(3 * LOOKS), Connection(1)
    await waited_for(moving)
    assert moving.looks >= 3 * LOOKS, "it was waited for as long as something moved"
    await waited_for(still)
    assert still.looks <= LOOKS + 1


async def test_what_is_no_connection_is_not_looked_at() -> None:
    assert (await waited_for(None)).moved_s == 0.0

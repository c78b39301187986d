"""Bodies that cross a link by themselves: chunk by chunk, torn, doubled, cut off; recorded once, and only when durable."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.core.errors import Deferred, Reason, Refused
from tests.tree import (
    H41,
    H54,
    HUB,
    UNIT,
    Tree,
    hold,
    org,
    planted,
    refused_with,
    spooled,
)

DAY_MS = 86_400_000
OFFICE, OTHER_OFFICE = org("H54.02"), org("H54.03")


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path, HUB, H41, H54, UNIT) as found:
        yield found


async def test_a_body_of_a_neighbour_is_durable_and_recorded_when_its_last_byte_is_answered(tree: Tree) -> None:
    parts = tree[HUB].duties.parts
    data = os.urandom(100_000)
    digest = hashlib.sha256(data).hexdigest()
    assert await parts.put(H41, digest, len(data), 0, data[:60_000]) == 60_000
    assert await parts.put(H41, digest, len(data), 0, b"") == 60_000
    assert await parts.put(H41, digest, len(data), 60_000, data[60_000:]) == 100_000
    assert tree[HUB].rows("SELECT digest,size FROM body") == [(digest, len(data))]
    assert await parts.put(H41, digest, len(data), 0, b"") == 100_000, "it is here: nothing need be sent"
    assert await parts.put(H54, digest, len(data), 0, b"") == 0, "but that is no news to others (decision 7)"


async def test_a_body_beyond_the_limit_or_its_own_size_is_refused(tree: Tree) -> None:
    parts = tree[HUB].duties.parts
    for size, offset, chunk in ((1 << 40, 0, b""), (10, 5, b"123456")):
        with pytest.raises(Refused) as caught:
            await parts.put(H41, "ab" * 32, size, offset, chunk)
        assert refused_with(caught) is Reason.PACKAGE_TOO_LARGE


async def test_a_body_finds_no_room_on_a_full_disk(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree[HUB].bodies, "free_ratio", lambda: -1.0)
    with pytest.raises(Deferred):
        await tree[HUB].duties.parts.put(H41, "ab" * 32, 10, 0, b"123")


def at_the_last_chunk(data: bytes) -> tuple[str, int, int, bytes]:
    """digest, size, offset, chunk of the request that completes a body."""
    return hashlib.sha256(data).hexdigest(), len(data), 60_000, data[60_000:]


async def test_the_last_chunk_twice_at_once_is_one_good_body(tree: Tree) -> None:
    """A request sent again while the first is still at work: both hear that the body is here, and it was finished once."""
    site, data = tree[HUB], os.urandom(100_000)
    digest, size, _, _ = last = at_the_last_chunk(data)
    put_body = site.duties.parts.put
    assert await put_body(H41, digest, size, 0, data[:60_000]) == 60_000
    assert await asyncio.gather(*(put_body(H41, *last) for _ in range(3))) == [size] * 3
    assert len(spooled(site)) == 1
    assert site.tally.value("truc_bodies_total", direction="in") == 1
    assert site.tally.value("truc_body_bytes_total", direction="in") == size


async def test_whoever_asks_while_a_body_is_recorded_waits_for_it(tree: Tree) -> None:
    """The part is gone and the row is not there yet: without waiting it would seem that nothing was ever sent."""
    site, data = tree[HUB], os.urandom(100_000)
    digest, size, _, _ = last = at_the_last_chunk(data)
    put_body = site.duties.parts.put
    await put_body(H41, digest, size, 0, data[:60_000])
    gate, entered = asyncio.Event(), asyncio.Event()
    hold(site, gate, entered)
    first = asyncio.ensure_future(put_body(H41, *last))
    await entered.wait()
    others = [asyncio.ensure_future(put_body(H41, digest, size, 0, chunk)) for chunk in (b"", data[:60_000])]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(each.done() for each in others)
    gate.set()
    assert await asyncio.gather(first, *others) == [size] * 3
    assert len(spooled(site)) == 1, "no new part was begun"


async def test_who_hangs_up_while_a_body_is_recorded_takes_it_from_nobody(tree: Tree) -> None:
    site, data = tree[HUB], os.urandom(100_000)
    digest, size, _, _ = last = at_the_last_chunk(data)
    put_body = site.duties.parts.put
    await put_body(H41, digest, size, 0, data[:60_000])
    gate, entered = asyncio.Event(), asyncio.Event()
    hold(site, gate, entered)
    calls = [asyncio.ensure_future(put_body(H41, *last)) for _ in range(3)]
    await entered.wait()
    for gone in calls[:2]:
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    gate.set()
    assert await calls[2] == size
    assert site.rows("SELECT digest,size FROM body") == [(digest, size)]


@pytest.mark.parametrize("recorded", [True, False])
async def test_a_chunk_whose_part_was_finished_while_it_waited_for_its_turn_hears_of_the_whole_body(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    """It finds no part: the sender must not be told to begin anew. recorded: whether the row is there by then."""
    site, data = tree[HUB], os.urandom(100_000)
    last = at_the_last_chunk(data)
    put_body, bodies = site.duties.parts.put, site.bodies
    await put_body(H41, *last[:2], 0, data[:60_000])
    gate, entered, turn, asked = (asyncio.Event() for _ in range(4))
    receive = bodies.receive

    async def late(*details: Any) -> int:
        asked.set()
        await turn.wait()
        return await receive(*details)

    with monkeypatch.context() as patch:
        patch.setattr(bodies, "receive", late)
        second = asyncio.ensure_future(put_body(H41, *last))
        await asked.wait()
    if not recorded:
        hold(site, gate, entered)
    first = asyncio.ensure_future(put_body(H41, *last))
    await (first if recorded else entered.wait())
    turn.set()
    if not recorded:
        for _ in range(5):
            await asyncio.sleep(0)
        gate.set()
    assert list(await asyncio.gather(first, second)) == [len(data)] * 2
    assert len(spooled(site)) == 1


async def test_a_body_nobody_waits_for_any_more_is_recorded_all_the_same(tree: Tree) -> None:
    site, data = tree[HUB], os.urandom(100_000)
    digest, size, _, _ = last = at_the_last_chunk(data)
    put_body = site.duties.parts.put
    await put_body(H41, digest, size, 0, data[:60_000])
    gate, entered = asyncio.Event(), asyncio.Event()
    hold(site, gate, entered)
    call = asyncio.ensure_future(put_body(H41, *last))
    await entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    await tree.until(lambda: site.tally.value("truc_bodies_total", direction="in") == 1)
    assert await put_body(H41, digest, size, 0, b"") == size
    assert len(spooled(site)) == 1


async def test_all_who_sent_a_damaged_body_hear_so_and_it_may_be_sent_again(tree: Tree) -> None:
    site, data = tree[HUB], os.urandom(100_000)
    digest, size, _, _ = last = at_the_last_chunk(data)
    put_body = site.duties.parts.put
    await put_body(H41, digest, size, 0, bytes(60_000))
    outcomes = await asyncio.gather(put_body(H41, *last), put_body(H41, *last), return_exceptions=True)
    assert [each.reason for each in outcomes if isinstance(each, Refused)] == [Reason.BODY_DAMAGED] * 2
    assert spooled(site) == []
    await put_body(H41, digest, size, 0, data[:60_000])
    assert await put_body(H41, *last) == size


async def test_a_part_that_a_power_cut_tore_is_asked_for_again_from_its_beginning(tree: Tree) -> None:
    """QĐ 28/2018 Điều 6.1; the sender has done nothing wrong, so nothing is refused."""
    data = os.urandom(100_000)
    digest, size, _, _ = last = at_the_last_chunk(data)
    await tree[HUB].duties.parts.put(H41, digest, size, 0, bytes(60_000))
    site = await tree.crash(HUB)
    put_body = site.duties.parts.put
    assert await put_body(H41, digest, size, 0, b"") == 60_000
    assert await put_body(H41, *last) == 0
    assert await put_body(H41, digest, size, 0, data[:60_000]) == 60_000
    assert await put_body(H41, *last) == size


@pytest.mark.parametrize(("code", "in_doubt", "files"), [(sqlite3.SQLITE_FULL, False, 0), (sqlite3.SQLITE_IOERR, True, 1)])
async def test_a_body_whose_row_could_not_be_written_leaves_its_file_only_if_the_row_may_be_there(
    tmp_path: Path, code: int, in_doubt: bool, files: int
) -> None:
    """Else every retry on a full disk would leave one more copy, until the next start."""
    async with planted(tmp_path, HUB, H41) as tree:
        site, data = tree[HUB], os.urandom(100_000)

        async def fails(work: Any) -> Any:
            error = sqlite3.OperationalError("the disk")
            error.sqlite_errorcode = code
            raise error

        site._connections[0].run = fails  # type: ignore[method-assign]
        with pytest.raises(Deferred) as caught:
            await site.duties.parts.put(H41, hashlib.sha256(data).hexdigest(), len(data), 0, data)
        assert caught.value.in_doubt is in_doubt
        assert len(spooled(site)) == files
        if in_doubt:
            with pytest.raises(Exception, match="the disk"):
                await site._tasks.pop()

"""What any Bodies owes its caller: bytes as they came, names that are never used again, parts that are resumed, nothing left
behind. On the machine's own files, and on the simulated disk under virtual time."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import random
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from node.adapters.bodies.files import Files, HostFiles
from node.adapters.bodies.folder import CHUNK_BYTES, FolderBodies
from node.core.custody import StoredBody
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from topology.sim.disk import Disk
from topology.sim.files import SimFiles
from topology.sim.loop import SimLoop
from topology.sim.record import Record, stream

INLINE_MAX = 1024
UNIT, OTHER = OrgId.canonical("H41.07"), OrgId.canonical("H41.08")
LARGE = random.Random(1).randbytes(3 * CHUNK_BYTES + 17)
YEAR_9999_MS = 253_370_764_800_000


class Machine(Protocol):
    """Where bodies are kept, and a look at it from outside."""

    def files(self) -> Files: ...

    def names(self) -> list[str]: ...

    def put(self, name: str, data: bytes | None) -> None:
        """Harm a file behind everybody's back; None: it is gone."""


class Host:
    def __init__(self, folder: Path) -> None:
        self._root = folder / "bodies"

    def files(self) -> Files:
        return HostFiles(self._root)

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())

    def put(self, name: str, data: bytes | None) -> None:
        (self._root / name).unlink()
        if data is not None:
            (self._root / name).write_bytes(data)


class Simulated:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._disk = Disk("machine", stream(1, "disk"), Record(loop.time))

    def files(self) -> Files:
        return SimFiles(self._disk, "bodies")

    def names(self) -> list[str]:
        return [path.removeprefix("bodies/") for path in self._disk.paths()]

    def put(self, name: str, data: bytes | None) -> None:
        self._disk.unlink(f"bodies/{name}")
        if data is not None:
            self._disk.load(f"bodies/{name}", data)


class Place:
    """Bodies on one machine; `open` begins a new run on what the last one left."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._numbers = itertools.count()
        self.bodies = self.open()

    def open(self) -> FolderBodies:
        self.bodies = FolderBodies(self.machine.files(), INLINE_MAX, lambda: f"token{next(self._numbers)}")
        return self.bodies

    async def spool(self, data: bytes, piece: int = 70_000) -> StoredBody:
        spooled = self.bodies.spool()
        for start in range(0, len(data), piece):
            await spooled.write(data[start : start + piece])
        return await spooled.finish()

    async def finish(self, data: bytes) -> StoredBody:
        body = await self.bodies.finish(UNIT, digest(data))
        assert body is not None
        return body

    async def file(self, data: bytes) -> str:
        body = await self.spool(data)
        assert body.file is not None
        return body.file


Story = Callable[[Place], Coroutine[Any, Any, None]]


def run_on_host(story: Story, folder: Path) -> None:
    async def told() -> None:
        place = Place(Host(folder))
        await story(place)
        place.bodies.close()

    asyncio.run(told())


def run_simulated(story: Story, folder: Path) -> None:
    loop = SimLoop()

    async def told() -> None:
        place = Place(Simulated(loop))
        await story(place)
        place.bodies.close()

    try:
        loop.run_until_complete(told())
    finally:
        loop.close()
    assert loop.problems == []


MACHINES = {"host": run_on_host, "simulated": run_simulated}
"""Another kind of files joins the contract with one line here."""


def contract(story: Story) -> Callable[[str, Path], None]:
    """A story about bodies as a test on every machine there is."""

    @pytest.mark.parametrize("machine", sorted(MACHINES))
    def test(machine: str, tmp_path: Path) -> None:
        MACHINES[machine](story, tmp_path)

    test.__doc__ = story.__doc__
    return test


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- spooling --------------------------------------------------------------------------------------------------------------


@contract
async def test_a_small_body_is_handed_back_and_touches_no_file(at: Place) -> None:
    for size in (0, 1, INLINE_MAX):
        assert await at.spool(LARGE[:size]) == StoredBody(digest(LARGE[:size]), size, data=LARGE[:size])
    assert at.machine.names() == []


@contract
async def test_a_large_body_is_one_file_and_its_bytes_are_those_that_came(at: Place) -> None:
    for size, piece in itertools.product((INLINE_MAX + 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(LARGE)), (9000, len(LARGE))):
        data = LARGE[:size]
        body = await at.spool(data, piece)
        assert (body.sha256, body.size, body.data) == (digest(data), size, None)
        assert body.file is not None
        assert at.machine.names() == [body.file]
        assert b"".join([chunk async for chunk in at.bodies.chunks(body.file, size)]) == data
        assert await at.bodies.read(body.file, 5, 7) == data[5:12]
        assert await at.bodies.intact(body.file, digest(data))
        await at.bodies.delete([body.file])


@contract
async def test_removing_one_copy_leaves_the_other_and_once_more_is_well(at: Place) -> None:
    first, second = await at.file(LARGE), await at.file(LARGE)
    for _ in range(2):
        await at.bodies.delete([first])
        assert at.machine.names() == [second]


@contract
async def test_what_is_discarded_leaves_nothing_and_what_is_finished_stays(at: Place) -> None:
    spooled = at.bodies.spool()
    await spooled.write(LARGE)
    assert len(at.machine.names()) == 1
    for _ in range(2):
        await spooled.discard()
        assert at.machine.names() == []
    spooled = at.bodies.spool()
    await spooled.write(LARGE)
    body = await spooled.finish()
    await spooled.discard()
    assert at.machine.names() == [body.file]


@contract
async def test_who_is_cut_off_in_the_middle_can_still_discard(at: Place) -> None:
    """The work goes on although nobody waits: what it has made is dropped too, also under its final name."""
    for finish in (False, True):
        spooled = at.bodies.spool()
        if finish:
            await spooled.write(LARGE)
        cut_off = asyncio.ensure_future(spooled.finish() if finish else spooled.write(LARGE))
        await asyncio.sleep(0)
        cut_off.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut_off
        await spooled.discard()
        assert at.machine.names() == []


# --- parts -----------------------------------------------------------------------------------------------------------------


@contract
async def test_a_part_grows_only_where_it_ends(at: Place) -> None:
    receive = at.bodies.receive
    assert await receive(UNIT, digest(LARGE), 0, b"") == 0
    assert await receive(UNIT, digest(LARGE), 0, LARGE[:100]) == 100
    for wrong in (0, 99, 101, 5000):
        assert await receive(UNIT, digest(LARGE), wrong, LARGE[wrong:]) == 100
    assert await receive(UNIT, digest(LARGE), 100, LARGE[100:]) == len(LARGE)
    body = await at.finish(LARGE)
    assert (body.sha256, body.size, at.machine.names()) == (digest(LARGE), len(LARGE), [body.file])
    assert body.file is not None
    assert await at.bodies.read(body.file, 0, len(LARGE)) == LARGE


@contract
async def test_a_chunk_that_comes_twice_at_once_is_added_once(at: Place) -> None:
    receive = at.bodies.receive
    chunks = [receive(UNIT, digest(LARGE), 0, LARGE[:100]), receive(UNIT, digest(LARGE), 0, LARGE[:100])]
    assert await asyncio.gather(*chunks) == [100, 100]
    rest = [receive(UNIT, digest(LARGE), 100, LARGE[100:]), receive(UNIT, digest(LARGE), 100, LARGE[100:])]
    assert await asyncio.gather(*rest) == [len(LARGE), len(LARGE)]
    assert (await at.finish(LARGE)).size == len(LARGE)


@contract
async def test_parts_of_two_neighbours_are_two_parts(at: Place) -> None:
    """Decision 7: what one has sent is no help to another who only knows the digest."""
    assert await at.bodies.receive(UNIT, digest(LARGE), 0, LARGE[:100]) == 100
    assert await at.bodies.receive(OTHER, digest(LARGE), 0, b"") == 0
    assert await at.bodies.receive(OrgId(()), digest(LARGE), 0, LARGE[:50]) == 50


@contract
async def test_a_part_that_is_not_what_its_digest_says_is_dropped(at: Place) -> None:
    """QĐ 28/2018 Điều 6.1; the next try begins anew instead of failing for ever."""
    await at.bodies.receive(UNIT, digest(LARGE), 0, LARGE[:-1] + b"?")
    with pytest.raises(Refused) as caught:
        await at.bodies.finish(UNIT, digest(LARGE))
    assert caught.value.reason is Reason.BODY_DAMAGED
    assert at.machine.names() == []
    assert await at.bodies.receive(UNIT, digest(LARGE), 0, b"") == 0


@contract
async def test_a_part_of_an_earlier_run_may_be_torn_and_comes_anew_but_only_once(at: Place) -> None:
    """Parts are not synced while they grow; after a power cut it is not the sender's bytes that are wrong."""
    await at.bodies.receive(UNIT, digest(LARGE), 0, bytes(100))
    at.bodies.close()
    at.open()
    await at.bodies.receive(UNIT, digest(LARGE), 100, LARGE[100:])
    assert await at.bodies.finish(UNIT, digest(LARGE)) is None
    assert at.machine.names() == []
    await at.bodies.receive(UNIT, digest(LARGE), 0, bytes(len(LARGE)))
    with pytest.raises(Refused):
        await at.bodies.finish(UNIT, digest(LARGE))
    await at.bodies.receive(UNIT, digest(LARGE), 0, LARGE)
    assert (await at.finish(LARGE)).size == len(LARGE)


@contract
async def test_a_part_that_this_run_has_begun_anew_is_its_own(at: Place) -> None:
    for left in (b"", LARGE[:100]):
        with closing(at.bodies.files.append(f"partial/{UNIT}-{digest(LARGE)}")) as handle:
            handle.write(left)
        at.bodies.close()
        at.open()
        if left:
            assert await at.bodies.forget_parts(YEAR_9999_MS) == 1
        await at.bodies.receive(UNIT, digest(LARGE), 0, bytes(len(LARGE)))
        with pytest.raises(Refused):
            await at.bodies.finish(UNIT, digest(LARGE))


@contract
async def test_only_parts_that_nobody_adds_to_are_forgotten(at: Place) -> None:
    await at.bodies.receive(UNIT, digest(LARGE), 0, LARGE[:10])
    assert await at.bodies.forget_parts(0) == 0
    assert at.machine.names() == [f"partial/H41.07-{digest(LARGE)}"]
    assert await at.bodies.forget_parts(YEAR_9999_MS) == 1
    assert at.machine.names() == []


# --- a new start, harm -----------------------------------------------------------------------------------------------------


@contract
async def test_a_new_start_sweeps_what_no_row_names_and_resumes_parts(at: Place) -> None:
    known, orphan = await at.file(LARGE), await at.file(LARGE[1:])
    with closing(at.bodies.files.create("spool/halfway")) as handle:
        handle.write(LARGE)
    await at.bodies.receive(UNIT, digest(LARGE[2:]), 0, LARGE[2:500])
    at.bodies.close()
    at.open()
    assert len(at.machine.names()) == 4
    assert await at.bodies.sweep({known}) == 2
    assert at.machine.names() == sorted([known, f"partial/H41.07-{digest(LARGE[2:])}"])
    assert orphan not in at.machine.names()
    assert await at.bodies.sweep({known}) == 0
    assert await at.bodies.receive(UNIT, digest(LARGE[2:]), 498, LARGE[500:]) == len(LARGE) - 2
    assert await at.bodies.intact(known, digest(LARGE))
    assert await at.bodies.whole(known, digest(LARGE)) == LARGE


@contract
async def test_harm_to_a_stored_body_is_found_and_is_a_refusal_of_that_body(at: Place) -> None:
    """QĐ 28/2018 Điều 6.1: also while it is stored."""
    flipped = LARGE[:1000] + bytes([LARGE[1000] ^ 1]) + LARGE[1001:]
    for harmed in (flipped, LARGE[:-1], None):
        file = await at.file(LARGE)
        at.machine.put(file, harmed)
        assert not await at.bodies.intact(file, digest(LARGE))
        assert await at.bodies.whole(file, digest(LARGE)) is None
        if harmed is not flipped:
            with pytest.raises(Refused) as caught:
                _ = [chunk async for chunk in at.bodies.chunks(file, len(LARGE))]
            assert caught.value.reason is Reason.BODY_DAMAGED


@contract
async def test_the_free_share_is_a_share(at: Place) -> None:
    assert 0.0 <= at.bodies.free_ratio() <= 1.0


@contract
async def test_an_error_of_the_disk_is_told_to_whoever_watches_also_when_only_a_request_met_it(at: Place) -> None:
    """Decision 3: the process ends, whoever was hit."""
    watching = asyncio.ensure_future(at.bodies.watch())
    await at.spool(LARGE)
    assert not watching.done()

    def work() -> None:
        raise OSError(errno.EIO, "EIO")

    with pytest.raises(OSError, match="EIO"):
        await at.bodies.do(work)
    with pytest.raises(OSError, match="EIO"):
        await watching

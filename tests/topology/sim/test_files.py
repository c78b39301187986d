"""Bodies on a simulated disk: what was promised survives a power cut at any operation; a promise without its sync does not."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from typing import Any, Literal

import pytest

from node.adapters.bodies import folder
from node.adapters.bodies.files import Files
from node.adapters.bodies.folder import FREE_S, SPOOL_BYTES, FolderBodies
from node.core.custody import StoredBody
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from topology.sim import files as sim_files
from topology.sim.clocks import EPOCH_MS
from topology.sim.disk import Disk
from topology.sim.files import SimFiles
from topology.sim.loop import Life, SimLoop
from topology.sim.record import Record, stream

INLINE_MAX = 1024
CHUNK_BYTES = 2048
"""Small, so that a body of a few kilobytes is many writes."""
UNIT = OrgId.canonical("H41.07")
DATA = [random.Random(number).randbytes(3 * CHUNK_BYTES + 700) for number in range(4)]
STORY_OPERATIONS = 120
"""More than any story here does, so that a cut drawn below it lands anywhere in it, or not at all."""

Telling = Callable[[FolderBodies], Coroutine[Any, Any, None]]
How = Literal["power", "kill"]
LOOPS: list[SimLoop] = []


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "CHUNK_BYTES", CHUNK_BYTES)


@pytest.fixture(autouse=True)
def closed_loops() -> Iterator[None]:
    """Also those of a test that fails, so that its own words are the last."""
    yield
    while LOOPS:
        LOOPS.pop().close()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Machine:
    """A disk and the processes that run on it, one after the other."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = SimLoop()
        LOOPS.append(self.loop)
        self.record = Record(self.loop.time)
        self.disk = Disk("machine", stream(seed, "disk"), self.record)
        self.disk.mkdir("data")
        self.disk.sync_folder("")  # laid by the installer
        self.lives = 0
        self._numbers = itertools.count()

    def files(self) -> SimFiles:
        return SimFiles(self.disk, "data/bodies")

    def run(self, telling: Telling, strike: tuple[int, How] | None = None, end: How = "kill") -> bool:
        """One process tells its story, struck at an operation or ended thereafter; then the disk is mounted again. Returns
        whether the story came to its end."""
        self.lives += 1
        life = Life(self.loop, f"life {self.lives}")
        if strike is not None:
            self.disk.strike_in(*strike, life.end)

        async def process() -> None:
            await telling(FolderBodies(self.files(), INLINE_MAX, lambda: f"token{next(self._numbers)}"))

        async def watched() -> bool:
            over = asyncio.get_running_loop().create_future()
            life.ending.append(lambda: over.set_result(None))
            task = life.start(process())
            await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
            if life.alive:
                await task  # raises what the story raised
                life.end()
                self.disk.die(end == "power")
            return not task.cancelled() and task.done() and task.exception() is None

        ended_well = self.loop.run_until_complete(watched())
        self.disk.mount()
        return ended_well

    def names(self) -> list[str]:
        return [path.removeprefix("data/bodies/") for path in self.disk.paths()]

    def close(self) -> None:
        self.loop.close()
        assert self.loop.problems == []


async def spool(bodies: FolderBodies, data: bytes) -> StoredBody:
    spooled = bodies.spool()
    for start in range(0, len(data), 1000):
        await spooled.write(data[start : start + 1000])
    return await spooled.finish()


async def finish(bodies: FolderBodies, data: bytes) -> StoredBody:
    body = await bodies.finish(UNIT, digest(data))
    assert body is not None
    return body


async def receive(bodies: FolderBodies, data: bytes, upto: int | None = None) -> None:
    """As a neighbour sends: from where the part ends."""
    end = len(data) if upto is None else upto
    held = await bodies.receive(UNIT, digest(data), 0, b"")
    while held < end:
        held = await bodies.receive(UNIT, digest(data), held, data[held : min(held + 1500, end)])


def play(seed: int, strike: int, how: How) -> tuple[Machine, list[StoredBody], list[str]]:
    """A process keeps four bodies in both ways and removes one; it is struck at an operation. Returns what was promised, and
    what the next process finds missing or damaged of it."""
    machine, promised, broken = Machine(seed), list[StoredBody](), list[str]()

    async def keep(bodies: FolderBodies) -> None:
        promised.append(await spool(bodies, DATA[0]))
        await receive(bodies, DATA[1])
        promised.append(await finish(bodies, DATA[1]))
        await bodies.delete([promised.pop(0).file or ""])
        promised.append(await spool(bodies, DATA[2]))
        await receive(bodies, DATA[3])
        promised.append(await finish(bodies, DATA[3]))

    async def look(bodies: FolderBodies) -> None:
        known = {body.file or "" for body in promised}
        await bodies.sweep(known)
        broken.extend([body.file or "" for body in promised if not await bodies.intact(body.file or "", body.sha256)])

    machine.run(keep, (strike, how))
    machine.run(look)
    machine.close()
    return machine, promised, broken


# --- what a power cut leaves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["power", "kill"])
def test_a_promised_body_survives_the_end_at_any_later_operation(how: How) -> None:
    survived = 0
    for seed in range(6):
        for strike in range(1, STORY_OPERATIONS):
            machine, promised, broken = play(seed, strike, how)
            assert broken == [], f"seed {seed}, operation {strike}"
            left = {name for name in machine.names() if not name.startswith("partial/")}
            assert left == {body.file for body in promised}, f"seed {seed}, operation {strike}"
            survived += len(promised)
    assert survived > 1000


@pytest.mark.parametrize(("owner", "name"), [(sim_files._SimFile, "sync"), (SimFiles, "sync_folder")])
def test_a_body_promised_before_its_sync_is_lost_in_some_cut(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    monkeypatch.setattr(owner, name, lambda *_: None)
    broken = [
        found for seed in range(4) for strike in range(10, STORY_OPERATIONS, 3) if (found := play(seed, strike, "power")[2])
    ]
    assert len(broken) > 5


def test_folders_that_a_killed_process_had_made_are_as_good_as_those_made_now() -> None:
    """The next start syncs what it finds, too: it cannot know whether the one before came so far."""
    for seed, strike in itertools.product(range(8), range(1, 20)):
        machine = Machine(seed)
        promised: list[StoredBody] = []

        async def die_young(bodies: FolderBodies) -> None:
            await spool(bodies, DATA[0])
            await spool(bodies, DATA[0])

        async def keep(bodies: FolderBodies, promised: list[StoredBody] = promised) -> None:
            promised.append(await spool(bodies, DATA[0]))

        assert not machine.run(die_young, (strike, "kill"))
        assert machine.run(keep, end="power")
        assert promised[0].file in machine.names(), f"seed {seed}, operation {strike}"
        machine.close()


def test_a_body_promised_after_the_sync_of_its_new_shelf_found_no_room_survives_a_power_cut() -> None:
    """The shelf is there, but nothing has made its entry durable."""
    for seed in range(12):
        machine = Machine(seed)
        promised: list[StoredBody] = []

        async def keep(bodies: FolderBodies, machine: Machine = machine, promised: list[StoredBody] = promised) -> None:
            machine.disk.fail("sync", errno.ENOSPC, after_operations=1)  # the file; then the root
            with pytest.raises(Deferred):
                await spool(bodies, DATA[0])
            assert machine.disk.exists(f"data/bodies/{digest(DATA[0])[:2]}")
            promised.append(await spool(bodies, DATA[0]))

        assert machine.run(keep, end="power")
        assert promised[0].file in machine.names(), f"seed {seed}"
        machine.close()


def test_a_part_survives_a_kill_and_is_resumed() -> None:
    machine = Machine()
    held: list[int] = []

    async def begin(bodies: FolderBodies) -> None:
        await receive(bodies, DATA[0], 3000)
        await spool(bodies, DATA[1])
        raise AssertionError("it was to die in the spool")

    async def go_on(bodies: FolderBodies) -> None:
        await bodies.sweep(set())
        held.append(await bodies.receive(UNIT, digest(DATA[0]), 0, b""))
        await receive(bodies, DATA[0])
        assert (await finish(bodies, DATA[0])).size == len(DATA[0])

    assert not machine.run(begin, (22, "kill"))
    assert len(machine.names()) == 2
    assert machine.run(go_on)
    assert held == [3000]
    assert len(machine.names()) == 1
    machine.close()


def test_a_part_that_a_power_cut_tore_is_dropped_and_sent_anew() -> None:
    """Parts are not synced while they grow: what is left may be shorter, or wrong in the middle, and never passes for whole."""
    outcomes = set()
    for seed in range(30):
        machine = Machine(seed)

        async def begin(bodies: FolderBodies) -> None:
            await receive(bodies, DATA[0])

        async def go_on(bodies: FolderBodies) -> None:
            await receive(bodies, DATA[0])
            body = await bodies.finish(UNIT, digest(DATA[0]))
            outcomes.add("torn" if body is None else "whole")
            if body is None:
                await receive(bodies, DATA[0])
                await finish(bodies, DATA[0])

        assert machine.run(begin, end="power")
        assert machine.run(go_on)
        machine.close()
    assert outcomes == {"whole", "torn"}


# --- a disk that is full, fails, or takes long -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["capacity", "write", "sync"])
def test_a_full_disk_is_later_and_what_was_begun_is_cleared(how: Literal["capacity", "write", "sync"]) -> None:
    machine = Machine()

    async def story(bodies: FolderBodies) -> None:
        spooled = bodies.spool()
        await spooled.write(DATA[0][:2500])
        if how == "capacity":
            machine.disk.capacity_bytes = machine.disk.used_bytes() + 100
        else:
            machine.disk.fail(how, errno.ENOSPC)
        with pytest.raises(Deferred) as caught:
            await spooled.write(DATA[0][2500:])
            await spooled.finish()
        assert caught.value.reason is Reason.DISK_FULL
        await spooled.discard()
        assert machine.names() == []
        machine.disk.capacity_bytes = 100_000
        assert bodies.free_ratio() == 1.0
        await spool(bodies, DATA[0])
        await asyncio.sleep(FREE_S)
        assert bodies.free_ratio() == pytest.approx(1 - len(DATA[0]) / 100_000)

    assert machine.run(story)
    machine.close()


def test_a_body_whose_name_could_not_be_made_durable_leaves_nothing_behind() -> None:
    """Else every retry on a full disk would leave one more copy."""
    machine = Machine()

    async def story(bodies: FolderBodies) -> None:
        for others in (2, 1, 1):  # syncs before that of the shelf: the file's, and the root's for a new shelf
            machine.disk.fail("sync", errno.ENOSPC, after_operations=others)
            spooled = bodies.spool()
            await spooled.write(DATA[0])
            with pytest.raises(Deferred):
                await spooled.finish()
            await spooled.discard()
            assert machine.names() == []
        await receive(bodies, DATA[0])
        machine.disk.fail("sync", errno.ENOSPC, after_operations=1)
        with pytest.raises(Deferred):
            await bodies.finish(UNIT, digest(DATA[0]))
        assert machine.names() == []
        body = await spool(bodies, DATA[0])
        assert machine.names() == [body.file]

    assert machine.run(story)
    machine.close()


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_any_other_error_of_the_disk_passes_through(kind: Literal["write", "sync"]) -> None:
    """Decision 3: it ends the process; and nobody has heard a name."""
    machine = Machine()

    async def story(bodies: FolderBodies) -> None:
        machine.disk.fail(kind, errno.EIO)
        with pytest.raises(OSError, match="Input/output") as caught:
            await spool(bodies, DATA[0])
        assert caught.value.errno == errno.EIO

    assert machine.run(story)
    machine.close()


def test_a_part_whose_sync_failed_is_never_believed_again() -> None:
    machine = Machine()

    async def story(bodies: FolderBodies) -> None:
        await receive(bodies, DATA[0])
        machine.disk.fail("sync", errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            await bodies.finish(UNIT, digest(DATA[0]))
        assert machine.names() == []

    assert machine.run(story)
    machine.close()


def test_a_sector_that_cannot_be_read_is_the_fault_of_one_body() -> None:
    machine = Machine()

    async def story(bodies: FolderBodies) -> None:
        body = await spool(bodies, DATA[0])
        machine.disk.fail("read", errno.EIO, times=2)
        assert not await bodies.intact(body.file or "", body.sha256)
        with pytest.raises(Refused) as caught:
            await bodies.read(body.file or "", 0, 10)
        assert caught.value.reason is Reason.BODY_DAMAGED
        assert await bodies.intact(body.file or "", body.sha256)

    assert machine.run(story)
    machine.close()


def test_a_flipped_bit_is_found() -> None:
    machine = Machine()

    async def story(bodies: FolderBodies) -> None:
        body = await spool(bodies, DATA[0])
        machine.disk.flip(f"data/bodies/{body.file}", stream(1, "flip"))
        assert not await bodies.intact(body.file or "", body.sha256)

    assert machine.run(story)
    machine.close()


def test_work_takes_virtual_time_also_when_it_fails() -> None:
    machine = Machine()

    async def story(bodies: FolderBodies) -> None:
        await bodies.read((await spool(bodies, DATA[0])).file or "", 0, 1)
        start_s = machine.loop.time()
        machine.disk.fail("write", errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            await bodies.receive(UNIT, digest(DATA[0]), 0, DATA[0])
        assert machine.loop.time() > start_s
        machine.disk.slow_s = 5.0
        start_s = machine.loop.time()
        await spool(bodies, DATA[0])
        assert machine.loop.time() - start_s > 10.0  # the file and its folder

    assert machine.run(story)
    machine.close()


def test_a_part_is_as_old_as_the_machines_clock_says() -> None:
    machine = Machine()

    async def story(bodies: FolderBodies) -> None:
        await asyncio.sleep(100.0)
        await receive(bodies, DATA[0], 10)
        assert await bodies.forget_parts(EPOCH_MS + 100_000) == 0
        assert await bodies.forget_parts(EPOCH_MS + 101_000) == 1
        await receive(bodies, DATA[0], 10)
        behind = FolderBodies(SimFiles(machine.disk, "data/bodies", lambda second: int(second)), INLINE_MAX, str)
        assert await behind.forget_parts(100) == 0
        assert await behind.forget_parts(101) == 1

    assert machine.run(story)
    machine.close()


# --- who is dead does nothing ----------------------------------------------------------------------------------------------


def test_a_killed_process_removes_nothing_of_what_its_successor_finds() -> None:
    """Its clean-up would: a coroutine is left by way of its `finally`, and the disk may be mounted again by then."""
    machine = Machine()
    life = Life(machine.loop, "first")
    said: list[str] = []

    async def story() -> None:
        bodies = FolderBodies(machine.files(), INLINE_MAX, lambda: "token")
        spooled = bodies.spool()
        await spooled.write(bytes(SPOOL_BYTES))
        try:
            await asyncio.sleep(1000)
        finally:
            said.append("closed")
            await spooled.discard()

    async def world() -> None:
        life.start(story())
        await asyncio.sleep(10)
        life.end()
        machine.disk.die(power=False)
        machine.disk.mount()
        await asyncio.sleep(10)

    machine.loop.run_until_complete(world())
    assert said == ["closed"]
    assert machine.names() == ["spool/token"]
    machine.close()


# --- the calls themselves --------------------------------------------------------------------------------------------------


def test_the_calls_answer_as_the_machines_own_do() -> None:
    """What the stories above do not reach; tests/contracts tells the rest on both."""
    machine = Machine()
    files: Files = machine.files()
    files.make_root()
    files.make_root()
    files.make_folder("shelf")
    files.make_folder("shelf")
    with closing(files.create("shelf/b")) as handle:
        handle.write(b"abc")
    with pytest.raises(FileExistsError):
        files.create("shelf/b")
    with closing(files.append("shelf/a")) as handle:
        handle.write(b"abc")
        assert handle.read(1, 5) == b"bc"
        handle.write(b"def")
    assert files.size("shelf/a") == 6
    assert files.names("shelf") == ["a", "b"]
    assert files.names("missing") == files.names("shelf/a") == []
    files.rename("shelf/a", "shelf/b")
    assert files.size("shelf/b") == 6
    assert not files.exists("shelf/a")
    files.unlink("shelf/a", missing_ok=True)
    for call in (files.unlink, files.open, files.size, files.modified_ms):
        with pytest.raises(FileNotFoundError):
            call("shelf/a")
    machine.close()


def test_a_seed_tells_its_story_twice_in_the_same_words() -> None:
    assert play(3, 40, "power")[0].record.digest() == play(3, 40, "power")[0].record.digest()
    assert play(3, 40, "power")[0].record.digest() != play(4, 40, "power")[0].record.digest()

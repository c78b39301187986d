"""What a simulated disk keeps, loses and refuses."""

from __future__ import annotations

import errno
import itertools
import random
from typing import Any

import pytest

from topology.sim.disk import NAMINGS_MAX, Disk, File, How
from topology.sim.loop import Ended
from topology.sim.platter import SECTOR
from topology.sim.record import Record


class Now:
    """A clock moved by hand."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def a_disk(seed: int = 1, now: Now | None = None) -> Disk:
    return Disk("h41", random.Random(seed), Record(now or Now()))


def durable(disk: Disk, path: str, content: bytes) -> File:
    disk.load(path, content)
    return disk.open(path)


def after(disk: Disk, how: How) -> Disk:
    disk.die(power=how == "power")
    disk.mount()
    return disk


def outcomes(path: str, prepare: Any, seeds: int = 60) -> set[bytes | None]:
    """What power cuts of many seeds leave of a file; None: it is gone."""
    found: set[bytes | None] = set()
    for seed in range(seeds):
        disk = a_disk(seed)
        prepare(disk)
        after(disk, "power")
        found.add(disk.content(path) if path in disk.paths() else None)
    return found


# --- contents --------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_and_holes_are_zeros() -> None:
    disk = a_disk()
    file = disk.open("a", create=True)
    disk.write(file, 3, b"xyz")
    disk.append(file, b"!")
    assert disk.read(file, 0, 100) == b"\0\0\0xyz!"
    disk.truncate(file, 4)
    disk.truncate(file, 6)
    assert (disk.read(file, 2, 9), disk.size(file)) == (b"\0x\0\0", 6)


def test_a_power_cut_keeps_or_drops_each_write_that_was_not_synced_by_itself() -> None:
    def two_writes(disk: Disk) -> None:
        file = durable(disk, "a", b"....")
        disk.write(file, 0, b"1")
        disk.write(file, 2, b"2")

    assert outcomes("a", two_writes) == {b"....", b"1...", b"..2.", b"1.2."}


def test_a_kept_write_may_be_torn_but_only_between_sectors() -> None:
    def one_write(disk: Disk) -> None:
        disk.write(durable(disk, "a", b"." * 4 * SECTOR), SECTOR // 2, b"x" * 2 * SECTOR)

    found = {content for content in outcomes("a", one_write, 200) if content is not None}
    half = SECTOR // 2
    cuts = (0, half, SECTOR, 2 * SECTOR, 2 * SECTOR + half, 4 * SECTOR)
    pieces = {tuple(frozenset(content[a:b]) for a, b in itertools.pairwise(cuts)) for content in found}
    assert all(len(piece) == 1 for parts in pieces for piece in parts)
    assert len(found) > 4, "torn in more than one way"


def test_a_synced_write_survives_every_power_cut() -> None:
    def synced(disk: Disk) -> None:
        file = durable(disk, "a", b"....")
        disk.write(file, 0, b"12")
        disk.truncate(file, 3)
        disk.sync(file)
        disk.write(file, 3, b"!")

    assert outcomes("a", synced) == {b"12.", b"12.!"}


def test_a_cut_of_a_file_that_was_not_synced_may_come_undone() -> None:
    def cut(disk: Disk) -> None:
        disk.truncate(durable(disk, "a", b"12345"), 2)

    assert outcomes("a", cut) == {b"12345", b"12"}


def test_a_kill_keeps_everything_written_but_a_later_power_cut_may_lose_it() -> None:
    def killed(disk: Disk) -> None:
        disk.write(durable(disk, "a", b"...."), 0, b"12")
        assert after(disk, "kill").content("a") == b"12.."

    assert outcomes("a", killed) == {b"....", b"12.."}


def test_after_a_failed_sync_no_later_one_brings_the_rest_to_the_platter() -> None:
    """As Linux behaves: the pages count as clean, whatever became of them."""

    def failed(disk: Disk) -> None:
        file = durable(disk, "a", b"....")
        disk.write(file, 0, b"1")
        disk.fail("sync", errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            disk.sync(file)
        disk.write(file, 2, b"2")
        disk.sync(file)
        assert disk.read(file, 0, 4) == b"1.2."

    assert outcomes("a", failed) == {b"1.2.", b"..2."}


def test_a_lying_disk_says_yes_and_loses() -> None:
    def lied(disk: Disk) -> None:
        disk.lying = True
        file = durable(disk, "a", b"....")
        disk.write(file, 0, b"1")
        disk.sync(file)

    assert outcomes("a", lied) == {b"....", b"1..."}


def test_a_bit_flips_at_rest_and_nothing_else_changes() -> None:
    disk = a_disk()
    disk.load("a", bytes(64))
    disk.flip("a", random.Random(3))
    assert sum(byte.bit_count() for byte in disk.content("a")) == 1
    assert after(disk, "power").content("a") != bytes(64)


# --- names -----------------------------------------------------------------------------------------------------------------


def test_a_new_file_may_vanish_until_its_folder_is_synced() -> None:
    def made(disk: Disk) -> None:
        disk.sync(disk.open("a", create=True))

    def kept(disk: Disk) -> None:
        made(disk)
        disk.sync_folder("")

    assert outcomes("a", made) == {None, b""}
    assert outcomes("a", kept) == {b""}


def test_a_rename_happens_wholly_or_not_and_surely_once_its_folder_is_synced() -> None:
    for synced in (False, True):
        found = set()
        for seed in range(60):
            disk = a_disk(seed)
            disk.load("in/x", b"new")
            disk.load("out/x", b"old")
            disk.rename("in/x", "out/x")
            if synced:
                disk.sync_folder("out")
            after(disk, "power")
            found.add(tuple((path, disk.content(path)) for path in disk.paths()))
        moved, not_moved = (("out/x", b"new"),), (("in/x", b"new"), ("out/x", b"old"))
        assert found == ({moved} if synced else {moved, not_moved})


def test_a_removed_file_may_come_back_until_its_folder_is_synced() -> None:
    def removed(disk: Disk) -> None:
        disk.load("a", b"x")
        disk.unlink("a")

    def surely_removed(disk: Disk) -> None:
        removed(disk)
        disk.sync_folder("")

    assert outcomes("a", removed) == {None, b"x"}
    assert outcomes("a", surely_removed) == {None}


def test_a_folder_that_was_never_made_durable_takes_its_files_with_it() -> None:
    def filled(disk: Disk) -> None:
        disk.mkdir("f")
        disk.open("f/a", create=True)
        disk.sync_folder("f")

    assert outcomes("f/a", filled) == {None, b""}


def test_changes_of_names_that_nobody_syncs_reach_the_platter_in_the_end() -> None:
    disk = a_disk()
    for number in range(NAMINGS_MAX + 1):
        disk.close(disk.open(f"f{number}", create=True))
    assert "f0" in after(disk, "power").paths()


def test_a_file_outlives_its_name_while_it_is_open_and_takes_room_until_then() -> None:
    disk = a_disk()
    file = durable(disk, "a", b"12345")
    disk.unlink("a")
    assert (disk.read(file, 0, 9), disk.used_bytes(), disk.exists("a")) == (b"12345", 5, False)
    disk.close(file)
    assert disk.used_bytes() == 0


@pytest.mark.parametrize(
    ("number", "call"),
    [
        (errno.ENOENT, lambda disk: disk.open("nowhere")),
        (errno.ENOENT, lambda disk: disk.open("no/where", create=True)),
        (errno.EEXIST, lambda disk: disk.open("f/a", create=True, exclusive=True)),
        (errno.EISDIR, lambda disk: disk.open("f")),
        (errno.EEXIST, lambda disk: disk.mkdir("f")),
        (errno.EEXIST, lambda disk: disk.mkdir("f/a", exist_ok=True)),
        (errno.ENOTEMPTY, lambda disk: disk.rmdir("f")),
        (errno.ENOTDIR, lambda disk: disk.rmdir("f/a")),
        (errno.ENOENT, lambda disk: disk.unlink("b")),
        (errno.EISDIR, lambda disk: disk.unlink("f")),
        (errno.ENOENT, lambda disk: disk.rename("b", "c")),
        (errno.EISDIR, lambda disk: disk.rename("f/a", "f")),
        (errno.ENOTDIR, lambda disk: disk.listdir("f/a")),
        (errno.ENOENT, lambda disk: disk.stat("b")),
    ],
)
def test_what_cannot_be_done_is_refused_as_a_real_disk_refuses_it(number: int, call: Any) -> None:
    disk = a_disk()
    disk.load("f/a", b"x")
    with pytest.raises(OSError) as refused:
        call(disk)
    assert refused.value.errno == number
    assert disk.paths() == ["f/a"]


def test_a_folder_is_listed_in_order_and_a_file_knows_when_it_was_changed() -> None:
    now = Now()
    disk = a_disk(now=now)
    for name in ("b", "a", "c"):
        disk.load(f"f/{name}", b"12")
    now.seconds = 7.5
    disk.append(disk.open("f/b"), b"3")
    assert disk.listdir("/f/") == ["a", "b", "c"]
    assert (disk.stat("f/b").size, disk.mtime("f/b"), disk.mtime("f/a")) == (3, 7.5, 0.0)
    assert (disk.stat("f").is_folder, disk.exists("f/d")) == (True, False)


# --- faults ----------------------------------------------------------------------------------------------------------------


def test_a_full_disk_takes_nothing_more_until_it_has_room() -> None:
    disk = a_disk()
    disk.capacity_bytes = 10
    file = durable(disk, "a", b"12345678")
    assert disk.free_ratio() == pytest.approx(0.2)
    with pytest.raises(OSError, match="No space"):
        disk.append(file, b"abc")
    disk.write(file, 0, b"overwriting needs none"[:8])
    disk.append(file, b"90")
    with pytest.raises(OSError, match="No space"):
        disk.open("b", create=True)
    assert (disk.size(file), disk.free_ratio()) == (10, 0.0)
    disk.capacity_bytes = 20
    disk.append(file, b"abc")
    disk.unlink("a")
    disk.close(file)
    assert disk.free_ratio() == 1.0


def test_an_injected_error_strikes_its_kind_only_after_so_many_and_so_often() -> None:
    disk = a_disk()
    file = durable(disk, "a", b"x")
    disk.fail("write", errno.EIO, after_operations=1, times=2)
    disk.write(file, 0, b"1")
    for _ in range(2):
        disk.sync(file)
        assert disk.read(file, 0, 1) == b"1"
        with pytest.raises(OSError, match="Input/output"):
            disk.write(file, 0, b"2")
    disk.write(file, 0, b"3")
    assert disk.content("a") == b"3"


@pytest.mark.parametrize("how", ["power", "kill"])
def test_a_struck_machine_dies_at_that_very_operation_and_answers_nothing_until_it_is_mounted(how: How) -> None:
    told: list[int] = []
    had_effect = set()
    for seed in range(20):
        disk = a_disk(seed)
        file = durable(disk, "a", b"....")
        disk.strike_in(3, how, lambda disk=disk: told.append(disk.operations))  # type: ignore[misc]
        disk.read(file, 0, 1)
        disk.size(file)
        with pytest.raises(Ended):
            disk.write(file, 0, b"1")
        had_effect.add(disk.content("a"))
        with pytest.raises(Ended):
            disk.read(file, 0, 1)
        with pytest.raises(Ended):
            disk.exists("a")
        disk.mount()
        with pytest.raises(Ended):
            disk.write(file, 0, b"2")
        disk.close(file)
        assert disk.read(disk.open("a"), 1, 3) == b"..."
    assert told == [4] * 20, "opening was the first"
    assert had_effect == {b"....", b"1..."}, "dead before it, or after it and before anybody heard"


def test_work_takes_time_and_waits_behind_other_work() -> None:
    now = Now()
    disk = a_disk(now=now)
    file = durable(disk, "a", b"")
    assert disk.take_busy_s() > 0
    now.seconds = 1.0
    assert disk.take_busy_s() == 0.0
    disk.slow_s = 2.0
    disk.sync(file)
    first = disk.take_busy_s()
    disk.slow_s = 0.0
    disk.sync(file)
    second = disk.take_busy_s()
    assert 2.0 < first < second < 2.3
    now.seconds = 100.0
    disk.read(file, 0, 1)
    assert 0 < disk.take_busy_s() < 0.001


def test_the_same_seed_dies_in_the_same_way() -> None:
    def run(seed: int) -> tuple[bytes, int, str]:
        record = Record(Now())
        disk = Disk("h41", random.Random(seed), record)
        file = durable(disk, "a", b"." * 8192)
        disk.strike_in(40, "power", lambda: None)
        with pytest.raises(Ended):
            for number in range(50):
                disk.write(file, number * 100, b"x" * 700)
                disk.take_busy_s()
        disk.mount()
        return disk.content("a"), disk.operations, record.digest()

    assert run(5) == run(5)
    assert len({run(seed)[0] for seed in range(10)}) > 3

"""The machine's own files: one thread in order, private, synced when they say so, errors as the system gives them."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from node.adapters.bodies.files import COPY_BYTES, HostFiles, renew


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HostFiles]:
    files = HostFiles(tmp_path / "above" / "root")
    files.make_root()
    yield files
    files.close()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Last name of whatever is synced, in order."""
    found: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: found.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name))
    return found


def put(host: HostFiles, name: str, data: bytes) -> None:
    with closing(host.append(name)) as handle:
        handle.write(data)


def get(host: HostFiles, name: str) -> bytes:
    with closing(host.open(name)) as handle:
        return handle.read(0, 1000)


# --- where work runs -------------------------------------------------------------------------------------------------------


async def test_work_runs_on_one_thread_that_is_not_the_loops_in_the_order_of_the_calls(host: HostFiles) -> None:
    began: list[int] = []

    def work(number: int) -> int:
        began.append(number)
        return threading.get_ident()

    threads = await asyncio.gather(*(host.do(partial(work, number)) for number in range(20)))
    assert began == list(range(20))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


async def test_work_runs_to_its_end_though_nobody_waits_and_close_waits_for_it(host: HostFiles) -> None:
    began, go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        go.wait(10)
        done.set()

    waiting = asyncio.ensure_future(host.do(work))
    await asyncio.to_thread(began.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    host.close()
    assert done.is_set()


async def test_what_work_raises_its_caller_hears(host: HostFiles) -> None:
    with pytest.raises(FileNotFoundError):
        await host.do(lambda: host.size("nothing"))


# --- folders ---------------------------------------------------------------------------------------------------------------


def test_the_root_is_made_with_what_is_above_it_and_its_entry_is_synced_also_if_it_was_there(
    tmp_path: Path, synced: list[str]
) -> None:
    for _ in range(2):
        files = HostFiles(tmp_path / "above" / "root")
        files.make_root()
        files.close()
    assert (tmp_path / "above" / "root").is_dir()
    assert synced == ["above", tmp_path.name, "above"]


def test_a_folder_is_private_and_may_be_there_and_is_synced_only_when_told(
    host: HostFiles, tmp_path: Path, synced: list[str]
) -> None:
    host.make_folder("shelf")
    host.make_folder("shelf")
    assert synced == []
    host.sync_folder("shelf")
    host.sync_folder("")
    assert synced == ["shelf", "root"]
    for folder in (tmp_path / "above" / "root", tmp_path / "above" / "root" / "shelf"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_names_come_sorted_and_nothing_stands_in_what_is_no_folder(host: HostFiles) -> None:
    host.make_folder("shelf")
    for name in ("shelf/b", "shelf/a", "shelf/.c"):
        put(host, name, b"x")
    assert host.names("shelf") == [".c", "a", "b"]
    assert host.names("") == ["shelf"]
    assert host.names("missing") == []
    assert host.names("shelf/a") == []


# --- files -----------------------------------------------------------------------------------------------------------------


def test_a_file_is_created_once_and_private(host: HostFiles, tmp_path: Path) -> None:
    with closing(host.create("new")) as handle:
        handle.write(b"abc")
    with pytest.raises(FileExistsError):
        host.create("new")
    put(host, "added", b"x")
    for name in ("new", "added"):
        assert (tmp_path / "above" / "root" / name).stat().st_mode & 0o777 == 0o600
    assert get(host, "new") == b"abc"


def test_what_is_added_stands_at_the_end_also_after_reading(host: HostFiles) -> None:
    put(host, "file", b"abc")
    with closing(host.append("file")) as handle:
        assert handle.read(1, 1) == b"b"
        handle.write(b"def")
        assert handle.read(2, 100) == b"cdef"
    assert get(host, "file") == b"abcdef"
    assert host.size("file") == 6


def test_a_sync_hands_over_what_still_was_in_memory(host: HostFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda handle: there.append((tmp_path / "above" / "root" / "file").read_bytes()))
    with closing(host.create("file")) as handle:
        handle.write(b"abc")
        handle.sync()
    assert there == [b"abc"]


def test_a_sync_that_failed_is_heard(host: HostFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with closing(host.create("file")) as handle, pytest.raises(OSError, match="Input/output"):
        handle.sync()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Input/output"):
        host.sync_folder("")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_file_takes_the_place_of_another(host: HostFiles) -> None:
    put(host, "one", b"1")
    put(host, "two", b"2")
    host.rename("one", "two")
    assert get(host, "two") == b"1"
    assert not host.exists("one")
    with pytest.raises(FileNotFoundError):
        host.open("one")


def test_a_file_that_is_gone_is_removed_only_where_that_is_allowed(host: HostFiles) -> None:
    put(host, "file", b"1")
    host.unlink("file")
    host.unlink("file", missing_ok=True)
    with pytest.raises(FileNotFoundError):
        host.unlink("file")


def test_the_last_change_is_rounded_down(host: HostFiles, tmp_path: Path) -> None:
    """So that `modified_ms < t` says the same as comparing nanoseconds."""
    put(host, "file", b"1")
    os.utime(tmp_path / "above" / "root" / "file", ns=(0, 5_000_999_999))
    assert host.modified_ms("file") == 5000


def test_the_free_share_is_the_one_an_ordinary_user_has(host: HostFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = os.statvfs_result((4096, 4096, 1000, 400, 250, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: facts)
    assert host.free_ratio() == 0.25
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255)))
    assert host.free_ratio() == 1.0


# --- written anew ----------------------------------------------------------------------------------------------------------


def test_a_file_written_anew_has_its_bytes_in_a_durable_file_of_its_own(host: HostFiles, synced: list[str]) -> None:
    data = os.urandom(COPY_BYTES + 77)
    put(host, "wal", data)
    put(host, "wal.new", b"left by a process that was killed here")
    before = host._root.joinpath("wal").stat().st_ino
    renew(host, "wal")
    assert synced == ["wal.new", "root"]
    assert host._root.joinpath("wal").read_bytes() == data
    assert host._root.joinpath("wal").stat().st_ino != before
    assert host.names("") == ["wal"]


def test_what_is_not_there_is_not_written_anew(host: HostFiles, synced: list[str]) -> None:
    renew(host, "wal")
    assert (host.names(""), synced) == ([], [])


def test_where_there_is_no_room_for_a_second_copy_the_first_stays_and_no_half_one(
    host: HostFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(host, "wal", b"whole")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no room"):
        renew(host, "wal")
    assert (host.names(""), get(host, "wal")) == (["wal"], b"whole")

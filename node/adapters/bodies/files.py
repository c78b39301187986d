"""The few file operations that bodies need, and the machine's own: real calls on one thread, so the event loop never waits.

The seam behind which the rehearsal puts a disk that loses power. Names are relative to one root folder, with "/" between
folders; "" is the root. Knows nothing of bodies, digests or rows.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from node.adapters.folders import make_folder, sync_folder

T = TypeVar("T")


class OpenFile(Protocol):
    """A file in use. Whoever opened it closes it."""

    def read(self, offset: int, length: int) -> bytes:
        """Fewer bytes where the file ends."""
        ...

    def write(self, data: bytes) -> None:
        """Add at the end. May stay in the process's memory until `sync` or `close`, which then raise what went wrong."""
        ...

    def sync(self) -> None:
        """Everything written is durable when this returns; the file's name is not, see `Files.sync_folder`."""
        ...

    def close(self) -> None: ...


class Files(Protocol):
    """Everything but `do` and `close` is for `work` functions (and for the start): it waits for the disk, and raises OSError as
    the system calls do. Files are made with mode 0600, folders with 0700."""

    async def do(self, work: Callable[[], T]) -> T:
        """Run work where files may be waited for, one after the other in the order of the calls. It runs to its end even if
        nobody waits for it any more."""
        ...

    def close(self) -> None:
        """After the work in progress."""
        ...

    def make_root(self) -> None:
        """The root folder, and those above it, where missing; its entry is durable afterwards, whoever made it."""
        ...

    def make_folder(self, name: str) -> None:
        """Nothing happens where it is there. Durable after `sync_folder` of the folder it stands in."""
        ...

    def sync_folder(self, name: str) -> None:
        """What was made, renamed or removed in this folder is durable when this returns."""
        ...

    def create(self, name: str) -> OpenFile:
        """A new file to write to; FileExistsError where there is one."""
        ...

    def append(self, name: str) -> OpenFile:
        """A file to read and to add to, made where missing."""
        ...

    def open(self, name: str) -> OpenFile:
        """A file to read."""
        ...

    def rename(self, name: str, new: str) -> None:
        """All at once, in the place of what bore the new name. Durable after `sync_folder`."""
        ...

    def unlink(self, name: str, *, missing_ok: bool = False) -> None: ...

    def exists(self, name: str) -> bool: ...

    def size(self, name: str) -> int: ...

    def modified_ms(self, name: str) -> int:
        """UTC milliseconds of the last change of content, rounded down, by the machine's own clock."""
        ...

    def names(self, folder: str) -> list[str]:
        """What stands in a folder, sorted; nothing where there is no such folder."""
        ...

    def free_ratio(self) -> float:
        """Free share of the file system, 0..1, as an ordinary user sees it. Quick: also outside `do`."""
        ...


COPY_BYTES = 1 << 20


def renew(files: Files, name: str) -> None:
    """Write a file anew and durably in its own place; nothing happens where there is none. For `Files.do`.

    After a sync that failed, the system shows what was written and calls it clean, whether or not the disk has it, and no later
    sync brings it there. What is read from such a file is true; only a fresh copy of it is durable.
    """
    if not files.exists(name):
        return
    fresh = name + ".new"
    files.unlink(fresh, missing_ok=True)
    old, new = files.open(name), files.create(fresh)
    try:
        offset = 0
        while piece := old.read(offset, COPY_BYTES):
            new.write(piece)
            offset += len(piece)
        new.sync()
    except OSError:
        files.unlink(fresh)  # a full disk is not to be made fuller
        raise
    finally:
        old.close()
        new.close()
    files.rename(fresh, name)
    files.sync_folder("")


class HostFiles:
    """`Files` below root on the machine's file system, with a thread of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._prefix = f"{root}{os.sep}"
        """Paths are put together by hand: a few of them for every body, and pathlib takes longer than the calls."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bodies")

    async def do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def make_root(self) -> None:
        make_folder(self._root, 0o700)

    def make_folder(self, name: str) -> None:
        (self._root / name).mkdir(mode=0o700, exist_ok=True)

    def sync_folder(self, name: str) -> None:
        sync_folder(self._root / name)

    def create(self, name: str) -> OpenFile:
        return _HostFile(open(self._prefix + name, "xb", opener=_private))

    def append(self, name: str) -> OpenFile:
        return _HostFile(open(self._prefix + name, "a+b", opener=_private))

    def open(self, name: str) -> OpenFile:
        return _HostFile(open(self._prefix + name, "rb"))

    def rename(self, name: str, new: str) -> None:
        os.rename(self._prefix + name, self._prefix + new)

    def unlink(self, name: str, *, missing_ok: bool = False) -> None:
        (self._root / name).unlink(missing_ok=missing_ok)

    def exists(self, name: str) -> bool:
        return os.path.exists(self._prefix + name)

    def size(self, name: str) -> int:
        return os.stat(self._prefix + name).st_size

    def modified_ms(self, name: str) -> int:
        return (self._root / name).stat().st_mtime_ns // 1_000_000

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self._root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def free_ratio(self) -> float:
        stat = os.statvfs(self._root)
        return stat.f_bavail / stat.f_blocks if stat.f_blocks else 1.0


class _HostFile:
    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle

    def read(self, offset: int, length: int) -> bytes:
        self._handle.seek(offset)
        return self._handle.read(length)

    def write(self, data: bytes) -> None:
        self._handle.write(data)

    def sync(self) -> None:
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        self._handle.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

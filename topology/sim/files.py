"""The files of bodies on a simulated disk: the same calls as the machine's own, and virtual time passes after each piece of work.

Knows nothing of bodies, and decides no fault: what fails, tears or is lost is the disk's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from node.adapters.bodies.files import OpenFile
from topology.sim.clocks import EPOCH_MS
from topology.sim.disk import Disk, File
from topology.sim.loop import living

T = TypeVar("T")


def right_ms(second: float) -> int:
    """UTC milliseconds, rounded down, of a virtual second."""
    return EPOCH_MS + int(second * 1000)


class SimFiles:
    """`Files` below root on disk. wall_ms: UTC milliseconds that the machine's own clock showed at a virtual second, where that
    clock is wrong.

    Work runs to its end within one turn of the loop, as no two pieces of work of the one thread ever overlap; whoever asked for
    it hears of it when the disk has had its time, and may be cut off, killed or overtaken until then."""

    def __init__(self, disk: Disk, root: str, wall_ms: Callable[[float], int] = right_ms) -> None:
        self._disk = disk
        self._root = root
        self._wall_ms = wall_ms

    async def do(self, work: Callable[[], T]) -> T:
        living()  # a killed program removes nothing of what its successor finds
        try:
            found = work()
        except OSError:
            await self._wait()
            raise
        await self._wait()
        return found

    async def _wait(self) -> None:
        await asyncio.sleep(self._disk.take_busy_s())

    def close(self) -> None:
        """Nothing is ever in progress between two turns of the loop."""

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def make_root(self) -> None:
        parts = self._root.split("/")
        for depth in range(1, len(parts) + 1):
            self._disk.mkdir("/".join(parts[:depth]), exist_ok=True)
        self._disk.sync_folder("/".join(parts[:-1]))

    def make_folder(self, name: str) -> None:
        self._disk.mkdir(self._path(name), exist_ok=True)

    def sync_folder(self, name: str) -> None:
        self._disk.sync_folder(self._path(name))

    def create(self, name: str) -> OpenFile:
        return _SimFile(self._disk, self._disk.open(self._path(name), create=True, exclusive=True))

    def append(self, name: str) -> OpenFile:
        return _SimFile(self._disk, self._disk.open(self._path(name), create=True))

    def open(self, name: str) -> OpenFile:
        return _SimFile(self._disk, self._disk.open(self._path(name)))

    def rename(self, name: str, new: str) -> None:
        self._disk.rename(self._path(name), self._path(new))

    def unlink(self, name: str, *, missing_ok: bool = False) -> None:
        try:
            self._disk.unlink(self._path(name))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def exists(self, name: str) -> bool:
        return self._disk.exists(self._path(name))

    def size(self, name: str) -> int:
        return self._disk.stat(self._path(name)).size

    def modified_ms(self, name: str) -> int:
        return self._wall_ms(self._disk.stat(self._path(name)).modified_s)

    def names(self, folder: str) -> list[str]:
        try:
            return self._disk.listdir(self._path(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def free_ratio(self) -> float:
        return self._disk.free_ratio()


class _SimFile:
    """Nothing stays in the process's memory: what is written is the disk's at once, as with pieces larger than a buffer."""

    def __init__(self, disk: Disk, file: File) -> None:
        self._disk = disk
        self._file = file

    def read(self, offset: int, length: int) -> bytes:
        return self._disk.read(self._file, offset, length)

    def write(self, data: bytes) -> None:
        self._disk.append(self._file, data)

    def sync(self) -> None:
        self._disk.sync(self._file)

    def close(self) -> None:
        self._disk.close(self._file)

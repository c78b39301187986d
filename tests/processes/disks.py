"""Disks under a node that behave badly on purpose: one whose power is cut, one that is small and then grows.

A disk is laid under the data folder of a node that does not run; what was there is taken along, and brought back when the tree's
`undo` takes the disk away. Needs root. Knows nothing of what a node writes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.processes.machine import sh
from tests.processes.tree import Node, Tree

SHUTDOWN = 0x8004587D
"""The ioctl by which a file system is shut down (EXT4_IOC_SHUTDOWN)."""
NO_LOG_FLUSH = 2
"""What is only in memory is lost, the journal too: as when the power fails."""
IMAGE_BYTES = 1 << 30
"""A hole, but for what is written."""
ROOMY_BYTES = 1 << 30
UNMOUNT_S = 10.0


def shut_down(mounted: Path) -> None:
    """From now on nothing reaches the disk of this file system; every write and sync fails."""
    handle = os.open(mounted, os.O_RDONLY)
    try:
        fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(handle)


def unmount(mounted: Path) -> None:
    """A killed process may hold its files a moment longer than it lives: its threads end one by one."""
    deadline = time.monotonic() + UNMOUNT_S
    while True:
        try:
            sh("umount", str(mounted))
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class PowerCutDisk:
    """An ext4 file system in a file, on a loop device."""

    def __init__(self, tree: Tree, node: Node) -> None:
        self._node = node
        self._image = node.config.parent / "disk.image"
        with self._image.open("wb") as image:
            image.truncate(IMAGE_BYTES)
        sh("mkfs.ext4", "-q", "-F", str(self._image))
        _lay_under(tree, node, "-o", "loop", str(self._image))

    def cut_power(self) -> None:
        """The machine of the node loses power. Returns with the disk mounted again, its journal replayed, the node down."""
        self._node.pause()  # a machine without power neither answers nor sees its disk go
        shut_down(self._node.data)
        self._node.kill()
        unmount(self._node.data)
        sh("mount", "-o", "loop", str(self._image), str(self._node.data))


class SmallDisk:
    """A tmpfs that can be as small as what is on it, and grows while it is in use."""

    def __init__(self, tree: Tree, node: Node) -> None:
        self._folder = node.data
        _lay_under(tree, node, "-t", "tmpfs", "-o", f"size={ROOMY_BYTES},mode=700", "tmpfs")

    @property
    def used(self) -> int:
        """Bytes."""
        stat = os.statvfs(self._folder)
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize

    def leave(self, free: int) -> None:
        """From now on so many bytes are free, and no more."""
        sh("mount", "-o", f"remount,size={self.used + free}", str(self._folder))

    def enlarge(self) -> None:
        """There is room again."""
        sh("mount", "-o", f"remount,size={ROOMY_BYTES}", str(self._folder))


def _lay_under(tree: Tree, node: Node, *mount: str) -> None:
    aside = node.data.with_name("data.aside")
    shutil.copytree(node.data, aside)
    sh("mount", *mount, str(node.data))
    tree.undo.callback(_take_away, node.data, aside)
    _bring(aside, node.data)


def _take_away(mounted: Path, aside: Path) -> None:
    try:
        with suppress(FileNotFoundError):
            shutil.rmtree(aside)
        shutil.copytree(mounted, aside, ignore=shutil.ignore_patterns("lost+found"))
    finally:
        unmount(mounted)
    shutil.rmtree(mounted)
    aside.rename(mounted)


def _bring(source: Path, target: Path) -> None:
    """What is brought was on a disk before: it must be on this one before anything is done with it."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    os.chmod(target, 0o700)
    sh("sync", "-f", str(target))


if __name__ == "__main__":  # a trial of the machine, in a process of its own
    shut_down(Path(sys.argv[1]))

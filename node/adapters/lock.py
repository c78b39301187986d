"""One process per data folder: a lock that dies with its process, taken before anything in the folder is opened or swept."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FolderInUse(Exception):
    """Another process runs on this data folder; nothing in it was touched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder}: another process of this node is running on it")


class FolderLock:
    """Held from construction until `release` or the end of the process. Raises FolderInUse."""

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise FolderInUse(folder) from None

    def release(self) -> None:
        os.close(self._handle)

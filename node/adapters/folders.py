"""Folders whose names a power cut does not take back: made where missing, each entry synced where it stands.

Knows nothing of what is kept in them.
"""

from __future__ import annotations

import os
from itertools import takewhile
from pathlib import Path


def make_folder(folder: Path, mode: int) -> None:
    """A folder, and those above it (with the usual mode), where missing. Its entry is durable afterwards, whoever made it: a
    process may have been killed between making and syncing; and so are the entries of those above that were made now."""
    folder = folder.resolve()
    missing = list(takewhile(lambda each: not each.exists(), (folder, *folder.parents)))
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    if not missing and os.path.ismount(folder):
        return  # no entry of what is above, which may be a file system that cannot be synced
    for made in missing or (folder,):
        try:
            sync_folder(made.parent)
        except PermissionError:  # what is above may be passed through, not read: then with everything else
            os.sync()


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in this folder is durable when this returns."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

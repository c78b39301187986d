"""Folders and small files that a power cut does not take back: folders made where missing, each entry synced where it stands;
files written whole: a reader sees the old one or the new one, and a secret is at no moment readable by others.

Knows nothing of what is kept in them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

PUBLIC = 0o644
SECRET = 0o600


class BadFile(Exception):
    """A kept file is not what it should be. texts: which and why, in Vietnamese and in English."""

    def __init__(self, vi: str, en: str) -> None:
        self.texts = (vi, en)
        super().__init__(vi)


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


def write(path: Path, text: str, mode: int = PUBLIC) -> None:
    """Replace the file by `text` (UTF-8), open to no more than `mode` and the umask allow; the change survives a power cut.

    Where the text is there already nothing is written. Written by root it belongs to whom the old file, or else the folder,
    belongs to: an administrator runs a command, the node that reads the file does not run as root.
    """
    if path.is_file() and path.read_bytes() == text.encode():
        path.chmod(path.stat().st_mode & mode)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        if os.geteuid() == 0:
            owner = (path if path.exists() else path.parent).stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def _open_lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, SECRET)
    except FileExistsError:
        return os.open(path, flags)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)
    return handle


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One at a time, between processes too: whoever reads a file, changes it and writes it back holds its lock meanwhile.

    The folder may belong to somebody who is less than root and lays a link there: it is not followed, and nothing that was there
    before is given away. Raises OSError.
    """
    handle = _open_lock(path.with_name(f".{path.name}.lock"))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

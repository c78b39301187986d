"""Small files written whole: a reader sees the old one or the new one, and a secret is at no moment readable by others."""

from __future__ import annotations

import os
from pathlib import Path

PUBLIC = 0o644
SECRET = 0o600


class BadFile(Exception):
    """A kept file is not what it should be. texts: which and why, in Vietnamese and in English."""

    def __init__(self, vi: str, en: str) -> None:
        self.texts = (vi, en)
        super().__init__(vi)


def write(path: Path, text: str, mode: int = PUBLIC) -> None:
    """Replace the file by `text` (UTF-8), open to no more than `mode` and the umask allow; the change survives a power cut.

    Where the text is there already nothing is written.
    """
    if path.is_file() and path.read_bytes() == text.encode():
        path.chmod(path.stat().st_mode & mode)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""A folder whose fsync costs nothing, where the machine has one: tests of what is decided need no real disk under it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
FREE_BYTES = 48 << 20


@contextmanager
def swift(fallback: Path) -> Iterator[Path]:
    """A new folder in memory; `fallback` where there is none, or no room in it."""
    if not (os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > FREE_BYTES):
        yield fallback
        return
    with tempfile.TemporaryDirectory(prefix="truc-test-", dir=MEMORY) as folder:
        yield Path(folder)

"""Acts of persons that were done while the node did not run: a file beside the journal, one JSON line each, until the node takes
them in. Whoever may write into the data folder may write here; once in the journal they are chained like everything else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from node.adapters.folders import SECRET, sync_folder
from node.core.audit import Act, read_act
from node.core.errors import Refused

NAME = "acts.jsonl"
BYTES_MAX = 16 * 1024 * 1024


class ActsFile:
    """In a node's data folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._taken = folder / f"{NAME}.taken"

    def write(self, act: dict[str, Any]) -> None:
        """Append one act, durably. Raises OSError."""
        new = not self._path.exists()
        line = json.dumps(act, ensure_ascii=False).encode() + b"\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, SECRET)
        try:
            if new and os.geteuid() == 0:  # the node that reads it does not run as root
                owner = self._path.parent.stat()
                os.fchown(handle, owner.st_uid, owner.st_gid)
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            sync_folder(self._path.parent)

    def take(self) -> tuple[list[Act], int]:
        """What was written, and how many lines cannot be read. Stands aside until `done`, and comes again if that is not said."""
        if self._path.exists() and not self._taken.exists():
            self._path.rename(self._taken)
        if not self._taken.exists():
            return [], 0
        acts, unread = [], 0
        with self._taken.open("rb") as file:
            lines = file.read(BYTES_MAX).splitlines()
        for line in lines:
            try:
                value = json.loads(line)
                acts.append(read_act(value if isinstance(value, dict) else {}))
            except (ValueError, Refused):
                unread += 1
        return acts, unread

    def done(self) -> None:
        self._taken.unlink(missing_ok=True)

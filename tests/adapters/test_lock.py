"""Two processes of one node never work on one data folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from node.adapters.lock import FolderInUse, FolderLock


def test_a_second_holder_is_turned_away_and_a_later_one_is_not(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    with pytest.raises(FolderInUse, match=str(tmp_path)):
        FolderLock(tmp_path)
    first.release()
    FolderLock(tmp_path).release()


def test_the_lock_is_nobody_elses_business(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    lock.release()

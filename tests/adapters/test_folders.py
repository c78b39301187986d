"""Folders are durable under their names: whatever was made is synced where it stands, and what was there once more."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from node.adapters.folders import make_folder, sync_folder


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Last name of whatever is synced, in order; "everything" for a sync of the whole machine."""
    found: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: found.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name))
    monkeypatch.setattr(os, "sync", lambda: found.append("everything"))
    return found


def test_every_folder_that_is_made_has_its_entry_synced(tmp_path: Path, synced: list[str]) -> None:
    make_folder(tmp_path / "above" / "middle" / "folder", 0o700)
    assert (tmp_path / "above" / "middle" / "folder").stat().st_mode & 0o777 == 0o700
    assert sorted(synced) == sorted([tmp_path.name, "above", "middle"])


def test_a_folder_that_is_there_is_synced_all_the_same(tmp_path: Path, synced: list[str]) -> None:
    """Who made it may have been killed before its sync."""
    (tmp_path / "above" / "folder").mkdir(parents=True, mode=0o755)
    make_folder(tmp_path / "above" / "folder", 0o700)
    assert synced == ["above"]
    assert (tmp_path / "above" / "folder").stat().st_mode & 0o777 == 0o755, "its mode is whoever's who made it"


def test_of_a_link_it_is_the_folder_meant_that_counts(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "folder")
    make_folder(tmp_path / "link", 0o700)
    assert (tmp_path / "elsewhere" / "folder").is_dir()
    assert synced == ["elsewhere"]


def test_where_a_disk_of_its_own_is_mounted_nothing_above_is_touched(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    make_folder(tmp_path, 0o700)
    assert synced == []
    make_folder(tmp_path / "folder", 0o700)
    assert synced == [tmp_path.name]


def test_below_a_folder_that_may_not_be_read_everything_is_synced(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.open

    def closed(path: Path, flags: int) -> int:
        if path == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(path, flags)

    monkeypatch.setattr(os, "open", closed)
    make_folder(tmp_path / "above" / "folder", 0o700)
    assert sorted(synced) == ["above", "everything"]


def test_a_sync_that_fails_is_heard_and_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)
    with pytest.raises(OSError, match="Input/output"):
        make_folder(tmp_path / "folder", 0o700)
    assert len(os.listdir("/proc/self/fd")) == len(before)

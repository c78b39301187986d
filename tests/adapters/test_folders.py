"""Folders are durable under their names: whatever was made is synced where it stands, and what was there once more."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from node.adapters.folders import PUBLIC, SECRET, locked, make_folder, sync_folder, write


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


# --- small files -------------------------------------------------------------------------------------------------------


def test_a_secret_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write(tmp_path / "key", "x", SECRET)
        write(tmp_path / "page", "x", PUBLIC)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("key", "page")] == [0o600, 0o644]


def test_a_file_is_replaced_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "page"
    write(path, "old")
    with path.open(encoding="utf-8") as reader:
        write(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["page"]


def test_the_same_text_leaves_the_file_as_it_is_but_closes_it_to_others(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write(path, "Khóa", PUBLIC)
    first = path.stat()
    write(path, "Khóa", SECRET)
    assert path.stat().st_ino == first.st_ino
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_crash_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".page.new").write_text("half")
    write(tmp_path / "page", "whole")
    assert (tmp_path / "page").read_text() == "whole"


def test_a_file_stays_its_owners_when_root_writes_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(tmp_path, 4321, 4321)
    write(tmp_path / "key", "x", SECRET)
    assert (tmp_path / "key").stat().st_uid == 4321


def test_a_lock_is_one_at_a_time_and_no_file_of_the_readers(tmp_path: Path) -> None:
    import fcntl

    with locked(tmp_path / "rows"), (tmp_path / ".rows.lock").open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not (tmp_path / "rows").exists()


def test_a_lock_follows_no_link_and_gives_nothing_away(tmp_path: Path) -> None:
    """Threats: the folder's owner is less than root, who runs the command."""
    precious = tmp_path / "elsewhere"
    precious.write_text("bí mật", encoding="utf-8")
    (tmp_path / ".book.json.lock").symlink_to(precious)
    with pytest.raises(OSError), locked(tmp_path / "book.json"):
        pass
    assert precious.stat().st_uid == os.geteuid()
    (tmp_path / ".book.json.lock").unlink()
    with locked(tmp_path / "book.json"):
        pass
    with locked(tmp_path / "book.json"):
        assert stat.S_IMODE((tmp_path / ".book.json.lock").stat().st_mode) == 0o600

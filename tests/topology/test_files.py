"""Small files: written whole, with their mode, and left alone when nothing changed."""

from __future__ import annotations

import os
from pathlib import Path

from topology.files import PUBLIC, SECRET, write


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

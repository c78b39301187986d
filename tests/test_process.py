"""The process a node runs in: the faster loop where it is installed, and which errors mean that there is no room."""

from __future__ import annotations

import asyncio
import errno
import sys
from pathlib import Path

import pytest

from node import process


def test_a_faster_loop_is_taken_where_it_is_installed_and_only_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(text: str) -> None:
        (tmp_path / "uvloop.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "uvloop", raising=False)

    taken: list[object] = []
    monkeypatch.setattr(asyncio, "set_event_loop_policy", taken.append)
    monkeypatch.setattr("node.process.util.find_spec", lambda name: None)
    process.take_faster_loop()
    assert taken == []
    monkeypatch.undo()
    monkeypatch.setattr(asyncio, "set_event_loop_policy", taken.append)
    installed("class EventLoopPolicy: pass")
    process.take_faster_loop()
    assert [type(each).__name__ for each in taken] == ["EventLoopPolicy"]


def test_an_error_within_a_group_is_found_and_a_full_disk_is_told_from_another_error() -> None:
    full, other = OSError(errno.ENOSPC, "full"), ValueError("other")
    assert process.causes(ExceptionGroup("", [ExceptionGroup("", [full]), other])) == [full, other]
    assert [process.no_room(each) for each in (full, other)] == [True, False]

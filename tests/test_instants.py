"""The scan for times finds what is planted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.instants import in_database, in_lines, in_value


@pytest.mark.parametrize(
    "value",
    [
        {"at": 1_795_316_400_123},
        {"at": 1_795_316_400},
        {"rows": [{"at": "2026-11-22T10:00:00"}]},
        {"text": "lúc 2026/11/22 10:00:00 thì"},
        {"text": "2026-11-22 10:00:00+07:00"},
        {"text": "10:00:00"},
        {"text": "22/11/2026 10:00"},
        ["2026-11-22T10:00:00.123+08:00"],
    ],
)
def test_a_time_in_another_form_is_found(value: object) -> None:
    assert list(in_value(value))


def test_our_forms_pass() -> None:
    ours = {
        "at_ms": 1_795_316_400_123,
        "from": "2026-11-22T10:00:00.123+07:00",
        "ts": "2026-11-22T03:00:00.123Z",
        "day": "2026-11-22",
    }
    assert (
        list(in_value({**ours, "day": "2026-11-22", "port": 40_001, "text": f"từ {ours['from']}", "big": 2**60, "ok": True}))
        == []
    )


def test_a_column_that_does_not_say_so_and_a_log_line_are_found(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.executescript("CREATE TABLE a (at INTEGER, at_ms INTEGER, said TEXT)")
        database.execute("INSERT INTO a VALUES (1795316400123, 1795316400123, '2026/11/22 10:00:00')")
    assert [found.partition(":")[0] for found in in_database(tmp_path / "x.db")] == ["a.at", "a.said"]
    (tmp_path / "x.log").write_text('{"ts": "2026-11-22T03:00:00.123Z"}\n{"ts": "10:00:00"}\n')
    assert len(list(in_lines(tmp_path / "x.log"))) == 1

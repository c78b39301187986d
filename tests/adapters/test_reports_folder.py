"""Reports in a folder: written once, written anew when figures change, never half."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.adapters.reports.folder import deliver
from tests.reporting import made


def test_a_report_is_written_once_and_anew_when_its_figures_change(tmp_path: Path) -> None:
    assert deliver(tmp_path, "quarter-2026-Q4", made())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"quarter-2026-Q4.{end}" for end in ("html", "json", "xlsx")]
    later = made()
    later["summary"]["cut_off"] = "2026-11-23T00:00:00.000+07:00"
    assert not deliver(tmp_path, "quarter-2026-Q4", later)
    assert deliver(tmp_path, "quarter-2026-Q4", made(holds=False))
    assert "H41.12" in (tmp_path / "quarter-2026-Q4.html").read_text()


def test_what_was_left_half_done_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "day-2026-11-21.json").write_text("{")
    assert deliver(tmp_path, "day-2026-11-21", made())


def test_a_folder_that_is_not_there_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        deliver(tmp_path / "gone", "day-2026-11-21", made())

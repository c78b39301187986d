"""The files of the working calendar: the shipped ones, the owner's over them, and what is wrong with one."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from node.adapters.calendar_files import SHIPPED, CalendarError, KeptCalendar, load
from node.core.identifier import HUB, OrgId

YEAR = """
format = "truc-calendar-1"
year = 2026
version = 2
source = "x"
[holidays]
2026-01-01 = "Tết Dương lịch"
2026-11-24 = "Ngày Văn hóa Việt Nam"
"""
HOURS = """
format = "truc-hours-1"
[[hours]]
organ = "H41"
sessions = ["07:30-12:00", "13:30-17:00"]
season = ["10-17", "04-15"]
[[hours]]
sessions = ["00:00-24:00"]
every_day = true
first = 2025-01-01
"""


def test_the_program_comes_with_every_year_from_2019_to_2026() -> None:
    assert load(None).years == tuple(range(2019, 2027))


def test_a_year_of_the_owner_stands_for_the_shipped_one(tmp_path: Path) -> None:
    assert load(None).works(date(2026, 11, 24))
    (tmp_path / "2026.toml").write_text(YEAR)
    calendar = load(tmp_path)
    assert not calendar.works(date(2026, 11, 24))
    assert calendar.years == tuple(range(2019, 2027))


def test_hours_of_the_owner(tmp_path: Path) -> None:
    (tmp_path / "hours.toml").write_text(HOURS)
    calendar = load(tmp_path)
    unit = OrgId.canonical("H41.07")
    assert calendar.hours(unit, date(2026, 1, 5)).sessions == ((450, 720), (810, 1020))
    assert calendar.hours(unit, date(2026, 6, 1)).every_day
    assert calendar.hours(HUB, date(2020, 6, 1)).every_day


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("2026.toml", YEAR.replace("2026-11-24", "2025-11-24"), "không thuộc năm"),
        ("2026.toml", YEAR + "[worked]\n2026-11-23 = 'x'\n", "làm bù"),
        ("2026.toml", YEAR + "[in_lieu]\n2026-11-22 = 'x'\n", "nghỉ bù"),
        ("2026.toml", YEAR + "[wrked]\n", "wrked"),
        ("2026.toml", YEAR.replace("calendar-1", "calendar-9"), "format"),
        ("2026.toml", "year =", "không đọc được"),
        ("hours.toml", HOURS.replace("12:00", "14:00"), "chồng nhau"),
        ("hours.toml", HOURS.replace("07:30", "7:30"), "07:30-11:30"),
        ("hours.toml", HOURS.replace("12:00", "25:00"), "bắt đầu trước"),
        ("hours.toml", HOURS.replace("10-17", "13-17"), "hours.0.season"),
        ("hours.toml", HOURS.replace("10-17", "x"), "04-15"),
        ("hours.toml", HOURS.replace("H41", "H41.."), "code-bad-group"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CalendarError, match=said) as caught:
        load(tmp_path)
    assert name in str(caught.value)


def test_a_folder_that_is_not_there_and_a_file_too_large(tmp_path: Path) -> None:
    with pytest.raises(CalendarError):
        load(tmp_path / "gone")
    (tmp_path / "2026.toml").write_text("#" * 1_100_000)
    with pytest.raises(CalendarError, match="lớn hơn"):
        load(tmp_path)


def test_every_shipped_year_says_where_it_is_from_and_how_sure() -> None:
    for path in SHIPPED.glob("*.toml"):
        text = path.read_text(encoding="utf-8")
        assert "\nsource = " in text
        assert "\nconfidence = " in text


def kept(folder: Path | None, told: dict[tuple[OrgId, str], str]) -> KeptCalendar:
    found = KeptCalendar(folder)
    found.take(told, lambda author, code: author.covers(code))
    return found


def test_what_the_tree_says_stands_over_the_shipped_and_below_the_owners_folder(tmp_path: Path) -> None:
    assert not kept(None, {(HUB, "2026"): YEAR}).get().works(date(2026, 11, 24))
    (tmp_path / "2026.toml").write_text(YEAR.replace("2026-11-24", "2026-11-25"))
    calendar = kept(tmp_path, {(HUB, "2026"): YEAR}).get()
    assert calendar.works(date(2026, 11, 24)) and not calendar.works(date(2026, 11, 25))


def test_hours_of_a_node_count_for_what_is_its_own() -> None:
    h41, h14 = OrgId.canonical("H41"), OrgId.canonical("H14")
    foreign = HOURS.replace('organ = "H41"', 'organ = "H14"')
    calendar = kept(None, {(h41, "hours"): HOURS, (HUB, "hours"): HOURS.replace("H41", "H99"), (h14, "hours"): HOURS}).get()
    winter = date(2026, 1, 5)
    assert not calendar.hours(OrgId.canonical("H41.07"), winter).every_day
    assert kept(None, {(h41, "hours"): foreign}).get().hours(h14, winter).every_day


def test_a_text_of_another_node_that_cannot_be_used_is_named_and_counts_for_nothing() -> None:
    with capture_logs() as logs:
        calendar = kept(None, {(HUB, "2026"): "year ="}).get()
    assert calendar.works(date(2026, 11, 24)) and [line["author"] for line in logs] == ["hub"]


def test_a_folder_that_turns_bad_keeps_the_last_good_state(tmp_path: Path) -> None:
    (tmp_path / "2026.toml").write_text(YEAR)
    found, heard = KeptCalendar(tmp_path), []
    found.edited = lambda: heard.append("edited")
    (tmp_path / "2026.toml").write_text("year =")
    with pytest.raises(CalendarError):
        found.refresh()
    assert heard == [] and not found.get().works(date(2026, 11, 24)) and found.files() == {"2026": YEAR}
    (tmp_path / "2026.toml").unlink()
    found.refresh()
    assert heard == ["edited"] and found.get().works(date(2026, 11, 24)) and found.files() == {}

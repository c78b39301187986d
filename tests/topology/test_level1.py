"""The table of level-1 codes: as many as there were, each once, and the merger leads from a closed code to an open one."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest

from topology.level1 import MINISTRIES, PROVINCES, SEEN, Organ, standing

BEFORE, AFTER = date(2018, 12, 31), date(2025, 7, 1)


def test_sixty_three_provinces_stood_and_thirty_four_stand() -> None:
    assert [len(standing(PROVINCES, day)) for day in (BEFORE, date(2025, 6, 30), AFTER)] == [63, 63, 34]
    assert {organ.code for organ in PROVINCES} == {f"H{number:02}" for number in range(1, 64)}
    assert len(SEEN) == 19 and {organ.code for organ in PROVINCES} >= SEEN


@pytest.mark.parametrize("table", [PROVINCES, MINISTRIES], ids=["provinces", "ministries"])
@pytest.mark.parametrize("day", [BEFORE, date(2025, 1, 1), date(2025, 4, 14), AFTER])
def test_on_any_day_a_code_stands_once(table: tuple[Organ, ...], day: date) -> None:
    open_then = standing(table, day)
    assert len({organ.code for organ in open_then}) == len({organ.name for organ in open_then}) == len(open_then)


def test_a_merged_province_is_followed_by_one_that_kept_its_code_and_its_name() -> None:
    kept = {organ.code for organ in standing(PROVINCES, AFTER)}
    merged = [organ for organ in PROVINCES if organ.successor]
    assert len(merged) == 29 and not {organ.code for organ in merged} & kept
    followers = Counter(organ.successor for organ in merged)
    assert set(followers) <= kept
    assert (len(followers), Counter(followers.values())) == (23, {1: 17, 2: 6})


@pytest.mark.parametrize(
    ("code", "successor"), [("H22", "H60"), ("H30", "H13"), ("H51", "H13"), ("H54", "H31"), ("H59", "H61"), ("H63", "H38")]
)
def test_some_of_the_mergers_are_as_published(code: str, successor: str) -> None:
    assert next(organ for organ in PROVINCES if organ.code == code).successor == successor


def test_a_renamed_province_keeps_its_code_and_changes_its_name_overnight() -> None:
    def called(day: date) -> list[str]:
        return [organ.name for organ in standing(PROVINCES, day) if organ.code == "H57"]

    assert [called(date(2024, 12, 31)), called(date(2025, 1, 1))] == [["tỉnh Thừa Thiên Huế"], ["thành phố Huế"]]


def test_a_row_ends_after_its_last_day() -> None:
    row = Organ("H22", "tỉnh Hà Giang", since=date(2020, 9, 15), until=date(2025, 6, 30))
    days = (date(2020, 9, 14), date(2020, 9, 15), date(2025, 6, 30), date(2025, 7, 1))
    assert [row.stands_on(day) for day in days] == [False, True, True, False]
    assert [row.ended_before(day) for day in days] == [False, False, False, True]

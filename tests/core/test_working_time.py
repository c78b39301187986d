"""Working days and hours: 2019 to 2026 day by day where they were announced, and what becomes of an instant outside them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import holidays
import pytest

from node.adapters.calendar_files import load
from node.core.identifier import HUB, OrgId
from node.core.instant import VIETNAM, iso
from node.core.working_time import Calendar, Hours, NoCalendar, Year

SHIPPED = load(None)
NGHE_AN, THAI_NGUYEN, BAC_GIANG, UNIT = map(OrgId.canonical, ("H41", "H55", "H02", "H41.07"))


def minutes(text: str) -> tuple[int, int]:
    start, end = text.split("-")
    return int(start[:2]) * 60 + int(start[3:]), int(end[:2]) * 60 + int(end[3:])


def open_at(
    organ: OrgId, *sessions: str, season: tuple[str, str] | None = None, first: date = date.min, last: date | None = None
) -> Hours:
    ends = None if season is None else ((int(season[0][:2]), int(season[0][3:])), (int(season[1][:2]), int(season[1][3:])))
    return Hours(organ, tuple(map(minutes, sessions)), first, last, ends)


HOURS = (
    open_at(HUB, "08:00-12:00", "13:00-17:00"),
    open_at(NGHE_AN, "07:30-12:00", "13:30-17:00", season=("10-17", "04-15")),
    open_at(NGHE_AN, "07:00-11:30", "14:00-17:30", season=("04-16", "10-16")),
    open_at(THAI_NGUYEN, "07:30-11:30", "13:00-17:00", season=("10-15", "04-14")),
    open_at(BAC_GIANG, "07:30-12:00", "13:00-16:30", season=("10-16", "04-15")),
    open_at(UNIT, "09:00-11:00", first=date(2025, 1, 1), last=date(2025, 3, 31)),
)
YEARS = [
    Year(
        year,
        1,
        frozenset(each for each in days if not SHIPPED.works(each) and each.weekday() < 5),
        frozenset(each for each in days if SHIPPED.works(each) and each.weekday() >= 5),
    )
    for year in SHIPPED.years
    for days in [[date(year, 1, 1) + timedelta(passed) for passed in range(365 + (year % 4 == 0))]]
]
CALENDAR = Calendar(YEARS, HOURS)

BREAKS = """
2019-01-01 2019-02-02..2019-02-10 2019-04-13..2019-04-15 2019-04-27..2019-05-01 2019-08-31..2019-09-02
2020-01-01 2020-01-23..2020-01-29 2020-04-02 2020-04-30..2020-05-03 2020-09-02
2021-01-01..2021-01-03 2021-02-10..2021-02-16 2021-04-21 2021-04-30..2021-05-03 2021-09-02..2021-09-05
2022-01-01..2022-01-03 2022-01-29..2022-02-06 2022-04-09..2022-04-11 2022-04-30..2022-05-03 2022-09-01..2022-09-04
2022-12-31..2023-01-02 2023-01-20..2023-01-26 2023-04-29..2023-05-03 2023-09-01..2023-09-04
2023-12-30..2024-01-01 2024-02-08..2024-02-14 2024-04-18 2024-04-27..2024-05-01 2024-08-31..2024-09-03
2025-01-01 2025-01-25..2025-02-02 2025-04-05..2025-04-07 2025-04-30..2025-05-04 2025-08-30..2025-09-02
2026-01-01..2026-01-04 2026-02-14..2026-02-22 2026-04-25..2026-04-27 2026-04-30..2026-05-03 2026-08-29..2026-09-02
"""
"""As they were announced to officials: each is off from end to end, and the days before and after it are worked."""

WORKED_SATURDAYS = "2019-01-05 2019-05-04 2024-05-04 2025-04-26 2026-01-10 2026-08-22"


def breaks() -> Iterator[tuple[date, date]]:
    for text in BREAKS.split():
        first, _, last = text.partition("..")
        yield date.fromisoformat(first), date.fromisoformat(last or first)


def dated() -> Iterator[tuple[date, bool]]:
    """Every vector of a day: worked or not."""
    for first, last in breaks():
        if first > date(2019, 1, 1):  # 31 December 2018 is in no year that is shipped
            yield first - timedelta(1), True
        for passed in range((last - first).days + 1):
            yield first + timedelta(passed), False
        yield last + timedelta(1), True
    for text in WORKED_SATURDAYS.split():
        saturday = date.fromisoformat(text)
        yield saturday, True
        yield saturday + timedelta(1), False
        yield saturday + timedelta(7), False


RECEIPTS = """
H41     2025-12-05 23:59:59.999  2025-12-08 07:30  # Friday night in winter: Monday morning
H41     2025-12-05 16:59:59.999  2025-12-05 16:59:59.999
H41     2025-12-05 17:00         2025-12-08 07:30
H41     2025-12-05 12:00         2025-12-05 13:30  # the pause at noon is outside office hours
H41     2025-12-05 13:29:59.999  2025-12-05 13:30
H41     2025-12-05 00:00         2025-12-05 07:30
H41     2025-12-05 07:30         2025-12-05 07:30
H41     2025-12-05 07:29:59.999  2025-12-05 07:30
H41     2025-04-15 07:10         2025-04-15 07:30  # the last day of winter
H41     2025-04-16 07:10         2025-04-16 07:10  # the first of summer
H41     2025-04-16 11:45         2025-04-16 14:00
H41     2025-10-16 07:10         2025-10-16 07:10  # the last of summer
H41     2025-10-17 07:10         2025-10-17 07:30
H41     2025-10-16 17:29         2025-10-16 17:29
H41     2025-10-17 17:01         2025-10-20 07:30
H41     2025-10-16 23:59         2025-10-17 07:30  # across the change of season
H41     2026-02-13 17:00         2026-02-23 07:30  # Tết: ten days
H41     2026-02-17 10:00         2026-02-23 07:30
H41     2026-01-01 10:00         2026-01-05 07:30  # Fri 2 Jan is swapped
H41     2026-01-09 18:00         2026-01-10 07:30  # Sat 10 Jan is worked
H41     2026-01-10 12:30         2026-01-10 13:30
H41     2026-01-10 17:00         2026-01-12 07:30
H41     2026-08-28 17:30         2026-09-03 07:00
H41     2026-08-22 08:00         2026-08-22 08:00
H41     2025-04-26 08:00         2025-04-26 08:00
H41     2025-05-02 08:00         2025-05-05 07:00
H41     2024-12-31 17:30         2025-01-02 07:30  # across New Year
H41     2020-02-29 09:00         2020-03-02 07:30
H41     2024-02-29 09:00         2024-02-29 09:00
H55     2025-12-05 11:30         2025-12-05 13:00
H55     2025-12-05 11:29:59.999  2025-12-05 11:29:59.999
H55     2025-06-05 07:45         2025-06-05 08:00  # no summer of its own is stated: everybody's hours
H55     2025-10-15 07:45         2025-10-15 07:45
H55     2025-04-14 07:45         2025-04-14 07:45
H02     2025-12-05 16:30         2025-12-08 07:30
H02     2025-12-05 12:59         2025-12-05 13:00
H02     2026-02-13 16:29         2026-02-13 16:29
H41.07  2025-02-10 11:00         2025-02-11 09:00  # hours of its own, for three months
H41.07  2025-04-01 07:45         2025-04-01 07:45  # then those of its superior
H41.12  2025-12-05 07:00         2025-12-05 07:30  # below H41 like everything
H14     2025-12-05 07:45         2025-12-05 08:00
H14     2025-12-05 12:00         2025-12-05 13:00
H14     2019-02-01 17:00         2019-02-11 08:00
H14     2020-01-22 17:00         2020-01-30 08:00
H14     2021-02-09 17:00         2021-02-17 08:00
H14     2022-01-28 17:00         2022-02-07 08:00
H14     2023-01-19 17:00         2023-01-27 08:00
H14     2024-02-07 17:00         2024-02-15 08:00
H14     2025-01-24 17:00         2025-02-03 08:00
H14     2023-04-28 17:00         2023-05-04 08:00
H14     2021-04-20 17:00         2021-04-22 08:00
"""

SENT_BY = """
H14     2025-12-05 16:50         2025-12-08 12:00  # signed Friday: Monday's morning
H14     2025-12-04 00:00         2025-12-05 12:00
H14     2025-12-04 23:59:59.999  2025-12-05 12:00
H55     2025-12-05 16:50         2025-12-08 11:30
H41     2025-12-05 16:50         2025-12-08 12:00
H41     2025-06-06 16:50         2025-06-09 11:30
H41     2026-01-09 16:50         2026-01-10 12:00  # a worked Saturday is the next working day
H41     2025-12-06 09:00         2025-12-08 12:00  # signed on a Saturday
H41     2026-02-13 16:50         2026-02-23 12:00
H41     2026-08-21 16:50         2026-08-22 11:30
H41     2025-12-31 16:50         2026-01-05 12:00
H41     2025-10-16 16:50         2025-10-17 12:00  # the morning is the next day's, by its own season
H41.07  2025-03-31 10:00         2025-04-01 12:00
H41.07  2025-03-27 10:00         2025-03-28 11:00
"""


def instant(day: str, time: str) -> int:
    found = datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=VIETNAM)
    return (found - datetime(1970, 1, 1, tzinfo=VIETNAM)) // timedelta(milliseconds=1) - 7 * 3_600_000


def rows(text: str) -> list[tuple[OrgId, int, int]]:
    found = []
    for line in text.strip().splitlines():
        code, day, time, due, at = line.partition("#")[0].split()
        found.append((OrgId.canonical(code), instant(day, time), instant(due, at)))
    return found


def test_three_hundred_dated_vectors() -> None:
    days = list(dated())
    assert [on for on, worked in days if SHIPPED.works(on) is not worked] == []
    assert [iso(at) for organ, at, due in rows(RECEIPTS) if CALENDAR.receipt_ms(organ, at) != due] == []
    assert [iso(at) for organ, at, due in rows(SENT_BY) if CALENDAR.send_by_ms(organ, at) != due] == []
    assert len(days) + len(rows(RECEIPTS)) + len(rows(SENT_BY)) >= 300


def test_the_shipped_days_are_those_of_an_independent_oracle() -> None:
    """Two it does not agree on are known: the swap of 2 and 10 January 2026 (12729/VPCP-KGVX), which it lacks, and the day of
    culture, which it takes for enacted."""
    oracle = holidays.country_holidays("VN", years=range(2018, 2027))
    worked = {date(2019, 1, 5), date(2019, 5, 4), date(2024, 5, 4), date(2025, 4, 26), date(2026, 8, 22)}
    differing = []
    for year in SHIPPED.years:
        for passed in range(365 + (year % 4 == 0)):
            on = date(year, 1, 1) + timedelta(passed)
            if SHIPPED.works(on) is not (on in worked or (on.weekday() < 5 and on not in oracle)):
                differing.append(on)
    assert differing == [date(2026, 1, 2), date(2026, 1, 10), date(2026, 11, 24)]


def test_working_hours_between_two_instants() -> None:
    hour = 3_600_000
    friday, monday = instant("2025-12-05", "16:00"), instant("2025-12-08", "08:30")
    assert CALENDAR.working_ms(NGHE_AN, friday, monday) == 2 * hour
    assert CALENDAR.working_ms(NGHE_AN, monday, friday) == 0
    assert CALENDAR.working_ms(NGHE_AN, instant("2026-02-13", "17:00"), instant("2026-02-23", "07:30")) == 0
    assert CALENDAR.working_ms(NGHE_AN, instant("2025-12-05", "00:00"), instant("2025-12-05", "23:00")) == 8 * hour


def test_where_nobody_stated_hours_an_arrival_counts_at_once() -> None:
    for day, time in (("2026-02-17", "03:00"), ("2025-12-06", "23:59:59.999"), ("2031-01-01", "00:00")):
        at = instant(day, time)
        assert SHIPPED.receipt_ms(NGHE_AN, at) == at


def test_a_year_without_a_calendar_stops_only_what_needs_it_by_name() -> None:
    with pytest.raises(NoCalendar):
        SHIPPED.works(date(2031, 6, 2))
    with pytest.raises(NoCalendar):
        SHIPPED.send_by_ms(NGHE_AN, instant("2026-12-31", "10:00"))
    with pytest.raises(NoCalendar) as caught:
        CALENDAR.receipt_ms(NGHE_AN, instant("2026-12-31", "17:00"))
    assert caught.value.year == 2027
    with pytest.raises(NoCalendar):
        CALENDAR.working_ms(NGHE_AN, instant("2026-12-31", "10:00"), instant("2027-01-01", "10:00"))
    assert CALENDAR.receipt_ms(NGHE_AN, instant("2026-12-31", "16:00")) == instant("2026-12-31", "16:00")


def test_a_missing_calendar_is_complained_of_from_december_on() -> None:
    assert SHIPPED.missing(date(2026, 11, 30)) is None
    assert SHIPPED.missing(date(2026, 12, 1)) == 2027
    assert SHIPPED.missing(date(2027, 1, 1)) == 2027


def test_of_two_versions_of_a_year_the_higher_counts() -> None:
    wrong, right = Year(2026, 1, frozenset(), frozenset()), Year(2026, 2, frozenset({date(2026, 11, 24)}), frozenset())
    for years in ((wrong, right), (right, wrong)):
        assert not Calendar(years).works(date(2026, 11, 24))


def test_an_office_that_never_opens_has_no_calendar() -> None:
    shut = Year(2026, 1, frozenset(date(2026, 1, 1) + timedelta(passed) for passed in range(365)), frozenset())
    with pytest.raises(NoCalendar):
        Calendar([shut], HOURS).receipt_ms(NGHE_AN, instant("2026-06-01", "10:00"))
    with pytest.raises(NoCalendar):
        Calendar([shut], HOURS).send_by_ms(NGHE_AN, instant("2026-06-01", "10:00"))

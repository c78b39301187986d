"""The periods that reports speak of: day, month, quarter, half-year, nine months, year, any range; as the calendar has them, and
as the reporting rule of the administration has them. Both are data: where a year begins, and how the months lie in it.

Knows nobody. A period is days in Vietnam, first and last included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

YEAR_MIN, YEAR_MAX = 2000, 2200
RANGE_DAYS_MAX = 3660


class Kind(StrEnum):
    DAY = "day"
    MONTH = "month"
    QUARTER = "quarter"
    HALF = "half"
    NINE_MONTHS = "nine"
    YEAR = "year"
    RANGE = "range"


class Rule(StrEnum):
    """Which periods an owner reports by."""

    CALENDAR = "calendar"
    OFFICIAL = "official"


FIRST_DAY: Mapping[Rule, tuple[int, int]] = {Rule.CALENDAR: (0, 1), Rule.OFFICIAL: (-1, 15)}
"""Where a month of reporting begins: months before it, day. Official: from the 15th of the month before to its own 14th.
# NĐ 09/2019/NĐ-CP"""

MONTHS: Mapping[Kind, int] = {Kind.MONTH: 1, Kind.QUARTER: 3, Kind.HALF: 6, Kind.NINE_MONTHS: 9, Kind.YEAR: 12}


@dataclass(frozen=True, slots=True)
class Period:
    """key: as it is asked for and shown, such as 2026-11-22, 2026-11, 2026-Q4, 2026-H1, 2026-9M, 2026, 2026-01-01..2026-03-31."""

    kind: Kind
    key: str
    first: date
    last: date
    rule: Rule = Rule.CALENDAR

    def days(self) -> Iterator[date]:
        for passed in range((self.last - self.first).days + 1):
            yield self.first + timedelta(passed)


class BadPeriod(ValueError):
    """The text names no period of this kind. example: how one is written."""

    def __init__(self, text: str, example: str) -> None:
        super().__init__(f"{text}: {example}")
        self.text = text
        self.example = example


EXAMPLES: Mapping[Kind, str] = {
    Kind.DAY: "2026-11-22",
    Kind.MONTH: "2026-11",
    Kind.QUARTER: "2026-Q4",
    Kind.HALF: "2026-H1",
    Kind.NINE_MONTHS: "2026-9M",
    Kind.YEAR: "2026",
    Kind.RANGE: "2026-01-01..2026-03-31",
}
_FORMS: Mapping[Kind, re.Pattern[str]] = {
    Kind.MONTH: re.compile(r"([0-9]{4})-([0-9]{2})"),
    Kind.QUARTER: re.compile(r"([0-9]{4})-?Q([1-4])", re.IGNORECASE),
    Kind.HALF: re.compile(r"([0-9]{4})-?H([12])", re.IGNORECASE),
    Kind.NINE_MONTHS: re.compile(r"([0-9]{4})-?(9)M", re.IGNORECASE),
    Kind.YEAR: re.compile(r"([0-9]{4})()"),
}
_KEYS: Mapping[Kind, str] = {
    Kind.MONTH: "{year:04}-{part:02}",
    Kind.QUARTER: "{year:04}-Q{part}",
    Kind.HALF: "{year:04}-H{part}",
    Kind.NINE_MONTHS: "{year:04}-9M",
    Kind.YEAR: "{year:04}",
}


def named(kind: Kind, text: str, rule: Rule = Rule.CALENDAR) -> Period:
    """The period that a text names (see EXAMPLES). `BadPeriod`."""
    if kind is Kind.DAY:
        on = _date(text, kind)
        return Period(kind, on.isoformat(), on, on)
    if kind is Kind.RANGE:
        first, separator, last = text.partition("..")
        if not separator:
            raise BadPeriod(text, EXAMPLES[kind])
        return between(_date(first, kind), _date(last, kind))
    found = _FORMS[kind].fullmatch(text.strip())
    if found is None:
        raise BadPeriod(text, EXAMPLES[kind])
    year, part = int(found[1]), 1 if kind in (Kind.NINE_MONTHS, Kind.YEAR) else int(found[2])
    if not YEAR_MIN <= year <= YEAR_MAX or not 1 <= part <= 12:
        raise BadPeriod(text, EXAMPLES[kind])
    return _of_months(kind, year, part, rule)


def between(first: date, last: date) -> Period:
    """Any range, both days included. `BadPeriod` where it ends before it begins, or is longer than ten years."""
    if not first <= last or (last - first).days >= RANGE_DAYS_MAX:
        raise BadPeriod(f"{first}..{last}", EXAMPLES[Kind.RANGE])
    return Period(Kind.RANGE, f"{first}..{last}", first, last)


def around(kind: Kind, on: date, rule: Rule = Rule.CALENDAR) -> Period:
    """The period of this kind that holds the day; a range is that day alone. What covers only a part of the year (half, nine
    months) is the one that ends last before the day where none holds it."""
    if kind is Kind.DAY:
        return Period(kind, on.isoformat(), on, on)
    if kind is Kind.RANGE:
        return between(on, on)
    parts = 1 if kind is Kind.NINE_MONTHS else 12 // MONTHS[kind]
    every = [_of_months(kind, year, part, rule) for year in (on.year - 1, on.year, on.year + 1) for part in range(1, parts + 1)]
    begun = [each for each in every if each.first <= on]
    return begun[-1]


def _of_months(kind: Kind, year: int, part: int, rule: Rule) -> Period:
    months = MONTHS[kind]
    first = _begin(year, (part - 1) * months, rule)
    last = _begin(year, part * months, rule) - timedelta(1)
    return Period(kind, _KEYS[kind].format(year=year, part=part), first, last, rule)


def _begin(year: int, months: int, rule: Rule) -> date:
    """The first day of the reporting month after so many of the year."""
    before, on = FIRST_DAY[rule]
    count = year * 12 + months + before
    return date(count // 12, count % 12 + 1, on)


def _date(text: str, kind: Kind) -> date:
    try:
        found = date.fromisoformat(text.strip())
    except ValueError:
        raise BadPeriod(text, EXAMPLES[kind]) from None
    if not YEAR_MIN <= found.year <= YEAR_MAX or found.isoformat() != text.strip():  # a week and its day is ISO 8601, too
        raise BadPeriod(text, EXAMPLES[kind])
    return found

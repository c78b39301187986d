"""Periods of reporting: the parts make the whole, in both calendars."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from node.core.periods import EXAMPLES, BadPeriod, Kind, Period, Rule, around, between, named


def span(period: Period) -> str:
    return f"{period.first} {period.last}"


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("year", [2019, 2024, 2026])
def test_three_months_are_the_quarter_and_four_quarters_the_year(year: int, rule: Rule) -> None:
    months = [named(Kind.MONTH, f"{year}-{month:02}", rule) for month in range(1, 13)]
    for number in range(1, 5):
        quarter = named(Kind.QUARTER, f"{year}-Q{number}", rule)
        of_it = months[3 * number - 3 : 3 * number]
        assert [on for month in of_it for on in month.days()] == list(quarter.days())
    year_days = list(named(Kind.YEAR, str(year), rule).days())
    assert [on for month in months for on in month.days()] == year_days
    halves = [named(Kind.HALF, f"{year}-H{number}", rule) for number in (1, 2)]
    assert [on for half in halves for on in half.days()] == year_days
    assert list(named(Kind.NINE_MONTHS, f"{year}-9M", rule).days()) == [on for month in months[:9] for on in month.days()]


def test_the_official_periods_begin_on_the_fifteenth() -> None:
    official = Rule.OFFICIAL
    assert span(named(Kind.MONTH, "2026-03", official)) == "2026-02-15 2026-03-14"
    assert span(named(Kind.QUARTER, "2026-Q1", official)) == "2025-12-15 2026-03-14"
    assert span(named(Kind.HALF, "2026-H1", official)) == "2025-12-15 2026-06-14"
    assert span(named(Kind.NINE_MONTHS, "2026-9M", official)) == "2025-12-15 2026-09-14"
    assert span(named(Kind.YEAR, "2026", official)) == "2025-12-15 2026-12-14"


def test_the_calendars_periods() -> None:
    assert span(named(Kind.DAY, "2026-11-22")) == "2026-11-22 2026-11-22"
    assert span(named(Kind.MONTH, "2024-02")) == "2024-02-01 2024-02-29"
    assert span(named(Kind.QUARTER, "2026q4")) == "2026-10-01 2026-12-31"
    assert span(named(Kind.RANGE, "2025-12-30..2026-01-02")) == "2025-12-30 2026-01-02"


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("kind", [Kind.DAY, Kind.MONTH, Kind.QUARTER, Kind.HALF, Kind.YEAR, Kind.RANGE])
def test_the_period_around_a_day_holds_it_and_is_found_by_its_key(kind: Kind, rule: Rule) -> None:
    for passed in range(0, 800, 13):
        on = date(2025, 12, 1) + timedelta(passed)
        found = around(kind, on, rule)
        assert found.first <= on <= found.last
        again = named(kind, found.key, rule)
        assert (again.first, again.last, again.key) == (found.first, found.last, found.key)


def test_in_autumn_the_nine_months_are_those_that_ended() -> None:
    assert around(Kind.NINE_MONTHS, date(2026, 11, 1)).key == "2026-9M"
    assert around(Kind.NINE_MONTHS, date(2026, 12, 20), Rule.OFFICIAL).key == "2027-9M"


@pytest.mark.parametrize("kind", Kind)
def test_an_example_is_one_and_other_texts_are_told_the_example(kind: Kind) -> None:
    assert named(kind, EXAMPLES[kind]).key == EXAMPLES[kind]
    for text in (
        "",
        "x",
        "2026-13",
        "2026-Q5",
        "0000",
        "2026-02-30",
        "2026-01-02..",
        "9999-01-01",
        "2026-H3",
        "2026-W01-1",
        "20260101",
    ):
        with pytest.raises(BadPeriod):
            named(kind, text)


def test_a_range_runs_forward_and_no_longer_than_ten_years() -> None:
    with pytest.raises(BadPeriod):
        between(date(2026, 1, 2), date(2026, 1, 1))
    with pytest.raises(BadPeriod):
        between(date(2010, 1, 1), date(2026, 1, 1))

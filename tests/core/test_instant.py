"""Instants: one zone, one home, no clock."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from node.core import instant

TEN_O_CLOCK = 1_795_316_400_123  # 2026-11-22 10:00:00.123 in Vietnam


def test_an_instant_is_printed_in_vietnams_time_with_its_offset() -> None:
    assert instant.iso(TEN_O_CLOCK) == "2026-11-22T10:00:00.123+07:00"
    assert instant.iso(0) == "1970-01-01T07:00:00.000+07:00"


def test_what_is_printed_is_read_and_a_time_without_a_zone_is_none() -> None:
    assert instant.parse_iso(instant.iso(TEN_O_CLOCK)) == TEN_O_CLOCK
    assert instant.parse_iso(instant.iso_utc(TEN_O_CLOCK)) == TEN_O_CLOCK
    assert instant.parse_iso("2026-11-22T10:00:00") is None
    assert instant.parse_iso("2026/11/22 10:00:00") is None


def test_a_log_line_carries_utc() -> None:
    assert instant.iso_utc(TEN_O_CLOCK) == "2026-11-22T03:00:00.123Z"


def test_a_day_begins_at_midnight_in_vietnam_not_in_greenwich() -> None:
    five_in_the_afternoon_utc = 1_795_280_400_000
    assert instant.iso_utc(five_in_the_afternoon_utc) == "2026-11-21T17:00:00.000Z"
    assert instant.day(five_in_the_afternoon_utc) == date(2026, 11, 22)
    assert instant.day(five_in_the_afternoon_utc - 1) == date(2026, 11, 21)


def test_the_old_form_has_no_zone_and_reads_back() -> None:
    assert instant.old_form(TEN_O_CLOCK) == "2026/11/22 10:00:00"
    assert instant.parse_old("2026/11/22 10:00:00") == 1_795_316_400_000
    assert instant.parse_old(" 2026/11/22 10:00:00\n") == 1_795_316_400_000


def test_impossible_or_other_forms_are_no_instant() -> None:
    for text in (
        "",
        "null",
        "2026/02/30 10:00:00",
        "2026/11/22",
        "2026-11-22 10:00:00",
        "22/11/2026 10:00:00",
        "2026/11/22 25:00:00",
        "2026/11/22 10:00:00 +07",
        "0000/01/01 00:00:00",
        "２０２６/11/22 10:00:00",
    ):
        assert instant.parse_old(text) is None, text


@given(st.integers(min_value=instant.FIRST_MS, max_value=instant.LAST_MS))
def test_what_is_printed_in_the_old_form_parses_to_the_same_second(ms: int) -> None:
    assert instant.parse_old(instant.old_form(ms)) == ms // 1000 * 1000


@given(st.integers(min_value=-(1 << 60), max_value=1 << 60))
def test_whatever_a_peer_claims_can_be_printed(ms: int) -> None:
    assert instant.iso(ms).endswith("+07:00")
    assert instant.iso_utc(ms).endswith("Z")
    assert 1 <= instant.day(ms).year <= 9999

"""What one ledger row adds, to whom and on which day: the definitions of Điều 11."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from node.core import instant
from node.core.counting import Row, Said, document_type, gains, gathered, said, spans, spans_of, urgent
from node.core.identifier import HUB, OrgId
from node.core.package import Attachment, Business, Package, Party, Priority
from node.core.working_time import Calendar, Hours, Year

H41, H54, VIA = OrgId(("H41", "05")), OrgId(("H54", "02", "09")), OrgId(("H54", "02"))
MONDAY = date(2026, 11, 23)
PLAIN = Calendar([Year(2026, 1, frozenset(), frozenset())])
OFFICE = Calendar([Year(2026, 1, frozenset(), frozenset())], [Hours(HUB, ((450, 690), (810, 1020)))])
"""07:30–11:30, 13:30–17:00 on weekdays."""


def at(on: date, hour: int, minute: int = 0) -> int:
    return instant.start_ms(on) + (hour * 60 + minute) * 60_000


def row(event: str, **changes: Any) -> Row:
    plain: dict[str, Any] = {
        "at_ms": at(MONDAY, 9),
        "synchronised": True,
        "event": event,
        "organ": H41,
        "counterpart": H54,
        "kind": "edoc",
        "business": Business.NEW,
        "priority": Priority.NORMAL,
        "reason": "",
        "document": True,
        "office": changes.get("organ", H41),
        "made_ms": 0,
        "type": "",
        "paper": "",
        "dated": "",
        "trial": False,
    }
    return Row(**{**plain, **changes})


def added(each: Row, calendar: Calendar = PLAIN) -> dict[tuple[str, str], dict[str, int]]:
    return {(gain.day.isoformat(), gain.subject): dict(gain.counts) for gain in gains(each, calendar)}


DAY = MONDAY.isoformat()


def test_a_document_is_sent_once_however_many_receivers_it_has() -> None:
    rows = [row("sent", counterpart=to, document=not place) for place, to in enumerate((H54, VIA, OrgId(("G12",))))]
    found, _ = gathered(rows, PLAIN)
    assert found[MONDAY, "oH41.05"] == {"sent": 1, "sent_deliveries": 3, "sent_time_unknown": 1, "sent_type.other": 1}
    assert found[MONDAY, "pH41>H54"] == {"sent": 2}
    assert found[MONDAY, "pH41>G12"] == {"sent": 1}


def test_what_a_sent_document_says_of_itself_is_counted_apart() -> None:
    found = added(row("sent", priority=Priority.EXPRESS, type="cong-van", paper="1", dated="2026/11/23"))[DAY, "oH41.05"]
    assert found == {
        "sent": 1,
        "sent_deliveries": 1,
        "sent_on_time": 1,
        "sent_priority.3": 1,
        "sent_type.cong-van": 1,
        "sent_with_paper": 1,
    }
    assert added(row("sent", paper="0"))[DAY, "oH41.05"]["sent_electronic_only"] == 1


@pytest.mark.parametrize(
    ("signed", "key"), [("valid", "sent_signed"), ("indeterminate", "sent_indeterminate"), ("unsigned", "sent_unsigned")]
)
def test_each_document_is_signed_or_not_or_nobody_knows(signed: str, key: str) -> None:
    """QĐ 28/2018 Điều 4. A row of before this was noted is in none of the three."""
    kinds = ("sent_signed", "sent_indeterminate", "sent_unsigned")
    assert [each for each in kinds if each in added(row("sent", signed=signed))[DAY, "oH41.05"]] == [key]
    assert not any(each in added(row("sent"))[DAY, "oH41.05"] for each in kinds)
    assert key not in added(row("sent", signed=signed, business=Business.RECALL))[DAY, "oH41.05"]


def test_a_documents_metadata_are_whole_or_what_they_lack_is_named() -> None:
    found = added(row("sent", flaws="date-missing type-missing"))[DAY, "oH41.05"]
    assert (found["sent_flaw.date-missing"], found["sent_flaw.type-missing"], found.get("sent_flawless")) == (1, 1, None)
    assert added(row("sent", flaws=""))[DAY, "oH41.05"]["sent_flawless"] == 1
    assert not any("flaw" in key for key in added(row("sent"))[DAY, "oH41.05"]), "nobody looked"


def test_what_a_package_says_of_itself() -> None:
    file = Attachment("", "a.pdf", "", 9, "", False)
    found = said(package(type_name="Công văn", paper="1", attachments=(file,), oddities=("date-missing",)), "2026/11/30")
    due = instant.start_ms(date(2026, 12, 1))
    assert found == Said("cong-van", "1", "indeterminate", ("date-missing",), due)
    scan = replace(file, signable=False)
    assert said(package(attachments=(scan,)), "") == Said("", "", "unsigned", ("type-missing",), 0)
    assert said(package(attachments=(scan, file), paper="2"), "9999/12/31").signed == "indeterminate"
    assert [said(package(), each).due_ms for each in ("9999/12/31", "2026/02/30", "mai")] == [0, 0, 0]


def package(**changes: Any) -> Package:
    texts = ("document_id", "number", "notation", "date", "subject", "type_name", "business_document_id", "reason", "due_date")
    plain: dict[str, Any] = dict.fromkeys((*texts, "paper", "status", "description", "timestamp"), "")
    plain |= {"sender": Party("H41"), "priority": Priority.NORMAL, "business": Business.NEW}
    plain |= dict.fromkeys(("recipients", "response_for", "attachments", "missing", "oddities"), ())
    return Package(**{**plain, **changes})


@pytest.mark.parametrize(
    ("priority", "hour", "word"),
    [
        (Priority.URGENT, 4, "on_time"),
        (Priority.URGENT, 5, "late"),
        (Priority.VERY_URGENT, 2, "on_time"),
        (Priority.VERY_URGENT, 3, "late"),
        (Priority.EXPRESS, 1, "on_time"),
        (Priority.EXPRESS, 2, "late"),
        (Priority.EXPRESS_TIMED, 2, "late"),
    ],
)
def test_an_urgent_document_is_late_by_the_clock_also_on_a_day_of_rest(priority: Priority, hour: int, word: str) -> None:
    """QĐ 28/2018 Điều 6.2: at once; dated on Saturday, and 2024 has no calendar here."""
    for dated in (date(2026, 11, 21), date(2024, 11, 21)):
        at_ms = at(dated + timedelta(days=1), hour)
        found = added(row("sent", at_ms=at_ms, dated=f"{dated:%Y/%m/%d}", priority=priority), OFFICE)
        ((_, counts),) = [each for each in found.items() if each[0][1] == "oH41.05"]
        assert counts[f"sent_{word}"] == 1
        assert counts.get(f"sent_late_priority.{int(priority)}") == (1 if word == "late" else None)


def test_how_long_is_urgent_is_the_owners_word() -> None:
    late = row("sent", dated="2026/11/22", at_ms=at(MONDAY, 5), priority=Priority.URGENT)
    counts = [dict(gain.counts) for gain in gains(late, OFFICE, urgent(6, 2, 1)) if gain.subject[0] == "o"]
    assert counts[0]["sent_on_time"] == 1 and "sent_late_priority.1" not in counts[0]


def test_a_document_is_acknowledged_on_the_day_of_its_receipt_instant_or_later() -> None:
    """NĐ 30/2020 Điều 21.2.c; Sơn La Điều 10.4.b: what came on Friday evening is received on Monday."""
    friday = MONDAY - timedelta(days=3)
    evening = {"organ": H54, "counterpart": H41, "made_ms": at(friday, 18)}
    for said_ms, day, key in (
        (at(friday, 18, 5), DAY, "acknowledged_same_day"),
        (at(MONDAY, 23, 59), DAY, "acknowledged_same_day"),
        (at(MONDAY, 24), "2026-11-24", "acknowledged_later"),
    ):
        assert added(row("acknowledged", at_ms=said_ms, **evening), OFFICE) == {(day, "oH54.02.09"): {key: 1}}
    for changes in ({"business": Business.UPDATE}, {"document": False}, {"trial": True}):
        assert added(row("acknowledged", at_ms=at(MONDAY, 9), **evening, **changes)) == {}


def test_what_is_overdue_is_so_on_the_day_after_its_limit_whenever_somebody_looked() -> None:
    """QĐ 28/2018 Điều 10.2.o"""
    late = row("overdue", made_ms=at(MONDAY, 0), at_ms=at(MONDAY, 50))
    assert added(late) == {(DAY, "oH41.05"): {"statuses_overdue": 1}}


@pytest.mark.parametrize("business", [Business.RECALL, Business.UPDATE, Business.REPLACE])
def test_recalls_updates_and_replacements_are_counted_apart(business: Business) -> None:
    word = business.name.lower()
    assert added(row("sent", business=business))[DAY, "oH41.05"] == {"sent_deliveries": 1, f"sent_{word}": 1}
    assert added(row("collected", business=business))[DAY, "oH41.05"] == {f"received_{word}": 1}


def test_a_document_is_received_by_the_office_and_delivered_to_the_code_it_was_addressed_to() -> None:
    found = added(row("collected", organ=H54, counterpart=H41, office=VIA, made_ms=at(MONDAY, 9) - 400))
    assert found == {
        (DAY, "pH41>H54"): {"collected": 1},
        (DAY, "oH54.02"): {"received": 1, "delay.2": 1, "delay_ms": 400},
    }
    second = added(row("collected", organ=VIA, counterpart=H41, document=False))
    assert second == {(DAY, "pH41>H54"): {"collected": 1}}, "of one document to two codes of one office"


def test_a_receipt_after_hours_falls_on_the_next_office_day_and_without_a_calendar_on_its_own() -> None:
    """Sơn La 2588/QĐ-UBND Điều 10.4.b"""
    friday = MONDAY - timedelta(days=3)
    late = row("collected", at_ms=at(friday, 17, 1))
    assert {day for day, subject in added(late, OFFICE) if subject[0] == "o"} == {DAY}
    assert {day for day, subject in added(late, OFFICE) if subject[0] == "p"} == {friday.isoformat()}
    unknown = row("collected", at_ms=at(date(2027, 1, 1), 3))
    assert {day for day, _ in added(unknown, OFFICE)} == {"2027-01-01"}


@pytest.mark.parametrize(
    ("dated", "minute", "word"),
    [
        ("2026/11/20", 29, "on_time"),
        ("2026/11/20", 31, "late"),
        ("2026/11/23", 31, "on_time"),
        ("2026/11/31", 31, "time_unknown"),
        ("sáng qua", 31, "time_unknown"),
        ("2026/W47/1", 31, "time_unknown"),
        ("2026-11-23", 31, "time_unknown"),
        ("2024/02/02", 31, "time_unknown"),
    ],
)
def test_a_document_is_late_after_the_next_working_morning(dated: str, minute: int, word: str) -> None:
    """QĐ 28/2018 Điều 6.2: Friday's documents leave by Monday 11:30."""
    assert f"sent_{word}" in added(row("sent", at_ms=at(MONDAY, 11, minute), dated=dated), OFFICE)[DAY, "oH41.05"]


def test_a_day_begins_at_midnight_in_vietnam() -> None:
    """A day boundary in UTC would be seven hours off. # QĐ 28/2018 Điều 14.4"""
    first, last = at(MONDAY, 0), at(MONDAY, 24) - 1
    assert {day for moment in (first, last) for day, _ in added(row("sent", at_ms=moment))} == {DAY}
    assert {day for day, _ in added(row("sent", at_ms=first - 1))} == {"2026-11-22"}


def test_what_ended_is_the_pairs_where_it_ended_and_the_senders_where_it_is_known() -> None:
    ended = row("refused", organ=H54, counterpart=H41, reason="recipient-unknown")
    assert added(ended) == {(DAY, "pH41>H54"): {"refused": 1}}
    known = row("known-expired", reason="expired")
    assert added(known) == {(DAY, "oH41.05"): {"expired": 1, "expired_reason.expired": 1}}
    assert (
        added(row("refused-at-door", reason="recipient-closed"))[DAY, "oH41.05"]["refused_at_door_reason.recipient-closed"] == 1
    )
    assert added(row("known-collected")) == {}


def test_statuses_are_counted_apart_and_notices_and_trial_documents_never() -> None:
    """QĐ 28/2018 Điều 11, 21.1"""
    assert added(row("status-sent", kind="status")) == {(DAY, "oH41.05"): {"statuses_sent": 1}}
    assert added(row("status-collected", kind="status")) == {(DAY, "oH41.05"): {"statuses_received": 1}}
    assert added(row("refused", kind="status")) == {}
    for event in ("sent", "collected", "refused", "duplicate"):
        assert added(row(event, kind="notice")) == {}
        assert added(row(event, trial=True)) == {}


def test_what_a_relay_does_is_its_own_and_no_organs() -> None:
    assert added(row("duplicate")) == {(DAY, "r"): {"duplicates": 1}}
    assert added(row("held", kind="status")) == {(DAY, "r"): {"held": 1}}


def test_rows_stamped_by_a_clock_nobody_vouched_for_are_marked() -> None:
    rows = [row("sent", synchronised=False), row("sent", synchronised=False, at_ms=at(MONDAY, 25)), row("sent")]
    assert gathered(rows, PLAIN)[1] == {MONDAY: 1, MONDAY + timedelta(days=1): 1}


def test_types_are_the_29_of_the_decree_and_other() -> None:
    assert [document_type(name) for name in ("Công văn", "QUYẾT  ĐỊNH", "Bản thỏa thuận", "Thư riêng", "")] == [
        *("cong-van", "quyet-dinh", "ban-thoa-thuan", "", ""),
    ]


def test_months_of_both_calendars_are_made_of_whole_parts() -> None:
    """NĐ 09/2019: the 15th to the 14th."""
    assert spans(date(2026, 2, 1), date(2026, 2, 28)) == ["2026-02-01+", "2026-02-15+"]
    assert spans(date(2026, 1, 15), date(2026, 2, 14)) == ["2026-01-15+", "2026-02-01+"]
    assert spans(date(2026, 12, 30), date(2027, 1, 14)) == ["2026-12-30", "2026-12-31", "2027-01-01+"]
    assert spans(date(2026, 2, 2), date(2026, 2, 1)) == []


def test_quarters_of_both_calendars_are_one_span() -> None:
    """NĐ 09/2019: the first quarter is 15 December to 14 March, also of a leap year."""
    assert spans(date(2028, 1, 1), date(2028, 3, 31)) == ["2028-Q1"]
    assert spans(date(2027, 12, 15), date(2028, 3, 14)) == ["2028-O1"]
    assert spans(date(2027, 12, 15), date(2028, 12, 14)) == [f"2028-O{number}" for number in (1, 2, 3, 4)]
    assert spans(date(2028, 1, 1), date(2028, 12, 31)) == [f"2028-Q{number}" for number in (1, 2, 3, 4)]
    assert spans(date(2028, 2, 15), date(2028, 7, 1)) == ["2028-02-15+", "2028-03-01+", "2028-O2", "2028-06-15+", "2028-07-01"]
    assert spans_of(date(2028, 2, 29)) == ("2028-02-29", "2028-02-15+", "2028-Q1", "2028-O1")


EVERY_DAY = [date(2027, 11, 1) + timedelta(days=passed) for passed in range(600)]


def test_spans_cover_every_day_once() -> None:
    start = date(2027, 11, 28)
    for offset in (*range(0, 110, 7), 17, 30):
        for length in (1, 14, 31, 93, 366):
            first = start + timedelta(days=offset)
            days = [first + timedelta(days=passed) for passed in range(length)]
            covered = [day for span in spans(days[0], days[-1]) for day in EVERY_DAY if span in spans_of(day)]
            assert covered == days

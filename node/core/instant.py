"""Instants as people and data read them: UTC milliseconds in, Vietnam's time out. The one home of +07:00.

Knows nobody. It never asks what time it is: the caller hands the instant in.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

VIETNAM = timezone(timedelta(hours=7))
"""Giờ Việt Nam, all year round. # QĐ 28/2018 Điều 14.4"""

FIRST_MS = -62_135_596_800_000
LAST_MS = 253_402_275_599_999
"""Year 1 to the end of year 9999 in Vietnam. What lies outside (a peer may claim anything) is shown as the edge."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_OLD = re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})")


def _utc(ms: int) -> datetime:
    return _EPOCH + _MILLISECOND * min(max(ms, FIRST_MS), LAST_MS)


def iso(ms: int) -> str:
    """ISO 8601 with milliseconds and +07:00, such as 2026-11-22T10:00:00.123+07:00. # QĐ 28/2018 Điều 14.4"""
    return _utc(ms).astimezone(VIETNAM).isoformat(timespec="milliseconds")


def iso_utc(ms: int) -> str:
    """ISO 8601 in UTC with milliseconds, such as 2026-11-22T03:00:00.123Z: the form of log lines."""
    return _utc(ms).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_iso(text: str) -> int | None:
    """ISO 8601 with an offset to UTC milliseconds; None for any other text, one without an offset included."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found.tzinfo is None else (found - _EPOCH) // _MILLISECOND


def day(ms: int) -> date:
    """The calendar day in Vietnam."""
    return _utc(ms).astimezone(VIETNAM).date()


def start_ms(on: date) -> int:
    """The instant at which a calendar day in Vietnam begins, UTC ms."""
    return (datetime(on.year, on.month, on.day, tzinfo=VIETNAM) - _EPOCH) // _MILLISECOND


def old_form(ms: int) -> str:
    """`yyyy/MM/dd HH:mm:ss` in Vietnam's time, without a zone: the form of edXML and of the VXP lists, nowhere else."""
    local = _utc(ms).astimezone(VIETNAM)
    return f"{local.year:04}/{local.month:02}/{local.day:02} {local.hour:02}:{local.minute:02}:{local.second:02}"


def parse_old(text: str) -> int | None:
    """`yyyy/MM/dd HH:mm:ss` taken as Vietnam's time, to UTC milliseconds; None for any other form or an impossible date."""
    match = _OLD.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day_of_month, hour, minute, second = map(int, match.groups())
    try:
        local = datetime(year, month, day_of_month, hour, minute, second, tzinfo=VIETNAM)
    except ValueError:
        return None
    return (local - _EPOCH) // _MILLISECOND

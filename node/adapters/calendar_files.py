"""The working calendar as files (TOML): one a year, shipped with the program or the owner's own, and the owner's hours.

A file that breaks a form or a law of the calendar is refused whole, naming the file and what is wrong. Knows `core`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.working_time import DAY_MIN, Calendar, Hours, MonthDay, Session, Year

SHIPPED = Path(__file__).resolve().parent.parent / "calendars"
HOURS_FILE = "hours.toml"
FILE_BYTES_MAX = 1024 * 1024
HOURS_MAX = 10_000
SESSIONS_MAX = 4
_SESSION = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_SEASON = re.compile(r"([0-9]{2})-([0-9]{2})")


class CalendarError(ValueError):
    """A file of the calendar cannot be used: which, and why."""


def load(folder: Path | None) -> Calendar:
    """The calendar that comes with the program and, over it, the owner's: a year in that folder stands for the shipped one,
    `hours.toml` for the office hours. `CalendarError`."""
    years = {year.year: year for year in map(_year, sorted(SHIPPED.glob("[0-9]*.toml")))}
    if folder is None:
        return Calendar(years.values())
    if not folder.is_dir():
        raise CalendarError(f"{folder}: không có thư mục lịch làm việc này")
    years |= {year.year: year for year in map(_year, sorted(folder.glob("[0-9]*.toml")))}
    hours = folder / HOURS_FILE
    return Calendar(years.values(), _hours(hours) if hours.is_file() else ())


@cache
def shipped() -> Calendar:
    """That which comes with the program."""
    return load(None)


class KeptCalendar:
    """The calendar as the running node has it. `CalendarError` at the start where a file cannot be used; afterwards the last good
    one stays, and whoever asks for it to be read again hears why."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._calendar = load(folder)

    def get(self) -> Calendar:
        return self._calendar

    def refresh(self) -> None:
        self._calendar = load(self._folder)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _YearFile(_Strict):
    format: Literal["truc-calendar-1"]
    year: int = Field(ge=2000, le=2200)
    version: int = Field(ge=1, le=1_000_000)
    source: str = Field(min_length=1, max_length=2000)
    confidence: str = Field(default="", max_length=2000)
    holidays: dict[date, str] = Field(min_length=1, max_length=366)
    in_lieu: dict[date, str] = {}
    swapped: dict[date, str] = {}
    worked: dict[date, str] = {}
    unsure: dict[date, str] = {}
    """Days of which it is not certain: told to the reader, worked as their weekday says."""


def _minutes(text: str) -> Session:
    found = _SESSION.fullmatch(text)
    if found is None:
        raise ValueError("một buổi viết như 07:30-11:30")
    start_h, start_min, end_h, end_min = map(int, found.groups())
    start, end = start_h * 60 + start_min, end_h * 60 + end_min
    if start_min > 59 or end_min > 59 or not 0 <= start < end <= DAY_MIN:
        raise ValueError("một buổi bắt đầu trước khi kết thúc, trong một ngày")
    return start, end


def _sessions(texts: tuple[str, ...]) -> tuple[str, ...]:
    found = [_minutes(text) for text in texts]
    if any(later[0] < earlier[1] for earlier, later in pairwise(found)):
        raise ValueError("các buổi theo thứ tự, không chồng nhau")
    return texts


def _month_day(text: str) -> MonthDay:
    found = _SEASON.fullmatch(text)
    if found is None:
        raise ValueError("ngày của mùa viết như 04-15 (tháng-ngày)")
    month, on = int(found[1]), int(found[2])
    date(2024, month, on)  # a leap year: any day that there is
    return month, on


def _season(texts: tuple[str, str]) -> tuple[str, str]:
    for text in texts:
        _month_day(text)
    return texts


class _HoursRow(_Strict):
    organ: str = Field(default="", max_length=35)
    sessions: Annotated[tuple[str, ...], AfterValidator(_sessions)] = Field(min_length=1, max_length=SESSIONS_MAX)
    first: date = date.min
    last: date | None = None
    season: Annotated[tuple[str, str], AfterValidator(_season)] | None = None
    every_day: bool = False
    source: str = Field(default="", max_length=2000)

    def hours(self) -> Hours:
        season = None if self.season is None else (_month_day(self.season[0]), _month_day(self.season[1]))
        try:
            organ = OrgId.canonical(self.organ)
        except Refused as refused:
            raise ValueError(f"organ: {refused.reason} {refused.rule}") from None
        return Hours(organ, tuple(map(_minutes, self.sessions)), self.first, self.last, season, self.every_day)


class _HoursFile(_Strict):
    format: Literal["truc-hours-1"]
    hours: tuple[_HoursRow, ...] = Field(max_length=HOURS_MAX)


def _year(path: Path) -> Year:
    try:
        found = _YearFile.model_validate(_tables(path))
    except ValidationError as error:
        raise _failure(path, error) from None
    off = {*found.holidays, *found.in_lieu, *found.swapped}
    for problem in _laws(found, off):
        raise CalendarError(f"{path}: {problem}")
    return Year(found.year, found.version, frozenset(off), frozenset(found.worked))


def _laws(found: _YearFile, off: Iterable[date]) -> Iterable[str]:
    for on in sorted({*off, *found.worked, *found.unsure}):
        if on.year != found.year:
            yield f"{on}: không thuộc năm {found.year}"
    for on in sorted(found.worked):
        if on.weekday() < 5 or on in off:
            yield f"{on}: ngày làm bù phải là thứ Bảy hoặc Chủ nhật và không phải ngày nghỉ"
    for on in sorted({*found.in_lieu, *found.swapped}):
        if on.weekday() >= 5:
            yield f"{on}: ngày nghỉ bù, nghỉ hoán đổi phải là ngày làm việc trong tuần"


def _hours(path: Path) -> tuple[Hours, ...]:
    try:
        rows = _HoursFile.model_validate(_tables(path)).hours
        return tuple(row.hours() for row in rows)
    except ValidationError as error:
        raise _failure(path, error) from None
    except ValueError as error:
        raise CalendarError(f"{path}: {error}") from None


def _tables(path: Path) -> Mapping[str, object]:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise CalendarError(f"{path}: lớn hơn {FILE_BYTES_MAX} byte")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CalendarError(f"{path}: không đọc được ({error})") from None


def _failure(path: Path, error: ValidationError) -> CalendarError:
    fault = error.errors()[0]
    return CalendarError(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}")

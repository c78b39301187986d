"""The working calendar as files (TOML): one a year, shipped with the program or the owner's own, and the owner's hours.

A file that breaks a form or a law of the calendar is refused whole, naming the file and what is wrong. Knows `core`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from node.core.changes import CALENDAR_CHARS_MAX, HOURS
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.working_time import DAY_MIN, Calendar, Hours, MonthDay, Session, Year

SHIPPED = Path(__file__).resolve().parent.parent / "calendars"
FILE_BYTES_MAX = CALENDAR_CHARS_MAX
HOURS_MAX = 10_000
SESSIONS_MAX = 4
_NAME = re.compile(rf"2[0-9]{{3}}|{HOURS}")
_SESSION = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_SEASON = re.compile(r"([0-9]{2})-([0-9]{2})")


log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class CalendarError(ValueError):
    """A file of the calendar cannot be used: which, and why."""


def load(folder: Path | None) -> Calendar:
    """The calendar that comes with the program and, over it, the owner's: a year in that folder stands for the shipped one,
    `hours.toml` for the office hours. `CalendarError`."""
    years, hours = _read_all(own_files(folder))
    return Calendar({**_shipped_years(), **years}.values(), hours)


def own_files(folder: Path | None) -> dict[str, str]:
    """The owner's files by name, their texts not judged. `CalendarError` where one cannot be read."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise CalendarError(f"{folder}: không có thư mục lịch làm việc này")
    paths = [path for path in sorted(folder.glob("*.toml")) if _NAME.fullmatch(path.stem)]
    return {path.stem: _text(path) for path in paths}


def _read_all(files: Mapping[str, str]) -> tuple[dict[int, Year], tuple[Hours, ...]]:
    years = {name: _year(name, text) for name, text in files.items() if name != HOURS}
    hours = _hours(HOURS, files[HOURS]) if HOURS in files else ()
    return {year.year: year for year in years.values()}, hours


@cache
def _shipped_years() -> Mapping[int, Year]:
    return _read_all({path.stem: _text(path) for path in sorted(SHIPPED.glob("*.toml"))})[0]


@cache
def shipped() -> Calendar:
    """That which comes with the program."""
    return load(None)


class KeptCalendar:
    """The calendar as the running node has it: that of the program, over it what the tree says, over it the owner's folder here.
    `CalendarError` at the start where a file of the folder cannot be used; afterwards the last good state stays, and whoever asks
    for it to be read again hears why."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._told: Mapping[tuple[OrgId, str], str] = {}
        self._within: Callable[[OrgId, OrgId], bool] = lambda author, code: False
        self._own = own_files(folder)
        self._calendar = self._made()
        self.edited: Callable[[], None] = lambda: None
        """Hears that the folder was read again."""

    def get(self) -> Calendar:
        return self._calendar

    def refresh(self) -> None:
        own = own_files(self._folder)
        _read_all(own)
        self._own = own
        self._calendar = self._made()
        self.edited()

    def files(self) -> Mapping[str, str]:
        return self._own

    def take(self, told: Mapping[tuple[OrgId, str], str], within: Callable[[OrgId, OrgId], bool]) -> None:
        """What the tree says, by author and name. A text that cannot be used counts for nothing, and is named."""
        if told or self._told:
            self._told, self._within = dict(told), within
            self._calendar = self._made()

    def _made(self) -> Calendar:
        years, hours = _read_all(self._own)
        for (author, name), text in sorted(self._told.items(), reverse=True):  # the nearest author's hours first
            try:
                told_years, told_hours = _read_all({name: text})
            except CalendarError as error:
                log.error("calendar of another node not used", author=str(author) or "hub", reason=str(error)[:300])
                continue
            years = {**told_years, **years}
            hours += tuple(each for each in told_hours if self._within(author, each.organ))
        return Calendar({**_shipped_years(), **years}.values(), hours)


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


def _year(name: str, text: str) -> Year:
    try:
        found = _YearFile.model_validate(_tables(name, text))
    except ValidationError as error:
        raise _failure(name, error) from None
    off = {*found.holidays, *found.in_lieu, *found.swapped}
    for problem in _laws(found, off):
        raise CalendarError(f"{name}.toml: {problem}")
    if str(found.year) != name:
        raise CalendarError(f"{name}.toml: tên tệp khác year = {found.year}")
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


def _hours(name: str, text: str) -> tuple[Hours, ...]:
    try:
        rows = _HoursFile.model_validate(_tables(name, text)).hours
        return tuple(row.hours() for row in rows)
    except ValidationError as error:
        raise _failure(name, error) from None
    except CalendarError:
        raise
    except ValueError as error:
        raise CalendarError(f"{name}.toml: {error}") from None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise CalendarError(f"{path}: lớn hơn {FILE_BYTES_MAX} byte")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalendarError(f"{path}: không đọc được ({error})") from None


def _tables(name: str, text: str) -> Mapping[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CalendarError(f"{name}.toml: không đọc được ({error})") from None


def _failure(name: str, error: ValidationError) -> CalendarError:
    fault = error.errors()[0]
    return CalendarError(f"{name}.toml: {'.'.join(map(str, fault['loc']))}: {fault['msg']}")

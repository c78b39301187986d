"""Working time: which days offices work, at which hours, and what the rules of sending and receiving make of an instant.

The calendar is data: one `Year` for each year that is known, and `Hours` per organ, season and validity. Told everything, it asks
no clock and reads no file. A year without data stops only the computing that needs it, by name (`NoCalendar`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from node.core.identifier import HUB, OrgId
from node.core.instant import VIETNAM, day

NOON_MIN = 12 * 60
DAY_MIN = 24 * 60
MINUTE_MS = 60_000
CLOSED_DAYS_MAX = 31
"""No office is closed longer in one piece; a calendar that says so is wrong."""
SPAN_DAYS_MAX = 3660
WARN_MONTH = 12
"""From 1 December on a missing calendar of the next year is complained of."""

Session = tuple[int, int]
"""Minutes since midnight: from, to."""
MonthDay = tuple[int, int]


class NoCalendar(Exception):
    """Nobody has said which days of this year are worked. Only what needs to know stops."""

    def __init__(self, year: int) -> None:
        super().__init__(f"no working calendar for {year}")
        self.year = year


@dataclass(frozen=True, slots=True)
class Year:
    """One year's days that are not as their weekday says. off: holidays, days in lieu and swapped ones; worked: Saturdays (or
    Sundays) that stand for a swapped day. # Bộ luật Lao động Điều 112"""

    year: int
    version: int
    off: frozenset[date]
    worked: frozenset[date]


@dataclass(frozen=True, slots=True)
class Hours:
    """When an organ and all below it are open. organ: the hub means everybody. first, last: days between which this is
    so (last None: until further notice). season: from month and day to month and day, over New Year too; None: all year.
    every_day: also on days of rest."""

    organ: OrgId
    sessions: tuple[Session, ...]
    first: date = date.min
    last: date | None = None
    season: tuple[MonthDay, MonthDay] | None = None
    every_day: bool = False

    def holds(self, organ: OrgId, on: date) -> bool:
        if not self.organ.covers(organ) or on < self.first or (self.last is not None and on > self.last):
            return False
        if self.season is None:
            return True
        start, end = self.season
        here = (on.month, on.day)
        return start <= here <= end if start <= end else here >= start or here <= end


ROUND_THE_CLOCK = Hours(HUB, ((0, DAY_MIN),), every_day=True)
"""Where nobody has stated hours: 00:00 to 24:00 every day, so that an arrival counts at once."""


class Calendar:
    """Of several years of one number the highest version counts, of several hours those of the longest code, then the latest."""

    def __init__(self, years: Iterable[Year] = (), hours: Iterable[Hours] = ()) -> None:
        self._years: dict[int, Year] = {}
        for each in sorted(years, key=lambda year: year.version):
            self._years[each.year] = each
        self._hours = sorted((*hours, ROUND_THE_CLOCK), key=lambda each: (len(each.organ.path), each.first), reverse=True)
        self._of = lru_cache(4096)(self._find)

    @property
    def years(self) -> tuple[int, ...]:
        return tuple(sorted(self._years))

    def missing(self, today: date) -> int | None:
        """The year whose calendar should be here by now: this one, from 1 December on the next one, too."""
        wanted = [today.year, *([today.year + 1] if today.month >= WARN_MONTH else [])]
        return next((year for year in wanted if year not in self._years), None)

    def works(self, on: date) -> bool:
        """Whether it is a working day. `NoCalendar`."""
        year = self._years.get(on.year)
        if year is None:
            raise NoCalendar(on.year)
        return on in year.worked or (on.weekday() < 5 and on not in year.off)

    def receipt_ms(self, organ: OrgId, at_ms: int) -> int:
        """When what was entered at at_ms counts as received: then, or, outside office hours, at the start of the next ones.
        # Sơn La 2588/QĐ-UBND Điều 10.4.b. `NoCalendar`."""
        first = day(at_ms)
        for passed in range(CLOSED_DAYS_MAX):
            for start_ms, end_ms in self._open(organ, first + timedelta(passed)):
                if at_ms < end_ms:
                    return max(at_ms, start_ms)
        raise NoCalendar(first.year)

    def send_by_ms(self, organ: OrgId, signed_ms: int) -> int:
        """Until when a document signed then has to be sent: the end of the next working day's morning, by the sender's hours.
        # QĐ 28/2018 Điều 6.2. `NoCalendar`."""
        first = day(signed_ms)
        for passed in range(1, CLOSED_DAYS_MAX + 1):
            on = first + timedelta(passed)
            if self.works(on):
                return _ms(on, _morning_end(self._of(organ, on).sessions))
        raise NoCalendar(first.year)

    def working_ms(self, organ: OrgId, from_ms: int, to_ms: int) -> int:
        """How much of the time between is office time; of spans over ten years only the first ten. `NoCalendar`."""
        total, first, last = 0, day(from_ms), day(to_ms)
        for passed in range(min((last - first).days, SPAN_DAYS_MAX) + 1):
            for start_ms, end_ms in self._open(organ, first + timedelta(passed)):
                total += max(0, min(end_ms, to_ms) - max(start_ms, from_ms))
        return total

    def hours(self, organ: OrgId, on: date) -> Hours:
        """The hours of an organ on a day; they say nothing of whether it works on that day."""
        return self._of(organ, on)

    def _find(self, organ: OrgId, on: date) -> Hours:
        return next(each for each in self._hours if each.holds(organ, on))

    def _open(self, organ: OrgId, on: date) -> Iterator[tuple[int, int]]:
        """From, to of each session of that day, in UTC ms."""
        found = self._of(organ, on)
        if found.every_day or self.works(on):
            for start, end in found.sessions:
                yield _ms(on, start), _ms(on, end)


def _morning_end(sessions: tuple[Session, ...]) -> int:
    """The end of the session that begins in the morning; noon where one goes on through it, or none does."""
    ends = [end for start, end in sessions if start < NOON_MIN]
    return ends[-1] if ends and ends[-1] <= NOON_MIN + 60 else NOON_MIN


def _ms(on: date, minute: int) -> int:
    midnight = datetime.combine(on, time.min, VIETNAM)
    return int(midnight.timestamp()) * 1000 + minute * MINUTE_MS

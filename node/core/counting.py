"""From a row of the ledger to what it adds to a day's figures: the definitions of Điều 11 as one table of events.

Told by the working calendar on which day a receipt falls and what is on time. Knows statements, packages and instants; nothing
of SQL, of who made the row, or of what was added before."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from node.core import instant
from node.core.envelope import KIND_NOTICE, KIND_STATUS
from node.core.identifier import OrgId
from node.core.package import Business, Package, Priority
from node.core.statement import Counts, Pair, Version, delay_counts, plus
from node.core.working_time import Calendar, NoCalendar

ROAD = "r"
"""The subject of what a node counts of itself as a relay, and of no organ."""


@dataclass(frozen=True, slots=True)
class Row:
    """One countable event, as the ledger keeps it: see migrations 0007 and 0009."""

    at_ms: int
    synchronised: bool
    event: str
    organ: OrgId
    counterpart: OrgId
    kind: str
    business: Business
    priority: Priority
    reason: str
    document: bool
    office: OrgId
    made_ms: int
    type: str
    paper: str
    dated: str
    trial: bool
    signed: str = ""
    flaws: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a package says of itself, as the ledger keeps it. type: a word of `TYPES` without accents, or "". paper: "1": paper
    follows, "0": none does, "": not said. signed: what is known of the document's own digital signatures, valid, indeterminate or
    unsigned; nobody checks them yet, so one that may bear some is indeterminate and only one that cannot is unsigned. flaws: what
    is missing or odd in it, None where nobody looked. due_ms: the first instant after its time limit for processing; 0: it has
    none. # QĐ 28/2018 Điều 4, 10.2"""

    type: str = ""
    paper: str = ""
    signed: str = ""
    flaws: tuple[str, ...] | None = None
    due_ms: int = 0


NOTHING_SAID = Said()


def said(package: Package, due: str) -> Said:
    """due: its time limit as yyyy/MM/dd, where it can be read so. # QĐ 28/2018 Điều 10.2.o"""
    limit = _read_date(due)
    return Said(
        type=document_type(package.type_name),
        paper=package.paper if package.paper in ("0", "1") else "",
        signed="indeterminate" if any(each.signable for each in package.attachments) else "unsigned",
        flaws=(*package.oddities, *(() if package.type_name else ("type-missing",))),
        due_ms=0 if limit is None or limit.year > DUE_YEAR_MAX else instant.start_ms(limit + timedelta(days=1)),
    )


DUE_YEAR_MAX = 2200
Urgent = Mapping[Priority, int]
"""How long (ms) after the day it is dated an urgent document of each priority may be sent: "ngay". # QĐ 28/2018 Điều 6.2"""


def urgent(urgent_h: float, very_urgent_h: float, express_h: float) -> Urgent:
    found = dict(zip(Priority, (0.0, urgent_h, very_urgent_h, express_h, express_h), strict=True))
    return {priority: int(hours * HOUR_MS) for priority, hours in found.items() if priority is not Priority.NORMAL}


HOUR_MS = 3_600_000
URGENT_MS = urgent(4, 2, 1)
"""Where the owner has said nothing else."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What a row adds: to this subject ('o' and an organ, 'p' and a pair, ROAD), on this day."""

    day: date
    subject: str
    counts: Counts


def organ_subject(organ: OrgId) -> str:
    return f"o{organ}"


def pair_subject(pair: Pair) -> str:
    return f"p{pair}"


def gains(row: Row, calendar: Calendar, urgent_ms: Urgent = URGENT_MS) -> Iterator[Gain]:
    """What one row adds. Trial documents add nothing; notices are no documents and nobody's statuses. urgent_ms: see
    `urgent`. # QĐ 28/2018 Điều 11, 21.1"""
    if row.trial or row.kind == KIND_NOTICE:
        return
    today = instant.day(row.at_ms)
    if row.event in ("duplicate", "held"):
        yield Gain(today, ROAD, {"duplicates" if row.event == "duplicate" else "held": 1})
        return
    if row.kind == KIND_STATUS:
        yield from _of_status(row, today)
        return
    yield from _of_pair(row, today)
    match row.event:
        case "sent":
            yield Gain(today, organ_subject(row.organ), _sent(row, calendar, urgent_ms))
        case "arrived" if row.document:
            yield Gain(today, organ_subject(row.office), {"arrived": 1})
        case "collected" if row.document:
            yield Gain(_receipt_day(row.office, row.at_ms, calendar), organ_subject(row.office), _received(row))
        case "acknowledged" if row.document and row.business is Business.NEW:
            yield _acknowledged(row, calendar)
        case "overdue":
            yield Gain(instant.day(row.made_ms), organ_subject(row.organ), {"statuses_overdue": 1})
        case "refused-at-door":
            yield Gain(today, organ_subject(row.organ), _by_reason("refused_at_door", row.reason))
        case "known-refused" | "known-expired" | "known-stopped":
            yield Gain(today, organ_subject(row.organ), _by_reason(row.event.removeprefix("known-"), row.reason))


def _of_status(row: Row, today: date) -> Iterator[Gain]:
    key = {"status-sent": "statuses_sent", "status-collected": "statuses_received"}.get(row.event)
    if key is not None and row.document:
        organ = row.organ if key == "statuses_sent" else row.office
        yield Gain(today, organ_subject(organ), {key: 1})


def _acknowledged(row: Row, calendar: Calendar) -> Gain:
    """made_ms: when the office collected it. On the day of the receipt instant, or on that on which it was said at last.
    # NĐ 30/2020 Điều 21.2.c"""
    received, said_on = _receipt_day(row.office, row.made_ms, calendar), instant.day(row.at_ms)
    key = "acknowledged_same_day" if said_on <= received else "acknowledged_later"
    return Gain(max(received, said_on), organ_subject(row.office), {key: 1})


_ENDED = {"collected": "collected", "refused": "refused", "expired": "expired", "stopped": "stopped"}


def _of_pair(row: Row, today: date) -> Iterator[Gain]:
    """Deliveries, each under the code it was addressed to."""
    if row.event == "sent":
        yield Gain(today, pair_subject(Pair.of(row.organ, row.counterpart)), {"sent": 1})
    elif row.event in _ENDED:
        yield Gain(today, pair_subject(Pair.of(row.counterpart, row.organ)), {_ENDED[row.event]: 1})


def _sent(row: Row, calendar: Calendar, urgent_ms: Urgent) -> Counts:
    each = {"sent_deliveries": 1}
    if not row.document:
        return each
    if row.business is not Business.NEW:
        return plus(each, {f"sent_{row.business.name.lower()}": 1})
    timeliness = _timeliness(row, calendar, urgent_ms)
    found = {"sent": 1, f"sent_{timeliness}": 1, f"sent_type.{row.type or 'other'}": 1}
    if row.priority is not Priority.NORMAL:
        found[f"sent_priority.{int(row.priority)}"] = 1
        if timeliness == "late":
            found[f"sent_late_priority.{int(row.priority)}"] = 1
    if row.paper:
        found["sent_with_paper" if row.paper == "1" else "sent_electronic_only"] = 1
    if row.signed in _SIGNED_KEYS:
        found[_SIGNED_KEYS[row.signed]] = 1
    return plus(each, found, _quality(row))


_SIGNED_KEYS = {"valid": "sent_signed", "indeterminate": "sent_indeterminate", "unsigned": "sent_unsigned"}


def _quality(row: Row) -> Counts:
    """Whether the package's metadata were whole, and what was not. # QĐ 28/2018 Điều 10.2; VPCP 11796 1.g"""
    if row.flaws is None:
        return {}
    return {f"sent_flaw.{each}": 1 for each in row.flaws.split()} or {"sent_flawless": 1}


def _timeliness(row: Row, calendar: Calendar, urgent_ms: Urgent) -> str:
    """From the document's date to the first node's commit. Of an urgent one all hours count, from the end of the day it bears: at
    what hour of it it was signed nobody knows. # QĐ 28/2018 Điều 6.2; Sơn La Điều 10.4.a"""
    dated = _read_date(row.dated)
    if dated is None or dated.year > DUE_YEAR_MAX:
        return "time_unknown"
    try:
        within_ms = urgent_ms.get(row.priority)
        if within_ms is None:
            by_ms = calendar.send_by_ms(row.organ, instant.start_ms(dated))
        else:
            by_ms = instant.start_ms(dated + timedelta(days=1)) + within_ms
    except NoCalendar:
        return "time_unknown"
    return "on_time" if row.at_ms <= by_ms else "late"


def _receipt_day(office: OrgId, at_ms: int, calendar: Calendar) -> date:
    """The day of the receipt instant; where no calendar says it, of the event. # Sơn La Điều 10.4.b"""
    try:
        return instant.day(calendar.receipt_ms(office, at_ms))
    except NoCalendar:
        return instant.day(at_ms)


def _read_date(text: str) -> date | None:
    """yyyy/MM/dd; None for what is no date."""
    try:
        found = date.fromisoformat(text.replace("/", "-"))
    except ValueError:
        return None
    return found if found.isoformat().replace("-", "/") == text else None


def _received(row: Row) -> Counts:
    if row.business is not Business.NEW:
        return {f"received_{row.business.name.lower()}": 1}
    found = plus({"received": 1}, delay_counts(row.at_ms - row.made_ms) if row.made_ms else {})
    if row.priority is not Priority.NORMAL:
        found[f"received_priority.{int(row.priority)}"] = 1
    return found


def _by_reason(key: str, reason: str) -> Counts:
    return {key: 1, f"{key}_reason.{reason}": 1} if reason else {key: 1}


def gathered(
    rows: Iterable[Row], calendar: Calendar, urgent_ms: Urgent = URGENT_MS
) -> tuple[dict[tuple[date, str], dict[str, int]], dict[date, int]]:
    """What many rows add, by day and subject; and how many of each day were stamped while the clock was not synchronised."""
    found: dict[tuple[date, str], dict[str, int]] = {}
    marked: dict[date, int] = {}
    for row in rows:
        for gain in gains(row, calendar, urgent_ms):
            cell = found.setdefault((gain.day, gain.subject), {})
            for key, number in gain.counts.items():
                cell[key] = cell.get(key, 0) + number
        if not row.synchronised:
            day = instant.day(row.at_ms)
            marked[day] = marked.get(day, 0) + 1
    return found, marked


@dataclass(frozen=True, slots=True)
class Tail:
    """Rows of the ledger behind the cursor. after: the last one's number. whole: there were no more; only then stock is what
    there was of each pair at that very moment, None where it was not asked for."""

    before: int
    after: int
    rows: Sequence[Row]
    whole: bool
    stock: Mapping[Pair, Counts] | None


@dataclass(frozen=True, slots=True)
class Fold:
    """What the rows from `before` to `after` add, by day and subject, and how many of each day are marked."""

    before: int
    after: int
    gained: Mapping[tuple[date, str], Counts]
    marked: Mapping[date, int]


@dataclass(frozen=True, slots=True)
class ToState:
    """due: days whose figures changed since they were stated, and how often. last: the last day stated here. unfinished: (node,
    day, parent it hung under) of statements that are not final: of this node, and of others where the parent has them."""

    due: Mapping[date, int]
    last: date | None
    unfinished: Sequence[tuple[OrgId, date, OrgId | None]]
    unheard: Sequence[tuple[date, OrgId | None]] = ()
    """(day, parent it hung under) of this node's final statements of which no parent has heard."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """The parts of a day's statement, and the version it replaces. closed_under: the parent it hung under when the day was closed
    here, where it was. below: by parent, how many other nodes' statements of the day there are, and what their organs come to."""

    version: Version | None
    closed_under: tuple[OrgId | None] | None
    organs: Mapping[OrgId, Counts]
    pairs: Mapping[Pair, Counts]
    road: Counts
    below: Mapping[OrgId | None, tuple[int, Counts]]
    marked: int


TYPES = (
    *("nghị quyết", "quyết định", "chỉ thị", "quy chế", "quy định", "thông cáo", "thông báo", "hướng dẫn", "chương trình"),
    *("kế hoạch", "phương án", "đề án", "dự án", "báo cáo", "biên bản", "tờ trình", "hợp đồng", "công văn", "công điện"),
    *("bản ghi nhớ", "bản thỏa thuận", "giấy ủy quyền", "giấy mời", "giấy giới thiệu", "giấy nghỉ phép", "phiếu gửi"),
    *("phiếu chuyển", "phiếu báo", "thư công"),
)
"""The 29 types of administrative documents. # NĐ 30/2020 Điều 7"""


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFD", text.casefold().replace("đ", "d"))
    return re.sub(r"[^a-z0-9]+", "-", "".join(each for each in letters if not unicodedata.combining(each))).strip("-")


_TYPES = frozenset(_plain(each) for each in TYPES)
NAMES_REMEMBERED = 256


@lru_cache(NAMES_REMEMBERED)
def document_type(name: str) -> str:
    """A type's name as packages write it, to the word it is counted under; "" for what is none of the 29."""
    word = _plain(name[:100])
    return word if word in _TYPES else ""


def span_of(day: date) -> str:
    """The part of a month a day lies in: before the 15th or from it on. The calendar's months and those of NĐ 09/2019 (15th to
    14th) are both made of whole ones."""
    return f"{day.replace(day=1 if day.day < 15 else 15).isoformat()}+"


def spans_of(day: date) -> tuple[str, str, str, str]:
    """All the spans that a day lies in: itself, its part of a month, its quarter by the calendar (2026-Q3) and that of NĐ 09/2019
    (2026-O3), which begins on the 15th of the month before."""
    year, month = divmod(day.year * 12 + day.month - (day.day < 15), 12)
    official = f"{year:04}-O{month // 3 + 1}"
    return day.isoformat(), span_of(day), f"{day.year:04}-Q{(day.month + 2) // 3}", official


def spans(first: date, last: date) -> list[str]:
    """Spans that are exactly [first..last], the longest first: quarters, parts of months, days at the edges."""
    found: list[str] = []
    day = first
    while day <= last:
        one, part, quarter, official = spans_of(day)
        name, end = one, day
        if day.day in (1, 15) and _end_of_part(day) <= last:
            name, end = part, _end_of_part(day)
        if day.day == 1 and day.month % 3 == 1 and _after_months(day, 3) <= last:
            name, end = quarter, _after_months(day, 3)
        elif day.day == 15 and day.month % 3 == 0 and _after_months(day, 3) <= last:
            name, end = official, _after_months(day, 3)
        found.append(name)
        day = end + timedelta(days=1)
    return found


def _after_months(day: date, months: int) -> date:
    """The last day of so many months from this one on."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, day.day) - timedelta(days=1)


def _end_of_part(day: date) -> date:
    if day.day < 15:
        return day.replace(day=14)
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)

"""From a row of the ledger to what it adds to a day's figures: the definitions of Điều 11 as one table of events.

Told by the working calendar on which day a receipt falls and what is on time. Knows statements, packages and instants; nothing
of SQL, of who made the row, or of what was added before."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from node.core import instant
from node.core.envelope import KIND_NOTICE, KIND_STATUS
from node.core.identifier import OrgId
from node.core.package import Business, Priority
from node.core.statement import Counts, Pair, Version, delay_counts, plus
from node.core.working_time import Calendar, NoCalendar

ROAD = "r"
"""The subject of what a node counts of itself as a relay, and of no organ."""


@dataclass(frozen=True, slots=True)
class Row:
    """One countable event, as the ledger keeps it: see migration 0007."""

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


def gains(row: Row, calendar: Calendar) -> Iterator[Gain]:
    """What one row adds. Trial documents add nothing; notices are no documents and nobody's statuses. # QĐ 28/2018 Điều 11,
    21.1"""
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
            yield Gain(today, organ_subject(row.organ), _sent(row, calendar))
        case "arrived" if row.document:
            yield Gain(today, organ_subject(row.office), {"arrived": 1})
        case "collected" if row.document:
            yield Gain(_received_on(row, calendar), organ_subject(row.office), _received(row))
        case "refused-at-door":
            yield Gain(today, organ_subject(row.organ), _by_reason("refused_at_door", row.reason))
        case "known-refused" | "known-expired" | "known-stopped":
            yield Gain(today, organ_subject(row.organ), _by_reason(row.event.removeprefix("known-"), row.reason))


def _of_status(row: Row, today: date) -> Iterator[Gain]:
    key = {"status-sent": "statuses_sent", "status-collected": "statuses_received"}.get(row.event)
    if key is not None and row.document:
        organ = row.organ if key == "statuses_sent" else row.office
        yield Gain(today, organ_subject(organ), {key: 1})


_ENDED = {"collected": "collected", "refused": "refused", "expired": "expired", "stopped": "stopped"}


def _of_pair(row: Row, today: date) -> Iterator[Gain]:
    """Deliveries, each under the code it was addressed to."""
    if row.event == "sent":
        yield Gain(today, pair_subject(Pair.of(row.organ, row.counterpart)), {"sent": 1})
    elif row.event in _ENDED:
        yield Gain(today, pair_subject(Pair.of(row.counterpart, row.organ)), {_ENDED[row.event]: 1})


def _sent(row: Row, calendar: Calendar) -> Counts:
    each = {"sent_deliveries": 1}
    if not row.document:
        return each
    if row.business is not Business.NEW:
        return plus(each, {f"sent_{row.business.name.lower()}": 1})
    found = {"sent": 1, f"sent_{_timeliness(row, calendar)}": 1, f"sent_type.{row.type or 'other'}": 1}
    if row.priority is not Priority.NORMAL:
        found[f"sent_priority.{int(row.priority)}"] = 1
    if row.paper:
        found["sent_with_paper" if row.paper == "1" else "sent_electronic_only"] = 1
    return plus(each, found)


def _timeliness(row: Row, calendar: Calendar) -> str:
    """From the document's date to the first node's commit. # QĐ 28/2018 Điều 6.2; Sơn La Điều 10.4.a"""
    dated = _read_date(row.dated)
    if dated is None:
        return "time_unknown"
    try:
        by_ms = calendar.send_by_ms(row.organ, instant.start_ms(dated))
    except NoCalendar:
        return "time_unknown"
    return "on_time" if row.at_ms <= by_ms else "late"


def _received_on(row: Row, calendar: Calendar) -> date:
    """The day of the receipt instant; where no calendar says it, of the event. # Sơn La Điều 10.4.b"""
    try:
        return instant.day(calendar.receipt_ms(row.office, row.at_ms))
    except NoCalendar:
        return instant.day(row.at_ms)


def _read_date(text: str) -> date | None:
    """yyyy/MM/dd; None for what is no date."""
    year, _, rest = text.partition("/")
    try:
        return date.fromisoformat(f"{year}-{rest.replace('/', '-')}")
    except ValueError:
        return None


def _received(row: Row) -> Counts:
    if row.business is not Business.NEW:
        return {f"received_{row.business.name.lower()}": 1}
    found = plus({"received": 1}, delay_counts(row.at_ms - row.made_ms) if row.made_ms else {})
    if row.priority is not Priority.NORMAL:
        found[f"received_priority.{int(row.priority)}"] = 1
    return found


def _by_reason(key: str, reason: str) -> Counts:
    return {key: 1, f"{key}_reason.{reason}": 1} if reason else {key: 1}


def gathered(rows: Iterable[Row], calendar: Calendar) -> tuple[dict[tuple[date, str], dict[str, int]], dict[date, int]]:
    """What many rows add, by day and subject; and how many of each day were stamped while the clock was not synchronised."""
    found: dict[tuple[date, str], dict[str, int]] = {}
    marked: dict[date, int] = {}
    for row in rows:
        for gain in gains(row, calendar):
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
    day) of statements that are not final: of this node, and of others where the parent has them."""

    due: Mapping[date, int]
    last: date | None
    unfinished: Sequence[tuple[OrgId, date]]


@dataclass(frozen=True, slots=True)
class Drafted:
    """The parts of a day's statement, and the version it replaces."""

    version: Version | None
    organs: Mapping[OrgId, Counts]
    pairs: Mapping[Pair, Counts]
    road: Counts
    subtree: Counts
    nodes: int
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


def document_type(name: str) -> str:
    """A type's name as packages write it, to the word it is counted under; "" for what is none of the 29."""
    word = _plain(name[:100])
    return word if word in _TYPES else ""


def span_of(day: date) -> str:
    """The part of a month a day lies in: before the 15th or from it on. The calendar's months and those of NĐ 09/2019 (15th to
    14th) are both made of whole ones."""
    return f"{day.replace(day=1 if day.day < 15 else 15).isoformat()}+"


def spans(first: date, last: date) -> list[str]:
    """The fewest spans that are exactly [first..last]: parts of months where they lie within, days at the edges."""
    found: list[str] = []
    day = first
    while day <= last:
        end = _end_of_part(day)
        if day.day in (1, 15) and end <= last:
            found.append(span_of(day))
            day = end + timedelta(days=1)
        else:
            found.append(day.isoformat())
            day += timedelta(days=1)
    return found


def _end_of_part(day: date) -> date:
    if day.day < 15:
        return day.replace(day=14)
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)

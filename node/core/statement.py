"""Bảng kê số liệu ngày: what a node counted on one day in Vietnam, made to be signed, sent up the tree, and added to others.

Everything counted is a whole number under a stable English key, so that adding is exact in any order and a later version replaces
an earlier one whole. Knows identifiers, instants and the histogram of `tally`; nothing of the ledger, of the store, of links,
or of calendars (who closes a day says which day an event belongs to).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from node.core.envelope import Fields, read_code, strict_json
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.tally import DELIVERY_BOUNDS_MS, Histogram

Counts = Mapping[str, int]
"""Whole numbers under stable keys (`MEANINGS`). A key with 0 is left out; what is not there is 0."""

MEANINGS: Mapping[str, str] = {
    # QĐ 28/2018 Điều 11: văn bản gửi = one per document and sending organ, however many receivers
    "sent": "new documents this organ sent, one per document however many receivers, on the day its node took them",
    "sent_recall": "recalls it sent, counted likewise",
    "sent_update": "updates it sent, counted likewise",
    "sent_replace": "replacements it sent, counted likewise",
    "sent_deliveries": "receivers of all the documents it sent: one per document and receiver",
    "sent_priority": "its new documents by priority, 1 khẩn to 4 hỏa tốc hẹn giờ: sent_priority.3",
    "sent_type": "its new documents by type, a word of NĐ 30/2020 without accents or `other`: sent_type.cong-van",
    "sent_electronic_only": "its new documents of which the package says that no paper follows",
    "sent_with_paper": "its new documents of which the package says that paper follows",
    "sent_on_time": "its new documents sent on the day they are dated or by the end of the next working morning (Điều 6.2)",
    "sent_late": "its new documents sent later than that",
    "sent_time_unknown": "its new documents that bear no date that can be read: never late",
    # văn bản nhận = one per document and receiver, on the day of the receipt instant of Sơn La 10.4.b
    "received": "new documents its office collected, one per document, on the day of the receipt instant",
    "received_recall": "recalls it collected, counted likewise",
    "received_update": "updates it collected, counted likewise",
    "received_replace": "replacements it collected, counted likewise",
    "received_priority": "new documents it collected, by priority: received_priority.3",
    "arrived": "documents of any kind that were laid before its office, collected since or not",
    "acknowledged_same_day": "documents of which it said 01 or 03 on the day it collected them",
    "refused_at_door": "receivers its packages named and that were refused at the first node",
    "refused": "its deliveries that a node ended, as far as known at the sender: not sent on",
    "expired": "its deliveries whose lifetime ended on the way, as far as known at the sender",
    "stopped": "its deliveries that a recall stopped on the way, as far as known at the sender",
    "refused_at_door_reason": "the same by reason: refused_at_door_reason.recipient-closed",
    "refused_reason": "the same by reason: refused_reason.recipient-unknown",
    "duplicates": "copies for it that were met again and suppressed",
    "held": "times a copy for it was set aside for a person",
    "statuses_sent": "office statuses it sent",
    "statuses_received": "office statuses it collected",
    "statuses_overdue": "documents it collected whose time limit (10.2.o) passed without a status 06",
    "delay": "documents it collected, by the time since the sender's node took them: delay.0 is up to the first bound",
    "delay_ms": "the sum of those times, milliseconds",
}
"""What is counted of an organ. A part behind a dot tells kinds of the same apart. Trial documents, statuses, notices are in no
count of documents. # QĐ 28/2018 Điều 11, 21.1"""

FLOWS: Mapping[str, str] = {
    "sent": "deliveries of documents of any kind that organs under the first code sent to codes under the second",
    "collected": "of those, collected by the receiver's office",
    "refused": "of those, ended by a node: not sent on",
    "expired": "of those, ended because their lifetime did",
    "stopped": "of those, stopped by a recall",
    "waiting": "stock: of those, in the receiver's mailbox",
    "moving": "stock: of those, waiting at a node to go on",
    "held": "stock: of those, set aside for a person",
}
"""What is counted of a pair of level-1 codes; the last three are what there was when the statement was made, not events."""
ENDS = ("collected", "refused", "expired", "stopped")
STOCKS = ("waiting", "moving", "held")

DELAY_SLOTS = len(DELIVERY_BOUNDS_MS) + 1
BYTES_MAX = 8 << 20
SUBJECTS_MAX = 200_000
KEYS_MAX = 2_000
COUNT_MAX = 10**15
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}(\.[a-z0-9-]{1,60})?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def plus(*parts: Counts) -> dict[str, int]:
    """All of these together; in any order, and grouped in any way, the same."""
    total: dict[str, int] = {}
    for part in parts:
        for key, number in part.items():
            total[key] = total.get(key, 0) + number
    return {key: number for key, number in total.items() if number}


def minus(whole: Counts, part: Counts) -> dict[str, int]:
    """What is left of a whole without a part: plus(part, minus(whole, part)) == whole. Numbers may be negative."""
    return plus(whole, {key: -number for key, number in part.items()})


def delays(counts: Counts) -> Histogram:
    """The time from sender to receiver as a histogram over `DELIVERY_BOUNDS_MS`."""
    return Histogram(tuple(counts.get(f"delay.{slot}", 0) for slot in range(DELAY_SLOTS)), counts.get("delay_ms", 0))


def delay_counts(value_ms: int) -> dict[str, int]:
    """One observation of it; a negative one (clocks differ) counts as 0."""
    value_ms = max(value_ms, 0)
    slot = sum(value_ms > bound for bound in DELIVERY_BOUNDS_MS)
    return plus({f"delay.{slot}": 1, "delay_ms": value_ms})


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two level-1 codes: who sends, for whom. The hub's own code is ()."""

    sender: OrgId
    recipient: OrgId

    @classmethod
    def of(cls, sender: OrgId, recipient: OrgId) -> Pair:
        return cls(sender.level1, recipient.level1)

    def __str__(self) -> str:
        return f"{self.sender}>{self.recipient}"


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Of one (node, day): the higher one replaces. epoch: of the node's store (decision 14), raised by a restore."""

    epoch: int
    n: int


@dataclass(frozen=True, slots=True)
class Statement:
    """What one node counted on one day. Immutable; the next version of the same (node, day) replaces all of it.

    final: the day is over; else it is tạm tính. made_ms, bound_ms, synchronised: when it was made, by the node's clock. key:
    SHA-256 (hex) of the node's leaf certificate. organs: of each organ with an office here, where anything was counted. pairs:
    the day's events by pair of level-1 codes; stock: what there was of each pair when it was made. subtree: organs' counts of
    this node and of every node below it whose statement of the day it holds, added; nodes: how many nodes those are, itself
    included. marked: events of the day stamped while the node's clock was not synchronised.
    """

    node: OrgId
    day: date
    version: Version
    final: bool
    made_ms: int
    bound_ms: int
    synchronised: bool
    key: str
    organs: Mapping[OrgId, Counts] = field(default_factory=dict)
    pairs: Mapping[Pair, Counts] = field(default_factory=dict)
    stock: Mapping[Pair, Counts] = field(default_factory=dict)
    subtree: Counts = field(default_factory=dict)
    nodes: int = 1
    marked: int = 0

    # What a signature over it is judged by, in the words of an envelope's header.

    @property
    def origin(self) -> OrgId:
        return self.node

    @property
    def created_ms(self) -> int:
        return self.made_ms

    def own(self) -> dict[str, int]:
        """The counts of the organs here, added."""
        return plus(*self.organs.values())


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement as it travels: the exact bytes its node signed, the signature, and what the bytes say."""

    data: bytes
    signature: bytes
    statement: Statement

    @property
    def digest(self) -> str:
        return statement_digest(self.data)


def statement_digest(data: bytes) -> str:
    """SHA-256 of a statement's bytes, hex."""
    return hashlib.sha256(data).hexdigest()


def encode_statement(statement: Statement) -> bytes:
    """The one canonical form: JSON with sorted keys, no spaces, zeros left out. An idle node's is under 1 kB."""
    fields = {
        "v": 1,
        "node": str(statement.node),
        "day": statement.day.isoformat(),
        "epoch": statement.version.epoch,
        "n": statement.version.n,
        "final": statement.final,
        "made": statement.made_ms,
        "bound": statement.bound_ms,
        "sync": statement.synchronised,
        "key": statement.key,
        "organs": _subjects(statement.organs),
        "pairs": _subjects(statement.pairs),
        "stock": _subjects(statement.stock),
        "subtree": plus(statement.subtree),
        "nodes": statement.nodes,
        "marked": statement.marked,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def decode_statement(data: bytes) -> Statement:
    """Bytes to a statement. `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)` for anything but what `encode_statement` gives: a second
    spelling of the same figures would have another digest."""
    if len(data) > BYTES_MAX:
        raise Refused(Reason.WIRE_TOO_LARGE, "statement", str(len(data)), f"≤ {BYTES_MAX}")
    fields = Fields(strict_json(data), "statement")
    fields.whole("v", 1, 1)
    statement = Statement(
        node=read_code(fields.get("node"), "statement.node"),
        day=read_day(fields.text("day", 10, _DAY)),
        version=Version(fields.whole("epoch", 1), fields.whole("n", 1)),
        final=_flag(fields, "final"),
        made_ms=fields.whole("made"),
        bound_ms=fields.whole("bound"),
        synchronised=_flag(fields, "sync"),
        key=fields.text("key", 64),
        organs={read_code(name, "statement.organs"): counts for name, counts in _read_subjects(fields, "organs").items()},
        pairs={_read_pair(name): counts for name, counts in _read_subjects(fields, "pairs").items()},
        stock={_read_pair(name): counts for name, counts in _read_subjects(fields, "stock").items()},
        subtree=_read_counts(fields.get("subtree"), "subtree"),
        nodes=fields.whole("nodes", 1),
        marked=fields.whole("marked"),
    )
    if encode_statement(statement) != data:
        raise _wrong("statement", "not canonical")
    return statement


def _subjects(figures: Mapping[Any, Counts]) -> dict[str, dict[str, int]]:
    plain = {str(subject): plus(counts) for subject, counts in figures.items()}
    return {subject: counts for subject, counts in plain.items() if counts}


def _read_subjects(fields: Fields, name: str) -> dict[str, dict[str, int]]:
    value = fields.get(name)
    if not isinstance(value, dict) or len(value) > SUBJECTS_MAX:
        raise _wrong(f"statement.{name}", type(value).__name__)
    return {subject: _read_counts(counts, name) for subject, counts in value.items()}


def _read_counts(value: object, name: str) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > KEYS_MAX:
        raise _wrong(f"statement.{name}", type(value).__name__)
    for key, number in value.items():
        if not _KEY.fullmatch(key):
            raise _wrong(f"statement.{name}", key)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= COUNT_MAX:
            raise _wrong(f"statement.{name}.{key}", number)
    return value


def _read_pair(text: str) -> Pair:
    sender, mark, recipient = text.partition(">")
    if not mark:
        raise _wrong("statement.pairs", text)
    pair = Pair(read_code(sender, "statement.pairs"), read_code(recipient, "statement.pairs"))
    if pair != Pair.of(pair.sender, pair.recipient):
        raise _wrong("statement.pairs", text)
    return pair


def read_day(text: str) -> date:
    """A day as YYYY-MM-DD; `Refused(WIRE_MALFORMED)` for any other text."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _wrong("statement.day", text) from None


def _flag(fields: Fields, name: str) -> bool:
    value = fields.get(name)
    if not isinstance(value, bool):
        raise _wrong(f"statement.{name}", value)
    return value


def _wrong(element: str, value: object) -> Refused:
    return Refused(Reason.WIRE_MALFORMED, element, str(value)[:100])


# what a parent makes of many


@dataclass(frozen=True, slots=True)
class Coverage:
    """Mức đầy đủ số liệu of a range of days, by node. in_: every day is there, closed where it is over (a silent unit's days are
    there, with nothing in them). late: every day is there, and one that is over is not closed yet. missing: of some day there is
    nothing at all."""

    in_: tuple[OrgId, ...] = ()
    late: tuple[OrgId, ...] = ()
    missing: tuple[OrgId, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """How many days of a range a node's statements cover, and how many of them are final."""

    days: int
    final: int


def coverage(expected: Iterable[OrgId], held: Mapping[OrgId, Held], *, days: int, over: int) -> Coverage:
    """expected: the nodes there are. days: those of the range that have begun; over: those of them that are over."""
    kinds: dict[str, list[OrgId]] = {"in": [], "late": [], "missing": []}
    for node in sorted(set(expected)):
        there = held.get(node, Held(0, 0))
        kind = "missing" if there.days < days else "late" if there.final < over else "in"
        kinds[kind].append(node)
    return Coverage(tuple(kinds["in"]), tuple(kinds["late"]), tuple(kinds["missing"]))


@dataclass(frozen=True, slots=True)
class Branch:
    """One child's claim against what is known here. claimed: what the child says its subtree comes to; summed: the statements
    held here of it and of all nodes below it, added. agrees: whether these are the same."""

    node: OrgId
    claimed: Counts
    summed: Counts

    @property
    def difference(self) -> dict[str, int]:
        """claimed less summed; {} where they agree."""
        return minus(self.claimed, self.summed)


@dataclass(frozen=True, slots=True)
class Flow:
    """A pair of level-1 codes since counting began: sent = collected + refused + expired + stopped + waiting + moving + held +
    difference. A difference that stays, while nothing moves, is an error; while traffic moves, the nodes were asked one after the
    other, and a document between two of them is counted at neither or at both."""

    pair: Pair
    counts: Counts

    @property
    def difference(self) -> int:
        known = sum(self.counts.get(key, 0) for key in (*ENDS, *STOCKS))
        return self.counts.get("sent", 0) - known


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether the whole equals the sum of its parts. branches: one per child, with those that differ named in `unequal`; flows:
    one per pair of level-1 codes of which both ends lie in the subtree; `unbalanced` those with a difference."""

    branches: tuple[Branch, ...] = ()
    flows: tuple[Flow, ...] = ()

    @property
    def unequal(self) -> tuple[OrgId, ...]:
        return tuple(branch.node for branch in self.branches if branch.difference)

    @property
    def unbalanced(self) -> tuple[Pair, ...]:
        return tuple(flow.pair for flow in self.flows if flow.difference)

    @property
    def holds(self) -> bool:
        return not self.unequal and not self.unbalanced


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report over [first..last] at one node is made of: what `Reporter.report(first, last)` returns, always whole;
    the faces choose rows, names and order from it.

    organs: counts of every organ with an office in the subtree, {} for a silent one, its own and not its subtree's. nodes:
    which node each was counted at last. totals: by node (this one and every one below), its own organs' counts and those of all
    below it. open: the range reaches into a day that is not over (tạm tính). cut_off_ms: thời điểm chốt số liệu, UTC ms: of
    this answer.
    """

    first: date
    last: date
    cut_off_ms: int
    open: bool
    organs: Mapping[OrgId, Counts]
    nodes: Mapping[OrgId, OrgId]
    totals: Mapping[OrgId, Counts]
    pairs: Mapping[Pair, Counts]
    coverage: Coverage
    proof: Proof

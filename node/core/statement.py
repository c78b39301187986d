"""Bảng kê số liệu ngày: what a node counted on one day in Vietnam, made to be signed, sent up the tree, and added to others.

Everything counted is a whole number under a stable English key, so that adding is exact in any order and a later version replaces
an earlier one whole. Knows identifiers, instants and the histogram of `tally`; nothing of the ledger, of the store, of links,
or of calendars (who closes a day says which day an event belongs to).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
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
    "sent_signed": "its new documents of which all signatures were found valid; 0 while no node checks signatures",
    "sent_indeterminate": "its new documents that may bear signatures, of which nothing is known",
    "sent_unsigned": "its new documents that cannot bear one: without an attachment, or with pictures only",
    "sent_flawless": "its new documents in whose package nothing was missing or odd",
    "sent_flaw": "its new documents by what was: sent_flaw.subject-missing; one document may have several",
    "sent_on_time": "its new documents sent on the day they are dated or by the end of the next working morning; urgent ones "
    "within so many hours of that day's end (Điều 6.2)",
    "sent_late": "its new documents sent later than that",
    "sent_late_priority": "of these, urgent ones by priority: sent_late_priority.3",
    "sent_time_unknown": "its new documents that bear no date that can be read: never late",
    # văn bản nhận = one per document and receiver, on the day of the receipt instant of Sơn La 10.4.b
    "received": "new documents its office collected, one per document, on the day of the receipt instant",
    "received_recall": "recalls it collected, counted likewise",
    "received_update": "updates it collected, counted likewise",
    "received_replace": "replacements it collected, counted likewise",
    "received_priority": "new documents it collected, by priority: received_priority.3",
    "acknowledged_same_day": "new documents it collected and said a status of by the end of the day of the receipt instant",
    "acknowledged_later": "new documents it collected and said the first status of later, on the day it did",
    "arrived": "documents of any kind that were laid before its office, collected since or not",
    "refused_at_door": "receivers its packages named and that were refused at the first node",
    "refused": "its deliveries that a node ended, as far as known at the sender: not sent on",
    "expired": "its deliveries whose lifetime ended on the way, as far as known at the sender",
    "stopped": "its deliveries that a recall stopped on the way, as far as known at the sender",
    "refused_at_door_reason": "the same by reason: refused_at_door_reason.recipient-closed",
    "refused_reason": "the same by reason: refused_reason.recipient-unknown",
    "statuses_overdue": "its deliveries whose time limit for processing is over and that the receiver has not said to be done, "
    "refused or destroyed, as far as known at the sender; on the day after the limit",
    "statuses_sent": "office statuses it sent",
    "statuses_received": "office statuses it collected",
    "delay": "documents it collected, by the time since the sender's node took them: delay.0 is up to the first bound",
    "delay_ms": "the sum of those times, milliseconds",
}
"""What is counted of an organ. A part behind a dot tells kinds of the same apart. Trial documents, statuses, notices are in no
count of documents. # QĐ 28/2018 Điều 11, 21.1"""

ROAD_MEANINGS: Mapping[str, str] = {
    "duplicates": "copies that were met again at this node and suppressed",
    "held": "times a copy was set aside for a person at this node",
}
"""What a node counts of itself, whoever the documents were for."""

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

_DELAYS = tuple(f"delay.{slot}" for slot in range(len(DELIVERY_BOUNDS_MS) + 1))
BYTES_MAX = 8 << 20
SUBJECTS_MAX = 200_000
KEYS_MAX = 2_000
COUNT_MAX = 10**15
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}(\.[a-z0-9-]{1,60})?")
_DAY_LONG = timedelta(days=1)
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
    return Histogram(tuple([counts.get(key, 0) for key in _DELAYS]), counts.get("delay_ms", 0))


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
    SHA-256 (hex) of the node's leaf certificate. parent: under whom the node hung then; None: the hub. organs: of each organ
    with an office here, where anything was counted. pairs: the day's events by pair of level-1 codes; stock: what there was of
    each pair when it was made. subtree: organs' counts of this node and of every node below it whose statement of the day it
    holds, added; nodes: how many nodes those are, itself included. road: what the node counted of itself. marked: events of the
    day stamped while the node's clock was not synchronised.
    """

    node: OrgId
    day: date
    version: Version
    final: bool
    made_ms: int
    bound_ms: int
    synchronised: bool
    key: str
    parent: OrgId | None = None
    organs: Mapping[OrgId, Counts] = field(default_factory=dict)
    pairs: Mapping[Pair, Counts] = field(default_factory=dict)
    stock: Mapping[Pair, Counts] = field(default_factory=dict)
    road: Counts = field(default_factory=dict)
    subtree: Counts = field(default_factory=dict)
    nodes: int = 1
    marked: int = 0

    def own(self) -> dict[str, int]:
        """The counts of the organs here, added."""
        return plus(*self.organs.values())


@dataclass(frozen=True, slots=True)
class SignedStatement:
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
        "parent": None if statement.parent is None else str(statement.parent),
        "organs": _subjects(statement.organs),
        "pairs": _subjects(statement.pairs),
        "stock": _subjects(statement.stock),
        "road": plus(statement.road),
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
        parent=None if fields.get("parent") is None else read_code(fields.get("parent"), "statement.parent"),
        organs={read_code(name, "statement.organs"): counts for name, counts in _read_subjects(fields, "organs").items()},
        pairs={_read_pair(name): counts for name, counts in _read_subjects(fields, "pairs").items()},
        stock={_read_pair(name): counts for name, counts in _read_subjects(fields, "stock").items()},
        road=_read_counts(fields.get("road"), "road"),
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


class Kept(StrEnum):
    """What became of a statement from below; but for the first three and the last, why it was not kept."""

    NEW = "new"
    KNOWN = "known"
    OLDER = "statement-older"
    ALTERED = "statement-altered"
    OUTSIDE = "statement-outside"
    SIGNATURE = "statement-signature"
    MALFORMED = "statement-malformed"
    CHAIN = "chain"
    """The certificate chain that signed it has to come with it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A statement that was not kept, named. reason: a word of `Kept`."""

    node: OrgId
    day: date
    version: Version
    reason: str


@dataclass(frozen=True, slots=True)
class Figure:
    """Counts of a subject as one node stated them, while it hung under that parent."""

    subject: str
    node: OrgId
    parent: OrgId | None
    counts: Counts


# as they go up


@dataclass(frozen=True, slots=True)
class Post:
    """Statements on their way to the parent, (data, signature) each; certificate chains (PEM, leaf first) by the leaf's
    digest."""

    items: tuple[tuple[bytes, bytes], ...]
    chains: Mapping[str, bytes] = field(default_factory=dict)


POST_BYTES_MAX = 16 << 20
POST_ITEMS_MAX = 1000
CHAIN_BYTES_MAX = 64 << 10
KEPT_BYTES_MAX = 64 << 10


def encode_post(post: Post) -> bytes:
    """JSON: statements are ASCII, and stand in it as text."""
    items = [[data.decode("ascii"), signature.hex()] for data, signature in post.items]
    chains = {digest: pem.decode("ascii") for digest, pem in post.chains.items()}
    return json.dumps({"v": 1, "statements": items, "chains": chains}, separators=(",", ":")).encode()


def decode_post(data: bytes) -> Post:
    """`Refused(WIRE_MALFORMED)` for anything else. What a statement in it is worth is not looked at."""
    fields = Fields(strict_json(data), "post")
    fields.whole("v", 1, 1)
    chains = fields.get("chains")
    if not isinstance(chains, dict) or not all(_ascii(pem, CHAIN_BYTES_MAX) for pem in chains.values()):
        raise _wrong("post.chains", type(chains).__name__)
    return Post(
        tuple(_read_item(item) for item in fields.items("statements", POST_ITEMS_MAX)),
        {digest: pem.encode() for digest, pem in chains.items()},
    )


def _read_item(item: object) -> tuple[bytes, bytes]:
    if not isinstance(item, list) or len(item) != 2 or not all(_ascii(part, BYTES_MAX) for part in item):
        raise _wrong("post.statements", type(item).__name__)
    try:
        return item[0].encode("ascii"), bytes.fromhex(item[1])
    except ValueError:
        raise _wrong("post.statements", item[1]) from None


def _ascii(text: object, most: int) -> bool:
    return isinstance(text, str) and text.isascii() and len(text) <= most


def encode_kept(words: Sequence[str]) -> bytes:
    return json.dumps({"v": 1, "kept": list(words)}, separators=(",", ":")).encode()


def decode_kept(data: bytes, count: int) -> tuple[str, ...]:
    """What the parent says of each of so many statements."""
    fields = Fields(strict_json(data), "answer")
    words = fields.items("kept", count)
    if len(words) != count or not all(_ascii(word, 40) for word in words):
        raise _wrong("answer.kept", len(words))
    return tuple(words)


# what a parent makes of many


@dataclass(frozen=True, slots=True)
class Coverage:
    """Mức đầy đủ số liệu of a range of days, by node. in_: every day since the node's first is there, closed where it is over (a
    silent unit's days are there, with nothing in them). late: every day is there, and one that is over is not closed yet.
    missing: of some day there is nothing."""

    in_: tuple[OrgId, ...] = ()
    late: tuple[OrgId, ...] = ()
    missing: tuple[OrgId, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldDays:
    """How many days of a range a node's statements cover, how many of them are final, and the first day there ever was one of."""

    days: int
    final: int
    since: date


def coverage(expected: Iterable[OrgId], held: Mapping[OrgId, HeldDays], *, first: date, last: date, today: date) -> Coverage:
    """expected: the nodes there are. A node is asked for the days of the range that have begun, from its own first day on: a unit
    that moved here is this subtree's from that day, and is in none of the lists of a range before it."""
    kinds: dict[str, list[OrgId]] = {"in": [], "late": [], "missing": []}
    for node in sorted(set(expected)):
        there = held.get(node)
        if there and there.since > min(last, today):
            continue
        begun = (min(last, today) - max(first, there.since)).days + 1 if there else 1
        over = min(begun, (min(last + _DAY_LONG, today) - max(first, there.since)).days) if there else 0
        days, final = (there.days, there.final) if there else (0, 0)
        kinds["missing" if days < begun else "late" if final < over else "in"].append(node)
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

"""Đối soát: which deliveries do not add up, found by sums that cancel out and never by sending lists of what is well.

Every delivery of a document is sent once, and then either ended or still lies somewhere. A mark of each such fact, combined by
exclusive or, is 0 over all of them wherever they were noted; where it is not, the time of the documents is cut in slices until
few are left. Envelope ids begin with their time, so a span of time is a span of ids on every node. Knows identifiers and values
only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

from node.core.envelope import Fields, strict_json
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId

KIND = "reconcile"
LIST_MAX = 2_000
"""So many facts are named instead of summed."""
PREFIXES_MAX = 2_000
SLICES = 1_000
"""A span is summed in so many parts at once: each fact is looked at once."""


@dataclass(frozen=True, slots=True)
class Span:
    """Documents made from from_ms to before to_ms (UTC ms, by their own nodes' word), of which both sender and receiver lie under
    one of these prefixes; none: all."""

    from_ms: int
    to_ms: int
    prefixes: tuple[str, ...] = ()

    def ids(self) -> tuple[str, str]:
        return id_at(self.from_ms), id_at(self.to_ms)

    def slices(self) -> list[Span]:
        """The span in at most SLICES parts of one width; the last may be shorter."""
        width_ms = max(1, -((self.from_ms - self.to_ms) // SLICES))
        starts = range(self.from_ms, max(self.to_ms, self.from_ms + 1), width_ms)
        return [Span(start, min(start + width_ms, self.to_ms), self.prefixes) for start in starts]

    def holds(self, *codes: str) -> bool:
        return not self.prefixes or all(any(_under(code, prefix) for prefix in self.prefixes) for code in codes)


def _under(code: str, prefix: str) -> bool:
    return code == prefix or code.startswith(f"{prefix}.")


def id_at(at_ms: int) -> str:
    """The first envelope id of that millisecond (RFC 9562, version 7)."""
    digits = f"{max(0, min(at_ms, (1 << 48) - 1)):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def made_ms(envelope: str) -> int:
    """When an envelope was made, by its id."""
    return int(envelope[:8] + envelope[9:13], 16)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something a node knows of a delivery: event `sent`, an end (`collected`, `refused`, `expired`, `stopped`), or where it lies
    (`waiting`, `moving`, `held`)."""

    origin: str
    id: str
    sender: str
    recipient: str
    event: str
    node: str

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.origin, self.id, self.recipient)


@dataclass(frozen=True, slots=True)
class Sums:
    """Of many facts: how many there are, how many more were sent than are known to be somewhere, and their marks combined."""

    facts: int = 0
    balance: int = 0
    mark: int = 0

    @property
    def even(self) -> bool:
        return not self.balance and not self.mark

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.facts + other.facts, self.balance + other.balance, self.mark ^ other.mark)


def sliced(facts: Iterable[tuple[str, str, str, str, str]], span: Span) -> list[Sums]:
    """The sums of each slice of the span. (event, origin, id, sender, recipient) each."""
    parts = span.slices()
    numbers, balances, marks = [0] * len(parts), [0] * len(parts), [0] * len(parts)
    from_ms, width_ms = span.from_ms, parts[0].to_ms - parts[0].from_ms
    for event, _, id_, _, recipient in facts:
        part = (int(id_[:8] + id_[9:13], 16) - from_ms) // width_ms
        numbers[part] += 1
        balances[part] += 1 if event == "sent" else -1
        # 48 bits of the id are chance: no two documents have the same, and no few of them cancel each other out.
        marks[part] ^= int(id_[24:], 16) ^ crc32(recipient.encode()) << 16
    return [Sums(*each) for each in zip(numbers, balances, marks, strict=True)]


@dataclass(frozen=True, slots=True)
class Difference:
    """A delivery that does not add up: sent and nowhere, somewhere and never sent, or in more than one state."""

    origin: str
    id: str
    sender: str
    recipient: str
    facts: tuple[Fact, ...]


def differences(facts: Sequence[Fact]) -> list[Difference]:
    """Those of which there is not one `sent` and one other fact."""
    by_key: dict[tuple[str, str, str], list[Fact]] = {}
    for fact in facts:
        by_key.setdefault(fact.key, []).append(fact)
    return [
        Difference(*found[0].key[:2], found[0].sender, found[0].recipient, tuple(found))
        for _, found in sorted(by_key.items())
        if sorted(fact.event == "sent" for fact in found) != [False, True]
    ]


def encode_asked(span: Span, named: bool) -> bytes:
    return json.dumps({"from": span.from_ms, "to": span.to_ms, "prefixes": span.prefixes, "named": named}).encode()


def decode_asked(data: bytes) -> tuple[Span, bool]:
    """`Refused(WIRE_MALFORMED)` for anything else."""
    fields = Fields(strict_json(data), "reconcile")
    prefixes = fields.items("prefixes", PREFIXES_MAX)
    named = fields.get("named")
    if not isinstance(named, bool) or not all(isinstance(each, str) for each in prefixes):
        raise Refused(Reason.WIRE_MALFORMED, "reconcile.prefixes")
    codes = tuple(str(OrgId.canonical(each)) for each in prefixes)
    return Span(fields.whole("from"), fields.whole("to"), codes), named


@dataclass(frozen=True, slots=True)
class Answer:
    """The sums of each slice of a span, of a node and all below it; silent: nodes that did not answer."""

    parts: tuple[Sums, ...]
    silent: tuple[str, ...] = ()

    def __add__(self, other: Answer) -> Answer:
        if len(self.parts) != len(other.parts):
            raise Refused(Reason.WIRE_MALFORMED, "reconcile.parts", str(len(other.parts)), str(len(self.parts)))
        parts = (one + another for one, another in zip(self.parts, other.parts, strict=True))
        return Answer(tuple(parts), (*self.silent, *other.silent))


def encode_sums(answer: Answer) -> bytes:
    parts = {str(place): [each.facts, each.balance, each.mark] for place, each in enumerate(answer.parts) if each.facts}
    return json.dumps({"count": len(answer.parts), "parts": parts, "silent": answer.silent}).encode()


def decode_sums(data: bytes) -> Answer:
    """`Refused(WIRE_MALFORMED)` for anything else."""
    try:
        value = json.loads(data)
        found = {int(place): Sums(*map(int, each)) for place, each in value["parts"].items()}
        count = min(int(value["count"]), SLICES + 1)
        return Answer(tuple(found.get(place, Sums()) for place in range(count)), tuple(map(str, value["silent"])))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refused(Reason.WIRE_MALFORMED, "reconcile.sums") from None


def encode_facts(facts: Sequence[Fact]) -> bytes:
    return json.dumps([[f.origin, f.id, f.sender, f.recipient, f.event, f.node] for f in facts]).encode()


def decode_facts(data: bytes) -> list[Fact]:
    try:
        return [Fact(*map(str, each)) for each in json.loads(data)]
    except (ValueError, TypeError):
        raise Refused(Reason.WIRE_MALFORMED, "reconcile.facts") from None

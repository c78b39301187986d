"""What the journal is judged by: acts of persons, the chain of its rows, and the heads that a node signs and its parent keeps.

A node cannot rewrite its past alone: the row that a head names must still have the hash it had when the head was signed. Knows
`envelope`, `evidence` and `identifier`; nothing of rows or keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from node.core.envelope import Fields, read_code, strict_json
from node.core.errors import Reason, Refused
from node.core.evidence import DIGEST, STATEMENT_BYTES_MAX, canonical
from node.core.identifier import OrgId

SIGNED_HEAD = b"truc-head-1\n"
TEXT_MAX = 400
VALUE_BYTES_MAX = 16 * 1024
"""Of what was before and after, each, as JSON."""


@dataclass(frozen=True, slots=True)
class Act:
    """What a person did to a node. what: noun and verb; subject: to what. before, after: JSON values without secrets. done_ms:
    when it was done, where it was recorded later; id: so that it is recorded once, "" where it is recorded as it is done."""

    what: str
    subject: str
    who: str
    why: str = ""
    before: Any = None
    after: Any = None
    done_ms: int = 0
    id: str = ""

    def detail(self) -> str:
        """As the journal's row holds it."""
        fields: dict[str, Any] = {"who": self.who, "why": self.why, "before": self.before, "after": self.after}
        if self.id:
            fields |= {"id": self.id, "done_ms": self.done_ms}
        return canonical(fields).decode()


def read_act(value: Mapping[str, Any]) -> Act:
    """An act as somebody else wrote it, or Refused(REQUEST_MALFORMED | VALUE_TOO_LONG); texts that are too long are cut."""
    texts = {name: value.get(name, "") for name in ("what", "subject", "who", "why", "id")}
    done_ms = value.get("done_ms", 0)
    whole = isinstance(done_ms, int) and not isinstance(done_ms, bool)
    if not all(isinstance(text, str) for text in texts.values()) or not whole or not texts["what"] or not texts["who"]:
        raise Refused(Reason.REQUEST_MALFORMED, "act")
    before, after = value.get("before"), value.get("after")
    if any(len(canonical(side)) > VALUE_BYTES_MAX for side in (before, after)):
        raise Refused(Reason.VALUE_TOO_LONG, "act", "", f"≤ {VALUE_BYTES_MAX} B")
    cut = {name: text[:TEXT_MAX] for name, text in texts.items()}
    return Act(**cut, before=before, after=after, done_ms=max(0, done_ms))


def bounded(value: Mapping[str, Mapping[str, Any]]) -> Any:
    """A value of an act, or how much it holds where it is too large to be kept."""
    if len(canonical(value)) <= VALUE_BYTES_MAX:
        return value
    return {name: len(each) for name, each in value.items()}


class Fault(StrEnum):
    """What is wrong with a row of the journal."""

    ALTERED = "altered"
    MISSING = "missing"
    HEAD = "head"
    """It is not what it was when a head was signed that names it: all behind was made anew."""
    EPOCH = "epoch"
    """The same of a head that was signed in an earlier epoch: the store was restored from a copy, or says that it was."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The first row that is not as it was written."""

    seq: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Place:
    """A row of the journal with the hash it carries. seq 0: before the first."""

    seq: int = 0
    hash: bytes = b"\0" * 32


@dataclass(frozen=True, slots=True)
class Head:
    """What a node states of its journal: so many rows, the last with this hash (hex)."""

    node: OrgId
    epoch: int
    seq: int
    hash: str
    at_ms: int
    bound_ms: int
    key: str


@dataclass(frozen=True, slots=True)
class KeptHead:
    """A head's exact bytes with its signature. told_ms: when the parent took it, 0: not yet."""

    statement: bytes
    signature: bytes
    told_ms: int = 0


def write_head(head: Head) -> bytes:
    fields = {"v": 1, "node": str(head.node), "epoch": head.epoch, "seq": head.seq, "hash": head.hash}
    return canonical({**fields, "at": head.at_ms, "bound": head.bound_ms, "key": head.key})


def read_head(statement: bytes) -> Head:
    """What a head says, or `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)`; only the one encoding is read."""
    if len(statement) > STATEMENT_BYTES_MAX:
        raise Refused(Reason.WIRE_TOO_LARGE, "head", str(len(statement)), f"≤ {STATEMENT_BYTES_MAX}")
    fields = Fields(strict_json(statement), "head")
    fields.whole("v", 1, 1)
    head = Head(
        read_code(fields.get("node"), "head.node"),
        fields.whole("epoch", 1),
        fields.whole("seq", 1),
        fields.text("hash", 64, DIGEST),
        fields.whole("at"),
        fields.whole("bound"),
        fields.text("key", 64, DIGEST),
    )
    if write_head(head) != statement:
        raise Refused(Reason.WIRE_MALFORMED, "head", "", "canonical")
    return head

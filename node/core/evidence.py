"""What proves that custody passed: the receipt a node signs for each batch, over a Merkle root of what it has taken.

A leaf is one (origin node, envelope id, recipient) with the digest of the header and the instant; whoever presented the batch
works out the same leaves from its own copy, so that a receipt on the wire is a statement and a signature and no more. A path of
hashes later proves one leaf without the others. Knows `envelope` and `identifier`; nothing of keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from node.core.envelope import Fields, read_code, strict_json
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.lifecycle import Transport

HASH_BYTES = 32
STATEMENT_BYTES_MAX = 1024
SIGNATURE_BYTES_MAX = 200
CHAIN_BYTES_MAX = 64 * 1024
COUNT_MAX = 1 << 20
"""Leaves of one batch, far above what a batch may name."""
PATH_MAX = 20
SIGNED_RECEIPT = b"truc-receipt-1\n"
"""Stands before a statement when it is signed, so that no other signature of the same key can be taken for it."""

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve's points (SEC 2, 2.4.2)."""

DIGEST = re.compile(r"[0-9a-f]{64}")
_LEAF, _INNER = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A statement's exact bytes and its signature. chain: of the key, PEM, where the presenter does not have it yet. leaves: what
    it was given for, in their order, where whoever holds it has worked them out."""

    statement: bytes
    signature: bytes
    chain: bytes = b""
    leaves: bytes = b""


class Signed(Protocol):
    """Whatever a node states under its name at an instant, with one of its keys."""

    @property
    def node(self) -> OrgId: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def bound_ms(self) -> int: ...
    @property
    def key(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """What a receipt states: node has taken from presenter count deliveries under this root, not later than at_ms ± bound_ms."""

    node: OrgId
    presenter: OrgId
    root: str
    count: int
    at_ms: int
    bound_ms: int
    key: str


Delivery = tuple[OrgId, str, OrgId]
"""(origin node, envelope id, recipient)."""


@dataclass(frozen=True, slots=True)
class Handed:
    """Where a delivery that was here has gone. handed_to: the neighbour that has taken it; None: nobody has. receipt: the number
    of what that neighbour signed for it."""

    recipient: OrgId
    digest: str
    handed_to: OrgId | None
    receipt: int | None


@dataclass(frozen=True, slots=True)
class SentDelivery:
    """How a delivery stands at the node where it began. at_ms: since when; notice: the number of the one that told its end."""

    recipient: OrgId
    state: Transport
    reason: str
    at_ms: int
    receiver_doc_id: str
    notice: int | None


@dataclass(frozen=True, slots=True)
class SentDocument:
    """What an office here has sent: its header with the signature, and each delivery that left the door."""

    origin: OrgId
    id: str
    doc_id: str
    kind: str
    header: bytes
    signature: bytes
    deliveries: tuple[SentDelivery, ...]


def canonical(value: Any) -> bytes:
    """The one encoding of a value as JSON: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def write_statement(taken: Taken) -> bytes:
    fields = {"v": 1, "node": str(taken.node), "from": str(taken.presenter), "root": taken.root, "count": taken.count}
    return canonical({**fields, "at": taken.at_ms, "bound": taken.bound_ms, "key": taken.key})


def read_statement(statement: bytes) -> Taken:
    """What a statement says, or `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)`; only the one encoding is read."""
    if len(statement) > STATEMENT_BYTES_MAX:
        raise Refused(Reason.WIRE_TOO_LARGE, "receipt", str(len(statement)), f"≤ {STATEMENT_BYTES_MAX}")
    fields = Fields(strict_json(statement), "receipt")
    fields.whole("v", 1, 1)
    taken = Taken(
        read_code(fields.get("node"), "receipt.node"),
        read_code(fields.get("from"), "receipt.from"),
        fields.text("root", 64, DIGEST),
        fields.whole("count", 1, COUNT_MAX),
        fields.whole("at"),
        fields.whole("bound"),
        fields.text("key", 64, DIGEST),
    )
    if write_statement(taken) != statement:
        raise Refused(Reason.WIRE_MALFORMED, "receipt", "", "canonical")
    return taken


def is_low(signature: bytes) -> bool:
    """Whether this is, of the two ECDSA signatures that anybody can turn into each other, the one with the lower s. Whether it
    is DER at all is for whoever verifies it."""
    at = 4 + int.from_bytes(signature[3:4])
    return int.from_bytes(signature[at + 2 :]) <= P256_ORDER // 2


def receipt_fields(receipt: Receipt) -> dict[str, str]:
    """As JSON. The leaves stay where they were worked out."""
    fields = {"statement": receipt.statement.decode(), "signature": base64.b64encode(receipt.signature).decode()}
    return {**fields, "chain": receipt.chain.decode()} if receipt.chain else fields


def receipt_of(value: object) -> Receipt:
    """The inverse of `receipt_fields`; anything else is `Refused(WIRE_MALFORMED)`."""
    fields = Fields(value, "receipt")
    fields.only(frozenset({"statement", "signature", "chain"}))
    chain = fields.text("chain", CHAIN_BYTES_MAX) if fields.get("chain") is not None else ""
    text = fields.text("signature", SIGNATURE_BYTES_MAX * 2)
    try:
        signature = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(Reason.WIRE_MALFORMED, "receipt.signature", "", "base64") from None
    return Receipt(fields.text("statement", STATEMENT_BYTES_MAX).encode(), signature, chain.encode())


def leaf(delivery: Delivery, digest: str, at_ms: int) -> bytes:
    """The hash of one delivery taken; digest: of the header's bytes, hex. None of its parts can hold a line's end."""
    origin, id_, recipient = delivery
    return hashlib.sha256(_LEAF + f"{origin}\n{id_}\n{recipient}\n{digest}\n{at_ms}".encode()).digest()


def leaves(taken: Iterable[tuple[Delivery, str]], at_ms: int) -> list[bytes]:
    """The leaves of (delivery, digest of its header) each, in the one order that both sides find by themselves."""
    lines = sorted(f"{origin}\n{id_}\n{recipient}\n{digest}\n{at_ms}" for (origin, id_, recipient), digest in taken)
    return [hashlib.sha256(_LEAF + line.encode()).digest() for line in lines]


def merkle_root(level: Sequence[bytes]) -> bytes:
    """Of one leaf or more; a last one without a partner goes up as it is."""
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def merkle_levels(leaves: Sequence[bytes]) -> list[Sequence[bytes]]:
    """The whole tree, from the leaves up to the root."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        levels.append(_level_above(levels[-1]))
    return levels


def merkle_path(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    """The hashes that lead from the leaf at index to the root, from below."""
    path = []
    for level in levels[:-1]:
        if (beside := index ^ 1) < len(level):
            path.append(level[beside])
        index //= 2
    return path


def climb(start: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to from the leaf at index of count; None: it is no path of such a tree."""
    if not 0 <= index < count:
        return None
    here, hashes = start, iter(path)
    while count > 1:
        if index ^ 1 < count:
            beside = next(hashes, None)
            if beside is None:
                return None
            here = _inner(beside, here) if index % 2 else _inner(here, beside)
        index, count = index // 2, (count + 1) // 2
    return here if next(hashes, None) is None else None


def _level_above(level: Sequence[bytes]) -> list[bytes]:
    pairs = [_inner(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs


def _inner(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_INNER + left + right).digest()

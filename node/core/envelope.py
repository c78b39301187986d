"""What travels: the header the origin node made and signed, the small wrapper each hop rewrites, and the checks a node makes.

A header is exact bytes (canonical JSON), never re-encoded on the road (architecture, decision 2). No subject, name or content
may enter it. Knows `identifier` and `errors`; nothing of the wire, the store or the clock.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.package import Business, Priority

KIND_DOCUMENT = "edoc"
KIND_STATUS = "status"
KIND_NOTICE = "notice"
"""The kinds this node understands. The registry is open: another kind travels and is delivered like a document."""

HEADER_BYTES_MAX = 256 * 1024
RECIPIENTS_MAX = 4000
"""Every commune of the country in one package: 3,321 and room."""
BODIES_MAX = 64
HOPS_MAX = 64
TEXT_MAX = 400
TIME_MAX_MS = 253_370_764_800_000
"""The year 9999: what lies beyond could not be printed."""
BOUND_MAX_MS = 86_400_000
"""A header's own bound counts up to a day: beyond that it would choose its own lifetime."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KIND = re.compile(r"[a-z][a-z0-9.-]{0,39}")


class Lane(IntEnum):
    """Luồng: weighted fair between them (decision 9)."""

    CONTROL = 0
    EXPRESS = 1
    VERY_URGENT = 2
    URGENT = 3
    NORMAL = 4


@dataclass(frozen=True, slots=True)
class Recipient:
    """One delivery. code: the addressed organ. via: the organ that receives for it (Điều 21.2), or None. written: as received."""

    code: OrgId
    written: str = ""
    via: OrgId | None = None

    @property
    def organ(self) -> OrgId:
        """Whose office the package is laid before: the route follows this code."""
        return self.code if self.via is None else self.via


@dataclass(frozen=True, slots=True)
class BodyRef:
    """sha256: 64 hex digits. size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """The immutable part. Instants are UTC milliseconds; `bound_ms` is the uncertainty of `created_ms`.

    origin: code of the node that made it (empty path = hub). key: SHA-256 (hex) of the origin's leaf certificate.
    expires_ms = 0: never (notices, statuses). doc_id: what the office doors show. recipients of a notice are nodes.
    """

    id: str
    origin: OrgId
    epoch: int
    kind: str
    sender: OrgId
    recipients: tuple[Recipient, ...]
    priority: Priority
    created_ms: int
    bound_ms: int
    expires_ms: int
    doc_id: str
    document_id: str
    business: Business
    bodies: tuple[BodyRef, ...]
    media: str
    key: str
    refs: tuple[str, ...] = ()

    @property
    def lane(self) -> Lane:
        return lane_of(self.kind, self.priority, self.business)

    @property
    def over_ms(self) -> int:
        """When the lifetime is over by the origin's own clock, its bound in favour of the document; 0: never."""
        return self.expires_ms + min(self.bound_ms, BOUND_MAX_MS) if self.expires_ms else 0


def lane_of(kind: str, priority: Priority, business: Business) -> Lane:
    """Statuses, notices and recalls overtake; hỏa tốc hẹn giờ goes with hỏa tốc. # QĐ 28/2018 Điều 6.2"""
    if kind in (KIND_STATUS, KIND_NOTICE) or business is Business.RECALL:
        return Lane.CONTROL
    return _LANES[priority]


_LANES = {
    Priority.NORMAL: Lane.NORMAL,
    Priority.URGENT: Lane.URGENT,
    Priority.VERY_URGENT: Lane.VERY_URGENT,
    Priority.EXPRESS: Lane.EXPRESS,
    Priority.EXPRESS_TIMED: Lane.EXPRESS,
}


@dataclass(frozen=True, slots=True)
class Hop:
    """A node that took custody: its code (empty = hub), the instant (UTC ms) and its bound."""

    node: OrgId
    at_ms: int
    bound_ms: int


class Sealed:
    """The immutable part: the header's exact bytes and the origin's signature. It is read when somebody asks, and once.

    header: what the bytes say, where whoever made them knows it.
    """

    __slots__ = ("_digest", "_header", "header_bytes", "signature")

    def __init__(self, header_bytes: bytes, signature: bytes, header: Header | None = None) -> None:
        self.header_bytes = header_bytes
        self.signature = signature
        self._header = header
        self._digest = ""

    @property
    def header(self) -> Header:
        """The header as a value; raises as `decode_header` where the bytes are none."""
        if self._header is None:
            self._header = decode_header(self.header_bytes)
        return self._header

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, hex."""
        if not self._digest:
            self._digest = header_digest(self.header_bytes)
        return self._digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and (self.header_bytes, self.signature) == (other.header_bytes, other.signature)

    def __hash__(self) -> int:
        return hash((self.header_bytes, self.signature))

    def __repr__(self) -> str:
        return f"Sealed({self.header_bytes!r}, {self.signature!r})"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What its origin has sealed, and this link's wrapper. A node that only hands it on need not read the header.

    remaining: codes of the recipients this copy is for. hops: nodes passed so far, origin first. attempts: offers so far.
    """

    sealed: Sealed
    remaining: tuple[OrgId, ...]
    hops: tuple[Hop, ...] = ()
    attempts: int = 0

    @property
    def header(self) -> Header:
        return self.sealed.header

    @property
    def header_bytes(self) -> bytes:
        return self.sealed.header_bytes

    @property
    def signature(self) -> bytes:
        return self.sealed.signature

    @property
    def digest(self) -> str:
        return self.sealed.digest

    def for_recipients(self) -> tuple[Recipient, ...]:
        """The header's recipients this copy is for, in the header's order."""
        wanted = set(self.remaining)
        return tuple(r for r in self.header.recipients if r.code in wanted)


def header_digest(header_bytes: bytes) -> str:
    return hashlib.sha256(header_bytes).hexdigest()


def uuid7(now_ms: int, rng: random.Random) -> str:
    """RFC 9562 version 7: 48 bits of UTC milliseconds, the rest from rng."""
    chance = rng.getrandbits(74)
    value = (now_ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | (chance >> 62) << 64 | 0b10 << 62 | chance & ((1 << 62) - 1)
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def encode_header(header: Header) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8. `decode_header(encode_header(h)) == h`."""
    fields = {
        "v": 1,
        "id": header.id,
        "origin": str(header.origin),
        "epoch": header.epoch,
        "kind": header.kind,
        "from": str(header.sender),
        "to": [[str(r.code), r.written, str(r.via) if r.via is not None else ""] for r in header.recipients],
        "priority": int(header.priority),
        "created": header.created_ms,
        "bound": header.bound_ms,
        "expires": header.expires_ms,
        "doc": header.doc_id,
        "document_id": header.document_id,
        "business": int(header.business),
        "bodies": [[b.sha256, b.size] for b in header.bodies],
        "media": header.media,
        "key": header.key,
        "refs": list(header.refs),
    }
    return _CANONICAL(fields).encode()


_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_STRICT = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)


def strict_json(data: bytes) -> Any:
    """JSON as RFC 8259 means it: UTF-8, no duplicate keys, no NaN, bounded depth. Any fault is `Refused(WIRE_MALFORMED)`."""
    try:
        value = _STRICT.decode(data.decode("utf-8"))
        if b"\\ud" in data or b"\\uD" in data:  # half a surrogate pair can be spelled, but no database and no office can hold it
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Refused(Reason.WIRE_MALFORMED, "json", str(error)[:80]) from None
    return value


def _wrong(name: str, value: object) -> Refused:
    return Refused(Reason.WIRE_MALFORMED, name, repr(value)[:80])


class Fields:
    """A JSON object read field by field; whatever has not the form asked for is `Refused(WIRE_MALFORMED)` with its name."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(what, value)
        self._value = cast("dict[str, Any]", value)
        self._what = what

    def text(self, name: str, limit: int = TEXT_MAX, pattern: re.Pattern[str] | None = None) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or len(value) > limit or (pattern is not None and not pattern.fullmatch(value)):
            raise _wrong(f"{self._what}.{name}", value)
        return value

    def whole(self, name: str, least: int = 0, most: int = TIME_MAX_MS) -> int:
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _wrong(f"{self._what}.{name}", value)
        return value

    def items(self, name: str, limit: int) -> list[Any]:
        value = self._value.get(name)
        if not isinstance(value, list) or len(value) > limit:
            raise _wrong(f"{self._what}.{name}", type(value).__name__)
        return value

    def get(self, name: str) -> Any:
        return self._value.get(name)

    def only(self, names: frozenset[str]) -> None:
        for name in self._value:
            if name not in names:
                raise _wrong(f"{self._what}.{name}", "?")


def read_code(value: object, what: str) -> OrgId:
    """A code in canonical root-first form, as a node writes it; "" is the hub."""
    if not isinstance(value, str):
        raise _wrong(what, value)
    try:
        return OrgId.canonical(value)
    except Refused:
        raise _wrong(what, value) from None


def _recipient(item: object) -> Recipient:
    if not isinstance(item, list) or len(item) != 3 or not all(isinstance(part, str) for part in item):
        raise _wrong("header.to", item)
    if len(item[1]) > TEXT_MAX:
        raise _wrong("header.to", item[1])
    via = read_code(item[2], "header.to") if item[2] else None
    return Recipient(read_code(item[0], "header.to"), item[1], via)


def _body(item: object) -> BodyRef:
    if not isinstance(item, list) or len(item) != 2:
        raise _wrong("header.bodies", item)
    digest, size = item
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _wrong("header.bodies", digest)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= TIME_MAX_MS:
        raise _wrong("header.bodies", size)
    return BodyRef(digest, size)


SMALL_HEADER_BYTES = 4 * 1024
"""A header to a dozen recipients. So many are remembered as a batch or two holds; of larger ones, few."""


def decode_header(data: bytes) -> Header:
    """Header bytes to a value, or `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)`. Unknown keys are kept out: version 1 has these."""
    return _decode_small(data) if len(data) <= SMALL_HEADER_BYTES else _decode_large(data)


def _decode_header(data: bytes) -> Header:
    if len(data) > HEADER_BYTES_MAX:
        raise Refused(Reason.WIRE_TOO_LARGE, "header", str(len(data)), f"≤ {HEADER_BYTES_MAX}")
    fields = Fields(strict_json(data), "header")
    fields.whole("v", 1, 1)
    recipients = tuple(_recipient(item) for item in fields.items("to", RECIPIENTS_MAX))
    if not recipients or len({r.code for r in recipients}) != len(recipients):
        raise _wrong("header.to", len(recipients))
    refs = fields.items("refs", 64)
    if not all(isinstance(ref, str) and len(ref) <= TEXT_MAX for ref in refs):
        raise _wrong("header.refs", refs)
    return Header(
        id=fields.text("id", 36, _ID),
        origin=read_code(fields.get("origin"), "header.origin"),
        epoch=fields.whole("epoch", 1),
        kind=fields.text("kind", 40, _KIND),
        sender=read_code(fields.get("from"), "header.from"),
        recipients=recipients,
        priority=Priority(fields.whole("priority", 0, 4)),
        created_ms=fields.whole("created"),
        bound_ms=fields.whole("bound"),
        expires_ms=fields.whole("expires"),
        doc_id=fields.text("doc", 64),
        document_id=fields.text("document_id"),
        business=Business(fields.whole("business", 0, 3)),
        bodies=tuple(_body(item) for item in fields.items("bodies", BODIES_MAX)),
        media=fields.text("media", 100),
        key=fields.text("key", 64, _DIGEST),
        refs=tuple(refs),
    )


_decode_small = functools.lru_cache(maxsize=1024)(_decode_header)
_decode_large = functools.lru_cache(maxsize=16)(_decode_header)


def open_envelope(
    header_bytes: bytes, signature: bytes, remaining: tuple[OrgId, ...], hops: tuple[Hop, ...], attempts: int
) -> Envelope:
    """Put an envelope together from what a link or a row holds; the remaining recipients must be the header's own."""
    sealed = Sealed(header_bytes, signature)
    known = {r.code for r in sealed.header.recipients}
    if not remaining or len(set(remaining)) != len(remaining) or not known.issuperset(remaining):
        raise _wrong("wrapper.to", len(remaining))
    return Envelope(sealed, remaining, hops, attempts)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node accepts: total body bytes of an envelope, hops passed, and how far ahead a lifetime may reach (ms)."""

    body_bytes_max: int
    hops_max: int
    lifetime_max_ms: int = 100 * 86_400_000


def check(envelope: Envelope, limits: Limits, *, now_ms: int, bound_ms: int, synchronised: bool) -> Reason | None:
    """Lifetime, size and hops of what a neighbour presents; None when all is well.

    Times are judged with both bounds in favour of the document; an unsynchronised node judges none (decision 11).
    """
    header = envelope.header
    if sum(body.size for body in header.bodies) > limits.body_bytes_max:
        return Reason.PACKAGE_TOO_LARGE
    if len(envelope.hops) > limits.hops_max:
        return Reason.TOO_MANY_HOPS
    if header.expires_ms and header.expires_ms - header.created_ms > limits.lifetime_max_ms:
        return Reason.LIFETIME
    if synchronised and header.over_ms and now_ms > header.over_ms + bound_ms:
        return Reason.EXPIRED
    return None


def derived_doc_id(doc_id: str, organ: str) -> str:
    """A receiver's own docId, where one system receives the same package for several organs and must tell them apart.

    A name-based UUID (RFC 9562 version 8) of doc_id and organ, so that the origin can recognise it in a status.
    """
    digits = hashlib.sha256(f"{doc_id}/{organ}".encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"

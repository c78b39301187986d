"""Envelopes, arrivals and submissions made by hand, for tests of what stores and decides about them. Nothing here is signed."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from node.core.custody import Arrival, DoorRefusal, LocalEnvelope, StatusReport, StoredBody, Submission
from node.core.envelope import BodyRef, Envelope, Header, Hop, Lane, Recipient, Sealed, encode_header, open_envelope
from node.core.forwarding import Ask, Turn
from node.core.identifier import OrgId
from node.core.package import Business, Priority
from node.core.routing import Decision, Deliver, Forward
from tests.adapters.pki import NOW_MS

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
LIFETIME_MS = 7 * DAY_MS
HUB = OrgId(())
KEY = "ab" * 32
CHAIN = b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"

_numbers = itertools.count(1)


def org(text: str) -> OrgId:
    return OrgId.canonical(text)


H41, H54 = org("H41"), org("H54")
OFFICE, OTHER_OFFICE = org("H54.02"), org("H54.03")
WEIGHTS = dict(zip(Lane, (16, 8, 4, 2, 1), strict=True))
EVERYTHING = Ask(1 << 30, 1000, 1000, WEIGHTS, Turn(), {}, ())
"""All that waits for a neighbour, in one batch."""


def fresh_id() -> str:
    return f"01900000-0000-7000-8000-{next(_numbers):012x}"


def body(text: str = "nội dung") -> StoredBody:
    data = text.encode()
    return StoredBody(hashlib.sha256(data).hexdigest(), len(data), data=data)


def header(*to: OrgId, content: StoredBody | None = None, **changes: Any) -> Header:
    """A new document from H41.07, made at H41, for `to` (H54.02 if nobody is named)."""
    content = content or body()
    plain = Header(
        id=fresh_id(),
        origin=H41,
        epoch=1,
        kind="edoc",
        sender=org("H41.07"),
        recipients=tuple(Recipient(code, str(code)) for code in to or (OFFICE,)),
        priority=Priority.NORMAL,
        created_ms=NOW_MS,
        bound_ms=1000,
        expires_ms=NOW_MS + LIFETIME_MS,
        doc_id=fresh_id(),
        document_id="",
        business=Business.NEW,
        bodies=(BodyRef(content.sha256, content.size),),
        media="application/edxml+xml",
        key=KEY,
    )
    return replace(plain, **changes)


def envelope(head: Header, remaining: Sequence[OrgId] | None = None, hops: Sequence[OrgId] = (H41,)) -> Envelope:
    left = tuple(remaining) if remaining is not None else tuple(each.code for each in head.recipients)
    passed = tuple(Hop(code, NOW_MS, 1000) for code in hops)
    return open_envelope(encode_header(head), b"signature", left, passed, 0)


def arrival(
    head: Header,
    route: Decision | Mapping[OrgId, Decision] | None = None,
    *,
    remaining: Sequence[OrgId] | None = None,
    content: StoredBody | None = None,
    inline: bool = True,
    chain: bytes | None = CHAIN,
    anew: Decision | None = None,
    hops: Sequence[OrgId] = (H41,),
    **more: Any,
) -> Arrival:
    """One envelope from a neighbour. route: for every recipient, or by recipient; anew: should it come back."""
    made = envelope(head, remaining, hops)
    route = route or Deliver()
    judged = dict(route) if isinstance(route, Mapping) else dict.fromkeys(made.remaining, route)
    content = content or body()
    return Arrival(
        made,
        judged,
        dict.fromkeys(made.remaining, anew) if anew is not None else judged,
        more.pop("doc_ids", {}),
        (content,) if inline else (),
        chain,
        **more,
    )


def local(head: Header, routes: Mapping[OrgId, OrgId | None], content: StoredBody | None = None) -> LocalEnvelope:
    return LocalEnvelope(envelope(head), routes, (content or body(),), CHAIN)


def submission(
    *to: OrgId,
    next_hop: OrgId | None = HUB,
    system: str = "so-noi-vu",
    content: StoredBody | None = None,
    refused: Sequence[DoorRefusal] = (),
    report: StatusReport | None = None,
    repeat_since_ms: int = NOW_MS - DAY_MS,
    notation: str = "12/SNV",
    date: str = "2031/03/01",
    **changes: Any,
) -> Submission:
    """A package from the office of H41.07, handed in at H41: everything goes to next_hop (None: this node's own mailbox)."""
    content = content or body(f"gói tin {next(_numbers)}")
    head = header(*to, content=content, **changes)
    routes = dict.fromkeys((each.code for each in head.recipients), next_hop)
    return Submission(
        system=system,
        file_digest=content.sha256,
        message_type="status" if head.kind == "status" else "edoc",
        sender_text=str(head.sender),
        sender_name="Sở Nội vụ",
        notation=notation,
        date=date,
        title="V/v kiểm thử",
        local=local(head, routes, content),
        refused=tuple(refused),
        repeat_since_ms=repeat_since_ms,
        report=report,
    )


def to(neighbour: OrgId) -> Forward:
    return Forward(neighbour)


def received_by(organ: OrgId, *codes: OrgId) -> tuple[Recipient, ...]:
    """Recipients for whom another organ receives. # QĐ 28/2018 Điều 21.2"""
    return tuple(Recipient(code, str(code), organ) for code in codes)


def resealed(envelope: Envelope, header_bytes: bytes | None = None, signature: bytes | None = None) -> Envelope:
    """As somebody on the way would alter it: other bytes under the old signature, or another signature."""
    old = envelope.sealed
    sealed = Sealed(old.header_bytes if header_bytes is None else header_bytes, old.signature if signature is None else signature)
    return replace(envelope, sealed=sealed)

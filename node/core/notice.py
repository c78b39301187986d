"""What a notice says and how it is written: the ends of deliveries, told to the node where they began.

Any bytes decode or are `Refused(WIRE_MALFORMED)`. Knows `custody`, `envelope`, `words`; nothing of the road.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from node.core import words
from node.core.custody import End, EndOf
from node.core.envelope import KIND_NOTICE, BodyRef, Fields, Header, read_code, strict_json
from node.core.errors import Reason, Refused
from node.core.lifecycle import ENDS, Transport

MEDIA_NOTICE = "application/vnd.truc.notice.v1+json"
NOTICE_ENDS_MAX = 4000
NOTICE_BYTES_MAX = 1 << 20
TEXT_MAX = 2000
TEXTS_MAX = 40_000
"""Characters of one end's text, and of all of a notice: with NOTICE_ENDS_MAX ends it still keeps to NOTICE_BYTES_MAX."""


def describe_end(code: str, name: str, end: End, instead: str = "") -> str:
    """One Vietnamese sentence on a delivery that did not succeed, for the clerk who sent it. instead: the code to use, of one
    that is closed."""
    whom = f"{name} ({code})" if name and name != code else code
    what = words.label("transport", end.state.value)
    rule = instead if end.reason is Reason.RECIPIENT_CLOSED else ""
    why = end.text or (words.sentence(Refused(end.reason, "OrganId", code, rule)) if end.reason is not None else "")
    return f"Bên nhận {whom}: {what}. {why}".rstrip()


def only_body(header: Header) -> BodyRef:
    """Of a status or a notice, which has one; a notice is small and for one node, which alone can take it. Raises Refused."""
    if len(header.bodies) != 1:
        raise Refused(Reason.WIRE_MALFORMED, "header.bodies", str(len(header.bodies)), "1")
    ref = header.bodies[0]
    if header.kind == KIND_NOTICE and (len(header.recipients) != 1 or ref.size > NOTICE_BYTES_MAX):
        raise Refused(Reason.WIRE_MALFORMED, "notice", f"{len(header.recipients)} {ref.size}", f"1, ≤ {NOTICE_BYTES_MAX}")
    return ref


def encode_notice(ends: Iterable[EndOf]) -> bytes:
    """The content of a notice: JSON with the ends it tells. Only codes, ids, instants and reasons; long texts are cut."""
    ends = list(ends)
    text_max = min(TEXT_MAX, TEXTS_MAX // max(1, len(ends)))
    items = [
        {
            "origin": str(end_of.origin),
            "id": end_of.id,
            "to": str(end_of.recipient),
            "state": end_of.end.state.value,
            "at": end_of.end.at_ms,
            "reason": end_of.end.reason.value if end_of.end.reason is not None else "",
            "text": end_of.end.text[:text_max],
            "doc": end_of.end.receiver_doc_id,
        }
        for end_of in ends
    ]
    return json.dumps({"v": 1, "ends": items}, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def decode_notice(data: bytes) -> tuple[EndOf, ...]:
    """The inverse of `encode_notice`; anything else is Refused(WIRE_MALFORMED)."""
    fields = Fields(strict_json(data), "notice")
    fields.whole("v", 1, 1)
    return tuple(_end_of(Fields(item, "notice.ends")) for item in fields.items("ends", NOTICE_ENDS_MAX))


def _end_of(fields: Fields) -> EndOf:
    state = fields.text("state", 20)
    reason = fields.text("reason", 60)
    if state not in {end.value for end in ENDS} or (reason and reason not in set(Reason)):
        raise Refused(Reason.WIRE_MALFORMED, "notice.ends.state", f"{state} {reason}")
    end = End(
        Transport(state),
        fields.whole("at"),
        Reason(reason) if reason else None,
        fields.text("text", TEXT_MAX),
        fields.text("doc", 64),
    )
    return EndOf(
        read_code(fields.get("origin"), "notice.origin"), fields.text("id", 36), read_code(fields.get("to"), "notice.to"), end
    )

"""`POST /link/v1/trust`: what neighbours tell each other about keys, both ends of it on the wire: revocation lists that are new.

Knows `core`; what a list is worth is decided behind it.

    question  {"session": text, "since": number, "lists": [{"authority": PEM, "list": PEM}, …]}
    answer    {"session": text, "place": number, "more": true or false, "lists": […]}
"""

from __future__ import annotations

import json
import re
from typing import Protocol

from node.core.envelope import Fields, strict_json
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.standing import Listed, TrustAnswer, TrustQuestion

TRUST_PATH = "/link/v1/trust"
TRUST_BYTES_MAX = 4 * 1024 * 1024
LISTS_MAX = 64
LIST_CHARS_MAX = 1024 * 1024
AUTHORITY_CHARS_MAX = 64 * 1024
SESSION_CHARS_MAX = 64

_SESSION = re.compile(rf"[0-9a-zA-Z_-]{{0,{SESSION_CHARS_MAX}}}")


class TrustDoor(Protocol):
    """The parent's side."""

    async def answer(self, peer: OrgId, question: TrustQuestion) -> TrustAnswer: ...


def encode_question(question: TrustQuestion) -> bytes:
    return _json({"session": question.session, "since": question.since, "lists": _lists(question.lists)})


def decode_question(data: bytes) -> TrustQuestion:
    """`Refused(WIRE_MALFORMED)` for any other form."""
    fields = Fields(strict_json(data), "trust")
    return TrustQuestion(fields.text("session", SESSION_CHARS_MAX, _SESSION), fields.whole("since"), _read_lists(fields))


def encode_answer(answer: TrustAnswer) -> bytes:
    return _json({"session": answer.session, "place": answer.place, "more": answer.more, "lists": _lists(answer.lists)})


def decode_answer(data: bytes) -> TrustAnswer:
    """`Refused(WIRE_MALFORMED)` for any other form. A field that we do not know is a later version's."""
    fields = Fields(strict_json(data), "trust")
    more = fields.get("more")
    if not isinstance(more, bool):
        raise Refused(Reason.WIRE_MALFORMED, "trust.more")
    session = fields.text("session", SESSION_CHARS_MAX, _SESSION)
    return TrustAnswer(session, fields.whole("place"), more, _read_lists(fields))


def _lists(lists: tuple[Listed, ...]) -> list[dict[str, str]]:
    return [{"authority": each.authority, "list": each.text} for each in lists]


def _read_lists(fields: Fields) -> tuple[Listed, ...]:
    rows = [Fields(row, "trust.lists") for row in fields.items("lists", LISTS_MAX)]
    return tuple(Listed(row.text("authority", AUTHORITY_CHARS_MAX), row.text("list", LIST_CHARS_MAX)) for row in rows)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()

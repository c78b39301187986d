"""`POST /link/v1/trust` and `POST /link/v1/renew`: what neighbours tell each other about keys, both ends of it on the wire.

The first carries revocation lists that are new, the roots, and the parent's word on its own next key; the second a child's
requests (CSR) for new certificates under the one it has. Knows `core`; what any of it is worth is decided behind it.

    question  {"session": text, "since": number, "lists": [{"authority": PEM, "list": PEM}, …]}
    answer    {"session": text, "place": number, "more": true or false, "lists": […], "renew": true or false,
               "roots": [PEM, …], "crosses": [PEM, …], "handovers": [{"key": PEM, "pin": hex, "signature": hex}, …]}
    renewal   {"csr": PEM, "authority_csr": PEM or ""}
    renewed   {"certificate": PEM, "authority": PEM or ""}
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from node.core.envelope import Fields, strict_json
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.standing import Handover, Listed, Roots, TrustAnswer, TrustQuestion

TRUST_PATH = "/link/v1/trust"
TRUST_BYTES_MAX = 4 * 1024 * 1024
LISTS_MAX = 64
LIST_CHARS_MAX = 1024 * 1024
AUTHORITY_CHARS_MAX = 64 * 1024
SESSION_CHARS_MAX = 64
RENEW_BYTES_MAX = 24 * 1024
RENEWED_BYTES_MAX = 256 * 1024
CSR_CHARS_MAX = 8192
FEW = 16
"""Roots, their words for each other, handovers: as many as a tree has in its life."""

_HEX = re.compile(r"[0-9a-f]+")
_SESSION = re.compile(rf"[0-9a-zA-Z_-]{{0,{SESSION_CHARS_MAX}}}")


class TrustDoor(Protocol):
    """The parent's side."""

    async def answer(self, peer: OrgId, chain: Sequence[bytes], question: TrustQuestion) -> TrustAnswer:
        """chain: what the child has shown, DER."""
        ...

    async def renew(self, peer: OrgId, chain: Sequence[bytes], csr: str, authority_csr: str) -> tuple[str, str]:
        """The chain of a new certificate, and that of an authority ("" if not asked). Raises Refused and Deferred."""
        ...


def encode_question(question: TrustQuestion) -> bytes:
    return _json({"session": question.session, "since": question.since, "lists": _lists(question.lists)})


def decode_question(data: bytes) -> TrustQuestion:
    """`Refused(WIRE_MALFORMED)` for any other form."""
    fields = Fields(strict_json(data), "trust")
    return TrustQuestion(fields.text("session", SESSION_CHARS_MAX, _SESSION), fields.whole("since"), _read_lists(fields))


def encode_answer(answer: TrustAnswer) -> bytes:
    told = {"session": answer.session, "place": answer.place, "more": answer.more, "lists": _lists(answer.lists)}
    roots, handovers = answer.roots, [asdict(each) for each in answer.handovers]
    return _json({**told, "renew": answer.renew, "roots": roots.roots, "crosses": roots.crosses, "handovers": handovers})


def decode_answer(data: bytes) -> TrustAnswer:
    """`Refused(WIRE_MALFORMED)` for any other form. A field that we do not know is a later version's."""
    fields = Fields(strict_json(data), "trust")
    more = fields.get("more")
    if not isinstance(more, bool):
        raise Refused(Reason.WIRE_MALFORMED, "trust.more")
    session = fields.text("session", SESSION_CHARS_MAX, _SESSION)
    roots = Roots(_texts(fields, "roots"), _texts(fields, "crosses"))
    rows = [Fields(row, "trust.handovers") for row in _items(fields, "handovers")]
    handovers = (Handover(row.text("key", 1000), row.text("pin", 64, _HEX), row.text("signature", 200, _HEX)) for row in rows)
    return TrustAnswer(
        session, fields.whole("place"), more, _read_lists(fields), fields.get("renew") is True, roots, tuple(handovers)
    )


def encode_renewal(csr: str, authority_csr: str) -> bytes:
    return _json({"csr": csr, "authority_csr": authority_csr})


def decode_renewal(data: bytes) -> tuple[str, str]:
    """`Refused(WIRE_MALFORMED)` for any other form."""
    fields = Fields(strict_json(data), "renew")
    return fields.text("csr", CSR_CHARS_MAX), fields.text("authority_csr", CSR_CHARS_MAX)


def encode_renewed(certificate: str, authority: str) -> bytes:
    return _json({"certificate": certificate, "authority": authority})


def decode_renewed(data: bytes) -> tuple[str, str]:
    """`Refused(WIRE_MALFORMED)` for any other form."""
    fields = Fields(strict_json(data), "renewed")
    return fields.text("certificate", AUTHORITY_CHARS_MAX), fields.text("authority", AUTHORITY_CHARS_MAX)


def _lists(lists: tuple[Listed, ...]) -> list[dict[str, str]]:
    return [{"authority": each.authority, "list": each.text} for each in lists]


def _read_lists(fields: Fields) -> tuple[Listed, ...]:
    rows = [Fields(row, "trust.lists") for row in fields.items("lists", LISTS_MAX)]
    return tuple(Listed(row.text("authority", AUTHORITY_CHARS_MAX), row.text("list", LIST_CHARS_MAX)) for row in rows)


def _items(fields: Fields, name: str) -> list[Any]:
    """A list that an older version does not send."""
    return fields.items(name, FEW) if fields.get(name) is not None else []


def _texts(fields: Fields, name: str) -> tuple[str, ...]:
    found = _items(fields, name)
    if not all(isinstance(each, str) and len(each) <= AUTHORITY_CHARS_MAX for each in found):
        raise Refused(Reason.WIRE_MALFORMED, f"trust.{name}")
    return tuple(found)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()

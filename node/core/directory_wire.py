"""What two neighbours say to each other of the directory: how far each has got, and the changes the other lacks.

JSON, {"have": {author: [epoch, number]}, "changes": [{"body", "signature", "key"}], "chains": {key: PEM}}; the question of a
child that brings nothing is a line, "H41:1.7,H14:1.2", in the query of a GET. Any bytes decode or are refused; that a change is
well-formed says nothing of its signature. Knows `changes`; nothing of HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from node.core.changes import CHANGE_BYTES_MAX, NUMBER_MAX, Head, Held, held
from node.core.envelope import Fields, read_code, strict_json
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId

EXCHANGE_BYTES_MAX = 4 * CHANGE_BYTES_MAX
PORTION_BYTES = 1024 * 1024
"""Changes go together up to here, the chains of their keys counted in; one at least."""
AUTHORS_MAX = 60_000
"""Nodes that have said something: with the longest of codes they fit beside a portion of changes. No node keeps more."""
CHANGES_MAX = 10_000
SINCE_CHARS_MAX = 4000
CHAIN_CHARS_MAX = 64 * 1024
_KEY = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"(?:[0-9a-f]{2}){1,200}")
_SINCE = re.compile(r"([^:,]*):([0-9]{1,16})\.([0-9]{1,16})")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One side's word. have: how far it has got. chains: PEM, leaf first, for the keys of the changes."""

    have: Mapping[OrgId, Head] = field(default_factory=dict)
    changes: tuple[Held, ...] = ()
    chains: Mapping[str, bytes] = field(default_factory=dict)


def encode_exchange(said: Exchange) -> bytes:
    value = {
        "have": {str(author): list(head) for author, head in said.have.items()},
        "changes": [{"body": each.body.decode(), "signature": each.signature.hex(), "key": each.key} for each in said.changes],
        "chains": {key: chain.decode("ascii") for key, chain in said.chains.items()},
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def decode_exchange(data: bytes) -> Exchange:
    """Any bytes as one, or `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE | CODE_*)`."""
    if len(data) > EXCHANGE_BYTES_MAX:
        raise Refused(Reason.WIRE_TOO_LARGE, "directory", str(len(data)), f"≤ {EXCHANGE_BYTES_MAX}")
    try:
        fields = Fields(strict_json(data), "directory")
        have, chains = fields.get("have"), fields.get("chains")
        if not isinstance(have, dict) or len(have) > AUTHORS_MAX or not isinstance(chains, dict):
            raise Refused(Reason.WIRE_MALFORMED, "directory.have")
        return Exchange(
            {read_code(author, "have"): _head(head) for author, head in have.items()},
            tuple(_change(each) for each in fields.items("changes", CHANGES_MAX)),
            {key: _chain(key, chain) for key, chain in chains.items()},
        )
    except RecursionError:
        raise Refused(Reason.WIRE_MALFORMED, "directory", "", "depth") from None


def since_text(have: Mapping[OrgId, Head]) -> str | None:
    """How far somebody has got, for a query; None where it is too long for one."""
    text = ",".join(f"{author}:{head.epoch}.{head.number}" for author, head in have.items())
    return text if len(text) <= SINCE_CHARS_MAX else None


def read_since(text: str) -> dict[OrgId, Head]:
    """The inverse of `since_text`; `Refused(WIRE_MALFORMED)`."""
    found: dict[OrgId, Head] = {}
    for part in text[: SINCE_CHARS_MAX + 1].split(",") if text else ():
        match = _SINCE.fullmatch(part)
        if match is None or len(text) > SINCE_CHARS_MAX:
            raise Refused(Reason.WIRE_MALFORMED, "since", part)
        found[read_code(match[1], "since")] = Head(int(match[2]), int(match[3]))
    return found


def portion(lacking: Iterable[Held], chains: Mapping[str, bytes]) -> tuple[Held, ...]:
    """As many of these, from the first on, as go together with the chains of their keys."""
    chosen: list[Held] = []
    keys: set[str] = set()
    size = 0
    for each in lacking:
        size += len(each.body) + (len(chains.get(each.key, b"")) if each.key not in keys else 0)
        keys.add(each.key)
        if chosen and (size > PORTION_BYTES or len(chosen) == CHANGES_MAX):
            break
        chosen.append(each)
    return tuple(chosen)


def _head(value: object) -> Head:
    if not isinstance(value, list) or len(value) != 2:
        raise Refused(Reason.WIRE_MALFORMED, "directory.have", repr(value)[:80])
    row = Fields({"epoch": value[0], "number": value[1]}, "have")
    return Head(row.whole("epoch", 1, NUMBER_MAX), row.whole("number", 1, NUMBER_MAX))


def _change(value: object) -> Held:
    row = Fields(value, "directory.change")
    body, signature = row.text("body", CHANGE_BYTES_MAX), row.text("signature", 400, _SIGNATURE)
    return held(body.encode(), bytes.fromhex(signature), row.text("key", 64, _KEY))


def _chain(key: object, value: object) -> bytes:
    if not isinstance(key, str) or not _KEY.fullmatch(key) or not isinstance(value, str) or len(value) > CHAIN_CHARS_MAX:
        raise Refused(Reason.WIRE_MALFORMED, "directory.chains", repr(key)[:80])
    if not value.isascii():
        raise Refused(Reason.WIRE_MALFORMED, "directory.chains", key)
    return value.encode()

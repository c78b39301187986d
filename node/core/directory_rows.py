"""Organs and nodes of the directory as rows of plain JSON values, written one way and read strictly.

The file of a directory (`adapters/directory_file.py`) and the signed changes (`changes.py`) write the same rows. What is not
said of an organ is not written, so that a row from before a field existed is read as ever. Knows `directory` and `envelope`'s
strict reading; nothing of who may say what.
"""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import Any, TypeVar

from node.core.directory import NO_CONTACT, Connection, Contact, Entry, Fate, NodeEntry
from node.core.envelope import Fields, read_code
from node.core.errors import Reason, Refused
from node.core.identifier import CODE_CHARS_MAX, OrgId, normalise

NAME_CHARS_MAX = 500
ALIAS_CHARS_MAX = 200
LABEL_CHARS_MAX = 40
CONTACT_CHARS_MAX = 200
SOURCE_CHARS_MAX = 400
LIST_MAX = 10_000
"""Aliases of an organ, prefixes of a node, prefixes received for."""
ALSO_MAX = 100
"""Successors of an organ that was split."""

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CONTACT_KEYS = tuple(each.name for each in fields(Contact))
_NODE_KEYS = frozenset({"code", "name", "tier", "parent", "prefixes"})
_ENTRY_KEYS = frozenset(each.name for each in fields(Entry))

Word = TypeVar("Word", bound=StrEnum)


def node_row(node: NodeEntry) -> dict[str, Any]:
    return {
        "code": str(node.code),
        "name": node.name,
        "tier": node.tier,
        "parent": _text(node.parent),
        "prefixes": list(map(str, node.prefixes)),
    }


def entry_row(entry: Entry) -> dict[str, Any]:
    """What every directory has always said of an organ, then what this one has beside."""
    row = {
        "code": str(entry.code),
        "old_code": entry.old_code,
        "aliases": list(entry.aliases),
        "name": entry.name,
        "kind": entry.kind,
        "valid_from": _text(entry.valid_from),
        "valid_to": _text(entry.valid_to),
        "successor": _text(entry.successor),
        "receives_for": list(map(str, entry.receives_for)),
        "focal_only": entry.focal_only,
        "connection": entry.connection.value,
        "connection_from": _text(entry.connection_from),
    }
    further = {
        "also": list(map(str, entry.also)),
        "fate": entry.fate.value if entry.fate is not None else None,
        "contact": contact_row(entry.contact),
        "source": entry.source,
        "source_day": _text(entry.source_day),
    }
    return row | {key: value for key, value in further.items() if value}


def contact_row(contact: Contact) -> dict[str, str]:
    return {key: value for key in _CONTACT_KEYS if (value := getattr(contact, key))}


def read_node(value: object) -> NodeEntry:
    """A row back to a node, or `Refused(WIRE_MALFORMED)`."""
    row = Fields(value, "node")
    row.only(_NODE_KEYS)
    parent = row.get("parent")
    return NodeEntry(
        read_code(row.get("code"), "node.code"),
        row.text("name", NAME_CHARS_MAX),
        row.text("tier", LABEL_CHARS_MAX),
        None if parent is None else read_code(parent, "node.parent"),
        _codes(row, "prefixes", LIST_MAX),
    )


def read_entry(value: object) -> Entry:
    """A row back to an entry, or `Refused(WIRE_MALFORMED | CODE_*)`; what is not there is not said."""
    row = Fields(value, "entry")
    row.only(_ENTRY_KEYS)
    successor, focal = row.get("successor"), row.get("focal_only")
    if not isinstance(focal, bool):
        raise _wrong("entry.focal_only", focal)
    name = row.text("name", NAME_CHARS_MAX)
    if not name:
        raise _wrong("entry.name", name)
    return Entry(
        code=read_code(row.get("code"), "entry.code"),
        name=name,
        old_code=_written(row.text("old_code", CODE_CHARS_MAX)),
        aliases=tuple(_alias(each) for each in row.items("aliases", LIST_MAX)),
        kind=row.text("kind", LABEL_CHARS_MAX),
        valid_from=_day(row, "valid_from"),
        valid_to=_day(row, "valid_to"),
        successor=None if successor is None else read_code(successor, "entry.successor"),
        receives_for=_codes(row, "receives_for", LIST_MAX),
        focal_only=focal,
        connection=_word(Connection, row.get("connection"), "entry.connection"),
        connection_from=_day(row, "connection_from"),
        also=_codes(row, "also", ALSO_MAX) if row.get("also") is not None else (),
        fate=None if row.get("fate") is None else _word(Fate, row.get("fate"), "entry.fate"),
        contact=_contact(row.get("contact")),
        source=row.text("source", SOURCE_CHARS_MAX) if row.get("source") is not None else "",
        source_day=_day(row, "source_day"),
    )


def check_history(entries: tuple[Entry, ...]) -> None:
    """Whether these are the entries of one code, in the order of their days and open one after the other: a code is one organ on
    any day. Raises `Refused(WIRE_MALFORMED)`."""
    for entry in entries:
        if not entry.code.path or entry.code != entries[0].code:
            raise _wrong("entry.code", str(entry.code))
        if entry.valid_to is not None and entry.valid_to < (entry.valid_from or date.min):
            raise _wrong("entry.valid_to", str(entry.valid_to))
    for older, younger in pairwise(entries):
        if not older.ended_before(younger.valid_from or date.min):
            raise _wrong("entry.valid_from", f"{younger.code} {younger.valid_from}")


def _contact(value: object) -> Contact:
    if value is None:
        return NO_CONTACT
    row = Fields(value, "entry.contact")
    row.only(frozenset(_CONTACT_KEYS))
    return Contact(*(row.text(key, CONTACT_CHARS_MAX) if row.get(key) is not None else "" for key in _CONTACT_KEYS))


def _word(kind: type[Word], value: object, what: str) -> Word:
    if not isinstance(value, str) or value not in set(kind):
        raise _wrong(what, value)
    return kind(value)


def _codes(row: Fields, name: str, most: int) -> tuple[OrgId, ...]:
    return tuple(read_code(each, name) for each in row.items(name, most))


def _written(text: str) -> str:
    if text:
        OrgId.parse(text)
    return text


def _alias(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= ALIAS_CHARS_MAX:
        raise _wrong("entry.aliases", value)
    normalise(value)
    return value


def _day(row: Fields, name: str) -> date | None:
    value = row.get(name)
    if value is None:
        return None
    try:
        return date.fromisoformat(row.text(name, 10, _DAY))
    except ValueError:
        raise _wrong(f"entry.{name}", value) from None


def _text(value: OrgId | date | None) -> str | None:
    return None if value is None else str(value)


def _wrong(name: str, value: object) -> Refused:
    return Refused(Reason.WIRE_MALFORMED, name, repr(value)[:80])

"""The connection table: which organs of a subtree are connected, since when, who was heard of last when, and who is silent.

# QĐ 28/2018 Điều 21, 22.3; 676/QĐ-VPCP items 15–18

Knows the directory and days; nothing of how figures are kept, nor of formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from node.core.directory import CONNECTED, Directory, Entry
from node.core.identifier import OrgId
from node.core.report import subtree
from node.core.report_document import Document, Place, Row

SILENT_DAYS = 14
"""A connected organ that sent and collected nothing for longer is silent. Tết is nine days."""


def connections(directory: Directory, place: Place, heard: Mapping[OrgId, date], today: date, cut_off: str) -> Document:
    """heard: the last day on which anything was counted of an organ. One row for each organ whose code is open today."""
    inside = set(subtree(directory, place.code))
    rows = [_row(directory, entry, heard, today) for entry in directory.agencies(today) if directory.owner(entry.code) in inside]
    rows.sort(key=lambda row: (row["node"], row["organ"]))
    states: dict[str, int] = {}
    for row in rows:
        states[row["connection"]] = states.get(row["connection"], 0) + 1
    summary = {
        "event": "summary",
        "cut_off": cut_off,
        "connections": states,
        "silent": sum(row["silent"] for row in rows),
        "silent_after_days": SILENT_DAYS,
    }
    return {
        "node": str(place.code),
        "name": place.name,
        "tier": place.tier,
        "kind": "connections",
        "rows": rows,
        "summary": summary,
    }


def _row(directory: Directory, entry: Entry, heard: Mapping[OrgId, date], today: date) -> Row:
    last = heard.get(entry.code)
    since = entry.connection_from or entry.valid_from
    begun = max((each for each in (last, since) if each is not None), default=None)
    connected = entry.connection in CONNECTED and entry.connected_on(today)
    quiet = connected and (begun is None or (today - begun).days > SILENT_DAYS)
    return {
        "organ": str(entry.code),
        "name": entry.name,
        "node": str(directory.owner(entry.code)),
        "connection": entry.connection.value,
        "connected_from": None if since is None or not connected else since.isoformat(),
        "last_traffic": None if last is None else last.isoformat(),
        "silent": quiet,
    }

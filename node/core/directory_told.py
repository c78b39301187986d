"""What was said of a code, as people and programs are told: by whom, when, why, and who administers it.

Knows `changes` and the rows; nothing of who asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from node.core.audit import Act, bounded
from node.core.changes import Books, CodeRow, Folded, Held, NodeRow
from node.core.directory import Directory
from node.core.directory_rows import entry_row, node_row
from node.core.identifier import OrgId
from node.core.wanted import Wanted

ACT_NAMES_MAX = 20
"""Codes that the journal names of one act."""


def about(books: Books, folded: Folded | None, code: OrgId) -> dict[str, Any]:
    """All that was said of a code and of a node under it, the oldest first. Codes as text."""
    said = [row for log in books.logs.values() for each in log for row in _said(each, code)]
    counts = folded.codes.get(code) if folded is not None else None
    return {
        "code": str(code),
        "administrator": str(folded.administrator(code)) if folded is not None else None,
        "author": str(counts.author) if counts is not None else None,
        "said": sorted(said, key=lambda each: (each["at_ms"], each["revision"])),
    }


def _said(each: Held, code: OrgId) -> Iterator[dict[str, Any]]:
    change = each.change
    told = {
        "author": str(change.author),
        "epoch": change.epoch,
        "number": change.number,
        "at_ms": change.at_ms,
        "why": change.why,
    }
    rows: list[NodeRow | CodeRow] = [*change.nodes, *change.codes]
    for row in rows:
        if row.code == code:
            entries = list(map(entry_row, row.entries)) if isinstance(row, CodeRow) else None
            node = node_row(row.node) if isinstance(row, NodeRow) and row.node is not None else None
            yield {**told, "revision": row.revision, "entries": entries, "node": node}


def acted(before: Directory, wanted: Wanted, why: str, who: str) -> Act:
    """What was said, as the journal keeps acts: rows before and after, or how many where they are many."""
    then = {str(code): [entry_row(each) for each in before.history(code)] for code in wanted.codes}
    now = {str(code): [entry_row(each) for each in entries] for code, entries in wanted.codes.items()}
    nodes = {str(code): None if (node := before.node(code)) is None else node_row(node) for code in wanted.nodes}
    fresh = {str(code): None if node is None else node_row(node) for code, node in wanted.nodes.items()}
    named = " ".join(sorted({*now, *fresh})[:ACT_NAMES_MAX])
    return Act(
        "directory.change", named, who, why, bounded({"codes": then, "nodes": nodes}), bounded({"codes": now, "nodes": fresh})
    )

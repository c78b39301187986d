"""Joining an office status to the document it speaks of: by docId, by DocumentId, by (organ, number/notation, date).

Called only inside the writer (`match_status`) or by a reader (`addressee`). Knows the tables of submissions, deliveries and
mailbox items.
"""

from __future__ import annotations

import json
import sqlite3

from node.adapters.sqlite.writer import Stamp, Transaction
from node.core.custody import StatusReport
from node.core.envelope import Header, derived_doc_id
from node.core.lifecycle import StatusFlag, judge_status

CANDIDATES_MAX = 50


def match_status(tx: Transaction, report: StatusReport, header: Header, stamp: Stamp) -> StatusFlag | None:
    """Record an office status on the delivery it speaks of. Returns what is remarkable about it, None when it is none of
    ours to judge (13 from a sender is matched to the mailbox of the receiver). It is delivered in any case."""
    if report.code == "13":
        return StatusFlag.NONE if _received(tx.db, report) is not None else StatusFlag.UNMATCHED
    found = _sent(tx.db, report)
    if found is None:
        tx.journal(stamp, "unmatched", envelope=header.id, recipient=str(report.organ), reason=report.code)
        return StatusFlag.UNMATCHED
    seq, recipient, last, envelope = found
    flag = judge_status(last, report.code)
    tx.journal(stamp, "status", envelope=envelope, recipient=recipient, reason=report.code, detail=flag.value)
    if flag is not StatusFlag.OUT_OF_ORDER:
        tx.db.execute(
            "UPDATE delivery SET office_status=?, office_text=?, office_ms=?, updated_ms=? WHERE envelope=? AND recipient=?",
            (report.code, report.text, report.at_ms or stamp.at_ms, stamp.at_ms, seq, recipient),
        )
    return flag


def _sent(db: sqlite3.Connection, report: StatusReport) -> tuple[int, str, str, str] | None:
    """(submission, recipient, last status, envelope id) of the delivery that report speaks of, the newest first."""
    for where, values in _keys(report):
        found = db.execute(
            "SELECT s.envelope, d.recipient, d.office_status, s.id FROM submission s JOIN delivery d ON d.envelope=s.envelope"
            f" WHERE {where} AND s.kind<>'status' AND d.at_door=0 AND (d.recipient=? OR d.organ=?) ORDER BY s.taken_ms DESC LIMIT 1",
            (*values, str(report.reporter), str(report.reporter)),
        ).fetchone()
        if found is not None:
            return found[0], found[1], found[2], found[3]
    return _sent_by_derived(db, report)


def _keys(report: StatusReport) -> list[tuple[str, tuple[str, ...]]]:
    organ = str(report.organ)
    keys: list[tuple[str, tuple[str, ...]]] = []
    if report.document_id:
        keys.append(("s.doc_id=? AND s.sender=?", (report.document_id, organ)))
        keys.append(("s.sender=? AND s.document_id=?", (organ, report.document_id)))
    if report.notation and report.date:
        keys.append(("s.sender=? AND s.notation=? AND s.date=?", (organ, report.notation, report.date)))
    return keys


def _sent_by_derived(db: sqlite3.Connection, report: StatusReport) -> tuple[int, str, str, str] | None:
    """The reporter may name the docId it saw, which is a derived one where its system receives for several organs."""
    if not report.document_id:
        return None
    rows = db.execute(
        "SELECT s.envelope, d.recipient, d.office_status, s.id, s.doc_id, d.organ FROM submission s JOIN delivery d ON d.envelope=s.envelope"
        " WHERE s.sender=? AND s.kind<>'status' AND (d.recipient=? OR d.organ=?) ORDER BY s.taken_ms DESC LIMIT ?",
        (str(report.organ), str(report.reporter), str(report.reporter), CANDIDATES_MAX),
    )
    for seq, recipient, last, envelope, doc_id, organ in rows:
        if derived_doc_id(doc_id, organ) == report.document_id:
            return seq, recipient, last, envelope
    return None


def _received(db: sqlite3.Connection, report: StatusReport) -> int | None:
    row = db.execute(
        "SELECT m.item FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.organ=? AND m.kind='edoc'"
        " AND (m.doc_id=? OR e.document_id=?) AND e.document_id<>'' ORDER BY m.item DESC LIMIT 1",
        (str(report.organ), report.document_id, report.document_id),
    ).fetchone()
    return row[0] if row else None


def addressee(db: sqlite3.Connection, reporter: str, document_id: str) -> list[str]:
    """Whom a status about document_id concerns, as far as this node knows: the sender of the document that reporter has
    received, or (for 13) the receivers of the document it has sent. Codes, newest document first; [] when unknown."""
    if not document_id:
        return []
    row = db.execute(
        "SELECT e.sender FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE (m.organ=?1 OR EXISTS"
        " (SELECT 1 FROM json_each(m.recipients) WHERE value=?1)) AND m.kind='edoc' AND (m.doc_id=?2 OR e.document_id=?2)"
        " ORDER BY m.item DESC LIMIT 1",
        (reporter, document_id),
    ).fetchone()
    return [row[0]] if row else []


def receivers(db: sqlite3.Connection, sender: str, document_id: str) -> list[str]:
    """The receivers of the newest document that sender has sent under document_id (a docId or a DocumentId)."""
    if not document_id:
        return []
    row = db.execute(
        "SELECT json_group_array(d.recipient) FROM delivery d WHERE d.at_door=0 AND d.envelope="
        "(SELECT envelope FROM submission WHERE sender=?1 AND (doc_id=?2 OR document_id=?2) AND kind<>'status' ORDER BY taken_ms DESC LIMIT 1)",
        (sender, document_id),
    ).fetchone()
    codes: list[str] = json.loads(row[0])
    return codes

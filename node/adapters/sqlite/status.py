"""Joining an office status to the document it speaks of: by docId, by DocumentId, by (organ, number/notation, date).

Called only inside the writer (`match_status`) or by a reader (`addressee`). Knows the tables of submissions, deliveries and
mailbox items.
"""

from __future__ import annotations

import json
import sqlite3

from node.adapters.sqlite.writer import Stamp, Transaction
from node.core.custody import StatusReport
from node.core.envelope import Header
from node.core.lifecycle import StatusFlag, judge_status


def match_status(tx: Transaction, report: StatusReport, header: Header, stamp: Stamp) -> StatusFlag | None:
    """Record an office status on the delivery it speaks of. Returns what is remarkable about it, None when it is none of
    ours to judge (13 from a sender is matched to the mailbox of the receiver). It is delivered in any case."""
    if report.code == "13":
        known = _received(tx.db, str(report.organ), report.document_id) is not None
        return StatusFlag.NONE if known else StatusFlag.UNMATCHED
    found = _sent(tx.db, report)
    if found is None:
        tx.journal(stamp, "unmatched", envelope=header.id, recipient=str(report.organ), reason=report.code)
        return StatusFlag.UNMATCHED
    seq, recipient, last, envelope = found
    flag = judge_status(last, report.code)
    tx.journal(stamp, "status", envelope=envelope, recipient=recipient, reason=report.code, detail=flag.value)
    if flag is not StatusFlag.OUT_OF_ORDER:
        tx.db.execute(
            # A focal point speaks for all the codes it received the document for. # QĐ 28/2018 Điều 21.2
            "UPDATE delivery SET office_status=?, office_text=?, office_ms=?, updated_ms=?"
            " WHERE envelope=? AND at_door=0 AND (recipient=? OR organ=?)",
            (report.code, report.text, report.at_ms or stamp.at_ms, stamp.at_ms, seq, recipient, str(report.reporter)),
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
    return None


def _keys(report: StatusReport) -> list[tuple[str, tuple[str, ...]]]:
    organ = str(report.organ)
    keys: list[tuple[str, tuple[str, ...]]] = []
    if report.document_id:
        keys.append(("s.doc_id=? AND s.sender=?", (report.document_id, organ)))
        # The reporter names the docId it saw, which is a derived one where its system receives for several organs.
        keys.append(("d.derived_doc_id=? AND s.sender=?", (report.document_id, organ)))
        keys.append(("s.sender=? AND s.document_id=?", (organ, report.document_id)))
    if report.notation and report.date:
        keys.append(("s.sender=? AND s.notation=? AND s.date=?", (organ, report.notation, report.date)))
    return keys


_RECEIVED = (
    "SELECT m.item AS item, e.sender AS sender FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.kind='edoc' AND {key}=?2"
    " AND (m.organ=?1 OR EXISTS (SELECT 1 FROM json_each(m.recipients) WHERE value=?1))"
)


def _received(db: sqlite3.Connection, organ: str, document_id: str) -> tuple[int, str] | None:
    """(item, sender) of the newest document that organ has received under document_id, a docId or a DocumentId."""
    if not document_id:
        return None
    by_doc_id, by_document_id = _RECEIVED.format(key="m.doc_id"), _RECEIVED.format(key="e.document_id")
    found: tuple[int, str] | None = db.execute(
        f"{by_doc_id} UNION {by_document_id} ORDER BY item DESC LIMIT 1", (organ, document_id)
    ).fetchone()
    return found


def addressee(db: sqlite3.Connection, reporter: str, document_id: str) -> list[str]:
    """Whom a status about document_id concerns, as far as this node knows: the sender of the document that reporter has
    received, or (for 13) the receivers of the document it has sent. Codes, newest document first; [] when unknown."""
    found = _received(db, reporter, document_id)
    return [found[1]] if found else []


def receivers(db: sqlite3.Connection, sender: str, document_id: str, notation: str, date: str) -> list[str]:
    """The receivers of the newest document that sender has sent under document_id (a docId or a DocumentId), or, where that
    finds none, under number/notation and date."""
    named = "SELECT envelope FROM submission WHERE doc_id=?2 UNION ALL SELECT envelope FROM submission WHERE sender=?1 AND document_id=?2"
    by_id = f"envelope IN ({named}) AND +sender=?1 AND ?2<>''", (sender, document_id)
    by_notation = "sender=?1 AND notation=?2 AND date=?3 AND ?2<>'' AND ?3<>''", (sender, notation, date)
    for where, values in (by_id, by_notation):
        row = db.execute(
            "SELECT json_group_array(d.recipient) FROM delivery d WHERE d.at_door=0 AND d.envelope="
            f"(SELECT envelope FROM submission WHERE {where} AND kind<>'status' ORDER BY taken_ms DESC LIMIT 1)",
            values,
        ).fetchone()
        codes: list[str] = json.loads(row[0])
        if codes:
            return codes
    return []

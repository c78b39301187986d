"""Joining an office status to the document it speaks of: by docId, by DocumentId, by (organ, number/notation, date); and what of
answers is counted.

Called only inside the writer (`match_status`, `answered`, `overdue`) or by a reader (`addressee`). Knows the tables of submissions, deliveries and
mailbox items.
"""

from __future__ import annotations

import json
import sqlite3

from node.adapters.sqlite import rows
from node.adapters.sqlite.writer import Stamp, Transaction
from node.core.custody import StatusReport
from node.core.envelope import Header, decode_header
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
    if stamp.synchronised:
        _overdue(tx, seq, stamp.at_ms - stamp.bound_ms, stamp)  # what comes now comes too late for it
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


def answered(tx: Transaction, status: Header, stamp: Stamp) -> None:
    """An office says something of a document that it has received: the first time it has acknowledged it, to its sender and to the
    figures; of one that it has not collected yet, when it does. # NĐ 30/2020 Điều 21.2.c"""
    found = _received(tx.db, str(status.sender), status.document_id)
    row = (
        found
        and tx.db.execute(
            "SELECT e.header,m.envelope,m.organ,m.recipients,max(p.answered_ms),min(CASE p.state WHEN 'done' THEN p.updated_ms END) FROM mailbox m"
            " JOIN envelope e ON e.seq=m.envelope JOIN mailbox p ON p.envelope=m.envelope AND p.organ=m.organ WHERE m.item=?",
            (found[0],),
        ).fetchone()
    )
    if not row or row[4] is not None:
        return
    header_bytes, envelope, organ, recipients, _, collected_ms = row
    tx.db.execute("UPDATE mailbox SET answered_ms=? WHERE envelope=? AND organ=?", (stamp.at_ms, envelope, organ))
    if collected_ms is not None:
        header = decode_header(bytes(header_bytes))
        facts = rows.Facts(True, organ, collected_ms)
        rows.ledger(tx, stamp, "acknowledged", header, json.loads(recipients)[0], str(header.sender), "", facts)


_ANSWERED = "('02','06','15')"
"""What an office says last of a document. # QĐ 28/2018 Điều 10.2.h"""


def overdue(tx: Transaction, before_ms: int, limit: int, stamp: Stamp) -> int:
    """Note of documents that were sent here what was not dealt with within its time limit. Returns how many were looked at."""
    found = tx.db.execute(
        "SELECT envelope FROM submission WHERE due_ms BETWEEN 1 AND ? ORDER BY due_ms LIMIT ?", (before_ms, limit)
    )
    seqs = [seq for (seq,) in found]
    for seq in seqs:
        _overdue(tx, seq, before_ms, stamp)
    return len(seqs)


def _overdue(tx: Transaction, seq: int, before_ms: int, stamp: Stamp) -> None:
    """Where a document's time limit is over, each delivery of which the receiver has not said that it is dealt with, refused or
    destroyed, is overdue. Looked at once. # QĐ 28/2018 Điều 10.2.o"""
    row = tx.db.execute("SELECT due_ms FROM submission WHERE envelope=? AND due_ms BETWEEN 1 AND ?", (seq, before_ms)).fetchone()
    if row is None:
        return
    open_ = tx.db.execute(
        "SELECT recipient FROM delivery WHERE envelope=? AND at_door=0 AND state NOT IN ('refused','expired','stopped')"
        f" AND office_status NOT IN {_ANSWERED} ORDER BY recipient",
        (seq,),
    ).fetchall()
    for (recipient,) in open_:
        rows.ledger_of_sent(tx, stamp, "overdue", seq, recipient, made_ms=row[0])
    tx.db.execute("UPDATE submission SET due_ms=0 WHERE envelope=?", (seq,))


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

"""Queries for evidence: what was sent from here, where each delivery has gone, what neighbours signed for it, how it ended.

Run by a reader. Knows the tables of submissions, keys, receipts and notices.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from node.core.bundle import Told
from node.core.evidence import Handed, Receipt, SentDelivery, SentDocument
from node.core.identifier import OrgId
from node.core.lifecycle import Transport

_SENT = "SELECT s.envelope,s.origin,s.id,s.doc_id,s.kind FROM submission s WHERE "
_BY = (
    "s.doc_id=?1",
    "s.envelope IN (SELECT envelope FROM delivery WHERE derived_doc_id=?1 AND ?1<>'')",
    "s.origin=?2 AND s.id=?1",
    "s.sender IN ({senders}) AND s.document_id=?1 AND ?1<>''",
)
_SENDERS = (
    "WITH RECURSIVE senders(code) AS (SELECT min(sender) FROM submission UNION ALL"
    " SELECT (SELECT min(sender) FROM submission WHERE sender>senders.code) FROM senders WHERE senders.code IS NOT NULL)"
    " SELECT code FROM senders"
)


def sent_under(db: sqlite3.Connection, key: str, node: str, limit: int) -> list[SentDocument]:
    """What offices here have sent under a docId, else under an envelope id, else under a DocumentId, the newest first."""
    for by in _BY:
        found = db.execute(
            f"{_SENT}{by.format(senders=_SENDERS)} AND ?2 IS NOT NULL ORDER BY s.taken_ms DESC LIMIT ?3", (key, node, limit)
        ).fetchall()
        if found:
            return [sent for row in found if (sent := _sent(db, *row)) is not None]
    return []


def _sent(db: sqlite3.Connection, seq: int, origin: str, id_: str, doc_id: str, kind: str) -> SentDocument | None:
    sealed = db.execute(
        "SELECT header,signature FROM envelope WHERE seq=?1 UNION ALL SELECT header,signature FROM sealed WHERE envelope=?1",
        (seq,),
    ).fetchone()
    if sealed is None:
        return None
    cursor = db.execute(
        "SELECT recipient,state,reason,coalesce(nullif(collected_ms,0),updated_ms),receiver_doc_id,notice FROM delivery"
        " WHERE envelope=? AND at_door=0 ORDER BY recipient",
        (seq,),
    )
    deliveries = tuple(
        SentDelivery(OrgId.canonical(recipient), Transport(state), reason, at_ms, receiver, notice)
        for recipient, state, reason, at_ms, receiver, notice in cursor
    )
    return SentDocument(OrgId.canonical(origin), id_, doc_id, kind, bytes(sealed[0]), bytes(sealed[1]), deliveries)


def handed(db: sqlite3.Connection, origin: str, id_: str) -> list[Handed]:
    """Every delivery of an envelope that was here."""
    cursor = db.execute("SELECT recipient,digest,handed_to,receipt FROM seen WHERE origin=? AND id=?", (origin, id_))
    return [
        Handed(OrgId.canonical(recipient), digest, None if to is None else OrgId.canonical(to), receipt)
        for recipient, digest, to, receipt in cursor
    ]


def receipts(db: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, Receipt]:
    """By number, with leaves and chains."""
    found = {}
    for number in numbers:
        row = db.execute(
            "SELECT r.statement,r.signature,c.chain,r.leaves FROM receipt r JOIN certificate c ON c.digest=r.key WHERE r.seq=?",
            (number,),
        ).fetchone()
        if row is not None:
            found[number] = Receipt(*map(bytes, row))
    return found


def notices(db: sqlite3.Connection, numbers: Sequence[int]) -> list[Told]:
    found = []
    for number in numbers:
        row = db.execute("SELECT header,signature,body FROM notice WHERE seq=?", (number,)).fetchone()
        if row is not None:
            found.append(Told(*map(bytes, row)))
    return found


def ended_here(db: sqlite3.Connection, origin: str, id_: str) -> list[tuple[OrgId, str, Transport, int]]:
    """What was laid before offices here of an envelope and is over: (recipient, kind, collected or not, when)."""
    cursor = db.execute(
        "SELECT r.value,e.kind,m.state,m.updated_ms FROM envelope e JOIN mailbox m ON m.envelope=e.seq, json_each(m.recipients) r"
        " WHERE e.origin=? AND e.id=? AND m.state IN ('done','ended')",
        (origin, id_),
    )
    ends = {"done": Transport.COLLECTED, "ended": Transport.REFUSED}
    return [(OrgId.canonical(code), kind, ends[state], at_ms) for code, kind, state, at_ms in cursor]

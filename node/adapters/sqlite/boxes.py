"""Transactions and queries of the mailbox and of the sent list: what offices collect, confirm, and ask about.

`waiting`, `count`, `sent` and the `*_of` of one item are run by a reader; the rest only inside the writer.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from node.adapters.sqlite import rows
from node.adapters.sqlite.writer import Look, Stamp, Transaction, attempt
from node.core.custody import BoxItem, Confirmed, Homeward, SubmissionInfo
from node.core.envelope import KIND_DOCUMENT, KIND_STATUS, Header, decode_header
from node.core.errors import Deferred
from node.core.identifier import OrgId
from node.core.office import LaidOut, Listed, SentLine, Waiting, fitting
from node.ports import Describe

_OPEN = "m.state IN ('initial','processing','fail')"
_PACKAGE = "body b ON b.seq=(SELECT x.body FROM envelope_body x WHERE x.envelope=m.envelope LIMIT 1)"
_ITEM = (
    "SELECT m.item,e.header,m.organ,m.recipients,m.doc_id,m.state,m.fetched_ms,m.done_early,m.fails FROM mailbox m"
    " JOIN envelope e ON e.seq=m.envelope"
)


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _next(db: sqlite3.Connection, organs: Sequence[str], kind: str, limit: int, after: int | None = None) -> dict[int, int]:
    """Open items of these organs, item -> place: the urgent first (# QĐ 28/2018 Điều 6.2), of all, or of those that arrived next
    behind an item. A look into the index for each organ, whatever waits."""
    order = "m.lane,m.item" if after is None else "m.item"
    statement = (
        f"SELECT m.lane,m.item FROM mailbox m WHERE m.organ=? AND m.kind=? AND {_OPEN}"
        f"{'' if after is None else ' AND m.item>?'} ORDER BY {order} LIMIT ?"
    )
    behind = () if after is None else (after,)
    found = [row for organ in organs for row in db.execute(statement, (organ, kind, *behind, limit))]
    chosen = sorted(found, key=None if after is None else _by_item)[:limit]
    return {item: place for place, (_, item) in enumerate(sorted(chosen))}


def _by_item(row: tuple[int, int]) -> int:
    return row[1]


def waiting(db: sqlite3.Connection, organs: Sequence[str], kind: str, limit: int) -> list[Waiting]:
    """Open items of these organs: the urgent first, then in order of arrival. # QĐ 28/2018 Điều 6.2

    message_type is the kind: connectors know the two words edoc and status; new, recall, update, replace stand in the package.
    """
    places = _next(db, organs, kind, limit)
    if not places:
        return []
    rows_found = db.execute(
        "SELECT m.item,m.doc_id,m.recipients,m.state,e.priority,m.since_ms,m.updated_ms,e.sender FROM mailbox m"
        " JOIN envelope e ON e.seq=m.envelope WHERE m.item IN (SELECT value FROM json_each(?))",
        (json.dumps(list(places)),),
    ).fetchall()
    return [
        Waiting(doc_id, kind, kind, sender, ";".join(json.loads(recipients)), state, priority, since_ms, updated_ms)
        for _, doc_id, recipients, state, priority, since_ms, updated_ms, sender in sorted(
            rows_found, key=lambda row: places[row[0]]
        )
    ]


def listed(db: sqlite3.Connection, organs: Sequence[str], kind: str, after: int | None, limit: int) -> list[Listed]:
    """Open items of these organs with their content's size and digest, the urgent first. after: those that were laid next behind
    this item; None: of all."""
    places = _next(db, organs, kind, limit, after)
    if not places:
        return []
    rows_found = db.execute(
        "SELECT m.item,m.doc_id,e.sender,m.recipients,m.state,e.priority,coalesce(b.size,0),coalesce(b.digest,''),m.since_ms,"
        "m.updated_ms,m.done_early FROM mailbox m JOIN envelope e ON e.seq=m.envelope"
        f" LEFT JOIN {_PACKAGE} WHERE m.item IN (SELECT value FROM json_each(?))",
        (json.dumps(list(places)),),
    ).fetchall()
    return [
        Listed(
            item,
            doc_id,
            kind,
            sender,
            tuple(json.loads(codes)),
            state,
            priority,
            size,
            digest,
            since_ms,
            updated_ms,
            bool(early),
        )
        for item, doc_id, sender, codes, state, priority, size, digest, since_ms, updated_ms, early in sorted(
            rows_found, key=lambda row: places[row[0]]
        )
    ]


def lay_out(
    tx: Transaction, organs: Sequence[str], kind: str, after: int | None, limit: int, room_bytes: int | None
) -> Look[LaidOut]:
    """What lies before these organs, with contents up to room_bytes (None: none): those in rows, which thereby count as fetched,
    and the names of files. A content whose bytes are no longer what they were does not come along. # QĐ 28/2018 Điều 6.1"""
    lines = listed(tx.db, organs, kind, after, limit)
    if not lines:
        return Look()
    found = {} if room_bytes is None else packages_of(tx.db, fitting(lines, room_bytes))
    digests = {line.item: line.digest for line in lines}
    packages, files = {}, {}
    for item, (data, file) in found.items():
        if data is None:
            files[item] = file or ""
        elif hashlib.sha256(data).hexdigest() == digests[item]:
            packages[item] = data
    fetched(tx, [*packages], tx.stamp)
    return Look(LaidOut(lines, packages, files, frozenset(found.keys() - packages.keys() - files.keys())))


def packages_of(db: sqlite3.Connection, items: Sequence[int]) -> dict[int, tuple[bytes | None, str | None]]:
    """(data, file) of the packages behind these items; one whose content was removed is not among them."""
    cursor = db.execute(
        f"SELECT m.item,b.data,b.file FROM mailbox m JOIN {_PACKAGE} WHERE m.item IN ({_marks(items)})", (*items,)
    )
    return {item: (None if data is None else bytes(data), file) for item, data, file in cursor}


def count(db: sqlite3.Connection, organs: Sequence[str], kind: str) -> int:
    (number,) = db.execute(
        f"SELECT count(*) FROM mailbox m WHERE m.organ IN ({_marks(organs)}) AND m.kind=? AND {_OPEN}",
        (*organs, kind),
    ).fetchone()
    return int(number)


def items_of(db: sqlite3.Connection, organs: Sequence[str], *doc_ids: str) -> list[BoxItem]:
    """Every item under these doc_ids that these organs may see, open ones first, those that ended without them last."""
    cursor = db.execute(
        f"{_ITEM} WHERE m.doc_id IN ({_marks(doc_ids)}) AND m.organ IN ({_marks(organs)}) ORDER BY CASE m.state WHEN 'held' THEN 1 WHEN 'done' THEN 2 WHEN 'ended' THEN 3 ELSE 0 END, m.item",
        (*doc_ids, *organs),
    )
    return [_box_item(row) for row in cursor]


def _box_item(row: tuple[Any, ...]) -> BoxItem:
    item, header, organ, recipients, doc_id, state, fetched_ms, early, fails = row
    codes = tuple(OrgId.canonical(code) for code in json.loads(recipients))
    return BoxItem(
        item,
        decode_header(bytes(header)),
        OrgId.canonical(organ),
        codes,
        doc_id,
        state,
        fetched_ms is not None,
        bool(early),
        fails,
    )


def body_of(db: sqlite3.Connection, item: int) -> tuple[str, int, bytes | None, str | None] | None:
    """(digest, size, data, file) of the package behind a mailbox item; None when its content was already removed."""
    row = db.execute(
        "SELECT b.digest,b.size,b.data,b.file FROM mailbox m JOIN envelope_body e ON e.envelope=m.envelope JOIN body b ON b.seq=e.body"
        " WHERE m.item=? LIMIT 1",
        (item,),
    ).fetchone()
    return (row[0], row[1], None if row[2] is None else bytes(row[2]), row[3]) if row else None


def fetched(tx: Transaction, items: Sequence[int], stamp: Stamp) -> frozenset[int]:
    """The office begins to read these packages; only the first time is an event. Returns those it may read: of another the
    delivery has ended without it, and the sender was told so."""
    found = tx.db.execute(
        "SELECT m.item,e.id,m.organ,m.fetched_ms FROM json_each(?) k CROSS JOIN mailbox m ON m.item=k.value JOIN envelope e ON e.seq=m.envelope"
        " WHERE m.state<>'ended'",
        (json.dumps(items),),
    ).fetchall()
    first = [row for row in found if row[3] is None]
    tx.db.executemany("UPDATE mailbox SET fetched_ms=?1,updated_ms=?1 WHERE item=?2", [(stamp.at_ms, item) for item, *_ in first])
    for _, id_, organ, _ in first:
        tx.journal(stamp, "fetched", envelope=id_, recipient=organ)
    return frozenset(row[0] for row in found)


def _same(recipients: str, home: Homeward) -> None:
    """One more addressed code may have joined the item since home was made: then nothing changes, and the caller reads again."""
    if home.ends and {str(end_of.recipient) for end_of in home.ends} != set(json.loads(recipients)):
        raise Deferred(0)


def collect(tx: Transaction, item: int, home: Homeward, stamp: Stamp) -> None:
    """The office confirms: the delivery ends well. A second confirmation changes nothing."""
    if seqs := _end_well(tx, [(item, home)], stamp):
        rows.send_home(tx, home, stamp)
        rows.close_if_done(tx, seqs, stamp)


def _end_well(tx: Transaction, items: Sequence[tuple[int, Homeward]], stamp: Stamp) -> list[int]:
    """The items are done; nobody is told yet. Returns their envelopes, without those that were done or ended before."""
    homes = dict(items)
    found = tx.db.execute(
        "SELECT m.item,m.envelope,m.recipients,m.state,e.header,m.organ,EXISTS (SELECT 1 FROM mailbox p WHERE p.envelope=m.envelope"
        " AND p.organ=m.organ AND p.state='done'),m.answered_ms FROM json_each(?) k CROSS JOIN mailbox m ON m.item=k.value"
        " JOIN envelope e ON e.seq=m.envelope WHERE m.state NOT IN ('done','ended')",
        (json.dumps([*homes]),),
    ).fetchall()
    done: dict[tuple[int, str], None] = {}
    for item, seq, recipients, state, header_bytes, organ, again, answered_ms in found:
        _same(recipients, homes[item])
        tx.boxed(0 if state == "held" else -1)
        # One document for this office, whatever the number of codes it was addressed to.
        first = not (again or (seq, organ) in done)
        _note_collected(tx, decode_header(bytes(header_bytes)), organ, json.loads(recipients), first, answered_ms, stamp)
        done[seq, organ] = None
    tx.db.executemany("UPDATE mailbox SET state='done',updated_ms=? WHERE item=?", [(stamp.at_ms, row[0]) for row in found])
    return [row[1] for row in found]


def _note_collected(
    tx: Transaction, header: Header, organ: str, codes: Sequence[str], first: bool, answered_ms: int | None, stamp: Stamp
) -> None:
    event = "status-collected" if header.kind == KIND_STATUS else "collected"
    for place, code in enumerate(codes):
        tx.journal(stamp, "collected", envelope=header.id, recipient=code)
        facts = rows.Facts(first and not place, organ, header.created_ms)
        rows.ledger(tx, stamp, event, header, code, str(header.sender), "", facts)
        if facts.document and answered_ms is not None:  # it has said so before
            facts = rows.Facts(True, organ, stamp.at_ms)
            rows.ledger(tx, stamp, "acknowledged", header, code, str(header.sender), "", facts)


def collect_many(tx: Transaction, groups: Sequence[Confirmed], stamp: Stamp) -> list[bool]:
    """Each group under a savepoint of its own. False: one of it could not be collected, and nothing of the group was changed."""
    found = [attempt(tx, partial(_collect_group, group=group, stamp=stamp)) for group in groups]
    return [each.error is None for each in found]


def _collect_group(tx: Transaction, group: Confirmed, stamp: Stamp) -> None:
    if group.notice is None:
        for item, home in group.items:
            collect(tx, item, home, stamp)
        return
    seqs = _end_well(tx, group.items, stamp)
    if len(seqs) < len(group.items):
        raise Deferred(0)  # the notice would tell of an end a second time
    rows.put_local(tx, group.notice, stamp)
    rows.close_if_done(tx, seqs, stamp)


def set_word(tx: Transaction, item: int, word: str, stamp: Stamp) -> None:
    """`processing`, or `done` before the first fetch: remembered, the item stays listed until fetched once."""
    if word == "done":
        tx.db.execute("UPDATE mailbox SET done_early=1,updated_ms=? WHERE item=?", (stamp.at_ms, item))
    else:
        tx.db.execute(
            "UPDATE mailbox SET state='processing',updated_ms=? WHERE item=? AND state IN ('initial','fail')", (stamp.at_ms, item)
        )


def fail(tx: Transaction, item: int, fails_max: int, reason: str, stamp: Stamp) -> bool:
    """The office could not read it: listed again, held for a person after fails_max times. Returns whether it is held now."""
    row = tx.db.execute(
        "SELECT m.fails,e.id,m.organ,m.state FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.item=?", (item,)
    ).fetchone()
    if row is None or row[3] in ("done", "ended", "held"):
        return False
    fails, id_, organ, _state = row
    held: bool = fails + 1 >= fails_max
    tx.boxed(-int(held))
    tx.db.execute(
        "UPDATE mailbox SET state=?,fails=fails+1,updated_ms=? WHERE item=?", ("held" if held else "fail", stamp.at_ms, item)
    )
    tx.journal(stamp, "held" if held else "failed", envelope=id_, recipient=organ, reason=reason, detail=f"fails={fails + 1}")
    return held


def end(tx: Transaction, item: int, home: Homeward, stamp: Stamp) -> None:
    """An item leaves the mailbox without having been collected: expired, or dropped by a person."""
    row = tx.db.execute(
        "SELECT m.envelope,m.recipients,m.state,e.header FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.item=?",
        (item,),
    ).fetchone()
    if row is None or row[2] in ("done", "ended"):
        return
    seq, recipients, state, header_bytes = row
    header = decode_header(bytes(header_bytes))
    _same(recipients, home)
    tx.boxed(0 if state == "held" else -1)
    tx.db.execute("UPDATE mailbox SET state='ended',updated_ms=? WHERE item=?", (stamp.at_ms, item))
    reason = home.end.reason.value if home.end.reason is not None else ""
    for code in json.loads(recipients):
        tx.journal(stamp, home.end.state.value, envelope=header.id, recipient=code, reason=reason)
        rows.ledger(tx, stamp, home.end.state.value, header, code, str(header.sender), reason, rows.office_of(header, code))
    rows.send_home(tx, home, stamp)
    rows.close_if_done(tx, [seq], stamp)


def still_unfetched(tx: Transaction, item: int) -> bool:
    row = tx.db.execute(
        "SELECT 1 FROM mailbox m WHERE m.item=? AND m.fetched_ms IS NULL AND m.state IN ('initial','processing','fail')", (item,)
    ).fetchone()
    return row is not None


def sent(db: sqlite3.Connection, system: str, status: bool, doc_id: str | None, limit: int, describe: Describe) -> list[SentLine]:
    """One line per receiver of what this system has sent, newest package first."""
    where = "s.system=? AND s.kind=?"
    values: list[object] = [system, KIND_STATUS if status else KIND_DOCUMENT]
    if doc_id is not None:
        where += " AND s.doc_id=?"
        values.append(doc_id)
    cursor = db.execute(
        "SELECT s.doc_id,d.receiver_doc_id,s.sender,d.recipient,d.written,s.title,s.notation,s.message_type,s.taken_ms,d.collected_ms,"
        "d.state,d.office_status,d.office_text,d.reason,d.successor FROM submission s JOIN delivery d ON d.envelope=s.envelope"
        f" WHERE {where} ORDER BY s.taken_ms DESC, s.envelope DESC, d.recipient LIMIT ?",
        (*values, limit),
    )
    lines = []
    for row in cursor:
        (line_doc, receiver_doc, sender, recipient, written, title, notation, message_type, sent_ms, collected_ms) = row[:10]
        state, office, office_text, reason, successor = row[10:]
        text = describe(state, reason, written, successor)
        code = written if recipient.startswith("?") else recipient
        lines.append(
            SentLine(
                line_doc,
                receiver_doc,
                sender,
                code,
                title,
                notation,
                message_type,
                sent_ms,
                collected_ms,
                state,
                text,
                office,
                office_text,
            )
        )
    return lines


def owns_sent(db: sqlite3.Connection, system: str, doc_id: str) -> bool:
    return db.execute("SELECT 1 FROM submission WHERE system=? AND doc_id=?", (system, doc_id)).fetchone() is not None


def submission_of(db: sqlite3.Connection, origin: str, id_: str) -> SubmissionInfo | None:
    row = db.execute(
        "SELECT doc_id,system,sender,sender_text,sender_name,document_id,notation,date,kind FROM submission WHERE origin=? AND id=?",
        (origin, id_),
    ).fetchone()
    if row is None:
        return None
    doc_id, system, sender, sender_text, sender_name, document_id, notation, date, kind = row
    return SubmissionInfo(doc_id, system, OrgId.canonical(sender), sender_text, sender_name, document_id, notation, date, kind)


def request_agency(tx: Transaction, system: str, action: str, fields: Mapping[str, str], stamp: Stamp) -> int:
    """Keep a request to register or delete an organ until an operator has looked at it."""
    cursor = tx.db.execute(
        "INSERT INTO agency_request (system,action,fields,state,at_ms) VALUES (?,?,?,'held',?)",
        (system, action, json.dumps(dict(fields), ensure_ascii=False), stamp.at_ms),
    )
    assert cursor.lastrowid is not None
    tx.journal(stamp, "agency-request", neighbour=system, detail=f"{action} item={cursor.lastrowid}")
    return cursor.lastrowid

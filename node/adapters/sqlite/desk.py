"""What an operator asks and does: the queue, held items, the trace of a document, and the figures of `truc status`.

Queries are run by a reader; `act_*` functions only inside the writer.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from node.adapters.sqlite import road, rows
from node.adapters.sqlite.chain import act
from node.adapters.sqlite.writer import FILES, MAILBOX, Depths, Stamp, Transaction, laid_before, towards
from node.core.audit import Act
from node.core.custody import FIRST, NEIGHBOUR_GONE, Cursor, Listing
from node.core.envelope import Lane
from node.core.lifecycle import Transport

NAMED_MAX = 20
"""Items that the journal names of one act; it says of how many."""
POSTPONED_MAX = 200
"""Of the rows of a lane that are not due yet, so many are looked at for the eldest."""
_ROW = (
    "SELECT o.item,e.id AS envelope,e.doc_id,e.document_id,e.sender,o.recipient,o.neighbour,o.lane,e.priority,e.kind,o.state,o.attempts,"
    "CASE o.due_ms WHEN 0 THEN o.since_ms ELSE o.due_ms END AS due_ms,o.since_ms,o.reason,o.in_doubt FROM outbox o JOIN envelope e ON e.seq=o.envelope"
)


def _dicts(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _queue_row(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "lane": Lane(row["lane"]).name.lower(), "in_doubt": bool(row["in_doubt"])}


_OF_LANE = "FROM outbox WHERE neighbour=?1 AND lane=?2 AND state<>'held' AND (?6 IS NULL OR state=?6)"
_PLACES = (
    f"SELECT item,item {_OF_LANE} AND due_ms=0 AND item>?4 ORDER BY item LIMIT ?5",
    f"SELECT due_ms,item {_OF_LANE} AND due_ms>0 AND (due_ms,item)>(?3,?4) ORDER BY due_ms,item LIMIT ?5",
    "SELECT item,item FROM outbox WHERE state='held' AND (?1 IS NULL OR +neighbour=?1) AND +lane=?2 AND item>?4 AND (?6 IS NULL OR ?6='held')"
    " ORDER BY item LIMIT ?5",
)
"""Of one neighbour and lane: what may go, what had to wait (what is due first stands first), what is held (there also of all)."""


def queue(db: sqlite3.Connection, neighbour: str | None, state: str | None, after: Cursor, limit: int) -> Listing:
    """A page of the outbox, the urgent first, and where the next one begins. # QĐ 28/2018 Điều 6.2"""
    codes = _neighbours(db) if neighbour is None else [neighbour]
    found: list[Cursor] = []
    for lane in Lane:
        for place, statement in enumerate(_PLACES):
            if (lane, place) < after[:2] or len(found) == limit:
                continue
            begin = after[2:] if (lane, place) == after[:2] else FIRST[2:]
            more: list[Cursor] = []
            for code in codes if place < 2 else [neighbour]:
                rows = db.execute(statement, (code, int(lane), *begin, limit - len(found), state))
                more += ((int(lane), place, key, item) for key, item in rows)
            found += sorted(more)[: limit - len(found)]
    rows_by_item = {
        row["item"]: _queue_row(row)
        for row in _dicts(
            db.execute(f"{_ROW} WHERE o.item IN (SELECT value FROM json_each(?))", (json.dumps([each[3] for each in found]),))
        )
    }
    return [rows_by_item[each[3]] for each in found], found[-1] if len(found) == limit else None


def _neighbours(db: sqlite3.Connection) -> list[str]:
    """All for whom something waits that is not held; from one to the next, by index."""
    found: set[str] = set()
    for when in ("due_ms=0", "due_ms>0"):
        waiting = f"FROM outbox WHERE state<>'held' AND {when}"
        found.update(
            code
            for (code,) in db.execute(
                f"WITH RECURSIVE each(code) AS (SELECT min(neighbour) {waiting} UNION ALL"
                f" SELECT (SELECT min(neighbour) {waiting} AND neighbour>each.code) FROM each WHERE each.code IS NOT NULL)"
                " SELECT code FROM each WHERE code IS NOT NULL"
            )
        )
    return sorted(found)


def queue_item(db: sqlite3.Connection, item: int) -> dict[str, Any] | None:
    found = _dicts(db.execute(f"{_ROW} WHERE o.item=?", (item,)))
    if not found:
        return None
    bodies = _dicts(
        db.execute(
            "SELECT b.digest,b.size FROM outbox o JOIN envelope_body e ON e.envelope=o.envelope JOIN body b ON b.seq=e.body"
            " WHERE o.item=?",
            (item,),
        )
    )
    (hops,) = db.execute(
        "SELECT coalesce(o.hops,e.hops) FROM outbox o JOIN envelope e ON e.seq=o.envelope WHERE o.item=?", (item,)
    ).fetchone()
    passed = [{"node": code, "at_ms": at_ms, "bound_ms": bound_ms} for code, at_ms, bound_ms in json.loads(hops)]
    return {**_queue_row(found[0]), "size_bytes": sum(body["size"] for body in bodies), "bodies": bodies, "hops": passed}


def chosen(db: sqlite3.Connection, items: Sequence[int], neighbour: str | None, states: Sequence[str]) -> list[int]:
    """Item numbers an act speaks of: the listed ones, or all of a neighbour; only those in one of the states."""
    marks = ",".join("?" * len(states))
    if neighbour is not None:
        arms = (
            "+neighbour=? AND state='held'",
            "neighbour=? AND state<>'held' AND due_ms=0",
            "neighbour=? AND state<>'held' AND due_ms>0",
        )
        where = [f"SELECT item FROM outbox WHERE {arm} AND +state IN ({marks})" for arm in arms]
        return [item for each in where for (item,) in db.execute(each, (neighbour, *states))]
    found = []
    for item in items:
        if db.execute(f"SELECT 1 FROM outbox WHERE item=? AND state IN ({marks})", (item, *states)).fetchone():
            found.append(item)
    return found


def act_queue(tx: Transaction, action: str, items: Sequence[int], neighbour: str | None, who: str, why: str, stamp: Stamp) -> int:
    """retry: due at once. hold: aside for a person. release: back in the queue. Returns how many rows changed."""
    states = {"retry": ("waiting", "body"), "hold": ("waiting", "body"), "release": ("held",)}[action]
    numbers = chosen(tx.db, items, neighbour, states)
    for item in numbers:
        if action == "hold":
            road.hold(tx, item, f"operator: {why}" if why else "operator", stamp)
        else:
            _due_now(tx, item, stamp)
    if numbers:
        subject = f"→ {neighbour or 'hub'}" if neighbour is not None else " ".join(f"out-{item}" for item in numbers[:NAMED_MAX])
        became = {"retry": "due", "hold": "held", "release": "waiting"}[action]
        before = {"state": "held" if action == "release" else "waiting", "items": len(numbers)}
        act(tx, stamp, Act(f"queue.{action}", subject, who, why, before, {**before, "state": became}))
    return len(numbers)


def _due_now(tx: Transaction, item: int, stamp: Stamp) -> None:
    row = tx.db.execute(
        "SELECT o.envelope,o.recipient,o.state,e.id,o.neighbour,o.lane FROM outbox o JOIN envelope e ON e.seq=o.envelope WHERE o.item=?",
        (item,),
    ).fetchone()
    tx.db.execute(
        # Nobody will ever answer for a neighbour that is gone: the person who releases it answers.
        "UPDATE outbox SET state='waiting',due_ms=0,attempts=0,chokes=0,in_doubt=in_doubt AND reason<>?,reason='' WHERE item=?",
        (NEIGHBOUR_GONE, item),
    )
    tx.fed.add(towards(row[4]))
    if row[2] == "held":
        tx.queued(row[4], row[5])
        tx.journal(stamp, "released", envelope=row[3], recipient=row[1])
        rows.move_deliveries(tx, [(row[0], row[1])], Transport.QUEUED, stamp, "")


_HELD = (
    "SELECT 'out-'||o.item AS item,e.id AS envelope,e.doc_id,e.sender,o.recipient,o.reason,'' AS text,o.since_ms,o.attempts,e.priority"
    " FROM outbox o JOIN envelope e ON e.seq=o.envelope WHERE o.state='held' AND +o.lane=?1 AND o.item>?2 ORDER BY o.item LIMIT ?3",
    "SELECT 'box-'||m.item AS item,e.id AS envelope,m.doc_id,e.sender,m.organ AS recipient,'office-fail' AS reason,'' AS text,m.since_ms,"
    "m.fails AS attempts,e.priority FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.state='held' AND +m.lane=?1 AND m.item>?2"
    " ORDER BY m.item LIMIT ?3",
    "SELECT 'agency-'||item AS item,'' AS envelope,'' AS doc_id,system AS sender,'' AS recipient,action AS reason,fields AS text,"
    "at_ms AS since_ms,0 AS attempts,0 AS priority FROM agency_request WHERE state='held' AND ?1=4 AND item>?2 ORDER BY item LIMIT ?3",
)


def held(db: sqlite3.Connection, after: Cursor, limit: int) -> Listing:
    """A page of all that waits for a person: outbox rows (out-N), mailbox items (box-N), requests of office systems (agency-N); the
    urgent first, and where the next page begins. # QĐ 28/2018 Điều 6.2"""
    found: list[dict[str, Any]] = []
    last = FIRST
    for lane in Lane:
        for place, statement in enumerate(_HELD):
            if (lane, place) < after[:2] or len(found) == limit:
                continue
            begin = after[3] if (lane, place) == after[:2] else -1
            more = _dicts(db.execute(statement, (int(lane), begin, limit - len(found))))
            if more:
                found += more
                last = (int(lane), place, 0, int(more[-1]["item"].rpartition("-")[2]))
    return found, last if len(found) == limit else None


def held_count(db: sqlite3.Connection) -> int:
    (number,) = db.execute(
        "SELECT (SELECT count(*) FROM outbox WHERE state='held')+(SELECT count(*) FROM mailbox WHERE state='held')"
        "+(SELECT count(*) FROM agency_request WHERE state='held')"
    ).fetchone()
    return int(number)


def header_of_out(db: sqlite3.Connection, item: int) -> tuple[bytes, str] | None:
    """(header, recipient) of a held outbox row."""
    row = db.execute(
        "SELECT e.header,o.recipient FROM outbox o JOIN envelope e ON e.seq=o.envelope WHERE o.item=? AND o.state='held'", (item,)
    ).fetchone()
    return (bytes(row[0]), row[1]) if row else None


def header_of_box(db: sqlite3.Connection, item: int) -> tuple[bytes, tuple[str, ...]] | None:
    """(header, addressed codes) of a held mailbox item."""
    row = db.execute(
        "SELECT e.header,m.recipients FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.item=? AND m.state='held'",
        (item,),
    ).fetchone()
    return (bytes(row[0]), tuple(json.loads(row[1]))) if row else None


def release_box(tx: Transaction, item: int, who: str, why: str, stamp: Stamp) -> bool:
    row = tx.db.execute("SELECT organ FROM mailbox WHERE item=? AND state='held'", (item,)).fetchone()
    if row is not None:
        tx.boxed()
        tx.db.execute("UPDATE mailbox SET state='initial',fails=0,updated_ms=? WHERE item=?", (stamp.at_ms, item))
        act(tx, stamp, Act("held.release", f"box-{item}", who, why, "held", "initial"))
        tx.fed.add(laid_before(row[0]))
    return row is not None


def decide_agency(tx: Transaction, item: int, state: str, who: str, why: str, stamp: Stamp) -> bool:
    changed = tx.db.execute("UPDATE agency_request SET state=? WHERE item=? AND state='held'", (state, item)).rowcount
    if changed:
        act(tx, stamp, Act(f"agency.{state}", f"agency-{item}", who, why, "held", state))
    return changed > 0


def _each(name: str, column: str, table: str) -> str:
    """A common table of every value of a column, one step in an index each."""
    return (
        f"{name}(code) AS (SELECT min({column}) FROM {table} UNION ALL"
        f" SELECT (SELECT min({column}) FROM {table} WHERE {column}>{name}.code) FROM {name} WHERE {name}.code IS NOT NULL)"
    )


def trace(db: sqlite3.Connection, key: str, limit: int) -> list[dict[str, Any]]:
    """Everything the journal holds of a document, by docId, envelope id or DocumentId, in order."""
    if not key:
        return []  # many have no DocumentId: they are not all one document
    cursor = db.execute(
        f"WITH RECURSIVE {_each('origins', 'origin', 'envelope')}, {_each('makers', 'origin', 'submission')},"
        f" {_each('senders', 'sender', 'submission')},"
        " ids(id,doc_id) AS (SELECT id,doc_id FROM envelope WHERE doc_id=?1 OR document_id=?1"
        " UNION SELECT e.id,e.doc_id FROM origins CROSS JOIN envelope e WHERE e.origin=origins.code AND e.id=?1"
        " UNION SELECT id,doc_id FROM submission WHERE doc_id=?1"
        " UNION SELECT s.id,s.doc_id FROM makers CROSS JOIN submission s WHERE s.origin=makers.code AND s.id=?1"
        " UNION SELECT s.id,s.doc_id FROM senders CROSS JOIN submission s WHERE s.sender=senders.code AND s.document_id=?1"
        " UNION SELECT e.id,m.doc_id FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.doc_id=?1"
        " UNION SELECT envelope,'' FROM journal WHERE envelope=?1)"
        " SELECT j.seq,j.at_ms,j.event,j.envelope,(SELECT max(doc_id) FROM ids WHERE id=j.envelope) AS doc_id,j.recipient,j.neighbour,"
        "j.reason,j.detail FROM journal j WHERE j.envelope IN (SELECT id FROM ids) ORDER BY j.seq LIMIT ?2",
        (key, limit),
    )
    return _dicts(cursor)


def counted(db: sqlite3.Connection) -> Depths:
    """All that waits, counted one by one: once, when the database is opened."""
    found: Depths = Counter()
    waiting = "SELECT neighbour,lane,count(*) FROM outbox WHERE state<>'held' AND {} GROUP BY neighbour,lane"
    for neighbour, lane, number in db.execute(f"{waiting.format('due_ms=0')} UNION ALL {waiting.format('due_ms>0')}"):
        found[neighbour, lane] += number
    (found[MAILBOX],) = db.execute("SELECT count(*) FROM mailbox m WHERE m.state IN ('initial','processing','fail')").fetchone()
    (found[FILES],) = db.execute("SELECT coalesce(sum(size),0) FROM body WHERE file IS NOT NULL").fetchone()
    return found


def depths(db: sqlite3.Connection, now_ms: int, waiting: Depths) -> dict[str, Any]:
    """Figures for status and metrics: outbox depth and oldest age per (neighbour, lane), mailbox depth, held, unmatched. waiting:
    what was counted. The eldest of a lane is the first row that may go, or among the postponed that are due next."""
    lane_of_one = "SELECT since_ms FROM outbox WHERE neighbour=?1 AND lane=?2 AND state<>'held'"
    eldest = (
        f"SELECT coalesce(min(since_ms),?3) FROM (SELECT * FROM ({lane_of_one} AND due_ms=0 ORDER BY item LIMIT 1)"
        f" UNION ALL SELECT * FROM ({lane_of_one} AND due_ms>0 ORDER BY due_ms LIMIT {POSTPONED_MAX}))"
    )
    outbox = [
        {
            "neighbour": neighbour,
            "lane": Lane(lane).name.lower(),
            "depth": number,
            "oldest_s": max(0.0, (now_ms - since_ms) / 1000),
        }
        for (neighbour, lane), number in sorted(waiting.items())
        if number and lane >= 0
        for (since_ms,) in db.execute(eldest, (neighbour, lane, now_ms)).fetchall()
    ]
    (unmatched,) = db.execute(
        "SELECT count(*) FROM mailbox m WHERE m.flag='unmatched' AND m.flag<>'' AND m.state IN ('initial','processing','fail')"
    ).fetchone()
    return {
        "outbox": outbox,
        "mailbox": waiting[MAILBOX],
        "held": held_count(db),
        "unmatched": unmatched,
        "file_bytes": waiting[FILES],
    }


def meta(db: sqlite3.Connection) -> Mapping[str, str]:
    return dict(db.execute("SELECT key,value FROM meta").fetchall())

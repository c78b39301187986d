"""The journal as a chain: walking it, its tail, the heads that were signed for it, and the acts of persons in it.

Queries are run by a reader; what changes rows only inside the writer.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from node.adapters.sqlite import rows
from node.adapters.sqlite.writer import Stamp, Transaction, chained, noted_tail
from node.core.audit import Act, Broken, Fault, KeptHead, Place, read_head

_ROWS = "SELECT seq,at_ms,bound_ms,event,envelope,recipient,neighbour,reason,detail,hash FROM journal"
HEADS_KEPT_MS = 400 * 86_400_000
"""How long a head is kept: more than a year."""
SAME_ACT_ROWS = 1_000
"""Among so many acts an act that was written down beside the journal is looked for before it is taken in."""


def walk(db: sqlite3.Connection, after: Place, limit: int) -> tuple[Place, Broken | None]:
    """Follow the chain from a place over so many rows at most; returns how far it holds, and what breaks it. A row that is not
    there is named by the number it had."""
    here = after
    for row in db.execute(f"{_ROWS} WHERE seq>? ORDER BY seq LIMIT ?", (after.seq, limit)):
        if row[0] != here.seq + 1:
            return here, Broken(here.seq + 1, Fault.MISSING)
        if chained(here.hash, tuple(row[:9])) != bytes(row[9]):
            return here, Broken(row[0], Fault.ALTERED)
        here = Place(row[0], bytes(row[9]))
    return here, None


def tail(db: sqlite3.Connection) -> Place:
    """Where the journal ended with the last commit, as the writer noted it."""
    noted = noted_tail(db)
    if noted is not None:
        return Place(*noted)
    # of an older version, or a database that has not had a row yet
    last = db.execute("SELECT seq,hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    return Place(last[0], bytes(last[1])) if last else Place()


def stands(db: sqlite3.Connection, place: Place) -> Broken | None:
    """Whether the journal still has this row."""
    row = db.execute("SELECT hash FROM journal WHERE seq=?", (place.seq,)).fetchone()
    if row is None:
        (last,) = db.execute("SELECT coalesce(max(seq),0) FROM journal WHERE seq<?", (place.seq,)).fetchone()
        return Broken(last + 1, Fault.MISSING)
    return None if bytes(row[0]) == place.hash else Broken(place.seq, Fault.HEAD)


def heads(db: sqlite3.Connection, node: str) -> list[KeptHead]:
    """Of this node, the newest first."""
    cursor = db.execute(
        "SELECT statement,signature,told_ms FROM journal_head WHERE node=? ORDER BY epoch DESC, seq DESC", (node,)
    )
    return [KeptHead(bytes(statement), bytes(signature), told_ms) for statement, signature, told_ms in cursor]


def keep_head(tx: Transaction, node: str, head: KeptHead, chain: bytes) -> None:
    """With all of the same node that are not too old, however many there are: none can be pushed out by newer ones. Of those
    nobody was told of, only the last. chain: of its key."""
    said = read_head(head.statement)
    rows.put_chain(tx, said.key, chain)
    tx.db.execute("DELETE FROM journal_head WHERE node=? AND told_ms=0 AND (epoch,seq)<(?,?)", (node, said.epoch, said.seq))
    tx.db.execute(
        "INSERT OR REPLACE INTO journal_head VALUES (?,?,?,?,?,?)",
        (node, said.epoch, said.seq, head.statement, head.signature, head.told_ms),
    )
    tx.db.execute("DELETE FROM journal_head WHERE node=? AND told_ms BETWEEN 1 AND ?", (node, head.told_ms - HEADS_KEPT_MS))


def take_head(tx: Transaction, stamp: Stamp, node: str, head: KeptHead, chain: bytes) -> None:
    """Keep the head of a node below, and name it in our own journal: so our own head stands for it, too, and whoever would
    write that node's past anew has all above it against him, up to the root."""
    keep_head(tx, node, head, chain)
    said = read_head(head.statement)
    tx.journal(stamp, "head-kept", neighbour=node, detail=f"{said.epoch}.{said.seq} {said.hash}")


def act(tx: Transaction, stamp: Stamp, done: Act) -> None:
    """A person's act, in the transaction that does it where there is one."""
    tx.journal(stamp, "act", recipient=done.subject, reason=done.what, detail=done.detail())


def take_in(tx: Transaction, stamp: Stamp, acts: Sequence[Act]) -> None:
    """Acts that were written down while the node did not run; each once."""
    cursor = tx.db.execute("SELECT detail FROM journal WHERE event='act' ORDER BY seq DESC LIMIT ?", (SAME_ACT_ROWS,))
    known = {json.loads(detail).get("id") for (detail,) in cursor}
    for each in acts:
        if each.id not in known:
            act(tx, stamp, each)


def acts(db: sqlite3.Connection, before: int | None, limit: int) -> list[dict[str, Any]]:
    """The newest acts, or the newest before a row, in the order in which they were done."""
    cursor = db.execute(
        "SELECT seq,at_ms,reason,recipient,detail FROM journal WHERE event='act' AND seq<? ORDER BY seq DESC LIMIT ?",
        (before or 1 << 62, limit),
    )
    found = [
        {"seq": seq, "at_ms": at_ms, "what": what, "subject": subject, **json.loads(detail)}
        for seq, at_ms, what, subject, detail in cursor
    ]
    return found[::-1]


def settings(tx: Transaction, stamp: Stamp, values: Mapping[str, Any], user: str) -> None:
    """What this start's configuration has that the last one's had not, as an act of whoever runs the node."""
    row = tx.db.execute("SELECT value FROM meta WHERE key='config'").fetchone()
    before: dict[str, Any] = json.loads(row[0]) if row else {}
    changed = [key for key in sorted({*before, *values}) if before.get(key) != values.get(key)]
    if not changed:
        return
    tx.db.execute(
        "INSERT INTO meta VALUES ('config',?) ON CONFLICT DO UPDATE SET value=excluded.value", (json.dumps(dict(values)),)
    )
    then = {key: before[key] for key in changed if key in before}
    now = {key: values[key] for key in changed if key in values}
    act(tx, stamp, Act("config.change", "node.toml", user, "", then or None, now))

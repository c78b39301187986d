"""Transactions of the housekeeper: retention, references of bodies, forgetting of old keys; and the journal's own check.

Called only inside the writer, but for `verify_chain`, which a reader runs.
"""

from __future__ import annotations

import sqlite3

from node.adapters.sqlite.writer import Stamp, Transaction, chained

VOUCHED_ROWS = 1_000
LOOSE_MS = 86_400_000
"""How long a body that came by itself may wait for the envelope that names it."""


def forget(
    tx: Transaction, stamp: Stamp, *, handed_over_ms: int, collected_ms: int, sent_ms: int, evidence_ms: int, limit: int
) -> tuple[list[str], int]:
    """Remove what is past its retention: ended envelopes, then bodies nobody names. Returns (files to unlink, rows removed).

    The arguments are how long (ms) to keep what was handed over, what an office here has collected, what an office here has
    sent, and what proves it: receipts and notices.
    """
    db = tx.db
    now = stamp.at_ms
    gone = db.execute(
        "SELECT seq FROM envelope WHERE boxed=0 AND ended_ms IS NOT NULL AND ended_ms<? UNION ALL"
        " SELECT seq FROM envelope WHERE boxed=1 AND ended_ms IS NOT NULL AND ended_ms<? LIMIT ?",
        (now - handed_over_ms, now - max(handed_over_ms, collected_ms), limit),
    ).fetchall()
    for (seq,) in gone:
        db.execute("INSERT OR IGNORE INTO loose SELECT body,0 FROM envelope_body WHERE envelope=?", (seq,))
        db.execute("DELETE FROM mailbox WHERE envelope=?", (seq,))
        db.execute(
            "INSERT OR IGNORE INTO sealed SELECT seq,header,signature FROM envelope WHERE seq=?1"
            " AND EXISTS (SELECT 1 FROM submission WHERE envelope=?1)",
            (seq,),
        )
        db.execute("DELETE FROM envelope WHERE seq=?", (seq,))
    old = db.execute(
        "SELECT s.envelope FROM submission s WHERE s.taken_ms<? AND NOT EXISTS (SELECT 1 FROM envelope e WHERE e.seq=s.envelope)"
        " AND (s.kind='status' OR NOT EXISTS (SELECT 1 FROM delivery d WHERE d.envelope=s.envelope"
        " AND d.state IN ('queued','moving','in-mailbox','held'))) LIMIT ?",
        (now - sent_ms, limit),
    ).fetchall()
    db.executemany("DELETE FROM submission WHERE envelope=?", old)
    db.executemany("DELETE FROM sealed WHERE envelope=?", old)
    forgotten = db.execute(
        "DELETE FROM seen WHERE (origin,id,recipient) IN (SELECT origin,id,recipient FROM seen WHERE until_ms>0 AND until_ms<? LIMIT ?)",
        (now, limit),
    ).rowcount
    proofs = sum(
        db.execute(
            f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} WHERE at_ms<? LIMIT ?)", (now - evidence_ms, limit)
        ).rowcount
        for table in ("receipt", "notice")
    )
    freed, files = unreferenced(tx, now - LOOSE_MS, limit)
    return files, len(gone) + len(old) + forgotten + proofs + freed


def unreferenced(tx: Transaction, before_ms: int, limit: int) -> tuple[int, list[str]]:
    """Delete bodies that no envelope names and that nobody has brought since before_ms; returns how many were looked at, and the
    files of those deleted. Only the writer may decide this: an admission either came before and names the body, or comes after
    and finds it gone."""
    db = tx.db
    found = db.execute("SELECT body FROM loose WHERE since_ms<? LIMIT ?", (before_ms, limit)).fetchall()
    files = []
    for (number,) in found:
        db.execute("DELETE FROM loose WHERE body=?", (number,))
        if db.execute("SELECT 1 FROM envelope_body WHERE body=? LIMIT 1", (number,)).fetchone():
            continue
        for file, size in db.execute("SELECT file,size FROM body WHERE seq=? AND file IS NOT NULL", (number,)).fetchall():
            files.append(file)
            tx.filed(-size)
        db.execute("DELETE FROM body WHERE seq=?", (number,))
        db.execute("DELETE FROM body_peer WHERE body=?", (number,))
    return len(found), files


def known_files(db: sqlite3.Connection) -> set[str]:
    """Every file a row names: what start-up must not sweep away."""
    return {row[0] for row in db.execute("SELECT file FROM body WHERE file IS NOT NULL")}


def verify_chain(db: sqlite3.Connection) -> int | None:
    """Walk the journal; returns the first row whose hash does not follow from the one before it, None when all do."""
    previous = b"\0" * 32
    for row in db.execute(
        "SELECT seq,at_ms,bound_ms,event,envelope,recipient,neighbour,reason,detail,hash FROM journal ORDER BY seq"
    ):
        if chained(previous, tuple(row[:9])) != bytes(row[9]):
            return int(row[0])
        previous = bytes(row[9])
    return None


def vouched_ms(db: sqlite3.Connection) -> int:
    """The latest instant (UTC ms) that was stamped as synchronised, as far back as it is worth looking; 0: none."""
    latest = "SELECT at_ms,synchronised FROM ledger ORDER BY seq DESC LIMIT ?"
    found = db.execute(f"SELECT max(at_ms) FROM ({latest}) WHERE synchronised=1", (VOUCHED_ROWS,)).fetchone()
    return int(found[0] or 0)

"""The directory's changes as rows. Reading is a reader's, keeping the writer's: what a node calls its directory is durable first."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from node.adapters.sqlite.writer import Stamp, Transaction
from node.core.changes import Held

Row = tuple[bytes, bytes, str]
"""body, signature, key"""


def kept(db: sqlite3.Connection) -> tuple[list[Row], dict[str, bytes]]:
    """All changes, each author's in order, and the chains of their keys."""
    rows = db.execute("SELECT body,signature,key FROM directory_change ORDER BY author,epoch,number")
    chains = db.execute("SELECT key,chain FROM directory_chain")
    return [(bytes(body), bytes(signature), key) for body, signature, key in rows], {key: bytes(chain) for key, chain in chains}


def keep(tx: Transaction, changes: Sequence[Held], chains: Mapping[str, bytes], told: Mapping[str, str], stamp: Stamp) -> None:
    """Changes that are new here, with a row of the journal for each. told: who did it and why, where it was done here."""
    for each in changes:
        change = each.change
        author = str(change.author)
        tx.db.execute("DELETE FROM directory_change WHERE author=? AND epoch<?", (author, change.epoch))
        row = (author, change.epoch, change.number, each.body, each.signature, each.key)
        tx.db.execute("INSERT OR REPLACE INTO directory_change VALUES (?,?,?,?,?,?)", row)
        detail = {"author": author, "epoch": change.epoch, "number": change.number, "digest": each.digest, **told}
        tx.journal(stamp, "directory", detail=json.dumps(detail, ensure_ascii=False))
    tx.db.executemany("INSERT OR IGNORE INTO directory_chain VALUES (?,?)", _needed(changes, chains))


def _needed(changes: Iterable[Held], chains: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    keys = dict.fromkeys(each.key for each in changes)
    return [(key, chains[key]) for key in keys if key in chains]

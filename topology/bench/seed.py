"""A node's past, written at once: envelopes that wait for a neighbour and envelopes that were handed over, millions of them.

A block of each is made by the store's own transactions, in memory; the node's database gets copies of its rows under other names
and numbers, which is what the store would have left there. The node must not run meanwhile. Knows which tables a passing envelope
has rows in, and which of their columns are numbers.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.adapters.sqlite import admission, road
from node.adapters.sqlite.migrate import migrate
from node.adapters.sqlite.writer import Stamp, Transaction, chained
from node.core.custody import Arrival, Settled, Settlement, StoredBody
from node.core.envelope import BodyRef, Header, Hop, Recipient, encode_header, open_envelope
from node.core.identifier import OrgId
from node.core.package import Business, Priority
from node.core.routing import Forward

BLOCK = 10_000
BATCH = 500
"""Envelopes of one transaction of the store, as many as a neighbour presents at a time."""
BODY_BYTES = 200
SIGNATURE_BYTES = 70
LIFETIME_MS = 7 * 86_400_000
BOUND_MS = 1000
KEY, CHAIN = "5e" * 32, b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
TAG = "0100{kind:d}{number:03x}"
"""Stands in every name of a block, 8 digits: first in the ids, so that their order is the order of their making."""
TABLES = ("certificate", "envelope", "body", "envelope_body", "body_peer", "seen", "outbox", "journal")
NUMBERED = {("envelope", "seq"): "envelope", ("envelope_body", "envelope"): "envelope", ("outbox", "envelope"): "envelope"} | {
    ("outbox", "item"): "outbox",
    ("journal", "seq"): "journal",
    ("body", "seq"): "body",
    ("envelope_body", "body"): "body",
    ("body_peer", "body"): "body",
}
"""Columns that number rows, with the table whose numbers they are."""
CHAINED = {"seq": "", "at_ms": "", "bound_ms": ""} | dict.fromkeys(
    ("event", "envelope", "recipient", "neighbour", "reason", "detail"), "TEXT"
)
"""The columns that the journal's hash is over, with their types."""
CACHE_KB = 1_000_000


@dataclass(frozen=True, slots=True)
class Past:
    """What lies at a node. backlog: envelopes that wait for the neighbour `waits_for`; history: envelopes that `handed_to` has
    taken. All came from `came_from`, from one organ there; block: so many are copied at a time."""

    backlog: int
    history: int
    came_from: OrgId
    waits_for: OrgId
    handed_to: OrgId
    block: int = BLOCK


def write(path: Path, past: Past, now_ms: int) -> None:
    """Add it to the database of a node, made where there is none. now_ms: when all of it came (UTC)."""
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrate(db)
        db.execute("PRAGMA journal_mode=OFF")  # nothing here is in anybody's custody
        db.execute("PRAGMA synchronous=OFF")
        db.execute(f"PRAGMA cache_size=-{CACHE_KB}")
        db.execute("PRAGMA temp_store=MEMORY")
        with _without_indexes(db):
            for kind, count in enumerate((past.history, past.backlog)):
                _write_some(db, past, kind, count, now_ms)
            for table in (*TABLES, "used"):
                db.execute(f"DROP TABLE IF EXISTS temp.{table}")


def _write_some(db: sqlite3.Connection, past: Past, kind: int, count: int, now_ms: int) -> None:
    """kind: 0 handed over, 1 waiting. A number of whole blocks, and what is left as one more."""
    full, rest = divmod(count, past.block)
    for size, numbers in ((past.block, range(full)), (rest, range(full, full + 1))):
        if not (size and numbers):
            continue
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as sample:
            migrate(sample)
            was = TAG.format(kind=kind, number=numbers[0])
            made(sample, past, was, size, handed=not kind, now_ms=now_ms)
            _take_along(db, sample)
        for number in numbers:
            _copy(db, was, TAG.format(kind=kind, number=number))


# --- a block, by the store ----------------------------------------------------------------------------------------------------


def made(db: sqlite3.Connection, past: Past, tag: str, count: int, *, handed: bool, now_ms: int) -> None:
    """So many envelopes by the store's transactions. handed: the neighbour has taken them."""
    rng = random.Random(tag)
    neighbour = past.handed_to if handed else past.waits_for
    stamp = Stamp(now_ms, BOUND_MS, True)
    for first in range(0, count, BATCH):
        arrivals = [_arrival(past, tag, number, neighbour, rng, now_ms) for number in range(first, min(first + BATCH, count))]
        db.execute("BEGIN")
        tx = Transaction(db)
        admission.admit_each(tx, arrivals, past.came_from, stamp)
        if handed:
            items = [item for (item,) in db.execute("SELECT item FROM outbox")]
            road.offer(tx, str(neighbour), items)
            road.settle(tx, str(neighbour), [Settlement(item, Settled.TAKEN) for item in items], stamp)
        tx.flush()
        db.execute("COMMIT")


def _arrival(past: Past, tag: str, number: int, neighbour: OrgId, rng: random.Random, now_ms: int) -> Arrival:
    data = rng.randbytes(BODY_BYTES)
    digest = f"{rng.getrandbits(16):04x}{tag}{rng.getrandbits(208):052x}"  # spread over all digests, and the tag in it
    organ = OrgId.canonical(f"{neighbour}.1")
    header = Header(
        id=f"{tag}-0000-7000-8000-{number:012x}",
        origin=past.came_from,
        epoch=1,
        kind="edoc",
        sender=past.came_from,
        recipients=(Recipient(organ, str(organ)),),
        priority=Priority.NORMAL,
        created_ms=now_ms,
        bound_ms=BOUND_MS,
        expires_ms=now_ms + LIFETIME_MS,
        doc_id=f"{tag}-0000-7000-9000-{number:012x}",
        document_id=f"{past.came_from}-{tag}-{number}",
        business=Business.NEW,
        bodies=(BodyRef(digest, BODY_BYTES),),
        media="application/edxml+xml",
        key=KEY,
    )
    hops = (Hop(past.came_from, now_ms, BOUND_MS), Hop(OrgId(()), now_ms, BOUND_MS))
    envelope = open_envelope(encode_header(header), rng.randbytes(SIGNATURE_BYTES), (organ,), hops, 0)
    routes = {organ: Forward(neighbour)}
    return Arrival(envelope, routes, routes, {}, (StoredBody(digest, BODY_BYTES, data=data),), CHAIN)


# --- its copies ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _without_indexes(db: sqlite3.Connection) -> Iterator[None]:
    """Indexes are built faster over all rows at once than with each."""
    marks = ",".join("?" * len(TABLES))
    statement = f"SELECT name,sql FROM sqlite_master WHERE type='index' AND sql IS NOT NULL AND tbl_name IN ({marks})"
    indexes = db.execute(statement, TABLES).fetchall()
    for name, _ in indexes:
        db.execute(f"DROP INDEX {name}")
    yield
    for _, sql in indexes:
        db.execute(sql)


def _columns(db: sqlite3.Connection, table: str) -> Sequence[tuple[str, str]]:
    return [(name, kind) for _, name, kind, *_ in db.execute(f"PRAGMA main.table_info({table})")]


def _take_along(db: sqlite3.Connection, sample: sqlite3.Connection) -> None:
    """The sample's rows, in tables of the same names that only this connection sees; `used` says how many numbers it took."""
    db.execute("CREATE TABLE IF NOT EXISTS temp.used (name, seq)")
    db.execute("DELETE FROM temp.used")
    db.executemany("INSERT INTO temp.used VALUES (?,?)", sample.execute("SELECT name,seq FROM sqlite_sequence"))
    for table in TABLES:
        db.execute(f"DROP TABLE IF EXISTS temp.{table}")
        names = ",".join(name for name, _ in _columns(sample, table))
        db.execute(f"CREATE TEMP TABLE {table} ({names})")
        marks = ",".join("?" * (names.count(",") + 1))
        db.executemany(f"INSERT INTO temp.{table} VALUES ({marks})", sample.execute(f"SELECT {names} FROM {table}"))


def _copy(db: sqlite3.Connection, was: str, now: str) -> None:
    """The sample once more, with the tag `now` for `was`, behind what is there."""
    base = dict(db.execute("SELECT 'from_'||name,seq FROM sqlite_sequence"))
    base["from_journal"], last = db.execute("SELECT max(seq),hash FROM main.journal").fetchone()
    (base["from_body"],) = db.execute("SELECT max(seq) FROM main.body").fetchone()
    base = {name: base.get(name) or 0 for name in ("from_envelope", "from_outbox", "from_journal", "from_body")}
    head = [last or b"\0" * 32]

    def follow(*fields: Any) -> bytes:
        head[0] = chained(head[0], fields)
        return head[0]

    db.create_function("chained", 9, follow)
    db.execute("BEGIN")
    for table in TABLES:
        values = ",".join(_value(table, name, kind) for name, kind in _columns(db, table))
        again = "OR IGNORE" if table == "certificate" else ""
        names = {**base, "was": was, "now": now}
        db.execute(f"INSERT {again} INTO main.{table} SELECT {values} FROM temp.{table}", names)
    for name, number in db.execute("SELECT name,seq FROM temp.used").fetchall():  # also of rows that are gone again
        db.execute("DELETE FROM sqlite_sequence WHERE name=?", (name,))
        db.execute("INSERT INTO sqlite_sequence VALUES (?,?)", (name, base[f"from_{name}"] + number))
    db.execute("COMMIT")


def _value(table: str, name: str, kind: str) -> str:
    """What a column of a copy holds, as SQL over the sample's."""
    if counted := NUMBERED.get((table, name)):
        return f"{name}+:from_{counted}"
    if kind == "TEXT":
        return f"replace({name},:was,:now)"
    if name == "header":
        return f"CAST(replace(CAST({name} AS TEXT),:was,:now) AS BLOB)"
    if (table, name) == ("journal", "hash"):
        return f"chained({','.join(_value(table, each, kind) for each, kind in CHAINED.items())})"
    return name

"""What a question or a transaction costs does not grow with what waits, what is put off or what was handed over.

Counted in steps of SQLite's machine, which do not depend on the machine beneath.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache

import pytest

from node.adapters.sqlite import boxes, care, desk, road
from node.adapters.sqlite.migrate import migrate
from node.adapters.sqlite.store import MAKE_READY
from node.adapters.sqlite.writer import Depths, Stamp, Transaction
from node.core.custody import FIRST, Settled, Settlement
from node.core.envelope import Lane
from node.core.errors import Reason
from tests.adapters.pki import NOW_MS
from tests.making import DAY_MS, H41, H54, org
from topology.bench import seed

SILENT, BUSY = org("H40"), org("H42")
FEW, MANY = 100, 1500
STAMP = Stamp(NOW_MS, 1000, True)
WAITING = Depths({(str(SILENT), int(Lane.NORMAL)): 1, (str(BUSY), int(Lane.NORMAL)): 1})
KEEP = {"handed_over_ms": 3 * DAY_MS, "collected_ms": 30 * DAY_MS, "sent_ms": 365 * DAY_MS, "evidence_ms": 90 * DAY_MS}
BATCH = {"bytes_max": 20_000, "rows_max": 20}


def grown(number: int) -> sqlite3.Connection:
    """So many envelopes wait for one neighbour, so many are put off by another, and so many were handed over."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    for kind, (neighbour, handed) in enumerate(((SILENT, False), (BUSY, False), (H41, True))):
        past = seed.Past(0, 0, H54, neighbour, neighbour)
        tag = seed.TAG.format(kind=kind, number=0)
        seed.made(db, past, tag, number, handed=handed, now_ms=NOW_MS)
    tx = Transaction(db)
    items = [item for (item,) in db.execute("SELECT item FROM outbox WHERE neighbour=?", (str(BUSY),))]
    later = [Settlement(item, Settled.LATER, NOW_MS + 60_000, Reason.NOT_NOW) for item in items]
    road.settle(tx, str(BUSY), later, STAMP)
    tx.flush()
    return db


QUESTIONS: Mapping[str, Callable[[sqlite3.Connection, Transaction], object]] = {
    "the next batch for one that takes nothing": lambda db, tx: road.candidates(db, "H40", NOW_MS, after={}, **BATCH),
    "the next batch where all is put off": lambda db, tx: road.candidates(db, "H42", NOW_MS, after={}, **BATCH),
    "the next batch where all was put off and is due": lambda db, tx: road.candidates(
        db, "H42", NOW_MS + 60_000, after={}, **BATCH
    ),
    "when the next is due": lambda db, tx: road.next_due(db, "H42", NOW_MS),
    "rows of neighbours that are gone": lambda db, tx: road.astray(db, ["H40", "H42"], 10),
    "what has expired": lambda db, tx: road.expired(db, NOW_MS, 10),
    "a session of one that takes nothing": lambda db, tx: road.session_began(tx, "H40", 10),
    "a session of one that puts off": lambda db, tx: road.session_began(tx, "H42", 10),
    "a body that has crossed": lambda db, tx: road.body_crossed(tx, "H42", "00"),
    "the status": lambda db, tx: desk.depths(db, NOW_MS, WAITING),
    "a page of the queue": lambda db, tx: desk.queue(db, None, None, FIRST, 10),
    "a page of a neighbour's queue": lambda db, tx: desk.queue(db, "H40", "waiting", (4, 0, 50, 50), 10),
    "what is held of a neighbour": lambda db, tx: desk.queue(db, "H40", "held", FIRST, 10),
    "a trace": lambda db, tx: desk.trace(db, "01000000-0000-7000-8000-000000000001", 10),
    "what to forget": lambda db, tx: care.forget(tx, STAMP, **KEEP, limit=10),
    "a bite of what is forgotten": lambda db, tx: care.forget(tx, Stamp(NOW_MS + 5 * DAY_MS, 0, True), **KEEP, limit=10),
    "an empty mailbox": lambda db, tx: boxes.waiting(db, ["H54"], "edoc", 10),
    "an empty mailbox's count": lambda db, tx: boxes.count(db, ["H54"], "edoc"),
}
"""Each is asked of a node with little and of one with much."""


@cache
def steps(number: int) -> dict[str, int]:
    """Steps of each question, none of which changes anything for the next."""
    found: dict[str, int] = {}
    with closing(grown(number)) as db:
        for name, question in QUESTIONS.items():
            found[name] = 0

            def one(name: str = name) -> int:
                found[name] += 1
                return 0

            db.execute("BEGIN")
            db.set_progress_handler(one, 1)
            question(db, Transaction(db))
            db.set_progress_handler(None, 1)
            db.execute("ROLLBACK")
    return found


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_costs_the_same_with_much_as_with_little(question: str) -> None:
    little, much = steps(FEW)[question], steps(MANY)[question]
    assert much <= little * 1.1 + 20, f"{little} steps, then {much}"


def test_what_is_put_off_costs_a_start_no_more_than_itself() -> None:
    """A start makes ready what waited for a body: it looks at what is put off, not at all that waits."""
    with closing(grown(FEW)) as db:
        assert any("outbox_due" in row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {MAKE_READY}"))


def test_an_offer_touches_no_index() -> None:
    """A column that is set is taken out of its indexes and put back even where it stays the same; `in_doubt` is in none."""
    with closing(grown(FEW)) as db:
        columns = {
            column
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='index' AND tbl_name='outbox'").fetchall()
            for _, _, column in db.execute(f"PRAGMA index_info({name})")
        }
        assert columns == {"envelope", "recipient", "neighbour", "lane", "item", "sender", "order_key", "expires_ms", "due_ms"}


def test_a_row_from_before_is_at_once_where_it_never_had_to_wait() -> None:
    """Of an older database: the flood that waits keeps its order and its turns, what was put off is still put off."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db, pytest.MonkeyPatch.context() as patch:
        from node.adapters.sqlite import migrate as module

        scripts = module.scripts()
        patch.setattr(module, "scripts", lambda: scripts[:2])
        migrate(db)
        row = (
            "INSERT INTO outbox (envelope,recipient,neighbour,lane,sender,bytes,state,due_ms,attempts,since_ms,expires_ms) VALUES"
        )
        db.execute(f"{row} (1,'H40.1','H40',4,'H54',1,'waiting',?1,0,?1,0)", (NOW_MS,))
        db.execute(f"{row} (2,'H40.1','H40',4,'H54',1,'waiting',?1+9,3,?1,0)", (NOW_MS,))
        db.execute(f"{row} (3,'H40.1','H40',4,'H54',1,'body',?1+9,0,?1,0)", (NOW_MS,))
        patch.undo()
        migrate(db)
        assert db.execute("SELECT due_ms FROM outbox ORDER BY item").fetchall() == [(0,), (NOW_MS + 9,), (NOW_MS + 9,)]
        assert [row.item for row in road.candidates(db, "H40", NOW_MS, after={}, **BATCH).lanes[Lane.NORMAL]] == [1]
        assert [row.item for row in road.candidates(db, "H40", NOW_MS + 9, after={}, **BATCH).lanes[Lane.NORMAL]] == [1, 2, 3]

"""A past that was written at once is what the store would have left, row for row, and the store goes on from it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from node.adapters.sqlite.migrate import migrate
from node.core.envelope import Lane
from tests.adapters.pki import NOW_MS
from tests.contracts.opened import opened
from tests.making import H41, H54, org
from topology.bench import seed

SILENT = org("H40")
PAST = seed.Past(backlog=7, history=12, came_from=H54, waits_for=SILENT, handed_to=H41, block=5)
Row = tuple[Any, ...]


def tables(path: Path) -> dict[str, list[Row]]:
    """All rows, in the order of their making."""
    with closing(sqlite3.connect(path)) as db:
        return {
            name: db.execute(
                f"SELECT * FROM {name} ORDER BY rowid" if "WITHOUT ROWID" not in sql else f"SELECT * FROM {name}"
            ).fetchall()
            for name, sql in db.execute("SELECT name,sql FROM sqlite_master WHERE type='table'").fetchall()
        }


def made_by_the_store(path: Path) -> Path:
    """The same past, every envelope of it by the store's transactions."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrate(db)
        for kind, sizes in enumerate(((5, 5, 2), (5, 2))):
            for number, size in enumerate(sizes):
                seed.made(db, PAST, seed.TAG.format(kind=kind, number=number), size, handed=not kind, now_ms=NOW_MS)
    return path


def noiseless(rows: list[Row]) -> list[Row]:
    """Without what the store does not look into and every envelope has its own of: signatures, contents, digests, hashes. Their
    lengths and kinds stay."""
    return [tuple(_plain(value) for value in row) for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes) and not value.startswith(b"{"):
        return len(value)
    if isinstance(value, str) and len(value) == 64:
        return "digest"
    return value if not isinstance(value, bytes) else len(value)


@pytest.mark.parametrize("table", [*seed.TABLES, "ledger", "mailbox", "loose", "sqlite_sequence"])
def test_every_row_is_as_the_store_makes_it(tmp_path: Path, table: str) -> None:
    seed.write(tmp_path / "seeded.db", PAST, NOW_MS)
    seeded, made = tables(tmp_path / "seeded.db")[table], tables(made_by_the_store(tmp_path / "made.db"))[table]
    assert sorted(map(repr, noiseless(seeded))) == sorted(map(repr, noiseless(made)))
    assert len({row[:3] for row in seeded}) == len(seeded)


def test_nothing_of_the_schema_is_lost(tmp_path: Path) -> None:
    seed.write(tmp_path / "seeded.db", PAST, NOW_MS)
    assert tables(tmp_path / "seeded.db").keys() == tables(made_by_the_store(tmp_path / "made.db")).keys()
    schemas = []
    for name in ("seeded.db", "made.db"):
        with closing(sqlite3.connect(tmp_path / name)) as db:
            schemas.append(sorted(db.execute("SELECT type,name,tbl_name,sql FROM sqlite_master").fetchall(), key=repr))
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert schemas[0] == schemas[1]


async def test_the_store_goes_on_from_it(tmp_path: Path) -> None:
    """The backlog is offered and handed over, the journal is one chain, and what was handed over is forgotten in its time."""
    seed.write(tmp_path / "node.db", PAST, NOW_MS)
    async with opened(tmp_path / "node.db", "threads") as at:
        assert await at.store.verify_chain() is None
        waiting = await at.candidates(SILENT, bytes_max=1 << 20, rows_max=100, after={})
        assert len(waiting[Lane.NORMAL]) == 7
        assert await at.candidates(H41, bytes_max=1 << 20, rows_max=100, after={}) == {}
        assert len(await at.hand_over(SILENT)) == 7
        assert await at.store.verify_chain() is None
        at.clock.now_ms += 4 * 86_400_000
        keep = {"handed_over_ms": 3 * 86_400_000, "collected_ms": 0, "sent_ms": 0, "evidence_ms": 0, "limit": 1000}
        await at.store.forget(**keep)
        assert [at.count(name) for name in ("envelope", "body", "body_peer", "envelope_body")] == [0, 0, 0, 0]
        assert at.count("seen") == 19


def test_a_past_is_added_to_what_is_there(tmp_path: Path) -> None:
    made_by_the_store(tmp_path / "node.db")
    with closing(sqlite3.connect(tmp_path / "node.db")) as db, db:
        db.execute("DELETE FROM outbox")
        db.execute("UPDATE envelope SET id='x'||substr(id,2), seq=seq+100")
        db.execute("UPDATE seen SET id='x'||substr(id,2)")
        db.execute("UPDATE body SET digest='x'||substr(digest,2)")
    seed.write(tmp_path / "node.db", PAST, NOW_MS)
    found = tables(tmp_path / "node.db")
    assert len(found["envelope"]) == 38
    assert len(found["outbox"]) == 7

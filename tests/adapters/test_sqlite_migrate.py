"""Numbered scripts, forward only: all of one or nothing of it, and never against a file from the future."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from node.adapters.sqlite import migrate as module
from node.adapters.sqlite.migrate import SchemaTooNew, migrate, scripts, statements

FIRST = "CREATE TABLE a (x INTEGER);\nCREATE INDEX a_x ON a (x);\n"
SECOND = "CREATE TABLE b (y TEXT);\nALTER TABLE a ADD COLUMN z TEXT NOT NULL DEFAULT '';\n"


def connect(path: Path | str = ":memory:") -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    return db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


def version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def use(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    monkeypatch.setattr(module, "scripts", lambda: list(enumerate(texts, start=1)))


def test_the_scripts_are_numbered_from_one_without_a_gap() -> None:
    assert [number for number, _ in scripts()] == list(range(1, len(scripts()) + 1))


def test_a_new_database_gets_the_newest_schema_and_a_second_run_changes_nothing() -> None:
    with closing(connect()) as db:
        assert migrate(db) == len(scripts()) == version(db)
        before = schema(db)
        assert migrate(db) == len(scripts())
        assert schema(db) == before


def test_a_fresh_database_equals_one_that_was_migrated_step_by_step() -> None:
    """Every step is taken by itself, as on a node that was never skipped."""
    with closing(connect()) as fresh, closing(connect()) as grown, pytest.MonkeyPatch.context() as patch:
        migrate(fresh)
        texts = [text for _, text in scripts()]
        for count in range(1, len(texts) + 1):
            use(patch, *texts[:count])
            assert migrate(grown) == count
        assert schema(grown) == schema(fresh)


def test_the_statements_of_every_script_are_what_sqlite_itself_would_run() -> None:
    with closing(connect()) as ours, closing(connect()) as theirs:
        for _, text in scripts():
            for statement in statements(text):
                ours.execute(statement)
            theirs.executescript(text)
            assert schema(ours) == schema(theirs)


def test_a_script_is_cut_where_a_statement_ends_and_nowhere_else() -> None:
    script = """-- a comment; with a semicolon
CREATE TABLE a (
  x TEXT DEFAULT ';', -- another; one
  y TEXT
);

CREATE TRIGGER t AFTER INSERT ON a BEGIN
  DELETE FROM a WHERE x = 'a;b';
  DELETE FROM a WHERE y = '';
END;
INSERT INTO a VALUES ('one;
two', '');
"""
    cut = statements(script)
    assert [statement.rsplit("\n", 1)[-1] for statement in cut] == [");", "END;", "two', '');"]
    with closing(connect()) as db:
        for statement in cut:
            db.execute(statement)
        assert [name for name, _ in schema(db)] == ["a", "t"]


def test_a_script_that_ends_in_the_middle_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="middle of a statement"):
        statements("CREATE TABLE a (x);\nCREATE TABLE b (")


def test_a_later_version_is_added_to_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(connect()) as db:
        use(monkeypatch, FIRST)
        migrate(db)
        db.execute("INSERT INTO a VALUES (1)")
        use(monkeypatch, FIRST, SECOND)
        assert migrate(db) == 2
        assert db.execute("SELECT x, z FROM a").fetchall() == [(1, "")]


@pytest.mark.parametrize("broken", ["CREATE TABLE c (x);\nSELECT nonsense FROM nowhere;\n", "INSERT INTO a VALUES (1, 2, 3);\n"])
def test_a_script_that_fails_leaves_the_database_as_it_was(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    with closing(connect()) as db:
        use(monkeypatch, FIRST)
        migrate(db)
        before = schema(db)
        use(monkeypatch, FIRST, SECOND + broken)
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError):
                migrate(db)
            assert (schema(db), version(db), db.in_transaction) == (before, 1, False)
        use(monkeypatch, FIRST, SECOND)
        assert migrate(db) == 2


def test_bodies_get_numbers_and_everything_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names a body, who has it, and what nobody names yet."""
    texts = [text for _, text in scripts()]
    place = next(place for place, text in enumerate(texts) if "body_numbered" in text)
    with closing(connect()) as db:
        use(monkeypatch, *texts[:place])
        migrate(db)
        db.execute("PRAGMA foreign_keys=ON")
        for seq in (1, 2):
            db.execute(
                f"INSERT INTO envelope VALUES ({seq},'H41','e{seq}','','','','','edoc','H41',4,0,'','',0,'[]',NULL,0,NULL,0)"
            )
        db.executemany(
            "INSERT INTO body VALUES (?,?,?,?,?)",
            [("cc", 3, b"one", None, 7), ("aa", 9, None, "aa/9", 8), ("bb", 1, b"x", None, 9)],
        )
        db.executemany("INSERT INTO envelope_body VALUES (?,?)", [(1, "aa"), (1, "cc"), (2, "cc")])
        db.executemany("INSERT INTO body_peer VALUES (?,?)", [("cc", "H41"), ("cc", ""), ("aa", "H41")])
        db.execute("INSERT INTO loose VALUES ('bb',5)")
        use(monkeypatch, *texts[: place + 1])
        migrate(db)
        found = "SELECT b.digest,{} JOIN body b ON b.seq=t.body ORDER BY 1,2"
        assert db.execute(found.format("t.envelope FROM envelope_body t")).fetchall() == [("aa", 1), ("cc", 1), ("cc", 2)]
        assert db.execute(found.format("t.neighbour FROM body_peer t")).fetchall() == [("aa", "H41"), ("cc", ""), ("cc", "H41")]
        assert db.execute(found.format("t.since_ms FROM loose t")).fetchall() == [("bb", 5)]
        assert db.execute("SELECT seq,digest,size,file,taken_ms,data FROM body ORDER BY seq").fetchall() == [
            (1, "cc", 3, None, 7, b"one"),
            (2, "aa", 9, "aa/9", 8, None),
            (3, "bb", 1, None, 9, b"x"),
        ]
        db.execute("DELETE FROM envelope WHERE seq=1")  # takes what it names along
        assert db.execute("SELECT * FROM envelope_body").fetchall() == [(2, 1)]


def test_a_database_from_a_later_version_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with closing(connect(path)) as db:
        migrate(db)
        db.execute(f"PRAGMA user_version={len(scripts()) + 1}")
    before = path.read_bytes()
    with closing(connect(path)) as db, pytest.raises(SchemaTooNew, match=f"schema {len(scripts()) + 1}"):
        migrate(db)
    assert path.read_bytes() == before

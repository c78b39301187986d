"""Every audit bites: tables of a node that are in order have nothing wrong, and each wrong put into them is found and named."""

from __future__ import annotations

import copy
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import pytest

from node.adapters.sqlite.migrate import migrate
from node.adapters.sqlite.writer import chained
from node.core.identifier import OrgId
from tests.topology.sim.desk import ADDRESSES, Desk, rehearse
from topology.sim.audit import (
    REPEATS_MAX,
    SHOWN_MAX,
    Query,
    absent,
    audit,
    ended,
    integrity,
    kept,
    notices,
    off_route,
    promised,
)
from topology.sim.ledger import Item, Ledger, Sent, StatusSent
from topology.sim.offices import Habits
from topology.sim.traffic import To, Traffic

TRAFFIC = Traffic(documents=40, p_update=0.2, p_several=0.3, p_bad=0.2)


@cache
def clean() -> Ledger:
    ledger, _, _ = rehearse(TRAFFIC, Habits(p_held=0), 2, Desk(2, lose=0.1, unreached=0.1))
    return ledger


@pytest.fixture
def ledger() -> Ledger:
    return copy.deepcopy(clean())


def plain(ledger: Ledger) -> tuple[Sent, str, To, Item]:
    """A package delivered to one receiver, and its one item."""
    corrected = {sent.package.after for sent in ledger.sent.values()}
    for sent in ledger.sent.values():
        package = sent.package
        if sent.doc_ids and len(package.to) == 1 and not package.after and package.number not in corrected:
            (doc_id,) = sent.doc_ids
            organ = package.to[0].organ
            return sent, doc_id, package.to[0], ledger.items[ADDRESSES.owner[organ].id, doc_id]
    raise AssertionError("the run has no plain package")


def a_status(ledger: Ledger) -> tuple[str, StatusSent]:
    return next((digest, status) for digest, status in ledger.statuses.items() if status.code == "01")


def texts(found: Sequence[Any]) -> list[str]:
    return [f"{each.kind}: {each.text}" for each in found]


ENVELOPE = (
    "INSERT INTO envelope (seq,origin,id,digest,header,signature,certificate,kind,sender,lane,priority,doc_id,document_id,"
    "expires_ms,hops,taken_ms) VALUES (?,'H41','e'||?,'','','','',?,'H41',1,0,?,'',0,'[]',0)"
)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    yield connection
    connection.close()


@pytest.fixture
def query(db: sqlite3.Connection) -> Query:
    return lambda sql, values: db.execute(sql, tuple(values)).fetchall()


def put_envelope(db: sqlite3.Connection, seq: int, doc_id: str, kind: str = "edoc") -> None:
    db.execute(ENVELOPE, (seq, seq, kind, doc_id))
    db.execute("INSERT INTO body VALUES (?,?,3,NULL,0,'abc')", (seq, f"b{seq}"))
    db.execute("INSERT INTO envelope_body VALUES (?,?)", (seq, seq))


def put_outbox(db: sqlite3.Connection, seq: int, recipient: str, state: str = "waiting") -> None:
    db.execute(
        "INSERT INTO outbox (envelope,recipient,neighbour,lane,sender,bytes,state,due_ms,since_ms,expires_ms)"
        " VALUES (?,?,'H41',1,'H41',1,?,0,0,0)",
        (seq, recipient, state),
    )


def put_box(db: sqlite3.Connection, seq: int, organ: str, doc_id: str, state: str = "initial") -> None:
    db.execute(
        "INSERT INTO mailbox (envelope,organ,recipients,kind,doc_id,lane,state,since_ms,updated_ms,expires_ms)"
        " VALUES (?,?,?,'edoc',?,1,?,0,0,0)",
        (seq, organ, json.dumps([organ]), doc_id, state),
    )


def put_delivery(db: sqlite3.Connection, seq: int, recipient: str, doc_id: str, state: str) -> None:
    db.execute(
        "INSERT INTO submission VALUES (?,'H41','e'||?,'s',?,'','edoc','edoc','H41','','','','','','',0,0,0,0)",
        (seq, seq, doc_id),
    )
    db.execute(
        "INSERT INTO delivery (envelope,recipient,organ,written,state,derived_doc_id,updated_ms) VALUES (?,?,?,?,?,'',0)",
        (seq, recipient, recipient, recipient, state),
    )


def put_journal(db: sqlite3.Connection, count: int, event: str = "taken") -> None:
    previous = b"\0" * 32
    for seq in range(1, count + 1):
        row = (seq, 0, 0, event, "e1", "G22", "H14", "", "")
        previous = chained(previous, row)
        db.execute("INSERT INTO journal VALUES (?,?,?,?,?,?,?,?,?,?)", (*row, previous))


def test_a_node_whose_work_is_done_has_nothing_wrong(db: sqlite3.Connection, query: Query) -> None:
    put_envelope(db, 1, "d1")
    put_box(db, 1, "G22", "d1", "done")
    put_delivery(db, 1, "G22", "d1", "collected")
    put_journal(db, 3)
    db.execute("INSERT INTO body VALUES (7,'f',9,'ab/f',0,NULL)")
    db.execute("INSERT INTO loose VALUES (7,0)")
    assert audit("h41", query, ["ab/f", "partial/x"]) == []


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda db: put_outbox(db, 1, "G22"), "stuck: h41: outbox row edoc e1 to G22 for H41 left after 0 attempts"),
        (lambda db: put_box(db, 1, "G22", "d1"), "stuck: h41: mailbox item edoc d1 of G22 is initial still"),
        (lambda db: put_delivery(db, 1, "G22", "d1", "moving"), "stuck: h41: delivery of d1 to G22 is moving still"),
        (lambda db: db.execute("INSERT INTO body VALUES (9,'x',1,NULL,0,'x')"), "wrong: h41: body x belongs to no envelope"),
        (lambda db: db.execute("DELETE FROM body"), "lost: h41: envelope e1 has lost its body 1"),
        (lambda db: db.execute("UPDATE body SET data=NULL,file='ab/1'"), "lost: h41: body file ab/1 is missing"),
        (lambda db: put_journal(db, REPEATS_MAX + 1, "repeated"), "wrong: h41: H14 has presented e1 for G22 201 times"),
    ],
)
def test_the_audit_finds(db: sqlite3.Connection, query: Query, spoil: Callable[[sqlite3.Connection], Any], sentence: str) -> None:
    put_envelope(db, 1, "d1")
    assert audit("h41", query, []) == []
    spoil(db)
    assert texts(audit("h41", query, [])) == [sentence]


def test_the_audit_counts_what_it_does_not_name(db: sqlite3.Connection, query: Query) -> None:
    for seq in range(1, 9):
        put_envelope(db, seq, f"d{seq}")
        put_outbox(db, seq, "G22")
    found = texts(audit("h41", query))
    assert len(found) == SHOWN_MAX + 1
    assert found[-1] == "stuck: h41: 8 outbox rows left in all"


def test_files_that_belong_to_nobody_and_half_written_ones_are_found(query: Query) -> None:
    assert texts(audit("h41", query, ["ab/1", "spool/2"])) == [
        "wrong: h41: body file ab/1 belongs to nobody",
        "wrong: h41: spool/2 left",
    ]


def test_what_is_held_for_a_person_is_no_wrong(db: sqlite3.Connection, query: Query) -> None:
    put_envelope(db, 1, "d1")
    put_outbox(db, 1, "G22", "held")
    put_delivery(db, 1, "G22", "d1", "held")
    assert audit("h41", query, held=kept([query]).held) == []
    assert len(audit("h41", query)) == 1


def test_a_changed_or_missing_line_of_the_journal_is_found(db: sqlite3.Connection, query: Query) -> None:
    put_journal(db, 5)
    assert integrity("h41", query) == []
    db.execute("UPDATE journal SET recipient='G11' WHERE seq=3")
    assert texts(integrity("h41", query)) == ["wrong: h41: the journal's chain breaks at row 3"]


def test_a_damaged_database_is_found() -> None:
    found = integrity("h41", lambda sql, values: [("row 7 missing from index",)] if sql.startswith("PRAGMA") else [])
    assert texts(found) == ["wrong: h41: database damaged: row 7 missing from index"]


def test_a_promise_that_was_forgotten_is_found(db: sqlite3.Connection, query: Query) -> None:
    put_delivery(db, 1, "G22", "d1", "moving")
    db.execute("INSERT INTO seen VALUES ('H41','e1','G22','',NULL,0,NULL)")
    assert promised("hub", query, [("H41", "e1", "G22")], ["d1"]) == []
    assert texts(promised("hub", query, [("", "e1", "G22")], ["d2"])) == [
        "lost: hub has taken e1 of hub for G22 and forgot it",
        "lost: hub has given docId d2 and forgot it",
    ]


def test_what_nodes_hold_is_told_apart_from_what_they_have_ended(db: sqlite3.Connection, query: Query) -> None:
    for seq, state in enumerate(("initial", "held", "done", "ended"), 1):
        put_envelope(db, seq, f"d{seq}")
        put_box(db, seq, "G22", f"own{seq}", state)
    put_envelope(db, 5, "d5")
    put_outbox(db, 5, "G17")
    put_envelope(db, 6, "d6", "notice")
    put_outbox(db, 6, "H41")
    found = kept([query])
    assert list(found.held) == [("d2", "G22")]
    assert list(found.present) == [("d5", "G17"), ("d1", "G22")]


def test_what_was_acknowledged_and_is_on_no_disk_is_lost(ledger: Ledger, db: sqlite3.Connection, query: Query) -> None:
    (doc_id, sent), *_ = [(doc_id, sent) for sent in ledger.sent.values() for doc_id in sent.doc_ids]
    ledger.sent = {sent.package.number: sent}
    ledger.statuses = {}
    goods = [to.code for to in sent.package.good]
    assert len(absent(ledger, [query])) == len(goods)
    put_envelope(db, 1, doc_id)
    for code in goods:
        put_outbox(db, 1, code)
    assert absent(ledger, [query]) == []
    db.execute("DELETE FROM outbox")
    put_box(db, 1, goods[0], doc_id, "done")
    assert len(absent(ledger, [query])) == len(goods) - 1
    db.execute("DELETE FROM mailbox")
    put_delivery(db, 1, goods[0], doc_id, "collected")
    assert len(absent(ledger, [query])) == len(goods) - 1


def test_a_status_that_was_acknowledged_and_is_on_no_disk_is_lost(ledger: Ledger, query: Query) -> None:
    number = a_status(ledger)[1].package
    for sent in ledger.sent.values():
        sent.doc_ids = {}
    ledger.statuses = {digest: each for digest, each in ledger.statuses.items() if each.package == number}
    assert ["status" in each.text for each in absent(ledger, [query])] == [True] * len(ledger.statuses)


def test_a_notice_that_nothing_has_caused_is_found(ledger: Ledger, db: sqlite3.Connection, query: Query) -> None:
    _, doc_id, _, _ = plain(ledger)
    put_envelope(db, 1, doc_id, "notice")
    assert notices([query, query], ledger) == []
    put_envelope(db, 2, doc_id, "notice")
    put_envelope(db, 3, next(iter(a_status(ledger)[1].doc_ids)), "notice")
    found = texts(notices([query], ledger))
    assert [text.split(" has ")[1] for text in found] == [
        "caused 2 notices, 1 are right at most",
        "caused 1 notices, 0 are right at most",
    ]


def test_a_document_at_a_node_off_its_way_is_found(ledger: Ledger, db: sqlite3.Connection, query: Query) -> None:
    sent, doc_id, _, _ = plain(ledger)
    line = [*ADDRESSES.directory.line(ADDRESSES.directory.owner(OrgId.canonical(sent.package.sender)) or OrgId(()))]
    line += ADDRESSES.directory.line(ADDRESSES.directory.owner(OrgId.canonical(sent.package.to[0].organ)) or OrgId(()))
    put_envelope(db, 1, doc_id)
    strangers = [each.code for each in ADDRESSES.directory.nodes if each.code not in line]
    assert strangers
    for each in ADDRESSES.directory.nodes:
        found = off_route({each.code: query}, ledger, ADDRESSES)
        if each.code in strangers:
            assert texts(found) == [f"wrong: {str(each.code) or 'hub'}: {doc_id} lies here and is not on its way"]
    assert off_route({line[0]: query}, ledger, ADDRESSES) == []


def test_what_is_over_for_every_receiver_is_what_can_be_proven(db: sqlite3.Connection, query: Query) -> None:
    for seq, state in enumerate(("collected", "moving", "expired", "collected"), 1):
        put_delivery(db, seq, "G22", f"d{seq}", state)
    fields = "(envelope,recipient,organ,written,state,derived_doc_id,updated_ms)"
    db.execute(f"INSERT INTO delivery {fields} VALUES (4,'H54','','','held','',0)")
    assert ended(query, 10) == ["e1", "e3"]
    put_delivery(db, 5, "G22", "d5", "refused")
    assert ended(query, 1) == ["e1", "e5"]

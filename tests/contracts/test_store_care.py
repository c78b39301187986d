"""What a store keeps, what it forgets and when, what nobody can change unseen, and that no question reads a whole table."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from node.adapters.sqlite import admission, boxes, care, desk, road
from node.adapters.sqlite.migrate import migrate
from node.adapters.sqlite.writer import Depths, Stamp, Transaction
from node.core.custody import FIRST, Confirmed, Cursor, End, EndOf, Homeward, Settled, Settlement, StatusReport, StoredBody
from node.core.envelope import Header
from node.core.errors import Deferred, Reason
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.package import Priority
from node.core.routing import Deliver
from tests.adapters.pki import NOW_MS
from tests.contracts.opened import Opened
from tests.making import (
    DAY_MS,
    EVERYTHING,
    H41,
    H54,
    HOUR_MS,
    HUB,
    LIFETIME_MS,
    OFFICE,
    OTHER_OFFICE,
    arrival,
    body,
    header,
    org,
    submission,
    to,
)

UNIT = org("H41.07")
KEEP = {"handed_over_ms": 72 * HOUR_MS, "collected_ms": 30 * DAY_MS, "sent_ms": 365 * DAY_MS, "evidence_ms": 90 * DAY_MS}
DONE = Homeward(End(Transport.COLLECTED, NOW_MS))


async def forget(at: Opened, **changes: int) -> tuple[list[str], int]:
    return await at.store.forget(**{**KEEP, "limit": 100, **changes})


async def tell(at: Opened, head: Header, state: Transport, recipient: OrgId) -> None:
    one = EndOf(head.origin, head.id, recipient, End(state, at.clock.now_ms))
    notice = header(H41, kind="notice", sender=H54, origin=H54, expires_ms=0)
    await at.admit(arrival(notice, Deliver(), ends=(one,)), HUB)


# --- retention -------------------------------------------------------------------------------------------------------------


async def test_the_origin_keeps_a_package_until_the_last_verdict_and_the_retention_after_it(at: Opened) -> None:
    """Decision 14: the origin keeps a package until its final verdict. Điều 19.1.đ leaves the archive to the offices."""
    package = submission(OFFICE, OTHER_OFFICE)
    head = package.local.envelope.header
    await at.store.submit(package)
    await at.hand_over(HUB)
    await tell(at, head, Transport.COLLECTED, OFFICE)
    at.clock.now_ms += 300 * DAY_MS
    await forget(at)
    assert at.count("body") == at.count("envelope") == 1, "one receiver has not answered yet"
    await tell(at, head, Transport.REFUSED, OTHER_OFFICE)
    at.clock.now_ms += 72 * HOUR_MS
    await forget(at)
    assert at.count("body") == 1
    at.clock.now_ms += 1
    await forget(at)
    assert at.count("body") == at.count("envelope") == 0
    assert at.count("submission") == 1, "the state of what was sent is kept longer"
    at.clock.now_ms = NOW_MS + 365 * DAY_MS + 1
    await forget(at)
    assert at.count("submission") == at.count("delivery") == 0


async def test_what_was_handed_over_is_kept_for_a_neighbour_that_may_be_restored(at: Opened) -> None:
    """Decision 14: 72 h by default."""
    await at.admit(arrival(header(), to(UNIT)), HUB)
    await at.hand_over(UNIT)
    at.clock.now_ms += 72 * HOUR_MS
    await forget(at)
    assert at.count("envelope") == 1
    at.clock.now_ms += 1
    await forget(at)
    assert at.count("envelope") == at.count("body") == at.count("envelope_body") == at.count("body_peer") == 0


async def test_what_an_office_has_collected_is_kept_longer(at: Opened) -> None:
    head = header(UNIT)
    await at.admit(arrival(head), HUB)
    (item,) = await at.store.items_of([UNIT], head.doc_id)
    await at.store.collect(item.item, DONE)
    at.clock.now_ms += 30 * DAY_MS
    await forget(at)
    assert await at.store.body_of(item.item) is not None
    at.clock.now_ms += 1
    await forget(at)
    assert at.count("mailbox") == at.count("body") == 0


@pytest.mark.parametrize("state", ["waiting", "held", "in the mailbox"])
async def test_nothing_that_has_work_left_is_forgotten(at: Opened, state: str) -> None:
    await at.admit(arrival(header(UNIT), Deliver() if state == "in the mailbox" else to(UNIT)), HUB)
    if state == "held":
        await at.settle(UNIT, Settled.HELD, await at.offer(UNIT), reason=Reason.INTERNAL)
    at.clock.now_ms += 5000 * DAY_MS
    await forget(at)
    assert at.count("envelope") == at.count("body") == 1


async def test_a_body_that_another_envelope_names_stays(at: Opened) -> None:
    """References and deletion are decided by the writer (decision 7)."""
    for _ in range(2):
        await at.admit(arrival(header(), to(UNIT)), HUB)
    await at.settle(UNIT, Settled.TAKEN, (await at.offer(UNIT))[:1])
    at.clock.now_ms += 100 * HOUR_MS
    await forget(at)
    assert (at.count("envelope"), at.count("body")) == (1, 1)
    await at.hand_over(UNIT)
    at.clock.now_ms += 100 * HOUR_MS
    await forget(at)
    assert (at.count("envelope"), at.count("body")) == (0, 0)


async def test_the_file_of_a_forgotten_body_is_named_once_for_removal(at: Opened) -> None:
    large = StoredBody("fe" * 32, 300_000, file="fe/file")
    await at.store.body_arrived(large, HUB)
    await at.admit(arrival(header(content=large), to(UNIT), inline=False), HUB)
    assert await at.store.known_files() == {"fe/file"}
    await at.hand_over(UNIT)
    at.clock.now_ms += 100 * HOUR_MS
    assert (await forget(at))[0] == ["fe/file"]
    assert (await forget(at))[0] == []
    assert await at.store.known_files() == set()


async def test_a_body_whose_envelope_never_came_is_dropped_after_a_day(at: Opened) -> None:
    await at.store.body_arrived(StoredBody("fe" * 32, 300_000, file="fe/file"), HUB)
    at.clock.now_ms += care.LOOSE_MS
    assert (await forget(at))[0] == []
    at.clock.now_ms += 1
    assert (await forget(at))[0] == ["fe/file"]
    assert not await at.store.holds_body_of(HUB, "fe" * 32)
    assert at.count("loose") == 0


async def test_a_body_that_comes_again_may_wait_another_day(at: Opened) -> None:
    content = StoredBody("fe" * 32, 300_000, file="fe/file")
    await at.store.body_arrived(content, HUB)
    at.clock.now_ms += care.LOOSE_MS
    await at.store.body_arrived(replace(content, file="fe/other"), UNIT)
    at.clock.now_ms += 1
    assert (await forget(at))[0] == []


async def test_a_key_is_forgotten_long_after_the_last_copy_could_live(at: Opened) -> None:
    """Decision 4: remembered longer than the envelope's life plus its clock bound."""
    head = header()
    await at.admit(arrival(head, to(UNIT)), HUB)
    status = header(kind="status", expires_ms=0)
    await at.admit(arrival(status, to(UNIT)), HUB)
    (until, never) = (at.one("SELECT until_ms FROM seen WHERE id=?", each.id) for each in (head, status))
    assert until >= NOW_MS + LIFETIME_MS + 1000 + 7 * DAY_MS
    assert never >= NOW_MS + 365 * DAY_MS
    at.clock.now_ms = until
    await forget(at)
    assert at.count("seen") == 2
    at.clock.now_ms += 1
    await forget(at)
    assert at.rows("SELECT id FROM seen") == [(status.id,)]


async def test_forgetting_takes_a_bounded_bite_and_says_how_much(at: Opened) -> None:
    for _ in range(5):
        await at.admit(arrival(header(), to(UNIT)), HUB)
    await at.hand_over(UNIT)
    at.clock.now_ms += 100 * HOUR_MS
    assert [(await forget(at, limit=2))[1] for _ in range(4)] == [3, 3, 2, 0]


# --- journal and ledger ----------------------------------------------------------------------------------------------------


async def some_days_work(at: Opened) -> None:
    package = submission(OFFICE, UNIT)
    await at.store.submit(package)
    await at.admit(arrival(header(), to(UNIT)), HUB)
    await at.hand_over(HUB)
    await at.store.request_agency("so-noi-vu", "register", {"code": "H41.07.05"})


async def test_the_journal_is_a_chain(at: Opened) -> None:
    """Nhật ký: append only, each row carries the hash of the one before it."""
    assert await at.store.verify_chain() is None
    await some_days_work(at)
    assert at.count("journal") >= 5
    assert await at.store.verify_chain() is None


@pytest.mark.parametrize("column", ["at_ms", "event", "envelope", "recipient", "neighbour", "reason", "detail", "hash"])
async def test_a_row_that_was_altered_is_found(at: Opened, column: str) -> None:
    await some_days_work(at)
    value = b"\1" * 32 if column == "hash" else 1 if column == "at_ms" else "khác"
    await at.tamper(f"UPDATE journal SET {column}=? WHERE seq=3", value)
    assert await at.store.verify_chain() == 3


async def test_a_row_that_was_taken_out_is_found(at: Opened) -> None:
    await some_days_work(at)
    await at.tamper("DELETE FROM journal WHERE seq=2")
    assert await at.store.verify_chain() == 3


async def test_what_fails_leaves_neither_a_ledger_row_nor_a_gap_in_the_chain(at: Opened) -> None:
    """Decision 12: official numbers come from rows written in the transaction of the event: both or neither."""
    await some_days_work(at)
    before = at.count("ledger"), at.count("journal")
    broken = submission(OFFICE)
    broken = replace(broken, local=replace(broken.local, routes={}))  # the recipient has no route: an error after the first rows
    with pytest.raises(Deferred):  # named in the log; the office is told to come again
        await at.store.submit(broken)
    assert (at.count("ledger"), at.count("journal")) == before
    await some_days_work(at)
    assert await at.store.verify_chain() is None


async def test_every_ledger_row_has_its_instant_its_bound_and_whether_the_clock_was_right(at: Opened) -> None:
    """QĐ 28/2018 Điều 14.4"""
    at.clock.bound = 250
    await at.store.submit(submission(OFFICE))
    assert at.rows("SELECT at_ms,bound_ms,synchronised,organ,kind,business,priority FROM ledger") == [
        (NOW_MS, 250, 1, "H41.07", "edoc", 0, 0)
    ]


# --- the operator's questions ----------------------------------------------------------------------------------------------


async def test_a_trace_finds_a_document_by_any_of_its_names(at: Opened) -> None:
    package = submission(OFFICE, document_id="H41.07,2031,12")
    head = package.local.envelope.header
    await at.store.submit(package)
    await at.store.submit(submission(OFFICE))
    await at.hand_over(HUB)
    for key in (head.id, head.doc_id, "H41.07,2031,12"):
        rows = await at.store.trace(key, 100)
        assert [row["event"] for row in rows] == ["accepted", "handed-over"]
        assert {row["doc_id"] for row in rows} == {head.doc_id}
    assert await at.store.trace("không có", 100) == []
    assert await at.store.trace("", 100) == []
    at.clock.now_ms += 400 * DAY_MS
    await forget(at, sent_ms=10_000 * DAY_MS)
    assert len(await at.store.trace(head.doc_id, 100)) == 2


async def test_the_queue_is_listed_page_by_page_and_shown_in_full(at: Opened) -> None:
    for _ in range(3):
        await at.admit(arrival(header(), to(UNIT)), HUB)
    first, behind = await at.store.queue(None, None, FIRST, 2)
    assert behind is not None
    rest, behind = await at.store.queue("H41.07", "waiting", behind, 2)
    assert behind is None
    assert len(first + rest) == 3
    shown = await at.store.queue_item(first[0]["item"])
    assert shown is not None
    assert (shown["lane"], shown["size_bytes"], [hop["node"] for hop in shown["hops"]]) == ("normal", body().size, ["H41"])
    assert await at.store.queue("H41.08", None, FIRST, 10) == ([], None)
    assert await at.store.queue_item(999) is None


async def test_the_urgent_stand_first_in_the_queue_and_among_the_held_page_by_page(at: Opened) -> None:
    """QĐ 28/2018 Điều 6.2; whoever the neighbour, whether put off or held, and no row twice or never."""
    numbers: list[int] = []
    for priority in (Priority.NORMAL, Priority.EXPRESS, Priority.URGENT, Priority.NORMAL, Priority.EXPRESS):
        for unit in (UNIT, org("H41.08")):
            await at.admit(arrival(header(priority=priority), to(unit)), HUB)
            numbers.append(int(at.one("SELECT max(item) FROM outbox")))
    await at.settle(UNIT, Settled.LATER, await at.offer(UNIT, [numbers[2]]), due_ms=NOW_MS + 5000, reason=Reason.NOT_NOW)
    await at.store.act_queue("hold", [numbers[0], numbers[3]], None, "chị Hoa", "")

    async def pages(neighbour: str | None, state: str | None) -> list[int]:
        found: list[int] = []
        after: Cursor | None = FIRST
        while after is not None:
            rows, after = await at.store.queue(neighbour, state, after, 2)
            found += [row["item"] for row in rows]
        return found

    express = [numbers[3], numbers[8], numbers[9]]
    normal = [numbers[1], *numbers[6:8], numbers[0]]
    assert await pages(None, None) == [*express[1:], numbers[2], express[0], numbers[4], numbers[5], *normal]
    assert await pages("H41.07", "waiting") == [numbers[8], numbers[2], numbers[4], numbers[6]]
    assert await pages("H41.08", None) == [numbers[9], numbers[3], numbers[5], numbers[1], numbers[7]]
    held, behind = await at.store.held(FIRST, 1)
    assert [row["item"] for row in held] == [f"out-{numbers[3]}"]
    assert behind is not None
    assert [row["item"] for row in (await at.store.held(behind, 10))[0]] == [f"out-{numbers[0]}"]


async def test_an_operators_act_is_in_the_journal_with_who_and_why(at: Opened) -> None:
    await at.admit(arrival(header(), to(UNIT)), HUB)
    (item,) = await at.waiting_for(UNIT)
    assert await at.store.act_queue("hold", [item, 999], None, "chị Hoa", "nghi trùng") == 1
    assert (await at.store.depths())["held"] == 1
    assert await at.store.act_queue("release", [], "H41.07", "chị Hoa", "không trùng") == 1
    told = at.rows("SELECT reason,recipient,detail FROM journal WHERE event='act'")
    assert [(what, subject) for what, subject, _ in told] == [("queue.hold", f"out-{item}"), ("queue.release", "→ H41.07")]
    waiting, held = {"state": "waiting", "items": 1}, {"state": "held", "items": 1}
    assert [json.loads(detail) for *_, detail in told] == [
        {"who": "chị Hoa", "why": "nghi trùng", "before": waiting, "after": held},
        {"who": "chị Hoa", "why": "không trùng", "before": held, "after": waiting},
    ]
    depths = await at.store.depths()
    assert depths["outbox"] == [{"neighbour": "H41.07", "lane": "normal", "depth": 1, "oldest_s": 0.0}]


async def test_what_is_dropped_must_still_be_held_when_it_is_done(at: Opened) -> None:
    """Decision 6: released and offered meanwhile, it may be in doubt; two people dropping it make one end."""
    await at.admit(arrival(header(), to(UNIT)), HUB)
    await at.settle(UNIT, Settled.HELD, await at.offer(UNIT), reason=Reason.INTERNAL)
    (item,) = [row["item"] for row in (await at.store.queue(None, "held", FIRST, 10))[0]]
    home = Homeward(End(Transport.REFUSED, NOW_MS, Reason.DROPPED_BY_OPERATOR))
    await at.store.act_queue("release", [item], None, "chị Hoa", "")
    await at.store.drop_out(item, home, "anh Ba", "thừa")
    assert at.count("outbox") == 1
    await at.store.act_queue("hold", [item], None, "anh Ba", "")
    for _ in range(2):
        await at.store.drop_out(item, home, "anh Ba", "thừa")
    assert at.events("act", "refused") == ["act", "act", "act", "refused"]


# --- no question reads a whole table ---------------------------------------------------------------------------------------

BIG = ("envelope", "body", "envelope_body", "outbox", "mailbox", "submission", "delivery", "seen", "journal", "ledger", "loose")


def plans() -> dict[str, list[str]]:
    """Every statement of a day's work, with how SQLite goes about it. The schema is the real one, the tables are empty."""
    statements: dict[str, None] = {}
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db)
        db.set_trace_callback(lambda statement: statements.setdefault(statement))
        tx, stamp = Transaction(db), Stamp(NOW_MS, 1000, True)
        everything(tx, stamp)
        db.set_trace_callback(None)
        found = {}
        for statement in statements:
            if re.match(r"(WITH|SELECT|UPDATE|DELETE|INSERT)", statement):
                rows = db.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                found[statement] = [row[3] for row in rows]
    return found


OUTBOX_NEXT = "state<>'held' AND due_ms=0"


def everything(tx: Transaction, stamp: Stamp) -> None:
    """One call of each query and transaction that runs often."""
    db = tx.db
    head = header(OFFICE, UNIT, document_id="12")
    said = StatusReport(OFFICE, "01", "", NOW_MS, UNIT, "không có", "12/SNV", "2031/03/01")
    package = submission(OFFICE, OTHER_OFFICE, document_id="12")
    own = package.local.envelope.header
    admission.submit(tx, package, stamp)
    admission.submit(tx, package, stamp)
    admission.admit(tx, arrival(head, {OFFICE: to(UNIT), UNIT: Deliver()}), HUB, stamp)
    admission.admit(tx, arrival(head, to(UNIT)), HUB, stamp)
    admission.admit(tx, arrival(header(UNIT, kind="status", expires_ms=0), report=said), HUB, stamp)
    recall = replace(said, code="13")
    admission.admit(tx, arrival(header(UNIT, kind="status", expires_ms=0), report=recall), HUB, stamp)
    one = EndOf(own.origin, own.id, OFFICE, End(Transport.REFUSED, NOW_MS))
    admission.admit(tx, arrival(header(H41, kind="notice"), Deliver(), ends=(one,)), HUB, stamp)
    for _ in range(20):  # more than a glance takes in
        admission.admit(tx, arrival(header(OTHER_OFFICE), to(UNIT)), HUB, stamp)
    for neighbour in ("", "H41.07"):
        road.next_offer(tx, neighbour, replace(EVERYTHING, bytes_max=1))
        road.candidates(db, neighbour, NOW_MS, bytes_max=1, rows_max=1, after={})
        road.next_due(db, neighbour, NOW_MS)
        items = [item for (item,) in db.execute(f"SELECT item FROM outbox WHERE neighbour=? AND {OUTBOX_NEXT}", (neighbour,))]
        road.offer(tx, neighbour, items)
        for settled in (s for s in Settled if s not in (Settled.ENDED, Settled.TAKEN, Settled.REROUTED)):
            road.settle(tx, neighbour, [Settlement(items[0], settled, NOW_MS, need=(body().sha256,))], stamp)
        road.settle(tx, neighbour, [Settlement(items[0], Settled.TAKEN)], stamp)
        road.settle(tx, neighbour, [Settlement(items[-1], Settled.ENDED, home=DONE)], stamp)
        road.inline_bodies(db, neighbour, [body().sha256])
        road.offered_body(db, neighbour, body().sha256)
        road.body_crossed(tx, neighbour, body().sha256)
        road.hold_body(tx, neighbour, body().sha256, "", stamp)
        road.session_began(tx, neighbour, 10)
    road.reroute(tx, items[-1], UNIT, stamp)
    road.astray(db, ["", "H41.07"], 10)
    road.expired(db, NOW_MS, 10)
    road.still_expired(tx, 1)
    boxes.waiting(db, ["H41.07", "H41.08"], "edoc", 10)
    boxes.count(db, ["H41.07", "H41.08"], "edoc")
    for after in (None, 0):
        boxes.listed(db, ["H41.07", "H41.08"], "edoc", after, 10)
    boxes.packages_of(db, [1, 2])
    boxes.items_of(db, ["H41.07"], head.doc_id, own.doc_id)
    (item,) = boxes.items_of(db, ["H41.07"], head.doc_id)
    boxes.body_of(db, item.item)
    boxes.fetched(tx, [item.item], stamp)
    boxes.set_word(tx, item.item, "processing", stamp)
    boxes.fail(tx, item.item, 5, "", stamp)
    boxes.collect_many(tx, [Confirmed([(item.item, DONE)])], stamp)
    boxes.sent(db, "so-noi-vu", False, None, 10, lambda *_: "")
    boxes.sent(db, "so-noi-vu", False, own.doc_id, 10, lambda *_: "")
    boxes.owns_sent(db, "so-noi-vu", own.doc_id)
    boxes.submission_of(db, "H41", own.id)
    status_of(db)
    desk.held(db, FIRST, 10)
    desk.held_count(db)
    desk.depths(db, NOW_MS, Depths({("", 1): 2}))
    desk.trace(db, own.doc_id, 10)
    desk.queue(db, "H41.07", None, FIRST, 10)
    desk.queue(db, None, None, (4, 1, 7, 7), 10)
    desk.act_queue(tx, "hold", [], "H41.07", "", "", stamp)
    desk.act_queue(tx, "release", [], "H41.07", "", "", stamp)
    care.forget(tx, replace(stamp, at_ms=NOW_MS + 1000 * DAY_MS), **KEEP, limit=10)


def status_of(db: sqlite3.Connection) -> None:
    from node.adapters.sqlite.status import addressee, receivers

    addressee(db, "H41.07", "12")
    receivers(db, "H41.07", "12", "12/SNV", "2031/03/01")


SCAN = re.compile(r"SCAN (\w+)( USING .*)?$")
"""Aliases in the store's SQL are one letter long."""


def test_no_query_that_runs_often_reads_a_whole_table() -> None:
    """Unbounded growth of a table must not slow the road: the tables hold months of documents."""
    found = plans()
    assert len(found) > 60
    scans = {
        statement: step
        for statement, steps in found.items()
        for step in steps
        if (scan := SCAN.match(step)) and (scan[1] in BIG or len(scan[1]) == 1) and not allowed(statement, step)
    }
    assert scans == {}
    walks = [
        (statement, step)
        for statement, steps in found.items()
        for step in steps
        if re.search(r"\((neighbour|system|sender)=\?\)$", step) and not statement.startswith(ALL_OF_ONE)
    ]
    assert walks == [], "all that one neighbour, system or sender has is too much"
    repeats = [steps for statement, steps in found.items() if "file_digest=" in statement]
    assert repeats, "the day's work looks for repeats"
    assert all("file_digest=?" in steps[0] for steps in repeats), "by the file, not among all that its system has sent"
    offered = [steps for statement, steps in found.items() if "FROM outbox WHERE item IN" in statement]
    assert offered, "the day's work offers"
    assert all(any("rowid=?" in step for step in steps) for steps in offered), "by number, not through all that waits"


ALL_OF_ONE = (
    "SELECT item FROM outbox WHERE neighbour=",  # this test's own
    "SELECT o.item,e.id AS envelope,e.doc_id",  # the operator's list, a page at a time
    "WITH RECURSIVE each(code)",  # rows of neighbours that are gone
    "UPDATE outbox SET state='waiting',attempts=max(attempts,state='body'),due_ms=0",  # what is put off, a piece at a time
)
"""Statements that ask for just that."""


def allowed(statement: str, step: str) -> bool:
    """Walks along an index that holds only the few rows in question, and the last row of the journal."""
    few = ("outbox_held", "mailbox_held", "mailbox_flag")
    if step in ("SCAN each", "SCAN e") and "each(code)" in statement:  # one row for each neighbour
        return True
    return any(name in step for name in few) or statement.endswith("FROM journal ORDER BY seq DESC LIMIT 1")


# --- the time -----------------------------------------------------------------------------------------------------------------


async def test_the_last_instant_that_was_vouched_for_is_known_and_others_are_not_counted(
    at: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that starts anew gives none that is earlier: decision 11 rests on it."""
    assert await at.store.vouched_ms() == 0
    await at.store.submit(submission(OFFICE))
    assert await at.store.vouched_ms() == at.clock.now_ms == NOW_MS
    at.clock.now_ms += HOUR_MS
    monkeypatch.setattr(type(at.clock), "synchronised", lambda clock: False)
    await at.store.submit(submission(OFFICE))
    assert await at.store.vouched_ms() == NOW_MS

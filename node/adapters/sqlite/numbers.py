"""Figures: ledger rows folded into days, and statements kept by version; their sums are in `figures.py`.

Functions of a `Transaction` are called only inside the writer; queries run on a reader. Every row of the ledger is folded in the
transaction that moves the cursor past it, so a process may be killed anywhere and nothing is counted twice. What a report costs
depends on organs, nodes and days, never on documents.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, TypeVar

from node.adapters.sqlite import figures
from node.adapters.sqlite.rows import put_chain
from node.adapters.sqlite.status import overdue
from node.adapters.sqlite.writer import COUNTABLE, Look, Stamp, Transaction, Writer
from node.core import instant
from node.core.counting import Drafted, Fold, Row, Tail, ToState
from node.core.envelope import KIND_NOTICE, KIND_STATUS, decode_header
from node.core.errors import Refused
from node.core.identifier import HUB, OrgId
from node.core.package import Business, Priority
from node.core.reconciling import Fact, Span, Sums, sliced
from node.core.report import Found
from node.core.statement import (
    Counts,
    Kept,
    Pair,
    Refusal,
    SignedStatement,
    Statement,
    Version,
    decode_statement,
    plus,
)

T = TypeVar("T")

CURSOR = "counted"
MARKED = "m"
_TAKEN_IN = (Kept.NEW, Kept.KNOWN, Kept.OLDER)

_ROWS = (
    "SELECT seq,at_ms,synchronised,event,organ,counterpart,kind,business,priority,reason,document,office,made_ms,type,paper,dated,"
    "trial,signed,flaws FROM ledger WHERE seq>? ORDER BY seq LIMIT ?"
)


# what was counted here


def to_count(tx: Transaction) -> Look[bool]:
    """Whether a row waits to be folded or a day to be stated anew."""
    (cursor,) = _cursor(tx.db)
    found = tx.db.execute(
        "SELECT EXISTS (SELECT 1 FROM ledger WHERE seq>?) OR EXISTS (SELECT 1 FROM recount)", (cursor,)
    ).fetchone()
    return Look(True if found[0] else None)


def _cursor(db: sqlite3.Connection) -> tuple[int]:
    row = db.execute("SELECT value FROM meta WHERE key=?", (CURSOR,)).fetchone()
    return (int(row[0]) if row else 0,)


def tail(db: sqlite3.Connection, limit: int, on_trial: OnTrial | None) -> Tail:
    """Rows that are not folded yet, and, where these are all, what there is of each pair at this very moment of the store; not
    without being told which organs are on trial."""
    db.execute("BEGIN")
    try:
        (cursor,) = _cursor(db)
        found = db.execute(_ROWS, (cursor, limit)).fetchall()
        whole = len(found) < limit
        stock = _stock(db, on_trial) if whole and on_trial is not None else None
    finally:
        db.execute("COMMIT")
    return Tail(cursor, found[-1][0] if found else cursor, [_row(each) for each in found], whole, stock)


def _row(found: tuple[Any, ...]) -> Row:
    _, at_ms, sync, event, organ, counterpart, kind, business, priority, reason, document, office, made, type_, *rest = found
    return Row(
        at_ms=at_ms,
        synchronised=bool(sync),
        event=event,
        organ=_code(organ),
        counterpart=_code(counterpart),
        kind=kind,
        business=Business(business),
        priority=Priority(priority),
        reason=reason,
        document=bool(document),
        office=_code(office or organ),
        made_ms=made,
        type=type_,
        paper=rest[0],
        dated=rest[1],
        trial=bool(rest[2]),
        signed=rest[3],
        flaws=rest[4],
    )


def _code(text: str) -> OrgId:
    """A receiver refused at the door may have had no code that could be read."""
    try:
        return OrgId.canonical(text)
    except Refused:
        return HUB


OnTrial = Callable[[Sequence[str], int], bool]
TRIED_MS = 30 * 86_400_000
"""What waits here was made no longer ago than this before it came."""
_WAITS = (
    "(SELECT e.sender AS sender,json_array(o.recipient) AS codes,o.recipient AS organ,iif(o.state='held','held','moving') AS stock,"
    f"e.seq AS seq,e.taken_ms AS taken_ms FROM outbox o JOIN envelope e ON e.seq=o.envelope WHERE e.kind NOT IN ('{KIND_STATUS}','{KIND_NOTICE}') UNION ALL"
    " SELECT e.sender,m.recipients,m.organ,iif(m.state='held','held','waiting'),e.seq,e.taken_ms FROM mailbox m JOIN envelope e"
    f" ON e.seq=m.envelope WHERE m.state NOT IN ('done','ended') AND e.kind NOT IN ('{KIND_STATUS}','{KIND_NOTICE}'))"
)


def _stock(db: sqlite3.Connection, on_trial: OnTrial) -> dict[Pair, Counts]:
    """Deliveries of documents here, by pair: in mailboxes, on their way, set aside. Those of a trial are in no figure, as they were
    not when they were sent: looked at one by one where an organ was on trial lately. # QĐ 28/2018 Điều 21.1"""
    found: dict[Pair, dict[str, int]] = {}
    for sender, texts, organ, key, all_, oldest_ms, newest_ms in db.execute(
        f"SELECT sender,codes,organ,stock,count(*),min(taken_ms),max(taken_ms) FROM {_WAITS} GROUP BY 1,2,3,4"
    ).fetchall():
        codes, number = json.loads(texts), all_
        tried = (sender, organ, *codes)
        if any(on_trial(tried, at_ms) for at_ms in (oldest_ms - TRIED_MS, oldest_ms, newest_ms)):
            one_by_one = db.execute(
                f"SELECT header FROM envelope WHERE seq IN (SELECT seq FROM {_WAITS} WHERE sender=? AND codes=? AND organ=? AND stock=?)",
                (sender, texts, organ, key),
            )
            number = sum(not on_trial(tried, decode_header(bytes(header)).created_ms) for (header,) in one_by_one)
        for code in codes if number else ():
            cell = found.setdefault(Pair.of(_code(sender), _code(code)), {})
            cell[key] = cell.get(key, 0) + number
    return dict(found)


def fold(tx: Transaction, fold: Fold) -> bool:
    """Add what rows came to, and move the cursor past them. False: somebody has done so before; nothing was changed."""
    if _cursor(tx.db) != (fold.before,):
        return False
    days = sorted({*(day for day, _ in fold.gained), *fold.marked})
    for (day, subject), counts in fold.gained.items():
        _add_counted(tx.db, day, subject, counts)
    for day, number in fold.marked.items():
        _add_counted(tx.db, day, MARKED, {"marked": number})
    tx.db.execute("INSERT INTO meta VALUES (?1,?2) ON CONFLICT DO UPDATE SET value=?2", (CURSOR, str(fold.after)))
    due(tx, days)
    return True


def _add_counted(db: sqlite3.Connection, day: date, subject: str, counts: Counts) -> None:
    row = db.execute("SELECT counts FROM counted WHERE day=? AND subject=?", (day.isoformat(), subject)).fetchone()
    total = plus(json.loads(row[0]) if row else {}, counts)
    db.execute("INSERT OR REPLACE INTO counted VALUES (?,?,?)", (day.isoformat(), subject, figures.as_json(total)))


def due(tx: Transaction, days: Iterable[date]) -> None:
    """A new statement of these days is due."""
    tx.db.executemany(
        "INSERT INTO recount VALUES (?,1) ON CONFLICT DO UPDATE SET times=times+1", [(day.isoformat(),) for day in days]
    )
    tx.fed.add(COUNTABLE)


def to_state(db: sqlite3.Connection, node: OrgId, today: date) -> ToState:
    """What there is to state, as far as today."""
    due = db.execute("SELECT day,times FROM recount WHERE day<=? ORDER BY day", (today.isoformat(),)).fetchall()
    (last,) = db.execute("SELECT max(day) FROM statement WHERE node=? AND day<=?", (str(node), today.isoformat())).fetchone()
    # What the parent does not hold yet is not to be dropped, wherever its node hangs.
    open_ones = "SELECT node,day,parent FROM statement WHERE final=0 AND (up=1 OR node=?) ORDER BY day,node"
    unfinished = db.execute(open_ones, (str(node),)).fetchall()
    return ToState(
        {date.fromisoformat(day): times for day, times in due},
        date.fromisoformat(last) if last else None,
        [(_code(code), date.fromisoformat(day), None if up is None else _code(up)) for code, day, up in unfinished],
        [(date.fromisoformat(day), _parent(up)) for day, up in db.execute(_UNHEARD, (str(node),))],
    )


_UNHEARD = (
    "SELECT day,parent FROM statement s WHERE node=? AND final AND up=0"
    " AND NOT EXISTS (SELECT 1 FROM statement_past p WHERE p.node=s.node AND p.day=s.day)"
)
"""Of this node's days those of which no parent has heard the end."""


def draft(db: sqlite3.Connection, node: OrgId, day: date) -> Drafted:
    """What a statement of this day is made of."""
    organs: dict[OrgId, Counts] = {}
    pairs: dict[Pair, Counts] = {}
    road: Counts = {}
    marked = 0
    for subject, text in db.execute("SELECT subject,counts FROM counted WHERE day=?", (day.isoformat(),)):
        counts = json.loads(text)
        match subject[0]:
            case "o":
                organs[_code(subject[1:])] = counts
            case "p":
                sender, _, recipient = subject[1:].partition(">")
                pairs[Pair(_code(sender), _code(recipient))] = counts
            case "r":
                road = counts
            case "m":
                marked = counts["marked"]
    here = (day.isoformat(), str(node))
    below = {
        parent: (number, plus(*(json.loads(text) for (text,) in _organs_under(db, here, parent))))
        for parent, number in db.execute(
            "SELECT parent,count(*) FROM statement WHERE day=? AND node<>? GROUP BY 1", here
        ).fetchall()
    }
    row = db.execute("SELECT epoch,n,final,parent FROM statement WHERE day=? AND node=?", here).fetchone()
    unheard = db.execute(f"{_UNHEARD} AND day=?", (str(node), day.isoformat())).fetchone() is not None
    return Drafted(
        Version(*row[:2]) if row else None,
        (_parent(row[3]),) if row and row[2] and not unheard else None,
        organs,
        pairs,
        road,
        {_parent(parent): each for parent, each in below.items()},
        marked,
    )


def _organs_under(db: sqlite3.Connection, here: tuple[str, str], parent: str | None) -> sqlite3.Cursor:
    where = "span=? AND subject>='o' AND subject<'p' AND node<>? AND parent=?"
    return db.execute(f"SELECT counts FROM figure WHERE {where}", (*here, figures.NOBODY if parent is None else parent))


def _parent(text: str | None) -> OrgId | None:
    return None if text is None else _code(text)


def state(tx: Transaction, signed: SignedStatement, times: int, stamp: Stamp) -> None:
    """Keep a statement made here; its day is no longer due, unless it has changed since it was read. Where it hung under another
    parent the last time, what is unfinished goes up to this one, too: the former one drops it."""
    day, above = signed.statement.day.isoformat(), signed.statement.parent
    elsewhere = "EXISTS (SELECT 1 FROM statement WHERE node=? AND day=? AND final=0 AND parent IS NOT ?)"
    here = (str(signed.statement.node), day, None if above is None else str(above))
    tx.db.execute(f"UPDATE statement SET up=0 WHERE final=0 AND up<>0 AND {elsewhere}", here)
    _put(tx, signed, None, stamp)
    tx.db.execute("DELETE FROM recount WHERE day=? AND times<=?", (day, times))


# statements


def receive(tx: Transaction, came: Sequence[SignedStatement], via: OrgId, stamp: Stamp) -> list[Kept]:
    """Keep each by its version: the higher replaces, the same is known, an older one changes nothing. The same version with other
    figures is an alarm. What is not kept is named."""
    found = []
    for signed in came:
        kept = _judge(tx.db, signed, via)
        if kept is Kept.NEW:
            _put(tx, signed, via, stamp)
            due(tx, [signed.statement.day])
        elif kept not in _TAKEN_IN or kept is Kept.OLDER:
            refuse(tx, Refusal(signed.statement.node, signed.statement.day, signed.statement.version, kept.value), via, stamp)
        found.append(kept)
    return found


def _judge(db: sqlite3.Connection, signed: SignedStatement, via: OrgId) -> Kept:
    statement = signed.statement
    row = _current(db, statement.node, statement.day)
    if row is None:
        return Kept.NEW
    version, digest, before = row
    if statement.version > version:
        return Kept.NEW
    if statement.version < version:
        return Kept.OLDER if before == str(via) else Kept.KNOWN  # from a former parent it is no surprise
    return Kept.KNOWN if digest == signed.digest else Kept.ALTERED


def _current(db: sqlite3.Connection, node: OrgId, day: date) -> tuple[Version, str, str | None] | None:
    row = db.execute("SELECT epoch,n,digest,via FROM statement WHERE node=? AND day=?", (str(node), day.isoformat())).fetchone()
    return (Version(row[0], row[1]), row[2], row[3]) if row else None


def refuse(tx: Transaction, refusal: Refusal, via: OrgId, stamp: Stamp) -> None:
    """Name a statement that was not kept: in the journal, and for the report."""
    day, version = refusal.day.isoformat(), refusal.version
    key = (str(refusal.node), day, str(via), refusal.reason, version.epoch, version.n, stamp.at_ms)
    again = tx.db.execute(
        "SELECT 1 FROM statement_refused WHERE day=? AND node=? AND reason=?", (day, str(refusal.node), refusal.reason)
    ).fetchone()
    tx.db.execute(
        "INSERT INTO statement_refused VALUES (?,?,?,?,?,?,?,1) ON CONFLICT (day,node,reason) DO UPDATE SET times=times+1,at_ms=?7",
        key,
    )
    if again is None:
        detail = f"node={refusal.node} day={day} version={version.epoch}.{version.n}"
        tx.journal(stamp, "statement-refused", neighbour=str(via), reason=refusal.reason, detail=detail)


def _put(tx: Transaction, signed: SignedStatement, via: OrgId | None, stamp: Stamp) -> None:
    """Replace what is kept of this (node, day), and change the sums by the difference."""
    statement, db = signed.statement, tx.db
    node, day = str(statement.node), statement.day.isoformat()
    old = _take_away(tx, node, day)
    figures.change(db, old, statement)
    db.execute(
        "INSERT INTO statement SELECT ?,?,?,?,?,?,?,?,?,?,?,?,value='' FROM meta WHERE key='node'",  # the hub has nobody above
        (
            node,
            day,
            statement.version.epoch,
            statement.version.n,
            int(statement.final),
            None if via is None else str(via),
            None if statement.parent is None else str(statement.parent),
            signed.digest,
            signed.data,
            signed.signature,
            statement.key,
            stamp.at_ms,
        ),
    )
    # A day that has not come yet was stated by a clock that is ahead: it is not the last word on what there is.
    later = "SELECT 1 FROM statement WHERE node=? AND day>? AND day<=? LIMIT 1"
    if not db.execute(later, (node, day, instant.day(stamp.at_ms).isoformat())).fetchone():
        figures.put_stock(db, statement, node)


def _take_away(tx: Transaction, node: str, day: str) -> Statement | None:
    row = tx.db.execute("SELECT epoch,n,data,signature,final FROM statement WHERE node=? AND day=?", (node, day)).fetchone()
    if row is None:
        return None
    if row[4]:
        tx.db.execute("INSERT OR IGNORE INTO statement_past VALUES (?,?,?,?,?,?)", (node, day, *row[:4]))
    tx.db.execute("DELETE FROM statement WHERE node=? AND day=?", (node, day))
    return decode_statement(bytes(row[2]))


def drop_departed(tx: Transaction, node: OrgId, day: date, stamp: Stamp) -> None:
    """A unit that hangs elsewhere now has left a day unfinished here: its new parent has the whole of it."""
    old = _take_away(tx, str(node), day.isoformat())
    if old is not None:
        figures.change(tx.db, old, None)
        figures.put_stock(tx.db, None, str(node))
        tx.journal(stamp, "statement-departed", detail=f"node={node} day={day.isoformat()}")
        due(tx, [day])


# upwards


def outgoing(db: sqlite3.Connection, limit: int) -> list[tuple[bytes, bytes, str]]:
    """(data, signature, leaf's digest) of statements the parent does not hold yet, the eldest days first."""
    found = db.execute("SELECT data,signature,certificate FROM statement WHERE up=0 ORDER BY day,node LIMIT ?", (limit,))
    return [(bytes(data), bytes(signature), certificate) for data, signature, certificate in found]


def gone_up(tx: Transaction, sent: Sequence[tuple[Statement, bool]]) -> None:
    """The parent has answered for these: it holds them (True), or will not have them. A newer version is not meant."""
    tx.db.executemany(
        "UPDATE statement SET up=? WHERE node=? AND day=? AND epoch=? AND n=?",
        [(1 if held else 2, str(s.node), s.day.isoformat(), s.version.epoch, s.version.n) for s, held in sent],
    )


def waiting_up(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM statement WHERE up=0").fetchone()[0])


# reconciling

_ENDED = "('collected','refused','expired','stopped')"
_DOCUMENTS = f"kind NOT IN ('{KIND_STATUS}','{KIND_NOTICE}')"


def deliveries(db: sqlite3.Connection, span: Span) -> Iterator[tuple[str, str, str, str, str]]:
    """(event, origin, envelope id, sender, recipient): what this node knows of deliveries of documents made in that time. Found by
    envelope id; what is still open is all looked at."""
    low, high = span.ids()
    db.execute("BEGIN")  # one moment of the store: what was ended is not open as well
    try:
        for event, origin, id_, organ, counterpart in db.execute(
            f"SELECT event,origin,id,organ,counterpart FROM ledger WHERE id>=? AND id<? AND {_DOCUMENTS} AND (event='sent' OR event IN {_ENDED})",
            (low, high),
        ):
            sender, recipient = (organ, counterpart) if event == "sent" else (counterpart, organ)
            if span.holds(sender, recipient):
                yield event, origin, id_, sender, recipient
        for held, origin, id_, sender, recipient in db.execute(
            "SELECT o.state='held',e.origin,e.id,e.sender,o.recipient FROM outbox o JOIN envelope e ON e.seq=o.envelope"
            f" WHERE e.id>=? AND e.id<? AND e.{_DOCUMENTS}",
            (low, high),
        ):
            if span.holds(sender, recipient):
                yield "held" if held else "moving", origin, id_, sender, recipient
        for state, origin, id_, sender, recipients in db.execute(
            "SELECT m.state,e.origin,e.id,e.sender,m.recipients FROM mailbox m JOIN envelope e ON e.seq=m.envelope"
            f" WHERE m.state NOT IN ('done','ended') AND e.id>=? AND e.id<? AND e.{_DOCUMENTS}",
            (low, high),
        ):
            for recipient in json.loads(recipients):
                if span.holds(sender, recipient):
                    yield "held" if state == "held" else "waiting", origin, id_, sender, recipient
    finally:
        db.execute("COMMIT")


def sums(db: sqlite3.Connection, span: Span) -> list[Sums]:
    return sliced(deliveries(db, span), span)


def facts(db: sqlite3.Connection, span: Span, node: OrgId) -> list[Fact]:
    return [Fact(origin, id_, sender, to, event, str(node)) for event, origin, id_, sender, to in deliveries(db, span)]


class SqliteNumbers:
    """What the reporter asks of the store: `ports.Numbers`."""

    def __init__(
        self, writer: Writer, ask: Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]], stamp: Callable[[], Stamp]
    ) -> None:
        self._writer = writer
        self._ask = ask
        self._stamp = stamp

    def countable(self) -> asyncio.Future[bool | None]:
        return self._writer.ask([COUNTABLE], to_count, stands=True)

    async def tail(self, limit: int, *, stocks: bool) -> Tail:
        on_trial = self._stamp().on_trial if stocks else None
        found: Tail = await self._ask(lambda db: tail(db, limit, on_trial))
        return found

    async def fold(self, counted: Fold) -> bool:
        return await self._writer.do(lambda tx: fold(tx, counted))

    async def to_state(self, node: OrgId, today: date) -> ToState:
        found: ToState = await self._ask(lambda db: to_state(db, node, today))
        return found

    async def draft(self, node: OrgId, day: date) -> Drafted:
        found: Drafted = await self._ask(lambda db: draft(db, node, day))
        return found

    async def state(self, signed: SignedStatement, times: int, chain: bytes) -> None:
        stamp = self._stamp()

        def work(tx: Transaction) -> None:
            put_chain(tx, signed.statement.key, chain)
            state(tx, signed, times, stamp)

        await self._writer.do(work)

    async def receive(
        self, came: Sequence[SignedStatement], refusals: Sequence[Refusal], chains: Mapping[str, bytes], via: OrgId
    ) -> list[Kept]:
        stamp = self._stamp()

        def work(tx: Transaction) -> list[Kept]:
            for digest in dict.fromkeys(each.statement.key for each in came):
                if digest in chains:
                    put_chain(tx, digest, chains[digest])
            for refusal in refusals:
                refuse(tx, refusal, via, stamp)
            return receive(tx, came, via, stamp)

        return await self._writer.do(work)

    async def note_overdue(self, before_ms: int, limit: int) -> int:
        stamp = self._stamp()
        return await self._writer.do(lambda tx: overdue(tx, before_ms, limit, stamp))

    async def drop_departed(self, node: OrgId, day: date) -> None:
        stamp = self._stamp()
        await self._writer.do(lambda tx: drop_departed(tx, node, day, stamp))

    async def outgoing(self, limit: int) -> list[tuple[bytes, bytes, str]]:
        found: list[tuple[bytes, bytes, str]] = await self._ask(lambda db: outgoing(db, limit))
        return found

    async def gone_up(self, sent: Sequence[tuple[Statement, bool]]) -> None:
        await self._writer.do(lambda tx: gone_up(tx, sent))

    async def waiting_up(self) -> int:
        found: int = await self._ask(waiting_up)
        return found

    async def found(self, spans: Sequence[str], first: date, last: date) -> Found:
        found: Found = await self._ask(lambda db: figures.found(db, spans, first, last))
        return found

    async def sums(self, span: Span) -> list[Sums]:
        found: list[Sums] = await self._ask(lambda db: sums(db, span))
        return found

    async def facts(self, span: Span, node: OrgId) -> list[Fact]:
        found: list[Fact] = await self._ask(lambda db: facts(db, span, node))
        return found

    async def heard(self, since: date) -> dict[OrgId, date]:
        found: dict[OrgId, date] = await self._ask(lambda db: figures.heard(db, since))
        return found

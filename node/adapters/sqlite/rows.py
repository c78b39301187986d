"""The rows every transaction shares: an envelope with its bodies, an outbox row, a mailbox item, a ledger row, an end.

Plain functions of a `Transaction`, called only inside the writer. Knows the tables of migration 0001 and core values.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from node.adapters.sqlite.writer import COUNTABLE, Stamp, Transaction, laid_before, towards
from node.core.counting import NOTHING_SAID, Said
from node.core.custody import ROW_BYTES, Arrival, EndOf, Homeward, LocalEnvelope, StoredBody
from node.core.envelope import KIND_DOCUMENT, KIND_STATUS, Envelope, Header, Hop
from node.core.evidence import Receipt, read_statement
from node.core.identifier import OrgId
from node.core.lifecycle import Transport, may_move
from node.core.package import Business
from node.core.routing import Forward

SEEN_AFTER_EXPIRY_MS = 90 * 86_400_000
SEEN_WITHOUT_EXPIRY_MS = 400 * 86_400_000
"""How long a key is remembered: longer than any copy can live, than a node may be away (decision 4), and than the receipt lasts
that is found by it (`retention.evidence_d`)."""


_LEDGER = (
    "INSERT INTO ledger (at_ms,bound_ms,synchronised,event,organ,counterpart,origin,id,kind,business,priority,reason,document,office,"
    "made_ms,type,paper,dated,signed,flaws,trial) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_LEDGER_OF_SENT = (
    "INSERT INTO ledger (at_ms,bound_ms,synchronised,event,organ,counterpart,origin,id,kind,business,priority,reason,made_ms,trial)"
    " SELECT ?1,?2,?3,?4,sender,?5,origin,id,kind,business,priority,?6,?7,"
    "coalesce((SELECT max(l.trial) FROM ledger l WHERE l.id=submission.id AND l.counterpart=?5 AND l.event='sent'),0)"
    " FROM submission WHERE envelope=?8"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a ledger row says beside its event. document: the row stands for the document itself, however many receivers. office:
    the organ whose office it is, "" for the row's own. made_ms: custody at the first node, 0 where it does not matter. said: what
    the package says of itself."""

    document: bool = False
    office: str = ""
    made_ms: int = 0
    dated: str = ""
    said: Said = NOTHING_SAID


NO_FACTS = Facts()


def hops_text(hops: Iterable[Hop]) -> str:
    """As JSON. A code needs no escapes."""
    return "[" + ", ".join([f'["{hop.node}", {hop.at_ms}, {hop.bound_ms}]' for hop in hops]) + "]"


def hops_value(text: str) -> tuple[Hop, ...]:
    return tuple(Hop(OrgId.canonical(code), at_ms, bound_ms) for code, at_ms, bound_ms in json.loads(text))


def ledger(
    tx: Transaction,
    stamp: Stamp,
    event: str,
    header: Header,
    organ: str,
    counterpart: str,
    reason: str = "",
    facts: Facts = NO_FACTS,
) -> None:
    """One countable event, in the transaction of the event (decision 12). # QĐ 28/2018 Điều 11

    What a unit sends or gets while it is connected on trial is in no figure: by the day its document was made. # Điều 21.1
    """
    tx.fed.add(COUNTABLE)
    tx.add(
        _LEDGER,
        (
            stamp.at_ms,
            stamp.bound_ms,
            int(stamp.synchronised),
            event,
            organ,
            counterpart,
            str(header.origin),
            header.id,
            header.kind,
            int(header.business),
            int(header.priority),
            reason,
            int(facts.document),
            facts.office if facts.office != organ else "",
            facts.made_ms,
            facts.said.type,
            facts.said.paper,
            facts.dated,
            facts.said.signed,
            None if facts.said.flaws is None else " ".join(facts.said.flaws),
            int(stamp.on_trial((organ, counterpart, facts.office), header.created_ms)),
        ),
    )


def office_of(header: Header, code: str) -> Facts:
    """Whose office receives for this code, where it is another's."""
    organs = (each.organ for each in header.recipients if each.organ != each.code and str(each.code) == code)
    return Facts(office=str(next(organs, "")))


def ledger_of_sent(
    tx: Transaction, stamp: Stamp, event: str, seq: int, counterpart: str, reason: str = "", made_ms: int = 0
) -> None:
    """The same, of something an office here has sent, of which the envelope may be gone by now."""
    tx.fed.add(COUNTABLE)
    about = (stamp.at_ms, stamp.bound_ms, int(stamp.synchronised), event, counterpart, reason, made_ms, seq)
    tx.add(_LEDGER_OF_SENT, about)


def arrived_event(header: Header) -> str:
    """Documents and statuses are counted apart. # QĐ 28/2018 Điều 11"""
    return "status-arrived" if header.kind == KIND_STATUS else "arrived"


def envelope_seq(tx: Transaction, origin: OrgId, id_: str) -> int | None:
    row = tx.db.execute("SELECT seq FROM envelope WHERE origin=? AND id=?", (str(origin), id_)).fetchone()
    return row[0] if row else None


_ENVELOPE = (
    "INSERT INTO envelope (seq,origin,id,digest,header,signature,certificate,kind,sender,lane,priority,doc_id,document_id,"
    "expires_ms,hops,came_from,taken_ms) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_BODY = "INSERT OR IGNORE INTO body (seq,digest,size,file,taken_ms,data) VALUES (?,?,?,?,?,?)"
_NAMED = "INSERT OR IGNORE INTO envelope_body VALUES (?,?)"
_PEER = "INSERT OR IGNORE INTO body_peer VALUES (?,?)"
_CHAIN = "INSERT OR IGNORE INTO certificate VALUES (?,?)"
_SEEN = "INSERT INTO seen VALUES (?,?,?,?,NULL,?,NULL) ON CONFLICT DO UPDATE SET handed_to=NULL,receipt=NULL"
_OUTBOX = (
    "INSERT OR IGNORE INTO outbox (envelope,recipient,neighbour,lane,sender,order_key,bytes,state,due_ms,since_ms,expires_ms,hops)"
    " VALUES (?,?,?,?,?,?,?,'waiting',?,?,?,{hops})"
)
_ITEM = (
    "INSERT INTO mailbox (envelope,organ,fetched_ms,recipients,kind,doc_id,lane,state,flag,since_ms,updated_ms,expires_ms)"
    " VALUES (?1,?2,{fetched},?3,?4,?5,?6,'initial',?7,?8,?9,?10)"
)
_ITEM_NEW = _ITEM.format(fetched="NULL")
_OUTBOX_NEW = _OUTBOX.format(hops="NULL")
_OUTBOX_MORE = _OUTBOX.format(hops="nullif(?,(SELECT hops FROM envelope WHERE seq=?1))")


def put_envelope(tx: Transaction, envelope: Envelope, came_from: OrgId | None, stamp: Stamp) -> int:
    """Insert the envelope, or open it again where a part of it came before. Returns its seq."""
    header = envelope.header
    seq = envelope_seq(tx, header.origin, header.id)
    if seq is not None:
        tx.db.execute("UPDATE envelope SET ended_ms=NULL WHERE seq=?", (seq,))
        return seq
    cursor = tx.db.execute(_ENVELOPE, _envelope_row(None, envelope, came_from, stamp))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _envelope_row(seq: int | None, envelope: Envelope, came_from: OrgId | None, stamp: Stamp) -> tuple[object, ...]:
    """seq None: the next one."""
    header = envelope.header
    return (
        seq,
        str(header.origin),
        header.id,
        envelope.digest,
        envelope.header_bytes,
        envelope.signature,
        header.key,
        header.kind,
        str(header.sender),
        int(header.lane),
        int(header.priority),
        header.doc_id,
        header.document_id,
        header.expires_ms,
        hops_text(envelope.hops),
        None if came_from is None else str(came_from),
        stamp.at_ms,
    )


def put_arriving(tx: Transaction, arrivals: Sequence[tuple[int, Arrival]], neighbour: OrgId, stamp: Stamp) -> None:
    """Rows for envelopes under these numbers, of which nothing is known here and all of which is taken."""
    db, came_from = tx.db, str(neighbour)
    db.executemany(_ENVELOPE, [_envelope_row(seq, arrival.envelope, neighbour, stamp) for seq, arrival in arrivals])
    db.executemany(_CHAIN, {each.envelope.header.key: each.chain for _, each in arrivals if each.chain is not None}.items())
    bodies = {body.sha256: body for _, arrival in arrivals for body in arrival.inline}
    numbers = _put_inline(tx, bodies, stamp)
    db.executemany(_NAMED, [(seq, numbers[ref.sha256]) for seq, arrival in arrivals for ref in arrival.envelope.header.bodies])
    db.executemany(_PEER, [(number, came_from) for number in numbers.values()])
    keys, waiting, items, boxed = [], [], [], []
    for seq, arrival in arrivals:
        envelope, header = arrival.envelope, arrival.envelope.header
        size = _whole_bytes(envelope) + sum({body.sha256: body.size for body in arrival.inline}.values())
        here: list[OrgId] = []
        for code, decision in arrival.judged.items():
            keys.append(_seen_row(envelope, code, stamp))
            if isinstance(decision, Forward):
                tx.queued(str(decision.neighbour), int(header.lane))
                tx.fed.add(towards(str(decision.neighbour)))
                waiting.append(_outbox_row(seq, envelope, code, decision.neighbour, size, stamp))
            else:
                here.append(code)
        if here:
            boxed.append((seq,))
            items += _new_items(tx, seq, arrival, here, stamp)
    db.executemany(_SEEN, keys)
    db.executemany(_OUTBOX_NEW, waiting)
    db.executemany("UPDATE envelope SET boxed=1 WHERE seq=?", boxed)
    db.executemany(_ITEM_NEW, items)


def _new_items(tx: Transaction, seq: int, arrival: Arrival, here: Sequence[OrgId], stamp: Stamp) -> list[tuple[object, ...]]:
    """What `put_mailbox` would lay down for these codes of an envelope of which nothing lies here yet: an item for each organ."""
    header = arrival.envelope.header
    organs = {recipient.code: recipient.organ for recipient in header.recipients}
    codes: dict[OrgId, list[str]] = {}
    for code in here:
        organ = organs[code]
        facts = Facts(organ not in codes, str(organ))
        ledger(tx, stamp, arrived_event(header), header, str(code), str(header.sender), "", facts)
        codes.setdefault(organ, []).append(str(code))
    tx.fed.update(laid_before(str(organ)) for organ in codes)
    tx.boxed(len(codes))
    return [
        (seq, str(organ), *_item_row(header, found, arrival.doc_ids.get(organ, header.doc_id), "", stamp))
        for organ, found in codes.items()
    ]


def _item_row(header: Header, codes: Sequence[str], doc_id: str, flag: str, stamp: Stamp) -> tuple[object, ...]:
    kind = KIND_STATUS if header.kind == KIND_STATUS else KIND_DOCUMENT
    return (json.dumps(codes), kind, doc_id, int(header.lane), flag, stamp.at_ms, stamp.at_ms, header.over_ms)


def _put_inline(tx: Transaction, bodies: Mapping[str, StoredBody], stamp: Stamp) -> dict[str, int]:
    """Insert those of these bodies, all with their bytes, that are new. Returns the numbers of all, by digest."""
    numbers = body_numbers(tx.db, bodies)
    new = [body for digest, body in bodies.items() if digest not in numbers]
    (last,) = tx.db.execute("SELECT coalesce(max(seq),0) FROM body").fetchone()
    numbers.update((body.sha256, number) for number, body in enumerate(new, last + 1))
    tx.db.executemany(_BODY, [_body_row(numbers[body.sha256], body, stamp) for body in new])
    return numbers


def _whole_bytes(envelope: Envelope) -> int:
    """What an envelope adds to a batch with its first recipient, beside its bodies."""
    return ROW_BYTES + len(envelope.header_bytes) + len(envelope.signature)


def body_numbers(db: sqlite3.Connection, digests: Iterable[str]) -> dict[str, int]:
    """The numbers of those bodies that are here, by digest."""
    return dict(
        db.execute("SELECT digest,seq FROM body WHERE digest IN (SELECT value FROM json_each(?))", (json.dumps([*digests]),))
    )


def _body_row(number: int | None, body: StoredBody, stamp: Stamp) -> tuple[object, ...]:
    """number None: the next one."""
    return (number, body.sha256, body.size, body.file, stamp.at_ms, body.data)


def put_body(tx: Transaction, body: StoredBody, stamp: Stamp) -> tuple[int, list[str]]:
    """Insert a body if it is new. Returns its number, and its file if nobody needs it, because the body was here before."""
    cursor = tx.db.execute(_BODY, _body_row(None, body, stamp))
    if cursor.rowcount:
        if body.file is not None:
            tx.filed(body.size)
        assert cursor.lastrowid is not None
        return cursor.lastrowid, []
    return body_numbers(tx.db, [body.sha256])[body.sha256], [] if body.file is None else [body.file]


def put_bodies(
    tx: Transaction, seq: int, header: Header, bodies: Iterable[StoredBody], stamp: Stamp
) -> tuple[list[int], list[str]]:
    """Insert the bodies that are new, tie all the header's to the envelope; returns their numbers, and files nobody needs."""
    numbers: dict[str, int] = {}
    orphans = []
    for body in bodies:
        numbers[body.sha256], unneeded = put_body(tx, body, stamp)
        orphans += unneeded
    if others := [ref.sha256 for ref in header.bodies if ref.sha256 not in numbers]:
        numbers.update(body_numbers(tx.db, others))
    named = [numbers[ref.sha256] for ref in header.bodies if ref.sha256 in numbers]
    tx.db.executemany(_NAMED, [(seq, number) for number in named])
    return named, orphans


def know_bodies(tx: Transaction, numbers: Iterable[int], neighbour: OrgId) -> None:
    """This neighbour has sent us, or was given by us, these bodies."""
    tx.db.executemany(_PEER, [(number, str(neighbour)) for number in numbers])


def put_chain(tx: Transaction, digest: str, chain: bytes) -> None:
    tx.db.execute(_CHAIN, (digest, chain))


def put_receipt(tx: Transaction, receipt: Receipt, stamp: Stamp) -> int:
    """Keep what a neighbour has signed, and its chain, by our own time: it is not the neighbour's to say how long. Returns its
    number."""
    said = read_statement(receipt.statement)
    put_chain(tx, said.key, receipt.chain)
    cursor = tx.db.execute(
        "INSERT INTO receipt (at_ms,key,statement,signature,leaves) VALUES (?,?,?,?,?)",
        (stamp.at_ms, said.key, receipt.statement, receipt.signature, receipt.leaves),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def remember(tx: Transaction, envelope: Envelope, recipient: OrgId, stamp: Stamp) -> None:
    """The key (origin, envelope id, recipient) is taken; if it came back, it is ours again."""
    tx.db.execute(_SEEN, _seen_row(envelope, recipient, stamp))


def _seen_row(envelope: Envelope, recipient: OrgId, stamp: Stamp) -> tuple[object, ...]:
    header = envelope.header
    until_ms = header.expires_ms + SEEN_AFTER_EXPIRY_MS if header.expires_ms else stamp.at_ms + SEEN_WITHOUT_EXPIRY_MS
    return (str(header.origin), header.id, str(recipient), envelope.digest, until_ms)


def order_key(header: Header, recipient: OrgId) -> str | None:
    """New, update, replace of one (sender, recipient, DocumentId) keep their order in one lane (decision 9)."""
    if header.kind != KIND_DOCUMENT or header.business is Business.RECALL or not header.document_id:
        return None
    return "\x1f".join((str(header.sender), str(recipient), str(int(header.lane)), header.document_id))


def put_outbox(
    tx: Transaction, seq: int, envelope: Envelope, recipient: OrgId, neighbour: OrgId, stamp: Stamp, due_ms: int = 0
) -> None:
    """due_ms: it waits until then (UTC ms); 0: it may go at once."""
    before = tx.db.execute("SELECT bytes FROM outbox WHERE envelope=? LIMIT 1", (seq,)).fetchone()
    if before is not None:
        size = before[0]
    else:
        (inline,) = tx.db.execute(
            "SELECT coalesce(sum(b.size),0) FROM envelope_body e JOIN body b ON b.seq=e.body WHERE e.envelope=? AND b.file IS NULL",
            (seq,),
        ).fetchone()
        size = _whole_bytes(envelope) + inline
    row = _outbox_row(seq, envelope, recipient, neighbour, size, stamp, due_ms)
    added = tx.db.execute(_OUTBOX_MORE, (*row, hops_text(envelope.hops))).rowcount
    tx.queued(str(neighbour), int(envelope.header.lane), added)
    tx.fed.add(towards(str(neighbour)))


def _outbox_row(
    seq: int, envelope: Envelope, recipient: OrgId, neighbour: OrgId, size: int, stamp: Stamp, due_ms: int = 0
) -> tuple[object, ...]:
    header = envelope.header
    return (
        seq,
        str(recipient),
        str(neighbour),
        int(header.lane),
        str(header.sender),
        order_key(header, recipient),
        size,
        due_ms,
        stamp.at_ms,
        header.over_ms,
    )


def put_mailbox(
    tx: Transaction, seq: int, header: Header, organ: OrgId, recipient: OrgId, doc_id: str, flag: str, stamp: Stamp
) -> None:
    """Lay the envelope before the office of organ, for the addressed code recipient, and count it. # QĐ 28/2018 Điều 7.3, 21.2

    One item for all the codes it receives for; what comes after that item has ended is another, so that nothing ends twice. Its
    content the office has by then: it need not fetch it again to confirm.
    """
    tx.fed.add(laid_before(str(organ)))
    row = tx.db.execute(
        "SELECT item, recipients FROM mailbox WHERE envelope=? AND organ=? AND state NOT IN ('done','ended')", (seq, str(organ))
    ).fetchone()
    before = row is not None or tx.db.execute("SELECT 1 FROM mailbox WHERE envelope=? AND organ=?", (seq, str(organ))).fetchone()
    ledger(tx, stamp, arrived_event(header), header, str(recipient), str(header.sender), "", Facts(not before, str(organ)))
    if row is not None:
        codes = dict.fromkeys((*json.loads(row[1]), str(recipient)))
        tx.db.execute("UPDATE mailbox SET recipients=? WHERE item=?", (json.dumps(list(codes)), row[0]))
        return
    tx.boxed()
    tx.db.execute("UPDATE envelope SET boxed=1 WHERE seq=?", (seq,))
    tx.db.execute(
        _ITEM.format(fetched="(SELECT max(fetched_ms) FROM mailbox WHERE envelope=?1 AND organ=?2 AND state='done')"),
        (seq, str(organ), *_item_row(header, [str(recipient)], doc_id, flag, stamp)),
    )


def put_local(tx: Transaction, local: LocalEnvelope, stamp: Stamp) -> tuple[int, list[str]]:
    """An envelope made here: rows for every route. Returns its seq and files nobody needs."""
    envelope = local.envelope
    header = envelope.header
    seq = put_envelope(tx, envelope, None, stamp)
    _, orphans = put_bodies(tx, seq, header, local.bodies, stamp)
    put_chain(tx, header.key, local.chain)
    organs = {recipient.code: recipient.organ for recipient in header.recipients}
    for code, neighbour in local.routes.items():
        remember(tx, envelope, code, stamp)
        if neighbour is None:
            put_mailbox(tx, seq, header, organs[code], code, local.doc_ids.get(organs[code], header.doc_id), "", stamp)
        else:
            put_outbox(tx, seq, envelope, code, neighbour, stamp, local.due_ms)
    return seq, orphans


def put_leaving(tx: Transaction, made: Sequence[tuple[int, LocalEnvelope]], stamp: Stamp) -> None:
    """`put_local` for many under these numbers, all of which go to neighbours, with contents that are in rows."""
    db = tx.db
    db.executemany(_ENVELOPE, [_envelope_row(seq, local.envelope, None, stamp) for seq, local in made])
    db.executemany(_CHAIN, {local.envelope.header.key: local.chain for _, local in made}.items())
    numbers = _put_inline(tx, {body.sha256: body for _, local in made for body in local.bodies}, stamp)
    db.executemany(_NAMED, [(seq, numbers[ref.sha256]) for seq, local in made for ref in local.envelope.header.bodies])
    keys, waiting = [], []
    for seq, local in made:
        size = _whole_bytes(local.envelope) + sum({body.sha256: body.size for body in local.bodies}.values())
        for code, neighbour in local.routes.items():
            assert neighbour is not None
            tx.queued(str(neighbour), int(local.envelope.header.lane))
            tx.fed.add(towards(str(neighbour)))
            keys.append(_seen_row(local.envelope, code, stamp))
            waiting.append(_outbox_row(seq, local.envelope, code, neighbour, size, stamp))
    db.executemany(_SEEN, keys)
    db.executemany(_OUTBOX_NEW, waiting)


def close_if_done(tx: Transaction, seqs: Iterable[int], stamp: Stamp) -> None:
    """Mark those envelopes ended of which no outbox row, open mailbox item or open delivery is left."""
    tx.db.execute(
        "UPDATE envelope SET ended_ms=? WHERE seq IN (SELECT value FROM json_each(?)) AND ended_ms IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.envelope=envelope.seq)"
        " AND NOT EXISTS (SELECT 1 FROM mailbox m WHERE m.envelope=envelope.seq AND m.state NOT IN ('done','ended'))"
        # A status has no verdict to wait for: it is done when handed over.
        " AND NOT EXISTS (SELECT 1 FROM delivery d JOIN submission s ON s.envelope=d.envelope WHERE d.envelope=envelope.seq"
        " AND s.kind<>'status' AND d.state IN ('queued','moving','in-mailbox','held'))",
        (stamp.at_ms, json.dumps([*seqs])),
    )


def move_deliveries(
    tx: Transaction, which: Iterable[tuple[int, str]], to: Transport, stamp: Stamp, reason: str | None = None
) -> None:
    """Change the transport state of deliveries, (envelope, recipient) each, where the table of moves allows it; and their reason,
    where one is said."""
    before = [state.value for state in Transport if may_move(state, to)]
    tx.db.executemany(
        "UPDATE delivery SET state=?,updated_ms=?,reason=coalesce(?,reason) WHERE envelope=? AND recipient=?"
        f" AND state IN ({','.join('?' * len(before))})",
        [(to.value, stamp.at_ms, reason, seq, recipient, *before) for seq, recipient in which],
    )


def apply_notice(tx: Transaction, arrival: Arrival, stamp: Stamp) -> None:
    """The ends that a notice tells become known; it is kept with those that are news: its signature proves them."""
    envelope = arrival.envelope
    cursor = tx.db.execute(
        "INSERT INTO notice (at_ms,header,signature,body) VALUES (?,?,?,?)",
        (stamp.at_ms, envelope.header_bytes, envelope.signature, arrival.content),
    )
    if not apply_ends(tx, arrival.ends, arrival.returns, stamp, cursor.lastrowid):
        tx.db.execute("DELETE FROM notice WHERE seq=?", (cursor.lastrowid,))


Delivery = tuple[str, str, OrgId]
"""Origin, envelope id, recipient."""


def apply_ends(
    tx: Transaction, ends: Iterable[EndOf], returns: Mapping[Delivery, LocalEnvelope], stamp: Stamp, notice: int | None = None
) -> int:
    """Ends become known at the origin: each once. Returns how many deliveries moved; a 02 of `returns` is laid down only then.
    notice: the number of the one that tells them; None: they ended here."""
    told = [((str(each.origin), each.id, each.recipient), each.end) for each in ends]
    standing = _standing(tx, [key for key, _ in told])
    moves: dict[Delivery, tuple[object, ...]] = {}
    for key, end in told:
        seq, state = standing.get(key, (0, None))
        moved = state is not None and key not in moves and may_move(state, end.state)
        code, reason = str(key[2]), end.reason.value if end.reason is not None else ""
        event = end.state.value if moved else "notice"
        tx.journal(stamp, event, envelope=key[1], recipient=code, reason=reason, detail=f"at={end.at_ms}")
        if not moved:
            continue
        collected_ms = end.at_ms if end.state is Transport.COLLECTED else 0
        moves[key] = (end.state.value, stamp.at_ms, reason, end.receiver_doc_id, collected_ms, notice, seq, code)
        ledger_of_sent(tx, stamp, f"known-{end.state.value}", seq, code, reason)
        returned = returns.get(key)
        if returned is not None and end.state is not Transport.COLLECTED:
            put_local(tx, returned, stamp)
    tx.db.executemany(
        "UPDATE delivery SET state=?,updated_ms=?,reason=?,receiver_doc_id=?,collected_ms=?,notice=? WHERE envelope=? AND recipient=?",
        moves.values(),
    )
    close_if_done(tx, {standing[key][0]: None for key in moves}, stamp)
    return len(moves)


def _standing(tx: Transaction, keys: Sequence[Delivery]) -> dict[Delivery, tuple[int, Transport]]:
    """The envelope's number and the transport state of those deliveries that began here."""
    texts = {(origin, id_, str(code)): (origin, id_, code) for origin, id_, code in keys}
    found = tx.db.execute(
        "SELECT s.origin,s.id,d.recipient,s.envelope,d.state FROM json_each(?) k"
        " JOIN submission s ON s.origin=k.value->>0 AND s.id=k.value->>1"
        " JOIN delivery d ON d.envelope=s.envelope AND d.recipient=k.value->>2",
        (json.dumps([*texts]),),
    )
    return {texts[origin, id_, code]: (seq, Transport(state)) for origin, id_, code, seq, state in found}


def send_home(tx: Transaction, homeward: Homeward, stamp: Stamp) -> None:
    """Tell the origin of an end, exactly once: in the transaction in which the delivery ends."""
    if homeward.notice is not None:
        put_local(tx, homeward.notice, stamp)
        return
    returns = {(str(each.origin), each.id, each.recipient): homeward.returned.get(each.recipient) for each in homeward.ends}
    apply_ends(tx, homeward.ends, {key: local for key, local in returns.items() if local is not None}, stamp)

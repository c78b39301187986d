"""Transactions and queries of the outbox: what may be offered to a neighbour, what is being offered, what became of it.

Called only inside the writer. Whatever changes a row so that one more may be offered feeds its neighbour.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from node.adapters.sqlite import rows
from node.adapters.sqlite.writer import Look, Stamp, Transaction, towards
from node.core.custody import ROW_BYTES, Candidate, Expired, Homeward, Offered, Settled, Settlement, Stray, Window
from node.core.envelope import KIND_DOCUMENT, BodyRef, Lane, decode_header
from node.core.errors import Refused
from node.core.forwarding import Ask, Offer
from node.core.identifier import OrgId
from node.core.lifecycle import Transport

_CANDIDATE = "SELECT o.item,o.envelope,o.sender,o.bytes,o.lane FROM outbox o"
DUE_FURTHEST_MS = 3_600_000
"""The longest wait that can be configured. A due time further off was written by a clock that was wrong: it means now
(decision 11)."""

UNREADABLE = "internal"
"""Why a row is held that is no longer as this program wrote it."""

_ELDERS = (
    "(o.order_key IS NULL OR NOT EXISTS"
    " (SELECT 1 FROM outbox p WHERE p.order_key=o.order_key AND p.neighbour=o.neighbour AND p.item<o.item AND p.state<>'held'))"
)
_OF_LANE = "o.neighbour=?1 AND o.lane={lane} AND o.state<>'held'"
_READY = f"{_CANDIDATE} WHERE {_OF_LANE} AND o.due_ms=0 AND {_ELDERS}"
"""What never had to wait, or need not any more; in the order of `item`."""
_DUE = f"{_CANDIDATE} WHERE {_OF_LANE} AND o.due_ms>0 AND o.due_ms<=?2 AND {_ELDERS}"
_MISDATED = f"{_CANDIDATE} WHERE {_OF_LANE} AND o.due_ms>0 AND o.due_ms>?3 AND {_ELDERS}"
_WAITED = f"{_DUE} UNION ALL {_MISDATED}"
"""What had to wait and is due; what is due first stands first."""
_GLANCE = 16
_OLDEST = " UNION ALL ".join(
    f"SELECT * FROM ({statement.format(lane=int(lane))} LIMIT {_GLANCE})"
    for lane in Lane
    for statement in (f"{_READY} ORDER BY o.item", f"{_DUE} ORDER BY o.due_ms", _MISDATED)
)
"""All lanes in one statement: most looks find little, and a statement costs more than the step in the index that shows it."""
SENDERS_MAX = 64
"""Of the senders that wait behind another one's rows, so many are given a share of one batch."""
STEPS_MAX = 512
"""So many senders are looked at for that; the next batch goes on behind the last."""


def next_offer(tx: Transaction, neighbour: str, ask: Ask) -> Look[Offer]:
    """Cut the next batch for a neighbour and mark it as offered; or say when a row that is not due yet will be."""
    window = candidates(tx.db, neighbour, tx.stamp.at_ms, bytes_max=ask.bytes_max, rows_max=ask.rows_max, after=ask.looked)
    chosen, turn = ask.cut(window)
    if not chosen:
        return Look(due_ms=next_due(tx.db, neighbour, tx.stamp.at_ms))
    offered = offer(tx, neighbour, [row.item for row in chosen])
    aside = len(chosen) - len(offered)
    digests = dict.fromkeys(ref.sha256 for row in offered for ref in row.bodies)
    unknown = dict.fromkeys(row.certificate for row in offered if row.certificate not in ask.chains)
    found = chains(tx.db, unknown) if unknown else {}
    bodies = inline_bodies(tx.db, neighbour, digests, tx.read)
    return Look(Offer(offered, bodies, found, turn, {**ask.looked, **window.looked}, aside))


def candidates(
    db: sqlite3.Connection, neighbour: str, now_ms: int, *, bytes_max: int, rows_max: int, after: Mapping[Lane, str]
) -> Window:
    """The oldest rows of each lane that may be offered now, as many as a batch of so many bytes and rows can hold; lanes without
    any are left out. A row whose elder of the same document is on the road waits for it; a held elder releases its successors
    (decision 9). Where the oldest fill the batch, the eldest of other senders stand beside them: those behind `after`, the one
    that was looked at last.

    What is ready behind them costs nothing, nor what is not due yet; rows at the head that wait for an elder are walked over.
    """
    values = (neighbour, now_ms, now_ms + DUE_FURTHEST_MS)
    found: dict[Lane, list[Candidate]] = {}
    looked: dict[Lane, str] = {}
    for row in db.execute(_OLDEST, values).fetchall():
        candidate = _candidate(row)
        found.setdefault(candidate.lane, []).append(candidate)
    for lane, seen in found.items():
        if len(seen) < _GLANCE:
            seen.sort(key=_item)
            continue
        ready = _READY.format(lane=int(lane))
        waited, _ = _up_to(db.execute(_WAITED.format(lane=int(lane)), values), bytes_max, rows_max)
        first = db.execute(f"{ready} ORDER BY o.item", (neighbour,))
        found[lane], more = _up_to(first, bytes_max, rows_max, sorted(waited, key=_item))
        if more:
            present = {row.sender for row in found[lane]}
            others, looked[lane] = _others(db, neighbour, lane, present, after.get(lane, ""))
            number = max(1, min(SENDERS_MAX, len(others)))
            shares = [
                _up_to(
                    db.execute(f"{ready} AND o.sender=?2 ORDER BY o.item", (neighbour, sender)),
                    bytes_max // number,
                    rows_max // number,
                )[0]
                for sender in others
            ]
            found[lane] += [row for share in [each for each in shares if each][:SENDERS_MAX] for row in share]
    return Window(found, looked)


def _item(candidate: Candidate) -> int:
    return candidate.item


def _up_to(
    cursor: Iterable[tuple[int, int, str, int, int]], bytes_max: int, rows_max: int, others: Sequence[Candidate] = ()
) -> tuple[list[Candidate], bool]:
    """Rows until they are so many, or so many bytes, but no envelope in parts: its header crosses a link once (decision 7). Then
    whether there are more; the rest is not read. others: candidates to stand among them in the order of `item`, which is then
    the cursor's as well."""
    rows_in_turn = map(_candidate, cursor)
    found: list[Candidate] = []
    total = 0
    for candidate in heapq.merge(others, rows_in_turn, key=_item) if others else rows_in_turn:
        same = bool(found) and found[-1].envelope == candidate.envelope
        if found and not same and (total >= bytes_max or len(found) >= rows_max):
            return found, True
        found.append(candidate)
        total += ROW_BYTES if same else candidate.bytes
    return found, False


def _others(db: sqlite3.Connection, neighbour: str, lane: Lane, present: Collection[str], after: str) -> tuple[list[str], str]:
    """Senders with a row in this lane that are not present, those behind `after` in the order of their codes first, then from the
    first on; and the last one looked at. One step in the index each, whatever the number of rows."""
    of_lane = "FROM outbox WHERE neighbour=?1 AND lane=?2 AND state<>'held' AND due_ms=0"
    walk = (
        f"WITH RECURSIVE step(sender) AS (SELECT min(sender) {of_lane} AND sender{{than}}?3 UNION ALL"
        f" SELECT (SELECT min(sender) {of_lane} AND sender>step.sender) FROM step WHERE step.sender IS NOT NULL)"
        " SELECT sender FROM step WHERE sender IS NOT NULL LIMIT ?4"
    )
    behind = [sender for (sender,) in db.execute(walk.format(than=">"), (neighbour, int(lane), after, STEPS_MAX))]
    # The hub's own code is empty: from the first on is from there.
    first = db.execute(walk.format(than=">="), (neighbour, int(lane), "", STEPS_MAX - len(behind)))
    ring = list(dict.fromkeys((*behind, *(sender for (sender,) in first))))
    chosen = [sender for sender in ring if sender not in present][:SENDERS_MAX]
    return chosen, chosen[-1] if len(chosen) == SENDERS_MAX else ring[-1] if ring else ""


def _candidate(row: tuple[int, int, str, int, int]) -> Candidate:
    item, envelope, sender, size, lane = row
    return Candidate(item, envelope, Lane(lane), sender, size)


def next_due(db: sqlite3.Connection, neighbour: str, after_ms: int) -> int | None:
    """When the next row that was not yet due at after_ms becomes so (UTC ms); None when there is none."""
    (due_ms,) = db.execute(_NEXT_DUE, (neighbour, after_ms)).fetchone()
    return due_ms if isinstance(due_ms, int) else None


_NEXT_DUE = "SELECT min(due_ms) FROM ({})".format(
    " UNION ALL ".join(
        f"SELECT min(due_ms) AS due_ms FROM outbox o WHERE {_OF_LANE.format(lane=int(lane))} AND o.due_ms>0 AND o.due_ms>?2"
        for lane in Lane
    )
)


_LISTED = "(SELECT value FROM json_each(?))"
"""The values of a list, in one parameter: one statement however many they are."""


def offer(tx: Transaction, neighbour: str, items: Sequence[int]) -> list[Offered]:
    """Mark rows as offered, durably, before a byte of them leaves (decision 6)."""
    listed = json.dumps(items)
    waiting = {
        row[0]: row
        for row in tx.db.execute(
            "SELECT item,recipient,attempts,lane,in_doubt,chokes,hops,envelope,state FROM outbox"
            f" WHERE item IN {_LISTED} AND +neighbour=? AND state<>'held'",  # by item, not through all that waits
            (listed, neighbour),
        )
    }
    envelopes = _offered_envelopes(tx.db, {row[7] for row in waiting.values()})
    found = []
    for item in items:
        if item not in waiting:
            continue
        row = waiting[item]
        try:
            found.append(_offered(item, row, envelopes[row[7]]))
        except (Refused, ValueError, TypeError):  # not as this program writes rows: a person looks, and the others go on
            hold(tx, item, UNREADABLE, tx.stamp)
            del waiting[item]
    # Apart, because a column that is set is taken out of its indexes and put back, even where it stays what it was.
    tx.db.executemany("UPDATE outbox SET in_doubt=1 WHERE item=?", [(row.item,) for row in found if not row.in_doubt])
    asked = [(item,) for item, row in waiting.items() if row[8] == "body"]
    tx.db.executemany("UPDATE outbox SET state='waiting' WHERE item=?", asked)
    return found


_Row = tuple[int, str, int, int, int, int, str | None, int, str]
_Sealed = tuple[str, str, bytes, bytes, str, str, tuple[BodyRef, ...]]


def _offered(item: int, row: _Row, envelope: _Sealed) -> Offered:
    _, recipient, attempts, lane, in_doubt, chokes, own_hops, _, _ = row
    origin, id_, header, signature, certificate, hops, bodies = envelope
    return Offered(
        item,
        OrgId.canonical(recipient),
        OrgId.canonical(origin),
        id_,
        header,
        signature,
        certificate,
        rows.hops_value(own_hops or hops),
        attempts,
        bodies,
        Lane(lane),
        bool(in_doubt),
        chokes,
    )


def _offered_envelopes(db: sqlite3.Connection, seqs: Collection[int]) -> dict[int, _Sealed]:
    """By seq, each once for all its recipients: a country-wide header is large."""
    listed = json.dumps(list(seqs))
    bodies: dict[int, list[BodyRef]] = {}
    for seq, digest, size in db.execute(
        f"SELECT e.envelope,b.digest,b.size FROM envelope_body e JOIN body b ON b.seq=e.body WHERE e.envelope IN {_LISTED}",
        (listed,),
    ):
        bodies.setdefault(seq, []).append(BodyRef(digest, size))
    return {
        seq: (origin, id_, bytes(header), bytes(signature), certificate, hops, tuple(bodies.get(seq, ())))
        for seq, origin, id_, header, signature, certificate, hops in db.execute(
            f"SELECT seq,origin,id,header,signature,certificate,hops FROM envelope WHERE seq IN {_LISTED}", (listed,)
        )
    }


def inline_bodies(
    db: sqlite3.Connection, neighbour: str, digests: Iterable[str], read: dict[str, bytes] | None = None
) -> dict[str, bytes]:
    """The small bodies among digests that this neighbour was not yet given nor has sent us. read: those read already, by digest;
    takes on the others."""
    known = {} if read is None else read
    listed = list(digests)
    column = "NULL" if known.keys() >= set(listed) else "b.data"
    found = db.execute(
        f"SELECT b.digest,{column} FROM body b WHERE b.digest IN {_LISTED} AND b.data IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM body_peer p WHERE p.body=b.seq AND p.neighbour=?)",
        (json.dumps(listed), neighbour),
    )
    data = {digest: known[digest] if digest in known else known.setdefault(digest, bytes(value)) for digest, value in found}
    return {digest: data[digest] for digest in listed if digest in data}


def chains(db: sqlite3.Connection, digests: Iterable[str]) -> dict[str, bytes]:
    """Certificate chains (PEM) by digest of the leaf."""
    found = {}
    for digest in digests:
        row = db.execute("SELECT chain FROM certificate WHERE digest=?", (digest,)).fetchone()
        if row is not None:
            found[digest] = bytes(row[0])
    return found


def settle(tx: Transaction, neighbour: str, settlements: Sequence[Settlement], stamp: Stamp) -> None:
    """Record what became of offered rows. A row that has another way meanwhile is settled by the new neighbour's word, unless
    this one has taken it."""
    offered = {
        row[0]: row[1:]
        for row in tx.db.execute(
            "SELECT o.item,o.envelope,o.recipient,e.origin,e.id,CASE o.state WHEN 'held' THEN NULL ELSE o.lane END,o.neighbour"
            f" FROM outbox o JOIN envelope e ON e.seq=o.envelope WHERE o.item IN {_LISTED}",
            (json.dumps([settlement.item for settlement in settlements]),),
        )
    }
    there = [settlement for settlement in settlements if settlement.item in offered]
    taken = {settlement.item: offered[settlement.item] for settlement in there if settlement.settled is Settled.TAKEN}
    if taken:
        receipt = next((each.receipt for each in there if each.receipt is not None), None)
        _handed_over(tx, neighbour, taken, rows.put_receipt(tx, receipt, stamp) if receipt is not None else None, stamp)
    for settlement in there:
        if settlement.settled is not Settled.TAKEN and offered[settlement.item][-1] == neighbour:
            _settle_one(tx, neighbour, settlement, stamp)


def _handed_over(
    tx: Transaction,
    neighbour: str,
    taken: Mapping[int, tuple[int, str, str, str, int | None, str]],
    receipt: int | None,
    stamp: Stamp,
) -> None:
    """The neighbour has custody of these: item -> (envelope, recipient, origin, id, lane, None of what is held, whose row it is
    now). A statement for all of them each. receipt: number of what it has signed for them."""
    db = tx.db
    seqs = list(dict.fromkeys(seq for seq, *_ in taken.values()))
    for (lane, waited_for), number in Counter((lane, whose) for *_, lane, whose in taken.values()).items():
        if lane is not None:
            tx.queued(waited_for, lane, -number)
    db.executemany("DELETE FROM outbox WHERE item=?", [(item,) for item in taken])
    db.executemany(
        "UPDATE seen SET handed_to=?,receipt=? WHERE origin=? AND id=? AND recipient=?",
        [(neighbour, receipt, origin, id_, recipient) for _, recipient, origin, id_, _, _ in taken.values()],
    )
    db.execute(
        f"INSERT OR IGNORE INTO body_peer SELECT body,? FROM envelope_body WHERE envelope IN {_LISTED}",
        (neighbour, json.dumps(seqs)),
    )
    for _, recipient, _, id_, _, _ in taken.values():
        tx.journal(stamp, "handed-over", envelope=id_, recipient=recipient, neighbour=neighbour)
    own = ((seq, recipient) for seq, recipient, *_ in taken.values())
    rows.move_deliveries(tx, own, Transport.MOVING, stamp)
    rows.close_if_done(tx, seqs, stamp)


def _settle_one(tx: Transaction, neighbour: str, settlement: Settlement, stamp: Stamp) -> None:
    item = settlement.item
    due_ms = settlement.due_ms if settlement.due_ms > stamp.at_ms else 0
    reason = settlement.reason.value if settlement.reason is not None else ""
    db = tx.db
    match settlement.settled:
        case Settled.TAKEN:
            raise AssertionError("settled together with the others")
        case Settled.LATER:
            db.execute(
                "UPDATE outbox SET in_doubt=0,attempts=attempts+1,chokes=chokes+?,due_ms=?,reason=? WHERE item=? AND state<>'held'",
                (int(settlement.choked), due_ms, reason, item),
            )
        case Settled.IN_DOUBT:
            db.execute("UPDATE outbox SET in_doubt=1,due_ms=?,reason=? WHERE item=?", (due_ms, reason, item))
        case Settled.UNSENT | Settled.CHOKED:
            db.execute(
                "UPDATE outbox SET in_doubt=?1,attempts=attempts+?2,chokes=chokes+?2,due_ms=?3,reason=?4 WHERE item=?5 AND state<>'held'",
                (int(settlement.was_in_doubt), int(settlement.settled is Settled.CHOKED), due_ms, reason, item),
            )
        case Settled.REROUTED:
            assert settlement.neighbour is not None
            db.execute(
                "UPDATE outbox SET in_doubt=0 WHERE item=? AND state<>'held'", (item,)
            )  # it has answered that it has it not
            reroute(tx, item, settlement.neighbour, stamp)
        case Settled.BODY:
            db.executemany(
                "DELETE FROM body_peer WHERE body=? AND neighbour=?",
                [(number, neighbour) for number in rows.body_numbers(db, settlement.need).values()],
            )
            if _any_file(db, settlement.need):
                db.execute(
                    "UPDATE outbox SET state='body',in_doubt=0,due_ms=?,reason='' WHERE item=? AND state<>'held'",
                    (due_ms, item),
                )
            else:  # the next offer carries it; asked for again and again, it waits longer each time
                db.execute(
                    "UPDATE outbox SET state='waiting',in_doubt=0,due_ms=CASE attempts WHEN 0 THEN 0 ELSE ?+(100<<min(attempts,11)) END,"
                    "attempts=attempts+1,reason='' WHERE item=? AND state<>'held'",
                    (stamp.at_ms, item),
                )
        case Settled.HELD:
            hold(tx, item, reason, stamp)
            db.execute("UPDATE outbox SET in_doubt=? WHERE item=?", (int(settlement.was_in_doubt), item))
        case Settled.ENDED:
            assert settlement.home is not None
            end(tx, item, settlement.home, stamp)


def _any_file(db: sqlite3.Connection, digests: Sequence[str]) -> bool:
    return any(db.execute("SELECT 1 FROM body WHERE digest=? AND file IS NOT NULL", (digest,)).fetchone() for digest in digests)


def reroute(tx: Transaction, item: int, neighbour: OrgId, stamp: Stamp) -> None:
    """Another neighbour is the way now (a unit moved, a directory caught up). A copy in doubt stays so until the new one
    answers."""
    row = tx.db.execute(
        "SELECT e.id,o.recipient,o.neighbour,o.lane FROM outbox o JOIN envelope e ON e.seq=o.envelope WHERE o.item=? AND o.state<>'held'",
        (item,),
    ).fetchone()
    if row is None:
        return
    tx.queued(row[2], row[3], -1)
    tx.queued(str(neighbour), row[3])
    tx.db.execute(
        "UPDATE outbox SET neighbour=?,state='waiting',due_ms=0,reason='' WHERE item=?",
        (str(neighbour), item),
    )
    tx.fed.add(towards(str(neighbour)))
    tx.journal(stamp, "queued", envelope=row[0], recipient=row[1], neighbour=str(neighbour))


def astray(db: sqlite3.Connection, known: Sequence[str], limit: int) -> list[Stray]:
    """Rows for a neighbour this node does not have (any more), but for those that are held."""
    marks = ",".join("?" * len(known))
    found: list[tuple[int, bytes, str, str, int]] = []
    for when in ("due_ms=0", "due_ms>0"):
        waiting = f"FROM outbox WHERE state<>'held' AND {when}"
        found += db.execute(
            f"WITH RECURSIVE each(code) AS (SELECT min(neighbour) {waiting} UNION ALL"  # from one neighbour to the next, by index
            f" SELECT (SELECT min(neighbour) {waiting} AND neighbour>each.code) FROM each WHERE each.code IS NOT NULL)"
            " SELECT o.item,e.header,o.recipient,o.neighbour,o.in_doubt FROM outbox o JOIN envelope e ON e.seq=o.envelope"
            f" WHERE o.neighbour IN (SELECT code FROM each WHERE code NOT IN ({marks})) AND o.state<>'held' AND o.{when} LIMIT ?",
            (*known, limit),
        ).fetchall()
    return [
        Stray(item, decode_header(bytes(header)), OrgId.canonical(recipient), OrgId.canonical(neighbour), bool(in_doubt))
        for item, header, recipient, neighbour, in_doubt in found[:limit]
    ]


def hold(tx: Transaction, item: int, reason: str, stamp: Stamp) -> bool:
    """Put an outbox row aside for a person; it blocks nobody."""
    row = tx.db.execute(
        "SELECT o.envelope,o.recipient,o.neighbour,e.id,e.header,o.lane FROM outbox o JOIN envelope e ON e.seq=o.envelope"
        " WHERE o.item=? AND o.state<>'held'",
        (item,),
    ).fetchone()
    if row is None:
        return False
    seq, recipient, neighbour, id_, header, lane = row
    tx.queued(neighbour, lane, -1)
    tx.db.execute("UPDATE outbox SET state='held',reason=?,attempts=attempts+1 WHERE item=?", (reason, item))
    tx.fed.add(towards(neighbour))  # a held elder releases its successors (decision 9)
    tx.journal(stamp, "held", envelope=id_, recipient=recipient, neighbour=neighbour, reason=reason)
    try:
        sealed = decode_header(bytes(header))
        rows.ledger(tx, stamp, "held", sealed, recipient, str(sealed.sender), reason)
    except Refused:  # no longer a header: the journal has it, and nobody can say under what to count it
        tx.journal(stamp, "not-counted", envelope=id_, recipient=recipient, reason=UNREADABLE)
    rows.move_deliveries(tx, [(seq, recipient)], Transport.HELD, stamp, reason)
    return True


def end(tx: Transaction, item: int, home: Homeward, stamp: Stamp) -> None:
    """A delivery ends here without being handed on: refused by a node, expired, or dropped by a person. One notice home."""
    row = tx.db.execute(
        "SELECT o.envelope,o.recipient,o.neighbour,e.id,e.header,o.lane,o.state FROM outbox o JOIN envelope e ON e.seq=o.envelope"
        " WHERE o.item=?",
        (item,),
    ).fetchone()
    if row is None:
        return
    seq, recipient, neighbour, id_, header, lane, state = row
    if state != "held":
        tx.queued(neighbour, lane, -1)
    tx.db.execute("DELETE FROM outbox WHERE item=?", (item,))
    tx.fed.add(towards(neighbour))  # so does one that ends
    ended = home.end
    reason = ended.reason.value if ended.reason is not None else ""
    tx.journal(stamp, ended.state.value, envelope=id_, recipient=recipient, neighbour=neighbour, reason=reason)
    sealed = decode_header(bytes(header))
    rows.ledger(tx, stamp, ended.state.value, sealed, recipient, str(sealed.sender), reason, rows.office_of(sealed, recipient))
    rows.send_home(tx, home, stamp)
    rows.close_if_done(tx, [seq], stamp)


def body_crossed(tx: Transaction, neighbour: str, digest: str) -> None:
    """The neighbour has all bytes of this body: rows that waited for it are due."""
    tx.db.execute(
        "UPDATE outbox SET state='waiting',due_ms=0 WHERE +neighbour=? AND +state='body' AND envelope IN"  # by the body
        " (SELECT e.envelope FROM envelope_body e JOIN body b ON b.seq=e.body WHERE b.digest=?)",
        (neighbour, digest),
    )
    tx.fed.add(towards(neighbour))


def hold_body(tx: Transaction, neighbour: str, digest: str, reason: str, stamp: Stamp) -> int:
    """Put aside what cannot cross because its body cannot; returns how many rows. A damaged copy is never delivered."""
    items = tx.db.execute(
        "SELECT o.item FROM body b JOIN envelope_body e ON e.body=b.seq JOIN outbox o ON o.envelope=e.envelope"
        " WHERE +o.neighbour=? AND b.digest=? AND o.state<>'held'",
        (neighbour, digest),
    ).fetchall()
    return sum(hold(tx, item, reason, stamp) for (item,) in items)


def session_began(tx: Transaction, neighbour: str, limit: int) -> int:
    """A neighbour (or this node) has started anew: what waited for a body or a pause is offered again at once. A body that was
    under way counts as an attempt: the neighbour may hold a part of it. Returns how many rows that were; as many as limit: there
    may be more."""
    changed = tx.db.execute(
        "UPDATE outbox SET state='waiting',attempts=max(attempts,state='body'),due_ms=0 WHERE item IN"
        " (SELECT item FROM outbox WHERE neighbour=? AND state<>'held' AND due_ms>0 LIMIT ?)",
        (neighbour, limit),
    ).rowcount
    tx.fed.add(towards(neighbour))
    return changed


def offered_body(db: sqlite3.Connection, neighbour: str, digest: str) -> tuple[str | None, bytes | None, int] | None:
    """(file, data, size) of a body named in an envelope that waits for this neighbour; None: it has no claim to it."""
    row = db.execute(
        "SELECT b.file,b.data,b.size FROM body b WHERE b.digest=? AND EXISTS (SELECT 1 FROM envelope_body e JOIN outbox o"
        " ON o.envelope=e.envelope WHERE e.body=b.seq AND +o.neighbour=?)",  # by the body, not through all that waits
        (digest, neighbour),
    ).fetchone()
    return (row[0], row[1], row[2]) if row else None


def expired(db: sqlite3.Connection, before_ms: int, limit: int) -> list[Expired]:
    """Outbox rows and mailbox items whose lifetime ended before before_ms. A copy in doubt, held, or already fetched by its
    office is frozen (decision 6)."""
    found = []
    for item, header, recipient in db.execute(
        "SELECT o.item,e.header,o.recipient FROM outbox o JOIN envelope e ON e.seq=o.envelope"
        " WHERE o.expires_ms>0 AND o.expires_ms<? AND o.in_doubt=0 AND o.state<>'held' LIMIT ?",
        (before_ms, limit),
    ):
        found.append(_expired("out", item, header, [recipient]))
    for item, header, recipients in db.execute(
        "SELECT m.item,e.header,m.recipients FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.expires_ms>0 AND m.expires_ms<?"
        " AND m.state IN ('initial','processing','fail') AND m.fetched_ms IS NULL LIMIT ?",
        (before_ms, limit),
    ):
        found.append(_expired("box", item, header, json.loads(recipients)))
    return found


def left_behind(db: sqlite3.Connection, organs: Sequence[str], limit: int) -> list[Expired]:
    """Documents that lie before these organs and that no office has fetched: a look into the index for each organ."""
    found: list[Expired] = []
    for organ in organs:
        for item, header, recipients in db.execute(
            "SELECT m.item,e.header,m.recipients FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.organ=? AND m.kind=?"
            " AND m.state IN ('initial','processing','fail') AND m.fetched_ms IS NULL ORDER BY m.item LIMIT ?",
            (organ, KIND_DOCUMENT, limit - len(found)),
        ):
            found.append(_expired("box", item, header, json.loads(recipients)))
        if len(found) >= limit:
            break
    return found


def _expired(place: str, item: int, header: bytes, codes: Sequence[str]) -> Expired:
    return Expired(place, item, decode_header(bytes(header)), tuple(OrgId.canonical(code) for code in codes))


def in_doubt(db: sqlite3.Connection, item: int) -> bool:
    return db.execute("SELECT 1 FROM outbox WHERE item=? AND in_doubt=1", (item,)).fetchone() is not None


def still_expired(tx: Transaction, item: int) -> bool:
    """Asked again inside the writer: between the query and now the row may have been offered."""
    row = tx.db.execute("SELECT 1 FROM outbox WHERE item=? AND in_doubt=0 AND state<>'held'", (item,)).fetchone()
    return row is not None

"""Transactions that take custody: a package from an office, an envelope from a neighbour. Deduplication lives here.

Called only inside the writer. What to do with a first copy was decided before (core/routing.py); only the store can know
whether it is one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

import structlog

from node.adapters.sqlite import rows
from node.adapters.sqlite.status import answered, match_status
from node.adapters.sqlite.writer import Stamp, Transaction, attempt
from node.core.custody import Admitted, Arrival, DoorRefusal, Stored, Submission
from node.core.envelope import KIND_NOTICE, KIND_STATUS, Envelope, Header, derived_doc_id
from node.core.errors import Deferred, Reason
from node.core.identifier import OrgId
from node.core.lifecycle import StatusFlag, Transport
from node.core.package import Business
from node.core.routing import Decision, Deliver, Forward, Refuse
from node.core.wire import Outcome, Verdict

log = structlog.get_logger()

TAKEN = Verdict(Outcome.TAKEN)
NOT_STORED_S = 30.0
_NOT_STORED = Verdict(Outcome.LATER, reason=Reason.INTERNAL, retry_s=NOT_STORED_S)


def submit(tx: Transaction, submission: Submission, stamp: Stamp) -> Stored:
    """Take a package into custody, or find that the same file came within the window and say its doc_id again.

    A repeat counts as long as no delivery of the first ended refused, expired or stopped; a receiver refused at the door
    never was a delivery (the caller was told at once) and does not make it new.
    """
    kind = submission.local.envelope.header.kind
    row = _first(tx.db, submission.system, submission.file_digest, kind, submission.repeat_since_ms)
    if row is not None:
        tx.journal(stamp, "repeated", envelope=row[1], detail=submission.system)
        files = tuple(body.file for body in submission.local.bodies if body.file is not None)
        return Stored(row[0], True, files, _door_refusals(tx.db, row[2]))
    header = submission.local.envelope.header
    seq, orphans = rows.put_local(tx, submission.local, stamp)
    tx.db.execute(_SUBMISSION, _submission_row(seq, submission, stamp))
    tx.db.executemany(_DELIVERY, _delivery_rows(seq, submission, stamp))
    _note_sent(tx, submission, stamp)
    _put_door_refusals(tx, seq, header, submission.refused, stamp)
    if submission.answers:
        answered(tx, header, stamp)
    for returned in submission.returned:
        rows.put_local(tx, returned, stamp)
    if submission.report is not None:
        flag = match_status(tx, submission.report, header, stamp)
        tx.db.execute("UPDATE mailbox SET flag=? WHERE envelope=?", (flag or "", seq))
    return Stored(header.doc_id, False, tuple(orphans))


def submit_all(tx: Transaction, given: Sequence[Sequence[Submission]]) -> list[list[Stored | Deferred]]:
    """Packages that several callers have handed in."""
    found = iter(submit_each(tx, [each for some in given for each in some], tx.stamp))
    return [list(islice(found, len(some))) for some in given]


def submit_each(tx: Transaction, submissions: Sequence[Submission], stamp: Stamp) -> list[Stored | Deferred]:
    """Take packages of an office into custody. What is certainly new and only goes on is written together; the rest each under a
    savepoint of its own, as `submit`, in their order."""
    plain = _certainly_new(tx.db, submissions)
    stored: dict[int, Stored] = {}
    if plain:
        outcome = attempt(tx, partial(_submit_together, submissions=plain, stamp=stamp))
        if outcome.error is None:
            stored = {id(each): Stored(each.local.envelope.header.doc_id, False, ()) for each in plain}
        else:  # one of them cannot be written: it is found by writing each by itself
            log.warning("packages could not be stored together", count=len(plain), exc_info=outcome.error)
    return [stored.get(id(each)) or _submit_safely(tx, each, stamp) for each in submissions]


def _submit_safely(tx: Transaction, submission: Submission, stamp: Stamp) -> Stored | Deferred:
    outcome = attempt(tx, partial(submit, submission=submission, stamp=stamp))
    if outcome.error is not None:
        log.error("package could not be stored", envelope=submission.local.envelope.header.id, exc_info=outcome.error)
        return Deferred(NOT_STORED_S, Reason.INTERNAL)
    found: Stored = outcome.value
    return found


def _certainly_new(db: sqlite3.Connection, submissions: Sequence[Submission]) -> list[Submission]:
    """Those whose file never came from this system, as far as is remembered, and whose every receiver is behind a neighbour."""
    keys = json.dumps([(each.system, each.file_digest) for each in submissions])
    known = set(
        db.execute(
            "SELECT s.system,s.file_digest FROM json_each(?) k JOIN submission s ON s.system=k.value->>0 AND s.file_digest=k.value->>1",
            (keys,),
        )
    )
    found = []
    others: set[object] = set()  # of those that go one by one: what stands behind them must not overtake them (decision 9)
    for each in submissions:
        key = (each.system, each.file_digest)
        orders = {rows.order_key(each.local.envelope.header, code) for code in each.local.routes} - {None}
        if _only_leaves(each) and key not in known and others.isdisjoint({key, *orders}):
            known.add(key)  # the same twice at once: the second is a repeat
            found.append(each)
        else:
            others |= {key, *orders}
    return found


def _only_leaves(submission: Submission) -> bool:
    local = submission.local
    return (
        submission.report is None
        and not (submission.refused or submission.returned or submission.answers)
        and all(neighbour is not None for neighbour in local.routes.values())
        and all(body.data is not None for body in local.bodies)
    )


def _submit_together(tx: Transaction, submissions: Sequence[Submission], stamp: Stamp) -> None:
    numbered = list(enumerate(submissions, _last_envelope(tx) + 1))
    rows.put_leaving(tx, [(seq, each.local) for seq, each in numbered], stamp)
    tx.db.executemany(_SUBMISSION, [_submission_row(seq, each, stamp) for seq, each in numbered])
    tx.db.executemany(_DELIVERY, [row for seq, each in numbered for row in _delivery_rows(seq, each, stamp)])
    for each in submissions:
        _note_sent(tx, each, stamp)


def _last_envelope(tx: Transaction) -> int:
    (last,) = tx.db.execute("SELECT coalesce(max(seq),0) FROM sqlite_sequence WHERE name='envelope'").fetchone()
    return int(last)


def repeat_of(db: sqlite3.Connection, system: str, file_digest: str, kind: str, since_ms: int) -> Stored | None:
    """What was answered to the same file before, if it still counts; nothing is changed."""
    row = _first(db, system, file_digest, kind, since_ms)
    return Stored(row[0], True, (), _door_refusals(db, row[2])) if row is not None else None


def _first(db: sqlite3.Connection, system: str, file_digest: str, kind: str, since_ms: int) -> tuple[str, str, int] | None:
    """(docId, envelope id, its row) of the same file within the window. Found by the file's digest, not among all of the day."""
    row: tuple[str, str, int] | None = db.execute(
        "SELECT s.doc_id, s.id, s.envelope FROM submission s WHERE s.system=? AND s.file_digest=? AND s.taken_ms>? AND +s.kind=? AND NOT EXISTS"
        " (SELECT 1 FROM delivery d WHERE d.envelope=s.envelope AND d.at_door=0 AND d.state IN ('refused','expired','stopped'))"
        " ORDER BY s.taken_ms DESC LIMIT 1",
        (system, file_digest, since_ms, kind),
    ).fetchone()
    return row


def _door_refusals(db: sqlite3.Connection, seq: int) -> tuple[DoorRefusal, ...]:
    cursor = db.execute(
        "SELECT recipient,written,reason,successor FROM delivery WHERE envelope=? AND at_door=1 ORDER BY recipient", (seq,)
    )
    return tuple(DoorRefusal(recipient, written, Reason(reason), successor) for recipient, written, reason, successor in cursor)


_SUBMISSION = (
    "INSERT INTO submission (envelope,origin,id,system,doc_id,file_digest,kind,message_type,sender,sender_text,sender_name,"
    "document_id,notation,date,title,business,priority,taken_ms,due_ms) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_DELIVERY = (
    "INSERT OR IGNORE INTO delivery (envelope,recipient,organ,written,state,at_door,reason,successor,derived_doc_id,updated_ms)"
    " VALUES (?,?,?,?,?,?,?,?,?,?)"
)


def _submission_row(seq: int, submission: Submission, stamp: Stamp) -> tuple[object, ...]:
    header = submission.local.envelope.header
    return (
        seq,
        str(header.origin),
        header.id,
        submission.system,
        header.doc_id,
        submission.file_digest,
        header.kind,
        submission.message_type,
        str(header.sender),
        submission.sender_text,
        submission.sender_name,
        header.document_id,
        submission.notation,
        submission.date,
        submission.title,
        int(header.business),
        int(header.priority),
        stamp.at_ms,
        submission.said.due_ms if header.business is Business.NEW and submission.said.due_ms > stamp.at_ms else 0,
    )


def _delivery_rows(seq: int, submission: Submission, stamp: Stamp) -> list[tuple[object, ...]]:
    """One for each receiver that it goes to."""
    header = submission.local.envelope.header
    found: list[tuple[object, ...]] = []
    for recipient in header.recipients:
        state = Transport.IN_MAILBOX if submission.local.routes[recipient.code] is None else Transport.QUEUED
        organ = str(recipient.organ)
        derived = derived_doc_id(header.doc_id, organ)
        found.append((seq, str(recipient.code), organ, recipient.written, state.value, 0, "", "", derived, stamp.at_ms))
    return found


def _note_sent(tx: Transaction, submission: Submission, stamp: Stamp) -> None:
    """In the journal, and in the ledger once for each receiver."""
    header = submission.local.envelope.header
    tx.journal(
        stamp, "accepted", envelope=header.id, neighbour=submission.system, detail=f"doc={header.doc_id} kind={header.kind}"
    )
    event = "status-sent" if header.kind == KIND_STATUS else "sent"
    whole = rows.Facts(True, dated=submission.date, said=submission.said)
    for recipient in header.recipients:
        organ = str(recipient.organ)
        trial = stamp.on_trial((str(header.sender), str(recipient.code), organ), header.created_ms)
        # The document is counted with the first receiver that counts: one on trial is in no figure. # Điều 21.1
        facts = rows.NO_FACTS if trial else whole
        whole = whole if trial else rows.NO_FACTS
        facts = facts if recipient.organ == recipient.code else replace(facts, office=organ)
        rows.ledger(tx, stamp, event, header, str(header.sender), str(recipient.code), "", facts)


def _put_door_refusals(tx: Transaction, seq: int, header: Header, refused: Iterable[DoorRefusal], stamp: Stamp) -> None:
    for refusal in {each.recipient: each for each in refused}.values():  # a code written twice is one refusal
        code, reason = refusal.recipient, refusal.reason.value
        state = Transport.REFUSED.value
        tx.db.execute(_DELIVERY, (seq, code, code, refusal.written, state, 1, reason, refusal.successor, "", stamp.at_ms))
        tx.journal(stamp, "refused-at-door", envelope=header.id, recipient=refusal.recipient, reason=refusal.reason.value)
        rows.ledger(tx, stamp, "refused-at-door", header, str(header.sender), refusal.recipient, refusal.reason.value)


def admit_each(tx: Transaction, arrivals: Sequence[Arrival], neighbour: OrgId, stamp: Stamp) -> list[Admitted]:
    """Judge a batch. What is plain is written together; the rest each under a savepoint of its own: an
    error nobody classified is `later` for that one alone, and after enough attempts the presenter holds it for a person."""
    plain = _plain(tx, arrivals)
    admitted: dict[int, Admitted] = {}
    if plain:
        outcome = attempt(tx, partial(_take_together, arrivals=plain, neighbour=neighbour, stamp=stamp))
        if outcome.error is None:
            admitted = {id(arrival): each for arrival, each in zip(plain, outcome.value, strict=True)}
        else:  # one of them cannot be written: it is found by writing each by itself
            log.warning("batch could not be stored together", neighbour=str(neighbour), count=len(plain), exc_info=outcome.error)
    return [admitted.get(id(arrival)) or _admit_safely(tx, arrival, neighbour, stamp) for arrival in arrivals]


def _admit_safely(tx: Transaction, arrival: Arrival, neighbour: OrgId, stamp: Stamp) -> Admitted:
    outcome = attempt(tx, partial(admit, arrival=arrival, neighbour=neighbour, stamp=stamp))
    if outcome.error is not None:
        log.error("envelope could not be stored", envelope=arrival.envelope.header.id, exc_info=outcome.error)
        return Admitted(dict.fromkeys(arrival.envelope.remaining, _NOT_STORED))
    found: Admitted = outcome.value
    return found


def _plain(tx: Transaction, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Those of which nothing was ever seen here, that are whole, and of which all is taken, to go on or to lie before an office
    here: a node's daily bread. Not what says something that this node acts upon."""
    whole = [arrival for arrival in arrivals if _is_plain(arrival)]
    keys = json.dumps([(str(each.envelope.header.origin), each.envelope.header.id) for each in whole])
    certificates = json.dumps(list({each.envelope.header.key for each in whole if each.chain is None}))
    known = {
        (origin, id_)
        for table in ("seen", "envelope")
        for origin, id_ in tx.db.execute(
            f"SELECT t.origin,t.id FROM json_each(?) k JOIN {table} t ON t.origin=k.value->>0 AND t.id=k.value->>1", (keys,)
        )
    }
    held = tx.db.execute("SELECT digest FROM certificate WHERE digest IN (SELECT value FROM json_each(?))", (certificates,))
    chains = {digest for (digest,) in held}.union(each.envelope.header.key for each in whole if each.chain is not None)
    plain = {id(arrival) for arrival in whole}
    found = []
    others: set[object] = set()  # of those that go one by one: what stands behind them must not overtake them (decision 9)
    for arrival in arrivals:
        header = arrival.envelope.header
        key = (str(header.origin), header.id)
        new = id(arrival) in plain and key not in known and header.key in chains
        if new and (not others or others.isdisjoint({key, *_orders(arrival.envelope)})):
            known.add(key)  # the same twice in one batch: the second is a copy
            found.append(arrival)
        else:
            others |= {key, *_orders(arrival.envelope)}
    return found


def _orders(envelope: Envelope) -> set[str]:
    """What it must keep its place in."""
    keys = (rows.order_key(envelope.header, code) for code in envelope.remaining)
    return {key for key in keys if key is not None}


def _is_plain(arrival: Arrival) -> bool:
    inline = {body.sha256 for body in arrival.inline if body.data is not None}
    return (
        arrival.later is None
        and not (arrival.unseen or arrival.ends)
        and arrival.report is None
        and all(isinstance(arrival.judged.get(code), Forward | Deliver) for code in arrival.envelope.remaining)
        and all(ref.sha256 in inline for ref in arrival.envelope.header.bodies)
    )


def _take_together(tx: Transaction, arrivals: Sequence[Arrival], neighbour: OrgId, stamp: Stamp) -> list[Admitted]:
    """Take all of these into custody, a statement for each table."""
    rows.put_arriving(tx, list(enumerate(arrivals, _last_envelope(tx) + 1)), neighbour, stamp)
    admitted = []
    for arrival in arrivals:
        for code, decision in arrival.judged.items():
            _journal_taken(tx, arrival.envelope.header, code, decision, neighbour, stamp)
        admitted.append(Admitted(dict.fromkeys(arrival.judged, TAKEN)))
    return admitted


def _journal_taken(tx: Transaction, header: Header, code: OrgId, decision: Decision, neighbour: OrgId, stamp: Stamp) -> None:
    onward = isinstance(decision, Forward)
    tx.journal(
        stamp,
        "taken" if onward else "in-mailbox",
        envelope=header.id,
        recipient=str(code),
        neighbour=str(neighbour),
        detail=f"next={decision.neighbour}" if isinstance(decision, Forward) else "",
    )


def admit(tx: Transaction, arrival: Arrival, neighbour: OrgId, stamp: Stamp) -> Admitted:
    """Judge every remaining recipient of one envelope from a neighbour; rows for what is taken, verdicts for all."""
    envelope = arrival.envelope
    header = envelope.header
    if _conflicts(tx, arrival):
        tx.journal(stamp, "digest-conflict", envelope=header.id, neighbour=str(neighbour), reason=Reason.DIGEST_CONFLICT.value)
        refused = Verdict(Outcome.REFUSED, reason=Reason.DIGEST_CONFLICT)
        return Admitted(dict.fromkeys(envelope.remaining, refused), conflicts=1)
    verdicts: dict[OrgId, Verdict] = {}
    fresh: dict[OrgId, Deliver | Forward] = {}
    returned: list[OrgId] = []
    duplicates = 0
    for code in envelope.remaining:
        known, back = _known(tx, envelope, code, neighbour)
        if known and not back and _on_the_way_to(tx, envelope, code, neighbour):
            # Our own offer to it was not answered yet, and here it presents the same: it must not forget the document before we
            # have heard that it was handed over, or nobody would hold it.
            verdicts[code] = Verdict(Outcome.LATER, reason=Reason.NOT_NOW, retry_s=1.0)
            continue
        if known and not back:
            duplicates += 1
            verdicts[code] = TAKEN
            tx.journal(stamp, "repeated", envelope=header.id, recipient=str(code), neighbour=str(neighbour))
            rows.ledger(tx, stamp, "duplicate", header, str(code), str(header.sender))
            continue
        decision = (arrival.anew if back else arrival.judged)[code]
        if back and isinstance(decision, Forward) and decision.neighbour in (neighbour, _went_to(envelope)):
            decision = Refuse(Reason.LOOP)  # directories disagree: it waits where it is, instead of going to and fro, or round
        if isinstance(decision, Refuse):
            verdicts[code] = Verdict(Outcome.REFUSED, reason=decision.reason)
            tx.journal(
                stamp, "refused", envelope=header.id, recipient=str(code), neighbour=str(neighbour), reason=decision.reason.value
            )
            continue
        fresh[code] = decision
        if back:
            returned.append(code)
    if not fresh:
        return Admitted(verdicts, duplicates=duplicates)
    if arrival.later is not None:
        verdicts.update(dict.fromkeys(fresh, arrival.later))
        return Admitted(verdicts, duplicates=duplicates)
    need = tuple(dict.fromkeys((*_missing(tx, arrival, neighbour), *arrival.unseen)))
    if need:
        verdicts.update(dict.fromkeys(fresh, Verdict(Outcome.NEED, need=need)))
        return Admitted(verdicts, duplicates=duplicates)
    for code in returned:
        tx.journal(stamp, "come-back", envelope=header.id, recipient=str(code), neighbour=str(neighbour))
    verdicts.update(dict.fromkeys(fresh, TAKEN))
    orphans, flag = _take(tx, arrival, fresh, neighbour, stamp)
    return Admitted(verdicts, orphans, duplicates, len(returned), flag=flag)


def _conflicts(tx: Transaction, arrival: Arrival) -> bool:
    """Same key, other content: never taken, always an alarm (decision 4)."""
    header = arrival.envelope.header
    row = tx.db.execute("SELECT digest FROM envelope WHERE origin=? AND id=?", (str(header.origin), header.id)).fetchone()
    if row is None:
        row = tx.db.execute("SELECT digest FROM seen WHERE origin=? AND id=? LIMIT 1", (str(header.origin), header.id)).fetchone()
    return row is not None and row[0] != arrival.envelope.digest


def _known(tx: Transaction, envelope: Envelope, code: OrgId, neighbour: OrgId) -> tuple[bool, bool]:
    """(this key was taken before, it now comes back: from the very neighbour it was handed to, or round by others from there)."""
    header = envelope.header
    row = tx.db.execute(
        "SELECT handed_to FROM seen WHERE origin=? AND id=? AND recipient=?", (str(header.origin), header.id, str(code))
    ).fetchone()
    if row is None:
        return False, False
    went = _went_to(envelope)
    return True, row[0] is not None and row[0] in (str(neighbour), None if went is None else str(went))


def _went_to(envelope: Envelope) -> OrgId | None:
    """Whom this very copy was handed to when it was here last, by the way it says it has come; None: it never was here."""
    *before, here = envelope.hops
    last = max((place for place, hop in enumerate(before) if hop.node == here.node), default=len(before))
    return before[last + 1].node if last + 1 < len(before) else None


def _on_the_way_to(tx: Transaction, envelope: Envelope, code: OrgId, neighbour: OrgId) -> bool:
    """Whether what the neighbour presents is the very copy we are handing on, to it or to another, on its way back before we heard
    that it arrived.

    Of two copies of one key that meet on a link, one side must say "taken" and the other "later": both would lose it, or both
    would wait. Where ours has come by what is presented, ours is the younger, and we have custody; where what is presented has
    come by ours, theirs is. Copies that went different ways: the node with the lesser code keeps it.
    """
    row = tx.db.execute(
        "SELECT coalesce(o.hops,e.hops),o.neighbour FROM envelope e JOIN outbox o ON o.envelope=e.seq AND o.recipient=?"
        " WHERE e.origin=? AND e.id=? AND (o.neighbour=? OR o.state<>'held')",
        (str(code), str(envelope.header.origin), envelope.header.id, str(neighbour)),
    ).fetchone()
    if row is None:
        return False
    *before, here = envelope.hops  # the last hop is our own
    presented, ours = tuple(before), rows.hops_value(row[0])
    if presented[: len(ours)] == ours and len(presented) > len(ours):
        return True
    if row[1] != str(neighbour) or ours[: len(presented)] == presented:
        return False
    return here.node > neighbour


def _missing(tx: Transaction, arrival: Arrival, neighbour: OrgId) -> tuple[str, ...]:
    """Digests of bodies and of the certificate that this neighbour must send first. A body we hold from somebody else does
    not count: a digest is no ticket to a file (decision 7)."""
    header = arrival.envelope.header
    inline = {body.sha256 for body in arrival.inline}
    missing = []
    for ref in header.bodies:
        if ref.sha256 in inline:
            continue
        row = tx.db.execute(
            "SELECT 1 FROM body b JOIN body_peer p ON p.body=b.seq AND p.neighbour=? WHERE b.digest=?",
            (str(neighbour), ref.sha256),
        ).fetchone()
        if row is None:
            missing.append(ref.sha256)
    if arrival.chain is None and not tx.db.execute("SELECT 1 FROM certificate WHERE digest=?", (header.key,)).fetchone():
        missing.append(header.key)
    return tuple(missing)


def _take(
    tx: Transaction, arrival: Arrival, fresh: dict[OrgId, Deliver | Forward], neighbour: OrgId, stamp: Stamp
) -> tuple[tuple[str, ...], StatusFlag | None]:
    envelope = arrival.envelope
    header = envelope.header
    for code in fresh:
        rows.remember(tx, envelope, code, stamp)
    if arrival.chain is not None:
        rows.put_chain(tx, header.key, arrival.chain)
    if header.kind == KIND_NOTICE and all(isinstance(decision, Deliver) for decision in fresh.values()):
        rows.apply_notice(tx, arrival, stamp)
        return (), None
    seq = rows.put_envelope(tx, envelope, neighbour, stamp)
    bodies, orphans = rows.put_bodies(tx, seq, header, arrival.inline, stamp)
    rows.know_bodies(tx, bodies, neighbour)
    flag = match_status(tx, arrival.report, header, stamp) if arrival.report is not None else None
    organs = {recipient.code: recipient.organ for recipient in header.recipients}
    for code, decision in fresh.items():
        if isinstance(decision, Deliver):
            organ = organs[code]
            rows.put_mailbox(tx, seq, header, organ, code, arrival.doc_ids.get(organ, header.doc_id), flag or "", stamp)
            _journal_taken(tx, header, code, decision, neighbour, stamp)
            rows.move_deliveries(tx, [(seq, str(code))], Transport.IN_MAILBOX, stamp)
        else:
            rows.put_outbox(tx, seq, envelope, code, decision.neighbour, stamp)
            _journal_taken(tx, header, code, decision, neighbour, stamp)
            rows.move_deliveries(tx, [(seq, str(code))], Transport.QUEUED, stamp)
    return tuple(orphans), flag

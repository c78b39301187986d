"""What must hold, judged by the tables of nodes: nothing acknowledged is forgotten, nothing is left over, the history is whole.

Every finding is a sentence that names the row. Knows the tables of migration 0001 as an auditor may read them, and the ledger
where both are compared; nothing of how a node comes to its decisions.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from node.adapters.sqlite.care import verify_chain
from node.core.errors import Reason
from node.core.identifier import OrgId
from node.core.notice import decode_notice
from topology.sim.checkers import Kept, Place
from topology.sim.ledger import Ledger, Violation
from topology.sim.traffic import Addresses

Query = Callable[[str, Sequence[object]], Sequence[tuple[Any, ...]]]
"""Rows of one node's database: (SQL, parameters)."""

REPEATS_MAX = 200
"""Copies of one key that one neighbour may present: beyond it somebody repeats without pause."""
SHOWN_MAX = 5

_OUT = "SELECT e.doc_id,o.recipient,o.state FROM outbox o JOIN envelope e ON e.seq=o.envelope WHERE e.kind<>'notice'"
_BOX = "SELECT e.doc_id,m.recipients,m.state FROM mailbox m JOIN envelope e ON e.seq=m.envelope"
_ENDS = (
    "SELECT s.doc_id,d.recipient FROM submission s JOIN delivery d ON d.envelope=s.envelope"
    " WHERE d.state IN ('collected','refused','expired','stopped')"
)
_NOTICES = (
    "SELECT DISTINCT e.doc_id,b.data FROM envelope e JOIN outbox o ON o.envelope=e.seq"
    " JOIN envelope_body t ON t.envelope=e.seq JOIN body b ON b.seq=t.body WHERE e.kind='notice'"
)
_OPEN_BOX = ("initial", "processing", "fail")


def kept(queries: Iterable[Query]) -> Kept:
    """What these nodes hold for a person, and what they have still to do."""
    held: dict[Place, None] = {}
    present: dict[Place, None] = {}
    for query in queries:
        for doc_id, recipient, state in query(_OUT, ()):
            (held if state == "held" else present)[doc_id, recipient] = None
        for doc_id, recipients, state in query(_BOX, ()):
            for recipient in json.loads(recipients) if state in (*_OPEN_BOX, "held") else ():
                (held if state == "held" else present)[doc_id, recipient] = None
        # Its end is known, only not at home: the notice waits for a person.
        for doc_id, data in query(f"{_NOTICES} AND o.state='held'", ()):
            held.update(dict.fromkeys((doc_id, str(end.recipient)) for end in decode_notice(bytes(data))))
    return Kept(held.keys(), present.keys())


def absent(ledger: Ledger, queries: Iterable[Query]) -> list[Violation]:
    """What was acknowledged and is on no disk, in whatever state; at any moment, over the tables of all nodes."""
    places: dict[Place, None] = {}
    for query in queries:
        places.update(dict.fromkeys((doc_id, recipient) for doc_id, recipient, _ in query(_OUT, ())))
        places.update(dict.fromkeys((doc_id, code) for doc_id, codes, _ in query(_BOX, ()) for code in json.loads(codes)))
        places.update(dict.fromkeys((doc_id, recipient) for doc_id, recipient in query(_ENDS, ())))
        places.update(dict.fromkeys(_told_home(query)))
    found = []
    for sent in ledger.sent.values():
        for doc_id in sent.doc_ids:
            for to in sent.package.good:
                if (doc_id, to.code) not in places:
                    text = f"package {sent.package.number} ({doc_id}) to {to.code} was acknowledged and is on no disk"
                    found.append(Violation("lost", text))
    for status in ledger.statuses.values():
        sender = ledger.sent[status.package].package.sender
        found += [
            Violation("lost", f"{status.name} ({doc_id}) was acknowledged and is on no disk")
            for doc_id in status.doc_ids
            if (doc_id, sender) not in places
        ]
    return found


def _told_home(query: Query) -> Iterator[Place]:
    """Deliveries whose end is on its way home: whoever tells it is rid of the document."""
    for doc_id, data in query(_NOTICES, ()):
        for about in decode_notice(bytes(data)):
            yield doc_id, str(about.recipient)


def promised(name: str, query: Query, taken: Iterable[tuple[str, str, str]], doc_ids: Iterable[str]) -> list[Violation]:
    """What a node has acknowledged, and does not know any more: keys (origin, envelope id, recipient) it called taken, and docIds
    it gave. Before anything is past its retention."""
    seen = {tuple(row) for row in query("SELECT origin,id,recipient FROM seen", ())}
    given = {doc_id for (doc_id,) in query("SELECT doc_id FROM submission", ())}
    keys = [key for key in taken if key not in seen]
    ids = [doc_id for doc_id in doc_ids if doc_id not in given]
    return [
        *(
            Violation("lost", f"{name} has taken {id_} of {origin or 'hub'} for {code} and forgot it")
            for origin, id_, code in keys
        ),
        *(Violation("lost", f"{name} has given docId {doc_id} and forgot it") for doc_id in ids),
    ]


def whole(name: str, query: Query, read: Callable[[str], bytes | None], spoilt: Collection[str] = ()) -> list[Violation]:
    """Large bodies that a node has taken and that are not on its disk as they came: at every restart. read: the content of a file
    below its body folder, None where there is none. spoilt: files that the run itself has damaged at rest."""
    found = []
    for digest, file, size in query("SELECT digest,file,size FROM body WHERE file IS NOT NULL ORDER BY digest", ()):
        content = read(file)
        if content is None:
            found.append(Violation("lost", f"{name}: body file {file} is missing"))
        elif file not in spoilt and hashlib.sha256(content).hexdigest() != digest:
            found.append(Violation("lost", f"{name}: body file {file} ({size} bytes) is not what was taken"))
    return found


def audit(name: str, query: Query, files: Collection[str] | None = None, held: Collection[Place] = ()) -> list[Violation]:
    """What is wrong in the tables of a node once all work is done; [] when nothing is.

    files: all files below its body folder, relative to it; None: they are not looked at. held: what waits for a person anywhere.
    """
    return [*_left(name, query, held), *integrity(name, query), *_bodies(name, query, files), *_storms(name, query)]


def integrity(name: str, query: Query) -> list[Violation]:
    """Whether the database is whole and the journal's chain verifies: at every restart. # architecture, decision 12"""
    found = []
    if (verdict := query("PRAGMA quick_check", ())[0][0]) != "ok":
        found.append(Violation("wrong", f"{name}: database damaged: {verdict}"))
    if (row := verify_chain(cast(Any, _Rows(query)))) is not None:
        found.append(Violation("wrong", f"{name}: the journal's chain breaks at row {row}"))
    return found


class _Rows:
    """A query with the face of a connection, as far as `verify_chain` looks."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def execute(self, sql: str) -> Sequence[tuple[Any, ...]]:
        return self._query(sql, ())


def _left(name: str, query: Query, held: Collection[Place]) -> Iterator[Violation]:
    """Work that nobody has done. Of a held document only its sender's row may stay open. Who may present what is disputed for a
    while where units move; that mends itself, and nothing is held for it in the end."""
    outbox = query(
        "SELECT e.kind,e.id,o.recipient,o.neighbour,o.attempts,o.reason FROM outbox o JOIN envelope e ON e.seq=o.envelope"
        " WHERE o.state<>'held' OR o.reason=? ORDER BY o.item",
        (Reason.SENDER_OUTSIDE,),
    )
    for kind, id_, recipient, neighbour, attempts, reason in outbox[:SHOWN_MAX]:
        row = f"{kind} {id_} to {recipient or 'hub'} for {neighbour or 'hub'}"
        yield Violation("stuck", f"{name}: outbox row {row} left after {attempts} attempts {reason}".rstrip())
    mailbox = query("SELECT kind,doc_id,organ,state FROM mailbox WHERE state IN (?,?,?) ORDER BY item", _OPEN_BOX)
    for kind, doc_id, organ, state in mailbox[:SHOWN_MAX]:
        yield Violation("stuck", f"{name}: mailbox item {kind} {doc_id} of {organ} is {state} still")
    deliveries = query(
        "SELECT s.doc_id,d.recipient,d.state FROM delivery d JOIN submission s ON s.envelope=d.envelope WHERE s.kind<>'status'"
        " AND d.state NOT IN ('collected','refused','expired','stopped') ORDER BY s.envelope,d.recipient",
        (),
    )
    open_ones = [row for row in deliveries if (row[0], row[1]) not in held]
    for doc_id, recipient, state in open_ones[:SHOWN_MAX]:
        yield Violation("stuck", f"{name}: delivery of {doc_id} to {recipient} is {state} still")
    for what, rows in (("outbox rows", outbox), ("mailbox items", mailbox), ("deliveries", open_ones)):
        if len(rows) > SHOWN_MAX:
            yield Violation("stuck", f"{name}: {len(rows)} {what} left in all")


def _bodies(name: str, query: Query, files: Collection[str] | None) -> Iterator[Violation]:
    """No body without an envelope (but those that still may be named: `loose`), no envelope without its body, no file without a
    row, no row without its file."""
    for (digest,) in query(
        "SELECT digest FROM body b WHERE NOT EXISTS (SELECT 1 FROM envelope_body e WHERE e.body=b.seq)"
        " AND NOT EXISTS (SELECT 1 FROM loose l WHERE l.body=b.seq) ORDER BY digest",
        (),
    ):
        yield Violation("wrong", f"{name}: body {digest} belongs to no envelope")
    for id_, number in query(
        "SELECT e.id,t.body FROM envelope_body t JOIN envelope e ON e.seq=t.envelope"
        " WHERE NOT EXISTS (SELECT 1 FROM body b WHERE b.seq=t.body) ORDER BY e.seq",
        (),
    ):
        yield Violation("lost", f"{name}: envelope {id_} has lost its body {number}")
    if files is None:
        return
    named = {file for (file,) in query("SELECT file FROM body WHERE file IS NOT NULL", ())}
    stored = {file for file in files if not file.startswith(("spool/", "partial/"))}
    for file in sorted(named - stored):
        yield Violation("lost", f"{name}: body file {file} is missing")
    for file in sorted(stored - named):
        yield Violation("wrong", f"{name}: body file {file} belongs to nobody")
    for file in sorted(file for file in files if file.startswith("spool/")):
        yield Violation("wrong", f"{name}: {file} left")


def _storms(name: str, query: Query) -> Iterator[Violation]:
    """Attempts are bounded: no key is presented again and again by one neighbour."""
    for id_, recipient, neighbour, count in query(
        "SELECT envelope,recipient,neighbour,count(*) FROM journal WHERE event='repeated' AND recipient<>''"
        " GROUP BY envelope,recipient,neighbour HAVING count(*)>? ORDER BY 1,2,3",
        (REPEATS_MAX,),
    ):
        yield Violation("wrong", f"{name}: {neighbour or 'hub'} has presented {id_} for {recipient} {count} times")


def ended(query: Query, limit: int) -> list[str]:
    """Envelope ids of what offices of this node have sent that is over for every receiver: the first, from before units moved and
    keys changed, and the newest."""
    rows = query(
        "SELECT s.id FROM submission s JOIN delivery d ON d.envelope=s.envelope AND d.at_door=0 WHERE s.kind<>'status'"
        " GROUP BY s.envelope HAVING min(d.state IN ('collected','refused','expired','stopped'))=1 ORDER BY s.envelope",
        (),
    )
    return [str(id_) for (id_,) in (*rows[:limit], *rows[limit:][-limit:])]


def notices(queries: Iterable[Query], ledger: Ledger) -> list[Violation]:
    """Notices that no end of a document has caused: at most one for each receiver, none for statuses.

    # architecture, decision 11
    """
    receivers = {doc_id: len(sent.package.to) for sent in ledger.sent.values() for doc_id in sent.doc_ids}
    statuses = {doc_id for status in ledger.statuses.values() for doc_id in status.doc_ids}
    made: dict[tuple[str, str], str] = {}
    for query in queries:
        for origin, id_, doc_id in query("SELECT origin,id,doc_id FROM envelope WHERE kind='notice' ORDER BY seq", ()):
            made[origin, id_] = doc_id
    allowed = receivers | dict.fromkeys(statuses, 0)
    return [
        Violation("wrong", f"{doc_id} has caused {count} notices, {allowed[doc_id]} are right at most")
        for doc_id, count in Counter(made.values()).items()
        if doc_id in allowed and count > allowed[doc_id]
    ]


def off_route(queries: Mapping[OrgId, Query], ledger: Ledger, addresses: Addresses) -> list[Violation]:
    """Documents that lie at a node which is not on their way. queries: by the node's code. Not for a run in which nodes moved."""
    directory = addresses.directory
    lines: dict[str, tuple[OrgId, ...]] = {}
    roads: dict[str, frozenset[OrgId]] = {}

    def upwards(organ: str) -> tuple[OrgId, ...]:
        if organ not in lines:
            owner = directory.owner(OrgId.canonical(organ))
            lines[organ] = directory.line(owner) if owner is not None else ()
        return lines[organ]

    for sent in ledger.sent.values():
        here = upwards(sent.package.sender)
        road = set(here[:1])
        for to in sent.package.good:
            there = upwards(to.organ)
            top = next((code for code in here if code in there), None)
            road |= {code for line in (here, there) for code in (line[: line.index(top) + 1] if top is not None else line)}
        roads |= dict.fromkeys(sent.doc_ids, frozenset(road))
    found = []
    for node, query in queries.items():
        for (doc_id,) in query("SELECT DISTINCT doc_id FROM envelope WHERE kind='edoc' ORDER BY doc_id", ()):
            if node not in roads.get(doc_id, {node}):
                found.append(Violation("wrong", f"{str(node) or 'hub'}: {doc_id} lies here and is not on its way"))
    return found

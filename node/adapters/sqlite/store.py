"""The store of one node: every transaction and query behind one class, so that the duties never see SQL.

Transactions go to the writer and return after their commit; queries run on a reader and see the last commit. What each does is
in the files beside this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from node.adapters.sqlite import admission, boxes, care, chain, changes, desk, proofs, road, rows, status
from node.adapters.sqlite.connection import Connection
from node.adapters.sqlite.migrate import migrate
from node.adapters.sqlite.numbers import SqliteNumbers
from node.adapters.sqlite.writer import Stamp, Transaction, Writer, laid_before, towards
from node.core.audit import Act, Broken, KeptHead, Place
from node.core.bundle import Told
from node.core.changes import Held
from node.core.custody import (
    NEIGHBOUR_GONE,
    Admitted,
    Arrival,
    BoxItem,
    Confirmed,
    Cursor,
    Expired,
    Homeward,
    Listing,
    Settlement,
    Stored,
    StoredBody,
    Stray,
    Submission,
    SubmissionInfo,
)
from node.core.errors import Deferred
from node.core.evidence import Handed, Receipt, SentDocument
from node.core.forwarding import Ask, Offer
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.office import LaidOut, SentLine, Waiting
from node.core.tally import Tally
from node.ports import Clock, Describe

T = TypeVar("T")


MAKE_READY = "UPDATE outbox INDEXED BY outbox_due SET state='waiting',attempts=max(attempts,1) WHERE state='body' AND state<>'held' AND due_ms>0"
PIECE = 1000
"""Rows that one transaction changes at most, where it is all that waits for a neighbour."""


class WrongNode(Exception):
    """The database belongs to another node: its custody must not be taken over by a mistaken configuration."""


class SqliteStore:
    """Open with `open`; `run` is the writer's task and must run while anything is called."""

    def __init__(self, writer: Connection, reader: Connection, clock: Clock, tally: Tally, group_max: int, path: Path) -> None:
        self._write_connection = writer
        self._read_connection = reader
        self._clock = clock
        self._writer = Writer(writer, group_max, tally, self.stamp)
        self._path = path
        self.epoch = 1
        self.on_trial: Callable[[Sequence[str], int], bool] = lambda codes, at_ms: False
        self.numbers = SqliteNumbers(self._writer, self._ask, self.stamp)

    async def prepare(self, node: OrgId) -> None:
        """Migrate, claim or check the database's node, and read its epoch (decision 14)."""
        await self._write_connection.run(migrate)

        def work(db: Any) -> int:
            db.execute("BEGIN IMMEDIATE")
            found = {"node": str(node), "epoch": "1", **desk.meta(db)}
            if found["node"] != str(node):
                db.execute("ROLLBACK")
                raise WrongNode(f"{self._path} belongs to node {found['node']!r}, this is {str(node)!r}")
            db.executemany("INSERT OR IGNORE INTO meta VALUES (?,?)", found.items())
            # What was on the road when the process ended is offered again at once.
            db.execute(MAKE_READY)
            # Always a commit that writes: a process killed before the sync of its last commit may have left rows that are there
            # and not yet durable, and what is answered from them must be (architecture, decision 3).
            db.execute("INSERT INTO meta VALUES ('starts','1') ON CONFLICT DO UPDATE SET value=value+1")
            db.execute("COMMIT")
            return int(found["epoch"])

        self.epoch = await self._write_connection.run(work)
        self._writer.depths = await self._write_connection.run(desk.counted)

    async def run(self) -> None:
        await self._writer.run()

    async def drain(self) -> None:
        await self._writer.drain()

    async def close(self) -> None:
        await self._read_connection.close()
        await self._write_connection.close()

    def stamp(self) -> Stamp:
        return Stamp(self._clock.utc_ms(), self._clock.bound_ms(), self._clock.synchronised(), self.on_trial)

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self._path, self._path.with_name(self._path.name + "-wal")) if path.exists())

    async def _do(self, work: Callable[[Transaction], T]) -> T:
        return await self._writer.do(work)

    async def _ask(self, query: Callable[[Any], T]) -> T:
        return await self._read_connection.run(query)

    # documents in

    async def submit(self, submission: Submission) -> Stored:
        (found,) = await self.submit_many([submission])
        if isinstance(found, Deferred):
            raise found
        return found

    async def submit_many(self, submissions: Sequence[Submission]) -> list[Stored | Deferred]:
        found: list[Stored | Deferred] = await self._writer.join(admission.submit_all, submissions)
        return found

    async def repeat_of(self, system: str, file_digest: str, kind: str, since_ms: int) -> Stored | None:
        return await self._ask(lambda db: admission.repeat_of(db, system, file_digest, kind, since_ms))

    async def admit(self, arrivals: Sequence[Arrival], neighbour: OrgId) -> list[Admitted]:
        stamp = self.stamp()
        return await self._do(lambda tx: admission.admit_each(tx, arrivals, neighbour, stamp))

    async def body_arrived(self, body: StoredBody, neighbour: OrgId) -> tuple[str, ...]:
        """A body that crossed the link by itself. Returns files nobody needs (we held it already)."""
        stamp = self.stamp()

        def work(tx: Transaction) -> tuple[str, ...]:
            number, orphans = rows.put_body(tx, body, stamp)
            rows.know_bodies(tx, [number], neighbour)
            tx.db.execute("INSERT INTO loose VALUES (?1,?2) ON CONFLICT DO UPDATE SET since_ms=?2", (number, stamp.at_ms))
            return tuple(orphans)

        return await self._do(work)

    async def holds_body_of(self, neighbour: OrgId, digest: str) -> bool:
        """Whether this body is here and this very neighbour has sent it or was given it."""
        return await self._ask(
            lambda db: (
                db.execute(
                    "SELECT 1 FROM body b JOIN body_peer p ON p.body=b.seq AND p.neighbour=? WHERE b.digest=?",
                    (str(neighbour), digest),
                ).fetchone()
                is not None
            )
        )

    async def submission_of(self, origin: OrgId, id_: str) -> SubmissionInfo | None:
        return await self._ask(lambda db: boxes.submission_of(db, str(origin), id_))

    async def addressee(self, reporter: OrgId, document_id: str) -> list[OrgId]:
        return [OrgId.canonical(code) for code in await self._ask(lambda db: status.addressee(db, str(reporter), document_id))]

    async def receivers(self, sender: OrgId, document_id: str, notation: str, date: str) -> list[OrgId]:
        found = await self._ask(lambda db: status.receivers(db, str(sender), document_id, notation, date))
        return [OrgId.canonical(code) for code in found]

    async def chain(self, digest: str) -> bytes | None:
        return (await self._ask(lambda db: road.chains(db, [digest]))).get(digest)

    async def body_bytes(self, digest: str) -> tuple[bytes | None, str | None, int] | None:
        """(data, file, size) of a body; exactly one of data and file is given."""

        def query(db: Any) -> tuple[bytes | None, str | None, int] | None:
            row = db.execute("SELECT data,file,size FROM body WHERE digest=?", (digest,)).fetchone()
            return (None if row[0] is None else bytes(row[0]), row[1], row[2]) if row else None

        return await self._ask(query)

    # documents on

    def ask(self, neighbour: OrgId, ask: Ask, *, stands: bool) -> asyncio.Future[Offer | None]:
        return self._writer.ask([towards(str(neighbour))], lambda tx: road.next_offer(tx, str(neighbour), ask), stands=stands)

    def settle(self, neighbour: OrgId, settlements: Sequence[Settlement]) -> asyncio.Future[None]:
        stamp = self.stamp()
        return self._writer.put(lambda tx: road.settle(tx, str(neighbour), settlements, stamp))

    async def body_crossed(self, neighbour: OrgId, digest: str) -> None:
        await self._do(lambda tx: road.body_crossed(tx, str(neighbour), digest))

    async def astray(self, known: Sequence[OrgId], limit: int) -> list[Stray]:
        codes = [str(code) for code in known]
        return await self._ask(lambda db: road.astray(db, codes, limit))

    async def reroute(self, item: int, neighbour: OrgId) -> None:
        stamp = self.stamp()
        await self._do(lambda tx: road.reroute(tx, item, neighbour, stamp))

    async def hold_gone(self, item: int) -> bool:
        """Put aside a copy that a neighbour may have of whom no directory knows any more. Returns whether it was there."""
        stamp = self.stamp()
        return await self._do(lambda tx: road.hold(tx, item, NEIGHBOUR_GONE, stamp))

    async def hold_body(self, neighbour: OrgId, digest: str, reason: str) -> int:
        stamp = self.stamp()
        return await self._do(lambda tx: road.hold_body(tx, str(neighbour), digest, reason, stamp))

    async def session_began(self, neighbour: OrgId) -> None:
        while await self._do(lambda tx: road.session_began(tx, str(neighbour), PIECE)) == PIECE:
            pass  # others are served between two pieces

    async def offered_body(self, neighbour: OrgId, digest: str) -> tuple[str | None, bytes | None, int] | None:
        return await self._ask(lambda db: road.offered_body(db, str(neighbour), digest))

    async def expired(self, before_ms: int, limit: int) -> list[Expired]:
        return await self._ask(lambda db: road.expired(db, before_ms, limit))

    async def left_behind(self, organs: Sequence[OrgId], limit: int) -> list[Expired]:
        codes = [str(organ) for organ in organs]
        return await self._ask(lambda db: road.left_behind(db, codes, limit))

    async def expire(self, found: Expired, home: Homeward) -> None:
        stamp = self.stamp()

        def work(tx: Transaction) -> None:
            if found.place == "out" and road.still_expired(tx, found.item):
                road.end(tx, found.item, home, stamp)
            if found.place == "box" and boxes.still_unfetched(tx, found.item):
                boxes.end(tx, found.item, home, stamp)

        await self._do(work)

    # documents out

    async def waiting(self, organs: Sequence[OrgId], kind: str, limit: int) -> list[Waiting]:
        codes = [str(organ) for organ in organs]
        return await self._ask(lambda db: boxes.waiting(db, codes, kind, limit))

    def lay_out(
        self, organs: Sequence[OrgId], kind: str, *, after: int | None, limit: int, room_bytes: int | None, stands: bool
    ) -> asyncio.Future[LaidOut | None]:
        codes = [str(organ) for organ in organs]
        return self._writer.ask(
            [laid_before(code) for code in codes],
            lambda tx: boxes.lay_out(tx, codes, kind, after, limit, room_bytes),
            stands=stands,
        )

    async def count(self, organs: Sequence[OrgId], kind: str) -> int:
        codes = [str(organ) for organ in organs]
        return await self._ask(lambda db: boxes.count(db, codes, kind))

    async def items_of(self, organs: Sequence[OrgId], doc_id: str) -> list[BoxItem]:
        codes = [str(organ) for organ in organs]
        return await self._ask(lambda db: boxes.items_of(db, codes, doc_id))

    async def items_of_many(self, organs: Sequence[OrgId], doc_ids: Sequence[str]) -> list[BoxItem]:
        codes = [str(organ) for organ in organs]
        return await self._ask(lambda db: boxes.items_of(db, codes, *doc_ids))

    async def body_of(self, item: int) -> tuple[str, int, bytes | None, str | None] | None:
        return await self._ask(lambda db: boxes.body_of(db, item))

    async def fetched(self, item: int) -> bool:
        stamp = self.stamp()
        return await self._do(lambda tx: item in boxes.fetched(tx, [item], stamp))

    async def fetched_many(self, items: Sequence[int]) -> frozenset[int]:
        """The office begins to read these; those that have ended are not among what is returned."""
        stamp = self.stamp()
        return await self._do(lambda tx: boxes.fetched(tx, items, stamp))

    async def collect(self, item: int, home: Homeward) -> None:
        stamp = self.stamp()
        await self._do(lambda tx: boxes.collect(tx, item, home, stamp))

    async def collect_many(self, groups: Sequence[Confirmed]) -> list[bool]:
        stamp = self.stamp()
        return await self._do(lambda tx: boxes.collect_many(tx, groups, stamp))

    async def set_word(self, item: int, word: str) -> None:
        stamp = self.stamp()
        await self._do(lambda tx: boxes.set_word(tx, item, word, stamp))

    async def fail(self, item: int, fails_max: int, reason: str) -> bool:
        stamp = self.stamp()
        return await self._do(lambda tx: boxes.fail(tx, item, fails_max, reason, stamp))

    async def sent(self, system: str, status_lines: bool, doc_id: str | None, limit: int, describe: Describe) -> list[SentLine]:
        return await self._ask(lambda db: boxes.sent(db, system, status_lines, doc_id, limit, describe))

    async def owns_sent(self, system: str, doc_id: str) -> bool:
        return await self._ask(lambda db: boxes.owns_sent(db, system, doc_id))

    async def request_agency(self, system: str, action: str, fields: Mapping[str, str]) -> int:
        stamp = self.stamp()
        return await self._do(lambda tx: boxes.request_agency(tx, system, action, fields, stamp))

    # the operator's desk

    async def queue(self, neighbour: str | None, state: str | None, after: Cursor, limit: int) -> Listing:
        return await self._ask(lambda db: desk.queue(db, neighbour, state, after, limit))

    async def queue_item(self, item: int) -> dict[str, Any] | None:
        return await self._ask(lambda db: desk.queue_item(db, item))

    async def act_queue(self, action: str, items: Sequence[int], neighbour: str | None, who: str, why: str) -> int:
        stamp = self.stamp()
        return await self._do(lambda tx: desk.act_queue(tx, action, items, neighbour, who, why, stamp))

    async def held(self, after: Cursor, limit: int) -> Listing:
        return await self._ask(lambda db: desk.held(db, after, limit))

    async def held_out(self, item: int) -> tuple[bytes, str] | None:
        return await self._ask(lambda db: desk.header_of_out(db, item))

    async def held_box(self, item: int) -> tuple[bytes, tuple[str, ...]] | None:
        return await self._ask(lambda db: desk.header_of_box(db, item))

    async def drop_out(self, item: int, home: Homeward, who: str, why: str) -> None:
        stamp = self.stamp()

        def work(tx: Transaction) -> None:
            if desk.header_of_out(tx.db, item) is None or road.in_doubt(tx.db, item):
                return  # in doubt (decision 6), released, or dropped by somebody else, while this was being prepared
            chain.act(tx, stamp, Act("held.drop", f"out-{item}", who, why, "held", "dropped"))
            road.end(tx, item, home, stamp)

        await self._do(work)

    async def drop_box(self, item: int, home: Homeward, who: str, why: str) -> None:
        stamp = self.stamp()

        def work(tx: Transaction) -> None:
            if desk.header_of_box(tx.db, item) is None:
                return
            chain.act(tx, stamp, Act("held.drop", f"box-{item}", who, why, "held", "dropped"))
            boxes.end(tx, item, home, stamp)

        await self._do(work)

    async def release_box(self, item: int, who: str, why: str) -> bool:
        stamp = self.stamp()
        return await self._do(lambda tx: desk.release_box(tx, item, who, why, stamp))

    async def decide_agency(self, item: int, state: str, who: str, why: str) -> bool:
        stamp = self.stamp()
        return await self._do(lambda tx: desk.decide_agency(tx, item, state, who, why, stamp))

    async def directory_kept(self) -> tuple[list[changes.Row], dict[str, bytes]]:
        return await self._ask(changes.kept)

    async def keep_directory(self, found: Sequence[Held], chains: Mapping[str, bytes], told: Mapping[str, str]) -> None:
        stamp = self.stamp()
        await self._do(lambda tx: changes.keep(tx, found, chains, told, stamp))

    async def trace(self, key: str, limit: int) -> list[dict[str, Any]]:
        return await self._ask(lambda db: desk.trace(db, key, limit))

    async def depths(self) -> dict[str, Any]:
        now_ms = self._clock.utc_ms()
        waiting = self._writer.depths.copy()
        return await self._ask(lambda db: desk.depths(db, now_ms, waiting))

    # evidence

    async def sent_under(self, key: str, node: OrgId, limit: int) -> list[SentDocument]:
        return await self._ask(lambda db: proofs.sent_under(db, key, str(node), limit))

    async def handed(self, origin: OrgId, id_: str) -> list[Handed]:
        return await self._ask(lambda db: proofs.handed(db, str(origin), id_))

    async def receipts(self, numbers: Sequence[int]) -> dict[int, Receipt]:
        return await self._ask(lambda db: proofs.receipts(db, numbers))

    async def notices(self, numbers: Sequence[int]) -> list[Told]:
        return await self._ask(lambda db: proofs.notices(db, numbers))

    async def ended_here(self, origin: OrgId, id_: str) -> list[tuple[OrgId, str, Transport, int]]:
        return await self._ask(lambda db: proofs.ended_here(db, str(origin), id_))

    # the journal

    async def journal_tail(self) -> Place:
        return await self._ask(chain.tail)

    async def walk(self, after: Place, limit: int) -> tuple[Place, Broken | None]:
        return await self._ask(lambda db: chain.walk(db, after, limit))

    async def stands(self, place: Place) -> Broken | None:
        return await self._ask(lambda db: chain.stands(db, place))

    async def heads(self, node: OrgId) -> list[KeptHead]:
        return await self._ask(lambda db: chain.heads(db, str(node)))

    async def keep_head(self, node: OrgId, head: KeptHead, chain_pem: bytes) -> None:
        await self._do(lambda tx: chain.keep_head(tx, str(node), head, chain_pem))

    async def take_head(self, node: OrgId, head: KeptHead, chain_pem: bytes) -> None:
        stamp = self.stamp()
        await self._do(lambda tx: chain.take_head(tx, stamp, str(node), head, chain_pem))

    async def act(self, done: Act) -> None:
        stamp = self.stamp()
        await self._do(lambda tx: chain.act(tx, stamp, done))

    async def take_in(self, acts: Sequence[Act]) -> None:
        stamp = self.stamp()
        await self._do(lambda tx: chain.take_in(tx, stamp, acts))

    async def acts(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        return await self._ask(lambda db: chain.acts(db, before, limit))

    async def settings(self, values: Mapping[str, Any], user: str) -> None:
        stamp = self.stamp()
        await self._do(lambda tx: chain.settings(tx, stamp, values, user))

    # care

    async def forget(
        self, *, handed_over_ms: int, collected_ms: int, sent_ms: int, evidence_ms: int, limit: int
    ) -> tuple[list[str], int]:
        stamp = self.stamp()
        return await self._do(
            lambda tx: care.forget(
                tx,
                stamp,
                handed_over_ms=handed_over_ms,
                collected_ms=collected_ms,
                sent_ms=sent_ms,
                evidence_ms=evidence_ms,
                limit=limit,
            )
        )

    async def known_files(self) -> set[str]:
        return await self._ask(care.known_files)

    async def vouched_ms(self) -> int:
        """The last instant this node stamped as synchronised; 0: none."""
        return await self._ask(care.vouched_ms)

    async def verify_chain(self) -> int | None:
        return await self._ask(care.verify_chain)

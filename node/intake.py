"""Documents in: check, decide, store, acknowledge. From an office system (`submit`) or from a neighbour (`accept`).

Nothing is answered "taken" before its commit. Knows `core` and the ports; the edXML reader is handed in. It does not know HTTP,
and it does not wait for anybody further up the road.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Protocol

import structlog

from node.core import instant, speaking
from node.core.addressing import View, address, doc_ids, owners_of, report_of, sender_of, status_targets
from node.core.counting import said
from node.core.custody import Admitted, Arrival, StatusReport, Stored, StoredBody, Submission
from node.core.directory import Directory
from node.core.envelope import (
    HEADER_BYTES_MAX,
    KIND_DOCUMENT,
    KIND_NOTICE,
    KIND_STATUS,
    BodyRef,
    Envelope,
    Header,
    Hop,
    Lane,
    Limits,
    Recipient,
    check,
    lane_of,
)
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.joining import joined_by, plain_date, plain_notation
from node.core.notice import decode_notice, only_body
from node.core.office import Claim, Problem, Submitted, System
from node.core.package import Package
from node.core.routing import Decision, Deliver, Forward, Refuse, Table, decide, decide_node
from node.core.tally import Tally
from node.core.wire import Batch, EnvelopeVerdicts, Verdict
from node.core.wire import Outcome as Word
from node.origin import MEDIA_EDXML, Content, Origin
from node.ports import Bodies, Clock, Spool, Store, Verifier

log = structlog.get_logger()

URGENT = (Lane.EXPRESS, Lane.VERY_URGENT, Lane.URGENT)
LATER_S = 30.0
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
TITLE_MAX = 500
STATUS_BYTES_MAX = 4 << 20


class Reader(Protocol):
    def feed(self, chunk: bytes) -> None: ...

    def close(self) -> Package: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says of documents in. lifetime_ms: hạn chuyển. Ratios 0..1."""

    limits: Limits
    lifetime_ms: int
    repeat_ms: int
    free_bulk: float
    free_urgent: float


@dataclass(frozen=True, slots=True)
class _Ready:
    """A package that was read and judged, and is to be taken into custody."""

    submission: Submission
    problems: tuple[Problem, ...]

    @property
    def files(self) -> list[str]:
        return [body.file for body in self.submission.local.bodies if body.file is not None]


@dataclass(frozen=True, slots=True)
class _Now:
    """What is the same for all envelopes of a batch. at_ms: UTC; hop: this node's, which each gets; free: of the disk, 0..1."""

    at_ms: int
    bound_ms: int
    synchronised: bool
    hop: Hop
    table: Table
    free: float

    def passed(self, envelope: Envelope) -> Envelope:
        """As it leaves this node: with its hop."""
        return Envelope(envelope.sealed, envelope.remaining, (*envelope.hops, self.hop), envelope.attempts)


Outcome = Submitted | Refused | Deferred
"""What became of one package of many."""


def _postponed(envelope: Envelope, now: _Now, later: Verdict) -> Arrival:
    nowhere = dict.fromkeys(envelope.remaining, Deliver())
    return Arrival(now.passed(envelope), nowhere, nowhere, {}, (), later=later)


class Intake:
    """One per node; every door of documents in, for offices and for neighbours, leads to it."""

    def __init__(
        self,
        code: OrgId,
        store: Store,
        bodies: Bodies,
        clock: Clock,
        verifier: Verifier,
        origin: Origin,
        tally: Tally,
        rules: Rules,
        table: Callable[[], Table],
        directory: Callable[[], Directory],
        systems: Callable[[], Sequence[System]],
        new_reader: Callable[[], Reader],
    ) -> None:
        self._code = code
        self._store = store
        self._bodies = bodies
        self._clock = clock
        self._verifier = verifier
        self._origin = origin
        self._tally = tally
        self._rules = rules
        self._table = table
        self._directory = directory
        self._systems = systems
        self._known_systems: Sequence[System] | None = None
        self._known_owners: Mapping[OrgId, str] = {}
        self._new_reader = new_reader

    # from an office system

    async def submit(self, system: System, chunks: AsyncIterator[bytes], claim: Claim) -> Submitted:
        """Take one package from an office system. Returns after the commit.

        Raises Refused (the package, the sender or every receiver is wrong; nothing was changed) or Deferred (disk).
        """
        try:
            found = await self._judged(system, chunks, claim, self._view())
        except Refused as refusal:  # counted by the face, which also counts what never came this far
            _tell_refused(system, refusal)
            raise
        if isinstance(found, Submitted):
            return found
        # From here on the row may be committed, whatever becomes of the caller: a client that hangs up must not take the body's
        # file away from its row.
        return await asyncio.shield(self._take(found))

    async def submit_many(self, system: System, packages: Sequence[tuple[Iterable[bytes], Claim]]) -> list[Outcome]:
        """The same for some packages that are all here, in their order and in one transaction; each is judged alone. Whoever
        has many gives a few at a time: others wait meanwhile."""
        view = self._view()
        found: list[_Ready | Outcome] = []
        try:
            for chunks, claim in packages:
                found.append(await self._judged_safely(system, chunks, claim, view))
        except BaseException:  # nobody waits any more
            await self._bodies.delete([file for each in found if isinstance(each, _Ready) for file in each.files])
            raise
        ready = [each for each in found if isinstance(each, _Ready)]
        taken = iter(await asyncio.shield(self._take_many(system, ready)) if ready else ())
        return [next(taken) if isinstance(each, _Ready) else each for each in found]

    async def _judged_safely(
        self, system: System, chunks: Iterable[bytes], claim: Claim, view: View
    ) -> _Ready | Submitted | Refused | Deferred:
        """One bad package does not stop the others of its request; an error nobody classified is `Deferred`, and logged."""
        try:
            return await self._judged(system, _each(chunks), claim, view)
        except Refused as refusal:
            _tell_refused(system, refusal)
            return refusal
        except Deferred as deferred:
            return deferred
        except Exception:
            log.exception("package could not be judged", system=system.id)
            return Deferred(LATER_S, Reason.INTERNAL)

    async def _judged(self, system: System, chunks: AsyncIterator[bytes], claim: Claim, view: View) -> _Ready | Submitted:
        """Read and judge; nothing is in custody yet."""
        self._check_room(Lane.CONTROL)
        spool = self._bodies.spool()
        try:
            package, body = await self._read(chunks, spool)
        except BaseException:
            await spool.discard()
            raise
        try:
            return await self._prepare(system, package, body, claim, view)
        except BaseException as error:
            await self._bodies.delete([body.file] if body.file is not None else [])
            # The same file again, its receiver closed meanwhile: the first is in custody, and its answer may be what was lost.
            since_ms = self._clock.utc_ms() - self._rules.repeat_ms
            kind = KIND_STATUS if package.is_status else KIND_DOCUMENT
            first = await self._store.repeat_of(system.id, body.sha256, kind, since_ms) if isinstance(error, Refused) else None
            if first is None:
                raise
            return self._repeated(first)

    async def _read(self, chunks: AsyncIterator[bytes], spool: Spool) -> tuple[Package, StoredBody]:
        reader = self._new_reader()
        async for chunk in chunks:
            reader.feed(chunk)
            await spool.write(chunk)
        package = reader.close()
        return package, await spool.finish()

    async def _take(self, ready: _Ready) -> Submitted:
        try:
            stored = await self._store.submit(ready.submission)
        except Exception as error:
            await self._drop_unnamed(ready, error)
            raise
        await self._bodies.delete(stored.orphans)
        if not stored.repeated:
            header, system = ready.submission.local.envelope.header, ready.submission.system
            log.info("package taken", envelope=header.id, kind=header.kind, count=len(header.recipients), system=system)
        return self._taken(ready, stored)

    async def _take_many(self, system: System, ready: Sequence[_Ready]) -> list[Submitted | Deferred]:
        """What the store does not take, it says of all or of each."""
        try:
            found = await self._store.submit_many([each.submission for each in ready])
        except Deferred as deferred:
            found = [deferred] * len(ready)
        outcomes: list[Submitted | Deferred] = []
        new = []
        for each, stored in zip(ready, found, strict=True):
            if isinstance(stored, Deferred):
                await self._drop_unnamed(each, stored)
                outcomes.append(stored)
                continue
            await self._bodies.delete(stored.orphans)
            outcomes.append(self._taken(each, stored))
            if not stored.repeated:
                new.append(each.submission.local.envelope.header.id)
        if new:
            log.info("packages taken", count=len(new), first=new[0], last=new[-1], system=system.id)
        return outcomes

    def _taken(self, ready: _Ready, stored: Stored) -> Submitted:
        if stored.repeated:
            return self._repeated(stored)
        self._tally.add("truc_envelopes_accepted_total", source="office")
        for problem in ready.problems:
            self._tally.add("truc_refusals_total", door="office", reason=problem.refusal.reason.value)
        local = ready.submission.local
        self._hasten(local.envelope.header, sum(neighbour is None for neighbour in local.routes.values()))
        return Submitted(stored.doc_id, False, ready.problems)

    def _repeated(self, stored: Stored) -> Submitted:
        """What became of the first, not what today's directory would say: nothing was sent now."""
        self._tally.add("truc_duplicates_total", door="office")
        first = tuple(
            Problem(each.written, Refused(each.reason, "To/OrganId", each.written, each.successor), each.successor)
            for each in stored.refused
        )
        return Submitted(stored.doc_id, True, first)

    async def _drop_unnamed(self, ready: _Ready, error: Exception) -> None:
        """After a commit that failed. In doubt: the row may be there, and names the file."""
        if not (isinstance(error, Deferred) and error.in_doubt):
            await self._bodies.delete(ready.files)

    async def _prepare(self, system: System, package: Package, body: StoredBody, claim: Claim, view: View) -> _Ready:
        sender = sender_of(view, system, package.sender)
        if claim.sender and claim.sender != package.sender.code:
            log.info("claimed sender differs from the package", system=system.id, claimed=claim.sender[:100])
        if package.is_status:
            written = await self._status_targets(sender, package, view.directory)
        else:
            written = [(party.code, party.code) for party in package.recipients]
        addressed = address(view, written, system)
        kind = KIND_STATUS if package.is_status else KIND_DOCUMENT
        self._check_room(lane_of(kind, package.priority, package.business))
        now_ms = self._clock.utc_ms()
        content = Content(
            kind=kind,
            sender=sender,
            recipients=addressed.recipients,
            body=body,
            media=MEDIA_EDXML,
            doc_id=self._origin.fresh_id(),
            priority=package.priority,
            business=package.business,
            document_id=(package.response_for[0].document_id if package.is_status else package.document_id)[:400],
            expires_ms=0 if package.is_status else now_ms + self._rules.lifetime_ms,
        )
        named = doc_ids(view.owners, content.doc_id, addressed.recipients)
        local = self._origin.make(content, addressed.routes, named)
        if len(local.envelope.header_bytes) > HEADER_BYTES_MAX:  # no neighbour would read it
            raise Refused(Reason.TOO_MANY_ELEMENTS, "To", str(len(addressed.recipients)), f"≤ {HEADER_BYTES_MAX} B")
        report = report_of(package, sender, [r.code for r in addressed.recipients if addressed.routes[r.code] is None])
        submission = Submission(
            system=system.id,
            file_digest=body.sha256,
            message_type="status" if package.is_status else claim.message_type,
            sender_text=package.sender.code,
            sender_name=package.sender.name,
            notation=plain_notation(package.number_notation),
            date=plain_date(package.date),
            title=(package.description if package.is_status else package.subject)[:TITLE_MAX],
            local=local,
            refused=addressed.refused,
            repeat_since_ms=now_ms - self._rules.repeat_ms,
            report=report,
            said=said(package, plain_date(package.due_date)),
            answers=package.is_status and package.status != "13",
        )
        if addressed.problems and not package.is_status:
            submission = replace(submission, returned=self._origin.door_returns(submission, addressed.problems))
        return _Ready(submission, addressed.problems)

    def _check_room(self, lane: Lane) -> None:
        """Disk runway: bulk stops first, then everything; never a lost row (architecture, section 5)."""
        self._check_free(self._bodies.free_ratio(), lane)

    def _check_free(self, free: float, lane: Lane) -> None:
        if free < self._rules.free_urgent or (free < self._rules.free_bulk and lane is Lane.NORMAL):
            self._tally.add("truc_drops_total", reason=Reason.DISK_FULL.value)
            raise Deferred(LATER_S, Reason.DISK_FULL)

    def _view(self) -> View:
        return View(self._directory(), self._table(), self._today(), self._owners())

    def _owners(self) -> Mapping[OrgId, str]:
        """Who serves which organ; made again only when the systems have changed."""
        systems = self._systems()
        if systems is not self._known_systems:
            self._known_systems, self._known_owners = systems, owners_of(systems)
        return self._known_owners

    def _today(self) -> date:
        return instant.day(self._clock.utc_ms())

    async def _status_targets(self, reporter: OrgId, package: Package, directory: Directory) -> list[tuple[str, str]]:
        """Whom a status is for, by the document it names as this node knows it."""
        reference = package.response_for[0]
        if package.status == "13":
            known = await self._store.receivers(reporter, *joined_by(reference))
        else:
            known = await self._store.addressee(reporter, reference.document_id)
        return status_targets(directory, package, reporter, known)

    # from a neighbour

    async def accept(self, batch: Batch, neighbour: OrgId) -> tuple[EnvelopeVerdicts, ...]:
        """Judge a batch; verdicts per (envelope, recipient), after the commit. One bad envelope does not stop the others."""
        now = self._now()
        arrivals = [await self._judge_safely(envelope, batch, neighbour, now) for envelope in batch.envelopes]
        # A neighbour that hangs up must not keep files that nobody needs.
        admitted = await asyncio.shield(self._admit(arrivals, neighbour))
        for arrival, each in zip(arrivals, admitted, strict=True):
            self._count(arrival, each, neighbour)
        return tuple(
            EnvelopeVerdicts(arrival.envelope.header.origin, arrival.envelope.header.id, each.verdicts)
            for arrival, each in zip(arrivals, admitted, strict=True)
        )

    async def _admit(self, arrivals: list[Arrival], neighbour: OrgId) -> list[Admitted]:
        if not arrivals:
            return []
        admitted = await self._store.admit(arrivals, neighbour)
        await self._bodies.delete([file for each in admitted for file in each.orphans])
        return admitted

    def _count(self, arrival: Arrival, admitted: Admitted, neighbour: OrgId) -> None:
        header = arrival.envelope.header
        for _ in range(admitted.duplicates):
            self._tally.add("truc_duplicates_total", door="link")
        if admitted.comebacks:
            self._tally.add("truc_comebacks_total", admitted.comebacks)
        if admitted.conflicts:
            self._tally.add("truc_digest_conflicts_total")
            log.error("known envelope id with other content", envelope=header.id, neighbour=str(neighbour))
        taken = 0
        for verdict in admitted.verdicts.values():
            if verdict.outcome is Word.REFUSED and verdict.reason is not None:
                self._tally.add("truc_refusals_total", door="link", reason=verdict.reason.value)
                log.warning("envelope refused", envelope=header.id, neighbour=str(neighbour), reason=verdict.reason.value)
            taken += verdict.outcome is Word.TAKEN
        if taken > admitted.duplicates:
            self._tally.add("truc_envelopes_accepted_total", source="link")
            if admitted.flag is not None:
                self._tally.add("truc_statuses_total", result=admitted.flag.value or "matched")
            for end_of in arrival.ends:
                self._tally.add("truc_notices_total", result=end_of.end.state.value)
            here = [verdict for code, verdict in admitted.verdicts.items() if isinstance(arrival.judged.get(code), Deliver)]
            self._hasten(header, sum(verdict.outcome is Word.TAKEN for verdict in here))

    def _hasten(self, header: Header, laid: int) -> None:
        """So many receivers have this document before them now; that it is urgent is said at once. # QĐ 28/2018 Điều 6.2"""
        if laid and header.lane in URGENT:
            self._tally.add("truc_urgent_laid_total", laid, lane=header.lane.name.lower())
            log.info("urgent document waits for its office", envelope=header.id, lane=header.lane.name.lower(), count=laid)

    def _now(self) -> _Now:
        now_ms, bound_ms = self._clock.utc_ms(), self._clock.bound_ms()
        hop = Hop(self._code, now_ms, bound_ms)
        return _Now(now_ms, bound_ms, self._clock.synchronised(), hop, self._table(), self._bodies.free_ratio())

    async def _judge_safely(self, envelope: Envelope, batch: Batch, neighbour: OrgId, now: _Now) -> Arrival:
        """The one catch-all of intake: an error nobody classified is `later`, logged; after enough attempts the presenter holds
        the envelope for a person. It is never lost and never blocks its neighbours.

        Whatever the judgement, the store is asked first whether the key is known: a copy whose answer was lost must hear what
        became of the first, not what we think today (decision 4).
        """
        try:
            return await self._judge(envelope, batch, neighbour, now)
        except Refused as refusal:
            refused = dict.fromkeys(envelope.remaining, Refuse(refusal.reason))
            return Arrival(now.passed(envelope), refused, refused, {}, ())
        except Deferred as deferred:
            return _postponed(envelope, now, Verdict(Word.LATER, reason=deferred.reason, retry_s=deferred.retry_after_s))
        except Exception:
            log.exception("envelope could not be judged", envelope=envelope.header.id, neighbour=str(neighbour))
            return _postponed(envelope, now, Verdict(Word.LATER, reason=Reason.INTERNAL, retry_s=LATER_S))

    async def _judge(self, envelope: Envelope, batch: Batch, neighbour: OrgId, now: _Now) -> Arrival:
        header = envelope.header
        reason = check(envelope, self._rules.limits, now_ms=now.at_ms, bound_ms=now.bound_ms, synchronised=now.synchronised)
        self._check_free(now.free, header.lane)
        table = now.table
        anew = {r.code: self._origin.last_word(header, self._route(table, header, r), r.organ) for r in envelope.for_recipients()}
        chain = await self._good_chain(header, batch)
        first, lacking = reason, tuple[str, ...]()
        if reason is None and not speaking.presents(table, header, neighbour):
            try:
                lacking = await self._lacking(envelope, chain, neighbour, now)
            except Refused as refused:
                first = refused.reason
        passed_here = any(hop.node == self._code for hop in envelope.hops)
        if first is None and passed_here:
            first = Reason.LOOP
        judged: dict[OrgId, Decision] = {}
        for code, decision in anew.items():
            back = isinstance(decision, Forward) and decision.neighbour == neighbour
            judged[code] = Refuse(first) if first is not None else Refuse(Reason.LOOP) if back else decision
        if reason is not None:  # what came back is exempt from the sender and loop rules, not from lifetime, size and hops
            anew = dict.fromkeys(anew, Refuse(reason))
        # Named over all recipients: a copy for some of them must not give two items of one system the same docId.
        laid = any(isinstance(decision, Deliver) for decision in anew.values())
        named = doc_ids(self._owners(), header.doc_id, header.recipients) if laid else {}
        arrival = Arrival(now.passed(envelope), judged, anew, named, _inline(header, batch), chain, unseen=lacking)
        here = [code for code, decision in (anew if passed_here else judged).items() if isinstance(decision, Deliver)]
        return await self._read_final(arrival, batch, here) if here else arrival

    async def _good_chain(self, header: Header, batch: Batch) -> bytes | None:
        """The origin's certificates as this neighbour sent them, if they are good; else those we hold. A neighbour that sends bad
        ones for a key we do not know yet is refused: asking again would bring the same."""
        chain = batch.certificates.get(header.key)
        if chain is None:
            return None
        try:
            self._verifier.vouch(header, chain)
        except Refused:
            if await self._store.chain(header.key) is None:
                raise
            return None
        return chain

    def _route(self, table: Table, header: Header, recipient: Recipient) -> Decision:
        return decide_node(table, recipient.code) if header.kind == KIND_NOTICE else decide(table, recipient.organ)

    async def _lacking(self, envelope: Envelope, chain: bytes | None, neighbour: OrgId, now: _Now) -> tuple[str, ...]:
        """What must be here before a child may present this, which none of its subtree has made: nothing, or its origin's
        certificates. A unit that moves is still heard through its former parents, and hands on what it has for others, by the
        origin's own signature: one that stands today, so that a key which was stolen and revoked opens no such way.
        `Refused(SENDER_OUTSIDE)`: it may not."""
        header = envelope.header
        outside = Refused(Reason.SENDER_OUTSIDE, "from", str(header.sender), str(neighbour))
        if not speaking.may_carry(self._directory(), header, neighbour):
            raise outside
        chain = chain or await self._store.chain(header.key)
        if chain is None:
            return (header.key,)
        try:
            self._verifier.attest(header.origin, header.key, chain, now.at_ms, envelope.header_bytes, envelope.signature)
        except Refused:
            raise outside from None
        self._tally.add("truc_moved_senders_total")
        return ()

    async def _read_final(self, arrival: Arrival, batch: Batch, here: Sequence[OrgId]) -> Arrival:
        """This node is the destination: verify the origin's signature, read what a notice or a status says."""
        envelope = arrival.envelope
        header = envelope.header
        chain = arrival.chain
        if chain is None and not self._verifier.knows(header.key):
            chain = await self._store.chain(header.key)
            if chain is None:
                return replace(arrival, unseen=(header.key,))
        self._verifier.verify(envelope, chain or b"", self._clock.utc_ms())
        directory = self._directory()
        if not speaking.signs_for(directory, header, self._clock.utc_ms(), self._rules.limits.lifetime_max_ms):
            raise Refused(Reason.SENDER_OUTSIDE, "from", str(header.sender), str(header.origin))
        if header.kind not in (KIND_NOTICE, KIND_STATUS):
            return arrival
        ref = only_body(header)
        if header.kind == KIND_STATUS and ref.size > STATUS_BYTES_MAX:
            return arrival  # too large to look into: the receiving office judges it
        data = await self._content(ref, batch)
        if data is None:
            return replace(arrival, unseen=(ref.sha256,))
        if header.kind == KIND_STATUS:
            return replace(arrival, report=self._read_status(header, data, here))
        ends = decode_notice(data)
        if not ends:
            raise Refused(Reason.WIRE_MALFORMED, "notice", str(len(data)))
        for end in ends:  # all of them or none: what is refused waits at the presenter, and no end is passed over in silence
            if not speaking.may_tell(directory, self._today(), self._code, header.sender, end):
                raise Refused(Reason.SENDER_OUTSIDE, "notice", str(end.recipient), str(header.sender))
        returned = await self._origin.returns([end for end in ends if end.origin == self._code])
        return replace(
            arrival,
            ends=ends,
            content=data,
            returns={(str(e.origin), e.id, e.recipient): returned[e.recipient] for e in ends if e.recipient in returned},
        )

    async def _content(self, ref: BodyRef, batch: Batch) -> bytes | None:
        if ref.sha256 in batch.bodies:
            return batch.bodies[ref.sha256]
        found = await self._store.body_bytes(ref.sha256)
        if found is None:
            return None
        data, file, size = found
        if size != ref.size:
            raise Refused(Reason.WIRE_MALFORMED, "header.bodies", str(ref.size), str(size))
        return data if data is not None else await self._bodies.read(file or "", 0, size)

    def _read_status(self, header: Header, data: bytes, here: Sequence[OrgId]) -> StatusReport | None:
        """A status that cannot be read is delivered all the same: the receiving office judges it."""
        if hashlib.sha256(data).hexdigest() != header.bodies[0].sha256:
            raise Refused(Reason.BODY_DAMAGED, "sha256", header.bodies[0].sha256)
        reader = self._new_reader()
        try:
            reader.feed(data)
            package = reader.close()
        except Refused as refusal:
            log.warning("status could not be read", envelope=header.id, reason=refusal.reason.value)
            return None
        return report_of(package, header.sender, here)


async def _each(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def _tell_refused(system: System, refusal: Refused) -> None:
    log.warning("package refused at the door", system=system.id, reason=refusal.reason.value, element=refusal.element)


def _inline(header: Header, batch: Batch) -> tuple[StoredBody, ...]:
    """The header's bodies that came with the batch. The wire has compared their digests; their sizes are the header's word."""
    found = []
    for ref in header.bodies:
        data = batch.bodies.get(ref.sha256)
        if data is None:
            continue
        if len(data) != ref.size:
            raise Refused(Reason.WIRE_MALFORMED, "header.bodies", str(ref.size), str(len(data)))
        found.append(StoredBody(ref.sha256, ref.size, data=data))
    return tuple(found)

"""What this node itself originates: envelopes with signed headers, notices home, and the axis's own 02 packages.

Knows `core` and the ports; the edXML writer is handed in. Decides nothing about when: intake, forwarder, mailbox and
housekeeper ask.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from node.core import instant, words
from node.core.bundle import Told
from node.core.custody import (
    BoxItem,
    Confirmed,
    End,
    EndOf,
    Homeward,
    LocalEnvelope,
    StoredBody,
    Submission,
    SubmissionInfo,
)
from node.core.directory import Directory
from node.core.envelope import (
    KIND_DOCUMENT,
    KIND_NOTICE,
    KIND_STATUS,
    BodyRef,
    Envelope,
    Header,
    Hop,
    Recipient,
    Sealed,
    encode_header,
    uuid7,
)
from node.core.errors import Reason, Refused
from node.core.forwarding import tells_home
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.notice import MEDIA_NOTICE, describe_end, encode_notice
from node.core.office import Problem
from node.core.package import Business, Party, Priority, Reference
from node.core.routing import Decision, Deliver, Forward, Refuse, Table, decide, decide_node
from node.ports import Clock, Signer, Store

MEDIA_EDXML = "application/edxml+xml"

WriteStatus = Callable[[Party, Reference, str, str, int], bytes]
"""(From, ResponseFor, StatusCode, Description, UTC ms) -> the bytes of a status package (documents/edxml.py)."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an envelope is to carry. expires_ms 0: never. body: the package, already spooled."""

    kind: str
    sender: OrgId
    recipients: tuple[Recipient, ...]
    body: StoredBody
    media: str
    doc_id: str
    priority: Priority = Priority.NORMAL
    business: Business = Business.NEW
    document_id: str = ""
    expires_ms: int = 0


GATHER_MS = 500
"""News that offices have collected leaves for a neighbour at once, and then so much later with all that came meanwhile: each is a
commit and a receipt at every node on its way, and nobody waits for it but a list that shows it."""
TOGETHER_MAX = 100
"""Documents of which one notice tells: what one answer of a mailbox brings, and far from what a notice may hold."""


class Origin:
    """Makes signed envelopes in this node's name."""

    def __init__(
        self,
        code: OrgId,
        store: Store,
        clock: Clock,
        signer: Signer,
        rng: random.Random,
        table: Callable[[], Table],
        directory: Callable[[], Directory],
        write_status: WriteStatus,
    ) -> None:
        self._code = code
        self._store = store
        self._clock = clock
        self._signer = signer
        self._rng = rng
        self._table = table
        self._directory = directory
        self._write_status = write_status
        self._gathering: dict[OrgId, int] = {}
        """When the next news of collections leaves for a neighbour (UTC ms)."""

    def fresh_id(self) -> str:
        return uuid7(self._clock.utc_ms(), self._rng)

    def make(
        self, content: Content, routes: Mapping[OrgId, OrgId | None], doc_ids: Mapping[OrgId, str] | None = None
    ) -> LocalEnvelope:
        """Sign a header for content. routes: recipient code to neighbour, or None for this node's own mailbox."""
        now_ms = self._clock.utc_ms()
        header = Header(
            id=uuid7(now_ms, self._rng),
            origin=self._code,
            epoch=self._store.epoch,
            kind=content.kind,
            sender=content.sender,
            recipients=content.recipients,
            priority=content.priority,
            created_ms=now_ms,
            bound_ms=self._clock.bound_ms(),
            expires_ms=content.expires_ms,
            doc_id=content.doc_id,
            document_id=content.document_id,
            business=content.business,
            bodies=(BodyRef(content.body.sha256, content.body.size),),
            media=content.media,
            key=self._signer.key_id,
        )
        encoded = encode_header(header)
        hops = (Hop(self._code, now_ms, self._clock.bound_ms()),)
        remaining = tuple(recipient.code for recipient in content.recipients)
        envelope = Envelope(Sealed(encoded, self._signer.sign(encoded), header), remaining, hops)
        return LocalEnvelope(envelope, routes, (content.body,), self._signer.chain_pem, doc_ids or {})

    def has_node(self, code: OrgId) -> bool:
        """Whether today's directory names such a node."""
        return self._directory().node(code) is not None

    def near(self) -> tuple[OrgId | None, frozenset[OrgId]]:
        """The nodes right above and below this one, by today's table."""
        table = self._table()
        return table.parent, frozenset(child.code for child in table.children)

    def is_closed(self, code: OrgId) -> bool:
        """Whether today's directory says that what is addressed to this code is returned because the code is closed."""
        return self._instead_of(code) is not None

    def last_word(self, header: Header, decision: Decision, organ: OrgId) -> Decision:
        """Whoever is nowhere may have been closed while a document was on its way: then it is returned as such."""
        if isinstance(decision, Refuse) and header.kind == KIND_DOCUMENT and self.is_closed(organ):
            return Refuse(Reason.RECIPIENT_CLOSED)
        return decision

    def instead_of(self, code: OrgId) -> str:
        """The codes to use instead of one that is closed, as text; "" for any other. # QĐ 09/2025/QĐ-TTg"""
        return self._instead_of(code) or ""

    def _instead_of(self, code: OrgId) -> str | None:
        try:
            self._directory().receiver(code, instant.day(self._clock.utc_ms()))
        except Refused as refused:
            return refused.rule if refused.reason is Reason.RECIPIENT_CLOSED else None
        return None

    def instead_of_written(self, written: str) -> str:
        """The same of a code as a clerk has written it."""
        try:
            return self.instead_of(self._directory().resolve(written))
        except Refused:
            return ""

    def next_hop(self, header: Header, code: OrgId) -> OrgId | None:
        """Which neighbour is the way to one recipient of header by today's table; None: none is."""
        table = self._table()
        organs = {recipient.code: recipient.organ for recipient in header.recipients}
        decision = decide_node(table, code) if header.kind == KIND_NOTICE else decide(table, organs[code])
        return decision.neighbour if isinstance(decision, Forward) else None

    async def homeward(self, header: Header, recipients: Iterable[OrgId], end: End) -> Homeward:
        """How the origin of header hears that these deliveries ended so: one notice, or its own rows if it is this node."""
        if not tells_home(header.kind):
            return Homeward(end)
        ends = tuple(EndOf(header.origin, header.id, code, end) for code in recipients)
        if header.origin != self._code:
            return Homeward(end, ends, notice=self._told(header.origin, ends, header.doc_id))
        return Homeward(end, ends, returned=await self.returns(ends))

    async def confirmed(self, items: Sequence[BoxItem], now_ms: int) -> AsyncIterator[Confirmed]:
        """How the origins of these hear that their documents were collected: those of one origin, for one organ here, by one
        notice. Whether this node may speak for an organ is judged at the origin, and it is one judgement for all of a notice."""
        together: dict[tuple[OrgId, OrgId], list[tuple[BoxItem, Homeward]]] = {}
        for item in items:
            end = End(Transport.COLLECTED, now_ms, receiver_doc_id=item.doc_id)
            if tells_home(item.header.kind) and item.header.origin != self._code:
                ends = tuple(EndOf(item.header.origin, item.id, code, end) for code in item.recipients)
                together.setdefault((item.header.origin, item.organ), []).append((item, Homeward(end, ends)))
            else:
                yield Confirmed([(item.item, await self.homeward(item.header, item.recipients, end))])
        for (origin, _organ), all_of_it in together.items():
            for begin in range(0, len(all_of_it), TOGETHER_MAX):
                part = all_of_it[begin : begin + TOGETHER_MAX]
                told = tuple(end_of for _, home in part for end_of in home.ends)
                doc_id = part[0][0].header.doc_id if len(part) == 1 else ""
                yield Confirmed([(item.item, home) for item, home in part], self._told(origin, told, doc_id))

    def _told(self, origin: OrgId, ends: tuple[EndOf, ...], doc_id: str) -> LocalEnvelope:
        """A notice on its way. What is no more than that offices have collected waits for others of its kind."""
        local = self._notice(origin, ends, doc_id)
        (neighbour,) = local.routes.values()
        if neighbour is None or any(end_of.end.state is not Transport.COLLECTED for end_of in ends):
            return local
        now_ms, next_ms = self._clock.utc_ms(), self._gathering.get(neighbour, 0)
        if now_ms < next_ms <= now_ms + GATHER_MS:
            return replace(local, due_ms=next_ms)
        self._gathering[neighbour] = now_ms + GATHER_MS
        return local

    def _notice(self, origin: OrgId, ends: tuple[EndOf, ...], doc_id: str) -> LocalEnvelope:
        data = encode_notice(ends)
        decision = decide_node(self._table(), origin)
        # A node nobody can name: the notice waits under that name, visible in the queue, until the directory knows it again.
        neighbour = decision.neighbour if isinstance(decision, Forward) else origin
        content = Content(KIND_NOTICE, self._code, (Recipient(origin),), small_body(data), MEDIA_NOTICE, doc_id)
        return self.make(content, {origin: None if isinstance(decision, Deliver) else neighbour})

    def testify(self, origin: OrgId, ends: tuple[EndOf, ...], doc_id: str) -> Told:
        """What a notice would say, signed and not sent: for whoever asks how it ended here."""
        local = self._notice(origin, ends, doc_id)
        return Told(local.envelope.header_bytes, local.envelope.signature, local.bodies[0].data or b"")

    async def returns(self, ends: Sequence[EndOf]) -> dict[OrgId, LocalEnvelope]:
        """02 packages From the axis for ends that are no delivery, to be laid into the sender's own mailbox."""
        found: dict[OrgId, LocalEnvelope] = {}
        for end_of in ends:
            if end_of.end.state is Transport.COLLECTED:
                continue
            info = await self._store.submission_of(end_of.origin, end_of.id)
            if info is not None and info.kind != KIND_STATUS:
                found[end_of.recipient] = self._return(info, end_of)
        return found

    def door_returns(self, submission: Submission, problems: Sequence[Problem]) -> tuple[LocalEnvelope, ...]:
        """02 packages for receivers that were refused at the door while others were not: the answer named them, and the sender's
        register hears of it like of any other end (architecture, section 7)."""
        header = submission.local.envelope.header
        info = SubmissionInfo(
            header.doc_id,
            submission.system,
            header.sender,
            submission.sender_text,
            submission.sender_name,
            header.document_id,
            submission.notation,
            submission.date,
            header.kind,
        )
        what = words.label("transport", Transport.REFUSED.value)
        return tuple(
            self._from_axis(info, f"Bên nhận {problem.written}: {what}. {words.sentence(problem.refusal)}")
            for problem in problems
        )

    def _return(self, info: SubmissionInfo, end_of: EndOf) -> LocalEnvelope:
        today = instant.day(self._clock.utc_ms())
        receiver = self._directory().name(end_of.recipient, today)
        return self._from_axis(info, describe_end(str(end_of.recipient), receiver, end_of.end, self.instead_of(end_of.recipient)))

    def _from_axis(self, info: SubmissionInfo, text: str) -> LocalEnvelope:
        """Never counted as the receiver's refusal: From is the axis, the text says so (architecture, section 7)."""
        directory = self._directory()
        now_ms = self._clock.utc_ms()
        axis = Party(directory.axis_code_text, directory.axis_name, in_charge=directory.axis_name)
        reference = Reference(info.sender_text, info.notation, info.date, info.document_id)
        data = self._write_status(axis, reference, "02", f"[Trục] {text}", now_ms)
        content = Content(
            KIND_STATUS,
            OrgId.parse(directory.axis_code_text),
            (Recipient(info.sender),),
            small_body(data),
            MEDIA_EDXML,
            self.fresh_id(),
        )
        return self.make(content, {info.sender: None})


def small_body(data: bytes) -> StoredBody:
    return StoredBody(hashlib.sha256(data).hexdigest(), len(data), data=data)

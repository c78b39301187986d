"""Bằng chứng: what proves the way of a document, gathered along its route when somebody asks, and made into one signed file.

The node where the document began keeps its header and the notices that told its ends; every node on the way keeps what the next
one signed. A question goes from neighbour to neighbour as custody did. What is gathered is judged here as anybody will judge it
later, so that no file leaves this node that proves nothing. Knows `core`, the ports, `origin` and the questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from node.core.bundle import (
    Bundle,
    Flawed,
    Proven,
    Told,
    judge,
    proofs_of,
    proven_fields,
    read_proven,
    read_told,
    told_fields,
    write_bundle,
)
from node.core.custody import End, EndOf
from node.core.envelope import KIND_STATUS, RECIPIENTS_MAX, Fields, decode_header, header_digest, read_code, strict_json
from node.core.errors import Deferred, Reason, Refused
from node.core.evidence import (
    CHAIN_BYTES_MAX,
    SIGNED_RECEIPT,
    Handed,
    SentDelivery,
    SentDocument,
    canonical,
    leaf,
    read_statement,
)
from node.core.identifier import OrgId
from node.core.lifecycle import ENDS
from node.core.notice import decode_notice
from node.core.routing import Forward, Table, decide_node
from node.origin import Origin
from node.ports import Clock, Signer, Store, Verifier
from node.questions import ANSWER_S, Questions

KIND = "evidence"
ONWARD = 0.9
"""Of the time that is left, so much is left to the next node: its answer must come back."""
PARTS_MAX = 20_000
FOUND_BYTES_MAX = 8 * 1024 * 1024
"""What one neighbour may have to show of PORTION recipients, far above what they need; read, it takes twenty times as much."""
MANY_MAX = 20
PORTION = 500
"""Of so many recipients is asked at once: what nodes say of all communes of the country would be no answer in size or time."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which deliveries of which envelope. digest: of its header; whoever does not know it is told nothing. at: the node that is
    asked, which need not be the one that reads it; None: it is."""

    origin: OrgId
    id: str
    digest: str
    to: tuple[OrgId, ...]
    at: OrgId | None = None


@dataclass(slots=True)
class Found:
    """What the nodes from here on have to show. silent: those that did not answer."""

    receipts: list[Proven] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    chains: dict[str, bytes] = field(default_factory=dict)
    silent: list[OrgId] = field(default_factory=list)

    def add(self, other: Found) -> None:
        self.receipts += other.receipts
        self.told += other.told
        self.chains = {**other.chains, **self.chains}
        self.silent += other.silent


@dataclass(frozen=True, slots=True)
class Collected:
    """A bundle; or why there is none: several documents under this key (their docIds), deliveries that are not over, nodes that
    did not answer, or what the parts lack."""

    bundle: bytes = b""
    many: tuple[str, ...] = ()
    open: tuple[SentDelivery, ...] = ()
    silent: tuple[OrgId, ...] = ()
    flaw: Flawed | None = None


class Proving:
    """One per node; answers its neighbours' questions for evidence as well."""

    def __init__(
        self,
        code: OrgId,
        store: Store,
        clock: Clock,
        origin: Origin,
        signer: Signer,
        verifier: Verifier,
        questions: Questions,
        table: Callable[[], Table],
    ) -> None:
        self._code = code
        self._store = store
        self._clock = clock
        self._origin = origin
        self._signer = signer
        self._verifier = verifier
        self._questions = questions
        self._table = table
        questions.handlers[KIND] = self.answer

    async def collect(self, key: str, to: Sequence[OrgId] = ()) -> Collected:
        """The evidence of what an office here has sent, by docId, envelope id or DocumentId; of these recipients or all.
        Raises Refused(DOC_UNKNOWN | RECIPIENT_UNKNOWN)."""
        found = await self._store.sent_under(key, self._code, MANY_MAX)
        if not found:
            raise Refused(Reason.DOC_UNKNOWN, "docId", key)
        if len(found) > 1:
            return Collected(many=tuple(each.doc_id for each in found))
        sent = found[0]
        known = {each.recipient: each for each in sent.deliveries}
        for code in to:
            if code not in known:
                raise Refused(Reason.RECIPIENT_UNKNOWN, "to", str(code))
        wanted = [known[code] for code in dict.fromkeys(to)] or list(sent.deliveries)
        unfinished = tuple(each for each in wanted if each.state not in ENDS and sent.kind != KIND_STATUS)
        if unfinished or not wanted:
            return Collected(open=unfinished)
        return await self._made(sent, wanted)

    async def _made(self, sent: SentDocument, wanted: Sequence[SentDelivery]) -> Collected:
        asked = Asked(sent.origin, sent.id, header_digest(sent.header), tuple(each.recipient for each in wanted))
        found = Found()
        for at in range(0, len(wanted), PORTION):
            found.add(await self._gather(replace(asked, to=asked.to[at : at + PORTION]), ANSWER_S))
        found.told += await self._verdicts(sent, wanted)
        silent = tuple(dict.fromkeys(found.silent))
        if sent.kind == KIND_STATUS:
            told = {end.recipient for each in found.told for end in decode_notice(each.body)}
            unfinished = tuple(each for each in wanted if each.recipient not in told)
            if unfinished:
                return Collected(silent=silent) if silent else Collected(open=unfinished)
        header = decode_header(sent.header)
        keys = {header.key, self._signer.key_id, *(read_statement(each.statement).key for each in found.receipts)}
        keys.update(decode_header(each.header).key for each in found.told)
        bundle = Bundle(
            self._code,
            self._clock.utc_ms(),
            self._clock.bound_ms(),
            self._signer.key_id,
            sent.doc_id,
            tuple(sorted(asked.to)),
            sent.header,
            sent.signature,
            _merged(found.receipts),
            tuple(found.told),
            await self._chains(keys, found.chains),
        )
        await self._look_into(bundle)
        try:
            judge(bundle, self._verifier.witness)
        except Flawed as flawed:  # a node that is silent, perhaps for good, is only in the way where something lacks without it
            return Collected(silent=silent) if silent else Collected(flaw=flawed)
        return Collected(write_bundle(bundle, self._signer.sign))

    async def _look_into(self, bundle: Bundle) -> None:
        """Every chain is judged once, and others have their turn between: a document to the whole country has thousands."""
        for proven in bundle.receipts:
            said = read_statement(proven.statement)
            with suppress(Refused):  # what is not good is named by the judgement
                signed = SIGNED_RECEIPT + proven.statement
                self._verifier.witness(said, signed, proven.signature, bundle.chains.get(said.key, b""))
            await asyncio.sleep(0)

    async def _chains(self, keys: Iterable[str], brought: Mapping[str, bytes]) -> dict[str, bytes]:
        """Our own word before another's."""
        found = {self._signer.key_id: self._signer.chain_pem}
        for key in sorted(keys):
            chain = found.get(key) or await self._store.chain(key) or brought.get(key)
            if chain is not None:
                found[key] = chain
        return found

    async def _verdicts(self, sent: SentDocument, wanted: Sequence[SentDelivery]) -> list[Told]:
        """The notices that told the ends; what ended at this very node it tells now."""
        told = await self._store.notices(sorted({each.notice for each in wanted if each.notice is not None}))
        here = [each for each in wanted if each.notice is None and each.state in ENDS]
        ends = tuple(EndOf(sent.origin, sent.id, each.recipient, _end_of(each)) for each in here)
        return [*told, self._origin.testify(sent.origin, ends, sent.doc_id)] if ends else told

    async def _gather(self, asked: Asked, left_s: float) -> Found:
        """What this node holds, and what those hold to whom it handed these deliveries."""
        wanted, handed = set(asked.to), await self._store.handed(asked.origin, asked.id)
        rows = [each for each in handed if each.digest == asked.digest and each.recipient in wanted]
        found = await self._own(asked, rows)
        onward: dict[OrgId, list[OrgId]] = {}
        for each in rows:
            if each.handed_to is not None:
                onward.setdefault(each.handed_to, []).append(each.recipient)
        answers = await asyncio.gather(*(self._ask(to, asked, codes, left_s * ONWARD) for to, codes in onward.items()))
        for answer in answers:
            found.add(answer)
        return found

    async def _own(self, asked: Asked, rows: Sequence[Handed]) -> Found:
        found = Found()
        given: dict[int, list[OrgId]] = {}
        for each in rows:
            if each.receipt is not None:
                given.setdefault(each.receipt, []).append(each.recipient)
        for number, receipt in (await self._store.receipts(sorted(given))).items():
            said = read_statement(receipt.statement)
            starts = [(code, leaf((asked.origin, asked.id, code), asked.digest, said.at_ms)) for code in given[number]]
            found.receipts.append(Proven(receipt.statement, receipt.signature, proofs_of(receipt.leaves, starts)))
            found.chains[said.key] = receipt.chain
        final = {each.recipient for each in rows if each.handed_to is None}
        if final and asked.origin != self._code:
            await self._testify(asked, final, found)
        return found

    async def _testify(self, asked: Asked, final: set[OrgId], found: Found) -> None:
        """Statuses have no notices: the node where they ended says so when it is asked."""
        ends = tuple(
            EndOf(asked.origin, asked.id, code, End(state, at_ms))
            for code, kind, state, at_ms in await self._store.ended_here(asked.origin, asked.id)
            if code in final and kind == KIND_STATUS
        )
        if ends:
            found.told.append(self._origin.testify(asked.origin, ends, ""))
            found.chains[self._signer.key_id] = self._signer.chain_pem

    async def _ask(self, node: OrgId, asked: Asked, codes: Sequence[OrgId], left_s: float) -> Found:
        """What a node and those behind it have to show; through the tree where it is no neighbour any more (one of us moved)."""
        question = _question(replace(asked, to=tuple(codes), at=node))
        try:
            found = _read(await self._questions.ask(self._towards(node), KIND, question, left_s))
            # To whom this node has handed anything it knows itself.
            found.receipts = [each for each in found.receipts if read_statement(each.statement).presenter != self._code]
            return found
        except (Deferred, Refused):
            return Found(silent=[node])

    def _towards(self, node: OrgId) -> OrgId:
        way = decide_node(self._table(), node)
        if not isinstance(way, Forward):
            raise Deferred(ANSWER_S)
        return way.neighbour

    async def answer(self, peer: OrgId, body: bytes, left_s: float) -> bytes:
        """What this node and those behind it have to show of deliveries that were here, or what the node says that is meant."""
        asked = _read_question(body)
        if asked.at is not None and asked.at != self._code:
            onward = self._towards(asked.at)
            if onward == peer:  # two directories disagree: it would go to and fro as long as it may
                raise Deferred(ANSWER_S)
            return await self._questions.ask(onward, KIND, body, left_s * ONWARD)
        return _written(await self._gather(asked, left_s))


def _merged(receipts: Iterable[Proven]) -> tuple[Proven, ...]:
    """Each receipt once, with all that it proves."""
    found: dict[bytes, Proven] = {}
    for each in receipts:
        known = found.get(each.statement)
        found[each.statement] = each if known is None else replace(known, proofs=(*known.proofs, *each.proofs))
    return tuple(found.values())


def _end_of(delivery: SentDelivery) -> End:
    reason = Reason(delivery.reason) if delivery.reason in set(Reason) else None
    return End(delivery.state, delivery.at_ms, reason, receiver_doc_id=delivery.receiver_doc_id)


def _question(asked: Asked) -> bytes:
    fields: dict[str, object] = {"origin": str(asked.origin), "id": asked.id, "digest": asked.digest}
    at = None if asked.at is None else str(asked.at)
    return canonical({**fields, "to": [str(code) for code in asked.to], "at": at})


def _read_question(body: bytes) -> Asked:
    fields = Fields(strict_json(body), KIND)
    to = tuple(read_code(code, KIND) for code in fields.items("to", RECIPIENTS_MAX))
    at = None if fields.get("at") is None else read_code(fields.get("at"), KIND)
    return Asked(read_code(fields.get("origin"), KIND), fields.text("id", 36), fields.text("digest", 64), to, at)


def _written(found: Found) -> bytes:
    return canonical(
        {
            "receipts": [proven_fields(each) for each in found.receipts],
            "told": [told_fields(each) for each in found.told],
            "chains": {key: chain.decode() for key, chain in found.chains.items()},
            "silent": [str(code) for code in found.silent],
        }
    )


def _read(data: bytes) -> Found:
    """Whatever a neighbour says; it proves itself or is found out when all is judged."""
    if len(data) > FOUND_BYTES_MAX:
        raise Refused(Reason.WIRE_TOO_LARGE, KIND, str(len(data)), f"≤ {FOUND_BYTES_MAX}")
    fields = Fields(strict_json(data), KIND)
    chains = fields.get("chains")
    if not isinstance(chains, dict) or len(chains) > PARTS_MAX:
        raise Refused(Reason.WIRE_MALFORMED, "chains")
    texts = Fields(chains, "chains")
    return Found(
        [read_proven(each) for each in fields.items("receipts", PARTS_MAX)],
        [read_told(each) for each in fields.items("told", PARTS_MAX)],
        {str(key): texts.text(key, CHAIN_BYTES_MAX).encode() for key in chains},
        [read_code(code, "silent") for code in fields.items("silent", PARTS_MAX)],
    )

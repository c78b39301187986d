"""Documents on: what is offered to each neighbour and what became of it; and the answers to the children's pulls.

Knows `core`, the ports and `origin`. What goes into a batch and what a verdict means is decided in `core/forwarding.py`; here is
only the waiting. The loops towards the parent are in `uplink.py`, on top of `offer` and `settled`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from node.core.custody import NEIGHBOUR_GONE, End, Expired, Offered, Settled, Settlement, Stray
from node.core.envelope import KIND_DOCUMENT, Envelope, Hop, Lane, Sealed, decode_header
from node.core.errors import Deferred, Reason, Refused
from node.core.evidence import read_statement
from node.core.forwarding import (
    BODY_WAIT_MS,
    Ask,
    Offer,
    Patience,
    Turn,
    charge,
    next_lane,
    settle,
    settle_astray,
    settle_choke,
    settle_failure,
    tells_home,
    together,
)
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.tally import Tally
from node.core.wire import QUESTIONS_MAX, Batch, EnvelopeVerdicts, PullRequest, Question
from node.origin import Origin
from node.ports import Bodies, Clock, Store
from node.receipts import Receipts

log = structlog.get_logger()

ASTRAY = (Reason.LOOP, Reason.RECIPIENT_UNKNOWN, Reason.SENDER_OUTSIDE)
"""Refusals that two directories which disagree for a while make of a good document: a unit has moved and one of them does not
know yet."""
ROWS_MAX = 5000
UNCONFIRMED_MAX = 3
STOPPING_RETRY_S = 2.0
SERVED_WAIT_MS = 100
"""After all bytes of a body were served, its envelope is offered again at once, and the child answers when it has committed
them. Should it not be able to, the next offer is twice this much later; the wait doubles."""
SERVED_MAX = 10_000
"""Digests remembered as served to one child; forgetting them costs one longer wait."""
CROSSING_S = 15.0
"""A body of which no byte has crossed for so long makes room for the batches again."""
CROSSING_MAX = 1_000
"""Bodies remembered as on their way to one neighbour; for a forgotten one nobody makes room."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one batch may hold, and how lanes share a full link."""

    batch_bytes: int
    envelopes: int
    weights: Mapping[Lane, int]
    patience: Patience


@dataclass(slots=True)
class Neighbour:
    """What is remembered of a neighbour between two batches; nothing here needs to survive the process."""

    code: OrgId
    asking: asyncio.Future[Offer | None] | None = None
    turn: Turn = field(default_factory=Turn)
    looked: Mapping[Lane, str] = field(default_factory=dict)
    chains: set[str] = field(default_factory=set)
    alone: int = 0
    knows: str = ""
    """The key of its receipts whose chain we have."""
    up: bool = False
    since_ms: int = 0
    last_seen_ms: int = 0
    # of a child's pulls
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    generation: int = 0
    session: str = ""
    sequence: int = 0
    outstanding: Sequence[Offered] = ()
    unconfirmed: int = 0
    questions: list[Question] = field(default_factory=list)
    """To be put to it when it pulls next."""
    served: set[str] = field(default_factory=set)
    news: bool = False
    """It is to hear at once that there is something else to ask for: its pull is answered empty."""
    # of a slow link
    slow: bool = False
    crossing: dict[str, tuple[Lane, float]] = field(default_factory=dict)
    """Bodies it needs: of which lane, and until when (loop time) batches make room for them."""
    shifted: bool = False
    """Another lane may have its turn now: what is being asked for is asked for anew."""

    def shift(self) -> None:
        """Ask anew for what may be offered, if anybody is asking."""
        if self.asking is not None and not self.asking.done():
            self.shifted = True
            self.asking.set_result(None)

    def stop_asking(self) -> None:
        if self.asking is not None:
            self.asking.cancel()
            self.asking = None


class Forwarder:
    """One per node; `neighbours` are the parent and the registered children."""

    def __init__(
        self,
        store: Store,
        bodies: Bodies,
        clock: Clock,
        origin: Origin,
        tally: Tally,
        bounds: Bounds,
        rng: random.Random,
        codes: Sequence[OrgId],
        receipts: Receipts,
    ) -> None:
        self._store = store
        self._bodies = bodies
        self._clock = clock
        self._origin = origin
        self._tally = tally
        self._bounds = bounds
        self._rng = rng
        self._receipts = receipts
        self._stopping = False
        self.neighbours = {code: Neighbour(code) for code in codes}

    @property
    def weights(self) -> Mapping[Lane, int]:
        return self._bounds.weights

    def meet(self, code: OrgId) -> None:
        """A node below that was registered while this one runs; one that is known already stays as it is."""
        self.neighbours.setdefault(code, Neighbour(code))

    def release(self) -> None:
        """The node is stopping: waiting pulls are answered now, new ones are sent away."""
        self._stopping = True
        for neighbour in self.neighbours.values():
            neighbour.generation += 1
            _interrupt(neighbour)

    def nudge(self) -> None:
        """There is something new for the children that does not come with a pull: their waiting pulls are answered empty."""
        for neighbour in self.neighbours.values():
            neighbour.news = True
            if neighbour.session:
                _interrupt(neighbour)

    def seen(self, neighbour: Neighbour, up: bool) -> None:
        """The neighbour answered, or did not."""
        now_ms = self._clock.utc_ms()
        if up:
            neighbour.last_seen_ms = now_ms
        if neighbour.up is not up or not neighbour.since_ms:
            neighbour.since_ms = now_ms
            log.info("neighbour reachable" if up else "neighbour unreachable", neighbour=str(neighbour.code))
        neighbour.up = up

    # what is offered

    async def next(
        self, neighbour: Neighbour, bytes_max: int, *, wait_s: float, became: Sequence[Settlement] = ()
    ) -> tuple[Sequence[Offered], Batch] | None:
        """The next batch for a neighbour, its rows marked as offered; None when nothing came within wait_s (0: nothing is there
        now), or somebody interrupted. became: what became of the last one, recorded before, in the same commit."""
        recording = self._store.settle(neighbour.code, became) if became else None
        asking = self._ask(neighbour, bytes_max, stands=wait_s > 0)
        try:
            if recording is not None:
                await self._recorded(neighbour, became, recording)
            offer = await (self._offered(neighbour, bytes_max, wait_s) if wait_s else asking)
        finally:
            asking.cancel()
            neighbour.stop_asking()
        if offer is None:
            return None
        neighbour.turn, neighbour.looked = offer.turn, offer.looked
        if offer.aside:
            self._tally.add("truc_held_total", offer.aside, reason=Reason.INTERNAL.value)
            log.error("rows that cannot be read are held for a person", neighbour=str(neighbour.code), count=offer.aside)
        if not offer.rows:
            return None
        neighbour.alone = max(0, neighbour.alone - 1)
        neighbour.chains.update(offer.chains)
        return offer.rows, Batch(_envelopes(offer.rows), offer.bodies, offer.chains, knows=neighbour.knows)

    async def _offered(self, neighbour: Neighbour, bytes_max: int, wait_s: float) -> Offer | None:
        """The answer to what is being asked; asked anew when a body has had its turn, or makes room because it does not move."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + wait_s
        while (left_s := ends_s - loop.time()) > 0 and neighbour.asking is not None:
            try:
                async with asyncio.timeout(min(left_s, CROSSING_S) if neighbour.crossing else left_s):
                    offer = await neighbour.asking
            except TimeoutError:
                offer, neighbour.shifted = None, True
            if offer is not None or not neighbour.shifted:
                return offer
            self._ask(neighbour, bytes_max, stands=True)
        return None

    def _ask(self, neighbour: Neighbour, bytes_max: int, *, stands: bool) -> asyncio.Future[Offer | None]:
        ask = Ask(
            bytes_max=min(bytes_max, self._bounds.batch_bytes),
            rows_max=ROWS_MAX,
            envelopes_max=1 if neighbour.alone else self._bounds.envelopes,
            weights=self._bounds.weights,
            turn=neighbour.turn,
            looked=neighbour.looked,
            chains=neighbour.chains,
            slow=neighbour.slow,
            beside=self._beside(neighbour) if neighbour.slow else None,
        )
        neighbour.stop_asking()
        neighbour.shifted = False
        neighbour.asking = self._store.ask(neighbour.code, ask, stands=stands)
        return neighbour.asking

    # bodies, which cross by themselves and share a slow link with the batches

    def moved(self, neighbour: Neighbour, sha256: str, lane: Lane, size: int) -> None:
        """So many bytes of a body have crossed to this neighbour. Room is made for it until its envelope is taken."""
        if neighbour.slow:
            neighbour.turn = charge(neighbour.turn, lane, size, self._bounds.weights)
            self._crosses(neighbour, sha256, lane)
            neighbour.shift()

    def stalled(self, neighbour: Neighbour, sha256: str) -> None:
        """A body does not get on: batches need not wait for it."""
        if neighbour.crossing.pop(sha256, None) is not None:
            neighbour.shift()

    def _crosses(self, neighbour: Neighbour, sha256: str, lane: Lane) -> None:
        neighbour.crossing[sha256] = lane, asyncio.get_running_loop().time() + CROSSING_S
        if len(neighbour.crossing) > CROSSING_MAX:
            del neighbour.crossing[next(iter(neighbour.crossing))]

    def _beside(self, neighbour: Neighbour) -> Lane | None:
        """The lane of the body whose turn is next, if one is on its way."""
        now_s = asyncio.get_running_loop().time()
        lanes = {lane for lane, until_s in neighbour.crossing.values() if until_s > now_s}
        return next_lane(lanes, neighbour.turn) if lanes else None

    # what became of it

    async def judged(
        self, neighbour: Neighbour, offered: Sequence[Offered], verdicts: Sequence[EnvelopeVerdicts]
    ) -> list[Settlement]:
        """What a neighbour's verdicts make of the rows; ends are to be told home in the transaction that records them."""
        receipt = await self._receipts.witness(neighbour.code, offered, verdicts)
        now_ms = self._clock.utc_ms()
        settlements = settle(offered, verdicts, now_ms=now_ms, patience=self._bounds.patience, rng=self._rng, receipt=receipt)
        rows = {row.item: row for row in offered}
        if neighbour.crossing:
            for each in settlements:
                for ref in rows[each.item].bodies if each.settled is Settled.TAKEN else ():
                    neighbour.crossing.pop(ref.sha256, None)
        if all(each.settled is Settled.TAKEN for each in settlements):
            return settlements
        return together([await self._finished(neighbour, rows[each.item], each, now_ms) for each in settlements], rows)

    async def _finished(self, neighbour: Neighbour, row: Offered, settlement: Settlement, now_ms: int) -> Settlement:
        if settlement.settled is Settled.ENDED:
            return await self._ended(neighbour, row, settlement)
        if settlement.settled is Settled.BODY:
            neighbour.chains.difference_update(settlement.need)
            bodies = {ref.sha256 for ref in row.bodies}.intersection(settlement.need)  # the rest is a certificate, sent along
            for digest in bodies if neighbour.slow else ():
                self._crosses(neighbour, digest, row.lane)
            if bodies and neighbour.served.issuperset(bodies):
                wait_ms = min(BODY_WAIT_MS, SERVED_WAIT_MS << min(row.attempts, 20)) if row.attempts else 0
                return Settlement(settlement.item, Settled.LATER, now_ms + wait_ms, Reason.NOT_NOW)
        return settlement

    async def _ended(self, neighbour: Neighbour, row: Offered, settlement: Settlement) -> Settlement:
        """The neighbour refused for good: we hold custody, so we alone tell the sender (decision 5)."""
        reason = settlement.reason or Reason.INTERNAL
        try:
            header = decode_header(row.header)
        except Refused:  # no longer what was taken: nobody can be told
            return Settlement(row.item, Settled.HELD, reason=reason)
        if reason in ASTRAY:
            elsewhere = self._origin.next_hop(header, row.recipient)
            if elsewhere is not None and elsewhere != neighbour.code:
                return Settlement(row.item, Settled.REROUTED, neighbour=elsewhere)
            if reason is not Reason.RECIPIENT_UNKNOWN:
                now_ms = self._clock.utc_ms()
                return settle_astray(row, reason, now_ms=now_ms, patience=self._bounds.patience, rng=self._rng)
        if not tells_home(header.kind) or reason in (Reason.DIGEST_CONFLICT, Reason.ORIGIN_SIGNATURE):
            # A notice or a status never ends without a person; nor does an alarm.
            return Settlement(row.item, Settled.HELD, reason=reason)
        state = Transport.EXPIRED if reason is Reason.EXPIRED else Transport.REFUSED
        end = End(state, self._clock.utc_ms(), reason)
        return replace(settlement, home=await self._origin.homeward(header, [row.recipient], end))

    def failed(self, offered: Sequence[Offered], failure: Deferred) -> list[Settlement]:
        """No verdict came. Nothing is lost: what may have arrived is frozen until this neighbour answers for it."""
        return settle_failure(offered, failure, now_ms=self._clock.utc_ms())

    def choked(self, neighbour: Neighbour, offered: Sequence[Offered], refusal: Refused) -> list[Settlement]:
        """The neighbour calls the whole batch bad: offer one envelope at a time, so that the bad one is found and held while its
        neighbours pass."""
        log.error("batch refused", neighbour=str(neighbour.code), reason=refusal.reason.value, count=len(offered))
        now_ms = self._clock.utc_ms()
        if len({(row.origin, row.id) for row in offered}) > 1:
            neighbour.alone = len(offered)
            # A lost answer looks the same from here, so what was offered stays in doubt.
            return settle_failure(offered, Deferred(0, refusal.reason, in_doubt=True), now_ms=now_ms)
        patience = self._bounds.patience
        return [settle_choke(row, refusal.reason, now_ms=now_ms, patience=patience, rng=self._rng) for row in offered]

    async def record(self, neighbour: Neighbour, settlements: Sequence[Settlement]) -> None:
        """Record what became of an offer at once, nothing being asked for next."""
        if settlements:
            await self._recorded(neighbour, settlements, self._store.settle(neighbour.code, settlements))

    async def _recorded(self, neighbour: Neighbour, settlements: Sequence[Settlement], recording: Awaitable[object]) -> None:
        await recording
        receipt = next((each.receipt for each in settlements if each.receipt is not None), None)
        if receipt is not None:  # with its chain, it is durable now
            neighbour.knows = read_statement(receipt.statement).key
        for settled, number in Counter(each.settled for each in settlements).items():
            self._tally.add("truc_attempts_total", number, neighbour=str(neighbour.code), result=settled.value)
        for settlement in settlements:
            if settlement.settled is Settled.HELD and settlement.reason is not None:
                self._tally.add("truc_held_total", reason=settlement.reason.value)
                log.error("item held for a person", neighbour=str(neighbour.code), reason=settlement.reason.value)
            if settlement.settled is Settled.ENDED and settlement.home is not None:
                self._tally.add("truc_deliveries_total", result=settlement.home.end.state.value)

    # what children ask

    async def pull(self, peer: OrgId, request: PullRequest) -> Batch:
        """Serve a child's pull: settle what it confirms, then the next batch, waiting for one as long as the child allows. A
        newer pull of the same child ends an older one."""
        child = self._child(peer)
        if self._stopping:
            raise Deferred(STOPPING_RETRY_S, Reason.NOT_NOW)
        child.generation += 1
        mine = child.generation
        _interrupt(child)
        async with child.lock:
            self.seen(child, True)
            child.slow = request.room_bytes < self._bounds.batch_bytes
            offered = child.outstanding
            try:
                became = await self._confirm(child, request)
                if mine != child.generation or child.questions:
                    await self.record(child, became)
                    return _asking(child, request, mine)
                wait_s = 0.0 if child.news else request.wait_ms / 1000
                found = await self.next(child, request.room_bytes, wait_s=wait_s, became=became)
            except Deferred:  # our own disk is full, perhaps: the child says once more what became of them
                child.outstanding = offered
                raise
            if found is None:
                child.news = False
                return _asking(child, request, mine)
            child.outstanding, batch = found
            child.sequence = request.sequence
            return replace(batch, sequence=request.sequence)

    def put_question(self, peer: OrgId, question: Question) -> None:
        """Put it to a child with the answer to its pull: to the one that waits, or to the next."""
        child = self._child(peer)
        child.questions.append(question)
        _interrupt(child)

    async def _confirm(self, child: Neighbour, request: PullRequest) -> list[Settlement]:
        """What became of the last batch, to be recorded."""
        anew = child.session != request.session
        became: list[Settlement] = []
        if child.outstanding:
            offered, child.outstanding = child.outstanding, ()
            if not anew and request.confirmed == child.sequence:
                child.unconfirmed = 0
                became = await self.judged(child, offered, request.verdicts)
            else:
                became = self._unconfirmed(child, offered, anew)
        if anew:
            await self.record(child, became)
            await self._store.session_began(child.code)
            child.session = request.session
            child.chains.clear()
            child.served.clear()
            child.crossing.clear()
            return []
        return became

    def _unconfirmed(self, child: Neighbour, offered: Sequence[Offered], anew: bool) -> list[Settlement]:
        """The child asks again without a word on the last batch: its reply, or ours, was lost, and the batch is offered again at
        once. Lost several times in one session, something in it may be what the child cannot read: then piece by piece."""
        child.unconfirmed = 0 if anew else child.unconfirmed + 1
        if child.unconfirmed < UNCONFIRMED_MAX:
            return self.failed(offered, Deferred(0, Reason.NOT_NOW, in_doubt=True))
        child.unconfirmed = 0
        return self.choked(child, offered, Refused(Reason.WIRE_MALFORMED, "batch", str(len(offered))))

    async def get_body(self, peer: OrgId, sha256: str, offset: int, length: int) -> bytes:
        """A piece of a large body that an envelope waiting for this child names; to anybody else it does not exist."""
        child = self._child(peer)
        found = await self._store.offered_body(peer, sha256)
        if found is None:
            raise Refused(Reason.BODY_UNKNOWN, "sha256", sha256)
        file, data, size = found
        again = offset == 0 and sha256 in child.served  # it had all bytes before: are they still the right ones?
        if again and file is not None and not await self._bodies.intact(file, sha256):
            raise await self._damaged(child, sha256)
        try:
            piece = data[offset : offset + length] if data is not None else await self._bodies.read(file or "", offset, length)
        except Refused:
            raise await self._damaged(child, sha256) from None
        self._tally.add("truc_body_bytes_total", len(piece), direction="out")
        if offset + len(piece) >= size:
            if len(child.served) >= SERVED_MAX:
                child.served.clear()
            child.served.add(sha256)
            self._tally.add("truc_bodies_total", direction="out")
            await self._store.body_crossed(peer, sha256)
        if sha256 in child.crossing:
            self.moved(child, sha256, child.crossing[sha256][0], len(piece))
        return piece

    async def _damaged(self, child: Neighbour, sha256: str) -> Refused:
        """A stored body is no longer what it was: what names it is held for a person, never delivered. # QĐ 28/2018 Điều 6.1"""
        held = await self._store.hold_body(child.code, sha256, Reason.BODY_DAMAGED.value)
        self._tally.add("truc_held_total", held, reason=Reason.BODY_DAMAGED.value)
        log.error("stored body is damaged", neighbour=str(child.code), body=sha256, count=held)
        return Refused(Reason.BODY_DAMAGED, "sha256", sha256)

    async def find_strays(self) -> None:
        """Give rows whose neighbour is none of ours (a unit moved, a node was renamed or dissolved) a way by today's table.

        A copy in doubt too: the neighbour may have it, and then the two copies meet at a node that knows the key, at the latest
        where the receiver is. Where the neighbour's node is gone, so may be what it knew: a person decides.
        """
        for stray in await self._store.astray(self._near(), ROWS_MAX):
            if stray.in_doubt and not self._origin.has_node(stray.neighbour):
                if await self._store.hold_gone(stray.item):
                    self._tally.add("truc_held_total", reason=NEIGHBOUR_GONE)
                    log.error("item held for a person", neighbour=str(stray.neighbour), reason=NEIGHBOUR_GONE)
                continue
            elsewhere = self._origin.next_hop(stray.header, stray.recipient)
            if elsewhere is not None and elsewhere in self.neighbours:
                await self._store.reroute(stray.item, elsewhere)
            elif elsewhere is None and not stray.in_doubt:
                await self._give_back(stray)

    def _near(self) -> list[OrgId]:
        """The neighbours that are right above and below this node by today's directory too. Where that names another parent than
        the one we hang on, all of them: this node has yet to be set up anew."""
        parent, below = self._origin.near()
        if parent is not None and parent not in self.neighbours:
            return list(self.neighbours)
        return [code for code in self.neighbours if code == parent or code in below]

    async def _give_back(self, stray: Stray) -> None:
        """Its code was closed and has no node any more: the sender hears which code to use instead."""
        organs = {recipient.code: recipient.organ for recipient in stray.header.recipients}
        if stray.header.kind != KIND_DOCUMENT or not self._origin.is_closed(organs[stray.recipient]):
            return
        found = Expired("out", stray.item, stray.header, (stray.recipient,))
        end = End(Transport.REFUSED, self._clock.utc_ms(), Reason.RECIPIENT_CLOSED)
        await self._store.expire(found, await self._origin.homeward(stray.header, found.recipients, end))
        self._tally.add("truc_deliveries_total", result=Transport.REFUSED.value)
        log.warning("recipient closed, returned", envelope=stray.header.id, neighbour=str(stray.neighbour))

    def _child(self, peer: OrgId) -> Neighbour:
        if peer not in self.neighbours:
            raise Refused(Reason.PEER_UNKNOWN, "peer", str(peer))
        return self.neighbours[peer]


def _asking(child: Neighbour, request: PullRequest, mine: int) -> Batch:
    """No documents, but what is to be asked; the answer to a pull that a newer one has ended is read by nobody."""
    if mine != child.generation:
        return Batch(sequence=request.sequence)
    questions, child.questions = child.questions[:QUESTIONS_MAX], child.questions[QUESTIONS_MAX:]
    return Batch(sequence=request.sequence, questions=tuple(questions))


def _interrupt(neighbour: Neighbour) -> None:
    """Whoever waits for something to offer to this neighbour goes on without."""
    neighbour.shifted = False
    if neighbour.asking is not None and not neighbour.asking.done():
        neighbour.asking.set_result(None)


def _envelopes(offered: Sequence[Offered]) -> tuple[Envelope, ...]:
    """One for all its recipients, but those that came back by another way apart."""
    groups: dict[tuple[OrgId, str, tuple[Hop, ...]], list[Offered]] = {}
    for row in offered:
        groups.setdefault((row.origin, row.id, row.hops), []).append(row)
    return tuple(_envelope(rows) for rows in groups.values())


def _envelope(rows: Sequence[Offered]) -> Envelope:
    row = rows[0]
    recipients = tuple(each.recipient for each in rows)
    return Envelope(Sealed(row.header, row.signature), recipients, row.hops, row.attempts)

"""Documents on: what is offered to each neighbour and what became of it; and the answers to the children's pulls.

Knows `core`, the ports and `origin`. What goes into a batch and what a verdict means is decided in `core/forwarding.py`; here is
only the waiting. The loops towards the parent are in `uplink.py`, on top of `offer` and `settled`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from node.core.custody import NEIGHBOUR_GONE, End, Offered, Settled, Settlement
from node.core.envelope import Envelope, Hop, Lane, Sealed, decode_header
from node.core.errors import Deferred, Reason, Refused
from node.core.forwarding import (
    BODY_WAIT_MS,
    Patience,
    Turn,
    cut_batch,
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
from node.core.wire import Batch, EnvelopeVerdicts, PullRequest
from node.origin import Origin
from node.ports import Bodies, Clock, Store

log = structlog.get_logger()

ASTRAY = (Reason.LOOP, Reason.RECIPIENT_UNKNOWN, Reason.SENDER_OUTSIDE)
"""Refusals that two directories which disagree for a while make of a good document: a unit has moved and one of them does not
know yet."""
ROWS_MAX = 5000
UNCONFIRMED_MAX = 3
STOPPING_RETRY_S = 2.0
SERVED_WAIT_MS = 100
"""After all bytes of a body were served, its envelope is offered again this much later: the child may still be committing. The
wait doubles, should it not be able to."""
SERVED_MAX = 10_000
"""Digests remembered as served to one child; forgetting them costs one longer wait."""


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
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    turn: Turn = field(default_factory=Turn)
    looked: Mapping[Lane, str] = field(default_factory=dict)
    looked_ms: int = 0
    chains: set[str] = field(default_factory=set)
    alone: int = 0
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
    served: set[str] = field(default_factory=set)


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
    ) -> None:
        self._store = store
        self._bodies = bodies
        self._clock = clock
        self._origin = origin
        self._tally = tally
        self._bounds = bounds
        self._rng = rng
        self._stopping = False
        self.neighbours = {code: Neighbour(code) for code in codes}

    def wake(self, code: OrgId) -> None:
        """There is new work for this neighbour. Called after the commit that made it."""
        if code in self.neighbours:
            self.neighbours[code].wake.set()

    def release(self) -> None:
        """The node is stopping: waiting pulls are answered now, new ones are sent away."""
        self._stopping = True
        for neighbour in self.neighbours.values():
            neighbour.generation += 1
            neighbour.wake.set()

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

    async def offer(self, neighbour: Neighbour, bytes_max: int) -> tuple[list[Offered], Batch] | None:
        """Cut the next batch and mark its rows as offered; None when nothing is due."""
        neighbour.looked_ms = self._clock.utc_ms()
        room_bytes = min(bytes_max, self._bounds.batch_bytes)
        window = await self._store.candidates(neighbour.code, bytes_max=room_bytes, rows_max=ROWS_MAX, after=neighbour.looked)
        neighbour.looked = {**neighbour.looked, **window.looked}
        rows, turn = cut_batch(
            window.lanes,
            self._bounds.weights,
            neighbour.turn,
            bytes_max=room_bytes,
            rows_max=ROWS_MAX,
            envelopes_max=1 if neighbour.alone else self._bounds.envelopes,
        )
        if not rows:
            return None
        neighbour.turn = turn
        neighbour.alone = max(0, neighbour.alone - 1)
        offered = await self._store.offer(neighbour.code, [row.item for row in rows])
        if not offered:
            neighbour.wake.set()  # these ended or were held meanwhile; others may be due
            return None
        return offered, await self._assemble(neighbour, offered)

    async def _assemble(self, neighbour: Neighbour, offered: Sequence[Offered]) -> Batch:
        """One envelope for all its recipients (those that came back by another way apart), each small body once, each
        certificate chain once per session."""
        groups: dict[tuple[OrgId, str, tuple[Hop, ...]], list[Offered]] = {}
        for row in offered:
            groups.setdefault((row.origin, row.id, row.hops), []).append(row)
        envelopes = tuple(_envelope(rows) for rows in groups.values())
        digests = dict.fromkeys(ref.sha256 for row in offered for ref in row.bodies)
        unknown = dict.fromkeys(row.certificate for row in offered if row.certificate not in neighbour.chains)
        chains = await self._store.chains(unknown) if unknown else {}
        neighbour.chains.update(chains)
        return Batch(envelopes, await self._store.inline_bodies(neighbour.code, digests), chains)

    async def due_in_s(self, neighbour: Neighbour) -> float | None:
        """Seconds until a row that was not due at the last look becomes so (0: it has, meanwhile); None when none does."""
        due_ms = await self._store.next_due(neighbour.code, neighbour.looked_ms)
        return None if due_ms is None else max(0.0, (due_ms - self._clock.utc_ms()) / 1000)

    async def wait(self, neighbour: Neighbour, most_s: float | None) -> None:
        """Until somebody wakes this neighbour, a row becomes due, or most_s seconds have passed."""
        due_s = await self.due_in_s(neighbour)
        waits = [each for each in (due_s, most_s) if each is not None]
        try:
            async with asyncio.timeout(min(waits) if waits else None):
                await neighbour.wake.wait()
        except TimeoutError:
            return

    # what became of it

    async def settled(
        self, neighbour: Neighbour, offered: Sequence[Offered], verdicts: Sequence[EnvelopeVerdicts]
    ) -> list[Settlement]:
        """Record a neighbour's verdicts at once; ends are told home in the same transaction."""
        now_ms = self._clock.utc_ms()
        settlements = settle(offered, verdicts, now_ms=now_ms, patience=self._bounds.patience, rng=self._rng)
        rows = {row.item: row for row in offered}
        final = together([await self._finished(neighbour, rows[each.item], each, now_ms) for each in settlements], rows)
        await self._record(neighbour, final)
        return final

    async def _finished(self, neighbour: Neighbour, row: Offered, settlement: Settlement, now_ms: int) -> Settlement:
        if settlement.settled is Settled.ENDED:
            return await self._ended(neighbour, row, settlement)
        if settlement.settled is Settled.BODY:
            neighbour.chains.difference_update(settlement.need)
            bodies = {ref.sha256 for ref in row.bodies}.intersection(settlement.need)  # the rest is a certificate, sent along
            if bodies and neighbour.served.issuperset(bodies):
                wait_ms = min(BODY_WAIT_MS, SERVED_WAIT_MS << min(row.attempts, 20))
                return Settlement(settlement.item, Settled.LATER, now_ms + wait_ms, Reason.NOT_NOW)
        return settlement

    async def _ended(self, neighbour: Neighbour, row: Offered, settlement: Settlement) -> Settlement:
        """The neighbour refused for good: we hold custody, so we alone tell the sender (decision 5)."""
        header = decode_header(row.header)
        reason = settlement.reason or Reason.INTERNAL
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

    async def failed(self, neighbour: Neighbour, offered: Sequence[Offered], failure: Deferred) -> None:
        """No verdict came. Nothing is lost: what may have arrived is frozen until this neighbour answers for it."""
        await self._record(neighbour, settle_failure(offered, failure, now_ms=self._clock.utc_ms()))

    async def choked(self, neighbour: Neighbour, offered: Sequence[Offered], refusal: Refused) -> None:
        """The neighbour calls the whole batch bad: offer one envelope at a time, so that the bad one is found and held while its
        neighbours pass."""
        log.error("batch refused", neighbour=str(neighbour.code), reason=refusal.reason.value, count=len(offered))
        now_ms = self._clock.utc_ms()
        if len({(row.origin, row.id) for row in offered}) > 1:
            neighbour.alone = len(offered)
            # A lost answer looks the same from here, so what was offered stays in doubt.
            failure = Deferred(0, refusal.reason, in_doubt=True)
            await self._record(neighbour, settle_failure(offered, failure, now_ms=now_ms))
            return
        patience = self._bounds.patience
        await self._record(
            neighbour, [settle_choke(row, refusal.reason, now_ms=now_ms, patience=patience, rng=self._rng) for row in offered]
        )

    async def _record(self, neighbour: Neighbour, settlements: Sequence[Settlement]) -> None:
        # The outcome is known now and must not be lost to a stopping node, nor the waking to a child that hangs up.
        await asyncio.shield(self._settle(neighbour, settlements))
        for settlement in settlements:
            self._tally.add("truc_attempts_total", neighbour=str(neighbour.code), result=settlement.settled.value)
            if settlement.settled is Settled.HELD and settlement.reason is not None:
                self._tally.add("truc_held_total", reason=settlement.reason.value)
                log.error("item held for a person", neighbour=str(neighbour.code), reason=settlement.reason.value)
            if settlement.settled is Settled.ENDED and settlement.home is not None:
                self._tally.add("truc_deliveries_total", result=settlement.home.end.state.value)

    async def _settle(self, neighbour: Neighbour, settlements: Sequence[Settlement]) -> None:
        for code in sorted(await self._store.settle(neighbour.code, settlements)):
            self.wake(code)

    # what children ask

    async def pull(self, peer: OrgId, request: PullRequest) -> Batch:
        """Serve a child's pull: settle what it confirms, then the next batch, waiting for one as long as the child allows. A
        newer pull of the same child ends an older one."""
        child = self._child(peer)
        if self._stopping:
            raise Deferred(STOPPING_RETRY_S, Reason.NOT_NOW)
        child.generation += 1
        mine = child.generation
        child.wake.set()
        async with child.lock:
            self.seen(child, True)
            await self._confirm(child, request)
            deadline = asyncio.get_running_loop().time() + request.wait_ms / 1000
            while mine == child.generation:
                child.wake.clear()
                found = await self.offer(child, request.room_bytes)
                if found is not None:
                    child.outstanding, batch = found
                    child.sequence = request.sequence
                    return replace(batch, sequence=request.sequence)
                left_s = deadline - asyncio.get_running_loop().time()
                if left_s <= 0:
                    break
                if mine == child.generation:
                    await self.wait(child, left_s)
            return Batch(sequence=request.sequence)

    async def _confirm(self, child: Neighbour, request: PullRequest) -> None:
        anew = child.session != request.session
        if child.outstanding:
            offered, child.outstanding = child.outstanding, ()
            if not anew and request.confirmed == child.sequence:
                child.unconfirmed = 0
                await self.settled(child, offered, request.verdicts)
            else:
                await self._unconfirmed(child, offered, anew)
        if anew:
            await self._store.session_began(child.code)
            child.session = request.session
            child.chains.clear()
            child.served.clear()

    async def _unconfirmed(self, child: Neighbour, offered: Sequence[Offered], anew: bool) -> None:
        """The child asks again without a word on the last batch: its reply, or ours, was lost, and the batch is offered again at
        once. Lost several times in one session, something in it may be what the child cannot read: then piece by piece."""
        child.unconfirmed = 0 if anew else child.unconfirmed + 1
        if child.unconfirmed < UNCONFIRMED_MAX:
            await self.failed(child, offered, Deferred(0, Reason.NOT_NOW, in_doubt=True))
            return
        child.unconfirmed = 0
        await self.choked(child, offered, Refused(Reason.WIRE_MALFORMED, "batch", str(len(offered))))

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
            child.wake.set()
        return piece

    async def _damaged(self, child: Neighbour, sha256: str) -> Refused:
        """A stored body is no longer what it was: what names it is held for a person, never delivered. # QĐ 28/2018 Điều 6.1"""
        held = await self._store.hold_body(child.code, sha256, Reason.BODY_DAMAGED.value)
        self._tally.add("truc_held_total", held, reason=Reason.BODY_DAMAGED.value)
        log.error("stored body is damaged", neighbour=str(child.code), body=sha256, count=held)
        return Refused(Reason.BODY_DAMAGED, "sha256", sha256)

    async def find_strays(self) -> None:
        """Give rows whose neighbour is none of ours (a unit moved, a node was renamed) a way by today's table.

        A copy in doubt too: the neighbour may have it, and then the two copies meet at a node that knows the key, at the latest
        where the receiver is. Where the neighbour's node is gone, so may be what it knew: a person decides.
        """
        for stray in await self._store.astray(list(self.neighbours), ROWS_MAX):
            if stray.in_doubt and not self._origin.has_node(stray.neighbour):
                if await self._store.hold_gone(stray.item):
                    self._tally.add("truc_held_total", reason=NEIGHBOUR_GONE)
                    log.error("item held for a person", neighbour=str(stray.neighbour), reason=NEIGHBOUR_GONE)
                continue
            elsewhere = self._origin.next_hop(stray.header, stray.recipient)
            if elsewhere is not None and elsewhere in self.neighbours:
                for code in sorted(await self._store.reroute(stray.item, elsewhere)):
                    self.wake(code)

    def _child(self, peer: OrgId) -> Neighbour:
        if peer not in self.neighbours:
            raise Refused(Reason.PEER_UNKNOWN, "peer", str(peer))
        return self.neighbours[peer]


def _envelope(rows: Sequence[Offered]) -> Envelope:
    row = rows[0]
    recipients = tuple(each.recipient for each in rows)
    return Envelope(Sealed(row.header, row.signature), recipients, row.hops, row.attempts)

"""The road to the parent: the loops of the child, who always dials (decision 8): push, pull, and bodies each way.

Knows `core`, the ports and the forwarder it offers through; what is done with what comes down is handed in. A link that is down
is probed with full jitter and never longer than the configured bound, so that a restored one is found within 15 s.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import structlog

from node.core.custody import Offered, Settled, Settlement
from node.core.envelope import Envelope, Lane
from node.core.errors import Deferred, Reason, Refused
from node.core.forwarding import Turn, charge, next_lane
from node.core.identifier import OrgId
from node.core.pace import Rate, Way
from node.core.tally import Tally
from node.core.wire import Batch, EnvelopeVerdicts, Outcome, PullRequest, Question, Verdict
from node.forwarder import Forwarder, Neighbour
from node.ports import Bodies, Link, Store

log = structlog.get_logger()

PROBE_MIN_S = 0.2
PROBE_GROWTH = 1.5
"""From one pause to the next. A parent that was killed is back in half a second: doubling, its children would find it as long
again later."""
ROOM_BYTES = 1 << 40
BODY_TRIES_MAX = 5
BODIES_AT_ONCE = 2
"""Bodies under way in each direction: while one is made durable over there, the next is crossing."""
ENDING_WAIT_S = 2.0
"""How long a batch waits for the last piece of a body it names, which the parent has already sent."""
FETCH_WAIT_S = 0.25
"""How long a batch waits for the bodies it names to be fetched, where the last one took no longer than that: it is then answered
once, with `taken`, instead of twice. On a slow line nothing waits."""
PUSH_PROBE_MAX_S = 60.0
"""Pushes to a silent parent are tried again after this at the latest; it is the pull that finds it sooner and wakes them."""
NUDGED_S = 0.2
"""An empty answer that comes so long before its time is a word that there is other news."""
LOOK_AGAIN_S = 30.0
"""A wake-up that was lost with its caller costs this much, not more."""

QUESTIONS_WAIT_MAX = 64
"""Questions from above that nobody has begun to answer; one more is passed over, and whoever asked it waits in vain."""
ANSWERS_AT_ONCE = 4

Accept = Callable[[Batch, OrgId], Awaitable[tuple[EnvelopeVerdicts, ...]]]
PutBody = Callable[[OrgId, str, int, int, bytes], Awaitable[int]]
Answer = Callable[[Question], Awaitable[bytes]]
Give = Callable[[OrgId, Batch, Sequence[EnvelopeVerdicts]], tuple[EnvelopeVerdicts, ...]]
"""The verdicts with our receipt for what was taken."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Bounds of the loops: how long a pull may be held open, the longest pause between probes, bytes of a batch and a chunk, and
    how long either may be on the way."""

    pull_wait_ms: int
    probe_max_s: float
    batch_bytes: int
    chunk_bytes: int
    piece_s: float


@dataclass(slots=True)
class Crossing:
    """One body on its way over the link. fresh: the other side has never heard of it, so it can hold no part yet.

    ending: its last piece is under way. again: it was asked for once more meanwhile. over: set when a try at it has ended.
    """

    sha256: str
    lane: Lane
    size: int
    fresh: bool = False
    refusals: int = 0
    ending: bool = False
    again: bool = False
    began_s: float = 0.0
    over: asyncio.Event | None = None


class Crossings:
    """Bodies that still have to cross, the most urgent first; each once, whoever asks for it, and by one loop at a time. On a
    slow link one after the other, piece by piece by the turns of their lanes."""

    def __init__(self, turn: Callable[[], Turn | None]) -> None:
        """turn: whose turn it is on a slow link, None on a fast one."""
        self._turn = turn
        self._waiting: dict[str, Crossing] = {}
        self._under_way: dict[str, Crossing] = {}
        self._event = asyncio.Event()
        self._gone = asyncio.Event()
        self.last_s = 0.0
        """How long the last try took, from its first piece."""

    def known(self) -> set[str]:
        """The digests of those that wait or are under way."""
        return {*self._waiting, *self._under_way}

    def add(self, sha256: str, lane: Lane, size: int, *, fresh: bool = False) -> None:
        known = self._waiting.get(sha256) or self._under_way.get(sha256)
        if known is None:
            self._waiting[sha256] = Crossing(sha256, lane, size, fresh)
        else:
            known.lane = min(lane, known.lane)
            known.again = True
        self._event.set()

    async def next(self) -> Crossing:
        """The caller has it until it says `later` or `done`."""
        while not self._waiting or (self._under_way and self._turn() is not None):
            self._event.clear()
            await self._event.wait()
        lane = self._lane(each.lane for each in self._waiting.values())
        crossing = next(each for each in self._waiting.values() if each.lane is lane)
        self._under_way[crossing.sha256] = self._waiting.pop(crossing.sha256)
        crossing.again = False
        crossing.over = asyncio.Event()
        crossing.began_s = asyncio.get_running_loop().time()
        return crossing

    def gives_way(self, crossing: Crossing) -> bool:
        """Whether another one goes on before this one is over."""
        return self._lane((crossing.lane, *(each.lane for each in self._waiting.values()))) is not crossing.lane

    def _lane(self, lanes: Iterable[Lane]) -> Lane:
        turn = self._turn()
        return min(lanes) if turn is None else next_lane(set(lanes), turn)

    def back(self, crossing: Crossing) -> None:
        """It has given way, and is the next of its lane."""
        self.done(crossing)
        self._waiting = {crossing.sha256: crossing, **self._waiting}

    def later(self, crossing: Crossing) -> None:
        """Behind the others of its lane: one that cannot cross now must not keep them from crossing."""
        self.done(crossing)
        self._waiting[crossing.sha256] = crossing

    def done(self, crossing: Crossing) -> None:
        crossing.fresh = crossing.ending = False
        self._under_way.pop(crossing.sha256, None)
        if crossing.again:  # whoever asked did not know yet that it was crossing: a question finds out, and tells those who wait
            self._waiting[crossing.sha256] = crossing
        self.last_s = asyncio.get_running_loop().time() - crossing.began_s
        if crossing.over is not None:
            crossing.over.set()
        self._gone.set()
        self._event.set()

    async def gone(self, digests: Set[str], most_s: float) -> None:
        """Until none of these waits or is under way any more, or most_s seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                while digests & self.known():
                    self._gone.clear()
                    await self._gone.wait()

    async def ended(self, digests: Callable[[], Iterable[str]], most_s: float) -> None:
        """Until those of these bodies whose last piece is under way are here, or most_s seconds have passed."""
        if not any(each.ending for each in self._under_way.values()):
            return
        ending = [each for each in map(self._under_way.get, digests()) if each is not None and each.ending]
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                for each in ending:
                    assert each.over is not None
                    await each.over.wait()


class Uplink:
    """The child's side of one link. Each `run_*` is a loop for the gateway's task group."""

    def __init__(
        self,
        parent: OrgId,
        link: Link,
        forwarder: Forwarder,
        store: Store,
        bodies: Bodies,
        accept: Accept,
        put_body: PutBody,
        answer: Answer,
        give: Give,
        tally: Tally,
        pace: Pace,
        rng: random.Random,
        session: str,
        nudged: Callable[[], None] = lambda: None,
    ) -> None:
        """nudged: hears where the parent has answered a pull before its time: it has something else to tell."""
        self._parent = parent
        self._link = link
        self._forwarder = forwarder
        self._store = store
        self._bodies = bodies
        self._accept = accept
        self._put_body = put_body
        self._answer = answer
        self._give = give
        self._questions: asyncio.Queue[Question] = asyncio.Queue(QUESTIONS_WAIT_MAX)
        self._tally = tally
        self._pace = pace
        self._rng = rng
        self._session = session
        self._nudged = nudged
        self._uploads = Crossings(lambda: self.neighbour.turn if self.is_slow(Way.UP) else None)
        self._downloads = Crossings(lambda: self._down_turn if self.is_slow(Way.DOWN) else None)
        self._down_turn = Turn()
        self._rates = dict.fromkeys(Way, Rate())
        self._restored = asyncio.Event()
        link.when_moved(self._moved)

    @property
    def neighbour(self) -> Neighbour:
        return self._forwarder.neighbours[self._parent]

    # how much at once

    def piece_bytes(self, way: Way, most: int) -> int:
        """How long the next batch or piece of a body may be: what the link carries within `piece_s`, `most` where it is fast."""
        return self._rates[way].piece_bytes(most, piece_s=self._pace.piece_s, now_s=asyncio.get_running_loop().time())

    def is_slow(self, way: Way) -> bool:
        """Whether a full batch would take too long there."""
        return self.piece_bytes(way, self._pace.batch_bytes) < self._pace.batch_bytes

    def _moved(self, way: Way, size: int, seconds: float) -> None:
        now_s = asyncio.get_running_loop().time()
        self._rates[way] = self._rates[way].after(size, seconds, piece_s=self._pace.piece_s, now_s=now_s)

    # the loops

    async def run_push(self) -> None:
        """Offer what is due; settle what the parent says; pause when it says nothing."""
        failures = 0
        begun = False
        became: Sequence[Settlement] = ()
        while True:
            try:
                if not begun:
                    await self._store.session_began(self._parent)
                    begun = True
                # A silent parent is asked with one row: a full batch would be marked and unmarked again, durably, each time.
                bytes_max = 1 if failures else self.piece_bytes(Way.UP, self._pace.batch_bytes)
                self.neighbour.slow = self.is_slow(Way.UP) and not failures
                found = await self._forwarder.next(self.neighbour, bytes_max, wait_s=LOOK_AGAIN_S, became=became)
                became = ()
                if found is not None:
                    failures, became = await self._push(failures, *found)
            except Deferred as failure:  # our own store, full perhaps: what the parent said is recorded when there is room
                failures = await self._pause(failures, failure, lost=False)
            except Exception:
                # The one catch-all of the road: nobody classified it, so nobody knows what arrived, and it is offered again.
                log.exception("push failed", neighbour=str(self._parent))
                became = ()
                failures = await self._pause(failures, Deferred(0, Reason.INTERNAL, in_doubt=True), lost=False)

    async def _push(self, failures: int, offered: Sequence[Offered], batch: Batch) -> tuple[int, Sequence[Settlement]]:
        """One turn; returns how many failures in a row there are now, and what of this turn is still to be recorded."""
        parent = self.neighbour
        try:
            verdicts = await self._link.push(batch)
        except Deferred as failure:
            parent.chains.clear()
            await self._forwarder.record(parent, self._forwarder.failed(offered, failure))
            return await self._pause(failures, failure, most_s=PUSH_PROBE_MAX_S), ()
        except Refused as refusal:
            return 0, self._forwarder.choked(parent, offered, refusal)
        self._answered()
        became = await self._forwarder.judged(parent, offered, verdicts)
        self._want_uploads(became, {row.item: row for row in offered})
        return 0, became

    def _want_uploads(self, settlements: Sequence[Settlement], rows: Mapping[int, Offered]) -> None:
        for settlement in settlements:
            if settlement.settled is Settled.BODY:
                row = rows[settlement.item]
                for digest in settlement.need:
                    self._uploads.add(digest, row.lane, 0, fresh=row.attempts == 0)

    async def run_pull(self) -> None:
        """Ask for what waits above; the verdicts on one batch travel with the request for the next."""
        failures = sequence = confirmed = 0
        verdicts: tuple[EnvelopeVerdicts, ...] = ()
        while True:
            sequence += 1
            # Until the parent has answered once, ask without waiting: a link is known to be up at once, not after a long poll.
            wait_ms = self._pace.pull_wait_ms if self.neighbour.up else 0
            asked_at = asyncio.get_running_loop().time()
            room_bytes = self.piece_bytes(Way.DOWN, self._pace.batch_bytes) if self.is_slow(Way.DOWN) else ROOM_BYTES
            try:
                batch = await self._link.pull(PullRequest(self._session, sequence, confirmed, verdicts, room_bytes, wait_ms))
            except Deferred as failure:
                failures = await self._pause(failures, failure)
                continue
            except Refused as refusal:
                log.error("pull refused", neighbour=str(self._parent), reason=refusal.reason.value)
                # Verdicts the parent cannot read must not be sent for ever: without them it offers the batch again.
                verdicts, confirmed = (), 0
                failures = await self._pause(failures, Deferred(0, refusal.reason))
                continue
            failures, verdicts, confirmed = 0, (), 0
            self._answered()
            for question in batch.questions:
                self._put_question(question)
            if not batch.envelopes:
                if batch.questions:
                    continue
                # Sent away before the time: there is news of the directory, another process of this node asks too, or the parent
                # stops. Not in a tight loop.
                waited_s = asyncio.get_running_loop().time() - asked_at
                if waited_s < wait_ms / 1000 - NUDGED_S:
                    self._nudged()
                if waited_s < wait_ms / 2000:
                    await asyncio.sleep(PROBE_MIN_S)
                continue
            await self._downloads.ended(partial(_named, batch), ENDING_WAIT_S)
            try:
                verdicts = self._give(self._parent, batch, await self._taken(batch))
            except Deferred as failure:  # our own store
                failures = await self._pause(failures, failure, lost=False)
                if failure.in_doubt:  # nobody knows what was taken: no verdict, the parent offers the batch again
                    continue
                verdicts = _postponed(batch, failure)
            confirmed = batch.sequence

    async def _taken(self, batch: Batch) -> tuple[EnvelopeVerdicts, ...]:
        """The verdicts on a batch from above. Bodies it lacks are fetched; those that can be here in a moment are waited for."""
        verdicts = await self._accept(batch, self._parent)
        wanted = self._want_downloads(batch, verdicts)
        if not wanted or self._downloads.last_s > FETCH_WAIT_S:
            return verdicts
        await self._downloads.gone(wanted, FETCH_WAIT_S)
        came = wanted - self._downloads.known()
        ready = [_lacking(*each) for each in zip(batch.envelopes, verdicts, strict=True) if came.issuperset(_needs(each[1]))]
        again = replace(batch, envelopes=tuple(each for each in ready if each.remaining))
        if not again.envelopes:
            return verdicts
        try:
            second = await self._accept(again, self._parent)
        except Deferred:
            return verdicts  # they are offered again, and known or not
        later = {(each.origin, each.id): each.verdicts for each in second}
        return tuple(replace(each, verdicts={**each.verdicts, **later.get((each.origin, each.id), {})}) for each in verdicts)

    def _want_downloads(self, batch: Batch, verdicts: Sequence[EnvelopeVerdicts]) -> set[str]:
        """Returns the digests."""
        wanted = set()
        for envelope, spoken in zip(batch.envelopes, verdicts, strict=False):
            needs = _needs(spoken)
            for ref in envelope.header.bodies if needs else ():
                if ref.sha256 in needs:
                    self._downloads.add(ref.sha256, envelope.header.lane, ref.size)
                    wanted.add(ref.sha256)
        return wanted

    def _answered(self) -> None:
        self._forwarder.seen(self.neighbour, True)
        self._restored.set()

    async def _pause(self, failures: int, failure: Deferred, *, lost: bool = True, most_s: float = 0.0) -> int:
        """Wait with full jitter, at most the bound; cut short as soon as another loop finds the parent again. lost: it was the
        parent that did not answer, not our own store. most_s: another bound, if it is higher."""
        if lost:
            self._forwarder.seen(self.neighbour, False)
            now_s = asyncio.get_running_loop().time()
            self._rates = {way: rate.doubted(piece_s=self._pace.piece_s, now_s=now_s) for way, rate in self._rates.items()}
        self._restored.clear()
        cap_s = min(max(most_s, self._pace.probe_max_s), PROBE_MIN_S * PROBE_GROWTH ** min(failures, 30))
        wait_s = self._rng.uniform(PROBE_MIN_S / 2, max(cap_s, PROBE_MIN_S))
        log.debug("link pauses", neighbour=str(self._parent), reason=failure.reason.value, duration_ms=int(wait_s * 1000))
        try:
            async with asyncio.timeout(wait_s):
                await self._restored.wait()
        except TimeoutError:
            pass
        return failures + 1

    def _put_question(self, question: Question) -> None:
        try:
            self._questions.put_nowait(question)
        except asyncio.QueueFull:
            self._tally.add("truc_questions_total", result="dropped")

    async def run_answers(self) -> None:
        """Say what the parent asks. An answer that does not arrive is not repeated: by then nobody waits for it. May run several
        times at once."""
        while True:
            question = await self._questions.get()
            try:
                await self._link.answer(question.number, await self._answer(question))
            except (Deferred, Refused) as failure:
                log.info("answer did not arrive", kind=question.kind, reason=failure.reason.value)

    async def run_uploads(self) -> None:
        """Bodies the parent asked for, each from where the parent's part ends. May run several times at once."""
        failures = 0
        while True:
            crossing = await self._uploads.next()
            try:
                put = await self._try_upload(crossing)
            except Deferred as failure:
                self._uploads.later(crossing)
                self._forwarder.stalled(self.neighbour, crossing.sha256)
                failures = await self._pause(failures, failure, lost=failure.reason is not Reason.DISK_FULL)
                continue
            failures = 0
            put(crossing)

    async def _try_upload(self, crossing: Crossing) -> Callable[[Crossing], None]:
        """One try; returns where it goes now: nothing is left to do, another goes first, or it is tried again later."""
        sha256 = crossing.sha256
        try:
            return self._uploads.done if await self._upload(crossing) else self._uploads.back
        except Refused as refusal:
            crossing.refusals += 1
            if crossing.refusals < BODY_TRIES_MAX and await self._intact(sha256):
                return self._uploads.later
            self._forwarder.stalled(self.neighbour, sha256)
            # Our own copy is damaged, or the parent will not have it: a person must look. # QĐ 28/2018 Điều 6.1
            held = await self._store.hold_body(self._parent, sha256, refusal.reason.value)
            self._tally.add("truc_held_total", held, reason=refusal.reason.value)
            log.error("body cannot cross", neighbour=str(self._parent), reason=refusal.reason.value, body=sha256, count=held)
        return self._uploads.done

    async def _upload(self, crossing: Crossing) -> bool:
        """Whether it is over; else another body goes first, and this one goes on later from where it is now."""
        sha256 = crossing.sha256
        found = await self._store.body_bytes(sha256)
        if found is None:
            return True
        data, file, size = found
        held = 0 if crossing.fresh else await self._link.put_body(sha256, size, 0, b"")
        while held < size:
            length = self._piece(Way.UP, size - held)
            chunk = data[held : held + length] if data is not None else await self._bodies.read(file or "", held, length)
            now = await self._link.put_body(sha256, size, held, chunk)
            if now == held or not chunk:
                raise Refused(Reason.BODY_DAMAGED, "offset", str(held), str(now))
            self._tally.add("truc_body_bytes_total", len(chunk), direction="out")
            held = now
            self._forwarder.moved(self.neighbour, sha256, crossing.lane, len(chunk))
            if held < size and self._uploads.gives_way(crossing):
                return False
        self._answered()
        self._tally.add("truc_bodies_total", direction="out")
        await self._store.body_crossed(self._parent, sha256)
        return True

    def _piece(self, way: Way, left: int) -> int:
        """How many bytes of a body go next."""
        return min(self.piece_bytes(way, self._pace.chunk_bytes), left)

    async def _intact(self, sha256: str) -> bool:
        found = await self._store.body_bytes(sha256)
        return found is not None and (found[1] is None or await self._bodies.intact(found[1], sha256))

    async def run_downloads(self) -> None:
        """Bodies that envelopes from above name and that are not here yet. May run several times at once."""
        failures = 0
        while True:
            crossing = await self._downloads.next()
            try:
                over = await self._download(crossing)
            except Deferred as failure:
                self._downloads.later(crossing)
                failures = await self._pause(failures, failure, lost=failure.reason is not Reason.DISK_FULL)
                continue
            except Refused as refusal:
                reason, sha256 = refusal.reason, crossing.sha256
                log.warning("body not received", neighbour=str(self._parent), reason=reason.value, body=sha256)
                crossing.refusals += 1
                if reason is Reason.BODY_DAMAGED and crossing.refusals < BODY_TRIES_MAX:
                    self._downloads.later(crossing)
                    continue
                over = True
            failures = 0
            (self._downloads.done if over else self._downloads.back)(crossing)

    async def _download(self, crossing: Crossing) -> bool:
        """Whether it is over; else another body goes first, and this one goes on later from where it is now."""
        sha256, size = crossing.sha256, crossing.size
        held = await self._put_body(self._parent, sha256, size, 0, b"")
        while held < size:
            length = self._piece(Way.DOWN, size - held)
            crossing.ending = held + length == size
            chunk = await self._link.get_body(sha256, held, length)
            now = await self._put_body(self._parent, sha256, size, held, chunk)
            if now == held:
                raise Refused(Reason.BODY_DAMAGED, "offset", str(held), str(now))
            held = now
            self._down_turn = charge(self._down_turn, crossing.lane, len(chunk), self._forwarder.weights)
            if held < size and self._downloads.gives_way(crossing):
                return False
        self._answered()
        return True


def _needs(spoken: EnvelopeVerdicts) -> set[str]:
    return {digest for each in spoken.verdicts.values() if each.outcome is Outcome.NEED for digest in each.need}


def _lacking(envelope: Envelope, spoken: EnvelopeVerdicts) -> Envelope:
    """The envelope for those recipients for whom a body was lacking."""
    lacking = {code for code, verdict in spoken.verdicts.items() if verdict.outcome is Outcome.NEED}
    return replace(envelope, remaining=tuple(code for code in envelope.remaining if code in lacking))


def _named(batch: Batch) -> Iterator[str]:
    return (ref.sha256 for envelope in batch.envelopes for ref in envelope.header.bodies)


def _postponed(batch: Batch, failure: Deferred) -> tuple[EnvelopeVerdicts, ...]:
    """Nothing of a batch was taken (a full disk): said of each, or the parent would take our silence for choking on one.
    They are due again at once: the wait is our own, before the next pull."""
    later = Verdict(Outcome.LATER, reason=failure.reason, retry_s=0.0)
    return tuple(
        EnvelopeVerdicts(each.header.origin, each.header.id, dict.fromkeys(each.remaining, later)) for each in batch.envelopes
    )

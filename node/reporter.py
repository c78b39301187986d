"""Closes days into signed statements, sends them up, keeps those that come from below, and answers reports.

Knows `core` and the ports. What is counted is decided in `core/counting.py`, what a report says in `core/report.py`. A
statement of the open day is made soon after something was counted and then at most every so often, so that the hub hears of it
within a minute; it costs what there is to say of organs, not of documents."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import structlog

from node.core import instant
from node.core.counting import URGENT_MS, Fold, Urgent, gathered, spans
from node.core.directory import Directory
from node.core.errors import Deferred, Refused
from node.core.identifier import OrgId
from node.core.report import Report, report
from node.core.routing import Forward, Table, decide_node
from node.core.statement import (
    Counts,
    Kept,
    Pair,
    Post,
    Refusal,
    SignedStatement,
    Statement,
    Version,
    decode_statement,
    encode_statement,
    plus,
)
from node.core.tally import Tally
from node.core.working_time import Calendar
from node.ports import Clock, Link, Signer, Store, Verifier

log = structlog.get_logger()

SETTLE_S = 1.0
"""After something was counted: what follows at once goes along."""
ROWS_MAX = 2000
"""Rows of the ledger folded in one transaction."""
POST_MAX = 200
"""Statements in one call to the parent; fewer where they are large."""
POST_BYTES = 1 << 20
STOCK_ROWS = 20_000
STOCK_S = 300.0
"""What waits is counted anew each time, but where it is more than so many rows, only every so often."""
LOOK_S = 600.0
"""The clock may be set: whether a day is over is looked at this often."""
PAUSE_S = 30.0
DAYS_MAX = 62
"""A node that comes back after a longer absence states no more silent days than these."""
OVER_MS = 2_000
"""A day is closed when the clock, its bound in favour of the day, is past its end by this: what was stamped before is
committed."""


@dataclass(frozen=True, slots=True)
class Paces:
    """every_s: the open day is stated at most this often. retry_s: wait after a parent that cannot be reached."""

    every_s: float
    retry_s: float


@dataclass(frozen=True, slots=True)
class Sight:
    """What may change under the node, asked anew each time."""

    table: Callable[[], Table]
    directory: Callable[[], Directory]
    calendar: Callable[[], Calendar]
    urgent_ms: Urgent = field(default_factory=lambda: URGENT_MS)


class Reporter:
    """One per node."""

    def __init__(
        self,
        code: OrgId,
        parent: OrgId | None,
        store: Store,
        clock: Clock,
        signer: Signer,
        verifier: Verifier,
        sight: Sight,
        tally: Tally,
        paces: Paces,
        rng: random.Random,
    ) -> None:
        self._code = code
        self._parent = parent
        self._store = store
        self._numbers = store.numbers
        self._clock = clock
        self._signer = signer
        self._verifier = verifier
        self._sight = sight
        self._tally = tally
        self._paces = paces
        self._rng = rng
        self.link: Link | None = None
        """The parent, once there is a way to it; None at the hub."""
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._told: set[str] = set()
        """Digests of the chains the parent has."""
        self._stock: dict[Pair, Counts] = {}
        self._stocked_s = float("-inf")
        self._stated: dict[Pair, Counts] = {}
        """What the last statement said there was."""
        self._rows = 0

    # here

    async def run(self) -> None:
        """Count and state whenever there is something, and when a day is over."""
        now = asyncio.get_running_loop().time
        while True:
            began_s = now()
            try:
                await self.state_due()
                await self._wait()
            except Deferred as failure:
                log.warning("figures not counted yet", reason=failure.reason.value)
                await asyncio.sleep(PAUSE_S)
                continue
            await asyncio.sleep(max(SETTLE_S, self._paces.every_s - (now() - began_s)))

    async def _wait(self) -> None:
        """Until something is to be counted or a day is over; not for long."""
        now_ms = self._clock.utc_ms()
        over_s = (_end_ms(instant.day(now_ms)) + OVER_MS + self._clock.bound_ms() - now_ms) / 1000
        countable = self._numbers.countable()
        try:
            # What is stated as moving moves on without a row of the ledger where this node only passes it on.
            look_s = self._paces.every_s if self._stated else LOOK_S
            async with asyncio.timeout(min(look_s, max(SETTLE_S, over_s))):
                await countable
        except TimeoutError:
            countable.cancel()

    async def state_due(self) -> None:
        """Fold what was counted, state every day of which a new statement is due, and close what is over."""
        async with self._turn:  # two at once would make two statements of one version
            await self._state_due()

    async def _state_due(self) -> None:
        await self._fold()
        today = instant.day(self._clock.utc_ms())
        found = await self._numbers.to_state(self._code, today)
        days = dict(found.due)
        days.update({day: 0 for day in self._silent(found.last, today) if day not in days})
        if self._stock != self._stated:
            days.setdefault(today, 0)
        for node, day, parent in found.unfinished:
            if node == self._code and (parent != self._parent or self._over(day)):
                days.setdefault(day, 0)  # it is over, or belongs to the new parent of a node that has moved
            elif node != self._code and not self._below(node):
                await self._numbers.drop_departed(node, day)
        # The former parent has dropped what it never saw finished: closed there or not, the new one has all of it.
        days.update({day: 0 for day, parent in found.unheard if parent != self._parent and day not in days})
        for day in sorted(days, reverse=True):  # what there is now belongs to the last one
            await self._state(day, days[day])
        if days:
            self._stated = self._stock
            self._changed.set()

    async def _fold(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            many = self._rows > STOCK_ROWS and loop.time() - self._stocked_s < STOCK_S
            tail = await self._numbers.tail(ROWS_MAX, stocks=not many)
            if tail.rows:
                gained, marked = gathered(tail.rows, self._sight.calendar(), self._sight.urgent_ms)
                await self._numbers.fold(Fold(tail.before, tail.after, gained, marked))
            if tail.stock is not None:
                self._stock, self._stocked_s = dict(tail.stock), loop.time()
                self._rows = sum(sum(counts.values()) for counts in tail.stock.values())
            if tail.whole:
                return

    def _silent(self, last: date | None, today: date) -> Sequence[date]:
        """Days nothing was stated of yet: a silent unit is a row of zeros, and not missing. Not by a clock that may be wrong: a
        machine that wakes in 1970 would be asked for every day since."""
        if not self._clock.synchronised():
            return []
        if last is None:
            return [today]
        first = max(last + timedelta(days=1), today - timedelta(days=DAYS_MAX))
        return [first + timedelta(days=number) for number in range((today - first).days + 1)]

    def _over(self, day: date) -> bool:
        """Whether a day can be closed: by a clock that vouches for its end. Until then it is late, and named so."""
        return self._clock.synchronised() and self._clock.utc_ms() - self._clock.bound_ms() >= _end_ms(day) + OVER_MS

    def _below(self, node: OrgId) -> bool:
        decision = decide_node(self._sight.table(), node)
        return isinstance(decision, Forward) and decision.neighbour != self._parent

    def _elsewhere(self, node: OrgId | None) -> bool:
        """Whether it is known to hang where this node does not see it; of a node that is gone nobody knows."""
        return node is None or (self._sight.directory().node(node) is not None and not self._below(node))

    async def _state(self, day: date, times: int) -> None:
        drafted = await self._numbers.draft(self._code, day)
        epoch, before = self._store.epoch, drafted.version
        # A day that was closed under a former parent stays there; what hung elsewhere on that day is no part of this subtree.
        (parent,) = drafted.closed_under or (self._parent,)
        below = [each for up, each in drafted.below.items() if up == self._code or not self._elsewhere(up)]
        statement = Statement(
            node=self._code,
            day=day,
            version=Version(epoch, before.n + 1) if before is not None and before.epoch == epoch else Version(epoch, 1),
            final=self._over(day),
            made_ms=self._clock.utc_ms(),
            bound_ms=self._clock.bound_ms(),
            synchronised=self._clock.synchronised(),
            key=self._signer.key_id,
            parent=parent,
            organs=drafted.organs,
            pairs=drafted.pairs,
            stock=self._stock,
            road=drafted.road,
            subtree=plus(*drafted.organs.values(), *(counts for _, counts in below)),
            nodes=1 + sum(number for number, _ in below),
            marked=drafted.marked,
        )
        data = encode_statement(statement)
        signed = SignedStatement(data, self._signer.sign(data), statement)
        await self._numbers.state(signed, times, self._signer.chain_pem)
        self._tally.add("truc_statements_total", result="made")

    # up

    async def run_upward(self) -> None:
        """Hand up what the parent does not hold yet, own statements and those from below."""
        while True:
            self._changed.clear()
            try:
                await self.push_due()
            except Deferred as failure:
                log.debug("statements wait", reason=failure.reason.value)
                await asyncio.sleep(self._paces.retry_s * self._rng.uniform(0.5, 1.0))
                continue
            except Refused as refusal:
                log.warning("statements refused", reason=refusal.reason.value, element=refusal.element)
                await asyncio.sleep(LOOK_S)
                continue
            await self._changed.wait()

    async def push_due(self) -> None:
        """Hand up all that waits now."""
        assert self.link is not None, "the hub hands up nothing"
        while await self._push(self.link):
            pass

    async def _push(self, link: Link) -> bool:
        """One call. False: nothing waits."""
        rows: list[tuple[bytes, bytes, str]] = []
        size = 0
        for row in await self._numbers.outgoing(POST_MAX):
            size += len(row[0])
            if rows and size > POST_BYTES:
                break
            rows.append(row)
        if not rows:
            return False
        unknown = dict.fromkeys(key for _, _, key in rows if key not in self._told)
        chains = {key: chain for key in unknown if (chain := await self._store.chain(key)) is not None}
        words = await link.statements(Post(tuple((data, signature) for data, signature, _ in rows), chains))
        self._told.update(chains)
        answered = []
        for (data, _, key), word in zip(rows, words, strict=True):
            statement = decode_statement(data)
            if word == Kept.CHAIN:  # a parent that was set up anew knows none
                self._told.discard(key)
                continue
            taken = word in (Kept.NEW, Kept.KNOWN, Kept.OLDER)
            if not taken:
                log.error("statement refused", node=str(statement.node), day=statement.day.isoformat(), reason=word)
            answered.append((statement, taken))
        if not answered:
            raise Deferred(self._paces.retry_s)
        await self._numbers.gone_up(answered)
        return True

    # from below

    async def receive(self, peer: OrgId, post: Post) -> tuple[str, ...]:
        """Judge what a child brings, its own and of nodes below it; a word of `Kept` for each, after the commit."""
        now_ms = self._clock.utc_ms()
        judged = [await self._judge(peer, data, signature, post, now_ms) for data, signature in post.items]
        good = [each for each in judged if isinstance(each, SignedStatement)]
        refusals = [each for each in judged if isinstance(each, Refusal) and each.reason != Kept.CHAIN]
        kept = iter(await self._numbers.receive(good, refusals, post.chains, peer))
        words = [next(kept).value if isinstance(each, SignedStatement) else each.reason for each in judged]
        for word, each in zip(words, judged, strict=True):
            self._tally.add("truc_statements_total", result=word)
            if word not in (Kept.NEW, Kept.KNOWN, Kept.CHAIN):
                refused = each if isinstance(each, Refusal) else _named(each.statement, word)
                log.warning(
                    "statement not kept", neighbour=str(peer), node=str(refused.node), day=refused.day.isoformat(), reason=word
                )
        return tuple(words)

    async def _judge(self, peer: OrgId, data: bytes, signature: bytes, post: Post, now_ms: int) -> SignedStatement | Refusal:
        try:
            statement = decode_statement(data)
        except Refused:
            return Refusal(peer, instant.day(now_ms), Version(0, 0), Kept.MALFORMED)
        if not self._hangs_under(peer, statement) or not self._speaks_for(statement):
            return _named(statement, Kept.OUTSIDE)
        chain = post.chains.get(statement.key) or await self._store.chain(statement.key)
        if chain is None:
            return _named(statement, Kept.CHAIN)
        try:
            self._verifier.attest(statement.node, statement.key, chain, statement.made_ms, data, signature)
        except Refused:
            return _named(statement, Kept.SIGNATURE)
        return SignedStatement(data, signature, statement)

    def _hangs_under(self, peer: OrgId, statement: Statement) -> bool:
        """Whether this child may bring it: its own, of a node below it, or of one that was below it when it was made."""
        table = self._sight.table()
        lines = (statement.node, statement.parent)
        return peer in lines or any(code is not None and decide_node(table, code) == Forward(peer) for code in lines)

    def _speaks_for(self, statement: Statement) -> bool:
        """Whether all organs it counts for are served by its node or below it: nobody adds to the figures of another. What no
        node is known to serve yet is nobody's."""
        directory = self._sight.directory()
        owners = {directory.owner(organ) for organ in statement.organs}
        return all(owner is None or statement.node in directory.ever_above(owner) for owner in owners)

    # reports

    async def report(self, first: date, last: date) -> Report:
        """A report of this node's subtree over [first..last], as its statements stand now."""
        now_ms = self._clock.utc_ms()
        today = instant.day(now_ms)
        found = await self._numbers.found(spans(first, last), first, last)
        return report(self._code, self._sight.directory(), found, first, last, today, now_ms)


def _named(statement: Statement, reason: str) -> Refusal:
    return Refusal(statement.node, statement.day, statement.version, reason)


def _end_ms(day: date) -> int:
    """The instant at which a day in Vietnam is over, UTC ms. # QĐ 28/2018 Điều 14.4"""
    return instant.start_ms(day + timedelta(days=1))

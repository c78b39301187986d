"""Keeps what this node knows about keys in step: its own revocation lists, those of the tree above and below, and the connections
that stand while they change.

A list made anywhere goes up to the root and down again, one hop in a question to the parent (`link/v1/trust`), and is enforced
here as soon as it is known: at each request, and by cutting what is open. A part of the composition root; what a list is worth is
decided in `core/standing.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

import structlog

from node.adapters.folders import BadFile
from node.adapters.issuing import Issuing
from node.adapters.lists import Lists, NoList
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.standing import ALARM_DAYS, Handover, Listed, Roots, TrustAnswer, TrustQuestion, alarm_days
from node.ports import Clock

log = structlog.get_logger()

LOOK_S = 5.0
"""Between two looks at files and connections."""
OLD_PARENT_S = 600.0
OWN_S = 3600.0
JITTER = 0.1
TURNS_MAX = 100

T = TypeVar("T")


class Above(Protocol):
    """The parent."""

    async def trust(self, question: TrustQuestion) -> TrustAnswer: ...


class Below(Protocol):
    """What a child is told beside lists, and what it may ask for."""

    def told(self) -> tuple[Roots, tuple[Handover, ...]]: ...
    def stale(self, chain: Sequence[bytes]) -> bool: ...
    async def renew(self, peer: OrgId, chain: Sequence[bytes], csr: str, authority_csr: str) -> tuple[str, str]: ...


class Own(Protocol):
    """This node's own certificates."""

    async def look(self) -> None: ...
    async def heard(self, answer: TrustAnswer) -> None: ...


class Run(Protocol):
    """Does work on a thread for files and returns what it returns."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


@dataclass(slots=True)
class _Heard:
    """Up to where the parent has told us its lists, and we told it ours."""

    session: str = ""
    place: int = 0
    told: int = 0


class Warden:
    """own: this node's authority, if it has one. above: None at the hub. sweep: cuts who may no longer be connected. changes: a
    number that grows when the register of children does. session: a word for this process. ends_ms: when each certificate of
    this node ends, as it is now. keys: renews them. ask_s: between two questions to the
    parent; with 20 seconds a revocation passes two hops, and is enforced, within a minute."""

    def __init__(
        self,
        clock: Clock,
        lists: Lists,
        own: Issuing | None,
        above: tuple[OrgId, Above] | None,
        run: Run,
        rng: random.Random,
        session: str,
        sweep: Callable[[], int],
        changes: Callable[[], int],
        ends_ms: Mapping[str, int],
        keys: Own,
        below: Below,
        ask_s: float,
    ) -> None:
        self._clock = clock
        self._lists = lists
        self._own = own
        self._above = above
        self._run = run
        self._rng = rng
        self._session = session
        self._sweep = sweep
        self._changes = changes
        self._ends_ms = ends_ms
        self._keys = keys
        self._below = below
        self._ask_s = ask_s
        self._alarms: dict[str, int | None] = {}
        self._heard = _Heard()
        self._own_stamp: tuple[int, ...] | None = None
        self._own_at_s = 0.0
        self._ask_at_s = 0.0
        self._swept: tuple[int, int] = (0, 0)
        self._kept = 0

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(min(LOOK_S, self._ask_s) * self._rng.uniform(1 - JITTER, 1 + JITTER))

    async def look(self) -> None:
        """One round: what is new here, what is new above, and what follows from it."""
        now_s = asyncio.get_running_loop().time()
        await self._keys.look()
        await self._look_at_own(now_s)
        if self._above is not None and now_s >= self._ask_at_s:
            self._ask_at_s = now_s + await self._ask(*self._above) * self._rng.uniform(1 - JITTER, 1 + JITTER)
        await self._enforce()
        self._tell_ends()

    async def answer(self, peer: OrgId, chain: Sequence[bytes], question: TrustQuestion) -> TrustAnswer:
        """The parent's side of the question: what the child tells is taken, what is new here is told."""
        place = question.since if question.session == self._session else 0
        await self._take(question.lists, peer)
        await self._enforce()
        lists, place, more = self._lists.since(place, peer)
        roots, handovers = self._below.told()
        return TrustAnswer(self._session, place, more, tuple(lists), self._below.stale(chain), roots, handovers)

    async def renew(self, peer: OrgId, chain: Sequence[bytes], csr: str, authority_csr: str) -> tuple[str, str]:
        return await self._below.renew(peer, chain, csr, authority_csr)

    async def _look_at_own(self, now_s: float) -> None:
        own = self._own
        if own is None:
            return
        now = datetime.fromtimestamp(self._clock.utc_ms() // 1000, UTC)
        try:
            if not own.ready():
                return
            stamp = own.stamp()
            if stamp == self._own_stamp and now_s < self._own_at_s + OWN_S:
                return
            self._own_stamp, self._own_at_s = stamp, now_s
            made = await self._run(lambda: own.lists(now))
        except (BadFile, OSError, ValueError) as error:
            log.error("own revocation list not made", reason=str(error)[:500])
            return
        await self._take([Listed(*each) for each in made], None)

    async def _ask(self, parent: OrgId, above: Above) -> float:
        """Tell and hear until there is nothing new on either side; the seconds until the next time."""
        heard = self._heard
        for _ in range(TURNS_MAX):
            lists, told, more = self._lists.since(heard.told, parent)
            try:
                answer = await above.trust(TrustQuestion(heard.session, heard.place, tuple(lists)))
            except Deferred as failure:
                log.debug("no word on keys from the parent", reason=failure.reason.value)
                return self._ask_s
            except Refused as refused:
                if refused.reason is not Reason.OPERATION_UNKNOWN:
                    log.warning("question on keys refused", reason=refused.reason.value)
                return OLD_PARENT_S
            if answer.session != heard.session:  # another process: it may not have kept what it was told
                told, more = (told, more) if not heard.session else (0, True)
            heard.session, heard.place, heard.told = answer.session, answer.place, told
            await self._keys.heard(answer)
            await self._take(answer.lists, parent)
            if not (answer.more or more):
                break
        return self._ask_s

    def _tell_ends(self) -> None:
        """Each alarm is said once: 60, 30, 7 and 1 days before the end, and at the end."""
        now_ms = self._clock.utc_ms()
        for what, end_ms in self._ends_ms.items():
            days = alarm_days(end_ms, now_ms)
            if days != self._alarms.get(what) and days is not None:
                said = log.error if days <= ALARM_DAYS[-1] else log.warning
                said("certificate ends", reason=what, days=days, ends_ms=end_ms)
            self._alarms[what] = days

    async def _take(self, lists: Iterable[Listed], source: OrgId | None) -> None:
        for listed in lists:
            try:
                proven = await self._run(partial(self._lists.prove, listed))
            except NoList as error:
                said = log.warning if source is not None else log.info  # our own, of a root that is trusted no longer
                said("revocation list refused", neighbour=str(source), reason=str(error))
                continue
            self._lists.take(proven, source)

    async def _enforce(self) -> None:
        state = (self._lists.version, self._changes())
        if state != self._swept:
            self._swept = state
            cut = self._sweep()
            if cut:
                log.warning("connections cut", count=cut)
        if self._lists.version == self._kept:
            return
        version, keep = self._lists.version, self._lists.keeper()
        try:
            if keep is not None:
                await self._run(keep)
            self._kept = version
        except OSError as error:
            log.error("revocation lists not kept", reason=str(error)[:300])

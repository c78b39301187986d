"""Renews this node's certificates before they end, follows the roots and the parent's key, and takes up whatever the files say.

A certificate is renewed under the one there is, by a question to the parent (the hub signs its own), when less than 90 days are
left, when the parent says that it would sign otherwise today, or when an operator wants it (`truc ca rotate`). Old and new
overlap: what is open goes on, what is new shows the new one. A part of the composition root; what follows from an answer is
decided in `adapters/authority.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from node.adapters.folders import BadFile
from node.adapters.issuing import Issuing
from node.adapters.own_keys import OwnKeys
from node.core.errors import Deferred, Refused
from node.core.identifier import HUB
from node.core.standing import RENEWED_BEFORE_MS, Handover, Roots, TrustAnswer
from node.ports import Clock

log = structlog.get_logger()

RETRY_S = 600.0
SPREAD = 1.5
"""Of the time between two questions: children that all hear at once that they should renew do not all ask at once."""
SWITCH = 3.0
"""So many questions' time the neighbours have to hear of a new key before it is used."""
OFFICE_S = 6 * 3600.0
NODE, AUTHORITY = "node", "authority"

T = TypeVar("T")


class Above(Protocol):
    """The parent."""

    async def renew(self, csr: str, authority_csr: str) -> tuple[str, str]: ...
    def pin(self, pins: frozenset[str]) -> None: ...


class Run(Protocol):
    """Does work on a thread for files and returns what it returns."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


class Renewal:
    """own: the keys. issuing: this node's authority, if it has one. above: None at the hub. ends_ms: when each certificate ends,
    as it is now. reload: takes the files up. wish: a file in which an operator says what to renew with a new key. office: the
    certificate of the office listener, and its key. ask_s: so often neighbours ask each other."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        run: Run,
        own: OwnKeys,
        issuing: Issuing | None,
        above: Above | None,
        ends_ms: Mapping[str, int],
        reload: Callable[[], None],
        wish: Path,
        office: tuple[Path, Path],
        ask_s: float,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._run = run
        self._own = own
        self._issuing = issuing
        self._above = above
        self._ends_ms = ends_ms
        self._reload = reload
        self._wish = wish
        self._office = office
        self._ask_s = ask_s
        self._stamp = own.stamp()
        self._hinted = False
        self._next_s = 0.0
        self._switch_s = 0.0
        self._office_s = 0.0
        if above is not None:
            above.pin(own.parent_pins())

    async def look(self) -> None:
        """One round. Whatever fails is said and tried again."""
        now_s = asyncio.get_running_loop().time()
        try:
            await self._renew_if_due(now_s)
            await self._switch_if_due(now_s)
            await self._renew_office(now_s)
        except (BadFile, OSError, ValueError) as error:
            self._next_s = now_s + RETRY_S
            log.error("certificate not renewed", reason=str(error)[:500])
        stamp = self._own.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            self._reload()

    async def heard(self, answer: TrustAnswer) -> None:
        """What the parent's answer means for keys."""
        try:
            handovers, above = answer.handovers, self._above
            if above is not None and handovers and await self._run(partial(self._own.hear, handovers)):
                log.warning("the parent has another key, by the word of the one before")
                above.pin(self._own.parent_pins())
            followed = await self._run(partial(self._own.follow, answer.roots)) if answer.roots.roots else False
            if followed:
                log.warning("the roots of the tree have changed, by the word of the one before")
        except (BadFile, OSError, ValueError) as error:
            log.error("what the parent says of keys not kept", reason=str(error)[:300])
        if answer.renew and not self._hinted:
            self._hinted = True
            self._next_s = asyncio.get_running_loop().time() + self._rng.uniform(0, SPREAD * self._ask_s)

    def told(self) -> tuple[Roots, tuple[Handover, ...]]:
        """What the nodes below are told: the roots and our own next key."""
        roots = self._own.roots()
        crosses = self._issuing.crosses() if self._issuing is not None else ()
        return Roots(roots.roots, tuple(dict.fromkeys((*roots.crosses, *crosses)))), self._own.handovers()

    async def _renew_if_due(self, now_s: float) -> None:
        wished = await self._run(self._wished)
        if wished:
            self._next_s = 0.0
        if now_s < self._next_s or not (wished or self._hinted or self._due()):
            return
        self._next_s = now_s + RETRY_S
        try:
            await self._renew(new_key=wished == NODE, new_authority=wished == AUTHORITY)
        except (Deferred, Refused) as failure:
            log.warning("certificate not renewed", reason=failure.reason.value)
            return
        self._hinted, self._next_s = False, 0.0
        await self._run(lambda: self._wish.unlink(missing_ok=True))

    def _due(self) -> bool:
        now_ms = self._clock.utc_ms()
        mine = ("link",) if self._above is None else ("link", "authority")  # the hub's is the root's to renew
        if any(self._ends_ms[what] - now_ms < RENEWED_BEFORE_MS for what in mine if what in self._ends_ms):
            return self._above is not None or self._signs()
        return (
            self._above is None
            and self._issuing is not None
            and self._signs()
            and not self._own.is_under(self._issuing.certificate())
        )

    def _signs(self) -> bool:
        return self._issuing is not None and self._issuing.ready()

    async def _renew(self, *, new_key: bool, new_authority: bool) -> None:
        now, issuing = datetime.fromtimestamp(self._clock.utc_ms() // 1000, UTC), self._issuing
        csr = await self._run(lambda: self._own.ask(new_key=new_key))
        if self._above is None:
            if issuing is None or not issuing.ready():
                return
            granted = await self._run(lambda: issuing.issue(HUB, (), csr, "", now))
            certificate, authority = granted.certificate, ""
        else:
            below = ""
            if issuing is not None and issuing.ready():
                below = await self._run(issuing.ask_next if new_authority else issuing.ask)
            certificate, authority = await self._above.renew(csr, below)
        waits = await self._run(lambda: self._own.take(certificate))
        if authority and issuing is not None:
            keep = issuing.answered_next if new_authority else issuing.answered
            await self._run(lambda: keep(authority, now))
        self._switch_s = asyncio.get_running_loop().time() + SWITCH * self._ask_s if waits else 0.0
        log.info("certificate renewed", new_key=new_key, new_authority=new_authority)

    async def _switch_if_due(self, now_s: float) -> None:
        if now_s >= self._switch_s and self._own.waits():
            await self._run(self._own.switch)
            log.info("the next key is in use")

    async def _renew_office(self, now_s: float) -> None:
        """The office listener's certificate, where it is from the root that this node has for it."""
        issuing = self._issuing
        if issuing is None or now_s < self._office_s:
            return
        self._office_s = now_s + OFFICE_S
        now = datetime.fromtimestamp(self._clock.utc_ms() // 1000, UTC)
        if await self._run(lambda: issuing.renew_office(*self._office, now)):
            log.info("certificate of the office listener renewed")

    def _wished(self) -> str:
        try:
            said = self._wish.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return said if said in (NODE, AUTHORITY) else ""

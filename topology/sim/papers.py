"""The certificates that nodes show each other where a run has something happen to them, and what each end says of the other's.

Production's own words: `tls.judge` by the node's corrected clock, `Lists` as far as they have travelled, a `Warden` in each
process that carries them. The handshake itself is played here: a chain is looked into once, with its signatures. A run in which
nothing happens to certificates does without all this. Knows the world; what goes wrong with certificates is drawn in `faults.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from node.adapters.http import tls
from node.adapters.lists import Lists
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.standing import DAY_MS, Handover, Listed, Roots, TrustAnswer, TrustQuestion
from node.ports import Clock
from node.warden import Above, Warden
from topology.sim import keys
from topology.sim.clocks import EPOCH_MS

if TYPE_CHECKING:
    from topology.sim.world import Machine, World

GRACE_MS = 30 * DAY_MS
WITHIN_S = 60.0
"""A revocation is enforced within this where its list is known; an end, beyond the clock's bound."""
LIFE = timedelta(days=398)

T = TypeVar("T")


class _Kept(Lists):
    """Production's, but that the roots are those of the rehearsal and the file is the machine's, not this computer's."""

    def reload(self) -> None:
        self._roots = [keys.root()]

    def _load(self) -> None:
        """What was there before a restart is there still: the object outlives the process."""

    def keeper(self) -> None:
        """And so nothing is written."""


@dataclass
class Paper:
    """What one machine shows and knows. leaves: how many it has had; renewed: how many keys. revoked_s, ends_s: since when, in
    virtual seconds, it should be served no more. troubled: something is happening to it."""

    chain: tuple[bytes, ...]
    lists: Lists
    leaves: int = 0
    renewed: int = 0
    revoked_s: float | None = None
    ends_s: float | None = None
    troubled: bool = False
    clock: Clock | None = None
    warden: Warden | None = None


class Papers:
    """Of all machines. issuers: who signs for a machine, the parent that it had at the beginning; the hub for itself."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers: dict[str, list[tuple[int, datetime]]] = {}
        self._of: dict[str, Paper] = {}
        for machine in world.machines.values():
            self._of[machine.name] = Paper((), _Kept(Path(), Path(), GRACE_MS))
            self.issue(machine, until=LIFE)

    def of(self, machine: Machine) -> Paper:
        return self._of[machine.name]

    # what happens to a certificate

    def issue(self, machine: Machine, *, until: timedelta, fresh_key: bool = False) -> None:
        """Another leaf. until: how long from now it is good. fresh_key: as one gets it who enrols again."""
        paper, now = self.of(machine), self._now()
        paper.leaves += 1
        paper.renewed += fresh_key
        dns = machine.code.dns_name(self._world.tree.zone)
        leaf = keys.leaf(dns, paper.renewed, paper.leaves, self._issuer(machine).name, now + until)
        paper.chain = keys.chain(leaf, self._issuer(machine).name)
        keys.shake(paper.chain)
        paper.revoked_s = None
        paper.ends_s = self._world.loop.time() + until.total_seconds()

    def revoke(self, machine: Machine) -> None:
        """Its issuer says so on its list; the list travels by itself."""
        paper, issuer = self.of(machine), self._issuer(machine)
        revoked = self._numbers.setdefault(issuer.name, [])
        revoked.append((tls.facts(paper.chain[0]).serial, self._now()))
        listed = Listed(*keys.revocation_list(issuer.name, revoked, len(revoked), self._now()))
        lists = self.of(issuer).lists
        lists.take(lists.prove(listed), None)
        paper.revoked_s = self._world.loop.time()

    def _issuer(self, machine: Machine) -> Machine:
        return machine if machine.site.parent is None else self._world.machines[machine.site.parent]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(EPOCH_MS // 1000 + int(self._world.loop.time()), UTC)

    # a process

    def enter(self, machine: Machine, clock: Clock, link: Above | None, rng: random.Random) -> Warden:
        """What carries the lists, for one life of a machine."""
        paper = self.of(machine)
        above = None if link is None or machine.parent is None else (machine.parent, link)
        session = f"{machine.name}-{machine.starts}".replace(".", "-")
        ask_s = machine.settings().link.keys_ask_s
        paper.clock = clock
        paper.warden = Warden(
            clock, paper.lists, None, above, _at_once, rng, session, lambda: 0, lambda: 0, {}, _NoKeys(), _NoKeys(), ask_s
        )
        return paper.warden

    async def answer(self, parent: str, child: OrgId, question: TrustQuestion) -> TrustAnswer:
        warden = self._of[parent].warden
        assert warden is not None  # somebody serves there
        return await warden.answer(child, self.of(self._world.machines[child]).chain, question)

    # two that meet

    def refusal(self, child: str, parent: str, call: str) -> Reason | None:
        """What ends a call between them, said by either end; None: nothing."""
        lower, upper = self._world.by_name[child], self._world.by_name[parent]
        try:
            self._judge(upper, lower, call)
            self._judge(lower, upper, call)
        except Refused as refused:
            self._world.record.note(child, "fault/certificate refused")
            return refused.reason
        return None

    def _judge(self, judging: Machine, shown: Machine, call: str) -> None:
        """As the listener and the client do at every call, `node/adapters/http/link_server.py`."""
        own, paper = self.of(judging), self.of(shown)
        if own.clock is None:
            return
        pin = keys.pin(shown.code.dns_name(self._world.tree.zone), paper.renewed)
        expected = tls.registered([(shown.code, (pin,))], self._world.tree.zone)
        judge = tls.judge(expected, own.clock, own.lists.judge)
        judge(paper.chain, dates=call != "clock", ages=call not in ("clock", "trust"))
        self._look(judging, shown, call)

    def _look(self, judging: Machine, shown: Machine, call: str) -> None:
        """From outside: whom a node went on serving. A list is where it was made, and above it no later than a question takes."""
        own, paper, now_s = self.of(judging), self.of(shown), self._world.loop.time()
        if paper.revoked_s is not None and judging is self._issuer(shown) and now_s > paper.revoked_s + WITHIN_S:
            self._world.wrong(f"{judging.name} serves {shown.name} {now_s - paper.revoked_s:.0f} s after it was revoked")
        if call == "clock" or paper.ends_s is None or own.clock is None or not own.clock.synchronised():
            return
        if now_s > paper.ends_s + own.clock.bound_ms() / 500 + WITHIN_S:
            self._world.wrong(f"{judging.name} serves {shown.name} {now_s - paper.ends_s:.0f} s after its certificate ended")


class _NoKeys:
    """Keys do not change by themselves in a rehearsal: an operator's hand does it."""

    async def look(self) -> None: ...

    async def heard(self, answer: TrustAnswer) -> None: ...

    def told(self) -> tuple[Roots, tuple[Handover, ...]]:
        return Roots(), ()

    def stale(self, chain: Sequence[bytes]) -> bool:
        return False

    async def renew(self, peer: OrgId, chain: Sequence[bytes], csr: str, authority_csr: str) -> tuple[str, str]:
        raise Refused(Reason.OPERATION_UNKNOWN, "renew")


async def _at_once(work: Callable[[], T]) -> T:
    return work()

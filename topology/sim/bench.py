"""The bench a run stands on: the world with its offices around it, and the questions a judge asks of both.

Joins what knows nothing of each other: offices call through the network to a node's real office application, and the ledger is
compared with what the nodes' tables say. Knows no fault.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from node.adapters.signing import Offline
from node.core import instant
from node.core.bundle import Flawed, open_bundle
from node.core.custody import FIRST
from node.core.errors import Deferred, Reason
from node.core.identifier import OrgId
from node.core.instant import VIETNAM
from node.core.report import Report
from topology.model import OfficeSystem, Tree
from topology.sim import audit, checkers, keys, recount
from topology.sim.clocks import EPOCH_MS
from topology.sim.database import SimConnection
from topology.sim.door import NativeCalls, NoAnswer, NotReached, VxpCalls
from topology.sim.ledger import Ledger, Violation
from topology.sim.lines import Lost, Unreached
from topology.sim.loop import Life, SimLoop
from topology.sim.offices import SimOffice
from topology.sim.papers import Papers
from topology.sim.profile import Profile, draw_certificates, options
from topology.sim.record import Record, stream
from topology.sim.traffic import Addresses, plan
from topology.sim.watch import Watched
from topology.sim.world import BODIES, Machine, World, secret

EPOCH = datetime.fromtimestamp(EPOCH_MS / 1000, VIETNAM)
CALL_S = 300.0
"""The longest an office's program waits for an answer, whatever its own patience says."""
HELD_MAX = 10_000
WORK = (
    "SELECT 1 FROM outbox WHERE state<>'held'"
    " UNION ALL SELECT 1 FROM mailbox WHERE state IN ('initial','processing','fail') LIMIT 1"
)
FIGURE_ROUNDS = 3
OPERATOR = "người vận hành diễn tập"
PROVEN_MAX = 3
"""Documents of each node whose evidence is asked for at the end."""
BAD_NEIGHBOURS = ("poison", "forged", "sparing", "rubbish", "errors")
PATHS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "path/duplicate on a link": ("truc_duplicates_total", {"door": "link"}),
    "path/duplicate at a door": ("truc_duplicates_total", {"door": "office"}),
    "path/come-back": ("truc_comebacks_total", {}),
    "path/by its own signature": ("truc_moved_senders_total", {}),
    "path/digest conflict": ("truc_digest_conflicts_total", {}),
    "path/member tried alone": ("truc_commit_retries_total", {}),
}
"""Ways out of faults that a node's own counters show."""


class Bench:
    """One run's world, offices and ledger."""

    def __init__(self, tree: Tree, profile: Profile, seed: int, loop: SimLoop, record: Record) -> None:
        self.seed = seed
        self.loop = loop
        self.record = record
        self.profile = profile
        self.world = World(tree, options(profile, stream(seed, "options")), seed, loop, record)
        for machine in self.world.machines.values():
            machine.disk.in_memory = profile.in_memory
        self.strokes = draw_certificates(profile, stream(seed, "certificates"))
        """What will happen to certificates: known before the first node starts."""
        if self.strokes:
            self.world.network.papers = Papers(self.world)
        self.world.on_recovered = self._recovered
        self.world.true_hub = profile.true_hub
        self.world.pace = profile.pace
        self.world.wrap = partial(Watched, self.world)
        self.addresses = Addresses(tree)
        self.ledger = Ledger(plan(tree, profile.traffic, seed, self.addresses), tree.axis_code)
        self.world.changed = self.ledger.changed
        self.offices: dict[str, SimOffice] = {}
        self.lives: dict[str, Life] = {}
        self.reports: dict[OrgId, dict[date, Report]] = {}
        """What each tier reported of each day once the work was done."""
        self.found: dict[Violation, None] = {}
        """What was wrong on the way."""
        """A node hangs elsewhere by now than where the tree began: documents may lie beside the shortest way."""

    # going on

    async def boot(self, within_s: float) -> None:
        """Switch everything on and wait until every node serves."""
        for machine in self.world.machines.values():
            machine.start()
        await self._until_up(within_s)

    async def _until_up(self, within_s: float) -> None:
        deadline = self.loop.time() + within_s
        while not all(machine.run for machine in self.world.machines.values()):
            await asyncio.sleep(0.1)
            if self.loop.time() > deadline:
                down = [machine.name for machine in self.world.machines.values() if not machine.run]
                self.world.wrong(f"{', '.join(down)} did not come up in {within_s} s")
                return

    def open_offices(self) -> None:
        """From now on offices send and collect."""
        if self.profile.line_bytes_per_s:
            self._carry(self.profile.line_bytes_per_s)
        for machine, system in self.world.systems():
            life = self.lives[system.id] = Life(self.loop, f"office:{system.id}")
            calls = VxpCalls(self._line(machine, system, life), system.id, secret(system.id), self._now)
            modern = stream(self.seed, "office", system.id, "door").random() < self.profile.habits.p_native
            native = NativeCalls(self._line(machine, system, life), system.id, secret(system.id)) if modern else None
            began_s, habits = self.loop.time(), self.profile.habits
            office = SimOffice(system, calls, self.ledger, habits, self.seed, self._utc_ms, began_s=began_s, native=native)
            self.offices[system.id] = office
            life.start(office.run(), name=system.id)

    def _carry(self, bytes_per_s: float) -> None:
        """The lines between nodes carry so much."""
        for machine in self._ends() if self.profile.one_line else self.world.machines.values():
            if machine.parent is not None:
                for line in self.world.network.lines_between(machine.name, self.world.machines[machine.parent].name):
                    line.bytes_per_s = bytes_per_s

    def _ends(self) -> list[Machine]:
        """Of the node that sends everything and the one that receives it, one whose line to its parent is on the way."""
        package = next(iter(self.ledger.sent.values())).package
        systems = (package.system, self.addresses.owner[package.good[0].organ].id)
        machines = [machine for machine, system in self.world.systems() if system.id in systems and machine.parent is not None]
        return [stream(self.seed, "slow line").choice(machines)]

    def _line(self, machine: Machine, system: OfficeSystem, life: Life) -> Any:
        """Carries a request of an office to its node, and the answer back."""
        name = f"office:{system.id}"

        async def exchange(request: bytes) -> bytes:
            async def serve() -> bytes:
                run = machine.run
                if run is None:
                    return b""
                try:
                    return await run.door.call(request)
                except NotReached:  # the listener is closing
                    return b""

            async def torn(share: float) -> None:
                if machine.run is not None:
                    await machine.run.door.call(request, cut_after=int(len(request) * share))

            try:
                return await self.world.network.exchange(
                    name, machine.name, life, len(request), serve, CALL_S, torn=torn, spoil=_spoil
                )
            except Unreached:
                raise NotReached from None
            except Lost as lost:
                raise NoAnswer(str(lost)) from None

        return exchange

    def _utc_ms(self) -> int:
        return EPOCH_MS + int(self.loop.time() * 1000)

    def _now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.loop.time())

    # coming to an end

    def hurry(self) -> None:
        """Offices do what they have left without waiting for its time, and lines carry whatever comes."""
        if self.profile.line_bytes_per_s:
            self._carry(self.world.network.usual.bytes_per_s)
        for office in self.offices.values():
            office.hurry()

    def done(self) -> bool:
        """Whether nobody has anything left to do but what is held for a person."""
        if not all(machine.run for machine in self.world.machines.values()):
            return False
        if not all(office.idle for office in self.offices.values()):
            return False
        return not any(machine.run is None or machine.run.connection.look(WORK) for machine in self.world.machines.values())

    async def release(self) -> bool:
        """The operator lets go on what is held, but what must never wait for one. Returns whether anything was."""
        released = 0
        for machine in self.world.machines.values():
            if machine.run is None:
                continue
            rows = (await machine.run.desk.held(FIRST, HELD_MAX))[0]
            held = [str(row["item"]) for row in rows if row["reason"] != Reason.SENDER_OUTSIDE]
            released += await machine.run.desk.held_act("release", held, OPERATOR, "diễn tập")
        self.record.note("", "path/released", released)
        self.record.counts["path/released"] += released - 1
        return released > 0

    async def read_sent(self) -> None:
        """Every office reads the whole list of what it has sent."""
        for name, office in self.offices.items():
            await self.lives[name].start(office.read_sent())

    async def figures(self) -> None:
        """Every node states what it has counted and hands it up, from below, as often as there are tiers; then each tier
        reports."""
        machines = [self.world.machines[site.code] for site in self.world.tree.parents_first()]
        for machine in [each for _ in range(FIGURE_ROUNDS) for each in reversed(machines)]:
            if machine.run is None or machine.life is None:
                continue
            reporter = machine.run.duties.reporter
            for step in (reporter.state_due, *([reporter.push_due] if machine.parent is not None else [])):
                with suppress(Deferred):  # the line is still bad for a moment: there is another round
                    await machine.life.start(step(), name=f"{machine.name}/figures")
        seen, today = {day for day, _, _ in recount.seen(self.ledger)}, instant.day(self._utc_ms())
        days = [min(seen | {today}) + timedelta(passed) for passed in range((max(seen | {today}) - min(seen | {today})).days + 1)]
        for machine in machines:
            if machine.run is not None:
                reporter = machine.run.duties.reporter
                self.reports[machine.code] = {day: await reporter.report(day, day) for day in days}

    async def held(self) -> int:
        """Items that wait for a person."""
        return sum(
            [
                len((await machine.run.desk.held(FIRST, HELD_MAX))[0])
                for machine in self.world.machines.values()
                if machine.run is not None
            ]
        )

    # judgement

    def known(self) -> list[Violation]:
        """What is known to be wrong without a judgement: seen at a restart, or by an office."""
        return list(dict.fromkeys([*self.found, *self.ledger.wrong]))

    def wrong(self) -> bool:
        """Whether anything is known to be wrong already."""
        return bool(self.known() or self.world.violations)

    def _recovered(self, machine: Machine, connection: SimConnection) -> None:
        """After every restart: what this machine has promised is still there, and its history is whole."""
        if machine.starts > 1 and connection.look("SELECT 1 FROM outbox LIMIT 1"):
            self.record.note(machine.name, "path/recovered")
        found = audit.integrity(machine.name, connection.look)
        found += audit.promised(machine.name, connection.look, machine.taken, self._given(machine))
        found += self._whole(machine, connection.look)
        if self.record.counts["start"] % self.profile.absent_every == 0:
            machines = self.world.machines.values()
            others = [each.run.connection for each in machines if each.run is not None and not each.run.connection.gone]
            if len(others) == len(self.world.machines) - 1:
                found += audit.absent(self.ledger, [each.look for each in (connection, *others)])
        for violation in found:
            self.found[violation] = None

    def judge(self) -> list[Violation]:
        """All that is wrong once the work is done."""
        runs = {code: machine.run for code, machine in self.world.machines.items()}
        queries = {code: run.connection.look for code, run in runs.items() if run is not None}
        kept = audit.kept(queries.values())
        found = checkers.judge(self.ledger, self.addresses, self._rules(), kept)
        found += recount.judge(self.ledger, self.reports)
        found += audit.absent(self.ledger, queries.values())
        found += audit.notices(queries.values(), self.ledger)
        if not self.world.moved:
            found += audit.off_route(queries, self.ledger, self.addresses)
        for code, query in queries.items():
            machine = self.world.machines[code]
            root = BODIES + "/"
            files = [path.removeprefix(root) for path in machine.disk.paths() if path.startswith(root)]
            found += audit.audit(machine.name, query, files, kept.held)
            found += audit.promised(machine.name, query, machine.taken, self._given(machine))
            found += self._whole(machine, query)
        return list(dict.fromkeys([*self.found, *found]))

    async def unproven(self) -> list[Violation]:
        """Of what each node has sent: the evidence is there, and somebody with nothing but the root believes it. Where a bad
        neighbour was played there may be gaps."""
        if any(self.record.counts[f"fault/{name}"] for name in BAD_NEIGHBOURS):
            return []
        found = []
        for machine in self.world.machines.values():
            for key in audit.ended(machine.run.connection.look, PROVEN_MAX) if machine.run is not None else ():
                found += await self._proof(machine, key)
        return found

    async def _proof(self, machine: Machine, key: str) -> list[Violation]:
        assert machine.run is not None
        self.record.note(machine.name, "path/proven")
        collected = await machine.run.duties.proving.collect(key)
        why = str(collected.flaw or collected.silent or collected.many or collected.open)
        if collected.bundle:
            try:
                open_bundle(collected.bundle, Offline(keys.pair("root").trust).witness)
                return []
            except Flawed as flawed:
                why = str(flawed)
        return [Violation("wrong", f"{machine.name} cannot prove the way of {key}: {why}")]

    def _whole(self, machine: Machine, query: audit.Query) -> list[Violation]:
        """Every large body it has taken is on its disk as it came."""
        root = BODIES + "/"
        present = {path.removeprefix(root): path for path in machine.disk.paths() if path.startswith(root)}
        spoilt = [path.removeprefix(root) for path in machine.disk.flipped]

        def read(file: str) -> bytes | None:
            return machine.disk.content(present[file]) if file in present else None

        return audit.whole(machine.name, query, read, spoilt)

    def _given(self, machine: Machine) -> list[str]:
        """The docIds that this machine has told its offices."""
        systems = {system.id for system in machine.site.systems}
        told = [doc_id for sent in self.ledger.sent.values() if sent.package.system in systems for doc_id in sent.doc_ids]
        said = [doc_id for each in self.ledger.statuses.values() if each.system in systems for doc_id in each.doc_ids]
        return told + said

    def _rules(self) -> checkers.Rules:
        # What is held lets those behind it pass (decision 9), so nothing is said of order then.
        held = any(name.startswith("path/held ") and name != "path/held office-fail" for name in self.paths())
        ordered = not held and not self.world.moved
        profile = self.profile
        return checkers.Rules(
            may_expire=profile.expires,
            patience_s=profile.patience_s,
            ordered=ordered,
            express_s=profile.express_s,
            share_bytes_per_s=profile.share * profile.line_bytes_per_s,
        )

    def paths(self) -> Counter[str]:
        """Ways out of faults that were taken, from the nodes' own counters."""
        total = self.world.total()
        found = Counter({name: total.value(metric, **labels) for name, (metric, labels) in PATHS.items()})
        for labels, count in total.snapshot()["truc_held_total"].items():
            found[f"path/held {dict(labels)['reason']}"] += int(str(count))
        return +found

    def end(self) -> None:
        """Nothing of it goes on."""
        for life in self.lives.values():
            life.end()
        for machine in self.world.machines.values():
            if machine.life is not None:
                machine.life.end()


def _spoil(mode: str, chance: random.Random) -> bytes:
    """What an office hears instead of an answer: a proxy's page, or a server's error."""
    if mode == "errors":
        return b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    page = b"<html>" + bytes(chance.choices(b"abcdefgh <>", k=chance.randrange(1, 200)))
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page)

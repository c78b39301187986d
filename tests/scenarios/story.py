"""How a story of the whole tree is told: who sends what to whom, what goes wrong, and what everybody sees in the end.

The nodes run their production code under virtual time and offices come in by the VXP face, as in `truc simulate`; only what
happens is said here, not drawn. A story ends with `settled`: all work is done, and the judges of a seed find nothing lost,
doubled, stuck or wrong. Knows the bench; nothing of how a node works.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from node.core.custody import FIRST
from node.core.directory import Connection, Directory, Entry, NodeEntry
from node.core.identifier import HUB, OrgId
from node.core.package import Business, Priority
from node.desk import Desk
from topology import vxp
from topology.model import OfficeSystem, Options, Site, Tree
from topology.sim.bench import OPERATOR, Bench
from topology.sim.checkers import Rules
from topology.sim.door import Calls, VxpCalls
from topology.sim.ledger import Answer, Ledger, Sent, is_later
from topology.sim.loop import Life, SimLoop
from topology.sim.offices import Habits, SimOffice
from topology.sim.profile import Profile
from topology.sim.record import Record
from topology.sim.run import complaints, problem
from topology.sim.traffic import Package, Traffic
from topology.sim.world import Machine, secret

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0
BOOT_S = 120.0
HELD_MAX = 1_000
ANSWERS_MAX = 1_000
"""Answers of "later" that are remembered of one office."""

ORDERLY = Habits(
    poll_s=30.0,
    retry_max_s=30.0,
    p_hang_up=0.0,
    p_crash=0.0,
    p_fail=0.0,
    p_held=0.0,
    p_slow=0.0,
    p_processing=0.0,
    p_done_unfetched=0.0,
    p_answered=0.0,
    p_look_sent=0.0,
    status_gap_s=10.0,
)
"""Offices that do nothing strange: what goes wrong in a story is said in it."""
ANSWERING = replace(ORDERLY, p_answered=1.0, statuses=("01", "03"))
"""Offices that also tell the sender "đã đến" and "đã tiếp nhận"."""


# --- who is who ---------------------------------------------------------------------------------------------------------------


def org(text: str) -> OrgId:
    return OrgId.canonical(text)


def country(provinces: Mapping[str, Sequence[str]], options: Options | None = None, without_system: Sequence[str] = ()) -> Tree:
    """A hub with the Government Office, provinces, and units below each; one office system everywhere, under its code.

    without_system: organs for which their superior's office receives.
    """
    sites = [_site("", "Trục liên thông văn bản quốc gia", "trung ương", None, "G22")]
    for province, units in provinces.items():
        sites.append(_site(province, f"Trục {province}", "tỉnh", HUB, province))
        sites += [_site(unit, f"Đơn vị {unit}", "đơn vị", org(province), unit) for unit in units]
    organs = [code for site in sites for code in site.prefixes]
    paper = [org(code) for code in without_system]
    entries = tuple(
        Entry(
            code,
            f"Cơ quan {code}",
            connection=Connection.OFFICIAL,
            receives_for=tuple(each for each in paper if each.path[:-1] == code.path),
        )
        for code in organs
    ) + tuple(Entry(code, f"Cơ quan {code}", connection=Connection.NONE) for code in paper)
    return Tree("vxp.invalid", "Trục liên thông văn bản quốc gia", "TRUC", 1, tuple(sites), entries, options or {})


def _site(code: str, name: str, tier: str, parent: OrgId | None, organ: str) -> Site:
    system = OfficeSystem(organ.lower(), (org(organ),))
    return Site(name, org(code), tier, parent, (org(organ),), (system,))


# --- what is sent --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Letter:
    """A package that an office was told to send, and what has become of it as far as offices know."""

    story: Story
    sent: Sent

    @property
    def number(self) -> int:
        return self.sent.package.number

    @property
    def taken(self) -> bool:
        """Its office has a docId for it."""
        return bool(self.sent.doc_ids)

    @property
    def taken_s(self) -> float:
        """When that was."""
        return next(iter(self.sent.doc_ids.values()))

    @property
    def doc_id(self) -> str:
        return next(iter(self.sent.doc_ids))

    def arrived(self) -> bool:
        """All its receivers have taken it in and confirmed it."""
        return all((to.organ.lower(), self.number) in self.story.ledger.confirmed_ones for to in self.sent.package.good)

    def seen(self) -> bool:
        """Some receiver has its bytes."""
        return any((to.organ.lower(), self.number) in self.story.ledger.in_hand_s for to in self.sent.package.good)

    def arrived_s(self, organ: str) -> float:
        """When that office had its bytes. KeyError: it never had."""
        return self.story.ledger.in_hand_s[organ.lower(), self.number]

    def line(self, organ: str) -> Answer:
        """Its line for one receiver in the sender's list, as last read. KeyError: there is none."""
        return self.story.ledger.lines[self.sent.package.system, self.doc_id][organ]

    def state(self, organ: str) -> str:
        return str(self.line(organ)["sendStatus"])

    def notices(self) -> list[str]:
        """What the axis itself has written to the sender about it (status 02)."""
        found = self.story.ledger.news.values()
        return [news.description for news in found if news.notation == self.sent.package.notation and news.code == "02"]

    def office_status(self, organ: str) -> str:
        """What the receiving office has said last: "", "01", "03" …"""
        return str(self.line(organ)["receiveStatus"])


class _Ledger(Ledger):
    """A ledger that also knows when documents arrived, and who has confirmed what."""

    def __init__(self, now: Callable[[], float], axis: str) -> None:
        super().__init__((), axis)
        self._now = now
        self.in_hand_s: dict[tuple[str, int], float] = {}
        self.confirmed_ones: dict[tuple[str, int], None] = {}

    def taken_in(self, item: Any, digest: str) -> Package | None:
        package = super().taken_in(item, digest)
        if package is not None:
            self.in_hand_s.setdefault((item.system, package.number), self._now())
        return package

    def confirmed(self, item: Any) -> None:
        super().confirmed(item)
        self.confirmed_ones[item.system, item.package] = None

    def add(self, package: Package) -> Sent:
        sent = self.sent[package.number] = Sent(package)
        self.document_ids[package.document_id] += 1
        self.by_notation[package.notation] = package.number
        return sent


@dataclass
class _Heard:
    """The calls of one office; keeps the answers that said "later"."""

    inner: Calls
    later: list[str]

    async def call(
        self, operation: str, fields: Mapping[str, str], body: bytes = vxp.EMPTY, content_type: str = vxp.JSON_TYPE
    ) -> Answer:
        answer = await self.inner.call(operation, fields, body, content_type)
        if is_later(answer) and len(self.later) < ANSWERS_MAX:
            self.later.append(str(answer["ErrorDesc"]))
        return answer


class _Bench(Bench):
    """The bench of a seed, with nothing planned and offices one can listen to."""

    rules = Rules()

    def __init__(self, tree: Tree, profile: Profile, loop: SimLoop, record: Record) -> None:
        super().__init__(tree, profile, 1, loop, record)
        self.told_later: dict[str, list[str]] = {}

    def open_offices(self) -> None:
        for machine, system in self.world.systems():
            life = self.lives[system.id] = Life(self.loop, f"office:{system.id}")
            calls = VxpCalls(self._line(machine, system, life), system.id, secret(system.id), self._now)
            heard = _Heard(calls, self.told_later.setdefault(system.id, []))
            office = SimOffice(system, heard, self.ledger, self.profile.habits, self.seed, self._utc_ms)
            self.offices[system.id] = office
            life.start(office.run(), name=system.id)

    def _rules(self) -> Rules:
        return self.rules


# --- the story -----------------------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """What a story may do and ask. Nodes are named by their folders ("hub", "h41.07"), offices and organs by their codes."""

    bench: _Bench
    ledger: _Ledger
    judged: bool = False
    _cuts: dict[tuple[str, str], Callable[[], None]] = field(default_factory=dict)

    # time

    @property
    def now_s(self) -> float:
        """Virtual seconds since the machines were switched on."""
        return self.bench.loop.time()

    async def passes(self, seconds: float) -> None:
        """Time goes by."""
        await asyncio.sleep(seconds)

    async def until(self, come: Callable[[], bool], within_s: float) -> None:
        """Until it has come to pass; that must be within so many virtual seconds."""
        deadline_s = self.now_s + within_s
        while not come():
            assert self.now_s < deadline_s, f"has not come to pass in {within_s:.0f} s"
            await asyncio.sleep(1.0)

    # offices

    def send(
        self,
        sender: str,
        *to: str,
        size: int = 2_000,
        priority: Priority = Priority.NORMAL,
        corrects: Letter | None = None,
    ) -> Letter:
        """An office sends a document, now; its program insists until it is answered."""
        number = len(self.ledger.sent) + 1
        elder = corrects.sent.package if corrects is not None else None
        package = Package(
            number,
            sender.lower(),
            sender,
            tuple(self.bench.addresses.judge(code) for code in to),
            size,
            self.now_s,
            elder.document_id if elder else f"vb-{number}",
            Business.UPDATE if elder else Business.NEW,
            priority,
            after=elder.number if elder else 0,
        )
        sent = self.ledger.add(package)
        self.bench.offices[package.system].send(sent)
        return Letter(self, sent)

    async def sent(self, sender: str, *to: str, **more: Any) -> Letter:
        """The same, and wait for the docId."""
        letter = self.send(sender, *to, **more)
        await self.until(lambda: letter.taken, 5 * MINUTE_S)
        return letter

    async def looks(self, organ: str) -> None:
        """An office reads its sent list."""
        await self.bench.lives[organ.lower()].start(self.bench.offices[organ.lower()].read_sent())

    def told_later(self, organ: str) -> list[str]:
        """The answers an office had that only put it off."""
        return self.bench.told_later[organ.lower()]

    # the network

    def cut(self, name: str, other: str) -> None:
        """The line between two nodes is dead, silently, until `mend`."""
        self._cuts[name, other] = self.bench.world.network.partition([name], [other])

    def falls_silent(self, name: str, other: str) -> None:
        """Nothing that one says reaches the other any more; the way back is open."""
        self._cuts[name, other] = self.bench.world.network.partition([name], [other], both=False)

    def mend(self, name: str, other: str) -> None:
        self._cuts.pop((name, other))()

    def broken(self) -> list[tuple[str, str]]:
        """The links that are cut now."""
        return list(self._cuts)

    def links(self) -> list[tuple[str, str]]:
        """All links: a child and its parent."""
        machines = self.bench.world.machines
        return [(each.name, machines[each.parent].name) for each in machines.values() if each.parent is not None]

    def set_lines(self, name: str, other: str, **settings: float) -> None:
        """Both directions between two names (an office's: "office:h41.07") are like this from now on (`lines.Line`)."""
        for line in self.bench.world.network.lines_between(name, other):
            for setting, value in settings.items():
                setattr(line, setting, value)

    def misbehaves(self, name: str, how: str) -> None:
        """A node answers "rubbish", "errors" or nothing ("mute"); "": it is itself again."""
        self.bench.world.network.misbehave(name, how)

    # machines

    def machine(self, name: str) -> Machine:
        return self.bench.world.by_name[name]

    def power_cut(self, name: str, again_s: float) -> None:
        """A machine loses its power; so many seconds later it is back."""
        self.machine(name).fall(power=True, again_s=again_s)

    def restart(self, name: str) -> None:
        """The process is told to stop, and its supervisor starts it again."""
        self.machine(name).stop.set()

    def up(self, *names: str) -> bool:
        """Whether these nodes serve."""
        return all(self.machine(name).run is not None for name in names)

    def moves(self, name: str, parent: str) -> None:
        """At its next start a node dials another parent, and theirs know it or know it no more."""
        machine = self.machine(name)
        machine.parent = self.bench.world.moved[machine.code] = self.machine(parent).code

    def chokes(self, name: str, letter: Letter | None) -> None:
        """A node cannot read any batch with this document in it; None: it can read everything again."""
        code = self.machine(name).code
        if letter is None:
            self.bench.world.poisoned.pop(code)
            return
        sender = self.bench.addresses.owner[letter.sent.package.sender].id
        ((id_,),) = self.rows(sender, f"SELECT id FROM envelope WHERE doc_id='{letter.doc_id}'")
        self.bench.world.poisoned[code] = id_

    def is_gone(self, name: str) -> None:
        """A node and its offices are no more. What its organs were sent may end undelivered from now on."""
        machine = self.machine(name)
        for system in machine.site.systems:
            self.bench.lives.pop(system.id).end()
            del self.bench.offices[system.id]
            self.ledger.changed.update({str(code): None for code in system.codes})
        machine.parent = None
        del self.bench.world.machines[machine.code], self.bench.world.by_name[name]
        if machine.life is not None:
            machine.life.end()

    def new_directory(self, name: str, directory: Directory) -> None:
        """A node finds this directory on its disk at its next round."""
        self.machine(name).given.take(directory)

    def desk(self, name: str) -> Desk:
        """The operator's desk of a node."""
        run = self.machine(name).run
        assert run is not None, f"{name} is down"
        return run.desk

    def rows(self, name: str, sql: str) -> list[tuple[Any, ...]]:
        """What an auditor reads in a node's tables."""
        run = self.machine(name).run
        assert run is not None, f"{name} is down"
        return list(run.connection.look(sql))

    # the operator

    async def status(self, name: str) -> dict[str, Any]:
        """What `truc status` shows of a node."""
        return await self.desk(name).status()

    async def held(self, name: str) -> list[dict[str, Any]]:
        """What `truc held list` shows of a node."""
        rows, _ = await self.desk(name).held(FIRST, HELD_MAX)
        return rows

    async def acts(self, name: str, action: str, why: str) -> int:
        """An operator releases or drops all that is held at a node."""
        return await self.desk(name).held_act(action, [row["item"] for row in await self.held(name)], OPERATOR, why)

    # the end

    async def settled(self, within_s: float = HOUR_S) -> None:
        """All work is done within so many virtual seconds, every office reads its list, and the judges find nothing."""
        deadline_s = self.now_s + within_s
        while not self.bench.done() and self.now_s < deadline_s:
            await asyncio.sleep(5.0)
        await self.bench.read_sent()
        found = [f"{violation.kind}: {violation.text}" for violation in self.bench.judge()] + self.bench.world.violations
        assert not found, "\n".join(found)
        self.judged = True


Tale = Callable[[Story], Awaitable[None]]


def told(tree: Tree, habits: Habits = ORDERLY) -> Callable[[Tale], Callable[[], None]]:
    """Makes a test of a story: the nodes of the tree are up and its offices open when it begins."""

    def decorate(tale: Tale) -> Callable[[], None]:
        def test() -> None:
            tell(tale, tree, habits)

        test.__name__, test.__doc__, test.__module__ = tale.__name__, tale.__doc__, tale.__module__
        return test

    return decorate


def tell(tale: Tale, tree: Tree, habits: Habits = ORDERLY) -> None:
    """Let a story happen; whatever a node or the loop complained of fails it."""
    gc.collect()
    gc.disable()  # what it clears away in the middle, it would at another moment in another run
    loop = SimLoop()
    problems: list[str] = []
    with complaints(problems):
        profile = Profile("story", Traffic(documents=0), habits, 0, 0, {})
        bench = _Bench(tree, profile, loop, Record(loop.time))
        ledger = bench.ledger = _Ledger(loop.time, tree.axis_code)
        story = Story(bench, ledger)
        try:
            loop.run_until_complete(_course(tale, story))
        finally:
            bench.end()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            gc.enable()
    problems += [problem(each) for each in loop.problems]
    assert not problems, "\n".join(problems)
    assert story.judged, "a story ends with its judgement"


async def _course(tale: Tale, story: Story) -> None:
    await story.bench.boot(BOOT_S)
    assert story.up(*story.bench.world.by_name), "\n".join(story.bench.world.violations)
    story.bench.open_offices()
    await tale(story)


def moved(directory: Directory, code: str, parent: str) -> Directory:
    """The next version, in which a node hangs under another one."""
    nodes = tuple(replace(node, parent=org(parent)) if node.code == org(code) else node for node in directory.nodes)
    return replace(directory, nodes=nodes, version=directory.version + 1)


def dissolved(directory: Directory, code: str) -> Directory:
    """The next version, in which an organ is closed and its node is no more."""
    nodes: tuple[NodeEntry, ...] = tuple(node for node in directory.nodes if node.code != org(code))
    entries = tuple(
        replace(entry, connection=Connection.CLOSED) if entry.code == org(code) else entry for entry in directory.entries
    )
    return replace(directory, nodes=nodes, entries=entries, version=directory.version + 1)

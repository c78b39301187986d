"""A campaign: every office writes to every other while faults strike, and a ledger of its own judges what came of it.

What is sent is in `traffic`, who sends and receives in `offices`, what strikes in `storm`. What must hold is judged from their
ledger, from the nodes' databases once they have stopped, and from their logs.

    with Tree(folder) as tree:
        campaign = Campaign(tree, Scale(documents=300, kills=30, minutes=10), seed=7)
        await campaign.run()
    print(campaign.summary(), campaign.judge())
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.processes.offices import STATUSES, Ledger, News, Office
from tests.processes.storm import Stage, Storm
from tests.processes.traffic import FILE_BYTES_MIN, Directory, Package, To, plan
from tests.processes.tree import Late, Tree, autopsy, eventually

QUIET_S = 240.0
"""What may be left to do after the last fault must be done within this time."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it: packages, kills, the longest the sending may take, and the share of calls that clients break off.

    kinds: which faults strike. timed: the storm lasts for all those minutes, however many it kills.
    """

    documents: int = 300
    kills: int = 30
    minutes: float = 15.0
    hangups: float = 0.03
    kinds: tuple[str, ...] = ("kill", "pause")
    timed: bool = False


@dataclass
class Campaign:
    tree: Tree
    scale: Scale
    seed: int
    ledger: Ledger = field(default_factory=Ledger)
    took_s: float = 0.0
    stormed_s: float = 0.0
    storm: Storm | None = None

    def __post_init__(self) -> None:
        systems = list(self.tree.systems.values())
        self.directory = Directory(self.tree.folder / "topology.toml", systems)
        self.ledger.packages = plan(self.directory, self.scale.documents, random.Random(f"{self.seed}/plan"))
        self.ledger.document_ids = Counter(package.document_id for package in self.ledger.packages)
        self.offices = [Office(each, self.ledger, self.tree, self.seed, self.scale.hangups) for each in systems]

    async def run(self) -> None:
        """Send all, survive the storm, wait until all has come home. What is not done in time is in the judgement."""
        stage = Stage(self.tree, self.scale.kinds, random.Random(f"{self.seed}/stage"))
        await stage.raised()
        began = time.monotonic()
        limit_s = self.scale.minutes * 60
        lasts_s = limit_s if self.scale.timed else 0.0
        rng, counts = random.Random(f"{self.seed}/storm"), self.ledger.counts
        storm = self.storm = Storm(stage, rng, counts, kills=self.scale.kills, lasts_s=lasts_s)
        async with AsyncExitStack() as stack:
            ending = [self._background(stack, office.collect_all()) for office in self.offices]
            ending += [self._background(stack, office.read_all()) for office in self.offices]
            try:
                async with asyncio.timeout(limit_s + (QUIET_S if lasts_s else 0)), asyncio.TaskGroup() as group:
                    group.create_task(storm.blow())
                    for office in self.offices:
                        group.create_task(office.send_all(lambda: storm.progress))
            except TimeoutError:
                self.ledger.bad(f"not sent within {self.scale.minutes:g} minutes")
            self.stormed_s = time.monotonic() - began
            try:
                await eventually(lambda: self._settled(ending), "all work is done", QUIET_S, 0.5)
            except Late as late:
                self.ledger.bad(str(late))
        await self._read_sent()
        self.took_s = time.monotonic() - began

    def _background(self, stack: AsyncExitStack, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(end)
        return task

    async def _settled(self, loops: Sequence[asyncio.Task[None]]) -> bool:
        """Everything collected, reported and read, and nothing on the road any more."""
        for task in loops:
            if task.done():
                task.result()
        if any(self._undone()):
            return False
        for node in self.tree.nodes.values():
            if node.count("outbox") or node.count("mailbox WHERE state NOT IN ('done','ended')"):
                return False
        return True

    def _undone(self) -> Iterator[str]:
        """Expected deliveries and statuses that have not come about."""
        done = {(item.package, code) for item in self.ledger.items.values() if item.done for code in item.to}
        home = {news.digest for news in self.ledger.news.values() if news.done}
        for package in self.ledger.packages:
            if not package.ended:
                yield f"package {package.number} of {package.system.id} got no final answer"
            for to in package.good if package.doc_id else ():
                if (package.number, to.code) not in done:
                    yield f"package {package.number} ({package.doc_id}) never came to {to.code}"
        for item in self.ledger.items.values():
            if item.reported < len(STATUSES):
                yield f"{item.system}: only {item.reported} statuses of {item.doc_id} handed in"
        for digest, name in self.ledger.statuses_sent.items():
            if digest not in home:
                yield f"status {name} never came home"

        for name, wanted, found in self._returns():
            if found < wanted:
                yield f"{name}: only {found} of {wanted} notices 02 of the axis came"

    def _returns(self) -> Iterator[tuple[str, int, int]]:
        """What each system was promised at the door: one 02 of the axis for each receiver refused beside good ones, by the
        document it names; and how many came. # architecture, section 7"""
        wanted = Counter[tuple[str, str]]()
        for package in self.ledger.packages:
            if package.doc_id and package.good:
                wanted[package.system.id, package.document_id] += sum(not to.organ for to in package.to)
        found = Counter((news.system, news.about) for news in self.ledger.news.values() if news.done and self._of_the_axis(news))
        for system, document in sorted(wanted.keys() | found.keys()):
            yield f"{system} about {document}", wanted[system, document], found[system, document]

    def _of_the_axis(self, news: News) -> bool:
        return news.code == "02" and news.organ == self.directory.axis and news.digest not in self.ledger.statuses_sent

    async def _read_sent(self) -> None:
        for office in self.offices:
            for line in await office.sent():
                self.ledger.lines.setdefault(line["senderDocId"], []).append(line)

    # the judgement

    def judge(self) -> list[str]:
        """What broke, as sentences; [] is a clean campaign. Call it when the tree has stopped."""
        judges = (self._undone, self._at_the_door, self._doubled, self._returned, self._overtaken, self._told, self._inside)
        return [*self.ledger.wrong, *(sentence for judge in judges for sentence in judge())]

    def _missing(self, package: Package) -> bool:
        """Whether a good receiver never had it."""
        came = {code for item in self.ledger.items.values() if item.done and item.package == package.number for code in item.to}
        return any(to.code not in came for to in package.good)

    def _held_somewhere(self, package: Package) -> bool:
        waiting = (
            "outbox o JOIN envelope e ON e.seq=o.envelope WHERE e.doc_id=?",
            "mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.state NOT IN ('done','ended') AND e.doc_id=?",
        )
        return any(node.count(sql, package.doc_id) for node in self.tree.nodes.values() for sql in waiting)

    def _at_the_door(self) -> Iterator[str]:
        """Refused at once and by name; one bad receiver does not stop the others."""
        for package in self.ledger.packages:
            bad = [to for to in package.to if not to.organ]
            if package.refusal and package.good:
                yield f"package {package.number} was refused ({package.refusal}) although {package.good[0].code} can receive"
            if package.refusal and not package.good and package.refusal not in {to.refusal for to in bad}:
                yield f"package {package.number} was refused with {package.refusal}, not {bad[0].refusal}"
            if package.doc_id and not package.good:
                yield f"package {package.number} was taken although nobody can receive it"
            for to in bad if package.doc_id and package.good else ():
                if to.written not in package.text or f"[{to.refusal}]" not in package.text:
                    yield f"package {package.number}: {to.written} is not named with {to.refusal}: {package.text!r}"

    def _doubled(self) -> Iterator[str]:
        """One item for each organ, and for nobody else; one status package for each status."""
        ids: dict[tuple[int, str], set[str]] = {}
        for item in self.ledger.items.values():
            for code in item.to:
                ids.setdefault((item.package, code), set()).add(f"{item.system}/{item.doc_id}")
        packages = {package.number: package for package in self.ledger.packages}
        for (number, code), found in ids.items():
            if len(found) > 1:
                yield f"package {number} came to {code} {len(found)} times: {sorted(found)}"
            package = packages.get(number)
            if package is not None and code not in {to.code for to in package.good}:
                yield f"package {number} came to {code}, which is none of its receivers"
        copies = Counter(news.digest for news in self.ledger.news.values())
        for digest, count in copies.items():
            name = self.ledger.statuses_sent.get(digest)
            if name is not None and count > 1:
                yield f"status {name} came home {count} times"
            if name is None:
                yield from self._unsent(next(each for each in self.ledger.news.values() if each.digest == digest))

    def _unsent(self, news: News) -> Iterator[str]:
        """The axis itself says 02, and only about what could not be sent. # architecture, section 7"""
        refused = {package.document_id for package in self.ledger.packages if len(package.good) < len(package.to)}
        if news.code != "02" or news.organ != self.directory.axis or news.about not in refused:
            yield f"{news.system}: a status {news.code} from {news.organ} that no office sent (about {news.about})"

    def _returned(self) -> Iterator[str]:
        for name, wanted, found in self._returns():
            if found > wanted:
                yield f"{name}: {found} notices 02 of the axis, not {wanted}"

    def _overtaken(self) -> Iterator[str]:
        """What corrects a document comes after it. # architecture, decision 9"""
        last: dict[tuple[str, str], int] = {}
        for item in self.ledger.items.values():  # in the order in which they were first seen
            package = self.ledger.packages[item.package - 1]
            for code in item.to:
                before = last.get((package.document_id, code), 0)
                if before > item.package > 0:
                    yield f"package {item.package} came to {code} after {before}, which corrects it"
                last[package.document_id, code] = max(before, item.package)

    def _told(self) -> Iterator[str]:
        """The sender sees every receiver's end: collected and 06, or why not."""
        for package in self.ledger.packages:
            lines = {line["toCode"]: line for line in self.ledger.lines.get(package.doc_id, ())} if package.doc_id else {}
            for to in package.to if package.doc_id else ():
                line = lines.get(to.code) or lines.get(to.written)
                if line is None:
                    yield f"package {package.number}: no line for {to.code} in the sent list"
                elif to.organ and line["sendStatus"] != "collected":
                    yield f"package {package.number} to {to.code} is {line['sendStatus']}: {line['sendStatusDesc']}"
                elif to.organ and self._speaks(package, to) and line["receiveStatus"] != STATUSES[-1]:
                    yield f"package {package.number} to {to.code} has status {line['receiveStatus']!r}, not {STATUSES[-1]}"
                elif not to.organ and (line["sendStatus"] != "refused" or f"[{to.refusal}]" not in line["sendStatusDesc"]):
                    yield f"package {package.number} to {to.code}: {line['sendStatus']} {line['sendStatusDesc']!r}"

    def _speaks(self, package: Package, to: To) -> bool:
        """An organ that receives for itself and for another answers once; its answer stands on one of the two lines."""
        return to.code == to.organ or all(other.code == to.code for other in package.good if other.organ == to.organ)

    def _inside(self) -> Iterator[str]:
        for node in self.tree.nodes.values():
            yield from autopsy(node)
            for line in node.log_lines():
                if line.get("level") in ("error", "critical"):
                    yield f"{node.code or 'hub'} logged: {line.get('event')} {_fields(line)}"

    def summary(self) -> dict[str, Any]:
        """Figures of the campaign. lost: acknowledged, not received, and held by no node; stuck: some node still holds it."""
        packages = self.ledger.packages
        missing = [package for package in packages if package.doc_id and self._missing(package)]
        stuck = sum(self._held_somewhere(package) for package in missing)
        files = sum(package.size >= FILE_BYTES_MIN for package in packages)
        return {
            "seed": self.seed,
            "documents": len(packages),
            "accepted": sum(bool(package.doc_id) for package in packages),
            "refused": sum(bool(package.refusal) for package in packages),
            "above_128k": files,
            "deliveries": sum(len(package.good) for package in packages if package.doc_id),
            "items": len(self.ledger.items),
            "statuses": len(self.ledger.news),
            "requests_resent": sum(package.tries - 1 for package in packages if package.tries),
            "lost": len(missing) - stuck,
            "doubled": sum(1 for _ in self._doubled()) + sum(found > wanted for _, wanted, found in self._returns()),
            "stuck": stuck,
            "faults": dict(sorted(self.storm.faults.items())) if self.storm is not None else {},
            "stormed_s": round(self.stormed_s, 1),
            "settled_s": round(self.took_s - self.stormed_s, 1),
            **{name: self.ledger.counts[name] for name in sorted(self.ledger.counts)},
        }


def _fields(line: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={str(value)[:1500]}" for key, value in line.items() if key not in ("level", "event", "at", "tier"))

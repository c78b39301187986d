"""A campaign: every office writes to every other while nodes are killed, and a ledger of its own judges what came of it.

Offices are independent clients that speak the VXP face and nothing else; what they send, were told and received stands in the
`Ledger`, which no node ever sees. What must hold is judged from there, from the nodes' databases once they have stopped, and
from their logs.

    with Tree(folder) as tree:
        campaign = Campaign(tree, Scale(documents=300, kills=30, minutes=10), seed=7)
        await campaign.run()
    print(campaign.summary(), campaign.judge())
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import re
import time
import tomllib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

from node.core.package import Business, Priority, Reference
from tests.processes.letters import DATE, NO_ANSWER, connector_of, letter, status
from tests.processes.tree import Late, Node, System, Tree, autopsy, eventually
from tests.vxp_client import Unreadable, VxpClient, VxpFailed

T = TypeVar("T")

BYTES_MIN, FILE_BYTES_MIN, BYTES_MAX = 1_000, 132_000, 400_000
"""From the second on a body is no row any more but a file that crosses each link by itself."""
CALL_S = 30.0
"""After this long a client gives a call up and sends it again; the SDK itself would wait for ever."""
IDLE_S = 0.6
"""Between two looks into an empty mailbox."""
QUIET_S = 240.0
"""What may be left to do after the last fault must be done within this time."""
STATUSES = ("01", "03", "06")

NOT_HERE = "H41.77"
"""Below a prefix of the tree, in no directory."""


# --- what is sent ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class To:
    """One Bên nhận of a package. organ: who must receive it; "" where it must be refused, for this reason."""

    written: str
    code: str
    organ: str
    refusal: str = ""


@dataclass(slots=True)
class Package:
    """One package of the plan and what became of it at the door. at: the share of the storm after which it may leave, 0..1.

    doc_id: what the office was told; ended: it got a final answer (doc_id or refusal). first_s: custody, by the campaign's clock.
    """

    number: int
    system: System
    sender: str
    to: tuple[To, ...]
    size: int
    business: Business
    priority: Priority
    document_id: str
    at: float
    digest: str = ""
    doc_id: str = ""
    refusal: str = ""
    text: str = ""
    tries: int = 0
    ended: bool = False

    @property
    def notation(self) -> str:
        return f"{self.number}/CV-TH"

    @property
    def good(self) -> list[To]:
        return [to for to in self.to if to.organ]

    @property
    def organs(self) -> set[str]:
        return {to.organ for to in self.good}

    def content(self, seed: int) -> bytes:
        """The same bytes at each call; no two packages alike."""
        return letter(
            self.sender,
            *(to.written for to in self.to),
            number=self.number,
            size=self.size,
            document_id=self.document_id,
            priority=self.priority,
            business=self.business,
            seed=seed,
        )


class Directory:
    """Who receives for whom, read from the tree's own topology file: what an office knows before it sends."""

    def __init__(self, topology: Path, systems: Sequence[System]) -> None:
        tree = tomllib.loads(topology.read_text())
        self.axis = tree["axis"]["code"]
        self._organs = {organ["code"]: organ for organ in tree["organs"]}
        self.served = {code: system for system in systems for code in system.codes}
        self.closed = self._with("da-dong")
        self.locked = self._with("tam-khoa")
        waiting = self._with("chua-ket-noi")
        self.focal = [code for code in waiting if self._receiver_for(code)]
        self.unconnected = [code for code in waiting if not self._receiver_for(code)]

    def _with(self, connection: str) -> list[str]:
        return [code for code, organ in self._organs.items() if organ["connection"] == connection]

    def _receiver_for(self, code: str) -> str:
        for superior in sorted(self.served, key=len, reverse=True):
            for prefix in self._organs[superior].get("receives_for", ()):
                if code != superior and (code == prefix or code.startswith(prefix + ".")):
                    return superior
        return ""

    def judge(self, code: str, written: str = "") -> To:
        """What must happen to this code. # QĐ 28/2018 Điều 7.1, 8.2, 21.2"""
        written = written or code
        if code in self.served:
            return To(written, code, code)
        if code in self.focal:
            return To(written, code, self._receiver_for(code))
        for codes, reason in ((self.closed, "closed"), (self.locked, "locked"), (self.unconnected, "not-connected")):
            if code in codes:
                return To(written, code, "", f"recipient-{reason}")
        return To(written, code, "", "recipient-unknown")

    def bad(self, rng: random.Random) -> To:
        return self.judge(rng.choice([*self.closed, *self.locked, *self.unconnected, NOT_HERE]))

    def old_form(self, code: str) -> str:
        """The 13-character form of a code that has one, else the code itself. # QCVN 102:2016"""
        groups = code.split(".")
        widths = [len(group) for group in groups]
        if widths[0] != 3 or any(width != 2 for width in widths[1:]) or len(groups) > 4:
            return code
        return ".".join([*["000", "00", "00"][: 4 - len(groups)], *reversed(groups[1:]), groups[0]])


def plan(directory: Directory, documents: int, rng: random.Random) -> list[Package]:
    """Every office system to every other, round after round, in a shuffled order; and the cases that are not plain."""
    systems = list(dict.fromkeys(directory.served.values()))
    pairs = [(a, b) for a in systems for b in systems if a is not b]
    packages: list[Package] = []
    while len(packages) < documents:
        rng.shuffle(pairs)
        for number, (a, b) in enumerate(pairs[: documents - len(packages)], len(packages) + 1):
            packages.append(_package(directory, number, a, b, rng))
    for package in packages:
        package.at = 0.95 * package.number / documents
    _make_updates(packages, rng)
    return packages


def _package(directory: Directory, number: int, a: System, b: System, rng: random.Random) -> Package:
    code = rng.choice(b.codes)
    to = [directory.judge(code, directory.old_form(code) if rng.random() < 0.15 else "")]
    chance = rng.random()
    if chance < 0.15:  # several Bên nhận, also two of one system, also one its superior receives for
        others = rng.sample([*directory.served, *directory.focal], rng.randint(1, 5))
        to += [directory.judge(other) for other in others if other != code]
    if 0.10 < chance < 0.22:
        to.insert(rng.randint(0, len(to)), directory.bad(rng))
    if 0.22 < chance < 0.26:
        to = [directory.bad(rng)]
    return Package(
        number,
        a,
        rng.choice(a.codes),
        tuple(to),
        _size(rng),
        Business.NEW,
        Priority(rng.choice((0, 0, 0, 0, 0, 0, 1, 2, 3, 4))),
        f"{rng.getrandbits(64):016x}-{number}",
        0.0,
    )


def _size(rng: random.Random) -> int:
    """A third are files; the others of every order of magnitude."""
    if rng.random() < 0.3:
        return rng.randint(FILE_BYTES_MIN, BYTES_MAX)
    return int(math.exp(rng.uniform(math.log(BYTES_MIN), math.log(FILE_BYTES_MIN))))


def _make_updates(packages: list[Package], rng: random.Random) -> None:
    """One in ten corrects an earlier package of the same system: same receivers, same DocumentId."""
    earlier: dict[str, Package] = {}
    for package in packages:
        first = earlier.get(package.system.id)
        if first is not None and rng.random() < 0.1:
            package.business = Business.UPDATE
            package.sender, package.to, package.document_id = first.sender, first.to, first.document_id
        else:
            earlier[package.system.id] = package


# --- what came of it ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Item:
    """One docId laid before one office system."""

    system: str
    doc_id: str
    to: tuple[str, ...]
    digest: str = ""
    package: int = 0
    done: bool = False
    reported: int = 0


@dataclass(slots=True)
class News:
    """One status package laid before one office system: code, organ that speaks, the docId it speaks of."""

    system: str
    doc_id: str
    digest: str
    code: str
    organ: str
    about: str
    done: bool = False


class Ledger:
    """All the campaign knows. wrong: what must never happen, as sentences; counts: what happened how often."""

    def __init__(self) -> None:
        self.packages: list[Package] = []
        self.document_ids: Counter[str] = Counter()
        self.by_digest: dict[str, Package] = {}
        self.items: dict[tuple[str, str], Item] = {}
        self.news: dict[tuple[str, str], News] = {}
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.statuses_sent: dict[str, str] = {}
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()

    def bad(self, sentence: str) -> None:
        self.wrong.append(sentence)


# --- offices -----------------------------------------------------------------------------------------------------------


class Office:
    """One office system: hands in its packages in turn, collects, confirms, reports 01, 03, 06, and reads what comes home.

    hangups: the share of calls that the client itself breaks off in the middle, as a crashing connector does.
    """

    def __init__(self, system: System, ledger: Ledger, tree: Tree, seed: int, hangups: float) -> None:
        self.system = system
        self._ledger = ledger
        self._tree = tree
        self._seed = seed
        self._rng = random.Random(f"{seed}/{system.id}")
        self._hangups = hangups
        self.busy = True

    def client(self) -> VxpClient:
        return connector_of(self._tree, self.system, CALL_S)

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """The same call until it is answered. FAIL is an answer."""
        while True:
            hang_up = self._rng.random() < self._hangups
            try:
                async with asyncio.timeout(self._rng.uniform(0.001, 0.06) if hang_up else CALL_S):
                    return await call()
            except NO_ANSWER:
                self._ledger.counts["hung up" if hang_up else "unanswered"] += 1
            except Unreadable as error:
                self._ledger.bad(f"{self.system.id}: an answer no SDK can read: {error}")
            await asyncio.sleep(self._rng.uniform(0.02, 0.3))  # a connector's pause before it tries again

    async def send_all(self, progress: Callable[[], float]) -> None:
        async with self.client() as client:
            for package in [each for each in self._ledger.packages if each.system is self.system]:
                await eventually(lambda at=package.at: progress() >= at, "its turn", 3600)  # type: ignore[misc]
                await self.send(client, package)

    async def send(self, client: VxpClient, package: Package) -> None:
        content = package.content(self._seed)
        package.digest = hashlib.sha256(content).hexdigest()
        self._ledger.by_digest[package.digest] = package

        async def once() -> dict[str, Any]:
            package.tries += 1
            return await client.send(content, package.sender)

        answer = await self.insist(once)
        package.text = answer["ErrorDesc"]
        if answer["status"] == "OK":
            package.doc_id = answer["DocId"]
            if self._rng.random() < 0.1:
                await self._send_again(package, once)
        else:
            package.refusal = "".join(re.findall(r"\[([a-z-]+)\]\s*$", package.text)) or package.text or "?"
        package.ended = True

    async def _send_again(self, package: Package, once: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """A connector that forgot the answer: the same file within 24 h is the same document."""
        again = await self.insist(once)
        self._ledger.counts["sent twice"] += 1
        if again["DocId"] != package.doc_id:
            self._ledger.bad(f"package {package.number}: DocId {package.doc_id}, and for the same file {again['DocId']}")

    async def collect_all(self) -> None:
        async with self.client() as client:
            while True:
                found = await self.insist(lambda: client.received("edoc"))
                for line in found:
                    await self._collect(client, line)
                self.busy = bool(found)
                await asyncio.sleep(0 if found else IDLE_S)

    async def _collect(self, client: VxpClient, line: Mapping[str, Any]) -> None:
        key = (self.system.id, str(line["docId"]))
        item = self._ledger.items.setdefault(key, Item(*key, tuple(str(line["to"]).split(";"))))
        if item.done:
            self._ledger.bad(f"{self.system.id}: {item.doc_id} was confirmed and is offered again")
            return
        try:
            content = await self.insist(lambda: client.get(item.doc_id))
        except VxpFailed as failed:
            self._ledger.bad(f"{self.system.id}: listed {item.doc_id} cannot be fetched: {failed}")
            return
        item.digest = hashlib.sha256(content).hexdigest()
        package = self._ledger.by_digest.get(item.digest)
        if package is None:
            self._ledger.bad(f"{self.system.id}: {item.doc_id} has bytes that nobody sent")
            return
        item.package = package.number
        await self._done(client, item.doc_id)
        item.done = True
        await self._report(client, item, package)

    async def _done(self, client: VxpClient, doc_id: str) -> None:
        answer = await self.insist(lambda: client.update(doc_id, "done"))
        if answer["status"] != "OK":
            self._ledger.bad(f"{self.system.id}: done for {doc_id} is answered {answer['ErrorDesc']}")

    async def _report(self, client: VxpClient, item: Item, package: Package) -> None:
        """The statuses of the receiving organ, each a package of its own; the document named in one of three ways."""
        organ = next(iter({to.organ for to in package.good if to.code in item.to} & set(self.system.codes)), "")
        if not organ:
            self._ledger.bad(f"{self.system.id}: {item.doc_id} is for {item.to}, none of ours in package {package.number}")
            return
        unique = package.number % 2 == 0 and self._ledger.document_ids[package.document_id] == 1
        about = Reference(package.sender, package.notation, DATE, package.document_id if unique else item.doc_id)
        for code in STATUSES:
            content = status(organ, about, code, f"{item.doc_id}/{organ}", int(time.time() * 1000))
            answer = await self.insist(lambda content=content: client.send(content, organ, "status"))  # type: ignore[misc]
            if answer["status"] != "OK":
                self._ledger.bad(f"{self.system.id}: status {code} for {item.doc_id} is refused: {answer['ErrorDesc']}")
            self._ledger.statuses_sent[hashlib.sha256(content).hexdigest()] = f"{package.number}/{organ}/{code}"
            item.reported += 1

    async def read_all(self) -> None:
        """The statuses that come home."""
        async with self.client() as client:
            while True:
                found = await self.insist(lambda: client.received("status"))
                for line in found:
                    await self._read(client, str(line["docId"]))
                await asyncio.sleep(0 if found else IDLE_S)

    async def _read(self, client: VxpClient, doc_id: str) -> None:
        key = (self.system.id, doc_id)
        if key in self._ledger.news and self._ledger.news[key].done:
            self._ledger.bad(f"{self.system.id}: status {doc_id} was confirmed and is offered again")
            return
        try:
            content = await self.insist(lambda: client.get(doc_id))
        except VxpFailed as failed:
            self._ledger.bad(f"{self.system.id}: listed status {doc_id} cannot be fetched: {failed}")
            return
        news = self._ledger.news.setdefault(key, _news(self.system.id, doc_id, content))
        await self._done(client, doc_id)
        news.done = True

    async def sent(self) -> list[dict[str, Any]]:
        """All lines of the sent list."""
        async with self.client() as client:
            return await self.insist(client.sent)


def _news(system: str, doc_id: str, content: bytes) -> News:
    def text(name: str, below: str = "") -> str:
        found = root.find(f".//{{*}}{below}/{{*}}{name}" if below else f".//{{*}}{name}")
        return (found.text or "") if found is not None else ""

    root = ElementTree.fromstring(content)
    digest = hashlib.sha256(content).hexdigest()
    return News(system, doc_id, digest, text("StatusCode"), text("OrganId", "From"), text("DocumentId", "ResponseFor"))


# --- faults ------------------------------------------------------------------------------------------------------------


class Storm:
    """Kills and pauses at random, until `kills` nodes have been killed. Every node is up and serving when it has passed."""

    def __init__(self, tree: Tree, kills: int, rng: random.Random, counts: Counter[str]) -> None:
        self._tree = tree
        self._wanted = kills
        self._rng = rng
        self._counts = counts
        self.kills = 0

    @property
    def progress(self) -> float:
        return 1.0 if self.kills >= self._wanted else self.kills / self._wanted

    async def blow(self) -> None:
        while self.kills < self._wanted:
            struck = self._rng.sample(list(self._tree.nodes.values()), self._rng.choice((1, 1, 2)))
            async with asyncio.TaskGroup() as group:
                for node in struck:
                    group.create_task(self._strike(node, random.Random(self._rng.random())))
            await asyncio.sleep(self._rng.uniform(0, 1.5))  # the storm's own rhythm
        for node in self._tree.nodes.values():
            await node.ready()

    async def _strike(self, node: Node, rng: random.Random) -> None:
        if not node.alive():
            node.start()
        if rng.random() < 0.2:
            node.pause()
            self._counts["paused"] += 1
            await asyncio.sleep(rng.uniform(0.05, 3))
            if rng.random() < 0.7:
                node.resume()
                return
        if rng.random() < 0.4:
            await self._until_a_body_moves(node)
        self._kill(node)
        await asyncio.sleep(rng.uniform(0, 2.0))
        node.start()
        while rng.random() < 0.25:  # in the middle of its recovery, or a moment after
            await asyncio.sleep(rng.uniform(0.2, 2.5))
            self._kill(node)
            self._counts["killed while recovering"] += 1
            node.start()
        if rng.random() < 0.6:
            await node.ready()

    async def _until_a_body_moves(self, node: Node) -> None:
        """The moment when a large body is half there; after a second any moment will do."""
        bodies = node.data / "bodies"
        try:
            await eventually(lambda: any(bodies.glob("partial/*")) or any(bodies.glob("spool/*")), "a body moves", 1.0, 0.003)
            self._counts["aimed at a body"] += 1
        except Late:
            pass

    def _kill(self, node: Node) -> None:
        node.kill()
        self.kills += 1
        self._counts["killed"] += 1
        self._counts[f"killed {node.code or 'hub'}"] += 1


# --- the whole ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it: packages, kills, the longest it may take, and the share of calls that clients break off."""

    documents: int = 300
    kills: int = 30
    minutes: float = 15.0
    hangups: float = 0.03


@dataclass
class Campaign:
    tree: Tree
    scale: Scale
    seed: int
    ledger: Ledger = field(default_factory=Ledger)
    took_s: float = 0.0
    stormed_s: float = 0.0

    def __post_init__(self) -> None:
        systems = list(self.tree.systems.values())
        self.directory = Directory(self.tree.folder / "topology.toml", systems)
        self.ledger.packages = plan(self.directory, self.scale.documents, random.Random(f"{self.seed}/plan"))
        self.ledger.document_ids = Counter(package.document_id for package in self.ledger.packages)
        self.offices = [Office(each, self.ledger, self.tree, self.seed, self.scale.hangups) for each in systems]

    async def run(self) -> None:
        """Send all, survive the storm, wait until all has come home. What is not done in time is in the judgement."""
        began = time.monotonic()
        storm = Storm(self.tree, self.scale.kills, random.Random(f"{self.seed}/storm"), self.ledger.counts)
        async with AsyncExitStack() as stack:
            ending = [self._background(stack, office.collect_all()) for office in self.offices]
            ending += [self._background(stack, office.read_all()) for office in self.offices]
            try:
                async with asyncio.timeout(self.scale.minutes * 60), asyncio.TaskGroup() as group:
                    group.create_task(storm.blow())
                    for office in self.offices:
                        group.create_task(office.send_all(lambda: storm.progress))
            except TimeoutError:
                self.ledger.bad(f"not sent within {self.scale.minutes} minutes")
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

    async def _read_sent(self) -> None:
        for office in self.offices:
            for line in await office.sent():
                self.ledger.lines.setdefault(line["senderDocId"], []).append(line)

    # the judgement

    def judge(self) -> list[str]:
        """What broke, as sentences; [] is a clean campaign. Call it when the tree has stopped."""
        return [*self.ledger.wrong, *self._undone(), *self._at_the_door(), *self._doubled(), *self._told(), *self._inside()]

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
        """Figures of the campaign."""
        packages = self.ledger.packages
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
            "stormed_s": round(self.stormed_s, 1),
            "settled_s": round(self.took_s - self.stormed_s, 1),
            **{name: self.ledger.counts[name] for name in sorted(self.ledger.counts)},
        }


def _fields(line: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={str(value)[:1500]}" for key, value in line.items() if key not in ("level", "event", "at", "tier"))

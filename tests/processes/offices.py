"""The offices of a campaign: independent clients of the VXP face, and the ledger of what they sent, were told and received.

Nodes never see the ledger. Knows nothing of how a node works inside.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from xml.etree import ElementTree

from node.core.package import Reference
from tests.processes.letters import DATE, NO_ANSWER, connector_of, later, status
from tests.processes.traffic import Package
from tests.processes.tree import System, Tree, eventually
from tests.vxp_client import Unreadable, VxpClient, VxpFailed

T = TypeVar("T")

CALL_S = 30.0
"""After this long a client gives a call up and sends it again; the SDK itself would wait for ever."""
IDLE_S = 0.4
"""Between two looks into the mailbox."""
TURN_S = 86_400.0
"""No campaign lasts longer."""
STATUSES = ("01", "03", "06")


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
        self.wrong: dict[str, None] = {}
        self.counts: Counter[str] = Counter()

    def bad(self, sentence: str) -> None:
        self.wrong[sentence] = None


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

    def client(self) -> VxpClient:
        return connector_of(self._tree, self.system, CALL_S)

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """The same call until it is answered. FAIL is an answer, but for one that says "later"."""
        while True:
            hang_up = self._rng.random() < self._hangups
            try:
                async with asyncio.timeout(self._rng.uniform(0.001, 0.06) if hang_up else CALL_S):
                    answer = await call()
                if not (reason := later(answer)):
                    return answer
                self._ledger.counts[f"told later: {reason}"] += 1
            except VxpFailed as failed:
                if not (reason := later(failed)):
                    raise
                self._ledger.counts[f"told later: {reason}"] += 1
            except NO_ANSWER:
                self._ledger.counts["hung up" if hang_up else "unanswered"] += 1
            except Unreadable as error:
                self._ledger.bad(f"{self.system.id}: an answer no SDK can read: {error}")
            await asyncio.sleep(self._rng.uniform(0.02, 0.3))  # a connector's pause before it tries again

    async def send_all(self, progress: Callable[[], float]) -> None:
        async with self.client() as client:
            for package in [each for each in self._ledger.packages if each.system is self.system]:
                await eventually(lambda at=package.at: progress() >= at, "its turn", TURN_S)  # type: ignore[misc]
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
                await asyncio.sleep(IDLE_S)

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
                await asyncio.sleep(IDLE_S)

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

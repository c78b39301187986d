"""The outside ledger of one run: what offices sent, were told, received and did. Nodes never see it.

It is the offices' own memory (what their databases would keep through a crash) and the judges' evidence. What can be judged the
moment it happens is judged here; the rest in `checkers`. Knows the words of the VXP face and nothing of nodes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from node.core.envelope import derived_doc_id
from topology.sim.traffic import Package, To

Kind = Literal["lost", "doubled", "stuck", "wrong"]
Answer = Mapping[str, Any]

LATER = frozenset({"not-now", "disk-full", "internal"})
"""Reasons that are no final answer: the same call again, later."""
REPEATED = "đã được gửi trước đó"
"""What an answer says of a file that came before."""

_REASON = re.compile(r"\[([a-z-]+)\]\s*$")
FINAL_STATES = frozenset({"collected", "stopped"})
ENDED_STATES = frozenset({"refused", "expired", "stopped"})
"""Ends that are no delivery; of those, only a copy in doubt may still turn out to be collected."""
STATUS_RANK = {"": 0, "01": 1, "03": 3, "04": 4, "05": 5, "06": 6}


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """Something that must never be. lost: acknowledged, and nowhere; doubled: an effect twice; stuck: not ended in time."""

    kind: Kind
    text: str


@dataclass(slots=True)
class Sent:
    """A package at the door of its node. doc_ids: what its office was told, and when; tries: calls the node may have heard.

    ended: a final answer came, which is a docId or `refusal` (the reason's code; beside a docId: the same file, handed in once
    more, was refused). text: the clerk's message to the first answer.
    """

    package: Package
    digest: str = ""
    tries: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    doc_ids: dict[str, float] = field(default_factory=dict)
    refusal: str = ""
    text: str = ""
    ended: bool = False


@dataclass(slots=True)
class Item:
    """One docId laid before one office system. to: codes it was listed for; package 0: not fetched yet, or bytes nobody sent.
    seen: its place in the order in which offices first saw their items; seen_s: when that was.

    processed: how often the office took the document in; done: the node answered the confirmation; early: it was confirmed before
    it was fetched; fail_tries: calls of `fail` that the node may have heard; gone: why it could not be fetched any more.
    """

    system: str
    doc_id: str
    seen: int
    to: dict[str, None] = field(default_factory=dict)
    confirmed: dict[str, None] = field(default_factory=dict)
    digest: str = ""
    package: int = 0
    fetches: int = 0
    processed: int = 0
    done: bool = False
    done_tries: int = 0
    early: bool = False
    fail_tries: int = 0
    gone: str = ""
    organ: str = ""
    seen_s: float = 0.0


@dataclass(slots=True)
class StatusSent:
    """One status package of a receiving organ. content: its bytes, kept until the final answer. about: the docId or DocumentId
    by which it names the document, "" where it names it by number and date; item: the docId the organ's office saw."""

    system: str
    organ: str
    code: str
    package: int
    content: bytes
    digest: str
    about: str
    item: str
    tries: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    doc_ids: dict[str, float] = field(default_factory=dict)
    refusal: str = ""
    text: str = ""
    ended: bool = False

    @property
    def name(self) -> str:
        return f"status {self.code} of {self.organ} on package {self.package}"


@dataclass(slots=True)
class News:
    """One status package laid before one office system. code, organ, notation, description: only where no office sent it."""

    system: str
    doc_id: str
    digest: str = ""
    code: str = ""
    organ: str = ""
    notation: str = ""
    description: str = ""
    processed: int = 0
    done: bool = False
    done_tries: int = 0
    gone: str = ""


class Ledger:
    """All that the offices of one run know.

    changed: codes whose receiving the run itself changed on the way (moved, removed): delivered and refused are both right there.
    stopped: (docId, code) that an operator dropped. counts: what happened how often, for "sometimes" assertions.
    """

    def __init__(self, packages: Sequence[Package], axis: str) -> None:
        self.axis = axis
        self.sent: dict[int, Sent] = {package.number: Sent(package) for package in packages}
        self.document_ids = Counter(package.document_id for package in packages)
        self.by_digest: dict[str, int] = {}
        self.by_notation: dict[str, int] = {package.notation: package.number for package in packages}
        self.items: dict[tuple[str, str], Item] = {}
        self.statuses: dict[str, StatusSent] = {}
        self.news: dict[tuple[str, str], News] = {}
        self.lines: dict[tuple[str, str], dict[str, Answer]] = {}
        self.read: dict[str, None] = {}
        """Systems whose sent list was read to the end after all work was done."""
        self.changed: dict[str, None] = {}
        self.stopped: dict[tuple[str, str], None] = {}
        self.counts: Counter[str] = Counter()
        self._wrong: dict[Violation, None] = {}

    @property
    def wrong(self) -> list[Violation]:
        """What was seen to be wrong the moment it happened."""
        return list(self._wrong)

    def bad(self, text: str, kind: Kind = "wrong") -> None:
        self._wrong[Violation(kind, text)] = None

    # what an office hands in

    def tried(self, sent: Sent | StatusSent, now_s: float) -> None:
        """A call leaves that the node may hear."""
        if not sent.tries:
            sent.first_s = now_s
        sent.tries += 1
        sent.last_s = now_s

    def untried(self, sent: Sent | StatusSent) -> None:
        """It turned out that nothing left."""
        sent.tries -= 1

    def answered(self, sent: Sent | StatusSent, answer: Answer, now_s: float) -> None:
        """The final answer to a package or a status, also to one handed in once more."""
        text = str(answer["ErrorDesc"])
        if answer["status"] != "OK":
            sent.refusal = reason_of(text)
            sent.text = sent.text or text
        else:
            doc_id = str(answer["DocId"])
            if REPEATED in text:
                self.counts["path/repeated at the door"] += 1
            if not sent.doc_ids:
                sent.text = text
            if not doc_id:
                self.bad(f"{_name(sent)} was taken without a DocId")
            sent.doc_ids.setdefault(doc_id, now_s)
        sent.ended = True

    # what is laid before an office

    def offered(self, system: str, line: Mapping[str, Any], now_s: float = 0.0) -> Item:
        """A line of the received list of documents."""
        key = (system, str(line["docId"]))
        item = self.items.get(key)
        if item is None:
            item = self.items[key] = Item(*key, seen=len(self.items), seen_s=now_s)
        codes = str(line["to"]).split(";")
        again = [code for code in codes if code in item.confirmed]
        if again:
            self.bad(f"{system}: {item.doc_id} was confirmed for {', '.join(again)} and is offered again", "doubled")
        item.to.update(dict.fromkeys(codes))
        return item

    def taken_in(self, item: Item, digest: str) -> Package | None:
        """An office has the bytes of an item. None: nobody sent them."""
        item.fetches += 1
        if item.digest and item.digest != digest:
            self.bad(f"{item.system}: {item.doc_id} had other bytes the first time")
        item.digest = digest
        number = self.by_digest.get(digest)
        if number is None:
            self.bad(f"{item.system}: {item.doc_id} has bytes that nobody sent")
            return None
        item.package = number
        return self.sent[number].package

    def confirmed(self, item: Item) -> None:
        """The node has answered the confirmation of an item that was fetched."""
        item.done = True
        item.confirmed.update(item.to)

    def told(self, system: str, doc_id: str) -> News:
        """A line of the received list of statuses."""
        key = (system, doc_id)
        news = self.news.get(key)
        if news is None:
            news = self.news[key] = News(*key)
        if news.done:
            self.bad(f"{system}: status {doc_id} was confirmed and is offered again", "doubled")
        return news

    # what the sent list says

    def sent_lines(self, system: str, lines: Iterable[Answer]) -> None:
        """Lines of the sent list as they are now: none may have gone backwards since they were last seen."""
        for line in lines:
            known = self.lines.setdefault((system, str(line["senderDocId"])), {})
            before = known.get(str(line["toCode"]))
            if before is not None:
                self._compare(system, before, line)
            known[str(line["toCode"])] = line

    def _compare(self, system: str, before: Answer, now: Answer) -> None:
        was, state = str(before["sendStatus"]), str(now["sendStatus"])
        about = f"{system}: {now['senderDocId']} to {now['toCode']}"
        if state != was and (was in FINAL_STATES or (was in ENDED_STATES and state != "collected")):
            self.bad(f"{about} was {was} and is {state} now")
        old, new = str(before["receiveStatus"]), str(now["receiveStatus"])
        if old != new and (old in ("02", "15") or STATUS_RANK.get(new, 9) < STATUS_RANK.get(old, 0)):
            self.bad(f"{about} had office status {old} and has {new or 'none'} now")

    # questions of the judges

    def organs_of(self, item: Item) -> list[To]:
        """The receivers of its package that an item speaks of. [] where it is for none of them."""
        if item.package not in self.sent:
            return []
        return [to for to in self.sent[item.package].package.good if to.code in item.to]

    def unique(self, package: Package) -> bool:
        """Whether its DocumentId names no other package."""
        return self.document_ids[package.document_id] == 1


def own_doc_ids(doc_ids: Iterable[str], organ: str) -> list[str]:
    """The docIds under which an organ's office may see a package: its own, or the one derived for a second organ of a system."""
    return [each for doc_id in doc_ids for each in (doc_id, derived_doc_id(doc_id, organ))]


def reason_of(text: str) -> str:
    """The stable code at the end of an ErrorDesc; the text itself where there is none."""
    found = _REASON.search(text)
    return found[1] if found else text or "?"


def is_later(answer: Answer) -> bool:
    """Whether an answer only says: not now."""
    return answer["status"] != "OK" and reason_of(str(answer["ErrorDesc"])) in LATER


def _name(sent: Sent | StatusSent) -> str:
    return sent.name if isinstance(sent, StatusSent) else f"package {sent.package.number}"

"""What must hold, judged from outside by the offices' ledger, once the work of a run is done.

Every finding is a sentence that names the package. Knows the ledger and what a door promises; nothing of how a node comes to its
decisions, nor of its tables (`audit` reads those).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from node.core.package import Priority
from topology.sim.ledger import (
    ENDED_STATES,
    STATUS_RANK,
    Answer,
    Item,
    Kind,
    Ledger,
    News,
    Sent,
    StatusSent,
    Violation,
    own_doc_ids,
)
from topology.sim.traffic import ANY, Addresses, Package, To

Place = tuple[str, str]
"""(docId as the sender knows it, code of the receiver)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run allows. repeat_s: how long the same file is the same document. fails_max: so many `fail` hold an item.

    may_expire: the run lasted longer than a lifetime. in_doubt_ends: a copy in doubt ended, and was collected after all. ordered:
    all documents take one way, so none overtakes the one it corrects. patience_s: the longest way of a document that is not
    urgent, from its sender's answer to its receiver's list; 0: it is not looked at. express_s: that of a hỏa tốc, where no other
    was sent so shortly before or after it. share_bytes_per_s: what the others get at least while hỏa tốc follows hỏa tốc.
    """

    repeat_s: float = 86_400.0
    fails_max: int = 5
    may_expire: bool = False
    in_doubt_ends: bool = False
    ordered: bool = True
    patience_s: float = 0.0
    express_s: float = 0.0
    share_bytes_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """What nodes hold: for a person, and as work still to do. Of documents and of statuses."""

    held: Collection[Place] = field(default_factory=frozenset)
    present: Collection[Place] = field(default_factory=frozenset)


def judge(ledger: Ledger, addresses: Addresses, rules: Rules | None = None, kept: Kept | None = None) -> list[Violation]:
    """Everything that is wrong in the ledger of a run whose work is done and whose sent lists were read; [] when nothing is.

    kept: without it what is held is known only by how often its office failed, and what is nowhere is called stuck, not lost.
    """
    bench = _Bench(ledger, addresses, rules or Rules(), kept)
    found = dict.fromkeys(ledger.wrong)
    for one in (bench.answers, bench.submissions, bench.arrivals, bench.deliveries, bench.effects, bench.returns):
        found.update(dict.fromkeys(one()))
    for one in (bench.statuses, bench.status_lines, bench.order, bench.patience, bench.haste):
        found.update(dict.fromkeys(one()))
    return list(found)


class _Bench:
    """One judgement: the ledger with the indexes that the judges share."""

    def __init__(self, ledger: Ledger, addresses: Addresses, rules: Rules, kept: Kept | None) -> None:
        self.ledger = ledger
        self.rules = rules
        self.kept = kept or Kept()
        self.counted = kept is not None
        self.owner = {organ: system.id for organ, system in addresses.owner.items()}
        self.untold = _untold(ledger)
        """Package -> docIds that stand in its system's sent list and that its office was never told."""
        self.items: dict[tuple[int, str], list[Item]] = {}
        for item in ledger.items.values():
            for organ in dict.fromkeys(to.organ for to in ledger.organs_of(item)):
                self.items.setdefault((item.package, organ), []).append(item)
        self.home: dict[str, list[News]] = {}
        for news in ledger.news.values():
            self.home.setdefault(news.digest, []).append(news)
        self.returned: dict[int, list[str]] = {}
        """Package -> the receivers that 02s of the axis speak of."""
        for news in ledger.news.values():
            if news.notation in ledger.by_notation:
                self.returned.setdefault(ledger.by_notation[news.notation], []).append(_whom(news.description))

    # at the door

    def answers(self) -> Iterator[Violation]:
        """Every package has a final answer, the right one; what cannot be reached is named with its reason."""
        for sent in self.ledger.sent.values():
            package = sent.package
            name = f"package {package.number} of {package.system}"
            if not sent.ended:
                yield Violation("stuck", f"{name} got no final answer in {sent.tries} calls")
            elif self._changed(package):
                continue  # right either way; what then happens to it is judged all the same
            elif sent.refusal and sent.doc_ids:
                yield Violation("wrong", f"{name} was taken, and the same file is refused with {sent.refusal}")
            elif sent.refusal and not package.refusal:
                yield Violation("wrong", f"{name} was refused with {sent.refusal} although {package.good[0].code} can receive")
            elif sent.refusal and package.refusal not in (ANY, sent.refusal):
                yield Violation("wrong", f"{name} was refused with {sent.refusal}, not with {package.refusal}")
            elif sent.doc_ids and package.refusal:
                yield Violation("wrong", f"{name} was taken although it must be refused with {package.refusal}")
            else:
                yield from self._named(name, sent)

    def _named(self, name: str, sent: Sent) -> Iterator[Violation]:
        for to in sent.package.bad if sent.doc_ids else ():
            if to.written not in sent.text or f"[{to.refusal}]" not in sent.text:
                yield Violation("wrong", f"{name}: {to.written} is not named with {to.refusal} in {sent.text!r}")

    def submissions(self) -> Iterator[Violation]:
        """One docId for one file, unless the first ended without delivery, or too long ago."""
        for sent in self.ledger.sent.values():
            package, known = sent.package, self._known(sent)
            if not sent.ended:
                continue
            if known and not sent.doc_ids:
                yield Violation(
                    "wrong", f"package {package.number} was refused with {sent.refusal} and taken as {', '.join(known)}"
                )
            elif len(known) > 1 and not self._excused(sent):
                yield Violation("doubled", f"package {package.number} is in custody {len(known)} times: {', '.join(known)}")
        for status in self.ledger.statuses.values():
            if len(status.doc_ids) > 1 and status.last_s - status.first_s < self.rules.repeat_s:
                yield Violation(
                    "doubled", f"{status.name} is in custody {len(status.doc_ids)} times: {', '.join(status.doc_ids)}"
                )

    def _known(self, sent: Sent) -> list[str]:
        return [*sent.doc_ids, *self.untold.get(sent.package.number, ())]

    def _excused(self, sent: Sent) -> bool:
        """Whether the same file may be another document by now. # architecture, decision 4; VXP face, repeats"""
        if sent.last_s - sent.first_s >= self.rules.repeat_s:
            return True
        at_door = {to.code for to in sent.package.bad} | {to.written for to in sent.package.bad}
        lines = [line for doc_id in self._known(sent) for line in self._lines(sent, doc_id).values()]
        return any(line["sendStatus"] in ENDED_STATES and line["toCode"] not in at_door for line in lines)

    def _lines(self, sent: Sent, doc_id: str) -> Mapping[str, Answer]:
        return self.ledger.lines.get((sent.package.system, doc_id), {})

    def _changed(self, package: Package) -> bool:
        changed = self.ledger.changed
        return package.sender in changed or any(to.code in changed or to.organ in changed for to in package.to)

    # where it came

    def arrivals(self) -> Iterator[Violation]:
        """What was laid before an office was sent to it, and is the document its sender was told of."""
        for item in self.ledger.items.values():
            about = f"{item.system}: {item.doc_id}"
            sent = self.ledger.sent.get(item.package)
            if sent is None:
                if item.gone and not self._ended_unread(item.doc_id):
                    yield Violation("wrong", f"{about} was listed and cannot be fetched: {item.gone}")
                continue
            package = sent.package
            organs = dict.fromkeys(to.organ for to in self.ledger.organs_of(item))
            strange = [code for code in item.to if code not in {to.code for to in package.good}]
            if strange and not self._changed(package):
                yield Violation(
                    "wrong", f"{about}, package {package.number}, came to {', '.join(strange)}, none of its receivers"
                )
            for organ in organs:
                if self.owner.get(organ) != item.system:
                    yield Violation("wrong", f"{about}, package {package.number} to {organ}, lies before the wrong office")
                if sent.ended and item.doc_id not in own_doc_ids(self._known(sent), organ):
                    told = ", ".join(sent.doc_ids) or f"refused with {sent.refusal}"
                    kind: Kind = "doubled" if sent.doc_ids else "wrong"
                    yield Violation(
                        kind, f"{about}, package {package.number} to {organ}, is not what its sender was told: {told}"
                    )

    def _ended_unread(self, doc_id: str) -> bool:
        """Whether a document ended before its office came to read it."""
        for (_, known), lines in self.ledger.lines.items():
            for line in lines.values():
                sent = self.ledger.sent.get(self.ledger.by_notation.get(str(line["notation"]), 0))
                organs = {to.organ for to in sent.package.good} if sent is not None else set()
                if line["sendStatus"] in ENDED_STATES and any(doc_id in own_doc_ids([known], organ) for organ in organs):
                    return True
        return False

    def effects(self) -> Iterator[Violation]:
        """An office takes each document in once, and each organ has it once."""
        for item in self.ledger.items.values():
            if item.processed > 1:
                yield Violation("doubled", f"{item.system} has processed {item.doc_id} {item.processed} times")
        for (number, organ), items in self.items.items():
            sent = self.ledger.sent[number]
            if len(items) > max(1, len(self._known(sent))):
                yield Violation("doubled", f"package {number} came to {organ} {len(items)} times: {_ids(items)}")

    # how it ended

    def deliveries(self) -> Iterator[Violation]:
        """Every acknowledged delivery ended in exactly one way, and its sender knows which."""
        for sent in self.ledger.sent.values():
            for doc_id in sent.doc_ids:
                for to in sent.package.good:
                    yield from self._delivery(sent, doc_id, to)
                if sent.package.system in self.ledger.read:
                    yield from self._refusals(sent, doc_id)

    def _delivery(self, sent: Sent, doc_id: str, to: To) -> Iterator[Violation]:
        package = sent.package
        name = f"package {package.number} ({doc_id}) to {to.code}"
        own = own_doc_ids([doc_id], to.organ)
        items = [item for item in self.items.get((package.number, to.organ), ()) if item.doc_id in own]
        line = self._lines(sent, doc_id).get(to.code)
        state = str(line["sendStatus"]) if line is not None else ""
        processed = any(item.processed for item in items)
        if line is None and package.system in self.ledger.read:
            yield Violation("wrong", f"{name} has no line in the sent list")
        if state == "collected" and not processed:
            yield Violation("lost", f"{name} is said to be collected, and its office has not got it")
        elif state == "collected" and not any(item.done_tries for item in items):
            yield Violation("wrong", f"{name} is said to be collected, and its office never confirmed it")
        elif state in ENDED_STATES:
            yield from self._ended(name, (doc_id, to.code), to, state, processed)
        elif state != "collected" and not self._held(doc_id, to, own):
            yield from self._unended(name, (doc_id, to.code), state, items)

    def _ended(self, name: str, place: Place, to: To, state: str, processed: bool) -> Iterator[Violation]:
        """An end that is no delivery needs a reason in what the run did, and must be true."""
        changed = to.code in self.ledger.changed or to.organ in self.ledger.changed
        allowed = {"refused": changed, "expired": self.rules.may_expire, "stopped": place in self.ledger.stopped}
        if not allowed[state]:
            yield Violation("wrong", f"{name} is {state} although it could be delivered")
        if processed and not self.rules.in_doubt_ends:
            yield Violation("wrong", f"{name} is said to be {state}, and its office has it")

    def _held(self, doc_id: str, to: To, own: Sequence[str]) -> bool:
        """Whether it waits for a person."""
        if self.counted:
            return (doc_id, to.code) in self.kept.held
        items = [self.ledger.items.get((self.owner.get(to.organ, ""), each)) for each in own]
        return any(item.fail_tries >= self.rules.fails_max for item in items if item is not None)

    def _unended(self, name: str, place: Place, state: str, items: Sequence[Item]) -> Iterator[Violation]:
        if not state and any(item.processed and item.done_tries for item in items):
            return  # as far as is known: its sender has not read the sent list
        if any(item.done for item in items):
            yield Violation("stuck", f"{name} was collected, and its sender is told {state} still")
        elif self.counted and place not in self.kept.present:
            yield Violation("lost", f"{name} was acknowledged, is {state or 'not listed'}, and no node holds it")
        else:
            yield Violation("stuck", f"{name} is {state or 'not listed'} still")

    def _refusals(self, sent: Sent, doc_id: str) -> Iterator[Violation]:
        """What was refused at the door stands so in the sent list, with its reason."""
        lines = self._lines(sent, doc_id)
        for to in sent.package.bad:
            if to.code in self.ledger.changed:
                continue
            line = lines.get(to.code) or lines.get(to.written)
            if line is None:
                yield Violation("wrong", f"package {sent.package.number} ({doc_id}): no line for {to.written} in the sent list")
            elif line["sendStatus"] != "refused" or f"[{to.refusal}]" not in str(line["sendStatusDesc"]):
                said = f"{line['sendStatus']}: {line['sendStatusDesc']}"
                yield Violation(
                    "wrong", f"package {sent.package.number} ({doc_id}) to {to.written} must be refused, it is {said}"
                )

    # what came home

    def returns(self) -> Iterator[Violation]:
        """One 02 of the axis for each receiver that was not delivered to, none for others. # architecture, section 7"""
        for sent in self.ledger.sent.values():
            if sent.package.system not in self.ledger.read or not sent.ended:
                continue
            plain = {to.written: to.code for to in sent.package.to}
            wanted: Counter[str] = Counter()
            for doc_id in self._known(sent):
                for code, line in self._lines(sent, doc_id).items():
                    wanted[plain.get(code, code)] += line["sendStatus"] in ENDED_STATES
            found = Counter(plain.get(whom, whom) for whom in self.returned.get(sent.package.number, ()))
            for code in {**wanted, **found}:
                yield from self._returned(sent, code, wanted[code], found[code])

    def _returned(self, sent: Sent, whom: str, wanted: int, found: int) -> Iterator[Violation]:
        name = f"package {sent.package.number} to {whom}"
        if found < wanted:
            yield Violation("lost", f"{name} was not delivered, and of {wanted} notices to its sender {found} came")
        elif found > wanted and not (self.rules.in_doubt_ends and wanted == 0):
            kind: Kind = "doubled" if wanted else "wrong"
            yield Violation(kind, f"{name}: {found} notices that it was not delivered, where there is {wanted or 'no'} cause")

    def statuses(self) -> Iterator[Violation]:
        """Each status an office handed in comes to the sender of the document, once; nobody else speaks but the axis."""
        for digest, status in self.ledger.statuses.items():
            yield from self._status(status, self.home.get(digest, []))
        for news in self.ledger.news.values():
            if news.processed and not (news.done or news.done_tries):
                yield Violation("stuck", f"{news.system} has read status {news.doc_id} and cannot confirm it")
            if not news.digest or news.digest in self.ledger.statuses:
                continue
            if news.code != "02" or news.organ != self.ledger.axis or news.notation not in self.ledger.by_notation:
                yield Violation(
                    "wrong", f"{news.system}: status {news.code} from {news.organ} on {news.notation}, which nobody sent"
                )
            elif self.ledger.sent[self.ledger.by_notation[news.notation]].package.system != news.system:
                yield Violation("wrong", f"{news.system} is told what became of package {news.notation}, which is not its own")

    def _status(self, status: StatusSent, copies: Sequence[News]) -> Iterator[Violation]:
        sender = self.ledger.sent[status.package].package
        if not status.ended:
            yield Violation("stuck", f"{status.name} got no final answer in {status.tries} calls")
        elif self._changed(sender) or status.organ in self.ledger.changed:
            return  # with whom it must end, nobody outside can tell
        elif status.refusal:
            yield Violation("wrong", f"{status.name} was refused with {status.refusal}")
        elif not copies and not any((doc_id, sender.sender) in self.kept.held for doc_id in status.doc_ids):
            present = any((doc_id, sender.sender) in self.kept.present for doc_id in status.doc_ids) or not self.counted
            yield Violation("stuck" if present else "lost", f"{status.name} ({_first(status)}) never came home")
        if len(copies) > max(1, len(status.doc_ids)):
            yield Violation("doubled", f"{status.name} came home {len(copies)} times")
        for news in copies:
            if news.system != sender.system:
                yield Violation("wrong", f"{status.name} came to {news.system} instead of {sender.system}")
            if news.processed > 1:
                yield Violation("doubled", f"{news.system} has read {status.name} {news.processed} times")

    def status_lines(self) -> Iterator[Violation]:
        """The sender's list shows the furthest word of each receiver that has spoken."""
        last: dict[tuple[int, str], str] = {}
        for digest, status in self.ledger.statuses.items():
            if status.doc_ids and self.home.get(digest):
                key = (status.package, status.organ)
                last[key] = max(last.get(key, ""), status.code, key=lambda code: STATUS_RANK.get(code, 9))
        for (number, organ), code in last.items():
            sent = self.ledger.sent[number]
            if len(self._known(sent)) != 1 or sent.package.system not in self.ledger.read:
                continue
            lines = self._lines(sent, self._known(sent)[0])
            said = [str(lines[to.code]["receiveStatus"]) for to in sent.package.good if to.organ == organ and to.code in lines]
            if said and code not in said:
                yield Violation(
                    "wrong", f"package {number} to {organ} has office status {said[0] or 'none'}, its receiver said {code}"
                )

    def order(self) -> Iterator[Violation]:
        """What corrects a document comes after it. # architecture, decision 9"""
        for sent in self.ledger.sent.values():
            elder = self.ledger.sent.get(sent.package.after)
            if elder is None or not self.rules.ordered or not elder.doc_ids or self._changed(sent.package):
                continue
            for organ in dict.fromkeys(to.organ for to in sent.package.good):
                before = [item.seen for item in self.items.get((elder.package.number, organ), ())]
                after = [item.seen for item in self.items.get((sent.package.number, organ), ())]
                if before and after and min(after) < min(before):
                    name = f"package {sent.package.number}"
                    yield Violation("wrong", f"{name} came to {organ} before package {elder.package.number}, which it corrects")

    def patience(self) -> Iterator[Violation]:
        """No lane is shut out: what is not urgent is overtaken, and comes all the same. # architecture, decision 9"""
        most_s = self.rules.patience_s
        for way in self._ways(Priority.NORMAL) if most_s else ():
            if way.seen_s - way.told_s > most_s:
                yield Violation("stuck", f"{way.name} was on its way for {way.seen_s - way.told_s:.0f} s, more than {most_s:.0f}")

    def haste(self) -> Iterator[Violation]:
        """A hỏa tốc passes all that waits, and the others move beside it. # QĐ 28/2018 Điều 6.2"""
        if not self.rules.express_s:
            return
        most_s, ordinary = self.rules.express_s, list(self._ways(Priority.NORMAL))
        express = sorted(self._ways(Priority.EXPRESS), key=lambda way: way.told_s)
        for way in express:
            alone = sum(abs(other.told_s - way.told_s) < most_s for other in express) == 1
            if alone and way.seen_s - way.told_s > most_s:
                took = f"{way.seen_s - way.told_s:.0f} s, more than {most_s:.0f}"
                yield Violation("stuck", f"{way.name}, a hỏa tốc, was on its way for {took}")
        for together in _overlapping(express):
            began_s, ended_s = together[0].told_s, max(way.seen_s for way in together)
            waiting = any(way.told_s <= began_s and way.seen_s > ended_s for way in ordinary)
            came = sum(way.size for way in ordinary if began_s < way.seen_s <= ended_s)
            if len(together) > 1 and waiting and came < self.rules.share_bytes_per_s * (ended_s - began_s):
                had = f"{came} bytes in {ended_s - began_s:.0f} s"
                yield Violation("stuck", f"ordinary documents had {had} while {len(together)} hỏa tốc were on their way")

    def _ways(self, priority: Priority) -> Iterator[_Way]:
        """Documents that have come, each with its way to each organ."""
        for sent in self.ledger.sent.values():
            if sent.package.priority is not priority:
                continue
            for doc_id, told_s in sent.doc_ids.items():
                for organ in dict.fromkeys(to.organ for to in sent.package.good):
                    own = own_doc_ids([doc_id], organ)
                    seen = [item.seen_s for item in self.items.get((sent.package.number, organ), ()) if item.doc_id in own]
                    if seen:
                        name = f"package {sent.package.number} ({doc_id}) to {organ}"
                        yield _Way(name, sent.package.size, told_s, min(seen))


@dataclass(frozen=True, slots=True)
class _Way:
    """One document's way to one organ: when its sender was answered, when its receiver saw it."""

    name: str
    size: int
    told_s: float
    seen_s: float


def _overlapping(ways: Iterable[_Way]) -> list[list[_Way]]:
    """Those that were on their way at the same time, group by group. ways: in the order of their beginning."""
    groups: list[list[_Way]] = []
    until_s = -1.0
    for way in ways:
        if way.told_s > until_s:
            groups.append([])
        groups[-1].append(way)
        until_s = max(until_s, way.seen_s)
    return groups


def _untold(ledger: Ledger) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for (system, doc_id), lines in ledger.lines.items():
        for line in list(lines.values())[:1]:
            number = ledger.by_notation.get(str(line["notation"]), 0)
            sent = ledger.sent.get(number)
            if sent is None or sent.package.system != system:
                ledger.bad(f"{system}: {doc_id} in its sent list is none of its packages ({line['notation']})")
            elif doc_id not in sent.doc_ids:
                found.setdefault(number, []).append(doc_id)
    return found


def _whom(description: str) -> str:
    """The receiver that a 02 of the axis speaks of: "[Trục] Bên nhận NAME (CODE): …" or "[Trục] Bên nhận CODE: …"."""
    begin = "[Trục] Bên nhận "
    if not description.startswith(begin):
        return ""
    whom = description[len(begin) :].split(": ", 1)[0]
    return whom[whom.rindex("(") + 1 : -1] if whom.endswith(")") else whom


def _ids(items: Iterable[Item]) -> str:
    return ", ".join(f"{item.system}/{item.doc_id}" for item in items)


def _first(status: StatusSent) -> str:
    return next(iter(status.doc_ids), "-")

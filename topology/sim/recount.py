"""The figures of every tier against an independent count of what the offices saw: difference 0, day by day.

Counts from the sent lists that offices have read, from their packages and answers, and from nothing a node counts by. Knows the
ledger, the plan and reports; nothing of how a node comes to its figures. # QĐ 28/2018 Điều 11
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta

from node.core.identifier import HUB, OrgId
from node.core.package import Business, Priority
from node.core.report import Report
from node.core.statement import Kept
from topology.sim.ledger import ENDED_STATES, Ledger, Sent, Violation
from topology.sim.traffic import DUE

Key = tuple[date, OrgId, str]
COUNTED = ("sent", "sent_recall", "sent_update", "sent_replace", "sent_deliveries")
RECEIVED = ("received", "received_recall", "received_update", "received_replace")
ANSWERED = ("acknowledged_same_day", "acknowledged_later")
LIMIT = f"{DUE} 12:00:00"
"""Packages are dated on a Sunday: until Monday noon they are sent in time, urgent ones until its small hours, when nobody sends.
# QĐ 28/2018 Điều 6.2"""
SAID = (
    *("sent_on_time", "sent_late", "sent_indeterminate", "sent_unsigned", "sent_with_paper", "sent_electronic_only"),
    *("sent_flawless", "sent_flaw.subject-missing", "statuses_overdue"),
    *(f"{key}.{number}" for key in ("sent_priority", "sent_late_priority") for number in (1, 2, 3, 4)),
)
"""What follows from what new documents say of themselves."""
OVERDUE = date.fromisoformat(DUE.replace("/", "-")) + timedelta(days=1)


def seen(ledger: Ledger) -> Counter[Key]:
    """What the offices saw, by day in Vietnam, organ and key: each docId of a sent list is a document, each of its receivers that
    collected it a receipt. A receiver named by two codes of one office is one receiver of one document."""
    found: Counter[Key] = Counter()
    for (_, _), lines in ledger.lines.items():
        first = next(iter(lines.values()))
        number = ledger.by_notation.get(str(first["notation"]), 0)
        sent = ledger.sent.get(number)
        if sent is None:
            continue  # a status, or named by another judge
        package = sent.package
        good = {to.code: to.organ for to in package.good}
        sender = OrgId.parse(package.sender)
        day = _day(first, "sentTime")
        found[day, sender, _key("sent", package.business)] += 1
        if ledger.changed.keys().isdisjoint(good):  # else the sent list does not say who was refused at the door
            found[day, sender, "sent_deliveries"] += len(good)
        receipts: dict[str, date] = {}
        for code, line in lines.items():
            if code in good and line["sendStatus"] == "collected":
                received = _day(line, "receivedTime")
                receipts[good[code]] = min(received, receipts.get(good[code], received))
        for organ, received in receipts.items():
            found[received, OrgId.parse(organ), _key("received", package.business)] += 1
    return found


def said(ledger: Ledger) -> tuple[Counter[Key], frozenset[Key]]:
    """What follows from what each new document says of itself; and what no office can tell: what was sent in the second of the
    limit, and of what ended, whether before its time limit for processing or after."""
    found: Counter[Key] = Counter()
    doubtful: set[Key] = set()
    for lines in ledger.lines.values():
        first = next(iter(lines.values()))
        sent = ledger.sent.get(ledger.by_notation.get(str(first["notation"]), 0))
        if sent is None or sent.package.business is not Business.NEW:
            continue
        day, organ, time = _day(first, "sentTime"), OrgId.parse(sent.package.sender), str(first["sentTime"])
        found.update((day, organ, key) for key in _said(sent, time > LIMIT))
        if time == LIMIT:
            doubtful |= {(day, organ, "sent_on_time"), (day, organ, "sent_late")}
        if sent.package.due_date and day < OVERDUE:
            states = [str(line["sendStatus"]) for code, line in lines.items() if code in {to.code for to in sent.package.good}]
            found[OVERDUE, organ, "statuses_overdue"] += len(states)
            if not ENDED_STATES.isdisjoint(states):
                doubtful.add((OVERDUE, organ, "statuses_overdue"))
    return found, frozenset(doubtful)


def _said(sent: Sent, afternoon: bool) -> Iterator[str]:
    package = sent.package
    late = afternoon or package.priority is not Priority.NORMAL
    yield "sent_late" if late else "sent_on_time"
    if package.priority is not Priority.NORMAL:
        yield from (f"sent_priority.{int(package.priority)}", f"sent_late_priority.{int(package.priority)}")
    yield "sent_unsigned" if package.scanned else "sent_indeterminate"
    if package.paper:
        yield "sent_with_paper" if package.paper == "1" else "sent_electronic_only"
    yield "sent_flawless" if package.subject else "sent_flaw.subject-missing"


def answered(ledger: Ledger) -> tuple[Counter[OrgId], frozenset[OrgId]]:
    """How many new documents each organ has collected and answered by their id; and organs of which that cannot be said."""
    found: dict[tuple[OrgId, str], None] = {}
    doubtful: dict[OrgId, None] = {}
    for status in ledger.statuses.values():
        sent, item, organ = ledger.sent[status.package], ledger.items.get((status.system, status.item)), OrgId.parse(status.organ)
        if not status.about or sent.package.business is not Business.NEW or not status.tries:
            continue
        if not status.ended or item is None or not item.done or len(sent.doc_ids) > 1:
            doubtful[organ] = None
        elif status.doc_ids:
            found[organ, status.item] = None
    return Counter(organ for organ, _ in found), frozenset(doubtful)


def _key(word: str, business: Business) -> str:
    return word if business is Business.NEW else f"{word}_{business.name.lower()}"


def _day(line: Mapping[str, object], name: str) -> date:
    """As it stands in the list an office read."""
    return date.fromisoformat(str(line[name])[:10].replace("/", "-"))


def judge(ledger: Ledger, reports: Mapping[OrgId, Mapping[date, Report]]) -> Iterator[Violation]:
    """Every difference between what a tier reports of a day and what the offices saw. reports: by node and day."""
    if any(sent.package.system not in ledger.read for sent in ledger.sent.values()):
        return  # what was sent is not known
    truth = seen(ledger)
    more, doubtful = said(ledger)
    truth.update(more)
    keys = (*COUNTED, *RECEIVED, *SAID) if not ledger.changed else (*COUNTED[:-1], *RECEIVED)
    for node, days in reports.items():
        where = str(node) or "hub"
        for day, report in days.items():
            for organ, counts in report.organs.items():
                for key in (
                    () if node != HUB and str(organ) in ledger.changed else keys
                ):  # one that moved is split between two parents
                    if (day, organ, key) in doubtful or (key == "statuses_overdue" and max(days) <= OVERDUE):
                        continue
                    if counts.get(key, 0) != truth[day, organ, key]:
                        told = f"{where} reports {counts.get(key, 0)} {key} of {organ} on {day}, the offices saw"
                        yield Violation("wrong", f"{told} {truth[day, organ, key]}")
            if report.proof.unequal:
                yield Violation("wrong", f"{where}: claims on {day} do not add up: {', '.join(map(str, report.proof.unequal))}")
            refused = [each for each in report.refusals if each.reason != Kept.OLDER]  # this network repeats what it carried
            if refused:
                yield Violation("wrong", f"{where}: statements refused on {day}: {refused[0]}")
            missing = (*report.coverage.missing, *(report.coverage.late if day < max(days) else ()))
            if missing:
                yield Violation("wrong", f"{where}: figures of {day} are missing or late: {', '.join(map(str, missing))}")
        yield from _unanswered(ledger, where, days.values()) if not ledger.changed else ()
        flows = [each for report in days.values() for each in report.proof.flows if each.difference]
        if flows:
            yield Violation("wrong", f"{where}: {flows[0].pair} does not add up: {dict(flows[0].counts)}")


def _unanswered(ledger: Ledger, where: str, reports: Iterable[Report]) -> Iterator[Violation]:
    """Documents that offices have answered and that are in no figure, or the other way round. Of which day, only nodes know."""
    truth, doubtful = answered(ledger)
    told: Counter[OrgId] = Counter()
    for report in reports:
        for organ, counts in report.organs.items():
            told[organ] += sum(counts.get(key, 0) for key in ANSWERED)
    for organ, number in told.items():
        if organ not in doubtful and number != truth[organ]:
            yield Violation(
                "wrong", f"{where} reports {number} documents that {organ} has answered, the offices know of {truth[organ]}"
            )

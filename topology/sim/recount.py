"""The figures of every tier against an independent count of what the offices saw: difference 0, day by day.

Counts from the sent lists that offices have read and from nothing a node counts by. Knows the ledger, the plan and reports;
nothing of how a node comes to its figures. # QĐ 28/2018 Điều 11
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date

from node.core.identifier import HUB, OrgId
from node.core.package import Business
from node.core.report import Report
from node.core.statement import Kept
from topology.sim.ledger import Ledger, Violation

Key = tuple[date, OrgId, str]
COUNTED = ("sent", "sent_recall", "sent_update", "sent_replace", "sent_deliveries")
RECEIVED = ("received", "received_recall", "received_update", "received_replace")


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
    keys = (*COUNTED, *RECEIVED) if not ledger.changed else (*COUNTED[:-1], *RECEIVED)
    for node, days in reports.items():
        where = str(node) or "hub"
        for day, report in days.items():
            for organ, counts in report.organs.items():
                for key in (
                    () if node != HUB and str(organ) in ledger.changed else keys
                ):  # one that moved is split between two parents
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
        if node != HUB and ledger.changed:
            continue  # what a branch that moved here had counted before is its former parent's
        flows = [each for report in days.values() for each in report.proof.flows if each.difference]
        if flows:
            yield Violation("wrong", f"{where}: {flows[0].pair} does not add up: {dict(flows[0].counts)}")

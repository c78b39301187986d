"""The independent count: from what offices read in their sent lists, by the day that stands there."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from node.core.identifier import HUB, OrgId
from node.core.package import Business, Priority
from node.core.report import Report
from node.core.statement import Branch, Coverage, Flow, Kept, Pair, Proof, Refusal, Version
from topology.sim import recount
from topology.sim.ledger import Item, Ledger, StatusSent
from topology.sim.traffic import Package, To

DAY, NEXT = date(2026, 11, 22), date(2026, 11, 23)
A, B, C = (OrgId.canonical(code) for code in ("H41", "H54", "H54.02"))
TO = (To("H54", "H54", "H54"), To("H54.02.09", "H54.02.09", "H54.02"), To("H54.02", "H54.02", "H54.02"), To("X", "X", "", "x"))


@pytest.fixture
def ledger() -> Ledger:
    packages = [
        Package(1, "ubnd", "H41", TO, 1000, 0.0, "d-1"),
        Package(2, "ubnd", "H41", TO[:1], 1000, 0.0, "d-2", business=Business.RECALL),
        Package(3, "ubnd", "H41", TO[:1], 1000, 0.0, "d-3"),
    ]
    found = Ledger(packages, "TRUC")

    def line(doc: str, number: int, code: str, state: str, received: str) -> dict[str, str]:
        return {
            **{"senderDocId": doc, "toCode": code, "notation": f"{number}/CV-DT", "sendStatus": state, "receiveStatus": ""},
            **{"sentTime": "2026/11/22 23:59:59", "receivedTime": received},
        }

    late, early = "2026/11/23 00:00:00", "2026/11/22 23:59:59"
    lines = [line("a", 1, "H54", "collected", late), line("a", 1, "X", "refused", "")]
    lines += [line("a", 1, "H54.02.09", "collected", late), line("a", 1, "H54.02", "collected", early)]
    found.sent_lines("ubnd", [*lines, line("b", 2, "H54", "collected", late), line("c", 3, "H54", "expired", "")])
    found.read["ubnd"] = None
    return found


SAID = {"sent_on_time": 2, "sent_indeterminate": 2, "sent_electronic_only": 1, "sent_flawless": 2}
TRUTH = {
    DAY: {A: {"sent": 2, "sent_recall": 1, "sent_deliveries": 5, **SAID}, B: {}, C: {"received": 1}},
    NEXT: {A: {}, B: {"received": 1, "received_recall": 1}, C: {}},
}


def reports(**changes: object) -> dict[OrgId, dict[date, Report]]:
    plain = Report(DAY, DAY, 0, False, {}, {}, {}, {}, Coverage((HUB,)), Proof(), ())
    return {HUB: {day: replace(plain, organs=organs, **changes) for day, organs in TRUTH.items()}}  # type: ignore[arg-type]


def test_a_document_is_sent_once_and_received_once_by_each_office_on_the_day_that_stands_in_the_list(ledger: Ledger) -> None:
    found = recount.seen(ledger) + recount.said(ledger)[0]
    assert {key: number for key, number in found.items() if number} == {
        (day, organ, key): number
        for day, organs in TRUTH.items()
        for organ, counts in organs.items()
        for key, number in counts.items()
    }
    assert list(recount.judge(ledger, reports())) == []


def test_what_a_document_says_of_itself_is_counted_with_it(ledger: Ledger) -> None:
    """QĐ 28/2018 Điều 6.2, 10.2: number 35 is scanned and without a subject, express and so late; number 4 has a time limit."""
    scanned = Package(35, "ubnd", "H41", TO[:1], 1000, 0.0, "d-35", priority=Priority.EXPRESS)
    limited = Package(4, "ubnd", "H41", TO[:2], 1000, 0.0, "d-4")
    found = Ledger([scanned, limited], "TRUC")
    line = {"senderDocId": "e", "toCode": "H54", "notation": "35/CV-DT", "sendStatus": "collected", "receiveStatus": ""}
    times = {"sentTime": "2026/11/23 08:00:00", "receivedTime": "2026/11/23 08:00:01"}
    noon = {**line, "senderDocId": "f", "notation": "4/CV-DT", **times, "sentTime": "2026/11/23 12:00:00"}
    found.sent_lines("ubnd", [{**line, **times}, noon, {**noon, "toCode": "H54.02.09", "sendStatus": "refused"}])
    counts, doubtful = recount.said(found)
    assert {key for _, _, key in counts} == {
        *(
            "sent_late",
            "sent_late_priority.3",
            "sent_priority.3",
            "sent_unsigned",
            "sent_with_paper",
            "sent_flaw.subject-missing",
        ),
        *("sent_on_time", "sent_indeterminate", "sent_electronic_only", "sent_flawless", "statuses_overdue"),
    }
    assert counts[recount.OVERDUE, A, "statuses_overdue"] == 2
    assert doubtful == {(NEXT, A, "sent_on_time"), (NEXT, A, "sent_late"), (recount.OVERDUE, A, "statuses_overdue")}


def test_documents_that_offices_have_answered_are_compared_over_all_days(ledger: Ledger) -> None:
    """NĐ 30/2020 Điều 21.2.c. By notation alone nobody can find what was received; a recall is no new document."""
    for item, number, about in (("a", 1, "a"), ("a2", 1, "d-1"), ("n", 1, ""), ("b", 2, "b")):
        ledger.items["tb", item] = Item("tb", item, 0, done=True)
        for code in ("01", "03"):
            said = StatusSent("tb", "H54", code, number, b"", f"{item}{code}", about, item, tries=1, ended=True)
            said.doc_ids[f"s{item}{code}"] = 0.0
            ledger.statuses[said.digest] = said
    assert recount.answered(ledger) == ({B: 2}, frozenset())
    told = reports()
    told[HUB][DAY] = replace(told[HUB][DAY], organs={**TRUTH[DAY], B: {"acknowledged_same_day": 1}})
    told[HUB][NEXT] = replace(told[HUB][NEXT], organs={**TRUTH[NEXT], B: {**TRUTH[NEXT][B], "acknowledged_later": 1}})
    assert list(recount.judge(ledger, told)) == []
    told[HUB][NEXT] = replace(told[HUB][NEXT], organs=TRUTH[NEXT])
    (violation,) = recount.judge(ledger, told)
    assert violation.text == "hub reports 1 documents that H54 has answered, the offices know of 2"
    ledger.items["tb", "a2"].done = False
    assert recount.answered(ledger)[1] == {B}


def test_every_difference_is_named(ledger: Ledger) -> None:
    told = reports()
    told[HUB][NEXT] = replace(told[HUB][NEXT], organs={**TRUTH[NEXT], C: {"received": 1}})
    (violation,) = recount.judge(ledger, told)
    assert violation.text == "hub reports 1 received of H54.02 on 2026-11-23, the offices saw 0"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"proof": Proof((Branch(A, {"sent": 1}, {}),))}, "do not add up: H41"),
        ({"proof": Proof((), (Flow(Pair(A, B), {"sent": 1}),))}, "H41>H54 does not add up"),
        ({"coverage": Coverage((), (), (A,))}, "missing or late: H41"),
        ({"refusals": (Refusal(A, DAY, Version(1, 1), Kept.ALTERED),)}, "statement-altered"),
    ],
)
def test_a_claim_a_pair_a_missing_day_and_a_refused_statement_are_named(
    ledger: Ledger, changes: dict[str, object], text: str
) -> None:
    assert any(text in each.text for each in recount.judge(ledger, reports(**changes)))


def test_a_statement_that_the_network_repeated_is_no_wrong_and_a_unit_that_moved_is_judged_at_the_hub(ledger: Ledger) -> None:
    assert list(recount.judge(ledger, reports(refusals=(Refusal(A, DAY, Version(1, 1), Kept.OLDER),)))) == []
    told = reports()
    ledger.changed["H54.02"] = None
    told[B] = {DAY: replace(told[HUB][DAY], organs={C: {}})}
    assert list(recount.judge(ledger, told)) == []
    told[HUB][DAY] = replace(told[HUB][DAY], organs={C: {}})
    assert len(list(recount.judge(ledger, told))) == 1

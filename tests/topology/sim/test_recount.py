"""The independent count: from what offices read in their sent lists, by the day that stands there."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from node.core.identifier import HUB, OrgId
from node.core.package import Business
from node.core.report import Report
from node.core.statement import Branch, Coverage, Flow, Kept, Pair, Proof, Refusal, Version
from topology.sim import recount
from topology.sim.ledger import Ledger
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


TRUTH = {
    DAY: {A: {"sent": 2, "sent_recall": 1, "sent_deliveries": 5}, B: {}, C: {"received": 1}},
    NEXT: {A: {}, B: {"received": 1, "received_recall": 1}, C: {}},
}


def reports(**changes: object) -> dict[OrgId, dict[date, Report]]:
    plain = Report(DAY, DAY, 0, False, {}, {}, {}, {}, {}, Coverage((HUB,)), Proof(), ())
    return {HUB: {day: replace(plain, organs=organs, **changes) for day, organs in TRUTH.items()}}  # type: ignore[arg-type]


def test_a_document_is_sent_once_and_received_once_by_each_office_on_the_day_that_stands_in_the_list(ledger: Ledger) -> None:
    found = recount.seen(ledger)
    assert {key: number for key, number in found.items() if number} == {
        (day, organ, key): number
        for day, organs in TRUTH.items()
        for organ, counts in organs.items()
        for key, number in counts.items()
    }
    assert list(recount.judge(ledger, reports())) == []


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

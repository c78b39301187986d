"""The outside ledger: what it knows to be wrong the moment it happens, and what it remembers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.topology.sim.desk import ADDRESSES, TREE
from topology.sim.ledger import Ledger, Violation, is_later, own_doc_ids, reason_of
from topology.sim.traffic import Traffic, plan

PACKAGES = plan(TREE, Traffic(documents=10, p_broken=0, p_only_bad=0, p_bad=0), 1, ADDRESSES)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(PACKAGES, "TRUC")


def ok(doc_id: str, text: str = "") -> dict[str, Any]:
    return {"status": "OK", "ErrorCode": "0", "ErrorDesc": text, "DocId": doc_id, "data": []}


def fail(reason: str) -> dict[str, Any]:
    return {"status": "FAIL", "ErrorCode": "10", "ErrorDesc": f"Không được. [{reason}]", "DocId": "", "data": []}


def line(state: str, status: str = "") -> dict[str, Any]:
    return {"senderDocId": "d1", "toCode": "H41", "notation": "1/CV-DT", "sendStatus": state, "receiveStatus": status}


def test_an_answer_is_kept_with_its_first_text_and_every_doc_id(ledger: Ledger) -> None:
    sent = ledger.sent[1]
    ledger.answered(sent, ok("d1", "H22: [recipient-closed]"), 5.0)
    ledger.answered(sent, ok("d1", "Gói tin này đã được gửi trước đó"), 9.0)
    assert sent.ended
    assert sent.doc_ids == {"d1": 5.0}
    assert sent.text == "H22: [recipient-closed]"
    assert ledger.counts["path/repeated at the door"] == 1
    ledger.answered(sent, ok("d2"), 11.0)
    assert list(sent.doc_ids) == ["d1", "d2"]
    assert not ledger.wrong


def test_a_refusal_is_kept_by_its_code(ledger: Ledger) -> None:
    ledger.answered(ledger.sent[1], fail("recipient-closed"), 5.0)
    assert (ledger.sent[1].refusal, ledger.sent[1].ended) == ("recipient-closed", True)


def test_success_without_a_doc_id_is_wrong(ledger: Ledger) -> None:
    ledger.answered(ledger.sent[1], ok(""), 5.0)
    assert ledger.wrong == [Violation("wrong", "package 1 was taken without a DocId")]


def test_not_now_is_no_final_answer_and_anything_else_is() -> None:
    assert [is_later(fail(reason)) for reason in ("not-now", "disk-full", "internal", "recipient-closed")] == [True] * 3 + [False]
    assert not is_later(ok("d1", "đã nhận [not-now]"))
    assert reason_of("không có mã") == "không có mã"


def test_a_call_that_never_left_is_no_try(ledger: Ledger) -> None:
    sent = ledger.sent[1]
    ledger.tried(sent, 3.0)
    ledger.untried(sent)
    ledger.tried(sent, 8.0)
    assert (sent.tries, sent.first_s, sent.last_s) == (1, 8.0, 8.0)


def test_what_was_confirmed_may_not_be_offered_again_but_what_was_not_may(ledger: Ledger) -> None:
    item = ledger.offered("vpcp", {"docId": "d1", "to": "G22"})
    assert ledger.offered("vpcp", {"docId": "d1", "to": "G22"}) is item
    ledger.confirmed(item)
    assert ledger.offered("vpcp", {"docId": "d1", "to": "G22.05"}) is item, "another addressed code may come later"
    assert not ledger.wrong
    ledger.offered("vpcp", {"docId": "d1", "to": "G22;G22.05"})
    assert "was confirmed for G22 and is offered again" in ledger.wrong[0].text


def test_a_confirmed_status_may_not_be_offered_again(ledger: Ledger) -> None:
    ledger.told("vpcp", "s1").done = True
    ledger.told("vpcp", "s1")
    assert "status s1 was confirmed and is offered again" in ledger.wrong[0].text


def test_bytes_that_nobody_sent_are_wrong_and_so_are_other_bytes_the_second_time(ledger: Ledger) -> None:
    ledger.by_digest["aa"] = 1
    item = ledger.offered("vpcp", {"docId": "d1", "to": "G22"})
    assert ledger.taken_in(item, "aa") == PACKAGES[0]
    assert not ledger.wrong
    assert ledger.taken_in(item, "bb") is None
    assert [each.text for each in ledger.wrong] == [
        "vpcp: d1 had other bytes the first time",
        "vpcp: d1 has bytes that nobody sent",
    ]


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        (("queued",), ("in-mailbox",), True),
        (("moving",), ("queued",), True),
        (("expired",), ("collected",), True),
        (("collected",), ("collected", "01"), True),
        (("collected", "01"), ("collected", "06"), True),
        (("collected",), ("moving",), False),
        (("stopped",), ("collected",), False),
        (("refused",), ("queued",), False),
        (("collected", "03"), ("collected", "01"), False),
        (("collected", "03"), ("collected",), False),
        (("collected", "02"), ("collected", "03"), False),
    ],
)
def test_no_state_and_no_status_goes_backwards(ledger: Ledger, before: Any, after: Any, allowed: bool) -> None:
    ledger.sent_lines("vpcp", [line(*before)])
    ledger.sent_lines("vpcp", [line(*after)])
    assert (not ledger.wrong) == allowed
    assert ledger.lines["vpcp", "d1"]["H41"] == line(*after)


def test_an_item_speaks_of_the_receivers_it_is_listed_for(ledger: Ledger) -> None:
    package = PACKAGES[0]
    ledger.by_digest["aa"] = 1
    item = ledger.offered("x", {"docId": "d1", "to": package.to[0].code})
    assert ledger.organs_of(item) == []
    ledger.taken_in(item, "aa")
    assert ledger.organs_of(item) == [package.to[0]]


def test_a_package_has_its_own_doc_id_and_a_derived_one_for_each_organ() -> None:
    first, second = own_doc_ids(["d1"], "G17"), own_doc_ids(["d1"], "G11")
    assert first[0] == second[0] == "d1"
    assert first[1] != second[1]

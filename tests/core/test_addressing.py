"""Whom a package is from and for is judged by values alone: the directory, the table, the day."""

from __future__ import annotations

from datetime import date

import pytest

from node.core.addressing import View, address, doc_ids, owners_of, report_of, sender_of, status_targets
from node.core.directory import Connection, Directory, Entry
from node.core.envelope import Recipient, derived_doc_id
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.office import System
from node.core.package import Business, Package, Party, Priority, Reference
from node.core.routing import Table

H41, UNIT, SISTER, H54 = OrgId(("H41",)), OrgId(("H41", "01")), OrgId(("H41", "02")), OrgId(("H54",))
TODAY = date(2026, 11, 23)
DIRECTORY = Directory(
    entries=tuple(Entry(code, str(code), connection=Connection.OFFICIAL) for code in (H41, UNIT, SISTER, H54)),
    nodes=(),
    axis_name="Trục",
    axis_code_text="TRUC",
    version=1,
)
TABLE = Table(H41, (H41,), frozenset({H41, UNIT, SISTER}), (), OrgId(()))
SYSTEM = System("mot", (UNIT,), ("",))
VIEW = View(DIRECTORY, TABLE, TODAY, owners_of([SYSTEM, System("hai", (SISTER, H41), ("",))]))


def why(call: object) -> Reason:
    with pytest.raises(Refused) as caught:
        call()  # type: ignore[operator]
    return caught.value.reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [("H41.02", Reason.SENDER_NOT_ALLOWED), ("H54", Reason.SENDER_NOT_ALLOWED)],
)
def test_a_system_speaks_for_its_own_codes_only(code: str, reason: Reason) -> None:
    """# QĐ 28/2018 Điều 6.1"""
    assert sender_of(VIEW, SYSTEM, Party("000.00.01.H41")) == UNIT
    assert why(lambda: sender_of(VIEW, SYSTEM, Party(code))) is reason


def test_of_the_codes_of_a_system_those_count_that_are_this_nodes_and_stand_today() -> None:
    wide = System("rong", (H54, OrgId(("H41", "99"))), ("",))
    assert why(lambda: sender_of(VIEW, wide, Party("H54"))) is Reason.SENDER_OUTSIDE
    assert why(lambda: sender_of(VIEW, wide, Party("H41.99"))) is Reason.SENDER_UNKNOWN


def test_a_bad_receiver_is_named_and_does_not_stop_the_others() -> None:
    """# QĐ 28/2018 Điều 7.1"""
    found = address(VIEW, [("H54", "H54"), ("H41.02", "000.00.02.H41"), ("không", "không")], SYSTEM)
    assert found.routes == {H54: OrgId(()), SISTER: None}
    assert [recipient.written for recipient in found.recipients] == ["H54", "000.00.02.H41"]
    assert [problem.written for problem in found.problems] == ["không"]
    assert [refusal.recipient for refusal in found.refused] == ["?không"]


def test_with_none_left_or_all_or_nothing_asked_for_all_stops() -> None:
    strict = System("chat", (UNIT,), ("",), all_or_nothing=True)
    assert why(lambda: address(VIEW, [("H54", "H54"), ("không", "không")], strict)) is Reason.ALL_OR_NOTHING
    assert why(lambda: address(VIEW, [("không", "không"), ("gì", "gì")], SYSTEM)) is Reason.NO_RECIPIENT
    assert why(lambda: address(VIEW, [("không", "không")], SYSTEM)) is Reason.CODE_BAD_CHARACTER


def test_the_second_organ_of_one_system_has_a_doc_id_of_its_own() -> None:
    found = doc_ids(VIEW.owners, "d", [Recipient(SISTER), Recipient(H41), Recipient(UNIT), Recipient(H54)])
    assert found == {SISTER: "d", H41: derived_doc_id("d", "H41"), UNIT: "d", H54: "d"}


def status(code: str, organ: str, second: str = "") -> Package:
    said = dict.fromkeys(("document_id", "number", "notation", "date", "subject", "type_name", "business_document_id"), "")
    said |= dict.fromkeys(("reason", "due_date", "paper", "description"), "")
    said |= {"status": code, "timestamp": "2026/11/22 10:00:00"}
    return Package(
        sender=Party("H41.01"),
        recipients=(),
        priority=Priority.NORMAL,
        business=Business.NEW,
        response_for=(Reference(organ, second, "2026/11/22", "mã"),),
        attachments=(),
        missing=(),
        oddities=(),
        **said,
    )


def test_a_status_goes_to_whom_the_node_knows_for_its_document_else_to_whom_it_names() -> None:
    assert status_targets(DIRECTORY, status("03", "H54"), UNIT, [SISTER]) == [("H41.02", "H54")]
    assert status_targets(DIRECTORY, status("03", "H54"), UNIT, []) == [("H54", "H54")]
    assert status_targets(DIRECTORY, status("03", "12/CV", "H54"), UNIT, []) == [("H54", "H54")]
    assert why(lambda: status_targets(DIRECTORY, status("03", ""), UNIT, [])) is Reason.STATUS_TARGET_UNKNOWN
    assert why(lambda: status_targets(DIRECTORY, status("13", "H41.01"), UNIT, [])) is Reason.STATUS_TARGET_UNKNOWN


def test_what_a_status_says_is_read_where_its_addressee_is_served() -> None:
    assert report_of(status("03", "H54"), UNIT, []) is None
    found = report_of(status("03", "H54"), UNIT, [SISTER, H41])
    assert found is not None
    assert (found.reporter, found.organ, found.code, found.document_id, found.date) == (UNIT, SISTER, "03", "mã", "2026/11/22")

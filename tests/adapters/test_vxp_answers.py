"""Answers in the SDK's words."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.adapters.http import vxp_answers as answers
from node.core.directory import Connection, Contact, Entry
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.office import Waiting

TODAY = date(2026, 11, 22)


def entry(code: str, **fields: Any) -> Entry:
    return Entry(OrgId.canonical(code), fields.pop("name", f"Cơ quan {code}"), **({"connection": Connection.OFFICIAL} | fields))


@given(st.text())
def test_any_text_is_written_in_ascii_and_read_back(text: str) -> None:
    body = answers.encode(answers.succeed([], text=text))
    assert body.isascii() and json.loads(body)["ErrorDesc"] == text


@pytest.mark.parametrize("reason", list(Reason))
def test_no_failure_looks_like_success(reason: Reason) -> None:
    answer = answers.fail(Refused(reason, "element", "value", "rule"), ())
    assert answer["status"] == "FAIL" and answer["ErrorCode"].isdigit() and answer["ErrorCode"] != "0"
    assert answer["ErrorDesc"].endswith(f"[{reason}]") and answer["DocId"] == ""


def test_an_instant_that_has_not_come_is_empty() -> None:
    line = answers.received_line(Waiting("d", "edoc", "edoc", "a", "b", "fail", 0, 0, 0))
    assert (line["created_time"], line["updated_time"], line["status"]) == ("", "", "fail")
    assert line["status_desc"] == "lấy về bị lỗi"


def test_closed_and_future_organs_are_no_agencies() -> None:
    entries = [
        entry("H41"),
        entry("H14", valid_to=date(2025, 6, 30)),
        entry("H17", connection=Connection.CLOSED),
        entry("H18", valid_from=date(2027, 1, 1)),
        entry("H19", connection=Connection.NONE),
        entry(""),
    ]
    assert [item["code"] for item in answers.agencies(entries, TODAY)] == ["H41", "H19"]
    assert [item["code"] for item in answers.agencies_by_level(entries, TODAY, 1)] == ["H41", "H19"]
    deleted = {item["code"]: item["deleted"] for item in answers.units(entries, TODAY)}
    assert deleted == {"H41": False, "H14": True, "H17": True, "H19": False}


def test_a_parent_is_the_nearest_superior_that_is_listed() -> None:
    entries = [entry("H41"), entry("H41.7.1"), entry("H41.8"), entry("H41.8.2"), entry("0123456789-001")]
    parents = {item["id"]: item["pid"] for item in answers.agencies(entries, TODAY)}
    assert parents == {"H41": "", "H41.7.1": "H41", "H41.8": "H41", "H41.8.2": "H41.8", "0123456789-001": ""}


def test_a_renamed_organ_is_one_unit_under_its_present_name() -> None:
    entries = [
        entry("H41", name="Tên mới", valid_from=date(2025, 7, 1)),
        entry("H41", name="Tên cũ", valid_from=date(2020, 1, 1), valid_to=date(2025, 6, 30)),
        entry("H41", name="Tên sau này", valid_from=date(2030, 1, 1)),
    ]
    (unit,) = answers.units(entries, TODAY)
    assert unit == {
        "id": "H41",
        "pid": "",
        "code": "H41",
        "name": "Tên mới",
        "mail": "",
        "centerCode": "H41",
        "modifyDate": "2025/07/01 00:00:00",
        "version": 29_188_380,
        "deleted": False,
        "isAgency": True,
    }


def test_a_unit_gets_a_higher_version_when_it_closes() -> None:
    closing = entry("H41.07", valid_from=date(2020, 1, 1), valid_to=date(2026, 11, 22), old_code="000.00.07.H41")
    (before,), (after,) = answers.units([closing], TODAY), answers.units([closing], date(2026, 11, 23))
    assert (before["deleted"], after["deleted"]) == (False, True)
    assert before["version"] < after["version"] and after["modifyDate"] == "2026/11/23 00:00:00"


def test_what_is_signed_of_a_unit_raises_its_version_at_once() -> None:
    unit = entry("H41", valid_from=date(2025, 7, 1), contact=Contact(mail="a@b.vn"))
    (before,), (after,) = answers.units([unit], TODAY), answers.units([unit], TODAY, {unit.code: 1_795_316_400_123})
    assert after["version"] > before["version"] > 20_250_701
    assert (after["modifyDate"], after["mail"]) == ("2026/11/22 10:00:00", "a@b.vn")


def test_a_unit_of_unknown_age_has_a_version_too() -> None:
    (unit,) = answers.units([entry("H41", connection=Connection.NONE)], TODAY)
    assert (unit["version"], unit["modifyDate"], unit["isAgency"]) == (1, "", False)


def test_both_forms_of_a_code_are_told() -> None:
    entries = [entry("G22", old_code="000.00.00.G22")]
    assert answers.agencies(entries, TODAY)[0]["oldCode"] == "000.00.00.G22"
    assert answers.agencies_by_level(entries, TODAY, None)[0] == {
        "id": "G22",
        "code": "G22",
        "name": "Cơ quan G22",
        "mail": "",
        "code102": "000.00.00.G22",
    }

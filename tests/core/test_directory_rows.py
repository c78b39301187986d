"""Rows of organs and nodes: written one way, read strictly, and what is not said is not written."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from node.core.directory import Connection, Contact, Entry, Fate, NodeEntry
from node.core.directory_rows import check_history, entry_row, node_row, read_entry, read_node
from node.core.errors import Refused
from node.core.identifier import HUB, OrgId

H41 = OrgId.canonical("H41")
PLAIN = Entry(H41, "UBND tỉnh Nghệ An", connection=Connection.OFFICIAL)
FULL = replace(
    PLAIN,
    old_code="000.00.00.H41",
    aliases=("Nghệ An",),
    kind="tỉnh",
    valid_from=date(2020, 9, 15),
    valid_to=date(2025, 6, 30),
    successor=OrgId.canonical("H14"),
    receives_for=(H41,),
    focal_only=True,
    connection_from=date(2020, 9, 15),
    also=(OrgId.canonical("H15"),),
    fate=Fate.SPLIT,
    contact=Contact(mail="vanthu@nghean.gov.vn"),
    source="QĐ 09/2025/QĐ-TTg",
    source_day=date(2025, 4, 14),
)
NODE = NodeEntry(H41, "Trục tỉnh", "tỉnh", HUB, (H41, OrgId.canonical("K41")))


@pytest.mark.parametrize("entry", [PLAIN, FULL])
def test_an_entry_reads_back(entry: Entry) -> None:
    assert read_entry(entry_row(entry)) == entry


def test_a_node_reads_back() -> None:
    assert read_node(node_row(NODE)) == NODE
    assert read_node(node_row(replace(NODE, code=HUB, parent=None))).parent is None


def test_what_is_not_said_is_not_written() -> None:
    assert entry_row(PLAIN).keys() & {"also", "fate", "contact", "source", "source_day"} == set()
    assert entry_row(FULL)["contact"] == {"mail": "vanthu@nghean.gov.vn"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"code": "h41"},
        {"valid_to": "2025-6-30"},
        {"valid_to": "2025-02-30"},
        {"connection": "mở"},
        {"fate": "x"},
        {"focal_only": 1},
        {"aliases": [""]},
        {"aliases": [1]},
        {"old_code": "!"},
        {"contact": {"who": "x"}},
        {"lạ": 1},
    ],
)
def test_another_form_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        read_entry(entry_row(FULL) | wrong)


def test_entries_of_one_code_follow_one_another() -> None:
    younger = replace(PLAIN, valid_from=date(2025, 7, 1))
    check_history((FULL, younger))
    for wrong in ((younger, FULL), (FULL, FULL), (FULL, replace(younger, code=OrgId.canonical("H14")))):
        with pytest.raises(Refused):
            check_history(wrong)

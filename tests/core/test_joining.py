"""A status finds its document however its keys were typed."""

from __future__ import annotations

import pytest

from node.core.directory import Directory
from node.core.identifier import OrgId
from node.core.joining import joined_by, meant, plain_date, plain_notation
from node.core.package import Reference

H14, H41 = OrgId(("H14",)), OrgId(("H41",))
NOWHERE = Directory(entries=(), nodes=(), axis_name="Trục", axis_code_text="TRUC", version=1)


@pytest.mark.parametrize("text", ["2026/11/22", "22/11/2026", "2026-11-22", " 2026/11/22 "])
def test_a_date_is_one_key_in_the_forms_that_are_met(text: str) -> None:
    assert plain_date(text) == "2026/11/22"


@pytest.mark.parametrize(
    ("text", "key"), [("2026/1/2", "2026/01/02"), ("2014/02/30", "2014/02/30"), ("hôm qua", "hôm qua"), ("", "")]
)
def test_a_short_date_is_filled_up_and_what_is_none_stays(text: str, key: str) -> None:
    assert plain_date(text) == key


def test_white_space_does_not_make_another_notation() -> None:
    assert plain_notation(" 12 / CV-VP ") == plain_notation("12/CV-VP") == "12/CV-VP"


def test_the_keys_of_a_reference() -> None:
    assert joined_by(Reference("H41", "12 /CV", "22/11/2026", "mã")) == ("mã", "12/CV", "2026/11/22")


@pytest.mark.parametrize(
    ("organ", "found"), [("000.00.00.H41", [H41]), ("H99", [H14, H41]), ("null", [H14, H41]), ("", [H14, H41])]
)
def test_a_take_back_concerns_the_receiver_it_names_or_all(organ: str, found: list[OrgId]) -> None:
    """QĐ 28/2018 Điều 8.2: status 13 with one ResponseFor/OrganId, as in the vendor's sample."""
    assert meant(NOWHERE, Reference(organ, "", "", ""), [H14, H41]) == found

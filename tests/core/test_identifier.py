"""Codes as others write them, and the one form a node writes."""

from __future__ import annotations

import re
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.errors import Reason, Refused
from node.core.identifier import CODE_CHARS_MAX, HUB, PLACEHOLDERS, OrgId, normalise, tops

NUMBERS = {
    "H": (14, 17, 19, 20, 22, 29, 30, 37, 38, 41, 48, 49, 50, 51, 54, 55, 56, 57, 59),
    "K": (54, 57),
    "G": (*range(1, 23), 24, 27, 28, 30, 31, 32, 34, 35, 36, 38, 39),
}
PUBLISHED = [f"{letter}{number:02}" for letter, numbers in NUMBERS.items() for number in numbers]
"""Level-1 codes with the old form 000.00.00.<code> (QĐ 20/2020, QĐ 09/2025)."""
UNITS_OF_G12 = ("01", "02", "12", "18", "22", "32", "34")

_groups = st.text(alphabet=string.ascii_uppercase + string.digits + "-", min_size=1, max_size=12)


def _is_canonical(text: str) -> bool:
    try:
        OrgId.canonical(text)
    except Refused:
        return False
    return True


codes = (
    st.lists(_groups, min_size=1, max_size=6)
    .map(".".join)
    .filter(lambda text: len(text) <= CODE_CHARS_MAX and _is_canonical(text))
    .map(OrgId.canonical)
)
old_codes = st.builds(
    lambda letter, first, lower: OrgId((f"{letter}{first:02}", *(f"{n:0{w}}" for n, w in zip(lower, (2, 2, 3), strict=False)))),
    st.sampled_from(string.ascii_uppercase),
    st.integers(0, 99),
    st.tuples(st.integers(1, 99), st.integers(1, 99), st.integers(1, 999)).flatmap(
        lambda numbers: st.integers(0, 3).map(lambda length: numbers[:length])
    ),
)
near_codes = st.text(alphabet="A01.-", min_size=1, max_size=5).filter(_is_canonical).map(OrgId.canonical)
any_text = st.text(max_size=60) | st.text(alphabet="0123456789ABHGKhx. -－．０", max_size=45)


def refusal(text: str) -> Refused:
    with pytest.raises(Refused) as caught:
        OrgId.parse(text)
    return caught.value


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("G12.18", ("G12", "18")),
        ("000.00.18.G12", ("G12", "18")),
        ("000.00.00.H37", ("H37",)),
        ("28.22.H17", ("H17", "22", "28")),
        ("01.02.G22", ("G22", "02", "01")),
        ("14.00.W00", ("W00", "14")),
        ("007.05.03.H41", ("H41", "03", "05", "007")),
        ("000.00.00.A80", ("A80",)),
        ("G12.01", ("G12", "01")),
        ("H55.242", ("H55", "242")),
        ("H37.02.02", ("H37", "02", "02")),
        ("H37.DN.001", ("H37", "DN", "001")),
        ("H41.00", ("H41", "00")),
        ("vxp.saas.03", ("VXP", "SAAS", "03")),
        ("0123456789-001", ("0123456789-001",)),
        ("0123456789", ("0123456789",)),
        ("h41.07", ("H41", "07")),
        ("  H41 . 07\r\n", ("H41", "07")),
        ("000 .00. 00 . h41", ("H41",)),
        ("Ｈ４１．０７", ("H41", "07")),
        ("０００.００.１８.Ｇ１２", ("G12", "18")),
        ("H41\u00a0", ("H41",)),
        ("H17.H18", ("H17", "H18")),
    ],
)
def test_both_forms_are_read_as_one_path_root_first(written: str, path: tuple[str, ...]) -> None:
    assert OrgId.parse(written) == OrgId(path)


@pytest.mark.parametrize("code", PUBLISHED)
def test_every_published_code_is_the_same_organ_in_both_forms(code: str) -> None:
    assert OrgId.parse(f"000.00.00.{code}") == OrgId.parse(code) == OrgId((code,))
    assert OrgId((code,)).old_form() == f"000.00.00.{code}"


@pytest.mark.parametrize("unit", UNITS_OF_G12)
def test_units_below_a_ministry_keep_their_zeros(unit: str) -> None:
    assert OrgId.parse(f"000.00.{unit}.G12") == OrgId.parse(f"G12.{unit}") == OrgId(("G12", unit))
    assert OrgId(("G12", unit)).old_form() == f"000.00.{unit}.G12"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", Reason.CODE_EMPTY),
        (" \t\n", Reason.CODE_EMPTY),
        ("null", Reason.CODE_PLACEHOLDER),
        ("NULL", Reason.CODE_PLACEHOLDER),
        (" None ", Reason.CODE_PLACEHOLDER),
        ("n/a", Reason.CODE_PLACEHOLDER),
        ("N/A", Reason.CODE_PLACEHOLDER),
        ("undefined", Reason.CODE_PLACEHOLDER),
        ("Nil", Reason.CODE_PLACEHOLDER),
        ("-", Reason.CODE_PLACEHOLDER),
        ("_", Reason.CODE_PLACEHOLDER),
        ("…", Reason.CODE_PLACEHOLDER),
        ("ｎｕｌｌ", Reason.CODE_PLACEHOLDER),
        ("A" * 36, Reason.CODE_TOO_LONG),
        ("H41." + "1" * 32, Reason.CODE_TOO_LONG),
        ("H41 07", Reason.CODE_BAD_CHARACTER),
        ("H 41", Reason.CODE_BAD_CHARACTER),
        ("H41,07", Reason.CODE_BAD_CHARACTER),
        ("H41_07", Reason.CODE_BAD_CHARACTER),
        ("H41/07", Reason.CODE_BAD_CHARACTER),
        ("H41\x00", Reason.CODE_BAD_CHARACTER),
        ("\ufeffH41", Reason.CODE_BAD_CHARACTER),
        ("H41\u200b", Reason.CODE_BAD_CHARACTER),
        ("Đ41", Reason.CODE_BAD_CHARACTER),
        ("SỞ.01", Reason.CODE_BAD_CHARACTER),
        ("H\u030141", Reason.CODE_BAD_CHARACTER),
        ("ß41", Reason.CODE_BAD_CHARACTER),
        ("ı41", Reason.CODE_BAD_CHARACTER),
        ("H٤١", Reason.CODE_BAD_CHARACTER),
        ("\ud800", Reason.CODE_BAD_CHARACTER),
        ("H41.", Reason.CODE_BAD_GROUP),
        (".H41", Reason.CODE_BAD_GROUP),
        ("H41..07", Reason.CODE_BAD_GROUP),
        (".", Reason.CODE_BAD_GROUP),
        ("-H41", Reason.CODE_BAD_GROUP),
        ("H41-.07", Reason.CODE_BAD_GROUP),
        ("H41.-07", Reason.CODE_BAD_GROUP),
        ("xn--h41", Reason.CODE_BAD_GROUP),
        ("000.00.00.000", Reason.CODE_BAD_GROUP),
        ("0", Reason.CODE_BAD_GROUP),
        ("0000000000-000", Reason.CODE_BAD_GROUP),
    ],
)
def test_what_is_no_code_is_refused_by_name_and_with_the_text_received(written: str, reason: Reason) -> None:
    refused = refusal(written)
    assert (refused.reason, refused.element, refused.value) == (reason, "OrganId", written)


def test_a_code_of_35_characters_is_taken_and_its_36th_is_one_too_many() -> None:
    assert str(OrgId.parse("H41." + "1" * 31)) == "H41." + "1" * 31
    assert refusal("H41." + "1" * 32).rule == "≤ 35"


def test_the_35_characters_are_counted_after_normalising() -> None:
    assert str(OrgId.parse("   H41 . " + "1" * 31 + "   ")) == "H41." + "1" * 31
    assert refusal("\ufdfa" * 3).reason is Reason.CODE_TOO_LONG  # one character that normalises to eighteen


@pytest.mark.parametrize("filler", ["A", " ", ".", "\ufdfa", "0.", " ."])
def test_a_megabyte_of_anything_is_refused_at_once(filler: str) -> None:
    text = filler * (1_000_000 // len(filler))
    begun = time.perf_counter()
    refused = refusal(text)
    assert refused.reason is Reason.CODE_TOO_LONG
    assert len(refused.value) <= 100
    assert time.perf_counter() - begun < 1


def test_a_people_s_council_is_not_its_committee() -> None:
    council, committee = OrgId.parse("000.00.00.K54"), OrgId.parse("000.00.00.H54")
    assert council.level1 != committee.level1
    assert not committee.covers(council)


def test_a_code_covers_by_whole_groups_and_the_hub_covers_all() -> None:
    province = OrgId.parse("H54")
    assert province.covers(OrgId.parse("H54.07.01"))
    assert province.covers(province)
    assert not OrgId.parse("H54.07").covers(province)
    assert not OrgId.parse("H54.0").covers(OrgId.parse("H54.07"))
    assert HUB.covers(province)
    assert HUB.covers(HUB)
    assert not province.covers(HUB)


def test_levels_go_up_to_the_hub_and_no_further() -> None:
    code = OrgId.parse("H41.07.02")
    assert [str(level) for level in code.upwards()] == ["H41.07.02", "H41.07", "H41"]
    assert code.parent == OrgId.parse("H41.07")
    assert code.level1 == OrgId.parse("H41")
    assert OrgId.parse("H41").parent == HUB
    assert HUB.parent is None
    assert HUB.level1 == HUB
    assert list(HUB.upwards()) == []


def test_the_dns_name_is_the_code_turned_round_in_the_zone() -> None:
    assert OrgId.parse("G12.18").dns_name("truc.internal") == "18.g12.truc.internal"
    assert OrgId.parse("0123456789-001").dns_name("truc.internal") == "0123456789-001.truc.internal"
    assert HUB.dns_name("truc.internal") == "truc.internal"


@pytest.mark.parametrize("code", ["H37.DN.001", "H55.242", "G12.18.03.007.01", "0123456789-001", "VXP.SAAS.03", "G12.00", ""])
def test_a_code_that_13_characters_cannot_hold_has_no_old_form(code: str) -> None:
    assert OrgId.canonical(code).old_form() is None


def test_canonical_takes_only_what_a_node_writes() -> None:
    assert OrgId.canonical("") == HUB
    assert str(OrgId.canonical("")) == ""
    assert OrgId.canonical("H41.07") == OrgId(("H41", "07"))
    for other in (
        "h41",
        " H41",
        "H41 ",
        "H41 .07",
        "Ｈ41",
        "000.00.00.H41",
        "28.22.H17",
        "NULL",
        "000.00",
        ".",
        "H41.",
        "1" * 36,
    ):
        with pytest.raises(Refused):
            OrgId.canonical(other)


@given(codes)
@settings(deadline=None)
def test_a_code_written_and_read_again_is_the_same_code(code: OrgId) -> None:
    assert OrgId.parse(str(code)) == code
    assert OrgId.canonical(str(code)) == code
    assert OrgId.parse(f" {str(code).lower().replace('.', ' . ')} ") == code


@given(any_text)
@settings(deadline=None)
def test_any_text_is_a_code_in_its_one_form_or_refused(text: str) -> None:
    try:
        code = OrgId.parse(text)
    except Refused as refused:
        assert refused.reason.value.startswith("code-")
        return
    assert OrgId.canonical(str(code)) == code
    assert 1 <= len(str(code)) <= CODE_CHARS_MAX


@given(any_text)
@settings(deadline=None)
def test_canonical_is_exactly_what_str_gives(text: str) -> None:
    try:
        code = OrgId.canonical(text)
    except Refused:
        return
    assert str(code) == text


@given(old_codes)
@settings(deadline=None)
def test_the_old_form_reads_back_as_the_same_code(code: OrgId) -> None:
    old = code.old_form()
    assert old is not None
    assert re.fullmatch(r"[0-9]{3}\.[0-9]{2}\.[0-9]{2}\.[A-Z][0-9]{2}", old)
    assert OrgId.parse(old) == code


@given(near_codes | codes, near_codes | codes)
@settings(deadline=None)
def test_two_codes_never_share_a_dns_name_and_every_label_is_legal(one: OrgId, other: OrgId) -> None:
    assert (one.dns_name("truc.internal") == other.dns_name("truc.internal")) == (one == other)
    for label in one.dns_name("truc.internal").split("."):
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label)


@given(codes)
@settings(deadline=None)
def test_a_code_is_covered_by_exactly_itself_and_its_superiors(code: OrgId) -> None:
    levels = list(code.upwards())
    assert levels[0] == code
    assert levels[-1] == code.level1
    assert all(level.covers(code) for level in levels)
    assert [level for level in levels if code.covers(level)] == [code]


def test_normalising_keeps_text_that_is_no_code_apart_from_codes() -> None:
    assert normalise(" vxp . saas ") == "VXP.SAAS"
    assert normalise("ß41") != normalise("SS41")


def test_every_placeholder_is_written_as_normalising_leaves_it() -> None:
    assert {normalise(text) for text in PLACEHOLDERS} == PLACEHOLDERS


def test_the_fewest_codes_that_cover_all() -> None:
    codes = [OrgId.parse(text) for text in ("H54.01", "H54", "K54.02", "K54.02.03", "H5")]
    assert list(map(str, tops(codes))) == ["H5", "H54", "K54.02"]
    assert tops([*codes, HUB]) == (HUB,)
    assert tops([]) == ()

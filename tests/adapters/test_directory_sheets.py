"""Lists of organs: read with the line that is wrong, written so that no cell is a formula, in the shared service's shape."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from node.adapters.directory_sheets import COLUMNS, SheetError, categories, read_csv, write_csv
from node.core.directory import Connection, Contact, Directory, Entry, Fate
from node.core.identifier import OrgId

HEAD = ",".join(COLUMNS)
LIST = f"""{HEAD}
G21,000.00.00.G21,Ủy ban Dân tộc,bo_nganh,2020-09-15,2025-04-13,QĐ 20/2020
G21,000.00.00.G21,Bộ Dân tộc và Tôn giáo,bo_nganh,2025-04-14,,"QĐ 09/2025, bảng"
h37.dn.001,,Doanh nghiệp,doanh_nghiep,,,
"""
H41 = OrgId.canonical("H41")
FULL = Entry(
    H41,
    "=UBND",
    old_code="000.00.00.H41",
    connection=Connection.OFFICIAL,
    valid_from=date(2020, 9, 15),
    successor=OrgId.canonical("H14"),
    also=(OrgId.canonical("H15"),),
    fate=Fate.SPLIT,
    contact=Contact("Vinh", "a@nghean.gov.vn", "+84238", "", "nghean.gov.vn"),
    source="QĐ 20/2020/QĐ-TTg",
    source_day=date(2020, 7, 22),
)


def test_a_plain_list_is_read_with_its_histories() -> None:
    found = read_csv("\ufeff" + LIST)
    assert [(str(each.code), each.name, each.valid_to) for each in found] == [
        ("G21", "Ủy ban Dân tộc", date(2025, 4, 13)),
        ("G21", "Bộ Dân tộc và Tôn giáo", None),
        ("H37.DN.001", "Doanh nghiệp", None),
    ]
    assert found[1].source == "QĐ 09/2025, bảng"
    assert {each.connection for each in found} == {Connection.NONE}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("code,name\n", "1: old_code"),
        (f"{HEAD}\nH41,,Tên,,2025-13-01,,\n", "2: entry.valid_from"),
        (f"{HEAD}\nH41,,Tên,,,,\n,,x,,,,\n", "3: OrganId"),
        (f"{HEAD}\nH41,,,,,,\n", "2: entry.name"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, told: str) -> None:
    with pytest.raises(SheetError) as caught:
        read_csv(text)
    assert str(caught.value).startswith(told)


def test_no_cell_is_a_formula_and_what_is_written_reads_back() -> None:
    text = write_csv([FULL])
    assert "'=UBND" in text
    assert "'+84238" in text
    assert text.startswith("\ufeff")
    (read,) = read_csv(text)
    assert (read.name, read.old_code, read.source, read.valid_from) == (FULL.name, FULL.old_code, FULL.source, FULL.valid_from)


def test_the_shared_service_has_a_category_for_each_level_of_what_is_open() -> None:
    unit = replace(FULL, code=OrgId.canonical("H41.07"), name="Sở", contact=Contact())
    gone = Entry(OrgId.canonical("H54"), "Cũ", valid_to=date(2025, 6, 30))
    found = categories(Directory((FULL, unit, gone), (), "Trục", "TRUC", 1), date(2026, 1, 1))
    assert list(found) == ["qlvanbandieuhanhcap1", "qlvanbandieuhanhcap2"]
    (row,) = found["qlvanbandieuhanhcap1"]
    assert (row["MaDinhDanhCap1"], row["Email"], row["NgayBanHanhQd"]) == ("H41", "a@nghean.gov.vn", "2020-07-22")
    assert found["qlvanbandieuhanhcap2"][0]["MaDinhDanhCap2"] == "H41.07"

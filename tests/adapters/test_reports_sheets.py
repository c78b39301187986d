"""CSV and XLSX: read back, every figure is there as a number, and nothing that others wrote is a formula."""

from __future__ import annotations

import csv
import io
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pytest

from node.adapters.reports.sheets import csv_bytes, harmless, xlsx_bytes
from node.core.report_document import COLUMNS
from tests.reporting import made


def table(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def book(data: bytes) -> Any:
    return openpyxl.load_workbook(io.BytesIO(data))


def test_csv_has_a_line_for_each_row_then_what_the_figures_mean() -> None:
    data = csv_bytes(made())
    assert data.startswith("\ufeff".encode())
    head, *lines = table(data)
    assert head[:5] == ["mã cơ quan", "tổng của nút", "tên", "văn bản gửi", "văn bản nhận"]
    rows = lines[: lines.index([])]
    assert len(rows) == len(made()["rows"])
    (unit,) = [row for row in rows if row[0] == "H41.07"]
    assert dict(zip(head, unit, strict=True))["văn bản gửi"] == "3"
    below = [cell for line in lines[len(rows) :] for cell in line]
    assert "2026-11-22T10:00:00.123+07:00" in below and "khớp" in below and "tạm tính" in below
    assert {column.meaning for column in COLUMNS} <= set(below)


def test_no_cell_is_worked_out_by_a_spreadsheet() -> None:
    """Threats, row 30."""
    for line in table(csv_bytes(made(holds=False))):
        assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@"))]
    assert "'=HYPERLINK" in csv_bytes(made()).decode()
    found = book(xlsx_bytes(made(holds=False)))
    for sheet in found.worksheets:
        for row in sheet.iter_rows():
            assert not [cell.value for cell in row if cell.data_type == "f"]
    assert any(str(cell.value).startswith("=HYPERLINK") for row in found["Số liệu"].iter_rows() for cell in row)


@pytest.mark.parametrize("text", ["=1+1", "+84", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "|x", "%x"])
def test_what_may_begin_a_formula_gets_an_apostrophe(text: str) -> None:
    """Threats, row 30."""
    assert harmless(text) == "'" + text


def test_other_cells_stay_as_they_are() -> None:
    assert [harmless(value) for value in ("Sở Nội vụ", "H41.07", 3, -1, 0.5, None, "")] == [
        "Sở Nội vụ",
        "H41.07",
        3,
        -1,
        0.5,
        "",
        "",
    ]


def test_xlsx_holds_numbers_as_numbers_and_the_definitions_on_a_sheet_of_their_own() -> None:
    found = book(xlsx_bytes(made()))
    assert found.sheetnames == ["Số liệu", "Giải thích"]
    head, *rows = [[cell.value for cell in row] for row in found["Số liệu"].iter_rows()]
    sent = head.index("văn bản gửi")
    assert {row[0]: row[sent] for row in rows if row[0]} == {"G22": 1, "H41": 0, "H41.07": 3, "H41.07.01": 0, "H41.12": 1}
    told = [cell.value for row in found["Giải thích"].iter_rows() for cell in row]
    assert "Thời điểm chốt số liệu" in told

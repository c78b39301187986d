"""A report as CSV and as XLSX: every figure in a column of its own, the definitions and the proof below or on a second sheet.

What others wrote (names, codes, reasons) never becomes a formula: in CSV such a cell gets an apostrophe, in XLSX it is a string
by type. Knows the document of `core/report_document.py`; nothing of where it came from.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import xlsxwriter  # type: ignore[import-untyped]

from node.core.report_document import COLUMNS, DERIVED, GROUPS, shown

BOM = "\ufeff"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
"""What a spreadsheet may take for the beginning of something to be worked out."""
CELL_CHARS_MAX = 32_000
PLACES = (("organ", "mã cơ quan"), ("total_of", "tổng của nút"), ("name", "tên"))
HUB_NAME = "nút gốc"
_FIGURES = (*COLUMNS, *DERIVED, *GROUPS)


def csv_bytes(document: Mapping[str, Any]) -> bytes:
    """UTF-8 with a mark at the beginning, by which spreadsheets know it: headings, rows, an empty line, what stands below."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(map(harmless, _headings()))
    for row in document["rows"]:
        writer.writerow(map(harmless, _cells(row)))
    writer.writerow(())
    for line in notes(document):
        writer.writerow(map(harmless, line))
    return (BOM + out.getvalue()).encode()


def xlsx_bytes(document: Mapping[str, Any]) -> bytes:
    """One sheet of figures, one of what they mean and how far they are proven."""
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"constant_memory": True, "in_memory": True, "strings_to_formulas": False})
    bold = book.add_format({"bold": True})
    sheet = book.add_worksheet("Số liệu")
    sheet.freeze_panes(1, len(PLACES))
    for place, heading in enumerate(_headings()):
        sheet.write_string(0, place, heading, bold)
    for number, row in enumerate(document["rows"], start=1):
        _write(sheet, number, _cells(row))
    below = book.add_worksheet("Giải thích")
    for number, line in enumerate(notes(document)):
        _write(below, number, line)
    book.close()
    return out.getvalue()


def harmless(value: object) -> object:
    """A text that a spreadsheet would work out gets an apostrophe before it; numbers stay numbers, nothing is an empty cell."""
    if value is None:
        return ""
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA):
        return "'" + value
    return value


def notes(document: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    """What stands with the figures: whose they are, when they were true, how complete and how proven, what they mean."""
    summary = document["summary"]
    coverage, proof = summary["coverage"], summary["proof"]
    yield "Nút", document["node"] or HUB_NAME, document["name"]
    yield "Kỳ", document["period"], f"{document['from']} – {document['to']}"
    yield "Thời điểm chốt số liệu", summary["cut_off"], "tạm tính" if summary["provisional"] else ""
    yield "Mức đầy đủ: có số liệu", len(coverage["in"]), ""
    yield "chốt chậm", len(coverage["late"]), " ".join(coverage["late"])
    yield "chưa có số liệu", len(coverage["missing"]), " ".join(coverage["missing"])
    yield "Đối soát", "khớp" if proof["holds"] else "chưa khớp", " ".join((*proof["unequal"], *proof["unbalanced"]))
    for text in summary["definitions"]:
        yield ("Định nghĩa", text)
    for column in _FIGURES:
        yield column.key, column.vi, column.meaning


def _headings() -> list[str]:
    return [heading for _, heading in PLACES] + [column.vi for column in _FIGURES]


def _cells(row: Mapping[str, Any]) -> list[object]:
    """The hub's code is empty, and an empty cell is none."""
    places = [HUB_NAME if row.get(key) == "" and key == "total_of" else row.get(key) for key, _ in PLACES]
    return places + list(shown(dict(row), [column.key for column in _FIGURES]))


def _write(sheet: Any, number: int, cells: Sequence[object]) -> None:
    for place, value in enumerate(cells):
        if isinstance(value, int | float):
            sheet.write_number(number, place, value)
        elif value:
            sheet.write_string(number, place, str(value)[:CELL_CHARS_MAX])

"""Lists of organs as others exchange them: CSV in and out, and the shape of the shared category service out.

A table for people's programs: a cell that a spreadsheet would take for a formula gets an apostrophe, which is taken off again
where it is read. Knows `core`; nothing of where a list goes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import date
from typing import Any

from node.core.directory import Connection, Directory, Entry
from node.core.directory_rows import read_entry
from node.core.errors import Refused
from node.core.identifier import OrgId

COLUMNS = ("code", "old_code", "name_vi", "kind", "valid_from", "valid_to", "source")
FURTHER = ("connection", "successor", "fate", "address", "mail", "phone", "fax", "website", "source_day")
"""Beside those of a plain list, only in what is written here."""
ROWS_MAX = 200_000
SAID = frozenset({"old_code", "name", "kind", "valid_from", "valid_to", "source"})
"""What a plain list says of an organ."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class SheetError(ValueError):
    """The list cannot be read; one problem a line."""


def read_csv(text: str) -> list[Entry]:
    """Organs from a CSV with the columns `COLUMNS` at least. `SheetError` names line and value. New organs are not connected."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise SheetError(f"1: {', '.join(missing)}")
    found: list[Entry] = []
    problems: list[str] = []
    for row in reader:
        if len(found) >= ROWS_MAX:
            raise SheetError(f"{reader.line_num}: > {ROWS_MAX}")
        try:
            found.append(_entry({name: _plain(row.get(name) or "") for name in COLUMNS}))
        except Refused as refused:
            problems.append(f"{reader.line_num}: {refused.element}: {refused.value} {refused.rule}".rstrip())
    if problems:
        raise SheetError("\n".join(problems[:20]))
    return found


def _entry(row: dict[str, str]) -> Entry:
    return read_entry(
        {
            "code": str(OrgId.parse(row["code"])),
            "old_code": row["old_code"],
            "aliases": [],
            "name": row["name_vi"],
            "kind": row["kind"],
            "valid_from": row["valid_from"] or None,
            "valid_to": row["valid_to"] or None,
            "successor": None,
            "receives_for": [],
            "focal_only": False,
            "connection": Connection.NONE.value,
            "connection_from": None,
            "source": row["source"][:400],
        }
    )


def write_csv(entries: Iterable[Entry]) -> str:
    """UTF-8 with a byte order mark, as spreadsheets want it."""
    out = io.StringIO()
    out.write("\ufeff")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*COLUMNS, *FURTHER))
    for each in entries:
        contact = each.contact
        successors = " ".join(map(str, (each.successor, *each.also))) if each.successor else ""
        cells = (
            *(str(each.code), each.old_code, each.name, each.kind, _day(each.valid_from), _day(each.valid_to), each.source),
            *(each.connection.value, successors, each.fate or ""),
            *(contact.address, contact.mail, contact.phone, contact.fax, contact.website, _day(each.source_day)),
        )
        writer.writerow(_safe(cell) for cell in cells)
    return out.getvalue()


def categories(directory: Directory, today: date) -> dict[str, list[dict[str, Any]]]:
    """The organs open today as the shared category service has them: one category for each level, each code with the decision and
    the day that made it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in directory.agencies(today):
        level = len(entry.code.path)
        contact = entry.contact
        found.setdefault(f"qlvanbandieuhanhcap{level}", []).append(
            {
                f"MaDinhDanhCap{level}": str(entry.code),
                "MaDinhDanhCu": entry.old_code,
                "TenDonVi": entry.name,
                "DiaChi": contact.address,
                "Email": contact.mail,
                "SoDienThoai": contact.phone,
                "Fax": contact.fax,
                "Website": contact.website,
                "QdBanHanhQdSuaDoi": entry.source,
                "NgayBanHanhQd": _day(entry.source_day),
            }
        )
    return found


def _day(value: date | None) -> str:
    return "" if value is None else str(value)


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _plain(cell: str) -> str:
    return cell[1:].strip() if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell.strip()

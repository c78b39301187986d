"""Reports laid into a folder: one XLSX, one page and the document itself as JSON for each period, each file whole or not there.

Knows the document of `core/report_document.py` and how it is rendered; nothing of when.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from node.adapters.folders import sync_folder
from node.adapters.reports.page import page_bytes
from node.adapters.reports.sheets import xlsx_bytes
from node.core.report_document import Document


def deliver(folder: Path, name: str, document: Document) -> bool:
    """False: the folder has a report of that name with the same figures, and nothing was written. `OSError`."""
    plain = folder / f"{name}.json"
    if _figures(document) == _kept(plain):
        return False
    _write(folder / f"{name}.xlsx", xlsx_bytes(document))
    _write(folder / f"{name}.html", page_bytes(document))
    _write(plain, json.dumps(document, ensure_ascii=False, indent=1).encode())  # last: it says that the others are there
    sync_folder(folder)
    return True


def _figures(document: Document) -> Document:
    """All of it but the instant at which it was asked for."""
    return {**document, "summary": {**document["summary"], "cut_off": ""}}


def _kept(path: Path) -> Any:
    try:
        return _figures(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)

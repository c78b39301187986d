"""Every threat to the node's edges has a test that names it, or a line that says which later work brings its surface.

A row and its test are found by one search for "Threats, row N" in the tests' docstrings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = (
    "slow headers and idle connections",
    "slow bodies",
    "slow or absent TLS handshakes",
    "too many connections",
    "huge lines, headers, numbers of headers",
    "huge bodies",
    "compressed bodies that are bombs",
    "request smuggling and malformed framing",
    "oversized or endless batches",
    "JSON abuse",
    "XML bombs and external entities",
    "one huge XML token",
    "XML signatures wrapped around other content",
    "floods and nesting of MIME parts",
    "header injection in mails and notices",
    "names of attachments that are paths",
    "archive bombs",
    "content of another kind than it says, active content",
    "replay of a captured message",
    "a sender or a route that is not its own",
    "a wrong but valid certificate",
    "a revoked or expired certificate",
    "forged acknowledgements and statistics",
    "attacks on the time",
    "requests to addresses out of a message",
    "hostile answers of a peer",
    "a full disk",
    "one peer that starves the others",
    "log injection",
    "formulas in spreadsheets",
    "SQL injection",
    "other sites' requests to the operator's door",
    "theft of keys and secrets",
    "a tampered database or backup",
    "vulnerable dependencies",
)
"""By number, from 1."""
LATER: Mapping[int, str] = {
    13: "signatures inside a package are not read yet: the verification of payload signatures",
    14: "nothing here reads MIME: a connector that takes mails",
    15: "nothing here writes mails: alarms by mail",
    18: "nothing here shows an attachment: pages that open content",
}
"""Rows without a surface, and which work brings it, its tests with it."""
_CITED = re.compile(r"Threats, rows? ([0-9]+(?:(?:, | and )[0-9]+)*)")


def _docstrings(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("test_*.py")):
        for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name.startswith("test_"):
                yield ast.get_docstring(each) or ""


def _cited(folder: Path) -> set[int]:
    cited = (found for text in _docstrings(folder) for found in _CITED.findall(text))
    return {int(number) for numbers in cited for number in re.findall("[0-9]+", numbers)}


@pytest.fixture(scope="module")
def cited() -> set[int]:
    return _cited(HERE)


@pytest.mark.parametrize("row", range(1, len(ROWS) + 1))
def test_a_threat_has_a_test_or_no_surface_yet(cited: set[int], row: int) -> None:
    """QĐ 28/2018 Điều 13, 19.1.b."""
    assert (row in cited) is not (row in LATER), f"row {row}: {ROWS[row - 1]}"


def test_a_row_is_found_where_it_is_cited_and_nowhere_else(tmp_path: Path) -> None:
    """The search itself can fail."""
    (tmp_path / "test_some.py").write_text(
        'def test_one() -> None:\n    """Threats, rows 3, 4 and 29: together."""\n\n\n'
        'async def test_two() -> None:\n    """Other things first. Threats, row 7."""\n\n\n'
        'def helper() -> None:\n    """Threats, row 9."""\n'
    )
    assert _cited(tmp_path) == {3, 4, 29, 7}

"""The documents say what is so: every file, function, command, metric and reason they name is there, and none is left out."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from node.cli.root import truc
from node.cli.talk import Code
from node.core import words
from node.core.errors import Reason
from node.core.lifecycle import Transport
from node.core.package import STATUS_CODES
from node.core.tally import METRICS
from node.core.timekeeping import Alarm

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
FOLDERS = ("node", "topology", "tests", "configs", "docs", "scripts")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def names_in(path: Path) -> set[str]:
    """Module-level names of a source file, and Class.method for those of its classes."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def commands(group: click.Command = truc, before: str = "truc") -> Iterator[str]:
    """Every command of the program by its whole name."""
    if not isinstance(group, click.Group):
        yield before
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands(command, f"{before} {name}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_place_in_the_sources_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for place, name in re.findall(r"`((?:node|topology|tests)/[\w./]+\.py): ([\w.]+)`", text):
        assert name in names_in(ROOT / place), f"{place} has no {name}"
    for place in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)[`:]", text):
        assert (ROOT / place).exists(), place


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_in_a_document_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        assert "://" in target or (document.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_a_document_names_is_one(document: Path) -> None:
    known = set(commands())
    nouns = {name.split()[1] for name in known}
    for words_ in re.findall(r"(?:^|[`$ ])truc ((?:[a-z]+ ?)+)", document.read_text(encoding="utf-8"), re.MULTILINE):
        noun, *rest = words_.split()
        if noun in nouns:
            assert not rest or f"truc {noun}" in known or f"truc {noun} {rest[0]}" in known, words_


def test_the_operators_guide_names_every_command_metric_problem_and_exit_code() -> None:
    guide = text_of("docs/operator.md")
    assert [name for name in commands() if f"`{name}" not in guide] == []
    assert [name for name in METRICS if f"`{name}`" not in guide] == []
    assert [key for key, (text, _) in words.LABELS["problem"].items() if f"| {key} | {text} |" not in guide and in_use(key)] == []
    assert [code.value for code in Code if f"\n| {code.value} |" not in guide] == []


def in_use(problem: str) -> bool:
    """Whether the desk can complain of it."""
    return f'(("{problem}", ' in text_of("node/desk.py") or problem in set(Alarm)


def test_the_connectors_guide_lists_every_reason_with_its_number_and_words() -> None:
    """Written anew by `python -m tests.test_docs` from node/core/words.py."""
    guide = text_of("docs/connectors.md")
    assert [reason.value for reason in Reason if row_of(reason) not in guide] == []
    told = re.findall(r"^\| [0-9]+ \| `([a-z0-9-]+)` \|", guide, re.MULTILINE)
    assert sorted(told) == sorted(Reason)


def row_of(reason: Reason) -> str:
    number, vi, en = words.error_number(reason), words.label("reason", reason), words.label("reason", reason, "en")
    return f"| {number} | `{reason.value}` | {vi} | {en} |"


def test_the_guides_use_the_programs_own_words_for_states() -> None:
    guide = text_of("docs/connectors.md")
    for state in Transport:
        assert f"| `{state.value}` | {words.label('transport', state)} |" in guide
    for code in STATUS_CODES:
        assert f"{code} {words.label('status', code)}" in guide
    glossary = text_of("docs/glossary.md")
    labels = [words.label("transport", state) for state in Transport] + [words.label("status", code) for code in STATUS_CODES]
    assert [label for label in labels if label not in glossary] == []


def test_every_library_has_a_line_that_says_why() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"], *project["build-system"]["requires"]]
    lines = [line for line in text_of("docs/dependencies.md").splitlines() if line.startswith("| ")]
    named = {name.strip() for line in lines for name in line.split("|")[1].split(",")}
    assert {re.split(r"[<>=]", requirement)[0] for requirement in wanted} <= named


def test_decisions_are_numbered_without_gaps_and_say_context_decision_and_consequences() -> None:
    decisions = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        headings = re.findall(r"^## (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], path.name


def test_the_changelog_has_an_entry_for_this_version() -> None:
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    assert f"\n## {version} " in text_of("CHANGELOG.md")


if __name__ == "__main__":
    for each in sorted(Reason, key=lambda reason: (words.error_number(reason), reason.value)):
        print(row_of(each))

"""How a command speaks: in the language asked for, data on stdout, talk on stderr, one kind of failure.

Knows click and the words; nothing of a node.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import click

from node.core.instant import iso
from node.core.words import LABELS, LANGUAGES, Lang, label, visible

Texts = tuple[str, str]
"""Vietnamese, English."""

LANG_KEY = "truc.lang"
CONFIG_KEY = "truc.config"
DEFAULT_CONFIG = Path("/etc/truc/node.toml")
WIDE = 10_000
"""Columns where the output is no terminal: nothing is cut."""


class Code(IntEnum):
    """What the process ends with."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 69
    LATER = 75
    NOT_ALLOWED = 77
    CONFIG = 78


def lang() -> Lang:
    """`--lang`, else TRUC_LANG, else Vietnamese."""
    context = click.get_current_context(silent=True)
    asked = (context.meta.get(LANG_KEY) if context else None) or os.environ.get("TRUC_LANG", "")
    return "en" if asked == "en" else "vi"


def t(vi: str, en: str) -> str:
    """The text in the language asked for."""
    return (vi, en)[LANGUAGES.index(lang())]


def say(vi: str, en: str) -> None:
    """Talk: to stderr, so that data can be piped."""
    click.echo(t(vi, en), err=True)


class Stop(click.ClickException):
    """The command cannot go on: what is wrong, where and why, then what to do."""

    def __init__(self, code: Code, what: Texts, todo: Texts | None = None) -> None:
        self.exit_code = int(code)  # type: ignore[misc]
        # Composed now: when it is shown the command's language is forgotten already.
        lines = [f"{t('Lỗi', 'Error')}: {t(*what)}"]
        if todo:
            lines.append(f"{t('Cần làm', 'To do')}: {t(*todo)}")
        super().__init__("\n".join(lines))

    def show(self, file: Any = None) -> None:
        click.echo(self.format_message(), file=file, err=file is None)


def config_path() -> Path:
    """`--config`, else TRUC_CONFIG, else /etc/truc/node.toml."""
    context = click.get_current_context(silent=True)
    asked = context.meta.get(CONFIG_KEY) if context else None
    return Path(asked or os.environ.get("TRUC_CONFIG") or DEFAULT_CONFIG)


def who() -> str:
    """The operator, for the record: the login behind sudo, else the user of this process."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return visible(f"{behind} ({name})" if behind and behind != name else name)[:100]


def agree(question: Texts, yes: bool, todo: Texts = ("thêm --yes nếu chắc chắn", "add --yes if you are sure")) -> None:
    """Ask before something that cannot be undone; `--yes` answers beforehand. `Stop` unless the answer is yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Stop(Code.USAGE, ("lệnh này cần được xác nhận", "this command must be confirmed"), todo)
    if not click.confirm(t(*question), err=True):
        raise Stop(Code.FAILED, ("chưa làm gì vì không được xác nhận", "nothing was done: not confirmed"))


def public(value: Any) -> Any:
    """As `--json` shows it: every instant under a key ending in `_ms` becomes RFC 3339 text under the key without it."""
    if isinstance(value, Mapping):
        return dict(_instant(str(key), item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return [public(item) for item in value]
    return value


def _instant(key: str, value: Any) -> tuple[str, Any]:
    if key.endswith("_ms") and (value is None or isinstance(value, int)):
        return key.removesuffix("_ms"), iso(value) if value else None
    return key, public(value)


def json_line(value: Any) -> None:
    """One JSON line on stdout."""
    click.echo(json.dumps(public(value), ensure_ascii=False))


def when(ms: int | None) -> str:
    """An instant for an operator's eye; "" where there is none."""
    return iso(ms) if ms else ""


def because(reason: str) -> str:
    """A reason of any kind, short: of a refusal, of a hold ("operator: …" keeps what the operator wrote), an office status."""
    code, _, note = reason.partition(": ")
    kind = next((kind for kind in ("hold", "status") if code in LABELS[kind]), "reason")
    return (label(kind, code, lang()) + (f": {visible(note)}" if note else "")) if reason else ""


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout. Cells are plain text, made harmless; a terminal's width is kept, a pipe gets whole lines."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(visible(str(cell))) for cell in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDE, highlight=False)
    console.print(drawn)


def pairs(lines: Iterable[tuple[str, object]]) -> None:
    """`name: value` lines on stdout, made harmless."""
    for name, value in lines:
        click.echo(f"{name}: {visible(str(value))}")


def bad_configuration(problems: Iterable[str]) -> Stop:
    """A configuration, directory or systems file that cannot be used: its problems, one a line, and exit code 78."""
    lines = "\n  ".join(visible(line) for problem in problems for line in problem.splitlines())
    todo = ("sửa tệp rồi thử truc config check", "mend the file, then try truc config check")
    return Stop(Code.CONFIG, (f"cấu hình sai\n  {lines}", f"the configuration is wrong\n  {lines}"), todo)

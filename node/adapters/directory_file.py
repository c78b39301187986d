"""The directory as a file (JSON, UTF-8) rendered into each node: read strictly, written one node or entry a line.

A file that breaks a form or a law is refused whole, naming the file, the entry and the field. Knows `core`; nothing of the
node that routes by it, nor of how a new version arrives.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from node.adapters.folders import locked, write
from node.core.directory import Connection, Contact, Directory, Entry, Fate, NodeEntry
from node.core.directory_rows import (
    ALIAS_CHARS_MAX,
    ALSO_MAX,
    CONTACT_CHARS_MAX,
    LABEL_CHARS_MAX,
    LIST_MAX,
    NAME_CHARS_MAX,
    SOURCE_CHARS_MAX,
    entry_row,
    node_row,
)
from node.core.errors import Refused
from node.core.identifier import CODE_CHARS_MAX, OrgId

FORMAT = "truc-directory-1"
FILE_BYTES_MAX = 64 * 1024 * 1024
ENTRIES_MAX = 200_000
NODES_MAX = 20_000
PROBLEMS_SHOWN_MAX = 20


class DirectoryFileError(ValueError):
    """The file cannot be used; one problem a line, each with the file, the entry and the field."""


def load(path: Path) -> Directory:
    """Read a directory file; `DirectoryFileError` for whatever is wrong with it, a broken law of `Directory.check` included."""
    return parse(_read(path), path)


def parse(raw: bytes, path: Path, *, laws: bool = True) -> Directory:
    """The content of a directory file; path: what it is called where something is wrong with it. laws: False where somebody
    only looks at it, or could not mend what breaks one. Raises as `load`."""
    plain = _decode(path, raw)
    try:
        directory = _File.model_validate_json(raw, strict=True).directory()
    except ValidationError as error:
        raise _failure(path, [_problem(plain, fault["loc"], fault["msg"]) for fault in error.errors()]) from None
    broken = directory.check() if laws else []
    if broken:
        raise _failure(path, broken)
    return directory


class DirectoryFile:
    """A directory file that may change under the node."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def stamp(self) -> tuple[int, ...]:
        """What changes when the file does; zeros where there is none."""
        try:
            facts = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (facts.st_mtime_ns, facts.st_size, facts.st_ino)

    def load(self) -> Directory:
        """As `load`, which see."""
        return load(self._path)

    def keep(self, directory: Directory) -> tuple[int, ...]:
        """Replace the file, one at a time with whoever edits it by a command; the stamp it has then. `DirectoryFileError`, and
        the file stays, where no node could start with the new one: what several nodes have said may break a law together."""
        text = dump(directory)
        parse(text.encode(), self._path)
        with locked(self._path):
            write(self._path, text)
            return self.stamp()


def dump(directory: Directory) -> str:
    """The text of a directory file; loading it gives an equal directory."""
    head = {
        "format": FORMAT,
        "version": directory.version,
        "axis": {"name": directory.axis_name, "code": directory.axis_code_text},
    }
    parts = [f"{_json(key)}: {_json(value)}" for key, value in head.items()]
    parts.append(f'"nodes": {_lines(map(node_row, directory.nodes))}')
    parts.append(f'"entries": {_lines(map(entry_row, directory.entries))}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _code(value: object) -> OrgId:
    if not isinstance(value, str):
        raise ValueError("a code is a text")
    try:
        return OrgId.canonical(value)
    except Refused as refused:
        raise ValueError(f"not a code root first in upper case: {refused.reason} {refused.rule}".rstrip()) from None


def _readable(value: str) -> str:
    if value:
        try:
            OrgId.parse(value)
        except Refused as refused:
            raise ValueError(f"not a code: {refused.reason} {refused.rule}".rstrip()) from None
    return value


Code = Annotated[OrgId, PlainValidator(_code)]
WrittenCode = Annotated[str, Field(max_length=CODE_CHARS_MAX), AfterValidator(_readable)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARS_MAX)]
Label = Annotated[str, Field(max_length=LABEL_CHARS_MAX)]
Alias = Annotated[str, Field(min_length=1, max_length=ALIAS_CHARS_MAX)]
Reachable = Annotated[str, Field(max_length=CONTACT_CHARS_MAX)]
Codes = Annotated[tuple[Code, ...], Field(max_length=LIST_MAX)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Axis(_Row):
    name: Name
    code: Annotated[str, Field(min_length=1, max_length=CODE_CHARS_MAX)]


class _Node(_Row):
    code: Code
    name: Name
    tier: Label = ""
    parent: Code | None
    prefixes: Codes = ()

    def value(self) -> NodeEntry:
        return NodeEntry(self.code, self.name, self.tier, self.parent, self.prefixes)


class _Contact(_Row):
    address: Reachable = ""
    mail: Reachable = ""
    phone: Reachable = ""
    fax: Reachable = ""
    website: Reachable = ""


class _Entry(_Row):
    code: Code
    old_code: WrittenCode = ""
    aliases: Annotated[tuple[Alias, ...], Field(max_length=LIST_MAX)] = ()
    name: Name
    kind: Label = ""
    valid_from: date | None = None
    valid_to: date | None = None
    successor: Code | None = None
    receives_for: Codes = ()
    focal_only: bool = False
    connection: Connection = Connection.NONE
    connection_from: date | None = None
    also: Annotated[tuple[Code, ...], Field(max_length=ALSO_MAX)] = ()
    fate: Fate | None = None
    contact: _Contact = _Contact()
    source: Annotated[str, Field(max_length=SOURCE_CHARS_MAX)] = ""
    source_day: date | None = None

    def value(self) -> Entry:
        told = {name: getattr(self, name) for name in type(self).model_fields}
        return Entry(**{**told, "contact": Contact(**self.contact.model_dump())})


class _File(_Row):
    format: Literal["truc-directory-1"]
    version: Annotated[int, Field(ge=1)]
    axis: _Axis
    nodes: Annotated[tuple[_Node, ...], Field(max_length=NODES_MAX)]
    entries: Annotated[tuple[_Entry, ...], Field(max_length=ENTRIES_MAX)]

    def directory(self) -> Directory:
        return Directory(
            entries=tuple(row.value() for row in self.entries),
            nodes=tuple(row.value() for row in self.nodes),
            axis_name=self.axis.name,
            axis_code_text=self.axis.code,
            version=self.version,
        )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise DirectoryFileError(f"{path}: {error.strerror or error}") from error


def _decode(path: Path, raw: bytes) -> Any:
    """The file as plain values, to name entries by their code; here a key given twice shows, which the models cannot see."""
    if len(raw) > FILE_BYTES_MAX:
        raise DirectoryFileError(f"{path}: larger than {FILE_BYTES_MAX} bytes")
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_each_key_once)
    except RecursionError:
        raise DirectoryFileError(f"{path}: nested too deeply") from None
    except ValueError as error:
        raise DirectoryFileError(f"{path}: {error}") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        doubled = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"the key {doubled!r} stands twice in one object, code {row.get('code')!r}")
    return row


def _problem(plain: Any, where: tuple[int | str, ...], message: str) -> str:
    """ "entries[3] (code H54): valid_to: Input should be …": the place, with the row's code as it is easier to look for."""
    match where:
        case (str() as section, int() as index, *field):
            row = plain[section][index]
            code = f" (code {row['code']})" if isinstance(row, dict) and "code" in row else ""
            place = f"{section}[{index}]{code}"
        case _:
            place, field = "", list(where)
    return ": ".join(part for part in (place, ".".join(map(str, field)), message) if part)


def _failure(path: Path, problems: list[str]) -> DirectoryFileError:
    lines = [f"{path}: {problem}" for problem in problems[:PROBLEMS_SHOWN_MAX]]
    if len(problems) > PROBLEMS_SHOWN_MAX:
        lines.append(f"{path}: and {len(problems) - PROBLEMS_SHOWN_MAX} more")
    return DirectoryFileError("\n".join(lines))


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    lines = [f"  {_json(row)}" for row in rows]
    return "[\n" + ",\n".join(lines) + "\n]" if lines else "[]"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)

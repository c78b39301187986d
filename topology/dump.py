"""A tree as the text of its TOML file: what `topology.load` reads back equal. Knows the model; nothing of files or laws."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date

from node.core.directory import Connection, Entry
from node.core.identifier import OrgId
from topology.load import LOOPBACK
from topology.model import OfficeSystem, Options, Site, Tree

Field = tuple[str, object]


def dump(tree: Tree, heading: str = "") -> str:
    """The whole file. heading: lines of comment for its top, each beginning with "#". What `load` fills in is left out."""
    parts = [
        heading,
        _table("", [("zone", tree.zone), ("version", tree.version)]),
        _table("[axis]", [("name", tree.axis_name), ("code", tree.axis_code)]),
        *_options("options", tree.options),
        *(part for site in tree.sites for part in _site(site)),
        *(_table("[[organs]]", _organ(entry)) for entry in tree.entries),
    ]
    return "\n".join(part for part in parts if part)


def _site(site: Site) -> Iterator[str]:
    own = (site.code,) if site.code.path else ()
    fields: list[Field] = [("name", site.name), ("code", site.code)]
    fields += _unless("tier", site.tier, "") + _unless("parent", site.parent, None) + _unless("prefixes", site.prefixes, own)
    yield _table("[[sites]]", fields)
    for system in site.systems:
        yield _table("[[sites.systems]]", _system(system))
    yield from _options("sites.options", site.options)


def _system(system: OfficeSystem) -> list[Field]:
    fields: list[Field] = [("id", system.id), ("codes", system.codes)]
    return fields + _unless("networks", system.networks, LOOPBACK) + _unless("all_or_nothing", system.all_or_nothing, False)


def _organ(entry: Entry) -> list[Field]:
    fields: list[Field] = [("code", entry.code), ("name", entry.name)]
    return (
        fields
        + _unless("old_code", entry.old_code, entry.code.old_form() or "")
        + _unless("aliases", entry.aliases, ())
        + _unless("kind", entry.kind, "")
        + _unless("valid_from", entry.valid_from, None)
        + _unless("valid_to", entry.valid_to, None)
        + _unless("successor", entry.successor, None)
        + _unless("receives_for", entry.receives_for, ())
        + _unless("focal_only", entry.focal_only, False)
        + _unless("connection", entry.connection, Connection.NONE)
        + _unless("connection_from", entry.connection_from, None)
    )


def _unless(key: str, value: object, default: object) -> list[Field]:
    return [] if value == default else [(key, value)]


def _options(name: str, options: Options) -> Iterator[str]:
    for section, keys in options.items():
        yield _table(f"[{name}.{section}]", keys.items())


def _table(head: str, fields: Iterable[Field]) -> str:
    lines = [head] if head else []
    return "".join(f"{line}\n" for line in [*lines, *(f"{key} = {toml(value)}" for key, value in fields)])


def toml(value: object) -> str:
    """One value. A basic string is escaped as in JSON, only DEL needs more. Raises `TypeError` for what TOML has no form for."""
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, OrgId):
        return toml(str(value))
    if isinstance(value, int | float | date):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    raise TypeError(f"{type(value).__name__} has no form in TOML")

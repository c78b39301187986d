"""One folder per site from a tree: configuration, directory, office systems with their secrets, certificates, data folder.

Rendering again keeps what has a life of its own: keys, secrets, ports and data. The files of one folder name each other by
relative paths, so that the whole may be moved. Knows the model, `node.core` and `node.config`; starts nothing.
"""

from __future__ import annotations

import json
import re
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from node.adapters.folders import PUBLIC, SECRET, write
from node.config import ConfigError, NodeConfig, load
from node.core.directory import Directory
from node.core.directory_rows import entry_row, node_row
from node.core.identifier import OrgId
from topology.certificates import certify
from topology.model import OfficeSystem, Options, Site, Tree
from topology.ports import HOST, Guards

SECRET_BYTES = 32
_VERSION = re.compile(r'"version": ([0-9]{1,15})')
LISTENERS = ("link", "office", "admin")
CONFIG_FILE = "node.toml"
SYSTEMS_FORMAT = "truc-systems-1"
DIRECTORY_FORMAT = "truc-directory-1"


@dataclass(frozen=True, slots=True)
class Place:
    """One rendered site. config: its `node.toml`, and settings: what that file says."""

    site: Site
    config: Path
    settings: NodeConfig

    @property
    def log(self) -> Path:
        return self.config.with_name("node.log")

    @property
    def run_file(self) -> Path:
        """Where the running node says its process id and its ports."""
        return self.settings.node.data_dir / "run.json"

    def systems(self) -> list[dict[str, Any]]:
        """The office systems registered there now, as in their file."""
        return _rows(self.settings.node.systems)


def render(
    tree: Tree, root: Path, guards: Guards, now: datetime, *, keep: bool = False, enrol: bool = False
) -> tuple[Place, ...]:
    """Write the whole tree under `root`; the places come parents first.

    keep: the tree is the one that was rendered here before, so configurations changed by hand since then stay as they are.
    enrol: the nodes get their keys and their directory by joining the tree; only what an operator would write is written here.
    guards: where ports are taken from. Raises `ConfigError` where a kept file cannot be used.
    """
    sites = tree.parents_first()
    keep = keep and all((root / site.folder / CONFIG_FILE).is_file() for site in sites)
    pins = {} if enrol else certify(tree, root, now)
    ports = _ports(sites, root, guards)
    directory = directory_text(_newer(tree.directory(), [root / site.folder / "directory.json" for site in sites]))
    given = frozenset(str(code) for site in sites for system in site.systems for code in system.codes)
    for site in sites:
        folder = root / site.folder
        (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
        if not keep:
            write(folder / CONFIG_FILE, _config_text(tree, site, ports, pins))
        for name, text, mode in (
            ("directory.json", directory, PUBLIC),
            ("systems.json", _systems_text(folder / "systems.json", site.systems, given), SECRET),
        ):
            if enrol and name == "directory.json" and (site.parent is not None or (folder / name).is_file()):
                continue
            if not (keep and (folder / name).is_file()):
                write(folder / name, text, mode)
    return tuple(_place(site, root / site.folder / CONFIG_FILE) for site in sites)


def _newer(directory: Directory, found: Sequence[Path]) -> Directory:
    """The directory with a version above all that are there, where it says other than the hub's file: nodes refuse to go back."""
    texts = [path.read_text(encoding="utf-8") for path in found if path.is_file()]
    versions = [int(match[1]) for text in texts if (match := _VERSION.search(text))]
    if not versions or _VERSION.sub("", texts[0]) == _VERSION.sub("", directory_text(directory)):
        return replace(directory, version=max(directory.version, *versions)) if versions else directory
    return replace(directory, version=max(directory.version, *versions) + 1)


def directory_text(directory: Directory) -> str:
    """The directory file that every node reads, one node or organ a line."""
    head = {
        "format": DIRECTORY_FORMAT,
        "version": directory.version,
        "axis": {"name": directory.axis_name, "code": directory.axis_code_text},
    }
    fields = [f"{_json(key)}: {_json(value)}" for key, value in head.items()]
    for key, rows in (("nodes", map(node_row, directory.nodes)), ("entries", map(entry_row, directory.entries))):
        fields.append(f'"{key}": [\n' + ",\n".join(f"  {_json(row)}" for row in rows) + "\n]")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _place(site: Site, config: Path) -> Place:
    settings, _ = load(config, {})
    return Place(site, config, settings)


def _ports(sites: Sequence[Site], root: Path, guards: Guards) -> Mapping[OrgId, Sequence[int]]:
    """Per site the ports of its listeners: those of its configuration, if it has one, else free ones."""
    ports = {site.code: found for site in sites if (found := _ports_in(root / site.folder / CONFIG_FILE))}
    missing = [site.code for site in sites if site.code not in ports]
    fresh = guards.choose(len(LISTENERS) * len(missing))
    for position, code in enumerate(missing):
        ports[code] = fresh[position * len(LISTENERS) :][: len(LISTENERS)]
    return ports


def _ports_in(config: Path) -> list[int]:
    try:
        raw = tomllib.loads(config.read_text(encoding="utf-8"))
        return [int(raw[listener]["listen_port"]) for listener in LISTENERS]
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or none that could be used: it is written anew
        return []


def enrolled(root: Path) -> bool:
    """Whether the tree in this folder has got its keys by enrolment."""
    return any(root.glob("*/ca/root.pem"))


def _config_text(tree: Tree, site: Site, ports: Mapping[OrgId, Sequence[int]], pins: Mapping[OrgId, str]) -> str:
    own = dict(zip(LISTENERS, ports[site.code], strict=True))
    tables: dict[str, dict[str, object]] = {
        "node": {
            "name": site.name,
            "code": str(site.code),
            "tier": site.tier,
            "zone": tree.zone,
            "data_dir": "data",
            "directory": "directory.json",
            "systems": "systems.json",
        },
        "link": {
            "listen_host": HOST,
            "listen_port": own["link"],
            "certificate": "link.pem",
            "key": "link.key",
            "trust": "trust.pem",
        },
        "office": {"listen_host": HOST, "listen_port": own["office"], "certificate": "office.pem", "key": "office.key"},
        "admin": {"listen_host": HOST, "listen_port": own["admin"]},
    }
    if site.parent is not None:
        tables["link"]["parent_url"] = f"https://{HOST}:{ports[site.parent][0]}"
        tables["link"]["parent_code"] = str(site.parent)
        tables["link"]["parent_pins"] = [pins[site.parent]] if pins else []
    if pins:
        tables["link"]["children"] = [{"code": str(child.code), "pins": [pins[child.code]]} for child in tree.children(site.code)]
    else:
        tables["link"] |= {"authority": "ca", "peers": "peers.json"}
    for options in (tree.options, site.options):
        for section, keys in options.items():
            tables.setdefault(section, {}).update(keys)
    return f"# Nút {site.folder}. Ý nghĩa mọi tùy chọn: configs/node.toml.\n" + _toml_text(tables)


def _toml_text(tables: Options) -> str:
    parts = []
    for section, keys in tables.items():
        lines = [f"{key} = {_toml(value)}" for key, value in keys.items() if key != "children"]
        parts.append(f"\n[{section}]\n" + "".join(f"{line}\n" for line in lines))
        children: Any = keys.get("children", ())
        for child in children:
            lines = [f"{key} = {_toml(value)}" for key, value in child.items()]
            parts.append(f"\n[[{section}.children]]\n" + "".join(f"{line}\n" for line in lines))
    return "".join(parts)


def _toml(value: object) -> str:
    """A TOML value. A basic string is escaped as in JSON, only DEL needs more."""
    if isinstance(value, bool | str):
        return _json(value).replace("\x7f", "\\u007F")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)


def _systems_text(path: Path, systems: Sequence[OfficeSystem], given: frozenset[str]) -> str:
    """The register of office systems: secrets that exist stay, and so do systems that an operator added.

    given: every code that the tree gives to some system; an added system that claims one of them gives way.
    """
    known = {row["id"]: row for row in _rows(path)} if path.is_file() else {}
    rows = []
    for system in systems:
        before = known.pop(system.id, {})
        rows.append(
            {
                "id": system.id,
                "codes": [str(code) for code in system.codes],
                "secrets": before.get("secrets") or [secrets.token_hex(SECRET_BYTES)],
                "networks": list(system.networks),
                "disabled": before.get("disabled", False),
                "all_or_nothing": system.all_or_nothing,
            }
        )
    rows += [row for row in known.values() if given.isdisjoint(row["codes"])]
    lines = ",\n".join(f"  {_json(row)}" for row in rows)
    return f'{{"format": "{SYSTEMS_FORMAT}", "systems": [\n{lines}\n]}}\n'


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["systems"]
        complete = all({"id", "codes", "secrets"} <= row.keys() for row in rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        hint = "sửa tệp, hoặc xóa để tạo lại với khóa bí mật mới"
        raise ConfigError([f"{path}: không đọc được danh sách hệ thống — {hint}"])
    return rows


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)

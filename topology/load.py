"""A tree from its TOML file: strict about every key and every code, silent about the laws (`topology.check` knows those).

Knows `node.core`, `node.config` and the model; nothing of folders or processes.
"""

from __future__ import annotations

from datetime import date
from importlib import resources
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, ValidationError

from node.config import ConfigError, NodeConfig, Section, explain, read_toml
from node.core.directory import Connection, Entry
from node.core.errors import Refused
from node.core.identifier import CODE_CHARS_MAX, OrgId
from topology.check import check
from topology.model import OfficeSystem, Site, Tree

SITES_MAX = 20_000
ORGANS_MAX = 200_000
LOOPBACK = ("127.0.0.0/8", "::1/128")
"""Where an office system may call from unless the tree says otherwise: a rehearsal stays on its machine."""

RENDERED = {
    "node": frozenset({"name", "code", "tier", "zone", "data_dir", "directory", "systems"}),
    "link": frozenset({"listen_host", "listen_port", "certificate", "key", "trust", "children"})
    | frozenset({"parent_url", "parent_code", "parent_pins"}),
    "office": frozenset({"listen_host", "listen_port", "certificate", "key"}),
    "admin": frozenset({"listen_host", "listen_port"}),
}
"""Options that follow from the tree and its folder; a tree cannot set them."""


def load(path: Path) -> Tree:
    """Read a tree. Raises `ConfigError` with every problem of form, its line and what to do."""
    text, raw = read_toml(path)
    try:
        return _File.model_validate(raw).value()
    except ValidationError as error:
        raise explain(error, path, text, model=_File) from error


def load_lawful(path: Path) -> Tree:
    """Read a tree that obeys the laws; `ConfigError` names every one it breaks."""
    tree = load(path)
    broken = check(tree)
    if broken:
        raise ConfigError([f"{path}: {problem}" for problem in broken])
    return tree


def default_topology() -> Path:
    """The seven-node tree that comes with the program: beside the package once installed, in `configs/` of a checkout."""
    installed = Path(str(resources.files("topology"))) / "configs" / "demo.toml"
    return installed if installed.is_file() else Path(__file__).parent.parent / "configs" / "demo.toml"


def _code(value: object) -> OrgId:
    if not isinstance(value, str):
        raise ValueError("mã phải là chuỗi — đặt trong dấu nháy kép")
    try:
        return OrgId.canonical(value)
    except Refused as refused:
        raise ValueError(f"{value!r} không phải mã cấp 1 đứng trước, chữ hoa [{refused.reason}] — sửa mã") from refused


def _organ_code(code: OrgId) -> OrgId:
    if not code.path:
        raise ValueError("mã rỗng chỉ dành cho nút gốc — ghi mã của cơ quan")
    return code


def _network(value: str) -> str:
    try:
        ip_network(value)
    except ValueError:
        raise ValueError(f"{value!r} không phải dải địa chỉ mạng — viết như 10.1.0.0/16") from None
    return value


def _options(value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    for section, keys in value.items():
        if section not in NodeConfig.model_fields:
            raise ValueError(f"không có mục {section} — các mục ở configs/node.toml")
        model: Any = NodeConfig.model_fields[section].annotation
        for key in keys:
            if key not in model.model_fields:
                raise ValueError(f"không có tùy chọn {section}.{key} — các tùy chọn ở configs/node.toml")
            if key in RENDERED.get(section, ()):
                raise ValueError(f"{section}.{key} được suy ra từ cây — xóa dòng này")
    return value


NodeCode = Annotated[OrgId, PlainValidator(_code)]
OrganCode = Annotated[OrgId, PlainValidator(_code), AfterValidator(_organ_code)]
Network = Annotated[str, AfterValidator(_network)]
NodeOptions = Annotated[dict[str, dict[str, Any]], AfterValidator(_options)]
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
Zone = Annotated[str, Field(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=200)]
"""With the longest code before it still a DNS name (253 characters)."""
Text = Annotated[str, Field(min_length=1, max_length=500)]
Label = Annotated[str, Field(max_length=40)]


class _System(Section):
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
    codes: Annotated[tuple[OrganCode, ...], Field(min_length=1)]
    networks: tuple[Network, ...] = LOOPBACK
    all_or_nothing: bool = False

    def value(self) -> OfficeSystem:
        return OfficeSystem(self.id, self.codes, self.networks, self.all_or_nothing)


class _Site(Section):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    code: NodeCode
    tier: Label = ""
    parent: NodeCode | None = None
    prefixes: tuple[OrganCode, ...] | None = None
    systems: tuple[_System, ...] = ()
    options: NodeOptions = Field(default_factory=dict)

    def value(self) -> Site:
        own = (self.code,) if self.code.path else ()
        return Site(
            name=self.name,
            code=self.code,
            tier=self.tier,
            parent=self.parent,
            prefixes=own if self.prefixes is None else self.prefixes,
            systems=tuple(system.value() for system in self.systems),
            options=self.options,
        )


class _Organ(Section):
    code: OrganCode
    name: Text
    old_code: Annotated[str, Field(max_length=CODE_CHARS_MAX)] | None = None
    aliases: tuple[Text, ...] = ()
    kind: Label = ""
    valid_from: date | None = None
    valid_to: date | None = None
    successor: OrganCode | None = None
    receives_for: tuple[OrganCode, ...] = ()
    focal_only: bool = False
    connection: Connection = Connection.NONE
    connection_from: date | None = None

    def value(self) -> Entry:
        old_code = self.code.old_form() or "" if self.old_code is None else self.old_code
        return Entry(**{name: getattr(self, name) for name in type(self).model_fields} | {"old_code": old_code})


class _Axis(Section):
    name: Text
    code: Annotated[str, Field(min_length=1, max_length=CODE_CHARS_MAX)]


class _File(Section):
    zone: Zone
    version: Annotated[int, Field(ge=1)] = 1
    axis: _Axis
    options: NodeOptions = Field(default_factory=dict)
    sites: Annotated[tuple[_Site, ...], Field(min_length=1, max_length=SITES_MAX)]
    organs: Annotated[tuple[_Organ, ...], Field(max_length=ORGANS_MAX)] = ()

    def value(self) -> Tree:
        return Tree(
            zone=self.zone,
            axis_name=self.axis.name,
            axis_code=self.axis.code,
            version=self.version,
            sites=tuple(site.value() for site in self.sites),
            entries=tuple(organ.value() for organ in self.organs),
            options=self.options,
        )

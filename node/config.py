"""Every option of a node, its default, its bounds and its meaning: one TOML file, frozen models, nothing unknown passes.

`configs/node.toml` shows all of them (a test proves it complete). Precedence: `TRUC_SECTION__KEY` > file > default.
Relative paths are taken from the folder of the file. Knows no other part of the node.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

KIB = 1024
MIB = 1024 * 1024

Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """`extra="forbid"` is not inherited through nested models by itself, so every section derives from this one."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Node(Section):
    name: str = Field(min_length=1, max_length=100, description="name people read: in the log, the status, the notices")
    code: str = Field(default="", max_length=35, description="main prefix of this node, root first; empty at the hub")
    tier: str = Field(default="", max_length=40, description="a label (trung ương, tỉnh, xã …); nothing depends on it")
    zone: str = Field(default="truc.internal", description="private DNS zone of the tree; the hub's own name")
    data_dir: Path = Field(description="folder for the database and the bodies; mode 0700")
    directory: Path = Field(description="directory file (JSON): codes, validity, successors, prefixes per node")
    systems: Path = Field(description="registered office systems (JSON, mode 0600), kept by `truc system`")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")


class Child(Section):
    code: str = Field(min_length=1, max_length=35, description="main prefix of the child, root first")
    pins: tuple[str, ...] = Field(default=(), description="SHA-256 (hex) of the child's public key (SPKI); two may overlap")


class Link(Section):
    listen_host: str = "127.0.0.1"
    listen_port: Port = 0
    certificate: Path = Field(description="PEM: this node's certificate and the issuing certificates below the root")
    key: Path = Field(description="PEM private key, mode 0600; signs envelope headers too")
    trust: Path = Field(description="PEM: the root certificate(s) of the tree")
    authority: Path | None = Field(default=None, description="folder of this node's own certificate authority, kept by `truc ca`")
    peers: Path | None = Field(default=None, description="nodes below registered by enrolment (JSON, 0600), kept by `truc peer`")
    discovery: bool = Field(
        default=False, description="announce this node in the local network, and look for a lost parent there"
    )
    parent_url: str = Field(default="", description="https://host:port of the parent's link listener; empty at the hub")
    parent_code: str = Field(default="", max_length=35, description="code of the parent (empty = hub); its name is checked")
    parent_pins: tuple[str, ...] = ()
    children: tuple[Child, ...] = ()
    keys_ask_s: float = Field(default=20.0, ge=0.5, le=30, description="how often the parent is asked what is new of keys")
    lists_grace_d: float = Field(default=30.0, ge=3, le=365, description="how long past its end a revocation list still serves")
    pull_wait_s: float = Field(default=25.0, ge=0.1, le=60)
    request_timeout_s: float = Field(default=60.0, ge=1, le=600)
    handshake_timeout_s: float = Field(default=10.0, ge=1, le=60)
    idle_timeout_s: float = Field(default=15.0, ge=5, le=120)
    connections_max: int = Field(default=2000, ge=4)
    connections_per_peer_max: int = Field(default=8, ge=2)
    batch_bytes_max: int = Field(default=1 * MIB, ge=64 * KIB, le=16 * MIB)
    batch_envelopes_max: int = Field(default=500, ge=1, le=10_000)
    body_chunk_bytes: int = Field(default=2 * MIB, ge=4 * KIB, le=8 * MIB, description="the longest piece of a body")
    piece_s: float = Field(default=2.0, ge=0.5, le=30, description="a batch or piece takes no longer, by the measured rate")
    probe_max_s: float = Field(default=10.0, ge=0.05, le=15, description="a restored link is found within 15 s")


class Office(Section):
    listen_host: str = "127.0.0.1"
    listen_port: Port = 0
    certificate: Path = Field(description="PEM server certificate for the listener's host names")
    key: Path
    package_bytes_max: int = Field(default=200 * MIB, ge=64 * KIB)
    unpacked_bytes_max: int = Field(default=1024 * MIB, ge=1 * MIB, description="sum over one package of what its ZIPs hold")
    header_bytes_max: int = Field(default=64 * KIB, ge=8 * KIB, le=1 * MIB)
    request_timeout_s: float = Field(default=60.0, ge=1, le=600)
    body_rate_min: int = Field(default=1 * KIB, ge=1, description="bytes per second a sender must keep over 15 s")
    idle_timeout_s: float = Field(default=20.0, ge=5, le=120)
    connections_max: int = Field(default=2000, ge=4)
    repeat_window_h: float = Field(default=24.0, ge=0, le=240, description="same file, same system: the first DocId again")
    list_max: int = Field(default=1000, ge=1, le=100_000, description="items in one answer of a list")
    fails_max: int = Field(default=5, ge=1, le=100, description="`fail` this often and the item is held for a person")


class Admin(Section):
    listen_host: str = Field(default="127.0.0.1", description="loopback only; other addresses are refused")
    listen_port: Port = 0


class Store(Section):
    group_max: int = Field(default=512, ge=1, le=10_000, description="requests committed together at most")
    inline_bytes_max: int = Field(default=128 * KIB, ge=0, le=1 * MIB, description="larger bodies are files")
    wal_pages_max: int = Field(default=4000, ge=100)
    free_bulk_percent: float = Field(default=10.0, ge=0, le=50, description="below this no new bulk is taken")
    free_urgent_percent: float = Field(default=3.0, ge=0, le=50, description="below this nothing new is taken")


class Forwarding(Section):
    lifetime_d: float = Field(default=7.0, ge=7, le=90, description="hạn chuyển of a document, days")
    hops_max: int = Field(default=24, ge=2, le=64)
    weights: tuple[int, int, int, int, int] = Field(
        default=(6, 20, 8, 6, 5), description="control, hỏa tốc, thượng khẩn, khẩn, thường: share of a full link"
    )
    retry_min_s: float = Field(default=0.2, ge=0.01, le=10)
    retry_max_s: float = Field(default=300.0, ge=1, le=3600, description="cap of the wait after `later`")
    attempts_max: int = Field(default=10, ge=2, le=1000, description="a package the neighbour chokes on is held after these")


class Clock(Section):
    bound_ms: int = Field(default=1000, ge=1, le=3_600_000, description="stated uncertainty of the host clock")
    limit_ms: int = Field(default=120_000, ge=100, le=7_200_000, description="beyond this bound the node is not synchronised")
    drift_ppm: int = Field(default=250, ge=20, le=900, description="how wrong the host's crystal may run, millionths")
    poll_min_s: float = Field(default=16.0, ge=1, le=3600, description="shortest wait between two questions to the parent")
    poll_max_s: float = Field(default=256.0, ge=1, le=7200, description="longest wait between two questions to the parent")


class Calendar(Section):
    folder: Path | None = Field(default=None, description="the owner's working calendar: years that stand for the shipped, hours")


class Report(Section):
    every_s: float = Field(default=10.0, ge=0.5, le=60, description="the open day's figures go up at most this often")
    periods: Literal["calendar", "official"] = Field(default="calendar", description="the owner's periods; official: NĐ 09/2019")
    anonymous: bool = Field(default=False, description="figures of /api/v1/statistics are read without credentials, too")
    late_urgent_h: float = Field(default=4.0, ge=0, le=168, description="khẩn is sent late so long after the day it is dated")
    late_very_urgent_h: float = Field(default=2.0, ge=0, le=168, description="the same of thượng khẩn")
    late_express_h: float = Field(default=1.0, ge=0, le=168, description="the same of hỏa tốc, hẹn giờ or not")
    deliver: Path | None = Field(default=None, description="folder into which the reports of periods that are over are laid")


class Retention(Section):
    handed_over_h: float = Field(default=72.0, ge=0, le=720, description="keep what the neighbour has taken, for a restored one")
    collected_d: float = Field(default=30.0, ge=0, le=3650, description="keep the content of collected items")
    sent_d: float = Field(default=365.0, ge=1, le=3650, description="keep the state of what offices here have sent")
    evidence_d: float = Field(default=90.0, ge=8, le=90, description="keep the receipts that neighbours have signed")
    sweep_s: float = Field(default=30.0, ge=0.1, le=3600, description="pause between rounds of the housekeeper")


class Evidence(Section):
    tsa_url: str = Field(default="", pattern=r"^(https?://\S+)?$", description="RFC 3161 authority that stamps files of evidence")


class NodeConfig(Section):
    """One node. Built by `load` in this file's lower half; every other part receives the section it needs."""

    node: Node
    link: Link
    office: Office
    admin: Admin = Admin()
    store: Store = Store()
    forwarding: Forwarding = Forwarding()
    clock: Clock = Clock()
    retention: Retention = Retention()
    calendar: Calendar = Calendar()
    report: Report = Report()
    evidence: Evidence = Evidence()

    @model_validator(mode="after")
    def _relations(self) -> NodeConfig:
        if self.store.inline_bytes_max > self.link.batch_bytes_max // 2:
            raise ValueError(
                "store.inline_bytes_max: không được quá một nửa link.batch_bytes_max — giảm nó hoặc tăng link.batch_bytes_max"
            )
        if self.store.free_urgent_percent > self.store.free_bulk_percent:
            raise ValueError(
                "store.free_urgent_percent: không được lớn hơn store.free_bulk_percent — văn bản khẩn được nhận lâu hơn"
            )
        if self.node.code and not self.link.parent_url:
            raise ValueError("link.parent_url: còn thiếu — mọi nút trừ nút gốc (node.code rỗng) phải có địa chỉ nút cấp trên")
        if not self.node.code and self.link.parent_url:
            raise ValueError("link.parent_url: nút gốc (node.code rỗng) không có nút cấp trên — xóa dòng này hoặc đặt node.code")
        if self.link.peers is not None and self.link.authority is None:
            raise ValueError('link.authority: còn thiếu — kết nạp nút (link.peers) cần nơi cấp chứng thư, ví dụ authority = "ca"')
        if self.admin.listen_host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("admin.listen_host: chỉ được là 127.0.0.1, ::1 hoặc localhost — cổng quản trị không mở ra mạng")
        return self


ENVIRONMENT_PREFIX = "TRUC_"
COMMAND_VARIABLES = frozenset({"TRUC_CONFIG", "TRUC_LANG"})
"""Variables of the command `truc` itself, not options of a node."""
SHOWN_CHARS_MAX = 60


class Origin(StrEnum):
    """Where the value in force was set."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"


Origins = Mapping[str, Origin]
"""One line per option, in the order of the models: "link.listen_port" -> where its value comes from."""


class ConfigError(Exception):
    """A file that cannot be used. problems: one line each, `file:line: key: what is wrong — what to do`, ready to print."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def load(path: Path, env: Mapping[str, str]) -> tuple[NodeConfig, Origins]:
    """Read a node's configuration and say where each value comes from.

    env: the process environment; of it only `TRUC_*` is looked at, and an unknown one is refused like an unknown key, for a
    mistyped variable must not pass in silence. Raises `ConfigError` with every problem found.
    """
    text, raw = read_toml(path)
    overlay = _from_environment(env)
    merged = _merge(raw, overlay)
    _resolve_paths(merged, path.absolute().parent)
    try:
        config = NodeConfig.model_validate(merged)
    except ValidationError as error:
        variables: dict[tuple[str | int, ...], str] = {
            (section, key): _variable(section, key) for section, keys in overlay.items() for key in keys
        }
        raise explain(error, path, text, model=NodeConfig, variables=variables) from error
    return config, {
        f"{section}.{key}": _origin(section, key, raw, overlay) for section, keys in _options().items() for key in keys
    }


def flat(config: NodeConfig) -> dict[str, Any]:
    """Every option's value by its dotted name, as JSON knows it. Secrets are paths here."""
    sections = config.model_dump(mode="json")
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """The file as text and as parsed. Raises `ConfigError` where it cannot be read or is not TOML."""
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        hint = "kiểm tra đường dẫn và quyền đọc; --config PATH chỉ tệp khác"
        raise ConfigError([f"{path}: không đọc được ({error.strerror}) — {hint}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: không phải văn bản UTF-8 — lưu lại tệp với bảng mã UTF-8"]) from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        where = f"{path}:{found[1]}" if found else str(path)
        raise ConfigError([f"{where}: sai cú pháp TOML ({error}) — sửa dòng này"]) from error


def explain(
    error: ValidationError,
    path: Path,
    text: str,
    *,
    model: type[BaseModel],
    variables: Mapping[tuple[str | int, ...], str] | None = None,
) -> ConfigError:
    """Turn pydantic's findings about `model` into lines for people. variables: option -> the variable that set it, if one did."""
    lines = _line_numbers(text)
    problems = []
    for detail in error.errors():
        loc, problem = _problem(detail, model)
        line = _line_of(loc, lines)
        where = (variables or {}).get(loc[:2]) or (f"{path}:{line}" if line else str(path))
        problems.append(f"{where}: {_dotted(loc)}: {problem}" if loc else f"{where}: {problem}")
    return ConfigError(problems)


def _options() -> dict[str, dict[str, FieldInfo]]:
    return {section: cast("type[Section]", field.annotation).model_fields for section, field in NodeConfig.model_fields.items()}


def _variable(section: str, key: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()


def _origin(section: str, key: str, raw: Mapping[str, Any], overlay: Mapping[str, Mapping[str, Any]]) -> Origin:
    if key in overlay.get(section, {}):
        return Origin.ENVIRONMENT
    return Origin.FILE if key in raw.get(section, {}) else Origin.DEFAULT


def _from_environment(env: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    known = {
        _variable(section, key): (section, key, field) for section, keys in _options().items() for key, field in keys.items()
    }
    overlay: dict[str, dict[str, Any]] = {}
    problems = []
    for name in sorted(env):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in COMMAND_VARIABLES:
            continue
        if name not in known:
            problems.append(f"{name}: không có biến môi trường này — {_did_you_mean(name, known)}")
            continue
        section, key, field = known[name]
        try:
            overlay.setdefault(section, {})[key] = _from_text(env[name], field)
        except tomllib.TOMLDecodeError:
            problems.append(f"{name}: {section}.{key}: không đọc được danh sách — viết a,b,c hoặc như trong TOML: [...]")
    if problems:
        raise ConfigError(problems)
    return overlay


def _from_text(text: str, field: FieldInfo) -> Any:
    """A list is written `a,b,c` or, where it holds tables, as in TOML; pydantic reads all else from its text."""
    if get_origin(field.annotation) is not tuple:
        return text
    if text.lstrip().startswith("["):
        return tomllib.loads(f"value = {text}")["value"]
    return [part.strip() for part in text.split(",") if part.strip()]


def _merge(raw: Mapping[str, Any], overlay: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    merged = {section: dict(table) if isinstance(table, dict) else table for section, table in raw.items()}
    for section, keys in overlay.items():
        table = merged.setdefault(section, {})
        if isinstance(table, dict):  # else the models refuse the file
            table.update(keys)
    return merged


def _resolve_paths(merged: Mapping[str, Any], folder: Path) -> None:
    """Relative paths start at the file's folder; an empty one is none at all, not that folder."""
    for section, keys in _options().items():
        table = merged.get(section)
        if not isinstance(table, dict):
            continue
        for key, field in keys.items():
            value = table.get(key)
            if field.annotation not in (Path, Path | None) or not isinstance(value, str):
                continue
            if value.strip():
                table[key] = str(folder / value.strip())
            else:
                del table[key]


# --- words of a problem ------------------------------------------------------------------------------------------------

_PROBLEMS = {
    "missing": "còn thiếu — thêm tùy chọn này",
    "int_parsing": "phải là số nguyên — sửa giá trị {input}",
    "int_type": "phải là số nguyên — sửa giá trị {input}",
    "int_from_float": "phải là số nguyên — sửa giá trị {input}",
    "float_parsing": "phải là số — sửa giá trị {input}",
    "float_type": "phải là số — sửa giá trị {input}",
    "finite_number": "phải là số hữu hạn — sửa giá trị {input}",
    "bool_parsing": "phải là true hoặc false — sửa giá trị {input}",
    "bool_type": "phải là true hoặc false — sửa giá trị {input}",
    "string_type": "phải là chuỗi — đặt giá trị {input} trong dấu nháy kép",
    "path_type": "phải là đường dẫn — đặt giá trị {input} trong dấu nháy kép",
    "date_type": "phải là ngày dạng 2026-11-22 — sửa giá trị {input}",
    "date_parsing": "phải là ngày dạng 2026-11-22 — sửa giá trị {input}",
    "date_from_datetime_parsing": "phải là ngày dạng 2026-11-22 — sửa giá trị {input}",
    "enum": "chỉ nhận {expected} — sửa giá trị {input}",
    "tuple_type": "phải là danh sách — đặt giá trị {input} trong [ ]",
    "too_long": "nhiều nhất {max_length} phần tử (đang có {actual_length}) — bớt phần tử",
    "greater_than_equal": "phải từ {ge} trở lên — sửa giá trị {input}",
    "less_than_equal": "phải không quá {le} — sửa giá trị {input}",
    "string_too_short": "phải có ít nhất {min_length} ký tự — sửa giá trị {input}",
    "string_too_long": "phải có nhiều nhất {max_length} ký tự — rút ngắn giá trị {input}",
    "string_pattern_mismatch": "phải có dạng {pattern} — sửa giá trị {input}",
    "model_type": "phải là một mục TOML — viết thành [{key}]",
    "dict_type": "phải là một mục TOML — viết thành [{key}]",
}
"""pydantic's kinds of error that these models can meet; any other keeps pydantic's own words."""


def _problem(detail: ErrorDetails, model: type[BaseModel]) -> tuple[tuple[str | int, ...], str]:
    """Where and what. Relations between options name their option themselves: "link.parent_url: … — …"."""
    loc, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        words = str(context["error"])
        named, separator, rest = words.partition(": ")
        if not loc and separator:
            return tuple(named.split(".")), rest
        return loc, words
    if kind == "extra_forbidden":
        return loc, "không có tùy chọn này — " + _did_you_mean(str(loc[-1]), _siblings(model, loc))
    if kind not in _PROBLEMS:
        return loc, f"{detail['msg']} — sửa giá trị {_shown(detail['input'])}"
    plain = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
    return loc, _PROBLEMS[kind].format(input=_shown(detail["input"]), key=_dotted(loc), **plain)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 3] + "..."


def _siblings(model: type[BaseModel], loc: tuple[str | int, ...]) -> Sequence[str]:
    """The keys that the table around `loc` may hold."""
    for part in loc[:-1]:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        inner = next(iter(get_args(annotation)), annotation)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _did_you_mean(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f"có phải {close[0]}?" if close else "xóa đi hoặc sửa tên"


def _dotted(loc: tuple[str | int, ...]) -> str:
    """("link", "children", 0, "code") -> link.children[0].code"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")


_NAME = r"(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')"
_DOTTED = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")


def _line_numbers(text: str) -> dict[tuple[str | int, ...], int]:
    """Where each key and table header stands, by a look at the lines; good enough to point at, tomllib tells no positions."""
    lines: dict[tuple[str | int, ...], int] = {}
    tables: dict[tuple[str | int, ...], int] = {}  # arrays of tables: how many were seen
    current: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            current = ()
            names = _names(header[2])
            for position, name in enumerate(names, start=1):
                current = (*current, name)
                if position == len(names) and header[1] == "[[":
                    tables[current] = tables.get(current, 0) + 1
                if current in tables:
                    current = (*current, tables[current] - 1)
            lines.setdefault(current, number)
        elif key := _KEY.match(line):
            lines.setdefault((*current, *_names(key[1])), number)
    return lines


def _names(dotted: str) -> list[str]:
    return [name.strip("\"'") for name in re.findall(_NAME, dotted)]


def _line_of(loc: tuple[str | int, ...], lines: Mapping[tuple[str | int, ...], int]) -> int | None:
    """The key's own line, else that of the nearest table around it."""
    for length in range(len(loc), 0, -1):
        if loc[:length] in lines:
            return lines[loc[:length]]
    return None

"""`truc init`: the folder of a new node: keys that never leave it, requests for certificates, a configuration, no system yet."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from pydantic import ValidationError

from node.adapters import registry
from node.adapters.folders import make_folder, write
from node.cli.face import Command, hosts_option, json_option, listen_option, option
from node.cli.talk import Code, Stop, bad_configuration, json_line, pairs, say, t
from node.config import NodeConfig, explain
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.words import sentence

MADE = ("node.toml", "link.key", "link.csr", "office.key", "office.csr", "systems.json")

TEMPLATE = """\
# Cấu hình của nút, do truc init tạo. Mọi tùy chọn khác: xem configs/node.toml trong mã nguồn của truc.
# Kiểm tra: truc config check --config {config} · Chạy: truc run --config {config}

[node]
name = {name}
code = {code}
tier = {tier}
zone = {zone}
data_dir = "data"
directory = "directory.json"
systems = "systems.json"

# Giữa các nút. listen_host: địa chỉ trong mạng nối các nút; 127.0.0.1 chỉ phục vụ máy này.
[link]
listen_host = {listen}
listen_port = 7443
certificate = "link.pem"
key = "link.key"
trust = "trust.pem"
parent_url = {parent_url}
parent_code = {parent_code}
parent_pins = {parent_pins}
authority = "ca"
peers = "peers.json"
# Nút cấp dưới đăng ký bằng tay, mỗi nút một bảng:
# [[link.children]]
# code = "…"
# pins = ["…"]

# Cho hệ thống quản lý văn bản và điều hành của cơ quan.
[office]
listen_host = {listen}
listen_port = 7444
certificate = "office.pem"
key = "office.key"

# Cho người vận hành và Prometheus, chỉ trên máy này.
[admin]
listen_port = 7445
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the parent's operator needs: the node's one name, and the SHA-256 (hex) of its public key (SPKI)."""

    dns: str
    pin: str


@click.command(
    cls=Command,
    texts=(
        "Tạo thư mục của một nút mới: khóa, yêu cầu cấp chứng thư, cấu hình; in danh tính và việc cần làm tiếp.\n"
        "Không bao giờ ghi đè tệp đã có.",
        "Make the folder of a new node: keys, certificate requests, configuration; print its identity and the next step.\n"
        "Never overwrites a file.",
    ),
)
@option("--dir", "folder", metavar="DIR", required=True, texts=("thư mục của nút", "the node's folder"))
@option("--name", metavar="TEXT", required=True, texts=("tên để người đọc", "the name people read"))
@option(
    "--code", metavar="CODE", default="", texts=("mã chính của nút; bỏ trống: nút gốc", "main prefix of the node; none: the hub")
)
@option("--tier", metavar="TEXT", default="", texts=("nhãn của cấp: tỉnh, xã …", "label of the tier"))
@option(
    "--zone",
    metavar="ZONE",
    default="truc.internal",
    texts=("vùng tên miền của cả cây (truc.internal)", "zone of the tree (truc.internal)"),
)
@option(
    "--parent-url", metavar="URL", default="", texts=("địa chỉ nút cấp trên, https://máy:cổng", "the parent, https://host:port")
)
@option(
    "--parent-code", metavar="CODE", default="", texts=("mã nút cấp trên; bỏ trống: nút gốc", "the parent's code; none: the hub")
)
@hosts_option
@listen_option
@json_option
def command(
    folder: str,
    name: str,
    code: str,
    tier: str,
    zone: str,
    parent_url: str,
    parent_code: str,
    hosts: Sequence[str],
    listen: str,
    as_json: bool,
) -> None:
    place = Path(folder).absolute()
    organ, above = _organ(code), _organ(parent_code)
    values = {"name": name, "code": str(organ), "tier": tier, "zone": zone, "parent_url": parent_url, "parent_code": str(above)}
    text = config_text(place / "node.toml", {**values, "listen": listen})
    check_hosts(hosts)
    identity = _make(place, text, organ.dns_name(zone), hosts or ("localhost",))
    if as_json:
        json_line({"dns": identity.dns, "pin": identity.pin, "config": str(place / "node.toml"), "csr": str(place / "link.csr")})
    else:
        pairs(
            [
                ("dns", identity.dns),
                ("pin", identity.pin),
                ("csr", place / "link.csr"),
                (t("cấu hình", "config"), place / "node.toml"),
            ]
        )
    _next_step(place, hub=not organ.path)


def config_text(path: Path, values: Mapping[str, str | list[str]]) -> str:
    """The configuration of a new node. `Stop` where a value is none that a node could use."""
    text = TEMPLATE.format(config=path, **{key: _toml(value) for key, value in {"parent_pins": [], **values}.items()})
    _refuse_bad(path, text)
    return text


def _organ(text: str) -> OrgId:
    try:
        return OrgId.parse(text) if text else OrgId(())
    except Refused as refused:
        raise Stop(Code.USAGE, (sentence(refused), sentence(refused, "en"))) from None


def _toml(value: str | list[str]) -> str:
    """A TOML basic string, or a list of them; JSON's escapes are TOML's, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _refuse_bad(path: Path, text: str) -> None:
    try:
        NodeConfig.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise bad_configuration(explain(error, path, text, model=NodeConfig).problems) from None


def _make(place: Path, text: str, dns: str, hosts: Sequence[str]) -> Identity:
    """Everything or nothing: a file that is there already stops before the first is written."""
    try:
        make_folder(place, 0o755)
        present = [name for name in MADE if (place / name).exists()]
        if present:
            what = (f"trong {place} đã có {', '.join(present)}", f"{place} holds {', '.join(present)} already")
            raise Stop(Code.FAILED, what, ("chọn thư mục khác bằng --dir", "choose another folder with --dir"))
        link, office, pin = _requests(place, dns, hosts)
        (place / "data").mkdir(mode=0o700, exist_ok=True)
        for name, content in (("link.csr", link), ("office.csr", office), ("node.toml", text)):
            write(place / name, content)
        registry.save(place / "systems.json", ())  # syncs the folder, with all that was made in it
    except OSError as error:
        what = (f"không ghi được {error.filename}: {error.strerror}", f"{error.filename} cannot be written: {error.strerror}")
        raise Stop(Code.NOT_ALLOWED if isinstance(error, PermissionError) else Code.FAILED, what) from None
    return Identity(dns, pin)


def _requests(place: Path, dns: str, hosts: Sequence[str]) -> tuple[str, str, str]:
    """Requests (CSR) for the link and for the office listener, each with a key that is made where it will be used; the pin of
    the link's key."""
    from node.adapters import authority

    link, office = authority.kept_key(place / "link"), authority.kept_key(place / "office")
    return authority.request(link, [dns]), authority.request(office, hosts), authority.pin(link.public_key())


def check_hosts(hosts: Sequence[str]) -> None:
    """`Stop` where one is neither a host name nor an address."""
    from node.adapters import authority

    try:
        for host in hosts:
            authority.general_name(host)
    except ValueError:
        what = (f"tên máy không hợp lệ: {', '.join(hosts)}", f"not a host name: {', '.join(hosts)}")
        raise Stop(Code.USAGE, what, ("dùng tên miền ASCII hoặc địa chỉ IP", "use an ASCII name or an IP address")) from None


def _next_step(place: Path, hub: bool) -> None:
    if hub:
        say(
            f"Việc tiếp theo:\n  1. truc ca init --config {place}/node.toml: tạo gốc của cây, chứng thư, danh mục của nút.\n"
            f"     (Có nơi cấp chứng thư riêng: cất link.pem, office.pem, trust.pem, directory.json vào {place}.)\n"
            f"  2. truc run --config {place}/node.toml.",
            f"Next:\n  1. truc ca init --config {place}/node.toml: the tree's root, this node's certificates and directory.\n"
            f"     (With another authority: put link.pem, office.pem, trust.pem, directory.json into {place}.)\n"
            f"  2. truc run --config {place}/node.toml.",
        )
        return
    say(
        f"Việc tiếp theo:\n"
        f"  1. Gửi link.csr và office.csr cho nơi cấp chứng thư; cất kết quả vào {place} thành link.pem, office.pem, trust.pem.\n"
        f"  2. Báo dns và pin cho người vận hành nút cấp trên để đăng ký nút này; nhận directory.json từ đó.\n"
        f"  3. truc config check --config {place}/node.toml, rồi truc run --config {place}/node.toml.",
        f"Next:\n"
        f"  1. Have link.csr and office.csr certified; put the results into {place} as link.pem, office.pem, trust.pem.\n"
        f"  2. Give dns and pin to the parent's operator, who registers this node; get directory.json from there.\n"
        f"  3. truc config check --config {place}/node.toml, then truc run --config {place}/node.toml.",
    )

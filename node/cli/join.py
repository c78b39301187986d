"""`truc join`: a machine becomes a node of the tree by its parent's invitation: keys, certificates, place, directory."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.adapters import directory_file, registry
from node.adapters.folders import make_folder, write
from node.cli.acts import record_first
from node.cli.face import Command, hosts_option, json_option, listen_option, option
from node.cli.init import check_hosts, config_text
from node.cli.talk import Code, Stop, bad_configuration, json_line, pairs, say, t
from node.cli.trust import files_said, now, now_ms
from node.config import ConfigError, load
from node.core.directory import NodeEntry
from node.core.enrolment import Token
from node.core.errors import Deferred, Reason, Refused
from node.core.words import sentence

if TYPE_CHECKING:
    from node.adapters.http.enrol_client import Granted, Parent

KEY_SHOWN = 16
FIND_S = 6.0
TRY_AGAIN = ("chạy lại đúng lệnh này; khóa đã tạo được giữ lại", "run the same command again; the keys made are kept")
NEW_TOKEN = ("xin nút cấp trên mã mời mới: truc peer invite", "ask the parent for a new token: truc peer invite")
NEXT_STEP = {
    Reason.INVITE_UNKNOWN: NEW_TOKEN,
    Reason.INVITE_EXPIRED: NEW_TOKEN,
    Reason.INVITE_USED: (
        "nếu không phải chính máy này đã dùng, báo ngay nút cấp trên",
        "unless it was this machine, tell the parent at once",
    ),
    Reason.PEER_REGISTERED: (
        "nút cấp trên chạy truc peer transfer nếu đổi máy",
        "the parent runs truc peer transfer for a new machine",
    ),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What this machine asks with. link, below: its requests (CSR). pin: of its key."""

    link: str
    below: str
    pin: str


@click.command(
    cls=Command,
    texts=(
        "Đưa máy này vào cây theo mã mời của nút cấp trên (truc peer invite): khóa, chứng thư, danh mục.\n"
        "Chạy lại được lúc nào cũng được cho đến khi xong. Sau đó: truc run.\n"
        "Không ghi URL: tìm nút cấp trên trong mạng nội bộ, kiểm chứng xong mới nói chuyện với nó.",
        "Join the tree by the parent's token (truc peer invite): keys, certificates, directory.\n"
        "May be repeated at any moment until it is done. Then: truc run.\n"
        "Without URL the parent is looked for in the local network, and proven before anything is said to it.",
    ),
)
@click.argument("url", metavar="[URL]", default="")
@option(
    "--token",
    metavar="TOKEN",
    required=True,
    texts=("mã mời; “-”: đọc từ đầu vào chuẩn", "the token; “-”: read it from standard input"),
)
@option(
    "--dir", "folder", metavar="DIR", default="/etc/truc", texts=("thư mục của nút (/etc/truc)", "the node's folder (/etc/truc)")
)
@hosts_option
@listen_option
@option(
    "--wait",
    "wait_s",
    type=click.IntRange(0, 86_400),
    default=600,
    texts=("chờ duyệt bao nhiêu giây (600)", "how many seconds to wait for approval (600)"),
)
@json_option
def command(url: str, token: str, folder: str, hosts: Sequence[str], listen: str, wait_s: int, as_json: bool) -> None:
    place, read = Path(folder).absolute(), _token(token)
    url = url or asyncio.run(_found(read))
    hosts = hosts or ("localhost", "127.0.0.1")
    check_hosts(hosts)
    with files_said():
        _refuse_unfit(place, url, read)
        asked = _keys(place, read)
        say(f"Dấu khóa của máy này: {asked.pin}", f"This machine's key: {asked.pin}")
        parent, granted = asyncio.run(_enrol(url, read, asked, wait_s))
        node = _keep(place, read, parent, granted, asked)
        # Before the last step, which makes it final: a join that is killed and repeated is two acts, and none is unrecorded.
        record_first(place / "data", "node.join", str(read.code), None, {"parent": str(read.parent), "pin": asked.pin})
        _finish(place, url, read, (node, parent.pin, listen), hosts, granted)
    if as_json:
        json_line({"code": str(read.code), "pin": asked.pin, "parent": str(read.parent), "config": str(place / "node.toml")})
    else:
        pairs([(t("mã", "code"), read.code), ("pin", asked.pin), (t("cấu hình", "config"), place / "node.toml")])
    config = place / "node.toml"
    say(
        f"Máy này đã là nút {read.code}. Việc tiếp theo:\n  truc system add ID --code {read.code} --config {config}\n"
        f"  truc run --config {config}",
        f"This machine is the node {read.code} now. Next:\n  truc system add ID --code {read.code} --config {config}\n"
        f"  truc run --config {config}",
    )


async def _found(token: Token) -> str:
    """Where the parent is, by what nodes say of themselves in the local network; each is put to the proof, and hears nothing."""
    from node.adapters import discovery
    from node.adapters.http import enrol_client

    if not discovery.installed():
        what = ("tìm trong mạng nội bộ cần gói zeroconf", "the local network cannot be searched without zeroconf")
        raise Stop(Code.CONFIG, what, (discovery.EXTRA, discovery.EXTRA))
    try:
        found = await discovery.find(token.zone, str(token.parent), FIND_S)
    except OSError:
        found = []
    for host, port in found:
        url = f"https://{host}:{port}"
        try:
            await enrol_client.prove(url, token, now_ms())
        except enrol_client.WrongParent as error:
            say(f"{url} không phải nút cấp trên, bỏ qua ({error.why}).", f"{url} is not the parent, passed over ({error.why}).")
        except OSError:
            continue
        else:
            say(f"Nút cấp trên ở {url}.", f"The parent is at {url}.")
            return url
    what = ("không tìm thấy nút cấp trên trong mạng nội bộ", "the parent is not found in the local network")
    todo = (
        "ghi địa chỉ: truc join https://máy:cổng …; nút cấp trên phải đặt link.discovery = true",
        "give its address: truc join https://host:port …; the parent must set link.discovery = true",
    )
    raise Stop(Code.LATER, what, todo)


def _token(text: str) -> Token:
    try:
        return Token.read(str(sys.stdin.readline()) if text == "-" else text)
    except Refused as refused:
        todo = ("chép lại cả mã mời, một dòng", "copy the whole token, one line")
        raise Stop(Code.USAGE, (sentence(refused), sentence(refused, "en")), todo) from None


def _refuse_unfit(place: Path, url: str, token: Token) -> None:
    """Stop before anything is made where the folder is a node already, or was begun as another one."""
    if not (place / "node.toml").is_file():
        return
    if (place / "link.pem").is_file():
        what = (f"thư mục {place} đã là một nút", f"{place} is a node already")
        raise Stop(
            Code.FAILED, what, ("chạy truc run, hoặc chọn thư mục khác bằng --dir", "run it, or choose another folder with --dir")
        )
    try:
        config, _ = load(place / "node.toml", os.environ)
    except ConfigError as error:
        raise bad_configuration(error.problems) from None
    for option_name, have, want in (
        ("node.code", config.node.code, str(token.code)),
        ("node.zone", config.node.zone, token.zone),
        ("link.parent_code", config.link.parent_code, str(token.parent)),
        ("link.parent_url", config.link.parent_url.rstrip("/"), url.rstrip("/")),
    ):
        if have != want:
            what = (
                f"{place}/node.toml: {option_name} là “{have}”, mã mời này cần “{want}”",
                f"{place}/node.toml: {option_name} is “{have}”, this token needs “{want}”",
            )
            raise Stop(
                Code.FAILED, what, ("sửa tệp, hoặc chọn thư mục khác bằng --dir", "mend it, or choose another folder with --dir")
            )


def _keys(place: Path, token: Token) -> Asked:
    """Keys that are there are kept: who asks again must be who asked before."""
    from node.adapters import authority
    from node.adapters.issuing import Issuing

    make_folder(place, 0o755)
    make_folder(place / "data", 0o700)
    key = authority.kept_key(place / "link")
    below = Issuing(place / "ca", token.zone, token.code).ask()
    return Asked(authority.request(key, [token.code.dns_name(token.zone)]), below, authority.pin(key.public_key()))


async def _enrol(url: str, token: Token, asked: Asked, wait_s: int) -> tuple[Parent, Granted]:
    from node.adapters.http import enrol_client

    try:
        parent = await enrol_client.prove(url, token, now_ms())
    except ValueError:
        what = (f"“{url}” không phải địa chỉ của một nút", f"“{url}” is no address of a node")
        raise Stop(Code.USAGE, what, ("viết như https://máy:cổng", "write https://host:port")) from None
    except enrol_client.WrongParent as error:
        raise _wrong_parent(url, error.why) from None
    except OSError as error:
        reason = str(error) or type(error).__name__
        what = (f"không nối được tới {url}: {reason}", f"no connection to {url}: {reason}")
        raise Stop(Code.LATER, what, TRY_AGAIN) from None
    loop = asyncio.get_running_loop()
    until, told, pin = loop.time() + wait_s, False, asked.pin[:KEY_SHOWN]
    while True:
        try:
            answer = await enrol_client.ask(parent, token, asked.link, asked.below)
        except Refused as refused:
            raise Stop(Code.FAILED, (sentence(refused), sentence(refused, "en")), NEXT_STEP.get(refused.reason)) from None
        except enrol_client.WrongParent as error:
            raise _wrong_parent(url, error.why) from None
        except Deferred as deferred:
            answer = deferred.retry_after_s
        else:
            if not isinstance(answer, float):
                return parent, answer
            if not told:
                told = True
                say(
                    f"Chờ duyệt. Ở nút cấp trên: truc peer approve {token.code} --key {pin}",
                    f"Waits for approval. At the parent: truc peer approve {token.code} --key {pin}",
                )
        if loop.time() + answer > until:
            raise Stop(Code.LATER, ("nút cấp trên chưa duyệt", "the parent has not approved yet"), TRY_AGAIN)
        await asyncio.sleep(answer)


def _wrong_parent(url: str, why: str) -> Stop:
    what = (
        f"máy trả lời ở {url} không phải nút cấp trên ghi trong mã mời ({why}); chưa gửi gì cho nó",
        f"who answers at {url} is not the parent that the token names ({why}); nothing was sent to it",
    )
    todo = (
        "xem lại địa chỉ, đồng hồ máy, và link.peers ở nút cấp trên; nếu vẫn vậy, báo nút cấp trên",
        "check the address, this machine's clock and link.peers at the parent; if it stays so, tell the parent",
    )
    return Stop(Code.FAILED, what, todo)


def _keep(place: Path, token: Token, parent: Parent, granted: Granted, asked: Asked) -> NodeEntry:
    """Look at what was given, then keep all of it but the certificate itself. `Stop` where it is not what was asked for."""
    from node.adapters.http.tls import peer_name, spki_pin
    from node.adapters.issuing import Issuing

    leaf = ssl.PEM_cert_to_DER_cert(granted.certificate.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----")
    if (spki_pin(leaf), peer_name(leaf)) != (
        asked.pin,
        token.code.dns_name(token.zone),
    ) or parent.root.strip() not in granted.trust:
        raise _not_asked_for()
    write(place / "trust.pem", granted.trust)
    write(place / "directory.json", granted.directory)
    try:
        node = directory_file.load(place / "directory.json").node(token.code)
    except directory_file.DirectoryFileError:
        node = None
    if node is None or node.parent != token.parent:
        raise _not_asked_for()
    if granted.authority:
        Issuing(place / "ca", token.zone, token.code).answered(granted.authority, now())
    return node


def _not_asked_for() -> Stop:
    what = ("nút cấp trên trả lời sai: chứng thư hay danh mục không ứng với mã mời", "the parent's answer does not fit the token")
    return Stop(Code.FAILED, what, ("báo người vận hành nút cấp trên", "tell the parent's operator"))


def _finish(place: Path, url: str, token: Token, own: tuple[NodeEntry, str, str], hosts: Sequence[str], granted: Granted) -> None:
    """The rest of the folder. own: the node's place, the parent's pin, the address to listen on. The certificate comes last: with
    it the folder is a node, and until then the same command may be run again."""
    from node.adapters.issuing import Issuing

    node, parent_pin, listen = own
    if not (place / "office.pem").is_file():
        Issuing(place / "ca", token.zone, token.code).own_office(place / "office", hosts, now())
    if not (place / "systems.json").is_file():
        registry.save(place / "systems.json", ())
    if not (place / "node.toml").is_file():
        values: dict[str, str | list[str]] = {"name": node.name, "code": str(node.code), "tier": node.tier, "zone": token.zone}
        values |= {"parent_url": url.rstrip("/"), "parent_code": str(token.parent), "parent_pins": [parent_pin], "listen": listen}
        write(place / "node.toml", config_text(place / "node.toml", values))
    write(place / "link.pem", granted.certificate)

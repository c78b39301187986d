"""`truc ca`: this node's own certificate authority: root at the hub, name-constrained authorities below."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.acts import record
from node.cli.config import load_config
from node.cli.face import Group, config_option, hosts_option, json_option, option, why_option, yes_option
from node.cli.talk import Code, Stop, Texts, config_path, json_line, pairs, say, t, table
from node.cli.trust import authority_of, files_said, now, organ, ready_authority
from node.config import NodeConfig
from node.core.identifier import OrgId

if TYPE_CHECKING:
    from node.adapters.issuing import Issued, Issuing

KINDS = {"node": ("nút", "node"), "authority": ("nơi cấp chứng thư", "authority")}
code_argument = click.argument("code", metavar="CODE")


@click.group(
    cls=Group,
    texts=(
        "Nơi cấp chứng thư của nút: gốc ở nút gốc, mỗi nút bên dưới chỉ cấp được cho tên của mình.",
        "The node's certificate authority: root at the hub, each node below may sign for its own names only.",
    ),
)
def command() -> None:
    pass


@command.command(
    "init",
    texts=(
        "Tạo nơi cấp chứng thư của nút này. Ở nút gốc: gốc của cây, chứng thư và danh mục của chính nút, để chạy được ngay.\n"
        "Chạy lại được: chỉ làm những gì còn thiếu.",
        "Make this node's authority. At the hub: the tree's root, the node's own certificates and directory, ready to run.\n"
        "May be repeated: only what is missing is made.",
    ),
)
@hosts_option
@option(
    "--organ",
    "organs",
    metavar="CODE=NAME",
    multiple=True,
    texts=(
        "cơ quan mà chính nút gốc phục vụ, ghi vào danh mục đầu tiên; lặp lại được",
        "an organ that the hub itself serves; repeatable",
    ),
)
@config_option
@json_option
def init(hosts: tuple[str, ...], organs: tuple[str, ...], as_json: bool) -> None:
    config, _ = load_config()
    issuing = authority_of(config)
    with files_said():
        if config.node.code:
            _ask_above(config, issuing, as_json)
            return
        there = config.link.trust.is_file()
        fingerprint = _found(config, issuing, hosts or ("localhost", "127.0.0.1"), _organs(organs))
    if not there:
        record(config.node.data_dir, "ca.init", config.node.zone, None, {"root": fingerprint})
    if as_json:
        json_line({"folder": str(issuing.folder), "fingerprint": fingerprint, "config": str(config_path())})
    else:
        pairs([(t("thư mục", "folder"), issuing.folder), (t("dấu gốc (SHA-256)", "root (SHA-256)"), fingerprint)])
    say(
        f"Việc tiếp theo:\n  1. truc run --config {config_path()}\n  2. truc peer invite MÃ --name TÊN: mời một nút cấp dưới.\n"
        f"  Khóa gốc {issuing.folder}/root.key nên cất ở nơi khác: chỉ cần khi đổi chứng thư cấp phát.",
        f"Next:\n  1. truc run --config {config_path()}\n  2. truc peer invite CODE --name NAME: invite a node below.\n"
        f"  Keep the root's key {issuing.folder}/root.key elsewhere: only a new issuing certificate needs it.",
    )


def _organs(texts: tuple[str, ...]) -> dict[OrgId, str]:
    pairs = [text.partition("=") for text in texts]
    if not all(name.strip() for _, _, name in pairs):
        what = ("--organ thiếu tên", "--organ lacks a name")
        raise Stop(Code.USAGE, what, ("viết như G22=Văn phòng Chính phủ", "write it as G22=Office of the Government"))
    return {organ(code): name.strip() for code, _, name in pairs}


def _found(config: NodeConfig, issuing: Issuing, hosts: tuple[str, ...], organs: dict[OrgId, str]) -> str:
    from cryptography import x509

    from node.adapters import authority, directory_file
    from node.adapters.folders import write
    from node.core.directory import Connection, Directory, Entry, NodeEntry
    from node.core.identifier import HUB

    at = now()
    trust = issuing.found(at)
    link = config.link
    if not link.certificate.is_file():
        asked = authority.request(authority.kept_key(_stem(link.certificate, link.key)), [config.node.zone])
        write(link.certificate, issuing.issue(HUB, (), asked, "", at).certificate)
    if not config.office.certificate.is_file():
        issuing.own_office(_stem(config.office.certificate, config.office.key), hosts, at)
    if not config.node.directory.is_file():
        hub = NodeEntry(HUB, config.node.name, config.node.tier, None, tuple(organs))
        entries = tuple(Entry(code, name, connection=Connection.OFFICIAL) for code, name in organs.items())
        write(config.node.directory, directory_file.dump(Directory(entries, (hub,), config.node.name, "TRUC", 1)))
    if not link.trust.is_file():
        write(link.trust, trust)
    return authority.fingerprint(x509.load_pem_x509_certificate(trust.encode())).hex()


def _stem(certificate: Path, key: Path) -> Path:
    """The name that a certificate and its key share: link for link.pem and link.key."""
    stem = certificate.with_name(certificate.name.removesuffix(".pem"))
    if (certificate.name, key) != (f"{stem.name}.pem", stem.with_name(f"{stem.name}.key")):
        what = (
            f"{certificate} và {key} phải cùng tên, đuôi .pem và .key",
            f"{certificate} and {key} must be one name, .pem and .key",
        )
        raise Stop(Code.FAILED, what, ("sửa tên tệp trong cấu hình", "mend the names in the configuration"))
    return stem


def _ask_above(config: NodeConfig, issuing: Issuing, as_json: bool) -> None:
    from node.adapters.folders import write

    if issuing.ready():
        say(f"Đã có nơi cấp chứng thư ở {issuing.folder}.", f"There is an authority in {issuing.folder} already.")
        return
    asked = issuing.folder / "issuing.csr"
    write(asked, issuing.ask())
    if as_json:
        json_line({"folder": str(issuing.folder), "csr": str(asked)})
    else:
        pairs([("csr", asked)])
    code = config.node.code
    say(
        f"Việc tiếp theo: nơi cấp chứng thư của nút cấp trên chạy\n"
        f"  truc ca issue {code} --csr link.csr --authority-csr issuing.csr --out THƯ-MỤC\n"
        f"rồi cất link.pem và {issuing.folder}/issuing.pem vào đây. Hoặc để truc join làm tất cả.",
        f"Next: the parent's authority runs\n  truc ca issue {code} --csr link.csr --authority-csr issuing.csr --out FOLDER\n"
        f"then put link.pem and {issuing.folder}/issuing.pem here. Or let truc join do all of it.",
    )


@command.command(
    "issue",
    texts=(
        "Ký chứng thư cho nút CODE theo tệp yêu cầu (CSR) của nút đó. Tên trong chứng thư là của CODE, không phải của tệp.\n"
        "Khóa riêng không rời nút kia. Việc này không đăng ký nút: xem truc peer invite.",
        "Sign for the node CODE after its request (CSR). The name comes from CODE, never from the request.\n"
        "The private key stays there. This does not register the node: see truc peer invite.",
    ),
)
@code_argument
@option("--csr", metavar="FILE", required=True, texts=("yêu cầu của nút (link.csr)", "the node's request (link.csr)"))
@option(
    "--authority-csr",
    "below",
    metavar="FILE",
    texts=("yêu cầu của nơi cấp chứng thư bên dưới", "request of the authority below it"),
)
@option(
    "--prefix",
    "prefixes",
    metavar="CODE",
    multiple=True,
    texts=("mã nút đó còn phụ trách; lặp lại được", "another code the node covers; repeatable"),
)
@option("--out", metavar="DIR", default=".", texts=("thư mục để ghi kết quả (.)", "where the results go (.)"))
@config_option
@json_option
def issue(code: str, csr: str, below: str | None, prefixes: tuple[str, ...], out: str, as_json: bool) -> None:
    from node.adapters.folders import write

    config, _ = load_config()
    issuing, node = ready_authority(config), organ(code)
    with files_said():
        asked = Path(csr).read_text(encoding="utf-8")
        asked_below = Path(below).read_text(encoding="utf-8") if below else ""
        try:
            granted = issuing.issue(node, [organ(each) for each in prefixes], asked, asked_below, now())
        except ValueError as error:
            what = (f"không dùng được tệp yêu cầu: {error}", f"the request cannot be used: {error}")
            raise Stop(
                Code.FAILED, what, ("tạo lại bằng truc init, khóa P-256", "make it anew with truc init, key P-256")
            ) from None
        made = {"link.pem": granted.certificate, "issuing.pem": granted.authority}
        written = [Path(out) / name for name, text in made.items() if text]
        for path in written:
            write(path, made[path.name])
    record(
        config.node.data_dir,
        "ca.issue",
        str(node),
        None,
        {"pin": granted.pin, "prefixes": list(prefixes), "authority": bool(below)},
    )
    if as_json:
        json_line({"code": str(node), "pin": granted.pin, "files": [str(path) for path in written]})
        return
    pairs([("pin", granted.pin), *((t("tệp", "file"), path) for path in written)])


@command.command(
    "list", texts=("Các chứng thư nút này đã cấp, còn dùng hay đã thu hồi.", "What this node has signed, in use or revoked.")
)
@config_option
@json_option
def listed(as_json: bool) -> None:
    config, _ = load_config()
    with files_said():
        rows = ready_authority(config).issued()
    if as_json:
        _json_rows(rows)
        return
    headings = (t("mã", "code"), t("loại", "kind"), t("số hiệu", "serial"), t("hết hạn", "ends"), t("thu hồi", "revoked"))
    cells = (
        (row.code, t(*KINDS[row.kind]), row.serial, row.ends.date(), (row.revoked and row.revoked.date()) or "") for row in rows
    )
    table(headings, cells)


def _json_rows(rows: Iterable[Issued]) -> None:
    for row in rows:
        json_line(row.model_dump(mode="json"))


@command.command(
    "revoke",
    texts=(
        "Thu hồi mọi chứng thư nút này đã cấp cho CODE, cả nơi cấp chứng thư của nó với mọi nút bên dưới, và ký danh sách mới.\n"
        "Danh sách tự đi khắp cây; trong khoảng một phút mọi nút từ chối và cắt kết nối. Không làm lại được.",
        "Revoke all that this node has signed for CODE, its authority and so everything below it, and sign a new list.\n"
        "It travels through the tree; within about a minute every node refuses it and cuts its connections. Cannot be undone.",
    ),
)
@code_argument
@why_option
@yes_option
@config_option
@json_option
def revoke(code: str, why: str, yes: bool, as_json: bool) -> None:
    from node.cli.talk import agree

    config, _ = load_config()
    issuing, node = ready_authority(config), organ(code)
    agree((f"Thu hồi mọi chứng thư của {node}?", f"Revoke every certificate of {node}?"), yes)
    with files_said():
        ended = issuing.revoke(node, why, now())
    if not ended:
        what = (f"không có chứng thư nào của {node} còn hiệu lực", f"{node} has no certificate to revoke")
        raise Stop(Code.FAILED, what, ("xem truc ca list", "see truc ca list"))
    serials = [each.serial for each in ended]
    record(config.node.data_dir, "ca.revoke", str(node), {"valid": serials}, {"revoked": serials}, why)
    if as_json:
        _json_rows(ended)
    say(
        f"Đã thu hồi {len(ended)} chứng thư của {node}; danh sách mới: {issuing.folder}/issuing.crl, nút đang chạy tự truyền đi.",
        f"{len(ended)} certificates of {node} are revoked; the new list, {issuing.folder}/issuing.crl, is passed on by the node.",
    )


@command.command(
    "rotate",
    texts=(
        "Đổi khóa: node (khóa của nút), authority (khóa cấp phát) hoặc root (gốc, ở nút gốc). Cũ và mới cùng dùng được.\n"
        "Nút đang chạy tự xin chứng thư mới, báo các nút liền kề rồi mới chuyển sang; các nút bên dưới tự theo.\n"
        "root --finish: thôi tin gốc cũ và mọi thứ đã ký dưới nó; chỉ khi khóa đó không còn đáng tin, sau ít nhất 7 ngày.",
        "Change a key: node (the node's own), authority (the issuing key) or root (at the hub). Old and new overlap.\n"
        "The running node asks for its new certificate and tells its neighbours before it uses it; nodes below follow.\n"
        "root --finish: trust the old root and all signed below it no longer; only if its key is lost, after 7 days at least.",
    ),
)
@click.argument("what", metavar="WHAT", type=click.Choice(["node", "authority", "root"]))
@option("--finish", is_flag=True, texts=("bước cuối của root: bỏ gốc cũ", "the last step of root: drop the old one"))
@yes_option
@config_option
@json_option
def rotate(what: str, finish: bool, yes: bool, as_json: bool) -> None:
    from node.cli.talk import agree

    config, _ = load_config()
    issuing, hub = ready_authority(config), not config.node.code
    if what == "root" and not hub:
        what_vi = ("gốc của cây chỉ đổi được ở nút gốc", "the root is changed at the hub only")
        raise Stop(Code.USAGE, what_vi)
    if finish and what != "root":
        raise Stop(Code.USAGE, ("--finish chỉ dùng với root", "--finish goes with root only"))
    agree((f"Đổi khóa ({what})?", f"Change the key ({what})?"), yes)
    with files_said():
        if what == "root":
            said = _rotate_root(config, issuing, finish)
        elif what == "authority" and hub:
            issuing.rotate_hub(now())
            said = ("Khóa cấp phát mới đã dùng; các nút bên dưới tự xin lại chứng thư.", "The new issuing key is in use.")
        else:
            said = _wish(config, what)
    record(config.node.data_dir, "ca.rotate", what, None, "finished" if finish else "asked for or begun")
    if as_json:
        json_line({"what": what, "finish": finish})
    say(*said)


def _wish(config: NodeConfig, what: str) -> Texts:
    from node.adapters.folders import write

    write(config.node.data_dir / "renew", f"{what}\n", 0o600)
    return (
        "Nút đang chạy sẽ xin chứng thư mới trong ít giây (chưa chạy thì khi chạy): xem nhật ký, certificate renewed.",
        "The running node asks for it within seconds (one that is not running, when it runs): see certificate renewed.",
    )


def _rotate_root(config: NodeConfig, issuing: Issuing, finish: bool) -> Texts:
    from node.adapters.folders import write

    if finish:
        write(config.link.trust, (issuing.folder / "root.pem").read_text(encoding="ascii"))
        return ("Nút gốc chỉ còn tin gốc mới; các nút bên dưới tự theo.", "The hub trusts the new root alone; the others follow.")
    new, old = issuing.rotate_root(now())
    write(config.link.trust, new + old)
    return (
        "Gốc mới đã dùng, gốc cũ vẫn được tin; các nút bên dưới tự theo trong vài phút.\n"
        f"Khóa gốc cũ nằm ở {issuing.folder}/retired, nên cất ra ngoài. Bỏ hẳn gốc cũ: xem truc ca rotate --help.",
        "The new root is in use, the old one still trusted; the nodes below follow within minutes.\n"
        f"The old root's key is in {issuing.folder}/retired: keep it elsewhere. To drop the old root: truc ca rotate --help.",
    )


@command.command(
    "export",
    texts=(
        "In ra stdout thứ không bí mật: root, chain, crl hoặc office.\n"
        "root: gốc của cây; chain: chuỗi cấp phát; crl: danh sách thu hồi; office: gốc của cổng cho cơ quan.",
        "Print what is no secret: root, chain, crl or office.\n"
        "root: of the tree; chain: issuing certificates; crl: revocation list; office: root of the office listener.",
    ),
)
@click.argument("what", metavar="WHAT", type=click.Choice(["root", "chain", "crl", "office"]))
@config_option
@json_option
def export(what: str, as_json: bool) -> None:
    config, _ = load_config()
    with files_said():
        issuing = authority_of(config) if what in ("root", "office") else ready_authority(config)
        match what:
            case "root":
                text = config.link.trust.read_text(encoding="ascii")
            case "chain":
                text = issuing.chain()
            case "crl":
                text = issuing.revocations(now())
            case _:
                text = (issuing.folder / "office-root.pem").read_text(encoding="ascii")
    if as_json:
        json_line({"what": what, "pem": text})
    else:
        click.echo(text, nl=False)

"""`truc peer`: the nodes right below this one: invited, approved, moved to another machine, turned away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from node.adapters import chance
from node.cli.acts import record
from node.cli.config import load_config
from node.cli.face import Group, config_option, json_option, option, why_option, yes_option
from node.cli.talk import Code, Stop, agree, json_line, say, t, table, when
from node.cli.trust import files_said, now, now_ms, organ, ready_authority, set_option
from node.config import NodeConfig
from node.core.enrolment import HOUR_MS, INVITED_H, INVITED_MAX_H, Invitation
from node.core.errors import Refused
from node.core.identifier import OrgId

if TYPE_CHECKING:
    from node.adapters.enrolment import Enrolment

KEY_CHARS_MIN = 16
STATES = {
    "declared": ("khai trong cấu hình", "declared in the configuration"),
    "registered": ("đã kết nạp", "registered"),
    "invited": ("đã mời", "invited"),
    "waiting": ("chờ duyệt", "waits for approval"),
    "expired": ("lời mời hết hạn", "invitation expired"),
}

code_argument = click.argument("code", metavar="CODE")
name_option = option("--name", metavar="TEXT", default="", texts=("tên để người đọc", "the name people read"))
hours_option = option(
    "--hours",
    type=click.IntRange(1, INVITED_MAX_H),
    default=INVITED_H,
    texts=("lời mời có hiệu lực bao nhiêu giờ (24)", "how many hours the invitation lives (24)"),
)
auto_option = option(
    "--auto", is_flag=True, texts=("không chờ duyệt: ai cầm mã mời thì vào được", "no approval: the token is enough")
)


@click.group(
    cls=Group,
    texts=("Nút cấp dưới: mời vào cây, duyệt, đổi máy, bỏ.", "Nodes below: invite into the tree, approve, transfer, remove."),
)
def command() -> None:
    pass


@command.command(
    "invite",
    texts=(
        "Mời một nút cấp dưới giữ mã CODE và in mã mời: dùng một lần, có hạn, chỉ cho mã đó.\n"
        "Mã đã có nút đăng ký thì bị từ chối: xem truc peer transfer. Mời lại thì mã mời trước hết tác dụng.",
        "Invite a node below for CODE and print the token: for one use, for a time, for this code alone.\n"
        "A code that is registered is refused: see truc peer transfer. Inviting again voids the token before.",
    ),
)
@code_argument
@name_option
@option("--tier", metavar="TEXT", default="", texts=("nhãn của cấp: tỉnh, xã …", "label of the tier"))
@option(
    "--prefix",
    "prefixes",
    metavar="CODE",
    multiple=True,
    texts=("mã nút đó còn phụ trách; lặp lại được", "another code the node covers; repeatable"),
)
@hours_option
@auto_option
@config_option
@json_option
def invite(code: str, name: str, tier: str, prefixes: tuple[str, ...], hours: int, auto: bool, as_json: bool) -> None:
    config, _ = load_config()
    _hand_out(config, organ(code), (name, tier), tuple(map(organ, prefixes)), (hours, auto, False), as_json)


@command.command(
    "transfer",
    texts=(
        "Mời một máy mới thay máy đang giữ mã CODE. Khi máy mới vào, khóa và chứng thư của máy cũ hết tác dụng.",
        "Invite a new machine in the place of the one that holds CODE. Once it is in, the old key and certificates are void.",
    ),
)
@code_argument
@hours_option
@auto_option
@yes_option
@config_option
@json_option
def transfer(code: str, hours: int, auto: bool, yes: bool, as_json: bool) -> None:
    config, _ = load_config()
    node = organ(code)
    with files_said():
        known = {peer.code: peer for peer in _enrolment(config).book().peers}
    if node not in known:
        what = (f"{node} chưa được kết nạp", f"{node} is not registered")
        raise Stop(Code.FAILED, what, ("dùng truc peer invite", "use truc peer invite"))
    agree((f"Cho máy khác giữ mã {node}?", f"Let another machine hold {node}?"), yes)
    _hand_out(config, node, (known[node].name, ""), (), (hours, auto, True), as_json)


def _hand_out(
    config: NodeConfig,
    node: OrgId,
    named: tuple[str, str],
    prefixes: tuple[OrgId, ...],
    terms: tuple[int, bool, bool],
    as_json: bool,
) -> None:
    """named: name and tier. terms: hours, auto, transfer."""
    hours, auto, moving = terms
    ends_ms = now_ms() + hours * HOUR_MS
    asked = Invitation(node, named[0] or str(node), named[1], prefixes, "", ends_ms, auto, moving)
    ready_authority(config)
    enrolment = _enrolment(config)
    with files_said():
        for taken, sibling in enrolment.overshadowed(asked):
            say(
                f"Lưu ý: {taken} nằm trong phần nút {sibling} đang phụ trách; từ khi vào cây, nút mới nhận văn bản của mã này.",
                f"Note: {taken} lies within what the node {sibling} covers; once it has joined, the new node receives for it.",
            )
        try:
            token = enrolment.invite(asked, bytes.fromhex(chance.token()))
        except Refused:
            what = (f"mã {node} đã có nút đăng ký", f"a node is registered under {node} already")
            todo = (
                f"đổi máy: truc peer transfer {node}; khai trong node.toml thì bỏ ở đó trước",
                f"for another machine: truc peer transfer {node}; one that node.toml declares is removed there first",
            )
            raise Stop(Code.FAILED, what, todo) from None
    after = {"name": asked.name, "prefixes": [str(each) for each in prefixes], "auto": auto, "expires_ms": ends_ms}
    if as_json:
        json_line({"code": str(node), "token": token.text(), "expires_ms": ends_ms, "auto": auto, "transfer": moving})
    else:
        click.echo(token.text())  # first: it is shown this once
    record(config.node.data_dir, "peer.transfer" if moving else "peer.invite", str(node), None, after)
    if as_json:
        return
    url = f"https://{config.link.listen_host}:{_port(config)}"
    then = (
        ""
        if auto
        else t(
            f"\nrồi duyệt ở đây: truc peer approve {node} --key DẤU-KHÓA",
            f"\nthen approve it here: truc peer approve {node} --key KEY",
        )
    )
    say(
        f"Mã mời trên đây chỉ in một lần, hết hạn {when(ends_ms)}. Trên máy mới, chạy:\n"
        f"  truc join {url} --token - --dir /etc/truc   (rồi dán mã mời; trên dòng lệnh thì máy ấy ai cũng đọc được){then}",
        f"The token above is printed once and ends {when(ends_ms)}. On the new machine run:\n"
        f"  truc join {url} --token - --dir /etc/truc   (then paste the token; a command line is read by all){then}",
    )


def _port(config: NodeConfig) -> int:
    """Where the node listens: what it says while it runs, for the system may have chosen; else as configured."""
    try:
        return int(json.loads((config.node.data_dir / "run.json").read_text(encoding="ascii"))["link_port"])
    except (OSError, ValueError, KeyError, TypeError):
        return config.link.listen_port


@command.command("list", texts=("Nút cấp dưới và lời mời.", "Nodes below and invitations."))
@config_option
@json_option
def listed(as_json: bool) -> None:
    config, _ = load_config()
    with files_said():
        rows = list(_rows(config, now_ms()))
    if as_json:
        for row in rows:
            json_line(row)
        return
    headings = (t("mã", "code"), t("tên", "name"), t("tình trạng", "state"), t("từ, đến", "since, until"), t("khóa", "key"))
    cells = ((row["code"], row["name"], t(*STATES[row["state"]]), when(row["at_ms"]), row["pin"][:16]) for row in rows)
    table(headings, cells)


def _rows(config: NodeConfig, at_ms: int) -> Iterator[dict[str, Any]]:
    for child in config.link.children:
        pin = child.pins[0] if child.pins else ""
        yield {"code": child.code, "name": "", "state": "declared", "at_ms": None, "pin": pin}
    book = _enrolment(config).book()
    for peer in book.peers:
        yield {"code": str(peer.code), "name": peer.name, "state": "registered", "at_ms": peer.since_ms, "pin": peer.pins[0]}
    for each in book.invitations:
        if each.granted is None:
            state = "expired" if at_ms >= each.expires_ms else "waiting" if each.pin else "invited"
            yield {"code": str(each.code), "name": each.name, "state": state, "at_ms": each.expires_ms, "pin": each.pin}


@command.command(
    "approve",
    texts=(
        "Duyệt khóa đang chờ với mã CODE. Dấu khóa phải đúng như truc join in ở máy kia: ghi nó ở --key, hoặc so khi được hỏi.",
        "Approve the key that waits with CODE. It must be what truc join prints on the other machine: say it with --key, or\n"
        "compare when asked.",
    ),
)
@code_argument
@option("--key", metavar="HEX", default="", texts=("dấu khóa, ít nhất 16 chữ đầu", "the key, its first 16 digits at least"))
@config_option
@json_option
def approve(code: str, key: str, as_json: bool) -> None:
    config, _ = load_config()
    node, enrolment = organ(code), _enrolment(config)
    with files_said():
        waiting = enrolment.book().invitation(node)
        pin = waiting.pin if waiting is not None and waiting.granted is None else ""
        if pin and key:
            _same_key(pin, key)
        elif pin:
            what = (f"Máy kia in dấu khóa {pin}?", f"Does the other machine print the key {pin}?")
            agree(what, False, ("thêm --key với dấu khóa máy kia in", "add --key with what the other machine prints"))
        approved = enrolment.approve(node, pin, now_ms())
    if approved is None:
        what = (f"không có nút nào chờ duyệt với mã {node}", f"no node waits for approval with {node}")
        todo = (
            "xem truc peer list; máy kia phải chạy truc join trước",
            "see truc peer list; the other machine runs truc join first",
        )
        raise Stop(Code.FAILED, what, todo)
    record(config.node.data_dir, "peer.approve", str(node), "waiting", {"pin": approved.pin})
    if as_json:
        json_line({"code": str(node), "pin": approved.pin})
    say(f"Đã duyệt {node}, khóa {approved.pin}.", f"{node} is approved, key {approved.pin}.")


def _same_key(pin: str, said: str) -> None:
    """`Stop` where the key that waits is not the one that the operator read on the other machine."""
    if len(said) < KEY_CHARS_MIN or not pin.startswith(said.lower()):
        what = (f"khóa đang chờ là {pin}, không phải {said}", f"the key that waits is {pin}, not {said}")
        todo = ("chưa duyệt gì; hỏi lại người ở máy kia", "nothing was approved; ask who is at the other machine")
        raise Stop(Code.FAILED, what, todo)


@command.command(
    "remove",
    texts=(
        "Bỏ nút cấp dưới CODE: lần gọi kế tiếp của nó bị từ chối, chứng thư bị thu hồi, lời mời hết tác dụng.\n"
        "Danh mục không đổi: văn bản gửi cho mã đó vẫn nằm chờ ở nút này.",
        "Turn the node CODE away: its next call is refused, its certificates are revoked, its invitation is void.\n"
        "The directory stays: documents for the code go on waiting at this node.",
    ),
)
@code_argument
@why_option
@yes_option
@config_option
@json_option
def remove(code: str, why: str, yes: bool, as_json: bool) -> None:
    config, _ = load_config()
    node = organ(code)
    agree((f"Bỏ nút {node}?", f"Turn {node} away?"), yes)
    with files_said():
        gone = _enrolment(config).remove(node, why, now())
    if not gone:
        what = (f"{node} không phải nút đã kết nạp hay đã mời", f"{node} is neither registered nor invited")
        raise Stop(Code.FAILED, what, ("nút khai trong node.toml thì sửa ở đó", "one that node.toml declares is removed there"))
    record(config.node.data_dir, "peer.remove", str(node), "registered or invited", None, why)
    if as_json:
        json_line({"code": str(node)})
    say(f"Đã bỏ {node}. Có hiệu lực ngay.", f"{node} is turned away, at once.")


def _enrolment(config: NodeConfig) -> Enrolment:
    from node.adapters.enrolment import Enrolment
    from node.cli.trust import authority_of

    book = set_option(config.link.peers, "link.peers", "peers.json")
    declared = frozenset(OrgId.canonical(child.code) for child in config.link.children)
    own = OrgId.canonical(config.node.code)
    files = (config.link.certificate, config.link.trust, config.node.directory)
    return Enrolment(own, config.node.zone, book, authority_of(config), files, declared)

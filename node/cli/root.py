"""The table of commands. Each is imported when it is called, so that `truc --help` and `truc status` answer at once."""

from __future__ import annotations

import click

from node.cli.face import Late, Root, config_option, option
from node.cli.talk import Code

COMMANDS = {
    "run": Late("node.cli.run:command", ("chạy nút", "run the node")),
    "init": Late(
        "node.cli.init:command",
        ("tạo khóa, cấu hình và in danh tính của một nút mới", "make keys and configuration of a new node"),
    ),
    "join": Late(
        "node.cli.join:command", ("đưa máy này vào cây theo lời mời của nút cấp trên", "join the tree by the parent's invitation")
    ),
    "peer": Late(
        "node.cli.peer:command", ("nút cấp dưới: mời, duyệt, đổi máy, bỏ", "nodes below: invite, approve, transfer, remove")
    ),
    "ca": Late("node.cli.ca:command", ("nơi cấp chứng thư của nút", "the node's certificate authority")),
    "directory": Late(
        "node.cli.directory:command",
        ("danh mục mã định danh: xem, nhận, xuất, đóng mã", "the directory of codes: show, import, export, close"),
    ),
    "status": Late("node.cli.status:command", ("tình trạng của nút đang chạy", "how the running node is")),
    "queue": Late("node.cli.queue:command", ("hàng chờ chuyển", "the outbox")),
    "held": Late("node.cli.held:command", ("các mục tạm dừng, chờ người vận hành", "items held for an operator")),
    "trace": Late(
        "node.cli.trace:command", ("lịch sử gửi, nhận của một văn bản tại nút này", "a document's history at this node")
    ),
    "evidence": Late(
        "node.cli.evidence:evidence",
        ("gói bằng chứng về đường đi của một văn bản", "the evidence of a document's way, as one file"),
    ),
    "verify": Late(
        "node.cli.evidence:verify",
        ("kiểm tra một gói bằng chứng, không cần nút, không cần mạng", "check a bundle of evidence, without node or network"),
    ),
    "report": Late("node.cli.report:command", ("báo cáo tình hình gửi, nhận", "what was sent and received")),
    "audit": Late(
        "node.cli.audit:command",
        ("việc người quản trị đã làm; nhật ký có nguyên vẹn không", "what persons did; whether the journal is whole"),
    ),
    "system": Late("node.cli.system:command", ("hệ thống quản lý văn bản đã đăng ký", "registered office systems")),
    "config": Late("node.cli.config:command", ("kiểm tra và xem cấu hình", "check and show the configuration")),
    "sandbox": Late("node.cli.sandbox:command", ("cả một cây nút trên máy này, để thử", "a whole tree of nodes on this machine")),
    "topology": Late("node.cli.topology:command", ("kiểm tra và dựng tệp cho một cây nút", "check a tree and render its files")),
    "simulate": Late(
        "node.cli.simulate:command",
        ("diễn tập cả cây trong thời gian ảo, có sự cố", "rehearse a tree under virtual time, with faults"),
    ),
    "bench": Late(
        "node.cli.bench:command",
        ("đo các nút thật trên máy này: nhanh đến đâu, tốn bao nhiêu", "measure real nodes on this machine: speed and cost"),
    ),
    "version": Late("node.cli.version:command", ("phiên bản", "the version")),
}


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from node.cli.version import line

        click.echo(line())
        ctx.exit(Code.DONE)


@click.command(
    cls=Root,
    name="truc",
    late=COMMANDS,
    texts=(
        "Nút liên thông văn bản điện tử theo Quyết định 28/2018/QĐ-TTg.",
        "A gateway for official documents after Decision 28/2018/QĐ-TTg.",
    ),
)
@config_option
@option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    texts=("in phiên bản", "show the version"),
)
def truc() -> None:
    pass

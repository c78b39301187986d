"""`truc audit`: what persons did to this node, and whether its journal is as it was written."""

from __future__ import annotations

import json
from typing import Any

import click

from node.cli.desk import running
from node.cli.face import Group, config_option, json_option, option
from node.cli.talk import Code, Stop, Texts, json_line, say, t, table, when

ROWS = 50_000
LIST_MAX = 10_000
WIDE = 160
"""Characters of what was before and after that a table shows; --json shows all."""
WHAT: dict[str, Texts] = {
    "queue.retry": ("thử lại ngay", "retried"),
    "queue.hold": ("tạm dừng", "held"),
    "queue.release": ("cho chuyển tiếp", "released"),
    "held.release": ("cho chuyển tiếp", "released"),
    "held.drop": ("dừng hẳn việc chuyển", "dropped"),
    "agency.released": ("chấp nhận yêu cầu về mã", "request about a code released"),
    "agency.dropped": ("bỏ yêu cầu về mã", "request about a code dropped"),
    "system.add": ("đăng ký hệ thống", "system registered"),
    "system.rotate": ("đổi khóa của hệ thống", "system's secret rotated"),
    "system.certificate": ("chứng thư của hệ thống", "certificates of a system"),
    "system.disable": ("ngừng, cho dùng lại hệ thống", "system disabled or enabled"),
    "node.join": ("vào cây theo mã mời", "joined the tree by a token"),
    "peer.invite": ("mời nút cấp dưới", "node below invited"),
    "peer.transfer": ("cho máy khác giữ mã", "code given to another machine"),
    "peer.approve": ("duyệt nút cấp dưới", "node below approved"),
    "peer.remove": ("bỏ nút cấp dưới", "node below turned away"),
    "ca.init": ("tạo nơi cấp chứng thư", "authority made"),
    "ca.issue": ("cấp chứng thư", "certificate issued"),
    "ca.rotate": ("đổi khóa của nơi cấp chứng thư, của nút", "key of the authority or node changed"),
    "directory.change": ("sửa danh mục mã định danh", "directory changed"),
    "ca.revoke": ("thu hồi chứng thư", "certificates revoked"),
    "config.change": ("cấu hình khác lần chạy trước", "configuration changed since the last start"),
}
FAULTS: dict[str, Texts] = {
    "altered": ("đã bị sửa", "was altered"),
    "missing": ("đã bị mất", "is missing"),
    "head": ("không còn như lúc đầu nhật ký được ký", "is not what it was when the journal's head was signed"),
    "epoch": (
        "không còn như lúc đầu nhật ký được ký trước khi kho được phục hồi từ bản sao",
        "is not what it was when the journal's head was signed, before the store was restored from a copy",
    ),
}


@click.group(
    cls=Group,
    texts=(
        "Việc người quản trị đã làm với nút này, và nhật ký có còn nguyên như lúc ghi không.",
        "What persons did to this node, and whether its journal is as it was written.",
    ),
)
def command() -> None:
    pass


@command.command("list", texts=("Ai đã làm gì, lúc nào, trước và sau ra sao.", "Who did what and when, before and after."))
@option(
    "--limit",
    type=click.IntRange(1, LIST_MAX),
    default=100,
    texts=("chỉ bấy nhiêu việc gần nhất (100)", "the last (100)"),
)
@json_option
@config_option
def list_(limit: int, as_json: bool) -> None:
    rows: list[dict[str, Any]] = []
    desk = running()
    while len(rows) < limit:
        page = desk.get("/api/audit", before=rows[0]["seq"] if rows else None, limit=min(500, limit - len(rows)))["items"]
        rows = [*page, *rows]
        if not page:
            break
    if as_json:
        for row in rows:
            json_line(row)
        return
    cells = [
        (
            row["seq"],
            when(row.get("done_ms") or row["at_ms"]),
            row["who"],
            t(*WHAT.get(row["what"], (row["what"], row["what"]))),
            row["subject"],
            _plain(row["before"]),
            _plain(row["after"]),
            row["why"],
        )
        for row in rows
    ]
    table(t("hàng|lúc|ai|việc|đối tượng|trước|sau|lý do", "row|at|who|what|subject|before|after|why").split("|"), cells)


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= WIDE else f"{text[:WIDE]}…"


@command.command(
    "verify",
    texts=(
        "Đi lại toàn bộ nhật ký từ hàng đầu, so với các đầu nhật ký đã ký, cả bản nút cấp trên giữ.\n"
        "Hàng bị sửa hay bị mất thì nêu số hàng, mã thoát 1.",
        "Walk the whole journal from its first row and compare it with the signed heads, the parent's copies included.\n"
        "A row that was altered or is missing is named by its number: exit code 1.",
    ),
)
@json_option
@config_option
def verify(as_json: bool) -> None:
    desk = running()
    at: dict[str, Any] = {"seq": 0, "hash": ""}
    done = False
    broken = None
    while not done:
        found = desk.get("/api/audit/walk", seq=at["seq"], hash=at["hash"], limit=ROWS)
        at, done, broken = found["at"], found["done"], found["broken"]
    heads: dict[str, Any] = {"heads": 0, "above": None} if broken else desk.get("/api/audit/heads")
    broken = broken or heads.get("broken")
    if as_json:
        counted = {"rows": at["seq"], "heads": heads["heads"], "heads_above": heads["above"]}
        json_line({"ok": broken is None, **counted, "broken": broken})
    if broken is not None:
        vi, en = FAULTS[broken["fault"]]
        row = broken["seq"]
        todo = ("giữ nguyên hiện trường, báo người quản trị", "touch nothing, tell the administrator")
        raise Stop(Code.FAILED, (f"hàng {row} của nhật ký {vi}", f"row {row} of the journal {en}"), todo)
    above = heads["above"]
    vi_above = "nút cấp trên không trả lời hoặc không có" if above is None else f"{above} đầu nút cấp trên giữ"
    en_above = "no parent, or no answer from it" if above is None else f"{above} kept by the parent"
    say(
        f"Nhật ký nguyên vẹn: {at['seq']} hàng, {heads['heads']} đầu đã ký, {vi_above}.",
        f"The journal is whole: {at['seq']} rows, {heads['heads']} signed heads, {en_above}.",
    )

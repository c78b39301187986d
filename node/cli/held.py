"""`truc held`: what was set aside for a person."""

from __future__ import annotations

import click

from node.cli.desk import running
from node.cli.face import Group, config_option, json_option, option, why_option, yes_option
from node.cli.talk import Code, Stop, agree, because, json_line, say, t, table, when, who

LIST_MAX = 100_000


@click.group(cls=Group, texts=("Các mục tạm dừng, chờ người vận hành.", "Items held for an operator."))
def command() -> None:
    pass


@command.command("list", texts=("Liệt kê các mục tạm dừng và lý do.", "List held items and why."))
@option(
    "--limit", type=click.IntRange(1, LIST_MAX), default=100, texts=("nhiều nhất bao nhiêu mục (100)", "at most this many (100)")
)
@json_option
@config_option
def list_(limit: int, as_json: bool) -> None:
    rows = running().pages("/api/held", limit)
    if as_json:
        for row in rows:
            json_line(row)
        return
    cells = [
        (
            row["item"],
            row["doc_id"],
            row["sender"],
            row["recipient"],
            when(row["since_ms"]),
            row["attempts"],
            because(row["reason"]),
            row["text"],
        )
        for row in rows
    ]
    if not cells:
        say("Không có mục nào tạm dừng.", "Nothing is held.")
        return
    table(
        t("mục|docId|Bên gửi|Bên nhận|từ|lần thử|lý do|chi tiết", "item|docId|sender|recipient|since|tries|reason|detail").split(
            "|"
        ),
        cells,
    )


def _act(action: str, items: tuple[str, ...], why: str) -> None:
    changed = running().post(f"/api/held/{action}", {"items": list(items), "who": who(), "why": why})["changed"]
    say(f"Đã đổi {changed} mục.", f"{changed} changed.")
    if changed < len(items):
        what = (f"{len(items) - changed} mục không còn tạm dừng", f"{len(items) - changed} are no longer held")
        raise Stop(Code.FAILED, what, ("xem truc held list", "see truc held list"))


items_argument = click.argument("items", nargs=-1, required=True, metavar="ITEM...")


@command.command("release", texts=("Cho chuyển tiếp các mục đã tạm dừng.", "Release held items."))
@items_argument
@why_option
@config_option
def release(items: tuple[str, ...], why: str) -> None:
    _act("release", items, why)


@command.command(
    "drop",
    texts=(
        "Dừng hẳn việc chuyển các mục; Bên gửi được báo là không gửi được.",
        "End the transfer of items for good; the sender is told that they could not be sent.",
    ),
)
@items_argument
@option("--why", metavar="TEXT", required=True, texts=("lý do, ghi vào nhật ký", "the reason, for the journal"))
@yes_option
@config_option
def drop(items: tuple[str, ...], why: str, yes: bool) -> None:
    agree((f"Dừng hẳn việc chuyển {len(items)} mục?", f"End the transfer of {len(items)} for good?"), yes)
    _act("drop", items, why)

"""`truc queue`: what waits for the neighbours, and the operator's hand on it."""

from __future__ import annotations

from typing import Any

import click

from node.cli.desk import running
from node.cli.face import Group, config_option, json_option, option, why_option, yes_option
from node.cli.talk import Code, Stop, agree, because, json_line, lang, pairs, say, t, table, when, who
from node.core.words import label

LIST_MAX = 100_000
HUB = "hub"


@click.group(
    cls=Group, texts=("Hàng chờ chuyển: xem, thử lại, tạm dừng, cho chuyển tiếp.", "The outbox: look, retry, hold, release.")
)
def command() -> None:
    pass


neighbour_option = option(
    "--neighbour",
    metavar="CODE",
    texts=("mã của nút liền kề; hub là nút gốc", "code of a neighbour; hub is the hub"),
)


def _neighbour(text: str | None) -> str | None:
    return "" if text == HUB else text


@command.command("list", texts=("Liệt kê hàng chờ chuyển.", "List the outbox."))
@neighbour_option
@option("--state", type=click.Choice(("waiting", "body", "held")), texts=("chỉ một trạng thái", "one state only"))
@option(
    "--limit", type=click.IntRange(1, LIST_MAX), default=100, texts=("nhiều nhất bao nhiêu mục (100)", "at most this many (100)")
)
@json_option
@config_option
def list_(neighbour: str | None, state: str | None, limit: int, as_json: bool) -> None:
    rows = running().pages("/api/queue", limit, neighbour=_neighbour(neighbour), state=state)
    if as_json:
        for row in rows:
            json_line(row)
        return
    found = [_cells(row) for row in rows]
    if not found:
        say("Hàng chờ chuyển trống.", "The outbox is empty.")
        return
    headings = t(
        "mục|trạng thái|luồng|nút liền kề|Bên gửi|Bên nhận|lần thử|thử lại lúc|chờ từ|lý do",
        "item|state|lane|neighbour|sender|recipient|tries|due|since|reason",
    )
    table(headings.split("|"), found)
    if len(found) == limit:
        say(f"Chỉ in {limit} mục đầu; thêm --limit để xem tiếp.", f"Only the first {limit}; --limit shows more.")


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["item"],
        label("outbox", row["state"], lang()) + (t(", chưa rõ kết quả", ", in doubt") if row["in_doubt"] else ""),
        label("lane", row["lane"], lang()),
        row["neighbour"] or t("nút gốc", "hub"),
        row["sender"],
        row["recipient"],
        row["attempts"],
        when(row["due_ms"]),
        when(row["since_ms"]),
        because(row["reason"]),
    )


@command.command("show", texts=("Xem một mục trong hàng chờ chuyển.", "Show one item of the outbox."))
@click.argument("item", type=click.IntRange(0), metavar="ITEM")
@json_option
@config_option
def show(item: int, as_json: bool) -> None:
    row = running().get(f"/api/queue/{item}")
    if as_json:
        json_line(row)
        return
    pairs(
        [
            (t("mục", "item"), row["item"]),
            (t("bì", "envelope"), row["envelope"]),
            ("docId", row["doc_id"]),
            (t("mã định danh văn bản", "DocumentId"), row["document_id"]),
            (t("loại", "kind"), label("kind", row["kind"], lang())),
            (t("mức độ khẩn", "priority"), label("priority", row["priority"], lang())),
            (t("Bên gửi", "sender"), row["sender"]),
            (t("Bên nhận", "recipient"), row["recipient"]),
            (t("nút liền kề", "neighbour"), row["neighbour"] or t("nút gốc", "hub")),
            (t("trạng thái", "state"), label("outbox", row["state"], lang())),
            (t("chưa rõ kết quả", "in doubt"), t("có", "yes") if row["in_doubt"] else t("không", "no")),
            (t("lần thử", "tries"), row["attempts"]),
            (t("chờ từ", "since"), when(row["since_ms"])),
            (t("thử lại lúc", "due"), when(row["due_ms"])),
            (t("lý do", "reason"), because(row["reason"])),
            (t("dung lượng (byte)", "size (bytes)"), row["size_bytes"]),
        ]
    )


def _act(action: str, items: tuple[int, ...], neighbour: str | None, why: str) -> None:
    if bool(items) == (neighbour is not None):
        what = ("cần các số mục, hoặc --neighbour, và chỉ một trong hai", "give item numbers or --neighbour, one of the two")
        raise Stop(Code.USAGE, what, ("xem số mục bằng truc queue list", "truc queue list shows the numbers"))
    body = {"items": list(items), "neighbour": _neighbour(neighbour), "who": who(), "why": why}
    changed = running().post(f"/api/queue/{action}", body)["changed"]
    say(f"Đã đổi {changed} mục.", f"{changed} changed.")
    if not changed:
        raise Stop(
            Code.FAILED, ("không có mục nào đổi trạng thái", "nothing changed"), ("xem truc queue list", "see truc queue list")
        )


items_argument = click.argument("items", nargs=-1, type=click.IntRange(0), metavar="[ITEM]...")


@command.command("retry", texts=("Thử lại ngay, không chờ giãn cách.", "Try again now, whatever the backoff."))
@items_argument
@neighbour_option
@why_option
@config_option
def retry(items: tuple[int, ...], neighbour: str | None, why: str) -> None:
    _act("retry", items, neighbour, why)


@command.command(
    "hold", texts=("Tạm dừng chuyển các mục, hoặc mọi mục đến một nút.", "Hold items, or all that goes to a neighbour.")
)
@items_argument
@neighbour_option
@why_option
@yes_option
@config_option
def hold(items: tuple[int, ...], neighbour: str | None, why: str, yes: bool) -> None:
    if neighbour is not None:
        agree((f"Tạm dừng mọi mục đang chờ chuyển đến {neighbour}?", f"Hold everything that waits for {neighbour}?"), yes)
    _act("hold", items, neighbour, why)


@command.command("release", texts=("Cho chuyển tiếp các mục đã tạm dừng.", "Release held items."))
@items_argument
@neighbour_option
@why_option
@config_option
def release(items: tuple[int, ...], neighbour: str | None, why: str) -> None:
    _act("release", items, neighbour, why)

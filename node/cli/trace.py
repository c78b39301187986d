"""`truc trace`: the history of one document at this node."""

from __future__ import annotations

import click

from node.cli.desk import running
from node.cli.face import Command, config_option, json_option
from node.cli.talk import Code, Stop, because, json_line, lang, t, table, when
from node.core.words import label


@click.command(
    cls=Command,
    texts=(
        "Lịch sử gửi, nhận của một văn bản tại nút này.\nDOCID: docId, mã bì hoặc mã định danh văn bản (để trong dấu nháy).",
        "A document's history at this node.\nDOCID: docId, envelope id or DocumentId (in quotes).",
    ),
)
@click.argument("key", metavar="DOCID")
@json_option
@config_option
def command(key: str, as_json: bool) -> None:
    events = running().get("/api/trace", key=key)["events"]
    if not events:
        what = (f"nút này không có văn bản nào mang mã “{key}”", f"this node knows no document “{key}”")
        raise Stop(Code.FAILED, what, ("kiểm tra mã, hoặc hỏi nút của Bên gửi", "check the id, or ask the sender's node"))
    if as_json:
        for event in events:
            json_line(event)
        return
    cells = [
        (
            when(event["at_ms"]),
            label("event", event["event"], lang()),
            event["recipient"],
            event["neighbour"],
            because(event["reason"]),
            event["detail"],
            event["doc_id"],
            event["envelope"],
        )
        for event in events
    ]
    headings = t(
        "lúc|việc|Bên nhận|nút liền kề|lý do|chi tiết|docId|bì", "at|event|recipient|neighbour|reason|detail|docId|envelope"
    )
    table(headings.split("|"), cells)

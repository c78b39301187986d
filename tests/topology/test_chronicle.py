"""Each node's history of a package put together: in order, the notice apart from the document, recipients of one act together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from topology.chronicle import history, show_addresses, show_table
from topology.office import Rehearsal

NOON_MS = 1_795_320_000_000  # 2026-11-22T11:00:00+07:00
Row = Mapping[str, Any]


class Nodes:
    """A rehearsal whose nodes answer from a table: code of the node to its journal."""

    def __init__(self, journals: Mapping[str, list[Row]]) -> None:
        self.nodes = [{"code": code, "name": f"Nút {code}"} for code in journals]
        self._journals = journals

    async def ask(self, node: Row, path: str, **query: str) -> Row:
        assert (path, query) == ("/api/trace", {"key": "d-1"})
        return {"events": self._journals[node["code"]]}


def row(at: int, event: str, recipient: str = "", neighbour: str = "", *, envelope: str = "e-1", **more: str) -> Row:
    fields = {"doc_id": "d-1", "reason": "", "detail": "", **more}
    return {"at_ms": NOON_MS + at, "event": event, "envelope": envelope, "recipient": recipient, "neighbour": neighbour, **fields}


async def told(**journals: list[Row]) -> list[tuple[str, ...]]:
    nodes = Nodes({code.strip("_"): rows for code, rows in journals.items()})
    return await history(cast(Rehearsal, nodes), "d-1")


async def test_the_acts_of_all_nodes_stand_in_order_of_time() -> None:
    rows = await told(
        _=[row(20, "taken", "H14", "H41"), row(31, "handed-over", "H14", "H14")],
        H41=[row(0, "accepted", neighbour="nghean"), row(25, "handed-over", "H14", "")],
        H14=[row(30, "in-mailbox", "H14", "")],
    )
    assert rows == [
        ("2026-11-22T11:00:00.000+07:00", "H41", "nút tiếp nhận từ hệ thống của Bên gửi", "", "nghean"),
        ("2026-11-22T11:00:00.020+07:00", "gốc", "nút nhận bàn giao từ nút liền kề", "H14", "H41"),
        ("2026-11-22T11:00:00.025+07:00", "H41", "đã bàn giao cho nút liền kề", "H14", "gốc"),
        ("2026-11-22T11:00:00.030+07:00", "H14", "đã về nút của Bên nhận, chờ lấy", "H14", "gốc"),
        ("2026-11-22T11:00:00.031+07:00", "gốc", "đã bàn giao cho nút liền kề", "H14", "H14"),
    ]


async def test_what_one_node_did_at_once_for_several_recipients_is_one_row() -> None:
    rows = await told(H41=[row(0, "accepted"), row(5, "handed-over", "H14", "H1"), row(5, "handed-over", "G22", "H1")])
    assert [each[3] for each in rows] == ["", "H14 G22"]


async def test_the_notice_home_is_told_apart_from_the_document() -> None:
    rows = await told(
        H41=[row(0, "accepted"), row(9, "collected", "H14", detail="at=7")],
        H14=[row(7, "collected", "H14"), row(8, "handed-over", "H41", "", envelope="e-2")],
    )
    assert [each[2] for each in rows[1:]] == [
        "Bên nhận đã lấy về",
        "[thông báo] đã bàn giao cho nút liền kề",
        "nút của Bên gửi biết: Bên nhận đã lấy về",
    ]


async def test_a_status_that_answers_the_document_is_named_but_its_own_road_is_not_told_here() -> None:
    status = row(8, "accepted", envelope="e-3", doc_id="d-2")
    rows = await told(H41=[row(0, "accepted"), row(9, "status", "H14", reason="03"), status])
    assert [each[2] for each in rows[1:]] == ["trạng thái xử lý của Bên nhận: 03 đã tiếp nhận"]


def test_a_table_without_a_terminal_is_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_table("Bảng", ("lúc", "việc"), [("2026", "dài " * 100), ("2027", "[đỏ]\x1b")])
    title, headings, first, second = capsys.readouterr().out.strip().splitlines()
    assert (title, headings.split()) == ("Bảng", ["lúc", "việc"])
    assert first.split() == ["2026", *["dài"] * 100]
    assert second.split() == ["2027", "[đỏ]<U+001B>"]


def test_addresses_name_secrets_by_their_files_only(capsys: pytest.CaptureFixture[str]) -> None:
    node = {"name": "Gốc", "code": "", "public": "https://127.0.0.1:2", "admin": "http://127.0.0.1:3"}
    system = {"id": "vpcp", "secret": "tuyệt mật", "codes": ["G22"]}
    show_addresses(
        {"ca": "/x/ca.pem", "nodes": [{**node, "config": "/x/hub/node.toml", "data": "/x/hub/data", "systems": [system]}]}
    )
    out = capsys.readouterr().out
    assert "tuyệt mật" not in out
    for part in (
        "/x/ca.pem",
        "Gốc [nút gốc]",
        "https://127.0.0.1:2/vxp",
        "vpcp: G22",
        "/x/hub/systems.json",
        "/x/hub/data/admin.token",
    ):
        assert part in out

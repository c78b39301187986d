"""The admin listener: probes for anyone on this machine, the desk only for who holds the token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs
from yarl import URL

from node.adapters.http import admin
from node.adapters.http.admin import admin_app
from node.core import words
from node.core.errors import Deferred, Reason, Refused
from node.core.health import Check
from tests.fake_desk import DOCUMENT_ID, TOKEN, FakeDesk, metrics_text, serve

BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Caller:
    """One client of a listener that really listens."""

    def __init__(self, desk: FakeDesk, session: aiohttp.ClientSession, port: int) -> None:
        self.desk = desk
        self.session = session
        self.port = port

    def url(self, path: str) -> URL:
        return URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)  # goes out as written here

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, str, dict[str, str]]:
        headers = {**BEARER, **options.pop("headers", {})}
        async with self.session.request(method, self.url(path), headers=headers, **options) as answer:
            return answer.status, await answer.text(), dict(answer.headers)

    async def get(self, path: str, **options: Any) -> Any:
        status, text, _ = await self.ask("GET", path, **options)
        assert status == 200, text
        return json.loads(text)

    async def problem(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        status, text, headers = await self.ask(method, path, **options)
        body = json.loads(text)
        assert headers["Content-Type"].startswith("application/problem+json")
        assert body["status"] == status
        assert body["title"]
        return status, body["code"]


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    desk = FakeDesk()
    runner, port = await serve(desk)
    async with aiohttp.ClientSession() as session:
        yield Caller(desk, session, port)
    await runner.cleanup()


async def test_health_readiness_and_metrics_need_no_token(caller: Caller) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        async with caller.session.get(f"http://127.0.0.1:{caller.port}{path}") as answer:
            assert answer.status == 200, path


async def test_health_is_answered_without_asking_anyone(caller: Caller) -> None:
    caller.desk.error = RuntimeError("desk on fire")
    assert (await caller.ask("GET", "/healthz"))[:2] == (200, "ok\n")


async def test_ready_is_told_in_lines(caller: Caller) -> None:
    caller.desk.lines = [Check("database", "+"), Check("parent", "!", "unreachable: since 2026-11-22T10:00:00.123+07:00")]
    status, text, _ = await caller.ask("GET", "/readyz")
    assert status == 200, "a lost parent is a warning: the node stores and forwards"
    assert text == "[+]database ok\n[!]parent unreachable: since 2026-11-22T10:00:00.123+07:00\n"


async def test_only_a_minus_makes_a_node_not_ready(caller: Caller) -> None:
    caller.desk.lines.append(Check("disk", "-", "2% free"))
    status, text, _ = await caller.ask("GET", "/readyz")
    assert status == 503
    assert "[-]disk 2% free\n" in text


async def test_ready_speaks_json_when_asked(caller: Caller) -> None:
    caller.desk.lines = [Check("database", "-", "cannot write")]
    status, text, _ = await caller.ask("GET", "/readyz?format=json")
    assert status == 503
    assert json.loads(text) == {"ready": False, "checks": [{"name": "database", "state": "-", "detail": "cannot write"}]}


async def test_a_detail_cannot_forge_a_line(caller: Caller) -> None:
    caller.desk.lines = [Check("parent", "!", "gone\n[+]parent ok")]
    _, text, _ = await caller.ask("GET", "/readyz")
    assert len(text.splitlines()) == 1


async def test_metrics_are_passed_through_as_prometheus_reads_them(caller: Caller) -> None:
    status, text, headers = await caller.ask("GET", "/metrics")
    assert (status, text) == (200, (await metrics_text()).decode())
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer \u00e9"],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/status"),
        ("GET", "/api/queue"),
        ("GET", "/%61pi/status"),
        ("POST", "/api/queue/hold"),
        ("POST", "/api/held/drop"),
        ("GET", "/x"),
    ],
)
async def test_the_desk_is_closed_without_the_token(caller: Caller, method: str, path: str, authorization: str) -> None:
    """Threats, row 32."""
    assert await caller.problem(method, path, headers={"Authorization": authorization}) == (401, "unauthorised")
    assert caller.desk.done == []


async def test_an_empty_token_is_no_token() -> None:
    with pytest.raises(ValueError, match="empty"):
        admin_app(FakeDesk(), metrics_text, "")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]", "10.0.0.1"]
)
@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/api/status"])
async def test_a_page_that_rebinds_its_name_to_loopback_is_turned_away(caller: Caller, host: str, path: str) -> None:
    """Threats, row 32."""
    assert await caller.problem("GET", path, headers={"Host": host}) == (403, "host-forbidden")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:8080", "[::1]", "[::1]:443"])
async def test_loopback_names_are_served(caller: Caller, host: str) -> None:
    assert (await caller.get("/api/status", headers={"Host": host}))["node"] == "Xã Quảng La"


async def test_the_queue_is_paged_and_narrowed(caller: Caller) -> None:
    caller.desk.rows[2]["neighbour"] = ""
    assert [row["item"] for row in (await caller.get("/api/queue"))["items"]] == [1, 2, 3]
    assert [row["item"] for row in (await caller.get("/api/queue?after=4-0-1-1&limit=1"))["items"]] == [2]
    assert [row["item"] for row in (await caller.get("/api/queue?neighbour="))["items"]] == [3], "the hub's code is empty"
    assert (await caller.get("/api/queue?state=held"))["items"] == []


@pytest.mark.parametrize(
    "query",
    [
        "after=-1",
        "after=x",
        "after=4-0-1",
        "limit=501",
        "limit=1e3",
        "after=0-0-0-99999999999999999",
        "limit=",
        "after=0-0-0-%D9%A1",
    ],
)
async def test_a_number_out_of_bounds_is_refused(caller: Caller, query: str) -> None:
    assert await caller.problem("GET", f"/api/queue?{query}") == (400, "request-malformed")


async def test_one_item_is_shown_and_a_missing_one_is_not_found(caller: Caller) -> None:
    assert (await caller.get("/api/queue/2"))["size_bytes"] == 12345
    assert await caller.problem("GET", "/api/queue/77") == (404, "not-found")


async def test_items_are_retried_in_the_operators_name(caller: Caller) -> None:
    body = {"items": [1, 2], "who": "an", "why": "parent is back"}
    status, text, _ = await caller.ask("POST", "/api/queue/retry", json=body)
    assert (status, json.loads(text)) == (200, {"changed": 2})
    await caller.ask("POST", "/api/queue/hold", json={"neighbour": "", "who": "an"})
    assert caller.desk.done == [("retry", [1, 2], None, "an", "parent is back"), ("hold", [], "", "an", "")]


async def test_held_items_are_listed_released_and_dropped(caller: Caller) -> None:
    assert [row["item"] for row in (await caller.get("/api/held"))["items"]] == ["out-12"]
    assert (await caller.get("/api/held?after=4-0-0-1"))["items"] == []
    await caller.ask("POST", "/api/held/release", json={"items": ["out-12"], "who": "an"})
    await caller.ask("POST", "/api/held/drop", json={"items": ["out-12"], "who": "an", "why": "poison"})
    assert caller.desk.done == [("release", ["out-12"], "an", ""), ("drop", ["out-12"], "an", "poison")]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/queue/retry", {}),
        ("/api/queue/retry", {"who": "an"}),
        ("/api/queue/retry", {"who": "an", "items": [1], "neighbour": "H41"}),
        ("/api/queue/retry", {"who": "", "items": [1]}),
        ("/api/queue/retry", {"who": "an", "items": ["1"]}),
        ("/api/queue/retry", {"who": "an", "items": [-1]}),
        ("/api/queue/retry", {"who": "an", "items": list(range(1001))}),
        ("/api/queue/retry", {"who": "an", "items": [1], "force": True}),
        ("/api/queue/retry", [1]),
        ("/api/held/drop", {"who": "an", "items": []}),
        ("/api/held/drop", {"who": "an", "items": [1]}),
        ("/api/held/drop", {"who": "an", "items": ["x" * 401]}),
    ],
)
async def test_a_malformed_act_changes_nothing(caller: Caller, path: str, body: Any) -> None:
    assert await caller.problem("POST", path, json=body) == (400, "request-malformed")
    assert caller.desk.done == []


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 50_000])
async def test_what_is_not_json_is_refused(caller: Caller, data: bytes) -> None:
    assert await caller.problem("POST", "/api/queue/retry", data=data) == (400, "request-malformed")


async def test_a_body_beyond_the_limit_is_refused(caller: Caller) -> None:
    assert await caller.problem("POST", "/api/queue/retry", data=b" " * (admin.BODY_BYTES_MAX + 1)) == (413, "request-too-large")


async def test_an_unknown_act_an_unknown_path_and_a_wrong_method_are_told_apart(caller: Caller) -> None:
    assert await caller.problem("POST", "/api/queue/explode", json={"who": "an", "items": [1]}) == (400, "operation-unknown")
    assert await caller.problem("POST", "/api/held/hold", json={"who": "an", "items": ["a"]}) == (400, "operation-unknown")
    assert await caller.problem("GET", "/api/nothing") == (404, "not-found")
    assert await caller.problem("DELETE", "/api/held") == (405, "method-not-allowed")


async def test_a_report_and_the_systems_clocks_are_the_desks(caller: Caller) -> None:
    document = {"kind": "connections", "rows": [{"organ": "H41"}], "summary": {"event": "summary"}}
    caller.desk.document, caller.desk.clocks = document, [{"id": "a", "clock_ahead_s": 0.5}]
    assert await caller.get("/api/report?kind=range&period=2026-01-01..2026-01-02&rule=official&organ=H41") == document
    assert (await caller.ask("GET", "/api/report?kind=range&lines=1", headers=BEARER))[1].splitlines() == [
        '{"organ": "H41"}',
        '{"event": "summary"}',
    ]
    caller.desk.done.pop()
    assert caller.desk.done == [("range", "2026-01-01..2026-01-02", "official", "H41")]
    assert await caller.get("/api/systems") == {"items": caller.desk.clocks}


async def test_a_trace_key_may_hold_slashes_commas_and_vietnamese(caller: Caller) -> None:
    async with caller.session.get(
        f"http://127.0.0.1:{caller.port}/api/trace", params={"key": DOCUMENT_ID}, headers=BEARER
    ) as answer:
        assert [event["event"] for event in (await answer.json())["events"]] == ["accepted", "refused"]
    assert caller.desk.asked == [DOCUMENT_ID]


@pytest.mark.parametrize(
    ("query", "code"), [("", "request-malformed"), ("?key=%20", "request-malformed"), ("?key=" + "x" * 401, "value-too-long")]
)
async def test_a_trace_needs_a_key(caller: Caller, query: str, code: str) -> None:
    assert await caller.problem("GET", "/api/trace" + query) == (400, code)


async def test_what_the_desk_refuses_or_puts_off_is_told(caller: Caller) -> None:
    caller.desk.error = Refused(Reason.DOC_UNKNOWN, "docId", "x")
    assert await caller.problem("GET", "/api/status") == (404, "doc-unknown")
    caller.desk.error = Deferred(2.4, Reason.DISK_FULL)
    status, text, headers = await caller.ask("GET", "/api/status")
    assert (status, headers["Retry-After"], json.loads(text)["code"]) == (503, "2", "disk-full")


async def test_a_fault_of_ours_is_logged_and_its_text_is_not_shown(caller: Caller) -> None:
    caller.desk.error = RuntimeError("secret path /var/lib")
    with capture_logs() as logs:
        status, text, _ = await caller.ask("GET", "/api/status")
    assert (status, json.loads(text)["code"]) == (500, "internal")
    assert "/var/lib" not in text
    assert [line["event"] for line in logs] == ["admin request failed"]


async def test_an_answer_that_takes_too_long_is_given_up(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "ANSWER_WITHIN_S", 0.05)

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(caller.desk, "status", never)
    assert await caller.problem("GET", "/api/status") == (503, "not-now")


async def test_every_problem_is_told_in_vietnamese(caller: Caller) -> None:
    caller.desk.error = Refused(Reason.DOC_UNKNOWN, "docId", "x")
    for path, title in (
        ("/api/status", words.sentence(Refused(Reason.DOC_UNKNOWN, "docId", "x"))),
        ("/api/queue/77", "Hàng chờ chuyển không có mục này."),
        ("/api/nothing", "Cổng quản trị không có địa chỉ này."),
    ):
        _, text, _ = await caller.ask("GET", path)
        assert json.loads(text)["title"] == title

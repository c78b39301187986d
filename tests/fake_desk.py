"""A desk with made-up facts, for the admin listener's and the command's tests: it remembers what it was asked to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from node.adapters.http.admin import admin_app
from node.adapters.metrics import Gauges
from node.core.custody import Cursor, Listing
from node.core.health import Check

TOKEN = "mã-truy-cập-0123456789"
NOW_MS = 1_795_316_400_123
DOCUMENT_ID = "000.00.00.H41,2026/11/22,12/QĐ-UBND"


def row(item: int, **changes: Any) -> dict[str, Any]:
    return {
        "item": item,
        "envelope": f"01900000-0000-7000-8000-{item:012}",
        "doc_id": f"doc-{item}",
        "document_id": DOCUMENT_ID,
        "sender": "H41.07",
        "recipient": "H54.02",
        "neighbour": "H41",
        "lane": 3,
        "priority": 1,
        "kind": "edoc",
        "state": "queued",
        "attempts": 2,
        "due_ms": NOW_MS + 5000,
        "since_ms": NOW_MS,
        "reason": "",
        "in_doubt": False,
        **changes,
    }


class FakeDesk:
    """Everything is a plain attribute; a test changes what it needs."""

    def __init__(self) -> None:
        self.evidence_found: dict[str, Any] = {}
        self.audited: list[dict[str, Any]] = []
        self.recorded: list[dict[str, Any]] = []
        self.broken: dict[str, Any] | None = None
        self.head_broken: dict[str, Any] | None = None
        self.facts: dict[str, Any] = {
            "node": "Xã Quảng La",
            "code": "H41.07",
            "tier": "xã",
            "version": "0.1.0",
            "epoch": 1,
            "started_ms": NOW_MS,
            "health": "ok",
            "parent": {"code": "H41", "url": "https://127.0.0.1:7443", "up": True, "since_ms": NOW_MS},
            "children": [],
            "outbox": {"depth": 0, "oldest_age_s": 0},
            "mailbox": {"depth": 3},
            "held": 0,
            "problems": [],
        }
        self.lines: list[Check] = [Check("database", "+"), Check("disk", "+", "62% free")]
        self.rows = [row(number) for number in range(1, 4)]
        self.held_rows: list[dict[str, Any]] = [
            {
                "item": "out-12",
                "envelope": "01900000-0000-7000-8000-000000000012",
                "doc_id": "doc-12",
                "sender": "H41.07",
                "recipient": "H54.02",
                "reason": "internal",
                "text": "Nút liền kề báo lỗi \x1b[31m mười lần.",
                "since_ms": NOW_MS,
                "attempts": 10,
            }
        ]
        self.events: list[dict[str, Any]] = [
            {
                "at_ms": NOW_MS,
                "event": "accepted",
                "envelope": "01900000-0000-7000-8000-000000000001",
                "doc_id": "doc-1",
                "recipient": "H54.02",
                "neighbour": "",
                "reason": "",
                "detail": "",
            },
            {
                "at_ms": NOW_MS + 1000,
                "event": "refused",
                "envelope": "01900000-0000-7000-8000-000000000001",
                "doc_id": "doc-1",
                "recipient": "H02",
                "neighbour": "H41",
                "reason": "recipient-closed",
                "detail": "",
            },
        ]
        self.clocks: list[dict[str, Any]] = []
        self.document: dict[str, Any] = {}
        self.done: list[tuple[Any, ...]] = []
        self.asked: list[str] = []
        self.error: Exception | None = None

    async def status(self) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return self.facts

    async def checks(self) -> Sequence[Check]:
        return self.lines

    async def queue(self, neighbour: str | None, state: str | None, after: Cursor, limit: int) -> Listing:
        wanted = [
            found
            for found in self.rows
            if found["item"] > after[3]
            and (neighbour is None or found["neighbour"] == neighbour)
            and (state is None or found["state"] == state)
        ]
        return wanted[:limit], (4, 0, 0, wanted[limit - 1]["item"]) if len(wanted) > limit else None

    async def queue_item(self, item: int) -> dict[str, Any] | None:
        for found in self.rows:
            if found["item"] == item:
                return {**found, "size_bytes": 12345, "bodies": [], "hops": [{"node": "H41.07", "at_ms": NOW_MS}]}
        return None

    async def queue_act(self, action: str, items: Sequence[int], neighbour: str | None, who: str, why: str) -> int:
        self.done.append((action, list(items), neighbour, who, why))
        return len(items) if items else sum(found["neighbour"] == neighbour for found in self.rows)

    async def held(self, after: Cursor, limit: int) -> Listing:
        seen = max(after[3], 0)
        return self.held_rows[seen : seen + limit], (4, 0, 0, seen + limit) if len(self.held_rows) > seen + limit else None

    async def held_act(self, action: str, items: Sequence[str], who: str, why: str) -> int:
        self.done.append((action, list(items), who, why))
        return sum(found["item"] in items for found in self.held_rows)

    async def trace(self, key: str) -> list[dict[str, Any]]:
        self.asked.append(key)
        return self.events if key in ("doc-1", DOCUMENT_ID) else []

    async def audit(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        return [each for each in self.audited if before is None or each["seq"] < before][-limit:]

    async def act(self, done: Mapping[str, Any]) -> None:
        self.recorded.append(dict(done))

    async def audit_walk(self, seq: int, hexed: str, limit: int) -> dict[str, Any]:
        return {"at": {"seq": seq + 5, "hash": "ab" * 32}, "done": seq >= 5, "broken": self.broken if seq >= 5 else None}

    async def audit_heads(self) -> dict[str, Any]:
        return {"heads": 2, "above": 1, "broken": self.head_broken}

    async def evidence(self, key: str, to: Sequence[str]) -> dict[str, Any]:
        self.asked += [key, *to]
        nothing: dict[str, Any] = {"bundle": "", "many": [], "open": [], "silent": [], "flaw": None}
        return {**nothing, **self.evidence_found}

    async def systems(self) -> list[dict[str, Any]]:
        return self.clocks

    async def report(self, kind: str, period: str, rule: str, organ: str) -> dict[str, Any]:
        self.done.append((kind, period, rule, organ))
        return self.document

    async def gauges(self) -> Gauges:
        return {"truc_parent_up": {(): 1}}


async def metrics_text() -> bytes:
    return b"# HELP truc_parent_up One.\n# TYPE truc_parent_up gauge\ntruc_parent_up 1\n"


async def serve(desk: FakeDesk, token: str = TOKEN) -> tuple[web.AppRunner, int]:
    """The real application on a free loopback port, as the node starts it."""
    runner = web.AppRunner(admin_app(desk, metrics_text, token), access_log=None, auto_decompress=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, int(runner.addresses[0][1])


def announce(data_dir: Path, port: int, token: str = TOKEN) -> None:
    """What a running node leaves in its data folder so that `truc` finds it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "run.json").write_text(json.dumps({"pid": 1, "link_port": 1, "office_port": 2, "admin_port": port}))
    (data_dir / "admin.token").write_text(token, encoding="utf-8")
    (data_dir / "admin.token").chmod(0o600)


async def stay(desk: FakeDesk, data_dir: Path, ready: asyncio.Event, stop: asyncio.Event) -> None:
    """Serve and announce until told to stop."""
    runner, port = await serve(desk)
    announce(data_dir, port)
    ready.set()
    try:
        await stop.wait()
    finally:
        await runner.cleanup()

"""The native door through a real tree: many packages in one request, fetched many at a time as they come, confirmed together."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from node.adapters.http.native_parts import boundary_of, split
from tests.processes.letters import connector, letter
from tests.processes.tree import Tree, eventually

COUNT = 200
WAIT_S = 20


@asynccontextmanager
async def native(tree: Tree, code: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A session of the office system that has this code, on the native door of its node."""
    system = tree.system_of(code)
    async with aiohttp.ClientSession(
        tree.nodes[system.node].public,
        headers={"Authorization": "Basic " + base64.b64encode(f"{system.id}:{system.secret}".encode()).decode()},
        connector=aiohttp.TCPConnector(ssl=tree.tls(), socket_factory=tree.nodes[system.node].dial),
        timeout=aiohttp.ClientTimeout(60),
    ) as session:
        yield session


async def send(session: aiohttp.ClientSession, packages: dict[str, bytes]) -> list[dict[str, Any]]:
    body = b"".join(b"--b\r\nContent-ID: <%b>\r\n\r\n%b\r\n" % (ref.encode(), data) for ref, data in packages.items())
    headers = {"Content-Type": "multipart/mixed; boundary=b"}
    async with session.post("/api/v1/packages", data=body + b"--b--\r\n", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        results: list[dict[str, Any]] = (await answer.json())["results"]
        return results


async def fetch(session: aiohttp.ClientSession, after: str = "") -> tuple[dict[str, Any], dict[str, bytes]]:
    asked = {"wait_s": str(WAIT_S), "limit": "1000"} | ({"after": after} if after else {})
    async with session.get("/api/v1/mailbox", params=asked) as answer:
        assert answer.status == 200, await answer.text()
        index, *parts = split(await answer.read(), boundary_of(answer.headers["Content-Type"]))
    return json.loads(bytes(index.content)), {part.ref: bytes(part.content) for part in parts}


async def done(session: aiohttp.ClientSession, doc_ids: list[str]) -> list[str]:
    async with session.post("/api/v1/mailbox/done", json={"doc_ids": doc_ids}) as answer:
        assert answer.status == 200, await answer.text()
        return [each["status"] for each in (await answer.json())["results"]]


async def test_many_are_sent_in_one_request_fetched_as_they_come_and_confirmed_together(seven: Tree) -> None:
    packages = {f"r{number}": letter("H41.07", "H14.05", number=number, seed="native") for number in range(COUNT)}
    async with native(seven, "H41.07") as sender, native(seven, "H14.05") as receiver:
        held = asyncio.create_task(fetch(receiver))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        results = await send(sender, packages)
        assert [each["ref"] for each in results] == list(packages)
        assert {each["status"] for each in results} == {"accepted"}
        assert [each["status"] for each in await send(sender, packages)] == ["repeated"] * COUNT
        expected = {each["doc_id"]: packages[each["ref"]] for each in results}
        found: dict[str, bytes] = {}
        index, bodies = await held
        assert time.monotonic() - began < WAIT_S, "the held question was answered when something was laid, not at its end"
        while True:
            for item in index["items"]:
                assert hashlib.sha256(bodies[item["doc_id"]]).hexdigest() == item["sha256"]
            found |= bodies
            assert await done(receiver, [item["doc_id"] for item in index["items"]]) == ["ok"] * len(bodies)
            if len(found) == COUNT:
                break
            index, bodies = await fetch(receiver)
        assert found == expected
        async with connector(seven, "H41.07") as sdk:

            async def collected() -> bool:
                lines = {line["senderDocId"]: line["sendStatus"] for line in await sdk.sent()}
                return {lines[doc_id] for doc_id in expected} == {"collected"}

            await eventually(collected, "the sender sees every one collected")


async def test_a_node_that_stops_answers_held_questions_at_once(seven: Tree) -> None:
    node = seven.nodes["H14.05"]
    async with native(seven, "H14.05") as receiver:
        held = asyncio.create_task(fetch(receiver))
        await asyncio.sleep(0.5)
        began = time.monotonic()
        os.kill(node.pid, signal.SIGTERM)
        index, _ = await held
        assert index["items"] == []
        assert time.monotonic() - began < 5
        await eventually(lambda: not node.alive(), "it has stopped")
    node.start()
    await node.ready()

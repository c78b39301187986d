"""The doors of a bench: what they ask of a node, and that anything but a good answer is told. The node is a stand-in."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from topology.bench.doors import DOORS, Door, Native, Vxp, open_door
from topology.native import BOUNDARY, multipart, parts
from topology.office import CallFailed

SYSTEM = {"id": "h51", "secret": "bí mật", "codes": ["H51.1"]}


class Node:
    """Takes and gives packages through both faces. taken: per request the packages that came in it; refuse: not these."""

    def __init__(self) -> None:
        self.url = ""
        self.taken: list[list[bytes]] = []
        self.mailbox: dict[str, bytes] = {}
        self.refuse: set[bytes] = set()
        self.separate = False
        self.damaged = False
        self.more = asyncio.Event()
        self.slow = asyncio.Event()
        self.slow.set()

    def lay(self, *packages: bytes) -> None:
        self.mailbox |= {f"d-{package.decode()}": package for package in packages}
        self.more.set()

    # the vendor's face

    async def vxp(self, request: web.Request) -> web.Response:
        operation = request.match_info["operation"]
        doc_id = request.headers.get("XroadVnpt-docId", "")
        body = await request.read()
        if operation == "downloadEdoc":
            return web.Response(body=self.mailbox.get(doc_id, b""))
        answer: dict[str, Any] = {"status": "OK", "ErrorCode": "0", "ErrorDesc": "", "DocId": doc_id, "data": []}
        if operation == "sendEdoc" and body in self.refuse:
            answer |= {"status": "FAIL", "ErrorDesc": "không nhận"}
        elif operation == "sendEdoc":
            self.taken.append([body])
        elif operation == "getReceivedEdocList":
            answer["data"] = [{"docId": doc_id} for doc_id in self.mailbox]
        elif operation == "updateStatus":
            assert request.headers["XroadVnpt-status"] == "done"
            del self.mailbox[doc_id]
        return web.json_response(answer)

    # the node's own

    async def packages(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Basic " + base64.b64encode("h51:bí mật".encode()).decode()
        await self.slow.wait()
        content_type = request.headers["Content-Type"]
        found = parts(await request.read(), content_type)
        if not content_type.startswith("multipart/"):
            if found[0] in self.refuse:
                return web.json_response({"code": "xml-malformed"}, status=422)
            self.taken.append(found)
            return web.json_response({"doc_id": "d", "repeated": False, "problems": []})
        self.taken.append([each for each in found if each not in self.refuse])
        results = [{"status": "refused" if each in self.refuse else "accepted", "code": "xml-malformed"} for each in found]
        return web.json_response({"results": results})

    async def listed(self, request: web.Request) -> web.Response:
        query = request.query
        while not self.mailbox and query["wait_s"] != "0":
            self.more.clear()
            await self.more.wait()
        given = "damaged" if self.damaged else "separate" if self.separate else "inline"
        items = [{"doc_id": doc_id, "content": given} for doc_id in self.mailbox]
        index = json.dumps({"items": items, "cursor": ""}).encode()
        if query["content"] == "none":
            return web.Response(body=index, content_type="application/json")
        contents = [] if given != "inline" else list(self.mailbox.values())
        body = multipart([index, *contents])
        return web.Response(body=body, headers={"Content-Type": f'multipart/mixed; boundary="{BOUNDARY.decode()}"'})

    async def package(self, request: web.Request) -> web.Response:
        return web.Response(body=self.mailbox[request.match_info["doc_id"]])

    async def done(self, request: web.Request) -> web.Response:
        doc_ids = (await request.json())["doc_ids"]
        results = [{"doc_id": each, "status": "ok" if self.mailbox.pop(each, None) else "refused"} for each in doc_ids]
        return web.json_response({"results": results})


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    app = web.Application()
    app.router.add_route("*", "/vxp/{operation}", node.vxp)
    app.router.add_post("/api/v1/packages", node.packages)
    app.router.add_get("/api/v1/mailbox", node.listed)
    app.router.add_get("/api/v1/mailbox/{doc_id}/package", node.package)
    app.router.add_post("/api/v1/mailbox/done", node.done)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    node.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield node
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, node: Node, session: aiohttp.ClientSession) -> Door:
    return open_door(request.param, session, {"public": node.url}, SYSTEM)


async def collected(door: Door, until: Callable[[], bool]) -> list[bytes]:
    """What the door shows until it is so."""
    found: list[bytes] = []
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        collecting = tasks.create_task(door.collect(found.append, 0.001))
        while not until():
            await asyncio.sleep(0.001)
        collecting.cancel()
    return found


async def test_every_door_hands_in_and_tells_a_refusal(door: Door, node: Node) -> None:
    node.refuse.add(b"bad")
    outcomes = await asyncio.gather(*(door.send(each) for each in (b"a", b"bad", b"c")), return_exceptions=True)
    assert outcomes[0] is None and outcomes[2] is None
    assert isinstance(outcomes[1], CallFailed)
    assert sorted(each for request in node.taken for each in request) == [b"a", b"c"]


async def test_every_door_collects_each_package_once_and_confirms_it(door: Door, node: Node) -> None:
    packages = [b"%d" % number for number in range(30)]
    node.lay(*packages)
    assert await door.look() == 30
    assert sorted(await collected(door, lambda: not node.mailbox)) == sorted(packages)
    assert await door.look() == 0


async def test_every_door_tells_of_a_node_that_is_away(door: Door, session: aiohttp.ClientSession) -> None:
    for away in (open_door(kind, session, {"public": "http://127.0.0.1:1"}, SYSTEM) for kind in DOORS):
        for call in (away.send(b"x"), away.look(), away.collect(lambda package: None, 1)):
            with pytest.raises(CallFailed):
                await call


def test_the_kind_decides_on_the_face(door: Door, request: pytest.FixtureRequest) -> None:
    assert isinstance(door, Vxp if request.node.callspec.params["door"] == "vxp" else Native)


async def test_packages_that_wait_at_the_same_time_leave_together(node: Node, session: aiohttp.ClientSession) -> None:
    door = Native(session, node.url, "h51", "bí mật", many=10)
    await asyncio.gather(*(door.send(b"%d" % number) for number in range(25)))
    assert [len(request) for request in node.taken] == [10, 10, 5]
    assert sorted(int(each) for request in node.taken for each in request) == list(range(25))


async def test_one_package_goes_alone_through_the_single_door(node: Node, session: aiohttp.ClientSession) -> None:
    door = open_door("single", session, {"public": node.url}, SYSTEM)
    await asyncio.gather(*(door.send(b"%d" % number) for number in range(5)))
    assert [len(request) for request in node.taken] == [1] * 5


async def test_a_sender_that_gives_up_leaves_nobody_waiting(node: Node, session: aiohttp.ClientSession) -> None:
    door = Native(session, node.url, "h51", "bí mật")
    node.slow.clear()
    senders = [asyncio.ensure_future(door.send(b"%d" % number)) for number in range(3)]
    await asyncio.sleep(0.05)
    senders[0].cancel()  # the one that has the request in hand
    done, pending = await asyncio.wait(senders, timeout=5)
    assert len(done) == 3 and not pending


async def test_contents_that_lie_apart_are_fetched_one_by_one(node: Node, session: aiohttp.ClientSession) -> None:
    node.separate = True
    node.lay(b"1", b"2")
    door = open_door("native", session, {"public": node.url}, SYSTEM)
    assert sorted(await collected(door, lambda: not node.mailbox)) == [b"1", b"2"]


async def test_a_damaged_content_is_told(node: Node, session: aiohttp.ClientSession) -> None:
    node.damaged = True
    node.lay(b"1")
    with pytest.raises(CallFailed, match="damaged"):
        await open_door("native", session, {"public": node.url}, SYSTEM).collect(lambda package: None, 1)

"""The rehearsal's office signs what a node accepts, reads what a node answers, and says so when it cannot."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from node.adapters.http import vxp_signing as signing
from node.core.office import System
from topology.office import CallFailed, Office, Rehearsal

SYSTEM = System("h41-07.so-noi-vu", (), ("bí mật",))
PACKAGE = b"<edXML>\xff</edXML>"


class Node:
    """The two listeners of a node: keeps what was genuinely signed, answers what a test puts down."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Mapping[str, str], bytes]] = []
        self.answer: object = {"status": "OK", "ErrorCode": "0", "ErrorDesc": "", "DocId": "d-1", "data": []}
        self.url = ""

    async def vxp(self, request: web.Request) -> web.Response:
        presented = signing.present(request.raw_headers, 65536)
        _, signed = signing.verify(presented, {SYSTEM.id: SYSTEM}.get)
        signing.check_headers(signed, request.raw_headers)
        self.calls.append((request.path, signed.values, await request.read()))
        return web.Response(body=self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode())

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text="truc_commits_total 7.0\n")

    async def admin(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != "Bearer open sesame":
            return web.Response(status=401)
        return web.json_response({"key": request.query.get("key", "")})


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    app = web.Application()
    app.router.add_post("/vxp/{operation}", node.vxp)
    app.router.add_get("/vxp/{operation}", node.vxp)
    app.router.add_get("/metrics", node.metrics)
    app.router.add_get("/api/trace", node.admin)
    runner = web.AppRunner(app)
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


@pytest.fixture
def office(node: Node, session: aiohttp.ClientSession) -> Office:
    return Office(session, f"{node.url}/vxp", SYSTEM.id, "bí mật")


async def test_a_package_goes_out_as_it_is_with_its_digest_signed(office: Office, node: Node) -> None:
    assert (await office.send(PACKAGE))["DocId"] == "d-1"
    ((path, values, body),) = node.calls
    assert (path, body) == ("/vxp/sendEdoc", PACKAGE)
    assert values["hash-file"] == "840f30ad3c032036dbcd34b9193d8feb107442758ae98fc8ff9ebf6ac71db195"
    assert (values["messagetype"], values["Content-Type"]) == ("edoc", "application/octet-stream")


async def test_a_refusal_is_an_answer_and_not_an_error(office: Office, node: Node) -> None:
    node.answer = {"status": "FAIL", "ErrorCode": "22", "ErrorDesc": "… [xml-malformed]", "DocId": "", "data": []}
    assert (await office.send(PACKAGE, "status"))["ErrorDesc"] == "… [xml-malformed]"


async def test_lists_and_packages_are_read(office: Office, node: Node) -> None:
    node.answer = {"status": "OK", "data": [{"docId": "d-1"}]}
    assert await office.waiting("status") == [{"docId": "d-1"}]
    assert await office.sent("d-1") == [{"docId": "d-1"}]
    node.answer = {"status": "OK", "data": "PGVkWE1MPv88L2VkWE1MPg=="}
    assert await office.fetch("d-1") == PACKAGE
    assert [(path, values.get("docId"), values.get("messagetype")) for path, values, _ in node.calls] == [
        ("/vxp/getReceivedEdocList", None, "status"),
        ("/vxp/getSentEdocList", "d-1", "edoc"),
        ("/vxp/getEdoc", "d-1", None),
    ]


async def test_a_package_comes_as_a_file_too_and_only_emptiness_is_a_failure(office: Office, node: Node) -> None:
    node.answer = PACKAGE
    assert await office.download("d-1") == PACKAGE
    assert [(path, values["docId"]) for path, values, _ in node.calls] == [("/vxp/downloadEdoc", "d-1")]
    node.answer = b""
    with pytest.raises(CallFailed, match="downloadEdoc"):
        await office.download("d-1")


@pytest.mark.parametrize(
    "answer",
    [{"status": "FAIL", "ErrorCode": "21", "ErrorDesc": "không có", "data": []}, b"<html>503</html>", b"\xff\xfe\xff"],
)
async def test_what_does_not_succeed_is_told(office: Office, node: Node, answer: object) -> None:
    node.answer = answer
    with pytest.raises(CallFailed):
        await office.settle("d-1")


async def test_a_silent_node_is_told(office: Office, session: aiohttp.ClientSession) -> None:
    with pytest.raises(CallFailed, match="sendEdoc"):
        await Office(session, "http://127.0.0.1:1/vxp", SYSTEM.id, "x").send(PACKAGE)


async def test_a_rehearsal_finds_each_office_by_code_and_asks_nodes_with_their_own_token(
    node: Node, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    (tmp_path / "admin.token").write_text("open sesame\n")
    here = {"name": "Gốc", "public": node.url, "admin": node.url, "data": str(tmp_path)}
    systems = [{"id": SYSTEM.id, "secret": "bí mật", "codes": ["H41", "K41"]}]
    rehearsal = Rehearsal({"nodes": [{**here, "systems": systems}]}, session)
    assert rehearsal.offices["H41"] is rehearsal.offices["K41"]
    await rehearsal.offices["K41"].settle("d-1")
    assert node.calls[0][1]["docId"] == "d-1"
    assert await rehearsal.ask(rehearsal.nodes[0], "/api/trace", key="d-1") == {"key": "d-1"}
    assert await rehearsal.metrics(rehearsal.nodes[0]) == "truc_commits_total 7.0\n"
    (tmp_path / "admin.token").write_text("guess\n")
    with pytest.raises(CallFailed, match="Gốc không trả lời"):
        await rehearsal.ask(rehearsal.nodes[0], "/api/trace")

"""Calls in memory: whole, in pieces, cut, hung up, closed on; always through aiohttp's own server, in the life of the node."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from node.adapters.http.listener import Guards, listen
from node.adapters.http.office_vxp import VxpFace, malformed, no_pages
from node.config import Office
from node.core.directory import Entry
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.instant import VIETNAM
from node.core.office import Claim, Fetched, SentLine, Submitted, System, Waiting
from topology import vxp
from topology.native import BOUNDARY, multipart
from topology.sim import door as module
from topology.sim.door import (
    AppDoor,
    Calls,
    Declined,
    NativeCalls,
    NoAnswer,
    NotReached,
    Reply,
    VxpCalls,
    as_request,
    package_in,
    read_reply,
)
from topology.sim.loop import LIFE, Ended, Life, SimLoop

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

GET = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: "
MIB = 1024 * 1024
BLOB = bytes(range(256)) * 4096 * 5
"""5 MiB."""


def play(story: Coroutine[Any, Any, T]) -> T:
    """Run a story in virtual time; a task that failed unseen fails it."""
    loop = SimLoop()
    try:
        result = loop.run_until_complete(story)
        assert loop.problems == []
    finally:
        loop.close()
    return result


async def door_to(handler: Handler, **options: Any) -> AppDoor:
    app = web.Application(client_max_size=16 * MIB)
    app.router.add_route("*", "/{any:.*}", handler)
    door = AppDoor(app, **options)
    await door.setup()
    return door


async def plain(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.method} {request.remote}")


# -- one call ------------------------------------------------------------------------------------------------------------


def test_a_request_is_answered_by_the_real_application() -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(status=201, body=await request.read(), headers={"X-Path": request.path})

    async def story() -> Reply:
        door = await door_to(echo)
        return read_reply(await door.call(as_request("/a/b", "node", {"X-Much": "ít"}, "thân".encode())))

    reply = play(story())
    assert (reply.status, reply.headers["x-path"], reply.body) == (201, "/a/b", "thân".encode())


def test_an_answer_in_chunks_and_one_without_length_are_read_whole() -> None:
    async def streamed(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.version.minor == 1:
            response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(0, len(BLOB), 1_000_003):
            await response.write(BLOB[start : start + 1_000_003])
        return response

    async def story() -> tuple[Reply, Reply]:
        door = await door_to(streamed)
        return read_reply(await door.call(GET)), read_reply(await door.call(GET.replace(b"1.1", b"1.0")))

    chunked, endless = play(story())
    assert chunked.headers["transfer-encoding"] == "chunked" and "content-length" not in endless.headers
    assert chunked.body == endless.body == BLOB


def test_an_interim_answer_is_passed_over() -> None:
    async def story() -> Reply:
        door = await door_to(plain)
        return read_reply(await door.call(as_request("/", "node", {"Expect": "100-continue"}, b"x")))

    assert play(story()).status == 200


def test_a_body_arrives_no_faster_than_it_is_read() -> None:
    """aiohttp stops reading at twice its buffer of 256 KiB; without flow control all of it would stand in memory."""
    heard: list[int] = []

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(1)
        heard.append(request.content.total_bytes)
        return web.Response(text=hashlib.sha256(await request.read()).hexdigest())

    async def story() -> Reply:
        door = await door_to(slow)
        return read_reply(await door.call(as_request("/", "node", {}, BLOB)))

    assert play(story()).body.decode() == hashlib.sha256(BLOB).hexdigest()
    assert 512 * 1024 <= heard[0] <= 700 * 1024


def test_an_answer_leaves_no_faster_than_the_line_takes_it() -> None:
    held: list[int] = []

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(BLOB)
        await response.prepare(request)
        for start in range(0, len(BLOB), 256 * 1024):
            await response.write(BLOB[start : start + 256 * 1024])
            assert request.transport is not None
            held.append(request.transport.get_write_buffer_size())
        return response

    async def story() -> Reply:
        door = await door_to(large)
        return read_reply(await door.call(GET))

    assert play(story()).body == BLOB
    assert max(held) <= module.WRITE_LOW_BYTES


def test_calls_at_once_are_kept_apart() -> None:
    async def echo(request: web.Request) -> web.Response:
        body = await request.read()
        await asyncio.sleep(int(body) % 7)
        return web.Response(body=body)

    async def story() -> list[bytes]:
        door = await door_to(echo)
        raws = await asyncio.gather(*(door.call(as_request("/", "node", {}, b"%d" % number)) for number in range(50)))
        return [read_reply(raw).body for raw in raws]

    assert play(story()) == [b"%d" % number for number in range(50)]


# -- what goes wrong on the way ------------------------------------------------------------------------------------------


@dataclass
class Reader:
    """Reads a body to its end and writes down how that went."""

    heard: int = 0
    ends: list[str] = field(default_factory=list)

    async def read(self, request: web.Request) -> web.StreamResponse:
        try:
            async for chunk in request.content.iter_any():
                self.heard += len(chunk)
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("whole")
        return web.Response()


@pytest.mark.parametrize("arrived", [1, 1000, 300_000])
def test_a_request_cut_in_its_body_breaks_the_handler_off(arrived: int) -> None:
    reader = Reader()
    request = as_request("/", "node", {}, BLOB)

    async def story() -> bytes:
        door = await door_to(reader.read)
        answer = await door.call(request, cut_after=len(request) - len(BLOB) + arrived)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return answer

    assert play(story()) == b""
    assert reader.heard == arrived
    assert reader.ends == ["CancelledError"]


def test_a_request_cut_in_its_head_is_never_heard() -> None:
    reader = Reader()

    async def story() -> bytes:
        return await (await door_to(reader.read)).call(GET, cut_after=20)

    assert play(story()) == b""
    assert reader.ends == []


def test_a_cut_behind_the_end_cuts_nothing() -> None:
    async def story() -> Reply:
        return read_reply(await (await door_to(plain)).call(GET, cut_after=len(GET)))

    assert play(story()).status == 200


def test_hanging_up_cancels_the_handler_and_not_the_others() -> None:
    ends: list[tuple[str, str]] = []

    async def waits(request: web.Request) -> web.Response:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ends.append((request.path, "cancelled"))
            raise
        ends.append((request.path, "done"))
        return web.Response()

    async def story() -> None:
        door = await door_to(waits)
        left = asyncio.create_task(door.call(as_request("/left", "node", {}, b"")))
        stayed = asyncio.create_task(door.call(as_request("/stayed", "node", {}, b"")))
        await asyncio.sleep(1)
        left.cancel()
        assert read_reply(await stayed).status == 200
        assert left.cancelled()
        assert read_reply(await door.call(as_request("/again", "node", {}, b""))).status == 200

    play(story())
    assert ends == [("/left", "cancelled"), ("/stayed", "done"), ("/again", "done")]


def test_an_answer_that_is_broken_off_is_no_answer() -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def story() -> bytes:
        return await (await door_to(breaks)).call(GET)

    raw = play(story())
    assert raw.endswith(b"half")
    with pytest.raises(NoAnswer):
        read_reply(raw)


@pytest.mark.parametrize(("end", "arrived"), [("close", len(HEAD) + 10 + 200_000), ("abort", 0)])
def test_what_was_written_before_a_close_still_arrives_and_before_an_abort_does_not(end: str, arrived: int) -> None:
    still_there: list[bool] = []

    async def ends(request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        transport.write(HEAD + b"200000\r\n\r\n" + bytes(200_000))
        getattr(transport, end)()
        still_there.append(request.transport is transport)
        await asyncio.sleep(1)
        return web.Response()

    async def story() -> bytes:
        return await (await door_to(ends)).call(GET)

    assert len(play(story())) == arrived
    assert still_there == [True]


def test_what_is_no_http_hears_the_words_of_production_and_is_kept_as_a_complaint() -> None:
    async def story() -> tuple[Reply, list[str]]:
        door = await door_to(plain)
        return read_reply(await door.call(b"GET / HTTP/1.1\r\nno field\r\n\r\n")), door.complaints

    reply, complaints = play(story())
    assert vxp.read_answer(reply.body)["status"] == "FAIL"
    assert len(complaints) == 1


def test_an_exception_nobody_caught_is_a_complaint() -> None:
    async def fails(request: web.Request) -> web.Response:
        raise RuntimeError("a bug")

    async def story() -> tuple[Reply, list[str]]:
        door = await door_to(fails)
        return read_reply(await door.call(GET)), door.complaints

    reply, complaints = play(story())
    assert reply.status == 500
    assert "RuntimeError: a bug" in complaints[0]


# -- connections ---------------------------------------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_call_of_the_same_client_until_it_has_idled() -> None:
    async def which(request: web.Request) -> web.Response:
        seen.append(request.transport)
        return web.Response()

    seen: list[object] = []

    async def story() -> None:
        door = await door_to(which, idle_timeout_s=20)
        await door.call(GET)
        await door.call(GET)
        await door.call(GET, remote="10.0.0.9")
        await asyncio.sleep(60)
        await door.call(GET)

    play(story())
    first, second, other, later = seen
    assert first is second
    assert other is not first and later not in (first, other)


def test_a_connection_the_server_closes_is_not_used_again() -> None:
    async def story() -> list[bytes]:
        door = await door_to(plain)
        last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        return [read_reply(await door.call(request)).body for request in (last, last, GET)]

    assert play(story()) == [b"GET 127.0.0.1"] * 3


def test_nobody_is_reached_before_the_door_is_open_and_after_it_is_closed() -> None:
    async def story() -> None:
        door = AppDoor(web.Application())
        with pytest.raises(NotReached):
            await door.call(GET)
        await door.setup()
        assert read_reply(await door.call(GET)).status == 404
        await door.close(1.0)
        with pytest.raises(NotReached):
            await door.call(GET)

    play(story())


@pytest.mark.parametrize(("grace_s", "answered"), [(10.0, True), (1.0, False)])
def test_closing_lets_calls_in_progress_finish_within_the_grace(grace_s: float, answered: bool) -> None:
    async def works(request: web.Request) -> web.Response:
        await asyncio.sleep(3)
        return web.Response()

    async def story() -> tuple[bytes, float]:
        door = await door_to(works)
        call = asyncio.create_task(door.call(GET))
        await asyncio.sleep(1)
        await door.close(grace_s)
        return await call, asyncio.get_running_loop().time()

    raw, now_s = play(story())
    assert (raw != b"") is answered
    assert now_s <= 1 + grace_s


async def test_the_door_has_the_settings_of_the_production_listener() -> None:
    office = Office(certificate=Path("c.pem"), key=Path("k.pem"))
    guards = Guards(9, 9, 9, 5.0, office.idle_timeout_s, office.header_bytes_max)
    listener = await listen(web.Application(), "127.0.0.1", 0, guards, None, malformed)
    door = AppDoor(web.Application())
    await door.setup()
    try:
        here, there = door.listener.http, listener.http
        assert {**here._kwargs, "logger": None} == {**there._kwargs, "logger": None}
        assert here.handler_cancellation is there.handler_cancellation is True
    finally:
        await door.close(1.0)
        await listener.close(1.0)


# -- lives ---------------------------------------------------------------------------------------------------------------


def test_all_that_serves_a_call_belongs_to_the_life_of_the_node() -> None:
    lives: list[str] = []

    def note() -> None:
        life = LIFE.get()
        lives.append("" if life is None else life.name)

    async def handler(request: web.Request) -> web.Response:
        note()
        asyncio.get_running_loop().call_later(1, note)
        await request.read()
        await asyncio.create_task(later())
        return web.Response()

    async def later() -> None:
        note()

    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        door = await Life(loop, "nút").start(door_to(handler))
        await Life(loop, "cơ quan").start(door.call(as_request("/", "node", {}, BLOB)))
        await asyncio.sleep(2)

    play(story())
    assert lives == ["nút", "nút", "nút"]


def test_a_node_that_dies_in_a_call_leaves_nothing_running() -> None:
    ends: list[str] = []

    async def works(request: web.Request) -> web.Response:
        try:
            await asyncio.sleep(10)
        except Ended:
            ends.append("closed")
            raise
        ends.append("worked")
        return web.Response()

    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        life = Life(loop, "nút")
        door = await life.start(door_to(works))
        life.start(door.call(GET))
        await asyncio.sleep(1)
        life.end()
        await asyncio.sleep(100)

    play(story())
    assert ends == ["closed"]


# -- the wire of an office -----------------------------------------------------------------------------------------------

SYSTEM = "so-noi-vu"
SECRET = "bí mật"
NOW = datetime(2026, 11, 23, 7, tzinfo=VIETNAM)


@dataclass
class Node:
    """What stands behind the face: keeps packages by docId."""

    packages: dict[str, bytes] = field(default_factory=dict)
    settled: list[tuple[str, str]] = field(default_factory=list)

    def system(self, system_id: str) -> System | None:
        return System(SYSTEM, (OrgId.canonical("H41.07"),), (SECRET,)) if system_id == SYSTEM else None

    async def submit(self, system: System, chunks: AsyncIterator[bytes], claim: Claim) -> Submitted:
        package = b"".join([chunk async for chunk in chunks])
        self.packages[f"d-{len(self.packages) + 1}"] = package
        return Submitted(f"d-{len(self.packages)}", False, ())

    async def waiting(self, system: System, kind: str) -> Sequence[Waiting]:
        return [Waiting(doc_id, kind, kind, "H14", "H41.07", "initial", 0, 0, 0) for doc_id in self.packages]

    async def count(self, system: System, kind: str) -> int:
        return len(self.packages)

    async def sent(self, system: System, kind: str, doc_id: str | None) -> Sequence[SentLine]:
        return []

    async def owns_sent(self, system: System, doc_id: str) -> bool:
        return doc_id in self.packages

    async def open_deliveries(self, system: System, doc_ids: Sequence[str]) -> Sequence[str]:
        return doc_ids

    async def fetch(self, system: System, doc_id: str) -> Fetched:
        if doc_id not in self.packages:
            raise Refused(Reason.DOC_UNKNOWN, "docId", doc_id)
        return Fetched(doc_id, len(self.packages[doc_id]), self._pieces(self.packages[doc_id]))

    async def _pieces(self, package: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(package), 60_000):
            await asyncio.sleep(0.001)
            yield package[start : start + 60_000]

    async def settle(self, system: System, doc_id: str, word: str) -> None:
        self.settled.append((doc_id, word))

    def said(self) -> dict[OrgId, int]:
        return {}

    async def agencies(self) -> Sequence[Entry]:
        return []

    async def request_agency(self, system: System, action: str, fields: Mapping[str, str]) -> int:
        return 1

    # its clock

    def utc_ms(self) -> int:
        return int(NOW.timestamp()) * 1000

    def bound_ms(self) -> int:
        return 1000

    def synchronised(self) -> bool:
        return True


async def face_of(node: Node) -> AppDoor:
    app = web.Application(middlewares=[no_pages])
    VxpFace(node, node, Office(certificate=Path("c.pem"), key=Path("k.pem"))).register(app)
    door = AppDoor(app)
    await door.setup()
    return door


def calls_over(exchange: Callable[[bytes], Coroutine[Any, Any, bytes]], secret: str = SECRET) -> Calls:
    return VxpCalls(exchange, SYSTEM, secret, lambda: NOW)


@pytest.mark.parametrize("package", [b"<edXML/>", BLOB], ids=["small", "large"])
def test_a_package_goes_in_and_comes_out_as_it_was(package: bytes) -> None:
    node = Node()

    async def story() -> bytes:
        calls = calls_over((await face_of(node)).call)
        sent = await calls.call("sendEdoc", vxp.package_fields(package, "edoc"), package, vxp.FILE_TYPE)
        assert (sent["status"], sent["DocId"]) == ("OK", "d-1")
        listed = await calls.call("getReceivedEdocList", vxp.list_fields("edoc"))
        assert [item["docId"] for item in listed["data"]] == ["d-1"]
        fetched = await calls.call("getEdoc", {"docId": "d-1"})
        settled = await calls.call("updateStatus", {"docId": "d-1", "status": "done"})
        assert settled["status"] == "OK"
        return package_in(fetched)

    assert play(story()) == package
    assert node.packages == {"d-1": package}
    assert node.settled == [("d-1", "done")]


def test_a_refusal_is_an_answer() -> None:
    async def story() -> tuple[vxp.Answer, vxp.Answer]:
        door = await face_of(Node())
        unknown = await calls_over(door.call).call("getEdoc", {"docId": "d-9"})
        forged = await calls_over(door.call, "đoán").call("getEdoc", {"docId": "d-9"})
        return unknown, forged

    unknown, forged = play(story())
    assert (unknown["status"], forged["status"]) == ("FAIL", "FAIL")
    assert "doc-unknown" in unknown["ErrorDesc"] and "signature-wrong" in forged["ErrorDesc"]
    with pytest.raises(NoAnswer):
        package_in(unknown | {"data": None})  # type: ignore[operator]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff rubbish",
        b"HTTP/1.1 200 OK\r\n",
        HEAD + b"9\r\n\r\n{}",
        HEAD + b"6\r\n\r\n<html>",
        HEAD + b"2\r\n\r\n[]",
        b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_no_answer_leaves_the_office_in_doubt(raw: bytes) -> None:
    async def exchange(request: bytes) -> bytes:
        return raw

    with pytest.raises(NoAnswer):
        play(calls_over(exchange).call("getEdoc", {"docId": "d-1"}))


def test_an_office_that_reaches_nobody_hears_so() -> None:
    async def exchange(request: bytes) -> bytes:
        raise NotReached

    with pytest.raises(NotReached):
        play(calls_over(exchange).call("getEdoc", {"docId": "d-1"}))


# -- the reader of answers -----------------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@given(st.binary() | st.binary().map(lambda noise: HEAD + noise) | st.binary().map(lambda noise: CHUNKED + noise))
def test_any_bytes_are_an_answer_or_none(raw: bytes) -> None:
    try:
        assert read_reply(raw).status >= 200
    except NoAnswer:
        pass


@pytest.mark.parametrize(
    "raw", [HEAD + b"-2\r\n\r\n{}", CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n", CHUNKED + b"2\r\n{}\r\n", b"x" * (1 << 17)], ids=len
)
def test_broken_framing_is_no_answer(raw: bytes) -> None:
    with pytest.raises(NoAnswer):
        read_reply(raw)


def test_a_head_without_end_is_not_waited_for() -> None:
    incoming = module._Incoming()
    for _ in range(module.HEAD_BYTES_MAX // 1024):
        assert not incoming.complete
        incoming.feed(b"x" * 1024)
    assert incoming.complete and incoming.broken


@given(st.lists(st.integers(1, 60)))
def test_an_answer_is_whole_with_its_last_byte_however_it_is_cut(sizes: list[int]) -> None:
    for raw in (HEAD + b"5\r\n\r\n12345", CHUNKED + b"3\r\n123\r\n2\r\n45\r\n0\r\n\r\n"):
        incoming = module._Incoming()
        start = 0
        for size in [*sizes, len(raw)]:
            if start < len(raw):
                assert not incoming.complete
                incoming.feed(raw[start : start + size])
                start += size
        assert incoming.complete and not incoming.broken
        assert incoming.body() == b"12345"


def answered(status: int, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def at_the_native_door(raw: bytes, asked: list[bytes]) -> NativeCalls:
    async def exchange(request: bytes) -> bytes:
        asked.append(request)
        return raw

    return NativeCalls(exchange, SYSTEM, SECRET)


def test_a_mailbox_is_read_with_the_contents_that_come_along() -> None:
    asked: list[bytes] = []
    items = [{"doc_id": name, "content": how} for name, how in (("a", "inline"), ("b", "separate"), ("c", "inline"))]
    body = multipart([json.dumps({"items": items}).encode(), b"mot", b"ba"])
    calls = at_the_native_door(answered(200, body, f"multipart/mixed; boundary={BOUNDARY.decode()}"), asked)
    found = play(calls.mailbox("edoc", 20))
    assert [(item["doc_id"], content) for item, content in found] == [("a", b"mot"), ("b", None), ("c", b"ba")]
    assert asked[0].startswith(b"GET /api/v1/mailbox?kind=edoc&limit=100&wait_s=20&content=inline HTTP/1.1\r\n")
    assert b"Authorization: Basic " in asked[0]


def test_later_is_no_answer_and_a_no_is_one() -> None:
    asked: list[bytes] = []
    well = at_the_native_door(answered(200, b'{"results":[{"status":"ok"}]}'), asked)
    assert play(well.done(["a"])) == [{"status": "ok"}]
    assert asked[0].endswith(b'{"doc_ids": ["a"]}')
    for spoilt in (b"", b"<html>", b"[]", b'{"results"'):
        with pytest.raises(NoAnswer):
            play(at_the_native_door(answered(200, spoilt), asked).done(["a"]))
        with pytest.raises(NoAnswer):
            play(at_the_native_door(answered(200, spoilt), asked).mailbox("edoc", 0))
    for status, error in ((503, NoAnswer), (502, NoAnswer), (401, Declined)):
        with pytest.raises(error):
            play(at_the_native_door(answered(status, b"{}"), asked).done(["a"]))

"""The VXP face on a real listener: what a connector sends, what it gets, and what it must never get."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import http_writer, web
from structlog.testing import capture_logs

from node.adapters.http.listener import Guards, listen
from node.adapters.http.office_vxp import VxpFace, no_pages
from node.adapters.http.vxp_out import Gone
from node.config import Office
from node.core.directory import Connection, Entry
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.instant import VIETNAM
from node.core.office import Claim, Fetched, Problem, SentLine, Submitted, System, Waiting
from tests.vxp_client import Prepared, Unreadable, VxpClient, VxpFailed, short_hex, sign, signed_text

SYSTEM = "demo.gateway.01"
SECRET = "khoa-thu-2026"
H41 = OrgId(("H41", "07"))
NOW = datetime(2026, 11, 22, 9, 34, 5, tzinfo=VIETNAM)
NOW_MS = int(NOW.timestamp()) * 1000
PACKAGE = "<edXML>Công văn về việc thử</edXML>".encode()

GOLDEN_FILE = bytes.fromhex("3c613e7468e1bbad20313c2f613e0a")
GOLDEN_A = (
    '{"XroadVnpt-systemid":"demo.gateway.01","XroadVnpt-servicetype":"eDoc","XroadVnpt-messagetype":"edoc",'
    '"XroadVnpt-timestamp":"22112026T093405+0770","XroadVnpt-Content-Type":"application/json"}'
)
GOLDEN_A_MAC = "35a840dbc8281c1d61dc52ad8828b293287bd0cd514cd655ef77dbece07390c6"
GOLDEN_B = (
    '{"XroadVnpt-systemid":"demo.gateway.01","XroadVnpt-servicetype":"eDoc","XroadVnpt-messagetype":"edoc",'
    '"XroadVnpt-hash-file":"37f9fc5e33b3468ae5ac839d8352f98f89a7898b49f57ef68ae4c7c4bbcd915","XroadVnpt-from":"000.00.01.T01",'
    '"XroadVnpt-timestamp":"22112026T093405+0279","XroadVnpt-Content-Type":"application/octet-stream"}'
)
GOLDEN_B_MAC = "f0b9e95d4eef3b59b376882198a3db9a43c2e1368fca0c67d19b16a4939419e4"

OPERATIONS = (
    "sendEdoc",
    "getReceivedEdocList",
    "getSentEdocList",
    "getEdoc",
    "downloadEdoc",
    "updateStatus",
    "countReceiveEdoc",
    "countReceiveStatus",
    "getAgenciesList",
    "getAgenciesListQD20",
    "getSynchronizeUnit",
    "registerAgency",
    "deleteAgency",
)
JSON_OPERATIONS = tuple(name for name in OPERATIONS if name != "downloadEdoc")


class FixedClock:
    def utc_ms(self) -> int:
        return NOW_MS

    def bound_ms(self) -> int:
        return 1000

    def synchronised(self) -> bool:
        return True


@dataclass
class FakeDoor:
    """A node of values: what it holds is set by a test, what was asked of it is written down."""

    systems: dict[str, System] = field(default_factory=dict)
    packages: dict[str, bytes] = field(default_factory=dict)
    open_ids: set[str] = field(default_factory=set)
    own_sent: set[str] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    problems: tuple[Problem, ...] = ()
    fault: Exception | None = None
    submitted: list[tuple[str, bytes, Claim]] = field(default_factory=list)
    begun: int = 0
    broken_off: list[BaseException] = field(default_factory=list)
    settled: list[tuple[str, str]] = field(default_factory=list)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    chunks_of: Callable[[bytes], AsyncIterator[bytes]] | None = None
    closed_streams: int = 0

    def system(self, system_id: str) -> System | None:
        return self.systems.get(system_id)

    def _judge(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def submit(self, system: System, chunks: AsyncIterator[bytes], claim: Claim) -> Submitted:
        self._judge()
        self.begun += 1
        try:
            package = b"".join([chunk async for chunk in chunks])
        except BaseException as error:
            self.broken_off.append(error)
            raise
        repeated = any(known == (system.id, package) for known in ((name, body) for name, body, _ in self.submitted))
        self.submitted.append((system.id, package, claim))
        return Submitted(f"doc-{hashlib.sha256(package).hexdigest()[:8]}", repeated, self.problems)

    async def waiting(self, system: System, kind: str) -> Sequence[Waiting]:
        self._judge()
        self.asked.append(("waiting", kind))
        return [Waiting(doc_id, kind, kind, "H14.01", "H41.07", "initial", 0, NOW_MS, NOW_MS) for doc_id in sorted(self.open_ids)]

    async def count(self, system: System, kind: str) -> int:
        self._judge()
        return len(self.open_ids) if kind == "edoc" else 0

    async def sent(self, system: System, kind: str, doc_id: str | None) -> Sequence[SentLine]:
        self._judge()
        self.asked.append(("sent", kind, doc_id))
        line = SentLine(
            "doc-1", "", "H41.07", "H14.01", "Về việc thử", "12/CV", "edoc", NOW_MS, 0, "moving", "đang chuyển", "01", "đã đến"
        )
        return [line, replace(line, recipient="G22", received_ms=NOW_MS + 1000)]

    async def owns_sent(self, system: System, doc_id: str) -> bool:
        return doc_id in self.own_sent

    async def open_deliveries(self, system: System, doc_ids: Sequence[str]) -> Sequence[str]:
        return [doc_id for doc_id in doc_ids if doc_id in self.open_ids]

    async def fetch(self, system: System, doc_id: str) -> Fetched:
        self._judge()
        if doc_id not in self.packages:
            raise Refused(Reason.DOC_UNKNOWN, "docId", doc_id)
        package = self.packages[doc_id]
        chunks = self._pieces(package) if self.chunks_of is None else self.chunks_of(package)
        return Fetched(doc_id, len(package), chunks)

    async def _pieces(self, package: bytes) -> AsyncIterator[bytes]:
        try:
            for start in range(0, len(package), 1000):
                yield package[start : start + 1000]
        finally:
            self.closed_streams += 1

    async def settle(self, system: System, doc_id: str, word: str) -> None:
        self._judge()
        self.settled.append((doc_id, word))
        if word == "done":
            self.open_ids.discard(doc_id)

    def said(self) -> dict[OrgId, int]:
        return {}

    async def agencies(self) -> Sequence[Entry]:
        self._judge()
        return self.entries

    async def request_agency(self, system: System, action: str, fields: Mapping[str, str]) -> int:
        self._judge()
        self.requests.append((action, dict(fields)))
        return len(self.requests)


@dataclass
class Served:
    """A face on loopback, and what stands behind it."""

    door: FakeDoor
    port: int
    told: list[tuple[str, str]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/vxp"

    def client(self, **options: Any) -> VxpClient:
        return VxpClient(self.url, SYSTEM, options.pop("secret", SECRET), **({"now": NOW} | options))


def settings(**changes: Any) -> Office:
    return Office(certificate=Path("c.pem"), key=Path("k.pem"), **changes)


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[int]:
    guards = Guards(1000, 1000, 1000, handshake_timeout_s=5, idle_timeout_s=15, header_bytes_max=64 * 1024)
    listener = await listen(app, "127.0.0.1", 0, guards)
    try:
        yield listener.port
    finally:
        await listener.close(1.0)


@asynccontextmanager
async def serving(
    office: Office | None = None,
    *,
    rate_window_s: float = 15.0,
    ahead: Callable[[str, int], None] = lambda system, claimed_ms: None,
) -> AsyncIterator[Served]:
    door = FakeDoor({SYSTEM: System(SYSTEM, (H41,), (SECRET,))})
    told: list[tuple[str, str]] = []
    face = VxpFace(
        door,
        FixedClock(),
        office or settings(),
        tell=lambda operation, result: told.append((operation, result)),
        rate_window_s=rate_window_s,
        ahead=ahead,
    )
    app = web.Application(middlewares=[no_pages])
    face.register(app)
    async with listening(app) as port:
        yield Served(door, port, told)


@pytest.fixture
async def face() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


@pytest.fixture
async def office(face: Served) -> AsyncIterator[VxpClient]:
    async with face.client() as client:
        yield client


# -- a plain socket, for what no client library would send ---------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        answer = json.loads(self.body.decode("ascii"))
        assert isinstance(answer, dict)
        return answer


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Reply(int(first.split()[1]), headers, body)


def head_of(method: str, path: str, headers: Iterable[tuple[str, str | bytes]], length: int | None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: 127.0.0.1"]
    for name, value in headers:
        lines.append(name.encode() + b": " + (value.encode() if isinstance(value, str) else value))
    if length is not None:
        lines.append(f"Content-Length: {length}".encode())
    return b"\r\n".join(lines) + b"\r\n\r\n"


@asynccontextmanager
async def line(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A plain connection, closed for good at the end; what happens on it takes 20 s at most."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def raw(port: int, request: bytes) -> Reply:
    async with line(port) as (reader, writer):
        writer.write(request)
        return await read_reply(reader)


async def until(happened: Callable[[], object]) -> None:
    """Wait for the other side of a connection to notice."""
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.sleep(0.005)


def as_bytes(request: Prepared, body: bytes | None = None) -> bytes:
    body = request.body if body is None else body
    path = request.url.split("/", 3)[3]
    return head_of(request.method, "/" + path, request.headers, len(body)) + body


def signed_headers(text: bytes, secret: str = SECRET, mac: str | None = None) -> list[tuple[str, str | bytes]]:
    """The two headers that matter, around any text."""
    return [("XroadVnpt-sign-header", text), ("XroadVnpt-hash-header", mac or sign(text, secret))]


def values_of(**fields: str) -> dict[str, str]:
    return {"systemid": SYSTEM} | {name.replace("_", "-"): value for name, value in fields.items()}


def call_of(values: Mapping[str, str], *, encoding: str = "utf-8") -> list[tuple[str, str | bytes]]:
    """A well-signed call as the SDK's stacks write it: the HMAC over UTF-8, the header bytes in `encoding`."""
    text = signed_text(values)
    beside = [("XroadVnpt-" + name, value.encode(encoding)) for name, value in values.items()]
    return [*beside, *signed_headers(text.encode(encoding), mac=sign(text.encode(), SECRET))]


def code_of(answer: Mapping[str, Any]) -> str:
    """Our stable code in brackets at the end of ErrorDesc."""
    text = str(answer["ErrorDesc"])
    return text[text.rindex("[") + 1 : -1]


def reason_of(errors: Sequence[BaseException]) -> Reason:
    (error,) = errors
    assert isinstance(error, Refused)
    return error.reason


def assert_readable(reply: Reply) -> dict[str, Any]:
    """What vxp-wire asks of every JSON answer."""
    assert reply.status == 200
    assert reply.body.isascii() and b"\x00" not in reply.body
    assert "content-encoding" not in reply.headers
    answer = reply.json
    assert list(answer)[:5] == ["status", "ErrorCode", "ErrorDesc", "DocId", "data"]
    assert_no_null(answer)
    if answer["status"] == "FAIL":
        assert answer["ErrorCode"] not in ("0", "")
    else:
        assert (answer["status"], answer["ErrorCode"]) == ("OK", "0")
    return answer


def assert_no_null(value: Any) -> None:
    assert value is not None
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        assert_no_null(item)


# -- the worked example --------------------------------------------------------------------------------------------------


async def test_the_worked_example_of_a_list_call_is_accepted_to_the_letter(face: Served) -> None:
    face.door.open_ids = {"doc-1"}
    headers: list[tuple[str, str | bytes]] = [
        ("XroadVnpt-systemid", "demo.gateway.01"),
        ("XroadVnpt-servicetype", "eDoc"),
        ("XroadVnpt-messagetype", "edoc"),
        ("XroadVnpt-timestamp", "22112026T093405+0770"),
        ("XroadVnpt-Content-Type", "application/json"),
        ("Content-Type", "application/json"),
        ("XroadVnpt-sign-header-key", "systemid;servicetype;messagetype;timestamp;Content-Type"),
        *signed_headers(GOLDEN_A.encode(), mac=GOLDEN_A_MAC),
    ]
    reply = await raw(face.port, head_of("POST", "/vxp/getReceivedEdocList", headers, 0))
    assert [item["docId"] for item in assert_readable(reply)["data"]] == ["doc-1"]


async def test_the_worked_example_of_a_send_is_accepted_to_the_letter(face: Served) -> None:
    headers: list[tuple[str, str | bytes]] = [
        ("XroadVnpt-systemid", "demo.gateway.01"),
        ("XroadVnpt-servicetype", "eDoc"),
        ("XroadVnpt-messagetype", "edoc"),
        ("XroadVnpt-hash-file", "37f9fc5e33b3468ae5ac839d8352f98f89a7898b49f57ef68ae4c7c4bbcd915"),
        ("XroadVnpt-from", "000.00.01.T01"),
        ("XroadVnpt-timestamp", "22112026T093405+0279"),
        ("XroadVnpt-Content-Type", "application/octet-stream"),
        ("Content-Type", "application/octet-stream"),
        *signed_headers(GOLDEN_B.encode(), mac=GOLDEN_B_MAC),
    ]
    body = GOLDEN_FILE + b"\r\n"
    assert len(body) == 17
    reply = await raw(face.port, head_of("POST", "/vxp/sendEdoc", headers, len(body)) + body)
    answer = assert_readable(reply)
    assert answer["status"] == "OK" and answer["DocId"].startswith("doc-")
    assert face.door.submitted == [(SYSTEM, GOLDEN_FILE, Claim("edoc", "000.00.01.T01"))]


def test_the_client_signs_as_the_worked_example_does() -> None:
    client = VxpClient("http://h/vxp", SYSTEM, SECRET, now=datetime(2026, 11, 22, 9, 34, 5, 279_000))
    request = dict(client.prepare_send(GOLDEN_FILE, "000.00.01.T01").headers)
    assert request["XroadVnpt-sign-header"] == GOLDEN_B
    assert request["XroadVnpt-hash-header"] == GOLDEN_B_MAC
    assert request["XroadVnpt-sign-header-key"] == "systemid;servicetype;messagetype;hash-file;from;timestamp;Content-Type"


# -- the daily round of a connector --------------------------------------------------------------------------------------


async def test_a_connector_lists_gets_and_confirms(face: Served, office: VxpClient) -> None:
    face.door.open_ids, face.door.packages = {"doc-1"}, {"doc-1": PACKAGE}
    (item,) = await office.received()
    assert item == {
        "docId": "doc-1",
        "serviceType": "eDoc",
        "messageType": "edoc",
        "from": "H14.01",
        "to": "H41.07",
        "status": "initial",
        "status_desc": "chờ lấy",
        "created_time": "2026/11/22 09:34:05",
        "updated_time": "2026/11/22 09:34:05",
    }
    assert await office.count() == 1
    assert await office.get("doc-1") == PACKAGE
    assert (await office.update("doc-1", "done"))["status"] == "OK"
    assert await office.received() == [] and await office.count() == 0


async def test_documents_and_statuses_are_asked_for_apart(face: Served, office: VxpClient) -> None:
    await office.received()
    await office.received("status")
    await office.call("getReceivedEdocList", {"messagetype": "STATUS"})
    assert face.door.asked == [("waiting", "edoc"), ("waiting", "status"), ("waiting", "status")]
    assert await office.count("status") == 0


async def test_a_list_without_messagetype_means_documents(face: Served) -> None:
    reply = await raw(face.port, head_of("POST", "/vxp/getReceivedEdocList", call_of(values_of()), 0))
    assert assert_readable(reply)["status"] == "OK"
    assert face.door.asked == [("waiting", "edoc")]


async def test_the_sent_list_shows_a_line_for_each_receiver(face: Served, office: VxpClient) -> None:
    first, second = await office.sent()
    assert first == {
        "senderDocId": "doc-1",
        "receiverDocId": "",
        "fromCode": "H41.07",
        "toCode": "H14.01",
        "title": "Về việc thử",
        "notation": "12/CV",
        "serviceType": "eDoc",
        "messageType": "edoc",
        "sentTime": "2026/11/22 09:34:05",
        "receivedTime": "",
        "sendStatus": "moving",
        "sendStatusDesc": "đang chuyển",
        "receiveStatus": "01",
        "receiveStatusDesc": "đã đến",
    }
    assert second["receivedTime"] == "2026/11/22 09:34:06"


async def test_lists_are_cut_at_the_configured_length() -> None:
    async with serving(settings(list_max=2)) as face, face.client() as office:
        face.door.open_ids = {"doc-1", "doc-2", "doc-3"}
        assert [item["docId"] for item in await office.received()] == ["doc-1", "doc-2"]


async def test_counting_works_by_get_too(face: Served, office: VxpClient) -> None:
    face.door.open_ids = {"doc-1", "doc-2"}
    answer = await office.call("countReceiveEdoc", {}, method="GET")
    assert answer["count"] == 2


# -- paths, methods, expectations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/vxp//countReceiveEdoc", "/vxp/countReceiveEdoc/", "//vxp///countReceiveEdoc//", "/vxp/countReceiveEdoc"]
)
async def test_slashes_may_be_doubled_and_trail_without_a_redirect(face: Served, path: str) -> None:
    reply = await raw(face.port, head_of("POST", path, call_of(values_of()), 2) + b"{}")
    assert assert_readable(reply)["count"] == 0


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/vxp", "/vxp/", "/vxp/noSuchThing", "/vxp/sendedoc", "/vxp/a/b", "/vxp/%2e%2e/x", "/vxp/%00"])
async def test_an_unknown_operation_is_answered_in_json(face: Served, method: str, path: str) -> None:
    answer = assert_readable(await raw(face.port, head_of(method, path, [], 0)))
    assert (answer["status"], code_of(answer)) == ("FAIL", "operation-unknown")
    assert face.told == [("unknown", "operation-unknown")]


@pytest.mark.parametrize("operation", ["sendEdoc", "updateStatus", "registerAgency", "deleteAgency"])
async def test_what_changes_something_is_not_done_by_get(face: Served, operation: str) -> None:
    """A followed redirect turns the SDK's POST into a GET without its body."""
    values = values_of(docId="doc-1", status="done", AgencyCode="H41")
    answer = assert_readable(await raw(face.port, head_of("GET", f"/vxp/{operation}", call_of(values), None)))
    assert code_of(answer) == "operation-unknown"
    assert not face.door.settled and not face.door.requests


@pytest.mark.parametrize(
    "request_line", [b"GET / HTTP/1.1", b"POST /index.html HTTP/1.1", b"GET /vxpx/sendEdoc HTTP/1.1", b"PUT /a%ff HTTP/1.1"]
)
async def test_paths_outside_the_face_never_get_a_page(face: Served, request_line: bytes) -> None:
    reply = await raw(face.port, request_line + b"\r\nHost: x\r\nAccept: text/html\r\nContent-Length: 0\r\n\r\n")
    assert reply.status == 404 and reply.headers["content-type"] == "application/json"
    assert code_of(reply.json) == "operation-unknown" and b"<" not in reply.body


async def test_a_route_that_breaks_never_shows_a_page() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        raise RuntimeError("not for clerks")

    app = web.Application(middlewares=[no_pages])
    app.router.add_get("/x", broken)
    async with listening(app) as port:
        with capture_logs() as logs:
            reply = await raw(port, head_of("GET", "/x", [("Accept", "text/html")], None))
            wrong_method = await raw(port, head_of("POST", "/x", [], 0))
    assert reply.json["ErrorCode"] == "20" and b"not for clerks" not in reply.body
    assert wrong_method.status == 405 and wrong_method.json["status"] == "FAIL"
    assert [line["event"] for line in logs] == ["office request failed"]


async def test_the_client_is_told_to_continue_before_it_sends_a_small_body(face: Served) -> None:
    headers = [*call_of(values_of()), ("Expect", "100-continue")]
    async with line(face.port) as (reader, writer), asyncio.timeout(2):  # the SDK gives up waiting after three seconds
        writer.write(head_of("POST", "/vxp/countReceiveEdoc", headers, 2))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        reply = await read_reply(reader)
    assert assert_readable(reply)["status"] == "OK"


async def test_another_expectation_is_no_reason_for_an_error_page(face: Served) -> None:
    headers = [*call_of(values_of()), ("Expect", "200-maybe")]
    assert assert_readable(await raw(face.port, head_of("POST", "/vxp/countReceiveEdoc", headers, 0)))["status"] == "OK"


# -- who calls -----------------------------------------------------------------------------------------------------------


async def test_a_wrong_secret_and_an_unknown_system_sound_the_same(face: Served) -> None:
    with capture_logs() as logs:
        async with face.client(secret="another") as stranger:
            wrong = await stranger.call("getReceivedEdocList", {"messagetype": "edoc"})
        async with VxpClient(face.url, "nobody.here", SECRET, now=NOW) as stranger:
            unknown = await stranger.call("getReceivedEdocList", {"messagetype": "edoc"})
    assert wrong == unknown
    assert (wrong["ErrorCode"], code_of(wrong)) == ("15", "signature-wrong")
    assert [line["reason"] for line in logs] == ["signature-wrong", "system-unknown"]
    assert face.told == [("getReceivedEdocList", "signature-wrong"), ("getReceivedEdocList", "system-unknown")]


async def test_either_of_two_overlapping_secrets_is_right(face: Served) -> None:
    face.door.systems[SYSTEM] = System(SYSTEM, (H41,), ("the old one", "the new one"))
    for secret in ("the old one", "the new one"):
        async with face.client(secret=secret) as office:
            assert await office.count() == 0
    async with face.client(secret="the next one") as office:
        with pytest.raises(VxpFailed, match="signature-wrong"):
            await office.count()


@pytest.mark.parametrize("secret", ["x", " a b ", "khóa bí mật", "c2VjcmV0", "0a0B" * 50])
async def test_a_secret_is_text_and_nothing_else(face: Served, secret: str) -> None:
    face.door.systems[SYSTEM] = System(SYSTEM, (H41,), (secret,))
    async with face.client(secret=secret) as office:
        assert await office.count() == 0


async def test_a_disabled_system_is_told_so_only_if_it_signs_well(face: Served) -> None:
    face.door.systems[SYSTEM] = System(SYSTEM, (H41,), (SECRET,), disabled=True)
    async with face.client() as office, face.client(secret="guessed") as stranger:
        with pytest.raises(VxpFailed, match="system-disabled"):
            await office.count()
        with pytest.raises(VxpFailed, match="signature-wrong"):
            await stranger.count()


async def test_a_system_calls_from_its_own_networks_only(face: Served) -> None:
    async with face.client() as office:
        face.door.systems[SYSTEM] = System(SYSTEM, (H41,), (SECRET,), (ip_network("10.0.0.0/8"),))
        with pytest.raises(VxpFailed, match="network-forbidden"):
            await office.count()
        face.door.systems[SYSTEM] = System(SYSTEM, (H41,), (SECRET,), (ip_network("10.0.0.0/8"), ip_network("127.0.0.0/8")))
        assert await office.count() == 0


async def test_the_hmac_may_be_written_in_capitals(face: Served) -> None:
    text = signed_text(values_of()).encode()
    headers = [("XroadVnpt-systemid", SYSTEM), *signed_headers(text, mac=sign(text, SECRET).upper())]
    assert assert_readable(await raw(face.port, head_of("POST", "/vxp/countReceiveEdoc", headers, 0)))["status"] == "OK"


@pytest.mark.parametrize("left_out", ["XroadVnpt-sign-header", "XroadVnpt-hash-header"])
async def test_a_call_without_its_signature_names_the_missing_header(face: Served, left_out: str) -> None:
    headers = [(name, value) for name, value in call_of(values_of()) if name != left_out]
    answer = assert_readable(await raw(face.port, head_of("POST", "/vxp/countReceiveEdoc", headers, 0)))
    assert (answer["ErrorCode"], code_of(answer)) == ("15", "signature-missing")
    assert left_out in answer["ErrorDesc"]


@pytest.mark.parametrize(
    "text",
    [
        b"no json",
        b"[]",
        b'"text"',
        b"{",
        b'{"XroadVnpt-systemid":"demo.gateway.01","XroadVnpt-systemid":"demo.gateway.01"}',
        b'{"XroadVnpt-systemid":"demo.gateway.01","XroadVnpt-x":1}',
        b'{"XroadVnpt-systemid":"demo.gateway.01","XroadVnpt-x":null}',
        b'{"XroadVnpt-systemid":"demo.gateway.01","XroadVnpt-x":NaN}',
        b'{"XroadVnpt-systemid":"demo.gateway.01","XroadVnpt-x":{"a":"b"}}',
        b'{"XroadVnpt-systemid":"demo.gateway.01","XroadVnpt-x":"\\ud800"}',
        b'{"XroadVnpt-systemid":"demo.gateway.01","other":"x"}',
        b'{"XroadVnpt-systemid":"demo.gateway.01","XroadVnpt-x":' + b"9" * 5000 + b"}",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"{" + b",".join(b'"XroadVnpt-%d":"x"' % i for i in range(300)) + b"}",
    ],
    ids=lambda text: str(text[:40]),
)
async def test_a_hostile_signed_text_is_refused_even_when_it_is_signed(face: Served, text: bytes) -> None:
    answer = assert_readable(await raw(face.port, head_of("POST", "/vxp/countReceiveEdoc", signed_headers(text), 0)))
    assert code_of(answer) == "request-malformed"


async def test_a_signed_text_beyond_the_limit_is_refused() -> None:
    async with serving(settings(header_bytes_max=8 * 1024)) as face:
        headers = call_of(values_of(to="x" * 9000))
        answer = assert_readable(await raw(face.port, head_of("POST", "/vxp/countReceiveEdoc", headers, 0)))
        assert code_of(answer) == "request-malformed"


async def test_a_long_list_of_receivers_among_the_headers_is_fine(face: Served, office: VxpClient) -> None:
    to = json.dumps([f"H41.{number:04}" for number in range(2500)])
    answer = await office.call("countReceiveEdoc", {"to": to}, body=b"{}")
    assert answer["status"] == "OK"


async def test_two_signed_texts_are_refused(face: Served) -> None:
    text = signed_text(values_of()).encode()
    headers = [*call_of(values_of()), ("XroadVnpt-Sign-Header", text)]
    answer = assert_readable(await raw(face.port, head_of("POST", "/vxp/countReceiveEdoc", headers, 0)))
    assert code_of(answer) == "request-malformed"


@pytest.mark.parametrize("change", ["other value", None], ids=["changed", "removed"])
async def test_a_header_that_differs_from_its_signed_value_is_refused(face: Served, change: str | None) -> None:
    headers = [item for item in call_of(values_of(status="done", docId="doc-1")) if item[0] != "XroadVnpt-docId"]
    if change is not None:
        headers.append(("XroadVnpt-docId", change))
    answer = assert_readable(await raw(face.port, head_of("POST", "/vxp/updateStatus", headers, 0)))
    assert code_of(answer) == "header-mismatch" and "docId" in answer["ErrorDesc"]
    assert face.door.settled == []


async def test_values_never_come_from_headers_that_nobody_signed(face: Served) -> None:
    headers = [*call_of(values_of(status="done")), ("XroadVnpt-docId", "doc-1")]
    answer = assert_readable(await raw(face.port, head_of("POST", "/vxp/updateStatus", headers, 0)))
    assert code_of(answer) == "request-malformed" and face.door.settled == []


async def test_every_printable_sign_survives_the_signature(face: Served, office: VxpClient) -> None:
    """Quotes, backslashes, separators: the text is checked as received and never rebuilt."""
    answer = await office.call("countReceiveEdoc", {"from": 'a"b\\c<d>&e=f;g:h,i/\'j{"k"}', "x": "  outer space\t"}, body=b"{}")
    assert answer["status"] == "OK"


async def test_accented_letters_of_one_byte_are_read_as_the_sdk_sends_them(face: Served) -> None:
    headers = call_of(values_of(**{"from": "Hà Nội".replace("ộ", "ô")}), encoding="latin-1")
    assert assert_readable(await raw(face.port, head_of("POST", "/vxp/countReceiveEdoc", headers, 0)))["status"] == "OK"


async def test_vietnamese_beside_a_package_is_fine_where_nothing_hangs_on_it(face: Served, office: VxpClient) -> None:
    assert (await office.send(PACKAGE, sender="Sở Tư pháp tỉnh Điện Biên"))["status"] == "OK"
    assert face.door.submitted[0][2].sender == "Sở Tư pháp tỉnh Điện Biên"


async def test_a_text_destroyed_on_its_way_is_refused_with_the_reason(face: Served) -> None:
    """On all calls but sendEdoc the SDK cuts letters above U+00FF to their low byte."""
    text = signed_text(values_of(docId="ị-1", status="done"))
    cut = bytes(ord(letter) & 0xFF for letter in text)
    headers = signed_headers(cut, mac=sign(text.encode(), SECRET))
    answer = assert_readable(await raw(face.port, head_of("POST", "/vxp/updateStatus", headers, 0)))
    assert code_of(answer) == "signature-text-damaged" and "ASCII" in answer["ErrorDesc"]


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("getEdoc", {"docId": "vănbản"}),
        ("updateStatus", {"docId": "doc-1", "status": "xong rồi"}),
        ("updateStatus", {"docId": "doc-1", "docid": "é", "status": "done"}),
        ("getReceivedEdocList", {"messagetype": "đến"}),
        ("deleteAgency", {"AgencyCode": "Hà Nội"}),
        ("getAgenciesListQD20", {"level": "một"}),
    ],
)
async def test_ids_codes_and_status_words_must_be_ascii(face: Served, operation: str, fields: dict[str, str]) -> None:
    reply = await raw(face.port, head_of("POST", f"/vxp/{operation}", call_of(values_of(**fields)), 0))
    assert code_of(assert_readable(reply)) == "signature-text-damaged"
    assert face.door.settled == []


async def test_an_old_timestamp_is_noted_once_and_refused_never(face: Served) -> None:
    with capture_logs() as logs:
        async with face.client(now=datetime(2026, 11, 19, 8, 0)) as office:
            await office.count()
            await office.count()
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert len(warnings) == 1 and warnings[0]["system"] == SYSTEM and warnings[0]["age_h"] == 73


async def test_a_timestamp_ahead_of_the_nodes_time_is_told(tmp_path: Path) -> None:  # QĐ 28/2018 Điều 14.4
    ahead: list[tuple[str, int]] = []
    async with serving(ahead=lambda system, claimed_ms: ahead.append((system, claimed_ms - NOW_MS))) as served:
        for now in (datetime(2026, 11, 22, 9, 0), datetime(2026, 11, 23, 9, 0)):
            async with served.client(now=now) as office:
                await office.count()
    assert [(system, skew_ms > 0) for system, skew_ms in ahead] == [(SYSTEM, True)]


async def test_a_system_that_only_reads_figures_has_nothing_here(face: Served, office: VxpClient) -> None:
    face.door.systems[SYSTEM] = System(SYSTEM, (), (SECRET,))
    async with face.client() as client:
        answer = await client.send(PACKAGE, sender="H41.07")
    assert answer["status"] == "FAIL" and "[sender-not-allowed]" in answer["ErrorDesc"]
    assert face.door.submitted == []


# -- sending -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dotnet", [False, True], ids=["java", "net"])
@pytest.mark.parametrize("package", [b"a", b"ab", b"abc\r\n", b"\r\n\r\n", b"x\r", PACKAGE * 5000], ids=len)
async def test_the_node_takes_exactly_the_file(face: Served, package: bytes, dotnet: bool) -> None:
    async with face.client(dotnet=dotnet) as office:
        assert (await office.send(package, sender="H41.07"))["status"] == "OK"
    assert face.door.submitted[0][1] == package


async def test_a_hash_in_capitals_is_a_hash(face: Served) -> None:
    values = values_of(hash_file=hashlib.sha256(PACKAGE).hexdigest().upper())
    reply = await raw(face.port, head_of("POST", "/vxp/sendEdoc", call_of(values), len(PACKAGE)) + PACKAGE)
    assert assert_readable(reply)["status"] == "OK"


async def test_a_package_other_than_the_signed_one_is_not_kept(face: Served, office: VxpClient) -> None:
    request = office.prepare_send(PACKAGE)
    answer = assert_readable(await raw(face.port, as_bytes(request, PACKAGE + b"!\r\n")))
    assert (answer["ErrorCode"], code_of(answer)) == ("10", "digest-mismatch")
    assert face.door.submitted == [] and reason_of(face.door.broken_off) is Reason.DIGEST_MISMATCH


async def test_only_one_pair_of_bytes_is_cut(face: Served, office: VxpClient) -> None:
    request = office.prepare_send(PACKAGE)
    answer = assert_readable(await raw(face.port, as_bytes(request, PACKAGE + b"\r\n\r\n")))
    assert code_of(answer) == "digest-mismatch"


async def test_a_package_whose_hash_nobody_signed_is_refused(face: Served) -> None:
    headers = [*call_of(values_of()), ("XroadVnpt-hash-file", short_hex(hashlib.sha256(PACKAGE).digest()))]
    answer = assert_readable(await raw(face.port, head_of("POST", "/vxp/sendEdoc", headers, len(PACKAGE)) + PACKAGE))
    assert code_of(answer) == "signature-missing" and face.door.submitted == []


@pytest.mark.parametrize(("service", "well"), [("eDoc", True), ("edoc", True), ("EDOC", True), ("", True), ("eOffice", False)])
async def test_only_the_service_edoc_is_served_here(face: Served, office: VxpClient, service: str, well: bool) -> None:
    sent = await office.send(PACKAGE, service_type=service)
    listed = await office.call("getReceivedEdocList", {"servicetype": service})
    for answer in (sent, listed):
        assert (answer["status"] == "OK") is well
        assert well or (code_of(answer) == "service-unknown" and service in answer["ErrorDesc"])
    # getEdoc and the rest carry the servicetype of an earlier call and never read it
    assert (await office.call("countReceiveEdoc", {}, body=b"{}"))["status"] == "OK"


async def test_the_same_file_again_gets_its_first_docid(face: Served, office: VxpClient) -> None:
    first, second = await office.send(PACKAGE), await office.send(PACKAGE)
    assert first["DocId"] == second["DocId"] != ""
    assert first["ErrorDesc"] == "" and "DocId" in second["ErrorDesc"]


async def test_receivers_that_cannot_be_reached_are_named_and_stop_nobody(face: Served, office: VxpClient) -> None:
    closed = Refused(Reason.RECIPIENT_CLOSED, "OrganId", "H14.01", "H26.01")
    locked = Refused(Reason.RECIPIENT_LOCKED, "OrganId", "H17")
    face.door.problems = (Problem("000.00.01.H14", closed, "H26.01"), Problem("H17", locked, "H18"))
    answer = await office.send(PACKAGE)
    assert (answer["status"], answer["ErrorCode"]) == ("OK", "0") and answer["DocId"]
    text = answer["ErrorDesc"]
    assert "000.00.01.H14: " in text and "[recipient-closed]" in text and text.count("H26.01") == 1
    assert "H17: " in text and "[recipient-locked]" in text and "mã thay thế: H18" in text


async def test_a_long_list_of_bad_receivers_stays_readable(face: Served, office: VxpClient) -> None:
    unknown = Refused(Reason.RECIPIENT_UNKNOWN, "OrganId", "X")
    face.door.problems = tuple(Problem(f"X{number:04}" + "y" * 300, unknown) for number in range(3000))
    text = (await office.send(PACKAGE))["ErrorDesc"]
    assert "X0019" in text and "X0020" not in text and text.endswith("… và 2980 nơi khác")
    assert len(text) < 5000


@pytest.mark.parametrize(
    ("fault", "number", "code"),
    [
        (Refused(Reason.RECIPIENT_UNKNOWN, "OrganId", "X99"), "18", "recipient-unknown"),
        (Refused(Reason.RECIPIENT_LOCKED, "OrganId", "H17"), "23", "recipient-locked"),
        (Refused(Reason.SENDER_NOT_ALLOWED, "OrganId", "H17", "H41.07"), "19", "sender-not-allowed"),
        (Refused(Reason.XML_MALFORMED, "edXMLEnvelope", "", "dòng 3"), "22", "xml-malformed"),
        (Deferred(5.0), "20", "not-now"),
        (Deferred(5.0, Reason.DISK_FULL), "20", "disk-full"),
    ],
    ids=str,
)
async def test_a_refused_package_says_why_in_vietnamese(
    face: Served, office: VxpClient, fault: Exception, number: str, code: str
) -> None:
    face.door.fault = fault
    answer = await office.send(PACKAGE)
    assert (answer["status"], answer["ErrorCode"], answer["DocId"], code_of(answer)) == ("FAIL", number, "", code)
    assert not answer["ErrorDesc"].isascii()


async def test_a_refused_sender_reads_its_answer_after_writing_everything(face: Served) -> None:
    """The SDK writes the whole body before it reads: an answer given early and a closed connection would be lost."""
    async with face.client(secret="wrong") as stranger:
        assert code_of(await stranger.send(b"z" * 5_000_000)) == "signature-wrong"
    face.door.fault = Refused(Reason.XML_DOCTYPE)
    async with face.client() as office:
        assert code_of(await office.send(b"z" * 5_000_000)) == "xml-doctype"


async def test_a_connection_is_good_for_the_next_call_after_a_refusal(face: Served, office: VxpClient) -> None:
    face.door.fault = Refused(Reason.XML_MALFORMED)
    request = as_bytes(office.prepare_send(b"z" * 300_000))
    async with line(face.port) as (reader, writer):
        for _ in range(3):
            writer.write(request)
            assert code_of(assert_readable(await read_reply(reader))) == "xml-malformed"


async def test_a_declared_length_beyond_the_limit_is_refused_before_reading() -> None:
    async with serving(settings(package_bytes_max=64 * 1024)) as face, face.client() as office:
        fits, too_large = b"z" * 64 * 1024, b"z" * (64 * 1024 + 1)
        assert (await office.send(fits))["status"] == "OK"
        answer = await office.send(too_large)
        assert (answer["ErrorCode"], code_of(answer)) == ("10", "package-too-large")
        assert len(face.door.submitted) == 1 and face.door.broken_off == []


async def test_an_undeclared_length_is_counted_while_reading() -> None:
    async with serving(settings(package_bytes_max=64 * 1024)) as face:
        values = values_of(hash_file="ab")
        head = head_of("POST", "/vxp/sendEdoc", [*call_of(values), ("Transfer-Encoding", "chunked")], None)
        chunk = b"4000\r\n" + b"z" * 0x4000 + b"\r\n"
        answer = assert_readable(await raw(face.port, head + chunk * 6))
        assert code_of(answer) == "package-too-large"
        assert face.door.submitted == [] and reason_of(face.door.broken_off) is Reason.PACKAGE_TOO_LARGE


async def test_a_large_package_is_taken_in_constant_memory(face: Served, office: VxpClient) -> None:
    piece, count = b"0123456789abcdef" * 4096, 960  # 60 MB in pieces of 64 KiB
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(piece)
    taken = hashlib.sha256()

    async def measure(system: System, chunks: AsyncIterator[bytes], claim: Claim) -> Submitted:
        async for chunk in chunks:
            taken.update(chunk)
        return Submitted("doc-1", False)

    face.door.submit = measure  # type: ignore[method-assign]
    head = head_of("POST", "/vxp/sendEdoc", call_of(values_of(hash_file=short_hex(digest.digest()))), len(piece) * count + 2)
    async with line(face.port) as (reader, writer):
        tracemalloc.start()
        try:
            writer.write(head)
            for _ in range(count):
                writer.write(piece)
                await writer.drain()
            writer.write(b"\r\n")
            assert assert_readable(await read_reply(reader))["DocId"] == "doc-1"
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert taken.digest() == digest.digest() and peak < 6_000_000


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_compressed_bodies_are_refused_everywhere(face: Served, operation: str) -> None:
    """Threats, row 7."""
    headers = [*call_of(values_of(docId="doc-1")), ("Content-Encoding", "gzip")]
    reply = await raw(face.port, head_of("POST", f"/vxp/{operation}", headers, 3) + b"\x1f\x8b\x08")
    assert face.told == [(operation, "request-malformed")]
    assert reply.body == b"" if operation == "downloadEdoc" else assert_readable(reply)["status"] == "FAIL"


async def test_a_sender_below_the_least_rate_is_cut_off_with_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threats, row 2."""
    monkeypatch.setattr("node.adapters.http.office_face.drain", None)  # nobody waits for the rest of such a body
    async with serving(settings(body_rate_min=1000), rate_window_s=0.3) as face, face.client() as office:
        request = as_bytes(office.prepare_send(b"z" * 100_000))
        for sent in (0, 10, 10_000):
            answer = assert_readable(await raw(face.port, request[: sent - 100_002]))
            assert code_of(answer) == "request-malformed" and "1000 B/s" in answer["ErrorDesc"]
        assert face.door.submitted == [] and len(face.door.broken_off) == 3


async def test_a_slow_line_above_the_least_rate_may_take_longer_than_the_deadline() -> None:
    async with serving(settings(body_rate_min=1, request_timeout_s=1.0), rate_window_s=0.5) as face, face.client() as office:
        request = as_bytes(office.prepare_send(b"z" * 30))
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with line(face.port) as (reader, writer):
            writer.write(request[:-30])
            for byte in request[-30:]:
                await asyncio.sleep(0.05)  # the pace of the line, not a wait for something to happen
                writer.write(bytes([byte]))
            answer = assert_readable(await read_reply(reader))
        assert answer["status"] == "OK" and loop.time() - began > 1.0


async def test_a_sender_that_hangs_up_leaves_nothing_behind(face: Served, office: VxpClient) -> None:
    request = as_bytes(office.prepare_send(b"z" * 100_000))
    async with line(face.port) as (_, writer):
        writer.write(request[:-50_000])
        await writer.drain()
    await until(lambda: face.door.broken_off)
    assert face.door.submitted == []
    assert (await office.send(PACKAGE))["status"] == "OK"


async def test_broken_chunk_framing_is_a_refusal_not_a_crash() -> None:
    head = head_of("POST", "/vxp/sendEdoc", [*call_of(values_of(hash_file="ab")), ("Transfer-Encoding", "chunked")], None)
    async with serving(settings(), rate_window_s=0.2) as face:
        with capture_logs() as logs:
            async with line(face.port) as (reader, writer):
                writer.write(head + b"5\r\nabcde\r\n")
                await until(lambda: face.door.begun)
                writer.write(b"nonsense\r\n")
                answer = assert_readable(await read_reply(reader))
        assert code_of(answer) == "request-malformed"
        assert reason_of(face.door.broken_off) is Reason.REQUEST_MALFORMED and face.door.submitted == []
        assert not [line for line in logs if line["log_level"] == "error"]


# -- left-overs of earlier calls -----------------------------------------------------------------------------------------


async def test_what_earlier_calls_left_behind_filters_nothing(face: Served, office: VxpClient) -> None:
    face.door.open_ids, face.door.packages = {"doc-1", "doc-2"}, {"doc-1": PACKAGE, "doc-2": PACKAGE}
    await office.send(PACKAGE, sender="H41.07")
    await office.get("doc-1")
    await office.update("doc-1", "done")
    assert [item["docId"] for item in await office.received()] == ["doc-2"]
    assert await office.count() == 1
    await office.sent()
    assert face.door.asked[-1] == ("sent", "edoc", None), "doc-1 is a received item, not one this system sent"


@pytest.mark.parametrize("left_over", ["doc-received", "x" * 200, "vănbản"])
async def test_the_sent_list_goes_by_docid_only_for_what_this_system_sent(face: Served, left_over: str) -> None:
    face.door.own_sent = {"doc-mine", "x" * 200}
    for doc_id, asked in (("doc-mine", "doc-mine"), (left_over, None)):
        reply = await raw(face.port, head_of("POST", "/vxp/getSentEdocList", call_of(values_of(docId=doc_id)), 0))
        assert assert_readable(reply)["status"] == "OK"
        assert face.door.asked[-1] == ("sent", "edoc", asked)


async def test_of_two_ids_that_differ_in_case_the_open_delivery_is_meant(face: Served, office: VxpClient) -> None:
    face.door.open_ids, face.door.packages = {"doc-2"}, {"doc-1": PACKAGE, "doc-2": PACKAGE}
    await office.get("doc-1", key="docId")
    assert (await office.update("doc-2", "done", key="docid"))["DocId"] == "doc-2"
    office.renew(NOW)
    face.door.open_ids = {"doc-3"}
    await office.update("doc-2", "processing", key="docid")
    assert (await office.update("doc-3", "done", key="docId"))["DocId"] == "doc-3"
    assert face.door.settled == [("doc-2", "done"), ("doc-2", "processing"), ("doc-3", "done")]


@pytest.mark.parametrize("open_ids", [set(), {"doc-1", "doc-2"}], ids=["none open", "both open"])
async def test_two_ids_that_cannot_be_told_apart_are_refused_and_both_named(face: Served, open_ids: set[str]) -> None:
    face.door.open_ids = open_ids
    values = values_of(docId="doc-1", status="done", docid="doc-2")
    answer = assert_readable(await raw(face.port, head_of("POST", "/vxp/updateStatus", call_of(values), 0)))
    assert code_of(answer) == "doc-ambiguous"
    assert "doc-1" in answer["ErrorDesc"] and "doc-2" in answer["ErrorDesc"]
    assert face.door.settled == []


async def test_the_same_id_under_two_cases_is_one_id(face: Served) -> None:
    values = values_of(docId="doc-1", status="done", docid="doc-1")
    answer = assert_readable(await raw(face.port, head_of("POST", "/vxp/updateStatus", call_of(values), 0)))
    assert answer["status"] == "OK" and face.door.settled == [("doc-1", "done")]


async def test_a_repeated_choice_between_two_ids_stays_what_it_was(face: Served) -> None:
    """The SDK repeats a call whose answer was lost, byte for byte; by then neither id is open."""
    face.door.open_ids = {"doc-2"}
    request = head_of("POST", "/vxp/updateStatus", call_of(values_of(docId="doc-1", status="done", docid="doc-2")), 0)
    for _ in range(2):
        answer = assert_readable(await raw(face.port, request))
        assert (answer["status"], answer["DocId"]) == ("OK", "doc-2")
    assert face.door.settled == [("doc-2", "done")] * 2


async def test_done_twice_is_ok_twice(face: Served, office: VxpClient) -> None:
    for _ in range(2):
        assert (await office.update("doc-1", "done"))["status"] == "OK"
    assert face.door.settled == [("doc-1", "done"), ("doc-1", "done")]


@pytest.mark.parametrize(("word", "well"), [("processing", 1), ("DONE", 1), (" fail ", 1), ("inbox", 0), ("01", 0), ("", 0)])
async def test_transport_words_are_three(face: Served, office: VxpClient, word: str, well: int) -> None:
    answer = await office.update("doc-1", word)
    assert (answer["status"] == "OK") is bool(well)
    assert face.door.settled == ([("doc-1", word.strip().lower())] if well else [])
    assert well or code_of(answer) == "status-word-unknown"


@pytest.mark.parametrize("operation", ["getEdoc", "updateStatus"])
async def test_a_call_without_its_docid_is_refused(face: Served, operation: str) -> None:
    reply = await raw(face.port, head_of("POST", f"/vxp/{operation}", call_of(values_of(status="done")), 0))
    assert code_of(assert_readable(reply)) == "request-malformed"


async def test_names_are_found_in_any_case_but_exactly_written_ones_first(face: Served) -> None:
    face.door.packages = {"doc-1": b"one", "doc-2": b"two"}
    for values in (values_of(DOCID="doc-1"), values_of(docid="doc-2", docId="doc-1")):
        reply = await raw(face.port, head_of("POST", "/vxp/getEdoc", call_of(values), 0))
        assert assert_readable(reply)["DocId"] == "doc-1"


# -- collecting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 999, 49_151, 49_152, 49_153, 196_500, 196_700, 400_001])
async def test_packages_come_out_byte_for_byte(face: Served, office: VxpClient, size: int) -> None:
    package = bytes(number * 7 % 256 for number in range(size))
    face.door.packages = {"doc-1": package}
    assert await office.get("doc-1") == package
    assert await office.download("doc-1") == package
    assert face.door.closed_streams == 2


async def test_a_repeated_get_is_harmless(face: Served, office: VxpClient) -> None:
    face.door.packages = {"doc-1": PACKAGE}
    assert [await office.get("doc-1") for _ in range(3)] == [PACKAGE] * 3


async def test_an_unknown_docid_fails_readably(face: Served) -> None:
    reply = await raw(face.port, head_of("POST", "/vxp/getEdoc", call_of(values_of(docId="doc-9")), 0))
    answer = assert_readable(reply)
    assert code_of(answer) == "doc-unknown" and answer["data"] == "" and "doc-9" in answer["ErrorDesc"]
    too_long = await raw(face.port, head_of("POST", "/vxp/getEdoc", call_of(values_of(docId="d" * 65)), 0))
    assert code_of(assert_readable(too_long)) == "doc-unknown"


@pytest.mark.parametrize(
    ("fault", "status"),
    [(None, 404), (Deferred(1.0), 503), (RuntimeError("secret detail"), 500), (Refused(Reason.BODY_DAMAGED), 400)],
    ids=str,
)
async def test_a_failed_download_has_no_body_at_all(face: Served, fault: Exception | None, status: int) -> None:
    face.door.fault = fault
    reply = await raw(face.port, head_of("GET", "/vxp/downloadEdoc", call_of(values_of(docId="doc-9")), None))
    assert (reply.status, reply.body, reply.headers["content-length"]) == (status, b"", "0")


async def test_a_download_without_any_signature_fails_empty(face: Served) -> None:
    """downloadEdoc2 of SDK 2.0.1 sends no header of its own."""
    reply = await raw(face.port, head_of("GET", "/vxp/downloadEdoc", [("User-Agent", "JAVASDKAgent/1.0.0 XRoad/VPCP")], None))
    assert (reply.status, reply.body) == (401, b"")
    assert face.told == [("downloadEdoc", "signature-missing")]


async def test_a_small_package_leaves_in_one_write(face: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    write, writelines = http_writer.StreamWriter._write, http_writer.StreamWriter._writelines

    def counted_write(self: Any, chunk: Any) -> None:
        writes.append(1)
        write(self, chunk)

    def counted_writelines(self: Any, chunks: Any) -> None:
        writes.append(1)
        writelines(self, chunks)

    monkeypatch.setattr(http_writer.StreamWriter, "_write", counted_write)
    monkeypatch.setattr(http_writer.StreamWriter, "_writelines", counted_writelines)
    face.door.packages = {"doc-1": b"z" * 100_000}
    for operation in ("getEdoc", "downloadEdoc", "getReceivedEdocList"):
        await raw(face.port, head_of("GET", f"/vxp/{operation}", call_of(values_of(docId="doc-1")), None))
    assert len(writes) == 3


@pytest.mark.parametrize("operation", ["getEdoc", "downloadEdoc"])
async def test_a_large_package_streams_in_constant_memory(face: Served, operation: str) -> None:
    piece, count = b"0123456789abcdef" * 4096, 960  # 60 MB in pieces of 64 KiB

    async def pieces(_: bytes) -> AsyncIterator[bytes]:
        for _number in range(count):
            yield piece

    class Sized(bytes):
        def __len__(self) -> int:
            return len(piece) * count

    face.door.packages, face.door.chunks_of = {"doc-1": Sized()}, pieces
    digest, total = hashlib.sha256(), 0
    async with line(face.port) as (reader, writer):
        tracemalloc.start()
        try:
            writer.write(head_of("GET", f"/vxp/{operation}", call_of(values_of(docId="doc-1")), None))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            while total < length:
                chunk = await reader.read(1 << 16)
                assert chunk
                total += len(chunk)
                digest.update(chunk)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 6_000_000
    if operation == "downloadEdoc":
        assert total == len(piece) * count and digest.digest() == hashlib.sha256(piece * count).digest()


@pytest.mark.parametrize("operation", ["getEdoc", "downloadEdoc"])
@pytest.mark.parametrize("trouble", ["raises", "ends early", "goes on"])
async def test_a_package_that_breaks_on_its_way_never_looks_whole(face: Served, operation: str, trouble: str) -> None:
    async def pieces(package: bytes) -> AsyncIterator[bytes]:
        yield package[:400_000]
        if trouble == "raises":
            raise OSError("the disk went away")
        yield package[400_000:] if trouble == "goes on" else b""
        if trouble == "goes on":
            yield b"more"

    face.door.packages, face.door.chunks_of = {"doc-1": b"z" * 900_000}, pieces
    with capture_logs() as logs:
        async with line(face.port) as (reader, writer):
            writer.write(head_of("GET", f"/vxp/{operation}", call_of(values_of(docId="doc-1")), None))
            head = await reader.readuntil(b"\r\n\r\n")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)) as caught:
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    if isinstance(caught.value, asyncio.IncompleteReadError):
        assert b"HTTP/1.1" not in caught.value.partial, "an answer inside an answer"
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["office call failed"]
    assert face.told == [(operation, "internal")]


async def test_a_small_package_of_another_size_than_promised_is_an_internal_fault(face: Served) -> None:
    async def pieces(package: bytes) -> AsyncIterator[bytes]:
        yield package[:-1]

    face.door.packages, face.door.chunks_of = {"doc-1": PACKAGE}, pieces
    reply = await raw(face.port, head_of("GET", "/vxp/getEdoc", call_of(values_of(docId="doc-1")), None))
    assert code_of(assert_readable(reply)) == "internal"


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    closed = asyncio.Event()

    async def endless(_: bytes) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"z" * 65_536
        finally:
            closed.set()

    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 40

    async with serving(settings(request_timeout_s=1.0, body_rate_min=1 << 30)) as face:
        face.door.packages, face.door.chunks_of = {"doc-1": Huge()}, endless
        async with line(face.port) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(head_of("GET", "/vxp/downloadEdoc", call_of(values_of(docId="doc-1")), None))
            await closed.wait()
            await until(lambda: face.told)
        assert face.told == [("downloadEdoc", "not-now")]


# -- the directory -------------------------------------------------------------------------------------------------------


def entry(code: str, name: str, **fields: Any) -> Entry:
    return Entry(OrgId(tuple(code.split("."))), name, connection=Connection.OFFICIAL, **fields)


async def test_the_directory_is_told_in_three_forms(face: Served, office: VxpClient) -> None:
    face.door.entries = [
        entry("H41", "Ủy ban nhân dân tỉnh Nghệ An", old_code="000.00.00.H41", valid_from=date(2020, 1, 1)),
        entry("H41.07", "Sở Tư pháp", old_code="000.00.07.H41"),
        entry("H14", "Ủy ban nhân dân tỉnh cũ", valid_to=date(2025, 6, 30), successor=OrgId(("H41",))),
    ]
    agencies = await office.agencies()
    assert [(item["id"], item["pid"], item["oldCode"]) for item in agencies] == [
        ("H41", "", "000.00.00.H41"),
        ("H41.07", "H41", "000.00.07.H41"),
    ]
    assert [item["code102"] for item in await office.agencies_qd20("2")] == ["000.00.07.H41"]
    units = {item["id"]: item for item in await office.units()}
    assert units["H14"]["deleted"] is True and units["H41"]["deleted"] is False
    assert units["H41.07"]["centerCode"] == "H41" and isinstance(units["H41"]["version"], int)


@pytest.mark.parametrize(("level", "count"), [("", 2), ("1", 1), ("2", 1), ("9", 0)])
async def test_the_level_counts_the_groups_of_a_code(face: Served, office: VxpClient, level: str, count: int) -> None:
    face.door.entries = [entry("H41", "a"), entry("H41.07", "b")]
    assert len(await office.agencies_qd20(level)) == count


@pytest.mark.parametrize("level", ["x", "-1", "1.5", "999"])
async def test_a_level_that_is_no_number_is_refused(face: Served, office: VxpClient, level: str) -> None:
    with pytest.raises(VxpFailed, match="request-malformed"):
        await office.agencies_qd20(level)


async def test_requests_about_agencies_wait_for_an_operator(face: Served, office: VxpClient) -> None:
    fields = {"id": "", "pcode": "H41", "Code": "H41.08", "name": "Sở Y tế", "mail": "", "mobile": "", "fax": "", "other": "x"}
    registered = await office.register_agency(fields)
    deleted = await office.delete_agency("H41.07")
    assert "số 1" in registered["ErrorDesc"] and "người vận hành" in registered["ErrorDesc"] and "số 2" in deleted["ErrorDesc"]
    wanted = {"id": "", "pcode": "H41", "code": "H41.08", "name": "Sở Y tế", "mail": "", "mobile": "", "fax": ""}
    assert face.door.requests == [("register", wanted), ("delete", {"code": "H41.07"})]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"x",
        b'{"code":"a","code":"b"}',
        b'{"code":NaN}',
        b'{"code":"a","name":"' + b"x" * 500 + b'"}',
        b"[" * 60_000,
        b'{"code":"' + b"x" * 70_000 + b'"}',
        b'{"code":"\xff"}',
    ],
    ids=lambda body: str(body[:30]),
)
async def test_a_request_about_an_agency_that_is_no_request_is_refused(face: Served, body: bytes) -> None:
    reply = await raw(face.port, head_of("POST", "/vxp/registerAgency", call_of(values_of()), len(body)) + body)
    assert assert_readable(reply)["status"] == "FAIL"
    assert face.door.requests == []


# -- whatever happens ----------------------------------------------------------------------------------------------------


def example_of(operation: str) -> tuple[dict[str, str], bytes]:
    body = {"sendEdoc": PACKAGE, "registerAgency": b'{"code":"H41.09"}'}.get(operation, b"{}")
    values = values_of(docId="doc-1", status="done", AgencyCode="H41", level="1")
    return values | {"hash-file": hashlib.sha256(PACKAGE).hexdigest()}, body


@pytest.mark.parametrize("operation", JSON_OPERATIONS)
async def test_every_answer_is_ascii_json_without_a_null(face: Served, operation: str) -> None:
    face.door.open_ids, face.door.packages = {"doc-1"}, {"doc-1": PACKAGE}
    face.door.entries = [entry("H41", "Nghệ An"), entry("H41.07", "Sở")]
    values, body = example_of(operation)
    answer = assert_readable(await raw(face.port, head_of("POST", f"/vxp/{operation}", call_of(values), len(body)) + body))
    assert answer["status"] == "OK", answer
    assert face.told == [(operation, "ok")]


@pytest.mark.parametrize("operation", JSON_OPERATIONS)
async def test_a_fault_of_ours_is_logged_with_its_traceback_and_answered_in_json(face: Served, operation: str) -> None:
    face.door.fault = RuntimeError("detail for the log only")
    values, body = example_of(operation)
    with capture_logs() as logs:
        reply = await raw(face.port, head_of("POST", f"/vxp/{operation}", call_of(values), len(body)) + body)
    answer = assert_readable(reply)
    assert (answer["ErrorCode"], code_of(answer)) == ("20", "internal")
    assert answer["data"] == ("" if operation == "getEdoc" else [])
    assert b"detail" not in reply.body
    (error,) = [line for line in logs if line["log_level"] == "error"]
    assert error["exc_info"]


async def test_a_node_that_hangs_answers_within_its_deadline() -> None:
    async with serving(settings(request_timeout_s=1.0)) as face, face.client() as office:

        async def never(system: System, kind: str) -> int:
            await asyncio.Event().wait()
            return 0

        face.door.count = never  # type: ignore[method-assign]
        with pytest.raises(VxpFailed, match="not-now"):
            await office.count()


async def test_a_client_that_left_is_nobodys_fault(face: Served, office: VxpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def left(*_: object) -> web.StreamResponse:
        raise Gone

    monkeypatch.setattr("node.adapters.http.office_vxp.write_whole", left)
    with capture_logs() as logs, pytest.raises(Unreadable):
        await office.count()
    assert face.told == [("countReceiveEdoc", "gone")]
    assert {line["log_level"] for line in logs} == {"debug"}


async def test_the_log_names_no_secret_no_signature_and_no_content(face: Served) -> None:
    """Threats, row 33."""
    face.door.packages = {"doc-1": PACKAGE}
    with capture_logs() as logs:
        async with face.client() as office, face.client(secret="wrong-secret-7") as stranger:
            await office.send(PACKAGE, sender="H41.07")
            await office.get("doc-1")
            await office.update("doc-1", "done")
            await stranger.send(PACKAGE, sender="forged\u202e<script>")
            mac = dict(stranger.prepare("getEdoc", {"docId": "doc-1"}).headers)["XroadVnpt-hash-header"]
    text = repr(logs)
    assert logs
    digest = short_hex(hashlib.sha256(PACKAGE).digest())
    for hidden in (SECRET, "wrong-secret-7", mac, digest, "Công văn", "forged", "sign-header"):
        assert hidden not in text


async def test_many_calls_at_once_are_kept_apart(face: Served) -> None:
    packages = [f"<a>{number}</a>".encode() for number in range(60)]

    async def one(package: bytes) -> str:
        async with face.client() as office:
            return str((await office.send(package))["DocId"])

    ids = await asyncio.gather(*(one(package) for package in packages))
    assert ids == [f"doc-{hashlib.sha256(package).hexdigest()[:8]}" for package in packages]


async def test_the_client_calls_an_unreadable_answer_by_its_name() -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", page)
    async with listening(app) as port, VxpClient(f"http://127.0.0.1:{port}/vxp", SYSTEM, SECRET) as office:
        with pytest.raises(Unreadable):
            await office.received()

"""A listening address defends itself before anything is asked of it."""

from __future__ import annotations

import asyncio
import errno
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import http_parser, web
from structlog.testing import capture_logs

from node.adapters.http.listener import TLS_READ_BYTES, TLS_SHUTDOWN_S, Guards, Listener, listen
from node.adapters.http.office_vxp import malformed
from node.adapters.http.tls import link_client_context, link_server_context
from tests.adapters.pki import ZONE, authority, leaf, put

GUARDS = Guards(connections_max=100, per_address_max=50, per_certificate_max=50, handshake_timeout_s=5, idle_timeout_s=5)
HOST = "127.0.0.1"
GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
CLOSING = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"

Start = Callable[..., Awaitable[Listener]]


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=request.path)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    running: list[Listener] = []

    async def started(
        guards: Guards = GUARDS,
        context: ssl.SSLContext | None = None,
        handler: Callable[..., object] = hello,
        answer: Callable[[int], bytes] | None = None,
    ) -> Listener:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]
        running.append(await listen(app, HOST, 0, guards, context, answer))
        return running[-1]

    yield started
    for listener in running:
        await listener.close(0.2)


async def said(listener: Listener, data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """What comes back until the listener closes; a reset counts as nothing."""
    name = f"h41.{ZONE}" if context else None
    try:
        reader, writer = await asyncio.open_connection(HOST, listener.port, ssl=context, server_hostname=name)
    except OSError:
        return b""
    try:
        writer.write(data)
        return await reader.read()
    except OSError:
        return b""
    finally:
        writer.close()


async def silent(listener: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, listener.port)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


@pytest.fixture
def strangers(tmp_path: Path, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> ssl.SSLContext:
    """Of a caller that has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tmp_path / "server" / "trust.pem")
    context.verify_flags = contexts[1].verify_flags
    return context


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    root = authority("root")
    server = put(tmp_path / "server", leaf(root, f"h41.{ZONE}"), root)
    client = put(tmp_path / "client", leaf(root, f"07.h41.{ZONE}"), root)
    return (
        link_server_context(server.certificate, server.key, server.trust),
        link_client_context(client.certificate, client.key, client.trust),
    )


async def test_it_serves_on_the_port_it_was_given_by_the_system(start: Start) -> None:
    listener = await start()
    assert listener.port > 0
    assert (await said(listener, CLOSING)).endswith(b"\r\n\r\n/")


async def test_it_serves_tls_and_keeps_what_came_in_one_flight_with_the_handshake(
    start: Start, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    listener = await start(context=contexts[0])
    answers = await asyncio.gather(*(said(listener, CLOSING, contexts[1]) for _ in range(20)))
    assert all(answer.endswith(b"\r\n\r\n/") for answer in answers)


async def test_all_tls_connections_read_into_one_buffer_and_none_reads_another_ones_bytes(
    start: Start, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """A buffer of each one's own is a quarter of a megabyte for each child that waits. An asyncio that has another name for it
    is found here."""
    buffers: set[int] = set()

    async def echo(request: web.Request) -> web.Response:
        assert request.transport is not None
        protocol = request.transport._ssl_protocol  # type: ignore[attr-defined]
        buffers.add(id(protocol.get_buffer(-1)))
        assert len(protocol.get_buffer(-1)) == TLS_READ_BYTES
        body = bytearray()
        while chunk := await request.content.readany():
            body += chunk
            await asyncio.sleep(0)  # so that they take turns
        return web.Response(body=bytes(body))

    listener = await start(context=contexts[0], handler=echo)

    async def sent(fill: bytes) -> bool:
        body = fill * 700_000
        head = b"POST / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        answer = await said(listener, head + body, contexts[1])
        return answer.endswith(b"\r\n\r\n" + body)

    assert all(await asyncio.gather(*(sent(fill) for fill in (b"mot", b"hai", b"ba.", b"bon"))))
    assert len(buffers) == 1


async def test_a_connection_that_says_nothing_is_closed(start: Start) -> None:
    """Threats, row 1."""
    listener = await start(replace(GUARDS, idle_timeout_s=0.2))
    for opening in (b"", b"GET / HTTP/1.1\r\nHost: he"):
        reader, writer = await silent(listener)
        writer.write(opening)
        assert await until_closed(reader) == b""
        writer.close()


async def test_a_kept_connection_is_closed_when_nothing_more_is_asked(start: Start) -> None:
    """Threats, row 1."""
    listener = await start(replace(GUARDS, idle_timeout_s=0.2))
    assert (await said(listener, GET)).endswith(b"\r\n\r\n/")


@pytest.mark.parametrize("opening", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], ids=["nothing", "half a ClientHello"])
async def test_a_handshake_that_does_not_come_is_cut(
    start: Start, contexts: tuple[ssl.SSLContext, ssl.SSLContext], opening: bytes
) -> None:
    """Threats, row 3."""
    listener = await start(replace(GUARDS, handshake_timeout_s=0.2), contexts[0])
    reader, writer = await silent(listener)
    writer.write(opening)
    assert await until_closed(reader) == b""
    writer.close()
    assert listener.refused["handshake"] == 1
    assert (await said(listener, CLOSING, contexts[1])).endswith(b"/")


async def test_the_reason_of_a_failed_handshake_is_logged_where_the_client_cannot_see_it(
    start: Start, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    listener = await start(context=contexts[0])
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    with capture_logs() as logs:
        assert await said(listener, CLOSING, nobody) == b""
        assert await said(listener, GET) == b""
    reasons = [entry["reason"] for entry in logs if entry["event"] == "tls handshake failed"]
    assert reasons == ["PEER_DID_NOT_RETURN_A_CERTIFICATE", "HTTP_REQUEST"]
    assert listener.connections == 0


async def test_one_address_cannot_take_all_connections(start: Start) -> None:
    """Threats, row 4."""
    listener = await start(replace(GUARDS, per_address_max=5))
    held = [await silent(listener) for _ in range(5)]
    refused = [await silent(listener) for _ in range(20)]
    assert [await until_closed(reader) for reader, _ in refused] == [b""] * 20
    assert (listener.connections, listener.refused["connections-per-peer"]) == (5, 20)
    other, writer = await asyncio.open_connection(HOST, listener.port, local_addr=("127.0.0.2", 0))
    writer.write(CLOSING)
    assert (await other.read()).endswith(b"/")
    for _, each in (*held, *refused, (other, writer)):
        each.close()


async def test_the_total_is_capped_and_a_place_left_is_a_place_free(start: Start) -> None:
    listener = await start(replace(GUARDS, connections_max=2))
    (first, first_writer), (_, second) = [await silent(listener) for _ in range(2)]
    assert await said(listener, CLOSING) == b""
    assert listener.refused["connections"] == 1
    first_writer.write(CLOSING)
    assert (await until_closed(first)).endswith(b"/")
    assert (await said(listener, CLOSING)).endswith(b"/")
    for each in (first_writer, second):
        each.close()


async def test_those_who_show_a_certificate_count_for_it_and_not_for_their_address(
    start: Start, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    listener = await start(replace(GUARDS, per_address_max=1, per_certificate_max=3), contexts[0])
    name = f"h41.{ZONE}"
    writers = []
    for _ in range(3):
        reader, writer = await asyncio.open_connection(HOST, listener.port, ssl=contexts[1], server_hostname=name)
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writers.append(writer)
    with capture_logs() as logs:
        assert await said(listener, GET, contexts[1]) == b""
    assert [entry["event"] for entry in logs] == ["too many connections with one certificate"]
    for writer in writers:
        writer.close()


async def test_those_who_show_none_where_most_do_have_a_cap_of_their_own(
    start: Start, contexts: tuple[ssl.SSLContext, ssl.SSLContext], strangers: ssl.SSLContext
) -> None:
    """Threats, row 4: who comes to enrol takes no place from known neighbours, nor one address from all who come to enrol."""
    contexts[0].verify_mode = ssl.CERT_OPTIONAL
    listener = await start(replace(GUARDS, strangers_max=8), contexts[0])
    name = f"h41.{ZONE}"
    writers = []
    for _ in range(2):
        reader, writer = await asyncio.open_connection(HOST, listener.port, ssl=strangers, server_hostname=name)
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writers.append(writer)
    with capture_logs() as logs:
        assert await said(listener, GET, strangers) == b""
    assert [entry["event"] for entry in logs] == ["too many connections without a certificate"]
    assert (await said(listener, CLOSING, contexts[1])).startswith(b"HTTP/1.1 200")
    for writer in writers:
        writer.close()


def test_no_more_than_half_of_all_may_be_on_their_way_where_strangers_come() -> None:
    assert replace(GUARDS, connections_max=9, strangers_max=8).on_arrival("a")["unproven"] == 4
    assert "unproven" not in GUARDS.on_arrival("a")


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nxxxxx",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        b"\x00\x01\x02 not http\r\n\r\n",
    ],
)
async def test_malformed_or_swollen_heads_are_400_and_the_log_does_not_repeat_them(start: Start, request_: bytes) -> None:
    """Threats, row 5."""
    listener = await start()
    with capture_logs() as logs:
        answer = await said(listener, request_)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert not any("aaaa" in str(entry) or "not http" in str(entry) for entry in logs)


@pytest.mark.parametrize("head", [b"X: " + b"x" * 9000, b"From: d\x11", b"Content-Length: 5\r\nContent-Length: 6"])
async def test_what_is_no_request_hears_the_faces_own_words(start: Start, head: bytes) -> None:
    listener = await start(answer=malformed)
    heard = await said(listener, b"POST /vxp/sendEdoc HTTP/1.1\r\nHost: here\r\n" + head + b"\r\n\r\n")
    top, _, body = heard.partition(b"\r\n\r\n")
    assert b" 400 " in top.splitlines()[0] and b"application/json" in top
    answer = json.loads(body.decode("ascii"))
    assert answer["status"] == "FAIL" and answer["ErrorCode"] != "0" and "[request-malformed]" in answer["ErrorDesc"]
    assert answer["DocId"] == "" and answer["data"] == []


async def test_a_wider_header_limit_is_the_listeners_own(start: Start) -> None:
    listener = await start(replace(GUARDS, header_bytes_max=64 * 1024))
    wide = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: " + b"a" * 60_000 + b"\r\n\r\n"
    assert (await said(listener, wide)).endswith(b"/")


async def test_a_compressed_body_reaches_the_handler_as_it_came(start: Start) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    listener = await start(handler=echo)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n"
    assert (await said(listener, head + b"abc")).endswith(b"\r\n\r\nabc")


async def test_a_handler_whose_client_hangs_up_is_cancelled(start: Start) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    listener = await start(handler=wait)
    _, writer = await silent(listener)
    writer.write(GET)
    await entered.wait()
    writer.close()
    await cancelled.wait()


async def test_closing_lets_a_request_finish_and_takes_no_new_ones(start: Start) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        entered.set()
        await go_on.wait()
        return web.Response(text="done")

    listener = await start(handler=slow)
    reader, writer = await silent(listener)
    idle, idle_writer = await silent(listener)
    writer.write(GET)
    await entered.wait()
    closing = asyncio.create_task(listener.close(10))
    assert await until_closed(idle) == b""
    with pytest.raises(OSError):
        await silent(listener)
    go_on.set()
    assert (await reader.read()).endswith(b"done")
    await closing
    assert listener.connections == 0
    for each in (writer, idle_writer):
        each.close()


async def test_closing_cuts_what_does_not_end_within_the_grace(
    start: Start, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    entered = asyncio.Event()

    async def forever(request: web.Request) -> web.Response:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    listener = await start(context=contexts[0], handler=forever)
    asked = asyncio.create_task(said(listener, GET, contexts[1]))
    _, half = await silent(listener)  # in the middle of a handshake
    await entered.wait()
    began = asyncio.get_running_loop().time()
    await listener.close(0.2)
    assert asyncio.get_running_loop().time() - began < TLS_SHUTDOWN_S
    assert await asked == b""
    assert listener.connections == 0
    half.close()


async def test_when_no_descriptor_is_left_those_that_wait_are_taken_later(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.adapters.http.listener.ACCEPT_RETRY_S", 0.05)
    loop = asyncio.get_running_loop()
    really, left = loop.sock_accept, [ConnectionAbortedError(), OSError(errno.EMFILE, "Too many open files"), None]

    async def sock_accept(listening: Any) -> Any:
        if left and (error := left.pop(0)) is not None:
            raise error
        return await really(listening)

    monkeypatch.setattr(loop, "sock_accept", sock_accept)
    with capture_logs() as logged:
        listener = await start()
        assert b"200 OK" in await said(listener, CLOSING)
    assert listener.refused["descriptors"] == 1
    assert [entry["reason"] for entry in logged if entry["event"] == "cannot accept"] == ["Too many open files"]


async def test_closing_in_the_turn_in_which_a_connection_is_accepted_ends(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = await start()
    begun = asyncio.Event()
    really = listener._begin

    def begin(*work: Any) -> None:
        before = set(listener._opening)
        really(*work)
        (opening,) = listener._opening - before
        opening.cancel()  # before its first step
        begun.set()

    monkeypatch.setattr(listener, "_begin", begin)
    _reader, writer = await asyncio.open_connection(HOST, listener.port)
    await begun.wait()
    async with asyncio.timeout(5):
        await listener.close(0.1)
    assert listener.connections == 0
    writer.close()


async def test_an_address_in_use_is_an_error_that_leaves_nothing_behind(start: Start) -> None:
    listener = await start()
    with pytest.raises(OSError):
        await listen(web.Application(), HOST, listener.port, GUARDS)


async def test_it_does_not_start_on_the_parser_without_its_c_part(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threats, row 8."""

    class Python:
        __module__ = "aiohttp.http_parser"

    monkeypatch.setattr(http_parser, "HttpRequestParser", Python)
    with pytest.raises(RuntimeError, match="C parser"):
        await start()


async def test_it_does_not_start_where_aiohttp_would_drop_the_limits(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.Server, "__call__", lambda self: web.RequestHandler(self, loop=asyncio.get_running_loop()))
    with pytest.raises(RuntimeError, match="limits"):
        await start()

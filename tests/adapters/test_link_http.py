"""Parent and child over real TLS on loopback: good calls, strangers, hostile requests and hostile answers."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from node import config
from node.adapters.http import link_server
from node.adapters.http.link_client import HttpLink
from node.adapters.http.link_server import PIECE_BYTES, TAKEN_BYTES, link_app
from node.adapters.http.listener import Guards, Listener, listen
from node.adapters.http.tls import (
    Registered,
    judge,
    link_client_context,
    link_server_context,
    registered,
    spki_pin,
)
from node.core.changes import Head
from node.core.directory_wire import Exchange
from node.core.envelope import encode_header, open_envelope
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import HUB, OrgId
from node.core.pace import Way
from node.core.statement import Post
from node.core.timekeeping import Moment
from node.core.wire import (
    BODY_CHUNK_MAX,
    MEDIA_TYPE,
    Batch,
    EnvelopeVerdicts,
    Outcome,
    PullRequest,
    Question,
    Verdict,
    encode_batch,
    encode_verdicts,
    limits_for,
)
from tests.adapters.pki import DAY, DAY_MS, NOW, NOW_MS, ZONE, Clock, Files, Holder, authority, leaf, put
from tests.core.test_envelope import H54, HEADER

HOST = "127.0.0.1"
PARENT, CHILD = OrgId(("H41",)), OrgId(("H41", "07"))
PARENT_NAME, CHILD_NAME = f"h41.{ZONE}", f"07.h41.{ZONE}"
GUARDS = Guards(connections_max=50, per_address_max=20, per_certificate_max=8, handshake_timeout_s=5, idle_timeout_s=5)

ROOT = authority("root")
ISSUER = authority("H41", ROOT, permitted=[PARENT_NAME])
SERVER, NODE = leaf(ISSUER, PARENT_NAME), leaf(ISSUER, CHILD_NAME)

ENVELOPE = open_envelope(encode_header(HEADER), b"signature", (H54,), (), 0)
BODY = b"<edXML/>"
DIGEST = hashlib.sha256(BODY).hexdigest()
BATCH = Batch((ENVELOPE,), {DIGEST: BODY})
TAKEN = (EnvelopeVerdicts(HEADER.origin, HEADER.id, {H54: Verdict(Outcome.TAKEN)}),)
PULL = PullRequest("session-1", 1, 0, TAKEN, 1 << 20, 0)


@dataclass
class Downlink:
    """What stands behind the parent's listener: remembers each call, answers what the test put here, holds one body."""

    calls: list[tuple[str, OrgId, object]] = field(default_factory=list)
    failure: Exception | None = None
    answer: Batch = field(default_factory=lambda: replace(BATCH, sequence=7))
    held: bytearray = field(default_factory=bytearray)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    time: Moment = field(default_factory=lambda: Moment(NOW_MS * 1000 + 7, 1_000_500, 1, True))

    async def _called(self, name: str, peer: OrgId, what: object) -> None:
        self.calls.append((name, peer, what))
        self.entered.set()
        if self.failure is not None:
            raise self.failure
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

    async def push(self, peer: OrgId, batch: Batch) -> tuple[EnvelopeVerdicts, ...]:
        await self._called("push", peer, batch)
        return TAKEN

    async def pull(self, peer: OrgId, request: PullRequest) -> Batch:
        await self._called("pull", peer, request)
        return self.answer

    async def put_body(self, peer: OrgId, sha256: str, size: int, offset: int, chunk: bytes) -> int:
        await self._called("put", peer, (sha256, size, offset, len(chunk)))
        if offset == len(self.held):
            self.held += chunk
        return len(self.held)

    async def directory(self, peer: OrgId, said: Exchange) -> Exchange:
        await self._called("directory", peer, said)
        return replace(said, have={**said.have, HUB: Head(1, 7)})

    async def get_body(self, peer: OrgId, sha256: str, offset: int, length: int) -> bytes:
        await self._called("get", peer, (sha256, offset, length))
        return bytes(self.held[offset : offset + length])

    async def statements(self, peer: OrgId, post: Post) -> tuple[str, ...]:
        await self._called("statements", peer, post)
        return ("new",) * len(post.items)

    async def query(self, peer: OrgId, asked: Question) -> bytes:
        await self._called("query", peer, asked)
        return b"an answer to " + asked.body

    async def answered(self, peer: OrgId, number: int, data: bytes) -> None:
        await self._called("answer", peer, (number, data))

    def moment(self) -> Moment:
        self.calls.append(("moment", PARENT, None))
        return self.time


@dataclass
class Road:
    """A parent that listens and all that a test needs to be its child, or something worse."""

    folder: Path
    clock: Clock
    downlink: Downlink
    listener: Listener
    counted: list[Reason]
    made: list[HttpLink]

    def files(self, holder: Holder = NODE, trust: Holder = ROOT) -> Files:
        return put(self.folder / hashlib.sha256(holder.der).hexdigest()[:8], holder, trust)

    def link(self, holder: Holder = NODE, port: int | None = None, **options: object) -> HttpLink:
        link = HttpLink(section(self.files(holder), port or self.listener.port, **options), ZONE, self.clock)
        self.made.append(link)
        return link

    def context(self, holder: Holder = NODE) -> ssl.SSLContext:
        files = self.files(holder)
        return link_client_context(files.certificate, files.key, files.trust)

    async def raw(self, *parts: bytes, context: ssl.SSLContext | None = None) -> bytes:
        """Send bytes, return all that comes until the end; a reset ends it too."""
        reader, writer = await asyncio.open_connection(
            HOST, self.listener.port, ssl=context or self.context(), server_hostname=PARENT_NAME
        )
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()


def section(files: Files, port: int, **options: object) -> config.Link:
    """The link's section of a child, or (where the parent's options are given) of the parent."""
    link = config.Link(
        certificate=files.certificate,
        key=files.key,
        trust=files.trust,
        parent_url=f"https://{HOST}:{port}",
        parent_code=str(PARENT),
        request_timeout_s=10,
        batch_bytes_max=64 * 1024,
        batch_envelopes_max=10,
    )
    return link.model_copy(update=options)  # past the bounds a configuration file must keep: tests are impatient


Open = Callable[..., Awaitable[Road]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    roads: list[Road] = []

    async def open_road(
        server: Holder = SERVER, peers: Registered | None = None, guards: Guards = GUARDS, **options: object
    ) -> Road:
        clock, downlink, counted = Clock(), Downlink(), list[Reason]()
        files = put(tmp_path / "parent", server, ROOT)
        judged = judge(registered([(CHILD, ())], ZONE) if peers is None else peers, clock)
        app = link_app(section(files, 1, **options), downlink, judged, counted.append)
        context = link_server_context(files.certificate, files.key, files.trust)
        roads.append(Road(tmp_path, clock, downlink, await listen(app, HOST, 0, guards, context), counted, []))
        return roads[-1]

    yield open_road
    for road in roads:
        for link in road.made:
            await link.close()
        await road.listener.close(0.2)


@pytest.fixture
async def road(opened: Open) -> Road:
    return await opened()


async def deferred(call: Awaitable[object]) -> Deferred:
    with pytest.raises(Deferred) as caught:
        await call
    return caught.value


async def refused(call: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as caught:
        await call
    return caught.value


def head(method: str, path: str, media: str, size: int | str, *more: str) -> bytes:
    lines = [f"{method} /link/v1/{path} HTTP/1.1", "Host: parent", f"Content-Type: {media}", "Connection: close", *more]
    if size != "":
        lines.append("Transfer-Encoding: chunked" if size == "chunked" else f"Content-Length: {size}")
    return "\r\n".join([*lines, "", ""]).encode()


def push_head(size: int | str, *more: str) -> bytes:
    return head("POST", "push", MEDIA_TYPE, size, *more)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def reason_in(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["reason"])


# -- the four calls -------------------------------------------------------------------------------------------------------


async def test_a_push_carries_the_batch_up_and_the_verdicts_down(road: Road) -> None:
    assert await road.link().push(BATCH) == TAKEN
    assert road.downlink.calls == [("push", CHILD, BATCH)]


async def test_a_pull_carries_verdicts_up_and_a_batch_down(road: Road) -> None:
    assert await road.link().pull(PULL) == replace(BATCH, sequence=7)
    assert road.downlink.calls == [("pull", CHILD, PULL)]


async def test_a_body_goes_up_in_chunks_and_resumes_where_it_was_cut(road: Road) -> None:
    link, body = road.link(), bytes(range(256)) * 1000
    digest = hashlib.sha256(body).hexdigest()
    assert await link.put_body(digest, len(body), 0, body[:100_000]) == 100_000
    again = road.link()
    held = await again.put_body(digest, len(body), 0, b"")
    assert held == 100_000
    assert await again.put_body(digest, len(body), 5, b"wrong offset") == held
    assert await again.put_body(digest, len(body), held, body[held:]) == len(body)
    assert bytes(road.downlink.held) == body
    assert road.downlink.calls[-1] == ("put", CHILD, (digest, len(body), held, len(body) - held))


async def test_a_body_comes_down_in_chunks_from_any_offset(road: Road) -> None:
    road.downlink.held += bytes(range(256)) * 1000
    link = road.link()
    assert await link.get_body(DIGEST, 255_990, 100) == bytes(range(246, 256))
    assert await link.get_body(DIGEST, 0, 256_000) == bytes(road.downlink.held)
    assert road.downlink.calls == [("get", CHILD, (DIGEST, 255_990, 100)), ("get", CHILD, (DIGEST, 0, 256_000))]


async def test_batches_and_chunks_larger_than_a_megabyte_pass_too(opened: Open) -> None:
    big = b"b" * (3 << 20)
    batch = Batch((ENVELOPE,), {hashlib.sha256(big).hexdigest(): big}, sequence=1)
    road = await opened(batch_bytes_max=4 << 20)
    road.downlink.answer = batch
    link = road.link(batch_bytes_max=4 << 20)
    assert await link.push(batch) == TAKEN
    assert await link.pull(PULL) == batch
    assert await link.put_body(DIGEST, len(big), 0, big) == len(big)
    assert await link.get_body(DIGEST, 0, len(big)) == big


async def test_a_long_chunk_is_handed_on_piece_by_piece_and_what_came_before_a_cut_is_kept(road: Road) -> None:
    """Neither side holds more than a piece, and a cut costs no more than that."""
    chunk = random.Random(1).randbytes(BODY_CHUNK_MAX)
    assert await road.link().put_body(DIGEST, len(chunk), 0, chunk) == len(chunk)
    assert await road.link().get_body(DIGEST, 0, len(chunk)) == chunk == bytes(road.downlink.held)
    calls = [(name, length) for name, _, (*_, length) in cast("list[tuple[str, OrgId, tuple[Any, ...]]]", road.downlink.calls)]
    assert {name for name, _ in calls} == {"put", "get"}
    assert max(length for _, length in calls) < 2 * TAKEN_BYTES

    road.downlink.held.clear()
    _, writer = await asyncio.open_connection(HOST, road.listener.port, ssl=road.context(), server_hostname=PARENT_NAME)
    path = f"bodies/{DIGEST}?offset=0&size={len(chunk)}"
    writer.write(head("PUT", path, "application/octet-stream", len(chunk)) + chunk[: len(chunk) // 2])
    await writer.drain()
    while not road.downlink.held:
        await asyncio.sleep(0)
    writer.transport.abort()
    await road.listener.empty.wait()
    held = len(road.downlink.held)
    assert 0 < held <= len(chunk) // 2
    assert await road.link().put_body(DIGEST, len(chunk), 0, b"") == held
    assert bytes(road.downlink.held) == chunk[:held]


async def test_what_comes_slowly_is_handed_on_before_its_chunk_is_whole(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_server, "TAKEN_S", 0.0)
    _, writer = await asyncio.open_connection(HOST, road.listener.port, ssl=road.context(), server_hostname=PARENT_NAME)
    writer.write(head("PUT", f"bodies/{DIGEST}?offset=0&size=1000", "application/octet-stream", 1000))
    for held in (10, 20, 30):
        writer.write(b"x" * 10)
        while len(road.downlink.held) < held:
            await asyncio.sleep(0)
    writer.transport.abort()
    await road.listener.empty.wait()
    assert len(road.downlink.held) == 30


async def test_a_body_that_fails_in_the_middle_of_an_answer_breaks_it_off(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    road.downlink.held += bytes(2 * PIECE_BYTES)
    really = road.downlink.get_body

    async def get_body(peer: OrgId, sha256: str, offset: int, length: int) -> bytes:
        if offset:
            raise Refused(Reason.BODY_DAMAGED, "sha256", sha256)
        return await really(peer, sha256, offset, length)

    monkeypatch.setattr(road.downlink, "get_body", get_body)
    link = road.link()
    got = await link.get_body(DIGEST, 0, 2 * PIECE_BYTES)
    assert 0 < len(got) <= PIECE_BYTES
    with pytest.raises(Refused):
        await link.get_body(DIGEST, PIECE_BYTES, PIECE_BYTES)


async def test_calls_use_kept_connections(road: Road) -> None:
    link = road.link()
    for _ in range(5):
        await link.push(BATCH)
    assert road.listener.connections == 1


async def test_a_push_passes_while_a_pull_waits(road: Road) -> None:
    link = road.link()
    road.downlink.hold = asyncio.Event()
    waiting = asyncio.create_task(link.pull(PULL))
    await road.downlink.entered.wait()
    hold, road.downlink.hold = road.downlink.hold, None
    assert await link.push(BATCH) == TAKEN
    hold.set()
    assert (await waiting).sequence == 7
    assert road.listener.connections == 2


async def test_a_child_that_hangs_up_cancels_its_pull(road: Road) -> None:
    road.downlink.hold = asyncio.Event()
    waiting = asyncio.create_task(road.link().pull(PULL))
    await road.downlink.entered.wait()
    waiting.cancel()
    await road.downlink.cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# -- what the parent says of a call ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "code"),
    [(Reason.SENDER_OUTSIDE, 403), (Reason.BODY_UNKNOWN, 404), (Reason.WIRE_TOO_LARGE, 413), (Reason.BODY_DAMAGED, 400)],
)
async def test_a_refusal_reaches_the_child_with_its_reason_element_value_and_rule(road: Road, reason: Reason, code: int) -> None:
    road.downlink.failure = Refused(reason, "phần tử", "giá trị", "≤ 1")
    heard = await refused(road.link().push(BATCH))
    assert (heard.reason, heard.element, heard.value, heard.rule) == (reason, "phần tử", "giá trị", "≤ 1")
    assert status(await road.raw(head("GET", f"bodies/{DIGEST}?offset=0&length=1", "", ""))) == code
    assert road.counted == [reason, reason]


async def test_later_reaches_the_child_with_its_wait_and_leaves_nothing_in_doubt(road: Road) -> None:
    road.downlink.failure = Deferred(0.25, Reason.DISK_FULL)
    heard = await deferred(road.link().push(BATCH))
    assert (heard.retry_after_s, heard.reason, heard.in_doubt) == (0.25, Reason.DISK_FULL, False)
    answer = await road.raw(head("GET", f"bodies/{DIGEST}?offset=0&length=1", "", ""))
    assert (status(answer), b"\r\nRetry-After: 1\r\n" in answer) == (503, True)


async def test_an_error_nobody_classified_is_logged_and_leaves_the_child_in_doubt(road: Road) -> None:
    road.downlink.failure = ZeroDivisionError("bug")
    with capture_logs() as logs:
        heard = await deferred(road.link().push(BATCH))
    assert heard.in_doubt
    assert [entry["exc_info"] for entry in logs if entry["event"] == "link request failed"] == [True]
    road.downlink.failure = None
    assert await road.link().push(BATCH) == TAKEN


# -- who may call ---------------------------------------------------------------------------------------------------------

STRANGERS = {
    "self-signed": leaf(None, CHILD_NAME, subject="self"),
    "foreign authority": leaf(authority("foreign"), CHILD_NAME),
    "outside its issuer's names": leaf(ISSUER, f"h54.{ZONE}"),
    "two names, one outside": leaf(ISSUER, CHILD_NAME, f"h54.{ZONE}"),
    "issuer that is no authority": leaf(leaf(ISSUER, PARENT_NAME, subject="leaf"), CHILD_NAME),
}


@pytest.mark.parametrize("holder", STRANGERS.values(), ids=STRANGERS.keys())
async def test_a_chain_that_does_not_hold_ends_in_the_handshake(road: Road, holder: Holder) -> None:
    with capture_logs() as logs:
        await deferred(road.link(holder).push(BATCH))
    assert "tls handshake failed" in [entry["event"] for entry in logs]
    assert road.downlink.calls == []


UNWELCOME = {
    "name in CN only": (leaf(ISSUER, subject=CHILD_NAME), Reason.PEER_NAME),
    "two names": (leaf(ISSUER, CHILD_NAME, f"08.h41.{ZONE}"), Reason.PEER_NAME),
    "not registered": (leaf(ISSUER, f"08.h41.{ZONE}"), Reason.PEER_UNKNOWN),
    "the parent itself": (SERVER, Reason.PEER_UNKNOWN),
    "expired": (leaf(ISSUER, CHILD_NAME, after=NOW - DAY), Reason.PEER_DATES),
    "not yet": (leaf(ISSUER, CHILD_NAME, before=NOW + DAY), Reason.PEER_DATES),
    "issuer expired": (leaf(authority("old", ROOT, after=NOW - DAY), CHILD_NAME), Reason.PEER_DATES),
}


@pytest.mark.parametrize(("holder", "reason"), UNWELCOME.values(), ids=UNWELCOME.keys())
async def test_a_valid_chain_is_not_enough_and_the_log_says_why(road: Road, holder: Holder, reason: Reason) -> None:
    """Threats, row 21."""
    with capture_logs() as logs:
        heard = await deferred(road.link(holder).push(BATCH))
    assert (heard.reason, heard.in_doubt) == (reason, False)
    said = [entry for entry in logs if entry["event"] == "peer refused"]
    assert [entry["reason"] for entry in said] == [reason]
    assert said[0]["certificate"] == hashlib.sha256(holder.der).hexdigest()
    assert (road.downlink.calls, road.counted) == ([], [reason])


async def test_a_pinned_child_with_another_key_is_refused(opened: Open) -> None:
    """Threats, row 21."""
    road = await opened(peers=registered([(CHILD, [spki_pin(NODE.der)])], ZONE))
    assert (await deferred(road.link(leaf(ISSUER, CHILD_NAME)).push(BATCH))).reason is Reason.PEER_KEY
    assert await road.link().push(BATCH) == TAKEN


async def test_a_judgement_is_made_anew_on_a_connection_that_stays_open(road: Road) -> None:
    """Threats, row 22."""
    link = road.link()
    assert await link.push(BATCH) == TAKEN
    reader, writer = await asyncio.open_connection(HOST, road.listener.port, ssl=road.context(), server_hostname=PARENT_NAME)
    asked = head("GET", f"bodies/{DIGEST}?offset=0&length=1", "", "").replace(b"Connection: close\r\n", b"")
    writer.write(asked)
    assert status(await reader.readuntil(b"\r\n\r\n")) == 200
    road.clock.now_ms += 400 * DAY_MS
    writer.write(asked)
    answer = await reader.read()
    assert (status(answer), reason_in(answer)) == (403, "peer-dates")
    writer.close()
    assert (await deferred(link.push(BATCH))).reason is Reason.PEER_DATES


async def test_without_a_certificate_nothing_is_answered(road: Road) -> None:
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    try:
        answer = await road.raw(push_head(0), context=nobody)
    except ssl.SSLError:
        answer = b""
    assert (answer, road.downlink.calls) == (b"", [])


async def test_tls_1_2_and_plain_http_are_not_spoken(road: Road) -> None:
    old = road.context()
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        await road.raw(push_head(0), context=old)
    reader, writer = await asyncio.open_connection(HOST, road.listener.port)
    try:
        writer.write(push_head(0))
        assert b"HTTP" not in await reader.read()
    except ConnectionError:  # closed with our bytes unread
        pass
    finally:
        writer.close()


# -- hostile requests -----------------------------------------------------------------------------------------------------

LIMITS = limits_for(64 * 1024, 10)


async def test_a_body_declared_too_large_is_refused_unread(road: Road) -> None:
    """Threats, row 6."""
    answer = await road.raw(push_head(LIMITS.bytes_max + 1))
    assert (status(answer), reason_in(answer)) == (413, "wire-too-large")
    put = head("PUT", f"bodies/{DIGEST}?offset=0&size=99999999", "application/octet-stream", BODY_CHUNK_MAX + 1)
    assert status(await road.raw(put)) == 413


async def test_a_body_that_grows_too_large_is_refused_while_it_grows(road: Road) -> None:
    """Threats, row 6."""
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = await road.raw(push_head("chunked"), *[chunk] * (LIMITS.bytes_max // 0x10000 + 1))
    assert (status(answer), reason_in(answer)) == (413, "wire-too-large")
    assert road.downlink.calls == []


async def test_a_slow_body_is_408_and_a_child_may_try_again_without_doubt(opened: Open) -> None:
    """Threats, row 2."""
    road = await opened(request_timeout_s=0.2)
    answer = await road.raw(push_head(1000), b"x")
    assert status(answer) == 408
    assert road.downlink.calls == []


PARTS, PART_S, LIMIT_S = 5, 0.4, 1.0
"""Bytes that come in parts, each well within the limit and all of them not."""


async def test_a_body_that_is_slow_and_moves_is_read_to_its_end(opened: Open) -> None:
    road = await opened(request_timeout_s=LIMIT_S)
    data = encode_batch(BATCH)
    reader, writer = await asyncio.open_connection(HOST, road.listener.port, ssl=road.context(), server_hostname=PARENT_NAME)
    writer.write(push_head(len(data)))
    for at in range(PARTS):
        await asyncio.sleep(PART_S)
        writer.write(data[len(data) * at // PARTS : len(data) * (at + 1) // PARTS])
    assert status(await reader.read()) == 200
    writer.transport.abort()


async def test_an_answer_that_is_slow_and_moves_is_read_to_its_end(road: Road, tmp_path: Path) -> None:
    answer = encode_batch(replace(BATCH, sequence=1))
    length = f"HTTP/1.1 200 OK\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
    files = put(tmp_path / "slow", SERVER, ROOT)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in (length, *(answer[len(answer) * at // PARTS : len(answer) * (at + 1) // PARTS] for at in range(PARTS))):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(PART_S)
        await reader.read()
        writer.transport.abort()

    context = link_server_context(files.certificate, files.key, files.trust)
    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    told = list[tuple[Way, int, float]]()
    link = road.link(port=server.sockets[0].getsockname()[1], request_timeout_s=LIMIT_S)
    link.when_moved(lambda way, size, seconds: told.append((way, size, seconds)))
    assert (await link.pull(PULL)).sequence == 1
    ((way, size, seconds),) = told
    assert (way, size) == (Way.DOWN, len(answer))
    assert seconds >= PART_S * (PARTS - 1)
    await link.close()
    server.close()
    await server.wait_closed()


async def test_what_moved_is_told_with_its_direction_and_its_bytes(road: Road) -> None:
    """A batch and a piece of a body each way; questions, verdicts and what failed say nothing."""
    told = list[tuple[Way, int]]()
    link = road.link()
    link.when_moved(lambda way, size, seconds: told.append((way, size)) if seconds >= 0 else None)
    await link.push(BATCH)
    await link.put_body(DIGEST, 100_000, 0, b"")
    await link.put_body(DIGEST, 100_000, 0, bytes(100_000))
    await link.pull(PULL)
    await link.get_body(DIGEST, 0, 70_000)
    road.downlink.failure = Refused(Reason.WIRE_MALFORMED, "body")
    await refused(link.push(BATCH))
    up, down = len(encode_batch(BATCH)), len(encode_batch(replace(BATCH, sequence=7)))
    assert told == [(Way.UP, up), (Way.UP, 100_000), (Way.DOWN, down), (Way.DOWN, 70_000)]


async def test_a_compressed_body_is_415_whatever_it_would_inflate_to(road: Road) -> None:
    """Threats, row 7."""
    bomb = gzip.compress(bytes(20 << 20))
    assert status(await road.raw(push_head(len(bomb), "Content-Encoding: gzip"), bomb)) == 415


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (head("POST", "push", "text/plain", 0), 415),
        (push_head(0), 400),
        (push_head(4) + b"junk", 400),
        (push_head("chunked") + b"zz\r\n", 400),
        (head("POST", "pull", "application/json", 2) + b"{}", 400),
        (head("POST", "pull", "application/json", 100_000) + b"[" * 100_000, 400),
        (head("POST", "elsewhere", "text/plain", 0), 404),
        (head("GET", "push", "text/plain", ""), 404),
        (head("DELETE", f"bodies/{DIGEST}", "text/plain", ""), 404),
        (head("GET", "bodies/../../etc/passwd?offset=0&length=1", "", ""), 404),
        (head("GET", f"bodies/{DIGEST.upper()}?offset=0&length=1", "", ""), 404),
        (head("GET", f"bodies/{DIGEST}", "", ""), 400),
        (head("GET", f"bodies/{DIGEST}?offset=-1&length=1", "", ""), 400),
        (head("GET", f"bodies/{DIGEST}?offset=0&length=0", "", ""), 400),
        (head("GET", f"bodies/{DIGEST}?offset=0&length={BODY_CHUNK_MAX + 1}", "", ""), 400),
        (head("GET", f"bodies/{DIGEST}?offset=0&length=%D9%A1", "", ""), 400),
        (head("PUT", f"bodies/{DIGEST}?offset=5&size=8", "application/octet-stream", 4) + b"data", 400),
    ],
)
async def test_a_request_of_another_form_is_refused_shortly(road: Road, request_: bytes, code: int) -> None:
    """Threats, row 8."""
    answer = await road.raw(request_)
    assert (status(answer), len(answer) < 600) == (code, True)
    assert road.downlink.calls == []


async def test_a_body_whose_chunks_break_off_into_rubbish_is_refused_at_once_or_in_time(opened: Open) -> None:
    road = await opened(request_timeout_s=0.3)
    reader, writer = await asyncio.open_connection(HOST, road.listener.port, ssl=road.context(), server_hostname=PARENT_NAME)
    writer.write(push_head("chunked", "Expect: 100-continue"))
    assert status(await reader.readuntil(b"\r\n\r\n")) == 100
    writer.write(b"1\r\nx\r\nzz\r\n")
    assert status(await reader.read()) in (400, 408)  # aiohttp 3.14 lets the handler wait; ours waits no longer than it may
    assert road.downlink.calls == []
    writer.close()


async def test_a_child_that_does_not_read_its_answer_is_cut_off(opened: Open) -> None:
    road = await opened(request_timeout_s=0.3)
    road.downlink.held += bytes(BODY_CHUNK_MAX)

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            asked = head("GET", f"bodies/{DIGEST}?offset=0&length={BODY_CHUNK_MAX}", "", "")
            transport.write(asked.replace(b"Connection: close\r\n", b"") * 100)
            transport.pause_reading()

    with capture_logs() as logs:
        transport, _ = await asyncio.get_running_loop().create_connection(
            Deaf, HOST, road.listener.port, ssl=road.context(), server_hostname=PARENT_NAME
        )
        await road.downlink.entered.wait()
        await road.listener.empty.wait()
    assert [entry["event"] for entry in logs] == ["answer not read in time"]
    assert len(road.downlink.calls) < 30, "a few pieces of the first answers"
    transport.abort()


# -- who the parent is ----------------------------------------------------------------------------------------------------

FALSE_PARENTS = {
    "another node": (leaf(ISSUER, f"08.h41.{ZONE}"), None),
    "name in CN only": (leaf(ISSUER, subject=PARENT_NAME), None),
    "foreign authority": (leaf(authority("foreign"), PARENT_NAME), None),
    "two names": (leaf(ISSUER, PARENT_NAME, f"08.h41.{ZONE}"), Reason.PEER_NAME),
    "expired": (leaf(ISSUER, PARENT_NAME, after=NOW - DAY), Reason.PEER_DATES),
    "issuer expired": (leaf(authority("old", ROOT, after=NOW - DAY), PARENT_NAME), Reason.PEER_DATES),
}


@asynccontextmanager
async def parent(
    tmp_path: Path, answer: bytes | None, holder: Holder = SERVER, *, stay: bool = True
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Something that listens like a parent and answers each request head with given bytes; what it heard is kept. stay: it does
    not hang up after an answer."""
    files = put(tmp_path / "false", holder, ROOT)
    context = link_server_context(files.certificate, files.key, files.trust)
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(b"")
        try:
            while data := await reader.read(1 << 16):
                heard[-1] += data
                if answer is not None and b"\r\n\r\n" in data:
                    writer.write(answer)
                    await writer.drain()
                    if not stay:
                        break
            writer.close()
        except OSError:
            writer.transport.abort()

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(("holder", "reason"), FALSE_PARENTS.values(), ids=FALSE_PARENTS.keys())
async def test_not_one_byte_goes_to_anyone_but_the_parent(
    road: Road, tmp_path: Path, holder: Holder, reason: Reason | None
) -> None:
    async with parent(tmp_path, b"HTTP/1.1 200 OK\r\n\r\n", holder) as (port, heard):
        link = road.link(port=port)
        failure = await deferred(link.push(BATCH))
        assert (failure.in_doubt, failure.reason) == (False, reason or Reason.NOT_NOW)
        await link.close()
    assert set(heard) <= {b""}


async def test_a_pinned_parent_with_another_key_is_refused_and_with_its_own_is_not(road: Road) -> None:
    other = road.link(parent_pins=(spki_pin(NODE.der),))
    assert (await deferred(other.push(BATCH))).reason is Reason.PEER_KEY
    assert road.downlink.calls == []
    assert await road.link(parent_pins=(spki_pin(SERVER.der),)).push(BATCH) == TAKEN


async def test_a_parent_out_of_date_is_refused_on_a_kept_connection_too(road: Road, tmp_path: Path) -> None:
    good = http(200, encode_verdicts(TAKEN))
    async with parent(tmp_path, good) as (port, heard):
        link = road.link(port=port)
        assert await link.push(BATCH) == TAKEN
        road.clock.now_ms += 400 * DAY_MS
        assert (await deferred(link.push(BATCH))).reason is Reason.PEER_DATES
        await link.close()
    assert sum(each.count(b"POST") for each in heard) == 1


async def test_an_absent_parent_leaves_nothing_in_doubt(road: Road) -> None:
    link = road.link()
    await road.listener.close(0)
    failure = await deferred(link.push(BATCH))
    assert (failure.in_doubt, failure.retry_after_s) == (False, 10)


async def test_a_parent_that_never_ends_its_handshake_leaves_nothing_in_doubt(road: Road) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, HOST, 0)
    link = road.link(port=server.sockets[0].getsockname()[1], handshake_timeout_s=0.2)
    assert not (await deferred(link.push(BATCH))).in_doubt
    server.close()
    await server.wait_closed()


async def test_new_files_serve_new_connections_after_a_reload(road: Road, opened: Open) -> None:
    pinned = await opened(peers=registered([(CHILD, [spki_pin(NODE.der)])], ZONE))
    old = leaf(ISSUER, CHILD_NAME)
    link = pinned.link(old)
    assert (await deferred(link.push(BATCH))).reason is Reason.PEER_KEY
    files = pinned.files(old)
    files.certificate.write_bytes(NODE.pem)
    files.key.write_bytes(NODE.key_pem)
    link.reload()
    assert await link.push(BATCH) == TAKEN


async def test_a_parent_without_https_is_not_even_tried(road: Road) -> None:
    with pytest.raises(ValueError, match="https"):
        road.link(parent_url="http://127.0.0.1:1")


# -- hostile answers ------------------------------------------------------------------------------------------------------


def http(code: int, body: bytes, media: str = "application/json", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {code} Said", f"Content-Type: {media}", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


GOOD = encode_verdicts(TAKEN)
LINK_LIMITS = limits_for(64 * 1024, 10)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"no http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        http(200, b"{}"),
        http(200, b"rubbish"),
        http(200, GOOD, "text/html"),
        http(200, gzip.compress(GOOD), "application/json", "Content-Encoding: gzip"),
        http(200, GOOD)[:-1],
        http(204, b""),
        http(301, b"", "text/plain", "Location: https://127.0.0.1/"),
        http(302, b"", "text/plain", "Location: http://169.254.169.254/"),
        http(400, b"no reason given"),
        http(404, b"Not Found", "text/plain"),
        http(400, b'{"reason":5}'),
        http(400, b"x" * 5000),
        http(400, gzip.compress(b'{"reason":"expired"}'), "application/json", "Content-Encoding: gzip"),
        http(500, b"Internal"),
        http(502, b'{"reason":"expired"}'),
        http(200, b" " * (LINK_LIMITS.verdict_bytes_max + 1)),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_an_answer_that_makes_no_sense_leaves_the_batch_in_doubt(road: Road, tmp_path: Path, answer: bytes) -> None:
    """Threats, row 25."""
    async with parent(tmp_path, answer) as (port, _):
        link = road.link(port=port, request_timeout_s=0.5)
        assert (await deferred(link.push(BATCH))).in_doubt
        await link.close()


@pytest.mark.parametrize("stay", [False, True], ids=["cut off", "silent"])
async def test_what_came_of_a_piece_before_its_answer_was_cut_is_kept(road: Road, tmp_path: Path, stay: bool) -> None:
    """A body resumes at any byte, not only where a piece begins."""
    answer = http(200, b"a" * 100, "application/octet-stream")[:-40]
    async with parent(tmp_path, answer, stay=stay) as (port, _):
        link = road.link(port=port, request_timeout_s=0.5)
        assert await link.get_body(DIGEST, 0, 100) == b"a" * 60
        await link.close()


async def test_a_piece_longer_than_asked_is_worth_nothing(road: Road, tmp_path: Path) -> None:
    """Threats, row 26."""
    async with parent(tmp_path, http(200, b"a" * 101, "application/octet-stream")) as (port, _):
        link = road.link(port=port)
        assert (await deferred(link.get_body(DIGEST, 0, 100))).in_doubt
        await link.close()


async def test_an_endless_answer_is_left_at_its_limit(road: Road, tmp_path: Path) -> None:
    """Threats, row 26."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with parent(tmp_path, endless + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 200) as (port, _):
        link = road.link(port=port)
        with capture_logs() as logs:
            assert (await deferred(link.push(BATCH))).in_doubt
        assert "more than" in logs[-1]["why"]
        await link.close()


async def test_a_parent_that_hangs_up_without_a_word_leaves_the_batch_in_doubt(road: Road, tmp_path: Path) -> None:
    async with parent(tmp_path, None) as (port, heard):
        link = road.link(port=port, request_timeout_s=0.3)
        assert (await deferred(link.push(BATCH))).in_doubt
        await link.close()
    assert heard[0].endswith(encode_batch(BATCH))


@pytest.mark.parametrize(
    ("answer", "wait_s", "reason"),
    [
        (http(503, b'{"reason":"disk-full","retry_s":2.5}'), 2.5, Reason.DISK_FULL),
        (http(503, b"busy", "text/plain", "Retry-After: 7"), 7, Reason.NOT_NOW),
        (http(503, b"busy", "text/plain", "Retry-After: Wed, 21 Oct 2031 07:28:00 GMT"), 10, Reason.NOT_NOW),
        (http(503, b'{"retry_s":1e999}'), 3600, Reason.NOT_NOW),
        (http(503, b'{"retry_s":-5}'), 10, Reason.NOT_NOW),
        (http(503, b'{"reason":"of-a-later-version","retry_s":true}'), 10, Reason.INTERNAL),
        (http(408, b""), 10, Reason.NOT_NOW),
        (http(403, b'{"reason":"peer-unknown"}'), 10, Reason.PEER_UNKNOWN),
    ],
)
async def test_an_answer_that_took_nothing_leaves_nothing_in_doubt(
    road: Road, tmp_path: Path, answer: bytes, wait_s: float, reason: Reason
) -> None:
    async with parent(tmp_path, answer) as (port, _):
        link = road.link(port=port)
        failure = await deferred(link.push(BATCH))
        assert (failure.in_doubt, failure.retry_after_s, failure.reason) == (False, wait_s, reason)
        await link.close()


async def test_a_reason_that_only_a_later_version_knows_is_still_a_refusal(road: Road, tmp_path: Path) -> None:
    async with parent(tmp_path, http(400, b'{"reason":"of-a-later-version","element":["?"]}')) as (port, _):
        link = road.link(port=port)
        assert (await refused(link.push(BATCH))).reason is Reason.INTERNAL
        await link.close()


async def test_more_of_a_body_than_was_asked_for_is_not_taken(road: Road, tmp_path: Path) -> None:
    async with parent(tmp_path, http(200, b"four", "application/octet-stream")) as (port, _):
        link = road.link(port=port)
        assert await link.get_body(DIGEST, 0, 4) == b"four"
        assert (await deferred(link.get_body(DIGEST, 0, 3))).in_doubt
        await link.close()
    async with parent(tmp_path, http(200, b"four", "application/octet-stream", "Content-Encoding: gzip")) as (port, _):
        link = road.link(port=port)
        assert (await deferred(link.get_body(DIGEST, 0, 4))).in_doubt
        await link.close()


async def test_a_parent_cannot_hold_more_of_a_body_than_there_is(road: Road, tmp_path: Path) -> None:
    async with parent(tmp_path, http(200, b'{"held":9}')) as (port, _):
        link = road.link(port=port)
        assert await link.put_body(DIGEST, 9, 0, b"x") == 9
        assert (await deferred(link.put_body(DIGEST, 8, 0, b"x"))).in_doubt
        await link.close()


async def test_a_pull_waits_for_its_answer_as_long_as_it_said_and_no_longer(road: Road) -> None:
    road.downlink.hold = asyncio.Event()
    loop = asyncio.get_running_loop()
    began = loop.time()
    failure = await deferred(road.link(request_timeout_s=0.1).pull(replace(PULL, wait_ms=300)))
    assert failure.in_doubt
    assert 0.4 <= loop.time() - began < 5


# -- the time ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["expired", "not yet", "issuer expired"])
async def test_a_known_child_whose_dates_alone_are_wrong_may_ask_for_the_time_and_nothing_else(road: Road, case: str) -> None:
    """Its clock, or ours, may be wrong: this is how it is found out. # architecture section 4"""
    holder, reason = UNWELCOME[case]
    link = road.link(holder)
    assert (await link.clock(5)).t1_us == 5
    assert (await deferred(link.push(BATCH))).reason is reason
    assert [name for name, *_ in road.downlink.calls] == ["moment", "moment"]


@pytest.mark.parametrize("case", ["name in CN only", "two names", "not registered", "the parent itself"])
async def test_a_stranger_is_not_told_the_time(road: Road, case: str) -> None:
    holder, reason = UNWELCOME[case]
    assert (await deferred(road.link(holder).clock(5))).reason is reason
    assert road.downlink.calls == []


@pytest.mark.parametrize("days", [-400, 400])
async def test_a_child_whose_clock_is_a_year_off_asks_for_the_time_and_trusts_no_batch(road: Road, days: int) -> None:
    wrong = Clock(NOW_MS + days * DAY_MS)
    link = HttpLink(section(road.files(), road.listener.port), ZONE, wrong)
    road.made.append(link)
    assert (await link.clock(5)).t2_us == road.downlink.time.utc_us
    assert (await deferred(link.push(BATCH))).reason is Reason.PEER_DATES


async def test_a_parent_of_an_older_version_is_known_by_its_answer(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_server._LinkFace, "_clock", _unknown)
    heard = await refused(road.link().clock(5))
    assert heard.reason is Reason.OPERATION_UNKNOWN


async def _unknown(*_: object) -> None:
    raise web.HTTPNotFound


@pytest.mark.parametrize("body", [b"", b"{}", b'{"t1":-1}', b"[1]", b'{"t1":1' + b" " * 2000 + b"}"])
async def test_a_question_of_another_form_is_refused(road: Road, body: bytes) -> None:
    answer = await road.raw(head("POST", "clock", "application/json", len(body)) + body)
    assert status(answer) in (400, 413)

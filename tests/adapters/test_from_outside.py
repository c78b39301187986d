"""Both doors from outside, with openssl and raw sockets: who is refused, and that the log says why. # QĐ 28/2018 Điều 13.2"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from structlog.testing import capture_logs

from node import config
from node.adapters.http.link_server import link_app
from node.adapters.http.listener import Listener, listen
from node.adapters.http.office_vxp import VxpFace, malformed, no_pages
from node.adapters.http.tls import judge, link_server_context, office_server_context, registered, signed_by
from node.core import standing
from node.core.office import System
from node.core.standing import Revocations
from tests.adapters.pki import DAY, NOW, NOW_MS, ZONE, Clock, Holder, authority, leaf, put
from tests.adapters.test_link_http import CHILD, CHILD_NAME, GUARDS, HOST, ISSUER, NODE, PARENT_NAME, ROOT, SERVER, Downlink
from tests.adapters.test_office_vxp import H41, SECRET, SYSTEM, FakeDoor, FixedClock, head_of, settings, signed_headers
from tests.adapters.test_office_vxp import values_of as call_values
from tests.vxp_client import sign, signed_text

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def post(path: str, media: str, body: bytes) -> bytes:
    head = f"POST /link/v1/{path} HTTP/1.1\r\nHost: h\r\nContent-Type: {media}\r\nConnection: close\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


REQUEST = post("push", "application/vnd.truc.batch.v1", b"")
ASKING = post("clock", "application/json", b'{"t1": 1}')


async def openssl(port: int, data: bytes, *options: str) -> bytes:
    """What `openssl s_client` prints of an answer to these bytes."""
    command = ("openssl", "s_client", "-quiet", "-connect", f"{HOST}:{port}", *options)
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.DEVNULL}
    process = await asyncio.create_subprocess_exec(*command, **pipes)  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        said, _ = await process.communicate(data)
    return said


async def plain(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(data)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@dataclass
class Outside:
    """A listener of the link as anybody meets it."""

    listener: Listener
    downlink: Downlink
    folder: Path

    async def say(self, data: bytes, holder: Holder | None, *options: str) -> bytes:
        shown: tuple[str, ...] = ()
        if holder is not None:
            files = put(self.folder / "caller", holder, ROOT)
            shown = ("-cert", str(files.certificate), "-key", str(files.key), "-cert_chain", str(files.certificate))
        return await openssl(self.listener.port, data, *shown, *options)


REVOKED_LEAF = leaf(ISSUER, CHILD_NAME)
REVOKED_ISSUER = authority("revoked", ROOT, permitted=[PARENT_NAME])
SAYS = {
    issuer: Revocations(issuer, 1, 0, NOW_MS * 2, {serial: NOW_MS})
    for issuer, serial in (signed_by([REVOKED_LEAF.der, ISSUER.der])[0], signed_by([REVOKED_ISSUER.der, ROOT.der])[0])
}
"""Lists of the issuing authority and of the root, one certificate on each."""


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    files, downlink = put(tmp_path / "parent", SERVER, ROOT), Downlink()
    section = config.Link(certificate=files.certificate, key=files.key, trust=files.trust, request_timeout_s=5)

    def stands(chain: Any, now_ms: int | None) -> None:
        standing.judge(signed_by(chain), SAYS, old_ms=now_ms)

    app = link_app(section, downlink, judge(registered([(CHILD, ())], ZONE), Clock(), stands))
    listener = await listen(app, HOST, 0, GUARDS, link_server_context(files.certificate, files.key, files.trust))
    yield Outside(listener, downlink, tmp_path)
    await listener.close(0.2)


URI, IP = x509.UniformResourceIdentifier(f"https://{CHILD_NAME}"), x509.IPAddress(ip_address("127.0.0.1"))
SHOWN: dict[str, tuple[Holder, str]] = {
    "revoked leaf": (REVOKED_LEAF, "peer-revoked"),
    "revoked intermediate": (leaf(REVOKED_ISSUER, CHILD_NAME), "peer-revoked"),
    "expired by corrected time": (leaf(ISSUER, CHILD_NAME, after=NOW - DAY), "peer-dates"),
    "name in CN only": (leaf(authority("any", ROOT), subject=CHILD_NAME), "peer-name"),
    "name in URI only": (leaf(authority("any", ROOT), others=[URI]), "peer-name"),
    "name in IP only": (leaf(authority("any", ROOT), others=[IP]), "peer-name"),
    "no registered child": (leaf(ISSUER, f"09.h41.{ZONE}"), "peer-unknown"),
}


@pytest.mark.parametrize(("holder", "reason"), SHOWN.values(), ids=SHOWN.keys())
async def test_the_link_refuses_a_certificate_that_is_valid_and_not_good_and_the_log_says_why(
    outside: Outside, holder: Holder, reason: str
) -> None:
    """Threats, rows 21 and 22."""
    with capture_logs() as logs:
        said = await outside.say(REQUEST, holder)
    assert said.startswith(b"HTTP/1.1 403")
    assert [entry["reason"] for entry in logs if entry["event"] == "peer refused"] == [reason]
    assert outside.downlink.calls == []


NO_HANDSHAKE: dict[str, tuple[Holder | None, tuple[str, ...], str]] = {
    "no certificate": (None, (), "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
    "self-signed": (leaf(None, CHILD_NAME, subject="self"), (), "CERTIFICATE_VERIFY_FAILED"),
    "a province's word for another one's district": (leaf(ISSUER, f"05.h14.{ZONE}"), (), "CERTIFICATE_VERIFY_FAILED"),
    "TLS 1.2": (NODE, ("-tls1_2",), "UNSUPPORTED_PROTOCOL"),
}


@pytest.mark.parametrize(("holder", "options", "why"), NO_HANDSHAKE.values(), ids=NO_HANDSHAKE.keys())
async def test_the_link_ends_the_handshake_and_the_log_says_why(
    outside: Outside, holder: Holder | None, options: tuple[str, ...], why: str
) -> None:
    """Threats, row 21."""
    with capture_logs() as logs:
        assert b"HTTP" not in await outside.say(REQUEST, holder, *options)
    assert [entry["reason"] for entry in logs if entry["event"] == "tls handshake failed"] == [why]
    assert outside.downlink.calls == []


async def test_plain_http_is_not_spoken_at_either_door_and_the_log_says_so(outside: Outside, tmp_path: Path) -> None:
    async with office(tmp_path) as door:
        for listener in (outside.listener, door):
            with capture_logs() as logs:
                assert b"HTTP" not in await plain(listener.port, REQUEST)
            assert [entry["reason"] for entry in logs if entry["event"] == "tls handshake failed"] == ["HTTP_REQUEST"]


async def test_a_registered_child_is_served_and_one_that_fails_only_the_date_may_ask_for_the_time(outside: Outside) -> None:
    assert (await outside.say(REQUEST, NODE)).startswith(b"HTTP/1.1 400")  # its batch is empty, its certificate good
    expired = SHOWN["expired by corrected time"][0]
    assert (await outside.say(ASKING, expired)).startswith(b"HTTP/1.1 200")
    assert (await outside.say(ASKING, REVOKED_LEAF)).startswith(b"HTTP/1.1 403")


# --- the office's door -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def office(folder: Path, **systems: System) -> AsyncIterator[Listener]:
    files = put(folder / "office", leaf(ROOT, "localhost"), ROOT)
    door = FakeDoor({SYSTEM: System(SYSTEM, (H41,), (SECRET,)), **systems})
    app = web.Application(middlewares=[no_pages])
    VxpFace(door, FixedClock(), settings()).register(app)
    listener = await listen(app, HOST, 0, GUARDS, office_server_context(files.certificate, files.key), malformed)
    try:
        yield listener
    finally:
        await listener.close(0.2)


def call(system: str = SYSTEM, mac: str | None = None) -> bytes:
    text = signed_text(call_values(systemid=system)).encode()
    headers = [("XroadVnpt-systemid", system), ("Connection", "close"), *signed_headers(text, mac=mac or sign(text, SECRET))]
    return head_of("POST", "/vxp/countReceiveEdoc", headers, 0)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_the_office_is_served_with_tls_1_2_as_older_connectors_need(tmp_path: Path, version: str) -> None:
    async with office(tmp_path) as door:
        assert b'"status":"OK"' in await openssl(door.port, call(), version)


async def test_the_office_is_not_served_with_tls_1_1_and_the_log_says_so(tmp_path: Path) -> None:
    async with office(tmp_path) as door:
        with capture_logs() as logs:
            assert b"HTTP" not in await openssl(door.port, call(), "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
        assert [entry["reason"] for entry in logs if entry["event"] == "tls handshake failed"] == ["UNSUPPORTED_PROTOCOL"]


ELSEWHERE = (ip_network("10.0.0.0/8"),)
CALLS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "unknown system": (lambda: call("nobody"), "15", "system-unknown"),
    "disabled system": (lambda: call("off"), "15", "system-disabled"),
    "wrong HMAC": (lambda: call(mac="0" * 64), "15", "signature-wrong"),
    "foreign source network": (lambda: call("far"), "15", "network-forbidden"),
}


@pytest.mark.parametrize(("asked", "number", "reason"), CALLS.values(), ids=CALLS.keys())
async def test_the_office_door_refuses_who_is_not_who_he_says_and_the_log_says_why(
    tmp_path: Path, asked: Callable[[], bytes], number: str, reason: str
) -> None:
    others = {"off": System("off", (H41,), (SECRET,), disabled=True), "far": System("far", (H41,), (SECRET,), ELSEWHERE)}
    async with office(tmp_path, **others) as door:
        with capture_logs() as logs:
            said = await openssl(door.port, asked())
        assert f'"ErrorCode":"{number}"'.encode() in said
        assert [entry["reason"] for entry in logs if entry["event"] == "office call refused"] == [reason]

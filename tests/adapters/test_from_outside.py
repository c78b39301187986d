"""Both doors from outside, with openssl and raw sockets: who is refused, and that the log says why. # QĐ 28/2018 Điều 13.2"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from structlog.testing import capture_logs

from node import config
from node.adapters.client_certificates import of_file
from node.adapters.http.link_server import link_app
from node.adapters.http.listener import Listener, listen
from node.adapters.http.office_vxp import VxpFace, malformed, no_pages
from node.adapters.http.tls import OfficeContext, judge, link_server_context, registered, signed_by
from node.core import standing
from node.core.office import System
from node.core.standing import Revocations
from tests.adapters.pki import DAY, NOW, NOW_MS, ZONE, Clock, Holder, authority, leaf, put
from tests.adapters.test_link_http import CHILD, CHILD_NAME, GUARDS, HOST, ISSUER, NODE, PARENT_NAME, ROOT, SERVER, Downlink
from tests.adapters.test_office_vxp import H41, SECRET, SYSTEM, FakeDoor, head_of, settings, signed_headers
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
async def office(folder: Path, *systems: System, changing: dict[str, System] | None = None) -> AsyncIterator[Listener]:
    """A listener of the office with one system that is bound to no certificate and these. changing: more that come later."""
    files = put(folder / "office", leaf(ROOT, "localhost"), ROOT)
    door = FakeDoor({} if changing is None else changing)
    door.systems.update({each.id: each for each in (System(SYSTEM, (H41,), (SECRET,)), *systems)})
    app = web.Application(middlewares=[no_pages])
    VxpFace(door, Clock(), settings()).register(app)

    def registered_now() -> tuple[bytes, ...]:
        return tuple(each.der for system in door.systems.values() for each in system.certificates)

    context = OfficeContext(files.certificate, files.key, registered_now)
    listener = await listen(app, HOST, 0, GUARDS, context, malformed)
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
    others = (System("off", (H41,), (SECRET,), disabled=True), System("far", (H41,), (SECRET,), ELSEWHERE))
    async with office(tmp_path, *others) as door:
        with capture_logs() as logs:
            said = await openssl(door.port, asked())
        assert f'"ErrorCode":"{number}"'.encode() in said
        assert [entry["reason"] for entry in logs if entry["event"] == "office call refused"] == [reason]


OWN, NEXT, GONE, OTHER, STRANGE = (leaf(None, subject=name) for name in ("own", "own", "own", "other", "own"))
FOREIGN = leaf(authority("issuer", authority("an authority of its own")), subject="own")
ENDED = leaf(None, subject="own", after=NOW - DAY)
KEPT = (*(of_file(each.pem) for each in (OWN, NEXT, FOREIGN, ENDED)), replace(of_file(GONE.pem), revoked=True))
BOUND = System("bound", (H41,), (SECRET,), certificates=KEPT)
BESIDE = System("beside", (), (SECRET,), certificates=(of_file(OTHER.pem),))


def caller(folder: Path, holder: Holder) -> tuple[str, ...]:
    files = put(folder / "system", holder, ROOT)
    return ("-cert", str(files.certificate), "-key", str(files.key), "-cert_chain", str(files.certificate))


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("holder", [OWN, NEXT, FOREIGN], ids=["its own", "its next", "one of any authority"])
async def test_a_system_bound_to_a_certificate_is_served_with_it(tmp_path: Path, holder: Holder, version: str) -> None:
    async with office(tmp_path, BOUND) as door:
        assert b'"status":"OK"' in await openssl(door.port, call("bound"), version, *caller(tmp_path, holder))


@pytest.mark.parametrize("shown", [None, OTHER], ids=["none", "what it likes"])
async def test_a_system_that_is_bound_to_none_is_served_beside_one_that_is(tmp_path: Path, shown: Holder | None) -> None:
    async with office(tmp_path, BOUND, BESIDE) as door:
        options = () if shown is None else caller(tmp_path, shown)
        assert b'"status":"OK"' in await openssl(door.port, call(), "-tls1_2", *options)


WITHOUT: dict[str, tuple[Holder | None, str]] = {
    "none": (None, "client-certificate-missing"),
    "another system's": (OTHER, "client-certificate-unknown"),
    "expired by corrected time": (ENDED, "client-certificate-dates"),
    "revoked": (GONE, "client-certificate-revoked"),
}


@pytest.mark.parametrize(("holder", "reason"), WITHOUT.values(), ids=WITHOUT.keys())
async def test_the_office_door_refuses_a_bound_system_without_its_certificate_and_the_log_says_why(
    tmp_path: Path, holder: Holder | None, reason: str
) -> None:
    """Threats, rows 21 and 22."""
    async with office(tmp_path, BOUND, BESIDE) as door:
        options = () if holder is None else caller(tmp_path, holder)
        with capture_logs() as logs:
            said = await openssl(door.port, call("bound").replace(b"Connection: close\r\n", b""), *options)
        assert b'"ErrorCode":"15"' in said and f"[{reason}]".encode() in said
        assert b"Connection: close" in said  # no further call on this connection could be served
        assert [entry["reason"] for entry in logs if entry["event"] == "office call refused"] == [reason]


async def test_a_certificate_that_nobody_registered_ends_the_handshake_and_the_log_says_why(tmp_path: Path) -> None:
    """Threats, row 21. It bears the very name of one that is registered."""
    async with office(tmp_path, BOUND) as door:
        with capture_logs() as logs:
            assert b"HTTP" not in await openssl(door.port, call("bound"), *caller(tmp_path, STRANGE))
        assert [entry["reason"] for entry in logs if entry["event"] == "tls handshake failed"] == ["CERTIFICATE_VERIFY_FAILED"]


async def test_what_is_registered_while_the_door_is_open_counts_at_the_next_connection(tmp_path: Path) -> None:
    """A session from before is not resumed: it has proven no certificate, and would never prove one."""
    systems: dict[str, System] = {}
    session = str(tmp_path / "session")
    async with office(tmp_path, changing=systems) as door:
        assert b'"status":"OK"' in await openssl(door.port, call(), "-tls1_2", "-sess_out", session)
        systems["bound"] = BOUND
        again = await openssl(door.port, call("bound"), "-tls1_2", "-sess_in", session, *caller(tmp_path, OWN))
        assert b'"status":"OK"' in again
        systems["bound"] = replace(BOUND, certificates=(replace(KEPT[0], revoked=True),))
        again = await openssl(door.port, call("bound"), "-tls1_2", *caller(tmp_path, OWN))
        assert b"client-certificate-revoked" in again

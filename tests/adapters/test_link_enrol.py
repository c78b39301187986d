"""The one call without a certificate, over real TLS: what it serves, what it refuses, what the log says; and the newcomer's side,
which says nothing to a parent it cannot prove."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from node import config
from node.adapters import authority
from node.adapters.clock import HostClock
from node.adapters.enrolment import Newcomers
from node.adapters.http import enrol_client
from node.adapters.http.enrol_client import Granted, WrongParent
from node.adapters.http.link_enrol import BURST, REQUEST_BYTES_MAX, NewcomersDoor
from node.adapters.http.link_server import link_app
from node.adapters.http.listener import Guards, Listener, listen
from node.adapters.http.tls import judge, link_server_context
from node.adapters.peers import Peers
from node.core.enrolment import Token
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import HUB
from tests.adapters.enrolling import H14, H41, ZONE, Hub, Newcomer

HOST = "127.0.0.1"
GUARDS = Guards(connections_max=50, per_address_max=30, per_certificate_max=8, handshake_timeout_s=5, idle_timeout_s=5)
T = TypeVar("T")


class NoDownlink:
    """Nothing may come this far."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@dataclass
class Door:
    """A hub whose link listener enrols. counted: reasons of refusals. now_ms moves the hub's time."""

    hub: Hub
    listener: Listener
    counted: list[Reason]
    clock: list[int]

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.listener.port}"

    async def said(self, data: bytes) -> tuple[int, bytes]:
        """One request by one who has no certificate, byte for byte; status and body."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.hub.trust)
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(HOST, self.listener.port, ssl=context, server_hostname=ZONE)
            try:
                writer.write(data)
                answer = await reader.read()
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    async def posted(self, body: bytes, *more: str, path: str = "/link/v1/enrol", method: str = "POST") -> tuple[int, bytes]:
        lines = [f"{method} {path} HTTP/1.1", "Host: hub", "Connection: close", f"Content-Length: {len(body)}"]
        lines += more or ["Content-Type: application/json"]
        return await self.said("\r\n".join([*lines, "", ""]).encode() + body)

    async def asked(self, newcomer: Newcomer, token: Token) -> tuple[int, dict[str, Any]]:
        fields = {"secret": token.secret.hex(), "csr": newcomer.csr, "authority_csr": newcomer.authority_csr}
        status, body = await self.posted(json.dumps(fields).encode())
        return status, json.loads(body)


@asynccontextmanager
async def opened(hub: Hub, certificate: Path | None = None, key: Path | None = None) -> AsyncIterator[Door]:
    counted, clock = list[Reason](), [hub.now_ms]

    async def run(work: Callable[[], T]) -> T:
        return work()

    newcomers = NewcomersDoor(Newcomers(hub.enrolment, run, lambda: clock[0], lambda: None).answer)
    section = config.Link(certificate=hub.certificate, key=hub.key, trust=hub.trust, request_timeout_s=5)
    peers = judge(Peers(hub.book, ZONE, {}), HostClock(1000))
    app = link_app(section, NoDownlink(), peers, counted.append, newcomers)
    context = link_server_context(certificate or hub.certificate, key or hub.key, hub.trust, newcomers=True)
    listener = await listen(app, HOST, 0, GUARDS, context)
    try:
        yield Door(hub, listener, counted, clock)
    finally:
        await listener.close(0.2)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(Hub(tmp_path / "hub")) as made:
        yield made


# --- who has no certificate --------------------------------------------------------------------------------------------

DIGEST = "0" * 64
OTHERS = (
    ("POST", "/link/v1/push"),
    ("POST", "/link/v1/pull"),
    ("PUT", f"/link/v1/bodies/{DIGEST}"),
    ("GET", f"/link/v1/bodies/{DIGEST}"),
    ("POST", "/link/v1/clock"),
    ("GET", "/link/v1/directory"),
    ("GET", "/link/v1/enrol"),
    ("POST", "/link/v1/enrol/"),
    ("POST", "/link/v1//enrol"),
    ("POST", "/link/v1/enrol/../push"),
    ("GET", "/"),
    ("GET", "/metrics"),
)


@pytest.mark.parametrize(("method", "path"), OTHERS)
async def test_no_certificate_calls_anything_but_enrol(door: Door, method: str, path: str) -> None:
    """Threats, row 21: who shows no certificate is nobody."""
    with capture_logs() as logs:
        status, body = await door.posted(b"{}", path=path, method=method)
    assert (status, json.loads(body)["reason"]) == (403, "peer-unknown")
    assert [(line["event"], line["value"]) for line in logs if line["log_level"] == "warning"] == [
        ("peer refused", "no certificate")
    ]
    assert door.counted == [Reason.PEER_UNKNOWN]


async def test_a_certificate_of_another_tree_does_not_become_none(door: Door, tmp_path: Path) -> None:
    """Threats, row 21: optional is not lenient: what is shown must be good."""
    other = Hub(tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(door.hub.trust)
    context.load_cert_chain(other.certificate, other.key)
    with capture_logs() as logs, pytest.raises((OSError, asyncio.IncompleteReadError)):
        reader, writer = await asyncio.open_connection(HOST, door.listener.port, ssl=context, server_hostname=ZONE)
        try:
            writer.write(b"POST /link/v1/enrol HTTP/1.1\r\nHost: hub\r\nContent-Length: 2\r\n\r\n{}")
            await reader.readexactly(1)
        finally:
            writer.close()
    assert [line["event"] for line in logs] == ["tls handshake failed"]


# --- tokens ------------------------------------------------------------------------------------------------------------


async def test_an_invited_node_is_answered_with_all_it_needs(door: Door) -> None:
    newcomer = Newcomer(f"h14.{ZONE}")
    with capture_logs() as logs:
        status, answer = await door.asked(newcomer, door.hub.invite())
    assert (status, answer["state"], answer["code"]) == (200, "granted", "H41")
    assert set(answer) == {"state", "code", "certificate", "authority", "trust", "directory"}
    assert [line["neighbour"] for line in logs if line["event"] == "node enrolled"] == ["H41"]


async def refused_for(door: Door, newcomer: Newcomer, token: Token, reason: Reason) -> None:
    """Refused with the reason, in the answer and in the log, and the secret in neither; nobody is registered."""
    before = door.hub.enrolment.book().peers
    with capture_logs() as logs:
        status, answer = await door.asked(newcomer, token)
    assert (status, answer["reason"]) == (403, reason)
    assert [line["reason"] for line in logs if line["event"] == "enrolment refused"] == [reason]
    assert token.secret.hex() not in json.dumps([answer, logs], default=str)
    assert token.text() not in json.dumps([answer, logs], default=str)
    assert door.counted[-1] is reason
    assert door.hub.enrolment.book().peers == before


async def test_a_wrong_an_expired_and_a_used_token_are_refused_and_the_log_says_why_without_it(door: Door) -> None:
    """Threats, row 33: no secret in a log or an error."""
    token = door.hub.invite()
    await refused_for(door, Newcomer(), replace(token, secret=b"x" * 16), Reason.INVITE_UNKNOWN)
    door.clock[0] += 3_600_001
    await refused_for(door, Newcomer(), token, Reason.INVITE_EXPIRED)
    door.clock[0] -= 3_600_001
    assert (await door.asked(Newcomer(), token))[0] == 200
    await refused_for(door, Newcomer(), token, Reason.INVITE_USED)


async def test_a_token_of_another_code_gives_that_code_and_no_other(door: Door) -> None:
    token = door.hub.invite(H14)
    _, answer = await door.asked(Newcomer(f"h41.{ZONE}"), token)
    assert answer["code"] == "H14"
    assert list(door.hub.enrolment.book().pins()) == [H14]


async def test_who_waits_for_approval_is_told_so_and_gets_nothing_else(door: Door) -> None:
    newcomer, token = Newcomer(), door.hub.invite(auto=False)
    status, answer = await door.asked(newcomer, token)
    assert (status, answer) == (200, {"state": "waiting", "code": "H41", "retry_s": 2.0})
    door.hub.enrolment.approve(H41, newcomer.pin, door.hub.now_ms)
    assert (await door.asked(newcomer, token))[1]["state"] == "granted"


async def test_a_stranger_gets_one_answer_and_no_second(door: Door) -> None:
    """Threats, row 4: its connection is closed, whatever it asks for."""
    head = b"POST /link/v1/enrol HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    assert (await door.said(head + head))[1].count(b"HTTP/1.1") == 0


# --- hostile requests --------------------------------------------------------------------------------------------------

SECRET = "ab" * 16
HOSTILE = (
    (b"", "empty"),
    (b"[]", "no object"),
    (b'{"secret": "%s"}' % SECRET.encode(), "no request"),
    (b'{"secret": "%s", "csr": "", "authority_csr": "", "name": "h41"}' % SECRET.encode(), "a field too many"),
    (b'{"secret": "%s", "secret": "%s", "csr": "", "authority_csr": ""}' % ((SECRET.encode(),) * 2), "twice"),
    (b'{"secret": "%s", "csr": NaN, "authority_csr": ""}' % SECRET.encode(), "NaN"),
    (b'{"secret": "%s00", "csr": "", "authority_csr": ""}' % SECRET.encode(), "a long secret"),
    (b'{"secret": "", "csr": "", "authority_csr": ""}', "no secret"),
    (b'{"secret": ["%s"], "csr": "", "authority_csr": ""}' % SECRET.encode(), "a list"),
    (b'{"secret": "%s", "csr": "%s", "authority_csr": ""}' % (SECRET.encode(), b"x" * 9000), "a long request"),
    (b"[" * 20_000, "deep"),
    (b"\xff\xfe", "no UTF-8"),
)


@pytest.mark.parametrize("body", [body for body, _ in HOSTILE], ids=[name for _, name in HOSTILE])
async def test_what_is_no_request_is_refused_without_being_repeated(door: Door, body: bytes) -> None:
    """Threats, row 10: JSON abuse."""
    with capture_logs() as logs:
        status, answer = await door.posted(body)
    assert (status, json.loads(answer)["reason"]) == (400, "wire-malformed")
    assert SECRET not in answer.decode() + json.dumps(logs, default=str)


async def test_a_large_a_compressed_and_a_foreign_body_are_not_read(door: Door) -> None:
    """Threats, rows 6 and 7: huge and compressed bodies."""
    assert (await door.posted(b" " * (REQUEST_BYTES_MAX + 1)))[0] == 413
    packed = gzip.compress(b" " * 1_000_000)
    assert (await door.posted(packed, "Content-Type: application/json", "Content-Encoding: gzip"))[0] == 415
    assert (await door.posted(b"{}", "Content-Type: text/plain"))[0] == 415


async def test_guessing_is_slow_and_counted(door: Door) -> None:
    """Threats, row 28: one caller does not keep the door to itself, nor try many secrets."""
    answers = [(await door.posted(b"{}"))[0] for _ in range(BURST + 3)]
    assert answers[:BURST] == [400] * BURST
    assert 503 in answers[BURST:]
    assert Reason.NOT_NOW in door.counted


# --- the newcomer ------------------------------------------------------------------------------------------------------


async def joined(url: str, token: Token, newcomer: Newcomer, now_ms: int) -> Granted | float:
    parent = await enrol_client.prove(url, token, now_ms)
    return await enrol_client.ask(parent, token, newcomer.csr, newcomer.authority_csr)


async def test_a_newcomer_proves_its_parent_and_joins(door: Door) -> None:
    newcomer = Newcomer()
    granted = await joined(door.url, door.hub.invite(), newcomer, door.hub.now_ms)
    assert isinstance(granted, Granted)
    assert granted.trust == door.hub.trust.read_text()
    assert await joined(door.url, door.hub.invite(H14, auto=False), Newcomer(), door.hub.now_ms) == 2.0
    with pytest.raises(Refused) as caught:
        await joined(door.url, replace(door.hub.invite(H14), secret=b"x" * 16), Newcomer(), door.hub.now_ms)
    assert caught.value.reason is Reason.INVITE_UNKNOWN


async def test_the_secret_goes_to_the_very_certificate_that_was_proven(door: Door) -> None:
    """Threats, row 20: somebody in between lets the newcomer prove the parent, and answers the next connection himself."""
    token, newcomer = door.hub.invite(), Newcomer()
    parent = await enrol_client.prove(door.url, token, door.hub.now_ms)
    with pytest.raises(WrongParent):
        await enrol_client.ask(replace(parent, shown=bytes(32)), token, newcomer.csr, newcomer.authority_csr)
    assert door.counted == []


async def unproven(door: Door, token: Token, now_ms: int | None = None) -> str:
    with pytest.raises(WrongParent) as caught:
        await joined(door.url, token, Newcomer(), door.hub.now_ms if now_ms is None else now_ms)
    return caught.value.why


async def test_a_newcomer_says_nothing_to_another_tree(door: Door, tmp_path: Path) -> None:
    token = Hub(tmp_path / "other").invite()
    with capture_logs() as logs:
        assert "fingerprint" in await unproven(door, token)
    assert not any("enrolment" in line["event"] for line in logs)
    assert door.counted == []


async def test_a_newcomer_says_nothing_to_who_shows_the_root_and_does_not_stand_under_it(tmp_path: Path) -> None:
    """Threats, row 21: the root is no secret; anybody can show it beside a certificate of his own."""
    hub, rogue = Hub(tmp_path / "hub"), Hub(tmp_path / "rogue")
    shown = tmp_path / "shown.pem"
    shown.write_text(rogue.certificate.read_text() + hub.trust.read_text())
    async with opened(hub, shown, rogue.key) as door:
        with pytest.raises((WrongParent, ssl.SSLError)):
            await joined(door.url, hub.invite(), Newcomer(), hub.now_ms)
        assert door.counted == []


async def test_a_newcomer_says_nothing_to_another_node_of_the_same_tree(tmp_path: Path) -> None:
    """Threats, row 20: a sibling answers in the parent's place."""
    hub = Hub(tmp_path / "hub")
    files = tmp_path / "sibling"
    asked = authority.request(authority.kept_key(files), [ZONE])
    files.with_suffix(".pem").write_text(hub.issuing.issue(H14, (), asked, "", hub.now).certificate)
    async with opened(hub, files.with_suffix(".pem"), files.with_suffix(".key")) as door:
        with pytest.raises((WrongParent, ssl.SSLError)):
            await joined(door.url, hub.invite(), Newcomer(), hub.now_ms)
        assert door.counted == []


async def test_a_newcomer_says_nothing_to_an_authority_above_that_stands_in_for_its_parent(tmp_path: Path) -> None:
    """Threats, row 21: the right root, the right name, valid; but not the key in the token."""
    hub = Hub(tmp_path / "hub")
    files = tmp_path / "standin"
    asked = authority.request(authority.kept_key(files), [ZONE])
    files.with_suffix(".pem").write_text(hub.issuing.issue(HUB, (), asked, "", hub.now).certificate)
    async with opened(hub, files.with_suffix(".pem"), files.with_suffix(".key")) as door:
        assert "key" in await unproven(door, hub.invite())
        assert door.counted == []


async def test_a_parent_whose_certificate_has_ended_is_not_believed(door: Door) -> None:
    """Threats, row 22: dates are judged by the program."""
    token = door.hub.invite()
    assert "time" in await unproven(door, token, door.hub.now_ms + 500 * 86_400_000)
    assert door.counted == []


HOSTILE_ANSWERS: tuple[tuple[int, bytes], ...] = (
    (200, b"rubbish"),
    (200, b"{}"),
    (200, b'{"state": "granted", "code": "H14"}'),
    (200, b'{"state": "granted", "code": "H14", "certificate": "", "authority": "", "trust": "", "directory": ""}'),
    (200, b'{"state": "granted", "code": "H41", "certificate": 1, "authority": "", "trust": "", "directory": ""}'),
    (302, b""),
    (500, b"Internal Server Error"),
    (403, b'{"reason": "something new"}'),
)


@pytest.mark.parametrize(("status", "body"), HOSTILE_ANSWERS)
async def test_an_answer_that_makes_no_sense_is_no_grant_and_no_refusal(tmp_path: Path, status: int, body: bytes) -> None:
    """Threats, rows 25 and 26: hostile answers, redirects."""
    hub = Hub(tmp_path)
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={"Location": "https://127.0.0.1:1/"})

    app.router.add_route("*", "/{path:.*}", answer)
    context = link_server_context(hub.certificate, hub.key, hub.trust, newcomers=True)
    listener = await listen(app, HOST, 0, GUARDS, context)
    try:
        with pytest.raises(Deferred):
            await joined(f"https://{HOST}:{listener.port}", hub.invite(), Newcomer(), hub.now_ms)
    finally:
        await listener.close(0.2)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1", "https://127.0.0.1:1/x", "127.0.0.1:1", ""])
async def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        await enrol_client.prove(url, Token(H41, H14, ZONE, bytes(32), bytes(32), b"s" * 16), 0)

"""The newcomer's side of enrolment: finds the tree's root at its parent by the fingerprint in the token, then asks under it.

Two connections. The first takes what the parent shows and sends nothing: the root must be among it. The second is TLS 1.3 under
that root alone, to the parent's one name, its dates judged; only then does the secret leave this machine. Knows `core` and TLS;
nothing of folders.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs

from node.adapters.http.tls import X509_V_FLAG_NO_CHECK_TIME, judge_peer, peer_chain, registered, shown_chain, spki_pin
from node.core.enrolment import Token
from node.core.envelope import Fields, strict_json
from node.core.errors import Deferred, Reason, Refused

CONNECT_S = 15.0
ANSWER_S = 90.0
ANSWER_BYTES_MAX = 80 * 1024 * 1024
"""A directory of the whole country goes with it."""
CERTIFICATES_MAX = 16
PEM_CHARS_MAX = 64 * 1024
RETRY_MIN_S, RETRY_MAX_S = 0.5, 60.0
CLOCK_BOUND_MS = 1000


class WrongParent(Exception):
    """Who answers is not the parent that the token names; nothing was sent. why: for people, in English."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent that was proven. root: of the tree (PEM). pin: of the parent's key. shown: SHA-256 of the very certificate that
    was judged; the secret goes to whoever shows this one, and to nobody else."""

    host: str
    port: int
    root: str
    pin: str
    shown: bytes


@dataclass(frozen=True, slots=True)
class Granted:
    """What the parent gave: PEM chains, the roots, the directory's text."""

    certificate: str
    authority: str
    trust: str
    directory: str


async def prove(url: str, token: Token, now_ms: int) -> Parent:
    """Look at who answers at `url` and say nothing. Raises `WrongParent`, OSError and TimeoutError."""
    host, port = _place(url)
    name = token.parent.dns_name(token.zone)
    root = await _root(host, port, name, token)
    async with asyncio.timeout(CONNECT_S):
        _, writer = await asyncio.open_connection(host, port, ssl=_under(root), server_hostname=name)
        chain = peer_chain(writer.get_extra_info("ssl_object"))
        writer.transport.abort()
    expected = registered([(token.parent, ())], token.zone)
    try:
        judge_peer(chain[0], expected=expected, now_ms=now_ms, bound_ms=CLOCK_BOUND_MS, issuers=chain[1:])
    except Refused as refused:
        said = "its certificate is not valid at this machine's time" if refused.reason is Reason.PEER_DATES else str(refused)
        raise WrongParent(said) from None
    if spki_pin(chain[0]) != token.key.hex():
        raise WrongParent("its key is not the one in the token")
    shown = hashlib.sha256(chain[0]).digest()
    return Parent(host, port, ssl.DER_cert_to_PEM_cert(root), spki_pin(chain[0]), shown)


async def ask(parent: Parent, token: Token, csr: str, authority_csr: str) -> Granted | float:
    """Ask once for the certificates; a number: a person has to approve first, ask again after so many seconds.

    Raises `Refused` as the parent says, `Deferred` where it cannot now or its answer makes no sense, `WrongParent`, OSError."""
    asked = {"secret": token.secret.hex(), "csr": csr, "authority_csr": authority_csr}
    body = json.dumps(asked).encode()
    host = f"[{parent.host}]" if ":" in parent.host else parent.host
    timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        try:
            async with session.post(
                f"https://{host}:{parent.port}/link/v1/enrol",
                data=body,
                headers={hdrs.CONTENT_TYPE: "application/json"},
                ssl=aiohttp.Fingerprint(parent.shown),
                server_hostname=token.parent.dns_name(token.zone),
                allow_redirects=False,
            ) as response:
                answer = await _bounded(response)
                return _read(response.status, answer, token)
        except (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch) as error:
            raise WrongParent(str(error)) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Deferred(2.0, in_doubt=True) from error


async def _root(host: str, port: int, name: str, token: Token) -> bytes:
    """The certificate with the token's fingerprint among what the parent shows. No byte of ours goes over this connection."""
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looking.minimum_version = ssl.TLSVersion.TLSv1_3
    looking.check_hostname = False
    looking.verify_mode = ssl.CERT_NONE  # trusts nothing: what is found must have the fingerprint, and is then put to the proof
    async with asyncio.timeout(CONNECT_S):
        _, writer = await asyncio.open_connection(host, port, ssl=looking, server_hostname=name)
        shown = shown_chain(writer.get_extra_info("ssl_object"))
        writer.transport.abort()
    for der in shown[:CERTIFICATES_MAX]:
        if hashlib.sha256(der).digest() == token.root:
            return der
    raise WrongParent("none of its certificates has the fingerprint in the token")


def _under(root: bytes) -> ssl.SSLContext:
    """TLS 1.3 to a name that this root vouches for; dates are judged by the program."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.hostname_checks_common_name = False
    context.verify_flags |= X509_V_FLAG_NO_CHECK_TIME
    context.load_verify_locations(cadata=root)
    return context


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.port is None or parts.path not in ("", "/"):
        raise ValueError("https://host:port")
    return parts.hostname, parts.port


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    while piece := await response.content.readany():
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise Deferred(RETRY_MAX_S, Reason.WIRE_TOO_LARGE, in_doubt=True)
        pieces.append(piece)
    return b"".join(pieces)


def _read(status: int, body: bytes, token: Token) -> Granted | float:
    try:
        value: Any = strict_json(body)
        fields = Fields(value, "answer")
        if status == 200 and fields.text("state", 10) == "waiting":
            wait_s = fields.get("retry_s")
            return min(max(float(wait_s), RETRY_MIN_S), RETRY_MAX_S) if isinstance(wait_s, int | float) else RETRY_MIN_S
        if status == 200:
            if fields.text("code", 35) != str(token.code):
                raise Refused(Reason.WIRE_MALFORMED, "answer.code")
            certificate, below, trust = (fields.text(each, PEM_CHARS_MAX) for each in ("certificate", "authority", "trust"))
            return Granted(certificate, below, trust, fields.text("directory", ANSWER_BYTES_MAX))
        reason = fields.text("reason", 40)
    except Refused:
        raise Deferred(RETRY_MAX_S, Reason.WIRE_MALFORMED, in_doubt=True) from None
    if status == 503 or reason not in Reason.__members__.values():
        raise Deferred(2.0)
    raise Refused(Reason(reason), str(value.get("element", ""))[:40], str(value.get("value", "")), str(value.get("rule", "")))

"""TLS for the listeners and the uplink: contexts made from files, and who a certificate says its bearer is.

The handshake proves that a chain ends in the tree's root, name constraints included, and that the bearer holds the key. It
does not judge dates: the host clock may be wrong, so the program does, by the corrected clock (architecture section 4).
Knows `core`, `ports` and the link's section of the configuration; nothing of what is asked over a connection.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import stat
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.standing import Signed
from node.ports import Clock

X509_V_FLAG_NO_CHECK_TIME = 0x200000
"""openssl/x509_vfy.h; Python's ssl has no name for it. Holds for the whole chain."""
PARSED_CERTIFICATES_MAX = 4096
"""Certificates whose facts are remembered by their bytes: leaves and issuers of all neighbours."""

_DNS_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_UNREADABLE = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Registered = Mapping[str, tuple[OrgId, Collection[str]]]
"""Who may be at the other end: DNS name -> (code, SPKI pins); no pins: any key the tree's authorities vouch for."""


class Judge(Protocol):
    """A verified chain (DER, leaf first) -> the code of the node that bears it, or `Refused(PEER_*)`. dates: False where it does
    not matter when the chain is valid. ages: False where it does not matter how old the lists are that it is put to. pins: False
    where any key will do that the tree's authorities vouch for."""

    def __call__(self, chain: Sequence[bytes], *, dates: bool = True, ages: bool = True, pins: bool = True) -> OrgId: ...


Standing = Callable[[Sequence[bytes], int | None], None]
"""Whether a verified chain is revoked at an instant (UTC ms; None: no age is judged): `Refused(PEER_REVOKED | PEER_LIST_OLD)`."""


class TlsFileError(Exception):
    """A certificate or key file that the node must not start with. path: which; problem: why, and what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


def link_server_context(certificate: Path, key: Path, trust: Path, *, newcomers: bool = False) -> ssl.SSLContext:
    """For the link listener: TLS 1.3 only, a client certificate under `trust` required, no session resumed.

    newcomers: one who has none yet may come in too, to be asked for its invitation and nothing else (`link_enrol.py`), and the
    roots are shown with the chain: it knows one of them by its fingerprint. A bad certificate is refused as ever.
    Raises `TlsFileError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _between_nodes(context, certificate, key, trust)
    if newcomers:
        with tempfile.NamedTemporaryFile(suffix=".pem") as shown:  # OpenSSL takes a chain from a file only
            shown.write(certificate.read_bytes() + b"\n" + trust.read_bytes())
            shown.flush()
            _present(context, Path(shown.name), key)
        context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # every connection shows its certificate anew
    return context


def link_client_context(certificate: Path, key: Path, trust: Path) -> ssl.SSLContext:
    """For the uplink: the same, and the handshake itself wants the parent's DNS name; CN is never looked at.

    OpenSSL is content with one matching name among several, so `judge_peer` must still see the certificate.
    Raises `TlsFileError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    _between_nodes(context, certificate, key, trust)
    return context


def office_server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For the office listener: server certificate only, TLS 1.2 and 1.3. Raises `TlsFileError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    _present(context, certificate, key)
    return context


class OfficeContext:
    """The office listener's context as it has to be now, asked for each new connection. As long as no system is bound to a
    certificate nobody is asked for one; then everybody may show one, and whatever was registered passes, whoever signed it and
    whatever its dates: what it is good for is the face's to say. Another one ends the handshake. No session outlives a change,
    and none is resumed where certificates are asked for: each connection shows its own anew.

    certificates: DER of each that is registered; asked at each connection. Raises `TlsFileError` when it is made, never later."""

    def __init__(self, certificate: Path, key: Path, certificates: Callable[[], tuple[bytes, ...]]) -> None:
        self._certificate, self._key = certificate, key
        self._certificates = certificates
        self._known = certificates()
        self._context = self._made(self._known)

    def __call__(self) -> ssl.SSLContext:
        known = self._certificates()
        if known != self._known:
            try:
                self._context, self._known = self._made(known), known
            except TlsFileError as error:
                log.error("certificates of office systems not taken", reason=str(error)[:300])
        return self._context

    def _made(self, known: tuple[bytes, ...]) -> ssl.SSLContext:
        context = office_server_context(self._certificate, self._key)
        if known:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.verify_flags |= X509_V_FLAG_NO_CHECK_TIME | ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_verify_locations(cadata=b"".join(known))
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        return context


def _between_nodes(context: ssl.SSLContext, certificate: Path, key: Path, trust: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= X509_V_FLAG_NO_CHECK_TIME
    _present(context, certificate, key)
    try:
        context.load_verify_locations(cafile=trust)
    except OSError as error:
        raise TlsFileError(trust, f"no PEM certificates can be read from it ({error})") from error


def _present(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    read_private(key)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=b"")  # an encrypted key is an error, never a question on the terminal
    except OSError as error:
        raise TlsFileError(certificate, f"cannot be used with the key {key} ({error})") from error


def read_private(path: Path) -> bytes:
    """The bytes of a key file that nobody but its owner may touch; else `TlsFileError`."""
    try:
        mode = path.stat().st_mode
        if mode & _OTHERS_MAY:
            raise TlsFileError(path, f"mode {stat.S_IMODE(mode):04o} opens the private key to others; run: chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise TlsFileError(path, f"the private key cannot be read ({error.strerror})") from error


@dataclass(frozen=True, slots=True)
class Facts:
    """What we read in a certificate. names: its dNSNames in lower case. Validity in UTC ms, both ends included."""

    names: tuple[str, ...]
    pin: str
    serial: int
    not_before_ms: int
    not_after_ms: int


@lru_cache(PARSED_CERTIFICATES_MAX)
def facts(der: bytes) -> Facts:
    """Read a certificate, or `Refused(PEER_NAME | PEER_KEY)` where it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = _dns_names(certificate)
    except _UNREADABLE:
        raise Refused(Reason.PEER_NAME, "certificate", hashlib.sha256(der).hexdigest()) from None
    valid = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    return Facts(names, _pin(certificate), certificate.serial_number, *(round(instant.timestamp() * 1000) for instant in valid))


def _dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in alternatives.get_values_for_type(x509.DNSName))


def _pin(certificate: x509.Certificate) -> str:
    try:
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(Reason.PEER_KEY, "SubjectPublicKeyInfo", rule="a known kind of key") from None
    return hashlib.sha256(spki).hexdigest()


def peer_name(der: bytes) -> str:
    """The one dNSName of a leaf, lower case. CN and names of other kinds are not looked at.

    Raises `Refused(PEER_NAME)` where there is none, more than one, or one that is no host name (a wildcard, say).
    """
    names = facts(der).names
    if len(names) != 1 or not _DNS_NAME.fullmatch(names[0]):
        raise Refused(Reason.PEER_NAME, "dNSName", " ".join(names), "exactly one")
    return names[0]


def spki_pin(der: bytes) -> str:
    """SHA-256 (hex) of the certificate's SubjectPublicKeyInfo: the name of a key, whatever certificate it comes in."""
    return facts(der).pin


def judge_peer(der: bytes, *, expected: Registered, now_ms: int | None, bound_ms: int, issuers: Sequence[bytes] = ()) -> OrgId:
    """Who bears a leaf that the handshake has proven: the code registered for its name.

    issuers: the rest of the verified chain; their dates count like the leaf's, with the clock's bound in favour of the peer.
    now_ms: None where no date counts.
    Raises `Refused(PEER_NAME | PEER_UNKNOWN | PEER_KEY | PEER_DATES)`.
    """
    name = peer_name(der)
    if name not in expected:
        raise Refused(Reason.PEER_UNKNOWN, "dNSName", name)
    code, pins = expected[name]
    if pins and spki_pin(der) not in pins:
        raise Refused(Reason.PEER_KEY, "SubjectPublicKeyInfo", spki_pin(der), f"pinned for {name}")
    for each in (der, *issuers):
        dates = facts(each)
        if now_ms is not None and not dates.not_before_ms - bound_ms <= now_ms <= dates.not_after_ms + bound_ms:
            raise Refused(Reason.PEER_DATES, "validity", name, f"{dates.not_before_ms}..{dates.not_after_ms} ms")
    return code


def signed_by(chain: Sequence[bytes]) -> tuple[Signed, ...]:
    """Each certificate of a chain (DER, leaf first, root last) with the key that signed it."""
    return tuple((facts(above).pin, facts(each).serial) for each, above in pairwise(chain))


def registered(nodes: Iterable[tuple[OrgId, Collection[str]]], zone: str) -> Registered:
    """The table for `judge_peer`: each node under its DNS name in the zone, with its pins in lower case."""
    return {code.dns_name(zone): (code, frozenset(pin.lower() for pin in pins)) for code, pins in nodes}


def judge(expected: Registered, clock: Clock, standing: Standing = lambda chain, now_ms: None) -> Judge:
    """`judge_peer` bound to a table, the clock and the revocation lists: asked anew at every request, so what they say now
    counts."""

    def judged(chain: Sequence[bytes], *, dates: bool = True, ages: bool = True, pins: bool = True) -> OrgId:
        now_ms, bound_ms = clock.utc_ms(), clock.bound_ms()
        known = expected if pins else {name: (code, ()) for name, (code, _) in expected.items()}
        code = judge_peer(chain[0], expected=known, now_ms=now_ms if dates else None, bound_ms=bound_ms, issuers=chain[1:])
        standing(chain, now_ms - bound_ms if dates and ages and clock.synchronised() else None)
        return code

    return judged


def shown_chain(connection: ssl.SSLObject) -> tuple[bytes, ...]:
    """DER of all that the other end has shown, the leaf first, verified or not: only to look for a root known otherwise."""
    public: Any = getattr(connection, "get_unverified_chain", None)
    if public is not None:
        return tuple(public())
    inner: Any = getattr(connection, "_sslobj", None)
    return tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_unverified_chain() or ())


def peer_chain(connection: ssl.SSLObject) -> tuple[bytes, ...]:
    """DER of the chain the handshake verified, leaf first; empty where the peer showed none.

    Public since Python 3.13; 3.11 and 3.12 have the same call on the inner object.
    """
    leaf = connection.getpeercert(binary_form=True)
    if leaf is None:
        return ()
    public: Any = getattr(connection, "get_verified_chain", None)
    if public is not None:
        return tuple(public())
    inner: Any = getattr(connection, "_sslobj", None)
    return tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_verified_chain())

"""The origin node's signature over an envelope's header: made here when a document sets out, verified where it arrives.

ECDSA on P-256 with SHA-256 over the exact header bytes, made without chance (RFC 6979): a weak generator cannot give the key
away, and a rehearsal repeats byte for byte. The signer's chain travels beside the envelope; it must end in the
tree's root, name constraints included, and name the origin the header claims. Dates are judged at the instant the header
was made, since a certificate may end while a document is on the road. Knows `core` and the files it is given; nothing of
the store or of HTTP.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from node.adapters.http.tls import TlsFileError, facts, peer_name, read_private, signed_by
from node.core import evidence
from node.core.envelope import Envelope, Header
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.standing import Signed

CHAIN_DEPTH_MAX = 16
"""Issuing certificates between a leaf and the root: one for each tier that has a CA of its own."""
CHAINS_KNOWN_MAX = 4096
BOUND_MAX_MS = 86_400_000
"""A header's own bound counts up to a day: beyond that it would choose its certificate's dates."""
EXPIRED_MAX_MS = 400 * 86_400_000
"""A key that ended longer ago signs nothing that could still be on the road, whatever instant the header claims."""

_ALGORITHM = ec.ECDSA(SHA256())
_SIGNING = ec.ECDSA(SHA256(), deterministic_signing=True)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


Pem = Path | bytes
"""A file, or its content where there is none: a rehearsal keeps its keys in memory."""


class Signer:
    """This node's key. key_id: SHA-256 (hex) of the leaf's DER; chain_pem: leaf first; dns_name: what the leaf says we are."""

    def __init__(self, certificate: Pem, key: Pem) -> None:
        """Raises `TlsFileError` where a file is missing, open to others, or not a P-256 key with its certificate."""
        self._files = (certificate, key)
        self.reload()

    def reload(self) -> None:
        """Read the files again. Raises as at first; then the key before goes on signing."""
        certificate, file = self._files
        chain, key = _certificates(certificate), _private_key(file)
        if key.public_key() != chain[0].public_key():
            raise TlsFileError(_named(certificate), f"the first certificate does not belong to the key {_named(file)}")
        leaf = chain[0].public_bytes(Encoding.DER)
        try:
            self.dns_name = peer_name(leaf)
        except Refused as refused:
            said = f"names {refused.value or 'nothing'}; a node has exactly one dNSName"
            raise TlsFileError(_named(certificate), said) from refused
        self._key = key
        self.key_id = hashlib.sha256(leaf).hexdigest()
        self.chain_pem = b"".join(each.public_bytes(Encoding.PEM) for each in chain)

    def sign(self, header_bytes: bytes) -> bytes:
        """The signature in DER, at most 72 bytes; the same for the same header. Of the two numbers that are as good, s and the
        order less s, the lower."""
        r, s = decode_dss_signature(self._key.sign(header_bytes, _SIGNING))
        return encode_dss_signature(r, min(s, evidence.P256_ORDER - s))


class Offline:
    """A witness with nothing but the root's certificate. trust: PEM. zone: the tree's; "": the one that the first signer's
    name lies in, which every later name must lie in, too. Raises `TlsFileError` at the first
    question where the root cannot be read."""

    def __init__(self, trust: Pem, zone: str = "") -> None:
        self._trust = trust
        self._verifier: Verifier | None = None
        self.zone = zone

    def witness(self, said: evidence.Signed, signed: bytes, signature: bytes, chain_pem: bytes) -> None:
        if self._verifier is None:
            self.zone = self.zone or self._found_zone(Statement(said.key, said.node, said.at_ms, said.bound_ms), chain_pem)
            self._verifier = Verifier(self._roots(), self.zone)
        self._verifier.witness(said, signed, signature, chain_pem)

    def _found_zone(self, claim: Statement, chain_pem: bytes) -> str:
        """What the name has behind the code that is claimed with it. Whoever may sign for a subtree could so take it for a whole
        tree, and its own node for the hub: the zone does not lie within the names that the highest authority is for."""
        name, within = Verifier(self._roots(), "").named(claim, chain_pem), claim.origin.dns_name("").rstrip(".")
        if within and not name.text.startswith(f"{within}."):
            raise _wrong("dNSName", name.text, within)
        zone = name.text[len(within) :].removeprefix(".")
        if any(zone.endswith(f".{permitted}") for permitted in name.permitted):
            raise _wrong("zone", zone, " ".join(name.permitted))
        return zone

    def _roots(self) -> bytes:
        """Nothing else in the file is trusted: it may be a bundle that was named in the root's place."""
        roots = [each for each in _certificates(self._trust) if each.subject == each.issuer]
        if not roots:
            raise TlsFileError(_named(self._trust), "holds no root certificate")
        return b"".join(each.public_bytes(Encoding.PEM) for each in roots)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a node signed that is no header: by which key, who, when by its own word (UTC ms)."""

    key: str
    origin: OrgId
    created_ms: int
    bound_ms: int = 0


Claim = Header | Statement


@dataclass(frozen=True, slots=True)
class Name:
    """A leaf's. permitted: the names that the highest authority above it is constrained to, none where none is."""

    text: str
    permitted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """A leaf whose chain was found good. The whole chain is valid from from_ms to to_ms. signed: it, as revocation lists do.
    chain: SHA-256 of it as it came."""

    key: ec.EllipticCurvePublicKey
    name: Name
    from_ms: int
    to_ms: int
    signed: tuple[Signed, ...]
    chain: bytes


class Verifier:
    """Judges the signatures of all nodes of one tree. trust: PEM with its root(s); zone: the tree's DNS zone. revoked_ms: since
    when a chain is revoked. What was signed before that stands: it may be on the road while its node gets another key, and
    nobody but a neighbour can present it."""

    def __init__(self, trust: Pem, zone: str, revoked_ms: Callable[[Sequence[Signed]], int | None] = lambda signed: None) -> None:
        self._revoked_ms = revoked_ms
        self._trust = trust
        self._zone = zone
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self.reload()

    def reload(self) -> None:
        """Read the trust file again and forget what was verified under the old one. Raises `TlsFileError`."""
        self._roots = Store(_certificates(self._trust))
        self._known.clear()

    def verify(self, envelope: Envelope, chain_pem: bytes, now_ms: int) -> None:
        """Whether the header's bytes are what its origin signed; `Refused(ORIGIN_SIGNATURE)` says what is not right.

        chain_pem: the chain of `header.key`, leaf first; not looked at again once it was found good, and b"" will do then.
        """
        self._judge(envelope.header, now_ms, chain_pem, envelope.header_bytes, envelope.signature)

    def attest(self, node: OrgId, key: str, chain_pem: bytes, at_ms: int, data: bytes, signature: bytes) -> None:
        """Whether data is what this node signed at that instant (its own word, UTC ms) with the key of this name, however long
        ago; `Refused(ORIGIN_SIGNATURE)` says what is not right. chain_pem: as for `verify`."""
        self._judge(Statement(key, node, at_ms), at_ms, chain_pem, data, signature)

    def witness(self, said: evidence.Signed, signed: bytes, signature: bytes, chain_pem: bytes) -> None:
        """As `attest`, for what states its own bound."""
        self._judge(Statement(said.key, said.node, said.at_ms, said.bound_ms), said.at_ms, chain_pem, signed, signature)

    def _judge(self, said: Claim, now_ms: int, chain_pem: bytes, data: bytes, signature: bytes) -> None:
        known = self._chained(said, chain_pem)
        expected = said.origin.dns_name(self._zone)
        if known.name.text != expected:
            raise _wrong("dNSName", known.name.text, expected)
        _judge_dates(said, known, now_ms)
        revoked_ms = self._revoked_ms(known.signed)
        if revoked_ms is not None and said.created_ms >= revoked_ms:
            raise _wrong("revoked", said.key, f"< {revoked_ms} ms")
        try:
            known.key.verify(signature, data, _ALGORITHM)
        except InvalidSignature:
            raise _wrong("signature", said.key) from None

    def knows(self, key: str) -> bool:
        """Whether a chain of this key was found good, so that nobody need hand one over."""
        return key in self._known

    def vouch(self, header: Header, chain_pem: bytes) -> None:
        """Whether this is a good chain for the key the header names; `Refused(ORIGIN_SIGNATURE)` if not. A relay asks before it
        keeps a chain, so that nobody can put a bad one in the place of a good one."""
        self._chained(header, chain_pem)

    def named(self, said: Claim, chain_pem: bytes) -> Name:
        """Whose key a statement is signed with, by a good chain; `Refused(ORIGIN_SIGNATURE)` where it is none."""
        return self._chained(said, chain_pem).name

    def _chained(self, said: Claim, chain_pem: bytes) -> _Known:
        """The key that is named, by the chain it was found good by or by another that is as good."""
        known = self._known.get(said.key)
        if known is None or (chain_pem and hashlib.sha256(chain_pem).digest() != known.chain):
            known = self._learn(said, chain_pem)
        self._known.move_to_end(said.key)
        return known

    def _learn(self, header: Claim, chain_pem: bytes) -> _Known:
        known = self._judge_chain(header, chain_pem)
        self._known[header.key] = known
        if len(self._known) > CHAINS_KNOWN_MAX:
            self._known.popitem(last=False)
        return known

    def _judge_chain(self, header: Claim, chain_pem: bytes) -> _Known:
        chain = _chain(header, chain_pem)
        leaf = chain[0].public_bytes(Encoding.DER)
        try:
            name, dates = peer_name(leaf), facts(leaf)
            at_ms = min(max(header.created_ms, dates.not_before_ms), dates.not_after_ms)
            verified = self._path(chain, _EPOCH + timedelta(milliseconds=at_ms))
            key = chain[0].public_key()
            ders = [each.public_bytes(Encoding.DER) for each in verified]
            every = [facts(each) for each in ders]
        except (VerificationError, Refused, ValueError, UnsupportedAlgorithm) as error:
            raise _wrong("chain", header.key, str(error)[:100]) from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _wrong("key", header.key, "P-256")
        from_ms, to_ms = max(each.not_before_ms for each in every), min(each.not_after_ms for each in every)
        return _Known(key, Name(name, _permitted(verified)), from_ms, to_ms, signed_by(ders), hashlib.sha256(chain_pem).digest())

    def _path(self, chain: list[x509.Certificate], at: datetime) -> list[x509.Certificate]:
        """The verified chain with its root. The library checks signatures, name constraints, path lengths and dates."""
        policy = PolicyBuilder().store(self._roots).time(at).max_chain_depth(CHAIN_DEPTH_MAX)
        policy = policy.extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=_leaf_policy())
        return policy.build_client_verifier().verify(chain[0], chain[1:]).chain


def _permitted(path: Sequence[x509.Certificate]) -> tuple[str, ...]:
    """The dNSNames that the highest constrained certificate of a path permits."""
    for certificate in reversed(path):
        with suppress(x509.ExtensionNotFound):
            subtrees = certificate.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or ()
            names = tuple(each.value.lower().removeprefix(".") for each in subtrees if isinstance(each, x509.DNSName))
            if names:
                return names
    return ()


def _leaf_policy() -> ExtensionPolicy:
    """As for the web, client authentication included, but our leaves have an empty subject and any CA may issue them: the
    subject alternative name need not be critical (RFC 5280 4.2.1.6 wants it), the authority key identifier may be missing."""
    return (
        ExtensionPolicy.webpki_defaults_ee()
        .require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
    )


def _chain(header: Claim, chain_pem: bytes) -> list[x509.Certificate]:
    """A chain as it must travel: the leaf the header names, then each one's issuer, no subject twice, and nothing beside them.

    The library searches all paths, so it is given one.
    """
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
        leaf = hashlib.sha256(chain[0].public_bytes(Encoding.DER)).hexdigest()
        subjects = [each.subject for each in chain]
        issuers = [each.issuer for each in chain]
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        raise _wrong("chain", header.key, "PEM") from None
    if leaf != header.key:
        raise _wrong("chain", leaf, header.key)
    if b"".join(each.public_bytes(Encoding.PEM) for each in chain) != chain_pem:
        raise _wrong("chain", header.key, "PEM")
    if issuers[:-1] != subjects[1:] or len(set(subjects)) != len(subjects):
        raise _wrong("chain", header.key, "leaf first, then each one's issuer")
    return chain


def _judge_dates(header: Claim, known: _Known, now_ms: int) -> None:
    slack_ms = min(header.bound_ms, BOUND_MAX_MS)
    if not known.from_ms - slack_ms <= header.created_ms <= known.to_ms + slack_ms:
        raise _wrong("validity", str(header.created_ms), f"{known.from_ms}..{known.to_ms} ms")
    if now_ms > known.to_ms + EXPIRED_MAX_MS:
        raise _wrong("validity", str(known.to_ms), f"≥ {now_ms - EXPIRED_MAX_MS} ms")


def _certificates(pem: Pem) -> list[x509.Certificate]:
    path = _named(pem)
    try:
        return x509.load_pem_x509_certificates(pem if isinstance(pem, bytes) else pem.read_bytes())
    except OSError as error:
        raise TlsFileError(path, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise TlsFileError(path, "holds no PEM certificates") from error


def _named(pem: Pem) -> Path:
    return Path("PEM") if isinstance(pem, bytes) else pem


def _private_key(pem: Pem) -> ec.EllipticCurvePrivateKey:
    path = _named(pem)
    try:
        key = load_pem_private_key(pem if isinstance(pem, bytes) else read_private(pem), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TlsFileError(path, "holds no private key in PEM that opens without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TlsFileError(path, "holds a key of another kind; headers are signed with P-256")
    return key


def _wrong(element: str, value: str, rule: str = "") -> Refused:
    return Refused(Reason.ORIGIN_SIGNATURE, element, value, rule)

"""Keys and certificates of a rehearsal, made from fixed numbers: real P-256 keys, real chains, the same bytes in every run.

They are worth nothing outside: whoever reads this file can make them. Knows the model and `cryptography`; no files.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.adapters import authority
from node.adapters.signing import Claim, Pem, Verifier, _Known

VALID_FROM = datetime(2026, 1, 1, tzinfo=UTC)
VALID_FOR = timedelta(days=3650)
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256 (FIPS 186-4, D.1.2.3): private keys are below it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A leaf with its key, and the root that issued it; PEM."""

    certificate: bytes
    key: bytes
    trust: bytes


class SharedVerifier(Verifier):
    """Production's, but that a chain one node of the process has found good is not looked into again at the next one: all have
    the same root, and no certificate of a rehearsal ends within it. Hundreds of nodes would each find what all find."""

    def _learn(self, header: Claim, chain_pem: bytes) -> _Known:
        found = _good.get((header.key, chain_pem, self._trust))
        if found is None:
            found = _good[header.key, chain_pem, self._trust] = super()._learn(header, chain_pem)
        self._known[header.key] = found
        return found


_good: dict[tuple[str, bytes, Pem], _Known] = {}
"""Chains that were found good, at most one for each name that has a pair."""


@cache
def pair(dns: str) -> Pair:
    """The link certificate of the node under this name, from the one root of all rehearsals."""
    root_key, root = _root()
    key = _key(dns)
    builder = _builder(x509.Name([]), root.subject, key, dns).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=True
    )
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(usages, critical=False).add_extension(_issuer_id(root_key), critical=False)
    leaf = builder.sign(root_key, hashes.SHA256(), ecdsa_deterministic=True)
    plain = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(_pem(leaf), plain, _pem(root))


def root() -> x509.Certificate:
    """The one root of all rehearsals."""
    return _root()[1]


@cache
def pin(dns: str, key: int) -> str:
    """SHA-256 (hex) of the public key that the node under this name has after so many changes."""
    return authority.pin(_key(f"{dns}/{key}").public_key())


@cache
def leaf(dns: str, key: int, number: int, issuer: str, ends: datetime) -> x509.Certificate:
    """A certificate under this name, signed by the authority of that node. key: how often it changed; number: of the leaf."""
    own, (signing, above) = _key(f"{dns}/{key}"), _issuing(issuer)
    names = x509.SubjectAlternativeName([x509.DNSName(dns)])
    builder = _builder(x509.Name([]), above.subject, own, f"{dns}/{number}", ends)
    return builder.add_extension(names, critical=True).sign(signing, hashes.SHA256(), ecdsa_deterministic=True)


def chain(certificate: x509.Certificate, issuer: str) -> tuple[bytes, ...]:
    """DER, the root last, as a handshake leaves it."""
    der = serialization.Encoding.DER
    return tuple(each.public_bytes(der) for each in (certificate, _issuing(issuer)[1], root()))


def shake(chain: Sequence[bytes]) -> None:
    """What a handshake looks into: that a chain (DER) ends in the root, by its signatures. ValueError where it does not."""
    authority.anchored([x509.load_der_x509_certificate(each) for each in chain], [root()])


def revocation_list(issuer: str, revoked: Sequence[tuple[int, datetime]], number: int, now: datetime) -> tuple[str, str]:
    """That authority's certificate and its list, PEM."""
    key, above = _issuing(issuer)
    builder = x509.CertificateRevocationListBuilder().issuer_name(above.subject)
    builder = builder.last_update(now - authority.BACKDATED).next_update(now + authority.LIST_LIFE)
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for serial, since in revoked:
        gone = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        builder = builder.add_revoked_certificate(gone)
    made = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return authority.pem(above), made.public_bytes(serialization.Encoding.PEM).decode()


@cache
def _issuing(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    root_key, above = _root()
    key = _key(f"issuing/{name}")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"truc rehearsal {name}")])
    builder = _builder(subject, above.subject, key, f"issuing/{name}")
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return key, builder.sign(root_key, hashes.SHA256(), ecdsa_deterministic=True)


@cache
def _root() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = _key("root")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "truc rehearsal root")])
    builder = _builder(name, name, key, "root")
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    usage = x509.KeyUsage(
        digital_signature=False,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return key, builder.add_extension(usage, critical=True).sign(key, hashes.SHA256(), ecdsa_deterministic=True)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, purpose: str, ends: datetime = VALID_FROM + VALID_FOR
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(random.Random(f"serial/{purpose}").getrandbits(120) | 1)
        .not_valid_before(VALID_FROM)
        .not_valid_after(ends)
    )


def _issuer_id(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _key(purpose: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(random.Random(f"key/{purpose}").randrange(1, _ORDER), ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

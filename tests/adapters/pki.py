"""A small PKI for tests: a root, issuing authorities with or without name constraints, leaves good and bad, at fixed dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2031, 3, 1, 12, 0, tzinfo=UTC)
"""Far from the host clock on purpose: nothing here may depend on it."""
NOW_MS = int(NOW.timestamp()) * 1000
DAY = timedelta(days=1)
DAY_MS = 86_400_000
ZONE = "truc.internal"
BOTH_USES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass
class Clock:
    """A clock that stands where it is put."""

    now_ms: int = NOW_MS
    bound: int = 1000

    def utc_ms(self) -> int:
        return self.now_ms

    def bound_ms(self) -> int:
        return self.bound

    def synchronised(self) -> bool:
        return True


@dataclass(frozen=True)
class Holder:
    """A certificate with its key and the issuing certificates above it, the root not among them."""

    certificate: x509.Certificate
    key: Key
    above: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return b"".join(each.public_bytes(Encoding.PEM) for each in (self.certificate, *self.above))

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class Files:
    """A holder as a node finds it on disk."""

    certificate: Path
    key: Path
    trust: Path


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def _build(subject: str, key: Key, issuer: Holder | None, before: datetime, after: datetime) -> x509.CertificateBuilder:
    above = (issuer.key if issuer else key).public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer.certificate.subject if issuer else _name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(before)
        .not_valid_after(after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
    )


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def authority(
    subject: str,
    issuer: Holder | None = None,
    *,
    permitted: Sequence[str] = (),
    excluded: Sequence[str] = (),
    before: datetime = NOW - 30 * DAY,
    after: datetime = NOW + 3650 * DAY,
    key: Key | None = None,
) -> Holder:
    """A root, or an issuing authority below `issuer`, for the DNS suffixes permitted (none given: all)."""
    key = key or new_key()
    builder = _build(subject, key, issuer, before, after)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    if permitted or excluded:
        inside = [x509.DNSName(name) for name in permitted] or None
        outside = [x509.DNSName(name) for name in excluded] or None
        builder = builder.add_extension(x509.NameConstraints(inside, outside), critical=True)
    return Holder(_sign(builder, issuer, key), key, _chain(issuer))


def leaf(
    issuer: Holder | None,
    *names: str,
    subject: str = "",
    others: Sequence[x509.GeneralName] = (),
    uses: Sequence[x509.ObjectIdentifier] = BOTH_USES,
    before: datetime = NOW - 7 * DAY,
    after: datetime = NOW + 365 * DAY,
    key: Key | None = None,
    critical: bool = True,
) -> Holder:
    """A node's certificate under its dNSNames; issuer None: self-signed."""
    key = key or new_key()
    builder = _build(subject, key, issuer, before, after)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(authority=False), critical=True)
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    general = [*(x509.DNSName(name) for name in names), *others]
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=critical)
    return Holder(_sign(builder, issuer, key), key, _chain(issuer))


def _sign(builder: x509.CertificateBuilder, issuer: Holder | None, own: Key) -> x509.Certificate:
    return builder.sign(issuer.key if issuer else own, SHA256())


def _chain(issuer: Holder | None) -> tuple[x509.Certificate, ...]:
    if issuer is None or issuer.certificate.subject == issuer.certificate.issuer:
        return ()
    return (issuer.certificate, *issuer.above)


def put(folder: Path, holder: Holder, trust: Holder) -> Files:
    """Write a holder and the root it trusts the way a node keeps them."""
    folder.mkdir(exist_ok=True)
    files = Files(folder / "node.pem", folder / "node.key", folder / "trust.pem")
    files.certificate.write_bytes(holder.pem)
    files.key.touch(0o600)
    files.key.write_bytes(holder.key_pem)
    files.trust.write_bytes(trust.certificate.public_bytes(Encoding.PEM))
    return files

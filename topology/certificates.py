"""The certificate authorities of a rehearsal: one root for links, name-constrained issuing certificates, one root for offices.

A node's name is exactly one dNSName; the issuing certificate of a site permits the names of its own subtree and no others, so
a province cannot sign for another one's district. A key once written is kept, so pins stay when a certificate is renewed.
Knows `cryptography` and the model; nothing of ports, processes or of what a node does with its certificate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from topology.files import SECRET, BadFile, write
from topology.model import Site, Tree

BACKDATED = timedelta(days=7)
"""A clock that is behind by less than this still accepts a fresh certificate."""
AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=398)
RENEWED_BEFORE = timedelta(days=30)
OFFICE_NAMES = ("localhost", "127.0.0.1", "::1")
NOBODY = x509.Name([])

Extension = tuple[x509.ExtensionType, bool]
"""An extension and whether it is critical."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a certificate says beside its key and its issuer."""

    subject: x509.Name
    extensions: Sequence[Extension]
    life: timedelta


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that signs others, and its key. chain: what goes with a leaf below it, PEM: all authorities but the root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: str


def root(files: Path, name: str, now: datetime) -> Authority:
    """A self-signed authority, kept in the two files `files`.pem and `files`.key; made if missing or close to its end."""
    key = _kept_key(files)
    content = Content(_common_name(name), _for_authority(()), AUTHORITY_LIFE)
    return Authority(_kept(files, key, None, content, now), key, "")


def issuing(above: Authority, files: Path, name: str, permitted: Sequence[str], now: datetime) -> Authority:
    """The authority of one site, for the DNS suffixes `permitted` only. Signed by the one above it."""
    key = _kept_key(files)
    content = Content(_common_name(name), _for_authority(permitted), AUTHORITY_LIFE)
    certificate = _kept(files, key, above, content, now)
    return Authority(certificate, key, _pem(certificate) + above.chain)


def node_certificate(issuer: Authority, files: Path, dns: str, now: datetime) -> str:
    """A node's link certificate under its one name; server and client alike. Returns the pin of its key."""
    key = _kept_key(files)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    _kept(files, key, issuer, Content(NOBODY, _for_leaf([x509.DNSName(dns)], usages), LEAF_LIFE), now)
    return pin(key.public_key())


def office_certificate(issuer: Authority, files: Path, now: datetime) -> None:
    """The server certificate of an office listener on this machine."""
    extensions = _for_leaf([_general_name(name) for name in OFFICE_NAMES], [ExtendedKeyUsageOID.SERVER_AUTH])
    _kept(files, _kept_key(files), issuer, Content(NOBODY, extensions, LEAF_LIFE), now)


def pin(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 (hex) of the SubjectPublicKeyInfo: the form of `link.parent_pins` and `link.children[].pins`."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def permitted_names(tree: Tree, site: Site) -> tuple[str, ...]:
    """The shortest list of DNS suffixes that holds every name of a site's subtree: H54 with K54 needs two."""
    codes = {code for member in tree.subtree(site.code) for code in (member.code, *member.prefixes)}
    if site.parent is None:
        return (tree.zone,)
    tops = (code for code in sorted(codes) if codes.isdisjoint([*code.upwards()][1:]))
    return tuple(code.dns_name(tree.zone) for code in tops)


def _kept(
    files: Path, key: ec.EllipticCurvePrivateKey, issuer: Authority | None, content: Content, now: datetime
) -> x509.Certificate:
    """The certificate in the file if it still says all this, else a new one; the chain below the root goes with it."""
    path = _named(files, ".pem")
    identified = [*content.extensions, *_identifiers(key, issuer)]
    content = Content(content.subject, identified, content.life)
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())[0] if path.is_file() else None
    except ValueError as error:
        raise BadFile(f"{path}: không phải chứng thư dạng PEM", f"{path}: no PEM certificate") from error
    if found is None or not _fits(found, key, issuer, content, now):
        found = _signed(key, issuer, content, now)
    write(path, _pem(found) + ("" if issuer is None else issuer.chain))
    return found


def _identifiers(key: ec.EllipticCurvePrivateKey, issuer: Authority | None) -> list[Extension]:
    identifiers: list[Extension] = [(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)]
    if issuer is not None:
        above = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        identifiers.append((x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), False))
    return identifiers


def _fits(
    found: x509.Certificate, key: ec.EllipticCurvePrivateKey, issuer: Authority | None, content: Content, now: datetime
) -> bool:
    if found.public_key() != key.public_key() or found.subject != content.subject:
        return False
    if [(extension.value, extension.critical) for extension in found.extensions] != list(content.extensions):
        return False
    try:
        found.verify_directly_issued_by(found if issuer is None else issuer.certificate)
    except (InvalidSignature, ValueError):
        return False
    return found.not_valid_before_utc <= now < found.not_valid_after_utc - RENEWED_BEFORE


def _signed(key: ec.EllipticCurvePrivateKey, issuer: Authority | None, content: Content, now: datetime) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(content.subject)
        .issuer_name(content.subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + content.life)
    )
    for extension, critical in content.extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key if issuer is None else issuer.key, hashes.SHA256())


def _for_authority(permitted: Sequence[str]) -> list[Extension]:
    extensions: list[Extension] = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (_key_usage(signs_certificates=True), True),
    ]
    if permitted:
        suffixes = [x509.DNSName(name) for name in permitted]
        extensions.append((x509.NameConstraints(permitted_subtrees=suffixes, excluded_subtrees=None), True))
    return extensions


def _for_leaf(names: Sequence[x509.GeneralName], usages: Sequence[x509.ObjectIdentifier]) -> list[Extension]:
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage(usages), False),
        (x509.SubjectAlternativeName(names), True),  # RFC 5280 4.2.1.6: critical where the subject is empty
    ]


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _named(files: Path, suffix: str) -> Path:
    return files.with_name(files.name + suffix)  # with_suffix would take the 07 of h41.07 for one


def _kept_key(files: Path) -> ec.EllipticCurvePrivateKey:
    path = _named(files, ".key")
    if path.is_file():
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise BadFile(f"{path}: không phải khóa riêng dạng PEM không mật khẩu", f"{path}: no plain PEM key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BadFile(f"{path}: không phải khóa đường cong elliptic", f"{path}: not an elliptic curve key")
        path.chmod(SECRET)
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    plain = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    write(path, plain.decode(), SECRET)
    return key


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()

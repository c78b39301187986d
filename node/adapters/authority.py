"""A certificate authority of our own: roots, name-constrained issuing certificates, leaves, revocation lists.

A node's name is exactly one dNSName; the issuing certificate of a node permits the names of its own subtree and no others, so
a province cannot sign for another one's district. A key once written is kept, so pins stay when a certificate is renewed; what
somebody else's key asks for (a request, CSR) is never a name, only the key. Knows `cryptography` and small files; nothing of
who may have a certificate, of ports or of what a node does with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.adapters.folders import SECRET, BadFile, write
from node.core.standing import Handover, handed_over

BACKDATED = timedelta(days=7)
"""A clock that is behind by less than this still accepts a fresh certificate."""
AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=398)
RENEWED_BEFORE = timedelta(days=90)
LIST_LIFE = timedelta(days=30)
"""A revocation list is long-lived: a province that is cut off goes on with the one it has (architecture section 4)."""
ROOT_LIST_LIFE = timedelta(days=398)
"""The root's own: it revokes issuing certificates of the hub alone, and its key may lie in a safe."""
REQUEST_CHARS_MAX = 8192
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

    def permits(self, dns: str) -> bool:
        """Whether the authority's own certificate lets it sign for this name; one without constraints may sign for all."""
        try:
            found = self.certificate.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
        except x509.ExtensionNotFound:
            return True
        names = [each.value for each in found or () if isinstance(each, x509.DNSName)]
        return any(dns == name or dns.endswith(f".{name}") for name in names)


def root(files: Path, name: str, now: datetime) -> Authority:
    """A self-signed authority, kept in the two files `files`.pem and `files`.key; made if missing or close to its end."""
    key = kept_key(files)
    content = Content(_common_name(name), _for_authority(()), AUTHORITY_LIFE)
    return Authority(_kept(files, key, None, content, now), key, "")


def issuing(above: Authority, files: Path, name: str, permitted: Sequence[str], now: datetime) -> Authority:
    """The authority of one site, for the DNS suffixes `permitted` only. Signed by the one above it."""
    key = kept_key(files)
    content = Content(_common_name(name), _for_authority(permitted), AUTHORITY_LIFE)
    certificate = _kept(files, key, above, content, now)
    return Authority(certificate, key, pem(certificate) + above.chain)


def node_certificate(issuer: Authority, files: Path, dns: str, now: datetime) -> str:
    """A node's link certificate under its one name; server and client alike. Returns the pin of its key."""
    key = kept_key(files)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    _kept(files, key, issuer, Content(NOBODY, _for_leaf([x509.DNSName(dns)], usages), LEAF_LIFE), now)
    return pin(key.public_key())


def office_certificate(issuer: Authority, files: Path, names: Sequence[str], now: datetime) -> None:
    """The server certificate of an office listener under its host names and addresses."""
    extensions = _for_leaf([general_name(name) for name in names], [ExtendedKeyUsageOID.SERVER_AUTH])
    _kept(files, kept_key(files), issuer, Content(NOBODY, extensions, LEAF_LIFE), now)


def client_certificate(files: Path, name: str, now: datetime) -> x509.Certificate:
    """A certificate of an office system, signed by its own key: whoever registers it vouches for it. In `files`.pem and .key."""
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    leaf = x509.BasicConstraints(ca=False, path_length=None)
    extensions: list[Extension] = [(leaf, True), (_key_usage(signs_certificates=False), True), (usages, False)]
    return _kept(files, kept_key(files), None, Content(_common_name(name), extensions, LEAF_LIFE), now)


def kept(files: Path) -> Authority:
    """The authority in `files`.pem (with the authorities above it but the root) and `files`.key. `BadFile` where one of them is
    missing or is not what it should be."""
    path = _named(files, ".pem")
    missing = [each for each in (path, _named(files, ".key")) if not each.is_file()]
    if missing:
        raise BadFile(f"{missing[0]}: không có tệp này", f"{missing[0]}: there is no such file")
    key, certificate = kept_key(files), _read(path)
    if certificate.public_key() != key.public_key():
        raise BadFile(f"{path}: không phải chứng thư của khóa bên cạnh", f"{path}: not the certificate of the key beside it")
    return Authority(certificate, key, path.read_text(encoding="ascii"))


def cross(old: Authority, new: Authority, now: datetime) -> x509.Certificate:
    """The new root as the old one vouches for it: same name, same key. Who trusts the old one alone believes what is below it."""
    key = new.key.public_key()
    return _issued(old, key, Content(new.certificate.subject, _for_authority(()), AUTHORITY_LIFE), now)


def anchored(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> None:
    """ValueError unless each certificate is a root or signed by one, or by the next one, which is an authority's; what follows
    the first that stands under a root does not matter."""
    try:
        for position, each in enumerate(chain):
            above = next((root for root in roots if root.subject == each.issuer), None)
            if each in roots or (above is not None and _is_signed(each, above)):
                return
            above = chain[position + 1]
            each.verify_directly_issued_by(above)
            if not above.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                break
    except (TypeError, IndexError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise ValueError("under no root of this tree") from error
    raise ValueError("not an authority")


def _is_signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def read_told(text: str) -> list[x509.Certificate]:
    """Certificates (PEM) that a neighbour has sent; ValueError where they cannot be read, whatever the library calls that."""
    try:
        found = x509.load_pem_x509_certificates(text.encode())
        for each in found:
            _ = each.extensions  # read only when looked at
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError("not a certificate in PEM") from error
    return found


def followed(known: str, roots: Sequence[str], crosses: Sequence[str]) -> str:
    """The roots to trust (PEM) by what a parent tells: a new one counts where a known one vouches for it, and a known one goes
    where the parent no longer names it and it has vouched for one that stays. Anything else changes nothing; ValueError where it
    cannot be read."""
    held = x509.load_pem_x509_certificates(known.encode())
    told = [each for text in roots for each in read_told(text)]
    vouched = [each for text in crosses for each in read_told(text)]
    for _ in vouched:
        held += [new for new in told if new not in held and any(_vouches(old, each, new) for old in held for each in vouched)]
    gone = [
        old
        for old in held
        if old not in told and any(_vouches(old, each, new) for each in vouched for new in held if new in told and new != old)
    ]
    return "".join(pem(each) for each in held if each not in gone)


def _vouches(old: x509.Certificate, by: x509.Certificate, new: x509.Certificate) -> bool:
    """Whether `by` is the old root's word for the new one. What else a root signs is none: a leaf, or an issuing certificate,
    which is constrained; else their keys could make themselves a root."""
    if not (_is_signed(by, old) and _is_signed(new, new)):
        return False
    try:
        authorities = [each.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for each in (by, new)]
        constrained = any(isinstance(each.value, x509.NameConstraints) for each in by.extensions)
    except (ValueError, x509.ExtensionNotFound):
        return False
    return all(authorities) and not constrained and by.subject == new.subject and by.public_key() == new.public_key()


def hand_over(old: ec.EllipticCurvePrivateKey, new_pin: str) -> Handover:
    """The old key's word for the one that follows it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key = old.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
    signature = old.sign(handed_over(pin(old.public_key()), new_pin), ec.ECDSA(hashes.SHA256()))
    return Handover(key, new_pin, signature.hex())


def taken_over(pins: Collection[str], told: Sequence[Handover]) -> frozenset[str]:
    """These pins, and those of the keys that they have handed over to."""
    known = set(pins)
    for each in told:
        try:
            key = serialization.load_pem_public_key(each.key.encode())
            if isinstance(key, ec.EllipticCurvePublicKey) and (old := pin(key)) in known:
                key.verify(bytes.fromhex(each.signature), handed_over(old, each.pin), ec.ECDSA(hashes.SHA256()))
                known.add(each.pin)
        except (ValueError, UnsupportedAlgorithm, InvalidSignature):
            continue
    return frozenset(known)


def answers(files: Path, chain: str) -> None:
    """`BadFile` unless the first certificate of the chain (PEM) is an authority's for the key in `files`.key."""
    try:
        first = x509.load_pem_x509_certificates(chain.encode())[0]
        is_authority = first.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        ours = first.public_key() == kept_key(files).public_key()
    except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm):
        is_authority = ours = False
    if not (is_authority and ours):
        vi = f"{files}.key: chứng thư nhận được không phải của khóa này"
        raise BadFile(vi, f"{files}.key: what was received is no issuing certificate for this key")


def kept_key(files: Path) -> ec.EllipticCurvePrivateKey:
    """The private key in `files`.key, mode 0600; made if missing."""
    path = _named(files, ".key")
    if path.is_file():
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise BadFile(f"{path}: không phải khóa riêng dạng PEM không mật khẩu", f"{path}: no plain PEM key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise BadFile(f"{path}: không phải khóa P-256", f"{path}: not a P-256 key")
        path.chmod(SECRET)
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    plain = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    write(path, plain.decode(), SECRET)
    return key


def request(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> str:
    """A request (CSR, PEM) for a certificate under these names alone, the subject empty. ValueError where one is no host name."""
    wanted = x509.SubjectAlternativeName([general_name(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(NOBODY).add_extension(wanted, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def requested_key(text: str) -> ec.EllipticCurvePublicKey:
    """The key of a request (PEM), whose bearer has proven to hold it. What else stands in it is not looked at. ValueError where
    it cannot be read, is not signed by its own key, or holds a key of another kind than P-256."""
    if len(text) > REQUEST_CHARS_MAX:
        raise ValueError(f"more than {REQUEST_CHARS_MAX} characters")
    try:
        asked = x509.load_pem_x509_csr(text.encode())
        key, proven = asked.public_key(), asked.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError("not a request (CSR) in PEM") from error
    if not proven:
        raise ValueError("not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return key


def signed_node(issuer: Authority, key: ec.EllipticCurvePublicKey, dns: str, now: datetime) -> x509.Certificate:
    """A link certificate for somebody else's key, under the one name that this authority gives it."""
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _issued(issuer, key, Content(NOBODY, _for_leaf([x509.DNSName(dns)], usages), LEAF_LIFE), now)


def signed_authority(
    issuer: Authority, key: ec.EllipticCurvePublicKey, name: str, permitted: Sequence[str], now: datetime
) -> x509.Certificate:
    """An issuing certificate for somebody else's key, for the DNS suffixes `permitted` only; there must be one."""
    assert permitted, "an authority without constraints is a root"
    return _issued(issuer, key, Content(_common_name(name), _for_authority(permitted), AUTHORITY_LIFE), now)


def chain_text(certificate: x509.Certificate, issuer: Authority) -> str:
    """A certificate with its issuers but the root, PEM: as it goes into `link.certificate`."""
    return pem(certificate) + issuer.chain


def root_list(top: Authority, now: datetime, revoked: Sequence[tuple[int, datetime]] = ()) -> str:
    """The root's list (PEM), numbered by its instant: the root keeps no record of its own."""
    return revocation_list(top, revoked, int(now.timestamp()), now, ROOT_LIST_LIFE)


def revocation_list(
    issuer: Authority, revoked: Sequence[tuple[int, datetime]], number: int, now: datetime, life: timedelta = LIST_LIFE
) -> str:
    """The authority's list (PEM), signed: serial numbers with the instant of each. number grows from list to list."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - BACKDATED)
        .next_update(now + life)
        .add_extension(x509.CRLNumber(number), False)
    )
    above = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), False)
    for serial, at in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def list_ends(text: str) -> datetime:
    """When a revocation list (PEM) wants to be replaced by a newer one. ValueError where it cannot be read."""
    ends = x509.load_pem_x509_crl(text.encode()).next_update_utc
    if ends is None:
        raise ValueError("a list without an end")
    return ends


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the whole certificate: what an invitation says of the root."""
    return certificate.fingerprint(hashes.SHA256())


def pin(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 (hex) of the SubjectPublicKeyInfo: the form of `link.parent_pins` and `link.children[].pins`."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def first(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file. `BadFile` where there is none."""
    return _read(path)


def pin_of(certificate: x509.Certificate) -> str:
    """The pin of a certificate's key. `BadFile` for a key of another kind than ours."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadFile("khóa của chứng thư không phải P-256", "the certificate's key is not P-256")
    return pin(key)


def _kept(
    files: Path, key: ec.EllipticCurvePrivateKey, issuer: Authority | None, content: Content, now: datetime
) -> x509.Certificate:
    """The certificate in the file if it still says all this, else a new one; the chain below the root goes with it."""
    path = _named(files, ".pem")
    identified = [*content.extensions, *_identifiers(key.public_key(), issuer)]
    content = Content(content.subject, identified, content.life)
    found = _read(path) if path.is_file() else None
    if found is None or not _fits(found, key, issuer, content, now):
        found = _signed(key.public_key(), key if issuer is None else issuer.key, issuer, content, now)
    write(path, pem(found) + ("" if issuer is None else issuer.chain))
    return found


def _issued(issuer: Authority, key: ec.EllipticCurvePublicKey, content: Content, now: datetime) -> x509.Certificate:
    identified = Content(content.subject, [*content.extensions, *_identifiers(key, issuer)], content.life)
    return _signed(key, issuer.key, issuer, identified, now)


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except ValueError as error:
        raise BadFile(f"{path}: không phải chứng thư dạng PEM", f"{path}: no PEM certificate") from error


def _identifiers(key: ec.EllipticCurvePublicKey, issuer: Authority | None) -> list[Extension]:
    identifiers: list[Extension] = [(x509.SubjectKeyIdentifier.from_public_key(key), False)]
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


def _signed(
    key: ec.EllipticCurvePublicKey,
    signing: ec.EllipticCurvePrivateKey,
    issuer: Authority | None,
    content: Content,
    now: datetime,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(content.subject)
        .issuer_name(content.subject if issuer is None else issuer.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + content.life)
    )
    for extension, critical in content.extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signing, hashes.SHA256())


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


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def general_name(name: str) -> x509.GeneralName:
    """A host name or an address as a certificate names it. ValueError where it is neither."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem(certificate: x509.Certificate) -> str:
    """The certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()

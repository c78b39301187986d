"""The certificate that an office system shows at its door: read where it is registered, judged for what a handshake needs.

It is registered as it is, whoever signed it: the operator's word vouches for it, no authority and no list of one. Knows
`cryptography` and `core`; nothing of files, of TLS or of who calls.
"""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from node.core.office import ClientCertificate

FILE_BYTES_MAX = 64 * 1024
RSA_BITS_MIN = 2048

_PEM = b"-----BEGIN CERTIFICATE-----"
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)


class NotUsable(ValueError):
    """Why a certificate cannot be shown at a door of ours, in Vietnamese and in English."""

    def __init__(self, vi: str, en: str) -> None:
        self.vi, self.en = vi, en
        super().__init__(en)


def of_file(raw: bytes) -> ClientCertificate:
    """The first certificate of a file, PEM or DER. `NotUsable` also where a private key came along: it stays with the system."""
    if len(raw) > FILE_BYTES_MAX:
        raise NotUsable(f"tệp lớn hơn {FILE_BYTES_MAX} byte", f"the file is larger than {FILE_BYTES_MAX} bytes")
    if b"PRIVATE KEY-----" in raw:
        raise NotUsable(
            "trong tệp có khóa bí mật: khóa ở lại máy của hệ thống, chỉ đưa chứng thư",
            "the file holds a private key: that stays with the system, give the certificate alone",
        )
    try:
        found = x509.load_pem_x509_certificates(raw)[0] if _PEM in raw else x509.load_der_x509_certificate(raw)
    except _UNREADABLE:
        raise NotUsable("không phải chứng thư dạng PEM hay DER", "no certificate in PEM or DER") from None
    return of(found)


def of_der(der: bytes, *, revoked: bool = False) -> ClientCertificate:
    """One that was registered before. `NotUsable`."""
    try:
        return of(x509.load_der_x509_certificate(der), revoked=revoked)
    except _UNREADABLE:
        raise NotUsable("không phải một chứng thư", "no certificate") from None


def of(certificate: x509.Certificate, *, revoked: bool = False) -> ClientCertificate:
    """What is registered of it. `NotUsable` where the handshake would refuse it: the operator hears why, the system would not."""
    try:
        _require_use(certificate)
        _require_strength(certificate)
    except _UNREADABLE as error:
        if isinstance(error, NotUsable):
            raise
        raise NotUsable("có phần mở rộng không đọc được", "has extensions that cannot be read") from None
    der = certificate.public_bytes(Encoding.DER)
    valid = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    before_ms, after_ms = (round(instant.timestamp() * 1000) for instant in valid)
    return ClientCertificate(der, hashlib.sha256(der).hexdigest(), before_ms, after_ms, revoked)


def _require_use(certificate: x509.Certificate) -> None:
    """What OpenSSL asks of a TLS client (purpose sslclient)."""
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        uses = None
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    allowed = usage is None or usage.digital_signature or usage.key_agreement
    if not allowed or (uses is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in uses):
        raise NotUsable(
            "chứng thư không dùng được để tự xưng khi nối (cần digitalSignature và clientAuth)",
            "the certificate is not one for a client (digitalSignature and clientAuth are needed)",
        )


def _require_strength(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    strong = (
        isinstance(key, ed25519.Ed25519PublicKey)
        or (isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS_MIN)
        or (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES))
    )
    if not strong or isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        raise NotUsable(
            f"khóa hoặc thuật toán yếu (RSA từ {RSA_BITS_MIN} bit, P-256, P-384, P-521 hay Ed25519; không dùng SHA-1, MD5)",
            f"a weak key or algorithm (RSA from {RSA_BITS_MIN} bits, P-256, P-384, P-521 or Ed25519; no SHA-1, no MD5)",
        )

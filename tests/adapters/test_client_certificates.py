"""What an office system may register as its certificate: what a handshake would refuse is refused before, with the reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from node.adapters.authority import client_certificate
from node.adapters.client_certificates import NotUsable, of, of_der, of_file
from tests.adapters.pki import DAY, DAY_MS, NOW, NOW_MS, authority, leaf

OWN = leaf(None, "qlvb.so.example", subject="qlvb")


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_certificate_is_read_from_either_form(encoding: Encoding) -> None:
    found = of_file(OWN.certificate.public_bytes(encoding))
    assert (found.der, found.fingerprint) == (OWN.der, hashlib.sha256(OWN.der).hexdigest())
    assert (found.not_before_ms, found.not_after_ms) == (NOW_MS - 7 * DAY_MS, NOW_MS + 365 * DAY_MS)
    assert of_der(found.der, revoked=True).revoked


def test_of_a_chain_the_first_is_the_systems_own() -> None:
    below = leaf(authority("issuer", authority("root")), subject="qlvb")
    assert of_file(below.pem).der == below.der


WEAK = rsa.generate_private_key(65537, 1024)
BAD: dict[str, tuple[bytes, str]] = {
    "a key came along": (OWN.pem + OWN.key_pem, "private key"),
    "no certificate": (b"-----BEGIN CERTIFICATE-----\nx", "no certificate"),
    "nothing": (b"", "no certificate"),
    "too large": (b"x" * 70_000, "larger"),
    "a server's": (leaf(None, "a", uses=(ExtendedKeyUsageOID.SERVER_AUTH,)).pem, "not one for a client"),
    "an authority's": (authority("root").pem, "not one for a client"),
    "a weak key": (leaf(None, "a", key=WEAK).pem, "weak"),
}


@pytest.mark.parametrize(("raw", "told"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_shown_is_refused_with_the_reason(raw: bytes, told: str) -> None:
    with pytest.raises(NotUsable, match=told) as caught:
        of_file(raw)
    assert caught.value.vi


def test_one_made_for_a_system_serves_and_stays_until_it_is_near_its_end(tmp_path: Path) -> None:
    made = client_certificate(tmp_path / "qlvb", "qlvb", NOW)
    assert of(made).fingerprint == of_file((tmp_path / "qlvb.pem").read_bytes()).fingerprint
    assert made == x509.load_pem_x509_certificate((tmp_path / "qlvb.pem").read_bytes())
    assert (tmp_path / "qlvb.key").stat().st_mode & 0o777 == 0o600
    assert client_certificate(tmp_path / "qlvb", "qlvb", NOW + DAY) == made
    assert client_certificate(tmp_path / "qlvb", "qlvb", NOW + 390 * DAY) != made

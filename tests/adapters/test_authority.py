"""Chains of a rehearsal, judged by OpenSSL in real handshakes and by the verifier of `cryptography`; what is kept on renewal."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from node.adapters import authority as certificates
from node.adapters.authority import Authority
from node.adapters.folders import BadFile

ZONE = "small.test"


@dataclass(frozen=True)
class Pki:
    """A root, the hub's and two provinces' authorities; a district below the first province, which has one too."""

    folder: Path
    root: Authority
    hub: Authority
    h41: Authority
    h14: Authority
    h41_07: Authority

    def leaf(self, issuer: Authority, name: str, dns: str) -> Path:
        certificates.node_certificate(issuer, self.folder / name, dns, datetime.now(UTC))
        return self.folder / f"{name}.pem"


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    now = datetime.now(UTC)  # OpenSSL judges dates by the host clock
    root = certificates.root(tmp_path / "root", "root", now)
    hub = certificates.issuing(root, tmp_path / "hub-ca", "hub", [ZONE], now)
    h41 = certificates.issuing(hub, tmp_path / "h41-ca", "h41", [f"h41.{ZONE}", f"k41.{ZONE}"], now)
    h14 = certificates.issuing(hub, tmp_path / "h14-ca", "h14", [f"h14.{ZONE}"], now)
    below = certificates.issuing(h41, tmp_path / "h41-07-ca", "h41.07", [f"07.h41.{ZONE}"], now)
    return Pki(tmp_path, root, hub, h41, h14, below)


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """TLS between two memory buffers; returns the client's side. `ssl.SSLError` where either side refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialler = client.wrap_bio(to_client, to_server, server_hostname=name)
    listener = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [dialler.do_handshake, listener.do_handshake]
    for _ in range(10):
        for step in waiting[:]:
            try:
                step()
                waiting.remove(step)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    return dialler


def context(side: int, trust: Path, certificate: Path | None) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    made.load_verify_locations(trust)
    if certificate is not None:
        made.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return made


def mutual(pki: Pki, child: Path, parent: Path, parent_name: str) -> ssl.SSLObject:
    trust = pki.folder / "root.pem"
    client = context(ssl.PROTOCOL_TLS_CLIENT, trust, child)
    return handshake(client, context(ssl.PROTOCOL_TLS_SERVER, trust, parent), parent_name)


def verifies(root: Path, chain: Path) -> None:
    anchor = x509.load_pem_x509_certificate(root.read_bytes())
    leaf, *rest = x509.load_pem_x509_certificates(chain.read_bytes())
    PolicyBuilder().store(Store([anchor])).build_client_verifier().verify(leaf, rest)


# --- good chains -------------------------------------------------------------------------------------------------------


def test_neighbours_on_every_tier_shake_hands(pki: Pki) -> None:
    hub = pki.leaf(pki.hub, "hub", ZONE)
    province = pki.leaf(pki.hub, "h41", f"h41.{ZONE}")
    unit = pki.leaf(pki.h41, "h41-07", f"07.h41.{ZONE}")
    commune = pki.leaf(pki.h41_07, "h41-07-01", f"01.07.h41.{ZONE}")
    council = pki.leaf(pki.h41, "k41-01", f"01.k41.{ZONE}")
    for child, parent, name in (
        (province, hub, ZONE),
        (unit, province, f"h41.{ZONE}"),
        (council, province, f"h41.{ZONE}"),
        (commune, unit, f"07.h41.{ZONE}"),
    ):
        assert mutual(pki, child, parent, name).version() == "TLSv1.3"
        verifies(pki.folder / "root.pem", child)


def test_a_chain_of_eight_tiers_is_accepted(pki: Pki) -> None:
    issuer, dns = pki.h41_07, f"07.h41.{ZONE}"
    for tier in range(5):
        dns = f"0{tier}.{dns}"
        issuer = certificates.issuing(issuer, pki.folder / f"deep-{tier}", dns, [dns], datetime.now(UTC))
    deepest = pki.leaf(issuer, "deepest", f"99.{dns}")
    mutual(pki, deepest, pki.leaf(pki.hub, "hub", ZONE), ZONE)
    verifies(pki.folder / "root.pem", deepest)


def test_a_leaf_says_exactly_one_name_and_nothing_else(pki: Pki) -> None:
    leaf = x509.load_pem_x509_certificate(pki.leaf(pki.h41, "leaf", f"07.h41.{ZONE}").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert (list(names.value), names.critical) == ([x509.DNSName(f"07.h41.{ZONE}")], True)
    assert leaf.subject == x509.Name([])
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    age = datetime.now(UTC) - leaf.not_valid_before_utc
    assert timedelta(days=6, hours=23) < age < timedelta(days=7, hours=1)


def test_the_office_listener_is_verified_under_this_machines_names(pki: Pki) -> None:
    now = datetime.now(UTC)
    offices = certificates.root(pki.folder / "office-root", "offices", now)
    certificates.office_certificate(offices, pki.folder / "office", ("localhost", "127.0.0.1", "::1"), now)
    bundle = pki.folder / "ca.pem"
    bundle.write_text((pki.folder / "root.pem").read_text() + (pki.folder / "office-root.pem").read_text())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pki.folder / "office.pem", pki.folder / "office.key")
    client = context(ssl.PROTOCOL_TLS_CLIENT, bundle, None)
    for name in ("localhost", "127.0.0.1", "::1"):
        handshake(client, server, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server, "example.test")
    leaf = x509.load_pem_x509_certificate((pki.folder / "office.pem").read_bytes())
    addresses = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert addresses.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1"), ip_address("::1")]


# --- bad chains --------------------------------------------------------------------------------------------------------

Issuer = Callable[[Pki], Authority]


@pytest.mark.parametrize(
    ("issuer", "dns"),
    [
        (lambda pki: pki.h41, f"05.h14.{ZONE}"),
        (lambda pki: pki.h41, ZONE),
        (lambda pki: pki.h41, f"xh41.{ZONE}"),
        (lambda pki: pki.h41_07, f"h41.{ZONE}"),
        (lambda pki: pki.h41_07, f"08.h41.{ZONE}"),
        (lambda pki: pki.hub, "h41.other.test"),
    ],
)  # fmt: skip
def test_nobody_signs_for_a_name_outside_the_own_subtree(pki: Pki, issuer: Issuer, dns: str) -> None:
    foreign = pki.leaf(issuer(pki), "foreign", dns)
    with pytest.raises(ssl.SSLError, match="permitted subtree violation"):
        mutual(pki, foreign, pki.leaf(pki.hub, "hub", ZONE), ZONE)
    with pytest.raises(VerificationError):
        verifies(pki.folder / "root.pem", foreign)


def test_an_issuing_certificate_cannot_grant_more_than_it_has(pki: Pki) -> None:
    wider = certificates.issuing(pki.h41, pki.folder / "wider", "wider", [ZONE], datetime.now(UTC))
    foreign = pki.leaf(wider, "foreign", f"05.h14.{ZONE}")
    with pytest.raises(ssl.SSLError):
        mutual(pki, foreign, pki.leaf(pki.hub, "hub", ZONE), ZONE)
    with pytest.raises(VerificationError):
        verifies(pki.folder / "root.pem", foreign)


def test_a_leaf_signs_nothing(pki: Pki) -> None:
    path = pki.leaf(pki.h41, "leaf", f"07.h41.{ZONE}")
    leaf, *_ = x509.load_pem_x509_certificates(path.read_bytes())
    key = load_pem_private_key(path.with_suffix(".key").read_bytes(), None)
    posing = Authority(leaf, key, path.read_text())  # type: ignore[arg-type]
    foreign = pki.leaf(posing, "foreign", f"01.07.h41.{ZONE}")
    with pytest.raises(ssl.SSLError):
        mutual(pki, foreign, pki.leaf(pki.hub, "hub", ZONE), ZONE)


def test_the_office_root_is_no_root_of_the_links(pki: Pki) -> None:
    now = datetime.now(UTC)
    offices = certificates.root(pki.folder / "office-root", "offices", now)
    with pytest.raises(ssl.SSLError):
        mutual(pki, pki.leaf(offices, "foreign", f"h41.{ZONE}"), pki.leaf(pki.hub, "hub", ZONE), ZONE)


# --- what is kept ------------------------------------------------------------------------------------------------------


def again(pki: Pki, now: datetime, permitted: Sequence[str] = (f"h41.{ZONE}",)) -> tuple[str, str, str]:
    issuer = certificates.issuing(pki.hub, pki.folder / "again-ca", "again", permitted, now)
    pin = certificates.node_certificate(issuer, pki.folder / "again", f"07.h41.{ZONE}", now)
    return pin, (pki.folder / "again.pem").read_text(), (pki.folder / "again-ca.pem").read_text()


def test_a_certificate_that_still_fits_is_kept(pki: Pki, now: datetime) -> None:
    assert again(pki, now) == again(pki, now + timedelta(days=300))


def test_a_certificate_near_its_end_is_renewed_with_the_same_key(pki: Pki, now: datetime) -> None:
    pin, leaf, authority = again(pki, now)
    renewed_pin, renewed_leaf, kept_authority = again(pki, now + timedelta(days=380))
    assert renewed_pin == pin
    assert renewed_leaf != leaf
    assert kept_authority == authority


def test_a_certificate_is_renewed_when_its_issuer_says_something_else(pki: Pki, now: datetime) -> None:
    pin, leaf, _ = again(pki, now)
    changed_pin, changed_leaf, authority = again(pki, now, [f"h41.{ZONE}", f"k41.{ZONE}"])
    assert changed_pin == pin
    assert changed_leaf.endswith(authority)
    assert changed_leaf != leaf


def test_a_certificate_of_another_issuer_is_replaced(pki: Pki, now: datetime) -> None:
    path = pki.folder / "moved"
    pin = certificates.node_certificate(pki.h14, path, f"05.h14.{ZONE}", now)
    assert certificates.node_certificate(pki.hub, path, f"05.h14.{ZONE}", now) == pin
    found = x509.load_pem_x509_certificate(path.with_suffix(".pem").read_bytes())
    assert found.issuer == pki.hub.certificate.subject


def test_keys_are_their_owners_alone(pki: Pki) -> None:
    for key in pki.folder.glob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("suffix", [".key", ".pem"])
def test_a_damaged_file_is_named_not_replaced(pki: Pki, now: datetime, suffix: str) -> None:
    path = pki.folder / f"root{suffix}"
    path.write_text("damaged")
    with pytest.raises(BadFile, match=str(path)):
        certificates.root(pki.folder / "root", "root", now)
    assert path.read_text() == "damaged"


# --- names of files ----------------------------------------------------------------------------------------------------


def test_a_name_with_dots_keeps_its_files_apart(pki: Pki, now: datetime) -> None:
    certificates.node_certificate(pki.h41, pki.folder / "h41.07", f"07.h41.{ZONE}", now)
    assert (pki.folder / "h41.07.pem").is_file()
    assert (pki.folder / "h41.07.key").is_file()


SPOILT = {
    "of a version that is none": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"),
    "with an extension twice": (b"\x55\x1d\x0e", b"\x55\x1d\x13"),
    "cut": (b"\x55\x1d\x13", b""),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_root_that_cannot_be_read_is_one_kind_of_error_and_changes_nothing(pki: Pki, what: str) -> None:
    """The parent tells the roots: what it sends must not end the node that hears it."""
    known = (pki.folder / "root.pem").read_text()
    der = ssl.PEM_cert_to_DER_cert(known)
    assert SPOILT[what][0] in der
    bad = ssl.DER_cert_to_PEM_cert(der.replace(*SPOILT[what], 1))
    for roots, crosses in (([bad], []), ([known], [bad])):
        with pytest.raises(ValueError, match="not a certificate"):
            certificates.followed(known, roots, crosses)
    assert certificates.followed(known, [known], []) == known

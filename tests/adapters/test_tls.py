"""Who a certificate says its bearer is, and with which files a node does not start."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Collection
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from node.adapters.http.tls import (
    X509_V_FLAG_NO_CHECK_TIME,
    OfficeContext,
    TlsFileError,
    judge,
    judge_peer,
    link_client_context,
    link_server_context,
    office_server_context,
    peer_name,
    registered,
    spki_pin,
)
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from tests.adapters.pki import DAY, DAY_MS, NOW, NOW_MS, ZONE, Clock, Files, Holder, authority, leaf, put

ROOT = authority("root")
H41 = OrgId(("H41",))
NAME = f"h41.{ZONE}"


def reason(certificate: Holder, **options: object) -> Reason | None:
    asked: dict[str, object] = {"expected": registered([(H41, ())], ZONE), "now_ms": NOW_MS, "bound_ms": 1000, **options}
    try:
        assert judge_peer(certificate.der, **asked) == H41  # type: ignore[arg-type]
    except Refused as refused:
        return refused.reason
    return None


def name_refused(certificate: Holder) -> bool:
    with pytest.raises(Refused) as caught:
        peer_name(certificate.der)
    return caught.value.reason is Reason.PEER_NAME


def test_a_peer_is_its_one_dns_name_in_lower_case() -> None:
    assert peer_name(leaf(ROOT, "07.H41.Truc.Internal").der) == "07.h41.truc.internal"


@pytest.mark.parametrize(
    "certificate",
    [
        leaf(ROOT, subject=NAME),
        leaf(ROOT, NAME, f"h54.{ZONE}"),
        leaf(ROOT, NAME, NAME),
        leaf(ROOT, f"*.{ZONE}"),
        leaf(ROOT, f"h41 .{ZONE}"),
        leaf(ROOT, ""),
        leaf(ROOT, others=[x509.UniformResourceIdentifier(f"https://{NAME}")]),
        leaf(ROOT, others=[x509.IPAddress(ip_address("127.0.0.1"))]),
        leaf(ROOT, others=[x509.RFC822Name(f"a@{NAME}")]),
    ],
    ids=["CN", "two", "twice", "wildcard", "blank", "empty", "URI", "IP", "mail"],
)
def test_nothing_but_exactly_one_dns_name_makes_a_peer(certificate: Holder) -> None:
    assert name_refused(certificate)
    assert reason(certificate) is Reason.PEER_NAME


def test_names_of_other_kinds_beside_it_are_not_looked_at() -> None:
    assert reason(leaf(ROOT, NAME, others=[x509.UniformResourceIdentifier("https://elsewhere")])) is None


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"no certificate", leaf(ROOT, NAME).der[:-9]])
def test_what_is_no_certificate_is_refused(der: bytes) -> None:
    with pytest.raises(Refused) as caught:
        peer_name(der)
    assert caught.value.reason is Reason.PEER_NAME


def test_a_pin_is_the_sha256_of_the_public_key() -> None:
    holder = leaf(ROOT, NAME)
    spki = holder.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki_pin(holder.der) == hashlib.sha256(spki).hexdigest()
    assert spki_pin(leaf(ROOT, "other.name", key=holder.key).der) == spki_pin(holder.der) != spki_pin(leaf(ROOT, NAME).der)


def test_only_the_registered_are_peers_however_valid_their_certificate() -> None:
    assert reason(leaf(ROOT, NAME)) is None
    assert reason(leaf(ROOT, f"h54.{ZONE}")) is Reason.PEER_UNKNOWN
    assert reason(leaf(ROOT, f"07.h41.{ZONE}")) is Reason.PEER_UNKNOWN
    assert reason(leaf(ROOT, ZONE)) is Reason.PEER_UNKNOWN


def test_a_pinned_peer_shows_its_key_and_two_pins_may_overlap() -> None:
    old, new = leaf(ROOT, NAME), leaf(ROOT, NAME)

    def pinned(*pins: str) -> Collection[object]:
        return registered([(H41, pins)], ZONE)

    assert reason(old, expected=pinned(spki_pin(old.der).upper())) is None
    assert reason(new, expected=pinned(spki_pin(old.der))) is Reason.PEER_KEY
    assert reason(new, expected=pinned(spki_pin(old.der), spki_pin(new.der))) is None


def test_dates_are_judged_by_the_given_clock_with_its_bound_in_the_peers_favour() -> None:
    holder = leaf(ROOT, NAME, before=NOW - DAY, after=NOW + DAY)
    for now_ms, bound_ms, expected in [
        (NOW_MS + DAY_MS, 0, None),
        (NOW_MS + DAY_MS + 1, 0, Reason.PEER_DATES),
        (NOW_MS + DAY_MS + 500, 500, None),
        (NOW_MS + DAY_MS + 501, 500, Reason.PEER_DATES),
        (NOW_MS - DAY_MS, 0, None),
        (NOW_MS - DAY_MS - 1, 0, Reason.PEER_DATES),
        (NOW_MS - DAY_MS - 500, 500, None),
    ]:
        assert reason(holder, now_ms=now_ms, bound_ms=bound_ms) is expected


def test_an_issuing_certificate_out_of_date_counts_like_the_leafs() -> None:
    issuer = authority("issuer", ROOT, after=NOW - DAY)
    holder = leaf(issuer, NAME)
    assert reason(holder) is None
    assert reason(holder, issuers=[issuer.der, ROOT.der]) is Reason.PEER_DATES


def test_a_bound_judgement_follows_the_clock() -> None:
    clock, holder = Clock(), leaf(ROOT, NAME)
    judged = judge(registered([(H41, ())], ZONE), clock)
    assert judged([holder.der, ROOT.der]) == H41
    clock.now_ms += 366 * DAY_MS
    with pytest.raises(Refused) as caught:
        judged([holder.der, ROOT.der])
    assert caught.value.reason is Reason.PEER_DATES


# -- files ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return put(tmp_path, leaf(authority("issuer", ROOT, permitted=[NAME]), NAME), ROOT)


def test_between_nodes_only_tls_1_3_both_certificates_and_no_host_clock(files: Files) -> None:
    for context in (link_server_context(*three(files)), link_client_context(*three(files))):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.verify_flags & X509_V_FLAG_NO_CHECK_TIME
    assert link_server_context(*three(files)).num_tickets == 0
    assert not link_client_context(*three(files)).hostname_checks_common_name


def test_offices_may_come_with_tls_1_2_and_need_no_certificate(files: Files) -> None:
    context = office_server_context(files.certificate, files.key)
    assert (context.minimum_version, context.verify_mode) == (ssl.TLSVersion.TLSv1_2, ssl.CERT_NONE)


def test_an_offices_door_keeps_the_certificates_it_knew_where_its_own_cannot_be_read(files: Files) -> None:
    known: list[bytes] = []
    context = OfficeContext(files.certificate, files.key, lambda: tuple(known))
    free = context()
    assert context() is free and free.verify_mode is ssl.CERT_NONE
    known.append(leaf(None).der)
    files.key.rename(files.key.with_suffix(".away"))
    assert context() is free
    files.key.with_suffix(".away").rename(files.key)
    bound = context()
    assert (bound.verify_mode, bound.num_tickets) == (ssl.CERT_OPTIONAL, 0)
    assert context() is bound


def three(files: Files) -> tuple[Path, Path, Path]:
    return files.certificate, files.key, files.trust


def encrypted(files: Files) -> None:
    key = load_pem_private_key(files.key.read_bytes(), password=None)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))


@pytest.mark.parametrize("make", [link_server_context, link_client_context])
@pytest.mark.parametrize(
    ("spoil", "named", "problem"),
    [
        (lambda files: files.key.chmod(0o640), "node.key", "chmod 600"),
        (lambda files: files.key.chmod(0o604), "node.key", "chmod 600"),
        (lambda files: files.key.unlink(), "node.key", "cannot be read"),
        (lambda files: files.key.write_bytes(leaf(ROOT, NAME).key_pem), "node.pem", "cannot be used with the key"),
        (encrypted, "node.pem", "cannot be used with the key"),
        (lambda files: files.certificate.unlink(), "node.pem", "cannot be used"),
        (lambda files: files.trust.write_text("nothing"), "trust.pem", "no PEM certificates"),
        (lambda files: files.trust.unlink(), "trust.pem", "no PEM certificates"),
    ],
    ids=["group", "others", "no key", "another key", "encrypted", "no certificate", "no trust", "trust missing"],
)
def test_a_node_does_not_start_with_files_that_are_open_missing_or_do_not_fit(
    files: Files, make: Callable[..., ssl.SSLContext], spoil: Callable[[Files], object], named: str, problem: str
) -> None:
    """Threats, row 33."""
    spoil(files)
    with pytest.raises(TlsFileError) as caught:
        make(*three(files))
    assert (caught.value.path.name, problem in caught.value.problem) == (named, True)


def test_the_office_listener_does_not_start_with_an_open_key_either(files: Files) -> None:
    files.key.chmod(0o644)
    with pytest.raises(TlsFileError, match="0644"):
        office_server_context(files.certificate, files.key)

"""A node's authority as a folder: what it signs and for whom, what it remembers, what it revokes, what it never tells."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from node.adapters import authority, issuing
from node.adapters.folders import BadFile
from node.adapters.issuing import Issuing
from node.core.identifier import HUB, OrgId

ZONE = "small.test"
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
H41, H14 = OrgId(("H41",)), OrgId(("H14",))
UNIT = OrgId(("H41", "07"))


def asked(*names: str) -> str:
    return authority.request(ec.generate_private_key(ec.SECP256R1()), names)


@pytest.fixture
def hub(tmp_path: Path) -> Issuing:
    made = Issuing(tmp_path / "hub", ZONE, HUB)
    made.found(NOW)
    return made


@pytest.fixture
def province(tmp_path: Path, hub: Issuing) -> Issuing:
    made = Issuing(tmp_path / "h41", ZONE, H41)
    granted = hub.issue(H41, (H41, OrgId(("K41",))), asked("x"), made.ask(), NOW)
    made.answered(granted.authority, NOW)
    return made


def good(hub: Issuing, chain: str) -> x509.Certificate:
    leaf, *rest = x509.load_pem_x509_certificates(chain.encode())
    root = x509.load_pem_x509_certificate((hub.folder / "root.pem").read_bytes())
    PolicyBuilder().store(Store([root])).time(NOW).build_client_verifier().verify(leaf, rest)
    return leaf


def names(leaf: x509.Certificate) -> list[str]:
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def test_a_certificate_names_the_code_and_nothing_of_the_request(hub: Issuing) -> None:
    leaf = good(hub, hub.issue(H41, (), asked(f"h14.{ZONE}", ZONE), "", NOW).certificate)
    assert names(leaf) == [f"h41.{ZONE}"]
    assert not list(leaf.subject)


def test_a_province_signs_for_its_units_and_for_nobody_elses(hub: Issuing, province: Issuing) -> None:
    assert names(good(hub, province.issue(UNIT, (), asked("x"), "", NOW).certificate)) == [f"07.h41.{ZONE}"]
    assert province.permits(OrgId(("K41", "01")))
    assert not province.permits(H14)
    with pytest.raises(BadFile, match="h14"):
        province.issue(H14, (), asked("x"), "", NOW)
    with pytest.raises(BadFile, match="h14"):
        province.issue(UNIT, (H14,), asked("x"), asked("y"), NOW)


def test_a_province_that_signs_for_another_ones_district_all_the_same_is_not_believed(hub: Issuing, province: Issuing) -> None:
    kept = authority.kept(province.folder / "issuing")
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    foreign = authority.signed_node(kept, key, f"05.h14.{ZONE}", NOW)
    with pytest.raises(VerificationError):
        good(hub, authority.chain_text(foreign, kept))


def test_keys_and_the_record_are_the_owners_alone_and_the_key_of_a_request_stays(hub: Issuing, province: Issuing) -> None:
    for path in (*hub.folder.glob("*.key"), *province.folder.glob("*.key"), hub.folder / "issued.json"):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert hub.folder.stat().st_mode & 0o777 == 0o700
    secret = (province.folder / "issuing.key").read_text()
    assert not any(secret in path.read_text() for path in hub.folder.iterdir() if path.is_file())


def test_founding_again_changes_nothing(hub: Issuing) -> None:
    before = {path.name: path.read_bytes() for path in hub.folder.glob("*.*") if path.suffix in (".key", ".pem")}
    hub.found(NOW + timedelta(days=1))
    assert {name: (hub.folder / name).read_bytes() for name in before} == before


def test_the_root_key_may_be_away_while_the_hub_signs(hub: Issuing) -> None:
    (hub.folder / "root.key").unlink()
    good(hub, hub.issue(H41, (), asked("x"), "", NOW).certificate)
    assert not (hub.folder / "root.key").exists()


@pytest.mark.parametrize(
    "text", ["", "no request", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"]
)
def test_what_is_no_request_is_refused_and_nothing_is_written_down(hub: Issuing, text: str) -> None:
    with pytest.raises(ValueError, match="request"):
        hub.issue(H41, (), text, "", NOW)
    assert hub.issued() == ()


def test_a_request_that_its_key_did_not_sign_is_refused(hub: Issuing) -> None:
    der = bytearray(x509.load_pem_x509_csr(asked("x").encode()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(ValueError, match="own key"):
        hub.issue(H41, (), forged, "", NOW)


# --- revocation --------------------------------------------------------------------------------------------------------


def revoked(made: Issuing, now: datetime = NOW) -> set[int]:
    found = x509.load_pem_x509_crl(made.revocations(now).encode())
    assert found.is_signature_valid(authority.kept(made.folder / "issuing").certificate.public_key())  # type: ignore[arg-type]
    return {each.serial_number for each in found}


def test_what_is_revoked_stands_in_a_signed_list_that_lives_thirty_days(hub: Issuing) -> None:
    leaf = good(hub, hub.issue(H41, (), asked("x"), "", NOW).certificate)
    other = good(hub, hub.issue(H14, (), asked("x"), "", NOW).certificate)
    assert revoked(hub) == set()
    (row,) = hub.revoke(H41, "lost", NOW)
    assert (row.code, row.why, int(row.serial, 16)) == ("H41", "lost", leaf.serial_number)
    assert revoked(hub) == {leaf.serial_number} != {other.serial_number}
    assert authority.list_ends(hub.revocations(NOW)) == NOW + timedelta(days=30)
    assert hub.revoke(H41, "again", NOW) == ()


def test_a_list_past_its_half_is_signed_anew_with_a_higher_number(hub: Issuing) -> None:
    hub.issue(H41, (), asked("x"), "", NOW)
    hub.revoke(H41, "", NOW)
    first = hub.revocations(NOW)
    assert hub.revocations(NOW + timedelta(days=10)) == first
    later = hub.revocations(NOW + timedelta(days=16))
    numbers = [
        x509.load_pem_x509_crl(text.encode()).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for text in (first, later)
    ]
    assert numbers[0] < numbers[1]
    assert revoked(hub, NOW + timedelta(days=16)), "what was revoked stays so"


def test_both_certificates_of_a_node_are_revoked_but_not_its_new_key(hub: Issuing) -> None:
    hub.issue(H41, (), asked("x"), asked("y"), NOW)
    fresh = hub.issue(H41, (), asked("x"), "", NOW)
    assert {row.kind for row in hub.revoke(H41, "", NOW, keep_pins=[fresh.pin])} == {"node", "authority"}
    assert [row.pin for row in hub.issued() if row.revoked is None] == [fresh.pin]


def test_a_damaged_record_is_named_not_replaced(hub: Issuing) -> None:
    (hub.folder / "issued.json").write_text("{}")
    with pytest.raises(BadFile, match=r"issued\.json"):
        hub.issue(H41, (), asked("x"), "", NOW)


def test_an_answer_that_is_not_for_our_key_is_refused_and_the_good_one_stays(hub: Issuing, province: Issuing) -> None:
    before = (province.folder / "issuing.pem").read_text()
    foreign = hub.issue(H41, (), asked("x"), asked("y"), NOW)
    for chain in (foreign.authority, hub.issue(H41, (), province.ask(), "", NOW).certificate, "", "no certificate"):
        with pytest.raises(BadFile, match=r"issuing\.key"):
            province.answered(chain, NOW)
    assert (province.folder / "issuing.pem").read_text() == before


def test_a_record_that_could_not_be_read_again_is_not_written(hub: Issuing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "ISSUED_MAX", 1)
    hub.issue(H41, (), asked("x"), "", NOW)
    with pytest.raises(BadFile, match="quá"):
        hub.issue(H14, (), asked("x"), "", NOW)
    assert [row.code for row in hub.issued()] == ["H41"]

"""A header is believed when its origin signed it, with a key that the tree's root vouches for under that very name."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.adapters.http.tls import TlsFileError
from node.adapters.signing import BOUND_MAX_MS, CHAIN_DEPTH_MAX, EXPIRED_MAX_MS, Signer, Verifier
from node.core.envelope import Envelope, encode_header, open_envelope
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.wire import leaf_digest
from tests.adapters.pki import DAY, DAY_MS, NOW, NOW_MS, ZONE, Holder, authority, leaf, put
from tests.core.test_envelope import H54, HEADER
from tests.making import resealed

ROOT = authority("root")
PROVINCE = f"h41.{ZONE}"
ISSUER = authority("H41", ROOT, permitted=[PROVINCE])
NODE = leaf(ISSUER, PROVINCE)


def signed(
    folder: Path, holder: Holder = NODE, origin: str = "H41", created_ms: int = NOW_MS, bound_ms: int = 1000
) -> tuple[Envelope, bytes]:
    """An envelope that `holder` signed as `origin`, and the chain that travels with it."""
    files = put(folder / "signer", holder, ROOT)
    signer = Signer(files.certificate, files.key)
    header = replace(
        HEADER, origin=OrgId.canonical(origin), key=signer.key_id, created_ms=created_ms, bound_ms=bound_ms, expires_ms=0
    )
    data = encode_header(header)
    return open_envelope(data, signer.sign(data), (H54,), (), 0), signer.chain_pem


@pytest.fixture
def verifier(tmp_path: Path) -> Verifier:
    return Verifier(put(tmp_path / "verifier", NODE, ROOT).trust, ZONE)


def refused(verifier: Verifier, envelope: Envelope, chain: bytes, now_ms: int = NOW_MS) -> str:
    """The element that was wrong."""
    with pytest.raises(Refused) as caught:
        verifier.verify(envelope, chain, now_ms)
    assert caught.value.reason is Reason.ORIGIN_SIGNATURE
    return caught.value.element


def test_a_chain_is_judged_however_well_its_key_is_known(verifier: Verifier, tmp_path: Path) -> None:
    """It is kept and handed on, and proves nothing to whoever does not know the key yet."""
    envelope, chain = signed(tmp_path)
    verifier.verify(envelope, chain, NOW_MS)
    for junk in (b"junk", chain + chain, b"x\n" + chain, chain + b"\n", leaf(ROOT, PROVINCE).pem):
        assert refused(verifier, envelope, junk) == "chain"
        with pytest.raises(Refused):
            verifier.vouch(envelope.header, junk)
    verifier.verify(envelope, chain, NOW_MS)


def test_what_the_origin_signed_is_believed(verifier: Verifier, tmp_path: Path) -> None:
    envelope, chain = signed(tmp_path)
    verifier.verify(envelope, chain, NOW_MS)
    assert envelope.header.key == leaf_digest(chain)
    assert len(envelope.signature) <= 72


def test_a_chain_once_found_good_is_not_needed_again(verifier: Verifier, tmp_path: Path) -> None:
    envelope, chain = signed(tmp_path)
    assert refused(verifier, envelope, b"") == "chain"
    verifier.verify(envelope, chain, NOW_MS)
    verifier.verify(envelope, b"", NOW_MS)


def test_a_bad_chain_does_not_stick_to_a_good_key(verifier: Verifier, tmp_path: Path) -> None:
    envelope, chain = signed(tmp_path)
    alone = NODE.certificate.public_bytes(Encoding.PEM)
    assert refused(verifier, envelope, alone) == "chain"
    verifier.verify(envelope, chain, NOW_MS)


def test_any_change_of_the_header_breaks_its_signature(verifier: Verifier, tmp_path: Path) -> None:
    envelope, chain = signed(tmp_path)
    for other in (replace(envelope.header, doc_id="d-2"), replace(envelope.header, recipients=envelope.header.recipients[:1])):
        changed = open_envelope(encode_header(other), envelope.signature, (H54,), (), 0)
        assert refused(verifier, changed, chain) == "signature"
    spaced = resealed(envelope, envelope.header_bytes + b" ")
    assert refused(verifier, spaced, chain) == "signature"


@given(data=st.binary(max_size=90))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_bytes_but_the_signature_are_the_signature(verifier: Verifier, tmp_path: Path, data: bytes) -> None:
    envelope, chain = signed(tmp_path)
    assert refused(verifier, resealed(envelope, signature=data), chain) == "signature"


def test_a_node_signs_only_as_itself(verifier: Verifier, tmp_path: Path) -> None:
    for origin in ("H41.07", "H54", ""):
        envelope, chain = signed(tmp_path, origin=origin)
        assert refused(verifier, envelope, chain) == "dNSName"


def test_the_hub_signs_under_the_zone_itself(verifier: Verifier, tmp_path: Path) -> None:
    hub = leaf(authority("hub", ROOT, permitted=[ZONE]), ZONE)
    envelope, chain = signed(tmp_path, hub, origin="")
    verifier.verify(envelope, chain, NOW_MS)


def test_a_chain_of_another_key_is_refused(verifier: Verifier, tmp_path: Path) -> None:
    envelope, _ = signed(tmp_path)
    assert refused(verifier, envelope, leaf(ISSUER, PROVINCE).pem) == "chain"


WIDENED = authority("district", ISSUER, permitted=[ZONE])
LEAF_AS_ISSUER = leaf(ISSUER, PROVINCE, subject="no authority")
BAD_CHAINS = {
    "foreign root": leaf(authority("H41", authority("foreign"), permitted=[PROVINCE]), PROVINCE),
    "a foreign root of the same name": leaf(authority("root"), PROVINCE),
    "self-signed": leaf(None, PROVINCE, subject="self"),
    "outside the issuer's names": leaf(authority("H54", ROOT, permitted=[f"h54.{ZONE}"]), PROVINCE),
    "a name that only ends alike": leaf(authority("41", ROOT, permitted=[f"41.{ZONE}"]), PROVINCE),
    "excluded": leaf(authority("not H41", ROOT, excluded=[PROVINCE]), PROVINCE),
    "under an issuer that widened its names": leaf(
        authority("H54 sub", authority("H54", ROOT, permitted=[f"h54.{ZONE}"]), permitted=[ZONE]), PROVINCE
    ),
    "a leaf as issuer": leaf(Holder(LEAF_AS_ISSUER.certificate, LEAF_AS_ISSUER.key, LEAF_AS_ISSUER.above), PROVINCE),
    "issuer forged": leaf(Holder(ISSUER.certificate, authority("other").key, ISSUER.above), PROVINCE),
    "an authority as leaf": authority("H41 sub", ISSUER, permitted=[PROVINCE]),
    "two names": leaf(ISSUER, PROVINCE, f"07.{PROVINCE}"),
    "no name": leaf(ISSUER, subject=PROVINCE),
    "not for authentication": leaf(ISSUER, PROVINCE, uses=[ExtendedKeyUsageOID.CODE_SIGNING]),
}


@pytest.mark.parametrize("holder", BAD_CHAINS.values(), ids=BAD_CHAINS.keys())
def test_a_chain_that_does_not_lead_to_the_root_under_its_names_is_refused(
    verifier: Verifier, tmp_path: Path, holder: Holder
) -> None:
    envelope, _ = signed(tmp_path)
    forged = resealed(envelope, encode_header(replace(envelope.header, key=leaf_digest(holder.pem))))
    assert refused(verifier, forged, holder.pem) == "chain"


def test_a_district_signs_under_its_provinces_authority_and_no_other(verifier: Verifier, tmp_path: Path) -> None:
    district = leaf(WIDENED, f"07.{PROVINCE}")
    envelope, chain = signed(tmp_path, district, origin="H41.07")
    verifier.verify(envelope, chain, NOW_MS)
    neighbour = leaf(WIDENED, f"07.h54.{ZONE}")
    envelope, chain = signed(tmp_path, neighbour, origin="H54.07")
    assert refused(verifier, envelope, chain) == "chain"


def test_leaves_of_plain_authorities_pass_too(verifier: Verifier, tmp_path: Path) -> None:
    for holder in (
        leaf(ISSUER, PROVINCE, critical=False),
        leaf(ISSUER, PROVINCE, subject="CN that nobody reads"),
        leaf(ISSUER, PROVINCE, uses=[]),
    ):
        envelope, chain = signed(tmp_path, holder)
        verifier.verify(envelope, chain, NOW_MS)


def test_as_many_tiers_may_issue_as_the_limit_says(verifier: Verifier, tmp_path: Path) -> None:
    tiers = [ROOT]
    for number in range(CHAIN_DEPTH_MAX + 1):
        tiers.append(authority(f"tier {number}", tiers[-1], permitted=[PROVINCE]))
    envelope, chain = signed(tmp_path, leaf(tiers[CHAIN_DEPTH_MAX - 1], PROVINCE))
    verifier.verify(envelope, chain, NOW_MS)
    envelope, chain = signed(tmp_path, leaf(tiers[-1], PROVINCE))
    assert refused(verifier, envelope, chain) == "chain"


def test_a_chain_is_one_path_so_that_nobody_makes_us_search_many(verifier: Verifier, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    loop = authority("loop", key=key)
    signer = leaf(loop, PROVINCE)
    twins = [authority("loop", loop, key=key).certificate for _ in range(6)]
    backwards = Holder(NODE.certificate, NODE.key, (ROOT.certificate, ISSUER.certificate))
    for holder in (Holder(signer.certificate, signer.key, tuple(twins)), backwards):
        envelope, chain = signed(tmp_path, holder)
        with pytest.raises(Refused) as caught:
            verifier.verify(envelope, chain, NOW_MS)
        assert caught.value.rule == "leaf first, then each one's issuer"


@pytest.mark.parametrize(
    ("created_ms", "bound_ms", "good"),
    [
        (NOW_MS - 7 * DAY_MS, 0, True),
        (NOW_MS - 7 * DAY_MS - 1000, 0, False),
        (NOW_MS - 7 * DAY_MS - 1000, 1000, True),
        (NOW_MS + 365 * DAY_MS, 0, True),
        (NOW_MS + 365 * DAY_MS + 1000, 0, False),
        (NOW_MS + 365 * DAY_MS + 1000, 1000, True),
        (NOW_MS + 366 * DAY_MS + 1, BOUND_MAX_MS * 1000, False),
    ],
)
def test_dates_are_judged_when_the_header_was_made(
    verifier: Verifier, tmp_path: Path, created_ms: int, bound_ms: int, good: bool
) -> None:
    envelope, chain = signed(tmp_path, created_ms=created_ms, bound_ms=bound_ms)
    if good:
        verifier.verify(envelope, chain, NOW_MS + 390 * DAY_MS)
    else:
        assert refused(verifier, envelope, chain) == "validity"
        good_envelope, _ = signed(tmp_path)
        verifier.verify(good_envelope, chain, NOW_MS)
        assert refused(verifier, envelope, chain) == "validity"


def test_an_issuer_out_of_date_ends_what_its_leaves_may_sign(verifier: Verifier, tmp_path: Path) -> None:
    def under(after: datetime) -> Holder:
        return leaf(authority("H41", ROOT, permitted=[PROVINCE], after=after), PROVINCE)

    envelope, chain = signed(tmp_path, under(NOW - DAY))
    assert refused(verifier, envelope, chain) == "chain"
    holder = under(NOW + DAY)
    verifier.verify(*signed(tmp_path, holder), NOW_MS)
    envelope, chain = signed(tmp_path, holder, created_ms=NOW_MS + 2 * DAY_MS)
    assert refused(verifier, envelope, chain) == "validity"


def test_a_key_that_ended_long_ago_signs_nothing_whatever_date_it_claims(verifier: Verifier, tmp_path: Path) -> None:
    envelope, chain = signed(tmp_path)
    ends_ms = NOW_MS + 365 * DAY_MS
    verifier.verify(envelope, chain, ends_ms + EXPIRED_MAX_MS)
    assert refused(verifier, envelope, chain, ends_ms + EXPIRED_MAX_MS + 1) == "validity"


def test_a_key_of_another_kind_is_refused(verifier: Verifier, tmp_path: Path) -> None:
    envelope, _ = signed(tmp_path)
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        holder = leaf(ISSUER, PROVINCE, key=key)
        forged = resealed(envelope, encode_header(replace(envelope.header, key=leaf_digest(holder.pem))))
        assert refused(verifier, forged, holder.pem) == "key"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # forms it still reads, and says so
@given(at=st.integers(0, len(NODE.pem) - 1), byte=st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_chain_is_refused_or_still_the_same(tmp_path: Path, at: int, byte: int) -> None:
    fresh = Verifier(put(tmp_path / "verifier", NODE, ROOT).trust, ZONE)
    envelope, chain = signed(tmp_path)
    try:
        fresh.verify(envelope, chain[:at] + bytes([byte]) + chain[at + 1 :], NOW_MS)
    except Refused as error:
        assert error.reason is Reason.ORIGIN_SIGNATURE


def test_after_a_reload_only_the_new_root_counts(tmp_path: Path) -> None:
    files = put(tmp_path / "verifier", NODE, ROOT)
    verifier = Verifier(files.trust, ZONE)
    envelope, chain = signed(tmp_path)
    verifier.verify(envelope, chain, NOW_MS)
    files.trust.write_bytes(authority("new root").certificate.public_bytes(Encoding.PEM))
    verifier.reload()
    assert refused(verifier, envelope, chain) == "chain"


def test_no_more_chains_are_remembered_than_the_limit(
    verifier: Verifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.adapters.signing.CHAINS_KNOWN_MAX", 2)
    first, second, third = (signed(tmp_path, leaf(ISSUER, PROVINCE)) for _ in range(3))
    for envelope, chain in (first, second, first, third):
        verifier.verify(envelope, chain, NOW_MS)
    verifier.verify(first[0], b"", NOW_MS)
    verifier.verify(third[0], b"", NOW_MS)
    assert refused(verifier, second[0], b"") == "chain"


# -- files ----------------------------------------------------------------------------------------------------------------


def test_the_chain_that_travels_holds_certificates_and_nothing_else_of_the_file(tmp_path: Path) -> None:
    files = put(tmp_path / "node", NODE, ROOT)
    files.certificate.write_bytes(b"comment\n" + NODE.pem + NODE.key_pem)
    signer = Signer(files.certificate, files.key)
    assert (signer.chain_pem, signer.dns_name) == (NODE.pem, PROVINCE)


@pytest.mark.parametrize(
    ("certificate", "key", "mode", "problem"),
    [
        (NODE.pem, NODE.key_pem, 0o644, "chmod 600"),
        (NODE.pem, leaf(ISSUER, PROVINCE).key_pem, 0o600, "does not belong"),
        (NODE.pem, b"no key", 0o600, "holds no private key"),
        (NODE.pem, leaf(ISSUER, PROVINCE, key=rsa.generate_private_key(65537, 2048)).key_pem, 0o600, "P-256"),
        (b"no certificate", NODE.key_pem, 0o600, "holds no PEM certificates"),
        (leaf(ISSUER, key=NODE.key).pem, NODE.key_pem, 0o600, "exactly one dNSName"),
    ],
)
def test_a_node_does_not_sign_with_files_that_are_open_or_do_not_fit(
    tmp_path: Path, certificate: bytes, key: bytes, mode: int, problem: str
) -> None:
    files = put(tmp_path / "node", NODE, ROOT)
    files.certificate.write_bytes(certificate)
    files.key.write_bytes(key)
    files.key.chmod(mode)
    with pytest.raises(TlsFileError, match=problem):
        Signer(files.certificate, files.key)


def test_a_verifier_does_not_start_without_its_roots(tmp_path: Path) -> None:
    with pytest.raises(TlsFileError, match="cannot be read"):
        Verifier(tmp_path / "missing.pem", ZONE)

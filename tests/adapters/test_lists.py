"""Revocation lists: which count, which is the newest, who is told; what a chain is worth by them; what outlives a restart."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from node.adapters import lists as module
from node.adapters.http.tls import signed_by
from node.adapters.lists import Lists, NoList
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.standing import Listed
from tests.adapters.pki import DAY, DAY_MS, NOW, NOW_MS, Holder, authority, leaf

H41, H14 = OrgId(("H41",)), OrgId(("H14",))
ROOT = authority("root")
PROVINCE = authority("province", ROOT, permitted=["h41.truc.internal"])
NODE = leaf(PROVINCE, "07.h41.truc.internal")
CHAIN = (NODE.der, PROVINCE.der, ROOT.der)
GRACE_MS = 30 * DAY_MS


def listed(by: Holder, *revoked: Holder, number: int = 1, made: datetime = NOW, signer: Holder | None = None) -> Listed:
    builder = x509.CertificateRevocationListBuilder().issuer_name(by.certificate.subject)
    builder = builder.last_update(made).next_update(made + 30 * DAY).add_extension(x509.CRLNumber(number), False)
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number).revocation_date(made).build()
        builder = builder.add_revoked_certificate(entry)
    text = builder.sign((signer or by).key, SHA256()).public_bytes(Encoding.PEM).decode()
    return Listed(by.pem.decode(), text)


@pytest.fixture
def lists(tmp_path: Path) -> Lists:
    return kept(tmp_path)


def kept(folder: Path) -> Lists:
    (folder / "trust.pem").write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    return Lists(folder / "lists.json", folder / "trust.pem", GRACE_MS)


def told(lists: Lists, what: Listed, source: OrgId | None = None) -> bool:
    return lists.take(lists.prove(what), source)


def refusal(lists: Lists, now_ms: int | None = NOW_MS) -> Reason:
    with pytest.raises(Refused) as caught:
        lists.judge(CHAIN, now_ms)
    return caught.value.reason


@pytest.mark.parametrize(("by", "what"), [(PROVINCE, NODE), (ROOT, PROVINCE)], ids=["leaf", "authority"])
def test_what_an_authority_revokes_is_revoked_for_the_whole_chain(lists: Lists, by: Holder, what: Holder) -> None:
    """Threats, row 22: leaf and intermediate."""
    lists.judge(CHAIN, NOW_MS)
    told(lists, listed(by, what))
    assert refusal(lists) is Reason.PEER_REVOKED
    assert refusal(lists, None) is Reason.PEER_REVOKED
    assert lists.revoked_ms(signed_by(CHAIN)) == NOW_MS
    assert lists.state(NOW_MS, signed_by(CHAIN)).revoked


def spoilt(by: Holder, what: bytes, put: bytes) -> str:
    """Its certificate with other bytes in it: nobody has signed that, but it is read before signatures are looked at."""
    assert what in by.der
    return ssl.DER_cert_to_PEM_cert(by.der.replace(what, put, 1))


OTHER = authority("province", permitted=["h41.truc.internal"])
NOT_OURS = {
    "another tree's": listed(OTHER, NODE),
    "signed by another key": listed(PROVINCE, NODE, signer=ROOT),
    "of one that is no authority": Listed(NODE.pem.decode(), listed(NODE, NODE).text),
    "under another authority's name": Listed(PROVINCE.pem.decode(), listed(OTHER, NODE).text),
    "without its chain": Listed("", listed(PROVINCE, NODE).text),
    "nothing": Listed(PROVINCE.pem.decode(), ""),
    "a certificate": Listed(PROVINCE.pem.decode(), PROVINCE.pem.decode()),
    "of a version that is none": Listed(
        spoilt(PROVINCE, b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"), listed(PROVINCE, NODE).text
    ),
    "with an extension twice": Listed(spoilt(PROVINCE, b"\x55\x1d\x0f", b"\x55\x1d\x13"), listed(PROVINCE, NODE).text),
    "too long": Listed(PROVINCE.pem.decode(), "x" * (module.LIST_CHARS_MAX + 1)),
}


@pytest.mark.parametrize("what", NOT_OURS.values(), ids=NOT_OURS.keys())
def test_what_is_no_list_of_this_tree_counts_for_nothing(lists: Lists, what: Listed) -> None:
    with pytest.raises(NoList):
        lists.prove(what)


def test_the_newest_by_number_stays_whoever_brings_an_older_one(lists: Lists) -> None:
    """Threats, row 19: a list from before the revocation is replayed."""
    assert told(lists, listed(PROVINCE, NODE, number=5), H41)
    for number in (4, 5):
        assert not told(lists, listed(PROVINCE, number=number), H14)
    assert refusal(lists) is Reason.PEER_REVOKED
    assert told(lists, listed(PROVINCE, number=6), H14)
    lists.judge(CHAIN, NOW_MS)


def test_a_list_serves_until_its_end_and_its_grace_and_the_state_counts_down(lists: Lists) -> None:
    """A province that is cut off for 72 hours, or for a month, goes on. # Decision 13"""
    assert lists.state(NOW_MS, ()).left_s is None
    told(lists, listed(PROVINCE))
    for later in (3 * DAY_MS, 30 * DAY_MS, 60 * DAY_MS):
        lists.judge(CHAIN, NOW_MS + later)
    assert refusal(lists, NOW_MS + 60 * DAY_MS + 1) is Reason.PEER_LIST_OLD
    lists.judge(CHAIN, None)
    fresh, late = lists.state(NOW_MS + DAY_MS, ()), lists.state(NOW_MS + 31 * DAY_MS, ())
    assert (fresh.age_s, fresh.left_s, fresh.old) == (86_400, 59 * 86_400, False)
    assert (late.left_s, late.old) == (29 * 86_400, True)


def test_each_neighbour_is_told_what_it_has_not_told_itself_and_only_what_is_new(lists: Lists) -> None:
    mine, theirs = listed(ROOT), listed(PROVINCE)
    told(lists, mine)
    told(lists, theirs, H41)
    assert lists.since(0, H41) == ([mine], 2, False)
    assert lists.since(0, H14) == ([mine, theirs], 2, False)
    assert lists.since(2, H14) == ([], 2, False)
    newer = listed(ROOT, number=2)
    told(lists, newer)
    assert lists.since(2, H41) == ([newer], 3, False)


def test_more_than_one_exchange_carries_comes_in_pieces(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLD_MAX", 1)
    told(lists, listed(ROOT))
    told(lists, listed(PROVINCE))
    first, place, more = lists.since(0, H14)
    assert (len(first), place, more) == (1, 1, True)
    second, place, more = lists.since(place, H14)
    assert (len(second), place, more) == (1, 2, False)


def test_a_neighbour_brings_no_more_than_its_share(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FROM_ONE_MAX", 1)
    assert told(lists, listed(PROVINCE), H41)
    with capture_logs() as logs:
        assert not told(lists, listed(authority("another", ROOT)), H41)
    assert [entry["event"] for entry in logs] == ["too many revocation lists, one not taken"]
    assert told(lists, listed(authority("another", ROOT)), H14)


def test_nor_longer_ones_than_fit_into_its_share_and_a_newer_one_takes_the_place_of_the_older(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = listed(PROVINCE)
    monkeypatch.setattr(module, "FROM_ONE_CHARS_MAX", len(first.authority) + len(first.text) + 100)
    assert told(lists, first, H41)
    assert not told(lists, listed(authority("another", ROOT)), H41)
    for number in range(2, 6):
        assert told(lists, listed(PROVINCE, number=number), H41)
    assert told(lists, listed(PROVINCE, number=6), H14)
    assert told(lists, listed(authority("another", ROOT)), H41), "what another has brought since is not its share any more"


def test_a_node_that_starts_without_its_parent_knows_what_it_knew(lists: Lists, tmp_path: Path) -> None:
    told(lists, listed(PROVINCE, NODE), H41)
    keep = lists.keeper()
    assert keep is not None
    keep()
    assert lists.keeper() is None
    assert (tmp_path / "lists.json").stat().st_mode & 0o777 == 0o600
    assert refusal(kept(tmp_path)) is Reason.PEER_REVOKED
    (tmp_path / "lists.json").write_text("broken")
    with capture_logs() as logs:
        kept(tmp_path).judge(CHAIN, NOW_MS)
    assert [entry["log_level"] for entry in logs] == ["error"]


def test_a_root_that_is_no_longer_trusted_vouches_for_no_list(lists: Lists, tmp_path: Path) -> None:
    (tmp_path / "trust.pem").write_bytes(OTHER.pem)
    lists.reload()
    with pytest.raises(NoList):
        lists.prove(listed(PROVINCE, NODE))

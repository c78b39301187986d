"""A bundle of evidence: one encoding, one way to read it, and nothing in it that its signers did not say."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from node.adapters.signing import Offline
from node.core import bundle as bundle_module
from node.core.bundle import SIGNED_BUNDLE, Bundle, Flaw, Flawed, Story, judge, open_bundle, pack, unpack
from node.core.custody import End
from node.core.errors import Reason
from node.core.evidence import canonical
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from tests.adapters.pki import NOW_MS, ZONE, authority
from tests.bundles import H41, H54, HUB, ROOT_PEM, TO, UNIT, WAY, bundle, file_of, made_by, notice, signer, signers

PARTS = st.dictionaries(st.from_regex(r"[0-9A-Za-z./-]{1,40}", fullmatch=True), st.binary(max_size=80), min_size=1, max_size=6)


def opened(data: bytes, root: bytes = ROOT_PEM) -> Story:
    return open_bundle(data, Offline(root).witness)


def flaw_of(made: Bundle) -> tuple[Flaw, str]:
    """Judged by the parts, then as a file that its maker has signed: the same."""
    with pytest.raises(Flawed) as caught:
        judge(made, Offline(ROOT_PEM).witness)
    return caught.value.flaw, caught.value.part


@given(PARTS)
def test_an_archive_reads_back_and_is_a_zip_that_others_read(parts: dict[str, bytes]) -> None:
    data = pack(parts)
    assert unpack(data) == parts
    with zipfile.ZipFile(BytesIO(data)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == parts


@given(PARTS, st.data())
def test_any_other_bytes_are_no_archive_of_ours(parts: dict[str, bytes], data: st.DataObject) -> None:
    packed = pack(parts)
    at = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(Flawed):
        unpack(packed[:at] + bytes([packed[at] ^ data.draw(st.integers(1, 255))]) + packed[at + 1 :])
    with pytest.raises(Flawed):
        unpack(packed[:at])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_bundle_or_flawed(data: bytes) -> None:
    with pytest.raises(Flawed):
        opened(data)


def test_a_part_that_would_fill_the_memory_is_not_read() -> None:
    """Threats, row 10."""
    many = b'{"parts":[' + b"[]," * (bundle_module.PART_BYTES_MAX // 3) + b"[]]}"
    with pytest.raises(Flawed) as caught:
        opened(pack({"manifest.json": many, "manifest.sig": b"x"}))
    assert (caught.value.part, caught.value.detail) == ("manifest.json", f"> {bundle_module.PART_BYTES_MAX} B")


def test_a_bundle_says_who_had_custody_from_whom_and_how_it_ended() -> None:
    story = opened(file_of(bundle()))
    (journey,) = story.journeys
    assert [(hop.presenter, hop.node) for hop in journey.hops] == list(pairwise(WAY))
    assert (journey.recipient, journey.told_by, story.header.origin) == (TO, H54, UNIT)


def test_its_maker_puts_everything_in_one_order() -> None:
    made = bundle()
    assert file_of(replace(made, receipts=made.receipts[::-1], chains=dict(sorted(made.chains.items())[::-1]))) == file_of(made)


def test_another_root_proves_nothing() -> None:
    with pytest.raises(Flawed) as caught:
        opened(file_of(bundle()), authority("gốc khác").pem)
    assert caught.value.flaw is Flaw.CERTIFICATE


def test_a_province_cannot_make_a_tree_of_its_own_out_of_the_names_it_may_sign() -> None:
    """Under names of its own subtree it would be the hub, and every other code could be made up. Threats, row 23."""
    root = authority("gốc có vùng tên")
    hub = authority("cấp phát", root, permitted=(ZONE,))
    province = authority("cấp phát tỉnh", hub, permitted=(H41.dns_name(ZONE),))
    inside = made_by(signers(hub, ZONE))
    assert opened(inside, root.pem).journeys
    forged = made_by(signers(province, H41.dns_name(ZONE)))
    with pytest.raises(Flawed) as caught:
        opened(forged, root.pem)
    assert (caught.value.flaw, "zone" in caught.value.detail) == (Flaw.CERTIFICATE, True)
    for file, zone, good in ((inside, ZONE, True), (forged, ZONE, False), (inside, "khac.internal", False)):
        witness = Offline(root.pem, zone)
        if good:
            assert open_bundle(file, witness.witness).journeys
        else:
            with pytest.raises(Flawed):
                open_bundle(file, witness.witness)


def test_only_the_node_where_the_document_began_signs_the_file() -> None:
    with pytest.raises(Flawed) as caught:
        opened(file_of(bundle(), signer(H41).sign))
    assert (caught.value.flaw, caught.value.part) == (Flaw.SIGNATURE, "manifest.json")
    other = replace(bundle(), node=H41, key=signer(H41).key_id)
    with pytest.raises(Flawed) as caught:
        opened(file_of(other, signer(H41).sign))
    assert caught.value.flaw is Flaw.PROOF


def test_a_hop_that_is_missing_or_goes_in_a_circle_is_named() -> None:
    first, _, third = bundle().receipts
    assert flaw_of(replace(bundle(), receipts=(first, third))) == (Flaw.GAP, "H41 → ?")
    circle = bundle((UNIT, H41, UNIT, H54))
    assert flaw_of(circle) == (Flaw.GAP, "H41.07 → ?")
    assert flaw_of(replace(bundle(), receipts=(*bundle().receipts, *bundle((UNIT, HUB)).receipts)))[0] is Flaw.GAP


def test_a_parent_that_says_it_collected_what_it_has_handed_on_is_not_believed() -> None:
    made = bundle()
    story = opened(file_of(made))
    forged = replace(made, verdicts=(notice(HUB, UNIT, story.header.id),))
    assert flaw_of(forged)[0] is Flaw.VERDICT
    stranger = replace(made, verdicts=(notice(OrgId.canonical("H99"), UNIT, story.header.id),))
    assert flaw_of(stranger)[0] is Flaw.CERTIFICATE


def test_where_two_tell_of_an_end_the_receivers_own_word_stands() -> None:
    made = bundle()
    id_ = opened(file_of(made)).header.id
    expired = notice(H41, UNIT, id_, end=End(Transport.EXPIRED, NOW_MS + 4000, Reason.EXPIRED))
    for verdicts in ((*made.verdicts, expired), (expired, *made.verdicts)):
        (journey,) = opened(file_of(replace(made, verdicts=verdicts))).journeys
        assert (journey.told_by, journey.end.state) == (H54, Transport.COLLECTED)
    stopped = notice(H41, UNIT, id_, end=End(Transport.STOPPED, NOW_MS + 4000))
    assert flaw_of(replace(made, verdicts=(*made.verdicts, stopped)))[0] is Flaw.SURPLUS


def test_an_instant_before_the_one_before_it_is_named_beyond_the_bounds_of_both() -> None:
    made = bundle()
    assert opened(file_of(made)).journeys[0].early == ()
    id_ = opened(file_of(made)).header.id
    for at_ms, early in ((NOW_MS + 295, ()), (NOW_MS - 86_400_000, (H54,))):
        told = notice(H54, UNIT, id_, end=End(Transport.COLLECTED, at_ms))
        assert opened(file_of(replace(made, verdicts=(told,)))).journeys[0].early == early


def test_a_relay_that_says_it_collected_what_it_keeps_back_is_shown_to_be_elsewhere() -> None:
    """With the origin it could hide who had custody after it, and no more: the file says by whose word it was collected."""
    assert not opened(file_of(bundle())).journeys[0].elsewhere
    assert opened(file_of(bundle((UNIT, H41)))).journeys[0].elsewhere


def test_a_receipt_that_leads_nowhere_is_named_by_its_hop() -> None:
    aside = bundle((UNIT, HUB, H41)).receipts[1]
    made = replace(bundle((UNIT, H54)), receipts=(*bundle((UNIT, H54)).receipts, aside))
    made = replace(made, chains={**made.chains, **bundle((UNIT, HUB, H41)).chains})
    assert flaw_of(made) == (Flaw.SURPLUS, "hub → H41")


def test_what_is_said_of_another_document_proves_nothing_here() -> None:
    made = bundle()
    assert flaw_of(replace(made, verdicts=(notice(H54, UNIT, "01900000-0000-7000-8000-000000000000"),)))[0] is Flaw.SURPLUS
    first = made.receipts[0]
    of_another = replace(first, proofs=tuple(replace(each, recipient=OrgId.canonical("H54.03")) for each in first.proofs))
    assert flaw_of(replace(made, receipts=(of_another, *made.receipts[1:])))[0] is Flaw.PROOF


def test_a_signature_by_a_key_of_another_node_is_none() -> None:
    made = bundle()
    spoilt = replace(made.receipts[1], signature=made.receipts[0].signature)
    assert flaw_of(replace(made, receipts=(made.receipts[0], spoilt, made.receipts[2]))) == (
        Flaw.SIGNATURE,
        "receipts/0002.H41-hub.json",
    )
    exchanged = dict(made.chains)
    keys = list(exchanged)
    exchanged[keys[0]], exchanged[keys[1]] = exchanged[keys[1]], exchanged[keys[0]]
    assert flaw_of(replace(made, chains=exchanged))[0] is Flaw.CERTIFICATE


def test_a_certificate_that_was_altered_is_named_by_its_node() -> None:
    made = bundle()
    parts = unpack(file_of(made))
    (name,) = [each for each in parts if each.startswith("certificates/H41.") and signer(H41).key_id in each]
    with pytest.raises(Flawed) as caught:
        opened(pack({**parts, name: parts[name].replace(b"M", b"N", 1)}))
    assert (caught.value.flaw, caught.value.part) == (Flaw.ALTERED, name)


def test_the_one_encoding_holds_for_the_manifest_and_for_its_signature() -> None:
    """Of every ECDSA signature anybody can make a second one that is as good, without a key."""
    parts = unpack(file_of(bundle()))
    r, s = decode_dss_signature(parts["manifest.sig"])
    twin = encode_dss_signature(r, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 - s)
    with pytest.raises(Flawed) as caught:
        opened(pack({**parts, "manifest.sig": twin}))
    assert (caught.value.flaw, caught.value.part) == (Flaw.SIGNATURE, "manifest.sig")
    fields = json.loads(parts["manifest.json"])
    for spelt in (
        json.dumps(fields).encode(),
        canonical({**fields, "more": 1}),
        canonical({**fields, "parts": [*fields["parts"], 1]}),
    ):
        with pytest.raises(Flawed):
            opened(pack({**parts, "manifest.json": spelt, "manifest.sig": signer(UNIT).sign(SIGNED_BUNDLE + spelt)}))


def test_whatever_its_maker_signs_is_a_bundle_or_flawed() -> None:
    """The node where a document began may put anything into a file: it is never more than a flaw."""
    made = bundle()
    parts = unpack(file_of(made))
    for name in parts:
        for spoilt in (b"", b"{}", b"\xff", parts[name][:-1]):
            rest = {each: data for each, data in {**parts, name: spoilt}.items() if each not in ("manifest.json", "manifest.sig")}
            listed = [[each, hashlib.sha256(data).hexdigest()] for each, data in rest.items()]
            manifest = canonical({**json.loads(parts["manifest.json"]), "parts": listed})
            sealed = signer(UNIT).sign(SIGNED_BUNDLE + manifest)
            if name not in ("manifest.json", "manifest.sig"):
                with pytest.raises(Flawed):
                    opened(pack({"manifest.json": manifest, "manifest.sig": sealed, **rest}))

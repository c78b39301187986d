"""Who signed what: any bytes are judged, and only the signed object is believed."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.adapters.http import vxp_signing as signing
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.office import System
from tests.vxp_client import sign, signed_text

SECRET = "khoa-thu-2026"
SYSTEM = System("demo.gateway.01", (OrgId(("H41",)),), (SECRET,))

NAMES = st.text("abcdefgIdF-", min_size=1, max_size=12).filter(lambda name: name.lower() != "systemid")
VALUES = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")), max_size=40)

NARROW_VALUES = st.text([chr(letter) for letter in (*range(32, 127), *range(160, 256))], max_size=40)


def find(system_id: str) -> System | None:
    return SYSTEM if system_id == SYSTEM.id else None


def presented(text: bytes, mac: str = "") -> signing.Presented:
    return signing.Presented(text, (mac or sign(text, SECRET)).encode())


def told(text: bytes, mac: str = "") -> Reason:
    with pytest.raises(Refused) as caught:
        signing.verify(presented(text, mac), find)
    return caught.value.reason


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_whatever_the_sdk_signs_is_read_back_letter_for_letter(values: dict[str, str]) -> None:
    signed_values = {"systemid": SYSTEM.id} | values
    system, signed = signing.verify(presented(signed_text(signed_values).encode()), find)
    assert system is SYSTEM and dict(signed.values) == signed_values
    headers = [(b"XroadVnpt-" + name.encode(), value.encode()) for name, value in signed_values.items()]
    signing.check_headers(signed, headers)


@given(st.dictionaries(NAMES, NARROW_VALUES, max_size=8))
def test_texts_sent_as_one_byte_letters_are_read_back_too(values: dict[str, str]) -> None:
    signed_values = {"systemid": SYSTEM.id} | values
    text = signed_text(signed_values)
    _, signed = signing.verify(presented(text.encode("latin-1"), sign(text.encode(), SECRET)), find)
    assert dict(signed.values) == signed_values
    headers = [(b"XroadVnpt-" + name.encode(), value.encode("latin-1")) for name, value in signed_values.items()]
    signing.check_headers(signed, headers)


@given(st.binary(max_size=300), st.binary(max_size=70))
def test_any_bytes_are_refused_and_nothing_breaks(text: bytes, mac: bytes) -> None:
    with pytest.raises(Refused):
        signing.verify(signing.Presented(text, mac), find)


@given(st.binary(max_size=120))
def test_any_signed_bytes_are_an_object_of_strings_or_refused(middle: bytes) -> None:
    text = b'{"XroadVnpt-systemid":"demo.gateway.01",' + middle + b"}"
    try:
        _, signed = signing.verify(presented(text), find)
    except Refused as refused:
        assert refused.reason in (Reason.REQUEST_MALFORMED, Reason.SIGNATURE_TEXT_DAMAGED)
    else:
        assert all(isinstance(value, str) for value in signed.values.values())


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_one_flipped_bit_spoils_the_signature(position: int, bit: int) -> None:
    text = signed_text({"systemid": SYSTEM.id, "docId": "doc-1"}).encode()
    at = position % len(text)
    changed = text[:at] + bytes([text[at] ^ 1 << bit]) + text[at + 1 :]
    assert told(changed, sign(text, SECRET)) in (
        Reason.SIGNATURE_WRONG,
        Reason.REQUEST_MALFORMED,
        Reason.SIGNATURE_TEXT_DAMAGED,
    )


def test_an_empty_signature_is_no_signature() -> None:
    text = signed_text({"systemid": SYSTEM.id}).encode()
    for mac in ("0", "0" * 64, sign(text, ""), sign(text, SECRET)[:-1], sign(text, SECRET) + "0"):
        assert told(text, mac) is Reason.SIGNATURE_WRONG
    with pytest.raises(Refused) as caught:
        signing.present([(b"XroadVnpt-sign-header", text), (b"XroadVnpt-hash-header", b"")], 1000)
    assert caught.value.reason is Reason.SIGNATURE_MISSING


def test_an_unknown_system_is_measured_with_a_secret_nobody_can_use() -> None:
    text = signed_text({"systemid": "nobody"}).encode()
    with pytest.raises(signing.NotGenuine) as caught:
        signing.verify(presented(text, sign(text, signing._NOBODY)), find)
    assert (caught.value.reason, caught.value.truth) == (Reason.SIGNATURE_WRONG, Reason.SYSTEM_UNKNOWN)


def test_a_system_without_a_secret_is_never_right() -> None:
    bare = System(SYSTEM.id, SYSTEM.codes, ())
    text = signed_text({"systemid": SYSTEM.id}).encode()
    with pytest.raises(signing.NotGenuine):
        signing.verify(presented(text, sign(text, "")), lambda _: bare)


def test_the_system_is_the_one_in_the_text_also_when_the_name_differs_in_case() -> None:
    system, signed = signing.verify(presented(b'{"xroadvnpt-SystemId":"demo.gateway.01"}'), find)
    assert system is SYSTEM and signed.get("systemid") == SYSTEM.id


def test_names_that_differ_only_in_case_are_two_names() -> None:
    text = signed_text({"systemid": SYSTEM.id, "docid": "new", "docId": "old", "DOCID": "third"}).encode()
    _, signed = signing.verify(presented(text), find)
    assert (signed.get("docId"), signed.get("docid"), signed.get("DocId")) == ("old", "new", "new")
    assert signed.variants("docId") == ("new", "old", "third")
    merged = [(b"XroadVnpt-systemid", SYSTEM.id.encode()), (b"XroadVnpt-docid", b"anything")]
    signing.check_headers(signed, merged)


def test_a_header_doubled_on_the_way_is_not_compared() -> None:
    _, signed = signing.verify(presented(signed_text({"systemid": SYSTEM.id, "to": "B"}).encode()), find)
    doubled = [(b"xroadvnpt-systemid", SYSTEM.id.encode()), (b"XroadVnpt-to", b"B"), (b"XroadVnpt-TO", b"C")]
    signing.check_headers(signed, doubled)
    with pytest.raises(Refused) as caught:
        signing.check_headers(signed, doubled[:1] + doubled[2:])
    assert caught.value.reason is Reason.HEADER_MISMATCH and caught.value.element == "XroadVnpt-to"


def test_headers_of_another_kind_are_tolerated() -> None:
    _, signed = signing.verify(presented(signed_text({"systemid": SYSTEM.id}).encode()), find)
    signing.check_headers(
        signed, [(b"XroadVnpt-systemid", SYSTEM.id.encode()), (b"X-\xff\xfe", b"\xff"), (b"XroadVnpt-version", b"3")]
    )


@pytest.mark.parametrize(
    ("networks", "remote", "may"),
    [
        ([], None, True),
        ([], "203.0.113.9", True),
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["10.0.0.0/8"], "::1", False),
        (["fd00::/8"], "fd00::1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["10.0.0.0/8"], None, False),
        (["0.0.0.0/0"], "not an address", False),
        (["192.0.2.7/32", "127.0.0.0/8"], "127.0.0.1", True),
    ],
)
def test_the_network_of_the_caller_counts(networks: list[str], remote: str | None, may: bool) -> None:
    assert signing.may_call_from([ip_network(network) for network in networks], remote) is may


@pytest.mark.parametrize("value", ["é", "đ", "a\x00b", "a\nb", "a\u202eb"])
def test_an_id_is_printable_ascii(value: str) -> None:
    with pytest.raises(Refused) as caught:
        signing.require_ascii("docId", value)
    assert caught.value.reason is Reason.SIGNATURE_TEXT_DAMAGED and caught.value.element == "XroadVnpt-docId"
    assert signing.require_ascii("docId", "doc 1/x") == "doc 1/x"

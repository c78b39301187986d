"""The header as exact bytes, the ids, the lanes, and what a node checks of a presented envelope."""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.envelope import (
    HEADER_BYTES_MAX,
    KIND_DOCUMENT,
    KIND_NOTICE,
    KIND_STATUS,
    BodyRef,
    Envelope,
    Header,
    Hop,
    Lane,
    Limits,
    Recipient,
    check,
    decode_header,
    encode_header,
    header_digest,
    lane_of,
    open_envelope,
    strict_json,
    uuid7,
)
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.package import Business, Priority
from tests.core.drawn import HEADERS

CREATED = 1_700_000_000_000
DAY = 86_400_000
H41, H41_07, H54 = OrgId(("H41",)), OrgId(("H41", "07")), OrgId(("H54",))
HEADER = Header(
    id="018bcfe5-6800-7000-8000-000000000001",
    origin=H41,
    epoch=1,
    kind=KIND_DOCUMENT,
    sender=H41_07,
    recipients=(Recipient(H54, "000.00.00.H54"), Recipient(OrgId(("K54",)), "K54", H54)),
    priority=Priority.NORMAL,
    created_ms=CREATED,
    bound_ms=1000,
    expires_ms=CREATED + 7 * DAY,
    doc_id="d-1",
    document_id="VB-ĐT/2026",
    business=Business.NEW,
    bodies=(BodyRef("0" * 64, 1000), BodyRef("1" * 64, 500)),
    media="application/edxml",
    key="2" * 64,
)
LIMITS = Limits(body_bytes_max=10_000, hops_max=3)


def envelope(header: Header = HEADER, hops: int = 0) -> Envelope:
    passed = tuple(Hop(H41, CREATED, 1) for _ in range(hops))
    return open_envelope(encode_header(header), b"s", tuple(r.code for r in header.recipients), passed, 0)


def fields() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(encode_header(HEADER))
    return read


def refused(data: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        decode_header(data)
    return caught.value


@given(HEADERS)
def test_a_header_reads_back_what_was_written(header: Header) -> None:
    assert decode_header(encode_header(header)) == header


@given(HEADERS)
def test_the_same_header_has_the_same_bytes_whoever_writes_it(header: Header) -> None:
    assert encode_header(decode_header(encode_header(header))) == encode_header(header)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        decode_header(data)
    assert caught.value.reason is Reason.WIRE_MALFORMED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("v", 2),
        ("v", True),
        ("id", "not-an-id"),
        ("id", None),
        ("id", HEADER.id.upper()),
        ("origin", "h41"),
        ("origin", "000.00.00.H41"),
        ("origin", None),
        ("epoch", 0),
        ("epoch", 1.0),
        ("kind", "Document"),
        ("kind", "a" * 41),
        ("from", 7),
        ("to", []),
        ("to", [["H54", "", ""], ["H54", "", ""]]),
        ("to", [["H54", ""]]),
        ("to", [["H54", "x" * 401, ""]]),
        ("to", [["H54", "", "h54"]]),
        ("to", "H54"),
        ("priority", 5),
        ("priority", True),
        ("created", -1),
        ("created", 1 << 60),
        ("expires", "never"),
        ("doc", "x" * 65),
        ("document_id", 5),
        ("business", 4),
        ("bodies", [["0" * 63, 1]]),
        ("bodies", [["0" * 64, -1]]),
        ("bodies", [["0" * 64, True]]),
        ("bodies", [["0" * 64, 1]] * 65),
        ("bodies", {}),
        ("media", "m" * 101),
        ("key", "A" * 64),
        ("refs", [1]),
        ("refs", ["r"] * 65),
    ],
)
def test_a_field_of_another_form_is_refused_by_name(name: str, value: object) -> None:
    refusal = refused(json.dumps({**fields(), name: value}).encode())
    assert refusal.reason is Reason.WIRE_MALFORMED
    assert refusal.element.startswith("header")


@pytest.mark.parametrize("name", sorted(fields()))
def test_a_missing_field_is_refused(name: str) -> None:
    rest = fields()
    del rest[name]
    assert refused(json.dumps(rest).encode()).reason is Reason.WIRE_MALFORMED


def test_a_header_of_too_many_bytes_is_not_even_parsed() -> None:
    assert refused(b"[" * (HEADER_BYTES_MAX + 1)).reason is Reason.WIRE_TOO_LARGE


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":2}', "NaN", "[Infinity]", "-Infinity", "[" * 100_000, "9" * 5000, "\xff", "", "{", "{'a':1}", "\x00", "1 2"],
)
def test_json_that_parsers_disagree_on_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        strict_json(text.encode("latin-1"))
    assert caught.value.reason is Reason.WIRE_MALFORMED


def test_an_envelope_is_for_some_of_its_headers_recipients_and_no_others() -> None:
    data = encode_header(HEADER)
    one = open_envelope(data, b"s", (OrgId(("K54",)),), (), 2)
    assert [r.code for r in one.for_recipients()] == [OrgId(("K54",))]
    assert one.for_recipients()[0].organ == H54
    assert (one.digest, one.attempts, one.header_bytes) == (header_digest(data), 2, data)
    for remaining in ((), (H41,), (H54, H54)):
        with pytest.raises(Refused):
            open_envelope(data, b"s", remaining, (), 0)


def test_the_digest_is_of_the_exact_bytes() -> None:
    spaced = json.dumps(fields()).encode()
    assert decode_header(spaced) == HEADER
    assert open_envelope(spaced, b"s", (H54,), (), 0).digest == header_digest(spaced) != header_digest(encode_header(HEADER))


@given(st.integers(0, (1 << 48) - 1), st.integers(0, 1 << 64))
def test_an_id_is_a_uuid_of_version_7_with_its_instant(now_ms: int, seed: int) -> None:
    text = uuid7(now_ms, random.Random(seed))
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant, parsed.int >> 80) == (7, uuid.RFC_4122, now_ms)


@given(st.integers(0, (1 << 48) - 2), st.integers(0, 1 << 64))
def test_ids_of_later_instants_sort_later(now_ms: int, seed: int) -> None:
    rng = random.Random(seed)
    assert uuid7(now_ms, rng) < uuid7(now_ms + 1, rng)


def test_ids_of_one_instant_differ() -> None:
    rng = random.Random(1)
    assert len({uuid7(CREATED, rng) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("kind", "priority", "business", "lane"),
    [
        (KIND_DOCUMENT, Priority.NORMAL, Business.NEW, Lane.NORMAL),
        (KIND_DOCUMENT, Priority.URGENT, Business.UPDATE, Lane.URGENT),
        (KIND_DOCUMENT, Priority.VERY_URGENT, Business.REPLACE, Lane.VERY_URGENT),
        (KIND_DOCUMENT, Priority.EXPRESS, Business.NEW, Lane.EXPRESS),
        (KIND_DOCUMENT, Priority.EXPRESS_TIMED, Business.NEW, Lane.EXPRESS),
        (KIND_DOCUMENT, Priority.NORMAL, Business.RECALL, Lane.CONTROL),
        (KIND_STATUS, Priority.NORMAL, Business.NEW, Lane.CONTROL),
        (KIND_NOTICE, Priority.NORMAL, Business.NEW, Lane.CONTROL),
        ("x-later", Priority.URGENT, Business.NEW, Lane.URGENT),
    ],
)
def test_statuses_notices_and_recalls_overtake_and_the_rest_goes_by_urgency(
    kind: str, priority: Priority, business: Business, lane: Lane
) -> None:
    assert lane_of(kind, priority, business) is lane
    assert replace(HEADER, kind=kind, priority=priority, business=business).lane is lane


def judged(presented: Envelope, now_ms: int = CREATED, bound_ms: int = 500, synchronised: bool = True) -> Reason | None:
    return check(presented, LIMITS, now_ms=now_ms, bound_ms=bound_ms, synchronised=synchronised)


def test_a_sound_envelope_passes() -> None:
    assert judged(envelope(hops=3)) is None


def test_bodies_are_too_large_together() -> None:
    at_limit = replace(HEADER, bodies=(BodyRef("0" * 64, 4000), BodyRef("1" * 64, 6000)))
    assert judged(envelope(at_limit)) is None
    assert judged(envelope(replace(at_limit, bodies=(*at_limit.bodies, BodyRef("3" * 64, 1))))) is Reason.PACKAGE_TOO_LARGE


def test_too_many_hops_are_refused() -> None:
    assert judged(envelope(hops=4)) is Reason.TOO_MANY_HOPS


def test_a_lifetime_beyond_what_the_node_keeps_is_refused() -> None:
    longest = replace(HEADER, expires_ms=CREATED + LIMITS.lifetime_max_ms)
    assert judged(envelope(longest)) is None
    assert judged(envelope(replace(longest, expires_ms=longest.expires_ms + 1))) is Reason.LIFETIME


def test_expiry_is_judged_with_both_bounds_in_favour_of_the_document() -> None:
    last = HEADER.expires_ms + 500 + HEADER.bound_ms
    assert judged(envelope(), now_ms=last) is None
    assert judged(envelope(), now_ms=last + 1) is Reason.EXPIRED


def test_an_unsynchronised_node_expires_nothing() -> None:
    assert judged(envelope(), now_ms=HEADER.expires_ms + 365 * DAY, synchronised=False) is None


def test_an_envelope_without_an_end_never_expires() -> None:
    assert judged(envelope(replace(HEADER, expires_ms=0)), now_ms=CREATED + 3650 * DAY) is None

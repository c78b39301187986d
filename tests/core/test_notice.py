"""What is told home of an end: nothing is lost on the way, and whatever else comes is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.custody import End, EndOf
from node.core.envelope import KIND_NOTICE, KIND_STATUS, TIME_MAX_MS, BodyRef, Header, Recipient
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.lifecycle import ENDS, Transport
from node.core.notice import NOTICE_BYTES_MAX, NOTICE_ENDS_MAX, TEXT_MAX, decode_notice, describe_end, encode_notice, only_body
from tests.core.drawn import CODES, HEADERS, NODES, TEXTS, UUIDS

ENDINGS = st.builds(
    End,
    state=st.sampled_from(sorted(ENDS)),
    at_ms=st.integers(0, TIME_MAX_MS),
    reason=st.none() | st.sampled_from(Reason),
    text=TEXTS,
    receiver_doc_id=TEXTS,
)
ENDS_OF = st.builds(EndOf, origin=NODES, id=UUIDS, recipient=CODES, end=ENDINGS)
WHERE = OrgId.canonical("H54.02")
END = End(Transport.REFUSED, 1_930_000_000_000, Reason.RECIPIENT_CLOSED)
ONE = EndOf(OrgId.canonical("H41"), "01900000-0000-7000-8000-000000000001", WHERE, END)


def fields(**changes: Any) -> bytes:
    """A good notice of one end, with changes to that end."""
    whole = json.loads(encode_notice([ONE]))
    whole["ends"][0].update(changes)
    return json.dumps(whole).encode()


@given(ends=st.lists(ENDS_OF, max_size=5))
def test_what_is_written_is_read(ends: list[EndOf]) -> None:
    assert decode_notice(encode_notice(ends)) == tuple(ends)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        decode_notice(data)
    except Refused as refused:
        assert refused.reason is Reason.WIRE_MALFORMED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["v", "ends", "to", "at", "state"]), inner),
    max_leaves=12,
)


@given(value=JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    try:
        decode_notice(json.dumps(value).encode())
    except Refused as refused:
        assert refused.reason is Reason.WIRE_MALFORMED


@given(field=st.sampled_from(["origin", "id", "to", "state", "at", "reason", "text", "doc"]), value=JSON)
def test_any_field_is_read_or_refused(field: str, value: Any) -> None:
    try:
        decode_notice(fields(**{field: value}))
    except Refused as refused:
        assert refused.reason is Reason.WIRE_MALFORMED


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "queued"},
        {"state": "in-mailbox"},
        {"state": "đã tới"},
        {"reason": "because"},
        {"at": -1},
        {"at": TIME_MAX_MS + 1},
        {"to": "h54.02"},
        {"id": "0" * 37},
        {"text": "x" * (TEXT_MAX + 1)},
    ],
)
def test_what_is_no_end_of_a_delivery_is_refused(changes: dict[str, Any]) -> None:
    decode_notice(fields())
    with pytest.raises(Refused) as caught:
        decode_notice(fields(**changes))
    assert caught.value.reason is Reason.WIRE_MALFORMED


def test_a_later_version_and_too_many_ends_are_refused() -> None:
    for data in (b'{"v":2,"ends":[]}', b'{"v":1}', encode_notice([ONE] * (NOTICE_ENDS_MAX + 1))):
        with pytest.raises(Refused):
            decode_notice(data)


def test_a_notice_of_every_commune_in_the_country_with_a_long_explanation_keeps_to_the_limit() -> None:
    """A notice that its addressee refuses would be held for ever."""
    long = replace(END, state=Transport.REFUSED, reason=Reason.DROPPED_BY_OPERATOR, text="ừ" * 5000)
    data = encode_notice([replace(ONE, recipient=OrgId.canonical("H54.02.0123456789012345678901"), end=long)] * NOTICE_ENDS_MAX)
    assert len(data) <= NOTICE_BYTES_MAX
    assert len(decode_notice(data)) == NOTICE_ENDS_MAX
    (alone,) = decode_notice(encode_notice([replace(ONE, end=long)]))
    assert alone.end.text == "ừ" * TEXT_MAX


def test_an_end_is_told_in_one_sentence_with_name_code_and_reason() -> None:
    """Never in the receiver's name: the axis says what it could not do. # QĐ 28/2018 Điều 8.2"""
    text = describe_end("H54.02", "Sở Tài chính Thái Bình", END)
    assert text.startswith("Bên nhận Sở Tài chính Thái Bình (H54.02): ")
    assert "H54.02" in text.split(": ", 1)[1]
    assert describe_end("H54.02", "", replace(END, text="đã trao đổi qua điện thoại")).endswith("đã trao đổi qua điện thoại")
    assert describe_end("H54.02", "H54.02", End(Transport.EXPIRED, 0, Reason.EXPIRED)).startswith("Bên nhận H54.02: ")


@given(header=HEADERS)
def test_a_notice_is_one_small_body_for_one_node_and_a_status_one_body(header: Header) -> None:
    one, large = BodyRef("ab" * 32, NOTICE_BYTES_MAX), BodyRef("ab" * 32, NOTICE_BYTES_MAX + 1)
    to = (Recipient(WHERE, str(WHERE)),)
    notice, status = (replace(header, kind=kind, recipients=to, bodies=(one,)) for kind in (KIND_NOTICE, KIND_STATUS))
    assert only_body(notice) == only_body(status) == one
    assert only_body(replace(status, recipients=to * 2, bodies=(large,))) == large
    for wrong in ({"recipients": to * 2}, {"bodies": (large,)}, {"bodies": ()}, {"bodies": (one, one)}):
        with pytest.raises(Refused) as caught:
            only_body(replace(notice, **wrong))
        assert caught.value.reason is Reason.WIRE_MALFORMED

"""Many packages in one body: what is put together comes apart again, and any other bytes are refused as a whole."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.adapters.http.native_parts import (
    PART_HEAD_BYTES_MAX,
    PARTS_MAX,
    REF_CHARS_MAX,
    boundary_for,
    boundary_of,
    joined_heads,
    split,
)
from node.core.errors import Reason, Refused

B = b"ranh-gioi"


def mixed(*parts: tuple[bytes, bytes]) -> bytes:
    """(head lines, content) each."""
    return b"".join(b"--%b\r\n%b\r\n%b\r\n" % (B, head, content) for head, content in parts) + b"--%b--\r\n" % B


def apart(body: bytes, boundary: bytes = B) -> list[tuple[str, str, bytes]]:
    return [(part.ref, part.kind, bytes(part.content)) for part in split(body, boundary)]


def refused(body: bytes, boundary: bytes = B) -> Reason:
    with pytest.raises(Refused) as caught:
        split(body, boundary)
    return caught.value.reason


contents = st.binary(max_size=200).filter(lambda data: b"--" + B not in data)
refs = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="<>"), max_size=20)


@given(st.lists(st.tuples(refs, st.sampled_from(["edoc", "status"]), contents), min_size=1, max_size=8))
def test_what_is_put_together_comes_apart_again(parts: list[tuple[str, str, bytes]]) -> None:
    heads = [f"Content-ID: <{ref}>\r\nTruc-Kind: {kind}\r\n".encode() for ref, kind, _ in parts]
    assert apart(mixed(*((head, part[2]) for head, part in zip(heads, parts, strict=True)))) == parts


@given(st.lists(contents, max_size=5), st.binary(max_size=100))
def test_what_the_face_writes_can_be_read_by_itself(bodies: list[bytes], index: bytes) -> None:
    boundary = boundary_for(index)
    first, heads, last = joined_heads(boundary, index, [(f"doc-{number}", len(data)) for number, data in enumerate(bodies)])
    whole = first + b"".join(head + data for head, data in zip(heads, bodies, strict=True)) + last
    expected = [("", index), *((f"doc-{number}", data) for number, data in enumerate(bodies))]
    assert [(part.ref, bytes(part.content)) for part in split(whole, boundary)] == expected


@given(st.binary(max_size=400))
def test_any_bytes_are_parts_or_refused(data: bytes) -> None:
    for body in (data, b"--" + B + data, mixed((b"", data)), mixed((data, b"")), b"--" + B + b"\r\n" + data):
        try:
            assert apart(body)
        except Refused as refusal:
            assert refusal.reason is Reason.REQUEST_MALFORMED


@given(
    st.lists(st.sampled_from([b"--", B, b"\r\n", b"\r\n\r\n", b"\r", b"\n", b" ", b"Content-ID: <1>", b":", b"x"]), max_size=25)
)
def test_any_pieces_of_a_body_are_parts_or_refused(pieces: list[bytes]) -> None:
    try:
        assert apart(b"".join(pieces))
    except Refused as refusal:
        assert refusal.reason is Reason.REQUEST_MALFORMED


@given(st.text(max_size=60))
def test_any_content_type_has_a_boundary_or_is_refused(text: str) -> None:
    for each in (text, f"multipart/mixed; boundary={text}", f'multipart/mixed; boundary="{text}"'):
        try:
            assert boundary_of(each)
        except Refused as refusal:
            assert refusal.reason is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/mixed; boundary=abc", b"abc"),
        ('Multipart/Mixed; charset=utf-8; Boundary="a b:c"', b"a b:c"),
        ("multipart/mixed;boundary=------------------------d74496d66958873e; x=y", b"------------------------d74496d66958873e"),
    ],
)
def test_a_boundary_is_read_as_clients_write_it(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/mixed",
        "multipart/form-data; boundary=a",
        "multipart/mixed; boundary=",
        "multipart/mixed; boundary=a b",
        'multipart/mixed; boundary="' + "a" * 71 + '"',
        "multipart/mixed; xboundary=a",
        'multipart/mixed; boundary=" "',
    ],
)
def test_a_type_without_a_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(Refused):
        boundary_of(content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--ranh-gioi",
        b"--ranh-gioi--",
        b"--ranh-gioi--\r\n",
        b"--ranh-gioi\r\n",
        b"--ranh-gioi\r\n\r\nx",  # no closing delimiter
        b"--ranh-gioi\r\n\r\nx\r\n--ranh-gioi",
        b"--ranh-gioi\r\n\r\nx\r\n--ranh-gioi\r\n",
        b"--ranh-gioi\r\nContent-ID: 1\r\n--ranh-gioi--",  # no end of the head
        b"--ranh-gioi\r\n--ranh-gioi--",
        b"--ranh-gioi x\r\n\r\nx\r\n--ranh-gioi--",
        b"--ranh-gioi\n\nx\n--ranh-gioi--",
        mixed((b"no colon\r\n", b"x")),
        mixed((b"Content-ID: 1\r\nContent-ID: 2\r\n", b"x")),
        mixed((b"Content-ID: 1\r\n folded\r\n", b"x")),
        mixed((b"Content-ID: \xff\r\n", b"x")),
        mixed((b"Content-ID: a\x00b\r\n", b"x")),
        mixed((b"Content-ID: " + b"a" * (REF_CHARS_MAX + 1) + b"\r\n", b"x")),
        mixed((b"Truc-Kind: notice\r\n", b"x")),
        mixed((b"Content-Transfer-Encoding: base64\r\n", b"eA==")),
        mixed((b"X: " + b"a" * PART_HEAD_BYTES_MAX + b"\r\n", b"x")),
        mixed((b"", b"x"), (b"bad\r\n", b"y")),
    ],
)
def test_a_malformed_body_is_refused_as_a_whole(body: bytes) -> None:
    assert refused(body) is Reason.REQUEST_MALFORMED


def test_what_stands_around_the_parts_means_nothing() -> None:
    assert apart(b"loi noi dau\r\n" + mixed((b"", b"x")) + b"loi cuoi") == [("", "edoc", b"x")]


def test_a_content_may_look_like_a_delimiter_that_begins_no_line() -> None:
    data = b"a--ranh-gioi--\r\n-- ranh-gioi\r\n\r\n--ranh"
    assert apart(mixed((b"", data), (b"", b""))) == [("", "edoc", data), ("", "edoc", b"")]


def test_a_thousand_parts_are_taken_and_one_more_is_too_many() -> None:
    parts = [(b"", b"x")] * PARTS_MAX
    assert len(split(mixed(*parts), B)) == PARTS_MAX
    assert refused(mixed(*parts, (b"", b"x"))) is Reason.TOO_MANY_ELEMENTS


def test_a_thousand_parts_of_ten_kilobytes_come_apart_at_once() -> None:
    body = mixed(*[(b"Content-ID: <%d>\r\n" % number, bytes(10_000)) for number in range(PARTS_MAX)])
    began = time.process_time()
    assert len(split(body, B)) == PARTS_MAX
    assert time.process_time() - began < 1.0

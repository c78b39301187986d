"""Base64 in pieces, dates, and attachment names as harmless labels."""

from __future__ import annotations

import base64
import re
import unicodedata
from datetime import date
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.documents.formats import LABEL_BYTES_MAX, LABEL_EMPTY, Base64Decoder, BrokenBase64, label, parse_date

STRICT = re.compile(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def decode(*pieces: str) -> bytes:
    decoder = Base64Decoder()
    decoded = b"".join(decoder.feed(piece) for piece in pieces)
    decoder.close()
    return decoded


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=8), st.sampled_from(["", "\n", "\r\n", " \t"]))
def test_base64_cut_anywhere_decodes_to_the_same_bytes(data: bytes, cuts: list[int], white: str) -> None:
    text = white.join(base64.b64encode(data).decode()) + white
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert decode(*(text[left:right] for left, right in pairwise(edges))) == data


def test_only_well_padded_text_of_the_alphabet_is_taken() -> None:
    for length in range(7):
        for letters in product("A/=", repeat=length):
            text = "".join(letters)
            if STRICT.fullmatch(text):
                assert decode(text) == decode(*text) == base64.b64decode(text)
            else:
                for pieces in ([text], list(text), [text[:4], text[4:]]):
                    with pytest.raises(BrokenBase64):
                        decode(*pieces)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("QUJD-_==", "U+002D"),
        ("QUJD\N{ZERO WIDTH SPACE}", "U+200B"),
        ("QU\x00D", "U+0000"),
        ("QUJDQ", "length not a multiple of 4"),
        ("QQ==QUJD", "Excess data after padding"),
        ("Q!", "U+0021"),
    ],
)
def test_broken_base64_says_what_was_met(text: str, fault: str) -> None:
    with pytest.raises(BrokenBase64, match=re.escape(fault)):
        decode(text)


TOKENS = (
    "QUJD",
    "QUJDRQ",
    "Q",
    "QQ",
    "QQ==",
    "QUI=",
    "Q===",
    "====",
    "=",
    "==",
    " ",
    "\n",
    "QU JD\n",
    "+/9a",
    "-",
    "QUJD-QUJD",
    "Q=JD",
    "",
)


@settings(max_examples=500, deadline=None)
@given(pieces=st.lists(st.tuples(st.booleans(), st.sampled_from(TOKENS)), max_size=6))
def test_counting_takes_and_refuses_what_decoding_does(pieces: list[tuple[bool, str]]) -> None:
    """Piece by piece, the two in any turn."""
    decoder, other = Base64Decoder(), Base64Decoder()

    def fed(of: Base64Decoder, data: bytes, counted: bool) -> int:
        try:
            return of.count_bytes(data) if counted else len(of.feed_bytes(data))
        except BrokenBase64:
            return -1

    assert [fed(decoder, text.encode(), counted) for counted, text in pieces] == [
        fed(other, text.encode(), False) for _, text in pieces
    ]


def test_text_after_the_padding_is_broken_in_a_later_piece_too() -> None:
    with pytest.raises(BrokenBase64, match="text after padding"):
        decode("QQ==", "\n", "QUJD")
    assert decode("QQ==", "\n", " ") == b"A"


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2018/09/28", date(2018, 9, 28)),
        ("2014/02/30", None),
        ("2026/13/01", None),
        ("2018-09-28", None),
        ("28/09/2018", None),
        ("2018/9/28", None),
        ("", None),
        ("0000/01/01", None),
        ("2018/09/28 ", None),
        ("２０１８/09/28", None),
    ],
)
def test_dates_have_one_form_and_must_exist(text: str, day: date | None) -> None:
    assert parse_date(text) == day


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1896_QD-TTg_m_294779.doc", "1896_QD-TTg_m_294779.doc"),
        ("Công văn số 12.pdf", "Công văn số 12.pdf"),
        (unicodedata.normalize("NFD", "Tờ trình.docx"), "Tờ trình.docx"),
        ("e\u200b\u0301.txt", "é.txt"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("/etc/shadow", "shadow"),
        ("C:\\a\\b.txt", "b.txt"),
        ("C:b.txt", "C_b.txt"),
        ("a/..", LABEL_EMPTY),
        ("", LABEL_EMPTY),
        (" . ", LABEL_EMPTY),
        ("\x00", LABEL_EMPTY),
        ("a\x00b\r\n.pdf", "ab.pdf"),
        ("hoadon\u202efdp.exe", "hoadonfdp.exe"),
        ("a\u200b\u2066b\u2028c.txt", "abc.txt"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("Lpt1 .pdf", "_Lpt1 .pdf"),
        ("COM¹.log", "_COM¹.log"),
        ("conduct.txt", "conduct.txt"),
        (".bashrc", "bashrc"),
        ("file.pdf. . ", "file.pdf"),
        ('a<b>:"|?*.txt', "a_b______.txt"),
        ("\ud800x.txt", "x.txt"),
    ],
)
def test_a_name_becomes_a_label_that_is_never_a_path(name: str, expected: str) -> None:
    """Threats, row 16."""
    assert label(name) == expected


def test_a_long_name_is_cut_between_letters_and_keeps_its_suffix() -> None:
    short = label("ộ" * 4000 + ".pdf")
    assert short.endswith("ộ.pdf")
    assert len(short.encode()) == LABEL_BYTES_MAX - (LABEL_BYTES_MAX - 4) % 3
    assert len(label("a." + "b" * 5000).encode()) == LABEL_BYTES_MAX


@settings(deadline=None)
@given(
    st.text(max_size=40) | st.text(alphabet="./\\ :cCoOnN1¹\u0301\u202e\x00ộ", max_size=12) | st.text(min_size=200, max_size=400)
)
def test_any_label_is_short_visible_and_stays_itself(name: str) -> None:
    result = label(name)
    assert result
    assert len(result.encode()) <= LABEL_BYTES_MAX
    assert not set(result) & set('/\\<>:"|?*\0')
    assert not result.startswith(".") and not result.endswith((".", " "))
    assert all(unicodedata.category(mark)[0] != "C" for mark in result)
    assert unicodedata.is_normalized("NFC", result)
    assert label(result) == result

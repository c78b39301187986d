"""The one table of words: complete, free of the four traps, readable by a clerk and safe to print."""

from __future__ import annotations

import re
from enum import Enum
from itertools import product
from pathlib import Path
from xml.parsers import expat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core import words
from node.core.directory import Connection
from node.core.envelope import KIND_DOCUMENT, KIND_NOTICE, KIND_STATUS, Lane
from node.core.errors import Reason, Refused
from node.core.lifecycle import StatusFlag, Transport
from node.core.package import STATUS_CODES, Business, Priority
from node.core.wire import Outcome

TRANSPORT_WORDS = ("initial", "processing", "done", "fail")
ROLES = ("clerk", "operator", "administrator", "registrar", "reporter", "inspector", "owner")
CHECKS = ("database", "disk", "parent", "children", "certificate", "clock", "directory", "systems", "held")
PROBLEMS = ("parent-down", "child-silent", "outbox-old", "held-items", "disk-low", "systems-broken", "certificate-expiring")

MUST_HAVE: dict[str, tuple[object, ...]] = {
    "transport": tuple(Transport),
    "mailbox": TRANSPORT_WORDS,
    "status": STATUS_CODES,
    "flag": tuple(flag for flag in StatusFlag if flag),
    "priority": tuple(Priority),
    "business": tuple(Business),
    "lane": tuple(lane.name.lower() for lane in Lane),
    "outbox": ("waiting", "body", "held"),
    "hold": ("office-fail", "register", "delete", "operator"),
    "kind": (KIND_DOCUMENT, KIND_STATUS, KIND_NOTICE),
    "connection": tuple(Connection),
    "role": ROLES,
    "outcome": tuple(Outcome),
    "health": ("ok", "warning", "critical"),
    "check": CHECKS,
    "problem": PROBLEMS,
    "reason": tuple(Reason),
}

TELLING = frozenset({"status"})
"""Kinds that speak of the receiving office's own acts."""


@pytest.mark.parametrize("kind", MUST_HAVE)
def test_every_key_of_the_program_has_a_word_in_both_languages(kind: str) -> None:
    for key in MUST_HAVE[kind]:
        stable = str(key.value if isinstance(key, Enum) else key)
        assert stable in words.LABELS[kind], f"{kind} {stable} has no word"
        assert words.label(kind, key, "vi") == words.LABELS[kind][stable][0]
        assert words.label(kind, key, "en") == words.LABELS[kind][stable][1]


SOURCES = Path(words.__file__).parents[1]


@pytest.mark.parametrize(
    ("kind", "place", "pattern"),
    [
        ("event", "adapters/sqlite", r'\btx\.journal\(\s*stamp,\s*"([a-z-]+)"'),
        ("event", "adapters/sqlite", r'"held" if held else "(failed)"'),
        ("problem", "desk.py", r'found\.append\(\("([a-z-]+)"'),
        ("check", "desk.py", r'\bCheck\("([a-z]+)"'),
        ("flaw", "documents", r'\.odd\("((?!status-code-short)[a-z0-9-]+)"'),
        ("flaw", "documents/draft.py", r'  yield "((?!status-w|timestamp-m|description-m)[a-z0-9-]+)"'),
        ("flaw", "documents/archive.py", r'ODD_[A-Z]+ = "([a-z-]+)"'),
        ("flaw", "documents/edxml.py", r'"(namespace-[a-z]+)"'),
        ("flaw", "core/counting.py", r'\("(type-missing)",\)'),
        ("outbox", "adapters/sqlite/migrations", r"CHECK \(state IN \('(waiting)', '(body)', '(held)'\)\)"),
    ],
)
def test_what_the_program_writes_down_for_an_operator_has_a_word(kind: str, place: str, pattern: str) -> None:
    spot = SOURCES / place
    files = [spot] if spot.is_file() else [*spot.glob("*.py"), *spot.glob("*.sql")]
    found = {key for file in files for match in re.finditer(pattern, file.read_text(encoding="utf-8")) for key in match.groups()}
    assert found, "the pattern no longer finds what it looks for"
    assert found <= set(words.LABELS[kind])


def test_no_word_is_empty_and_none_is_left_in_the_other_language() -> None:
    for kind, table in words.LABELS.items():
        for key, (vi, en) in table.items():
            assert vi.strip() and en.strip(), (kind, key)
            assert en.isascii(), f"{kind} {key}: {en!r} is not English"
            assert vi != en, (kind, key)


def test_every_reason_has_a_sentence_a_short_word_and_a_number() -> None:
    for reason in Reason:
        vi, en = words.SENTENCES[reason]
        # "[ {rule}]" at the end: whole sentences follow, one for each receiver
        assert vi.removesuffix("[ {rule}]").endswith(".") and en.removesuffix("[ {rule}]").endswith("."), reason
        assert words.error_number(reason) in (10, 15, 18, 19, 20, 21, 22, 23), reason
    assert set(words.LABELS["reason"]) == {reason.value for reason in Reason}


def test_each_reason_has_one_number_only() -> None:
    listed = [value for values in words._NUMBERS.values() for value in values.split()]
    assert len(listed) == len(set(listed)) == len(Reason)


def _vietnamese() -> list[tuple[str, str]]:
    labels = [
        (f"{kind} {key}", vi) for kind, table in words.LABELS.items() if kind not in TELLING for key, (vi, _) in table.items()
    ]
    return labels + [(f"sentence {reason}", vi) for reason, (vi, _) in words.SENTENCES.items()]


@pytest.mark.parametrize("forbidden", ["từ chối", "trả lại", "tạm giữ", "điểm nút", "mã kế tiếp", "đường lên", "đường xuống"])
def test_a_nodes_act_never_wears_the_receivers_words(forbidden: str) -> None:
    assert [where for where, text in _vietnamese() if forbidden in text.lower()] == []


def test_taken_is_never_said_as_received() -> None:
    assert [where for where, text in _vietnamese() if re.search(r"đã nhận(?! bàn giao)", text.lower())] == []


def test_the_handling_term_is_not_taken_for_the_lifetime() -> None:
    assert [where for where, text in _vietnamese() if re.search(r"thời hạn(?! xử lý)", text.lower())] == []


def test_the_words_of_the_decree_stand_for_the_offices_statuses() -> None:
    assert words.label("status", "01") == "đã đến"
    assert words.label("status", "02") == "từ chối nhận (trả lại)"
    assert words.label("status", "06") == "đã hoàn thành"
    assert words.label("priority", Priority.EXPRESS) == "hỏa tốc"
    assert words.label("transport", "in-mailbox") == "đã về nút của Bên nhận, chờ lấy"


def test_a_closed_code_is_answered_with_its_successor() -> None:
    refused = Refused(Reason.RECIPIENT_CLOSED, "To/OrganId", "H02", "H05")
    assert words.sentence(refused) == "Mã H02 đã đóng; hãy gửi đến mã thay thế H05."
    assert words.sentence(refused, "en") == "Code H02 is closed; send to its successor H05."


def test_a_closed_code_without_successor_says_so() -> None:
    refused = Refused(Reason.RECIPIENT_CLOSED, "To/OrganId", "H02")
    assert words.sentence(refused) == "Mã H02 đã đóng; danh mục chưa ghi mã thay thế, hãy hỏi lại Bên nhận."


def test_a_receiver_without_connection_is_to_be_written_on_paper_and_the_law_is_named() -> None:
    text = words.sentence(Refused(Reason.RECIPIENT_NOT_CONNECTED, "To/OrganId", "H41.99"))
    assert "H41.99" in text
    assert "gửi văn bản giấy" in text
    assert "28/2018" in text and "7.1" in text


@pytest.mark.parametrize(
    ("package", "told"),
    [
        (b"<a><b></a>", "dòng 1, cột 9: thẻ đóng không khớp thẻ mở"),
        (b"<a>\n<b", "dòng 2, cột 1: thẻ chưa kết thúc"),
        (b"<a/>x", "dòng 1, cột 5: có nội dung thừa sau phần tử gốc"),
        (b"<a>&x;</a>", "dòng 1, cột 4: thực thể chưa khai báo"),
        (b"hello", "dòng 1, cột 1: sai cú pháp"),
        (b"<x:a/>", "dòng 1, cột 1: tiền tố chưa khai báo"),
        (b"<a \xff/>", "dòng 1, cột 4: có ký tự không hợp lệ"),
        (b"<a><b/>", "dòng 1, cột 8: không có phần tử nào, hoặc tệp bị cắt cụt"),
    ],
)
def test_broken_xml_is_told_with_its_place_in_the_clerks_language(package: bytes, told: str) -> None:
    parser = expat.ParserCreate(namespace_separator=" ")
    with pytest.raises(expat.ExpatError) as caught:
        parser.Parse(package, True)
    rule = f"line {caught.value.lineno}, column {caught.value.offset + 1}: {expat.ErrorString(caught.value.code)}"
    refused = Refused(Reason.XML_MALFORMED, rule=rule)
    assert words.sentence(refused) == f"Gói tin sai cú pháp XML ({told})."
    assert words.sentence(refused, "en") == f"The package is not well-formed XML ({rule})."


def test_what_the_parser_says_beyond_the_table_is_kept() -> None:
    assert words.sentence(Refused(Reason.XML_MALFORMED, rule="UTF-8")) == "Gói tin sai cú pháp XML (UTF-8)."


def test_a_sentence_with_nothing_to_name_is_still_a_sentence() -> None:
    for reason, lang in product(Reason, words.LANGUAGES):
        text = words.sentence(Refused(reason), lang)
        assert not re.search(r"[\[\]{}|]|“”|\(\)|  | [.,;:]", text), text


def test_a_part_that_lacks_one_of_its_fields_is_left_out_whole() -> None:
    assert words.sentence(Refused(Reason.NOT_EDXML, "", "html")) == "Tệp gửi lên không phải gói tin edXML."
    assert words.sentence(Refused(Reason.NOT_EDXML, "root", "html")) == "Tệp gửi lên không phải gói tin edXML: root là “html”."


def test_element_value_and_rule_are_all_shown_where_the_template_names_them() -> None:
    for reason, lang in product(Reason, words.LANGUAGES):
        template = words.SENTENCES[reason][words.LANGUAGES.index(lang)]
        text = words.sentence(Refused(reason, "ELEMENT-1", "VALUE-2", "RULE-3"), lang)
        for name, shown in (("element", "ELEMENT-1"), ("value", "VALUE-2"), ("rule", "RULE-3")):
            assert (f"{{{name}}}" in template) == (shown in text), (reason, lang)


def test_the_stable_code_follows_in_brackets() -> None:
    text = words.with_code(Refused(Reason.RECIPIENT_UNKNOWN, "To/OrganId", "H99"))
    assert text.startswith("Mã Bên nhận “H99” không có trong danh mục")
    assert text.endswith(" [recipient-unknown]")


def test_hidden_and_direction_changing_characters_are_written_out() -> None:
    text = words.sentence(Refused(Reason.CODE_BAD_CHARACTER, "OrganId", "H41\u202e\u200b\x1b[31m\r\n", "0-9 A-Z"))
    assert "H41<U+202E><U+200B><U+001B>[31m<U+000D><U+000A>" in text
    assert "\u202e" not in text and "\x1b" not in text and "\n" not in text


def test_a_value_that_looks_like_a_template_stays_a_value() -> None:
    text = words.sentence(Refused(Reason.RECIPIENT_UNKNOWN, "OrganId", "[{rule}|{element}]", "R"))
    assert "“[{rule}|{element}]”" in text


def test_vietnamese_letters_pass_untouched() -> None:
    assert words.visible("Ủy ban nhân dân xã Đường Hồng") == "Ủy ban nhân dân xã Đường Hồng"


@given(st.text(max_size=120), st.text(max_size=120), st.text(max_size=120), st.sampled_from(list(Reason)))
def test_no_value_whatever_brings_an_unprintable_character_into_a_sentence(
    element: str, value: str, rule: str, reason: Reason
) -> None:
    for lang in words.LANGUAGES:
        text = words.with_code(Refused(reason, element, value, rule), lang)
        assert words.visible(text) == text


def test_an_unknown_key_is_shown_as_it_is_and_an_unknown_kind_is_our_bug() -> None:
    assert words.label("transport", "teleported") == "teleported"
    with pytest.raises(KeyError):
        words.label("no-such-kind", "queued")

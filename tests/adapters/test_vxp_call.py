"""Single fields of a call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.adapters.http.vxp_call import is_doc_id, operation_name, read_agency, read_timestamp
from node.core.errors import Reason, Refused


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/vxp/sendEdoc", "sendEdoc"),
        ("/vxp//sendEdoc", "sendEdoc"),
        ("//vxp/sendEdoc//", "sendEdoc"),
        ("/vxp", ""),
        ("/vxp/", ""),
        ("/vxp/a/b", ""),
        ("", ""),
    ],
)
def test_the_operation_is_the_second_part_of_the_path(path: str, name: str) -> None:
    assert operation_name(path) == name


def test_a_timestamp_ends_in_milliseconds_not_in_a_zone() -> None:
    assert read_timestamp("01011970T070000+0000") == 0
    assert read_timestamp("22112026T093405+0770") == read_timestamp("22112026T093405+0000") + 770  # type: ignore[operator]


@pytest.mark.parametrize(
    "text",
    ["", "22112026T093405", "32112026T093405+0001", "22112026T993405+0001", "２２112026T093405+0770", "00000000T000000+0000"],
)
def test_another_timestamp_says_nothing(text: str) -> None:
    assert read_timestamp(text) is None


@given(st.text(max_size=30))
def test_no_text_breaks_the_reading_of_timestamps(text: str) -> None:
    read_timestamp(text)


def test_a_docid_is_short_printable_ascii() -> None:
    assert is_doc_id("0199c1d2-0000-7000-8000-000000000000")
    assert not is_doc_id("é") and not is_doc_id("a\n") and not is_doc_id("x" * 65)


def test_agency_fields_are_read_in_any_case_and_as_text() -> None:
    fields = read_agency('\ufeff{"CODE":" H41.08 ","name":"Sở Y tế","mobile":912345678,"fax":null,"x":[1]}'.encode())
    assert (fields["code"], fields["name"], fields["mobile"], fields["fax"]) == ("H41.08", "Sở Y tế", "912345678", "")
    assert set(fields) == {"id", "pcode", "code", "name", "mail", "mobile", "fax"}


@given(st.binary(max_size=200))
def test_any_bytes_are_an_agency_or_refused(body: bytes) -> None:
    try:
        assert read_agency(body)["code"]
    except Refused as refused:
        assert refused.reason is Reason.REQUEST_MALFORMED

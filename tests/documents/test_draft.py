"""The draft judges by path; its tables agree with each other and with what it can be told."""

from __future__ import annotations

import pytest

from node.core.errors import Reason, Refused
from node.documents import draft
from node.documents.draft import Draft, ReadLimits

LIMITS = ReadLimits(package_bytes_max=1 << 20, unpacked_bytes_max=1 << 20)


def addressed() -> Draft:
    """A draft that already has a sender and a receiver."""
    begun = Draft(LIMITS)
    for name, code in (("From", "G22"), ("To", "H41.07")):
        begun.begin_record({})
        begun.value(f"MessageHeader/{name}/OrganId", code)
        begun.end_record(f"MessageHeader/{name}")
    return begun


def test_every_path_asked_for_has_its_parents_known() -> None:
    for path in draft.VALUES | set(draft.RECORDS) | {draft.PAYLOAD, draft.FLAT_PAYLOAD}:
        parts = path.split("/")
        assert all("/".join(parts[:depth]) in draft.KNOWN for depth in range(1, len(parts) + 1)), path
    assert not draft.VALUES & set(draft.RECORDS)
    assert not {path.rpartition("/")[0] for path in draft.KNOWN} & (draft.VALUES | {draft.PAYLOAD, draft.FLAT_PAYLOAD})
    assert set(draft.SHORT.values()) <= draft.KNOWN
    assert draft.ONCE <= draft.KNOWN and draft.ONCE_IN_RECORD <= draft.VALUES


@pytest.mark.parametrize("path", sorted(draft.VALUES))
def test_every_value_that_is_asked_for_shows_in_the_package(path: str) -> None:
    begun = addressed()
    record = path.rpartition("/")[0]
    text = "15" if path.endswith("StatusCode") else "3" if path.endswith(("Priority", "BussinessDocType")) else "zzz"
    without = addressed().package()
    if record in draft.RECORDS:
        begun = Draft(LIMITS) if record.endswith("From") else begun
        begun.begin_record({})
        if record.endswith(("From", "To")) and not path.endswith("OrganId"):
            begun.value(f"{record}/OrganId", "G22")
        begun.value(path, text)
        if record == draft.ATTACHMENT:
            begun.begin_payload()
            begun.end_payload()
        begun.end_record(record)
        if record.endswith("From"):
            begun.begin_record({})
            begun.value("MessageHeader/To/OrganId", "H41.07")
            begun.end_record("MessageHeader/To")
    else:
        begun.value(path, text)
    if path.endswith("StatusCode"):
        begun.begin_record({})
        begun.value("MessageHeader/ResponseFor/OrganId", "G22")
        begun.end_record("MessageHeader/ResponseFor")
    told = begun.package()
    assert told != without
    if not record.startswith("TraceHeaderList/TraceHeader"):
        assert text in repr(told) or told.priority == 3 or told.business == 3


def test_messages_name_an_element_without_its_container() -> None:
    assert draft.shown("MessageHeader/From/OrganId") == "From/OrganId"
    assert draft.shown("TraceHeaderList/Bussiness") == "TraceHeaderList/Bussiness"


def test_oddities_are_named_once_each() -> None:
    begun = addressed()
    for _ in range(1000):
        begun.odd("namespace-other")
    assert begun.package().oddities.count("namespace-other") == 1


def test_a_second_element_of_those_that_say_who_speaks_is_refused() -> None:
    begun = Draft(LIMITS)
    begun.only_one("MessageHeader")
    with pytest.raises(Refused) as caught:
        begun.only_one("MessageHeader")
    assert (caught.value.reason, caught.value.element) == (Reason.TOO_MANY_ELEMENTS, "MessageHeader")

"""The JSON of the native face: stable codes, sentences for people, instants with +07:00, never a number of seconds since 1970."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from node.adapters.http import native_answers as answers
from node.core.errors import Deferred, Reason, Refused
from node.core.office import Given, Listed, Page, Problem, Submitted

CLOSED = Problem("H41.31", Refused(Reason.RECIPIENT_CLOSED, "To/OrganId", "H41.31", "H41.12"), "H41.12")
MS = 1_790_000_000_123


def read(answer: answers.Answer) -> Any:
    return json.loads(answers.encode(answer))


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def test_a_problem_says_what_where_and_which_rule() -> None:
    told = read(answers.problem(Refused(Reason.DIGEST_MISMATCH, "Content-Digest"), 422))
    assert told.pop("title").startswith("Mã băm SHA-256 của gói tin không khớp")
    assert told == {
        "type": "about:blank",
        "status": 422,
        "code": "digest-mismatch",
        "element": "Content-Digest",
        "value": "",
        "rule": "",
    }


def test_what_may_be_tried_later_says_when() -> None:
    assert read(answers.problem(Refused(Reason.NOT_NOW), 503, 0.2))["retry_after_s"] == 1
    assert answers.part("a", Deferred(29.5, Reason.DISK_FULL)) == {
        "ref": "a",
        "status": "later",
        "code": "disk-full",
        "retry_after_s": 30,
    }


def test_a_part_is_accepted_repeated_or_refused() -> None:
    accepted = read(answers.part("1", Submitted("doc", False, (CLOSED,))))
    assert (accepted["status"], accepted["doc_id"]) == ("accepted", "doc")
    (problem,) = accepted["problems"]
    assert (problem["written"], problem["code"], problem["successor"]) == ("H41.31", "recipient-closed", "H41.12")
    assert answers.part("2", Submitted("doc", True))["status"] == "repeated"
    refused = answers.part("3", Refused(Reason.VALUE_TOO_LONG, "Subject", "x", "500"))
    assert [refused[name] for name in ("ref", "status", "code", "element", "value", "rule")] == [
        "3",
        "refused",
        "value-too-long",
        "Subject",
        "x",
        "500",
    ]


def test_confirmations_are_told_in_order() -> None:
    told = answers.settled(["a", "b", "c"], [None, Refused(Reason.DOC_UNKNOWN, "docId", "b"), Deferred(5)])
    assert [(each["doc_id"], each["status"]) for each in told["results"]] == [("a", "ok"), ("b", "refused"), ("c", "later")]


def test_an_item_is_told_in_the_words_of_the_guide() -> None:
    line = Listed(7, "doc", "edoc", "H54.02", ("H41.05", "H41.06"), "initial", 3, 10, "ab" * 32, MS, MS)
    told = read(answers.page(Page(((line, Given.INLINE),), 7, nothing())))
    assert told["cursor"] == "7"
    assert told["items"] == [
        {
            "doc_id": "doc",
            "kind": "edoc",
            "from": "H54.02",
            "to": ["H41.05", "H41.06"],
            "state": "initial",
            "trial": False,
            "priority": 3,
            "size": 10,
            "sha256": "ab" * 32,
            "created": "2026-09-21T21:13:20.123+07:00",
            "updated": "2026-09-21T21:13:20.123+07:00",
            "content": "inline",
            "cursor": "7",
        }
    ]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_status_of_an_error(reason: Reason) -> None:
    assert answers.http_status(reason) in (400, 401, 403, 404, 413, 422, 500, 503)


def test_letters_stay_letters_and_half_a_letter_harms_nothing() -> None:
    assert answers.encode({"a": "Công văn"}) == '{"a":"Công văn"}'.encode()
    assert answers.encode({"a": "\ud800"}) == b'{"a":"?"}'

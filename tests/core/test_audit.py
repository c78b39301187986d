"""Acts and heads: what a row says of an act, and the one encoding of a head."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from node.core.audit import Act, Head, read_act, read_head, write_head
from node.core.errors import Refused
from node.core.identifier import OrgId

HEAD = Head(OrgId.canonical("H41"), 1, 7, "ab" * 32, 1_900_000_000_000, 5, "cd" * 32)


def test_an_act_says_who_why_before_and_after_and_when_it_was_done_if_that_was_before() -> None:
    now = json.loads(Act("held.drop", "out-1", "chị Hoa", "sai", "held", "dropped").detail())
    assert now == {"who": "chị Hoa", "why": "sai", "before": "held", "after": "dropped"}
    then = json.loads(Act("system.add", "so", "anh Ba", "", None, {"codes": ["H41"]}, 17, "id").detail())
    assert then == {"who": "anh Ba", "why": "", "before": None, "after": {"codes": ["H41"]}, "done_ms": 17, "id": "id"}


def test_an_act_that_somebody_else_wrote_is_read_or_refused() -> None:
    value = {"what": "system.add", "subject": "so", "who": "x" * 900, "before": None, "after": {"a": 1}, "done_ms": 5, "id": "i"}
    assert read_act(value) == Act("system.add", "so", "x" * 400, "", None, {"a": 1}, 5, "i")
    for wrong in ({}, {**value, "who": ""}, {**value, "what": 5}, {**value, "done_ms": True}, {**value, "after": "x" * 20_000}):
        with pytest.raises(Refused):
            read_act(wrong)


def test_a_head_has_one_encoding_and_any_other_is_refused() -> None:
    assert read_head(write_head(HEAD)) == HEAD
    for spoilt in (b"", write_head(HEAD) + b" ", write_head(replace(HEAD, seq=0)), write_head(HEAD).replace(b'"v":1', b'"v":2')):
        with pytest.raises(Refused):
            read_head(spoilt)
    with pytest.raises(Refused):
        read_head(b" " * 2000)

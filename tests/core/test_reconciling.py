"""Sums that cancel out where every delivery is sent once and somewhere once, and names where they do not."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from node.core.envelope import uuid7
from node.core.errors import Refused
from node.core.reconciling import (
    Answer,
    Fact,
    Span,
    Sums,
    decode_asked,
    decode_facts,
    decode_sums,
    differences,
    encode_asked,
    encode_facts,
    encode_sums,
    id_at,
    made_ms,
    sliced,
)

NOW = 1_795_392_000_000


def facts(count: int) -> list[Fact]:
    rng = random.Random(1)
    found = []
    for number in range(count):
        id_ = uuid7(NOW + number, rng)
        found.append(Fact("H41", id_, "H41", "H54.02", "sent", "H41"))
        found.append(Fact("H41", id_, "H41", "H54.02", rng.choice(["collected", "moving", "expired"]), "H54"))
    return found


def sums(of: list[Fact]) -> Sums:
    parts = sliced(((fact.event, fact.origin, fact.id, fact.sender, fact.recipient) for fact in of), Span(NOW, NOW + 100))
    return sum(parts, Sums())


def test_what_adds_up_comes_to_nothing_wherever_it_was_noted() -> None:
    every = facts(50)
    random.Random(2).shuffle(every)
    assert sums(every).even
    assert sums(every[:30]) + sums(every[30:]) == sums(every)
    assert differences(every) == []


@pytest.mark.parametrize("place", [0, 1])
def test_one_fact_that_is_missing_or_doubled_shows_and_is_named(place: int) -> None:
    every = facts(20)
    for spoilt in (every[:6] + every[6 + 1 :] if place else every[:7] + every[8:], [*every, every[6 + place]]):
        assert not sums(spoilt).even
        (found,) = differences(spoilt)
        assert (found.id, found.sender, found.recipient) == (every[6].id, "H41", "H54.02")


def test_two_errors_that_balance_in_number_show_all_the_same() -> None:
    every = facts(4)
    spoilt = [every[0], *every[2:], every[3]]
    assert sums(spoilt).balance == 0
    assert not sums(spoilt).even


def test_a_span_of_time_is_a_span_of_ids() -> None:
    rng = random.Random(3)
    for at_ms in (NOW, NOW + 1, 0):
        assert id_at(at_ms) <= uuid7(at_ms, rng) < id_at(at_ms + 1)
        assert made_ms(uuid7(at_ms, rng)) == at_ms
    for span in (Span(NOW, NOW + 7), Span(NOW, NOW + 999), Span(NOW, NOW + 12_345), Span(NOW, NOW)):
        slices = span.slices()
        assert 1 <= len(slices) <= 1_000
        assert (slices[0].from_ms, slices[-1].to_ms) == (span.from_ms, span.to_ms)
        assert all(one.to_ms == another.from_ms for one, another in pairwise(slices))
    every = facts(50)
    rows = [(fact.event, fact.origin, fact.id, fact.sender, fact.recipient) for fact in every]
    parts = sliced(rows, Span(NOW, NOW + 25_000))
    assert [each.facts for each in parts[:3]] == [50, 50, 0]
    assert Span(0, 1, ("H5",)).holds("H5", "H5.01")
    assert not Span(0, 1, ("H5",)).holds("H5", "H54")
    assert Span(0, 1).holds("H5", "")


def test_what_is_asked_and_answered_is_read_as_it_was_written_and_anything_else_is_refused() -> None:
    span = Span(1, 2, ("H41", "H41.07"))
    assert decode_asked(encode_asked(span, named=True)) == (span, True)
    answer = Answer((Sums(), Sums(1, -2, 0xFF)), ("H41",))
    assert decode_sums(encode_sums(answer)) == answer
    assert (answer + answer).parts == (Sums(), Sums(2, -4, 0))
    with pytest.raises(Refused):
        _ = answer + Answer(())
    assert decode_facts(encode_facts(facts(2))) == facts(2)
    for decode in (decode_asked, decode_sums, decode_facts):
        for data in (b"", b"[1]", b'{"facts":"x"}', b'{"from":1,"to":2,"prefixes":["07.H41"],"named":true}'):
            with pytest.raises(Refused):
                decode(data)

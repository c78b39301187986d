"""What two neighbours say of the directory: it reads back, any bytes decode or are refused, and what goes together is bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core import directory_wire
from node.core.changes import CHANGE_BYTES_MAX, Change, Head, Held, encode, held
from node.core.directory_wire import (
    AUTHORS_MAX,
    EXCHANGE_BYTES_MAX,
    Exchange,
    decode_exchange,
    encode_exchange,
    portion,
    read_since,
    since_text,
)
from node.core.errors import Refused
from node.core.identifier import CODE_CHARS_MAX, HUB, OrgId

H41 = OrgId.canonical("H41")
KEY = "0f" * 32
HAVE = {HUB: Head(1, 7), H41: Head(2, 1)}


def change(number: int, why: str = "") -> Held:
    return held(encode(Change(H41, 1, number, "" if number == 1 else KEY, 5, why)), b"\x30\x01", KEY)


SAID = Exchange(HAVE, (change(1), change(2)), {KEY: b"-----BEGIN CERTIFICATE-----\n"})


def test_what_is_said_reads_back() -> None:
    assert decode_exchange(encode_exchange(SAID)) == SAID
    text = since_text(HAVE)
    assert text == ":1.7,H41:2.1"
    assert read_since(text) == HAVE
    assert read_since("") == {}


def test_as_many_authors_as_a_node_keeps_fit_beside_a_portion_of_changes() -> None:
    longest = "9" * 16
    head = len(f'"{"X" * CODE_CHARS_MAX}":[{longest},{longest}],')
    assert AUTHORS_MAX * head + CHANGE_BYTES_MAX * 3 // 2 < EXCHANGE_BYTES_MAX
    have = {OrgId((f"H{number}", "01")): Head(1, number + 1) for number in range(30_000)}
    assert decode_exchange(encode_exchange(Exchange(have))).have == have


def test_a_line_that_is_too_long_for_a_query_is_not_made() -> None:
    assert since_text({OrgId((f"H{number}",)): Head(1, 1) for number in range(1000)}) is None


@pytest.mark.parametrize("text", ["H41", "H41:1", "H41:1.x", "h41:1.1", "H41:1.1,", "H41:1.1" * 1000])
def test_a_line_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        read_since(text)


@given(st.integers(0, 10_000), st.binary(max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_bytes_decode_or_are_refused(place: int, put: bytes) -> None:
    data = encode_exchange(SAID)
    place %= len(data)
    try:
        decode_exchange(data[:place] + put + data[place + len(put) :])
    except Refused as refused:
        assert refused.reason.startswith(("wire-", "code-"))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b"{}",
        b'{"have":[],"changes":[],"chains":{}}',
        b'{"have":{"H41":[1,0]},"changes":[],"chains":{}}',
        b'{"have":{},"changes":[],"chains":{"x":"y"}}',
        b'{"have":{},"changes":[],"chains":{"' + KEY.encode() + b'":"\xc4\x91"}}',
    ],
)
def test_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        decode_exchange(data)


def test_changes_go_together_up_to_a_size_and_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    every = [change(number) for number in range(1, 6)]
    assert portion(every, {}) == tuple(every)
    assert portion([], {}) == ()
    monkeypatch.setattr(directory_wire, "PORTION_BYTES", 2 * len(every[1].body) + 1)
    assert portion(every, {}) == tuple(every[:2])
    monkeypatch.setattr(directory_wire, "PORTION_BYTES", 1)
    assert portion(every, {}) == tuple(every[:1])


def test_what_goes_together_can_be_read_however_long_the_chains_of_its_keys_are() -> None:
    every = [replace(change(number), key=f"{number:064x}") for number in range(1, 301)]
    chains = {each.key: b"c" * directory_wire.CHAIN_CHARS_MAX for each in every}
    chosen = portion(every, chains)
    read = decode_exchange(encode_exchange(Exchange({}, chosen, {each.key: chains[each.key] for each in chosen})))
    assert read.changes == chosen
    assert len(portion([change(number) for number in range(1, 301)], {KEY: chains[every[0].key]})) == 300


def test_a_change_that_is_larger_than_any_is_refused() -> None:
    with pytest.raises(Refused):
        decode_exchange(encode_exchange(replace(SAID, changes=(replace(change(1), body=b"x" * 3_000_000),))))

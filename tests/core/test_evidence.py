"""Receipts and Merkle paths: both sides find the same leaves, one path proves one leaf, and nothing else is proven by it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.errors import Refused
from node.core.evidence import (
    PATH_MAX,
    Delivery,
    Receipt,
    Taken,
    climb,
    leaf,
    leaves,
    merkle_levels,
    merkle_path,
    merkle_root,
    read_statement,
    receipt_fields,
    receipt_of,
    write_statement,
)
from node.core.identifier import OrgId
from tests.core.drawn import CODES, NODES, UUIDS

H41, H54 = OrgId.canonical("H41"), OrgId.canonical("H54")
DIGEST = "ab" * 32
TAKEN = Taken(H54, H41, DIGEST, 3, 1_900_000_000_000, 12, "cd" * 32)
LEAVES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70, unique=True)
DELIVERIES = st.lists(st.tuples(NODES, UUIDS, CODES), min_size=1, max_size=6, unique=True)


@given(LEAVES)
def test_every_leaf_has_a_path_to_the_root_and_no_other_place_has_it(level: list[bytes]) -> None:
    root = merkle_root(level)
    for index, start in enumerate(level):
        path = merkle_path(merkle_levels(level), index)
        assert len(path) <= PATH_MAX
        assert climb(start, index, len(level), path) == root
        for other in (index ^ 1, index + 2, index - 1):
            if other != index and len(level) > 1:
                assert climb(start, other, len(level), path) != root
        assert climb(start, index, len(level), [*path, b"\0" * 32]) is None
        if path:
            assert climb(start, index, len(level), path[:-1]) is None
            assert climb(start, index, len(level), [hashlib.sha256(path[0]).digest(), *path[1:]]) != root


@given(DELIVERIES, st.randoms())
def test_both_sides_find_the_same_leaves_in_whatever_order_they_hold_them(deliveries: list[Delivery], rng: object) -> None:
    taken = [(each, DIGEST) for each in deliveries]
    shuffled = sorted(taken, key=lambda _: rng.random())  # type: ignore[attr-defined]
    assert leaves(shuffled, 7) == leaves(taken, 7)
    assert len(set(leaves(taken, 7))) == len(taken)


def test_a_leaf_speaks_of_one_delivery_one_header_and_one_instant() -> None:
    one: Delivery = (H41, "id", H54)
    others = [leaf((H54, "id", H54), DIGEST, 5), leaf((H41, "ie", H54), DIGEST, 5), leaf((H41, "id", H41), DIGEST, 5)]
    others += [leaf(one, "cd" * 32, 5), leaf(one, DIGEST, 6)]
    assert leaf(one, DIGEST, 5) not in others


def test_an_inner_hash_is_never_a_leaf() -> None:
    first, second = leaf((H41, "a", H54), DIGEST, 5), leaf((H41, "b", H54), DIGEST, 5)
    assert hashlib.sha256(b"\x00" + first + second).digest() != merkle_root([first, second])


@given(
    st.builds(
        Taken, NODES, NODES, st.just(DIGEST), st.integers(1, 1000), st.integers(0, 1 << 44), st.integers(0, 9), st.just(DIGEST)
    )
)
def test_a_statement_reads_back_what_was_written(taken: Taken) -> None:
    assert read_statement(write_statement(taken)) == taken


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"[]",
        write_statement(TAKEN).replace(b",", b", ", 1),
        write_statement(TAKEN).replace(b'"v":1', b'"v":2'),
        write_statement(replace(TAKEN, count=0)),
        write_statement(TAKEN).replace(b'"v":1', b'"v":1,"w":2'),
        write_statement(TAKEN) + b" " * 2000,
    ],
)
def test_a_statement_has_one_encoding_and_any_other_is_refused(spoilt: bytes) -> None:
    with pytest.raises(Refused):
        read_statement(spoilt)


def test_a_receipt_crosses_the_link_as_json_and_its_leaves_do_not() -> None:
    receipt = Receipt(write_statement(TAKEN), b"\x30\x01", b"-----BEGIN", b"leaves")
    assert receipt_of(receipt_fields(receipt)) == replace(receipt, leaves=b"")
    assert receipt_of(receipt_fields(replace(receipt, chain=b""))) == replace(receipt, chain=b"", leaves=b"")
    for wrong in (None, {}, {**receipt_fields(receipt), "signature": "é"}, {**receipt_fields(receipt), "more": 1}):
        with pytest.raises(Refused):
            receipt_of(wrong)

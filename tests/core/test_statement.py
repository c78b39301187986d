"""Statements: what is counted adds in any order, has one spelling, and a proof says where the parts do not make the whole."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import date

import pytest

from node.core.errors import Reason, Refused
from node.core.identifier import HUB, OrgId
from node.core.statement import (
    FLOWS,
    MEANINGS,
    ROAD_MEANINGS,
    Branch,
    Counts,
    Flow,
    HeldDays,
    Pair,
    Proof,
    Statement,
    Version,
    coverage,
    decode_statement,
    delay_counts,
    delays,
    encode_statement,
    minus,
    plus,
    statement_digest,
)
from node.core.tally import DELIVERY_BOUNDS_MS

H41, H54, G12 = OrgId(("H41",)), OrgId(("H54",)), OrgId(("G12",))
OFFICE = OrgId(("H41", "07"))
IDLE = Statement(OFFICE, date(2026, 11, 22), Version(1, 1), True, 1_790_000_000_000, 40, True, "ab" * 32, H41)
BUSY = replace(
    IDLE,
    organs={OFFICE: {"sent": 3, "sent_priority.3": 1, **delay_counts(700)}},
    pairs={Pair.of(OFFICE, H54): {"sent": 3}, Pair(HUB, H41): {"collected": 1}},
    stock={Pair(H41, H54): {"moving": 2}},
    road={"duplicates": 2},
    subtree={"sent": 3},
)


def drawn(rng: random.Random) -> Counts:
    return {rng.choice(["sent", "received", "delay.3", "held"]): rng.randrange(1, 9) for _ in range(rng.randrange(4))}


def test_counts_add_in_any_order_and_grouped_in_any_way() -> None:
    rng = random.Random(1)
    for _ in range(200):
        parts = [drawn(rng) for _ in range(6)]
        whole = plus(*parts)
        rng.shuffle(parts)
        assert plus(plus(*parts[:2]), plus(*parts[2:])) == plus(*parts) == whole
        assert plus(parts[0], minus(whole, parts[0])) == whole
        assert all(whole.values()), "zeros are left out"


def test_the_time_from_sender_to_receiver_is_a_histogram_that_adds() -> None:
    bounds = DELIVERY_BOUNDS_MS
    counts = plus(*(delay_counts(ms) for ms in (-5, bounds[0], bounds[0] + 1, bounds[-1] + 1)))
    found = delays(counts)
    assert found.counts == (2, 1, *[0] * (len(DELIVERY_BOUNDS_MS) - 2), 1)
    assert found.sum_ms == bounds[0] * 2 + bounds[-1] + 2
    assert delays({}).count == 0


def test_a_statement_is_read_as_it_was_written_and_has_one_spelling() -> None:
    for statement in (IDLE, BUSY, replace(IDLE, node=HUB, parent=None, final=False, marked=2, nodes=9)):
        data = encode_statement(statement)
        assert decode_statement(data) == statement
        again = json.dumps(json.loads(data), sort_keys=True).encode()
        assert again != data
        with pytest.raises(Refused) as refused:
            decode_statement(again)
        assert refused.value.reason is Reason.WIRE_MALFORMED
    assert encode_statement(replace(IDLE, organs={OFFICE: {"sent": 0}})) == encode_statement(IDLE)


def test_a_statement_of_an_idle_node_is_small() -> None:
    assert len(encode_statement(replace(IDLE, node=OrgId(("H41", "07", "123", "45"))))) < 500


def test_one_digit_changed_is_another_digest() -> None:
    other = replace(BUSY, organs={OFFICE: {**BUSY.organs[OFFICE], "sent": 4}})
    assert statement_digest(encode_statement(other)) != statement_digest(encode_statement(BUSY))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"sent":3', b'"sent":-3'),
        (b'"sent":3', b'"sent":true'),
        (b'"sent":3', b'"Sent":3'),
        (b'"H41.07":', b'"07.H41":'),
        (b'"H41>H54":', b'"H41":'),
        (b'"H41>H54":', b'"H41.07>H54":'),
        (b'"2026-11-22"', b'"2026-11-31"'),
        (b'"final":true', b'"final":1'),
        (b'"v":1', b'"v":2'),
        (b'"n":1', b'"n":0'),
        (b'"organs":{', b'"organs":[{'),
    ],
)
def test_what_is_no_statement_is_refused(before: bytes, after: bytes) -> None:
    data = encode_statement(BUSY)
    assert before in data
    with pytest.raises(Refused) as refused:
        decode_statement(data.replace(before, after))
    assert refused.value.reason in (Reason.WIRE_MALFORMED, Reason.CODE_BAD_GROUP, Reason.CODE_BAD_CHARACTER)


def test_any_bytes_are_a_statement_or_are_refused() -> None:
    rng = random.Random(2)
    data = bytearray(encode_statement(BUSY))
    for _ in range(500):
        spoilt = bytearray(data)
        spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        try:
            assert encode_statement(decode_statement(bytes(spoilt))) == bytes(spoilt)
        except Refused:
            pass


def test_a_restored_store_is_above_every_version_of_the_one_before() -> None:
    assert Version(2, 1) > Version(1, 999) > Version(1, 2)


def test_a_silent_unit_is_in_and_a_missing_one_is_named() -> None:
    first, today = date(2026, 11, 20), date(2026, 11, 22)
    held = {
        HUB: HeldDays(3, 2, first),
        H41: HeldDays(3, 1, date(2026, 1, 1)),
        H54: HeldDays(2, 2, first),
        OFFICE: HeldDays(1, 0, today),
    }
    found = coverage([H54, G12, H41, HUB, OFFICE], held, first=first, last=today, today=today)
    assert (found.in_, found.late, found.missing) == ((HUB, OFFICE), (H41,), (G12, H54)), "who moved here is asked since then"
    yesterday = date(2026, 11, 21)
    over = coverage(
        [HUB, H41], {HUB: HeldDays(2, 2, first), H41: HeldDays(2, 1, first)}, first=first, last=yesterday, today=today
    )
    assert (over.in_, over.late) == ((HUB,), (H41,)), "of a range that is over every day is closed"
    before = coverage([HUB, H41], {HUB: HeldDays(1, 0, today)}, first=date(2026, 1, 1), last=date(2026, 1, 31), today=today)
    assert (before.in_, before.late, before.missing) == ((), (), (H41,)), "the hub had not begun, of H41 nobody knows"
    ahead = coverage([HUB], {HUB: HeldDays(1, 0, today)}, first=today, last=date(2026, 12, 31), today=today)
    assert ahead.in_ == (HUB,), "days that have not begun are not asked for"


def test_a_proof_names_the_branch_and_the_pair_that_do_not_add_up() -> None:
    good = Flow(Pair(H41, H54), {"sent": 7, "collected": 2, "refused": 1, "expired": 1, "stopped": 1, "waiting": 1, "held": 1})
    lost = Flow(Pair(H41, G12), {"sent": 2, "collected": 1})
    assert (good.difference, lost.difference) == (0, 1)
    same, less = Branch(H41, {"sent": 2}, {"sent": 2}), Branch(H54, {"sent": 2}, {"sent": 1, "held": 1})
    assert Proof((same,), (good,)).holds
    proof = Proof((same, less), (good, lost))
    assert not proof.holds
    assert (proof.unequal, proof.unbalanced) == ((H54,), (Pair(H41, G12),))
    assert less.difference == {"sent": 1, "held": -1}


def test_every_key_has_its_meaning_in_words() -> None:
    for key, meaning in {**MEANINGS, **FLOWS, **ROAD_MEANINGS}.items():
        assert key == key.lower()
        assert len(meaning) > 10

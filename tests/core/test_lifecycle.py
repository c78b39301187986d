"""The states a delivery passes, and the order in which an office's statuses come."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.lifecycle import ENDS, StatusFlag, Transport, judge_status, may_move
from node.core.package import STATUS_CODES

ROAD = [Transport.QUEUED, Transport.MOVING, Transport.IN_MAILBOX, Transport.COLLECTED]


def test_a_delivery_may_go_the_whole_road() -> None:
    for now, then in itertools.pairwise(ROAD):
        assert may_move(now, then)


@pytest.mark.parametrize("now", [state for state in Transport if state not in ENDS])
@pytest.mark.parametrize("end", sorted(ENDS))
def test_a_delivery_may_end_from_wherever_it_is(now: Transport, end: Transport) -> None:
    """Decision 11: the ends a delivery may have."""
    assert may_move(now, end)


@pytest.mark.parametrize("end", sorted(ENDS))
@pytest.mark.parametrize("then", list(Transport))
def test_an_end_is_final_but_for_what_turns_out_to_have_been_collected(end: Transport, then: Transport) -> None:
    """A copy whose outcome was unknown may have been collected: the receiver's word wins. # QĐ 28/2018 Điều 6.3"""
    assert may_move(end, then) is (then is Transport.COLLECTED and end in (Transport.EXPIRED, Transport.REFUSED))


@pytest.mark.parametrize("state", list(Transport))
def test_no_state_moves_to_itself(state: Transport) -> None:
    assert not may_move(state, state)


def test_what_was_handed_on_may_come_back_and_what_was_held_may_go_on() -> None:
    """Decision 4: a unit moved, a route changed."""
    assert may_move(Transport.MOVING, Transport.QUEUED)
    assert may_move(Transport.IN_MAILBOX, Transport.QUEUED)
    assert may_move(Transport.HELD, Transport.QUEUED)


@given(moves=st.lists(st.sampled_from(Transport), max_size=30))
def test_whatever_is_reported_a_delivery_ends_once_or_is_found_collected(moves: list[Transport]) -> None:
    now = Transport.QUEUED
    ends = []
    for then in moves:
        if may_move(now, then):
            now = then
            if now in ENDS:
                ends.append(now)
    assert len(ends) <= 1 or ends[1:] == [Transport.COLLECTED]


# --- office statuses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "new"),
    [
        ("", "01"),
        ("", "03"),
        ("", "06"),
        ("01", "02"),
        ("", "02"),
        ("01", "03"),
        ("01", "06"),
        ("03", "04"),
        ("04", "05"),
        ("05", "06"),
        ("03", "13"),
        ("06", "13"),
        ("13", "15"),
        ("13", "16"),
        ("16", "03"),
    ],
)
def test_statuses_in_order_are_unremarkable(last: str, new: str) -> None:
    """Sơn La and VXP: 01 → 02, or 01 → 03 → 04 → 05 → 06 with steps left out; 13 at any time. # QĐ 28/2018 Điều 10.2.h"""
    assert judge_status(last, new) is StatusFlag.NONE


@pytest.mark.parametrize(
    ("last", "new"),
    [("06", "03"), ("03", "01"), ("05", "04"), ("03", "02"), ("06", "02"), ("02", "03"), ("02", "06"), ("15", "03")],
)
def test_a_status_that_steps_back_or_follows_an_end_is_out_of_order(last: str, new: str) -> None:
    assert judge_status(last, new) is StatusFlag.OUT_OF_ORDER


@pytest.mark.parametrize("code", STATUS_CODES)
def test_the_same_status_again_is_a_repeat(code: str) -> None:
    assert judge_status(code, code) is StatusFlag.REPEATED


@given(last=st.sampled_from(["", *STATUS_CODES]), new=st.sampled_from(STATUS_CODES))
def test_every_pair_of_statuses_has_a_judgement(last: str, new: str) -> None:
    """Never refused: delivered, flagged and counted. # QĐ 28/2018 Điều 6.3"""
    assert judge_status(last, new) in set(StatusFlag)

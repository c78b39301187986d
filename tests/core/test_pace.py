"""How long a piece may be: by what the last ones took, carefully, and not for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.pace import FORGET_S, LEAST_BYTES, START_BYTES, Rate

MOST = 768 * 1024
PIECE_S = 2.0
SLOW = 32_000
"""256 kbit/s."""


def after(pieces: int, bytes_per_s: float, *, latency_s: float = 0.02, rate: Rate | None = None, now_s: float = 0.0) -> Rate:
    """So many full pieces over a link that is like that."""
    rate = rate or Rate()
    for _ in range(pieces):
        size = rate.piece_bytes(MOST, piece_s=PIECE_S, now_s=now_s)
        took_s = latency_s + size / bytes_per_s
        now_s += took_s
        rate = rate.after(size, took_s, piece_s=PIECE_S, now_s=now_s)
    return rate


def piece(rate: Rate, now_s: float = 0.0) -> int:
    return rate.piece_bytes(MOST, piece_s=PIECE_S, now_s=now_s)


def test_an_unknown_link_is_begun_with_a_short_piece() -> None:
    assert piece(Rate()) == START_BYTES
    assert Rate().piece_bytes(10_000, piece_s=PIECE_S, now_s=0.0) == 10_000


def test_a_fast_link_has_full_batches_after_a_few() -> None:
    assert piece(after(5, 10_000_000)) == MOST


@given(st.floats(4_000, 300_000), st.floats(0.0, 0.3), st.integers(1, 30))
def test_no_piece_takes_much_longer_than_it_may(bytes_per_s: float, latency_s: float, pieces: int) -> None:
    """Decision 9: an urgent envelope waits for at most one."""
    rate = after(pieces, bytes_per_s, latency_s=latency_s)
    took_s = latency_s + piece(rate, rate.at_s) / bytes_per_s
    assert took_s <= max(PIECE_S * 2, latency_s + LEAST_BYTES / bytes_per_s)


@given(st.floats(16_000, 300_000))
def test_a_slow_link_is_used_well_all_the_same(bytes_per_s: float) -> None:
    """Short pieces cost round trips."""
    rate = after(20, bytes_per_s)
    assert piece(rate, rate.at_s) >= bytes_per_s * PIECE_S / 2


def test_a_link_that_becomes_slow_is_believed_at_once() -> None:
    fast = after(10, 10_000_000)
    slow = fast.after(MOST, MOST / SLOW, piece_s=PIECE_S, now_s=fast.at_s)
    assert piece(slow, slow.at_s) == pytest.approx(SLOW * PIECE_S, rel=0.01)


def test_a_link_that_becomes_fast_again_has_full_batches_after_a_few() -> None:
    slow = after(10, SLOW)
    assert piece(after(6, 10_000_000, rate=slow, now_s=slow.at_s), slow.at_s) == MOST


def test_little_pieces_of_a_quiet_day_say_nothing_of_the_link() -> None:
    """One document now and then, each as long on its way as its round trip and two syncs."""
    rate = after(10, 10_000_000)
    for number in range(100):
        rate = rate.after(2_000, 0.7, piece_s=PIECE_S, now_s=rate.at_s + number)
    assert piece(rate, rate.at_s) == MOST


def test_one_that_took_longer_than_any_may_says_something_however_short_it_was() -> None:
    rate = after(10, 10_000_000)
    assert piece(rate.after(20_000, 5.0, piece_s=PIECE_S, now_s=rate.at_s), rate.at_s) < START_BYTES


@pytest.mark.parametrize("rate", [Rate(), after(10, SLOW)])
def test_empty_answers_that_come_in_no_time_flatter_no_link(rate: Rate) -> None:
    """A day of quiet pulls must not end in a batch that fills the link for half a minute."""
    before = piece(rate, rate.at_s)
    for _ in range(100):
        rate = rate.after(25, 0.0, piece_s=PIECE_S, now_s=rate.at_s)
    assert piece(rate, rate.at_s) == before


def test_a_piece_that_was_buffered_on_the_way_flatters_a_link_only_step_by_step() -> None:
    rate = after(10, SLOW)
    before = piece(rate, rate.at_s)
    assert piece(rate.after(before, 0.0, piece_s=PIECE_S, now_s=rate.at_s), rate.at_s) <= 2 * before


def test_old_weather_is_forgotten() -> None:
    slow = after(10, 8_000)
    assert piece(slow, slow.at_s + FORGET_S) < START_BYTES
    assert piece(slow, slow.at_s + FORGET_S + 1) == START_BYTES


@pytest.mark.parametrize("rate", [Rate(), after(10, 10_000_000), after(10, 8_000)])
def test_after_a_loss_the_link_shows_anew_what_it_carries_with_ever_shorter_pieces(rate: Rate) -> None:
    sizes = []
    for _ in range(6):
        rate = rate.doubted(piece_s=PIECE_S, now_s=rate.at_s)
        sizes.append(piece(rate, rate.at_s))
    assert START_BYTES // 2 >= sizes[0] >= sizes[1] >= LEAST_BYTES
    assert sizes[-1] == LEAST_BYTES

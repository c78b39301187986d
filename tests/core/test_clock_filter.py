"""Exchanges become samples, and the truth lies within every bound that is stated, whatever clocks and lines do."""

from __future__ import annotations

import random

import pytest

from node.core.clock_filter import (
    CONFIRM_NS,
    CONFIRM_SAMPLES,
    FOLLOW_NS,
    SECOND_NS,
    ClockFilter,
    Exchange,
    Heard,
    Sample,
    allowance_ns,
    measure,
)

MS = 1_000_000
S = SECOND_NS
PPM = 250


def exchange(at_ns: int, *, off_ns: int = 0, up_ns: int = 5 * MS, down_ns: int = 5 * MS, distance_ns: int = 0) -> Exchange:
    """Mono shows the truth; the parent's clock is off."""
    came = at_ns + up_ns + off_ns
    return Exchange(at_ns, came, came + MS, at_ns + up_ns + MS + down_ns, distance_ns, 1)


def sample(at_ns: int, **more: int) -> Sample:
    found = measure(exchange(at_ns, **more), PPM)
    assert found is not None
    return found


def feed(clocks: ClockFilter, found: Sample, witness_ns: int | None = None) -> Heard:
    """witness: UTC by the host's clock; the parent's word if not said."""
    return clocks.add(found, found.at_ns + found.offset_ns if witness_ns is None else witness_ns, 1000 * MS)


def test_even_ways_give_the_exact_offset_and_half_the_round_trip() -> None:
    found = sample(0, off_ns=7 * S)
    assert abs(found.offset_ns - 7 * S) < 0.01 * MS
    assert (found.delay_ns, found.stratum) == (10 * MS, 2)
    assert 5 * MS <= found.radius_ns < 5.01 * MS


@pytest.mark.parametrize(("up_ms", "down_ms"), [(0, 10), (10, 0), (9_000, 1), (1, 9_000)])
def test_uneven_ways_mislead_by_no_more_than_the_bound(up_ms: int, down_ms: int) -> None:
    """Threats, row 24."""
    found = sample(0, up_ns=up_ms * MS, down_ns=down_ms * MS)
    assert abs(found.offset_ns) <= found.bound_ns


def test_what_cannot_have_happened_is_no_sample() -> None:
    assert measure(Exchange(10, 0, 0, 5, 0, 1), PPM) is None, "an answer before its question"
    assert measure(Exchange(0, 10 * MS, 5 * MS, 20 * MS, 0, 1), PPM) is None, "it left before it came"
    assert measure(Exchange(0, 0, 50 * MS, 20 * MS, 0, 1), PPM) is None, "it stayed there longer than it was away"


def test_the_shortest_round_trip_wins_until_it_is_too_old() -> None:
    clocks = ClockFilter(PPM)
    feed(clocks, sample(0, up_ns=MS, down_ns=MS))
    feed(clocks, sample(10 * S, up_ns=100 * MS))
    assert clocks.best is not None and clocks.best.delay_ns == 2 * MS
    feed(clocks, sample(300 * S, up_ns=20 * MS, down_ns=20 * MS))
    assert clocks.best.delay_ns == 40 * MS, "75 ms may have been drifted away meanwhile"


def test_the_bound_grows_while_nobody_answers() -> None:
    clocks = ClockFilter(PPM)
    feed(clocks, sample(0, distance_ns=S))
    day = 86_400 * S
    assert clocks.bound_ns(day) - clocks.bound_ns(11 * MS) >= allowance_ns(day - 11 * MS, PPM) - 1 >= 21 * S


def jumped(clocks: ClockFilter, by_ns: int, witness_off_ns: int) -> list[Heard]:
    """The parent jumps, and says so for as long as it takes."""
    feed(clocks, sample(0))
    found = []
    for number in range(CONFIRM_SAMPLES + 2):
        at = sample(16 * S + number * CONFIRM_NS // (CONFIRM_SAMPLES - 1), off_ns=by_ns)
        found.append(feed(clocks, at, at.at_ns + witness_off_ns))
    return found


def test_a_parent_that_jumps_is_followed_only_when_it_insists() -> None:
    clocks = ClockFilter(PPM)
    heard = jumped(clocks, 5 * S, 0)
    assert heard == [Heard.DOUBTED] * (CONFIRM_SAMPLES - 1) + [Heard.TURNED, Heard.TAKEN, Heard.TAKEN]
    assert clocks.best is not None and abs(clocks.best.offset_ns - 5 * S) < MS


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_parent_a_day_off_is_never_followed_by_itself(sign: int) -> None:
    """Threats, row 24: a step beyond the limit is an alarm."""
    clocks = ClockFilter(PPM)
    assert set(jumped(clocks, sign * 86_400 * S, 0)) == {Heard.DOUBTED}
    assert clocks.best is not None and abs(clocks.best.offset_ns) < MS
    assert 86_400 * S > FOLLOW_NS


def test_a_parent_that_comes_right_is_followed_where_the_host_agrees() -> None:
    """The node was led astray by a day; two witnesses say so."""
    assert Heard.TURNED in jumped(ClockFilter(PPM), -86_400 * S, -86_400 * S)


def test_one_strange_answer_changes_nothing() -> None:
    clocks = ClockFilter(PPM)
    feed(clocks, sample(0))
    assert feed(clocks, sample(16 * S, off_ns=3600 * S)) is Heard.DOUBTED
    assert feed(clocks, sample(32 * S)) is Heard.TAKEN
    assert not clocks.doubted


@pytest.mark.parametrize("ppm", [-200, -160, 160, 200])
def test_a_drift_shows_after_two_rounds(ppm: int) -> None:
    clocks = ClockFilter(PPM)
    for number in range(3):
        assert clocks.drift_ppm() == 0
        at = number * 64 * S
        feed(clocks, sample(at, off_ns=-at * ppm // 1_000_000, up_ns=(5 + number) * MS))
    assert 100 < clocks.drift_ppm() * (1 if ppm > 0 else -1) <= abs(ppm) + 5


def test_uneven_delays_are_no_drift() -> None:
    clocks, rng = ClockFilter(PPM), random.Random(1)
    for number in range(200):
        feed(clocks, sample(number * 16 * S, up_ns=rng.randrange(1, 200) * MS, down_ns=rng.randrange(1, 200) * MS))
        assert abs(clocks.drift_ppm()) < 100


@pytest.mark.parametrize("block", range(8))
def test_the_truth_lies_within_the_bound(block: int) -> None:
    """Clocks that drift, lines that are slow one way, parents that are as wrong as they say. # issue: 2,000 seeds"""
    for seed in range(block * 500, block * 500 + 500):
        rng = random.Random(seed)
        drift = rng.uniform(-200, 200)
        zero_ns = rng.randrange(10**18)
        clocks = ClockFilter(PPM)
        true_ns = rng.randrange(10**15)

        def mono(at_ns: int, drift: float = drift, zero_ns: int = zero_ns) -> int:
            return zero_ns + at_ns + round(at_ns * drift / 1_000_000)

        for _ in range(12):
            up, stay, down = (round(rng.lognormvariate(17, 2)) for _ in range(3))
            distance = rng.randrange(2 * S)
            came, left = (at + rng.randint(-distance, distance) for at in (true_ns + up, true_ns + up + stay))
            back = true_ns + up + stay + down
            found = measure(Exchange(mono(true_ns), came, max(came, left), mono(back), distance, 1), PPM)
            true_ns = back
            if found is not None:
                assert feed(clocks, found) is Heard.TAKEN
            for _ in range(3):
                true_ns += rng.randrange(100 * S)
                if clocks.best is not None:
                    at = mono(true_ns)
                    assert abs(at + clocks.best.offset_ns - true_ns) <= clocks.bound_ns(at), seed

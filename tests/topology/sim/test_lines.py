"""Lines: how long things take, faults that overlap, and fates that are drawn."""

from __future__ import annotations

import random

import pytest

from topology.sim.lines import HEALTHY, Fate, Line, draw


def test_calls_on_one_line_share_its_bytes_per_second() -> None:
    line = Line(latency_s=0.5, jitter=0, bytes_per_s=100)
    assert [line.begin(0, 100), line.begin(0, 100), line.begin(10, 100)] == [1.5, 2.5, 11.5]


def test_latency_wobbles_around_its_median() -> None:
    line = Line(latency_s=1, jitter=0.5)
    drawn = sorted(line.delay_s() for _ in range(1000))
    assert drawn[0] > 0.1
    assert 0.9 < drawn[500] < 1.1
    assert drawn[-1] > 2


def test_a_line_cut_twice_is_whole_again_after_both_mended_it() -> None:
    line, told = Line(), list[Line]()
    line.on_cut = told.append
    line.sever()
    line.sever()
    line.mend()
    assert (line.cut, len(told), line.cuts) == (True, 1, 1)
    line.mend()
    line.mend()
    assert not line.cut
    line.sever()
    line.sever()
    line.cut = False
    assert (line.cut, line.cuts) == (False, 2)
    line.cut = True
    assert line.cut


def test_what_a_clog_held_goes_on_in_order_when_the_last_one_ends() -> None:
    line, told = Line(), list[int]()
    line.clog()
    line.clogged = True
    line.clog()
    line.held += [lambda: told.append(1), lambda: told.append(2)]
    line.release()
    assert (line.clogged, told) == (True, [])
    line.release()
    assert (line.clogged, told, line.held) == (False, [1, 2], [])


def test_a_healthy_line_draws_nothing() -> None:
    line = Line()
    before = line.chance.getstate()
    assert draw(line) is HEALTHY
    assert line.chance.getstate() == before


@pytest.mark.parametrize(
    ("chance", "happened"),
    [
        ("p_refuse", lambda fate: fate.refuse),
        ("p_lose_request", lambda fate: fate.lose_request),
        ("p_lose_reply", lambda fate: fate.lose_reply),
        ("p_reset", lambda fate: fate.tear != "" and 0 <= fate.share < 1),
        ("p_duplicate", lambda fate: fate.later_s is not None),
        ("p_reorder", lambda fate: fate.extra_s > 0),
    ],
)
def test_each_chance_brings_its_own_mishap_and_no_other(chance: str, happened: object) -> None:
    assert callable(happened)
    line = Line()
    setattr(line, chance, 0.3)
    fates = [draw(line) for _ in range(1000)]
    assert 200 < sum(map(happened, fates)) < 400
    assert all(fate == Fate() for fate in fates if not happened(fate))


def test_one_chance_changed_shifts_no_other_draw() -> None:
    some, more = Line(p_lose_reply=0.3), Line(p_lose_reply=0.3, p_reset=0.5, p_duplicate=0.5)
    some.chance, more.chance = random.Random(7), random.Random(7)
    assert [draw(some).lose_reply for _ in range(200)] == [draw(more).lose_reply for _ in range(200)]


def test_repetitions_come_at_once_and_hours_later_and_resets_in_both_directions() -> None:
    line = Line(p_duplicate=1, p_reset=1)
    fates = [draw(line) for _ in range(300)]
    delays = [fate.later_s or 0.0 for fate in fates]
    assert sum(delay < 1 for delay in delays) > 100
    assert max(delays) > 3 * 3600
    assert {fate.tear for fate in fates} == {"request", "reply"}


def test_a_calm_line_has_no_mishaps() -> None:
    line = Line(p_refuse=1, p_lose_request=1, p_lose_reply=1, p_reset=1, p_duplicate=1, p_reorder=1, latency_s=3)
    line.calm()
    assert (draw(line), line.latency_s) == (HEALTHY, 3)

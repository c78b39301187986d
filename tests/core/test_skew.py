"""What the instants that office systems send show of their clocks."""

from __future__ import annotations

from node.core.skew import WINDOW_MS, Skews

NOW_MS = 500_000 * WINDOW_MS


def test_the_shortest_way_is_the_best_estimate() -> None:
    skews = Skews()
    for late_ms in (400, 30, 90):
        skews.note("a", NOW_MS + 5000 - late_ms, NOW_MS, fresh=True)
    found = skews.of("a", NOW_MS)
    assert found is not None
    assert (found.ahead_ms, found.samples, found.off) == (4970, 3, False)


def test_an_instant_that_may_be_old_shows_only_a_clock_ahead() -> None:
    skews = Skews()
    skews.note("a", NOW_MS - 86_400_000, NOW_MS, fresh=False)
    assert skews.of("a", NOW_MS) is None
    skews.note("a", NOW_MS + 20_000, NOW_MS, fresh=False)
    found = skews.every(NOW_MS)["a"]
    assert found.ahead_ms == 20_000 and found.off


def test_a_clock_that_was_mended_is_forgotten_after_two_windows() -> None:
    skews = Skews()
    skews.note("a", NOW_MS + 90_000, NOW_MS, fresh=True)
    skews.note("a", NOW_MS + WINDOW_MS - 1, NOW_MS + WINDOW_MS, fresh=True)
    still = skews.of("a", NOW_MS + WINDOW_MS)
    assert still is not None and still.ahead_ms == 90_000
    skews.note("a", NOW_MS + 2 * WINDOW_MS - 1, NOW_MS + 2 * WINDOW_MS, fresh=True)
    mended = skews.of("a", NOW_MS + 2 * WINDOW_MS)
    assert mended is not None and mended.ahead_ms == -1
    assert skews.every(NOW_MS + 9 * WINDOW_MS) == {}

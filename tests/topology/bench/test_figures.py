"""The arithmetic: spreads over runs, percentiles, noise, digits that mean something."""

from __future__ import annotations

import pytest

from topology.bench.figures import latencies, neat, noise, percentile, spread, spreads


def test_a_spread_is_least_middle_and_greatest() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"min": 1.0, "median": 2.0, "max": 3.0}
    assert spread([4.0, 1.0]) == {"min": 1.0, "median": 2.5, "max": 4.0}
    assert spread([7.0]) == {"min": 7.0, "median": 7.0, "max": 7.0}


def test_each_figure_is_spread_over_all_runs() -> None:
    assert spreads([{"a": 1.0, "b": 5.0}, {"a": 3.0, "b": 5.0}]) == {
        "a": {"min": 1.0, "median": 2.0, "max": 3.0},
        "b": {"min": 5.0, "median": 5.0, "max": 5.0},
    }


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert percentile([float(each) for each in range(100, 0, -1)], percent) == value


def test_of_few_values_the_99th_percentile_is_the_greatest() -> None:
    assert percentile([1.0, 9.0, 2.0], 99) == 9.0
    assert percentile([1.0], 50) == 1.0


def test_waits_are_told_in_milliseconds() -> None:
    assert latencies([0.010, 0.030, 0.020]) == {"p50_ms": 20.0, "p99_ms": 30.0, "max_ms": 30.0}


def test_noise_is_the_worse_of_before_and_after_against_the_best() -> None:
    assert noise(0.05, 0.05, 0.05) == 1.0
    assert noise(0.05, 0.06, 0.05) == 1.2
    assert noise(0.1, 0.05, 0.05) == 2.0


@pytest.mark.parametrize(("value", "told"), [(0, 0.0), (12345.678, 12346.0), (123.4, 123.0), (1.2345, 1.23), (0.012345, 0.0123)])
def test_three_digits_are_told_and_no_whole_number_is_cut(value: float, told: float) -> None:
    assert neat(value) == told
    assert isinstance(neat(value), float)

"""Clocks that are off, drift and step, and what a node makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from topology.sim.clocks import DRIFT_MAX_PPM, EPOCH_MS, SimClock, WrongClock
from topology.sim.loop import SimLoop

DAY_S = 86_400


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    made = SimLoop()
    yield made
    made.close()


def later(loop: SimLoop, seconds: float) -> None:
    loop.run_until_complete(asyncio.sleep(seconds))


def test_virtual_time_begins_on_a_monday_at_seven_in_hanoi(loop: SimLoop) -> None:
    assert datetime.fromtimestamp(EPOCH_MS / 1000, UTC) == datetime(2026, 11, 23, 0, 0, tzinfo=UTC)
    assert datetime.fromtimestamp(EPOCH_MS / 1000, UTC).weekday() == 0
    clock = SimClock(WrongClock(loop), 250)
    assert (clock.utc_ms(), clock.bound_ms(), clock.synchronised()) == (EPOCH_MS, 250, True)
    later(loop, 1.5)
    assert clock.utc_ms() == EPOCH_MS + 1500


def test_a_clock_that_is_off_stays_off_and_its_monotonic_clock_is_not(loop: SimLoop) -> None:
    machine = WrongClock(loop, offset_s=-2 * DAY_S)
    later(loop, 10)
    assert machine.wall_ns() // 1_000_000 == EPOCH_MS - 2 * DAY_S * 1000 + 10_000
    assert machine.mono_ns() == 10_000_000_000


def test_a_drift_of_200_ppm_is_17_seconds_in_a_day_and_ends_without_a_jump(loop: SimLoop) -> None:
    machine = WrongClock(loop, drift_ppm=200)
    later(loop, DAY_S)
    ahead_ns = machine.mono_ns() - DAY_S * 1_000_000_000
    assert ahead_ns == 17_280_000_000
    machine.drift(0)
    assert machine.mono_ns() - DAY_S * 1_000_000_000 == ahead_ns
    later(loop, DAY_S)
    assert machine.mono_ns() - 2 * DAY_S * 1_000_000_000 == ahead_ns
    assert machine.wall_ns() == EPOCH_MS * 1_000_000 + machine.mono_ns()


def test_a_step_moves_the_wall_clock_alone(loop: SimLoop) -> None:
    machine = WrongClock(loop)
    later(loop, 1)
    machine.step(-3600)
    assert machine.wall_ns() == EPOCH_MS * 1_000_000 - 3_599_000_000_000
    assert machine.mono_ns() == 1_000_000_000


def test_a_node_whose_host_is_set_back_goes_on_at_half_speed(loop: SimLoop) -> None:
    machine = WrongClock(loop)
    clock = SimClock(machine, 1000)
    later(loop, 100)
    first = clock.utc_ms()
    machine.step(-3600)
    later(loop, 60)
    assert clock.utc_ms() == first + 30_000
    later(loop, 2 * 3600)
    assert clock.utc_ms() == machine.wall_ns() // 1_000_000


def test_a_clock_that_would_run_backwards_is_no_clock(loop: SimLoop) -> None:
    with pytest.raises(ValueError, match="no clock drifts"):
        WrongClock(loop, drift_ppm=-DRIFT_MAX_PPM * 2)

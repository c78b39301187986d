"""The judge of the time: it passes what is within its bound, and says what is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from topology.sim.clocks import EPOCH_MS, WrongClock
from topology.sim.loop import SimLoop
from topology.sim.times import BACK_MAX_MS, Reference, TimeJudge

BOUND_MS = 10
FLOOR_MS = EPOCH_MS - 5_000


class Stage:
    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.hub = WrongClock(loop)
        self.said: list[str] = []
        self.judge = TimeJudge("h41", Reference(loop, self.hub, BOUND_MS), FLOOR_MS, self.said.append)

    def look(self, ahead_ms: int = 0, bound_ms: int = BOUND_MS, *, sure: bool = True) -> list[str]:
        self.judge.look(EPOCH_MS + round(self.loop.time() * 1000) + ahead_ms, bound_ms, sure)
        said, self.said[:] = list(self.said), []
        return said

    def passes(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


@pytest.fixture
def stage() -> Iterator[Stage]:
    loop = SimLoop()
    yield Stage(loop)
    loop.close()


def test_a_time_within_its_bound_is_well(stage: Stage) -> None:
    assert stage.look(-10) == stage.look(10) == stage.look(5_000, 5_000) == []


@pytest.mark.parametrize("ahead_ms", [-12, 12])
def test_a_time_beyond_its_bound_is_told(stage: Stage, ahead_ms: int) -> None:
    assert stage.look(ahead_ms) == ["h41: its time is off by more than it says"]


def test_a_time_nobody_vouches_for_may_be_anything_but_run_back(stage: Stage) -> None:
    assert stage.look(86_400_000, sure=False) == []
    assert stage.look(86_399_999, sure=False) == ["h41: its time ran backwards"]
    assert stage.look() == [], "what nobody vouched for binds nobody"
    assert stage.look(-7_000, sure=False) == []
    assert stage.look(-1) == ["h41: its time ran backwards"], "what was vouched for binds, whatever came between"


def test_a_time_before_the_last_that_was_stored_is_told(stage: Stage) -> None:
    assert stage.look(-5_001, 6_000) == [f"h41: {FLOOR_MS - 1} ms after a restart, and {FLOOR_MS} ms was vouched for before it"]
    assert stage.look(-5_001 - BACK_MAX_MS, BACK_MAX_MS * 2) == ["h41: its time ran backwards"]


def test_once_the_hubs_host_was_off_nothing_more_is_said_of_bounds(stage: Stage) -> None:
    stage.hub.step(0.5)
    assert stage.look(500) == []
    stage.hub.step(-0.5)
    stage.passes(10)
    assert stage.look(500) == []
    assert stage.look(400) == ["h41: its time ran backwards"]

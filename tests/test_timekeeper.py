"""The duty that keeps the time: it asks, feeds the clock, and says in the log what is wrong, each change once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from node.adapters.clock import MS_NS, HostClock
from node.core.errors import Deferred, Reason, Refused
from node.core.tally import Tally
from node.core.timekeeping import BURST_ROUNDS, Policy, State
from node.core.wire import ClockAnswer
from node.timekeeper import EXCHANGES, Timekeeper
from topology.sim.clocks import EPOCH_MS, WrongClock
from topology.sim.loop import SimLoop

HOUR_S = 3_600.0


class Parent:
    """The link to a parent whose time is right, but for what is put here; each exchange takes 4 ms."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.off_us = 0
        self.failure: Exception | None = None
        self.synchronised = True
        self.asked = 0

    async def clock(self, t1_us: int) -> ClockAnswer:
        self.asked += 1
        await asyncio.sleep(0.002)
        now_us = EPOCH_MS * 1000 + round(self.loop.time() * 1e6) + self.off_us
        if self.failure is not None:
            raise self.failure
        await asyncio.sleep(0.002)
        return ClockAnswer(t1_us, now_us, now_us, 1, 1000, self.synchronised)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the timekeeper asks for the time, not for {name}")


class Stage:
    def __init__(self, loop: SimLoop, *, hub: bool = False) -> None:
        self.loop = loop
        self.host = WrongClock(loop)
        self.clock = HostClock(1000, self.host.wall_ns, self.host.mono_ns, kept=not hub, policy=Policy(1000 * MS_NS))
        self.parent = Parent(loop)
        self.tally = Tally()
        self.keeper = Timekeeper(self.clock, None if hub else self.parent, self.tally, random.Random(1))

    def error_ms(self) -> float:
        return self.clock.utc_ms() - EPOCH_MS - self.loop.time() * 1000

    def alarms(self) -> list[str]:
        return [alarm.value for alarm, _ in self.clock.reading().alarms]


def play(story: Callable[[Stage], Awaitable[None]], *, hub: bool = False, off_s: float = 0.0) -> list[dict[str, Any]]:
    """Returns what the keeper logged."""
    loop = SimLoop()

    async def whole() -> None:
        stage = Stage(loop, hub=hub)
        stage.host.step(off_s)
        running = asyncio.create_task(stage.keeper.run())
        await stage.keeper.first(2.0)
        await story(stage)
        running.cancel()

    with capture_logs() as logs:
        loop.run_until_complete(whole())
    loop.close()
    return [dict(entry) for entry in logs]


def test_the_time_is_right_before_the_doors_open() -> None:
    async def story(stage: Stage) -> None:
        assert stage.loop.time() < 0.1
        assert abs(stage.error_ms()) < 5
        assert stage.clock.synchronised()
        assert stage.alarms() == ["clock-skew"]

    logs = play(story, off_s=-86_400.0)
    assert [(each["event"], each.get("reason")) for each in logs[:1]] == [("clock alarm", "clock-skew")]
    assert logs[0]["value"].startswith("-86400.")


def test_doors_open_though_nobody_tells_the_time() -> None:
    loop = SimLoop()

    async def whole() -> None:
        stage = Stage(loop)
        stage.parent.clock = asyncio.Event().wait  # type: ignore[assignment, method-assign]
        running = asyncio.create_task(stage.keeper.run())
        await stage.keeper.first(2.0)
        assert loop.time() == pytest.approx(2.0)
        running.cancel()

    loop.run_until_complete(whole())
    loop.close()


def test_it_asks_seldom_when_all_is_well_and_says_each_change_once() -> None:
    async def story(stage: Stage) -> None:
        await asyncio.sleep(6 * HOUR_S)
        rounds = stage.parent.asked / EXCHANGES
        assert BURST_ROUNDS + 6 * HOUR_S / 290 < rounds < BURST_ROUNDS + 6 + 6 * HOUR_S / 225
        assert stage.tally.value("truc_clock_exchanges_total", result="answered") == stage.parent.asked

    assert [each["event"] for each in play(story)] == ["clock state"]


def test_a_host_that_is_set_is_asked_about_at_once() -> None:
    async def story(stage: Stage) -> None:
        await asyncio.sleep(HOUR_S)
        asked = stage.parent.asked
        stage.host.step(-7_200.0)
        stage.clock.utc_ms()
        assert not stage.clock.synchronised()
        await asyncio.sleep(0.1)
        assert (stage.parent.asked, stage.clock.synchronised()) == (asked + EXCHANGES, True)
        assert abs(stage.error_ms()) < 10
        assert stage.alarms() == ["clock-step", "clock-zone"]

    assert [each.get("reason") for each in play(story) if each["event"] == "clock alarm"] == ["clock-step", "clock-zone"]


def test_a_silent_parent_is_told_of_and_found_again() -> None:
    async def story(stage: Stage) -> None:
        stage.parent.failure = Deferred(1.0)
        await asyncio.sleep(HOUR_S)
        assert (stage.clock.reading().state, stage.alarms()) == (State.HOLDOVER, ["clock-parent-silent"])
        stage.parent.failure = None
        await asyncio.sleep(20.0)
        assert (stage.clock.reading().state, stage.alarms()) == (State.SYNCHRONISED, [])

    events = [(each["event"], each.get("reason", each.get("state"))) for each in play(story) if each["log_level"] != "debug"]
    assert events == [
        ("clock state", "synchronised"),
        ("clock alarm", "clock-parent-silent"),
        ("clock state", "holdover"),
        ("clock alarm over", "clock-parent-silent"),
        ("clock state", "synchronised"),
    ]


def test_a_parent_of_an_older_version_is_a_warning_by_name() -> None:
    """The host's clock within its stated bound, as before."""
    loop = SimLoop()

    async def whole() -> None:
        stage = Stage(loop)
        stage.parent.failure = Deferred(1.0)
        running = asyncio.create_task(stage.keeper.run())
        await stage.keeper.first(2.0)
        assert stage.alarms() == ["clock-unsynchronised"]
        stage.parent.failure = Refused(Reason.OPERATION_UNKNOWN, "clock")
        await asyncio.sleep(20.0)
        assert (stage.clock.reading().state, stage.alarms()) == (State.HOST, ["clock-parent-old"])
        assert (stage.clock.bound_ms(), stage.clock.synchronised()) == (1000, True)
        stage.parent.failure = None
        await asyncio.sleep(300.0)
        assert (stage.clock.reading().state, stage.alarms()) == (State.SYNCHRONISED, [])
        running.cancel()

    loop.run_until_complete(whole())
    loop.close()


def test_a_parent_that_is_not_sure_itself_is_named() -> None:
    async def story(stage: Stage) -> None:
        stage.parent.synchronised = False
        await asyncio.sleep(HOUR_S)
        assert stage.alarms() == ["clock-parent-wrong"]
        assert stage.clock.synchronised(), "held over"

    play(story)


def test_a_hub_asks_nobody_and_notices_that_its_reference_was_set() -> None:
    async def story(stage: Stage) -> None:
        await asyncio.sleep(HOUR_S)
        stage.host.step(600.0)
        await asyncio.sleep(300.0)
        assert stage.parent.asked == 0
        assert stage.alarms() == ["clock-step", "clock-unsynchronised"]

    logs = play(story, hub=True)
    assert [each.get("reason") for each in logs if each["event"] == "clock alarm"] == ["clock-step", "clock-unsynchronised"]

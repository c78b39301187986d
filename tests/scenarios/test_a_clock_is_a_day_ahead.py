"""The clock of a province's host is a day ahead, and is then put right: its node has the hub's time, documents pass all the time,
and none waits a day."""

from __future__ import annotations

import pytest

from tests.scenarios.story import ANSWERING, DAY_S, HOUR_S, MINUTE_S, Story, country, tell
from topology.sim.clocks import EPOCH_MS

TREE = country({"H41": ["H41.07"], "H54": []})


@pytest.mark.parametrize("again", ["goes on", "restart", "power cut"])
def test_a_clock_is_a_day_ahead(again: str) -> None:
    async def tale(story: Story) -> None:
        story.machine("h41").clock.step(DAY_S)
        through = [story.send("H41.07", "H54"), story.send("H54", "H41.07"), story.send("G22", "H41.07")]
        await story.until(lambda: all(letter.arrived() for letter in through), 5 * MINUTE_S)
        run = story.machine("h41").run
        assert run is not None
        assert "clock-step" in (await run.desk.status())["clock"]["alarms"]
        true_ms = EPOCH_MS + story.now_s * 1000
        assert abs(run.ground.clock.utc_ms() - true_ms) <= run.ground.clock.bound_ms() < MINUTE_S * 1000
        story.cut("h41", "hub")
        waiting = [await story.sent("H41.07", "G22"), await story.sent("H54", "H41.07")]
        await story.passes(MINUTE_S)
        story.machine("h41").clock.step(-DAY_S)
        if again == "restart":
            story.restart("h41")
        elif again == "power cut":
            story.power_cut("h41", 20.0)
        await story.passes(MINUTE_S)
        story.mend("h41", "hub")
        await story.until(lambda: all(letter.arrived() for letter in waiting), 5 * MINUTE_S)
        await story.settled(HOUR_S)
        assert {letter.office_status(to.code) for letter in (*through, *waiting) for to in letter.sent.package.to} == {"03"}

    tell(tale, TREE, ANSWERING)

"""The hub answers rubbish for a day: below it work goes on, what has to pass it waits, nobody takes rubbish for an answer."""

from __future__ import annotations

from dataclasses import replace

from tests.scenarios.story import DAY_S, MINUTE_S, ORDERLY, Story, country, told

TREE = country(
    {"H41": ["H41.07"], "H54": []}, {"link": {"pull_wait_s": 60.0, "probe_max_s": 15.0}, "retention": {"sweep_s": 600.0}}
)


@told(TREE, replace(ORDERLY, poll_s=10 * MINUTE_S, retry_max_s=10 * MINUTE_S))
async def test_a_neighbour_answers_rubbish_for_a_day(story: Story) -> None:
    before = await story.sent("H54", "H41.07")
    await story.until(before.arrived, 20 * MINUTE_S)
    story.misbehaves("hub", "rubbish")
    across = [story.send("H41.07", "H54", "G22"), story.send("H54", "H41.07")]
    inside = story.send("H41.07", "H41")
    at_the_hub = story.send("G22", "H54")
    await story.passes(20 * MINUTE_S)
    assert all(letter.taken for letter in (*across, inside))
    assert inside.arrived()
    assert not at_the_hub.sent.ended, "a page of a proxy is no answer to an office either"
    await story.passes(DAY_S)
    assert not any(letter.seen() for letter in across)
    for name in ("h41", "h54"):
        status = await story.status(name)
        assert "parent-down" in {found["code"] for found in status["problems"]}
        assert status["held"] == 0, "what waits for a neighbour that is not itself needs no person"
    story.misbehaves("hub", "")
    await story.until(lambda: all(letter.arrived() for letter in (*across, at_the_hub)), 45 * MINUTE_S)
    await story.settled()

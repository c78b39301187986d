"""A province is cut off for 72 hours with 10,000 documents waiting on both sides of the cut. Inside it, work goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.core.package import Priority
from tests.scenarios.story import DAY_S, HOUR_S, MINUTE_S, ORDERLY, Story, country, told

RECEIVERS = 50
HERE = [f"H41.{number}" for number in range(20, 20 + RECEIVERS)]
THERE = [f"G22.{number}" for number in range(20, 20 + RECEIVERS)]
"""Organs whose superior's office receives for them: a circular goes to all of them."""
TREE = country(
    {"H41": ["H41.07"]},
    {
        "link": {"pull_wait_s": 60.0, "probe_max_s": 15.0},
        "retention": {"sweep_s": 600.0},
        "report": {"every_s": 60.0},
        "clock": {"poll_min_s": 256.0, "poll_max_s": 1024.0},
    },
    without_system=[*HERE, *THERE],
)
WAITING = 10_000
CIRCULARS = WAITING // (2 * RECEIVERS)


@pytest.mark.timeout(300)
@told(TREE, replace(ORDERLY, poll_s=3 * HOUR_S))
async def test_a_province_is_cut_off_for_72_hours(story: Story) -> None:
    story.cut("h41", "hub")
    began_s = story.now_s
    waiting = []
    for _ in range(CIRCULARS):
        waiting += [story.send("H41", *THERE), story.send("G22", *HERE)]
        await story.passes(30 * MINUTE_S)
    assert all(letter.taken for letter in waiting), "an office is answered, whether or not its province is cut off"
    for name in ("h41", "hub"):
        assert story.rows(name, "SELECT count(*) FROM outbox") == [(WAITING // 2,)]
    assert "parent-down" in {found["code"] for found in (await story.status("h41"))["problems"]}
    inside = await story.sent("H41.07", "H41")
    urgent = await story.sent("H41.07", "G22", priority=Priority.EXPRESS)
    await story.passes(began_s + 3 * DAY_S - story.now_s)
    assert inside.arrived()
    assert not any(letter.seen() for letter in (*waiting, urgent))

    story.mend("h41", "hub")
    await story.until(lambda: not story.rows("h41", "SELECT 1 FROM outbox"), 5 * MINUTE_S)
    (urgent_at,), *others = story.rows(
        "hub", f"SELECT taken_ms FROM envelope WHERE came_from='H41' ORDER BY doc_id<>'{urgent.doc_id}', taken_ms"
    )
    earlier = sum(taken_at < urgent_at for (taken_at,) in others)
    assert earlier <= 1, "the urgent one was sent last, and only the row that found the link again went before it"
    await story.settled(12 * HOUR_S)
    assert all(letter.arrived() for letter in (*waiting, urgent))
    assert {letter.state(to.code) for letter in waiting for to in letter.sent.package.to} == {"collected"}

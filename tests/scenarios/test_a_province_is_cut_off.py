"""A province is cut off for 72 hours with 10,000 documents waiting on both sides of the cut. Inside it, work goes on."""

from __future__ import annotations

from dataclasses import replace

from node.core.package import Priority
from tests.scenarios.story import DAY_S, HOUR_S, MINUTE_S, ORDERLY, Story, country, told

SEATS = 25
HERE = [f"H41.07.{number:02}" for number in range(1, SEATS + 1)]
THERE = [f"H54.{number:02}" for number in range(1, SEATS + 1)]
"""Organs whose superior's office receives for them: a circular goes to all of them."""
TREE = country(
    {"H41": ["H41.07"], "H54": []},
    {"link": {"pull_wait_s": 60.0, "probe_max_s": 15.0}, "retention": {"sweep_s": 600.0}},
    without_system=[*HERE, *THERE],
)
WAITING = 10_000
CIRCULARS = WAITING // (2 * SEATS)


@told(TREE, replace(ORDERLY, poll_s=3 * HOUR_S))
async def test_a_province_is_cut_off_for_72_hours(story: Story) -> None:
    story.cut("h41", "hub")
    began_s = story.now_s
    waiting = []
    for _ in range(CIRCULARS):
        waiting += [story.send("H41.07", *THERE), story.send("H54", *HERE)]
        await story.passes(15 * MINUTE_S)
    await story.until(lambda: all(letter.taken for letter in waiting), MINUTE_S)
    for name in ("h41", "hub"):
        assert story.rows(name, "SELECT count(*) FROM outbox") == [(WAITING // 2,)]
    assert "parent-down" in {found["code"] for found in (await story.status("h41"))["problems"]}
    inside = await story.sent("H41.07", "H41")
    urgent = await story.sent("H41.07", "G22", priority=Priority.EXPRESS)
    await story.passes(began_s + 3 * DAY_S - story.now_s)
    assert inside.arrived()
    assert not any(letter.seen() for letter in (*waiting, urgent))

    story.mend("h41", "hub")
    await story.until(lambda: not story.rows("h41", "SELECT 1 FROM outbox"), 10 * MINUTE_S)
    before_it = (
        "SELECT count(*) FROM envelope WHERE taken_ms < (SELECT taken_ms FROM envelope WHERE doc_id='{}') AND sender='H41.07'"
    )
    assert story.rows("hub", before_it.format(urgent.doc_id)) == [(0,)], "the urgent one was sent last and goes first"
    await story.settled(12 * HOUR_S)
    assert all(letter.arrived() for letter in (*waiting, urgent))
    assert {letter.state(to.code) for letter in waiting for to in letter.sent.package.to} == {"collected"}

"""A province is cut off for 72 hours with 10,000 documents waiting on both sides of the cut. Inside it, work goes on."""

from __future__ import annotations

from node.core.package import Priority
from tests.scenarios.story import DAY_S, HOUR_S, MINUTE_S, ORDERLY, Letter, Story, country, told, replace

UNITS = [f"H41.{number:02}" for number in range(1, 6)]
OTHERS = ["H54", "H26", "H58", "H29", "G22"]
SLOW = {"link": {"pull_wait_s": 60.0}, "retention": {"sweep_s": 600.0}}
TREE = country({"H41": UNITS, "H54": [], "H26": [], "H58": [], "H29": []}, SLOW)
RARELY = replace(ORDERLY, poll_s=3 * HOUR_S, senders=4)
WAITING = 10_000
ROUNDS = 40


def _round(story: Story, each: int) -> list[Letter]:
    """Every unit of the province writes to everybody outside, and everybody outside to every unit."""
    out = [story.send(unit, *OTHERS) for unit in UNITS for _ in range(each)]
    return out + [story.send(other, *UNITS) for other in OTHERS for _ in range(each)]


@told(TREE, RARELY)
async def test_a_province_is_cut_off_for_72_hours(story: Story) -> None:
    story.cut("h41", "hub")
    began_s = story.now_s
    waiting: list[Letter] = []
    each = WAITING // (ROUNDS * 2 * len(UNITS) * len(OTHERS))
    for _ in range(ROUNDS):
        waiting += _round(story, each)
        await story.passes(30 * MINUTE_S)
    inside = await story.sent("H41.01", "H41.02", "H41")
    urgent = await story.sent("H41.03", "G22", priority=Priority.IMMEDIATE)
    await story.passes(began_s + 3 * DAY_S - story.now_s)

    assert all(letter.taken for letter in waiting), "an office is answered whether or not its province is cut off"
    assert inside.arrived()
    assert not any(letter.arrived_in(organ) for letter in (*waiting, urgent) for organ in letter.outside())

    story.mend("h41", "hub")
    mended_s = story.now_s
    await story.settled(8 * HOUR_S)
    assert all(letter.arrived() for letter in (*waiting, urgent))

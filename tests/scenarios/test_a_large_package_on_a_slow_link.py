"""A package of 20 MB creeps up a line of 256 kbit/s when an urgent document comes: it does not wait for the large one."""

from __future__ import annotations

from node.core.package import Priority
from tests.scenarios.story import HOUR_S, MINUTE_S, Story, country, told

TREE = country({"H41": ["H41.07"], "H54": []})
BYTES_PER_S = 256_000 / 8
LARGE = 20_000_000


@told(TREE)
async def test_an_urgent_document_passes_a_large_one(story: Story) -> None:
    story.set_lines("h41.07", "h41", bytes_per_s=BYTES_PER_S)
    large = await story.sent("H41.07", "H54", size=LARGE)
    await story.passes(2 * MINUTE_S)
    assert not large.seen()
    urgent = await story.sent("H41.07", "H54", priority=Priority.EXPRESS)
    plain = await story.sent("H41.07", "H54")
    down = await story.sent("H54", "H41.07")
    await story.until(lambda: urgent.arrived() and plain.arrived() and down.arrived(), 2 * MINUTE_S)
    assert not large.seen()
    story.cut("h41.07", "h41")
    await story.passes(MINUTE_S)
    story.mend("h41.07", "h41")
    await story.until(large.arrived, HOUR_S)
    needed_s = LARGE / BYTES_PER_S
    assert large.arrived_s("H54") - large.taken_s < 1.5 * needed_s + 2 * MINUTE_S, "what has crossed before the cut crosses once"
    await story.settled()

"""For an hour every link of the tree is cut and mended again and again, and work goes on all the same."""

from __future__ import annotations

import asyncio
import random

from tests.scenarios.story import ANSWERING, HOUR_S, MINUTE_S, Story, country, told

TREE = country({"H41": ["H41.07", "H41.09"], "H54": ["H54.02"]})
OFFICES = ["G22", "H41", "H41.07", "H41.09", "H54", "H54.02"]


async def _flaps(story: Story, child: str, parent: str) -> None:
    rng = random.Random(child)
    while True:
        story.cut(child, parent)
        await asyncio.sleep(rng.uniform(1.0, 40.0))
        story.mend(child, parent)
        await asyncio.sleep(rng.uniform(1.0, 40.0))


@told(TREE, ANSWERING)
async def test_every_link_flaps(story: Story) -> None:
    flapping = [asyncio.create_task(_flaps(story, child, parent)) for child, parent in story.links()]
    letters = []
    for turn in range(60):
        sender = OFFICES[turn % len(OFFICES)]
        letters.append(story.send(sender, *[other for other in OFFICES if other != sender][turn % 4 : turn % 4 + 2]))
        await story.passes(MINUTE_S)
    early = letters[:50]
    assert all(letter.arrived() for letter in early), "they come through between two cuts, not after the last one"
    for task in flapping:
        task.cancel()
    await asyncio.gather(*flapping, return_exceptions=True)
    for child, parent in story.broken():
        story.mend(child, parent)
    await story.settled(HOUR_S)
    assert {letter.office_status(to.code) for letter in letters for to in letter.sent.package.to} == {"03"}

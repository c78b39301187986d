"""Monday, eight o'clock: everybody sends at once, and the hub goes down three times in the middle of it."""

from __future__ import annotations

import pytest

from tests.scenarios.story import MINUTE_S, Story, country, tell

TREE = country({province: [f"{province}.07"] for province in ("H41", "H54", "H26")})
OFFICES = ["H41", "H41.07", "H54", "H54.07", "H26", "H26.07"]
AWAY_S = 25.0


@pytest.mark.parametrize("how", ["power cut", "restart"])
def test_the_hub_restarts_in_the_morning_rush(how: str) -> None:
    async def tale(story: Story) -> None:
        letters = []
        began_s = story.now_s
        for second in range(120):
            sender = OFFICES[second % len(OFFICES)]
            letters.append(story.send(sender, OFFICES[(second + 2) % len(OFFICES)], "G22"))
            if second in (20, 70, 110):
                story.power_cut("hub", AWAY_S) if how == "power cut" else story.restart("hub")
                await story.until(lambda: not story.up("hub"), MINUTE_S)
            await story.passes(1.0)
        await story.until(lambda: all(letter.taken for letter in letters), 10.0)
        slow = [letter.taken_s - began_s - letter.number for letter in letters if letter.taken_s - began_s - letter.number > 90.0]
        assert not slow, "whoever has a node of his own does not notice"
        await story.until(lambda: all(letter.arrived() for letter in letters), 5 * MINUTE_S)
        assert story.machine("hub").starts == 4
        await story.settled()

    tell(tale, TREE)

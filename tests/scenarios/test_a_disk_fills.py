"""The disk of a commune fills: first it takes only what is urgent, then nothing; what is for it waits above."""

from __future__ import annotations

from node.core.package import Priority
from tests.scenarios.story import HOUR_S, MINUTE_S, Story, country, told

TREE = country({"H41": ["H41.07"], "H54": []})

BALLAST = 20_000_000
"""What else lies on that disk."""


@told(TREE)
async def test_a_disk_fills(story: Story) -> None:
    disk = story.machine("h41.07").disk
    disk.load("ballast", bytes(BALLAST))
    disk.capacity_bytes = int(disk.used_bytes() / 0.93)
    plain = story.send("H41.07", "H54")
    urgent = await story.sent("H41.07", "H54", priority=Priority.EXPRESS)
    await story.until(urgent.arrived, 5 * MINUTE_S)
    assert not plain.taken
    assert "[disk-full]" in story.told_later("H41.07")[0]
    assert "hết dung lượng lưu trữ" in story.told_later("H41.07")[0]
    assert "disk-low" in {found["code"] for found in (await story.status("h41.07"))["problems"]}

    disk.capacity_bytes = disk.used_bytes() + 100
    too_late = story.send("H41.07", "H54", priority=Priority.EXPRESS)
    coming = [await story.sent("H54", "H41.07", priority=priority) for priority in (Priority.NORMAL, Priority.EXPRESS)]
    await story.passes(HOUR_S)
    assert not too_late.taken
    assert not any(letter.seen() for letter in coming)
    assert story.rows("h41", "SELECT count(*) FROM outbox") == [(2,)], "they wait at its province"

    disk.capacity_bytes = None
    await story.until(lambda: all(letter.arrived() for letter in (plain, too_late, *coming)), 10 * MINUTE_S)
    await story.settled()

"""One document chokes the node above, whatever comes with it: its neighbours pass, it is held, and a person lets it go on."""

from __future__ import annotations

from tests.scenarios.story import HOUR_S, MINUTE_S, Story, country, told

TREE = country({"H41": ["H41.07"], "H54": []})


@told(TREE)
async def test_a_poison_package(story: Story) -> None:
    story.cut("h41.07", "h41")  # so that all of them go in one batch
    poison, *others = [await story.sent("H41.07", "H54") for _ in range(6)]
    story.chokes("h41", poison)
    story.mend("h41.07", "h41")
    await story.until(lambda: all(letter.arrived() for letter in others), 10 * MINUTE_S)
    assert not poison.seen()

    await story.passes(HOUR_S)
    (held,) = await story.held("h41.07")
    assert (held["doc_id"], held["recipient"]) == (poison.doc_id, "H54")
    assert held["reason"] == "wire-malformed"
    assert held["text"]
    assert "held-items" in {found["code"] for found in (await story.status("h41.07"))["problems"]}
    await story.looks("H41.07")
    assert poison.state("H54") == "held"
    assert "chờ người vận hành" in str(poison.line("H54")["sendStatusDesc"])

    story.chokes("h41", None)
    assert await story.acts("h41.07", "release", "nút cấp trên đã sửa xong") == 1
    await story.until(poison.arrived, 5 * MINUTE_S)
    await story.settled()
    assert poison.state("H54") == "collected"

"""A recipient is taken out of the directory while a document is on its way: the sender is told, once, why it ended."""

from __future__ import annotations

from tests.scenarios.story import HOUR_S, MINUTE_S, Story, country, dissolved, told

TREE = country({"H41": ["H41.07"], "H54": ["H54.02"]})


@told(TREE)
async def test_a_recipient_is_removed_in_flight(story: Story) -> None:
    story.cut("h54", "hub")
    letter = await story.sent("H41.07", "H54.02", "H54")
    await story.passes(MINUTE_S)
    after = dissolved(TREE.directory(), "H54.02")
    for name in ("h54", "hub", "h41", "h41.07"):
        story.new_directory(name, after)
    story.is_gone("h54.02")
    story.restart("h54")
    await story.passes(2 * MINUTE_S)
    story.mend("h54", "hub")
    await story.settled(HOUR_S)
    assert letter.state("H54") == "collected"
    assert letter.state("H54.02") == "refused"
    assert "[recipient-closed]" in str(letter.line("H54.02")["sendStatusDesc"])
    (notice,) = letter.notices()
    assert notice.startswith("[Trục] Bên nhận")
    assert "H54.02" in notice

    late = story.send("H41.07", "H54.02")
    await story.until(lambda: late.sent.ended, MINUTE_S)
    assert late.sent.refusal == "recipient-closed", "whoever sends to it from now on hears so at once"
    await story.settled()


@told(TREE)
async def test_a_copy_in_doubt_for_a_node_that_is_gone_waits_for_a_person(story: Story) -> None:
    """The old node may have it and nobody can ask it any more: it neither ends by itself nor waits unseen."""
    await story.passes(5.0)
    story.falls_silent("h54", "h54.02")
    letter = await story.sent("H41.07", "H54.02")
    await story.until(lambda: story.rows("h54", "SELECT in_doubt FROM outbox") == [(1,)], MINUTE_S)
    after = dissolved(TREE.directory(), "H54.02")
    for name in ("h54", "hub", "h41", "h41.07"):
        story.new_directory(name, after)
    story.is_gone("h54.02")
    story.restart("h54")
    await story.passes(2 * MINUTE_S)
    (held,) = await story.held("h54")
    assert held["doc_id"] == letter.doc_id
    assert "không còn trong danh bạ" in held["text"]
    assert await story.acts("h54", "drop", "đơn vị đã giải thể") == 0, "a copy in doubt is not dropped"

    assert await story.acts("h54", "release", "đơn vị đã giải thể, chưa nhận") == 1
    await story.settled(HOUR_S)  # a person has answered for the node that cannot: it is returned by rule
    assert letter.state("H54.02") == "refused"
    (notice,) = letter.notices()
    assert "H54.02" in notice

"""A unit moves to another province while documents are on their way to it."""

from __future__ import annotations

import pytest

from tests.scenarios.story import ANSWERING, HOUR_S, MINUTE_S, Letter, Story, country, moved, tell, told

TREE = country({"H41": ["H41.07"], "H54": []})


async def _moves(story: Story) -> None:
    """The new directory reaches the nodes one after the other; then the unit, its old and its new parent are set up anew."""
    after = moved(TREE.directory(), "H41.07", "H54")
    for name in ("h41", "hub", "h54", "h41.07"):
        story.new_directory(name, after)
        await story.passes(MINUTE_S)
    story.moves("h41.07", "h54")
    for name in ("h54", "h41.07", "h41"):
        story.restart(name)
        await story.passes(10.0)


@told(TREE, ANSWERING)
async def test_documents_on_their_way_to_it_turn_round(story: Story) -> None:
    story.cut("h41.07", "h41")
    waiting = [await story.sent("G22", "H41.07"), await story.sent("H54", "H41.07"), await story.sent("H41", "H41.07")]
    own = await story.sent("H41.07", "H41")
    await story.passes(1.0)
    await story.until(lambda: len(story.rows("h41", "SELECT 1 FROM outbox")) == 3, MINUTE_S)
    await _moves(story)
    await story.until(lambda: all(letter.arrived() for letter in (*waiting, own)), 10 * MINUTE_S)
    assert story.bench.paths()["path/come-back"] >= 2, "the hub has them again from the neighbour it gave them to"
    await story.settled(HOUR_S)


@told(TREE, ANSWERING)
async def test_what_it_said_through_its_old_parent_arrives(story: Story) -> None:
    """The line above the old parent is cut: what the unit hands over there goes up when the unit hangs elsewhere already."""
    letter = await story.sent("G22", "H41.07")
    await story.until(lambda: story.rows("h41.07", "SELECT 1 FROM mailbox") != [], MINUTE_S)
    story.cut("h41", "hub")
    await story.until(letter.arrived, 5 * MINUTE_S)
    own = await story.sent("H41.07", "G22", "H54")
    await story.until(lambda: len(story.rows("h41", "SELECT 1 FROM outbox WHERE neighbour=''")) >= 3, MINUTE_S)
    await _moves(story)
    story.mend("h41", "hub")
    await story.until(own.arrived, 10 * MINUTE_S)
    await story.looks("G22")
    assert letter.state("H41.07") == "collected"
    assert story.bench.paths()["path/by its own signature"] >= 2, "a document, and the notice that it was collected"
    await story.settled(HOUR_S)


@pytest.mark.parametrize("silent", ["h41.07", "h41"], ids=["it has it", "it has not"])
def test_a_copy_in_doubt_at_the_old_parent_reaches_it_once(silent: str) -> None:
    async def tale(story: Story) -> None:
        """What one side says is not heard any more: the unit took the document and cannot say so, or it was never there."""
        await story.passes(5.0)  # the unit's question waits at its parent
        story.falls_silent(silent, "h41" if silent == "h41.07" else "h41.07")
        letter: Letter = await story.sent("G22", "H41.07")
        await story.until(lambda: story.rows("h41", "SELECT in_doubt FROM outbox") == [(1,)], MINUTE_S)
        await story.passes(2 * MINUTE_S)
        assert letter.arrived() is (silent == "h41.07")
        await _moves(story)
        await story.until(letter.arrived, 10 * MINUTE_S)
        await story.settled(HOUR_S)

    tell(tale, TREE, ANSWERING)

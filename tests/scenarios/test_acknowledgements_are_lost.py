"""Acknowledgements are lost at every hop: everybody repeats, and nobody sees anything twice."""

from __future__ import annotations

import pytest

from tests.scenarios.story import ANSWERING, MINUTE_S, Story, country, tell

TREE = country({"H41": ["H41.07"], "H54": ["H54.02"]})
HOPS = [
    ("office:h41.07", "h41.07"),
    ("h41.07", "h41"),
    ("h41", "hub"),
    ("h54", "hub"),
    ("h54.02", "h54"),
    ("office:h54.02", "h54.02"),
]
"""The way of a document from one unit to another: who dials, and whom."""


@pytest.mark.parametrize("deaf", [*([hop] for hop in HOPS), HOPS], ids=[*(hop[0] for hop in HOPS), "all"])
def test_every_answer_on_a_hop_is_lost_for_a_while(deaf: list[tuple[str, str]]) -> None:
    async def tale(story: Story) -> None:
        for caller, called in deaf:
            story.set_lines(caller, called, p_lose_reply=1.0)
        there = [story.send("H41.07", "H54.02") for _ in range(5)]
        back = [story.send("H54.02", "H41.07") for _ in range(5)]
        await story.passes(5 * MINUTE_S)
        for caller, called in deaf:
            story.set_lines(caller, called, p_lose_reply=0.0)
        await story.until(lambda: all(letter.arrived() for letter in (*there, *back)), 5 * MINUTE_S)
        await story.settled()
        assert {letter.office_status(letter.sent.package.to[0].organ) for letter in (*there, *back)} == {"03"}
        for _, called in deaf:
            assert story.rows(called, "SELECT count(*) FROM journal WHERE event='repeated'")[0][0] > 0

    tell(tale, TREE, ANSWERING)

"""Short questions between nodes: up by a call, down with the waiting pull; late or unknown, they cost nobody anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.wire import ANSWER_BYTES_MAX, Question
from node.questions import AT_ONCE_MAX
from node.uplink import QUESTIONS_WAIT_MAX
from tests.tree import H41, H54, HUB, UNIT, Tree, batch, document, planted, refused_with


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path, HUB, H41, UNIT, run=True) as planted_tree:
        yield planted_tree


def echo(tree: Tree, code: OrgId, kind: str = "echo") -> list[tuple[OrgId, bytes]]:
    """This node answers with what it was asked, and remembers who did."""
    heard = []

    async def answer(peer: OrgId, body: bytes, left_s: float) -> bytes:
        heard.append((peer, body))
        return body[::-1]

    tree[code].duties.questions.handlers[kind] = answer
    return heard


async def test_a_child_asks_its_parent_and_a_parent_its_child(tree: Tree) -> None:
    up, down = echo(tree, HUB), echo(tree, UNIT)
    assert await tree[H41].duties.questions.ask(HUB, "echo", b"above") == b"evoba"
    assert await tree[H41].duties.questions.ask(UNIT, "echo", b"down") == b"nwod"
    assert (up, down) == ([(H41, b"above")], [(H41, b"down")])


async def test_many_questions_to_one_child_are_all_answered(tree: Tree) -> None:
    echo(tree, UNIT)
    ask = tree[H41].duties.questions.ask
    answers = await asyncio.gather(*(ask(UNIT, "echo", f"{number:02d}".encode()) for number in range(AT_ONCE_MAX)))
    assert answers == [f"{number:02d}".encode()[::-1] for number in range(AT_ONCE_MAX)]
    owed = [asyncio.create_task(ask(UNIT, "echo", b"x")) for _ in range(AT_ONCE_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Deferred):
        await ask(UNIT, "echo", b"one too many")
    assert await asyncio.gather(*owed) == [b"x"] * AT_ONCE_MAX


async def test_a_question_may_be_passed_on_to_the_next_node(tree: Tree) -> None:
    echo(tree, UNIT)
    questions = tree[H41].duties.questions

    async def pass_on(peer: OrgId, body: bytes, left_s: float) -> bytes:
        return await questions.ask(UNIT, "echo", body, left_s)

    questions.handlers["echo"] = pass_on
    assert await tree[HUB].duties.questions.ask(H41, "echo", b"far") == b"raf"


async def test_documents_go_on_beside_questions(tree: Tree) -> None:
    echo(tree, UNIT)
    await tree[H41].send("ubnd-41", document("H41.07"))
    assert await tree[H41].duties.questions.ask(UNIT, "echo", b"x") == b"x"
    await tree.until(lambda: tree[UNIT].count("mailbox") == 1)
    assert await tree[H41].duties.questions.ask(UNIT, "echo", b"y") == b"y"


async def test_what_nobody_answers_is_refused_above_and_deferred_below(tree: Tree) -> None:
    with pytest.raises(Refused) as caught:
        await tree[H41].duties.questions.ask(HUB, "nothing", b"")
    assert refused_with(caught) is Reason.OPERATION_UNKNOWN
    with pytest.raises(Deferred):
        await tree[H41].duties.questions.ask(UNIT, "nothing", b"")


async def test_a_neighbour_that_is_none_or_is_away_costs_only_the_wait(tree: Tree) -> None:
    with pytest.raises(Deferred):
        await tree[H41].duties.questions.ask(H54, "echo", b"")
    echo(tree, UNIT)
    await tree[UNIT].rest()
    with pytest.raises(Deferred):
        await tree[H41].duties.questions.ask(UNIT, "echo", b"", 0.01)
    assert tree[H41].tally.value("truc_questions_total", result="late") == 1
    await tree[H41].rest()
    tree[H41].line.down = True
    with pytest.raises(Deferred):
        await tree[H41].duties.questions.ask(HUB, "echo", b"")
    with pytest.raises(Deferred):
        await tree[HUB].duties.questions.ask(HUB, "echo", b"")


async def test_an_answer_that_is_late_or_anothers_is_heard_by_nobody(tree: Tree) -> None:
    await tree[UNIT].rest()
    questions = tree[H41].duties.questions
    asking = asyncio.create_task(questions.ask(UNIT, "echo", b""))
    await asyncio.sleep(0)
    ((_, number),) = questions._open
    await tree.door(H41).answered(HUB, number, b"from another")
    await tree.door(H41).answered(UNIT, number + 1, b"to another")
    await tree.door(H41).answered(UNIT, number, b"right")
    await tree.door(H41).answered(UNIT, number, b"twice")
    assert await asking == b"right"
    await tree.door(H41).answered(UNIT, number, b"late")


async def test_a_neighbour_asks_so_much_at_once_and_not_more_and_hears_so_much(tree: Tree) -> None:
    gate = asyncio.Event()

    async def slow(peer: OrgId, body: bytes, left_s: float) -> bytes:
        await gate.wait()
        return body * ANSWER_BYTES_MAX

    questions = tree[H41].duties.questions
    questions.handlers["slow"] = slow
    asked = Question("slow", b"ab", 5000)
    waiting = [asyncio.create_task(questions.asked(UNIT, asked)) for _ in range(AT_ONCE_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Deferred):
        await questions.asked(UNIT, asked)
    with pytest.raises(Deferred):
        await questions.asked(HUB, replace(asked, within_ms=1))
    gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(each) for each in found} == {Refused}


async def test_a_child_that_is_flooded_passes_over_what_it_cannot_begin(tree: Tree) -> None:
    uplink = tree[UNIT].uplink
    await tree[UNIT].rest()
    for number in range(QUESTIONS_WAIT_MAX + 2):
        uplink._put_question(Question("echo", b"", 1000, number))
    assert tree[UNIT].tally.value("truc_questions_total", result="dropped") == 2
    assert batch().questions == ()

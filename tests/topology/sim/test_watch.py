"""What stands before a parent's door: it chokes and forges when told to, and otherwise lets everything through."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from node.core.directory_wire import Exchange
from node.core.envelope import KIND_STATUS
from node.core.errors import Reason, Refused
from node.core.identifier import HUB, OrgId
from node.core.statement import Post
from node.core.timekeeping import Moment
from node.core.wire import Batch, EnvelopeVerdicts, Outcome, PullRequest, Question, Verdict
from tests.making import envelope, header
from tests.topology.sim.tiny import bench_of
from topology.sim.watch import FORGED, Watched

CHILD = OrgId.canonical("H41")
TAKEN = Verdict(Outcome.TAKEN)


class Door:
    """A parent that takes all it is given, and answers a forgery as it is told."""

    def __init__(self) -> None:
        self.pushed: list[Batch] = []
        self.to_forgery = Verdict(Outcome.REFUSED, reason=Reason.DIGEST_CONFLICT)
        self.held = 0

    async def push(self, peer: OrgId, batch: Batch) -> tuple[EnvelopeVerdicts, ...]:
        self.pushed.append(batch)
        forged = batch.envelopes[0].header.document_id == FORGED
        return tuple(
            EnvelopeVerdicts(
                each.header.origin, each.header.id, dict.fromkeys(each.remaining, self.to_forgery if forged else TAKEN)
            )
            for each in batch.envelopes
        )

    async def pull(self, peer: OrgId, request: PullRequest) -> Batch:
        return Batch(sequence=7)

    async def put_body(self, peer: OrgId, sha256: str, size: int, offset: int, chunk: bytes) -> int:
        return self.held

    async def get_body(self, peer: OrgId, sha256: str, offset: int, length: int) -> bytes:
        return b"x" * length

    async def query(self, peer: OrgId, asked: Question) -> bytes:
        return asked.body

    async def answered(self, peer: OrgId, number: int, data: bytes) -> None:
        self.held = number

    async def directory(self, peer: OrgId, said: Exchange) -> Exchange:
        return said

    async def statements(self, peer: OrgId, post: Post) -> tuple[str, ...]:
        return ("new",) * len(post.items)

    def moment(self) -> Moment:
        return Moment(7, 1, 1, True)


class Stage:
    def __init__(self) -> None:
        self.bench = bench_of()
        self.world = self.bench.world
        self.door = Door()
        self.watched = Watched(self.world, self.world.machines[HUB], self.door)

    def push(self, *envelopes: Any) -> tuple[EnvelopeVerdicts, ...]:
        return asyncio.run(self.watched.push(CHILD, Batch(tuple(envelopes))))


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.bench.end()
    stage.bench.loop.run_until_complete(asyncio.sleep(0))
    stage.bench.loop.close()


def letter() -> Any:
    return envelope(header(OrgId.canonical("G22")))


def test_a_calm_parent_hears_and_says_what_it_would_without_a_watcher(stage: Stage) -> None:
    first, second = letter(), letter()
    assert [each.id for each in stage.push(first, second)] == [first.header.id, second.header.id]
    assert [len(batch.envelopes) for batch in stage.door.pushed] == [2]
    assert asyncio.run(stage.watched.pull(CHILD, PullRequest("s", 1, 0, (), 0, 0))).sequence == 7
    assert stage.world.violations == []


def test_a_parent_chokes_on_one_document_whatever_comes_with_it(stage: Stage) -> None:
    stage.world.poisoned[HUB] = ""
    poison, harmless = letter(), letter()
    for company in ((poison, harmless), (poison,), (harmless, poison)):
        with pytest.raises(Refused):
            stage.push(*company)
    assert [each.id for each in stage.push(harmless)] == [harmless.header.id]
    assert stage.world.record.counts["fault/choked"] == 3
    stage.world.heal()
    stage.push(poison)


def test_a_status_is_never_the_poison(stage: Stage) -> None:
    stage.world.poisoned[HUB] = ""
    stage.push(envelope(header(OrgId.canonical("G22"), kind=KIND_STATUS)))
    assert stage.world.poisoned[HUB] == ""


def test_what_was_taken_is_presented_once_more_with_another_content(stage: Stage) -> None:
    stage.world.forging[CHILD] = None
    true = letter()
    (answer,) = stage.push(true)
    assert answer.verdicts == {OrgId.canonical("G22"): TAKEN}, "the child hears nothing of the forgery"
    forged = stage.door.pushed[1].envelopes[0]
    assert (forged.header.id, forged.header.origin) == (true.header.id, true.header.origin)
    assert forged.digest != true.digest
    stage.push(letter())
    assert len(stage.door.pushed) == 3, "one forgery for each time it was asked for"
    assert stage.world.violations == []


def test_a_parent_that_takes_a_forgery_is_found_out(stage: Stage) -> None:
    stage.world.forging[CHILD] = None
    stage.door.to_forgery = TAKEN
    stage.push(letter())
    assert ["to a forged copy of" in text for text in stage.world.violations] == [True]


def test_a_body_that_goes_on_where_it_stopped_is_counted(stage: Stage) -> None:
    for held, chunk in ((0, b""), (500, b""), (4, b"more"), (1000, b"")):
        stage.door.held = held
        assert asyncio.run(stage.watched.put_body(CHILD, "d", 1000, 0, chunk)) == held
    assert stage.world.record.counts["path/body resumed"] == 1
    assert asyncio.run(stage.watched.get_body(CHILD, "d", 500, 3)) == b"xxx"
    assert stage.world.record.counts["path/body in pieces"] == 1


def test_an_envelope_is_taken_for_all_receivers_but_one_who_comes_later(stage: Stage) -> None:
    g22, g17 = OrgId.canonical("G22"), OrgId.canonical("G17")
    both, one = envelope(header(g22, g17)), letter()
    stage.world.sparing[HUB] = None
    first, second = stage.push(both, one)
    assert {code: verdict.outcome for code, verdict in first.verdicts.items()} == {g22: Outcome.TAKEN, g17: Outcome.LATER}
    assert second.verdicts == {g22: TAKEN}
    assert [each.remaining for each in stage.door.pushed[0].envelopes] == [(g22,), (g22,)]
    stage.world.heal()
    assert stage.push(both)[0].verdicts == {g22: TAKEN, g17: TAKEN}

"""SimLink beyond the contract of links: limits of both ends, turns of bodies, what the judge hears, what the network's faults
become."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from node import config
from node.adapters.http.link_client import BODY_CONNECTIONS_MAX
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.wire import Batch, EnvelopeVerdicts, PullRequest, Question
from tests.adapters.test_link_http import BATCH, BODY, CHILD, DIGEST, PULL, TAKEN
from topology.sim.link import SimLink
from topology.sim.loop import Life, SimLoop
from topology.sim.network import Line, Network
from topology.sim.record import Record

SECTION = config.Link(certificate=Path("c"), key=Path("k"), trust=Path("t"), batch_bytes_max=64 * 1024, batch_envelopes_max=10)


@dataclass
class Parent:
    """What stands behind the parent's listener."""

    answer: Batch = field(default_factory=lambda: replace(BATCH, sequence=7))
    failure: Exception | None = None
    work_s: float = 0.0
    calls: list[str] = field(default_factory=list)

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(self.work_s)
        if self.failure is not None:
            raise self.failure

    async def push(self, peer: OrgId, batch: Batch) -> tuple[EnvelopeVerdicts, ...]:
        await self._called("push")
        return TAKEN

    async def pull(self, peer: OrgId, request: PullRequest) -> Batch:
        await self._called("pull")
        return self.answer

    async def put_body(self, peer: OrgId, sha256: str, size: int, offset: int, chunk: bytes) -> int:
        await self._called("put")
        return offset + len(chunk)

    async def get_body(self, peer: OrgId, sha256: str, offset: int, length: int) -> bytes:
        await self._called("get")
        return BODY[offset : offset + length]

    async def query(self, peer: OrgId, asked: Question) -> bytes:
        await self._called("query")
        return asked.body

    async def answered(self, peer: OrgId, number: int, data: bytes) -> None:
        await self._called("answer")


class Field:
    def __init__(self) -> None:
        self.loop = SimLoop()
        self.network = Network(self.loop, 1, Record(self.loop.time))
        self.network.usual = Line(jitter=0)
        self.parent, self.child, self.above = Parent(), Life(self.loop, "h41.07"), Life(self.loop, "h41")
        self.network.serve("h41", self.above, self.parent, SECTION)
        self.link = self.open()

    def open(self, **options: object) -> SimLink:
        section = SECTION.model_copy(update=options)
        return self.network.link("h41.07", CHILD, "h41", self.child, section)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def deferred(self, work: Coroutine[Any, Any, Any]) -> Deferred:
        with pytest.raises(Deferred) as caught:
            self.run(work)
        return caught.value


@pytest.fixture
def at() -> Iterator[Field]:
    made = Field()
    yield made
    assert made.loop.problems == []
    made.loop.close()


def test_every_call_is_told_to_the_record_with_its_bytes_and_its_end(at: Field) -> None:
    at.run(at.link.push(BATCH))
    at.parent.failure = Deferred(1)
    at.deferred(at.link.pull(PULL))
    counts = at.network.record.counts
    assert {name: counts[name] for name in counts} == {"link/push": 1, "link/push-200": 1, "link/pull": 1, "link/pull-503": 1}


def test_the_judge_hears_the_parents_verdicts_though_they_are_lost_on_the_way(at: Field) -> None:
    told: list[tuple[str, Batch, object]] = []
    at.network.on_verdicts = lambda node, batch, verdicts: told.append((node, batch, verdicts))
    at.network.line("h41.07", "h41").p_lose_reply = 1
    assert at.deferred(at.link.push(BATCH)).in_doubt
    assert told == [("h41", BATCH, TAKEN)]


def test_the_judge_hears_the_childs_verdicts_on_the_batch_it_pulled_before(at: Field) -> None:
    told: list[tuple[str, Batch, object]] = []
    at.network.on_verdicts = lambda node, batch, verdicts: told.append((node, batch, verdicts))
    pulled = at.run(at.link.pull(replace(PULL, verdicts=())))
    assert told == []
    at.network.line("h41.07", "h41").p_lose_request = 1
    at.deferred(at.link.pull(replace(PULL, sequence=8, confirmed=7)))
    assert told == [("h41.07", pulled, TAKEN)]


@pytest.mark.parametrize(
    ("fault", "in_doubt"),
    [("p_refuse", False), ("p_lose_request", True), ("p_lose_reply", True), ("p_reset", True), ("cut", False), ("reset", False)],
)
def test_what_the_network_does_becomes_doubt_or_none(at: Field, fault: str, in_doubt: bool) -> None:
    setattr(at.network.line("h41.07", "h41"), fault, 1)
    heard = at.deferred(at.link.push(BATCH))
    assert (heard.in_doubt, heard.retry_after_s) == (in_doubt, SECTION.probe_max_s)


@pytest.mark.parametrize(
    ("how", "reason"), [("rubbish", Reason.WIRE_MALFORMED), ("errors", Reason.WIRE_MALFORMED), ("mute", Reason.NOT_NOW)]
)
def test_a_parent_that_is_not_itself_leaves_the_child_in_doubt(at: Field, how: str, reason: Reason) -> None:
    at.network.misbehave("h41", how)
    for call in (at.link.push(BATCH), at.link.pull(PULL), at.link.put_body(DIGEST, 8, 0, BODY)):
        heard = at.deferred(call)
        assert (heard.in_doubt, heard.reason) == (True, reason)


def test_rubbish_instead_of_a_body_is_found_by_its_size_or_later_by_its_digest(at: Field) -> None:
    at.network.misbehave("h41", "rubbish")
    assert at.deferred(at.link.get_body(DIGEST, 0, 1)).in_doubt


def test_a_pull_waits_its_wait_and_the_timeout(at: Field) -> None:
    at.parent.work_s = 84
    assert at.run(at.link.pull(replace(PULL, wait_ms=25_000))).sequence == 7
    at.parent.work_s = 86
    assert at.deferred(at.link.pull(replace(PULL, wait_ms=25_000))).in_doubt


def test_bodies_take_turns_on_their_connections_and_the_wait_counts(at: Field) -> None:
    at.parent.work_s = 40
    heard: list[object] = []

    async def get() -> None:
        try:
            heard.append(await at.link.get_body(DIGEST, 0, 8))
        except Deferred as deferred:
            heard.append((deferred.in_doubt, round(at.loop.time())))

    for _ in range(BODY_CONNECTIONS_MAX + 1):
        at.child.start(get())
    at.run(asyncio.sleep(100))
    assert heard == [*[BODY] * BODY_CONNECTIONS_MAX, (True, 60)]


def test_a_batch_beyond_the_parents_limits_is_refused_by_it(at: Field) -> None:
    many = Batch(BATCH.envelopes * 11, BATCH.bodies)
    with pytest.raises(Refused) as caught:
        at.run(at.open(batch_envelopes_max=20).push(many))
    assert caught.value.reason is Reason.WIRE_TOO_LARGE


def test_an_answer_beyond_the_childs_limits_is_rubbish(at: Field) -> None:
    at.parent.answer = Batch(BATCH.envelopes * 11, BATCH.bodies)
    heard = at.deferred(at.link.pull(PULL))
    assert (heard.in_doubt, heard.reason) == (True, Reason.WIRE_MALFORMED)


def test_an_error_nobody_classified_is_a_problem_of_the_run(at: Field) -> None:
    at.parent.failure = ZeroDivisionError("bug")
    assert at.deferred(at.link.push(BATCH)).in_doubt
    assert [type(each["exception"]) for each in at.loop.problems] == [ZeroDivisionError]
    at.loop.problems.clear()


def test_a_dead_parent_is_heard_at_once_and_its_next_life_answers(at: Field) -> None:
    at.parent.work_s = 5
    at.loop.call_later(2, at.above.end)
    assert at.deferred(at.link.push(BATCH)).in_doubt
    assert at.loop.time() < 3
    assert not at.deferred(at.link.push(BATCH)).in_doubt
    at.network.serve("h41", Life(at.loop, "h41"), at.parent, SECTION)
    assert at.run(at.link.push(BATCH)) == TAKEN

"""What any Link owes its caller, run over real TLS on loopback and over the simulated network."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node import config
from node.adapters.http.link_client import HttpLink
from node.adapters.http.link_server import link_app
from node.adapters.http.listener import listen
from node.adapters.http.tls import judge, link_server_context, registered
from node.core.errors import Deferred, Reason, Refused
from node.core.statement import Post
from node.core.wire import Batch, ClockAnswer, Question
from node.ports import Link
from tests.adapters.pki import ZONE, Clock, put
from tests.adapters.test_link_http import (
    BATCH,
    CHILD,
    DIGEST,
    ENVELOPE,
    GUARDS,
    HOST,
    NODE,
    PULL,
    ROOT,
    SERVER,
    TAKEN,
    Downlink,
    section,
)
from topology.sim.loop import Life, SimLoop
from topology.sim.network import Network
from topology.sim.record import Record

Story = Callable[[Link, Downlink], Coroutine[Any, Any, None]]
Play = Callable[[Story], None]


def over_tls(folder: Path, story: Story) -> None:
    """Production's client and listener on loopback."""

    async def main() -> None:
        downlink, clock = Downlink(), Clock()
        files = put(folder / "parent", SERVER, ROOT)
        app = link_app(section(files, 1), downlink, judge(registered([(CHILD, ())], ZONE), clock))
        async with AsyncExitStack() as stack:
            listener = await listen(app, HOST, 0, GUARDS, link_server_context(files.certificate, files.key, files.trust))
            stack.push_async_callback(listener.close, 0.2)
            link = HttpLink(section(put(folder / "child", NODE, ROOT), listener.port), ZONE, clock)
            stack.push_async_callback(link.close)
            await story(link, downlink)

    asyncio.run(main())


@contextmanager
def virtual() -> Iterator[SimLoop]:
    loop = SimLoop()
    yield loop
    loop.problems.clear()
    loop.close()


def over_the_simulated_network(folder: Path, story: Story) -> None:
    """The same in virtual time."""
    limits = config.Link(
        certificate=folder, key=folder, trust=folder, request_timeout_s=10, batch_bytes_max=64 * 1024, batch_envelopes_max=10
    )
    with virtual() as loop:
        network, downlink = Network(loop, 1, Record(loop.time)), Downlink()
        child, parent = Life(loop, "h41.07"), Life(loop, "h41")
        network.serve("h41", parent, downlink, limits)
        loop.run_until_complete(story(network.link("h41.07", CHILD, "h41", child, limits), downlink))


@pytest.fixture(params=[over_tls, over_the_simulated_network], ids=lambda each: each.__name__)
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    return lambda story: request.param(tmp_path, story)


async def deferred(call: Awaitable[object]) -> Deferred:
    with pytest.raises(Deferred) as caught:
        await call
    return caught.value


async def refused(call: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as caught:
        await call
    return caught.value


def test_a_push_carries_the_batch_up_and_the_verdicts_down(play: Play) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        assert await link.push(BATCH) == TAKEN
        assert downlink.calls == [("push", CHILD, BATCH)]

    play(story)


def test_a_pull_carries_verdicts_up_and_a_batch_down(play: Play) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        assert await link.pull(PULL) == replace(BATCH, sequence=7)
        assert downlink.calls == [("pull", CHILD, PULL)]

    play(story)


def test_a_body_goes_up_and_comes_down_in_chunks_from_any_offset(play: Play) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        body = bytes(range(256)) * 1000
        digest = hashlib.sha256(body).hexdigest()
        assert await link.put_body(digest, len(body), 0, body[:100_000]) == 100_000
        assert await link.put_body(digest, len(body), 0, b"") == 100_000
        assert await link.put_body(digest, len(body), 5, b"wrong offset") == 100_000
        assert await link.put_body(digest, len(body), 100_000, body[100_000:]) == len(body)
        assert await link.get_body(digest, 255_990, 100) == body[255_990:]

    play(story)


def test_a_question_goes_up_and_its_answer_comes_at_once(play: Play) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        asked = Question("evidence", b"what?", 2000)
        assert await link.query(asked) == b"an answer to what?"
        assert downlink.calls == [("query", CHILD, asked)]
        downlink.failure = Refused(Reason.OPERATION_UNKNOWN, "kind", "evidence")
        assert (await refused(link.query(asked))).reason is Reason.OPERATION_UNKNOWN

    play(story)


def test_a_question_comes_down_with_a_pull_and_its_answer_goes_up(play: Play) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        downlink.answer = Batch(sequence=7, questions=(Question("evidence", b"what?", 2000, 41),))
        (asked,) = (await link.pull(PULL)).questions
        await link.answer(asked.number, b"this")
        await link.answer(asked.number, b"")
        assert downlink.calls[1:] == [("answer", CHILD, (41, b"this")), ("answer", CHILD, (41, b""))]

    play(story)


def test_a_question_is_given_up_when_its_time_is_over(play: Play) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        downlink.hold = asyncio.Event()
        await deferred(link.query(Question("evidence", b"what?", 50)))
        downlink.hold.set()

    play(story)


def test_a_push_passes_while_a_pull_waits(play: Play) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        downlink.hold = asyncio.Event()
        waiting = asyncio.create_task(link.pull(PULL))
        await downlink.entered.wait()
        hold, downlink.hold = downlink.hold, None
        assert await link.push(BATCH) == TAKEN
        hold.set()
        assert (await waiting).sequence == 7

    play(story)


def test_a_child_that_hangs_up_cancels_its_pull(play: Play) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        downlink.hold = asyncio.Event()
        waiting = asyncio.create_task(link.pull(PULL))
        await downlink.entered.wait()
        waiting.cancel()
        await downlink.cancelled.wait()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    play(story)


@pytest.mark.parametrize("reason", [Reason.SENDER_OUTSIDE, Reason.BODY_UNKNOWN, Reason.WIRE_TOO_LARGE, Reason.BODY_DAMAGED])
def test_a_refusal_reaches_the_child_with_its_reason_element_value_and_rule(play: Play, reason: Reason) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        downlink.failure = Refused(reason, "phần tử", "giá trị", "≤ 1")
        heard = await refused(link.push(BATCH))
        assert (heard.reason, heard.element, heard.value, heard.rule) == (reason, "phần tử", "giá trị", "≤ 1")

    play(story)


@pytest.mark.parametrize("reason", [Reason.PEER_UNKNOWN, Reason.PEER_NAME, Reason.PEER_KEY, Reason.PEER_DATES])
def test_a_parent_that_does_not_know_the_child_is_no_fault_of_a_document(play: Play, reason: Reason) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        downlink.failure = Refused(reason)
        heard = await deferred(link.push(BATCH))
        assert (heard.reason, heard.in_doubt) == (reason, False)

    play(story)


@pytest.mark.parametrize(("asked_s", "heard_s"), [(0.25, 0.25), (-1.0, 0.0), (90_000.0, 3600.0)])
def test_later_reaches_the_child_with_its_wait_and_leaves_nothing_in_doubt(play: Play, asked_s: float, heard_s: float) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        downlink.failure = Deferred(asked_s, Reason.DISK_FULL)
        heard = await deferred(link.pull(PULL))
        assert (heard.retry_after_s, heard.reason, heard.in_doubt) == (heard_s, Reason.DISK_FULL, False)

    play(story)


@pytest.mark.parametrize("failure", [Deferred(1, Reason.INTERNAL, in_doubt=True), ZeroDivisionError("bug")])
def test_a_parent_that_does_not_know_what_it_did_leaves_the_child_in_doubt(play: Play, failure: Exception) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        downlink.failure = failure
        heard = await deferred(link.push(BATCH))
        assert (heard.reason, heard.in_doubt) == (Reason.WIRE_MALFORMED, True)
        downlink.failure = None
        assert await link.push(BATCH) == TAKEN

    play(story)


def test_statements_go_up_as_they_are_and_each_is_answered_for(play: Play) -> None:
    """Decision: days are stated, signed, and kept by version. # QĐ 28/2018 Điều 11"""

    async def story(link: Link, downlink: Downlink) -> None:
        post = Post(((b'{"day":"2026-11-22"}', b"\x01\xff"), (b"{}", b"")), {"ab" * 32: b"-----BEGIN"})
        assert await link.statements(post) == ("new", "new")
        assert [detail for name, _, detail in downlink.calls if name == "statements"] == [post]
        downlink.failure = Deferred(1.0, Reason.DISK_FULL)
        assert (await deferred(link.statements(post))).reason is Reason.DISK_FULL

    play(story)


def test_what_breaks_the_limits_is_refused_up_and_in_doubt_down(play: Play) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        many = Batch((ENVELOPE,) * 11, BATCH.bodies)
        assert (await refused(link.push(many))).reason is Reason.WIRE_TOO_LARGE
        downlink.answer = many
        heard = await deferred(link.pull(PULL))
        assert (heard.reason, heard.in_doubt) == (Reason.WIRE_MALFORMED, True)
        assert (await refused(link.put_body(DIGEST, 1, 0, b"more"))).element == "size"
        assert (await refused(link.get_body(DIGEST, 0, 0))).element == "length"

    play(story)


def test_the_time_is_told_with_its_bound(play: Play) -> None:
    async def story(link: Link, downlink: Downlink) -> None:
        told = downlink.time
        assert await link.clock(77) == ClockAnswer(77, told.utc_us, told.utc_us, told.stratum, told.bound_us, True)

    play(story)


def test_the_time_is_told_while_everything_else_waits(play: Play) -> None:
    """Behind no batch, no body and no writer."""

    async def story(link: Link, downlink: Downlink) -> None:
        downlink.hold = asyncio.Event()
        calls = [link.pull(PULL), link.push(BATCH), link.put_body(DIGEST, 9, 0, b"x"), link.get_body(DIGEST, 0, 1)]
        waiting = [asyncio.create_task(call) for call in calls]
        while len(downlink.calls) < len(waiting):
            await asyncio.sleep(0.01)
        assert (await link.clock(77)).t1_us == 77
        downlink.hold.set()
        await asyncio.gather(*waiting)

    play(story)

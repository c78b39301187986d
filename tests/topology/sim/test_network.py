"""The fate of a call: what its caller may conclude, how often its work was done, and what dies with whom."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from topology.sim.loop import Ended, Life, SimLoop
from topology.sim.network import CONNECT_S, UNANSWERED_S, Closed, Line, Lost, Network, Unreached
from topology.sim.record import Record

TIMEOUT_S = 60.0


class Field:
    """A caller "h41" and a target "hub" whose work takes a second and is counted."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = SimLoop()
        self.record = Record(self.loop.time)
        self.network = Network(self.loop, seed, self.record)
        self.network.usual = Line(jitter=0)
        self.caller, self.target = Life(self.loop, "h41"), Life(self.loop, "hub")
        self.network.serve("hub", self.target)
        self.begun = self.done = self.cancelled = 0
        self.work_s = 1.0
        self.told: list[Any] = []

    async def serve(self) -> bytes:
        self.begun += 1
        try:
            await asyncio.sleep(self.work_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.done += 1
        return b"answer"

    async def call(self, **options: Any) -> bytes:
        return await self.network.exchange("h41", "hub", self.caller, b"x" * 100, self.serve, TIMEOUT_S, **options)

    async def tell(self, **options: Any) -> None:
        """A call as a task of the caller's life; what became of it is told with its second."""
        try:
            answer: object = await self.call(**options)
        except (Lost, Unreached) as error:
            answer = type(error)
        self.told.append((answer, round(self.loop.time(), 1)))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def restart(self) -> None:
        self.target.end()
        self.target = Life(self.loop, "hub")
        self.network.serve("hub", self.target)

    @property
    def line(self) -> Line:
        return self.network.line("h41", "hub")

    @property
    def back(self) -> Line:
        return self.network.line("hub", "h41")

    def counts(self) -> tuple[int, int, int]:
        return self.begun, self.done, self.cancelled


@pytest.fixture
def at() -> Iterator[Field]:
    field = Field()
    yield field
    assert field.loop.problems == []
    field.caller.end()
    field.target.end()
    field.run(asyncio.sleep(0))
    field.loop.close()


def after(at: Field, seconds: float, action: Any) -> None:
    at.loop.call_later(seconds, action)


# -- a good call ----------------------------------------------------------------------------------------------------------


def test_a_call_takes_its_connection_its_way_its_work_and_its_way_back(at: Field) -> None:
    at.network.usual = Line(latency_s=0.5, jitter=0, bytes_per_s=100)
    assert at.run(at.call()) == b"answer"
    assert at.loop.time() == pytest.approx(2 * 1.0 + (1.0 + 0.5) + 1.0 + (0.06 + 0.5))


def test_a_second_call_takes_the_kept_connection_and_a_late_one_a_new_one(at: Field) -> None:
    def took(pause_s: float) -> float:
        at.run(asyncio.sleep(pause_s))
        began_s = at.loop.time()
        at.run(at.call(idle_s=10))
        return at.loop.time() - began_s

    assert [round(took(pause_s), 3) for pause_s in (0, 9, 11)] == [1.12, 1.04, 1.12]


def test_the_work_runs_as_a_task_of_the_target(at: Field) -> None:
    at.work_s = 10
    at.caller.start(at.tell())
    at.run(asyncio.sleep(5))
    assert (len(at.target.tasks), len(at.caller.tasks)) == (1, 1)


def test_two_large_calls_share_the_line(at: Field) -> None:
    at.network.usual = Line(latency_s=0, jitter=0, bytes_per_s=100)
    for _ in range(2):
        at.caller.start(at.tell())
    at.run(asyncio.sleep(10))
    assert at.told == [(b"answer", 2.1), (b"answer", 3.1)]


# -- nothing left the caller ----------------------------------------------------------------------------------------------


def nobody(at: Field) -> None:
    at.target.end()


def closed(at: Field) -> None:
    at.network.close("hub")


def refusing(at: Field) -> None:
    at.line.reset = True


def unlucky(at: Field) -> None:
    at.line.p_refuse = 1


@pytest.mark.parametrize("fault", [nobody, closed, refusing, unlucky])
def test_a_refused_connection_leaves_nothing_in_doubt_and_takes_no_time(at: Field, fault: Any) -> None:
    fault(at)
    at.run(at.tell())
    assert (at.told, at.begun) == ([(Unreached, 0.1)], 0)


def cut_there(at: Field) -> None:
    at.line.cut = True


def cut_back(at: Field) -> None:
    at.back.cut = True


def paused(at: Field) -> None:
    at.target.pause()


def dark(at: Field) -> None:
    at.network.power_off("hub")
    at.target.end()


def clogged(at: Field) -> None:
    at.line.clogged = True


@pytest.mark.parametrize("fault", [cut_there, cut_back, paused, dark, clogged])
def test_a_silent_target_without_a_connection_is_not_reached(at: Field, fault: Any) -> None:
    fault(at)
    at.run(at.tell())
    assert (at.told, at.begun) == ([(Unreached, CONNECT_S)], 0)


def test_a_cut_that_ends_while_connecting_only_delays(at: Field) -> None:
    at.line.cut = True
    after(at, 2, lambda: setattr(at.line, "cut", False))
    at.run(at.tell())
    assert at.told == [(b"answer", 4.1)]


# -- nobody knows ---------------------------------------------------------------------------------------------------------


def test_a_lost_request_is_in_doubt_and_nothing_was_done(at: Field) -> None:
    at.line.p_lose_request = 1
    at.run(at.tell())
    assert (at.told, at.counts()) == ([(Lost, TIMEOUT_S)], (0, 0, 0))


def test_a_lost_reply_is_in_doubt_and_all_was_done(at: Field) -> None:
    at.line.p_lose_reply = 1
    at.run(at.tell())
    assert (at.told, at.counts()) == ([(Lost, TIMEOUT_S)], (1, 1, 0))
    assert at.record.counts["fault/lost-reply"] == 1


def test_a_reset_tears_the_request_or_the_reply_and_is_heard_at_once(at: Field) -> None:
    at.line.p_reset = 1
    shares: list[float] = []

    async def torn(share: float) -> None:
        shares.append(share)

    for _ in range(50):
        at.run(at.tell(torn=torn, idle_s=0))
    assert {answer for answer, _ in at.told} == {Lost}
    requests, replies = at.record.counts["fault/torn-request"], at.record.counts["fault/torn-reply"]
    assert requests + replies == 50
    assert min(requests, replies) > 10
    assert at.done == replies
    assert len(shares) == requests
    assert all(0 <= share < 1 for share in shares)
    assert at.loop.time() < 50 * 1.3


def test_a_duplicate_does_the_work_again_later_and_its_answer_is_dropped(at: Field) -> None:
    at.line.p_duplicate, at.line.duplicate_max_s = 1, 100
    at.run(at.tell())
    assert at.told[0][0] == b"answer"
    at.line.calm()
    at.run(asyncio.sleep(200))
    assert at.counts() == (2, 2, 0)
    assert len(at.told) == 1


def test_a_duplicate_may_meet_the_next_life_of_its_target_or_nobody(at: Field) -> None:
    at.line.p_duplicate = 1
    for _ in range(20):
        at.run(at.tell())
    at.restart()
    at.run(asyncio.sleep(5 * 3600))
    assert at.done > 25
    at.begun = 0
    for _ in range(20):
        at.run(at.tell())
    at.target.end()
    at.run(asyncio.sleep(5 * 3600))
    assert at.begun < 40


def test_a_request_held_up_arrives_after_one_sent_later(at: Field) -> None:
    order: list[str] = []

    async def ask(name: str) -> None:
        async def serve() -> bytes:
            order.append(name)
            return b""

        await at.network.exchange("h41", "hub", at.caller, 0, serve, TIMEOUT_S)

    at.line.p_reorder = 1
    first = at.caller.start(ask("first"))
    at.run(asyncio.sleep(0.01))
    at.line.calm()
    at.caller.start(ask("second"))
    at.run(asyncio.wait([first]))
    assert order == ["second", "first"]


# -- who dies, sleeps or leaves -------------------------------------------------------------------------------------------


def test_a_target_that_dies_at_work_is_heard_at_once(at: Field) -> None:
    after(at, 0.5, at.target.end)
    at.run(at.tell())
    assert (at.told, at.counts()) == ([(Lost, 0.5)], (1, 0, 0))


def test_a_target_that_dies_before_the_request_arrives_did_nothing(at: Field) -> None:
    at.run(at.tell())
    at.line.latency_s = 1
    after(at, 0.5, at.restart)
    at.run(at.tell())
    assert [answer for answer, _ in at.told] == [b"answer", Lost]
    assert at.begun == 1


def test_a_target_that_loses_its_power_is_noticed_when_the_kernel_gives_up(at: Field) -> None:
    def power_cut() -> None:
        at.network.power_off("hub")
        at.target.end()

    after(at, 0.5, power_cut)
    at.run(at.tell())
    assert at.told == [(Lost, 0.5 + UNANSWERED_S)]


def test_a_caller_that_dies_cancels_the_work_a_latency_later(at: Field) -> None:
    at.work_s = 100
    at.caller.start(at.tell())
    after(at, 5, at.caller.end)
    at.run(asyncio.sleep(5.01))
    assert at.cancelled == 0
    at.run(asyncio.sleep(0.02))
    assert (at.told, at.cancelled) == ([], 1)


def test_a_caller_that_hangs_up_cancels_the_work_a_latency_later(at: Field) -> None:
    at.work_s = 100
    task = at.caller.start(at.tell())
    after(at, 5, task.cancel)
    at.run(asyncio.sleep(6))
    assert (at.told, at.cancelled, task.cancelled()) == ([], 1, True)


def test_a_caller_out_of_patience_is_in_doubt_and_hangs_up(at: Field) -> None:
    at.work_s = 100
    at.run(at.tell())
    at.run(asyncio.sleep(1))
    assert (at.told, at.cancelled) == ([(Lost, TIMEOUT_S)], 1)


def test_an_answer_in_the_turn_in_which_its_caller_is_cancelled_is_nobodys(at: Field) -> None:
    async def serve() -> bytes:
        after(at, at.back.latency_s, task.cancel)  # just before the answer, which takes as long
        return b""

    async def ask() -> None:
        await at.network.exchange("h41", "hub", at.caller, 0, serve, TIMEOUT_S)

    task = at.caller.start(ask())
    at.run(asyncio.sleep(5))
    assert task.cancelled()


def test_a_request_that_arrives_after_its_caller_left_is_begun_and_cancelled(at: Field) -> None:
    at.line.p_reorder, at.line.reorder_max_s = 1, 10 * TIMEOUT_S
    at.line.chance.random = lambda: 0.5  # type: ignore[method-assign]
    at.run(at.tell())
    assert (at.told, at.begun) == ([(Lost, TIMEOUT_S)], 0)
    at.run(asyncio.sleep(10 * TIMEOUT_S))
    assert at.counts() == (1, 0, 1)


def test_a_paused_target_that_then_dies_is_heard_at_once(at: Field) -> None:
    at.run(at.tell())
    at.target.pause()
    after(at, 5, at.target.end)
    at.run(at.tell())
    assert at.told[1] == (Lost, pytest.approx(1.1 + 5, abs=0.1))


def test_a_paused_target_with_a_connection_says_nothing_and_then_begins_what_came(at: Field) -> None:
    at.run(at.tell())
    at.target.pause()
    at.run(at.tell())
    assert at.told[1] == (Lost, pytest.approx(1.1 + TIMEOUT_S))
    assert at.counts() == (1, 1, 0)
    at.target.resume()
    at.run(asyncio.sleep(2))
    assert at.counts() == (2, 1, 1), "the handler began with the bytes that had come, then heard of the hang-up"


def test_a_target_paused_at_work_answers_when_it_runs_again(at: Field) -> None:
    after(at, 0.5, at.target.pause)
    after(at, 30, at.target.resume)
    at.run(at.tell())
    assert at.told == [(b"answer", 30.0)]


def test_a_dead_life_calls_nobody(at: Field) -> None:
    at.caller.end()
    with pytest.raises(Ended):
        at.run(at.call())


def test_work_that_fails_is_a_reset_and_a_problem_of_the_run(at: Field) -> None:
    async def fail() -> bytes:
        raise ValueError

    with pytest.raises(Lost):
        at.run(at.network.exchange("h41", "hub", at.caller, b"", fail, TIMEOUT_S))
    gc.collect()
    assert [type(each["exception"]) for each in at.loop.problems] == [ValueError]
    at.loop.problems.clear()


def test_a_door_that_closed_meanwhile_breaks_the_connection(at: Field) -> None:
    async def ask() -> bytes:
        at.network.door("hub")
        return b""

    at.run(at.tell())
    at.network.close("hub")
    with pytest.raises(Closed):
        at.network.door("hub")
    with pytest.raises(Unreached):
        at.run(at.network.exchange("h41", "hub", at.caller, b"", ask, TIMEOUT_S))


# -- lines that fail ------------------------------------------------------------------------------------------------------


def test_a_call_on_a_kept_connection_over_a_cut_line_is_in_doubt_within_the_kernels_patience(at: Field) -> None:
    at.run(at.tell())
    at.line.cut = True
    at.run(at.tell())
    assert at.told[1] == (Lost, pytest.approx(1.1 + UNANSWERED_S, abs=0.1))
    assert at.begun == 1


def test_a_short_cut_only_delays_what_is_on_its_way(at: Field) -> None:
    at.run(at.tell())
    at.line.cut = True
    after(at, 2, lambda: setattr(at.line, "cut", False))
    at.run(at.tell())
    assert at.told[1] == (b"answer", pytest.approx(1.1 + 3 + 1, abs=0.11))


@pytest.mark.parametrize("keepalive", [True, False])
def test_a_long_call_over_a_line_that_is_cut_is_given_up_by_both_kernels(at: Field, keepalive: bool) -> None:
    at.work_s = 55
    after(at, 5, lambda: at.network.partition(["h41"], ["hub"]))
    at.run(at.tell(keepalive=keepalive))
    assert at.told == [(Lost, 5 + UNANSWERED_S if keepalive else TIMEOUT_S)]
    assert at.cancelled == 1


def test_a_line_that_was_mended_and_cut_again_is_not_silent_all_the_time(at: Field) -> None:
    at.work_s = 40

    for second in (4, 14, 24):
        after(at, second, at.back.sever)
        after(at, second + 8, at.back.mend)
    at.run(at.tell())
    assert at.told == [(b"answer", 40.1)]


def test_a_reply_over_a_cut_line_back_is_lost_though_all_was_done(at: Field) -> None:
    after(at, 0.5, cut_back.__get__(at))
    at.run(at.tell())
    assert (at.told, at.counts()) == ([(Lost, 0.5 + UNANSWERED_S)], (1, 1, 0))


def test_a_clog_holds_all_and_lets_it_go_in_order(at: Field) -> None:
    at.run(at.tell())
    at.back.clogged = True
    at.caller.start(at.tell())
    after(at, 40, lambda: setattr(at.back, "clogged", False))
    at.run(asyncio.sleep(50))
    assert at.told[1] == (b"answer", pytest.approx(1.1 + 40, abs=0.11))


def test_a_reset_line_breaks_what_is_in_use(at: Field) -> None:
    at.run(at.tell())
    at.line.reset = True
    at.run(at.tell())
    assert at.told[1] == (Lost, pytest.approx(1.2, abs=0.1))


def test_overlapping_partitions_are_whole_again_after_both(at: Field) -> None:
    first = at.network.partition(["h41", "h41.07"], ["hub"], both=False)
    second = at.network.partition(["h41"], ["hub", "h41"])
    assert (at.line.cut, at.back.cut, at.network.line("h41.07", "hub").cut) == (True, True, True)
    first()
    assert (at.line.cut, at.network.line("h41.07", "hub").cut) == (True, False)
    second()
    assert not any(line.cut for line in at.network.lines())


def test_healing_ends_every_fault(at: Field) -> None:
    at.network.partition(["h41"], ["hub"])
    at.network.misbehave("hub", "mute")
    at.line.reset = at.line.clogged = True
    at.line.p_lose_reply = at.network.usual.p_lose_reply = 1
    at.network.heal()
    assert at.line.p_lose_reply == 1
    at.network.heal(calm=True)
    assert at.network.line("new", "hub").p_lose_reply == 0
    assert at.run(at.call()) == b"answer"


# -- targets that are not themselves --------------------------------------------------------------------------------------


def test_a_mute_target_takes_all_and_says_nothing(at: Field) -> None:
    at.network.misbehave("hub", "mute")
    at.run(at.tell())
    assert (at.told, at.begun) == ([(Lost, TIMEOUT_S)], 0)


def test_a_target_that_answers_rubbish_did_nothing(at: Field) -> None:
    at.network.misbehave("hub", "rubbish")
    at.run(at.tell())
    assert at.told[0][0] != b"answer"
    assert at.begun == 0


def test_a_target_that_answers_errors_did_the_work_now_and_then(at: Field) -> None:
    at.network.misbehave("hub", "errors")
    for _ in range(40):
        at.run(at.tell(spoil=lambda mode, _chance: mode.encode()))
    assert {answer for answer, _ in at.told} == {b"errors"}
    assert 5 < at.done < 35
    with pytest.raises(ValueError, match="moody"):
        at.network.misbehave("hub", "moody")


# -- one seed, one trace --------------------------------------------------------------------------------------------------


def rough(seed: int) -> tuple[str, int]:
    at = Field(seed)
    at.network.usual = Line(p_refuse=0.1, p_lose_request=0.1, p_lose_reply=0.1, p_reset=0.2, p_duplicate=0.3, p_reorder=0.3)
    for _ in range(100):
        at.caller.start(at.tell())
    at.run(asyncio.sleep(5 * 3600))
    at.record.note("", repr(at.told))
    at.loop.close()
    return at.record.digest(), at.done


def test_one_seed_has_one_trace_and_another_has_another() -> None:
    assert rough(1) == rough(1)
    assert rough(1) != rough(2)

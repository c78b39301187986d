"""Virtual time, the order of things, and lives that are paused and ended as processes are."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from topology.sim import loop as loop_module
from topology.sim.loop import CLOSES_MAX, LIFE, PROBLEMS_MAX, STALE_TIMERS_MIN, Ended, Life, SimFuture, SimLoop, SimTask, living

ROOT = Path(__file__).parent.parent.parent.parent

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    made = SimLoop()
    yield made
    made.close()
    gc.collect()  # what was left half-way complains here or never


@pytest.fixture
def run(loop: SimLoop) -> Run:
    return loop.run_until_complete


async def until_told(told: list[str], name: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    told.append(name)


# -- time -----------------------------------------------------------------------------------------------------------------


def test_a_year_of_sleep_takes_no_time_and_ends_at_its_second(loop: SimLoop, run: Run) -> None:
    async def main() -> float:
        await asyncio.sleep(365 * 86_400)
        return loop.time()

    assert loop.time() == 0
    assert run(main()) == 365 * 86_400


def test_timers_of_one_instant_run_in_the_order_in_which_they_were_set(loop: SimLoop, run: Run) -> None:
    told: list[int] = []
    for number in range(50):
        loop.call_at(1.0 if number % 2 else 2.0, told.append, number)
    run(asyncio.sleep(3))
    assert told == [*range(1, 50, 2), *range(0, 50, 2)]


def test_a_timer_in_the_past_runs_now_and_time_does_not_go_back(loop: SimLoop, run: Run) -> None:
    times: list[float] = []

    async def main() -> None:
        await asyncio.sleep(5)
        loop.call_at(1, lambda: times.append(loop.time()))
        loop.call_later(0, lambda: times.append(loop.time()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main())
    assert times == [5, 5]


def test_timeouts_that_never_strike_do_not_pile_up(loop: SimLoop, run: Run) -> None:
    async def main() -> None:
        for _ in range(50 * STALE_TIMERS_MIN):
            async with asyncio.timeout(3600):
                await asyncio.sleep(0.001)

    run(main())
    assert len(loop._timers) <= 2 * STALE_TIMERS_MIN + 2
    run(asyncio.sleep(7200))
    assert (loop._timers, loop._stale) == ([], 0)


def test_a_timeout_strikes_at_its_second(loop: SimLoop, run: Run) -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.Event().wait()
        return loop.time()

    assert run(main()) == 2.5


def test_a_world_in_which_everything_waits_is_a_deadlock(loop: SimLoop, run: Run) -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await loop.create_task(stuck(), name="the stuck one")

    with pytest.raises(RuntimeError, match=r"deadlock at 0\.0.*the stuck one"):
        run(main())


def test_a_world_that_never_waits_is_a_livelock(loop: SimLoop, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "TURNS_MAX", 1000)

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="livelock"):
        run(main())


@pytest.mark.parametrize(
    "reach",
    [
        lambda: asyncio.to_thread(print),
        lambda: asyncio.open_connection("127.0.0.1", 1),
        lambda: asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0),
        lambda: asyncio.create_subprocess_exec("true"),
        lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1),
        lambda: asyncio.get_running_loop().getnameinfo(("127.0.0.1", 1)),
        lambda: asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)),
    ],
)
def test_nothing_leaves_the_simulation(run: Run, reach: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="nothing leaves the simulation"):
            await reach()

    run(main())


def test_another_thread_may_not_call_into_the_loop(loop: SimLoop, run: Run) -> None:
    heard: list[BaseException] = []

    def intrude() -> None:
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as error:
            heard.append(error)

    async def main() -> None:
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
        loop.call_soon_threadsafe(heard.append, KeyError())  # but our own may

    run(main())
    run(asyncio.sleep(0))
    assert [type(each) for each in heard] == [RuntimeError, KeyError]


# -- order ----------------------------------------------------------------------------------------------------------------


def test_tasks_and_futures_hash_to_a_running_number(loop: SimLoop) -> None:
    futures = [loop.create_future() for _ in range(3)]
    assert [hash(each) - hash(futures[0]) for each in futures] == [0, 1, 2]
    assert all(isinstance(each, SimFuture) for each in futures)
    task = loop.create_task(asyncio.sleep(0))
    assert isinstance(task, SimTask)
    assert hash(task) > hash(futures[-1])
    loop.run_until_complete(task)


SCENARIO = """
import asyncio, hashlib
from topology.sim.loop import Life, SimLoop

told = []
loop = SimLoop()

async def work(name, lock, event, seconds):
    try:
        async with asyncio.timeout(3):
            async with lock:
                await asyncio.sleep(seconds)
            await event.wait()
    except TimeoutError:
        told.append(("late", name, loop.time()))
    except asyncio.CancelledError:
        told.append(("cancelled", name, loop.time()))
        raise

async def boom(seconds):
    await asyncio.sleep(seconds)
    raise ValueError

async def life(tag):
    lock, event = asyncio.Lock(), asyncio.Event()
    rubbish = [object() for _ in range(hash(tag) % 1000)]  # moves every address that comes after
    loop.call_later(2.5, event.set)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(work(f"{tag}{number}", lock, event, 0.1 + number / 50))
            group.create_task(boom(1.7))
    except* ValueError:
        told.append(("group", tag, loop.time()))
    tasks = {asyncio.create_task(work(f"{tag}w{n}", lock, event, 0.1), name=f"{tag}w{n}") for n in range(15)}
    done, left = await asyncio.wait(tasks, timeout=0.55)
    told.append([task.get_name() for task in done] + [task.get_name() for task in left])
    for task in left:
        task.cancel()
    told.append([type(each).__name__ for each in await asyncio.gather(*left, boom(0.1), return_exceptions=True)])
    futures = {loop.create_future() for _ in range(9)}
    for number, future in enumerate(futures):
        loop.call_later(0.2, future.set_result, number)
    done, _ = await asyncio.wait(futures)
    told.append([future.result() for future in done])

async def main():
    lives = [Life(loop, name) for name in "abc"]
    tasks = [each.start(life(each.name)) for each in lives]
    loop.call_later(1.0, lives[1].pause)
    loop.call_later(2.0, lives[1].resume)
    loop.call_later(1.5, lives[2].end)
    await asyncio.wait(tasks, timeout=60)

loop.run_until_complete(main())
assert loop.problems == []
loop.close()
print(len(told), hashlib.sha256(repr(told).encode()).hexdigest())
"""


def test_one_scenario_has_one_trace_whatever_the_hash_seed() -> None:
    def trace(hash_seed: str) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", SCENARIO],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout, done.stderr

    first, second = trace("1"), trace("4711")
    assert first == second
    assert first[1] == ""
    assert int(first[0].split()[0]) > 40


def test_what_nobody_awaited_is_a_problem_of_the_run(loop: SimLoop, run: Run) -> None:
    life = Life(loop, "h41")

    async def fail() -> None:
        raise ValueError("nobody awaits me")

    def fails() -> None:
        raise KeyError

    async def main() -> None:
        for _ in range(PROBLEMS_MAX):
            life.start(fail())
            await asyncio.sleep(1)
        loop.call_soon(fails)
        await asyncio.sleep(1)

    run(main())
    gc.collect()
    assert len(loop.problems) == PROBLEMS_MAX
    assert loop.problems[0]["life"] == "h41"
    assert [type(each["exception"]) for each in loop.problems[:2]] == [ValueError, ValueError]
    loop.problems.clear()
    loop.call_soon(fails)
    run(asyncio.sleep(0))
    assert isinstance(loop.problems[0]["exception"], KeyError)


# -- lives ----------------------------------------------------------------------------------------------------------------


def test_everything_a_life_starts_belongs_to_it(loop: SimLoop, run: Run) -> None:
    life, told = Life(loop, "h41"), list[Life | None]()

    def tell() -> None:
        told.append(LIFE.get())

    async def child() -> None:
        tell()
        loop.call_soon(tell)
        loop.call_later(1, tell)
        future = loop.create_future()
        future.add_done_callback(lambda _: tell())
        loop.call_soon(future.set_result, None)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(2)).add_done_callback(lambda _: tell())

    async def main() -> None:
        task = life.start(child(), "child")
        assert task.get_name() == "child"
        await task
        tell()

    run(main())
    assert told == [life] * 5 + [None]


def test_a_paused_life_runs_on_later_in_the_order_in_which_things_came_due(loop: SimLoop, run: Run) -> None:
    life, told = Life(loop, "h41"), list[str]()

    async def main() -> None:
        for name, seconds in (("c", 3), ("a", 1), ("b", 2), ("d", 20)):
            loop.call_later(seconds, told.append, name, context=life.context())
        await asyncio.sleep(1.5)
        assert told == ["a"]
        life.pause()
        await asyncio.sleep(8.5)
        assert (told, life.alive) == (["a"], True)
        loop.call_soon(told.append, "after", context=life.context())
        life.resume()
        told.append("resumed")
        await asyncio.sleep(0)
        assert told == ["a", "resumed", "b", "c", "after"]
        await asyncio.sleep(11)

    run(main())
    assert told[-1] == "d"


def test_a_timeout_that_came_due_in_a_pause_strikes_at_the_resume(loop: SimLoop, run: Run) -> None:
    life = Life(loop, "h41")

    async def impatient() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(100)
        return loop.time()

    async def main() -> float:
        task = life.start(impatient())
        loop.call_later(1, life.pause)
        loop.call_later(30, life.resume)
        return await task

    assert run(main()) == 30


def test_a_timer_cancelled_while_it_is_parked_does_not_run(loop: SimLoop, run: Run) -> None:
    life, told = Life(loop, "h41"), list[str]()
    timer = loop.call_later(1, told.append, "never", context=life.context())
    life.pause()
    run(asyncio.sleep(2))
    timer.cancel()
    life.resume()
    run(asyncio.sleep(2))
    assert told == []


def test_nothing_of_an_ended_life_runs_and_nobody_complains(
    loop: SimLoop, run: Run, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    life, told, made = Life(loop, "h41"), list[str](), list[asyncio.Task[None]]()

    async def stubborn() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(5)
            except BaseException:
                await asyncio.sleep(0)  # a GeneratorExit that is ignored
        await until_told(told, "stubborn", 5)

    async def grouped() -> None:
        lock = asyncio.Lock()
        try:
            async with asyncio.TaskGroup() as group, lock, asyncio.timeout(50):
                for name in "abc":
                    group.create_task(until_told(told, name, 5))
                await asyncio.sleep(40)
        finally:
            made.append(asyncio.create_task(until_told(told, "made on the way out", 0)))
            raise ValueError("on the way out")

    async def generated() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(5)
            yield 2
        finally:
            await asyncio.sleep(1)
            told.append("generator")

    async def walk() -> None:
        async for _ in generated():
            await asyncio.sleep(5)

    async def main() -> None:
        for coro in (stubborn(), grouped(), walk(), until_told(told, "late", 1e9)):
            life.start(coro)
        await asyncio.sleep(1)
        life.start(until_told(told, "never begun", 0))
        life.end()
        life.end()
        assert not life.alive
        with pytest.raises(RuntimeError, match="h41 is over"):
            life.start(until_told(told, "too late", 0))
        await asyncio.sleep(100)

    run(main())
    gc.collect()
    assert told == []
    assert loop.problems == []
    assert list(life.tasks) == []
    assert loop.time() == 101, "timers of the dead do not move the clock"
    assert (capfd.readouterr(), [str(each.message) for each in recwarn]) == (("", ""), [])


def test_a_coroutine_that_cannot_be_closed_is_a_problem(loop: SimLoop, run: Run) -> None:
    life, held = Life(loop, "h41"), list[object]()
    release = False

    async def immortal() -> None:
        while not release:
            try:
                await asyncio.sleep(5)
            except BaseException:
                continue

    coro = immortal()
    held.append(life.start(coro, "immortal"))
    run(asyncio.sleep(1))
    life.end()
    run(asyncio.sleep(1))
    assert [problem["message"] for problem in loop.problems] == ["immortal cannot be closed"]
    assert CLOSES_MAX > 1
    release = True
    with suppress(StopIteration):
        coro.throw(GeneratorExit)


def test_a_life_that_ends_itself_goes_on_to_its_next_wait_with_every_port_shut(loop: SimLoop, run: Run) -> None:
    life, told = Life(loop, "h41"), list[str]()

    async def body() -> None:
        assert living() is life
        life.end()
        told.append("still running")
        try:
            living()
        except Exception:
            told.append("no program may catch this")
        finally:
            told.append("left with Ended")

    async def other() -> None:
        life.end()
        loop.call_soon(told.append, "never")
        await asyncio.sleep(0)
        told.append("never")

    async def main() -> None:
        nonlocal life
        life.start(body())
        await asyncio.sleep(1)
        life = Life(loop, "h41")
        life.start(other())
        await asyncio.sleep(1)

    run(main())
    gc.collect()
    assert told == ["still running", "left with Ended"]
    assert loop.problems == []
    assert issubclass(Ended, BaseException)
    assert not issubclass(Ended, Exception)


def test_an_end_while_paused_forgets_what_was_parked(loop: SimLoop, run: Run) -> None:
    life, told = Life(loop, "h41"), list[str]()

    async def main() -> None:
        life.start(until_told(told, "never", 1))
        await asyncio.sleep(0.5)
        life.pause()
        await asyncio.sleep(5)
        life.end()
        life.resume()
        await asyncio.sleep(5)

    run(main())
    assert (told, life.runs) == ([], False)


def test_those_who_asked_hear_of_the_end_once_in_order_and_outside_the_life(loop: SimLoop, run: Run) -> None:
    life, told = Life(loop, "h41"), list[tuple[str, Life | None]]()
    life.ending += [lambda: told.append(("first", LIFE.get())), lambda: told.append(("second", LIFE.get()))]

    async def body() -> None:
        life.end()
        life.end()

    life.start(body())
    run(asyncio.sleep(1))
    assert told == [("first", None), ("second", None)]


def test_a_future_of_the_living_wakes_nobody_among_the_dead(loop: SimLoop, run: Run) -> None:
    asker, told = Life(loop, "h41"), list[str]()
    answer = loop.create_future()

    async def ask() -> None:
        await answer
        told.append("never")

    async def main() -> None:
        asker.start(ask())
        await asyncio.sleep(1)
        asker.end()
        await asyncio.sleep(1)
        assert not answer.cancelled()
        answer.set_result(None)
        await asyncio.sleep(1)

    run(main())
    assert (told, loop.problems) == ([], [])


def test_a_generator_that_a_living_program_drops_is_closed_in_its_own_life(loop: SimLoop, run: Run) -> None:
    life, told = Life(loop, "h41"), list[Life | None]()

    async def generated() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(1)
            told.append(LIFE.get())

    kept: list[AsyncIterator[int]] = []

    async def walk() -> None:
        kept.append(generated())
        await anext(kept[0])

    async def main() -> None:
        await life.start(walk())
        kept.clear()  # by the world, outside every life
        await asyncio.sleep(2)

    run(main())
    assert told == [life]

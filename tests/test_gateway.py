"""Starting, stopping and falling: in which order, and that nothing in flight is lost on the way out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from node.gateway import Gateway


class House:
    """Duties that write down what happens to them."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()
        self.broken: dict[str, asyncio.Event] = {"writer": asyncio.Event(), "loop": asyncio.Event()}

    def duty(self, name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def run() -> None:
            self.diary.append(f"{name} starts")
            try:
                await self.broken.get(name, asyncio.Event()).wait()
                raise RuntimeError(f"{name} fell")
            finally:
                self.diary.append(f"{name} ends")

        return run

    def step(self, name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def take() -> None:
            await asyncio.sleep(0)
            self.diary.append(name)
            if name == "doors open":
                self.ready.set()

        return take

    def gateway(self, **changes: Any) -> Gateway:
        parts: dict[str, Any] = {
            "writer": self.duty("writer"),
            "loops": [self.duty("loop"), self.duty("other")],
            "open_doors": self.step("doors open"),
            "close_doors": self.step("doors close"),
            "drain": self.step("drained"),
        }
        return Gateway(**{**parts, **changes})


async def test_a_node_stops_in_the_order_that_loses_nothing() -> None:
    """Refuse new work, stop the loops, drain the writer, close: whatever was promised is committed."""
    house = House()
    running = asyncio.create_task(house.gateway().run(house.stop))
    await house.ready.wait()
    assert sorted(house.diary[:3]) == ["loop starts", "other starts", "writer starts"]
    del house.diary[:]
    house.stop.set()
    await running
    assert house.diary[0] == "doors close"
    assert sorted(house.diary[1:3]) == ["loop ends", "other ends"]
    assert house.diary[3:] == ["drained", "writer ends"]


async def test_the_doors_open_only_when_there_is_a_writer() -> None:
    house = House()
    running = asyncio.create_task(house.gateway().run(house.stop))
    await house.ready.wait()
    assert house.diary[-1] == "doors open"
    house.stop.set()
    await running


@pytest.mark.parametrize("part", ["writer", "loop"])
async def test_when_a_part_falls_the_node_ends_and_says_why(part: str) -> None:
    """Decision 3: the process exits and is started again; custody is on disk."""
    house = House()
    running = asyncio.create_task(house.gateway().run(house.stop))
    await house.ready.wait()
    house.broken[part].set()
    with pytest.raises(ExceptionGroup) as caught:
        await running
    assert caught.value.subgroup(lambda error: str(error) == f"{part} fell") is not None
    assert "doors close" in house.diary
    assert {"loop ends", "other ends", "writer ends"} <= set(house.diary)
    assert "drained" not in house.diary


async def test_a_door_that_cannot_open_ends_the_node() -> None:
    house = House()

    async def taken() -> None:
        raise OSError("address already in use")

    with pytest.raises(ExceptionGroup) as caught:
        await house.gateway(open_doors=taken).run(house.stop)
    assert caught.value.subgroup(OSError) is not None
    assert "doors close" in house.diary
    assert "writer ends" in house.diary


async def test_a_door_that_cannot_close_does_not_keep_the_loops_running() -> None:
    house = House()

    async def stuck() -> None:
        raise OSError("no")

    running = asyncio.create_task(house.gateway(close_doors=stuck).run(house.stop))
    await house.ready.wait()
    house.stop.set()
    with pytest.raises(ExceptionGroup):
        await running
    assert {"loop ends", "other ends", "writer ends"} <= set(house.diary)

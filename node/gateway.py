"""All duties of a node under one roof: start, serve, drain, stop. The only file that creates tasks.

The outer group holds the writer, the inner one the loops, so leaving them in order is the shutdown: refuse new work, let what is
in flight finish within the grace, stop the loops, drain the writer, close.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog

log = structlog.get_logger()

Loop = Callable[[], Coroutine[Any, Any, None]]


class Gateway:
    """writer: commits until cancelled. loops: the duties. open/close: the listeners. drain: waits for the last commit."""

    def __init__(
        self,
        writer: Loop,
        loops: Sequence[Loop],
        open_doors: Callable[[], Awaitable[None]],
        close_doors: Callable[[], Awaitable[None]],
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        self._writer = writer
        self._loops = loops
        self._open_doors = open_doors
        self._close_doors = close_doors
        self._drain = drain

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stop is set. Raises what ended a loop: the process exits and is restarted, custody is on disk."""
        async with asyncio.TaskGroup() as outer:
            writer = outer.create_task(self._writer(), name="writer")
            try:
                await self._serve(stop)
                await self._drain()
            finally:
                writer.cancel()

    async def _serve(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as inner:
            tasks = [inner.create_task(loop(), name=loop.__qualname__) for loop in self._loops]
            try:
                await self._open_doors()
                log.info("node ready")
                await stop.wait()
                log.info("node stopping")
            finally:
                await self._close_doors()
                for task in tasks:
                    task.cancel()

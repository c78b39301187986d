"""Looks for a parent that has moved: by what nodes say of themselves in the local network, where `link.discovery` wants it.

A hint only: the address is used once whoever answers there has proven to be the parent. Knows `core` and the ports.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from node.core.errors import Deferred, Refused

log = structlog.get_logger()

LOOK_S = 15.0
FIND_S = 5.0
JITTER = 0.1

Find = Callable[[float], Awaitable[list[tuple[str, int]]]]
"""(seconds) -> addresses at which somebody says he is the parent."""


class Movable(Protocol):
    """The link to the parent."""

    async def move(self, host: str, port: int) -> bool:
        """Whether the parent is there, proven by its certificate; from then on it is called there."""
        ...


class Seeker:
    """away: whether the parent cannot be reached."""

    def __init__(self, link: Movable, find: Find, away: Callable[[], bool], rng: random.Random) -> None:
        self._link = link
        self._find = find
        self._away = away
        self._rng = rng

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S * self._rng.uniform(1 - JITTER, 1 + JITTER))
            await self.look()

    async def look(self) -> None:
        if not self._away():
            return
        try:
            found = await self._find(FIND_S)
        except OSError as error:
            log.info("no search in the local network", reason=str(error)[:200])
            return
        for host, port in found:
            if not self._away():
                return
            try:
                moved = await self._link.move(host, port)
            except (Deferred, Refused) as refused:
                log.warning("who says to be the parent is not", address=f"{host}:{port}", reason=refused.reason.value)
                continue
            if moved:
                log.warning("the parent is at another address: put it into link.parent_url", address=f"{host}:{port}")
                return

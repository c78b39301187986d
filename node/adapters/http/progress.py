"""A time limit that moves on with the bytes of a connection: a slow piece is not taken for a dead one.

What is handed to the kernel and never acknowledged, the kernel gives up by itself (`keepalive`). Knows asyncio; nothing of what
is said.
"""

from __future__ import annotations

import asyncio
from typing import cast

from node.adapters.http.keepalive import unsent

LOOKS = 4
"""So often within one limit it is looked at whether bytes have left."""


class Progress:
    """limit: of an `asyncio.timeout` that is being waited in; it ends timeout_s after the last byte that moved. `end` belongs
    behind it, whatever happened."""

    def __init__(self, limit: asyncio.Timeout, timeout_s: float) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None
        self._over = False
        self.began_s = 0.0
        self.moved_s = 0.0

    def moved(self) -> float:
        """Bytes go on just now. Returns when that is (loop time)."""
        self.moved_s = self._loop.time()
        if not (self._over or self._limit.expired()):
            self._limit.reschedule(self.moved_s + self._timeout_s)
        return self.moved_s

    def begin(self) -> None:
        """The first byte goes."""
        self.began_s = self.moved()

    def follow(self, transport: asyncio.BaseTransport | None) -> None:
        """Look now and then whether what was written to a connection is getting less."""
        if transport is not None and not self._over:
            written = cast(asyncio.WriteTransport, transport)  # not by its class: those of uvloop have none of asyncio's
            self._look_later(written, unsent(written))

    def _look_later(self, transport: asyncio.WriteTransport, before: int) -> None:
        def look() -> None:
            now = unsent(transport)
            if now < before:
                self.moved()
            self._look_later(transport, now)

        self._look = self._loop.call_later(self._timeout_s / LOOKS, look)

    def end(self) -> None:
        """Nobody waits any more."""
        self._over = True
        if self._look is not None:
            self._look.cancel()

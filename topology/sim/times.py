"""Whether nodes tell the truth about the time: the true time lies within every bound that is stated as synchronised, and what was
vouched for is never followed by something earlier, over a restart too.

Knows virtual time and the hub's host, whose clock is the reference of a tree: once that is off by more than its operator states,
nothing more is said of bounds in that run. Nothing of how a node comes to its time.
"""

from __future__ import annotations

from collections.abc import Callable

from topology.sim.clocks import EPOCH_MS, WrongClock
from topology.sim.loop import SimLoop

BACK_MAX_MS = 2 * 86_400_000
"""A node may forget an instant that lies further ahead than this when it starts."""


class Reference:
    """The hub's host: right so far, or not. bound_ms: what its operator states."""

    def __init__(self, loop: SimLoop, host: WrongClock, bound_ms: float) -> None:
        self._loop = loop
        self._host = host
        self._bound_ms = bound_ms
        self._right = True

    def true_ms(self) -> float:
        return EPOCH_MS + self._loop.time() * 1000

    def right(self) -> bool:
        """Whether it has been right at every look."""
        self._right = self._right and abs(self._host.wall_ns() / 1e6 - self.true_ms()) <= self._bound_ms
        return self._right


class TimeJudge:
    """Looks at each instant that one process of a node gives out. floor_ms: the last its store holds as synchronised. wrong: told
    what must never be."""

    def __init__(self, name: str, reference: Reference, floor_ms: int, wrong: Callable[[str], None]) -> None:
        self._name = name
        self._reference = reference
        self._floor_ms = floor_ms
        self._wrong = wrong
        self._vouched_ms = self._given_ms = 0

    def look(self, now_ms: int, bound_ms: int, synchronised: bool) -> None:
        right = self._reference.right()
        if not synchronised:
            self._never_back(now_ms, self._given_ms)
            self._given_ms = now_ms
            return
        self._given_ms = 0  # an instant nobody vouched for may lie ahead of this one
        self._never_back(now_ms, self._vouched_ms)
        self._vouched_ms = now_ms
        off_ms = now_ms - self._reference.true_ms()
        if self._floor_ms - BACK_MAX_MS < now_ms < self._floor_ms:
            self._wrong(f"{self._name}: {now_ms} ms after a restart, and {self._floor_ms} ms was vouched for before it")
        if right and abs(off_ms) > bound_ms + 1:  # a whole number of ms is told of a moment within it
            self._wrong(f"{self._name}: its time is off by more than it says")

    def _never_back(self, now_ms: int, before_ms: int) -> None:
        if now_ms < before_ms:
            self._wrong(f"{self._name}: its time ran backwards")

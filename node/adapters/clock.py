"""The host's two clocks behind the Clock port, kept with the parent where there is one. The only home of `time` in a node.

What is made of them is decided in `core/timekeeping.py`; the host's own clock is read and never set.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from node.core.clock_filter import Exchange
from node.core.timekeeping import Moment, Policy, Reading, Timekeeping

MS_NS = 1_000_000


class HostClock:
    """bound_ms: the uncertainty that the operator states for this host. kept: there is a parent to keep the time with.
    policy: all figures, in place of bound_ms. wall_ns, mono_ns: the host's two clocks; a rehearsal hands in its own."""

    def __init__(
        self,
        bound_ms: int,
        wall_ns: Callable[[], int] | None = None,
        mono_ns: Callable[[], int] | None = None,
        *,
        kept: bool = False,
        policy: Policy | None = None,
    ) -> None:
        self._wall_ns = wall_ns or time.time_ns
        self._mono_ns = mono_ns or _mono_ns
        self._keeping = Timekeeping(policy or Policy(bound_ms * MS_NS), kept=kept)
        self.stepped: Callable[[], None] = lambda: None
        """Called when the host's clock is seen to have been set."""

    def utc_ms(self) -> int:
        """UTC milliseconds. Time never runs backwards in a process: where it turns out to be ahead, it goes on at half speed
        until the truth has caught up; were it to stand still, nothing that waits would become due."""
        steps = self._keeping.steps
        now_ns = self._keeping.utc_ns(self._wall_ns(), self._mono_ns())
        if steps != self._keeping.steps:
            self.stepped()
        return now_ns // MS_NS

    def bound_ms(self) -> int:
        """Whole milliseconds, and one for those that `utc_ms` cuts off where the clock is kept with a parent's."""
        bound_ns = self._keeping.bound_ns(self._wall_ns(), self._mono_ns())
        return bound_ns // MS_NS if bound_ns % MS_NS == 0 else bound_ns // MS_NS + 2

    def synchronised(self) -> bool:
        return self._keeping.synchronised(self._wall_ns(), self._mono_ns())

    # kept with the parent

    def mono_ns(self) -> int:
        """A clock that nobody sets and that is not steered; its zero means nothing."""
        return self._mono_ns()

    def moment(self) -> Moment:
        return self._keeping.moment(self._wall_ns(), self._mono_ns())

    def reading(self) -> Reading:
        return self._keeping.reading(self._wall_ns(), self._mono_ns())

    def resume(self, floor_ms: int) -> None:
        """The last instant this node vouched for before it was started."""
        self._keeping.resume(floor_ms * MS_NS, self._wall_ns(), self._mono_ns())

    def heard(self, exchange: Exchange) -> None:
        self._keeping.heard(exchange, self._wall_ns(), self._mono_ns())

    def round_over(self) -> None:
        self._keeping.round_over()

    def silent(self) -> None:
        self._keeping.silent()

    def alone(self) -> None:
        self._keeping.alone()

    def wait_s(self) -> float:
        return self._keeping.wait_s()


def _mono_ns() -> int:
    """Linux' raw clock: a host that slews its time does not bend it."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)

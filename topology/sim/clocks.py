"""Clocks that are wrong on purpose: what a machine's two clocks show while virtual time goes by.

Virtual 0 is `EPOCH_MS`. The wall clock may be off, drift and step; the monotonic clock drifts too (it hangs on the same crystal)
but never steps and never stands still. Knows the loop's time only; `HostClock` of the node makes of it what it makes of a host.
"""

from __future__ import annotations

from collections.abc import Callable

from node.adapters.clock import HostClock
from node.core.timekeeping import Moment, Policy
from topology.sim.loop import SimLoop

EPOCH_MS = 1_795_392_000_000
"""2026-11-23 07:00 +07:00, a Monday."""
DRIFT_MAX_PPM = 100_000.0
"""Far beyond any crystal; the monotonic clock must still run forward."""

_NS = 1_000_000_000


class WrongClock:
    """The clocks of one machine; they go on through the lives of its processes. offset_s: how far the wall clock is ahead at the
    beginning. drift_ppm: how much too fast both run."""

    def __init__(self, loop: SimLoop, offset_s: float = 0.0, drift_ppm: float = 0.0) -> None:
        self._loop = loop
        self._offset_ns = round(offset_s * _NS)
        self._ppm = 0.0
        self._since_s = loop.time()
        self._then_ns = round(loop.time() * _NS)
        self.drift(drift_ppm)

    def mono_ns(self) -> int:
        """What `time.monotonic_ns` would say; virtual seconds, drifted."""
        passed_s = self._loop.time() - self._since_s
        return self._then_ns + round(passed_s * _NS * (1 + self._ppm / 1e6))

    def wall_ns(self) -> int:
        """What `time.time_ns` would say."""
        return EPOCH_MS * 1_000_000 + self._offset_ns + self.mono_ns()

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock forward, or back."""
        self._offset_ns += round(seconds * _NS)

    def drift(self, ppm: float) -> None:
        """From now on both clocks run so many millionths too fast. ValueError beyond `DRIFT_MAX_PPM`."""
        if abs(ppm) > DRIFT_MAX_PPM:
            raise ValueError(f"no clock drifts by {ppm} ppm")
        self._then_ns, self._since_s = self.mono_ns(), self._loop.time()
        self._ppm = ppm


class SimClock(HostClock):
    """A node's clock on a machine of the simulation: production's class on clocks that may be wrong."""

    def __init__(self, machine: WrongClock, bound_ms: int, *, kept: bool = False, policy: Policy | None = None) -> None:
        super().__init__(bound_ms, machine.wall_ns, machine.mono_ns, kept=kept, policy=policy)
        self.look: Callable[[int, int, bool], None] = lambda now_ms, bound_ms, synchronised: None
        """Called with each instant that is given out."""

    def utc_ms(self) -> int:
        now_ms = super().utc_ms()
        self.look(now_ms, self.bound_ms(), self.synchronised())
        return now_ms

    def moment(self) -> Moment:
        found = super().moment()
        self.look(found.utc_us // 1000, -(-found.bound_us // 1000), found.synchronised)
        return found

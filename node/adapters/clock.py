"""The host's clock behind the Clock port. The only home of `time.time` in a node.

Until the node keeps its time with its parent, the host clock counts as synchronised within a configured bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class HostClock:
    """bound_ms: the uncertainty that the operator states for this host. wall_ns, mono_ns: the host's two clocks; a rehearsal
    hands in its own, wrong on purpose."""

    def __init__(self, bound_ms: int, wall_ns: Callable[[], int] | None = None, mono_ns: Callable[[], int] | None = None) -> None:
        self._bound_ms = bound_ms
        self._wall_ns = wall_ns or time.time_ns
        self._mono_ns = mono_ns or time.monotonic_ns
        self._last_ns = 0
        self._seen_ns = 0

    def utc_ms(self) -> int:
        """UTC milliseconds. Time never runs backwards in a process: when the host clock steps back, it goes on at half speed
        until the host has caught up; were it to stand still, nothing that waits would become due."""
        seen_ns = self._mono_ns()
        slowly_ns = self._last_ns + (seen_ns - self._seen_ns) // 2 if self._last_ns else 0
        self._last_ns = max(slowly_ns, self._wall_ns())
        self._seen_ns = seen_ns
        return self._last_ns // 1_000_000

    def bound_ms(self) -> int:
        return self._bound_ms

    def synchronised(self) -> bool:
        return True

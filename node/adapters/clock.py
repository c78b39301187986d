"""The host's clock behind the Clock port. The only home of `time.time` in a node.

Until the node keeps its time with its parent, the host clock counts as synchronised within a configured bound.
"""

from __future__ import annotations

import time


class HostClock:
    """bound_ms: the uncertainty that the operator states for this host."""

    def __init__(self, bound_ms: int) -> None:
        self._bound_ms = bound_ms
        self._last_ms = 0

    def utc_ms(self) -> int:
        """UTC milliseconds; a host clock that steps back holds it still, so that time never runs backwards in a process."""
        self._last_ms = max(self._last_ms, time.time_ns() // 1_000_000)
        return self._last_ms

    def bound_ms(self) -> int:
        return self._bound_ms

    def synchronised(self) -> bool:
        return True

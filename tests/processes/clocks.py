"""The clock of one running node, set while it runs: libfaketime in front of it. Its monotonic clock goes on undisturbed.

The library looks at the file once a second: to look at every call would cost the node more than its work does.
"""

from __future__ import annotations

from tests.processes.machine import faketime
from tests.processes.tree import Node

DAY_S = 86_400
SEEN_S = 1.5
"""By then a node has seen that its clock was set."""


class WrongClock:
    """Set before the node is started. `set` may be called as often as one likes while it runs."""

    def __init__(self, node: Node) -> None:
        self._file = node.config.parent / "clock"
        self.set(0)
        node.environment |= {
            "LD_PRELOAD": faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Its remedy for an old C library shortens every timed wait on a lock, which starves an interpreter with threads.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset_s: int) -> None:
        """The clock is wrong by so many seconds, within a second or two from now."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}\n")
        fresh.replace(self._file)

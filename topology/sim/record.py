"""The trace of one run: every event folded into a digest and counted. Two runs of one seed must end with the same digest.

Knows nothing of what the events mean. Only numbers and names that follow from the seed may be folded: no memory address, no
host time, no signature of random length.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable

Tell = Callable[[float, str, str, int], None]
"""(virtual seconds, node, event, size): hears every event of a run, for `--trace`."""


def stream(seed: int, *purpose: object) -> random.Random:
    """A generator of its own for each purpose, so that one draw more in one place does not shift all others."""
    return random.Random("/".join(str(part) for part in (seed, *purpose)))


class Record:
    """now: the loop's virtual time in seconds. tell: called with every event, or None."""

    def __init__(self, now: Callable[[], float], tell: Tell | None = None) -> None:
        self.now = now
        self._tell = tell
        self._hash = hashlib.blake2b(digest_size=16)
        self.counts: Counter[str] = Counter()
        """How often each event happened; "fault/…" are faults, "path/…" the ways out of them."""

    def note(self, node: str, event: str, size: int = 0) -> None:
        """Something happened at a node. event: a constant name; size: bytes or a number that belongs to it."""
        now = self.now()
        self._hash.update(f"{now:.9f}|{node}|{event}|{size}\n".encode())
        self.counts[event] += 1
        if self._tell is not None:
            self._tell(now, node, event, size)

    def digest(self) -> str:
        """Hex of the trace so far."""
        return self._hash.hexdigest()

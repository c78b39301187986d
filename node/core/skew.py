"""How far the clocks of office systems are from this node's: from the instants they send along. # QĐ 28/2018 Điều 14.4

An instant that a caller names was taken before it arrives, so its clock is at least as far ahead as that instant is. Of many, the
one that shows it furthest ahead was the shortest time on the way, and is the estimate. Told the time; knows nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

WINDOW_MS = 3_600_000
"""What was measured counts for this long, and as long again."""
NAMED_MS = 10_000
"""A system further off than this is named to the operator."""


@dataclass(frozen=True, slots=True)
class Skew:
    """ahead_ms: the system's clock less the node's time, at least; the way here makes it look smaller. seen_ms: UTC, when it was
    measured last. samples: how many it is taken from."""

    ahead_ms: int
    seen_ms: int
    samples: int

    @property
    def off(self) -> bool:
        return abs(self.ahead_ms) > NAMED_MS


class Skews:
    """By system id. Registered systems only, so the registry bounds it."""

    def __init__(self) -> None:
        self._now: dict[str, tuple[int, Skew]] = {}
        self._before: dict[str, tuple[int, Skew]] = {}
        """Window number and what was seen in it: the present one's, and the one's before."""

    def note(self, system: str, claimed_ms: int, now_ms: int, *, fresh: bool) -> None:
        """A system has said what time it is. fresh: said in this very call; else it may be old, and shows only a clock ahead."""
        ahead_ms, window = claimed_ms - now_ms, now_ms // WINDOW_MS
        if not fresh and ahead_ms <= 0:
            return
        there = self._now.get(system)
        if there is not None and there[0] != window:
            self._before[system] = there
            there = None
        best, samples = (ahead_ms, 0) if there is None else (max(there[1].ahead_ms, ahead_ms), there[1].samples)
        self._now[system] = (window, Skew(best, now_ms, samples + 1))

    def of(self, system: str, now_ms: int) -> Skew | None:
        """What was measured of a system lately; None: nothing."""
        found = list(self._seen(system, now_ms // WINDOW_MS))
        if not found:
            return None
        return Skew(max(each.ahead_ms for each in found), found[0].seen_ms, sum(each.samples for each in found))

    def every(self, now_ms: int) -> dict[str, Skew]:
        found = {system: self.of(system, now_ms) for system in sorted(self._now)}
        return {system: skew for system, skew in found.items() if skew is not None}

    def _seen(self, system: str, window: int) -> Iterator[Skew]:
        """The latest first."""
        for kept in (self._now, self._before):
            there = kept.get(system)
            if there is not None and there[0] in (window, window - 1):
                yield there[1]

"""How much may go over a link at once: the rate that finished pieces had, and the length of the next one by it.

A batch and a chunk of a body are pieces. A piece takes a stated time at most, so that an urgent envelope waits for no longer than
that (decision 9): on a fast link it is as large as the configuration allows, on a slow one short. Pure: told the time; knows
nothing of links.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

START_BYTES = 64 * 1024
"""The first piece over a link of which nothing is known."""
LEAST_BYTES = 8 * 1024
"""On the slowest link: shorter ones would be all heads and round trips."""
GROWTH = 2.0
"""A piece that went fast makes the next one so many times as long at most: what was buffered on the way flatters a link."""
TELLING = 0.25
"""A piece that took less than this share of its time may have been buffered on the way: the link is no slower than that."""
FORGET_S = 300.0
"""What was measured longer ago is old weather."""


class Way(StrEnum):
    """Direction of a link, as the child sees it."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Rate:
    """What one direction of a link carried last. bytes_per_s: 0 while nothing is known. at_s: when that was learned."""

    bytes_per_s: float = 0.0
    at_s: float = 0.0

    def known(self, now_s: float) -> bool:
        return self.bytes_per_s > 0 and now_s - self.at_s <= FORGET_S

    def piece_bytes(self, most: int, *, piece_s: float, now_s: float) -> int:
        """How long the next piece may be, at most `most`: what the link is believed to carry in piece_s seconds."""
        fitting = int(self.bytes_per_s * piece_s) if self.known(now_s) else START_BYTES
        return min(most, max(LEAST_BYTES, fitting))

    def after(self, size: int, seconds: float, *, piece_s: float, now_s: float) -> Rate:
        """The rate, a piece of so many bytes later, that took so long.

        Careful: slower is believed at once, faster step by step. A piece that was much shorter than it might have been tells of
        its round trip or of a buffer on the way, not of the rate: it counts only where it took longer than any piece should.
        """
        believed = self.bytes_per_s if self.known(now_s) else START_BYTES / piece_s
        seen = size / max(seconds, 1e-6)
        full = 2 * size >= min(believed * piece_s, START_BYTES)
        if seen >= believed and 2 * size < believed * piece_s:
            return self
        if seen >= believed:
            grown = min(seen, believed * GROWTH)
            rate = grown if seconds < piece_s * TELLING else (believed + grown) / 2
        elif seconds >= (piece_s * TELLING if full else piece_s):
            rate = max(seen, LEAST_BYTES / piece_s)
        else:
            rate = believed
        return Rate(rate, now_s)

    def doubted(self, *, piece_s: float, now_s: float) -> Rate:
        """A piece was lost: whatever the link was, it shows it anew, with ever shorter ones in case that one was too long."""
        believed = self.bytes_per_s if self.known(now_s) else START_BYTES / piece_s
        return Rate(max(min(believed, START_BYTES / piece_s) / GROWTH, LEAST_BYTES / piece_s), now_s)

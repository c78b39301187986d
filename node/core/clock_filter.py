"""What exchanges with a parent say of the time: samples, the one to go by, how wrong it may be, which of them cannot be true.

Told everything: knows no clock, no link and nobody who asks. All values are whole nanoseconds; "mono" is a clock of this host
that is never set, and off by no more than so many millionths. A parent states how far its own time may be from the truth, so
the truth lies within every sample's bound however uneven the two ways are.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

SECOND_NS = 1_000_000_000
WINDOW = 8
"""Samples that are looked at to find the one with the least bound."""
POINTS_APART_NS = 8 * SECOND_NS
"""Offsets closer to each other say nothing of a drift."""
POINT_DELAY_NS = 2_000_000
"""Nor does one that was on the road for longer than twice the shortest way, and this."""
CONFIRM_SAMPLES = 4
CONFIRM_NS = 60 * SECOND_NS
"""A parent that jumped is followed when it has said the same so often, over so long."""
FOLLOW_NS = 600 * SECOND_NS
"""A jump that is longer is followed only where a second witness, the host's own clock, agrees with the parent."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """sent, back: mono. came, left: the parent's UTC. distance: how far that may be from the truth. stratum: the parent's."""

    sent_ns: int
    came_ns: int
    left_ns: int
    back_ns: int
    distance_ns: int
    stratum: int
    synchronised: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """At mono `at_ns` it was UTC `at_ns + offset_ns`, give or take radius and distance. delay: the round trip less the stay."""

    at_ns: int
    offset_ns: int
    delay_ns: int
    radius_ns: int
    distance_ns: int
    stratum: int

    @property
    def bound_ns(self) -> int:
        return self.radius_ns + self.distance_ns


class Heard(Enum):
    """What a sample did: it was taken; it contradicts the ones before; the filter turned to a parent that had jumped."""

    TAKEN = auto()
    DOUBTED = auto()
    TURNED = auto()


def allowance_ns(passed_ns: int, drift_ppm: int) -> int:
    """How wrong a clock that is off by so many millionths may measure a span."""
    return passed_ns * drift_ppm // 999_000 + 1


def measure(exchange: Exchange, drift_ppm: int) -> Sample | None:
    """The sample an exchange yields; None where it cannot have happened as told.

    When the answer left, the truth was at least `left - distance`; when the request came, at most `came + distance`. So at `back`
    it lies between the first and the second plus all that has passed here meanwhile.
    """
    took = exchange.back_ns - exchange.sent_ns
    most = took + allowance_ns(took, drift_ppm)
    spread = exchange.came_ns + most - exchange.left_ns
    if took < 0 or exchange.left_ns < exchange.came_ns or spread < 0:
        return None
    middle = exchange.left_ns + spread // 2
    delay = max(0, took - (exchange.left_ns - exchange.came_ns))
    return Sample(exchange.back_ns, middle - exchange.back_ns, delay, spread // 2 + 1, exchange.distance_ns, exchange.stratum + 1)


class ClockFilter:
    """The samples of one parent since the host's clocks were last known to be disturbed. best: the one to go by."""

    def __init__(self, drift_ppm: int) -> None:
        self._drift_ppm = drift_ppm
        self._samples: deque[Sample] = deque(maxlen=WINDOW)
        self._points: deque[Sample] = deque(maxlen=3)
        self._least_ns = 0
        self.best: Sample | None = None
        self.doubted: list[Sample] = []
        """Samples that agree with each other and contradict the ones in use."""

    def add(self, sample: Sample, witness_ns: int, witness_bound_ns: int) -> Heard:
        """witness: UTC at the sample's instant by the host's own clock, and how far its operator says that may be off."""
        if self.best is None or self._agree(self.best, sample):
            self._take(sample)
            return Heard.TAKEN
        if self.doubted and not self._agree(self.doubted[-1], sample):
            self.doubted.clear()
        self.doubted = [*self.doubted[-WINDOW:], sample]
        if not self._confirmed(witness_ns, witness_bound_ns):
            return Heard.DOUBTED
        later, self.doubted = self.doubted, []
        self.void()
        for each in later:
            self._take(each)
        return Heard.TURNED

    def void(self) -> None:
        """Nothing from before says anything any more of the offset to mono."""
        self._samples.clear()
        self._points.clear()
        self.doubted = []
        self.best = None

    def bound_ns(self, mono_ns: int) -> int:
        """Of the best sample by now."""
        assert self.best is not None
        return self._aged(self.best, mono_ns)

    def within_until_ns(self, limit_ns: int) -> int:
        """Until then (mono) the best sample is within such a bound."""
        assert self.best is not None
        return self.best.at_ns + (limit_ns - self.best.bound_ns - 1) * 999_000 // self._drift_ppm

    def drift_ppm(self) -> float:
        """How much too fast mono runs against the parent, at least: 0 until the last two spans both say so."""
        if len(self._points) < 3:
            return 0.0
        first, second = (
            _rate(before, after, self._least_ns) for before, after in zip(self._points, list(self._points)[1:], strict=False)
        )
        return 0.0 if first * second <= 0 else min(first, second, key=abs)

    def _take(self, sample: Sample) -> None:
        self.doubted = []
        self._samples.append(sample)
        self.best = min(self._samples, key=lambda each: self._aged(each, sample.at_ns))  # all age alike: best until the next
        self._least_ns = min(self._least_ns or sample.delay_ns, sample.delay_ns)
        if sample.delay_ns > 2 * self._least_ns + POINT_DELAY_NS:
            return
        if self._points and sample.at_ns - self._points[-1].at_ns < POINTS_APART_NS:
            if sample.delay_ns < self._points[-1].delay_ns:
                self._points[-1] = sample
        else:
            self._points.append(sample)

    def _aged(self, sample: Sample, mono_ns: int) -> int:
        return sample.bound_ns + allowance_ns(mono_ns - sample.at_ns, self._drift_ppm)

    def _agree(self, before: Sample, after: Sample) -> bool:
        """Whether one truth can lie within both."""
        return abs(after.offset_ns - before.offset_ns) <= self._aged(before, after.at_ns) + after.bound_ns

    def _confirmed(self, witness_ns: int, witness_bound_ns: int) -> bool:
        first, last = self.doubted[0], self.doubted[-1]
        if len(self.doubted) < CONFIRM_SAMPLES or last.at_ns - first.at_ns < CONFIRM_NS:
            return False
        jump_ns = abs(last.offset_ns - self.best.offset_ns) if self.best is not None else 0
        apart_ns = abs(last.at_ns + last.offset_ns - witness_ns)
        return jump_ns <= FOLLOW_NS or apart_ns <= last.bound_ns + witness_bound_ns


def _rate(before: Sample, after: Sample, least_ns: int) -> float:
    """Millionths by which mono gained on the parent, less what delays explain that differ from the least."""
    gained = before.offset_ns - after.offset_ns
    noise = (before.delay_ns + after.delay_ns) // 2 - least_ns + least_ns // 8
    sure = max(0, abs(gained) - noise) * 1e6 / (after.at_ns - before.at_ns)
    return sure if gained > 0 else -sure

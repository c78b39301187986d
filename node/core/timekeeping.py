"""The time of a node: kept with the parent where it can be, never backwards, with a bound that holds, and alarms with names.

Told everything: each call brings what the host's two clocks show. Nanoseconds throughout. The wall clock may be set by anybody at
any moment, mono never is. What was given out as synchronised is never followed by something earlier: where the time turns out
to be ahead it goes on at half speed, and the bound says by how much. QĐ 28/2018 Điều 14.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from node.core.clock_filter import SECOND_NS, ClockFilter, Exchange, Heard, Sample, measure

HUB_STRATUM = 1
NO_STRATUM = 16
STEP_NS = SECOND_NS // 10
STEP_PPM = 5_000
"""The wall clock was set where it moves further than this against mono; it may be slewed by so many millionths."""
STEP_SHOWN_NS = 3600 * SECOND_NS
SETTLE_NS = 900 * SECOND_NS
"""So long after its own reference was set a root does not call itself synchronised."""
SILENT_ROUNDS = 2
DRIFT_PPM_MAX = 100
"""A host whose clock runs wrong by more is named."""
ZONES_MAX = 14
ZONE_NS = 60 * SECOND_NS
"""How close to whole hours an error looks like a wrong zone."""
FLOOR_AHEAD_MAX_NS = 2 * 86_400 * SECOND_NS
"""An instant given before a restart that lies further ahead came from a clock that was wrong, and binds nobody."""
BURST_ROUNDS = 4
BURST_S = 2.0

FOR_EVER_NS = 2**100
NEVER_NS = -FOR_EVER_NS

_HOUR_NS = 3600 * SECOND_NS


class State(StrEnum):
    ROOT = "root"
    HOST = "host"
    SYNCHRONISED = "synchronised"
    HOLDOVER = "holdover"
    UNSYNCHRONISED = "unsynchronised"


class Alarm(StrEnum):
    """Keys of words.LABELS["problem"]."""

    STEP = "clock-step"
    ZONE = "clock-zone"
    SKEW = "clock-skew"
    DRIFT = "clock-drift"
    SILENT = "clock-parent-silent"
    WRONG = "clock-parent-wrong"
    OLD = "clock-parent-old"
    UNSYNCHRONISED = "clock-unsynchronised"
    AHEAD = "clock-ahead"


@dataclass(frozen=True, slots=True)
class Policy:
    """host_bound: what the operator states for the host's clock. limit: beyond such a bound nobody is synchronised. drift_ppm:
    how wrong mono may run. poll_min_s, poll_max_s: between two rounds of exchanges."""

    host_bound_ns: int
    limit_ns: int = 120 * SECOND_NS
    drift_ppm: int = 250
    poll_min_s: float = 16.0
    poll_max_s: float = 256.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A node's time as it tells it to others: UTC and its bound (µs), how many nodes from the hub, whether it vouches for it."""

    utc_us: int
    bound_us: int
    stratum: int
    synchronised: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """How the clock is. offset: the host's wall clock less the node's time. delay: of the sample in use. since: UTC of the last
    change of state. alarms: what is wrong and a figure for it (ns, or millionths for a drift)."""

    state: State
    since_ms: int
    offset_ns: int
    bound_ns: int
    stratum: int
    delay_ns: int
    synchronised: bool
    alarms: tuple[tuple[Alarm, int], ...] = ()


class Timekeeping:
    """kept: there is a parent to keep the time with; else the host's clock is the reference, within its stated bound."""

    def __init__(self, policy: Policy, *, kept: bool) -> None:
        self._policy = policy
        self._kept = kept
        self._filter = ClockFilter(policy.drift_ppm)
        self._offset_ns: int | None = None
        """UTC less mono as it was last known; it outlives the samples it came from."""
        self._old_parent = False
        self._parent_wrong = False
        self._failures = 0
        self._rounds = 0
        self._wait_s = policy.poll_min_s
        self._seen_ns: int | None = None
        self._ahead_ns = 0
        """How far the wall clock was ahead of mono at the last look."""
        self._given_ns = self._given_at_ns = 0
        self._sure_ns = 0
        self._floor_ahead_ns = 0
        self._step: tuple[int, int] | None = None
        self._settled_ns = 0
        self._state: State | None = None
        self._since_ns = 0
        self._steer_ns: int | None = None
        self._good_from_ns, self._good_until_ns = 0, NEVER_NS
        self.steps = 0
        """How often the wall clock was seen to be set."""
        self._set()

    # the time

    def utc_ns(self, wall_ns: int, mono_ns: int) -> int:
        """The time to give out now."""
        self._look(wall_ns, mono_ns)
        target = wall_ns if self._steer_ns is None else mono_ns + self._steer_ns
        slowly = self._given_ns + (mono_ns - self._given_at_ns) // 2 if self._given_ns else 0
        given = self._given_ns = target if target >= slowly else slowly
        self._given_at_ns = mono_ns
        if self._good_from_ns <= mono_ns <= self._good_until_ns and given - target <= self._policy.limit_ns:
            self._sure_ns = given
        return given

    def bound_ns(self, wall_ns: int, mono_ns: int) -> int:
        """How far the time given last may be from the truth; where nobody vouches for it, a figure and no promise."""
        own = self._policy.host_bound_ns if self._filter.best is None else self._filter.bound_ns(mono_ns)
        return own + max(0, self._given_ns - self._target(wall_ns, mono_ns))

    def synchronised(self, wall_ns: int, mono_ns: int) -> bool:
        self._look(wall_ns, mono_ns)
        return self._vouched(wall_ns, mono_ns)

    def moment(self, wall_ns: int, mono_ns: int) -> Moment:
        utc_ns = self.utc_ns(wall_ns, mono_ns)
        sure = self._vouched(wall_ns, mono_ns)
        bound_us = -(-self.bound_ns(wall_ns, mono_ns) // 1000) + 1  # the time is cut to whole µs
        return Moment(utc_ns // 1000, bound_us, self._stratum(sure), sure)

    # what is heard

    def resume(self, floor_ns: int, wall_ns: int, mono_ns: int) -> None:
        """Before this start the node vouched for an instant: it gives none that is earlier."""
        now_ns = self._target(wall_ns, mono_ns)
        if floor_ns - now_ns > FLOOR_AHEAD_MAX_NS:
            self._floor_ahead_ns = floor_ns - now_ns
            return
        self._sure_ns = max(self._sure_ns, floor_ns)
        if floor_ns > self._given_ns:
            self._given_ns, self._given_at_ns = floor_ns, mono_ns

    def heard(self, exchange: Exchange, wall_ns: int, mono_ns: int) -> None:
        """An exchange with the parent has just ended."""
        self._look(wall_ns, mono_ns)
        self._failures, self._old_parent = 0, False
        self._set()
        sample = measure(exchange, self._policy.drift_ppm) if exchange.synchronised else None
        self._parent_wrong = sample is None
        if sample is None or exchange.distance_ns > self._policy.limit_ns:
            self._parent_wrong = True
            self._hurry()
            return
        first, good = self._offset_ns is None, self._good(mono_ns)
        self._learn(sample, wall_ns, mono_ns)
        ahead_ns = self._given_ns - self._target(wall_ns, mono_ns)
        if not good and self._good(mono_ns) and (first or ahead_ns > self._policy.limit_ns):
            self._given_ns = min(self._given_ns, self._sure_ns)  # nobody vouched for what came after

    def round_over(self) -> None:
        """A round of exchanges has ended with an answer."""
        self._rounds += 1
        if self._rounds > BURST_ROUNDS and not self._parent_wrong:
            self._wait_s = min(self._wait_s * 2, self._policy.poll_max_s)

    def silent(self) -> None:
        """The parent did not answer."""
        self._failures += 1
        self._wait_s = self._policy.poll_min_s

    def alone(self) -> None:
        """The parent cannot be asked for the time: it is of a version that does not know the question."""
        self._failures = 0
        if self._filter.best is None:
            self._old_parent = True
            self._set()
        self._wait_s = self._policy.poll_max_s

    def wait_s(self) -> float:
        """Until the next round, or where the host's clock is the reference, until it is looked at."""
        return BURST_S if self._rounds < BURST_ROUNDS and not self._own else self._wait_s

    def reading(self, wall_ns: int, mono_ns: int) -> Reading:
        utc_ns = self.utc_ns(wall_ns, mono_ns)
        state = self._now(wall_ns, mono_ns)
        if state is not self._state:
            self._state, self._since_ns = state, utc_ns
        sure = self._vouched(wall_ns, mono_ns)
        best = self._filter.best
        return Reading(
            state,
            self._since_ns // 1_000_000,
            wall_ns - utc_ns,
            self.bound_ns(wall_ns, mono_ns),
            self._stratum(sure),
            best.delay_ns if best is not None else 0,
            sure,
            tuple(self._alarms(state, wall_ns - utc_ns, mono_ns)),
        )

    # decisions

    @property
    def _own(self) -> bool:
        """The host's clock is the reference."""
        return not self._kept or self._old_parent

    def _set(self) -> None:
        """What is known has changed: where the time is to be taken from, and while its bound holds."""
        if self._own:
            self._steer_ns, self._good_from_ns, self._good_until_ns = None, self._settled_ns, FOR_EVER_NS
            return
        certain = self._filter.best is not None and not self._filter.doubted
        self._steer_ns, self._good_from_ns = self._offset_ns, 0
        self._good_until_ns = self._filter.within_until_ns(self._policy.limit_ns) if certain else NEVER_NS

    def _target(self, wall_ns: int, mono_ns: int) -> int:
        return wall_ns if self._steer_ns is None else mono_ns + self._steer_ns

    def _good(self, mono_ns: int) -> bool:
        """Whether the bound of the target holds."""
        return self._good_from_ns <= mono_ns <= self._good_until_ns

    def _vouched(self, wall_ns: int, mono_ns: int) -> bool:
        gap_ns = self._given_ns - self._target(wall_ns, mono_ns)
        return self._good(mono_ns) and gap_ns <= self._policy.limit_ns

    def _stratum(self, sure: bool) -> int:
        if not sure:
            return NO_STRATUM
        best = self._filter.best
        return HUB_STRATUM if best is None else best.stratum

    def _look(self, wall_ns: int, mono_ns: int) -> None:
        """Notice that the wall clock was set. Mono may have stood still, too (a machine that slept): no sample counts."""
        ahead_ns = wall_ns - mono_ns
        moved = ahead_ns - self._ahead_ns if self._seen_ns is not None else 0
        passed = mono_ns - self._seen_ns if self._seen_ns is not None else 0
        self._ahead_ns, self._seen_ns = ahead_ns, mono_ns
        if -STEP_NS <= moved <= STEP_NS or abs(moved) <= STEP_NS + passed * STEP_PPM // 1_000_000:
            return
        if self._own and abs(moved) <= 2 * self._policy.host_bound_ns:
            return  # both may be true within the stated bound
        self.steps += 1
        self._step = (mono_ns, moved)
        self._settled_ns = mono_ns + SETTLE_NS
        self._filter.void()
        self._set()
        self._hurry()

    def _learn(self, sample: Sample, wall_ns: int, mono_ns: int) -> None:
        witness_ns = wall_ns - (mono_ns - sample.at_ns)
        heard = self._filter.add(sample, witness_ns, self._policy.host_bound_ns)
        self._parent_wrong = heard is Heard.DOUBTED
        if heard is not Heard.TAKEN:
            self._hurry()
        assert self._filter.best is not None
        self._offset_ns = self._filter.best.offset_ns
        self._set()

    def _hurry(self) -> None:
        self._wait_s = self._policy.poll_min_s

    def _now(self, wall_ns: int, mono_ns: int) -> State:
        if not self._vouched(wall_ns, mono_ns):
            return State.UNSYNCHRONISED
        if self._own:
            return State.HOST if self._kept else State.ROOT
        return State.HOLDOVER if self._failures >= SILENT_ROUNDS or self._parent_wrong else State.SYNCHRONISED

    def _alarms(self, state: State, off_ns: int, mono_ns: int) -> list[tuple[Alarm, int]]:
        found: list[tuple[Alarm, int]] = []
        if self._step is not None and mono_ns - self._step[0] < STEP_SHOWN_NS:
            found.append((Alarm.STEP, self._step[1]))
        if not self._own and self._filter.best is not None:
            if abs(off_ns) > self._policy.host_bound_ns + self._filter.bound_ns(mono_ns):
                found.append((Alarm.ZONE if _whole_hours(off_ns) else Alarm.SKEW, off_ns))
            if abs(drift := self._filter.drift_ppm()) > DRIFT_PPM_MAX:
                found.append((Alarm.DRIFT, round(drift)))
        if self._failures >= SILENT_ROUNDS:
            found.append((Alarm.SILENT, 0))
        if self._parent_wrong:
            found.append((Alarm.WRONG, self._jump_ns()))
        if self._old_parent:
            found.append((Alarm.OLD, 0))
        if self._floor_ahead_ns:
            found.append((Alarm.AHEAD, self._floor_ahead_ns))
        if state is State.UNSYNCHRONISED:
            found.append((Alarm.UNSYNCHRONISED, 0))
        return found

    def _jump_ns(self) -> int:
        best, doubted = self._filter.best, self._filter.doubted
        return doubted[-1].offset_ns - best.offset_ns if best is not None and doubted else 0


def _whole_hours(off_ns: int) -> bool:
    hours = round(off_ns / _HOUR_NS)
    return 1 <= abs(hours) <= ZONES_MAX and abs(off_ns - hours * _HOUR_NS) <= ZONE_NS

"""The time a node gives out: kept with the parent, never backwards, within its bound, and a name for whatever is wrong."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from node.core.clock_filter import SECOND_NS, Exchange
from node.core.timekeeping import (
    BURST_S,
    FLOOR_AHEAD_MAX_NS,
    NO_STRATUM,
    SETTLE_NS,
    SILENT_ROUNDS,
    STEP_SHOWN_NS,
    Alarm,
    Policy,
    Reading,
    State,
    Timekeeping,
)

S = SECOND_NS
MS = 1_000_000
HOUR = 3600 * S
DAY = 24 * HOUR
EPOCH = 1_795_392_000 * S
POLICY = Policy(S)


@dataclass
class Host:
    """A node on a host whose wall clock is `off` and whose crystal runs wrong; its parent is `parent_off`, as far as it knows
    within `distance`."""

    kept: bool = True
    off_ns: int = 0
    drift_ppm: float = 0.0
    parent_off_ns: int = 0
    distance_ns: int = 10 * MS
    true_ns: int = EPOCH
    mono_ns: int = 77 * S

    def __post_init__(self) -> None:
        self.keeping = Timekeeping(POLICY, kept=self.kept)

    @property
    def wall_ns(self) -> int:
        return EPOCH + self.off_ns + self.mono_ns - 77 * S

    def passes(self, ns: int) -> None:
        self.true_ns += ns
        self.mono_ns += round(ns * (1 + self.drift_ppm / 1e6))

    def now(self) -> int:
        return self.keeping.utc_ns(self.wall_ns, self.mono_ns)

    def error(self) -> int:
        return self.now() - self.true_ns

    def bound(self) -> int:
        return self.keeping.bound_ns(self.wall_ns, self.mono_ns)

    def sure(self) -> bool:
        return self.keeping.synchronised(self.wall_ns, self.mono_ns)

    def reading(self) -> Reading:
        return self.keeping.reading(self.wall_ns, self.mono_ns)

    def alarms(self) -> dict[Alarm, int]:
        return dict(self.reading().alarms)

    def asks(self, up_ns: int = 2 * MS, down_ns: int = 2 * MS, *, synchronised: bool = True) -> None:
        sent = self.mono_ns
        self.passes(up_ns)
        came = self.true_ns + self.parent_off_ns
        self.passes(down_ns)
        self.keeping.heard(
            Exchange(sent, came, came, self.mono_ns, self.distance_ns, 1, synchronised), self.wall_ns, self.mono_ns
        )

    def rounds(self, number: int, apart_ns: int = 64 * S) -> None:
        for _ in range(number):
            self.passes(apart_ns)
            self.asks()
            self.keeping.round_over()


def test_a_hub_goes_by_its_host_within_the_stated_bound() -> None:
    hub = Host(kept=False)
    assert (hub.error(), hub.bound(), hub.sure()) == (0, S, True)
    assert (hub.reading().state, hub.reading().stratum, hub.alarms()) == (State.ROOT, 1, {})


def test_before_the_first_answer_nobody_vouches_for_the_hosts_clock() -> None:
    host = Host(off_ns=HOUR)
    assert (host.error(), host.sure(), host.reading().stratum) == (HOUR, False, NO_STRATUM)
    assert Alarm.UNSYNCHRONISED in host.alarms()


@pytest.mark.parametrize("off_ns", [-DAY, -HOUR, 0, HOUR, DAY])
def test_one_answer_puts_the_time_right_whatever_the_host_shows(off_ns: int) -> None:
    host = Host(off_ns=off_ns)
    host.now()
    host.asks()
    assert abs(host.error()) <= host.bound() < 20 * MS
    found = host.reading()
    assert (found.state, found.stratum, found.synchronised) == (State.SYNCHRONISED, 2, True)
    assert abs(found.offset_ns - off_ns) < 20 * MS


@pytest.mark.parametrize(
    ("off_ns", "alarm"),
    [
        (HOUR, Alarm.ZONE),
        (-7 * HOUR + S, Alarm.ZONE),
        (DAY, Alarm.SKEW),
        (-DAY, Alarm.SKEW),
        (90 * S, Alarm.SKEW),
        (HOUR // 2, Alarm.SKEW),
    ],
)
def test_a_host_that_is_off_is_named_at_once(off_ns: int, alarm: Alarm) -> None:
    host = Host(off_ns=off_ns)
    host.asks()
    assert list(host.alarms()) == [alarm]
    assert abs(host.alarms()[alarm] - off_ns) < 20 * MS


def test_a_host_within_its_bound_is_well() -> None:
    host = Host(off_ns=S // 2)
    host.rounds(5)
    assert host.alarms() == {}


@pytest.mark.parametrize("ppm", [-200.0, 200.0])
def test_a_crystal_that_runs_wrong_is_named_within_two_rounds(ppm: float) -> None:
    host = Host(drift_ppm=ppm)
    host.asks()
    host.rounds(2)
    assert list(host.alarms()) == [Alarm.DRIFT]
    assert abs(host.error()) <= host.bound()


@pytest.mark.parametrize("by_ns", [-DAY, -S, S, HOUR])
def test_a_host_that_is_set_is_noticed_and_its_samples_are_void(by_ns: int) -> None:
    host = Host()
    host.asks()
    before = host.now()
    host.passes(10 * S)
    host.off_ns += by_ns
    assert abs(host.now() - before - 10 * S) < MS, "the time goes on as before"
    assert not host.sure()
    assert host.alarms()[Alarm.STEP] == by_ns
    assert host.keeping.steps == 1
    host.asks()
    assert host.sure()
    assert abs(host.error()) <= host.bound() < 20 * MS
    host.passes(STEP_SHOWN_NS)
    assert Alarm.STEP not in host.alarms()


def test_a_host_that_slews_its_clock_did_not_set_it() -> None:
    host = Host()
    host.asks()
    for _ in range(1000):
        host.passes(S)
        host.off_ns += 500_000  # 500 millionths
        host.now()
    assert host.keeping.steps == 0


def test_a_hub_whose_reference_was_set_vouches_for_nothing_for_a_while() -> None:
    hub = Host(kept=False)
    hub.now()
    hub.off_ns = 60 * S
    hub.now()
    assert (hub.sure(), hub.keeping.moment(hub.wall_ns, hub.mono_ns).stratum) == (False, NO_STRATUM)
    assert Alarm.STEP in hub.alarms()
    hub.passes(SETTLE_NS)
    assert hub.sure()


def test_a_hub_whose_reference_moves_within_its_bound_goes_on() -> None:
    hub = Host(kept=False)
    hub.now()
    hub.off_ns = S
    hub.now()
    assert hub.sure() and hub.alarms() == {}


def test_time_that_is_ahead_goes_on_at_half_speed_and_says_by_how_much() -> None:
    hub = Host(kept=False)
    first = hub.now()
    hub.off_ns = -S
    hub.passes(S)
    assert hub.now() == first + S // 2
    assert hub.bound() == S + S // 2
    hub.passes(S)
    assert hub.now() == first + S
    assert hub.bound() == S
    for _ in range(1000):  # asked again and again it goes on all the same
        hub.off_ns -= 1_000
        hub.passes(1_000)
        hub.now()
    assert hub.now() > first + S


def test_a_silent_parent_is_named_and_the_bound_grows_until_nobody_vouches() -> None:
    host = Host(drift_ppm=200)
    host.asks()
    for _ in range(SILENT_ROUNDS):
        host.passes(16 * S)
        host.keeping.silent()
    assert (host.reading().state, Alarm.SILENT in host.alarms()) == (State.HOLDOVER, True)
    host.passes(72 * HOUR)
    assert host.sure()
    assert abs(host.error()) <= host.bound() < 70 * S
    host.passes(100 * HOUR)
    assert (host.sure(), host.reading().state) == (False, State.UNSYNCHRONISED)
    host.asks()
    assert host.sure() and Alarm.SILENT not in host.alarms()


def test_a_parent_that_does_not_vouch_for_its_time_is_named_below() -> None:
    host = Host()
    host.asks()
    host.asks(synchronised=False)
    assert (list(host.alarms()), host.reading().state) == ([Alarm.WRONG], State.HOLDOVER)
    host.asks()
    assert host.alarms() == {}


def test_a_parent_that_jumps_is_named_and_not_followed() -> None:
    host = Host()
    host.asks()
    host.parent_off_ns = DAY
    host.rounds(10)
    assert abs(host.error()) < S
    assert not host.sure()
    assert abs(host.alarms()[Alarm.WRONG] - DAY) < S
    host.parent_off_ns = 0
    host.asks()
    assert host.sure() and host.alarms() == {}


def test_a_node_led_astray_comes_back_slowly_and_says_how_far_it_is() -> None:
    host = Host(parent_off_ns=60 * S)
    host.asks()
    assert host.sure()
    host.parent_off_ns = 0
    before = host.now()
    host.asks()
    assert not host.sure()
    while not host.sure():
        host.rounds(1, 16 * S)
        now = host.now()
        assert now >= before
        before = now
        assert host.error() > 20 * MS
    for _ in range(200):
        host.passes(S)
        assert abs(host.error()) <= host.bound()
    assert abs(host.error()) < 200 * MS


def test_a_parent_of_an_older_version_leaves_the_host_with_its_stated_bound() -> None:
    host = Host(off_ns=S // 2)
    host.keeping.alone()
    assert (host.sure(), host.bound(), host.error()) == (True, S, S // 2)
    assert (host.reading().state, list(host.alarms())) == (State.HOST, [Alarm.OLD])
    host.asks()
    assert list(host.alarms()) == []


def test_no_instant_is_earlier_than_one_vouched_for_before_the_restart() -> None:
    host = Host(off_ns=-60 * S)
    host.keeping.resume(EPOCH + 10 * S, host.wall_ns, host.mono_ns)
    assert host.error() == 10 * S
    host.asks()
    assert host.error() >= 9 * S
    assert host.bound() >= host.error()
    host.passes(30 * S)
    assert abs(host.error()) <= host.bound() < 50 * MS


def test_an_instant_from_a_clock_that_was_wildly_wrong_binds_nobody() -> None:
    hub = Host(kept=False)
    hub.keeping.resume(EPOCH + FLOOR_AHEAD_MAX_NS + S, hub.wall_ns, hub.mono_ns)
    assert hub.error() == 0
    assert list(hub.alarms()) == [Alarm.AHEAD]


def test_it_asks_often_at_first_and_seldom_when_all_is_well() -> None:
    host = Host()
    waits = []
    for _ in range(10):
        host.rounds(1)
        waits.append(host.keeping.wait_s())
    assert waits[:3] == [BURST_S] * 3
    assert waits[3:] == [16.0, 32.0, 64.0, 128.0, 256.0, 256.0, 256.0]
    host.keeping.silent()
    assert host.keeping.wait_s() == 16.0
    host.rounds(8)
    host.off_ns = HOUR
    host.now()
    assert host.keeping.wait_s() == 16.0


@pytest.mark.parametrize("block", range(8))
def test_the_truth_lies_within_the_bound_and_time_never_runs_back(block: int) -> None:
    """Through drift, slow and uneven exchanges, steps of the host, silence and restarts; parents as wrong as they say."""
    for seed in range(block * 300, block * 300 + 300):
        rng = random.Random(seed)
        host = Host(
            off_ns=rng.choice((0, HOUR, -DAY, rng.randrange(-HOUR, HOUR))),
            drift_ppm=rng.uniform(-200, 200),
            distance_ns=rng.randrange(1000 * MS),
        )
        host.parent_off_ns = rng.randint(-host.distance_ns, host.distance_ns)
        vouched = 0
        for _ in range(40):
            host.passes(round(rng.lognormvariate(24, 2)))
            match rng.randrange(8):
                case 0:
                    host.off_ns += rng.choice((-1, 1)) * rng.choice((50 * MS, 2 * S, HOUR, DAY))
                case 1:
                    host.keeping.silent()
                case 2:
                    host.parent_off_ns = rng.randint(-host.distance_ns, host.distance_ns)
                case 3 if rng.random() < 0.3:
                    host.keeping = Timekeeping(POLICY, kept=True)
                    host.keeping.resume(vouched // MS * MS, host.wall_ns, host.mono_ns)
                case _:
                    host.asks(round(rng.lognormvariate(17, 2)), round(rng.lognormvariate(17, 2)))
            now = host.now()
            if host.sure():
                assert abs(now - host.true_ns) <= host.bound(), seed
                assert now >= vouched // MS * MS, seed
                vouched = now

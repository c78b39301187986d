"""How much of everything a run has: a profile says what may happen, a seed draws what does (swarm testing).

About half of the seeds meet only a few kinds of faults: a fault that is always there hides what another one alone would show.
Knows the kinds of faults by name only.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from topology.model import Options
from topology.sim.offices import Habits
from topology.sim.traffic import Traffic

FEW_KINDS = 4


@dataclass(frozen=True, slots=True)
class Profile:
    """What a run is made of.

    crashes: how many faults that end a process are drawn, about; faults: how many others. kinds: fault -> weight.
    options: options of every node set away from their defaults, also beyond what a configuration allows: a lifetime of minutes.
    settle_s: virtual seconds that may pass between the last fault and the end of all work. look_s: how often (virtual) it is
    looked at whether all work is done. expires: lifetimes end within the run. line_bytes_per_s: what each line between two nodes
    carries while there is traffic, 0: enough; one_line: only the one at the sender's or at the receiver's end of the road does.
    patience_s: also a document that is not urgent must be laid before its office
    within so many virtual seconds after its sender was answered, whatever overtakes it; 0: whenever. express_s: a hỏa tốc that no
    other one follows or precedes so closely must be laid there within so many; share: what the others get beside many, of all
    that the line carries. absent_every: at one restart of so many the tables of all nodes are read for what was acknowledged and
    is on no disk. in_memory: databases lie in memory (`database.py`), so power cuts and faults of disks are not for such a
    profile. true_hub: no fault
    touches the hub's clock, so that bounds can be judged to the end. certificates: in what share of the runs something happens to
    certificates; only those judge them, and they are drawn by themselves, so that the other faults of a seed stay what they are.
    rest_s: what nodes look at just to be sure, whatever they were told, they look at this seldom; 0: as in service. pace: a fault
    that lasts lasts so many times longer.
    """

    name: str
    traffic: Traffic
    habits: Habits
    crashes: int
    faults: int
    kinds: Mapping[str, float]
    options: Options = field(default_factory=dict)
    settle_s: float = 6 * 3600.0
    look_s: float = 10.0
    expires: bool = False
    line_bytes_per_s: float = 0.0
    one_line: bool = False
    patience_s: float = 0.0
    express_s: float = 0.0
    share: float = 0.0
    absent_every: int = 1
    in_memory: bool = False
    true_hub: bool = False
    certificates: float = 0.0
    rest_s: float = 0.0
    pace: float = 1.0


@dataclass(frozen=True, slots=True)
class Stroke:
    """One fault of a run: its kind, when it begins (virtual seconds), and a number its own choices follow from."""

    at_s: float
    kind: str
    number: int


CRASHES: Mapping[str, float] = {
    "power cut": 5,
    "kill": 2,
    "kill at operation": 3,
    "restart loop": 1,
    "stop": 1,
    "reconnect": 0.5,
}
"""Kinds that end a process; each counts as a crash."""

OTHERS: Mapping[str, float] = {
    "pause": 2,
    "disk full": 1,
    "disk error": 1,
    "slow disk": 1,
    "lying disk": 0.5,
    "bit flip": 0.7,
    "clock step": 1,
    "clock wrong": 1,
    "cut": 2,
    "one way": 2,
    "partition": 1,
    "clog": 1,
    "swizzle": 0.5,
    "flap": 1,
    "lossy": 2,
    "repeated": 1,
    "slow line": 1,
    "torn": 1,
    "rubbish": 0.7,
    "errors": 0.7,
    "mute": 0.7,
    "poison": 0.7,
    "forged": 0.7,
    "removed": 0.5,
    "moved": 0.5,
}

OF_DISKS = ("power cut", "restart loop", "disk full", "disk error", "slow disk", "lying disk", "bit flip")
"""What would show nothing where a database lies in memory; a restart loop cuts the power too."""

OF_CERTIFICATES = ("certificate expired", "certificate revoked")

REPORT_S = 600.0
"""A rehearsal's hours are minutes, and a statement costs as much as in service: the open day is stated seldom."""

NODE_OPTIONS: Options = {"link": {"probe_max_s": 5.0}}

SMALL = Profile(
    "small",
    Traffic(documents=50, span_s=600.0),
    Habits(poll_s=45.0, p_answered=0.35),
    crashes=12,
    faults=6,
    kinds={**CRASHES, **OTHERS},
    options=NODE_OPTIONS,
    certificates=0.25,
)
QUIET = Profile("quiet", Traffic(documents=50, span_s=600.0), Habits(poll_s=45.0, p_answered=0.35), 0, 0, {}, NODE_OPTIONS)
MEDIUM = Profile(
    "medium",
    Traffic(documents=600, span_s=3600.0),
    Habits(poll_s=60.0, p_answered=0.35),
    crashes=60,
    faults=40,
    kinds={**CRASHES, **OTHERS},
    options=NODE_OPTIONS,
    certificates=0.5,
)
RARELY = {"poll_min_s": 3_600.0, "poll_max_s": 7_200.0}
"""A whole country asks for the time half a million times a day otherwise."""
COUNTRY = Profile(
    "country",
    Traffic(documents=20_000, span_s=86_400.0, p_several=0.05, p_near=0.75, p_hot=0.01),
    Habits(poll_s=600.0, status_every=6, p_answered=0.1, p_native=0.0),
    crashes=200,
    faults=100,
    kinds={kind: weight for kind, weight in {**CRASHES, **OTHERS}.items() if kind not in OF_DISKS},
    options={
        "link": {"pull_wait_s": 60.0, "probe_max_s": 15.0},
        "retention": {"sweep_s": 6 * 3600.0},
        "clock": RARELY,
        "report": {"every_s": 3 * 3_600.0},
    },
    look_s=60.0,
    absent_every=20,
    in_memory=True,
    rest_s=60.0,
)
"""More stays within a province than leaves it: most of what is sent goes between a province and its communes."""
EXPIRY = Profile(
    "expiry",
    Traffic(documents=50, span_s=600.0),
    # An office that confirms what it has not fetched may be told that it is too late; those of `small` try that.
    Habits(poll_s=90.0, p_answered=0.2, p_slow=0.15, p_done_unfetched=0.0),
    crashes=4,
    faults=12,
    kinds={
        **dict.fromkeys(("power cut", "kill", "reconnect", "pause"), 1.0),
        **dict.fromkeys(("cut", "one way", "partition", "clog", "flap", "lossy", "repeated"), 2.0),
    },
    options={**NODE_OPTIONS, "forwarding": {"lifetime_d": 150.0 / 86_400.0}, "retention": {"sweep_s": 5.0}},
    expires=True,
)
"""Lifetimes of two and a half minutes, lines that are cut for longer with copies in doubt, offices that stay away as long. No
clock is wrong: a lifetime is an agreement on the time."""
FLOOD = Profile(
    "flood",
    Traffic(
        documents=220,
        span_s=3_600.0,
        bytes_min=80_000,
        bytes_max=110_000,
        p_large=0.0,
        p_several=0.0,
        p_bad=0.0,
        p_only_bad=0.0,
        p_broken=0.0,
        p_update=0.0,
        p_same_id=0.0,
        p_again=0.0,
        p_burst=0.0,
        p_urgent=0.97,
        one_road=True,
    ),
    Habits(poll_s=30.0, p_answered=0.0, p_hang_up=0.0, p_crash=0.0, p_fail=0.0, p_held=0.0, p_slow=0.0, p_done_unfetched=0.0),
    crashes=0,
    faults=0,
    kinds={},
    options={"link": {"probe_max_s": 5.0, "batch_bytes_max": 131_072}},
    line_bytes_per_s=4_000.0,
    patience_s=1_800.0,
)
"""An hour in which one road of 32 kbit/s is asked to carry more than it can, nearly all of it urgent: the rest must come too."""
SLOW = Profile(
    "slow",
    replace(
        FLOOD.traffic,
        documents=600,
        span_s=1_000.0,
        bytes_min=15_000,
        bytes_max=70_000,
        p_large=0.03,
        large_bytes_min=400_000,
        large_bytes_max=700_000,
        p_urgent=0.0,
        p_burst=1.0,
        express=(20, 32),
    ),
    replace(FLOOD.habits, poll_s=1.0, senders=16),
    crashes=0,
    faults=0,
    kinds={},
    line_bytes_per_s=32_000.0,
    one_line=True,
    express_s=20.0,
    share=0.1,
)
"""A line of 256 kbit/s with a queue of twenty minutes, small documents and large ones, when a hỏa tốc of 200 kB comes, again and
again, and then many together. # QĐ 28/2018 Điều 6.2"""
CHANGE = Profile(
    "change",
    Traffic(documents=50, span_s=600.0, p_several=0.8),
    Habits(poll_s=45.0, p_answered=0.2),
    crashes=4,
    faults=6,
    kinds={**dict.fromkeys(("kill", "pause", "cut", "clog"), 1.0), "removed": 2.0, "moved": 2.0, "in parts": 4.0}
    | {"claimed": 1.0, "gone back": 1.0},
    options=NODE_OPTIONS,
)
"""Documents to several receivers at once, while some of those are closed or put off: one envelope goes more than one way."""
MOVES = replace(CHANGE, name="moves", crashes=0, faults=6, kinds={"moved": 1.0})
"""Half of all units, and who is left without units, hang elsewhere in the end: roads turn round, and into circles."""
CLOCKS = Profile(
    "clocks",
    Traffic(documents=25, span_s=1_800.0),
    Habits(poll_s=60.0, p_answered=0.2),
    crashes=4,
    faults=16,
    kinds={
        **dict.fromkeys(("kill", "power cut", "pause", "cut", "one way", "clog", "slow line"), 1.0),
        **{"lossy": 2.0, "clock step": 3.0, "clock wrong": 4.0},
    },
    options={**NODE_OPTIONS, "clock": {"bound_ms": 10}},
    true_hub=True,
)
"""Hosts whose clocks are off, drift and are set, below a hub whose clock is right to 10 ms. # QĐ 28/2018 Điều 14.4"""


def _seldom(hours: float) -> Options:
    """Options of nodes that ask each other only so often where nothing happens: days go by in which nothing does. What was
    collected is kept beyond the end of a run: it is asked for then."""
    return {
        "link": {"pull_wait_s": hours * 3_600.0, "probe_max_s": 600.0 * hours},
        "retention": {"sweep_s": hours * 3_600.0, "collected_d": 90.0},
        "clock": {"poll_min_s": hours * 3_600.0, "poll_max_s": hours * 7_200.0},
        "report": {"every_s": hours * 900.0},
    }


DAYS = Profile(
    "days",
    Traffic(documents=40, span_s=3 * 86_400.0),
    Habits(poll_s=3 * 3_600.0, p_answered=0.3),
    crashes=10,
    faults=16,
    kinds={
        **dict.fromkeys(("kill", "stop", "reconnect", "pause", "cut", "one way", "partition", "lossy"), 1.0),
        **{"moved": 2.0, "repeated": 3.0, "clock step": 1.0, "clock wrong": 1.0},
    },
    options=_seldom(2.0),
    settle_s=24 * 3_600.0,
    look_s=60.0,
    in_memory=True,
    true_hub=True,
    rest_s=7_200.0,
    pace=20.0,
)
"""Three days with their nights: what is counted of each day, through restarts, repeated calls, links that are down for hours,
clocks that are wrong and units that move. What each tier reports of each day is what the offices saw. # QĐ 28/2018 Điều 11"""
MONTH = replace(
    DAYS,
    name="month",
    traffic=Traffic(documents=120, span_s=30 * 86_400.0),
    habits=replace(DAYS.habits, poll_s=6 * 3_600.0),
    crashes=20,
    faults=30,
    options=_seldom(6.0),
    settle_s=4 * 86_400.0,
    look_s=600.0,
    rest_s=6 * 3_600.0,
    pace=100.0,
)
"""Thirty days of the same."""
PROFILES: Mapping[str, Profile] = {
    each.name: each for each in (SMALL, QUIET, MEDIUM, COUNTRY, EXPIRY, FLOOD, SLOW, CHANGE, MOVES, CLOCKS, DAYS, MONTH)
}
"""By name. `small` is what a campaign runs unless told otherwise."""


def options(profile: Profile, rng: random.Random) -> Options:
    """The options of every node of one run: the profile's, and small limits now and then, which force what is rare."""
    drawn: dict[str, dict[str, object]] = {name: dict(values) for name, values in profile.options.items()}
    drawn.setdefault("report", {}).setdefault("every_s", REPORT_S)
    if profile.kinds:
        drawn.setdefault("store", {}).update(wal_pages_max=rng.choice((100, 300, 4000)), group_max=rng.choice((1, 8, 512)))
        drawn.setdefault("link", {}).update(batch_envelopes_max=rng.choice((1, 8, 500, 500)))
        drawn["link"].update(body_chunk_bytes=rng.choice((16_384, 262_144)))
    return drawn


def draw(profile: Profile, rng: random.Random) -> list[Stroke]:
    """The faults of one run, in the order of their beginning."""
    kinds = list(profile.kinds)
    if kinds and rng.random() < 0.5:
        kinds = rng.sample(kinds, min(len(kinds), FEW_KINDS))
    fatal = [kind for kind in kinds if kind in CRASHES] or [kind for kind in ("power cut", "kill") if kind in profile.kinds][:1]
    gentle = [kind for kind in kinds if kind not in CRASHES]
    strokes = [*_some(profile, fatal, profile.crashes, rng), *_some(profile, gentle, profile.faults, rng)]
    return sorted(strokes, key=lambda stroke: (stroke.at_s, stroke.number))


def draw_certificates(profile: Profile, rng: random.Random) -> list[Stroke]:
    """What happens to certificates in one run: in most runs nothing."""
    if rng.random() >= profile.certificates:
        return []
    kinds = rng.choices(OF_CERTIFICATES, k=rng.randint(1, 3))
    return [Stroke(rng.uniform(0, profile.traffic.span_s), kind, rng.getrandbits(48)) for kind in kinds]


def _some(profile: Profile, kinds: Sequence[str], about: int, rng: random.Random) -> list[Stroke]:
    if not kinds or not about:
        return []
    weights = [profile.kinds[kind] for kind in kinds]
    number = rng.randint(about * 3 // 4, about * 5 // 4)
    chosen = rng.choices(kinds, weights, k=number)
    return [Stroke(rng.uniform(0, profile.traffic.span_s), kind, rng.getrandbits(48)) for kind in chosen]

"""Planted bugs: each is found by a run that finds nothing wrong in the code as it is, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from node import forwarder, intake, mailbox, origin, uplink
from node.adapters.http import tls
from node.adapters.sqlite import admission, boxes, numbers, road, store, writer
from node.core import changes, clock_filter, forwarding, instant, pace, standing, timekeeping
from tests.topology.sim.tiny import STORMY, TREE
from topology.sim import database, files, mutants
from topology.sim.mutants import MUTANTS, Mutant, planted
from topology.sim.profile import CHANGE, CLOCKS, DAYS, EXPIRY, FLOOD, PROFILES, RARELY, SLOW, Profile
from topology.sim.run import Outcome, simulate

SMALLER: Mapping[str, Profile] = {
    "small": STORMY,
    "expiry": replace(EXPIRY, traffic=replace(EXPIRY.traffic, documents=20, span_s=240.0), settle_s=1_200.0),
    "flood": replace(FLOOD, traffic=replace(FLOOD.traffic, documents=55, span_s=900.0), patience_s=450.0),
    "change": replace(CHANGE, traffic=replace(CHANGE.traffic, documents=20, span_s=240.0)),
    "clocks": replace(CLOCKS, traffic=replace(CLOCKS.traffic, documents=8, span_s=900.0)),
    "days": replace(DAYS, traffic=replace(DAYS.traffic, documents=8, span_s=72_000.0), crashes=0, faults=2),
    "slow": replace(SLOW, traffic=replace(SLOW.traffic, documents=150, span_s=280.0, express=(2, 6), p_large=0.0)),
}
"""What finds a bug in a second, of the profiles that find it in a few."""
NARROWER: Mapping[str, Profile] = {
    "dedup-off": replace(STORMY, crashes=0, faults=12, kinds={"lossy": 2.0, "one way": 1.0, "repeated": 1.0}),
    "body-before-sync": replace(STORMY, traffic=replace(STORMY.traffic, p_large=0.5), faults=0, kinds={"power cut": 1.0}),
    "expiry-in-doubt": replace(SMALLER["expiry"], crashes=0, kinds={"lossy": 1.0, "one way": 2.0, "cut": 2.0}),
    "urgent-behind-bulk": replace(SLOW, traffic=replace(SLOW.traffic, documents=60, span_s=280.0, express=(2, 0), p_large=0.3)),
    "older-replaces-newer": replace(
        DAYS,
        traffic=replace(DAYS.traffic, documents=12, span_s=1_800.0),
        habits=replace(DAYS.habits, poll_s=120.0),
        options={
            "link": {"pull_wait_s": 1_800.0, "probe_max_s": 60.0},
            "retention": {"sweep_s": 1_800.0},
            "clock": RARELY,
            "report": {"every_s": 120.0},
        },
        crashes=0,
        faults=10,
        pace=1.0,
        kinds={"repeated": 1.0},
    ),
    "come-back-taken": replace(SMALLER["change"], crashes=0, faults=4, kinds={"moved": 1.0}),
    "claims-believed": replace(SMALLER["change"], crashes=0, faults=3, kinds={"claimed": 1.0}),
    **dict.fromkeys(
        ("revoked-served", "expired-served"),
        replace(STORMY, traffic=replace(STORMY.traffic, documents=3), crashes=0, faults=0, kinds={}, certificates=1.0),
    ),
}
"""Nothing but what the bug is about: bugs that need a rare meeting of faults are then found in a few seeds."""
ASKED = (
    *("synchronous-normal", "dedup-off", "reply-before-commit", "confirmed-before-commit", "new-id-on-retry"),
    *("one-verdict-for-all", "come-back-taken", "expiry-in-doubt", "body-before-sync", "lane-starves", "notice-answers-notice"),
    *("long-pieces", "bodies-cost-nothing", "urgent-behind-bulk"),
    *("counted-twice", "day-in-utc", "older-replaces-newer"),
    *("revoked-served", "expired-served"),
    *("slow-exchange-trusted", "drift-forgotten", "host-clock-trusted", "time-set-back"),
)
"""Those that must be among them, whatever else is."""
FOUND_BY: Mapping[str, int] = {
    "claims-believed": 1,
    "revoked-served": 3,
    "expired-served": 2,
    "synchronous-normal": 2,
    "reply-before-commit": 1,
    "body-before-sync": 14,
    "folder-not-synced": 1,
    "dedup-off": 6,
    "new-id-on-retry": 3,
    "failure-is-success": 2,
    "one-verdict-for-all": 1,
    "come-back-taken": 2,
    "expiry-in-doubt": 6,
    "confirmed-before-commit": 6,
    "handed-over-at-fetch": 6,
    "lane-starves": 2,
    "notice-answers-notice": 1,
    "long-pieces": 1,
    "bodies-cost-nothing": 1,
    "urgent-behind-bulk": 1,
    "taken-but-not-kept": 1,
    "slow-exchange-trusted": 1,
    "drift-forgotten": 4,
    "host-clock-trusted": 1,
    "time-set-back": 2,
    "counted-twice": 1,
    "day-in-utc": 3,
    "older-replaces-newer": 7,
}
"""A seed that is known to find each one, among the quickest. When the course of events changes others are tried, so that it only
costs time; then look for a better one."""
TRIES = 20
SPOILT_NUMBERS = (numbers, instant)
SPOILT = (database, files._SimFile, files.SimFiles, admission, boxes, road, writer.Writer, forwarder, origin)
SPOILT_TOO = (changes, mailbox.Mailbox, intake.Intake, store.SqliteStore, forwarding, pace.Rate, uplink, uplink.Crossings)
SPOILT_TRUST = (standing, tls)
SPOILT_TIME = (clock_filter, timekeeping, timekeeping.Timekeeping)


def profile_of(name: str) -> Profile:
    return NARROWER.get(name, SMALLER[MUTANTS[name].profile])


@cache
def clean(name: str, seed: int) -> Outcome:
    return simulate(TREE, profile_of(name), seed)


@pytest.mark.parametrize("name", FOUND_BY)
def test_a_planted_bug_is_found(name: str) -> None:
    for seed in (FOUND_BY[name], *range(1, TRIES)):
        with planted(name):
            spoilt = simulate(TREE, profile_of(name), seed, hasty=True)
        if spoilt.violations:
            return
    raise AssertionError(f"{name} was not found in {TRIES} seeds")


@pytest.mark.parametrize("name", ["synchronous-normal", "one-verdict-for-all", "lane-starves", "drift-forgotten", *NARROWER])
def test_the_code_as_it_is_raises_no_alarm_where_a_bug_is_found(name: str) -> None:
    assert clean(name, FOUND_BY[name]).violations == []


def test_every_bug_that_must_be_planted_is_planted_and_found_by_a_test() -> None:
    assert [name for name in ASKED if name not in MUTANTS] == []
    assert FOUND_BY.keys() == MUTANTS.keys()
    assert all(mutant.profile in PROFILES and mutant.what for mutant in MUTANTS.values())


def named(owner: Any) -> dict[str, Any]:
    return dict(vars(owner))


@pytest.mark.parametrize("name", MUTANTS)
def test_planting_changes_something_and_leaves_nothing_behind(name: str) -> None:
    owners = (*SPOILT, *SPOILT_TOO, *SPOILT_TIME, *SPOILT_TRUST, *SPOILT_NUMBERS)
    before = [named(owner) for owner in owners]
    with planted(name):
        assert [named(owner) for owner in owners] != before
    assert [named(owner) for owner in owners] == before


def test_what_was_planted_is_taken_out_when_the_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    known = admission._known
    with pytest.raises(ZeroDivisionError), planted("dedup-off"):
        raise ZeroDivisionError
    assert admission._known is known

    def half(stack: ExitStack) -> None:
        mutants._put(stack, admission, "_known", None)
        raise ZeroDivisionError

    monkeypatch.setattr(mutants, "MUTANTS", {"half": Mutant("", half)})
    with pytest.raises(ZeroDivisionError), planted("half"):
        pass
    assert admission._known is known


def test_no_name_plants_nothing_and_an_unknown_one_is_an_error() -> None:
    with planted(""):
        pass
    with pytest.raises(KeyError), planted("no such bug"):
        pass

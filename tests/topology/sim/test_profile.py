"""What a seed draws: the same again from the same number, all kinds over many seeds, few of them in about half."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from topology.sim.faults import KINDS
from topology.sim.profile import (
    CRASHES,
    FEW_KINDS,
    OF_CERTIFICATES,
    OF_DISKS,
    OTHERS,
    PROFILES,
    QUIET,
    SMALL,
    draw,
    draw_certificates,
)
from topology.sim.record import stream

SEEDS = 300
DRAWN = [draw(SMALL, stream(seed, "faults")) for seed in range(SEEDS)]


def test_a_seed_draws_the_same_faults_again_and_another_seed_others() -> None:
    assert draw(SMALL, stream(7, "faults")) == DRAWN[7]
    assert DRAWN[7] != DRAWN[8]


def test_faults_come_in_the_order_of_time_and_only_while_there_is_traffic() -> None:
    for strokes in DRAWN:
        assert [stroke.at_s for stroke in strokes] == sorted(stroke.at_s for stroke in strokes)
        assert all(0 <= stroke.at_s <= SMALL.traffic.span_s for stroke in strokes)


def test_there_are_about_as_many_crashes_and_other_faults_as_the_profile_says() -> None:
    crashes = [sum(stroke.kind in CRASHES for stroke in strokes) for strokes in DRAWN]
    others = [sum(stroke.kind in OTHERS for stroke in strokes) for strokes in DRAWN]
    assert all(SMALL.crashes * 3 // 4 <= number <= SMALL.crashes * 5 // 4 for number in crashes)
    assert all(number <= SMALL.faults * 5 // 4 for number in others)  # none, where few kinds were chosen and all of them kill
    assert sum(crashes) / SEEDS == pytest.approx(SMALL.crashes, rel=0.1)


def test_about_half_of_the_seeds_meet_few_kinds_and_every_kind_is_met() -> None:
    kinds = [{stroke.kind for stroke in strokes} for strokes in DRAWN]
    few = sum(len(each) <= FEW_KINDS for each in kinds)
    assert 0.4 < few / SEEDS < 0.65
    assert {kind for each in kinds for kind in each} == set(SMALL.kinds)


def test_kinds_come_as_often_as_their_weights_say() -> None:
    profile = replace(SMALL, kinds={"cut": 9.0, "clog": 1.0}, crashes=0, faults=100)
    found = Counter(stroke.kind for seed in range(20) for stroke in draw(profile, stream(seed, "faults")))
    assert 0.85 < found["cut"] / found.total() < 0.95


def test_where_no_kind_ends_a_process_none_ends() -> None:
    assert {stroke.kind for stroke in draw(replace(SMALL, kinds={"cut": 1.0}), stream(1, "faults"))} == {"cut"}


def test_where_no_power_is_cut_processes_are_killed() -> None:
    profile = replace(SMALL, kinds={kind: weight for kind, weight in SMALL.kinds.items() if kind != "power cut"})
    drawn = [draw(profile, stream(seed, "faults")) for seed in range(50)]
    assert all(any(stroke.kind in CRASHES for stroke in strokes) for strokes in drawn)


def test_databases_in_memory_meet_no_fault_of_a_disk() -> None:
    remembered = [profile for profile in PROFILES.values() if profile.in_memory]
    assert remembered
    assert [kind for profile in remembered for kind in OF_DISKS if kind in profile.kinds] == []


def test_certificates_are_drawn_by_themselves_and_only_in_a_share_of_the_runs() -> None:
    drawn = [draw_certificates(SMALL, stream(seed, "certificates")) for seed in range(SEEDS)]
    assert 0.18 < sum(map(bool, drawn)) / SEEDS < 0.32
    assert {stroke.kind for strokes in drawn for stroke in strokes} == set(OF_CERTIFICATES) <= KINDS.keys()
    assert draw_certificates(QUIET, stream(1, "certificates")) == []
    assert draw(replace(SMALL, certificates=0.0), stream(7, "faults")) == DRAWN[7]


def test_a_quiet_run_has_no_fault() -> None:
    assert draw(QUIET, stream(1, "faults")) == []


def test_every_profile_goes_by_its_own_name_and_names_faults_that_there_are() -> None:
    assert [profile.name for profile in PROFILES.values()] == list(PROFILES)
    assert [kind for profile in PROFILES.values() for kind in profile.kinds if kind not in KINDS] == []
    drawn = {kind for profile in PROFILES.values() for kind in profile.kinds} | set(OF_CERTIFICATES)
    assert [kind for kind in KINDS if kind not in drawn] == [], "a kind of fault that no profile draws is never tried"

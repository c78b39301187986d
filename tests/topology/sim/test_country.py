"""The country's rehearsal on a tree that fits a test: it says how far it is, meets faults, and loses nothing."""

from __future__ import annotations

from dataclasses import replace

from node import uplink
from node.core import wire
from topology.generate import generate, small
from topology.sim import country
from topology.sim.profile import COUNTRY, Profile

DOCUMENTS = 40


def _short(documents: int) -> Profile:
    """Two hours instead of a day, one fault that ends a process for each twenty documents."""
    profile = country.profile_for(documents)
    return replace(profile, traffic=replace(profile.traffic, span_s=7_200.0), crashes=documents // 20, faults=2)


def test_a_day_of_a_small_country_ends_with_everything_delivered() -> None:
    said: list[tuple[str, str]] = []
    outcome = country.rehearse(generate(small(2, 2), 1), _short(DOCUMENTS), 1, lambda vi, en: said.append((vi, en)))
    assert outcome.violations == []
    assert outcome.documents == DOCUMENTS
    assert outcome.deliveries > DOCUMENTS // 2
    assert sum(count for name, count in outcome.events.items() if name.startswith("fault/")) > 0
    assert outcome.real_s > 0
    assert said[0] == (f"7 nút, {DOCUMENTS} văn bản.", f"7 nodes, {DOCUMENTS} documents.")
    hours = [float(english.split()[0]) for _, english in said[1:]]
    assert hours == sorted(hours)
    assert 2.0 <= hours[-1] < 24.0


def test_the_same_seed_gives_the_same_day() -> None:
    tree = generate(small(2, 1), 1)
    digests = {country.rehearse(tree, _short(10), 3, lambda vi, en: None).digest for _ in range(2)}
    assert len(digests) == 1


def test_nodes_are_hurried_again_after_the_day() -> None:
    before = wire.WAIT_MAX_MS, uplink.LOOK_AGAIN_S
    country.rehearse(generate(small(2, 1), 1), _short(1), 1, lambda vi, en: None)
    assert before == (wire.WAIT_MAX_MS, uplink.LOOK_AGAIN_S)


def test_faults_are_as_frequent_as_documents() -> None:
    assert country.profile_for(20_000).crashes == COUNTRY.crashes
    assert country.profile_for(20_000).faults == COUNTRY.faults
    assert country.profile_for(2_000).crashes == COUNTRY.crashes // 10
    assert country.profile_for(2_000).traffic.documents == 2_000

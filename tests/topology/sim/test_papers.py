"""Certificates in a rehearsal: judged by production's decisions, with lists that travel by production's question."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from node.core.errors import Reason
from node.core.identifier import OrgId
from tests.topology.sim.tiny import CALM, bench_of, run
from topology.sim.bench import Bench
from topology.sim.papers import LIFE, Papers
from topology.sim.world import Machine

UNIT, PROVINCE, OTHER = (OrgId.canonical(code) for code in ("H41.07", "H41", "H14.05"))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One for all: each test leaves its nodes with good certificates."""
    bench = bench_of(replace(CALM, certificates=1.0))
    run(bench, bench.boot(60.0))
    run(bench, asyncio.sleep(60.0))
    yield bench
    assert bench.world.violations == []
    bench.end()
    run(bench, asyncio.sleep(0.0))
    bench.loop.close()


def papers(bench: Bench) -> Papers:
    assert bench.world.network.papers is not None
    return bench.world.network.papers


def between(bench: Bench, child: Machine, call: str = "push") -> Reason | None:
    assert child.parent is not None
    return papers(bench).refusal(child.name, bench.world.machines[child.parent].name, call)


def test_all_are_served_until_something_happens(bench: Bench) -> None:
    assert [between(bench, each) for each in bench.world.machines.values() if each.parent is not None] == [None] * 6


def test_a_revoked_node_is_refused_at_once_where_its_list_is_and_enrols_again_with_another_key(bench: Bench) -> None:
    unit = bench.world.machines[UNIT]
    papers(bench).revoke(unit)
    assert [between(bench, unit, call) for call in ("push", "clock", "trust")] == [Reason.PEER_REVOKED] * 3
    papers(bench).issue(unit, until=LIFE, fresh_key=True)
    assert between(bench, unit) is None


def test_a_list_that_is_made_anywhere_is_everywhere_within_a_minute(bench: Bench) -> None:
    other, before = (
        bench.world.machines[OTHER],
        {each: papers(bench).of(each).lists.version for each in bench.world.by_name.values()},
    )
    papers(bench).revoke(other)
    run(bench, asyncio.sleep(60.0))
    assert [each for each, version in before.items() if papers(bench).of(each).lists.version == version] == [other]
    papers(bench).issue(other, until=LIFE, fresh_key=True)


def test_a_node_whose_certificate_has_ended_may_ask_for_the_time_and_for_nothing_else(bench: Bench) -> None:
    unit = bench.world.machines[UNIT]
    papers(bench).issue(unit, until=timedelta(seconds=30))
    assert between(bench, unit) is None
    run(bench, asyncio.sleep(60.0))
    assert [between(bench, unit, call) for call in ("push", "clock", "trust")] == [Reason.PEER_DATES, None, Reason.PEER_DATES]
    papers(bench).issue(unit, until=LIFE)
    assert between(bench, unit) is None


def test_a_parent_whose_certificate_has_ended_is_refused_by_those_below_it_and_above(bench: Bench) -> None:
    papers(bench).issue(bench.world.machines[PROVINCE], until=timedelta(seconds=-30))
    hung = (bench.world.machines[PROVINCE], bench.world.machines[UNIT])
    assert [between(bench, each) for each in hung] == [Reason.PEER_DATES] * 2
    papers(bench).issue(bench.world.machines[PROVINCE], until=LIFE)


def test_a_pull_that_waits_is_cut_off_when_its_caller_is_revoked(bench: Bench) -> None:
    unit = bench.world.machines[UNIT]
    refused = bench.world.record.counts["fault/certificate refused"]
    papers(bench).revoke(unit)
    run(bench, asyncio.sleep(40.0))
    assert bench.world.record.counts["fault/certificate refused"] > refused
    papers(bench).issue(unit, until=LIFE, fresh_key=True)

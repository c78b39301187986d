"""Machines of a rehearsal: what a fall leaves, who starts them again, and which ends are bugs."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from typing import Any

import pytest

from node import app
from node.adapters.sqlite.writer import StoreFailed
from node.config import ConfigError
from node.core.identifier import HUB, OrgId
from node.core.wire import Batch, EnvelopeVerdicts, Outcome, Verdict
from tests.making import envelope, header
from tests.topology.sim.tiny import TREE
from topology.sim import world as worlds
from topology.sim.loop import SimLoop
from topology.sim.record import Record
from topology.sim.world import World, place

H41 = OrgId.canonical("H41")


class Stage:
    """The world of the demonstration tree, booted, with nobody who sends anything."""

    def __init__(self) -> None:
        self.loop = SimLoop()
        self.world = World(TREE, {"link": {"probe_max_s": 5.0}}, 1, self.loop, Record(self.loop.time))
        self.h41 = self.world.machines[H41]
        for machine in self.world.machines.values():
            machine.start()
        self.let_pass(20.0)

    def let_pass(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def end(self) -> None:
        for machine in self.world.machines.values():
            if machine.life is not None:
                machine.life.end()
        self.let_pass(0.0)
        self.loop.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.end()


def test_every_node_of_the_tree_comes_up_and_children_reach_their_parents(stage: Stage) -> None:
    assert all(machine.run is not None for machine in stage.world.machines.values())
    assert stage.world.record.counts["ready"] == len(TREE.sites)
    run = stage.world.machines[HUB].run
    assert run is not None
    assert {str(code) for code, neighbour in run.duties.forwarder.neighbours.items() if neighbour.up} == {"H41", "H14"}


def test_a_fallen_node_is_away_as_long_as_it_was_said_and_comes_back_by_itself(stage: Stage) -> None:
    stage.h41.fall(power=True, again_s=30.0)
    assert (stage.h41.life, stage.h41.run) == (None, None)
    stage.let_pass(29.0)
    assert stage.h41.life is None
    stage.let_pass(10.0)
    assert stage.h41.run is not None
    assert stage.h41.starts == 2
    assert stage.world.violations == []


@pytest.mark.parametrize(("lied_to", "event"), [(False, "fault/power"), (True, "fault/killed")])
def test_a_machine_whose_disk_lies_never_loses_its_power(stage: Stage, lied_to: bool, event: str) -> None:
    stage.h41.lied_to = lied_to
    stage.h41.fall(power=True, again_s=1.0)
    assert stage.world.record.counts[event] == 1


def test_a_node_that_is_told_to_stop_stops_and_is_started_again(stage: Stage) -> None:
    stage.h41.stop.set()
    stage.let_pass(40.0)
    assert stage.world.record.counts["stopped"] == 1
    assert stage.h41.run is not None
    assert stage.h41.starts == 2


def broken(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """From now on no node can prepare its store."""

    async def prepare(*_: Any) -> None:
        raise error.with_traceback(None)

    monkeypatch.setattr(app, "prepare", prepare)


@pytest.mark.parametrize("error", [StoreFailed("disk"), OSError(errno.EIO, "planted")])
def test_a_node_may_end_where_its_disk_failed_it_and_is_started_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    broken(monkeypatch, error)
    stage.h41.fall(power=False, again_s=1.0)
    stage.let_pass(20.0)
    assert stage.world.record.counts["exit"] > 1
    monkeypatch.undo()
    stage.let_pass(20.0)
    assert stage.h41.run is not None
    assert stage.world.violations == []


def test_any_other_end_is_a_bug_with_its_place(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, KeyError("planted"))
    stage.h41.fall(power=False, again_s=1.0)
    stage.let_pass(4.0)
    (text,) = stage.world.violations
    assert text.startswith("h41 fell: KeyError: 'planted' (test_world.py:")


def test_a_node_that_never_comes_up_is_given_up_and_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "RESTARTS_FAILED_MAX", 3)
    broken(monkeypatch, StoreFailed("for good"))
    stage.h41.fall(power=False, again_s=1.0)
    stage.let_pass(200.0)
    assert stage.h41.starts == 5
    assert [text.split(" in ")[0] for text in stage.world.violations] == ["h41 has not come up"]


def test_the_world_heals_what_is_down_paused_cut_or_poisoned(stage: Stage) -> None:
    hub = stage.world.machines[HUB]
    stage.h41.fall(power=True, again_s=10_000.0)
    assert hub.life is not None
    hub.life.pause()
    hub.disk.capacity_bytes = 0
    stage.world.network.partition(["h14"], ["hub"])
    stage.world.poisoned[HUB] = stage.world.machines[HUB].name
    stage.world.heal()
    stage.let_pass(30.0)
    assert all(machine.run is not None for machine in stage.world.machines.values())
    assert hub.disk.capacity_bytes is None
    assert not stage.world.poisoned
    assert not stage.world.network.line("h14", "hub").cut


def test_what_a_node_calls_taken_is_remembered_outside_of_it(stage: Stage) -> None:
    g22, g17 = OrgId.canonical("G22"), OrgId.canonical("G17")
    letter = envelope(header(g22, g17))
    verdicts = {g22: Verdict(Outcome.TAKEN), g17: Verdict(Outcome.LATER, retry_s=1.0)}
    said = [EnvelopeVerdicts(letter.header.origin, letter.header.id, verdicts)]
    assert stage.world.network.on_verdicts is not None
    stage.world.network.on_verdicts("h41", Batch((letter,)), said)
    assert list(stage.h41.taken) == [(str(letter.header.origin), letter.header.id, "G22")]


def test_options_of_a_run_may_lie_beyond_what_a_node_in_service_may_have(stage: Stage) -> None:
    stage.world.options = {"forwarding": {"lifetime_d": 0.001}}
    assert stage.h41.settings().forwarding.lifetime_d == 0.001
    assert stage.h41.settings().forwarding.hops_max == 24


def test_an_option_that_is_none_is_found(stage: Stage) -> None:
    stage.world.options = {"forwarding": {"lifetime": 1}}
    with pytest.raises(ValueError, match="forwarding has no option lifetime"):
        stage.h41.settings()


def test_the_place_of_an_error_is_its_innermost_line() -> None:
    try:
        raise ConfigError(["x"])
    except ConfigError as error:
        assert place(error).startswith("(test_world.py:")

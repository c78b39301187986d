"""One seed from the first boot to the judgement: the same course each time, and nothing wrong is passed over in silence."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import cache

import pytest
import structlog

from node import mailbox
from tests.topology.sim.tiny import CALM, TREE
from topology.sim import run
from topology.sim.bench import Bench
from topology.sim.ledger import Violation
from topology.sim.profile import Stroke
from topology.sim.run import Outcome, complaints, simulate

FAULTY = replace(CALM, name="faulty", crashes=3, faults=3, kinds={"kill": 1.0, "power cut": 1.0, "cut": 1.0})


@cache
def calm(seed: int) -> Outcome:
    return simulate(TREE, CALM, seed)


def test_a_calm_run_delivers_everything() -> None:
    outcome = calm(1)
    assert (outcome.violations, outcome.held, outcome.documents) == ([], 0, 6)
    assert outcome.deliveries >= 6
    assert 60 < outcome.virtual_s < 400


def test_the_same_seed_takes_the_same_course_and_another_takes_another() -> None:
    assert simulate(TREE, CALM, 1).digest == calm(1).digest
    assert calm(2).digest != calm(1).digest
    storm = [simulate(TREE, FAULTY, 3) for _ in range(2)]
    assert storm[0].digest == storm[1].digest
    assert [outcome.violations for outcome in storm] == [[], []]
    assert storm[0].events["fault/kill"] + storm[0].events["fault/power cut"] > 0


def test_the_row_of_a_seed_has_every_key_that_is_promised() -> None:
    row = calm(1).row()
    promised = ("seed", "digest", "ok", "documents", "deliveries", "lost", "doubled", "stuck", "virtual_s", "real_s", "profile")
    assert [key for key in promised if key not in row] == []
    assert (row["ok"], row["lost"], row["doubled"], row["stuck"], row["wrong"]) == (True, 0, 0, 0, 0)
    json.dumps(row)


def test_violations_are_counted_by_what_they_are() -> None:
    outcome = Outcome("calm", 4, violations=[Violation("lost", "a"), Violation("lost", "b"), Violation("stuck", "c")])
    row = outcome.row()
    assert (row["ok"], row["lost"], row["stuck"], row["doubled"]) == (False, 2, 1, 0)
    assert row["violations"] == ["lost: a", "lost: b", "stuck: c"]


def test_every_event_is_told_to_whoever_listens() -> None:
    heard: list[tuple[float, str, str, int]] = []
    outcome = simulate(TREE, CALM, 1, lambda *event: heard.append(event))
    assert outcome.digest == calm(1).digest, "listening must change nothing"
    assert {"ready", "start"} <= {event for _, _, event, _ in heard}
    assert [at_s for at_s, *_ in heard] == sorted(at_s for at_s, *_ in heard)


def test_an_error_that_the_program_logs_with_a_traceback_is_a_violation() -> None:
    problems: list[str] = []
    with complaints(problems):
        log = structlog.get_logger()
        log.error("went wrong", exc_info=ValueError("too bad"))
        log.error("said in words only")
        log.warning("not looked at", exc_info=ValueError("no"))
    assert problems == ["logged: went wrong: ValueError: too bad ()"]
    assert structlog.get_config()["processors"] != []


def test_a_node_that_falls_by_an_unexpected_error_is_a_violation_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(mailbox.Mailbox, "settle", broken)
    texts = [violation.text for violation in simulate(TREE, replace(CALM, settle_s=30.0), 1).violations]
    assert any("ZeroDivisionError: planted" in text and "test_run.py" in text for text in texts), texts


def test_work_that_never_ends_is_given_up_in_time_and_called_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "hurry", lambda self: [life.end() for life in self.lives.values()])
    monkeypatch.setattr(Bench, "read_sent", lambda self: asyncio.sleep(0))
    outcome = simulate(TREE, replace(CALM, settle_s=50.0), 1)
    assert outcome.virtual_s < 200
    assert {violation.kind for violation in outcome.violations} == {"stuck"}


def test_in_haste_a_run_ends_when_something_is_known_to_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "done", lambda self: self.ledger.bad("planted") is not None)
    patient, hasty = (simulate(TREE, replace(CALM, settle_s=120.0), 1, hasty=each) for each in (False, True))
    assert hasty.violations == [Violation("wrong", "planted")]
    assert Violation("wrong", "planted") in patient.violations
    assert hasty.virtual_s < patient.virtual_s - 60


def test_a_fault_that_fails_by_itself_ends_the_run_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "draw", lambda *_: [Stroke(1.0, "no such fault", 1)])
    with pytest.raises(KeyError, match="no such fault"):
        simulate(TREE, CALM, 1)


def test_what_is_held_for_a_person_is_released_a_few_times_and_then_left(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[float] = []

    async def release(self: Bench) -> bool:
        released.append(self.loop.time())
        return True

    monkeypatch.setattr(Bench, "release", release)
    simulate(TREE, CALM, 1)
    assert len(released) == run.RELEASES

"""One seed: a storm over a tree at work, then healing, then judgement.

storm     offices send and collect while faults happen; whatever was acknowledged is looked for after every restart
healing   every fault ends, every node comes up, an operator releases what is held, offices hurry
judgement each delivery has ended in one way, offices and nodes agree, nothing is left over
"""

from __future__ import annotations

import asyncio
import errno
import gc
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from node import registrar, reporter, uplink
from node.core import wire
from topology.model import Tree
from topology.sim import faults
from topology.sim.bench import Bench
from topology.sim.ledger import Violation
from topology.sim.loop import LIFE, SimLoop
from topology.sim.profile import Profile, draw
from topology.sim.record import Record, Tell, stream
from topology.sim.shared import reading_once

BOOT_S = 600.0
"""All nodes are up within this, before anything happens to them."""
COLLECT_S = 3 * 3600.0
VIOLATIONS_MAX = 200
SQLITE_IOERR = 10
"""SQLite's primary code for an error of the disk."""
RELEASES = 3
"""How often the operator releases what is held: what is held again after that stays so, for a person."""


@dataclass
class Outcome:
    """What one seed came to. events: everything that happened, by name; real_s: what it took (the worker knows)."""

    profile: str
    seed: int
    digest: str = ""
    documents: int = 0
    deliveries: int = 0
    statuses: int = 0
    held: int = 0
    violations: list[Violation] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    virtual_s: float = 0.0
    real_s: float = 0.0

    def row(self) -> dict[str, Any]:
        """As a JSON line."""
        kinds = Counter(violation.kind for violation in self.violations)
        return {
            "profile": self.profile,
            "seed": self.seed,
            "digest": self.digest,
            "ok": not self.violations,
            "documents": self.documents,
            "deliveries": self.deliveries,
            "statuses": self.statuses,
            "held": self.held,
            "lost": kinds["lost"],
            "doubled": kinds["doubled"],
            "stuck": kinds["stuck"],
            "wrong": kinds["wrong"],
            "violations": [f"{violation.kind}: {violation.text}" for violation in self.violations[:VIOLATIONS_MAX]],
            "events": {
                name: count for name, count in sorted(self.events.items()) if name.startswith(("fault/", "path/", "office/"))
            },
            "virtual_s": round(self.virtual_s, 3),
            "real_s": round(self.real_s, 3),
        }


def simulate(tree: Tree, profile: Profile, seed: int, tell: Tell | None = None, *, hasty: bool = False) -> Outcome:
    """Run one seed to its end and judge it. The same tree, profile and seed give the same digest, in any process.

    hasty: once something is known to be wrong, do not wait for work to end that may never end.
    """
    gc.collect()
    gc.disable()  # what it would clear away in the middle, it would at a moment that does not follow from the seed
    loop = SimLoop()
    record = Record(loop.time, tell)
    outcome = Outcome(profile.name, seed)
    problems: list[str] = []
    with complaints(problems), _unhurried(profile), reading_once():
        bench = Bench(tree, profile, seed, loop, record)
        try:
            loop.run_until_complete(_course(bench, profile, outcome, hasty))
        finally:
            bench.end()
            loop.run_until_complete(asyncio.sleep(0))  # what ended is swept away by the loop
            loop.close()
            gc.enable()
    problems += [problem(each) for each in loop.problems if not _of_the_disk(each.get("exception"))]
    outcome.violations += [Violation("wrong", text) for text in dict.fromkeys([*bench.world.violations, *problems])]
    outcome.digest = record.digest()
    outcome.events = record.counts + bench.ledger.counts + bench.paths()
    outcome.virtual_s = loop.time()
    return outcome


@contextmanager
def _unhurried(profile: Profile) -> Iterator[None]:
    """Where a run lasts days, a pull may wait longer than the wire allows, and what nodes look at just to be sure is looked at as
    rarely. What happens is heard of as soon as ever."""
    wait_ms = int(1000 * float(str(profile.options.get("link", {}).get("pull_wait_s", 0.0))))
    rest_s = profile.rest_s
    longer = [
        (wire, "WAIT_MAX_MS", wait_ms),
        *((module, "LOOK_S", rest_s) for module in (registrar, reporter)),
        (registrar, "RETRY_S", rest_s / 60),
        (uplink, "LOOK_AGAIN_S", rest_s),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in longer]
    for module, name, value in longer:
        setattr(module, name, max(value, getattr(module, name)))
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


async def _course(bench: Bench, profile: Profile, outcome: Outcome, hasty: bool) -> None:
    loop, world = bench.loop, bench.world
    await bench.boot(BOOT_S)
    began_s = loop.time()
    bench.open_offices()
    strokes = [*draw(profile, stream(bench.seed, "faults")), *bench.strokes]
    storm = [loop.create_task(faults.strike(world, stroke, began_s)) for stroke in strokes]
    await _pass(profile.traffic.span_s)
    await _heal(bench, storm)
    outcome.held = await _settle(bench, profile, hasty)
    await asyncio.sleep(2 * profile.rest_s)  # a pull that a cut has swallowed is given up by now: who is asked answers
    outcome.violations += bench.known() if hasty and bench.wrong() else [*bench.judge(), *await bench.unproven()]
    sent = [each for each in bench.ledger.sent.values() if each.doc_ids]
    outcome.documents = len(bench.ledger.sent)
    outcome.deliveries = sum(len(each.package.good) for each in sent)
    outcome.statuses = len(bench.ledger.statuses)


async def _pass(span_s: float) -> None:
    """Let the storm have its time. On a long day what refers to itself is cleared away now and then: at moments of virtual time,
    so that it is the same in every run."""
    while span_s > COLLECT_S:
        gc.freeze()  # what lives by now lives on: not walked over again each time
        await asyncio.sleep(COLLECT_S)
        gc.collect()
        span_s -= COLLECT_S
        gc.unfreeze()
    await asyncio.sleep(span_s)


async def _heal(bench: Bench, storm: Sequence[asyncio.Task[None]]) -> None:
    """Every fault ends. One that failed by itself is a fault of the rehearsal."""
    for task in storm:
        task.cancel()
    for found in await asyncio.gather(*storm, return_exceptions=True):
        if isinstance(found, Exception):
            raise found
    bench.world.heal()
    bench.hurry()


async def _settle(bench: Bench, profile: Profile, hasty: bool) -> int:
    """Until all work is done, or its time is up. Returns how many items are held for a person at the end."""
    deadline = bench.loop.time() + profile.settle_s
    releases = 0
    while bench.loop.time() < deadline:
        await asyncio.sleep(profile.look_s)
        if hasty and bench.wrong():
            return 0
        if bench.done():
            if releases == RELEASES or not await bench.release():
                break
            releases += 1
    await bench.read_sent()
    await bench.figures()
    return await bench.held()


@contextmanager
def complaints(problems: list[str]) -> Iterator[None]:
    """Errors that a catch-all of the program logged with a traceback are bugs; everything else it logs is not looked at."""
    before = structlog.get_config()

    def keep(_: Any, __: str, event: Mapping[str, Any]) -> Any:
        life = LIFE.get()
        if event.get("exc_info") and (life is None or life.alive) and not _of_the_disk(sys.exc_info()[1]):
            problems.append(_logged(event))
        raise structlog.DropEvent

    structlog.configure(
        processors=[keep], wrapper_class=structlog.make_filtering_bound_logger("error"), cache_logger_on_first_use=False
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _of_the_disk(error: object) -> bool:
    """An injected error: the request that met it fails, and the process ends, both as they should."""
    if isinstance(error, OSError):
        return error.errno == errno.EIO
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == SQLITE_IOERR


def _logged(event: Mapping[str, Any]) -> str:
    error = event["exc_info"] if isinstance(event["exc_info"], BaseException) else sys.exc_info()[1]
    return f"logged: {event.get('event')}: {describe(error)}"


def problem(context: Mapping[str, Any]) -> str:
    return f"the loop: {context.get('message')}: {describe(context.get('exception'))}"


def describe(error: BaseException | None) -> str:
    """An exception with the innermost lines of its traceback."""
    from topology.sim.world import place

    return "-" if error is None else f"{type(error).__name__}: {error} {place(error)}"

"""What goes wrong: one function per kind of fault, each with choices of its own that follow from one number.

A fault acts on the world, waits, and undoes itself, also when it is cut short: when the world heals, all that are still going on
are cancelled. Knows the world and its parts; what a fault may cost is for the checkers to say.
"""

from __future__ import annotations

import asyncio
import errno
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from topology.sim import upheaval
from topology.sim.lines import Line
from topology.sim.papers import LIFE
from topology.sim.profile import Stroke
from topology.sim.record import stream
from topology.sim.world import DATABASE, Machine, World

Kind = Callable[[World, random.Random], Awaitable[None]]

OPERATIONS_MAX = 400
"""A fault aimed at an operation of the disk strikes within so many."""
DOWN_S = (0.2, 120.0)
HOLD_S = (1.0, 240.0)
ATTACHED = re.compile(rb"AttachmentEncoded>([^<]{300})", re.S)
"""Where in a database file the content of a package lies, whole enough for a bit of it to be nothing else."""


async def strike(world: World, stroke: Stroke, began_s: float) -> None:
    """Let one fault happen, its time counted from began_s. Returns when it is over and undone."""
    rng = stream(world.seed, "fault", stroke.kind, stroke.number)
    await asyncio.sleep(max(0.0, began_s + stroke.at_s - world.loop.time()))
    world.record.note("", f"fault/{stroke.kind}", stroke.number % 1000)
    await KINDS[stroke.kind](world, rng)


def _machine(world: World, rng: random.Random) -> Machine:
    return rng.choice(list(world.machines.values()))


def _child(world: World, rng: random.Random) -> Machine:
    return rng.choice([machine for machine in world.machines.values() if machine.parent is not None])


def _above(world: World, child: Machine) -> Machine:
    assert child.parent is not None
    return world.machines[child.parent]


async def _hold(world: World, rng: random.Random, least_s: float = HOLD_S[0], most_s: float = HOLD_S[1]) -> None:
    await asyncio.sleep(world.pace * (rng.uniform(least_s, most_s) if rng.random() < 0.8 else most_s * 2))


# --- what ends a process ----------------------------------------------------------------------------------------------------


async def _power_cut(world: World, rng: random.Random) -> None:
    await _at_operation(world, _machine(world, rng), rng, "power")


async def _kill_at_operation(world: World, rng: random.Random) -> None:
    await _at_operation(world, _machine(world, rng), rng, "kill")


async def _at_operation(world: World, machine: Machine, rng: random.Random, how: str) -> None:
    """In the middle of whatever the node does to its disk next: inside a commit, a checkpoint, a body's way to durability."""
    struck = asyncio.Event()
    down_s = rng.uniform(*DOWN_S)

    def fall() -> None:
        if how == "power":
            world.network.power_off(machine.name)
        machine.fallen(down_s)
        world.later(0.0, struck.set)

    if machine.life is None:
        return
    if machine.lied_to:
        how = "kill"
    machine.disk.strike_in(rng.randint(1, rng.choice((8, 60, OPERATIONS_MAX))), "power" if how == "power" else "kill", fall)
    await struck.wait()


async def _kill(world: World, rng: random.Random) -> None:
    machine = _machine(world, rng)
    if machine.life is not None:
        machine.fall(power=rng.random() < 0.3, again_s=world.pace * rng.uniform(*DOWN_S))


async def _restart_loop(world: World, rng: random.Random) -> None:
    """Down again and again, most often before it has recovered from the time before."""
    machine = _machine(world, rng)
    for _ in range(rng.randint(2, 6)):
        if machine.life is not None:
            await _at_operation(world, machine, random.Random(rng.random()), rng.choice(("power", "kill")))
        await asyncio.sleep(rng.uniform(0.5, 20.0))


async def _stop(world: World, rng: random.Random) -> None:
    """SIGTERM with work in flight; its supervisor starts it again."""
    _machine(world, rng).stop.set()


async def _reconnect(world: World, rng: random.Random) -> None:
    """A node with children goes down for a while: then all of them are back at once."""
    parents = [machine for machine in world.machines.values() if world.children(machine.code)]
    machine = rng.choice(parents)
    if machine.life is not None:
        machine.fall(power=rng.random() < 0.5, again_s=world.pace * rng.uniform(20.0, 300.0))


async def _pause(world: World, rng: random.Random) -> None:
    life = _machine(world, rng).life
    if life is None:
        return
    life.pause()
    try:
        await _hold(world, rng)
    finally:
        life.resume()


# --- disks and clocks -------------------------------------------------------------------------------------------------------


async def _disk_full(world: World, rng: random.Random) -> None:
    disk = _machine(world, rng).disk
    disk.capacity_bytes = disk.used_bytes() + rng.choice((0, 4096, 100_000))
    try:
        await _hold(world, rng)
    finally:
        disk.capacity_bytes = None


async def _disk_error(world: World, rng: random.Random) -> None:
    """One operation fails. The process exits and never repeats a sync (decision 3); its supervisor starts it again."""
    disk = _machine(world, rng).disk
    disk.fail(rng.choice(("read", "write", "sync", "sync")), errno.EIO, rng.randint(0, 60), 1)
    await _hold(world, rng)


async def _slow_disk(world: World, rng: random.Random) -> None:
    disk = _machine(world, rng).disk
    disk.slow_s = rng.choice((0.05, 0.5, 3.0))
    try:
        await _hold(world, rng)
    finally:
        disk.slow_s = 0.0


async def _lying_disk(world: World, rng: random.Random) -> None:
    """A disk that says "synced" and is not. Nobody can keep a promise on it through a power cut, so there is none meanwhile; a
    kill must do no harm all the same."""
    machine = _machine(world, rng)
    machine.lied_to = machine.disk.lying = True
    machine.disk.spare()
    try:
        await _hold(world, rng)
        if machine.life is not None:
            machine.fall(power=False, again_s=rng.uniform(*DOWN_S))
            await _hold(world, rng)
    finally:
        machine.disk.lying = False
        machine.disk.settle()
        machine.lied_to = False


async def _bit_flip(world: World, rng: random.Random) -> None:
    """A bit of a stored body turns, in its file or in its row: it must be noticed, never delivered as if nothing had happened.
    # QĐ 28/2018 Điều 6.1"""
    disk = _machine(world, rng).disk
    files = [path for path in disk.paths() if path.startswith("bodies/") and "spool" not in path]
    if files and rng.random() < 0.5:
        disk.flip(rng.choice(files), rng)
    elif DATABASE in disk.paths():
        rows = [found.start(1) for found in re.finditer(ATTACHED, disk.content(DATABASE))]
        if rows:
            disk.flip(DATABASE, rng, rng.choice(rows) + rng.randrange(250))


def _with_a_clock(world: World, rng: random.Random) -> Machine:
    machine = _machine(world, rng)
    return rng.choice(world.children(machine.code)) if world.true_hub and machine.parent is None else machine


async def _clock_step(world: World, rng: random.Random) -> None:
    """The host's clock jumps, and later back."""
    machine = _with_a_clock(world, rng)
    by_s = rng.choice((-1.0, 1.0)) * rng.choice((2.0, 60.0, 3600.0, 6 * 3600.0))
    machine.clock.step(by_s)
    try:
        await _hold(world, rng)
    finally:
        machine.clock.step(-by_s)


async def _clock_wrong(world: World, rng: random.Random) -> None:
    """From now on this machine's clock is off and drifts (until the end of the storm)."""
    machine = _with_a_clock(world, rng)
    by_s = rng.uniform(-12 * 3600.0, 12 * 3600.0)
    machine.clock.step(by_s)
    machine.clock.drift(rng.uniform(-200.0, 200.0))
    try:
        await asyncio.Event().wait()
    finally:
        machine.clock.drift(0.0)
        machine.clock.step(-by_s)


# --- the network ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _apart(world: World, inside: Sequence[str], outside: Sequence[str], *, both: bool) -> AsyncIterator[None]:
    undo = world.network.partition(inside, outside, both=both)
    try:
        yield
    finally:
        undo()


async def _cut(world: World, rng: random.Random) -> None:
    child = _child(world, rng)
    async with _apart(world, [child.name], [_above(world, child).name], both=True):
        await _hold(world, rng)


async def _one_way(world: World, rng: random.Random) -> None:
    """Requests arrive and no answer does, or the other way round."""
    child = _child(world, rng)
    ends = [child.name, _above(world, child).name]
    rng.shuffle(ends)
    async with _apart(world, ends[:1], ends[1:], both=False):
        await _hold(world, rng)


async def _partition(world: World, rng: random.Random) -> None:
    """One node alone, a province with all below it, the hub, or two halves."""
    names = [machine.name for machine in world.machines.values()]
    shape = rng.choice(("one", "province", "hub", "halves"))
    if shape == "one":
        inside = [rng.choice(names)]
    elif shape == "hub":
        inside = ["hub"]
    elif shape == "province":
        below = world.tree.subtree(_child(world, rng).code)
        inside = [site.folder for site in below]
    else:
        inside = rng.sample(names, len(names) // 2)
    async with _apart(world, inside, [name for name in names if name not in inside], both=rng.random() < 0.8):
        await _hold(world, rng)


async def _clog(world: World, rng: random.Random) -> None:
    child = _child(world, rng)
    lines = world.network.lines_between(child.name, _above(world, child).name)
    _clogged(lines, True)
    try:
        await _hold(world, rng)
    finally:
        _clogged(lines, False)


def _clogged(lines: Sequence[Line], now: bool) -> None:
    for line in lines:
        line.clogged = now


async def _swizzle(world: World, rng: random.Random) -> None:
    """Links stop one after the other and come back in another order."""
    children = [machine for machine in world.machines.values() if machine.parent is not None]
    chosen = rng.sample(children, rng.randint(2, min(len(children), 6)))
    stopped = []
    try:
        for child in chosen:
            lines = world.network.lines_between(child.name, _above(world, child).name)
            stopped.append(lines)
            _clogged(lines, True)
            await asyncio.sleep(rng.uniform(0.0, 20.0))
        rng.shuffle(stopped)
        while stopped:
            _clogged(stopped.pop(), False)
            await asyncio.sleep(rng.uniform(0.0, 20.0))
    finally:
        for lines in stopped:
            _clogged(lines, False)


async def _flap(world: World, rng: random.Random) -> None:
    child = _child(world, rng)
    for _ in range(rng.randint(3, 20)):
        async with _apart(world, [child.name], [_above(world, child).name], both=True):
            await asyncio.sleep(rng.uniform(0.05, 15.0))
        await asyncio.sleep(rng.uniform(0.05, 15.0))


def _worse(**settings: tuple[float, float]) -> Kind:
    """The lines of one link, or of all, get other settings for a while."""

    async def kind(world: World, rng: random.Random) -> None:
        if rng.random() < 0.3:
            lines = world.network.lines()
        else:
            child = _child(world, rng)
            lines = world.network.lines_between(child.name, _above(world, child).name)
        before = [(line, {name: getattr(line, name) for name in settings}) for line in lines]
        for line in lines:
            for name, (least, most) in settings.items():
                setattr(line, name, rng.uniform(least, most))
        try:
            await _hold(world, rng)
        finally:
            for line, values in before:
                for name, value in values.items():
                    setattr(line, name, value)

    return kind


# --- peers and people -------------------------------------------------------------------------------------------------------


def _behaves(how: str) -> Kind:
    """A node answers every call in a wrong way for a while."""

    async def kind(world: World, rng: random.Random) -> None:
        name = rng.choice([machine.name for machine in world.machines.values() if world.children(machine.code)])
        world.network.misbehave(name, how)
        try:
            await _hold(world, rng)
        finally:
            world.network.misbehave(name, "")

    return kind


async def _poison(world: World, rng: random.Random) -> None:
    """One document that a parent chokes on, whatever comes with it: it must be found and set aside, its neighbours must pass."""
    parent = rng.choice([machine for machine in world.machines.values() if world.children(machine.code)])
    try:
        world.poisoned[parent.code] = ""
        await _hold(world, rng, 60.0, 600.0)
    finally:
        world.poisoned.pop(parent.code, None)


async def _in_parts(world: World, rng: random.Random) -> None:
    """A parent that takes an envelope for some receivers, and for one of them only later."""
    parent = rng.choice([machine for machine in world.machines.values() if world.children(machine.code)])
    world.sparing[parent.code] = None
    try:
        await _hold(world, rng, 30.0, 300.0)
    finally:
        world.sparing.pop(parent.code, None)


async def _forged(world: World, rng: random.Random) -> None:
    """A child presents a known envelope with another content: refused, counted, and never delivered."""
    world.forging[_child(world, rng).code] = None
    await asyncio.sleep(0)


# --- certificates -----------------------------------------------------------------------------------------------------------


async def _certificate_expired(world: World, rng: random.Random) -> None:
    """A node's certificate ends and is not renewed for a while: nobody talks with it but about the time."""
    machine = _machine(world, rng)
    await _without_certificate(world, machine, rng, expired=True)


async def _certificate_revoked(world: World, rng: random.Random) -> None:
    """A node's certificate is revoked by who issued it; after a while the node enrols again, with another key."""
    await _without_certificate(world, _child(world, rng), rng, expired=False)


async def _without_certificate(world: World, machine: Machine, rng: random.Random, *, expired: bool) -> None:
    papers = world.network.papers
    assert papers is not None
    if papers.of(machine).troubled:
        return
    papers.of(machine).troubled = True
    try:
        if expired:
            papers.issue(machine, until=timedelta(seconds=rng.randint(1, 60)))
        else:
            papers.revoke(machine)
        await _hold(world, rng, 90.0, 300.0)
    finally:
        papers.issue(machine, until=LIFE, fresh_key=not expired)
        papers.of(machine).troubled = False


KINDS: Mapping[str, Kind] = {
    "power cut": _power_cut,
    "kill": _kill,
    "kill at operation": _kill_at_operation,
    "restart loop": _restart_loop,
    "stop": _stop,
    "reconnect": _reconnect,
    "pause": _pause,
    "disk full": _disk_full,
    "disk error": _disk_error,
    "slow disk": _slow_disk,
    "lying disk": _lying_disk,
    "bit flip": _bit_flip,
    "clock step": _clock_step,
    "clock wrong": _clock_wrong,
    "cut": _cut,
    "one way": _one_way,
    "partition": _partition,
    "clog": _clog,
    "swizzle": _swizzle,
    "flap": _flap,
    "lossy": _worse(p_lose_request=(0.01, 0.4), p_lose_reply=(0.01, 0.4)),
    "repeated": _worse(p_duplicate=(0.05, 0.5), p_reorder=(0.0, 0.5)),
    "slow line": _worse(bytes_per_s=(4_000.0, 60_000.0), latency_s=(0.1, 2.0)),
    "torn": _worse(p_reset=(0.02, 0.4)),
    "rubbish": _behaves("rubbish"),
    "errors": _behaves("errors"),
    "mute": _behaves("mute"),
    "poison": _poison,
    "forged": _forged,
    "in parts": _in_parts,
    "removed": upheaval.removed,
    "moved": upheaval.moved,
    "claimed": upheaval.claimed,
    "gone back": upheaval.gone_back,
    "certificate expired": _certificate_expired,
    "certificate revoked": _certificate_revoked,
}
"""Every kind of fault there is."""

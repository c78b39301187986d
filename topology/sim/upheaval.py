"""What an operator does while documents are on their way: an organ is closed, a unit moves to another parent; and what a bad node
says of the directory.

An act is said at one node and travels by itself; on its way each node has nothing to say of the directory for a while, so for as
long they disagree. Nothing of it is undone: it is news, no fault. What a bad node says must be believed by nobody.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from node.core.changes import DOMAIN, Books, Change, CodeRow, Held, NodeRow, encode, held, next_change
from node.core.directory import Connection, Directory, Entry, Fate, NodeEntry
from node.core.directory_wire import Exchange
from node.core.errors import Deferred, Refused
from node.core.identifier import HUB, OrgId
from node.core.wanted import Wanted
from topology.sim.world import Machine, World

ROLL_OUT_S = 90.0
"""Within this each node passes on what was said, each at a moment of its own; or later, where something is wrong."""
ASK_AGAIN_S = 5.0
CLAIM_S = 120.0
GONE_BACK_S = 60.0

Think = Callable[[Directory], Wanted]


async def removed(world: World, rng: random.Random) -> None:
    """Organs are closed, one alone or three that are merged into a fourth: what is under way to them may still arrive, or ends
    refused; what comes later is refused at the door."""
    served = [code for machine in world.machines.values() for system in machine.site.systems for code in system.codes]
    free = [each for each in served if str(each) not in world.changed]
    if not free:
        return
    chosen = rng.sample(free, min(len(free), rng.choice((1, 1, 3))))
    heirs = [each for each in free if each not in chosen]
    heir = rng.choice(heirs) if heirs and rng.random() < 0.7 else None
    world.changed.update(dict.fromkeys(str(code) for code in chosen))

    def closed(entry: Entry) -> Entry:
        return replace(entry, connection=Connection.CLOSED, successor=heir, fate=Fate.MERGED if heir else None)

    def think(directory: Directory) -> Wanted:
        histories = {code: tuple(map(closed, directory.history(code))) for code in chosen}
        return Wanted(codes={code: history for code, history in histories.items() if history != directory.history(code)})

    say(world, rng, HUB if len(chosen) > 1 else rng.choice((HUB, _above(world, chosen[0]))), think)


def _above(world: World, code: OrgId) -> OrgId:
    """The node of the tree that administers a code."""
    return next((above for above in list(code.upwards())[1:] if above in world.machines), HUB)


async def moved(world: World, rng: random.Random) -> None:
    """A unit moves to another parent: the hub says so, then the new parent, the unit and the old parent are set up anew, in some
    order. Documents on their way turn round."""
    parents = [machine for machine in world.machines.values() if world.children(machine.code)]
    units = [machine for machine in world.machines.values() if machine.parent is not None and machine not in parents]
    units = [unit for unit in units if unit.code not in world.moved]  # an operator finishes one move before the next
    if not units:
        return
    unit = rng.choice(units)
    others = [machine for machine in parents if machine.code != unit.parent]
    if not others:
        return
    new = rng.choice(others)
    assert unit.parent is not None
    old = world.machines[unit.parent]
    world.moved[unit.code] = new.code
    for system in unit.site.systems:
        world.changed.update(dict.fromkeys(str(code) for code in system.codes))

    def think(directory: Directory) -> Wanted:
        node = directory.node(unit.code)
        assert node is not None
        return Wanted(nodes={unit.code: replace(node, parent=new.code)} if node.parent != new.code else {})

    # before or after the unit hangs elsewhere: what waits for it at its old parent meanwhile has to come back
    world.later(rng.uniform(0.0, 2 * ROLL_OUT_S), lambda: say(world, rng, HUB, think))
    ends = [new, unit, old]
    rng.shuffle(ends)
    try:
        await asyncio.sleep(rng.uniform(0.0, 2 * ROLL_OUT_S))
        unit.parent = new.code
        while len(ends) > 1:
            ends.pop().stop.set()
            await asyncio.sleep(rng.uniform(0.0, 30.0))
    finally:  # also when the storm ends before: a move is not left half done
        unit.parent = new.code
        for machine in ends:
            machine.stop.set()


def say(world: World, rng: random.Random, where: OrgId, think: Think) -> None:
    """An operator has a node say something of the directory, and asks again until it is said, whatever dies meanwhile."""
    now_s = world.loop.time()
    for name in world.by_name:
        world.tardy[name] = now_s + rng.uniform(0.0, ROLL_OUT_S)
    machine = world.machines[where]

    async def act() -> None:
        run = machine.run
        if run is not None and run.duties.registrar.folded is not None:
            with suppress(Deferred, Refused):
                await run.duties.registrar.act(think(run.duties.registrar.directory), "diễn tập", {"who": "diễn tập"})

    def attempt() -> None:
        run = machine.run
        if run is not None and run.duties.registrar.folded is not None and think(run.duties.registrar.directory) == Wanted():
            return
        _within(machine, act())
        world.later(ASK_AGAIN_S, attempt)

    attempt()


def _within(machine: Machine, work: Coroutine[Any, Any, None]) -> None:
    """Done by the process that runs there, if one does."""
    if machine.life is not None and machine.life.alive:
        machine.life.start(work, name="act")
    else:
        work.close()


# --- what nobody must believe -----------------------------------------------------------------------------------------------


async def claimed(world: World, rng: random.Random) -> None:
    """A node says, well signed, that others' codes are its own and that others are closed; and says so in their name, too."""
    machines = [machine for machine in world.machines.values() if machine.parent is not None]
    bad = rng.choice(machines)
    victims = [each.code for each in machines if not bad.code.covers(each.code) and not each.code.covers(bad.code)]
    if not victims or bad.run is None or bad.run.duties.registrar.folded is None:
        return
    victim = rng.choice(victims)
    registrar, signer = bad.run.duties.registrar, bad.run.ground.signer

    def sign(author: OrgId, books: Books) -> Held:
        place = next_change(books, author, 1, bad.run.ground.clock.utc_ms() if bad.run is not None else 0)
        claim = NodeRow(victim, 99, NodeEntry(victim, "chiếm", "", bad.parent, (victim,)))
        closed = CodeRow(victim, 99, (Entry(victim, "giả", connection=Connection.CLOSED),))
        return _signed(replace(place, nodes=(claim,), codes=(closed,)), signer.sign, signer.key_id)

    async def lie() -> None:
        said = [sign(bad.code, registrar.books), sign(HUB, registrar.books)]
        await registrar._store_changes(said[:1], {signer.key_id: signer.chain_pem}, {}, "here")
        registrar.stir()
        above = world.machines[bad.parent or HUB].run
        if above is not None:
            asked = Exchange(above.duties.registrar.books.heads(), tuple(said), {signer.key_id: signer.chain_pem})
            with suppress(Deferred, Refused):
                await above.duties.registrar.answer(bad.code, asked)

    _within(bad, lie())
    await asyncio.sleep(rng.uniform(1.0, CLAIM_S))
    for machine in world.machines.values():
        if machine.run is not None:
            directory = machine.run.duties.registrar.directory
            if any(entry.name == "giả" for entry in directory.history(victim)) or _name(directory, victim) == "chiếm":
                world.wrong(f"{machine.name} believes {bad.name} of {victim}")


def _name(directory: Directory, code: OrgId) -> str:
    node = directory.node(code)
    return node.name if node is not None else ""


def _signed(change: Change, sign: Callable[[bytes], bytes], key: str) -> Held:
    body = encode(change)
    return held(body, sign(DOMAIN + body), key)


async def gone_back(world: World, rng: random.Random) -> None:
    """A node has an old directory again, as after a copy was put back by hand: its neighbours keep theirs, and it is given what
    it lost. What it said itself it has not lost (its epoch would be higher)."""
    machine = rng.choice(list(world.machines.values()))
    before = {each.name: each.run.duties.registrar.directory.version for each in world.machines.values() if each.run is not None}
    if machine.run is None or machine.run.duties.registrar.folded is None:
        return
    registrar = machine.run.duties.registrar
    logs = registrar.books.logs
    registrar._books = Books({author: log if author == machine.code else log[:1] for author, log in logs.items()})
    registrar._apply()
    await asyncio.sleep(rng.uniform(1.0, GONE_BACK_S))
    for each in world.machines.values():
        if each is not machine and each.run is not None:
            version = each.run.duties.registrar.directory.version
            if version < before.get(each.name, 0):
                world.wrong(f"{each.name} went back to directory {version} from {before[each.name]}")

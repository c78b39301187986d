"""What an operator does while documents are on their way: an organ is closed, a unit moves to another parent.

The directory reaches the nodes one after the other, so for a while they disagree. Nothing of it is undone: it is news, no fault.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import partial

from node.core.directory import Connection, Directory
from topology.sim.world import World

ROLL_OUT_S = 90.0
"""All nodes have the new directory within this, each at a moment of its own."""


async def removed(world: World, rng: random.Random) -> None:
    """An organ is closed: what is under way to it may still arrive, or ends refused; what comes later is refused at the door."""
    served = [code for machine in world.machines.values() for system in machine.site.systems for code in system.codes]
    code = rng.choice([each for each in served if len(each.path) > 1] or served)
    world.changed[str(code)] = None
    entries = tuple(
        replace(entry, connection=Connection.CLOSED) if entry.code == code else entry for entry in world.directory.entries
    )
    roll_out(world, replace(world.directory, entries=entries, version=world.directory.version + 1), rng)


async def moved(world: World, rng: random.Random) -> None:
    """A unit moves to another parent: the directory comes to each node at its own moment, then the new parent, the unit and the
    old parent are set up anew, in some order. Documents on their way turn round."""
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
    nodes = tuple(replace(node, parent=new.code) if node.code == unit.code else node for node in world.directory.nodes)
    roll_out(world, replace(world.directory, nodes=nodes, version=world.directory.version + 1), rng)
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


def roll_out(world: World, directory: Directory, rng: random.Random) -> None:
    """Give a directory to all nodes, each reads it at its next look."""
    world.directory = directory
    for machine in world.machines.values():
        world.later(rng.uniform(0.0, ROLL_OUT_S), partial(machine.given.take, directory))

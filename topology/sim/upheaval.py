"""What an operator does while documents are on their way: an organ is closed, a unit moves to another parent.

The directory reaches the nodes one after the other, so for a while they disagree. Nothing of it is undone: it is no fault, it is news.
"""

from __future__ import annotations

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


def roll_out(world: World, directory: Directory, rng: random.Random) -> None:
    """Give a directory to all nodes, each reads it at its next look."""
    world.directory = directory
    for machine in world.machines.values():
        world.later(rng.uniform(0.0, ROLL_OUT_S), partial(machine.given.take, directory))

"""A parent that has moved is found by a hint and by its certificate; whoever else says to be it is passed over."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from structlog.testing import capture_logs

from node.core.errors import Reason, Refused
from node.seeker import Seeker

REAL, ROGUE, GONE = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)


@dataclass
class World:
    """What is announced, where the parent is, and what was tried."""

    announced: list[tuple[str, int]] = field(default_factory=list)
    away: bool = True
    tried: list[tuple[str, int]] = field(default_factory=list)
    searches: int = 0
    fault: OSError | None = None

    async def move(self, host: str, port: int) -> bool:
        self.tried.append((host, port))
        if (host, port) == ROGUE:
            raise Refused(Reason.PEER_UNKNOWN)
        self.away = (host, port) != REAL
        return not self.away

    async def find(self, within_s: float) -> list[tuple[str, int]]:
        self.searches += 1
        if self.fault is not None:
            raise self.fault
        return self.announced

    async def look(self) -> list[str]:
        with capture_logs() as logs:
            await Seeker(self, self.find, lambda: self.away, random.Random(1)).look()
        return [entry["event"] for entry in logs]


async def test_who_has_its_parent_looks_for_nobody() -> None:
    world = World([REAL], away=False)
    assert await world.look() == []
    assert world.searches == 0


async def test_the_parent_is_taken_where_it_proves_to_be_and_a_rogue_is_named_and_passed_over() -> None:
    """Threats, row 25: an address out of a message is tried and not believed."""
    world = World([ROGUE, GONE, REAL, ("10.0.0.4", 4)])
    assert await world.look() == [
        "who says to be the parent is not",
        "the parent is at another address: put it into link.parent_url",
    ]
    assert world.tried == [ROGUE, GONE, REAL]


async def test_a_network_that_cannot_be_searched_is_said_and_nothing_else() -> None:
    assert await World(fault=OSError("no network")).look() == ["no search in the local network"]

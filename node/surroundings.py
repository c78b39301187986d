"""What a node knows of the world from files that may change under it: the directory, the office systems, and its routing table.

Knows `core`, the clock and the errors of the directory file; nothing of what is decided by the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from node.adapters.directory_file import DirectoryFileError
from node.core import instant
from node.core.directory import Directory
from node.core.identifier import OrgId
from node.core.office import System
from node.core.routing import Table, table_for
from node.ports import Clock

log = structlog.get_logger()


class DirectorySource(Protocol):
    """Where the directory comes from. stamp: changes when it does."""

    def stamp(self) -> tuple[int, ...]: ...

    def load(self) -> Directory: ...

    def keep(self, directory: Directory) -> tuple[int, ...]:
        """Put this one in its place; the stamp it has then. OSError where it may not be written, ValueError where it could not
        be loaded again."""
        ...


class Systems(Protocol):
    """The registered office systems. problem: why the ones last given are not in use, "" when they are."""

    problem: str

    def get(self, system_id: str) -> System | None: ...

    def all(self) -> Sequence[System]: ...

    def served(self) -> frozenset[OrgId]: ...


class Surroundings:
    """What a node knows of the world from files that may change under it: the directory, the systems, and its routing table.

    A directory file that turns bad keeps the last good one in use, with an error in the log (decision 13).
    """

    def __init__(self, code: OrgId, source: DirectorySource, registry: Systems, clock: Clock) -> None:
        self._code = code
        self._source = source
        self._registry = registry
        self._clock = clock
        self._stamp = source.stamp()
        self._served: frozenset[OrgId] = frozenset()
        self._day = instant.day(clock.utc_ms())
        self.edited: Callable[[Directory], None] = self.take
        """Hears of a file that has changed; by itself it counts at once."""
        self.directory = source.load()
        self.said: Mapping[OrgId, int] = {}
        """When something was last signed of each code, UTC ms."""
        self._table = self._tabled(self.directory)

    def table(self) -> Table:
        served = self._registry.served()
        today = instant.day(self._clock.utc_ms())
        if served != self._served or today != self._day:
            self._served, self._day = served, today
            self._table = self._tabled(self.directory)
        return self._table

    def closed(self) -> list[OrgId]:
        """Organs of this very node that are closed today and have no office system here any more: nobody will collect for
        them."""
        table = self.table()
        codes = dict.fromkeys(self.directory.closed_below(table.own, self._day))
        return [code for code in codes if code not in table.served and table.owns(code)]

    def on_trial(self, codes: Sequence[str], at_ms: int) -> bool:
        """Whether one of these is connected on trial only at that instant (UTC ms). # QĐ 28/2018 Điều 21.1"""
        directory = self.directory
        tried = [code for code in codes if code in directory.trials]
        return any(directory.on_trial(OrgId.canonical(code), instant.day(at_ms)) for code in tried)

    def refresh(self) -> None:
        """Read the directory again if its file has changed."""
        stamp = self._source.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            directory = self._source.load()
            self.edited(directory)
            log.info("directory read again", version=directory.version)
        except (DirectoryFileError, OSError, ValueError) as error:
            log.error("directory not usable, keeping the last good one", reason=str(error)[:500])

    def take(self, directory: Directory) -> None:
        """Use this one from now on. Raises ValueError, and keeps the last, where it does not name this node."""
        self._table = self._tabled(directory)  # before anybody sees it
        self.directory = directory

    def keep(self, directory: Directory) -> None:
        """Write the file anew, unless somebody else has since it was read: then that is looked at first."""
        if self._source.stamp() == self._stamp:
            self._stamp = self._source.keep(directory)

    def _tabled(self, directory: Directory) -> Table:
        """Served here: of the organs of the registered systems and of all connected ones those whose longest prefix is this
        node's. So a document waits in the mailbox before a system is registered, and no registration draws another's mail."""
        bare = table_for(directory, self._code, frozenset())
        connected = directory.connected_below(bare.own, self._day)
        mine = frozenset(code for code in (*connected, *self._served) if bare.owns(code))
        return Table(bare.code, bare.own, mine, bare.children, bare.parent, bare.away)

"""Bodies that cross a link by themselves: a part grows chunk by chunk, is resumed after a cut, and recorded once it is whole.

Knows `core` and the ports; which envelope names a body is not its matter.
"""

from __future__ import annotations

import asyncio

import structlog

from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.tally import Tally
from node.ports import Bodies, Store

log = structlog.get_logger()

LATER_S = 30.0
WANTED_MAX = 10_000
"""Parts remembered as wanted; forgetting them costs one look at the store each."""


class Parts:
    """bytes_max: the largest body. free_urgent: with less free disk than this (0..1) nothing is taken."""

    def __init__(self, store: Store, bodies: Bodies, tally: Tally, bytes_max: int, free_urgent: float) -> None:
        self._store = store
        self._bodies = bodies
        self._tally = tally
        self._bytes_max = bytes_max
        self._free_urgent = free_urgent
        self._wanted: set[tuple[OrgId, str]] = set()
        self._keeping: dict[tuple[OrgId, str], asyncio.Future[bool]] = {}

    async def put(self, neighbour: OrgId, sha256: str, size: int, offset: int, chunk: bytes) -> int:
        """A chunk of a large body from a neighbour; returns the bytes held, from which the sender goes on: fewer than before if
        they proved to be torn. Durable and recorded once it answers `size`."""
        if size > self._bytes_max or offset + len(chunk) > size:
            raise Refused(Reason.PACKAGE_TOO_LARGE, "size", str(size), f"≤ {self._bytes_max}")
        key = (neighbour, sha256)
        if key not in self._keeping:
            if not await self._is_wanted(key):
                return size
            if self._bodies.free_ratio() < self._free_urgent:
                raise Deferred(LATER_S, Reason.DISK_FULL)
            held = await self._bodies.receive(neighbour, sha256, offset, chunk)
            if held < offset + len(chunk) and key not in self._keeping and await self._store.holds_body_of(neighbour, sha256):
                return size  # another request has finished the part while this one waited for its turn at it
            if held < size and key not in self._keeping:
                return held
        # The last chunk may come twice, but a part is finished once; and whoever hangs up stops it neither for the others nor
        # between the file and its row.
        if key not in self._keeping:
            self._keeping[key] = asyncio.shield(self._keep(neighbour, sha256))
        return size if await asyncio.shield(self._keeping[key]) else 0

    async def _is_wanted(self, key: tuple[OrgId, str]) -> bool:
        """Asked of the store for the first piece of a body only."""
        if key not in self._wanted:
            if await self._store.holds_body_of(*key):
                return False
            if len(self._wanted) >= WANTED_MAX:
                self._wanted.clear()
            self._wanted.add(key)
        return True

    async def _keep(self, neighbour: OrgId, sha256: str) -> bool:
        try:
            body = await self._bodies.finish(neighbour, sha256)
            if body is None:
                log.info("torn part of an earlier run dropped, it comes anew", neighbour=str(neighbour), body=sha256)
                return False
            try:
                orphans = await self._store.body_arrived(body, neighbour)
            except Exception as error:
                in_doubt = isinstance(error, Deferred) and error.in_doubt  # then the row may be there, and names the file
                if body.file is not None and not in_doubt:
                    await self._bodies.delete([body.file])
                raise
            await self._bodies.delete(orphans)
            self._tally.add("truc_bodies_total", direction="in")
            self._tally.add("truc_body_bytes_total", body.size, direction="in")
            return True
        finally:
            self._wanted.discard((neighbour, sha256))
            del self._keeping[neighbour, sha256]

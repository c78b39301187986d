"""Fixed TCP ports for a rehearsal: chosen once, kept in the node's configuration, so that a restarted node is where it was.

They lie below the range from which the system takes ports for outgoing connections: while a node is down nobody's connection
sits on its address by chance. A rehearsal holds the first port of every block it uses, so that another one keeps out of it.
"""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

HOST = "127.0.0.1"
LOWEST = 10_000
BLOCK = 32
"""The first port of a block is its guard, the others are handed out."""
ROOM_MIN = 4096
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_DEFAULT = 32_768


class NoPorts(Exception):
    """There are not enough free ports below the ephemeral range."""


class Guards:
    """The blocks this process holds against other rehearsals, until it is closed."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def __enter__(self) -> Guards:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for guard in self._held.values():
            guard.close()
        self._held.clear()

    def choose(self, count: int) -> list[int]:
        """That many free ports, whole blocks at a time. Raises `NoPorts`."""
        blocks = list(range(LOWEST, _ceiling() - BLOCK + 1, BLOCK))
        secrets.SystemRandom().shuffle(blocks)
        chosen: list[int] = []
        for block in blocks:
            if len(chosen) >= count:
                break
            if self.hold([block + 1]):
                chosen += [port for port in range(block + 1, block + BLOCK) if is_free(HOST, port)]
        if len(chosen) < count:
            raise NoPorts(f"{len(chosen)} of {count}")
        return chosen[:count]

    def hold(self, ports: Iterable[int]) -> bool:
        """Hold the blocks of these ports; False if another process holds one of them. A port chosen by hand may be a guard's."""
        wanted = {port for port in ports if port >= LOWEST}
        for first in sorted({port - (port - LOWEST) % BLOCK for port in wanted}):
            if first in self._held or first in wanted:
                continue
            guard = _bound(HOST, first)
            if guard is None:
                return False
            self._held[first] = guard
        return True


def is_free(host: str, port: int) -> bool:
    """Whether a listener could take this address now."""
    taken = _bound(host, port)
    if taken is None:
        return False
    taken.close()
    return True


def _bound(host: str, port: int) -> socket.socket | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            # like a server, which may start while old connections of its port are still ending
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(1)  # two sockets with SO_REUSEADDR may both be bound, but not both listen
        except OSError:
            bound.close()
            raise
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise
    return bound


def _ceiling() -> int:
    """The end of the range to choose from. Where outgoing connections may come from anywhere, so may ours."""
    try:
        lowest = int(EPHEMERAL_RANGE.read_text().split()[0])
    except OSError:
        lowest = EPHEMERAL_DEFAULT
    return lowest if lowest >= LOWEST + ROOM_MIN else 65_536

"""Sockets that listen. They are accepted from by hand, so that a connection is counted before its handshake is begun.

Knows nothing of what is served on them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

Socket = socket.socket


async def listening(host: str, port: int, backlog: int) -> Sequence[Socket]:
    """One for each address that host names. Raises OSError: an address is in use, not ours, or unknown."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[Socket] = []
    try:
        for family, kind, protocol, _name, address in dict.fromkeys(found):
            each = socket.socket(family, kind, protocol)
            opened.append(each)
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # the other family has a socket of its own
            each.bind(address)
            each.listen(backlog)
    except BaseException:
        for each in opened:
            each.close()
        raise
    return opened

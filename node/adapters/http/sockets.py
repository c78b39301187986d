"""Sockets that listen. They are accepted from by hand, so that a connection is counted before its handshake is begun.

Knows nothing of what is served on them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

Socket = socket.socket
NEIGHBOURHOOD_BITS = 64
"""Of an IPv6 address: what one customer is given, whose every host may have as many addresses as it likes."""


def neighbourhood(address: str) -> str:
    """Whom a caller's address stands for: an IPv4 address itself, an IPv6 address its /64."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(found.ipv4_mapped or ip_network((found, NEIGHBOURHOOD_BITS), strict=False))


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

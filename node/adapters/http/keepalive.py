"""How soon a connection that fell silent is known to be dead, and whether one that is slow moves. The only place that touches a
socket.

A cut that sends no reset (power loss, a dropped NAT entry) leaves a waiting pull on a connection nobody answers. With these the
kernel finds out within 15 s, the time in which a restored link must be found (architecture, decision 8).
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios

IDLE_S = 5
INTERVAL_S = 5
PROBES = 2
UNANSWERED_MS = 15_000


def keep_alive(transport: asyncio.BaseTransport | None) -> None:
    """Probe an idle connection; give up one whose bytes stay unacknowledged. Nothing happens where there is no TCP below."""
    below = transport.get_extra_info("socket") if transport is not None else None
    if below is None or below.family not in (socket.AF_INET, socket.AF_INET6):
        return
    below.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    below.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    below.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_S)
    below.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    below.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)


def unsent(transport: asyncio.WriteTransport) -> int:
    """Bytes written to a connection that the other side has not acknowledged; without those in the kernel where there is no TCP
    below."""
    below = transport.get_extra_info("socket")
    if below is None or below.family not in (socket.AF_INET, socket.AF_INET6) or below.fileno() < 0:
        return transport.get_write_buffer_size()
    (queued,) = struct.unpack("i", fcntl.ioctl(below.fileno(), termios.TIOCOUTQ, bytes(4)))
    return transport.get_write_buffer_size() + int(queued)

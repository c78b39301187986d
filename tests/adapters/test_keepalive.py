"""A connection that fell silent is found out, on both ends."""

from __future__ import annotations

import asyncio
import socket

from node.adapters.http.keepalive import IDLE_S, PROBES, UNANSWERED_MS, keep_alive


async def test_the_kernel_is_told_to_probe_and_to_give_up_within_15_seconds() -> None:
    """Architecture, decision 8."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    keep_alive(writer.transport)
    below = writer.get_extra_info("socket")
    assert below.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert below.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == IDLE_S
    assert below.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNANSWERED_MS
    interval_s = below.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
    assert IDLE_S + interval_s * PROBES <= 15
    writer.close()
    server.close()
    await server.wait_closed()


async def test_what_is_no_tcp_connection_is_left_alone() -> None:
    keep_alive(None)
    keep_alive(asyncio.Transport())

"""A connection that fell silent is found out, on both ends."""

from __future__ import annotations

import asyncio
import socket

import pytest

from node.adapters.http.keepalive import IDLE_S, PROBES, UNANSWERED_MS, keep_alive, unsent


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


async def test_what_was_written_and_not_taken_is_counted_also_where_it_lies_in_the_kernel() -> None:
    server = socket.create_server(("127.0.0.1", 0))  # accepts by itself, and nobody reads
    _, writer = await asyncio.open_connection(*server.getsockname())
    assert unsent(writer.transport) == 0
    writer.write(bytes(16 << 20))
    assert unsent(writer.transport) > writer.transport.get_write_buffer_size() > 0
    writer.transport.abort()
    with pytest.raises(ConnectionError):
        await writer.drain()
    assert unsent(writer.transport) == 0
    server.close()


async def test_of_a_connection_without_tcp_below_what_waits_in_the_process_is_counted() -> None:
    class Piped(asyncio.WriteTransport):
        def get_write_buffer_size(self) -> int:
            return 7

    assert unsent(Piped()) == 7

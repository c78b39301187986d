"""Ports of a rehearsal: below the ephemeral range, in blocks that two rehearsals do not share."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from topology import ports
from topology.ports import BLOCK, HOST, LOWEST, Guards, NoPorts, is_free


@pytest.fixture
def guards() -> Iterator[Guards]:
    with Guards() as held:
        yield held


def listening(port: int) -> socket.socket:
    return socket.create_server((HOST, port))


def test_chosen_ports_are_free_distinct_and_below_the_ephemeral_range(guards: Guards) -> None:
    chosen = guards.choose(40)
    assert len(set(chosen)) == 40
    assert all(is_free(HOST, port) for port in chosen)
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert lowest < LOWEST + 4096 or all(LOWEST < port < lowest for port in chosen)


def test_two_rehearsals_share_no_block(guards: Guards) -> None:
    with Guards() as others:
        own, theirs = guards.choose(40), others.choose(40)
    assert not {port // BLOCK for port in own} & {port // BLOCK for port in theirs}


def test_a_block_is_free_again_once_its_holder_is_gone(guards: Guards) -> None:
    with Guards() as others:
        taken = others.choose(1)
        assert not guards.hold(taken)
    assert guards.hold(taken)
    assert guards.hold(taken)


def test_a_port_chosen_by_hand_is_not_taken_from_its_node(guards: Guards) -> None:
    port = guards.choose(1)[0]
    first = port - (port - LOWEST) % BLOCK
    guards.close()
    assert guards.hold([first, 80])
    listening(first).close()


def test_a_taken_port_is_not_handed_out(guards: Guards, monkeypatch: pytest.MonkeyPatch) -> None:
    with Guards() as others:
        block = others.choose(1)[0] // BLOCK
    monkeypatch.setattr(ports, "LOWEST", block * BLOCK)
    monkeypatch.setattr(ports, "_ceiling", lambda: block * BLOCK + BLOCK)
    with ExitStack() as held:
        held.enter_context(listening(block * BLOCK + 7))
        chosen = guards.choose(BLOCK - 2)
    assert set(chosen) == set(range(block * BLOCK + 1, block * BLOCK + BLOCK)) - {block * BLOCK + 7}


def test_too_many_ports_are_refused(guards: Guards) -> None:
    with pytest.raises(NoPorts):
        guards.choose(65_536)


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with listening(0) as server:
        port = server.getsockname()[1]
        assert not is_free(HOST, port)
    assert is_free(HOST, port)


def test_a_server_may_come_back_while_old_connections_end(guards: Guards) -> None:
    port = guards.choose(1)[0]
    with listening(port) as server, socket.create_connection((HOST, port)) as client:
        accepted, _ = server.accept()
        accepted.close()  # the server's side closes first and keeps the port in TIME_WAIT
        client.recv(1)
    assert is_free(HOST, port)


def test_an_address_that_is_not_of_this_machine_is_an_error_not_a_taken_port() -> None:
    with pytest.raises(OSError) as caught:
        is_free("192.0.2.1", 10_000)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_without_a_known_ephemeral_range_the_usual_one_is_assumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ports, "EPHEMERAL_RANGE", tmp_path / "absent")
    assert ports._ceiling() == ports.EPHEMERAL_DEFAULT
    everything = tmp_path / "range"
    everything.write_text("1024 65535\n")
    monkeypatch.setattr(ports, "EPHEMERAL_RANGE", everything)
    assert ports._ceiling() == 65_536

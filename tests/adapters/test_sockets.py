"""Listening sockets: one for each address of a host, and nothing left behind by one that cannot be had."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from node.adapters.http.sockets import listening, neighbourhood


async def test_whoever_connects_can_be_accepted() -> None:
    (one,) = await listening("127.0.0.1", 0, 8)
    with closing(one):
        _reader, writer = await asyncio.open_connection(*one.getsockname())
        accepted, address = await asyncio.get_running_loop().sock_accept(one)
        assert address == writer.get_extra_info("sockname")
        accepted.close()
        writer.close()


async def test_a_name_of_two_families_listens_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    both = [*await loop.getaddrinfo("127.0.0.1", 0), *await loop.getaddrinfo("::1", 0)]

    async def getaddrinfo(*_: object, **__: object) -> object:
        return [each for each in both if each[1].name == "SOCK_STREAM"]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    try:
        found = await listening("here", 0, 8)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    assert [each.getsockname()[0] for each in found] == ["127.0.0.1", "::1"]
    for each in found:
        each.close()


async def test_an_address_that_cannot_be_had_leaves_no_socket_open(recwarn: pytest.WarningsRecorder) -> None:
    (one,) = await listening("127.0.0.1", 0, 8)
    with closing(one), pytest.raises(OSError):
        await listening("127.0.0.1", one.getsockname()[1], 8)
    with pytest.raises(OSError):
        await listening("198.51.100.7", 0, 8)
    assert not [each for each in recwarn if each.category is ResourceWarning]


def test_an_ipv6_address_stands_for_its_64_and_an_ipv4_one_for_itself() -> None:
    assert neighbourhood("2001:db8:1:2:3::4") == neighbourhood("2001:db8:1:2:ffff::1") != neighbourhood("2001:db8:1:3::1")
    assert neighbourhood("fe80::1%eth0") == "fe80::/64"
    assert neighbourhood("::ffff:192.0.2.7") == neighbourhood("192.0.2.7") == "192.0.2.7"
    assert neighbourhood("") == ""

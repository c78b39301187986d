"""A node in the local network by multicast DNS: a hint where a parent may be, and nothing more.

Anybody may announce anything, so what is heard is an address to try: whoever answers there has to be the parent by its
certificate before a byte is said to it. Knows zeroconf, which need not be installed, and addresses; nothing of who is trusted.
"""

from __future__ import annotations

import asyncio
import hashlib
from importlib import import_module, util
from typing import Any

import structlog

log = structlog.get_logger()

SERVICE = "_truc._tcp.local."
FOUND_MAX = 8
"""Addresses tried of one search: whoever floods a network with adverts costs a search, not a node."""
HEARD_MAX = 64
ANSWER_MS = 1500
ANY = ("", "0.0.0.0", "::")  # noqa: S104 – names to recognise, not to bind
EXTRA = "pip install zeroconf"


def installed() -> bool:
    return util.find_spec("zeroconf") is not None


def _opened() -> Any:
    version = import_module("zeroconf").IPVersion.V4Only
    return import_module("zeroconf.asyncio").AsyncZeroconf(ip_version=version)


def _name(*parts: object) -> str:
    """Of one listener alone: whoever announces another address has another name, and takes none from anybody."""
    return f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}.{SERVICE}"


class Announcement:
    """This node's link listener, announced from `open` to `close`; after that nobody hears of it any more."""

    def __init__(self, zone: str, code: str, *, wanted: bool = True) -> None:
        """wanted: False afterwards too where zeroconf is missing, which is said."""
        self._zone = zone
        self._code = code
        self._opened: Any = None
        self.wanted = wanted and installed()
        if wanted and not self.wanted:
            log.error("discovery is wanted and zeroconf is not installed", reason=EXTRA)

    async def open(self, host: str, port: int) -> None:
        """host: what the listener is bound to; any: all addresses of this machine. A network that cannot be used is said."""
        if self.wanted:
            try:
                await self._register(host, port)
            except OSError as error:
                log.error("not announced in the local network", reason=str(error)[:200])

    async def _register(self, host: str, port: int) -> None:
        zeroconf = import_module("zeroconf")
        addresses = list(zeroconf.get_all_addresses()) if host in ANY else [host]
        addresses = [each for each in addresses if not each.startswith("127.")] or addresses
        told = {"zone": self._zone, "code": self._code}
        name = _name(self._zone, self._code, addresses, port)
        server = name.replace(f".{SERVICE}", ".local.")
        info = zeroconf.ServiceInfo(SERVICE, name, port=port, properties=told, server=server, parsed_addresses=addresses)
        self._opened = _opened()
        await self._opened.async_register_service(info, allow_name_change=True)

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.async_unregister_all_services()
            await self._opened.async_close()
            self._opened = None


async def find(zone: str, code: str, within_s: float) -> list[tuple[str, int]]:
    """Addresses (host, port) at which somebody says he is this node of this zone, as heard within this time. Each search begins
    with nothing, so what was there before and is gone is not found. Raises OSError where there is no network."""
    zeroconf, asyncio_part = import_module("zeroconf"), import_module("zeroconf.asyncio")
    heard: dict[str, None] = {}

    def changed(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        if state_change.name in ("Added", "Updated") and len(heard) < HEARD_MAX:
            heard[name] = None

    opened = _opened()
    found: dict[tuple[str, int], None] = {}
    try:
        browser = asyncio_part.AsyncServiceBrowser(opened.zeroconf, SERVICE, handlers=[changed])
        await asyncio.sleep(within_s)  # whoever answers first is not whom we look for: a rogue may be quicker
        await browser.async_cancel()
        for name in heard:
            info = asyncio_part.AsyncServiceInfo(SERVICE, name)
            if not await info.async_request(opened.zeroconf, ANSWER_MS) or not info.port:
                continue
            if info.decoded_properties.get("zone") == zone and (info.decoded_properties.get("code") or "") == code:
                found |= dict.fromkeys((address, info.port) for address in info.parsed_addresses(zeroconf.IPVersion.V4Only))
    finally:
        await opened.async_close()
    return list(found)[:FOUND_MAX]

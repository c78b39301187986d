"""Every key of a tree is changed while documents flow: the province's, the hub's, the issuing keys, the root. Nothing fails and
nothing is lost; what was there before is no longer trusted."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node.adapters import authority
from tests.processes.letters import letter
from tests.processes.test_enrolment import Country, Machine, planted
from tests.processes.test_native_door import done, fetch, send
from tests.processes.tree import eventually, missing
from topology.native import basic

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

RATE_MIN = 50.0
"""Documents a second while each key is changed, offered to the doors."""
OFFERED_PER_S = 64.0
TOGETHER = 4
"""In one request."""


@pytest.fixture
async def country(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Country]:
    monkeypatch.setenv("TRUC_LINK__KEYS_ASK_S", "0.5")
    async for made in planted(tmp_path):
        yield made


def chain(machine: Machine) -> list[bytes]:
    pem = (machine.folder / "link.pem").read_bytes()
    return [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(pem)]


def key(machine: Machine, name: str = "link") -> str:
    return authority.pin_of(x509.load_pem_x509_certificates((machine.folder / f"{name}.pem").read_bytes())[0])


class Load:
    """Documents in both directions, offered by a schedule of their own whatever becomes of those before: as many requests at the
    native doors as the time that has passed asks for. A transfer fails where a door does not take it, or a link does not."""

    def __init__(self, group: asyncio.TaskGroup, ends: Mapping[str, aiohttp.ClientSession]) -> None:
        self._group = group
        self._ends = ends
        self._began_s = asyncio.get_running_loop().time()
        self.sent: dict[str, list[bytes]] = {code: [] for code in ends}
        """By receiver."""
        self.refused: list[dict[str, Any]] = []

    def offer(self) -> tuple[int, float]:
        """Offer what is due; how many documents were offered so far, and in how many seconds."""
        passed_s = asyncio.get_running_loop().time() - self._began_s
        offered = sum(map(len, self.sent.values()))
        while offered < passed_s * OFFERED_PER_S:
            for sender, receiver in permutations(self._ends):
                numbers = range(len(self.sent[receiver]), len(self.sent[receiver]) + TOGETHER)
                packages = {str(number): letter(sender, receiver, number=number, seed="rotation") for number in numbers}
                self.sent[receiver] += packages.values()
                self._group.create_task(self._send(self._ends[sender], packages))
                offered += len(packages)
        return offered, passed_s

    async def go_on(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.offer()
            await asyncio.sleep(TOGETHER / OFFERED_PER_S)

    async def _send(self, session: aiohttp.ClientSession, packages: dict[str, bytes]) -> None:
        self.refused += [each for each in await send(session, packages) if each["status"] != "accepted"]


def in_use(machine: Machine) -> bool:
    """Whether its last certificate is not only on its disk."""
    told = [line["event"] for line in machine.log() if line["event"] in ("certificate renewed", "reloaded")]
    return told[-1:] == ["reloaded"]


def door(machine: Machine, system: dict[str, Any]) -> aiohttp.ClientSession:
    trust = ssl.create_default_context(cafile=str(machine.folder / "ca" / "office-root.pem"))
    return aiohttp.ClientSession(
        f"https://127.0.0.1:{machine.ports()['office_port']}",
        headers={"Authorization": basic(system["id"], system["secret"])},
        connector=aiohttp.TCPConnector(ssl=trust, limit=4),
        timeout=aiohttp.ClientTimeout(120),
    )


async def transfers(machine: Machine) -> Counter[str]:
    """Offers to neighbours, by what came of them."""
    async with aiohttp.ClientSession() as plain, plain.get(f"http://127.0.0.1:{machine.ports()['admin_port']}/metrics") as answer:
        rows = re.findall(r'^truc_attempts_total\{.*result="([a-z-]+)".*\} ([0-9.]+)$', await answer.text(), re.M)
    found: Counter[str] = Counter()
    for result, count in rows:
        found[result] += int(float(count))
    return found


async def emptied(session: aiohttp.ClientSession, count: int) -> list[bytes]:
    """All that comes into a mailbox until there are so many, confirmed as it comes."""
    found: list[bytes] = []
    while len(found) < count:
        index, contents = await fetch(session)
        assert contents, f"{len(found)} of {count} came"
        found += contents.values()
        assert set(await done(session, [each["doc_id"] for each in index["items"]])) <= {"ok"}
    return found


async def test_every_key_is_changed_under_load_and_no_transfer_fails(country: Country) -> None:
    hub, h41 = country.hub, country.h41
    token = country.invite("H41", "--auto")
    h41.truc("join", country.url, "--token", "-", "--dir", str(h41.folder), stdin=token)
    await h41.run()
    systems = {"G22": (hub, hub.said("system", "add", "vpcp", "--code", "G22"))}
    systems["H41"] = (h41, h41.said("system", "add", "tinh-41", "--code", "H41"))
    stop, rates = asyncio.Event(), dict[str, float]()

    async def rotate(load: Load, machine: Machine, *what: str, until: Callable[[], object]) -> None:
        """One key, from the command until it is in use; meanwhile documents are offered as fast as the schedule says."""
        before, (offered, since_s) = until(), load.offer()
        await asyncio.to_thread(machine.truc, "ca", "rotate", *what, "--yes", "--config", machine.config)
        await eventually(lambda: until() != before, f"{' '.join(what)} of {machine.folder.name} is another one everywhere")
        after, now_s = load.offer()
        rates[f"{machine.folder.name} {' '.join(what)}"] = (after - offered) / (now_s - since_s)

    async with AsyncExitStack() as doors:
        ends = {code: await doors.enter_async_context(door(*systems[code])) for code in systems}
        async with asyncio.TaskGroup() as group:
            load = Load(group, ends)
            group.create_task(load.go_on(stop))
            await rotate(load, h41, "node", until=lambda: key(h41))
            await rotate(load, hub, "node", until=lambda: key(hub))
            await rotate(load, hub, "authority", until=lambda: chain(h41)[1])
            await rotate(load, h41, "authority", until=lambda: key(h41, "ca/issuing"))
            await rotate(load, hub, "root", until=lambda: chain(h41)[1])  # it trusts both roots, then stands under the new one
            await eventually(lambda: in_use(h41), "the province signs under the new root")
            signed = ((hub, len(load.sent["H41"])), (h41, len(load.sent["G22"])))

            async def handed_over() -> bool:
                return all([(await transfers(machine))["taken"] >= count for machine, count in signed])

            await eventually(handed_over, "what was signed under the old root is where it goes")  # before that root goes
            await rotate(load, hub, "root", "--finish", until=lambda: (h41.folder / "trust.pem").read_bytes())
            stop.set()
        assert load.refused == []
        for code, session in ends.items():
            assert sorted(await emptied(session, len(load.sent[code]))) == sorted(load.sent[code]), "each once"
    print({what: f"{rate:.1f}/s" for what, rate in rates.items()}, sum(map(len, load.sent.values())), "documents")
    assert min(rates.values()) >= RATE_MIN, rates
    failed = {machine.folder.name: await transfers(machine) for machine in (hub, h41)}
    assert {name: set(results) for name, results in failed.items()} == {"hub": {"taken"}, "h41": {"taken"}}, failed

    new = x509.load_pem_x509_certificates((h41.folder / "trust.pem").read_bytes())
    assert new == x509.load_pem_x509_certificates((hub.folder / "trust.pem").read_bytes())
    assert len(new) == 1
    logs = [*hub.log(), *h41.log()]
    assert [line for line in logs if line["level"] == "error"] == []
    assert len(hub.logs) == len(h41.logs) == 1, "neither was started again"

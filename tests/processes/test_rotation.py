"""Every key of a tree is changed while documents flow: the province's, the hub's, the issuing keys, the root. Nothing fails and
nothing is lost; what was there before is no longer trusted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node.adapters import authority
from tests.processes.letters import letter
from tests.processes.test_enrolment import Country, Machine, planted
from tests.processes.tree import eventually, missing
from tests.vxp_client import VxpClient

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

PACE_S = 0.05


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


async def changed(look: Callable[[], object], before: object, what: str) -> None:
    await eventually(lambda: look() != before, what)


async def test_every_key_is_changed_under_load_and_no_transfer_fails(country: Country) -> None:
    hub, h41 = country.hub, country.h41
    token = country.invite("H41", "--auto")
    h41.truc("join", country.url, "--token", "-", "--dir", str(h41.folder), stdin=token)
    await h41.run()
    systems = {"G22": (hub, hub.said("system", "add", "vpcp", "--code", "G22"))}
    systems["H41"] = (h41, h41.said("system", "add", "tinh-41", "--code", "H41"))
    stop, sent = asyncio.Event(), list[tuple[str, bytes]]()

    async def send(sender: str, receiver: str) -> None:
        machine, system = systems[sender]
        async with machine.door(system["id"], system["secret"]) as office:
            number = 0
            while not stop.is_set():
                number += 1
                package = letter(sender, receiver, number=number, seed="rotation")
                await office.send(package, sender=sender)
                sent.append((receiver, package))
                await asyncio.sleep(PACE_S)

    async def rotate(machine: Machine, *what: str) -> None:
        await asyncio.to_thread(machine.truc, "ca", "rotate", *what, "--yes", "--config", machine.config)

    async with asyncio.TaskGroup() as group:
        for pair in (("G22", "H41"), ("H41", "G22")):
            group.create_task(send(*pair))
        before = key(h41)
        await rotate(h41, "node")
        await changed(lambda: key(h41), before, "the province has another key")
        before = key(hub)
        await rotate(hub, "node")
        await changed(lambda: key(hub), before, "the hub has another key")
        old = chain(h41)[1]
        await rotate(hub, "authority")
        await changed(lambda: chain(h41)[1], old, "the province is under the hub's new issuing key")
        signs = key(h41, "ca/issuing")
        await rotate(h41, "authority")
        await changed(lambda: key(h41, "ca/issuing"), signs, "the province signs with another key")
        root, old = (hub.folder / "trust.pem").read_bytes(), chain(h41)[1]
        await rotate(hub, "root")
        await changed(lambda: (h41.folder / "trust.pem").read_bytes(), root, "the province trusts both roots")
        await changed(lambda: chain(h41)[1], old, "the province is under the new root")
        both = (h41.folder / "trust.pem").read_bytes()
        await rotate(hub, "root", "--finish")
        await changed(lambda: (h41.folder / "trust.pem").read_bytes(), both, "the old root is gone")
        stop.set()

    new = x509.load_pem_x509_certificates((h41.folder / "trust.pem").read_bytes())
    assert new == x509.load_pem_x509_certificates((hub.folder / "trust.pem").read_bytes())
    assert len(new) == 1
    for code in ("H41", "G22"):
        machine, system = systems[code]
        wanted = {package for to, package in sent if to == code}
        async with machine.door(system["id"], system["secret"]) as office:

            async def all_arrived(office: VxpClient = office, count: int = len(wanted)) -> bool:
                return len(await office.received()) >= count

            await eventually(all_arrived, f"all for {code} is there")
            items = await office.received()
            assert {await office.get(item["docId"]) for item in items} == wanted
            assert len(items) == len(wanted), "each once"
    logs = [*hub.log(), *h41.log()]
    assert [line for line in logs if line["level"] == "error"] == []
    assert len(hub.logs) == len(h41.logs) == 1, "neither was started again"

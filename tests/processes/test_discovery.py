"""Nodes in separate network namespaces find each other and enrol; a rogue that says to be the parent gets nothing, neither from
the newcomer nor from a child whose parent has moved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.adapters import discovery
from node.core.enrolment import Token
from tests.processes.machine import no_namespaces, sh, skip_without
from tests.processes.test_enrolment import COMMAND, ZONE, Machine
from tests.processes.tree import ROOT, eventually

pytestmark = pytest.mark.skipif(not discovery.installed(), reason="zeroconf is not installed: pip install zeroconf")

HUB, CHILD, ROGUE = "10.214.0.1", "10.214.0.2", "10.214.0.3"
MOVED = "10.214.0.9"
ROGUE_NODE = """
import asyncio, ssl, sys
sys.path.insert(0, sys.argv[1])
from node.adapters.discovery import Announcement
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
async def serve(reader, writer):
    print("connected", flush=True)
    said = await reader.read(100)
    print("heard", len(said), flush=True)
    writer.close()
async def main():
    server = await asyncio.start_server(serve, sys.argv[4], 0, ssl=context)
    await Announcement(sys.argv[5], "").open(sys.argv[4], server.sockets[0].getsockname()[1])
    print("announced", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@dataclass
class Lan:
    """One network with three machines on it, each in its namespace."""

    mark: str

    def inside(self, address: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self.mark}-{address.rpartition('.')[2]}"]


@pytest.fixture
def lan() -> Iterator[Lan]:
    skip_without(no_namespaces)
    made = Lan(f"find{os.getpid()}")
    ground = f"{made.mark}-ground"
    sh("ip", "netns", "add", ground)
    try:
        sh("ip", "-n", ground, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        sh("ip", "-n", ground, "link", "set", "br0", "up")
        for address in (HUB, CHILD, ROGUE):
            number = address.rpartition(".")[2]
            name = f"{made.mark}-{number}"
            sh("ip", "netns", "add", name)
            sh("ip", "-n", ground, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            sh("ip", "-n", ground, "link", "set", f"port{number}", "master", "br0", "up")
            for words in (
                ("addr", "add", f"{address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                sh("ip", "-n", name, *words)
            sh("ip", "-n", name, "route", "add", "224.0.0.0/4", "dev", "eth0")
        yield made
    finally:
        for name in (*(f"{made.mark}-{number}" for number in (1, 2, 3)), ground):
            with suppress(Exception):
                sh("ip", "netns", "del", name)


def truc(lan: Lan, at: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*lan.inside(at), *COMMAND, *words], cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60, env=os.environ
    )
    assert done.returncode == 0, (words[:2], done.stderr)
    return done


def run(lan: Lan, at: str, machine: Machine, **changed: str) -> None:
    machine.logs.append(machine.folder / f"node.{len(machine.logs)}.log")
    environment = {**os.environ, "TRUC_LINK__DISCOVERY": "true", **changed}
    with machine.logs[-1].open("wb") as log:
        machine.process = subprocess.Popen(
            [*lan.inside(at), *COMMAND, "run", "--config", machine.config], cwd=ROOT, env=environment, stdout=log, stderr=log
        )


async def test_a_newcomer_finds_its_parent_and_a_moved_one_again_and_a_rogue_gets_nothing(lan: Lan, tmp_path: Path) -> None:
    """Threats, rows 20 and 25: anybody may announce anything."""
    hub, h41 = Machine(tmp_path / "hub"), Machine(tmp_path / "h41")
    rogue = Machine(tmp_path / "rogue")
    for machine, at in ((hub, HUB), (rogue, ROGUE)):
        truc(lan, at, "init", "--dir", str(machine.folder), "--name", "Nút gốc", "--zone", ZONE, "--listen", at)
        truc(lan, at, "ca", "init", "--config", machine.config)
    script = (
        sys.executable,
        "-c",
        ROGUE_NODE,
        str(ROOT),
        str(rogue.folder / "link.pem"),
        str(rogue.folder / "link.key"),
        ROGUE,
        ZONE,
    )
    said = (tmp_path / "rogue.out").open("w+")
    stranger = subprocess.Popen([*lan.inside(ROGUE), *script], stdout=said, stderr=subprocess.STDOUT, env=os.environ)
    try:
        run(lan, HUB, hub)
        await eventually(hub.ports, "the hub serves")
        await eventually(lambda: "announced" in (tmp_path / "rogue.out").read_text(), "the rogue is announced")
        token = json.loads(truc(lan, HUB, "peer", "invite", "H41", "--auto", "--json", "--config", hub.config).stdout)["token"]
        joined = truc(lan, CHILD, "join", "--token", "-", "--dir", str(h41.folder), stdin=token)
        assert f"Nút cấp trên ở https://{HUB}:" in joined.stderr
        run(lan, CHILD, h41)
        await eventually(lambda: hub.events("neighbour reachable"), "the hub hears of its child")

        hub.stop()
        sh("ip", "-n", f"{lan.mark}-1", "addr", "del", f"{HUB}/24", "dev", "eth0")
        sh("ip", "-n", f"{lan.mark}-1", "addr", "add", f"{MOVED}/24", "dev", "eth0")
        sh("ip", "-n", f"{lan.mark}-1", "route", "replace", "224.0.0.0/4", "dev", "eth0")
        run(lan, HUB, hub, TRUC_LINK__LISTEN_HOST=MOVED, TRUC_OFFICE__LISTEN_HOST=MOVED)
        await eventually(lambda: len(hub.events("neighbour reachable")) == 2, "the child has found its parent again", 60.0)
        (found,) = h41.events("the parent is at another address: put it into link.parent_url")
        assert found["address"].startswith(f"{MOVED}:")
        refused = h41.events("who says to be the parent is not")
        assert {line["address"].partition(":")[0] for line in refused} <= {ROGUE}
        heard = (tmp_path / "rogue.out").read_text().split()
        assert "heard" not in heard or {heard[at + 1] for at, word in enumerate(heard) if word == "heard"} == {"0"}
        secret = Token.read(token).secret.hex()
        assert secret not in (tmp_path / "rogue.out").read_text()
    finally:
        stranger.kill()
        stranger.wait()
        said.close()
        for machine in (h41, hub):
            machine.stop()

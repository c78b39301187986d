"""A tree from empty folders by the commands alone: a hub, two provinces that join it while it runs, a document from door to door;
and what the hub's link listener tells one who has no certificate. No file is copied by hand."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from node.core.enrolment import Token
from tests.processes.letters import letter
from tests.processes.tree import ROOT, eventually, missing
from tests.vxp_client import VxpClient

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

ZONE = "ketnap.test"
PORTS = {f"TRUC_{name}__LISTEN_PORT": "0" for name in ("LINK", "OFFICE", "ADMIN")}
COMMAND = [sys.executable, "-m", "node"]


@dataclass
class Machine:
    """One folder and what runs on it, by the command as its operator has it."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    logs: list[Path] = field(default_factory=list)

    @property
    def config(self) -> str:
        return str(self.folder / "node.toml")

    def truc(self, *args: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *args], cwd=ROOT, env={**os.environ, **PORTS}, input=stdin, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, (args[:2], done.returncode, done.stderr)
        return done

    def said(self, *args: str) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.truc(*args, "--json", "--config", self.config).stdout)
        return line

    async def run(self) -> None:
        self.logs.append(self.folder / f"node.{len(self.logs)}.log")
        with self.logs[-1].open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "run", "--config", self.config], cwd=ROOT, env={**os.environ, **PORTS}, stdout=log, stderr=log
            )
        await eventually(self.ports, f"{self.folder.name} serves")

    def ports(self) -> dict[str, int]:
        try:
            found: dict[str, int] = json.loads((self.folder / "data" / "run.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if self.process is not None and found["pid"] == self.process.pid else {}

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(30) == 0

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for path in self.logs for line in path.read_text().splitlines()]

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == event]

    def door(self, system: str, secret: str) -> VxpClient:
        trust = ssl.create_default_context(cafile=str(self.folder / "ca" / "office-root.pem"))
        return VxpClient(f"https://127.0.0.1:{self.ports()['office_port']}/vxp", system, secret, ssl=trust)


@dataclass
class Country:
    """A running hub, and provinces yet to come."""

    hub: Machine
    h41: Machine
    h14: Machine

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.hub.ports()['link_port']}"

    def invite(self, code: str, *options: str) -> str:
        return str(self.hub.said("peer", "invite", code, "--name", f"Tỉnh {code}", *options)["token"])


async def planted(tmp_path: Path) -> AsyncIterator[Country]:
    """A hub that runs and enrols; stopped at the end with whatever has joined."""
    made = Country(*(Machine(tmp_path / name) for name in ("hub", "h41", "h14")))
    made.hub.truc("init", "--dir", str(made.hub.folder), "--name", "Nút gốc", "--zone", ZONE)
    made.hub.truc("ca", "init", "--organ", "G22=Văn phòng Chính phủ", "--config", made.hub.config)
    await made.hub.run()
    yield made
    for machine in (made.h41, made.h14, made.hub):
        machine.stop()


@pytest.fixture
async def country(tmp_path: Path) -> AsyncIterator[Country]:
    async for made in planted(tmp_path):
        yield made


def post_without_certificate(country: Country, path: str) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(country.hub.folder / "trust.pem")
    with (
        socket.create_connection(("127.0.0.1", country.hub.ports()["link_port"]), 10) as plain,
        context.wrap_socket(plain, server_hostname=ZONE) as secured,
    ):
        head = f"POST {path} HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        secured.sendall(head.encode() + b"{}")
        return int(secured.recv(4096).split()[1])


async def test_two_fresh_folders_join_a_running_hub_and_a_document_goes_from_door_to_door(country: Country) -> None:
    hub, h41, h14 = country.hub, country.h41, country.h14
    first = country.invite("H41", "--auto")
    h41.truc("join", country.url, "--token", "-", "--dir", str(h41.folder), stdin=first)
    await h41.run()

    second = country.invite("H14")
    joining = [*COMMAND, "join", country.url, "--token", second, "--dir", str(h14.folder)]
    with subprocess.Popen(joining, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        keys: list[str] = []

        def waits() -> bool:
            listed = hub.truc("peer", "list", "--json", "--config", hub.config).stdout.splitlines()
            keys[:] = [row["pin"] for row in map(json.loads, listed) if (row["code"], row["state"]) == ("H14", "waiting")]
            return bool(keys)

        await eventually(waits, "H14 waits for approval", poll_s=0.3)
        hub.truc("peer", "approve", "H14", "--key", keys[0], "--config", hub.config)
        _, said = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, said.decode()
    h14.truc("config", "check", "--config", h14.config)
    await h14.run()

    systems = {"H41": (h41, h41.said("system", "add", "tinh-41", "--code", "H41"))}
    systems["G22"] = (hub, hub.said("system", "add", "vpcp", "--code", "G22"))
    for sender, receiver in (("H41", "G22"), ("G22", "H41")):
        (machine, system), (other, other_system) = systems[sender], systems[receiver]
        package = letter(sender, receiver, number=1, seed="enrolment")
        async with machine.door(system["id"], system["secret"]) as office:
            await office.send(package, sender=sender)
        async with other.door(other_system["id"], other_system["secret"]) as office:
            (item,) = await eventually(office.received, "the document is there")
            assert await office.get(item["docId"]) == package

    again = hub.truc("peer", "invite", "H41", "--config", hub.config, code=1)
    assert "truc peer transfer H41" in again.stderr
    elsewhere = country.hub.folder.parent / "other"
    used = h41.truc("join", country.url, "--token", first, "--dir", str(elsewhere), code=1)
    assert "đã được một khóa khác dùng" in used.stderr
    assert post_without_certificate(country, "/link/v1/push") == 403
    assert post_without_certificate(country, "/link/v1/enrol") == 400
    assert [line["reason"] for line in hub.events("enrolment refused")] == ["invite-used", "wire-malformed"]
    assert [line["value"] for line in hub.events("peer refused")] == ["no certificate"]

    hub.truc("ca", "revoke", "H14", "--yes", "--config", hub.config)
    await eventually(lambda: hub.events("peer cut off"), "the connection that was open is cut")
    assert {line["reason"] for line in hub.events("peer cut off")} == {"peer-revoked"}
    await eventually(lambda: h14.events("parent does not know this node"), "H14 hears why")

    hub.truc("peer", "remove", "H14", "--yes", "--config", hub.config)
    await eventually(
        lambda: [line for line in hub.events("peer refused") if line["reason"] == "peer-unknown"][1:], "H14 is turned away"
    )
    secrets = [spelled for token in map(Token.read, (first, second)) for spelled in (token.text(), token.secret.hex())]
    everything = "".join(path.read_text() for machine in (hub, h41, h14) for path in machine.logs)
    assert not any(secret in everything for secret in secrets)
    assert len(hub.logs) == 1, "the hub was never started again"


async def test_a_join_that_was_killed_is_finished_by_the_same_command(country: Country) -> None:
    h41 = country.h41
    token = country.invite("H41")
    command = ("join", country.url, "--token", token, "--dir", str(h41.folder))
    given_up = h41.truc(*command, "--wait", "0", code=75)
    assert "chạy lại đúng lệnh này" in given_up.stderr
    key = (h41.folder / "link.key").read_bytes()
    shown = given_up.stderr.partition("--key ")[2].split()[0]
    country.hub.truc("peer", "approve", "H41", "--key", shown, "--config", country.hub.config)
    h41.truc(*command)
    (h41.folder / "link.pem").unlink()  # as if it had died before its last step
    h41.truc(*command)
    assert (h41.folder / "link.key").read_bytes() == key
    h41.truc("config", "check", "--config", h41.config)
    done = h41.truc(*command, code=1)
    assert "đã là một nút" in done.stderr


async def test_a_new_machine_takes_a_code_over_by_transfer_and_the_old_one_is_turned_away(
    country: Country, tmp_path: Path
) -> None:
    hub, old, new = country.hub, country.h41, Machine(tmp_path / "new")
    old.truc("join", country.url, "--token", country.invite("H41", "--auto"), "--dir", str(old.folder))
    await old.run()
    await eventually(lambda: hub.events("neighbour reachable"), "the old machine is heard")
    token = str(hub.said("peer", "transfer", "H41", "--auto", "--yes")["token"])
    new.truc("join", country.url, "--token", token, "--dir", str(new.folder))
    await eventually(
        lambda: [line for line in hub.events("peer refused") if line["reason"] == "peer-key"], "the old key is refused"
    )
    old.stop()
    old.process = None
    await new.run()
    await eventually(lambda: "đang thông" in new.truc("status", "--config", new.config).stdout, "the new machine is heard")
    assert "vào cây theo mã mời" in new.truc("audit", "list", "--config", new.config).stdout
    new.stop()

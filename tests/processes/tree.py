"""A sandbox seen from outside: its ready line, its processes by their ids, its databases when it has stopped.

Starts `truc sandbox` as a user would, kills and pauses nodes by pid, starts them again by `python -m node run --config PATH`,
on request in surroundings (a tracer, a network, a clock) that are prepared elsewhere.
Knows nothing of what travels through the tree. Imports nothing of the nodes but the check of the journal's chain.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from node.adapters.sqlite.care import verify_chain

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
STOP_S = 60.0
POLL_S = 0.05
PROC = Path("/proc")


def missing() -> str:
    """Why this machine cannot run these tests; "" when it can."""
    if not (PROC / "self" / "stat").is_file():
        return "no /proc: a killed process cannot be told from a living one here"
    if not hasattr(signal, "SIGKILL") or not hasattr(signal, "SIGSTOP"):
        return "no SIGKILL or SIGSTOP on this system"
    return ""


class Late(AssertionError):
    """What should have come to pass did not, within its time."""


async def eventually(question: Callable[[], Any], what: str, within_s: float = 30.0, poll_s: float = POLL_S) -> Any:
    """Ask (plainly or with await) until the answer is true; return it. `Late` names what was waited for and the last answer."""
    deadline = time.monotonic() + within_s
    while True:
        answer = question()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            raise Late(f"not within {within_s:g} s: {what} (last answer: {value!r})")
        await asyncio.sleep(poll_s)


def alive(pid: int) -> bool:
    """Whether the process runs; a dead one that nobody buried does not."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def memory_kb(pid: int) -> dict[str, int]:
    """What the kernel says of a process's memory: rss, peak (high water mark) and pss, in kB."""
    fields = {"VmRSS": "rss", "VmHWM": "peak", "Pss": "pss"}
    found: dict[str, int] = {}
    for name in ("status", "smaps_rollup"):
        with suppress(OSError):
            for line in (PROC / str(pid) / name).read_text().splitlines():
                key, _, value = line.partition(":")
                if key in fields:
                    found[fields[key]] = int(value.split()[0])
    return found


@dataclass(frozen=True, slots=True)
class System:
    """An office system of the ready line. url: its endpoint, as a connector is configured with it."""

    id: str
    secret: str
    codes: tuple[str, ...]
    url: str
    node: str


@dataclass(slots=True)
class Node:
    """One node. pid: the process that runs it, or ran it last.

    around: a command that becomes the node it is given to run, so that the process keeps its id (`ip netns exec`, `strace -D`).
    environment: added to ours. dial: makes the sockets on which the node is reached, where plain ones do not. log: the file it
    writes to when it is started, beside its configuration.
    """

    code: str
    name: str
    parent: str | None
    config: Path
    data: Path
    public: str
    admin: str
    systems: tuple[System, ...]
    pid: int
    around: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    dial: Callable[..., socket.socket] | None = None
    log: str = "node.log"
    _own: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone, or at once when it was gone already."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + STOP_S
        while self.alive():
            if time.monotonic() > deadline:
                raise Late(f"process {self.pid} of {self.config} survives SIGKILL")
            time.sleep(0.002)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def start(self) -> None:
        """As an operator does by hand. The log goes on where it was."""
        with (self.config.parent / self.log).open("ab") as log:
            process = subprocess.Popen(
                [*self.around, sys.executable, "-m", "node", "run", "--config", str(self.config)],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._own.append(process)
        self.pid = process.pid

    def exit_code(self) -> int | None:
        """Of the process that was started last; None while it runs."""
        return self._own[-1].poll() if self._own else None

    def alive(self) -> bool:
        for process in self._own:
            process.poll()  # bury our own
        return alive(self.pid)

    async def ready(self, within_s: float = READY_S) -> None:
        """Until this very process serves."""
        await eventually(self.serves, f"node {self.code or 'hub'} (pid {self.pid}) serves", within_s)

    async def serves(self) -> bool:
        try:
            run = json.loads((self.data / "run.json").read_text())
        except (OSError, ValueError):
            return False
        return run["pid"] == self.pid and (await self.ask("/healthz"))[0] == 200

    async def ask(self, path: str) -> tuple[int, str]:
        """GET on the admin listener; (0, "") while nobody answers. By a plain socket, which is closed whenever it is left."""
        loop = asyncio.get_running_loop()
        host, port = _address(self.admin)
        answer = b""
        try:
            async with asyncio.timeout(2):
                with closing(self.dial() if self.dial else socket.socket()) as sock:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, (host, port))
                    await loop.sock_sendall(sock, f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                    while piece := await loop.sock_recv(sock, 1 << 16):
                        answer += piece
        except (OSError, TimeoutError):
            return 0, ""
        head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
        return int(head.split()[1]) if head.startswith("HTTP/") else 0, body

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the node's database, read only: also while it runs."""
        with closing(sqlite3.connect(f"file:{self.data / 'node.db'}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(sql, values).fetchall()

    def count(self, sql: str, *values: object) -> int:
        return int(self.query(f"SELECT count(*) FROM {sql}", *values)[0][0])

    def log_lines(self) -> Iterator[dict[str, Any]]:
        """The log as objects; a line that is none comes as {"level": "error", "event": the line}."""
        for path in sorted(self.config.parent.glob("node.log*")):
            for line in path.read_text(errors="replace").splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    yield {"level": "error", "event": f"no JSON: {line[:300]}"}


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


class Tree:
    """A running sandbox. `stop` ends it as its user would; `with` makes sure of it. undo: what was prepared under its nodes
    (mounts, networks) and is taken away once none of them runs any more."""

    def __init__(self, folder: Path, topology: Path | None = None) -> None:
        self.folder = folder
        self._topology = topology
        self.ready: dict[str, Any] = {}
        self.nodes: dict[str, Node] = {}
        self.line = ""
        self.undo = ExitStack()

    def __enter__(self) -> Self:
        arguments = [sys.executable, "-m", "node", "sandbox", "--dir", str(self.folder), "--json"]
        arguments += ["--topology", str(self._topology)] if self._topology is not None else []
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(self.folder.name + ".err").open("ab") as errors:
            self.process = subprocess.Popen(
                arguments, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        self.line = self._first_line()
        self.ready = json.loads(self.line)
        self.nodes = {each["code"]: _node(each) for each in self.ready["nodes"]}
        return self

    def _first_line(self) -> str:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], 2 * READY_S)[0]:
            self.stop()
            raise Late(f"no ready line within {2 * READY_S:g} s, see {self.folder}.err")
        line = self.process.stdout.readline().decode()
        if not line:
            self.process.wait(STOP_S)
            raise AssertionError(f"the sandbox ended: {self.folder.with_name(self.folder.name + '.err').read_text()[-2000:]}")
        return line

    def __exit__(self, *_: object) -> None:
        with self.undo:
            self.stop()

    def stop(self) -> int:
        """SIGTERM to the sandbox; its exit code. What is paused is woken first."""
        for node in self.nodes.values():
            node.resume()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Late("the sandbox does not stop") from None
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            for node in self.nodes.values():
                for own in node._own:
                    with suppress(subprocess.TimeoutExpired):
                        own.wait(1)
        return code

    @property
    def systems(self) -> dict[str, System]:
        return {system.id: system for node in self.nodes.values() for system in node.systems}

    def system_of(self, code: str) -> System:
        """The office system that receives under this code."""
        return next(system for system in self.systems.values() if code in system.codes)

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ready["ca"])


def _node(each: dict[str, Any]) -> Node:
    systems = tuple(
        System(system["id"], system["secret"], tuple(system["codes"]), each["public"] + "/vxp", each["code"])
        for system in each["systems"]
    )
    folders = Path(each["config"]), Path(each["data"])
    return Node(each["code"], each["name"], each["parent"], *folders, each["public"], each["admin"], systems, each["pid"])


def autopsy(node: Node) -> list[str]:
    """What is wrong in the store of a node that has stopped after all work was done; [] when nothing is."""
    wrong = []
    for what, sql in (
        ("outbox rows", "outbox"),
        ("open mailbox items", "mailbox WHERE state NOT IN ('done','ended')"),
        ("open deliveries", "delivery d JOIN submission s USING (envelope) WHERE s.kind<>'status' AND d.state NOT IN"
         " ('collected','refused','expired','stopped')"),
    ):  # fmt: skip
        if left := node.count(sql):
            wrong.append(f"{node.code or 'hub'}: {left} {what} left")
    with closing(sqlite3.connect(f"file:{node.data / 'node.db'}?mode=ro", uri=True)) as db:
        if (row := verify_chain(db)) is not None:
            wrong.append(f"{node.code or 'hub'}: the journal's chain breaks at row {row}")
        if (verdict := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            wrong.append(f"{node.code or 'hub'}: database damaged: {verdict}")
        named = {row[0] for row in db.execute("SELECT file FROM body WHERE file IS NOT NULL")}
    bodies = node.data / "bodies"
    stored = {str(path.relative_to(bodies)) for path in bodies.glob("[0-9a-f][0-9a-f]/*")}
    wrong += [f"{node.code or 'hub'}: body file {file} is missing" for file in sorted(named - stored)]
    wrong += [f"{node.code or 'hub'}: body file {file} belongs to nobody" for file in sorted(stored - named)]
    wrong += [f"{node.code or 'hub'}: {path.parent.name} file {path.name} left" for path in bodies.glob("[sp]*/*")]
    return wrong

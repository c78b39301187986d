"""A tree as processes on this machine: one folder, one process per site, real listeners, real certificates.

`Sandbox` starts the nodes, says where they are, and at the end stops whatever runs for its folder. It is no supervisor: a node
that dies stays dead until somebody starts it (`truc run --config …`). Nodes found running for the folder when it starts (a
rehearsal was killed, or a node was started by hand) are taken over as they are. Knows a node only by its command line, its
`run.json` and its `/readyz`.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import node
from node.adapters.folders import BadFile
from node.config import ENVIRONMENT_PREFIX
from topology.joining import NotJoined, grow
from topology.load import default_topology, load_lawful
from topology.ports import Guards, NoPorts, is_free
from topology.processes import running, tell
from topology.render import CONFIG_FILE, LISTENERS, Place, enrolled, render

NODE_COMMAND = (sys.executable, "-m", "node")
READY_S = 120.0
LINKED_S = 5.0
"""How long a node that is ready may still miss its parent before the tree counts as ready without that."""
STOP_S = 20.0
"""What a node may take to drain before it is killed; a killed one has no more."""
KILLED_S = 5.0
POLL_S = 0.1
WATCH_S = 0.25
ANSWER_S = 2.0
ANSWER_BYTES_MAX = 1 << 20
LOG_BYTES_MAX = 20 << 20
LOG_LINES_SHOWN = 15


class SandboxError(Exception):
    """The tree cannot run here. texts: why and what to do, in Vietnamese and in English."""

    def __init__(self, vi: str, en: str) -> None:
        self.texts = (vi, en)
        super().__init__(vi)


class _Stopped(Exception):
    """A signal came while the tree was starting."""


class Sandbox:
    """One folder with a tree in it, held by this process from `start` to `stop`."""

    def __init__(
        self,
        root: Path,
        topology: Path | None = None,
        *,
        command: Sequence[str] = NODE_COMMAND,
        say: Callable[[str, str], None] = lambda vi, en: None,
        absent: Collection[str] = (),
        enrol: bool = False,
    ) -> None:
        """topology: the tree's file; without it the folder's own, or the default tree in a new folder. say: a line of talk.
        absent: codes of sites that have their files like the others and are not started. enrol: a new tree grows by enrolment, no
        key is copied."""
        self.root = root.absolute()
        self._given = topology
        self._command = tuple(command)
        self._say = say
        self._absent = frozenset(absent)
        self._enrol = enrol
        self._places: tuple[Place, ...] = ()
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._expected: dict[Path, tuple[int, ...]] = {}
        self._mourned: set[int] = set()
        self._signalled = False
        self._held = ExitStack()
        self._guards = Guards()

    def run(self, announce: Callable[[dict[str, Any]], None]) -> None:
        """Start, announce, stay until SIGTERM or SIGINT, stop everything. Raises `SandboxError` or `ConfigError`."""
        with self._signals():
            try:
                announce(self.start())
                while not self._signalled:
                    self._watch()
                    time.sleep(WATCH_S)
            except _Stopped:
                self._say("Dừng trong lúc khởi động.", "Stopped while starting.")
            finally:
                self.stop()

    def start(self, lay: Callable[[Sequence[Place]], None] = lambda places: None) -> dict[str, Any]:
        """Every node up and ready; returns the ready line as a dictionary, parents before children. lay: what is done with the
        rendered files before any node is started."""
        lay(self.prepare())
        self._check_ports()
        if self._enrol:
            self._grow()
        else:
            self._start_all(self._present)
        return self._ready(self._wait_ready())

    def _start_all(self, places: Sequence[Place]) -> None:
        for place in places:
            if place.config not in self._expected and place in self._present:
                self._start(place)

    def _grow(self) -> None:
        def listening(places: Sequence[Place]) -> None:
            deadline = time.monotonic() + READY_S
            while not all(_ready_address(place, patient=False) for place in places):
                for place in places:
                    self._check_alive(place)
                if self._signalled:
                    raise _Stopped
                if time.monotonic() > deadline:
                    names = ", ".join(f'"{place.site.name}" ({place.log})' for place in places)
                    raise SandboxError(f"chưa trả lời: {names} — xem các tệp nhật ký này", f"no answer: {names}; see these logs")
                time.sleep(POLL_S)

        try:
            grow(self._places, self._command, _environment(), lambda place: self._start_all([place]), listening)
        except NotJoined as error:
            raise SandboxError(f"chưa kết nạp được: {error}", f"enrolment failed: {error}") from error

    def start_again(self, config: Path) -> int:
        """Start a node that this sandbox has started and that has ended since; its process id. It need not be ready yet."""
        self._children[config].wait()
        self._start(next(place for place in self._places if place.config == config))
        return self._children[config].pid

    def prepare(self) -> tuple[Place, ...]:
        """The folder taken and its files written, nothing started. Raises `SandboxError` or `ConfigError`."""
        try:
            self._take_folder()
            chosen, same = self._choose_topology()
            tree = load_lawful(chosen)
            self._expected = self._already_running(same)
            self._enrol = enrolled(self.root) or (self._enrol and not (self.root / "pki").is_dir())
            self._places = render(tree, self.root, self._guards, datetime.now(UTC), keep=same, enrol=self._enrol)
            if not same:
                shutil.copyfile(chosen, self._topology)
        except NoPorts as error:
            what = f"không đủ cổng trống trên máy này ({error}) — dừng bớt chương trình khác"
            raise SandboxError(what, f"not enough free ports on this machine ({error}): stop other programs") from error
        except BadFile as error:
            raise SandboxError(
                f"{error.texts[0]} — xóa tệp này để tạo lại", f"{error.texts[1]}: delete it to have it made anew"
            ) from error
        except OSError as error:
            what = f"không dùng được thư mục {self.root}: {error} — chọn --dir khác"
            raise SandboxError(what, f"{self.root} cannot be used: {error}; choose another --dir") from error
        return self._places

    def stop(self) -> None:
        """Stop every node of the folder, also one that was started by hand, and give the folder free."""
        told: set[int] = set()
        drained = time.monotonic() + STOP_S
        while alive := self._alive():
            left = drained - time.monotonic()
            if left < -KILLED_S:
                self._say(f"Không dừng được các tiến trình {sorted(alive)}.", f"Processes {sorted(alive)} do not stop.")
                break
            for pid in alive - told if left > 0 else alive:
                tell(pid, signal.SIGTERM if left > 0 else signal.SIGKILL)
            told |= alive
            time.sleep(POLL_S)
        self.release()

    def release(self) -> None:
        """Give the folder free and leave what runs there alone."""
        self._held.close()

    @property
    def _present(self) -> list[Place]:
        return [place for place in self._places if str(place.site.code) not in self._absent]

    # --- the folder ----------------------------------------------------------------------------------------------------

    @property
    def _topology(self) -> Path:
        return self.root / "topology.toml"

    def _take_folder(self) -> None:
        self._held.callback(self._guards.close)
        self.root.mkdir(parents=True, exist_ok=True)
        lock = self._held.enter_context((self.root / "sandbox.lock").open("a+"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            self._held.close()
            what = f"thư mục {self.root} đang do sandbox khác giữ (tiến trình {holder}) — dừng nó, hoặc chọn --dir khác"
            en = f"{self.root} is held by another sandbox (process {holder}): stop it, or choose another --dir"
            raise SandboxError(what, en) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()

    def _choose_topology(self) -> tuple[Path, bool]:
        """The tree's file, and whether it is the tree that this folder holds already."""
        if self._given is None and self._topology.is_file():
            return self._topology, True
        chosen = self._given or default_topology()
        same = self._topology.is_file() and chosen.is_file() and chosen.read_bytes() == self._topology.read_bytes()
        return chosen, same

    def _already_running(self, keep: bool) -> dict[Path, tuple[int, ...]]:
        found = running(self._configs())
        pids = [pid for there in found.values() for pid in there]
        if pids and not keep:
            kill = f"kill {' '.join(map(str, pids))}"
            what = f"cây đã đổi mà thư mục {self.root} còn nút đang chạy theo cây cũ — dừng trước: {kill}"
            raise SandboxError(what, f"another tree, but nodes of the old one still run in {self.root}: first {kill}")
        return {config: there for config, there in found.items() if there}

    def _configs(self) -> list[Path]:
        return sorted(self.root.glob(f"*/{CONFIG_FILE}"))

    def _check_ports(self) -> None:
        """A listener's address taken by a stranger is told now, not by a node's log."""
        ports = []
        for place in self._places:
            for name in LISTENERS:
                listener = getattr(place.settings, name)
                ports.append(listener.listen_port)
                if place.config in self._expected or is_free(listener.listen_host, listener.listen_port):
                    continue
                taken, where = f"{listener.listen_host}:{listener.listen_port}", f"{name}.listen_port ({place.config})"
                what = f'"{place.site.name}": {taken} đang do chương trình khác dùng — dừng nó, hoặc đổi {where}'
                raise SandboxError(what, f'"{place.site.name}": {taken} is in use: stop that program or change {where}')
        if not self._guards.hold(ports):
            what = f"các cổng của {self.root} đang dành cho một sandbox khác — dừng sandbox đó trước"
            raise SandboxError(what, f"the ports of {self.root} are reserved by another sandbox: stop that one first")

    # --- the processes -------------------------------------------------------------------------------------------------

    def _start(self, place: Place) -> None:
        if place.log.is_file() and place.log.stat().st_size > LOG_BYTES_MAX:
            place.log.replace(place.log.with_name("node.log.1"))
        with place.log.open("ab") as log:
            child = subprocess.Popen(
                [*self._command, "run", "--config", str(place.config)],
                cwd=place.config.parent,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the rehearsal, which then stops the nodes
            )
        self._children[place.config] = child
        self._expected[place.config] = (child.pid,)

    def _wait_ready(self) -> dict[Path, dict[str, Any]]:
        """Per configuration what the node's `run.json` says, once every node is ready."""
        started = time.monotonic()
        addresses: dict[Path, dict[str, Any]] = {}
        waiting = self._present
        while waiting:
            if self._signalled:
                raise _Stopped
            elapsed = time.monotonic() - started
            for place in waiting[:]:
                self._check_alive(place)
                address = _ready_address(place, patient=elapsed < LINKED_S)
                if address is not None and address["pid"] in self._expected[place.config]:
                    addresses[place.config] = address
                    waiting.remove(place)
            if elapsed > READY_S and waiting:
                names = ", ".join(f'"{place.site.name}" ({place.log})' for place in waiting)
                what = f"sau {READY_S:.0f} giây vẫn chưa sẵn sàng: {names} — xem các tệp nhật ký này"
                raise SandboxError(what, f"not ready after {READY_S:.0f} s: {names}; see these logs")
            time.sleep(POLL_S)
        return addresses

    def _check_alive(self, place: Place) -> None:
        child = self._children.get(place.config)
        if child is not None and child.poll() is not None:
            end = "\n".join(place.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
            what = f'nút "{place.site.name}" dừng khi khởi động (mã {child.returncode}), {place.log}:\n{end}'
            raise SandboxError(what, f'node "{place.site.name}" ended while starting ({child.returncode}), {place.log}:\n{end}')

    def _watch(self) -> None:
        """Take note of nodes that died; nothing else is done about it."""
        for place in self._places:
            child = self._children.get(place.config)
            if child is None or child.poll() is None or child.pid in self._mourned:
                continue
            self._mourned.add(child.pid)
            again = f"truc run --config {place.config}"
            self._say(
                f'Nút "{place.site.name}" đã dừng (mã {child.returncode}); chạy lại bằng: {again}',
                f'Node "{place.site.name}" has ended ({child.returncode}); start it again with: {again}',
            )

    def _alive(self) -> set[int]:
        started = {child.pid for child in self._children.values() if child.poll() is None}
        found = running(self._configs() if self._places else ())  # without places this folder is not ours to clear
        return started | {pid for pids in found.values() for pid in pids}

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self._signalled = True

        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) asks to outlive the terminal
            numbers.append(signal.SIGHUP)
        before = [signal.signal(number, note) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    # --- the ready line ------------------------------------------------------------------------------------------------

    def _ready(self, addresses: Mapping[Path, dict[str, Any]]) -> dict[str, Any]:
        return {
            "event": "ready",
            "dir": str(self.root),
            "zone": self._places[0].settings.node.zone,
            "ca": str(self.root / "ca.pem"),
            "nodes": [_ready_node(place, addresses[place.config]) for place in self._present],
        }


def _ready_node(place: Place, address: Mapping[str, Any]) -> dict[str, Any]:
    site, settings = place.site, place.settings
    return {
        "name": site.name,
        "dns": site.code.dns_name(settings.node.zone),
        "code": str(site.code),
        "tier": site.tier,
        "parent": None if site.parent is None else str(site.parent),
        "pid": address["pid"],
        "link": _url("https", settings.link.listen_host, address["link_port"]),
        "public": _url("https", settings.office.listen_host, address["office_port"]),
        "admin": _url("http", settings.admin.listen_host, address["admin_port"]),
        "config": str(place.config),
        "data": str(settings.node.data_dir),
        "systems": [
            {"id": row["id"], "secret": row["secrets"][0], "codes": row["codes"]}
            for row in place.systems()
            if not row.get("disabled") and row["secrets"]
        ],
    }


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _ready_address(place: Place, *, patient: bool) -> dict[str, Any] | None:
    """The content of `run.json` of a ready node. patient: a node that misses its parent is not ready yet."""
    try:
        address: dict[str, Any] = json.loads(place.run_file.read_text())
        host, port, _ = place.settings.admin.listen_host, address["admin_port"], address["pid"]
    except (OSError, ValueError, KeyError):  # not written yet, or half written
        return None
    status, text = _get(host, port, "/readyz")
    waiting = patient and any(line.startswith("[!]parent") for line in text.splitlines())
    return address if status == http.client.OK and not waiting else None


def _get(host: str, port: int, path: str) -> tuple[int, str]:
    """Status and text; (0, "") while nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(ANSWER_BYTES_MAX).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def _environment() -> dict[str, str]:
    """Ours without `TRUC_*`, which would set the same port and name for every node; a checkout finds its own package."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    packages = str(Path(next(iter(node.__path__))).resolve().parent)
    if packages not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (packages, environment.get("PYTHONPATH"))))
    return environment

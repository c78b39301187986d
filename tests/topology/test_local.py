"""A tree as processes: ready when all are, indifferent to deaths, thorough at the end, and the same again in the same folder.

The nodes are stand-ins (`fake_node.py`); the real ones are started in tests/processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.config import ConfigError
from topology import local
from topology.local import Sandbox, SandboxError
from topology.processes import running

Write = Callable[..., Path]
Ready = dict[str, Any]

HERE = Path(__file__).parent
FAKE = (sys.executable, str(HERE / "fake_node.py"))
PATIENCE_S = 30.0
ANSWERS_OK = """
import socket, sys
server = socket.socket(fileno=int(sys.argv[1]))
while True:
    caller, _ = server.accept()
    caller.recv(65536)
    caller.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    caller.close()
"""


def until(true: Callable[[], object], what: str) -> None:
    """Wait for another process; a failure after `PATIENCE_S`, never a guess."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def nodes_running(root: Path) -> list[int]:
    return [pid for pids in running(root.glob("*/node.toml")).values() for pid in pids]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "sandbox"
    yield folder
    for pid in nodes_running(folder):
        os.kill(pid, signal.SIGKILL)


class Rehearsal:
    """`Sandbox.run` in a process of its own."""

    def __init__(self, root: Path, topology: Path) -> None:
        command = [sys.executable, str(HERE / "rehearse.py"), str(root), str(topology)]
        environment = {**os.environ, "TRUC_LINK__LISTEN_PORT": "1", "PYTHONPATH": str(HERE.parent.parent)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)

    def ready(self) -> Ready:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        ready: Ready = json.loads(line)
        return ready

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err


@pytest.fixture
def rehearse(root: Path, written: Write) -> Iterator[Callable[[], Rehearsal]]:
    started: list[Rehearsal] = []

    def start() -> Rehearsal:
        started.append(Rehearsal(root, written()))
        return started[-1]

    yield start
    for rehearsal in started:
        rehearsal.process.kill()
        rehearsal.process.communicate()


@pytest.fixture
def sandbox(root: Path, written: Write) -> Iterator[Sandbox]:
    made = Sandbox(root, written(), command=FAKE)
    yield made
    made.stop()


def by_code(ready: Ready) -> dict[str, Ready]:
    return {node["code"]: node for node in ready["nodes"]}


# --- ready -------------------------------------------------------------------------------------------------------------


def test_the_ready_line_tells_where_everything_is(sandbox: Sandbox, root: Path) -> None:
    ready = sandbox.start()
    assert {key: ready[key] for key in ("event", "dir", "zone", "ca")} == {
        "event": "ready",
        "dir": str(root),
        "zone": "small.test",
        "ca": str(root / "ca.pem"),
    }
    assert [(node["code"], node["parent"], node["dns"]) for node in ready["nodes"]] == [
        ("", None, "small.test"),
        ("H41", "", "h41.small.test"),
        ("H14", "", "h14.small.test"),
        ("H41.07", "H41", "07.h41.small.test"),
    ]
    province = by_code(ready)["H41"]
    assert list(province) == [
        *("name", "dns", "code", "tier", "parent", "pid", "link", "public", "admin", "config", "data", "systems"),
    ]  # fmt: skip
    assert (province["name"], province["tier"]) == ("Nghệ An", "tỉnh")
    assert (province["config"], province["data"]) == (str(root / "h41" / "node.toml"), str(root / "h41" / "data"))
    for name, scheme in (("link", "https"), ("public", "https"), ("admin", "http")):
        assert province[name].startswith(f"{scheme}://127.0.0.1:")
        assert not province[name].endswith("/")
    run = json.loads((root / "h41" / "data" / "run.json").read_text())
    assert (province["pid"], province["link"]) == (run["pid"], f"https://127.0.0.1:{run['link_port']}")
    (system,) = province["systems"]
    assert (system["id"], system["codes"]) == ("nghean", ["H41", "K41"])
    assert system["secret"] in (root / "h41" / "systems.json").read_text()


def test_the_tree_is_not_ready_before_its_slowest_node(sandbox: Sandbox, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = root / "h14" / "data"
    data.mkdir(parents=True)
    (data / "slow").touch()
    asked: list[int] = []

    def answer(host: str, port: int, path: str) -> tuple[int, str]:
        status, text = real(host, port, path)
        if status == 503:
            asked.append(port)
            (data / "slow").unlink(missing_ok=len(asked) > 1)
        return status, text

    real = local._get
    monkeypatch.setattr(local, "_get", answer)
    port = by_code(sandbox.start())["H14"]["admin"].rpartition(":")[2]
    assert str(asked[0]) == port


def test_a_site_may_be_absent_and_what_is_laid_before_is_there(written: Write, tmp_path: Path, root: Path) -> None:
    laid: list[str] = []
    sandbox = Sandbox(root, written(), command=FAKE, absent=["H41.07"])
    try:
        ready = sandbox.start(lambda places: laid.extend(str(place.site.code) for place in places if not nodes_running(root)))
        assert "H41.07" in laid
        assert {node["code"] for node in ready["nodes"]} == set(laid) - {"H41.07"}
    finally:
        sandbox.stop()


def test_a_node_that_has_ended_is_started_again_where_it_was(sandbox: Sandbox, root: Path) -> None:
    node = sandbox.start()["nodes"][0]
    os.kill(node["pid"], signal.SIGKILL)
    again = sandbox.start_again(Path(node["config"]))
    assert again != node["pid"]
    until(lambda: again in nodes_running(root), "the new process shows its command line")  # empty for a moment after exec


def test_what_a_former_life_left_in_run_json_is_not_believed(sandbox: Sandbox, root: Path) -> None:
    before = by_code(sandbox.start())["H41"]
    address = json.loads((root / "h41" / "data" / "run.json").read_text())
    sandbox.stop()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        answers = subprocess.Popen([sys.executable, "-c", ANSWERS_OK, str(stranger.fileno())], pass_fds=[stranger.fileno()])
        (root / "h41" / "data" / "run.json").write_text(json.dumps({**address, "admin_port": port}))
        try:
            after = by_code(sandbox.start())["H41"]
        finally:
            answers.kill()
            answers.wait()
    assert after["admin"] == before["admin"]
    assert after["pid"] != before["pid"]


def test_ctrl_c_in_the_terminal_reaches_the_rehearsal_only(sandbox: Sandbox) -> None:
    sessions = {os.getsid(node["pid"]) for node in sandbox.start()["nodes"]}
    assert os.getsid(0) not in sessions


def test_a_missing_parent_is_waited_for_but_not_for_ever(sandbox: Sandbox, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = root / "h14" / "data"
    data.mkdir(parents=True)
    (data / "apart").touch()
    monkeypatch.setattr(local, "LINKED_S", 1.5)
    started = time.monotonic()
    assert len(sandbox.start()["nodes"]) == 4
    assert time.monotonic() - started >= 1.5


def test_nodes_get_no_options_from_our_environment(sandbox: Sandbox, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUC_LINK__LISTEN_PORT", "1")
    sandbox.start()
    assert "environment []" in (root / "hub" / "node.log").read_text()


def test_a_node_that_dies_at_the_start_is_told_with_its_last_words(sandbox: Sandbox, root: Path) -> None:
    data = root / "h14" / "data"
    data.mkdir(parents=True)
    (data / "crash").touch()
    with pytest.raises(SandboxError, match=r'(?s)nút "Cao Bằng" dừng khi khởi động \(mã 1\).*no disk, no ink, no paper'):
        sandbox.start()
    sandbox.stop()
    assert nodes_running(root) == []


def test_a_node_that_never_gets_ready_is_named_with_its_log(
    sandbox: Sandbox, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = root / "h14" / "data"
    data.mkdir(parents=True)
    (data / "slow").touch()
    monkeypatch.setattr(local, "READY_S", 3.0)
    with pytest.raises(SandboxError, match=r'chưa sẵn sàng: "Cao Bằng" \(.*h14/node\.log\)'):
        sandbox.start()


def test_a_large_log_is_put_aside_at_the_start(sandbox: Sandbox, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LOG_BYTES_MAX", 10)
    (root / "hub").mkdir(parents=True)
    (root / "hub" / "node.log").write_text("long ago, far away")
    sandbox.start()
    assert (root / "hub" / "node.log.1").read_text() == "long ago, far away"


# --- deaths ------------------------------------------------------------------------------------------------------------


def test_it_survives_the_death_of_a_node_and_neither_restarts_nor_replaces_it(
    rehearse: Callable[[], Rehearsal], root: Path
) -> None:
    rehearsal = rehearse()
    dead = by_code(rehearsal.ready())["H41"]
    os.kill(dead["pid"], signal.SIGKILL)
    assert rehearsal.process.stderr is not None
    told = rehearsal.process.stderr.readline()  # it noticed
    assert told == f'Nút "Nghệ An" đã dừng (mã -9); chạy lại bằng: truc run --config {dead["config"]}\n'
    assert rehearsal.process.poll() is None
    assert running([Path(dead["config"])])[Path(dead["config"])] == ()
    assert len(nodes_running(root)) == 3
    assert rehearsal.end() == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_at_the_end_nothing_of_the_folder_runs(rehearse: Callable[[], Rehearsal], root: Path, number: signal.Signals) -> None:
    rehearsal = rehearse()
    rehearsal.ready()
    assert rehearsal.end(number) == (0, "", "")
    assert nodes_running(root) == []


def test_at_the_end_a_node_restarted_by_hand_is_stopped_too(rehearse: Callable[[], Rehearsal], root: Path) -> None:
    rehearsal = rehearse()
    node = by_code(rehearsal.ready())["H41"]
    os.kill(node["pid"], signal.SIGKILL)
    run_file = Path(node["data"]) / "run.json"
    run_file.unlink()
    by_hand = subprocess.Popen([*FAKE, "run", "--config", "h41/node.toml"], cwd=root)
    until(run_file.exists, "the node is back")
    assert json.loads(run_file.read_text())["link_port"] == int(node["link"].rpartition(":")[2])
    code, out, _ = rehearsal.end()
    assert (code, out) == (0, "")
    assert by_hand.wait(PATIENCE_S) == 0  # it was asked to go, not killed
    assert nodes_running(root) == []


def test_a_node_that_will_not_leave_is_killed(sandbox: Sandbox, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = root / "h14" / "data"
    data.mkdir(parents=True)
    (data / "stubborn").touch()
    monkeypatch.setattr(local, "STOP_S", 1.0)
    sandbox.start()
    sandbox.stop()
    assert nodes_running(root) == []


def test_a_signal_during_the_start_stops_what_was_started(rehearse: Callable[[], Rehearsal], root: Path) -> None:
    data = root / "h14" / "data"
    data.mkdir(parents=True)
    (data / "slow").touch()
    rehearsal = rehearse()
    until(lambda: len(nodes_running(root)) == 4, "all nodes were started")
    code, out, err = rehearsal.end()
    assert (code, out, err) == (0, "", "Dừng trong lúc khởi động.\n")
    assert nodes_running(root) == []


# --- the same folder again ---------------------------------------------------------------------------------------------


def lasting(ready: Ready) -> list[tuple[Any, ...]]:
    keys = ("code", "link", "public", "admin", "config", "data", "systems")
    return [tuple(node[key] for key in keys) for node in ready["nodes"]]


def test_the_same_folder_continues_where_it_was(sandbox: Sandbox, root: Path) -> None:
    first = sandbox.start()
    sandbox.stop()
    (root / "h41" / "data" / "letter").write_text("kept")
    again = Sandbox(root, command=FAKE)  # the folder knows its tree
    try:
        second = again.start()
    finally:
        again.stop()
    assert lasting(second) == lasting(first)
    assert {node["pid"] for node in first["nodes"]}.isdisjoint(node["pid"] for node in second["nodes"])
    assert (root / "h41" / "data" / "letter").read_text() == "kept"


def test_another_tree_in_the_same_folder_is_rendered_anew(sandbox: Sandbox, root: Path, written: Write) -> None:
    first = sandbox.start()
    sandbox.stop()
    again = Sandbox(root, written(('name = "Cao Bằng"', 'name = "Tỉnh Cao Bằng"')), command=FAKE)
    try:
        second = again.start()
    finally:
        again.stop()
    assert by_code(second)["H14"]["name"] == "Tỉnh Cao Bằng"
    assert lasting(second) == lasting(first)


def test_two_sandboxes_do_not_share_a_folder(sandbox: Sandbox, root: Path) -> None:
    pids = {node["pid"] for node in sandbox.start()["nodes"]}
    other = Sandbox(root, command=FAKE)
    with pytest.raises(SandboxError, match=rf"đang do sandbox khác giữ \(tiến trình {os.getpid()}\)"):
        other.start()
    other.stop()
    assert set(nodes_running(root)) == pids


def test_nodes_left_by_a_killed_rehearsal_are_taken_over(rehearse: Callable[[], Rehearsal], sandbox: Sandbox, root: Path) -> None:
    rehearsal = rehearse()
    first = by_code(rehearsal.ready())
    rehearsal.process.kill()
    rehearsal.process.wait()
    os.kill(first["H41"]["pid"], signal.SIGKILL)
    until(lambda: len(nodes_running(root)) == 3, "one node is gone")
    second = by_code(sandbox.start())
    assert [second[code]["pid"] == first[code]["pid"] for code in ("", "H14", "H41.07", "H41")] == [True, True, True, False]
    sandbox.stop()
    assert nodes_running(root) == []


def test_another_tree_does_not_take_over_the_nodes_of_the_old_one(
    rehearse: Callable[[], Rehearsal], root: Path, written: Write
) -> None:
    rehearsal = rehearse()
    rehearsal.ready()
    rehearsal.process.kill()
    rehearsal.process.wait()
    before = set(nodes_running(root))
    other = Sandbox(root, written(('name = "Cao Bằng"', 'name = "Tỉnh Cao Bằng"')), command=FAKE)
    with pytest.raises(SandboxError, match="còn nút đang chạy theo cây cũ — dừng trước: kill "):
        other.start()
    other.stop()
    assert set(nodes_running(root)) == before


def test_a_port_that_a_stranger_took_is_told_with_the_node(sandbox: Sandbox, root: Path) -> None:
    port = int(by_code(sandbox.start())["H41"]["public"].rpartition(":")[2])
    sandbox.stop()
    again = Sandbox(root, command=FAKE)
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(SandboxError, match=rf'"Nghệ An": 127\.0\.0\.1:{port} .*office\.listen_port'):
            again.start()
        again.stop()
    assert nodes_running(root) == []


# --- what cannot be used -----------------------------------------------------------------------------------------------


def test_an_unlawful_tree_starts_nothing(root: Path, written: Write) -> None:
    sandbox = Sandbox(root, written(('parent = "H41"', 'parent = "H42"')), command=FAKE)
    with pytest.raises(ConfigError, match="không có điểm kết nối cấp trên"):
        sandbox.start()
    sandbox.stop()
    assert not (root / "hub").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, written: Write) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SandboxError, match="không dùng được thư mục"):
        Sandbox(tmp_path / "file" / "sandbox", written(), command=FAKE).start()


def test_a_damaged_key_is_told_with_what_to_do(sandbox: Sandbox, root: Path, written: Write) -> None:
    (root / "pki").mkdir(parents=True)
    (root / "pki" / "root.key").write_text("damaged")
    with pytest.raises(SandboxError, match=r"root\.key: không phải khóa riêng .* — xóa tệp này để tạo lại"):
        sandbox.start()

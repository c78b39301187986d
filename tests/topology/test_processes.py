"""Which processes run a node of a configuration: ours and those started by hand, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from topology.processes import cpu_s, memory_mb, running, tell

WAITS = "import sys; print('up', flush=True); sys.stdin.read()"

Start = Callable[..., int]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.touch()
    return path


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str, cwd: Path | None = None, before: tuple[str, ...] = (), config: str = "") -> int:
        environment = {**os.environ, **({"TRUC_CONFIG": config} if config else {})}
        command = [*before, sys.executable, "-c", WAITS, *arguments]
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        return process.pid

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_a_node_is_found_by_its_configuration(config: Path, start: Start, tmp_path: Path) -> None:
    pids = {
        start("run", "--config", str(config)),
        start("run", f"--config={config}"),
        start("--lang", "en", "run", "--config", "node.toml", cwd=tmp_path),
        start("run", "--config", f"../{tmp_path.name}/node.toml", cwd=tmp_path),
        start("--config", str(config), "run"),
        start("run", config=str(config)),
    }
    other = tmp_path / "other.toml"
    assert running([config, other]) == {config: tuple(sorted(pids)), other: ()}


def test_a_configuration_is_found_through_a_link_too(config: Path, start: Start, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path, target_is_directory=True)
    pid = start("run", "--config", str(link / "node.toml"))
    assert running([config])[config] == (pid,)
    assert running([link / "node.toml"])[link / "node.toml"] == (pid,)


def test_others_that_name_the_file_are_no_nodes(config: Path, start: Start) -> None:
    start("status", "--config", str(config))
    start("run", str(config))
    start("run", "--config")
    start("run", "--config", str(config.with_name("other.toml")), config=str(config))
    assert running([config])[config] == ()


def test_a_wrapper_is_not_taken_for_the_node_inside(config: Path, start: Start) -> None:
    wrapper = start("run", "--config", str(config), before=("timeout", "60"))
    (pid,) = running([config])[config]
    assert pid != wrapper


def test_a_dead_process_is_not_running_although_nobody_buried_it(config: Path, start: Start) -> None:
    pid = start("run", "--config", str(config))
    assert tell(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert running([config])[config] == ()


def test_a_signal_to_a_process_that_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not tell(process.pid, signal.SIGTERM)


def test_what_a_process_uses_is_told() -> None:
    before = cpu_s(os.getpid())
    while cpu_s(os.getpid()) <= before:
        sum(range(100_000))
    memory = memory_mb(os.getpid())
    assert 1 < memory["pss"] <= memory["rss"]

"""A bench from outside: its folder, its failures in words, and that nothing of it outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from topology.bench import run as bench
from topology.bench.arrivals import Incomplete
from topology.bench.run import BenchFailed, run
from topology.bench.workloads import Plan
from topology.office import CallFailed
from topology.processes import running

ROOT = Path(__file__).parents[3]
PLAN = Plan("relay", 1)


class Stand:
    """Instead of a sandbox: no node at all. error: what measuring comes to."""

    error: BaseException | None = None
    stopped = 0

    def __init__(self, root: Path, topology: Path, **_: Any) -> None:
        assert topology.is_file()
        Stand.root = root

    root: Path

    def start(self, lay: Any) -> dict[str, Any]:
        return {}

    def stop(self) -> None:
        Stand.stopped += 1
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM))


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> type[Stand]:
    async def measure(*_: Any) -> None:
        if Stand.error is not None:
            raise Stand.error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("own")))
    monkeypatch.setattr(bench, "Sandbox", Stand)
    monkeypatch.setattr(bench, "_measure", measure)
    Stand.error, Stand.stopped = None, 0
    return Stand


def go(keep: Path | None = None) -> None:
    run(PLAN, "truc bench relay", lambda row: None, lambda vi, en: None, keep)


def test_a_folder_of_its_own_goes_when_all_is_well(stand: type[Stand]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    go()
    assert stand.stopped == 1
    assert not stand.root.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_that_is_asked_for_stays(stand: type[Stand], tmp_path: Path) -> None:
    go(tmp_path / "kept")
    assert (tmp_path / "kept" / "bench.toml").is_file()


def test_a_folder_with_something_in_it_is_not_taken(stand: type[Stand], tmp_path: Path) -> None:
    (tmp_path / "letter").touch()
    with pytest.raises(BenchFailed, match="không trống"):
        go(tmp_path)
    assert stand.stopped == 0


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Incomplete("3 lượt nhận không đến", "3 missing"), "3 lượt nhận không đến"),
        (ExceptionGroup("tasks", [ExceptionGroup("offices", [CallFailed("sendEdoc: hỏng")])]), "sendEdoc: hỏng"),
    ],
)
def test_a_failure_is_told_and_leaves_the_logs(stand: type[Stand], error: Exception, told: str) -> None:
    stand.error = error
    with pytest.raises(BenchFailed, match=told) as failure:
        go()
    assert stand.stopped == 1
    assert stand.root.exists()
    assert f"{stand.root}/*/node.log" in str(failure.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_anything_else_is_passed_on_and_the_nodes_stopped(stand: type[Stand], error: BaseException) -> None:
    stand.error = error
    with pytest.raises(type(error)):
        go()
    assert stand.stopped == 1
    assert not stand.root.exists()


@pytest.mark.processes
def as_in_a_terminal() -> None:
    """A job in the background of a script ignores SIGINT, and so would all it starts."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_in_the_middle_of_a_run_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "nodes"
    command = [sys.executable, "-m", "node", "bench", "relay", "--documents", "100000", "--keep", str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal
    ) as process:
        assert process.stderr is not None
        while "Lần 1/3" not in (line := process.stderr.readline()):
            assert line, "it ended before its first run"
        assert all(running(folder.glob("*/node.toml")).values())
        process.send_signal(number)
        process.send_signal(number)  # twice, as the impatient do
        process.stderr.read()
    assert process.returncode == 1
    assert not any(running(folder.glob("*/node.toml")).values())

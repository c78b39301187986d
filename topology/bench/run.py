"""One bench from beginning to end: nodes up, runs one after the other, figures of all, nodes gone.

The nodes are started and stopped by a sandbox; nothing of a bench outlives it, whatever stops it.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from node.core.identifier import OrgId
from topology.bench.arrivals import Arrivals, Incomplete
from topology.bench.children import Papers
from topology.bench.figures import Figures, neat, noise, spreads
from topology.bench.letters import Contents
from topology.bench.stand import RECEIVERS_FIRST, SENDER, SILENT, Stand, offices, roles, tree_text
from topology.bench.workloads import COLLECTING, WORKLOADS, Plan, Work
from topology.local import Sandbox
from topology.office import CallFailed
from topology.render import Place

SPIN = 2_000_000
"""Steps of the loop that is timed around each run: a few hundredths of a second."""
CALIBRATIONS = 5
LOOK_S = 0.01
"""Between two questions of all receivers together, where receiving is polling."""
IDLE_S = 5.0
CHILDREN_FIRST = 100
"""Children that are no nodes are H100, H101 …"""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Heard = Callable[[Mapping[str, Any]], None]
Say = Callable[[str, str], None]


class BenchFailed(Exception):
    """No figures. texts: why, in Vietnamese and in English."""

    def __init__(self, vi: str, en: str) -> None:
        self.texts = (vi, en)
        super().__init__(vi)


def run(plan: Plan, command: str, heard: Heard, say: Say, keep: Path | None = None, idle_s: float = IDLE_S) -> None:
    """All of it. command: as written, to be told with the figures; keep: the folder of the nodes, which then stays.

    Raises `BenchFailed`, `SandboxError` or `ConfigError`.
    """
    with _signals(), _folder(keep) as folder, ExitStack() as running:
        try:
            places: list[Place] = []
            sandboxes = _sandboxes(plan, folder, say, places)
            running.callback(_stop, sandboxes)
            stands = [(sandbox, sandbox.start(lay)) for sandbox, lay in sandboxes]
            asyncio.run(_until_stopped(_measure(plan, stands, places, command, heard, say, idle_s)))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        except (Incomplete, CallFailed, ExceptionGroup) as error:
            raise _failed(error, folder) from error


Lay = Callable[[Sequence[Place]], None]


def _sandboxes(plan: Plan, folder: Path, say: Say, places: list[Place]) -> list[tuple[Sandbox, Lay]]:
    """The one to measure first; of grown, an empty one beside it. With each what is laid there before it starts. places: told
    the sites of the first."""
    say(f"Đang dựng {2 + plan.nodes} nút trong {folder} …", f"Setting up {2 + plan.nodes} nodes in {folder} …")
    if plan.workload != "grown":
        return [(_sandbox(plan, folder, say), places.extend)]
    return [
        (_sandbox(plan, folder / "grown", say), partial(_lay_past, plan, say)),
        (_sandbox(plan, folder / "empty", say), lambda places: None),
    ]


def _sandbox(plan: Plan, folder: Path, say: Say) -> Sandbox:
    folder.mkdir(exist_ok=True)
    topology = folder / "bench.toml"
    silent = [f"H{CHILDREN_FIRST + number}" for number in range(plan.children)]
    if plan.workload == "grown":
        silent = [SILENT]
    topology.write_text(tree_text(plan.organs(), silent), encoding="utf-8")
    return Sandbox(folder, topology, say=say, absent=silent)


def _lay_past(plan: Plan, say: Say, places: Sequence[Place]) -> None:
    """Into the hub's database, before it is ever opened."""
    from topology.bench import seed

    say(
        f"Đang tạo {plan.backlog} bì đang chờ và {plan.history} bì đã bàn giao …",
        f"Making {plan.backlog} envelopes that wait and {plan.history} that were handed over …",
    )
    (hub,) = (place for place in places if not str(place.site.code))
    data = hub.settings.node.data_dir
    sender, silent, receiver = (OrgId.canonical(code) for code in (SENDER, SILENT, f"H{RECEIVERS_FIRST + 1}"))
    past = seed.Past(plan.backlog, plan.history, sender, silent, receiver)
    seed.write(data / "node.db", past, time.time_ns() // 1_000_000)


def _stop(sandboxes: Sequence[tuple[Sandbox, Lay]]) -> None:
    _deaf()
    for sandbox, _ in sandboxes:
        sandbox.stop()


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """A signal cancels the work. An exception out of a signal's handler may strike where Python passes over it, in a destructor
    or a callback of C, and then nothing would stop."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(task.cancel))
    await work


def _papers(plan: Plan, places: Sequence[Place], ready: Mapping[str, Any]) -> list[Papers]:
    """Of the sites that are children without a node."""
    (hub,) = roles(ready)["relay_node"]
    links = [place.settings.link for place in places if place.config not in {Path(node["config"]) for node in ready["nodes"]}]
    return [Papers(link.certificate, link.key, link.trust, hub["link"], hub["dns"]) for link in links] if plan.children else []


async def _measure(
    plan: Plan,
    stands: Sequence[tuple[Sandbox, Mapping[str, Any]]],
    places: Sequence[Place],
    command: str,
    heard: Heard,
    say: Say,
    idle_s: float,
) -> None:
    now = asyncio.get_running_loop().time
    best_s = min(_spin_s() for _ in range(CALIBRATIONS))
    heard({"what": "machine", "cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()})
    async with AsyncExitStack() as doors, asyncio.TaskGroup() as tasks:
        work: Work | None = None
        collecting: list[asyncio.Task[None]] = []
        for sandbox, ready in reversed(stands):
            stand = await doors.enter_async_context(offices(ready, plan.door, now, plan.backlog if work else 0))
            arrivals = Arrivals(Contents(plan.size), len(stand.receivers), now)
            work = Work(plan, stand, arrivals, sandbox.start_again, work, _papers(plan, places, ready))
            if plan.workload in COLLECTING:
                collecting += [
                    tasks.create_task(door.collect(partial(arrivals.got, place), LOOK_S * len(stand.receivers)))
                    for place, door in enumerate(stand.receivers)
                ]
        assert work is not None
        for row in await _idle(work.stand, idle_s):
            heard(row)
        await _runs(work, best_s, command, heard, say)
        for each in collecting:
            each.cancel()
        while work is not None:
            await work.stand.hang_up()  # before they wake
            work = work.beside


async def _runs(work: Work, best_s: float, command: str, heard: Heard, say: Say) -> None:
    plan = work.plan
    name = {"workload": plan.workload, "door": plan.door}
    await work.warm_up()
    if work.beside is not None:
        await work.beside.warm_up()
    runs: list[Figures] = []
    noises: list[float] = []
    for number in range(1, plan.runs + 1):
        say(f"Lần {number}/{plan.runs} …", f"Run {number}/{plan.runs} …")
        before_s = _spin_s()
        figures = await WORKLOADS[plan.workload](work)
        after_s = _spin_s()
        best_s = min(best_s, before_s, after_s)
        noises.append(noise(before_s, after_s, best_s))
        runs.append({figure: neat(value) for figure, value in figures.items()})
        heard({"what": "run", **name, "run": number, "noise": noises[-1], **runs[-1]})
    for figure, values in spreads(runs).items():
        heard({"what": "figure", **name, "figure": figure, **values, "runs": plan.runs, "noise": max(noises), "command": command})


async def _idle(stand: Stand, rest_s: float) -> list[dict[str, Any]]:
    """What nodes use that have nothing to do."""
    before = stand.cpu_s()
    await asyncio.sleep(rest_s)  # the time measured
    after = stand.cpu_s()
    return [
        {
            "what": "idle",
            "node": role,
            "rss_mb": neat(memory["rss"]),
            "pss_mb": neat(memory["pss"]),
            "cpu_percent": neat((after[role] - before[role]) * 100 / rest_s / len(stand.nodes[role])),
        }
        for role, memory in stand.memory_mb().items()
    ]


def _spin_s() -> float:
    """How long a fixed piece of pure work takes now."""
    began = time.perf_counter()
    total = 0
    for step in range(SPIN):
        total ^= step
    return time.perf_counter() - began


def _failed(error: Exception, folder: Path) -> Exception:
    """What a user is told of it; the first of a group speaks for all."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, Incomplete | CallFailed):
        return error
    vi, en = error.texts if isinstance(error, Incomplete) else (str(error), str(error))
    return BenchFailed(f"{vi} — nhật ký của các nút: {folder}/*/node.log", f"{en}; the nodes' logs: {folder}/*/node.log")


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where the nodes live: the one to keep, which must be new or empty, or one that goes unless the bench fails."""
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise BenchFailed(f"thư mục {keep} không trống — chọn thư mục mới", f"{keep} is not empty: choose a new folder")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    folder = Path(tempfile.mkdtemp(prefix="truc-bench-"))
    try:
        yield folder
    except BenchFailed:
        raise
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a bench as Ctrl-C does."""
    numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _deaf() -> None:
    """From here on the nodes are being stopped, and nothing may come between."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)

"""The adapter for the peers' harness does what the harness asks of any system under test. The harness itself is a stand-in."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.processes.tree import ROOT, alive, eventually

COUNT = 20


class Adapter:
    """What the harness' base class gives: the folder, the options, the state that crosses to the receiver's process."""

    options: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, base: Path, topology: str, opts: dict[str, str], proxy: Callable[[int], int] | None = None) -> None:
        self.base, self.topology, self.proxy = base, topology, proxy
        self.o = {**self.options, **opts}
        self.state: dict[str, Any] = {}

    def link_port(self, port: int) -> int:
        return self.proxy(port) if self.proxy else port


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The adapter's class, loaded as the harness does: by its path, with `common` beside it."""
    common = ModuleType("common")
    common.Adapter = Adapter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "common", common)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("sut_under_test", ROOT / "tests" / "bench" / "sut_truc.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SUT


async def test_a_chain_carries_documents_through_a_restart_of_its_middle(adapter: Any, tmp_path: Path) -> None:
    sut = adapter(tmp_path, "chain", {})
    try:
        await sut.start()
        receiver = adapter(tmp_path, "chain", {})
        receiver.state = sut.state
        found: list[tuple[int, bytes]] = []
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(receiver.receive(lambda recipient, data: found.append((recipient, data))))
            await sut.open_sender()
            sent = [os.urandom(5000) for _ in range(COUNT)]
            await asyncio.gather(*(sut.send([0], data) for data in sent[:10]))
            (before,) = sut.pids(1)
            await sut.kill9(1)
            assert not alive(before)
            await asyncio.gather(*(sut.send([0], data) for data in sent[10:]))
            await sut.restart(1)
            assert sut.pids(1) != [before]
            await eventually(lambda: len(found) >= COUNT, "all have arrived", 60)
            receiving.cancel()
        assert sorted(found) == sorted((0, data) for data in sent)
    finally:
        await sut.close_sender()
        await sut.stop()
    assert not any(alive(pid) for node in range(3) for pid in sut.pids(node))


async def test_a_fan_reaches_sixty_and_its_first_link_goes_where_the_harness_says(adapter: Any, tmp_path: Path) -> None:
    asked: list[int] = []

    def proxy(port: int) -> int:
        asked.append(port)
        return port

    sut = adapter(tmp_path, "fan", {}, proxy)
    try:
        await sut.start()
        parent = sut.tree.ready["nodes"][0]["link"]
        assert asked == [int(parent.rpartition(":")[2])]
        found: list[tuple[int, bytes]] = []
        async with asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(sut.receive(lambda recipient, data: found.append((recipient, data))))
            await sut.open_sender()
            content = os.urandom(200_000)
            await sut.send(list(range(60)), content)
            await eventually(lambda: len(found) >= 60, "all sixty have it", 60)
            receiving.cancel()
        assert sorted(found) == [(recipient, content) for recipient in range(60)]
    finally:
        await sut.close_sender()
        await sut.stop()

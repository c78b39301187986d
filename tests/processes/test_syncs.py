"""A node dies exactly at a sync of its disk: at start, in the commit that takes custody, in the one that lets go of it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.processes.letters import NO_ANSWER, connector, letter
from tests.processes.tree import ROOT, Node, Tree, eventually
from tests.vxp_client import VxpClient

SYNCS = ("fdatasync", "fsync")


def no_strace() -> str:
    """Why this machine cannot stop a process at a system call; "" when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    command = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"strace may not trace here: {tried.stderr.strip()[:100]}" if tried.returncode else ""


def start_doomed(node: Node, number: int) -> subprocess.Popen[bytes]:
    """Start the node so that its `number`-th sync kills it."""
    calls = ",".join(SYNCS)
    tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL:when={number}"]
    with (node.config.parent / "node.log").open("ab") as log:
        command = [*tracer, sys.executable, "-m", "node", "run", "--config", str(node.config)]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


async def send(node: Node, doomed: subprocess.Popen[bytes], client: VxpClient, package: bytes) -> str:
    """Insist until there is an answer; a node that has died is started again."""
    while True:
        try:
            return str((await client.send(package))["DocId"])
        except NO_ANSWER:
            restart(node, doomed)
            await asyncio.sleep(0.1)  # a connector's pause before it tries again


def restart(node: Node, doomed: subprocess.Popen[bytes]) -> None:
    if doomed.poll() is not None and not node.alive():
        node.start()


@pytest.mark.timeout(240)
async def test_a_node_that_dies_at_a_sync_has_kept_what_it_took_and_nothing_twice(small: Callable[[], Tree]) -> None:
    if why := no_strace():
        pytest.skip(why)
    died = 0
    with small() as tree:
        node = tree.nodes["H41.07"]
        async with connector(tree, "H41.07", 5) as sender, connector(tree, "G22") as receiver:
            for number in (2, 5, 8, 10, 12, 14):
                node.kill()
                doomed = start_doomed(node, number)
                packages = [letter("H41.07", "G22", number=n, size=size, seed=number) for n, size in enumerate((3_000, 300_000))]
                sent = [await send(node, doomed, sender, package) for package in packages]

                async def listed(sent: list[str] = sent, doomed: subprocess.Popen[bytes] = doomed) -> bool:
                    restart(node, doomed)
                    return sorted(line["docId"] for line in await receiver.received()) == sorted(sent)

                await eventually(listed, f"both once, although the node died at sync {number}", 60)
                for doc_id, package in zip(sent, packages, strict=True):
                    assert await receiver.get(doc_id) == package
                    assert (await receiver.update(doc_id, "done"))["status"] == "OK"
                died += await end(node, doomed)
    assert died >= 3, "too few syncs were reached: the story was not told"


async def end(node: Node, doomed: subprocess.Popen[bytes]) -> bool:
    """The next round begins with a plain node. Whether this one's died at its sync."""
    died = doomed.poll() is not None
    if not died:
        node.pid = json.loads((node.data / "run.json").read_text())["pid"]
        node.kill()
        await eventually(lambda: doomed.poll() is not None, "the tracer ends with its node")
    if not node.alive():
        node.start()
    await node.ready()
    return died

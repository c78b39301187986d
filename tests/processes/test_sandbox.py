"""The sandbox as others rely on it: its ready line, its nodes left alone when they die, its end, its folder used again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from tests.processes.letters import arrived, connector, insist, letter
from tests.processes.tree import ROOT, Node, Tree, alive, eventually
from tests.vxp_client import VxpClient

NODE_KEYS = {"name", "dns", "code", "tier", "parent", "pid", "link", "public", "admin", "config", "data", "systems"}


def test_the_ready_line_is_what_connectors_and_judges_read(seven: Tree) -> None:
    ready = json.loads(seven.line)
    assert seven.line.count("\n") == 1
    assert set(ready) == {"event", "dir", "zone", "ca", "nodes"}
    assert (ready["event"], Path(ready["dir"])) == ("ready", seven.folder)
    assert "BEGIN CERTIFICATE" in Path(ready["ca"]).read_text()
    assert len(ready["nodes"]) == 7
    above: set[str | None] = {None}
    for node in ready["nodes"]:
        assert set(node) == NODE_KEYS
        assert node["parent"] in above  # parents before children, None only above the hub
        above = (above | {node["code"]}) - {None}
        assert (node["code"] == "") == (node["parent"] is None)
        reversed_code = ".".join([*reversed(node["code"].lower().split(".")), ""]) if node["code"] else ""
        assert node["dns"] == reversed_code + ready["zone"]
        assert [node[name].rpartition(":")[0] for name in ("link", "public", "admin")] == [
            "https://127.0.0.1",
            "https://127.0.0.1",
            "http://127.0.0.1",
        ]
        assert all(node[name].rpartition(":")[2].isdigit() for name in ("link", "public", "admin"))
        assert isinstance(node["pid"], int)
        assert alive(seven.nodes[node["code"]].pid)
        assert Path(node["config"]).is_file()
        assert Path(node["data"]).is_dir()
        for system in node["systems"]:
            assert set(system) == {"id", "secret", "codes"}
            assert all(code == code.upper() for code in system["codes"])


async def test_the_bundle_verifies_the_office_listener_under_both_names(seven: Tree) -> None:
    url = seven.nodes["H41.07"].public
    async with aiohttp.ClientSession() as session:
        for host in ("127.0.0.1", "localhost"):
            async with session.get(url.replace("127.0.0.1", host) + "/vxp/none", ssl=seven.tls()) as response:
                assert json.loads(await response.text())["status"] == "FAIL"


async def test_every_node_names_its_parent_as_reachable(seven: Tree) -> None:
    for node in seven.nodes.values():
        await eventually(lambda node=node: _well(node), f"{node.code or 'hub'} is well")  # type: ignore[misc]


async def _well(node: Node) -> bool:
    status, text = await node.ask("/readyz")
    return status == 200 and "[-]" not in text and "[!]parent" not in text


async def test_a_killed_node_stays_down_until_somebody_starts_it_and_then_rejoins(small: Callable[[], Tree]) -> None:
    with small() as tree:
        node = tree.nodes["H41"]
        ports = (node.public, node.admin)
        node.kill()
        async with connector(tree, "H41.07") as so, connector(tree, "G22") as vpcp:
            doc_id = (await so.send(letter("H41.07", "G22")))["DocId"]
            await eventually(lambda: tree.nodes["H41.07"].count("outbox WHERE in_doubt=1 OR reason<>''"), "it was tried in vain")
            assert tree.process.poll() is None  # the sandbox survives a node's death
            assert not node.alive()  # and does not replace it
            node.start()
            await node.ready()
            assert json.loads((node.data / "run.json").read_text())["office_port"] == int(ports[0].rpartition(":")[2])
            assert await eventually(lambda: arrived(vpcp, doc_id), "the document came up through the restarted node")
        assert tree.stop() == 0
        assert not node.alive()  # the one started by hand too


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_stops_all_and_exits_well(small: Callable[[], Tree], number: signal.Signals) -> None:
    with small() as tree:
        pids = [node["pid"] for node in tree.ready["nodes"]]
        assert all(alive(pid) for pid in pids)
        os.kill(tree.process.pid, number)
        assert tree.process.wait(30) == 0
        assert not any(alive(pid) for pid in pids)
        assert tree.process.stdout is not None
        assert tree.process.stdout.read() == b""  # the ready line is all it says


async def test_the_same_folder_continues_where_it_was(small: Callable[[], Tree]) -> None:
    package = letter("H41.07", "G22", size=200_000)
    with small() as tree:
        tree.nodes[""].kill()
        first = tree.ready
        async with connector(tree, "H41.07") as so:
            doc_id = (await so.send(package))["DocId"]
        assert tree.stop() == 0
    with small() as tree:
        kept = ("code", "link", "public", "admin", "config", "data", "systems")
        assert [[node[key] for key in kept] for node in tree.ready["nodes"]] == [
            [node[key] for key in kept] for node in first["nodes"]
        ]
        async with connector(tree, "G22") as vpcp, connector(tree, "H41.07") as so:
            assert await eventually(lambda: arrived(vpcp, doc_id), "the document sent before the stop")
            assert await vpcp.get(doc_id) == package
            assert (await so.send(package))["DocId"] == doc_id


async def test_a_node_stopped_with_sigterm_finishes_what_it_has_begun_and_exits_well(small: Callable[[], Tree]) -> None:
    with small() as tree:
        node = tree.nodes["H41.07"]
        node.kill()
        by_hand = subprocess.Popen([sys.executable, "-m", "node", "run", "--config", str(node.config)], cwd=ROOT)
        node.pid = by_hand.pid
        await node.ready()
        async with connector(tree, "H41.07") as so, connector(tree, "G22") as vpcp:
            sent = [(await insist(lambda n=n: so.send(letter("H41.07", "G22", number=n))))["DocId"] for n in range(20)]  # type: ignore[misc]
            by_hand.terminate()
            assert by_hand.wait(30) == 0
            node.start()
            await node.ready()
            await eventually(lambda: _all_listed(vpcp, sent), "all twenty are there once")


async def _all_listed(client: VxpClient, doc_ids: list[str]) -> bool:
    listed = [line["docId"] for line in await client.received()]
    assert len(listed) == len(set(listed))
    return set(doc_ids) <= set(listed)

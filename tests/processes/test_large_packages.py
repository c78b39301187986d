"""Large packages: they cross four nodes, survive the death of one in the middle of the body, and no node holds them in memory."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.processes.letters import arrived, connector, insist, letter
from tests.processes.tree import Node, Tree, eventually, memory_kb
from tests.vxp_client import VxpClient

MB = 1_000_000
ROAD = ("H14.05", "H14", "", "H41")
"""Three links from the office at a leaf of one province to that of the other province's axis."""
GROWTH_KB_MAX = 32 * 1024
"""What a package of any size may add to the peak of a node's memory: chunks, parser, caches; never the package."""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """Nodes that have carried nothing yet: a peak of memory is for ever."""
    with Tree(tmp_path_factory.mktemp("large") / "tree") as tree:
        yield tree


def part(node: Node, digest: str) -> int:
    """Bytes that a node holds of a body that is still coming in."""
    return max((path.stat().st_size for path in (node.data / "bodies" / "partial").glob(f"*{digest}")), default=0)


async def sent_bytes(node: Node) -> int:
    """Body bytes this process has sent to its neighbours."""
    _, text = await node.ask("/metrics")
    found = re.findall(r'^truc_body_bytes_total\{direction="out"\} (\S+)', text, re.MULTILINE)
    return int(float(found[0])) if found else 0


async def kill_in_mid_body(node: Node, digest: str, size: int) -> int:
    """Kill the node when it has between a fifth and all of the body; what it had."""
    await eventually(lambda: part(node, digest) > size / 5, "the body is on its way", 60, 0.001)
    node.kill()
    return part(node, digest)


async def cross(tree: Tree, size: int, receive: Callable[[VxpClient, str], Awaitable[bytes]]) -> dict[str, object]:
    """One package over three links, the hub killed in the middle of its body; figures."""
    hub = tree.nodes[""]
    package = letter("H14.05", "H41", size=size, seed=f"large {size}")
    digest = hashlib.sha256(package).hexdigest()
    before = {code: memory_kb(tree.nodes[code].pid)["peak"] for code in ROAD}
    async with connector(tree, "H14.05", 300) as sender, connector(tree, "H41", 300) as receiver:
        began = time.monotonic()
        doc_id = (await insist(lambda: sender.send(package), 120))["DocId"]
        taken_s = time.monotonic() - began
        held = await kill_in_mid_body(hub, digest, size)
        hub.start()
        await hub.ready()
        before[""] = memory_kb(hub.pid)["peak"]
        assert await eventually(lambda: arrived(receiver, doc_id), "it came", 120)
        came_s = time.monotonic() - began
        again = await sent_bytes(tree.nodes["H14"])
        assert hashlib.sha256(await receive(receiver, doc_id)).hexdigest() == digest
        assert (await receiver.update(doc_id, "done"))["status"] == "OK"
        await eventually(lambda: _collected(sender, doc_id), "the sender knows")
    growth = {code or "hub": memory_kb(tree.nodes[code].pid)["peak"] - before[code] for code in ROAD}
    return {"held": held, "sent": again, "growth_kb": growth, "taken_s": taken_s, "came_s": came_s}


async def _collected(sender: VxpClient, doc_id: str) -> bool:
    return [line["sendStatus"] for line in await sender.sent(doc_id)] == ["collected"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [20 * MB, 150 * MB])
async def test_a_large_package_resumes_where_it_was_when_a_node_between_was_killed(
    fresh: Tree, size: int, record_property: Callable[[str, object], None]
) -> None:
    before = await sent_bytes(fresh.nodes["H14"])
    found = await cross(fresh, size, lambda client, doc_id: client.get(doc_id) if size < 50 * MB else client.download(doc_id))
    for name, value in found.items():
        record_property(name, value)
    print(f"\n{size // MB} MB: {found}")
    held, sent = int(str(found["held"])), int(str(found["sent"])) - before
    assert held > 0
    assert sent < size + 2 * MB  # resumed: only the chunks that were under way went twice
    growth = found["growth_kb"]
    assert isinstance(growth, dict)
    assert all(kb < GROWTH_KB_MAX for kb in growth.values()), growth


async def test_a_first_large_package_of_an_origin_nobody_knows_yet_does_not_wait(small: Callable[[], Tree]) -> None:
    """Its certificate and its body are both missing below: neither may make the envelope wait for a timer."""
    with small() as tree:
        async with connector(tree, "G22") as sender, connector(tree, "H41.07") as receiver:
            package = letter("G22", "H41.07", size=300_000)
            doc_id = (await sender.send(package))["DocId"]
            assert await eventually(lambda: arrived(receiver, doc_id), "it came", 10)
            assert await receiver.get(doc_id) == package


async def test_what_is_left_of_a_broken_send_is_gone_after_a_restart(small: Callable[[], Tree]) -> None:
    with small() as tree:
        node = tree.nodes["H41.07"]
        spool: Path = node.data / "bodies" / "spool"
        async with connector(tree, "H41.07") as sender:
            package = letter("H41.07", "G22", size=20 * MB)
            sending = asyncio.ensure_future(sender.send(package))
            await eventually(lambda: any(spool.iterdir()), "it is coming in", 30, 0.001)
            node.kill()
            await asyncio.gather(sending, return_exceptions=True)
            assert any(spool.iterdir())
            node.start()
            await node.ready()
            assert not any(spool.iterdir())
            doc_id = (await sender.send(package))["DocId"]
        async with connector(tree, "G22") as receiver:
            assert await eventually(lambda: arrived(receiver, doc_id), "it came")

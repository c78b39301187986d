"""truc as one of the systems that the peers' harness measures: `bench.py --sut tests/bench/sut_truc.py`, every workload of it.

The tree is that of `truc bench`: node 0 the sender's, node 1 the hub, the others the receivers', below the hub. The harness's
bytes ride as the attachment of a valid package, through the real office doors; its figures count those bytes alone. `--opt door=`
is vxp, native or single (`topology/bench/doors.py`). Starts the nodes with the Python it runs under, which needs truc's libraries
and the harness's own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import cache, partial
from itertools import count
from pathlib import Path

from common import Adapter  # type: ignore[import-not-found]  # the harness puts its folder on the path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.processes.tree import Node, Tree
from topology.bench.doors import Door, open_door
from topology.bench.letters import Letters, content_of
from topology.bench.stand import SENDER, SENDING_CONNECTIONS, connect, receiving, roles, tree_text
from topology.local import Sandbox
from topology.office import CallFailed

AGAIN_S = 0.1
LOOK_S = 0.01
RECIPIENTS = {"chain": [1], "fan": [10] * 6}


class SUT(Adapter):  # type: ignore[misc]
    name = "truc"
    durable = (
        "SQLite WAL, synchronous=FULL, group commit; bodies over 128 KiB are files, synced with their folder; mTLS on every link"
    )
    options = {"door": "native"}  # noqa: RUF012  # as the harness declares it
    window = {"small": 256, "large": 8}  # noqa: RUF012

    async def start(self) -> None:
        folder, topology = self.base / "tree", self.base / "tree.toml"
        topology.write_text(tree_text(RECIPIENTS[self.topology]))
        self._through_the_proxy(folder, topology)
        self.tree = Tree(folder, topology)
        self.tree.__enter__()
        self.state["ready"] = self.tree.ready
        receivers = [node["code"] for node in roles(self.tree.ready)["receiver_nodes"]]
        self.nodes: list[Node] = [self.tree.nodes[code] for code in (SENDER, "", *receivers)]
        self.codes = [system["codes"][0] for _, system in receiving(self.tree.ready)]

    def _through_the_proxy(self, folder: Path, topology: Path) -> None:
        """The sender's node dials its parent by the port the harness gives."""
        if self.proxy is None:
            return
        sandbox = Sandbox(folder, topology)
        places = {str(place.site.code): place for place in sandbox.prepare()}
        sandbox.release()
        port = places[""].settings.link.listen_port
        config = places[SENDER].config
        line = 'parent_url = "https://127.0.0.1:{}"\n'
        text = config.read_text()
        assert line.format(port) in text
        config.write_text(text.replace(line.format(port), line.format(self.link_port(port))))

    async def stop(self) -> None:
        if hasattr(self, "tree"):
            self.tree.__exit__()

    async def open_sender(self) -> None:
        node = roles(self.tree.ready)["sender_node"][0]
        self.session = connect(Path(self.tree.ready["ca"]), SENDING_CONNECTIONS)
        self.door = open_door(self.o["door"], self.session, node, node["systems"][0])
        self.numbers = count()
        self.letters = cache(partial(Letters, SENDER))

    async def send(self, recipients: list[int], data: bytes) -> None:
        letters = self.letters(tuple(self.codes[recipient] for recipient in recipients))
        await self.door.send(letters.write(next(self.numbers), data))

    async def close_sender(self) -> None:
        if hasattr(self, "session"):
            await self.session.close()

    async def receive(self, cb: Callable[[int, bytes], None]) -> None:
        ready = self.state["ready"]
        async with connect(Path(ready["ca"]), 0) as connections:
            offices = [open_door(self.o["door"], connections, node, system) for node, system in receiving(ready)]
            await asyncio.gather(
                *(self._collect(office, place, cb, LOOK_S * len(offices)) for place, office in enumerate(offices))
            )

    async def _collect(self, office: Door, recipient: int, cb: Callable[[int, bytes], None], every_s: float) -> None:
        while True:
            try:
                await office.collect(lambda package: cb(recipient, content_of(package)), every_s)
            except CallFailed as failure:
                print(failure, file=sys.stderr, flush=True)
            await asyncio.sleep(AGAIN_S)

    def pids(self, node: int) -> list[int]:
        return [self.nodes[node].pid]

    async def kill9(self, node: int) -> None:
        self.nodes[node].kill()

    async def restart(self, node: int) -> None:
        self.nodes[node].start()
        await self.nodes[node].ready()

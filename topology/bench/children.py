"""Many children of one node, as it sees them: each dials with its own certificate, holds a pull open and has nothing to say.

They live in this process and speak the link's protocol; `node.core.wire` writes what they ask. Knows nothing of workloads.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from node.core.wire import MEDIA_TYPE, Batch, PullRequest, encode_batch, encode_pull
from topology.bench.arrivals import Incomplete

WAIT_S = 25.0
"""How long a child lets its parent think about an empty answer, as nodes do."""
ROOM_BYTES = 1 << 20
CALL_S = 60.0
DIALLING = 32
"""Children that dial at the same time."""
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Papers:
    """What a child shows and trusts, where it dials, and the name it expects there."""

    certificate: Path
    key: Path
    trust: Path
    url: str
    parent: str


class Child:
    """One of them. Raises `Incomplete` where it is refused or loses its connection."""

    def __init__(self, papers: Papers, session: aiohttp.ClientSession) -> None:
        self._papers = papers
        self._session = session
        self._context = ssl.create_default_context(cafile=str(papers.trust))
        self._context.load_cert_chain(papers.certificate, papers.key)
        self._asked = 0

    async def pull(self, wait_s: float) -> None:
        """One question for what waits: nothing does."""
        self._asked += 1
        request = PullRequest(self._papers.certificate.parent.name, self._asked, 0, (), ROOM_BYTES, int(wait_s * 1000))
        await self._call("pull", encode_pull(request), JSON_TYPE)

    async def push(self) -> None:
        """An empty batch, which keeps a second connection in use."""
        await self._call("push", encode_batch(Batch()), MEDIA_TYPE)

    async def _call(self, path: str, data: bytes, kind: str) -> None:
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        url, headers = f"{self._papers.url}/link/v1/{path}", {"Content-Type": kind}
        try:
            async with self._session.post(
                url, data=data, headers=headers, ssl=self._context, server_hostname=self._papers.parent, timeout=timeout
            ) as response:
                await response.read()
                if response.status != 200:
                    raise Incomplete(f"nút cấp dưới bị từ chối: {response.status}", f"a child was refused: {response.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Incomplete(f"nút cấp dưới mất kết nối: {error!r}", f"a child lost its connection: {error!r}") from error


class Children:
    """All of them. `dial` until each was answered once; `live` until cancelled, each with a pull that waits."""

    def __init__(self, papers: Sequence[Papers], session: aiohttp.ClientSession) -> None:
        self._children = [Child(each, session) for each in papers]

    async def dial(self) -> None:
        gate = asyncio.Semaphore(DIALLING)

        async def one(child: Child) -> None:
            async with gate:
                await child.pull(0)

        await asyncio.gather(*(one(child) for child in self._children))

    async def push(self) -> None:
        """A word of each beside its waiting pull: by now it has two connections."""
        for child in self._children:
            await child.push()

    async def live(self) -> None:
        async def one(child: Child) -> None:
            while True:
                await child.pull(WAIT_S)

        await asyncio.gather(*(one(child) for child in self._children))

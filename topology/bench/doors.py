"""How an office reaches its node: one protocol, and the faces that speak it, each on connections that are kept alive.

`Vxp` is what connectors built on the vendor's SDK do, `Native` is the node's own door. Knows nothing of workloads.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import aiohttp

from topology import vxp
from topology.native import BOUNDARY, basic, multipart, parts
from topology.office import CALL_S, CallFailed, Office

TAKERS = 8
"""Packages that one office collects at the same time."""
WAIT_S = 25
LIMIT = 200
"""Items in one answer of the mailbox: of 10 kB their contents fit in as well."""
LOOK_LIMIT = 1000
MANY = 100
MANY_BYTES = 4 << 20
"""Packages in one request, and their bytes beyond which no other joins."""
POSTS = 2
"""Requests with many packages under way at the same time."""

Got = Callable[[bytes], None]


class Door(Protocol):
    """One office system at its node. Every method raises `CallFailed` when the node does not do what it is asked."""

    async def send(self, package: bytes) -> None:
        """The node has taken custody when this returns."""
        ...

    async def collect(self, got: Got, every_s: float) -> None:
        """Until cancelled: fetch what waits, show it, confirm it. every_s: pause between two looks where looking is polling."""
        ...

    async def look(self) -> int:
        """One question to the mailbox: how many items wait."""
        ...


class Vxp:
    """sendEdoc; getReceivedEdocList, downloadEdoc and updateStatus."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def send(self, package: bytes) -> None:
        answer = await self._office.send(package)
        if answer["status"] != "OK":
            raise CallFailed(f"sendEdoc: {answer['ErrorDesc']}")

    async def collect(self, got: Got, every_s: float) -> None:
        while True:
            waiting = deque(item["docId"] for item in await self._office.waiting())
            if waiting:
                await asyncio.gather(*(self._take(waiting, got) for _ in range(TAKERS)))
            else:
                await asyncio.sleep(every_s)

    async def _take(self, waiting: deque[str], got: Got) -> None:
        while waiting:
            doc_id = waiting.popleft()
            got(await self._office.download(doc_id))
            await self._office.settle(doc_id)

    async def look(self) -> int:
        return len(await self._office.waiting())


class Native:
    """`/api/v1`: packages of callers that wait at once leave in one request; the mailbox answers when something is there.

    many: packages in one request at most; 1 sends each by itself.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, system_id: str, secret: str, many: int = MANY) -> None:
        self._session = session
        self._url = f"{url}/api/v1"
        self._basic = basic(system_id, secret)
        self._many = many
        self._queue: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._posting = asyncio.Semaphore(POSTS)

    async def send(self, package: bytes) -> None:
        if self._many == 1:
            await self._call("POST", "/packages", vxp.FILE_TYPE, data=package)
            return
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((package, taken))
        async with self._posting:
            await asyncio.sleep(0)  # who is about to send joins
            if self._queue and not taken.done():
                await self._post(self._cut())
        await taken

    def _cut(self) -> list[tuple[bytes, asyncio.Future[None]]]:
        cut = [self._queue.popleft()]
        size = len(cut[0][0])
        while self._queue and len(cut) < self._many and (size := size + len(self._queue[0][0])) <= MANY_BYTES:
            cut.append(self._queue.popleft())
        return cut

    async def _post(self, cut: Sequence[tuple[bytes, asyncio.Future[None]]]) -> None:
        packages = multipart([package for package, _ in cut])
        try:
            body, _ = await self._call("POST", "/packages", f"multipart/mixed; boundary={BOUNDARY.decode()}", data=packages)
            results = json.loads(body)["results"]
        except CallFailed as failure:
            results = [{"status": "failed", "code": str(failure)}] * len(cut)
        except BaseException:
            for _, taken in cut:
                taken.cancel()
            raise
        for (_, taken), result in zip(cut, results, strict=True):
            if taken.done():  # its caller has been cancelled
                continue
            if result["status"] in ("accepted", "repeated"):
                taken.set_result(None)
            else:
                taken.set_exception(CallFailed(f"packages: {result['status']} {result.get('code', '')}"))

    async def collect(self, got: Got, every_s: float) -> None:
        while True:
            query = {"limit": LIMIT, "wait_s": WAIT_S, "content": "inline"}
            body, content_type = await self._call("GET", "/mailbox", params=query)
            head, *packages = parts(body, content_type)
            items = json.loads(head)["items"]
            for package in packages:
                got(package)
            apart = deque(item["doc_id"] for item in items if item["content"] == "separate")
            await asyncio.gather(*(self._take(apart, got) for _ in range(TAKERS)))
            if damaged := [item["doc_id"] for item in items if item["content"] not in ("inline", "separate")]:
                raise CallFailed(f"/mailbox: {damaged[0]} damaged")
            if items:
                await self._done([item["doc_id"] for item in items])

    async def _take(self, apart: deque[str], got: Got) -> None:
        while apart:
            got((await self._call("GET", f"/mailbox/{apart.popleft()}/package"))[0])

    async def _done(self, doc_ids: Sequence[str]) -> None:
        body, _ = await self._call("POST", "/mailbox/done", data=json.dumps({"doc_ids": doc_ids}))
        for result in json.loads(body)["results"]:
            if result["status"] != "ok":
                raise CallFailed(f"done: {result['status']} {result.get('code', '')}")

    async def look(self) -> int:
        body, content_type = await self._call("GET", "/mailbox", params={"limit": LOOK_LIMIT, "wait_s": 0, "content": "none"})
        return len(json.loads(parts(body, content_type)[0])["items"])

    async def _call(self, method: str, path: str, content_type: str = vxp.JSON_TYPE, **call: Any) -> tuple[bytes, str]:
        """Body and content type of a good answer."""
        headers = {"Authorization": self._basic, "Content-Type": content_type}
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        try:
            async with self._session.request(method, self._url + path, headers=headers, timeout=timeout, **call) as response:
                body = await response.read()
                if response.status != 200:
                    raise CallFailed(f"{path}: {response.status} {body[:200].decode(errors='replace')}")
                return body, response.headers.get("Content-Type", "")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CallFailed(f"{path}: {error or type(error).__name__}") from error


def open_door(kind: str, session: aiohttp.ClientSession, node: Mapping[str, Any], system: Mapping[str, Any]) -> Door:
    """The door of a system at a node, both as the ready line of a sandbox has them. kind: vxp, native or single."""
    if kind == "vxp":
        return Vxp(Office(session, f"{node['public']}/vxp", system["id"], system["secret"]))
    return Native(session, node["public"], system["id"], system["secret"], 1 if kind == "single" else MANY)


DOORS = ("native", "single", "vxp")
"""By name: the face of the vendor's SDK; the node's own, many packages in a request; the same, one package in a request."""

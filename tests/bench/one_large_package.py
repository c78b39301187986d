"""One very large package from door to door, and what each node's memory was at its peak: `one_large_package.py --gigabytes 2`.

Three real nodes as in `truc bench`, the native door, default settings but for the size of a package. The package is made while it
is sent and compared by digest while it comes, so that nobody here holds it either. Prints one JSON line; exit code 1 when a
peak passes `--peak-mb` or the bytes are not the same.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.processes.tree import memory_kb
from topology.bench.letters import HOLE, Letters
from topology.bench.stand import SENDER, connect, receiving, roles, tree_text
from topology.local import Sandbox

GB = 1_000_000_000
PIECE_BYTES = 3 * 250_000
ROOM = 1.4
"""Base64 and what is around it."""
WAIT_S = 25


class Package:
    """A valid package with so many bytes of content, none of it kept. digest and size: of what has been given out."""

    def __init__(self, receiver: str, content_bytes: int) -> None:
        hole = base64.b64encode(HOLE)
        self._head, self._tail = Letters(SENDER, [receiver]).write(1, HOLE).split(hole)
        self._content_bytes = content_bytes
        self._noise = os.urandom(PIECE_BYTES)
        self.digest = hashlib.sha256()
        self.size = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self._given(self._head)
        for start in range(0, self._content_bytes, PIECE_BYTES):
            piece = start.to_bytes(8, "big") + self._noise[8:]
            yield self._given(base64.b64encode(piece[: self._content_bytes - start]))
        yield self._given(self._tail)

    def _given(self, piece: bytes) -> bytes:
        self.digest.update(piece)
        self.size += len(piece)
        return piece


async def cross(ready: Mapping[str, Any], content_bytes: int) -> dict[str, Any]:
    """Send it, wait for it, fetch it, confirm it; figures."""
    origin = roles(ready)["sender_node"][0]
    ((node, system),) = receiving(ready)
    package = Package(system["codes"][0], content_bytes)
    async with connect(Path(ready["ca"]), 0) as session:
        began = time.monotonic()
        sending = _basic(origin["systems"][0]) | {"Content-Type": "application/octet-stream"}
        async with session.post(f"{origin['public']}/api/v1/packages", data=package.pieces(), headers=sending) as answer:
            taken = await answer.json()
            assert answer.status == 200, taken
        taken_s = time.monotonic() - began
        doc_id = await _arrived(session, node, system)
        came_s = time.monotonic() - began
        digest = hashlib.sha256()
        url = f"{node['public']}/api/v1/mailbox/{doc_id}/package"
        async with session.get(url, headers=_basic(system)) as answer:
            assert answer.status == 200
            async for chunk in answer.content.iter_any():
                digest.update(chunk)
        done = {"doc_ids": [doc_id]}
        async with session.post(f"{node['public']}/api/v1/mailbox/done", json=done, headers=_basic(system)) as answer:
            assert answer.status == 200
    return {
        "package_bytes": package.size,
        "same": digest.digest() == package.digest.digest(),
        "taken_s": round(taken_s, 1),
        "arrived_s": round(came_s, 1),
        "fetched_s": round(time.monotonic() - began, 1),
    }


async def _arrived(session: aiohttp.ClientSession, node: Mapping[str, Any], system: Mapping[str, Any]) -> str:
    query: dict[str, str | int] = {"wait_s": WAIT_S, "content": "none"}
    while True:
        async with session.get(f"{node['public']}/api/v1/mailbox", params=query, headers=_basic(system)) as answer:
            for item in (await answer.json())["items"]:
                return str(item["doc_id"])


def _basic(system: Mapping[str, Any]) -> dict[str, str]:
    told = base64.b64encode(f"{system['id']}:{system['secret']}".encode()).decode()
    return {"Authorization": f"Basic {told}"}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--gigabytes", type=float, default=2.0, help="content, before base64")
    options.add_argument("--peak-mb", type=float, default=200.0)
    chosen = options.parse_args()
    content_bytes = int(chosen.gigabytes * GB)
    with tempfile.TemporaryDirectory(prefix="truc-large-") as name:
        folder = Path(name)
        (folder / "tree.toml").write_text(tree_text([1]), encoding="utf-8")
        sandbox = Sandbox(folder / "tree", folder / "tree.toml")
        try:
            for place in sandbox.prepare():
                text = place.config.read_text(encoding="utf-8")
                larger = f"[office]\npackage_bytes_max = {int(content_bytes * ROOM)}\n"
                place.config.write_text(text.replace("[office]\n", larger, 1), encoding="utf-8")
            sandbox.release()
            ready = sandbox.start()
            nodes = {role: node["pid"] for role, (node,) in roles(ready).items()}
            idle = {role: memory_kb(pid)["peak"] // 1024 for role, pid in nodes.items()}
            found = asyncio.run(cross(ready, content_bytes))
            peaks = {role: memory_kb(pid)["peak"] // 1024 for role, pid in nodes.items()}
        finally:
            sandbox.stop()
    print(json.dumps(found | {"peak_mb_before": idle, "peak_mb": peaks}))
    return 0 if found["same"] and max(peaks.values()) <= chosen.peak_mb else 1


if __name__ == "__main__":
    sys.exit(main())

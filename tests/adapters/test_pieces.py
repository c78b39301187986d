"""A large answer in pieces: whole, and others have their turn between."""

from __future__ import annotations

import asyncio

from node.adapters.http.pieces import gathered


async def test_others_have_their_turn_after_each_piece() -> None:
    seen: list[int] = []

    async def other() -> None:
        while True:
            seen.append(len(seen))
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert await gathered(["số ", "\ud800", " 3"]) == "số ? 3".encode()
    task.cancel()
    assert len(seen) >= 3

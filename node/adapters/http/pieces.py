"""A large answer put together without keeping the loop from others. Knows nothing of what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


async def gathered(pieces: Iterable[str]) -> bytes:
    """All pieces as UTF-8; others have their turn after each. Half of a surrogate pair becomes a question mark."""
    found = []
    for piece in pieces:
        found.append(piece.encode("utf-8", "replace"))
        await asyncio.sleep(0)
    return b"".join(found)

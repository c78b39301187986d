"""Randomness for a node: the only home of the operating system's generator."""

from __future__ import annotations

import random
import secrets
from pathlib import Path


def generator() -> random.Random:
    """Unpredictable randomness with the interface of `random.Random` (ids, jitter)."""
    return random.SystemRandom()


def token() -> str:
    """A fresh name or secret: 32 hex digits."""
    return secrets.token_hex(16)


def kept_token(path: Path) -> str:
    """The secret in path (mode 0600), made at the first start; made whole, for an empty secret would open every door."""
    if not path.exists() or not path.read_text(encoding="ascii").strip():
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600, exist_ok=False)
        temporary.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
        temporary.replace(path)
    return path.read_text(encoding="ascii").strip()

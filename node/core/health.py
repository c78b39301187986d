"""One line of a node's readiness, as /readyz shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """name: a key of words.LABELS["check"]. state: "+" well, "!" to be looked at, "-" not ready. detail: short, for people."""

    name: str
    state: Literal["+", "!", "-"]
    detail: str = ""

"""What a large batch must have met: names that somebody says. One that nobody says would make every large batch fail."""

from __future__ import annotations

import re
from pathlib import Path

from topology.sim.bench import PATHS as COUNTED
from topology.sim.expected import HIT, MUST, OFFICES, PATHS
from topology.sim.faults import KINDS
from topology.sim.profile import SMALL

SOURCES = Path(__file__).parents[3] / "topology" / "sim"
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.py")) if path.name != "expected.py")


def said(name: str) -> bool:
    """Whether some source says this name, whole or with its last part filled in."""
    group, _, rest = name.partition("/")
    beginnings = {rest[:end] for end in range(len(rest))}
    patterns = [re.escape(f'"{name}"'), *(re.escape(f'f"{group}/{beginning}') + r"\{" for beginning in beginnings)]
    return name in COUNTED or any(re.search(pattern, TEXT) for pattern in patterns)


def test_every_kind_of_fault_must_happen_in_a_large_batch() -> None:
    assert [kind for kind in KINDS if kind in SMALL.kinds and f"fault/{kind}" not in MUST] == []


def test_no_name_is_asked_for_twice() -> None:
    assert len(set(MUST)) == len(MUST)


def test_every_name_is_one_that_something_can_say() -> None:
    assert [name for name in (*HIT, *PATHS, *OFFICES) if not said(name)] == []
    assert not said("path/nobody says this")

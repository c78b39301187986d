"""A node whose system calls fail or kill it at a chosen moment: strace around it, and what strace saw.

The tracer stands behind the node (`-D`), so that the node's process is the one that was started. Counts are per thread, as
strace counts: one thread writes the database, one the bodies. Knows nothing of why a node calls.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.processes.tree import Node

SYNCS = "fsync,fdatasync"


def tracer(node: Node, calls: str, fate: str) -> tuple[str, ...]:
    """The command around a node in which `calls` meet `fate`: "signal=KILL:when=3", "error=ENOSPC:when=9..40"."""
    inject = ("-e", f"trace={calls}", "-e", f"inject={calls}:{fate}")
    return ("strace", "-f", "-D", "-y", "-qq", "-o", str(seen_in(node)), *inject)


def seen_in(node: Node) -> Path:
    return node.config.parent / "calls.trace"


@dataclass(frozen=True, slots=True)
class Call:
    """One traced call: which file it was for, and whether its outcome was put there by us."""

    name: str
    file: str
    injected: bool


_CALL = re.compile(r"^\d+ +(\w+)\(\d+<([^>]*)>.*?\)? *= (-?\d+).*?( \(INJECTED\))?$")
_BEGUN = re.compile(r"^(\d+) +(\w+)\(\d+<([^>]*)>.*<unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>.*?( \(INJECTED\))?$")


def calls_of(node: Node) -> list[Call]:
    """What the tracer wrote down, in the order in which the calls returned."""
    found: list[Call] = []
    begun: dict[str, str] = {}
    for line in seen_in(node).read_text(errors="replace").splitlines():
        if match := _BEGUN.match(line):
            begun[match[1]] = match[3]
        elif match := _RESUMED.match(line):
            found.append(Call(match[2], begun.pop(match[1], ""), bool(match[3])))
        elif match := _CALL.match(line):
            found.append(Call(match[1], match[2], bool(match[4])))
    return found

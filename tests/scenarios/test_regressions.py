"""Seeds that once showed a bug (`regressions.txt`, one a line) are played again: nothing may be wrong with them any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from topology.sim.worker import work

FILE = Path(__file__).with_name("regressions.txt")
LINES = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("line", LINES)
def test_what_was_found_once_stays_mended(line: str) -> None:
    profile, seed, what = line.split(maxsplit=2)
    outcome = work({"profile": profile, "seed": int(seed)}, {})
    assert not outcome.violations, f"{what}: " + "; ".join(violation.text for violation in outcome.violations)
    assert outcome.documents

"""The two places where a node meets the host: its generator and its clock."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from node.adapters import chance
from node.adapters.clock import HostClock


def test_tokens_are_fresh_and_long() -> None:
    found = {chance.token() for _ in range(100)}
    assert len(found) == 100
    assert {len(token) for token in found} == {32}
    assert chance.generator().getrandbits(64) != chance.generator().getrandbits(64)


def test_a_secret_is_made_once_private_and_never_empty(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    first = chance.kept_token(path)
    assert len(first) == 64
    assert chance.kept_token(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["admin.token"]


@pytest.mark.parametrize("left", ["", "\n"])
def test_a_secret_that_a_killed_process_left_empty_is_made_anew(tmp_path: Path, left: str) -> None:
    """An empty secret would open the operator's door to everybody."""
    path = tmp_path / "admin.token"
    path.write_text(left, encoding="ascii")
    (tmp_path / "admin.tmp").write_text("half", encoding="ascii")
    assert len(chance.kept_token(path)) == 64
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_clock_is_utc_with_the_stated_bound() -> None:
    clock = HostClock(250)
    assert abs(clock.utc_ms() - time.time() * 1000) < 5000
    assert (clock.bound_ms(), clock.synchronised()) == (250, True)


def test_the_clock_never_runs_backwards_within_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 11 rests on it: what has expired stays expired, and an instant never precedes its cause."""
    clock = HostClock(1000)
    readings = iter([5_000_000_000, 3_000_000_000, 6_000_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(readings))
    assert [clock.utc_ms() for _ in range(3)] == [5000, 5000, 6000]

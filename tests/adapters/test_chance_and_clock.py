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


def test_the_clock_never_runs_backwards_and_never_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 11 rests on it: what has expired stays expired, and what waits becomes due though the host was set back a year."""
    year_ns = 365 * 86_400 * 1_000_000_000
    host = {"time_ns": 2 * year_ns, "monotonic_ns": 0}
    monkeypatch.setattr(time, "time_ns", lambda: host["time_ns"])
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: host["monotonic_ns"])
    clock = HostClock(1000)
    first = clock.utc_ms()
    assert first == 2 * year_ns // 1_000_000
    host["time_ns"] -= year_ns
    assert clock.utc_ms() == first
    for _ in range(10):
        host["time_ns"] += 60_000_000_000
        host["monotonic_ns"] += 60_000_000_000
        clock.utc_ms()
    assert clock.utc_ms() == first + 300_000, "at half speed until the host has caught up"
    host["time_ns"] = 3 * year_ns
    assert clock.utc_ms() == 3 * year_ns // 1_000_000, "and with the host again"

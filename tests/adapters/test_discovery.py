"""What is announced is found by zone and code, and no longer once it is gone; without zeroconf a node says so and runs."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from node.adapters import discovery
from node.adapters.discovery import Announcement, find

ZONE = "tim.test"
with_zeroconf = pytest.mark.skipif(not discovery.installed(), reason="zeroconf is not installed: pip install zeroconf")


@with_zeroconf
async def test_a_node_is_found_by_its_zone_and_code_as_long_as_it_is_there() -> None:
    hub, province = Announcement(ZONE, ""), Announcement(ZONE, "H41")
    try:
        await hub.open("127.0.0.1", 1001)
        await province.open("127.0.0.1", 1002)
        assert await find(ZONE, "H41", 2.0) == [("127.0.0.1", 1002)]
        assert await find("other.test", "H41", 0.5) == []
    finally:
        await province.close()
        await hub.close()
    assert await find(ZONE, "H41", 1.0) == [], "what is gone is not found"


async def test_a_node_that_wants_to_be_found_without_zeroconf_says_so_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "installed", lambda: False)
    with capture_logs() as logs:
        announcement = Announcement(ZONE, "H41")
        await announcement.open("127.0.0.1", 1001)
        await announcement.close()
    assert [(entry["log_level"], "zeroconf" in entry["reason"]) for entry in logs] == [("error", True)]
    assert not announcement.wanted


async def test_a_node_that_does_not_want_to_be_found_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_opened", lambda: 1 / 0)
    with capture_logs() as logs:
        await Announcement(ZONE, "H41", wanted=False).open("127.0.0.1", 1001)
    assert logs == []

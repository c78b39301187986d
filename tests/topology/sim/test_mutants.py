"""Planted bugs: each is found by a run that finds nothing wrong in the code as it is, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from tests.topology.sim.tiny import STORMY, TREE
from topology.sim import mutants
from topology.sim.mutants import MUTANTS, planted
from topology.sim.profile import EXPIRY, FLOOD, PROFILES, Profile
from topology.sim.run import Outcome, simulate

SMALLER: Mapping[str, Profile] = {
    "small": STORMY,
    "expiry": replace(EXPIRY, traffic=replace(EXPIRY.traffic, documents=20, span_s=240.0), settle_s=1_200.0),
    "flood": replace(FLOOD, traffic=replace(FLOOD.traffic, documents=55, span_s=900.0), patience_s=450.0),
}
"""What finds a bug in a second, of the profiles that find it in a few."""
ASKED = (
    *("synchronous-normal", "dedup-off", "reply-before-commit", "confirmed-before-commit", "new-id-on-retry"),
    *("one-verdict-for-all", "come-back-taken", "expiry-in-doubt", "body-before-sync", "lane-starves", "notice-answers-notice"),
)
"""Those that must be among them, whatever else is."""
FOUND_BY: Mapping[str, tuple[int, str]] = {
}

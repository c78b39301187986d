"""A day of the whole country in one process: the tree of 2018 or 2025, documents from every office, faults all over.

What `truc simulate country` runs. Says how far it has come; knows nothing of what a run is made of beyond its profile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from topology.generate import SHAPES, generate
from topology.model import Tree
from topology.sim.profile import COUNTRY, Profile
from topology.sim.run import Outcome, simulate
from topology.sim.worker import stopwatch

Say = Callable[[str, str], None]
"""(Vietnamese, English)"""

SAY_EVERY_S = 2 * 3600.0
"""Virtual seconds between two words on how far the run has come."""
DOCUMENTS_PER_CRASH = 100
DOCUMENTS_PER_FAULT = 200
PULL_WAIT_S = 3_600.0
"""How long a child asks for documents where there are none. At the minute that production allows, an idle country asks
a million times a day."""


def day(year: str, documents: int, seed: int, say: Say) -> Outcome:
    """The country of that year (a key of SHAPES), so many documents from midnight to midnight, and faults in proportion.

    real_s of the outcome is what it took, the making of the tree not counted.
    """
    return rehearse(generate(SHAPES[year], seed), profile_for(documents), seed, say)


def profile_for(documents: int) -> Profile:
    """The country's profile for so many documents: faults are as frequent as documents are."""
    return replace(
        COUNTRY,
        traffic=replace(COUNTRY.traffic, documents=documents),
        crashes=documents // DOCUMENTS_PER_CRASH,
        faults=documents // DOCUMENTS_PER_FAULT,
        options={**COUNTRY.options, "link": {**COUNTRY.options["link"], "pull_wait_s": PULL_WAIT_S}},
    )


def rehearse(tree: Tree, profile: Profile, seed: int, say: Say) -> Outcome:
    """Run a day on any tree."""
    passed_s = stopwatch()
    documents = profile.traffic.documents
    say(f"{len(tree.sites)} nút, {documents} văn bản.", f"{len(tree.sites)} nodes, {documents} documents.")
    due_s = 0.0

    def tell(now_s: float, _node: str, _event: str, _size: int) -> None:
        nonlocal due_s
        if now_s < due_s:
            return
        due_s = (now_s // SAY_EVERY_S + 1) * SAY_EVERY_S
        hours, real_s = now_s / 3600, passed_s()
        say(f"{hours:.1f} giờ ảo sau {real_s:.0f} giây", f"{hours:.1f} virtual hours after {real_s:.0f} seconds")

    outcome = simulate(tree, profile, seed, tell)
    outcome.real_s = passed_s()
    return outcome

"""A tree of real nodes that grows as one grows in the field: the hub founds its authority, each node is invited by its parent and
joins it over the link, tier by tier. No key, certificate or directory is copied; the nodes' own commands do all of it.

Knows a node by its command line alone.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from topology.certificates import OFFICE_NAMES, gather_roots, pin_in
from topology.render import Place

COMMAND_S = 120.0
HOSTS = tuple(word for name in OFFICE_NAMES for word in ("--host", name))


class NotJoined(Exception):
    """A command of a node has failed; what it said."""


def grow(
    places: Sequence[Place],
    command: Sequence[str],
    environment: Mapping[str, str],
    start: Callable[[Place], None],
    await_listening: Callable[[Sequence[Place]], None],
) -> None:
    """Make every place a node of its tree, parents first, and start each; what is a node already is only started. start:
    does not wait. await_listening: until these answer. Raises `NotJoined`."""
    runner = _Runner(command, environment)
    by_code = {place.site.code: place for place in places}
    for tier in _tiers(places):
        new = [place for place in tier if not place.settings.link.certificate.is_file()]
        parents = {place.config: (place, by_code[place.site.parent]) for place in new if place.site.parent is not None}
        await_listening([parent for _, parent in parents.values()])
        if parents:
            _join(runner, list(parents.values()))
        for place in new:
            if place.site.parent is None:
                runner.all([(("ca", "init", "--config", str(place.config), *HOSTS), "")])
        for place in tier:
            start(place)
    gather_roots(places[0].config.parent.parent, [place.config.parent for place in places])


def _join(runner: _Runner, pairs: Sequence[tuple[Place, Place]]) -> None:
    """Each is invited by its parent, and all join at once."""
    answers = runner.all([(_invitation(place, parent), "") for place, parent in pairs])
    joins = []
    for (place, parent), answer in zip(pairs, answers, strict=True):
        unpinned = place.config.read_text(encoding="utf-8")
        pin = json.dumps([pin_in(parent.settings.link.certificate)])
        place.config.write_text(unpinned.replace("parent_pins = []", f"parent_pins = {pin}"), encoding="utf-8")
        url = place.settings.link.parent_url
        joins.append((("join", url, "--token", "-", "--dir", str(place.config.parent), *HOSTS), json.loads(answer)["token"]))
    runner.all(joins)


def _invitation(place: Place, parent: Place) -> tuple[str, ...]:
    site = place.site
    others = (word for prefix in site.prefixes if prefix != site.code for word in ("--prefix", str(prefix)))
    named = ("--name", site.name, "--tier", site.tier, "--auto", "--json", "--config", str(parent.config))
    return ("peer", "invite", str(site.code), *others, *named)


def _tiers(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Places by their depth, the hub first; they come parents first."""
    depth: dict[object, int] = {}
    for place in places:
        above = place.site.parent
        depth[place.site.code] = 0 if above is None else depth[above] + 1
    ordered = sorted(places, key=lambda place: depth[place.site.code])
    for _, tier in groupby(ordered, key=lambda place: depth[place.site.code]):
        yield list(tier)


class _Runner:
    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = environment

    def all(self, calls: Sequence[tuple[Sequence[str], str]]) -> list[str]:
        """Run these commands side by side, each with its input; what they print."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        begun = [
            subprocess.Popen([*self._command, *words], env=self._environment, text=True, **pipes)  # type: ignore[call-overload]
            for words, _ in calls
        ]
        ended = [process.communicate(told, COMMAND_S) for process, (_, told) in zip(begun, calls, strict=True)]
        for process, (_, complaint), (words, _) in zip(begun, ended, calls, strict=True):
            if process.returncode != 0:
                raise NotJoined(f"truc {' '.join(words[:2])}: {complaint.strip()}")
        return [said for said, _ in ended]

"""A report over days: rows of organs, totals of nodes, what is missing, and the proof, from figures that were added before.

A pure function of what the store found and of the directory. Knows statements, figures and the directory; nothing of formats.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from operator import attrgetter

from node.core.directory import Directory
from node.core.identifier import HUB, OrgId
from node.core.statement import Branch, Counts, Coverage, Figure, Flow, HeldDays, Pair, Proof, Refusal, coverage, plus


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report over [first..last] at one node is made of; the faces choose rows, names and order from it.

    organs: counts of every organ with an office in the subtree, {} for a silent one; its own, not those of organs below it.
    nodes: at which node each of them is served. totals: by node of the subtree, the counts of its own organs and of all below
    it. road: by node, what it counted as a relay. open: the range reaches into a day that is not over (tạm tính). cut_off_ms:
    thời điểm chốt số liệu, UTC ms. refusals: statements of the range that were not kept, and why. # QĐ 28/2018 Điều 11"""

    first: date
    last: date
    cut_off_ms: int
    open: bool
    organs: Mapping[OrgId, Counts]
    nodes: Mapping[OrgId, OrgId]
    totals: Mapping[OrgId, Counts]
    road: Mapping[OrgId, Counts]
    coverage: Coverage
    proof: Proof
    refusals: Sequence[Refusal]


@dataclass(frozen=True, slots=True)
class Found:
    """What the store has of a range: added figures, those of pairs over all time, days held by node, under whom each node hung at
    the end of it, statements not kept."""

    figures: Sequence[Figure]
    ever: Sequence[Figure]
    held: Mapping[OrgId, HeldDays]
    above: Mapping[OrgId, OrgId | None]
    refusals: Sequence[Refusal]


_path = attrgetter("path")
"""Sorted by it, codes come in their own order, in a tenth of the time."""


def subtree(directory: Directory, node: OrgId) -> list[OrgId]:
    """A node and all below it, each before those below it."""
    found, seen = [node], {node}
    for code in found:
        below = [child.code for child in directory.children(code) if child.code not in seen]
        seen.update(below)
        found.extend(below)
    return found


def report(node: OrgId, directory: Directory, found: Found, first: date, last: date, today: date, cut_off_ms: int) -> Report:
    """The report of one node over days of which it has these figures."""
    nodes = subtree(directory, node)
    offices = _offices(directory, nodes, min(last, today))
    organs: dict[OrgId, Counts] = {}
    road: dict[OrgId, dict[str, int]] = {}
    claims: dict[OrgId, dict[str, int]] = {}
    total = _Totals(node)
    for figure in found.figures:
        match figure.subject[0]:
            case "o":
                organ = OrgId.canonical(figure.subject[1:])
                organs[organ] = plus(organs[organ], figure.counts) if organ in organs else figure.counts
                offices.setdefault(organ, figure.node)
                total.of(figure)
            case "r":
                _add(road.setdefault(figure.node, {}), figure.counts)
            case "s" if figure.parent == node:
                _add(claims.setdefault(figure.node, {}), figure.counts)
    above = {**{code: each.parent for code in nodes if (each := directory.node(code)) is not None}, **found.above}
    totals = total.up(above)
    covered = coverage(nodes, found.held, first=first, last=last, today=today)
    proof = Proof(_branches(claims, total.below(node, above)), _flows(directory, nodes, node, found.ever))
    return Report(
        first,
        last,
        cut_off_ms,
        today <= last,
        {organ: organs.get(organ, {}) for organ in sorted(offices, key=_path)},
        offices,
        {code: _settled(totals.get(code, {})) for code in dict.fromkeys([*nodes, *sorted(totals, key=_path)])},
        {code: _settled(counts) for code, counts in sorted(road.items())},
        covered,
        proof,
        found.refusals,
    )


def _offices(directory: Directory, nodes: Sequence[OrgId], day: date) -> dict[OrgId, OrgId]:
    """Every organ with an office in the subtree, and the node that serves it."""
    prefixes = [prefix for code in nodes if (entry := directory.node(code)) is not None for prefix in entry.prefixes]
    inside = set(nodes)
    found: dict[OrgId, OrgId] = {}
    for organ in directory.connected_below(prefixes, day):
        owner = None if organ in found else directory.owner(organ)
        if owner in inside:
            found[organ] = owner
    return found


class _Totals:
    """Own figures of nodes, by the parent they hung under, added up to the top of a subtree."""

    def __init__(self, top: OrgId) -> None:
        self._top = top
        self._own: dict[tuple[OrgId, OrgId | None], dict[str, int]] = {}

    def of(self, figure: Figure) -> None:
        _add(self._own.setdefault((figure.node, figure.parent), {}), figure.counts)

    def up(self, above: Mapping[OrgId, OrgId | None]) -> dict[OrgId, dict[str, int]]:
        """By node: its own, and those of all nodes that hung below it."""
        found: dict[OrgId, dict[str, int]] = {}
        for (node, parent), counts in self._own.items():
            for code in self._line(node, parent, above):
                _add(found.setdefault(code, {}), counts)
        return found

    def below(self, top: OrgId, above: Mapping[OrgId, OrgId | None]) -> dict[OrgId, dict[str, int]]:
        """By child of the top: its branch, as far as it hung there."""
        found: dict[OrgId, dict[str, int]] = {}
        for (node, parent), counts in self._own.items():
            line = self._line(node, parent, above)
            if len(line) > 1 and line[-1] == top:
                _add(found.setdefault(line[-2], {}), counts)
        return found

    def _line(self, node: OrgId, parent: OrgId | None, above: Mapping[OrgId, OrgId | None]) -> list[OrgId]:
        """The node, its parent and so on, up to the top at most."""
        line = [node]
        while node != self._top and parent is not None and parent not in line:
            line.append(parent)
            node, parent = parent, above.get(parent)
        return line


def _branches(claims: Mapping[OrgId, Counts], summed: Mapping[OrgId, Counts]) -> tuple[Branch, ...]:
    return tuple(
        Branch(code, _settled(claims.get(code, {})), _settled(summed.get(code, {}))) for code in sorted({*claims, *summed})
    )


def _flows(directory: Directory, nodes: Sequence[OrgId], node: OrgId, ever: Iterable[Figure]) -> tuple[Flow, ...]:
    """Pairs of which both codes lie wholly in the subtree, and ever have, as far as is known: of others this node sees one side
    only, or what a branch counted before it moved here is its former parent's."""
    inside = set(nodes)
    whole: dict[OrgId, bool] = {}
    return tuple(
        Flow(pair, counts)
        for pair, counts in sorted(_pairs(ever).items())
        if all(_whole(directory, code, inside, node, whole) for code in (pair.sender, pair.recipient))
    )


def _whole(directory: Directory, code: OrgId, inside: Collection[OrgId], node: OrgId, known: dict[OrgId, bool]) -> bool:
    if node == HUB:
        return True
    if code not in known:
        owners = {directory.owner(prefix) for prefix in (code, *directory.held_below([code]))}
        hung = {parent for owner in owners - {node} if owner is not None for parent in directory.hung.get(owner, ())}
        known[code] = owners | hung <= set(inside)
    return known[code]


def _pairs(figures: Iterable[Figure]) -> dict[Pair, dict[str, int]]:
    found: dict[Pair, dict[str, int]] = {}
    for figure in figures:
        if figure.subject[0] == "p":
            sender, _, recipient = figure.subject[1:].partition(">")
            _add(found.setdefault(Pair(OrgId.canonical(sender), OrgId.canonical(recipient)), {}), figure.counts)
    return {pair: _settled(counts) for pair, counts in sorted(found.items())}


def _add(total: dict[str, int], counts: Counts) -> None:
    for key, number in counts.items():
        total[key] = total.get(key, 0) + number


def _settled(counts: Counts) -> dict[str, int]:
    return plus(counts)

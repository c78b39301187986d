"""The last chapter of the demonstration: what every node counted of the day (Điều 11), against what the offices saw.

The recount knows packages and receivers only; nothing of how a node counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from topology.chronicle import HUB
from topology.office import Rehearsal

KEYS = ("sent", "received", "sent_update")
HEADINGS = ("cấp", "nút", "văn bản gửi", "văn bản nhận", "cập nhật đã gửi", "mức đầy đủ", "chốt lúc", "đối soát")

Figures = Mapping[str, Mapping[str, int]]
"""By organ: how many of each of KEYS."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A document that arrived everywhere: who sent it, who collected it, whether it was an update of another."""

    sender: str
    receivers: Sequence[str]
    update: bool


def recount(sendings: Sequence[Sending]) -> dict[str, dict[str, int]]:
    """By organ what must be counted, by the definitions of Điều 11. Updates are counted apart."""
    found: dict[str, dict[str, int]] = {}
    for each in sendings:
        _add(found, each.sender, "sent_update" if each.update else "sent")
        for receiver in () if each.update else each.receivers:
            _add(found, receiver, "received")
    return found


def _add(figures: dict[str, dict[str, int]], organ: str, key: str) -> None:
    counts = figures.setdefault(organ, dict.fromkeys(KEYS, 0))
    counts[key] += 1


async def reports(rehearsal: Rehearsal) -> dict[str, Any]:
    """By node its report of today."""
    return {node["code"]: await rehearsal.ask(node, "/api/report", kind="day") for node in rehearsal.nodes}


def of_organs(report: Mapping[str, Any]) -> Figures:
    return {row["organ"]: {key: row[key] for key in KEYS} for row in report["rows"] if "organ" in row}


def since(before: Figures, now: Figures) -> dict[str, dict[str, int]]:
    """What was counted since; organs of which nothing was are left out."""
    gained = {organ: {key: counts[key] - before.get(organ, {}).get(key, 0) for key in KEYS} for organ, counts in now.items()}
    return {organ: counts for organ, counts in gained.items() if any(counts.values())}


def agree(found: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every node's figures are whole and proven, and each parent says of a child what the child says of itself."""
    totals = {code: _totals(report) for code, report in found.items()}
    for node in nodes:
        code, parent, summary = node["code"], node["parent"], found[node["code"]]["summary"]
        if summary["coverage"]["missing"] or not summary["proof"]["holds"]:
            return False
        if parent is not None and totals[parent][code] != totals[code][code]:
            return False
    return True


def _totals(report: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {row["total_of"]: tuple(row[key] for key in KEYS) for row in report["rows"] if "total_of" in row}


def lines(found: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A line for each node, parents before children."""
    return [
        (
            node["tier"],
            f"{node['code'] or HUB} {node['name']}",
            *(str(number) for number in _totals(found[node["code"]])[node["code"]]),
            f"{len(summary['coverage']['in'])} nút" + (f", thiếu {len(missing)}" if missing else ""),
            summary["cut_off"],
            "khớp" if summary["proof"]["holds"] else "chưa khớp",
        )
        for node in nodes
        for summary in [found[node["code"]]["summary"]]
        for missing in [summary["coverage"]["missing"]]
    ]

"""The arithmetic of measurements: what is told of many values, and of a machine that does other work meanwhile. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

Figures = Mapping[str, float]
"""What one run measured: name with its unit last -> value."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, middle and greatest."""
    return {"min": neat(min(values)), "median": neat(statistics.median(values)), "max": neat(max(values))}


def spreads(runs: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Per figure its spread over all runs. Every run has the same figures."""
    return {name: spread([figures[name] for figures in runs]) for name in runs[0]}


def percentile(values: Sequence[float], percent: float) -> float:
    """The least of the values that is not below `percent` of them."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def latencies(values_s: Sequence[float]) -> dict[str, float]:
    """What is told of waits, in milliseconds."""
    values = [value * 1000 for value in values_s]
    return {"p50_ms": percentile(values, 50), "p99_ms": percentile(values, 99), "max_ms": max(values)}


def noise(before_s: float, after_s: float, best_s: float) -> float:
    """How much longer the same work took around a run than when it was fastest; 1.0 on a quiet machine."""
    return neat(max(before_s, after_s) / best_s)


def neat(value: float) -> float:
    """Three digits, or all before the point."""
    if value == 0:
        return 0.0
    return float(round(value, max(2 - math.floor(math.log10(abs(value))), 0)))

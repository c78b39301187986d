"""/metrics: the tally and the desk's gauges in Prometheus' text form.

prometheus_client writes the format; what is counted and what it means stands in `core/tally.py`. Knows no duty file: the gauges
come from a function handed in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from node.core.tally import METRICS, SECOND_MS, Histogram, Kind, Labels, Metric, Tally, label_set

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Gauges = Mapping[str, Mapping[Labels, float]]
"""Metric name -> labels -> value in base units (seconds, bytes, ratio)."""


class _Reading(Collector):
    """One reading of everything, taken when asked: nothing is counted twice and nothing is kept here."""

    def __init__(self, tally: Tally, gauges: Gauges) -> None:
        self._tally = tally
        self._gauges = gauges

    def collect(self) -> Iterable[Family]:
        for name, cells in self._tally.snapshot().items():
            yield _histogram(name, cells) if METRICS[name].kind is Kind.HISTOGRAM else _counter(name, cells)
        for name, values in self._gauges.items():
            yield _gauge(name, values)


def _values(labels: Labels) -> list[str]:
    return [value for _, value in labels]


def _counter(name: str, cells: Mapping[Labels, int | Histogram]) -> Family:
    metric = METRICS[name]
    family = CounterMetricFamily(name, metric.help, labels=metric.labels)
    for labels, count in sorted(cells.items(), key=lambda cell: cell[0]):
        assert isinstance(count, int)
        family.add_metric(_values(labels), count)
    return family


def _histogram(name: str, cells: Mapping[Labels, int | Histogram]) -> Family:
    metric = METRICS[name]
    family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
    for labels, histogram in sorted(cells.items(), key=lambda cell: cell[0]):
        assert isinstance(histogram, Histogram)
        family.add_metric(_values(labels), _buckets(metric, histogram), histogram.sum_ms / SECOND_MS)
    return family


def _buckets(metric: Metric, histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them: upper bound in seconds, how many at or under it."""
    bounds = [f"{bound / SECOND_MS:g}" if bound % SECOND_MS else str(bound // SECOND_MS) for bound in metric.bounds_ms]
    reached = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip([*bounds, "+Inf"], histogram.counts, strict=True):
        reached += count
        buckets.append((bound, reached))
    return buckets


def _gauge(name: str, values: Mapping[Labels, float]) -> Family:
    metric = METRICS[name]
    if metric.kind is not Kind.GAUGE:
        raise ValueError(f"{name} is not a gauge")
    family = GaugeMetricFamily(name, metric.help, labels=metric.labels)
    for labels, value in sorted(values.items()):
        family.add_metric(_values(label_set(name, dict(labels))), value)
    return family


async def exposition(tally: Tally, gauges: Callable[[], Awaitable[Gauges]]) -> bytes:
    """What /metrics answers. KeyError or ValueError where a gauge is not in METRICS: that is our bug."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reading(tally, await gauges()))
    return generate_latest(registry)

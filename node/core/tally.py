"""Bảng đếm: counts that merge, a + b in any order, and the one table of what may be counted.

The loops add; Prometheus reads. Whole numbers only, so that merging is exact. Official figures never come from here (they come
from the ledger). Knows nobody.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

Labels = tuple[tuple[str, str], ...]
"""Label names and values, in the order in which the metric declares them."""


class Kind(StrEnum):
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """What may be counted: its meaning, its label names (a closed set), and a histogram's upper bounds in milliseconds."""

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds_ms: tuple[int, ...] = ()


SECOND_MS = 1000
HOUR_MS = 3600 * SECOND_MS
DELIVERY_BOUNDS_MS = (
    *(100, 250, 500),
    *(seconds * SECOND_MS for seconds in (1, 2, 5, 10, 30, 60, 300, 900)),
    *(hours * HOUR_MS for hours in (1, 6, 24, 72, 168)),
)

METRICS: Mapping[str, Metric] = {
    "truc_envelopes_accepted_total": Metric(
        Kind.COUNTER, "Envelopes whose custody was taken, by where they came from.", ("source",)
    ),
    "truc_deliveries_total": Metric(Kind.COUNTER, "Deliveries that came to an end, by how.", ("result",)),
    "truc_directory_changes_total": Metric(
        Kind.COUNTER, "Changes of the directory that were taken in: said here, or come over a link.", ("source",)
    ),
    "truc_directory_refused_total": Metric(
        Kind.COUNTER, "What was not taken into the directory, by reason; also an edit of its file.", ("reason",)
    ),
    "truc_refusals_total": Metric(Kind.COUNTER, "What a door did not accept, by reason.", ("door", "reason")),
    "truc_attempts_total": Metric(Kind.COUNTER, "Offers to a neighbour, by what came of them.", ("neighbour", "result")),
    "truc_duplicates_total": Metric(Kind.COUNTER, "Repeats answered with the first outcome.", ("door",)),
    "truc_comebacks_total": Metric(Kind.COUNTER, "Envelopes that came back from the neighbour they were handed to."),
    "truc_moved_senders_total": Metric(Kind.COUNTER, "Envelopes from a former parent of their origin, by its signature."),
    "truc_digest_conflicts_total": Metric(Kind.COUNTER, "Known envelope ids presented with another content: an alarm."),
    "truc_held_total": Metric(Kind.COUNTER, "Items set aside for a person, by reason.", ("reason",)),
    "truc_notices_total": Metric(Kind.COUNTER, "Notices to the origin node, by what they tell.", ("result",)),
    "truc_statuses_total": Metric(Kind.COUNTER, "Office statuses that came home, by how they joined a document.", ("result",)),
    "truc_urgent_laid_total": Metric(Kind.COUNTER, "Urgent deliveries laid before an office of this node, by lane.", ("lane",)),
    "truc_commits_total": Metric(Kind.COUNTER, "Commits of the store."),
    "truc_commit_members_total": Metric(Kind.COUNTER, "Requests carried by the commits of the store."),
    "truc_commit_retries_total": Metric(Kind.COUNTER, "Requests of a failed group commit that were tried alone."),
    "truc_bodies_total": Metric(Kind.COUNTER, "Bodies that crossed the link, by direction.", ("direction",)),
    "truc_body_bytes_total": Metric(Kind.COUNTER, "Bytes of bodies that crossed the link, by direction.", ("direction",)),
    "truc_reports_total": Metric(Kind.COUNTER, "Reports laid into the folder for reports, by result.", ("result",)),
    "truc_registry_errors_total": Metric(
        Kind.COUNTER, "Readings of the systems file that failed; the last good one stays in use."
    ),
    "truc_clock_exchanges_total": Metric(Kind.COUNTER, "Questions to the parent for the time, by result.", ("result",)),
    "truc_journal_heads_total": Metric(Kind.COUNTER, "Heads of journals handed up or kept, by result.", ("result",)),
    "truc_receipts_total": Metric(Kind.COUNTER, "Signed receipts for batches: given, got, missing, bad.", ("result",)),
    "truc_questions_total": Metric(Kind.COUNTER, "Short questions put to neighbours or dropped, by result.", ("result",)),
    "truc_statements_total": Metric(
        Kind.COUNTER, "Daily statements made here, and those that came from below, by what became of them.", ("result",)
    ),
    "truc_drops_total": Metric(Kind.COUNTER, "What was taken out of the flow, by reason.", ("reason",)),
    "truc_delivery_seconds": Metric(
        Kind.HISTOGRAM, "Time from custody at the first node to collection by the receiver.", (), DELIVERY_BOUNDS_MS
    ),
    "truc_build_info": Metric(Kind.GAUGE, "Always 1; the version of the program and the tier it serves.", ("version", "tier")),
    "truc_outbox_depth": Metric(Kind.GAUGE, "Envelopes waiting for a neighbour, by lane.", ("neighbour", "lane")),
    "truc_outbox_oldest_age_seconds": Metric(Kind.GAUGE, "Age of the oldest envelope waiting for a neighbour.", ("neighbour",)),
    "truc_mailbox_depth": Metric(Kind.GAUGE, "Items waiting for an office system to collect them."),
    "truc_held_items": Metric(Kind.GAUGE, "Items held for a person now."),
    "truc_parent_up": Metric(Kind.GAUGE, "1 while the parent answers, 0 while it does not."),
    "truc_child_up": Metric(Kind.GAUGE, "1 while a child keeps calling, 0 while it is silent.", ("neighbour",)),
    "truc_store_bytes": Metric(Kind.GAUGE, "Size of the store and its bodies."),
    "truc_journal_intact": Metric(Kind.GAUGE, "1 while no row of the journal was found altered or missing, 0 once one was."),
    "truc_disk_free_ratio": Metric(Kind.GAUGE, "Free part of the disk that holds the store, 0 to 1."),
    "truc_clock_bound_seconds": Metric(Kind.GAUGE, "Stated uncertainty of the node's clock."),
    "truc_clock_offset_seconds": Metric(Kind.GAUGE, "The host's clock less the node's time; positive: the host is ahead."),
    "truc_clock_stratum": Metric(Kind.GAUGE, "Nodes from the hub's reference: 1 is the hub, 16 is nobody's time."),
    "truc_clock_synchronised": Metric(Kind.GAUGE, "1 while the clock counts as synchronised."),
    "truc_certificate_expiry_timestamp_seconds": Metric(
        Kind.GAUGE,
        "When a certificate of this node, its authority or its root ends (seconds since 1970), by listener.",
        ("listener",),
    ),
    "truc_crl_age_seconds": Metric(Kind.GAUGE, "Age of the oldest revocation list that neighbours are judged by."),
    "truc_crl_seconds_left": Metric(
        Kind.GAUGE, "How long until a revocation list is so old that it stops traffic: its end and its grace."
    ),
    "truc_office_clock_skew_seconds": Metric(
        Kind.GAUGE, "How far the clock of the office system that is furthest off differs from the node's time, as measured."
    ),
    "truc_calendar_missing": Metric(Kind.GAUGE, "1 while the working calendar of a year that should be here is not."),
    "truc_statements_waiting": Metric(Kind.GAUGE, "Daily statements that the parent does not hold yet."),
    "truc_directory_version": Metric(Kind.GAUGE, "Version of the directory of codes in use."),
    "truc_directory_age_seconds": Metric(
        Kind.GAUGE, "Since the directory was last compared with the parent's; since the start where it never was."
    ),
    "truc_directory_aside": Metric(Kind.GAUGE, "Rows of the directory that do not count: their author has no say in them."),
}
"""Everything this program counts. Nothing else is ever added or shown."""

SERIES_MAX = 20_000
"""Label sets kept of one metric; what comes later is counted under `OTHER` for every label."""
LABEL_MAX = 100
"""Characters kept of a label value."""
TOLD_MAX = 1_000
"""Calls remembered with the cell they count in."""
OTHER = "other"
HUB = "hub"
"""The hub's code is empty, and an empty label is no label."""


def label_set(name: str, labels: Mapping[str, str]) -> Labels:
    """Labels in the declared order. KeyError for an unknown metric, ValueError unless the label names are exactly its own."""
    metric = METRICS[name]
    if len(labels) != len(metric.labels) or any(label not in labels for label in metric.labels):
        raise ValueError(f"{name} takes the labels {metric.labels}, not {tuple(labels)}")
    return tuple((label, str(labels[label])[:LABEL_MAX] or (HUB if label == "neighbour" else OTHER)) for label in metric.labels)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many observations fell at or under each bound (not cumulative; the last slot is above all bounds), and their sum."""

    counts: tuple[int, ...]
    sum_ms: int = 0

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)), self.sum_ms + other.sum_ms)

    @property
    def count(self) -> int:
        return sum(self.counts)


Snapshot = Mapping[str, Mapping[Labels, int | Histogram]]


class Tally:
    """Counters and histograms by name and labels. Not a clock, not a gauge: it only grows."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, Labels], int] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}
        self._series: dict[str, int] = {}
        self._told: dict[tuple[object, ...], tuple[str, Labels]] = {}
        """The cell of each call of `add` so far: what is counted most is found by what the caller said."""

    def add(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add a whole number ≥ 0 to a counter. KeyError or ValueError where name, labels or amount are not what METRICS says."""
        told = (name, *labels.items())
        cell = self._told.get(told)
        if cell is None:
            if METRICS[name].kind is not Kind.COUNTER:
                raise ValueError(f"{name} is no counter")
            cell = self._cell(name, labels, self._counts)
            if len(self._told) < TOLD_MAX:
                self._told[told] = cell
        if amount < 0:
            raise ValueError(f"{name} cannot be raised by {amount}")
        self._counts[cell] = self._counts.get(cell, 0) + amount

    def observe(self, name: str, value_ms: int, **labels: str) -> None:
        """One observation of a histogram, whole milliseconds; a negative one (clocks differ) counts as 0."""
        metric = METRICS[name]
        if metric.kind is not Kind.HISTOGRAM:
            raise ValueError(f"{name} is not a histogram")
        value_ms = max(value_ms, 0)
        cell = self._cell(name, labels, self._histograms)
        held = self._histograms.get(cell) or Histogram((0,) * (len(metric.bounds_ms) + 1))
        counts = list(held.counts)
        counts[bisect_left(metric.bounds_ms, value_ms)] += 1
        self._histograms[cell] = Histogram(tuple(counts), held.sum_ms + value_ms)

    def value(self, name: str, **labels: str) -> int:
        """What a counter stands at, or how many observations a histogram has; 0 where nothing was counted."""
        cell = (name, label_set(name, labels))
        if METRICS[name].kind is Kind.HISTOGRAM:
            return self._histograms[cell].count if cell in self._histograms else 0
        return self._counts.get(cell, 0)

    def snapshot(self) -> Snapshot:
        """A copy, by metric and labels. Counters and histograms without labels are there from the start, with 0."""
        result: dict[str, dict[Labels, int | Histogram]] = {}
        for name, metric in METRICS.items():
            if metric.kind is Kind.GAUGE:
                continue
            empty = Histogram((0,) * (len(metric.bounds_ms) + 1)) if metric.kind is Kind.HISTOGRAM else 0
            result[name] = {} if metric.labels else {(): empty}
        for (name, labels), held in self._cells():
            result[name][labels] = held
        return result

    def __add__(self, other: Tally) -> Tally:
        """Both together; a + b == b + a and (a + b) + c == a + (b + c), exactly."""
        total = Tally()
        for part in (self, other):
            for cell, count in part._counts.items():
                total._counts[cell] = total._counts.get(cell, 0) + count
            for cell, histogram in part._histograms.items():
                held = total._histograms.get(cell)
                total._histograms[cell] = histogram if held is None else held + histogram
        for (name, _), _ in total._cells():
            total._series[name] = total._series.get(name, 0) + 1
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and self.snapshot() == other.snapshot()

    __hash__ = None  # type: ignore[assignment]

    def _cells(self) -> Iterator[tuple[tuple[str, Labels], int | Histogram]]:
        yield from self._counts.items()
        yield from self._histograms.items()

    def _cell(self, name: str, labels: Mapping[str, str], known: Mapping[tuple[str, Labels], object]) -> tuple[str, Labels]:
        """The cell to count in. A metric that has SERIES_MAX label sets already counts new ones under OTHER."""
        cell = (name, label_set(name, labels))
        if cell in known:
            return cell
        if self._series.get(name, 0) >= SERIES_MAX:
            cell = (name, tuple((label, OTHER) for label, _ in cell[1]))
        if cell not in known:
            self._series[name] = self._series.get(name, 0) + 1
        return cell

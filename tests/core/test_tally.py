"""The tally: counts merge in any order, and nothing outside the table is counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core import tally as tallies
from node.core.errors import Reason
from node.core.tally import DELIVERY_BOUNDS_MS, METRICS, OTHER, Histogram, Kind, Tally

DOORS = st.sampled_from(["vxp", "link"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("refusal"), DOORS, st.sampled_from(list(Reason)), st.integers(0, 5)),
        st.tuples(st.just("accepted"), DOORS, st.just(Reason.LOOP), st.integers(0, 5)),
        st.tuples(st.just("delivery"), DOORS, st.just(Reason.LOOP), st.integers(-10, 10**9)),
    ),
    max_size=12,
)


def counted(steps: list[tuple[str, str, Reason, int]]) -> Tally:
    tally = Tally()
    for what, door, reason, number in steps:
        if what == "refusal":
            tally.add("truc_refusals_total", number, door=door, reason=reason)
        elif what == "accepted":
            tally.add("truc_envelopes_accepted_total", number, source=door)
        else:
            tally.observe("truc_delivery_seconds", number)
    return tally


@given(STEPS, STEPS, STEPS)
def test_tallies_merge_in_any_order_and_grouping(a: list, b: list, c: list) -> None:  # type: ignore[type-arg]
    assert counted(a) + counted(b) == counted(b) + counted(a)
    assert (counted(a) + counted(b)) + counted(c) == counted(a) + (counted(b) + counted(c))
    assert counted(a) + Tally() == counted(a)


@given(STEPS, STEPS)
def test_merging_loses_nothing(a: list, b: list) -> None:  # type: ignore[type-arg]
    assert counted(a) + counted(b) == counted(a + b)


def test_merging_leaves_both_parts_as_they_were() -> None:
    a, b = Tally(), Tally()
    a.add("truc_commits_total", 2)
    b.add("truc_commits_total", 3)
    assert (a + b).value("truc_commits_total") == 5
    assert (a.value("truc_commits_total"), b.value("truc_commits_total")) == (2, 3)


def test_a_count_is_kept_per_label_set() -> None:
    tally = Tally()
    tally.add("truc_refusals_total", door="vxp", reason=Reason.LOOP)
    tally.add("truc_refusals_total", 2, reason="loop", door="vxp")
    tally.add("truc_refusals_total", door="link", reason="loop")
    assert tally.value("truc_refusals_total", door="vxp", reason="loop") == 3
    assert tally.value("truc_refusals_total", door="link", reason="loop") == 1
    assert tally.value("truc_refusals_total", door="link", reason="expired") == 0


def test_what_is_not_in_the_table_cannot_be_counted() -> None:
    tally = Tally()
    with pytest.raises(KeyError):
        tally.add("truc_surprises_total")
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"door": "vxp"},
        {"door": "vxp", "organ": "H41"},
        {"door": "vxp", "reason": "loop", "organ": "H41"},
    )
    for labels in wrong:
        with pytest.raises(ValueError, match="takes the labels"):
            tally.add("truc_refusals_total", **labels)
    with pytest.raises(ValueError):
        tally.add("truc_mailbox_depth")
    with pytest.raises(ValueError):
        tally.add("truc_commits_total", -1)
    with pytest.raises(ValueError):
        tally.observe("truc_commits_total", 1)
    assert tally == Tally()


def test_an_observation_at_a_bound_falls_into_its_bucket() -> None:
    tally = Tally()
    for value_ms in (0, 100, 101, DELIVERY_BOUNDS_MS[-1], DELIVERY_BOUNDS_MS[-1] + 1, -5):
        tally.observe("truc_delivery_seconds", value_ms)
    histogram = tally.snapshot()["truc_delivery_seconds"][()]
    assert isinstance(histogram, Histogram)
    assert histogram.counts[:2] == (3, 1)
    assert histogram.counts[-2:] == (1, 1)
    assert histogram.sum_ms == 201 + 2 * DELIVERY_BOUNDS_MS[-1] + 1
    assert tally.value("truc_delivery_seconds") == histogram.count == 6


def test_counters_without_labels_are_shown_before_anything_happened() -> None:
    snapshot = Tally().snapshot()
    assert snapshot["truc_digest_conflicts_total"] == {(): 0}
    assert snapshot["truc_refusals_total"] == {}
    assert not any(METRICS[name].kind is Kind.GAUGE for name in snapshot)


def test_a_snapshot_does_not_change_afterwards() -> None:
    tally = Tally()
    before = tally.snapshot()
    tally.add("truc_commits_total")
    assert before["truc_commits_total"] == {(): 0}


def test_the_hub_has_a_name_as_a_neighbour() -> None:
    tally = Tally()
    tally.add("truc_attempts_total", neighbour="", result="taken")
    assert tally.value("truc_attempts_total", neighbour="hub", result="taken") == 1


def test_label_sets_are_bounded_and_the_rest_is_still_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "SERIES_MAX", 3)
    tally = Tally()
    for number in range(10):
        tally.add("truc_held_total", reason=f"reason-{number}")
    tally.add("truc_held_total", reason="reason-0")
    assert len(tally.snapshot()["truc_held_total"]) == 4
    assert tally.value("truc_held_total", reason=OTHER) == 7
    assert tally.value("truc_held_total", reason="reason-0") == 2


def test_names_follow_the_rules_of_the_trade() -> None:
    for name, metric in METRICS.items():
        assert name.startswith("truc_") and metric.help.endswith("."), name
        assert name.endswith("_total") == (metric.kind is Kind.COUNTER), name
        assert (metric.bounds_ms != ()) == (metric.kind is Kind.HISTOGRAM), name
        assert list(metric.bounds_ms) == sorted(set(metric.bounds_ms)), name
        assert set(metric.labels) <= {
            *("source", "result", "door", "reason", "neighbour", "direction", "lane", "version", "tier", "listener")
        }, f"{name}: labels come from small closed sets, never a document or an organisation"

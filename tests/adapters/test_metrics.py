"""/metrics: what Prometheus reads is what was counted, in a form promtool has nothing to say about."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from node.adapters.metrics import Gauges, exposition
from node.core.errors import Reason
from node.core.tally import METRICS, Kind, Tally

PROMTOOL = shutil.which("promtool")

GAUGES: Gauges = {
    "truc_build_info": {(("version", "0.1.0"), ("tier", "tỉnh")): 1},
    "truc_outbox_depth": {(("neighbour", ""), ("lane", "normal")): 12, (("neighbour", "H41.07"), ("lane", "express")): 1},
    "truc_outbox_oldest_age_seconds": {(("neighbour", ""),): 3.5},
    "truc_mailbox_depth": {(): 4},
    "truc_held_items": {(): 0},
    "truc_journal_intact": {(): 1},
    "truc_parent_up": {(): 1},
    "truc_child_up": {(("neighbour", "H41.07"),): 0},
    "truc_store_bytes": {(): 123456},
    "truc_disk_free_ratio": {(): 0.25},
    "truc_clock_offset_seconds": {(): -0.25},
    "truc_clock_stratum": {(): 2},
    "truc_clock_bound_seconds": {(): 1.0},
    "truc_clock_synchronised": {(): 1},
    "truc_certificate_expiry_timestamp_seconds": {(("listener", "link"),): 1.8e9, (("listener", "office"),): 1.9e9},
    "truc_directory_version": {(): 7},
    "truc_crl_age_seconds": {(): 0},
    "truc_crl_seconds_left": {(): 0},
    "truc_office_clock_skew_seconds": {(): 0},
    "truc_calendar_missing": {(): 0},
    "truc_directory_age_seconds": {(): 0},
    "truc_directory_aside": {(): 0},
    "truc_statements_waiting": {(): 0},
}


async def gauges() -> Gauges:
    return GAUGES


def busy() -> Tally:
    tally = Tally()
    for name, metric in METRICS.items():
        labels = {label: f"{label}-value" for label in metric.labels}
        if metric.kind is Kind.COUNTER:
            tally.add(name, 2, **labels)
    tally.add("truc_refusals_total", 3, door="vxp", reason=Reason.RECIPIENT_CLOSED)
    for value_ms in (50, 400, 1_500, 10**10):
        tally.observe("truc_delivery_seconds", value_ms)
    return tally


async def samples(tally: Tally) -> dict[str, float]:
    text = (await exposition(tally, gauges)).decode()
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_counters_and_gauges_are_read_as_they_stand() -> None:
    read = await samples(busy())
    assert read["truc_refusals_total door=vxp reason=recipient-closed"] == 3
    assert read["truc_commits_total"] == 2
    assert read["truc_outbox_depth lane=normal neighbour=hub"] == 12
    assert read["truc_disk_free_ratio"] == 0.25
    assert read["truc_build_info tier=tỉnh version=0.1.0"] == 1


async def test_the_histogram_is_cumulative_and_in_seconds() -> None:
    read = await samples(busy())
    assert read["truc_delivery_seconds_bucket le=0.1"] == 1
    assert read["truc_delivery_seconds_bucket le=0.5"] == 2
    assert read["truc_delivery_seconds_bucket le=2"] == 3
    assert read["truc_delivery_seconds_bucket le=+Inf"] == read["truc_delivery_seconds_count"] == 4
    assert read["truc_delivery_seconds_sum"] == pytest.approx(10_000_001.95)


async def test_two_readings_count_nothing_twice() -> None:
    tally = busy()
    assert await samples(tally) == await samples(tally)


async def test_no_created_series_are_shown() -> None:
    assert b"_created" not in await exposition(busy(), gauges)


async def test_every_metric_of_the_table_appears_with_its_help() -> None:
    text = (await exposition(busy(), gauges)).decode()
    for name, metric in METRICS.items():
        assert f"# HELP {name} {metric.help}\n" in text
    assert set(GAUGES) == {name for name, metric in METRICS.items() if metric.kind is Kind.GAUGE}


async def test_a_gauge_outside_the_table_is_our_bug() -> None:
    async def strange() -> Gauges:
        return {"truc_moon_phase": {(): 1}}

    async def mislabelled() -> Gauges:
        return {"truc_parent_up": {(("organ", "H41"),): 1}}

    async def a_counter() -> Gauges:
        return {"truc_commits_total": {(): 1}}

    with pytest.raises(KeyError):
        await exposition(Tally(), strange)
    with pytest.raises(ValueError, match="takes the labels"):
        await exposition(Tally(), mislabelled)
    with pytest.raises(ValueError, match="not a gauge"):
        await exposition(Tally(), a_counter)


async def test_a_hostile_label_value_cannot_break_the_lines() -> None:
    tally = Tally()
    tally.add("truc_held_total", reason='x"} 1\ntruc_parent_up 0\n')
    read = await samples(tally)
    assert read["truc_parent_up"] == 1


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian package `prometheus`)")
@pytest.mark.parametrize("tally", [Tally(), busy()], ids=["idle", "busy"])
async def test_promtool_has_nothing_to_say(tally: Tally) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=await exposition(tally, gauges), capture_output=True, timeout=30)
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (0, "", "")

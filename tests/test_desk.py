"""The operator's desk: what it shows of a node, and what a person may do there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from node import app
from node.adapters.calendar_files import shipped
from node.core.custody import FIRST
from node.core.errors import Reason, Refused
from node.core.instant import day
from node.core.office import ClientCertificate
from node.core.standing import Standing
from node.core.tally import METRICS, Kind
from node.core.timekeeping import Alarm, Reading, State
from node.core.wire import EnvelopeVerdicts, Outcome, PullRequest, Verdict
from node.desk import EXPIRY_WARN_MS, SILENT_MS, Desk
from tests.adapters.pki import NOW_MS
from tests.making import EVERYTHING
from tests.tree import H41, H54, HUB, PATIENCE_S, Site, Tree, document, planted, status

CERTIFICATE_ENDS_MS = NOW_MS + 400 * 86_400_000


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path) as found:
        yield found


def desk(site: Site) -> Desk:
    return app.desk(site.settings, site.ground, site.duties, site.store.size_bytes, {"link": CERTIFICATE_ENDS_MS})


async def hold(site: Site) -> str:
    """A document of ubnd-41 is held on its way to the hub; returns its item."""
    await site.send("ubnd-41", document("H54.02", number="99"))
    site.line.fault("push", *[Refused(Reason.WIRE_MALFORMED, "batch")] * 10)
    for _ in range(10):
        site.tree.clock.now_ms += 300_000
        await site.turn()
    ((row,), _) = await desk(site).held(FIRST, 10)
    return str(row["item"])


async def codes(site: Site) -> list[str]:
    return [problem["code"] for problem in (await desk(site).status())["problems"]]


# --- how it is ------------------------------------------------------------------------------------------------------------


async def test_a_quiet_hub_is_well(tree: Tree) -> None:
    found = await desk(tree[HUB]).status()
    assert (found["health"], found["parent"], found["held"], found["problems"]) == ("ok", None, 0, [])
    assert (found["node"], found["code"], found["epoch"]) == ("Trục liên thông văn bản quốc gia", "", 1)
    assert [(child["code"], child["name"], child["up"]) for child in found["children"]] == [
        ("H41", "Trục tỉnh Nghệ An", False),
        ("H54", "Trục tỉnh Thái Bình", False),
    ]


async def test_a_lost_parent_is_a_warning_and_documents_wait(tree: Tree) -> None:
    """Store and forward: ready all the same. # Decision 8"""
    site = tree[H41]
    site.line.down = True
    await site.send("ubnd-41", document("H54.02"))
    await site.turn()
    tree.clock.now_ms += 3_700_000
    found = await desk(site).status()
    assert found["health"] == "warning"
    assert [problem["code"] for problem in found["problems"]] == ["parent-down", "outbox-old"]
    assert all(problem["text"] and problem["command"] for problem in found["problems"])
    assert found["outbox"] == {"depth": 1, "oldest_age_s": 3700.0}
    assert found["parent"]["up"] is False
    checks = {check.name: check.state for check in await desk(site).checks()}
    good = dict.fromkeys(
        ("database", "disk", "held", "journal", "systems", "calendar", "certificate", "lists", "directory", "clock"), "+"
    )
    assert checks == {**good, "parent": "!"}


async def test_a_parent_that_answers_and_a_child_that_calls_are_up(tree: Tree) -> None:
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02"))
    await site.turn()
    assert (await desk(site).status())["parent"]["up"] is True
    (first, _) = (await desk(tree[HUB]).status())["children"]
    assert (first["code"], first["up"], first["last_seen_ms"]) == ("H41", True, tree.clock.now_ms)
    tree.clock.now_ms += SILENT_MS
    (first, _) = (await desk(tree[HUB]).status())["children"]
    assert not first["up"]


async def test_every_trouble_has_a_name_a_text_and_a_command(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tree[H41]
    await hold(site)
    await tree[H54].send("thai-binh", status("01", "không ai biết", organ="H41"))
    tree[H54].run("push")
    site.run("pull")
    await tree.until(lambda: site.count("mailbox"))
    site.tally.add("truc_digest_conflicts_total")
    (site.folder / "systems.json").write_text("{", encoding="utf-8")
    site.ground.registry.all()
    monkeypatch.setattr(site.bodies, "free_ratio", lambda: 0.05)
    found = await desk(site).status()
    assert found["health"] == "critical"
    assert {problem["code"] for problem in found["problems"]} >= {
        "held-items",
        "unmatched-statuses",
        "digest-conflict",
        "disk-low",
        "systems-broken",
    }
    assert all(problem["text"] and problem["command"] for problem in found["problems"])


async def test_a_revoked_node_and_an_old_list_are_named_and_how_long_is_left_is_measured(tree: Tree) -> None:
    site = tree[HUB]
    told = Standing(40 * 86_400.0, 20 * 86_400.0, old=True, revoked=True)
    seen = app.desk(site.settings, site.ground, site.duties, site.store.size_bytes, {}, lambda: told)
    found = await seen.status()
    assert (found["health"], [problem["code"] for problem in found["problems"]]) == (
        "critical",
        ["certificate-revoked", "lists-old"],
    )
    assert {check.name for check in await seen.checks() if check.state == "!"} == {"certificate", "lists"}
    gauges = await seen.gauges()
    assert gauges["truc_crl_seconds_left"] == {(): 20 * 86_400.0}
    assert "truc_crl_seconds_left" not in await desk(site).gauges()


async def test_certificates_are_missed_before_they_end(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tree[HUB]
    end_ms = CERTIFICATE_ENDS_MS
    tree.clock.now_ms = end_ms - EXPIRY_WARN_MS
    assert await codes(site) == []
    tree.clock.now_ms += 1
    assert await codes(site) == ["certificate-expiring"]
    tree.clock.now_ms = end_ms + 1
    assert await codes(site) == ["certificate-expired"]
    assert (await desk(site).status())["health"] == "critical"


@pytest.mark.parametrize(("free", "state"), [(0.5, "+"), (0.05, "!"), (0.005, "-")])
async def test_a_disk_without_room_is_not_ready(tree: Tree, monkeypatch: pytest.MonkeyPatch, free: float, state: str) -> None:
    monkeypatch.setattr(tree[HUB].bodies, "free_ratio", lambda: free)
    checks = {check.name: check.state for check in await desk(tree[HUB]).checks()}
    assert checks["disk"] == state


async def test_a_node_that_stops_is_not_ready(tree: Tree) -> None:
    found = desk(tree[HUB])
    found.stopping = True
    assert [(check.name, check.state) for check in await found.checks()][-1] == ("stopping", "-")


async def test_the_gauges_are_among_what_may_be_shown(tree: Tree) -> None:
    site = tree[H41]
    await hold(site)
    gauges = await desk(site).gauges()
    for name, rows in gauges.items():
        assert METRICS[name].kind is Kind.GAUGE
        for labels in rows:
            assert tuple(label for label, _ in labels) == METRICS[name].labels, name
    assert gauges["truc_held_items"] == {(): 1.0}
    assert gauges["truc_parent_up"] == {(): 0.0}
    await site.send("ubnd-41", document("H54.02", number="2"))
    gauges = await desk(site).gauges()
    assert gauges["truc_outbox_depth"] == {(("neighbour", "hub"), ("lane", "normal")): 1}


# --- what a person does ---------------------------------------------------------------------------------------------------


async def test_a_held_document_is_shown_with_a_sentence_and_released(tree: Tree) -> None:
    site = tree[H41]
    item = await hold(site)
    ((row,), _) = await desk(site).held(FIRST, 10)
    assert (row["item"], row["recipient"], row["reason"]) == (item, "H54.02", "wire-malformed")
    assert row["text"] not in ("", "wire-malformed")
    assert (await site.sent("ubnd-41"))["H54.02"].send_state == "held"
    asked = site.store.ask(HUB, EVERYTHING, stands=True)
    assert await desk(site).held_act("release", [item], "chị Hoa", "đã xem") == 1
    async with asyncio.timeout(PATIENCE_S):
        assert await asked is not None
    assert (await site.sent("ubnd-41"))["H54.02"].send_state == "queued"
    site.run("push")
    await tree.until(lambda: site.count("outbox") == 0)
    assert tree[HUB].count("outbox") == 1


async def test_a_dropped_document_ends_with_one_02_that_says_who_decided_and_why(tree: Tree) -> None:
    """Decision 11: an operator's drop is a node's final refusal, told home. # QĐ 28/2018 Điều 8.2"""
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02"))
    await desk(site).queue_act("hold", [], "", "anh Ba", "nghi nhầm")
    ((row,), _) = await desk(site).held(FIRST, 10)
    assert await desk(site).held_act("drop", [row["item"], row["item"]], "anh Ba", "gửi nhầm") == 1
    assert (await site.sent("ubnd-41"))["H54.02"].send_state == "refused"
    (line,) = await site.inbox("ubnd-41", "status")
    assert "gửi nhầm" in (await site.fetch("ubnd-41", line.doc_id)).decode()
    assert site.tally.value("truc_drops_total", reason="dropped-by-operator") == 1
    assert await desk(site).held(FIRST, 10) == ([], None)


async def test_what_the_neighbour_may_hold_cannot_be_dropped(tree: Tree) -> None:
    """Decision 6: a copy in doubt may not be returned until that neighbour has answered for it; releasing it asks again."""
    site = tree[H41]
    item = await hold(site)
    assert site.rows("SELECT state,in_doubt FROM outbox") == [("held", 1)]
    assert await desk(site).held_act("drop", [item], "anh Ba", "thừa") == 0
    assert site.count("outbox") == 1
    assert await site.inbox("ubnd-41", "status") == []
    assert site.tally.value("truc_drops_total", reason="dropped-by-operator") == 0


async def test_a_dropped_mailbox_item_is_told_home_across_the_tree(tree: Tree) -> None:
    tree.run()
    await tree[H41].send("ubnd-41", document("H54.02"))
    (line,) = await tree.until(lambda: tree[H54].inbox("thai-binh"))
    for _ in range(5):
        await tree[H54].report("thai-binh", line.doc_id, "fail")
    ((row,), _) = await desk(tree[H54]).held(FIRST, 10)
    assert row["text"] == "hệ thống của Bên nhận nhiều lần báo lấy về bị lỗi"
    assert await desk(tree[H54]).held_act("drop", [row["item"]], "anh Ba", "hỏng") == 1

    async def told() -> bool:
        return (await tree[H41].sent("ubnd-41"))["H54.02"].send_state == "refused"

    await tree.until(told)


async def test_a_released_mailbox_item_is_listed_again_and_requests_are_decided(tree: Tree) -> None:
    site = tree[H41]
    await site.send("ubnd-41", document("H41.05"))
    (line,) = await site.inbox("so-y-te")
    for _ in range(5):
        await site.report("so-y-te", line.doc_id, "fail")
    number = await site.duties.mailbox.request_agency(site.system("ubnd-41"), "register", {})
    other = await site.duties.mailbox.request_agency(site.system("ubnd-41"), "delete", {})
    items = [row["item"] for row in (await desk(site).held(FIRST, 10))[0]]
    assert len(items) == 3
    assert await desk(site).held_act("release", [item for item in items if item.startswith("box")], "chị Hoa", "") == 1
    assert len(await site.inbox("so-y-te")) == 1
    assert await desk(site).held_act("release", [f"agency-{number}"], "chị Hoa", "") == 1
    assert await desk(site).held_act("drop", [f"agency-{other}"], "chị Hoa", "") == 1
    assert await desk(site).held(FIRST, 10) == ([], None)


async def test_items_that_are_not_there_change_nothing(tree: Tree) -> None:
    unknown = ["out-999", "box-999", "agency-999", "out-", "out-x", "out-²", "out-١", "pod-1", "", "out--1"]
    assert await desk(tree[H41]).held_act("release", unknown, "ai đó", "") == 0
    assert await desk(tree[H41]).held_act("drop", unknown, "ai đó", "") == 0
    assert tree[H41].count("journal") == 0


async def test_the_queue_is_shown_and_acted_on(tree: Tree) -> None:
    site = tree[H41]
    for number in "12":
        await site.send("ubnd-41", document("H54.02", number=number))
    rows, _ = await desk(site).queue(None, None, FIRST, 10)
    assert [(row["neighbour"], row["state"], row["lane"], row["in_doubt"]) for row in rows] == [
        ("", "waiting", "normal", False)
    ] * 2
    assert await desk(site).queue_act("hold", [rows[0]["item"]], None, "chị Hoa", "chờ") == 1
    shown = await desk(site).queue_item(rows[0]["item"])
    assert shown is not None
    assert shown["state"] == "held"
    ((held,), _) = await desk(site).held(FIRST, 10)
    assert held["text"] == "người vận hành tạm dừng: chờ"
    await site.turn()
    assert [row["item"] for row in (await desk(site).queue("", None, FIRST, 10))[0]] == [rows[0]["item"]]
    assert await desk(site).queue_act("release", [], "", "chị Hoa", "xong") == 1
    await site.turn()
    assert site.count("outbox") == 0


async def test_a_trace_tells_what_happened_to_a_document_here(tree: Tree) -> None:
    site = tree[H41]
    taken = await site.send("ubnd-41", document("H54.02"))
    await site.turn()
    child = await pull(tree, None)
    await pull(tree, child)
    assert [row["event"] for row in await desk(site).trace(taken.doc_id)] == ["accepted", "handed-over"]
    assert [row["event"] for row in await desk(tree[HUB]).trace(taken.doc_id)] == ["taken", "handed-over"]


async def pull(tree: Tree, last: Any) -> Any:
    """H54 pulls by hand; on `last` it says taken."""
    said = tuple(
        EnvelopeVerdicts(each.header.origin, each.header.id, dict.fromkeys(each.remaining, Verdict(Outcome.TAKEN)))
        for each in (last.envelopes if last else ())
    )
    sequence = 2 if last else 1
    return await tree[HUB].duties.forwarder.pull(H54, PullRequest("s", sequence, 1 if last else 0, said, 1 << 30, 0))


# --- the clock ----------------------------------------------------------------------------------------------------------------


async def test_what_is_wrong_with_the_clock_is_a_warning_with_its_figure_and_never_stops_the_node(tree: Tree) -> None:
    """Documents never wait for the clock. # architecture, decision 13"""
    alarms = tuple((alarm, -3_600_000_000_000) for alarm in Alarm)
    tree.clock.shown = Reading(State.UNSYNCHRONISED, NOW_MS, -3_600_000_000_000, 5_000_000, 16, 2_000_000, False, alarms)
    operator = desk(tree[HUB])
    (check,) = [check for check in await operator.checks() if check.name == "clock"]
    assert check.state == "!"
    assert "-3600.000 s" in check.detail
    found = await operator.status()
    assert found["health"] == "warning"
    assert [problem["code"] for problem in found["problems"]] == [alarm.value for alarm in Alarm]
    assert all(problem["text"] and problem["command"] for problem in found["problems"])
    assert found["clock"]["alarms"] == [alarm.value for alarm in Alarm]
    figures = ("state", "since_ms", "synchronised", "offset_s", "bound_s", "delay_s", "stratum")
    assert [found["clock"][name] for name in figures] == ["unsynchronised", NOW_MS, False, -3600.0, 0.005, 0.002, 16]
    gauges = await operator.gauges()
    names = ("offset_seconds", "bound_seconds", "stratum", "synchronised")
    assert [gauges[f"truc_clock_{name}"][()] for name in names] == [-3600.0, 0.005, 16.0, 0.0]


async def test_a_system_whose_certificate_ends_is_named_and_another_one_is_enough(tree: Tree) -> None:
    site, operator = tree[HUB], desk(tree[HUB])
    ends = ClientCertificate(b"", "0a", 0, tree.clock.now_ms + EXPIRY_WARN_MS - 1)
    later = ClientCertificate(b"", "0b", 0, tree.clock.now_ms + EXPIRY_WARN_MS * 5)
    for bound, named in (((ends,), True), ((later, ends), False), ((replace(later, revoked=True), ends), True)):
        systems = [replace(system, certificates=bound) for system in site.ground.registry.all()]
        operator.office_systems = partial(tuple, systems)
        assert ("system-certificate" in [each["code"] for each in (await operator.status())["problems"]]) is named


async def test_an_office_whose_clock_is_off_is_named(tree: Tree) -> None:  # QĐ 28/2018 Điều 14.4
    site = tree[H41]
    operator = desk(site)
    assert await operator.systems() == []
    system = site.ground.registry.get("ubnd-41")
    assert system is not None
    site.duties.timing.told_time(system, tree.clock.now_ms + 61_000)
    site.duties.timing.ahead("so-y-te", tree.clock.now_ms + 900)
    assert [(row["id"], row["clock_ahead_s"]) for row in await operator.systems()] == [("so-y-te", 0.9), ("ubnd-41", 61.0)]
    assert "office-clock" in await codes(site)
    assert (await operator.gauges())["truc_office_clock_skew_seconds"][()] == 61.0
    told = site.duties.timing.time()
    assert (told.utc_ms, told.synchronised) == (tree.clock.now_ms, True)


async def test_a_missing_calendar_is_a_warning_from_december_on_and_stops_nothing(tree: Tree) -> None:
    site = tree[HUB]
    tree.clock.now_ms = 1_796_057_999_000  # the last second of November 2026
    operator = app.desk(site.settings, replace(site.ground, calendar=shipped), site.duties, site.store.size_bytes, {})
    assert not [problem for problem in (await operator.status())["problems"] if problem["code"] == "calendar-missing"]
    tree.clock.now_ms += 1000
    assert [problem for problem in (await operator.status())["problems"] if problem["code"] == "calendar-missing"]
    (check,) = [check for check in await operator.checks() if check.name == "calendar"]
    assert (check.state, check.detail) == ("!", "2027")
    assert (await operator.gauges())["truc_calendar_missing"][()] == 1.0
    assert (await tree[H41].send("ubnd-41", document("H41.05"))).doc_id


async def test_a_report_is_of_the_nodes_own_subtree(tree: Tree) -> None:  # QĐ 28/2018 Điều 11.1–3
    found = await desk(tree[H41]).report("day", "", "", "")
    assert found["rows"][0]["total_of"] == "H41"
    assert {row["organ"] for row in found["rows"] if "organ" in row} >= {"H41"}
    assert not [row for row in found["rows"] if row.get("organ", "H41").startswith("H54")]
    with pytest.raises(Refused):
        await desk(tree[H41]).report("day", "", "", "H54")


async def test_the_connection_table_has_the_last_day_an_organ_did_something_itself(tree: Tree) -> None:
    site = tree[H41]
    await site.send("ubnd-41", document("H41.05"))
    await site.duties.reporter.state_due()
    rows = {row["organ"]: row for row in (await desk(site).report("connections", "", "", ""))["rows"]}
    today = day(tree.clock.now_ms).isoformat()
    assert (rows["H41"]["last_traffic"], rows["H41.05"]["last_traffic"]) == (today, None), "what arrives is no sign of life"
    figures = {row.get("organ"): row for row in (await desk(site).report("day", "", "", ""))["rows"]}
    assert (figures["H41"]["sent"], figures["H41.05"]["received"], figures["H41.05"]["arrived"]) == (1, 0, 1)

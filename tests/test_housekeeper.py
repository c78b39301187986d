"""The slow duties: what outlives its time ends once and is told home once; what nobody needs goes; the rest stays."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from node import housekeeper as module
from node.adapters import registry
from node.core.errors import Deferred, Reason
from node.core.identifier import OrgId
from tests.adapters.pki import NOW_MS
from tests.making import EVERYTHING
from tests.tree import H41, H54, HUB, SYSTEMS, UNIT, Site, Tree, document, org, planted, status

DAY_MS = 86_400_000
OVER_MS = 7 * DAY_MS + 2000
"""hạn chuyển, and a second of uncertainty on either side."""


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path) as found:
        yield found


async def sent(tree: Tree) -> dict[str, str]:
    return {code: line.send_state for code, line in (await tree[H41].sent("ubnd-41")).items()}


async def test_what_outlives_its_time_ends_with_one_02_from_the_axis(tree: Tree) -> None:
    """Decision 11: expiry is one of the ends, and each tells the sender exactly once. # QĐ 28/2018 Điều 8.2"""
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02", "H54.03"))
    tree.clock.now_ms = NOW_MS + OVER_MS
    assert await site.duties.housekeeper.expire() == 0
    tree.clock.now_ms += 1
    assert await site.duties.housekeeper.expire() == 2
    assert await sent(tree) == {"H54.02": "expired", "H54.03": "expired"}
    lines = await site.inbox("ubnd-41", "status")
    assert len(lines) == 2
    assert {line.sender for line in lines} == {"TRUC"}
    assert "[Trục]" in (await site.fetch("ubnd-41", lines[0].doc_id)).decode()
    assert await site.duties.housekeeper.expire() == 0
    assert site.tally.value("truc_deliveries_total", result="expired") == 2
    assert site.count("outbox") == 0


def closed(site: Site, code: str, *, instead: str) -> None:
    """As `truc directory close` leaves the directory at this node, its system gone."""
    directory = site.surroundings.directory
    gone = {"valid_to": date(2020, 1, 1), "successor": org(instead)}
    entries = tuple(replace(each, **gone) if each.code == org(code) else each for each in directory.entries)  # type: ignore[arg-type]
    site.surroundings.take(replace(directory, entries=entries, version=directory.version + 1))


async def test_what_lies_before_an_organ_that_was_closed_is_returned_with_the_successor_named(tree: Tree) -> None:
    """Never dropped, and not after seven days. # QĐ 09/2025/QĐ-TTg"""
    site = tree[H41]
    await site.send("ubnd-41", document("H41.05"))
    await site.send("ubnd-41", document("H41.05", number="13"))
    registry.save(site.folder / "systems.json", [each for each in SYSTEMS[H41] if each.id != "so-y-te"])
    assert await site.duties.housekeeper.give_back() == 0
    closed(site, "H41.05", instead="H41")
    assert await site.duties.housekeeper.give_back() == 2
    assert await site.duties.housekeeper.give_back() == 0
    lines = await site.duties.mailbox.sent(SYSTEMS[H41][0], "edoc", None)
    assert {line.send_state for line in lines} == {"refused"}
    assert "mã thay thế H41" in lines[0].send_text
    returned = await site.inbox("ubnd-41", "status")
    assert len(returned) == 2
    assert "Mã H41.05 đã đóng; hãy gửi đến mã thay thế H41." in (await site.fetch("ubnd-41", returned[0].doc_id)).decode()
    assert site.tally.value("truc_deliveries_total", result="refused") == 2


async def test_what_an_office_of_a_closed_organ_still_collects_stays_with_it(tree: Tree) -> None:
    site = tree[H41]
    await site.send("ubnd-41", document("H41.05"))
    closed(site, "H41.05", instead="H41")
    assert await site.duties.housekeeper.give_back() == 0
    assert len(await site.inbox("so-y-te")) == 1


async def test_a_code_that_closes_while_a_document_is_on_its_way_is_named_with_its_successor(tree: Tree) -> None:
    await tree[H41].send("ubnd-41", document("H54.03"))
    registry.save(tree[H54].folder / "systems.json", [each for each in SYSTEMS[H54] if each.id != "thai-binh"])
    for site in tree.sites.values():
        closed(site, "H54.03", instead="H54")
    tree.run()
    await tree.until(lambda: tree[H41].inbox("ubnd-41", "status"))
    lines = {line.recipient: line for line in await tree[H41].duties.mailbox.sent(SYSTEMS[H41][0], "edoc", None)}
    assert lines["H54.03"].send_state == "refused"
    assert "mã thay thế H54. [recipient-closed]" in lines["H54.03"].send_text


def dissolved(site: Site, *codes: str, instead: str) -> None:
    """The codes are closed and their node, the first's, is gone, as the node hears it while it runs."""
    for code in codes:
        closed(site, code, instead=instead)
    directory = site.surroundings.directory
    nodes = tuple(each for each in directory.nodes if each.code != org(codes[0]))
    site.surroundings.take(replace(directory, nodes=nodes, version=directory.version + 1))


@pytest.mark.parametrize("half_sent", [False, True])
async def test_what_waits_for_a_node_that_is_dissolved_while_this_one_runs_is_returned(tree: Tree, half_sent: bool) -> None:
    """Also when its content was on its way already: the node has said what it lacks, so it has not taken it."""
    content = random.Random(1).randbytes(300_000)
    await tree[H41].send("ubnd-41", document("H54.03", content=content))
    tree[H41].run()
    await tree.until(lambda: tree[HUB].count("outbox") == 1)
    if half_sent:
        tree[H54].run("pull")
        await tree.until(lambda: tree[HUB].rows("SELECT in_doubt FROM outbox WHERE state='body'"))
        await tree[H54].rest()
    for site in (tree[HUB], tree[H41]):
        dissolved(site, "H54", "H54.02", "H54.03", instead="G22")
    await tree[HUB].duties.housekeeper.round()
    await tree.until(lambda: tree[H41].inbox("ubnd-41", "status"))
    (line,) = (await tree[H41].sent("ubnd-41")).values()
    assert line.send_state == "refused"
    assert "mã thay thế G22. [recipient-closed]" in line.send_text
    await tree.until(lambda: tree[HUB].count("outbox") == 0)


async def test_what_waits_for_a_unit_that_moves_while_its_old_parent_runs_follows_it(tmp_path: Path) -> None:
    async with planted(tmp_path, HUB, H41, H54, UNIT) as tree:
        await tree[H41].send("ubnd-41", document("H41.07"))
        directory = tree[H41].surroundings.directory
        nodes = tuple(replace(each, parent=H54) if each.code == UNIT else each for each in directory.nodes)
        tree[H41].surroundings.take(replace(directory, nodes=nodes))
        await tree[H41].duties.housekeeper.round()
        assert tree[H41].rows("SELECT neighbour FROM outbox") == [("",)]


@pytest.mark.parametrize("half_sent", [False, True])
@pytest.mark.parametrize("at", [H41, HUB])
async def test_what_is_on_its_way_to_a_code_that_closes_comes_back_from_anywhere(tree: Tree, at: OrgId, half_sent: bool) -> None:
    """At the node where it began or at a relay, its content waiting or half sent: the receiver's node is there and says so."""
    await tree[H41].send("ubnd-41", document("H54.03", content=random.Random(1).randbytes(300_000)))
    if at == HUB:
        tree[H41].run()
        await tree.until(lambda: tree[HUB].count("outbox") == 1)
    if half_sent:
        (tree[H41] if at == H41 else tree[H54]).run("push" if at == H41 else "pull")
        await tree.until(lambda: tree[at].rows("SELECT 1 FROM outbox WHERE state='body'"))
    registry.save(tree[H54].folder / "systems.json", [each for each in SYSTEMS[H54] if each.id != "thai-binh"])
    for site in tree.sites.values():
        closed(site, "H54.03", instead="H54")
    for site in (tree[H41], tree[H54]):
        await site.rest()
        site.run()
    await tree.until(lambda: tree[H41].inbox("ubnd-41", "status"))
    (line,) = (await tree[H41].sent("ubnd-41")).values()
    assert (line.send_state, "mã thay thế H54." in line.send_text) == ("refused", True)


async def test_what_expires_on_the_way_is_told_home_across_the_tree(tree: Tree) -> None:
    """QĐ 28/2018 Điều 8.2: the sender makes sure that it arrives."""
    tree[H41].run("push")
    await tree[H41].send("ubnd-41", document("H54.02"))
    await tree.until(lambda: tree[HUB].count("outbox") == 1)
    tree.clock.now_ms += OVER_MS + 1
    assert await tree[HUB].duties.housekeeper.expire() == 1
    tree[H41].run("pull")
    await tree.until(lambda: tree[H41].inbox("ubnd-41", "status"))
    assert await sent(tree) == {"H54.02": "expired"}
    assert tree[HUB].rows("SELECT event FROM ledger") == [("expired",)]


async def test_what_nobody_collects_expires_in_the_mailbox(tree: Tree) -> None:
    await tree[H41].send("ubnd-41", document("H41.05"))
    tree.clock.now_ms += OVER_MS + 1
    assert await tree[H41].duties.housekeeper.expire() == 1
    assert await sent(tree) == {"H41.05": "expired"}
    assert await tree[H41].inbox("so-y-te") == []


async def test_an_unsynchronised_node_expires_and_forgets_nothing(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 11; and a clock that is years ahead must not forget the keys that keep documents from arriving twice."""
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02"))
    await site.send("ubnd-41", document("H41.05", number="2"))
    (line,) = await site.inbox("so-y-te")
    await site.fetch("so-y-te", line.doc_id)
    await site.report("so-y-te", line.doc_id, "done")
    tree.clock.now_ms += 3650 * DAY_MS
    monkeypatch.setattr(tree.clock, "synchronised", lambda: False)
    before = [site.count(table) for table in ("seen", "envelope", "body", "submission")]
    await site.duties.housekeeper.round()
    assert [site.count(table) for table in ("seen", "envelope", "body", "submission")] == before
    assert await sent(tree) == {"H54.02": "queued", "H41.05": "collected"}
    monkeypatch.setattr(tree.clock, "synchronised", lambda: True)
    await site.duties.housekeeper.round()
    assert (await sent(tree))["H54.02"] == "expired"


async def test_statuses_and_notices_outlive_everything(tree: Tree) -> None:
    """Decision 11."""
    await tree[H41].send("ubnd-41", status("01", "", sender="H41", organ="H54"))
    tree.clock.now_ms += 3000 * DAY_MS
    await tree[H41].duties.housekeeper.round()
    assert tree[H41].count("outbox") == 1


async def test_more_than_a_batch_expires_in_one_round(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    site = tree[H41]
    for number in range(8):
        await site.send("ubnd-41", document("H54.02", number=str(number)))
    tree.clock.now_ms += OVER_MS + 1
    assert await site.duties.housekeeper.expire() == 8
    assert site.count("outbox") == 0


async def test_a_row_that_was_offered_between_the_look_and_the_end_is_left_alone(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decision 6: housekeeping races with the road; the writer decides."""
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02"))
    tree.clock.now_ms += OVER_MS + 1
    really = site.store.expired

    async def expired(*values: Any) -> Any:
        found = await really(*values)
        await site.store.ask(HUB, EVERYTHING, stands=False)
        return found

    monkeypatch.setattr(site.store, "expired", expired)
    await site.duties.housekeeper.expire()
    assert site.rows("SELECT in_doubt FROM outbox") == [(1,)]
    assert await sent(tree) == {"H54.02": "queued"}
    assert await site.inbox("ubnd-41", "status") == []


async def test_content_goes_when_its_retention_is_over_and_its_file_with_it(tree: Tree) -> None:
    """Decision 14: the origin keeps a package until its final verdict, and 72 h more for a restored neighbour."""
    site = tree[H41]
    tree.run()
    await site.send("ubnd-41", document("H54.02", content=os.urandom(300_000)))
    (line,) = await tree.until(lambda: tree[H54].inbox("thai-binh"))
    for days in (1, 30):
        tree.clock.now_ms += days * DAY_MS
        await site.duties.housekeeper.forget()
        assert len(files(site.folder)) == 1, "no verdict yet"
    await tree[H54].fetch("thai-binh", line.doc_id)
    await tree[H54].report("thai-binh", line.doc_id, "done")

    async def collected() -> bool:
        return await sent(tree) == {"H54.02": "collected"}

    await tree.until(collected)
    tree.clock.now_ms += 3 * DAY_MS + 60_000
    await site.duties.housekeeper.forget()
    assert files(site.folder) == []
    assert site.count("body") == site.count("envelope") == 0
    assert len(files(tree[H54].folder)) == 1, "the receiver's node keeps what was collected for longer"
    assert await sent(tree) == {"H54.02": "collected"}


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "bodies").rglob("*") if path.is_file()]


async def test_the_room_of_what_was_forgotten_is_used_again(tree: Tree) -> None:
    """Contents in rows too: the database is no larger after the third year's documents than after the first's."""
    site = tree[H41]
    pages: list[int] = []
    for year in range(3):
        for number in range(12):
            await site.send("ubnd-41", document("H41.05", number=f"{year}-{number}", content=os.urandom(60_000)))
        for line in await site.inbox("so-y-te"):
            await site.fetch("so-y-te", line.doc_id)
            await site.report("so-y-te", line.doc_id, "done")
        pages += site.rows("PRAGMA page_count")[0]
        tree.clock.now_ms += 400 * DAY_MS
        await site.duties.housekeeper.forget()
        assert site.rows("SELECT sum(length(data)) FROM body") == [(None,)]
        ((free,),) = site.rows("PRAGMA freelist_count")
        assert free * 4096 > 12 * 60_000
    assert pages[2] < pages[0] * 1.2


async def test_parts_of_bodies_that_nobody_finishes_go_too(tree: Tree) -> None:
    site = tree[HUB]
    for age_days in (6, 8):
        digest = f"{age_days:064}"
        await site.bodies.receive(H41, digest, 0, b"part")
        seconds = (NOW_MS - age_days * DAY_MS) // 1000
        os.utime(site.folder / "bodies" / "partial" / f"H41-{digest}", (seconds, seconds))
    await site.duties.housekeeper.round()
    assert [path.name for path in files(site.folder)] == [f"H41-{6:064}"]


async def test_a_round_reads_the_registers_again_and_a_full_disk_only_postpones_it(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round never takes the node down."""
    site = tree[H41]
    rounds = []
    tried = asyncio.Event()

    def refresh() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            tried.set()

    async def fails(*values: Any) -> Any:
        raise Deferred(30, Reason.DISK_FULL)

    monkeypatch.setattr(site.duties.housekeeper, "_refresh", refresh)
    monkeypatch.setattr(site.duties.housekeeper, "_sweep_s", 0.001)
    monkeypatch.setattr(site.store, "expired", fails)
    running = asyncio.create_task(site.duties.housekeeper.run())
    async with asyncio.timeout(20):
        await tried.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_forgetting_goes_on_until_nothing_is_left_to_forget(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    site = tree[H41]
    for number in range(7):
        await site.send("ubnd-41", document("H41.05", number=str(number)))
    for line in await site.inbox("so-y-te"):
        await site.fetch("so-y-te", line.doc_id)
        await site.report("so-y-te", line.doc_id, "done")
    tree.clock.now_ms += 400 * DAY_MS
    await site.duties.housekeeper.forget()
    assert [site.count(table) for table in ("envelope", "body", "submission", "delivery", "mailbox", "seen")] == [0] * 6
    assert site.count("journal") > 0, "the history stays"

"""The composition root: what a node knows of the world around it, and what it hands to its doors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from node import app, process, reporting
from node.adapters import registry
from node.adapters.bodies.files import HostFiles
from node.adapters.directory_file import DirectoryFile, dump
from node.adapters.sqlite.writer import StoreFailed
from node.core.directory import Directory
from node.core.errors import Reason, Refused
from node.core.office import System
from node.core.routing import Deliver, Forward, Refuse, decide
from node.core.wire import Batch
from node.office_door import OfficeDoor
from node.surroundings import Surroundings
from node.uplink import ANSWERS_AT_ONCE, BODIES_AT_ONCE
from tests.adapters.pki import Clock
from tests.tree import DIRECTORY, H41, H54, HUB, SYSTEMS, UNIT, Site, Tree, document, org, planted


class World:
    """The two files of node H41, and what it makes of them."""

    def __init__(self, folder: Path) -> None:
        self.directory_file = folder / "directory.json"
        self.systems_file = folder / "systems.json"
        self.write(DIRECTORY)
        registry.save(self.systems_file, SYSTEMS[H41])
        self.clock = Clock()
        self.registry = registry.Registry(self.systems_file)
        self.around = Surroundings(H41, DirectoryFile(self.directory_file), self.registry, self.clock)

    def write(self, directory: Directory | str) -> None:
        """A new file each time, as an editor or `truc` would leave it."""
        temporary = self.directory_file.with_suffix(".new")
        temporary.write_text(directory if isinstance(directory, str) else dump(directory), encoding="utf-8")
        temporary.replace(self.directory_file)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- the directory ----------------------------------------------------------------------------------------------------------


def test_a_directory_that_changed_is_read_again(world: World) -> None:
    newer = replace(
        DIRECTORY, version=2, entries=(*DIRECTORY.entries, replace(DIRECTORY.entries[0], code=org("H41.55"), old_code=""))
    )
    world.write(newer)
    assert world.around.directory.version == 1, "not before the next round"
    world.around.refresh()
    assert world.around.directory.version == 2
    assert decide(world.around.table(), org("H41.55")) == Deliver()


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        dump(DIRECTORY).replace('"version": 1', '"version": "một"'),
        dump(replace(DIRECTORY, version=2, nodes=DIRECTORY.nodes[:1])),  # a directory that has forgotten this very node
    ],
)
def test_a_directory_that_turned_bad_leaves_the_last_good_one_in_use(world: World, broken: str) -> None:
    """Decision 13: traffic goes on; and the two views of it, names and routes, never differ."""
    before = world.around.table()
    world.write(broken)
    for _ in range(2):
        world.around.refresh()
        assert world.around.directory == DIRECTORY
        assert world.around.table() == before
    world.clock.now_ms += 86_400_000
    assert world.around.table() == before, "also on the next day, when routes are made anew"
    world.write(replace(DIRECTORY, version=3))
    world.around.refresh()
    assert world.around.directory.version == 3


def test_a_directory_that_went_away_is_missed_but_not_needed(world: World) -> None:
    world.directory_file.unlink()
    world.around.refresh()
    assert world.around.directory == DIRECTORY
    world.write(replace(DIRECTORY, version=2))
    world.around.refresh()
    assert world.around.directory.version == 2


def test_a_file_of_the_same_size_and_time_is_another_file_all_the_same(world: World) -> None:
    facts = world.directory_file.stat()
    world.write(replace(DIRECTORY, version=7))
    os.utime(world.directory_file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    world.around.refresh()
    assert world.around.directory.version == 7


# --- the table ----------------------------------------------------------------------------------------------------------------


def test_the_table_says_where_every_code_goes_from_here(world: World) -> None:
    table = world.around.table()
    assert decide(table, H41) == Deliver()
    assert decide(table, UNIT) == Forward(UNIT)
    assert decide(table, org("H54.02")) == Forward(HUB)
    assert decide(table, org("H41.99")) == Refuse(Reason.RECIPIENT_UNKNOWN)


def test_an_organ_waits_in_the_mailbox_even_before_a_system_is_registered_for_it(world: World) -> None:
    assert org("H41.05") in world.around.table().served
    registry.save(world.systems_file, ())
    assert decide(world.around.table(), org("H41.05")) == Deliver()


def test_a_system_that_is_registered_later_is_served_at_once(world: World) -> None:
    assert decide(world.around.table(), org("H41.77")) == Refuse(Reason.RECIPIENT_UNKNOWN)
    registry.save(world.systems_file, (*SYSTEMS[H41], System("moi", (org("H41.77"),), ("mật-khẩu",))))
    assert decide(world.around.table(), org("H41.77")) == Deliver()
    registry.save(world.systems_file, (*SYSTEMS[H41], System("moi", (org("H41.77"),), ("mật-khẩu",), disabled=True)))
    assert decide(world.around.table(), org("H41.77")) == Refuse(Reason.RECIPIENT_UNKNOWN)


def test_an_organ_is_served_from_the_day_on_which_its_connection_begins(world: World) -> None:
    """Vietnam's day decides. # QĐ 28/2018 Điều 14.4, 21.1"""
    later = replace(DIRECTORY.entries[0], code=org("H41.66"), old_code="", connection_from=date(2031, 3, 2))
    world.write(replace(DIRECTORY, entries=(*DIRECTORY.entries, later)))
    world.around.refresh()
    assert decide(world.around.table(), org("H41.66")) == Refuse(Reason.RECIPIENT_UNKNOWN)
    world.clock.now_ms += 5 * 3_600_000 - 1  # 12:00 UTC is 19:00 in Hà Nội
    assert decide(world.around.table(), org("H41.66")) == Refuse(Reason.RECIPIENT_UNKNOWN)
    world.clock.now_ms += 1
    assert decide(world.around.table(), org("H41.66")) == Deliver()


# --- the doors ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path, HUB, H41) as found:
        yield found


def office(site: Site) -> OfficeDoor:
    return OfficeDoor(
        site.ground.registry, site.duties.intake, site.duties.mailbox, site.surroundings, site.duties.timing, site.duties.reports
    )


async def test_an_office_door_is_intake_mailbox_and_directory_as_one(tree: Tree) -> None:
    site = tree[H41]
    door = office(site)
    system = door.system("ubnd-41")
    assert system is not None
    assert door.system("không có") is None
    taken = await site.send("ubnd-41", document("H41.05"))
    assert await door.owns_sent(system, taken.doc_id)
    other = door.system("so-y-te")
    assert other is not None
    assert await door.count(other, "edoc") == 1
    assert [line.doc_id for line in await door.waiting(other, "edoc")] == [taken.doc_id]
    assert await door.open_deliveries(other, [taken.doc_id]) == [taken.doc_id]
    fetched = await door.fetch(other, taken.doc_id)
    assert fetched.size == len(b"".join([chunk async for chunk in fetched.chunks]))
    await door.settle(other, taken.doc_id, "done")
    assert [line.send_state for line in await door.sent(system, "edoc", None)] == ["collected"]
    assert await door.agencies() == DIRECTORY.entries, "closed ones too: an office must find the successor"
    assert await door.request_agency(system, "register", {"code": "H41.99"}) == 1
    assert (await door.statistics("day", "", "", ""))["node"] == "H41"
    with pytest.raises(Refused, match="reconcile"):
        await door.statistics("reconcile", "31", "", "")


async def test_a_child_that_pushes_is_seen(tree: Tree) -> None:
    door = tree.door(HUB)
    assert await door.push(H41, Batch()) == ()
    neighbour = tree[HUB].duties.forwarder.neighbours[H41]
    assert (neighbour.up, neighbour.last_seen_ms) == (True, tree.clock.now_ms)


async def test_a_hub_has_no_uplink_and_other_nodes_have_its_loops(tree: Tree) -> None:
    hub, below = tree[HUB], tree[H41]
    assert app.uplink(hub.settings, hub.ground, hub.duties, below.line, "s") == []
    loops = app.uplink(below.settings, below.ground, below.duties, below.line, "s")
    bodies = [name for name in ("run_uploads", "run_downloads") for _ in range(BODIES_AT_ONCE)]
    answers = ["run_answers"] * ANSWERS_AT_ONCE
    assert [loop.__name__ for loop in loops] == ["run_push", "run_pull", *bodies, *answers, "run_upward"]
    assert list(hub.duties.forwarder.neighbours) == [H41, H54]
    assert list(below.duties.forwarder.neighbours) == [HUB, UNIT]


async def test_a_batch_leaves_room_for_frames_and_wrappers(tree: Tree) -> None:
    """A full batch must pass the neighbour's own limit."""
    section = tree[H41].settings.link
    assert tree[H41].uplink._pace.batch_bytes == section.batch_bytes_max * 3 // 4
    assert tree[H41].duties.forwarder._bounds.batch_bytes == section.batch_bytes_max * 3 // 4


# --- the ground ---------------------------------------------------------------------------------------------------------------


async def test_the_data_folder_is_durable_before_anything_is_opened_in_it(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decision 3: else a power cut could take it with every acknowledged document."""
    synced: list[Path] = []

    class Locked(Exception):
        """Reached."""

    def lock(folder: Path) -> None:
        assert folder.stat().st_mode & 0o777 == 0o700
        raise Locked

    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(os.readlink(f"/proc/self/fd/{handle}"))))
    monkeypatch.setattr(app, "FolderLock", lock)
    settings = tree[HUB].settings
    node = settings.node.model_copy(update={"data_dir": tmp_path / "above" / "data"})
    settings = settings.model_copy(update={"node": node})
    for expected in ({tmp_path, tmp_path / "above"}, {tmp_path / "above"}):
        with pytest.raises(Locked):
            await app.Application(settings).serve(asyncio.Event())
        assert set(synced) == expected
        synced.clear()


@pytest.mark.parametrize(
    ("error", "leaves"), [(StoreFailed("gone"), True), (OSError(5, "EIO"), True), (ValueError("ours"), False)]
)
async def test_an_error_of_the_disk_ends_the_process_at_once_and_a_bug_of_ours_falls_with_the_group(
    error: Exception, leaves: bool
) -> None:
    """Decision 3: winding down would repeat the sync that failed."""
    left: list[Exception] = []

    async def loop() -> None:
        raise error

    with pytest.raises(type(error)):
        await process.ending_with_the_disk(loop, left.append)()
    assert left == ([error] if leaves else [])


async def test_reports_are_laid_into_the_folder_that_the_owner_names(tree: Tree, tmp_path: Path) -> None:
    site, folder = tree[H41], tmp_path / "bao-cao"
    assert reporting.deliverer(site.settings, site.duties.reports, tree.clock, site.tally, HostFiles(tmp_path)) == []
    folder.mkdir()
    settings = site.settings.model_copy(update={"report": site.settings.report.model_copy(update={"deliver": folder})})
    files = HostFiles(tmp_path)
    try:
        for _ in range(2):
            await site.duties.reporter.state_due()
            tree.clock.now_ms += 86_400_000
        (loop,) = reporting.deliverer(settings, site.duties.reports, tree.clock, site.tally, files)
        await loop.__self__.deliver()  # type: ignore[attr-defined]
    finally:
        files.close()
    assert {path.suffix for path in folder.glob("day-*")} == {".html", ".json", ".xlsx"}
    assert not list(folder.glob("year-*")), "of a time before anything was counted there is no report"
    assert site.tally.value("truc_reports_total", result="written") >= 1

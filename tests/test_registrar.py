"""What is said of the directory at one node is known at all of them, and what nobody may say is believed by none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from node.adapters import directory_file
from node.core.changes import DOMAIN, Books, Change, CodeRow, Held, NodeRow, encode, held, next_change
from node.core.directory import Directory, Entry, NodeEntry
from node.core.directory_wire import Exchange
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.wanted import Wanted
from node.registrar import RECONCILE_MS
from tests.tree import DIRECTORY, H41, H54, HUB, UNIT, Site, Tree, org, planted

H4105 = org("H41.05")
TODAY = date(2026, 11, 22)


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path, HUB, H41, H54, UNIT) as found:
        yield found


def run(tree: Tree) -> None:
    for code in tree.sites:
        tree[code].run("directory", *(["pull"] if code != HUB else []))


def renamed(site: Site, code: OrgId, name: str) -> Wanted:
    history = site.surroundings.directory.history(code)
    return Wanted(codes={code: (*history[:-1], replace(history[-1], name=name))})


def name(site: Site, code: OrgId) -> str:
    return site.surroundings.directory.name(code, TODAY)


def alike(tree: Tree) -> bool:
    """All nodes have the hub's word, and the same one."""
    return (
        len({site.duties.registrar.books.digest() for site in tree.sites.values()}) == 1
        and tree[UNIT].duties.registrar.folded is not None
    )


def forged(site: Site, author: OrgId, signer: Site, **rows: tuple[CodeRow, ...] | tuple[NodeRow, ...]) -> Held:
    """A change in somebody's name, signed by whom it may."""
    change = replace(next_change(site.duties.registrar.books, author, 1, site.tree.clock.utc_ms()), **rows)  # type: ignore[arg-type]
    return signed(change, signer)


def signed(change: Change, signer: Site) -> Held:
    body = encode(change)
    return held(body, signer.signer.sign(DOMAIN + body), signer.signer.key_id)


def brought(site: Site, *changes: Held) -> Exchange:
    """What a neighbour says that brings these, with the chains of all nodes."""
    chains = {each.signer.key_id: each.signer.chain_pem for each in site.tree.sites.values()}
    return Exchange(site.duties.registrar.books.heads(), changes, chains)


async def test_a_word_of_a_province_reaches_all_nodes_and_outlives_a_restart(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    await tree[H41].duties.registrar.act(renamed(tree[H41], H4105, "Sở Y tế mới"), "QĐ 1", {"who": "người thử"})
    await tree.until(lambda: {name(site, H4105) for site in tree.sites.values()} == {"Sở Y tế mới"})
    assert alike(tree)
    for site in tree.sites.values():  # what people and other programs read is in step
        await tree.until(lambda site=site: directory_file.load(site.folder / "directory.json") == site.surroundings.directory)  # type: ignore[misc]
    await tree.crash(UNIT)
    assert name(tree[UNIT], H4105) == "Sở Y tế mới"
    assert tree[UNIT].duties.registrar.books.digest() == tree[HUB].duties.registrar.books.digest()


async def test_before_the_hub_was_heard_the_file_counts_and_nothing_is_said(tree: Tree) -> None:
    with pytest.raises(Deferred):
        await tree[H41].duties.registrar.act(renamed(tree[H41], H4105, "sớm"), "", {})
    tree[H41].surroundings.edited(replace(DIRECTORY, version=9))
    assert tree[H41].surroundings.directory.version == 9
    assert not tree[H41].duties.registrar.state()["signed"]


async def test_nobody_says_what_another_administers_nor_what_breaks_a_law(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    before = tree[H41].duties.registrar.books.digest()
    for code in (H41, H54, org("H54.02")):
        with pytest.raises(Refused) as caught:
            await tree[H41].duties.registrar.act(renamed(tree[H41], code, "lạ"), "", {})
        assert caught.value.reason is Reason.DIRECTORY_OUTSIDE
    lost = replace(DIRECTORY.history(H4105)[0], valid_to=TODAY, successor=org("H41.99"))
    with pytest.raises(Refused) as caught:
        await tree[H41].duties.registrar.act(Wanted(codes={H4105: (lost,)}), "", {})
    assert caught.value.reason is Reason.DIRECTORY_LAW
    assert tree[H41].duties.registrar.books.digest() == before


@pytest.mark.parametrize("years", [-9, 9])
async def test_with_a_clock_that_nobody_would_believe_nothing_is_said(tree: Tree, years: int) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    tree.clock.now_ms += years * 365 * 86_400_000
    with pytest.raises(Refused) as caught:
        await tree[H41].duties.registrar.act(renamed(tree[H41], H4105, "lạc giờ"), "", {})
    assert caught.value.reason is Reason.ORIGIN_SIGNATURE
    tree.clock.now_ms -= years * 365 * 86_400_000
    await tree[H41].duties.registrar.act(renamed(tree[H41], H4105, "đúng giờ"), "", {})
    await tree.until(lambda: {name(site, H4105) for site in tree.sites.values()} == {"đúng giờ"})


async def test_a_change_that_its_author_did_not_sign_is_refused_and_named(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    hub, rows = tree[HUB], (CodeRow(H4105, 9, (Entry(H4105, "giả"),)),)
    altered = replace(forged(hub, H41, tree[H41], codes=rows), signature=b"\x30\x06\x02\x01\x01\x02\x01\x01")
    with capture_logs() as said:
        for change in (forged(hub, H41, tree[H54], codes=rows), altered):
            await hub.duties.registrar.answer(H54, brought(hub, change))
    assert [(line["reason"], line["author"]) for line in said if line["event"] == "change of the directory refused"] == [
        ("signature", "H41")
    ] * 2
    assert hub.tally.value("truc_directory_refused_total", reason="signature") == 2
    assert name(hub, H4105) != "giả"


async def test_who_is_no_node_has_nothing_to_say_and_one_that_was_named_just_now_has(tree: Tree) -> None:
    """Whoever may sign for many names cannot fill the books of all nodes with their logs."""
    run(tree)
    await tree.until(lambda: alike(tree))
    hub, stranger = tree[HUB], org("H41.66")
    hub.ground.verifier.attest = lambda *told: None  # type: ignore[method-assign]  # its issuer would sign for it
    said = signed(Change(stranger, 1, 1, "", tree.clock.utc_ms(), codes=(CodeRow(org("H41.66.01"), 1, ()),)), tree[H41])
    with capture_logs() as logs:
        await hub.duties.registrar.answer(H41, brought(hub, said))
    assert stranger not in hub.duties.registrar.books.logs
    assert [line["reason"] for line in logs if line["event"] == "change of the directory refused"] == ["stranger"]
    assert hub.tally.value("truc_directory_refused_total", reason="stranger") == 1
    node = NodeEntry(stranger, "nút mới", "", H41, (stranger,))
    named = forged(hub, H41, tree[H41], nodes=(NodeRow(stranger, 1, node),))
    await hub.duties.registrar.answer(H41, brought(hub, named, said))
    assert stranger in hub.duties.registrar.books.logs


async def test_a_peer_that_claims_another_s_prefixes_is_set_aside_everywhere_and_named(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    claim = NodeEntry(org("H41.66"), "kẻ lạ", "", H41, (org("H41.66"), org("H54.02")))
    own = NodeRow(H54, 9, NodeEntry(H54, "chiếm", "", H41, (H54,)))
    change = forged(tree[H41], H41, tree[H41], nodes=(NodeRow(claim.code, 1, claim), own), codes=(CodeRow(H54, 9, ()),))
    await tree[HUB].duties.registrar.answer(H41, brought(tree[HUB], change))
    await tree.until(lambda: alike(tree))
    for site in tree.sites.values():
        directory = site.surroundings.directory
        assert directory.owner(org("H54.02")) == H54
        assert directory.node(claim.code) is None
        assert directory.node(H54) == DIRECTORY.node(H54)
        assert site.duties.registrar.state()["aside"] == 3


async def test_a_directory_that_breaks_a_law_is_used_but_no_node_fails_to_start_with_it(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    lost = replace(DIRECTORY.history(H4105)[0], name="mất", successor=org("H41.99"))
    await tree[HUB].duties.registrar.answer(
        H41, brought(tree[HUB], forged(tree[H41], H41, tree[H41], codes=(CodeRow(H4105, 9, (lost,)),)))
    )
    await tree.until(lambda: {name(site, H4105) for site in tree.sites.values()} == {"mất"} and alike(tree))
    for site in tree.sites.values():
        await tree.until(lambda site=site: site.tally.value("truc_directory_refused_total", reason="file-behind"))  # type: ignore[misc]
    for code in (UNIT, H54, HUB):
        assert name(await tree.crash(code), H4105) == "mất"


async def test_a_node_that_was_removed_by_mistake_starts_again_with_what_it_knew(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    await tree[HUB].duties.registrar.act(Wanted(nodes={H54: None}), "", {})
    await tree.until(lambda: alike(tree))
    again = await tree.crash(H54)
    assert again.surroundings.directory.node(H54) == DIRECTORY.node(H54)
    assert again.tally.value("truc_directory_refused_total", reason="unusable")


async def test_a_neighbour_that_goes_back_is_named_and_is_given_what_it_lost(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    old = tree[HUB].duties.registrar._books
    await tree[HUB].duties.registrar.act(renamed(tree[HUB], H54, "tên mới"), "", {})
    await tree.until(lambda: alike(tree))
    with capture_logs() as said:
        tree[HUB].duties.registrar._books = old  # as a store that was put back by hand
        tree[HUB].duties.registrar._apply()
        tree[H54].duties.registrar.stir()
        await tree.until(lambda: name(tree[HUB], H54) == "tên mới" and alike(tree))
    assert "neighbour went back to an older directory" in {line["event"] for line in said}
    assert {name(site, H54) for site in tree.sites.values()} == {"tên mới"}


async def test_two_changes_that_exclude_each_other_are_an_alarm_and_the_first_stays(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    hub = tree[HUB]
    one, other = (forged(hub, H41, tree[H41], codes=(CodeRow(H4105, 2, (Entry(H4105, text),)),)) for text in ("một", "hai"))
    await hub.duties.registrar.answer(H41, brought(hub, one))
    await hub.duties.registrar.answer(H41, brought(hub, other))
    assert name(hub, H4105) == "một"
    assert hub.duties.registrar.state()["forked"] == ["H41"]


async def test_nobody_is_accused_of_two_words_that_it_did_not_sign_and_a_refused_log_is_named_once(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    hub = tree[HUB]
    first = hub.duties.registrar.books.logs[HUB][0].change
    others = [signed(replace(first, why=f"giả {number}"), tree[H54]) for number in range(100)]
    with capture_logs() as said:
        await hub.duties.registrar.answer(H54, brought(hub, *others))
    assert hub.duties.registrar.state()["forked"] == []
    assert [line["reason"] for line in said if line["log_level"] == "error"] == ["signature"]


async def test_an_edit_of_the_file_is_an_act_and_an_older_file_is_not_used(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    hub = tree[HUB]
    before = hub.surroundings.directory
    entries = tuple(replace(each, name="theo tệp") if each.code == H54 else each for each in before.entries)
    path = hub.folder / "directory.json"
    path.write_text(directory_file.dump(replace(before, entries=entries, version=before.version + 1)), encoding="utf-8")
    hub.surroundings.refresh()
    await tree.until(lambda: {name(site, H54) for site in tree.sites.values()} == {"theo tệp"})
    await tree.until(lambda: directory_file.load(path).version == hub.surroundings.directory.version)
    path.write_text(directory_file.dump(before), encoding="utf-8")
    hub.surroundings.refresh()
    await tree.until(lambda: hub.tally.value("truc_directory_refused_total", reason="file-old") == 1)
    await tree.until(lambda: directory_file.load(path) == hub.surroundings.directory)
    assert name(tree[UNIT], H54) == "theo tệp"


def edited(site: Site, before: Directory, version: int, name: str, *more: Entry) -> None:
    """Somebody puts a file in the place of the one there is, made from one of before."""
    entries = tuple(replace(each, name=name) if each.code == H54 else each for each in before.entries)
    text = directory_file.dump(replace(before, entries=(*entries, *more), version=version))
    (site.folder / "directory.json").write_text(text, encoding="utf-8")
    site.surroundings.refresh()


async def test_who_edits_a_file_does_not_undo_what_was_said_meanwhile(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    hub, before = tree[HUB], tree[HUB].surroundings.directory
    await tree[H41].duties.registrar.act(renamed(tree[H41], H4105, "tỉnh vừa đổi"), "", {})
    await tree.until(lambda: alike(tree) and directory_file.load(hub.folder / "directory.json") == hub.surroundings.directory)
    edited(hub, before, before.version + 1, "theo tệp")
    await tree.until(lambda: name(tree[UNIT], H54) == "theo tệp" and alike(tree))
    assert name(hub, H4105) == "tỉnh vừa đổi"
    assert hub.tally.value("truc_directory_refused_total", reason="file-old") == 1
    edited(hub, before, before.version, "cũ", Entry(org("H70"), "thêm vào tệp cũ"))  # as enrolment does, when it is overtaken
    await tree.until(lambda: name(tree[UNIT], org("H70")) and alike(tree))
    assert name(hub, H54) == "theo tệp"


async def test_an_edit_of_the_file_waits_for_a_disk_that_is_full(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    hub, before = tree[HUB], tree[HUB].surroundings.directory
    tried: list[None] = []

    async def full(*_: object) -> None:
        tried.append(None)
        tree.stirred.set()
        raise Deferred(1, Reason.NOT_NOW)

    with monkeypatch.context() as patch:
        patch.setattr(hub.store, "keep_directory", full)
        edited(hub, before, before.version + 1, "theo tệp")
        await tree.until(lambda: tried)
    await tree.until(lambda: name(tree[UNIT], H54) == "theo tệp")


async def test_who_cannot_say_its_own_hears_others_all_the_same(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused() -> None:
        raise Refused(Reason.ORIGIN_SIGNATURE, "validity")

    monkeypatch.setattr(tree[H41].duties.registrar, "_start", refused)
    run(tree)
    await tree.until(lambda: alike(tree))


async def test_a_file_cannot_say_what_another_node_has_to_say(tree: Tree) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    unit = tree[H41]
    entries = tuple(replace(each, name=f"{each.name}!") for each in unit.surroundings.directory.entries)
    unit.surroundings.edited(replace(unit.surroundings.directory, entries=entries))
    await tree.until(lambda: name(tree[HUB], H4105).endswith("!"))
    assert unit.tally.value("truc_directory_refused_total", reason="file-outside") == len(entries) - 2
    assert not name(tree[HUB], H54).endswith("!")


async def put_back(site: Site, books: Books) -> None:
    """The node starts with a store from a backup that ended with these books."""
    registrar = site.duties.registrar
    kept = [(each.body, each.signature, each.key) for log in books.logs.values() for each in log]

    async def directory_kept() -> tuple[list[tuple[bytes, bytes, str]], dict[str, bytes]]:
        return kept, registrar._chains

    site.store.directory_kept = directory_kept  # type: ignore[method-assign]
    site.store.epoch = 2
    registrar._books = Books()
    await registrar.prepare()
    registrar.stir()


@pytest.mark.parametrize("code", [H41, HUB])
async def test_a_store_that_was_restored_hears_what_it_said_since_the_backup_and_then_says_all_anew(
    tree: Tree, code: OrgId
) -> None:
    run(tree)
    await tree.until(lambda: alike(tree))
    registrar = tree[code].duties.registrar
    await registrar.act(renamed(tree[code], H4105, "một"), "", {})
    await tree.until(lambda: alike(tree))
    backup = registrar.books
    opened = org("H41.77")
    await registrar.act(Wanted(codes={opened: (Entry(opened, "mới mở"),)}), "", {})
    await tree.until(lambda: alike(tree))
    await put_back(tree[code], backup)
    with pytest.raises(Deferred):
        await registrar.act(renamed(tree[code], H4105, "sớm"), "", {})
    await tree.until(lambda: name(tree[code], opened) == "mới mở")
    tree.clock.now_ms += RECONCILE_MS
    registrar.stir()
    await tree.until(lambda: alike(tree) and registrar.books.head(code) == (2, 1))
    assert {name(tree[each], opened) for each in tree.sites} == {"mới mở"}
    assert name(tree[UNIT], H4105) == "một"
    await registrar.act(renamed(tree[code], H4105, "hai"), "", {})


def test_books_of_nothing_have_a_name_of_their_own() -> None:
    assert Books().digest() == Books().digest()
    assert Books().version == 0


class Files:
    """A calendar folder, and a calendar that remembers what it was told."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.told: dict[tuple[OrgId, str], str] = {}

    def files(self) -> dict[str, str]:
        return self.kept

    def take(self, told: Mapping[tuple[OrgId, str], str], within: Callable[[OrgId, OrgId], bool]) -> None:
        self.told = dict(told)


async def test_the_hubs_calendar_folder_reaches_all_nodes_and_a_province_says_its_hours(tree: Tree) -> None:
    calendars = {code: Files() for code in tree.sites}
    calendars[HUB].kept = {"2027": "năm"}
    calendars[H41].kept = {"2027": "năm của tỉnh", "hours": "giờ"}
    for code, site in tree.sites.items():
        site.duties.registrar.calendar = calendars[code]
    run(tree)
    expected = {(HUB, "2027"): "năm", (H41, "hours"): "giờ"}
    await tree.until(lambda: all(each.told == expected for each in calendars.values()))
    calendars[HUB].kept = {"2027": "đính chính"}
    tree[HUB].duties.registrar.calendar_edited()
    await tree.until(lambda: all(each.told[HUB, "2027"] == "đính chính" for each in calendars.values()))
    assert alike(tree)

"""Documents out: an office sees what waits for it, gets it byte for byte, and its word ends the delivery."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.adapters.http.vxp_answers import received_line
from node.core.custody import FIRST
from node.core.directory import Connection
from node.core.errors import Deferred, Reason, Refused
from node.core.office import WHOLE_BYTES, Given, Listed, Page, Waiting, fitting
from node.core.package import Priority
from node.mailbox import WORDS, describe
from tests.making import EVERYTHING
from tests.tree import H41, H54, HUB, PATIENCE_S, Site, Tree, document, hold, org, planted, refused_with, status


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    """One node, whose offices write to each other."""
    async with planted(tmp_path, H41) as found:
        yield found


async def deliver(tree: Tree, **more: Any) -> Waiting:
    """A document of the province lies before its department of health."""
    taken = await tree[H41].send("ubnd-41", document("H41.05", **more))
    return next(line for line in await tree[H41].inbox("so-y-te") if line.doc_id == taken.doc_id)


async def state(tree: Tree) -> str:
    return (await tree[H41].sent("ubnd-41"))["H41.05"].send_state


# --- fetch and done -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 400_000])
async def test_an_office_gets_the_bytes_that_were_handed_in(tree: Tree, size: int) -> None:
    """Decision 2. # QĐ 28/2018 Điều 6.1, 10.1"""
    data = document("H41.05", content=os.urandom(size))
    taken = await tree[H41].send("ubnd-41", data)
    assert await tree[H41].fetch("so-y-te", taken.doc_id) == data
    assert await tree[H41].fetch("so-y-te", taken.doc_id) == data, "as often as it wants"


async def test_done_ends_the_delivery_and_the_sender_sees_it(tree: Tree) -> None:
    """QĐ 28/2018 Điều 6.3, 9.2"""
    line = await deliver(tree)
    assert await state(tree) == "in-mailbox"
    await tree[H41].fetch("so-y-te", line.doc_id)
    assert await state(tree) == "in-mailbox", "fetched is not yet received: the office may have lost it"
    await tree[H41].report("so-y-te", line.doc_id, "done")
    assert await tree[H41].inbox("so-y-te") == []
    assert await state(tree) == "collected"
    assert tree[H41].tally.value("truc_deliveries_total", result="collected") == 1
    assert tree[H41].tally.value("truc_delivery_seconds") == 1


async def test_done_twice_is_well_twice_and_one_delivery(tree: Tree) -> None:
    line = await deliver(tree)
    await tree[H41].fetch("so-y-te", line.doc_id)
    for _ in range(2):
        await tree[H41].report("so-y-te", line.doc_id, "done")
    assert tree[H41].rows("SELECT count(*) FROM ledger WHERE event='collected'") == [(1,)]
    assert await tree[H41].fetch("so-y-te", line.doc_id), "and what was collected may be fetched again"


async def test_done_before_the_first_fetch_takes_effect_with_it(tree: Tree) -> None:
    """It is answered well and remembered: the item stays listed until fetched once."""
    line = await deliver(tree)
    await tree[H41].report("so-y-te", line.doc_id, "done")
    assert len(await tree[H41].inbox("so-y-te")) == 1
    assert await state(tree) == "in-mailbox"
    await tree[H41].fetch("so-y-te", line.doc_id)
    assert await tree[H41].inbox("so-y-te") == []
    assert await state(tree) == "collected"


async def test_a_download_that_broke_off_does_not_make_an_early_done_true(tree: Tree) -> None:
    line = await deliver(tree, content=os.urandom(400_000))
    await tree[H41].report("so-y-te", line.doc_id, "done")
    fetched = await tree[H41].duties.mailbox.fetch(tree[H41].system("so-y-te"), line.doc_id)
    async for _ in fetched.chunks:
        break
    await fetched.chunks.aclose()  # type: ignore[attr-defined]
    assert len(await tree[H41].inbox("so-y-te")) == 1


async def test_the_confirmation_crosses_the_tree_and_only_then_the_sender_sees_collected(tmp_path: Path) -> None:
    async with planted(tmp_path, run=True) as tree:
        await tree[H41].send("ubnd-41", document("H54.02"))
        (line,) = await tree.until(lambda: tree[H54].inbox("thai-binh"))
        assert (await tree[H41].sent("ubnd-41"))["H54.02"].send_state in ("queued", "moving")
        await tree[H54].fetch("thai-binh", line.doc_id)
        await tree[H54].report("thai-binh", line.doc_id, "done")

        async def collected() -> bool:
            sent = (await tree[H41].sent("ubnd-41"))["H54.02"]
            return (sent.send_state, sent.receiver_doc_id) == ("collected", line.doc_id)

        await tree.until(collected)
        assert tree[H41].rows("SELECT event FROM ledger ORDER BY seq") == [("sent",), ("known-collected",)]


async def test_an_office_that_hangs_up_does_not_keep_its_confirmation_back(tmp_path: Path) -> None:
    async with planted(tmp_path) as tree:
        tree.run()
        await tree[H41].send("ubnd-41", document("H54.02"))
        site = tree[H54]
        (line,) = await tree.until(lambda: site.inbox("thai-binh"))
        await site.fetch("thai-binh", line.doc_id)
        await site.rest()
        gate, entered = asyncio.Event(), asyncio.Event()
        hold(site, gate, entered)
        call = asyncio.ensure_future(site.report("thai-binh", line.doc_id, "done"))
        await entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        async with asyncio.timeout(PATIENCE_S):
            assert await site.store.ask(HUB, EVERYTHING, stands=True) is not None


# --- processing and fail --------------------------------------------------------------------------------------------------


async def test_processing_is_a_word_on_the_way(tree: Tree) -> None:
    line = await deliver(tree)
    await tree[H41].report("so-y-te", line.doc_id, "processing")
    assert [each.state for each in await tree[H41].inbox("so-y-te")] == ["processing"]


async def test_fail_keeps_it_listed_and_five_hold_it_for_a_person(tree: Tree) -> None:
    line = await deliver(tree)
    for number in range(5):
        assert len(await tree[H41].inbox("so-y-te")) == 1, number
        await tree[H41].report("so-y-te", line.doc_id, "fail")
    assert await tree[H41].inbox("so-y-te") == []
    assert tree[H41].tally.value("truc_held_total", reason="office-fail") == 1
    await tree[H41].report("so-y-te", line.doc_id, "fail")
    await tree[H41].report("so-y-te", line.doc_id, "processing")
    assert tree[H41].rows("SELECT state,fails FROM mailbox") == [("held", 5)]


@pytest.mark.parametrize("fetch_first", [True, False])
async def test_the_offices_own_word_that_it_has_it_ends_even_a_held_delivery(tree: Tree, fetch_first: bool) -> None:
    """Else a person would drop, and the sender hear refused, what the office has."""
    line = await deliver(tree)
    for _ in range(5):
        await tree[H41].report("so-y-te", line.doc_id, "fail")
    if fetch_first:
        await tree[H41].fetch("so-y-te", line.doc_id)
        await tree[H41].report("so-y-te", line.doc_id, "done")
    else:
        await tree[H41].report("so-y-te", line.doc_id, "done")
        assert await state(tree) == "in-mailbox"
        await tree[H41].fetch("so-y-te", line.doc_id)
    assert await state(tree) == "collected"


async def test_other_words_are_refused_with_the_words_there_are(tree: Tree) -> None:
    line = await deliver(tree)
    with pytest.raises(Refused) as caught:
        await tree[H41].report("so-y-te", line.doc_id, "received")
    assert refused_with(caught) is Reason.STATUS_WORD_UNKNOWN
    assert caught.value.rule == " | ".join(WORDS)


# --- whose it is ------------------------------------------------------------------------------------------------------------


async def test_nobody_sees_or_takes_what_waits_for_another(tree: Tree) -> None:
    """QĐ 28/2018 Điều 6.1"""
    line = await deliver(tree)
    site = tree[H41]
    for call in (site.fetch("ubnd-41", line.doc_id), site.report("ubnd-41", line.doc_id, "done")):
        with pytest.raises(Refused) as caught:
            await call
        assert refused_with(caught) is Reason.DOC_UNKNOWN
    assert await site.inbox("ubnd-41") == []
    assert await state(tree) == "in-mailbox"
    bare = replace(site.system("ubnd-41"), codes=())
    mailbox = site.duties.mailbox
    assert await mailbox.waiting(bare, "edoc") == []
    assert await mailbox.count(bare, "edoc") == 0
    assert await mailbox.open_deliveries(bare, [line.doc_id]) == []


async def test_what_is_open_is_named_and_counted(tree: Tree) -> None:
    line, other = await deliver(tree), await deliver(tree, number="2")
    mailbox, system = tree[H41].duties.mailbox, tree[H41].system("so-y-te")
    await tree[H41].fetch("so-y-te", line.doc_id)
    await tree[H41].report("so-y-te", line.doc_id, "done")
    assert await mailbox.open_deliveries(system, [line.doc_id, "không có", other.doc_id]) == [other.doc_id]
    assert await mailbox.count(system, "edoc") == 1
    assert await mailbox.count(system, "status") == 0


async def test_lists_have_a_longest_length(tmp_path: Path) -> None:
    async with planted(tmp_path, H41, options={"office": {"list_max": 2}}) as tree:
        for number in "123":
            await deliver_only(tree, number)
        assert len(await tree[H41].inbox("so-y-te")) == 2
        sent = await tree[H41].duties.mailbox.sent(tree[H41].system("ubnd-41"), "edoc", None)
        assert len(sent) == 2


async def deliver_only(tree: Tree, number: str) -> None:
    await tree[H41].send("ubnd-41", document("H41.05", number=number))


# --- what is not there any more ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20], ids=["read twice", "read once"])
async def test_a_damaged_package_is_never_handed_over(tree: Tree, monkeypatch: pytest.MonkeyPatch, whole_bytes: int) -> None:
    monkeypatch.setattr("node.mailbox.WHOLE_BYTES", whole_bytes)
    """QĐ 28/2018 Điều 6.1: flip a stored byte: detected before delivery, never delivered."""
    line = await deliver(tree, content=os.urandom(400_000))
    ((file,),) = tree[H41].rows("SELECT file FROM body")
    path = tree[H41].folder / "bodies" / file
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Refused) as caught:
        await tree[H41].fetch("so-y-te", line.doc_id)
    assert refused_with(caught) is Reason.BODY_DAMAGED
    path.unlink()
    with pytest.raises(Refused):
        await tree[H41].fetch("so-y-te", line.doc_id)
    assert tree[H41].rows("SELECT fetched_ms FROM mailbox") == [(None,)]


async def test_a_small_package_that_was_damaged_in_the_database_is_never_handed_over(tree: Tree) -> None:
    line = await deliver(tree)
    await tree[H41]._connections[0].run(lambda db: db.execute("UPDATE body SET data=zeroblob(length(data))"))
    with pytest.raises(Refused) as caught:
        await tree[H41].fetch("so-y-te", line.doc_id)
    assert refused_with(caught) is Reason.BODY_DAMAGED


async def test_what_ended_without_the_office_cannot_be_fetched_any_more(tree: Tree) -> None:
    """The sender was told that it had expired: nobody works on it afterwards."""
    line = await deliver(tree)
    tree.clock.now_ms += 8 * 86_400_000
    await tree[H41].duties.housekeeper.expire()
    assert await state(tree) == "expired"
    with pytest.raises(Refused) as caught:
        await tree[H41].fetch("so-y-te", line.doc_id)
    assert (refused_with(caught), caught.value.rule) == (Reason.DOC_UNKNOWN, "ended")
    await tree[H41].report("so-y-te", line.doc_id, "done")
    assert await state(tree) == "expired"


async def test_content_past_its_retention_is_said_to_be_removed(tree: Tree) -> None:
    line = await deliver(tree)
    await tree[H41].fetch("so-y-te", line.doc_id)
    await tree[H41].report("so-y-te", line.doc_id, "done")
    tree.clock.now_ms += 31 * 86_400_000
    await tree[H41].duties.housekeeper.round()
    with pytest.raises(Refused) as caught:
        await tree[H41].fetch("so-y-te", line.doc_id)
    assert refused_with(caught) is Reason.DOC_UNKNOWN


# --- statuses and requests --------------------------------------------------------------------------------------------------


async def test_statuses_wait_in_a_list_of_their_own(tree: Tree) -> None:
    line = await deliver(tree)
    await tree[H41].send("so-y-te", status("01", line.doc_id, sender="H41.05"))
    (told,) = await tree[H41].inbox("ubnd-41", "status")
    assert await tree[H41].inbox("ubnd-41") == []
    assert b"<edXML:StatusCode>01<" in await tree[H41].fetch("ubnd-41", told.doc_id)
    await tree[H41].report("ubnd-41", told.doc_id, "done")
    assert await tree[H41].inbox("ubnd-41", "status") == []
    assert tree[H41].rows("SELECT count(*) FROM ledger WHERE event='status-collected'") == [(1,)]
    assert await tree[H41].inbox("so-y-te", "status") == [], "a status causes nothing"


async def test_a_request_about_an_organ_waits_for_an_operator(tree: Tree) -> None:
    number = await tree[H41].duties.mailbox.request_agency(tree[H41].system("ubnd-41"), "register", {"code": "H41.99"})
    assert [row["item"] for row in (await tree[H41].store.held(FIRST, 10))[0]] == [f"agency-{number}"]
    assert tree[H41].tally.value("truc_held_total", reason="agency-request") == 1


def test_a_line_of_the_sent_list_says_the_state_and_why() -> None:
    assert describe("collected", "", "H54.02", "") == "Bên nhận đã lấy về"
    said = describe("refused", "recipient-closed", "000.00.00.H26", "H54")
    assert said.endswith("[recipient-closed]")
    assert "H54" in said
    assert describe("held", "operator: chờ", "H54.02", "") == describe("held", "", "H54.02", "")


# --- many at once ---------------------------------------------------------------------------------------------------------


async def page(
    site: Site, *, system: str = "so-y-te", kind: str = "edoc", after: int | None = None, limit: int = 100, wait_s: float = 0,
    room_bytes: int | None = 1 << 20,
) -> tuple[Page, list[bytes]]:  # fmt: skip
    found = await site.duties.mailbox.page(
        site.system(system), kind, after=after, limit=limit, wait_s=wait_s, room_bytes=room_bytes
    )
    return found, [data async for data in found.bodies]


async def test_many_are_given_at_once_and_count_as_fetched(tree: Tree) -> None:
    documents = [document("H41.05", content=os.urandom(10)) for _ in range(3)]
    for data in documents:
        await tree[H41].send("ubnd-41", data)
    before = tree[H41].tally.value("truc_commits_total")
    found, bodies = await page(tree[H41])
    assert bodies == documents
    assert [how for _, how in found.items] == [Given.INLINE] * 3
    assert tree[H41].tally.value("truc_commits_total") == before + 1
    assert tree[H41].events("fetched") == ["fetched"] * 3
    assert await state(tree) == "in-mailbox"


async def test_a_list_without_contents_marks_nothing(tree: Tree) -> None:
    await deliver(tree)
    found, bodies = await page(tree[H41], room_bytes=None)
    assert [how for _, how in found.items] == [Given.SEPARATE]
    assert bodies == []
    assert tree[H41].events("fetched") == []


async def test_what_has_no_room_or_is_large_is_listed_to_be_fetched_by_itself(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.mailbox.WHOLE_BYTES", 300_000)
    sizes = [10, 400_000, 5_000, 20]
    for size in sizes:
        await tree[H41].send("ubnd-41", document("H41.05", content=os.urandom(size)))
    whole, _ = await page(tree[H41], room_bytes=None)
    small, _, large, last = (line.size for line, _ in whole.items)
    found, bodies = await page(tree[H41], room_bytes=small + last)
    assert [how for _, how in found.items] == [Given.INLINE, Given.SEPARATE, Given.SEPARATE, Given.INLINE]
    assert [len(data) for data in bodies] == [small, last]
    found, _ = await page(tree[H41], room_bytes=large - 1, limit=3)
    assert [how for _, how in found.items] == [Given.INLINE, Given.SEPARATE, Given.SEPARATE]
    assert len(tree[H41].events("fetched")) == 2


async def test_what_lies_in_a_file_is_given_with_the_list_too_if_it_is_whole(tree: Tree) -> None:
    documents = [document("H41.05", content=os.urandom(200_000 + 3 * number)) for number in range(3)]
    for data in documents:
        await tree[H41].send("ubnd-41", data)
    ((file,),) = tree[H41].rows("SELECT file FROM body WHERE size=?", len(documents[1]))
    path = tree[H41].folder / "bodies" / file
    path.write_bytes(documents[1][:-1] + b"?")
    found, bodies = await page(tree[H41])
    assert [how for _, how in found.items] == [Given.INLINE, Given.DAMAGED, Given.INLINE]
    assert bodies == [documents[0], documents[2]]


async def test_a_damaged_content_is_listed_as_damaged_and_stops_no_other(tree: Tree) -> None:
    line = await deliver(tree, content=b"mot")
    other = await deliver(tree, content=b"hai")
    await (
        tree[H41]
        ._connections[0]
        .run(
            lambda db: db.execute(
                "UPDATE body SET data=x'00' WHERE seq=(SELECT body FROM envelope_body ORDER BY envelope LIMIT 1)"
            )
        )
    )
    found, bodies = await page(tree[H41])
    assert [(each.doc_id, how) for each, how in found.items] == [(line.doc_id, Given.DAMAGED), (other.doc_id, Given.INLINE)]
    assert len(bodies) == 1
    assert len(tree[H41].events("fetched")) == 1


async def test_pages_by_number_miss_nothing(tree: Tree) -> None:
    """The urgent first page may leave out what came earlier: the next begins where everything lies behind it."""
    sent = [(await deliver(tree, priority=Priority(number % 3), content=b"%d" % number)).doc_id for number in range(7)]
    found, _ = await page(tree[H41], limit=3)
    assert [line.doc_id for line, _ in found.items] == [sent[2], sent[5], sent[1]]
    seen = {line.doc_id for line, _ in found.items}
    while found.items:
        found, _ = await page(tree[H41], after=found.after, limit=3)
        urgent_first = sorted((-line.priority, line.item) for line, _ in found.items)
        assert [(-line.priority, line.item) for line, _ in found.items] == urgent_first
        seen |= {line.doc_id for line, _ in found.items}
    assert seen == set(sent)
    newest = await deliver(tree, content="mới".encode())
    found, _ = await page(tree[H41], after=found.after)
    assert [line.doc_id for line, _ in found.items] == [newest.doc_id]
    found, _ = await page(tree[H41])
    assert found.after == max(line.item for line, _ in found.items), "nothing was left out"


async def test_a_question_is_held_until_something_is_laid(tree: Tree) -> None:
    waiting = asyncio.create_task(page(tree[H41], wait_s=20))
    other = asyncio.create_task(page(tree[H41], kind="status", wait_s=20))
    await hung(tree[H41], 2)
    assert not waiting.done()
    taken = await tree[H41].send("ubnd-41", document("H41.05"))
    async with asyncio.timeout(PATIENCE_S):
        found, bodies = await waiting
    assert [line.doc_id for line, _ in found.items] == [taken.doc_id]
    assert len(bodies) == 1
    assert not other.done(), "woken, and there was nothing for it"
    tree[H41].duties.mailbox.release()
    async with asyncio.timeout(PATIENCE_S):
        assert (await other)[0].items == (), "a stopping node answers at once"
        assert (await page(tree[H41], kind="status", wait_s=20))[0].items == ()


async def test_a_question_held_too_long_is_answered_with_nothing_and_leaves_no_bell(tree: Tree) -> None:
    found, _ = await page(tree[H41], wait_s=0.05, after=3)
    assert (found.items, found.after) == ((), 3)
    await hung(tree[H41], 0)


async def test_what_a_neighbour_brings_wakes_too_and_so_does_a_02_from_the_axis(tmp_path: Path) -> None:
    async with planted(tmp_path, run=True) as tree:
        documents = asyncio.create_task(page(tree[H54], system="thai-binh", wait_s=20))
        news = asyncio.create_task(page(tree[H41], system="ubnd-41", kind="status", wait_s=20))
        await hung(tree[H54], 1)
        await hung(tree[H41], 1)
        taken = await tree[H41].send("ubnd-41", document("H54.02", "H41.99"))
        async with asyncio.timeout(PATIENCE_S):
            assert [line.doc_id for line, _ in (await documents)[0].items] == [taken.doc_id]
            (line,) = [line for line, _ in (await news)[0].items]
        assert line.kind == "status"


async def hung(site: Site, bells: int) -> None:
    """Until so many questions are held, each behind its first look."""
    async with asyncio.timeout(PATIENCE_S):
        while len(site.duties.mailbox._asking) != bells:
            await asyncio.sleep(0.005)
    await site.store.drain()


async def test_an_early_done_takes_effect_when_many_are_given(tree: Tree) -> None:
    line = await deliver(tree)
    await tree[H41].report("so-y-te", line.doc_id, "done")
    found = await tree[H41].duties.mailbox.page(
        tree[H41].system("so-y-te"), "edoc", after=None, limit=9, wait_s=0, room_bytes=1 << 20
    )
    assert await state(tree) == "in-mailbox", "not before they are handed over"
    assert len([data async for data in found.bodies]) == 1
    assert await state(tree) == "collected"


async def test_done_for_many_is_one_commit_and_each_tells_home_once(tmp_path: Path) -> None:
    async with planted(tmp_path, run=True) as tree:
        for number in range(5):
            await tree[H41].send("ubnd-41", document("H54.02", content=b"%d" % number))
        site = tree[H54]

        async def all_there() -> bool:
            return len(await site.inbox("thai-binh")) == 5

        await tree.until(all_there)
        found, _ = await page(site, system="thai-binh")
        doc_ids = [line.doc_id for line, _ in found.items]
        await site.rest()
        system = site.system("thai-binh")
        before = site.tally.value("truc_commits_total")
        assert await site.duties.mailbox.settle_many(system, [*doc_ids, doc_ids[0]], "done") == [None] * 6
        assert site.tally.value("truc_commits_total") == before + 1
        assert site.tally.value("truc_deliveries_total", result="collected") == 5
        assert await site.duties.mailbox.settle_many(system, doc_ids, "done") == [None] * 5
        assert site.tally.value("truc_deliveries_total", result="collected") == 5
        assert site.count("outbox") == 1, "one notice tells of all"
        site.run()

        async def collected() -> bool:
            lines = await tree[H41].duties.mailbox.sent(tree[H41].system("ubnd-41"), "edoc", None)
            return [line.send_state for line in lines] == ["collected"] * 5

        await tree.until(collected)


async def test_one_that_cannot_be_settled_stops_no_other(tree: Tree) -> None:
    fetched, early = await deliver(tree, content=b"mot"), await deliver(tree, content=b"hai")
    await tree[H41].fetch("so-y-te", fetched.doc_id)
    mailbox, system = tree[H41].duties.mailbox, tree[H41].system("so-y-te")
    unknown, well, remembered = await mailbox.settle_many(system, ["không có", fetched.doc_id, early.doc_id], "done")
    assert (well, remembered) == (None, None)
    assert isinstance(unknown, Refused)
    assert unknown.reason is Reason.DOC_UNKNOWN
    assert [line.doc_id for line in await tree[H41].inbox("so-y-te")] == [early.doc_id], "done before the first fetch"
    assert await mailbox.settle_many(system, [early.doc_id], "processing") == [None]
    assert [line.state for line in await tree[H41].inbox("so-y-te")] == ["processing"]
    with pytest.raises(Refused) as caught:
        await mailbox.settle_many(system, [early.doc_id], "xong")
    assert refused_with(caught) is Reason.STATUS_WORD_UNKNOWN


async def test_an_item_that_another_code_joins_meanwhile_is_read_again(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [await deliver(tree, content=b"%d" % number) for number in range(2)]
    await page(tree[H41])
    store = tree[H41].store

    async def none_of_the_first(confirmed: Any) -> Any:
        return [False, *(await store.__class__.collect_many(store, confirmed[1:]))]

    monkeypatch.setattr(store, "collect_many", none_of_the_first)
    doc_ids = [line.doc_id for line in lines]
    assert await tree[H41].duties.mailbox.settle_many(tree[H41].system("so-y-te"), doc_ids, "done") == [None, None]
    assert await tree[H41].inbox("so-y-te") == []
    assert tree[H41].tally.value("truc_deliveries_total", result="collected") == 2


async def test_a_full_disk_is_told_for_each_that_could_not_be_confirmed(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    line = await deliver(tree)
    await page(tree[H41])

    async def full(confirmed: Any) -> Any:
        raise Deferred(30, Reason.DISK_FULL)

    monkeypatch.setattr(tree[H41].store, "collect_many", full)
    outcomes = await tree[H41].duties.mailbox.settle_many(tree[H41].system("so-y-te"), [line.doc_id, "không có"], "done")
    assert [type(each) for each in outcomes] == [Deferred, Refused]


def test_contents_are_chosen_in_order_while_there_is_room() -> None:
    def line(item: int, size: int) -> Listed:
        return Listed(item, "", "edoc", "", (), "initial", 0, size, "", 0, 0)

    lines = [line(1, 5), line(2, WHOLE_BYTES + 1), line(3, 6), line(4, 5), line(5, 0)]
    assert fitting(lines, 10) == [1, 4, 5]
    assert fitting(lines, 5) == [1, 5]
    assert fitting([line(1, 5)], 4) == []
    assert fitting(lines, 4 * WHOLE_BYTES) == [1, 3, 4, 5]


# on trial


async def test_what_a_unit_on_trial_sends_or_gets_is_marked_at_both_doors_and_in_no_figure(tree: Tree) -> None:
    """QĐ 28/2018 Điều 21.1."""
    site = tree[H41]
    directory = site.surroundings.directory
    entries = tuple(
        replace(each, connection=Connection.TRIAL) if each.code == org("H41.05") else each for each in directory.entries
    )
    site.surroundings.take(replace(directory, entries=entries))
    await site.send("ubnd-41", document("H41.05", "H41"))
    sent = await site.sent("ubnd-41")
    assert sent["H41.05"].send_text.endswith("(thử nghiệm)")
    assert "thử nghiệm" not in sent["H41"].send_text
    (waiting,) = await site.inbox("so-y-te")
    assert waiting.trial
    assert "(thử nghiệm)" in received_line(waiting)["status_desc"]
    assert [each.trial for each in await site.inbox("ubnd-41")] == [False]
    assert set(site.rows("SELECT counterpart,trial FROM ledger WHERE event='sent'")) == {("H41", 0), ("H41.05", 1)}
    assert set(site.rows("SELECT organ,trial FROM ledger WHERE event='arrived'")) <= {("H41", 0), ("H41.05", 1)}

"""The journal watched: what was altered or lost is named, its head goes up each day, and what persons did is in it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node import app, auditor
from node.adapters.acts import ActsFile
from node.auditor import Auditor
from node.core.audit import SIGNED_HEAD, Broken, Fault, Head, KeptHead, Place, read_head, write_head
from node.core.errors import Deferred, Reason, Refused
from node.core.evidence import Receipt, canonical, receipt_fields
from tests.tree import H41, HUB, UNIT, Site, Tree, document, planted, refused_with

DAY_MS = 86_400_000


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path, HUB, H41, UNIT, run=True) as planted_tree:
        for number in range(3):
            await planted_tree[UNIT].send("so-noi-vu", document("G22", sender="000.00.07.H41", number=str(number)))
        await planted_tree.until(lambda: planted_tree[HUB].count("mailbox") == 3)
        await planted_tree.until(lambda: planted_tree[H41].count("outbox") == 0)
        yield planted_tree


def tamper(site: Site, *statements: str) -> None:
    with closing(sqlite3.connect(site.folder / "node.db")) as db, db:
        for statement in statements:
            db.execute(statement)


async def found(site: Site) -> Broken | None:
    """As `truc audit verify` asks: slice by slice, then beside the heads."""
    place, done = Place(), False
    while not done:
        place, broken, done = await site.duties.auditor.check(place, 2)
        if broken is not None:
            return broken
    return (await site.duties.auditor.compare())[2]


async def test_a_journal_as_it_was_written_is_whole(tree: Tree) -> None:
    for site in tree.sites.values():
        await site.duties.auditor.round()
        assert await found(site) is None
        await site.duties.auditor.first()
        assert site.duties.auditor.broken is None


async def last(site: Site) -> int:
    return int(site.rows("SELECT max(seq) FROM journal")[0][0])


@pytest.mark.parametrize("column", ["at_ms", "event", "recipient", "reason", "detail", "hash"])
async def test_a_row_that_was_altered_is_named(tree: Tree, column: str) -> None:
    value = "x'00'" if column == "hash" else "7"
    tamper(tree[H41], f"UPDATE journal SET {column}={value} WHERE seq=3")
    assert await found(tree[H41]) == Broken(3, Fault.ALTERED)
    assert tree[H41].duties.auditor.broken == Broken(3, Fault.ALTERED)


async def test_a_row_that_is_missing_is_named_wherever_it_stood(tree: Tree) -> None:
    """Threats, row 34."""
    end = await last(tree[UNIT])
    for seq in (end, 1):
        tamper(tree[UNIT], f"DELETE FROM journal WHERE seq={seq}")
        assert await found(tree[UNIT]) == Broken(seq, Fault.MISSING)


async def test_rows_taken_off_the_end_are_missed_also_when_others_were_written_since(tree: Tree) -> None:
    """The journal goes on where the writer left it, not where it ends by now: a start writes before anybody has looked."""
    site = tree[UNIT]
    end = await last(site)
    tamper(site, f"DELETE FROM journal WHERE seq>={end - 1}")
    await site.send("so-noi-vu", document("G22", sender="000.00.07.H41", number="9"))
    assert await last(site) > end
    assert await found(site) == Broken(end - 1, Fault.MISSING)


async def test_a_past_that_was_made_anew_is_found_by_the_heads(tree: Tree) -> None:
    """Whoever works out every hash behind the row he altered is found by the head that was signed before."""
    site = tree[UNIT]
    await site.duties.auditor.round()
    kept = await site.store.heads(UNIT)
    end = await made_anew(site, 1)
    assert await found(site) == Broken(end.seq, Fault.HEAD)  # the parent has it
    tree[H41].duties.questions.handlers.clear()
    site.duties.auditor.broken = None
    assert await found(site) is None
    await site.store.keep_head(UNIT, kept[0], site.signer.chain_pem)
    assert await found(site) == Broken(end.seq, Fault.HEAD)  # and so has the node
    assert (await site.duties.auditor.compare())[1] is None


async def test_the_start_looks_from_the_last_head_on_and_the_rest_is_walked_beside(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "SLICE_PAUSE_S", 0)
    monkeypatch.setattr(auditor, "SLICE_ROWS", 2)
    site = tree[H41]
    await site.duties.auditor.round()
    tamper(site, "UPDATE journal SET reason='x' WHERE seq=2")
    await site.duties.auditor.first()
    assert site.duties.auditor.broken is None
    await site.duties.auditor._walk_all()
    assert site.duties.auditor.broken == Broken(2, Fault.ALTERED)
    tamper(tree[UNIT], f"DELETE FROM journal WHERE seq={await last(tree[UNIT])}")
    await tree[UNIT].duties.auditor.first()
    assert tree[UNIT].duties.auditor.broken == Broken(await last(tree[UNIT]) + 1, Fault.MISSING)


async def test_the_head_goes_to_the_parent_once_a_day_and_again_when_it_did_not_answer(tree: Tree) -> None:
    site, parent = tree[UNIT], tree[H41]
    site.line.down = True
    await site.duties.auditor.round()
    assert [each.told_ms for each in await site.store.heads(UNIT)] == [0]
    site.line.down = False
    await site.duties.auditor.round()  # not at once again
    assert site.tally.value("truc_journal_heads_total", result="told") == 0
    site.duties.auditor._tell_s = 0
    await site.duties.auditor.round()
    (kept,) = await parent.store.heads(UNIT)
    head = read_head(kept.statement)
    assert (head.node, head.seq) == (UNIT, await last(site))
    parent.verifier.witness(head, SIGNED_HEAD + kept.statement, kept.signature, site.signer.chain_pem)
    await site.send("so-noi-vu", document("G22", sender="000.00.07.H41", number="9"))
    await site.duties.auditor.round()
    assert len(await parent.store.heads(UNIT)) == 1
    tree.clock.now_ms += DAY_MS
    await site.duties.auditor.round()
    assert len(await parent.store.heads(UNIT)) == 2
    assert (await site.duties.auditor.compare())[:2] == (2, 2)


async def test_a_head_is_signed_after_so_many_rows(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditor, "HEAD_ROWS", 1)
    site = tree[HUB]
    await site.duties.auditor.round()
    before = read_head((await site.store.heads(HUB))[0].statement).seq
    await site.send("vpcp", document("H41", sender="G22"))
    await site.duties.auditor.round()
    assert read_head((await site.store.heads(HUB))[0].statement).seq > before
    assert (await site.duties.auditor.compare())[:2] == (1, None)


async def test_a_journal_below_that_goes_back_or_is_anothers_is_refused(tree: Tree) -> None:
    site, parent = tree[UNIT], tree[H41].duties.auditor
    await site.duties.auditor.round()
    (kept,) = await site.store.heads(UNIT)
    head = read_head(kept.statement)

    async def brought(**changes: Any) -> Reason:
        statement = write_head(replace(head, **changes))
        body = canonical(receipt_fields(Receipt(statement, site.signer.sign(SIGNED_HEAD + statement), site.signer.chain_pem)))
        with pytest.raises(Refused) as caught:
            await parent.take_head(UNIT, body, 1.0)
        return refused_with(caught)

    assert await brought(seq=head.seq - 1) is Reason.DIGEST_CONFLICT
    assert await brought(hash="00" * 32) is Reason.DIGEST_CONFLICT
    assert await brought(node=HUB) is Reason.PEER_NAME
    assert await brought(key="00" * 32) is Reason.ORIGIN_SIGNATURE
    assert json.loads(await parent.give_heads(HUB, b"", 1.0)) == {"chains": {}, "heads": []}
    site.store.epoch = 2
    await site.duties.auditor.round()
    assert len(await tree[H41].store.heads(UNIT)) == 1  # another life of the store begins with the next day


async def bring(site: Site, parent: Auditor, at: Place, epoch: int = 1) -> bytes:
    """A head for this place, handed up by whoever has the keys of a node."""
    made = Head(UNIT, epoch, at.seq, at.hash.hex(), site.tree.clock.utc_ms(), 5, site.signer.key_id)
    statement = write_head(made)
    brought = Receipt(statement, site.signer.sign(SIGNED_HEAD + statement), site.signer.chain_pem)
    return await parent.take_head(UNIT, canonical(receipt_fields(brought)), 1.0)


async def made_anew(site: Site, epoch: int) -> Place:
    """The whole journal written again by somebody who has the database: one row altered, every hash worked out, no own heads."""
    from node.adapters.sqlite.writer import TAIL, chained

    previous, changes = b"\0" * 32, []
    for row in site.rows("SELECT seq,at_ms,bound_ms,event,envelope,recipient,neighbour,reason,detail FROM journal ORDER BY seq"):
        fields = (*row[:3], "held", *row[4:]) if row[0] == 2 else row
        previous = chained(previous, fields)
        changes.append(f"UPDATE journal SET event='{fields[3]}',hash=x'{previous.hex()}' WHERE seq={row[0]}")
    end = await last(site)
    tail = f"UPDATE meta SET value='{end} {previous.hex()}' WHERE key='{TAIL}'"
    tamper(site, *changes, tail, "DELETE FROM journal_head")
    site.store.epoch = epoch
    return Place(end, previous)


@pytest.mark.parametrize("epoch", [1, 2])
async def test_heads_of_a_past_made_anew_cannot_push_out_those_of_the_true_one(tree: Tree, epoch: int) -> None:
    """Neither by their number nor by another epoch: the parent goes on knowing what it was told first. Threats, row 34."""
    site, parent = tree[UNIT], tree[H41].duties.auditor
    await site.duties.auditor.round()
    told = (await tree[H41].store.heads(UNIT))[0]
    tree.clock.now_ms += DAY_MS
    false = await made_anew(site, epoch)
    if epoch > 1:
        await bring(site, parent, false, epoch)  # at the same number as the true one
    deferred = 0
    for number in range(1, auditor.HEADS_A_DAY_MAX + 5):
        try:
            await bring(site, parent, Place(false.seq + number, b"x" * 32), epoch)
        except Deferred:
            deferred += 1
    assert deferred == tree[H41].tally.value("truc_journal_heads_total", result="put-off") > 0
    assert told in await tree[H41].store.heads(UNIT)
    with pytest.raises(Refused) as caught:
        await bring(site, parent, false, 1)
    assert refused_with(caught) is Reason.DIGEST_CONFLICT
    tamper(tree[H41], "DELETE FROM journal_head WHERE epoch=2")  # they name rows that are not there: broken in any case
    assert await found(site) == Broken(false.seq, Fault.HEAD if epoch == 1 else Fault.EPOCH)
    assert (site.duties.auditor.broken is None) == (epoch > 1)


async def test_the_parents_heads_are_looked_at_each_day_and_where_it_knows_another_past(tree: Tree) -> None:
    site = tree[UNIT]
    watch = site.duties.auditor
    await watch.round()
    false = await made_anew(site, 1)
    await watch._walk_all()
    assert watch.broken == Broken(false.seq, Fault.HEAD)
    watch.broken = None
    tree.clock.now_ms += DAY_MS
    await watch.round()  # it signs the false past, and the parent will not have it
    assert site.tally.value("truc_journal_heads_total", result="not-told") == 1
    assert watch.broken == Broken(false.seq, Fault.HEAD)


async def test_a_parent_cannot_say_that_a_journal_was_another(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it tells of must be signed by the node itself."""
    site, above = tree[UNIT], tree[H41]
    await site.duties.auditor.round()
    assert (await site.duties.auditor.compare())[:2] == (1, 1)
    (kept,) = await above.store.heads(UNIT)
    false = kept.statement.replace(b'"seq":', b'"seq":1')
    for told in (replace(kept, statement=false), KeptHead(false, above.signer.sign(SIGNED_HEAD + false), 5)):

        async def heads(node: object, told: KeptHead = told) -> list[KeptHead]:
            return [told]

        monkeypatch.setattr(above.store, "heads", heads)
        assert await site.duties.auditor.compare() == (1, None, None)
    assert site.duties.auditor.broken is None


async def test_the_parents_own_journal_names_the_heads_it_keeps_each_once(tree: Tree) -> None:
    """So its head, which goes up in its turn, stands for those of all below it."""
    site, above = tree[UNIT], tree[H41]
    site.line.fault("query", "no answer")
    await site.duties.auditor.round()
    site.duties.auditor._tell_s = 0
    await site.duties.auditor.round()
    (kept,) = await above.store.heads(UNIT)
    head = read_head(kept.statement)
    told = above.rows("SELECT neighbour,detail FROM journal WHERE event='head-kept'")
    assert told == [("H41.07", f"1.{head.seq} {head.hash}")]
    assert await found(above) is None


async def test_a_broken_journal_is_an_alarm_and_documents_go_on(tree: Tree) -> None:
    site = tree[H41]
    tamper(site, "UPDATE journal SET detail='x' WHERE seq=1")
    assert await found(site) is not None
    desk = app.desk(site.settings, site.ground, site.duties, site.store.size_bytes, {})
    assert "journal-broken" in [problem["code"] for problem in (await desk.status())["problems"]]
    assert [check.state for check in await desk.checks() if check.name == "journal"] == ["!"]
    assert (await desk.gauges())["truc_journal_intact"] == {(): 0.0}
    heads = await site.store.heads(H41)
    await site.duties.auditor.round()
    assert await site.store.heads(H41) == heads  # nothing is signed over it
    await tree[UNIT].send("so-noi-vu", document("G22", sender="000.00.07.H41", number="77"))
    await tree.until(lambda: tree[HUB].count("mailbox") == 4)


async def test_acts_done_while_the_node_did_not_run_are_taken_in_once(tree: Tree) -> None:
    site = tree[UNIT]
    file = ActsFile(site.folder)
    act = {"what": "system.add", "subject": "so", "who": "anh Ba", "before": None, "after": {"codes": ["H41.07"]}, "done_ms": 5}
    file.write({**act, "id": "1"})
    site.duties.auditor.written = file
    await site.duties.auditor.take_in()
    file.write({**act, "id": "1"})
    file.write({**act, "id": "2"})
    await site.duties.auditor.take_in()
    acts = await site.store.acts(None, 10)
    assert [(each["id"], each["what"], each["subject"], each["who"]) for each in acts] == [
        ("1", "system.add", "so", "anh Ba"),
        ("2", "system.add", "so", "anh Ba"),
    ]
    assert [each["id"] for each in await site.store.acts(acts[-1]["seq"], 10)] == ["1"]
    assert await found(site) is None


async def test_a_configuration_that_changed_is_an_act_of_whoever_starts_the_node(tree: Tree) -> None:
    site = tree[UNIT]
    watch = site.duties.auditor
    watch.user = "truc"
    for values in ({"a.b": 1, "c.d": "x"}, {"a.b": 1, "c.d": "x"}, {"a.b": 2, "e.f": True}):
        watch.settings = values
        await watch.take_in()
    first, second = await site.store.acts(None, 10)
    assert (first["what"], first["who"], first["before"], first["after"]) == (
        "config.change",
        "truc",
        None,
        {"a.b": 1, "c.d": "x"},
    )
    assert (second["before"], second["after"]) == ({"a.b": 1, "c.d": "x"}, {"a.b": 2, "e.f": True})


async def test_the_loops_go_on_when_the_store_has_no_room(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = tree[UNIT].duties.auditor
    ended = asyncio.Event()
    calls = []

    async def full() -> None:
        calls.append(1)
        if len(calls) == 2:
            ended.set()
        raise Deferred(1)

    monkeypatch.setattr(auditor, "ROUND_S", 0)
    monkeypatch.setattr(watch, "round", full)
    running = asyncio.create_task(watch.run())
    await ended.wait()
    running.cancel()
    assert (await asyncio.gather(running, return_exceptions=True))[0].__class__ is asyncio.CancelledError

"""Đối soát: at rest nothing differs at any tier; a document that is lost, or counted where it was not sent, is named."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from node import reconciler
from node.core.errors import Reason, Refused
from node.core.reconciling import Answer, Span, decode_sums, encode_asked
from node.reports import Reports
from tests.tree import H41, H54, HUB, UNIT, Site, Tree, document, planted, refused_with


@pytest.fixture
async def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tree]:
    """Two documents have come to the two offices of H54 and wait; a third is inside H41."""
    monkeypatch.setattr(reconciler, "SETTLE_S", 0.0)
    async with planted(tmp_path, HUB, H41, H54, UNIT, run=True) as found:
        for number in ("1", "2"):
            await found[H41].send("ubnd-41", document("H54.02", "H54.03", number=number))
        await found[UNIT].send("so-noi-vu", document("H41.05", sender="H41.07", number="3"))
        await found.until(lambda: found[H54].count("mailbox") == 4 and found[H41].count("mailbox") == 1)
        await found.until(lambda: all(site.count("outbox") == 0 for site in found.sites.values()))
        yield found


def reports(site: Site) -> Reports:
    return site.duties.reports


def spoil(site: Site, statement: str) -> None:
    with closing(sqlite3.connect(site.folder / "node.db")) as db, db:
        db.execute(statement)


async def test_at_rest_nothing_differs_at_any_tier(tree: Tree) -> None:
    for code, facts in ((HUB, 10), (H41, 2), (UNIT, 0)):
        found = await reports(tree[code]).document("reconcile", "1")
        assert found["rows"] == []
        assert (found["summary"]["facts"], found["summary"]["differences"], found["summary"]["silent"]) == (facts, 0, [])


async def test_a_document_that_is_lost_and_one_nobody_sent_are_named(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "LIST_MAX", 2)
    (lost,) = tree[H54].rows("SELECT e.id FROM mailbox m JOIN envelope e ON e.seq=m.envelope WHERE m.item=1")
    spoil(tree[H54], "DELETE FROM mailbox WHERE item=1")
    (unsent,) = tree[UNIT].rows("SELECT id FROM ledger WHERE event='sent'")
    spoil(tree[UNIT], "DELETE FROM ledger WHERE event='sent'")
    found = await reports(tree[HUB]).document("reconcile", "1")
    assert {(row["difference"], row["envelope"]) for row in found["rows"]} == {("nowhere", lost[0]), ("never-sent", unsent[0])}
    (row,) = [row for row in found["rows"] if row["difference"] == "never-sent"]
    assert (row["sender"], row["recipient"], row["facts"]) == ("H41.07", "H41.05", [{"event": "waiting", "node": "H41"}])
    below = await reports(tree[H41]).document("reconcile", "1")
    assert [row["envelope"] for row in below["rows"]] == [unsent[0]], "of what leaves its subtree it sees one side"


async def test_who_does_not_answer_is_named(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "ASK_S", 0.05)
    await tree[H54].rest()
    assert (await reports(tree[HUB]).document("reconcile", "1"))["summary"]["silent"] == ["H54"]


async def test_only_the_parent_hears_what_a_node_knows_and_a_number_of_days_is_asked_for(tree: Tree) -> None:
    handler = tree[H41].duties.questions.handlers["reconcile"]
    asked = encode_asked(Span(0, 1 << 47), named=False)
    assert decode_sums(await handler(UNIT, asked, 1.0)) == Answer(())
    assert sum(each.facts for each in decode_sums(await handler(HUB, asked, 1.0)).parts) > 0
    for days in ("", "0", "x", "99999"):
        with pytest.raises(Refused) as refused:
            await reports(tree[HUB]).document("reconcile", days)
        assert refused_with(refused) is Reason.REQUEST_MALFORMED

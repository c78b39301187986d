"""Receipts on the road: one for each batch, kept by whoever handed it over; a bad one costs evidence and never a document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.core.evidence import HASH_BYTES, SIGNED_RECEIPT, leaf, merkle_root, read_statement, write_statement
from node.core.wire import EnvelopeVerdicts
from node.receipts import Receipts
from tests.tree import H41, HUB, UNIT, Site, Time, Tree, document, planted


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path, HUB, H41, UNIT) as planted_tree:
        yield planted_tree


def kept(site: Site) -> list[tuple[bytes, bytes, bytes]]:
    return site.rows("SELECT statement,signature,leaves FROM receipt ORDER BY seq")


async def passed(tree: Tree, number: int = 1, to: str = "G22") -> None:
    """So many documents go from the unit to the hub's office."""
    for each in range(number):
        await tree[UNIT].send("so-noi-vu", document(to, sender="000.00.07.H41", number=str(each)))
    tree.run()
    await tree.until(lambda: tree[HUB].count("mailbox") == number)
    await tree.until(lambda: not tree[UNIT].count("outbox") and not tree[H41].count("outbox"))


async def test_each_node_keeps_what_the_next_one_has_signed_on_the_way_up(tree: Tree) -> None:
    await passed(tree)
    for site, above in ((tree[UNIT], tree[H41]), (tree[H41], tree[HUB])):
        ((statement, signature, leaves),) = kept(site)
        said = read_statement(statement)
        assert (said.node, said.presenter, said.count, said.key) == (above.code, site.code, 1, above.signer.key_id)
        ((origin, id_, recipient, digest, handed_to, receipt),) = site.rows(
            "SELECT origin,id,recipient,digest,handed_to,receipt FROM seen"
        )
        assert (origin, recipient, handed_to, receipt) == ("H41.07", "G22", str(above.code), 1)
        assert leaves == leaf((UNIT, id_, tree[HUB].duties.code.canonical("G22")), digest, said.at_ms)
        assert said.root == merkle_root([leaves]).hex()
        tree[HUB].verifier.witness(said, SIGNED_RECEIPT + statement, signature, above.signer.chain_pem)
        assert site.rows("SELECT chain FROM certificate WHERE digest=?", said.key) == [(above.signer.chain_pem,)]


async def test_a_child_signs_for_what_it_has_pulled(tree: Tree) -> None:
    await tree[HUB].send("vpcp", document("H41", "H41.07", sender="G22"))
    tree.run()
    await tree.until(lambda: tree[UNIT].count("mailbox") and not tree[HUB].count("outbox"))
    ((statement, _, leaves),) = kept(tree[HUB])
    assert (read_statement(statement).node, len(leaves) // HASH_BYTES) == (H41, 2)
    await tree.until(lambda: not tree[H41].count("outbox"))
    assert read_statement(kept(tree[H41])[0][0]).node == UNIT


async def test_one_receipt_stands_for_a_batch_and_the_chain_travels_once(tree: Tree) -> None:
    await passed(tree, 5)
    assert len(kept(tree[UNIT])) == tree[H41].tally.value("truc_receipts_total", result="given") < 5
    pushed = [batch.knows for batch in tree[UNIT].line.made("push") if batch.envelopes]
    assert pushed[0] == "" and set(pushed[1:]) <= {tree[H41].signer.key_id}


async def test_how_long_a_receipt_is_kept_is_not_the_neighbours_to_say(tree: Tree) -> None:
    """One that is dated back would be forgotten at once, and with it the evidence."""
    other = Time()
    other.now_ms -= 5 * 86_400_000
    tree[H41].duties.receipts._clock = other
    await passed(tree)
    keep = {"handed_over_ms": 10**12, "collected_ms": 10**12, "sent_ms": 10**12, "limit": 100}
    await tree[UNIT].store.forget(**keep, evidence_ms=86_400_000)
    ((statement, *_),) = kept(tree[UNIT])
    assert read_statement(statement).at_ms == other.now_ms


async def test_a_lost_answer_is_followed_by_a_receipt_for_the_copy(tree: Tree) -> None:
    tree[UNIT].line.fault("push", "no answer")
    await passed(tree)
    assert tree[H41].events("repeated") == ["repeated"]
    assert tree[UNIT].rows("SELECT receipt FROM seen") == [(1,)]


@pytest.mark.parametrize("what", ["missing", "root", "node", "presenter", "count", "signature", "key", "text"])
async def test_a_bad_receipt_is_counted_and_the_document_goes_on(tree: Tree, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    give = Receipts.give

    def spoilt(self: Receipts, *args: object) -> tuple[EnvelopeVerdicts, ...]:
        (spoken,) = give(self, *args)  # type: ignore[arg-type]
        assert spoken.receipt is not None
        said = read_statement(spoken.receipt.statement)
        if what in ("root", "key"):
            said = replace(said, **{what: "00" * 32})  # type: ignore[arg-type]
        if what in ("node", "presenter"):
            said = replace(said, **{what: HUB})  # type: ignore[arg-type]
        if what == "count":
            said = replace(said, count=2)
        statement = b"{}" if what == "text" else write_statement(said)
        signature = self._signer.sign(statement if what == "signature" else SIGNED_RECEIPT + statement)
        receipt = replace(spoken.receipt, statement=statement, signature=signature)
        return (replace(spoken, receipt=None if what == "missing" else receipt),)

    monkeypatch.setattr(tree[UNIT].line.door, "_give", lambda *args: spoilt(tree[H41].duties.receipts, *args))
    await passed(tree)
    assert kept(tree[UNIT]) == []
    result = "missing" if what == "missing" else "bad"
    assert tree[UNIT].tally.value("truc_receipts_total", result=result) == 1


async def test_receipts_are_forgotten_in_time_and_their_keys_stay(tree: Tree) -> None:
    await passed(tree)
    keep = {"handed_over_ms": 10**12, "collected_ms": 10**12, "sent_ms": 10**12, "limit": 100}
    await tree[UNIT].store.forget(**keep, evidence_ms=60_000)
    assert len(kept(tree[UNIT])) == 1
    tree.clock.now_ms += 120_000
    await tree[UNIT].store.forget(**keep, evidence_ms=60_000)
    assert kept(tree[UNIT]) == [] and tree[UNIT].count("seen") == 1

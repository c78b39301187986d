"""Evidence gathered along the road: there once a document was collected, whole for every recipient, judged by the root alone."""

from __future__ import annotations

import base64
import json
import random
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from node import app, proving
from node.adapters.directory_file import dump
from node.adapters.signing import Offline
from node.core.bundle import Flaw, Flawed, Proof, Proven, Story, judge, open_bundle, pack, proven_fields, unpack
from node.core.custody import FIRST, End
from node.core.envelope import Hop, decode_header, header_digest, open_envelope
from node.core.errors import Deferred, Reason, Refused
from node.core.evidence import SIGNED_RECEIPT, Taken, canonical, leaf, write_statement
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.routing import Child
from node.core.wire import Batch, Outcome
from node.proving import KIND, Collected
from tests.adapters.pki import ZONE, put
from tests.adapters.pki import leaf as leaf_of
from tests.tree import _ROOT, DIRECTORY, H41, H54, HUB, UNIT, Tree, document, org, planted, refused_with, status


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path, HUB, H41, H54, UNIT, run=True) as planted_tree:
        yield planted_tree


def opened(data: bytes) -> Story:
    return open_bundle(data, Offline(_ROOT.pem).witness)


async def collected(tree: Tree, *to: str) -> str:
    """A document from the unit, which every receiver has fetched and confirmed; the sender knows. Returns its docId."""
    doc_id = (await tree[UNIT].send("so-noi-vu", document(*to, sender="000.00.07.H41"))).doc_id
    for code in to:
        await confirm(tree, code)
    await tree.until(lambda: ended(tree))
    return doc_id


async def ended(tree: Tree) -> bool:
    return {line.send_state for line in (await tree[UNIT].sent("so-noi-vu")).values()} == {"collected"}


async def confirm(tree: Tree, code: str, kind: str = "edoc") -> None:
    at, system = {
        "H54.02": (H54, "thai-binh"),
        "H54.03": (H54, "thai-binh"),
        "G22": (HUB, "vpcp"),
        "H41": (H41, "ubnd-41"),
        "H41.07": (UNIT, "so-noi-vu"),
    }[code]
    (waiting,) = await tree.until(lambda: lying(tree, at, system, code, kind))
    await tree[at].fetch(system, waiting.doc_id)
    await tree[at].report(system, waiting.doc_id, "done")


async def lying(tree: Tree, at: object, system: str, code: str, kind: str) -> list[object]:
    return [each for each in await tree[at].inbox(system, kind) if code in each.recipient.split(";")]  # type: ignore[index]


async def evidence(tree: Tree, doc_id: str, *to: str) -> Collected:
    return await tree[UNIT].duties.proving.collect(doc_id, [org(code) for code in to])


@pytest.mark.parametrize("portion", [1, 500])
async def test_every_recipient_of_a_document_has_its_way_proven_from_hop_to_hop(
    tree: Tree, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a receipt that was given for several is there once, in however many portions it was asked for."""
    monkeypatch.setattr(proving, "PORTION", portion)
    doc_id = await collected(tree, "H54.02", "G22", "H41")
    story = opened((await evidence(tree, doc_id)).bundle)
    assert (story.header.doc_id, story.header.origin) == (doc_id, UNIT)
    ways = {str(each.recipient): [str(hop.node) for hop in each.hops] for each in story.journeys}
    assert ways == {"H54.02": ["H41", "", "H54"], "G22": ["H41", ""], "H41": ["H41"]}
    assert {each.end.state for each in story.journeys} == {Transport.COLLECTED}
    assert {str(each.recipient): str(each.told_by) for each in story.journeys} == {"H54.02": "H54", "G22": "", "H41": "H41"}
    assert len({each.statement for each in story.bundle.receipts}) == len(story.bundle.receipts)
    for journey in story.journeys:
        assert [hop.presenter for hop in journey.hops] == [UNIT, *(hop.node for hop in journey.hops[:-1])]


async def test_one_recipient_may_be_proven_while_another_is_still_open(tree: Tree) -> None:
    doc_id = (await tree[UNIT].send("so-noi-vu", document("H54.02", "G22", sender="000.00.07.H41"))).doc_id
    early = await evidence(tree, doc_id)
    assert (early.bundle, {str(each.recipient) for each in early.open}) == (b"", {"H54.02", "G22"})
    await confirm(tree, "G22")
    await tree.until(lambda: evidence_of(tree, doc_id, "G22"))
    assert [str(each.recipient) for each in opened((await evidence(tree, doc_id, "G22")).bundle).journeys] == ["G22"]
    assert [str(each.recipient) for each in (await evidence(tree, doc_id)).open] == ["H54.02"]
    with pytest.raises(Refused) as caught:
        await evidence(tree, doc_id, "H54.03")
    assert refused_with(caught) is Reason.RECIPIENT_UNKNOWN


async def evidence_of(tree: Tree, doc_id: str, *to: str) -> bytes:
    return (await evidence(tree, doc_id, *to)).bundle


async def test_it_is_found_by_docid_envelope_id_or_documentid_if_that_is_one_document(tree: Tree) -> None:
    doc_id = await collected(tree, "G22")
    story = opened(await evidence_of(tree, doc_id))
    for key in (story.header.id, story.header.document_id):
        assert opened(await evidence_of(tree, key)).header == story.header
    again = (await tree[UNIT].send("so-noi-vu", document("G22", sender="000.00.07.H41", content=b"%PDF anders"))).doc_id
    assert set((await evidence(tree, story.header.document_id)).many) == {doc_id, again}
    with pytest.raises(Refused):
        await evidence(tree, "no such document")


async def test_an_end_that_is_no_delivery_is_told_by_the_node_that_had_custody(tree: Tree) -> None:
    doc_id = (await tree[UNIT].send("so-noi-vu", document("H54.02", sender="000.00.07.H41"))).doc_id
    await tree.until(lambda: tree[H54].count("mailbox"))
    for _ in range(5):
        await tree[H54].report("thai-binh", doc_id, "fail")
    held = await tree[H54].store.held_box(1)
    assert held is not None
    end = End(Transport.REFUSED, tree.clock.utc_ms(), Reason.DROPPED_BY_OPERATOR, "thử")
    home = await tree[H54].duties.origin.homeward(decode_header(held[0]), [org("H54.02")], end)
    await tree[H54].store.drop_box(1, home, "người vận hành", "thử")
    (journey,) = opened(await tree.until(lambda: evidence_of(tree, doc_id))).journeys
    assert ([str(hop.node) for hop in journey.hops], journey.told_by) == (["H41", "", "H54"], H54)
    assert (journey.end.state, journey.end.reason) == (Transport.REFUSED, Reason.DROPPED_BY_OPERATOR)


async def test_what_ends_at_its_own_node_is_told_by_that_node(tree: Tree) -> None:
    doc_id = (await tree[H41].send("ubnd-41", document("H41.05"))).doc_id
    await tree[H41].fetch("so-y-te", doc_id)
    await tree[H41].report("so-y-te", doc_id, "done")
    (journey,) = opened((await tree[H41].duties.proving.collect(doc_id)).bundle).journeys
    assert (journey.hops, journey.told_by, journey.end.state) == ((), H41, Transport.COLLECTED)


async def test_a_document_that_expired_on_its_own_node_is_proven_to_have(tree: Tree) -> None:
    await tree[UNIT].rest()
    doc_id = (await tree[UNIT].send("so-noi-vu", document("G22", sender="000.00.07.H41"))).doc_id
    tree.clock.now_ms += 8 * 86_400_000
    await tree[UNIT].duties.housekeeper.expire()
    (journey,) = opened(await evidence_of(tree, doc_id)).journeys
    assert (journey.hops, journey.told_by, journey.end.state) == ((), UNIT, Transport.EXPIRED)
    assert journey.end.reason is Reason.EXPIRED


async def test_what_came_back_to_a_node_and_ended_there_is_told_by_that_node(tree: Tree) -> None:
    """The receipt of whoever had it in between is no proof any more: it has given custody back (decision 4)."""
    doc_id = (await tree[UNIT].send("so-noi-vu", document("H54.02", sender="000.00.07.H41"))).doc_id
    await tree.until(lambda: lying(tree, H54, "thai-binh", "H54.02", "edoc"))
    await tree.until(lambda: tree[HUB].rows("SELECT 1 FROM seen WHERE handed_to='H54'"))
    hub, table = tree[HUB], tree[HUB].surroundings.table()
    elsewhere = Child(org("H99"), (org("H54.02"),))
    hub.surroundings._table = replace(table, children=(*table.children, elsewhere))
    ((header, signature),) = hub.rows("SELECT header,signature FROM envelope WHERE kind='edoc'")
    hops = tuple(Hop(node, tree.clock.utc_ms(), 5) for node in (UNIT, H41, HUB, H54))
    back = open_envelope(bytes(header), bytes(signature), (org("H54.02"),), hops, 1)
    (said,) = await hub.duties.intake.accept(Batch((back,)), H54)
    assert [each.outcome for each in said.verdicts.values()] == [Outcome.TAKEN]
    tree.clock.now_ms += 8 * 86_400_000
    assert await hub.duties.housekeeper.expire() == 1
    (journey,) = opened(await tree.until(lambda: evidence_of(tree, doc_id))).journeys
    assert ([hop.node for hop in journey.hops], journey.told_by, journey.end.state) == ([H41, HUB], HUB, Transport.EXPIRED)


async def test_a_status_is_proven_by_the_node_where_it_was_collected(tree: Tree) -> None:
    doc_id = await collected(tree, "H54.02")
    sent = (await tree[H54].send("thai-binh", status("01", doc_id, organ="000.00.07.H41"))).doc_id
    await tree.until(lambda: lying(tree, UNIT, "so-noi-vu", "H41.07", "status"))
    assert (await tree[H54].duties.proving.collect(sent)).open
    await confirm(tree, "H41.07", "status")
    (journey,) = opened((await tree[H54].duties.proving.collect(sent)).bundle).journeys
    assert [str(hop.node) for hop in journey.hops] == ["", "H41", "H41.07"]
    assert (journey.told_by, journey.end.state) == (UNIT, Transport.COLLECTED)


async def test_a_node_that_does_not_answer_is_named_and_its_part_is_there_when_it_is_back(tree: Tree) -> None:
    doc_id = await collected(tree, "H54.02")
    await tree[H41].rest()
    asked = tree[UNIT].line
    asked.down = True
    assert (await evidence(tree, doc_id)).silent == (H41,)
    asked.down = False
    tree[H41].run()
    tree[HUB].duties.questions.handlers.clear()
    assert (await evidence(tree, doc_id)).silent == (HUB,)


async def test_a_node_that_is_silent_for_good_is_not_in_the_way_where_nothing_lacks(tree: Tree) -> None:
    """The last node has nothing to add: its neighbour has its receipt, the origin its word. It may be gone from the tree."""
    doc_id = await collected(tree, "H54.02")
    tree[H54].duties.questions.handlers.clear()
    assert opened((await evidence(tree, doc_id)).bundle).journeys


async def test_keys_that_change_before_during_and_after_are_each_proven_by_their_own_chain(tree: Tree) -> None:
    """Every node gets another key, twice; what was signed before stays provable."""

    def rotate() -> None:
        for site in tree.sites.values():
            put(site.folder, leaf_of(_ROOT, site.code.dns_name(ZONE)), _ROOT)
            site.signer.reload()

    keys: set[str] = set()
    before = await collected(tree, "H54.02")
    await tree[H54].rest()
    during = (await tree[UNIT].send("so-noi-vu", document("H54.03", sender="000.00.07.H41", number="2"))).doc_id
    await tree.until(lambda: tree[HUB].rows("SELECT 1 FROM outbox WHERE recipient='H54.03'"))
    rotate()
    tree[H54].run()
    await confirm(tree, "H54.03")
    await tree.until(lambda: ended(tree))
    rotate()
    for doc_id in (before, during):
        story = opened(await evidence_of(tree, doc_id))
        (journey,), (told,) = story.journeys, story.bundle.verdicts
        assert [hop.node for hop in journey.hops] == [H41, HUB, H54]
        assert len({story.header.key, story.bundle.key}) == 2
        keys.add(decode_header(told.header).key)
    assert len(keys) == 2


async def hangs_on(tree: Tree, unit: OrgId, parent: OrgId) -> None:
    """A unit has moved: every directory says so, and it has another parent."""
    nodes = tuple(replace(each, parent=parent) if each.code == unit else each for each in DIRECTORY.nodes)
    site = tree[unit]
    await site.close()
    (site.folder / "directory.json").write_text(dump(replace(DIRECTORY, nodes=nodes)), encoding="utf-8")
    link = site.settings.link.model_copy(update={"parent_code": str(parent)})
    site.settings = site.settings.model_copy(update={"link": link})
    await site.open()
    for each in tree.sites.values():
        each.surroundings.take(replace(each.surroundings.directory, nodes=nodes))
    tree[parent].duties.forwarder.meet(unit)
    site.connect(tree.door(parent))
    site.run()


async def test_what_a_unit_has_sent_or_passed_on_before_it_moved_is_proven_after(tree: Tree) -> None:
    """Whom it had handed to is no neighbour any more; the question finds its way through the tree."""
    sent = await collected(tree, "H54.02", "H41")
    passed = (await tree[HUB].send("vpcp", document("H41.07", sender="G22"))).doc_id
    await confirm(tree, "H41.07")
    await tree.until(lambda: is_over(tree, passed))
    await hangs_on(tree, UNIT, H54)
    ways = {str(each.recipient): [str(hop.node) for hop in each.hops] for each in opened(await evidence_of(tree, sent)).journeys}
    assert ways == {"H54.02": ["H41", "", "H54"], "H41": ["H41"]}
    (journey,) = opened((await tree[HUB].duties.proving.collect(passed)).bundle).journeys
    assert [str(hop.node) for hop in journey.hops] == ["H41", "H41.07"]


async def is_over(tree: Tree, doc_id: str) -> bool:
    return {line.send_state for line in (await tree[HUB].sent("vpcp")).values()} == {"collected"}


async def test_a_node_behind_cannot_say_whom_the_ones_before_it_have_handed_to(tree: Tree) -> None:
    """With a second receipt for the first hop the origin would have two ways, and neither would prove anything."""
    doc_id = await collected(tree, "H54.02")
    (signer, honest), sent = (
        (tree[HUB].signer, tree[HUB].duties.proving.answer),
        (await tree[UNIT].store.sent_under(doc_id, UNIT, 1))[0],
    )
    at_ms = tree.clock.utc_ms()
    root = leaf((UNIT, sent.id, org("H54.02")), header_digest(sent.header), at_ms)
    statement = write_statement(Taken(HUB, UNIT, root.hex(), 1, at_ms, 5, signer.key_id))
    false = Proven(statement, signer.sign(SIGNED_RECEIPT + statement), (Proof(org("H54.02"), 0, ()),))

    async def more(peer: OrgId, body: bytes, left_s: float) -> bytes:
        found = json.loads(await honest(peer, body, left_s))
        return canonical({**found, "receipts": [*found["receipts"], proven_fields(false)]})

    tree[HUB].duties.questions.handlers[KIND] = more
    (journey,) = opened((await evidence(tree, doc_id)).bundle).journeys
    assert [hop.node for hop in journey.hops] == [H41, HUB, H54]


async def test_a_receipt_that_was_never_given_is_a_gap_that_names_its_hop(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree[H41].line.door, "_give", lambda peer, batch, verdicts: tuple(verdicts))
    doc_id = await collected(tree, "H54.02")
    flaw = (await evidence(tree, doc_id)).flaw
    assert flaw is not None and (flaw.flaw, flaw.part) == (Flaw.GAP, "H41 → ?")


async def test_whoever_does_not_know_the_header_is_told_nothing(tree: Tree) -> None:
    doc_id = await collected(tree, "H54.02")
    header = opened(await evidence_of(tree, doc_id)).header
    asked = {"origin": "H41.07", "id": header.id, "digest": "00" * 32, "to": ["H54.02"]}
    answer = await tree[HUB].duties.proving.answer(H41, canonical(asked), 1.0)
    assert answer == canonical({"receipts": [], "told": [], "chains": {}, "silent": []})
    for nowhere in ("H41.99", "H41"):  # the way there is the way it came
        with pytest.raises(Deferred):
            await tree[HUB].duties.proving.answer(H41, canonical({**asked, "at": nowhere}), 1.0)


async def test_the_evidence_outlives_the_envelope_until_its_receipts_are_forgotten(tree: Tree) -> None:
    doc_id = await collected(tree, "G22")
    keep = {"handed_over_ms": 0, "collected_ms": 0, "sent_ms": 10**12, "limit": 100}
    tree.clock.now_ms += 1000
    for site in tree.sites.values():
        await site.store.forget(**keep, evidence_ms=10**10)
    assert tree[UNIT].count("envelope") == 0
    assert opened(await evidence_of(tree, doc_id)).journeys
    await tree[UNIT].store.forget(**keep, evidence_ms=0)
    assert (await evidence(tree, doc_id)).flaw is not None


async def test_at_a_relay_no_command_or_page_opens_content(tree: Tree) -> None:
    """Whoever runs a node on the way sees that a document passes, never what it says. # QĐ 28/2018 Điều 13.1"""
    await tree[H54].rest()
    marked = document("H54.02", sender="000.00.07.H41", content=b"%PDF noi dung kin cua van ban")
    doc_id = (await tree[UNIT].send("so-noi-vu", marked)).doc_id
    await tree.until(lambda: tree[HUB].count("outbox"))
    site = tree[HUB]
    operator = app.desk(site.settings, site.ground, site.duties, site.store.size_bytes, {})
    await operator.queue_act("hold", [1], None, "chị Hoa", "xem")
    asked: list[object] = [await operator.status(), await operator.checks(), await operator.trace(doc_id)]
    asked += [await operator.queue(None, None, FIRST, 10), await operator.queue_item(1), await operator.held(FIRST, 10)]
    asked.append(await operator.audit(None, 10))
    with pytest.raises(Refused):
        await operator.evidence(doc_id, [])  # it was not sent from here
    told = repr(asked)
    assert doc_id in told and "chị Hoa" in told
    (inside,) = tree[UNIT].rows("SELECT title,sender_name FROM submission")
    for kept in (*inside, base64.b64encode(b"%PDF noi dung kin cua van ban").decode()[:24], "noi dung kin", "cong-van.pdf"):
        assert kept and kept not in told
    assert site.count("submission") == 0 and await site.inbox("vpcp") == []


# --- what was altered --------------------------------------------------------------------------------------------------------


async def test_no_byte_can_be_altered_and_the_part_is_named(tree: Tree) -> None:
    """Every byte of the archive's own structure, and many of each part."""
    data = await evidence_of(tree, await collected(tree, "H54.02", "G22"))
    parts = unpack(data)
    assert zipfile.ZipFile(BytesIO(data)).testzip() is None
    rng = random.Random(7)
    spots = {data.index(part) + rng.randrange(len(part)) for part in parts.values() for _ in range(12)}
    covered = {at for part in parts.values() for at in range(data.index(part), data.index(part) + len(part))}
    structure = [at for at in range(len(data)) if at not in covered]
    for at in [*sorted(spots), *structure[:120], *rng.sample(structure, 200), len(data) - 1]:
        altered = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        with pytest.raises(Flawed) as caught:
            opened(altered)
        inside = [name for name, part in parts.items() if data.index(part) <= at < data.index(part) + len(part)]
        assert inside in ([], [caught.value.part]), (at, str(caught.value))
    for wrong in (b"", data[:-1], data + b"\0", data[:200], b"PK\x03\x04" + b"\0" * 40):
        with pytest.raises(Flawed):
            opened(wrong)


async def test_parts_cannot_be_left_out_added_or_exchanged_even_by_the_origin(tree: Tree) -> None:
    """Whoever makes the file signs it; what it says of others is signed by them."""
    one = opened(await evidence_of(tree, await collected(tree, "H54.02", "G22")))
    bundle, witness = one.bundle, Offline(_ROOT.pem).witness

    def flaw(**changes: object) -> Flaw:
        with pytest.raises(Flawed) as caught:
            judge(replace(bundle, **changes), witness)  # type: ignore[arg-type]
        return caught.value.flaw

    first, *others = bundle.receipts
    assert flaw(receipts=tuple(others)) in (Flaw.GAP, Flaw.SURPLUS)
    assert flaw(receipts=(*bundle.receipts, first)) is Flaw.GAP
    assert flaw(verdicts=()) is Flaw.VERDICT
    assert flaw(verdicts=bundle.verdicts * 2) is Flaw.SURPLUS
    assert flaw(to=(org("H54.02"),)) is Flaw.SURPLUS
    assert flaw(to=(*bundle.to, org("H54.03"))) is Flaw.PROOF
    assert flaw(doc_id="another") is Flaw.PROOF
    assert flaw(header=bundle.header.replace(b'"priority":0', b'"priority":1')) is Flaw.SIGNATURE
    assert flaw(chains={}) is Flaw.CERTIFICATE
    extra = {**bundle.chains, "ab" * 32: b"x"}
    assert flaw(chains=extra) is Flaw.SURPLUS
    moved = replace(first, proofs=tuple(replace(proof, index=proof.index + 1) for proof in first.proofs))
    assert flaw(receipts=(moved, *others)) is Flaw.PROOF
    told = bundle.verdicts[0]
    assert flaw(verdicts=(replace(told, body=told.body.replace(b"collected", b"expired")), *bundle.verdicts[1:])) is Flaw.VERDICT
    with pytest.raises(Flawed):
        opened(
            pack(
                {
                    name: part
                    for name, part in unpack(pack(unpack(await evidence_of(tree, one.header.id)))).items()
                    if "hub" not in name
                }
            )
        )

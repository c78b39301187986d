"""What a node originates: headers signed as they stand, one notice home, and a 02 from the axis for what did not arrive."""

from __future__ import annotations

import random
from typing import Any, cast

from node.core.custody import BoxItem, End, EndOf, SubmissionInfo
from node.core.directory import Directory, NodeEntry
from node.core.envelope import KIND_NOTICE, KIND_STATUS, Lane, Recipient, decode_header
from node.core.errors import Reason
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.notice import decode_notice
from node.core.package import Party, Reference
from node.core.routing import table_for
from node.origin import GATHER_MS, MEDIA_EDXML, TOGETHER_MAX, Content, Origin, small_body
from node.ports import Store
from tests.adapters.pki import NOW_MS
from tests.making import CHAIN, H41, H54, HUB, KEY, OFFICE, header, org

DIRECTORY = Directory(
    entries=(),
    nodes=(NodeEntry(HUB, "Gốc", "", None, (org("G22"),)), NodeEntry(H41, "H41", "", HUB, (H41,))),
    axis_name="Trục",
    axis_code_text="TRUC",
    version=1,
)
REFUSED = End(Transport.REFUSED, NOW_MS, Reason.RECIPIENT_UNKNOWN)
COLLECTED = End(Transport.COLLECTED, NOW_MS, receiver_doc_id="d-9")


class Clock:
    now_ms = NOW_MS

    def utc_ms(self) -> int:
        return self.now_ms

    def bound_ms(self) -> int:
        return 250

    def synchronised(self) -> bool:
        return True


class Signer:
    key_id = KEY
    chain_pem = CHAIN

    def sign(self, header_bytes: bytes) -> bytes:
        return b"signed " + header_bytes

    def reload(self) -> None: ...


class Submissions:
    """The store's answer about packages of this node, by envelope id."""

    epoch = 3

    def __init__(self) -> None:
        self.known: dict[str, SubmissionInfo] = {}

    async def submission_of(self, origin: OrgId, id_: str) -> SubmissionInfo | None:
        return self.known.get(id_)


def told(axis: Party, about: Reference, status: str, text: str, at_ms: int) -> bytes:
    return "|".join((axis.code, about.organ, about.code, about.document_id, status, text)).encode()


def origin_at(code: OrgId, submissions: Submissions | None = None, clock: Clock | None = None) -> Origin:
    store = cast(Store, submissions or Submissions())
    table = table_for(DIRECTORY, code, frozenset())
    return Origin(code, store, clock or Clock(), Signer(), random.Random(7), lambda: table, lambda: DIRECTORY, told)


def sent_from_here(kind: str = "edoc") -> SubmissionInfo:
    return SubmissionInfo("d-1", "ubnd", org("H41.07"), "000.00.07.H41", "Sở", "vb-1", "12/CV", "2026/11/22", kind)


async def test_news_of_collections_leaves_at_once_and_what_follows_leaves_together() -> None:
    clock = Clock()
    origin = origin_at(H41, clock=clock)

    async def due_after(ms: int, end: End = COLLECTED) -> int:
        clock.now_ms = NOW_MS + ms
        home = await origin.homeward(header(origin=H54), [OFFICE], end)
        assert home.notice is not None
        return home.notice.due_ms

    assert [await due_after(ms) for ms in (0, 1, GATHER_MS - 1)] == [0, NOW_MS + GATHER_MS, NOW_MS + GATHER_MS]
    assert await due_after(GATHER_MS - 1, REFUSED) == 0, "an end that somebody must act upon waits for nothing"
    assert [await due_after(ms) for ms in (GATHER_MS, GATHER_MS + 1)] == [0, NOW_MS + 2 * GATHER_MS]
    assert await due_after(-10 * GATHER_MS) == 0, "a clock that was set back holds nothing up"


def test_the_signature_is_over_the_very_bytes_of_the_header() -> None:
    content = Content("edoc", H41, (Recipient(OFFICE), Recipient(org("H54.03"))), small_body(b"<edXML/>"), MEDIA_EDXML, "d-1")
    local = origin_at(H41).make(content, {OFFICE: HUB})
    envelope = local.envelope
    assert envelope.signature == b"signed " + envelope.header_bytes
    assert decode_header(envelope.header_bytes) == envelope.header
    assert (envelope.header.origin, envelope.header.epoch, envelope.header.key) == (H41, 3, KEY)
    assert (envelope.header.created_ms, envelope.header.bound_ms) == (NOW_MS, 250)
    assert [hop.node for hop in envelope.hops] == [H41]
    assert envelope.remaining == (OFFICE, org("H54.03"))


def test_no_two_envelopes_have_the_same_id() -> None:
    origin = origin_at(H41)
    assert len({origin.fresh_id() for _ in range(100)}) == 100


async def test_an_end_elsewhere_sends_one_notice_towards_the_origin_node() -> None:
    about = header(OFFICE, org("H54.03"))
    homeward = await origin_at(HUB).homeward(about, [each.code for each in about.recipients], REFUSED)
    assert homeward.notice is not None
    notice = homeward.notice.envelope.header
    assert (notice.kind, notice.sender, notice.expires_ms, notice.lane) == (KIND_NOTICE, HUB, 0, Lane.CONTROL)
    assert homeward.notice.routes == {H41: H41}
    (body,) = homeward.notice.bodies
    assert decode_notice(body.data or b"") == tuple(EndOf(H41, about.id, each.code, REFUSED) for each in about.recipients)
    assert not homeward.returned


def item(number: int, **about: Any) -> BoxItem:
    """A mailbox item of this node, for one receiver."""
    head = header(OFFICE, **about)
    return BoxItem(number, head, OFFICE, (OFFICE,), head.doc_id, "initial", True, False, 0)


async def test_documents_of_one_origin_that_are_confirmed_together_are_told_by_one_notice() -> None:
    """Decision 11: each end once, however many one notice tells of."""
    items = [*(item(number) for number in range(TOGETHER_MAX + 1)), item(900, origin=H54), item(901, kind=KIND_STATUS)]
    groups = [group async for group in origin_at(HUB).confirmed(items, NOW_MS)]
    assert sorted(number for group in groups for number, _ in group.items) == sorted(each.item for each in items)
    told = [group for group in groups if group.notice is not None]
    assert sorted(len(group.items) for group in told) == [1, 1, TOGETHER_MAX]
    ends = [end_of for group in told if group.notice for end_of in decode_notice(group.notice.bodies[0].data or b"")]
    assert len(ends) == len({(end_of.origin, end_of.id) for end_of in ends}) == TOGETHER_MAX + 2
    assert {end_of.end.state for end_of in ends} == {Transport.COLLECTED}
    for group in told:
        assert group.notice is not None
        origins = {end_of.origin for _, home in group.items for end_of in home.ends}
        assert origins == {each.code for each in group.notice.envelope.header.recipients}, "to each origin what it must hear"


async def test_the_origin_itself_is_told_without_a_notice() -> None:
    (group,) = [group async for group in origin_at(H41).confirmed([item(1)], NOW_MS)]
    ((number, home),) = group.items
    assert (number, group.notice, home.notice) == (1, None, None)
    assert [end_of.recipient for end_of in home.ends] == [OFFICE]


async def test_a_notice_for_a_node_that_nobody_knows_waits_under_its_name() -> None:
    about = header(OFFICE, origin=H54)
    homeward = await origin_at(HUB).homeward(about, [OFFICE], REFUSED)
    assert homeward.notice is not None
    assert homeward.notice.routes == {H54: H54}


async def test_the_end_of_a_notice_or_a_status_tells_nobody() -> None:
    for kind in (KIND_NOTICE, KIND_STATUS):
        homeward = await origin_at(HUB).homeward(header(OFFICE, kind=kind), [OFFICE], REFUSED)
        assert (homeward.ends, homeward.notice, dict(homeward.returned)) == ((), None, {})


async def test_at_the_origin_what_did_not_arrive_becomes_a_02_from_the_axis_in_the_senders_own_mailbox() -> None:
    about, submissions = header(OFFICE), Submissions()
    submissions.known[about.id] = sent_from_here()
    homeward = await origin_at(H41, submissions).homeward(about, [OFFICE], REFUSED)
    assert homeward.notice is None
    returned = homeward.returned[OFFICE]
    assert returned.routes == {org("H41.07"): None}
    assert (returned.envelope.header.kind, returned.envelope.header.sender) == (KIND_STATUS, org("TRUC"))
    axis, organ, notation, document_id, status, text = (returned.bodies[0].data or b"").decode().split("|")
    assert (axis, organ, notation, document_id, status) == ("TRUC", "000.00.07.H41", "12/CV", "vb-1", "02")
    assert text.startswith("[Trục] Bên nhận H54.02: không gửi được.")


async def test_no_02_is_made_of_what_was_collected_nor_of_a_status_nor_of_what_nobody_here_sent() -> None:
    submissions = Submissions()
    submissions.known = {"a": sent_from_here(), "b": sent_from_here(KIND_STATUS)}
    ends = [EndOf(H41, "a", OFFICE, COLLECTED), EndOf(H41, "b", OFFICE, REFUSED), EndOf(H41, "c", OFFICE, REFUSED)]
    assert await origin_at(H41, submissions).returns(ends) == {}

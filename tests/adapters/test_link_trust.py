"""The question on keys over real TLS, and what revocation does to a link: refused at once, cut in mid-connection, in either
direction; who has old lists may ask for newer ones and for nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from node.adapters.http.link_client import HttpLink
from node.adapters.http.link_server import link_app, unwelcome
from node.adapters.http.link_trust import (
    decode_answer,
    decode_question,
    decode_renewal,
    encode_answer,
    encode_question,
    encode_renewal,
)
from node.adapters.http.listener import Listener, listen
from node.adapters.http.tls import Judge, judge, link_client_context, link_server_context, registered, signed_by, spki_pin
from node.core import standing
from node.core.envelope import strict_json
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.standing import Handover, Listed, Revocations, Roots, TrustAnswer, TrustQuestion
from tests.adapters.pki import NOW_MS, ZONE, Clock, Holder, put
from tests.adapters.test_link_http import (
    BATCH,
    CHILD,
    GUARDS,
    HOST,
    ISSUER,
    NODE,
    PARENT_NAME,
    PULL,
    ROOT,
    SERVER,
    TAKEN,
    Downlink,
    head,
    reason_in,
    section,
    status,
)

QUESTION = TrustQuestion("s-1", 3, (Listed("a", "b"),))
ANSWER = TrustAnswer("s-2", 9, True, (Listed("c", "d"),), True, Roots(("r",), ("x", "y")), (Handover("k", "ab" * 32, "cd" * 70),))


@dataclass
class Known:
    """What the lists of one node say; old_ms: the end of all of them."""

    says: dict[str, Revocations] = field(default_factory=dict)

    def revoke(self, chain: tuple[Holder, ...], place: int) -> None:
        issuer, serial = signed_by([each.der for each in chain])[place]
        self.says[issuer] = Revocations(issuer, 1, 0, NOW_MS * 2, {serial: NOW_MS})

    def age(self) -> None:
        for issuer, _ in signed_by([NODE.der, ISSUER.der, ROOT.der]):
            self.says[issuer] = Revocations(issuer, 1, 0, NOW_MS - 2000, {})

    def judge(self, chain: object, now_ms: int | None) -> None:
        standing.judge(signed_by(chain), self.says, old_ms=now_ms)  # type: ignore[arg-type]


CHILD_CHAIN, PARENT_CHAIN = (NODE, ISSUER, ROOT), (SERVER, ISSUER, ROOT)


@dataclass
class Pair:
    """A parent that listens and its child; above, below: what each of them knows of revocations."""

    listener: Listener
    link: HttpLink
    downlink: Downlink
    judge: Judge
    above: Known
    below: Known
    asked: list[tuple[OrgId, TrustQuestion]]
    folder: Path


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    clock, above, below, downlink = Clock(), Known(), Known(), Downlink()
    asked: list[tuple[OrgId, TrustQuestion]] = []

    class Door:
        async def answer(self, peer: OrgId, chain: Sequence[bytes], question: TrustQuestion) -> TrustAnswer:
            assert chain == (NODE.der, ISSUER.der, ROOT.der)
            asked.append((peer, question))
            return ANSWER

        async def renew(self, peer: OrgId, chain: Sequence[bytes], csr: str, authority_csr: str) -> tuple[str, str]:
            assert (peer, chain[0]) == (CHILD, NODE.der)
            return f"for {csr}", authority_csr

    parent, child = put(tmp_path / "parent", SERVER, ROOT), put(tmp_path / "child", NODE, ROOT)
    judged = judge(registered([(CHILD, ())], ZONE), clock, above.judge)
    app = link_app(section(parent, 1), downlink, judged, None, None, Door())
    context = link_server_context(parent.certificate, parent.key, parent.trust)
    listener = await listen(app, HOST, 0, GUARDS, context)
    link = HttpLink(section(child, listener.port), ZONE, clock, below.judge)
    yield Pair(listener, link, downlink, judged, above, below, asked, tmp_path)
    await link.close()
    await listener.close(0.2)


async def deferred(pair: Pair) -> Deferred:
    with pytest.raises(Deferred) as caught:
        await pair.link.push(BATCH)
    return caught.value


async def test_the_question_and_the_answer_cross_whole(pair: Pair) -> None:
    assert await pair.link.trust(QUESTION) == ANSWER
    assert pair.asked == [(CHILD, QUESTION)]


async def test_a_renewal_crosses_whole(pair: Pair) -> None:
    assert await pair.link.renew("csr", "") == ("for csr", "")


async def test_a_parent_with_another_key_is_asked_about_keys_and_nothing_else(pair: Pair) -> None:
    """Threats, row 21: it may have the old key's word for its new one, and has to prove it."""
    pair.link.pin([spki_pin(NODE.der)])
    assert (await deferred(pair)).reason is Reason.PEER_KEY
    with pytest.raises(Deferred):
        await pair.link.renew("csr", "")
    assert await pair.link.trust(QUESTION) == ANSWER
    pair.link.pin([spki_pin(NODE.der), spki_pin(SERVER.der)])
    assert await pair.link.push(BATCH) == TAKEN


@pytest.mark.parametrize("place", [0, 1], ids=["leaf", "intermediate"])
async def test_a_revoked_child_is_refused_and_the_log_says_why(pair: Pair, place: int) -> None:
    """Threats, row 22: revoke, leaf and intermediate; the child hears that it is itself that is refused."""
    assert await pair.link.push(BATCH) == TAKEN
    pair.above.revoke(CHILD_CHAIN, place)
    with capture_logs() as logs:
        heard = await deferred(pair)
    assert (heard.reason, heard.in_doubt) == (Reason.PEER_REVOKED, False)
    assert [entry["reason"] for entry in logs if entry["event"] == "peer refused"] == [Reason.PEER_REVOKED]
    assert pair.link.revoked, "its operator is told"
    for call in (pair.link.trust(QUESTION), pair.link.clock(1)):
        with pytest.raises(Deferred):
            await call


@pytest.mark.parametrize("place", [0, 1], ids=["leaf", "intermediate"])
async def test_not_one_byte_goes_to_a_parent_that_was_revoked(pair: Pair, place: int) -> None:
    """Threats, row 22: the child judges its parent's whole chain, on a kept connection too."""
    assert await pair.link.push(BATCH) == TAKEN
    pair.below.revoke(PARENT_CHAIN, place)
    heard = await deferred(pair)
    assert (heard.reason, heard.in_doubt) == (Reason.PEER_REVOKED, False)
    assert len(pair.downlink.calls) == 1


async def test_a_connection_that_waits_is_cut_when_its_child_is_revoked_and_no_other(pair: Pair) -> None:
    """Threats, row 22: revoke in mid-connection."""
    pair.downlink.hold = asyncio.Event()
    waiting = asyncio.ensure_future(pair.link.pull(PULL))
    await pair.downlink.entered.wait()
    assert pair.listener.sweep(unwelcome(pair.judge)) == 0
    pair.above.revoke(CHILD_CHAIN, 0)
    with capture_logs() as logs:
        assert pair.listener.sweep(unwelcome(pair.judge)) == 1
    assert [(entry["event"], entry["reason"]) for entry in logs] == [("peer cut off", Reason.PEER_REVOKED)]
    with pytest.raises(Deferred):
        await waiting
    await pair.downlink.cancelled.wait()


async def test_who_has_old_lists_may_ask_for_newer_ones_and_for_nothing_else(pair: Pair) -> None:
    """Threats, row 22: a stale list; and a way out of it. # Decision 13"""
    for which in (pair.above, pair.below):
        which.age()
        assert (await deferred(pair)).reason is Reason.PEER_LIST_OLD
        assert await pair.link.trust(QUESTION) == ANSWER
        which.says.clear()
        assert await pair.link.push(BATCH) == TAKEN


HOSTILE = [
    b"",
    b"[]",
    b"{}",
    b'{"session": "", "since": 0}',
    b'{"session": "", "since": -1, "lists": []}',
    b'{"session": "", "since": 0, "lists": [{}]}',
    b'{"session": "", "since": 0, "lists": ["x"]}',
    b'{"session": "\\n", "since": 0, "lists": []}',
    b'{"session": "", "since": 0, "lists": [' + b",".join([b'{"authority": "", "list": ""}'] * 65) + b"]}",
    b'{"session": "", "since": NaN, "lists": []}',
]


@pytest.mark.parametrize("body", HOSTILE)
async def test_a_question_of_another_form_is_refused(pair: Pair, body: bytes) -> None:
    """Threats, row 10: JSON abuse."""
    child = put(pair.folder / "child", NODE, ROOT)
    context = link_client_context(child.certificate, child.key, child.trust)
    reader, writer = await asyncio.open_connection(HOST, pair.listener.port, ssl=context, server_hostname=PARENT_NAME)
    writer.write(head("POST", "trust", "application/json", len(body)) + body)
    answer = await reader.read()
    writer.close()
    assert (status(answer), reason_in(answer)) == (400, "wire-malformed")
    assert pair.asked == []


def test_both_forms_come_back_whole_and_a_later_field_does_no_harm() -> None:
    assert decode_question(encode_question(QUESTION)) == QUESTION
    assert decode_answer(encode_answer(ANSWER)) == ANSWER
    old = {name: strict_json(encode_answer(ANSWER))[name] for name in ("session", "place", "more", "lists")}
    assert decode_answer(json.dumps(old).encode()) == TrustAnswer("s-2", 9, True, ANSWER.lists)
    for csr in ("", "x" * 8192):
        assert decode_renewal(encode_renewal(csr, "")) == (csr, "")
    with pytest.raises(Refused):
        decode_renewal(encode_renewal("x" * 8193, ""))
    later = {**strict_json(encode_answer(ANSWER)), "later": 1}
    assert decode_answer(json.dumps(later).encode()) == ANSWER
    with pytest.raises(Refused):
        decode_answer(encode_answer(ANSWER).replace(b"true", b"1"))


async def test_a_parent_at_another_address_is_called_there_once_it_has_proven_to_be_it(pair: Pair) -> None:
    """Threats, row 25: an address out of an advert is tried, and hears nothing."""
    port = pair.listener.port
    elsewhere = put(pair.folder / "elsewhere", NODE, ROOT)
    context = link_server_context(elsewhere.certificate, elsewhere.key, elsewhere.trust)
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0, ssl=context) as rogue:
        at = rogue.sockets[0].getsockname()[1]
        with pytest.raises(Refused):
            await pair.link.move(HOST, at)
    assert await pair.link.push(BATCH) == TAKEN
    lost = HttpLink(section(put(pair.folder / "child", NODE, ROOT), 1), ZONE, Clock())
    try:
        with pytest.raises(Deferred):
            await lost.push(BATCH)
        assert not await lost.move(HOST, 1)
        assert await lost.move(HOST, port)
        assert await lost.push(BATCH) == TAKEN
    finally:
        await lost.close()
    assert set(heard) <= {b""}

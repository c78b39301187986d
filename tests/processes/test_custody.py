"""Custody at its edges: what an office was told must be true whatever dies, and whoever hangs up, in the middle of it."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from urllib.parse import urlsplit

import pytest

from node.core.package import Reference
from tests.processes.letters import DATE, MADE_MS, arrived, connector, insist, letter, status
from tests.processes.tree import Tree, eventually
from tests.vxp_client import Prepared, VxpClient

SMALL_BYTES, FILE_BYTES = 3_000, 300_000
"""On both sides of where a body becomes a file."""
KILLS_MAX = 20
HANGUPS = 12


async def send_and_leave(tree: Tree, client: VxpClient, package: bytes, after_s: float) -> None:
    """Every byte of a sendEdoc leaves; the connection is broken `after_s` later and the answer never read."""
    request: Prepared = client.prepare_send(package)
    where = urlsplit(request.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, ssl=tree.tls())
    head = f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {len(request.body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in request.headers)
    writer.write(head.encode() + b"\r\n" + request.body)
    await writer.drain()
    await asyncio.sleep(after_s)  # how long the client lives on, which is what the story varies
    writer.transport.abort()
    del reader


def taken(tree: Tree, code: str, package: bytes) -> list[str]:
    """The docIds under which the node has this very file."""
    digest = hashlib.sha256(package).hexdigest()
    return [row[0] for row in tree.nodes[code].query("SELECT doc_id FROM submission WHERE file_digest=?", digest)]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", [SMALL_BYTES, FILE_BYTES])
async def test_the_same_file_gets_the_same_docid_when_the_first_answer_was_lost_to_a_kill(seven: Tree, size: int) -> None:
    """The node dies ever later after the bytes have left, until it was twice just after its commit."""
    node = seven.nodes["H41.07"]
    before = after = number = 0
    async with connector(seven, "H14.09.01") as receiver:
        while after < 2:
            assert number < KILLS_MAX, f"{before} kills before a commit, {after} after one: the story was not told"
            package = letter("H41.07.01", "H14.09.01", number=number, size=size, seed=f"answer lost {size}")
            async with connector(seven, "H41.07.01") as sender:
                await send_and_leave(seven, sender, package, 0.004 * number**1.5)
                node.kill()
                first = taken(seven, "H41.07", package)
                before, after, number = before + (not first), after + bool(first), number + 1
                node.start()
                await node.ready()
                doc_id = (await insist(lambda p=package: sender.send(p)))["DocId"]  # type: ignore[misc]
                assert taken(seven, "H41.07", package) == [doc_id]
                assert first in ([], [doc_id])
                assert (await sender.send(package))["DocId"] == doc_id
            await collect(receiver, doc_id, package)
        assert await receiver.received() == []


@pytest.mark.parametrize("size", [SMALL_BYTES, FILE_BYTES])
async def test_a_client_that_hangs_up_takes_nothing_with_it(seven: Tree, size: int) -> None:
    """What was committed while nobody listened any more is whole, leaves at once, and is the same document when sent again."""
    left: list[bytes] = []
    async with connector(seven, "H41.07.01") as sender, connector(seven, "H14.05.01") as receiver:
        while len(left) < HANGUPS or not any(taken(seven, "H41.07", package) for package in left):
            assert len(left) < 4 * HANGUPS, "no client hung up after a commit: the story was not told"
            number = 2 * len(left)
            package = letter("H41.07.01", "H14.05.01", number=number, size=size, seed=f"hung up {size}")
            await send_and_leave(seven, sender, package, number * 0.001)
            doc_id = (await sender.send(package))["DocId"]
            assert taken(seven, "H41.07", package) == [doc_id]
            await collect(receiver, doc_id, package)
            left.append(letter("H41.07.01", "H14.05.01", number=number + 1, size=size, seed=f"hung up {size}"))
            await send_and_leave(seven, sender, left[-1], number * 0.001)  # and this one never comes back
        for package in left:
            for doc_id in taken(seven, "H41.07", package):
                await collect(receiver, doc_id, package)
        assert await receiver.received() == []


async def collect(receiver: VxpClient, doc_id: str, package: bytes) -> None:
    """It comes within seconds, whole, and is confirmed."""
    assert await eventually(lambda: arrived(receiver, doc_id), f"{doc_id} came", 10)
    assert await receiver.get(doc_id) == package
    assert (await receiver.update(doc_id, "done"))["status"] == "OK"


async def test_the_receivers_node_is_killed_between_get_and_done(seven: Tree) -> None:
    node = seven.nodes["H14.05"]
    async with connector(seven, "H41") as sender, connector(seven, "H14.05.01") as receiver:
        package = letter("H41", "H14.05.01", size=FILE_BYTES, seed="between")
        doc_id = (await sender.send(package))["DocId"]
        assert await eventually(lambda: arrived(receiver, doc_id), "it came")
        assert await receiver.get(doc_id) == package
        node.kill()
        node.start()
        await node.ready()
        assert await insist(lambda: receiver.get(doc_id)) == package
        line = await arrived(receiver, doc_id)
        assert line is not None
        assert line["from"] == "H41"
        assert (await receiver.update(doc_id, "done"))["status"] == "OK"
        assert (await receiver.update(doc_id, "done"))["status"] == "OK"  # its answer was lost: the same again is no fault
        assert await receiver.received() == []
        await eventually(lambda: _state(sender, doc_id, "collected"), "the sender knows")


async def test_a_done_whose_answer_was_lost_to_a_kill_holds(seven: Tree) -> None:
    node = seven.nodes["H14.05"]
    async with connector(seven, "H41") as sender, connector(seven, "H14.05.01") as receiver:
        for number in range(4):
            package = letter("H41", "H14.05.01", number=number, seed="done lost")
            doc_id = (await sender.send(package))["DocId"]
            assert await eventually(lambda d=doc_id: arrived(receiver, d), "it came")  # type: ignore[misc]
            await receiver.get(doc_id)
            asked = asyncio.ensure_future(receiver.update(doc_id, "done"))
            await asyncio.sleep(0.002 * number)  # the moment of the kill is what the story varies
            node.kill()
            await asyncio.gather(asked, return_exceptions=True)
            node.start()
            await node.ready()
            assert (await insist(lambda d=doc_id: receiver.update(d, "done")))["status"] == "OK"  # type: ignore[misc]
            assert await receiver.received() == []
            await eventually(lambda d=doc_id: _state(sender, d, "collected"), "the sender knows")  # type: ignore[misc]
            confirmed = node.count(
                "journal WHERE event='collected' AND envelope IN (SELECT id FROM envelope WHERE doc_id=?)", doc_id
            )
            assert confirmed == 1  # the sender was told once


async def _state(sender: VxpClient, doc_id: str, state: str) -> bool:
    return [line["sendStatus"] for line in await sender.sent(doc_id)] == [state]


async def test_statuses_come_home_once_each_although_every_node_between_is_killed(seven: Tree) -> None:
    road = [seven.nodes[code] for code in ("H14.05", "H14", "", "H41")]
    async with connector(seven, "H41") as sender, connector(seven, "H14.05.01") as receiver:
        package = letter("H41", "H14.05.01", number=77, seed="statuses")
        doc_id = (await sender.send(package))["DocId"]
        assert await eventually(lambda: arrived(receiver, doc_id), "it came")
        await receiver.get(doc_id)
        await receiver.update(doc_id, "done")
        about = Reference("H41", "77/CV-TH", DATE, doc_id)
        reports = [status("H14.05.01", about, code, doc_id, MADE_MS + int(code)) for code in ("01", "03", "06")]
        for report, struck in zip(reports, (road[0:2], road[1:3], road[2:4]), strict=True):
            sent = asyncio.ensure_future(insist(lambda r=report: receiver.send(r, message_type="status")))  # type: ignore[misc]
            for node in struck:
                node.kill()
            for node in struck:
                node.start()
            assert (await sent)["status"] == "OK"
        found: dict[str, bytes] = {}

        async def collect() -> bool:
            for line in await insist(lambda: sender.received("status")):
                assert line["docId"] not in found, "a confirmed status is offered again"
                found[line["docId"]] = await sender.get(line["docId"])
                await sender.update(line["docId"], "done")
            return len(found) >= 3

        await eventually(collect, "three statuses", 60)
        assert sorted(found.values()) == sorted(reports)
        (line,) = await sender.sent(doc_id)
        assert (line["sendStatus"], line["receiveStatus"]) == ("collected", "06")
        for node in road:
            await node.ready()


async def test_a_receiver_that_cannot_be_reached_is_refused_at_the_first_node_within_a_second(seven: Tree) -> None:
    """Also while the rest of the tree is away. # QĐ 28/2018 Điều 7.1, 8.2"""
    seven.nodes["H41"].kill()
    reasons = {
        "G04": "recipient-closed",
        "H22": "recipient-closed",
        "H41.15": "recipient-locked",
        "H14.30": "recipient-not-connected",
        "H41.07.99": "recipient-unknown",
    }
    try:
        async with connector(seven, "H41.07") as sender:
            await sender.received()  # the connection stands
            for number, (code, reason) in enumerate(reasons.items()):
                began = time.monotonic()
                answer = await sender.send(letter("H41.07", code, number=number, seed="nowhere"))
                assert time.monotonic() - began < 1
                assert answer["status"] == "FAIL"
                assert code in answer["ErrorDesc"]
                assert re.search(rf"\[{reason}\]$", answer["ErrorDesc"])
                assert "G17" in answer["ErrorDesc"] or code != "G04"  # its successor
            answer = await sender.send(letter("H41.07", *reasons, "H14.05", number=9, seed="nowhere"))
            assert answer["status"] == "OK"
            assert all(f"[{reason}]" in answer["ErrorDesc"] and code in answer["ErrorDesc"] for code, reason in reasons.items())
            lines = {line["toCode"]: line["sendStatus"] for line in await sender.sent(answer["DocId"])}
            assert lines == {**dict.fromkeys(reasons, "refused"), "H14.05": "queued"}
    finally:
        seven.nodes["H41"].start()
        await seven.nodes["H41"].ready()
    async with connector(seven, "H14.05") as receiver:
        assert await eventually(lambda: arrived(receiver, answer["DocId"]), "the good receiver got it")
        await receiver.get(answer["DocId"])
        await receiver.update(answer["DocId"], "done")


async def test_a_node_that_is_frozen_and_thawed_goes_on_as_if_nothing_was(seven: Tree) -> None:
    hub = seven.nodes[""]
    async with connector(seven, "H41") as sender, connector(seven, "H14.05.01") as receiver:
        hub.pause()
        try:
            sent = [(await sender.send(letter("H41", "H14.05.01", number=n, seed="frozen")))["DocId"] for n in range(10)]
            await eventually(lambda: seven.nodes["H41"].count("outbox WHERE in_doubt=1"), "the first was offered in vain")
        finally:
            hub.resume()

        async def all_there() -> bool:
            return sorted(line["docId"] for line in await receiver.received()) == sorted(sent)

        await eventually(all_there, "all ten once")
        for doc_id in sent:
            await receiver.get(doc_id)
            await receiver.update(doc_id, "done")

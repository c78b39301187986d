"""Documents in: who may send what to whom, what is refused at the first node, and what a neighbour may present."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from structlog.testing import capture_logs

from node import intake as module
from node.core import envelope as envelopes
from node.core.custody import End, EndOf, StoredBody
from node.core.directory import Connection
from node.core.envelope import KIND_DOCUMENT, KIND_NOTICE, KIND_STATUS, Recipient, Sealed, derived_doc_id, encode_header
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.notice import MEDIA_NOTICE, NOTICE_BYTES_MAX, encode_notice
from node.core.office import Claim, Submitted
from node.core.package import Priority
from node.core.routing import Child
from node.core.wire import Batch, Outcome, PullRequest
from node.origin import MEDIA_EDXML, Content, small_body
from tests.adapters.pki import NOW_MS
from tests.making import EVERYTHING, resealed
from tests.tree import (
    H41,
    H54,
    HUB,
    PATIENCE_S,
    UNIT,
    Site,
    Tree,
    batch,
    chunks,
    document,
    hold,
    org,
    planted,
    refused_with,
    signed,
    spooled,
    status,
)

DAY_MS = 86_400_000
OFFICE, OTHER_OFFICE = org("H54.02"), org("H54.03")


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Tree]:
    async with planted(tmp_path, HUB, H41, H54, UNIT) as found:
        yield found


def content(*to: OrgId, kind: str = KIND_DOCUMENT, sender: OrgId = H41, body: StoredBody | None = None, **more: Any) -> Content:
    recipients = tuple(Recipient(code, str(code)) for code in to or (OFFICE,))
    body = body or small_body(b"van ban")
    expires = 0 if kind != KIND_DOCUMENT else NOW_MS + 7 * DAY_MS
    return Content(kind, sender, recipients, body, MEDIA_EDXML, "doc-1", **{"expires_ms": expires, **more})


async def present(site: Site, what: Batch, neighbour: OrgId) -> dict[str, tuple[Outcome, Reason | None]]:
    """The verdicts on the first envelope, by recipient."""
    verdicts = await site.duties.intake.accept(what, neighbour)
    return {str(code): (said.outcome, said.reason) for code, said in verdicts[0].verdicts.items()}


# --- from an office: who receives ------------------------------------------------------------------------------------------


async def test_a_package_is_n_deliveries_and_a_bad_receiver_does_not_stop_the_others(tree: Tree) -> None:
    """QĐ 28/2018 Điều 8.2: a letter with one closed code reaches all the others."""
    site = tree[H41]
    taken = await site.send("ubnd-41", document("H54.02", "000.00.00.H26", "G22", "H54.08", "H54.10", "G99"))
    problems = {problem.written: (problem.refusal.reason, problem.successor) for problem in taken.problems}
    assert problems == {
        "000.00.00.H26": (Reason.RECIPIENT_CLOSED, "H54"),
        "H54.08": (Reason.RECIPIENT_NOT_CONNECTED, ""),  # Điều 7.1: paper
        "H54.10": (Reason.RECIPIENT_LOCKED, ""),
        "G99": (Reason.RECIPIENT_UNKNOWN, ""),
    }
    lines = await site.sent("ubnd-41")
    assert {code: line.send_state for code, line in lines.items()} == {
        "H54.02": "queued",
        "G22": "queued",
        "H26": "refused",
        "H54.08": "refused",
        "H54.10": "refused",
        "G99": "refused",
    }
    assert "H54" in lines["H26"].send_text
    assert "giấy" in lines["H54.08"].send_text
    assert site.count("outbox") == 2
    refused = sum(line.send_state == "refused" for line in lines.values())
    assert site.count("envelope") == 1 + refused  # each refused receiver is also told by a 02 From the axis
    assert len(await site.inbox("ubnd-41", "status")) == refused
    assert site.tally.value("truc_refusals_total", door="office", reason="recipient-closed") == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("000.00.00.H26", Reason.RECIPIENT_CLOSED),
        ("H54.08", Reason.RECIPIENT_NOT_CONNECTED),
        ("H54.10", Reason.RECIPIENT_LOCKED),
        ("G99", Reason.RECIPIENT_UNKNOWN),
        ("null", Reason.CODE_PLACEHOLDER),
        ("x" * 36, Reason.CODE_TOO_LONG),
    ],
)
async def test_a_package_without_a_receiver_left_is_refused_at_the_first_node(tree: Tree, code: str, reason: Reason) -> None:
    """QĐ 28/2018 Điều 7.1: at once, with the reason, and nothing is kept."""
    site = tree[H41]
    with pytest.raises(Refused) as caught:
        await site.send("ubnd-41", document(code))
    assert refused_with(caught) is reason
    assert site.count("submission") == site.count("body") == site.count("journal") == 0


async def test_every_bad_receiver_is_named_when_none_is_left(tree: Tree) -> None:
    with pytest.raises(Refused) as caught:
        await tree[H41].send("ubnd-41", document("H54.08", "000.00.00.H26"))
    assert refused_with(caught) is Reason.NO_RECIPIENT
    assert "H54.08" in caught.value.value
    assert "[recipient-not-connected]" in caught.value.rule
    assert "[recipient-closed]" in caught.value.rule


async def test_a_system_may_ask_for_all_or_nothing(tree: Tree) -> None:
    site = tree[H41]
    with pytest.raises(Refused) as caught:
        await site.send("so-y-te", document("H54.02", "H54.08", sender="H41.05"))
    assert refused_with(caught) is Reason.ALL_OR_NOTHING
    assert site.count("submission") == 0
    assert (await site.send("so-y-te", document("H54.02", sender="H41.05"))).problems == ()


async def test_a_code_without_a_connection_is_delivered_to_the_organ_that_receives_for_it(tree: Tree) -> None:
    """QĐ 28/2018 Điều 21.2: that office prints and passes on; the addressed code is kept."""
    tree.run()
    await tree[H41].send("ubnd-41", document("H54.02.09"))
    (line,) = await tree.until(lambda: tree[H54].inbox("thai-binh"))
    assert line.recipient == "H54.02.09"


async def test_the_same_file_again_is_the_same_document_also_when_its_receiver_was_closed_meanwhile(tree: Tree) -> None:
    """Its first answer may be what was lost: it must not hear that nothing was sent."""
    site = tree[H41]
    package = document("H54.02")
    first = await site.send("ubnd-41", package)
    around = site.surroundings
    entries = tuple(
        replace(each, connection=Connection.CLOSED) if each.code == OFFICE else each for each in around.directory.entries
    )
    around.directory = replace(around.directory, entries=entries)
    again = await site.send("ubnd-41", package)
    assert (again.doc_id, again.repeated, again.problems) == (first.doc_id, True, ())
    assert site.tally.value("truc_duplicates_total", door="office") == 1
    with pytest.raises(Refused, match="recipient-closed"):
        await site.send("ubnd-41", document("H54.02", number="13"))
    assert len(spooled(site)) == 0


async def test_a_receiver_named_twice_is_one_delivery(tree: Tree) -> None:
    """The old and the new form are one organ."""
    taken = await tree[H41].send("ubnd-41", document("H54.02", "000.00.02.H54", "h54.02"))
    assert taken.problems == ()
    assert tree[H41].count("delivery") == 1


async def test_offices_of_one_node_write_to_each_other_without_a_road(tree: Tree) -> None:
    tree.run()
    data = document("H41.05")
    taken = await tree[H41].send("ubnd-41", data)
    (line,) = await tree[H41].inbox("so-y-te")
    assert line.doc_id == taken.doc_id
    assert await tree[H41].fetch("so-y-te", line.doc_id) == data
    assert tree[H41].count("outbox") == 0


# --- from an office: who sends ---------------------------------------------------------------------------------------------


HOSTILE = """x' OR '1'='1'; DROP TABLE envelope; --"%_\\"""


async def test_what_an_office_writes_is_a_value_to_the_database_and_never_a_part_of_its_language(tree: Tree) -> None:
    """Threats, row 31: quotes, wildcards and statements in every text that is stored, looked for or compared."""
    site = tree[H41]
    innocent = (await site.send("ubnd-41", document("H54.02"))).doc_id
    package = document("H54.02", number=HOSTILE, document_id=HOSTILE).replace(b"UBND-VX", escape(HOSTILE).encode())
    taken = await site.send("ubnd-41", package)
    assert site.rows("SELECT document_id FROM submission WHERE doc_id=?", taken.doc_id) == [(HOSTILE,)]
    assert site.count("envelope") == 2
    assert {row["doc_id"] for row in await site.store.trace(HOSTILE, 100)} == {taken.doc_id}
    assert await site.store.trace("%", 100) == []
    with pytest.raises(Refused):
        await site.fetch("ubnd-41", HOSTILE)
    assert await site.duties.mailbox.sent(site.system("ubnd-41"), "edoc", HOSTILE) == []
    sent = await site.duties.mailbox.sent(site.system("ubnd-41"), "edoc", None)
    assert {line.doc_id for line in sent} == {innocent, taken.doc_id}


@pytest.mark.parametrize(
    ("sender", "reason"),
    [("000.00.02.H54", Reason.SENDER_NOT_ALLOWED), ("H41.07", Reason.SENDER_NOT_ALLOWED), ("H41.99", Reason.SENDER_NOT_ALLOWED)],
)
async def test_a_system_sends_for_its_own_codes_only(tree: Tree, sender: str, reason: Reason) -> None:
    """QĐ 28/2018 Điều 6.1: the package's From decides. Threats, row 20."""
    with pytest.raises(Refused) as caught:
        await tree[H41].send("ubnd-41", document("H54.02", sender=sender))
    assert refused_with(caught) is reason


async def test_a_system_whose_organ_is_not_in_the_directory_cannot_send(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tree[H41]
    system = replace(site.system("ubnd-41"), codes=(org("H41.99"),))
    with pytest.raises(Refused) as caught:
        await site.duties.intake.submit(system, chunks(document("H54.02", sender="H41.99")), Claim())
    assert refused_with(caught) is Reason.SENDER_UNKNOWN


# --- from an office: the same file again -----------------------------------------------------------------------------------


async def test_the_same_file_gets_the_same_doc_id_and_leaves_no_second_copy(tree: Tree) -> None:
    site = tree[H41]
    data = document("H54.02", content=os.urandom(200_000))
    first, second = await site.send("ubnd-41", data), await site.send("ubnd-41", data)
    assert (second.doc_id, first.repeated, second.repeated) == (first.doc_id, False, True)
    assert site.count("outbox") == 1
    assert len(spooled(site)) == 1
    assert site.tally.value("truc_duplicates_total", door="office") == 1
    assert site.tally.value("truc_envelopes_accepted_total", source="office") == 1


async def test_after_a_day_it_is_another_document_whose_body_is_stored_once(tree: Tree) -> None:
    site = tree[H41]
    data = document("H54.02", content=os.urandom(200_000))
    first = await site.send("ubnd-41", data)
    tree.clock.now_ms += DAY_MS
    second = await site.send("ubnd-41", data)
    assert second.doc_id != first.doc_id
    assert len(spooled(site)) == site.count("body") == 1


# --- from an office: many at once ------------------------------------------------------------------------------------------


async def test_many_packages_are_judged_each_by_itself_and_committed_together(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tree[H41]
    good, again = document("H54.02"), document("H54.02", content=b"khac")
    packages = [good, b"<a", again, document("H99.99"), b"?", document("H54.03", content=os.urandom(200_000)), good]
    new_reader = site.duties.intake._new_reader

    class Broken:
        def feed(self, chunk: bytes) -> None:
            raise ZeroDivisionError

    def reader() -> Any:
        return Broken() if next(turns) == 4 else new_reader()

    turns = iter(range(len(packages)))
    monkeypatch.setattr(site.duties.intake, "_new_reader", reader)
    commits = site.tally.value("truc_commits_total")
    with capture_logs() as logs:
        found = await site.duties.intake.submit_many(site.system("ubnd-41"), [([each], Claim()) for each in packages])
    assert [each.repeated if isinstance(each, Submitted) else each.reason for each in found] == [
        *(False, Reason.XML_MALFORMED, False, Reason.RECIPIENT_UNKNOWN, Reason.INTERNAL, False, True),
    ]
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["package could not be judged"]
    assert site.tally.value("truc_commits_total") == commits + 1
    assert site.tally.value("truc_envelopes_accepted_total", source="office") == site.count("outbox") == 3
    assert len(spooled(site)) == 1


async def test_many_of_whom_nobody_waits_any_more_leave_no_files(tree: Tree) -> None:
    site = tree[H41]
    large = document("H54.02", content=os.urandom(200_000))

    def cut() -> Iterator[bytes]:
        yield large
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await site.duties.intake.submit_many(site.system("ubnd-41"), [([large], Claim()), (cut(), Claim())])
    assert spooled(site) == []


# --- from an office: what goes wrong on the way in -------------------------------------------------------------------------


async def test_a_package_that_is_no_package_leaves_nothing_behind(tree: Tree) -> None:
    site = tree[H41]
    for data in (b"", b"<a", document("H54.02", content=os.urandom(300_000))[:-20]):
        with pytest.raises(Refused):
            await site.send("ubnd-41", data)
    assert spooled(site) == []
    assert site.count("journal") == 0


async def test_a_caller_who_breaks_off_leaves_nothing_behind(tree: Tree) -> None:
    site = tree[H41]
    data = document("H54.02", content=os.urandom(600_000))

    async def cut() -> AsyncIterator[bytes]:
        yield data[:500_000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await site.duties.intake.submit(site.system("ubnd-41"), cut(), Claim())
    assert spooled(site) == []


async def test_a_caller_who_hangs_up_while_the_commit_runs_loses_nothing(tree: Tree) -> None:
    """Decision 3: the row names the file; the retry gets the same docId, and the neighbour is woken all the same."""
    site = tree[H41]
    data = document("H54.02", content=os.urandom(200_000))
    gate, entered = asyncio.Event(), asyncio.Event()
    hold(site, gate, entered)
    call = asyncio.ensure_future(site.send("ubnd-41", data))
    await entered.wait()
    call.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(PATIENCE_S):
        assert await site.store.ask(HUB, EVERYTHING, stands=True) is not None
    again = await site.send("ubnd-41", data)
    assert again.repeated
    ((file,),) = site.rows("SELECT file FROM body")
    assert await site.bodies.intact(file, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(("code", "in_doubt", "files"), [(sqlite3.SQLITE_FULL, False, 0), (sqlite3.SQLITE_IOERR, True, 1)])
async def test_a_commit_that_fails_takes_the_file_along_only_if_it_surely_failed(
    tmp_path: Path, code: int, in_doubt: bool, files: int
) -> None:
    """Decision 3: after an I/O error the row may or may not be there, and it names the file."""
    async with planted(tmp_path, HUB) as tree:
        site = tree[HUB]

        async def fails(work: Any) -> Any:
            error = sqlite3.OperationalError("the disk")
            error.sqlite_errorcode = code
            raise error

        site._connections[0].run = fails  # type: ignore[method-assign]
        with pytest.raises(Deferred) as caught:
            await site.send("vpcp", document("G22", sender="G22", content=os.urandom(200_000)))
        assert caught.value.in_doubt is in_doubt
        assert len(spooled(site)) == files
        if in_doubt:
            with pytest.raises(Exception, match="the disk"):
                await site._tasks.pop()


async def test_receivers_that_no_header_can_hold_are_refused_here_not_held_on_the_road(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tree[H41].send("ubnd-41", document("H54.02"))
    ((size,),) = tree[H41].rows("SELECT length(header) FROM envelope")
    monkeypatch.setattr(module, "HEADER_BYTES_MAX", size + 10)
    with pytest.raises(Refused) as caught:
        await tree[H41].send("ubnd-41", document("H54.02", "H54.03", "G22"))
    assert (refused_with(caught), caught.value.element) == (Reason.TOO_MANY_ELEMENTS, "To")
    assert tree[H41].count("submission") == 1


@pytest.mark.parametrize(
    ("free", "taken"),
    [(0.11, {Priority.NORMAL, Priority.URGENT, Priority.EXPRESS}), (0.09, {Priority.URGENT, Priority.EXPRESS}), (0.02, set())],
)
async def test_a_disk_that_fills_stops_bulk_first_then_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, taken: set[Priority]
) -> None:
    """Disk runway: never a lost row; the caller hears `later`."""
    options = {"store": {"free_bulk_percent": 10, "free_urgent_percent": 3}}
    async with planted(tmp_path, H41, options=options) as tree:
        site = tree[H41]
        monkeypatch.setattr(site.bodies, "free_ratio", lambda: free)
        for priority in (Priority.NORMAL, Priority.URGENT, Priority.EXPRESS):
            package = document("H41.05", priority=priority, number=str(int(priority)))
            if priority in taken:
                await site.send("ubnd-41", package)
            else:
                with pytest.raises(Deferred) as caught:
                    await site.send("ubnd-41", package)
                assert caught.value.reason is Reason.DISK_FULL
        assert site.count("submission") == len(taken)
        assert spooled(site) == []


# --- statuses --------------------------------------------------------------------------------------------------------------


async def test_a_status_goes_to_the_sender_of_the_document_it_names(tree: Tree) -> None:
    """QĐ 28/2018 Điều 9.2: whatever its ResponseFor says of the organ."""
    tree.run()
    taken = await tree[H41].send("ubnd-41", document("H54.02"))
    (line,) = await tree.until(lambda: tree[H54].inbox("thai-binh"))
    sent = await tree[H54].send("thai-binh", status("01", line.doc_id, organ="G99"))
    assert sent.problems == ()
    await tree.until(lambda: tree[H41].inbox("ubnd-41", "status"))
    lines = await tree[H41].sent("ubnd-41")
    assert (lines["H54.02"].receive_state, lines["H54.02"].doc_id) == ("01", taken.doc_id)


@pytest.mark.parametrize(("organ", "code"), [("000.00.00.H41", "12/UBND-VX"), ("12/UBND-VX", "000.00.00.H41")])
async def test_a_status_about_an_unknown_document_goes_where_it_says_in_either_field(tree: Tree, organ: str, code: str) -> None:
    """One vendor swaps ResponseFor/OrganId and ResponseFor/Code."""
    package = status("03", "không ai biết", organ=organ).replace(b">12/UBND-VX</edXML:Code>", f">{code}</edXML:Code>".encode())
    await tree[H54].send("thai-binh", package)
    assert tree[H54].rows("SELECT recipient,lane FROM outbox") == [("H41", 0)]


async def test_a_status_for_nobody_is_refused_with_what_it_says(tree: Tree) -> None:
    with pytest.raises(Refused) as caught:
        await tree[H54].send("thai-binh", status("03", "không ai biết", organ="Ủy ban nhân dân"))
    assert refused_with(caught) is Reason.STATUS_TARGET_UNKNOWN


async def test_a_13_goes_to_everybody_who_was_sent_the_document(tree: Tree) -> None:
    await tree[H41].send("ubnd-41", document("H54.02", "G22", document_id="H41,2031,12"))
    await tree[H41].send("ubnd-41", status("13", "H41,2031,12", sender="H41", organ="H41"))
    assert sorted(tree[H41].rows("SELECT recipient FROM outbox WHERE lane=0")) == [("G22",), ("H54.02",)]


async def test_a_status_between_offices_of_one_node_joins_its_document_at_once(tree: Tree) -> None:
    await tree[H41].send("ubnd-41", document("H41.05"))
    (line,) = await tree[H41].inbox("so-y-te")
    await tree[H41].send("so-y-te", status("03", line.doc_id, sender="H41.05"))
    assert (await tree[H41].sent("ubnd-41"))["H41.05"].receive_state == "03"
    (told,) = await tree[H41].inbox("ubnd-41", "status")
    assert told.kind == "status"


@pytest.mark.parametrize("receiver", ["H54.02", "H41.05"])
@pytest.mark.parametrize(
    ("priority", "lane"),
    [
        (Priority.NORMAL, ""),
        (Priority.URGENT, "urgent"),
        (Priority.VERY_URGENT, "very_urgent"),
        (Priority.EXPRESS, "express"),
        (Priority.EXPRESS_TIMED, "express"),
    ],
)
async def test_an_urgent_document_raises_an_event_as_soon_as_it_lies_before_its_office(
    tree: Tree, receiver: str, priority: Priority, lane: str
) -> None:
    """QĐ 28/2018 Điều 6.2: also where it never leaves its node, and once, however often it is offered."""
    target = tree[H54 if receiver == "H54.02" else H41]
    tree[H41].line.fault("push", "twice")
    with capture_logs() as logs:
        tree.run()
        await tree[H41].send("ubnd-41", document(receiver, priority=priority))
        await tree.until(lambda: target.count("mailbox"), "it lies before its office")
        await tree.until(lambda: not any(site.count("outbox") for site in tree.sites.values()))
    events = [entry for entry in logs if entry["event"] == "urgent document waits for its office"]
    assert [(entry["lane"], entry["count"]) for entry in events] == ([(lane, 1)] if lane else [])
    for name in ("express", "very_urgent", "urgent"):
        assert target.tally.value("truc_urgent_laid_total", lane=name) == int(name == lane)


async def test_a_status_never_expires(tree: Tree) -> None:
    """Decision 11."""
    await tree[H54].send("thai-binh", status("01", "", organ="H41"))
    assert tree[H54].rows("SELECT expires_ms FROM outbox") == [(0,)]


async def test_an_unmatched_status_is_delivered_flagged_and_counted(tree: Tree) -> None:
    tree.run()
    await tree[H54].send("thai-binh", status("01", "không ai biết", organ="H41"))
    await tree.until(lambda: tree[H41].tally.value("truc_statuses_total", result="unmatched") == 1)
    assert tree[H41].rows("SELECT flag FROM mailbox") == [("unmatched",)]


# --- one system, two organs ------------------------------------------------------------------------------------------------


async def test_a_system_that_receives_for_two_organs_can_tell_its_items_apart(tree: Tree) -> None:
    """Decision 1: the docId of the second is derived, so that the origin knows it again in a status."""
    tree.run()
    taken = await tree[H41].send("ubnd-41", document("H54.02", "H54.03"))
    await tree.until(lambda: tree[H54].count("mailbox") == 2)
    ids = {line.recipient: line.doc_id for line in await tree[H54].inbox("thai-binh")}
    assert ids == {"H54.02": taken.doc_id, "H54.03": derived_doc_id(taken.doc_id, "H54.03")}
    await tree[H54].send("thai-binh", status("03", ids["H54.03"], sender="H54.03"))
    await tree.until(lambda: tree[H41].inbox("ubnd-41", "status"))
    lines = await tree[H41].sent("ubnd-41")
    assert {code: line.receive_state for code, line in lines.items()} == {"H54.02": "", "H54.03": "03"}


async def test_the_doc_ids_are_the_same_whatever_part_of_the_receivers_comes_first(tree: Tree) -> None:
    made = signed(tree[H41], content(OFFICE, OTHER_OFFICE))
    for code in (OTHER_OFFICE, OFFICE):
        await present(tree[H54], batch(made, remaining=[code]), HUB)
    ids = dict(tree[H54].rows("SELECT organ,doc_id FROM mailbox"))
    assert ids == {"H54.02": "doc-1", "H54.03": derived_doc_id("doc-1", "H54.03")}


# --- from a neighbour: who may present what --------------------------------------------------------------------------------


async def test_a_child_presents_what_its_own_subtree_originates(tree: Tree) -> None:
    """QĐ 28/2018 Điều 13.2"""
    assert await present(tree[HUB], batch(signed(tree[H41], content())), H41) == {"H54.02": (Outcome.TAKEN, None)}
    below = batch(signed(tree[UNIT], content(sender=UNIT)), hops=[UNIT, H41])
    assert await present(tree[HUB], below, H41) == {"H54.02": (Outcome.TAKEN, None)}


@pytest.mark.parametrize(
    ("maker", "sender", "kind"),
    [
        (H41, H54, KIND_DOCUMENT),  # another province's sender
        (H41, org("G22"), KIND_DOCUMENT),  # the hub's own organ
        (H54, H41, KIND_DOCUMENT),  # another province's node
        (H54, H54, KIND_NOTICE),
        (H41, H54, KIND_NOTICE),
    ],
)
async def test_a_child_that_presents_a_sender_or_an_origin_outside_its_prefixes_is_refused(
    tree: Tree, maker: OrgId, sender: OrgId, kind: str
) -> None:
    """Threats, row 20: a child may present only senders within its prefixes; the certificate names it, never the body."""
    said = await present(tree[HUB], batch(signed(tree[maker], content(sender=sender, kind=kind))), H41)
    assert said == {"H54.02": (Outcome.REFUSED, Reason.SENDER_OUTSIDE)}
    assert tree[HUB].count("envelope") == 0
    assert tree[HUB].tally.value("truc_refusals_total", door="link", reason="sender-outside") == 1


def moves(tree: Tree, unit: OrgId, parent: OrgId) -> None:
    """The hub's directory names another parent of a unit by now."""
    hub = tree[HUB].surroundings
    nodes = tuple(replace(each, parent=parent) if each.code == unit else each for each in hub.directory.nodes)
    hub.take(replace(hub.directory, nodes=nodes, hung={unit: frozenset((H41, parent))}))


@pytest.mark.parametrize("kind", [KIND_DOCUMENT, KIND_STATUS, KIND_NOTICE])
async def test_what_a_unit_handed_to_its_old_parent_goes_on_by_its_own_signature(tree: Tree, kind: str) -> None:
    """The unit hangs on H54 by now, and H41 still carries what it took from it. No person is needed for that."""
    made = signed(tree[UNIT], content(*([H54] if kind == KIND_NOTICE else []), kind=kind, sender=UNIT))
    moves(tree, UNIT, H54)
    hub = tree[HUB]
    late = batch(made, hops=[UNIT, H41])
    assert {said for said, _ in (await present(hub, replace(late, certificates={}), H41)).values()} == {Outcome.NEED}
    assert hub.count("envelope") == 0
    assert {said for said, _ in (await present(hub, late, H41)).values()} == {Outcome.TAKEN}
    assert hub.rows("SELECT neighbour FROM outbox") == [("H54",)]
    assert hub.tally.value("truc_moved_senders_total") == 1


async def test_an_old_parent_says_nothing_in_the_name_of_a_unit_that_left_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threats, row 20: without the unit's own signature, of a key that stands, nothing is the unit's."""
    hub, refused = tree[HUB], {"H54.02": (Outcome.REFUSED, Reason.SENDER_OUTSIDE)}
    moves(tree, UNIT, H54)
    made = signed(tree[UNIT], content(sender=UNIT))
    own = signed(tree[H41], content(sender=UNIT))
    as_the_unit = encode_header(replace(own.envelope.header, origin=UNIT))
    forged = (
        own,
        replace(own, envelope=replace(own.envelope, sealed=Sealed(as_the_unit, tree[H41].signer.sign(as_the_unit)))),
        replace(made, envelope=resealed(made.envelope, encode_header(replace(made.envelope.header, document_id="khác")))),
        signed(tree[UNIT], content(sender=H41)),
    )
    for each in forged:
        assert await present(hub, batch(each, hops=[UNIT, H41]), H41) == refused
    await present(hub, batch(signed(tree[UNIT], content(OTHER_OFFICE, sender=UNIT)), hops=[UNIT, H54]), H54)
    revoked = NOW_MS
    monkeypatch.setattr(hub.verifier, "_revoked_ms", lambda signed: revoked)
    assert await present(hub, batch(made, hops=[UNIT, H41]), H41) == refused, "stolen, perhaps, and said to be from before"
    revoked = NOW_MS + 1
    moves(tree, UNIT, HUB)
    assert await present(hub, batch(made, hops=[UNIT, H54]), H54) == refused, "it never hung there"
    assert hub.rows("SELECT count(*) FROM outbox WHERE recipient='H54.02'") == [(0,)]
    assert await present(hub, batch(made, hops=[UNIT, H41]), H41) == {"H54.02": (Outcome.TAKEN, None)}


async def test_a_forged_header_is_refused_where_it_arrives(tree: Tree) -> None:
    """Headers are signed by the origin node and verified at the destination. # QĐ 28/2018 Điều 6.1"""
    made = signed(tree[H41], content())
    other = replace(made.envelope.header, document_id="khác")
    forged = replace(made, envelope=resealed(made.envelope, encode_header(other)))
    assert await present(tree[H54], batch(forged), HUB) == {"H54.02": (Outcome.REFUSED, Reason.ORIGIN_SIGNATURE)}
    assert tree[H54].count("mailbox") == 0
    assert await present(tree[H54], batch(made), HUB) == {"H54.02": (Outcome.TAKEN, None)}


async def test_a_parent_cannot_sign_a_document_in_the_name_of_the_node_below(tree: Tree) -> None:
    """Threats, row 20: the header names the node that made it, and only that node's key is believed."""
    made = signed(tree[H41], content(sender=UNIT))
    as_the_unit = encode_header(replace(made.envelope.header, origin=UNIT))
    sealed = replace(made.envelope, sealed=Sealed(as_the_unit, tree[H41].signer.sign(as_the_unit)))
    said = await present(tree[H54], batch(replace(made, envelope=sealed)), HUB)
    assert said == {"H54.02": (Outcome.REFUSED, Reason.ORIGIN_SIGNATURE)}
    assert tree[H54].count("mailbox") == 0


async def test_an_origin_that_signs_for_an_organ_of_another_node_is_refused_where_it_arrives(tree: Tree) -> None:
    made = signed(tree[H41], content(sender=org("G22")))
    assert await present(tree[H54], batch(made), HUB) == {"H54.02": (Outcome.REFUSED, Reason.SENDER_OUTSIDE)}


async def test_a_parent_cannot_make_a_document_itself_for_the_organ_of_a_node_below_it(tree: Tree) -> None:
    """Threats, row 20: signed as its own, by its own key, it comes from the wrong node."""
    assert await present(tree[H54], batch(signed(tree[H41], content(sender=UNIT))), HUB) == {
        "H54.02": (Outcome.REFUSED, Reason.SENDER_OUTSIDE)
    }
    assert tree[H54].count("mailbox") == 0


async def test_a_chain_that_comes_by_another_way_while_we_judge_does_not_spare_the_signature(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signature was not verified: the chain is asked for, and the next copy is judged."""
    made = signed(tree[H41], content())
    bad = replace(made, envelope=resealed(made.envelope, signature=b"forged"))
    site = tree[H54]
    really = site.store.chain

    async def chain(digest: str) -> bytes | None:
        found = await really(digest)
        await present(site, batch(signed(tree[H41], content(OTHER_OFFICE))), HUB)
        return found

    monkeypatch.setattr(site.store, "chain", chain)
    assert (await present(site, batch(bad, chains=False), HUB))["H54.02"][0] is Outcome.NEED
    assert site.rows("SELECT organ FROM mailbox") == [("H54.03",)]
    assert await present(site, batch(bad, chains=False), HUB) == {"H54.02": (Outcome.REFUSED, Reason.ORIGIN_SIGNATURE)}


async def test_a_relay_reads_the_header_only(tree: Tree) -> None:
    """Decision 2: nodes between read the envelope header; the bytes are opaque."""
    made = signed(tree[H41], content(body=small_body(b"\0 khong phai edXML")))
    assert await present(tree[HUB], batch(made), H41) == {"H54.02": (Outcome.TAKEN, None)}


# --- from a neighbour: loops, lifetimes, sizes -----------------------------------------------------------------------------


async def test_what_has_passed_here_before_or_would_go_straight_back_is_a_loop(tree: Tree) -> None:
    made = signed(tree[H41], content())
    assert await present(tree[HUB], batch(made, hops=[H41, HUB]), H41) == {"H54.02": (Outcome.REFUSED, Reason.LOOP)}
    back = signed(tree[H41], content(UNIT, OFFICE))
    said = await present(tree[HUB], batch(back), H41)
    assert said == {"H41.07": (Outcome.REFUSED, Reason.LOOP), "H54.02": (Outcome.TAKEN, None)}


async def test_a_copy_that_comes_back_goes_on_exempt_from_the_loop_rule_but_not_from_the_number_of_hops(tree: Tree) -> None:
    """Decision 4: bounded by hops. H54 was handed it and presents it again: a unit moved."""
    made = signed(tree[H41], content())
    hub = tree[HUB]
    tree[H54].line.door = tree.door(HUB)
    await present(hub, batch(made), H41)
    pulled = await hub.duties.forwarder.pull(H54, pull(1))
    verdicts = await tree[H54].duties.intake.accept(pulled, HUB)
    await hub.duties.forwarder.pull(H54, replace(pull(2), confirmed=1, verdicts=verdicts))
    back = batch(made, hops=[H41, HUB, H54])
    assert await present(hub, back, H54) == {"H54.02": (Outcome.REFUSED, Reason.LOOP)}, "it would go there again"
    table = hub.surroundings.table()
    children = tuple(Child(each.code, (*each.prefixes, OFFICE)) if each.code == H41 else each for each in table.children)
    hub.surroundings._table = replace(table, children=children)
    tired = batch(made, hops=[H41, *[HUB, H54] * 20])
    assert await present(hub, tired, H54) == {"H54.02": (Outcome.REFUSED, Reason.TOO_MANY_HOPS)}
    assert await present(hub, back, H54) == {"H54.02": (Outcome.TAKEN, None)}
    assert hub.rows("SELECT neighbour,json_array_length(hops) FROM outbox") == [("H41", 4)]
    assert hub.tally.value("truc_comebacks_total") == 1


def pull(sequence: int) -> PullRequest:
    return PullRequest("s", sequence, 0, (), 1 << 30, 0)


async def test_a_status_that_comes_back_to_where_its_addressee_is_now_served_is_read_and_joined(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit moved: the office that hung on H41.07 hangs on H41 now, and a status was on its way down to the old place."""
    site = tree[H41]
    tree[UNIT].line.down = True
    data = status("01", "chưa biết", organ="H41.07")
    made = signed(tree[H54], content(UNIT, kind=KIND_STATUS, sender=OFFICE, body=small_body(data)))
    assert await present(site, batch(made), HUB) == {"H41.07": (Outcome.TAKEN, None)}
    pulled = await site.duties.forwarder.pull(UNIT, pull(1))
    verdicts = await tree[UNIT].duties.intake.accept(pulled, H41)
    await site.duties.forwarder.pull(UNIT, replace(pull(2), confirmed=1, verdicts=verdicts))
    table = replace(site.surroundings.table(), served=site.surroundings.table().served | {UNIT})
    monkeypatch.setattr(site.duties.intake, "_table", lambda: table)
    assert await present(site, batch(made, hops=[H54, HUB, H41, UNIT]), UNIT) == {"H41.07": (Outcome.TAKEN, None)}
    assert site.rows("SELECT organ,flag FROM mailbox") == [("H41.07", "unmatched")]


async def test_what_is_over_is_refused_unless_the_clock_is_not_sure(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 11: an unsynchronised node expires nothing."""
    first, second = (signed(tree[H41], content(document_id=name)) for name in "ab")
    tree.clock.now_ms += 7 * DAY_MS + 2000
    assert await present(tree[HUB], batch(first), H41) == {"H54.02": (Outcome.TAKEN, None)}, "both bounds speak for it"
    tree.clock.now_ms += 1
    assert await present(tree[HUB], batch(second), H41) == {"H54.02": (Outcome.REFUSED, Reason.EXPIRED)}
    monkeypatch.setattr(tree.clock, "synchronised", lambda: False)
    assert await present(tree[HUB], batch(second), H41) == {"H54.02": (Outcome.TAKEN, None)}


async def test_a_lifetime_or_a_size_beyond_all_measure_is_refused(tree: Tree) -> None:
    long = signed(tree[H41], content(expires_ms=NOW_MS + 200 * DAY_MS))
    assert await present(tree[HUB], batch(long), H41) == {"H54.02": (Outcome.REFUSED, Reason.LIFETIME)}
    huge = signed(tree[H41], content(body=StoredBody("ab" * 32, 1 << 40)))
    assert await present(tree[HUB], batch(huge), H41) == {"H54.02": (Outcome.REFUSED, Reason.PACKAGE_TOO_LARGE)}


async def test_a_body_of_another_size_than_the_header_says_is_refused(tree: Tree) -> None:
    """Else an office would be promised more bytes than it gets."""
    honest = small_body(b"van ban")
    made = signed(tree[H41], content(body=replace(honest, size=8)))
    assert await present(tree[HUB], batch(made), H41) == {"H54.02": (Outcome.REFUSED, Reason.WIRE_MALFORMED)}


# --- from a neighbour: one bad envelope, our own disk ----------------------------------------------------------------------


async def test_one_envelope_nobody_foresaw_does_not_stop_its_neighbours(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catch-all of intake: `later`, logged; after enough attempts the presenter holds it for a person."""
    good, bad = signed(tree[H41], content()), signed(tree[H41], content(document_id="bad"))
    really = envelopes.check

    def check(envelope: Any, *values: Any, **more: Any) -> Reason | None:
        if envelope.header.document_id == "bad":
            raise ZeroDivisionError
        return really(envelope, *values, **more)

    monkeypatch.setattr(module, "check", check)
    verdicts = await tree[HUB].duties.intake.accept(batch(bad, good), H41)
    first, second = (each.verdicts[OFFICE] for each in verdicts)
    assert (first.outcome, first.reason) == (Outcome.LATER, Reason.INTERNAL)
    assert second.outcome is Outcome.TAKEN


async def test_a_full_disk_is_later_for_a_first_copy_and_taken_for_a_known_one(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decision 4: a copy whose answer was lost hears what became of the first."""
    site = tree[HUB]
    known, fresh = signed(tree[H41], content()), signed(tree[H41], content())
    await present(site, batch(known), H41)
    monkeypatch.setattr(site.bodies, "free_ratio", lambda: -1.0)
    verdicts = await site.duties.intake.accept(batch(known, fresh), H41)
    first, second = (each.verdicts[OFFICE] for each in verdicts)
    assert first.outcome is Outcome.TAKEN
    assert (second.outcome, second.reason) == (Outcome.LATER, Reason.DISK_FULL)


async def test_a_store_that_fails_gives_no_verdict_at_all(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 3: callers hear nothing; the copy stays in doubt over there and is offered again."""

    async def admit(*values: Any) -> Any:
        raise Deferred(30, Reason.NOT_NOW, in_doubt=True)

    monkeypatch.setattr(tree[HUB].store, "admit", admit)
    with pytest.raises(Deferred):
        await tree[HUB].duties.intake.accept(batch(signed(tree[H41], content())), H41)


async def test_a_neighbour_that_hangs_up_while_the_commit_runs_leaves_nobody_asleep(tree: Tree) -> None:
    site = tree[HUB]
    gate, entered = asyncio.Event(), asyncio.Event()
    hold(site, gate, entered)
    asked = site.store.ask(H54, EVERYTHING, stands=True)
    call = asyncio.ensure_future(site.duties.intake.accept(batch(signed(tree[H41], content())), H41))
    await entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await asked is not None
    assert site.count("outbox") == 1


async def test_an_empty_batch_asks_for_nothing(tree: Tree) -> None:
    assert await tree[HUB].duties.intake.accept(Batch(), H41) == ()


# --- notices ---------------------------------------------------------------------------------------------------------------


def told(tree: Tree, by: OrgId, state: Transport, *to: OrgId, recipient: OrgId = OFFICE, id_: str = "x") -> Batch:
    end = EndOf(H41, id_, recipient, End(state, NOW_MS))
    body = small_body(encode_notice([end]))
    made = signed(tree[by], replace(content(*(to or (H41,)), kind=KIND_NOTICE, sender=by, body=body), media=MEDIA_NOTICE))
    return batch(made)


async def test_only_the_node_that_serves_a_receiver_says_that_it_has_collected(tree: Tree) -> None:
    """QĐ 28/2018 Điều 9.2: nobody else's word makes a delivery arrive. Threats, row 23."""
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02", "G22"))
    ((id_,),) = site.rows("SELECT id FROM envelope")
    lie = told(tree, HUB, Transport.COLLECTED, id_=id_)
    assert await present(site, lie, HUB) == {"H41": (Outcome.REFUSED, Reason.SENDER_OUTSIDE)}
    assert (await site.sent("ubnd-41"))["H54.02"].send_state == "queued"
    truth = told(tree, H54, Transport.COLLECTED, id_=id_)
    assert await present(site, truth, HUB) == {"H41": (Outcome.TAKEN, None)}
    assert (await site.sent("ubnd-41"))["H54.02"].send_state == "collected"
    assert site.tally.value("truc_notices_total", result="collected") == 1


async def test_a_notice_of_several_ends_is_taken_whole_or_not_at_all(tree: Tree) -> None:
    """An end that its teller may not tell, or not by our directory of today, is not passed over: the presenter keeps it."""
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02", "G22"))
    ((id_,),) = site.rows("SELECT id FROM envelope")
    ends = [EndOf(H41, id_, OrgId.canonical(code), End(Transport.COLLECTED, NOW_MS)) for code in ("H54.02", "G22")]
    made = content(H41, kind=KIND_NOTICE, sender=H54, body=small_body(encode_notice(ends)))
    joint = batch(signed(tree[H54], replace(made, media=MEDIA_NOTICE)))
    assert await present(site, joint, HUB) == {"H41": (Outcome.REFUSED, Reason.SENDER_OUTSIDE)}
    assert {line.send_state for line in (await site.sent("ubnd-41")).values()} == {"queued"}


async def test_any_node_on_the_way_may_say_that_it_could_not_send_on(tree: Tree) -> None:
    """And the sender finds a 02 From the axis, never from the receiver. # QĐ 28/2018 Điều 5.4"""
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02"))
    ((id_,),) = site.rows("SELECT id FROM envelope")
    await present(site, told(tree, HUB, Transport.REFUSED, id_=id_), HUB)
    (line,) = await site.inbox("ubnd-41", "status")
    assert line.sender == "TRUC"
    package = (await site.fetch("ubnd-41", line.doc_id)).decode()
    assert ">02<" in package
    assert "[Trục] Bên nhận Sở Tài chính Thái Bình (H54.02)" in package
    assert "12/UBND-VX" in package


async def test_a_notice_is_for_one_node_has_one_small_body_and_says_something(tree: Tree) -> None:
    """Else it would be taken and nothing come of it."""
    site = tree[H41]
    malformed = (Outcome.REFUSED, Reason.WIRE_MALFORMED)
    assert (await present(site, told(tree, H54, Transport.REFUSED, H41, OFFICE), HUB))["H41"] == malformed
    huge = signed(tree[H54], content(H41, kind=KIND_NOTICE, sender=H54, body=StoredBody("ab" * 32, NOTICE_BYTES_MAX + 1)))
    assert await present(site, batch(huge), HUB) == {"H41": malformed}
    empty = signed(tree[H54], content(H41, kind=KIND_NOTICE, sender=H54, body=small_body(encode_notice([]))))
    assert await present(site, batch(empty), HUB) == {"H41": malformed}


async def test_a_notice_whose_body_is_not_here_is_asked_for_it_and_not_thrown_away(tree: Tree) -> None:
    site = tree[H41]
    await site.send("ubnd-41", document("H54.02"))
    ((id_,),) = site.rows("SELECT id FROM envelope")
    notice = told(tree, H54, Transport.COLLECTED, id_=id_)
    assert (await present(site, replace(notice, bodies={}), HUB))["H41"][0] is Outcome.NEED
    assert await present(site, notice, HUB) == {"H41": (Outcome.TAKEN, None)}
    assert (await site.sent("ubnd-41"))["H54.02"].send_state == "collected"

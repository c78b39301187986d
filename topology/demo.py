"""The demonstration behind `scripts/demo`: seven nodes on this machine, packages across them, and what happened hop by hop.

Plays clerks of four offices through the VXP face, then asks every node for its history. Ends with 0 only if each package came
to the end it should come to. Knows nodes by their addresses alone (the sandbox's ready line); a clerk's words are Vietnamese.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from node.core.instant import VIETNAM
from node.core.package import Business, Party, Priority, Reference
from node.core.words import label
from node.documents.edxml_writer import DocumentMessage, File, StatusMessage, write_document, write_status
from topology import figures
from topology.chronicle import history, show_addresses, show_table
from topology.office import Answer, CallFailed, Rehearsal

PATIENCE_S = 60.0
"""How long one step of the story may take before it counts as failed."""
POLL_S = 0.1
READY_LINE_BYTES_MAX = 1 << 20
LARGE_BYTES = 300_000
"""Too large for a batch: such content crosses each link by itself, in chunks."""

SANDBOX = (sys.executable, "-m", "node", "sandbox")
CHECKOUT = str(Path(__file__).resolve().parent.parent)
"""Where `node` and `topology` lie, for the sandbox's process: installed or not."""

SENDER = "H41.07"
"""Sở Nội vụ tỉnh Nghệ An: two hops below the hub."""


@dataclass(slots=True)
class Parcel:
    """One package on its way. replies: by receiver, the statuses it sends home, in order. message: None for a status."""

    title: str
    sender: str
    data: bytes
    replies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    message: DocumentMessage | None = None
    doc_id: str = ""


@dataclass(slots=True)
class Story:
    """What was played, and what did not go as it should."""

    parcels: list[Parcel] = field(default_factory=list)
    refusals: list[tuple[str, Answer]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    counted: figures.Figures = field(default_factory=dict)
    """What the hub had counted of today before."""

    def expect(self, well: bool, complaint: str) -> None:
        if not well:
            self.complaints.append(complaint)


def tell(text: str) -> None:
    """A line of progress: to stderr, so that the tables can be piped."""
    print(text, file=sys.stderr, flush=True)


async def until(what: str, found: Callable[[], Awaitable[bool]]) -> None:
    """Ask again until it is so. `CallFailed` after PATIENCE_S."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not await found():
        if asyncio.get_running_loop().time() > deadline:
            raise CallFailed(f"chờ {PATIENCE_S:.0f} giây mà chưa thấy: {what}")
        await asyncio.sleep(POLL_S)


# --- the packages ------------------------------------------------------------------------------------------------------


def documents(now: datetime) -> list[Parcel]:
    """The three that must arrive. Each run writes other numbers: the same file again would be taken for a repeat."""
    number = f"{now:%d%H%M%S}"
    receivers = {"H14.05": ("01", "03", "06"), "H14.09": ("01", "03"), "G22": ("01",)}
    new = _letter(now, SENDER, tuple(receivers), f"{number}1", "Về việc diễn tập liên thông văn bản", size=LARGE_BYTES)
    update = _letter(
        now, SENDER, ("H14.05",), f"{number}2", "Cập nhật phụ lục", business=Business.UPDATE, amends=new.document_id, size=9_000
    )
    express = _letter(now, "G22", ("H41.12",), f"{number}3", "Ứng phó bão", priority=Priority.EXPRESS, size=20_000)
    return [
        Parcel("Văn bản mới, ba Bên nhận", SENDER, write_document(new), receivers, new),
        Parcel("Cập nhật văn bản đó", SENDER, write_document(update), {"H14.05": ("01",)}, update),
        Parcel("Văn bản hỏa tốc", "G22", write_document(express), {"H41.12": ("01", "03")}, express),
    ]


def refused_documents(now: datetime) -> list[tuple[str, bytes, Sequence[str]]]:
    """Those that must be refused at the first node: title, package, the words that the answer must hold."""
    closed = _letter(now, SENDER, ("H41.31",), f"{now:%d%H%M%S}4", "Gửi đến mã đã đóng", size=2_000)
    whole = write_document(closed)
    return [
        ("Gửi đến mã đã đóng H41.31", whole, ("H41.12", "[recipient-closed]")),
        ("Gói tin sai cú pháp XML", whole[: len(whole) // 2], ("[xml-malformed]",)),
    ]


def _letter(
    now: datetime,
    sender: str,
    receivers: Sequence[str],
    number: str,
    subject: str,
    *,
    size: int,
    priority: Priority = Priority.NORMAL,
    business: Business = Business.NEW,
    amends: str = "",
) -> DocumentMessage:
    return DocumentMessage(
        sender=Party(sender, f"Cơ quan diễn tập {sender}"),
        recipients=tuple(Party(code, f"Cơ quan diễn tập {code}") for code in receivers),
        document_id=f"{sender}-{now:%Y}-{number}",
        number=number,
        notation="CV-DT",
        date=f"{now:%Y/%m/%d}",
        subject=subject,
        timestamp_ms=int(now.timestamp() * 1000),
        priority=priority,
        business=business,
        business_document_id=amends,
        attachments=(File(name="vanban.pdf", content=os.urandom(size), content_type="application/pdf"),),
    )


def status_package(now: datetime, parcel: Parcel, receiver: str, code: str) -> bytes:
    """What a receiver says of a document: "đã đến" and so on, with the docId it saw."""
    message = parcel.message
    assert message is not None
    about = Reference(message.sender.code, f"{message.number}/{message.notation}", message.date, parcel.doc_id)
    return write_status(
        StatusMessage(
            sender=Party(receiver, f"Cơ quan diễn tập {receiver}"),
            response_for=about,
            status=code,
            timestamp_ms=int(now.timestamp() * 1000),
            description=f"{receiver}: {label('status', code)}",
        )
    )


# --- the story ---------------------------------------------------------------------------------------------------------


async def begin(rehearsal: Rehearsal, story: Story) -> None:
    """A folder may have a past."""
    story.counted = figures.of_organs((await figures.reports(rehearsal))[""])


async def play(rehearsal: Rehearsal, story: Story) -> None:
    """All of it, in the order in which a clerk would see it. Raises `CallFailed` where the story cannot go on."""
    now = datetime.now(VIETNAM)
    for parcel in documents(now):
        tell(f"• {parcel.title}: {parcel.sender} → {', '.join(parcel.replies)}")
        await hand_in(rehearsal, story, parcel)
    for title, package, expected in refused_documents(now):
        answer = await rehearsal.offices[SENDER].send(package)
        tell(f"• {title}: {answer['status']}, {answer['ErrorDesc']}")
        story.refusals.append((title, answer))
        well = answer["status"] == "FAIL" and all(word in answer["ErrorDesc"] for word in expected)
        story.expect(well, f"{title}: trả lời không như mong đợi")
    for parcel in list(story.parcels):
        for receiver, codes in parcel.replies.items():
            await receive(rehearsal, story, parcel, receiver)
            for code in codes:
                await answer_home(rehearsal, story, parcel, receiver, code)
    await until("không còn gì chờ chuyển ở nút nào", lambda: nothing_waits(rehearsal))
    for parcel in story.parcels:
        if parcel.message is not None:
            await check_sent(rehearsal, story, parcel)


async def hand_in(rehearsal: Rehearsal, story: Story, parcel: Parcel) -> None:
    kind = "edoc" if parcel.message is not None else "status"
    answer = await rehearsal.offices[parcel.sender].send(parcel.data, kind)
    if answer["status"] != "OK":
        raise CallFailed(f"{parcel.title}: {answer['ErrorDesc']}")
    parcel.doc_id = answer["DocId"]
    story.parcels.append(parcel)


async def receive(rehearsal: Rehearsal, story: Story, parcel: Parcel, receiver: str) -> None:
    """The receiver's office finds the package in its list, takes it and confirms."""
    office = rehearsal.offices[receiver]
    kind = "edoc" if parcel.message is not None else "status"

    async def listed() -> bool:
        return any(item["docId"] == parcel.doc_id for item in await office.waiting(kind))

    await until(f"{parcel.title} ở {receiver}", listed)
    same = await office.fetch(parcel.doc_id) == parcel.data
    await office.settle(parcel.doc_id)
    story.expect(same, f"{parcel.title}: {receiver} nhận được nội dung khác với lúc gửi")
    story.expect(not await listed(), f"{parcel.title}: {receiver} đã lấy về mà vẫn còn trong danh sách chờ lấy")


async def answer_home(rehearsal: Rehearsal, story: Story, parcel: Parcel, receiver: str, code: str) -> None:
    """A status is a package of its own on the same road, the other way."""
    title = f"Trạng thái {code} của {receiver}"
    tell(f"  {receiver} → {parcel.sender}: {code} {label('status', code)}")
    status = Parcel(title, receiver, status_package(datetime.now(VIETNAM), parcel, receiver, code), {parcel.sender: ()})
    await hand_in(rehearsal, story, status)
    await receive(rehearsal, story, status, parcel.sender)


async def nothing_waits(rehearsal: Rehearsal) -> bool:
    states = [await rehearsal.ask(node, "/api/status") for node in rehearsal.nodes]
    return all(state["outbox"]["depth"] == 0 for state in states)


async def check_sent(rehearsal: Rehearsal, story: Story, parcel: Parcel) -> None:
    """What the sender's clerk sees: each receiver has collected it, and its last status has come home."""
    wanted = {receiver: ("collected", codes[-1]) for receiver, codes in parcel.replies.items()}
    office = rehearsal.offices[parcel.sender]

    async def lines() -> dict[str, tuple[str, str]]:
        return {line["toCode"]: (line["sendStatus"], line["receiveStatus"]) for line in await office.sent(parcel.doc_id)}

    async def complete() -> bool:
        return await lines() == wanted

    try:
        await until(parcel.title, complete)
    except CallFailed:
        story.expect(False, f"{parcel.title}: danh sách đã gửi là {await lines()}, mong đợi {wanted}")


# --- what happened -----------------------------------------------------------------------------------------------------


async def show(rehearsal: Rehearsal, story: Story) -> None:
    """The history of every package, the refusals, then each document as its sender sees it."""
    for parcel in story.parcels:
        rows = await history(rehearsal, parcel.doc_id)
        show_table(f"{parcel.title} [{parcel.doc_id}]", ("lúc", "nút", "việc", "Bên nhận", "nút liền kề, hệ thống"), rows)
        story.expect(len({row[1] for row in rows}) > 1, f"{parcel.title}: không thấy lịch sử ở các nút")
    refused = [(title, answer["status"], answer["ErrorCode"], answer["ErrorDesc"]) for title, answer in story.refusals]
    show_table("Không nhận tại nút đầu tiên", ("gói tin", "trả lời", "mã lỗi", "giải thích"), refused)
    lines = [
        (parcel.title, line["toCode"], line["sendStatusDesc"], _office_status(line["receiveStatus"]))
        for parcel in story.parcels
        if parcel.message is not None
        for line in await rehearsal.offices[parcel.sender].sent(parcel.doc_id)
    ]
    show_table("Bên gửi thấy", ("gói tin", "Bên nhận", "trạng thái gửi, nhận", "trạng thái xử lý"), lines)


async def count(rehearsal: Rehearsal, story: Story) -> None:
    """The table of Điều 11 at every tier, once the figures are up, and an independent recount beside it."""
    sendings = [
        figures.Sending(parcel.sender, tuple(parcel.replies), parcel.message.business is Business.UPDATE)
        for parcel in story.parcels
        if parcel.message is not None
    ]
    expected = figures.recount(sendings)
    found: dict[str, Any] = {}

    async def complete() -> bool:
        found.update(await figures.reports(rehearsal))
        return figures.agree(found, rehearsal.nodes) and figures.since(story.counted, figures.of_organs(found[""])) == expected

    try:
        await until("số liệu về đến nút gốc", complete)
    except CallFailed:
        told = figures.since(story.counted, figures.of_organs(found[""]))
        story.expect(False, f"số liệu của nút gốc là {told}, đếm lại là {expected}")
    else:
        tell("Số liệu ở mọi cấp khớp với nhau và với phần đếm lại độc lập.")
    show_table("Tình hình gửi, nhận hôm nay (Điều 11), tạm tính", figures.HEADINGS, figures.lines(found, rehearsal.nodes))


def _office_status(code: str) -> str:
    return f"{code} {label('status', code)}" if code else ""


# --- the whole ---------------------------------------------------------------------------------------------------------


class NotStarted(Exception):
    """The sandbox ended before it was ready; it has said why."""


@asynccontextmanager
async def sandbox(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
    """`truc sandbox` as a process of its own for as long as the block lasts; its ready line. Raises `NotStarted`."""
    path = os.pathsep.join(filter(None, (CHECKOUT, os.environ.get("PYTHONPATH"))))
    process = await asyncio.create_subprocess_exec(
        *(*SANDBOX, "--dir", str(folder), "--enrol", "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=READY_LINE_BYTES_MAX,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise NotStarted
        yield json.loads(line)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def run(folder: Path, stay: bool) -> int:
    """The demonstration in folder. Returns the exit code."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    tell(f"Dựng cây bảy nút trong {folder} …")
    began = loop.time()
    story = Story()
    async with sandbox(folder) as ready:
        tell(f"{len(ready['nodes'])} nút sẵn sàng sau {loop.time() - began:.1f} giây.")
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ready["ca"]))
        async with aiohttp.ClientSession(connector=connector) as session:
            rehearsal = Rehearsal(ready, session)
            for chapter in (begin, play, show, count):
                try:
                    await chapter(rehearsal, story)
                except CallFailed as failure:
                    story.complaints.append(str(failure))
        for complaint in story.complaints:
            tell(f"Lỗi: {complaint}")
        delivered = sum(parcel.message is not None for parcel in story.parcels)
        if not story.complaints:
            tell(f"Xong: {delivered} văn bản và {len(story.parcels) - delivered} trạng thái đến nơi, nguyên vẹn.")
        if stay:
            await _stay(ready)
    return 1 if story.complaints else 0


async def _stay(ready: Mapping[str, Any]) -> None:
    show_addresses(ready)
    tell("\nCây vẫn chạy. Ctrl-C để dừng.")
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all as expected, 1 not, 130 stopped before the end."""
    about = "Bảy nút trên máy này, gói tin đi qua các nút, từng chặng, và số liệu ở mỗi cấp."
    parser = argparse.ArgumentParser(prog="scripts/demo", description=about, add_help=False)
    options = parser.add_argument_group("tùy chọn")
    options.add_argument("--stay", action="store_true", help="giữ cây chạy tiếp và in các địa chỉ, đến khi Ctrl-C")
    options.add_argument("--dir", type=Path, help="thư mục của cây (mặc định: thư mục tạm, xóa khi xong)")
    options.add_argument("-h", "--help", action="help", help="in phần trợ giúp này")
    given = parser.parse_args(arguments)
    folder = given.dir or Path(tempfile.mkdtemp(prefix="truc-demo-"))
    code = 1
    try:
        code = asyncio.run(run(folder, given.stay))
    except (asyncio.CancelledError, KeyboardInterrupt):
        code = 130
    except NotStarted:
        pass
    if given.dir is None:
        if code == 1:
            tell(f"Nhật ký của các nút: {folder}/*/node.log")
        else:
            shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())

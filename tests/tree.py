"""A small tree of real nodes in one process: real stores, folders, signatures, duties; only the links are in memory.

What goes wrong on a link is said in advance (`Line.faults`). The nodes share one clock that stands where it is put until their
loops run. `Tree.until` asks again whenever something was committed or called; nothing sleeps and hopes.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from node import app, config
from node.adapters import registry
from node.adapters.bodies.files import HostFiles
from node.adapters.bodies.folder import FolderBodies
from node.adapters.directory_file import DirectoryFile, dump
from node.adapters.signing import Signer, Verifier
from node.adapters.sqlite.connection import ThreadConnection, open_reader, open_writer
from node.adapters.sqlite.store import SqliteStore
from node.core import clock_filter
from node.core.custody import LocalEnvelope
from node.core.directory import Connection, Directory, Entry, NodeEntry
from node.core.directory_wire import Exchange, decode_exchange, encode_exchange
from node.core.envelope import Hop
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.office import Claim, SentLine, Submitted, System, Waiting
from node.core.pace import Way
from node.core.package import Business, Party, Priority, Reference
from node.core.statement import Post, decode_post, encode_post
from node.core.tally import Tally
from node.core.timekeeping import Moment, Reading, State
from node.core.wire import (
    Batch,
    ClockAnswer,
    EnvelopeVerdicts,
    PullRequest,
    Question,
    decode_batch,
    decode_pull,
    decode_verdicts,
    encode_batch,
    encode_pull,
    encode_verdicts,
    limits_for,
    told_time,
)
from node.core.working_time import Calendar, Year
from node.documents.edxml_writer import DocumentMessage, File, StatusMessage, write_document, write_status
from node.origin import Content
from node.surroundings import Surroundings
from node.uplink import Uplink
from tests.adapters.pki import NOW_MS, ZONE, Clock, Holder, authority, leaf, put
from tests.swift import swift

T = TypeVar("T")

PATIENCE_S = 20.0
"""How long a test waits for what should come to pass at once."""


def org(text: str) -> OrgId:
    return OrgId.canonical(text)


HUB, H41, H54, UNIT = (org(text) for text in ("", "H41", "H54", "H41.07"))

# --- who is who ------------------------------------------------------------------------------------------------------------

NODES = (
    NodeEntry(HUB, "Trục liên thông văn bản quốc gia", "trung ương", None, (org("G22"),)),
    NodeEntry(H41, "Trục tỉnh Nghệ An", "tỉnh", HUB, (H41,)),
    NodeEntry(H54, "Trục tỉnh Thái Bình", "tỉnh", HUB, (H54,)),
    NodeEntry(UNIT, "Sở Nội vụ Nghệ An", "đơn vị", H41, (UNIT,)),
)


def _entry(code: str, name: str, **more: Any) -> Entry:
    return Entry(org(code), name, connection=more.pop("connection", Connection.OFFICIAL), **more)


ENTRIES = (
    _entry("G22", "Văn phòng Chính phủ", old_code="000.00.00.G22"),
    _entry("H41", "UBND tỉnh Nghệ An", old_code="000.00.00.H41"),
    _entry("H41.05", "Sở Y tế Nghệ An"),
    _entry("H41.07", "Sở Nội vụ Nghệ An", old_code="000.00.07.H41"),
    _entry("H54", "UBND tỉnh Thái Bình"),
    _entry("H54.02", "Sở Tài chính Thái Bình", old_code="000.00.02.H54", receives_for=(org("H54.02.09"),)),
    _entry("H54.02.09", "Chi cục chưa kết nối", connection=Connection.NONE),
    _entry("H54.03", "Sở Công Thương Thái Bình"),
    _entry("H54.08", "Sở chưa kết nối", connection=Connection.NONE),
    _entry("H54.10", "Sở tạm khóa", connection=Connection.LOCKED),
    _entry("H26", "Tỉnh đã sáp nhập", connection=Connection.CLOSED, successor=H54),
)
DIRECTORY = Directory(ENTRIES, NODES, "Trục liên thông văn bản quốc gia", "TRUC", 1)

SYSTEMS: Mapping[OrgId, tuple[System, ...]] = {
    HUB: (System("vpcp", (org("G22"),), ("mật-khẩu",)),),
    H41: (
        System("ubnd-41", (H41,), ("mật-khẩu",)),
        System("so-y-te", (org("H41.05"),), ("mật-khẩu",), all_or_nothing=True),
    ),
    H54: (System("thai-binh", (org("H54.02"), org("H54.03")), ("mật-khẩu",)), System("ubnd-54", (H54,), ("mật-khẩu",))),
    UNIT: (System("so-noi-vu", (UNIT,), ("mật-khẩu",)),),
}

_ROOT = authority("gốc")


@cache
def _holder(code: OrgId) -> Holder:
    return leaf(_ROOT, code.dns_name(ZONE))


# --- a link in memory ------------------------------------------------------------------------------------------------------


class Time(Clock):
    """The clock of a whole tree: it stands where it is put (`now_ms`) until `go`, and from then on keeps pace with the host's."""

    _since: float | None = None
    shown = Reading(State.ROOT, NOW_MS, 0, 1_000_000_000, 1, 0, True)

    def __init__(self) -> None:
        super().__init__()
        self.stepped: Callable[[], None] = lambda: None

    def go(self) -> None:
        if self._since is None:
            self._since = time.monotonic()

    def utc_ms(self) -> int:
        return self.now_ms + (0 if self._since is None else int(1000 * (time.monotonic() - self._since)))

    def mono_ns(self) -> int:
        return time.monotonic_ns()

    def moment(self) -> Moment:
        return Moment(self.utc_ms() * 1000, self.bound * 1000, 1, True)

    def reading(self) -> Reading:
        return self.shown

    def resume(self, floor_ms: int) -> None:
        """It stands where it is put."""

    def heard(self, exchange: clock_filter.Exchange) -> None:
        """Nobody tells it the time."""

    def round_over(self) -> None: ...

    def silent(self) -> None: ...

    def alone(self) -> None: ...

    def wait_s(self) -> float:
        return 1.0


CALENDAR = Calendar(Year(year, 1, frozenset(), frozenset()) for year in range(2019, 2040))
"""Plain years: every weekday is worked."""


@dataclass
class Line:
    """A child's link. faults: per call, what happens to the next ones; down: nothing leaves the child.

    "lost": the request never arrives, which the child cannot know. "no answer": done, but the answer is lost. "twice": done a
    second time before the answer. "unsent": nothing left the child. Anything else is raised.
    """

    child: OrgId
    door: app.LinkDoor
    stirred: asyncio.Event
    down: bool = False
    faults: dict[str, deque[str | Exception]] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    moved: Callable[[Way, int, float], None] = lambda way, size, seconds: None
    _open: set[asyncio.Task[Any]] = field(default_factory=set)

    limits = limits_for(1 << 20, 500)

    def fault(self, call: str, *what: str | Exception) -> None:
        self.faults.setdefault(call, deque()).extend(what)

    def made(self, call: str) -> list[Any]:
        return [detail for name, detail in self.calls if name == call]

    async def push(self, batch: Batch) -> tuple[EnvelopeVerdicts, ...]:
        data = encode_batch(batch)

        async def call() -> bytes:
            return encode_verdicts(await self.door.push(self.child, decode_batch(data, self.limits)))

        return decode_verdicts(await self._call("push", batch, call), self.limits)

    async def pull(self, request: PullRequest) -> Batch:
        data = encode_pull(request)

        async def call() -> bytes:
            return encode_batch(await self.door.pull(self.child, decode_pull(data, self.limits)))

        return decode_batch(await self._call("pull", request, call), self.limits)

    async def put_body(self, sha256: str, size: int, offset: int, chunk: bytes) -> int:
        return await self._call("put", (offset, len(chunk)), lambda: self.door.put_body(self.child, sha256, size, offset, chunk))

    async def get_body(self, sha256: str, offset: int, length: int) -> bytes:
        return await self._call("get", (offset, length), lambda: self.door.get_body(self.child, sha256, offset, length))

    async def directory(self, said: Exchange) -> Exchange:
        data = encode_exchange(said)

        async def call() -> Exchange:
            return decode_exchange(encode_exchange(await self.door.directory(self.child, decode_exchange(data))))

        return await self._call("directory", said, call)

    async def clock(self, t1_us: int) -> ClockAnswer:
        async def call() -> ClockAnswer:
            return told_time(t1_us, self.door.moment(), self.door.moment())

        return await self._call("clock", t1_us, call)

    async def statements(self, post: Post) -> tuple[str, ...]:
        return await self._call(
            "statements", len(post.items), lambda: self.door.statements(self.child, decode_post(encode_post(post)))
        )

    async def query(self, asked: Question) -> bytes:
        return await self._call("query", asked, lambda: self.door.query(self.child, asked))

    async def answer(self, number: int, data: bytes) -> None:
        await self._call("answer", number, lambda: self.door.answered(self.child, number, data))

    def when_moved(self, tell: Callable[[Way, int, float], None]) -> None:
        """This line takes no time: what it carries is told by the test, through `moved`."""
        self.moved = tell

    async def _call(self, name: str, detail: Any, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        await asyncio.sleep(0)  # as every call over a network, this one lets the others go on
        self.calls.append((name, detail))
        waiting = self.faults.get(name)
        fault = "unsent" if self.down else waiting.popleft() if waiting else ""
        try:
            if isinstance(fault, Exception):
                raise fault
            if fault == "unsent":
                raise Deferred(0)
            if fault == "lost":
                raise Deferred(0, in_doubt=True)
            answer = await self._served(call)
            if fault == "twice":
                answer = await self._served(call)
            if fault == "no answer":
                raise Deferred(0, in_doubt=True)
            return answer
        finally:
            self.stirred.set()

    async def _served(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What a real listener and client make of the parent's word."""
        task = asyncio.create_task(call())
        self._open.add(task)
        try:
            return await task
        except (Refused, Deferred):
            raise
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            raise Deferred(0, in_doubt=True) from None  # the line was cut
        except Exception as error:
            raise Deferred(0, in_doubt=True) from error
        finally:
            self._open.discard(task)

    def cut(self) -> None:
        """Every call in progress ends without an answer."""
        for task in list(self._open):
            task.cancel()


class _Chance(random.Random):
    """Chance without waits: every pause is a moment, every backoff its minimum."""

    def uniform(self, a: float, b: float) -> float:
        return 0.002

    def randint(self, a: int, b: int) -> int:
        return a


class _Tally(Tally):
    def __init__(self, stirred: asyncio.Event) -> None:
        super().__init__()
        self._stirred = stirred

    def add(self, name: str, amount: int = 1, **labels: str) -> None:
        super().add(name, amount, **labels)
        self._stirred.set()


# --- a node ------------------------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """One node, open. `crash` and `open` again as often as wanted: what is on disk stays."""

    tree: Tree
    code: OrgId
    folder: Path
    settings: config.NodeConfig
    signer: Signer
    verifier: Verifier
    tally: Tally
    store: SqliteStore = field(init=False, repr=False)
    bodies: FolderBodies = field(init=False, repr=False)
    surroundings: Surroundings = field(init=False, repr=False)
    duties: app.Duties = field(init=False, repr=False)
    ground: app.Ground = field(init=False, repr=False)
    uplink: Uplink = field(init=False, repr=False)
    line: Line = field(init=False, repr=False)
    _connections: list[ThreadConnection] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _starts: int = 0

    async def open(self) -> None:
        self._starts += 1
        rng = _Chance(f"{self.code}/{self._starts}")
        path = self.folder / "node.db"
        systems = registry.Registry(self.folder / "systems.json", self.tally)
        self.surroundings = Surroundings(self.code, DirectoryFile(self.folder / "directory.json"), systems, self.tree.clock)
        self.bodies = FolderBodies(
            HostFiles(self.folder / "bodies"), self.settings.store.inline_bytes_max, lambda: f"{rng.getrandbits(64):016x}"
        )
        writer, reader = await open_writer(path, 4000), await open_reader(path)
        self._connections = [writer, reader]
        self.store = SqliteStore(writer, reader, self.tree.clock, self.tally, 512, path)
        await self.store.prepare(self.code)
        await self.bodies.sweep(await self.store.known_files())
        self.ground = app.Ground(
            self.tree.clock,
            self.store,
            self.bodies,
            self.signer,
            self.verifier,
            rng,
            self.tally,
            systems,
            self.surroundings,
            lambda: CALENDAR,
        )
        self.duties = app.duties(self.settings, self.ground)

        async def stirring(work: Callable[[], None]) -> None:
            work()
            self.tree.stirred.set()

        await self.duties.registrar.prepare(stirring)
        self._tasks = [asyncio.create_task(self.store.run())]

    def connect(self, door: app.LinkDoor) -> None:
        """Lay the line to the parent (again, after either side was opened anew)."""
        old: Line | None = getattr(self, "line", None)
        self.line = Line(self.code, door, self.tree.stirred, down=old.down if old else False)
        loops = app.uplink(self.settings, self.ground, self.duties, self.line, f"session-{self._starts}")
        self.uplink = loops[0].__self__  # type: ignore[attr-defined]

    def run(self, *names: str) -> None:
        """Start the loops towards the parent, or only those named: push, pull, uploads, downloads; directory, which all nodes
        have. Then time passes."""
        self.tree.clock.go()
        for name in names or ("push", "pull", "uploads", "downloads", "answers"):
            if name == "directory":
                self._tasks.append(asyncio.create_task(self.duties.registrar.run()))
                continue
            self._tasks.append(asyncio.create_task(getattr(self.uplink, f"run_{name}")()))

    async def turn(self) -> None:
        """One turn of the push loop: what may be offered now is, and what became of it is recorded."""
        forwarder, parent = self.duties.forwarder, self.uplink.neighbour
        found = await forwarder.next(parent, self.uplink._pace.batch_bytes, wait_s=0)
        if found is not None:
            _failures, became = await self.uplink._push(0, *found)
            await forwarder.record(parent, became)

    async def rest(self) -> None:
        """Stop the loops, not the store."""
        await self._stop(self._tasks[1:])
        del self._tasks[1:]

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        try:
            await self._stop(tasks)
        finally:
            for connection in reversed(self._connections):
                await connection.close()
            self._connections = []
            self.bodies.close()

    async def _stop(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome  # a loop that fell during the test

    # what offices do

    def system(self, system_id: str) -> System:
        found = self.ground.registry.get(system_id)
        assert found is not None, system_id
        return found

    async def send(self, system_id: str, package: bytes) -> Submitted:
        return await self.duties.intake.submit(self.system(system_id), chunks(package), Claim())

    async def inbox(self, system_id: str, kind: str = "edoc") -> Sequence[Waiting]:
        return await self.duties.mailbox.waiting(self.system(system_id), kind)

    async def fetch(self, system_id: str, doc_id: str) -> bytes:
        fetched = await self.duties.mailbox.fetch(self.system(system_id), doc_id)
        return b"".join([chunk async for chunk in fetched.chunks])

    async def report(self, system_id: str, doc_id: str, word: str) -> None:
        await self.duties.mailbox.settle(self.system(system_id), doc_id, word)

    async def sent(self, system_id: str, kind: str = "edoc") -> dict[str, SentLine]:
        """Lines of the sent list by receiver."""
        return {line.recipient: line for line in await self.duties.mailbox.sent(self.system(system_id), kind, None)}

    # what lies in the store

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.folder / 'node.db'}?mode=ro", uri=True)) as db:
            return db.execute(query, values).fetchall()

    def count(self, table: str) -> int:
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])

    def events(self, *names: str) -> list[str]:
        return [event for (event,) in self.rows("SELECT event FROM journal ORDER BY seq") if not names or event in names]


async def chunks(data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


# --- the tree ----------------------------------------------------------------------------------------------------------------


class Tree:
    """Nodes of `NODES` with their lines. `sites` by code; `clock` is everybody's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = Time()
        self.stirred = asyncio.Event()
        self.sites: dict[OrgId, Site] = {}

    def __getitem__(self, code: OrgId) -> Site:
        return self.sites[code]

    async def plant(self, code: OrgId, options: Mapping[str, Mapping[str, Any]]) -> Site:
        folder = self.root / (str(code) or "hub")
        files = put(folder, _holder(code), _ROOT)
        (folder / "directory.json").write_text(dump(DIRECTORY), encoding="utf-8")
        registry.save(folder / "systems.json", SYSTEMS[code])
        settings = _settings(code, folder, options)
        signer, verifier = Signer(files.certificate, files.key), Verifier(files.trust, ZONE)
        site = Site(self, code, folder, settings, signer, verifier, _Tally(self.stirred))
        self.sites[code] = site
        await site.open()
        return site

    def join(self) -> None:
        """Lay every line whose two ends are here."""
        for node in NODES:
            if node.code in self.sites and node.parent is not None and node.parent in self.sites:
                self[node.code].connect(self.door(node.parent))

    def door(self, code: OrgId) -> app.LinkDoor:
        return app.LinkDoor(self[code].duties, self.clock)

    def run(self) -> None:
        for site in self.sites.values():
            if hasattr(site, "line"):
                site.run()

    async def crash(self, code: OrgId) -> Site:
        """A node dies and starts again; its neighbours' calls then meet the new one."""
        site = self[code]
        running = len(site._tasks) > 1
        lines = [self[other.code].line for other in NODES if other.parent == code and other.code in self.sites]
        before = [line.down for line in lines]
        for line in lines:
            line.down = True
            line.cut()
        await site.close()
        await site.open()
        node = next(each for each in NODES if each.code == code)
        if node.parent is not None and node.parent in self.sites:
            site.connect(self.door(node.parent))
            if running:
                site.run()
        for line, down in zip(lines, before, strict=True):
            line.door, line.down = self.door(code), down
        return site

    async def until(self, question: Callable[[], Any], what: str = "") -> Any:
        """Ask (plainly or with await) after every commit and every call, until the answer is true; return it."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    self.stirred.clear()
                    answer = question()
                    if isinstance(answer, Awaitable):
                        answer = await answer
                    if answer:
                        return answer
                    await self.stirred.wait()
        except TimeoutError:
            raise AssertionError(f"did not come to pass: {what or question}") from None

    async def close(self) -> None:
        outcomes = [await asyncio.gather(site.close(), return_exceptions=True) for site in self.sites.values()]
        for (outcome,) in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome


@asynccontextmanager
async def planted(
    root: Path, *codes: OrgId, options: Mapping[str, Mapping[str, Any]] | None = None, run: bool = False
) -> AsyncIterator[Tree]:
    """A tree of these nodes (hub, H41 and H54 if none are named), joined; its loops run if asked."""
    with swift(root) as folder:
        tree = Tree(folder)
        try:
            for code in codes or (HUB, H41, H54):
                await tree.plant(code, options or {})
            tree.join()
            if run:
                tree.run()
            yield tree
        finally:
            await tree.close()


def _settings(code: OrgId, folder: Path, options: Mapping[str, Mapping[str, Any]]) -> config.NodeConfig:
    node = next(each for each in NODES if each.code == code)
    children = [{"code": str(each.code)} for each in NODES if each.parent == code]
    files = {name: folder / file for name, file in (("certificate", "node.pem"), ("key", "node.key"))}
    plain: dict[str, dict[str, Any]] = {
        "node": {
            "name": node.name,
            "code": str(code),
            "tier": node.tier,
            "zone": ZONE,
            "data_dir": folder,
            "directory": folder / "directory.json",
            "systems": folder / "systems.json",
        },
        "link": {**files, "trust": folder / "trust.pem", "children": children, "pull_wait_s": 60, "body_chunk_bytes": 65_536},
        "office": files,
        "store": {"free_bulk_percent": 0, "free_urgent_percent": 0},
    }
    if node.parent is not None:
        plain["link"] |= {"parent_url": "https://parent", "parent_code": str(node.parent)}
    for section, values in options.items():
        plain[section] = {**plain.get(section, {}), **values}
    return config.NodeConfig.model_validate(plain)


# --- envelopes made by hand ------------------------------------------------------------------------------------------------


def signed(site: Site, content: Content) -> LocalEnvelope:
    """What this node would have made of content, whatever it is; its routes are nobody's matter."""
    return site.duties.origin.make(content, {})


def batch(
    *made: LocalEnvelope, bodies: bool = True, chains: bool = True, remaining: Sequence[OrgId] = (), hops: Sequence[OrgId] = ()
) -> Batch:
    """A batch of them. remaining: for these recipients only; hops: the nodes they have passed, the origin if not said."""
    passed = tuple(Hop(code, NOW_MS, 1000) for code in hops)
    envelopes = tuple(
        replace(each.envelope, remaining=tuple(remaining) or each.envelope.remaining, hops=passed or each.envelope.hops)
        for each in made
    )
    return Batch(
        envelopes,
        {body.sha256: body.data for each in made for body in each.bodies if body.data is not None} if bodies else {},
        {each.envelope.header.key: each.chain for each in made} if chains else {},
    )


# --- packages ------------------------------------------------------------------------------------------------------------------


def document(
    *to: str,
    sender: str = "000.00.00.H41",
    number: str = "12",
    document_id: str | None = None,
    priority: Priority = Priority.NORMAL,
    business: Business = Business.NEW,
    content: bytes = b"%PDF-1.7 van ban",
) -> bytes:
    return write_document(
        DocumentMessage(
            sender=Party(sender, "Bên gửi"),
            recipients=tuple(Party(code, f"Bên nhận {code}") for code in to),
            document_id=f"{sender},2031/03/01,{number}" if document_id is None else document_id,
            number=number,
            notation="UBND-VX",
            date="2031/03/01",
            subject=f"V/v kiểm thử số {number}",
            timestamp_ms=NOW_MS,
            priority=priority,
            business=business,
            attachments=(File(name="cong-van.pdf", content=content, content_type="application/pdf"),),
        )
    )


def status(code: str, document_id: str, *, sender: str = "H54.02", organ: str = "000.00.00.H41", text: str = "") -> bytes:
    return write_status(
        StatusMessage(
            sender=Party(sender, "Bên nhận"),
            response_for=Reference(organ, "12/UBND-VX", "2031/03/01", document_id),
            status=code,
            timestamp_ms=NOW_MS,
            description=text or f"Trạng thái {code}",
        )
    )


def refused_with(caught: Any) -> Reason:
    """The reason of what `pytest.raises(Refused)` caught."""
    assert isinstance(caught.value, Refused)
    return caught.value.reason


def spooled(site: Site) -> list[Path]:
    return [path for path in (site.folder / "bodies").rglob("*") if path.is_file()]


def hold(site: Site, gate: asyncio.Event, entered: asyncio.Event) -> None:
    """From now on commits wait for the gate."""
    connection = site._connections[0]
    really = connection.run

    async def run(work: Callable[[sqlite3.Connection], Any]) -> Any:
        entered.set()
        await gate.wait()
        return await really(work)

    connection.run = run  # type: ignore[method-assign]

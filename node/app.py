"""The composition root: the only file that knows every concrete class. Constructors in reading order, nothing else.

`main` is what `truc run` calls. `duties`, `uplink` and `desk` build on any `Ground`, so that a rehearsal can lay its own.
"""

from __future__ import annotations

import asyncio
import errno
import getpass
import json
import os
import random
import signal
import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import structlog
from aiohttp import web

from node import children, config, ports, reporting
from node.adapters import chance, logs, metrics
from node.adapters.acts import ActsFile
from node.adapters.bodies.files import Files, HostFiles, renew
from node.adapters.bodies.folder import FolderBodies
from node.adapters.calendar_files import CalendarError, KeptCalendar, shipped
from node.adapters.clock import MS_NS, HostClock
from node.adapters.directory_file import DirectoryFile, DirectoryFileError
from node.adapters.folders import BadFile, make_folder
from node.adapters.http import tls
from node.adapters.http.admin import admin_app
from node.adapters.http.link_client import HttpLink
from node.adapters.http.link_enrol import NewcomersDoor
from node.adapters.http.link_server import link_app, unwelcome
from node.adapters.http.link_trust import TrustDoor
from node.adapters.http.listener import Listener, guards, listen
from node.adapters.http.office_native import NativeFace
from node.adapters.http.office_vxp import VxpFace, malformed, no_pages
from node.adapters.lists import Lists
from node.adapters.lock import FolderInUse, FolderLock
from node.adapters.registry import Registry, RegistryError
from node.adapters.signing import Signer, Verifier
from node.adapters.sqlite.connection import open_reader, open_writer
from node.adapters.sqlite.store import SqliteStore, WrongNode
from node.auditor import Auditor
from node.core.counting import urgent
from node.core.directory import Directory
from node.core.envelope import Lane, Limits
from node.core.errors import Reason
from node.core.forwarding import Patience
from node.core.identifier import OrgId
from node.core.package import Party, Reference
from node.core.standing import Standing
from node.core.tally import Tally
from node.core.timekeeping import Policy
from node.core.wire import Batch, EnvelopeVerdicts
from node.core.working_time import Calendar
from node.desk import Desk, Identity
from node.documents.edxml import Reader, ReadLimits
from node.documents.edxml_writer import StatusMessage, write_status
from node.forwarder import Bounds, Forwarder
from node.gateway import Gateway, Loop
from node.housekeeper import Housekeeper, Keep
from node.intake import Intake, Rules
from node.keys import Keys, discovery
from node.mailbox import Mailbox
from node.office_door import OfficeDoor, OfficeTime
from node.origin import Origin
from node.parts import Parts
from node.ports import Bodies, KeptClock, Link, Store
from node.process import EXIT_FAILED, allow_files, causes, ending_with_the_disk, leave, no_room, take_faster_loop
from node.proving import Proving
from node.questions import Questions
from node.receipts import Receipts
from node.reconciler import Reconciler
from node.registrar import Registrar
from node.reporter import Paces, Reporter, Sight
from node.reports import Reports
from node.surroundings import Surroundings, Systems
from node.timekeeper import Timekeeper
from node.uplink import ANSWERS_AT_ONCE, BODIES_AT_ONCE, Pace, Uplink

log = structlog.get_logger()

STOP_GRACE_S = 10.0
FIRST_TIME_S = 2.0
"""So long the doors stay shut for the parent's first word on the time."""
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
DATABASE = "node.db"
EXIT_CONFIG = 78


class LinkDoor:
    """What the link listener is handed: the parent's side of every child's calls."""

    def __init__(self, node: Duties, clock: KeptClock) -> None:
        self._intake = node.intake
        self._give = node.receipts.give
        self._forwarder = node.forwarder
        self.pull = node.forwarder.pull
        self.get_body = node.forwarder.get_body
        self.put_body = node.parts.put
        self.query = node.questions.asked
        self.answered = node.questions.answered
        self.directory = node.registrar.answer
        self.statements = node.reporter.receive
        self.moment = clock.moment

    async def push(self, peer: OrgId, batch: Batch) -> tuple[EnvelopeVerdicts, ...]:
        self._forwarder.seen(self._forwarder.neighbours[peer], True)
        return self._give(peer, batch, await self._intake.accept(batch, peer))


@dataclass(frozen=True, slots=True)
class Ground:
    """What the duties stand on: the ports, and the files that may change under the node. A rehearsal lays its own."""

    clock: KeptClock
    store: Store
    bodies: Bodies
    signer: ports.Signer
    verifier: ports.Verifier
    rng: random.Random
    tally: Tally
    registry: Systems
    surroundings: Surroundings
    calendar: Callable[[], Calendar] = shipped


@dataclass(frozen=True, slots=True)
class Duties:
    """The duties of one node, ready to run."""

    code: OrgId
    parent: OrgId | None
    origin: Origin
    forwarder: Forwarder
    intake: Intake
    parts: Parts
    mailbox: Mailbox
    housekeeper: Housekeeper
    questions: Questions
    timing: OfficeTime
    registrar: Registrar
    receipts: Receipts
    proving: Proving
    reporter: Reporter
    reports: Reports
    auditor: Auditor


def duties(settings: config.NodeConfig, ground: Ground) -> Duties:
    """Constructors in reading order; nothing is started."""
    code = OrgId.canonical(settings.node.code)
    parent = OrgId.canonical(settings.link.parent_code) if settings.link.parent_url else None
    below = [OrgId.canonical(child.code) for child in settings.link.children]
    neighbours = [*([parent] if parent is not None else []), *below]
    store, bodies, clock, tally, surroundings = ground.store, ground.bodies, ground.clock, ground.tally, ground.surroundings

    def directory() -> Directory:
        return surroundings.directory

    limits = ReadLimits(settings.office.package_bytes_max, settings.office.unpacked_bytes_max, digests=False)
    origin = Origin(code, store, clock, ground.signer, ground.rng, surroundings.table, directory, _status_writer)
    receipts = Receipts(code, store, clock, ground.signer, ground.verifier, tally)
    forwarder = Forwarder(store, bodies, clock, origin, tally, _bounds(settings), ground.rng, neighbours, receipts)
    intake = Intake(
        code,
        store,
        bodies,
        clock,
        ground.verifier,
        origin,
        tally,
        _rules(settings),
        surroundings.table,
        directory,
        ground.registry.all,
        lambda: Reader(limits),
    )
    office = settings.office
    mailbox = Mailbox(store, bodies, clock, origin, tally, list_max=office.list_max, fails_max=office.fails_max)
    kept = settings.retention
    keep = Keep(
        int(kept.handed_over_h * HOUR_MS),
        int(kept.collected_d * DAY_MS),
        int(kept.sent_d * DAY_MS),
        int(kept.evidence_d * DAY_MS),
    )
    housekeeper = Housekeeper(
        store, bodies, clock, origin, tally, surroundings.refresh, forwarder.find_strays, surroundings.closed, keep, kept.sweep_s
    )
    parts = Parts(store, bodies, tally, settings.office.package_bytes_max, settings.store.free_urgent_percent / 100)
    questions = Questions(parent, forwarder, tally, ground.rng)
    registrar = Registrar(code, store, clock, ground.signer, ground.verifier, tally, surroundings, forwarder.nudge, ground.rng)
    surroundings.edited = registrar.edited
    store.on_trial = surroundings.on_trial
    paces = Paces(settings.report.every_s, settings.link.probe_max_s)
    late = urgent(settings.report.late_urgent_h, settings.report.late_very_urgent_h, settings.report.late_express_h)
    sight = Sight(surroundings.table, directory, ground.calendar, late)
    reporter = Reporter(code, parent, store, clock, ground.signer, ground.verifier, sight, tally, paces, ground.rng)
    timing, told = OfficeTime(clock), reporting.reports(settings, code, reporter.report, store, clock, directory)
    told.reconcile = Reconciler(code, parent, questions, store, directory).find
    proving = Proving(code, store, clock, origin, ground.signer, ground.verifier, questions, surroundings.table)
    done = (
        origin,
        forwarder,
        intake,
        parts,
        mailbox,
        housekeeper,
        questions,
        timing,
        registrar,
        receipts,
        proving,
        reporter,
        told,
    )
    auditor = Auditor(code, parent, store, clock, ground.signer, ground.verifier, questions, tally)
    return Duties(code, parent, *done, auditor)


def uplink(settings: config.NodeConfig, ground: Ground, node: Duties, link: Link, session: str) -> list[Loop]:
    """The loops towards the parent; none at the hub."""
    if node.parent is None:
        return []
    section = settings.link
    pace = Pace(
        int(section.pull_wait_s * 1000), section.probe_max_s, _batch_bytes(settings), section.body_chunk_bytes, section.piece_s
    )
    intake = node.intake
    node.questions.link = link
    up = Uplink(
        node.parent,
        link,
        node.forwarder,
        ground.store,
        ground.bodies,
        intake.accept,
        node.parts.put,
        node.questions.asked_from_above,
        node.receipts.give,
        ground.tally,
        pace,
        ground.rng,
        session,
        node.registrar.stir,
    )
    node.registrar.link = node.reporter.link = link
    bodies = [*[up.run_uploads] * BODIES_AT_ONCE, *[up.run_downloads] * BODIES_AT_ONCE]
    return [up.run_push, up.run_pull, *bodies, *[up.run_answers] * ANSWERS_AT_ONCE, node.reporter.run_upward]


def time_policy(settings: config.NodeConfig) -> Policy:
    section = settings.clock
    limit_ns, bound_ns = section.limit_ms * MS_NS, section.bound_ms * MS_NS
    return Policy(bound_ns, limit_ns, section.drift_ppm, section.poll_min_s, max(section.poll_min_s, section.poll_max_s))


def office_app(settings: config.NodeConfig, ground: Ground, node: Duties) -> web.Application:
    """The application behind the office listener: every face, on one door."""
    office = web.Application(middlewares=[no_pages], client_max_size=settings.office.package_bytes_max + 2)
    door = OfficeDoor(ground.registry, node.intake, node.mailbox, ground.surroundings, node.timing, node.reports)
    reasons = frozenset(Reason)

    def told(operation: str, result: str) -> None:
        if result in reasons:
            ground.tally.add("truc_refusals_total", door="office", reason=result)

    VxpFace(door, ground.clock, settings.office, tell=told, ahead=node.timing.ahead).register(office)
    NativeFace(door, settings.office, tell=told, anonymous=settings.report.anonymous).register(office)
    return office


def desk(
    settings: config.NodeConfig,
    ground: Ground,
    node: Duties,
    store_bytes: Callable[[], int],
    expiry_ms: Mapping[str, int],
    standing: Callable[[], Standing] = Standing,
) -> Desk:
    """The operator's side. expiry_ms: end of validity (UTC) of each certificate. standing: what revocation lists say."""
    identity = Identity(
        settings.node.name,
        node.code,
        settings.node.tier,
        version(),
        settings.link.parent_url,
        ground.clock.utc_ms(),
        expiry_ms,
    )
    found = Desk(
        identity,
        ground.store,
        ground.bodies,
        ground.clock,
        node.origin,
        node.forwarder,
        ground.tally,
        lambda: ground.surroundings.directory,
        node.parent,
        lambda: ground.registry.problem,
        store_bytes,
        node.proving,
        node.auditor,
        node.timing.skews,
        ground.calendar,
        node.reports,
        standing,
    )
    found.registered, found.office_systems = node.registrar.state, ground.registry.all
    return found


class Application:
    """One node in production: real files, real listeners. `serve` runs it until stop is set. clock: where its log has the time
    from already; else its own."""

    def __init__(self, settings: config.NodeConfig, clock: HostClock | None = None) -> None:
        self._settings = settings
        self._clock = clock or node_clock(settings)
        self._leave: Callable[[Exception], None] = leave
        self._listeners: dict[str, Listener] = {}
        self._reloads: list[Callable[[], None]] = []
        self._shown_ders: Callable[[], tuple[bytes, ...]] = tuple

    def reload(self) -> None:
        """SIGHUP: read directory, trust and TLS files again; connections that are open go on. What cannot be read keeps its last
        good state, with an error in the log. The configuration itself needs a restart."""
        for step in self._reloads:
            try:
                step()
            except (tls.TlsFileError, OSError, ValueError) as error:
                log.error("not reloaded, the last good state stays", reason=str(error)[:500])
        log.info("reloaded")

    async def serve(self, stop: asyncio.Event) -> None:
        settings = self._settings
        data = settings.node.data_dir
        make_folder(data, 0o700)
        async with AsyncExitStack() as closing:
            closing.callback(FolderLock(data).release)
            calendar = KeptCalendar(settings.calendar.folder)
            keys = Keys(settings, self._clock)
            store, ground = await _lay_ground(settings, self._clock, calendar, keys.lists, closing)
            self._shown_ders = lambda: tuple(each.der for system in ground.registry.all() for each in system.certificates)
            node = duties(settings, ground)
            peers = children.registered(settings, node.forwarder.meet)
            files = HostFiles(data)
            closing.callback(files.close)
            run = children.OnThread(files)
            node.registrar.calendar, calendar.edited = calendar, node.registrar.calendar_edited
            await node.registrar.prepare(files.do)
            node.auditor.written, node.auditor.user = ActsFile(data), getpass.getuser()
            node.auditor.settings = config.flat(settings)
            loops: list[Loop] = [node.housekeeper.run, ground.bodies.watch, node.registrar.run, node.reporter.run]
            loops += [node.auditor.run, node.auditor.run_walk]
            link = None
            if node.parent is not None:
                link = HttpLink(settings.link, settings.node.zone, ground.clock, keys.lists.judge)
                closing.push_async_callback(link.close)
                self._reloads.append(link.reload)
                loops += uplink(settings, ground, node, link, chance.token())
            loops += reporting.deliverer(settings, node.reports, ground.clock, ground.tally, files)
            keeper = Timekeeper(ground.clock, link, ground.tally, ground.rng)
            loops.append(keeper.run)
            self._reloads += [ground.surroundings.refresh, self._renew_contexts, ground.verifier.reload, calendar.refresh]
            self._reloads += [ground.signer.reload, keys.reload]
            operator = desk(settings, ground, node, store.size_bytes, keys.ends_ms, keys.standing)
            judge = keys.judge(peers)
            announcement, seekers = discovery(settings, link, ground.rng, node.forwarder)
            warden = keys.warden(peers, link, run, (ground.rng, chance.token()), lambda: self._sweep(judge), self.reload)
            loops += [warden.run, *seekers]
            newcomers = children.newcomers(settings, ground.clock, peers, run, ground.surroundings.refresh)
            apps = self._apps(ground, node, operator, judge, newcomers, warden)

            async def open_doors() -> None:
                await keeper.first(FIRST_TIME_S)
                await self._open(apps)
                await announcement.open(settings.link.listen_host, self._listeners["link"].port)

            async def close_doors() -> None:
                operator.stopping = True
                await announcement.close()
                node.forwarder.release()
                node.mailbox.release()
                await self._close()

            writer, *others = (ending_with_the_disk(loop, self._leave) for loop in (store.run, *loops))
            await Gateway(writer, others, open_doors, close_doors, store.drain).run(stop)

    def _sweep(self, judge: tls.Judge) -> int:
        listener = self._listeners.get("link")
        return listener.sweep(unwelcome(judge)) if listener is not None else 0

    def _apps(
        self, ground: Ground, node: Duties, operator: Desk, judge: tls.Judge, newcomers: NewcomersDoor | None, trust: TrustDoor
    ) -> dict[str, web.Application]:
        settings, tally = self._settings, ground.tally
        return {
            "link": link_app(
                settings.link,
                LinkDoor(node, ground.clock),
                judge,
                lambda reason: tally.add("truc_refusals_total", door="link", reason=reason.value),
                newcomers,
                trust,
            ),
            "office": office_app(settings, ground, node),
            "admin": admin_app(
                operator,
                lambda: metrics.exposition(tally, operator.gauges),
                chance.kept_token(settings.node.data_dir / "admin.token"),
                node.registrar,
            ),
        }

    async def _open(self, apps: Mapping[str, web.Application]) -> None:
        settings = self._settings
        ports: dict[str, int] = {}
        contexts = self._contexts()
        sections: dict[str, config.Link | config.Office | config.Admin] = {
            "link": settings.link,
            "office": settings.office,
            "admin": settings.admin,
        }
        for name, section in sections.items():
            host, port, bounds = section.listen_host, section.listen_port, guards(settings, name)
            answer = malformed if name == "office" else None
            self._listeners[name] = await listen(apps[name], host, port, bounds, contexts.get(name), answer)
            ports[f"{name}_port"] = self._listeners[name].port
        run_file = settings.node.data_dir / "run.json"
        temporary = run_file.with_suffix(".tmp")
        temporary.write_text(json.dumps({"pid": os.getpid(), **ports}) + "\n", encoding="ascii")
        temporary.replace(run_file)

    def _contexts(self) -> dict[str, ssl.SSLContext | tls.OfficeContext]:
        link, office = self._settings.link, self._settings.office
        return {
            "link": tls.link_server_context(
                link.certificate, link.key, link.trust, newcomers=link.peers is not None and link.authority is not None
            ),
            "office": tls.OfficeContext(office.certificate, office.key, self._shown_ders),
        }

    def _renew_contexts(self) -> None:
        for name, context in self._contexts().items():
            if name in self._listeners:
                self._listeners[name].context = context

    async def _close(self) -> None:
        """All at once: a request in progress on one does not hold the others open."""
        (self._settings.node.data_dir / "run.json").unlink(missing_ok=True)
        await asyncio.gather(*(listener.close(STOP_GRACE_S) for listener in self._listeners.values()))


def node_clock(settings: config.NodeConfig) -> HostClock:
    return HostClock(settings.clock.bound_ms, kept=bool(settings.link.parent_url), policy=time_policy(settings))


async def _lay_ground(
    settings: config.NodeConfig, clock: HostClock, calendar: KeptCalendar, lists: Lists, closing: AsyncExitStack
) -> tuple[SqliteStore, Ground]:
    """Open the files."""
    code = OrgId.canonical(settings.node.code)
    data = settings.node.data_dir
    tally = Tally()
    registry = Registry(settings.node.systems, tally)
    surroundings = Surroundings(code, DirectoryFile(settings.node.directory), registry, clock)
    bodies = FolderBodies(HostFiles(data / "bodies"), settings.store.inline_bytes_max, chance.token)
    closing.callback(bodies.close)
    await renew_wal(HostFiles(data))
    path = data / DATABASE
    writer = await open_writer(path, settings.store.wal_pages_max)
    closing.push_async_callback(writer.close)
    reader = await open_reader(path)
    closing.push_async_callback(reader.close)
    store = SqliteStore(writer, reader, clock, tally, settings.store.group_max, path)
    await prepare(code, store, bodies)
    clock.resume(await store.vouched_ms())
    signer = Signer(settings.link.certificate, settings.link.key)
    verifier = Verifier(settings.link.trust, settings.node.zone, lists.revoked_ms)
    rng = chance.generator()
    return store, Ground(clock, store, bodies, signer, verifier, rng, tally, registry, surroundings, calendar.get)


async def renew_wal(files: Files) -> None:
    """Before SQLite opens it: the process before this one may have ended because a sync failed, and what the system shows of its
    WAL since then need not be on the disk. Commits behind such a hole would be lost at the next power cut (docs/adr/0003)."""
    try:
        await files.do(lambda: renew(files, f"{DATABASE}-wal"))
    finally:
        files.close()


async def prepare(code: OrgId, store: SqliteStore, bodies: FolderBodies) -> None:
    """Bring the database up to date and sweep away whatever was spooled and never committed, before anything is served."""
    await store.prepare(code)
    await bodies.sweep(await store.known_files())


def _status_writer(sender: Party, reference: Reference, status: str, text: str, at_ms: int) -> bytes:
    return write_status(StatusMessage(sender=sender, response_for=reference, status=status, timestamp_ms=at_ms, description=text))


def _rules(settings: config.NodeConfig) -> Rules:
    return Rules(
        Limits(settings.office.package_bytes_max, settings.forwarding.hops_max),
        int(settings.forwarding.lifetime_d * DAY_MS),
        int(settings.office.repeat_window_h * HOUR_MS),
        settings.store.free_bulk_percent / 100,
        settings.store.free_urgent_percent / 100,
    )


def _batch_bytes(settings: config.NodeConfig) -> int:
    """Room for wrappers and frames: a full batch must pass the neighbour's own limit."""
    return settings.link.batch_bytes_max * 3 // 4


def _bounds(settings: config.NodeConfig) -> Bounds:
    forwarding = settings.forwarding
    patience = Patience(int(forwarding.retry_min_s * 1000), int(forwarding.retry_max_s * 1000), forwarding.attempts_max)
    weights = dict(zip(Lane, forwarding.weights, strict=True))
    return Bounds(_batch_bytes(settings), settings.link.batch_envelopes_max, weights, patience)


def version() -> str:
    try:
        return metadata.version("truc")
    except metadata.PackageNotFoundError:
        return "0"


def main(path: Path) -> int:
    """Run one node until SIGTERM or SIGINT. Returns the exit code: 0 drained, 1 failed, 78 bad configuration."""
    try:
        settings, _ = config.load(path, os.environ)
    except config.ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    clock = node_clock(settings)
    logs.configure(level=settings.node.log_level, utc_ms=clock.utc_ms, node=settings.node.code or "hub", tier=settings.node.tier)
    try:
        take_faster_loop()
        asyncio.run(_run(settings, clock))
    except (RegistryError, DirectoryFileError, CalendarError, tls.TlsFileError, WrongNode, BadFile) as error:
        log.error("bad configuration", reason=str(error))
        return EXIT_CONFIG
    except FolderInUse as error:
        log.error("this node is running already", reason=str(error))
        return EXIT_FAILED
    except Exception as error:
        for cause in causes(error):
            if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
                log.error("address in use: is this node running already?", reason=str(cause))
                return EXIT_FAILED
            if no_room(cause):
                log.error("no room on the disk to start: make room, then start again", reason=str(cause))
                return EXIT_FAILED
        log.exception("node failed")
        return EXIT_FAILED
    return 0


async def _run(settings: config.NodeConfig, clock: HostClock) -> None:
    allow_files(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    application = Application(settings, clock)
    loop.add_signal_handler(signal.SIGHUP, application.reload)
    await application.serve(stop)

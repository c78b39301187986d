"""The nodes of one run: machines with a disk and a clock, the process that lives on each, and the offices around them.

Builds what `node.app` builds in production, on simulated ground. Knows how a machine falls and starts again; what goes wrong
and when is drawn in `faults.py`, what must hold is judged in `checkers.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from node import app, config, process
from node.adapters.bodies.folder import FolderBodies
from node.adapters.signing import Signer
from node.adapters.sqlite.store import SqliteStore
from node.adapters.sqlite.writer import StoreFailed
from node.core.directory import Directory
from node.core.errors import Deferred
from node.core.identifier import OrgId
from node.core.office import System
from node.core.tally import Tally
from node.core.wire import Batch, EnvelopeVerdicts, Outcome
from node.desk import Desk
from node.gateway import Gateway, Loop
from node.ports import Downlink
from node.surroundings import Surroundings
from node.timekeeper import Timekeeper
from topology.model import OfficeSystem, Options, Site, Tree
from topology.sim import keys
from topology.sim.clocks import SimClock, WrongClock
from topology.sim.database import SimConnection, open_connection
from topology.sim.disk import Disk
from topology.sim.door import AppDoor
from topology.sim.files import SimFiles
from topology.sim.loop import Life, SimLoop
from topology.sim.network import Network
from topology.sim.record import Record, stream
from topology.sim.times import Reference, TimeJudge

STOP_GRACE_S = 10.0
DATABASE = app.DATABASE
VOUCHED = "SELECT max(at_ms) FROM ledger WHERE synchronised=1"
BODIES = "bodies"
RESTART_S = (0.5, 5.0)
"""After a process ended by itself its supervisor starts it again, within this."""
RESTARTS_FAILED_MAX = 200
"""A node that cannot start so many times in a row is broken for good: no fault lasts as long."""

Key = tuple[str, str, str]
"""(origin, envelope id, recipient): what a verdict speaks of."""


class _Given:
    """The directory as it was last given to a node."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    def take(self, directory: Directory) -> None:
        """Another version has come; an older one than is there changes nothing."""
        if directory.version > self.directory.version:
            self.directory = directory

    def stamp(self) -> tuple[int, ...]:
        return (self.directory.version, id(self.directory))

    def load(self) -> Directory:
        return self.directory

    def keep(self, directory: Directory) -> tuple[int, ...]:
        """The node's own: what it goes by, where it is read again at its next start."""
        self.directory = directory
        return self.stamp()


class _Systems:
    """The systems of one site, in memory."""

    problem = ""

    def __init__(self, site: Site) -> None:
        self._systems = {each.id: System(each.id, each.codes, (secret(each.id),)) for each in site.systems}

    def get(self, system_id: str) -> System | None:
        return self._systems.get(system_id)

    def all(self) -> Sequence[System]:
        return tuple(self._systems.values())

    def served(self) -> frozenset[OrgId]:
        return frozenset(code for system in self._systems.values() for code in system.codes)


def secret(system_id: str) -> str:
    """The secret of an office system of a rehearsal."""
    return f"bí-mật-{system_id}"


@dataclass(frozen=True, slots=True)
class Run:
    """A node's process while it serves."""

    connection: SimConnection
    store: SqliteStore
    ground: app.Ground
    duties: app.Duties
    desk: Desk
    door: AppDoor


class Machine:
    """One site of the tree: what outlives its processes, and the process that runs on it now, if one does."""

    def __init__(self, world: World, site: Site) -> None:
        self.world = world
        self.site = site
        self.name = site.folder
        self.code = site.code
        self._parent = site.parent
        self.disk = Disk(self.name, stream(world.seed, self.name, "disk"), world.record)
        self.clock = WrongClock(world.loop, 0.0, 0.0)
        self.given = _Given(world.directory)
        self.taken: dict[Key, None] = {}
        """What it has called taken, seen from outside as the word left it: it must be there after every restart."""
        self.life: Life | None = None
        self.run: Run | None = None
        self.starts = 0
        self.failed_starts = 0
        self.stop = asyncio.Event()
        self.lied_to = False
        """Its disk says "synced" and is not: a power cut now would lose what nobody could have kept."""
        self.tally = Tally()
        """Of the process that runs now; `totals` holds those before."""
        self.totals = Tally()
        self._rng = stream(world.seed, self.name, "machine")

    @property
    def parent(self) -> OrgId | None:
        """Where it hangs now."""
        return self._parent

    @parent.setter
    def parent(self, code: OrgId | None) -> None:
        self._parent = code
        self.world.below.clear()

    # the process

    def start(self) -> None:
        """Switch the machine on, if it is off, and start its process."""
        if self.life is not None:
            return
        if self.disk.dead:
            self.disk.mount()
        self.starts += 1
        self.world.record.note(self.name, "start", self.starts)
        self.stop = asyncio.Event()
        self.totals, self.tally = self.totals + self.tally, Tally()
        life = self.life = Life(self.world.loop, self.name)
        task = life.start(self._process(life), name=f"{self.name}/{self.starts}")
        task.add_done_callback(lambda done: self._ended(life, done), context=self.world.context)

    async def _process(self, life: Life) -> None:
        settings = self.settings()
        rng = stream(self.world.seed, self.name, "node", self.starts)
        clock = SimClock(self.clock, settings.clock.bound_ms, kept=self.parent is not None, policy=app.time_policy(settings))
        systems = _Systems(self.site)
        surroundings = Surroundings(self.code, self.given, systems, clock)
        bodies = FolderBodies(SimFiles(self.disk, BODIES, self._wall_ms), settings.store.inline_bytes_max, lambda: _token(rng))
        await app.renew_wal(SimFiles(self.disk, "", self._wall_ms))
        connection = await open_connection(self.disk, app.DATABASE, settings.store.wal_pages_max)
        store = SqliteStore(connection, connection, clock, self.tally, settings.store.group_max, Path(app.DATABASE))
        await app.prepare(self.code, store, bodies)
        (floor,) = connection.look(VOUCHED, ())
        clock.look = TimeJudge(self.name, self.world.reference, floor[0] or 0, self.world.wrong).look
        clock.resume(await store.vouched_ms())
        self.world.on_recovered(self, connection)
        own = keys.pair(self.code.dns_name(settings.node.zone))
        signer, verifier = Signer(own.certificate, own.key), keys.SharedVerifier(own.trust, settings.node.zone)
        ground = app.Ground(clock, store, bodies, signer, verifier, rng, self.tally, systems, surroundings)
        node = app.duties(settings, ground)
        await node.registrar.prepare()
        loops: list[Loop] = [node.housekeeper.run, bodies.watch, node.registrar.run, node.reporter.run]
        link = None
        if node.parent is not None:
            above = self.world.machines[node.parent].name
            link = self.world.network.link(self.name, self.code, above, life, settings.link)
            loops += app.uplink(settings, ground, node, link, _token(rng))
        keeper = Timekeeper(clock, link, self.tally, stream(self.world.seed, self.name, "time", self.starts))
        loops.append(keeper.run)
        papers = self.world.network.papers
        if papers is not None:
            trust = stream(self.world.seed, self.name, "trust", self.starts)
            loops.append(papers.enter(self, clock, link, trust).run)
        door = AppDoor(app.office_app(settings, ground, node))
        operator = app.desk(settings, ground, node, lambda: 0, {})

        async def open_doors() -> None:
            await keeper.first(app.FIRST_TIME_S)
            await door.setup()
            self.run = Run(connection, store, ground, node, operator, door)
            self.failed_starts = 0
            down = self.world.wrap(self, app.LinkDoor(node, clock))
            self.world.network.serve(self.name, life, down, settings.link)
            self.world.record.note(self.name, "ready")

        async def close_doors() -> None:
            node.forwarder.release()
            node.mailbox.release()
            self.world.network.close(self.name)
            await door.close(STOP_GRACE_S)
            self.run = None

        writer, *others = (process.ending_with_the_disk(loop, partial(self._left, life)) for loop in (store.run, *loops))
        await Gateway(writer, others, open_doors, close_doors, store.drain).run(self.stop)
        await store.close()

    def _ended(self, life: Life, done: asyncio.Task[Any]) -> None:
        """The process ended by itself: as it was told to, or because the store or the disk failed it."""
        if self.life is not life:
            return
        error = None if done.cancelled() else done.exception()
        self._gone()
        if error is None:
            self.world.record.note(self.name, "stopped")
        else:
            self._judge_exit(error)
        self.failed_starts += 1
        if self.failed_starts > RESTARTS_FAILED_MAX:
            self.world.wrong(f"{self.name} has not come up in {RESTARTS_FAILED_MAX} starts: {error!r}")
            return
        self.world.later(self._rng.uniform(*RESTART_S), self.start)

    def _left(self, life: Life, error: Exception) -> None:
        """The process ends at once, as `node.process.leave` ends it."""
        if self.life is life:
            self.world.record.note(self.name, "exit")
            self._gone()
            self.world.later(self._rng.uniform(*RESTART_S), self.start)

    def _judge_exit(self, error: BaseException) -> None:
        """A process may exit where its disk failed it; any other end is a bug of the node."""
        self.world.record.note(self.name, "exit")
        unexpected = [each for each in _causes(error) if not _of_the_disk(each)]
        for each in unexpected:
            self.world.fell(self.name, each)

    def _gone(self) -> None:
        if self.life is not None:
            life, self.life, self.run = self.life, None, None
            self.world.network.close(self.name)
            life.end()

    # what ends it

    def fall(self, *, power: bool, again_s: float) -> None:
        """SIGKILL, or the power goes; up again after so many virtual seconds."""
        power = power and not self.lied_to
        if power:
            self.world.network.power_off(self.name)
        self.disk.die(power=power)
        self.fallen(again_s)

    def fallen(self, again_s: float) -> None:
        """The machine has just died (its disk says so)."""
        self.world.record.note(self.name, "down")
        self._gone()
        self.world.later(again_s, self.start)

    def _wall_ms(self, second: float) -> int:
        """What this machine's clock shows now of a moment at a virtual second: a step moves the past with it."""
        return self.clock.wall_ns() // 1_000_000 - int((self.world.loop.time() - second) * 1000)

    def settings(self) -> config.NodeConfig:
        """What its next process is started with."""
        world = self.world
        tables: dict[str, dict[str, Any]] = {
            "node": {"name": self.site.name, "code": str(self.code), "tier": self.site.tier, "zone": world.tree.zone},
            "link": {"children": [{"code": str(each.code)} for each in world.children(self.code)]},
            "office": {},
        }
        tables["node"] |= {"data_dir": ".", "directory": "directory.json", "systems": "systems.json"}
        for section in ("link", "office"):
            tables[section] |= {"certificate": "link.pem", "key": "link.key"}
        tables["link"]["trust"] = "trust.pem"
        if self.parent is not None:
            tables["link"] |= {"parent_url": "https://parent", "parent_code": str(self.parent)}
        for options in (world.tree.options, self.site.options):
            for section, values in options.items():
                tables.setdefault(section, {}).update(values)
        return _beyond(config.NodeConfig.model_validate(tables), world.options)


class World:
    """All machines of one run, and what they share. `wrong` collects what must never be."""

    def __init__(self, tree: Tree, options: Options, seed: int, loop: SimLoop, record: Record) -> None:
        self.tree = tree
        self.options = options
        self.seed = seed
        self.loop = loop
        self.record = record
        self.context = contextvars.copy_context()
        self.directory = tree.directory()
        self.network = Network(loop, seed, record)
        self.network.on_verdicts = self._verdicts
        self.violations: list[str] = []
        self.poisoned: dict[OrgId, str] = {}
        """Parents that choke on one envelope: its id, "" while none was chosen."""
        self.moved: dict[OrgId, OrgId] = {}
        """Units that have another parent now."""
        self.changed: dict[str, None] = {}
        """Codes that an operator closed or moved on the way: delivered and refused are both right there."""
        self.tardy: dict[str, float] = {}
        """Nodes that have nothing to say of the directory until a virtual second."""
        self.sparing: dict[OrgId, None] = {}
        """Parents that take an envelope for all of its receivers but one, which they put off."""
        self.forging: dict[OrgId, None] = {}
        """Children that will present something forged."""
        self.below: dict[OrgId, list[Machine]] = {}
        """Children by their parent's code, as `children` has found them; empty once one hangs elsewhere."""
        self.machines: dict[OrgId, Machine] = {}
        for site in tree.parents_first():
            self.machines[site.code] = Machine(self, site)
        root = next(machine for machine in self.machines.values() if machine.parent is None)
        self.reference = Reference(loop, root.clock, root.settings().clock.bound_ms)
        self.true_hub = False
        """No fault touches the hub's clock."""
        self.pace = 1.0
        """So many times longer than usual a fault lasts."""
        self.by_name = {machine.name: machine for machine in self.machines.values()}
        self.on_recovered: Callable[[Machine, SimConnection], None] = lambda machine, connection: None
        """Called when a node has opened its store and serves nobody yet."""
        self.wrap: Callable[[Machine, Downlink], Downlink] = lambda machine, door: door

    def children(self, code: OrgId) -> list[Machine]:
        """In the order of the tree."""
        if not self.below:
            for machine in self.machines.values():
                if machine.parent is not None:
                    self.below.setdefault(machine.parent, []).append(machine)
        return list(self.below.get(code, ()))

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Outside every life: it happens whatever dies meanwhile."""
        self.loop.call_later(seconds, action, context=self.context)

    def wrong(self, text: str) -> None:
        """Something that must never happen has happened."""
        if text not in self.violations:
            self.violations.append(text)

    def fell(self, name: str, error: BaseException) -> None:
        """An error nobody expected ended a process."""
        where = place(error)
        self.wrong(f"{name} fell: {type(error).__name__}: {error} {where}")

    def _verdicts(self, name: str, batch: Batch, verdicts: Sequence[EnvelopeVerdicts]) -> None:
        """An answer leaves a node: from now on it has promised this."""
        taken = self.by_name[name].taken
        for envelope, spoken in zip(batch.envelopes, verdicts, strict=False):
            for recipient, verdict in spoken.verdicts.items():
                if verdict.outcome is Outcome.TAKEN:
                    taken[str(envelope.header.origin), envelope.header.id, str(recipient)] = None

    def heal(self) -> None:
        """Nothing is wrong with any machine or line any more; what is down comes up."""
        self.network.heal(calm=True)
        self.poisoned.clear()
        self.tardy.clear()
        self.sparing.clear()
        self.forging.clear()
        for machine in self.machines.values():
            machine.disk.calm()
            if machine.life is not None:
                machine.life.resume()
            else:
                machine.start()

    def total(self) -> Tally:
        """Everything that all processes have counted."""
        parts = [machine.totals + machine.tally for machine in self.machines.values()]
        while len(parts) > 1:  # in pairs: what all nodes together have counted is long, and would be copied for each of them
            parts = [one + other for one, other in zip_longest(parts[::2], parts[1::2], fillvalue=Tally())]
        return parts[0]

    def systems(self) -> list[tuple[Machine, OfficeSystem]]:
        return [(machine, system) for machine in self.machines.values() for system in machine.site.systems]


def _beyond(settings: config.NodeConfig, options: Options) -> config.NodeConfig:
    """The settings with some replaced as they are: a profile may ask for what no node in service may have."""
    sections: dict[str, config.Section] = {name: getattr(settings, name) for name in options}
    for name, values in options.items():
        unknown = sorted(values.keys() - type(sections[name]).model_fields)
        if unknown:
            raise ValueError(f"{name} has no option {', '.join(unknown)}")
        sections[name] = sections[name].model_copy(update=dict(values))
    return settings.model_copy(update=sections)


def _of_the_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.OperationalError):  # while the database was being opened
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_CANTOPEN,
        )
    return isinstance(error, StoreFailed | OSError | Deferred)


def _token(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def _causes(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [cause for each in error.exceptions for cause in _causes(each)]
    return [error]


def place(error: BaseException) -> str:
    """The innermost line of the program in a traceback."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return "(" + " < ".join(reversed(frames[-4:])) + ")"

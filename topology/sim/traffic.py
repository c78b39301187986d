"""What the offices of one run send: a plan of packages, and what must become of each by the directory alone.

Everything follows from a tree, a `Traffic` and a seed. Knows nothing of nodes, of time as it passes, or of how packages are sent.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from node.core.directory import CONNECTED, Directory
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.package import Business, Party, Priority, Reference
from node.documents.edxml_writer import DocumentMessage, File, StatusMessage, write_document, write_status
from topology.model import OfficeSystem, Tree
from topology.sim.record import stream

FIRST_DAY = date(2026, 11, 23)
"""The day a rehearsal begins on: who may receive is judged by it."""
DATE = "2026/11/22"
DUE = "2026/11/23"
"""The time limit for processing of every so manyth package; offices of a rehearsal never say that they are done."""
SCAN, PDF = b"\xff\xd8\xff\xe0", b"%PDF-1.7\n"
MADE_MS = 1_795_300_000_000
BURST_S = 60.0
HEADER_BYTES = 1_500
"""What a package holds beside its attachment, about."""
NEAR_TRIES = 4
RECEIVERS_MAX = 50


@dataclass(frozen=True, slots=True)
class Traffic:
    """How much is sent and of what kind. span_s: the virtual seconds over which all of it leaves. p_*: shares of all documents.

    large: bodies of more than 128 KiB, which are files that cross each link by themselves. near: to a receiver below the same
    code of level 1. several: more than one receiver. bad: one more receiver that cannot receive; only_bad: no other. broken: no
    edXML at all. update: corrects an earlier package; same_id: other content under the DocumentId of an earlier one. again: the
    same file is handed in once more after the answer, within again_max_s. burst: leaves within one minute, all together. hot:
    goes to one and the same receiver. one_road: one system sends everything, all of it to one organ at another node.

    express: so many hỏa tốc of express_bytes each come one by one over the first half of the span, and so many then all together.
    They are over and above all documents, which leave in the first minute if there are any.
    """

    documents: int = 50
    span_s: float = 600.0
    bytes_min: int = 1_600
    bytes_max: int = 16_000
    large_bytes_min: int = 135_000
    large_bytes_max: int = 170_000
    p_large: float = 0.04
    p_near: float = 0.3
    p_several: float = 0.15
    receivers_max: int = 5
    p_bad: float = 0.08
    p_only_bad: float = 0.03
    p_broken: float = 0.01
    p_update: float = 0.08
    p_same_id: float = 0.04
    p_again: float = 0.08
    again_max_s: float = 3_600.0
    p_urgent: float = 0.2
    p_old_form: float = 0.15
    p_burst: float = 0.2
    p_hot: float = 0.1
    one_road: bool = False
    express: tuple[int, int] = (0, 0)
    express_bytes: int = 200_000


@dataclass(frozen=True, slots=True)
class To:
    """One Bên nhận of a package. organ: who must receive it; "" where it must be refused, for this reason."""

    written: str
    code: str
    organ: str
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """One package of the plan. at_s: when it may leave; again_s: the same file comes again so long after the answer; 0: no.

    after: the number of the package it corrects, 0: none. refusal: the whole package must be refused for this reason; ANY: for
    whatever the reader says.
    """

    number: int
    system: str
    sender: str
    to: tuple[To, ...]
    size: int
    at_s: float
    document_id: str
    business: Business = Business.NEW
    priority: Priority = Priority.NORMAL
    after: int = 0
    again_s: float = 0.0
    broken: bool = False
    refusal: str = ""

    @property
    def notation(self) -> str:
        """Số/ký hiệu: its own, also for one that corrects another, so that whatever names it names no other."""
        return f"{self.number}/CV-DT"

    # What a package says of itself follows from its number, so that offices know it without being told.

    @property
    def scanned(self) -> bool:
        return self.number % 5 == 0

    @property
    def paper(self) -> str:
        return ("", "0", "1")[self.number % 3]

    @property
    def subject(self) -> str:
        return f"V/v diễn tập gửi, nhận số {self.number}" if self.number % 7 else ""

    @property
    def due_date(self) -> str:
        return "" if self.number % 4 else DUE

    @property
    def good(self) -> tuple[To, ...]:
        return tuple(to for to in self.to if to.organ)

    @property
    def bad(self) -> tuple[To, ...]:
        return tuple(to for to in self.to if not to.organ)

    def content(self, seed: int) -> bytes:
        """The file: the same bytes at each call, and no two packages of one seed alike."""
        room = self.size - HEADER_BYTES
        payload = (SCAN if self.scanned else PDF) + stream(seed, "package", self.number).randbytes(max(24, room * 3 // 4))
        data = write_document(
            DocumentMessage(
                sender=Party(self.sender, f"Bên gửi {self.sender}"),
                recipients=tuple(Party(to.written, f"Bên nhận {to.code}") for to in self.to),
                document_id=self.document_id,
                number=str(self.number),
                notation="CV-DT",
                date=DATE,
                subject=self.subject,
                due_date=self.due_date,
                paper=self.paper,
                timestamp_ms=MADE_MS,
                priority=self.priority,
                business=self.business,
                business_document_id=self.document_id if self.business is Business.UPDATE else "",
                attachments=(File(name=f"vb {self.number}.pdf", content=payload),),
            )
        )
        return data[:-40] if self.broken else data

    def reference(self, document_id: str = "") -> Reference:
        """What a status that speaks of it says: by a docId or DocumentId, or by notation and date alone."""
        return Reference(self.sender, self.notation, DATE, document_id)


ANY = "*"


def status_content(organ: str, about: Reference, code: str, mark: str, at_ms: int) -> bytes:
    """A status package of a receiving organ. mark: makes its bytes unlike those of any other."""
    return write_status(
        StatusMessage(
            sender=Party(organ, f"Cơ quan {organ}"),
            response_for=about,
            status=code,
            timestamp_ms=at_ms,
            description=f"trạng thái {code}",
            staff=mark,
        )
    )


class Addresses:
    """Who receives for whom in a tree on one day: what an office knows before it sends."""

    def __init__(self, tree: Tree, day: date = FIRST_DAY) -> None:
        self.directory: Directory = tree.directory()
        self.day = day
        self.axis = tree.axis_code
        self.systems: list[OfficeSystem] = [system for site in tree.sites for system in site.systems]
        self.owner: dict[str, OfficeSystem] = {str(code): system for system in self.systems for code in system.codes}
        """Organ -> the system that receives for it."""
        self.organs: list[str] = [code for code in self.owner if self._connected(code)]
        self.receiving = frozenset(self.organs)
        self.near: dict[str, list[str]] = {}
        for code in self.organs:
            self.near.setdefault(_level1(code), []).append(code)
        others = [str(entry.code) for entry in self.directory.entries if str(entry.code) not in self.owner and entry.code.path]
        judged = [self.judge(code) for code in dict.fromkeys(others)]
        judged += [self.judge(f"{prefix}.97.97") for prefix in list(self.near)[:3]]
        self.focal: list[To] = [to for to in judged if to.organ]
        """Codes without a system of their own, for which a superior receives."""
        self.bad: list[To] = [to for to in judged if not to.organ]
        self.old_form: dict[str, str] = {
            str(entry.code): entry.old_code
            for entry in self.directory.entries
            if entry.old_code and entry.connection in CONNECTED
        }

    def _connected(self, code: str) -> bool:
        entry = self.directory.entry(OrgId.canonical(code), self.day)
        return entry is not None and entry.connected_on(self.day)

    def judge(self, written: str) -> To:
        """What must happen to a receiver written so. # QĐ 28/2018 Điều 7.1, 8.2, 21.2"""
        code = ""
        try:
            resolved = self.directory.resolve(written)
            code = str(resolved)
            organ = str(self.directory.receiver(resolved, self.day).organ)
        except Refused as refusal:
            return To(written, code or written, "", refusal.reason.value)
        if organ not in self.owner:
            return To(written, code, "", Reason.RECIPIENT_UNKNOWN.value)
        return To(written, code, organ)


def plan(tree: Tree, traffic: Traffic, seed: int, addresses: Addresses | None = None) -> tuple[Package, ...]:
    """All packages of one run, numbered from 1 in the order in which they leave. The tree needs two organs that receive."""
    addresses = addresses or Addresses(tree)
    rng = stream(seed, "traffic")
    senders = [system for system in addresses.systems if any(str(code) in addresses.receiving for code in system.codes)]
    hot = rng.choice(addresses.organs)
    if traffic.one_road:
        senders, hot = _road(addresses, senders, rng)
        traffic = replace(traffic, p_hot=1.0)
    burst_s = 0.0 if any(traffic.express) else rng.uniform(0, max(0.0, traffic.span_s - BURST_S))
    times = [(_time(traffic, burst_s, rng), False) for _ in range(traffic.documents)]
    times += [(at_s, True) for at_s in _express(traffic)]
    packages: list[Package] = []
    elder: dict[str, Package] = {}
    for number, (at_s, express) in enumerate(sorted(times), 1):
        package = _package(addresses, traffic, number, at_s, rng.choice(senders), hot, rng)
        if express:
            package = replace(package, priority=Priority.EXPRESS, size=traffic.express_bytes)
        before = elder.get(package.system)
        if before is not None and not package.broken:
            package = _related(package, before, traffic, rng)
        packages.append(package)
        if not package.refusal and package.business is Business.NEW:
            elder[package.system] = package
    return tuple(packages)


def _road(addresses: Addresses, senders: Sequence[OfficeSystem], rng: random.Random) -> tuple[list[OfficeSystem], str]:
    """One sender, and an organ that another node receives for."""
    sender = rng.choice(senders)
    near = addresses.directory.owner(sender.codes[0])
    return [sender], rng.choice([code for code in addresses.organs if addresses.directory.owner(OrgId.canonical(code)) != near])


def _time(traffic: Traffic, burst_s: float, rng: random.Random) -> float:
    if rng.random() < traffic.p_burst:
        return burst_s + rng.uniform(0, min(BURST_S, traffic.span_s))
    return rng.uniform(0, traffic.span_s)


def _express(traffic: Traffic) -> list[float]:
    """When each hỏa tốc leaves."""
    alone, together = traffic.express
    one_by_one = [BURST_S + (number + 1) * (traffic.span_s / 2 - BURST_S) / (alone + 1) for number in range(alone)]
    return one_by_one + [traffic.span_s / 2] * together


def _package(
    addresses: Addresses, traffic: Traffic, number: int, at_s: float, system: OfficeSystem, hot: str, rng: random.Random
) -> Package:
    sender = rng.choice([str(code) for code in system.codes if str(code) in addresses.receiving])
    codes = [_receiver(addresses, traffic, sender, hot, rng)]
    if rng.random() < traffic.p_several:  # also two of one system, also one its superior receives for
        pool = [*rng.sample(addresses.organs, min(len(addresses.organs), RECEIVERS_MAX)), *(to.code for to in addresses.focal)]
        codes += rng.sample(pool, min(len(pool), rng.randint(1, traffic.receivers_max - 1)))
    to = [_written(addresses, code, traffic, rng) for code in dict.fromkeys(codes) if code != sender]
    chance = rng.random()
    if addresses.bad and chance < traffic.p_bad:
        to.insert(rng.randint(0, len(to)), rng.choice(addresses.bad))
    elif addresses.bad and chance < traffic.p_bad + traffic.p_only_bad:
        to = [rng.choice(addresses.bad)]
    broken = rng.random() < traffic.p_broken
    return Package(
        number,
        system.id,
        sender,
        tuple(to),
        _size(traffic, rng),
        at_s,
        f"{rng.getrandbits(64):016x}-{number}",
        priority=Priority(rng.randint(1, 4)) if rng.random() < traffic.p_urgent else Priority.NORMAL,
        again_s=rng.uniform(1, traffic.again_max_s) if rng.random() < traffic.p_again else 0.0,
        broken=broken,
        refusal=ANY if broken else _refusal(to, system),
    )


def _receiver(addresses: Addresses, traffic: Traffic, sender: str, hot: str, rng: random.Random) -> str:
    """An organ other than the sender: the hot one, one nearby, or any."""
    if hot != sender and rng.random() < traffic.p_hot:
        return hot
    near = addresses.near.get(_level1(sender), [])
    pool = near if rng.random() < traffic.p_near else addresses.organs
    for _ in range(NEAR_TRIES):
        found = rng.choice(pool) if pool else sender
        if found != sender:
            return found
    return next(code for code in addresses.organs if code != sender)


def _written(addresses: Addresses, code: str, traffic: Traffic, rng: random.Random) -> To:
    old = addresses.old_form.get(code, "")
    return addresses.judge(old if old and rng.random() < traffic.p_old_form else code)


def _refusal(to: Sequence[To], system: OfficeSystem) -> str:
    """Why nothing of a package may be taken; "": some of it must be."""
    bad = [each for each in to if not each.organ]
    if len(bad) < len(to):
        return Reason.ALL_OR_NOTHING.value if bad and system.all_or_nothing else ""
    return bad[0].refusal if len(bad) == 1 else Reason.NO_RECIPIENT.value


def _size(traffic: Traffic, rng: random.Random) -> int:
    if rng.random() < traffic.p_large:
        return rng.randint(traffic.large_bytes_min, traffic.large_bytes_max)
    return int(math.exp(rng.uniform(math.log(traffic.bytes_min), math.log(traffic.bytes_max))))


def _related(package: Package, before: Package, traffic: Traffic, rng: random.Random) -> Package:
    """Some correct an earlier package of their system (same receivers, DocumentId and lane), some only bear its DocumentId."""
    chance = rng.random()
    if chance < traffic.p_update:
        same = {"sender": before.sender, "to": before.to, "document_id": before.document_id, "priority": before.priority}
        return replace(package, business=Business.UPDATE, after=before.number, refusal=before.refusal, **same)  # type: ignore[arg-type]
    nobody_writes_to_itself = all(to.code != before.sender for to in package.to)
    if chance < traffic.p_update + traffic.p_same_id and nobody_writes_to_itself:
        return replace(package, sender=before.sender, document_id=before.document_id)
    return package


def _level1(code: str) -> str:
    return str(OrgId.canonical(code).level1)

"""What a campaign sends: every office to every other, and what must become of each package by the directory alone.

Everything follows from the tree's own topology file and a seed. Knows nothing of nodes or of how packages are sent.
"""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node.core.package import Business, Priority
from tests.processes.letters import letter
from tests.processes.tree import System

BYTES_MIN, FILE_BYTES_MIN, BYTES_MAX = 1_000, 132_000, 400_000
"""From the second on a body is no row any more but a file that crosses each link by itself."""
NOT_HERE = "H41.77"
"""Below a prefix of the tree, in no directory."""


@dataclass(frozen=True, slots=True)
class To:
    """One Bên nhận of a package. organ: who must receive it; "" where it must be refused, for this reason."""

    written: str
    code: str
    organ: str
    refusal: str = ""


@dataclass(slots=True)
class Package:
    """One package of the plan and what became of it at the door. at: the share of the storm after which it may leave, 0..1.

    doc_id: what the office was told; ended: it got a final answer (doc_id or refusal). first_s: custody, by the campaign's clock.
    """

    number: int
    system: System
    sender: str
    to: tuple[To, ...]
    size: int
    business: Business
    priority: Priority
    document_id: str
    at: float
    digest: str = ""
    doc_id: str = ""
    refusal: str = ""
    text: str = ""
    tries: int = 0
    ended: bool = False

    @property
    def notation(self) -> str:
        return f"{self.number}/CV-TH"

    @property
    def good(self) -> list[To]:
        return [to for to in self.to if to.organ]

    @property
    def organs(self) -> set[str]:
        return {to.organ for to in self.good}

    def content(self, seed: int) -> bytes:
        """The same bytes at each call; no two packages alike."""
        return letter(
            self.sender,
            *(to.written for to in self.to),
            number=self.number,
            size=self.size,
            document_id=self.document_id,
            priority=self.priority,
            business=self.business,
            seed=seed,
        )


class Directory:
    """Who receives for whom, read from the tree's own topology file: what an office knows before it sends."""

    def __init__(self, topology: Path, systems: Sequence[System]) -> None:
        tree = tomllib.loads(topology.read_text())
        self.axis = tree["axis"]["code"]
        self._organs = {organ["code"]: organ for organ in tree["organs"]}
        self.served = {code: system for system in systems for code in system.codes}
        self.closed = self._with("da-dong")
        self.locked = self._with("tam-khoa")
        waiting = self._with("chua-ket-noi")
        self.focal = [code for code in waiting if self._receiver_for(code)]
        self.unconnected = [code for code in waiting if not self._receiver_for(code)]

    def _with(self, connection: str) -> list[str]:
        return [code for code, organ in self._organs.items() if organ["connection"] == connection]

    def _receiver_for(self, code: str) -> str:
        for superior in sorted(self.served, key=len, reverse=True):
            for prefix in self._organs[superior].get("receives_for", ()):
                if code != superior and (code == prefix or code.startswith(prefix + ".")):
                    return superior
        return ""

    def judge(self, code: str, written: str = "") -> To:
        """What must happen to this code. # QĐ 28/2018 Điều 7.1, 8.2, 21.2"""
        written = written or code
        if code in self.served:
            return To(written, code, code)
        if code in self.focal:
            return To(written, code, self._receiver_for(code))
        for codes, reason in ((self.closed, "closed"), (self.locked, "locked"), (self.unconnected, "not-connected")):
            if code in codes:
                return To(written, code, "", f"recipient-{reason}")
        return To(written, code, "", "recipient-unknown")

    def bad(self, rng: random.Random) -> To:
        return self.judge(rng.choice([*self.closed, *self.locked, *self.unconnected, NOT_HERE]))

    def old_form(self, code: str) -> str:
        """The 13-character form of a code that has one, else the code itself. # QCVN 102:2016"""
        groups = code.split(".")
        widths = [len(group) for group in groups]
        if widths[0] != 3 or any(width != 2 for width in widths[1:]) or len(groups) > 4:
            return code
        return ".".join([*["000", "00", "00"][: 4 - len(groups)], *reversed(groups[1:]), groups[0]])


def plan(directory: Directory, documents: int, rng: random.Random) -> list[Package]:
    """Every office system to every other, round after round, in a shuffled order; and the cases that are not plain."""
    systems = list(dict.fromkeys(directory.served.values()))
    pairs = [(a, b) for a in systems for b in systems if a is not b]
    packages: list[Package] = []
    while len(packages) < documents:
        rng.shuffle(pairs)
        for number, (a, b) in enumerate(pairs[: documents - len(packages)], len(packages) + 1):
            packages.append(_package(directory, number, a, b, rng))
    for package in packages:
        package.at = 0.95 * package.number / documents
    _make_updates(packages, rng)
    return packages


def _package(directory: Directory, number: int, a: System, b: System, rng: random.Random) -> Package:
    code = rng.choice(b.codes)
    to = [directory.judge(code, directory.old_form(code) if rng.random() < 0.15 else "")]
    chance = rng.random()
    if chance < 0.15:  # several Bên nhận, also two of one system, also one its superior receives for
        others = rng.sample([*directory.served, *directory.focal], rng.randint(1, 5))
        to += [directory.judge(other) for other in others if other != code]
    if 0.10 < chance < 0.22:
        to.insert(rng.randint(0, len(to)), directory.bad(rng))
    if 0.22 < chance < 0.26:
        to = [directory.bad(rng)]
    return Package(
        number,
        a,
        rng.choice(a.codes),
        tuple(to),
        _size(rng),
        Business.NEW,
        Priority(rng.choice((0, 0, 0, 0, 0, 0, 1, 2, 3, 4))),
        f"{rng.getrandbits(64):016x}-{number}",
        0.0,
    )


def _size(rng: random.Random) -> int:
    """A third are files; the others of every order of magnitude."""
    if rng.random() < 0.3:
        return rng.randint(FILE_BYTES_MIN, BYTES_MAX)
    return int(math.exp(rng.uniform(math.log(BYTES_MIN), math.log(FILE_BYTES_MIN))))


def _make_updates(packages: list[Package], rng: random.Random) -> None:
    """One in ten corrects an earlier package of the same system: same receivers, DocumentId and lane."""
    earlier: dict[str, Package] = {}
    for package in packages:
        first = earlier.get(package.system.id)
        if first is not None and rng.random() < 0.1:
            package.business = Business.UPDATE
            package.sender, package.to, package.document_id = first.sender, first.to, first.document_id
            package.priority = first.priority
        else:
            earlier[package.system.id] = package

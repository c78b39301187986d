"""A node as offices see one, in a dictionary: enough of the VXP face for offices and judges to be tried without a node.

One desk serves every system of a tree. What goes wrong is said in advance: `lose` (share of answers that never come), `unreached`
(share of calls that never leave), `later` (share of answers that say: not now).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.core.envelope import derived_doc_id
from node.core.errors import Reason, Refused
from node.core.package import Package, Party, Reference
from node.core.words import with_code
from node.documents.draft import ReadLimits
from node.documents.edxml import Reader
from node.documents.edxml_writer import StatusMessage, write_status
from topology.load import load
from topology.sim.door import NoAnswer, NotReached
from topology.sim.ledger import Ledger
from topology.sim.loop import Life, SimLoop
from topology.sim.offices import Habits, SimOffice
from topology.sim.traffic import DATE, MADE_MS, Addresses, Traffic, plan

TREE = load(Path(__file__).parents[3] / "configs" / "demo.toml")
ADDRESSES = Addresses(TREE)
Answer = dict[str, Any]


@dataclass
class Box:
    """One item in one office's mailbox."""

    kind: str
    content: bytes
    to: list[str]
    place: tuple[str, str]
    state: str = "initial"
    early: bool = False
    fetched: bool = False
    fails: int = 0


@dataclass
class Desk:
    """The node. boxes: system -> docId -> item; lines: (system, docId) -> receiver's code -> line of the sent list."""

    seed: int = 1
    lose: float = 0.0
    unreached: float = 0.0
    later: float = 0.0
    fails_max: int = 5
    boxes: dict[str, dict[str, Box]] = field(default_factory=dict)
    lines: dict[tuple[str, str], dict[str, dict[str, str]]] = field(default_factory=dict)
    first: dict[tuple[str, str], Answer] = field(default_factory=dict)
    packages: dict[str, tuple[str, Package]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def fresh(self) -> str:
        self.numbers += 1
        return f"doc-{self.numbers}"

    def answer(self, system: str, operation: str, fields: Mapping[str, str], body: bytes) -> Answer:
        """What the node does and says."""
        self.calls[operation] += 1
        try:
            found: Answer = getattr(self, f"_{operation}")(system, fields, body)
            return found
        except Refused as refused:
            return {"status": "FAIL", "ErrorCode": "10", "ErrorDesc": with_code(refused), "DocId": "", "data": []}

    def _sendEdoc(self, system: str, fields: Mapping[str, str], body: bytes) -> Answer:
        known = self.first.get((system, hashlib.sha256(body).hexdigest()))
        if known is not None:
            return known | {"ErrorDesc": f"Gói tin này đã được gửi trước đó. {known['ErrorDesc']}"}
        reader = Reader(ReadLimits(1 << 24, 1 << 24))
        reader.feed(body)
        package = reader.close()
        taken = self._status(package, body) if package.is_status else self._document(system, package, body)
        self.first[system, hashlib.sha256(body).hexdigest()] = taken
        return taken

    def _document(self, system: str, package: Package, body: bytes) -> Answer:
        judged = [ADDRESSES.judge(party.code) for party in package.recipients]
        bad = [to for to in judged if not to.organ]
        if len(bad) == len(judged):
            reason = Reason(bad[0].refusal) if len(bad) == 1 else Reason.NO_RECIPIENT
            raise Refused(reason, "To/OrganId", bad[0].written)
        doc_id = self.fresh()
        self.packages[doc_id] = (system, package)
        lines = self.lines[system, doc_id] = {}
        owners: dict[str, str] = {}
        for to in judged:
            line = {"senderDocId": doc_id, "toCode": to.code, "notation": package.number_notation, "receiveStatus": ""}
            lines[to.code] = line | {"sendStatus": "refused" if to in bad else "in-mailbox", "sendStatusDesc": f"[{to.refusal}]"}
            if to in bad:
                self.put_back(system, package, to.written)
                continue
            owner = ADDRESSES.owner[to.organ].id
            own = doc_id if owners.setdefault(owner, to.organ) == to.organ else derived_doc_id(doc_id, to.organ)
            box = self.boxes.setdefault(owner, {}).setdefault(own, Box("edoc", body, [], (system, doc_id)))
            box.to.append(to.code)
        return _ok([], doc_id, "; ".join(f"{to.written}: [{to.refusal}]" for to in bad))

    def put_back(self, system: str, package: Package, whom: str) -> None:
        """A 02 of the axis."""
        about = Reference(package.sender.code, package.number_notation, DATE, package.document_id)
        axis = Party(TREE.axis_code, TREE.axis_name)
        text = f"[Trục] Bên nhận {whom}: Không chuyển được."
        content = write_status(
            StatusMessage(
                sender=axis, response_for=about, status="02", timestamp_ms=MADE_MS, description=text, staff=self.fresh()
            )
        )
        self.boxes.setdefault(system, {})[self.fresh()] = Box("status", content, [package.sender.code], ("", ""))

    def _status(self, package: Package, body: bytes) -> Answer:
        about = package.response_for[0]
        names = {about.document_id, about.code}
        for doc_id, (system, document) in self.packages.items():
            organs = [to.organ for to in map(ADDRESSES.judge, (party.code for party in document.recipients))]
            ids = {doc_id, document.document_id, document.number_notation, *(derived_doc_id(doc_id, organ) for organ in organs)}
            if names & ids and (about.document_id or about.code == document.number_notation):
                own = self.fresh()
                self.boxes.setdefault(system, {})[own] = Box("status", body, [document.sender.code], ("", ""))
                for to in map(ADDRESSES.judge, (party.code for party in document.recipients)):
                    if to.organ == package.sender.code:
                        self.lines[system, doc_id][to.code]["receiveStatus"] = package.status
                return _ok([], own)
        raise Refused(Reason.STATUS_TARGET_UNKNOWN, "ResponseFor")

    def _getReceivedEdocList(self, system: str, fields: Mapping[str, str], body: bytes) -> Answer:
        items = self.boxes.get(system, {}).items()
        listed = [
            (doc_id, box) for doc_id, box in items if box.kind == fields["messagetype"] and box.state in ("initial", "fail")
        ]
        return _ok([{"docId": doc_id, "to": ";".join(box.to)} for doc_id, box in listed])

    def _getEdoc(self, system: str, fields: Mapping[str, str], body: bytes) -> Answer:
        box = self._box(system, fields)
        box.fetched = True
        if box.early:
            self._collect(box)
        return _ok(base64.b64encode(box.content).decode())

    def _updateStatus(self, system: str, fields: Mapping[str, str], body: bytes) -> Answer:
        box = self._box(system, fields)
        if fields["status"] == "fail" and box.state != "done":
            box.fails += 1
            box.state = "held" if box.fails >= self.fails_max else "fail"
        elif fields["status"] == "done" and not box.fetched:
            box.early = True
        elif fields["status"] == "done":
            self._collect(box)
        return _ok([])

    def _collect(self, box: Box) -> None:
        box.state = "done"
        for code in box.to if box.kind == "edoc" else ():
            self.lines[box.place][code]["sendStatus"] = "collected"

    def _box(self, system: str, fields: Mapping[str, str]) -> Box:
        box = self.boxes.get(system, {}).get(fields["docId"])
        if box is None:
            raise Refused(Reason.DOC_UNKNOWN, "docId", fields["docId"])
        return box

    def _getSentEdocList(self, system: str, fields: Mapping[str, str], body: bytes) -> Answer:
        mine = [(doc_id, lines) for (owner, doc_id), lines in self.lines.items() if owner == system]
        wanted = fields.get("docId")
        return _ok([dict(line) for doc_id, lines in mine if wanted in (None, doc_id) for line in lines.values()])


def _ok(data: Any, doc_id: str = "", text: str = "") -> Answer:
    return {"status": "OK", "ErrorCode": "0", "ErrorDesc": text, "DocId": doc_id, "data": data}


class DeskCalls:
    """One system's line to the desk (`Calls`)."""

    def __init__(self, desk: Desk, system: str) -> None:
        self.desk = desk
        self.system = system

    async def call(
        self, operation: str, fields: Mapping[str, str], body: bytes = b"{}", content_type: str = "application/json"
    ) -> Answer:
        desk, rng = self.desk, self.desk.rng
        await asyncio.sleep(rng.uniform(0.001, 0.05))
        if rng.random() < desk.unreached:
            raise NotReached
        if rng.random() < desk.later:
            return {
                "status": "FAIL",
                "ErrorCode": "22",
                "ErrorDesc": "Chưa nhận được lúc này [disk-full]",
                "DocId": "",
                "data": [],
            }
        answer = desk.answer(self.system, operation, fields, body)
        await asyncio.sleep(rng.uniform(0.001, 0.05))
        if rng.random() < desk.lose:
            raise NoAnswer
        return answer


async def until_idle(offices: list[SimOffice], desk: Desk, within_s: float = 86_400.0) -> None:
    """Wait, in virtual time, until no office has anything left to do and nothing lies ready for one."""
    systems = {office.id for office in offices}

    def waiting() -> bool:
        mine = [box for system, boxes in desk.boxes.items() if system in systems for box in boxes.values()]
        return any(box.state in ("initial", "fail") for box in mine)

    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while waiting() or not all(office.idle for office in offices):
        assert loop.time() < deadline, [office.id for office in offices if not office.idle]
        await asyncio.sleep(5.0)


def rehearse(
    traffic: Traffic, habits: Habits, seed: int = 1, desk: Desk | None = None, kills: int = 0
) -> tuple[Ledger, Desk, list[SimOffice]]:
    """All offices of the demo tree against one desk, to the end. kills: how often an office's life ends in mid-work."""
    desk = desk or Desk(seed)
    ledger = Ledger(plan(TREE, traffic, seed, ADDRESSES), TREE.axis_code)
    loop = SimLoop()
    calls = {system.id: DeskCalls(desk, system.id) for system in ADDRESSES.systems}
    offices = [SimOffice(each, calls[each.id], ledger, habits, seed, lambda: MADE_MS) for each in ADDRESSES.systems]

    async def course() -> None:
        lives = {office.id: Life(loop, office.id) for office in offices}
        for office in offices:
            lives[office.id].start(office.run(), name=office.id)
        for _ in range(kills):
            await asyncio.sleep(traffic.span_s / kills)
            struck = desk.rng.choice(offices)
            lives[struck.id].end()
            lives[struck.id] = Life(loop, struck.id)
            lives[struck.id].start(struck.run(), name=struck.id)
        await asyncio.sleep(traffic.span_s)
        for office in offices:
            office.hurry()
        await until_idle(offices, desk)
        for office in offices:
            await office.read_sent()
        for life in lives.values():
            life.end()

    loop.run_until_complete(course())
    problems = list(loop.problems)
    loop.close()
    assert not problems, problems
    return ledger, desk, offices

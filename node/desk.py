"""The operator's desk: how the node is, what waits, what is held, and the acts of a person on it.

Knows `core`, the ports, `origin` and the forwarder's view of the neighbours. Every act is a row of the journal with who and why.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.auditor import Auditor
from node.core import words
from node.core.audit import Broken, Place, read_act
from node.core.custody import Cursor, End, Listing
from node.core.directory import Directory
from node.core.envelope import decode_header
from node.core.errors import Reason
from node.core.health import Check
from node.core.identifier import OrgId
from node.core.instant import day, iso
from node.core.lifecycle import Transport
from node.core.office import System
from node.core.report_document import Document
from node.core.skew import Skew
from node.core.standing import ALARM_DAYS, Standing, alarm_days
from node.core.tally import Labels, Tally
from node.core.timekeeping import Alarm
from node.core.working_time import Calendar
from node.forwarder import Forwarder
from node.origin import Origin
from node.ports import Bodies, KeptClock, Store
from node.proving import Proving
from node.reports import Reports

TRACE_MAX = 5000
OLD_S = 3600.0
SILENT_MS = 120_000
DAY_MS = 86_400_000
EXPIRY_WARN_MS = ALARM_DAYS[0] * DAY_MS


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, for the status. expiry_ms: end of validity by what ends, as it is now: certificates are renewed."""

    name: str
    code: OrgId
    tier: str
    version: str
    parent_url: str
    started_ms: int
    expiry_ms: Mapping[str, int]


class Desk:
    """systems_problem: why the file of systems on disk is not in use, "" when it is. standing: of keys and revocation lists."""

    def __init__(
        self,
        identity: Identity,
        store: Store,
        bodies: Bodies,
        clock: KeptClock,
        origin: Origin,
        forwarder: Forwarder,
        tally: Tally,
        directory: Callable[[], Directory],
        parent: OrgId | None,
        systems_problem: Callable[[], str],
        store_bytes: Callable[[], int],
        proving: Proving,
        auditor: Auditor,
        skews: Callable[[], Mapping[str, Skew]],
        calendar: Callable[[], Calendar],
        reports: Reports,
        standing: Callable[[], Standing] = Standing,
    ) -> None:
        self._identity = identity
        self._store = store
        self._bodies = bodies
        self._clock = clock
        self._origin = origin
        self._forwarder = forwarder
        self._tally = tally
        self._directory = directory
        self._parent = parent
        self._systems_problem = systems_problem
        self._store_bytes = store_bytes
        self._proving = proving
        self._auditor = auditor
        self._skews = skews
        self._calendar = calendar
        self._standing = standing
        self._reports = reports
        self.stopping = False
        self.registered: Callable[[], Mapping[str, Any]] = lambda: {}
        """How the directory is (`node/registrar.py: Registrar.state`)."""
        self.office_systems: Callable[[], Sequence[System]] = tuple

    # how it is

    async def status(self) -> dict[str, Any]:
        identity = self._identity
        depths = await self._store.depths()
        problems = self._problems(depths)
        critical = any(
            problem["code"] in ("disk-low", "certificate-expired", "certificate-revoked", "digest-conflict", "journal-broken")
            for problem in problems
        )
        return {
            "node": identity.name,
            "code": str(identity.code),
            "tier": identity.tier,
            "version": identity.version,
            "epoch": self._store.epoch,
            "started_ms": identity.started_ms,
            "health": "critical" if critical else "warning" if problems else "ok",
            "parent": self._parent_state(),
            "children": self._children(),
            "outbox": {
                "depth": sum(row["depth"] for row in depths["outbox"]),
                "oldest_age_s": max((row["oldest_s"] for row in depths["outbox"]), default=0.0),
            },
            "mailbox": {"depth": depths["mailbox"]},
            "held": depths["held"],
            "clock": self._clock_state(),
            "calendar": {"years": list(self._calendar().years)},
            "directory": dict(self.registered()),
            "problems": problems,
        }

    def _clock_state(self) -> dict[str, Any]:
        """Seconds; offset: the host's clock less the node's time."""
        found = self._clock.reading()
        return {
            "state": found.state.value,
            "since_ms": found.since_ms,
            "synchronised": found.synchronised,
            "offset_s": found.offset_ns / 1e9,
            "bound_s": found.bound_ns / 1e9,
            "delay_s": found.delay_ns / 1e9,
            "stratum": found.stratum,
            "alarms": [alarm.value for alarm, _ in found.alarms],
        }

    def _parent_state(self) -> dict[str, Any] | None:
        if self._parent is None:
            return None
        link = self._forwarder.neighbours[self._parent]
        return {
            "code": str(self._parent),
            "url": self._identity.parent_url,
            "up": link.up,
            "since_ms": link.since_ms or self._identity.started_ms,
        }

    def _children(self) -> list[dict[str, Any]]:
        today = day(self._clock.utc_ms())
        directory = self._directory()
        return [
            {
                "code": str(code),
                "name": getattr(directory.node(code), "name", "") or directory.name(code, today),
                "up": self._child_up(code),
                "last_seen_ms": link.last_seen_ms,
            }
            for code, link in self._forwarder.neighbours.items()
            if code != self._parent
        ]

    def _child_up(self, code: OrgId) -> bool:
        seen_ms = self._forwarder.neighbours[code].last_seen_ms
        return bool(seen_ms) and self._clock.utc_ms() - seen_ms < SILENT_MS

    def _problems(self, depths: Mapping[str, Any]) -> list[dict[str, str]]:
        """What a person should look at, each with the command that helps."""
        found: list[tuple[str, str]] = []
        free = self._bodies.free_ratio()
        now_ms = self._clock.utc_ms()
        if self._parent is not None and not self._forwarder.neighbours[self._parent].up:
            found.append(("parent-down", "truc queue list"))
        if any(row["oldest_s"] > OLD_S for row in depths["outbox"]):
            found.append(("outbox-old", "truc queue list"))
        if depths["held"]:
            found.append(("held-items", "truc held list"))
        if depths["unmatched"]:
            found.append(("unmatched-statuses", "truc trace"))
        if self._tally.value("truc_digest_conflicts_total"):
            found.append(("digest-conflict", "truc trace"))
        if free < 0.10:
            found.append(("disk-low", "df -h"))
        if self._auditor.broken is not None:
            found.append(("journal-broken", "truc audit verify"))
        if any(skew.off for skew in self._skews().values()):
            found.append(("office-clock", "truc system list"))
        if self._calendar().missing(day(now_ms)):
            found.append(("calendar-missing", "truc config check"))
        if self._systems_problem():
            found.append(("systems-broken", "truc system list"))
        if any(_ends_soon(system, now_ms) for system in self.office_systems()):
            found.append(("system-certificate", "truc system list"))
        standing, ending = self._standing(), self._ending(now_ms)
        if standing.revoked:
            found.append(("certificate-revoked", "truc config show"))
        if standing.old:
            found.append(("lists-old", "truc queue list"))
        found += [
            (code, "truc directory list --aside" if code == "directory-aside" else "truc status")
            for code in _directory_problems(self.registered())
        ]
        if any(end < now_ms for end in self._identity.expiry_ms.values()):
            found.append(("certificate-expired", "truc ca rotate node"))
        elif ending:
            found.append(("certificate-expiring", "truc ca rotate node"))
        told = [{"code": code, "text": words.label("problem", code), "command": command} for code, command in found]
        for problem in told:
            if problem["code"].startswith("certificate-exp"):
                problem["text"] += f" ({ending})"
        return told + [
            {"code": alarm.value, "text": _figured(alarm, value), "command": "truc status"}
            for alarm, value in self._clock.reading().alarms
        ]

    def _ending(self, now_ms: int) -> str:
        """Certificates in an alarm, each with the days it has left: "link 29"."""
        ends = self._identity.expiry_ms.items()
        return ", ".join(f"{what} {(end - now_ms) // DAY_MS}" for what, end in ends if alarm_days(end, now_ms) is not None)

    async def checks(self) -> Sequence[Check]:
        """What /readyz shows. A lost parent is a warning: we store and forward."""
        depths = await self._store.depths()  # answers only if the database does
        lines = [Check("database", "+", "")]
        free = self._bodies.free_ratio()
        lines.append(Check("disk", "-" if free < 0.01 else "!" if free < 0.10 else "+", f"{free:.0%}"))
        parent = self._parent_state()
        if parent is not None:
            lines.append(Check("parent", "+" if parent["up"] else "!", "" if parent["up"] else iso(parent["since_ms"])))
        lines.append(Check("held", "!" if depths["held"] else "+", str(depths["held"]) if depths["held"] else ""))
        problem = self._systems_problem()
        lines.append(Check("systems", "!" if problem else "+", problem[:200]))
        year = self._calendar().missing(day(self._clock.utc_ms()))  # nor for the calendar
        lines.append(Check("calendar", "!" if year else "+", str(year) if year else ""))
        ending, standing = self._ending(self._clock.utc_ms()), self._standing()
        lines.append(Check("certificate", "!" if ending or standing.revoked else "+", ending))
        lines.append(Check("lists", "!" if standing.old else "+", ""))
        wrong = _directory_problems(self.registered())  # documents are routed by it all the same
        lines.append(Check("directory", "!" if wrong else "+", "; ".join(words.label("problem", code) for code in wrong)))
        broken = self._auditor.broken  # nor for the journal's past
        lines.append(Check("journal", "!" if broken else "+", str(broken.seq) if broken else ""))
        alarms = self._clock.reading().alarms  # documents never wait for the clock
        lines.append(Check("clock", "!" if alarms else "+", "; ".join(_figured(*each) for each in alarms)))
        if self.stopping:
            lines.append(Check("stopping", "-", ""))
        return lines

    async def systems(self) -> list[dict[str, Any]]:
        """What was measured lately of the clocks of office systems. # QĐ 28/2018 Điều 14.4"""
        return [
            {"id": system, "clock_ahead_s": skew.ahead_ms / 1000, "clock_seen_ms": skew.seen_ms, "samples": skew.samples}
            for system, skew in self._skews().items()
        ]

    async def report(self, kind: str, period: str, rule: str, organ: str) -> Document:
        """# QĐ 28/2018 Điều 11"""
        return await self._reports.document(kind, period, rule, organ)

    async def gauges(self) -> Mapping[str, Mapping[Labels, float]]:
        depths = await self._store.depths()
        identity, time = self._identity, self._clock.reading()
        outbox: dict[Labels, float] = {}
        oldest: dict[Labels, float] = {}
        for row in depths["outbox"]:
            neighbour = row["neighbour"] or "hub"
            outbox[(("neighbour", neighbour), ("lane", row["lane"]))] = row["depth"]
            key: Labels = (("neighbour", neighbour),)
            oldest[key] = max(oldest.get(key, 0.0), row["oldest_s"])
        plain = {
            "truc_mailbox_depth": float(depths["mailbox"]),
            "truc_held_items": float(depths["held"]),
            "truc_statements_waiting": float(await self._store.numbers.waiting_up()),
            "truc_store_bytes": float(self._store_bytes() + depths["file_bytes"]),
            "truc_disk_free_ratio": self._bodies.free_ratio(),
            "truc_journal_intact": float(self._auditor.broken is None),
            "truc_clock_offset_seconds": time.offset_ns / 1e9,
            "truc_clock_bound_seconds": time.bound_ns / 1e9,
            "truc_clock_stratum": float(time.stratum),
            "truc_clock_synchronised": float(time.synchronised),
            "truc_office_clock_skew_seconds": max((abs(skew.ahead_ms) / 1000 for skew in self._skews().values()), default=0.0),
            "truc_calendar_missing": float(self._calendar().missing(day(self._clock.utc_ms())) is not None),
            "truc_directory_version": float(self._directory().version),
            "truc_directory_age_seconds": float(self.registered().get("age_s", 0.0)),
            "truc_directory_aside": float(self.registered().get("aside", 0)),
        }
        standing = self._standing()
        if standing.age_s is not None and standing.left_s is not None:
            plain |= {"truc_crl_age_seconds": standing.age_s, "truc_crl_seconds_left": standing.left_s}
        if self._parent is not None:
            plain["truc_parent_up"] = float(self._forwarder.neighbours[self._parent].up)
        found: dict[str, Mapping[Labels, float]] = {name: {(): value} for name, value in plain.items()}
        found["truc_build_info"] = {(("version", identity.version), ("tier", identity.tier or "-")): 1.0}
        found["truc_outbox_depth"] = outbox
        found["truc_outbox_oldest_age_seconds"] = oldest
        children = [code for code in self._forwarder.neighbours if code != self._parent]
        found["truc_child_up"] = {(("neighbour", str(code)),): float(self._child_up(code)) for code in children}
        found["truc_certificate_expiry_timestamp_seconds"] = {
            (("listener", listener),): end / 1000 for listener, end in identity.expiry_ms.items()
        }
        return found

    # what waits

    async def queue(self, neighbour: str | None, state: str | None, after: Cursor, limit: int) -> Listing:
        return await self._store.queue(neighbour, state, after, limit)

    async def queue_item(self, item: int) -> dict[str, Any] | None:
        return await self._store.queue_item(item)

    async def queue_act(self, action: str, items: Sequence[int], neighbour: str | None, who: str, why: str) -> int:
        return await self._store.act_queue(action, items, neighbour, who, why)

    async def trace(self, key: str) -> list[dict[str, Any]]:
        return await self._store.trace(key, TRACE_MAX)

    async def evidence(self, key: str, to: Sequence[str]) -> dict[str, Any]:
        found = await self._proving.collect(key, [self._directory().resolve(code) for code in to])
        return {
            "bundle": base64.b64encode(found.bundle).decode("ascii"),
            "many": list(found.many),
            "open": [{"recipient": str(each.recipient), "state": each.state.value} for each in found.open],
            "silent": [str(code) for code in found.silent],
            "flaw": None
            if found.flaw is None
            else {"flaw": found.flaw.flaw.value, "part": found.flaw.part, "detail": found.flaw.detail},
        }

    # what persons did, and whether the journal stands

    async def audit(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        return await self._store.acts(before, limit)

    async def act(self, done: Mapping[str, Any]) -> None:
        await self._store.take_in([read_act(done)])

    async def audit_walk(self, seq: int, hexed: str, limit: int) -> dict[str, Any]:
        here, broken, done = await self._auditor.check(Place(seq, bytes.fromhex(hexed)) if seq else Place(), limit)
        return {"at": {"seq": here.seq, "hash": here.hash.hex()}, "done": done, "broken": _broken(broken)}

    async def audit_heads(self) -> dict[str, Any]:
        own, above, broken = await self._auditor.compare()
        return {"heads": own, "above": above, "broken": _broken(broken)}

    # what is held

    async def held(self, after: Cursor, limit: int) -> Listing:
        rows, rest = await self._store.held(after, limit)
        shown = [
            {**row, "text": _asked(row["text"]) if row["item"].startswith("agency-") else _short(row["reason"])} for row in rows
        ]
        return shown, rest

    async def held_act(self, action: str, items: Sequence[str], who: str, why: str) -> int:
        """Release or drop held items; unknown ones change nothing. A dropped document ends with a notice home."""
        changed = 0
        for item in items:
            place, _, number = item.partition("-")
            if number.isascii() and number.isdecimal():
                changed += await self._held_one(action, place, int(number), who, why)
        return changed

    async def _held_one(self, action: str, place: str, item: int, who: str, why: str) -> bool:
        match place, action:
            case "out", "release":
                return await self._store.act_queue("release", [item], None, who, why) > 0
            case "box", "release":
                return await self._store.release_box(item, who, why)
            case "agency", "release":
                return await self._store.decide_agency(item, "released", who, why)
            case "agency", "drop":
                return await self._store.decide_agency(item, "dropped", who, why)
            case "out", "drop":
                out = await self._store.held_out(item)
                return out is not None and await self._drop(place, item, out[0], [out[1]], who, why)
            case "box", "drop":
                box = await self._store.held_box(item)
                return box is not None and await self._drop(place, item, box[0], list(box[1]), who, why)
        return False

    async def _drop(self, place: str, item: int, header_bytes: bytes, codes: Sequence[str], who: str, why: str) -> bool:
        header = decode_header(header_bytes)
        end = End(Transport.REFUSED, self._clock.utc_ms(), Reason.DROPPED_BY_OPERATOR, why)
        home = await self._origin.homeward(header, [OrgId.canonical(code) for code in codes], end)
        drop = self._store.drop_out if place == "out" else self._store.drop_box
        await drop(item, home, who, why)
        still = await (self._store.held_out(item) if place == "out" else self._store.held_box(item))
        if still is not None:
            return False  # in doubt: the neighbour may have it, and has to answer first (decision 6)
        self._tally.add("truc_drops_total", reason=Reason.DROPPED_BY_OPERATOR.value)
        self._tally.add("truc_deliveries_total", result=Transport.REFUSED.value)
        return True


def _broken(broken: Broken | None) -> dict[str, Any] | None:
    return None if broken is None else {"seq": broken.seq, "fault": broken.fault.value}


def _figured(alarm: Alarm, value: int) -> str:
    text = words.label("problem", alarm.value)
    if not value:
        return text
    return f"{text} ({value:+d} ppm)" if alarm is Alarm.DRIFT else f"{text} ({value / 1e9:+.3f} s)"


def _directory_problems(state: Mapping[str, Any]) -> list[str]:
    found = {
        "directory-stale": state.get("stale"),
        "directory-forked": state.get("forked"),
        "directory-aside": state.get("aside"),
    }
    return [code for code, wrong in found.items() if wrong]


def _ends_soon(system: System, now_ms: int) -> bool:
    ends_ms = None if system.disabled else system.certificates_end_ms()
    return ends_ms is not None and alarm_days(ends_ms, now_ms) is not None


def _asked(fields: str) -> str:
    """The fields of a request about an organ, as one line."""
    return ", ".join(f"{name}: {value}" for name, value in json.loads(fields).items() if value)


def _short(reason: str) -> str:
    if reason in set(Reason):
        return words.label("reason", reason)
    key, _, why = reason.partition(": ")
    return f"{words.label('hold', key)}: {why}" if why else words.label("hold", key)

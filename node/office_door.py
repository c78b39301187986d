"""What office faces are handed: intake, mailbox and directory as one thing, and the node's time as office systems are told it.

Knows `core`, the Clock port and the duties behind the door; nothing of how a caller asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node.core.directory import Entry
from node.core.identifier import OrgId
from node.core.office import NodeTime, System
from node.core.skew import Skew, Skews
from node.intake import Intake
from node.mailbox import Mailbox
from node.ports import KeptClock
from node.reports import Reports
from node.surroundings import Surroundings, Systems

NS_MS = 1_000_000


class OfficeTime:
    """The time, and what the systems' own instants show of their clocks. # QĐ 28/2018 Điều 14.4"""

    def __init__(self, clock: KeptClock) -> None:
        self._clock = clock
        self._skews = Skews()

    def time(self) -> NodeTime:
        found = self._clock.reading()
        bound_ms = -(-found.bound_ns // NS_MS) + 1  # the time is cut to whole ms
        return NodeTime(self._clock.utc_ms(), bound_ms, found.state.value, found.synchronised, found.stratum)

    def told_time(self, system: System, claimed_ms: int) -> None:
        self._skews.note(system.id, claimed_ms, self._clock.utc_ms(), fresh=True)

    def ahead(self, system_id: str, claimed_ms: int) -> None:
        """The system has named an instant, of which it is not known when it was taken."""
        self._skews.note(system_id, claimed_ms, self._clock.utc_ms(), fresh=False)

    def skews(self) -> dict[str, Skew]:
        """By system id; those that were measured lately."""
        return self._skews.every(self._clock.utc_ms())


class OfficeDoor:
    """One door for every face."""

    def __init__(
        self,
        registry: Systems,
        intake: Intake,
        mailbox: Mailbox,
        surroundings: Surroundings,
        timing: OfficeTime,
        reports: Reports,
    ) -> None:
        self._registry = registry
        self._surroundings = surroundings
        self.waiting = mailbox.waiting
        self.count = mailbox.count
        self.sent = mailbox.sent
        self.owns_sent = mailbox.owns_sent
        self.open_deliveries = mailbox.open_deliveries
        self.fetch = mailbox.fetch
        self.settle = mailbox.settle
        self.page = mailbox.page
        self.settle_many = mailbox.settle_many
        self.request_agency = mailbox.request_agency
        self.submit = intake.submit
        self.submit_many = intake.submit_many
        self.time = timing.time
        self.told_time = timing.told_time
        self.statistics = reports.figures

    def system(self, system_id: str) -> System | None:
        return self._registry.get(system_id)

    def said(self) -> Mapping[OrgId, int]:
        return self._surroundings.said

    async def agencies(self) -> Sequence[Entry]:
        return self._surroundings.directory.entries

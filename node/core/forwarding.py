"""The decisions of the road: which rows go into the next batch, what a verdict means, how long to wait after a failure.

Pure: told the time and given randomness. Knows `custody`, `envelope`, `wire`; nothing of the store or of HTTP.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from node.core.custody import ROW_BYTES, Candidate, Offered, Settled, Settlement, Window
from node.core.envelope import KIND_NOTICE, KIND_STATUS, Lane
from node.core.errors import Deferred, Reason
from node.core.evidence import Receipt
from node.core.identifier import OrgId
from node.core.wire import EnvelopeVerdicts, Outcome, Verdict

BODY_WAIT_MS = 30_000
"""A row that waits for its body to cross is offered again after this even if nobody told us that the body is there."""


def in_turn(rows: Sequence[Candidate], after: str = "") -> list[Candidate]:
    """Rows of one lane, senders taking turns in the order of their codes, each sender's own rows in order. after: whose turn was
    last."""
    queues: dict[str, deque[Candidate]] = {}
    for row in rows:
        queues.setdefault(row.sender, deque()).append(row)
    ring = deque(queues[sender] for sender in sorted(queues, key=lambda each: (each <= after, each)))
    result: list[Candidate] = []
    while ring:
        queue = ring.popleft()
        result.append(queue.popleft())
        if queue:
            ring.append(queue)
    return result


def _pieces(rows: Sequence[Candidate]) -> list[list[Candidate]]:
    """All rows of an envelope together, where its first stands: its header crosses a link once (decision 7)."""
    pieces: dict[int, list[Candidate]] = {}
    for row in rows:
        pieces.setdefault(row.envelope, []).append(row)
    return list(pieces.values())


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is on one link, kept between batches: virtual time, the virtual finish of each lane's last row, and whose
    row that was."""

    virtual: float = 0.0
    finish: Mapping[Lane, float] = field(default_factory=dict)
    sender: Mapping[Lane, str] = field(default_factory=dict)


def cut_batch(
    lanes: Mapping[Lane, Sequence[Candidate]],
    weights: Mapping[Lane, int],
    turn: Turn,
    *,
    bytes_max: int,
    rows_max: int,
    envelopes_max: int,
    slow: bool = False,
    beside: Lane | None = None,
) -> tuple[list[Candidate], Turn]:
    """Cut the next batch and say whose turn is next: lanes share a full link by weight, none is shut out, and a row that
    arrives in an idle lane goes next.

    Start-time fair queueing: a row starts at the later of virtual time and its lane's last finish, and costs its bytes divided
    by the lane's weight; the earliest start goes first. Within a lane the senders take turns. The first row always fits, so a
    large one waits for one batch at most. The result is ordered by lane: the urgent stand first. # QĐ 28/2018 Điều 6.2

    slow: on this link a batch takes its time, so the urgent wait for their verdicts with nothing less urgent behind them.
    beside: the lane of a body that is crossing; other lanes go on only as their weights allow beside it. That may be nothing yet.
    """
    queues = {lane: deque(_pieces(in_turn(rows, turn.sender.get(lane, "")))) for lane, rows in lanes.items() if rows}
    finish = dict(turn.finish)
    sender = dict(turn.sender)
    virtual = turn.virtual
    chosen: list[Candidate] = []
    most_urgent = Lane.NORMAL
    envelopes = 0
    total = 0

    def start(lane: Lane) -> float:
        return max(virtual, finish.get(lane, 0.0))

    while queues and len(chosen) < rows_max:
        lane = min(queues, key=lambda each: (start(each), each))
        if beside is not None and lane is not beside and start(lane) > start(beside):
            break  # it is the body's turn
        if slow and chosen and lane > most_urgent:
            del queues[lane]
            continue
        piece = queues[lane][0]
        cost = piece[0].bytes + ROW_BYTES * (len(piece) - 1)
        if chosen and (total + cost > bytes_max or len(chosen) + len(piece) > rows_max or envelopes >= envelopes_max):
            del queues[lane]
            continue
        queues[lane].popleft()
        if not queues[lane]:
            del queues[lane]
        virtual = start(lane)
        finish[lane] = virtual + cost / weights[lane]
        sender[lane] = piece[0].sender
        chosen += piece
        most_urgent = min(most_urgent, lane)
        envelopes += 1
        total += cost
    return sorted(chosen, key=lambda row: row.lane), Turn(virtual, finish, sender)


def charge(turn: Turn, lane: Lane, size: int, weights: Mapping[Lane, int]) -> Turn:
    """Whose turn it is after so many bytes of a body in that lane have crossed by themselves."""
    start = max(turn.virtual, turn.finish.get(lane, 0.0))
    return Turn(start, {**turn.finish, lane: start + size / weights[lane]}, turn.sender)


def next_lane(lanes: Collection[Lane], turn: Turn) -> Lane:
    """Of the lanes that have a body to cross, the one whose turn it is. ValueError: there is none."""
    return min(lanes, key=lambda lane: (max(turn.virtual, turn.finish.get(lane, 0.0)), lane))


@dataclass(frozen=True, slots=True)
class Ask:
    """What one neighbour could be offered next is asked for with this. bytes_max, rows_max, envelopes_max: of a batch; weights of
    the lanes; turn, looked: as the last offer left them; chains: digests of the certificate chains it has; slow, beside: as for
    `cut_batch`."""

    bytes_max: int
    rows_max: int
    envelopes_max: int
    weights: Mapping[Lane, int]
    turn: Turn
    looked: Mapping[Lane, str]
    chains: Collection[str]
    slow: bool = False
    beside: Lane | None = None

    def cut(self, window: Window) -> tuple[list[Candidate], Turn]:
        return cut_batch(
            window.lanes,
            self.weights,
            self.turn,
            bytes_max=self.bytes_max,
            rows_max=self.rows_max,
            envelopes_max=self.envelopes_max,
            slow=self.slow,
            beside=self.beside,
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """What is being offered now, marked as such durably (decision 6): the rows, small bodies and certificate chains that the
    neighbour does not have, and whose turn it is next. aside: so many rows could not be read and are held for a person."""

    rows: Sequence[Offered]
    bodies: Mapping[str, bytes]
    chains: Mapping[str, bytes]
    turn: Turn
    looked: Mapping[Lane, str]
    aside: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """Waits, in ms: after `later` at least min_ms doubling to max_ms; attempts_max offers that the neighbour chokes on."""

    min_ms: int
    max_ms: int
    attempts_max: int

    def wait_ms(self, attempts: int, rng: random.Random) -> int:
        """Full jitter over a doubling cap. A wait longer than the cap means the cap (decision 11)."""
        cap = min(self.max_ms, self.min_ms * (1 << min(attempts, 20)))
        return rng.randint(self.min_ms, max(self.min_ms, cap))


def settle(
    offered: Sequence[Offered],
    verdicts: Sequence[EnvelopeVerdicts],
    *,
    now_ms: int,
    patience: Patience,
    rng: random.Random,
    receipt: Receipt | None = None,
) -> list[Settlement]:
    """Match the neighbour's verdicts to what was offered. A row nobody spoke of stays in doubt and is offered again. receipt: for
    all that was taken."""
    spoken: dict[tuple[OrgId, str, OrgId], Verdict] = {}
    for entry in verdicts:
        for code, verdict in entry.verdicts.items():
            spoken[entry.origin, entry.id, code] = verdict
    waits: dict[tuple[OrgId, str], int] = {}
    found = []
    for row in offered:
        said = spoken.get((row.origin, row.id, row.recipient))
        drawn_ms = 0
        if said is not None and said.outcome is Outcome.LATER:
            # One draw for all rows of an envelope, so that they go on together (decision 7).
            drawn_ms = waits.get((row.origin, row.id)) or patience.wait_ms(row.attempts, rng)
            waits[row.origin, row.id] = drawn_ms
        found.append(_one(row, said, now_ms, patience, drawn_ms, receipt))
    return found


def _one(
    row: Offered, verdict: Verdict | None, now_ms: int, patience: Patience, drawn_ms: int, receipt: Receipt | None
) -> Settlement:
    if verdict is None:
        return Settlement(row.item, Settled.IN_DOUBT, now_ms, Reason.NOT_NOW)
    match verdict.outcome:
        case Outcome.TAKEN:
            return Settlement(row.item, Settled.TAKEN, receipt=receipt)
        case Outcome.NEED:
            return Settlement(row.item, Settled.BODY, now_ms + BODY_WAIT_MS, need=verdict.need)
        case Outcome.REFUSED:
            return Settlement(row.item, Settled.ENDED, reason=verdict.reason or Reason.INTERNAL)
        case Outcome.LATER if verdict.reason is Reason.INTERNAL and row.chokes + 1 >= patience.attempts_max:
            return Settlement(row.item, Settled.HELD, reason=Reason.INTERNAL)  # poison over there: a person decides
        case Outcome.LATER:
            asked_ms = int(verdict.retry_s * 1000)
            wait_ms = min(patience.max_ms, max(asked_ms, patience.min_ms, drawn_ms if asked_ms > 1000 else 0))
            reason = verdict.reason or Reason.NOT_NOW
            return Settlement(row.item, Settled.LATER, now_ms + wait_ms, reason, choked=reason is Reason.INTERNAL)


def settle_failure(offered: Sequence[Offered], failure: Deferred, *, now_ms: int) -> list[Settlement]:
    """No verdict at all: everything in doubt if the offer left this node, else as it was. Due at once: the wait is the
    neighbour's, not the row's, so that a restored link finds everything ready."""
    settled = Settled.IN_DOUBT if failure.in_doubt else Settled.UNSENT
    return [Settlement(row.item, settled, now_ms, failure.reason, was_in_doubt=row.in_doubt) for row in offered]


def settle_choke(row: Offered, reason: Reason, *, now_ms: int, patience: Patience, rng: random.Random) -> Settlement:
    """The neighbour calls a batch of this one row bad, or never answers for it. Its fault or ours: a person decides after enough
    attempts; until then the row stays in doubt."""
    if row.chokes + 1 >= patience.attempts_max:
        return Settlement(row.item, Settled.HELD, reason=reason, was_in_doubt=True)
    due_ms = now_ms + patience.wait_ms(row.chokes, rng)
    return Settlement(row.item, Settled.CHOKED, due_ms, reason, was_in_doubt=True, choked=True)


def settle_astray(row: Offered, reason: Reason, *, now_ms: int, patience: Patience, rng: random.Random) -> Settlement:
    """The neighbour sends it back our way although our table names it still: two directories disagree, for a while. The document
    waits for them to agree; if they do not, a person decides. It never ends by this (decision 11)."""
    if row.chokes + 1 >= patience.attempts_max:
        return Settlement(row.item, Settled.HELD, reason=reason)
    return Settlement(row.item, Settled.LATER, now_ms + patience.wait_ms(row.chokes + 4, rng), reason, choked=True)


def together(settlements: Sequence[Settlement], offered: Mapping[int, Offered]) -> list[Settlement]:
    """Rows of one envelope that wait for two directories to agree are due at one moment, so that they go on together (decision
    7). offered: by item."""
    latest: dict[tuple[OrgId, str], int] = {}

    def key(settlement: Settlement) -> tuple[OrgId, str] | None:
        astray = settlement.settled is Settled.LATER and settlement.choked
        return (offered[settlement.item].origin, offered[settlement.item].id) if astray else None

    for each in settlements:
        if (envelope := key(each)) is not None:
            latest[envelope] = max(latest.get(envelope, 0), each.due_ms)
    return [each if (envelope := key(each)) is None else replace(each, due_ms=latest[envelope]) for each in settlements]


def tells_home(kind: str) -> bool:
    """Whether the end of such an envelope sends a notice: notices and statuses never cause notices (decision 11)."""
    return kind not in (KIND_NOTICE, KIND_STATUS)

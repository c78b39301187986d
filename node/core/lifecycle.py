"""The states a delivery passes, as the sender's node sees them, and the office's statuses: two vocabularies, two tables of moves.

Transport state is ours (Điều 6.3); office status is the receiving organ's word (Điều 10.2.h). A move that the table does not
allow is not made; an office status out of order is delivered and flagged, never refused. Knows nobody.
"""

from __future__ import annotations

from enum import StrEnum


class Transport(StrEnum):
    QUEUED = "queued"
    MOVING = "moving"
    IN_MAILBOX = "in-mailbox"
    COLLECTED = "collected"
    REFUSED = "refused"
    EXPIRED = "expired"
    STOPPED = "stopped"
    HELD = "held"


ENDS = frozenset({Transport.COLLECTED, Transport.REFUSED, Transport.EXPIRED, Transport.STOPPED})
"""The ends a delivery may have (decision 11). The final recipient's refusal is an office status (02) on a collected one."""

_OPEN = frozenset(Transport) - ENDS
_MOVES: dict[Transport, frozenset[Transport]] = {
    Transport.QUEUED: frozenset({Transport.MOVING, Transport.IN_MAILBOX, Transport.HELD}) | ENDS,
    Transport.MOVING: frozenset({Transport.QUEUED, Transport.IN_MAILBOX, Transport.HELD}) | ENDS,  # queued again: it came back
    Transport.IN_MAILBOX: frozenset({Transport.QUEUED, Transport.MOVING, Transport.HELD}) | ENDS,
    Transport.HELD: (_OPEN - {Transport.HELD}) | ENDS,
    Transport.COLLECTED: frozenset(),
    # A copy whose outcome was unknown somewhere may turn out to have been collected: the receiver's word wins.
    Transport.REFUSED: frozenset({Transport.COLLECTED}),
    Transport.EXPIRED: frozenset({Transport.COLLECTED}),
    Transport.STOPPED: frozenset(),
}


def may_move(now: Transport, to: Transport) -> bool:
    """Whether a delivery in state `now` may become `to`."""
    return to in _MOVES[now]


class StatusFlag(StrEnum):
    """What is remarkable about an office status; "" when nothing is."""

    NONE = ""
    UNMATCHED = "unmatched"
    REPEATED = "repeated"
    OUT_OF_ORDER = "out-of-order"


_RANK = {"": 0, "01": 1, "03": 3, "04": 4, "05": 5, "06": 6}
_FINAL = frozenset({"02", "15"})


def judge_status(last: str, new: str) -> StatusFlag:
    """Order 01 → 02, or 01 → 03 → 04 → 05 → 06 with steps skipped; 13 at any time, 15 and 16 answer it; 02 and 15 end it."""
    if new == last:
        return StatusFlag.REPEATED
    if last in _FINAL:
        return StatusFlag.OUT_OF_ORDER
    if new == "02":
        return StatusFlag.NONE if last in ("", "01") else StatusFlag.OUT_OF_ORDER
    if new in _RANK and last in _RANK and _RANK[new] < _RANK[last]:
        return StatusFlag.OUT_OF_ORDER
    return StatusFlag.NONE

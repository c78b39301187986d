"""What a node's duties hand to the store and get back: envelopes with their routes, offers, and what became of them.

Plain values; the store keeps them, the duties decide. Knows `envelope`, `routing`, `wire`; nothing of SQL or the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from node.core.counting import NOTHING_SAID, Said
from node.core.envelope import BodyRef, Envelope, Header, Hop, Lane
from node.core.errors import Reason
from node.core.evidence import Receipt
from node.core.identifier import OrgId
from node.core.lifecycle import StatusFlag, Transport
from node.core.routing import Decision
from node.core.wire import Verdict

NEIGHBOUR_GONE = "neighbour-gone"
"""Why a copy waits for a person: a neighbour may have it, and no directory knows that neighbour any more."""

Cursor = tuple[int, int, int, int]
"""Where a page of what waits ends: lane, place within the lane, what that place is sorted by, item."""
FIRST: Cursor = (0, 0, -1, -1)
Listing = tuple[list[dict[str, Any]], Cursor | None]
"""Rows for an operator, and behind which the next page begins; None: that was all."""


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A body that is durable (file) or will be with the row (data). sha256: hex; exactly one of data, file is given."""

    sha256: str
    size: int
    data: bytes | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """How a delivery ended, or was confirmed: state is one of lifecycle.ENDS. text: for people, Vietnamese, may be empty."""

    state: Transport
    at_ms: int
    reason: Reason | None = None
    text: str = ""
    receiver_doc_id: str = ""


@dataclass(frozen=True, slots=True)
class EndOf:
    """An end with the delivery it belongs to: the content of a notice (bì kind "notice")."""

    origin: OrgId
    id: str
    recipient: OrgId
    end: End


@dataclass(frozen=True, slots=True)
class StatusReport:
    """An office status as read by the node that serves its addressee. reporter: the organ that speaks."""

    reporter: OrgId
    code: str
    text: str
    at_ms: int
    organ: OrgId
    document_id: str
    notation: str
    date: str


@dataclass(frozen=True, slots=True)
class LocalEnvelope:
    """An envelope made at this node, with where each recipient goes: a neighbour, or None for this node's own mailbox.

    bodies: at most what the header names. chain: PEM of this node's certificate chain. due_ms: when it leaves (UTC ms), 0: at
    once.
    """

    envelope: Envelope
    routes: Mapping[OrgId, OrgId | None]
    bodies: tuple[StoredBody, ...]
    chain: bytes
    doc_ids: Mapping[OrgId, str] = field(default_factory=dict)
    due_ms: int = 0


@dataclass(frozen=True, slots=True)
class DoorRefusal:
    """A receiver refused at the first node: shown in the sent list, never became a delivery."""

    recipient: str
    written: str
    reason: Reason
    successor: str


@dataclass(frozen=True, slots=True)
class Submission:
    """One package an office system hands in. repeat_since_ms: the same file from the same system after this is a repeat.
    returned: 02 packages From the axis for the receivers refused at the door. said: what it says of itself, for the figures.
    answers: a status by which its organ says something of a document that it has received."""

    system: str
    file_digest: str
    message_type: str
    sender_text: str
    sender_name: str
    notation: str
    date: str
    title: str
    local: LocalEnvelope
    refused: tuple[DoorRefusal, ...]
    repeat_since_ms: int
    report: StatusReport | None = None
    returned: tuple[LocalEnvelope, ...] = ()
    said: Said = NOTHING_SAID
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """What an admission came to: doc_id, whether it was a repeat, files that turned out not to be needed. refused: of a repeat,
    the receivers that the first was refused for at the door."""

    doc_id: str
    repeated: bool
    orphans: tuple[str, ...]
    refused: tuple[DoorRefusal, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """One envelope from a neighbour with this node's judgement per remaining recipient.

    judged: route or refusal for a first copy. anew: the route should it come back to us (exempt from sender and loop rules).
    doc_ids: per receiving organ here. ends: what a notice addressed to this node tells; content: its bytes. returns: 02
    packages to lay into the sender's mailbox, by the recipient whose delivery ended. report: an office status addressed here.
    later: what a first copy is told when this node cannot take it now. unseen: digests without which this node, the destination,
    could not judge: they are asked for even if they have come by another way meanwhile.
    """

    envelope: Envelope
    judged: Mapping[OrgId, Decision]
    anew: Mapping[OrgId, Decision]
    doc_ids: Mapping[OrgId, str]
    inline: tuple[StoredBody, ...]
    chain: bytes | None = None
    ends: tuple[EndOf, ...] = ()
    returns: Mapping[tuple[str, str, OrgId], LocalEnvelope] = field(default_factory=dict)
    report: StatusReport | None = None
    later: Verdict | None = None
    unseen: tuple[str, ...] = ()
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Verdicts per recipient, files to unlink, and which statuses were remarkable."""

    verdicts: Mapping[OrgId, Verdict]
    orphans: tuple[str, ...] = ()
    duplicates: int = 0
    comebacks: int = 0
    conflicts: int = 0
    flag: StatusFlag | None = None


ROW_BYTES = 64
"""What one more recipient of an envelope adds to a batch that has the envelope already."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An outbox row as the scheduler sees it. bytes: what it adds to a batch that has nothing of its envelope yet."""

    item: int
    envelope: int
    lane: Lane
    sender: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Window:
    """What may go into the next batch, by lane; and, where a lane holds more than that, the sender that was looked at last."""

    lanes: Mapping[Lane, Sequence[Candidate]]
    looked: Mapping[Lane, str]


@dataclass(frozen=True, slots=True)
class Offered:
    """An outbox row that is being offered: everything to put it on the wire. in_doubt: it was so before this offer."""

    item: int
    recipient: OrgId
    origin: OrgId
    id: str
    header: bytes
    signature: bytes
    certificate: str
    hops: tuple[Hop, ...]
    attempts: int
    bodies: tuple[BodyRef, ...]
    lane: Lane
    in_doubt: bool
    chokes: int = 0


class Settled(StrEnum):
    """What became of an offered row."""

    TAKEN = "taken"
    LATER = "later"
    """The neighbour answered for it: it does not hold it."""
    IN_DOUBT = "in-doubt"
    """Offered, and nobody answered."""
    UNSENT = "unsent"
    """This offer did not happen; what was in doubt before still is."""
    CHOKED = "choked"
    """The neighbour calls the batch bad, or never answers for it."""
    BODY = "body"
    REROUTED = "rerouted"
    """The neighbour is no longer the way; it does not hold it."""
    HELD = "held"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of one offered row. due_ms: when to offer again. home: what tells the origin of an end. was_in_doubt: for what
    was not answered (unsent, choked, held), whether it is in doubt now. choked: counts towards being held. neighbour: where a
    rerouted row goes now. receipt: what the neighbour signed for what it has taken."""

    item: int
    settled: Settled
    due_ms: int = 0
    reason: Reason | None = None
    need: tuple[str, ...] = ()
    home: Homeward | None = None
    was_in_doubt: bool = False
    choked: bool = False
    neighbour: OrgId | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Homeward:
    """How the sender hears of an end: by a notice on the road, or, at the origin itself, by the delivery's own row and, where
    nothing was delivered, by a 02 package in the sender's mailbox (`returned`, by recipient).

    ends is empty for what tells nobody: notices and statuses never cause notices (decision 11).
    """

    end: End
    ends: tuple[EndOf, ...] = ()
    notice: LocalEnvelope | None = None
    returned: Mapping[OrgId, LocalEnvelope] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Mailbox items that an office has confirmed together: number and ends of each, and the one notice that tells their origin of
    all of them; None: each tells for itself."""

    items: Sequence[tuple[int, Homeward]]
    notice: LocalEnvelope | None = None


@dataclass(frozen=True, slots=True)
class SubmissionInfo:
    """What the origin node remembers of a package, to make a 02 about it."""

    doc_id: str
    system: str
    sender: OrgId
    sender_text: str
    sender_name: str
    document_id: str
    notation: str
    date: str
    kind: str


@dataclass(frozen=True, slots=True)
class BoxItem:
    """A mailbox row. recipients: the addressed codes this organ receives for."""

    item: int
    header: Header
    organ: OrgId
    recipients: tuple[OrgId, ...]
    doc_id: str
    state: str
    fetched: bool
    done_early: bool
    fails: int

    @property
    def id(self) -> str:
        return self.header.id


@dataclass(frozen=True, slots=True)
class Stray:
    """An outbox row for a neighbour this node does not have (any more). in_doubt: that neighbour may have it."""

    item: int
    header: Header
    recipient: OrgId
    neighbour: OrgId
    in_doubt: bool


@dataclass(frozen=True, slots=True)
class Expired:
    """An outbox row or mailbox item whose lifetime is over. place: "out" or "box"; recipients: the codes it was for."""

    place: str
    item: int
    header: Header
    recipients: tuple[OrgId, ...]

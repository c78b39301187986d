"""What passes between an office door and the node: plain values, the same for every face (VXP, REST, native).

Knows `identifier`, `errors` and `envelope`; nothing of HTTP or of the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from node.core.errors import Reason, Refused
from node.core.identifier import OrgId


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate that an office system shows at its door, registered as it is: no authority vouches for it. fingerprint:
    SHA-256 of its DER, hex. Validity in UTC ms, both ends included."""

    der: bytes = field(repr=False)
    fingerprint: str
    not_before_ms: int
    not_after_ms: int
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class System:
    """A registered office system (QLVB&ĐH). codes: organs it may send from and receives for; none: it only reads figures (Điều
    14.3). networks: where it may call from (empty: anywhere). secrets: one, or two while they overlap in rotation.
    all_or_nothing: one bad receiver stops a package. certificates: one of them must be shown too; none: none is looked at."""

    id: str
    codes: tuple[OrgId, ...]
    secrets: tuple[str, ...] = field(repr=False)
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    disabled: bool = False
    all_or_nothing: bool = False
    certificates: tuple[ClientCertificate, ...] = ()

    def certificates_end_ms(self) -> int | None:
        """From when on none of its certificates is good any more, UTC ms; None: it is bound to none, or to revoked ones alone."""
        return max((each.not_after_ms for each in self.certificates if not each.revoked), default=None)

    def require_certificate(self, shown: str, *, now_ms: int, bound_ms: int) -> None:
        """shown: the fingerprint of what the caller's connection has proven, "" for none. Dates count with the clock's bound in
        favour of the caller. `Refused(CLIENT_CERTIFICATE_…)`. # QĐ 28/2018 Điều 13.2"""
        if not self.certificates:
            return
        if not shown:
            raise Refused(Reason.CLIENT_CERTIFICATE_MISSING)
        found = next((each for each in self.certificates if each.fingerprint == shown), None)
        if found is None:
            raise Refused(Reason.CLIENT_CERTIFICATE_UNKNOWN, "", shown)
        if found.revoked:
            raise Refused(Reason.CLIENT_CERTIFICATE_REVOKED, "", shown)
        if not found.not_before_ms - bound_ms <= now_ms <= found.not_after_ms + bound_ms:
            raise Refused(Reason.CLIENT_CERTIFICATE_DATES, "", shown)


@dataclass(frozen=True, slots=True)
class NodeTime:
    """The node's time as office systems are told it. utc_ms ± bound_ms; state: a key of words.LABELS["clock"]; stratum: 1 at the
    hub, 16 where nobody vouches for it. # QĐ 28/2018 Điều 14.4"""

    utc_ms: int
    bound_ms: int
    state: str
    synchronised: bool
    stratum: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a caller says of a package beside the package: for the log, and to tell a status from a document early."""

    message_type: str = "edoc"
    sender: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A receiver the package was not sent to. written: its code as in the package; successor: the code to use instead, or ""."""

    written: str
    refusal: Refused
    successor: str = ""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A package is in custody (after the commit). repeated: the same file came before and got this doc_id then."""

    doc_id: str
    repeated: bool
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """One line of the received list. Instants are UTC ms. state is a transport word: initial, processing, fail."""

    doc_id: str
    kind: str
    message_type: str
    sender: str
    recipient: str
    state: str
    priority: int
    created_ms: int
    updated_ms: int
    trial: bool = False
    """One side is connected on trial only. # QĐ 28/2018 Điều 21.1"""


@dataclass(frozen=True, slots=True)
class Listed:
    """One open item with its content's size and digest (hex). item: its number, rising in order of arrival. Instants are UTC ms.

    done_early: the office said done before it ever fetched it.
    """

    item: int
    doc_id: str
    kind: str
    sender: str
    recipients: tuple[str, ...]
    state: str
    priority: int
    size: int
    digest: str
    created_ms: int
    updated_ms: int
    done_early: bool = False
    trial: bool = False


WHOLE_BYTES = 2 << 20
"""Up to here a content is judged and handed over from one reading; a larger one is read twice, and never held."""


@dataclass(frozen=True, slots=True)
class LaidOut:
    """Open items in their order. packages: contents that come along, by item; files: where others lie that may come along;
    damaged: those whose bytes are no longer what they were."""

    lines: Sequence[Listed] = ()
    packages: Mapping[int, bytes] = field(default_factory=dict)
    files: Mapping[int, str] = field(default_factory=dict)
    damaged: frozenset[int] = frozenset()


def fitting(lines: Iterable[Listed], room_bytes: int) -> list[int]:
    """The items whose contents are given with the list: those that are not large, in order, while there is room."""
    chosen = []
    for line in lines:
        if line.size <= min(room_bytes, WHOLE_BYTES):
            room_bytes -= line.size
            chosen.append(line.item)
    return chosen


class Given(StrEnum):
    """How an item's content comes with a page."""

    INLINE = "inline"
    SEPARATE = "separate"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Page:
    """Items in order, each with how its content comes. after: where the next page begins. bodies: the contents given inline, one
    piece each, in order; read to the end they count as handed over."""

    items: tuple[tuple[Listed, Given], ...]
    after: int
    bodies: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class SentLine:
    """One line of the sent list: one receiver of one package. *_state are codes of `words.py`; texts are for people.

    send_state: transport state. receive_state: last office status ("" or 01 … 16), receive_text its description.
    sent_ms: custody at the first node; received_ms: collected by the receiver, 0 where not yet.
    """

    doc_id: str
    receiver_doc_id: str
    sender: str
    recipient: str
    title: str
    notation: str
    message_type: str
    sent_ms: int
    received_ms: int
    send_state: str
    send_text: str
    receive_state: str
    receive_text: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes an office handed in, for another office: size in bytes, chunks of bytes in order."""

    doc_id: str
    size: int
    chunks: AsyncIterator[bytes]

"""What a chain of certificates is worth beside its signatures: what of it was revoked, how old the lists are that say so, and how
near its end a certificate is.

A list is made by the authority that signed the certificates it names, and judged for every certificate of a chain. One that is
not there stops nothing: the registered key is the first wall. One that is too old stops traffic, after a stated grace. Decisions
only: it knows errors; nothing of X.509, files or links.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from node.core.errors import Reason, Refused

DAY_MS = 86_400_000
ALARM_DAYS = (60, 30, 7, 1)
"""So many days before a certificate ends, each once, somebody hears of it."""
RENEWED_BEFORE_MS = 90 * DAY_MS
"""A certificate is renewed when less than this is left of it; where it renews itself, no alarm is ever heard."""

Signed = tuple[str, int]
"""A certificate as a list names it: the pin of the key that signed it, its serial number."""


@dataclass(frozen=True, slots=True)
class Revocations:
    """One authority's list. issuer: the pin of its key. number: grows from list to list. made_ms, ends_ms: when it was made, and
    when it wants a newer one, UTC. revoked: serial number -> since when."""

    issuer: str
    number: int
    made_ms: int
    ends_ms: int
    revoked: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Listed:
    """A list as it travels, PEM: the certificate of its authority with those above it but the root, and the list itself."""

    authority: str
    text: str


def judge(chain: Sequence[Signed], lists: Mapping[str, Revocations], *, old_ms: int | None) -> None:
    """Whether a chain stands. old_ms: a list that ended before this instant is too old; None: no age is judged.

    `Refused(PEER_REVOKED | PEER_LIST_OLD)`.
    """
    for issuer, serial in chain:
        found = lists.get(issuer)
        if found is None:
            continue
        if serial in found.revoked:
            raise Refused(Reason.PEER_REVOKED, "serialNumber", f"{serial:x}")
        if old_ms is not None and found.ends_ms < old_ms:
            raise Refused(Reason.PEER_LIST_OLD, "nextUpdate", str(found.ends_ms), f"≥ {old_ms} ms")


def revoked_ms(chain: Sequence[Signed], lists: Mapping[str, Revocations]) -> int | None:
    """Since when a chain is revoked: what its key signed before that stands. None: it is not."""
    since = [lists[issuer].revoked[serial] for issuer, serial in chain if issuer in lists and serial in lists[issuer].revoked]
    return min(since, default=None)


def left_ms(issuers: Collection[str], lists: Mapping[str, Revocations], now_ms: int, grace_ms: int) -> int | None:
    """How long until a list that is asked for stops traffic; None: there is none."""
    return min((lists[each].ends_ms + grace_ms - now_ms for each in issuers if each in lists), default=None)


def alarm_days(ends_ms: int, now_ms: int) -> int | None:
    """The alarm that a certificate with this end is in: 60, 30, 7 or 1 days, 0 past its end; None: not yet."""
    left = ends_ms - now_ms
    return 0 if left < 0 else min((days for days in ALARM_DAYS if left < days * DAY_MS), default=None)


@dataclass(frozen=True, slots=True)
class Handover:
    """A key names the one that follows it. key: the old public key (SPKI, PEM). pin: of the new one. signature: the old key's
    over `handed_over`, DER in hex."""

    key: str
    pin: str
    signature: str


def handed_over(old_pin: str, pin: str) -> bytes:
    """What an old key signs of its successor."""
    return f"truc-handover-1\n{old_pin}\n{pin}\n".encode()


@dataclass(frozen=True, slots=True)
class Roots:
    """The roots a node trusts, PEM each, and for one that has taken another's place the certificate by which that one says so."""

    roots: tuple[str, ...] = ()
    crosses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrustQuestion:
    """What a child tells its parent and asks of it. session, since: up to where it has heard the parent's lists, at first "" and
    0. lists: what is new here."""

    session: str
    since: int
    lists: tuple[Listed, ...] = ()


@dataclass(frozen=True, slots=True)
class TrustAnswer:
    """What the parent tells. session: of its process; with another one all begins anew. place: what to ask from next time.
    more: there is more at once. renew: the child's certificate is one that the parent would make otherwise today. handovers: of
    the parent's own key."""

    session: str
    place: int
    more: bool
    lists: tuple[Listed, ...] = ()
    renew: bool = False
    roots: Roots = Roots()
    handovers: tuple[Handover, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What an operator should know. age_s, left_s: of the lists that neighbours are put to, the age of the oldest and how long
    until one stops traffic; None: there is none yet. old: one is past its end. revoked: this node's own certificate is."""

    age_s: float | None = None
    left_s: float | None = None
    old: bool = False
    revoked: bool = False

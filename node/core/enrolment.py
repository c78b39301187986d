"""How a node joins the tree: the token its parent hands out, what an invitation allows, the place the newcomer gets.

A token is a secret of one invitation and all that the newcomer must know before it trusts anybody: which code it will have, under
whom, in which zone, and the fingerprints of the tree's root and of its parent's key. Decisions only: it knows codes, the
directory and errors; nothing of files, certificates or HTTP.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from node.core.directory import Connection, Directory, Entry, NodeEntry
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId

PREFIX = "truc2-"
"""What a token begins with; another number would be another form."""
SECRET_BYTES = 16
ROOT_BYTES = 32
PIN_BYTES = 32
CHECK_BYTES = 4
TOKEN_CHARS_MAX = 600
HOUR_MS = 3_600_000
INVITED_H = 24
INVITED_MAX_H = 24 * 14
ANSWERED_AGAIN_MS = 14 * 24 * HOUR_MS
"""So long after the end of an invitation the key that used it may fetch again what it was given."""
NAME_CHARS_MAX = 100

_ZONE = re.compile(r"(?=.{1,200}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class Token:
    """code: the newcomer's. parent: who invites. root: SHA-256 of the root certificate (DER). key: SHA-256 of the parent's public
    key (SPKI): an authority above that would stand in for the parent does not hold it. secret: kept hashed, not logged."""

    code: OrgId
    parent: OrgId
    zone: str
    root: bytes
    key: bytes
    secret: bytes = field(repr=False)

    def text(self) -> str:
        """As the operator carries it: one word. Its last bytes tell a cut or mistyped one from a wrong one."""
        plain = self.root + self.key + self.secret + "\n".join((str(self.code), str(self.parent), self.zone)).encode()
        return PREFIX + base64.urlsafe_b64encode(plain + _check(plain)).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Token:
        """The token as typed or pasted; `Refused(INVITE_MALFORMED)`, which does not repeat it."""
        word = text.strip()
        if not word.startswith(PREFIX) or len(word) > TOKEN_CHARS_MAX:
            raise Refused(Reason.INVITE_MALFORMED, "token", rule=PREFIX)
        body = word.removeprefix(PREFIX)
        try:
            plain = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            plain, check = plain[:-CHECK_BYTES], plain[-CHECK_BYTES:]
            root, rest = plain[:ROOT_BYTES], plain[ROOT_BYTES:]
            key, rest = rest[:PIN_BYTES], rest[PIN_BYTES:]
            secret, names = rest[:SECRET_BYTES], rest[SECRET_BYTES:]
            code, parent, zone = names.decode("ascii").split("\n")
            read = cls(OrgId.canonical(code), OrgId.canonical(parent), zone, root, key, secret)
        except (binascii.Error, ValueError, Refused):
            raise Refused(Reason.INVITE_MALFORMED, "token") from None
        if check != _check(plain) or not read.code.path or not _ZONE.fullmatch(zone):
            raise Refused(Reason.INVITE_MALFORMED, "token")
        return read


def _check(plain: bytes) -> bytes:
    return hashlib.sha256(plain).digest()[:CHECK_BYTES]


def hashed(secret: bytes) -> str:
    """What is kept of a secret: SHA-256 (hex). It has 128 random bits, so nothing slower is needed."""
    return hashlib.sha256(secret).hexdigest()


@dataclass(frozen=True, slots=True)
class Invitation:
    """One token handed out. auto: granted when asked; else a person approves. transfer: takes the code over from the key that
    has it now. pin, authority_pin: the keys that used it, for the link and for an authority below; "" while nobody has.
    granted: what they were given, chain PEM and authority PEM. placed: the directory has the newcomer.
    """

    code: OrgId
    name: str
    tier: str
    prefixes: tuple[OrgId, ...]
    secret_sha256: str
    expires_ms: int
    auto: bool = False
    transfer: bool = False
    approved: bool = False
    pin: str = ""
    authority_pin: str = ""
    granted: tuple[str, str] | None = None
    placed: bool = False

    def ends_ms(self) -> int:
        """When it opens nothing any more, UTC: what was granted may be fetched again for a while."""
        return self.expires_ms + (ANSWERED_AGAIN_MS if self.granted is not None else 0)


def find(
    invitations: Iterable[Invitation],
    registered: Mapping[OrgId, Collection[str]],
    secret: bytes,
    pins: tuple[str, str],
    now_ms: int,
) -> Invitation:
    """The invitation that this secret opens for these keys, which are the first to use it or have used it before.

    registered: the keys of those below. pins: of the link's key and of the authority's ("" if none is asked for).
    `Refused(INVITE_UNKNOWN | INVITE_EXPIRED | INVITE_USED | PEER_REGISTERED)`. Each invitation is compared, in constant time, so
    that how long it takes says nothing. Keys that were granted may ask again for a while: the answer may have been lost.
    """
    presented, found = hashed(secret), None
    for invitation in invitations:
        if hmac.compare_digest(invitation.secret_sha256, presented):
            found = invitation
    if found is None:
        raise Refused(Reason.INVITE_UNKNOWN, "token")
    if found.pin and (found.pin, found.authority_pin) != pins:
        raise Refused(Reason.INVITE_USED, "token", str(found.code))
    if now_ms >= found.ends_ms():
        raise Refused(Reason.INVITE_EXPIRED, "token", str(found.code))
    if found.granted is not None:
        return found
    if found.code in registered and not found.transfer:
        raise Refused(Reason.PEER_REGISTERED, "token", str(found.code))
    return replace(found, pin=pins[0], authority_pin=pins[1])


def overshadowed(directory: Directory, parent: OrgId, invitation: Invitation) -> tuple[tuple[OrgId, OrgId], ...]:
    """Codes of the invitation that lie within what a sibling covers, each with that sibling: documents for them will go to the
    newcomer from now on, since the longest prefix decides. Lawful, but worth a word."""
    siblings = [each for each in directory.nodes if each.parent == parent and each.code != invitation.code]
    wanted = dict.fromkeys((invitation.code, *invitation.prefixes))
    return tuple(
        (code, each.code) for code in wanted for each in siblings if any(own.covers(code) for own in (each.code, *each.prefixes))
    )


def placed(directory: Directory, parent: OrgId, invitation: Invitation) -> Directory:
    """The directory with the newcomer below its parent, as an organ that exchanges officially where nothing is said of it yet;
    the very same where all of it is there. Raises ValueError where the directory has it elsewhere or a law would be broken."""
    node = directory.node(invitation.code)
    if node is not None and node.parent != parent:
        raise ValueError(f'the directory has {invitation.code} below "{node.parent}"')
    prefixes = tuple(dict.fromkeys((*(node.prefixes if node else ()), invitation.code, *invitation.prefixes)))
    fresh = NodeEntry(invitation.code, invitation.name, node.tier if node else invitation.tier, parent, prefixes)
    if node is not None and node.prefixes == prefixes:
        fresh = node
    entries = directory.entries
    if not directory.history(invitation.code):
        entries = (*entries, Entry(invitation.code, invitation.name, connection=Connection.OFFICIAL))
    if fresh == node and entries is directory.entries:
        return directory
    nodes = (*(each for each in directory.nodes if each.code != invitation.code), fresh)
    changed = replace(directory, entries=entries, nodes=nodes, version=directory.version + 1)
    broken = changed.check()
    if broken:
        raise ValueError("; ".join(broken[:3]))
    return changed


class Allowance:
    """How often strangers may ask: so many at once from one address and from all, and so many a second after that. Addresses
    remembered are bounded; the oldest is forgotten first."""

    def __init__(self, burst: int, per_s: float, addresses_max: int) -> None:
        self._burst = burst
        self._per_s = per_s
        self._addresses_max = addresses_max
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, address: str, now_s: float) -> bool:
        """Whether one more may be served now; counted if so."""
        left, at_s = self._left.pop(address, (float(self._burst), now_s))
        left = min(float(self._burst), left + (now_s - at_s) * self._per_s)
        allowed = left >= 1.0
        self._left[address] = (left - 1.0 if allowed else left, now_s)
        while len(self._left) > self._addresses_max:
            del self._left[next(iter(self._left))]
        return allowed

"""Revocation lists of the tree's authorities: proven, the newest of each kept, and put to every chain that is shown.

A list counts when the chain of its authority ends in a root of ours and it is signed by that authority's key; it speaks of what
that key signed and of nothing else, so it may come from anybody. The newest by number stays; they are kept in one file, so that
a node that starts without its parent knows what it knew. Knows `core`, certificates and small files; nothing of links.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from node.adapters import authority
from node.adapters.folders import SECRET, write
from node.adapters.http.tls import signed_by
from node.core import standing
from node.core.envelope import Fields, strict_json
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.standing import Listed, Revocations, Signed, Standing

log = structlog.get_logger()

FORMAT = "truc-lists-1"
LISTS_MAX = 20_000
FROM_ONE_MAX = 5_000
"""Lists that one neighbour may bring; there is one for each authority that has signed something."""
FROM_ONE_CHARS_MAX = 64 * 1024 * 1024
"""And so much text in them: they lie in memory and in one file. Ten thousand revoked certificates make half a million."""
LIST_CHARS_MAX = 1024 * 1024
AUTHORITY_CHARS_MAX = 64 * 1024
_UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.ExtensionNotFound, x509.UnsupportedGeneralNameType),
)
"""All that the library raises for what somebody has sent."""
CHAIN_MAX = 16
TOLD_CHARS_MAX = 512 * 1024
"""Of one exchange; one list may be longer, and then goes alone."""
TOLD_MAX = 64


class NoList(Exception):
    """What was told is no list that counts here. why: for the log."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A list that counts, with what it says."""

    listed: Listed
    says: Revocations


@dataclass(frozen=True, slots=True)
class _Held:
    proven: Proven
    place: int
    source: OrgId | None

    @property
    def chars(self) -> int:
        return len(self.proven.listed.authority) + len(self.proven.listed.text)


class Lists:
    """path: where they are kept. trust: PEM with the root(s) of the tree. grace_ms: how long past its end a list still serves.

    `prove` may be called from another thread; all else belongs to the loop.
    """

    def __init__(self, path: Path, trust: Path, grace_ms: int) -> None:
        self._path = path
        self._trust = trust
        self._grace_ms = grace_ms
        self._held: dict[str, _Held] = {}
        self._brought: Counter[OrgId | None] = Counter()
        self._chars: Counter[OrgId | None] = Counter()
        self._says: dict[str, Revocations] = {}
        self._asked: set[str] = set()
        self._place = 0
        self._written = ""
        self.reload()
        self._load()

    @property
    def version(self) -> int:
        """Grows with each list that is new."""
        return self._place

    def reload(self) -> None:
        """Read the roots again. Raises OSError and ValueError."""
        self._roots = x509.load_pem_x509_certificates(self._trust.read_bytes())

    # what comes and goes

    def prove(self, listed: Listed) -> Proven:
        """`NoList` where it does not count."""
        if len(listed.text) > LIST_CHARS_MAX or len(listed.authority) > AUTHORITY_CHARS_MAX:
            raise NoList("too long")
        try:
            chain = x509.load_pem_x509_certificates(listed.authority.encode())
            made = x509.load_pem_x509_crl(listed.text.encode())
            if not 1 <= len(chain) <= CHAIN_MAX or not _is_authority(chain[0]):
                raise NoList("not an authority")
            authority.anchored(chain, self._roots)
            key = chain[0].public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise NoList("a key of another kind")
            if made.issuer != chain[0].subject or not made.is_signature_valid(key):
                raise NoList("not signed by its authority")
            number = made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            ends = made.next_update_utc
            revoked = {each.serial_number: _ms(each.revocation_date_utc) for each in made}
        except _UNREADABLE as error:
            raise NoList(f"cannot be read: {str(error)[:100]}") from None
        if ends is None:
            raise NoList("without an end")
        return Proven(listed, Revocations(authority.pin(key), number, _ms(made.last_update_utc), _ms(ends), revoked))

    def take(self, proven: Proven, source: OrgId | None) -> bool:
        """Keep it if it is newer than the one of the same authority. source: the neighbour that told it; None: our own."""
        says = proven.says
        before = self._held.get(says.issuer)
        if before is not None and before.proven.says.number >= says.number:
            return False
        held = _Held(proven, self._place + 1, source)
        if not self._has_room(held, before):
            log.error("too many revocation lists, one not taken", neighbour=str(source), authority=says.issuer)
            return False
        self._place += 1
        self._keep(held, before)
        log.info("revocation list", authority=says.issuer, number=says.number, count=len(says.revoked), neighbour=str(source))
        return True

    def since(self, place: int, neighbour: OrgId) -> tuple[list[Listed], int, bool]:
        """What came after this place and not from this neighbour: the lists, the place they reach to, whether there is more."""
        fresh = sorted((each for each in self._held.values() if each.place > place), key=lambda each: each.place)
        found: list[Listed] = []
        room = TOLD_CHARS_MAX
        for each in fresh:
            if each.source != neighbour:
                listed = each.proven.listed
                room -= len(listed.authority) + len(listed.text)
                if found and (room < 0 or len(found) >= TOLD_MAX):
                    return found, place, True
                found.append(listed)
            place = each.place
        return found, place, False

    def keeper(self) -> Callable[[], None] | None:
        """What writes the file, for a thread that may wait for the disk; None where it says all of it already."""
        rows = ({"authority": each.proven.listed.authority, "list": each.proven.listed.text} for each in self._held.values())
        text = f'{{"format": "{FORMAT}", "lists": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]}\n"
        if text == self._written:
            return None

        def keep() -> None:
            write(self._path, text, SECRET)
            self._written = text

        return keep

    # what they say

    def judge(self, chain: Sequence[bytes], now_ms: int | None) -> None:
        """Put a verified chain (DER, leaf first, root last) to the lists. now_ms: None where no age is judged.

        `Refused(PEER_REVOKED | PEER_LIST_OLD)`.
        """
        signed = signed_by(chain)
        self._asked.update(issuer for issuer, _ in signed)
        standing.judge(signed, self._says, old_ms=None if now_ms is None else now_ms - self._grace_ms)

    def revoked_ms(self, signed: Sequence[Signed]) -> int | None:
        """Since when a chain is revoked, UTC; None: it is not."""
        return standing.revoked_ms(signed, self._says)

    def state(self, now_ms: int, own: Sequence[Signed]) -> Standing:
        """For the operator. own: this node's own chain."""
        revoked = self.revoked_ms(own) is not None
        asked = [self._says[issuer] for issuer in self._asked if issuer in self._says]
        left = standing.left_ms(self._asked, self._says, now_ms, self._grace_ms)
        if left is None:
            return Standing(revoked=revoked)
        age = now_ms - min(each.made_ms for each in asked)
        return Standing(age / 1000, left / 1000, left < self._grace_ms, revoked)

    def _has_room(self, held: _Held, before: _Held | None) -> bool:
        """Whether one more is kept, in the place of the one before it: not more than the tree may need, nor than one neighbour
        may fill the memory with."""
        if before is None and len(self._held) >= LISTS_MAX:
            return False
        if held.source is None:
            return True
        number, chars = self._brought[held.source], self._chars[held.source]
        if before is not None and before.source == held.source:
            number, chars = number - 1, chars - before.chars
        return number < FROM_ONE_MAX and chars + held.chars <= FROM_ONE_CHARS_MAX

    def _keep(self, held: _Held, before: _Held | None) -> None:
        for each, sign in ((held, 1), *([(before, -1)] if before is not None else [])):
            self._brought[each.source] += sign
            self._chars[each.source] += sign * each.chars
        self._held[held.proven.says.issuer] = held
        self._says[held.proven.says.issuer] = held.proven.says

    def _load(self) -> None:
        try:
            rows = Fields(strict_json(self._path.read_bytes()), "lists").items("lists", LISTS_MAX)
            read = [Fields(row, "list") for row in rows]
            told = [Listed(row.text("authority", AUTHORITY_CHARS_MAX), row.text("list", LIST_CHARS_MAX)) for row in read]
        except FileNotFoundError:
            return
        except (OSError, Refused) as error:
            log.error("kept revocation lists not usable, they come anew", reason=str(error)[:300])
            return
        for each in told:
            try:
                self.take(self.prove(each), None)
            except NoList as error:
                log.warning("kept revocation list dropped", reason=str(error))


def _is_authority(certificate: x509.Certificate) -> bool:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)

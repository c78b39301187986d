"""The parent's side of enrolment: invitations, approval, the certificate and the place a newcomer gets.

Used by `truc peer` and by the running node alike; the peers file and its lock are what they share. Every step is written down
before it is told, and can be asked for again by the key that took it. Knows `core`, the peers file, this node's authority and
the directory file; nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from cryptography import x509

from node.adapters import authority, directory_file, peers
from node.adapters.directory_file import DirectoryFileError
from node.adapters.folders import BadFile, locked, write
from node.adapters.issuing import Issuing
from node.adapters.peers import Book, Peer
from node.core.directory import Directory
from node.core.enrolment import HOUR_MS, INVITED_H, SECRET_BYTES, Invitation, Token, find, hashed, overshadowed, placed
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId

log = structlog.get_logger()

FAULT_RETRY_S = 10.0
WAITING_RETRY_S = 2.0

T = TypeVar("T")


class Run(Protocol):
    """Does work on a thread for files and returns what it returns."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class Request:
    """What a newcomer sends. secret: of its token. link, authority: its two requests (CSR, PEM), the second may be ""."""

    secret: bytes
    link: str
    authority: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What it gets, all PEM but the directory: link chain, chain of its authority ("" if not asked), roots, directory file."""

    code: OrgId
    link: str
    authority: str
    trust: str
    directory: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A person has to approve first (`truc peer approve`)."""

    code: OrgId


class Enrolment:
    """The files of one node that take part. declared: children that the configuration registers, which no invitation replaces."""

    def __init__(
        self,
        own: OrgId,
        zone: str,
        book: Path,
        issuing: Issuing,
        files: tuple[Path, Path, Path],
        declared: frozenset[OrgId],
    ) -> None:
        """files: this node's link certificate, the roots it trusts, the directory."""
        self._own = own
        self._zone = zone
        self._book = book
        self._issuing = issuing
        self._certificate, self._trust, self._directory = files
        self._declared = declared
        self.secrets = peers.Secrets(book)

    def invite(self, invitation: Invitation, secret: bytes) -> Token:
        """Keep the invitation, its secret hashed, and make the token. `Refused(PEER_REGISTERED)` for a code that is registered,
        unless it is a transfer; `BadFile` where this node may not give the code, its name or its place."""
        assert len(secret) == SECRET_BYTES
        kept = replace(invitation, secret_sha256=hashed(secret))
        if kept.transfer:  # it takes over all that the machine before it covers
            node = self._load().node(kept.code)
            kept = replace(kept, tier=node.tier, prefixes=node.prefixes) if node is not None else kept
        self._refuse_outside(kept)
        self._place(kept, keep=False)

        def change(book: Book) -> Book:
            known = kept.code in self._declared or kept.code in book.pins()
            if kept.code in self._declared or (known and not kept.transfer):
                raise Refused(Reason.PEER_REGISTERED, "code", str(kept.code))
            return book.with_invitation(kept)

        peers.update(self._book, change)
        root, own = self._first(self._trust), self._first(self._certificate)
        key = bytes.fromhex(authority.pin_of(own))
        return Token(kept.code, self._own, self._zone, authority.fingerprint(root), key, secret)

    def overshadowed(self, invitation: Invitation) -> tuple[tuple[OrgId, OrgId], ...]:
        """What of the invitation lies below a sibling, each code with that sibling."""
        return overshadowed(self._load(), self._own, invitation)

    def approve(self, code: OrgId, pin: str, now_ms: int) -> Invitation | None:
        """Let the key that has asked with the token of this code in; None where that key does not wait. It is told at its next
        question, for which it has a day."""

        def change(book: Book) -> Book:
            waiting = book.invitation(code)
            if waiting is None or not pin or waiting.pin != pin or waiting.granted or now_ms >= waiting.expires_ms:
                return book
            until_ms = max(waiting.expires_ms, now_ms + INVITED_H * HOUR_MS)
            return book.with_invitation(replace(waiting, approved=True, expires_ms=until_ms))

        found = peers.update(self._book, change).invitation(code)
        return found if found is not None and found.approved and found.pin == pin else None

    def remove(self, code: OrgId, why: str, now: datetime) -> bool:
        """Turn a node away and revoke what it has from this authority; its invitation goes too. False: it was neither."""
        before = peers.load(self._book)
        after = peers.update(self._book, lambda book: book.without(code))
        if self._issuing.ready():
            self._issuing.revoke(code, why, now)
        return before != after

    def book(self) -> Book:
        return peers.load(self._book)

    def answer(self, asked: Request, now_ms: int) -> Grant | Waiting:
        """What the bearer of a token gets. Raises `Refused(INVITE_* | PEER_REGISTERED | WIRE_MALFORMED)`, `BadFile` or OSError
        where a file of this node cannot be used; nothing is used up then. The name comes from the invitation alone."""
        pins = _pins(asked)
        found: list[Invitation] = []

        def change(book: Book) -> Book:
            invitation = find(book.invitations, self._taken(book), asked.secret, pins, now_ms)
            if invitation.granted is None and (invitation.auto or invitation.approved):
                invitation, book = self._grant(invitation, book, asked, now_ms)
            found.append(invitation)
            return book.with_invitation(invitation)

        peers.update(self._book, change)
        invitation = found[0]
        if invitation.granted is None:
            return Waiting(invitation.code)
        link, below = invitation.granted
        if not self._issuing.stands(link):
            raise Refused(Reason.INVITE_USED, "token", str(invitation.code))
        self._settle(invitation)
        trust, directory = self._trust.read_text("ascii"), self._directory.read_text("utf-8")
        return Grant(invitation.code, link, below, trust, directory)

    def _settle(self, invitation: Invitation) -> None:
        """Its place in the directory, once: after it is registered and before it hears so. A disk that is full in between leaves
        no newcomer in the directory that nobody let in."""
        if invitation.placed:
            return
        self._place(invitation, keep=True)

        def change(book: Book) -> Book:
            here = book.invitation(invitation.code) == invitation
            return book.with_invitation(replace(invitation, placed=True)) if here else book

        peers.update(self._book, change)

    def _grant(self, invitation: Invitation, book: Book, asked: Request, now_ms: int) -> tuple[Invitation, Book]:
        now = datetime.fromtimestamp(now_ms // 1000, UTC)
        code = invitation.code
        self._place(invitation, keep=False)
        granted = self._issuing.issue(code, invitation.prefixes, asked.link, asked.authority, now)
        if code in book.pins():  # a transfer: from now on the old machine is nobody
            self._issuing.revoke(code, "transfer", now, keep_pins=(granted.pin, granted.authority_pin))
        registered = book.with_peer(Peer(code, invitation.name, (granted.pin,), now_ms))
        log.info("node enrolled", neighbour=str(code), pin=granted.pin, transfer=invitation.transfer)
        return replace(invitation, granted=(granted.certificate, granted.authority)), registered

    def _taken(self, book: Book) -> dict[OrgId, tuple[str, ...]]:
        return {**dict.fromkeys(self._declared, ()), **book.pins()}

    def _place(self, invitation: Invitation, *, keep: bool) -> None:
        """Whether the directory has room for the newcomer; keep: write it there."""
        with locked(self._directory):
            directory = self._load()
            try:
                changed = placed(directory, self._own, invitation)
            except ValueError as error:
                vi = f"{self._directory}: chưa đặt được {invitation.code} vào danh mục ({error})"
                raise BadFile(vi, f"{self._directory}: {invitation.code} has no place in it ({error})") from None
            if keep and changed is not directory:
                write(self._directory, directory_file.dump(changed))

    def _refuse_outside(self, invitation: Invitation) -> None:
        for code in (invitation.code, *invitation.prefixes):
            if code == self._own or not self._issuing.permits(code):
                vi = f"{code} không nằm dưới nút này: chứng thư cấp phát ở {self._issuing.folder} không được ký cho mã đó"
                raise BadFile(vi, f"{code} is not below this node: its authority in {self._issuing.folder} may not sign for it")

    def _load(self) -> Directory:
        try:
            return directory_file.load(self._directory)
        except DirectoryFileError as error:
            raise BadFile(f"danh mục chưa dùng được: {error}", f"the directory cannot be used: {error}") from None

    def _first(self, path: Path) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificates(path.read_bytes())[0]
        except ValueError:
            raise BadFile(f"{path}: không phải chứng thư dạng PEM", f"{path}: no PEM certificate") from None


class Renewals:
    """The parent's side of a renewal: new certificates for a child that shows its old one. book: where enrolled children are."""

    def __init__(self, issuing: Issuing, book: Path | None, directory: Path) -> None:
        self._issuing = issuing
        self._book = book
        self._directory = directory

    def renew(self, code: OrgId, shown: str, known: Collection[str], asked: Request, now_ms: int) -> tuple[str, str]:
        """The chains for the two requests ("" if the second is not asked for). shown: the pin of the key that asks, known: those
        it is registered under. A new key is registered beside the one shown, before it is certified to anybody; one that the
        configuration pins is changed there. Raises `Refused(WIRE_MALFORMED | PEER_KEY | OPERATION_UNKNOWN)`, Deferred, `BadFile`.
        """
        pin, _ = _pins(asked)
        if not self._issuing.ready():
            raise Refused(Reason.OPERATION_UNKNOWN, "renew")
        enrolled = self._book is not None and code in peers.load(self._book).pins()
        if known and pin not in known and not enrolled:
            raise Refused(Reason.PEER_KEY, "csr", pin)
        node = directory_file.load(self._directory).node(code)
        now = datetime.fromtimestamp(now_ms // 1000, UTC)
        granted = self._issuing.issue(code, node.prefixes if node is not None else (), asked.link, asked.authority, now)

        def change(book: Book) -> Book:
            peer = next((each for each in book.peers if each.code == code), None)
            if peer is None or pin in peer.pins:
                return book
            return book.with_peer(replace(peer, pins=(shown, pin)))

        if self._book is not None and enrolled:
            peers.update(self._book, change)
        log.info("certificate renewed for a node below", neighbour=str(code), pin=pin, new_key=pin not in known)
        return granted.certificate, granted.authority


class Newcomers:
    """The running node's answers to newcomers. run: does work that waits for the disk, off the event loop. granted: hears when
    one was let in, to take it as a neighbour at once."""

    def __init__(self, enrolment: Enrolment, run: Run, utc_ms: Callable[[], int], granted: Callable[[], None]) -> None:
        self._enrolment = enrolment
        self._run = run
        self._utc_ms = utc_ms
        self._granted = granted

    async def answer(self, secret: bytes, csr: str, below: str) -> dict[str, Any]:
        """The fields of an answer. Raises as `Enrolment.answer`; where a file of ours is at fault, `Deferred` and an error in the
        log: the newcomer cannot help it, and its token is not used up."""
        now_ms = self._utc_ms()
        secrets = self._enrolment.secrets
        try:
            if secrets.stale():
                await self._run(secrets.read)
            if hashed(secret) not in secrets:  # known without a look at the file: guessing costs this node nothing
                raise Refused(Reason.INVITE_UNKNOWN, "token")
            outcome = await self._run(lambda: self._enrolment.answer(Request(secret, csr, below), now_ms))
        except (BadFile, OSError) as error:
            log.error("newcomer not answered, a file of this node is at fault", reason=str(error)[:500])
            raise Deferred(FAULT_RETRY_S) from None
        if isinstance(outcome, Waiting):
            log.info("newcomer waits for approval", neighbour=str(outcome.code))
            return {"state": "waiting", "code": str(outcome.code), "retry_s": WAITING_RETRY_S}
        self._granted()
        return {
            "state": "granted",
            "code": str(outcome.code),
            "certificate": outcome.link,
            "authority": outcome.authority,
            "trust": outcome.trust,
            "directory": outcome.directory,
        }


def _pins(asked: Request) -> tuple[str, str]:
    """The pins of the requested keys. Refused before the token is looked at, so a bad request uses nothing up."""
    try:
        key = authority.requested_key(asked.link)
        below = authority.pin(authority.requested_key(asked.authority)) if asked.authority else ""
    except ValueError as error:
        raise Refused(Reason.WIRE_MALFORMED, "csr", rule=str(error)) from None
    return authority.pin(key), below

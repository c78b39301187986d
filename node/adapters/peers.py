"""Nodes right below that were registered by enrolment, and the invitations to it: one JSON file (mode 0600) that `truc peer` and
the running node both write, under one lock.

It holds hashes of secrets, so a file that others may read is refused. A file that breaks later keeps the last good one in use,
with an error in the log. Knows `core`, small files, and the form in which TLS looks a peer up.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from node.adapters.folders import SECRET, BadFile, locked, write
from node.core.enrolment import NAME_CHARS_MAX, Invitation
from node.core.errors import Refused
from node.core.identifier import OrgId

FORMAT = "truc-peers-1"
PEERS_MAX = 20_000
INVITATIONS_MAX = 20_000
"""One for each code: a used one stays (its answer may be lost) until the code is invited anew or removed."""
PINS_MAX = 4
_HEX = r"^[0-9a-f]{64}$"

log = structlog.get_logger()


def _code(value: object) -> OrgId:
    if isinstance(value, OrgId):
        return value
    try:
        return OrgId.canonical(str(value))
    except Refused as refused:
        raise ValueError(f"not a code root first in upper case: {refused.reason}") from None


_Code = Annotated[OrgId, PlainValidator(_code), PlainSerializer(str)]
_Pin = Annotated[str, Field(pattern=_HEX)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Peer(_Row):
    code: _Code
    name: str = Field(max_length=NAME_CHARS_MAX)
    pins: tuple[_Pin, ...] = Field(min_length=1, max_length=PINS_MAX)
    since_ms: int = Field(ge=0)


class _Invitation(_Row):
    code: _Code
    name: str = Field(max_length=NAME_CHARS_MAX)
    tier: str = Field(default="", max_length=40)
    prefixes: tuple[_Code, ...] = Field(default=(), max_length=1000)
    secret_sha256: str = Field(pattern=_HEX)
    expires_ms: int = Field(ge=0)
    auto: bool = False
    transfer: bool = False
    approved: bool = False
    pin: str = Field(default="", pattern=f"^$|{_HEX}")
    authority_pin: str = Field(default="", pattern=f"^$|{_HEX}")
    granted: tuple[str, str] | None = None
    placed: bool = False


class _File(_Row):
    format: str = Field(pattern=f"^{FORMAT}$")
    peers: tuple[_Peer, ...] = Field(default=(), max_length=PEERS_MAX)
    invitations: tuple[_Invitation, ...] = Field(default=(), max_length=INVITATIONS_MAX)


@dataclass(frozen=True, slots=True)
class Peer:
    """A node right below. pins: its keys, SHA-256 (hex) of the SPKI. since_ms: when it was registered, UTC."""

    code: OrgId
    name: str
    pins: tuple[str, ...]
    since_ms: int


@dataclass(frozen=True, slots=True)
class Book:
    """The whole file: who is registered, who is invited."""

    peers: tuple[Peer, ...] = ()
    invitations: tuple[Invitation, ...] = ()

    def pins(self) -> dict[OrgId, tuple[str, ...]]:
        return {peer.code: peer.pins for peer in self.peers}

    def with_invitation(self, invitation: Invitation) -> Book:
        """The invitation in the place of any other to the same code: the last one counts. The very same book if it is there."""
        if invitation in self.invitations:
            return self
        others = tuple(each for each in self.invitations if each.code != invitation.code)
        return replace(self, invitations=(*others, invitation))

    def with_peer(self, peer: Peer) -> Book:
        others = tuple(each for each in self.peers if each.code != peer.code)
        return replace(self, peers=(*others, peer))

    def without(self, code: OrgId) -> Book:
        """Neither registered nor invited."""
        peers = tuple(each for each in self.peers if each.code != code)
        return Book(peers, tuple(each for each in self.invitations if each.code != code))

    def invitation(self, code: OrgId) -> Invitation | None:
        return next((each for each in self.invitations if each.code == code), None)


def load(path: Path) -> Book:
    """Read the file; an empty book where there is none. `BadFile` for one that others may read or that has another form."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadFile(f"{path}: người khác đọc được; chạy chmod 600", f"{path}: others may read it; run chmod 600")
        file = _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Book()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        vi = f"{path}: không đọc được ({place}); sửa tệp hoặc lấy lại từ bản sao lưu"
        raise BadFile(vi, f"{path}: cannot be read ({place}: {first['msg']}); mend it or restore it from a backup") from error
    peers = tuple(Peer(row.code, row.name, row.pins, row.since_ms) for row in file.peers)
    fields = _Invitation.model_fields
    return Book(peers, tuple(Invitation(**{name: getattr(row, name) for name in fields}) for row in file.invitations))


def update(path: Path, change: Callable[[Book], Book]) -> Book:
    """Read, change and write under the file's lock; the book as it is now. What `change` raises leaves the file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        before = load(path)
        after = change(before)
        if after != before:
            write(path, _text(after), SECRET)
        return after


def stamp(path: Path | None) -> tuple[int, ...]:
    """What changes when the file does; () where there is none."""
    try:
        facts = path.stat() if path is not None else None
    except OSError:
        facts = None
    return () if facts is None else (facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_mode)


class Secrets:
    """Hashes of the secrets of all invitations, so that a wrong one is known without reading the book."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self._hashes: frozenset[str] = frozenset()

    def stale(self) -> bool:
        """Whether the book has changed since `read`."""
        return stamp(self._path) != self._stamp

    def read(self) -> None:
        """As `load`, which see."""
        found = stamp(self._path)
        self._hashes = frozenset(each.secret_sha256 for each in load(self._path).invitations)
        self._stamp = found

    def __contains__(self, secret_sha256: object) -> bool:
        return secret_sha256 in self._hashes


def _text(book: Book) -> str:
    peers = tuple(_Peer(code=each.code, name=each.name, pins=each.pins, since_ms=each.since_ms) for each in book.peers)
    fields = _Invitation.model_fields
    invitations = tuple(_Invitation(**{name: getattr(each, name) for name in fields}) for each in book.invitations)
    file = _File(format=FORMAT, peers=peers, invitations=invitations)
    return json.dumps(file.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n"


class Peers(Mapping[str, tuple[OrgId, Collection[str]]]):
    """Who may call from below, as TLS looks them up (DNS name -> code, pins): those of the configuration, which never change, and
    those of the file as it is now. met: hears the code of each as it becomes known. version: grows as they change.

    Asked at every request, so a removed or transferred node is turned away at its next one. `BadFile` at the start alone.
    """

    def __init__(
        self,
        path: Path | None,
        zone: str,
        declared: Mapping[str, tuple[OrgId, Collection[str]]],
        met: Callable[[OrgId], None] = lambda code: None,
    ) -> None:
        self._path = path
        self._zone = zone
        self._declared = declared
        self._met = met
        self.version = 0
        self._stamp = stamp(path)
        self._known = self._read()

    def __getitem__(self, name: str) -> tuple[OrgId, Collection[str]]:
        self._refresh()
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        self._refresh()
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        self._refresh()
        return iter(tuple(self._known))

    def __len__(self) -> int:
        self._refresh()
        return len(self._known)

    def codes(self) -> tuple[OrgId, ...]:
        """Everybody below, the declared ones first."""
        self._refresh()
        return tuple(code for code, _ in self._known.values())

    def _refresh(self) -> None:
        found = stamp(self._path)
        if found == self._stamp:
            return
        self._stamp = found
        try:
            self._known = self._read()
        except (BadFile, OSError) as error:
            log.error("peers file not usable, keeping the last good one", reason=str(error)[:500])
            return
        self.version += 1
        log.info("peers file read again", count=len(self._known))
        for code, _ in self._known.values():
            self._met(code)

    def _read(self) -> dict[str, tuple[OrgId, Collection[str]]]:
        book = load(self._path) if self._path is not None else Book()
        enrolled = {code.dns_name(self._zone): (code, frozenset(pins)) for code, pins in book.pins().items()}
        return {**enrolled, **self._declared}

"""A hub that enrols, as files: its authority, its certificate, its directory; and newcomers with keys of their own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from node.adapters import authority, directory_file
from node.adapters.enrolment import Enrolment, Request
from node.adapters.folders import write
from node.adapters.issuing import Issuing
from node.core.directory import Directory, NodeEntry
from node.core.enrolment import Invitation, Token
from node.core.identifier import HUB, OrgId

ZONE = "small.test"
H41, H14 = OrgId(("H41",)), OrgId(("H14",))


class Hub:
    """Everything under one folder. now_ms: the host's time, as OpenSSL judges some of it."""

    def __init__(self, folder: Path, declared: frozenset[OrgId] = frozenset()) -> None:
        self.folder = folder
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.now_ms = int(self.now.timestamp() * 1000)
        self.issuing = Issuing(folder / "ca", ZONE, HUB)
        write(self.trust, self.issuing.found(self.now))
        asked = authority.request(authority.kept_key(folder / "link"), [ZONE])
        write(self.certificate, self.issuing.issue(HUB, (), asked, "", self.now).certificate)
        nodes = (NodeEntry(HUB, "Gốc", "", None, ()),)
        write(self.directory, directory_file.dump(Directory((), nodes, "Trục", "TRUC", 1)))
        self.enrolment = Enrolment(HUB, ZONE, self.book, self.issuing, (self.certificate, self.trust, self.directory), declared)
        self._secrets = 0

    @property
    def certificate(self) -> Path:
        return self.folder / "link.pem"

    @property
    def key(self) -> Path:
        return self.folder / "link.key"

    @property
    def trust(self) -> Path:
        return self.folder / "trust.pem"

    @property
    def directory(self) -> Path:
        return self.folder / "directory.json"

    @property
    def book(self) -> Path:
        return self.folder / "peers.json"

    def invite(
        self,
        code: OrgId = H41,
        *,
        auto: bool = True,
        transfer: bool = False,
        hours: float = 1,
        prefixes: tuple[OrgId, ...] = (),
    ) -> Token:
        self._secrets += 1
        ends_ms = self.now_ms + int(hours * 3_600_000)
        asked = Invitation(code, f"Nút {code}", "", prefixes, "", ends_ms, auto, transfer)
        return self.enrolment.invite(asked, self._secrets.to_bytes(16, "big"))


class Newcomer:
    """A machine with its keys. named: what its requests ask to be called."""

    def __init__(self, *named: str) -> None:
        self.key, self.below = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.named = named or ("anything.test",)

    @property
    def pin(self) -> str:
        return authority.pin(self.key.public_key())

    @property
    def csr(self) -> str:
        return authority.request(self.key, self.named)

    @property
    def authority_csr(self) -> str:
        return authority.request(self.below, self.named)

    def request(self, token: Token) -> Request:
        return Request(token.secret, self.csr, self.authority_csr)

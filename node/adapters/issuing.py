"""The authority of one node as a folder: what `truc ca` keeps there, and what it signs for the nodes right below.

    root.key root.pem root.crl       the hub only; the key may be kept elsewhere once the issuing certificate is made
    issuing.key issuing.pem          what signs; issuing.pem holds the chain up to, not with, the root
    issuing.crl                      the revocation list of what issuing.key signed
    issued.json                      all that was signed, with serial number, key and end, and what was revoked since
    root-cross.pem                   where the root has taken another's place: the old one's word for it
    retired/<pin>.key .pem .crl      keys that signed before, for the lists of what they signed
    next.key                         the key that will sign next, until its certificate is there
    office-root.key office-root.pem  signs the certificate of this node's own office listener and nothing else

A certificate is written down before it is handed out: what nobody remembers nobody can revoke. Knows `core`, certificates and
small files; nothing of invitations or of who calls.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from node.adapters import authority
from node.adapters.folders import PUBLIC, SECRET, BadFile, locked, make_folder, sync_folder, write
from node.core.errors import Deferred
from node.core.identifier import OrgId, tops

FORMAT = "truc-issued-1"
ISSUED_MAX = 100_000
LIST_RENEWED_BEFORE = authority.LIST_LIFE / 2
"""A list is signed anew when less than this is left of it."""
ISSUED_A_DAY_MAX = 40
"""Certificates for one node in a day: a neighbour that asks without end does not fill the record."""
LISTED_AFTER = timedelta(days=60)
"""A certificate that was revoked stays on the list so long after its own end; then its dates alone refuse it."""
NODE, AUTHORITY = "node", "authority"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    serial: str = Field(pattern=r"^[0-9a-f]{1,40}$")
    code: str = Field(max_length=35)
    kind: str = Field(pattern="^(node|authority)$")
    pin: str = Field(pattern=r"^[0-9a-f]{64}$")
    issued: datetime
    ends: datetime
    by: str = Field(default="", pattern=r"^(|[0-9a-f]{64})$")
    revoked: datetime | None = None
    why: str = Field(default="", max_length=200)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = Field(pattern=f"^{FORMAT}$")
    list_number: int = Field(ge=0)
    issued: tuple[_Row, ...] = Field(max_length=ISSUED_MAX)


Issued = _Row
"""One certificate of this authority. serial: hex. code: of the node it names. kind: node or authority. Instants in UTC. by:
the pin of the key that signed it; "": the one that signs now."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What a node gets for its two requests: PEM chains, the leaf first, the root not among them. authority: "" if not asked."""

    certificate: str
    authority: str
    pin: str
    authority_pin: str


class Issuing:
    """The folder of an authority. zone: of the tree. own: the code of the node it belongs to.

    All raise `BadFile` (texts in both languages) where a kept file is missing or is not what it should be, and OSError.
    """

    def __init__(self, folder: Path, zone: str, own: OrgId) -> None:
        self.folder = folder
        self._zone = zone
        self._own = own

    def found(self, now: datetime) -> str:
        """Make the root and the hub's issuing certificate, or what is missing of them; the root (PEM)."""
        make_folder(self.folder, 0o700)
        with locked(self._record):
            if (self.folder / "root.pem").is_file() and (self.ready() or not (self.folder / "root.key").is_file()):
                return (self.folder / "root.pem").read_text("ascii")  # founded; its key may lie elsewhere by now
            top = authority.root(self.folder / "root", f"truc root {self._zone}", now)
            authority.issuing(top, self.folder / "issuing", f"truc issuing {self._zone}", (self._zone,), now)
            self._sign_lists(self._load(), now)
            write(self.folder / "root.crl", authority.root_list(top, now))
        return authority.pem(top.certificate)

    def rotate_root(self, now: datetime) -> tuple[str, str]:
        """At the hub: a new root with a new key, the old one's word for it, and the issuing certificate anew under both. What was
        signed before goes on; who trusts the old root alone believes what is below the new one. Both roots, PEM, new and old."""
        with locked(self._record):
            self._mend()
            old = authority.kept(self.folder / "root")
            new = authority.root(self.folder / "root-next", f"truc root {self._zone} {now:%Y-%m-%d %H:%M:%S}", now)
            write(self.folder / "root-cross.pem", authority.pem(authority.cross(old, new, now)))
            self._retire("root", authority.pin_of(old.certificate))
            self._swap("root-next", "root")
            write(self.folder / "root.crl", authority.root_list(new, now))
            signer = self._kept()
            key = signer.key.public_key()
            fresh = authority.signed_authority(new, key, f"truc issuing {self._zone}", (self._zone,), now)
            write(self.folder / "issuing.pem", authority.pem(fresh) + self._cross())
        return authority.pem(new.certificate), authority.pem(old.certificate)

    def rotate_hub(self, now: datetime) -> None:
        """At the hub: another issuing key, certified by the root, whose key must be here."""
        with locked(self._record):
            top = authority.kept(self.folder / "root")
            key = authority.kept_key(self.folder / "next").public_key()
            fresh = authority.signed_authority(top, key, f"truc issuing {self._zone}", (self._zone,), now)
            self._succeed(authority.pem(fresh) + self._cross(), now)

    def ask_next(self) -> str:
        """Below the hub: the request (CSR, PEM) for another issuing key, which is made here and stays."""
        return authority.request(authority.kept_key(self.folder / "next"), [self._own.dns_name(self._zone)])

    def answered_next(self, chain: str, now: datetime) -> None:
        """Sign with that key from now on. `BadFile` where the chain is not for it."""
        with locked(self._record):
            authority.answers(self.folder / "next", chain)
            self._succeed(chain, now)

    def _cross(self) -> str:
        path = self.folder / "root-cross.pem"
        return path.read_text("ascii") if path.is_file() else ""

    def _succeed(self, chain: str, now: datetime) -> None:
        """The next key in the place of the one that signs, whose lists go on being made as long as what it signed lasts."""
        old = authority.pin_of(self._kept().certificate)
        found = self._load()
        rows = [row if row.by else Issued.model_validate({**row.model_dump(), "by": old}) for row in found.issued]
        self._save(replace_rows(found, rows))
        self._retire("issuing", old)
        write(self.folder / "next.pem", chain)
        self._swap("next", "issuing")
        self._sign_lists(self._load(), now)

    def _swap(self, fresh: str, name: str) -> None:
        """The key first: a certificate that is left without its key belongs to the one that was put in place."""
        for ending in (".key", ".pem"):
            (self.folder / f"{fresh}{ending}").replace(self.folder / f"{name}{ending}")
        sync_folder(self.folder)

    def _mend(self) -> None:
        """Finish what a crash has interrupted in `_swap`."""
        for fresh, name in (("next", "issuing"), ("root-next", "root")):
            left = self.folder / f"{fresh}.pem"
            if left.is_file() and not left.with_suffix(".key").is_file():
                left.replace(self.folder / f"{name}.pem")

    def _retire(self, what: str, pin: str) -> None:
        """A copy of a key and its certificate for the lists of what it signed."""
        retired = self.folder / "retired"
        make_folder(retired, 0o700)
        for ending, mode in ((".key", SECRET), (".pem", PUBLIC), (".crl", PUBLIC)):
            path = self.folder / f"{what}{ending}"
            if path.is_file():
                write(retired / f"{pin}{ending}", path.read_text("ascii"), mode)

    def ask(self) -> str:
        """Below the hub: the request (CSR, PEM) for this node's issuing certificate; its key is made here and stays."""
        make_folder(self.folder, 0o700)
        return authority.request(authority.kept_key(self.folder / "issuing"), [self._own.dns_name(self._zone)])

    def answered(self, chain: str, now: datetime) -> None:
        """Keep the issuing certificate that was asked for, with the chain above it. `BadFile` where it is not for our key."""
        with locked(self._record):
            authority.answers(self.folder / "issuing", chain)
            write(self.folder / "issuing.pem", chain)
            self._sign_lists(self._load(), now)

    def ready(self) -> bool:
        """Whether it can sign."""
        return all((self.folder / name).is_file() for name in ("issuing.key", "issuing.pem"))

    def own_office(self, files: Path, names: Sequence[str], now: datetime) -> None:
        """A certificate for this node's office listener, from a root of its own that connectors are given."""
        make_folder(self.folder, 0o700)
        top = authority.root(self.folder / "office-root", f"truc office root {self._own.dns_name(self._zone)}", now)
        authority.office_certificate(top, files, names, now)

    def renew_office(self, certificate: Path, key: Path, now: datetime) -> bool:
        """A newer certificate for the office listener under the same names, where it is near its end and from that root."""
        top = self.folder / "office-root.pem"
        stem = certificate.with_suffix("")
        if not top.is_file() or not certificate.is_file() or key != stem.with_suffix(".key"):
            return False
        current = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        root = x509.load_pem_x509_certificate(top.read_bytes())
        if current.issuer != root.subject or now < current.not_valid_after_utc - authority.RENEWED_BEFORE:
            return False
        names = current.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.own_office(stem, [str(name.value) for name in names], now)
        return True

    def permits(self, code: OrgId) -> bool:
        """Whether this authority may sign for the node of that code."""
        return self._kept().permits(code.dns_name(self._zone))

    def issue(self, code: OrgId, prefixes: Sequence[OrgId], asked: str, authority_asked: str, now: datetime) -> Granted:
        """Sign for the node `code`: its link certificate for the key in `asked` and, where `authority_asked` is no "", an issuing
        certificate for the names of its prefixes. The name comes from `code` alone. ValueError where a request is no good one,
        `Deferred` where the node has had too many today.
        """
        with locked(self._record):
            signer = self._kept()
            dns = code.dns_name(self._zone)
            permitted = [each.dns_name(self._zone) for each in tops((code, *prefixes))]
            outside = [name for name in (dns, *permitted) if not signer.permits(name)]
            if outside:
                vi = f"{self.folder}: chứng thư cấp phát của nút này không được ký cho {outside[0]}"
                raise BadFile(vi, f"{self.folder}: this node's issuing certificate may not sign for {outside[0]}")
            leaf = authority.signed_node(signer, authority.requested_key(asked), dns, now)
            rows = [_row(leaf, code, NODE, now)]
            chain = ""
            if authority_asked:
                key = authority.requested_key(authority_asked)
                below = authority.signed_authority(signer, key, f"truc issuing {dns}", permitted, now)
                rows.append(_row(below, code, AUTHORITY, now))
                chain = authority.chain_text(below, signer)
            found = self._load()
            today = [row for row in found.issued if row.code == str(code) and now - row.issued < timedelta(days=1)]
            if len(today) >= ISSUED_A_DAY_MAX:
                raise Deferred(3600.0)
            lasting = [row for row in found.issued if now < row.ends + LISTED_AFTER]
            self._save(replace_rows(found, (*lasting, *rows)))
        return Granted(authority.chain_text(leaf, signer), chain, rows[0].pin, rows[-1].pin)

    def issued(self) -> tuple[Issued, ...]:
        """All that was signed, oldest first."""
        return self._load().issued

    def stands(self, chain: str) -> bool:
        """Whether the first certificate of a chain (PEM) is one of ours that was not revoked."""
        serial = f"{x509.load_pem_x509_certificates(chain.encode())[0].serial_number:x}"
        return any(row.serial == serial and row.revoked is None for row in self.issued())

    def revoke(self, code: OrgId, why: str, now: datetime, keep_pins: Sequence[str] = ()) -> tuple[Issued, ...]:
        """Revoke what the node `code` has of this authority, but for the keys keep_pins; returns what was revoked now. The
        list is signed anew in the same act."""
        with locked(self._record):
            found = self._load()
            ended = [_revoked(row, why, now) if _stands(row, code, keep_pins) else row for row in found.issued]
            fresh = tuple(row for row, before in zip(ended, found.issued, strict=True) if row is not before)
            self._sign_lists(replace_rows(found, ended), now)
        return fresh

    def revocations(self, now: datetime) -> str:
        """The revocation list (PEM), signed anew where it is missing or past its half."""
        path = self.folder / "issuing.crl"
        with locked(self._record):
            try:
                current = path.read_text(encoding="ascii")
                if authority.list_ends(current) - now > LIST_RENEWED_BEFORE:
                    return current
            except (OSError, ValueError):
                pass  # none yet, or none that could be read: signed anew from the record
            self._sign_lists(self._load(), now)
            return path.read_text(encoding="ascii")

    def lists(self, now: datetime) -> tuple[tuple[str, str], ...]:
        """All revocation lists made here, each with its authority's chain, PEM: of what signs now where it has signed anything,
        of what signed before, and of the root, whose list lives longer because its key may be away."""
        found = [(self.chain(), self.revocations(now))] if self.issued() else []
        for path in sorted((self.folder / "retired").glob("*.crl")):
            found.append((path.with_suffix(".pem").read_text("ascii"), path.read_text("ascii")))
        top, listed = self.folder / "root.pem", self.folder / "root.crl"
        if top.is_file() and listed.is_file():
            found.append((top.read_text("ascii"), self._root_list(now)))
        return tuple(found)

    def stamp(self) -> tuple[int, ...]:
        """What changes when something here does."""
        names = ("issued.json", "issuing.pem", "issuing.crl", "root.pem", "root.crl")
        facts = [path.stat() for path in map(self.folder.joinpath, names) if path.is_file()]
        return tuple(number for each in facts for number in (each.st_mtime_ns, each.st_ino, each.st_size))

    def _root_list(self, now: datetime) -> str:
        path = self.folder / "root.crl"
        current = path.read_text("ascii")
        if authority.list_ends(current) - now > authority.ROOT_LIST_LIFE / 2 or not (self.folder / "root.key").is_file():
            return current
        with locked(self._record):
            write(path, authority.root_list(authority.kept(self.folder / "root"), now))
        return path.read_text("ascii")

    def chain(self) -> str:
        """The issuing certificate with those above it but the root, PEM."""
        return self._kept().chain

    @property
    def _record(self) -> Path:
        return self.folder / "issued.json"

    def certificate(self) -> bytes:
        """The certificate of what signs, DER."""
        return self._kept().certificate.public_bytes(Encoding.DER)

    def crosses(self) -> tuple[str, ...]:
        """Where the root has taken another's place, the old one's word for it, PEM."""
        return tuple(path.read_text("ascii") for path in (self.folder / "root-cross.pem",) if path.is_file())

    def _kept(self) -> authority.Authority:
        self._mend()
        return authority.kept(self.folder / "issuing")

    def _sign_lists(self, found: _File, now: datetime) -> None:
        """All lists anew, under one number: of the key that signs and of each that signed before and has rows still."""
        numbered = _file(found.list_number + 1, found.issued)
        self._save(numbered)
        self._sign_list(numbered, self._kept(), self.folder / "issuing.crl", now)
        for path in sorted((self.folder / "retired").glob("*.key")):
            if any(row.by == path.stem for row in found.issued):
                self._sign_list(numbered, authority.kept(path.with_suffix("")), path.with_suffix(".crl"), now)

    def _sign_list(self, found: _File, signer: authority.Authority, path: Path, now: datetime) -> None:
        pin = authority.pin_of(signer.certificate)
        mine = [row for row in found.issued if (row.by or self._signs()) == pin and now < row.ends + LISTED_AFTER]
        revoked = [(int(row.serial, 16), row.revoked) for row in mine if row.revoked is not None]
        write(path, authority.revocation_list(signer, revoked, found.list_number, now))

    def _signs(self) -> str:
        return authority.pin_of(self._kept().certificate)

    def _load(self) -> _File:
        try:
            return _File.model_validate_json(self._record.read_bytes())
        except FileNotFoundError:
            return _File(format=FORMAT, list_number=0, issued=())
        except ValidationError as error:
            vi = f"{self._record}: không đọc được sổ chứng thư đã cấp; lấy lại từ bản sao lưu"
            raise BadFile(vi, f"{self._record}: not a record of issued certificates; restore it from a backup") from error

    def _save(self, file: _File) -> None:
        rows = ",\n".join(f"  {json.dumps(row.model_dump(mode='json'), ensure_ascii=False)}" for row in file.issued)
        head = f'"format": "{FORMAT}", "list_number": {file.list_number}'
        write(self._record, f'{{{head}, "issued": [\n{rows}\n]}}\n', SECRET)


def replace_rows(file: _File, rows: Sequence[Issued]) -> _File:
    """The record with other rows."""
    return _file(file.list_number, rows)


def _file(list_number: int, rows: Sequence[Issued]) -> _File:
    """Judged like one that is read: what could not be read again is not written. `BadFile` where it has grown too large."""
    if len(rows) > ISSUED_MAX:
        raise BadFile(f"đã cấp quá {ISSUED_MAX} chứng thư", f"more than {ISSUED_MAX} certificates issued")
    return _File(format=FORMAT, list_number=list_number, issued=tuple(rows))


def _row(certificate: x509.Certificate, code: OrgId, kind: str, now: datetime) -> Issued:
    ends = certificate.not_valid_after_utc
    issued = now.astimezone(UTC)
    return Issued(
        serial=f"{certificate.serial_number:x}",
        code=str(code),
        kind=kind,
        pin=authority.pin_of(certificate),
        issued=issued,
        ends=ends,
    )


def _stands(row: Issued, code: OrgId, keep_pins: Sequence[str]) -> bool:
    return row.code == str(code) and row.revoked is None and row.pin not in keep_pins


def _revoked(row: Issued, why: str, now: datetime) -> Issued:
    return Issued.model_validate({**row.model_dump(), "revoked": now, "why": why[:200]})

"""This node's own link key, its certificate and the roots it trusts, as files, and how each is replaced while it serves.

A new certificate for the same key takes the place of the old one at once. One for a new key waits in next-link.key and
next-link.pem until the neighbours have heard the old key's word for it; then both take their places, the key first, and what a
crash has left in between is finished at the next start. What the parent hands over is kept beside them. Knows certificates and
small files; nothing of links.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from node.adapters import authority
from node.adapters.folders import SECRET, BadFile, sync_folder, write
from node.core.standing import Handover, Roots

log = structlog.get_logger()

FEW = 16


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(max_length=1000)
    pin: str = Field(pattern=r"^[0-9a-f]{64}$")
    signature: str = Field(pattern=r"^[0-9a-f]{1,200}$")


class _Kept(BaseModel):
    """handovers: of our own key. pins: of the parent's, heard. crosses: old roots' words for new ones, heard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    handovers: tuple[_Row, ...] = Field(default=(), max_length=FEW)
    pins: tuple[str, ...] = Field(default=(), max_length=FEW)
    crosses: tuple[str, ...] = Field(default=(), max_length=FEW)


@dataclass(frozen=True, slots=True)
class Files:
    """certificate, key: of the link. trust: the roots. kept: what is remembered beside them. others: watched like these."""

    certificate: Path
    key: Path
    trust: Path
    kept: Path
    others: tuple[Path, ...] = ()


class OwnKeys:
    """dns: this node's one name. parent_pins: the keys of the parent that the configuration names; none: any key will do.

    Methods that write wait for the disk: they are for a thread. `BadFile` and OSError where a file is not what it should be.
    """

    def __init__(self, files: Files, dns: str, parent_pins: Sequence[str]) -> None:
        self._files = files
        self._dns = dns
        self._declared = frozenset(each.lower() for each in parent_pins)
        finish(files)
        self._kept = self._load()

    def stamp(self) -> tuple[int, ...]:
        """What changes when one of the files does."""
        paths = (self._files.certificate, self._files.key, self._files.trust, *self._files.others)
        facts = [path.stat() for path in paths if path.is_file()]
        return tuple(number for each in facts for number in (each.st_mtime_ns, each.st_ino, each.st_size))

    # the key and its certificate

    def ask(self, *, new_key: bool) -> str:
        """A request (CSR, PEM) for this key, or for a new one that is made now, or was before."""
        key = self._key(self._files.key) if not new_key else authority.kept_key(self._next.with_suffix(""))
        return authority.request(key, [self._dns])

    def take(self, chain: str) -> bool:
        """Keep the certificate that was asked for; whether it is for the next key, which waits for `switch`. `BadFile` where it
        is for none of our keys, under another name, or not under a root of ours."""
        roots = x509.load_pem_x509_certificates(self._files.trust.read_bytes())
        try:
            certificates = authority.read_told(chain)
            authority.anchored(certificates, roots)
            names = certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound) as error:
            raise _unasked() from error
        if [name.value for name in names] != [self._dns]:
            raise _unasked()
        pin = authority.pin_of(certificates[0])
        old = self._key(self._files.key)
        if pin == authority.pin(old.public_key()):
            write(self._files.certificate, chain)
            return False
        if not self._next.is_file() or pin != authority.pin(self._key(self._next).public_key()):
            raise _unasked()
        word = authority.hand_over(old, pin)
        rows = (*(row for row in self._kept.handovers if row.pin != pin), _Row(**asdict(word)))[-FEW:]
        self._keep(_Kept(**{**self._kept.model_dump(), "handovers": rows}))
        write(self._next.with_suffix(".pem"), chain)
        return True

    def is_under(self, issuer: bytes) -> bool:
        """Whether our certificate was signed by the bearer of this one (DER), as it is now."""
        chain = x509.load_pem_x509_certificates(self._files.certificate.read_bytes())
        return len(chain) > 1 and chain[1].public_bytes(Encoding.DER) == issuer

    def waits(self) -> bool:
        """Whether there is a certificate for the next key."""
        return self._next.with_suffix(".pem").is_file()

    def switch(self) -> None:
        """Put the next key and its certificate in place."""
        self._next.replace(self._files.key)
        finish(self._files)
        sync_folder(self._files.key.parent)

    def handovers(self) -> tuple[Handover, ...]:
        return tuple(Handover(row.key, row.pin, row.signature) for row in self._kept.handovers)

    # the parent's key and the roots

    def parent_pins(self) -> frozenset[str]:
        """The keys by which the parent is known; none: any."""
        return self._declared | frozenset(self._kept.pins) if self._declared else frozenset()

    def hear(self, told: Sequence[Handover]) -> bool:
        """Whether the parent has handed over to a key that was not known."""
        if not self._declared:
            return False
        known = self.parent_pins()
        fresh = authority.taken_over(known, told) - known
        if fresh:
            self._keep(_Kept(**{**self._kept.model_dump(), "pins": (*self._kept.pins, *sorted(fresh))[-FEW:]}))
        return bool(fresh)

    def follow(self, told: Roots) -> bool:
        """Whether the roots that count have changed by what the parent tells. Our own chain must stand under what is left."""
        known = self._files.trust.read_text("ascii")
        fresh = authority.followed(known, told.roots, told.crosses)
        if x509.load_pem_x509_certificates(fresh.encode()) == x509.load_pem_x509_certificates(known.encode()):
            return False
        try:
            chain = x509.load_pem_x509_certificates(self._files.certificate.read_bytes())
            authority.anchored(chain, x509.load_pem_x509_certificates(fresh.encode()))
        except ValueError:
            return False  # our certificate is renewed first
        crosses = tuple(dict.fromkeys((*self._kept.crosses, *told.crosses)))[-FEW:]
        self._keep(_Kept(**{**self._kept.model_dump(), "crosses": crosses}))
        write(self._files.trust, fresh)
        return True

    def roots(self) -> Roots:
        """What the nodes below are told."""
        held = x509.load_pem_x509_certificates(self._files.trust.read_bytes())
        return Roots(tuple(authority.pem(each) for each in held), self._kept.crosses)

    @property
    def _next(self) -> Path:
        return self._files.key.with_name(f"next-{self._files.key.name}")

    def _key(self, path: Path) -> ec.EllipticCurvePrivateKey:
        key = load_pem_private_key(path.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "the node has started with it"
        return key

    def _load(self) -> _Kept:
        try:
            return _Kept.model_validate_json(self._files.kept.read_bytes())
        except FileNotFoundError:
            return _Kept()
        except ValidationError:
            log.error("what was heard of keys is not usable, it comes anew", file=str(self._files.kept))
            return _Kept()

    def _keep(self, kept: _Kept) -> None:
        write(self._files.kept, kept.model_dump_json(indent=1) + "\n", SECRET)
        self._kept = kept


def finish(files: Files) -> None:
    """Finish a switch that a crash has interrupted: a next certificate without a next key belongs to the key in place."""
    fresh = files.key.with_name(f"next-{files.key.name}")
    left = fresh.with_suffix(".pem")
    if left.is_file() and not fresh.is_file():
        left.replace(files.certificate)


def _unasked() -> BadFile:
    return BadFile("chứng thư nhận được không phải thứ đã xin", "the certificate received is not the one that was asked for")

"""The registered office systems: one JSON file (mode 0600), written by `truc system`, read again by the node when it changes.

It holds secrets, so a file that others may read is refused. A file that breaks later does not stop the offices: the last good
one stays in use, the log and a counter tell. Knows `core` only; which codes a node covers is not its matter.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from node.adapters import client_certificates
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.office import ClientCertificate, System
from node.core.tally import Tally

FORMAT = "truc-systems-1"
FILE_BYTES_MAX = 16 * 1024 * 1024
SYSTEMS_MAX = 10_000
CODES_MAX = 2000
NETWORKS_MAX = 200
SECRETS_MAX = 2
"""One, or two while they overlap in rotation."""
CERTIFICATES_MAX = 8
"""Of one system, those it had to give up included: they are known for what they are until their own end."""
SECRET_CHARS_MAX = 200
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""The id travels in signed headers, which some client libraries damage unless they are ASCII."""
FILE_MODE = 0o600
PROBLEMS_SHOWN_MAX = 20

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class RegistryError(ValueError):
    """The file cannot be used. problems: one line each, naming the file, the entry and the field."""

    def __init__(self, path: Path, problems: Iterable[str]) -> None:
        self.path = path
        self.problems = tuple(f"{path}: {problem}" for problem in problems)[:PROBLEMS_SHOWN_MAX]
        super().__init__("\n".join(self.problems))


def _code(value: object) -> OrgId:
    if not isinstance(value, str) or not value:
        raise ValueError("a code is a text that is not empty")
    try:
        return OrgId.canonical(value)
    except Refused as refused:
        raise ValueError(f"not a code root first in upper case: {refused.reason} {refused.rule}".rstrip()) from None


def _network(value: object) -> IPv4Network | IPv6Network:
    if not isinstance(value, str):
        raise ValueError("a network is a text such as 10.1.0.0/16")
    return ip_network(value)


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("has characters that cannot be printed")
    return value


_Code = Annotated[OrgId, PlainValidator(_code), PlainSerializer(str)]
_Net = Annotated[IPv4Network | IPv6Network, PlainValidator(_network), PlainSerializer(str)]
_Secret = Annotated[str, Field(min_length=1, max_length=SECRET_CHARS_MAX), AfterValidator(_printable)]


class _Shown(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    der: str = Field(max_length=client_certificates.FILE_BYTES_MAX * 2)
    revoked: bool = False

    def certificate(self) -> ClientCertificate:
        """ValueError where it is none."""
        try:
            der = base64.b64decode(self.der, validate=True)
        except binascii.Error:
            raise ValueError("not base64") from None
        return client_certificates.of_der(der, revoked=self.revoked)


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=ID_PATTERN)
    codes: tuple[_Code, ...] = Field(max_length=CODES_MAX)
    secrets: tuple[_Secret, ...] = Field(min_length=1, max_length=SECRETS_MAX)
    networks: tuple[_Net, ...] = Field(default=(), max_length=NETWORKS_MAX)
    disabled: bool = False
    all_or_nothing: bool = False
    certificates: tuple[_Shown, ...] = Field(default=(), max_length=CERTIFICATES_MAX)

    def system(self) -> System:
        """ValueError for a certificate that is none."""
        shown = tuple(each.certificate() for each in self.certificates)
        return System(self.id, self.codes, self.secrets, self.networks, self.disabled, self.all_or_nothing, shown)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["truc-systems-1"]
    systems: tuple[_Row, ...] = Field(max_length=SYSTEMS_MAX)


def _laws(systems: Sequence[System]) -> Iterator[str]:
    """Ids are unique; an organ's code belongs to one enabled system. # QĐ 28/2018 Điều 7.3: one focal point per organ"""
    ids: set[str] = set()
    holders: dict[OrgId, str] = {}
    for place, system in enumerate(systems):
        if system.id in ids:
            yield f"systems[{place}].id: {system.id} is there twice"
        ids.add(system.id)
        for code in () if system.disabled else dict.fromkeys(system.codes):
            holder = holders.setdefault(code, system.id)
            if holder != system.id:
                yield f"systems[{place}].codes: {code} already belongs to {holder}"


def load(path: Path) -> tuple[System, ...]:
    """Read a systems file. `RegistryError` for a file that is missing, open to others, malformed, or breaks a law."""
    return _parse(path, _read(path))


def _parse(path: Path, raw: bytes) -> tuple[System, ...]:
    try:
        rows = _File.model_validate_json(raw).systems
    except ValidationError as error:
        raise RegistryError(path, (f"{_place(fault['loc'])}: {fault['msg']}" for fault in error.errors())) from None
    systems = tuple(_systems(path, rows))
    broken = list(_laws(systems))
    if broken:
        raise RegistryError(path, broken)
    return systems


def _systems(path: Path, rows: Iterable[_Row]) -> Iterator[System]:
    for place, row in enumerate(rows):
        try:
            yield row.system()
        except ValueError as error:
            raise RegistryError(path, [f"systems[{place}].certificates: {error}"]) from None


def save(path: Path, systems: Sequence[System]) -> None:
    """Write a systems file durably and at once: readers see the old one or the new one. `RegistryError` for what cannot be read
    back: a field out of form, a broken law."""
    with _locked(path):
        _write(path, systems)


def update(path: Path, change: Callable[[tuple[System, ...]], Sequence[System]]) -> tuple[System, ...]:
    """Read, change and write under one lock, so that two operators lose nothing of each other's. Returns what was written."""
    with _locked(path):
        systems = tuple(change(load(path)))
        _write(path, systems)
    return systems


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise RegistryError(path, [f"mode {stat.S_IMODE(facts.st_mode):04o}: others may read secrets; run chmod 600"])
            if facts.st_size > FILE_BYTES_MAX:
                raise RegistryError(path, [f"{facts.st_size} bytes, at most {FILE_BYTES_MAX}"])
            return file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise RegistryError(path, [error.strerror or str(error)]) from None


def _place(loc: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.lstrip(".") or "file"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, systems: Sequence[System]) -> None:
    """Temporary file, fsync, rename, fsync of the folder; the owner of the old file (or of the folder) keeps it."""
    path = path.resolve()
    rows = tuple(
        _Row.model_construct(
            id=s.id,
            codes=s.codes,
            secrets=s.secrets,
            networks=s.networks,
            disabled=s.disabled,
            all_or_nothing=s.all_or_nothing,
            certificates=tuple(
                _Shown.model_construct(der=base64.b64encode(each.der).decode(), revoked=each.revoked) for each in s.certificates
            ),
        )
        for s in systems
    )
    text = _File.model_construct(format=FORMAT, systems=rows).model_dump(mode="json")
    data = (json.dumps(text, ensure_ascii=False, indent=1) + "\n").encode()
    _parse(path, data)  # only what can be read back is written
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    handle = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            _keep_owner(file.fileno(), path)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _keep_owner(handle: int, path: Path) -> None:
    """An administrator (root) runs `truc system`; the node that reads the file does not run as root."""
    if os.geteuid() == 0:
        facts = (path if path.exists() else path.parent).stat()
        os.fchown(handle, facts.st_uid, facts.st_gid)


class Registry:
    """The systems as the running node sees them. `RegistryError` at the start if the file cannot be used; never afterwards."""

    def __init__(self, path: Path, tally: Tally | None = None) -> None:
        self._path = path
        self._tally = tally
        self._stamp = self._look()
        self._take(load(path))
        self.problem = ""
        """Why the file now on disk is not in use; "" when it is."""

    def _take(self, systems: tuple[System, ...]) -> None:
        self._all = systems
        self._systems = {system.id: system for system in systems}
        self._served = frozenset(code for system in systems if not system.disabled for code in system.codes)

    def get(self, system_id: str) -> System | None:
        """The system, disabled ones too; None where no such id is registered."""
        self._refresh()
        return self._systems.get(system_id)

    def all(self) -> tuple[System, ...]:
        """Every system, in the order of the file; the same value until the file changes."""
        self._refresh()
        return self._all

    def served(self) -> frozenset[OrgId]:
        """The codes of the enabled systems: the organs whose office hangs on this node."""
        self._refresh()
        return self._served

    def _look(self) -> tuple[int, ...]:
        """What changes when the file does; () where there is none."""
        try:
            facts = self._path.stat()
        except OSError:
            return ()
        return (facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_mode)

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take(load(self._path))
        except RegistryError as error:
            self.problem = str(error)
            log.error("systems file not usable, keeping the last good one", reason=str(error))
            if self._tally is not None:
                self._tally.add("truc_registry_errors_total")
            return
        self.problem = ""
        log.info("systems file read again", count=len(self._systems))

"""Bodies in a folder: spooled while they arrive, durable before anybody names them, content-addressed.

A file's name is its digest and a token that is never used again, so removing an old copy can never hit a new one. Knows nothing
of rows: the writer decides what is needed; nor of the machine, whose files are handed in.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import closing, suppress
from typing import TypeVar

from node.adapters.bodies.files import Files, OpenFile
from node.core.custody import StoredBody
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId

T = TypeVar("T")

CHUNK_BYTES = 1024 * 1024
"""What is read at once: a turn of the thread for less costs more than the bytes."""
SPOOL_BYTES = 512 * 1024
"""What is held of a body that arrives at a door, of which there are many."""
PROVEN_S = 1.0
"""How long the bytes of a file that were read and proven are given again without another look."""
FREE_S = 0.2
"""How long an answer about free space counts: many packages come in that time, and no disk fills in it."""
HASHES_MAX = 4096
"""Parts whose digest is remembered while they grow; another is read once more when it is whole."""
FULL_RETRY_S = 30.0
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What the process lacks for the moment; says nothing of the file."""
SCARCE_RETRY_S = 1.0
SHELF = re.compile(r"[0-9a-f]{2}")
"""A folder of finished bodies: the first two digits of their digests."""


class FolderBodies:
    """files: of the folder, which is made where missing; closed with this. inline_max: bodies up to this many bytes are handed
    back as data, for the row. token: a fresh name part at each call."""

    def __init__(self, files: Files, inline_max: int, token: Callable[[], str]) -> None:
        self.files = files
        self._inline_max = inline_max
        self._token = token
        files.make_root()
        for name in ("spool", "partial"):
            files.make_folder(name)
        found = files.names("")
        files.sync_folder("")  # a folder that a killed process had made is as good as one made now
        self._shelves = set(filter(SHELF.fullmatch, found))
        """Those whose entry this process has synced. That one is there says nothing: it may have been the sync that failed."""
        self._broken = asyncio.Event()
        self._error: OSError | None = None
        self._hashes: dict[str, _Hash] = {}
        self._proven: tuple[str, float, bytes] | None = None
        self._free, self._free_until_s = 1.0, 0.0
        self._left = {f"partial/{name}" for name in files.names("partial")}
        """Parts of an earlier process, which may have ended in a power cut: any byte of them may be wrong."""

    async def do(self, work: Callable[[], T]) -> T:
        """Run work where files may be waited for. A full disk is `Deferred(DISK_FULL)`; any other error of the disk passes
        through and ends the process (decision 3)."""
        try:
            return await self.files.do(work)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Deferred(FULL_RETRY_S, Reason.DISK_FULL) from error
            if error.errno in SCARCE:
                raise Deferred(SCARCE_RETRY_S, Reason.NOT_NOW) from error
            self._error = error
            self._broken.set()
            raise

    async def watch(self) -> None:
        """A loop of the gateway: raises the first error of the disk, also one met by a request, which can only fail itself."""
        await self._broken.wait()
        assert self._error is not None
        raise self._error

    def close(self) -> None:
        self.files.close()

    def spool(self) -> Spool:
        return Spool(self, f"spool/{self._token()}", self._inline_max)

    def free_ratio(self) -> float:
        """Free share of the file system, 0..1, as an ordinary user sees it; asked of the system a few times a second."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._free_until_s:
            self._free, self._free_until_s = self.files.free_ratio(), now_s + FREE_S
        return self._free

    def settle_file(self, temporary: str, digest: str) -> str:
        """In `do`: make a fully written file durable under its final name; returns that name. Nothing bears it if that fails: the
        next try takes another name, and nobody would ever ask for this one."""
        shelf = digest[:2]
        if shelf not in self._shelves:
            self.files.make_folder(shelf)
            self.files.sync_folder("")
            self._shelves.add(shelf)
        name = f"{shelf}/{digest}.{self._token()}"
        self.files.rename(temporary, name)
        try:
            self.files.sync_folder(shelf)
        except OSError:
            self.files.unlink(name)
            raise
        return name

    async def read(self, file: str, offset: int, length: int) -> bytes:
        """Bytes of a stored file. Raises Refused(BODY_DAMAGED) when there is no such file any more."""

        def work() -> bytes | None:
            try:
                with closing(self.files.open(file)) as handle:
                    return handle.read(offset, length)
            except OSError as error:  # one lost file, one bad sector: the fault of one document, not of the node
                if error.errno in SCARCE:
                    raise
                return None

        found = await self.do(work)
        if found is None:
            raise Refused(Reason.BODY_DAMAGED, "file", file)
        return found

    async def chunks(self, file: str, size: int) -> AsyncIterator[bytes]:
        """The whole file in pieces. Raises Refused(BODY_DAMAGED) when it is shorter than it was."""
        offset = 0
        while offset < size:
            piece = await self.read(file, offset, min(CHUNK_BYTES, size - offset))
            if not piece:
                raise Refused(Reason.BODY_DAMAGED, "size", str(offset), str(size))
            offset += len(piece)
            yield piece

    async def whole(self, file: str, digest: str) -> bytes | None:
        """All bytes of a file, read and compared with its digest in one go; None where they do not fit, or there is none. Many
        receivers of one document ask for it at once: bytes just proven are given again for a moment."""
        now_s = asyncio.get_running_loop().time()

        def work() -> bytes | None:
            if self._proven is not None and self._proven[0] == file and now_s < self._proven[1]:
                return self._proven[2]
            self._proven = None
            try:
                with closing(self.files.open(file)) as handle:
                    data = handle.read(0, self.files.size(file))
            except OSError as error:
                if error.errno in SCARCE:
                    raise
                return None
            if hashlib.sha256(data).hexdigest() != digest:
                return None
            self._proven = (file, now_s + PROVEN_S, data)
            return data

        return await self.do(work)

    async def intact(self, file: str, digest: str) -> bool:
        """Whether the stored bytes still are what they were (bit rot, Điều 6.1)."""

        def work() -> bool:
            try:
                with closing(self.files.open(file)) as handle:
                    return _sha256(handle) == digest
            except OSError as error:
                if error.errno in SCARCE:
                    raise
                return False

        return await self.do(work)

    async def delete(self, files: Iterable[str]) -> None:
        names = list(files)

        def work() -> None:
            for name in names:
                if self._proven is not None and self._proven[0] == name:
                    self._proven = None
                self.files.unlink(name, missing_ok=True)

        if names:
            await self.do(work)

    async def receive(self, neighbour: OrgId, digest: str, offset: int, chunk: bytes) -> int:
        """Append a chunk of a body that a neighbour is sending; returns how many bytes are held. A chunk that does not begin
        where the part ends changes nothing: the sender goes on from the answer."""
        part = _part(neighbour, digest)

        def work() -> int:
            held = self.files.size(part) if self.files.exists(part) else 0
            if held == 0:
                self._left.discard(part)  # from here on every byte of it is this process's
            if not chunk or offset != held:
                return held
            known = self._hashes.pop(part, None) if held else _Hash()
            with closing(self.files.append(part)) as handle:
                handle.write(chunk)
            if known is not None and known.size == held:
                known.add(chunk)
                self._remember(part, known)
            return held + len(chunk)

        return await self.do(work)

    def _remember(self, part: str, known: _Hash) -> None:
        """The digest of a part while it grows, so that it need not be read again. The longest untouched one is dropped."""
        self._hashes[part] = known
        if len(self._hashes) > HASHES_MAX:
            del self._hashes[next(iter(self._hashes))]

    async def finish(self, neighbour: OrgId, digest: str) -> StoredBody | None:
        """All bytes are here: verify, make durable. Raises Refused(BODY_DAMAGED) and drops the part when they do not fit; drops
        it too when it cannot be made durable, for a second sync might say yes to what the first has lost (decision 3).

        None: they do not fit, and it was an earlier process that had begun the part; dropped as well. Parts are not synced while
        they grow, so a power cut may have torn it, which is no fault of the sender's bytes. Never twice for one part."""
        part = _part(neighbour, digest)

        def work() -> StoredBody | None:
            known = self._hashes.pop(part, None)
            with closing(self.files.append(part)) as handle:
                size = self.files.size(part)
                found = known.hexdigest() if known is not None and known.size == size else _sha256(handle)
                if found != digest:
                    self.files.unlink(part)
                    if part not in self._left:
                        raise Refused(Reason.BODY_DAMAGED, "sha256", digest)
                    self._left.discard(part)
                    return None
                try:
                    handle.sync()
                except OSError:
                    self.files.unlink(part)
                    raise
            return StoredBody(digest, size, file=self.settle_file(part, digest))

        return await self.do(work)

    async def forget_parts(self, before_ms: int) -> int:
        """Remove parts that nobody has added to since before_ms (UTC): their document has gone another way or ended. Returns how
        many were removed."""

        def work() -> int:
            parts = [f"partial/{name}" for name in self.files.names("partial")]
            old = [part for part in parts if self.files.modified_ms(part) < before_ms]
            for part in old:
                self.files.unlink(part)
                self._hashes.pop(part, None)
            return len(old)

        return await self.do(work)

    async def sweep(self, known: set[str]) -> int:
        """At start: remove spooled files and bodies that no row names (the crash came before their commit). Parts stay: they
        are resumed. Returns how many were removed."""

        def work() -> int:
            removed = 0
            for folder in ["spool", *filter(SHELF.fullmatch, self.files.names(""))]:
                for file in [f"{folder}/{name}" for name in self.files.names(folder)]:
                    if file not in known:
                        self.files.unlink(file)
                        removed += 1
            return removed

        return await self.do(work)


class _Hash:
    """The digest of the first `size` bytes of a part, of which every one was written by this process."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _part(neighbour: OrgId, digest: str) -> str:
    return f"partial/{str(neighbour) or 'hub'}-{digest}"


def _sha256(handle: OpenFile) -> str:
    found, offset = hashlib.sha256(), 0
    while piece := handle.read(offset, CHUNK_BYTES):
        found.update(piece)
        offset += len(piece)
    return found.hexdigest()


class Spool:
    """One body while it arrives: in memory while small, in a file beyond. `write` then `finish`, or `discard`."""

    def __init__(self, bodies: FolderBodies, name: str, inline_max: int) -> None:
        self._bodies = bodies
        self._name = name
        self._inline_max = inline_max
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._file: OpenFile | None = None
        self._spilled = False
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._buffer += chunk
        self.size += len(chunk)
        if self.size > self._inline_max and len(self._buffer) >= SPOOL_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        piece = bytes(self._buffer)
        self._buffer.clear()
        self._spilled = True

        def work() -> None:
            if self._file is None:
                self._file = self._bodies.files.create(self._name)
            self._file.write(piece)

        await self._bodies.do(work)

    async def finish(self) -> StoredBody:
        """The body: data when small, else a durable file."""
        digest = self._hash.hexdigest()
        if not self._spilled and self.size <= self._inline_max:
            return StoredBody(digest, self.size, data=bytes(self._buffer))
        await self._flush()

        def work() -> str:
            assert self._file is not None
            self._file.sync()
            self._file.close()
            self._name = self._bodies.settle_file(self._name, digest)  # for `discard`, if nobody waits for the name any more
            return self._name

        file = await self._bodies.do(work)
        self._file = None
        return StoredBody(digest, self.size, file=file)

    async def discard(self) -> None:
        """Drop what was spooled, also when `write` or `finish` was cancelled in the middle; harmless after `finish`."""

        def work() -> None:
            if self._file is not None:
                with suppress(OSError):  # a full disk, and the bytes are not wanted
                    self._file.close()
                self._bodies.files.unlink(self._name, missing_ok=True)

        if self._spilled:
            await self._bodies.do(work)

"""Bodies in a folder: spooled while they arrive, durable before anybody names them, content-addressed.

File work runs on one thread of its own; the event loop never waits for the disk. A file's name is its digest and a token that
is never used again, so removing an old copy can never hit a new one. Knows nothing of rows: the writer decides what is needed.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from node.core.custody import StoredBody
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId

T = TypeVar("T")

CHUNK_BYTES = 256 * 1024
FULL_RETRY_S = 30.0
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What the process lacks for the moment; says nothing of the file."""
SCARCE_RETRY_S = 1.0


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FolderBodies:
    """root: made with mode 0700 where missing. inline_max: bodies up to this many bytes are handed back as data, for the row.
    token: a fresh name part at each call."""

    def __init__(self, root: Path, inline_max: int, token: Callable[[], str]) -> None:
        self._root = root
        self._inline_max = inline_max
        self._token = token
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bodies")
        for name in ("", "spool", "partial"):
            (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(root.parent)
        sync_folder(root)  # a folder that a killed process had made is as good as one made now

    async def do(self, work: Callable[[], T]) -> T:
        """Run work on the folder's thread. A full disk is `Deferred(DISK_FULL)`; any other error of the disk passes through and
        ends the process (decision 3)."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Deferred(FULL_RETRY_S, Reason.DISK_FULL) from error
            if error.errno in SCARCE:
                raise Deferred(SCARCE_RETRY_S, Reason.NOT_NOW) from error
            raise

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def spool(self) -> Spool:
        return Spool(self, self._root / "spool" / self._token(), self._inline_max)

    def free_ratio(self) -> float:
        """Free share of the file system, 0..1, as an ordinary user sees it."""
        stat = os.statvfs(self._root)
        return stat.f_bavail / stat.f_blocks if stat.f_blocks else 1.0

    def path(self, name: str) -> Path:
        return self._root / name

    def settle_file(self, temporary: Path, digest: str) -> str:
        """On the thread: make a fully written file durable under its final name; returns the name relative to the root."""
        folder = self._root / digest[:2]
        if not folder.exists():
            folder.mkdir(mode=0o700)
            sync_folder(self._root)
        name = f"{digest[:2]}/{digest}.{self._token()}"
        os.rename(temporary, self._root / name)
        sync_folder(folder)
        return name

    async def read(self, file: str, offset: int, length: int) -> bytes:
        """Bytes of a stored file. Raises Refused(BODY_DAMAGED) when there is no such file any more."""

        def work() -> bytes | None:
            try:
                with (self._root / file).open("rb") as handle:
                    handle.seek(offset)
                    return handle.read(length)
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

    async def intact(self, file: str, digest: str) -> bool:
        """Whether the stored bytes still are what they were (bit rot, Điều 6.1)."""

        def work() -> bool:
            try:
                with (self._root / file).open("rb") as handle:
                    return hashlib.file_digest(handle, "sha256").hexdigest() == digest
            except OSError as error:
                if error.errno in SCARCE:
                    raise
                return False

        return await self.do(work)

    async def delete(self, files: Iterable[str]) -> None:
        names = list(files)

        def work() -> None:
            for name in names:
                (self._root / name).unlink(missing_ok=True)

        if names:
            await self.do(work)

    async def receive(self, neighbour: OrgId, digest: str, offset: int, chunk: bytes) -> int:
        """Append a chunk of a body that a neighbour is sending; returns how many bytes are held. A chunk that does not begin
        where the part ends changes nothing: the sender goes on from the answer."""
        path = self._partial(neighbour, digest)

        def work() -> int:
            held = path.stat().st_size if path.exists() else 0
            if not chunk or offset != held:
                return held
            with open(path, "ab", opener=_private) as handle:
                handle.write(chunk)
            return held + len(chunk)

        return await self.do(work)

    async def finish(self, neighbour: OrgId, digest: str) -> StoredBody:
        """All bytes are here: verify, make durable. Raises Refused(BODY_DAMAGED) and drops the part when they do not fit; drops
        it too when it cannot be made durable, for a second sync might say yes to what the first has lost (decision 3)."""
        path = self._partial(neighbour, digest)

        def work() -> StoredBody | None:
            with open(path, "a+b", opener=_private) as handle:
                handle.seek(0)
                found = hashlib.file_digest(handle, "sha256").hexdigest()
                if found != digest:
                    path.unlink()
                    return None
                try:
                    os.fsync(handle.fileno())
                except OSError:
                    path.unlink()
                    raise
            size = path.stat().st_size
            return StoredBody(digest, size, file=self.settle_file(path, digest))

        body = await self.do(work)
        if body is None:
            raise Refused(Reason.BODY_DAMAGED, "sha256", digest)
        return body

    def _partial(self, neighbour: OrgId, digest: str) -> Path:
        return self._root / "partial" / f"{str(neighbour) or 'hub'}-{digest}"

    async def forget_parts(self, before_ms: int) -> int:
        """Remove parts that nobody has added to since before_ms (UTC): their document has gone another way or ended. Returns how
        many were removed."""

        def work() -> int:
            old = [path for path in self._root.glob("partial/*") if path.stat().st_mtime_ns < before_ms * 1_000_000]
            for path in old:
                path.unlink()
            return len(old)

        return await self.do(work)

    async def sweep(self, known: set[str]) -> int:
        """At start: remove spooled files and bodies that no row names (the crash came before their commit). Parts stay: they
        are resumed. Returns how many were removed."""

        def work() -> int:
            removed = 0
            for path in [*self._root.glob("spool/*"), *self._root.glob("[0-9a-f][0-9a-f]/*")]:
                if str(path.relative_to(self._root)) not in known:
                    path.unlink()
                    removed += 1
            return removed

        return await self.do(work)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Spool:
    """One body while it arrives: in memory while small, in a file beyond. `write` then `finish`, or `discard`."""

    def __init__(self, bodies: FolderBodies, path: Path, inline_max: int) -> None:
        self._bodies = bodies
        self._path = path
        self._inline_max = inline_max
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._file: BinaryIO | None = None
        self._spilled = False
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._buffer += chunk
        self.size += len(chunk)
        if self.size > self._inline_max and len(self._buffer) >= CHUNK_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        piece = bytes(self._buffer)
        self._buffer.clear()
        self._spilled = True

        def work() -> None:
            if self._file is None:
                self._file = os.fdopen(_private(str(self._path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC), "wb")
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
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            name = self._bodies.settle_file(self._path, digest)
            self._path = self._bodies.path(name)  # so that `discard` finds it if nobody waits for the name any more
            return name

        file = await self._bodies.do(work)
        self._file = None
        return StoredBody(digest, self.size, file=file)

    async def discard(self) -> None:
        """Drop what was spooled, also when `write` or `finish` was cancelled in the middle; harmless after `finish`."""

        def work() -> None:
            if self._file is not None:
                with suppress(OSError):  # a full disk, and the bytes are not wanted
                    self._file.close()
                self._path.unlink(missing_ok=True)

        if self._spilled:
            await self._bodies.do(work)

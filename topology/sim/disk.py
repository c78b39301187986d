"""What one machine's disk holds, what of it would survive a power cut, and its faults.

Paths are strings such as "data/node.db" ("/data//node.db" is the same); the root folder "" always exists. Operations take no
virtual time: each adds what it would have taken to `busy_s`, and the asynchronous callers sleep `take_busy_s()` afterwards.
Knows nothing of SQLite, of nodes, or of what the files mean.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from topology.sim.loop import Ended
from topology.sim.platter import Inode
from topology.sim.record import Record

Kind = Literal["read", "write", "sync"]
How = Literal["power", "kill"]

CALL_S = 20e-6
"""What any operation takes, plus its bytes at BYTES_PER_S."""
BYTES_PER_S = 400e6
SYNC_LEAST_S, SYNC_MEAN_MORE_S, SYNC_MOST_S = 0.0004, 0.002, 0.1
"""A sync takes the least and an exponentially drawn rest, never more than the most (before `slow_s`)."""

KEEPS = (0.0, 0.1, 0.5, 0.9, 1.0)
"""A power cut draws one of these: the probability with which it keeps a write or an entry that was not synced."""
NAMINGS_MAX = 512
"""Unsynced changes of names; the oldest beyond them has reached the platter by itself."""


class File:
    """What `Disk.open` returns: an open file of one life. It is of no use to the next one."""

    __slots__ = ("inode", "mount")

    def __init__(self, inode: Inode, mount: int) -> None:
        self.inode = inode
        self.mount = mount


class _Folder:
    __slots__ = ("durable", "entries")

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self.durable: dict[str, _Entry] = {}
        """As of the last sync_folder."""


_Entry = Inode | _Folder
_Place = tuple[_Folder, str]


@dataclass(slots=True)
class _Naming:
    """An unsynced change of names: entry gone from `source`, entry come to `target`, or both at once (a rename)."""

    entry: _Entry
    source: _Place | None
    target: _Place | None


@dataclass(frozen=True, slots=True)
class Found:
    """What `stat` tells. modified_s: virtual seconds of the last change (0.0 for folders)."""

    size: int
    modified_s: float
    is_folder: bool


@dataclass(slots=True)
class _Fault:
    errno: int
    after: int
    times: int


@dataclass(slots=True)
class _Strike:
    at: int
    how: How
    then: Callable[[], None]
    behind: bool = False
    """The struck operation has its effect, only its caller does not hear of it."""


class Disk:
    """name: of the machine, for the record. rng: a stream of its own.

    Every operation raises OSError with the errno a real one would give (ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, ENOSPC, or
    an injected one), or Ended when the machine or the process that opened the file is dead.
    """

    def __init__(self, name: str, rng: random.Random, record: Record) -> None:
        self.name = name
        self.operations = 0
        """How many were begun since the disk was made; what `strike_in` counts."""
        self.busy_s = 0.0
        """Virtual seconds of work done and not yet waited for."""
        self.capacity_bytes: int | None = None
        """None: no limit. May be lowered below what is used: then nothing can grow."""
        self.lying = False
        """A sync says yes and does nothing."""
        self.slow_s = 0.0
        """Added to every sync."""
        self.flipped: dict[str, None] = {}
        """Files in which a bit was turned."""
        self.in_memory = False
        """The database lies in the machine's memory instead: see `database.py`."""
        self.memory: Any = None
        """What lies there. It outlives processes; power is never cut from it."""
        self.dead = False
        self.mounts = 0
        """Grows at every death: files opened before it are no longer usable."""
        self._rng = rng
        self._record = record
        self._root = _Folder()
        self._namings: list[_Naming] = []
        self._used = 0
        self._free_at_s = 0.0
        self._power = False
        self._strike: _Strike | None = None
        self._looked_at = False
        self._faults: dict[Kind, _Fault] = {}

    # files: each is one operation

    def open(self, path: str, *, create: bool = False, exclusive: bool = False, truncate: bool = False) -> File:
        """The file at path. ENOENT without create; EEXIST with exclusive. A created entry is durable after `sync_folder`."""
        self._begin(0)
        folder, name = self._place(path)
        entry = folder.entries.get(name)
        if isinstance(entry, _Folder):
            raise _error(errno.EISDIR, path)
        if entry is not None and create and exclusive:
            raise _error(errno.EEXIST, path)
        if entry is None:
            if not create:
                raise _error(errno.ENOENT, path)
            self._inject("write")
            if self.capacity_bytes is not None and self._used >= self.capacity_bytes:
                raise self._full(path)
            entry = Inode(self._record.now())
            self._name(_Naming(entry, None, (folder, name)))
        entry.opens += 1
        if truncate and entry.content:
            self._cut(entry, 0)
        self._end()
        return File(entry, self.mounts)

    def read(self, file: File, offset: int, length: int) -> bytes:
        """Fewer bytes at the end of the file."""
        self._begin(length, file)
        if self._faults:
            self._inject("read")
        return bytes(file.inode.content[offset : offset + length])

    def write(self, file: File, offset: int, data: bytes | bytearray | memoryview) -> None:
        """ENOSPC: nothing of it is written. A hole before offset is filled with zeros."""
        length = len(data)
        self._begin(length, file)
        if self._faults:
            self._inject("write")
        inode = file.inode
        more = offset + length - len(inode.content)
        if more > 0:
            self._need(more)
            self._used += more
        inode.write(offset, bytes(data))
        inode.modified_s = self._record.now()
        self._end()

    def append(self, file: File, data: bytes | bytearray | memoryview) -> None:
        """As `write` at the end."""
        self.write(file, len(file.inode.content), data)

    def truncate(self, file: File, size: int) -> None:
        """Shorter, or longer with zeros."""
        self._begin(0, file)
        self._inject("write")
        more = size - len(file.inode.content)
        self._need(more)
        self._cut(file.inode, size)
        self._end()

    def sync(self, file: File) -> None:
        """fsync of the content; not of the entry in its folder. After an injected error only some of the writes have reached
        the platter, and no later sync brings the rest there: so Linux behaves."""
        self._begin_sync(file)
        try:
            self._inject("sync")
        except OSError:
            file.inode.sync_failed(self._rng)
            raise
        if not self.lying:
            file.inode.sync()
        self._end()

    def size(self, file: File) -> int:
        """Bytes."""
        self._begin(0, file)
        return len(file.inode.content)

    def close(self, file: File) -> None:
        """Never fails, not even on a dead machine; then it does nothing."""
        if file.mount != self.mounts or self.dead:
            return
        file.inode.opens -= 1
        self._forget(file.inode)

    def pretend(self, *, sync: bool = False) -> None:
        """One operation that touches no file: it counts, takes its time, and may be the one at which the machine dies."""
        self._begin_sync(None) if sync else self._begin(0)
        self._end()

    # names: each is one operation

    def rename(self, source: str, target: str) -> None:
        """Atomic; replaces a file at target. Durable after `sync_folder` of the target's folder."""
        self._begin(0)
        self._inject("write")
        from_place, to_place = self._place(source), self._place(target)
        entry = _entry(from_place, source)
        replaced = to_place[0].entries.get(to_place[1])
        if replaced is entry:
            return
        if isinstance(replaced, _Folder) and isinstance(entry, Inode):
            raise _error(errno.EISDIR, target)
        if isinstance(entry, _Folder) and replaced is not None:
            raise _error(errno.ENOTEMPTY if isinstance(replaced, _Folder) else errno.ENOTDIR, target)
        self._name(_Naming(entry, from_place, to_place))
        self._end()

    def unlink(self, path: str) -> None:
        """Remove a file's name. Durable after `sync_folder`."""
        self._begin(0)
        self._inject("write")
        place = self._place(path)
        entry = _entry(place, path)
        if isinstance(entry, _Folder):
            raise _error(errno.EISDIR, path)
        self._name(_Naming(entry, place, None))
        self._end()

    def mkdir(self, path: str, *, exist_ok: bool = False) -> None:
        """One folder; its parent must exist. Durable after `sync_folder` of the parent."""
        self._begin(0)
        self._inject("write")
        folder, name = self._place(path)
        entry = folder.entries.get(name) if name else self._root
        if entry is not None:
            if exist_ok and isinstance(entry, _Folder):
                return
            raise _error(errno.EEXIST, path)
        self._name(_Naming(_Folder(), None, (folder, name)))
        self._end()

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        self._begin(0)
        self._inject("write")
        place = self._place(path)
        entry = _entry(place, path)
        if isinstance(entry, Inode):
            raise _error(errno.ENOTDIR, path)
        if entry.entries:
            raise _error(errno.ENOTEMPTY, path)
        self._name(_Naming(entry, place, None))
        self._end()

    def listdir(self, path: str) -> list[str]:
        """Names in a folder, sorted."""
        self._begin(0)
        return sorted(self._folder(path).entries)

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        self._begin(0)
        return self._find(path) is not None

    def stat(self, path: str) -> Found:
        """ENOENT when there is nothing."""
        self._begin(0)
        entry = self._find(path)
        if entry is None:
            raise _error(errno.ENOENT, path)
        if isinstance(entry, _Folder):
            return Found(0, 0.0, True)
        return Found(len(entry.content), entry.modified_s, False)

    def mtime(self, path: str) -> float:
        """Virtual seconds of a file's last change."""
        return self.stat(path).modified_s

    def sync_folder(self, path: str) -> None:
        """fsync of a folder: its entries are durable as they are now."""
        self._begin_sync(None)
        folder = self._folder(path)
        self._inject("sync")
        if not self.lying:
            self._namings = [naming for naming in self._namings if not _made_durable(naming, folder)]
        self._end()

    # the machine: none of these is an operation

    def take_busy_s(self) -> float:
        """What was done since the last call, behind whatever others already wait for (one queue per disk), in virtual seconds:
        `await asyncio.sleep(disk.take_busy_s())` right after the work. 0.0 when nothing was done."""
        busy_s, self.busy_s = self.busy_s, 0.0
        if busy_s == 0.0:
            return 0.0
        now_s = self._record.now()
        self._free_at_s = max(self._free_at_s, now_s) + busy_s
        return self._free_at_s - now_s

    def used_bytes(self) -> int:
        """Of all files, with those that are open and have no name any more."""
        return self._used

    def free_ratio(self) -> float:
        """0.0 … 1.0; 1.0 without a capacity."""
        if self.capacity_bytes is None:
            return 1.0
        return max(0.0, 1.0 - self._used / max(1, self.capacity_bytes))

    def strike_in(self, operations: int, how: How, then: Callable[[], None]) -> None:
        """The machine loses its power, or the process is killed, at the `operations`-th operation from now (1: the next one).
        Whether that one still has its effect is drawn; `then` is called, and the operation raises Ended."""
        assert operations >= 1, "an operation that was begun cannot be struck any more"
        self._strike = _Strike(self.operations + operations, how, then)

    def die(self, power: bool) -> None:
        """At once. Every file that is open and every operation until `mount` answers Ended."""
        if self.dead:
            self._power = self._power or power
            return
        self.dead, self._power, self._strike = True, power, None
        self.mounts += 1
        self.busy_s = 0.0
        self._faults.clear()
        self._record.note(self.name, "fault/power" if power else "fault/killed", self.operations)

    def mount(self) -> None:
        """The machine, or the process, starts again. Killed: everything written is there, and what was not synced can still be
        lost at a later power cut. Power cut: see the module's constants."""
        assert self.dead, "only what died is mounted again"
        if self._power:
            keep = self._rng.choice(KEEPS)
            self._lose_names(keep)
            for _, inode in _walk(self._root, ""):
                inode.lose(self._rng, keep)
        found = [inode for _, inode in _walk(self._root, "")]
        for inode in found:
            inode.names, inode.opens = 1, 0
        self._used = sum(len(inode.content) for inode in found)
        self.dead, self._power = False, False
        self._free_at_s = 0.0

    def fail(self, kind: Kind, error: int, after_operations: int = 0, times: int = 1) -> None:
        """Operations of this kind raise OSError(error), `times` of them, after so many that still succeed. "write" is also
        whatever changes names, "sync" also sync_folder."""
        self._faults[kind] = _Fault(error, after_operations, times)

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """A judge reads: no operation counts, takes time, fails or is struck."""
        faults, self._faults = self._faults, {}
        self._looked_at = True
        try:
            yield
        finally:
            self._faults, self._looked_at = faults, False

    def spare(self) -> None:
        """Whatever strike was planned does not come."""
        self._strike = None

    def settle(self) -> None:
        """Everything as it is now becomes durable, as if left alone for long enough."""
        for naming in self._namings:
            _happened(naming)
        self._namings = []
        for _, inode in _walk(self._root, ""):
            inode.sync()

    def calm(self) -> None:
        """No fault is waiting any more, and there is room again."""
        self._strike = None
        self._faults.clear()
        self.capacity_bytes, self.lying, self.slow_s = None, False, 0.0

    def flip(self, path: str, rng: random.Random, at: int | None = None) -> None:
        """Turn one bit of a file at rest: of the byte at, else of any."""
        inode = self._inode(path)
        if inode.content:
            # A power cut may have left a file two names, when it kept only one half of a rename.
            self.flipped.update(dict.fromkeys(name for name, other in _walk(self._root, "") if other is inode))
            self._record.note(self.name, "fault/flip", inode.flip(rng, at))

    def load(self, path: str, content: bytes) -> None:
        """Put a durable file there, with its folders: preparation, not an operation."""
        folder = self._root
        parts = _parts(path)
        for part in parts[:-1]:
            inner = folder.entries.setdefault(part, _Folder())
            assert isinstance(inner, _Folder), "a file is in the way"
            folder.durable[part] = inner
            folder = inner
        inode = Inode(self._record.now(), content)
        inode.names = 1
        self._unname(folder.entries.get(parts[-1]))
        folder.entries[parts[-1]] = folder.durable[parts[-1]] = inode
        self._used += len(content)

    def content(self, path: str) -> bytes:
        """A file as it is now: for judges and tests, not an operation, also on a dead machine."""
        return bytes(self._inode(path).content)

    def paths(self) -> list[str]:
        """All files, sorted: for judges and tests, not an operation."""
        return sorted(path for path, _ in _walk(self._root, ""))

    # --- how an operation begins and ends

    def _begin(self, length: int, file: File | None = None) -> None:
        if self.dead or (file is not None and file.mount != self.mounts):
            raise Ended(f"the disk of {self.name} is gone")
        if self._looked_at:
            return
        self.operations += 1
        self.busy_s += CALL_S + length / BYTES_PER_S
        if self._strike is not None and self.operations >= self._strike.at:
            self._struck(self._strike)

    def _begin_sync(self, file: File | None) -> None:
        self._begin(0, file)
        self.busy_s += min(SYNC_MOST_S, SYNC_LEAST_S + self._rng.expovariate(1 / SYNC_MEAN_MORE_S)) + self.slow_s
        self._record.note(self.name, "disk/sync", self.operations)

    def _end(self) -> None:
        if self._strike is not None and self._strike.behind:
            self._ended(self._strike)

    def _struck(self, strike: _Strike) -> None:
        if strike.behind or self._rng.random() < 0.5:
            self._ended(strike)
        strike.behind = True

    def _ended(self, strike: _Strike) -> None:
        self.die(strike.how == "power")
        strike.then()
        raise Ended(f"the machine {self.name} died at operation {self.operations}")

    def _inject(self, kind: Kind) -> None:
        fault = self._faults.get(kind)
        if fault is None:
            return
        if fault.after > 0:
            fault.after -= 1
            return
        fault.times -= 1
        if fault.times <= 0:
            del self._faults[kind]
        self._record.note(self.name, f"fault/disk-{kind}", fault.errno)
        raise _error(fault.errno, self.name)

    def _full(self, path: str) -> OSError:
        self._record.note(self.name, "fault/disk-full", self._used)
        return _error(errno.ENOSPC, path)

    def _need(self, more: int) -> None:
        if more > 0 and self.capacity_bytes is not None and self._used + more > self.capacity_bytes:
            raise self._full(self.name)

    # --- contents and names

    def _cut(self, inode: Inode, size: int) -> None:
        self._used += size - len(inode.content)
        inode.cut(size)
        inode.modified_s = self._record.now()

    def _find(self, path: str) -> _Entry | None:
        entry: _Entry | None = self._root
        for part in _parts(path):
            if not isinstance(entry, _Folder):
                return None
            entry = entry.entries.get(part)
        return entry

    def _folder(self, path: str) -> _Folder:
        entry = self._find(path)
        if not isinstance(entry, _Folder):
            raise _error(errno.ENOENT if entry is None else errno.ENOTDIR, path)
        return entry

    def _inode(self, path: str) -> Inode:
        entry = self._find(path)
        if not isinstance(entry, Inode):
            raise _error(errno.ENOENT if entry is None else errno.EISDIR, path)
        return entry

    def _place(self, path: str) -> _Place:
        """The folder of a path, which must exist, and the last name; the root itself has none."""
        parts = _parts(path)
        return (self._folder("/".join(parts[:-1])), parts[-1]) if parts else (self._root, "")

    def _name(self, naming: _Naming) -> None:
        """Change names now, durably later."""
        if naming.target is not None:
            folder, name = naming.target
            self._unname(folder.entries.get(name))
            folder.entries[name] = naming.entry
            if isinstance(naming.entry, Inode):
                naming.entry.names += 1
        if naming.source is not None:
            folder, name = naming.source
            del folder.entries[name]
            self._unname(naming.entry)
        self._namings.append(naming)
        if len(self._namings) > NAMINGS_MAX:
            _happened(self._namings.pop(0))

    def _unname(self, entry: _Entry | None) -> None:
        if isinstance(entry, Inode):
            entry.names -= 1
            self._forget(entry)

    def _forget(self, inode: Inode) -> None:
        if inode.names == 0 and inode.opens == 0:
            self._used -= len(inode.content)

    # --- what a power cut leaves

    def _lose_names(self, keep: float) -> None:
        for naming in self._namings:
            if self._rng.random() < keep:
                _happened(naming)
        self._namings.clear()
        folders = [self._root]
        while folders:
            folder = folders.pop()
            folder.entries = dict(folder.durable)
            folders += [entry for entry in folder.entries.values() if isinstance(entry, _Folder)]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _entry(place: _Place, path: str) -> _Entry:
    entry = place[0].entries.get(place[1])
    if entry is None:
        raise _error(errno.ENOENT, path)
    return entry


def _happened(naming: _Naming) -> None:
    """On the platter too. What stands at the source by now may be another entry: it is left alone."""
    if naming.source is not None:
        folder, name = naming.source
        if folder.durable.get(name) is naming.entry:
            del folder.durable[name]
    if naming.target is not None:
        folder, name = naming.target
        folder.durable[name] = naming.entry


def _made_durable(naming: _Naming, folder: _Folder) -> bool:
    """Whether a sync of this folder covers the change; then it is applied. A rename is one entry of a file system's journal: it
    comes with its target's folder, and never by halves."""
    place = naming.target or naming.source
    if place is None or place[0] is not folder:
        return False
    _happened(naming)
    return True


def _walk(folder: _Folder, path: str) -> Iterator[tuple[str, Inode]]:
    for name, entry in folder.entries.items():
        if isinstance(entry, Inode):
            yield path + name, entry
        else:
            yield from _walk(entry, f"{path}{name}/")

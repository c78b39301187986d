"""SQLite on a simulated disk: an apsw VFS, and the connection class that runs the store's production code on it.

The store's functions are handed an object with the methods of `sqlite3.Connection` that they use, and see the errors of
`sqlite3`. Knows nothing of tables; the settings are production's own (`node/adapters/sqlite/connection.py: settings`).

Where `Disk.in_memory` is set, the database lies in memory, and says nothing of durability: a commit is there for good, a process
that dies loses what it had not committed, power is never cut from it. For runs of so many nodes that pages would cost too much.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from functools import lru_cache
from typing import Any, TypeVar, cast

import apsw

from node.adapters.sqlite.connection import settings
from node.adapters.sqlite.migrate import migrate
from topology.sim.disk import Disk, File
from topology.sim.loop import Ended, Life, living
from topology.sim.record import Record, stream

T = TypeVar("T")

HOP_S = 30e-6
"""The way to the connection's thread and back."""
STATEMENTS = 768
"""Prepared statements kept per connection. apsw keeps them in a ring that goes on by one at each execution: a statement stays as
long as it is among the last so many executed, and an idle node holds few."""
CACHE_KB = 256
"""Of the page cache, instead of production's 16 MB: for memory too. What does not fit is read again, or spilled into the WAL
before its commit, which a power cut must survive as well."""
UNIX_SECTOR = 4096
MEMORY_PAGE = 1024

_DIRSYNC = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
_names = itertools.count(1)
"""SQLite wants a name for each VFS; nothing depends on it."""


class _Vfs(apsw.VFS):
    """The file operations of one connection. What SQLite's unix VFS does, it does: the same device characteristics, and a folder
    is synced at the first sync of a journal or WAL that was created in it."""

    def __init__(self, disk: Disk) -> None:
        self.name = f"truc-sim-{next(_names)}"
        self.disk = disk
        self.mount = disk.mounts
        self.abandoned = False
        # SQLite draws the salts of a WAL from the default VFS: with a seed of our own the same run writes the same bytes.
        self._rng = stream(0, "salts", disk.name, disk.mounts)
        super().__init__(self.name, base="unix", makedefault=True)
        apsw.randomness(0)  # forgets what was drawn before

    def stale(self) -> bool:
        """Whether the process that opened it is no more."""
        return self.abandoned or self.disk.dead or self.disk.mounts != self.mount

    def refuse(self) -> None:
        """A connection of an earlier life: it must not touch the names of this one."""
        if self.stale():
            raise _failed(apsw.SQLITE_IOERR)

    def xRandomness(self, numbytes: int) -> bytes:
        return self._rng.randbytes(numbytes)

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        self.refuse()
        try:
            return self.disk.exists(pathname)
        except (OSError, Ended) as error:
            raise _failed(apsw.SQLITE_IOERR_ACCESS, error) from error

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.refuse()
        try:
            self.disk.unlink(filename)
        except FileNotFoundError as error:
            raise _failed(apsw.SQLITE_IOERR_DELETE_NOENT) from error
        except (OSError, Ended) as error:
            raise _failed(apsw.SQLITE_IOERR_DELETE, error) from error
        if syncdir:
            try:
                self.disk.sync_folder(_folder(filename))
            except (OSError, Ended) as error:
                raise _failed(apsw.SQLITE_IOERR_DIR_FSYNC, error) from error

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        self.refuse()
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            raise _failed(apsw.SQLITE_CANTOPEN)  # temporary files: PRAGMA temp_store=MEMORY is production's setting
        try:
            new = bool(flags[0] & apsw.SQLITE_OPEN_CREATE) and not self.disk.exists(path)
            opened = _Open(self, path, self.disk.open(path, create=new), new and bool(flags[0] & _DIRSYNC))
        except (OSError, Ended) as error:
            raise _failed(apsw.SQLITE_CANTOPEN, error) from error
        flags[1] = flags[0]
        return opened

    def excepthook(self, etype: object, evalue: object, etraceback: object) -> bool:
        """An error SQLite itself passes over, as it passes over that of the real call."""
        return True


class _Memory:
    """Where the database lies in memory: which process may use it."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.mount = disk.mounts
        self.abandoned = False

    def stale(self) -> bool:
        """As `_Vfs.stale`."""
        return self.abandoned or self.disk.dead or self.disk.mounts != self.mount

    def unregister(self) -> None:
        """SQLite was told nothing of it."""


class _Open:
    """A file SQLite has open: what apsw calls when SQLite asks. Failures carry SQLite's code of the unix VFS."""

    __slots__ = ("_dirsync", "_disk", "_file", "_path", "_vfs")

    def __init__(self, vfs: _Vfs, path: str, file: File, dirsync: bool) -> None:
        self._vfs, self._disk, self._path, self._file, self._dirsync = vfs, vfs.disk, path, file, dirsync

    def xRead(self, amount: int, offset: int) -> bytes:
        self._vfs.refuse()
        try:
            return self._disk.read(self._file, offset, amount)
        except (OSError, Ended) as error:
            raise _failed(apsw.SQLITE_IOERR_READ, error) from error

    def xWrite(self, data: bytes, offset: int) -> None:
        self._vfs.refuse()
        try:
            self._disk.write(self._file, offset, data)
        except (OSError, Ended) as error:
            raise _failed(apsw.SQLITE_IOERR_WRITE, error) from error

    def xTruncate(self, newsize: int) -> None:
        self._vfs.refuse()
        try:
            self._disk.truncate(self._file, newsize)
        except (OSError, Ended) as error:
            raise _failed(apsw.SQLITE_IOERR_TRUNCATE, error) from error

    def xSync(self, flags: int) -> None:
        self._vfs.refuse()
        try:
            self._disk.sync(self._file)
        except (OSError, Ended) as error:
            raise _failed(apsw.SQLITE_IOERR_FSYNC, error) from error
        if self._dirsync:
            self._dirsync = False
            try:
                self._disk.sync_folder(_folder(self._path))
            except OSError:
                return  # SQLite's unix VFS does not look at the result of this one either
            except Ended as error:
                raise _failed(apsw.SQLITE_IOERR_FSYNC, error) from error

    def xFileSize(self) -> int:
        self._vfs.refuse()
        try:
            return self._disk.size(self._file)
        except (OSError, Ended) as error:
            raise _failed(apsw.SQLITE_IOERR_FSTAT, error) from error

    def xClose(self) -> None:
        self._disk.close(self._file)

    def xLock(self, level: int) -> None:
        """One connection per file: there is nobody to lock out."""

    def xUnlock(self, level: int) -> None:
        """See xLock."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return UNIX_SECTOR

    def xDeviceCharacteristics(self) -> int:
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def excepthook(self, etype: object, evalue: object, etraceback: object) -> bool:
        """As `_Vfs.excepthook`."""
        return True


def _failed(code: int, error: BaseException | None = None) -> apsw.Error:
    """The error of this extended code; a disk without room is SQLITE_FULL whatever was asked, as in SQLite's unix VFS."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and code == apsw.SQLITE_IOERR_WRITE:
        code = apsw.SQLITE_FULL
    return cast(apsw.Error, apsw.exception_for(code))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


# --- what the store's functions see ----------------------------------------------------------------------------------------

_CLASSES: Mapping[int, type[sqlite3.Error]] = {
    apsw.SQLITE_INTERNAL: sqlite3.InternalError,
    apsw.SQLITE_NOTFOUND: sqlite3.InternalError,
    apsw.SQLITE_CORRUPT: sqlite3.DatabaseError,
    apsw.SQLITE_TOOBIG: sqlite3.DataError,
    apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
    apsw.SQLITE_MISMATCH: sqlite3.IntegrityError,
    apsw.SQLITE_MISUSE: sqlite3.InterfaceError,
    apsw.SQLITE_RANGE: sqlite3.InterfaceError,
}
_OPERATIONAL = frozenset(
    (
        *(apsw.SQLITE_ERROR, apsw.SQLITE_PERM, apsw.SQLITE_ABORT, apsw.SQLITE_BUSY, apsw.SQLITE_LOCKED, apsw.SQLITE_READONLY),
        *(apsw.SQLITE_INTERRUPT, apsw.SQLITE_IOERR, apsw.SQLITE_FULL, apsw.SQLITE_CANTOPEN, apsw.SQLITE_PROTOCOL),
        *(apsw.SQLITE_EMPTY, apsw.SQLITE_SCHEMA),
    )
)
"""As the module sqlite3 of Python sorts them (Modules/_sqlite/util.c)."""

_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLAC")
"""Statements with a rowcount, by their first six letters."""
_ONCE = ("CREATE", "PRAGMA", "ALTER ")
"""Statements of the start: keeping them prepared would be half of an idle node's memory."""
_WORDS_MAX = 4096


@lru_cache(_WORDS_MAX)
def _sorts(statement: str) -> tuple[bool, bool]:
    """Of a statement: whether it is worth keeping prepared, and whether it has a rowcount."""
    word = statement.lstrip()[:6].upper()
    return word not in _ONCE, word in _WRITES


def as_sqlite3(error: apsw.Error) -> sqlite3.Error:
    """The same failure as the module sqlite3 raises it, with `sqlite_errorcode` and `sqlite_errorname`."""
    extended = int(getattr(error, "extendedresult", 0))
    if not extended:  # misuse that apsw itself found: bindings, closed cursors
        return sqlite3.ProgrammingError(str(error))
    code = extended & 0xFF
    kind = _CLASSES.get(code, sqlite3.OperationalError if code in _OPERATIONAL else sqlite3.DatabaseError)
    name = str((apsw.mapping_result_codes if code == extended else apsw.mapping_extended_result_codes)[extended])
    raised = kind(str(error) or name)
    raised.sqlite_errorcode, raised.sqlite_errorname = extended, name
    return raised


class SimCursor:
    """What `execute` returns: rows, `rowcount`, `lastrowid`, `description`."""

    __slots__ = ("_cursor", "_db", "lastrowid", "rowcount")

    def __init__(self, db: SimDatabase, cursor: apsw.Cursor, rowcount: int, lastrowid: int | None) -> None:
        self._db = db
        self._cursor = cursor
        self.rowcount = rowcount
        self.lastrowid = lastrowid

    @property
    def description(self) -> tuple[tuple[str, None, None, None, None, None, None], ...]:
        """Names of the columns; empty if there was no row (apsw has forgotten them by then)."""
        try:
            columns = self._cursor.get_description()
        except apsw.ExecutionCompleteError:
            return ()
        return tuple((column[0], None, None, None, None, None, None) for column in columns)

    def fetchone(self) -> Any:
        try:
            return self._cursor.fetchone()
        except apsw.Error as error:
            raise self._db.raised(error) from error

    def fetchall(self) -> list[Any]:
        try:
            return self._cursor.fetchall()
        except apsw.Error as error:
            raise self._db.raised(error) from error

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._cursor)
        except apsw.Error as error:
            raise self._db.raised(error) from error


class _Rows(SimCursor):
    """Of a statement that may not have come to its end when nobody wants more of it."""

    __slots__ = ()

    def __del__(self) -> None:
        try:  # not `suppress`: this runs for every query
            self._cursor.close()
        except apsw.Error:
            return  # of a statement that nobody steps further: sqlite3 does not look at it either


class SimDatabase:
    """The methods of `sqlite3.Connection` that the store uses. Every one raises Ended once the machine is dead."""

    def __init__(self, connection: apsw.Connection, vfs: _Vfs | _Memory) -> None:
        self._connection = connection
        self._vfs = vfs
        # In memory nothing dies inside a call of `run`, which looks before and after it.
        self._dies_within = isinstance(vfs, _Vfs)

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> SimCursor:
        """One statement."""
        if self._dies_within:
            self.check()
        connection = self._connection
        keep, writes = _sorts(statement)
        try:
            cursor = connection.execute(statement, values, can_cache=keep)
        except apsw.Error as error:
            raise self.raised(error) from error
        if writes:
            return SimCursor(self, cursor, connection.changes(), connection.last_insert_rowid())
        return (_Rows if self._dies_within else SimCursor)(self, cursor, -1, None)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> SimCursor:
        """One statement for each row; rowcount is of all of them."""
        self.check()
        connection = self._connection
        before = connection.total_changes()
        try:
            cursor = connection.executemany(statement, rows)
        except apsw.Error as error:
            raise self.raised(error) from error
        return SimCursor(self, cursor, connection.total_changes() - before, None)

    @property
    def in_transaction(self) -> bool:
        """Whether BEGIN was not yet followed by an end. An ended life has no transaction any more."""
        self.check()
        return self._connection.in_transaction

    def check(self) -> None:
        if self._vfs.stale():
            raise Ended(f"the database of {self._vfs.disk.name} is gone")

    def raised(self, error: apsw.Error) -> BaseException:
        """What the store's function is to see instead of an error of apsw."""
        if self._vfs.stale():
            return Ended(f"the database of {self._vfs.disk.name} is gone")
        return as_sqlite3(error)


class SimConnection:
    """`node.adapters.sqlite.connection.Connection` on a simulated disk. It serves writer and reader: exclusive locking, which
    needs no shared memory, allows one connection. Open with `open_connection`."""

    def __init__(self, database: SimDatabase, connection: apsw.Connection, vfs: _Vfs | _Memory) -> None:
        self._database = database
        self._connection: apsw.Connection | None = connection
        self._vfs = vfs

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work at once, then let pass the time that the disk took: what another task sees meanwhile is already synced. Raises
        what work raises; Ended, if the machine dies before the time is over."""
        living()
        self._database.check()
        try:
            result = work(cast(sqlite3.Connection, self._database))
        except Exception:
            await self._pass_time()
            raise
        await self._pass_time()
        return result

    @property
    def gone(self) -> bool:
        """Its process or its machine is dead."""
        return self._vfs.stale()

    def look(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows for a judge: no time passes, and nothing is changed."""
        with self._vfs.disk.looked_at():
            return [tuple(row) for row in self._database.execute(statement, values).fetchall()]

    async def _pass_time(self) -> None:
        self._database.check()
        await asyncio.sleep(HOP_S + self._vfs.disk.take_busy_s())
        living()
        self._database.check()

    def abandon(self) -> None:
        """The process is gone: from now on every call raises Ended, and nothing of it reaches the disk any more. May be called
        from inside an operation of the disk."""
        self._vfs.abandoned = True

    async def close(self) -> None:
        """As often as one likes: writer and reader are the same. On a living machine the WAL is folded into the file."""
        self.release()

    def release(self) -> None:
        """Give the memory back. The connection of a dead machine goes without touching what its disk holds."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._vfs.stale():
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        with suppress(apsw.Error):  # of the last checkpoint: SQLite closes all the same, and says nothing
            connection.close()
        self._vfs.unregister()


class MemoryConnection(SimConnection):
    """On a database in memory. A machine dies between two calls of `run` there, never inside one. A commit still takes the time
    of a sync, so that nothing is answered before it."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `SimConnection.run`; only what changes rows takes time, a question one turn of the loop."""
        living()
        self._database.check()
        assert self._connection is not None
        disk, before = self._vfs.disk, self._connection.total_changes()
        disk.pretend()
        try:
            result = work(cast(sqlite3.Connection, self._database))
        except Exception:
            await self._pass_time()
            raise
        if self._connection.total_changes() != before:
            disk.pretend(sync=True)
            await self._pass_time()
        else:
            await asyncio.sleep(0)  # without a timer: there are more questions than anything else
            living()
            self._database.check()
        return result

    def release(self) -> None:
        """Leave the database to the next process of the machine."""
        self._connection = None


async def open_connection(disk: Disk, path: str, wal_pages_max: int) -> SimConnection:
    """Open or create the database, with production's settings. Its folder must exist. Where the disk says that the database lies
    in memory: with those settings that mean something there.

    Raises sqlite3.Error as `open_writer` does, Ended when the machine dies at it.
    """
    life = living()
    if disk.in_memory:
        return _open_in_memory(disk, life)
    vfs = _Vfs(disk)
    try:
        disk.close(disk.open(path, create=True))  # as `open_writer` touches it
        connection = apsw.Connection(path, vfs=vfs.name, statementcachesize=STATEMENTS)
        # The wheel has STAT4 and would plan a query anew at every new value; the sqlite3 of most systems has not.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    except apsw.Error as error:
        vfs.unregister()
        if vfs.stale():
            raise Ended(f"the disk of {disk.name} is gone") from error
        raise as_sqlite3(error) from error
    except BaseException:
        vfs.unregister()
        raise
    opened = SimConnection(SimDatabase(connection, vfs), connection, vfs)
    if life is not None:
        life.ending.append(lambda: _end(life, opened))
    try:
        await opened.run(lambda db: db.execute("PRAGMA locking_mode=EXCLUSIVE"))
        await opened.run(settings(wal_pages_max))
        await opened.run(lambda db: db.execute(f"PRAGMA cache_size=-{CACHE_KB:d}"))
        connection.set_wal_hook(_checkpointing(connection.pragma("wal_autocheckpoint")))
    except Exception:
        opened.release()
        raise
    return opened


def _open_in_memory(disk: Disk, life: Life | None) -> MemoryConnection:
    memory = _Memory(disk)
    if disk.memory is None:
        disk.memory = _new_in_memory()
        with disk.memory.backup("main", _prepared(), "main") as copy:
            copy.step()
    connection: apsw.Connection = disk.memory
    assert not connection.in_transaction, "a transaction lasts no longer than one call of run"
    opened = MemoryConnection(SimDatabase(connection, memory), connection, memory)
    if life is not None:
        life.ending.append(lambda: _end(life, opened))
    return opened


def _new_in_memory() -> apsw.Connection:
    """With those of production's settings that mean something there. Small pages: most nodes of a country hold few rows.

    Not ":memory:": there all pages count as changed for good, and every commit walks over the whole database.
    """
    flags = apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection("file:node?vfs=memdb", flags=flags, statementcachesize=STATEMENTS)  # no slash: nobody shares it
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)  # as in `open_connection`
    for pragma in (f"page_size={MEMORY_PAGE}", "locking_mode=EXCLUSIVE", "journal_mode=MEMORY"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    for pragma in (f"cache_size=-{CACHE_KB:d}", "foreign_keys=ON", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


@lru_cache(1)
def _prepared() -> apsw.Connection:
    """An empty database that production's migrations have made: copied, not made anew, for each of hundreds of nodes."""
    connection = _new_in_memory()
    migrate(cast(sqlite3.Connection, SimDatabase(connection, _Memory(Disk("", stream(0, ""), Record(lambda: 0.0))))))
    return connection


def _checkpointing(pages_max: int) -> Callable[[apsw.Connection, str, int], int]:
    """What SQLite's own hook does after a commit. With that one, apsw would raise an error of the checkpoint out of a COMMIT that
    has happened; SQLite says nothing of it and tries again after the next commit."""

    def committed(connection: apsw.Connection, schema: str, pages: int) -> int:
        if pages_max > 0 and pages >= pages_max:
            with suppress(apsw.Error):
                connection.wal_checkpoint(schema)
        return apsw.SQLITE_OK

    return committed


def _end(life: Life, opened: SimConnection) -> None:
    opened.abandon()
    # SQLite may be in the middle of a call, the one at which the machine died: its memory is given back after it.
    life.loop.call_soon(opened.release, context=Context())

"""Watches a ZIP go by and counts what it would unpack to, holding one small piece at a time and writing nothing anywhere.

Headers lie, so the bytes are counted while inflating; the central directory is summed as well, because overlapping entries
show only there. What it cannot judge (damage, encryption, a foreign compression) it leaves alone: the payload is the office's
affair. Must not know XML, packages or limits other than its own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator
from dataclasses import dataclass

MIB = 1 << 20
STEP_BYTES = 256 * 1024
"""The most that one inflating step may put out."""
READ_BYTES = 32 * 1024
"""The most that one inflating step takes in: what a member leaves over is put back."""
EXTRA_FIELDS_MAX = 64

LOCAL_HEADER = b"PK\x03\x04"
CENTRAL_HEADER = b"PK\x01\x02"
DESCRIPTOR = b"PK\x07\x08"
DIRECTORY_ENDS = (b"PK\x05\x06", b"PK\x06\x06", b"PK\x05\x05")

STORED, DEFLATED = 0, 8
FLAG_ENCRYPTED, FLAG_DESCRIPTOR = 0x1, 0x8
ZIP64_FIELD, ZIP64_MARK = 0x0001, 0xFFFFFFFF

_LOCAL = struct.Struct("<2xHH8xLLHH")
_CENTRAL = struct.Struct("<4xHH8xLLHHH12x")
_FIELD = struct.Struct("<HH")

ODD_DAMAGED = "archive-damaged"
ODD_ENCRYPTED = "archive-encrypted"
ODD_METHOD = "archive-unknown-method"

Reading = Generator[None, bytes, None]


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """unpacked_bytes_max over a whole package, all levels of nesting added up; members_max and ratio_max per attachment.

    The ratio (unpacked to packed) counts only once more than ratio_from_bytes are unpacked: small files compress wildly.
    nested_max: archives within archives; the attachment itself is not counted.
    """

    unpacked_bytes_max: int
    members_max: int = 10_000
    nested_max: int = 3
    ratio_max: int = 200
    ratio_from_bytes: int = 32 * MIB


class Bomb(Exception):
    """The archive passes a limit. Its only argument names the limit and what was seen: `members ≤ 10000: 10001`."""


class _Damaged(Exception):
    """Not a ZIP that can be read from front to back; the watch stops judging it."""


class Watch:
    """One attachment's payload, fed in pieces of any length. What does not begin like a ZIP costs nothing.

    zipped: it began like one. unpacked_bytes: counted so far, to be handed to the next attachment's watch as
    unpacked_before. oddities: why something went unjudged.
    """

    def __init__(self, limits: ArchiveLimits, unpacked_before: int = 0) -> None:
        self.unpacked_bytes = 0
        self.members = 0
        self.oddities: set[str] = set()
        self._limits = limits
        self._before = unpacked_before
        self._packed_bytes = 0
        self._top = _Layer(self, 0)

    @property
    def zipped(self) -> bool:
        return self._top.zipped

    @property
    def idle(self) -> bool:
        """Whether it judges nothing any more: no archive, or one it cannot read on."""
        return self._top.idle

    def feed(self, data: bytes) -> None:
        """Raises `Bomb` as soon as a limit is passed, with at most `STEP_BYTES` unpacked beyond it."""
        self._packed_bytes += len(data)
        self._top.feed(data)

    def close(self) -> None:
        """The payload is over; an archive that stops in the middle is noted as damaged."""
        self._top.close()

    def count_unpacked(self, size: int) -> None:
        self.unpacked_bytes += size
        self.expect_unpacked(0)
        ratio = self.unpacked_bytes // max(self._packed_bytes, 1)
        if self.unpacked_bytes > self._limits.ratio_from_bytes and ratio > self._limits.ratio_max:
            raise Bomb(f"unpacked/packed ≤ {self._limits.ratio_max}: {ratio}")

    def expect_unpacked(self, size: int) -> None:
        """What is counted and `size` more must stay within the package's limit."""
        total = self._before + self.unpacked_bytes + size
        if total > self._limits.unpacked_bytes_max:
            raise Bomb(f"unpacked bytes ≤ {self._limits.unpacked_bytes_max}: {total}")

    def count_member(self) -> None:
        self.members += 1
        self.allow_members(self.members)

    def allow_members(self, members: int) -> None:
        if members > self._limits.members_max:
            raise Bomb(f"members ≤ {self._limits.members_max}: {members}")

    def allow_depth(self, depth: int) -> None:
        if depth > self._limits.nested_max:
            raise Bomb(f"nested archives ≤ {self._limits.nested_max}: {depth}")


@dataclass(frozen=True, slots=True)
class _Member:
    """A local header. packed: bytes of compressed data, None where only the descriptor behind them tells."""

    flags: int
    method: int
    packed: int | None


class _Layer:
    """One archive, or one member of it that may turn out to be an archive: a reader that is sent pieces as they come."""

    def __init__(self, watch: Watch, depth: int) -> None:
        self.zipped = False
        self._watch = watch
        self._depth = depth
        self._held = bytearray()
        self._offset = 0
        self._reading: Reading | None = self._read()
        next(self._reading)

    @property
    def idle(self) -> bool:
        return self._reading is None

    def feed(self, data: bytes) -> None:
        if self._reading is None:
            return
        try:
            self._reading.send(data)
        except StopIteration:
            self._stop()
        except (_Damaged, zlib.error):
            self._watch.oddities.add(ODD_DAMAGED)
            self._stop()

    def close(self) -> None:
        if self._reading is not None and self.zipped:
            self._watch.oddities.add(ODD_DAMAGED)
        self._stop()

    def _stop(self) -> None:
        self._reading = None
        self._held.clear()

    def _read(self) -> Reading:
        """The whole archive: members, then the central directory."""
        signature = yield from self._take(4)
        if signature != LOCAL_HEADER:
            return
        self.zipped = True
        self._watch.allow_depth(self._depth)
        while signature == LOCAL_HEADER:
            yield from self._pass_member()
            signature = yield from self._take(4)
        if signature == CENTRAL_HEADER:
            yield from self._sum_directory(self._offset - 4)
        elif signature not in DIRECTORY_ENDS:
            raise _Damaged

    def _take(self, size: int) -> Generator[None, bytes, bytes]:
        """Exactly `size` bytes, waiting for pieces where needed. Only for headers: at most 64 KiB."""
        while len(self._held) < size:
            self._held += yield
        piece = bytes(self._held[:size])
        del self._held[:size]
        self._offset += size
        return piece

    def _take_some(self, most: int) -> Generator[None, bytes, bytes]:
        """Between 1 and `most` bytes, whatever is there."""
        while not self._held:
            self._held += yield
        return (yield from self._take(min(most, len(self._held))))

    def _give_back(self, data: bytes) -> None:
        self._held[:0] = data
        self._offset -= len(data)

    def _pass_member(self) -> Reading:
        member = yield from self._member()
        self._watch.count_member()
        if member.flags & FLAG_ENCRYPTED:
            self._watch.oddities.add(ODD_ENCRYPTED)
            yield from self._skip(member)
        elif member.method == DEFLATED:
            yield from self._inflate(member)
        elif member.method == STORED:
            yield from self._copy(member)
        else:
            self._watch.oddities.add(ODD_METHOD)
            yield from self._skip(member)

    def _member(self) -> Generator[None, bytes, _Member]:
        flags, method, packed, unpacked, name_size, extra_size = _LOCAL.unpack((yield from self._take(_LOCAL.size)))
        yield from self._take(name_size)
        extra = yield from self._take(extra_size)
        if flags & FLAG_DESCRIPTOR:
            return _Member(flags, method, None)
        return _Member(flags, method, _wide(extra, unpacked, packed)[1])

    def _skip(self, member: _Member) -> Reading:
        if member.packed is None:
            raise _Damaged
        left = member.packed
        while left:
            left -= len((yield from self._take_some(left)))

    def _copy(self, member: _Member) -> Reading:
        """A stored member goes through as it is; its end is known only from its header."""
        if member.packed is None:
            raise _Damaged
        inner = _Layer(self._watch, self._depth + 1)
        left = member.packed
        while left:
            data = yield from self._take_some(min(left, STEP_BYTES))
            left -= len(data)
            self._watch.count_unpacked(len(data))
            inner.feed(data)
        inner.close()

    def _inflate(self, member: _Member) -> Reading:
        """A deflated member ends where its stream says so; headers and descriptor must agree with that."""
        inner = _Layer(self._watch, self._depth + 1)
        engine = zlib.decompressobj(-zlib.MAX_WBITS)
        packed = unpacked = 0
        while not engine.eof:
            data = yield from self._take_some(READ_BYTES)
            packed += len(data)
            while True:
                piece = engine.decompress(data, STEP_BYTES)
                data = engine.unconsumed_tail
                unpacked += len(piece)
                self._watch.count_unpacked(len(piece))
                inner.feed(piece)
                if engine.eof or (not data and len(piece) < STEP_BYTES):
                    break
        packed -= len(engine.unused_data)
        self._give_back(engine.unused_data)
        inner.close()
        if member.packed is None:
            yield from self._descriptor(packed, unpacked)
        elif member.packed != packed:
            raise _Damaged

    def _descriptor(self, packed: int, unpacked: int) -> Reading:
        """The data descriptor: signature optional, sizes of 4 or (ZIP64) 8 bytes; known by the sizes it must repeat."""
        beginning = yield from self._take(4)
        beginning += yield from self._take(12 if beginning == DESCRIPTOR else 8)
        sizes = beginning[-8:]
        if sizes == struct.pack("<LL", packed & ZIP64_MARK, unpacked & ZIP64_MARK):
            return
        sizes += yield from self._take(8)
        if sizes != struct.pack("<QQ", packed, unpacked):
            raise _Damaged

    def _sum_directory(self, archive_bytes: int) -> Reading:
        """The central directory, its first signature taken. archive_bytes: what lies before it and so bounds what it may name."""
        members = packed_sum = unpacked_sum = 0
        signature = CENTRAL_HEADER
        while signature == CENTRAL_HEADER:
            packed, unpacked, name_size, extra_size, comment_size = (_CENTRAL.unpack((yield from self._take(_CENTRAL.size))))[2:]
            yield from self._take(name_size)
            unpacked, packed = _wide((yield from self._take(extra_size)), unpacked, packed)
            yield from self._take(comment_size)
            members += 1
            packed_sum += packed
            unpacked_sum += unpacked
            self._watch.allow_members(members)
            if packed_sum > archive_bytes:
                raise Bomb(f"packed bytes ≤ {archive_bytes}: {packed_sum}")
            signature = yield from self._take(4)
        if unpacked_sum > self._watch.unpacked_bytes:
            self._watch.expect_unpacked(unpacked_sum - self._watch.unpacked_bytes)


def _wide(extra: bytes, unpacked: int, packed: int) -> tuple[int, int]:
    """(unpacked, packed), taken from the ZIP64 field where the 32-bit field holds the mark; the order is the format's."""
    if ZIP64_MARK not in (unpacked, packed):
        return unpacked, packed
    wide = iter(_zip64_values(extra))
    unpacked = next(wide, unpacked) if unpacked == ZIP64_MARK else unpacked
    packed = next(wide, packed) if packed == ZIP64_MARK else packed
    return unpacked, packed


def _zip64_values(extra: bytes) -> list[int]:
    at = 0
    for _ in range(EXTRA_FIELDS_MAX):
        if at + _FIELD.size > len(extra):
            break
        kind, size = _FIELD.unpack_from(extra, at)
        at += _FIELD.size
        if kind == ZIP64_FIELD:
            body = extra[at : at + size]
            return [value for (value,) in struct.iter_unpack("<Q", body[: len(body) & ~7])]
        at += size
    return []

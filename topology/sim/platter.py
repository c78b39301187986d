"""The content of one file: as every reader sees it, and what of it would be left after a power cut.

Knows nothing of names, capacity, time, or of what the file is for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

SECTOR = 512
"""A write is torn between sectors, never within one."""
TORN = 0.25
"""How many of the writes that a power cut keeps are torn."""
LOG_MAX = 20_000
"""Unsynced writes of a file; more of them, and the system has written them back by itself."""


class _Write(NamedTuple):
    """One unsynced change: `new` at `offset`, or a cut to `offset` bytes (new is None). `old` is what it replaced."""

    offset: int
    new: bytes | None
    old: bytes
    size: int
    """Of the file, before the change."""


class Inode:
    """A file: at rest, open, or both. It outlives its names while somebody has it open."""

    __slots__ = ("_durable", "_log", "content", "modified_s", "names", "opens")

    def __init__(self, modified_s: float, content: bytes = b"") -> None:
        self.content = bytearray(content)
        """As every reader sees it; durable at the start."""
        self.modified_s = modified_s
        self.names = 0
        self.opens = 0
        # Given only after a failed sync: from then on what is on the platter does not follow from content and log any more.
        self._durable: bytearray | None = None
        self._log: list[_Write] = []

    def write(self, offset: int, data: bytes) -> None:
        """A hole before offset is filled with zeros."""
        content = self.content
        size, end = len(content), offset + len(data)
        if offset >= size:
            content.extend(bytes(offset - size))
            self._log.append(_Write(offset, data, b"", size))
            content += data
        else:
            self._log.append(_Write(offset, data, bytes(content[offset:end]), size))
            content[offset:end] = data
        if len(self._log) > LOG_MAX:
            self.sync()

    def cut(self, size: int) -> None:
        """Shorter, or longer with zeros."""
        self._log.append(_Write(size, None, bytes(self.content[size:]), len(self.content)))
        _apply(self.content, size, None)

    def sync(self) -> None:
        """Everything written is durable."""
        if self._durable is not None:
            for write in self._log:
                _apply(self._durable, write.offset, write.new)
        self._log.clear()

    def sync_failed(self, rng: random.Random) -> None:
        """Some of the writes have reached the platter; no later sync brings the rest there."""
        self._durable = self._on_platter()
        for write in self._log:
            if rng.random() < 0.5:
                _apply(self._durable, write.offset, write.new)
        self._log.clear()

    def lose(self, rng: random.Random, keep: float) -> None:
        """A power cut: each unsynced write is kept with this probability by itself, whole or torn."""
        image = self._on_platter()
        for write in self._log:
            if rng.random() >= keep:
                continue
            if write.new is None or rng.random() >= TORN:
                _apply(image, write.offset, write.new)
                continue
            for offset, piece in _sectors(write.offset, write.new):
                if rng.random() < 0.5:
                    _apply(image, offset, piece)
        self.content, self._durable = image, None
        self._log.clear()

    def flip(self, rng: random.Random, at: int | None = None) -> int:
        """Turn one bit, of the byte at or of any, durably; returns which. The file must not be empty."""
        bit = rng.randrange(8 * len(self.content)) if at is None else 8 * at + rng.randrange(8)
        for image in (self.content, self._durable):
            if image is not None and bit // 8 < len(image):
                image[bit // 8] ^= 1 << bit % 8
        return bit

    def _on_platter(self) -> bytearray:
        """What the last sync made durable."""
        if self._durable is not None:
            return self._durable
        image = bytearray(self.content)
        for write in reversed(self._log):
            end = len(image) if write.new is None else write.offset + len(write.old)
            image[write.offset : end] = write.old
            del image[write.size :]
        return image


def _apply(image: bytearray, offset: int, new: bytes | None) -> None:
    """A write, or a cut to `offset` bytes; a hole is filled with zeros."""
    if new is None:
        del image[offset:]
        new = b""
    if offset > len(image):
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(new)] = new


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        length = SECTOR - (offset + at) % SECTOR
        yield offset + at, data[at : at + length]
        at += length

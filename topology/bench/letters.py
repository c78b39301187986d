"""What the offices of a bench write: valid edXML packages with random content, each by its number like no other.

A package is written once and then only numbered and filled, so that the writing does not become what is measured.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from random import Random

from node.core.package import Party, Priority
from node.documents.edxml_writer import DocumentMessage, File, write_document

DATE = "2026/01/15"
MADE_MS = 1_768_453_200_000
MARK = "SO-THU-TU"
HOLE = b"\x00" * 48
NUMBER_BYTES = 8
FILL_BYTES = 4 << 20
STRIDE = 7919
"""Between the beginnings of two contents; prime, so that they do not repeat soon."""


class Letters:
    """Packages from one organ to others, each with a number and a content of its own."""

    def __init__(self, sender: str, recipients: Sequence[str], priority: Priority = Priority.NORMAL) -> None:
        written = write_document(
            DocumentMessage(
                sender=Party(sender, f"Cơ quan {sender}"),
                recipients=tuple(Party(code, f"Cơ quan {code}") for code in recipients),
                document_id=f"{sender}-{MARK}",
                number=MARK,
                notation="CV-DO",
                date=DATE,
                subject="Văn bản để đo",
                timestamp_ms=MADE_MS,
                priority=priority,
                attachments=(File(name="vanban.pdf", content=HOLE, content_type="application/pdf"),),
            )
        )
        self._head, self._tail = written.split(binascii.b2a_base64(HOLE, newline=False))

    def write(self, number: int, content: bytes) -> bytes:
        head = self._head.replace(MARK.encode(), b"%d" % number)
        return b"".join((head, binascii.b2a_base64(content, newline=False), self._tail))


class Contents:
    """Random content by number: nothing on the way can win by compressing. One seed gives the same bytes again."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self.size = size
        self._fill = Random(seed).randbytes(FILL_BYTES)  # noqa: S311  # noise, no secret
        self._last = (-1, b"")

    def of(self, number: int) -> bytes:
        if number != self._last[0]:
            start = number * STRIDE % (FILL_BYTES - self.size)
            content = number.to_bytes(NUMBER_BYTES, "big") + self._fill[start : start + self.size - NUMBER_BYTES]
            self._last = (number, content)
        return self._last[1]


def content_of(package: bytes) -> bytes:
    """The attachment of a package from here. ValueError: it has none."""
    start = package.index(b">", package.index(b"ContentTransferEncoded")) + 1
    return _decoded(package[start : package.index(b"<", start)])


class _Decoded:
    """Base64 to bytes; the same text again, as many receivers of one document have it, is only compared: decoding a megabyte for
    each of them would be most of what is measured."""

    def __init__(self) -> None:
        self._text = b""
        self._content = b""

    def __call__(self, text: bytes) -> bytes:
        if text != self._text:
            self._text, self._content = text, binascii.a2b_base64(text)
        return self._content


_decoded = _Decoded()


def number_of(content: bytes) -> int:
    return int.from_bytes(content[:NUMBER_BYTES], "big")

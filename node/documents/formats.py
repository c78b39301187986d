"""Forms of single values inside a package: base64 that comes in pieces, dates, attachment names as harmless labels.

Must not know XML, archives or where the bytes come from; imports nothing of the house.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from datetime import date

LABEL_BYTES_MAX = 255
"""The longest file name every common file system takes, in bytes of UTF-8."""
SUFFIX_BYTES_MAX = 20
LABEL_EMPTY = "khong-ten"

_WHITE = b" \t\r\n"
_WHITES = (b" ", b"\t", b"\r", b"\n")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
PADDING_MAX = 2
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]")
_DATE = re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2})")
_SEPARATORS = re.compile(r"[/\\]")
_WINDOWS_ONLY = re.compile(r'[<>:"|?*]')
_EDGES = re.compile(r"^[\s.]+|[\s.]+$")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(\.|$)", re.IGNORECASE)


class BrokenBase64(Exception):
    """The text is not base64. Its only argument says what was met, as data: `U+002D`, `text after padding`."""


class Base64Decoder:
    """Strict base64 (RFC 4648 section 4) in pieces of any length: white space is skipped, padding must be right and last.

    The bits that padding leaves over are not judged: several real encoders fill them.
    """

    __slots__ = ("_ended", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    def feed(self, text: str) -> bytes:
        """The bytes that are complete now; up to three characters wait for the next piece. Raises `BrokenBase64`."""
        try:
            data = text.encode("ascii")
        except UnicodeEncodeError as error:
            raise BrokenBase64(f"U+{ord(text[error.start]):04X}") from None
        return self.feed_bytes(data)

    def feed_bytes(self, data: bytes) -> bytes:
        """The same for ASCII as it is. Where it raises, it has taken nothing."""
        data, whole = self._groups(data)
        try:
            decoded = binascii.a2b_base64(data[:whole], strict_mode=True) if whole else b""
        except binascii.Error as error:
            raise BrokenBase64(_fault(data) or str(error)[:80]) from None
        self._taken(data, whole)
        return decoded

    def count_bytes(self, data: bytes) -> int:
        """As `feed_bytes`, with the same faults, but only counts what it would return: in a third of the time."""
        data, whole = self._groups(data)
        text = data[:whole].rstrip(b"=")
        padding = whole - len(text)
        if padding > PADDING_MAX or text.translate(None, _ALPHABET):
            raise BrokenBase64(_fault(data) or "padding")
        self._taken(data, whole)
        return whole // 4 * 3 - padding

    def _groups(self, data: bytes) -> tuple[bytes, int]:
        """What waited and what came, without white space, and how much of it is whole groups of four."""
        if any(white in data for white in _WHITES):
            data = data.translate(None, _WHITE)
        data = self._rest + data
        if self._ended and data:
            raise BrokenBase64("text after padding")
        whole = len(data) & ~3
        if wrong := _fault(data[whole:]):
            raise BrokenBase64(_fault(data) or wrong)
        return data, whole

    def _taken(self, data: bytes, whole: int) -> None:
        self._ended = self._ended or data[:whole].endswith(b"=")
        self._rest = data[whole:]

    def close(self) -> None:
        """The text is over. Raises `BrokenBase64` where it stops within a group of four."""
        if self._rest:
            raise BrokenBase64(_fault(self._rest) or "length not a multiple of 4")


def _fault(data: bytes) -> str:
    wrong = _NOT_BASE64.search(data)
    return f"U+{data[wrong.start()]:04X}" if wrong else ""


def parse_date(text: str) -> date | None:
    """`yyyy/MM/dd`, the one date form of edXML; None for any other form and for days that do not exist (30 February occurs)."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year, month, day = map(int, match.groups())
    try:
        return date(year, month, day)
    except ValueError:
        return None


def label(name: str) -> str:
    """An attachment's name as a file name that can do no harm: never a path, never hidden, never empty.

    Last component only, NFC, without control and direction characters, without what Windows forbids or reserves, at most
    `LABEL_BYTES_MAX` bytes with its suffix kept. `label(label(x)) == label(x)`. Only ever shown or offered for saving.
    """
    text = "".join(mark for mark in unicodedata.normalize("NFC", name) if _visible(mark))
    text = unicodedata.normalize("NFC", text)
    text = _EDGES.sub("", _WINDOWS_ONLY.sub("_", _SEPARATORS.split(text)[-1]))
    if _RESERVED.match(text):
        text = f"_{text}"
    return _shortened(text) or LABEL_EMPTY


def _visible(mark: str) -> bool:
    """Not a control, format (zero width, direction), surrogate, private or unassigned character, nor a line separator."""
    category = unicodedata.category(mark)
    return category[0] != "C" and category not in ("Zl", "Zp")


def _shortened(text: str) -> str:
    if len(text.encode()) <= LABEL_BYTES_MAX:
        return text
    stem, dot, suffix = text.rpartition(".")
    if not stem or len((dot + suffix).encode()) > SUFFIX_BYTES_MAX:
        stem, dot, suffix = text, "", ""
    room = LABEL_BYTES_MAX - len((dot + suffix).encode())
    return _EDGES.sub("", stem.encode()[:room].decode(errors="ignore")) + dot + suffix

"""Reads edXML packages and statuses piece by piece in constant memory: bytes in, a `Package` or `Refused` out, nothing else.

Lenient about what real packages get wrong (order, prefixes, namespace, missing fields: each named in `oddities`), strict about
what could harm or mislead (well-formedness, DOCTYPE, sizes, base64, archives, two senders). This file judges the XML, `draft.py`
what it says. Must not know who may send, whether a code exists, or where the bytes come from.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from xml.parsers import expat

from node.core.errors import Reason, Refused
from node.core.package import Package
from node.documents.draft import FLAT_PAYLOAD, HEADER, KNOWN, ONCE, PAYLOAD, RECORDS, SHORT, TOP, VALUES, Draft, ReadLimits, shown
from node.documents.edxml_writer import NAMESPACE, DocumentMessage, File, StatusMessage, write_document, write_status

__all__ = ["DocumentMessage", "File", "ReadLimits", "Reader", "StatusMessage", "write_document", "write_status"]

SLICE_BYTES = 4 * 1024
"""What expat is given at once: after a handler has refused, expat still runs on to the end of its slice; and base64 goes past it
only from the end of the slice in which it began."""
TEXT_BYTES = 64 * 1024
"""Text that expat holds back to tell it at once."""
TOKEN_BYTES_MAX = 1 << 20
"""One tag, comment or processing instruction: expat holds an unfinished one whole."""
PASS_BYTES = 256 * 1024
"""The most base64 that is decoded at once."""
MARKUP = (b"<", b"&", b"]")
"""Where text may end, or mean something else than itself."""
HEAD_BYTES = 2
UTF16_MARKS = (b"\xfe\xff", b"\xff\xfe")
NAME_CHARS_MAX = 256
NAMES_MAX = 2000
"""Distinct names and namespaces of one package, which expat never forgets. Real packages have about a hundred."""
ENCODINGS = ("utf-8", "utf-16", "utf-16le", "utf-16be", "iso-8859-1", "us-ascii")
"""What expat reads by itself. Any other name would pick a codec of Python's, which is not the sender's to choose."""

ROOTS = ("edXML", "edXMLEnvelope")
WRAPPERS = frozenset({"edXML", "edXMLEnvelope", "edXMLHeader", "edXMLBody", "edXMLManifest"})
"""Elements that only hold others. A path is counted from the last of them, so it is the same in every outer shape."""
PLACES_KNOWN = 1024
"""What was found out of an element by its parent's path and its name: packages are made of the same hundred."""


class _Place(NamedTuple):
    """What an open element is. path: None where nobody asks for it, "" for a wrapper. once: only one may be there. opens: it is
    one of these."""

    path: str | None
    opens: bool = False
    once: bool = False
    record: bool = False
    value: bool = False
    payload: bool = False


class Reader:
    """One package: `feed` the bytes as they come, then `close` for the value. Raises `Refused`, and then keeps to it.

    Memory does not grow with attachments: held are a slice of XML, a piece of a ZIP and the header's values.
    """

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._draft = Draft(limits)
        self._names: dict[str, str] = {}
        self._parser = self._prepared(expat.ParserCreate(None, "\x01", intern=self._names))
        self._refusal: Refused | None = None
        self._waiting = bytearray()
        self._step = SLICE_BYTES
        self._bytes = 0
        self._parsed = 0
        self._blank = True
        self._head = b""
        self._beyond_columns = False
        """Contents have begun, of which expat may not see all: from here on it is right about lines alone."""
        self._passed_lines = 0
        self._places: list[_Place] = []
        self._counted = 0
        self._run = 0
        self._flat = False
        self._value_depth = 0
        self._parts: list[str] = []

    def feed(self, chunk: bytes) -> None:
        """The next bytes, split anywhere. Raises `Refused`, at the latest a slice after the fault."""
        if self._refusal is not None:
            raise self._refusal
        try:
            self._take(chunk)
        except Refused as refusal:
            self._keep(refusal)
            raise

    def close(self) -> Package:
        """The package as read. Raises `Refused` where it is unfinished or lacks what it needs to be sent."""
        if self._refusal is not None:
            raise self._refusal
        try:
            if self._blank:
                raise Refused(Reason.PACKAGE_EMPTY, "package", str(self._bytes))
            self._parse(self._waiting, final=True)
            package = self._draft.package()
        except Refused as refusal:
            self._keep(refusal)
            raise
        self._release()
        return package

    def _keep(self, refusal: Refused) -> None:
        # A copy: the one under way holds its traceback, and with it this reader and the bytes at hand.
        self._refusal = Refused(refusal.reason, refusal.element, refusal.value, refusal.rule)
        self._release()

    def _release(self) -> None:
        """Parser and handlers hold each other: let go at once, not when the garbage collector comes by."""
        parser = self._parser
        parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None
        parser.XmlDeclHandler = parser.StartDoctypeDeclHandler = parser.StartNamespaceDeclHandler = None
        self._waiting = bytearray()

    # --- bytes to expat

    def _prepared(self, parser: expat.XMLParserType) -> expat.XMLParserType:
        parser.buffer_text = True
        parser.buffer_size = TEXT_BYTES
        if hasattr(parser, "SetReparseDeferralEnabled"):
            parser.SetReparseDeferralEnabled(False)  # `_parse` bounds the rescans itself, alike on every expat
        parser.XmlDeclHandler = self._on_declaration
        parser.StartDoctypeDeclHandler = self._on_doctype
        parser.StartNamespaceDeclHandler = self._on_namespace
        parser.StartElementHandler = self._on_start
        parser.EndElementHandler = self._on_end
        parser.CharacterDataHandler = self._on_text
        return parser

    def _take(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes > self._limits.package_bytes_max:
            raise Refused(Reason.PACKAGE_TOO_LARGE, "package", str(self._bytes), f"≤ {self._limits.package_bytes_max}")
        self._blank = self._blank and not chunk.strip()
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[:HEAD_BYTES]
        at = 0 if self._waiting else self._pass_by(chunk, 0)
        if len(self._waiting) + len(chunk) - at < self._step:
            self._waiting += chunk[at:] if at else chunk
            return
        if self._waiting:
            chunk = bytes(self._waiting) + chunk
        data = memoryview(chunk)
        while len(data) - at >= self._step:
            end = at + self._step
            self._parse(data[at:end], final=False)
            at = self._pass_by(chunk, end)
        self._waiting = bytearray(data[at:])

    def _pass_by(self, data: bytes, at: int) -> int:
        """Base64 from `at` on goes straight to its decoder, up to the next markup: expat would only copy it. Returns where the
        rest begins. Not where a byte is no character, nor where expat holds the beginning of something, a comment for one."""
        if not (self._places and self._places[-1].payload and self._bytewise()):
            return at
        if self._parsed != self._parser.CurrentByteIndex:
            return at
        stop = min([found for mark in MARKUP if (found := data.find(mark, at)) >= 0], default=len(data))
        while at < stop:
            piece = data[at : min(stop, at + PASS_BYTES)]
            if not self._draft.payload_bytes(piece):
                break  # expat may know better why; else the draft says so
            if b"\n" in piece:  # found faster than counted
                self._passed_lines += piece.count(b"\n")
            at += len(piece)
        return at

    def _bytewise(self) -> bool:
        """Whether an ASCII character is one byte: expat reads anything else only if it begins like UTF-16."""
        return len(self._head) >= HEAD_BYTES and 0 not in self._head[:HEAD_BYTES] and self._head[:HEAD_BYTES] not in UTF16_MARKS

    def _parse(self, data: bytearray | memoryview, *, final: bool) -> None:
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as error:
            column = "" if self._beyond_columns else f", column {error.offset + 1}"
            rule = f"line {error.lineno + self._passed_lines}{column}: {expat.ErrorString(error.code)}"
            raise Refused(Reason.XML_MALFORMED, rule=rule) from None
        self._parsed += len(data)
        unfinished = self._parsed - max(self._parser.CurrentByteIndex, 0)
        if not final and unfinished > TOKEN_BYTES_MAX:
            raise Refused(Reason.VALUE_TOO_LONG, self._here(), rule=f"≤ {TOKEN_BYTES_MAX}")
        # expat scans an unfinished token again from its start: giving as much again each time keeps the sum linear.
        self._step = max(SLICE_BYTES, unfinished)

    # --- what expat tells

    def _on_declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is None or encoding.lower() == "utf-8":
            return
        if encoding.lower() not in ENCODINGS:
            raise Refused(Reason.XML_MALFORMED, "encoding", encoding, ", ".join(ENCODINGS))
        self._draft.odd("encoding-not-utf-8")

    def _on_doctype(self, name: str, system_id: str | None, public_id: str | None, has_internal_subset: bool) -> None:
        raise Refused(Reason.XML_DOCTYPE, "DOCTYPE", name)

    def _on_namespace(self, prefix: str | None, uri: str | None) -> None:
        self._count(1)
        if max(len(prefix or ""), len(uri or "")) > NAME_CHARS_MAX:
            raise Refused(Reason.VALUE_TOO_LONG, "xmlns", uri or "", f"≤ {NAME_CHARS_MAX}")

    def _on_start(self, name: str, attributes: dict[str, str]) -> None:
        places = self._places
        depth = len(places) + 1
        self._counted += 1
        if self._counted > self._limits.elements_max or len(self._names) > NAMES_MAX:
            self._count(0)
        place = _place(places[-1].path, name, self._flat) if places else self._root(name)
        if depth > self._limits.depth_max:
            raise Refused(Reason.XML_TOO_DEEP, _local(name), str(depth), f"≤ {self._limits.depth_max}")
        if attributes:
            self._count(len(attributes))
            self._check_attributes(_local(name), attributes)
        if not self._value_depth:
            self._run = 0
        places.append(place)
        if place.opens:
            self._open(place, depth, attributes)

    def _on_end(self, name: str) -> None:
        depth = len(self._places)
        place = self._places.pop()
        if depth == self._value_depth:
            self._value_depth = 0
            if place.payload:
                self._draft.end_payload()
            else:
                self._draft.value(place.path or "", "".join(self._parts).strip())
        elif place.record:
            self._draft.end_record(place.path or "")
        if not self._value_depth:
            self._run = 0

    def _on_text(self, data: str) -> None:
        if self._value_depth != len(self._places):
            if data.isspace():
                return
        elif self._places[-1].payload:
            self._draft.payload(data)
            return
        else:
            self._parts.append(data)
        self._run += len(data)
        if self._run > self._limits.text_max:
            raise Refused(Reason.VALUE_TOO_LONG, self._here(), data[:100].strip(), f"≤ {self._limits.text_max}")

    # --- bounds and paths

    def _count(self, more: int) -> None:
        self._counted += more
        if self._counted > self._limits.elements_max:
            raise Refused(Reason.TOO_MANY_ELEMENTS, value=str(self._counted), rule=f"≤ {self._limits.elements_max}")
        if len(self._names) > NAMES_MAX:
            raise Refused(Reason.TOO_MANY_ELEMENTS, value=str(len(self._names)), rule=f"≤ {NAMES_MAX}")

    def _check_attributes(self, local: str, attributes: dict[str, str]) -> None:
        for key, value in attributes.items():
            name = key.rpartition("\x01")[2]
            if len(name) > NAME_CHARS_MAX:
                raise Refused(Reason.VALUE_TOO_LONG, f"{local}@{name[:NAME_CHARS_MAX]}", rule=f"≤ {NAME_CHARS_MAX}")
            if len(value) > self._limits.text_max:
                raise Refused(Reason.VALUE_TOO_LONG, f"{local}@{name}", value[:100], f"≤ {self._limits.text_max}")

    def _here(self) -> str:
        """The innermost open element that has a known path, for messages."""
        return next((shown(place.path) for place in reversed(self._places) if place.path), "")

    def _root(self, name: str) -> _Place:
        local = _local(name)
        if local not in ROOTS:
            raise Refused(Reason.NOT_EDXML, "root", local, " | ".join(ROOTS))
        namespace = name.rpartition("\x01")[0]
        if namespace != NAMESPACE:
            self._draft.odd("namespace-other" if namespace else "namespace-missing")
        self._flat = local == "edXMLEnvelope"
        if self._flat:
            self._draft.odd("root-envelope")
        return _Place("")

    def _open(self, place: _Place, depth: int, attributes: dict[str, str]) -> None:
        if place.once:
            self._draft.only_one(place.path or "")
        if place.record:
            self._draft.begin_record({key.rpartition("\x01")[2]: value for key, value in attributes.items()})
        elif place.value:
            self._value_depth = depth
            self._parts = []
        elif place.payload:
            self._value_depth = depth
            self._beyond_columns = True
            self._draft.begin_payload()


def _local(name: str) -> str:
    """An element's name without its namespace. Raises `Refused(VALUE_TOO_LONG)`."""
    local = name.rpartition("\x01")[2]
    if len(local) > NAME_CHARS_MAX:
        raise Refused(Reason.VALUE_TOO_LONG, local[:NAME_CHARS_MAX], rule=f"≤ {NAME_CHARS_MAX}")
    return local


@lru_cache(PLACES_KNOWN)
def _place(parent: str | None, name: str, flat: bool) -> _Place:
    """What stands there. parent: the path of the element around it. Raises as `_local`."""
    path = _path(parent, _local(name), flat)
    payload = path == PAYLOAD or (path == FLAT_PAYLOAD and flat)
    kinds = (path in ONCE, path in RECORDS, path in VALUES, payload)
    return _Place(path, any(kinds), *kinds)


def _path(parent: str | None, local: str, flat: bool) -> str | None:
    """Where an element stands, by local names from the last wrapper on; None where nobody asks for it."""
    if parent is None:
        return None
    if parent:
        path = f"{parent}/{local}"
    elif local in WRAPPERS:
        return ""
    else:
        path = SHORT.get(local, local)
        if flat and path.partition("/")[0] not in TOP:
            path = f"{HEADER}/{local}"  # http://www.go.vn/eDoc: the header's elements lie bare under the root
    return path if path in KNOWN else None

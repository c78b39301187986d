"""Many packages in one body: multipart/mixed taken apart and put together. Pure functions of bytes.

Any bytes are parts or `Refused`, nothing else. A part is found by its delimiter line (RFC 2046, CR LF), never byte by byte, and
its content is a view of the body. Knows the headers of a part that mean something here; nothing of packages or of HTTP.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from node.core.envelope import KIND_DOCUMENT, KIND_STATUS
from node.core.errors import Reason, Refused

PARTS_MAX = 1000
"""Packages in one request, and ids in one list."""
BATCH_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of one request that carries many packages."""
PART_HEAD_BYTES_MAX = 8 * 1024
REF_CHARS_MAX = 200
KINDS = (KIND_DOCUMENT, KIND_STATUS)
MIXED = "multipart/mixed"

_BOUNDARY = re.compile(
    r"""(?i);\s*boundary\s*=\s*(?:"([0-9A-Za-z'()+_,\-./:=? ]{1,70})"|([0-9A-Za-z'+_\-.]{1,70})(?=\s*(?:;|$)))"""
)
_AS_IT_IS = ("", "7bit", "8bit", "binary")


@dataclass(frozen=True, slots=True)
class Part:
    """One package of many. ref: what the caller calls it, "" if nothing. kind: edoc or status."""

    ref: str
    kind: str
    content: memoryview


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart/mixed body; any other type, or none: `Refused(REQUEST_MALFORMED)`."""
    if content_type.partition(";")[0].strip().lower() != MIXED:
        raise Refused(Reason.REQUEST_MALFORMED, "Content-Type", content_type, MIXED)
    found = _BOUNDARY.search(content_type)
    boundary = (found[1] or found[2]).rstrip(" ") if found is not None else ""
    if not boundary:
        raise Refused(Reason.REQUEST_MALFORMED, "Content-Type", content_type, "boundary=…")
    return boundary.encode("ascii")


def split(body: bytes, boundary: bytes) -> list[Part]:
    """The parts, in order, all of them or none: `Refused(REQUEST_MALFORMED | TOO_MANY_ELEMENTS)`."""
    delimiter = b"\r\n--" + boundary
    view = memoryview(body)
    parts: list[Part] = []
    at = _behind_first(body, delimiter)
    while at > 0 and not body.startswith(b"--", at):
        end = body.find(delimiter, at)
        if end < 0:
            break
        if len(parts) == PARTS_MAX:
            raise Refused(Reason.TOO_MANY_ELEMENTS, "multipart", f"> {PARTS_MAX}", str(PARTS_MAX))
        parts.append(_part(body, view, at, end))
        at = end + len(delimiter)
    else:
        if parts:
            return parts
    raise Refused(Reason.REQUEST_MALFORMED, "multipart", f"{len(parts)} parts", "--boundary … --boundary--")


def _behind_first(body: bytes, delimiter: bytes) -> int:
    """Where the line of the first delimiter goes on; 0: there is none. What stands before it means nothing."""
    if body.startswith(delimiter[2:]):
        return len(delimiter) - 2
    return body.find(delimiter) + len(delimiter) if delimiter in body else 0


def _part(body: bytes, view: memoryview, at: int, end: int) -> Part:
    """at: behind the delimiter, where its line goes on; end: where the next one begins."""
    line = body.find(b"\r\n", at, end)
    head = body.find(b"\r\n\r\n", line, end) if line >= 0 else -1
    if head < 0 or body[at:line].strip(b" \t") or head - at > PART_HEAD_BYTES_MAX:
        raise Refused(Reason.REQUEST_MALFORMED, "multipart", "", f"CR LF CR LF ≤ {PART_HEAD_BYTES_MAX} B")
    headers = _headers(body[line + 2 : head])
    ref = headers.get("content-id", "")
    if ref.startswith("<") and ref.endswith(">"):
        ref = ref[1:-1]
    if len(ref) > REF_CHARS_MAX or not ref.isprintable():
        raise Refused(Reason.REQUEST_MALFORMED, "Content-ID", ref, f"≤ {REF_CHARS_MAX}")
    kind = headers.get("truc-kind", "").lower() or KIND_DOCUMENT
    if kind not in KINDS:
        raise Refused(Reason.REQUEST_MALFORMED, "Truc-Kind", kind, ", ".join(KINDS))
    coding = headers.get("content-transfer-encoding", "").lower()
    if coding not in _AS_IT_IS:
        raise Refused(Reason.REQUEST_MALFORMED, "Content-Transfer-Encoding", coding, "binary")
    return Part(ref, kind, view[head + 4 : end])


def _headers(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in head.split(b"\r\n") if head else ():
        name, colon, value = line.partition(b":")
        try:
            key = name.decode("ascii").lower()
            text = value.strip(b" \t").decode()
        except UnicodeDecodeError:
            key = ""
            text = ""
        if not colon or not key or key != key.strip() or key in headers:
            raise Refused(Reason.REQUEST_MALFORMED, "multipart", line[:40].decode("ascii", "replace"), "Name: value")
        headers[key] = text
    return headers


def boundary_for(index: bytes) -> bytes:
    """A boundary for the answer that begins with this index. It names every content by its digest: none can hold its own."""
    return b"truc-" + hashlib.sha256(index).hexdigest()[:40].encode()


def joined_heads(boundary: bytes, index: bytes, contents: Sequence[tuple[str, int]]) -> tuple[bytes, list[bytes], bytes]:
    """What stands around the contents (docId, size): the index, what comes before each content, the end."""
    first = b"--%b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (boundary, len(index), index)
    heads = [
        b"\r\n--%b\r\nContent-ID: <%b>\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
        % (boundary, doc_id.encode("ascii"), size)
        for doc_id, size in contents
    ]
    return first, heads, b"\r\n--%b--\r\n" % boundary

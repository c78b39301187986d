"""The native door's wire as an office's program speaks it: HTTP Basic, many packages in one body, a mailbox with its contents.

Plain functions over bytes. Knows the words of `/api/v1`; nothing of connections, or of who speaks.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from topology import vxp

BOUNDARY = b"truc-7f3c1e9a5d"


def basic(system_id: str, secret: str) -> str:
    """The Authorization header."""
    return "Basic " + base64.b64encode(f"{system_id}:{secret}".encode()).decode()


def multipart(packages: Sequence[bytes]) -> bytes:
    """A multipart/mixed body with one part for each package, in their order."""
    pieces = []
    for package in packages:
        pieces += [b"--", BOUNDARY, b"\r\nContent-Type: ", vxp.FILE_TYPE.encode(), b"\r\n\r\n", package, b"\r\n"]
    return b"".join((*pieces, b"--", BOUNDARY, b"--\r\n"))


def parts(body: bytes, content_type: str) -> list[bytes]:
    """The contents of a multipart body in order; a body of any other type is its own only part."""
    if not content_type.startswith("multipart/"):
        return [body]
    boundary = content_type.partition("boundary=")[2].partition(";")[0].strip(' "').encode()
    found = (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]
    return [part.partition(b"\r\n\r\n")[2] for part in found]

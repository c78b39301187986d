"""One call on the wire of the VXP face, as values: the signed headers of a request, and what an answer says.

Knows no clock, no transport and no node: the instant is handed in, and the bytes go wherever the caller likes. Every call is
signed afresh; the habits of the vendor's SDK, left-over headers among them, are played by the tests' own client.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

PREFIX = "XroadVnpt-"
JSON_TYPE = "application/json"
FILE_TYPE = "application/octet-stream"
EMPTY = b"{}"
"""The body of every call that carries none."""

Answer = Mapping[str, Any]
"""What a node said: status OK or FAIL, ErrorCode, ErrorDesc, and data, DocId or count where the operation has them."""


def headers(
    system_id: str, secret: str, fields: Mapping[str, str], now: datetime, content_type: str = JSON_TYPE
) -> dict[str, str]:
    """Everything the face wants to see beside a body. fields: names without prefix; now: in Vietnam's time."""
    values = {"systemid": system_id, **fields}
    values |= {"timestamp": f"{now:%d%m%YT%H%M%S}+{now.microsecond // 1000:04}", "Content-Type": content_type}
    signed = {PREFIX + name: value for name, value in values.items()}
    text = json.dumps(signed, separators=(",", ":"))
    mac = hmac.digest(secret.encode(), text.encode(), "sha256").hex()
    return {**signed, "Content-Type": content_type, PREFIX + "sign-header": text, PREFIX + "hash-header": mac}


def package_fields(package: bytes, kind: str) -> dict[str, str]:
    """The fields of sendEdoc. kind: edoc or status."""
    return {"servicetype": "eDoc", "messagetype": kind, "hash-file": hashlib.sha256(package).hexdigest()}


def list_fields(kind: str, doc_id: str | None = None) -> dict[str, str]:
    """The fields of getReceivedEdocList and, with or without a docId, of getSentEdocList."""
    return {"servicetype": "eDoc", "messagetype": kind} | ({} if doc_id is None else {"docId": doc_id})


def read_answer(body: bytes) -> Answer:
    """The answer in a body. ValueError: it is none (a page, half an answer, noise)."""
    answer = json.loads(body)
    if not isinstance(answer, dict) or answer.get("status") not in ("OK", "FAIL"):
        raise ValueError("the body is no answer of the VXP face")
    return answer


def package_in(answer: Answer) -> bytes:
    """The file in a successful answer of getEdoc. ValueError: there is none."""
    data = answer.get("data")
    if not isinstance(data, str):
        raise ValueError("the answer holds no package")
    return base64.b64decode(data, validate=True)

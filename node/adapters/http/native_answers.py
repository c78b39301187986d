"""Answers of the native face: JSON in UTF-8, instants as ISO 8601 with +07:00, errors as problem+json (RFC 9457).

Pure functions from the values of `office` and `errors` to bytes. Knows the field names of `/api/v1`; nothing of requests, or of
where the values came from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from node.core import words
from node.core.errors import Deferred, Reason, Refused
from node.core.instant import iso
from node.core.office import Given, Listed, NodeTime, Page, Problem, Submitted

Answer = dict[str, Any]
Settled = Refused | Deferred | None

_STATUS = {
    Reason.REQUEST_MALFORMED: 400,
    Reason.CREDENTIALS_WRONG: 401,
    Reason.SIGNATURE_MISSING: 401,
    Reason.SYSTEM_DISABLED: 403,
    Reason.NETWORK_FORBIDDEN: 403,
    Reason.CLIENT_CERTIFICATE_MISSING: 403,
    Reason.CLIENT_CERTIFICATE_UNKNOWN: 403,
    Reason.CLIENT_CERTIFICATE_DATES: 403,
    Reason.CLIENT_CERTIFICATE_REVOKED: 403,
    Reason.DOC_UNKNOWN: 404,
    Reason.OPERATION_UNKNOWN: 404,
    Reason.PACKAGE_TOO_LARGE: 413,
    Reason.TOO_MANY_ELEMENTS: 413,
    Reason.INTERNAL: 500,
    Reason.NOT_NOW: 503,
    Reason.DISK_FULL: 503,
}
_UNPROCESSABLE = 422
"""The request is well-formed; what it asks for, or the package it carries, is refused."""


def http_status(reason: Reason) -> int:
    return _STATUS.get(reason, _UNPROCESSABLE)


def encode(answer: Mapping[str, Any]) -> bytes:
    """Half of a surrogate pair, which no UTF-8 can hold, becomes a question mark."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def problem(refused: Refused, status: int, retry_after_s: float | None = None) -> Answer:
    """An error as a document of its own. The code is stable, the sentence is for people."""
    answer = {"type": "about:blank", "title": words.sentence(refused), "status": status, "code": str(refused.reason)}
    answer |= {"element": refused.element, "value": refused.value, "rule": refused.rule}
    return answer if retry_after_s is None else answer | {"retry_after_s": whole_s(retry_after_s)}


def whole_s(seconds: float) -> int:
    """Seconds to wait, as Retry-After tells them: whole, and never none at all."""
    return max(1, math.ceil(seconds))


def submitted(result: Submitted) -> Answer:
    return {"doc_id": result.doc_id, "repeated": result.repeated, "problems": _problems(result.problems)}


def _problems(problems: Iterable[Problem]) -> list[Answer]:
    return [
        {
            "written": each.written,
            "code": str(each.refusal.reason),
            "text": words.sentence(each.refusal),
            "successor": each.successor,
        }
        for each in problems
    ]


def part(ref: str, outcome: Submitted | Refused | Deferred) -> Answer:
    """What became of one package of many."""
    if isinstance(outcome, Submitted):
        status = "repeated" if outcome.repeated else "accepted"
        return {"ref": ref, "status": status, "doc_id": outcome.doc_id, "problems": _problems(outcome.problems)}
    if isinstance(outcome, Deferred):
        return {"ref": ref, **_later(outcome)}
    facts = {"element": outcome.element, "value": outcome.value, "rule": outcome.rule}
    return {"ref": ref, **_refused(outcome), **facts}


def settled(doc_ids: Sequence[str], outcomes: Sequence[Settled]) -> Answer:
    """What became of each confirmation, in the order asked."""
    return {"results": [{"doc_id": doc_id, **_settled(outcome)} for doc_id, outcome in zip(doc_ids, outcomes, strict=True)]}


def _settled(outcome: Settled) -> Answer:
    if outcome is None:
        return {"status": "ok"}
    return _later(outcome) if isinstance(outcome, Deferred) else _refused(outcome)


def _refused(refused: Refused) -> Answer:
    return {"status": "refused", "code": str(refused.reason), "text": words.sentence(refused)}


def _later(deferred: Deferred) -> Answer:
    return {"status": "later", "code": str(deferred.reason), "retry_after_s": whole_s(deferred.retry_after_s)}


def node_time(asked: str, asked_ms: int | None, received: NodeTime, sent: NodeTime) -> Answer:
    """t2, t3: when the question arrived and the answer left, by the node's time. ahead_s: how far the caller's clock is ahead at
    least, where it named its t1."""
    return {
        "time": iso(sent.utc_ms),
        "t1": asked or None,
        "t2": iso(received.utc_ms),
        "t3": iso(sent.utc_ms),
        "utc_ms": sent.utc_ms,
        "ahead_s": None if asked_ms is None else (asked_ms - received.utc_ms) / 1000,
        "bound_s": sent.bound_ms / 1000,
        "state": sent.state,
        "synchronised": sent.synchronised,
        "stratum": sent.stratum,
    }


def page(page: Page) -> Answer:
    """The list itself: the index of an answer with contents, or the whole of one without."""
    return {"items": [_item(line, given) for line, given in page.items], "cursor": str(page.after)}


def _item(line: Listed, given: Given) -> Answer:
    return {
        "doc_id": line.doc_id,
        "kind": line.kind,
        "from": line.sender,
        "to": list(line.recipients),
        "state": line.state,
        "trial": line.trial,
        "priority": line.priority,
        "size": line.size,
        "sha256": line.digest,
        "created": iso(line.created_ms),
        "updated": iso(line.updated_ms),
        "content": given.value,
        "cursor": str(line.item),
    }

"""Answers as the VXP SDK can read them: one JSON object in pure ASCII with every field it wants and never a null.

Pure functions from the values of `office` and `directory` to dictionaries of text. Knows the field names of the VXP face, and
nothing of requests, signatures or where the values came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from node.core import words
from node.core.directory import CONNECTED, Connection, Entry
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.instant import old_form, start_ms
from node.core.office import Problem, SentLine, Submitted, Waiting

Answer = dict[str, Any]

SERVICE = "eDoc"
MINUTE_MS = 60_000
DAY = timedelta(days=1)
NOBODY: Final[Mapping[OrgId, int]] = {}
PROBLEMS_SHOWN_MAX = 20
WRITTEN_SHOWN_MAX = 60
"""Receivers named in one ErrorDesc, and characters of a code as written: a clerk reads it in a message box."""

REPEATED = "Gói tin này đã được gửi trước đó, DocId giữ nguyên như lần đầu."
NOT_SENT_TO = "Đã nhận gói tin để chuyển. Không gửi được tới: "
AND_OTHERS = "… và {count} nơi khác"
USE_INSTEAD = "mã thay thế: {code}"
WAITS_FOR_OPERATOR = "Đã ghi nhận yêu cầu số {number}, chờ người vận hành duyệt."


def encode(answer: Mapping[str, Any]) -> bytes:
    """ASCII only, other letters as \\uXXXX: the SDK reads the answer of sendEdoc byte by byte."""
    return json.dumps(answer, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def succeed(data: Any, doc_id: str = "", text: str = "") -> Answer:
    """Success is exactly OK and "0": clients compare them as text."""
    return {"status": "OK", "ErrorCode": "0", "ErrorDesc": text, "DocId": doc_id, "data": data}


def fail(refused: Refused, data: Any) -> Answer:
    """data: the empty value of the operation; SDK 2.0.0 wants it on failure too, and writes an empty package on FAIL with "0"."""
    number = words.error_number(refused.reason)
    return {"status": "FAIL", "ErrorCode": str(number), "ErrorDesc": words.with_code(refused), "DocId": "", "data": data}


def counted(count: int) -> Answer:
    return succeed([]) | {"count": count}


def submitted(result: Submitted) -> Answer:
    """A package in custody: OK even when some of its receivers cannot be reached; those are named with reason and successor."""
    texts = [REPEATED] if result.repeated else []
    if result.problems:
        texts.append(_problems(result.problems))
    return succeed([], result.doc_id, " ".join(texts))


def _problems(problems: Sequence[Problem]) -> str:
    shown = [_problem(problem) for problem in problems[:PROBLEMS_SHOWN_MAX]]
    if len(problems) > PROBLEMS_SHOWN_MAX:
        shown.append(AND_OTHERS.format(count=len(problems) - PROBLEMS_SHOWN_MAX))
    return NOT_SENT_TO + "; ".join(shown)


def _problem(problem: Problem) -> str:
    written = problem.written if len(problem.written) <= WRITTEN_SHOWN_MAX else problem.written[: WRITTEN_SHOWN_MAX - 1] + "…"
    text = f"{written}: {words.with_code(problem.refusal)}"
    if problem.successor and problem.successor not in words.sentence(problem.refusal):
        text += f" ({USE_INSTEAD.format(code=problem.successor)})"
    return text


def received_line(item: Waiting) -> dict[str, str]:
    return {
        "docId": item.doc_id,
        "serviceType": SERVICE,
        "messageType": item.message_type,
        "from": item.sender,
        "to": item.recipient,
        "status": item.state,
        "status_desc": words.label("mailbox", item.state) + (f" ({words.TRIAL})" if item.trial else ""),
        "created_time": _instant(item.created_ms),
        "updated_time": _instant(item.updated_ms),
    }


def sent_line(line: SentLine) -> dict[str, str]:
    return {
        "senderDocId": line.doc_id,
        "receiverDocId": line.receiver_doc_id,
        "fromCode": line.sender,
        "toCode": line.recipient,
        "title": line.title,
        "notation": line.notation,
        "serviceType": SERVICE,
        "messageType": line.message_type,
        "sentTime": _instant(line.sent_ms),
        "receivedTime": _instant(line.received_ms),
        "sendStatus": line.send_state,
        "sendStatusDesc": line.send_text,
        "receiveStatus": line.receive_state,
        "receiveStatusDesc": line.receive_text,
    }


def agencies(entries: Iterable[Entry], today: date) -> list[dict[str, str]]:
    """Organs one may send to: open on that day."""
    open_entries = [entry for entry in _newest(entries, today) if not _closed(entry, today)]
    parents = _Parents(open_entries)
    return [
        {
            "id": str(entry.code),
            "pid": parents.of(entry.code),
            "code": str(entry.code),
            "name": entry.name,
            "mail": entry.contact.mail,
            "oldCode": entry.old_code,
        }
        for entry in open_entries
    ]


def agencies_by_level(entries: Iterable[Entry], today: date, level: int | None) -> list[dict[str, str]]:
    """The same with the 13-character code (code102); level: number of groups of a code, None for all."""
    return [
        {"id": str(e.code), "code": str(e.code), "name": e.name, "mail": e.contact.mail, "code102": e.old_code}
        for e in _newest(entries, today)
        if not _closed(e, today) and (level is None or len(e.code.path) == level)
    ]


def units(entries: Iterable[Entry], today: date, said: Mapping[OrgId, int] = NOBODY) -> list[dict[str, Any]]:
    """All organs so far, closed ones marked, for clients that synchronise by difference: `version` rises with each change.

    said: when something was last signed of a code (UTC ms). A change is that, or a day of an entry that has come: its version is
    the instant in minutes since 1970, which also rises above the numbers of a node without signed changes (yyyymmdd).
    """
    known = list(_newest(entries, today))
    parents = _Parents(known)
    return [
        {
            "id": str(entry.code),
            "pid": parents.of(entry.code),
            "code": str(entry.code),
            "name": entry.name,
            "mail": entry.contact.mail,
            "centerCode": str(entry.code.level1),
            "modifyDate": _instant(changed_ms),
            "version": changed_ms // MINUTE_MS or 1,
            "deleted": _closed(entry, today),
            "isAgency": entry.connection in CONNECTED,
        }
        for entry in known
        for changed_ms in (_changed_ms(entry, today, said),)
    ]


class _Parents:
    """The nearest superior that is listed too, so that the client's tree hangs together; "" at the top."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._codes: Final = {entry.code for entry in entries}

    def of(self, code: OrgId) -> str:
        for length in range(len(code.path) - 1, 0, -1):
            above = OrgId(code.path[:length])
            if above in self._codes:
                return str(above)
        return ""


def _newest(entries: Iterable[Entry], today: date) -> Iterable[Entry]:
    """One entry per code, the one that began last; entries of days to come are not told yet. The hub has no code to send to."""
    newest: dict[OrgId, Entry] = {}
    for entry in entries:
        if entry.begins_after(today) or not entry.code.path:
            continue
        known = newest.get(entry.code)
        if known is None or (entry.valid_from or date.min) >= (known.valid_from or date.min):
            newest[entry.code] = entry
    return newest.values()


def _closed(entry: Entry, today: date) -> bool:
    return entry.ended_before(today) or entry.connection is Connection.CLOSED


def _changed_ms(entry: Entry, today: date, said: Mapping[OrgId, int]) -> int:
    """The last change that has come to pass (UTC ms), 0 where none is known; an organ ends with its last day."""
    days = (entry.valid_from, entry.connection_from, entry.valid_to + DAY if entry.valid_to is not None else None)
    passed = [start_ms(day) for day in days if day is not None and day <= today]
    return max((*passed, said.get(entry.code, 0)))


def _instant(ms: int) -> str:
    """`yyyy/MM/dd HH:mm:ss` in Vietnam's time; "" for what has not happened."""
    return old_form(ms) if ms else ""

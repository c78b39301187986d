"""One call of the VXP face as read from what was signed: each field by its name, in the form the operation needs, or refused.

Left-over fields of earlier calls are simply never asked for. Knows `vxp_signing` and the field names; nothing of what an
operation does with them.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from node.adapters.http.vxp_answers import SERVICE
from node.adapters.http.vxp_signing import PREFIX, Signed, require_ascii
from node.core.envelope import KIND_DOCUMENT, KIND_STATUS, strict_json
from node.core.errors import Reason, Refused
from node.core.instant import VIETNAM
from node.core.office import System

DOC_ID_CHARS_MAX = 64
AGENCY_FIELDS = ("id", "pcode", "code", "name", "mail", "mobile", "fax")
AGENCY_CHARS_MAX = 400

_KIND = re.compile(r"[a-z][a-z0-9.-]{0,39}")
_TIMESTAMP = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{4})T([0-9]{2})([0-9]{2})([0-9]{2})\+([0-9]{4})")


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request. limit: the deadline, moved on with every sign of progress."""

    request: web.Request
    system: System
    signed: Signed
    limit: asyncio.Timeout

    def field(self, name: str) -> str:
        """A signed value in printable ASCII, stripped; "" if absent."""
        value = self.signed.get(name)
        return "" if value is None else require_ascii(name, value.strip())

    def doc_ids(self) -> tuple[str, ...]:
        """The different ids signed under `docId` in any case; longer ones than any of ours are `Refused(DOC_UNKNOWN)`."""
        values = [value.strip() for value in self.signed.variants("docId")]
        return tuple(dict.fromkeys(_doc_id(value) for value in values if value))

    def doc_id(self) -> str:
        """The id of exactly `docId`, else of another case; none at all is `Refused(REQUEST_MALFORMED)`."""
        value = self.field("docId")
        if not value:
            raise Refused(Reason.REQUEST_MALFORMED, PREFIX + "docId", "", "docId")
        return _doc_id(value)

    def kind(self) -> str:
        """messagetype in small letters, "edoc" where absent. The registry of kinds is open; the node knows what is there."""
        kind = self.field("messagetype").lower() or KIND_DOCUMENT
        if not _KIND.fullmatch(kind):
            raise Refused(Reason.REQUEST_MALFORMED, PREFIX + "messagetype", kind, f"{KIND_DOCUMENT}, {KIND_STATUS}")
        return kind

    def require_service(self) -> None:
        """eDoc in any case, or nothing; `Refused(SERVICE_UNKNOWN)` otherwise."""
        service = (self.signed.get("servicetype") or "").strip()
        if service and service.lower() != SERVICE.lower():
            raise Refused(Reason.SERVICE_UNKNOWN, PREFIX + "servicetype", service, SERVICE)

    def level(self) -> int | None:
        """Level of getAgenciesListQD20, None for all."""
        text = self.field("level")
        if not text:
            return None
        if not text.isdigit() or len(text) > 2:
            raise Refused(Reason.REQUEST_MALFORMED, PREFIX + "level", text, "1, 2, 3 …")
        return int(text)


def operation_name(path: str) -> str:
    """`/vxp//sendEdoc/` is sendEdoc, letter for letter as the SDK writes; a path with more or fewer parts names nothing: ""."""
    parts = [part for part in path.split("/") if part]
    return parts[1] if len(parts) == 2 else ""


def read_timestamp(text: str) -> int | None:
    """`ddMMyyyy'T'HHmmss+SSSS` to UTC ms, taken as Vietnam's time (the zone is not told; SSSS are milliseconds), else None."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    day_, month, year, hour, minute, second, milliseconds = (int(part) for part in match.groups())
    try:
        moment = datetime(year, month, day_, hour, minute, second, tzinfo=VIETNAM)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1000 + milliseconds


def read_agency(body: bytes) -> dict[str, str]:
    """The known fields of registerAgency as text, names in any case; `Refused(REQUEST_MALFORMED)` unless there is a code."""
    try:
        value = strict_json(body.removeprefix(codecs.BOM_UTF8))
    except Refused:
        raise Refused(Reason.REQUEST_MALFORMED, "body", "", "JSON") from None
    if not isinstance(value, dict):
        raise Refused(Reason.REQUEST_MALFORMED, "body", "", "JSON")
    given = {key.lower(): item for key, item in value.items()}
    fields: dict[str, str] = {}
    for name in AGENCY_FIELDS:
        item = given.get(name, "")
        if item is None or isinstance(item, bool) or not isinstance(item, str | int):
            item = ""
        if len(str(item)) > AGENCY_CHARS_MAX:
            raise Refused(Reason.REQUEST_MALFORMED, name, str(item), f"≤ {AGENCY_CHARS_MAX}")
        fields[name] = str(item).strip()
    if not fields["code"]:
        raise Refused(Reason.REQUEST_MALFORMED, "code", "", "code")
    return fields


def is_doc_id(value: str) -> bool:
    """Whether a text may be a docId of ours at all."""
    return value.isascii() and value.isprintable() and len(value) <= DOC_ID_CHARS_MAX


def _doc_id(value: str) -> str:
    require_ascii("docId", value)
    if not is_doc_id(value):
        raise Refused(Reason.DOC_UNKNOWN, PREFIX + "docId", value)
    return value

"""How a status finds the document it speaks of: the keys it may name, in one form however they were typed.

docId or DocumentId first, then number/notation with the date (edXML ResponseFor). Knows `directory`, `package` and values; the
store looks the keys up.
"""

from __future__ import annotations

from collections.abc import Sequence

from node.core.directory import Directory
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.package import Reference


def plain_notation(text: str) -> str:
    """Số/ký hiệu without white space, so that two ways of typing it are one key."""
    return "".join(text.split())


def plain_date(text: str) -> str:
    """A date as packages carry it, `yyyy/MM/dd`; `dd/MM/yyyy` and `yyyy-MM-dd` are met too. Anything else stays as it is."""
    parts = text.strip().replace("-", "/").split("/")
    if len(parts) == 3 and all(part.isdecimal() for part in parts):
        year, month, day = parts if len(parts[0]) == 4 else reversed(parts)
        return f"{year:0>4}/{month:0>2}/{day:0>2}"
    return text.strip()


def joined_by(reference: Reference) -> tuple[str, str, str]:
    """DocumentId or docId, number/notation, date: the keys of a reference."""
    return reference.document_id, plain_notation(reference.code), plain_date(reference.date)


def meant(directory: Directory, reference: Reference, receivers: Sequence[OrgId]) -> Sequence[OrgId]:
    """Whom a take-back (13) concerns: the receiver that ResponseFor/OrganId names, else everybody who was sent the document."""
    try:
        named = directory.resolve(reference.organ)
    except Refused:
        return receivers
    return [named] if named in receivers else receivers

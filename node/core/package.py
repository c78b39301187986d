"""What the first and the last node read in an edXML package, as one frozen value.

The package itself (the bytes an office handed in) is never changed and never rebuilt from this. Knows nobody; the reader
is `documents/edxml.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Business(IntEnum):
    """BussinessDocType (edXML 2.2.1)."""

    NEW = 0
    RECALL = 1
    UPDATE = 2
    REPLACE = 3


class Priority(IntEnum):
    """Mức độ khẩn (QĐ 28/2018 Điều 10.2.k; edXML 1.11.1). 4 only as received."""

    NORMAL = 0
    URGENT = 1
    VERY_URGENT = 2
    EXPRESS = 3
    EXPRESS_TIMED = 4


STATUS_CODES = ("01", "02", "03", "04", "05", "06", "13", "15", "16")
"""The nine codes any source shows (edXML StatusCode)."""


@dataclass(frozen=True, slots=True)
class Party:
    """From or one To: the code and name exactly as written in the package."""

    code: str
    name: str = ""
    in_charge: str = ""
    address: str = ""
    email: str = ""
    telephone: str = ""
    fax: str = ""
    website: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """A document another one speaks of (ResponseFor): the original sender, number/notation, date (yyyy/MM/dd), id."""

    organ: str = ""
    code: str = ""
    date: str = ""
    document_id: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attached file, measured while reading. size_bytes and sha256 (hex; "" where nobody asked for it) are of the decoded
    base64 payload. signable: its content is of a kind that may bear a digital signature; pictures are not."""

    content_id: str
    name: str
    content_type: str
    size_bytes: int
    sha256: str
    zipped: bool
    signable: bool = True


@dataclass(frozen=True, slots=True)
class Package:
    """A document package, or a status message where `status` is not empty.

    Texts are as written, stripped of outer white space; "" where the element is absent. `business` and `priority` keep
    to their enums; values outside are read as NEW / NORMAL and named in `oddities`. `missing` lists attachment names (or
    content ids) that the manifest names and the package does not carry.
    """

    sender: Party
    recipients: tuple[Party, ...]
    document_id: str
    number: str
    notation: str
    date: str
    subject: str
    type_name: str
    priority: Priority
    business: Business
    business_document_id: str
    reason: str
    due_date: str
    paper: str
    status: str
    description: str
    timestamp: str
    response_for: tuple[Reference, ...]
    attachments: tuple[Attachment, ...]
    missing: tuple[str, ...]
    oddities: tuple[str, ...]

    @property
    def is_status(self) -> bool:
        return self.status != ""

    @property
    def number_notation(self) -> str:
        """`number/notation` as printed on the document, or what there is of it."""
        return "/".join(part for part in (self.number, self.notation) if part)

"""What a package has said so far: values by element path, records, attachments; at the end one `Package`.

Knows edXML's elements and their oddities, nothing of XML itself: `edxml.py` calls it with paths and texts. A path is counted from
the last wrapper element on, so it is the same in every outer shape; judging by path keeps `DocumentId` or `OrganId` of one parent
apart from another's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from node.core.errors import Reason, Refused
from node.core.instant import parse_old
from node.core.package import STATUS_CODES, Attachment, Business, Package, Party, Priority, Reference
from node.documents.archive import ArchiveLimits, Bomb, Watch
from node.documents.formats import Base64Decoder, BrokenBase64, parse_date

ATTACHMENT_NAME_MAX = 1000
HEAD_BYTES = 4096
"""How much of each attachment is kept to see whether it was damaged by text handling."""

HEADER = "MessageHeader"
BUSINESS = "TraceHeaderList/Bussiness"
ATTACHMENT = "AttachmentEncoded/Attachment"
PARTY = ("OrganId", "OrganName", "OrganizationInCharge", "OrganAdd", "Email", "Telephone", "Fax", "Website")
RECORDS: dict[str, tuple[str, ...]] = {
    f"{HEADER}/From": PARTY,
    f"{HEADER}/To": PARTY,
    f"{HEADER}/ResponseFor": ("OrganId", "Code", "PromulgationDate", "DocumentId"),
    "TraceHeaderList/TraceHeader": ("OrganId", "Timestamp"),
    "Reference": ("ContentId", "AttachmentName"),
    ATTACHMENT: ("ContentId", "AttachmentName", "FileName", "ContentType", "MimeType", "FileType"),
}
"""Elements that may repeat, with the children read in each."""
SINGLES = (
    f"{HEADER}/Code/CodeNumber",
    f"{HEADER}/Code/CodeNotation",
    f"{HEADER}/PromulgationInfo/PromulgationDate",
    f"{HEADER}/DocumentType/TypeName",
    f"{HEADER}/Subject",
    f"{HEADER}/DueDate",
    f"{HEADER}/ResponseDate",
    f"{HEADER}/OtherInfo/Priority",
    f"{HEADER}/DocumentId",
    f"{HEADER}/StatusCode",
    f"{HEADER}/Description",
    f"{HEADER}/Timestamp",
    f"{BUSINESS}/BussinessDocType",
    f"{BUSINESS}/BussinessDocReason",
    f"{BUSINESS}/DocumentId",
    f"{BUSINESS}/Paper",
)
"""Values read once: the first that says something stands."""

_IN_RECORD = {f"{record}/{name}": name for record, names in RECORDS.items() for name in names}
VALUES = frozenset(SINGLES) | frozenset(_IN_RECORD)
PAYLOAD = f"{ATTACHMENT}/ContentTransferEncoded"
FLAT_PAYLOAD = f"{ATTACHMENT}/Content"
KNOWN = frozenset(path.rsplit("/", cut)[0] for path in VALUES | {PAYLOAD, FLAT_PAYLOAD} for cut in range(path.count("/") + 1))
TOP = frozenset(path for path in KNOWN if "/" not in path)
SHORT = {
    "Bussiness": BUSINESS,
    "TraceHeader": "TraceHeaderList/TraceHeader",
    "Attachment": ATTACHMENT,
    "Attachments": "AttachmentEncoded",
}
"""Elements met without their list around them, or under another list's name."""

ONCE = frozenset({HEADER, f"{HEADER}/From", f"{HEADER}/StatusCode"})
ONCE_IN_RECORD = frozenset({f"{HEADER}/From/OrganId", f"{HEADER}/To/OrganId"})
"""Who sends, who receives, what is said: a second one would let two readers see two different packages."""

_PLACEHOLDERS = frozenset({"null", "n/a", "undefined", "none"})
_ZIP_TYPES = frozenset({"application/zip", "application/x-zip-compressed", "application/x-zip", "zip", ".zip"})
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_DAMAGE = "\N{REPLACEMENT CHARACTER}".encode() * 2


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Bounds of one package. text_max: characters of one value, attachment content apart. header_chars_max: characters of all
    values kept, which is what a package may cost in memory. digests: whether attachments are hashed; where not, one that is no
    archive is only checked, not decoded."""

    package_bytes_max: int
    unpacked_bytes_max: int
    text_max: int = 100_000
    depth_max: int = 64
    elements_max: int = 200_000
    attachments_max: int = 1000
    recipients_max: int = 4000
    header_chars_max: int = 8 << 20
    digests: bool = True


def shown(path: str) -> str:
    """A path as messages name it: `From/OrganId`."""
    return path.removeprefix(f"{HEADER}/")


class _Payload:
    """One attachment's base64 on its way through: decoded, hashed, watched, forgotten."""

    def __init__(self, watch: Watch, digest: bool) -> None:
        self.watch = watch
        self.size_bytes = 0
        self._digest = digest
        self.sha256 = hashlib.sha256()
        self._head = b""
        self._decoder = Base64Decoder()

    @property
    def read_as_text(self) -> bool:
        """Binary that went through a text reader and lost its bytes: the second line of a PDF turns into U+FFFD."""
        return _DAMAGE in self._head

    @property
    def signable(self) -> bool:
        """A picture (JPEG, PNG, GIF, BMP, TIFF), and nothing at all, bears no signature. Of anything else it is not known."""
        return bool(self._head) and not self._head.startswith(_PICTURES)

    def feed(self, text: str) -> None:
        self._take(self._decoder.feed(text))

    def feed_bytes(self, data: bytes) -> None:
        """Raises `BrokenBase64` before anything of it was taken."""
        if self._digest or self.size_bytes < HEAD_BYTES or not self.watch.idle:
            self._take(self._decoder.feed_bytes(data))
        else:  # nobody looks at the content any more, only whether it is one
            self.size_bytes += self._decoder.count_bytes(data)

    def _take(self, data: bytes) -> None:
        if self.size_bytes < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - self.size_bytes]
        self.size_bytes += len(data)
        if self._digest:
            self.sha256.update(data)
        self.watch.feed(data)

    def close(self) -> None:
        self._decoder.close()
        self.watch.close()


class Draft:
    """What the package has said so far; knows elements by path, nothing of XML. Raises `Refused` where it contradicts itself."""

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._oddities: dict[str, None] = {}
        self._once: set[str] = set()
        self._fields: dict[str, str] = {}
        self._record: dict[str, str] = {}
        self._kept = 0
        self._payload: _Payload | None = None
        self._unpacked = 0
        self._sender = Party("")
        self._recipients: list[Party] = []
        self._response_for: list[Reference] = []
        self._traces = 0
        self._manifest: list[tuple[str, str]] = []
        self._attachments: list[Attachment] = []

    def odd(self, key: str) -> None:
        """Note a deviation; the keys are a closed set, so their number is bounded."""
        self._oddities[key] = None

    def only_one(self, path: str) -> None:
        if path in self._once:
            raise Refused(Reason.TOO_MANY_ELEMENTS, shown(path), "2", "1")
        self._once.add(path)

    def value(self, path: str, text: str) -> None:
        self._keep(len(text))
        if text.lower() in _PLACEHOLDERS:
            self.odd("placeholder-value")
        fields, name = self._fields, _IN_RECORD.get(path, "")
        if not name:
            name = path
        else:
            fields = self._record
            if path in ONCE_IN_RECORD and name in fields:
                raise Refused(Reason.TOO_MANY_ELEMENTS, shown(path), text, "1")
        if fields.get(name):
            self.odd("element-repeated")
        else:
            fields[name] = text

    def _keep(self, size: int) -> None:
        self._kept += size
        if self._kept > self._limits.header_chars_max:
            raise Refused(Reason.VALUE_TOO_LONG, HEADER, str(self._kept), f"≤ {self._limits.header_chars_max}")

    def begin_record(self, attributes: dict[str, str]) -> None:
        href = attributes.get("href", "").strip()
        self._keep(len(href))
        self._record = {"@href": href}

    def end_record(self, path: str) -> None:
        record, self._record = self._record, {}
        match path.rpartition("/")[2]:
            case "From":
                self._sender = _party(record)
            case "To":
                self._add_recipient(_party(record))
            case "ResponseFor":
                self._add_response_for(record)
            case "TraceHeader":
                self._note_trace(record)
            case "Reference":
                self._add_reference(record)
            case _:
                self._add_attachment(record)

    def _add_recipient(self, party: Party) -> None:
        if not party.code:
            self.odd("to-without-code")
        self._recipients.append(party)
        _at_most("To", len(self._recipients), self._limits.recipients_max)

    def _add_response_for(self, record: dict[str, str]) -> None:
        reference = Reference(
            organ=record.get("OrganId", ""),
            code=record.get("Code", ""),
            date=record.get("PromulgationDate", ""),
            document_id=record.get("DocumentId", ""),
        )
        if reference == Reference():
            self.odd("response-for-empty")
            return
        if "/" in reference.organ:
            self.odd("response-for-swapped")
        self._response_for.append(reference)

    def _note_trace(self, record: dict[str, str]) -> None:
        self._traces += 1
        organ = record.get("OrganId", "")
        if not organ or organ.lower() in _PLACEHOLDERS:
            self.odd("trace-without-organ")
        if parse_old(record.get("Timestamp", "")) is None:
            self.odd("trace-without-time")

    def _add_reference(self, record: dict[str, str]) -> None:
        content_id = record.get("ContentId") or record["@href"]
        name = record.get("AttachmentName", "")[:ATTACHMENT_NAME_MAX]
        if not content_id and not name:
            self.odd("reference-empty")
            return
        self._manifest.append((content_id, name))
        _at_most("Reference", len(self._manifest), self._limits.attachments_max)

    # --- attachments

    def begin_payload(self) -> None:
        if self._payload is not None:
            raise Refused(Reason.TOO_MANY_ELEMENTS, "ContentTransferEncoded", "2", "1")
        self._payload = _Payload(Watch(ArchiveLimits(self._limits.unpacked_bytes_max), self._unpacked), self._limits.digests)

    def payload(self, text: str) -> None:
        assert self._payload is not None
        try:
            self._payload.feed(text)
        except BrokenBase64 as broken:
            self._refuse_payload(Reason.BASE64_BROKEN, broken)
        except Bomb as bomb:
            self._refuse_payload(Reason.ARCHIVE_BOMB, bomb)

    def payload_bytes(self, data: bytes) -> bool:
        """The same, not yet read as text; False where it is no base64: nothing of it was taken then."""
        assert self._payload is not None
        try:
            self._payload.feed_bytes(data)
        except BrokenBase64:
            return False
        except Bomb as bomb:
            self._refuse_payload(Reason.ARCHIVE_BOMB, bomb)
        return True

    def end_payload(self) -> None:
        assert self._payload is not None
        try:
            self._payload.close()
        except BrokenBase64 as broken:
            self._refuse_payload(Reason.BASE64_BROKEN, broken)
        self._unpacked += self._payload.watch.unpacked_bytes
        for oddity in sorted(self._payload.watch.oddities):
            self.odd(oddity)
        if self._payload.read_as_text:
            self.odd("payload-damaged-as-text")

    def _refuse_payload(self, reason: Reason, fault: Exception) -> NoReturn:
        raise Refused(reason, "ContentTransferEncoded", self._attachment_name(self._record), str(fault)) from None

    def _add_attachment(self, record: dict[str, str]) -> None:
        payload, self._payload = self._payload, None
        if payload is None:
            self.odd("attachment-without-content")
            return
        attachment = Attachment(
            content_id=record.get("ContentId", ""),
            name=self._attachment_name(record)[:ATTACHMENT_NAME_MAX],
            content_type=record.get("ContentType") or record.get("MimeType") or record.get("FileType", ""),
            size_bytes=payload.size_bytes,
            sha256=payload.sha256.hexdigest() if self._limits.digests else "",
            zipped=payload.watch.zipped,
            signable=payload.signable,
        )
        if _contradicts(attachment):
            self.odd("content-type-contradicts")
        if not attachment.size_bytes:
            self.odd("attachment-empty")
        self._attachments.append(attachment)
        _at_most("Attachment", len(self._attachments), self._limits.attachments_max)

    def _attachment_name(self, record: dict[str, str]) -> str:
        """As the attachment says, else the manifest, else its content id (children come in any order, or not at all)."""
        name = record.get("AttachmentName") or record.get("FileName")
        if name:
            return name
        content_id = record.get("ContentId", "")
        listed = (name for known, name in self._manifest if content_id and _bare(known) == _bare(content_id))
        return next(listed, "") or content_id

    def _missing(self) -> tuple[str, ...]:
        """What the manifest names and nobody carries, matched by content id or else by name."""
        ids = {_bare(attachment.content_id) for attachment in self._attachments} - {""}
        names = {attachment.name for attachment in self._attachments} - {""}
        missing = [ref for ref in self._manifest if _bare(ref[0]) not in ids and ref[1] not in names]
        if missing:
            self.odd("attachment-missing")
        listed_ids = {_bare(content_id) for content_id, _ in self._manifest}
        listed_names = {name for _, name in self._manifest}
        if any(_bare(a.content_id) not in listed_ids and a.name not in listed_names for a in self._attachments):
            self.odd("attachment-unlisted")
        return tuple(name or content_id[:ATTACHMENT_NAME_MAX] for content_id, name in missing)

    # --- the whole

    def package(self) -> Package:
        """Raises `Refused(ELEMENT_MISSING | STATUS_CODE_UNKNOWN)` where nobody could be asked or answered."""
        if not self._sender.code:
            raise Refused(Reason.ELEMENT_MISSING, "From/OrganId")
        status = self._status()
        if status and not self._response_for:
            raise Refused(Reason.ELEMENT_MISSING, "ResponseFor")
        if not status and not any(party.code for party in self._recipients):
            raise Refused(Reason.ELEMENT_MISSING, "To/OrganId")
        package = self._filled(status)
        for oddity in _odd_status(package) if status else _odd_document(package, self._traces):
            self.odd(oddity)
        return replace(package, oddities=tuple(self._oddities))

    def _filled(self, status: str) -> Package:
        return Package(
            sender=self._sender,
            recipients=tuple(self._recipients),
            document_id=self._field(f"{HEADER}/DocumentId"),
            number=self._field(f"{HEADER}/Code/CodeNumber"),
            notation=self._field(f"{HEADER}/Code/CodeNotation"),
            date=self._field(f"{HEADER}/PromulgationInfo/PromulgationDate"),
            subject=self._field(f"{HEADER}/Subject"),
            type_name=self._field(f"{HEADER}/DocumentType/TypeName"),
            priority=self._priority(),
            business=self._business(status),
            business_document_id=self._field(f"{BUSINESS}/DocumentId"),
            reason=self._field(f"{BUSINESS}/BussinessDocReason"),
            due_date=self._field(f"{HEADER}/DueDate") or self._field(f"{HEADER}/ResponseDate"),
            paper=self._field(f"{BUSINESS}/Paper"),
            status=status,
            description=self._field(f"{HEADER}/Description"),
            timestamp=self._field(f"{HEADER}/Timestamp"),
            response_for=tuple(self._response_for),
            attachments=tuple(self._attachments),
            missing=self._missing(),
            oddities=(),
        )

    def _field(self, path: str) -> str:
        return self._fields.get(path, "")

    def _status(self) -> str:
        """The status code in its two digits; "" for a document."""
        text = self._fields.get(f"{HEADER}/StatusCode")
        if text is None or text in STATUS_CODES:
            return text or ""
        if f"0{text}" in STATUS_CODES:
            self.odd("status-code-short")
            return f"0{text}"
        if not text and self._recipients:
            self.odd("status-code-empty")
            return ""
        raise Refused(Reason.STATUS_CODE_UNKNOWN, "StatusCode", text, ", ".join(STATUS_CODES))

    def _priority(self) -> Priority:
        text = self._field(f"{HEADER}/OtherInfo/Priority")
        if text in _PRIORITIES:
            return _PRIORITIES[text]
        if text:
            self.odd("priority-unknown")
        return Priority.NORMAL

    def _business(self, status: str) -> Business:
        text = self._field(f"{BUSINESS}/BussinessDocType")
        if text in _BUSINESSES:
            return _BUSINESSES[text]
        if text:
            self.odd("business-unknown")
        elif not status:
            self.odd("business-missing")
        return Business.NEW


_PRIORITIES = {str(int(priority)): priority for priority in Priority}
_BUSINESSES = {str(int(business)): business for business in Business}


def _at_most(element: str, count: int, most: int) -> None:
    if count > most:
        raise Refused(Reason.TOO_MANY_ELEMENTS, element, str(count), f"≤ {most}")


def _party(record: dict[str, str]) -> Party:
    return Party(
        code=record.get("OrganId", ""),
        name=record.get("OrganName", ""),
        in_charge=record.get("OrganizationInCharge", ""),
        address=record.get("OrganAdd", ""),
        email=record.get("Email", ""),
        telephone=record.get("Telephone", ""),
        fax=record.get("Fax", ""),
        website=record.get("Website", ""),
    )


def _bare(content_id: str) -> str:
    return content_id[4:] if content_id[:4].lower() == "cid:" else content_id


def _contradicts(attachment: Attachment) -> bool:
    """The label says what the content is not. A ZIP under an office format's label is normal: those are ZIPs."""
    said = attachment.content_type.lower()
    if attachment.zipped:
        return said.startswith(("text/", "image/")) or said == "application/pdf"
    return said in _ZIP_TYPES


def _odd_document(package: Package, traces: int) -> Iterator[str]:
    if not traces:
        yield "trace-missing"
    if not package.sender.name:
        yield "sender-name-missing"
    if any(party.code == package.sender.code for party in package.recipients):
        yield "sender-is-recipient"
    if not package.document_id:
        yield "document-id-missing"
    if not package.number_notation:
        yield "code-missing"
    elif not package.number.isdecimal():
        yield "number-not-digits"
    if not package.subject:
        yield "subject-missing"
    if not package.date:
        yield "date-missing"
    elif parse_date(package.date) is None:
        yield "date-impossible"


def _odd_status(package: Package) -> Iterator[str]:
    if package.recipients:
        yield "status-with-recipients"
    if parse_old(package.timestamp) is None:
        yield "timestamp-missing"
    if not package.description and package.status in ("02", "13", "16"):
        yield "description-missing"

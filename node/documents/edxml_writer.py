"""Writes edXML in the strict form: the vendor samples' order and prefixes, nothing else. # QCVN 102:2016

For the axis' own statuses, the demo and the tests; a package on the road is never rebuilt. Must not know how packages are read.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from xml.sax.saxutils import escape

from node.core.instant import old_form
from node.core.package import STATUS_CODES, Business, Party, Priority, Reference

NAMESPACE = "http://www.mic.gov.vn/TBT/QCVN_102_2016"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An attachment to write. content goes in as it is; the name may be any text."""

    name: str
    content: bytes
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentMessage:
    """What `write_document` needs. date, due_date: `yyyy/MM/dd`. timestamp_ms: UTC, when the package is made. "" leaves out."""

    sender: Party
    recipients: tuple[Party, ...]
    document_id: str
    number: str
    notation: str
    date: str
    subject: str
    timestamp_ms: int
    place: str = ""
    type_name: str = "Công văn"
    content: str = ""
    signer: str = ""
    due_date: str = ""
    priority: Priority = Priority.NORMAL
    business: Business = Business.NEW
    business_document_id: str = ""
    reason: str = ""
    paper: str = "0"
    response_for: tuple[Reference, ...] = ()
    attachments: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusMessage:
    """What `write_status` needs. response_for: the document answered, with its original sender. status: one of the nine codes."""

    sender: Party
    response_for: Reference
    status: str
    timestamp_ms: int
    description: str = ""
    department: str = ""
    staff: str = ""
    email: str = ""
    mobile: str = ""


@dataclass(frozen=True, slots=True)
class _Element:
    """One element to write. prefixed: `edXML:` before the name. An empty one is left out unless `keep`."""

    name: str
    content: str | list[_Element]
    prefixed: bool = True
    attributes: str = ""
    keep: bool = False


_DECLARE = f' xmlns:edXML="{NAMESPACE}"'
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_status(message: StatusMessage) -> bytes:
    """A status package in UTF-8, as the vendor's samples have it: same order, same prefixes. # QCVN 102:2016"""
    assert message.status in STATUS_CODES
    header = [
        _Element("From", _party_elements(message.sender)),
        _reference_element(message.response_for),
        _Element(
            "StaffInfo",
            _leaves(Department=message.department, Staff=message.staff, Email=message.email, Mobile=message.mobile),
        ),
        *_leaves(StatusCode=message.status, Description=message.description, Timestamp=old_form(message.timestamp_ms)),
    ]
    return _written(_Element("edXMLHeader", [_Element("MessageHeader", header)]))


def write_document(message: DocumentMessage) -> bytes:
    """A document package in UTF-8, as the vendor's samples have it: same order, same prefixes. # QCVN 102:2016"""
    ids = [f"cid:{position}" for position in range(1, len(message.attachments) + 1)]
    trace = _leaves(OrganId=message.sender.code, Timestamp=old_form(message.timestamp_ms))
    business = _leaves(
        DocumentId=message.business_document_id,
        BussinessDocType=str(int(message.business)),
        BussinessDocReason=message.reason,
        Paper=message.paper,
    )
    references = [
        _Element("Reference", _leaves(ContentId=content_id, ContentType=file.content_type, AttachmentName=file.name))
        for content_id, file in zip(ids, message.attachments, strict=True)
    ]
    carried = [_attachment_element(content_id, file) for content_id, file in zip(ids, message.attachments, strict=True)]
    header = [
        _Element("MessageHeader", _document_header(message)),
        _Element("TraceHeaderList", [_Element("TraceHeader", trace), _Element("Bussiness", business)]),
    ]
    manifest = _Element("edXMLManifest", references, attributes=' version="1.0"', keep=True)
    return _written(
        _Element("edXMLHeader", header),
        _Element("edXMLBody", [manifest]),
        after=_Element("AttachmentEncoded", carried, prefixed=False),
    )


def _document_header(message: DocumentMessage) -> list[_Element]:
    return [
        _Element("From", _party_elements(message.sender)),
        *(_Element("To", _party_elements(recipient)) for recipient in message.recipients),
        *_leaves(DocumentId=message.document_id),
        _Element("Code", _leaves(CodeNumber=message.number, CodeNotation=message.notation)),
        _Element("PromulgationInfo", _leaves(Place=message.place, PromulgationDate=message.date)),
        _Element("DocumentType", _leaves(Type="2", TypeDetail="0", TypeName=message.type_name)),  # 2: văn bản hành chính
        *_leaves(Subject=message.subject, Content=message.content),
        _Element("SignerInfo", _leaves(FullName=message.signer)),
        *_leaves(DueDate=message.due_date),
        _Element("OtherInfo", _leaves(Priority=str(int(message.priority)))),
        *(_reference_element(reference) for reference in message.response_for),
    ]


def _leaves(**texts: str) -> list[_Element]:
    return [_Element(name, text) for name, text in texts.items()]


def _party_elements(party: Party) -> list[_Element]:
    return _leaves(
        OrganId=party.code,
        OrganizationInCharge=party.in_charge,
        OrganName=party.name,
        OrganAdd=party.address,
        Email=party.email,
        Telephone=party.telephone,
        Fax=party.fax,
        Website=party.website,
    )


def _reference_element(reference: Reference) -> _Element:
    texts = {"DocumentId": reference.document_id, "PromulgationDate": reference.date}
    return _Element("ResponseFor", _leaves(OrganId=reference.organ, Code=reference.code, **texts))


def _attachment_element(content_id: str, file: File) -> _Element:
    """Without prefix but for the content itself, which declares its own: every sample does so."""
    encoded = binascii.b2a_base64(file.content, newline=False).decode("ascii")
    texts = {"ContentId": content_id, "AttachmentName": file.name, "ContentType": file.content_type}
    return _Element(
        "Attachment",
        [
            *(_Element(name, text, prefixed=False) for name, text in texts.items()),
            _Element("ContentTransferEncoded", encoded, attributes=_DECLARE, keep=True),
        ],
        prefixed=False,
    )


def _written(*envelope: _Element, after: _Element | None = None) -> bytes:
    parts = ['<?xml version="1.0" encoding="UTF-8"?>\n', f'<edXML xmlns="{NAMESPACE}">\n']
    _print(_Element("edXMLEnvelope", list(envelope), attributes=_DECLARE), 1, parts)
    if after is not None:
        _print(after, 1, parts)
    parts.append("</edXML>\n")
    return "".join(parts).encode()


def _print(element: _Element, depth: int, parts: list[str]) -> None:
    if not element.content and not element.keep:
        return
    name = f"edXML:{element.name}" if element.prefixed else element.name
    indent = "  " * depth
    parts.append(f"{indent}<{name}{element.attributes}>")
    if isinstance(element.content, str):
        parts.append(escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", element.content), {"\r": "&#13;"}))
    else:
        parts.append("\n")
        for child in element.content:
            _print(child, depth + 1, parts)
        parts.append(indent)
    parts.append(f"</{name}>\n")

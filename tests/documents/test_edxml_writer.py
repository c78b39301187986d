"""What the writer prints is shaped like the real samples, and the reader reads it back equal."""

from __future__ import annotations

from pathlib import Path
from xml.parsers import expat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.core.package import STATUS_CODES, Business, Package, Party, Priority, Reference
from node.documents.edxml import DocumentMessage, File, Reader, ReadLimits, StatusMessage, write_document, write_status

LIMITS = ReadLimits(package_bytes_max=1 << 22, unpacked_bytes_max=1 << 22)
SAMPLES = Path(__file__).parents[1] / "data" / "edxml"
AT_MS = 1_538_130_311_000
"""2018-09-28T17:25:11+07:00, the instant of the sample status."""

PARTY = Party(
    "000.00.00.H41", "UBND Tỉnh Nghệ An", "UBND Tỉnh Nghệ An", "Số 03", "a@b.vn", "0383 840418", "0383", "www.nghean.vn"
)
ANSWERED = Reference("000.00.00.G22", "7816/VPCP-TTĐT", "2018/09/28", "000.00.00.G22,2015/09/30,7816/VPCP-TTĐT")
STATUS = StatusMessage(
    sender=PARTY,
    response_for=ANSWERED,
    status="01",
    description="Đã đến",
    timestamp_ms=AT_MS,
    department="Văn thư",
    staff="Nguyễn Thị Ngọc Trâm",
    email="vanthu@gov.vn",
    mobile="84912000001",
)
DOCUMENT = DocumentMessage(
    sender=PARTY,
    recipients=(Party("000.00.00.H14", *"abcdefg"),) * 3,
    document_id="000.00.00.G22,2015/09/30,7816/VPCP-TTĐT",
    number="7816",
    notation="VPCP-TTĐT",
    date="2018/09/28",
    place="Hà Nội",
    subject="V/v kết nối",
    content="V/v kết nối",
    signer="Nguyen Thanh Phuc",
    due_date="2018/09/28",
    business=Business.UPDATE,
    business_document_id="000.00.00.G22,2014/02/30,7806/VPCP-TTĐT",
    reason="Cập nhật",
    response_for=(ANSWERED,),
    attachments=(File(name="1896.doc", content=b"PK\x03\x04", content_type="application/zip"),),
    timestamp_ms=AT_MS,
)


def read(data: bytes) -> Package:
    reader = Reader(LIMITS)
    reader.feed(data)
    return reader.close()


def outline(data: bytes) -> list[str]:
    """Every start tag as written, behind the names of those around it; with its attributes."""
    seen: list[str] = []
    around: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        around.append(name)
        seen.append("/".join(around) + "".join(f" {key}={value}" for key, value in attributes.items()))

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: around.pop()
    parser.Parse(data, True)
    return seen


def test_a_written_status_has_the_outline_of_the_real_one() -> None:
    assert outline(write_status(STATUS)) == outline((SAMPLES / "status.edxml").read_bytes())


NEVER_WRITTEN = (
    "Competence",
    "Position",
    "SphereOfPromulgation",
    "TyperNotation",
    "PromulgationAmount",
    "PageAmount",
    "Direction",
    "Appendix",
    "SteeringType",
    "ToPlaces",
    "BussinessDocumentInfo",
    "StaffInfo",
    "Signature",
    "Description",
)
"""Optional elements of the sample documents that the writer does without."""


@pytest.mark.parametrize(
    ("name", "only_written"), [("edoc_update", "ResponseFor"), ("edoc_revocation", "Bussiness/edXML:DocumentId")]
)
def test_a_written_document_has_the_outline_of_the_real_one(name: str, only_written: str) -> None:
    real = outline((SAMPLES / f"{name}.edxml").read_bytes())
    expected = [line for line in real if not any(word in line for word in NEVER_WRITTEN)]
    assert [line for line in outline(write_document(DOCUMENT)) if only_written not in line] == [
        line for line in expected if only_written not in line
    ]
    assert len(expected) > 50


def test_a_written_status_reads_back_equal() -> None:
    read_back = read(write_status(STATUS))
    assert (read_back.sender, read_back.response_for, read_back.status) == (PARTY, (ANSWERED,), "01")
    assert (read_back.description, read_back.timestamp, read_back.oddities) == ("Đã đến", "2018/09/28 17:25:11", ())


def test_a_written_document_has_no_oddity_but_its_damaged_zip() -> None:
    assert read(write_document(DOCUMENT)).oddities == ("archive-damaged",)


def test_a_document_may_have_no_attachment() -> None:
    data = write_document(DocumentMessage(sender=PARTY, recipients=(PARTY,), document_id="", number="", notation="", date="",
                                          subject="", timestamp_ms=AT_MS))  # fmt: skip
    assert b"AttachmentEncoded" not in data and b"<edXML:edXMLManifest" in data
    assert (read(data).attachments, read(data).missing) == ((), ())


def test_what_xml_cannot_carry_is_replaced_and_never_breaks_the_package() -> None:
    read_back = read(write_status(StatusMessage(sender=PARTY, response_for=ANSWERED, status="02", timestamp_ms=0,
                                                description="a\x00b\x1b[31m\ud800\ufffe<&]]>\"'\r\n")))  # fmt: skip
    assert read_back.description == "a\ufffdb\ufffd[31m\ufffd\ufffd<&]]>\"'"


def carried(text: str) -> bool:
    return text == text.strip() and not set(text) & {"\ufffe", "\uffff"}


TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("\r\n\t&<>\"']"), max_size=20).filter(carried)
CODES = TEXTS.filter(bool)
PARTIES = st.builds(Party, CODES, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)
REFERENCES = st.builds(Reference, TEXTS, TEXTS, TEXTS, TEXTS).filter(lambda reference: reference != Reference())
FILES = st.builds(File, name=CODES, content=st.binary(max_size=60).filter(lambda data: data[:2] != b"PK"), content_type=TEXTS)
DOCUMENTS = st.builds(
    DocumentMessage,
    sender=PARTIES,
    recipients=st.lists(PARTIES, min_size=1, max_size=4).map(tuple),
    document_id=TEXTS,
    number=TEXTS,
    notation=TEXTS,
    date=TEXTS,
    subject=TEXTS,
    timestamp_ms=st.integers(0, 1 << 43),
    place=TEXTS,
    type_name=TEXTS,
    content=TEXTS,
    signer=TEXTS,
    due_date=TEXTS,
    priority=st.sampled_from(Priority),
    business=st.sampled_from(Business),
    business_document_id=TEXTS,
    reason=TEXTS,
    response_for=st.lists(REFERENCES, max_size=3).map(tuple),
    attachments=st.lists(FILES, max_size=3).map(tuple),
)


CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
"""Drawing a document is slow where the machine is busy; that is nobody's fault."""


@CALM
@given(DOCUMENTS)
def test_any_written_document_reads_back_equal(message: DocumentMessage) -> None:
    read_back = read(write_document(message))
    for name in ("sender", "recipients", "document_id", "number", "notation", "date", "subject", "type_name", "due_date"):
        assert getattr(read_back, name) == getattr(message, name)
    for name in ("priority", "business", "business_document_id", "reason", "response_for"):
        assert getattr(read_back, name) == getattr(message, name)
    files = [(attached.name, attached.content_type, attached.size_bytes) for attached in read_back.attachments]
    assert files == [(file.name, file.content_type, len(file.content)) for file in message.attachments]
    assert read_back.missing == () and not read_back.is_status
    assert not {"attachment-unlisted", "element-repeated", "business-unknown", "trace-without-time"} & set(read_back.oddities)


@CALM
@given(PARTIES, REFERENCES, st.sampled_from(STATUS_CODES), TEXTS)
def test_any_written_status_reads_back_equal(sender: Party, answered: Reference, code: str, text: str) -> None:
    message = StatusMessage(sender=sender, response_for=answered, status=code, description=text, timestamp_ms=AT_MS)
    read_back = read(write_status(message))
    seen = (read_back.sender, read_back.response_for, read_back.status, read_back.description)
    assert seen == (sender, (answered,), code, text)

"""The reader: takes every well-formed real package, refuses what could harm or mislead, whatever the bytes and their cuts."""

from __future__ import annotations

import base64
import codecs
import hashlib
import io
import random
import re
import time
import tracemalloc
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any
from xml.parsers import expat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.errors import Reason, Refused
from node.core.package import STATUS_CODES, Business, Package, Priority, Reference
from node.documents import edxml
from node.documents.edxml import Reader, ReadLimits

MIB = 1 << 20
LIMITS = ReadLimits(package_bytes_max=200 * MIB, unpacked_bytes_max=1024 * MIB)
SAMPLES = sorted((Path(__file__).parents[1] / "data" / "edxml").glob("*.edxml"))
NAMESPACE = "http://www.mic.gov.vn/TBT/QCVN_102_2016"
FROM = "<From><OrganId>G22</OrganId><OrganName>VPCP</OrganName></From>"
TO = "<To><OrganId>H41.07</OrganId></To>"
THREE = ("000.00.00.H41", "000.00.00.H14", "000.00.00.G17")


def sample(name: str) -> bytes:
    return next(path for path in SAMPLES if path.stem == name).read_bytes()


def feed(pieces: Iterable[bytes], limits: ReadLimits = LIMITS) -> Package:
    reader = Reader(limits)
    for piece in pieces:
        reader.feed(piece)
    return reader.close()


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def read(data: bytes | str, limits: ReadLimits = LIMITS) -> Package:
    return feed([data.encode() if isinstance(data, str) else data], limits)


def refusal(data: bytes | str, limits: ReadLimits = LIMITS) -> Refused:
    with pytest.raises(Refused) as caught:
        read(data, limits)
    return caught.value


def package(
    header: str = "", trace: str = "", manifest: str = "", attachments: str = "", sender: str = FROM, to: str = TO
) -> str:
    """A package in the usual shape, without prefixes, around what a test is about."""
    return (
        f'<edXML xmlns="{NAMESPACE}"><edXMLEnvelope><edXMLHeader><MessageHeader>{sender}{to}{header}</MessageHeader>'
        f"<TraceHeaderList>{trace}</TraceHeaderList></edXMLHeader><edXMLBody><edXMLManifest>{manifest}</edXMLManifest></edXMLBody>"
        f"</edXMLEnvelope><AttachmentEncoded>{attachments}</AttachmentEncoded></edXML>"
    )


def status(header: str) -> str:
    return package("<ResponseFor><OrganId>H41</OrganId></ResponseFor>" + header, to="")


def attachment(content: bytes | str, name: str = "a.bin", content_id: str = "cid:1", more: str = "") -> str:
    text = content if isinstance(content, str) else base64.b64encode(content).decode()
    return (
        f"<Attachment><ContentId>{content_id}</ContentId><AttachmentName>{name}</AttachmentName>{more}"
        f"<ContentTransferEncoded>{text}</ContentTransferEncoded></Attachment>"
    )


def reference(name: str = "a.bin", content_id: str = "cid:1") -> str:
    return f"<Reference><ContentId>{content_id}</ContentId><AttachmentName>{name}</AttachmentName></Reference>"


# --- real packages


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("edoc_new", (Business.NEW, "000.00.00.A80", ("28.22.H17",), "74fass22/VPCP-TTĐT", 1)),
        (
            "edoc_update",
            (Business.UPDATE, "000.00.00.G22", ("000.00.00.H41", "000.00.00.H14", "000.00.00.G17"), "7816/VPCP-TTĐT", 1),
        ),
        (
            "edoc_revocation",
            (Business.RECALL, "000.00.00.G22", ("000.00.00.H41", "000.00.00.H14", "000.00.00.G17"), "7816/VPCP-TTĐT", 1),
        ),
        ("pvn_1da394ba", (Business.NEW, "vxp.saas.03", ("vxp.saas.02",), "20251020104803/GW-AUTO", 3)),
        ("pvn_9e272474", (Business.NEW, "vxp.saas.03", ("vxp.saas.03",), "202545/VPCP-TTĐT", 1)),
        ("pvn_b6e1f29d", (Business.NEW, "vxp.saas.03", ("vxp.saas.03",), "20251016112435/GW-AUTO", 2)),
        ("pvn_test_user", (Business.NEW, "vxp.saas.03", ("vxp.saas.03",), "", 1)),
    ],
)
def test_every_real_document_is_read(name: str, expected: tuple[Business, str, tuple[str, ...], str, int]) -> None:
    read_back = read(sample(name))
    codes = tuple(party.code for party in read_back.recipients)
    seen = (read_back.business, read_back.sender.code, codes, read_back.number_notation, len(read_back.attachments))
    assert seen == expected
    assert not read_back.is_status
    assert read_back.missing == ()
    assert not {"archive-damaged", "attachment-unlisted"} & set(read_back.oddities)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("status", "01"),
        ("status_rejection_02", "02"),
        ("status_acceptance_03", "03"),
        ("status_processing_05", "05"),
        ("status_cancellation_13", "13"),
        ("status_change-acceptance_15", "15"),
    ],
)
def test_every_real_status_is_read(name: str, code: str) -> None:
    read_back = read(sample(name))
    assert read_back.is_status and read_back.status == code
    (answered,) = read_back.response_for
    assert answered.document_id == "000.00.00.G22,2015/09/30,7816/VPCP-TTĐT"
    assert answered.code == "7816/VPCP-TTĐT"
    assert read_back.description and read_back.timestamp and read_back.oddities == ()


def test_no_sample_is_left_out() -> None:
    assert len(SAMPLES) == 13


def test_the_fields_of_a_real_document_are_as_written() -> None:
    read_back = read(sample("edoc_new"))
    assert read_back.sender.in_charge == "UBND xã Hòa Tiến - UBND huyện Hòa Vang - Thành phố Đà Nẵng"
    assert read_back.recipients[0].telephone == "(84-4) 3821 5137"
    assert read_back.document_id == "000.00.00.G22,2015/09/30,7816/VPCP-TTĐT"
    assert read_back.business_document_id == "000.00.00.G22,2014/02/30,7806/VPCP-TTĐT"
    assert read_back.reason == "Văn bản điện tử mới"
    assert (read_back.date, read_back.due_date, read_back.paper) == ("2019/01/16", "2018/09/28", "0")
    assert (read_back.type_name, read_back.subject) == ("Công văn", "V/v kết nối, liên thông phần mềm quản lý văn bản")
    assert read_back.oddities == ("number-not-digits",)


def test_a_real_recall_names_its_document_beside_the_one_it_answers() -> None:
    read_back = read(sample("edoc_revocation"))
    assert read_back.document_id == "000.00.00.G22,2015/09/30,7816/VPCP-TTĐT"
    assert read_back.business_document_id == ""
    assert read_back.response_for == (
        Reference("000.00.00.H14", "267/VPCP-TTĐT", "2018/09/28", "000.00.04.G14,2012/08/06,267/VPCP-TTĐT"),
    )


def test_the_oddities_of_a_real_damaged_package_are_named() -> None:
    read_back = read(sample("pvn_9e272474"))
    (pdf,) = read_back.attachments
    assert (pdf.name, pdf.zipped, pdf.size_bytes) == ("1761209178887_TestTrucLienThong.pdf", False, 18_839)
    assert set(read_back.oddities) == {
        "placeholder-value",
        "trace-without-organ",
        "payload-damaged-as-text",
        "business-missing",
        "sender-is-recipient",
    }


def test_zips_are_known_by_content_whatever_their_label() -> None:
    assert all(attached.zipped for attached in read(sample("pvn_1da394ba")).attachments)
    assert "content-type-contradicts" in read(sample("pvn_1da394ba")).oddities
    assert "content-type-contradicts" not in read(sample("pvn_b6e1f29d")).oddities


@pytest.mark.parametrize("slice_bytes", [1, 2, 3, 7, 61, 1000])
def test_a_package_cut_anywhere_reads_the_same(slice_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [read(path.read_bytes()) for path in SAMPLES]
    monkeypatch.setattr(edxml, "SLICE_BYTES", slice_bytes)
    assert [feed(cut(path.read_bytes(), slice_bytes)) for path in SAMPLES] == whole


@pytest.mark.parametrize("shift", range(4))
def test_a_letter_may_lie_across_two_slices(shift: int) -> None:
    text = "ữ" * (edxml.SLICE_BYTES // 3)
    data = package(f"<Subject>{'x' * shift}{text}</Subject>").encode()
    assert feed(cut(data, 1000)).subject == feed([data]).subject == "x" * shift + text


# --- base64 that goes past the XML parser

PIECES = st.sampled_from(
    [
        *("QUJD", "QUJDREVG" * 12, "QQ==", "=", "Q", "QUJD\n", "QU JD\r\n", "\t", "\n"),
        *("&#81;UJD", "&#13;&#10;", "&amp;", "<![CDATA[QUJD]]>", "<![CDATA[QUJ", "]]>", "]", "<!-- QUJDQUJD -->", "<!-- QUJD"),
        *("<?pi QUJD?>", "<b>QUJD</b>", "<b/>", "</ContentTransferEncoded><ContentTransferEncoded>", "-", "ữ", "\x00", "\x1f"),
    ]
)


def told(data: bytes, size: int) -> Package | tuple[Reason, str, str, str]:
    """What is read, or why not; without the column, which is not known behind what went past."""
    try:
        return feed(cut(data, size))
    except Refused as refused:
        where = re.sub(r", column \d+", "", refused.rule) if refused.reason is Reason.XML_MALFORMED else ""
        return refused.reason, refused.element, refused.value, where


@settings(max_examples=400, deadline=None)
@given(pieces=st.lists(PIECES, max_size=8), size=st.integers(1, 700), slice_bytes=st.integers(1, 40))
def test_base64_that_goes_past_the_parser_means_what_it_would_have_meant_to_it(
    pieces: list[str], size: int, slice_bytes: int
) -> None:
    """Comments, sections, references and elements amid the base64, cut anywhere: there is one reading of a package."""
    data = package(attachments=attachment("".join(pieces)) * 2).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edxml, "SLICE_BYTES", slice_bytes)
        patch.setattr(edxml, "PASS_BYTES", 5)
        found = told(data, size)
        patch.setattr(Reader, "_pass_by", lambda _self, _data, at: at)
        assert found == told(data, size)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", [True, False])
def test_characters_of_two_bytes_are_no_base64_though_each_byte_looks_like_it(
    monkeypatch: pytest.MonkeyPatch, encoding: str, mark: bool
) -> None:
    hidden = base64.b64encode(b"another attachment for another reader !").decode().encode().decode(encoding)
    text = package(attachments=attachment(hidden * 20))
    data = ("\ufeff" * mark + f'<?xml version="1.0" encoding="UTF-16"?>{text}').encode(encoding)
    for size in range(2, len(data), 2):  # one of them ends where the text begins
        monkeypatch.setattr(edxml, "SLICE_BYTES", size)
        with pytest.raises(Refused) as caught:
            feed(cut(data, size))
        assert caught.value.reason is Reason.BASE64_BROKEN


@pytest.mark.parametrize("fault", ["", "-", "=", "ữ"])
@pytest.mark.parametrize("zipped", [False, True])
def test_without_digests_a_package_reads_the_same_but_for_them(fault: str, zipped: bool) -> None:
    content = random.Random(1).randbytes(100_000)
    if zipped:
        with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
            archive.writestr("a.bin", content)
        content = packed.getvalue()
    text = base64.b64encode(content).decode()
    data = package(attachments=attachment(text[:70_000] + fault + text[70_000:])).encode()

    def outcome_of(limits: ReadLimits) -> Any:
        try:
            return feed(cut(data, 10_000), limits)
        except Refused as refused:
            return refused.reason, refused.element, refused.value

    whole, checked = outcome_of(LIMITS), outcome_of(replace(LIMITS, digests=False))
    if fault:
        assert whole == checked == (Reason.BASE64_BROKEN, "ContentTransferEncoded", "a.bin")
    else:
        (attached,) = whole.attachments
        assert attached.zipped is zipped
        assert checked == replace(whole, attachments=(replace(attached, sha256=""),))


def test_a_bomb_is_found_without_digests_too() -> None:
    with zipfile.ZipFile(packed := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("harmless.bin", random.Random(1).randbytes(300_000))
        archive.writestr("a.bin", bytes(40 * MIB))
    data = package(attachments=attachment(packed.getvalue())).encode()
    with pytest.raises(Refused) as caught:
        feed(cut(data, 4_000), ReadLimits(200 * MIB, 20 * MIB, digests=False))
    assert caught.value.reason is Reason.ARCHIVE_BOMB


def test_almost_nothing_of_an_attachment_goes_through_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    really = Reader._parse

    def parse(self: Reader, data: bytearray | memoryview, *, final: bool) -> None:
        parsed.append(len(data))
        really(self, data, final=final)

    monkeypatch.setattr(Reader, "_parse", parse)
    data = package(attachments=attachment(bytes(3_000_000))).encode()
    (attached,) = feed(cut(data, 100_000)).attachments
    assert attached.size_bytes == 3_000_000
    assert sum(parsed) < 2 * edxml.SLICE_BYTES


def test_a_fault_behind_an_attachment_is_named_by_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edxml, "SLICE_BYTES", 16)
    wrapped = base64.encodebytes(bytes(10_000)).decode()
    data = package(attachments=attachment(wrapped)).replace("</Attachment>", "\n</wrong>").encode()
    line = data[: data.index(b"</wrong>")].count(b"\n") + 1
    with pytest.raises(Refused) as caught:
        feed(cut(data, 1000))
    assert caught.value.rule == f"line {line}: mismatched tag"


# --- shapes and oddities that are tolerated


def test_order_does_not_matter() -> None:
    header = "<Subject>S</Subject><DocumentId>D</DocumentId>"
    usual = read(package(header, manifest=reference(), attachments=attachment(b"abc")))
    turned = (
        f'<edXML xmlns="{NAMESPACE}"><AttachmentEncoded><Attachment>'
        "<ContentTransferEncoded>YWJj</ContentTransferEncoded><AttachmentName>a.bin</AttachmentName><ContentId>cid:1</ContentId>"
        f"</Attachment></AttachmentEncoded><edXMLEnvelope><edXMLBody><edXMLManifest>{reference()}</edXMLManifest></edXMLBody>"
        f"<edXMLHeader><TraceHeaderList/><MessageHeader><DocumentId>D</DocumentId>{TO}<Subject>S</Subject>{FROM}</MessageHeader>"
        "</edXMLHeader></edXMLEnvelope></edXML>"
    )
    assert read(turned) == usual


@pytest.mark.parametrize(
    ("before", "after", "oddity"),
    [
        (f' xmlns="{NAMESPACE}"', "", "namespace-missing"),
        (NAMESPACE, "http://www.e-doc.vn/Schema/", "namespace-other"),
        (f'<edXML xmlns="{NAMESPACE}">', f'<edXML xmlns="{NAMESPACE}" xmlns:xlink="http://www.w3.org/1999/xlink">', None),
    ],
)
def test_namespaces_may_be_missing_or_wrong(before: str, after: str, oddity: str | None) -> None:
    plain = read(package())
    other = read(package().replace(before, after))
    assert other.recipients == plain.recipients and other.sender == plain.sender
    assert other.oddities == (*([oddity] if oddity else []), *plain.oddities)


def test_any_prefix_reads_the_same() -> None:
    prefixed = package("<Subject>S</Subject>").replace("</", "</x:").replace("<", "<x:").replace("<x:/x:", "</x:")
    assert read(prefixed.replace("xmlns=", "xmlns:x=")) == read(package("<Subject>S</Subject>"))


def test_a_prefix_nobody_declared_is_malformed_for_every_receiver_and_refused() -> None:
    caught = refusal(package("<edXML:Subject>S</edXML:Subject>"))
    assert (caught.reason, "unbound prefix" in caught.rule) == (Reason.XML_MALFORMED, True)


def test_the_flat_shape_of_the_old_axis_guide_is_read() -> None:
    data = (
        '<edXMLEnvelope xmlns="http://www.go.vn/eDoc">'
        f"{FROM}{TO}<Code><CodeNumber>12</CodeNumber><CodeNotation>UBND</CodeNotation></Code><Subject>S</Subject>"
        "<Bussiness><BussinessDocType>2</BussinessDocType></Bussiness>"
        "<Attachment><FileName>a.txt</FileName><FileType>txt</FileType><Content>YWJj</Content></Attachment></edXMLEnvelope>"
    )
    read_back = read(data)
    assert (read_back.sender.code, read_back.recipients[0].code, read_back.number_notation) == ("G22", "H41.07", "12/UBND")
    assert (read_back.subject, read_back.business) == ("S", Business.UPDATE)
    (attached,) = read_back.attachments
    assert (attached.name, attached.content_type, attached.size_bytes) == ("a.txt", "txt", 3)
    assert {"root-envelope", "namespace-other"} <= set(read_back.oddities)


def test_a_bare_envelope_with_the_usual_children_is_read() -> None:
    data = package("<Content>not base64!</Content>").replace(f'<edXML xmlns="{NAMESPACE}">', "").replace("</edXML>", "")
    data = data.replace("<AttachmentEncoded></AttachmentEncoded>", "")
    assert read(data).recipients[0].code == "H41.07"


@pytest.mark.parametrize(
    ("header", "oddity"),
    [
        ("<ResponseFor/>", "response-for-empty"),
        ("<ResponseFor><OrganId>12/UBND</OrganId><Code>H41</Code></ResponseFor>", "response-for-swapped"),
        ("<Subject>N/A</Subject>", "placeholder-value"),
        ("<Subject>a</Subject><Subject>b</Subject>", "element-repeated"),
        ("<Code><CodeNumber>12a</CodeNumber></Code>", "number-not-digits"),
        ("<PromulgationInfo><PromulgationDate>2014/02/30</PromulgationDate></PromulgationInfo>", "date-impossible"),
        ("<To><OrganName>UBND</OrganName></To>", "to-without-code"),
        ("<OtherInfo><Priority>5</Priority></OtherInfo>", "priority-unknown"),
        ("<OtherInfo><Priority>khẩn</Priority></OtherInfo>", "priority-unknown"),
        ("<StatusCode/>", "status-code-empty"),
    ],
)
def test_what_real_senders_get_wrong_in_the_header_is_read_and_named(header: str, oddity: str) -> None:
    assert oddity not in read(package()).oddities
    assert oddity in read(package(header)).oddities


@pytest.mark.parametrize(
    ("trace", "oddity"),
    [
        ("<TraceHeader><Timestamp>2025/10/23 15:46:19</Timestamp></TraceHeader>", "trace-without-organ"),
        ("<TraceHeader><OrganId>null</OrganId></TraceHeader>", "trace-without-organ"),
        ("<TraceHeader><OrganId>H41</OrganId></TraceHeader>", "trace-without-time"),
        ("<Bussiness><BussinessDocType>4</BussinessDocType></Bussiness>", "business-unknown"),
        ("<Bussiness/>", "business-missing"),
        ("", "trace-missing"),
    ],
)
def test_what_real_senders_get_wrong_in_the_trace_is_read_and_named(trace: str, oddity: str) -> None:
    read_back = read(package(trace=trace))
    assert oddity in read_back.oddities
    assert read_back.business is Business.NEW


@pytest.mark.parametrize("value", list(Priority))
def test_the_five_priorities_are_read(value: Priority) -> None:
    read_back = read(package(f"<OtherInfo><Priority> {int(value)} </Priority></OtherInfo>"))
    assert (read_back.priority, "priority-unknown" in read_back.oddities) == (value, False)


@pytest.mark.parametrize("value", list(Business))
def test_the_four_business_types_are_read(value: Business) -> None:
    trace = f"<Bussiness><BussinessDocType>{int(value)}</BussinessDocType></Bussiness>"
    for read_back in (read(package(trace=trace)), read(package().replace("<TraceHeaderList></TraceHeaderList>", trace))):
        assert (read_back.business, "business-unknown" in read_back.oddities) == (value, False)


def test_a_value_of_one_parent_is_never_taken_for_anothers() -> None:
    read_back = read(
        package(
            "<ResponseFor><OrganId>H1</OrganId><Code>9/X</Code><DocumentId>answered</DocumentId>"
            "<PromulgationDate>2000/01/01</PromulgationDate></ResponseFor><DueDate/><ResponseDate>2026/01/02</ResponseDate>"
            "<StaffInfo><Email>x@y</Email></StaffInfo><Extra><DocumentId>stray</DocumentId><From><OrganId>H99</OrganId></From></Extra>",
            trace="<TraceHeader><OrganId>H2</OrganId></TraceHeader><Bussiness><DocumentId>touched</DocumentId>"
            "<ReplacementInfoList><ReplacementInfo><DocumentId>replaced</DocumentId></ReplacementInfo></ReplacementInfoList></Bussiness>",
        )
    )
    assert (read_back.document_id, read_back.business_document_id) == ("", "touched")
    assert (read_back.sender.code, read_back.date, read_back.number, read_back.due_date) == ("G22", "", "", "2026/01/02")
    assert read_back.response_for == (Reference("H1", "9/X", "2000/01/01", "answered"),)


def test_text_within_a_value_is_kept_and_only_its_edges_are_stripped() -> None:
    assert read(package("<Subject>\n  a\r\n b &amp; <![CDATA[<c>]]>&#7919;\t</Subject>")).subject == "a\n b & <c>ữ"


def test_text_of_an_unknown_child_is_not_text_of_the_value() -> None:
    assert read(package("<Subject>a<b>x<Subject>y</Subject></b>c</Subject>")).subject == "ac"
    carried = attachment(b"abc").replace("YWJj", "YW<!-- -->J<x>!!!</x>j")
    assert read(package(attachments=carried)).attachments[0].size_bytes == 3


def test_content_is_base64_only_in_the_flat_shape() -> None:
    read_back = read(package(attachments=attachment(b"abc", more="<Content>trích yếu</Content>")))
    assert read_back.attachments[0].size_bytes == 3


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + package("<Subject>ữ</Subject>").encode(),
        codecs.BOM_UTF16_LE + package("<Subject>ữ</Subject>").encode("utf-16-le"),
        codecs.BOM_UTF16_BE + package("<Subject>ữ</Subject>").encode("utf-16-be"),
        b'<?xml version="1.0" encoding="US-ASCII"?>' + package("<Subject>&#7919;</Subject>").encode(),
        b'<?xml version="1.0" encoding="ISO-8859-1"?>' + package("<Subject>&#x1EEF;</Subject>").encode(),
        b"<?xml version='1.0' encoding='utf-8'?>\r\n<!-- note --><?pi?>" + package("<Subject>ữ</Subject>").encode() + b"\r\n",
    ],
)
def test_the_encodings_that_expat_reads_by_itself_are_read(data: bytes) -> None:
    assert read(data).subject == "ữ"


# --- statuses


@pytest.mark.parametrize("code", STATUS_CODES)
def test_the_nine_codes_make_a_status(code: str) -> None:
    read_back = read(status(f"<StatusCode>{code}</StatusCode><Timestamp>2026/01/02 03:04:05</Timestamp>"))
    assert (read_back.status, "timestamp-missing" in read_back.oddities) == (code, False)
    assert ("description-missing" in read_back.oddities) == (code in ("02", "13", "16"))


def test_a_status_code_without_its_zero_gets_it_back() -> None:
    read_back = read(status("<StatusCode>1</StatusCode>"))
    assert (read_back.status, "status-code-short" in read_back.oddities) == ("01", True)


@pytest.mark.parametrize("code", ["07", "00", "14", "001", "0", "x", "1３", "", "010"])
def test_an_unknown_status_code_is_refused_with_the_nine_named(code: str) -> None:
    caught = refusal(status(f"<StatusCode>{code}</StatusCode>"))
    assert (caught.reason, caught.element, caught.value) == (Reason.STATUS_CODE_UNKNOWN, "StatusCode", code)
    assert caught.rule == "01, 02, 03, 04, 05, 06, 13, 15, 16"


def test_a_status_code_elsewhere_makes_no_status() -> None:
    assert not read(package("<ResponseFor><StatusCode>01</StatusCode></ResponseFor>")).is_status


# --- what must be there, and what may be there once


@pytest.mark.parametrize(
    ("data", "element"),
    [
        (package(sender=""), "From/OrganId"),
        (package(sender="<From><OrganName>x</OrganName></From>"), "From/OrganId"),
        (package(sender="<From><OrganId> </OrganId></From>"), "From/OrganId"),
        (package(to=""), "To/OrganId"),
        (package(to="<To><OrganId/></To><To/>"), "To/OrganId"),
        (package("<StatusCode>01</StatusCode>", to=""), "ResponseFor"),
        (package("<StatusCode>01</StatusCode><ResponseFor><OrganId/></ResponseFor>", to=""), "ResponseFor"),
        ("<edXML/>", "From/OrganId"),
        (f"<edXML>{FROM}{TO}</edXML>", "From/OrganId"),
    ],
)
def test_what_nobody_could_send_or_answer_is_refused(data: str, element: str) -> None:
    caught = refusal(data)
    assert (caught.reason, caught.element) == (Reason.ELEMENT_MISSING, element)


@pytest.mark.parametrize(
    ("data", "element"),
    [
        (package("</MessageHeader><MessageHeader>"), "MessageHeader"),
        (package(FROM), "From"),
        (package("<StatusCode>01</StatusCode><StatusCode>02</StatusCode>"), "StatusCode"),
        (package(sender="<From><OrganId>H1</OrganId><OrganId>H2</OrganId></From>"), "From/OrganId"),
        (package(to="<To><OrganId>H1</OrganId><OrganId>H2</OrganId></To>"), "To/OrganId"),
        (package(attachments=attachment(b"a", more="<ContentTransferEncoded/>")), "ContentTransferEncoded"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(data: str, element: str) -> None:
    caught = refusal(data)
    assert (caught.reason, caught.element, caught.rule) == (Reason.TOO_MANY_ELEMENTS, element, "1")


# --- attachments


def test_an_attachment_is_measured_while_it_passes() -> None:
    content = random.Random(1).randbytes(300_000)
    text = base64.encodebytes(content).decode().replace("\n", "\r\n")
    (attached,) = read(package(manifest=reference(), attachments=attachment(text))).attachments
    assert (attached.size_bytes, attached.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (attached.content_id, attached.name, attached.zipped) == ("cid:1", "a.bin", False)


@pytest.mark.parametrize(
    ("content", "signable"),
    [
        (b"%PDF-1.7 a", True),
        (b"PK\x03\x04", True),
        (b"chu", True),
        (b"\xff\xd8\xff\xe0", False),
        (b"\x89PNG\r\n\x1a\n", False),
        (b"", False),
    ],
)
def test_a_picture_bears_no_signature_and_of_anything_else_it_is_not_known(content: bytes, signable: bool) -> None:
    """QĐ 28/2018 Điều 4; whatever its name says."""
    text = base64.b64encode(content).decode()
    (attached,) = read(package(manifest=reference(), attachments=attachment(text))).attachments
    assert attached.signable is signable


@pytest.mark.parametrize(
    ("manifest", "carried"),
    [
        (reference(content_id="cid:7"), attachment(b"a", content_id="7")),
        (reference(content_id="7"), attachment(b"a", content_id="CID:7")),
        ('<Reference xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="cid:7"/>', attachment(b"a", content_id="cid:7")),
        ('<Reference href=" cid:7"><Description>x</Description></Reference>', attachment(b"a", content_id="7")),
        (reference("b.pdf", "cid:8"), attachment(b"a", "b.pdf", content_id="cid:9")),
        (reference("b.pdf", ""), attachment(b"a", "b.pdf", content_id="")),
    ],
)
def test_manifest_and_attachment_meet_by_content_id_or_name(manifest: str, carried: str) -> None:
    read_back = read(package(manifest=manifest, attachments=carried))
    assert read_back.missing == ()
    assert not {"attachment-missing", "attachment-unlisted"} & set(read_back.oddities)


def test_what_the_manifest_names_and_nobody_carries_is_missing() -> None:
    manifest = reference("a", "cid:1") + reference("b", "cid:2") + reference("", "cid:3") + "<Reference/>"
    read_back = read(package(manifest=manifest, attachments=attachment(b"x", "a", "cid:1")))
    assert read_back.missing == ("b", "cid:3")
    assert {"attachment-missing", "reference-empty"} <= set(read_back.oddities)


def test_what_is_carried_and_not_named_is_read_and_noted() -> None:
    read_back = read(package(attachments=attachment(b"x")))
    assert (len(read_back.attachments), "attachment-unlisted" in read_back.oddities) == (1, True)


def test_an_attachment_without_content_is_missing() -> None:
    read_back = read(package(manifest=reference("a"), attachments="<Attachment><AttachmentName>a</AttachmentName></Attachment>"))
    assert (read_back.attachments, read_back.missing) == ((), ("a",))
    assert "attachment-without-content" in read_back.oddities


def test_an_empty_attachment_is_an_attachment() -> None:
    read_back = read(package(manifest=reference(), attachments=attachment(b"")))
    assert (read_back.attachments[0].size_bytes, read_back.missing) == (0, ())
    assert "attachment-empty" in read_back.oddities


def test_a_nameless_attachment_is_called_as_in_the_manifest_and_a_long_name_is_cut() -> None:
    manifest = reference("Tờ trình.pdf", "cid:5") + reference("y", "cid:6")
    read_back = read(package(manifest=manifest, attachments=attachment(b"x", "", "5") + attachment(b"x", "n" * 5000, "6")))
    assert [attached.name for attached in read_back.attachments] == ["Tờ trình.pdf", "n" * 1000]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("QUJ", "length not a multiple of 4"),
        ("QUJ-", "U+002D"),
        ("QUJD\N{NO-BREAK SPACE}", "U+00A0"),
        ("QQ==QQ==", "Excess data after padding"),
        ("QUJD" * 50_000 + "*", "U+002A"),
    ],
)
def test_broken_base64_is_refused_with_the_attachments_name(text: str, fault: str) -> None:
    caught = refusal(package(attachments=attachment(text, "Tờ trình.pdf")))
    assert (caught.reason, caught.element, caught.value) == (Reason.BASE64_BROKEN, "ContentTransferEncoded", "Tờ trình.pdf")
    assert fault in caught.rule


def test_a_name_that_follows_its_broken_content_is_found_in_the_manifest() -> None:
    carried = "<Attachment><ContentId>1</ContentId><ContentTransferEncoded>!</ContentTransferEncoded></Attachment>"
    assert refusal(package(manifest=reference("b.pdf"), attachments=carried)).value == "b.pdf"


def zipped(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in members.items():
            writer.writestr(name, content)
    return target.getvalue()


def test_an_archive_bomb_is_refused_with_the_limit_and_what_was_seen() -> None:
    caught = refusal(package(attachments=attachment(zipped({"0": bytes(40 * MIB)}), "bom.zip")))
    assert (caught.reason, caught.element, caught.value) == (Reason.ARCHIVE_BOMB, "ContentTransferEncoded", "bom.zip")
    assert caught.rule.startswith("unpacked/packed ≤ 200: ")


def test_archives_are_limited_over_the_whole_package() -> None:
    limits = ReadLimits(package_bytes_max=MIB, unpacked_bytes_max=150_000)
    one = attachment(zipped({"a": random.Random(2).randbytes(50_000)}))
    assert len(read(package(attachments=one * 3), limits).attachments) == 3
    assert refusal(package(attachments=one * 4), limits).rule.startswith("unpacked bytes ≤ 150000: ")


def test_a_damaged_archive_is_the_offices_affair() -> None:
    read_back = read(package(attachments=attachment(zipped({"a": b"x" * 999})[:40])))
    assert (read_back.attachments[0].zipped, "archive-damaged" in read_back.oddities) == (True, True)


# --- hostile and broken XML


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE edXML>",
        '<!DOCTYPE edXML SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE edXML [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE edXML [<!ENTITY % p SYSTEM "http://127.0.0.1:1/">%p;]>',
        "<!DOCTYPE edXML [<!ENTITY a0 'lol'>" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12)) + "]>",
        f"<!DOCTYPE edXML [<!ENTITY big '{'x' * 50_000}'>]>",
    ],
)
def test_any_doctype_is_refused_before_its_entities_do_anything(doctype: str) -> None:
    """Threats, row 11."""
    started = time.process_time()
    caught = refusal(doctype + package("<Subject>" + "&big;&a11;&x;" * 200 + "</Subject>"))
    assert (caught.reason, caught.value) == (Reason.XML_DOCTYPE, "edXML")
    assert time.process_time() - started < 2


def test_an_undeclared_entity_is_malformed() -> None:
    assert "undefined entity" in refusal(package("<Subject>&nbsp;</Subject>")).rule


def test_two_hundred_thousand_levels_do_not_hurt() -> None:
    """Threats, row 11."""
    caught = refusal("<edXML>" + "<a>" * 200_000)
    assert (caught.reason, caught.element, caught.value, caught.rule) == (Reason.XML_TOO_DEEP, "a", "65", "≤ 64")
    fits = "<a>" * 61 + "</a>" * 61
    assert read(package().replace("</edXMLHeader>", fits + "</edXMLHeader>")).sender.code == "G22"


def endless(beginning: str, filling: bytes, size: int) -> Iterator[bytes]:
    yield beginning.encode()
    for _ in range(size // len(filling)):
        yield filling


@pytest.mark.parametrize(
    "beginning",
    ['<edXML a="', "<edXML a='x' b='", "<edXML><!-- ", "<edXML><?pi ", "<!-- ", "<edXML><a", "<!DOCTYPE edXML PUBLIC 'a' '"],
)
def test_fifty_megabytes_without_an_end_are_refused_early_and_cheaply(beginning: str) -> None:
    """Threats, row 12."""
    reader = Reader(LIMITS)
    fed = 0
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as caught:
            for piece in endless(beginning, b"x" * 50_000, 50 * MIB):
                reader.feed(piece)
                fed += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason is Reason.VALUE_TOO_LONG
    assert fed < 3 * MIB and peak < 16 * MIB


def test_a_long_tag_in_the_smallest_pieces_does_not_cost_its_square() -> None:
    started = time.process_time()
    with pytest.raises(Refused) as caught:
        feed(endless('<edXML a="', b"x", 2 * MIB))
    assert caught.value.reason is Reason.VALUE_TOO_LONG
    assert time.process_time() - started < 5


class CountingParser:
    """Stands before expat and notes how much each call gives it: an unfinished token is scanned anew with each."""

    given: list[int]
    parser: Any

    def __init__(self, parser: Any) -> None:
        self.__dict__.update(parser=parser, given=[])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parser, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.parser, name, value)

    def Parse(self, data: bytes, final: bool) -> None:
        self.given.append(len(data))
        self.parser.Parse(data, final)


def test_an_unfinished_token_is_scanned_again_only_when_it_has_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[CountingParser] = []
    create = expat.ParserCreate

    def counting(*arguments: Any, **options: Any) -> CountingParser:
        made.append(CountingParser(create(*arguments, **options)))
        return made[0]

    monkeypatch.setattr(expat, "ParserCreate", counting)
    with pytest.raises(Refused):
        feed(endless('<edXML a="', b"x" * 1000, 2 * MIB))
    scanned = sum(accumulate(made[0].given))
    assert MIB < scanned < 6 * MIB


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (package("<x/>" * 200_001), Reason.TOO_MANY_ELEMENTS),
        (package("".join(f"<x{n}/>" for n in range(2001))), Reason.TOO_MANY_ELEMENTS),
        (package("<x {}/>".format(" ".join(f'a{n}=""' for n in range(2001)))), Reason.TOO_MANY_ELEMENTS),
        (package("<x a='' b='' c='' d=''/>" * 40_001), Reason.TOO_MANY_ELEMENTS),
        (package("<x {}/>".format(" ".join(f'xmlns:a{n}="u"' for n in range(2001)))), Reason.TOO_MANY_ELEMENTS),
        (package(f"<{'x' * 257}/>"), Reason.VALUE_TOO_LONG),
        (package(f"<x {'x' * 257}=''/>"), Reason.VALUE_TOO_LONG),
        (package(f"<x xmlns='{'x' * 257}'/>"), Reason.VALUE_TOO_LONG),
        (package(f"<x a='{'x' * 100_001}'/>"), Reason.VALUE_TOO_LONG),
        (package(f"<Subject>{'x' * 100_001}</Subject>"), Reason.VALUE_TOO_LONG),
        (package(f"<Subject>{' ' * 100_001}</Subject>"), Reason.VALUE_TOO_LONG),
        (package(f"<Unknown>{'x' * 100_001}</Unknown>"), Reason.VALUE_TOO_LONG),
        (package("<Subject>" + ("x" * 60_000 + "<b/>") * 2 + "</Subject>"), Reason.VALUE_TOO_LONG),
        (package(TO * 4000), Reason.TOO_MANY_ELEMENTS),
        (package(manifest=reference() * 1001), Reason.TOO_MANY_ELEMENTS),
        (package(attachments=attachment(b"") * 1001), Reason.TOO_MANY_ELEMENTS),
    ],
)
def test_every_count_and_length_has_its_limit(data: str, reason: Reason) -> None:
    caught = refusal(data)
    assert (caught.reason, caught.rule.startswith("≤ ")) == (reason, True)


def test_what_stays_within_the_limits_is_read() -> None:
    assert len(read(package(f"<Subject>{'x' * 100_000}</Subject>")).subject) == 100_000
    assert len(read(package(TO * 3999)).recipients) == 4000
    assert read(package("<x/>" * 150_000 + "\n          " * 50_000)).sender.code == "G22"
    assert len(read(package(attachments=attachment(b"x") * 1000)).attachments) == 1000


def test_all_values_together_have_a_limit() -> None:
    party = "<To>" + "".join(f"<{name}>{'x' * 90_000}</{name}>" for name in ("OrganId", "OrganName", "OrganAdd")) + "</To>"
    caught = refusal(package(party * 40))
    assert (caught.reason, caught.element, caught.rule) == (Reason.VALUE_TOO_LONG, "MessageHeader", f"≤ {8 * MIB}")


def test_a_package_over_its_bytes_is_refused_while_it_comes() -> None:
    limits = ReadLimits(package_bytes_max=10_000, unpacked_bytes_max=MIB)
    reader = Reader(limits)
    reader.feed(b" " * 10_000)
    with pytest.raises(Refused) as caught:
        reader.feed(b" ")
    assert (caught.value.reason, caught.value.value, caught.value.rule) == (Reason.PACKAGE_TOO_LARGE, "10001", "≤ 10000")


@pytest.mark.parametrize("data", [b"", b" ", b"\r\n", b"\n" * 100_000])
def test_nothing_is_an_empty_package(data: bytes) -> None:
    assert refusal(data).reason is Reason.PACKAGE_EMPTY


@pytest.mark.parametrize(
    ("data", "root"),
    [
        ("<html><body>502 Bad Gateway</body></html>", "html"),
        ('<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body/></s:Envelope>', "Envelope"),
        ("<edxml/>", "edxml"),
        ("<MessageHeader/>", "MessageHeader"),
    ],
)
def test_another_root_is_not_edxml(data: str, root: str) -> None:
    caught = refusal(data)
    assert (caught.reason, caught.value) == (Reason.NOT_EDXML, root)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"{}", "line 1, column 1"),
        (b"%PDF-1.7", "line 1, column 1"),
        (b"PK\x03\x04" + bytes(40), "line 1, column 3"),
        (b"<edXML>\n  <a></b></edXML>", "line 2, column 8: mismatched tag"),
        (b"<edXML>", "no element found"),
        (b"<edXML/><edXML/>", "junk after document element"),
        (b"<edXML a='1' a='2'/>", "duplicate attribute"),
        (b"<edXML>\x00</edXML>", "not well-formed"),
        (b"<edXML>\x08</edXML>", "not well-formed"),
        (b"<edXML>&#0;</edXML>", "invalid character number"),
        (b"<edXML>\xc3(</edXML>", "not well-formed"),
        (b"<edXML>\xed\xa0\x80</edXML>", "not well-formed"),
        (b"<edXML>\xef\xbf\xbf</edXML>", "not well-formed"),
        (b"<edXML>\xff</edXML>", "not well-formed"),
        (b"<edXML/>\x00", "line 1, column 9"),
        (b"<!-- only a comment -->", "no element found"),
        (b'<?xml version="1.0" encoding="utf-16"?><edXML/>', "encoding specified in XML declaration is incorrect"),
        (b"<edXML", "unclosed token"),
    ],
)
def test_malformed_xml_is_refused_with_its_place(data: bytes, where: str) -> None:
    caught = refusal(data)
    assert caught.reason is Reason.XML_MALFORMED
    assert where in caught.rule and caught.rule.startswith("line ")


@pytest.mark.parametrize("encoding", ["utf8", "windows-1258", "unicode_escape", "utf-7", "aliases", "x"])
def test_another_encoding_is_refused_by_name(encoding: str) -> None:
    caught = refusal(f'<?xml version="1.0" encoding="{encoding}"?>{package()}')
    assert (caught.reason, caught.element, caught.value) == (Reason.XML_MALFORMED, "encoding", encoding)
    assert "utf-8" in caught.rule


def test_a_reader_that_refused_keeps_to_it() -> None:
    reader = Reader(LIMITS)
    with pytest.raises(Refused) as first:
        reader.feed(b"<html>" + b" " * edxml.SLICE_BYTES)
    for again in (lambda: reader.feed(b"x"), reader.close):
        with pytest.raises(Refused) as later:
            again()
        assert str(later.value) == str(first.value)


# --- size and speed


def test_a_hundred_and_fifty_megabytes_of_base64_pass_in_constant_memory() -> None:
    content = random.Random(3).randbytes(48 * 1024)
    piece = base64.b64encode(content)
    rounds = 150 * MIB // len(piece)
    before, after = package(manifest=reference(), attachments=attachment("@")).encode().split(b"@")
    expected = hashlib.sha256()
    reader = Reader(LIMITS)
    tracemalloc.start()
    try:
        reader.feed(before)
        for _ in range(rounds):
            reader.feed(piece)
            expected.update(content)
        reader.feed(after)
        (attached,) = reader.close().attachments
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rounds * len(piece) >= 150 * MIB - len(piece)
    assert (attached.size_bytes, attached.sha256) == (rounds * len(content), expected.hexdigest())
    assert peak < 2 * MIB


# --- any bytes


def outcome(data: bytes, piece: int) -> Package | str:
    """A package or the words of a refusal; anything else fails the test."""
    try:
        return feed(cut(data, piece))
    except Refused as refused:
        assert refused.reason in edxml_reasons
        return str(refused)


edxml_reasons = {
    Reason.XML_MALFORMED,
    Reason.XML_DOCTYPE,
    Reason.XML_TOO_DEEP,
    Reason.NOT_EDXML,
    Reason.PACKAGE_EMPTY,
    Reason.VALUE_TOO_LONG,
    Reason.TOO_MANY_ELEMENTS,
    Reason.BASE64_BROKEN,
    Reason.ARCHIVE_BOMB,
    Reason.ELEMENT_MISSING,
    Reason.STATUS_CODE_UNKNOWN,
}

INSERTS = (
    rb"< > & = ]]> UEsD <![CDATA[ </edXML> <From> <MessageHeader> <Attachment> <ContentTransferEncoded> <Reference/>"
    b" <!DOCTYPE xmlns:a='' \x00 \xff\xfe \xef\xbf\xbd PK\x03\x04"
).split()


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(SAMPLES), st.sampled_from(["utf-8", "utf-16"]))
def test_any_damage_to_a_real_package_ends_in_a_package_or_a_refusal(rng: random.Random, path: Path, encoding: str) -> None:
    data = bytearray(path.read_bytes().decode().replace(' encoding="UTF-8"', "").encode(encoding))
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(data))
        taken = rng.choice((0, 1, 1, 8, 400))
        data[at : at + taken] = rng.choice(
            (b"", rng.randbytes(1), bytes([data[at] ^ 1 << rng.randrange(8)]), rng.choice(INSERTS))
        )
    assert outcome(bytes(data), 1 << 20) == outcome(bytes(data), 5000)


def test_a_fault_behind_contents_has_the_same_words_however_the_bytes_come() -> None:
    data = package(attachments=attachment("QUJD" * 5000 + "\x01" + "QUJD" * 5000)).encode()
    assert {outcome(data, piece) for piece in (1000, 5000, 16_000, 1 << 20)} == {outcome(data, 1 << 20)}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: package(text).encode("utf-8", "surrogatepass")))
def test_any_bytes_end_in_a_package_or_a_refusal(data: bytes) -> None:
    assert outcome(data, 1 << 20) == outcome(data, 1)

"""`truc evidence` and `truc verify`: a document's way as one file, and whether such a file is whole and unaltered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.config import load_config
from node.cli.desk import running
from node.cli.face import Command, config_option, json_option, option
from node.cli.talk import Code, Stop, Texts, because, json_line, lang, pairs, say, t, table, when
from node.core.words import label, visible

if TYPE_CHECKING:
    from node.adapters.http.time_stamps import Stamp
    from node.core.bundle import Flawed, Journey, Story

FLAWS: dict[str, Texts] = {
    "form": ("không đúng dạng của gói bằng chứng", "not of the form of a bundle"),
    "altered": ("đã bị sửa", "altered"),
    "signature": ("chữ ký không đúng", "the signature is not right"),
    "certificate": ("chứng thư của người ký không dùng được", "the signer's certificate is not good"),
    "proof": ("không nói về văn bản này", "does not speak of this document"),
    "gap": ("thiếu biên nhận của chặng này", "the receipt of this hop is missing"),
    "verdict": ("thiếu hoặc sai kết quả cuối cùng", "the final verdict is missing or not right"),
    "surplus": ("thừa, không thuộc về văn bản này", "belongs to nothing here"),
}


@click.command(
    cls=Command,
    texts=(
        "Lập gói bằng chứng của một văn bản đã gửi từ nút này: ai đã ký nhận ở từng chặng, lúc nào, và kết quả cuối cùng.\n"
        "DOCID: docId, mã bì hoặc mã định danh văn bản. Chưa đến nơi, hoặc một nút trên đường không trả lời: mã thoát 75.",
        "Make the evidence of a document sent from this node: who signed for it at each hop, when, and how it ended.\n"
        "DOCID: docId, envelope id or DocumentId. Not there yet, or a node on the way is silent: exit code 75.",
    ),
)
@click.argument("key", metavar="DOCID")
@option("-o", "--output", metavar="FILE", required=True, texts=("tệp để ghi", "where it goes"))
@option(
    "--to",
    metavar="CODE",
    multiple=True,
    texts=("chỉ cho Bên nhận này; lặp lại được", "of this recipient only; repeatable"),
)
@json_option
@config_option
def evidence(key: str, output: str, to: tuple[str, ...], as_json: bool) -> None:
    found = running().get("/api/evidence", key=key, to=list(to))
    if not found["bundle"]:
        raise _none(key, found)
    try:
        Path(output).write_bytes(base64.b64decode(found["bundle"]))
    except OSError as error:
        what = (f"không ghi được {output} ({error.strerror})", f"cannot write {output} ({error.strerror})")
        raise Stop(Code.FAILED, what) from None
    stamp = _stamp(Path(output))
    if as_json:
        json_line({"file": output, "stamp": stamp})
    say(
        f"Đã ghi {output}. Kiểm tra ở bất cứ máy nào: truc verify {output} --root CA.pem",
        f"Written to {output}. Check it anywhere: truc verify {output} --root CA.pem",
    )


def _stamp(file: Path) -> str | None:
    """Have the authority that the node's owner trusts stamp the file; where the stamp lies. It is no part of the file: one that
    the authority does not give today can be asked for as long as the evidence can be made."""
    config, _ = load_config()
    if not config.evidence.tsa_url:
        return None
    from node.adapters import chance
    from node.adapters.http.time_stamps import BadStamp, NoLibrary, stamped

    place = file.with_name(f"{file.name}.tsr")
    place.unlink(missing_ok=True)
    try:
        digest = hashlib.sha256(file.read_bytes()).digest()
        place.write_bytes(asyncio.run(stamped(config.evidence.tsa_url, digest, chance.generator().getrandbits(63))))
    except NoLibrary:
        raise _no_library() from None
    except BadStamp as bad:
        days = f"{config.retention.evidence_d:g}"
        say(
            f"Chưa có dấu thời gian ({visible(bad.why)}). Gói vẫn dùng được; chạy lại lệnh này trong {days} ngày để xin dấu.",
            f"No time stamp yet ({visible(bad.why)}). The bundle is good; run this again within {days} days to ask for one.",
        )
        return None
    say(f"Dấu thời gian: {place}", f"Time stamp: {place}")
    return str(place)


def _no_library() -> Stop:
    what = ("dấu thời gian cần thêm thư viện pyHanko", "time stamps need the library pyHanko")
    return Stop(Code.CONFIG, what, ("pip install 'truc[tsa]'", "pip install 'truc[tsa]'"))


def _judged(file: str, data: bytes, authority: str) -> Stamp:
    """The stamp beside a file."""
    from node.adapters.http.time_stamps import STAMP_BYTES_MAX, BadStamp, NoLibrary, judged

    try:
        with open(f"{file}.tsr", "rb") as beside:
            return judged(beside.read(STAMP_BYTES_MAX + 1), hashlib.sha256(data).digest(), Path(authority).read_bytes())
    except NoLibrary:
        raise _no_library() from None
    except BadStamp as bad:
        what = (f"{file}.tsr: dấu thời gian không dùng được ({bad.why})", f"{file}.tsr: the time stamp is not good ({bad.why})")
    except OSError as error:
        name = error.filename
        what = (f"không đọc được {name} ({error.strerror})", f"cannot read {name} ({error.strerror})")
    raise Stop(Code.FAILED, what, ("xin dấu lại bằng truc evidence", "ask for one with truc evidence"))


def _none(key: str, found: dict[str, Any]) -> Stop:
    if found["many"]:
        listed = ", ".join(found["many"])
        what = (f"nhiều văn bản mang mã “{key}”: {listed}", f"several documents are “{key}”: {listed}")
        return Stop(Code.FAILED, what, ("dùng docId của một văn bản", "use the docId of one of them"))
    if found["silent"]:
        nodes = ", ".join(code or t("nút gốc", "the hub") for code in found["silent"])
        what = (f"nút không trả lời: {nodes}", f"no answer from: {nodes}")
        return Stop(Code.LATER, what, ("thử lại sau ít giây", "try again in a few seconds"))
    if found["flaw"]:
        return Stop(Code.FAILED, *_said(found["flaw"]["flaw"], found["flaw"]["part"], found["flaw"]["detail"]))
    lines = ", ".join(f"{row['recipient']} {label('transport', row['state'], lang())}" for row in found["open"])
    what = (f"văn bản chưa có kết quả cuối cùng: {lines}", f"not over yet: {lines}")
    return Stop(Code.LATER, what, ("thử lại khi Bên nhận đã lấy về", "try again when it was collected"))


def _said(flaw: str, part: str, detail: str) -> tuple[Texts]:
    vi, en = FLAWS[flaw]
    more = f" ({visible(detail)})" if detail else ""
    return ((f"{part}: {vi}{more} [{flaw}]", f"{part}: {en}{more} [{flaw}]"),)


@click.command(
    cls=Command,
    texts=(
        "Kiểm tra một gói bằng chứng, chỉ với chứng thư gốc của cây: không cần nút, không cần mạng.\n"
        "Mã thoát 0 chỉ khi gói nguyên vẹn và chứng minh được toàn bộ đường đi.",
        "Check a bundle of evidence with the tree's root certificate alone: no node, no network.\n"
        "Exit code 0 only for a whole, unaltered bundle.",
    ),
)
@click.argument("bundle", metavar="FILE")
@option("--root", metavar="CA.pem", required=True, texts=("chứng thư gốc của cây (PEM)", "the tree's root certificate (PEM)"))
@option(
    "--zone",
    default="",
    metavar="ZONE",
    texts=("vùng tên của cây; không nêu thì lấy từ chứng thư", "the tree's zone; else what the certificates say"),
)
@option(
    "--tsa-ca",
    default="",
    metavar="TSA.pem",
    texts=(
        "đòi dấu thời gian ở FILE.tsr, do nơi cấp dưới chứng thư gốc này",
        "demand a time stamp in FILE.tsr from under this root",
    ),
)
@json_option
def verify(bundle: str, root: str, zone: str, tsa_ca: str, as_json: bool) -> None:
    from node.adapters.http.tls import TlsFileError
    from node.adapters.signing import Offline
    from node.core.bundle import BUNDLE_BYTES_MAX, Flawed, open_bundle

    try:
        with open(bundle, "rb") as file:
            data = file.read(BUNDLE_BYTES_MAX + 1)
        offline = Offline(Path(root), zone.lower().rstrip("."))
        story = open_bundle(data, offline.witness)
    except Flawed as flawed:
        raise _flawed(bundle, flawed, as_json) from None
    except TlsFileError as error:
        raise Stop(Code.USAGE, (str(error), str(error))) from None
    except OSError as error:
        what = (f"không đọc được {bundle} ({error.strerror})", f"cannot read {bundle} ({error.strerror})")
        raise Stop(Code.USAGE, what) from None
    stamp = _judged(bundle, data, tsa_ca) if tsa_ca else None
    (_as_json if as_json else _as_text)(story, offline.zone, stamp)


def _flawed(bundle: str, flawed: Flawed, as_json: bool) -> Stop:
    if as_json:
        json_line({"ok": False, "flaw": flawed.flaw.value, "part": flawed.part, "detail": flawed.detail})
    ((vi, en),) = _said(flawed.flaw.value, flawed.part, flawed.detail)
    todo = ("không dùng tệp này làm bằng chứng; lập lại bằng truc evidence", "it proves nothing; make it anew with truc evidence")
    return Stop(Code.FAILED, (f"{bundle}: {vi}", f"{bundle}: {en}"), todo)


def _as_json(story: Story, zone: str, stamp: Stamp | None) -> None:
    header = story.header
    for journey in story.journeys:
        json_line(
            {
                "ok": True,
                "zone": zone,
                "doc_id": header.doc_id,
                "envelope": header.id,
                "sender": str(header.sender),
                "origin": str(header.origin),
                "created_ms": header.created_ms,
                "sha256": [body.sha256 for body in header.bodies],
                "recipient": str(journey.recipient),
                "hops": [
                    {"from": str(hop.presenter), "node": str(hop.node), "at_ms": hop.at_ms, "bound_s": hop.bound_ms / 1000}
                    for hop in journey.hops
                ],
                "end": {
                    "state": journey.end.state.value,
                    "at_ms": journey.end.at_ms,
                    "bound_s": journey.bound_ms / 1000,
                    "reason": journey.end.reason.value if journey.end.reason is not None else "",
                    "node": str(journey.told_by),
                },
                "early": [str(node) for node in journey.early],
                "elsewhere": journey.elsewhere,
                "stamped_ms": stamp.at_ms if stamp is not None else None,
            }
        )


def _as_text(story: Story, zone: str, stamp: Stamp | None) -> None:
    header = story.header
    pairs(
        [
            ("docId", header.doc_id),
            (t("mã bì", "envelope"), header.id),
            (t("Bên gửi", "sender"), header.sender),
            (t("nút của Bên gửi", "the sender's node"), f"{str(header.origin) or t('nút gốc', 'hub')} · {zone}"),
            (t("nút này ký lúc", "which signed at"), when(header.created_ms)),
            (t("nội dung (SHA-256)", "content (SHA-256)"), " ".join(body.sha256 for body in header.bodies)),
        ]
    )
    headings = t("Bên nhận|lúc|nút|việc", "recipient|at|node|what").split("|")
    table(headings, [row for each in story.journeys for row in _rows(each)])
    missing = len(header.recipients) - len(story.journeys)
    if missing:
        say(f"Lưu ý: còn {missing} Bên nhận khác không có trong gói này.", f"Note: {missing} more recipients are not spoken of.")
    for node in dict.fromkeys(str(node) or t("nút gốc", "hub") for journey in story.journeys for node in journey.early):
        say(
            f"Lưu ý: giờ của {node} sớm hơn giờ của nút giữ văn bản trước đó, quá cả sai số hai bên đã nêu.",
            f"Note: the instant of {node} is before that of the node which had custody before, beyond the bounds of both.",
        )
    for journey in (each for each in story.journeys if each.elsewhere):
        node = str(journey.told_by) or t("nút gốc", "hub")
        say(
            f"Lưu ý: {node} nói {journey.recipient} đã lấy về, mà mã của nút không phải cấp trên của mã đó:"
            " hỏi danh mục xem nút này có phục vụ Bên nhận không.",
            f"Note: {node} says that {journey.recipient} collected it, and its code is not above that one:"
            " ask the directory whether it serves the recipient.",
        )
    if stamp is not None:
        pairs([(t("dấu thời gian", "time stamp"), f"{when(stamp.at_ms)} · {stamp.by}")])
    say("Gói bằng chứng nguyên vẹn.", "The bundle is whole and unaltered.")


def _rows(journey: Journey) -> list[tuple[str, str, str, str]]:
    hub, who = t("nút gốc", "hub"), str(journey.recipient)
    signed = t("ký nhận từ ", "signed for it from ")
    rows = [(who, when(hop.at_ms), str(hop.node) or hub, signed + (str(hop.presenter) or hub)) for hop in journey.hops]
    why = f": {because(journey.end.reason.value)}" if journey.end.reason is not None else ""
    what = label("transport", journey.end.state.value, lang()) + why
    return [*rows, (who, when(journey.end.at_ms), str(journey.told_by) or hub, what)]

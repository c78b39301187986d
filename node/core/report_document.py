"""A report as every face shows it: one document of plain values, the same for table, CSV, XLSX, JSON and page.

Which figure stands in which column under which words, what each of them means, and which rows a report has. Knows statements,
periods and instants; nothing of who asks, of files, or of how a face looks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any

from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.instant import VIETNAM, iso
from node.core.periods import Kind, Period
from node.core.report import Report
from node.core.statement import Counts, delays, plus
from node.core.tally import DELIVERY_BOUNDS_MS, Histogram

_quoted = json.encoder.encode_basestring
TEXTS_AT_ONCE = 200
_KINDS = frozenset(kind.value for kind in Kind)
Document = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One figure: its stable key, the heading in Vietnamese and English, and what is counted, in Vietnamese."""

    key: str
    vi: str
    en: str
    meaning: str


COLUMNS: tuple[Column, ...] = (
    Column("sent", "văn bản gửi", "sent", "văn bản mới cơ quan đã gửi: mỗi văn bản tính một lần, dù bao nhiêu Bên nhận"),
    Column("received", "văn bản nhận", "received", "văn bản mới cơ quan đã lấy về, tính vào ngày của thời điểm tiếp nhận"),
    Column("sent_deliveries", "lượt gửi", "deliveries", "số Bên nhận của mọi văn bản đã gửi"),
    Column("sent_electronic_only", "chỉ bản điện tử", "electronic only", "văn bản gửi mà gói tin ghi không gửi kèm bản giấy"),
    Column("sent_with_paper", "kèm bản giấy", "with paper", "văn bản gửi mà gói tin ghi có gửi bản giấy"),
    Column("sent_signed", "đã ký số", "signed", "mọi chữ ký số đã kiểm tra là hợp lệ; bằng 0 khi nút chưa kiểm tra chữ ký"),
    Column("sent_indeterminate", "chưa xác định chữ ký", "indeterminate", "có tệp có thể mang chữ ký số, chưa kiểm tra"),
    Column("sent_unsigned", "không ký số", "unsigned", "không thể mang chữ ký số: không có tệp kèm, hoặc chỉ có tệp ảnh"),
    Column("sent_flawless", "đủ thông tin", "metadata whole", "gói tin không thiếu, không sai thông tin nào (Điều 10.2)"),
    Column("sent_on_time", "gửi đúng hạn", "on time", "gửi trong ngày ký hoặc sáng ngày làm việc tiếp theo (Điều 6.2)"),
    Column("sent_late", "gửi chậm", "late", "gửi chậm hơn hạn đó"),
    Column("sent_time_unknown", "không xác định", "time unknown", "không biết ngày ký; không bao giờ tính là chậm"),
    Column("sent_recall", "thu hồi đã gửi", "recalls sent", "văn bản thu hồi đã gửi, tính riêng"),
    Column("sent_update", "cập nhật đã gửi", "updates sent", "văn bản cập nhật đã gửi, tính riêng"),
    Column("sent_replace", "thay thế đã gửi", "replacements sent", "văn bản thay thế đã gửi, tính riêng"),
    Column("received_recall", "thu hồi đã nhận", "recalls received", "văn bản thu hồi đã lấy về, tính riêng"),
    Column("received_update", "cập nhật đã nhận", "updates received", "văn bản cập nhật đã lấy về, tính riêng"),
    Column("received_replace", "thay thế đã nhận", "replacements received", "văn bản thay thế đã lấy về, tính riêng"),
    Column(
        "acknowledged_same_day", "báo nhận trong ngày", "same-day", "văn bản nhận đã có trạng thái đầu tiên ngay trong ngày nhận"
    ),
    Column("acknowledged_later", "báo nhận sau ngày", "later", "văn bản nhận có trạng thái đầu tiên sau ngày nhận"),
    Column("arrived", "đã về hộp", "arrived", "văn bản các loại đã về nút của cơ quan, đã lấy hay chưa"),
    Column(
        "refused_at_door",
        "không nhận tại nút",
        "refused at the door",
        "Bên nhận mà nút đầu tiên không gửi đến được",
    ),
    Column("refused", "không gửi được", "refused", "lượt gửi mà một nút đã kết thúc: không chuyển tiếp được"),
    Column("expired", "quá hạn chuyển", "expired", "lượt gửi hết hạn chuyển khi đang trên đường"),
    Column("stopped", "dừng do thu hồi", "stopped", "lượt gửi dừng trên đường do thu hồi"),
    Column("statuses_overdue", "quá hạn xử lý", "overdue", "lượt gửi đã quá hạn xử lý mà chưa có trạng thái 06, 02 hay 15"),
    Column("statuses_sent", "trạng thái đã gửi", "statuses sent", "gói tin trạng thái xử lý đã gửi; không tính là văn bản"),
    Column("statuses_received", "trạng thái đã nhận", "statuses received", "gói tin trạng thái xử lý cơ quan đã lấy về"),
)
"""Whole numbers, there in every row, in this order. # QĐ 28/2018 Điều 11"""

GROUPS: tuple[Column, ...] = (
    Column("sent_priority", "gửi theo mức độ khẩn", "sent by priority", "theo mức độ khẩn: 1 khẩn … 4 hỏa tốc hẹn giờ"),
    Column("sent_late_priority", "khẩn gửi chậm", "urgent late", "văn bản gửi chậm theo mức độ khẩn"),
    Column(
        "sent_flaw",
        "thông tin thiếu, sai",
        "metadata flaws",
        "văn bản gửi theo thông tin thiếu hoặc sai; một văn bản có thể có nhiều",
    ),
    Column("sent_type", "gửi theo loại văn bản", "sent by type", "văn bản gửi theo loại (NĐ 30/2020)"),
    Column("received_priority", "nhận theo mức độ khẩn", "received by priority", "văn bản nhận theo mức độ khẩn"),
    Column("refused_at_door_reason", "lý do không nhận", "refusals at the door", "không nhận tại nút đầu tiên, theo lý do"),
    Column("refused_reason", "lý do không gửi được", "refusals", "không gửi được, theo lý do"),
)
"""Objects in JSON: the part behind the dot of a key -> how many."""

DERIVED: tuple[Column, ...] = (
    Column("delivery_median_s", "trung vị (giây)", "median (s)", "trung vị thời gian từ nút của Bên gửi đến khi Bên nhận lấy về"),
    Column("recalls_open", "thu hồi chưa xong", "open recalls", "chưa có số: nút chưa theo dõi việc thu hồi đến cùng"),
    Column("delivery_p95_s", "95 % (giây)", "p95 (s)", "95 % số văn bản được lấy về trong thời gian này"),
)
"""Seconds, rounded up to what is known of them; null where nothing was collected. Of open recalls null,
while no node follows a recall to its end."""

ROAD = ("duplicates", "held")
"""What nodes count of themselves, whoever the documents were for; of all that are reported, in the summary."""

DEFINITIONS: tuple[str, ...] = (
    "Văn bản gửi: mỗi văn bản tính một lần, dù bao nhiêu Bên nhận, vào ngày nút của Bên gửi nhận (Sơn La Điều 10.4.a).",
    "Văn bản nhận: mỗi văn bản và cơ quan lấy về tính một lần, dù gửi đến nhiều mã; vào ngày tiếp nhận (Sơn La Điều 10.4.b).",
    "Thu hồi, cập nhật, thay thế tính riêng. Trạng thái xử lý, thông báo và văn bản thử nghiệm không tính là văn bản.",
    "Gửi chậm: sau sáng ngày làm việc tiếp theo ngày ghi trên văn bản; văn bản khẩn: quá số giờ đã đặt ra, kể từ hết ngày đó.",
    "Báo nhận: trạng thái đầu tiên cơ quan gửi về văn bản; trong ngày là trong ngày của thời điểm tiếp nhận (NĐ 30/2020).",
    "Nút chưa kiểm tra chữ ký số: có tệp có thể mang chữ ký là chưa xác định; không tệp hoặc chỉ tệp ảnh là không ký.",
    "Ngày tính theo giờ Việt Nam; số của một cơ quan là của riêng cơ quan đó, dòng “tổng” là của một nút và mọi nút bên dưới.",
    "Tạm tính: kỳ chưa kết thúc, số còn thay đổi. Mức đầy đủ: các nút có đủ số liệu, chốt chậm và chưa có số liệu của kỳ.",
)
"""Printed with every report."""


_PLAIN = {column.key: None for column in COLUMNS}
_GROUPED: dict[str, dict[str, int]] = {column.key: {} for column in GROUPS}
"""One empty object for all rows in which nothing of a group was counted: nobody changes it."""
_NOTHING: Row = {**dict.fromkeys(_PLAIN, 0), **_GROUPED, **dict.fromkeys([column.key for column in DERIVED])}
_FIGURES_TEXT = ", ".join(f'"{key}": %s' for key in _NOTHING)
_path = attrgetter("path")


@dataclass(frozen=True, slots=True)
class Place:
    """The node that reports."""

    code: OrgId
    name: str
    tier: str


Names = Callable[[OrgId, bool], str]
"""The name of a code; of the node, where True."""


def document(report: Report, period: Period, place: Place, rows: Sequence[Row], organ: OrgId | None = None) -> Document:
    """rows: those of `rows_of`. None for an organ is `Refused(REQUEST_MALFORMED)`: a node shows its own subtree and nothing else.
    # QĐ 28/2018 Điều 11.1–3, Sơn La 11.3"""
    if organ is not None and not rows:
        raise Refused(Reason.REQUEST_MALFORMED, "organ", str(organ), f"mã thuộc phạm vi của nút {place.code or 'gốc'}")
    return {
        "node": str(place.code),
        "name": place.name,
        "tier": place.tier,
        "kind": period.kind.value,
        "rule": period.rule.value,
        **span(period),
        "organ": None if organ is None else str(organ),
        "rows": list(rows),
        "summary": summary(report, span(period)),
    }


def span(period: Period) -> dict[str, str]:
    return {"period": period.key, "from": _begins(period.first), "to": _ends(period.last)}


def summary(report: Report, span: Mapping[str, str]) -> Document:
    """The last line: when it was true, of whom, and whether the whole is the sum of its parts."""
    coverage, proof = report.coverage, report.proof
    return {
        "event": "summary",
        **span,
        "cut_off": iso(report.cut_off_ms),
        "provisional": report.open,
        "coverage": {
            "in": [str(node) for node in coverage.in_],
            "late": [str(node) for node in coverage.late],
            "missing": [str(node) for node in coverage.missing],
        },
        "proof": {
            "holds": proof.holds,
            "unequal": [str(node) for node in proof.unequal],
            "unbalanced": [str(pair) for pair in proof.unbalanced],
            "refused": [
                {
                    "node": str(each.node),
                    "day": each.day.isoformat(),
                    "epoch": each.version.epoch,
                    "n": each.version.n,
                    "reason": each.reason,
                }
                for each in report.refusals
            ],
        },
        "road": {key: sum(counts.get(key, 0) for counts in report.road.values()) for key in ROAD},
        "definitions": list(DEFINITIONS),
    }


def rows_of(report: Report, period: Period, names: Names, organ: OrgId | None = None) -> Iterator[Row]:
    """By node, the hub first; of each its total, then its organs. organ: only what lies below this code. One by one: there may be
    ten thousand, and others have their turn between."""
    days = span(period)
    for place, counts in _rows(report, names, organ):
        yield {**days, **place, **figures(counts)}


def _rows(report: Report, names: Names, organ: OrgId | None) -> Iterator[tuple[Row, Counts]]:
    at: dict[OrgId, list[OrgId]] = {node: [] for node in report.totals}
    for code in report.organs:
        at.setdefault(report.nodes[code], []).append(code)
    if organ is not None and organ not in report.totals:
        within = [code for code in report.organs if organ.covers(code)]
        if len(within) > 1:
            yield {"total_of": str(organ), "name": names(organ, False)}, plus(*(report.organs[code] for code in within))
    for node in sorted(at, key=_path):
        if node in report.totals and (organ is None or organ.covers(node)):
            yield {"total_of": str(node), "name": names(node, True)}, report.totals[node]
        for code in sorted(at[node], key=_path):
            if organ is None or organ.covers(code):
                yield {"organ": str(code), "name": names(code, False), "node": str(node)}, report.organs[code]


@lru_cache(2000)
def _parted(key: str) -> tuple[str, str]:
    group, _, part = key.partition(".")
    return group, part


def figures(counts: Counts) -> Row:
    """Every column, 0 where nothing was counted; the groups as objects; what is derived."""
    found: Row = _NOTHING.copy()
    parts: dict[str, dict[str, int]] = {}
    measured = False
    for key, number in counts.items():
        if key in _PLAIN:
            found[key] = number
            continue
        group, part = _parted(key)
        if group in _GROUPED:
            parts.setdefault(group, {})[part] = number
        measured |= group == "delay"
    for group, some in parts.items():
        found[group] = dict(sorted(some.items())) if len(some) > 1 else some
    if measured:
        delay = delays(counts)
        found["delivery_median_s"], found["delivery_p95_s"] = quantile_s(delay, 0.5), quantile_s(delay, 0.95)
    return found


def row_text(row: Row) -> str:
    """A row as JSON, as `json.dumps(row, ensure_ascii=False)` gives it, in a third of the time: there may be ten thousand."""
    cells = list(row.values())
    places = [f'"{key}": {_quoted(cell)}' for key, cell in zip(row, cells[: -len(_NOTHING)], strict=False)]
    numbers = tuple([cell if cell.__class__ is int else _cell_text(cell) for cell in cells[-len(_NOTHING) :]])
    return f"{{{', '.join(places)}, {_FIGURES_TEXT % numbers}}}"


def _cell_text(cell: object) -> str:
    if cell is None:
        return "null"
    if isinstance(cell, dict):  # of plain words and numbers
        return "{" + ", ".join([f'"{word}": {number}' for word, number in cell.items()]) + "}"
    return repr(cell)


def texts(document: Document, lines: bool = False) -> Iterator[str]:
    """A report as JSON, piece by piece: one object, or, where lines are asked for, a line for each row and the summary's last."""
    rows, summary = document["rows"], json.dumps(document["summary"], ensure_ascii=False)
    write = row_text if document.get("kind") in _KINDS else partial(json.dumps, ensure_ascii=False)
    if not lines:
        head = {key: value for key, value in document.items() if key not in ("rows", "summary")}
        yield f'{json.dumps(head, ensure_ascii=False)[:-1]}, "rows": ['
    for first in range(0, len(rows), TEXTS_AT_ONCE):
        some = [write(row) for row in rows[first : first + TEXTS_AT_ONCE]]
        yield "".join(f"{each}\n" for each in some) if lines else (", " if first else "") + ", ".join(some)
    yield f"{summary}\n" if lines else f'], "summary": {summary}}}'


def quantile_s(histogram: Histogram, part: float) -> float | None:
    """The bound under which this part of the observations lies, seconds; beyond the last bound, that. None: no observation."""
    if not histogram.count:
        return None
    reached, wanted = 0, part * histogram.count
    for count, bound_ms in zip(histogram.counts, DELIVERY_BOUNDS_MS, strict=False):
        reached += count
        if reached >= wanted:
            return bound_ms / 1000
    return DELIVERY_BOUNDS_MS[-1] / 1000


def shown(row: Row, keys: Sequence[str]) -> Iterable[object]:
    """The cells of some columns; groups as `key: number` in one cell."""
    for key in keys:
        value = row[key]
        yield " ".join(f"{part}:{number}" for part, number in value.items()) if isinstance(value, dict) else value


def _begins(on: date) -> str:
    return datetime.combine(on, time.min, VIETNAM).isoformat(timespec="milliseconds")


def _ends(on: date) -> str:
    """The last instant of the day."""
    return (datetime.combine(on + timedelta(1), time.min, VIETNAM) - timedelta(milliseconds=1)).isoformat(timespec="milliseconds")

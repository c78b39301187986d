"""A report as a page to be read and printed (A4), in Vietnamese: Điều 15.1's quarterly report and every other period alike.

The page is whole in itself: no script, nothing fetched, charts as SVG with the table beside them. Jinja2 escapes whatever others
wrote. Knows the document of `core/report_document.py`; nothing of where it came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from node.core.periods import Kind
from node.core.report_document import COLUMNS, DERIVED
from node.core.words import label

BARS_MAX = 20
BAR_WIDTH = 420
_VIETNAMESE = str.maketrans(",.", ".,")
TITLES: Mapping[str, str] = {
    Kind.DAY: "ngày",
    Kind.MONTH: "tháng",
    Kind.QUARTER: "quý",
    Kind.HALF: "sáu tháng",
    Kind.NINE_MONTHS: "chín tháng",
    Kind.YEAR: "năm",
    Kind.RANGE: "từ ngày đến ngày",
}


Kinds = tuple[tuple[str, str], ...]
ON_TIME: Kinds = (("đúng hạn", "sent_on_time"), ("chậm", "sent_late"), ("không xác định", "sent_time_unknown"))
SHARES: tuple[tuple[str, Kinds], ...] = (
    (
        "chữ ký số của văn bản gửi",
        (("đã ký, hợp lệ", "sent_signed"), ("chưa xác định", "sent_indeterminate"), ("không ký", "sent_unsigned")),
    ),
    ("bản giấy", (("chỉ bản điện tử", "sent_electronic_only"), ("kèm bản giấy", "sent_with_paper"))),
    ("báo nhận", (("trong ngày", "acknowledged_same_day"), ("sau ngày", "acknowledged_later"))),
)


def page_bytes(document: Mapping[str, Any]) -> bytes:
    """The page as UTF-8."""
    rows: Sequence[Mapping[str, Any]] = document["rows"]
    whole = _whole(document)
    return (
        _template()
        .render(
            document=document,
            summary=document["summary"],
            kind=TITLES[document["kind"]],
            title=_title(document),
            whole=whole,
            columns=[*COLUMNS, *DERIVED],
            sums=[(column.vi, whole.get(column.key), column.meaning) for column in (*COLUMNS, *DERIVED)],
            bars=_bars(document),
            refusals=_reasons(whole),
            on_time=_share(whole, ON_TIME),
            shares=[(heading, _share(whole, kinds)) for heading, kinds in SHARES],
            flaws=_flaws(whole),
            rows=rows,
        )
        .encode()
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["day"] = _day
    environment.filters["instant"] = _instant
    environment.filters["number"] = _number
    return environment.get_template("page.html")


def _whole(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row of all that is shown: the total of the node (or of the organ asked for), else the one organ there is."""
    wanted = document["node"] if document["organ"] is None else document["organ"]
    rows = document["rows"]
    return next((row for row in rows if row.get("total_of") == wanted), rows[0] if rows else {"name": document["name"]})


def _title(document: Mapping[str, Any]) -> str:
    key = document["period"]
    words = {
        Kind.DAY: f"ngày {_day(document['from'])}",
        Kind.MONTH: f"tháng {key[5:7]} năm {key[:4]}",
        Kind.QUARTER: f"quý {key[-1]} năm {key[:4]}",
        Kind.HALF: f"sáu tháng {'đầu' if key.endswith('1') else 'cuối'} năm {key[:4]}",
        Kind.NINE_MONTHS: f"chín tháng đầu năm {key[:4]}",
        Kind.YEAR: f"năm {key}",
    }
    return words.get(document["kind"], f"từ {_day(document['from'])} đến {_day(document['to'])}")


def _bars(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The units right below that sent and received most: totals of nodes; where there is one node only, its organs."""
    whole = _whole(document)
    totals = [row for row in document["rows"] if "total_of" in row and row is not whole]
    codes = [f"{row['total_of']}." for row in totals]
    units = [row for row in totals if not any(row["total_of"].startswith(code) for code in codes)] or [
        row for row in document["rows"] if "organ" in row
    ]
    busiest = sorted(units, key=lambda row: (-(row["sent"] + row["received"]), row["name"]))[:BARS_MAX]
    most = max((max(row["sent"], row["received"]) for row in busiest), default=0) or 1
    return [
        {
            "name": row["name"] or row.get("total_of") or row.get("organ"),
            "sent": row["sent"],
            "received": row["received"],
            "sent_width": round(row["sent"] * BAR_WIDTH / most, 1),
            "received_width": round(row["received"] * BAR_WIDTH / most, 1),
        }
        for row in busiest
    ]


def _reasons(whole: Mapping[str, Any]) -> list[tuple[str, int]]:
    found: dict[str, int] = {}
    for group in ("refused_at_door_reason", "refused_reason"):
        for reason, number in whole.get(group, {}).items():
            found[reason] = found.get(reason, 0) + number
    return [(label("reason", reason), number) for reason, number in sorted(found.items(), key=lambda each: (-each[1], each[0]))]


def _flaws(whole: Mapping[str, Any]) -> list[tuple[str, int]]:
    found = whole.get("sent_flaw", {}).items()
    return [(label("flaw", flaw), number) for flaw, number in sorted(found, key=lambda each: (-each[1], each[0]))]


def _share(whole: Mapping[str, Any], kinds: Kinds) -> list[tuple[str, int, float]]:
    """Of each kind: how many, and which part of all in per cent."""
    every = sum(whole.get(key, 0) for _, key in kinds)
    return [(name, whole.get(key, 0), round(100 * whole.get(key, 0) / every, 1) if every else 0.0) for name, key in kinds]


def _day(instant: str) -> str:
    """dd/MM/yyyy, as clerks read it."""
    return f"{instant[8:10]}/{instant[5:7]}/{instant[:4]}"


def _instant(instant: str) -> str:
    return f"{instant[11:16]} ngày {_day(instant)} (giờ Việt Nam)"


def _number(value: object) -> str:
    """As in Vietnam: thousands apart with a point, a comma before what is less than one; nothing known is a dash."""
    if value is None:
        return "–"
    text = f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else f"{value:,}"
    return text.translate(_VIETNAMESE)

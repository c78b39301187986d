"""`truc report`: what this node's subtree sent and received in a period, as Điều 11 and Điều 15.1 want it.

The figures come from the running node; a table, CSV, XLSX, JSON lines and a page to be printed are faces of one document.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from node.cli.desk import running
from node.cli.face import Group, config_option, json_option, option
from node.cli.talk import Code, Stop, json_line, lang, say, t, table
from node.core.periods import EXAMPLES, Kind, Rule
from node.core.report_document import COLUMNS
from node.core.words import label, visible

FORMATS = ("table", "csv", "xlsx", "json", "html")
SHOWN = ("sent", "received", "sent_deliveries", "sent_late", "refused_at_door", "refused", "expired", "delivery_median_s")
"""Columns of the table; every figure is in the other formats."""


@click.group(
    cls=Group,
    texts=(
        "Báo cáo tình hình gửi, nhận văn bản điện tử (QĐ 28/2018 Điều 11, 15.1).",
        "What was sent and received in a period.",
    ),
)
def command() -> None:
    pass


def _face(function: Callable[..., None]) -> Callable[..., None]:
    """The options that every period has."""
    options: tuple[Callable[[Any], Any], ...] = (
        config_option,
        option(
            "--rule",
            type=click.Choice([rule.value for rule in Rule]),
            texts=(
                "kỳ theo dương lịch (calendar) hay theo NĐ 09/2019 (official)",
                "calendar periods, or the official ones of the administration (official)",
            ),
        ),
        option("--out", type=click.Path(dir_okay=False, path_type=Path), texts=("ghi vào tệp này", "write to this file")),
        option("--json", "as_json", is_flag=True, texts=("như --format json", "the same as --format json")),
        option("--format", "form", type=click.Choice(FORMATS), default="table", texts=("dạng của báo cáo", "the report's form")),
        option("--organ", metavar="CODE", texts=("chỉ mã này và các mã bên dưới", "only this code and those below it")),
    )
    for each in options:
        function = each(function)
    return function


def _add(kind: Kind, texts: tuple[str, str]) -> None:
    @command.command(kind.value, texts=texts)
    @click.argument("period", nargs=-1)
    @_face
    def _(period: tuple[str, ...], organ: str | None, form: str, as_json: bool, out: Path | None, rule: str | None) -> None:
        key = ("..".join(period) if kind is Kind.RANGE else " ".join(period)) or None
        if kind is Kind.RANGE and key is None:
            raise Stop(Code.USAGE, ("thiếu ngày đầu và ngày cuối", "the first and the last day are missing"), _example(kind))
        asked = {"kind": kind.value, "period": key, "organ": organ, "rule": rule}
        if (as_json or form == "json") and out is None:
            sys.stdout.buffer.write(running().lines("/api/report", **asked))
            return
        show(running().get("/api/report", **asked), "json" if as_json else form, out)


def _example(kind: Kind) -> tuple[str, str]:
    written = EXAMPLES[kind].replace("..", " ")
    return (f"viết như truc report {kind.value} {written}", f"write truc report {kind.value} {written}")


_add(Kind.DAY, ("Một ngày; không ghi ngày thì hôm nay, tạm tính.", "One day; today, provisional, where none is given."))
_add(Kind.MONTH, ("Một tháng, như 2026-11; không ghi thì tháng này.", "One month, such as 2026-11; else the present one."))
_add(Kind.QUARTER, ("Một quý, như 2026-Q4; không ghi thì quý này.", "One quarter, such as 2026-Q4; else the present one."))
_add(Kind.HALF, ("Sáu tháng, như 2026-H1.", "Half a year, such as 2026-H1."))
_add(Kind.NINE_MONTHS, ("Chín tháng đầu năm, như 2026-9M.", "The first nine months of a year, such as 2026-9M."))
_add(Kind.YEAR, ("Một năm, như 2026.", "A year, such as 2026."))
_add(Kind.RANGE, ("Từ ngày đến ngày: hai ngày dạng 2026-01-31.", "From day to day: two days such as 2026-01-31."))


@command.command(
    "connections",
    texts=(
        "Cơ quan nào đã kết nối, từ khi nào, gửi nhận lần cuối khi nào, ai im lặng (Điều 21, 22.3).",
        "Which organs are connected, since when, and who is silent.",
    ),
)
@json_option
@config_option
def connections(as_json: bool) -> None:
    document = running().get("/api/report", kind="connections")
    summary = document["summary"]
    if as_json:
        for row in (*document["rows"], summary):
            json_line(row)
        return
    headings = t(
        "mã|cơ quan|trạng thái kết nối|từ ngày|gửi nhận lần cuối|im lặng", "code|organ|connection|since|last traffic|silent"
    )
    table(headings.split("|"), (_connection(row) for row in document["rows"]))
    states = ", ".join(f"{label('connection', state, lang())}: {number}" for state, number in summary["connections"].items())
    quiet = t(f"im lặng quá {summary['silent_after_days']} ngày", f"silent for over {summary['silent_after_days']} days")
    click.echo(f"\n{states}; {quiet}: {summary['silent']}")


def _connection(row: Mapping[str, Any]) -> list[object]:
    state = label("connection", row["connection"], lang())
    quiet = t("im lặng", "silent") if row["silent"] else ""
    return [row["organ"], row["name"], state, row["connected_from"] or "", row["last_traffic"] or "", quiet]


@command.command(
    "reconcile",
    texts=(
        "Đối soát: nêu tên từng văn bản làm số gửi và số nhận, còn chờ, đã kết thúc lệch nhau.",
        "Name every document by which what was sent differs from what was collected, waits or has ended.",
    ),
)
@option(
    "--days",
    type=click.IntRange(1, 3660),
    default=31,
    texts=("văn bản gửi trong bấy nhiêu ngày qua", "documents of so many days"),
)
@json_option
@config_option
def reconcile(days: int, as_json: bool) -> None:
    document = running().get("/api/report", kind="reconcile", period=days)
    summary = document["summary"]
    if as_json:
        for row in (*document["rows"], summary):
            json_line(row)
        return
    headings = t("lệch|bì|Bên gửi|Bên nhận|nơi biết đến", "difference|envelope|sender|recipient|known at")
    if document["rows"]:
        table(headings.split("|"), (_reconciled(row) for row in document["rows"]))
    found = summary["differences"]
    say(
        f"Đã đối soát {summary['facts']} lượt ghi từ {summary['from']}: {found} lượt gửi lệch.",
        f"{summary['facts']} entries since {summary['from']}: {found} deliveries differ.",
    )
    if summary["silent"]:
        silent = ", ".join(summary["silent"])
        say(f"Không trả lời: {silent}; số lệch có thể do các nút này.", f"No answer: {silent}; differences may be theirs.")


def _reconciled(row: Mapping[str, Any]) -> list[object]:
    kind = {
        "nowhere": t("đã gửi, không thấy ở đâu", "sent, and nowhere"),
        "never-sent": t("không có nơi gửi", "never sent"),
        "twice": t("ghi nhiều lần", "more than once"),
    }[row["difference"]]
    places = ", ".join(f"{fact['event']} @ {fact['node'] or 'hub'}" for fact in row["facts"])
    return [kind, row["envelope"], row["sender"], row["recipient"], places]


def show(document: Mapping[str, Any], form: str, out: Path | None) -> None:
    """In the form asked for, on stdout or into a file."""
    match form:
        case "csv" | "xlsx" | "html":
            _bytes(_rendered(document, form), form, out)
        case "table" if out is None:
            _table(document)
        case _:
            raise Stop(
                Code.USAGE,
                ("--out chỉ dùng với csv, xlsx, html", "--out goes with csv, xlsx, html"),
                ("thêm --format", "add --format"),
            )


def _rendered(document: Mapping[str, Any], form: str) -> bytes:
    if form == "html":
        from node.adapters.reports.page import page_bytes

        return page_bytes(document)
    from node.adapters.reports.sheets import csv_bytes, xlsx_bytes

    return csv_bytes(document) if form == "csv" else xlsx_bytes(document)


def _bytes(data: bytes, form: str, out: Path | None) -> None:
    if out is None:
        if form == "xlsx" and sys.stdout.isatty():
            raise Stop(
                Code.USAGE, ("XLSX không in ra màn hình được", "XLSX cannot be shown"), ("thêm --out FILE", "add --out FILE")
            )
        sys.stdout.buffer.write(data)
        return
    try:
        out.write_bytes(data)
    except OSError as error:
        raise Stop(
            Code.FAILED, (f"không ghi được {out}: {error.strerror}", f"{out} cannot be written: {error.strerror}")
        ) from None
    say(f"Đã ghi {out}.", f"{out} is written.")


def _table(document: Mapping[str, Any]) -> None:
    summary = document["summary"]
    open_ = t(" (tạm tính)", " (provisional)") if summary["provisional"] else ""
    span = f"{document['period']}: {document['from'][:10]} … {document['to'][:10]}{open_}"
    click.echo(t("Tình hình gửi, nhận văn bản điện tử, ", "What was sent and received, ") + span)
    headings = [t("mã", "code"), t("đơn vị", "unit"), *(_heading(key) for key in SHOWN)]
    table(headings, (_line(row) for row in document["rows"]))
    click.echo()
    _proof(summary)
    if lang() == "vi":
        for text in summary["definitions"]:
            click.echo(f"· {text}")


def _heading(key: str) -> str:
    column = next((column for column in COLUMNS if column.key == key), None)
    if column is None:
        return t("trung vị, giây", "median, s")
    return t(column.vi, column.en)


def _line(row: Mapping[str, Any]) -> list[object]:
    total = "total_of" in row
    code = (row["total_of"] or t("nút gốc", "hub")) if total else row["organ"]
    name = f"{row['name']} {t('(tổng)', '(total)')}" if total else row["name"]
    return [
        code,
        name,
        *("–" if row[key] is None else f"{row[key]:g}" if isinstance(row[key], float) else row[key] for key in SHOWN),
    ]


def _proof(summary: Mapping[str, Any]) -> None:
    coverage, proof = summary["coverage"], summary["proof"]
    late = "".join(f"; {t('chốt chậm', 'late')}: {_nodes(coverage['late'])}" if coverage["late"] else "")
    missing = f"; {t('chưa có số liệu', 'missing')}: {_nodes(coverage['missing'])}" if coverage["missing"] else ""
    click.echo(t("thời điểm chốt số liệu: ", "cut-off: ") + summary["cut_off"])
    click.echo(t("mức đầy đủ: ", "coverage: ") + t(f"{len(coverage['in'])} nút", f"{len(coverage['in'])} nodes") + late + missing)
    if proof["holds"]:
        click.echo(t("đối soát: khớp", "proof: holds"))
        return
    differing = _nodes([*proof["unequal"], *proof["unbalanced"]])
    click.echo(t(f"đối soát: chưa khớp ở {differing}", f"proof: does not hold at {differing}"))


def _nodes(codes: list[str]) -> str:
    return ", ".join(visible(code) or t("nút gốc", "hub") for code in codes)

"""`truc directory`: the codes of organisations: listed, shown, taken in, given out, closed, with their history.

What is read comes from the running node, or from its directory file while it does not run; acts need the running node, which
signs them. Everything is said of the code's own node: another one refuses and names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from node.adapters import directory_file, directory_sheets
from node.adapters.folders import write
from node.cli.config import load_config
from node.cli.desk import running
from node.cli.face import Group, config_option, json_option, option
from node.cli.talk import Code, Stop, agree, json_line, lang, pairs, say, t, table, when, who
from node.cli.trust import now_ms
from node.core import editing
from node.core.directory import Connection, Contact, Directory, Entry, Fate
from node.core.directory_rows import contact_row, entry_row, node_row
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.instant import day
from node.core.wanted import Wanted, wanted_by
from node.core.words import label, sentence

SHOWN_MAX = 20


class Day(click.ParamType):  # type: ignore[type-arg]
    """yyyy-MM-dd, or dd/MM/yyyy as clerks write it."""

    name = "DAY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        parts = str(value).split("/")
        try:
            return date.fromisoformat("-".join(reversed(parts)) if len(parts) == 3 else str(value))
        except ValueError:
            what = (f"“{value}” không phải ngày", f"“{value}” is no day")
            raise Stop(Code.USAGE, what, ("viết 2025-06-30 hoặc 30/06/2025", "write 2025-06-30 or 30/06/2025")) from None


code_argument = click.argument("code", metavar="CODE")
why_option = option(
    "--why",
    metavar="TEXT",
    default="",
    texts=("quyết định hay lý do, đi cùng thay đổi tới mọi nút", "the decision or reason; it travels with the change"),
)
decided_option = option("--decided", type=Day(), texts=("ngày ban hành quyết định", "the day of the decision"))
fate_option = option(
    "--fate",
    type=click.Choice([each.value for each in Fate]),
    texts=("vì sao đóng: gộp, tách, đổi tên, chuyển", "why it is closed: merged, split, renamed, moved"),
)
yes_option = option("--yes", is_flag=True, texts=("không hỏi lại", "do not ask"))


@click.group(
    cls=Group,
    texts=(
        "Danh mục mã định danh cơ quan, tổ chức: mỗi nút quản lý các mã dưới mã của mình, thay đổi tự tới mọi nút.",
        "The directory of organisation codes: each node administers those below its own, changes reach every node.",
    ),
)
def command() -> None:
    pass


# --- reading ----------------------------------------------------------------------------------------------------------------


@command.command("list", texts=("Liệt kê các mã theo tình trạng vào một ngày.", "List the codes as they stand on a day."))
@option("--under", metavar="CODE", texts=("chỉ mã này và các mã dưới nó", "only this code and those below it"))
@option("--on", type=Day(), texts=("vào ngày này (hôm nay)", "on this day (today)"))
@option("--closed", is_flag=True, texts=("cả mã đã đóng", "those that are closed too"))
@option("--nodes", is_flag=True, texts=("các nút và mã chúng phụ trách, thay vì cơ quan", "nodes and their prefixes, not organs"))
@option(
    "--aside",
    is_flag=True,
    texts=("những gì bị bỏ qua vì người khai không có quyền", "what does not count: its author has no say in it"),
)
@json_option
@config_option
def listed(under: str | None, on: date | None, closed: bool, nodes: bool, aside: bool, as_json: bool) -> None:
    if aside:
        _list_aside(as_json)
        return
    directory = _current()
    top = _organ(under, directory) if under else OrgId(())
    cells: list[tuple[object, ...]]
    if nodes:
        rows = [node_row(node) for node in directory.nodes if top.covers(node.code)]
        headings = t("mã|tên|cấp|nút cấp trên|phụ trách", "code|name|tier|parent|prefixes").split("|")
        cells = [
            (_named(row["code"]), row["name"], row["tier"], _named(row["parent"]), " ".join(row["prefixes"])) for row in rows
        ]
    else:
        today = on or _today()
        codes = [code for code, _ in sorted(directory.histories()) if top.covers(code)]
        rows = [row for code in codes if (row := _standing(directory, code, today)) and (closed or row["open"])]
        headings = t("mã|mã cũ|tên|kết nối|từ|đến|mã thay thế", "code|old code|name|connection|from|to|successors").split("|")
        cells = [_cells(row) for row in rows]
    if as_json:
        for row in rows:
            json_line(row)
        return
    table(headings, cells)


def _list_aside(as_json: bool) -> None:
    rows = running().get("/api/directory/aside")["items"]
    if as_json:
        for row in rows:
            json_line(row)
        return
    told = {
        "outside": ("ngoài phạm vi của nút khai", "outside its author's codes"),
        "text": ("nhận mã của người khác", "claims another's code"),
    }
    headings = t("mã|nút khai|vì sao", "code|said by|why").split("|")
    table(headings, ((row["code"], _named(row["author"]), t(*told[row["why"]])) for row in rows))


@command.command(
    "show",
    texts=(
        "Một mã: ai đứng dưới mã đó, từ ngày nào, ai quản lý.",
        "One code: who stands under it, since when, who administers it.",
    ),
)
@code_argument
@json_option
@config_option
def show(code: str, as_json: bool) -> None:
    directory = _current()
    organ = _organ(code, directory)
    node, today = directory.node(organ), _today()
    row = _standing(directory, organ, today)
    if row is None and node is None:
        raise _unknown(organ)
    about = _asked_of_node("/api/directory/about", code=str(organ))
    facts = {
        **(row or {"code": str(organ)}),
        "entries": list(map(entry_row, directory.history(organ))),
        "node": node_row(node) if node is not None else None,
        "owner": None if (owner := directory.owner(organ)) is None else str(owner),
        "administrator": about.get("administrator"),
        "author": about.get("author"),
    }
    if as_json:
        json_line(facts)
        return
    lines: list[tuple[str, object]] = [(t("mã", "code"), organ)]
    for entry in directory.history(organ):
        lines += _entry_lines(entry)
    if node is not None:
        lines.append((t("nút", "node"), f"{node.name}; {t('phụ trách', 'prefixes')} {' '.join(map(str, node.prefixes))}"))
    lines.append((t("văn bản đến nút", "documents go to node"), _named(facts["owner"])))
    if facts["administrator"] is not None:
        lines.append((t("do nút quản lý", "administered by"), _named(facts["administrator"])))
    pairs(lines)


@command.command(
    "history",
    texts=(
        "Mọi điều từng khai về một mã: ai, lúc nào, theo quyết định nào.",
        "All that was ever said of a code: who, when, why.",
    ),
)
@code_argument
@json_option
@config_option
def history(code: str, as_json: bool) -> None:
    directory = _current()
    organ = _organ(code, directory)
    said = running().get("/api/directory/about", code=str(organ))["said"]
    if not said and not directory.history(organ):
        raise _unknown(organ)
    if as_json:
        for row in said:
            json_line({"code": str(organ), **row})
        return
    headings = t("lúc|nút khai|lần|nội dung|theo", "when|said by|revision|what|why").split("|")
    table(headings, ((when(row["at_ms"]), _named(row["author"]), row["revision"], _told(row), row["why"]) for row in said))


@command.command(
    "export",
    texts=(
        "Ghi danh mục ra tệp (hoặc ra màn hình): json đọc lại được nguyên vẹn, csv cho bảng tính, category theo dạng của\n"
        "hệ thống danh mục dùng chung.",
        "Write the directory to a file or to the screen: json reads back whole, csv is for spreadsheets, category has the\n"
        "shape of the shared category service.",
    ),
)
@option("--format", "form", type=click.Choice(("json", "csv", "category")), default="json", texts=("dạng", "the form"))
@option("-o", "--output", "output", type=click.Path(path_type=Path), texts=("tệp ghi ra", "the file to write"))
@config_option
def export(form: str, output: Path | None) -> None:
    directory = _current()
    if form == "json":
        text = directory_file.dump(directory)
    elif form == "csv":
        text = directory_sheets.write_csv(sorted(directory.entries, key=lambda each: each.code))
    else:
        text = json.dumps(directory_sheets.categories(directory, _today()), ensure_ascii=False, indent=1) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    write(output, text)
    say(
        f"Đã ghi danh mục, bản {directory.version}, vào {output}.",
        f"Wrote the directory, version {directory.version}, to {output}.",
    )


# --- acting -----------------------------------------------------------------------------------------------------------------


@command.command(
    "import",
    texts=(
        "Nhận vào danh mục các mã trong FILE: tệp danh mục (json), hoặc bảng csv có các cột code, old_code, name_vi, kind,\n"
        "valid_from, valid_to, source. Mã không có trong tệp giữ nguyên. --mine bỏ qua mã do nút khác quản lý.",
        "Take the codes of FILE in: a directory file (json), or a csv with columns code, old_code, name_vi, kind,\n"
        "valid_from, valid_to, source. Codes that are not in it stay. --mine passes over codes of other nodes.",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@why_option
@option("--mine", is_flag=True, texts=("bỏ qua mã của nút khác", "pass over codes of other nodes"))
@json_option
@config_option
def take_in(file: Path, why: str, mine: bool, as_json: bool) -> None:
    def think(directory: Directory) -> Wanted:
        wanted = _listed(file, directory)
        if not mine:
            return wanted
        about = running().post("/api/directory/mine", {"codes": [str(code) for code in (*wanted.nodes, *wanted.codes)]})
        return editing.only(wanted, map(OrgId.canonical, about["codes"]))

    _act(think, why, as_json)


@command.command(
    "close",
    texts=(
        "Đóng mã CODE: ngày --on là ngày cuối cùng còn dùng. Văn bản gửi sau đó, và văn bản còn trên đường, được trả về,\n"
        "nêu mã thay thế.",
        "Close CODE: --on is its last day. What is sent later, or is still on the road, is returned with the successor named.",
    ),
)
@code_argument
@option("--on", "last", type=Day(), texts=("ngày cuối cùng còn dùng (hôm qua: đóng ngay)", "the last day (yesterday: at once)"))
@option(
    "--successor",
    "successors",
    metavar="CODE",
    multiple=True,
    texts=("mã thay thế; lặp lại được khi tách", "its successor; repeatable for a split"),
)
@fate_option
@why_option
@decided_option
@yes_option
@json_option
@config_option
def close(
    code: str,
    last: date | None,
    successors: Sequence[str],
    fate: str | None,
    why: str,
    decided: date | None,
    yes: bool,
    as_json: bool,
) -> None:
    last = last or date.fromordinal(_today().toordinal() - 1)
    agree((f"Đóng mã {code}, ngày cuối cùng {last:%d/%m/%Y}?", f"Close {code}, its last day being {last}?"), yes)

    def think(directory: Directory) -> Wanted:
        organ, after = _organ(code, directory), [_organ(each, directory) for each in successors]
        return editing.closed(directory, organ, last, after, Fate(fate) if fate else None, why, decided)

    _act(think, why, as_json)


@command.command("successor", texts=("Ghi mã thay thế cho một mã đã đóng.", "Name the successors of a code that is closed."))
@code_argument
@click.argument("successors", nargs=-1, required=True, metavar="CODE...")
@fate_option
@why_option
@decided_option
@json_option
@config_option
def successor(code: str, successors: Sequence[str], fate: str | None, why: str, decided: date | None, as_json: bool) -> None:
    def think(directory: Directory) -> Wanted:
        organ, after = _organ(code, directory), [_organ(each, directory) for each in successors]
        return editing.succeeded(directory, organ, after, Fate(fate) if fate else None, why, decided)

    _act(think, why, as_json)


@command.command(
    "set",
    texts=(
        "Thêm mã CODE, hoặc đổi tên, tình trạng kết nối, đầu mối liên hệ của nó từ ngày --from (không có: sửa bản đang có).",
        "Add CODE, or change its name, connection or contact from --from on (without it: set what is there right).",
    ),
)
@code_argument
@option("--name", metavar="TEXT", texts=("tên cơ quan", "the organ's name"))
@option("--old-code", metavar="CODE", texts=("mã 13 ký tự", "the 13-character code"))
@option("--kind", metavar="TEXT", texts=("nhãn", "a label"))
@option(
    "--connection",
    type=click.Choice([each.value for each in Connection]),
    texts=("tình trạng kết nối (Điều 21.1)", "the connection"),
)
@option("--from", "begins", type=Day(), texts=("từ ngày", "from this day on"))
@option("--address", metavar="TEXT", texts=("địa chỉ", "address"))
@option("--mail", metavar="TEXT", texts=("thư điện tử của cơ quan", "the organ's mail"))
@option("--phone", metavar="TEXT", texts=("điện thoại", "telephone"))
@option("--fax", metavar="TEXT", texts=("fax", "fax"))
@option("--website", metavar="TEXT", texts=("trang tin", "website"))
@option(
    "--receives-for",
    "receives_for",
    metavar="CODE",
    multiple=True,
    texts=("nhận thay cho mã này và dưới nó; lặp lại được", "receives for this code and those below; repeatable"),
)
@why_option
@decided_option
@json_option
@config_option
def put(
    code: str,
    begins: date | None,
    receives_for: Sequence[str],
    why: str,
    decided: date | None,
    as_json: bool,
    **texts: str | None,
) -> None:
    def think(directory: Directory) -> Wanted:
        organ = _organ(code, directory)
        return editing.changed(directory, organ, begins, _values(directory, organ, texts, receives_for, why, decided))

    _act(think, why, as_json)


def _values(
    directory: Directory,
    organ: OrgId,
    texts: Mapping[str, str | None],
    receives_for: Sequence[str],
    why: str,
    decided: date | None,
) -> dict[str, Any]:
    given = {name: value for name, value in texts.items() if value is not None}
    values: dict[str, Any] = {name: given[name] for name in ("name", "old_code", "kind") if name in given}
    if "connection" in given:
        values["connection"] = Connection(given["connection"])
    contact = {name: given[name] for name in ("address", "mail", "phone", "fax", "website") if name in given}
    if contact:
        history = directory.history(organ)
        known = contact_row(history[-1].contact) if history else {}
        values["contact"] = Contact(**(known | contact))
    if receives_for:
        values["receives_for"] = tuple(_organ(each, directory) for each in receives_for)
    if why:
        values["source"] = why
    if decided:
        values["source_day"] = decided
    return values


def _act(think: Callable[[Directory], Wanted], why: str, as_json: bool) -> None:
    """Have the running node say what a person means, and tell what became of it."""
    desk = running()
    directory = _read_whole(desk.get("/api/directory"))
    try:
        wanted = think(directory)
    except Refused as refused:
        raise Stop(
            Code.FAILED, (sentence(refused), sentence(refused, "en")), ("xem truc directory show", "see truc directory show")
        ) from None
    body = {
        "who": who(),
        "why": why,
        "version": directory.version,
        "nodes": [[str(code), node_row(node) if node is not None else None] for code, node in wanted.nodes.items()],
        "codes": [[str(code), list(map(entry_row, entries))] for code, entries in wanted.codes.items()],
    }
    done = desk.post("/api/directory", body) if wanted != Wanted() else {"rows": 0, "version": directory.version}
    if as_json:
        json_line(done)
    say(
        f"Đã ký {done['rows']} mục; danh mục bản {done['version']}. Thay đổi đang tới các nút khác.",
        f"{done['rows']} rows signed; directory version {done['version']}. The change is on its way to the other nodes.",
    )


def _listed(file: Path, directory: Directory) -> Wanted:
    try:
        if file.suffix.lower() == ".csv":
            entries = directory_sheets.read_csv(file.read_text(encoding="utf-8"))
            return editing.taken_in(directory, entries, directory_sheets.SAID)
        whole = wanted_by(directory, directory_file.load(file))
    except (directory_sheets.SheetError, directory_file.DirectoryFileError, UnicodeDecodeError) as error:
        lines = "\n  ".join(f"{file}:{line}" for line in str(error).splitlines())
        raise Stop(Code.FAILED, (f"tệp chưa dùng được\n  {lines}", f"the file cannot be used\n  {lines}")) from None
    return Wanted(
        {code: node for code, node in whole.nodes.items() if node is not None},
        {code: entries for code, entries in whole.codes.items() if entries},
    )


# --- words ------------------------------------------------------------------------------------------------------------------


def _current() -> Directory:
    """The running node's; while it does not run, its file."""
    try:
        return _read_whole(running().get("/api/directory"))
    except Stop as stop:
        if stop.exit_code != Code.NOT_RUNNING:
            raise
    config, _ = load_config()
    try:
        return directory_file.load(config.node.directory)
    except directory_file.DirectoryFileError as error:
        raise Stop(Code.CONFIG, (f"danh mục chưa dùng được\n  {error}", f"the directory cannot be used\n  {error}")) from None


def _read_whole(answer: Mapping[str, Any]) -> Directory:
    return directory_file.parse(json.dumps(answer["file"], ensure_ascii=False).encode(), Path("directory.json"), laws=False)


def _asked_of_node(path: str, **query: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = running().get(path, **query)
    except Stop as stop:
        if stop.exit_code != Code.NOT_RUNNING:
            raise
        return {}
    return answer


def _organ(text: str, directory: Directory) -> OrgId:
    try:
        return directory.resolve(text)
    except Refused as refused:
        raise Stop(Code.USAGE, (sentence(refused), sentence(refused, "en"))) from None


def _unknown(organ: OrgId) -> Stop:
    return Stop(
        Code.FAILED,
        (f"danh mục không có mã {organ}", f"the directory has no code {organ}"),
        ("xem truc directory list; thêm bằng truc directory set", "see truc directory list; truc directory set adds one"),
    )


def _standing(directory: Directory, code: OrgId, today: date) -> dict[str, Any] | None:
    """A code as it stands on a day: its entry of that day, else the last before, else the first to come."""
    entries = directory.history(code)
    if not entries:
        return None
    past = [entry for entry in entries if not entry.begins_after(today)]
    entry = past[-1] if past else entries[0]
    is_open = entry.open_on(today) and entry.connection is not Connection.CLOSED
    return {**entry_row(entry), "open": is_open, "successors": [str(each) for each in directory.successors(code, today)]}


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    state = label("connection", row["connection"] if row["open"] else Connection.CLOSED.value, lang())
    dates = (row["valid_from"] or "", row["valid_to"] or "")
    return (row["code"], row["old_code"], row["name"], state, *dates, " ".join(row["successors"]))


def _entry_lines(entry: Entry) -> Iterator[tuple[str, object]]:
    until = t("đến", "to")
    yield t("tên", "name"), entry.name
    yield t("  hiệu lực", "  valid"), f"{entry.valid_from or '…'} {until} {entry.valid_to or '…'}"
    since = f" {t('từ', 'since')} {entry.connection_from}" if entry.connection_from else ""
    yield t("  kết nối", "  connection"), label("connection", entry.connection.value, lang()) + since
    fate = label("fate", entry.fate.value, lang()) if entry.fate is not None else ""
    successors = " ".join(str(each) for each in (entry.successor, *entry.also) if each is not None)
    further = {
        t("  mã cũ", "  old code"): entry.old_code,
        t("  tên gọi khác", "  aliases"): ", ".join(entry.aliases),
        t("  nhận thay cho", "  receives for"): " ".join(map(str, entry.receives_for)),
        t("  mã thay thế", "  successors"): f"{successors} {fate}".strip(),
        t("  liên hệ", "  contact"): "; ".join(contact_row(entry.contact).values()),
        t("  theo", "  by"): f"{entry.source} {entry.source_day or ''}".strip(),
    }
    yield from ((name, value) for name, value in further.items() if value)


def _told(row: Mapping[str, Any]) -> str:
    if row["node"] is not None:
        return t("nút, phụ trách ", "node, prefixes ") + " ".join(row["node"]["prefixes"])
    if not row["entries"]:
        return t("rút khỏi danh mục", "withdrawn")
    last = row["entries"][-1]
    ends = f", {t('đến', 'to')} {last['valid_to']}" if last["valid_to"] else ""
    after = f" → {' '.join([last['successor'], *last.get('also', [])])}" if last["successor"] else ""
    return f"{last['name']}: {label('connection', last['connection'], lang())}{ends}{after}"


def _named(code: str | None) -> str:
    return code or t("nút gốc", "hub") if code is not None else ""


def _today() -> date:
    return day(now_ms())

"""`truc report`, with a real admin listener and a desk of made-up figures."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from node.cli.root import truc
from node.cli.talk import Code
from node.core.report_document import DEFINITIONS
from tests.fake_desk import FakeDesk, stay
from tests.reporting import made

CONFIG = '[node]\nname = "x"\ndata_dir = "data"\n'


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.desk = FakeDesk()
        self.desk.document = made()
        (folder / "node.toml").write_text(CONFIG)

    def report(self, *args: str) -> Result:
        return CliRunner().invoke(truc, ["--config", str(self.folder / "node.toml"), "report", *args], prog_name="truc")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    found = Site(tmp_path_factory.mktemp("site"))
    ready = threading.Event()
    control: dict[str, object] = {}

    async def serve() -> None:
        up, stop = asyncio.Event(), asyncio.Event()
        control.update(loop=asyncio.get_running_loop(), stop=stop)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stay(found.desk, found.folder / "data", up, stop))
            await up.wait()
            ready.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    yield found
    control["loop"].call_soon_threadsafe(control["stop"].set)  # type: ignore[attr-defined]
    thread.join(30)


def test_the_table_names_units_totals_cut_off_coverage_and_what_the_figures_mean(site: Site) -> None:
    result = site.report("quarter")
    assert result.exit_code == 0, result.output
    assert "2026-Q4: 2026-09-15 … 2026-12-14 (tạm tính)" in result.stdout
    assert "nút gốc" in result.stdout and "Sở Nội vụ (tổng)" in result.stdout
    assert "thời điểm chốt số liệu: 2026-11-22T10:00:00.123+07:00" in result.stdout
    assert "mức đầy đủ: 3 nút" in result.stdout and "đối soát: khớp" in result.stdout
    assert all(text in result.stdout for text in DEFINITIONS)


def test_what_does_not_agree_is_named_and_english_is_spoken(site: Site) -> None:
    site.desk.document = made(holds=False)
    result = site.report("day", "--lang", "en")
    site.desk.document = made()
    assert "missing: H41.12" in result.stdout and "proof: does not hold at G22>H41" in result.stdout
    assert "sent" in result.stdout.splitlines()[1]


@pytest.mark.parametrize("args", [("--json",), ("--format", "json")], ids=" ".join)
def test_json_is_a_row_a_line_and_the_summary_last(site: Site, args: tuple[str, ...]) -> None:
    rows = [json.loads(line) for line in site.report("day", *args).stdout.splitlines()]
    assert rows == [*made()["rows"], made()["summary"]]
    assert rows[-1]["event"] == "summary"


def test_what_is_asked_for_reaches_the_node(site: Site) -> None:
    site.desk.done.clear()
    site.report("day")
    site.report("quarter", "2026-Q1", "--rule", "official", "--organ", "H41.07")
    site.report("range", "2026-01-01", "2026-03-31")
    assert site.desk.done == [
        ("day", "", "", ""),
        ("quarter", "2026-Q1", "official", "H41.07"),
        ("range", "2026-01-01..2026-03-31", "", ""),
    ]


@pytest.mark.parametrize(("form", "begins"), [("csv", "\ufeffmã".encode()), ("xlsx", b"PK"), ("html", b"<!doctype html>")])
def test_other_forms_go_to_stdout_or_into_a_file(site: Site, form: str, begins: bytes) -> None:
    assert site.report("month", "--format", form).stdout_bytes.startswith(begins)
    out = site.folder / f"a.{form}"
    written = site.report("month", "--format", form, "--out", str(out))
    assert written.exit_code == 0 and str(out) in written.stderr
    assert out.read_bytes().startswith(begins)


def test_the_connection_table_names_states_last_days_and_who_is_silent(site: Site) -> None:  # QĐ 28/2018 Điều 21, 22.3
    row = {"organ": "H41.07", "name": "Sở Nội vụ", "node": "H41.07", "connection": "chinh-thuc", "connected_from": "2019-03-01"}
    summary = {"event": "summary", "connections": {"chinh-thuc": 1}, "silent": 1, "silent_after_days": 14}
    rows = [{**row, "last_traffic": "2026-10-01", "silent": True}]
    site.desk.document = {"kind": "connections", "rows": rows, "summary": summary}
    told, lines = site.report("connections").stdout, site.report("connections", "--json").stdout.splitlines()
    site.desk.document = made()
    assert "chính thức" in told and "2026-10-01" in told and "im lặng quá 14 ngày: 1" in told
    assert [json.loads(line) for line in lines][-1] == summary and len(lines) == 2


def test_what_cannot_be_done_is_said(site: Site) -> None:
    assert site.report("range").exit_code == Code.USAGE
    assert site.report("day", "--out", "x").exit_code == Code.USAGE
    gone = site.report("day", "--format", "csv", "--out", str(site.folder / "gone" / "a.csv"))
    assert gone.exit_code == Code.FAILED and "không ghi được" in gone.stderr

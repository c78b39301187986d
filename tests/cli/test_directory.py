"""`truc directory` against a running registrar behind the admin listener, and against a file where no node runs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import Result
from structlog.testing import capture_logs

from node.adapters import directory_file
from node.adapters.http.admin import admin_app
from node.cli.talk import Code
from tests.fake_desk import TOKEN, FakeDesk, metrics_text
from tests.test_cli import run
from tests.tree import DIRECTORY, H41, HUB, Tree, org


@dataclass
class Node:
    """The hub of the tests' tree, with its admin listener."""

    config: Path
    tree: Tree

    def __call__(self, *args: str) -> Result:
        return run("directory", *args, "--config", str(self.config))

    def rows(self, *args: str) -> list[dict[str, object]]:
        result = self(*args, "--json")
        assert result.exit_code == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]


async def _serve(tree: Tree, folder: Path, ready: threading.Event, stop: asyncio.Event) -> None:
    try:
        site = await tree.plant(HUB, {})
        site.run("directory")
        await tree.until(lambda: site.duties.registrar.folded is not None)
        runner = web.AppRunner(admin_app(FakeDesk(), metrics_text, TOKEN, site.duties.registrar))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        data = folder / "data"
        data.mkdir()
        (data / "run.json").write_text(json.dumps({"admin_port": runner.addresses[0][1]}), encoding="ascii")
        (data / "admin.token").write_text(TOKEN, encoding="utf-8")
        ready.set()
        await stop.wait()
        await runner.cleanup()
    finally:
        ready.set()
        await tree.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    config = tmp_path / "node.toml"
    config.write_text('[node]\ndata_dir = "data"\n[admin]\nlisten_host = "127.0.0.1"\n', encoding="utf-8")
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    tree = Tree(tmp_path)
    served = threading.Thread(target=lambda: loop.run_until_complete(_serve(tree, tmp_path, ready, stop)))
    served.start()
    try:
        assert ready.wait(20)
        with capture_logs():  # or they would stand between the lines of a command
            yield Node(config, tree)
    finally:
        loop.call_soon_threadsafe(stop.set)
        served.join(20)
        loop.close()


def test_a_code_is_closed_shown_and_its_history_told(node: Node) -> None:
    closed = node.rows(
        "close", "H54.03", "--successor", "H54.02", "--fate", "gop", "--why", "QĐ 5", "--decided", "01/07/2025", "--yes"
    )
    assert closed == [{"rows": 1, "version": 2}]
    (shown,) = node.rows("show", "H54.03")
    assert (shown["open"], shown["successors"], shown["administrator"]) == (False, ["H54.02"], "H54")
    told = [(row["author"], row["number"], row["why"]) for row in node.rows("history", "H54.03")]
    assert told == [("", 1, ""), ("", 2, "QĐ 5")]
    assert "gộp vào" in node("show", "H54.03").stdout
    assert "→ H54.02" in node("history", "H54.03").stdout
    assert "H54.03" not in [row["code"] for row in node.rows("list")]
    assert "H54.03" in [row["code"] for row in node.rows("list", "--closed", "--under", "H54")]
    again = node("close", "H54.03", "--yes")
    assert again.exit_code == Code.FAILED
    assert node.rows("successor", "H54.03", "H54.10", "H54.02")[0]["rows"] == 1
    assert node.rows("show", "H54.03")[0]["successors"] == ["H54.10", "H54.02"]


def test_an_organ_is_added_and_changed_from_a_day_on(node: Node) -> None:
    assert node("set", "H41.40", "--name", "Sở mới", "--connection", "thu-nghiem", "--mail", "a@b.vn").exit_code == 0
    assert (
        node("set", "H41.40", "--connection", "chinh-thuc", "--from", "01/12/2030", "--phone", "1", "--why", "QĐ").exit_code == 0
    )
    entries = node.rows("show", "H41.40")[0]["entries"]
    assert [(each["connection"], each["valid_to"], each["contact"]) for each in entries] == [  # type: ignore[attr-defined]
        ("thu-nghiem", "2030-11-30", {"mail": "a@b.vn"}),
        ("chinh-thuc", None, {"mail": "a@b.vn", "phone": "1"}),
    ]
    assert "thử nghiệm" in node("list", "--under", "H41.40").stdout
    assert [row["code"] for row in node.rows("list", "--nodes", "--under", "H41")] == ["H41", "H41.07"]
    assert node("list", "--aside").exit_code == 0
    assert node.rows("list", "--aside") == []


def test_what_is_given_out_reads_back_and_a_list_is_taken_in(node: Node, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert node("export", "-o", str(out)).exit_code == 0
    assert directory_file.load(out) == DIRECTORY
    assert node.rows("import", str(out)) == [{"rows": 0, "version": 1}]
    sheet = tmp_path / "list.csv"
    head = "code,old_code,name_vi,kind,valid_from,valid_to,source\n"
    sheet.write_text(
        f"{head}H26,,Tỉnh đã sáp nhập,tinh,2020-09-15,2025-06-30,QĐ 09/2025\nG30,,Thông tấn xã,,,,\n", encoding="utf-8"
    )
    assert node.rows("import", str(sheet), "--why", "QĐ 09/2025")[0]["rows"] == 2
    (gone,) = node.rows("show", "H26")
    assert (gone["successors"], gone["source"]) == (["H54"], "QĐ 09/2025")
    sheet.write_text(f"{head}G31,,Viện,,2025-99-01,,\n", encoding="utf-8")
    wrong = node("import", str(sheet))
    assert wrong.exit_code == Code.FAILED
    assert ":2: entry.valid_from" in wrong.stderr
    assert '"MaDinhDanhCap1": "G30"' in node("export", "--format", "category").stdout
    assert "G30" in node("export", "--format", "csv").stdout


def test_what_another_node_has_to_say_is_refused_and_that_node_named(node: Node) -> None:
    registrar = node.tree[HUB].duties.registrar
    registrar._code = H41  # as if this were the province
    refused = node("set", "H54.02", "--name", "x")
    assert refused.exit_code == Code.FAILED
    assert "H54.02 không do nút này quản lý; hãy làm việc này tại nút H54" in refused.stderr


def test_a_law_is_named_and_a_code_that_is_none_too(node: Node) -> None:
    lawless = node("close", "H54.03", "--successor", "H54.99", "--yes")
    assert lawless.exit_code == Code.FAILED
    assert "successor H54.99 has no entry" in lawless.stderr
    for command in ("show", "history"):
        assert node(command, "H99").exit_code == Code.FAILED
    assert node("show", "!").exit_code == Code.USAGE
    assert node("set", "H54.02", "--from", "hôm qua").exit_code == Code.USAGE


def test_a_node_that_does_not_run_is_read_from_its_file_and_says_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    assert run("init", "--dir", str(folder), "--name", "Nút gốc", "--zone", "small.test").exit_code == 0
    (folder / "directory.json").write_text(directory_file.dump(DIRECTORY), encoding="utf-8")
    config = ("--config", str(folder / "node.toml"))
    assert "Sở Nội vụ Nghệ An" in run("directory", "list", *config).stdout
    assert "Sở Nội vụ Nghệ An" in run("directory", "show", str(org("H41.07")), *config).stdout
    assert run("directory", "close", "H41.07", "--yes", *config).exit_code == Code.NOT_RUNNING

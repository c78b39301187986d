"""The command `truc`: help and errors in Vietnamese, data on stdout, talk on stderr, the running node asked over loopback."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import json
import os
import re
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from node.adapters import directory_file, registry
from node.adapters.http import time_stamps
from node.adapters.http.time_stamps import BadStamp, NoLibrary
from node.cli.face import Group, Late
from node.cli.root import COMMANDS, truc
from node.cli.talk import Code
from node.config import NodeConfig, load
from node.core.directory import Connection, Directory, Entry, NodeEntry
from node.core.errors import Deferred, Reason
from node.core.identifier import OrgId
from node.core.office import System
from tests.adapters.pki import leaf
from tests.fake_desk import DOCUMENT_ID, TOKEN, FakeDesk, announce, row, stay

HOME = Path(__file__).parents[1]
ISO = re.compile(r"2026-11-22T10:00:0[01]\.123\+07:00")
VIETNAMESE = re.compile("[ăâđêôơưàảãáạằẳẵắặầẩẫấậèẻẽéẹềểễếệìỉĩíịòỏõóọồổỗốộờởỡớợùủũúụừửữứựỳỷỹýỵ]")


def run(*args: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(truc, list(args), input=stdin, prog_name="truc")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@dataclass
class Site:
    """A node's folder, with or without a node that answers."""

    config: Path
    desk: FakeDesk = field(default_factory=FakeDesk)

    def truc(self, *args: str, stdin: str | None = None) -> Result:
        return run("--config", str(self.config), *args, stdin=stdin)

    @property
    def data(self) -> Path:
        return self.config.parent / "data"

    @property
    def systems(self) -> tuple[System, ...]:
        return registry.load(self.config.parent / "systems.json")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = run(
        "init",
        "--dir",
        str(tmp_path),
        "--name",
        "Xã Quảng La",
        "--code",
        "H41.07",
        "--parent-url",
        "https://h:1",
        "--parent-code",
        "H41",
    )
    assert made.exit_code == 0, made.output
    return Site(tmp_path / "node.toml")


@pytest.fixture
def running(site: Site) -> Iterator[Site]:
    """A real admin listener on loopback with a fake desk, in a thread of its own."""
    ready = threading.Event()
    control: dict[str, Any] = {}

    async def serve() -> None:
        up, stop = asyncio.Event(), asyncio.Event()
        control.update(loop=asyncio.get_running_loop(), stop=stop)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stay(site.desk, site.data, up, stop))
            await up.wait()
            ready.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    yield site
    control["loop"].call_soon_threadsafe(control["stop"].set)
    thread.join(30)


def json_lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# help and language


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    context = click.Context(truc)
    for name in COMMANDS:
        found.append((name,))
        command = truc.get_command(context, name)
        if isinstance(command, click.Group):
            found += [(name, verb) for verb in command.list_commands(context)]
    return found


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_help_is_vietnamese_and_on_request_english(path: tuple[str, ...]) -> None:
    vietnamese = run(*path, "--help")
    assert vietnamese.exit_code == 0
    assert vietnamese.stdout.startswith(f"Cách dùng: {' '.join(('truc', *path))} [TÙY CHỌN]")
    assert "in phần trợ giúp này" in vietnamese.stdout
    for english in (run("--lang", "en", *path, "--help"), run(*path, "--lang", "en", "--help")):
        assert english.exit_code == 0
        assert english.stdout.startswith(f"Usage: {' '.join(('truc', *path))} [OPTIONS]")
        assert not VIETNAMESE.search(english.stdout), english.stdout


def test_every_command_of_the_table_exists_and_has_both_languages() -> None:
    listed = run("--help").stdout
    for name, late in COMMANDS.items():
        assert isinstance(late, Late)
        assert f"\n  {name} " in listed
        assert VIETNAMESE.search(late.texts[0]) and not VIETNAMESE.search(late.texts[1])


def test_the_language_of_the_environment_is_used_and_an_option_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUC_LANG", "en")
    assert run("--help").stdout.startswith("Usage:")
    assert run("--lang", "vi", "--help").stdout.startswith("Cách dùng:")
    monkeypatch.setenv("TRUC_LANG", "klingon")
    assert run("--help").stdout.startswith("Cách dùng:")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("qeue",), "không có lệnh “qeue”. Có phải queue?"),
        (("queue", "lst"), "không có lệnh “lst”. Có phải list?"),
        (("queue", "show"), "còn thiếu ITEM."),
        (("queue", "show", "x"), "giá trị của ITEM không hợp lệ: cần số nguyên"),
        (("queue", "list", "--state", "lost"), "giá trị của --state không hợp lệ: chọn một trong: waiting, body, held"),
        (("queue", "list", "--limit", "0"), "giá trị của --limit không hợp lệ: cần số nguyên 1..100000"),
        (("status", "--jsn"), "không có tùy chọn --jsn. Có phải --json?"),
        (("status", "--config"), "tùy chọn --config thiếu hoặc thừa giá trị."),
        (("held", "drop", "out-1"), "còn thiếu --why."),
        (("status", "--lang", "fr"), "giá trị của --lang không hợp lệ: chọn một trong: vi, en"),
    ],
)
def test_a_usage_error_says_what_and_where_to_look(args: tuple[str, ...], told: str) -> None:
    result = run(*args)
    assert result.exit_code == Code.USAGE
    assert result.stdout == ""
    assert f"Lỗi: {told}" in result.stderr
    assert re.search(r"Cần làm: xem truc.* --help", result.stderr)


def test_no_command_at_all_shows_the_help_as_a_usage_error() -> None:
    result = run()
    assert result.exit_code == Code.USAGE
    assert result.stderr.startswith("Cách dùng: truc ")


def test_a_late_command_is_imported_only_when_called() -> None:
    group = Group("x", texts=("x", "x"), late={"lost": Late("no.such.module:command", ("thử", "try"))})
    assert "lost" in CliRunner().invoke(group, ["--help"]).stdout
    with pytest.raises(ModuleNotFoundError):
        CliRunner().invoke(group, ["lost"], catch_exceptions=False)


HEAVY = ("aiohttp", "aiosqlite", "cryptography", "pydantic", "rich", "structlog", "prometheus_client", "asyncio")


@pytest.mark.parametrize(
    ("args", "loaded"),
    [(["--help"], ()), (["status"], ()), (["queue", "--help"], ()), (["trace", "x"], ()), (["held", "list"], ())],
    ids=" ".join,
)
def test_the_quick_commands_import_nothing_heavy(args: list[str], loaded: tuple[str, ...], site: Site) -> None:
    program = (
        "import sys\nfrom node.cli.root import truc\n"
        f"try:\n    truc({args!r}, prog_name='truc')\nexcept SystemExit:\n    pass\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    )
    env = {**os.environ, "TRUC_CONFIG": str(site.config)}
    done = subprocess.run([sys.executable, "-c", program], cwd=HOME, env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1].split() == list(loaded), done.stderr


def test_a_node_is_loaded_without_what_it_never_prints_with() -> None:
    """A tenth of the time in which a killed node is back. The commands have it."""
    program = (
        "import sys\nfrom node.cli.run import _without\n"
        "with _without('rich'):\n    import node.app\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('rich', 'pygments')]\n"
        "import rich.table\n"
        "with _without('rich'):\n    import rich.table"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "node", "--version"], cwd=HOME, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert re.fullmatch(r"truc \S+\n", done.stdout)


def test_the_version_is_told_with_what_matters_in_a_report() -> None:
    (line,) = json_lines(run("version", "--json"))
    assert set(line) == {"version", "python", "sqlite"}
    assert run("version").stdout == run("--version").stdout == f"truc {line['version']}\n"


# asking the node


def test_status_opens_with_one_sentence_of_health(running: Site) -> None:
    result = running.truc("status")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "Nút Xã Quảng La (H41.07) hoạt động bình thường."
    assert "nút cấp trên: H41 đang thông từ 2026-11-22T10:00:00.123+07:00" in lines
    assert "hộp văn bản chờ lấy: 3" in lines


def test_status_tells_how_the_clock_is(running: Site) -> None:
    running.desk.facts["clock"] = {
        "state": "holdover",
        "since_ms": 1_795_316_400_123,
        "offset_s": -3600.25,
        "bound_s": 1.0044,
        "stratum": 3,
    }
    told = running.truc("status").stdout
    since = re.escape("giữ giờ, tạm không hỏi được nút cấp trên từ ") + ISO.pattern
    assert re.search(f"đồng hồ: {since}; {re.escape('máy lệch -3600.250 s, sai số ±1.004 s, bậc 3')}", told)
    assert "clock: holding over without the parent since" in running.truc("status", "--lang", "en").stdout


def test_status_names_each_problem_with_the_command_that_helps(running: Site) -> None:
    running.desk.facts |= {
        "health": "warning",
        "problems": [{"code": "held-items", "text": "2 mục tạm dừng\x1b[2J", "command": "truc held list"}],
        "children": [{"code": "H41.07.01", "name": "Thôn", "up": False, "last_seen_ms": 0}],
        "outbox": {"depth": 4, "oldest_age_s": 61.5},
        "parent": None,
    }
    text = running.truc("status").stdout
    assert text.splitlines()[:3] == [
        "Nút Xã Quảng La (H41.07) đang hoạt động, có điều cần chú ý.",
        "  ! 2 mục tạm dừng<U+001B>[2J [held-items]",
        "    → truc held list",
    ]
    assert "nút cấp dưới: H41.07.01 Thôn im lặng, lần cuối chưa từng" in text
    assert "hàng chờ chuyển: 4 (lâu nhất 62 giây)" in text
    english = running.truc("status", "--lang", "en").stdout
    assert "  ! items are held for an operator [held-items]" in english
    assert not VIETNAMESE.search(english.replace("Xã Quảng La", "").replace("Thôn", ""))


def test_status_as_json_has_rfc_3339_times_and_no_milliseconds(running: Site) -> None:
    (facts,) = json_lines(running.truc("status", "--json"))
    assert facts["started"] == "2026-11-22T10:00:00.123+07:00"
    assert facts["parent"]["since"] == "2026-11-22T10:00:00.123+07:00"
    assert "_ms" not in json.dumps(facts)


def test_the_queue_is_listed_in_words(running: Site) -> None:
    running.desk.rows = [row(1, neighbour="", lane="very_urgent", state="waiting", in_doubt=True, reason="not-now")]
    text = running.truc("queue", "list").stdout
    for word in ("chờ chuyển, chưa rõ kết quả", "thượng khẩn", "nút gốc", "H54.02", "nút chưa phục vụ được"):
        assert word in text
    assert ISO.search(text)
    assert max(map(len, text.splitlines())) > 120, "a pipe gets whole lines"


def test_the_queue_as_json_lines_follows_the_pages_to_the_end(running: Site) -> None:
    running.desk.rows = [row(number) for number in range(1, 451)]
    lines = json_lines(running.truc("queue", "list", "--json", "--limit", "430"))
    assert [line["item"] for line in lines] == list(range(1, 431))
    assert lines[0]["since"] == "2026-11-22T10:00:00.123+07:00"
    assert len(json_lines(running.truc("queue", "list", "--json", "--limit", "100000"))) == 450


def test_the_queue_is_narrowed_to_a_neighbour_and_the_hub_has_a_name(running: Site) -> None:
    running.desk.rows = [row(1), row(2, neighbour=""), row(3, neighbour="", state="held")]
    assert [line["item"] for line in json_lines(running.truc("queue", "list", "--json", "--neighbour", "hub"))] == [2, 3]
    assert [line["item"] for line in json_lines(running.truc("queue", "list", "--json", "--state", "held"))] == [3]


def test_an_empty_queue_is_said_on_stderr_and_data_stays_empty(running: Site) -> None:
    running.desk.rows = []
    result = running.truc("queue", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Hàng chờ chuyển trống." in result.stderr


def test_one_item_is_shown_with_its_facts(running: Site) -> None:
    text = running.truc("queue", "show", "2").stdout
    assert f"mã định danh văn bản: {DOCUMENT_ID}" in text
    assert "dung lượng (byte): 12345" in text
    (line,) = json_lines(running.truc("queue", "show", "2", "--json"))
    assert line["hops"] == [{"node": "H41.07", "at": "2026-11-22T10:00:00.123+07:00"}]


def test_an_item_that_is_not_there_is_an_error(running: Site) -> None:
    result = running.truc("queue", "show", "99")
    assert result.exit_code == Code.FAILED
    assert "Hàng chờ chuyển không có mục này. [not-found]" in result.stderr


def test_items_are_retried_held_and_released_with_a_name_and_a_reason(running: Site) -> None:
    assert running.truc("queue", "retry", "1", "2", "--why", "mạng đã thông").exit_code == 0
    assert running.truc("queue", "hold", "1").exit_code == 0
    assert running.truc("queue", "release", "--neighbour", "H41").exit_code == 0
    acts = [(action, items, neighbour, why) for action, items, neighbour, _, why in running.desk.done]
    assert acts == [("retry", [1, 2], None, "mạng đã thông"), ("hold", [1], None, ""), ("release", [], "H41", "")]
    assert all(who for _, _, _, who, _ in running.desk.done)


def test_holding_all_of_a_neighbour_wants_a_yes(running: Site) -> None:
    refused = running.truc("queue", "hold", "--neighbour", "H41")
    assert refused.exit_code == Code.USAGE
    assert "--yes" in refused.stderr
    assert running.desk.done == []
    assert running.truc("queue", "hold", "--neighbour", "H41", "--yes").exit_code == 0


@pytest.mark.parametrize("args", [(), ("1", "--neighbour", "H41")])
def test_an_act_on_nothing_or_on_two_things_is_a_usage_error(running: Site, args: tuple[str, ...]) -> None:
    result = running.truc("queue", "retry", *args)
    assert result.exit_code == Code.USAGE
    assert "truc queue list" in result.stderr
    assert running.desk.done == []


def test_an_act_that_changes_nothing_is_told_as_failed(running: Site) -> None:
    assert running.truc("queue", "retry", "--neighbour", "H99").exit_code == Code.FAILED


def test_held_items_are_listed_with_the_reason_in_words(running: Site) -> None:
    running.desk.held_rows.append({**running.desk.held_rows[0], "item": "box-1", "reason": "operator: chờ kiểm tra"})
    text = running.truc("held", "list").stdout
    assert "lỗi bên trong nút" in text
    assert "người vận hành tạm dừng: chờ kiểm tra" in text
    assert "\x1b" not in text and "<U+001B>[31m" in text
    assert [line["item"] for line in json_lines(running.truc("held", "list", "--json"))] == ["out-12", "box-1"]


def test_dropping_needs_a_reason_and_a_yes(running: Site) -> None:
    assert running.truc("held", "drop", "out-12").exit_code == Code.USAGE
    assert running.truc("held", "drop", "out-12", "--why", "hỏng").exit_code == Code.USAGE
    assert running.desk.done == []
    assert running.truc("held", "drop", "out-12", "--why", "hỏng", "--yes").exit_code == 0
    assert [(act[0], act[1], act[3]) for act in running.desk.done] == [("drop", ["out-12"], "hỏng")]


def test_a_question_is_asked_on_a_terminal_and_a_no_changes_nothing(running: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    asked = running.truc("held", "drop", "out-12", "--why", "hỏng", stdin="n\n")
    assert asked.exit_code == Code.FAILED
    assert "Dừng hẳn việc chuyển 1 mục?" in asked.stderr
    assert running.desk.done == []
    assert running.truc("held", "drop", "out-12", "--why", "hỏng", stdin="y\n").exit_code == 0


def test_releasing_what_is_no_longer_held_is_told(running: Site) -> None:
    result = running.truc("held", "release", "out-12", "out-13")
    assert result.exit_code == Code.FAILED
    assert "1 mục không còn tạm dừng" in result.stderr


@pytest.mark.parametrize("key", ["doc-1", DOCUMENT_ID])
def test_a_trace_is_told_in_order_and_in_words(running: Site, key: str) -> None:
    lines = running.truc("trace", key).stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["2026-11-22T10:00:00.123+07:00", "2026-11-22T10:00:01.123+07:00"]
    assert "nút tiếp nhận từ hệ thống của Bên gửi" in lines[1]
    assert "mã Bên nhận đã đóng" in lines[2]
    assert running.desk.asked == [key]
    assert [line["event"] for line in json_lines(running.truc("trace", key, "--json"))] == ["accepted", "refused"]


def test_a_document_this_node_does_not_know_is_an_error(running: Site) -> None:
    result = running.truc("trace", "doc-404", "--json")
    assert (result.exit_code, result.stdout) == (Code.FAILED, "")
    assert "không có văn bản nào mang mã “doc-404”" in result.stderr


# a node that does not answer


# --- evidence --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundled(tmp_path: Path) -> tuple[Path, Path]:
    """A bundle and the root, as files."""
    from tests.bundles import ROOT_PEM, bundle, file_of

    data, root = tmp_path / "bundle.zip", tmp_path / "ca.pem"
    data.write_bytes(file_of(bundle()))
    root.write_bytes(ROOT_PEM)
    return data, root


def test_evidence_is_written_where_it_is_asked_for(running: Site, tmp_path: Path) -> None:
    running.desk.evidence_found = {"bundle": "UEs="}
    result = running.truc("evidence", "doc-1", "-o", str(tmp_path / "b.zip"), "--to", "H54.02", "--to", "G22")
    assert result.exit_code == Code.DONE and "truc verify" in result.stderr
    assert (tmp_path / "b.zip").read_bytes() == b"PK"
    assert running.desk.asked == ["doc-1", "H54.02", "G22"]


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ({"open": [{"recipient": "H54.02", "state": "moving"}]}, Code.LATER, "H54.02 đang chuyển"),
        ({"silent": ["H41", ""]}, Code.LATER, "nút không trả lời: H41, nút gốc"),
        ({"many": ["doc-1", "doc-2"]}, Code.FAILED, "doc-1, doc-2"),
        ({"flaw": {"flaw": "gap", "part": "H41 → ?", "detail": "H54.02"}}, Code.FAILED, "H41 → ?: thiếu biên nhận"),
    ],
)
def test_evidence_that_is_not_there_says_why(running: Site, tmp_path: Path, found: dict[str, Any], code: Code, said: str) -> None:
    running.desk.evidence_found = found
    result = running.truc("evidence", "doc-1", "-o", str(tmp_path / "b.zip"))
    assert result.exit_code == code and said in result.stderr
    assert not (tmp_path / "b.zip").exists()


def test_a_bundle_is_verified_with_the_root_alone(bundled: tuple[Path, Path]) -> None:
    data, root = bundled
    result = run("verify", str(data), "--root", str(root))
    assert result.exit_code == Code.DONE and "Gói bằng chứng nguyên vẹn" in result.stderr
    assert [line.split()[2] for line in result.stdout.splitlines()[-4:]] == ["H41", "nút", "H54", "H54"]
    (line,) = json_lines(run("verify", str(data), "--root", str(root), "--json"))
    assert (line["ok"], line["end"]["state"], [hop["node"] for hop in line["hops"]]) == (True, "collected", ["H41", "", "H54"])


def test_a_bundle_that_was_altered_is_refused_with_the_hop(bundled: tuple[Path, Path]) -> None:
    data, root = bundled
    altered = data.read_bytes().replace(b'"count":3', b'"count":4')
    assert altered == data.read_bytes()  # it stands there as text within text
    data.write_bytes(data.read_bytes().replace(b'count\\":3', b'count\\":4'))
    result = run("verify", str(data), "--root", str(root))
    assert result.exit_code == Code.FAILED and "receipts/0002.H41-hub.json: đã bị sửa" in result.stderr
    (line,) = json_lines(run("verify", str(data), "--root", str(root), "--json"))
    assert (line["ok"], line["flaw"], line["part"]) == (False, "altered", "receipts/0002.H41-hub.json")
    assert run("verify", str(root), "--root", str(root)).exit_code == Code.FAILED
    assert run("verify", str(data.parent / "no.zip"), "--root", str(root)).exit_code == Code.USAGE


def test_a_root_that_is_no_certificate_is_said(bundled: tuple[Path, Path]) -> None:
    data, root = bundled
    assert run("verify", str(data), "--root", str(data)).exit_code == Code.USAGE
    assert run("verify", str(data), "--root", str(root.parent / "no.pem")).exit_code == Code.USAGE


@pytest.mark.parametrize(
    ("comes", "code", "said"),
    [
        (b"DER", Code.DONE, "Dấu thời gian: "),
        (
            BadStamp("no answer"),
            Code.DONE,
            "Chưa có dấu thời gian (no answer). Gói vẫn dùng được; chạy lại lệnh này trong 90 ngày",
        ),
        (NoLibrary(), Code.CONFIG, "pip install 'truc[tsa]'"),
    ],
)
def test_a_file_of_evidence_is_stamped_where_an_authority_is_named_and_waits_for_none(
    running: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes: bytes | Exception, code: Code, said: str
) -> None:
    async def stamped(url: str, digest: bytes, nonce: int) -> bytes:
        assert (url, digest) == ("http://tsa.example", hashlib.sha256(b"PK").digest())
        if isinstance(comes, Exception):
            raise comes
        return comes

    monkeypatch.setattr(time_stamps, "stamped", stamped)
    monkeypatch.setenv("TRUC_EVIDENCE__TSA_URL", "http://tsa.example")
    running.desk.evidence_found = {"bundle": "UEs="}
    (tmp_path / "b.zip.tsr").write_bytes(b"of another")
    result = running.truc("evidence", "doc-1", "-o", str(tmp_path / "b.zip"))
    assert result.exit_code == code and said in result.stderr
    assert (tmp_path / "b.zip").read_bytes() == b"PK"
    assert [path.read_bytes() for path in tmp_path.glob("b.zip.tsr")] == ([comes] if comes == b"DER" else [])


def test_a_stamp_is_demanded_where_its_authority_is_named(bundled: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    data, root = bundled
    command = ("verify", str(data), "--root", str(root), "--tsa-ca", str(root))
    assert run(*command).exit_code == Code.FAILED  # there is none
    data.with_name("bundle.zip.tsr").write_bytes(b"DER")

    def judged(answer: bytes, digest: bytes, roots: bytes) -> time_stamps.Stamp:
        assert (answer, digest, roots) == (b"DER", hashlib.sha256(data.read_bytes()).digest(), root.read_bytes())
        return time_stamps.Stamp(1_930_000_000_000, "TSA")

    monkeypatch.setattr(time_stamps, "judged", judged)
    assert "dấu thời gian: 2031-02-28T06:06:40.000+07:00 · TSA" in run(*command).stdout
    assert json_lines(run(*command, "--json"))[0]["stamped"] == "2031-02-28T06:06:40.000+07:00"


# --- audit -----------------------------------------------------------------------------------------------------------------

ACT = {"seq": 7, "at_ms": 1_795_316_400_123, "what": "system.add", "subject": "so", "who": "anh Ba", "why": "mới"}


def test_acts_are_listed_with_who_before_and_after(running: Site) -> None:
    later = {**ACT, "seq": 9, "what": "system.disable", "before": {"disabled": False}, "after": {"disabled": True}}
    running.desk.audited = [{**ACT, "before": None, "after": {"codes": ["H41.07"]}}, later]
    lines = running.truc("audit", "list").stdout.splitlines()
    assert "anh Ba" in lines[1] and "đăng ký hệ thống" in lines[1] and '{"codes": ["H41.07"]}' in lines[1] and "mới" in lines[1]
    assert [line["seq"] for line in json_lines(running.truc("audit", "list", "--json", "--limit", "1"))] == [9]


def test_a_whole_journal_is_verified_in_pieces_and_a_broken_row_is_named(running: Site) -> None:
    result = running.truc("audit", "verify")
    assert result.exit_code == Code.DONE and "10 hàng, 2 đầu đã ký, 1 đầu nút cấp trên giữ" in result.stderr
    running.desk.head_broken = {"seq": 4, "fault": "head"}
    assert "hàng 4 của nhật ký không còn như lúc" in running.truc("audit", "verify").stderr
    running.desk.broken = {"seq": 6, "fault": "missing"}
    result = running.truc("audit", "verify", "--json")
    assert result.exit_code == Code.FAILED and "hàng 6 của nhật ký đã bị mất" in result.stderr
    assert json_lines(result)[0] == {"ok": False, "rows": 10, "heads": 0, "heads_above": None, "broken": running.desk.broken}


def test_an_act_on_files_is_recorded_by_the_node_that_runs(running: Site) -> None:
    assert running.truc("system", "add", "so", "--code", "H41.07").exit_code == Code.DONE
    assert running.truc("system", "rotate", "so").exit_code == Code.DONE
    assert running.truc("system", "disable", "so").exit_code == Code.DONE
    told = running.desk.recorded
    assert [each["what"] for each in told] == ["system.add", "system.rotate", "system.disable"]
    assert [each["before"] and each["before"]["secrets"] for each in told] == [None, 1, 2]
    assert (told[2]["before"]["disabled"], told[2]["after"]["disabled"]) == (False, True)
    assert all(each["who"] and each["id"] and each["done_ms"] for each in told)
    secrets = [secret for system in running.systems for secret in system.secrets]
    assert not any(secret in json.dumps(told) for secret in secrets)


def test_an_act_on_files_waits_beside_the_journal_of_a_node_that_does_not_run(site: Site) -> None:
    assert site.truc("system", "add", "so", "--code", "H41.07").exit_code == Code.DONE
    (line,) = (site.data / "acts.jsonl").read_text().splitlines()
    assert json.loads(line)["after"]["codes"] == ["H41.07"]
    (site.data / "acts.jsonl").unlink()
    (site.data / "acts.jsonl").mkdir()
    result = site.truc("system", "rotate", "so")
    assert result.exit_code == Code.FAILED and "không ghi được vào nhật ký" in result.stderr
    assert site.systems[0].secrets[0] in result.stdout  # what is shown once is shown first


ASKING = [("status",), ("queue", "list"), ("queue", "retry", "1"), ("held", "list"), ("trace", "x")]


@pytest.mark.parametrize("args", ASKING, ids=" ".join)
def test_a_node_that_never_ran_is_69_and_says_how_to_start_it(site: Site, args: tuple[str, ...]) -> None:
    result = site.truc(*args)
    assert result.exit_code == Code.NOT_RUNNING
    assert result.stdout == ""
    assert f"nút của {site.config} chưa chạy" in result.stderr
    assert f"truc run --config {site.config}" in result.stderr


def test_a_node_that_died_and_left_its_note_is_69(running: Site) -> None:
    announce(running.data, 1)  # a port where nobody listens
    assert running.truc("status").exit_code == Code.NOT_RUNNING


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", '{"admin_port": "x"}'])
def test_a_torn_note_is_69(site: Site, note: str) -> None:
    announce(site.data, 1)
    (site.data / "run.json").write_text(note)
    assert site.truc("status").exit_code == Code.NOT_RUNNING


def test_another_nodes_token_is_77(running: Site) -> None:
    (running.data / "admin.token").write_text(TOKEN + "x")
    result = running.truc("status")
    assert result.exit_code == Code.NOT_ALLOWED
    assert "unauthorised" in result.stderr


def test_a_busy_node_is_75(running: Site) -> None:
    running.desk.error = Deferred(1.0, Reason.NOT_NOW)
    result = running.truc("status")
    assert result.exit_code == Code.LATER
    assert "thử lại sau" in result.stderr


def test_a_token_that_may_not_be_read_is_77(running: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    def as_another_user(path: Path, *args: Any, **options: Any) -> str:
        if path.name == "admin.token":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", as_another_user)  # root, who may run these tests, reads every file
    result = running.truc("status")
    assert result.exit_code == Code.NOT_ALLOWED
    assert f"không được đọc {running.data / 'admin.token'}" in result.stderr


def test_something_else_on_that_port_is_no_node(site: Site) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        announce(site.data, server.server_port)
        assert site.truc("status").exit_code == Code.FAILED
        thread.join(30)


@pytest.mark.parametrize("args", [("status",), ("system", "list"), ("config", "check"), ("config", "show")], ids=" ".join)
def test_a_missing_configuration_is_78_and_says_how_to_name_one(tmp_path: Path, args: tuple[str, ...]) -> None:
    result = run(*args, "--config", str(tmp_path / "nowhere.toml"))
    assert result.exit_code == Code.CONFIG
    assert "--config PATH" in result.stderr


def test_the_configuration_may_come_from_the_environment(running: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUC_CONFIG", str(running.config))
    assert run("status").exit_code == 0
    assert run("status", "--config", "/nowhere").exit_code == Code.CONFIG


def test_the_data_folder_may_come_from_the_environment(running: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRUC_NODE__DATA_DIR", str(tmp_path / "elsewhere"))
    assert running.truc("status").exit_code == Code.NOT_RUNNING


@pytest.mark.parametrize("text", ["[node", "", "[node]\nname='x'\n", "node = 3\n", "\xff"])
def test_a_configuration_without_a_data_folder_is_78(site: Site, text: str) -> None:
    site.config.write_bytes(text.encode("latin-1"))
    assert site.truc("status").exit_code == Code.CONFIG


# init


def test_init_makes_a_folder_that_a_node_can_be_configured_with(site: Site) -> None:
    folder = site.config.parent
    config, _ = load(site.config, {})
    assert (config.node.name, config.node.code, config.link.parent_code) == ("Xã Quảng La", "H41.07", "H41")
    assert (config.node.data_dir, config.node.systems) == (folder / "data", folder / "systems.json")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert [modes[name] for name in ("link.key", "office.key", "systems.json")] == [0o600] * 3
    assert modes["data"] == 0o700
    assert site.systems == ()


def test_init_prints_the_identity_that_the_parent_registers(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    result = run(
        "init",
        "--dir",
        str(tmp_path / "new"),
        "--name",
        "Nút",
        "--zone",
        "cay.thu",
        "--code",
        "18.G12",
        "--parent-url",
        "https://h:1",
        "--json",
    )
    (line,) = json_lines(result)
    request = x509.load_pem_x509_csr(Path(line["csr"]).read_bytes())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == [line["dns"]] == ["18.g12.cay.thu"]
    assert names.critical and not list(request.subject), "the one name stands in the SAN alone"
    assert request.is_signature_valid
    key = serialization.load_pem_private_key((tmp_path / "new" / "link.key").read_bytes(), None)
    assert key.public_key() == request.public_key()
    spki = request.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert line["pin"] == hashlib.sha256(spki).hexdigest()
    assert "Việc tiếp theo" in result.stderr


def test_init_makes_a_folder_that_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys in it are certified elsewhere and cannot be made again."""
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(os.readlink(f"/proc/self/fd/{handle}"))))
    folder = tmp_path / "above" / "node"
    assert run("init", "--dir", str(folder), "--name", "Nút").exit_code == 0
    assert {tmp_path, tmp_path / "above", folder / ".link.key.new", folder / ".node.toml.new"} <= set(synced)
    assert synced[-1] == folder, "after all that stands in it"


def test_init_never_overwrites(site: Site) -> None:
    folder = site.config.parent
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    again = run("init", "--dir", str(folder), "--name", "Khác")
    assert again.exit_code == Code.FAILED
    assert "node.toml, link.key" in again.stderr
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("left", ["link.key", "systems.json"])
def test_init_stops_before_the_first_file_if_one_is_there(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("mine")
    assert run("init", "--dir", str(tmp_path), "--name", "Nút").exit_code == Code.FAILED
    assert [path.name for path in tmp_path.iterdir()] == [left]


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("--name", "x", "--code", "null"), Code.USAGE, "không phải là mã định danh"),
        (("--name", "x", "--code", "H41"), Code.CONFIG, "link.parent_url"),
        (("--name", "x" * 101), Code.CONFIG, "node.name"),
        (("--name", "x", "--host", "máy chủ"), Code.USAGE, "tên máy không hợp lệ"),
    ],
)
def test_init_refuses_what_no_node_could_use(tmp_path: Path, args: tuple[str, ...], code: Code, told: str) -> None:
    result = run("init", "--dir", str(tmp_path / "new"), *args)
    assert result.exit_code == code
    assert told in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_name_with_quotes_and_breaks_stays_a_name(tmp_path: Path) -> None:
    name = 'Xã "A"\n[link]\\ \x7fb'
    assert run("init", "--dir", str(tmp_path), "--name", name).exit_code == 0
    assert tomllib.loads((tmp_path / "node.toml").read_text())["node"]["name"] == name


# system


@pytest.fixture
def mapped(site: Site) -> Site:
    """A site whose directory knows H41.07 and its neighbour province's H54."""
    nodes = (
        NodeEntry(OrgId(()), "Trục", "trung ương", None, ()),
        NodeEntry(OrgId(("H41",)), "Tỉnh", "tỉnh", OrgId(()), (OrgId(("H41",)),)),
        NodeEntry(OrgId(("H41", "07")), "Xã", "xã", OrgId(("H41",)), (OrgId(("H41", "07")),)),
        NodeEntry(OrgId(("H54",)), "Tỉnh khác", "tỉnh", OrgId(()), (OrgId(("H54",)),)),
    )
    entries = tuple(
        Entry(OrgId(path), "Cơ quan " + ".".join(path), old, (), "khac", None, None, None, (), False, Connection.OFFICIAL, None)
        for path, old in ((("H41", "07"), "000.00.07.H41"), (("H54",), "000.00.00.H54"))
    )
    text = directory_file.dump(Directory(entries, nodes, "Trục", "TRUC", 1))
    (site.config.parent / "directory.json").write_text(text, encoding="utf-8")
    return site


def test_a_system_is_added_and_its_secret_printed_once(mapped: Site) -> None:
    result = mapped.truc(
        "system", "add", "h41-07.vanphong", "--code", "000.00.07.H41", "--network", "10.1.0.0/16", "--all-or-nothing"
    )
    assert result.exit_code == 0, result.stderr
    (system,) = mapped.systems
    assert result.stdout == system.secrets[0] + "\n"
    assert len(system.secrets[0]) >= 40
    assert (system.id, system.codes, system.all_or_nothing) == ("h41-07.vanphong", (OrgId(("H41", "07")),), True)
    assert "Lưu ý" not in result.stderr
    listed = mapped.truc("system", "list")
    assert "h41-07.vanphong" in listed.stdout and "10.1.0.0/16" in listed.stdout
    assert system.secrets[0] not in listed.stdout + mapped.truc("system", "list", "--json").stdout


def test_a_system_as_json_carries_its_secret_at_birth_only(mapped: Site) -> None:
    (born,) = json_lines(mapped.truc("system", "add", "a", "--code", "H41.07", "--json"))
    assert born["secret"] == mapped.systems[0].secrets[0]
    (listed,) = json_lines(mapped.truc("system", "list", "--json"))
    assert listed == {
        "id": "a",
        "codes": ["H41.07"],
        "networks": [],
        "secrets": 1,
        "disabled": False,
        "all_or_nothing": False,
        "certificates": [],
        "clock_ahead_s": None,
        "clock_seen": None,
    }


def test_how_far_a_systems_clock_is_off_is_shown_where_it_was_measured(running: Site) -> None:  # QĐ 28/2018 Điều 14.4
    for name in ("a", "b"):
        assert running.truc("system", "add", name, "--code", f"H41.07.{name}").exit_code == 0
    running.desk.clocks = [{"id": "a", "clock_ahead_s": 61.25, "clock_seen_ms": 1_795_316_400_123, "samples": 3}]
    listed = running.truc("system", "list").stdout
    assert "nhanh 61.250 s" in listed and "chưa đo" in listed
    first, second = json_lines(running.truc("system", "list", "--json"))
    assert (first["clock_ahead_s"], first["clock_seen"]) == (61.25, "2026-11-22T10:00:00.123+07:00")
    assert (second["clock_ahead_s"], second["clock_seen"]) == (None, None)


def test_a_system_that_only_reads_figures_has_no_codes(mapped: Site) -> None:  # QĐ 28/2018 Điều 14.3
    assert mapped.truc("system", "add", "thong-ke", "--reporting", "--network", "10.0.0.0/8").exit_code == 0
    assert mapped.systems[0].codes == ()
    for args in ((), ("--reporting", "--code", "H41.07")):
        assert mapped.truc("system", "add", "b", *args).exit_code == 2


def test_a_system_is_bound_to_certificates_that_overlap_and_are_revoked(mapped: Site, tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(leaf(None).pem)
    assert mapped.truc("system", "add", "a", "--code", "H41.07", "--client-cert", str(tmp_path / "own.pem")).exit_code == 0
    (own,) = mapped.systems[0].certificates
    made = tmp_path / "given" / "a"
    shown = json_lines(mapped.truc("system", "certificate", "a", "--make", str(made), "--json"))
    assert [each["fingerprint"] for each in shown] == [mapped.systems[0].certificates[0].fingerprint, own.fingerprint]
    assert made.with_suffix(".key").stat().st_mode & 0o777 == 0o600
    assert mapped.truc("system", "certificate", "a", "--revoke", own.fingerprint[:12]).exit_code == 0
    assert [each.revoked for each in mapped.systems[0].certificates] == [False, True]
    assert "đã thu hồi" in mapped.truc("system", "certificate", "a").stdout
    assert "đã bị thu hồi" in mapped.truc("system", "certificate", "a", "--add", str(tmp_path / "own.pem")).stderr
    assert mapped.truc("system", "certificate", "a", "--none").exit_code == 0
    assert mapped.systems[0].certificates == ()
    assert "-" in mapped.truc("system", "list").stdout


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--add", "missing.pem"), "không đọc được"),
        (("--add", __file__), "không phải chứng thư"),
        (("--revoke", "ab"), "không có đúng một chứng thư"),
        (("--none", "--revoke", "ab"), "chỉ một trong"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused_with_the_reason(mapped: Site, args: tuple[str, ...], told: str) -> None:
    mapped.truc("system", "add", "a", "--code", "H41.07")
    result = mapped.truc("system", "certificate", "a", *args)
    assert result.exit_code != 0 and told in result.stderr
    assert mapped.truc("system", "certificate", "b").exit_code == Code.FAILED


def test_a_code_has_one_system(mapped: Site) -> None:  # QĐ 28/2018 Điều 7.3
    assert mapped.truc("system", "add", "a", "--code", "H41.07").exit_code == 0
    second = mapped.truc("system", "add", "b", "--code", "000.00.07.H41")
    assert (second.exit_code, second.stdout) == (Code.FAILED, "")
    assert "mã H41.07 đã thuộc hệ thống a" in second.stderr
    assert "truc system disable a" in second.stderr
    assert mapped.truc("system", "disable", "a").exit_code == 0
    assert mapped.truc("system", "add", "b", "--code", "H41.07").exit_code == 0
    assert mapped.truc("system", "disable", "a", "--undo").exit_code == Code.CONFIG, "b has the code now"
    assert [system.disabled for system in mapped.systems] == [True, False]


def test_an_id_is_registered_once(mapped: Site) -> None:
    mapped.truc("system", "add", "a", "--code", "H41.07")
    assert mapped.truc("system", "add", "a", "--code", "H54").exit_code == Code.FAILED


def test_a_code_of_another_node_is_refused_and_one_the_directory_lacks_is_pointed_out(mapped: Site) -> None:
    """No registration may draw another node's mail. # QĐ 28/2018 Điều 7.3"""
    outside = mapped.truc("system", "add", "a", "--code", "H54", "--code", "H41.07.99")
    assert outside.exit_code == 1
    assert "mã H54 không thuộc phạm vi của nút này" in outside.stderr
    unknown = mapped.truc("system", "add", "a", "--code", "H41.07.99")
    assert unknown.exit_code == 0
    assert "hôm nay danh mục không có mã H41.07.99" in unknown.stderr
    assert "--network" in unknown.stderr


def test_without_a_directory_a_system_is_added_with_a_warning(site: Site) -> None:
    result = site.truc("system", "add", "a", "--code", "H41.07")
    assert result.exit_code == 0
    assert "chưa kiểm tra được mã" in result.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("a", "--code", "null"), Code.USAGE),
        (("a", "--code", "H41.07", "--network", "10.0.0.1/8"), Code.USAGE),
        (("a", "--code", "H41.07", "--network", "trụ sở"), Code.USAGE),
        (("văn phòng", "--code", "H41.07"), Code.USAGE),
        (("a",), Code.USAGE),
    ],
)
def test_a_bad_registration_changes_nothing(mapped: Site, args: tuple[str, ...], code: Code) -> None:
    result = mapped.truc("system", "add", *args)
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert mapped.systems == ()


def test_a_secret_is_rotated_with_an_overlap(mapped: Site) -> None:
    mapped.truc("system", "add", "a", "--code", "H41.07")
    (old,) = mapped.systems[0].secrets
    assert mapped.truc("system", "rotate", "a", "--finish").exit_code == Code.FAILED, "nothing has begun"
    begun = mapped.truc("system", "rotate", "a")
    fresh = begun.stdout.strip()
    assert mapped.systems[0].secrets == (fresh, old) and fresh != old
    third = mapped.truc("system", "rotate", "a")
    assert (third.exit_code, third.stdout) == (Code.FAILED, "")
    assert mapped.truc("system", "rotate", "a", "--finish").exit_code == 0
    assert [system.secrets for system in mapped.systems] == [(fresh,)]


def test_a_system_that_is_not_there_cannot_be_rotated_or_disabled(mapped: Site) -> None:
    assert mapped.truc("system", "rotate", "ghost").exit_code == Code.FAILED
    assert mapped.truc("system", "disable", "ghost").exit_code == Code.FAILED


def test_a_systems_file_open_to_others_is_78(mapped: Site) -> None:
    (mapped.config.parent / "systems.json").chmod(0o644)
    for args in (("list",), ("add", "a", "--code", "H41.07")):
        result = mapped.truc("system", *args)
        assert result.exit_code == Code.CONFIG
        assert "chmod 600" in result.stderr


# config


def test_check_names_every_file_that_is_missing(site: Site) -> None:
    result = site.truc("config", "check")
    assert result.exit_code == Code.CONFIG
    for name in ("link.certificate", "link.trust", "office.certificate", "node.directory"):
        assert f"{name}: {site.config.parent}" in result.stderr


def test_check_is_content_when_everything_is_there(mapped: Site) -> None:
    for name in ("link.pem", "office.pem", "trust.pem"):
        (mapped.config.parent / name).touch()
    result = mapped.truc("config", "check")
    assert result.exit_code == 0, result.stderr
    (mapped.config.parent / "link.key").chmod(0o640)
    assert "chmod 600" in mapped.truc("config", "check").stderr


def test_check_points_at_the_line_of_a_mistake(site: Site) -> None:
    site.config.write_text(site.config.read_text().replace("listen_port = 7443", "listen_prt = 7443"))
    result = site.truc("config", "check")
    assert result.exit_code == Code.CONFIG
    assert re.search(r"node\.toml:\d+: link\.listen_prt", result.stderr)


def test_show_prints_every_option_with_its_origin(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUC_LINK__LISTEN_PORT", "9")
    lines = {line["key"]: (line["value"], line["origin"]) for line in json_lines(site.truc("config", "show", "--json"))}
    assert lines["link.listen_port"] == (9, "environment")
    assert lines["node.code"] == ("H41.07", "file")
    assert lines["link.idle_timeout_s"] == (15.0, "default")
    options = {f"{section}.{key}" for section, made in NodeConfig.model_fields.items() for key in made.annotation.model_fields}  # type: ignore[union-attr]
    assert set(lines) == options
    text = site.truc("config", "show").stdout
    assert re.search(r"link\.listen_port +9 +biến môi trường", text)


def test_run_hands_over_to_the_node_and_ends_with_its_code(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import node.app

    asked: list[Path] = []

    def main(path: Path) -> int:
        asked.append(path)
        return 78

    monkeypatch.setattr(node.app, "main", main)
    assert site.truc("run").exit_code == 78
    assert run("run", "--config", "/x/node.toml").exit_code == 78
    assert asked == [site.config, Path("/x/node.toml")]

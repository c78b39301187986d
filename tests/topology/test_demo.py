"""The demonstration: green with real nodes, and red when a package is lost, changed, or taken where it should be refused."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from node.cli.root import truc as cli
from node.config import load
from node.core.instant import VIETNAM
from node.core.package import Business, Priority
from node.documents.edxml import Reader, ReadLimits
from tests import instants
from topology import demo
from topology.demo import Parcel, Story, check_sent, documents, hand_in, play, receive, refused_documents, status_package
from topology.office import CallFailed, Rehearsal
from topology.processes import running

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=VIETNAM)
PATIENCE_S = 200.0


def read(data: bytes) -> Any:
    reader = Reader(ReadLimits(1 << 20, 1 << 20))
    reader.feed(data)
    return reader.close()


# --- the packages ------------------------------------------------------------------------------------------------------


def test_the_documents_are_what_the_story_says() -> None:
    new, update, express = (read(parcel.data) for parcel in documents(NOW))
    assert [party.code for party in new.recipients] == ["H14.05", "H14.09", "G22"]
    assert (update.business, update.business_document_id) == (Business.UPDATE, new.document_id)
    assert (express.priority, new.priority) == (Priority.EXPRESS, Priority.NORMAL)
    assert new.attachments[0].size_bytes == demo.LARGE_BYTES


def test_a_status_names_the_document_as_its_receiver_saw_it() -> None:
    parcel = documents(NOW)[0]
    parcel.doc_id = "d-1"
    status = read(status_package(NOW, parcel, "H14.05", "03"))
    (about,) = status.response_for
    assert (status.status, status.sender.code, about.organ, about.document_id) == ("03", "H14.05", "H41.07", "d-1")
    assert (about.code, about.date) == (read(parcel.data).number_notation, "2026/11/22")


# --- when it must be red -----------------------------------------------------------------------------------------------


class Mailman:
    """An office and the node behind it in one; each fault is a switch."""

    def __init__(self, *, damage: bool = False, forget: bool = False, lose: bool = False, take_all: bool = False) -> None:
        self.damage, self.forget, self.lose, self.take_all = damage, forget, lose, take_all
        self.packages: dict[str, bytes] = {}
        self.waits: list[str] = []
        self.last = ""

    async def send(self, package: bytes, kind: str = "edoc") -> Mapping[str, Any]:
        if not self.take_all and not package.rstrip().endswith(b"</edXML>"):
            return {"status": "FAIL", "ErrorCode": "22", "ErrorDesc": "[xml-malformed]"}
        if not self.take_all and b"H41.31" in package:
            return {"status": "FAIL", "ErrorCode": "18", "ErrorDesc": "hãy gửi đến mã thay thế H41.12. [recipient-closed]"}
        doc_id = f"d-{len(self.packages)}"
        self.packages[doc_id] = package
        if not self.lose:
            self.waits.append(doc_id)
        return {"status": "OK", "ErrorCode": "0", "ErrorDesc": "", "DocId": doc_id}

    async def waiting(self, kind: str = "edoc") -> list[Mapping[str, Any]]:
        return [{"docId": doc_id} for doc_id in self.waits]

    async def fetch(self, doc_id: str) -> bytes:
        return self.packages[doc_id] + b" " * self.damage

    async def settle(self, doc_id: str, word: str = "done") -> None:
        if not self.forget:
            self.waits.remove(doc_id)

    async def sent(self, doc_id: str) -> list[Mapping[str, Any]]:
        return [{"toCode": "H41.12", "sendStatus": "collected", "receiveStatus": self.last}]


class Offices:
    """Every office is the same mailman; the nodes behind it are at rest."""

    nodes: tuple[Mapping[str, Any], ...] = ({"code": ""},)

    def __init__(self, mailman: Mailman) -> None:
        self.offices = dict.fromkeys(("H41.07", "H14.05", "H14.09", "G22", "H41.12"), mailman)

    async def ask(self, node: Mapping[str, Any], path: str, **query: str) -> Mapping[str, Any]:
        return {"outbox": {"depth": 0}}


async def one_delivery(mailman: Mailman) -> list[str]:
    story, offices = Story(), cast(Rehearsal, Offices(mailman))
    parcel = Parcel("Thư", "G22", documents(NOW)[2].data, {"H41.12": ("03",)}, documents(NOW)[2].message)
    await hand_in(offices, story, parcel)
    await receive(offices, story, parcel, "H41.12")
    await check_sent(offices, story, parcel)
    return story.complaints


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PATIENCE_S", 0.05)
    monkeypatch.setattr(demo, "POLL_S", 0.01)


def with_status(code: str, **faults: bool) -> Mailman:
    mailman = Mailman(**faults)
    mailman.last = code
    return mailman


async def test_nothing_is_complained_of_when_all_is_well() -> None:
    assert await one_delivery(with_status("03")) == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("mailman", "complaint"),
    [
        (lambda: with_status("03", damage=True), "nội dung khác với lúc gửi"),
        (lambda: with_status("03", forget=True), "vẫn còn trong danh sách chờ lấy"),
        (lambda: with_status("01"), "danh sách đã gửi là"),
    ],
)
async def test_what_went_wrong_is_complained_of(mailman: Callable[[], Mailman], complaint: str) -> None:
    (told,) = await one_delivery(mailman())
    assert complaint in told


@pytest.mark.usefixtures("impatient")
async def test_a_package_that_never_arrives_ends_the_story() -> None:
    with pytest.raises(CallFailed, match=r"chưa thấy: Thư ở H41\.12"):
        await one_delivery(with_status("03", lose=True))


@pytest.mark.usefixtures("impatient")
async def test_a_door_that_takes_what_it_should_refuse_is_complained_of() -> None:
    story = Story()
    await play(cast(Rehearsal, Offices(with_status("03", take_all=True, forget=True))), story)
    titles = [title for title, _, _ in refused_documents(NOW)]
    assert [told for told in story.complaints if "trả lời không như mong đợi" in told] == [
        f"{title}: trả lời không như mong đợi" for title in titles
    ]


@pytest.mark.parametrize(("complaints", "code"), [([], 0), (["mất một văn bản"], 1)])
def test_the_exit_code_says_whether_all_went_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, complaints: list[str], code: int
) -> None:
    async def played(rehearsal: Rehearsal, story: Story) -> None:
        story.complaints += complaints

    async def shown(rehearsal: Rehearsal, story: Story) -> None:
        return None

    monkeypatch.setattr(demo, "play", played)
    for chapter in ("begin", "show", "count"):
        monkeypatch.setattr(demo, chapter, shown)
    ready = {"event": "ready", "ca": str(tmp_path / "ca.pem"), "nodes": []}
    (tmp_path / "ca.pem").write_text("")
    script = f"import sys; print({json.dumps(json.dumps(ready))}, flush=True); sys.stdin.read(); import signal; signal.pause()"
    monkeypatch.setattr(demo, "SANDBOX", (sys.executable, "-c", script))
    monkeypatch.setattr("topology.demo.ssl.create_default_context", lambda cafile: True)
    assert demo.main(["--dir", str(tmp_path)]) == code
    assert (f"Lỗi: {complaints[0]}" if complaints else "Xong: ") in capsys.readouterr().err


def test_a_sandbox_that_cannot_start_fails_the_demonstration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "SANDBOX", (sys.executable, "-c", "raise SystemExit(78)"))
    assert demo.main(["--dir", str(tmp_path)]) == 1


# --- its figures and times ------------------------------------------------------------------------------------------------

COUNTED = {
    "hub": {"G22": (1, 1), "H41.07": (1, 0), "H41.12": (0, 1), "H14.05": (0, 1), "H14.09": (0, 1)},
    "h41": {"H41.07": (1, 0), "H41.12": (0, 1)},
    "h41.07": {"H41.07": (1, 0)},
}
"""Of each node's subtree, what its organs sent and received: counted by hand from the story. # QĐ 28/2018 Điều 11"""


def truc(folder: Path, node: str, *args: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(cli, ["--config", str(folder / node / "node.toml"), *args, "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def look_at_figures_and_times(folder: Path) -> None:
    """While the tree runs: the outside recount at every tier, and every time that a command or the native door tells."""
    for node, counted in COUNTED.items():
        *rows, summary = truc(folder, node, "report", "day")
        figures = {row["organ"]: (row["sent"], row["received"]) for row in rows if "organ" in row}
        assert {organ: found for organ, found in figures.items() if found != (0, 0)} == counted
        assert len(figures) == sum("organ" in row for row in rows), "one row for every organ"
        assert (summary["event"], summary["coverage"]["missing"], summary["proof"]["holds"]) == ("summary", [], True)
        for args in (("status",), ("queue", "list"), ("held", "list"), ("system", "list"), ("report", "year")):
            assert list(instants.in_value(truc(folder, node, *args), " ".join(args))) == []
    exported = CliRunner().invoke(cli, ["--config", str(folder / "hub" / "node.toml"), "report", "month", "--format", "csv"])
    assert exported.exit_code == 0 and list(instants.in_value(exported.stdout, "csv")) == []
    assert list(instants.in_value(native(folder, "h41.07"), "native")) == []


def look_at_evidence_and_journals(folder: Path) -> None:
    """The way of what was sent across four hops is proven with the root alone, and every journal is as it was written."""
    with closing(sqlite3.connect(folder / "h41.07" / "data" / "node.db")) as db:
        sent = [doc_id for (doc_id,) in db.execute("SELECT doc_id FROM submission WHERE kind='edoc' ORDER BY envelope")]
    bundle = folder / "bundle.zip"
    for number, doc_id in enumerate(sent):
        (told,) = truc(folder, "h41.07", "evidence", doc_id, "-o", str(bundle))
        assert told["file"] == str(bundle)
        outcome = CliRunner().invoke(cli, ["verify", str(bundle), "--root", str(folder / "ca.pem"), "--json"])
        journeys = {line["recipient"]: line for line in map(json.loads, outcome.stdout.splitlines())}
        assert outcome.exit_code == 0 and {each["end"]["state"] for each in journeys.values()} == {"collected"}
        assert number or [hop["node"] for hop in journeys["H14.05"]["hops"]] == ["H41", "", "H14", "H14.05"]
        data = bundle.read_bytes()
        bundle.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
        assert CliRunner().invoke(cli, ["verify", str(bundle), "--root", str(folder / "ca.pem")]).exit_code == 1
    for path in folder.glob("*/node.toml"):
        assert truc(folder, path.parent.name, "audit", "verify")[0]["ok"] is True


def told_in_logs(folder: Path) -> list[str]:
    """What no log may hold: keys, secrets, tokens; subjects, contents and names of people in documents."""
    kept: dict[str, str] = {}
    for system in (each for path in folder.glob("*/systems.json") for each in json.loads(path.read_text())["systems"]):
        kept |= {secret: f"secret of {system['id']}" for secret in system["secrets"]}
    for path in folder.glob("*/data/admin.token"):
        kept[path.read_text().strip()] = str(path)
    for path in folder.rglob("*.key"):
        kept |= {line: str(path) for line in path.read_text().splitlines() if len(line) > 30 and "-" not in line}
    for parcel in documents(NOW):
        package = read(parcel.data)
        kept |= {package.subject: "subject", base64.b64encode(package.attachments[0].name.encode()).decode(): "attachment"}
        signed_by = re.search(r"<[^>]*FullName>([^<]+)<", parcel.data[:20_000].decode("utf-8", "ignore"))
        kept |= {signed_by.group(1): "name"} if signed_by is not None else {}
    assert len(kept) > 30
    logs = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*/node.log"))
    assert "package taken" in logs
    return [what for text, what in kept.items() if text in logs]


def native(folder: Path, node: str) -> list[Any]:
    """What the native door answers: the time, the figures, what waits."""
    settings, _ = load(folder / node / "node.toml", {})
    run = json.loads((settings.node.data_dir / "run.json").read_text())
    system = json.loads((folder / node / "systems.json").read_text())["systems"][0]
    credentials = base64.b64encode(f"{system['id']}:{system['secrets'][0]}".encode()).decode()
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    answers = []
    for path in ("time", "statistics", "mailbox?content=none"):
        asked = urllib.request.Request(
            f"https://127.0.0.1:{run['office_port']}/api/v1/{path}", headers={"Authorization": f"Basic {credentials}"}
        )
        with urllib.request.urlopen(asked, context=context, timeout=30) as answer:
            answers.append(json.loads(answer.read()))
    return answers


def scan_of_what_is_kept(folder: Path) -> Iterator[str]:
    """Logs and databases after the run."""
    for path in sorted(folder.glob("*/node.log")):
        yield from instants.in_lines(path)
    for path in sorted(folder.glob("*/data/node.db")):
        yield from instants.in_database(path)


# --- with real nodes ---------------------------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.timeout(PATIENCE_S)
def test_seven_nodes_deliver_everything_and_stay_until_told_to_stop(tmp_path: Path) -> None:
    folder, out_path, err_path = tmp_path / "tree", tmp_path / "out", tmp_path / "err"
    command = [sys.executable, "-m", "topology.demo", "--stay", "--dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        out_path.open("wb") as out,
        err_path.open("wb") as err,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=err) as process,
    ):
        try:
            while b"Ctrl-C" not in err_path.read_bytes():
                with pytest.raises(subprocess.TimeoutExpired):  # it may not end by itself
                    process.wait(0.2)
            assert len(running(folder.glob("*/node.toml"))) == 7
            look_at_figures_and_times(folder)
            look_at_evidence_and_journals(folder)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(PATIENCE_S)
    story, told = out_path.read_text(), err_path.read_text()
    assert code == 0, told
    assert "Xong: 3 văn bản và 9 trạng thái đến nơi, nguyên vẹn." in told
    assert "Số liệu ở mọi cấp khớp với nhau và với phần đếm lại độc lập." in told
    assert list(scan_of_what_is_kept(folder)) == []
    assert told_in_logs(folder) == []
    assert all(pids == () for pids in running(folder.glob("*/node.toml")).values())

    first = story[story.index("Văn bản mới") : story.index("Cập nhật văn bản đó")]
    times = re.findall(r"^(\S+) +(\S+) ", first, re.MULTILINE)[2:]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+07:00", at) for at, _ in times)
    assert {node for _, node in times} == {"H41.07", "H41", "gốc", "H14", "H14.05", "H14.09"}
    for sight in ("06 đã hoàn thành", "[recipient-closed]", "[xml-malformed]", "systems.json", "/vxp"):
        assert sight in story
    secrets = [json.loads(path.read_text())["systems"][0]["secrets"][0] for path in folder.glob("*/systems.json")]
    assert len(secrets) == 7
    assert not any(secret in story + told for secret in secrets)

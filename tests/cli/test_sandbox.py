"""`truc sandbox`: what it prints when the tree is ready, and how it says that the tree cannot run. The tree is a stand-in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from node.cli.root import truc
from node.config import ConfigError
from topology import local
from topology.local import SandboxError

Ready = dict[str, Any]


def node(code: str, parent: str | None) -> Ready:
    systems = [{"id": f"sys-{code or 'hub'}".lower(), "secret": "bí mật", "codes": [code or "G22"]}]
    return {
        "name": f"Điểm {code}",
        "code": code,
        "parent": parent,
        "public": "https://127.0.0.1:7",
        "systems": systems,
        "config": "/c",
    }


READY: Ready = {
    "event": "ready",
    "dir": "/tree",
    "zone": "small.test",
    "ca": "/tree/ca.pem",
    "nodes": [node("", None), node("H41", ""), node("H14", ""), node("H41.07", "H41")],
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def invoke(*arguments: str, error: Exception | None = None) -> Result:
        class Stand:
            def __init__(self, root: Path, topology: Path | None, say: Callable[[str, str], None], enrol: bool) -> None:
                self.root = root.absolute()
                say(f"root={root} topology={topology} enrol={enrol}", "")

            def run(self, announce: Callable[[Ready], None]) -> None:
                if error is not None:
                    raise error
                announce(READY)

        monkeypatch.setattr(local, "Sandbox", Stand)
        return CliRunner().invoke(truc, ["sandbox", *arguments])

    return invoke


def test_json_is_one_line_on_stdout_and_nothing_else(run: Callable[..., Result]) -> None:
    result = run("--json")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout) == READY


def test_without_options_it_is_the_folder_sandbox_and_its_own_tree(run: Callable[..., Result]) -> None:
    assert "root=sandbox topology=None" in run().stderr
    assert "root=/tree topology=t.toml enrol=False" in run("--dir", "/tree", "--topology", "t.toml").stderr
    assert "enrol=True" in run("--enrol").stderr


def test_people_see_the_tree_with_each_unit_under_its_province_and_no_secret(run: Callable[..., Result]) -> None:
    result = run()
    lines = [line for line in result.stdout.splitlines() if "[" in line]
    assert lines == ["Điểm  [nút gốc]", "    Điểm H41 [H41]", "        Điểm H41.07 [H41.07]", "    Điểm H14 [H14]"]
    assert "VXP: https://127.0.0.1:7/vxp" in result.stdout
    assert "hệ thống sys-h41: H41" in result.stdout
    assert "Ctrl-C để dừng" in result.stderr
    assert "bí mật" not in result.stdout


def test_english_is_there_for_those_who_ask(run: Callable[..., Result]) -> None:
    result = run("--lang", "en")
    assert "system sys-h41: H41" in result.stdout
    assert "Every node is ready" in result.stderr


def test_a_tree_that_cannot_run_ends_with_1_and_the_reason(run: Callable[..., Result]) -> None:
    result = run("--json", error=SandboxError("cổng bận — dừng nó", "port taken: stop it"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Lỗi: cổng bận — dừng nó" in result.stderr


def test_a_tree_that_cannot_be_used_ends_with_78_and_every_problem(run: Callable[..., Result]) -> None:
    result = run(error=ConfigError(["t.toml:3: sai một", "t.toml:9: sai hai"]))
    assert result.exit_code == 78
    assert "  t.toml:3: sai một\n  t.toml:9: sai hai\n" in result.stderr

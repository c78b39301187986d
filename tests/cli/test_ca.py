"""`truc ca`: a hub that can run after two commands, requests signed under the name of the code, revocation, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509

from node.cli.talk import Code
from tests.test_cli import run


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    assert run("init", "--dir", str(folder), "--name", "Nút gốc", "--zone", "small.test").exit_code == 0
    return folder


@pytest.fixture
def founded(hub: Path) -> Path:
    assert run("ca", "init", "--config", str(hub / "node.toml")).exit_code == 0
    return hub


def test_after_init_and_ca_init_a_hub_can_run(hub: Path) -> None:
    config = str(hub / "node.toml")
    made = run("ca", "init", "--config", config, "--json")
    assert made.exit_code == 0, made.stderr
    root = x509.load_pem_x509_certificate((hub / "trust.pem").read_bytes())
    from cryptography.hazmat.primitives.hashes import SHA256

    assert json.loads(made.stdout)["fingerprint"] == root.fingerprint(SHA256()).hex()
    assert "truc peer invite" in made.stderr
    checked = run("config", "check", "--config", config)
    assert checked.exit_code == 0, checked.stderr
    before = (hub / "link.pem").read_bytes()
    assert run("ca", "init", "--config", config).exit_code == 0
    assert (hub / "link.pem").read_bytes() == before


def test_a_request_is_signed_for_the_code_and_the_authority_below_is_made_ready(founded: Path, tmp_path: Path) -> None:
    below = tmp_path / "h41"
    named = ("--code", "H41", "--parent-url", "https://h:1", "--zone", "small.test")
    assert run("init", "--dir", str(below), "--name", "Tỉnh", *named).exit_code == 0
    asked = run("ca", "init", "--config", str(below / "node.toml"), "--json")
    csr = json.loads(asked.stdout)["csr"]
    refused = run("ca", "issue", "H41.07", "--csr", csr, "--config", str(below / "node.toml"))
    assert refused.exit_code == Code.FAILED
    assert "chưa có nơi cấp chứng thư" in refused.stderr
    signed = run(
        *("ca", "issue", "H41", "--csr", str(below / "link.csr"), "--authority-csr", csr, "--out", str(tmp_path / "out")),
        *("--config", str(founded / "node.toml"), "--json"),
    )
    assert signed.exit_code == 0, signed.stderr
    assert [Path(name).name for name in json.loads(signed.stdout)["files"]] == ["link.pem", "issuing.pem"]
    (below / "ca" / "issuing.pem").write_bytes((tmp_path / "out" / "issuing.pem").read_bytes())
    unit = ("ca", "issue", "H41.07", "--csr", str(below / "link.csr"), "--out", str(tmp_path / "unit"))
    assert run(*unit, "--config", str(below / "node.toml")).exit_code == 0
    foreign = run("ca", "issue", "H14.05", "--csr", csr, "--config", str(below / "node.toml"))
    assert foreign.exit_code == Code.FAILED
    assert "không được ký cho 05.h14.small.test" in foreign.stderr


def test_what_was_issued_is_listed_and_revoked_and_the_list_exported(founded: Path, tmp_path: Path) -> None:
    config = ("--config", str(founded / "node.toml"))
    csr = str(founded / "link.csr")
    assert run("ca", "issue", "H41", "--csr", csr, "--out", str(tmp_path), *config).exit_code == 0
    rows = [json.loads(line) for line in run("ca", "list", "--json", *config).stdout.splitlines()]
    assert [row["code"] for row in rows] == ["", "H41"]
    assert run("ca", "revoke", "H41", *config).exit_code == Code.USAGE
    assert run("ca", "revoke", "H41", "--yes", *config).exit_code == 0
    again = run("ca", "revoke", "H41", "--yes", *config)
    assert (again.exit_code, "truc ca list" in again.stderr) == (Code.FAILED, True)
    exported = run("ca", "export", "crl", *config)
    listed = x509.load_pem_x509_crl(exported.stdout.encode())
    assert [f"{each.serial_number:x}" for each in listed] == [rows[1]["serial"]]
    for what in ("root", "chain", "office"):
        assert run("ca", "export", what, *config).stdout.startswith("-----BEGIN CERTIFICATE-----")


def test_a_request_that_is_none_and_a_file_that_is_not_there_are_said(founded: Path, tmp_path: Path) -> None:
    config = ("--config", str(founded / "node.toml"))
    (tmp_path / "bad.csr").write_text("nothing")
    bad = run("ca", "issue", "H41", "--csr", str(tmp_path / "bad.csr"), *config)
    assert (bad.exit_code, "không dùng được tệp yêu cầu" in bad.stderr) == (Code.FAILED, True)
    missing = run("ca", "issue", "H41", "--csr", str(tmp_path / "none.csr"), *config)
    assert (missing.exit_code, "none.csr" in missing.stderr) == (Code.FAILED, True)


def test_a_node_without_the_option_hears_which_line_to_add(founded: Path) -> None:
    path = founded / "node.toml"
    path.write_text(path.read_text().replace('authority = "ca"\n', ""))
    told = run("ca", "list", "--config", str(path))
    assert told.exit_code == Code.CONFIG
    assert 'authority = "ca"' in told.stderr


def test_the_hub_changes_its_keys_and_its_root_at_once_and_another_node_asks_for_it(founded: Path, tmp_path: Path) -> None:
    config = ("--yes", "--config", str(founded / "node.toml"))
    old, issuing = (founded / "trust.pem").read_text(), (founded / "ca" / "issuing.pem").read_text()
    assert run("ca", "rotate", "root", "--config", str(founded / "node.toml")).exit_code == Code.USAGE
    assert run("ca", "rotate", "authority", *config).exit_code == 0
    assert (founded / "ca" / "issuing.pem").read_text() != issuing
    assert run("ca", "rotate", "root", *config).exit_code == 0
    both = (founded / "trust.pem").read_text()
    assert both.endswith(old) and both != old
    assert run("ca", "rotate", "root", "--finish", *config).exit_code == 0
    assert (founded / "trust.pem").read_text() + old == both
    assert run("ca", "rotate", "node", *config).exit_code == 0
    assert (founded / "data" / "renew").read_text() == "node\n"
    assert run("ca", "rotate", "node", "--finish", *config).exit_code == Code.USAGE
    again = run("ca", "init", "--config", str(founded / "node.toml"))
    assert again.exit_code == 0, again.stderr
    assert (founded / "ca" / "root.pem").read_text() + old == both, "founding again makes no other root"


def test_a_hub_whose_root_key_lies_elsewhere_is_not_founded_anew(founded: Path) -> None:
    (founded / "ca" / "root.key").unlink()
    before = (founded / "ca" / "root.pem").read_text()
    assert run("ca", "init", "--config", str(founded / "node.toml")).exit_code == 0
    assert (founded / "ca" / "root.pem").read_text() == before
    missing = run("ca", "rotate", "root", "--yes", "--config", str(founded / "node.toml"))
    assert (missing.exit_code, "root.key" in missing.stderr) == (Code.FAILED, True)

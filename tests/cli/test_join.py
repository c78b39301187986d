"""`truc peer` and `truc join` where no parent has to answer: what is said, what is refused before anything is made.

The whole road is in tests/processes/test_enrolment.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from node.adapters import directory_file, peers
from node.cli.talk import Code
from node.config import load
from node.core.directory import NodeEntry
from node.core.enrolment import Token
from node.core.identifier import HUB, OrgId
from tests.test_cli import run

H41 = OrgId(("H41",))
TOKEN = Token(H41, HUB, "small.test", b"r" * 32, b"k" * 32, b"s" * 16).text()


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    assert run("init", "--dir", str(folder), "--name", "Nút gốc", "--zone", "small.test").exit_code == 0
    assert run("ca", "init", "--config", str(folder / "node.toml")).exit_code == 0
    return folder


def test_an_invitation_is_printed_once_listed_without_its_token_and_replaced_by_the_next(hub: Path) -> None:
    config = ("--config", str(hub / "node.toml"))
    invited = run("peer", "invite", "000.00.00.H41", "--name", "Tỉnh", *config)
    assert invited.exit_code == 0, invited.stderr
    token = Token.read(invited.stdout)
    assert (token.code, token.parent, token.zone) == (H41, HUB, "small.test")
    assert "truc join https://127.0.0.1:7443" in invited.stderr
    assert "truc peer approve H41" in invited.stderr
    again = run("peer", "invite", "H41", "--json", *config)
    assert Token.read(json.loads(again.stdout)["token"]).secret != token.secret
    listed = run("peer", "list", "--json", *config)
    assert [(row["code"], row["state"]) for row in map(json.loads, listed.stdout.splitlines())] == [("H41", "invited")]
    assert "truc2-" not in listed.output + run("peer", "list", *config).output


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("approve", "H41"), "không có nút nào chờ duyệt"),
        (("transfer", "H41", "--yes"), "truc peer invite"),
        (("remove", "H41", "--yes"), "không phải nút đã kết nạp"),
    ],
)
def test_what_there_is_nobody_for_is_said(hub: Path, args: tuple[str, ...], told: str) -> None:
    result = run("peer", *args, "--config", str(hub / "node.toml"))
    assert result.exit_code == Code.FAILED
    assert told in result.stderr


def test_an_authority_that_may_not_give_the_name_is_said_before_a_token_is_made(hub: Path, tmp_path: Path) -> None:
    config = hub / "node.toml"
    config.write_text(config.read_text().replace('zone = "small.test"', 'zone = "other.test"'))
    result = run("peer", "invite", "H41", "--config", str(config))
    assert result.exit_code == Code.FAILED
    assert "không được ký cho mã đó" in result.stderr
    assert not (hub / "peers.json").exists()


def test_a_node_without_an_authority_hears_what_to_run(tmp_path: Path) -> None:
    assert run("init", "--dir", str(tmp_path), "--name", "Nút gốc").exit_code == 0
    result = run("peer", "invite", "H41", "--config", str(tmp_path / "node.toml"))
    assert (result.exit_code, "truc ca init" in result.stderr) == (Code.FAILED, True)


@pytest.mark.parametrize("token", [TOKEN[:-5], "truc2-", "nonsense", ""])
def test_a_mistyped_token_is_known_before_anything_is_made(tmp_path: Path, token: str) -> None:
    result = run("join", "https://127.0.0.1:1", "--token", token, "--dir", str(tmp_path / "new"))
    assert (result.exit_code, "Mã mời bị cắt cụt" in result.stderr) == (Code.USAGE, True)
    assert token == "" or token not in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_parent_that_does_not_answer_is_tried_again_with_the_same_keys(tmp_path: Path) -> None:
    command = ("join", "https://127.0.0.1:1", "--token", "-", "--dir", str(tmp_path / "new"))
    keys = []
    for _ in range(2):
        result = run(*command, stdin=TOKEN + "\n")
        assert (result.exit_code, "chạy lại đúng lệnh này" in result.stderr) == (Code.LATER, True)
        keys.append([(tmp_path / "new" / name).read_bytes() for name in ("link.key", "ca/issuing.key")])
        assert (tmp_path / "new" / "link.key").stat().st_mode & 0o777 == 0o600
    assert keys[0] == keys[1]
    assert not (tmp_path / "new" / "node.toml").exists(), "no node yet"


def test_an_address_that_is_none_is_said(tmp_path: Path) -> None:
    result = run("join", "http://hub", "--token", TOKEN, "--dir", str(tmp_path / "new"))
    assert (result.exit_code, "https://máy:cổng" in result.stderr) == (Code.USAGE, True)


def test_a_folder_of_another_node_is_left_alone(tmp_path: Path, hub: Path) -> None:
    named = ("--code", "H14", "--parent-url", "https://127.0.0.1:1", "--zone", "small.test")
    assert run("init", "--dir", str(tmp_path / "h14"), "--name", "Tỉnh", *named).exit_code == 0
    begun = run("join", "https://127.0.0.1:1", "--token", TOKEN, "--dir", str(tmp_path / "h14"))
    assert (begun.exit_code, "node.code là “H14”" in begun.stderr) == (Code.FAILED, True)
    made = run("join", "https://127.0.0.1:1", "--token", TOKEN, "--dir", str(hub))
    assert (made.exit_code, "đã là một nút" in made.stderr) == (Code.FAILED, True)


def test_a_book_of_peers_that_others_may_read_is_found_by_the_check(hub: Path) -> None:
    config = ("--config", str(hub / "node.toml"))
    assert run("peer", "invite", "H41", *config).exit_code == 0
    (hub / "peers.json").chmod(0o644)
    checked = run("config", "check", *config)
    assert (checked.exit_code, "chmod 600" in checked.stderr) == (Code.CONFIG, True)
    listed = run("peer", "list", *config)
    assert (listed.exit_code, "chmod 600" in listed.stderr) == (Code.FAILED, True)


def test_a_configuration_that_enrols_without_an_authority_is_refused(hub: Path) -> None:
    config = hub / "node.toml"
    config.write_text(config.read_text().replace('authority = "ca"\n', ""))
    result = run("config", "check", "--config", str(config))
    assert (result.exit_code, "link.authority" in result.stderr) == (Code.CONFIG, True)


def test_a_key_is_approved_by_its_digits_and_another_one_is_not(hub: Path) -> None:
    config = ("--config", str(hub / "node.toml"))
    token = Token.read(run("peer", "invite", "H41", *config).stdout)
    settings, _ = load(hub / "node.toml", {})
    assert settings.link.peers is not None
    pin = "ab" * 32

    def asked(book: peers.Book) -> peers.Book:
        return book.with_invitation(replace(book.invitations[0], pin=pin))

    peers.update(settings.link.peers, asked)
    unsaid = run("peer", "approve", "H41", *config)
    assert (unsaid.exit_code, "--key" in unsaid.stderr) == (Code.USAGE, True)
    for said in ("abababab", "cd" * 8):
        other = run("peer", "approve", "H41", "--key", said, *config)
        assert (other.exit_code, "chưa duyệt gì" in other.stderr) == (Code.FAILED, True)
    assert not peers.load(settings.link.peers).invitations[0].approved
    assert run("peer", "approve", "H41", "--key", "AB" * 8, *config).exit_code == 0
    assert peers.load(settings.link.peers).invitations[0].approved
    assert token.code == H41


def test_an_invitation_into_a_siblings_part_is_said(hub: Path) -> None:
    config = ("--config", str(hub / "node.toml"))
    directory = directory_file.load(hub / "directory.json")
    sibling = NodeEntry(H41, "Tỉnh", "", HUB, (H41,))
    (hub / "directory.json").write_text(directory_file.dump(replace(directory, nodes=(*directory.nodes, sibling))))
    told = run("peer", "invite", "H14", "--prefix", "H41.07", *config)
    assert (told.exit_code, "H41.07 nằm trong phần nút H41" in told.stderr) == (0, True)

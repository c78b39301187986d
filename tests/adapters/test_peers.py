"""The book of peers: kept whole under one lock, closed to others, and seen by the running node as it changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from node.adapters import peers
from node.adapters.folders import BadFile
from node.adapters.peers import Book, Peer, Peers
from node.core.enrolment import Invitation
from node.core.identifier import OrgId

H41, H14 = OrgId(("H41",)), OrgId(("H14",))
PIN = "a" * 64
PEER = Peer(H41, "Tỉnh", (PIN,), 5)
INVITED = Invitation(H14, "Tỉnh khác", "tỉnh", (H14,), "c" * 64, 1000, auto=True, pin=PIN, granted=("x", ""))


def book(path: Path, *changed: Peer) -> None:
    peers.update(path, lambda _: Book(changed, (INVITED,)))


def test_a_book_comes_back_whole_and_closed_to_others(tmp_path: Path) -> None:
    book(tmp_path / "peers.json", PEER)
    assert peers.load(tmp_path / "peers.json") == Book((PEER,), (INVITED,))
    assert (tmp_path / "peers.json").stat().st_mode & 0o777 == 0o600
    assert peers.load(tmp_path / "none.json") == Book()


def test_a_change_that_fails_leaves_the_book_as_it_was(tmp_path: Path) -> None:
    book(tmp_path / "peers.json", PEER)

    def fails(_: Book) -> Book:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        peers.update(tmp_path / "peers.json", fails)
    assert peers.load(tmp_path / "peers.json").peers == (PEER,)


def test_a_book_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    book(path, PEER)
    path.chmod(0o644)
    with pytest.raises(BadFile, match="chmod 600"):
        peers.load(path)
    path.write_text("{}")
    path.chmod(0o600)
    with pytest.raises(BadFile, match=r"peers\.json"):
        Peers(path, "small.test", {})


def test_the_last_invitation_to_a_code_counts_and_removal_takes_it_along() -> None:
    first = Book((PEER,), (INVITED,))
    again = Invitation(H14, "", "", (), "d" * 64, 5)
    assert first.with_invitation(again).invitations == (again,)
    assert first.without(H14) == Book((PEER,), ())


def test_as_many_may_have_been_invited_as_may_be_registered(tmp_path: Path) -> None:
    codes = [OrgId(("H41", f"{number:05}")) for number in range(peers.PEERS_MAX)]
    full = Book((), tuple(replace(INVITED, code=code) for code in codes))
    peers.update(tmp_path / "peers.json", lambda _: full)
    assert peers.load(tmp_path / "peers.json") == full


def test_the_running_node_sees_who_comes_and_goes_and_the_declared_stay(tmp_path: Path) -> None:
    path, met = tmp_path / "peers.json", list[OrgId]()
    declared = {"h14.small.test": (H14, frozenset[str]())}
    live = Peers(path, "small.test", declared, met.append)
    assert live.codes() == (H14,)
    book(path, PEER)
    assert live["h41.small.test"] == (H41, frozenset({PIN}))
    assert met == [H41, H14]
    book(path)
    assert "h41.small.test" not in live
    assert set(live) == {"h14.small.test"}


def test_a_book_that_breaks_later_keeps_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    book(path, PEER)
    live = Peers(path, "small.test", {})
    path.write_text("broken")
    with capture_logs() as logs:
        assert "h41.small.test" in live
    assert [line["log_level"] for line in logs] == ["error"]

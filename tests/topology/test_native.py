"""The native door's wire as an office speaks it, against the node's own reader and writer of it."""

from __future__ import annotations

import base64

from topology.native import BOUNDARY, basic, multipart, parts


def test_many_packages_come_back_as_they_went_in() -> None:
    packages = [b"mot", b"\r\n--", b"", b"\r\n\r\nba\r\n" * 3]
    assert parts(multipart(packages), f"multipart/mixed; boundary={BOUNDARY.decode()}") == packages
    assert parts(multipart(packages), f'multipart/mixed; boundary="{BOUNDARY.decode()}"; charset=x') == packages


def test_a_body_of_any_other_type_is_its_own_only_part() -> None:
    assert parts(b"{}", "application/json") == [b"{}"]


def test_who_calls_is_said_as_http_says_it() -> None:
    name, _, said = basic("sở-y-tế", "bí:mật").partition(" ")
    assert (name, base64.b64decode(said).decode()) == ("Basic", "sở-y-tế:bí:mật")

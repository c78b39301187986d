"""The wire of one call: what is signed is what a node accepts, and what is no answer is not taken for one."""

from __future__ import annotations

from datetime import datetime

import pytest

from node.adapters.http import vxp_signing as signing
from node.core.instant import VIETNAM
from node.core.office import System
from topology import vxp

SYSTEM = System("so-noi-vu", (), ("bí mật",))
NOW = datetime(2026, 11, 23, 7, 4, 5, 678_000, tzinfo=VIETNAM)


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def test_a_node_accepts_what_is_signed_and_reads_every_field() -> None:
    headers = raw(vxp.headers(SYSTEM.id, "bí mật", {"docId": "d-1", "from": "Sở Nội vụ"}, NOW))
    system, signed = signing.verify(signing.present(headers, 65536), {SYSTEM.id: SYSTEM}.get)
    signing.check_headers(signed, headers)
    assert system is SYSTEM
    assert dict(signed.values) == {
        "systemid": "so-noi-vu",
        "docId": "d-1",
        "from": "Sở Nội vụ",
        "timestamp": "23112026T070405+0678",
        "Content-Type": "application/json",
    }


def test_another_secret_another_instant_or_another_field_is_another_signature() -> None:
    macs = {
        vxp.headers(SYSTEM.id, secret, {"docId": doc_id}, now)["XroadVnpt-hash-header"]
        for secret, doc_id, now in (
            ("a", "d-1", NOW),
            ("b", "d-1", NOW),
            ("a", "d-2", NOW),
            ("a", "d-1", NOW.replace(microsecond=0)),
        )
    }
    assert len(macs) == 4


def test_the_same_call_is_signed_the_same() -> None:
    assert vxp.headers(SYSTEM.id, "a", {"docId": "d-1"}, NOW) == vxp.headers(SYSTEM.id, "a", {"docId": "d-1"}, NOW)


def test_a_package_goes_with_its_kind_and_its_digest() -> None:
    assert vxp.package_fields(b"<edXML>\xff</edXML>", "status") == {
        "servicetype": "eDoc",
        "messagetype": "status",
        "hash-file": "840f30ad3c032036dbcd34b9193d8feb107442758ae98fc8ff9ebf6ac71db195",
    }


def test_a_list_may_be_asked_for_one_package() -> None:
    assert vxp.list_fields("edoc") == {"servicetype": "eDoc", "messagetype": "edoc"}
    assert vxp.list_fields("edoc", "d-1")["docId"] == "d-1"


@pytest.mark.parametrize("status", ["OK", "FAIL"])
def test_an_answer_is_read_whether_it_says_yes_or_no(status: str) -> None:
    assert vxp.read_answer(b'{"status":"%s","data":[]}' % status.encode()) == {"status": status, "data": []}


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"[]", b"7", b"{}", b'{"status":1}', b'{"status":"MAYBE"}'])
def test_what_is_no_answer_is_not_taken_for_one(body: bytes) -> None:
    with pytest.raises(ValueError):  # JSON's own errors are ValueErrors too
        vxp.read_answer(body)


def test_a_package_comes_out_of_its_answer() -> None:
    assert vxp.package_in({"status": "OK", "data": "PGVkWE1MPv88L2VkWE1MPg=="}) == b"<edXML>\xff</edXML>"


@pytest.mark.parametrize("data", [None, [], "PGVkWE1M\n", "PGV"])
def test_a_damaged_package_is_not_taken_for_one(data: object) -> None:
    with pytest.raises(ValueError):  # base64's own error is a ValueError too
        vxp.package_in({"status": "OK", "data": data})

"""What a system bound to a certificate must show, decided by plain values."""

from __future__ import annotations

import pytest

from node.core.errors import Reason, Refused
from node.core.office import ClientCertificate, System

OLD = ClientCertificate(b"old", "0a", 1000, 2000)
NEW = ClientCertificate(b"new", "0b", 1500, 3000)
GONE = ClientCertificate(b"gone", "0c", 1000, 9000, revoked=True)
BOUND = System("so", (), ("x",), certificates=(NEW, OLD, GONE))


def shown(fingerprint: str, now_ms: int = 1700, system: System = BOUND) -> Reason | None:
    try:
        system.require_certificate(fingerprint, now_ms=now_ms, bound_ms=10)
    except Refused as refused:
        return refused.reason
    return None


def test_a_system_that_is_bound_to_none_may_show_what_it_likes() -> None:
    free = System("so", (), ("x",))
    assert [shown(each, system=free) for each in ("", "0a", "ff")] == [None, None, None]
    assert free.certificates_end_ms() is None


def test_either_of_two_certificates_serves_while_they_overlap() -> None:
    assert [shown("0a"), shown("0b")] == [None, None]
    assert BOUND.certificates_end_ms() == 3000  # a revoked one serves nobody


@pytest.mark.parametrize(
    ("fingerprint", "now_ms", "reason"),
    [
        ("", 1700, Reason.CLIENT_CERTIFICATE_MISSING),
        ("ff", 1700, Reason.CLIENT_CERTIFICATE_UNKNOWN),
        ("0c", 1700, Reason.CLIENT_CERTIFICATE_REVOKED),
        ("0b", 1489, Reason.CLIENT_CERTIFICATE_DATES),
        ("0b", 1490, None),
        ("0a", 2010, None),
        ("0a", 2011, Reason.CLIENT_CERTIFICATE_DATES),
    ],
)
def test_a_bound_system_shows_one_of_its_own_within_its_dates(fingerprint: str, now_ms: int, reason: Reason | None) -> None:
    assert shown(fingerprint, now_ms) is reason

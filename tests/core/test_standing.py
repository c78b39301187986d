"""What a chain is worth: revoked anywhere or not, by lists that are fresh or in their grace; alarms before the end."""

from __future__ import annotations

import pytest

from node.core.errors import Reason, Refused
from node.core.standing import ALARM_DAYS, DAY_MS, Revocations, alarm_days, judge, left_ms, revoked_ms

LEAF, AUTHORITY = ("province", 7), ("root", 2)
CHAIN = (LEAF, AUTHORITY)
ENDS = 1000
PROVINCE = Revocations("province", 1, 0, ENDS, {9: 5})
ROOT = Revocations("root", 1, 0, 2 * ENDS, {})
LISTS = {"province": PROVINCE, "root": ROOT}


def refusal(chain: tuple[tuple[str, int], ...], lists: dict[str, Revocations], old_ms: int | None = None) -> Reason:
    with pytest.raises(Refused) as caught:
        judge(chain, lists, old_ms=old_ms)
    return caught.value.reason


def test_a_chain_of_which_nothing_is_revoked_stands() -> None:
    judge(CHAIN, LISTS, old_ms=ENDS)
    assert revoked_ms(CHAIN, LISTS) is None


@pytest.mark.parametrize("place", [0, 1])
def test_a_leaf_or_an_authority_that_is_revoked_takes_the_chain_along(place: int) -> None:
    """Threats, row 22: the whole chain is checked."""
    issuer, serial = CHAIN[place]
    lists = {**LISTS, issuer: Revocations(issuer, 2, 0, ENDS, {serial: 600})}
    assert refusal(CHAIN, lists) is Reason.PEER_REVOKED
    assert revoked_ms(CHAIN, lists) == 600


def test_a_serial_is_revoked_by_the_authority_that_signed_it_and_by_no_other() -> None:
    judge((("other", 9), AUTHORITY), LISTS, old_ms=None)
    assert refusal((("province", 9), AUTHORITY), LISTS) is Reason.PEER_REVOKED


def test_the_first_revocation_of_a_chain_counts() -> None:
    both = {"province": Revocations("province", 1, 0, ENDS, {7: 800}), "root": Revocations("root", 1, 0, ENDS, {2: 300})}
    assert revoked_ms(CHAIN, both) == 300


def test_a_list_too_old_stops_traffic_and_one_that_is_missing_does_not() -> None:
    """Threats, row 22: a missing or expired list must not refuse at once; the grace is the program's. # Decision 13"""
    judge(CHAIN, LISTS, old_ms=ENDS)
    assert refusal(CHAIN, LISTS, ENDS + 1) is Reason.PEER_LIST_OLD
    judge(CHAIN, {"root": ROOT}, old_ms=ENDS + 1)
    judge(CHAIN, LISTS, old_ms=None)


def test_how_long_is_left_is_that_of_the_first_list_to_stop_traffic() -> None:
    assert left_ms(["province", "root"], LISTS, now_ms=400, grace_ms=50) == 650
    assert left_ms(["root"], LISTS, now_ms=400, grace_ms=50) == 1650
    assert left_ms(["nobody"], LISTS, now_ms=400, grace_ms=50) is None


@pytest.mark.parametrize(("days", "alarm"), [(61, None), (60, None), (59, 60), (29, 30), (6, 7), (0.5, 1), (-0.5, 0)])
def test_an_end_is_told_at_60_30_7_and_1_days(days: float, alarm: int | None) -> None:
    assert ALARM_DAYS == (60, 30, 7, 1)
    assert alarm_days(int(days * DAY_MS), 0) == alarm

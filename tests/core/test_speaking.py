"""A child presents what its subtree has made, or what a unit that once hung below it has; ends are told by those on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from node.core.custody import End, EndOf
from node.core.directory import Connection, Directory, Entry, NodeEntry
from node.core.envelope import KIND_DOCUMENT, KIND_NOTICE, KIND_STATUS, Header
from node.core.identifier import HUB, OrgId
from node.core.lifecycle import Transport
from node.core.routing import table_for
from node.core.speaking import may_carry, may_tell, presents, signs_for
from tests.adapters.pki import NOW_MS
from tests.making import header

DAY = date(2026, 11, 23)
LIFETIME_MAX_MS = 100 * 86_400_000


def code(text: str) -> OrgId:
    return OrgId.canonical(text)


H41, H54, UNIT, BELOW = map(code, ("H41", "H54", "H41.07", "H41.07.02"))


def node(at: OrgId, parent: OrgId | None) -> NodeEntry:
    return NodeEntry(at, f"Nút {at}", "", parent, (at,) if at.path else (code("G22"),))


ENTRIES = tuple(Entry(each, str(each), connection=Connection.OFFICIAL) for each in (code("G22"), H41, H54, UNIT, BELOW))
NODES = (node(HUB, None), node(H41, HUB), node(H54, HUB), node(UNIT, H41), node(BELOW, UNIT))
BEFORE = Directory(ENTRIES, NODES, "trục", "TRUC", 1)
AFTER = replace(
    BEFORE,
    nodes=tuple(replace(each, parent=H54) if each.code == UNIT else each for each in BEFORE.nodes),
    hung={UNIT: frozenset((H41, H54)), BELOW: frozenset((UNIT,))},
)


def made(origin: OrgId, sender: OrgId | None = None, kind: str = KIND_DOCUMENT) -> Header:
    return header(code("G22"), origin=origin, sender=sender or origin, kind=kind)


@pytest.mark.parametrize("kind", [KIND_DOCUMENT, KIND_STATUS, KIND_NOTICE])
def test_a_child_presents_what_its_subtree_has_made_and_the_parent_everything(kind: str) -> None:
    """QĐ 28/2018 Điều 13.2"""
    hub, province = table_for(BEFORE, HUB, frozenset()), table_for(BEFORE, H41, frozenset())
    assert presents(hub, made(BELOW, kind=kind), H41)
    assert not presents(hub, made(BELOW, kind=kind), H54)
    assert presents(province, made(H54, kind=kind), HUB)
    assert not presents(table_for(AFTER, HUB, frozenset()), made(UNIT, kind=kind), H41)


@pytest.mark.parametrize("origin", [UNIT, BELOW])
def test_what_a_unit_made_may_come_from_a_parent_that_it_or_one_above_it_once_had(origin: OrgId) -> None:
    assert may_carry(AFTER, made(origin), H41)
    assert may_carry(AFTER, made(origin), UNIT), "it hangs there still, whatever the directory says by now"
    assert not may_carry(BEFORE, made(origin), H54)
    assert not may_carry(AFTER, made(origin, sender=H41), H41), "the unit speaks for itself alone"
    assert not may_carry(AFTER, made(H41, sender=origin), H41), "and it alone for itself"
    assert not may_carry(AFTER, made(code("H41.99"), sender=H41), H41), "no node"


def test_a_branch_that_has_moved_hands_on_what_it_had_for_others() -> None:
    """A notice came down to the unit for one below it, who left it; then it left its parent."""
    assert may_carry(AFTER, made(H41), UNIT)
    assert may_carry(AFTER, made(H41), H54), "and so on, up to where it was seen before"
    assert not may_carry(BEFORE, made(H41), H54)
    assert not may_carry(AFTER, made(H54), H41)
    assert not may_carry(AFTER, made(code("H99")), UNIT), "no node"
    within = replace(BEFORE, hung={BELOW: frozenset((UNIT, H41)), UNIT: frozenset((H41,)), H41: frozenset((HUB,))})
    assert [each for each in (H41, UNIT, BELOW) if within.ever_elsewhere(each)] == [UNIT, BELOW]


def signs(directory: Directory, header: Header, now_ms: int = NOW_MS) -> bool:
    return signs_for(directory, header, now_ms, LIFETIME_MAX_MS)


def test_an_origin_signs_for_the_organs_below_its_prefixes_and_a_notice_for_itself() -> None:
    assert signs(BEFORE, made(H41, sender=code("H41.99")))
    assert not signs(BEFORE, made(H41, sender=H54))
    assert not signs(BEFORE, made(code("H99")))
    assert signs(BEFORE, made(HUB, kind=KIND_NOTICE))
    assert not signs(BEFORE, made(H41, sender=UNIT, kind=KIND_NOTICE))


@pytest.mark.parametrize("sender", [UNIT, BELOW, code("H41.07.05")])
def test_a_superior_does_not_sign_for_an_organ_that_has_a_node_of_its_own(sender: OrgId) -> None:
    """Threats, row 20: a parent cannot make a document of its child."""
    assert not signs(BEFORE, made(H41, sender=sender))
    assert signs(BEFORE, made(BELOW if sender == BELOW else UNIT, sender=sender))
    named = replace(BEFORE, since={UNIT: NOW_MS, BELOW: NOW_MS})
    assert signs(named, made(H41, sender=sender)), "it was made before that node was named"
    assert not signs(replace(BEFORE, since={UNIT: NOW_MS - 1, BELOW: NOW_MS - 1}), made(H41, sender=sender))
    assert not signs(named, made(H54, sender=sender))
    assert signs(named, made(H41, sender=sender), NOW_MS + LIFETIME_MAX_MS)
    assert not signs(named, made(H41, sender=sender), NOW_MS + LIFETIME_MAX_MS + 1), "that it is so old is its own word alone"


def test_a_parent_that_is_said_in_a_circle_ends_the_line() -> None:
    circle = replace(AFTER, hung={H41: frozenset((UNIT,)), UNIT: frozenset((H41,))})
    assert circle.ever_above(UNIT) == {UNIT, H54, H41, HUB}
    assert circle.ever_above(code("H99")) == frozenset()


@pytest.mark.parametrize(
    ("teller", "state", "may"),
    [
        (UNIT, Transport.COLLECTED, True),
        (H41, Transport.COLLECTED, False),  # above it, and yet not the one who knows
        (H41, Transport.EXPIRED, True),
        (HUB, Transport.REFUSED, True),
        (H54, Transport.EXPIRED, True),  # the origin's own parent, and the origin
        (BELOW, Transport.EXPIRED, False),
    ],
)
def test_a_collection_is_told_by_the_receivers_node_and_another_end_by_nodes_on_the_way(
    teller: OrgId, state: Transport, may: bool
) -> None:
    """QĐ 28/2018 Điều 9.2"""
    assert may_tell(BEFORE, DAY, H54, teller, EndOf(H54, "x", UNIT, End(state, 0))) is may

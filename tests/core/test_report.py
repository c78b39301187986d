"""A report from added figures: rows, totals by the parent of the day, what is missing, and the proof."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from node.core.directory import Connection, Directory, Entry, NodeEntry
from node.core.identifier import HUB, OrgId
from node.core.report import Found, Report, report, subtree
from node.core.statement import Counts, Figure, HeldDays, Pair


def org(text: str) -> OrgId:
    return OrgId.canonical(text)


H41, H54, UNIT = org("H41"), org("H54"), org("H41.07")
DAY = date(2026, 11, 22)
NODES = (
    NodeEntry(HUB, "trục", "", None, (org("G22"),)),
    NodeEntry(H41, "tỉnh", "", HUB, (H41,)),
    NodeEntry(UNIT, "sở", "", H41, (UNIT, org("K41"))),
    NodeEntry(H54, "tỉnh", "", HUB, (H54,)),
)
ENTRIES = tuple(Entry(org(code), code, connection=Connection.OFFICIAL) for code in ("G22", "H41", "H41.07", "H54", "K41"))
DIRECTORY = Directory((*ENTRIES, Entry(org("H54.02"), "chưa")), NODES, "trục", "TRUC", 1)


def figure(subject: str, node: str, parent: str | None, **counts: int) -> Figure:
    return Figure(subject, org(node), None if parent is None else org(parent), counts)


def made(
    *figures: Figure,
    node: OrgId = HUB,
    ever: tuple[Figure, ...] = (),
    held: dict[OrgId, HeldDays] | None = None,
    above: dict[OrgId, OrgId | None] | None = None,
) -> Report:
    return report(node, DIRECTORY, Found(figures, ever, held or {}, above or {}, ()), DAY, DAY, DAY, 1)


def test_a_subtree_is_the_node_and_all_below_it() -> None:
    assert subtree(DIRECTORY, HUB) == [HUB, H41, H54, UNIT]
    assert subtree(DIRECTORY, UNIT) == [UNIT]


def test_every_organ_with_an_office_has_a_row_and_tiers_are_the_sum_of_theirs() -> None:
    found = made(
        figure("oH41", "H41", "", sent=1),
        figure("oH41.07", "H41.07", "H41", sent=2, received=1),
        figure("oH41.07", "H41.07", "H41", sent=3),
        figure("oK41", "H41.07", "H41", sent=4),
        figure("oH54", "H54", "", sent=5),
        figure("rH41", "H41", "", duplicates=1),
        figure("sx", "H41", "", sent=10, received=1),
        figure("sx", "H41.07", "H41", sent=9, received=1),
        figure("sx", "H54", "", sent=5),
    )
    assert dict(found.organs) == {
        org("G22"): {},
        H41: {"sent": 1},
        UNIT: {"sent": 5, "received": 1},
        H54: {"sent": 5},
        org("K41"): {"sent": 4},
    }
    assert found.nodes[org("K41")] == UNIT
    assert dict(found.totals) == {
        HUB: {"sent": 15, "received": 1},
        H41: {"sent": 10, "received": 1},
        UNIT: {"sent": 9, "received": 1},
        H54: {"sent": 5},
    }
    assert found.road == {H41: {"duplicates": 1}}
    assert found.proof.holds
    assert found.open


def test_a_branch_whose_claim_is_not_the_sum_is_named() -> None:
    claim = figure("sx", "H41", "", sent=3)
    found = made(figure("oH41", "H41", "", sent=1), figure("oH41.07", "H41.07", "H41", sent=1), claim)
    assert found.proof.unequal == (H41,)
    assert made(figure("oH54", "H54", "", sent=1)).proof.unequal == (H54,), "nor one that claims nothing"


def test_figures_belong_to_the_parent_of_their_day() -> None:
    parts: tuple[tuple[str, Counts], ...] = (("H41", {"sent": 1}), ("H54", {"sent": 2}))
    found = made(
        *(Figure("oH41.07", UNIT, org(parent), counts) for parent, counts in parts),
        figure("sx", "H41", "", sent=1),
        figure("sx", "H54", "", sent=2),
    )
    assert found.organs[UNIT] == {"sent": 3}
    assert (found.totals[H41], found.totals[H54], found.totals[HUB]) == ({"sent": 1}, {"sent": 2}, {"sent": 3})
    assert found.proof.holds


def test_what_hung_below_a_unit_that_states_nothing_still_belongs_to_those_above_it() -> None:
    """H41 is silent; its unit hung under it, and under H54 in the end of another range."""
    figure_of = figure("oH41.07", "H41.07", "H41", sent=2)
    found = made(figure_of)
    assert (found.totals[H41], found.totals[HUB]) == ({"sent": 2}, {"sent": 2})
    assert made(figure_of, above={H41: H54, H54: HUB}).totals[H54] == {"sent": 2}


def test_a_pair_is_proven_where_both_codes_lie_wholly_inside() -> None:
    ever = (
        figure("pH41>H54", "H41", "", sent=3),
        figure("pH41>H54", "H54", "", collected=1),
        figure("pH41>H54", "", None, moving=1),
        figure("pK41>K41", "H41.07", "H41", sent=1, waiting=1),
        figure("pH41>H41", "H41", "", sent=1, collected=1),
    )
    hub = made(ever=ever)
    assert hub.proof.unbalanced == (Pair(H41, H54),)
    assert [(flow.pair.sender, flow.difference) for flow in hub.proof.flows] == [(H41, 0), (H41, 1), (org("K41"), 0)]
    assert [flow.pair for flow in made(node=H41, ever=ever).proof.flows] == [Pair(H41, H41), Pair(org("K41"), org("K41"))]
    assert [flow.pair for flow in made(node=UNIT, ever=ever).proof.flows] == [Pair(org("K41"), org("K41"))]


@pytest.mark.parametrize(("parents", "proven"), [((H41,), [H41, org("K41")]), ((H41, H54), []), ((HUB,), [])])
def test_a_pair_of_which_a_unit_ever_hung_elsewhere_is_proven_above_both_alone(
    parents: tuple[OrgId, ...], proven: list[OrgId]
) -> None:
    """What the unit counted there is in no statement that its parent of today holds."""
    ever = (figure("pH41>H41", "H41", "", sent=1, collected=1), figure("pK41>K41", "H41.07", "H41", collected=1))
    directory = replace(DIRECTORY, hung={UNIT: frozenset(parents), H41: frozenset((HUB, H54))})
    found = {each: report(each, directory, Found((), ever, {}, {}, ()), DAY, DAY, DAY, 1).proof for each in (H41, HUB)}
    assert [flow.pair.sender for flow in found[H41].flows] == proven
    assert [flow.pair.sender for flow in found[HUB].flows] == [H41, org("K41")]


def test_who_sent_no_statement_is_missing() -> None:
    held = {HUB: HeldDays(1, 0, DAY), H41: HeldDays(1, 0, DAY)}
    assert made(held=held).coverage.missing == (UNIT, H54)

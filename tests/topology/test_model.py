"""The tree as values: order, children, subtrees, and the directory it gives to every node."""

from __future__ import annotations

from dataclasses import replace

from node.core.identifier import HUB, OrgId
from topology.model import Tree


def test_parents_come_before_their_children_level_by_level(small: Tree) -> None:
    backwards = replace(small, sites=tuple(reversed(small.sites)))
    assert [str(site.code) for site in backwards.parents_first()] == ["", "H14", "H41", "H41.07"]


def test_a_site_in_a_circle_of_parents_is_reached_by_nobody(small: Tree) -> None:
    h41, h41_07 = OrgId(("H41",)), OrgId(("H41", "07"))
    circled = replace(small, sites=tuple(replace(site, parent=h41_07) if site.code == h41 else site for site in small.sites))
    assert [str(site.code) for site in circled.parents_first()] == ["", "H14"]


def test_a_subtree_is_a_site_and_all_below_it(small: Tree) -> None:
    assert [str(site.code) for site in small.subtree(OrgId(("H41",)))] == ["H41", "H41.07"]
    assert len(small.subtree(HUB)) == 4


def test_a_folder_is_named_by_the_code_and_survives_a_new_name(small: Tree) -> None:
    assert [site.folder for site in small.sites] == ["hub", "h41", "h14", "h41.07"]


def test_the_directory_holds_every_site_and_every_organ(small: Tree) -> None:
    directory = small.directory()
    assert directory.check() == []
    assert [(str(node.code), node.parent is None) for node in directory.nodes] == [
        ("", True),
        ("H41", False),
        ("H14", False),
        ("H41.07", False),
    ]
    assert {str(entry.code) for entry in directory.entries} == {"G22", "H41", "K41", "H41.07", "H41.07.01", "H22", "H14"}

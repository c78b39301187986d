"""Which names the authority of a site may sign. The certificates themselves: tests/adapters/test_authority.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from topology import certificates
from topology.load import load
from topology.model import Tree


def test_a_site_may_sign_for_its_subtree_and_all_its_prefixes(small: Tree) -> None:
    names = {str(site.code): certificates.permitted_names(small, site) for site in small.sites}
    assert names == {
        "": ("small.test",),
        "H41": ("h41.small.test", "k41.small.test"),
        "H14": ("h14.small.test",),
        "H41.07": ("07.h41.small.test",),
    }


def test_a_prefix_held_deeper_down_is_permitted_to_those_above(written: Callable[..., Path]) -> None:
    tree = load(written(('parent = "H41"', 'parent = "H41"\nprefixes = ["H41.07", "VXP.SAAS"]')))
    h41 = next(site for site in tree.sites if str(site.code) == "H41")
    assert certificates.permitted_names(tree, h41) == ("h41.small.test", "k41.small.test", "saas.vxp.small.test")

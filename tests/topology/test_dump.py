"""A tree written as TOML is read back equal, whatever its names and options; what `load` fills in is not written."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.directory import Connection, Entry
from node.core.identifier import HUB, OrgId
from topology.dump import dump, toml
from topology.load import default_topology, load
from topology.model import OfficeSystem, Options, Site, Tree

H41, G22 = OrgId(("H41",)), OrgId(("G22",))


def again(tree: Tree, folder: Path, heading: str = "") -> Tree:
    (folder / "tree.toml").write_text(dump(tree, heading), encoding="utf-8")
    return load(folder / "tree.toml")


def test_the_tree_that_comes_with_the_program_is_read_back_equal(tmp_path: Path) -> None:
    tree = load(default_topology())
    assert again(tree, tmp_path) == tree


def test_every_field_away_from_its_default_is_read_back(tmp_path: Path) -> None:
    system = OfficeSystem("a.1", (H41, OrgId(("H41", "07"))), ("10.1.0.0/16",), all_or_nothing=True)
    entry = Entry(
        code=H41,
        name='UBND "tỉnh"\\\n\x7f',
        old_code="NA.1",
        aliases=("Nghệ An", "NA"),
        kind="ubnd_tinh",
        valid_from=date(2020, 9, 15),
        valid_to=date(2030, 1, 1),
        successor=G22,
        receives_for=(H41, OrgId(("H41", "20"))),
        focal_only=True,
        connection=Connection.TRIAL,
        connection_from=date(2021, 1, 1),
    )
    options: Options = {"store": {"group_max": 7}, "link": {"probe_max_s": 1.5}}
    tree = Tree(
        zone="a.test",
        axis_name="Trục",
        axis_code="T",
        version=3,
        sites=(Site("Gốc", HUB, "", None, (G22,), options=options), Site("Con", H41, "tỉnh", HUB, (H41,), (system,))),
        entries=(entry,),
        options=options,
    )
    assert again(tree, tmp_path) == tree


def test_no_old_code_where_the_rule_would_give_one_stays_none(tmp_path: Path) -> None:
    tree = Tree("a.test", "Trục", "T", 1, (Site("Gốc", HUB, "", None, ()),), (Entry(H41, "A"), Entry(G22, "B", "000.00.00.G22")))
    assert [entry.old_code for entry in again(tree, tmp_path).entries] == ["", "000.00.00.G22"]
    assert dump(tree).count("old_code") == 1


def test_the_heading_comes_first_and_changes_nothing(tmp_path: Path, small: Tree) -> None:
    assert dump(small, "# một dòng\n").startswith("# một dòng\n\nzone = ")
    assert again(small, tmp_path, "# một dòng\n") == small


def test_what_load_fills_in_is_not_written(small: Tree) -> None:
    text = dump(small)
    assert "networks" not in text and "all_or_nothing" not in text and 'prefixes = ["H14"]' not in text


_values = st.recursive(
    st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.dates() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(_values)
def test_any_value_is_read_back_equal(value: Any) -> None:
    assert tomllib.loads(f"x = {toml(value)}")["x"] == value


def test_a_value_that_toml_has_no_form_for_is_not_written() -> None:
    with pytest.raises(TypeError, match="NoneType has no form in TOML"):
        toml(None)

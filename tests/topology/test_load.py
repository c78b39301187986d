"""A tree from TOML: what is read, what is refused with which line, and the tree that comes with the program."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from node.config import ConfigError
from node.core.directory import Connection
from node.core.errors import Reason, Refused
from node.core.identifier import HUB, OrgId
from node.core.routing import Deliver, Forward, Table, decide, table_for
from topology.load import LOOPBACK, default_topology, load, load_lawful
from topology.model import Tree

Write = Callable[..., Path]
DAY = date(2026, 11, 22)


def problem(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value).replace(str(path), "tree.toml")


def test_a_tree_is_read_as_written(small: Tree) -> None:
    assert small.hub.name == "Gốc"
    nghean = small.site(OrgId(("H41",)))
    assert nghean is not None
    assert (nghean.tier, nghean.parent, [str(code) for code in nghean.prefixes]) == ("tỉnh", HUB, ["H41", "K41"])
    assert (nghean.systems[0].id, nghean.systems[0].networks) == ("nghean", LOOPBACK)
    hagiang = next(entry for entry in small.entries if str(entry.code) == "H22")
    assert (hagiang.valid_to, hagiang.connection) == (date(2025, 6, 30), Connection.CLOSED)
    assert hagiang.old_code == "000.00.00.H22"


def test_a_site_holds_its_own_code_unless_it_says_otherwise(small: Tree) -> None:
    assert small.site(OrgId(("H14",))).prefixes == (OrgId(("H14",)),)  # type: ignore[union-attr]


def test_options_apply_to_all_sites_or_to_one(written: Write) -> None:
    tree = load(
        written(
            ('[[sites]]\nname = "Gốc"', '[options.link]\nprobe_max_s = 1.5\n\n[[sites]]\nname = "Gốc"'),
            ('codes = ["G22"]', 'codes = ["G22"]\n[sites.options.store]\ngroup_max = 7'),
        )
    )
    assert tree.options == {"link": {"probe_max_s": 1.5}}
    assert tree.hub.options == {"store": {"group_max": 7}}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('code = "H14"\nparent', 'code = "h14"\nparent', "tree.toml:27: sites[2].code: 'h14' không phải mã"),
        ('prefixes = ["G22"]', 'prefixes = ["G22", ""]', "tree.toml:10: sites[0].prefixes[1]: mã rỗng"),
        ('prefixes = ["G22"]', "prefixes = [22]", "tree.toml:10: sites[0].prefixes[0]: mã phải là chuỗi"),
        ('id = "vpcp"', 'id = "Văn phòng"', "tree.toml:12: sites[0].systems[0].id: phải có dạng"),
        (
            'id = "vpcp"',
            'id = "vpcp"\nnetwork = []',
            "tree.toml:13: sites[0].systems[0].network: không có tùy chọn này — có phải networks?",
        ),
        (
            'id = "vpcp"',
            'id = "vpcp"\nnetworks = ["home"]',
            "tree.toml:13: sites[0].systems[0].networks[0]: 'home' không phải dải",
        ),
        ('codes = ["G22"]', "codes = []", "tree.toml:13: sites[0].systems[0].codes"),
        ('zone = "small.test"', 'zone = "Small"', "tree.toml:1: zone: phải có dạng"),
        ('zone = "small.test"', f'zone = "{"z" * 64}.test"', "tree.toml:1: zone: phải có dạng"),
        ('zone = "small.test"', f'zone = "{"z." * 100}z"', "tree.toml:1: zone: phải có nhiều nhất 200 ký tự"),
        ('[axis]\nname = "Trục thử"', "[axis]", "tree.toml:3: axis.name: còn thiếu"),
        ('connection = "thu-nghiem"', 'connection = "sometimes"', "connection: chỉ nhận"),
        ("valid_from = 2020-09-15", "valid_from = 15", "organs[1].valid_from"),
        ('tier = "tỉnh"', "[sites.options.odd]", "sites[1].options: không có mục odd"),
        ('parent = "H41"', 'parent = "H41"\noptions.link.pull = 1', "sites[3].options: không có tùy chọn link.pull"),
        ('parent = "H41"', 'parent = "H41"\noptions.link.key = "x"', "sites[3].options: link.key được suy ra từ cây"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(written: Write, old: str, new: str, told: str) -> None:
    assert told in problem(written((old, new)))


def test_a_tree_that_breaks_a_law_is_refused_with_the_file_named(written: Write) -> None:
    path = written(('parent = "H41"', 'parent = "H99"'))
    with pytest.raises(ConfigError, match=r"tree\.toml: điểm kết nối \"Sở Nội vụ\""):
        load_lawful(path)


# --- the tree that comes with the program ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> Tree:
    return load_lawful(default_topology())


def test_the_default_tree_has_a_hub_two_provinces_and_four_units(demo: Tree) -> None:
    assert [str(site.code) for site in demo.parents_first()] == ["", "H41", "H14", "H41.07", "H41.12", "H14.05", "H14.09"]
    assert [len(site.systems) for site in demo.parents_first()] == [2, 2, 1, 2, 2, 2, 2]
    assert "G22" in {str(code) for system in demo.hub.systems for code in system.codes}


def test_every_leaf_of_the_default_tree_has_two_systems_with_a_code_each(demo: Tree) -> None:
    for site in demo.sites:
        if not demo.children(site.code):
            assert [len(system.codes) for system in site.systems] == [1, 1]


def owner(tree: Tree, code: OrgId, start: OrgId) -> str:
    """The code of the node at which a package for `code` ends that starts at the node `start`."""
    tables: dict[OrgId, Table] = {}
    for site in tree.sites:
        served = frozenset(code for system in site.systems for code in system.codes)
        tables[site.code] = table_for(tree.directory(), site.code, served)
    here = start
    for _ in range(2 * len(tables)):
        match decide(tables[here], code):
            case Deliver():
                return str(here)
            case Forward(neighbour):
                here = neighbour
            case refuse:
                raise AssertionError(refuse)
    raise AssertionError("a loop")


def test_every_office_of_the_default_tree_is_reached_from_every_node(demo: Tree) -> None:
    for site in demo.sites:
        for system in site.systems:
            for code in system.codes:
                assert {owner(demo, code, start.code) for start in demo.sites} == {str(site.code)}


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("000.00.00.G22", "G22"),
        ("000.00.00.H41", "H41"),
        ("000.00.00.H14", "H14"),
        ("000.00.00.G17", "G17"),
        ("000.00.00.A80", "A80"),
        ("28.22.H17", "H17.22.28"),
        ("vxp.saas.03", "VXP.SAAS.03"),
        ("vxp.saas.02", "VXP.SAAS.02"),
        ("0123456789-001", "0123456789-001"),
    ],
)
def test_the_codes_of_real_packages_have_an_office_in_the_default_tree(demo: Tree, written: str, code: str) -> None:
    directory = demo.directory()
    found = directory.resolve(written)
    assert str(found) == code
    assert directory.receiver(found, DAY).organ == found
    assert found in {code for site in demo.sites for system in site.systems for code in system.codes}


@pytest.mark.parametrize(
    ("code", "reason", "rule"),
    [
        ("G04", Reason.RECIPIENT_CLOSED, "G17"),
        ("H41.31", Reason.RECIPIENT_CLOSED, "H41.12"),
        ("H22", Reason.RECIPIENT_CLOSED, ""),
        ("K54", Reason.RECIPIENT_CLOSED, ""),
        ("H41.15", Reason.RECIPIENT_LOCKED, ""),
        ("H14.30", Reason.RECIPIENT_NOT_CONNECTED, ""),
        ("H99", Reason.RECIPIENT_UNKNOWN, ""),
    ],
)
def test_the_default_tree_has_a_code_for_every_refusal(demo: Tree, code: str, reason: Reason, rule: str) -> None:
    with pytest.raises(Refused) as caught:
        demo.directory().receiver(OrgId.canonical(code), DAY)
    assert (caught.value.reason, caught.value.rule) == (reason, rule)


@pytest.mark.parametrize(("code", "organ"), [("H41.20", "H41"), ("H41.07.02", "H41.07"), ("G11.05", "G11"), ("G11.77", "G11")])
def test_superiors_in_the_default_tree_receive_for_units_not_connected(demo: Tree, code: str, organ: str) -> None:
    assert str(demo.directory().receiver(OrgId.canonical(code), DAY).organ) == organ

"""Trees from a seed: the country of 2018 and of 2025, and any other; always lawful, always the same for the same seed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.directory import Connection, Receiving
from node.core.errors import Reason, Refused
from node.core.identifier import CODE_CHARS_MAX, HUB, OrgId
from node.core.routing import Deliver, Forward, decide, table_for
from topology.check import check
from topology.dump import dump
from topology.generate import BELOW_MAX, DAY_2018, DAY_2025, SHAPES, Shape, Tier, generate, heading, small
from topology.level1 import SEEN
from topology.load import default_topology, load, load_lawful
from topology.model import Tree

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 23)


def code(text: str) -> OrgId:
    return OrgId.canonical(text)


def tiers(tree: Tree) -> dict[str, int]:
    return dict(Counter(site.tier for site in tree.sites))


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("2018", {"trung ương": 1, "tỉnh": 63, "huyện": 700}),
        ("2025", {"trung ương": 1, "tỉnh": 34, "xã": 3_321}),
        ("nation", {"trung ương": 1, "tỉnh": 34, "bộ, ngành": 16}),
    ],
)
def test_a_country_has_its_sites_obeys_the_laws_and_is_read_back_equal(name: str, counts: dict[str, int], tmp_path: Path) -> None:
    tree = generate(SHAPES[name], 7)
    assert tiers(tree) == counts
    (tmp_path / "tree.toml").write_text(dump(tree, heading(tree, "lệnh")), encoding="utf-8")
    assert load_lawful(tmp_path / "tree.toml") == tree
    assert all(len(site.systems) == 1 for site in tree.sites)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 63),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
)
def test_any_small_tree_is_lawful_and_of_the_size_asked_for(
    seed: int, provinces: int, units: int, depth: int, systems: int, without: int, ministries: bool
) -> None:
    shape = replace(small(provinces, units, depth), systems=systems, without=without, ministries=ministries)
    tree = generate(shape, seed)
    assert check(tree) == []
    below = provinces * sum(units**level for level in range(depth))
    assert len(tree.sites) - tiers(tree).get("bộ, ngành", 0) == 1 + below
    assert all(len(site.systems) == systems for site in tree.sites)
    assert max(len(site.code.path) for site in tree.sites) == depth
    assert list(tree.parents_first()) == sorted(tree.sites, key=lambda site: len(site.code.path))


def test_the_same_seed_gives_the_same_tree_in_every_process() -> None:
    script = "import hashlib, topology.generate as g, topology.dump as d; t = g.generate(g.SHAPES['2018'], 3)"
    script += "; print(hashlib.sha256(d.dump(t, g.heading(t, '')).encode()).hexdigest())"
    tree = generate(SHAPES["2018"], 3)
    wanted = hashlib.sha256(dump(tree, heading(tree, "")).encode()).hexdigest()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        told = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
        assert told.stdout.strip() == wanted


def test_another_seed_gives_another_tree_of_the_same_size() -> None:
    first, second = generate(SHAPES["2018"], 1), generate(SHAPES["2018"], 2)
    assert first != second and len(first.sites) == len(second.sites)
    drawn = {tuple(site.code for site in generate(small(3, 1, 1), seed).sites) for seed in range(5)}
    assert len(drawn) > 1


def test_provinces_differ_in_size_unless_all_are_to_be_even() -> None:
    tree = generate(SHAPES["2025"], 7)
    sizes = [len(tree.children(site.code)) for site in tree.children(HUB)]
    assert sum(sizes) == 3_321 and 30 < min(sizes) < 80 and 110 < max(sizes) < 200
    even = generate(small(4, 3, 2), 7)
    assert [len(even.children(site.code)) for site in even.children(HUB)] == [3, 3, 3, 3]


def test_zone_axis_and_options_are_those_of_the_demo() -> None:
    tree, demo = generate(small(), 0), load(default_topology())
    for name in ("zone", "axis_name", "axis_code", "version"):
        assert getattr(tree, name) == getattr(demo, name)
    assert tree.options == {"link": demo.options["link"]}, (
        "a rehearsal on one machine states its figures at once, a country need not"
    )
    assert tree.hub.systems == (replace(demo.hub.systems[0], id="vpcp", codes=(code("G22"),)),)


def test_a_merged_province_is_closed_followed_and_covered() -> None:
    directory = generate(SHAPES["nation"], 0).directory()
    for closed, open_ in (("H54", "H31"), ("K54", "K31"), ("H54.07", "H31")):
        with pytest.raises(Refused) as refused:
            directory.receiver(code(closed), DAY)
        assert (refused.value.reason, refused.value.rule) == (Reason.RECIPIENT_CLOSED, open_)
        assert directory.owner(code(closed)) == code("H31")
    assert directory.entry(code("H54"), date(2025, 6, 30)) is not None
    hub, hungyen = (table_for(directory, place, frozenset({code("H31"), code("K31")})) for place in (HUB, code("H31")))
    assert decide(hub, code("H54.07")) == Forward(code("H31"))
    assert decide(hungyen, code("K31")) == Deliver()


def test_before_the_merger_its_provinces_stood() -> None:
    directory = generate(SHAPES["2018"], 0).directory()
    assert directory.receiver(code("H54"), DAY_2018) == directory.receiver(code("H54"), DAY) == Receiving(code("H54"))
    assert directory.name(code("H57"), DAY) == "UBND tỉnh Thừa Thiên Huế"


def test_a_renamed_organ_keeps_its_code_and_its_history() -> None:
    directory = generate(SHAPES["nation"], 0).directory()
    names = [directory.name(code(text), day) for text in ("H57", "G10") for day in (date(2024, 5, 1), DAY)]
    assert names[:2] == ["UBND tỉnh Thừa Thiên Huế", "UBND thành phố Huế"]
    assert names[2:] == ["Bộ Nông nghiệp và Phát triển nông thôn", "Bộ Nông nghiệp và Môi trường"]
    assert directory.receiver(code("H57"), date(2024, 5, 1)) == Receiving(code("H57"))


def test_a_closed_ministry_names_its_successor_only_where_it_is_known() -> None:
    closed = {
        str(e.code): e
        for e in generate(SHAPES["nation"], 0).entries
        if e.connection is Connection.CLOSED and e.code.path[0][0] == "G"
    }
    assert {name: str(entry.successor or "") for name, entry in closed.items()} == {
        "G04": "G17",
        **dict.fromkeys(("G05", "G07", "G13", "G14"), ""),
    }


def test_ministries_are_added_to_any_shape_and_the_one_that_keeps_the_axis_stays_at_the_hub() -> None:
    tree = generate(replace(small(1, 1, 2), ministries=True), 0)
    assert tiers(tree) == {"trung ương": 1, "tỉnh": 1, "bộ, ngành": 16, "đơn vị": 1}
    assert tree.site(code("G22")) is None
    assert tree.hub.prefixes == (code("G22"),)
    assert len(generate(replace(SHAPES["2018"], ministries=True), 0).sites) == 764 + 21


def test_a_further_office_system_serves_an_organ_of_its_own_below_the_site() -> None:
    tree = generate(replace(small(1, 2, 2), systems=3), 0)
    province = tree.children(HUB)[0]
    served = [[str(each) for each in system.codes] for system in province.systems]
    assert served == [[str(province.code), f"K{str(province.code)[1:]}"], [f"{province.code}.03"], [f"{province.code}.04"]]
    assert [system.id for system in tree.hub.systems] == ["vpcp", "vpcp.2", "vpcp.3"]


def test_organs_without_an_office_system_are_of_every_sort_and_resolve_so() -> None:
    tree = generate(replace(small(1, 2, 2), without=1), 0)
    directory, province = tree.directory(), tree.children(HUB)[0].code
    told: list[object] = []
    for number in range(3, 7):
        try:
            told.append(directory.receiver(OrgId((*province.path, f"{number:02}")), DAY))
        except Refused as refused:
            told.append((refused.reason, refused.rule))
    assert told[0] in [(Reason.RECIPIENT_CLOSED, f"{province}.{number:02}") for number in (1, 2)]
    closed = next(entry for entry in tree.entries if entry.connection is Connection.CLOSED and len(entry.code.path) > 1)
    assert closed.valid_to == DAY_2025 - timedelta(days=1), "closed before the first day"
    assert told[1:] == [
        (Reason.RECIPIENT_LOCKED, ""),
        Receiving(province, province),
        (Reason.RECIPIENT_NOT_CONNECTED, ""),
    ]


def test_what_is_made_up_says_so_in_its_name_and_what_is_not_does_not() -> None:
    for tree in (generate(SHAPES["2018"], 1), generate(replace(small(2, 2, 4), systems=2, ministries=True), 1)):
        for entry in tree.entries:
            assert ("diễn tập" in entry.name) == (len(entry.code.path) > 1), entry
        assert all(("diễn tập" in site.name) == (len(site.code.path) > 1) for site in tree.sites)


def test_names_are_vietnamese_and_kinds_those_of_the_tier() -> None:
    tree = generate(SHAPES["2025"], 1)
    kinds = Counter(entry.kind for entry in tree.entries)
    assert (kinds["ubnd_xa"], kinds["ubnd_tinh"], kinds["hdnd_tinh"]) == (3_321, 34 + 29 + 1, 34 + 29 + 1)
    words = Counter(site.name.split()[0] for site in tree.sites if site.tier == "xã")
    assert set(words) == {"Xã", "Phường"} and words["Xã"] > 2 * words["Phường"] > 0
    name = next(entry.name for entry in tree.entries if entry.kind == "ubnd_xa")
    assert name.startswith(("UBND xã diễn tập ", "UBND phường diễn tập ")) and name.endswith(", tỉnh An Giang")


def test_groups_are_as_wide_as_a_site_needs_and_codes_stay_within_their_length() -> None:
    tree = generate(SHAPES["2025"], 7)
    for province in tree.children(HUB):
        widths = {len(site.code.path[1]) for site in tree.children(province.code)}
        assert widths == {3 if len(tree.children(province.code)) > 94 else 2}
    deep = Shape(DAY_2018, 1, tuple(Tier(f"cấp {level}", "", 100, even=True) for level in range(2, 9)))
    longest = max(len(str(entry.code)) for entry in generate(replace(deep, systems=2), 0).entries)
    assert longest <= CODE_CHARS_MAX
    assert check(generate(deep, 0)) == []


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: small(provinces=0), "provinces = 0: 1..34"),
        (lambda: small(provinces=64), "provinces = 64: 1..63"),
        (lambda: small(units=0), f"units = 0: 1..{BELOW_MAX}"),
        (lambda: small(depth=9), "depth = 9: 1..8"),
        (lambda: small(10, 10, 8), "sites = "),
        (lambda: replace(small(), systems=0), "systems = 0: 1..20"),
        (lambda: replace(small(), without=-1), "without = -1: 0..20"),
        (lambda: generate(small(1, BELOW_MAX - 3, 2), 0), f"more than {BELOW_MAX} codes below one site"),
    ],
)
def test_a_tree_past_its_bounds_is_refused_by_name(make: object, told: str) -> None:
    with pytest.raises(ValueError, match=told.replace(".", r"\.")):
        make()  # type: ignore[operator]


def test_the_heading_says_which_codes_no_source_has_shown() -> None:
    nation = generate(SHAPES["nation"], 0)
    text = heading(nation, "truc topology generate --shape nation")
    assert "mã diễn tập, không phải mã thật" in text and "truc topology generate --shape nation\n" in text
    listed = {word for line in text.splitlines() if line.startswith("#   H") for word in line.split()[1:]}
    assert len(listed) == 63 - len(SEEN) and not listed & SEEN
    assert all(line.startswith("#") for line in text.splitlines())


def test_the_nation_in_configs_is_what_the_generator_makes() -> None:
    """Written anew by `truc topology generate --shape nation -o configs/nation.toml`."""
    tree = generate(SHAPES["nation"], 0)
    text = dump(tree, heading(tree, "truc topology generate --shape nation --seed 0"))
    assert (ROOT / "configs" / "nation.toml").read_text(encoding="utf-8") == text

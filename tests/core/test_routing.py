"""Every served code is reached by the shortest way from everywhere, and nothing unknown travels for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.directory import Directory, NodeEntry
from node.core.errors import Reason
from node.core.identifier import HUB, OrgId
from node.core.routing import Child, Decision, Deliver, Forward, Refuse, Table, decide, decide_node, table_for

UNKNOWN = Refuse(Reason.RECIPIENT_UNKNOWN)


def code(text: str) -> OrgId:
    return OrgId.canonical(text)


def codes(*texts: str) -> tuple[OrgId, ...]:
    return tuple(map(code, texts))


def child(text: str, *prefixes: str) -> Child:
    return Child(code(text), codes(*(prefixes or (text,))))


HUB_TABLE = Table(
    HUB,
    codes("G22"),
    frozenset(codes("G22", "H41.99")),
    (child("H41"), child("H54", "H54", "K54", "0123456789-001"), child("H54.07", "H54.07"), child("VXP.SAAS")),
    None,
)
PROVINCE = Table(code("H41"), codes("H41"), frozenset(codes("H41", "H41.01")), (child("H41.07"),), HUB)


# one table


@pytest.mark.parametrize(
    ("recipient", "decision"),
    [
        ("G22", Deliver()),
        ("H41.99", Deliver()),
        ("G22.01", UNKNOWN),
        ("H41", Forward(code("H41"))),
        ("H41.07", Forward(code("H41"))),
        ("H54", Forward(code("H54"))),
        ("K54", Forward(code("H54"))),
        ("K54.01", Forward(code("H54"))),
        ("H54.08", Forward(code("H54"))),
        ("H54.07", Forward(code("H54.07"))),
        ("H54.07.01", Forward(code("H54.07"))),
        ("0123456789-001", Forward(code("H54"))),
        ("0123456789-002", UNKNOWN),
        ("VXP.SAAS.03", Forward(code("VXP.SAAS"))),
        ("VXP", UNKNOWN),
        ("H5", UNKNOWN),
        ("H544", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_the_hub_serves_its_own_sends_down_by_the_longest_prefix_and_refuses_the_rest(recipient: str, decision: Decision) -> None:
    assert decide(HUB_TABLE, code(recipient)) == decision


@pytest.mark.parametrize(
    ("recipient", "decision"),
    [
        ("H41.01", Deliver()),
        ("H41", Deliver()),
        ("H41.01.05", UNKNOWN),
        ("H41.02", UNKNOWN),
        ("H41.07.05", Forward(code("H41.07"))),
        ("H54", Forward(HUB)),
        ("K41", Forward(HUB)),
        ("NOBODY", Forward(HUB)),
    ],
)
def test_a_province_refuses_the_unknown_under_its_own_code_and_sends_up_the_rest(recipient: str, decision: Decision) -> None:
    assert decide(PROVINCE, code(recipient)) == decision


def test_an_office_here_goes_before_a_child_that_covers_its_code() -> None:
    table = Table(code("H41"), codes("H41"), frozenset(codes("H41.07")), (child("H41.07"),), HUB)
    assert decide(table, code("H41.07")) == Deliver()
    assert decide(table, code("H41.07.01")) == Forward(code("H41.07"))


def test_a_prefix_that_node_and_child_both_hold_is_the_child_s() -> None:
    table = Table(code("H54"), codes("H54", "K54"), frozenset(), (child("H54.05", "H54.05", "K54"),), HUB)
    assert decide(table, code("K54")) == Forward(code("H54.05"))


def test_a_longer_prefix_of_the_node_itself_keeps_its_child_out() -> None:
    table = Table(HUB, codes("H41.99"), frozenset(), (child("H41"),), None)
    assert decide(table, code("H41.99.01")) == UNKNOWN


def test_a_unit_that_hangs_elsewhere_is_sent_up_though_its_province_is_here() -> None:
    table = Table(code("H41"), codes("H41"), frozenset(), (child("H41.07"),), HUB, away=codes("H41.99"))
    assert decide(table, code("H41.99.01")) == Forward(HUB)
    assert decide(table, code("H41.98")) == UNKNOWN


@pytest.mark.parametrize(
    ("table", "node", "decision"),
    [
        (HUB_TABLE, "", Deliver()),
        (HUB_TABLE, "H41", Forward(code("H41"))),
        (HUB_TABLE, "H41.99", Forward(code("H41"))),
        (HUB_TABLE, "G22", UNKNOWN),
        (HUB_TABLE, "H99", UNKNOWN),
        (PROVINCE, "H41", Deliver()),
        (PROVINCE, "", Forward(HUB)),
        (PROVINCE, "H41.07", Forward(code("H41.07"))),
        (PROVINCE, "H41.01", UNKNOWN),
        (PROVINCE, "H54", Forward(HUB)),
    ],
)
def test_a_message_for_a_node_follows_the_node_s_code_and_no_office_takes_it(table: Table, node: str, decision: Decision) -> None:
    assert decide_node(table, code(node)) == decision


# tables from the directory


def directory(*nodes: NodeEntry) -> Directory:
    return Directory((), nodes, "Trục liên thông văn bản quốc gia", "TRUC", 1)


def node(text: str, parent: str | None, *prefixes: str) -> NodeEntry:
    return NodeEntry(code(text), f"Nút {text}", "", None if parent is None else code(parent), codes(*prefixes))


def test_a_child_is_reached_by_its_prefixes_and_those_of_all_below_it() -> None:
    tree = directory(
        node("", None, "G22"),
        node("H54", "", "H54"),
        node("H54.05", "H54", "H54.05", "K54"),
        node("H54.05.01", "H54.05", "H54.05.01", "0123456789-001"),
        node("H41", "", "H41"),
    )
    served = frozenset(codes("G22"))
    hub = table_for(tree, HUB, served)
    assert (hub.code, hub.own, hub.served, hub.parent, hub.away) == (HUB, codes("G22"), served, None, ())
    assert [one.code for one in hub.children] == list(codes("H54", "H41"))
    assert set(hub.children[0].prefixes) == set(codes("H54", "H54.05", "K54", "H54.05.01", "0123456789-001"))
    assert decide(hub, code("K54")) == decide(hub, code("0123456789-001")) == Forward(code("H54"))
    middle = table_for(tree, code("H54"), frozenset())
    assert (middle.own, middle.parent, [one.code for one in middle.children]) == (codes("H54"), HUB, [code("H54.05")])
    assert decide(middle, code("K54")) == Forward(code("H54.05"))
    assert decide(middle, code("G22")) == Forward(HUB)


def test_a_table_knows_the_longer_prefixes_that_hang_elsewhere() -> None:
    tree = directory(
        node("", None, "H41.98"), node("H41", "", "H41"), node("H41.07", "H41", "H41.07"), node("H41.99", "", "H41.99")
    )
    assert table_for(tree, code("H41"), frozenset()).away == codes("H41.98", "H41.99")
    assert table_for(tree, code("H41.07"), frozenset()).away == ()
    assert table_for(tree, HUB, frozenset()).away == ()


def test_a_node_that_the_directory_does_not_have_gets_no_table() -> None:
    with pytest.raises(ValueError, match='no node "H99"'):
        table_for(directory(node("", None)), code("H99"), frozenset())


def test_parents_that_run_in_a_circle_do_not_hang_the_reader() -> None:
    tree = directory(node("", None), node("H41", "H42", "H41"), node("H42", "H41", "H42"))
    assert table_for(tree, code("H41"), frozenset()).children == (Child(code("H42"), codes("H42", "H41")),)
    circle = [node("H41", "H40", "H41"), node("H42", "H41", "H42"), node("H41", "H42", "H41")]
    below = directory(node("", None), node("H40", "", "H40"), *circle)
    assert table_for(below, HUB, frozenset()).children == (Child(code("H40"), codes("H40", "H41", "H42")),)


# whole trees


@dataclass(frozen=True)
class Tree:
    """A random tree with the answer known apart from the code under test: which node owns which office's code."""

    directory: Directory
    tables: dict[OrgId, Table]
    owners: dict[OrgId, OrgId]
    depth: int


def _owner(nodes: list[NodeEntry], recipient: OrgId) -> OrgId | None:
    held = [(len(prefix.path), entry.code) for entry in nodes for prefix in entry.prefixes if prefix.covers(recipient)]
    return max(held)[1] if held else None


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Depth 1 to 8. A node's code follows its parent's, or is an independent one; lists hold foreign prefixes as well."""
    depth = draw(st.integers(1, 8))
    paths: list[tuple[int, ...]] = [()]
    spine = tuple(draw(st.integers(0, 2)) for _ in range(depth))
    paths += [spine[:length] for length in range(1, depth + 1)]
    for _ in range(draw(st.integers(0, 12))):
        above = draw(st.sampled_from(paths))
        new = (*above, draw(st.integers(0, 3)))
        if len(new) <= depth and new not in paths:
            paths.append(new)
    free = [code(f"{letter}{number:02}") for letter in "KGA" for number in range(20)]
    free += [code(f"012345678{number}-001") for number in range(8)]
    names: dict[tuple[int, ...], OrgId] = {(): HUB}
    for path in sorted(paths[1:], key=len):
        above_code = names[path[:-1]]
        independent = draw(st.integers(0, 4)) == 0
        names[path] = free.pop() if independent or len(path) == 1 else OrgId((*above_code.path, f"{path[-1]:02}"))
    prefixes: dict[tuple[int, ...], list[OrgId]] = {path: [names[path]] if path else [] for path in paths}
    for number in range(draw(st.integers(0, 8))):  # foreign prefixes: of their own, or longer than one held elsewhere
        holder, model = draw(st.sampled_from(paths)), draw(st.sampled_from(paths))
        below = draw(st.booleans())
        prefixes[holder].append(OrgId((*names[model].path, f"X{number}")) if below and model else free.pop())
    nodes = [
        NodeEntry(names[path], f"Nút {path}", "", names[path[:-1]] if path else None, tuple(prefixes[path])) for path in paths
    ]
    book = directory(*nodes)
    owners: dict[OrgId, OrgId] = {}
    for prefix in [prefix for entry in nodes for prefix in entry.prefixes]:
        office = OrgId((*prefix.path, *draw(st.sampled_from([(), ("A1",), ("A1", "002")]))))
        owner = _owner(nodes, office)
        assert owner is not None
        owners[office] = owner
    tables = {
        entry.code: table_for(book, entry.code, frozenset(office for office, owner in owners.items() if owner == entry.code))
        for entry in nodes
    }
    return Tree(book, tables, owners, depth)


def walk(tree: Tree, start: OrgId, target: OrgId, choose: Callable[[Table, OrgId], Decision]) -> tuple[list[OrgId], Decision]:
    """The nodes passed and the last decision; fails when a node is met twice or a hop leads to no neighbour."""
    passed = [start]
    while True:
        here = tree.tables[passed[-1]]
        decision = choose(here, target)
        match decision:
            case Forward(neighbour):
                assert neighbour not in passed, f"{target} came to {neighbour} twice"
                assert neighbour == here.parent or neighbour in {one.code for one in here.children}
                passed.append(neighbour)
            case Deliver() | Refuse():
                return passed, decision
            case _:
                assert_never(decision)


@given(trees())
@settings(deadline=None, max_examples=150)
def test_from_any_node_every_served_office_is_reached_in_at_most_twice_the_depth(tree: Tree) -> None:
    assert tree.directory.check() == []
    for office, owner in tree.owners.items():
        for start in tree.tables:
            passed, last = walk(tree, start, office, decide)
            assert (last, passed[-1]) == (Deliver(), owner)
            assert len(passed) - 1 <= 2 * tree.depth


@given(trees())
@settings(deadline=None, max_examples=150)
def test_from_any_node_every_node_is_reached_by_its_code(tree: Tree) -> None:
    for target in tree.tables:
        for start in tree.tables:
            passed, last = walk(tree, start, target, decide_node)
            assert (last, passed[-1]) == (Deliver(), target)
            assert len(passed) - 1 <= 2 * tree.depth


@given(trees(), st.data())
@settings(deadline=None, max_examples=150)
def test_a_code_that_nobody_serves_ends_in_a_refusal(tree: Tree, data: st.DataObject) -> None:
    under = data.draw(st.sampled_from([HUB, *tree.owners]))
    stranger = OrgId((*under.path, *data.draw(st.sampled_from([("ZZ",), ("ZZ", "A1"), ("X0", "ZZ")]))))
    for start in tree.tables:
        passed, last = walk(tree, start, stranger, decide)
        assert last == UNKNOWN
        assert len(passed) - 1 <= 2 * tree.depth


@given(
    st.lists(st.sampled_from(codes("H41", "H41.07", "H41.07.01", "K41", "G22")), max_size=5),
    st.sampled_from(codes("H41.07.01.02", "K41", "A80")),
)
def test_the_order_of_children_never_matters_to_the_longest_prefix(prefixes: list[OrgId], recipient: OrgId) -> None:
    children = tuple(Child(prefix, (prefix,)) for prefix in dict.fromkeys(prefixes))
    covering = [prefix for prefix in prefixes if prefix.covers(recipient)]
    expected = Forward(max(covering, key=lambda prefix: len(prefix.path))) if covering else UNKNOWN
    assert decide(Table(HUB, (), frozenset(), children, None), recipient) == expected
    assert decide(Table(HUB, (), frozenset(), children[::-1], None), recipient) == expected


def test_a_decision_among_3500_children_costs_no_more_than_among_three() -> None:
    children = tuple(child(f"H41.{number:04}") for number in range(3_500))
    table = Table(code("H41"), codes("H41"), frozenset(), children, HUB)
    recipients = [code(f"H41.{number:04}.05") for number in range(0, 3_500, 7)] * 20
    begun = time.perf_counter()
    decisions = [decide(table, recipient) for recipient in recipients]
    assert time.perf_counter() - begun < 2  # 10,000 decisions; a search through the children would take 5 s and more
    assert decisions == [Forward(OrgId(recipient.path[:2])) for recipient in recipients]


def test_a_table_for_the_whole_country_is_built_at_once() -> None:
    provinces = [node(f"H{number:02}", "", f"H{number:02}") for number in range(1, 35)]
    communes = [node(f"H{n % 34 + 1:02}.{n:04}", f"H{n % 34 + 1:02}", f"H{n % 34 + 1:02}.{n:04}") for n in range(3_321)]
    tree = directory(node("", None, "G22"), *provinces, *communes)
    begun = time.perf_counter()
    hub = table_for(tree, HUB, frozenset())
    assert time.perf_counter() - begun < 5
    assert sum(len(one.prefixes) for one in hub.children) == 34 + 3_321

"""What is to be said: rows above those that count, in changes that can be read, and only new faults stop an act."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from node.core.changes import Change, CodeRow, NodeRow, decode, encode
from node.core.identifier import HUB
from node.core.wanted import additions, new_problems, portions, rows_for, wanted_by
from tests.core.test_changes import AXIS, DAY, H4131, HUB_NODE, code, node, organ, tree


def test_an_edited_directory_is_said_row_by_row_and_nothing_twice() -> None:
    writer = tree()
    before = writer.folded().directory
    entries = tuple(
        replace(each, valid_to=DAY) if each.code == H4131 else each for each in before.entries if each.code != code("G22")
    )
    after = replace(before, entries=(*entries, organ("G30")), nodes=(*before.nodes, node("H54")))
    wanted = wanted_by(before, after)
    assert {str(each) for each in wanted.codes} == {"G22", "H41.31", "G30"}
    assert wanted.codes[code("G22")] == ()
    assert list(wanted.nodes) == [code("H54")]
    assert list(additions(before, after).codes) == [code("G30")]
    nodes, codes = rows_for(wanted, writer.folded())
    assert [(str(row.code), row.revision) for row in codes] == [("H41.31", 2), ("G30", 1), ("G22", 2)]
    assert rows_for(wanted_by(before, before), writer.folded()) == ((), ())
    assert [row.code for row in nodes] == [code("H54")]


def test_a_large_import_is_several_changes() -> None:
    rows = [CodeRow(code(f"H41.{number}"), 1, (organ(f"H41.{number}"),)) for number in range(1, 1502)]
    first, second = portions(Change(HUB, 1, 1, "", 1, axis=AXIS), [NodeRow(HUB, 1, HUB_NODE)], rows)
    assert (len(first.nodes), len(first.codes), len(second.codes)) == (1, 999, 502)
    assert (first.axis, second.axis) == (AXIS, None)


def test_an_import_of_long_rows_is_several_changes_too() -> None:
    long = tuple(
        organ("H41.5", valid_from=date(2000 + n, 1, 1), valid_to=date(2000 + n, 9, 9), source="đ" * 400) for n in range(5)
    )
    rows = [CodeRow(code(f"H41.{n}"), 1, tuple(replace(each, code=code(f"H41.{n}")) for each in long)) for n in range(1, 901)]
    parts = list(portions(Change(HUB, 1, 1, "", 1, axis=AXIS), [NodeRow(HUB, 1, HUB_NODE)], rows))
    assert [decode(encode(each)) for each in parts] == parts
    assert [row for each in parts for row in each.codes] == rows
    assert [each.axis for each in parts if each.axis] == [AXIS]


def test_only_new_faults_stop_an_act() -> None:
    before = tree().folded().directory
    faulty = replace(before, entries=(*before.entries, organ("G31", successor=code("G99"))))
    assert new_problems(before, faulty) == ["entry G31: successor G99 has no entry"]
    assert new_problems(faulty, faulty) == []

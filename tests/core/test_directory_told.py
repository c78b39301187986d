"""What was said of a code is told with its author, its reason and its administrator, the oldest first."""

from __future__ import annotations

from node.core.changes import Books
from node.core.directory_told import about
from tests.core.test_changes import H4131, code, node, organ, tree


def test_all_that_was_said_is_told_the_oldest_first() -> None:
    writer = tree()
    writer.say("H41", codes={"H41.31": (organ("H41.31", "Tên mới"),)}, why="QĐ 7")
    found = about(writer.books, writer.folded(), H4131)
    assert (found["administrator"], found["author"]) == ("H41", "H41")
    told = [(row["author"], row["revision"], row["why"], row["entries"][0]["name"]) for row in found["said"]]
    assert told == [("", 1, "", "Cơ quan H41.31"), ("H41", 2, "QĐ 7", "Tên mới")]


def test_a_node_is_told_too_and_where_nothing_was_said_nothing_is() -> None:
    writer = tree()
    writer.say("H41", nodes={"H41.09": node("H41.09", "H41")})
    (row,) = about(writer.books, writer.folded(), code("H41.09"))["said"]
    assert (row["node"]["prefixes"], row["entries"]) == (["H41.09"], None)
    assert about(Books(), None, H4131) == {"code": "H41.31", "administrator": None, "author": None, "said": []}

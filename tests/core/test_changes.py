"""Who may say what of which code, what all changes say together, and that any bytes decode or are refused."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.changes import (
    NUMBER_MAX,
    ROWS_MAX,
    Authors,
    Books,
    CalendarRow,
    Change,
    CodeRow,
    Folded,
    Head,
    Held,
    Met,
    NodeRow,
    calendar_by,
    calendar_rows,
    decode,
    encode,
    fold,
    held,
    next_change,
    said_by,
)
from node.core.directory import Connection, Contact, Entry, Fate, NodeEntry
from node.core.errors import Reason, Refused
from node.core.identifier import HUB, OrgId
from node.core.wanted import Wanted, outside, portions, rows_for, witnessed

AXIS = ("Trục liên thông văn bản quốc gia", "TRUC")
DAY = date(2026, 11, 22)
KEY = "0" * 64


def code(text: str) -> OrgId:
    return OrgId.canonical(text)


H41, H14, H4107, H4131 = map(code, ("H41", "H14", "H41.07", "H41.31"))


def organ(text: str, name: str = "", **more: object) -> Entry:
    return replace(Entry(code(text), name or f"Cơ quan {text}", connection=Connection.OFFICIAL), **more)  # type: ignore[arg-type]


def node(text: str, parent: str = "", *prefixes: str) -> NodeEntry:
    return NodeEntry(code(text), f"Nút {text}", "", code(parent), tuple(map(code, prefixes or (text,))))


HUB_NODE = NodeEntry(HUB, AXIS[0], "", None, ())


class Writer:
    """Keeps books and says things in them in the name of whoever is asked to."""

    def __init__(self) -> None:
        self.books = Books()
        self.at_ms = 1000

    def say(
        self,
        author: str,
        *,
        nodes: dict[str, NodeEntry | None] | None = None,
        codes: dict[str, tuple[Entry, ...]] | None = None,
        revision: int = 0,
        **more: object,
    ) -> Held:
        self.at_ms += 1000
        wanted = Wanted(
            {code(key): value for key, value in (nodes or {}).items()}, {code(key): value for key, value in (codes or {}).items()}
        )
        node_rows, code_rows = rows_for(wanted, fold(self.books))
        if revision:
            code_rows = tuple(CodeRow(code(key), revision, value) for key, value in (codes or {}).items())
        change = next_change(self.books, code(author), 1, self.at_ms)
        said = signed(replace(change, nodes=node_rows, codes=code_rows, **more))  # type: ignore[arg-type]
        self.books = self.books.keeping(said)
        return said

    def folded(self) -> Folded:
        found = fold(self.books)
        assert found is not None
        return found


def signed(change: Change) -> Held:
    return held(encode(change), b"signature", KEY)


def tree() -> Writer:
    """The hub has said what there is: two provinces, one with a unit of its own."""
    writer = Writer()
    writer.say(
        "",
        nodes={"": HUB_NODE, "H41": node("H41"), "H14": node("H14"), "H41.07": node("H41.07", "H41")},
        codes={text: (organ(text),) for text in ("G22", "H41", "H14", "H41.07", "H41.31")},
        axis=AXIS,
    )
    return writer


def names(folded: Folded) -> dict[str, str]:
    return {str(entry.code): entry.name for entry in folded.directory.entries}


# what counts


def test_a_province_speaks_for_what_lies_below_it_and_its_later_word_counts() -> None:
    writer = tree()
    writer.say("H41", codes={"H41.31": (organ("H41.31", "Tên mới"),)})
    assert names(writer.folded())["H41.31"] == "Tên mới"
    writer.say("", codes={"H41.31": (organ("H41.31", "Tên của gốc"),)})
    assert names(writer.folded())["H41.31"] == "Tên của gốc"
    assert writer.folded().aside == ()


def test_nobody_speaks_for_its_own_code_nor_for_another_s() -> None:
    writer = tree()
    writer.say("H41", codes={"H41": (organ("H41", "Tự đặt"),), "H14.05": (organ("H14.05"),), "H54": (organ("H54"),)})
    found = writer.folded()
    assert [(str(each.author), str(each.code), each.why) for each in found.aside] == [
        ("H41", text, "outside") for text in ("H41", "H14.05", "H54")
    ]
    assert names(found)["H41"] == "Cơ quan H41"
    assert outside(found, H41, [H41, H4131, code("H14.05")]) == [H41, code("H14.05")]


def test_a_node_that_claims_another_s_prefix_is_not_believed() -> None:
    writer = tree()
    writer.say("H41", nodes={"H41.09": node("H41.09", "H41", "H41.09", "H14.05"), "H14.06": node("H14.06", "H41")})
    found = writer.folded()
    assert [str(each.code) for each in found.aside] == ["H41.09", "H14.06"]
    assert found.directory.node(code("H41.09")) is None
    assert found.directory.owner(code("H14.05.01")) == H14


@pytest.mark.parametrize("parent", ["", "H14", "H14.05"])
def test_nobody_hangs_a_node_on_another_s(parent: str) -> None:
    writer = tree()
    writer.say("H41", nodes={"H41.09": node("H41.09", parent)})
    found = writer.folded()
    assert [(str(each.code), each.why) for each in found.aside] == [("H41.09", "outside")]
    assert found.directory.children(H14) == ()


def test_a_node_that_a_province_names_speaks_for_what_is_below_it_in_turn() -> None:
    writer = tree()
    writer.say("H41", nodes={"H41.09": node("H41.09", "H41")})
    writer.say("H41.09", codes={"H41.09.01": (organ("H41.09.01"),)})
    found = writer.folded()
    assert found.aside == ()
    assert found.administrator(code("H41.09.01.02")) == code("H41.09")
    assert found.administrator(H41) == HUB
    assert found.administrator(H4131) == H41


def test_what_a_node_said_while_it_was_one_stays_and_what_it_says_afterwards_does_not_count() -> None:
    writer = tree()
    writer.say("H41.07", codes={"H41.07.01": (organ("H41.07.01"),)})
    writer.say("H41", nodes={"H41.07": None})
    writer.say("H41.07", codes={"H41.07.02": (organ("H41.07.02"),)})
    found = writer.folded()
    assert "H41.07.01" in names(found)
    assert "H41.07.02" not in names(found)
    assert found.directory.node(H4107) is None
    assert found.administrator(code("H41.07.01")) == H41


def test_what_a_removed_node_dates_back_does_not_count_unless_who_removed_it_had_seen_it() -> None:
    writer = tree()
    writer.say("H41.07", codes={"H41.07.01": (organ("H41.07.01"),)})
    seen = writer.folded()
    gone = witnessed(writer.books, seen, (NodeRow(H4107, 2, None),))
    assert gone == ((H4107, Head(1, 1)),)
    early_ms = writer.at_ms
    writer.say("H41", nodes={"H41.07": None}, seen=gone)
    writer.at_ms = early_ms - 1000  # its clock, or whoever has its key, says it was before
    writer.say("H41.07", codes={"H41.07.02": (organ("H41.07.02"),)}, nodes={"H41.07.03": node("H41.07.03", "H41.07")})
    found = writer.folded()
    assert {"H41.07.01"} == {each for each in names(found) if each.startswith("H41.07.")}
    assert found.directory.node(code("H41.07.03")) is None
    assert {str(each.code) for each in found.aside} == {"H41.07.02", "H41.07.03"}
    restated = witnessed(writer.books, found, (NodeRow(H4107, 2, None),))
    assert restated == gone  # said again later, it vouches for no more than before


def test_who_loses_a_prefix_keeps_what_it_said_of_it_before_and_no_more() -> None:
    writer = tree()
    writer.say("", nodes={"H41": node("H41", "", "H41", "K41")})
    writer.say("H41", codes={"K41.01": (organ("K41.01"),)})
    lost = NodeRow(H41, 3, node("H41"))
    writer.say("", nodes={"H41": node("H41")}, seen=witnessed(writer.books, writer.folded(), (lost,)))
    writer.at_ms -= 1900
    writer.say("H41", codes={"K41.02": (organ("K41.02"),), "H41.31": (organ("H41.31", "Tên mới"),)})
    assert "K41.01" in names(writer.folded()) and "K41.02" not in names(writer.folded())
    assert names(writer.folded())["H41.31"] == "Tên mới"


def test_what_an_authority_has_seen_of_others_travels_with_its_change() -> None:
    change = Change(HUB, 1, 1, "", 5, seen=((H41, Head(2, 7)), (H14, Head(0, 0))))
    assert decode(encode(change)) == change
    for bad in ([["H41", 1]], [["H41", -1, 2]], "x", [[1, 1, 1]]):
        with pytest.raises(Refused):
            decode(json.dumps({**json.loads(encode(change)), "seen": bad}, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize("text", ["h41.99", "000.00.99.H41", "Sở Tài chính"])
def test_an_alias_that_names_an_organ_of_another_province_cannot_be_taken(text: str) -> None:
    """An organ moved away and kept its old code as an alias, by the hub's word: the province it came from may not take it."""
    writer = tree()
    writer.say("", codes={"H14.05": (organ("H14.05", aliases=("H41.99", "000.00.99.H41", "Sở Tài chính")),)})
    assert writer.folded().directory.resolve(text) == code("H14.05")
    writer.say("H41", codes={"H41.31": (organ("H41.31", aliases=(text,)),)})
    assert [(str(each.code), each.why) for each in writer.folded().aside] == [("H41.31", "text")]
    assert writer.folded().directory.resolve(text) == code("H14.05")
    writer.say("H41", codes={"H41.31": (organ("H41.31", aliases=("H41.98",)),)})
    assert writer.folded().directory.resolve("H41.98") == H4131
    writer.say("H14", codes={"H14.05": (organ("H14.05", "Tên mới", aliases=("H41.99", "000.00.99.H41", "Sở Tài chính")),)})
    assert names(writer.folded())["H14.05"] == "Tên mới"  # what the hub has given stays with the organ
    writer.say("", codes={"H14.05": (organ("H14.05"),)})
    writer.say("H41", codes={"H41.31": (organ("H41.31", aliases=("H41.99",)),)})
    assert writer.folded().directory.resolve("H41.99") == H4131  # given up, it may be taken


def test_only_who_was_named_a_node_begins_a_log_and_no_more_logs_than_an_exchange_bears() -> None:
    writer = tree()
    folds: list[Books] = []

    def counted(books: Books) -> Folded | None:
        folds.append(books)
        return fold(books)

    before, folded = writer.books, writer.folded()
    authors = Authors(before, folded, counted, 3)
    assert [authors.known(each, before) for each in (HUB, H41, H14, code("H41.66"))] == [True, True, True, False]
    assert folds == []
    writer.say("H41", nodes={"H41.66": node("H41.66", "H41")})
    assert authors.known(code("H41.66"), writer.books) and not authors.known(code("H41.67"), writer.books)
    assert len(folds) == 1
    writer.say("H14", codes={"H14.05": (organ("H14.05"),)})
    assert not authors.known(code("H41.66"), writer.books)  # three logs are there by now
    assert authors.known(H41, writer.books)
    assert not Authors(Books(), None, fold, 3).known(H41, Books())  # before the hub was heard nobody is a node


def test_a_directory_remembers_below_whom_a_node_ever_hung_by_the_word_of_those_who_may_say_so() -> None:
    writer = tree()
    writer.say("", nodes={"H41.07": node("H41.07", "H14")})
    writer.say("", nodes={"H41.07": node("H41.07", "")})
    writer.say("H14", nodes={"H41.07": node("H41.07", "H14.05")})  # not its to say
    directory = writer.folded().directory
    assert directory.ever_above(H4107) == {H4107, H41, H14, HUB}
    assert directory.ever_above(H14) == {H14, HUB}
    assert directory.since[H4107] == 2000  # when it was first named


@pytest.mark.parametrize("text", ["000.00.00.G22", "h14", "H14.05"])
def test_a_text_that_reads_as_another_s_code_is_not_taken(text: str) -> None:
    writer = tree()
    writer.say("H41", codes={"H41.31": (organ("H41.31", aliases=(text,)),)})
    assert [each.why for each in writer.folded().aside] == ["text"]
    assert writer.folded().directory.resolve(text) != H4131


def test_nobody_receives_for_organs_of_others() -> None:
    writer = tree()
    writer.say("H41", codes={"H41.31": (organ("H41.31", receives_for=(H14,)),)})
    assert [each.why for each in writer.folded().aside] == ["outside"]
    writer.say("H41", codes={"H41.31": (organ("H41.31", receives_for=(H41,)),)})
    assert writer.folded().directory.receiver(code("H41.99"), DAY).organ == H4131


def test_nobody_receives_for_a_prefix_that_it_held_once() -> None:
    writer = tree()
    writer.say("", nodes={"H41": node("H41", "", "H41", "K41")})
    writer.say("", nodes={"H41": node("H41"), "H14": node("H14", "", "H14", "K41")})
    focal = organ("H41.31", receives_for=(code("K41"),), focal_only=True)
    writer.say("H41", codes={"H41.31": (focal,)})
    assert [each.why for each in writer.folded().aside] == ["outside"]


def test_no_revision_is_so_high_that_a_superior_cannot_act_again_and_again() -> None:
    writer = tree()
    writer.say("H41", codes={"H41.31": (organ("H41.31", "tỉnh"),)}, revision=NUMBER_MAX)
    row = NodeRow(H4107, NUMBER_MAX, node("H41.07", "H41", "H41.07", "H41.08"))
    writer.books = writer.books.keeping(signed(replace(next_change(writer.books, H41, 1, 9000), nodes=(row,))))
    for text in ("gốc", "gốc nữa"):
        writer.say("", codes={"H41.31": (organ("H41.31", text),)}, nodes={"H41.07": None})
        assert names(writer.folded())["H41.31"] == text
    found = writer.folded()
    assert found.directory.node(H4107) is None
    assert not found.may(H4107, code("H41.08.01"))


def test_of_two_words_with_one_revision_the_superior_s_counts() -> None:
    writer = tree()
    writer.say("H41", codes={"H41.31": (organ("H41.31", "tỉnh"),)}, revision=5)
    writer.say("", codes={"H41.31": (organ("H41.31", "gốc"),)}, revision=5)
    assert names(writer.folded())["H41.31"] == "gốc"


def test_without_the_hub_s_word_there_is_no_directory() -> None:
    assert fold(Books()) is None


def test_the_order_of_arrival_does_not_matter() -> None:
    writer = tree()
    writer.say("H41", nodes={"H41.09": node("H41.09", "H41")}, codes={"H41.31": (organ("H41.31", "một"),)})
    writer.say("H14", codes={"H14.05": (organ("H14.05"),)})
    writer.say("H41.09", codes={"H41.09.01": (organ("H41.09.01"),)})
    writer.say("", codes={"H41.31": (organ("H41.31", "hai"),), "K54": (organ("K54"),)})
    every = [each for log in writer.books.logs.values() for each in log]
    for seed in range(20):
        random.Random(seed).shuffle(every)
        books, waiting = Books(), list(every)
        while waiting:
            ready = next(each for each in waiting if books.meet(each) is Met.NEW)
            waiting.remove(ready)
            books = books.keeping(ready)
        assert books.digest() == writer.books.digest()
        assert fold(books) == writer.folded()


# books


def test_an_older_change_a_fork_and_a_gap_are_told_apart() -> None:
    writer = tree()
    first = writer.books.logs[HUB][0]
    second = writer.say("", codes={"G23": (organ("G23"),)})
    third = writer.say("", codes={"G24": (organ("G24"),)})
    books = writer.books
    other = signed(replace(second.change, why="khác"))
    assert [books.meet(each) for each in (first, second, third)] == [Met.KNOWN] * 3
    assert books.meet(other) is Met.FORK
    assert Books().keeping(first).meet(third) is Met.GAP
    assert Books().meet(second) is Met.GAP
    assert Books().keeping(first).keeping(other).meet(third) is Met.FORK
    assert Books().keeping(first).keeping(other).meet(second) is Met.FORK
    forked = signed(replace(next_change(books, HUB, 1, 9000), before=first.digest))
    assert books.meet(forked) is Met.FORK


def test_what_is_known_is_found_without_a_look_through_the_whole_log() -> None:
    class Long(tuple[Held, ...]):
        def __iter__(self) -> Iterator[Held]:
            raise AssertionError("looked through")

    writer = tree()
    first = writer.books.logs[HUB][0]
    writer.say("", codes={"G23": (organ("G23"),)})
    assert Books({HUB: Long(writer.books.logs[HUB])}).meet(first) is Met.KNOWN


def test_a_higher_epoch_begins_anew_and_a_lower_one_is_old() -> None:
    writer = tree()
    writer.say("H41", codes={"H41.31": (organ("H41.31", "một"),)})
    before = writer.books.version
    nodes, codes = said_by(writer.books, H41)
    anew = signed(replace(next_change(writer.books, H41, 2, 9000), nodes=nodes, codes=codes))
    books = writer.books.keeping(anew)
    assert (anew.change.number, anew.change.before) == (1, "")
    assert books.version > before
    assert names(fold(books) or writer.folded())["H41.31"] == "một"
    assert books.meet(writer.books.logs[H41][0]) is Met.OLD


def test_years_of_the_calendar_are_the_hubs_word_and_hours_every_nodes_for_what_is_its_own() -> None:
    writer = tree()
    for author in ("", "H41"):
        rows = (CalendarRow("2027", 1, f"năm của {author}"), CalendarRow("hours", 1, f"giờ của {author}"))
        said = writer.say(author, calendar=rows)
        assert decode(said.body).calendar == rows
    folded = writer.folded()
    assert folded.calendar == {(HUB, "2027"): "năm của ", (HUB, "hours"): "giờ của ", (H41, "hours"): "giờ của H41"}
    assert folded.within(H41, H41) and folded.within(H41, code("H41.07")) and folded.within(HUB, HUB)
    assert not folded.within(H41, code("H14")) and not folded.within(H41, HUB) and not folded.within(code("H99"), code("H99"))


def test_a_file_of_the_calendar_is_said_anew_when_it_changes_and_withdrawn_when_it_is_gone() -> None:
    writer = tree()
    writer.say("", calendar=calendar_rows({}, {"2027": "một", "hours": "giờ"}))
    said = calendar_by(writer.books, HUB)
    assert calendar_rows(said, {"2027": "một", "hours": "giờ"}) == ()
    rows = calendar_rows(said, {"2027": "hai"})
    assert rows == (CalendarRow("2027", 2, "hai"), CalendarRow("hours", 2, ""))
    writer.say("", calendar=rows)
    assert writer.folded().calendar == {(HUB, "2027"): "hai"}
    assert calendar_rows(calendar_by(writer.books, HUB), {"2027": "hai"}) == ()


def test_a_calendar_goes_with_the_first_part_of_an_act_or_alone() -> None:
    rows = (CalendarRow("hours", 1, "giờ"),)
    assert [part.calendar for part in portions(Change(HUB, 1, 1, "", 1, calendar=rows), [], [])] == [rows]
    many = [CodeRow(code(f"H41.{number}"), 1, ()) for number in range(ROWS_MAX + 1)]
    assert [part.calendar for part in portions(Change(HUB, 1, 1, "", 1, calendar=rows), [], many)] == [rows, ()]


BAD_ROWS = ["hours", ["hours", 1], ["gio", 1, ""], ["2027", 0, ""], ["1999", 1, ""], ["hours", 1, 5], ["hours", 1, "x" * 100_001]]


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_calendar_in_another_form_is_refused(row: object) -> None:
    body = json.loads(encode(Change(HUB, 1, 1, "", 1, calendar=(CalendarRow("hours", 1, "giờ"),))))
    text = json.dumps({**body, "calendar": [row]}, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    with pytest.raises(Refused):
        decode(text.encode())


def test_only_the_difference_travels_the_hub_s_first() -> None:
    writer = tree()
    writer.say("H41", codes={"H41.31": (organ("H41.31", "một"),)})
    heads = writer.books.heads()
    writer.say("H41", codes={"H41.31": (organ("H41.31", "hai"),)})
    writer.say("", codes={"G23": (organ("G23"),)})
    lacking = [(str(each.change.author), each.change.number) for each in writer.books.beyond(heads)]
    assert lacking == [("", 2), ("H41", 2)]
    assert list(writer.books.beyond(writer.books.heads())) == []
    assert writer.books.behind(heads) == [HUB, H41]
    assert writer.books.behind({**writer.books.heads(), HUB: Head(1, 9)}) == []


# bytes

ENTRIES = st.builds(
    Entry,
    code=st.just(H4131),
    name=st.text(min_size=1, max_size=5).filter(lambda text: text.isprintable()),
    old_code=st.sampled_from(["", "000.00.31.H41"]),
    aliases=st.lists(st.sampled_from(["UBND", "b"]), max_size=2).map(tuple),
    valid_from=st.just(None),
    valid_to=st.none() | st.dates(),
    successor=st.none() | st.just(H4107),
    also=st.lists(st.just(H14), max_size=1).map(tuple),
    connection=st.sampled_from(Connection),
    connection_from=st.none() | st.dates(),
    fate=st.none() | st.sampled_from(Fate),
    contact=st.builds(Contact, mail=st.sampled_from(["", "a@b.vn"])),
    source=st.sampled_from(["", "QĐ 09/2025/QĐ-TTg"]),
    source_day=st.none() | st.dates(),
)
CHANGES = st.builds(
    Change,
    author=st.sampled_from([HUB, H41]),
    epoch=st.integers(1, 3),
    number=st.integers(1, 9),
    before=st.sampled_from(["", KEY]),
    at_ms=st.integers(0, 2**40),
    why=st.text(max_size=5).filter(lambda text: text.isprintable()),
    axis=st.none() | st.just(AXIS),
    nodes=st.lists(st.sampled_from([NodeRow(H4107, 2, node("H41.07", "H41")), NodeRow(H14, 1, None)]), max_size=2).map(tuple),
    codes=st.lists(st.builds(CodeRow, st.just(H4131), st.integers(1, 9), ENTRIES.map(lambda each: (each,))), max_size=2).map(
        tuple
    ),
)


@given(CHANGES)
@settings(max_examples=60, deadline=None)
def test_what_is_encoded_decodes_to_the_same(change: Change) -> None:
    assert decode(encode(change)) == change


@given(CHANGES, st.integers(0, 10_000), st.binary(max_size=3))
@settings(max_examples=150, deadline=None)
def test_other_bytes_are_refused_or_say_exactly_what_they_are(change: Change, place: int, put: bytes) -> None:
    body = encode(change)
    place %= len(body) + 1
    torn = body[:place] + put + body[place + len(put) :]
    try:
        assert encode(decode(torn)) == torn
    except Refused as refused:
        assert refused.reason.startswith(("wire-", "code-"))


@pytest.mark.parametrize(
    "entries",
    [
        (organ("H41.31"), organ("H41.31")),
        (organ("H41.31", valid_to=DAY), organ("H41.31", valid_from=DAY)),
        (organ("H41.31", valid_from=DAY, valid_to=date(2025, 1, 1)),),
        (organ("H41.30"),),
    ],
)
def test_a_code_that_would_be_two_organs_on_a_day_is_refused(entries: tuple[Entry, ...]) -> None:
    body = encode(Change(HUB, 1, 1, "", 1, codes=(CodeRow(H4131, 1, entries),)))
    with pytest.raises(Refused) as caught:
        decode(body)
    assert caught.value.reason is Reason.WIRE_MALFORMED

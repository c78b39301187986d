"""What a person's act makes of a directory: codes closed, replaced, changed from a day on, lists taken in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pytest

from node.core import editing
from node.core.directory import Connection, Directory, Entry, Fate, NodeEntry
from node.core.errors import Refused
from node.core.identifier import HUB, OrgId
from node.core.wanted import Wanted

EVE, MERGED, NOW = date(2026, 6, 30), date(2026, 7, 1), date(2026, 11, 22)


def code(text: str) -> OrgId:
    return OrgId.canonical(text)


A, B, C = code("H41.07"), code("H41.12"), code("H41.31")
OPEN = Entry(A, "Sở A", connection=Connection.OFFICIAL, valid_from=date(2020, 1, 1), kind="sở")
BOOK = Directory(
    (OPEN, Entry(B, "Sở B", connection=Connection.TRIAL), Entry(C, "Sở C", connection=Connection.CLOSED)),
    (NodeEntry(HUB, "gốc", "", None, ()),),
    "Trục",
    "TRUC",
    1,
)


def after(wanted: Wanted) -> Directory:
    entries = tuple(each for each in BOOK.entries if each.code not in wanted.codes)
    return replace(BOOK, entries=(*entries, *(each for history in wanted.codes.values() for each in history)))


def test_a_code_is_closed_after_a_day_with_its_successors_and_the_decision() -> None:
    book = after(editing.closed(BOOK, A, EVE, [B, C], Fate.SPLIT, "QĐ 1", MERGED))
    (entry,) = book.history(A)
    assert (entry.valid_to, entry.successor, entry.also, entry.fate) == (EVE, B, (C,), Fate.SPLIT)
    assert (entry.source, entry.source_day, entry.kind) == ("QĐ 1", MERGED, "sở")
    assert book.entry(A, EVE) is not None
    assert book.successor(A, NOW) == B
    assert book.check() == []


def test_successors_are_named_later_too_but_not_of_an_open_code() -> None:
    book = after(editing.succeeded(BOOK, C, [A], None, "", None))
    assert book.successor(C, NOW) == A
    with pytest.raises(Refused):
        editing.succeeded(BOOK, A, [B], None, "", None)


@pytest.mark.parametrize(
    "act",
    [
        lambda: editing.closed(BOOK, C, EVE, [], None, "", None),
        lambda: editing.closed(BOOK, code("H41.99"), EVE, [], None, "", None),
        lambda: editing.closed(BOOK, A, date(2019, 1, 1), [], None, "", None),
        lambda: editing.succeeded(BOOK, code("H41.99"), [A], None, "", None),
        lambda: editing.changed(BOOK, A, date(2019, 1, 1), {"name": "x"}),
    ],
)
def test_what_cannot_be_is_refused(act: Callable[[], object]) -> None:
    with pytest.raises(Refused):
        act()


def test_a_connection_changes_from_a_day_on_and_the_days_before_stay() -> None:
    book = after(editing.changed(BOOK, B, MERGED, {"connection": Connection.OFFICIAL}))
    assert [book.on_trial(B, day) for day in (EVE, MERGED)] == [True, False]
    assert [each.name for each in book.history(B)] == ["Sở B", "Sở B"]
    assert book.check() == []


def test_what_is_there_is_set_right_and_what_is_new_begins_on_its_day() -> None:
    assert after(editing.changed(BOOK, A, None, {"name": "Sở A mới"})).history(A) == (replace(OPEN, name="Sở A mới"),)
    (fresh,) = after(editing.changed(BOOK, code("H41.40"), MERGED, {"name": "Sở D"})).history(code("H41.40"))
    assert (fresh.name, fresh.valid_from, fresh.connection) == ("Sở D", MERGED, Connection.NONE)
    assert after(editing.changed(BOOK, code("H41.41"), None, {})).history(code("H41.41"))[0].name == "H41.41"


def test_a_code_that_was_closed_is_opened_again_without_what_closed_it() -> None:
    gone = replace(OPEN, valid_to=EVE, successor=B, fate=Fate.MERGED)
    book = replace(BOOK, entries=(gone, *BOOK.entries[1:]))
    history = editing.changed(book, A, NOW, {"name": "Sở A"}).codes[A]
    assert history[0] == gone
    assert (history[1].valid_from, history[1].valid_to, history[1].successor, history[1].fate) == (NOW, None, None, None)


def test_a_list_says_what_it_has_and_the_rest_of_an_organ_stays() -> None:
    said = frozenset({"name", "valid_from", "valid_to"})
    listed = [
        Entry(A, "Tên theo danh sách", valid_from=date(2020, 9, 15)),
        Entry(B, "Sở B"),
        Entry(code("H50"), "Cũ", valid_to=EVE),
        Entry(code("H50"), "Mới", valid_from=MERGED),
    ]
    wanted = editing.taken_in(BOOK, listed, said)
    assert list(wanted.codes) == [A, code("H50")]  # B is as it is already
    (entry,) = wanted.codes[A]
    assert (entry.name, entry.valid_from, entry.connection, entry.kind) == (
        "Tên theo danh sách",
        date(2020, 9, 15),
        Connection.OFFICIAL,
        "sở",
    )
    assert [each.name for each in wanted.codes[code("H50")]] == ["Cũ", "Mới"]
    assert list(editing.only(wanted, [A]).codes) == [A]

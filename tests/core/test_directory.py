"""Who stands under a code on a day, who receives for whom, and the laws of a directory."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.directory import Connection, Directory, Entry, NodeEntry, Receiving
from node.core.errors import Reason, Refused
from node.core.identifier import HUB, OrgId

DAY = date(2026, 11, 22)
MERGED = date(2025, 7, 1)
EVE = date(2025, 6, 30)


def code(text: str) -> OrgId:
    return OrgId.canonical(text)


def organ(text: str, connection: Connection = Connection.OFFICIAL, **fields: object) -> Entry:
    entry = Entry(code(text), f"Cơ quan {text}", connection=connection)
    return replace(entry, **fields)  # type: ignore[arg-type]


def directory(*entries: Entry, nodes: Iterable[NodeEntry] = ()) -> Directory:
    hub = NodeEntry(HUB, "Trục liên thông văn bản quốc gia", "trung ương", None, ())
    return Directory(entries, (hub, *nodes), "Trục liên thông văn bản quốc gia", "TRUC", 1)


def refusal(book: Directory, text: str, day: date = DAY) -> tuple[Reason, str, str]:
    with pytest.raises(Refused) as caught:
        book.receiver(code(text), day)
    assert caught.value.element == "OrganId"
    return caught.value.reason, caught.value.value, caught.value.rule


def via(text: str) -> Receiving:
    return Receiving(code(text), code(text))


def itself(text: str) -> Receiving:
    return Receiving(code(text))


# resolving texts


def test_the_table_goes_before_the_rule() -> None:
    book = directory(organ("G12.99", old_code="000.00.18.G12"), organ("H41", aliases=("UBND tỉnh Nghệ An", "vxp.nghean")))
    assert book.resolve("000.00.18.G12") == code("G12.99")
    assert book.resolve("ubnd tỉnh NGHỆ AN") == code("H41")
    assert book.resolve(" VXP . nghean ") == code("H41")
    assert book.resolve("０００.00.18.g12") == code("G12.99")


def test_where_the_table_says_nothing_the_rule_does() -> None:
    book = directory(organ("H41", old_code="000.00.00.H41"))
    assert book.resolve("000.00.07.H41") == code("H41.07")
    assert book.resolve("00.00.h41") == code("H41")
    assert book.resolve("vxp.saas.03") == code("VXP.SAAS.03")


def test_the_rule_s_result_is_looked_up_once_more() -> None:
    book = directory(organ("H41", aliases=("W00.14",)))
    assert book.resolve("14.00.W00") == code("H41")


def test_an_alias_that_the_rule_would_refuse_still_names_its_organ() -> None:
    text = "Văn phòng Ủy ban nhân dân tỉnh Nghệ An, thành phố Vinh"
    assert directory(organ("H41", aliases=(text,))).resolve(text.upper()) == code("H41")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("null", Reason.CODE_PLACEHOLDER),
        ("H41 07", Reason.CODE_BAD_CHARACTER),
        ("H" * 36, Reason.CODE_TOO_LONG),
        ("", Reason.CODE_EMPTY),
    ],
)
def test_a_text_neither_knows_is_refused_as_the_rule_does(text: str, reason: Reason) -> None:
    with pytest.raises(Refused) as caught:
        directory(organ("H41")).resolve(text)
    assert (caught.value.reason, caught.value.value) == (reason, text)


def test_a_code_wins_over_another_organ_s_alias() -> None:
    book = directory(organ("H31", aliases=("H54",)), organ("H54"))
    assert book.resolve("H54") == code("H54")


# validity


def hue() -> Directory:
    return directory(
        organ("H57", name="UBND thành phố Huế", valid_from=date(2025, 1, 1)),
        organ("H57", name="UBND tỉnh Thừa Thiên Huế", valid_from=date(2020, 9, 15), valid_to=date(2024, 12, 31)),
    )


def test_a_renamed_organ_keeps_its_code_and_has_the_name_of_the_day() -> None:
    book = hue()
    assert book.name(code("H57"), date(2024, 12, 31)) == "UBND tỉnh Thừa Thiên Huế"
    assert book.name(code("H57"), date(2025, 1, 1)) == "UBND thành phố Huế"
    assert [entry.name for entry in book.history(code("H57"))] == ["UBND tỉnh Thừa Thiên Huế", "UBND thành phố Huế"]
    assert book.receiver(code("H57"), date(2024, 12, 31)) == book.receiver(code("H57"), DAY) == itself("H57")
    assert book.check() == []


def test_before_its_first_day_a_code_is_unknown() -> None:
    book = hue()
    assert book.entry(code("H57"), date(2020, 9, 14)) is None
    assert book.name(code("H57"), date(2020, 9, 14)) == ""
    assert refusal(book, "H57", date(2020, 9, 14)) == (Reason.RECIPIENT_UNKNOWN, "H57", "")


def test_the_last_day_of_a_code_still_counts_and_the_name_outlives_it() -> None:
    book = directory(organ("H54", valid_to=EVE, name="UBND tỉnh Thái Bình"))
    assert book.receiver(code("H54"), EVE) == itself("H54")
    assert refusal(book, "H54", MERGED) == (Reason.RECIPIENT_CLOSED, "H54", "")
    assert book.name(code("H54"), MERGED) == "UBND tỉnh Thái Bình"


def test_a_node_s_name_stands_in_where_no_organ_has_the_code() -> None:
    book = directory(nodes=[NodeEntry(code("H41"), "Nút Nghệ An", "tỉnh", HUB, (code("H41"),))])
    assert book.name(code("H41"), DAY) == "Nút Nghệ An"
    assert book.name(HUB, DAY) == "Trục liên thông văn bản quốc gia"
    assert book.name(code("H42"), DAY) == ""


def test_agencies_are_those_open_on_the_day_whatever_their_connection() -> None:
    closed, waiting, coming = organ("H54", valid_to=EVE), organ("H41", Connection.NONE), organ("H42", valid_from=date(2027, 1, 1))
    book = directory(closed, waiting, coming)
    assert book.agencies(EVE) == (closed, waiting)
    assert book.agencies(DAY) == (waiting,)


# who receives


@pytest.mark.parametrize("connection", [Connection.OFFICIAL, Connection.TRIAL])
def test_a_connected_organ_receives_by_itself_on_trial_too(connection: Connection) -> None:
    assert directory(organ("H41.07", connection)).receiver(code("H41.07"), DAY) == itself("H41.07")


def test_a_connection_that_begins_tomorrow_is_none_today() -> None:
    book = directory(organ("H41.07", connection_from=DAY + timedelta(days=1)))
    assert refusal(book, "H41.07") == (Reason.RECIPIENT_NOT_CONNECTED, "H41.07", "")
    assert book.receiver(code("H41.07"), DAY + timedelta(days=1)) == itself("H41.07")


def test_until_it_is_connected_its_superior_receives_for_it() -> None:
    book = directory(
        organ("H41", receives_for=(code("H41"),)),
        organ("H41.07", connection_from=DAY + timedelta(days=1)),
    )
    assert book.receiver(code("H41.07"), DAY) == via("H41")
    assert book.receiver(code("H41.07"), DAY + timedelta(days=1)) == itself("H41.07")


def test_a_unit_without_a_connection_is_received_for_by_the_nearest_superior() -> None:
    book = directory(
        organ("G12", receives_for=(code("G12"),)),
        organ("G12.18", receives_for=(code("G12.18"),)),
        organ("G12.18.05", Connection.NONE),
    )
    assert book.receiver(code("G12.18.05"), DAY) == via("G12.18")
    assert book.receiver(code("G12.32"), DAY) == via("G12")
    assert book.receiver(code("G12.18"), DAY) == itself("G12.18")


@pytest.mark.parametrize("state", [Connection.NONE, Connection.LOCKED, Connection.CLOSED])
def test_a_superior_that_is_not_connected_itself_receives_for_nobody(state: Connection) -> None:
    book = directory(
        organ("G12", receives_for=(code("G12"),)),
        organ("G12.18", state, receives_for=(code("G12.18"),)),
        organ("G12.18.05", Connection.NONE),
    )
    assert book.receiver(code("G12.18.05"), DAY) == via("G12")


def test_an_office_may_receive_for_a_foreign_prefix() -> None:
    book = directory(organ("H54", receives_for=(code("K54"), code("0123456789-001"))), organ("K54", Connection.NONE))
    assert book.receiver(code("K54"), DAY) == via("H54")
    assert book.receiver(code("0123456789-001"), DAY) == via("H54")
    assert refusal(book, "0123456789-002") == (Reason.RECIPIENT_UNKNOWN, "0123456789-002", "")


def test_with_nobody_above_that_receives_for_it_the_organ_gets_paper() -> None:
    book = directory(organ("H41"), organ("H41.07", Connection.NONE))
    assert refusal(book, "H41.07") == (Reason.RECIPIENT_NOT_CONNECTED, "H41.07", "")
    assert refusal(book, "H41.08") == (Reason.RECIPIENT_UNKNOWN, "H41.08", "")


def test_a_locked_organ_is_not_received_for_by_its_superior() -> None:
    book = directory(organ("H41", receives_for=(code("H41"),)), organ("H41.07", Connection.LOCKED))
    assert refusal(book, "H41.07") == (Reason.RECIPIENT_LOCKED, "H41.07", "")


def test_the_hub_and_the_axis_are_no_organs() -> None:
    book = directory(organ("G22"))
    with pytest.raises(Refused) as caught:
        book.receiver(HUB, DAY)
    assert caught.value.reason is Reason.RECIPIENT_UNKNOWN
    assert refusal(book, "TRUC") == (Reason.RECIPIENT_UNKNOWN, "TRUC", "")


# focal points


def defence(*more: Entry) -> Directory:
    return directory(organ("G11", receives_for=(code("G11"),), focal_only=True), *more)


def test_the_ministry_of_defence_receives_for_all_below_it_always() -> None:
    book = defence(organ("G11.05"), organ("G11.06", Connection.LOCKED), organ("G11.07", valid_to=EVE))
    for unit in ("G11.05", "G11.06", "G11.07", "G11.99.01"):
        assert book.receiver(code(unit), DAY) == via("G11")
    assert book.receiver(code("G11"), DAY) == itself("G11")


def test_another_superior_leaves_a_connected_unit_alone() -> None:
    book = directory(organ("G12", receives_for=(code("G12"),)), organ("G12.18"))
    assert book.receiver(code("G12.18"), DAY) == itself("G12.18")


def test_a_focal_point_below_a_focal_point_gives_way_to_the_higher() -> None:
    book = defence(organ("G11.05", receives_for=(code("G11.05"),), focal_only=True))
    assert book.receiver(code("G11.05"), DAY) == via("G11")
    assert book.receiver(code("G11.05.01"), DAY) == via("G11")


def test_a_focal_point_that_is_not_connected_on_the_day_does_not_count() -> None:
    later = organ("G11", receives_for=(code("G11"),), focal_only=True, connection_from=DAY + timedelta(days=1))
    book = directory(later, organ("G11.05"))
    assert book.receiver(code("G11.05"), DAY) == itself("G11.05")
    assert book.receiver(code("G11.05"), DAY + timedelta(days=1)) == via("G11")


# closed codes


def merged() -> Directory:
    return directory(
        organ("H31", receives_for=(code("H31"),)),
        organ("H54", valid_to=EVE, successor=code("H31")),
        organ("K54", valid_to=EVE),
        organ("H54.07", valid_to=EVE, successor=code("H31.07")),
        organ("H31.07", valid_from=MERGED),
        organ("H54.08"),
        organ("H54.09", Connection.NONE),
    )


def test_a_closed_province_is_refused_with_the_code_to_use_instead() -> None:
    book = merged()
    assert book.receiver(code("H54"), EVE) == itself("H54")
    assert refusal(book, "H54", MERGED) == (Reason.RECIPIENT_CLOSED, "H54", "H31")
    assert refusal(book, "K54", MERGED) == (Reason.RECIPIENT_CLOSED, "K54", "")
    assert refusal(book, "H54.07") == (Reason.RECIPIENT_CLOSED, "H54.07", "H31.07")


def test_a_unit_below_a_closed_province_is_closed_with_it() -> None:
    book = merged()
    assert refusal(book, "H54.05") == (Reason.RECIPIENT_CLOSED, "H54.05", "H31")
    assert refusal(book, "H54.07.01") == (Reason.RECIPIENT_CLOSED, "H54.07.01", "H31.07")
    assert refusal(book, "H54.05", EVE) == (Reason.RECIPIENT_UNKNOWN, "H54.05", "")


def test_a_unit_with_an_open_entry_outlives_its_closed_province() -> None:
    book = merged()
    assert book.receiver(code("H54.08"), DAY) == itself("H54.08")
    assert refusal(book, "H54.08.01") == (Reason.RECIPIENT_UNKNOWN, "H54.08.01", "")
    assert refusal(book, "H54.09") == (Reason.RECIPIENT_NOT_CONNECTED, "H54.09", "")


def test_a_closed_code_is_refused_even_where_somebody_receives_for_it() -> None:
    book = directory(
        organ("H31", receives_for=(code("H54"),)),
        organ("H54", valid_to=EVE, successor=code("H31")),
    )
    assert refusal(book, "H54.05") == (Reason.RECIPIENT_CLOSED, "H54.05", "H31")


def test_a_closed_connection_closes_the_code() -> None:
    book = directory(organ("H41"), organ("H41.07", Connection.CLOSED, successor=code("H41")))
    assert refusal(book, "H41.07") == (Reason.RECIPIENT_CLOSED, "H41.07", "H41")
    assert refusal(book, "H41.07.01") == (Reason.RECIPIENT_CLOSED, "H41.07.01", "H41")


def test_a_code_between_two_times_is_closed_and_opens_again() -> None:
    book = directory(organ("H41.07", valid_to=EVE), organ("H41.07", valid_from=date(2027, 1, 1)))
    assert refusal(book, "H41.07") == (Reason.RECIPIENT_CLOSED, "H41.07", "")
    assert book.receiver(code("H41.07"), date(2027, 1, 1)) == itself("H41.07")


def test_the_successor_is_the_open_end_of_the_chain() -> None:
    book = directory(
        organ("H10", valid_to=date(2021, 1, 1), successor=code("H11")),
        organ("H11", valid_to=EVE, successor=code("H12")),
        organ("H12"),
    )
    assert book.successor(code("H10"), DAY) == code("H12")
    assert book.successor(code("H10"), date(2022, 1, 1)) == code("H11")
    assert book.successor(code("H10"), date(2021, 1, 1)) is None
    assert book.successor(code("H12"), DAY) is None
    assert book.successor(code("H99"), DAY) is None


def test_successors_that_run_in_a_circle_or_end_closed_name_nobody() -> None:
    book = directory(
        organ("H10", valid_to=EVE, successor=code("H11")),
        organ("H11", valid_to=EVE, successor=code("H10")),
        organ("H12", valid_to=EVE, successor=code("H13")),
        organ("H13", valid_to=EVE),
        organ("H14", valid_to=EVE, successor=code("H14")),
    )
    for text in ("H10", "H11", "H12", "H13", "H14"):
        assert book.successor(code(text), DAY) is None
        assert refusal(book, text) == (Reason.RECIPIENT_CLOSED, text, "")


def test_a_receiver_is_found_at_once_among_ten_thousand_entries() -> None:
    provinces = [organ(f"H{number:02}", receives_for=(code(f"H{number:02}"),)) for number in range(1, 64)]
    communes = [organ(f"H{n % 63 + 1:02}.{n:04}", list(Connection)[n % 3]) for n in range(10_000)]
    book = directory(*provinces, *communes)
    assert book.check() == []
    codes = [entry.code for entry in communes] + [code(f"H{n % 63 + 1:02}.X{n}") for n in range(10_000)]
    begun = time.perf_counter()
    received = [book.receiver(one, DAY) for one in codes]
    assert time.perf_counter() - begun < 10  # 20,000 questions; a search through the list would take minutes
    assert sum(one.via is None for one in received) == sum(entry.connected_on(DAY) for entry in communes)


states = st.sampled_from(list(Connection))
days = st.none() | st.dates(date(2020, 1, 1), date(2030, 1, 1))
small_codes = st.sampled_from([code(text) for text in ("H41", "H41.07", "H41.07.01", "H54", "H54.07", "K54", "G11", "G11.05")])
entries = st.builds(
    Entry,
    code=small_codes,
    name=st.just("Cơ quan"),
    valid_from=days,
    valid_to=days,
    successor=st.none() | small_codes,
    receives_for=st.lists(small_codes, max_size=3).map(tuple),
    focal_only=st.booleans(),
    connection=states,
    connection_from=days,
)


@given(st.lists(entries, max_size=8, unique_by=lambda row: row.code), small_codes, st.dates(date(2019, 1, 1), date(2031, 1, 1)))
@settings(deadline=None, max_examples=400)
def test_any_directory_answers_with_a_connected_organ_or_a_reason(rows: list[Entry], asked: OrgId, day: date) -> None:
    book = directory(*rows)
    book.check()
    try:
        answer = book.receiver(asked, day)
    except Refused as refused:
        if refused.rule:
            assert book.successor(OrgId.canonical(refused.rule), day) is None
        return
    assert answer.organ == (asked if answer.via is None else answer.via)
    assert answer.via != asked
    assert any(row.code == answer.organ and row.connected_on(day) for row in rows)


# the laws


def province(text: str, parent: OrgId | None = HUB, prefixes: tuple[str, ...] | None = None) -> NodeEntry:
    return NodeEntry(code(text), f"Nút {text}", "tỉnh", parent, tuple(map(code, (text,) if prefixes is None else prefixes)))


def test_a_lawful_directory_has_nothing_to_report() -> None:
    nodes = [province("H41"), province("H41.07", code("H41")), province("H54", prefixes=("H54", "K54", "0123456789-001"))]
    book = directory(*merged().entries, organ("H41", old_code="000.00.00.H41", aliases=("nghean",)), nodes=nodes)
    assert book.check() == []


@pytest.mark.parametrize(
    ("rows", "broken"),
    [
        (
            [organ("H57"), organ("H57", valid_from=date(2025, 1, 1))],
            "entry H57: 'Cơ quan H57' and 'Cơ quan H57' are both open on 2025-01-01",
        ),
        (
            [organ("H57", valid_to=EVE), organ("H57", valid_from=EVE)],
            "entry H57: 'Cơ quan H57' and 'Cơ quan H57' are both open on 2025-06-30",
        ),
        ([organ("H57", valid_from=DAY, valid_to=EVE)], "entry H57: valid_to 2025-06-30 lies before valid_from 2026-11-22"),
        ([organ("")], "entry 'Cơ quan ': the empty code is the hub's and no organ's"),
        ([organ("H41", aliases=("x",)), organ("H42", aliases=("X",))], "entry H42: the text 'X' names H41 already"),
        (
            [organ("H41", old_code="000.00.00.H41"), organ("H42", old_code="000.00.00.H41")],
            "entry H42: the text '000.00.00.H41' names H41 already",
        ),
        ([organ("H31", aliases=("H54",)), organ("H54", valid_to=EVE)], "entry H54: the text 'H54' names H31 already"),
        ([organ("H41", aliases=("null",))], "entry H41: the text 'NULL' stands for no code"),
        ([organ("H41", aliases=("truc",))], "entry H41: 'TRUC' is the code of the axis, under which no office receives"),
        ([organ("H54", valid_to=EVE, successor=code("H31"))], "entry H54: successor H31 has no entry"),
        ([organ("H54", successor=code("H54"))], "entry H54: its successors lead back to it"),
        (
            [organ("H10", successor=code("H11")), organ("H11", successor=code("H12")), organ("H12", successor=code("H11"))],
            "entry H11: its successors lead back to it",
        ),
        ([organ("G11", focal_only=True)], "entry G11: focal_only needs receives_for"),
        ([organ("G11", receives_for=(HUB,))], "entry G11: receives_for names the hub, which would be everybody"),
        (
            [organ("H31", receives_for=(code("H54"),)), organ("H32", receives_for=(code("H54"),), valid_from=MERGED)],
            "entry H32: H31 receives for H54 too on 2025-07-01",
        ),
    ],
)
def test_a_broken_law_names_the_entry(rows: list[Entry], broken: str) -> None:
    assert directory(*rows).check() == [broken]


def test_one_organ_may_receive_for_a_prefix_after_another() -> None:
    first = organ("H31", receives_for=(code("H54"),), valid_to=EVE)
    second = organ("H32", receives_for=(code("H54"),), valid_from=MERGED)
    assert directory(second, first).check() == []


@pytest.mark.parametrize(
    ("nodes", "broken"),
    [
        ([province("H41"), province("H41")], ['node "H41": 2 nodes have this code']),
        ([province("H41", None)], ['node "H41": the hub has no parent and every other node has one']),
        ([province("H41", code("H99"))], ['node "H41": parent "H99" is no node']),
        (
            [province("H41", code("H42")), province("H42", code("H41"))],
            ['node "H41": its parents do not lead to the hub', 'node "H42": its parents do not lead to the hub'],
        ),
        ([province("H41", prefixes=())], ['node "H41": its own code must be one of its prefixes']),
        ([province("H41", prefixes=("H41", ""))], ['node "H41": the empty prefix is everybody\'s']),
        (
            [province("H41", prefixes=("H41", "K54")), province("H54", prefixes=("H54", "K54"))],
            ['node "H54": prefix K54 is held by "H41", which is neither above nor below it'],
        ),
        ([province("H41", prefixes=("H41", "H41.07")), province("H41.07", code("H41"))], []),
    ],
)
def test_a_broken_law_names_the_node(nodes: list[NodeEntry], broken: list[str]) -> None:
    assert directory(nodes=nodes).check() == broken


def test_a_tree_without_a_hub_is_reported() -> None:
    assert Directory((), (), "Trục", "TRUC", 1).check() == ['node "": a tree has a hub']


def test_what_lies_below_a_prefix_is_found_in_the_directorys_order() -> None:
    nodes = [
        NodeEntry(HUB, "Trục", "trung ương", None, (code("G22"),)),
        NodeEntry(code("H41"), "Tỉnh", "tỉnh", HUB, (code("H41"),)),
        NodeEntry(code("H41.09"), "Huyện", "huyện", code("H41"), (code("H41.09"), code("H41.02.01"))),
        NodeEntry(code("H41.02"), "Huyện", "huyện", code("H41"), (code("H41.02"),)),
    ]
    book = directory(organ("H41"), organ("H41.09.01", Connection.NONE), organ("H41.02"), organ("H5"), nodes=nodes)
    assert book.held_below([code("H41")]) == [code("H41.09"), code("H41.02.01"), code("H41.02")]
    assert book.held_below([code("H41.02"), code("H4")]) == [code("H41.02.01")]
    assert list(book.connected_below([code("H41")], DAY)) == [code("H41"), code("H41.02")]


def test_a_split_organ_has_several_successors_and_a_chain_is_followed_through_each() -> None:
    book = directory(
        organ("H41.01", valid_to=EVE, successor=code("H41.02"), also=(code("H41.03"), code("H41.04"))),
        organ("H41.02", valid_to=EVE, successor=code("H41.05")),
        organ("H41.03", valid_to=EVE, successor=code("H41.01")),
        organ("H41.04"),
        organ("H41.05"),
    )
    assert book.successors(code("H41.01"), DAY) == (code("H41.04"), code("H41.05"))
    assert refusal(book, "H41.01") == (Reason.RECIPIENT_CLOSED, "H41.01", "H41.04, H41.05")
    assert book.successors(code("H41.05"), DAY) == ()


def test_an_organ_is_on_trial_from_a_day_to_a_day() -> None:
    book = directory(
        organ("H41", Connection.TRIAL, valid_to=EVE, connection_from=date(2025, 1, 1)), organ("H41", valid_from=MERGED)
    )
    days = (date(2024, 12, 31), date(2025, 1, 1), EVE, MERGED)
    assert [book.on_trial(code("H41"), day) for day in days] == [False, True, True, False]

"""Who is connected, since when, and who is silent."""

from __future__ import annotations

from datetime import date, timedelta

from node.core.connections import SILENT_DAYS, connections
from node.core.directory import Connection, Directory, Entry, NodeEntry
from node.core.identifier import HUB, OrgId
from node.core.report_document import Place

TODAY = date(2026, 11, 22)
H41, UNIT, PLAIN, TRIAL, H14 = map(OrgId.canonical, ("H41", "H41.07", "H41.08", "H41.09", "H14"))
DIRECTORY = Directory(
    (
        Entry(H41, "UBND tỉnh", connection=Connection.OFFICIAL, connection_from=date(2019, 3, 1)),
        Entry(UNIT, "Sở Nội vụ", connection=Connection.OFFICIAL),
        Entry(PLAIN, "Sở Tài chính"),
        Entry(TRIAL, "Sở Y tế", connection=Connection.TRIAL, connection_from=TODAY - timedelta(3)),
        Entry(H14, "tỉnh khác", connection=Connection.OFFICIAL),
        Entry(OrgId.canonical("H41.99"), "đã đóng", valid_to=date(2025, 6, 30), connection=Connection.OFFICIAL),
    ),
    (NodeEntry(HUB, "gốc", "", None, ()), NodeEntry(H41, "Nghệ An", "tỉnh", HUB, (H41,)), NodeEntry(H14, "", "", HUB, (H14,))),
    "Trục",
    "",
    1,
)


def test_each_open_organ_of_the_subtree_has_a_row_with_its_state_and_last_day() -> None:
    heard = {H41: TODAY, UNIT: TODAY - timedelta(SILENT_DAYS + 1)}
    found = connections(DIRECTORY, Place(H41, "Nghệ An", "tỉnh"), heard, TODAY, "2026-11-22T10:00:00.000+07:00")
    rows = {row["organ"]: row for row in found["rows"]}
    assert list(rows) == ["H41", "H41.07", "H41.08", "H41.09"]
    assert rows["H41"] == {
        "organ": "H41",
        "name": "UBND tỉnh",
        "node": "H41",
        "connection": "chinh-thuc",
        "connected_from": "2019-03-01",
        "last_traffic": "2026-11-22",
        "silent": False,
    }
    assert [rows[code]["silent"] for code in rows] == [False, True, False, False]
    assert rows["H41.08"]["connected_from"] is None
    assert found["summary"]["connections"] == {"chinh-thuc": 2, "chua-ket-noi": 1, "thu-nghiem": 1}
    assert (found["summary"]["silent"], found["summary"]["event"]) == (1, "summary")


def test_an_organ_never_heard_of_is_silent_and_a_new_one_not_yet() -> None:
    def silent(connected: date | None) -> bool:
        entry = Entry(H41, "x", connection=Connection.OFFICIAL, connection_from=connected)
        directory = Directory((entry,), DIRECTORY.nodes, "", "", 1)
        return bool(connections(directory, Place(HUB, "", ""), {}, TODAY, "")["rows"][0]["silent"])

    assert silent(None)
    assert silent(TODAY - timedelta(SILENT_DAYS + 1))
    assert not silent(TODAY - timedelta(SILENT_DAYS))

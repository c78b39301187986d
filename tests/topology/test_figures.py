"""The demonstration's recount, and what counts as agreement between tiers."""

from __future__ import annotations

from typing import Any

from topology.figures import Sending, agree, lines, of_organs, recount, since

NODES: list[dict[str, Any]] = [
    {"code": "", "parent": None, "tier": "trung ương", "name": "Trục quốc gia"},
    {"code": "H41", "parent": "", "tier": "tỉnh", "name": "Nghệ An"},
]
SENDINGS = [Sending("H41", ("G22", "H41.07"), False), Sending("H41", ("G22",), True), Sending("G22", ("H41.07",), False)]


def report(*rows: tuple[str, str, int, int, int], missing: tuple[str, ...] = (), holds: bool = True) -> dict[str, Any]:
    return {
        "rows": [{kind: code, "sent": sent, "received": got, "sent_update": up} for kind, code, sent, got, up in rows],
        "summary": {
            "coverage": {"in": ["H41"], "missing": list(missing)},
            "proof": {"holds": holds},
            "cut_off": "2026-11-22T10:00:00.000+07:00",
        },
    }


HUB = report(("total_of", "", 2, 3, 1), ("organ", "G22", 1, 1, 0), ("total_of", "H41", 1, 2, 1), ("organ", "H41", 1, 0, 1))
PROVINCE = report(("total_of", "H41", 1, 2, 1), ("organ", "H41", 1, 0, 1))


def test_a_document_is_one_however_many_receivers_and_an_update_is_counted_apart() -> None:
    assert recount(SENDINGS) == {
        "H41": {"sent": 1, "received": 0, "sent_update": 1},
        "G22": {"sent": 1, "received": 1, "sent_update": 0},
        "H41.07": {"sent": 0, "received": 2, "sent_update": 0},
    }


def test_what_was_counted_before_is_not_counted_now() -> None:
    before, now = of_organs(PROVINCE), of_organs(HUB)
    assert since(before, now) == {"G22": {"sent": 1, "received": 1, "sent_update": 0}}
    assert since({}, before) == before


def test_tiers_agree_where_all_are_there_proven_and_say_the_same_of_each_other() -> None:
    assert agree({"": HUB, "H41": PROVINCE}, NODES)
    other = report(("total_of", "H41", 1, 1, 1))
    assert not agree({"": HUB, "H41": other}, NODES)
    assert not agree({"": HUB, "H41": {**PROVINCE, "summary": report(missing=("H41.07",))["summary"]}}, NODES)
    assert not agree({"": HUB, "H41": {**PROVINCE, "summary": report(holds=False)["summary"]}}, NODES)


def test_each_node_has_a_line() -> None:
    hub, province = lines({"": HUB, "H41": {**PROVINCE, "summary": report(missing=("x",), holds=False)["summary"]}}, NODES)
    assert hub == ("trung ương", "gốc Trục quốc gia", "2", "3", "1", "1 nút", "2026-11-22T10:00:00.000+07:00", "khớp")
    assert (province[1], province[5], province[7]) == ("H41 Nghệ An", "1 nút, thiếu 1", "chưa khớp")

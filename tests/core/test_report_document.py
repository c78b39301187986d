"""A report's document: which rows there are, what stands in them, and what is said of the whole."""

from __future__ import annotations

import json

import pytest

from node.core import statement
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.periods import Kind, named
from node.core.report_document import COLUMNS, DERIVED, GROUPS, ROAD, figures, quantile_s, texts
from node.core.tally import DELIVERY_BOUNDS_MS, Histogram
from tests.reporting import H41, SECTION, UNIT, UNIT_COUNTS, made


def codes(rows: list[dict[str, object]]) -> list[str]:
    return [str(row["organ"]) if "organ" in row else f"Σ{row['total_of']}" for row in rows]


def test_every_organ_has_one_row_with_its_own_counts_and_every_node_a_total() -> None:
    rows = made()["rows"]
    assert codes(rows) == ["Σ", "G22", "ΣH41", "H41", "ΣH41.07", "H41.07", "H41.07.01", "ΣH41.12", "H41.12"]
    (unit,) = [row for row in rows if row.get("organ") == "H41.07"]
    assert (unit["sent"], unit["received"], unit["sent_late"], unit["node"]) == (3, 4, 1, "H41.07")
    assert unit["sent_priority"] == {"3": 1} and unit["refused_at_door_reason"] == {"recipient-closed": 2}
    assert (unit["period"], unit["from"], unit["to"]) == (
        "2026-Q4",
        "2026-09-15T00:00:00.000+07:00",
        "2026-12-14T23:59:59.999+07:00",
    )
    (silent,) = [row for row in rows if row.get("organ") == "H41"]
    assert all(silent[column.key] == 0 for column in COLUMNS) and silent["delivery_median_s"] is None


def test_every_figure_of_a_statement_has_a_column() -> None:
    shown = {column.key for column in (*COLUMNS, *GROUPS)} | {"delay", "delay_ms"}
    assert shown == set(statement.MEANINGS)
    assert set(ROAD) == set(statement.ROAD_MEANINGS)
    keys = [column.key for column in (*COLUMNS, *GROUPS, *DERIVED)]
    assert len(keys) == len(set(keys))
    assert all(column.vi and column.en and column.meaning for column in (*COLUMNS, *GROUPS, *DERIVED))


def test_the_last_line_says_when_how_completely_and_how_proven() -> None:
    found = made()["summary"]
    assert (found["event"], found["cut_off"], found["provisional"]) == ("summary", "2026-11-22T10:00:00.123+07:00", True)
    assert found["coverage"] == {"in": ["", "H41", "H41.07"], "late": [], "missing": []}
    assert found["proof"] == {"holds": True, "unequal": [], "unbalanced": [], "refused": []}
    assert found["road"] == {"duplicates": 3, "held": 1}
    wrong = made(holds=False)["summary"]
    assert wrong["coverage"]["missing"] == ["H41.12"]
    assert (wrong["proof"]["holds"], wrong["proof"]["unbalanced"]) == (False, ["G22>H41"])
    assert json.loads(json.dumps(found)) == found


def test_an_organ_is_shown_with_all_below_it_and_one_outside_is_refused() -> None:  # QĐ 28/2018 Điều 11.1–3
    assert codes(made(organ=UNIT)["rows"]) == ["ΣH41.07", "H41.07", "H41.07.01"]
    assert codes(made(organ=SECTION)["rows"]) == ["H41.07.01"]
    assert codes(made(organ=H41)["rows"])[:2] == ["ΣH41", "H41"]
    with pytest.raises(Refused, match="H14"):
        made(organ=OrgId.canonical("H14"))


def test_a_report_is_the_same_json_written_whole_or_line_by_line() -> None:
    document = made()
    assert "".join(texts(document)) == json.dumps(document, ensure_ascii=False)
    written = [json.dumps(each, ensure_ascii=False) for each in (*document["rows"], document["summary"])]
    assert "".join(texts(document, lines=True)).splitlines() == written
    many = document["rows"] * 50
    assert json.loads("".join(texts({**document, "rows": many})))["rows"] == many
    other = {"node": "", "rows": [{"organ": "H41", "silent": True}], "summary": {}}
    assert json.loads("".join(texts(other))) == other


def test_a_day_that_is_over_is_final() -> None:
    assert made(period=named(Kind.DAY, "2026-11-21"))["summary"]["provisional"] is False


def test_median_and_p95_are_the_bounds_below_which_so_many_lie() -> None:
    found = figures(UNIT_COUNTS)
    assert (found["delivery_median_s"], found["delivery_p95_s"]) == (0.1, 21600.0)
    assert figures(statement.delay_counts(0))["delivery_median_s"] == 0.1
    beyond = Histogram((*(0 for _ in DELIVERY_BOUNDS_MS), 1), 10**12)
    assert quantile_s(beyond, 0.5) == DELIVERY_BOUNDS_MS[-1] / 1000
    assert quantile_s(Histogram((0,) * (len(DELIVERY_BOUNDS_MS) + 1)), 0.5) is None

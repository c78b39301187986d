"""A report with made-up figures, and the document made of it, for the faces' tests."""

from __future__ import annotations

from datetime import date

from node.core.identifier import HUB, OrgId
from node.core.periods import Kind, Period, Rule, named
from node.core.report import Report
from node.core.report_document import Document, Place, document, rows_of
from node.core.statement import Branch, Coverage, Flow, Pair, Proof, delay_counts, plus

CUT_OFF_MS = 1_795_316_400_123
H41, UNIT, SECTION, EVIL, VPCP = map(OrgId.canonical, ("H41", "H41.07", "H41.07.01", "H41.12", "G22"))
PLACE = Place(HUB, "Trục liên thông văn bản quốc gia", "trung ương")
NAMES = {
    H41: "Tỉnh Nghệ An",
    UNIT: "Sở Nội vụ",
    SECTION: "Chi cục Văn thư – Lưu trữ",
    EVIL: '=HYPERLINK("http://x","Phường & <Vinh>")',
    VPCP: "Văn phòng Chính phủ",
}
UNIT_COUNTS = plus(
    {"sent": 3, "sent_deliveries": 7, "sent_late": 1, "sent_on_time": 2, "received": 4, "sent_priority.3": 1, "arrived": 5},
    {"refused_at_door": 2, "refused_at_door_reason.recipient-closed": 2, "sent_type.cong-van": 3, "expired": 1},
    *map(delay_counts, (90, 90, 90, 4_000_000)),
)
QUARTER = named(Kind.QUARTER, "2026-Q4", Rule.OFFICIAL)


def figures(*, holds: bool = True, period: Period = QUARTER) -> Report:
    """The hub, H41 with an office of its own, H41.07 with two, H41.12 whose name would be worked out by a spreadsheet."""
    organs = {VPCP: {"sent": 1, "received": 2}, H41: {}, UNIT: UNIT_COUNTS, SECTION: {"received": 1}, EVIL: {"sent": 1}}
    unit = plus(UNIT_COUNTS, {"received": 1})
    province = plus(unit, {"sent": 1})
    flows = (Flow(Pair.of(VPCP, UNIT), {"sent": 3, "collected": 2, "waiting": 1 if holds else 0}),)
    return Report(
        first=period.first,
        last=period.last,
        cut_off_ms=CUT_OFF_MS,
        open=date(2026, 11, 22) <= period.last,
        organs=organs,
        nodes={VPCP: HUB, H41: H41, UNIT: UNIT, SECTION: UNIT, EVIL: EVIL},
        totals={HUB: plus(province, {"sent": 1, "received": 2}), H41: province, UNIT: unit, EVIL: {"sent": 1}},
        road={HUB: {"duplicates": 2}, H41: {"duplicates": 1, "held": 1}},
        coverage=Coverage((HUB, H41, UNIT), (), () if holds else (EVIL,)),
        proof=Proof((Branch(H41, province, province),), flows),
        refusals=(),
    )


def name_of(code: OrgId, node: bool) -> str:
    return PLACE.name if code == HUB else ("Nút " if node else "") + NAMES.get(code, "")


def made(*, holds: bool = True, period: Period = QUARTER, organ: OrgId | None = None) -> Document:
    found = figures(holds=holds, period=period)
    return document(found, period, PLACE, list(rows_of(found, period, name_of, organ)), organ)


class Clock:
    def utc_ms(self) -> int:
        return CUT_OFF_MS

    def bound_ms(self) -> int:
        return 1

    def synchronised(self) -> bool:
        return True

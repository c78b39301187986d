"""The page: whole in itself, in Vietnamese, escaped, with what Điều 15.1's report must say."""

from __future__ import annotations

import re

import pytest

from node.adapters.reports.page import page_bytes
from node.core.periods import EXAMPLES, Kind, named
from tests.reporting import SECTION, UNIT, made


def text(**more: object) -> str:
    return page_bytes(made(**more)).decode()  # type: ignore[arg-type]


def test_the_quarterly_page_says_period_cut_off_coverage_and_proof() -> None:
    page = text()
    assert "quý 4 năm 2026" in page and "từ 15/09/2026 đến hết 14/12/2026" in page and "NĐ 09/2019" in page
    assert "10:00 ngày 22/11/2026 (giờ Việt Nam)" in page
    assert "3 nút có số liệu" in page and "Khớp:" in page and "TẠM TÍNH" in page
    assert "mã Bên nhận đã đóng" in page
    assert page.count("<svg") == 2 and "<rect" in page
    wrong = text(holds=False)
    assert "Chưa khớp: G22&gt;H41" in wrong and "chưa có số liệu: H41.12" in wrong


def test_what_others_wrote_is_text() -> None:
    """Threats, row 32."""
    page = text()
    assert "Phường &amp; &lt;Vinh&gt;" in page and "<Vinh>" not in page


def test_nothing_is_fetched_and_nothing_runs() -> None:
    page = text()
    assert not re.search(r"<script|\ssrc=|\shref=|url\(|@import|\son[a-z]+=", page)
    assert "default-src 'none'" in page and 'lang="vi"' in page and "@page" in page


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_period_has_a_title(kind: Kind) -> None:
    page = text(period=named(kind, EXAMPLES[kind]))
    assert re.search(r"<div>(ngày|tháng|quý|sáu tháng|chín tháng|năm|từ) ", page)


def test_one_silent_organ_makes_a_page() -> None:
    page = text(organ=SECTION)
    assert "Chi cục Văn thư" in page and "Không có." in page


def test_numbers_are_written_as_in_vietnam() -> None:
    document = made()
    document["rows"][0]["sent"] = 1_234_567
    page = page_bytes(document).decode()
    assert "1.234.567" in page and "66,7 %" in page and "21.600" in page and "0,1" in page and "66.7 %" not in page


def test_the_chart_compares_the_units_right_below() -> None:  # QĐ 28/2018 Điều 11.1–3
    def charted(**more: object) -> list[str]:
        chart = text(**more)
        return re.findall(r'text-anchor="end">([^<]*)<', chart[chart.index("<svg") : chart.index("</svg>")])

    assert charted() == ["Nút Tỉnh Nghệ An"]
    assert charted(organ=UNIT) == ["Sở Nội vụ", "Chi cục Văn thư – Lưu trữ"]

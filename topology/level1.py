"""The level-1 codes of provinces and ministries as a table: under which code who stood, until when, and who follows.

Facts for rehearsals, no authority: a real directory comes from whoever keeps the codes. Knows nothing of trees or sites.

Sources. Codes: QĐ 20/2020/QĐ-TTg and QĐ 09/2025/QĐ-TTg as restated by the press, QCVN 102:2016, and codes in published
packages and programs. `SEEN` are the provinces' codes found so; the others follow from the one alphabetical order that all of
those keep, and have not been compared with the annex. Which province went into which: Nghị quyết 202/2025/QH15 as restated by
the press. The day on which the old codes were closed was not published: the last day of the old provinces is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

MINISTRIES_CHANGED = date(2025, 4, 14)
"""QĐ 09/2025/QĐ-TTg: the new table of central bodies."""
LAST_OF_63 = date(2025, 6, 30)


@dataclass(frozen=True, slots=True)
class Organ:
    """One name under one code. since, until: its first and last day, both included; None is open. successor: "" is unknown."""

    code: str
    name: str
    since: date | None = None
    until: date | None = None
    successor: str = ""

    def stands_on(self, day: date) -> bool:
        return (self.since is None or self.since <= day) and not self.ended_before(day)

    def ended_before(self, day: date) -> bool:
        return self.until is not None and self.until < day


def standing(organs: Iterable[Organ], day: date) -> tuple[Organ, ...]:
    """Those whose code was open on that day, in the table's order."""
    return tuple(organ for organ in organs if organ.stands_on(day))


def _kept(code: str, name: str) -> Organ:
    return Organ(code, name)


def _merged(code: str, name: str, successor: str) -> Organ:
    return Organ(code, name, until=LAST_OF_63, successor=successor)


def _gone(code: str, name: str, successor: str = "") -> Organ:
    return Organ(code, name, until=date(2025, 4, 13), successor=successor)


PROVINCES: tuple[Organ, ...] = (
    _kept("H01", "tỉnh An Giang"),
    _merged("H02", "tỉnh Bắc Giang", "H05"),
    _merged("H03", "tỉnh Bắc Kạn", "H55"),
    _merged("H04", "tỉnh Bạc Liêu", "H12"),
    _kept("H05", "tỉnh Bắc Ninh"),
    _merged("H06", "tỉnh Bà Rịa - Vũng Tàu", "H29"),
    _merged("H07", "tỉnh Bến Tre", "H61"),
    _merged("H08", "tỉnh Bình Định", "H21"),
    _merged("H09", "tỉnh Bình Dương", "H29"),
    _merged("H10", "tỉnh Bình Phước", "H19"),
    _merged("H11", "tỉnh Bình Thuận", "H36"),
    _kept("H12", "tỉnh Cà Mau"),
    _kept("H13", "thành phố Cần Thơ"),
    _kept("H14", "tỉnh Cao Bằng"),
    _kept("H15", "tỉnh Đắk Lắk"),
    _merged("H16", "tỉnh Đắk Nông", "H36"),
    _kept("H17", "thành phố Đà Nẵng"),
    _kept("H18", "tỉnh Điện Biên"),
    _kept("H19", "tỉnh Đồng Nai"),
    _kept("H20", "tỉnh Đồng Tháp"),
    _kept("H21", "tỉnh Gia Lai"),
    _merged("H22", "tỉnh Hà Giang", "H60"),
    _merged("H23", "tỉnh Hải Dương", "H24"),
    _kept("H24", "thành phố Hải Phòng"),
    _merged("H25", "tỉnh Hà Nam", "H42"),
    _kept("H26", "thành phố Hà Nội"),
    _kept("H27", "tỉnh Hà Tĩnh"),
    _merged("H28", "tỉnh Hòa Bình", "H44"),
    _kept("H29", "thành phố Hồ Chí Minh"),
    _merged("H30", "tỉnh Hậu Giang", "H13"),
    _kept("H31", "tỉnh Hưng Yên"),
    _kept("H32", "tỉnh Khánh Hòa"),
    _merged("H33", "tỉnh Kiên Giang", "H01"),
    _merged("H34", "tỉnh Kon Tum", "H48"),
    _kept("H35", "tỉnh Lai Châu"),
    _kept("H36", "tỉnh Lâm Đồng"),
    _kept("H37", "tỉnh Lạng Sơn"),
    _kept("H38", "tỉnh Lào Cai"),
    _merged("H39", "tỉnh Long An", "H53"),
    _merged("H40", "tỉnh Nam Định", "H42"),
    _kept("H41", "tỉnh Nghệ An"),
    _kept("H42", "tỉnh Ninh Bình"),
    _merged("H43", "tỉnh Ninh Thuận", "H32"),
    _kept("H44", "tỉnh Phú Thọ"),
    _merged("H45", "tỉnh Phú Yên", "H15"),
    _merged("H46", "tỉnh Quảng Bình", "H50"),
    _merged("H47", "tỉnh Quảng Nam", "H17"),
    _kept("H48", "tỉnh Quảng Ngãi"),
    _kept("H49", "tỉnh Quảng Ninh"),
    _kept("H50", "tỉnh Quảng Trị"),
    _merged("H51", "tỉnh Sóc Trăng", "H13"),
    _kept("H52", "tỉnh Sơn La"),
    _kept("H53", "tỉnh Tây Ninh"),
    _merged("H54", "tỉnh Thái Bình", "H31"),
    _kept("H55", "tỉnh Thái Nguyên"),
    _kept("H56", "tỉnh Thanh Hóa"),
    Organ("H57", "tỉnh Thừa Thiên Huế", until=date(2024, 12, 31)),  # renamed under its code, QĐ 09/2025
    Organ("H57", "thành phố Huế", since=date(2025, 1, 1)),
    _merged("H58", "tỉnh Tiền Giang", "H20"),
    _merged("H59", "tỉnh Trà Vinh", "H61"),
    _kept("H60", "tỉnh Tuyên Quang"),
    _kept("H61", "tỉnh Vĩnh Long"),
    _merged("H62", "tỉnh Vĩnh Phúc", "H44"),
    _merged("H63", "tỉnh Yên Bái", "H38"),
)
"""63 provinces under 63 codes, 34 of them open since the merger. The provincial council has K and the same number."""

SEEN = frozenset(
    (
        *("H14", "H17", "H19", "H20", "H22", "H29", "H30", "H37", "H38", "H41"),
        *("H48", "H49", "H50", "H51", "H54", "H55", "H56", "H57", "H59"),
    )
)
"""The provinces' codes that a published source showed beside the name."""

MINISTRIES: tuple[Organ, ...] = (
    _kept("G01", "Bộ Công an"),
    _kept("G02", "Bộ Công Thương"),
    _kept("G03", "Bộ Giáo dục và Đào tạo"),
    _gone("G04", "Bộ Giao thông vận tải", "G17"),
    _gone("G05", "Bộ Kế hoạch và Đầu tư"),
    _kept("G06", "Bộ Khoa học và Công nghệ"),
    _gone("G07", "Bộ Lao động - Thương binh và Xã hội"),
    _kept("G08", "Bộ Ngoại giao"),
    _kept("G09", "Bộ Nội vụ"),
    _gone("G10", "Bộ Nông nghiệp và Phát triển nông thôn"),
    Organ("G10", "Bộ Nông nghiệp và Môi trường", since=MINISTRIES_CHANGED),
    _kept("G11", "Bộ Quốc phòng"),
    _kept("G12", "Bộ Tài chính"),
    _gone("G13", "Bộ Tài nguyên và Môi trường"),
    _gone("G14", "Bộ Thông tin và Truyền thông"),
    _kept("G15", "Bộ Tư pháp"),
    _kept("G16", "Bộ Văn hóa, Thể thao và Du lịch"),
    _kept("G17", "Bộ Xây dựng"),
    _kept("G18", "Bộ Y tế"),
    _kept("G19", "Ngân hàng Nhà nước Việt Nam"),
    _kept("G20", "Thanh tra Chính phủ"),
    _gone("G21", "Ủy ban Dân tộc"),
    Organ("G21", "Bộ Dân tộc và Tôn giáo", since=MINISTRIES_CHANGED),
    _kept("G22", "Văn phòng Chính phủ"),
)
"""The ministries and bodies of ministry rank. Who follows a closed one stands here only where `configs/demo.toml` says so too."""

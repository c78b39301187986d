"""The laws of a tree: each is broken once and told; depth is not among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.directory import Connection, Entry
from node.core.identifier import HUB, OrgId
from topology.check import check
from topology.load import load
from topology.model import OfficeSystem, Site, Tree

Write = Callable[..., Path]


def test_a_lawful_tree_breaks_no_law(small: Tree) -> None:
    assert check(small) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "Cao Bằng"', 'name = "Nghệ An"', 'tên "Nghệ An" được đặt cho nhiều điểm kết nối'),
        ('code = "H14"\nparent', 'code = "H41"\nparent', 'mã "H41" được đặt cho nhiều điểm kết nối'),
        ('id = "so"', 'id = "vpcp"', 'hệ thống "vpcp" được khai báo nhiều lần'),
        ('["H41", "K41"]\n[[', '["H41", "K41", "G22"]\n[[', 'mã phụ trách "G22" được ghi nhiều lần'),
        ('code = "H14"\nparent = ""', 'code = "H14"', "phải có đúng một nút gốc"),
        ('code = ""\nprefixes', 'code = "G99"\nprefixes', "nút gốc và chỉ nút gốc có mã rỗng"),
        ('parent = "H41"', 'parent = "H42"', 'không có điểm kết nối cấp trên mã "H42"'),
        ('parent = ""\nprefixes', 'parent = "H41.07"\nprefixes', "parent tạo thành vòng"),
        ('prefixes = ["H41", "K41"]', 'prefixes = ["K41"]', "mã của chính điểm này phải nằm trong prefixes"),
        ('code = "H14"\nparent', 'code = "HUB"\nparent', "trùng tên thư mục dành riêng"),
        ('code = "H14"\nparent = ""', 'code = "H14"\nparent = ""\nprefixes = ["H14", "H41.09"]', '"H41.09" nằm trong "H41"'),
        ('codes = ["H41", "K41"]', 'codes = ["H41", "K41", "H41.07"]', 'mã "H41.07" được ghi cho hệ thống "nghean" và "so"'),
        ('codes = ["H41", "K41"]', 'codes = ["H41", "K41", "K41"]', 'mã "K41" được ghi cho hệ thống "nghean" và "nghean"'),
        ('codes = ["G22"]', 'codes = ["G22", "H14.01"]', 'mã "H14.01" của hệ thống "vpcp" thuộc điểm kết nối "Cao Bằng"'),
        ('codes = ["H41", "K41"]', 'codes = ["H41", "K41", "G23"]', 'mã "G23" của hệ thống "nghean" thuộc điểm kết nối "Gốc"'),
        ('codes = ["G22"]', 'codes = ["G22", "G23"]', 'mã "G23" không có trong organs'),
        ('codes = ["G22"]', 'codes = ["G22", "TRUC"]', '"TRUC" là mã của trục'),
        ('"chua-ket-noi"', '"chinh-thuc"', 'cơ quan "H14" ghi chinh-thuc nhưng không hệ thống nào nhận'),
        ('"thu-nghiem"', '"chua-ket-noi"', 'cơ quan "K41" ghi chua-ket-noi nhưng hệ thống "nghean" nhận'),
        ('successor = "H14"', 'successor = "H98"', "danh mục: entry H22: successor H98"),
    ],
)  # fmt: skip
def test_a_broken_law_is_told(written: Write, old: str, new: str, told: str) -> None:
    broken = check(load(written((old, new))))
    assert any(told in problem for problem in broken), broken


def test_a_locked_organ_may_keep_its_office_system(written: Write) -> None:
    assert check(load(written(('"thu-nghiem"', '"tam-khoa"')))) == []


@given(depth=st.integers(1, 8), width=st.integers(1, 3))
def test_no_depth_is_unlawful(depth: int, width: int) -> None:
    sites = [Site("gốc", HUB, "", None, ())]
    parents = [HUB]
    for _ in range(depth):
        codes = [OrgId((*parent.path, f"A{n:02}")) for parent in parents[:4] for n in range(width)]
        for code in codes:
            system = OfficeSystem(f"office-{code}".lower(), (code,))
            sites.append(Site(f"điểm {code}", code, "", code.parent, (code,), (system,)))
        parents = codes
    entries = tuple(Entry(site.code, site.name, connection=Connection.OFFICIAL) for site in sites[1:])
    assert check(Tree("deep.test", "Trục", "TRUC", 1, tuple(sites), entries)) == []

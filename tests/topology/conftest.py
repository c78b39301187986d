"""A small lawful tree, four sites on three tiers, that the tests of this folder change in one place each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from topology.load import load
from topology.model import Tree

SMALL = """\
zone = "small.test"

[axis]
name = "Trục thử"
code = "TRUC"

[[sites]]
name = "Gốc"
code = ""
prefixes = ["G22"]
[[sites.systems]]
id = "vpcp"
codes = ["G22"]

[[sites]]
name = "Nghệ An"
code = "H41"
tier = "tỉnh"
parent = ""
prefixes = ["H41", "K41"]
[[sites.systems]]
id = "nghean"
codes = ["H41", "K41"]

[[sites]]
name = "Cao Bằng"
code = "H14"
parent = ""

[[sites]]
name = "Sở Nội vụ"
code = "H41.07"
parent = "H41"
[[sites.systems]]
id = "so"
codes = ["H41.07", "H41.07.01"]

[[organs]]
code = "G22"
name = "Văn phòng Chính phủ"
connection = "chinh-thuc"

[[organs]]
code = "H41"
name = "UBND tỉnh Nghệ An"
valid_from = 2020-09-15
connection = "chinh-thuc"

[[organs]]
code = "K41"
name = "HĐND tỉnh Nghệ An"
connection = "thu-nghiem"

[[organs]]
code = "H41.07"
name = "Sở Nội vụ"
connection = "chinh-thuc"

[[organs]]
code = "H41.07.01"
name = "Chi cục"
connection = "chinh-thuc"

[[organs]]
code = "H22"
name = "UBND tỉnh Hà Giang"
valid_to = 2025-06-30
successor = "H14"
connection = "da-dong"

[[organs]]
code = "H14"
name = "UBND tỉnh Cao Bằng"
connection = "chua-ket-noi"
"""

Write = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Writes the small tree, `old` replaced by `new` wherever it stands, and returns the file."""

    def write(*changes: tuple[str, str]) -> Path:
        text = SMALL
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "tree.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def small(written: Write) -> Tree:
    return load(written())


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 22, 3, 0, tzinfo=UTC)

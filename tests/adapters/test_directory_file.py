"""The directory as a file: read strictly, refused with the place named, written so that it reads back the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from node.adapters import directory_file
from node.adapters.directory_file import DirectoryFileError, dump, load, parse
from node.core.directory import Connection, Directory, Entry, NodeEntry, Receiving
from node.core.identifier import HUB, OrgId

DAY = date(2026, 11, 22)


def code(text: str) -> OrgId:
    return OrgId.canonical(text)


def sample() -> dict[str, Any]:
    return {
        "format": "truc-directory-1",
        "version": 7,
        "axis": {"name": "Trục liên thông văn bản quốc gia", "code": "TRUC"},
        "nodes": [
            {"code": "", "name": "Trục quốc gia", "tier": "trung ương", "parent": None, "prefixes": ["G22"]},
            {"code": "H31", "name": "Trục Hưng Yên", "tier": "tỉnh", "parent": "", "prefixes": ["H31", "H54", "K54"]},
        ],
        "entries": [
            {
                "code": "G22",
                "old_code": "000.00.00.G22",
                "aliases": ["VPCP"],
                "name": "Văn phòng Chính phủ",
                "kind": "bo_nganh",
                "valid_from": "2020-09-15",
                "valid_to": None,
                "successor": None,
                "receives_for": ["G22"],
                "focal_only": False,
                "connection": "chinh-thuc",
                "connection_from": "2019-01-01",
            },
            {"code": "H31", "name": "UBND tỉnh Hưng Yên", "connection": "thu-nghiem"},
            {"code": "H54", "name": "UBND tỉnh Thái Bình", "valid_to": "2025-06-30", "successor": "H31"},
        ],
    }


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "directory.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def failure(path: Path) -> list[str]:
    """The problems of a file that is refused, each without the file's name, which must open it."""
    with pytest.raises(DirectoryFileError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_a_directory_file_becomes_the_directory_it_describes(tmp_path: Path) -> None:
    directory = load(write(tmp_path, sample()))
    assert (directory.axis_name, directory.axis_code_text, directory.version) == ("Trục liên thông văn bản quốc gia", "TRUC", 7)
    assert directory.nodes == (
        NodeEntry(HUB, "Trục quốc gia", "trung ương", None, (code("G22"),)),
        NodeEntry(code("H31"), "Trục Hưng Yên", "tỉnh", HUB, (code("H31"), code("H54"), code("K54"))),
    )
    assert directory.entries == (
        Entry(
            code=code("G22"),
            name="Văn phòng Chính phủ",
            old_code="000.00.00.G22",
            aliases=("VPCP",),
            kind="bo_nganh",
            valid_from=date(2020, 9, 15),
            receives_for=(code("G22"),),
            connection=Connection.OFFICIAL,
            connection_from=date(2019, 1, 1),
        ),
        Entry(code("H31"), "UBND tỉnh Hưng Yên", connection=Connection.TRIAL),
        Entry(code("H54"), "UBND tỉnh Thái Bình", valid_to=date(2025, 6, 30), successor=code("H31")),
    )
    assert directory.receiver(directory.resolve("vpcp"), DAY) == Receiving(code("G22"))


def test_a_directory_written_and_read_again_is_the_same(tmp_path: Path) -> None:
    directory = load(write(tmp_path, sample()))
    text = dump(directory)
    assert load(write(tmp_path, text)) == directory
    assert dump(load(write(tmp_path, text))) == text
    assert json.loads(text)["entries"][0] == sample()["entries"][0]
    assert '"Văn phòng Chính phủ"' in text  # UTF-8, not escapes: people read it and diff it
    assert sum('"old_code"' in line for line in text.splitlines()) == 3  # an entry a line


def test_an_empty_directory_can_be_written_and_read(tmp_path: Path) -> None:
    directory = Directory((), (NodeEntry(HUB, "Trục", "", None, ()),), "Trục", "TRUC", 1)
    assert load(write(tmp_path, dump(directory))) == directory


def _set(*where: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for step in where[:-1]:
            place = place[step]
        place[where[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (_set("entries", 2, "valid_to", to="30/06/2025"), "entries[2] (code H54): valid_to: "),
        (_set("entries", 2, "valid_to", to=1751241600), "entries[2] (code H54): valid_to: "),
        (_set("entries", 2, "valid_to", to="2025-02-30"), "entries[2] (code H54): valid_to: "),
        (_set("entries", 0, "connection", to="official"), "entries[0] (code G22): connection: "),
        (_set("entries", 0, "focal_only", to="false"), "entries[0] (code G22): focal_only: "),
        (_set("entries", 0, "code", to="g22"), "entries[0] (code g22): code: Value error, not a code root first in upper case: "),
        (_set("entries", 0, "code", to="000.00.00.G22"), "entries[0] (code 000.00.00.G22): code: "),
        (_set("entries", 0, "code", to=22), "entries[0] (code 22): code: Value error, a code is a text"),
        (_set("entries", 0, "receives_for", to=["G22", "G 22"]), "entries[0] (code G22): receives_for.1: "),
        (_set("entries", 0, "old_code", to="null"), "entries[0] (code G22): old_code: Value error, not a code: code-placeholder"),
        (_set("entries", 0, "aliases", to=[""]), "entries[0] (code G22): aliases.0: "),
        (_set("entries", 0, "aliases", to=["x" * 201]), "entries[0] (code G22): aliases.0: "),
        (_set("entries", 0, "name", to=""), "entries[0] (code G22): name: "),
        (_set("entries", 0, "successor", to="h31"), "entries[0] (code G22): successor: "),
        (_set("entries", 0, "adress", to="x"), "entries[0] (code G22): adress: Extra inputs are not permitted"),
        (_set("entries", 0, to="G22"), "entries[0]: "),
        (_set("entries", to={}), "entries: "),
        (_set("nodes", 1, "prefixes", to=["H31", "h54"]), "nodes[1] (code H31): prefixes.1: "),
        (_set("nodes", 1, "parent", to="none"), "nodes[1] (code H31): parent: "),
        (_set("nodes", 1, to={"code": "H31", "name": "x"}), "nodes[1] (code H31): parent: Field required"),
        (_set("axis", "code", to=""), "axis.code: "),
        (_set("axis", "kind", to=""), "axis.kind: Extra inputs are not permitted"),
        (_set("format", to="truc-directory-2"), "format: "),
        (_set("version", to="7"), "version: "),
        (_set("version", to=0), "version: "),
        (_set("extra", to=1), "extra: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_value_is_named_by_file_entry_and_field(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], place: str
) -> None:
    content = sample()
    change(content)
    problems = failure(write(tmp_path, content))
    assert len(problems) == 1
    assert problems[0].startswith(place)
    assert len(problems[0]) > len(place) or not place.endswith(": ")


def test_a_broken_law_refuses_the_file(tmp_path: Path) -> None:
    content = sample()
    content["entries"][2]["successor"] = "H99"
    content["nodes"][1]["parent"] = "H98"
    assert failure(write(tmp_path, content)) == ["entry H54: successor H99 has no entry", 'node "H31": parent "H98" is no node']


def test_what_is_only_looked_at_may_break_a_law(tmp_path: Path) -> None:
    content = sample()
    content["entries"][2]["successor"] = "H99"
    read = parse(json.dumps(content).encode(), tmp_path, laws=False)
    assert read.history(code("H54"))[-1].successor == code("H99")


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    text = json.dumps(sample()).replace('"code": "H54"', '"code": "H54", "valid_to": null')
    assert failure(write(tmp_path, text)) == ["the key 'valid_to' stands twice in one object, code 'H54'"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '"x"', "[" * 100_000, '{"format": NaN}', '{"entries": [1], "nodes": [[]]}']
)
def test_what_is_no_directory_is_refused_and_named(tmp_path: Path, content: str) -> None:
    assert all(failure(write(tmp_path, content)))


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "directory.json"
    path.write_bytes(json.dumps(sample(), ensure_ascii=False).encode("utf-16"))
    assert len(failure(path)) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert failure(tmp_path / "nowhere.json") == ["No such file or directory"]


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, sample())
    monkeypatch.setattr(directory_file, "FILE_BYTES_MAX", path.stat().st_size)
    load(path)
    monkeypatch.setattr(directory_file, "FILE_BYTES_MAX", path.stat().st_size - 1)
    assert failure(path) == [f"larger than {path.stat().st_size - 1} bytes"]


def test_a_file_full_of_faults_shows_the_first_ones_and_counts_the_rest(tmp_path: Path) -> None:
    content = sample()
    content["entries"] = [{"code": f"H{number}", "name": "x", "connection": "?"} for number in range(10, 60)]
    problems = failure(write(tmp_path, content))
    assert len(problems) == directory_file.PROBLEMS_SHOWN_MAX + 1
    assert problems[0].startswith("entries[0] (code H10): connection: ")
    assert problems[-1] == "and 30 more"

"""Letters are packages that a node takes: well-formed, each with its number, its receivers and its content."""

from __future__ import annotations

import zlib

import pytest

from node.core.package import Priority
from node.documents.draft import ReadLimits
from node.documents.edxml import Reader
from topology.bench.letters import Contents, Letters, content_of, number_of


def test_a_letter_holds_its_number_its_receivers_and_its_content() -> None:
    package = Letters("H41", ["H51.1", "H51.2"]).write(7, b"x" * 1000)
    assert content_of(package) == b"x" * 1000
    assert content_of(package) == b"x" * 1000, "and again"
    assert content_of(package.replace(b"eHh4", b"eHh5", 1)) == b"xxy" + b"x" * 997
    assert b"<edXML:DocumentId>H41-7</edXML:DocumentId>" in package
    assert package.count(b"<edXML:To>") == 2
    assert b"SO-THU-TU" not in package


def test_a_letter_is_read_by_a_node() -> None:
    reader = Reader(ReadLimits(package_bytes_max=1 << 20, unpacked_bytes_max=1 << 20))
    reader.feed(Letters("H41", ["H51.1"], Priority.EXPRESS).write(3, bytes(range(256)) * 40))
    read = reader.close()
    assert (read.sender.code, [party.code for party in read.recipients]) == ("H41", ["H51.1"])
    assert read.priority is Priority.EXPRESS


def test_every_content_is_another_and_says_its_number() -> None:
    contents = Contents(10_000)
    assert contents.of(3) is contents.of(3) != contents.of(4)
    found = {contents.of(number) for number in range(200)}
    assert len(found) == 200
    assert {len(content) for content in found} == {10_000}
    assert sorted(map(number_of, found)) == list(range(200))
    assert Contents(10_000).of(5) == contents.of(5)


def test_content_does_not_shrink() -> None:
    assert len(zlib.compress(Contents(100_000).of(1))) > 99_000


def test_what_holds_no_attachment_is_told() -> None:
    with pytest.raises(ValueError, match="not found"):
        content_of(b"<edXML/>")

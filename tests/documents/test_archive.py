"""The ZIP watch counts what would come out, on real and on hostile archives, and leaves alone what it cannot judge."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import warnings
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.documents.archive import ODD_DAMAGED, ODD_ENCRYPTED, ODD_METHOD, STEP_BYTES, ArchiveLimits, Bomb, Watch

MIB = 1 << 20
LIMITS = ArchiveLimits(unpacked_bytes_max=64 * MIB)


class Pipe(io.RawIOBase):
    """A file that cannot seek: zipfile then writes data descriptors, as Java's streams do."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self.data += piece
        return len(piece)


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, streamed: bool = False) -> bytes:
    target = Pipe() if streamed else io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as writer:
        for name, content in members.items():
            writer.writestr(name, content)
    return bytes(target.data) if isinstance(target, Pipe) else target.getvalue()


def watch(data: bytes, limits: ArchiveLimits = LIMITS, piece: int = 50_000, before: int = 0) -> Watch:
    watched = Watch(limits, before)
    for at in range(0, len(data), piece):
        watched.feed(data[at : at + piece])
    watched.close()
    return watched


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


MEMBERS = {"a.txt": b"x" * 5000, "empty": b"", "thu-muc/b.bin": noise(70_000), "c.txt": "Tờ trình".encode() * 9}
TOTAL = sum(map(len, MEMBERS.values()))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("piece", [1, 3, 29, 4096, 1 << 20])
def test_members_are_counted_whatever_the_pieces(streamed: bool, piece: int) -> None:
    watched = watch(archive(MEMBERS, streamed=streamed), piece=piece)
    assert (watched.zipped, watched.unpacked_bytes, watched.members, watched.oddities) == (True, TOTAL, 4, set())


def test_stored_members_are_counted() -> None:
    watched = watch(archive(MEMBERS, zipfile.ZIP_STORED))
    assert (watched.unpacked_bytes, watched.members, watched.oddities) == (TOTAL, 4, set())


@pytest.mark.parametrize("streamed", [False, True])
def test_zip64_sizes_are_understood(streamed: bool) -> None:
    target = Pipe() if streamed else io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as writer:
        for name in ("a", "b"):
            with writer.open(name, "w", force_zip64=True) as member:
                member.write(b"y" * 3000)
    data = bytes(target.data) if isinstance(target, Pipe) else target.getvalue()
    watched = watch(data, piece=7)
    assert (watched.unpacked_bytes, watched.members, watched.oddities) == (6000, 2, set())


def test_a_descriptor_without_signature_is_understood() -> None:
    data = archive({"a": b"z" * 900, "b": b"z" * 901}, streamed=True)
    watched = watch(data.replace(b"PK\x07\x08", b""))
    assert (watched.unpacked_bytes, watched.members, watched.oddities) == (1801, 2, set())


@pytest.mark.parametrize("data", [b"", b"P", b"PK\x03", b"%PDF-1.7 " + noise(90_000), b"PK\x05\x06" + bytes(18)])
def test_what_is_not_a_zip_is_not_judged(data: bytes) -> None:
    watched = watch(data)
    assert (watched.zipped, watched.unpacked_bytes, watched.oddities) == (False, 0, set())


def test_an_archive_inside_an_archive_is_looked_into() -> None:
    document = archive({"word/document.xml": b"<w/>" * 100}, streamed=True)
    watched = watch(archive({"5ccbf32d.docx": document}, streamed=True))
    assert (watched.unpacked_bytes, watched.members) == (len(document) + 400, 2)


def nested(depth: int, method: int) -> bytes:
    data = archive({"x": b"innermost"})
    for _ in range(depth):
        data = archive({"x.zip": data}, method)
    return data


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_three_archives_within_an_attachment_pass_and_four_do_not(method: int) -> None:
    assert watch(nested(3, method)).oddities == set()
    with pytest.raises(Bomb, match="nested archives ≤ 3: 4"):
        watch(nested(4, method))


def test_bytes_are_counted_over_the_whole_package() -> None:
    data = archive({"a": noise(3000)})
    limits = ArchiveLimits(unpacked_bytes_max=5000)
    first = watch(data, limits)
    with pytest.raises(Bomb, match="unpacked bytes ≤ 5000: 6000"):
        watch(data, limits, before=first.unpacked_bytes)


def test_stored_bytes_count_as_unpacked_bytes() -> None:
    with pytest.raises(Bomb, match="unpacked bytes"):
        watch(archive({"a": noise(5001)}, zipfile.ZIP_STORED), ArchiveLimits(unpacked_bytes_max=5000))


def test_the_ratio_counts_only_beyond_its_floor() -> None:
    assert watch(archive({"a": bytes(32 * MIB)})).unpacked_bytes == 32 * MIB
    with pytest.raises(Bomb, match=r"unpacked/packed ≤ 200: \d{3}"):
        watch(archive({"a": bytes(40 * MIB)}))


def test_a_bomb_behind_a_modest_member_is_still_a_bomb() -> None:
    inner = archive({"0": bytes(60 * MIB)})
    with pytest.raises(Bomb, match="unpacked/packed"):
        watch(archive({"a": b"hello", "b.zip": inner}))


def test_what_a_stream_already_holds_is_counted_before_more_comes() -> None:
    for size in range(STEP_BYTES, STEP_BYTES + 3000, 50):
        data = archive({"a": bytes(size)})
        watched = Watch(LIMITS)
        watched.feed(data[: data.index(b"PK\x01\x02")])
        assert watched.unpacked_bytes == size


def test_a_bomb_is_stopped_within_one_step_and_in_little_memory() -> None:
    """Threats, row 17."""
    data = archive({"a": bytes(80 * MIB)})
    limits = ArchiveLimits(unpacked_bytes_max=10 * MIB)
    watched = Watch(limits)
    tracemalloc.start()
    try:
        with pytest.raises(Bomb):
            watched.feed(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert watched.unpacked_bytes <= limits.unpacked_bytes_max + STEP_BYTES
    assert peak < 4 * MIB


def test_members_are_limited_over_all_levels() -> None:
    limits = ArchiveLimits(unpacked_bytes_max=MIB, members_max=50)
    few = archive({str(n): b"" for n in range(49)})
    assert watch(archive({"a.zip": few}), limits).members == 50
    with pytest.raises(Bomb, match="members ≤ 50: 51"):
        watch(archive({"a.zip": few, "b": b""}), limits)


def with_directory(data: bytes, entries: int, unpacked: int | None = None) -> bytes:
    """The archive with its one central entry repeated, and the unpacked size there replaced."""
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = bytearray(data[start:end])
    if unpacked is not None:
        entry[24:28] = struct.pack("<L", unpacked)
    return data[:start] + bytes(entry) * entries + data[end:]


def test_overlapping_entries_show_in_the_directory() -> None:
    """Threats, row 17."""
    data = archive({"kernel": noise(1000)})
    with pytest.raises(Bomb, match=r"packed bytes ≤ \d+: 2\d\d\d"):
        watch(with_directory(data, 2))


def test_a_directory_that_declares_too_much_is_a_bomb() -> None:
    data = archive({"a": noise(1000)})
    with pytest.raises(Bomb, match=f"unpacked bytes ≤ {64 * MIB}: {65 * MIB}"):
        watch(with_directory(data, 1, 65 * MIB))


def test_a_directory_of_too_many_entries_is_a_bomb() -> None:
    data = archive({"a": b""}, zipfile.ZIP_STORED)
    with pytest.raises(Bomb, match="members ≤ 10000: 10001"):
        watch(with_directory(data, 10_001))


def test_a_directory_that_repeats_what_was_counted_adds_nothing() -> None:
    assert watch(archive({"a": noise(4000)}), ArchiveLimits(unpacked_bytes_max=4000)).oddities == set()


def test_a_header_that_lies_about_the_unpacked_size_does_not_help() -> None:
    data = bytearray(archive({"a": bytes(40 * MIB)}))
    data[22:26] = struct.pack("<L", 10)
    with pytest.raises(Bomb, match="unpacked/packed"):
        watch(bytes(data))


def test_encrypted_members_are_passed_over_and_noted() -> None:
    data = bytearray(archive({"a": noise(3000)}) + b"")
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    watched = watch(bytes(data))
    assert (watched.unpacked_bytes, watched.oddities) == (0, {ODD_ENCRYPTED})


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_foreign_compression_is_passed_over_and_the_rest_is_judged(method: int) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as writer:
        writer.writestr("a", b"q" * 9000, method)
        writer.writestr("b", b"q" * 700, zipfile.ZIP_DEFLATED)
    watched = watch(target.getvalue())
    assert (watched.unpacked_bytes, watched.members, watched.oddities) == (700, 2, {ODD_METHOD})


def test_a_stored_member_of_unknown_length_ends_the_judging() -> None:
    data = bytearray(archive({"a": b"abc"}, zipfile.ZIP_STORED))
    data[6] |= 8
    assert watch(bytes(data)).oddities == {ODD_DAMAGED}


def test_a_member_whose_header_and_stream_disagree_is_damage() -> None:
    data = bytearray(archive({"a": b"abc" * 100}))
    data[18:22] = struct.pack("<L", 5)
    assert watch(bytes(data)).oddities == {ODD_DAMAGED}


def test_an_archive_cut_anywhere_is_noted_and_never_refused() -> None:
    data = archive({"a": noise(300), "b": b"b" * 300}, streamed=True)
    whole = data.index(b"PK\x05\x06") + 4
    for size in range(4, whole):
        assert watch(data[:size]).oddities == {ODD_DAMAGED}, size
    assert watch(data[:whole]).oddities == set()


def test_a_damaged_archive_within_a_good_one_does_not_hide_the_rest() -> None:
    inner = archive({"x": noise(400)})
    watched = watch(archive({"a.zip": inner[:200], "b": b"b" * 50}))
    assert (watched.unpacked_bytes, watched.oddities) == (250 + zlib_output(inner[:200]), {ODD_DAMAGED})


def zlib_output(data: bytes) -> int:
    """What a cut member still gives out of its first bytes."""
    name, extra = struct.unpack_from("<HH", data, 26)
    return len(zlib.decompressobj(-15).decompress(data[30 + name + extra :]))


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans(), st.sampled_from([1, 100, 100_000]))
def test_any_damage_ends_in_a_count_or_a_bomb(rng: random.Random, streamed: bool, piece: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = bytearray(archive({"a": b"ab" * 400, "b.zip": archive({"c": noise(90)}), "d": noise(200)}, streamed=streamed))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        data[at : at + rng.choice((0, 1, 1, 2))] = rng.randbytes(rng.choice((0, 1, 1, 4)))
    try:
        watched = watch(bytes(data), piece=piece)
    except Bomb as bomb:
        assert "≤" in str(bomb)
    else:
        assert watched.unpacked_bytes <= LIMITS.unpacked_bytes_max

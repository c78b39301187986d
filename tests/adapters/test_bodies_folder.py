"""Bodies in a folder: durable before anybody names them, private, resumed where they broke off, gone only when told."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.adapters.bodies import folder
from node.adapters.bodies.files import HostFiles, OpenFile
from node.adapters.bodies.folder import CHUNK_BYTES, FolderBodies
from node.core.custody import StoredBody
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId

INLINE_MAX = 1024
UNIT, OTHER, HUB = OrgId.canonical("H41.07"), OrgId.canonical("H41.08"), OrgId(())
LARGE = os.urandom(3 * CHUNK_BYTES + 17)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
async def bodies(tmp_path: Path) -> AsyncIterator[FolderBodies]:
    found = lay(tmp_path)
    yield found
    found.close()


def lay(tmp_path: Path) -> FolderBodies:
    numbers = itertools.count()
    return FolderBodies(HostFiles(tmp_path / "bodies"), INLINE_MAX, lambda: f"token{next(numbers)}-{os.getpid()}-{id(numbers)}")


async def spool(bodies: FolderBodies, data: bytes, piece: int = 70_000) -> StoredBody:
    spooled = bodies.spool()
    for start in range(0, len(data), piece):
        await spooled.write(data[start : start + piece])
    return await spooled.finish()


async def finish(bodies: FolderBodies, data: bytes) -> StoredBody:
    body = await bodies.finish(UNIT, digest(data))
    assert body is not None
    return body


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root / "bodies")) for path in (root / "bodies").rglob("*") if path.is_file())


# --- spooling --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, INLINE_MAX])
async def test_a_small_body_never_touches_the_disk(bodies: FolderBodies, tmp_path: Path, size: int) -> None:
    body = await spool(bodies, LARGE[:size])
    assert body == StoredBody(digest(LARGE[:size]), size, data=LARGE[:size])
    assert files(tmp_path) == []


@pytest.mark.parametrize("size", [INLINE_MAX + 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(LARGE)])
@pytest.mark.parametrize("piece", [1000, CHUNK_BYTES, len(LARGE)])
async def test_a_large_body_is_a_file_named_by_its_digest(bodies: FolderBodies, tmp_path: Path, size: int, piece: int) -> None:
    data = LARGE[:size]
    body = await spool(bodies, data, piece)
    assert (body.sha256, body.size, body.data) == (digest(data), size, None)
    assert body.file is not None
    assert body.file.startswith(f"{digest(data)[:2]}/{digest(data)}.")
    assert files(tmp_path) == [body.file]
    assert b"".join([chunk async for chunk in bodies.chunks(body.file, size)]) == data
    assert await bodies.read(body.file, 5, 7) == data[5:12]
    assert await bodies.intact(body.file, digest(data))


async def test_a_name_is_never_used_again(bodies: FolderBodies, tmp_path: Path) -> None:
    """Removing an old copy can never hit a new one."""
    first, second = await spool(bodies, LARGE), await spool(bodies, LARGE)
    assert first.file != second.file
    assert first.file is not None
    await bodies.delete([first.file])
    assert files(tmp_path) == [second.file]
    await bodies.delete([first.file])  # once more is well


async def test_the_file_and_its_folder_are_synced_before_anybody_hears_its_name(
    bodies: FolderBodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decision 3: every body that a row names is durable before the row."""
    steps: list[str] = []
    root = tmp_path / "bodies"

    def fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        steps.append("folder" if path.is_dir() and path != root else "root" if path == root else "file")

    monkeypatch.setattr(os, "fsync", fsync)
    really = os.rename

    def rename(*names: Path) -> None:
        steps.append("rename")
        really(*names)

    monkeypatch.setattr(os, "rename", rename)
    await spool(bodies, LARGE)
    assert steps == ["file", "root", "rename", "folder"]
    steps.clear()
    await spool(bodies, LARGE)
    assert steps == ["file", "rename", "folder"]
    steps.clear()
    await bodies.receive(UNIT, digest(LARGE), 0, LARGE)
    await bodies.finish(UNIT, digest(LARGE))
    assert steps == ["file", "rename", "folder"]


async def test_what_was_spooled_and_refused_leaves_nothing(bodies: FolderBodies, tmp_path: Path) -> None:
    spooled = bodies.spool()
    await spooled.write(LARGE)
    assert len(files(tmp_path)) == 1
    await spooled.discard()
    await spooled.discard()
    assert files(tmp_path) == []
    body = await spool(bodies, LARGE)
    spooled = bodies.spool()
    await spooled.discard()
    assert files(tmp_path) == [body.file]


async def test_discard_after_finish_keeps_the_body(bodies: FolderBodies, tmp_path: Path) -> None:
    spooled = bodies.spool()
    await spooled.write(LARGE)
    body = await spooled.finish()
    await spooled.discard()
    assert files(tmp_path) == [body.file]


async def test_a_caller_cut_off_in_the_first_write_leaves_nothing(bodies: FolderBodies, tmp_path: Path) -> None:
    """The thread goes on although nobody waits: what it has just made is dropped too."""
    spooled = bodies.spool()
    writing = asyncio.ensure_future(spooled.write(LARGE))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await spooled.discard()
    assert files(tmp_path) == []


async def test_everything_is_private(bodies: FolderBodies, tmp_path: Path) -> None:
    await spool(bodies, LARGE)
    await bodies.receive(UNIT, digest(b"part"), 0, b"pa")
    await bodies.receive(UNIT, digest(LARGE[1:]), 0, LARGE[1:])
    await bodies.finish(UNIT, digest(LARGE[1:]))
    spooled = bodies.spool()
    await spooled.write(LARGE)
    root = tmp_path / "bodies"
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in [root, *root.rglob("*")]}
    for path in [root, *root.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert len(modes) == 2
    await spooled.discard()


# --- a crash ---------------------------------------------------------------------------------------------------------------


async def test_what_a_crash_left_without_a_row_is_swept_at_the_start_and_parts_stay(tmp_path: Path) -> None:
    before = lay(tmp_path)
    known, orphan = await spool(before, LARGE), await spool(before, LARGE[1:])
    halfway = before.spool()
    await halfway.write(LARGE)
    await before.receive(UNIT, digest(LARGE[2:]), 0, LARGE[2:500])
    halfway._file.close()  # type: ignore[union-attr]  # the process dies here
    before.close()
    after = lay(tmp_path)
    assert known.file is not None
    assert await after.sweep({known.file}) == 2
    assert files(tmp_path) == sorted([known.file, f"partial/H41.07-{digest(LARGE[2:])}"])
    assert orphan.file not in files(tmp_path)
    assert await after.sweep({known.file}) == 0
    assert await after.receive(UNIT, digest(LARGE[2:]), 498, LARGE[500:]) == len(LARGE) - 2
    after.close()


# --- parts -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 4000), max_size=6), lost=st.lists(st.integers(0, 4000), max_size=4))
async def test_a_body_is_whole_however_often_the_line_was_cut(tmp_path: Path, cuts: list[int], lost: list[int]) -> None:
    """Resumable after any cut: each side goes on from what the other says it holds."""
    data = LARGE[:4000]
    bodies = lay(tmp_path)
    held = await bodies.receive(UNIT, digest(data), 0, b"")
    assert held == 0
    for end in [*sorted(cuts), len(data)]:
        for wrong in lost:  # a repeated or reordered chunk
            if wrong != held:
                assert await bodies.receive(UNIT, digest(data), wrong, data[wrong:]) == held
        held = await bodies.receive(UNIT, digest(data), held, data[held:end])
        assert held == max(end, 0)
    body = await finish(bodies, data)
    assert (body.size, body.sha256) == (len(data), digest(data))
    assert body.file is not None
    assert await bodies.read(body.file, 0, 5000) == data
    await bodies.delete([body.file])
    bodies.close()


async def test_a_part_is_hashed_while_it_grows_and_read_again_only_where_that_was_not_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that an earlier process began, one that was forgotten among too many, one to which a write has failed."""
    monkeypatch.setattr(folder, "HASHES_MAX", 2)
    read: list[int] = []
    really = folder._sha256

    def counted(handle: OpenFile) -> str:
        read.append(1)
        return really(handle)

    monkeypatch.setattr(folder, "_sha256", counted)
    bodies = lay(tmp_path)
    await bodies.receive(UNIT, digest(LARGE), 0, LARGE[:100])
    await bodies.receive(UNIT, digest(LARGE), 100, LARGE[100:])
    assert (await bodies.finish(UNIT, digest(LARGE))) is not None
    assert read == []
    for neighbour in (UNIT, OTHER, HUB):
        await bodies.receive(neighbour, digest(LARGE), 0, LARGE[:100])
    bodies.close()
    again = lay(tmp_path)
    for neighbour in (UNIT, OTHER, HUB):
        await again.receive(neighbour, digest(LARGE), 100, LARGE[100:])
        assert await again.finish(neighbour, digest(LARGE)) is not None
    assert len(read) == 3
    for neighbour in (UNIT, OTHER, HUB):
        await again.receive(neighbour, digest(LARGE), 0, LARGE)
    for neighbour in (UNIT, OTHER, HUB):
        assert await again.finish(neighbour, digest(LARGE)) is not None
    assert len(read) == 4
    again.close()


async def test_parts_of_two_neighbours_are_two_parts(bodies: FolderBodies) -> None:
    """Decision 7: what one has sent is no help to another who only knows the digest."""
    assert await bodies.receive(UNIT, digest(LARGE), 0, LARGE[:100]) == 100
    assert await bodies.receive(OTHER, digest(LARGE), 0, b"") == 0
    assert await bodies.receive(HUB, digest(LARGE), 0, LARGE[:50]) == 50
    assert await bodies.receive(UNIT, digest(LARGE), 0, b"") == 100


async def test_a_body_that_is_not_what_its_digest_says_is_dropped(bodies: FolderBodies, tmp_path: Path) -> None:
    """QĐ 28/2018 Điều 6.1; the next try begins anew instead of failing for ever."""
    await bodies.receive(UNIT, digest(LARGE), 0, LARGE[:-1] + b"?")
    with pytest.raises(Refused) as caught:
        await bodies.finish(UNIT, digest(LARGE))
    assert caught.value.reason is Reason.BODY_DAMAGED
    assert files(tmp_path) == []
    assert await bodies.receive(UNIT, digest(LARGE), 0, b"") == 0


async def test_a_part_that_is_not_there_is_an_empty_one(bodies: FolderBodies, tmp_path: Path) -> None:
    body = await finish(bodies, b"")
    assert body.size == 0
    with pytest.raises(Refused):
        await bodies.finish(UNIT, digest(LARGE))
    assert files(tmp_path) == [body.file]


async def test_a_part_that_could_not_be_synced_is_never_believed_again(
    bodies: FolderBodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decision 3: a second sync might say yes to what the first has lost."""

    def fails(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    await bodies.receive(UNIT, digest(LARGE), 0, LARGE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output"):
            await bodies.finish(UNIT, digest(LARGE))
    assert files(tmp_path) == []
    assert await bodies.receive(UNIT, digest(LARGE), 0, b"") == 0


async def test_parts_that_nobody_adds_to_are_forgotten(bodies: FolderBodies, tmp_path: Path) -> None:
    for neighbour in (UNIT, OTHER):
        await bodies.receive(neighbour, digest(LARGE), 0, LARGE[:10])
    old = tmp_path / "bodies" / "partial" / f"H41.07-{digest(LARGE)}"
    os.utime(old, ns=(0, 5_000_000_000))
    assert await bodies.forget_parts(5000) == 0
    assert await bodies.forget_parts(5001) == 1
    assert files(tmp_path) == [f"partial/H41.08-{digest(LARGE)}"]


# --- a disk that is full or rots -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_is_later_and_what_was_begun_is_cleared(
    bodies: FolderBodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    spooled = bodies.spool()
    await spooled.write(LARGE)

    def fails(*values: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fails)
        with pytest.raises(Deferred) as caught:
            await spooled.finish()
        await spooled.discard()
    assert (caught.value.reason, caught.value.in_doubt) == (Reason.DISK_FULL, False)
    assert files(tmp_path) == []
    assert (await spool(bodies, LARGE)).size == len(LARGE)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_shelf_whose_entry_could_not_be_synced_is_synced_before_anything_stands_on_it(
    bodies: FolderBodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Decision 3: the folder is there after the failure, but a power cut would take it with every body in it."""
    synced: list[Path] = []
    root = tmp_path / "bodies"

    def fsync(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        if synced.count(root) == 1 and synced[-1] == root:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    await bodies.receive(UNIT, digest(LARGE), 0, LARGE)
    with pytest.raises(Deferred):
        await bodies.finish(UNIT, digest(LARGE))
    assert (root / digest(LARGE)[:2]).is_dir()
    assert (await spool(bodies, LARGE)).size == len(LARGE)
    assert synced.count(root) == 2
    assert (await spool(bodies, LARGE)).size == len(LARGE)
    assert synced.count(root) == 2


async def test_a_shelf_that_was_there_at_the_start_is_synced_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lay(tmp_path)
    await spool(before, LARGE)
    before.close()
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(Path(os.readlink(f"/proc/self/fd/{handle}"))))
    after = lay(tmp_path)
    assert synced.count(tmp_path / "bodies") == 1
    await spool(after, LARGE)
    assert synced.count(tmp_path / "bodies") == 1
    after.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_body_whose_name_could_not_be_synced_leaves_no_copy_however_often_it_is_tried(
    bodies: FolderBodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    shelf = tmp_path / "bodies" / digest(LARGE)[:2]

    def fsync(handle: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{handle}")) == shelf:
            raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        for _ in range(3):
            spooled = bodies.spool()
            await spooled.write(LARGE)
            with pytest.raises(Deferred):
                await spooled.finish()
            await spooled.discard()
            await bodies.receive(UNIT, digest(LARGE), 0, LARGE)
            with pytest.raises(Deferred):
                await bodies.finish(UNIT, digest(LARGE))
    assert files(tmp_path) == []
    body = await spool(bodies, LARGE)
    assert files(tmp_path) == [body.file]


async def test_a_chunk_that_only_half_fitted_is_resumed_where_it_ended(bodies: FolderBodies, tmp_path: Path) -> None:
    """What is on the disk is always the beginning of the body, so its length is the answer."""
    await bodies.receive(UNIT, digest(LARGE), 0, LARGE[:100])
    part = tmp_path / "bodies" / "partial" / f"H41.07-{digest(LARGE)}"
    with part.open("ab") as handle:
        handle.write(LARGE[100:177])
    assert await bodies.receive(UNIT, digest(LARGE), 100, LARGE[100:]) == 177
    assert await bodies.receive(UNIT, digest(LARGE), 177, LARGE[177:]) == len(LARGE)
    assert (await finish(bodies, LARGE)).size == len(LARGE)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
async def test_a_really_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", "size=4m", "none", small, stderr=asyncio.subprocess.PIPE
    )
    _, why = await mount.communicate()
    if mount.returncode != 0:
        pytest.skip(f"no tmpfs here: {why.decode().strip()}")
    try:
        bodies = lay(small)
        ballast = small / "ballast"
        ballast.write_bytes(b"\0" * 3_700_000)
        spooled = bodies.spool()
        with pytest.raises(Deferred) as caught:
            await spooled.write(LARGE)
            await spooled.finish()
        assert caught.value.reason is Reason.DISK_FULL
        await spooled.discard()
        assert files(small) == []
        with pytest.raises(Deferred):
            await bodies.receive(UNIT, digest(LARGE), 0, LARGE)
        held = await bodies.receive(UNIT, digest(LARGE), 0, b"")
        ballast.unlink()
        assert await bodies.receive(UNIT, digest(LARGE), held, LARGE[held:]) == len(LARGE)
        assert (await finish(bodies, LARGE)).size == len(LARGE)
        bodies.close()
    finally:
        unmount = await asyncio.create_subprocess_exec("umount", small)
        await unmount.wait()


async def test_any_other_error_of_the_disk_is_not_made_up(bodies: FolderBodies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 3: it passes through."""

    def fails() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        await bodies.do(fails)


async def test_bytes_just_proven_are_given_again_for_a_moment_and_no_longer(
    tmp_path: Path, bodies: FolderBodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, other = await spool(bodies, LARGE), await spool(bodies, LARGE[1:])
    assert body.file is not None
    assert other.file is not None
    first = await bodies.whole(body.file, digest(LARGE))
    assert first == LARGE
    assert await bodies.whole(body.file, digest(LARGE)) is first
    assert await bodies.whole(other.file, digest(LARGE[1:])) == LARGE[1:]
    again = await bodies.whole(body.file, digest(LARGE))
    assert again == LARGE
    assert again is not first
    await bodies.delete([body.file])
    assert await bodies.whole(body.file, digest(LARGE)) is None
    monkeypatch.setattr(folder, "PROVEN_S", 0.0)
    assert await bodies.whole(other.file, digest(LARGE[1:])) == LARGE[1:]
    (tmp_path / "bodies" / other.file).write_bytes(LARGE)
    assert await bodies.whole(other.file, digest(LARGE[1:])) is None


@pytest.mark.parametrize("harm", ["flipped", "shorter", "gone"])
async def test_bit_rot_is_found(bodies: FolderBodies, tmp_path: Path, harm: str) -> None:
    """QĐ 28/2018 Điều 6.1: also while it is stored."""
    body = await spool(bodies, LARGE)
    assert body.file is not None
    path = tmp_path / "bodies" / body.file
    harms: dict[str, Callable[[], object]] = {
        "flipped": lambda: path.write_bytes(LARGE[:1000] + bytes([LARGE[1000] ^ 1]) + LARGE[1001:]),
        "shorter": lambda: path.write_bytes(LARGE[:-1]),
        "gone": path.unlink,
    }
    harms[harm]()
    assert not await bodies.intact(body.file, digest(LARGE))
    if harm != "flipped":
        with pytest.raises(Refused) as caught:
            async for _ in bodies.chunks(body.file, len(LARGE)):
                pass
        assert caught.value.reason is Reason.BODY_DAMAGED


async def test_the_free_share_is_the_one_an_ordinary_user_has(tmp_path: Path) -> None:
    bodies = lay(tmp_path)
    facts = os.statvfs(tmp_path)
    assert bodies.free_ratio() == pytest.approx(facts.f_bavail / facts.f_blocks, abs=0.05)
    bodies.close()

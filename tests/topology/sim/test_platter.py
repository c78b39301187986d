"""The content of one file, against a plain model of the same writes."""

from __future__ import annotations

import random

import pytest

from topology.sim import platter
from topology.sim.platter import Inode


def played(seed: int, inode: Inode, model: bytearray, steps: int) -> None:
    """The same drawn writes and cuts on both."""
    rng = random.Random(seed)
    for _ in range(steps):
        offset = rng.randrange(3000)
        if rng.random() < 0.2:
            inode.cut(offset)
            model[:] = model[:offset] + bytes(max(0, offset - len(model)))
        else:
            data = rng.randbytes(rng.randrange(1, 900))
            inode.write(offset, data)
            model.extend(bytes(max(0, offset - len(model))))
            model[offset : offset + len(data)] = data


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_that_keeps_nothing_leaves_exactly_what_was_synced(seed: int) -> None:
    inode, model = Inode(0.0, b"start" * 100), bytearray(b"start" * 100)
    played(seed, inode, model, 30)
    assert inode.content == model
    inode.sync()
    played(seed + 100, inode, bytearray(model), 30)
    inode.lose(random.Random(seed), 0.0)
    assert inode.content == model


@pytest.mark.parametrize("seed", range(20))
def test_what_is_synced_after_a_failed_sync_is_durable_too(seed: int) -> None:
    inode = Inode(0.0)
    played(seed, inode, bytearray(), 10)
    inode.sync_failed(random.Random(seed))
    inode.cut(0)
    model = bytearray()
    played(seed + 100, inode, model, 10)
    inode.sync()
    inode.lose(random.Random(seed), 0.0)
    assert inode.content == model


def test_whoever_never_syncs_has_his_writes_brought_to_the_platter_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platter, "LOG_MAX", 5)
    inode = Inode(0.0)
    for number in range(8):
        inode.write(number, b"x")
    inode.lose(random.Random(1), 0.0)
    assert inode.content == b"xxxxxx"

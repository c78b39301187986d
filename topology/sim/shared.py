"""What the nodes of one process need not work out each for itself, because it follows from bytes that all of them were given.

A country's directory is read, and made out of its changes, once for all of its nodes: each doing so anew was most of their day.
Only pure functions of `node/core`, whose results nobody alters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from unittest.mock import patch

from node import registrar
from node.core import changes
from node.core.changes import Books, Folded, decode, fold
from node.core.directory_wire import decode_exchange
from topology.sim import link

CHANGES_MAX = 256
EXCHANGES_MAX = 16
DIRECTORIES_MAX = 32
"""Nodes are seldom further apart than so many versions; one that is works it out again."""


@contextmanager
def reading_once() -> Iterator[None]:
    """For the time of one run."""
    folded: dict[str, Folded | None] = {}

    def fold_once(books: Books) -> Folded | None:
        digest = books.digest()
        if digest not in folded:
            while len(folded) >= DIRECTORIES_MAX:
                del folded[next(iter(folded))]
            folded[digest] = fold(books)
        return folded[digest]

    with (
        patch.object(changes, "decode", lru_cache(CHANGES_MAX)(decode)),
        patch.object(link, "decode_exchange", lru_cache(EXCHANGES_MAX)(decode_exchange)),
        patch.object(registrar, "fold", fold_once),
    ):
        yield

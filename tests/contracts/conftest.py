"""A store, opened on every connection class there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.opened import OPENERS, Opened, opened
from tests.swift import swift


@pytest.fixture(params=sorted(OPENERS))
async def at(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    with swift(tmp_path) as folder:
        async with opened(folder / "node.db", request.param) as found:
            yield found

"""A store, opened on every connection class there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.opened import OPENERS, Opened, opened


@pytest.fixture(params=sorted(OPENERS))
async def at(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    async with opened(tmp_path / "node.db", request.param) as found:
        yield found

"""The directory at the admin listener: what is malformed, too old or large is refused before anybody acts.

What it does when all is well is in tests/cli/test_directory.py."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from node.adapters.http import admin_directory
from node.adapters.http.admin import admin_app
from node.core.directory_rows import entry_row
from node.core.wanted import Wanted
from tests.fake_desk import TOKEN, FakeDesk, metrics_text
from tests.tree import DIRECTORY, org

H4105 = org("H41.05")
ROW = entry_row(DIRECTORY.history(H4105)[0])
ACT: dict[str, Any] = {"who": "a", "why": "b", "version": 1, "nodes": [], "codes": [["H41.05", [ROW]]]}


class Done:
    rows, version = 1, 2


class Keeper:
    directory = DIRECTORY

    def __init__(self) -> None:
        self.acts: list[tuple[Wanted, str, dict[str, str]]] = []

    async def act(self, wanted: Wanted, why: str, told: dict[str, str]) -> Done:
        self.acts.append((wanted, why, told))
        return Done()

    def about(self, code: object) -> dict[str, Any]:
        return {"code": str(code)}

    def set_aside(self) -> list[dict[str, Any]]:
        return []

    def mine(self, codes: list[Any]) -> list[Any]:
        return codes[:1]


class Asked:
    def __init__(self, keeper: Keeper, url: str, session: aiohttp.ClientSession) -> None:
        self.keeper, self.url, self.session = keeper, url, session

    async def post(self, value: object, path: str = "/api/directory") -> tuple[int, dict[str, Any]]:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        async with self.session.post(self.url + path, data=data, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    keeper = Keeper()
    runner = web.AppRunner(admin_app(FakeDesk(), metrics_text, TOKEN, keeper))  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield Asked(keeper, f"http://127.0.0.1:{runner.addresses[0][1]}", session)
    await runner.cleanup()


async def test_an_act_is_handed_on_with_who_and_why(asked: Asked) -> None:
    assert await asked.post(ACT) == (200, {"rows": 1, "version": 2})
    ((wanted, why, told),) = asked.keeper.acts
    assert wanted == Wanted(codes={H4105: DIRECTORY.history(H4105)})
    assert (why, told) == ("b", {"who": "a"})
    assert await asked.post({"codes": ["H41.05", "H54"]}, "/api/directory/mine") == (200, {"codes": ["H41.05"]})


@pytest.mark.parametrize(
    "wrong",
    [
        b"{",
        {**ACT, "who": 1},
        {**ACT, "codes": [["H41.05"]]},
        {**ACT, "codes": [["H41.05", {}]]},
        {**ACT, "codes": [["H54", [ROW]]]},
        {**ACT, "codes": [["H41.05", [ROW, ROW]]]},
        {**ACT, "nodes": [["H41", {"code": "H41"}]]},
    ],
)
async def test_another_form_is_refused(asked: Asked, wrong: object) -> None:
    status, answer = await asked.post(wrong)
    assert (status, answer["code"]) == (400, "request-malformed")
    assert asked.keeper.acts == []


async def test_an_act_thought_out_on_another_version_is_put_off(asked: Asked) -> None:
    status, answer = await asked.post({**ACT, "version": 7})
    assert (status, answer["code"]) == (503, "not-now")


async def test_more_than_any_list_is_refused(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_directory, "ACT_BYTES_MAX", 10)
    assert (await asked.post(ACT))[0] == 413

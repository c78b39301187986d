"""The directory at the admin listener: as it is, what was said of one code, and acts on it.

Knows the directory file's form and `core`; nothing of who may say what.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from aiohttp import web

from node.adapters import directory_file
from node.core.directory import Directory
from node.core.directory_rows import check_history, read_entry, read_node
from node.core.envelope import Fields, read_code, strict_json
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.wanted import Wanted

log = structlog.get_logger()

ACT_BYTES_MAX = 64 * 1024 * 1024
ROWS_MAX = 200_000
TEXT_MAX = 400
LATER_S = 1.0


class Codes(Protocol):
    """The node's registrar."""

    @property
    def directory(self) -> Directory: ...

    async def act(self, wanted: Wanted, why: str, told: Mapping[str, str]) -> Any: ...

    def about(self, code: OrgId) -> dict[str, Any]: ...

    def set_aside(self) -> list[dict[str, Any]]: ...

    def mine(self, codes: Sequence[OrgId]) -> list[OrgId]: ...


Answer = Callable[[object], web.Response]


def add_routes(app: web.Application, keeper: Codes, answer: Answer) -> None:
    """answer: a value as the listener answers it."""

    async def whole(_: web.Request) -> web.Response:
        return answer({"version": keeper.directory.version, "file": json.loads(directory_file.dump(keeper.directory))})

    async def about(request: web.Request) -> web.Response:
        return answer(keeper.about(OrgId.parse(request.query.get("code", ""))))

    async def aside(_: web.Request) -> web.Response:
        return answer({"items": keeper.set_aside()})

    async def mine(request: web.Request) -> web.Response:
        fields = Fields(strict_json(await _body(request)), "mine")
        codes = [read_code(each, "codes") for each in fields.items("codes", ROWS_MAX)]
        return answer({"codes": [str(code) for code in keeper.mine(codes)]})

    async def act(request: web.Request) -> web.Response:
        return answer(await _act(keeper, await _body(request)))

    handlers: list[tuple[str, str, Callable[[web.Request], Awaitable[web.Response]]]] = [
        ("GET", "/api/directory", whole),
        ("GET", "/api/directory/about", about),
        ("GET", "/api/directory/aside", aside),
        ("POST", "/api/directory/mine", mine),
        ("POST", "/api/directory", act),
    ]
    for method, path, handler in handlers:
        app.router.add_route(method, path, handler)


async def _body(request: web.Request) -> bytes:
    """The whole body: a list of organs is larger than any other question here."""
    pieces, size = [], 0
    while piece := await request.content.readany():
        size += len(piece)
        if size > ACT_BYTES_MAX:
            raise web.HTTPRequestEntityTooLarge(ACT_BYTES_MAX, size)
        pieces.append(piece)
    return b"".join(pieces)


async def _act(codes: Codes, body: bytes) -> dict[str, int]:
    """{"who", "why", "version", "nodes": [[code, row | null]…], "codes": [[code, [row…]]…]}. version: of the directory that the
    act was thought out on; another one since then is `Deferred`: it has to be thought out again."""
    try:
        fields = Fields(strict_json(body), "act")
        wanted = Wanted(
            {code: None if row is None else read_node(row) for code, row in map(_pair, fields.items("nodes", ROWS_MAX))},
            {code: _entries(code, rows) for code, rows in map(_pair, fields.items("codes", ROWS_MAX))},
        )
        who, why, version = fields.text("who", TEXT_MAX), fields.text("why", TEXT_MAX), fields.whole("version")
    except Refused as refused:
        raise Refused(Reason.REQUEST_MALFORMED, refused.element, refused.value, refused.rule) from None
    if version != codes.directory.version:
        raise Deferred(LATER_S, Reason.NOT_NOW)
    done = await codes.act(wanted, why, {"who": who})
    log.info("directory changed by an operator", count=done.rows, version=done.version)
    return {"rows": done.rows, "version": done.version}


def _pair(value: object) -> tuple[OrgId, Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise Refused(Reason.REQUEST_MALFORMED, "act", repr(value)[:80])
    return read_code(value[0], "code"), value[1]


def _entries(code: OrgId, rows: object) -> Any:
    if not isinstance(rows, list):
        raise Refused(Reason.REQUEST_MALFORMED, "codes", str(code))
    entries = tuple(map(read_entry, rows))
    check_history(entries)
    if entries and entries[0].code != code:
        raise Refused(Reason.REQUEST_MALFORMED, "codes", str(code))
    return entries

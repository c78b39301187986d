"""The admin listener's application: health, readiness, metrics, and the desk that `truc` speaks to. Loopback only.

Probes and Prometheus need no token; everything under /api does. A page in a browser on the same machine is kept out by the
Host header (DNS rebinding) and by the token. Knows no duty file: it is handed the desk.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Protocol, TypeVar

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from node.adapters.http.admin_directory import Codes, add_routes
from node.adapters.http.pieces import gathered
from node.adapters.metrics import CONTENT_TYPE, Gauges
from node.core.custody import FIRST, Cursor, Listing
from node.core.errors import Deferred, Reason, Refused
from node.core.health import Check
from node.core.report_document import texts
from node.core.words import sentence, visible

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

BODY_BYTES_MAX = 64 * 1024
ITEMS_MAX = 1000
LIMIT_MAX = 500
LIMIT_DEFAULT = 100
TEXT_MAX = 400
WALK_MAX = 50_000
"""Rows of the journal that one question walks."""
WHOLE_MAX = 1 << 53
ANSWER_WITHIN_S = 20.0

_OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
_LOOPBACK_HOST = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)


class Desk(Protocol):
    """What an operator may see and do at this node. Instants: UTC ms, keys ending in `_ms`. Codes: root first, "" is the hub."""

    async def status(self) -> dict[str, Any]:
        """node, code, tier, version, epoch, started_ms, health (ok | warning | critical), held (how many), parent {code, url, up,
        since_ms} or None, children [{code, name, up, last_seen_ms}], outbox {depth, oldest_age_s}, mailbox {depth}, problems
        [{code, text, command}].
        """
        ...

    async def checks(self) -> Sequence[Check]: ...

    async def queue(self, neighbour: str | None, state: str | None, after: Cursor, limit: int) -> Listing:
        """Outbox rows behind `after`, the urgent first."""
        ...

    async def queue_item(self, item: int) -> dict[str, Any] | None: ...

    async def queue_act(self, action: str, items: Sequence[int], neighbour: str | None, who: str, why: str) -> int:
        """retry, hold or release; how many rows changed."""
        ...

    async def held(self, after: Cursor, limit: int) -> Listing:
        """What waits for a person, behind `after`, the urgent first."""
        ...

    async def held_act(self, action: str, items: Sequence[str], who: str, why: str) -> int:
        """release or drop; how many changed."""
        ...

    async def trace(self, key: str) -> list[dict[str, Any]]:
        """The history at this node by docId, envelope id or DocumentId, oldest first."""
        ...

    async def systems(self) -> list[dict[str, Any]]:
        """id, clock_ahead_s, clock_seen_ms, samples of each office system whose clock was measured lately."""
        ...

    async def evidence(self, key: str, to: Sequence[str]) -> dict[str, Any]:
        """bundle (base64, "" where there is none), many (docIds), open [{recipient, state}], silent (nodes), flaw {flaw, part,
        detail} or None."""
        ...

    async def report(self, kind: str, period: str, rule: str, organ: str) -> dict[str, Any]:
        """As `Reports.document` gives it."""
        ...

    async def audit(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Acts of persons, the newest, or the newest before a row of the journal; oldest first."""
        ...

    async def act(self, done: Mapping[str, Any]) -> None:
        """Record an act done with a command that works on files."""
        ...

    async def audit_walk(self, seq: int, hexed: str, limit: int) -> dict[str, Any]:
        """Follow the journal's chain from a row with its hash: at {seq, hash}, done, broken {seq, fault} or None."""
        ...

    async def audit_heads(self) -> dict[str, Any]:
        """The journal beside its signed heads: heads, above (None: no answer), broken."""
        ...

    async def gauges(self) -> Gauges: ...


class _Act(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    who: str = Field(min_length=1, max_length=TEXT_MAX)
    why: str = Field(default="", max_length=TEXT_MAX)


class _QueueAct(_Act):
    items: list[Annotated[int, Field(ge=0, le=WHOLE_MAX)]] = Field(default=[], max_length=ITEMS_MAX)
    neighbour: Annotated[str, Field(max_length=TEXT_MAX)] | None = None


class _HeldAct(_Act):
    items: list[Annotated[str, Field(min_length=1, max_length=TEXT_MAX)]] = Field(min_length=1, max_length=ITEMS_MAX)


_Some = TypeVar("_Some", bound=_Act)

QUEUE_ACTIONS = ("retry", "hold", "release")
HELD_ACTIONS = ("release", "drop")

_DESK: web.AppKey[Desk] = web.AppKey("desk")
_METRICS: web.AppKey[Callable[[], Awaitable[bytes]]] = web.AppKey("metrics")
_TOKEN: web.AppKey[bytes] = web.AppKey("token")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def admin_app(
    desk: Desk, metrics_text: Callable[[], Awaitable[bytes]], token: str, codes: Codes | None = None
) -> web.Application:
    """The application. token: the bearer token of /api, not empty. metrics_text: what /metrics answers. codes: the
    directory's keeper."""
    if not token:
        raise ValueError("the admin token must not be empty")
    app = web.Application(middlewares=[_gate], client_max_size=BODY_BYTES_MAX)
    app[_DESK] = desk
    app[_METRICS] = metrics_text
    app[_TOKEN] = token.encode()
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/api/status", _status)
    app.router.add_get("/api/queue", _queue)
    app.router.add_get("/api/queue/{item:[0-9]{1,16}}", _queue_item)
    app.router.add_post("/api/queue/{action}", _queue_act)
    app.router.add_get("/api/held", _held)
    app.router.add_post("/api/held/{action}", _held_act)
    app.router.add_get("/api/trace", _trace)
    app.router.add_get("/api/evidence", _evidence)
    app.router.add_get("/api/audit", _audit)
    app.router.add_get("/api/audit/walk", _audit_walk)
    app.router.add_get("/api/audit/heads", _audit_heads)
    app.router.add_post("/api/acts", _acts)
    app.router.add_get("/api/systems", _systems)
    app.router.add_get("/api/report", _report)
    if codes is not None:
        add_routes(app, codes, _json)
    return app


# answers


def _json(
    value: object, status: int = 200, content_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> web.Response:
    text = json.dumps(value, ensure_ascii=False)
    return web.Response(
        text=text, status=status, content_type=content_type, headers={"Cache-Control": "no-store", **(headers or {})}
    )


def _problem(status: int, code: str, title: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """RFC 9457, with a stable code of ours."""
    body = {"type": "about:blank", "title": title, "status": status, "code": code}
    return _json(body, status, "application/problem+json", headers)


@web.middleware
async def _gate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Who may ask at all, how long an answer may take, and what each kind of failure looks like."""
    if not _LOOPBACK_HOST.fullmatch(request.host):
        return _problem(403, "host-forbidden", "Cổng quản trị chỉ trả lời khi được gọi bằng địa chỉ nội bộ của máy.")
    if request.path not in _OPEN and not _authorised(request):
        return _problem(401, "unauthorised", "Thiếu hoặc sai mã truy cập của cổng quản trị.", {"WWW-Authenticate": "Bearer"})
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await handler(request)
    except Refused as refused:
        return _problem(404 if refused.reason is Reason.DOC_UNKNOWN else 400, refused.reason, sentence(refused))
    except Deferred as deferred:
        retry = {"Retry-After": str(max(1, round(deferred.retry_after_s)))}
        return _problem(503, deferred.reason, sentence(Refused(deferred.reason)), retry)
    except TimeoutError:
        return _problem(503, Reason.NOT_NOW, sentence(Refused(Reason.NOT_NOW)), {"Retry-After": "5"})
    except web.HTTPException as error:
        code, title = _HTTP.get(error.status, (Reason.REQUEST_MALFORMED, sentence(Refused(Reason.REQUEST_MALFORMED))))
        return _problem(error.status, code, title, {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {})
    except Exception:
        log.exception("admin request failed")
        return _problem(500, Reason.INTERNAL, sentence(Refused(Reason.INTERNAL)))


_HTTP: Mapping[int, tuple[str, str]] = {
    404: ("not-found", "Cổng quản trị không có địa chỉ này."),
    405: ("method-not-allowed", "Địa chỉ này không nhận phương thức đã dùng."),
    413: ("request-too-large", "Yêu cầu quá lớn."),
}


def _authorised(request: web.Request) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode("utf-8", "surrogateescape"), request.app[_TOKEN]
    )


# probes


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n", headers={"Cache-Control": "no-store"})


async def _readyz(request: web.Request) -> web.Response:
    """Lines `[+]database ok`. A warning keeps 200: a node without its parent still stores and forwards."""
    checks = await request.app[_DESK].checks()
    ready = all(check.state != "-" for check in checks)
    status = 200 if ready else 503
    if request.query.get("format") == "json":
        return _json({"ready": ready, "checks": [asdict(check) for check in checks]}, status)
    lines = "".join(f"[{check.state}]{check.name} {visible(check.detail) or 'ok'}\n" for check in checks)
    return web.Response(text=lines, status=status, headers={"Cache-Control": "no-store"})


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(body=await request.app[_METRICS](), headers={"Content-Type": CONTENT_TYPE})


# the desk


def _whole(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not re.fullmatch("[0-9]{1,16}", text) or int(text) > most:
        raise Refused(Reason.REQUEST_MALFORMED, name, text, f"0..{most}")
    return int(text)


def _text(request: web.Request, name: str) -> str | None:
    text = request.query.get(name)
    if text is not None and len(text) > TEXT_MAX:
        raise Refused(Reason.VALUE_TOO_LONG, name, text, f"≤ {TEXT_MAX}")
    return text


def _after(request: web.Request) -> Cursor:
    """The `next` of the page before; the first page without it."""
    text = request.query.get("after")
    if text is None:
        return FIRST
    if not re.fullmatch("[0-9]{1,16}(-[0-9]{1,16}){3}", text):
        raise Refused(Reason.REQUEST_MALFORMED, "after", text, "next")
    lane, place, key, item = map(int, text.split("-"))
    return lane, place, key, item


def _page(page: Listing) -> web.Response:
    rows, rest = page
    return _json({"items": rows, "next": None if rest is None else "-".join(map(str, rest))})


async def _act(request: web.Request, model: type[_Some]) -> _Some:
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        fault = error.errors()[0]
        raise Refused(Reason.REQUEST_MALFORMED, ".".join(str(part) for part in fault["loc"]), "", fault["msg"]) from None


def _action(request: web.Request, known: Sequence[str]) -> str:
    action = request.match_info["action"]
    if action not in known:
        raise Refused(Reason.OPERATION_UNKNOWN, "action", action, ", ".join(known))
    return action


async def _status(request: web.Request) -> web.Response:
    return _json(await request.app[_DESK].status())


async def _queue(request: web.Request) -> web.Response:
    limit = _whole(request, "limit", LIMIT_DEFAULT, LIMIT_MAX)
    return _page(await request.app[_DESK].queue(_text(request, "neighbour"), _text(request, "state"), _after(request), limit))


async def _queue_item(request: web.Request) -> web.Response:
    row = await request.app[_DESK].queue_item(int(request.match_info["item"]))
    if row is None:
        return _problem(404, "not-found", "Hàng chờ chuyển không có mục này.")
    return _json(row)


async def _queue_act(request: web.Request) -> web.Response:
    action = _action(request, QUEUE_ACTIONS)
    act = await _act(request, _QueueAct)
    if bool(act.items) == (act.neighbour is not None):
        raise Refused(Reason.REQUEST_MALFORMED, "items", "", "items | neighbour")
    changed = await request.app[_DESK].queue_act(action, act.items, act.neighbour, act.who, act.why)
    log.info("queue changed by an operator", reason=action, count=changed)
    return _json({"changed": changed})


async def _held(request: web.Request) -> web.Response:
    return _page(await request.app[_DESK].held(_after(request), _whole(request, "limit", LIMIT_DEFAULT, LIMIT_MAX)))


async def _held_act(request: web.Request) -> web.Response:
    action = _action(request, HELD_ACTIONS)
    act = await _act(request, _HeldAct)
    changed = await request.app[_DESK].held_act(action, act.items, act.who, act.why)
    log.info("held items changed by an operator", reason=action, count=changed)
    return _json({"changed": changed})


async def _audit(request: web.Request) -> web.Response:
    before = _whole(request, "before", 0, WHOLE_MAX)
    return _json({"items": await request.app[_DESK].audit(before or None, _whole(request, "limit", LIMIT_DEFAULT, LIMIT_MAX))})


async def _audit_walk(request: web.Request) -> web.Response:
    hexed = _text(request, "hash") or ""
    if not re.fullmatch("(?:[0-9a-f]{64})?", hexed):
        raise Refused(Reason.REQUEST_MALFORMED, "hash")
    limit = _whole(request, "limit", WALK_MAX, WALK_MAX)
    return _json(await request.app[_DESK].audit_walk(_whole(request, "seq", 0, WHOLE_MAX), hexed, limit))


async def _audit_heads(request: web.Request) -> web.Response:
    return _json(await request.app[_DESK].audit_heads())


async def _acts(request: web.Request) -> web.Response:
    try:
        done = json.loads(await request.read())
    except ValueError:
        raise Refused(Reason.REQUEST_MALFORMED, "act") from None
    await request.app[_DESK].act(done if isinstance(done, dict) else {})
    return _json({})


async def _evidence(request: web.Request) -> web.Response:
    key = (_text(request, "key") or "").strip()
    to = [text.strip() for text in request.query.getall("to", [])]
    if not key or len(to) > ITEMS_MAX or any(len(text) > TEXT_MAX for text in to):
        raise Refused(Reason.REQUEST_MALFORMED, "key")
    return _json(await request.app[_DESK].evidence(key, to))


async def _trace(request: web.Request) -> web.Response:
    key = (_text(request, "key") or "").strip()
    if not key:
        raise Refused(Reason.REQUEST_MALFORMED, "key")
    return _json({"events": await request.app[_DESK].trace(key)})


async def _systems(request: web.Request) -> web.Response:
    return _json({"items": await request.app[_DESK].systems()})


async def _report(request: web.Request) -> web.Response:
    kind, period, rule, organ = (_text(request, name) or "" for name in ("kind", "period", "rule", "organ"))
    document = await request.app[_DESK].report(kind, period, rule, organ)
    lines = _text(request, "lines") is not None
    kind = "application/x-ndjson" if lines else "application/json"
    return web.Response(body=await gathered(texts(document, lines)), content_type=kind, headers={"Cache-Control": "no-store"})

"""The native face described for programs: OpenAPI 3.1, by hand, small enough to be read. Knows the columns of a report."""

from __future__ import annotations

from typing import Any

from node.core.periods import Kind, Rule
from node.core.report_document import COLUMNS, DERIVED, GROUPS

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_INSTANT: Schema = {"type": "string", "format": "date-time"}


def _object(**properties: Schema) -> Schema:
    """An object whose fields are all there; a name that ends in `_` is a field that may be missing, and a word of Python."""
    required = [name for name in properties if not name.endswith("_")]
    return {"type": "object", "properties": {name.rstrip("_"): each for name, each in properties.items()}, "required": required}


def _one(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _bytes(media: str = "application/octet-stream") -> Schema:
    return {media: {"schema": {"type": "string", "format": "binary"}}}


def _query(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _range(default: int, least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most, "default": default}


def _call(name: str, text: str, answer: Schema, **more: Any) -> Schema:
    responses = {"200": {"description": "OK", "content": answer}, "default": {"$ref": "#/components/responses/Problem"}}
    return {"operationId": name, "summary": text, "responses": responses, **more}


_KIND = _query("kind", _one("edoc", "status") | {"default": "edoc"}, "loại gói tin")

DOCUMENT: Schema = {
    "openapi": "3.1.0",
    "info": {"title": "Cửa /api/v1 của nút liên thông", "version": "1"},
    "security": [{"basic": []}],
    "paths": {
        "/api/v1/packages": {
            "post": _call(
                "send",
                "Gửi một gói tin, hoặc nhiều gói tin (multipart/mixed: tối đa 1000 phần, 16 MiB)",
                _json({"oneOf": [_ref("Submitted"), _ref("Results")]}),
                parameters=[
                    _KIND,
                    {"name": "Content-Digest", "in": "header", "schema": _TEXT, "description": "sha-256=:base64:"},
                ],
                requestBody={"required": True, "content": _bytes() | _bytes("multipart/mixed")},
            )
        },
        "/api/v1/mailbox": {
            "get": _call(
                "mailbox",
                "Những gì đang chờ lấy, kèm nội dung; có thể chờ đến khi có",
                _bytes("multipart/mixed") | _json(_ref("Page")),
                parameters=[
                    _KIND,
                    _query("limit", _range(100, 1, 1000), "số mục tối đa"),
                    _query("after", _TEXT, "con trỏ của lần trước; không có: từ đầu, khẩn trước"),
                    _query("wait_s", _range(0, 0, 25), "chờ tối đa chừng này giây khi chưa có gì"),
                    _query("content", _one("inline", "none") | {"default": "inline"}, "kèm nội dung hay chỉ danh sách"),
                    _query("room_bytes", _range(8 * 1024 * 1024, 0, 16 * 1024 * 1024), "tổng nội dung kèm tối đa"),
                ],
            )
        },
        "/api/v1/mailbox/{doc_id}/package": {
            "get": _call(
                "package",
                "Một gói tin, đúng từng byte",
                _bytes(),
                parameters=[{"name": "doc_id", "in": "path", "required": True, "schema": _TEXT}],
            )
        },
        "/api/v1/mailbox/done": {
            "post": _call(
                "settle",
                "Báo đã lấy (done), đang lấy (processing) hoặc lỗi (fail) cho nhiều mục",
                _json(_object(results=_list(_ref("Settled")))),
                requestBody={
                    "required": True,
                    "content": _json(
                        _object(
                            doc_ids=_list(_TEXT) | {"minItems": 1, "maxItems": 1000},
                            status_=_one("processing", "done", "fail") | {"default": "done"},
                        )
                    ),
                },
            )
        },
        "/api/v1/time": {
            "get": _call(
                "time",
                "Giờ của nút, kèm sai số, để hệ thống tự đo độ lệch: ((t2 - t1) + (t3 - t4)) / 2",
                _json(_ref("Time")),
                parameters=[_query("t1", _TEXT, "giờ của hệ thống lúc hỏi: ISO 8601 có múi giờ, hoặc UTC mili giây")],
            )
        },
        "/api/v1/statistics": {
            "get": _call(
                "statistics",
                "Số liệu gửi, nhận của nút và các nút bên dưới theo kỳ (Điều 14.3); không có dữ liệu cá nhân",
                _json(_ref("Statistics")),
                parameters=[
                    _query("kind", _one(*(kind.value for kind in Kind)) | {"default": "day"}, "loại kỳ"),
                    _query(
                        "period",
                        _TEXT,
                        "2026-11-22, 2026-11, 2026-Q4, 2026-H1, 2026-9M, 2026, 2026-01-01..2026-03-31; không có: kỳ này",
                    ),
                    _query(
                        "rule",
                        _one(*(rule.value for rule in Rule)),
                        "kỳ theo dương lịch hay theo NĐ 09/2019; không có: theo chủ quản",
                    ),
                    _query("organ", _TEXT, "chỉ mã này và các mã bên dưới"),
                ],
            )
        },
        "/api/v1/openapi.json": {"get": _call("openapi", "Tài liệu này", _json({"type": "object"}))},
    },
    "components": {
        "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
        "responses": {
            "Problem": {
                "description": "không được; 503 thì thử lại sau retry_after_s giây",
                "content": {"application/problem+json": {"schema": _ref("Problem")}},
            }
        },
        "schemas": {
            "Problem": _object(
                type=_TEXT,
                title=_TEXT,
                status=_COUNT,
                code=_TEXT,
                element=_TEXT,
                value=_TEXT,
                rule=_TEXT,
                retry_after_s_=_COUNT,
            ),
            "NotSent": _object(written=_TEXT, code=_TEXT, text=_TEXT, successor=_TEXT),
            "Submitted": _object(doc_id=_TEXT, repeated={"type": "boolean"}, problems=_list(_ref("NotSent"))),
            "Results": _object(results=_list(_ref("Result"))),
            "Result": _object(
                ref=_TEXT,
                status=_one("accepted", "repeated", "refused", "later"),
                doc_id_=_TEXT,
                problems_=_list(_ref("NotSent")),
                code_=_TEXT,
                text_=_TEXT,
                element_=_TEXT,
                value_=_TEXT,
                rule_=_TEXT,
                retry_after_s_=_COUNT,
            ),
            "Settled": _object(
                doc_id=_TEXT, status=_one("ok", "refused", "later"), code_=_TEXT, text_=_TEXT, retry_after_s_=_COUNT
            ),
            "Time": _object(
                time=_INSTANT,
                t1={"type": ["string", "null"]},
                t2=_INSTANT,
                t3=_INSTANT,
                utc_ms={"type": "integer"},
                ahead_s={"type": ["number", "null"]},
                bound_s={"type": "number", "minimum": 0},
                state=_one("root", "host", "synchronised", "holdover", "unsynchronised"),
                synchronised={"type": "boolean"},
                stratum=_COUNT,
            ),
            "Statistics": _object(
                node=_TEXT,
                name=_TEXT,
                tier=_TEXT,
                kind=_TEXT,
                rule=_TEXT,
                period=_TEXT,
                **{"from": _INSTANT},
                to=_INSTANT,
                organ={"type": ["string", "null"]},
                rows=_list(_ref("Figures")),
                summary=_ref("Summary"),
            ),
            "Figures": _object(
                period=_TEXT,
                **{"from": _INSTANT},
                to=_INSTANT,
                organ_=_TEXT | {"description": "mã cơ quan; dòng tổng không có"},
                total_of_=_TEXT | {"description": "mã nút, rỗng là nút gốc; chỉ dòng tổng có"},
                name=_TEXT,
                node_=_TEXT,
                **{column.key: _COUNT | {"description": column.meaning} for column in COLUMNS},
                **{
                    column.key: {"type": "object", "additionalProperties": _COUNT, "description": column.meaning}
                    for column in GROUPS
                },
                **{column.key: {"type": ["number", "null"], "description": column.meaning} for column in DERIVED},
            ),
            "Summary": _object(
                event=_one("summary"),
                period=_TEXT,
                **{"from": _INSTANT},
                to=_INSTANT,
                cut_off=_INSTANT,
                provisional={"type": "boolean"},
                coverage=_object(**{"in": _list(_TEXT)}, late=_list(_TEXT), missing=_list(_TEXT)),
                proof=_object(
                    holds={"type": "boolean"}, unequal=_list(_TEXT), unbalanced=_list(_TEXT), refused=_list({"type": "object"})
                ),
                road={"type": "object", "additionalProperties": _COUNT},
                definitions=_list(_TEXT),
            ),
            "Page": _object(items=_list(_ref("Item")), cursor=_TEXT),
            "Item": {
                "type": "object",
                "properties": {
                    "doc_id": _TEXT,
                    "kind": _one("edoc", "status"),
                    "from": _TEXT,
                    "to": _list(_TEXT),
                    "state": _one("initial", "processing", "fail"),
                    "trial": {"type": "boolean"},
                    "priority": _COUNT,
                    "size": _COUNT,
                    "sha256": _TEXT,
                    "created": _INSTANT,
                    "updated": _INSTANT,
                    "content": _one("inline", "separate", "damaged"),
                    "cursor": _TEXT,
                },
            },
        },
    },
}

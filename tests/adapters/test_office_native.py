"""The native face on a real listener: many packages in one request, what a stranger hears, and that every answer is JSON."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from node.adapters.http import office_native
from node.adapters.http.native_parts import BATCH_BYTES_MAX, PARTS_MAX, boundary_of, split
from node.adapters.http.office_native import BATCHES_AT_ONCE, ITEMS_MAX, WAIT_S_MAX, NativeFace
from node.adapters.http.office_vxp import no_pages
from node.config import Office
from node.core.errors import Deferred, Reason, Refused
from node.core.instant import iso
from node.core.office import Claim, ClientCertificate, Given, Listed, NodeTime, Page, Problem, Submitted, System
from tests.adapters.test_office_vxp import (
    H41,
    NOW_MS,
    PACKAGE,
    SECRET,
    SYSTEM,
    FakeDoor,
    head_of,
    line,
    listening,
    raw,
    settings,
    until,
)
from tests.reporting import made

OLD_SECRET = "khóa cũ: có dấu"
PROBLEM = Problem("H41.31", Refused(Reason.RECIPIENT_CLOSED, "To/OrganId", "H41.31", "H41.12"), "H41.12")


@dataclass
class Door(FakeDoor):
    """Packages whose text begins with "sai" are refused, "sau" deferred, "lỗi" are a bug."""

    together: int = 0
    most_together: int = 0
    gate: asyncio.Event | None = None
    items: list[tuple[Listed, Given, bytes]] = field(default_factory=list)
    pages: list[dict[str, Any]] = field(default_factory=list)
    settled_many: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    closed_pages: int = 0

    async def submit(self, system: System, chunks: AsyncIterator[bytes], claim: Claim) -> Submitted:
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            await asyncio.sleep(0) if self.gate is None else await self.gate.wait()
            taken = await super().submit(system, chunks, claim)
        finally:
            self.together -= 1
        package = self.submitted[-1][1]
        if package.startswith(b"sai"):
            raise Refused(Reason.VALUE_TOO_LONG, "Subject", "dài", "500")
        if package.startswith(b"sau"):
            raise Deferred(7.5, Reason.DISK_FULL)
        if package.startswith("lỗi".encode()):
            raise ZeroDivisionError
        return taken

    async def submit_many(
        self, system: System, packages: Sequence[tuple[Iterable[bytes], Claim]]
    ) -> list[Submitted | Refused | Deferred]:
        return list(await asyncio.gather(*(self._one(system, pieces, claim) for pieces, claim in packages)))

    async def _one(self, system: System, pieces: Iterable[bytes], claim: Claim) -> Submitted | Refused | Deferred:
        async def chunks() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        try:
            return await self.submit(system, chunks(), claim)
        except (Refused, Deferred) as error:
            return error

    async def page(
        self, system: System, kind: str, *, after: int | None, limit: int, wait_s: float, room_bytes: int | None
    ) -> Page:
        self._judge()
        self.pages.append({"kind": kind, "after": after, "limit": limit, "wait_s": wait_s, "room_bytes": room_bytes})
        if not self.items:
            await asyncio.sleep(wait_s)
        given = [(each, how if room_bytes is not None else Given.SEPARATE) for each, how, _ in self.items]
        return Page(tuple(given), 7, self._bodies([data for _, how, data in self.items if how is Given.INLINE]))

    async def _bodies(self, contents: Sequence[bytes]) -> AsyncIterator[bytes]:
        try:
            for data in contents:
                yield data
        finally:
            self.closed_pages += 1

    figures: list[tuple[str, ...]] = field(default_factory=list)
    told: list[int] = field(default_factory=list)

    def time(self) -> NodeTime:
        return NodeTime(NOW_MS, 4, "synchronised", True, 3)

    def told_time(self, system: System, claimed_ms: int) -> None:
        self.told.append(claimed_ms)

    async def statistics(self, kind: str, period: str, rule: str, organ: str) -> dict[str, Any]:
        if kind == "week":
            raise Refused(Reason.REQUEST_MALFORMED, "kind", kind, "day, month")
        self.figures.append((kind, period, rule, organ))
        return made()

    async def settle_many(self, system: System, doc_ids: Sequence[str], word: str) -> list[Refused | Deferred | None]:
        self._judge()
        self.settled_many.append((tuple(doc_ids), word))
        known: dict[str, Refused | Deferred] = {
            "lạ": Refused(Reason.DOC_UNKNOWN, "docId", "lạ"),
            "la": Refused(Reason.DOC_UNKNOWN, "docId", "la"),
            "sau": Deferred(3),
        }
        return [known.get(doc_id) for doc_id in doc_ids]


@dataclass
class Served:
    door: Door
    port: int
    told: list[tuple[str, str]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"


@asynccontextmanager
async def serving(office: Office | None = None, *, rate_window_s: float = 15.0, anonymous: bool = False) -> AsyncIterator[Served]:
    door = Door({SYSTEM: System(SYSTEM, (H41,), (SECRET, OLD_SECRET))})
    told: list[tuple[str, str]] = []
    app = web.Application(middlewares=[no_pages])
    NativeFace(
        door,
        office or settings(),
        tell=lambda operation, result: told.append((operation, result)),
        rate_window_s=rate_window_s,
        anonymous=anonymous,
    ).register(app)
    async with listening(app) as port:
        yield Served(door, port, told)


@pytest.fixture
async def face() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> Any:
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.json["status"] == self.status
        assert self.json["type"] == "about:blank"
        assert self.json["title"]
        return self.json


async def call(
    face: Served, method: str, path: str, *, user: str = SYSTEM, secret: str | None = SECRET, url: str = "", **options: Any
) -> Answer:
    headers = {"Content-Type": "application/octet-stream"} | options.pop("headers", {})
    if secret is not None:
        headers["Authorization"] = basic(user, secret)
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, (url or face.url) + path, headers=headers, **options) as answer,
    ):
        return Answer(answer.status, answer.headers, await answer.read())


def basic(user: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


def mixed(parts: Iterable[tuple[str, bytes]], kind: str = "") -> dict[str, Any]:
    """(ref, content) each, as options of a call."""
    lines = f"Truc-Kind: {kind}\r\n" if kind else ""
    heads = [(f"--x\r\nContent-ID: <{ref}>\r\n{lines}\r\n".encode(), content) for ref, content in parts]
    body = b"".join(head + content + b"\r\n" for head, content in heads) + b"--x--\r\n"
    return {"data": io.BytesIO(body), "headers": {"Content-Type": "multipart/mixed; boundary=x"}}


def item(number: int, content: bytes, how: Given = Given.INLINE) -> tuple[Listed, Given, bytes]:
    digest = hashlib.sha256(content).hexdigest()
    size = len(content)
    return (
        Listed(number, f"doc-{number}", "edoc", "H54", ("H41.07",), "initial", 0, size, digest, NOW_MS, NOW_MS),
        how,
        content,
    )


# --- the time -------------------------------------------------------------------------------------------------------------


async def test_the_time_is_told_with_four_timestamps_and_its_bound(face: Served) -> None:  # QĐ 28/2018 Điều 14.4
    answer = await call(face, "GET", "/time", params={"t1": iso(NOW_MS + 1500)})
    assert answer.json == {
        "time": iso(NOW_MS),
        "t1": iso(NOW_MS + 1500),
        "t2": iso(NOW_MS),
        "t3": iso(NOW_MS),
        "utc_ms": NOW_MS,
        "ahead_s": 1.5,
        "bound_s": 0.004,
        "state": "synchronised",
        "synchronised": True,
        "stratum": 3,
    }
    assert (await call(face, "GET", f"/time?t1={NOW_MS - 250}")).json["ahead_s"] == -0.25
    assert (await call(face, "GET", "/time?t1=2026-11-22T10:00:00+07:00")).status == 200  # the plus left as it is
    plain = (await call(face, "GET", "/time")).json
    assert (plain["t1"], plain["ahead_s"]) == (None, None)
    assert face.door.told[:2] == [NOW_MS + 1500, NOW_MS - 250]


@pytest.mark.parametrize("text", ["2026-11-22T10:00:00", "hôm nay", "1" * 19, "9" * 16])
async def test_a_time_without_a_zone_is_no_time(face: Served, text: str) -> None:
    answer = await call(face, "GET", "/time", params={"t1": text})
    assert (answer.status, answer.problem["code"], answer.problem["element"]) == (400, "request-malformed", "t1")
    assert face.door.told == []


async def test_the_date_of_any_call_shows_how_the_systems_clock_is(face: Served) -> None:
    for date in ("Sun, 22 Nov 2026 03:00:00 GMT", "Sun, 22 Nov 2026 03:00:00 -0000", "mai", "Sun, 99 Nov 2026 03:00:00 GMT"):
        assert (await call(face, "GET", "/openapi.json", headers={"Date": date})).status == 200
    assert face.door.told == [1_795_316_400_500]


# --- figures --------------------------------------------------------------------------------------------------------------


async def test_figures_are_read_with_a_systems_own_credentials(face: Served) -> None:  # QĐ 28/2018 Điều 14.3
    answer = await call(face, "GET", "/statistics?kind=quarter&period=2026-Q4&organ=H41&rule=official")
    assert answer.status == 200 and answer.json == made()
    assert (await call(face, "GET", "/statistics")).status == 200
    assert face.door.figures == [("quarter", "2026-Q4", "official", "H41"), ("day", "", "", "")]
    wrong = await call(face, "GET", "/statistics?kind=week")
    assert (wrong.status, wrong.problem["element"]) == (400, "kind")
    assert (await call(face, "GET", "/statistics", secret=None)).status == 401, "anonymous reading is off by default"


async def test_many_who_ask_the_same_are_told_the_same_for_some_seconds(face: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of a country is dear, and the road comes first."""
    for _ in range(3):
        assert (await call(face, "GET", "/statistics?kind=month")).json == made()
    for organ in ("H41", "H54", "H14", "H17"):
        await call(face, "GET", f"/statistics?organ={organ}")
    assert len(face.door.figures) == 5
    await call(face, "GET", "/statistics?organ=H41")
    assert len(face.door.figures) == 5
    await call(face, "GET", "/statistics?kind=month")
    assert len(face.door.figures) == 6, "only so many are remembered"
    monkeypatch.setattr(office_native, "FIGURES_FRESH_S", 0.0)
    await call(face, "GET", "/statistics?kind=month")
    assert len(face.door.figures) == 7


async def test_a_document_of_figures_is_what_the_description_says(face: Served) -> None:
    answer = (await call(face, "GET", "/statistics")).json
    schemas = (await call(face, "GET", "/openapi.json")).json["components"]["schemas"]
    for name, value in (("Statistics", answer), ("Summary", answer["summary"]), *(("Figures", row) for row in answer["rows"])):
        assert set(schemas[name]["required"]) <= set(value) <= set(schemas[name]["properties"]), name


async def test_where_the_owner_lets_them_strangers_read_figures_and_nothing_else() -> None:
    async with serving(anonymous=True) as served:
        assert (await call(served, "GET", "/statistics", secret=None)).status == 200
        assert (await call(served, "POST", "/statistics", secret=None)).status in (401, 405)
        for path in ("/mailbox", "/time", "/openapi.json", "/statistic"):
            assert (await call(served, "GET", path, secret=None)).status == 401
        assert (await call(served, "GET", "/statistics", secret="sai")).status == 401


async def test_a_system_without_codes_reads_figures_and_nothing_else(face: Served) -> None:
    face.door.systems["thong-ke"] = System("thong-ke", (), (SECRET,))
    for path, status in (("/statistics", 200), ("/time", 200), ("/openapi.json", 200), ("/mailbox", 422)):
        assert (await call(face, "GET", path, user="thong-ke")).status == status
    assert (await call(face, "POST", "/packages", user="thong-ke", data=PACKAGE)).problem["code"] == "sender-not-allowed"
    assert face.door.submitted == []


# --- who calls --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
async def test_both_secrets_of_a_rotation_open_the_door(face: Served, secret: str) -> None:
    assert (await call(face, "GET", "/openapi.json", secret=secret)).status == 200


@pytest.mark.parametrize("path", ["/openapi.json", "/packages", "/khong-co", "/mailbox"])
async def test_a_stranger_and_a_wrong_secret_look_alike(face: Served, path: str) -> None:
    stranger = await call(face, "GET", path, user="ai.do")
    wrong = await call(face, "GET", path, secret="sai")
    assert stranger.status == wrong.status == 401
    assert stranger.body == wrong.body
    assert stranger.problem["code"] == "credentials-wrong"
    alike = ({name: value for name, value in each.headers.items() if name != "Date"} for each in (stranger, wrong))
    assert next(alike) == next(alike)
    assert wrong.headers["WWW-Authenticate"].startswith("Basic ")
    assert [result for _, result in face.told] == ["system-unknown", "credentials-wrong"], "the counter is told the truth"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff:x").decode(),
        "Basic " + base64.b64encode(SYSTEM.encode()).decode(),
        "Bearer " + base64.b64encode(f"{SYSTEM}:{SECRET}".encode()).decode(),
        "Basic " + "QUFB" * 2000,
        basic(SYSTEM, ""),
        basic("", SECRET),
        basic(SYSTEM, SECRET + "x"),
        basic(SYSTEM, SECRET[:-1]),
    ],
)
async def test_credentials_in_no_or_another_form_are_wrong(face: Served, value: str) -> None:
    answer = await call(face, "GET", "/openapi.json", secret=None, headers={"Authorization": value})
    assert (answer.status, answer.problem["code"]) == (401, "credentials-wrong")


async def test_two_authorizations_are_none(face: Served) -> None:
    both = [("Authorization", basic(SYSTEM, SECRET)), ("Authorization", basic("ai.do", "x"))]
    reply = await raw(face.port, head_of("GET", "/api/v1/openapi.json", both, None))
    assert reply.status == 401


async def test_without_credentials_the_answer_asks_for_them(face: Served) -> None:
    answer = await call(face, "GET", "/mailbox", secret=None)
    assert (answer.status, answer.problem["code"]) == (401, "signature-missing")
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="truc", charset="UTF-8"'


async def test_a_disabled_system_and_a_foreign_network_are_forbidden_and_only_then_named(face: Served) -> None:
    face.door.systems[SYSTEM] = System(SYSTEM, (H41,), (SECRET,), disabled=True)
    answer = await call(face, "GET", "/mailbox")
    assert (answer.status, answer.problem["code"]) == (403, "system-disabled")
    assert (await call(face, "GET", "/mailbox", secret="sai")).status == 401
    face.door.systems[SYSTEM] = System(SYSTEM, (H41,), (SECRET,), (ip_network("10.0.0.0/8"),))
    answer = await call(face, "GET", "/mailbox")
    assert (answer.status, answer.problem["code"]) == (403, "network-forbidden")
    assert (await call(face, "GET", "/mailbox", secret="sai")).status == 401


async def test_a_system_bound_to_a_certificate_hears_that_it_must_show_one_and_the_connection_ends(face: Served) -> None:
    certificate = ClientCertificate(b"der", "0a", 0, NOW_MS * 2)
    face.door.systems[SYSTEM] = System(SYSTEM, (H41,), (SECRET,), certificates=(certificate,))
    answer = await call(face, "GET", "/mailbox")
    assert (answer.status, answer.problem["code"]) == (403, "client-certificate-missing")
    assert answer.headers["Connection"] == "close"


async def test_no_secret_stands_in_a_log_or_an_answer(face: Served) -> None:
    with capture_logs() as logs:
        for secret in (SECRET, "khoa-sai-nhung-mat"):
            for path in ("/mailbox?limit=0", "/khong", "/openapi.json"):
                answer = await call(face, "GET", path, secret=secret)
                assert secret.encode() not in answer.body
        await call(face, "POST", "/packages", data=b"sai")
    for secret in (SECRET, "khoa-sai-nhung-mat", basic(SYSTEM, SECRET)):
        assert secret not in repr(logs)
    assert "Subject" not in repr(logs)


# --- one package ------------------------------------------------------------------------------------------------------------


async def test_one_package_is_taken_byte_for_byte(face: Served) -> None:
    face.door.problems = (PROBLEM,)
    data = bytes(range(256)) * 2000
    answer = await call(face, "POST", "/packages", data=data)
    assert (answer.status, answer.json["repeated"]) == (200, False)
    assert answer.json["problems"][0]["code"] == "recipient-closed"
    assert face.door.submitted == [(SYSTEM, data, Claim("edoc"))]
    again = await call(face, "POST", "/packages?kind=status", data=data)
    assert again.json == answer.json | {"repeated": True}
    assert face.door.submitted[1][2] == Claim("status")
    assert face.told == [("send", "ok")] * 2


@pytest.mark.parametrize("content_type", ["text/xml", "application/x-www-form-urlencoded", ""])
async def test_the_type_of_one_package_means_nothing(face: Served, content_type: str) -> None:
    assert (await call(face, "POST", "/packages", data=PACKAGE, headers={"Content-Type": content_type})).status == 200
    assert face.door.submitted[0][1] == PACKAGE


def digest_of(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


@pytest.mark.parametrize(
    ("name", "form"), [("Content-Digest", "sha-256=:{}:"), ("Digest", "SHA-256={}"), ("Digest", "md5=x,sha-256={}")]
)
async def test_a_digest_is_compared_where_one_is_told(face: Served, name: str, form: str) -> None:
    good = {name: form.format(digest_of(PACKAGE))}
    assert (await call(face, "POST", "/packages", data=PACKAGE, headers=good)).status == 200
    answer = await call(face, "POST", "/packages", data=PACKAGE + b"x", headers=good)
    assert (answer.status, answer.problem["code"]) == (422, "digest-mismatch")
    assert len(face.door.submitted) == 1


async def test_a_digest_that_cannot_be_read_is_no_digest_to_ignore(face: Served) -> None:
    answer = await call(face, "POST", "/packages", data=PACKAGE, headers={"Content-Digest": "sha-256=:abc:"})
    assert (answer.status, answer.problem["element"]) == (400, "Content-Digest")
    other = await call(face, "POST", "/packages", data=PACKAGE, headers={"Content-Digest": "sha-512=:abc:"})
    assert other.status == 200


async def test_a_refusal_names_element_value_and_rule(face: Served) -> None:
    answer = await call(face, "POST", "/packages", data=b"sai")
    assert answer.status == 422
    told = answer.problem
    assert (told["code"], told["element"], told["value"], told["rule"]) == ("value-too-long", "Subject", "dài", "500")
    assert "retry_after_s" not in told


async def test_what_cannot_be_done_now_says_when(face: Served) -> None:
    answer = await call(face, "POST", "/packages", data=b"sau")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "8")
    assert (answer.problem["code"], answer.problem["retry_after_s"]) == ("disk-full", 8)


async def test_a_bug_is_an_answer_too_and_stands_in_the_log(face: Served) -> None:
    with capture_logs() as logs:
        answer = await call(face, "POST", "/packages", data="lỗi".encode())
    assert (answer.status, answer.problem["code"]) == (500, "internal")
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["office call failed"]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_package_that_is_too_large_is_413_after_all_of_it_was_read(declared: bool) -> None:
    async with serving(settings(package_bytes_max=64 * 1024)) as face:
        data = bytes(200_000)

        async def pieces() -> AsyncIterator[bytes]:
            yield data

        answer = await call(face, "POST", "/packages", data=data if declared else pieces())
        assert (answer.status, answer.problem["code"], answer.problem["rule"]) == (413, "package-too-large", str(64 * 1024))
        assert face.door.submitted == []


async def test_a_packed_body_is_refused(face: Served) -> None:
    """Threats, row 7."""
    answer = await call(face, "POST", "/packages", data=b"x", headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.problem["element"]) == (400, "Content-Encoding")


async def test_a_client_that_leaves_in_mid_body_leaves_nothing_behind(face: Served) -> None:
    async with line(face.port) as (_, writer):
        writer.write(head_of("POST", "/api/v1/packages", [("Authorization", basic(SYSTEM, SECRET))], 1000) + b"half")
        await writer.drain()
        while not face.door.begun:
            await asyncio.sleep(0.005)
    async with asyncio.timeout(10):
        while not face.door.broken_off:
            await asyncio.sleep(0.005)
    assert face.door.submitted == []


async def test_a_client_may_wait_to_be_told_to_go_on(face: Served) -> None:
    headers = [("Authorization", basic(SYSTEM, SECRET)), ("Expect", "100-continue")]
    async with line(face.port) as (reader, writer):
        writer.write(head_of("POST", "/api/v1/packages", headers, len(PACKAGE)))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(PACKAGE)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


# --- many packages ----------------------------------------------------------------------------------------------------------


async def test_many_packages_are_judged_each_by_itself_and_told_in_order(face: Served) -> None:
    face.door.problems = (PROBLEM,)
    parts = [("1", b"mot"), ("2", b"sai"), ("3", b"sau"), ("5", b"mot"), ("sáu", b"")]
    answer = await call(face, "POST", "/packages", **mixed(parts))
    results = answer.json["results"]
    assert [(each["ref"], each["status"]) for each in results] == [
        ("1", "accepted"),
        ("2", "refused"),
        ("3", "later"),
        ("5", "repeated"),
        ("sáu", "accepted"),
    ]
    assert results[0]["problems"][0]["successor"] == "H41.12"
    assert (results[1]["code"], results[1]["element"], results[1]["rule"]) == ("value-too-long", "Subject", "500")
    assert (results[2]["code"], results[2]["retry_after_s"]) == ("disk-full", 8)
    assert sorted(face.told) == [("send", "disk-full"), ("send", "ok"), ("send", "value-too-long")]


async def test_a_thousand_packages_are_in_the_nodes_hands_together_but_not_all_at_once(face: Served) -> None:
    parts = [(f"r{number}", b"%d" % number * 100) for number in range(PARTS_MAX)]
    answer = await call(face, "POST", "/packages", **mixed(parts, "status"))
    assert [each["ref"] for each in answer.json["results"]] == [ref for ref, _ in parts]
    assert {claim for _, _, claim in face.door.submitted} == {Claim("status")}
    assert 16 <= face.door.most_together <= 64


async def test_requests_with_many_packages_of_one_system_wait_for_each_other_unread(face: Served) -> None:
    face.door.systems["khac"] = System("khac", (H41,), (SECRET,))
    face.door.gate = asyncio.Event()
    calls = [call(face, "POST", "/packages", **mixed([("", b"%d" % number)])) for number in range(BATCHES_AT_ONCE + 2)]
    other = call(face, "POST", "/packages", user="khac", **mixed([("", b"khac")]))
    waiting = asyncio.gather(*calls, other)
    await until(lambda: face.door.together == BATCHES_AT_ONCE + 1)
    await asyncio.sleep(0.05)
    assert face.door.together == BATCHES_AT_ONCE + 1, "another system does not wait for them"
    face.door.gate.set()
    assert {answer.status for answer in await waiting} == {200}


async def test_more_packages_or_bytes_than_allowed_are_413_and_nothing_is_submitted(face: Served) -> None:
    answer = await call(face, "POST", "/packages", **mixed([("", b"x")] * (PARTS_MAX + 1)))
    assert (answer.status, answer.problem["rule"]) == (413, str(PARTS_MAX))
    answer = await call(face, "POST", "/packages", **mixed([("", bytes(BATCH_BYTES_MAX))]))
    assert (answer.status, answer.problem["rule"]) == (413, str(BATCH_BYTES_MAX))
    assert face.door.begun == 0


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/mixed", b"--x\r\n\r\na\r\n--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\na\r\n--x--"),
        ("multipart/mixed; boundary=x", b"--x\r\n\r\na\r\n--x\r\n\r\nb"),
        ("multipart/mixed; boundary=x", b"--x\r\n\r\na\r\n--x\r\nContent-ID: 1\r\n--x--"),
        ("multipart/mixed; boundary=x", b""),
    ],
)
async def test_of_a_malformed_body_nothing_is_submitted(face: Served, content_type: str, body: bytes) -> None:
    answer = await call(face, "POST", "/packages", data=body, headers={"Content-Type": content_type})
    assert (answer.status, answer.problem["code"]) == (400, "request-malformed")
    assert face.door.begun == 0


async def test_a_sender_of_many_below_the_least_rate_is_cut_off() -> None:
    async with serving(settings(body_rate_min=100_000), rate_window_s=0.2) as face:
        headers = [("Authorization", basic(SYSTEM, SECRET)), ("Content-Type", "multipart/mixed; boundary=x")]
        reply = await raw(face.port, head_of("POST", "/api/v1/packages", headers, 5000) + b"--x\r\n")
        assert reply.status == 400
        assert json.loads(reply.body)["element"] == "body"


# --- the mailbox ------------------------------------------------------------------------------------------------------------


def taken_apart(answer: Answer) -> tuple[Any, dict[str, bytes]]:
    index, *parts = split(answer.body, boundary_of(answer.headers["Content-Type"]))
    return json.loads(bytes(index.content)), {part.ref: bytes(part.content) for part in parts}


async def test_many_items_come_with_their_contents(face: Served) -> None:
    contents = [b"mot", bytes(range(256)) * 2000, b"", b"\r\n--x--\r\n"]
    face.door.items = [item(number, data) for number, data in enumerate(contents)]
    face.door.items.insert(1, item(90, b"to", Given.SEPARATE))
    face.door.items.insert(1, item(91, b"hong", Given.DAMAGED))
    answer = await call(face, "GET", "/mailbox")
    index, bodies = taken_apart(answer)
    assert [(each["doc_id"], each["content"]) for each in index["items"]] == [
        ("doc-0", "inline"),
        ("doc-91", "damaged"),
        ("doc-90", "separate"),
        ("doc-1", "inline"),
        ("doc-2", "inline"),
        ("doc-3", "inline"),
    ]
    assert list(bodies.values()) == contents
    assert list(bodies) == ["doc-0", "doc-1", "doc-2", "doc-3"]
    assert index["cursor"] == "7"
    assert face.door.closed_pages == 1
    assert face.door.pages == [{"kind": "edoc", "after": None, "limit": 100, "wait_s": 0, "room_bytes": 8 * 1024 * 1024}]


async def test_a_list_without_contents_is_plain_json(face: Served) -> None:
    face.door.items = [item(1, b"mot")]
    answer = await call(face, "GET", "/mailbox?kind=status&limit=5&after=12&wait_s=3&content=none&room_bytes=9")
    assert answer.headers["Content-Type"] == "application/json"
    assert [each["content"] for each in answer.json["items"]] == ["separate"]
    assert face.door.pages == [{"kind": "status", "after": 12, "limit": 5, "wait_s": 3, "room_bytes": None}]


async def test_an_empty_mailbox_is_an_empty_list(face: Served) -> None:
    index, bodies = taken_apart(await call(face, "GET", "/mailbox"))
    assert (index["items"], bodies) == ([], {})


async def test_the_deadline_of_a_held_call_begins_behind_its_wait() -> None:
    async with serving(settings(request_timeout_s=1)) as face:
        assert (await call(face, "GET", "/mailbox?wait_s=2&content=none")).status == 200


@pytest.mark.parametrize(
    "query",
    [
        "kind=notice",
        "limit=0",
        f"limit={ITEMS_MAX + 1}",
        "limit=x",
        "limit=-1",
        f"wait_s={WAIT_S_MAX + 1}",
        "wait_s=0.5",
        "after=x",
        "after=-1",
        "after=" + "9" * 30,
        "content=all",
        "room_bytes=99999999",
        "limit=%F0%9F%92%A9",
        "limit=%ff",
        "limit=٣",
    ],
)
async def test_a_question_in_another_form_is_400_and_names_its_field(face: Served, query: str) -> None:
    answer = await call(face, "GET", f"/mailbox?{query}")
    assert (answer.status, answer.problem["element"]) == (400, query.partition("=")[0])
    assert face.door.pages == []


async def test_one_package_comes_byte_for_byte(face: Served) -> None:
    data = bytes(range(256)) * 3000
    face.door.packages["doc-1"] = data
    answer = await call(face, "GET", "/mailbox/doc-1/package")
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "application/octet-stream", data)
    assert answer.headers["Content-Length"] == str(len(data))
    assert face.door.closed_streams == 1


@pytest.mark.parametrize("doc_id", ["doc-2", "x" * 200, "%ff", "l%E1%BA%A1", "%2e%2e", "a%00b"])
async def test_an_unknown_package_is_404(face: Served, doc_id: str) -> None:
    answer = await call(face, "GET", f"/mailbox/{doc_id}/package")
    assert answer.status == 404
    assert answer.problem["code"] in ("doc-unknown", "operation-unknown")


async def test_an_answer_that_cannot_be_finished_is_cut(face: Served) -> None:
    async def broken(package: bytes) -> AsyncIterator[bytes]:
        yield package[:500_000]
        raise OSError("the disk")

    face.door.packages["doc-1"] = bytes(1_000_000)
    face.door.chunks_of = broken
    with capture_logs(), pytest.raises(aiohttp.ClientError):
        await call(face, "GET", "/mailbox/doc-1/package")


# --- done -------------------------------------------------------------------------------------------------------------------


async def test_many_are_settled_and_told_in_order(face: Served) -> None:
    answer = await call(face, "POST", "/mailbox/done", json={"doc_ids": ["a", "la", "lạ", "sau", "a"]})
    assert [(each["doc_id"], each["status"]) for each in answer.json["results"]] == [
        ("a", "ok"),
        ("la", "refused"),
        ("lạ", "refused"),
        ("sau", "later"),
        ("a", "ok"),
    ]
    assert face.door.settled_many == [(("a", "la", "sau", "a"), "done")]
    await call(face, "POST", "/mailbox/done", json={"doc_ids": ["a"], "status": "fail"})
    assert face.door.settled_many[1] == (("a",), "fail")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"doc_ids":[]}',
        b'{"doc_ids":"a"}',
        b'{"doc_ids":[1]}',
        b'{"doc_ids":["a"],"status":1}',
        b"\xff",
        b"[" * 9999,
        json.dumps({"doc_ids": ["a"] * (ITEMS_MAX + 1)}).encode(),
    ],
)
async def test_a_confirmation_in_another_form_is_400(face: Served, body: bytes) -> None:
    assert (await call(face, "POST", "/mailbox/done", data=body)).status == 400
    assert face.door.settled_many == []


async def test_the_words_of_settling_are_the_nodes_business(face: Served) -> None:
    face.door.fault = Refused(Reason.STATUS_WORD_UNKNOWN, "status", "xong", "done")
    answer = await call(face, "POST", "/mailbox/done", json={"doc_ids": ["a"], "status": "xong"})
    assert (answer.status, answer.problem["code"]) == (422, "status-word-unknown")


# --- what is not there ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1", "/api/v2/packages", "/api/v1/packages/", "/api/v1/mailbox/a/b/c"])
async def test_what_is_not_there_is_404_in_the_faces_own_words(face: Served, path: str) -> None:
    answer = await call(face, "GET", path, url=f"http://127.0.0.1:{face.port}")
    assert (answer.status, answer.problem["code"]) == (404, "operation-unknown")
    assert face.told == [("unknown", "operation-unknown")]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/packages", "POST"),
        ("PUT", "/mailbox", "GET"),
        ("GET", "/mailbox/done", "POST"),
        ("DELETE", "/openapi.json", "GET"),
    ],
)
async def test_another_method_is_405_and_says_which(face: Served, method: str, path: str, allowed: str) -> None:
    answer = await call(face, method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
    assert answer.problem["code"] == "operation-unknown"


async def test_a_call_that_takes_too_long_is_answered(face: Served) -> None:
    async with serving(settings(request_timeout_s=1)) as slow:

        async def never(system: System, doc_id: str) -> Any:
            await asyncio.sleep(60)

        slow.door.fetch = never  # type: ignore[method-assign]
        answer = await call(slow, "GET", "/mailbox/doc-1/package")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")

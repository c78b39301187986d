"""An office's call in memory: HTTP/1.1 between a simulated office and a node's real office application, without sockets.

`AppDoor` stands where the node's listener stands: aiohttp's own parser, handler and flow control, over a transport that is a list
of bytes. `VxpCalls` and `NativeCalls` are the office's end. Knows aiohttp's server protocol and the words of both wires; nothing
of what is sent, who sends it, or what the network does to it on the way.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from aiohttp import web

from node.adapters.http.listener import Answer, Guards, Listener, runner_for
from node.adapters.http.office_vxp import malformed
from topology import native, vxp

PIECE_BYTES = 64 * 1024
"""What arrives, or leaves, in one turn of the loop."""
WRITE_HIGH_BYTES = 64 * 1024
WRITE_LOW_BYTES = 16 * 1024
"""asyncio's own marks: above the first the handler is told to wait, below the second to go on."""
KEPT_MAX = 64
"""Idle connections that wait for the next call, as an office's HTTP library keeps them."""
HEAD_BYTES_MAX = 64 * 1024
"""The head of an answer."""
LOSS_S = 0.05
"""From the last byte that arrived to the loss of a connection that is cut in mid-request: the handler is at work by then."""
COMPLAINTS_MAX = 100
"""More than these say nothing new."""


class NotReached(Exception):
    """Nothing was heard: the call may be made again without any doubt."""


class NoAnswer(Exception):
    """In doubt: the call may have been heard, but no answer came, or none that can be read."""


class Declined(Exception):
    """A clear answer, and it is no."""


class Calls(Protocol):
    """What an office asks of its node."""

    async def call(
        self, operation: str, fields: Mapping[str, str], body: bytes = vxp.EMPTY, content_type: str = vxp.JSON_TYPE
    ) -> vxp.Answer:
        """The node's answer, OK or FAIL. fields: what is signed, without prefix, systemid and timestamp. Raises `NotReached`
        and `NoAnswer`."""
        ...


# -- the node's end ------------------------------------------------------------------------------------------------------


class AppDoor:
    """A node's office application behind a listener in memory, with the production listener's settings.

    `setup` is called inside the node's life: all that the server does later runs in the context of that moment, whoever calls.
    `call` is awaited by a task of that life too, so that a paused or dead node hears nothing.
    complaints: what aiohttp itself complained of (a malformed request, an exception nobody caught), at most COMPLAINTS_MAX.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        idle_timeout_s: float = 20.0,
        header_bytes_max: int = 64 * 1024,
        answer: Answer | None = malformed,
    ) -> None:
        self.complaints: list[str] = []
        self._guards = Guards(2000, 2000, 2000, 10.0, idle_timeout_s, header_bytes_max)
        runner = runner_for(app, self._guards, _complaints_to(self.complaints))
        self._runner = runner
        self.listener = Listener(runner, self._guards, None, answer)
        self._context: contextvars.Context | None = None
        self._kept: list[_Wire] = []

    async def setup(self) -> None:
        """Start the application (its on_startup included). From now on it can be called."""
        await self._runner.setup()
        self._context = contextvars.copy_context()

    async def close(self, grace_s: float) -> None:
        """As the listener closes: no new calls, requests in progress may finish within the grace, the rest is cut."""
        self._context = None
        await self.listener.http.shutdown(grace_s / 2)
        await self._runner.cleanup()

    async def call(self, request: bytes, *, cut_after: int | None = None, remote: str = "127.0.0.1") -> bytes:
        """The raw answer to one request, complete, or as much as came before the server closed: b"" where it said nothing.

        cut_after: only so many bytes of the request arrive, then the connection is lost. remote: where it seems to come from.
        Cancelling is hanging up: the handler is cancelled. Raises `NotReached` before `setup` and after `close`.
        """
        wire = self._connect(remote)
        try:
            answer = await wire.converse(request, len(request) if cut_after is None else cut_after)
        except BaseException:
            wire.lose(ConnectionResetError("the client hung up"))
            raise
        if wire.reusable and len(self._kept) < KEPT_MAX and self._context is not None:
            wire.forget()
            self._kept.append(wire)
        else:
            wire.lose(None)
        return answer

    def _connect(self, remote: str) -> _Wire:
        """An idle connection of this client, the freshest first, or a new one."""
        if self._context is None:
            raise NotReached
        for index in range(len(self._kept) - 1, -1, -1):
            if self._kept[index].closing:
                del self._kept[index]
            elif self._kept[index].remote == remote:
                return self._kept.pop(index)
        return _Wire(self.listener.handler(), self._context, remote)


class _Wire(asyncio.Transport):
    """One connection: the server's transport, and the client's hand on the other end of it.

    Both ends only ever touch lists; the server is called in its own context, and hears of a lost connection exactly once.
    """

    def __init__(self, protocol: web.RequestHandler, context: contextvars.Context, remote: str) -> None:
        super().__init__({"peername": (remote, 0)})
        self.protocol = protocol
        self.remote = remote
        self.closing = False
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._lost = False
        self._reading = True
        self._writing_paused = False
        self._at_once_bytes = PIECE_BYTES
        self._outgoing = bytearray()
        self._sending: asyncio.Handle | None = None
        self._answer = _Incoming()
        self._changed: asyncio.Future[None] | None = None
        self._enter(protocol.connection_made, self)

    def _enter(self, heard: Callable[..., None], *details: object) -> None:
        """Tell the server something, in its context: tasks and timers it makes of that belong to its life."""
        self._context.copy().run(heard, *details)  # a copy, since a context cannot be entered twice

    # the client's end

    @property
    def reusable(self) -> bool:
        """The answer was whole, nothing follows it, and the server has not closed, nor said that it will."""
        answer = self._answer
        return answer.complete and not (answer.surplus or self.closing) and answer.headers.get("connection") != "close"

    async def converse(self, request: bytes, arriving: int) -> bytes:
        """Say so many bytes of the request, a piece a turn as fast as the server reads, then hear the answer."""
        self._at_once_bytes = PIECE_BYTES
        whole = arriving >= len(request)
        for start in range(0, min(arriving, len(request)), PIECE_BYTES):
            if start:
                await asyncio.sleep(0)
            while not (self._reading or self.closing):
                await self._change()
            if self.closing:
                break
            piece = request if whole and len(request) <= PIECE_BYTES else request[start : min(start + PIECE_BYTES, arriving)]
            self._enter(self.protocol.data_received, piece)
        if not whole:
            await asyncio.sleep(LOSS_S)
            self.lose(ConnectionResetError("cut in mid-request"))
        while not (self._answer.complete or self._lost):
            await self._change()
        return self._answer.raw()

    def forget(self) -> None:
        """Let the answer go: an idle connection holds no memory."""
        self._answer = _Incoming()

    def lose(self, error: Exception | None) -> None:
        """The connection is gone, now: nothing more is heard on either side."""
        self.closing = True
        self._outgoing.clear()
        if self._sending is not None:
            self._sending.cancel()
        if not self._lost:
            self._lost = True
            self._enter(self.protocol.connection_lost, error)
        self._tell()

    async def _change(self) -> None:
        self._changed = self._loop.create_future()
        await self._changed

    def _tell(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    # the server's end

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """A piece leaves at once, what is more waits for the next turns, as a socket's buffer takes some and then no more."""
        if self.closing or not data:
            return
        if not self._outgoing and len(data) <= self._at_once_bytes:
            self._at_once_bytes -= len(data)
            self._arrive(bytes(data))
            return
        self._outgoing += data
        if len(self._outgoing) > WRITE_HIGH_BYTES and not self._writing_paused:
            self._writing_paused = True
            self.protocol.pause_writing()
        self._send_soon()

    def _send_soon(self) -> None:
        if self._sending is None:
            self._sending = self._loop.call_soon(self._send, context=self._context)

    def _send(self) -> None:
        self._sending = None
        self._at_once_bytes = PIECE_BYTES
        if self._outgoing:
            piece = bytes(self._outgoing[:PIECE_BYTES])
            del self._outgoing[:PIECE_BYTES]
            self._send_soon()
            self._arrive(piece)
        elif self.closing:
            self.lose(None)
        if self._writing_paused and len(self._outgoing) <= WRITE_LOW_BYTES and not self._lost:
            self._writing_paused = False
            self.protocol.resume_writing()

    def _arrive(self, piece: bytes) -> None:
        self._answer.feed(piece)
        if self._answer.complete:
            self._tell()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._tell()

    def is_reading(self) -> bool:
        return self._reading

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        """What was written is still sent; the protocol hears of the end later, never inside this call."""
        if not self.closing:
            self.closing = True
            self._send_soon()

    def abort(self) -> None:
        """What was written and has not left is lost."""
        self._outgoing.clear()
        self.close()

    def get_write_buffer_size(self) -> int:
        return len(self._outgoing)


def _complaints_to(complaints: list[str]) -> logging.Logger:
    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(complaints) < COMPLAINTS_MAX:
                error = record.exc_info[1] if record.exc_info else None
                complaints.append(f"{record.getMessage()}: {type(error).__name__}: {error}" if error else record.getMessage())

    logger = logging.Logger("node.http", logging.INFO)
    logger.addHandler(Keeping())
    return logger


# -- the office's end ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer. headers: names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read_reply(raw: bytes) -> Reply:
    """The answer in the bytes of one connection. Raises `NoAnswer` where they are none, or not whole."""
    incoming = _Incoming()
    incoming.feed(raw)
    if not incoming.ended():
        raise NoAnswer(f"{len(raw)} bytes are no answer")
    return Reply(incoming.status, incoming.headers, incoming.body())


class VxpCalls:
    """One registered system at one node (`Calls`).

    exchange: carries a request there and the raw answer back; raises `NotReached` or `NoAnswer`. now: the office's clock, in
    Vietnam's time.
    """

    def __init__(
        self,
        exchange: Callable[[bytes], Awaitable[bytes]],
        system_id: str,
        secret: str,
        now: Callable[[], datetime],
        host: str = "node",
    ) -> None:
        self._exchange = exchange
        self._system_id = system_id
        self._secret = secret
        self._now = now
        self._host = host

    async def call(
        self, operation: str, fields: Mapping[str, str], body: bytes = vxp.EMPTY, content_type: str = vxp.JSON_TYPE
    ) -> vxp.Answer:
        headers = vxp.headers(self._system_id, self._secret, fields, self._now(), content_type)
        reply = read_reply(await self._exchange(as_request(f"/vxp/{operation}", self._host, headers, body)))
        try:
            return vxp.read_answer(reply.body)
        except ValueError as error:
            raise NoAnswer(f"{operation}: HTTP {reply.status}, {len(reply.body)} bytes: {error}") from error


class NativeCalls:
    """The mailbox of one registered system at the native door. exchange: as in `VxpCalls`."""

    def __init__(self, exchange: Callable[[bytes], Awaitable[bytes]], system_id: str, secret: str, host: str = "node") -> None:
        self._exchange = exchange
        self._headers = {"Authorization": native.basic(system_id, secret), "Content-Type": "application/json"}
        self._host = host

    async def mailbox(self, kind: str, wait_s: int) -> list[tuple[Mapping[str, Any], bytes | None]]:
        """What lies there, each item with its content where it came along. Raises `NotReached`, `NoAnswer` and `Declined`."""
        path = f"/api/v1/mailbox?kind={kind}&limit=100&wait_s={wait_s}&content=inline"
        reply = await self._call("GET", path, b"")
        with _legible(path):
            head, *contents = native.parts(reply.body, reply.headers.get("content-type", ""))
            items = json.loads(head)["items"]
            along = [item["doc_id"] for item in items if item["content"] == "inline"]
            given = dict(zip(along, contents, strict=True))
            return [(item, given.get(item["doc_id"])) for item in items]

    async def done(self, doc_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """What became of each confirmation, in order. Raises as `mailbox` does."""
        reply = await self._call("POST", "/api/v1/mailbox/done", json.dumps({"doc_ids": doc_ids}).encode())
        with _legible("done"):
            results: list[Mapping[str, Any]] = json.loads(reply.body)["results"]
            return results

    async def _call(self, method: str, path: str, body: bytes) -> Reply:
        reply = read_reply(await self._exchange(as_request(path, self._host, self._headers, body, method)))
        if reply.status >= 500:  # also of whoever stands between
            raise NoAnswer(f"{path}: HTTP {reply.status}")
        if reply.status != 200:
            raise Declined(f"{path}: HTTP {reply.status} {reply.body[:200].decode(errors='replace')}")
        return reply


@contextmanager
def _legible(what: str) -> Iterator[None]:
    """An answer that was spoilt on the way is none."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise NoAnswer(f"{what}: {error!r}") from error


def as_request(path: str, host: str, headers: Mapping[str, str], body: bytes, method: str = "POST") -> bytes:
    """A request as bytes."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def package_in(answer: vxp.Answer) -> bytes:
    """The file in a successful answer of getEdoc. Raises `NoAnswer` where it is damaged."""
    try:
        return vxp.package_in(answer)
    except ValueError as error:
        raise NoAnswer(str(error)) from error


class _Incoming:
    """An answer as it arrives: knows when it is whole, by its length, by its last chunk, or only by the end of the connection.

    broken: what came is no HTTP; then it is complete as well, for nothing better can follow.
    """

    def __init__(self) -> None:
        self.complete = False
        self.broken = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self._bytes = bytearray()
        self._body_at = 0  # where the body begins; 0 while the head is not whole
        self._end: int | None = None  # where the answer ends, as far as that is known
        self._chunks: list[tuple[int, int]] | None = None  # where each chunk lies; None: the body is not chunked
        self._next = 0  # where the line before the next chunk begins

    @property
    def surplus(self) -> bool:
        """More came than the answer."""
        return self._end is not None and len(self._bytes) > self._end

    def feed(self, piece: bytes) -> None:
        self._bytes += piece
        if self.complete:
            return
        try:
            if not self._body_at:
                self._read_head()
            if self._chunks is not None:
                self._find_chunks(self._chunks)
        except ValueError:
            self.broken = self.complete = True
        else:
            self.complete = self._end is not None and len(self._bytes) >= self._end

    def raw(self) -> bytes:
        """All that came, without the interim answers."""
        return bytes(self._bytes)

    def body(self) -> bytes:
        """What the framing holds. Only for an answer that has ended."""
        if self._chunks is not None:
            return b"".join([self._bytes[start:end] for start, end in self._chunks])
        return bytes(memoryview(self._bytes)[self._body_at : self._end])

    def ended(self) -> bool:
        """The connection is over: is this an answer? Without a length it is as long as it is."""
        return not self.broken and (self.complete or (self._body_at > 0 and self._end is None and self._chunks is None))

    def _read_head(self) -> None:
        """The first head that is not an interim one (100 Continue). ValueError: it is none."""
        while True:
            end = self._bytes.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
            if end < 0:
                if len(self._bytes) >= HEAD_BYTES_MAX:
                    raise ValueError("a head without end")
                return
            first, *lines = self._bytes[:end].decode("latin-1").split("\r\n")
            version, status, *_ = first.split(" ", 2)
            self.status = int(status)
            if not version.startswith("HTTP/1."):
                raise ValueError("not HTTP")
            if self.status >= 200:
                break
            del self._bytes[: end + 4]
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError("a line of the head that is no field")
            self.headers[name.lower()] = value.strip()
        self._body_at = self._next = end + 4
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            self._chunks = []
        elif self.status in (204, 304):
            self._end = self._body_at
        elif "content-length" in self.headers:
            self._end = self._body_at + _length(self.headers["content-length"])

    def _find_chunks(self, chunks: list[tuple[int, int]]) -> None:
        """Walk on over the chunks that are whole. Trailers are not expected: a node sends none."""
        while self._end is None:
            line_end = self._bytes.find(b"\r\n", self._next)
            if line_end < 0:
                return
            size = _length(self._bytes[self._next : line_end].decode("latin-1"), 16)
            after = line_end + 2 + size + 2
            if len(self._bytes) < after:
                return
            if size == 0:
                self._end = after
            else:
                chunks.append((line_end + 2, line_end + 2 + size))
                self._next = after


def _length(text: str, base: int = 10) -> int:
    length = int(text, base)
    if length < 0:
        raise ValueError("less than nothing")
    return length

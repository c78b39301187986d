"""One listening address: accepts, counts, does the TLS handshake, and gives what is left to an aiohttp application.

Connections are counted from the moment they are accepted, before TLS, and refused (not queued) beyond the caps. Knows
aiohttp and asyncio; nothing of who may call or what is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import structlog
from aiohttp import http_parser, web
from aiohttp.http_exceptions import HttpProcessingError

from node import config
from node.adapters.http.keepalive import keep_alive
from node.adapters.http.sockets import Socket, listening, neighbourhood

log = structlog.get_logger()

Answer = Callable[[int], bytes]
Context = ssl.SSLContext | Callable[[], ssl.SSLContext] | None
"""One that serves until another is put in its place, or one that is asked for each connection. None: no TLS."""

HEADER_BYTES = 8190
"""aiohttp's own limit for a line and for a field; enough for nodes and browsers."""
LINGER_S = 1.0
"""How long a refused body is still read, so that the answer is not lost in a reset."""
READ_BYTES = 256 * 1024
"""Held of a request that nobody reads yet, about; as much as one read of a TLS connection brings."""
TLS_SHUTDOWN_S = 2.0
TLS_READ_BYTES = 256 * 1024
"""As much as asyncio reads at a time."""
BACKLOG = 128
ACCEPT_RETRY_S = 1.0
"""When no descriptor is left."""
UNPROVEN, STRANGERS = "unproven", "strangers"
"""What connections count for beside addresses and certificates."""


STRANGERS_MAX = 256
"""Connections from one address that have not shown a certificate yet."""
NEWCOMERS_MAX = 32
"""Connections that have shown none and will not, from all addresses: they come to enrol."""


@dataclass(frozen=True, slots=True)
class Guards:
    """Limits of one listener. idle_timeout_s closes a connection that sends no complete request head, the first included.

    per_address_max counts connections without a certificate (yet); per_certificate_max those that have shown one: many nodes
    may stand behind one address, and a leaf belongs to one node. An IPv6 address counts as its /64. strangers_max: those that
    have ended their handshake without one, where most show one; a quarter of them from one address; and no more than half of
    all may be on their way there. None: nobody shows one here.
    """

    connections_max: int
    per_address_max: int
    per_certificate_max: int
    handshake_timeout_s: float
    idle_timeout_s: float
    header_bytes_max: int = HEADER_BYTES
    strangers_max: int | None = None

    def on_arrival(self, address: str) -> dict[str, int]:
        """What a connection counts for, each with its cap, before its handshake."""
        caps = {address: self.per_address_max}
        return caps if self.strangers_max is None else {**caps, UNPROVEN: max(self.connections_max // 2, 1)}

    def after_handshake(self, address: str, leaf: bytes | None) -> dict[str, int] | None:
        """And after it; None: as before."""
        if leaf is not None:
            return {hashlib.sha256(leaf).hexdigest(): self.per_certificate_max}
        if self.strangers_max is None:
            return None
        return {STRANGERS: self.strangers_max, f"{STRANGERS} {address}": max(self.strangers_max // 4, 1)}


class Listener:
    """A running listener. port: the one bound, also where 0 was asked for. refused: connections turned away, by reason.
    empty: set while no connection is open. closing: `close` was called.

    `context` may be replaced (new certificates): each new connection takes the one that stands there."""

    def __init__(self, runner: web.AppRunner, guards: Guards, context: Context, answer: Answer | None = None) -> None:
        self.guards = guards
        self._answer = answer
        self.context = context
        self.port = 0
        self.refused: Counter[str] = Counter()
        self._runner = runner
        self._open: set[_Connection] = set()
        self._held: Counter[str] = Counter()
        self._opening: set[asyncio.Task[None]] = set()
        self._sockets: Sequence[Socket] = ()
        self.empty = asyncio.Event()
        self.empty.set()
        self.closing = False

    @property
    def connections(self) -> int:
        return len(self._open)

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises OSError (address in use, not ours) and RuntimeError where aiohttp would run without its guards."""
        await self._runner.setup()
        try:
            _require_guards(self.http, self.guards)
            self._sockets = await listening(host, port, BACKLOG)
        except BaseException:
            await self._runner.cleanup()
            raise
        self.port = int(self._sockets[0].getsockname()[1])
        for each in self._sockets:
            self._begin(self._accept(each))

    def _begin(self, work: Coroutine[Any, Any, None], then: Callable[[asyncio.Task[None]], None] = lambda task: None) -> None:
        """then: called at the task's end, also where it was cancelled before its first step."""
        task = asyncio.get_running_loop().create_task(work)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        task.add_done_callback(then)

    async def _accept(self, listening_: Socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening_)
            except ConnectionError:
                continue  # gone before it was looked at
            except OSError as error:  # no descriptor is left: those that wait go on waiting
                self.refused["descriptors"] += 1
                log.error("cannot accept", reason=error.strerror or type(error).__name__)
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            connection = _Connection(self, neighbourhood(str(address[0])))
            if self.admit(connection, self.guards.on_arrival(connection.address)):
                self._begin(connection.open(accepted), partial(connection.opened, accepted))
            else:
                accepted.close()

    async def close(self, grace_s: float) -> None:
        """Stop listening at once, let requests in progress finish within the grace, then cut what is left."""
        if self.closing or not self._sockets:
            return
        self.closing = True
        for opening in self._opening:
            opening.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for each in self._sockets:
            each.close()
        await self.http.shutdown(grace_s / 2)  # aiohttp spends it twice: to let handlers finish, and to let them notice
        await self._runner.cleanup()
        try:
            async with asyncio.timeout(TLS_SHUTDOWN_S):
                await self.empty.wait()
        except TimeoutError:
            for connection in tuple(self._open):
                connection.abort()
            await self.empty.wait()

    @property
    def http(self) -> web.Server:
        assert self._runner.server is not None
        return self._runner.server

    def handler(self) -> web.RequestHandler:
        """aiohttp's side of a new connection."""
        if self._answer is None:
            return self.http()
        handler = _Handler(self.http, loop=asyncio.get_running_loop(), **self.http._kwargs)
        handler.answer = self._answer
        return handler

    def sweep(self, unwelcome: Callable[[ssl.SSLObject], bool]) -> int:
        """Cut every open connection whose other end may no longer be there, whatever it waits for; how many."""
        cut = [each for each in self._open if (shaken := each.shaken) is not None and unwelcome(shaken)]
        for each in cut:
            each.abort()
        return len(cut)

    # what a connection tells its listener

    def admit(self, connection: _Connection, caps: Mapping[str, int]) -> bool:
        """Count a connection under these keys in place of those before (its address, then its certificate); False: one of the
        caps is reached, and nothing has changed."""
        if connection not in self._open and len(self._open) >= self.guards.connections_max:
            self.refused["connections"] += 1
            return False
        if any(self._held[key] >= most for key, most in caps.items()):
            self.refused["connections-per-peer"] += 1
            return False
        self._open.add(connection)
        self._held.update(caps.keys())
        self.release(connection)
        connection.keys = tuple(caps)
        self.empty.clear()
        return True

    def release(self, connection: _Connection) -> None:
        for key in connection.keys:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
        connection.keys = ()

    def gone(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self.empty.set()


def guards(settings: config.NodeConfig, name: str) -> Guards:
    """What the listener of this name (link, office, admin) bears at most."""
    link, office = settings.link, settings.office
    if name == "link":
        return Guards(
            link.connections_max,
            min(link.connections_max, STRANGERS_MAX),
            link.connections_per_peer_max,
            link.handshake_timeout_s,
            link.idle_timeout_s,
            strangers_max=min(link.connections_max // 2, NEWCOMERS_MAX),
        )
    if name == "office":
        return Guards(
            office.connections_max,
            office.connections_max,
            office.connections_max,
            link.handshake_timeout_s,
            office.idle_timeout_s,
            office.header_bytes_max,
        )
    return Guards(64, 64, 64, link.handshake_timeout_s, link.idle_timeout_s)


async def listen(
    app: web.Application,
    host: str,
    port: int,
    guards: Guards,
    context: Context = None,
    answer: Answer | None = None,
) -> Listener:
    """Serve `app` on an address, with TLS where a context is given. The context is asked anew for each connection.

    answer: the JSON said to a request that aiohttp's parser refuses, before any application sees it, by HTTP status; without it
    a short text.
    """
    listener = Listener(runner_for(app, guards, _http_log()), guards, context, answer)
    await listener.start(host, port)
    return listener


def runner_for(app: web.Application, guards: Guards, logger: logging.Logger) -> web.AppRunner:
    """aiohttp's server as every door of ours has it, behind a socket or in a rehearsal. logger: what aiohttp complains to."""
    return web.AppRunner(
        app,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
        logger=logger,
        keepalive_timeout=guards.idle_timeout_s,
        lingering_time=LINGER_S,
        read_bufsize=READ_BYTES,
        max_line_size=guards.header_bytes_max,
        max_field_size=guards.header_bytes_max,
    )


class _Handler(web.RequestHandler):
    """aiohttp's handler with our words for what never becomes a request."""

    __slots__ = ("answer",)
    answer: Answer

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The parser's complaint is logged as before; what is answered is ours."""
        super().handle_error(request, status, exc, message)
        response = web.Response(status=status, body=self.answer(status), content_type="application/json")
        response.force_close()
        return response


class _Connection(asyncio.Protocol):
    """One accepted connection: counted, shaken hands with, then passed through to aiohttp's handler. keys: what it counts for."""

    def __init__(self, listener: Listener, address: str) -> None:
        self._listener = listener
        self._handler: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self.address = address
        self.keys: tuple[str, ...] = ()

    async def open(self, accepted: Socket) -> None:
        """Begin to serve it, behind the handshake where there is one."""
        context, guards = self._listener.context, self._listener.guards
        shake: dict[str, Any] = {}
        if context is not None:
            made = context() if callable(context) else context
            shake = {"ssl": made, "ssl_handshake_timeout": guards.handshake_timeout_s, "ssl_shutdown_timeout": TLS_SHUTDOWN_S}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self, accepted, **shake)
        except OSError as error:
            # In TLS 1.3 a refused client sees only a disconnect, so the reason stands here.
            self._listener.refused["handshake"] += 1
            log.info("tls handshake failed", address=self.address, reason=getattr(error, "reason", None) or type(error).__name__)

    def opened(self, accepted: Socket, task: asyncio.Task[None]) -> None:
        """Opening it is over; where nothing came of it, nothing of it stays."""
        if self._transport is None:
            accepted.close()
            self._leave()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake, where there is one, is over."""
        self._transport = transport = cast(asyncio.Transport, transport)
        keep_alive(transport)
        if self._listener.closing:  # accepted in the last turn of the loop: there is no handler any more
            transport.abort()
        elif self._identify(transport):
            share_buffer(transport)
            self._handler = self._listener.handler()
            self._handler.connection_made(transport)
        else:
            transport.abort()

    def _identify(self, transport: asyncio.Transport) -> bool:
        """From now on a connection that has shown a certificate counts for it, no longer for its address."""
        shaken = transport.get_extra_info("ssl_object")
        leaf = shaken.getpeercert(binary_form=True) if shaken is not None else None
        caps = self._listener.guards.after_handshake(self.address, leaf)
        if caps is None or self._listener.admit(self, caps):
            return True
        if leaf is None:
            log.warning("too many connections without a certificate", address=self.address)
        else:
            log.warning("too many connections with one certificate", address=self.address, certificate=next(iter(caps)))
        return False

    @property
    def shaken(self) -> ssl.SSLObject | None:
        """What the handshake has left; None before its end and without TLS."""
        return None if self._transport is None else self._transport.get_extra_info("ssl_object")

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        self._listener.release(self)
        self._listener.gone(self)

    def data_received(self, data: bytes) -> None:
        if self._handler is not None:
            self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._handler is None else self._handler.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self._handler is not None:
            self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        if self._handler is not None:
            self._handler.resume_writing()


_read_buffer = memoryview(bytearray(TLS_READ_BYTES))


def share_buffer(secured: asyncio.Transport) -> None:
    """asyncio gives every TLS connection a buffer of its own to read into, six times what all the rest of a connection takes. It
    is empty between two turns of the loop, so one serves all: 700 children that wait would hold 180 MB of nothing. Private names,
    here alone; an asyncio that has others keeps its buffers."""
    protocol: Any = getattr(secured, "_ssl_protocol", None)
    if len(getattr(protocol, "_ssl_buffer", b"")) == len(_read_buffer):
        protocol._ssl_buffer = protocol._ssl_buffer_view = _read_buffer


def _require_guards(server: web.Server, guards: Guards) -> None:
    """aiohttp falls back quietly: to a laxer parser without its C part, to no limits where it does not know an option."""
    if http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise RuntimeError("aiohttp runs without its C parser; reinstall it from a wheel and unset AIOHTTP_NO_EXTENSIONS")
    handler = server()
    if (handler.keepalive_timeout, handler.max_line_size) != (guards.idle_timeout_s, guards.header_bytes_max):
        raise RuntimeError("this version of aiohttp does not take the listener's limits")


class _ToStructlog(logging.Handler):
    """aiohttp's own complaints as events; a malformed request is named by kind, its bytes are not repeated."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            log.info("malformed request", address=record.args, reason=type(error).__name__)
        else:
            log.error("http server", message=record.getMessage(), exc_info=cast(Any, record.exc_info))


def _http_log() -> logging.Logger:
    logger = logging.Logger("node.http", logging.INFO)
    logger.addHandler(_ToStructlog())
    return logger

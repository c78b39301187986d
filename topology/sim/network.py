"""The network between the nodes, and from the offices to them: calls that are late, lost, torn, repeated, refused or held.

`Network.exchange` plays one call, whatever is said in it. The request travels, the work runs as a task of the life that serves
the target, the answer travels back. What a caller may conclude is what it may conclude of TCP: `Unreached`, nothing left it;
`Lost`, it cannot know. Connections are kept between calls here too: on a line that is cut, a call without one is `Unreached`, a
call on one is `Lost`.

Knows lives and lines, nothing of envelopes: the link's own language is in `link.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from node import config
from node.core.identifier import OrgId
from topology.sim.lines import HEALTHY, Closed, Fate, Line, Lost, Unreached, draw
from topology.sim.link import SimLink
from topology.sim.loop import Ended, Life, SimLoop
from topology.sim.record import Record, stream

if TYPE_CHECKING:
    from topology.sim.papers import Papers

__all__ = ["HEALTHY", "Closed", "Fate", "Line", "Lost", "Network", "SimLink", "Unreached"]

CONNECT_S = 10.0
IDLE_S = 10.0
"""How long a caller keeps a connection that nobody uses."""
KEPT_MAX = 4
"""Connections kept between one caller and one target."""
RETRANSMIT_S = 1.0
"""TCP sends again after 1, 2, 4, 8 seconds of silence."""
UNANSWERED_S = 15.0
"""Then both kernels give the connection up: `node/adapters/http/keepalive.py`."""

Serve = Callable[[], Awaitable[bytes]]
Torn = Callable[[float], Awaitable[object]]
"""What the target's listener does with the first part (a share of 1) of a request whose connection breaks."""
Spoil = Callable[[str, random.Random], bytes]
"""("rubbish" | "errors", chance) -> the bytes of such an answer in the language of the call."""
Verdicts = Callable[[str, Any, Any], None]


@dataclass(slots=True)
class _Side:
    """What hangs on one life: the calls it serves, the calls it makes, and by target the connections it keeps: who is at the
    other end, and until when."""

    name: str
    serving: dict[int, _Call] = field(default_factory=dict)
    calls: dict[int, _Call] = field(default_factory=dict)
    kept: dict[str, list[tuple[Life, float]]] = field(default_factory=dict)


@dataclass(slots=True)
class _Server:
    life: Life
    door: Any
    section: config.Link | None


class Network:
    """All lines and who serves behind them.

    usual: what a line is like until somebody changes it. on_verdicts: (node that answered, batch, verdicts), called when an
    answer leaves a node, before anything can happen to it on the way.
    """

    def __init__(self, loop: SimLoop, seed: int, record: Record) -> None:
        self.loop = loop
        self.record = record
        self.usual = Line()
        self.on_verdicts: Verdicts | None = None
        self.papers: Papers | None = None
        """The certificates of those who meet, where something happens to them in this run."""
        self.outside = Context()
        """Of everything that happens to bytes on the way: in no life."""
        self._seed = seed
        self._lines: dict[tuple[str, str], Line] = {}
        self._servers: dict[str, _Server] = {}
        self._sides: dict[Life, _Side] = {}
        self._modes: dict[str, str] = {}
        self._dark: dict[str, bool] = {}
        self._chance = stream(seed, "network", "modes")

    # who is where

    def line(self, source: str, target: str) -> Line:
        """The line from one name to another, made at first sight."""
        found = self._lines.get((source, target))
        if found is None:
            found = self._lines[source, target] = replace(self.usual)
            found.source, found.target = source, target
            found.chance = stream(self._seed, "network", source, target, "fate")
            found.wobble = stream(self._seed, "network", source, target, "delay")
            found.on_cut = self._was_cut
        return found

    def lines(self) -> list[Line]:
        """All that have been seen so far."""
        return list(self._lines.values())

    def lines_between(self, name: str, other: str) -> list[Line]:
        """There and back."""
        return [self.line(name, other), self.line(other, name)]

    def link(self, child: str, code: OrgId, parent: str, life: Life, section: config.Link) -> SimLink:
        """The uplink of one life of a child. section: the child's, for its limits and timeouts."""
        self.lines_between(child, parent)
        return SimLink(self, child, code, parent, life, section)

    def serve(self, name: str, life: Life, door: Any = None, section: config.Link | None = None) -> None:
        """From now on calls to this name are the business of this life. door: what a child's calls are handed to. section: whose
        limits its listener has; without it, the calling child's."""
        self._dark.pop(name, None)
        self._servers[name] = _Server(life, door, section)
        self._side(life, name)

    def close(self, name: str) -> None:
        """Nobody listens there any more; what is being served goes on."""
        server = self._servers.pop(name, None)
        if server is not None:
            self._forget_kept(name, server.life)

    def door(self, name: str) -> Any:
        """What stands behind a name now; `Closed` where nobody serves it."""
        if self.server(name) is None:
            raise Closed(name)
        return self._servers[name].door

    def section(self, name: str) -> config.Link | None:
        """The limits that a listener was given, if there are any."""
        server = self._servers.get(name)
        return server.section if server is not None else None

    def server(self, name: str) -> Life | None:
        """The life that serves a name, if there is one."""
        server = self._servers.get(name)
        return server.life if server is not None and server.life.alive else None

    def said(self, node: str, batch: Any, verdicts: Any) -> None:
        """A node's word on a batch leaves it."""
        if self.on_verdicts is not None:
            self.on_verdicts(node, batch, verdicts)

    # what happens to names and lines

    def power_off(self, name: str) -> None:
        """Before the life of a machine that loses its power is ended: no word of it leaves any more, until it serves again."""
        self._dark[name] = True

    def misbehave(self, name: str, how: str) -> None:
        """A target that is reached and is not itself: "rubbish" (answers anything), "errors" (says that it failed, whether or not
        it did the work), "mute" (takes everything, says nothing); "" ends it."""
        if how not in ("", "rubbish", "errors", "mute"):
            raise ValueError(how)
        self._modes[name] = how

    def partition(self, ours: Iterable[str], theirs: Iterable[str], both: bool = True) -> Callable[[], None]:
        """Cut every line from ours to theirs, and back where both. Returns what undoes it; partitions may overlap."""
        others = list(theirs)
        pairs = [(name, other) for name in ours for other in others if name != other]
        lines = [self.line(*pair) for pair in pairs] + [self.line(other, name) for name, other in pairs if both]
        for line in lines:
            line.sever()

        def undo() -> None:
            for line in lines:
                line.mend()

        return undo

    def heal(self, calm: bool = False) -> None:
        """Nothing is cut, refused, held or out of its mind. calm: and nothing more happens by chance."""
        self._modes.clear()
        for line in self.lines():
            line.cut = line.reset = False
            if calm:
                line.calm()
                line.latency_s = self.usual.latency_s  # of two faults that overlapped, the later one put back what the other left
        for line in self.lines():
            line.clogged = False
        if calm:
            self.usual.calm()

    def silent(self, line: Line) -> bool:
        """Nothing gets through, and nobody is told."""
        return line.cut or line.source in self._dark or line.target in self._dark

    # one call

    async def exchange(
        self,
        source: str,
        target: str,
        life: Life,
        request: bytes | int,
        serve: Serve,
        timeout_s: float,
        *,
        connect_timeout_s: float = CONNECT_S,
        idle_s: float = IDLE_S,
        keepalive: bool = True,
        torn: Torn | None = None,
        spoil: Spoil | None = None,
    ) -> bytes:
        """One call of a life that bears the name `source`. Raises `Unreached` or `Lost`; cancelled, it hangs up.

        request: its bytes, or how many they are. serve: makes the answer, in a task of whoever serves the target by then; it may
        run twice, the second time long after, and is cancelled when the caller hangs up. So it must ask anew for what it calls.
        keepalive: the caller's kernel notices a silent line within `UNANSWERED_S`; the target's always does.
        """
        if not life.alive:
            raise Ended(life.name)
        line, back = self.line(source, target), self.line(target, source)
        fate, side = draw(line), self._side(life, source)
        call = None
        try:
            async with asyncio.timeout(timeout_s):
                server = self._take_kept(side, target) or await self._connect(line, back, fate, connect_timeout_s)
                call = _Call(self, line, back, fate, side, server, serve, torn, spoil, keepalive)
                call.depart(request if isinstance(request, int) else len(request))
                answer = await call.answer
        except BaseException as error:
            if call is not None and life.alive:  # where the life is over, its end has hung up
                call.hang_up()
            if isinstance(error, TimeoutError):
                raise Lost("no answer in time") from None
            raise
        if len(kept := side.kept.setdefault(target, [])) < KEPT_MAX and idle_s > 0:
            kept.append((server, self.loop.time() + idle_s))
        return answer

    def _take_kept(self, side: _Side, target: str) -> Life | None:
        """Who is at the other end of a connection that is still kept."""
        kept = side.kept.get(target)
        while kept:
            server, until_s = kept.pop()
            if until_s > self.loop.time():
                return server
        return None

    async def _connect(self, line: Line, back: Line, fate: Fate, timeout_s: float) -> Life:
        """A new connection: two round trips, TLS included. A paused process shakes no hands."""
        deadline_s, wait_s = self.loop.time() + timeout_s, RETRANSMIT_S
        while self.silent(line) or self.silent(back) or line.clogged or back.clogged or self._is_paused(line.target):
            left_s = deadline_s - self.loop.time()
            if wait_s >= left_s:
                await asyncio.sleep(left_s)
                raise Unreached("no connection in time")
            await asyncio.sleep(wait_s)
            wait_s *= 2
        await asyncio.sleep(2 * (line.delay_s() + back.delay_s()))
        server = self.server(line.target)
        if fate.refuse and server is not None:
            self.record.note(line.source, "fault/refused")
        if fate.refuse or line.reset or server is None:
            raise Unreached("connection refused")
        return server

    def _is_paused(self, name: str) -> bool:
        server = self.server(name)
        return server is not None and not server.runs

    def mode(self, target: str) -> str:
        """In which way it misbehaves."""
        return self._modes.get(target, "")

    def spoilt(self, target: str, spoil: Spoil | None) -> tuple[bool, bytes | None]:
        """(Is the work done?, what is answered instead of its answer)."""
        mode = self.mode(target)
        if mode not in ("rubbish", "errors"):
            return True, None
        done = mode == "errors" and self._chance.random() < 0.5
        return done, spoil(mode, self._chance) if spoil is not None else self._chance.randbytes(self._chance.randrange(1, 200))

    # what travels

    def send(
        self, line: Line, size: int, deliver: Callable[[], None], *, extra_s: float = 0.0, fail: Callable[[], None] | None = None
    ) -> None:
        """Let so many bytes travel. `deliver` is called outside every life when they are there; `fail`, if the line swallows
        them, when TCP gives up."""
        at_s = line.begin(self.loop.time(), size) + extra_s
        self.loop.call_at(at_s, self._land, line, deliver, fail, RETRANSMIT_S, context=self.outside)

    def _land(self, line: Line, deliver: Callable[[], None], fail: Callable[[], None] | None, again_s: float) -> None:
        if line.cut or line.target in self._dark:
            if again_s * 2 - RETRANSMIT_S <= UNANSWERED_S:
                self.loop.call_later(again_s, self._land, line, deliver, fail, again_s * 2, context=self.outside)
            elif fail is not None:
                fail()
        elif line.clogged:
            line.held.append(lambda: self.send(line, 0, deliver, fail=fail))
        else:
            deliver()

    def signal(self, line: Line, deliver: Callable[[], None], keepalive: bool = True) -> None:
        """The end of a connection, told to the other side; where it cannot be told, that side's kernel finds out by itself."""
        if line.source not in self._dark:
            self.send(line, 0, deliver, fail=deliver if keepalive else None)
        elif keepalive:
            self.loop.call_later(UNANSWERED_S, deliver, context=self.outside)

    def _was_cut(self, line: Line) -> None:
        """Both kernels give up the connections on a line that stays silent."""
        self.loop.call_later(UNANSWERED_S, self._look_at_cut, line, line.cuts, context=self.outside)

    def _look_at_cut(self, line: Line, cuts: int) -> None:
        if line.cut and line.cuts == cuts:
            ends = {(line.source, line.target), (line.target, line.source)}
            for side in list(self._sides.values()):
                for call in [*side.calls.values(), *side.serving.values()]:
                    if (call.line.source, call.line.target) in ends:
                        call.fall_silent()

    # what ends with a life

    def _side(self, life: Life, name: str) -> _Side:
        side = self._sides.get(life)
        if side is None:
            side = self._sides[life] = _Side(name)
            life.ending.append(partial(self._ended, life))
        return side

    def serving(self, server: Life) -> dict[int, _Call]:
        """The calls that a life has in hand."""
        return self._sides[server].serving

    def _ended(self, life: Life) -> None:
        """Its kernel closes what it left open: callers hear a reset, those it called a hang-up."""
        side = self._sides.pop(life)
        for call in list(side.calls.values()):
            call.hang_up()
        for call in list(side.serving.values()):
            call.break_off()
        self._forget_kept(side.name, life)

    def _forget_kept(self, name: str, server: Life) -> None:
        """Connections that callers keep are closed, except where the word of it does not get through."""
        for other in self._sides.values():
            kept = other.kept.get(name)
            if kept and not self.silent(self.line(name, other.name)):
                other.kept[name] = [each for each in kept if each[0] is not server]


class _Call:
    """One call on a connection that stands. Moved by what arrives; the caller waits for `answer`."""

    def __init__(
        self,
        network: Network,
        line: Line,
        back: Line,
        fate: Fate,
        client: _Side,
        server: Life,
        serve: Serve,
        torn: Torn | None,
        spoil: Spoil | None,
        keepalive: bool,
    ) -> None:
        self.network = network
        self.line = line
        self.back = back
        self.fate = fate
        self.client = client
        self.server = server
        self.serve = serve
        self.torn = torn
        self.spoil = spoil
        self.keepalive = keepalive
        self.number = network.loop.next_number()
        self.answer: asyncio.Future[bytes] = network.loop.create_future()
        self.over = self.broken = self.hung_up = False
        self.task: asyncio.Task[None] | None = None
        client.calls[self.number] = self

    def note(self, event: str) -> None:
        self.network.record.note(self.line.source, event)

    # there

    def depart(self, size: int) -> None:
        fate = self.fate
        if fate.lose_request:
            self.note("fault/lost-request")
            return
        if fate.extra_s:
            self.note("fault/held-up")
        size = int(size * fate.share) if fate.tear == "request" else size
        self.network.send(self.line, size, self._arrived, extra_s=fate.extra_s, fail=self.fall_silent)

    def _arrived(self) -> None:
        network, target, fate = self.network, self.line.target, self.fate
        if self.line.reset or network.server(target) is not self.server:
            self.break_off()
        elif fate.tear == "request":
            self.note("fault/torn-request")
            if self.torn is not None:
                self.server.start(_done(self.torn(fate.share)), "torn call")
            self.break_off()
        elif network.mode(target) == "mute":
            self.note("fault/silence")
        else:
            if fate.later_s is not None:
                self.note("fault/repetition")
                network.loop.call_later(fate.later_s, self._repeat, context=network.outside)
            network.serving(self.server)[self.number] = self
            self.task = self.server.start(self._work(), "call")
            if self.hung_up:  # its bytes were all sent before: the handler begins, and hears of it at its first wait
                self._cancel()

    async def _work(self) -> None:
        """The target's handler."""
        serving = self.network.serving(self.server)
        try:
            done, instead = self.network.spoilt(self.line.target, self.spoil)
            answer = await self.serve() if done else b""
        except Closed:
            self.break_off()
            return
        except BaseException:
            self.break_off()
            raise
        finally:
            serving.pop(self.number, None)
        if instead is not None:
            self.note("fault/spoilt")
        self._reply(answer if instead is None else instead)

    def _repeat(self) -> None:
        server = self.network.server(self.line.target)
        if server is not None:
            server.start(_done(self.serve()), "repeated call")

    # and back

    def _reply(self, answer: bytes) -> None:
        network, fate = self.network, self.fate
        if fate.lose_reply:
            self.note("fault/lost-reply")
        elif fate.tear == "reply":
            self.note("fault/torn-reply")
            network.send(self.back, int(len(answer) * fate.share), self._lost)
        else:
            network.send(self.back, len(answer), partial(self._answered, answer), fail=self.fall_silent)

    def _answered(self, answer: bytes) -> None:
        if not self.over and not self.broken:
            self._close()
            if not self.answer.done():  # its caller was cancelled in this very turn
                self.answer.set_result(answer)

    def _lost(self) -> None:
        if not self.over:
            self._close()
            if not self.answer.done():
                self.answer.set_exception(Lost("connection reset"))

    def _close(self) -> None:
        self.over = True
        self.client.calls.pop(self.number, None)

    # who leaves

    def break_off(self) -> None:
        """The target's end is gone: the caller hears of it."""
        if not self.over and not self.broken:
            self.broken = True
            self.network.signal(self.back, self._lost, self.keepalive)

    def hang_up(self) -> None:
        """The caller's end is gone: the handler is cancelled when the word of it arrives."""
        if not self.over:
            self._close()
            self.network.signal(self.line, self._heard)

    def fall_silent(self) -> None:
        """Both kernels give up a connection on which nothing arrives."""
        if self.keepalive:
            self._lost()
        self._heard()

    def _heard(self) -> None:
        self.hung_up = True
        if self.task is not None and not self.task.done():
            self._cancel()

    def _cancel(self) -> None:
        """As an event of the target's kernel: one that is paused hears of it when it runs again, after all that came before."""
        assert self.task is not None
        self.network.loop.call_soon(self.task.cancel, context=self.server.context())


async def _done(work: Awaitable[object]) -> None:
    """Work whose answer nobody hears."""
    try:
        await work
    except Closed:
        return

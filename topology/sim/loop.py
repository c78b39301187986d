"""Virtual time: an event loop that jumps from timer to timer, and lives, the processes that run on it.

A `Life` is one run of one program. It can be stopped for a while (SIGSTOP) and ended (SIGKILL) between any two steps. Which
life a callback belongs to stands in its context, so tasks, timers and callbacks inherit it as threads inherit their process.
Tasks and futures hash to a running number: the order in which asyncio walks over sets of them then follows from the program
alone, not from memory addresses.

Knows asyncio only: nothing of nodes, disks or networks. Reads no clock of the host and starts no thread.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple, Unpack
from weakref import WeakValueDictionary

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LIFE: ContextVar[Life | None] = ContextVar("LIFE", default=None)
"""The life whose code runs; None: the world around them (faults, checkers, the network itself)."""

PROBLEMS_MAX = 100
TURNS_MAX = 1_000_000
"""Turns of the loop at one instant; beyond them something spins without ever waiting."""
CLOSES_MAX = 50
"""Waits that a coroutine of an ended life may put into its clean-up before it is given up."""
STALE_TIMERS_MIN = 200

_OUTSIDE = (
    *("run_in_executor", "create_connection", "create_server", "create_datagram_endpoint", "getaddrinfo", "getnameinfo"),
    *("add_reader", "add_writer", "add_signal_handler", "subprocess_exec", "subprocess_shell", "start_tls", "sendfile"),
    *("create_unix_connection", "create_unix_server", "connect_accepted_socket", "connect_read_pipe", "connect_write_pipe"),
    *("sock_recv", "sock_recv_into", "sock_sendall", "sock_connect", "sock_accept", "sock_sendfile"),
)


class Ended(BaseException):
    """The life that called is over. Raised by its ports; no `except Exception` of the program may catch it."""


def living() -> Life | None:
    """The life that calls; raises `Ended` if it is over. The first line of every port of the simulation."""
    life = LIFE.get()
    if life is not None and not life.alive:
        raise Ended(life.name)
    return life


class Life:
    """One run of one program, from its first task to `end`.

    ending: called once at `end`, in order, outside the life (the network resets its connections, the disk forgets its handles).
    """

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.alive = True
        self.runs = True
        """False while paused and after the end."""
        self.ending: list[Callable[[], object]] = []
        self.parked: deque[_Handle] = deque()
        self.tasks: WeakValueDictionary[int, SimTask] = WeakValueDictionary()
        self.swept = False
        self._context = Context()
        self._context.run(LIFE.set, self)

    def __repr__(self) -> str:
        return f"<Life {self.name} {'runs' if self.runs else 'is paused' if self.alive else 'is over'}>"

    def context(self) -> Context:
        """A fresh context inside this life: `loop.call_soon(callback, context=life.context())` is an event of its kernel."""
        return self._context.copy()

    def start(self, coro: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        """Run a coroutine as part of this life, whoever calls. RuntimeError if it is over."""
        if not self.alive:
            coro.close()
            raise RuntimeError(f"{self.name} is over")
        return self.loop.create_task(coro, name=name or None, context=self.context())

    def pause(self) -> None:
        """SIGSTOP: nothing of it runs until `resume`; what becomes due waits, in order. Others see it neither slow nor gone."""
        self.runs = False

    def resume(self) -> None:
        """SIGCONT: what came due meanwhile runs now, before what came later."""
        if self.alive and not self.runs:
            self.runs = True
            self.loop.unpark(self.parked)

    def end(self) -> None:
        """SIGKILL: from this instant none of its callbacks runs. May be called by its own code, which then goes on to its next
        wait: the ports of an ended life refuse it everything with `Ended`."""
        if not self.alive:
            return
        self.alive = self.runs = False
        self.parked.clear()
        ending, self.ending = self.ending, []
        for call in ending:
            Context().run(call)
        # held from here on: one that has not begun would be gone with its first callback
        self.loop.call_soon(self._sweep, list(self.tasks.values()), context=Context())

    def _sweep(self, _held: list[SimTask]) -> None:
        """Close the coroutines, oldest first. A killed process runs no `finally`; here each must be left somehow, or the
        interpreter leaves it at a moment of its own choosing and complains. What they do on the way reaches nobody: their ports
        refuse, their callbacks never run, and so nothing they raise means anything."""
        for _ in range(CLOSES_MAX):
            tasks = [self.tasks.pop(number) for number in sorted(self.tasks)]
            for task in tasks:
                self.loop.discard(task)
            if not tasks:  # closing one may have made another
                break
        self.swept = True


class SimTask(asyncio.Task[Any]):
    """A task that knows its number, its life and its context."""

    _log_destroy_pending: bool

    def __init__(self, coro: Any, *, loop: SimLoop, name: str | None, context: Context) -> None:
        self.number = loop.next_number()  # first: the base class hashes it
        self.life = context.get(LIFE)
        self.inherited = context
        super().__init__(coro, loop=loop, name=name or f"task-{self.number}", context=context)

    def __hash__(self) -> int:
        return self.number


class SimFuture(asyncio.Future[Any]):
    """A future that knows its number."""

    def __init__(self, *, loop: SimLoop) -> None:
        self.number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class _Handle(asyncio.Handle):
    """Made without the debug checks of its base: half of the loop's time would go there."""

    __slots__ = ()
    _callback: Callable[..., object] | None
    _context: Context

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], loop: SimLoop, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class _Timer(_Handle, asyncio.TimerHandle):
    __slots__ = ()
    _when: float
    _scheduled: bool
    _loop: SimLoop

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._callback = None
            self._args = ()
            if self._scheduled:
                self._loop.timer_cancelled()


class SimLoop(asyncio.BaseEventLoop):
    """`time()` starts at 0 and moves only when nothing is ready: then to the first timer. Timers of one instant run in the order
    in which they were set. Raises RuntimeError where a callback reaches for threads, sockets, names or processes; where
    everything waits and no timer is set ("deadlock"); where one instant never ends ("livelock").

    problems: what asyncio would log: exceptions that nobody awaited, callbacks that failed; each a finding of the run.
    """

    _stopping: bool
    _check_thread: Callable[[], None]

    def __init__(self) -> None:
        super().__init__()
        self.set_debug(False)
        self.problems: list[dict[str, Any]] = []
        self._now = 0.0
        self._soon: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._stale = 0
        self._generators: dict[int, Life | None] = {}
        self.next_number = itertools.count(1).__next__

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    # what asyncio calls

    def call_soon(self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(callback, args, self, context)
        timer._when = when
        timer._scheduled = True
        heapq.heappush(self._timers, (when, self.next_number(), timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._check_thread()
        return self.call_soon(callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return SimFuture(loop=self)

    def create_task(  # type: ignore[override]  # the base class's signature changes from version to version
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **_options: Any,
    ) -> asyncio.Task[T]:
        task = SimTask(coro, loop=self, name=name, context=copy_context() if context is None else context)
        life = task.life
        if life is not None:
            life.tasks[task.number] = task
            if life.swept:
                self.discard(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep a problem, unless it belongs to a life that is over."""
        owner = context.get("task") or context.get("future")
        handle = context.get("handle")
        life = owner.life if isinstance(owner, SimTask) else handle._context.get(LIFE) if isinstance(handle, _Handle) else None
        if (life is None or life.alive) and len(self.problems) < PROBLEMS_MAX:
            self.problems.append({"at_s": self._now, "life": life.name if life is not None else "", **context})

    def close(self) -> None:
        super().close()
        self._soon.clear()
        self._timers.clear()

    # what lives and timers call

    def unpark(self, parked: deque[_Handle]) -> None:
        """Callbacks that waited for a paused life; they are older than whatever is ready now."""
        self._soon.extendleft(reversed(parked))
        parked.clear()

    def discard(self, task: SimTask) -> None:
        """Leave a task of an ended life: close its coroutine, and let nobody hear of how it ended."""
        task._log_destroy_pending = False
        if task.done():
            task.cancelled() or task.exception()  # asking for it is what silences it
        elif not any(_closed(task) for _ in range(CLOSES_MAX)):
            self.problems.append({"at_s": self._now, "message": f"{task.get_name()} cannot be closed"})

    def timer_cancelled(self) -> None:
        """Most timers are timeouts that never strike: throw them out once they are the majority."""
        self._stale += 1
        if self._stale > STALE_TIMERS_MIN and self._stale * 2 > len(self._timers):
            self._timers[:] = [entry for entry in self._timers if not entry[2]._cancelled]
            heapq.heapify(self._timers)
            self._stale = 0

    # turns

    def _run_once(self) -> None:
        """Called by `run_forever` until `stop`: all turns at once, to save the calls."""
        soon, timers = self._soon, self._timers
        turns = 0
        while True:
            if not soon:
                self._jump()
                turns = 0
            elif timers and timers[0][0] <= self._now:
                self._pop_due()
            for _ in range(len(soon)):
                handle = soon.popleft()
                if handle._cancelled:
                    continue
                life = handle._context.get(LIFE)
                if life is None or life.runs:
                    try:
                        handle._context.run(handle._callback, *handle._args)  # type: ignore[arg-type]
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:
                        self._failed(handle, error)
                elif life.alive:
                    life.parked.append(handle)
            if self._stopping:
                return
            turns += 1
            if turns > TURNS_MAX:
                raise RuntimeError(f"livelock at {self._now:.6f} s: {self._waiting()}")

    def _jump(self) -> None:
        """To the first timer that somebody still waits for."""
        timers = self._timers
        while timers:
            timer = timers[0][2]
            if timer._cancelled:
                self._stale -= 1
            else:
                life = timer._context.get(LIFE)
                if life is None or life.alive:
                    break
            timer._scheduled = False
            heapq.heappop(timers)
        else:
            raise RuntimeError(f"deadlock at {self._now:.6f} s: nothing is ready and no timer is set: {self._waiting()}")
        self._now = max(self._now, timers[0][0])
        self._pop_due()

    def _pop_due(self) -> None:
        timers, now = self._timers, self._now
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            timer._scheduled = False
            if timer._cancelled:
                self._stale -= 1
            else:
                self._soon.append(timer)

    def _failed(self, handle: _Handle, error: BaseException) -> None:
        self.call_exception_handler({"message": f"exception in {handle._callback!r}", "exception": error, "handle": handle})

    def _waiting(self) -> str:
        names = [task.get_name() for task in sorted(asyncio.all_tasks(self), key=hash)]
        return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")

    # generators that are left half-way

    def _asyncgen_firstiter_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators[id(generator)] = LIFE.get()

    def _asyncgen_finalizer_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        """By its number, since weak references to it are gone by now. One of an ended life is not closed: nobody would."""
        life = self._generators.pop(id(generator), None)
        if not self.is_closed() and (life is None or life.alive):
            context = Context() if life is None else life.context()
            self.create_task(generator.aclose(), context=context)


def _closed(task: SimTask) -> bool:
    """False where the coroutine waits for something on its way out: then once more. See `Life._sweep`.

    Thrown into rather than closed: a wait on the way out would leave the inner coroutines of a closed one to the collector."""
    coro = task.get_coro()
    try:
        if coro is not None:
            task.inherited.run(coro.throw, Ended(task.get_name()))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return True
    return coro is None


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*_args: object, **_options: object) -> Any:
        raise RuntimeError(f"{name}: nothing leaves the simulation")

    return refuse


for _name in _OUTSIDE:
    setattr(SimLoop, _name, _refusal(_name))

"""One direction between two names: what it is like, how it is just now, and what fate it draws for a call.

Knows nothing of lives or of what is said; `network.py` plays what is drawn here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial


class Unreached(Exception):
    """No connection: nothing left the caller."""


class Lost(Exception):
    """The request left and no answer came: the caller cannot know what was done."""


class Closed(Exception):
    """Nobody listens under this name any more."""


@dataclass
class Line:
    """Settings, with the defaults of a healthy network, and the state of one direction.

    latency_s: the median; jitter: sigma of its logarithm. p_…: chances per call, asked of the line the request takes. reset:
    refuses connections and breaks those in use. cut and clogged: see there.
    """

    latency_s: float = 0.02
    jitter: float = 0.2
    bytes_per_s: float = 1_250_000.0
    p_refuse: float = 0.0
    p_lose_request: float = 0.0
    p_lose_reply: float = 0.0
    p_reset: float = 0.0
    p_duplicate: float = 0.0
    duplicate_max_s: float = 4 * 3600.0
    p_reorder: float = 0.0
    reorder_max_s: float = 5.0
    reset: bool = False
    source: str = field(default="", init=False)
    target: str = field(default="", init=False)
    held: list[Callable[[], None]] = field(default_factory=list, init=False, repr=False)
    cuts: int = field(default=0, init=False)
    """How often it was cut so far."""
    busy_until_s: float = field(default=0.0, init=False, repr=False)
    chance: random.Random = field(default_factory=partial(random.Random, 0), init=False, repr=False)
    wobble: random.Random = field(default_factory=partial(random.Random, 0), init=False, repr=False)
    on_cut: Callable[[Line], None] | None = field(default=None, init=False, repr=False)
    _cutting: int = field(default=0, init=False)
    _clogging: int = field(default=0, init=False)

    @property
    def cut(self) -> bool:
        """Swallows everything, silently. Setting it overrules whoever else cut or mended the line."""
        return self._cutting > 0

    @cut.setter
    def cut(self, now: bool) -> None:
        if now != self.cut:
            self.sever() if now else self.mend(self._cutting)

    def sever(self) -> None:
        """Cut it; faults may overlap, so it takes as many `mend` as there were `sever`."""
        self._cutting += 1
        if self._cutting == 1:
            self.cuts += 1
            if self.on_cut is not None:
                self.on_cut(self)

    def mend(self, times: int = 1) -> None:
        """One who cut it does so no longer."""
        self._cutting = max(0, self._cutting - times)

    @property
    def clogged(self) -> bool:
        """Holds everything, until it is False again. Setting it overrules whoever else clogged or released the line."""
        return self._clogging > 0

    @clogged.setter
    def clogged(self, now: bool) -> None:
        if now != self.clogged:
            self.clog() if now else self.release(self._clogging)

    def clog(self) -> None:
        """Hold everything; as many `release` are needed as there were `clog`."""
        self._clogging += 1

    def release(self, times: int = 1) -> None:
        """One who clogged it does so no longer; after the last, all that was held goes on, in order."""
        self._clogging = max(0, self._clogging - times)
        if not self._clogging:
            held, self.held = self.held, []
            for go_on in held:
                go_on()

    def delay_s(self) -> float:
        """How long the next message takes, whatever its size."""
        return self.latency_s * self.wobble.lognormvariate(0.0, self.jitter) if self.jitter else self.latency_s

    def begin(self, now_s: float, size: int) -> float:
        """When the last byte of a message that is handed over now has arrived: all calls share the line's bytes per second."""
        self.busy_until_s = max(now_s, self.busy_until_s) + size / self.bytes_per_s
        return self.busy_until_s + self.delay_s()

    def calm(self) -> None:
        """No more mishaps by chance; what the line is like stays."""
        self.p_refuse = self.p_lose_request = self.p_lose_reply = self.p_reset = self.p_duplicate = self.p_reorder = 0.0


@dataclass(frozen=True, slots=True)
class Fate:
    """What will happen to one call. tear: "request" or "reply", at which share of its bytes the connection breaks. later_s: how
    much later the work is done a second time; extra_s: how much the request is held up."""

    refuse: bool = False
    lose_request: bool = False
    lose_reply: bool = False
    tear: str = ""
    share: float = 1.0
    later_s: float | None = None
    extra_s: float = 0.0


HEALTHY = Fate()


def draw(line: Line) -> Fate:
    """The fate of the next call on this line; always the same number of draws, so that one chance changed shifts no other."""
    if not (line.p_refuse or line.p_lose_request or line.p_lose_reply or line.p_reset or line.p_duplicate or line.p_reorder):
        return HEALTHY
    chance = line.chance.random
    refuse, lose_request, lose_reply = chance() < line.p_refuse, chance() < line.p_lose_request, chance() < line.p_lose_reply
    tear, where, share = chance() < line.p_reset, chance(), chance()
    again, late, wait = chance() < line.p_duplicate, chance(), chance()
    held, extra = chance() < line.p_reorder, chance()
    return Fate(
        refuse,
        lose_request,
        lose_reply,
        "" if not tear else "request" if where < 0.5 else "reply",
        share if tear else 1.0,
        # half of the repetitions come within a second, the others up to hours later
        (wait if late < 0.5 else wait * line.duplicate_max_s) if again else None,
        extra * line.reorder_max_s if held else 0.0,
    )

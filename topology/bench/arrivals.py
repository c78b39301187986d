"""What must arrive and what has: every document at every receiver once, unchanged. Anything else is no measurement.

Told the time by a function handed in; knows neither doors nor nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from topology.bench.letters import Contents, content_of, number_of

QUIET_S = 60.0
"""How long nothing at all may arrive before the rest counts as lost."""


class Incomplete(Exception):
    """A document did not come, came twice or changed, or nothing comes to rest. texts: which, in Vietnamese and in English."""

    def __init__(self, vi: str, en: str) -> None:
        self.texts = (vi, en)
        super().__init__(vi)


class Arrivals:
    """The book of one bench. sent and arrived: instants by number, and by (number, receiver)."""

    def __init__(self, contents: Contents, receivers: int, now: Callable[[], float], quiet_s: float = QUIET_S) -> None:
        self._contents = contents
        self._receivers = range(receivers)
        self._now = now
        self._quiet_s = quiet_s
        self._numbers = 0
        self._missing: set[tuple[int, int]] = set()
        self._news = asyncio.Event()
        self.sent: dict[int, float] = {}
        self.arrived: dict[tuple[int, int], float] = {}

    def expect(self, documents: int) -> range:
        """Fresh numbers for so many documents, each of which is to come to every receiver."""
        numbers = range(self._numbers, self._numbers + documents)
        self._numbers = numbers.stop
        self._missing |= {(number, receiver) for number in numbers for receiver in self._receivers}
        return numbers

    def leaves(self, number: int) -> bytes:
        """Its content; the clock of this document starts."""
        self.sent[number] = self._now()
        return self._contents.of(number)

    def got(self, receiver: int, package: bytes) -> None:
        """Raises `Incomplete` for what nobody waits for."""
        content = content_of(package)
        number = number_of(content)
        if (number, receiver) in self.arrived:
            raise Incomplete(f"văn bản {number} đến hai lần", f"document {number} arrived twice")
        if (number, receiver) not in self._missing or content != self._contents.of(number):
            raise Incomplete(f"văn bản {number} đến mà nội dung khác lúc gửi", f"document {number} arrived changed")
        self._missing.remove((number, receiver))
        self.arrived[number, receiver] = self._now()
        self._news.set()

    async def complete(self, but: int = 0) -> None:
        """Until all that is expected has arrived, but so many. Raises `Incomplete` when nothing moves any more."""
        while len(self._missing) > but:
            self._news.clear()
            try:
                async with asyncio.timeout(self._quiet_s):
                    await self._news.wait()
            except TimeoutError:
                count = len(self._missing)
                raise Incomplete(
                    f"{count} lượt nhận không đến sau {self._quiet_s:.0f} giây không có gì mới",
                    f"{count} deliveries did not come, and nothing new for {self._quiet_s:.0f} s",
                ) from None

    def first(self, numbers: range, since: float = 0.0) -> float:
        """When the first of these arrived, of those that arrived after an instant."""
        instants = (self.arrived[number, receiver] for number in numbers for receiver in self._receivers)
        return min(instant for instant in instants if instant > since)

    def last(self, numbers: range) -> float:
        """When the last of these arrived."""
        return max(self.arrived[number, receiver] for number in numbers for receiver in self._receivers)

    def span_s(self, numbers: range) -> float:
        """From the first of these sent to the last arrived."""
        return self.last(numbers) - min(self.sent[number] for number in numbers)

    def waits_s(self, numbers: range) -> list[float]:
        """How long each was on the way to each receiver."""
        return [self.arrived[number, each] - self.sent[number] for number in numbers for each in self._receivers]

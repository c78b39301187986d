"""Finds the documents of a difference: asks the nodes below for sums, halves the time where they do not cancel out, then for
names.

Knows `core`, the ports and how questions are asked. What moves while it asks looks like a difference: what was found is asked for
once more, and only what stays is named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from node.core.directory import Directory
from node.core.errors import Deferred, Refused
from node.core.identifier import OrgId
from node.core.instant import iso
from node.core.reconciling import (
    KIND,
    LIST_MAX,
    Answer,
    Difference,
    Fact,
    Span,
    Sums,
    decode_asked,
    decode_facts,
    decode_sums,
    differences,
    encode_asked,
    encode_facts,
    encode_sums,
    made_ms,
)
from node.core.report import subtree
from node.ports import Store
from node.questions import Questions

ASK_S = 8.0
"""How long the nodes below may take to add up a span."""
SETTLE_S = 2.0
NAMED_MAX = 500
"""Differences named at most; the summary says that there are more."""


class Reconciler:
    """One per node."""

    def __init__(
        self, code: OrgId, parent: OrgId | None, questions: Questions, store: Store, directory: Callable[[], Directory]
    ) -> None:
        self._code = code
        self._parent = parent
        self._questions = questions
        self._numbers = store.numbers
        self._directory = directory
        questions.handlers[KIND] = self.answer

    async def answer(self, peer: OrgId, body: bytes, within_s: float) -> bytes:
        """What this node and those below it know of a span; only its parent may ask."""
        span, named = decode_asked(body)
        if peer != self._parent:
            return encode_facts([]) if named else encode_sums(Answer(()))
        if named:
            return encode_facts(await self._facts(span, within_s))
        return encode_sums(await self._sums(span, within_s))

    async def find(self, days: int, now_ms: int) -> dict[str, Any]:
        """Deliveries of this subtree, sent within the last days, that do not add up: rows, and a summary as the last word."""
        span = Span(now_ms - days * 86_400_000, now_ms + 86_400_000, self._prefixes())
        sums = await self._sums(span, ASK_S)
        first = await self._differ(span, sums)
        stay = await self._stay(first[:NAMED_MAX], span.prefixes)
        summary: dict[str, Any] = {"event": "summary", "from": iso(span.from_ms), "facts": sum(each.facts for each in sums.parts)}
        rest = max(0, len(first) - NAMED_MAX)  # of so many, which of them only moved does not matter
        summary |= {"differences": len(stay) + rest, "silent": list(dict.fromkeys(sums.silent))}
        return {"rows": [_row(each) for each in stay], "summary": summary}

    async def _stay(self, found: Sequence[Difference], prefixes: tuple[str, ...]) -> list[Difference]:
        """Those that still differ a moment later: each is asked for by its own millisecond."""
        if found:
            await asyncio.sleep(SETTLE_S)
        stay: dict[tuple[str, str, str], Difference] = {}
        for at_ms in sorted({made_ms(each.id) for each in found}):
            again = differences(await self._facts(Span(at_ms, at_ms + 1, prefixes), ASK_S))
            stay.update({each.facts[0].key: each for each in again})
        return [stay[each.facts[0].key] for each in found if each.facts[0].key in stay]

    def _prefixes(self) -> tuple[str, ...]:
        """Both ends of a delivery must lie in the subtree, else one side of it is not seen here; none: the hub sees all."""
        if not self._code.path:
            return ()
        directory = self._directory()
        nodes = [directory.node(code) for code in subtree(directory, self._code)]
        return tuple(sorted({str(prefix) for node in nodes if node is not None for prefix in node.prefixes}))

    async def _differ(self, span: Span, answer: Answer) -> list[Difference]:
        found: list[Difference] = []
        for part, sums in zip(span.slices(), answer.parts, strict=True):
            if sums.even:
                continue
            if sums.facts <= LIST_MAX or part.to_ms - part.from_ms <= 1:
                found += differences(await self._facts(part, ASK_S))
            else:
                found += await self._differ(part, await self._sums(part, ASK_S))
        return found

    async def _sums(self, span: Span, within_s: float) -> Answer:
        total = Answer(tuple(await self._numbers.sums(span)))
        for code, data in (await self._ask_below(span, named=False, within_s=within_s)).items():
            total += Answer((Sums(),) * len(total.parts), (str(code),)) if data is None else decode_sums(data)
        return total

    async def _facts(self, span: Span, within_s: float) -> list[Fact]:
        own = await self._numbers.facts(span, self._code)
        below = (await self._ask_below(span, named=True, within_s=within_s)).values()
        return [*own, *(fact for data in below if data is not None for fact in decode_facts(data))]

    async def _ask_below(self, span: Span, *, named: bool, within_s: float) -> dict[OrgId, bytes | None]:
        """What each child and those below it say; None of one that says nothing. Each tier leaves the one above time to
        answer."""
        children = [child.code for child in self._directory().children(self._code)]
        left_s = within_s * 0.8
        answers = await asyncio.gather(*(self._ask(code, encode_asked(span, named), left_s) for code in children))
        return dict(zip(children, answers, strict=True))

    async def _ask(self, code: OrgId, body: bytes, within_s: float) -> bytes | None:
        try:
            return await self._questions.ask(code, KIND, body, within_s)
        except (Deferred, Refused):
            return None


def _row(difference: Difference) -> dict[str, Any]:
    sent = any(fact.event == "sent" for fact in difference.facts)
    known = [fact for fact in difference.facts if fact.event != "sent"]
    kind = "nowhere" if sent and not known else "never-sent" if not sent else "twice"
    return {
        "difference": kind,
        "envelope": difference.id,
        "origin": difference.origin,
        "sender": difference.sender,
        "recipient": difference.recipient,
        "facts": [{"event": fact.event, "node": fact.node} for fact in difference.facts],
    }

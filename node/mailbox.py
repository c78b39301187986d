"""Documents out: what waits for an office, handed over, and confirmed by it.

Knows `core`, the ports and `origin`; no face. An item stays listed until the office says `done` after having fetched it; repeated
calls are harmless. # QĐ 28/2018 Điều 6.3, 9.2
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

import structlog

from node.core import words
from node.core.custody import BoxItem, End
from node.core.envelope import KIND_STATUS, RECIPIENTS_MAX
from node.core.errors import Deferred, Reason, Refused
from node.core.lifecycle import Transport
from node.core.office import WHOLE_BYTES, Fetched, Given, LaidOut, Page, SentLine, System, Waiting
from node.core.tally import Tally
from node.origin import Origin
from node.ports import Bodies, Clock, Store

log = structlog.get_logger()

WORDS = ("processing", "done", "fail")
"""What an office may report of an item (updateStatus)."""
COLLECT_TRIES = 5
OPEN = ("initial", "processing", "fail")
CONFIRMABLE = (*OPEN, "held")
"""A held item waits for a person, yet the office's own word that it has the package ends it well."""


class Mailbox:
    """One per node; every door of documents out leads to it."""

    def __init__(
        self,
        store: Store,
        bodies: Bodies,
        clock: Clock,
        origin: Origin,
        tally: Tally,
        *,
        list_max: int,
        fails_max: int,
    ) -> None:
        self._store = store
        self._bodies = bodies
        self._clock = clock
        self._origin = origin
        self._tally = tally
        self._list_max = list_max
        self._fails_max = fails_max
        self._asking: set[asyncio.Future[LaidOut | None]] = set()
        self._stopping = False

    def release(self) -> None:
        """The node is stopping: whoever waits for something to be laid is answered now, and later ones at once."""
        self._stopping = True
        for asking in self._asking:
            if not asking.done():
                asking.set_result(None)

    async def waiting(self, system: System, kind: str) -> Sequence[Waiting]:
        found = await self._store.waiting(system.codes, kind, self._list_max) if system.codes else []
        trial = self._store.on_trial
        return [replace(each, trial=trial((each.sender, *each.recipient.split(";")), each.created_ms)) for each in found]

    async def page(
        self, system: System, kind: str, *, after: int | None, limit: int, wait_s: float, room_bytes: int | None
    ) -> Page:
        """Open items, many at once with their contents, the urgent first. after: of those laid next after this item; None: of
        all. wait_s: held back so long while there is nothing. room_bytes: contents up to so much are given inline, and count as
        fetched; None: none are."""
        limit = min(limit, self._list_max)
        stands = wait_s > 0 and not self._stopping
        asking = self._store.lay_out(system.codes, kind, after=after, limit=limit, room_bytes=room_bytes, stands=stands)
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            async with asyncio.timeout(wait_s if stands else None):
                found = await asking
        except TimeoutError:
            found = None
        return self._page(system, await self._read(found or LaidOut()), after, limit)

    async def _read(self, found: LaidOut) -> LaidOut:
        """With the contents that lie in files; they count as fetched now."""
        digests = {line.item: line.digest for line in found.lines}
        read = {item: await self._proven(digests[item], None, file) for item, file in found.files.items()}
        whole = {item: data for item, data in read.items() if data is not None}
        still = await self._store.fetched_many(list(whole)) if whole else frozenset()
        packages = {**found.packages, **{item: data for item, data in whole.items() if item in still}}
        return LaidOut(found.lines, packages, {}, found.damaged | (read.keys() - whole.keys()))

    def _page(self, system: System, found: LaidOut, after: int | None, limit: int) -> Page:
        begin = max((line.item for line in found.lines), default=after or 0)
        if after is None and len(found.lines) == limit:
            begin = 0  # the urgent came first, and others with lesser numbers wait
        items = []
        for listed in found.lines:
            tried = self._store.on_trial((listed.sender, *listed.recipients), listed.created_ms)
            line = replace(listed, trial=True) if tried else listed
            if line.item in found.packages:
                items.append((line, Given.INLINE))
            elif line.item in found.damaged:
                log.error("stored body is damaged", body=line.digest, doc_id=line.doc_id)
                items.append((line, Given.DAMAGED))
            else:
                items.append((line, Given.SEPARATE))
        given = [line for line, how in items if how is Given.INLINE]
        early = [line.doc_id for line in given if line.done_early]
        return Page(tuple(items), begin, self._hand_over_many(system, [found.packages[line.item] for line in given], early))

    async def _hand_over_many(self, system: System, bodies: Sequence[bytes], early: Sequence[str]) -> AsyncIterator[bytes]:
        for data in bodies:
            yield data
        for doc_id in early:
            item = await self._item(system, doc_id)
            if item.state in CONFIRMABLE:
                await self._collect(item)

    async def count(self, system: System, kind: str) -> int:
        return await self._store.count(system.codes, kind) if system.codes else 0

    async def sent(self, system: System, kind: str, doc_id: str | None) -> Sequence[SentLine]:
        limit = RECIPIENTS_MAX if doc_id else self._list_max
        lines = await self._store.sent(system.id, kind == KIND_STATUS, doc_id, limit, self._describe)
        trial = self._store.on_trial
        return [
            replace(line, send_text=f"{line.send_text} ({words.TRIAL})")
            if trial((line.sender, line.recipient), line.sent_ms)
            else line
            for line in lines
        ]

    def _describe(self, state: str, reason: str, written: str, successor: str) -> str:
        """What was closed on the way has its successor in the directory, what was closed at the door in its row."""
        if reason == Reason.RECIPIENT_CLOSED and not successor:
            successor = self._origin.instead_of_written(written)
        return describe(state, reason, written, successor)

    async def owns_sent(self, system: System, doc_id: str) -> bool:
        return await self._store.owns_sent(system.id, doc_id)

    async def open_deliveries(self, system: System, doc_ids: Sequence[str]) -> Sequence[str]:
        found = []
        for doc_id in doc_ids:
            items = await self._store.items_of(system.codes, doc_id) if system.codes else []
            if any(item.state in OPEN for item in items):
                found.append(doc_id)
        return found

    async def _item(self, system: System, doc_id: str) -> BoxItem:
        items = await self._store.items_of(system.codes, doc_id) if system.codes else []
        if not items:
            raise Refused(Reason.DOC_UNKNOWN, "docId", doc_id)
        return items[0]

    async def fetch(self, system: System, doc_id: str) -> Fetched:
        """The package, byte for byte. Raises Refused(DOC_UNKNOWN | BODY_DAMAGED). May be repeated, also after `done`; not after
        the delivery has ended otherwise, which the sender was told."""
        item = await self._item(system, doc_id)
        found = await self._store.body_of(item.item)
        if found is None:
            raise Refused(Reason.DOC_UNKNOWN, "docId", doc_id, "content removed")
        digest, size, data, file = found
        if data is not None or size <= WHOLE_BYTES:
            data = await self._proven(digest, data, file)
            good = data is not None
        else:
            good = await self._bodies.intact(file or "", digest)
        if not good:
            log.error("stored body is damaged", body=digest, envelope=item.id)
            raise Refused(Reason.BODY_DAMAGED, "docId", doc_id)
        if not await self._store.fetched(item.item):
            raise Refused(Reason.DOC_UNKNOWN, "docId", doc_id, "ended")
        return Fetched(doc_id, size, self._hand_over(item, data, file, size))

    async def _proven(self, digest: str, data: bytes | None, file: str | None) -> bytes | None:
        """All of a package; None where it is damaged: that is found before anybody gets it. # QĐ 28/2018 Điều 6.1"""
        if data is None:
            return await self._bodies.whole(file or "", digest)
        return data if hashlib.sha256(data).hexdigest() == digest else None

    async def _hand_over(self, item: BoxItem, data: bytes | None, file: str | None, size: int) -> AsyncIterator[bytes]:
        if data is not None:
            yield data
        else:
            async for chunk in self._bodies.chunks(file or "", size):
                yield chunk
        if item.done_early and item.state in CONFIRMABLE:
            await self._collect(item)

    async def settle(self, system: System, doc_id: str, word: str) -> None:
        """What the office reports of an item. `done` twice is well twice; `done` before the first fetch is remembered and takes
        effect with it. Raises Refused(DOC_UNKNOWN | STATUS_WORD_UNKNOWN)."""
        if word not in WORDS:
            raise Refused(Reason.STATUS_WORD_UNKNOWN, "status", word, " | ".join(WORDS))
        item = await self._item(system, doc_id)
        if item.state not in (CONFIRMABLE if word == "done" else OPEN):
            return
        if word == "done" and item.fetched:
            await self._collect(item)
        elif word == "fail":
            if await self._store.fail(item.item, self._fails_max, "office-fail"):
                self._tally.add("truc_held_total", reason="office-fail")
                log.error("item held for a person", envelope=item.id, reason="office-fail")
        else:
            if word == "done":
                log.warning("done before the first fetch", system=system.id, envelope=item.id)
            await self._store.set_word(item.item, word)

    async def settle_many(self, system: System, doc_ids: Sequence[str], word: str) -> list[Refused | Deferred | None]:
        """`settle` for many: what kept each from being settled, in order. All that can be confirmed is in one transaction."""
        if word not in WORDS:
            raise Refused(Reason.STATUS_WORD_UNKNOWN, "status", word, " | ".join(WORDS))
        told: dict[str, Refused | Deferred | None] = {}
        if word == "done":
            ready = await self._confirmable(system, list(dict.fromkeys(doc_ids)))
            try:
                told = dict.fromkeys(await self._collect_many(ready))
            except Deferred as deferred:
                told = dict.fromkeys((item.doc_id for item in ready), deferred)
        rest = [doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id not in told]
        told.update(zip(rest, await asyncio.gather(*(self._settled(system, doc_id, word) for doc_id in rest)), strict=True))
        return [told[doc_id] for doc_id in doc_ids]

    async def _settled(self, system: System, doc_id: str, word: str) -> Refused | Deferred | None:
        try:
            await self.settle(system, doc_id, word)
        except (Refused, Deferred) as error:
            return error
        return None

    async def _confirmable(self, system: System, doc_ids: Sequence[str]) -> list[BoxItem]:
        """Of these, the items that `done` ends now: the same that `settle` would choose."""
        found: dict[str, BoxItem] = {}
        for item in await self._store.items_of_many(system.codes, doc_ids):
            found.setdefault(item.doc_id, item)
        return [item for item in found.values() if item.fetched and item.state in CONFIRMABLE]

    async def _collect_many(self, items: Sequence[BoxItem]) -> list[str]:
        """Returns the docIds of those that were collected; an item that another code joined meanwhile is not among them."""
        if not items:
            return []
        now_ms = self._clock.utc_ms()
        groups = [group async for group in self._origin.confirmed(items, now_ms)]
        collected = await self._store.collect_many(groups)
        ended = {item for group, whole in zip(groups, collected, strict=True) if whole for item, _ in group.items}
        done = [item for item in items if item.item in ended]
        for item in done:
            self._tally.add("truc_deliveries_total", result=Transport.COLLECTED.value)
            self._tally.observe("truc_delivery_seconds", now_ms - item.header.created_ms)
        return [item.doc_id for item in done]

    async def _collect(self, item: BoxItem) -> None:
        """Confirmed: the delivery ends well and its origin hears of it. # QĐ 28/2018 Điều 9.2

        Another addressed code may join the item while this is being prepared: then it is read again.
        """
        for _ in range(COLLECT_TRIES):
            try:
                return await self._collected(item)
            except Deferred as deferred:
                if deferred.in_doubt or deferred.retry_after_s:
                    raise
            found = await self._store.items_of([item.organ], item.doc_id)
            item = next(each for each in found if each.item == item.item)
        raise Deferred(1)

    async def _collected(self, item: BoxItem) -> None:
        now_ms = self._clock.utc_ms()
        end = End(Transport.COLLECTED, now_ms, receiver_doc_id=item.doc_id)
        home = await self._origin.homeward(item.header, item.recipients, end)
        await self._store.collect(item.item, home)
        self._tally.add("truc_deliveries_total", result=Transport.COLLECTED.value)
        self._tally.observe("truc_delivery_seconds", now_ms - item.header.created_ms)

    async def request_agency(self, system: System, action: str, fields: Mapping[str, str]) -> int:
        number = await self._store.request_agency(system.id, action, fields)
        self._tally.add("truc_held_total", reason="agency-request")
        log.warning("agency request waits for an operator", system=system.id, item=f"agency-{number}")
        return number


def describe(state: str, reason: str, written: str, successor: str) -> str:
    """A sentence on one line of the sent list."""
    what = words.label("transport", state)
    if not reason or reason not in set(Reason):
        return what
    if reason.startswith(("recipient-", "code-")):  # these speak of the receiver's code
        return f"{what}. {words.with_code(Refused(Reason(reason), 'To/OrganId', written, successor))}"
    return f"{what}: {words.label('reason', reason)} [{reason}]"

"""Người kiểm tra: watches over the journal's chain, signs its head, and hands the head to the parent once a day.

At the start the chain is walked from the last signed head; the whole of it, and again each day, in the background, a little at a
time. A broken chain stops no document: it is an alarm that names the row. Knows `core`, the ports and the questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import structlog

from node.core.audit import SIGNED_HEAD, Act, Broken, Fault, Head, KeptHead, Place, read_head, write_head
from node.core.envelope import Fields, strict_json
from node.core.errors import Deferred, Reason, Refused
from node.core.evidence import CHAIN_BYTES_MAX, Receipt, canonical, receipt_fields, receipt_of
from node.core.identifier import OrgId
from node.core.tally import Tally
from node.ports import Clock, Signer, Store, Verifier
from node.questions import Questions

log = structlog.get_logger()

DAY_MS = 86_400_000
HEAD_ROWS = 5_000
"""After so many rows a head is signed, so that the next start has no more than those to walk."""
SLICE_ROWS = 1_000
SLICE_PAUSE_S = 0.2
ROUND_S = 10.0
TELL_AGAIN_S = 60.0
HEADS_A_DAY_MAX = 8
"""Of one child: a day brings one, and what a parent keeps of a child has a bound."""
HEADS_MAX = 10_000
HEAD, HEADS = "journal-head", "journal-heads"


class Written(Protocol):
    """Acts written down beside the journal."""

    def take(self) -> tuple[Sequence[Act], int]: ...

    def done(self) -> None: ...


class Auditor:
    """One per node. broken: the first row found not to be as it was written; None: none was found."""

    def __init__(
        self,
        code: OrgId,
        parent: OrgId | None,
        store: Store,
        clock: Clock,
        signer: Signer,
        verifier: Verifier,
        questions: Questions,
        tally: Tally,
    ) -> None:
        self._code = code
        self._parent = parent
        self._store = store
        self._clock = clock
        self._signer = signer
        self._verifier = verifier
        self._questions = questions
        self._tally = tally
        self._tell_s = 0.0
        self.broken: Broken | None = None
        self.whole_ms = 0
        """When the whole journal was last found unbroken."""
        self.written: Written | None = None
        """Acts that were done while this node did not run."""
        self.settings: Mapping[str, Any] = {}
        self.user = ""
        """The configuration this process runs with, and as whom: what differs from the last start is an act, too."""
        questions.handlers[HEAD] = self.take_head
        questions.handlers[HEADS] = self.give_heads

    async def run(self) -> None:
        """The rounds; walking the whole journal stands beside them."""
        await self._patiently(self.take_in)
        await self._patiently(self.first)
        while True:
            await self._patiently(self.round)
            await asyncio.sleep(ROUND_S)

    async def run_walk(self) -> None:
        """The whole journal, from its first row, each day."""
        while True:
            await self._patiently(self._walk_all)
            await asyncio.sleep(DAY_MS / 1000)

    async def _patiently(self, duty: Callable[[], Awaitable[None]]) -> None:
        try:
            await duty()
        except Deferred as deferred:
            log.warning("the journal waits", reason=deferred.reason.value)

    async def take_in(self) -> None:
        """What was done beside the running node goes into its journal."""
        if self.written is not None:
            acts, unread = self.written.take()
            if unread:
                log.error("acts that cannot be read", count=unread)
            if acts or unread:
                await self._store.take_in(acts)
            self.written.done()
        if self.settings:
            await self._store.settings(self.settings, self.user)

    async def first(self) -> None:
        """From the last signed head to the end."""
        own = await self._store.heads(self._code)
        at = _place(read_head(own[0].statement)) if own else Place()
        self._found(await self._store.stands(at) if at.seq else None)
        while (end := await self._store.journal_tail()).seq > at.seq and self.broken is None:
            at = await self._step(at, end)

    async def _walk_all(self) -> None:
        at, end = Place(), await self._store.journal_tail()
        while at.seq < end.seq and self.broken is None:
            at = await self._step(at, end)
            await asyncio.sleep(SLICE_PAUSE_S)
        await self.compare()
        if self.broken is None:
            self.whole_ms = self._clock.utc_ms()

    async def _step(self, at: Place, end: Place) -> Place:
        here, broken = await self._store.walk(at, SLICE_ROWS)
        if broken is None and here.seq == at.seq:  # the writer has written more than is there
            broken = Broken(at.seq + 1, Fault.MISSING)
        self._found(broken)
        return here

    def _found(self, broken: Broken | None) -> None:
        if broken is not None and self.broken is None:
            self.broken = broken
            log.error("the journal is broken", row=broken.seq, reason=broken.fault.value)

    async def check(self, after: Place, rows: int) -> tuple[Place, Broken | None, bool]:
        """Walk so far for somebody who asks; returns how far it holds, what breaks it, and whether that is all."""
        end = await self._store.journal_tail()
        here, broken = await self._store.walk(after, rows)
        if broken is None and here.seq == after.seq and here.seq < end.seq:
            broken = Broken(here.seq + 1, Fault.MISSING)
        if broken is None and here.seq >= end.seq:
            broken = await self._store.stands(end) if end.seq else None
        self._found(broken)
        return here, broken, broken is not None or here.seq >= end.seq

    async def compare(self) -> tuple[int, int | None, Broken | None]:
        """The journal beside the heads that were signed for it: how many of our own, how many the parent has kept (None: it does
        not answer, or there is none), and the first row that is not what it was. A restore loses rows for good, which is named
        and no alarm."""
        own = [read_head(each.statement) for each in await self._store.heads(self._code)]
        above = await self._kept_above()
        lost: Broken | None = None
        for head in sorted([*own, *(above or ())], key=_by_place):
            broken = await self._store.stands(_place(head))
            if broken is not None and head.epoch < self._store.epoch:
                lost = lost or Broken(broken.seq, Fault.EPOCH)
            elif broken is not None:
                self._found(broken)
                return len(own), None if above is None else len(above), broken
        return len(own), None if above is None else len(above), lost

    async def _kept_above(self) -> list[Head] | None:
        """What the parent has kept, of every epoch. It cannot make up what this node has not signed."""
        if self._parent is None:
            return None
        try:
            return [self._signed_here(kept) for kept in _read_heads(await self._questions.ask(self._parent, HEADS, b""))]
        except (Deferred, Refused) as error:
            if error.reason is Reason.ORIGIN_SIGNATURE:
                log.error("the parent tells heads that this node has not signed")
            return None

    def _signed_here(self, kept: Receipt) -> Head:
        head = read_head(kept.statement)
        if head.node != self._code:
            raise Refused(Reason.ORIGIN_SIGNATURE, "head.node", str(head.node), str(self._code))
        self._verifier.witness(head, SIGNED_HEAD + kept.statement, kept.signature, kept.chain)
        return head

    async def round(self) -> None:
        """Sign a head where it is time, and let the parent have it."""
        now_ms, own = self._clock.utc_ms(), await self._store.heads(self._code)
        end = await self._store.journal_tail()
        last = read_head(own[0].statement) if own else None
        if last is not None and last.epoch != self._store.epoch:
            last = None
        told_ms = max((each.told_ms for each in own), default=0)
        due = self._parent is not None and now_ms - told_ms >= DAY_MS and asyncio.get_running_loop().time() >= self._tell_s
        grown = end.seq - (last.seq if last is not None else 0)
        old = last is None or now_ms - last.at_ms >= DAY_MS or grown >= HEAD_ROWS
        if grown > 0 and (old or due) and self.broken is None:
            own = [await self._sign(end, now_ms), *own]
        if due and own and not own[0].told_ms:
            await self._tell(own[0])

    async def _sign(self, end: Place, now_ms: int) -> KeptHead:
        head = Head(self._code, self._store.epoch, end.seq, end.hash.hex(), now_ms, self._clock.bound_ms(), self._signer.key_id)
        statement = write_head(head)
        kept = KeptHead(statement, self._signer.sign(SIGNED_HEAD + statement))
        await self._store.keep_head(self._code, kept, self._signer.chain_pem)
        return kept

    async def _tell(self, kept: KeptHead) -> None:
        """A parent that does not answer, or will not have it, is asked again later."""
        assert self._parent is not None
        body = canonical(receipt_fields(Receipt(kept.statement, kept.signature, self._signer.chain_pem)))
        try:
            await self._questions.ask(self._parent, HEAD, body)
        except (Deferred, Refused) as error:
            self._tell_s = asyncio.get_running_loop().time() + TELL_AGAIN_S
            self._tally.add("truc_journal_heads_total", result="not-told")
            if error.reason is Reason.DIGEST_CONFLICT:
                log.error("the parent has kept another past of this node")
                await self.compare()
            return
        self._tally.add("truc_journal_heads_total", result="told")
        told = KeptHead(kept.statement, kept.signature, self._clock.utc_ms())
        await self._store.keep_head(self._code, told, self._signer.chain_pem)

    async def take_head(self, peer: OrgId, body: bytes, left_s: float) -> bytes:
        """Keep the head of a child's journal. One that goes back, or tells another past, is refused and said aloud."""
        brought = receipt_of(strict_json(body))
        head = read_head(brought.statement)
        if head.node != peer:
            raise Refused(Reason.PEER_NAME, "head.node", str(head.node), str(peer))
        self._verifier.witness(head, SIGNED_HEAD + brought.statement, brought.signature, brought.chain)
        now_ms, kept = self._clock.utc_ms(), await self._store.heads(peer)
        for each in kept:
            known = read_head(each.statement)
            if _by_place(head) < _by_place(known) or (_by_place(head) == _by_place(known) and head.hash != known.hash):
                self._tally.add("truc_journal_heads_total", result="refused")
                log.error("a journal below goes back", neighbour=str(peer), row=head.seq)
                raise Refused(Reason.DIGEST_CONFLICT, "head.seq", str(head.seq), f"≥ {known.seq}")
        if sum(abs(now_ms - each.told_ms) < DAY_MS for each in kept) >= HEADS_A_DAY_MAX:
            self._tally.add("truc_journal_heads_total", result="put-off")
            log.warning("a journal below tells too many heads", neighbour=str(peer), row=head.seq)
            raise Deferred(TELL_AGAIN_S)
        if brought.statement not in [each.statement for each in kept]:  # else its answer was lost
            await self._store.take_head(peer, KeptHead(brought.statement, brought.signature, now_ms), brought.chain)
        self._tally.add("truc_journal_heads_total", result="kept")
        return b"kept"

    async def give_heads(self, peer: OrgId, body: bytes, left_s: float) -> bytes:
        """The heads of a child's journal that were kept here, the newest first, as it has signed them."""
        heads = await self._store.heads(peer) if peer != self._parent else []
        keys = dict.fromkeys(read_head(each.statement).key for each in heads)
        chains = {key: (await self._store.chain(key) or b"").decode() for key in keys}
        signed = [receipt_fields(Receipt(each.statement, each.signature)) for each in heads]
        return canonical({"heads": signed, "chains": chains})


def _read_heads(data: bytes) -> list[Receipt]:
    fields = Fields(strict_json(data), HEADS)
    chains = Fields(fields.get("chains"), "chains")
    found = [receipt_of(each) for each in fields.items("heads", HEADS_MAX)]
    return [replace(each, chain=chains.text(read_head(each.statement).key, CHAIN_BYTES_MAX).encode()) for each in found]


def _place(head: Head) -> Place:
    return Place(head.seq, bytes.fromhex(head.hash))


def _by_place(head: Head) -> tuple[int, int]:
    return head.epoch, head.seq

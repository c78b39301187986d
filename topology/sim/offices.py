"""Simulated office systems: they hand packages in, collect, confirm, answer with statuses, and insist until they are answered.

An office knows the operations of the VXP face (their wire is behind `Calls`) and keeps in the ledger what a real one keeps in its
database, so `run` may be ended at any moment and started again. Knows nothing of nodes, networks or faults.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from node.core.errors import Refused
from node.documents.draft import ReadLimits
from node.documents.edxml import Reader
from topology import vxp
from topology.model import OfficeSystem
from topology.sim.door import Calls, Declined, NativeCalls, NoAnswer, NotReached
from topology.sim.ledger import Answer, Item, Ledger, News, Sent, StatusSent, is_later, reason_of
from topology.sim.record import stream
from topology.sim.traffic import Package, status_content

T = TypeVar("T")

EDOC, STATUS = "edoc", "status"
STATUS_BYTES_MAX = 1 << 20
HURRY_S = 5.0
"""The longest an office waits before it tries again once it was told to hurry."""
VAIN_MAX = 5
HANG_UP_S = (0.002, 3.0)
"""A client that breaks a call off does so within this; its length is drawn log-uniform."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What the people and programs of an office are like. p_*: shares; *_s: virtual seconds.

    poll_s: between two looks into the mailbox; status_every: every so many of them also look for statuses. reply_s: a call with
    no answer is given up after this and made again. retry_s, retry_max_s: the first pause before that, and the longest. hang_up:
    the client breaks a call off by itself. crash: the office forgets what it was doing, before and after it took the document in.
    fail: it cannot read the document, fewer times than makes it held (fails_max); held: so often. slow: it waits up to slow_s
    before it fetches or confirms. processing: it says so first. done_unfetched: it confirms before it fetches.
    native: share of the office systems that collect documents at the native door, wait there up to wait_s, and confirm what they
    have read in one call.
    answered: share of documents whose receiver answers with `statuses`, each up to status_gap_s after the one before.
    look_sent: share of looks that also read the sent list. senders: packages handed in at the same time.
    """

    poll_s: float = 60.0
    status_every: int = 1
    reply_s: float = 90.0
    retry_s: float = 1.0
    retry_max_s: float = 120.0
    p_hang_up: float = 0.02
    p_crash: float = 0.03
    p_fail: float = 0.05
    p_held: float = 0.005
    fails_max: int = 5
    p_slow: float = 0.05
    slow_s: float = 300.0
    p_processing: float = 0.1
    p_done_unfetched: float = 0.03
    p_answered: float = 1.0
    statuses: tuple[str, ...] = ("01", "03")
    status_gap_s: float = 120.0
    p_look_sent: float = 0.05
    p_native: float = 0.35
    wait_s: int = 20
    senders: int = 2


@dataclass(slots=True)
class _Letter:
    """Something to hand in, not before due_s. again: it was taken already, and comes once more."""

    due_s: float
    what: Sent | StatusSent
    again: bool = False
    rest: tuple[str, ...] = ()


class SimOffice:
    """One office system. began_s: the loop's time at which the plan's time is 0; utc_ms: the office's clock."""

    def __init__(
        self,
        system: OfficeSystem,
        calls: Calls,
        ledger: Ledger,
        habits: Habits,
        seed: int,
        utc_ms: Callable[[], int],
        began_s: float = 0.0,
        native: NativeCalls | None = None,
    ) -> None:
        """native: where it collects its documents, if not where it hands them in."""
        self.id = system.id
        self._codes = {str(code) for code in system.codes}
        self._calls = calls
        self._native = native
        self._ledger = ledger
        self._habits = habits
        self._seed = seed
        self._utc_ms = utc_ms
        self._letters: list[tuple[float, int, _Letter]] = []
        self._in_hand: dict[int, _Letter] = {}
        self._numbers = 0
        self._open: dict[str, Item] = {}
        """Documents it knows of and has not finished with."""
        self._quiet = False
        self._hurry = False
        self._stirred = asyncio.Event()
        self._fails: dict[str, int] = {}
        self._vain = 0
        self._chance = stream(seed, "office", self.id, "habits")
        self._posting = [stream(seed, "office", self.id, "post", worker) for worker in range(habits.senders)]
        self._collecting = stream(seed, "office", self.id, "collect")
        self._reading = stream(seed, "office", self.id, "read")
        for sent in ledger.sent.values():
            if sent.package.system == self.id:
                self._add(_Letter(began_s + sent.package.at_s, sent))

    @property
    def idle(self) -> bool:
        """It has nothing to hand in, to collect or to confirm, as far as its last look into the mailbox told."""
        return self._quiet and not self._letters and not self._in_hand

    def hurry(self) -> None:
        """From now on it waits for nothing: what is due later goes now, and it looks into its mailbox again and again."""
        self._hurry = True
        self._quiet = False
        self._stir()

    def send(self, sent: Sent) -> None:
        """Hand this in beside what was planned, as soon as one of its senders is free."""
        self._add(_Letter(self._now(), sent))
        self._stir()

    async def run(self) -> None:
        """Work for ever. Ended and called again, it goes on where its memory, the ledger, says."""
        for letter in list(self._in_hand.values()):
            self._add(letter)
        self._in_hand.clear()
        self._quiet = False
        async with asyncio.TaskGroup() as group:
            for rng in self._posting:
                group.create_task(self._post(rng))
            group.create_task(self._collect(self._collecting))

    async def read_sent(self) -> None:
        """Read the whole sent list of documents into the ledger: all at once, then what one answer had no room for."""
        await self._look_at_sent(self._reading)
        for sent in self._ledger.sent.values():
            if sent.package.system != self.id:
                continue
            for doc_id in sent.doc_ids:
                if len(self._ledger.lines.get((self.id, doc_id), ())) < len({to.code for to in sent.package.to}):
                    await self._look_at_sent(self._reading, doc_id)
        self._ledger.read[self.id] = None

    # waiting

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _stir(self) -> None:
        """Wake whoever waits: there is more to do, or less time."""
        self._stirred.set()
        self._stirred = asyncio.Event()

    async def _wait(self, seconds: float | None) -> None:
        """So long, or until stirred."""
        try:
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        except TimeoutError:
            return

    async def _pause(self, seconds: float) -> None:
        """So long; when a hurry begins meanwhile, not longer than HURRY_S from then."""
        until = self._now() + seconds
        hurried = self._hurry
        while (left := until - self._now()) > 0:
            if self._hurry and not hurried:  # the hurry has begun meanwhile
                until, hurried = min(until, self._now() + HURRY_S), True
            else:
                await (asyncio.sleep(left) if self._hurry else self._wait(left))

    # calls

    async def _once(self, operation: str, fields: Mapping[str, str], body: bytes, kind: str, rng: random.Random) -> Answer | None:
        """One call; None: no answer came. Raises `NotReached`."""
        return await self._heard(lambda: self._calls.call(operation, fields, body, kind), rng)

    async def _heard(self, ask: Callable[[], Awaitable[T]], rng: random.Random) -> T | None:
        """The answer, if one comes before the client gives up, or breaks off by itself."""
        low, high = HANG_UP_S
        hang_up = rng.random() < self._habits.p_hang_up
        limit_s = low * (high / low) ** rng.random() if hang_up else self._habits.reply_s
        try:
            async with asyncio.timeout(limit_s):
                return await ask()
        except NoAnswer:
            self._ledger.counts["office/no answer"] += 1
        except TimeoutError:
            self._ledger.counts["office/hung up" if hang_up else "office/timed out"] += 1
        return None

    async def _insist(
        self,
        operation: str,
        fields: Mapping[str, str],
        rng: random.Random,
        body: bytes = vxp.EMPTY,
        kind: str = vxp.JSON_TYPE,
        tried: Callable[[int], None] = lambda step: None,
    ) -> Answer:
        """The same call until there is a final answer. tried: +1 before each call, -1 where nothing left the office."""
        pause_s = self._habits.retry_s
        while True:
            tried(1)
            try:
                answer = await self._once(operation, fields, body, kind, rng)
            except NotReached:
                tried(-1)
                answer = None
                self._ledger.counts["office/not reached"] += 1
            if answer is not None and not is_later(answer):
                return answer
            if answer is not None:
                self._ledger.counts["office/told later"] += 1
            await self._pause(pause_s * rng.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, HURRY_S if self._hurry else self._habits.retry_max_s)

    # handing in

    def _add(self, letter: _Letter) -> None:
        self._numbers += 1
        heapq.heappush(self._letters, (letter.due_s, self._numbers, letter))
        self._quiet = False

    async def _post(self, rng: random.Random) -> None:
        """One after the other, each until its final answer."""
        while True:
            number, letter = await self._next()
            await self._hand_in(letter, rng)
            del self._in_hand[number]
            self._stir()

    async def _next(self) -> tuple[int, _Letter]:
        while True:
            blocked = []
            found = None
            while self._letters and (self._hurry or self._letters[0][0] <= self._now()):
                entry = heapq.heappop(self._letters)
                if self._blocked(entry[2]):
                    blocked.append(entry)
                else:
                    found = entry
                    break
            for entry in blocked:
                heapq.heappush(self._letters, entry)
            if found is not None:
                self._in_hand[found[1]] = found[2]
                return found[1], found[2]
            later = [due_s for due_s, _, _ in self._letters[:1] if due_s > self._now()]
            await self._wait(later[0] - self._now() if later and not self._hurry else None)

    def _blocked(self, letter: _Letter) -> bool:
        """A correction waits for the answer to what it corrects."""
        what = letter.what
        if isinstance(what, StatusSent) or not what.package.after:
            return False
        return not self._ledger.sent[what.package.after].ended

    async def _hand_in(self, letter: _Letter, rng: random.Random) -> None:
        what = letter.what
        content = what.content if isinstance(what, StatusSent) else self._content(what)
        kind = STATUS if isinstance(what, StatusSent) else EDOC
        organ = what.organ if isinstance(what, StatusSent) else what.package.sender

        def tried(step: int) -> None:
            if step > 0:
                self._ledger.tried(what, self._now())
            else:
                self._ledger.untried(what)

        fields = {**vxp.package_fields(content, kind), "from": organ}
        answer = await self._insist("sendEdoc", fields, rng, content, vxp.FILE_TYPE, tried)
        self._ledger.answered(what, answer, self._now())
        if isinstance(what, StatusSent):
            what.content = b""
            self._report(what.package, what.organ, what.about, what.item, letter.rest)
        elif not letter.again and what.doc_ids and what.package.again_s:
            self._ledger.counts["office/sent again"] += 1
            self._add(_Letter(self._now() + what.package.again_s, what, again=True))

    def _content(self, sent: Sent) -> bytes:
        content = sent.package.content(self._seed)
        if not sent.digest:
            sent.digest = hashlib.sha256(content).hexdigest()
            self._ledger.by_digest[sent.digest] = sent.package.number
        return content

    # collecting

    async def _collect(self, rng: random.Random) -> None:
        await self._pause(rng.uniform(0, self._habits.poll_s))
        looks = 0
        while True:
            found = await self._look(EDOC, rng)
            if self._hurry or looks % self._habits.status_every == 0:
                found += await self._look(STATUS, rng)
            if rng.random() < self._habits.p_look_sent:
                await self._look_at_sent(rng)
            looks += 1
            self._quiet = not found and not self._open and (self._hurry or self._habits.status_every == 1)
            await self._pause(self._rest_s(found) * rng.uniform(0.8, 1.2))

    def _rest_s(self, found: int) -> float:
        """Until the next look. In a hurry it looks often, less and less so while nothing comes."""
        self._vain = 0 if found else self._vain + 1
        return min(self._habits.poll_s, HURRY_S * 2.0 ** min(self._vain, VAIN_MAX)) if self._hurry else self._habits.poll_s

    async def _look(self, kind: str, rng: random.Random) -> int:
        """One look into the mailbox, and what follows from it. Returns how much there was to do."""
        if self._native is not None and kind == EDOC:
            return await self._look_native(self._native, rng)
        answer = await self._insist("getReceivedEdocList", vxp.list_fields(kind), rng)
        if answer["status"] != "OK":
            self._ledger.bad(f"{self.id}: the list of {kind} is refused: {answer['ErrorDesc']}")
            return 1
        lines = answer["data"]
        if kind == STATUS:
            for line in lines:
                await self._read(self._ledger.told(self.id, str(line["docId"])), rng)
            return len(lines)
        listed = {str(line["docId"]): self._ledger.offered(self.id, line, self._now()) for line in lines}
        self._open.update(listed)
        for doc_id, item in list(self._open.items()):
            if doc_id in listed or (item.early and not item.processed):
                # What was confirmed unfetched leaves the list when a fetch begins, also one whose answer never came.
                await self._take(item, rng)
            else:
                del self._open[doc_id]  # held, ended, or confirmed by a call that was not answered
        return len(lines)

    async def _look_native(self, native: NativeCalls, rng: random.Random) -> int:
        """The same at the native door: contents come along, and what was read is confirmed together."""
        wait_s = 0 if self._hurry or rng.random() < 0.5 else self._habits.wait_s
        found = await self._insist_on(lambda: native.mailbox(EDOC, wait_s), rng)
        listed: dict[str, tuple[Item, bytes | None]] = {}
        for line, content in found or ():
            shown = {"docId": line["doc_id"], "to": ";".join(line["to"])}
            listed[str(line["doc_id"])] = self._ledger.offered(self.id, shown, self._now()), content
        gone = [item for doc_id, item in self._open.items() if doc_id not in listed]
        self._open = {doc_id: item for doc_id, (item, _) in listed.items()}
        for item in gone:
            if item.early and not item.processed:  # a fetch whose answer never came took it off the list
                self._open[item.doc_id] = item
                await self._take(item, rng)
        ready = []
        for item, content in listed.values():
            if content is None or item.early:
                await self._take(item, rng)
            elif item.processed or await self._take_in(item, content, rng):
                ready.append(item)
        await self._now_and_then(self._habits.p_slow, "slow", rng)
        if ready:
            await self._confirm(native, ready, rng)
        return len(listed)

    async def _take_in(self, item: Item, content: bytes, rng: random.Random) -> bool:
        """Whether it may be confirmed now."""
        package = self._ledger.taken_in(item, hashlib.sha256(content).hexdigest())
        if package is None or not await self._readable(item, rng):
            return False
        item.processed += 1
        self._answer(item, package)
        if rng.random() < self._habits.p_crash:
            self._ledger.counts["office/crashed after processing"] += 1
            return False
        return True

    async def _confirm(self, native: NativeCalls, items: Sequence[Item], rng: random.Random) -> None:
        """All in one call; what the node puts off comes again with the next look."""

        def tried(step: int) -> None:
            for item in items:
                item.done_tries += step

        results = await self._insist_on(lambda: native.done([item.doc_id for item in items]), rng, tried)
        for item, result in zip(items, results or (), strict=False):
            if result["status"] == "ok":
                self._ledger.confirmed(item)
                self._ledger.counts["office/confirmed together"] += len(items) > 1
                self._open.pop(item.doc_id, None)
            elif result["status"] != "later":
                self._ledger.bad(f"{self.id}: done for {item.doc_id} is refused: {result}")
                self._open.pop(item.doc_id, None)

    async def _insist_on(
        self, ask: Callable[[], Awaitable[T]], rng: random.Random, tried: Callable[[int], None] = lambda step: None
    ) -> T | None:
        """The same question at the native door until there is an answer; None: a no, which the ledger keeps."""
        pause_s = self._habits.retry_s
        while True:
            tried(1)
            try:
                if (answer := await self._heard(ask, rng)) is not None:
                    return answer
            except NotReached:
                tried(-1)
                self._ledger.counts["office/not reached"] += 1
            except Declined as declined:
                self._ledger.bad(f"{self.id}: {declined}")
                return None
            await self._pause(pause_s * rng.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, HURRY_S if self._hurry else self._habits.retry_max_s)

    async def _take(self, item: Item, rng: random.Random) -> None:
        """Fetch, take in, confirm; what goes wrong on the way is tried again at the next look."""
        habits, counts = self._habits, self._ledger.counts
        if not item.processed:
            if not item.fetches and not item.early and rng.random() < habits.p_done_unfetched:
                counts["office/done before fetch"] += 1
                item.early = True  # from the first call on: its answer may never come
                await self._update(item, "done", rng)
                return
            await self._now_and_then(habits.p_slow, "slow", rng)
            package = await self._fetch(item, rng)
            if package is None or not await self._readable(item, rng):
                return
            if rng.random() < habits.p_crash:
                counts["office/crashed before processing"] += 1
                return
            item.processed += 1
            self._answer(item, package)
            if rng.random() < habits.p_crash:
                counts["office/crashed after processing"] += 1
                return
        if rng.random() < habits.p_processing:
            await self._update(item, "processing", rng)
        await self._now_and_then(habits.p_slow, "slow", rng)
        if await self._update(item, "done", rng):
            self._ledger.confirmed(item)
            self._open.pop(item.doc_id, None)

    async def _now_and_then(self, share: float, name: str, rng: random.Random) -> None:
        if rng.random() < share:
            self._ledger.counts[f"office/{name}"] += 1
            await self._pause(rng.uniform(0, HURRY_S if self._hurry else self._habits.slow_s))

    async def _fetch(self, item: Item, rng: random.Random) -> Package | None:
        content = await self._get(item.doc_id, rng)
        if isinstance(content, bytes):
            return self._ledger.taken_in(item, hashlib.sha256(content).hexdigest())
        if content == "body-damaged":
            self._ledger.counts["office/body damaged"] += 1
            await self._update(item, "fail", rng)
        else:
            item.gone = content
            del self._open[item.doc_id]
        return None

    async def _get(self, doc_id: str, rng: random.Random) -> bytes | str:
        """The package, or the reason why there is none."""
        while True:
            answer = await self._insist("getEdoc", {"docId": doc_id, "filePath": "."}, rng)
            if answer["status"] != "OK":
                return reason_of(str(answer["ErrorDesc"]))
            try:
                return vxp.package_in(answer)
            except ValueError:
                self._ledger.bad(f"{self.id}: the package of {doc_id} is no base64")
            await self._pause(self._habits.retry_s)

    async def _readable(self, item: Item, rng: random.Random) -> bool:
        """Some documents the office cannot read so many times, and says so."""
        habits = self._habits
        if item.doc_id not in self._fails:
            chance = self._chance.random()
            few, many = self._chance.randint(1, habits.fails_max - 1), habits.fails_max
            self._fails[item.doc_id] = many if chance < habits.p_held else few if chance < habits.p_held + habits.p_fail else 0
        if not self._fails[item.doc_id] or item.early:
            return True
        self._fails[item.doc_id] -= 1
        self._ledger.counts["office/failed"] += 1
        await self._update(item, "fail", rng)
        return False

    async def _update(self, item: Item | News, word: str, rng: random.Random) -> bool:
        """Whether the node said yes."""

        def tried(step: int) -> None:
            if word == "done":
                item.done_tries += step
            elif word == "fail" and isinstance(item, Item):
                item.fail_tries += step

        answer = await self._insist("updateStatus", {"docId": item.doc_id, "status": word}, rng, tried=tried)
        if answer["status"] == "OK":
            return True
        self._ledger.bad(f"{self.id}: {word} for {item.doc_id} is refused: {answer['ErrorDesc']}")
        if isinstance(item, Item):
            self._open.pop(item.doc_id, None)
        return False

    # statuses

    def _answer(self, item: Item, package: Package) -> None:
        """The receiving organ answers; it names the document in one of three ways."""
        organ = next((to.organ for to in self._ledger.organs_of(item) if to.organ in self._codes), "")
        item.organ = organ
        if organ and self._chance.random() < self._habits.p_answered:
            unique = self._ledger.unique(package)
            about = (item.doc_id, package.document_id, "")[package.number % 3] if unique else item.doc_id
            self._report(package.number, organ, about, item.doc_id, self._habits.statuses)

    def _report(self, number: int, organ: str, about: str, doc_id: str, codes: Sequence[str]) -> None:
        """The next status of a document, if there is one: each follows when the one before was taken."""
        if not codes:
            return
        reference = self._ledger.sent[number].package.reference(about)
        content = status_content(organ, reference, codes[0], f"{self.id}/{doc_id}", self._utc_ms())
        digest = hashlib.sha256(content).hexdigest()
        status = StatusSent(self.id, organ, codes[0], number, content, digest, about, doc_id)
        self._ledger.statuses[digest] = status
        due_s = self._now() + self._chance.uniform(0, self._habits.status_gap_s)
        self._add(_Letter(due_s, status, rest=tuple(codes[1:])))
        self._stir()

    async def _read(self, news: News, rng: random.Random) -> None:
        """Fetch a status that came home, take it in, confirm."""
        if not news.processed:
            content = await self._get(news.doc_id, rng)
            if isinstance(content, str):
                news.gone = content
                self._ledger.bad(f"{self.id}: listed status {news.doc_id} cannot be fetched: {content}")
                return
            _describe(news, content, self._ledger)
            if rng.random() < self._habits.p_crash:
                self._ledger.counts["office/crashed before processing"] += 1
                return
            news.processed += 1
        if await self._update(news, "done", rng):
            news.done = True

    async def _look_at_sent(self, rng: random.Random, doc_id: str | None = None) -> None:
        answer = await self._insist("getSentEdocList", vxp.list_fields(EDOC, doc_id), rng)
        if answer["status"] != "OK":
            self._ledger.bad(f"{self.id}: the sent list is refused: {answer['ErrorDesc']}")
            return
        self._ledger.sent_lines(self.id, answer["data"])


def _describe(news: News, content: bytes, ledger: Ledger) -> None:
    """What a status package says: only where it is none that an office of this run sent, since those are known."""
    news.digest = hashlib.sha256(content).hexdigest()
    if news.digest in ledger.statuses:
        return
    reader = Reader(ReadLimits(STATUS_BYTES_MAX, STATUS_BYTES_MAX))
    try:
        reader.feed(content)
        package = reader.close()
    except Refused as refusal:
        ledger.bad(f"{news.system}: status {news.doc_id} cannot be read: {refusal}")
        return
    news.code, news.organ, news.description = package.status, package.sender.code, package.description
    news.notation = package.response_for[0].code if package.response_for else ""

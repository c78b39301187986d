"""Keeps the directory of codes in step with the parent and the children, and says in it what this node has to say.

What a neighbour brings is judged (its author's signature, its place in the author's log), made durable, and only then it is the
directory that documents are routed by. Knows `core` and the ports; what may be said by whom is decided in `core/changes.py`.

A directory file is how a tree starts: at the hub it is the first that is said. While the hub has not been heard a node goes by
its file, as it is. Afterwards the file is kept in step with the directory, and an edit of it is an act of this node.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from node.core.changes import (
    DOMAIN,
    HOURS,
    Authors,
    Books,
    CalendarRow,
    Change,
    CodeRow,
    Folded,
    Head,
    Held,
    Met,
    NodeRow,
    calendar_by,
    calendar_rows,
    encode,
    fold,
    held,
    next_change,
    said_by,
)
from node.core.directory import Directory
from node.core.directory_told import about, acted
from node.core.directory_wire import AUTHORS_MAX, Exchange, portion
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import HUB, OrgId
from node.core.tally import Tally
from node.core.wanted import Wanted, additions, new_problems, outside, portions, rows_for, wanted_by, witnessed
from node.ports import Clock, Link, Signer, Store, Verifier

log = structlog.get_logger()

LOOK_S = 60.0
"""The parent is asked after this even where it has not said that there is something new."""
RETRY_S = 5.0
JITTER = 0.2
ROUNDS_MAX = 10_000
"""Of one exchange: a month of changes and a whole country fit easily."""
NAMED_MAX = 5
STRANGER = "stranger"
"""The author of a change is no node."""
RECONCILE_MS = 150_000
"""So long a restored hub hears its children, who ask every minute, before it says anything."""
STALE_MS = 24 * 3_600_000
"""A directory that was not compared with the parent's for so long is called stale; documents are routed by it all the same."""


Run = Callable[[Callable[[], None]], Awaitable[None]]


class View(Protocol):
    """Where the directory in use is looked at. `take` raises ValueError for one that this node cannot be found in. `keep` writes
    its file, and raises OSError, and ValueError for one that no node could start with."""

    directory: Directory
    said: Mapping[OrgId, int]

    def take(self, directory: Directory) -> None: ...

    def keep(self, directory: Directory) -> None: ...


async def _at_once(work: Callable[[], None]) -> None:
    """Where there is no disk to wait for."""
    work()


class CalendarFiles(Protocol):
    """The owner's calendar folder: by name (`2027`, `hours`) the text of each file. And the calendar in use: it is told what the
    tree says, by author and name, and whether an author may speak of a code's hours."""

    def files(self) -> Mapping[str, str]: ...

    def take(self, told: Mapping[tuple[OrgId, str], str], within: Callable[[OrgId, OrgId], bool]) -> None: ...


class _NoFiles:
    def files(self) -> Mapping[str, str]:
        return {}

    def take(self, told: Mapping[tuple[OrgId, str], str], within: Callable[[OrgId, OrgId], bool]) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Acted:
    """What became of an act: how many nodes and codes were said anew, and the directory's version since."""

    rows: int
    version: int


class Registrar:
    """view: where the directory is in use, and its file, which people and other programs read. wake: tells the children of
    news."""

    def __init__(
        self,
        code: OrgId,
        store: Store,
        clock: Clock,
        signer: Signer,
        verifier: Verifier,
        tally: Tally,
        view: View,
        wake: Callable[[], None],
        rng: random.Random,
    ) -> None:
        self._code = code
        self._store = store
        self._clock = clock
        self._signer = signer
        self._verifier = verifier
        self._tally = tally
        self._view = view
        self.link: Link | None = None
        """None at the hub."""
        self._run: Run = _at_once
        self._wake = wake
        self._rng = rng
        self._books = Books()
        self._chains: dict[str, bytes] = {}
        self._lock = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._file: Directory | None = None
        """As it was found at the start, until that was looked into."""
        self._edited: Directory | None = None
        self.calendar: CalendarFiles = _NoFiles()
        self._calendar_due = True
        self._seen: dict[OrgId, Mapping[OrgId, Head]] = {}
        self._above: Mapping[OrgId, Head] | None = None
        self.folded: Folded | None = None
        self._since_ms = clock.utc_ms()
        """When all that the parent has said was known here, last; else the start."""
        self.forked: dict[OrgId, None] = {}
        """Authors that have signed two changes which exclude each other."""
        self._said_at: dict[OrgId, int] = {}
        """The version in which a code was last spoken of, where that was since the start."""
        self._restored = False
        """From a backup, and what was said since then is not known again yet."""

    # from the disk

    async def prepare(self, run: Run | None = None) -> None:
        """What was kept before, before any duty asks. Says nothing itself: `run` does, once the writer runs. run: does work that
        waits for files."""
        self._run = run or self._run
        self._file = self._view.directory
        rows, self._chains = await self._store.directory_kept()
        for row in rows:
            found = held(*row)
            if self._books.meet(found) is Met.NEW:
                self._books = self._books.keeping(found)
        mine = self._books.head(self._code)
        self._restored = self._store.epoch > (mine.epoch if mine is not None else 1)
        self._apply()

    async def _start(self) -> None:
        """At the hub, if nothing was said before, the file is the first; else what of it is other than what was kept."""
        file = self._file
        assert file is not None
        if self.folded is None and self._code == HUB:
            await self._begin(file)
        elif self.folded is not None:
            await self._edit(file)
        self._file = None

    async def _begin(self, file: Directory) -> None:
        everything = Wanted({node.code: node for node in file.nodes}, dict(file.histories()))
        async with self._lock:
            await self._say(everything, "", {}, axis=(file.axis_name, file.axis_code_text), first=max(1, file.version))
        log.info("directory begun from its file", version=self._books.version)

    async def _reconcile(self) -> None:
        """What this node said since the backup comes back from its neighbours, before it says all of it anew: a higher epoch
        takes the place of a lower one, everywhere."""
        if self.link is not None:
            await self._exchange(self.link)
        elif self.folded is not None and self._clock.utc_ms() - self._since_ms < RECONCILE_MS:
            raise Deferred(RETRY_S, Reason.NOT_NOW)
        await self._restate()
        self._restored = False

    async def _restate(self) -> None:
        """What this node says from now on must not be taken for what it may have said before its store was restored."""
        nodes, codes = said_by(self._books, self._code)
        calendar = tuple(calendar_by(self._books, self._code).values())
        axis = (self._view.directory.axis_name, self._view.directory.axis_code_text) if self._code == HUB else None
        async with self._lock:
            await self._put((nodes, codes), "", {}, axis, 1, calendar)
        log.warning("what this node says of the directory begins anew", epoch=self._store.epoch)

    def edited(self, directory: Directory) -> None:
        """The directory file has changed on disk. Taken in at the next turn of `run`."""
        if self.folded is None:
            self._view.take(directory)
            return
        self._edited = directory
        self._stirred.set()

    async def _edit(self, file: Directory) -> None:
        """What the file says other than the directory is an act of this node, as far as it may."""
        assert self.folded is not None
        wanted = wanted_by(self.folded.directory, file)
        known = self._unknown_to(file)
        old = [code for code in (*wanted.nodes, *wanted.codes) if known(code)]
        if old:
            self._count("file-old")
            held_version = self.folded.directory.version
            log.warning("directory file is older than the directory", version=file.version, held=held_version, codes=_named(old))
        fresh = Wanted(
            {code: node for code, node in wanted.nodes.items() if not known(code)},
            {code: entries for code, entries in wanted.codes.items() if not known(code)},
        )
        await self._act_of_file(fresh)
        self._edited = None if self._edited is file else self._edited
        await self._show()

    def _unknown_to(self, file: Directory) -> Callable[[OrgId], bool]:
        """Whether what is said of a code was said after somebody began to write the file, who must not undo it unawares."""
        assert self.folded is not None
        if file.version >= self.folded.directory.version:
            return lambda code: self._said_at.get(code, 0) >= file.version
        said = self.folded.nodes.keys() | self.folded.codes.keys()
        return lambda code: code in said

    async def _act_of_file(self, wanted: Wanted) -> None:
        assert self.folded is not None
        others = outside(self.folded, self._code, (*wanted.nodes, *wanted.codes))
        if others:
            self._count("file-outside", len(others))
            log.error("directory file says what another node has to say", count=len(others), codes=_named(others))
        mine = Wanted(
            {code: node for code, node in wanted.nodes.items() if self.folded.may(self._code, code)},
            {code: entries for code, entries in wanted.codes.items() if self.folded.may(self._code, code)},
        )
        if mine == Wanted():
            return
        try:
            await self.act(mine, "", {"who": "directory file"})
        except Refused as refused:
            self._count(refused.reason.value)
            log.error("directory file not used", reason=refused.reason.value, code=refused.value, rule=refused.rule)

    async def _show(self) -> None:
        """The file says what is in use, as long as this node could start with it; else it stays as it is."""
        if self._edited is not None:  # looked into first
            return
        directory = self._view.directory
        try:
            await self._run(lambda: self._view.keep(directory))
        except (OSError, ValueError) as error:
            self._count("file-behind")
            log.error("directory file not kept in step", reason=str(error)[:200])

    # what this node says

    async def act(self, wanted: Wanted, why: str, told: Mapping[str, str]) -> Acted:
        """Say it, sign it, keep it; it is in use when this returns. told: who did it, for the journal alone.

        `Refused(DIRECTORY_OUTSIDE | DIRECTORY_LAW | ORIGIN_SIGNATURE)`: nothing was said. `Deferred`: the hub was not heard yet,
        or a restored node has not heard its neighbours.
        """
        async with self._lock:
            if self.folded is None or self._restored:
                raise Deferred(RETRY_S, Reason.NOT_NOW)
            others = outside(self.folded, self._code, (*wanted.nodes, *wanted.codes))
            if others:
                raise Refused(
                    Reason.DIRECTORY_OUTSIDE, "code", str(others[0]), str(self.folded.administrator(others[0])) or "hub"
                )
            before = self.folded.directory
            rows = await self._say(wanted, why, {"why": why, **told})
            if rows:
                await self._store.act(acted(before, wanted, why, told.get("who", "")))
        self._stirred.set()
        await self._show()
        return Acted(rows, self._books.version)

    async def _say(
        self, wanted: Wanted, why: str, told: Mapping[str, str], axis: tuple[str, str] | None = None, first: int = 1
    ) -> int:
        rows = rows_for(wanted, self.folded)
        count = len(rows[0]) + len(rows[1])
        if count:
            await self._put(rows, why, told, axis, first)
        return count

    async def _put(
        self,
        rows: tuple[Sequence[Any], Sequence[Any]],
        why: str,
        told: Mapping[str, str],
        axis: tuple[str, str] | None,
        first: int,
        calendar: tuple[CalendarRow, ...] = (),
    ) -> None:
        books, epoch, at_ms = self._books, self._store.epoch, self._clock.utc_ms()
        said: list[Held] = []
        for part in portions(Change(self._code, epoch, 1, "", at_ms, why, axis, calendar=calendar), *rows):
            place = next_change(books, self._code, epoch, at_ms, first)
            seen = witnessed(self._books, self.folded, part.nodes)
            place = replace(place, why=why, axis=part.axis, nodes=part.nodes, codes=part.codes, calendar=part.calendar, seen=seen)
            body = encode(place)
            said.append(held(body, self._signer.sign(DOMAIN + body), self._signer.key_id))
            self._attest(said[-1], self._signer.chain_pem)  # what nobody would believe (a wrong clock) would end this log
            books = books.keeping(said[-1])
        self._judge(fold(books))
        await self._store_changes(said, {self._signer.key_id: self._signer.chain_pem}, told, "here")

    async def _say_calendar(self) -> None:
        """The owner's calendar folder is this node's word on it: years at the hub, office hours everywhere."""
        files = {name: text for name, text in self.calendar.files().items() if self._code == HUB or name == HOURS}
        async with self._lock:
            rows = calendar_rows(calendar_by(self._books, self._code), files)
            if rows:
                await self._put(((), ()), "", {"who": "calendar folder"}, None, 1, rows)
                log.info("working calendar said", files=[row.name for row in rows])

    def _judge(self, after: Folded | None) -> None:
        """Whether the laws of a directory hold as well as before, and every node would believe what is said."""
        if after is None:
            raise Refused(Reason.DIRECTORY_LAW, "axis")
        known = frozenset(self.folded.aside) if self.folded is not None else frozenset()
        for each in after.aside:
            if each.author == self._code and each not in known:
                raise Refused(Reason.DIRECTORY_OUTSIDE, "code", str(each.code), each.why)
        problems = new_problems(self.folded.directory if self.folded is not None else None, after.directory)
        if problems and self.folded is not None:
            raise Refused(Reason.DIRECTORY_LAW, "code", problems[0], f"{len(problems)}")

    async def _store_changes(
        self, changes: Sequence[Held], chains: Mapping[str, bytes], told: Mapping[str, str], source: str
    ) -> None:
        """Durable first, then in use. The lock is held."""
        await self._store.keep_directory(changes, chains, told)
        first = self.folded is None
        for each in changes:
            self._books = self._books.keeping(each)
            self._chains[each.key] = chains.get(each.key) or self._chains[each.key]
            if not first:
                rows: list[NodeRow | CodeRow] = [*each.change.nodes, *each.change.codes]
                self._said_at.update((row.code, self._books.version) for row in rows)
        self._apply()
        self._tally.add("truc_directory_changes_total", len(changes), source=source)

    def _apply(self) -> None:
        self.folded = fold(self._books)
        if self.folded is None:
            return
        if self._view_of(self.folded):
            log.info("directory changed", version=self._books.version, aside=len(self.folded.aside))
        self.calendar.take(self.folded.calendar, self.folded.within)
        self._wake()

    def _view_of(self, folded: Folded) -> bool:
        try:
            self._view.take(folded.directory)
            self._view.said = {code: said.at_ms for code, said in folded.codes.items()}
        except ValueError as error:  # it does not name this node: the last good one stays in use (decision 13)
            self._count("unusable")
            log.error("directory not usable, keeping the last good one", reason=str(error)[:200])
            return False
        return True

    # with the neighbours

    async def run(self) -> None:
        """In step with the parent, and with the file."""
        while True:
            wait_s = LOOK_S
            self._stirred.clear()
            for what, step in (("said", self._say_own), ("compared", self._compare)):
                try:
                    await step()
                except Deferred as failure:
                    log.debug(f"directory not {what}", reason=failure.reason.value)
                    wait_s = RETRY_S
                except Refused as refusal:
                    if refusal.reason is not Reason.OPERATION_UNKNOWN:  # else a parent of an older version: the file counts
                        log.warning(f"directory not {what}, refused", reason=refusal.reason.value)
            try:
                async with asyncio.timeout(wait_s * self._rng.uniform(1 - JITTER, 1 + JITTER)):
                    await self._stirred.wait()
            except TimeoutError:
                pass

    def calendar_edited(self) -> None:
        """The owner's calendar folder was read again."""
        self._calendar_due = True
        self._stirred.set()

    async def _say_own(self) -> None:
        """What this node has to say and has not said yet. Where it cannot, it hears others all the same."""
        if self._restored:
            await self._reconcile()
        if self._file is not None:
            await self._start()
        if self._edited is not None:
            await self._edit(self._edited)
        if self.folded is not None and self._calendar_due:
            await self._say_calendar()
            self._calendar_due = False

    async def _compare(self) -> None:
        if self.link is not None:
            await self._exchange(self.link)

    def stir(self) -> None:
        """The parent may have something new: ask it now."""
        self._stirred.set()

    async def _exchange(self, link: Link) -> None:
        """Ask and bring until neither side has anything that the other lacks."""
        brought: Sequence[Held] = ()
        for _ in range(ROUNDS_MAX):
            lacking = portion(self._books.beyond(self._above), self._chains) if self._above is not None else ()
            if lacking and lacking == brought:
                self._count("not-taken")
                log.error("parent does not take what was said of the directory", count=len(lacking))
                break
            answer = await link.directory(Exchange(self._books.heads(), lacking, self._chains_of(lacking)))
            self._watch(HUB, answer.have, "parent")
            self._above, brought = answer.have, lacking
            if not await self._take(answer, "parent") and not any(self._books.beyond(answer.have)):
                break
        if not any(head > (self._books.head(author) or Head(0, 0)) for author, head in answer.have.items()):
            self._since_ms = self._clock.utc_ms()

    async def answer(self, peer: OrgId, asked: Exchange) -> Exchange:
        """The parent's side: take what a child brings, give what it lacks."""
        self._watch(peer, asked.have, str(peer))
        await self._take(asked, str(peer))
        lacking = portion(self._books.beyond(asked.have), self._chains)
        return Exchange(self._books.heads(), lacking, self._chains_of(lacking))

    def _watch(self, neighbour: OrgId, have: Mapping[OrgId, Head], name: str) -> None:
        """A neighbour that knew more before has gone back to an older directory: named; what is known here stays."""
        before = self._seen.get(neighbour, {})
        back = [author for author, head in before.items() if have.get(author, Head(0, 0)) < head]
        if back:
            self._count(Met.OLD.value)
            log.error("neighbour went back to an older directory", neighbour=name, codes=_named(back))
        self._seen[neighbour] = dict(have)

    async def _take(self, said: Exchange, neighbour: str) -> int:
        """Judge, keep and use what a neighbour brings; how many changes were new."""
        if not said.changes:
            return 0
        async with self._lock:
            first = self.folded is None
            books, new, chains = self._books, [], {}
            refused: set[OrgId] = set()
            authors = Authors(self._books, self.folded, fold, AUTHORS_MAX)
            for each in said.changes:
                author, met = each.change.author, books.meet(each)
                if met is Met.KNOWN or author in refused:  # what follows a refused one has no place: said once
                    continue
                if not authors.known(author, books):
                    refused.add(author)
                    self._refuse(each, STRANGER, neighbour)
                    continue
                chain = self._attested(each, said.chains, neighbour)
                if met is Met.NEW and chain is not None:
                    books = books.keeping(each)
                    new.append(each)
                    chains[each.key] = chain
                    continue
                refused.add(author)
                if chain is not None:  # else anybody could accuse anybody
                    self._refuse(each, met.value, neighbour)
            if not new:
                return 0
            file = self._view.directory
            await self._store_changes(new, chains, {}, "link")
        self._stirred.set()
        if self.folded is not None:
            if first:
                await self._act_of_file(additions(self.folded.directory, file))
            await self._show()
        return len(new)

    def _attested(self, found: Held, chains: Mapping[str, bytes], neighbour: str) -> bytes | None:
        """The chain by which the change is its author's; None, counted and named, where it is not."""
        chain = self._chains.get(found.key) or chains.get(found.key, b"")
        try:
            self._attest(found, chain)
        except Refused as refused:
            self._count("signature")
            log.error(
                "change of the directory refused",
                reason="signature",
                author=str(found.change.author),
                neighbour=neighbour,
                element=refused.element,
            )
            return None
        return chain

    def _attest(self, found: Held, chain: bytes) -> None:
        change = found.change
        self._verifier.attest(change.author, found.key, chain, change.at_ms, DOMAIN + found.body, found.signature)

    def _refuse(self, found: Held, why: str, neighbour: str) -> None:
        change = found.change
        if why == Met.FORK:
            self.forked[change.author] = None
        self._count(why)
        log.error(
            "change of the directory refused",
            reason=why,
            author=str(change.author),
            number=change.number,
            neighbour=neighbour,
        )

    def _chains_of(self, changes: Iterable[Held]) -> dict[str, bytes]:
        return {each.key: self._chains[each.key] for each in changes if each.key in self._chains}

    def _count(self, reason: str, number: int = 1) -> None:
        self._tally.add("truc_directory_refused_total", number, reason=reason)

    # for people

    def state(self) -> dict[str, Any]:
        """How the directory is, for status, readiness and metrics. age_s: since it was last compared with the parent's, or since
        the start; 0 at the hub."""
        age_ms = max(0, self._clock.utc_ms() - self._since_ms) if self.link is not None else 0
        return {
            "version": self._view.directory.version,
            "digest": self._books.digest(),
            "signed": self.folded is not None,
            "authors": len(self._books.logs),
            "changes": sum(map(len, self._books.logs.values())),
            "aside": len(self.folded.aside) if self.folded is not None else 0,
            "forked": [str(author) for author in self.forked],
            "age_s": age_ms / 1000,
            "stale": age_ms > STALE_MS,
        }

    @property
    def directory(self) -> Directory:
        """The one in use."""
        return self._view.directory

    def about(self, code: OrgId) -> dict[str, Any]:
        return about(self._books, self.folded, code)

    def mine(self, codes: Sequence[OrgId]) -> list[OrgId]:
        """Of these the codes that this node may speak of."""
        folded = self.folded
        return [code for code in codes if folded is not None and folded.may(self._code, code)]

    def set_aside(self) -> list[dict[str, Any]]:
        """Rows that do not count, and why."""
        aside = self.folded.aside if self.folded is not None else ()
        return [{"author": str(each.author), "code": str(each.code), "why": each.why} for each in aside]

    @property
    def books(self) -> Books:
        return self._books


def _named(codes: Sequence[OrgId]) -> str:
    text = ", ".join(str(code) or "hub" for code in codes[:NAMED_MAX])
    return f"{text} …" if len(codes) > NAMED_MAX else text

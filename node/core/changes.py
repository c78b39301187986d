"""The directory as signed changes: what each node has said of the codes it administers, and what all of it amounts to.

A node administers the codes below its prefixes. What it says of them is a change: numbered, chained to the one before it, signed
by its key, never altered. A higher epoch begins anew. The directory is what all changes say together (`fold`), the same at
every node that has the same changes, in whatever order they came. Knows `directory` and its rows; nothing of keys, files or of
how changes travel.

Of two that speak of one code, the higher revision counts; of equal ones, the superior's. What a node says of a code that is not
below a prefix it held then is set aside, and named.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from node.core.directory import Directory, Entry, NodeEntry
from node.core.directory_rows import check_history, entry_row, node_row, read_entry, read_node
from node.core.envelope import Fields, read_code, strict_json
from node.core.errors import Reason, Refused
from node.core.identifier import HUB, WRITTEN_CHARS_MAX, OrgId, normalise

FORMAT = "truc-directory-change-1"
DOMAIN = b"truc-directory-change-1\n"
"""Before the bytes that are signed: a signature over a change is none over anything else."""
CHANGE_BYTES_MAX = 2 * 1024 * 1024
ROWS_MAX = 1000
"""Codes and nodes in one change: a larger import becomes several."""
NUMBER_MAX = 2**53
WHY_CHARS_MAX = 400
ENTRIES_MAX = 1000
"""Entries of one code."""
EPOCH_WEIGHT = 1_000_000
"""So that the version rises where numbers begin anew."""
CALENDAR_FILES_MAX = 60
CALENDAR_CHARS_MAX = 100_000
HOURS = "hours"
_CALENDAR_NAME = re.compile(rf"2[0-9]{{3}}|{HOURS}")
SEEN_MAX = ROWS_MAX
_KEYS = frozenset({"format", "author", "epoch", "number", "before", "at", "why", "axis", "nodes", "codes", "calendar", "seen"})


class Head(NamedTuple):
    """How far an author's changes go."""

    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class CodeRow:
    """All that is said of one code: its entries, the oldest first; none: the code is withdrawn."""

    code: OrgId
    revision: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node of the tree, or that there is none under this code any more."""

    code: OrgId
    revision: int
    node: NodeEntry | None


@dataclass(frozen=True, slots=True)
class CalendarRow:
    """A file of the working calendar, its text as its author keeps it. name: a year, the hub's word alone, or `hours`, every
    node's for its prefixes and what lies below them. An empty text: withdrawn."""

    name: str
    revision: int
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """before: SHA-256 (hex) of the change before it, "" for the first of an epoch. at_ms: UTC, by the author's clock. why: the
    decision behind it, for people. axis: name and code text of the axis; the hub's word alone. seen: how far its author had heard
    those from whom it takes something: what they date back later does not count."""

    author: OrgId
    epoch: int
    number: int
    before: str
    at_ms: int
    why: str = ""
    axis: tuple[str, str] | None = None
    nodes: tuple[NodeRow, ...] = ()
    codes: tuple[CodeRow, ...] = ()
    calendar: tuple[CalendarRow, ...] = ()
    seen: tuple[tuple[OrgId, Head], ...] = ()

    @property
    def head(self) -> Head:
        return Head(self.epoch, self.number)


@dataclass(frozen=True, slots=True)
class Held:
    """A change as it is kept and as it travels. body: the exact bytes that were signed; key: SHA-256 (hex) of the signer's
    certificate."""

    change: Change
    body: bytes
    signature: bytes
    key: str
    digest: str


class Met(StrEnum):
    """What a change is to those that are held."""

    NEW = "new"
    KNOWN = "known"
    OLD = "directory-old"
    FORK = "directory-fork"
    GAP = "directory-gap"


# --- bytes --------------------------------------------------------------------------------------------------------------------


def encode(change: Change) -> bytes:
    """The bytes that are signed: canonical JSON."""
    value = {
        "format": FORMAT,
        "author": str(change.author),
        "epoch": change.epoch,
        "number": change.number,
        "before": change.before,
        "at": change.at_ms,
        "why": change.why,
        "axis": list(change.axis) if change.axis is not None else None,
        "nodes": [[str(row.code), row.revision, node_row(row.node) if row.node else None] for row in change.nodes],
        "codes": [[str(row.code), row.revision, list(map(entry_row, row.entries))] for row in change.codes],
    }
    if change.calendar:
        value["calendar"] = [[row.name, row.revision, row.text] for row in change.calendar]
    if change.seen:
        value["seen"] = [[str(code), *head] for code, head in change.seen]
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def decode(body: bytes) -> Change:
    """Any bytes as a change, or `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE | CODE_*)`: only what `encode` would write again."""
    if len(body) > CHANGE_BYTES_MAX:
        raise Refused(Reason.WIRE_TOO_LARGE, "change", str(len(body)), f"≤ {CHANGE_BYTES_MAX}")
    try:
        change = _read(Fields(strict_json(body), "change"))
    except RecursionError:
        raise Refused(Reason.WIRE_MALFORMED, "change", "", "depth") from None
    if encode(change) != body:
        raise Refused(Reason.WIRE_MALFORMED, "change", "", "canonical")
    return change


def held(body: bytes, signature: bytes, key: str) -> Held:
    """`decode`, kept with its signature, which is not judged here."""
    return Held(decode(body), body, signature, key, hashlib.sha256(body).hexdigest())


def _read(fields: Fields) -> Change:
    fields.only(_KEYS)
    fields.text("format", len(FORMAT))
    axis = fields.get("axis")
    if axis is not None and (not isinstance(axis, list) or len(axis) != 2 or not all(isinstance(each, str) for each in axis)):
        raise Refused(Reason.WIRE_MALFORMED, "change.axis", repr(axis)[:80])
    return Change(
        author=read_code(fields.get("author"), "change.author"),
        epoch=fields.whole("epoch", 1, NUMBER_MAX),
        number=fields.whole("number", 1, NUMBER_MAX),
        before=fields.text("before", 64),
        at_ms=fields.whole("at"),
        why=fields.text("why", WHY_CHARS_MAX),
        axis=(axis[0], axis[1]) if axis is not None else None,
        nodes=tuple(_node_row(each) for each in fields.items("nodes", ROWS_MAX)),
        codes=tuple(_code_row(each) for each in fields.items("codes", ROWS_MAX)),
        calendar=tuple(map(_calendar_row, _calendar(fields))),
        seen=tuple(map(_seen, fields.items("seen", SEEN_MAX) if fields.get("seen") is not None else ())),
    )


def _seen(value: object) -> tuple[OrgId, Head]:
    if not isinstance(value, list) or len(value) != 3:
        raise Refused(Reason.WIRE_MALFORMED, "change.seen", repr(value)[:80])
    row = Fields({"epoch": value[1], "number": value[2]}, "seen")
    return read_code(value[0], "seen.code"), Head(row.whole("epoch", 0, NUMBER_MAX), row.whole("number", 0, NUMBER_MAX))


def _triple(value: object) -> tuple[OrgId, int, Any]:
    if not isinstance(value, list) or len(value) != 3:
        raise Refused(Reason.WIRE_MALFORMED, "change.row", repr(value)[:80])
    return read_code(value[0], "row.code"), Fields({"revision": value[1]}, "row").whole("revision", 1, NUMBER_MAX), value[2]


def _node_row(value: object) -> NodeRow:
    code, revision, row = _triple(value)
    node = read_node(row) if row is not None else None
    if node is not None and (node.code != code or (node.parent is None) != (code == HUB)):
        raise Refused(Reason.WIRE_MALFORMED, "row.node", str(code))
    return NodeRow(code, revision, node)


def _code_row(value: object) -> CodeRow:
    code, revision, rows = _triple(value)
    if not code.path or not isinstance(rows, list) or len(rows) > ENTRIES_MAX:
        raise Refused(Reason.WIRE_MALFORMED, "row.entries", str(code))
    entries = tuple(map(read_entry, rows))
    if entries and entries[0].code != code:
        raise Refused(Reason.WIRE_MALFORMED, "row.code", str(code))
    check_history(entries)
    return CodeRow(code, revision, entries)


def _calendar(fields: Fields) -> list[Any]:
    """Most changes have none, and do not say so."""
    return fields.items("calendar", CALENDAR_FILES_MAX) if fields.get("calendar") is not None else []


def _calendar_row(value: object) -> CalendarRow:
    if not isinstance(value, list) or len(value) != 3:
        raise Refused(Reason.WIRE_MALFORMED, "change.calendar", repr(value)[:80])
    fields = Fields({"name": value[0], "revision": value[1], "text": value[2]}, "calendar")
    return CalendarRow(
        fields.text("name", 5, _CALENDAR_NAME),
        fields.whole("revision", 1, NUMBER_MAX),
        fields.text("text", CALENDAR_CHARS_MAX),
    )


# --- books --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Books:
    """All changes that a node holds, by author, each author's in order. Never altered: `keeping` gives new ones."""

    logs: Mapping[OrgId, tuple[Held, ...]] = field(default_factory=dict)

    def head(self, author: OrgId) -> Head | None:
        log = self.logs.get(author)
        return log[-1].change.head if log else None

    def heads(self) -> dict[OrgId, Head]:
        return {author: log[-1].change.head for author, log in self._in_order()}

    def digest(self) -> str:
        """One name for exactly these changes."""
        lines = (f"{author} {log[-1].digest}\n" for author, log in self._in_order())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def version(self) -> int:
        """Rises with every change, and is the same wherever the same changes are held."""
        return sum(log[-1].change.number + (log[-1].change.epoch - 1) * EPOCH_WEIGHT for log in self.logs.values())

    def meet(self, found: Held) -> Met:
        """What this change is to those held. FORK: its author has signed two that exclude each other; the first stays."""
        change, log = found.change, self.logs.get(found.change.author)
        if log is None:
            return Met.NEW if not change.before else Met.GAP
        last = log[-1].change
        if change.epoch != last.epoch:
            return Met.OLD if change.epoch < last.epoch else Met.NEW if not change.before else Met.GAP
        if change.number > last.number + 1:
            return Met.GAP
        if change.number == last.number + 1:
            return Met.NEW if change.before == log[-1].digest else Met.FORK
        place = change.number - log[0].change.number  # numbers of a log have no gaps
        if place < 0:
            return Met.OLD
        return Met.KNOWN if log[place].digest == found.digest else Met.FORK

    def keeping(self, found: Held) -> Books:
        """With a change that is NEW to these."""
        assert self.meet(found) is Met.NEW
        log = self.logs.get(found.change.author, ())
        begun = log and log[-1].change.epoch == found.change.epoch
        return Books({**self.logs, found.change.author: (*log, found) if begun else (found,)})

    def beyond(self, heads: Mapping[OrgId, Head]) -> Iterator[Held]:
        """What somebody lacks who has got so far, each author's in order, the hub's first."""
        for author, log in self._in_order():
            theirs = heads.get(author)
            for each in log:
                head = each.change.head
                if theirs is None or theirs.epoch < head.epoch or (theirs.epoch == head.epoch and theirs.number < head.number):
                    yield each

    def behind(self, heads: Mapping[OrgId, Head]) -> list[OrgId]:
        """Authors of whom somebody who has got so far knows less than is held here."""
        return [author for author, mine in self.heads().items() if (theirs := heads.get(author)) is not None and theirs < mine]

    def _in_order(self) -> list[tuple[OrgId, tuple[Held, ...]]]:
        return sorted(self.logs.items(), key=lambda item: _rank(item[0]))


def next_change(books: Books, author: OrgId, epoch: int, at_ms: int, first: int = 1) -> Change:
    """An empty change in its place behind what the author has said. first: the number that the very first one gets."""
    log = books.logs.get(author)
    if log is None:
        return Change(author, epoch, first, "", at_ms)
    last = log[-1]
    if epoch > last.change.epoch:
        return Change(author, epoch, 1, "", at_ms)
    return Change(author, last.change.epoch, last.change.number + 1, last.digest, max(at_ms, last.change.at_ms))


def calendar_by(books: Books, author: OrgId) -> dict[str, CalendarRow]:
    """The last word of an author on each file of the calendar."""
    return {row.name: row for each in books.logs.get(author, ()) for row in each.change.calendar}


def calendar_rows(said: Mapping[str, CalendarRow], files: Mapping[str, str]) -> tuple[CalendarRow, ...]:
    """Rows that say what an author's files hold, where it has not said so yet; those that are gone are withdrawn."""
    wanted = {**{name: "" for name in said}, **files}
    before = {name: said[name] if name in said else CalendarRow(name, 0, "") for name in wanted}
    return tuple(
        CalendarRow(name, before[name].revision + 1, text) for name, text in sorted(wanted.items()) if before[name].text != text
    )


def said_by(books: Books, author: OrgId) -> tuple[tuple[NodeRow, ...], tuple[CodeRow, ...]]:
    """The last word of an author on each node and code: what it says again when its numbers begin anew."""
    nodes: dict[OrgId, NodeRow] = {}
    codes: dict[OrgId, CodeRow] = {}
    for each in books.logs.get(author, ()):
        nodes.update((row.code, row) for row in each.change.nodes)
        codes.update((row.code, row) for row in each.change.codes)
    return tuple(nodes.values()), tuple(codes.values())


# --- what it amounts to ---------------------------------------------------------------------------------------------------


class Grant(NamedTuple):
    """A prefix that a node held until an instant (UTC ms); None: it still does. seen: how far who took it had heard the node by
    then; None: nobody said."""

    prefix: OrgId
    until_ms: int | None
    seen: Head | None = None


Grants = tuple[Grant, ...]
Hung = dict[OrgId, frozenset[OrgId]]
Since = dict[OrgId, int]
EVERYTHING: Grants = (Grant(HUB, None),)
ROW = TypeVar("ROW", CodeRow, NodeRow)


@dataclass(frozen=True, slots=True)
class Said:
    """Whose word counts of a code, and the change it stands in."""

    author: OrgId
    revision: int
    at_ms: int
    why: str
    head: Head
    seen: Mapping[OrgId, Head]


def may(grants: Grants, code: OrgId, said: Said | None = None) -> bool:
    """Whether a holder of these may speak of a code: one that lies below a prefix of its own. The prefix itself is administered
    above. said: what it has said; None: now."""
    return any(grant.prefix != code and grant.prefix.covers(code) and _stood(grant, said) for grant in grants)


def _stood(grant: Grant, said: Said | None) -> bool:
    """A date alone is its author's word: who takes a prefix says what it had heard by then."""
    if grant.until_ms is None:
        return True
    return said is not None and said.at_ms <= grant.until_ms and (grant.seen is None or said.head <= grant.seen)


@dataclass(frozen=True, slots=True)
class Aside:
    """A row that does not count. why: outside (not below a prefix of its author), or text (it claims another's code)."""

    author: OrgId
    code: OrgId
    why: str


@dataclass(frozen=True)
class Folded:
    """What all changes say together. codes, nodes: whose word it is, those withdrawn among them; grants: by node."""

    directory: Directory
    codes: Mapping[OrgId, Said]
    nodes: Mapping[OrgId, Said]
    grants: Mapping[OrgId, Grants]
    aside: tuple[Aside, ...]
    calendar: Mapping[tuple[OrgId, str], str] = field(default_factory=dict)
    """By author and name the texts that count."""

    def within(self, author: OrgId, code: OrgId) -> bool:
        """Whether a code is one of the author's prefixes or lies below one: of these it may say the office hours."""
        return any(grant.until_ms is None and grant.prefix.covers(code) for grant in self.grants.get(author, ()))

    def may(self, author: OrgId, code: OrgId) -> bool:
        return may(self.grants.get(author, ()), code)

    def administrator(self, code: OrgId) -> OrgId:
        """The node that has a code in its care: of those that may speak of it now, the one with the longest prefix."""
        found = [
            (len(grant.prefix.path), len(node.path), node)
            for node, grants in self.grants.items()
            for grant in grants
            if may((grant,), code)
        ]
        return max(found, default=(0, 0, HUB))[2]


def fold(books: Books) -> Folded | None:
    """What the changes say together; None without the hub's, who alone can say what the tree is."""
    axis = next((each.change.axis for each in reversed(books.logs.get(HUB, ())) if each.change.axis is not None), None)
    if axis is None:
        return None
    aside: list[Aside] = []
    nodes, grants, hung, since = _fold_nodes(books, aside)
    codes = _fold_codes(books, grants, aside)
    standing = [row.node for row, _ in nodes.values() if row.node is not None]
    entries = [entry for row, _ in codes.values() for entry in row.entries]
    directory = Directory(tuple(entries), tuple(standing), *axis, books.version, hung, since)
    return Folded(
        directory,
        {code: said for code, (_, said) in codes.items()},
        {code: said for code, (_, said) in nodes.items()},
        grants,
        tuple(aside),
        _fold_calendar(books, grants),
    )


def _fold_calendar(books: Books, grants: Mapping[OrgId, Grants]) -> dict[tuple[OrgId, str], str]:
    """Years are the hub's word alone; hours every node's that is one."""
    return {
        (author, row.name): row.text
        for author in sorted(books.logs, key=_rank)
        for row in calendar_by(books, author).values()
        if row.text and (author == HUB or (row.name == HOURS and author in grants))
    }


def _fold_nodes(books: Books, aside: list[Aside]) -> tuple[dict[OrgId, tuple[NodeRow, Said]], dict[OrgId, Grants], Hung, Since]:
    """Authors by the length of their codes: a node is named by one with a shorter code, so its grants are known in its turn."""
    standing: dict[OrgId, tuple[NodeRow, Said]] = {}
    history: dict[OrgId, list[tuple[NodeRow, Said]]] = {}
    grants: dict[OrgId, Grants] = {HUB: EVERYTHING}
    for author, log in sorted(books.logs.items(), key=lambda item: _rank(item[0])):
        if author != HUB:
            grants[author] = _grants(history.get(author, []))
        for row, said in _words(author, log, "nodes"):
            if not _may_name(grants[author], author, row, said):
                aside.append(Aside(author, row.code, "outside"))
                continue
            history.setdefault(row.code, []).append((row, said))
            if _counts(row, said, standing.get(row.code)):
                standing[row.code] = row, said
    for code, rows in history.items():
        if code != HUB:
            grants[code] = _grants(rows)
    rows_of = {code: [row.node for row, _ in rows if row.node is not None] for code, rows in history.items()}
    hung = {code: frozenset(each.parent for each in nodes if each.parent is not None) for code, nodes in rows_of.items()}
    since = {code: min(said.at_ms for _, said in rows) for code, rows in history.items()}
    return standing, grants, hung, since


def _may_name(grants: Grants, author: OrgId, row: NodeRow, said: Said) -> bool:
    if author == HUB:
        return True
    named = (row.code, *(row.node.prefixes if row.node is not None else ()))
    parent = row.node.parent if row.node is not None else author
    above = parent is not None and (parent == author or may(grants, parent, said))  # nobody hangs its nodes on another's
    return above and len(row.code.path) > len(author.path) and all(may(grants, code, said) for code in named)


def _grants(rows: Sequence[tuple[NodeRow, Said]]) -> Grants:
    """Each prefix that the rows of one node ever gave it, until the row by which it went; the row that counts is the last."""
    given: dict[OrgId, Grant] = {}
    for row, said in sorted(rows, key=lambda each: (each[0].revision, -len(each[1].author.path))):
        now = row.node.prefixes if row.node is not None else ()
        lost = [prefix for prefix, grant in given.items() if prefix not in now and grant.until_ms is None]
        given.update({prefix: Grant(prefix, said.at_ms, said.seen.get(row.code)) for prefix in lost})
        given.update({prefix: Grant(prefix, None) for prefix in now})
    return tuple(given.values())


def _fold_codes(books: Books, grants: Mapping[OrgId, Grants], aside: list[Aside]) -> dict[OrgId, tuple[CodeRow, Said]]:
    standing: dict[OrgId, tuple[CodeRow, Said]] = {}
    texts: dict[str, OrgId] = {}
    for author, log in sorted(books.logs.items(), key=lambda item: _rank(item[0])):
        own = grants.get(author, ())
        for row, said in _words(author, log, "codes"):
            if not may(own, row.code, said) or not _receives_within(own, row, said):
                aside.append(Aside(author, row.code, "outside"))
            elif author != HUB and _claims(own, row, texts):
                aside.append(Aside(author, row.code, "text"))
            elif _counts(row, said, known := standing.get(row.code)):
                standing[row.code] = row, said
                if known is not None:
                    _forget(texts, known[0])
                texts.update(dict.fromkeys(_texts(row), row.code))
    return standing


def _words(author: OrgId, log: Sequence[Held], what: str) -> Iterator[tuple[Any, Said]]:
    for each in log:
        change = each.change
        rows: Sequence[CodeRow] | Sequence[NodeRow] = getattr(change, what)
        seen = dict(change.seen)
        for row in rows:
            yield row, Said(author, row.revision, change.at_ms, change.why, change.head, seen)


def _counts(row: ROW, said: Said, known: tuple[ROW, Said] | None) -> bool:
    """Against what stands: the higher revision; of equal ones the superior's, who came first, and of its own the later."""
    return (
        known is None or row.revision > known[0].revision or (row.revision, said.author) == (known[0].revision, known[1].author)
    )


def _receives_within(grants: Grants, row: CodeRow, said: Said) -> bool:
    prefixes = (prefix for entry in row.entries for prefix in entry.receives_for)
    return all(any(grant.prefix.covers(prefix) and _stood(grant, said) for grant in grants) for prefix in prefixes)


def _claims(grants: Grants, row: CodeRow, texts: Mapping[str, OrgId]) -> bool:
    """Whether an old code or alias reads as a code that its author has nothing to say of, or as none, or names such an organ by
    the word of another: what is no code, and codes that went elsewhere, are the hub's to give. texts: what names whom so far;
    what names this very code already may be said again."""
    for text in (text for entry in row.entries for text in (entry.old_code, *entry.aliases) if text):
        try:
            meant, holder = OrgId.parse(text), texts.get(normalise(text))
        except Refused:
            meant, holder = None, texts.get(normalise(text)) if len(text) <= WRITTEN_CHARS_MAX else None
        if holder == row.code:
            continue
        if meant is None or any(each not in (None, row.code) and not may(grants, each) for each in (meant, holder)):
            return True
    return False


def _texts(row: CodeRow) -> list[str]:
    """What names it beside its code and what follows from that."""
    plain = ("", str(row.code), row.code.old_form())
    return [normalise(text) for entry in row.entries for text in (entry.old_code, *entry.aliases) if text not in plain]


def _forget(texts: dict[str, OrgId], row: CodeRow) -> None:
    for text in _texts(row):
        if texts.get(text) == row.code:
            del texts[text]


def _rank(author: OrgId) -> tuple[int, OrgId]:
    return len(author.path), author


class Authors:
    """Who may begin a log here: the hub, and whom somebody has named a node who may, by what is held and has just been heard.
    Names come before what the named ones say (`Books.beyond`), so nothing is lost; and whoever may sign for a hundred thousand
    names cannot fill the books of the whole tree with their logs. most: logs that are kept."""

    def __init__(self, books: Books, folded: Folded | None, fold: Callable[[Books], Folded | None], most: int) -> None:
        self._books, self._folded = books, folded
        self._fold = fold
        self._most = most

    def known(self, author: OrgId, books: Books) -> bool:
        """books: those held, with what was heard since."""
        if author == HUB or author in books.logs:
            return True
        if len(books.logs) >= self._most:
            return False
        if not self._named(author) and books is not self._books:
            self._books, self._folded = books, self._fold(books)
        return self._named(author)

    def _named(self, author: OrgId) -> bool:
        return self._folded is not None and author in self._folded.grants

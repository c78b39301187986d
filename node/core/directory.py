"""The directory of codes: who stood or stands under which code, who receives for whom, which node holds which prefixes.

Values and look-ups only: the table goes before the rule of `identifier`, every question about an organ names its day. Knows
`identifier` and `errors`; nothing of files, of next hops (`routing`) or of who may change an entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

from node.core.errors import Reason, Refused
from node.core.identifier import ELEMENT, HUB, PLACEHOLDERS, OrgId, normalise

_Item = TypeVar("_Item")


class Connection(StrEnum):
    """Trạng thái kết nối of an organ's office system. # QĐ 28/2018 Điều 21.1"""

    NONE = "chua-ket-noi"
    TRIAL = "thu-nghiem"
    OFFICIAL = "chinh-thuc"
    LOCKED = "tam-khoa"
    CLOSED = "da-dong"


CONNECTED = frozenset({Connection.TRIAL, Connection.OFFICIAL})


class Fate(StrEnum):
    """Why a code was closed: its organ was merged, split, renamed or moved. # QĐ 09/2025/QĐ-TTg"""

    MERGED = "gop"
    SPLIT = "tach"
    RENAMED = "doi-ten"
    MOVED = "chuyen"


@dataclass(frozen=True, slots=True)
class Contact:
    """How people reach an organ, as its decision or its operator wrote it; never a person's name."""

    address: str = ""
    mail: str = ""
    phone: str = ""
    fax: str = ""
    website: str = ""


NO_CONTACT = Contact()


@dataclass(frozen=True, slots=True)
class Entry:
    """An organ under a code during a time. A renamed organ has several entries with one code.

    old_code: the 13-character form, "" if none. aliases: other texts met for it. kind: a label; nothing depends on it.
    valid_from, valid_to: first and last day, both included; None is open. successor: the code to use after it is closed.
    receives_for: prefixes of the organs without a connection of their own that this one receives for (Điều 21.2);
    focal_only: nobody under those prefixes receives by itself. connection_from: first day of the connection; None is always.
    also: further successors, of an organ that was split; fate: why it was closed. source, source_day: the decision behind it.
    """

    code: OrgId
    name: str
    old_code: str = ""
    aliases: tuple[str, ...] = ()
    kind: str = ""
    valid_from: date | None = None
    valid_to: date | None = None
    successor: OrgId | None = None
    receives_for: tuple[OrgId, ...] = ()
    focal_only: bool = False
    connection: Connection = Connection.NONE
    connection_from: date | None = None
    also: tuple[OrgId, ...] = ()
    fate: Fate | None = None
    contact: Contact = NO_CONTACT
    source: str = ""
    source_day: date | None = None

    def open_on(self, day: date) -> bool:
        return not self.begins_after(day) and not self.ended_before(day)

    def begins_after(self, day: date) -> bool:
        return self.valid_from is not None and self.valid_from > day

    def ended_before(self, day: date) -> bool:
        return self.valid_to is not None and self.valid_to < day

    def connected_on(self, day: date) -> bool:
        """Whether its office system takes packages on that day; on trial counts. # QĐ 28/2018 Điều 21.1"""
        begun = self.connection_from is None or self.connection_from <= day
        return begun and self.connection in CONNECTED and self.open_on(day)

    def on_trial(self, day: date) -> bool:
        """Whether its connection is a trial on that day. # QĐ 28/2018 Điều 21.1"""
        return self.connection is Connection.TRIAL and self.connected_on(day)

    def texts(self) -> Iterator[str]:
        """Every text that names this organ, normalised: its code, its old code, its aliases."""
        for text in (str(self.code), self.old_code, *self.aliases):
            if text:
                yield normalise(text)


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A node of the tree. code: () is the hub. tier: a label. parent: the parent's code, None only for the hub.

    prefixes: the codes whose offices it serves; its own code is one of them, the hub's excepted.
    """

    code: OrgId
    name: str
    tier: str
    parent: OrgId | None
    prefixes: tuple[OrgId, ...]


@dataclass(frozen=True, slots=True)
class Receiving:
    """Where a package for a code goes. organ: whose office gets it. via: that organ again if it is not the addressed one."""

    organ: OrgId
    via: OrgId | None = None


@dataclass(frozen=True)
class Directory:
    """One version of the directory; never changed, a new version is a new value. Look-ups cost by depth, not by size."""

    entries: tuple[Entry, ...]
    nodes: tuple[NodeEntry, ...]
    axis_name: str
    axis_code_text: str
    version: int
    hung: Mapping[OrgId, frozenset[OrgId]] = field(default_factory=dict, repr=False, compare=False)
    """Parents that a node ever had, as far as is remembered; today's need not be among them."""
    since: Mapping[OrgId, int] = field(default_factory=dict, repr=False, compare=False)
    """When a node was first named, UTC ms, as far as is remembered."""
    trials: frozenset[str] = field(init=False, repr=False, compare=False)
    """Codes that are on trial on some day, as text."""
    _texts: Mapping[str, OrgId] = field(init=False, repr=False, compare=False)
    _histories: Mapping[OrgId, tuple[Entry, ...]] = field(init=False, repr=False, compare=False)
    _receivers: Mapping[OrgId, tuple[Entry, ...]] = field(init=False, repr=False, compare=False)
    _nodes: Mapping[OrgId, NodeEntry] = field(init=False, repr=False, compare=False)
    _owners: Mapping[OrgId, OrgId] = field(init=False, repr=False, compare=False)
    _children: Mapping[OrgId, tuple[NodeEntry, ...]] = field(init=False, repr=False, compare=False)
    _held: Mapping[OrgId, int] = field(init=False, repr=False, compare=False)
    _held_below: Mapping[OrgId, tuple[OrgId, ...]] = field(init=False, repr=False, compare=False)
    _entries_below: Mapping[OrgId, tuple[Entry, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_age = sorted(self.entries, key=_begins)
        parented = [node for node in self.nodes if node.parent is not None]
        held = dict.fromkeys(prefix for node in self.nodes for prefix in node.prefixes)
        object.__setattr__(self, "trials", frozenset(str(e.code) for e in self.entries if e.connection is Connection.TRIAL))
        indexes = {
            "_held": {prefix: place for place, prefix in enumerate(held)},
            "_held_below": _group(held, lambda prefix: tuple(prefix.upwards())[1:]),
            "_entries_below": _group(self.entries, lambda entry: tuple(entry.code.upwards())),
            "_texts": _index_texts(self.entries),
            "_histories": _group(by_age, lambda entry: (entry.code,)),
            "_receivers": _group(by_age, lambda entry: entry.receives_for),
            "_nodes": {node.code: node for node in reversed(self.nodes)},
            "_owners": {prefix: node.code for node in reversed(self.nodes) for prefix in node.prefixes},
            "_children": _group(parented, lambda node: () if node.parent is None else (node.parent,)),
        }
        for name, index in indexes.items():
            object.__setattr__(self, name, index)

    def resolve(self, text: str) -> OrgId:
        """The code a text means: by the table of codes, old codes and aliases, else by rule. `Refused(CODE_*)` as `OrgId.parse`.

        It says nothing of whether anyone stands under that code: `receiver` does.
        """
        known = self._texts.get(normalise(text))
        if known is not None:
            return known
        code = OrgId.parse(text)
        return self._texts.get(str(code), code)

    def entry(self, code: OrgId, day: date) -> Entry | None:
        """The entry open under that code on that day."""
        return next((entry for entry in reversed(self.history(code)) if entry.open_on(day)), None)

    def history(self, code: OrgId) -> tuple[Entry, ...]:
        """All entries of a code, oldest first."""
        return self._histories.get(code, ())

    def agencies(self, day: date) -> tuple[Entry, ...]:
        """The entries open on that day, connected or not, in the directory's order."""
        return tuple(entry for entry in self.entries if entry.open_on(day))

    def connected_below(self, prefixes: Iterable[OrgId], day: date) -> Iterator[OrgId]:
        """Codes at or below these prefixes whose office systems take packages on that day; a code may come twice."""
        for prefix in prefixes:
            for entry in self._entries_below.get(prefix, ()):
                if entry.connected_on(day):
                    yield entry.code

    def closed_below(self, prefixes: Iterable[OrgId], day: date) -> Iterator[OrgId]:
        """Codes at or below these prefixes that are closed on that day; a code may come twice."""
        for prefix in prefixes:
            for entry in self._entries_below.get(prefix, ()):
                if self._ended(entry.code, day) is not None:
                    yield entry.code

    def held_below(self, prefixes: Iterable[OrgId]) -> list[OrgId]:
        """The prefixes of all nodes that are longer than one of these, each once, in the directory's order."""
        found = {below for prefix in prefixes for below in self._held_below.get(prefix, ())}
        return sorted(found, key=self._held.__getitem__)

    def name(self, code: OrgId, day: date) -> str:
        """What the organ was called on that day; if closed, its last name; else its node's name; "" for the unknown."""
        begun = [entry for entry in self.history(code) if not entry.begins_after(day)]
        if begun:
            return begun[-1].name
        node = self.node(code)
        return node.name if node is not None else ""

    def node(self, code: OrgId) -> NodeEntry | None:
        return self._nodes.get(code)

    def children(self, code: OrgId) -> tuple[NodeEntry, ...]:
        """The nodes right below a node, in the directory's order."""
        return self._children.get(code, ())

    def receiver(self, code: OrgId, day: date) -> Receiving:
        """Whose office a package for this code is laid before on that day.

        Raises `Refused(RECIPIENT_UNKNOWN | RECIPIENT_CLOSED | RECIPIENT_LOCKED | RECIPIENT_NOT_CONNECTED)`; with
        RECIPIENT_CLOSED the rule is the code to use instead (several of an organ that was split), "" where none is known.
        """
        focal = self._focal_point(code, day)
        if focal is not None:
            return Receiving(focal, focal)
        entry = self.entry(code, day)
        if entry is not None and entry.connected_on(day):
            return Receiving(code)
        closing = self._closing(code, day)
        if closing is not None:  # QĐ 09/2025/QĐ-TTg: codes of merged provinces are closed, what stood below them too
            raise _refused(Reason.RECIPIENT_CLOSED, code, ", ".join(map(str, self.successors(closing.code, day))))
        if entry is not None and entry.connection is Connection.LOCKED:
            raise _refused(Reason.RECIPIENT_LOCKED, code)
        superior = self._superior(code, day)
        if superior is not None:
            return Receiving(superior, superior)
        # QĐ 28/2018 Điều 7.1: an organ not yet able to exchange electronically gets paper
        raise _refused(Reason.RECIPIENT_UNKNOWN if entry is None else Reason.RECIPIENT_NOT_CONNECTED, code)

    def successor(self, code: OrgId, day: date) -> OrgId | None:
        """The code to use instead of one closed on that day, the last of a chain of closed ones; of a split organ the first.

        None while the code is not closed, and where the chain ends in a closed code or runs in a circle.
        """
        return next(iter(self.successors(code, day)), None)

    def successors(self, code: OrgId, day: date) -> tuple[OrgId, ...]:
        """All codes to use instead of one closed on that day, in the order of its entry; () as `successor` has None."""
        found: dict[OrgId, None] = {}
        seen: set[OrgId] = set()
        waiting = [code]
        while waiting:
            current = waiting.pop(0)
            if current in seen:
                continue
            seen.add(current)
            ended = self._ended(current, day)
            if ended is not None:
                waiting.extend(each for each in (ended.successor, *ended.also) if each is not None)
            elif current != code:
                found[current] = None
        return tuple(found)

    def on_trial(self, code: OrgId, day: date) -> bool:
        """Whether what this organ sends or gets on that day is a trial. # QĐ 28/2018 Điều 21.1"""
        entry = self.entry(code, day)
        return entry is not None and entry.on_trial(day)

    def check(self) -> list[str]:
        """The laws a directory obeys, and which entry breaks which; empty when all is well."""
        broken: list[str] = []
        for law in (_check_validity, _check_texts, _check_successors, _check_receiving, _check_nodes, _check_prefixes):
            broken.extend(law(self))
        return broken

    def histories(self) -> Iterable[tuple[OrgId, tuple[Entry, ...]]]:
        """Every code with its entries, oldest first."""
        return self._histories.items()

    def receivers(self) -> Iterable[tuple[OrgId, tuple[Entry, ...]]]:
        """Every prefix that somebody receives for, with the entries that say so, oldest first."""
        return self._receivers.items()

    def owner(self, code: OrgId) -> OrgId | None:
        """The node that holds the longest prefix of a code; None: nobody does."""
        return next((self._owners[prefix] for prefix in code.upwards() if prefix in self._owners), None)

    def line(self, code: OrgId) -> tuple[OrgId, ...]:
        """A node's code, its parent's and so on up to the hub; it stops at an unknown parent and at the second visit."""
        codes: dict[OrgId, None] = {}
        node = self.node(code)
        while node is not None and node.code not in codes:
            codes[node.code] = None
            node = self.node(node.parent) if node.parent is not None else None
        return tuple(codes)

    def ever_above(self, code: OrgId) -> frozenset[OrgId]:
        """A node's own code and those of all nodes that it hangs below or ever hung below; none for what is no node."""
        found: set[OrgId] = set()
        waiting = [code]
        while waiting:
            node = self.node(waiting.pop())
            if node is not None and node.code not in found:
                found.add(node.code)
                waiting += [*self.hung.get(node.code, ()), *([node.parent] if node.parent is not None else [])]
        return frozenset(found)

    def ever_elsewhere(self, code: OrgId) -> bool:
        """Whether a node ever hung below another one than today, or a node below it outside of its branch."""
        branch = [code]
        for each in branch:
            branch += [child.code for child in self.children(each) if child.code not in branch]
        inside = frozenset(branch)
        return len(self.hung.get(code, ())) > 1 or any(self.hung.get(each, frozenset()) - inside for each in branch[1:])

    def _focal_point(self, code: OrgId, day: date) -> OrgId | None:
        """QĐ 28/2018 Điều 21.2: Bộ Quốc phòng receives for all below it at one point. The highest such point counts."""
        points = [e for e in self._receiving_for(code, day) if e.focal_only and e.code != code]
        return points[-1].code if points else None

    def _superior(self, code: OrgId, day: date) -> OrgId | None:
        """QĐ 28/2018 Điều 21.2: the nearest connected organ that receives for a code prints and passes on."""
        return next((entry.code for entry in self._receiving_for(code, day)), None)

    def _receiving_for(self, code: OrgId, day: date) -> Iterator[Entry]:
        """Entries connected on that day that receive for a prefix of the code, the longest prefix first."""
        for prefix in code.upwards():
            for entry in self._receivers.get(prefix, ()):
                if entry.connected_on(day):
                    yield entry

    def _closing(self, code: OrgId, day: date) -> Entry | None:
        """The entry by whose end the code is closed: its own or, if it has none, its nearest superior's."""
        for level in code.upwards():
            ended = self._ended(level, day)
            if ended is not None or self.entry(level, day) is not None:
                return ended
        return None

    def _ended(self, code: OrgId, day: date) -> Entry | None:
        """The entry that closed this very code: an open one whose connection is closed, or the last one past."""
        entry = self.entry(code, day)
        if entry is not None:
            return entry if entry.connection is Connection.CLOSED else None
        return next((past for past in reversed(self.history(code)) if past.ended_before(day)), None)


def _index_texts(entries: tuple[Entry, ...]) -> dict[str, OrgId]:
    """Every text to its code. Where two organs claim one text, codes go before old codes and aliases, then the first entry."""
    table = {str(entry.code): entry.code for entry in entries}
    for entry in entries:
        for text in entry.texts():
            table.setdefault(text, entry.code)
    return table


def _group(items: Iterable[_Item], keys: Callable[[_Item], tuple[OrgId, ...]]) -> dict[OrgId, tuple[_Item, ...]]:
    lists: dict[OrgId, list[_Item]] = {}
    for item in items:
        for key in keys(item):
            lists.setdefault(key, []).append(item)
    return {key: tuple(group) for key, group in lists.items()}


def _begins(entry: Entry) -> date:
    return entry.valid_from or date.min


def _refused(reason: Reason, code: OrgId, rule: str = "") -> Refused:
    return Refused(reason, ELEMENT, str(code), rule)


def _overlaps(by_age: tuple[Entry, ...]) -> Iterator[tuple[Entry, Entry]]:
    """Neighbours in age that are open on a common day; if any two entries are, some neighbours are."""
    for older, younger in pairwise(by_age):
        if not older.ended_before(_begins(younger)):
            yield older, younger


def _check_validity(directory: Directory) -> Iterator[str]:
    for entry in directory.entries:
        if not entry.code.path:
            yield f"entry {entry.name!r}: the empty code is the hub's and no organ's"
        if entry.valid_to is not None and entry.valid_to < _begins(entry):
            yield f"entry {entry.code}: valid_to {entry.valid_to} lies before valid_from {entry.valid_from}"
    for code, history in directory.histories():
        for older, younger in _overlaps(history):
            yield f"entry {code}: {older.name!r} and {younger.name!r} are both open on {_begins(younger)}"


def _check_texts(directory: Directory) -> Iterator[str]:
    axis = normalise(directory.axis_code_text)
    owners: dict[str, OrgId] = {}
    for entry in directory.entries:
        for text in entry.texts():
            owner = owners.setdefault(text, entry.code)
            if owner != entry.code:
                yield f"entry {entry.code}: the text {text!r} names {owner} already"
            if text in PLACEHOLDERS:
                yield f"entry {entry.code}: the text {text!r} stands for no code"
            if text == axis:
                yield f"entry {entry.code}: {text!r} is the code of the axis, under which no office receives"


def _check_successors(directory: Directory) -> Iterator[str]:
    for entry in directory.entries:
        if entry.also and entry.successor is None:
            yield f"entry {entry.code}: further successors need a first one"
        for successor in (entry.successor, *entry.also):
            if successor is not None and not directory.history(successor):
                yield f"entry {entry.code}: successor {successor} has no entry"
    following = {code: history[-1].successor for code, history in directory.histories()}
    done: set[OrgId] = set()
    for start in following:
        chain: list[OrgId] = []
        code: OrgId | None = start
        while code is not None and code not in done:
            done.add(code)
            chain.append(code)
            code = following.get(code)
        if code in chain:
            yield f"entry {code}: its successors lead back to it"


def _check_receiving(directory: Directory) -> Iterator[str]:
    for entry in directory.entries:
        if entry.focal_only and not entry.receives_for:
            yield f"entry {entry.code}: focal_only needs receives_for"
        if any(not prefix.path for prefix in entry.receives_for):
            yield f"entry {entry.code}: receives_for names the hub, which would be everybody"
    for prefix, receivers in directory.receivers():
        for older, younger in _overlaps(receivers):
            if older.code != younger.code:
                yield f"entry {younger.code}: {older.code} receives for {prefix} too on {_begins(younger)}"


def _check_nodes(directory: Directory) -> Iterator[str]:
    codes = [node.code for node in directory.nodes]
    if HUB not in codes:
        yield 'node "": a tree has a hub'
    for code, count in Counter(codes).items():
        if count > 1:
            yield f'node "{code}": {count} nodes have this code'
    for node in directory.nodes:
        if (node.parent is None) != (node.code == HUB):
            yield f'node "{node.code}": the hub has no parent and every other node has one'
        elif node.parent is not None and directory.node(node.parent) is None:
            yield f'node "{node.code}": parent "{node.parent}" is no node'
        elif HUB not in directory.line(node.code):
            yield f'node "{node.code}": its parents do not lead to the hub'


def _check_prefixes(directory: Directory) -> Iterator[str]:
    holders: dict[OrgId, OrgId] = {}
    for node in directory.nodes:
        if node.code != HUB and node.code not in node.prefixes:
            yield f'node "{node.code}": its own code must be one of its prefixes'
        for prefix in node.prefixes:
            other = holders.setdefault(prefix, node.code)
            if prefix == HUB:
                yield f'node "{node.code}": the empty prefix is everybody\'s'
            elif other not in directory.line(node.code) and node.code not in directory.line(other):
                yield f'node "{node.code}": prefix {prefix} is held by "{other}", which is neither above nor below it'

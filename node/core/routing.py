"""Table + code -> Deliver | Forward | Refuse: the next hop of one recipient, and nothing else.

The owner of a code is the node that holds its longest prefix, wherever in the tree that node hangs; each table says the same,
seen from its own place, so a package goes up to the first node that has the owner below it, then down. Knows `identifier`,
`directory` and `errors`; nothing of links, of what waits, or of how many tiers there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from node.core.directory import Directory
from node.core.errors import Reason
from node.core.identifier import OrgId


@dataclass(frozen=True, slots=True)
class Deliver:
    """Here: the recipient is served by this very node."""


@dataclass(frozen=True, slots=True)
class Forward:
    """On: to this neighbour, a child or the parent."""

    neighbour: OrgId


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nowhere: final where this node has the last word on the code."""

    reason: Reason


Decision = Deliver | Forward | Refuse

_DELIVER = Deliver()
_UNKNOWN = Refuse(Reason.RECIPIENT_UNKNOWN)


@dataclass(frozen=True, slots=True)
class Child:
    """A node right below, with all prefixes that lead to it: its own and those of every node below it."""

    code: OrgId
    prefixes: tuple[OrgId, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """What one node knows of the way. code: its own; () is the hub. served: organs whose office systems hang on this very node.

    own: its prefixes. parent: None only at the hub. away: prefixes held outside its subtree that are longer than one inside
    it (a unit of this province that hangs on another node).
    """

    code: OrgId
    own: tuple[OrgId, ...]
    served: frozenset[OrgId]
    children: tuple[Child, ...]
    parent: OrgId | None
    away: tuple[OrgId, ...] = ()
    _by_prefix: Mapping[tuple[str, ...], Decision] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_prefix: dict[tuple[str, ...], Decision] = {}
        for child in self.children:
            for prefix in child.prefixes:
                by_prefix.setdefault(prefix.path, Forward(child.code))
        for prefix in self.own:  # covered, but neither served here nor by a child: nobody else can know it
            by_prefix.setdefault(prefix.path, _UNKNOWN)
        if self.parent is not None:
            for prefix in self.away:
                by_prefix.setdefault(prefix.path, Forward(self.parent))
        object.__setattr__(self, "_by_prefix", by_prefix)

    def owns(self, code: OrgId) -> bool:
        """Whether the longest prefix of the code is this very node's."""
        return any(prefix.covers(code) for prefix in self.own) and isinstance(self.longest(code), Refuse)

    def longest(self, code: OrgId) -> Decision:
        """What the longest prefix of the code says; a code under no prefix goes to the parent, and no further than the hub."""
        path = code.path
        for length in range(len(path), 0, -1):
            decision = self._by_prefix.get(path[:length])
            if decision is not None:
                return decision
        return _UNKNOWN if self.parent is None else Forward(self.parent)


def decide(table: Table, recipient: OrgId) -> Decision:
    """The next hop of a package for an organ: an office here, the child that has the longest prefix, or the parent."""
    if recipient in table.served:
        return _DELIVER
    return table.longest(recipient)


def decide_node(table: Table, node_code: OrgId) -> Decision:
    """The next hop of a message for a node itself (a notice); the hub's code is ()."""
    if node_code == table.code:
        return _DELIVER
    return table.longest(node_code)


def table_for(directory: Directory, node_code: OrgId, served: frozenset[OrgId]) -> Table:
    """The table of one node. Raises `ValueError` if the directory has no such node."""
    node = directory.node(node_code)
    if node is None:
        raise ValueError(f'the directory has no node "{node_code}"')
    children = tuple(Child(child.code, _prefixes_below(directory, child.code)) for child in directory.children(node_code))
    inside = {*node.prefixes, *(prefix for child in children for prefix in child.prefixes)}
    away = tuple(prefix for prefix in directory.held_below(inside) if prefix not in inside)
    return Table(node.code, node.prefixes, served, children, node.parent, away)


def _prefixes_below(directory: Directory, code: OrgId) -> tuple[OrgId, ...]:
    """The prefixes of a node and of all nodes below it, each once."""
    waiting, seen = [code], {code}
    prefixes: dict[OrgId, None] = {}
    while waiting:
        node = directory.node(waiting.pop())
        if node is None:
            continue
        prefixes.update(dict.fromkeys(node.prefixes))
        below = [child.code for child in directory.children(node.code) if child.code not in seen]
        seen.update(below)
        waiting.extend(below)
    return tuple(prefixes)

"""A tree of sites as plain values: who hangs under whom, who serves which codes, which office systems are there.

Depth is data: a tier is a label and nothing depends on it. Knows `node.core`; nothing of files, ports or certificates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from node.core.directory import Directory, Entry, NodeEntry
from node.core.identifier import HUB, OrgId

Options = Mapping[str, Mapping[str, object]]
"""Options of `node.config` that a tree sets away from their defaults: section -> key -> value."""


@dataclass(frozen=True, slots=True)
class OfficeSystem:
    """An office system (QLVB&ĐH) at a site. codes: organs it sends for and receives for; networks: where it may call from."""

    id: str
    codes: tuple[OrgId, ...]
    networks: tuple[str, ...] = ()
    all_or_nothing: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """One node of the tree. code: () is the hub; parent: the parent's code, None only for the hub; prefixes: codes it holds."""

    name: str
    code: OrgId
    tier: str
    parent: OrgId | None
    prefixes: tuple[OrgId, ...]
    systems: tuple[OfficeSystem, ...] = ()
    options: Options = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of its folder; it stays when the site is renamed. "h41.07", the hub is "hub"."""
        return str(self.code).lower() or "hub"


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole tree. entries: the organs of the directory, those without an office system here too. options: for every site.

    It may break any law until `topology.check` has looked at it.
    """

    zone: str
    axis_name: str
    axis_code: str
    version: int
    sites: tuple[Site, ...]
    entries: tuple[Entry, ...]
    options: Options = field(default_factory=dict)

    @property
    def hub(self) -> Site:
        return next(site for site in self.sites if site.code == HUB)

    def site(self, code: OrgId) -> Site | None:
        return next((site for site in self.sites if site.code == code), None)

    def children(self, code: OrgId) -> tuple[Site, ...]:
        """The sites right below one, in the order of the file."""
        return tuple(site for site in self.sites if site.parent == code)

    def parents_first(self) -> tuple[Site, ...]:
        """Every site that the hub leads to, level by level; a site in a circle of parents is not among them."""
        below: dict[OrgId, list[Site]] = {}
        for site in self.sites:
            if site.parent is not None:
                below.setdefault(site.parent, []).append(site)
        ordered = [site for site in self.sites if site.parent is None]
        for site in ordered:  # it grows while it is walked
            ordered += below.pop(site.code, [])
        return tuple(ordered)

    def subtree(self, code: OrgId) -> tuple[Site, ...]:
        """A site and all below it, the site first."""
        members = {code}
        found = []
        for site in self.parents_first():
            if site.code == code or site.parent in members:
                members.add(site.code)
                found.append(site)
        return tuple(found)

    def directory(self) -> Directory:
        """The directory every node of this tree gets."""
        nodes = tuple(NodeEntry(site.code, site.name, site.tier, site.parent, site.prefixes) for site in self.sites)
        return Directory(self.entries, nodes, self.axis_name, self.axis_code, self.version)

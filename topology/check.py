"""The laws a tree obeys. Every broken one is a line in Vietnamese that names the site or the organ.

There is no law about depth: a tree of one site is lawful, and so is one of ten tiers. Knows `node.core` and the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from node.core.directory import CONNECTED, Connection
from node.core.identifier import HUB, OrgId, normalise
from topology.model import Site, Tree

RESERVED_FOLDERS = frozenset({"hub", "pki"})
"""Folder names that the hub and the certificate authorities take; no other site may have such a code."""


def check(tree: Tree) -> list[str]:
    """Every broken law, empty when there is none. Laws about routes are asked only of a tree that hangs together."""
    broken = [*_unique(tree), *_roots(tree), *_parents(tree)]
    if not broken:
        for law in (_names, _prefixes, _siblings, _systems, _organs):
            broken += law(tree)
    if not broken:
        broken += [f"danh mục: {problem}" for problem in tree.directory().check()]
    return broken


def _called(site: Site) -> str:
    return f'điểm kết nối "{site.name}" (mã "{site.code}")'


def _repeated(values: Iterable[str]) -> Iterator[str]:
    return (value for value, count in Counter(values).items() if count > 1)


def _unique(tree: Tree) -> Iterator[str]:
    for name in _repeated(site.name for site in tree.sites):
        yield f'tên "{name}" được đặt cho nhiều điểm kết nối — mỗi điểm một tên'
    for code in _repeated(str(site.code) for site in tree.sites):
        yield f'mã "{code}" được đặt cho nhiều điểm kết nối — mỗi điểm một mã'
    for system in _repeated(system.id for site in tree.sites for system in site.systems):
        yield f'hệ thống "{system}" được khai báo nhiều lần — mỗi hệ thống một tên'
    for prefix in _repeated(str(prefix) for site in tree.sites for prefix in site.prefixes):
        yield f'mã phụ trách "{prefix}" được ghi nhiều lần — mỗi mã chỉ ở một điểm kết nối'


def _roots(tree: Tree) -> Iterator[str]:
    roots = [site for site in tree.sites if site.parent is None]
    if len(roots) != 1:
        found = ", ".join(_called(site) for site in roots) or "không có điểm nào"
        yield f"phải có đúng một nút gốc (điểm không ghi parent), đang có: {found}"
    for site in tree.sites:
        if (site.parent is None) != (site.code == HUB):
            yield f'{_called(site)}: nút gốc và chỉ nút gốc có mã rỗng và không ghi parent; điểm dưới nút gốc ghi parent = ""'


def _parents(tree: Tree) -> Iterator[str]:
    codes = {site.code for site in tree.sites}
    reached = {site.code for site in tree.parents_first()}
    for site in tree.sites:
        if site.parent is not None and site.parent not in codes:
            yield f'{_called(site)}: không có điểm kết nối cấp trên mã "{site.parent}"'
        elif site.code not in reached:
            yield f"{_called(site)}: đi theo các cấp trên không tới nút gốc — parent tạo thành vòng hoặc bị đứt"


def _names(tree: Tree) -> Iterator[str]:
    for site in tree.sites:
        if site.code != HUB and site.folder in RESERVED_FOLDERS:
            yield f'{_called(site)}: mã "{site.code}" trùng tên thư mục dành riêng — đổi mã'


def _prefixes(tree: Tree) -> Iterator[str]:
    for site in tree.sites:
        if site.code != HUB and site.code not in site.prefixes:
            yield f"{_called(site)}: mã của chính điểm này phải nằm trong prefixes"


def _siblings(tree: Tree) -> Iterator[str]:
    """Under one parent every code has one way down, whatever hangs deeper."""
    ways = _ways_down(tree)
    owners_below: dict[OrgId | None, dict[OrgId, Site]] = {}
    for child in tree.sites:
        owners_below.setdefault(child.parent, {}).update(dict.fromkeys(ways[child.code], child))
    for owners in owners_below.values():
        for prefix, child in owners.items():
            for above in prefix.upwards():
                other = owners.get(above, child)
                if other.code != child.code:
                    yield f'{_called(child)}: mã phụ trách "{prefix}" nằm trong "{above}" của {_called(other)}'


def _ways_down(tree: Tree) -> Mapping[OrgId, tuple[OrgId, ...]]:
    """Per site the prefixes held by it and by all below it."""
    ways = {site.code: list(site.prefixes) for site in tree.sites}
    for site in reversed(tree.parents_first()):
        if site.parent is not None:
            ways[site.parent] += ways[site.code]
    return {code: tuple(prefixes) for code, prefixes in ways.items()}


def _systems(tree: Tree) -> Iterator[str]:
    holders = {prefix: site for site in tree.sites for prefix in site.prefixes}
    served: dict[OrgId, str] = {}
    for site in tree.sites:
        for system in site.systems:
            for code in system.codes:
                if code in served:  # QĐ 28/2018 Điều 7.3: one focal point for sending and receiving
                    yield f'mã "{code}" được ghi cho hệ thống "{served[code]}" và "{system.id}" — mỗi mã chỉ một lần'
                served[code] = system.id
                holder = next((holders[prefix] for prefix in code.upwards() if prefix in holders), tree.hub)
                if holder.code != site.code:
                    yield f'{_called(site)}: mã "{code}" của hệ thống "{system.id}" thuộc {_called(holder)}'


def _organs(tree: Tree) -> Iterator[str]:
    """Who has an office system is connected, who has none is declared closed, locked or not connected."""
    axis = normalise(tree.axis_code)
    served = {code: system.id for site in tree.sites for system in site.systems for code in system.codes}
    open_codes = {entry.code for entry in tree.entries if entry.valid_to is None}
    for code, system in served.items():
        if normalise(str(code)) == axis:
            yield f'hệ thống "{system}": "{code}" là mã của trục, không cơ quan nào nhận dưới mã đó'
        elif code not in open_codes:
            yield f'hệ thống "{system}": mã "{code}" không có trong organs hoặc đã hết hiệu lực'
    for entry in tree.entries:
        if entry.valid_to is None and entry.connection in CONNECTED and entry.code not in served:
            yield f'cơ quan "{entry.code}" ghi {entry.connection} nhưng không hệ thống nào nhận cho mã này'
        if entry.code in served and entry.valid_to is None and entry.connection in (Connection.NONE, Connection.CLOSED):
            yield f'cơ quan "{entry.code}" ghi {entry.connection} nhưng hệ thống "{served[entry.code]}" nhận cho mã này'

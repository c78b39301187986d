"""What is to be said of the directory: the difference between two, as rows that count, in changes that are not too large.

Knows `changes` and the directory; nothing of who says it, of keys or of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from node.core.changes import (
    CHANGE_BYTES_MAX,
    NUMBER_MAX,
    ROWS_MAX,
    Books,
    Change,
    CodeRow,
    Folded,
    Head,
    NodeRow,
    Said,
    encode,
)
from node.core.directory import Directory, Entry, NodeEntry
from node.core.identifier import OrgId


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the directory should say: nodes (None: gone) and histories of codes (none: withdrawn)."""

    nodes: Mapping[OrgId, NodeEntry | None] = field(default_factory=dict)
    codes: Mapping[OrgId, tuple[Entry, ...]] = field(default_factory=dict)


def wanted_by(before: Directory, after: Directory) -> Wanted:
    """What an editor of a whole directory has changed."""
    nodes: dict[OrgId, NodeEntry | None] = {node.code: node for node in after.nodes if before.node(node.code) != node}
    nodes.update((node.code, None) for node in before.nodes if after.node(node.code) is None)
    codes = {code: entries for code, entries in after.histories() if before.history(code) != entries}
    codes.update((code, ()) for code, _ in before.histories() if not after.history(code))
    return Wanted(nodes, codes)


def additions(before: Directory, after: Directory) -> Wanted:
    """Of those, only nodes and codes of which nothing was said before."""
    whole = wanted_by(before, after)
    return Wanted(
        {code: node for code, node in whole.nodes.items() if node is not None and before.node(code) is None},
        {code: entries for code, entries in whole.codes.items() if not before.history(code)},
    )


def rows_for(wanted: Wanted, folded: Folded | None) -> tuple[tuple[NodeRow, ...], tuple[CodeRow, ...]]:
    """Rows that say what is wanted, each above what counts now; what is so already is not said again."""
    nodes = tuple(
        NodeRow(code, _revision(folded.nodes if folded else {}, code), node)
        for code, node in wanted.nodes.items()
        if folded is None or folded.directory.node(code) != node
    )
    codes = tuple(
        CodeRow(code, _revision(folded.codes if folded else {}, code), entries)
        for code, entries in wanted.codes.items()
        if folded is None or folded.directory.history(code) != entries
    )
    return nodes, codes


def _revision(said: Mapping[OrgId, Said], code: OrgId) -> int:
    """Above what counts; where there is nothing above, a superior's word counts with the same one."""
    known = said.get(code)
    return 1 if known is None else min(known.revision + 1, NUMBER_MAX)


def portions(change: Change, nodes: Sequence[NodeRow], codes: Sequence[CodeRow]) -> Iterator[Change]:
    """The rows of an act in as many changes as it takes; number and `before` are right only for the first."""
    rows: list[NodeRow | CodeRow] = [*nodes, *codes]
    whole = replace(change, nodes=tuple(nodes), codes=tuple(codes))
    if len(rows) <= ROWS_MAX and (len(rows) < 2 or len(encode(whole)) <= CHANGE_BYTES_MAX // 2):
        if rows or change.calendar:
            yield whole
        return
    cut = ROWS_MAX if len(rows) > ROWS_MAX else len(rows) // 2
    for part, begun in ((rows[:cut], change), (rows[cut:], replace(change, axis=None, calendar=()))):
        named = [row for row in part if isinstance(row, NodeRow)]
        yield from portions(begun, named, [row for row in part if isinstance(row, CodeRow)])


def new_problems(before: Directory | None, after: Directory) -> list[str]:
    """Laws that a directory would break and the one before it does not."""
    known = frozenset(before.check()) if before is not None else frozenset()
    return [problem for problem in after.check() if problem not in known]


def outside(folded: Folded, author: OrgId, codes: Iterable[OrgId]) -> list[OrgId]:
    """Of these the codes that the author does not administer."""
    return [code for code in codes if not folded.may(author, code)]


def witnessed(books: Books, folded: Folded | None, nodes: Iterable[NodeRow]) -> tuple[tuple[OrgId, Head], ...]:
    """How far the authors have been heard from whom these rows take something. What was taken before, and is only said again, is
    vouched for as far as it was then."""
    found: dict[OrgId, Head] = {}
    for row in nodes:
        kept = row.node.prefixes if row.node is not None else ()
        lost = [grant for grant in (folded.grants.get(row.code, ()) if folded is not None else ()) if grant.prefix not in kept]
        then = [grant.seen for grant in lost if grant.seen is not None]
        if any(grant.until_ms is None for grant in lost):
            found[row.code] = books.head(row.code) or Head(0, 0)
        elif then:
            found[row.code] = max(then)
    return tuple(found.items())

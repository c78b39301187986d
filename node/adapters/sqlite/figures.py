"""Sums of what statements say: by day, by part of a month, by quarter, and of pairs over all time; changed by the difference when a
version replaces another, so that they are exact whatever comes late or moves.

Functions of the first half are called only inside the writer; queries run on a reader. What a report costs depends on organs and
nodes, hardly on days, never on documents.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import islice

from node.core.counting import ROAD, organ_subject, pair_subject, spans_of
from node.core.identifier import HUB, OrgId
from node.core.report import Found
from node.core.statement import Counts, Figure, HeldDays, Refusal, Statement, Version, minus, plus

CLAIM = "s"
"""The subtree as a child of this node claims it."""
DAYS = "d"
"""How many days a node has stated, and how many of them are final."""
EVER, LAST = "*", "="
NOBODY = "-"
EVERYBODY = "*"
"""Stands for all nodes where nobody asks which."""
PARSED = 1000
"""Counts read in one go."""


def change(db: sqlite3.Connection, old: Statement | None, new: Statement | None) -> None:
    """Take a statement's figures out of the sums, and add those that replace them."""
    either = new or old
    assert either is not None
    (own,) = db.execute("SELECT value FROM meta WHERE key='node'").fetchone()
    before, after = _subjects(old, own), _subjects(new, own)
    if old is not None and new is not None and old.parent == new.parent:
        differences = {subject: minus(after.get(subject, {}), before.get(subject, {})) for subject in {**before, **after}}
        parts: list[tuple[OrgId | None, Mapping[str, Counts]]] = [(new.parent, differences)]
    else:
        parts = []
        if old is not None:
            parts.append((old.parent, {subject: minus({}, counts) for subject, counts in before.items()}))
        if new is not None:
            parts.append((new.parent, after))
    spans = spans_of(either.day)
    for parent, changes in parts:
        above = NOBODY if parent is None else str(parent)
        for subject, counts in changes.items():
            if not counts:
                continue
            if subject[0] == "p":
                _add(db, EVER, subject, EVERYBODY, NOBODY, counts)
                continue
            for span in spans:
                _add(db, span, subject, str(either.node), above, counts)


def _subjects(statement: Statement | None, own: str) -> dict[str, Counts]:
    if statement is None:
        return {}
    return {
        **{organ_subject(organ): counts for organ, counts in statement.organs.items()},
        **{pair_subject(pair): counts for pair, counts in statement.pairs.items()},
        ROAD: statement.road,
        DAYS: plus({"days": 1, "final": int(statement.final)}),
        CLAIM: statement.subtree if statement.parent is not None and str(statement.parent) == own else {},
    }


def _add(db: sqlite3.Connection, span: str, subject: str, node: str, parent: str, counts: Counts) -> None:
    key = (span, subject, node, parent)
    row = db.execute("SELECT counts FROM figure WHERE span=? AND subject=? AND node=? AND parent=?", key).fetchone()
    total = plus(json.loads(row[0]) if row else {}, counts)
    if total:
        db.execute("INSERT OR REPLACE INTO figure VALUES (?,?,?,?,?)", (*key, as_json(total)))
    elif row:
        db.execute("DELETE FROM figure WHERE span=? AND subject=? AND node=? AND parent=?", key)


def put_stock(db: sqlite3.Connection, statement: Statement | None, node: str) -> None:
    """What there was of each pair at a node, as its last statement says; None: it has none here any more."""
    db.execute("DELETE FROM figure WHERE span=? AND node=?", (LAST, node))
    if statement is not None:
        for pair, counts in statement.stock.items():
            _add(db, LAST, pair_subject(pair), node, NOBODY, counts)


def as_json(counts: Counts) -> str:
    return json.dumps(counts, sort_keys=True, separators=(",", ":"))


# reports


def found(db: sqlite3.Connection, spans: Sequence[str], first: date, last: date) -> Found:
    """All that a report over these spans, which are exactly [first..last], is made of; as it is in one moment of the store."""
    db.execute("BEGIN")
    try:
        nodes = _nodes(db, last)
        figures, days = _figures(db, spans)
        none = (0, 0)
        held = {node: HeldDays(*days.get(node, none), since) for node, (since, _) in nodes.items()}
        above = {node: parent for node, (_, parent) in nodes.items()}
        return Found(figures, _pairs(db), held, above, _refused(db, first, last))
    finally:
        db.execute("COMMIT")


def _nodes(db: sqlite3.Connection, last: date) -> dict[OrgId, tuple[date, OrgId | None]]:
    """Every node that ever stated a day: since when, and under whom it hung in the end."""
    rows = db.execute(
        "WITH RECURSIVE nodes(code) AS (SELECT min(node) FROM statement UNION ALL"
        " SELECT (SELECT min(node) FROM statement WHERE node>nodes.code) FROM nodes WHERE nodes.code IS NOT NULL)"
        " SELECT code,(SELECT min(day) FROM statement WHERE node=code),"
        "(SELECT coalesce(parent,?2) FROM statement WHERE node=code AND day<=?1 ORDER BY day DESC LIMIT 1)"
        " FROM nodes WHERE code IS NOT NULL",
        (last.isoformat(), NOBODY),
    )
    return {
        OrgId.canonical(code): (date.fromisoformat(since), None if parent in (None, NOBODY) else OrgId.canonical(parent))
        for code, since, parent in rows
    }


def _figures(db: sqlite3.Connection, spans: Sequence[str]) -> tuple[list[Figure], dict[OrgId, tuple[int, int]]]:
    """By subject, node and parent the node hung under; and the days that each node has stated, and those that are final."""
    texts: dict[tuple[str, str, str], list[str]] = {}
    for span in spans:
        for subject, node, parent, counts in db.execute(
            "SELECT subject,node,parent,counts FROM figure WHERE span=?1 AND (subject<'p' OR subject=?2 OR"
            " (subject=?3 AND parent=(SELECT value FROM meta WHERE key='node')))",
            (span, ROAD, CLAIM),
        ):
            texts.setdefault((subject, node, parent), []).append(counts)
    figures: list[Figure] = []
    days: dict[OrgId, tuple[int, int]] = {}
    for (subject, node, parent), counts in zip(texts, _added(texts.values()), strict=True):
        code = OrgId.canonical(node)
        if subject == DAYS:
            stated, final = days.get(code, (0, 0))
            days[code] = (stated + counts.get("days", 0), final + counts.get("final", 0))
        else:
            figures.append(Figure(subject, code, None if parent == NOBODY else OrgId.canonical(parent), counts))
    return figures, days


def _added(groups: Iterable[Sequence[str]]) -> Iterable[Counts]:
    """Each group of JSON objects, added. Many are read at once: by themselves they take as long again."""
    waiting = iter(groups)
    while some := list(islice(waiting, PARSED)):
        read = iter(json.loads(f"[{','.join([text for texts in some for text in texts])}]"))
        for texts in some:
            total = next(read)
            for _ in texts[1:]:
                for key, number in next(read).items():
                    total[key] = total.get(key, 0) + number
            yield total


def _pairs(db: sqlite3.Connection) -> list[Figure]:
    """Pairs over all time, and what there was of each at last."""
    rows = db.execute("SELECT subject,counts FROM figure WHERE span IN (?,?)", (EVER, LAST)).fetchall()
    return [
        Figure(subject, HUB, None, counts) for (subject, _), counts in zip(rows, _added([text] for _, text in rows), strict=True)
    ]


def _refused(db: sqlite3.Connection, first: date, last: date) -> list[Refusal]:
    rows = db.execute(
        "SELECT node,day,epoch,n,reason FROM statement_refused WHERE day BETWEEN ? AND ? ORDER BY day,node,reason",
        (first.isoformat(), last.isoformat()),
    )
    return [
        Refusal(OrgId.canonical(node), date.fromisoformat(day), Version(epoch, n), reason) for node, day, epoch, n, reason in rows
    ]


def heard(db: sqlite3.Connection, since: date) -> dict[OrgId, date]:
    """The last day on which an organ did something itself: sent, collected, said a status. What merely arrived for it is no sign."""
    rows = db.execute(
        "SELECT substr(subject,2),max(span) FROM figure WHERE span>=? AND length(span)=10 AND subject GLOB 'o*' AND"
        """ (counts LIKE '%"sent%' OR counts LIKE '%"received%' OR counts LIKE '%"statuses%') GROUP BY subject""",
        (since.isoformat(),),
    )
    return {OrgId.canonical(organ): date.fromisoformat(day) for organ, day in rows}

"""What a store owes a report: sums of statements that are exact whatever replaces, moves or comes late, asked over any days."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from node.adapters.sqlite import migrate
from node.core.counting import spans
from node.core.identifier import HUB, OrgId
from node.core.report import Found
from node.core.statement import Counts, Pair, SignedStatement, Statement, Version, encode_statement, plus
from tests.contracts.opened import Opened
from tests.making import H41, H54, org

UNIT, OTHER = org("H41.07"), org("H41.12")
START = date(2027, 12, 1)
DAYS = 130
"""Over New Year, the 29th of February, and the first quarters of both calendars."""


def statement(node: OrgId, day: date, n: int, parent: OrgId, rng: random.Random) -> SignedStatement:
    some = (node, org(f"{node}.99"))[: rng.randint(0, 2)]
    organs = {each: {"sent": rng.randint(1, 9), f"sent_type.{rng.choice('ab')}": 1} for each in some}
    said = Statement(
        node=node,
        day=day,
        version=Version(1, n),
        final=bool(n % 2),
        made_ms=0,
        bound_ms=0,
        synchronised=True,
        key="0" * 64,
        parent=parent,
        organs=organs,
        pairs={Pair.of(node, H54): {"sent": rng.randint(1, 5)}} if n % 3 else {},
        stock={Pair.of(node, H54): {"moving": n}} if n % 2 else {},
        road={"held": 1} if n % 5 == 0 else {},
        subtree=plus(*organs.values()),
    )
    return SignedStatement(encode_statement(said), b"made up", said)


def came(rng: random.Random) -> list[SignedStatement]:
    """Days out of order, some left out, some stated again; a unit hangs elsewhere from some day on, and states old days anew."""
    found = []
    for node in (UNIT, OTHER, H54):
        for passed in rng.sample(range(DAYS), DAYS // 6):
            day = START + timedelta(passed)
            for n in sorted(rng.sample(range(1, 9), rng.randint(1, 3))):
                parent = HUB if node == H54 else H54 if node == UNIT and (passed > 60 or n > 6) else H41
                found.append((n + rng.random(), statement(node, day, n, parent, rng)))
    return [each for _, each in sorted(found, key=lambda each: each[0])]


def latest(statements: Iterable[SignedStatement]) -> list[Statement]:
    found: dict[tuple[OrgId, date], Statement] = {}
    for each in statements:
        key = (each.statement.node, each.statement.day)
        if key not in found or each.statement.version > found[key].version:
            found[key] = each.statement
    return list(found.values())


def told(found: Found) -> dict[tuple[str, str, str | None], Counts]:
    keys = [(each.subject, str(each.node), None if each.parent is None else str(each.parent)) for each in found.figures]
    return dict(zip(keys, (each.counts for each in found.figures), strict=True))


def expected(statements: Sequence[Statement], first: date, last: date) -> dict[tuple[str, str, str | None], Counts]:
    """The same by adding what every statement says."""
    found: dict[tuple[str, str, str | None], dict[str, int]] = {}
    for each in statements:
        parts = {f"o{organ}": counts for organ, counts in each.organs.items()} | {"r": each.road}
        if each.parent == H41:
            parts["s"] = each.subtree
        for subject, counts in parts.items():
            if first <= each.day <= last and counts:
                key = (subject, str(each.node), None if each.parent is None else str(each.parent))
                found[key] = plus(found.get(key, {}), counts)
    return dict(found)


def check(found: Found, statements: Sequence[Statement], first: date, last: date) -> None:
    assert told(found) == expected(statements, first, last), (first, last)
    for node, held in found.held.items():
        mine = [each for each in statements if each.node == node]
        within = [each for each in mine if first <= each.day <= last]
        assert (held.days, held.final) == (len(within), sum(each.final for each in within))
        assert held.since == min(each.day for each in mine)
        before = max((each for each in mine if each.day <= last), key=lambda each: each.day, default=None)
        assert found.above[node] == (None if before is None else before.parent)
    assert set(found.held) == {each.node for each in statements}
    stock = [max((e for e in statements if e.node == node), key=lambda e: e.day).stock for node in found.held]
    pairs = [counts for each in (*(said.pairs for said in statements), *stock) for counts in each.values()]
    assert plus(*(each.counts for each in found.ever)) == plus(*pairs)


RANGES = [(date(2027, 12, 15), date(2028, 3, 14)), (date(2028, 1, 1), date(2028, 3, 31)), (date(2028, 2, 29), date(2028, 2, 29))]
RANGES += [(START, START + timedelta(DAYS)), (date(2027, 12, 20), date(2028, 3, 2)), (date(2029, 1, 1), date(2029, 12, 31))]


async def test_sums_are_exact_whatever_replaces_moves_or_comes_late(at: Opened) -> None:
    """QĐ 28/2018 Điều 11: three months are a quarter, in both calendars."""
    numbers, statements = at.store.numbers, came(random.Random(11))
    for place in range(0, len(statements), 20):
        await numbers.receive(statements[place : place + 20], [], {}, H41)
    kept = latest(statements)
    for first, last in RANGES:
        check(await numbers.found(spans(first, last), first, last), kept, first, last)
    gone = next(each for each in kept if each.node == OTHER)
    await numbers.drop_departed(OTHER, gone.day)
    check(await numbers.found(spans(*RANGES[3]), *RANGES[3]), [each for each in kept if each is not gone], *RANGES[3])


async def test_what_an_older_store_has_summed_is_summed_by_quarter_too(at: Opened) -> None:
    """Migration 0012, on sums as they were before it."""
    statements = came(random.Random(5))
    await at.store.numbers.receive(statements, [], {}, H41)
    kept = latest(statements)
    before = at.rows("SELECT * FROM figure WHERE span<>'*' ORDER BY 1,2,3,4")

    def older(db: Any) -> None:
        db.execute("DELETE FROM figure WHERE length(span)=7 OR subject='d' OR span='*'")
        for each in kept:
            for pair, counts in each.pairs.items():
                for span in (each.day.isoformat(), "*"):
                    key = (span, f"p{pair}", str(each.node), str(each.parent))
                    where = "span=? AND subject=? AND node=? AND parent=?"
                    row = db.execute(f"SELECT counts FROM figure WHERE {where}", key).fetchone()
                    total = plus(counts, json.loads(row[0]) if row else {})
                    db.execute("INSERT OR REPLACE INTO figure VALUES (?,?,?,?,?)", (*key, json.dumps(total)))
            if each.parent != H41:
                claim = (each.day.isoformat(), "s", str(each.node), str(each.parent), '{"sent":1}')
                db.execute("INSERT INTO figure VALUES (?,?,?,?,?)", claim)
        script = next(Path(migrate.__file__).parent.glob("migrations/0012_*.sql")).read_text()
        for one in migrate.statements(script):
            db.execute(one)

    await at.writer.run(older)
    assert at.rows("SELECT * FROM figure WHERE span<>'*' ORDER BY 1,2,3,4") == before
    for first, last in RANGES[:4]:
        check(await at.store.numbers.found(spans(first, last), first, last), kept, first, last)

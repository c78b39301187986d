"""A quarter over ten thousand organs at the hub, as a user waits for it: `a_quarter_of_many_organs.py --nodes 1000 --each 10`.

The hub's database gets a statement of every node for every day of the last quarter, by the store's own transactions, their
signatures made up; then the real hub is started on it and asked as everybody asks: `truc report quarter --json`, the admin
listener behind it, and `/api/v1/statistics`. Prints one JSON line: wall seconds of each call, CPU seconds of the hub for each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from node.adapters.directory_file import load
from node.adapters.sqlite.connection import open_writer
from node.adapters.sqlite.migrate import migrate
from node.adapters.sqlite.numbers import receive
from node.adapters.sqlite.writer import Stamp, Transaction
from node.core import instant
from node.core.directory import Connection, Directory, Entry, NodeEntry
from node.core.identifier import HUB, OrgId
from node.core.periods import Kind, around
from node.core.statement import Pair, SignedStatement, Statement, Version, delay_counts, encode_statement, plus
from topology.local import Sandbox
from topology.native import basic
from topology.processes import cpu_s
from topology.render import Place, directory_text

PROVINCES = 50
SYSTEM = "vpcp"
TREE = f"""zone = "do.truc.internal"
[axis]
name = "Trục đo"
code = "TRUC"
[[sites]]
name = "Nút gốc"
code = ""
prefixes = []
[[sites.systems]]
id = "{SYSTEM}"
codes = ["G22"]
[[organs]]
code = "G22"
name = "Văn phòng Chính phủ"
connection = "chinh-thuc"
"""


def codes(nodes: int) -> Iterator[tuple[OrgId, OrgId]]:
    """(node, parent): provinces below the hub, the others below them in turn."""
    for number in range(nodes):
        province = OrgId.canonical(f"H{number % PROVINCES + 10}")
        yield (province, HUB) if number < PROVINCES else (OrgId((*province.path, f"{number // PROVINCES:03}")), province)


def organs(node: OrgId, each: int) -> list[OrgId]:
    return [node, *(OrgId((*node.path, f"{900 + number}")) for number in range(1, each))]


def directory(nodes: int, each: int, before: Directory) -> Directory:
    tree = [NodeEntry(code, f"Nút {code}", "đơn vị", parent, (code,)) for code, parent in codes(nodes)]
    entries = [
        Entry(organ, f"Cơ quan {organ}", connection=Connection.OFFICIAL) for node in tree for organ in organs(node.code, each)
    ]
    return replace(before, nodes=(*before.nodes, *tree), entries=(*before.entries, *entries), version=before.version + 1)


def statements(nodes: int, each: int, day: date, rng: random.Random) -> Iterator[SignedStatement]:
    """One of each node, with what a busy commune counts in a day; claims of provinces are those of what hangs below them."""
    below: dict[OrgId, dict[str, int]] = {}
    made = []
    for node, parent in codes(nodes):
        counts = {organ: _counts(rng) for organ in organs(node, each)}
        own = plus(*counts.values())
        below[node] = plus(below.get(node, {}), own)
        if parent != HUB:
            below[parent] = plus(below[parent], own)
        other = OrgId.canonical(f"H{rng.randrange(PROVINCES) + 10}")
        pairs = {Pair.of(node, other): {"sent": 9, "collected": 9}}
        made.append((node, parent, counts, pairs))
    for node, parent, counts, pairs in made:
        statement = Statement(
            node=node,
            day=day,
            version=Version(1, 1),
            final=True,
            made_ms=instant.start_ms(day + timedelta(1)),
            bound_ms=10,
            synchronised=True,
            key="0" * 64,
            parent=parent,
            organs=counts,
            pairs=pairs,
            subtree=below[node],
            nodes=1,
        )
        yield SignedStatement(encode_statement(statement), b"made up", statement)


def _counts(rng: random.Random) -> dict[str, int]:
    sent = rng.randint(1, 30)
    plain = {"sent": sent, "sent_deliveries": 4 * sent, "received": 3 * sent, "arrived": 3 * sent, "statuses_sent": 5 * sent}
    plain |= {"sent_on_time": sent, "sent_electronic_only": sent, "sent_indeterminate": sent, "sent_flawless": sent}
    plain |= {"sent_type.cong-van": sent, "sent_type.quyet-dinh": 1, "sent_priority.1": 1, "acknowledged_same_day": 2 * sent}
    return plus(plain, *(delay_counts(rng.randint(200, 3_600_000)) for _ in range(6)))


async def seed(path: Path, nodes: int, each: int, days: Sequence[date]) -> None:
    path.touch(mode=0o600)
    connection = await open_writer(path, 60_000)
    stamp = Stamp(instant.start_ms(days[-1]), 10, True)
    rng = random.Random(7)

    def work(db: Any) -> None:
        migrate(db)
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA cache_size=-1000000")
        db.execute("INSERT OR IGNORE INTO meta VALUES ('node','')")
        for day in days:
            db.execute("BEGIN")
            receive(Transaction(db), list(statements(nodes, each, day, rng)), OrgId.canonical("H10"), stamp)
            db.execute("COMMIT")
        db.execute("DELETE FROM recount")

    try:
        await connection.run(work)
    finally:
        await connection.close()


def asked(url: str, headers: dict[str, str]) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # whose answer it is does not matter here
    request = urllib.request.Request(url, headers=headers)
    with closing(urllib.request.urlopen(request, context=context if url.startswith("https") else None)) as answer:
        return len(json.loads(answer.read())["rows"])


def measure(root: Path, nodes: int, each: int, days: int, runs: int) -> dict[str, Any]:
    period = around(Kind.QUARTER, around(Kind.QUARTER, date.fromisoformat(time.strftime("%Y-%m-%d"))).first - timedelta(1))
    tree = root / "tree.toml"
    tree.write_text(TREE)

    def lay(places: Sequence[Place]) -> None:
        (place,) = places
        file, database = place.settings.node.directory, place.settings.node.data_dir / "node.db"
        if not database.exists():  # what is there from another run serves again
            file.write_text(directory_text(directory(nodes, each, load(file))))
            asyncio.run(seed(database, nodes, each, list(period.days())[-days:]))

    sandbox = Sandbox(root / "sandbox", tree)
    try:
        began_s = time.monotonic()
        (hub,) = sandbox.start(lay)["nodes"]
        found: dict[str, Any] = {"nodes": nodes, "organs": nodes * each, "days": days}
        found["prepared_s"] = round(time.monotonic() - began_s, 1)
        time.sleep(5)
        (system,) = hub["systems"]
        query = f"kind=quarter&period={period.key}"
        secret = {"Authorization": basic(system["id"], system["secret"])}
        command = [sys.executable, "-m", "node", "report", "quarter", period.key, "--json", "--config", hub["config"]]

        def told() -> int:
            return len(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()) - 1

        calls: dict[str, Callable[[], int]] = {
            "command": told,
            "admin": lambda: asked(f"{hub['admin']}/api/report?{query}", _desk(hub)),
            "statistics": lambda: asked(f"{hub['public']}/api/v1/statistics?{query}", secret),
        }
        for name, call in calls.items():
            times, cpus = [], []
            for _ in range(runs):
                before, start_s = cpu_s(hub["pid"]), time.monotonic()
                found["rows"] = call()
                times.append(round(time.monotonic() - start_s, 3))
                cpus.append(round(cpu_s(hub["pid"]) - before, 3))
            found[f"{name}_s"], found[f"{name}_cpu_s"] = sorted(times), sorted(cpus)
        found["store_mb"] = round(sum(p.stat().st_size for p in Path(hub["data"]).glob("node.db*")) / 1e6)
        return found
    finally:
        sandbox.stop()


def _desk(hub: dict[str, Any]) -> dict[str, str]:
    """Who may read the node's folder may ask its desk."""
    return {"Authorization": f"Bearer {(Path(hub['data']) / 'admin.token').read_text().strip()}"}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--nodes", type=int, default=1000)
    arguments.add_argument("--each", type=int, default=10, help="organs of each node")
    arguments.add_argument("--days", type=int, default=92, help="so many last days of the quarter are stated")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--dir", type=Path, help="keep everything here")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONHASHSEED", None)
        print(json.dumps(measure(given.dir or Path(folder), given.nodes, given.each, given.days, given.runs)))

"""What happened in a rehearsal, for people: each node's history of a package put together, tables, and where everything is.

Knows the admin listener's answers and the words; nothing of how a rehearsal is played.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.core.instant import iso
from node.core.words import label, visible
from topology.office import Rehearsal

PLAIN_COLUMNS = 10_000
"""Width where the output is no terminal: nothing is cut."""
HUB = "gốc"
BETWEEN_NODES = ("taken", "handed-over", "in-mailbox", "refused", "repeated", "come-back")
"""Events that name a recipient and a neighbour; an empty code is the hub."""


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """What one node did at one instant; the recipients it did it for stand together."""

    at_ms: int
    node: str
    what: str
    neighbour: str


async def history(rehearsal: Rehearsal, doc_id: str) -> list[tuple[str, ...]]:
    """A row for each thing that any node did with one package or with the notice of its end, in order of time: instant, node,
    what, recipients, neighbour or office system. Raises `CallFailed`."""
    traced = [
        (node["code"] or HUB, event)
        for node in rehearsal.nodes
        for event in (await rehearsal.ask(node, "/api/trace", key=doc_id))["events"]
        if event["doc_id"] == doc_id  # what answers a document names it too, and is a package of its own
    ]
    own = {event["envelope"] for _, event in traced if event["event"] == "accepted"}
    found: dict[Event, list[str]] = {}
    for node, event in traced:
        happened = Event(event["at_ms"], node, _what(event, own), _place(event, event["neighbour"]))
        found.setdefault(happened, []).append(_place(event, event["recipient"]))
    return [(iso(each.at_ms), each.node, each.what, " ".join(found[each]), each.neighbour) for each in sorted(found)]


def _what(event: Mapping[str, Any], own: set[str]) -> str:
    what = label("event", event["event"])
    if event["envelope"] not in own:
        return f"[thông báo] {what}"
    if event["event"] == "status":
        return f"{what}: {event['reason']} {label('status', event['reason'])}"
    if event["detail"].startswith("at="):  # a notice has come home
        return f"nút của Bên gửi biết: {what}"
    return what


def _place(event: Mapping[str, Any], code: str) -> str:
    return code or (HUB if event["event"] in BETWEEN_NODES else "")


def show_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """On stdout, with lines and bold on a terminal, plain and whole elsewhere."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console = Console(file=sys.stdout, width=None if terminal else PLAIN_COLUMNS, highlight=False)
    console.print(Text(f"\n{title}", style="bold"))
    console.print(table)


def show_addresses(ready: Mapping[str, Any]) -> None:
    """Where everything is; secrets by their files only."""
    print(f"Chứng thư gốc của cây: {ready['ca']}")
    for node in ready["nodes"]:
        folder = Path(node["config"]).parent
        print(f"\n{node['name']} [{node['code'] or 'nút gốc'}]")
        print(f"  VXP: {node['public']}/vxp")
        for system in node["systems"]:
            print(f"  hệ thống {system['id']}: {', '.join(system['codes'])} (khóa bí mật: {folder / 'systems.json'})")
        print(f"  quản trị: {node['admin']} (mã truy cập: {Path(node['data']) / 'admin.token'})")
        print(f"  truc status --config {node['config']}")
    sys.stdout.flush()

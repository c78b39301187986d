"""How a node's reports are put together: whose they are, by which periods, and where they are laid. Called by `app.py`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from node import config
from node.adapters.bodies.files import HostFiles
from node.core.directory import Directory
from node.core.identifier import OrgId
from node.core.periods import Rule
from node.core.report_document import Document, Place
from node.core.tally import Tally
from node.deliverer import Deliverer
from node.ports import Clock, Store
from node.reports import Ask, Reports


def reports(
    settings: config.NodeConfig, code: OrgId, ask: Ask, store: Store, clock: Clock, directory: Callable[[], Directory]
) -> Reports:
    place = Place(code, settings.node.name, settings.node.tier)
    return Reports(place, ask, store.numbers.heard, clock, directory, Rule(settings.report.periods))


def deliverer(
    settings: config.NodeConfig, made: Reports, clock: Clock, tally: Tally, files: HostFiles
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """The loop that lays reports into `report.deliver`; none where that is not set."""
    folder = settings.report.deliver
    if folder is None:
        return []

    async def write(name: str, document: Document) -> bool:
        return await files.do(lambda: _deliver(folder, name, document))

    return [Deliverer(made.of, write, clock, Rule(settings.report.periods), tally).run]


def _deliver(folder: Path, name: str, document: Document) -> bool:
    from node.adapters.reports.folder import deliver  # spreadsheets and pages are loaded where they are wanted

    return deliver(folder, name, document)

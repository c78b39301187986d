"""The nodes right below, put together from the configuration: who may call, and the door for those who have yet to join.

A part of the composition root. Knows the adapters of trust and the configuration; nothing of what a child sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from node import config
from node.adapters.bodies.files import HostFiles
from node.adapters.enrolment import Enrolment, Newcomers, Run
from node.adapters.http import tls
from node.adapters.http.link_enrol import NewcomersDoor
from node.adapters.issuing import Issuing
from node.adapters.peers import Peers
from node.core.identifier import OrgId
from node.ports import Clock

T = TypeVar("T")


class OnThread:
    """Work on the thread of these files. Who hangs up interrupts nothing: what was begun is finished."""

    def __init__(self, files: HostFiles) -> None:
        self._files = files

    async def __call__(self, work: Callable[[], T]) -> T:
        return await asyncio.shield(self._files.do(work))


def registered(settings: config.NodeConfig, meet: Callable[[OrgId], None]) -> Peers:
    """Who may call from below: declared in the configuration, or enrolled. meet: hears of each, now and as they come.
    `BadFile` where the peers file cannot be used."""
    declared = ((OrgId.canonical(child.code), child.pins) for child in settings.link.children)
    zone = settings.node.zone
    peers = Peers(settings.link.peers, zone, tls.registered(declared, zone), meet)
    for code in peers.codes():
        meet(code)
    return peers


def newcomers(
    settings: config.NodeConfig, clock: Clock, peers: Peers, run: Run, refresh: Callable[[], None]
) -> NewcomersDoor | None:
    """The door for nodes that have no certificate yet; None where this node enrols nobody. refresh: reads the directory again."""
    link = settings.link
    if link.peers is None or link.authority is None:
        return None
    code, zone = OrgId.canonical(settings.node.code), settings.node.zone
    declared = frozenset(OrgId.canonical(child.code) for child in link.children)
    issuing = Issuing(link.authority, zone, code)
    own_files = (link.certificate, link.trust, settings.node.directory)
    enrolment = Enrolment(code, zone, link.peers, issuing, own_files, declared)

    def granted() -> None:
        refresh()
        peers.codes()  # read again: the newcomer calls at once

    return NewcomersDoor(Newcomers(enrolment, run, clock.utc_ms, granted).answer)

"""Who may speak for whom: what a child presents, for which organs an origin signs, who may say how a delivery ended.

Decisions over one table and one directory; whether a signature is good is for others to find out. Knows `directory`, `routing`
and what travels; nothing of keys or of links.
"""

from __future__ import annotations

from datetime import date

from node.core.custody import EndOf
from node.core.directory import Directory
from node.core.envelope import KIND_NOTICE, Header
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.routing import Forward, Table, decide_node


def presents(table: Table, header: Header, neighbour: OrgId) -> bool:
    """Whether this is the neighbour's to present: the parent's is everything, a child's what its own subtree originates.
    # QĐ 28/2018 Điều 13.2"""
    if neighbour == table.parent:
        return True
    mine = Forward(neighbour)
    speaks = decide_node(table, header.sender) if header.kind == KIND_NOTICE else table.longest(header.sender)
    return speaks == mine and decide_node(table, header.origin) == mine


def may_carry(directory: Directory, header: Header, neighbour: OrgId) -> bool:
    """Whether it may come from a child whose subtree it is not of today: the child is its origin, or a node that its origin ever
    hung below, which took it while it did; or the child's branch ever hung elsewhere, and still carries what came down there. The
    child's word is not enough for that: the origin's own signature has to be looked at. On this way an origin speaks only for
    organs whose node it is: a province not for a unit that has left it."""
    itself = header.sender if header.kind == KIND_NOTICE else directory.owner(header.sender)
    if itself != header.origin or directory.node(header.origin) is None:
        return False
    return neighbour in directory.ever_above(header.origin) or directory.ever_elsewhere(neighbour)


def signs_for(directory: Directory, header: Header, now_ms: int, lifetime_max_ms: int) -> bool:
    """Whether the origin may speak for the sender: a node does for organs under its own prefixes, but where one below it has a
    node of its own; a notice is the node's own. What the superior made before that node was named may be under way still, as
    long as any lifetime lasts: when it was made is the superior's own word, and must not open that way for ever."""
    if header.kind == KIND_NOTICE:
        return header.sender == header.origin
    owner, node = directory.owner(header.sender), directory.node(header.origin)
    if owner is None or owner == header.origin:
        return owner is not None
    covered = node is not None and any(prefix.covers(header.sender) for prefix in node.prefixes)
    since_ms = directory.since.get(owner, 0)
    return covered and header.created_ms <= since_ms and now_ms <= since_ms + lifetime_max_ms


def may_tell(directory: Directory, today: date, here: OrgId, teller: OrgId, end_of: EndOf) -> bool:
    """Only the node that serves the receiver may say that it was collected; of another end, only nodes on the way to it: those
    above the origin (here), and those above the receiver's."""
    try:
        organ = directory.receiver(end_of.recipient, today).organ
    except Refused:
        organ = end_of.recipient
    owners = {directory.owner(end_of.recipient), directory.owner(organ)}
    if teller in owners:
        return True
    if end_of.end.state is Transport.COLLECTED:
        return False
    return teller in {code for owner in (here, *owners) if owner is not None for code in directory.line(owner)}

"""What stands between the network and a node's door for children: it counts ways out of faults, and plays bad neighbours.

Poison: one envelope that this parent chokes on, whatever comes with it. Forgery: a child presents an envelope this node knows
with another content. Parts: an envelope is taken for all receivers but one, who is put off. Everything else passes untouched.
"""

from __future__ import annotations

from dataclasses import replace

from node.core.directory_wire import Exchange
from node.core.envelope import KIND_DOCUMENT, Envelope, encode_header, open_envelope
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import OrgId
from node.core.statement import Post
from node.core.timekeeping import Moment
from node.core.wire import Batch, EnvelopeVerdicts, Outcome, PullRequest, Question, Verdict
from node.ports import Downlink
from topology.sim.world import Machine, World

FORGED = "giả"
PUT_OFF_S = 5.0


class Watched:
    """A parent's door (`ports.Downlink`) with a watcher before it."""

    def __init__(self, world: World, machine: Machine, door: Downlink) -> None:
        self._world = world
        self._machine = machine
        self._door = door
        self._registered = frozenset(child.code for child in world.children(machine.code))

    async def push(self, peer: OrgId, batch: Batch) -> tuple[EnvelopeVerdicts, ...]:
        self._admit(peer)
        self._choke(batch)
        if self._machine.code in self._world.sparing:
            verdicts = await self._in_parts(peer, batch)
        else:
            verdicts = await self._door.push(peer, batch)
        if peer in self._world.forging:
            await self._forge(peer, batch, verdicts)
        return verdicts

    async def pull(self, peer: OrgId, request: PullRequest) -> Batch:
        self._admit(peer)
        return await self._door.pull(peer, request)

    async def put_body(self, peer: OrgId, sha256: str, size: int, offset: int, chunk: bytes) -> int:
        self._admit(peer)
        held = await self._door.put_body(peer, sha256, size, offset, chunk)
        if 0 < held < size and held != offset + len(chunk):
            self._world.record.note(self._machine.name, "path/body resumed", held)
        return held

    async def get_body(self, peer: OrgId, sha256: str, offset: int, length: int) -> bytes:
        self._admit(peer)
        if offset:
            self._world.record.counts["path/body in pieces"] += 1
        return await self._door.get_body(peer, sha256, offset, length)

    async def statements(self, peer: OrgId, post: Post) -> tuple[str, ...]:
        self._admit(peer)
        return await self._door.statements(peer, post)

    async def query(self, peer: OrgId, asked: Question) -> bytes:
        self._admit(peer)
        return await self._door.query(peer, asked)

    async def answered(self, peer: OrgId, number: int, data: bytes) -> None:
        self._admit(peer)
        await self._door.answered(peer, number, data)

    async def directory(self, peer: OrgId, said: Exchange) -> Exchange:
        self._admit(peer)
        if self._world.loop.time() < self._world.tardy.get(self._machine.name, 0.0):
            raise Deferred(PUT_OFF_S)
        return await self._door.directory(peer, said)

    def moment(self) -> Moment:
        return self._door.moment()

    def _admit(self, peer: OrgId) -> None:
        """As production's listener, which asks at every request who bears the certificate."""
        if peer not in self._registered:
            raise Refused(Reason.PEER_UNKNOWN, "certificate")

    def _choke(self, batch: Batch) -> None:
        poisoned = self._world.poisoned
        poison = poisoned.get(self._machine.code)
        if poison is None:
            return
        ids = [envelope.header.id for envelope in batch.envelopes if envelope.header.kind == KIND_DOCUMENT]
        if not poison and ids:
            poison = poisoned[self._machine.code] = ids[0]
        if poison in ids:
            self._world.record.note(self._machine.name, "fault/choked", len(ids))
            raise Refused(Reason.WIRE_MALFORMED, "batch", str(len(ids)))

    async def _in_parts(self, peer: OrgId, batch: Batch) -> tuple[EnvelopeVerdicts, ...]:
        """The last receiver of each envelope hears "later"; an envelope for one receiver is whole."""
        put_off = {
            (each.header.origin, each.header.id): each.remaining[-1] for each in batch.envelopes if len(each.remaining) > 1
        }
        envelopes = tuple(
            replace(each, remaining=each.remaining[:-1]) if len(each.remaining) > 1 else each for each in batch.envelopes
        )
        found = []
        later = Verdict(Outcome.LATER, reason=Reason.NOT_NOW, retry_s=PUT_OFF_S)
        for spoken in await self._door.push(peer, replace(batch, envelopes=envelopes)):
            code = put_off.get((spoken.origin, spoken.id))
            if code is not None:
                self._world.record.note(self._machine.name, "fault/put off", len(spoken.verdicts))
            found.append(spoken if code is None else replace(spoken, verdicts={**spoken.verdicts, code: later}))
        return tuple(found)

    async def _forge(self, peer: OrgId, batch: Batch, verdicts: tuple[EnvelopeVerdicts, ...]) -> None:
        """The same key with another content, of what was just taken."""
        taken = {
            (spoken.origin, spoken.id)
            for spoken in verdicts
            for verdict in spoken.verdicts.values()
            if verdict.outcome is Outcome.TAKEN
        }
        known = [
            each
            for each in batch.envelopes
            if (each.header.origin, each.header.id) in taken and each.header.kind == KIND_DOCUMENT
        ]
        if not known:
            return
        del self._world.forging[peer]
        self._world.record.note(self._machine.name, "fault/forgery")
        forged = await self._door.push(peer, Batch((_altered(known[0]),), batch.bodies, batch.certificates))
        for spoken in forged:
            for code, verdict in spoken.verdicts.items():
                if verdict.outcome is not Outcome.REFUSED or verdict.reason is not Reason.DIGEST_CONFLICT:
                    self._world.wrong(
                        f"{self._machine.name} answered {verdict.outcome} to a forged copy of {spoken.id} for {code}"
                    )


def _altered(envelope: Envelope) -> Envelope:
    data = encode_header(replace(envelope.header, document_id=FORGED))
    return open_envelope(data, envelope.signature, envelope.remaining, envelope.hops, envelope.attempts)

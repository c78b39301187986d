"""Biên nhận: what this node signs for a batch it has taken, and what it makes of the receipt for a batch it has handed over.

A receipt never decides about custody: a document is handed over when its verdict says so. One that is missing or not good is
counted and logged, and leaves a gap in the evidence that names this link. Knows `core` and the ports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from node.core.custody import Offered
from node.core.envelope import header_digest
from node.core.errors import Reason, Refused
from node.core.evidence import SIGNED_RECEIPT, Delivery, Receipt, Taken, leaves, merkle_root, read_statement, write_statement
from node.core.identifier import OrgId
from node.core.tally import Tally
from node.core.wire import Batch, EnvelopeVerdicts, Outcome
from node.ports import Clock, Signer, Store, Verifier

log = structlog.get_logger()

CHAINS_MAX = 256
"""Chains remembered; the store has them all."""


class Receipts:
    """One per node."""

    def __init__(self, code: OrgId, store: Store, clock: Clock, signer: Signer, verifier: Verifier, tally: Tally) -> None:
        self._code = code
        self._store = store
        self._clock = clock
        self._signer = signer
        self._verifier = verifier
        self._tally = tally
        self._chains: dict[str, bytes] = {}
        """Of neighbours' keys, as they lie in the store: asked for once, not with each batch."""

    def give(self, presenter: OrgId, batch: Batch, verdicts: Sequence[EnvelopeVerdicts]) -> tuple[EnvelopeVerdicts, ...]:
        """The verdicts on a batch, one for each envelope, with the receipt for what was taken, after the commit that took it."""
        digests = {
            (spoken.origin, spoken.id): envelope.digest
            for envelope, spoken in zip(batch.envelopes, verdicts, strict=True)
            if any(verdict.outcome is Outcome.TAKEN for verdict in spoken.verdicts.values())
        }
        at_ms = self._clock.utc_ms()
        found = leaves(_taken(verdicts, digests), at_ms)
        if not found:
            return tuple(verdicts)
        root = merkle_root(found).hex()
        key = self._signer.key_id
        statement = write_statement(Taken(self._code, presenter, root, len(found), at_ms, self._clock.bound_ms(), key))
        chain = b"" if batch.knows == key else self._signer.chain_pem
        receipt = Receipt(statement, self._signer.sign(SIGNED_RECEIPT + statement), chain)
        self._tally.add("truc_receipts_total", result="given")
        return tuple(EnvelopeVerdicts(spoken.origin, spoken.id, spoken.verdicts, receipt) for spoken in verdicts)

    async def witness(self, neighbour: OrgId, offered: Sequence[Offered], verdicts: Sequence[EnvelopeVerdicts]) -> Receipt | None:
        """The neighbour's receipt for what it says it has taken of these, with its leaves and its chain; None where it took
        nothing, or its receipt is none."""
        headers = {(row.origin, row.id): row.header for row in offered}  # each once for all its recipients: some are large
        taken = _taken(verdicts, {key: header_digest(header) for key, header in headers.items()})
        if not taken:
            return None
        receipt = next((spoken.receipt for spoken in verdicts if spoken.receipt is not None), None)
        if receipt is None:
            self._tally.add("truc_receipts_total", result="missing")
            return None
        try:
            receipt = await self._judged(neighbour, taken, receipt)
        except Refused as refusal:
            self._tally.add("truc_receipts_total", result="bad")
            log.error("receipt is not good", neighbour=str(neighbour), reason=refusal.reason.value, element=refusal.element)
            return None
        self._tally.add("truc_receipts_total", result="got")
        return receipt

    async def _judged(self, neighbour: OrgId, taken: list[tuple[Delivery, str]], receipt: Receipt) -> Receipt:
        said = read_statement(receipt.statement)
        found = leaves(taken, said.at_ms)
        if (said.node, said.presenter, said.count) != (neighbour, self._code, len(found)):
            raise Refused(Reason.WIRE_MALFORMED, "receipt.node", str(said.node), str(neighbour))
        if said.root != merkle_root(found).hex():
            raise Refused(Reason.WIRE_MALFORMED, "receipt.root")
        chain = receipt.chain or await self._chain(said.key)
        self._verifier.witness(said, SIGNED_RECEIPT + receipt.statement, receipt.signature, chain)
        return replace(receipt, chain=chain, leaves=b"".join(found))

    async def _chain(self, key: str) -> bytes:
        """b"": it is not here."""
        chain = self._chains.get(key) or await self._store.chain(key) or b""
        if chain:
            if len(self._chains) >= CHAINS_MAX:
                self._chains.clear()
            self._chains[key] = chain
        return chain


def _taken(verdicts: Sequence[EnvelopeVerdicts], digests: dict[tuple[OrgId, str], str]) -> list[tuple[Delivery, str]]:
    """What the verdicts take of envelopes that are known by their digests, each delivery once."""
    return [
        ((spoken.origin, spoken.id, code), digests[spoken.origin, spoken.id])
        for spoken in _whole(verdicts)
        if (spoken.origin, spoken.id) in digests
        for code, verdict in spoken.verdicts.items()
        if verdict.outcome is Outcome.TAKEN
    ]


def _whole(verdicts: Sequence[EnvelopeVerdicts]) -> list[EnvelopeVerdicts]:
    """One for each envelope, as the wire reads them: copies that took different ways are told apart by their recipients."""
    found: dict[tuple[OrgId, str], EnvelopeVerdicts] = {}
    for spoken in verdicts:
        key = spoken.origin, spoken.id
        known = found.get(key)
        found[key] = spoken if known is None else replace(spoken, verdicts={**known.verdicts, **spoken.verdicts})
    return list(found.values())

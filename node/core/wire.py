"""Bytes to batch and back: the only description of what crosses a link (`application/vnd.truc.batch.v1` and the JSON beside it).

Any bytes whatever decode, or are `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)`; there is no third outcome. Knows `envelope`,
`identifier`, `errors`; nothing of HTTP or TLS.

A batch is `MAGIC`, then frames in the order of `Frame`: kind (1 byte), flags (1), length (4, big-endian), payload.

    SEQUENCE  exactly one: the sequence number, 8 bytes
    CHAIN     SHA-256 of the leaf's DER (32 bytes), certificate chain in PEM, leaf first
    BODY      SHA-256 (32 bytes), the body
    ENVELOPE  length of wrapper (4), of header (4), of signature (2); wrapper, header, signature.
              The wrapper is JSON: {"to": [code…], "hops": [[code, ms, bound]…], "attempts": n}
    QUESTION  number (8), milliseconds it waits for its answer (4), length of its kind (1); kind, what is asked
    KNOWS     at most one: SHA-256 of a leaf (32): whoever presents the batch has the chain for receipts under this key

Flags are kept for compression by frame once two nodes can agree on it; until then a flag that is set is refused.
Verdicts are JSON, {"verdicts": [{"origin", "id", "to": [code…], "outcome", …}…]}: one line for all recipients of an envelope
that share a verdict, so an envelope on which all agree takes one; and beside them "receipt" (`core/evidence.py`) for what was
taken. A pull is the same with its own fields beside. Unknown keys at the top level of the two are passed over; everywhere else
they are refused.

A question for the time is JSON, {"t1"}, its answer {"t1", "t2", "t3", "stratum", "distance_us", "synchronised"}: instants in
microseconds of UTC, t1 by the child's clock and only given back, t2 when the question came, t3 when the answer left.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from node.core.envelope import (
    BODIES_MAX,
    HEADER_BYTES_MAX,
    HOPS_MAX,
    RECIPIENTS_MAX,
    TIME_MAX_MS,
    Envelope,
    Fields,
    Hop,
    open_envelope,
    read_code,
    strict_json,
)
from node.core.errors import Reason, Refused
from node.core.evidence import CHAIN_BYTES_MAX, Receipt, receipt_fields, receipt_of
from node.core.identifier import OrgId
from node.core.timekeeping import Moment

MEDIA_TYPE = "application/vnd.truc.batch.v1"
RECIPIENT_BYTES_MIN = 12
"""What the shortest recipient takes in a header: ["X","",""], and its comma."""
MAGIC = b"truc-batch-1\r\n"

SIGNATURE_BYTES_MAX = 200
WRAPPER_BYTES_MAX = 256 * 1024
"""4,000 codes of 35 characters and 64 hops, with room."""
ENVELOPE_BYTES_MAX = HEADER_BYTES_MAX + WRAPPER_BYTES_MAX + SIGNATURE_BYTES_MAX + 64
BODY_CHUNK_MAX = 8 * 1024 * 1024
"""The largest chunk of a body any node may be configured to send, so every node takes it."""
ATTEMPTS_MAX = 1_000_000
NEED_MAX = BODIES_MAX + 1
"""All bodies of an envelope, and the certificate chain."""
RETRY_MAX_S = 86_400.0
CLOCK_BYTES_MAX = 1024
INSTANT_MAX_US = 2**53
"""Every reader of JSON can hold it; a date in the year 2255."""
STRATUM_MAX = 255
WAIT_MAX_MS = 60_000
QUESTION_BYTES_MAX = 64 * 1024
QUESTIONS_MAX = 4
"""In one batch: with their bytes they fit beside any envelope."""
ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""Receipts and chains of a document to every commune of the country, twice."""
ANSWER_WAIT_MAX_MS = 10_000

_FRAME = struct.Struct(">BBI")
_SEQUENCE = struct.Struct(">Q")
_PARTS = struct.Struct(">IIH")
_ASKED = struct.Struct(">QIB")
_DIGEST_BYTES = 32
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f-]{36}")
_KIND = re.compile(r"[a-z][a-z-]{0,39}")
_SESSION = re.compile(r"[0-9A-Za-z-]{1,64}")
_REASON = re.compile(r"[a-z][a-z0-9-]{0,63}")
_PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"
_PEM_END = b"-----END CERTIFICATE-----"
_WRAPPER_KEYS = frozenset({"to", "hops", "attempts"})
_VERDICT_KEYS = frozenset({"origin", "id", "to", "outcome", "need", "reason", "retry_s"})


class Frame(IntEnum):
    """Kinds of frames, in the order in which they stand in a batch."""

    SEQUENCE = 1
    CHAIN = 2
    BODY = 3
    ENVELOPE = 4
    QUESTION = 5
    KNOWS = 6


class Outcome(StrEnum):
    TAKEN = "taken"
    NEED = "need"
    REFUSED = "refused"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a node says of one (envelope, recipient). need: body or certificate digests; reason with refused; retry_s with later.

    A reason may go with later, too."""

    outcome: Outcome
    need: tuple[str, ...] = ()
    reason: Reason | None = None
    retry_s: float = 0.0


_KINDS = {int(kind): kind for kind in Frame}
_OUTCOMES = {str(outcome): outcome for outcome in Outcome}
_TAKEN = Verdict(Outcome.TAKEN)


@dataclass(frozen=True, slots=True)
class EnvelopeVerdicts:
    """Verdicts on one envelope, by recipient code. receipt: the one for all that was taken of its batch."""

    origin: OrgId
    id: str
    verdicts: Mapping[OrgId, Verdict]
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A short question to the node at the other end of a link. number: under which the answer comes, 0 where it comes at once.
    within_ms: how long whoever asks waits for it."""

    kind: str
    body: bytes
    within_ms: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """envelopes in order; small bodies by SHA-256 hex; certificate chains (PEM, leaf first) by SHA-256 hex of the leaf's DER.

    sequence: of a pull's answer, 0 on a push. questions: to the child whose pull this answers. knows: the key whose chain whoever
    presents this has, so that a receipt for it need not bring it.
    """

    envelopes: tuple[Envelope, ...] = ()
    bodies: Mapping[str, bytes] = field(default_factory=dict)
    certificates: Mapping[str, bytes] = field(default_factory=dict)
    sequence: int = 0
    questions: tuple[Question, ...] = ()
    knows: str = ""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """session: made anew at each start of the child. sequence: of the batch asked for. confirmed: sequence of the batch the
    verdicts speak of (0: none). room_bytes: what the child can take now. wait_ms: how long an empty answer may be held back."""

    session: str
    sequence: int
    confirmed: int
    verdicts: tuple[EnvelopeVerdicts, ...]
    room_bytes: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class ClockAnswer:
    """t1_us: the question's. t2_us, t3_us: UTC at the parent when it came and when this left. distance_us: how far they may be
    from the truth. stratum: nodes from the hub's reference. synchronised: the parent vouches for them."""

    t1_us: int
    t2_us: int
    t3_us: int
    stratum: int
    distance_us: int
    synchronised: bool


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What one batch may hold: bytes in all, envelopes, recipients over all its envelopes. Made by `limits_for`."""

    bytes_max: int
    envelopes_max: int
    recipients_max: int

    @property
    def verdict_bytes_max(self) -> int:
        """Room for the verdicts on a full batch: they repeat at most its codes and digests, on a few lines for each envelope."""
        return self.bytes_max + 2048 * self.envelopes_max


def limits_for(batch_bytes_max: int, envelopes_max: int) -> WireLimits:
    """The limits of a link whose batches are cut at `batch_bytes_max`.

    One envelope passes whatever its header's size, with its chain. Recipients: as many as headers of that many bytes can name.
    """
    bytes_max = batch_bytes_max + ENVELOPE_BYTES_MAX + CHAIN_BYTES_MAX
    return WireLimits(bytes_max, envelopes_max, batch_bytes_max // RECIPIENT_BYTES_MIN + RECIPIENTS_MAX)


def encode_batch(batch: Batch) -> bytes:
    """A batch as bytes. Its envelopes are written from their exact header bytes, never from the parsed header."""
    parts = [MAGIC, *_frame(Frame.SEQUENCE, _SEQUENCE.pack(batch.sequence))]
    for digest, chain in batch.certificates.items():
        parts += _frame(Frame.CHAIN, bytes.fromhex(digest), chain)
    for digest, body in batch.bodies.items():
        parts += _frame(Frame.BODY, bytes.fromhex(digest), body)
    for envelope in batch.envelopes:
        wrapper = _encode_wrapper(envelope)
        lengths = _PARTS.pack(len(wrapper), len(envelope.header_bytes), len(envelope.signature))
        parts += _frame(Frame.ENVELOPE, lengths, wrapper, envelope.header_bytes, envelope.signature)
    for each in batch.questions:
        kind = each.kind.encode("ascii")
        parts += _frame(Frame.QUESTION, _ASKED.pack(each.number, each.within_ms, len(kind)), kind, each.body)
    if batch.knows:
        parts += _frame(Frame.KNOWS, bytes.fromhex(batch.knows))
    return b"".join(parts)


def decode_batch(data: bytes, limits: WireLimits) -> Batch:
    """Bytes as a batch, every inline body and chain checked against its digest; else `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)`.

    Nothing is copied before its length is known to lie inside the data. (Here and below: to name a deeply nested value may
    take more stack than to read it.)
    """
    if len(data) > limits.bytes_max:
        raise _too_large("batch", len(data), limits.bytes_max)
    if not data.startswith(MAGIC):
        raise _malformed("batch", data[: len(MAGIC)].hex(), "magic")
    try:
        return _read_batch(memoryview(data)[len(MAGIC) :], limits)
    except RecursionError:
        raise _malformed("json", "", "depth") from None


def encode_verdicts(verdicts: Iterable[EnvelopeVerdicts]) -> bytes:
    """Verdicts as JSON; at most one entry per envelope, none of them empty."""
    verdicts = list(verdicts)
    return _json_bytes({"verdicts": list(_verdict_lines(verdicts)), **_receipt_field(verdicts)})


def decode_verdicts(data: bytes, limits: WireLimits) -> tuple[EnvelopeVerdicts, ...]:
    """JSON as verdicts, envelopes in the order of their first line; else `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)`."""
    try:
        return _read_verdicts(_open_json(data, "verdicts", limits), limits)
    except RecursionError:
        raise _malformed("json", "", "depth") from None


def encode_pull(request: PullRequest) -> bytes:
    return _json_bytes(
        {
            "session": request.session,
            "sequence": request.sequence,
            "confirmed": request.confirmed,
            "room": request.room_bytes,
            "wait_ms": request.wait_ms,
            "verdicts": list(_verdict_lines(request.verdicts)),
            **_receipt_field(request.verdicts),
        }
    )


def decode_pull(data: bytes, limits: WireLimits) -> PullRequest:
    """JSON as a pull, or `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)`."""
    try:
        fields = _open_json(data, "pull", limits)
        return PullRequest(
            session=fields.text("session", 64, _SESSION),
            sequence=fields.whole("sequence"),
            confirmed=fields.whole("confirmed"),
            verdicts=_read_verdicts(fields, limits),
            room_bytes=fields.whole("room"),
            wait_ms=fields.whole("wait_ms", 0, WAIT_MAX_MS),
        )
    except RecursionError:
        raise _malformed("json", "", "depth") from None


def told_time(t1_us: int, came: Moment, left: Moment) -> ClockAnswer:
    """The answer to a question that came at one moment and is answered at another."""
    distance_us = max(came.bound_us, left.bound_us)
    sure = came.synchronised and left.synchronised
    return ClockAnswer(t1_us, came.utc_us, max(came.utc_us, left.utc_us), left.stratum, distance_us, sure)


def encode_clock_question(t1_us: int) -> bytes:
    return _json_bytes({"t1": t1_us})


def decode_clock_question(data: bytes) -> int:
    """JSON as t1 (µs), or `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)`."""
    return _open_clock(data, "question").whole("t1", 0, INSTANT_MAX_US)


def encode_clock_answer(answer: ClockAnswer) -> bytes:
    instants = {"t1": answer.t1_us, "t2": answer.t2_us, "t3": answer.t3_us}
    return _json_bytes(
        {**instants, "stratum": answer.stratum, "distance_us": answer.distance_us, "synchronised": answer.synchronised}
    )


def decode_clock_answer(data: bytes) -> ClockAnswer:
    """JSON as an answer, or `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)`."""
    fields = _open_clock(data, "answer")
    synchronised = fields.get("synchronised")
    if not isinstance(synchronised, bool):
        raise _malformed("answer.synchronised", type(synchronised).__name__, "true | false")
    t1_us, t2_us, t3_us, distance_us = (fields.whole(name, 0, INSTANT_MAX_US) for name in ("t1", "t2", "t3", "distance_us"))
    return ClockAnswer(t1_us, t2_us, t3_us, fields.whole("stratum", 0, STRATUM_MAX), distance_us, synchronised)


def leaf_digest(chain_pem: bytes) -> str:
    """SHA-256 (hex) of the DER of the first certificate in a PEM text; `Refused(WIRE_MALFORMED)` where there is none."""
    begin = chain_pem.find(_PEM_BEGIN)
    end = chain_pem.find(_PEM_END, begin)
    if begin < 0 or end < 0:
        raise _malformed("chain", "", "PEM")
    try:
        der = base64.b64decode(b"".join(chain_pem[begin + len(_PEM_BEGIN) : end].split()), validate=True)
    except ValueError:
        raise _malformed("chain", "", "base64") from None
    return hashlib.sha256(der).hexdigest()


# -- batches ---------------------------------------------------------------------------------------------------------------


def _frame(kind: Frame, *payload: bytes) -> list[bytes]:
    return [_FRAME.pack(kind, 0, sum(map(len, payload))), *payload]


def _frames(data: memoryview) -> Iterator[tuple[Frame, memoryview]]:
    last = Frame.SEQUENCE
    while data:
        if len(data) < _FRAME.size:
            raise _malformed("frame", str(len(data)), "cut short")
        number, flags, length = _FRAME.unpack_from(data)
        kind = _KINDS.get(number)
        if kind is None:
            raise _malformed("frame.kind", str(number))
        if flags:
            raise _malformed("frame.flags", str(flags), "0")
        if length > len(data) - _FRAME.size:
            raise _malformed("frame.length", str(length), f"≤ {len(data) - _FRAME.size}")
        if kind < last:
            raise _malformed("frame.kind", str(number), f"≥ {int(last)}")
        last = kind
        yield kind, data[_FRAME.size : _FRAME.size + length]
        data = data[_FRAME.size + length :]


def _read_batch(data: memoryview, limits: WireLimits) -> Batch:
    sequences: list[int] = []
    certificates: dict[str, bytes] = {}
    bodies: dict[str, bytes] = {}
    envelopes: list[Envelope] = []
    questions: list[Question] = []
    knows = ""
    recipients = 0
    for kind, payload in _frames(data):
        match kind:
            case Frame.SEQUENCE:
                sequences.append(_read_sequence(payload, len(sequences)))
            case Frame.CHAIN:
                _keep(certificates, "chain", *_read_chain(payload))
            case Frame.BODY:
                _keep(bodies, "body", *_read_body(payload))
            case Frame.ENVELOPE:
                if len(envelopes) >= limits.envelopes_max:
                    raise _too_large("envelopes", len(envelopes) + 1, limits.envelopes_max)
                envelopes.append(_read_envelope(payload))
                recipients += len(envelopes[-1].header.recipients)
                if recipients > limits.recipients_max:
                    raise _too_large("recipients", recipients, limits.recipients_max)
            case Frame.QUESTION:
                if len(questions) >= QUESTIONS_MAX:
                    raise _too_large("questions", len(questions) + 1, QUESTIONS_MAX)
                questions.append(_read_question(payload))
            case Frame.KNOWS:
                if knows or len(payload) != _DIGEST_BYTES:
                    raise _malformed("knows", str(len(payload)), "at most one")
                knows = payload.hex()
    if not sequences:
        raise _malformed("sequence", "", "exactly one")
    return Batch(tuple(envelopes), bodies, certificates, sequences[0], tuple(questions), knows)


def _read_sequence(payload: memoryview, seen: int) -> int:
    if seen or len(payload) != _SEQUENCE.size:
        raise _malformed("sequence", str(len(payload)), "exactly one")
    sequence = int(_SEQUENCE.unpack(payload)[0])
    if sequence > TIME_MAX_MS:
        raise _malformed("sequence", str(sequence), f"≤ {TIME_MAX_MS}")
    return sequence


def _read_chain(payload: memoryview) -> tuple[str, bytes]:
    if len(payload) > _DIGEST_BYTES + CHAIN_BYTES_MAX:
        raise _too_large("chain", len(payload), CHAIN_BYTES_MAX)
    digest, chain = payload[:_DIGEST_BYTES].hex(), bytes(payload[_DIGEST_BYTES:])
    if leaf_digest(chain) != digest:
        raise _malformed("chain", digest, "SHA-256 of the leaf")
    return digest, chain


def _read_body(payload: memoryview) -> tuple[str, bytes]:
    digest, body = payload[:_DIGEST_BYTES].hex(), payload[_DIGEST_BYTES:]
    if hashlib.sha256(body).hexdigest() != digest:
        raise _malformed("body", digest, "SHA-256")
    return digest, bytes(body)


def _read_question(payload: memoryview) -> Question:
    if len(payload) < _ASKED.size:
        raise _malformed("question", str(len(payload)), "cut short")
    number, within_ms, length = _ASKED.unpack_from(payload)
    kind = bytes(payload[_ASKED.size : _ASKED.size + length])
    return question(kind.decode("ascii", "replace"), bytes(payload[_ASKED.size + length :]), within_ms, number)


def question(kind: str, body: bytes, within_ms: int, number: int = 0) -> Question:
    """A question as it may come from a neighbour, or `Refused(WIRE_MALFORMED | WIRE_TOO_LARGE)`."""
    if not _KIND.fullmatch(kind):
        raise _malformed("question.kind", kind[:40])
    if len(body) > QUESTION_BYTES_MAX:
        raise _too_large("question", len(body), QUESTION_BYTES_MAX)
    if not 0 <= within_ms <= ANSWER_WAIT_MAX_MS or number > TIME_MAX_MS:
        raise _malformed("question.within_ms", str(within_ms), f"0..{ANSWER_WAIT_MAX_MS}")
    return Question(kind, body, within_ms, number)


def _keep(kept: dict[str, bytes], what: str, digest: str, value: bytes) -> None:
    if digest in kept:
        raise _malformed(what, digest, "twice")
    kept[digest] = value


def _encode_wrapper(envelope: Envelope) -> bytes:
    """As JSON. A code needs no escapes: it is of letters, digits, dots and hyphens."""
    to = ",".join([f'"{code}"' for code in envelope.remaining])
    hops = ",".join([f'["{hop.node}",{hop.at_ms},{hop.bound_ms}]' for hop in envelope.hops])
    return f'{{"to":[{to}],"hops":[{hops}],"attempts":{envelope.attempts}}}'.encode()


def _read_envelope(payload: memoryview) -> Envelope:
    if len(payload) < _PARTS.size:
        raise _malformed("envelope", str(len(payload)), "cut short")
    wrapper, header, signature = _PARTS.unpack_from(payload)
    if _PARTS.size + wrapper + header + signature != len(payload):
        raise _malformed("envelope", str(len(payload)), "lengths")
    if wrapper > WRAPPER_BYTES_MAX:
        raise _too_large("wrapper", wrapper, WRAPPER_BYTES_MAX)
    if header > HEADER_BYTES_MAX:
        raise _too_large("header", header, HEADER_BYTES_MAX)
    if not 0 < signature <= SIGNATURE_BYTES_MAX:
        raise _malformed("signature", str(signature), f"1..{SIGNATURE_BYTES_MAX}")
    header_at = _PARTS.size + wrapper
    signature_at = header_at + header
    wrapped = _read_wrapper(bytes(payload[_PARTS.size : header_at]))
    return open_envelope(bytes(payload[header_at:signature_at]), bytes(payload[signature_at:]), *wrapped)


def _read_wrapper(data: bytes) -> tuple[tuple[OrgId, ...], tuple[Hop, ...], int]:
    fields = Fields(strict_json(data), "wrapper")
    fields.only(_WRAPPER_KEYS)
    remaining = tuple(read_code(code, "wrapper.to") for code in fields.items("to", RECIPIENTS_MAX))
    hops = tuple(_read_hop(item) for item in fields.items("hops", HOPS_MAX))
    return remaining, hops, fields.whole("attempts", 0, ATTEMPTS_MAX)


def _read_hop(item: object) -> Hop:
    if not isinstance(item, list) or len(item) != 3:
        raise _malformed("wrapper.hops", repr(item)[:80])
    code, at_ms, bound_ms = item
    for instant in (at_ms, bound_ms):
        if type(instant) is not int or not 0 <= instant <= TIME_MAX_MS:
            raise _malformed("wrapper.hops", repr(item)[:80])
    return Hop(read_code(code, "wrapper.hops"), at_ms, bound_ms)


# -- verdicts --------------------------------------------------------------------------------------------------------------


def _verdict_lines(verdicts: Iterable[EnvelopeVerdicts]) -> Iterator[dict[str, Any]]:
    for entry in verdicts:
        codes: dict[Verdict, list[str]] = {}
        for code, verdict in entry.verdicts.items():
            codes.setdefault(verdict, []).append(str(code))
        for verdict, to in codes.items():
            yield {"origin": str(entry.origin), "id": entry.id, "to": to, **_encode_verdict(verdict)}


def _receipt_field(verdicts: Sequence[EnvelopeVerdicts]) -> dict[str, Any]:
    receipt = next((entry.receipt for entry in verdicts if entry.receipt is not None), None)
    return {"receipt": receipt_fields(receipt)} if receipt is not None else {}


def _encode_verdict(verdict: Verdict) -> dict[str, Any]:
    line: dict[str, Any] = {"outcome": str(verdict.outcome)}
    if verdict.need:
        line["need"] = list(verdict.need)
    if verdict.reason is not None:
        line["reason"] = str(verdict.reason)
    if verdict.retry_s:
        line["retry_s"] = min(verdict.retry_s, RETRY_MAX_S)
    return line


def _open_clock(data: bytes, what: str) -> Fields:
    if len(data) > CLOCK_BYTES_MAX:
        raise _too_large(what, len(data), CLOCK_BYTES_MAX)
    return Fields(strict_json(data), what)


def _open_json(data: bytes, what: str, limits: WireLimits) -> Fields:
    if len(data) > limits.verdict_bytes_max:
        raise _too_large(what, len(data), limits.verdict_bytes_max)
    return Fields(strict_json(data), what)


def _read_verdicts(fields: Fields, limits: WireLimits) -> tuple[EnvelopeVerdicts, ...]:
    spoken: dict[tuple[OrgId, str], dict[OrgId, Verdict]] = {}
    recipients = 0
    for item in fields.items("verdicts", limits.recipients_max):
        line = Fields(item, "verdict")
        line.only(_VERDICT_KEYS)
        codes = line.items("to", RECIPIENTS_MAX)
        recipients += len(codes)
        if recipients > limits.recipients_max:
            raise _too_large("verdicts", recipients, limits.recipients_max)
        if not codes:
            raise _malformed("verdict.to", "", "not empty")
        said = spoken.setdefault((read_code(line.get("origin"), "verdict.origin"), line.text("id", 36, _ID)), {})
        verdict = _read_verdict(line)
        for item_code in codes:
            code = read_code(item_code, "verdict.to")
            if code in said:
                raise _malformed("verdict.to", str(code), "twice")
            said[code] = verdict
    receipt = receipt_of(fields.get("receipt")) if fields.get("receipt") is not None else None
    return tuple(EnvelopeVerdicts(origin, id_, said, receipt) for (origin, id_), said in spoken.items())


def _read_verdict(line: Fields) -> Verdict:
    if (outcome := _OUTCOMES.get(line.text("outcome", 20))) is None:
        raise _malformed("verdict.outcome", line.text("outcome", 20))
    if outcome is Outcome.TAKEN and all(line.get(name) is None for name in ("need", "reason", "retry_s")):
        return _TAKEN
    need = line.items("need", NEED_MAX) if line.get("need") is not None else []
    if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in need):
        raise _malformed("verdict.need", repr(need)[:80])
    reason = line.text("reason", 64, _REASON) if line.get("reason") is not None else None
    return Verdict(outcome, tuple(need), None if reason is None else _known_reason(reason), _read_retry(line))


def _known_reason(text: str) -> Reason:
    """A reason that a later version invented is still a refusal: it must not leave a whole batch without verdicts."""
    return Reason(text) if text in Reason.__members__.values() else Reason.INTERNAL


def _read_retry(line: Fields) -> float:
    value = line.get("retry_s")
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= RETRY_MAX_S or math.isnan(value):
        raise _malformed("verdict.retry_s", repr(value)[:80], f"0..{RETRY_MAX_S:g}")
    return float(value)


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _malformed(element: str, value: str, rule: str = "") -> Refused:
    return Refused(Reason.WIRE_MALFORMED, element, value, rule)


def _too_large(element: str, size: int, limit: int) -> Refused:
    return Refused(Reason.WIRE_TOO_LARGE, element, str(size), f"≤ {limit}")

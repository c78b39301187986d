"""Gói bằng chứng: everything that proves the way of one document, as one file with one encoding, and what such a file proves.

The file is a ZIP archive without compression, dates or anything else to choose, so that it can be written again from what it says
and compared byte for byte. Inside: the document's header as its origin signed it, a receipt for every hop with the Merkle path of
each receiver, the notice that tells each end, the certificates, and a manifest with the digest of every part, signed by the node
that made the file. Knows `envelope`, `evidence`, `notice`; whether a signature is good is asked of whoever is handed in.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from node.core.custody import End, EndOf
from node.core.envelope import (
    BOUND_MAX_MS,
    KIND_NOTICE,
    RECIPIENTS_MAX,
    Fields,
    Header,
    decode_header,
    header_digest,
    read_code,
    strict_json,
)
from node.core.errors import Reason, Refused
from node.core.evidence import (
    COUNT_MAX,
    HASH_BYTES,
    PATH_MAX,
    SIGNED_RECEIPT,
    Signed,
    Taken,
    canonical,
    climb,
    is_low,
    leaf,
    merkle_levels,
    merkle_path,
    read_statement,
)
from node.core.identifier import OrgId
from node.core.lifecycle import Transport, may_move
from node.core.notice import decode_notice

SIGNED_BUNDLE = b"truc-evidence-1\n"
BUNDLE_BYTES_MAX = 64 * 1024 * 1024
PARTS_MAX = 20_000
PART_BYTES_MAX = 6 * 1024 * 1024
"""A receipt that proves deliveries to all communes of the country has 4 MB. JSON that is read takes twenty times its size."""
MANIFEST, SEAL, HEADER, HEADER_SEAL = "manifest.json", "manifest.sig", "header.json", "header.sig"

_HEX = re.compile(r"[0-9a-f]{64}")
_PEM = re.compile(
    rb"(?:-----BEGIN CERTIFICATE-----\n(?:[0-9A-Za-z+/=]{64}\n)*[0-9A-Za-z+/=]{1,64}\n-----END CERTIFICATE-----\n)+"
)
_NAME = re.compile(r"[0-9A-Za-z./-]{1,200}")


class Flaw(StrEnum):
    """What may be wrong with a bundle."""

    FORM = "form"
    ALTERED = "altered"
    SIGNATURE = "signature"
    CERTIFICATE = "certificate"
    PROOF = "proof"
    GAP = "gap"
    VERDICT = "verdict"
    SURPLUS = "surplus"


class Flawed(Exception):
    """The bundle proves nothing. part: which part of it, by its name, which names the hop; detail: what of it."""

    def __init__(self, flaw: Flaw, part: str, detail: str = "") -> None:
        super().__init__(f"{flaw.value}: {part}: {detail}")
        self.flaw = flaw
        self.part = part
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Statement:
    """Who signed a header, when, with which key."""

    node: OrgId
    at_ms: int
    bound_ms: int
    key: str


@dataclass(frozen=True, slots=True)
class Proof:
    """That a receipt was given for the delivery to this recipient: where its leaf stands, and the hashes up to the root."""

    recipient: OrgId
    index: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Proven:
    """A receipt with what it proves here."""

    statement: bytes
    signature: bytes
    proofs: tuple[Proof, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """A notice: header, signature, and its body, which tells of ends."""

    header: bytes
    signature: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle says. to: the recipients it proves. chains: PEM by key."""

    node: OrgId
    at_ms: int
    bound_ms: int
    key: str
    doc_id: str
    to: tuple[OrgId, ...]
    header: bytes
    signature: bytes
    receipts: tuple[Proven, ...]
    verdicts: tuple[Told, ...]
    chains: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Journey:
    """One recipient's way: the receipts in the order in which custody passed, how it ended, and who says so. bound_ms: of the
    instant of the end. early: the nodes that state an instant before the one that had custody before them, beyond the bounds of
    both: one of the two clocks was wrong, or one of the two nodes is."""

    recipient: OrgId
    hops: tuple[Taken, ...]
    end: End
    told_by: OrgId
    organ: OrgId
    bound_ms: int
    early: tuple[OrgId, ...] = ()

    @property
    def elsewhere(self) -> bool:
        """Collected, as a node says whose code the receiver's does not lie under. It may serve several prefixes, or have followed
        a closed one: the directory knows, a bundle does not."""
        return self.end.state is Transport.COLLECTED and not self.told_by.covers(self.organ)


@dataclass(frozen=True, slots=True)
class Story:
    """What a good bundle proves."""

    bundle: Bundle
    header: Header
    journeys: tuple[Journey, ...]


Witness = Callable[[Signed, bytes, bytes, bytes], None]
"""(who states it, what was signed, signature, chain): raises Refused where the signature or its certificate is not good."""


def write_bundle(bundle: Bundle, sign: Callable[[bytes], bytes]) -> bytes:
    """The file; what a bundle lists in no order is put into its one order."""
    parts = _parts(bundle)
    manifest = _manifest(bundle, parts)
    return pack({MANIFEST: manifest, SEAL: sign(SIGNED_BUNDLE + manifest), **parts})


def open_bundle(data: bytes, witness: Witness) -> Story:
    """What a file proves, or `Flawed`: nothing."""
    parts = unpack(data)
    try:
        bundle = _read(parts)
    except Refused as refused:
        raise Flawed(Flaw.FORM, refused.element or MANIFEST, refused.reason.value) from None
    _vouched(witness, bundle.chains, bundle, SIGNED_BUNDLE + parts[MANIFEST], parts[SEAL], MANIFEST)
    if not is_low(parts[SEAL]):  # the one part that no digest covers
        raise Flawed(Flaw.SIGNATURE, SEAL, "s")
    story = judge(bundle, witness)
    again = _parts(bundle)
    if pack({MANIFEST: _manifest(bundle, again), SEAL: parts[SEAL], **again}) != data:
        raise Flawed(Flaw.FORM, MANIFEST, "encoding")
    return story


# -- what it proves --------------------------------------------------------------------------------------------------------


def judge(bundle: Bundle, witness: Witness) -> Story:
    """What the parts of a bundle prove together, or `Flawed`."""
    header = _header(bundle.header, HEADER)
    if (bundle.node, bundle.doc_id) != (header.origin, header.doc_id):
        raise Flawed(Flaw.PROOF, MANIFEST, "origin")
    _vouched(witness, bundle.chains, _stated(header), bundle.header, bundle.signature, HEADER)
    steps = _steps(bundle, header, witness)
    ends = _ends(bundle, header, witness)
    used: set[int] = set()
    addressed = {each.code for each in header.recipients}
    for recipient in bundle.to:
        if recipient not in addressed:
            raise Flawed(Flaw.PROOF, MANIFEST, str(recipient))
    journeys = tuple(_journey(recipient, header, steps, ends, used) for recipient in bundle.to)
    if not bundle.to or len(set(bundle.to)) != len(bundle.to):
        raise Flawed(Flaw.FORM, MANIFEST, "to")
    for taken, number in (each for onward in steps.values() for each in onward):
        if number not in used:
            raise Flawed(Flaw.SURPLUS, f"{named(taken.presenter)} → {named(taken.node)}")
    if {journey.recipient for journey in journeys} != ends.keys():
        raise Flawed(Flaw.SURPLUS, "verdicts")
    signers = {header.key, bundle.key, *(taken.key for each in steps.values() for taken, _ in each)}
    signers.update(_header(told.header, "verdicts").key for told in bundle.verdicts)
    if signers != bundle.chains.keys():
        raise Flawed(Flaw.SURPLUS, "certificates")
    for key, chain in bundle.chains.items():
        if not _PEM.fullmatch(chain):
            raise Flawed(Flaw.FORM, f"certificates/{key}", "PEM")
    return Story(bundle, header, journeys)


_Steps = Mapping[tuple[OrgId, OrgId], Sequence[tuple[Taken, int]]]
"""By (recipient, presenter): the receipts that prove it handed the delivery over, and the number of the proof."""


def _steps(bundle: Bundle, header: Header, witness: Witness) -> _Steps:
    digest = header_digest(bundle.header)
    found: dict[tuple[OrgId, OrgId], list[tuple[Taken, int]]] = {}
    number = 0
    for at, proven in enumerate(bundle.receipts, 1):
        taken = _statement(proven.statement, at)
        part = _receipt_name(at, taken)
        _vouched(witness, bundle.chains, taken, SIGNED_RECEIPT + proven.statement, proven.signature, part)
        if not proven.proofs:
            raise Flawed(Flaw.SURPLUS, part)
        for proof in proven.proofs:
            start = leaf((header.origin, header.id, proof.recipient), digest, taken.at_ms)
            root = climb(start, proof.index, taken.count, proof.path)
            if root is None or root.hex() != taken.root:
                raise Flawed(Flaw.PROOF, part, str(proof.recipient))
            found.setdefault((proof.recipient, taken.presenter), []).append((taken, number))
            number += 1
    return found


_Ends = Mapping[OrgId, tuple[Header, End, str]]
"""By recipient: the notice that tells its end, the end, and the part that holds it."""


def _ends(bundle: Bundle, header: Header, witness: Witness) -> _Ends:
    """Where two tell of one delivery, the one that may come after the other stands: the receiver's own word (`may_move`)."""
    wanted = set(bundle.to)
    found: dict[OrgId, tuple[Header, End, str]] = {}
    for at, told in enumerate(bundle.verdicts, 1):
        notice = _header(told.header, f"verdicts/{at:04d}")
        part = _verdict_name(at, notice)
        _vouched(witness, bundle.chains, _stated(notice), told.header, told.signature, part)
        bodies = [(ref.sha256, ref.size) for ref in notice.bodies]
        if notice.kind != KIND_NOTICE or bodies != [(hashlib.sha256(told.body).hexdigest(), len(told.body))]:
            raise Flawed(Flaw.VERDICT, part, "body")
        mine = [each for each in _told(told.body, part) if (each.origin, each.id) == (header.origin, header.id)]
        mine = [each for each in mine if each.recipient in wanted]
        if not mine or notice.sender != notice.origin:
            raise Flawed(Flaw.SURPLUS, part)
        for each in mine:
            before = found.get(each.recipient)
            if before is None or may_move(before[1].state, each.end.state):
                found[each.recipient] = notice, each.end, part
            elif not may_move(each.end.state, before[1].state):
                raise Flawed(Flaw.SURPLUS, part, str(each.recipient))
    return found


def _journey(recipient: OrgId, header: Header, steps: _Steps, ends: _Ends, used: set[int]) -> Journey:
    """Custody passes from the origin from receipt to receipt, once at each node, to whoever tells the end."""
    if recipient not in ends:
        raise Flawed(Flaw.VERDICT, "verdicts", str(recipient))
    notice, end, part = ends[recipient]
    told_by = notice.origin
    here, hops, passed = header.origin, [], {header.origin}
    while here != told_by:
        onward = steps.get((recipient, here), ())
        if len(onward) != 1:
            raise Flawed(Flaw.GAP, f"{named(here)} → ?", str(recipient))
        taken, number = onward[0]
        used.add(number)
        if taken.node in passed:
            raise Flawed(Flaw.GAP, f"{named(here)} → {named(taken.node)}", str(recipient))
        passed.add(taken.node)
        hops.append(taken)
        here = taken.node
    if (recipient, told_by) in steps:
        raise Flawed(Flaw.VERDICT, part, str(recipient))  # it has handed it on: the end is not its to tell
    bound_ms = min(notice.bound_ms, BOUND_MAX_MS)
    instants = [(header.origin, header.created_ms, min(header.bound_ms, BOUND_MAX_MS))]
    instants += [(each.node, each.at_ms, min(each.bound_ms, BOUND_MAX_MS)) for each in hops]
    instants.append((told_by, end.at_ms, bound_ms))
    early = (node for (_, then, slack), (node, at_ms, own) in pairwise(instants) if at_ms + own < then - slack)
    organ = next(each.organ for each in header.recipients if each.code == recipient)
    return Journey(recipient, tuple(hops), end, told_by, organ, bound_ms, tuple(early))


def _stated(header: Header) -> Statement:
    return Statement(header.origin, header.created_ms, header.bound_ms, header.key)


def _header(data: bytes, part: str) -> Header:
    try:
        return decode_header(data)
    except (Refused, ValueError) as error:
        raise Flawed(Flaw.FORM, part, type(error).__name__) from None


def _told(body: bytes, part: str) -> tuple[EndOf, ...]:
    try:
        return decode_notice(body)
    except Refused as refused:
        raise Flawed(Flaw.FORM, part, refused.element) from None


def _statement(data: bytes, at: int) -> Taken:
    try:
        return read_statement(data)
    except Refused as refused:
        raise Flawed(Flaw.FORM, f"receipts/{at:04d}", refused.element) from None


def _vouched(witness: Witness, chains: Mapping[str, bytes], said: Signed, signed: bytes, signature: bytes, part: str) -> None:
    chain = chains.get(said.key)
    if chain is None:
        raise Flawed(Flaw.CERTIFICATE, part, said.key)
    try:
        witness(said, signed, signature, chain)
    except Refused as refused:
        flaw = Flaw.SIGNATURE if refused.element == "signature" else Flaw.CERTIFICATE
        raise Flawed(flaw, part, f"{refused.element} {refused.value}"[:200]) from None


# -- its parts -------------------------------------------------------------------------------------------------------------


def named(code: OrgId) -> str:
    """A node in a part's name; the hub's own code is empty."""
    return str(code) or "hub"


def _receipt_name(at: int, taken: Taken) -> str:
    return f"receipts/{at:04d}.{named(taken.presenter)}-{named(taken.node)}.json"


def _verdict_name(at: int, notice: Header) -> str:
    return f"verdicts/{at:04d}.{named(notice.origin)}.json"


def _parts(bundle: Bundle) -> dict[str, bytes]:
    """Every part but the manifest and its signature, by its name, which says whose it is."""
    parts = {HEADER: bundle.header, HEADER_SEAL: bundle.signature}
    owners = {bundle.key: bundle.node, decode_header(bundle.header).key: bundle.node}
    for at, proven in enumerate(sorted(bundle.receipts, key=_by_statement), 1):
        taken = read_statement(proven.statement)
        owners[taken.key] = taken.node
        parts[_receipt_name(at, taken)] = canonical(proven_fields(proven))
    for at, told in enumerate(sorted(bundle.verdicts, key=_by_header), 1):
        notice = decode_header(told.header)
        owners[notice.key] = notice.origin
        parts[_verdict_name(at, notice)] = canonical(told_fields(told))
    whose = {key: named(owners[key]) if key in owners else "-" for key in bundle.chains}
    chains = {f"certificates/{whose[key]}.{key}.pem": chain for key, chain in bundle.chains.items()}
    return {**parts, **dict(sorted(chains.items()))}


def _by_statement(proven: Proven) -> tuple[int, bytes]:
    return read_statement(proven.statement).at_ms, proven.statement


def _by_header(told: Told) -> bytes:
    return told.header


def _manifest(bundle: Bundle, parts: Mapping[str, bytes]) -> bytes:
    fields = {"v": 1, "doc": bundle.doc_id, "node": str(bundle.node), "to": sorted(map(str, bundle.to)), "key": bundle.key}
    digests = [[name, hashlib.sha256(data).hexdigest()] for name, data in parts.items()]
    return canonical({**fields, "at": bundle.at_ms, "bound": bundle.bound_ms, "parts": digests})


def _read(parts: Mapping[str, bytes]) -> Bundle:
    """Raises Flawed and Refused. What the manifest does not list with its digest is not looked into."""
    if [*parts][:2] != [MANIFEST, SEAL]:
        raise Flawed(Flaw.FORM, MANIFEST, "first")
    for name, data in parts.items():
        if len(data) > PART_BYTES_MAX:
            raise Flawed(Flaw.FORM, name, f"> {PART_BYTES_MAX} B")
    fields = Fields(strict_json(parts[MANIFEST]), MANIFEST)
    fields.whole("v", 1, 1)
    pairs = [pair for pair in fields.items("parts", PARTS_MAX) if isinstance(pair, list) and len(pair) == 2]
    listed = [(str(name), str(digest)) for name, digest in pairs]
    for name, data in parts.items():
        if name not in (MANIFEST, SEAL) and (name, hashlib.sha256(data).hexdigest()) not in listed:
            raise Flawed(Flaw.ALTERED, name)
    if [name for name, _ in listed] != [*parts][2:]:
        raise Flawed(Flaw.ALTERED, MANIFEST, "parts")
    return Bundle(
        read_code(fields.get("node"), MANIFEST),
        fields.whole("at"),
        fields.whole("bound"),
        fields.text("key", 64, _HEX),
        fields.text("doc", 64),
        tuple(read_code(code, MANIFEST) for code in fields.items("to", RECIPIENTS_MAX)),
        parts.get(HEADER, b""),
        parts.get(HEADER_SEAL, b""),
        tuple(_read_proven(Fields(strict_json(data), name), name) for name, data in _within(parts, "receipts/")),
        tuple(_read_told(Fields(strict_json(data), name), name) for name, data in _within(parts, "verdicts/")),
        {name.removesuffix(".pem").rpartition(".")[2]: data for name, data in _within(parts, "certificates/")},
    )


def _within(parts: Mapping[str, bytes], folder: str) -> list[tuple[str, bytes]]:
    return [(name, data) for name, data in parts.items() if name.startswith(folder)]


def _read_proven(fields: Fields, part: str) -> Proven:
    proofs = []
    for item in fields.items("proofs", RECIPIENTS_MAX):
        if not isinstance(item, list) or len(item) != 3:
            raise Flawed(Flaw.FORM, part, "proofs")
        inner = Fields({"index": item[1], "path": item[2]}, part)
        steps = inner.items("path", PATH_MAX)
        if not all(isinstance(step, str) and _HEX.fullmatch(step) for step in steps):
            raise Flawed(Flaw.FORM, part, "path")
        path = tuple(bytes.fromhex(step) for step in steps)
        proofs.append(Proof(read_code(item[0], part), inner.whole("index", 0, COUNT_MAX), path))
    return Proven(_long(fields, "statement", part), _bytes(fields, "signature", part), tuple(proofs))


def _read_told(fields: Fields, part: str) -> Told:
    return Told(_long(fields, "header", part), _bytes(fields, "signature", part), _long(fields, "body", part))


def _long(fields: Fields, name: str, part: str) -> bytes:
    return fields.text(name, BUNDLE_BYTES_MAX).encode()


def _bytes(fields: Fields, name: str, part: str) -> bytes:
    try:
        return base64.b64decode(fields.text(name, 400), validate=True)
    except ValueError:
        raise Flawed(Flaw.FORM, part, name) from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# -- the file --------------------------------------------------------------------------------------------------------------

_LOCAL, _CENTRAL, _TAIL = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_VERSION, _STORED, _MIDNIGHT, _DAY = 20, 0, 0, 33
"""What every entry says of itself: ZIP 2.0, not compressed, 1 January 1980, 0:00."""


def pack(parts: Mapping[str, bytes]) -> bytes:
    """A ZIP archive of these parts in their order; the same parts give the same bytes, always."""
    local, central = bytearray(), bytearray()
    for name, data in parts.items():
        label = name.encode("ascii")
        about = (_VERSION, 0, _STORED, _MIDNIGHT, _DAY, zlib.crc32(data), len(data), len(data), len(label))
        central += _CENTRAL.pack(b"PK\x01\x02", _VERSION, *about, 0, 0, 0, 0, 0, len(local)) + label
        local += _LOCAL.pack(b"PK\x03\x04", *about, 0) + label + data
    tail = _TAIL.pack(b"PK\x05\x06", 0, 0, len(parts), len(parts), len(central), len(local), 0)
    return bytes(local + central + tail)


def unpack(data: bytes) -> dict[str, bytes]:
    """The parts of an archive that `pack` would write so, byte for byte; else `Flawed`, with the part where it differs."""
    if len(data) > BUNDLE_BYTES_MAX:
        raise Flawed(Flaw.FORM, "zip", f"> {BUNDLE_BYTES_MAX} B")
    parts: dict[str, bytes] = {}
    at = 0
    while data[at : at + 4] == b"PK\x03\x04" and len(parts) < PARTS_MAX and len(data) >= at + _LOCAL.size:
        *_, checksum, _size, size, length, extra = _LOCAL.unpack_from(data, at)
        begin = at + _LOCAL.size + length
        name = data[at + _LOCAL.size : begin].decode("ascii", "replace")
        part = data[begin : begin + size]
        if not _NAME.fullmatch(name) or name in parts or len(part) != size or extra:
            break
        if zlib.crc32(part) != checksum:
            raise Flawed(Flaw.ALTERED, name, f"byte {begin}..{begin + size}")
        parts[name] = part
        at = begin + size
    again = pack(parts)
    if again != data or not parts:
        block = next((n for n in range(0, len(data), 4096) if again[n : n + 4096] != data[n : n + 4096]), len(data))
        near = zip(again[block : block + 4096], data[block : block + 4096], strict=False)
        differs = next((n for n, (a, b) in enumerate(near, block) if a != b), min(len(again), len(data)))
        raise Flawed(Flaw.FORM, "zip", f"byte {min(differs, at) if at else differs}")
    return parts


def proofs_of(leaves: bytes, deliveries: Iterable[tuple[OrgId, bytes]]) -> tuple[Proof, ...]:
    """What a receipt proves of these (recipient, leaf); those it was not given for are left out."""
    level = [leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]
    levels, places = merkle_levels(level), {each: index for index, each in enumerate(level)}
    found = [(recipient, places[each]) for recipient, each in deliveries if each in places]
    return tuple(Proof(recipient, index, tuple(merkle_path(levels, index))) for recipient, index in found)


def proven_fields(proven: Proven) -> dict[str, Any]:
    """As JSON, for the wire."""
    proofs = sorted([str(each.recipient), each.index, [step.hex() for step in each.path]] for each in proven.proofs)
    return {"statement": proven.statement.decode(), "signature": _text(proven.signature), "proofs": proofs}


def read_proven(value: object) -> Proven:
    """The inverse of `proven_fields`, or Refused(WIRE_MALFORMED)."""
    try:
        return _read_proven(Fields(value, "receipt"), "receipt")
    except Flawed as flawed:
        raise Refused(Reason.WIRE_MALFORMED, flawed.detail) from None


def told_fields(told: Told) -> dict[str, Any]:
    return {"header": told.header.decode(), "signature": _text(told.signature), "body": told.body.decode()}


def read_told(value: object) -> Told:
    """The inverse of `told_fields`, or Refused(WIRE_MALFORMED)."""
    try:
        return _read_told(Fields(value, "verdict"), "verdict")
    except Flawed as flawed:
        raise Refused(Reason.WIRE_MALFORMED, flawed.detail) from None

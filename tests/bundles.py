"""A bundle of evidence made by hand, with real keys: a document from H41.07 over H41 and the hub to H54."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

from node.adapters.signing import Signer
from node.core.bundle import Bundle, Proven, Told, proofs_of, write_bundle
from node.core.custody import End, EndOf
from node.core.envelope import KIND_NOTICE, BodyRef, Recipient, encode_header, header_digest
from node.core.evidence import SIGNED_RECEIPT, Taken, leaves, merkle_root, write_statement
from node.core.identifier import OrgId
from node.core.lifecycle import Transport
from node.core.notice import MEDIA_NOTICE, encode_notice
from tests.adapters.pki import NOW_MS, ZONE, Holder, authority, leaf, put
from tests.core.test_envelope import HEADER

HUB, H41, H54, UNIT = (OrgId.canonical(text) for text in ("", "H41", "H54", "H41.07"))
TO = OrgId.canonical("H54.02")
WAY = (UNIT, H41, HUB, H54)
_ROOT = authority("gốc của bằng chứng")
ROOT_PEM = _ROOT.pem


Signers = Callable[[OrgId], Signer]


def signers(issuer: Holder, zone: str) -> Signers:
    """The node of each code, with a certificate of this authority under its name in this zone."""

    def signer(code: OrgId) -> Signer:
        with tempfile.TemporaryDirectory() as folder:
            files = put(Path(folder), leaf(issuer, code.dns_name(zone)), issuer)
            return Signer(files.certificate, files.key)

    return cache(signer)


signer = signers(_ROOT, ZONE)


def made_by(signer: Signers) -> bytes:
    """A whole bundle, file and all, by other keys."""
    return file_of(bundle(signer=signer), signer(WAY[0]).sign)


def bundle(way: tuple[OrgId, ...] = WAY, signer: Signers = signer) -> Bundle:
    """Its parts, signed by their nodes; the last of the way tells the end."""
    own = signer(way[0])
    header = replace(HEADER, origin=way[0], sender=way[0], recipients=(Recipient(TO),), created_ms=NOW_MS, key=own.key_id)
    encoded = encode_header(header)
    receipts = []
    for at, (presenter, node) in enumerate(pairwise(way), 1):
        at_ms = NOW_MS + 100 * at
        others = [((way[0], f"{number:08d}-0000-7000-8000-000000000000", TO), "ab" * 32) for number in range(at)]
        level = leaves([((way[0], header.id, TO), header_digest(encoded)), *others], at_ms)
        mine = leaves([((way[0], header.id, TO), header_digest(encoded))], at_ms)[0]
        key = signer(node).key_id
        statement = write_statement(Taken(node, presenter, merkle_root(level).hex(), len(level), at_ms, 5, key))
        signature = signer(node).sign(SIGNED_RECEIPT + statement)
        receipts.append(Proven(statement, signature, proofs_of(b"".join(level), [(TO, mine)])))
    told = notice(way[-1], way[0], header.id, signer)
    keys = {each: signer(each) for each in way}
    chains = {each.key_id: each.chain_pem for each in keys.values()}
    signature = own.sign(encoded)
    return Bundle(
        way[0], NOW_MS + 9000, 5, own.key_id, header.doc_id, (TO,), encoded, signature, tuple(receipts), (told,), chains
    )


COLLECTED = End(Transport.COLLECTED, NOW_MS + 5000)


def notice(node: OrgId, origin: OrgId, id_: str, signer: Signers = signer, end: End = COLLECTED) -> Told:
    body = encode_notice([EndOf(origin, id_, TO, end)])
    header = replace(
        HEADER,
        kind=KIND_NOTICE,
        origin=node,
        sender=node,
        recipients=(Recipient(origin),),
        created_ms=NOW_MS + 5000,
        expires_ms=0,
        bodies=(BodyRef(hashlib.sha256(body).hexdigest(), len(body)),),
        media=MEDIA_NOTICE,
        key=signer(node).key_id,
    )
    return Told(encode_header(header), signer(node).sign(encode_header(header)), body)


def file_of(made: Bundle, sign: Callable[[bytes], bytes] | None = None) -> bytes:
    return write_bundle(made, sign or signer(made.node).sign)

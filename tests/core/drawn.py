"""Headers and envelopes for hypothesis to draw, within the limits of the form."""

from __future__ import annotations

import hashlib

from hypothesis import strategies as st

from node.core.envelope import TIME_MAX_MS, BodyRef, Envelope, Header, Hop, Recipient, encode_header, open_envelope
from node.core.identifier import OrgId
from node.core.package import Business, Priority

LEVELS = st.sampled_from(["H41", "H54", "K54", "G22", "G12", "A1", "VXP", "SAAS", "03", "18", "99", "X-Y"])
CODES = st.lists(LEVELS, min_size=1, max_size=4).map(lambda path: OrgId.parse(".".join(["H10", *path])))
NODES = st.one_of(st.just(OrgId(())), CODES)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
DIGESTS = st.binary(max_size=4).map(lambda seed: hashlib.sha256(seed).hexdigest())
UUIDS = st.uuids().map(str)
TIMES = st.integers(0, TIME_MAX_MS)
RECIPIENTS = st.builds(Recipient, CODES, TEXTS, st.none() | CODES)

HEADERS = st.builds(
    Header,
    id=UUIDS,
    origin=NODES,
    epoch=st.integers(1, 1000),
    kind=st.sampled_from(["edoc", "status", "notice", "x-later.kind"]),
    sender=NODES,
    recipients=st.lists(RECIPIENTS, min_size=1, max_size=5, unique_by=lambda each: each.code).map(tuple),
    priority=st.sampled_from(Priority),
    created_ms=TIMES,
    bound_ms=st.integers(0, 10_000),
    expires_ms=TIMES,
    doc_id=TEXTS,
    document_id=TEXTS,
    business=st.sampled_from(Business),
    bodies=st.lists(st.builds(BodyRef, DIGESTS, st.integers(0, 1 << 40)), max_size=3).map(tuple),
    media=st.sampled_from(["application/edxml", ""]),
    key=DIGESTS,
    refs=st.lists(TEXTS, max_size=3).map(tuple),
)
HOPS = st.builds(Hop, NODES, TIMES, st.integers(0, 10_000))


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """A header with a signature of any bytes, for some of its recipients, after some hops."""
    header = draw(HEADERS)
    codes = [each.code for each in header.recipients]
    remaining = draw(st.lists(st.sampled_from(codes), min_size=1, unique=True))
    signature = draw(st.binary(min_size=1, max_size=200))
    hops = draw(st.lists(HOPS, max_size=3))
    return open_envelope(encode_header(header), signature, tuple(remaining), tuple(hops), draw(st.integers(0, 9)))

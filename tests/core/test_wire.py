"""What crosses a link: every value survives the trip, and any bytes decode or are refused."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.envelope import RECIPIENTS_MAX, TIME_MAX_MS, Hop, Recipient, encode_header, open_envelope
from node.core.errors import Reason, Refused
from node.core.evidence import CHAIN_BYTES_MAX, Receipt
from node.core.identifier import OrgId
from node.core.timekeeping import Moment
from node.core.wire import (
    ANSWER_WAIT_MAX_MS,
    CLOCK_BYTES_MAX,
    ENVELOPE_BYTES_MAX,
    INSTANT_MAX_US,
    MAGIC,
    NEED_MAX,
    QUESTION_BYTES_MAX,
    QUESTIONS_MAX,
    STRATUM_MAX,
    Batch,
    ClockAnswer,
    EnvelopeVerdicts,
    Outcome,
    PullRequest,
    Question,
    Verdict,
    WireLimits,
    decode_batch,
    decode_clock_answer,
    decode_clock_question,
    decode_pull,
    decode_verdicts,
    encode_batch,
    encode_clock_answer,
    encode_clock_question,
    encode_pull,
    encode_verdicts,
    leaf_digest,
    limits_for,
    told_time,
)
from tests.core.drawn import CODES, DIGESTS, NODES, UUIDS, envelopes
from tests.core.test_envelope import H41, H54, HEADER

LIMITS = WireLimits(bytes_max=1 << 20, envelopes_max=20, recipients_max=200)
WIRE = (Reason.WIRE_MALFORMED, Reason.WIRE_TOO_LARGE)


def chain_of(der: bytes) -> bytes:
    text = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


def by_digest(values: list[bytes]) -> dict[str, bytes]:
    return {hashlib.sha256(value).hexdigest(): value for value in values}


QUESTIONS = st.builds(
    Question,
    st.from_regex(r"[a-z][a-z-]{0,39}", fullmatch=True),
    st.binary(max_size=60),
    st.integers(0, ANSWER_WAIT_MAX_MS),
    st.integers(0, TIME_MAX_MS),
)
BATCHES = st.builds(
    Batch,
    st.lists(envelopes(), max_size=4).map(tuple),
    st.lists(st.binary(max_size=100), max_size=4).map(by_digest),
    st.lists(st.binary(min_size=1, max_size=60), max_size=3).map(
        lambda ders: {hashlib.sha256(der).hexdigest(): chain_of(der) for der in ders}
    ),
    st.integers(0, TIME_MAX_MS),
    st.lists(QUESTIONS, max_size=QUESTIONS_MAX).map(tuple),
    st.just("") | DIGESTS,
)
VERDICT = st.one_of(
    st.just(Verdict(Outcome.TAKEN)),
    st.builds(Verdict, st.just(Outcome.NEED), need=st.lists(DIGESTS, min_size=1, max_size=3).map(tuple)),
    st.builds(Verdict, st.just(Outcome.REFUSED), reason=st.sampled_from(Reason)),
    st.builds(Verdict, st.just(Outcome.LATER), reason=st.none() | st.sampled_from(Reason), retry_s=st.floats(0, 86_400)),
)
RECEIPT = Receipt(b"{}", b"0", b"chain")
SPOKEN = st.builds(EnvelopeVerdicts, NODES, UUIDS, st.dictionaries(CODES, VERDICT, min_size=1, max_size=6))
VERDICTS = st.lists(SPOKEN, max_size=5, unique_by=lambda each: (each.origin, each.id)).map(tuple)
PULLS = st.builds(
    PullRequest,
    st.from_regex(r"[0-9A-Za-z-]{1,64}", fullmatch=True),
    st.integers(0, TIME_MAX_MS),
    st.integers(0, TIME_MAX_MS),
    VERDICTS,
    st.integers(0, 1 << 40),
    st.integers(0, 60_000),
)


def sample() -> Batch:
    """A batch with every kind of frame, about 1 kB."""
    body = b"<edXML/>"
    header = replace(HEADER, bodies=(), refs=("r",))
    one = open_envelope(encode_header(header), b"\x30" * 70, (H54,), (Hop(H41, 5, 1), Hop(OrgId(()), 9, 1)), 1)
    chain = chain_of(b"der of a leaf")
    return Batch(
        (one,), by_digest([body]), {leaf_digest(chain): chain}, 41, (Question("evidence", b"of what", 2000, 9),), "ab" * 32
    )


def refusal(decode: Callable[[bytes, WireLimits], object], data: bytes, limits: WireLimits = LIMITS) -> Refused:
    with pytest.raises(Refused) as caught:
        decode(data, limits)
    assert caught.value.reason in WIRE
    return caught.value


def decodes_or_is_refused(decode: Callable[[bytes, WireLimits], object], data: bytes) -> bool:
    try:
        decode(data, LIMITS)
    except Refused as error:
        assert error.reason in WIRE
        return False
    return True


# -- batches -----------------------------------------------------------------------------------------------------------


@given(BATCHES)
def test_a_batch_reads_back_what_was_written(batch: Batch) -> None:
    read = decode_batch(encode_batch(batch), LIMITS)
    assert read == batch
    assert [each.digest for each in read.envelopes] == [each.digest for each in batch.envelopes]


def test_header_bytes_cross_the_link_exactly_even_when_a_later_version_writes_them_differently() -> None:
    data = json.dumps({**json.loads(encode_header(HEADER)), "later": [1, 2]}, indent=2).encode()
    batch = Batch((open_envelope(data, b"s", (H54,), (), 0),))
    assert decode_batch(encode_batch(batch), LIMITS).envelopes[0].header_bytes == data


@given(st.binary(max_size=400))
def test_any_bytes_are_a_batch_or_refused(data: bytes) -> None:
    decodes_or_is_refused(decode_batch, data)
    decodes_or_is_refused(decode_batch, MAGIC + data)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.binary(max_size=80)), max_size=6))
def test_any_frames_are_a_batch_or_refused(frames: list[tuple[int, int, bytes]]) -> None:
    data = b"".join(struct.pack(">BBI", kind, flags, len(payload)) + payload for kind, flags, payload in frames)
    decodes_or_is_refused(decode_batch, MAGIC + data)


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_as_a_wrapper_or_header_is_refused(value: object) -> None:
    text = json.dumps(value).encode()
    header = encode_header(HEADER)
    refusal(decode_batch, MAGIC + SEQUENCE + envelope_frame(text, header, b"s"))
    refusal(decode_batch, MAGIC + SEQUENCE + envelope_frame(b'{"to":["H54"],"hops":[],"attempts":0}', text, b"s"))


def test_every_single_byte_changed_is_decoded_or_refused_and_never_taken_for_the_same() -> None:
    batch = sample()
    data = encode_batch(batch)
    accepted = 0
    for at in range(len(data)):
        for change in (0x01, 0x80, 0xFF):
            wrong = data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
            if decodes_or_is_refused(decode_batch, wrong):
                accepted += 1
                assert decode_batch(wrong, LIMITS) != batch or at_pem_space(data, at)
    assert 0 < accepted < len(data)  # texts and signatures may change; the signature itself is judged elsewhere


def test_questions_beyond_what_one_batch_holds_or_a_node_reads_are_refused() -> None:
    asked = Question("evidence", b"x", 2000, 1)
    assert refusal(decode_batch, encode_batch(Batch(questions=(asked,) * (QUESTIONS_MAX + 1)))).element == "questions"
    long = replace(asked, body=bytes(QUESTION_BYTES_MAX + 1))
    assert refusal(decode_batch, encode_batch(Batch(questions=(long,)))).element == "question"
    assert refusal(decode_batch, encode_batch(Batch(questions=(replace(asked, kind="Ev"),)))).element == "question.kind"
    assert refusal(decode_batch, encode_batch(Batch(questions=(replace(asked, within_ms=60_000),)))).value == "60000"


def at_pem_space(data: bytes, at: int) -> bool:
    return data[at : at + 1].isspace()


def test_a_batch_cut_short_anywhere_is_refused() -> None:
    data = encode_batch(sample())
    ends = frame_ends(data)
    for size in range(len(data)):
        if size not in ends:
            refusal(decode_batch, data[:size])
    assert refusal(decode_batch, data + b"\x00").element == "frame"


def frame_ends(data: bytes) -> set[int]:
    ends, at = set(), len(MAGIC)
    while at < len(data):
        at += 6 + struct.unpack_from(">BBI", data, at)[2]
        ends.add(at)
    return ends


SEQUENCE = struct.pack(">BBIQ", 1, 0, 8, 7)


def frame(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BBI", kind, flags, len(payload)) + payload


def envelope_frame(wrapper: bytes, header: bytes, signature: bytes) -> bytes:
    return frame(4, struct.pack(">IIH", len(wrapper), len(header), len(signature)) + wrapper + header + signature)


BODY = hashlib.sha256(b"b").digest() + b"b"


@pytest.mark.parametrize(
    ("data", "element"),
    [
        (b"", "batch"),
        (b"truc-batch-2\r\n" + SEQUENCE, "batch"),
        (MAGIC, "sequence"),
        (MAGIC + frame(3, BODY), "sequence"),
        (MAGIC + SEQUENCE + SEQUENCE, "sequence"),
        (MAGIC + frame(1, b"\x00" * 7), "sequence"),
        (MAGIC + frame(1, b"\xff" * 8), "sequence"),
        (MAGIC + SEQUENCE + frame(9, b""), "frame.kind"),
        (MAGIC + SEQUENCE + frame(5, b""), "question"),
        (MAGIC + SEQUENCE + frame(0, b""), "frame.kind"),
        (MAGIC + SEQUENCE + frame(3, BODY, flags=1), "frame.flags"),
        (MAGIC + SEQUENCE + frame(3, BODY) + frame(2, b""), "frame.kind"),
        (MAGIC + SEQUENCE + frame(3, BODY) + frame(3, BODY), "body"),
        (MAGIC + SEQUENCE + frame(3, b"\x00" * 32 + b"b"), "body"),
        (MAGIC + SEQUENCE + frame(3, b"short"), "body"),
        (MAGIC + SEQUENCE + frame(2, b"\x00" * 32 + chain_of(b"x")), "chain"),
        (MAGIC + SEQUENCE + frame(2, b"\x00" * 32 + b"no pem"), "chain"),
        (MAGIC + SEQUENCE + frame(2, hashlib.sha256(b"x").digest() + chain_of(b"x").replace(b"=", b"!=", 1)), "chain"),
        (MAGIC + SEQUENCE + frame(4, b"\x00" * 9), "envelope"),
        (MAGIC + SEQUENCE + frame(4, struct.pack(">IIH", 1, 1, 1) + b"xx"), "envelope"),
        (MAGIC + SEQUENCE + envelope_frame(b"{}", b"{}", b""), "signature"),
        (MAGIC + SEQUENCE + envelope_frame(b"{}", b"{}", b"s" * 201), "signature"),
        (MAGIC + SEQUENCE + envelope_frame(b" " * (256 * 1024 + 1), b"{}", b"s"), "wrapper"),
        (MAGIC + SEQUENCE + envelope_frame(b"{}", b" " * (256 * 1024 + 1), b"s"), "header"),
    ],
)
def test_a_batch_of_another_form_is_refused_by_name(data: bytes, element: str) -> None:
    assert refusal(decode_batch, data).element == element


@pytest.mark.parametrize(
    "wrapper",
    [
        {"to": ["H41"], "hops": [], "attempts": 0},
        {"to": [], "hops": [], "attempts": 0},
        {"to": ["H54", "H54"], "hops": [], "attempts": 0},
        {"to": ["h54"], "hops": [], "attempts": 0},
        {"to": ["H54"], "hops": [["H41", 1]], "attempts": 0},
        {"to": ["H54"], "hops": [["H41", 1, -1]], "attempts": 0},
        {"to": ["H54"], "hops": [["H41", True, 1]], "attempts": 0},
        {"to": ["H54"], "hops": [["H41", 1, 1]] * 65, "attempts": 0},
        {"to": ["H54"], "hops": [], "attempts": 1_000_001},
        {"to": ["H54"], "hops": [], "attempts": 0.0},
        {"to": ["H54"], "hops": []},
        {"to": ["H54"], "hops": [], "attempts": 0, "later": 1},
    ],
)
def test_a_wrapper_of_another_form_is_refused(wrapper: dict[str, Any]) -> None:
    data = MAGIC + SEQUENCE + envelope_frame(json.dumps(wrapper).encode(), encode_header(HEADER), b"s")
    assert refusal(decode_batch, data).reason is Reason.WIRE_MALFORMED


@pytest.mark.parametrize("depth", [*range(900, 1100, 7), 5_000, 100_000])
def test_nesting_at_any_depth_is_refused_whoever_runs_out_of_stack_first(depth: int) -> None:
    """Threats, row 10."""
    deep = b"[" * depth + b"]" * depth
    for data in (b'{"to":' + deep + b"}", b'{"to":["H54"],"hops":[' + deep + b'],"attempts":0}'):
        refusal(decode_batch, MAGIC + SEQUENCE + envelope_frame(data, encode_header(HEADER), b"s"))
    header = encode_header(HEADER).replace(b'"refs":[]', b'"refs":' + deep)
    refusal(decode_batch, MAGIC + SEQUENCE + envelope_frame(b'{"to":["H54"],"hops":[],"attempts":0}', header, b"s"))
    refusal(decode_verdicts, b'{"verdicts":[' + deep + b"]}")
    refusal(
        decode_verdicts,
        b'{"verdicts":[{"origin":"","id":"' + b"0" * 36 + b'","to":["A1"],"outcome":"need","need":' + deep + b"}]}",
    )
    refusal(decode_pull, b'{"session":' + deep + b"}")


def test_half_a_surrogate_pair_in_a_text_is_refused_since_no_database_holds_it() -> None:
    header = encode_header(HEADER).replace("VB-ĐT/2026".encode(), b"\\ud800")
    data = MAGIC + SEQUENCE + envelope_frame(b'{"to":["H54"],"hops":[],"attempts":0}', header, b"s")
    assert refusal(decode_batch, data).element == "json"


def many(count: int, recipients: int = 1) -> Batch:
    to = tuple(Recipient(OrgId(("H10", str(number)))) for number in range(1, recipients + 1))
    header = replace(HEADER, recipients=to)
    one = open_envelope(encode_header(header), b"s", tuple(each.code for each in to), (), 0)
    return Batch((one,) * count)


@pytest.mark.parametrize(
    ("batch", "element"),
    [(many(21), "envelopes"), (many(1, recipients=201), "recipients"), (many(3, recipients=100), "recipients")],
)
def test_a_batch_with_too_many_parts_is_too_large(batch: Batch, element: str) -> None:
    """Threats, row 9."""
    found = refusal(decode_batch, encode_batch(batch))
    assert (found.reason, found.element) == (Reason.WIRE_TOO_LARGE, element)


def test_a_batch_at_its_limits_is_read() -> None:
    assert len(decode_batch(encode_batch(many(20, recipients=10)), LIMITS).envelopes) == 20
    data = encode_batch(sample())
    assert decode_batch(data, replace(LIMITS, bytes_max=len(data))) == sample()
    assert refusal(decode_batch, data, replace(LIMITS, bytes_max=len(data) - 1)).reason is Reason.WIRE_TOO_LARGE


def test_one_envelope_to_every_commune_passes_the_smallest_link() -> None:
    limits = limits_for(batch_bytes_max=64 * 1024, envelopes_max=1)
    to = tuple(Recipient(OrgId(("H41", "11111111111111", f"{number:05}X")), "") for number in range(RECIPIENTS_MAX))
    header = replace(HEADER, recipients=to, bodies=())
    whole = open_envelope(encode_header(header), b"s" * 72, tuple(each.code for each in to), (), 0)
    data = encode_batch(Batch((whole,)))
    assert len(data) < ENVELOPE_BYTES_MAX
    assert decode_batch(data, limits).envelopes == (whole,)
    each = {code: Verdict(Outcome.REFUSED, reason=Reason.RECIPIENT_NOT_CONNECTED) for code in whole.remaining}
    spoken = (EnvelopeVerdicts(header.origin, header.id, each),)
    assert decode_verdicts(encode_verdicts(spoken), limits) == spoken


def test_a_chain_too_long_is_refused() -> None:
    chain = chain_of(b"x") + b" " * CHAIN_BYTES_MAX
    data = encode_batch(Batch(certificates={leaf_digest(chain): chain}))
    assert refusal(decode_batch, data).reason is Reason.WIRE_TOO_LARGE


def test_a_length_that_lies_is_refused_before_anything_of_its_size_is_made() -> None:
    lies = MAGIC + SEQUENCE + struct.pack(">BBI", 3, 0, 0xFFFFFFFF) + b"x" * 50
    inner = frame(4, struct.pack(">IIH", 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF) + b"x" * 50)
    tracemalloc.start()
    try:
        refusal(decode_batch, lies)
        refusal(decode_batch, MAGIC + SEQUENCE + inner)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


# -- verdicts and pulls ------------------------------------------------------------------------------------------------


@given(VERDICTS)
def test_verdicts_read_back_what_was_written(verdicts: tuple[EnvelopeVerdicts, ...]) -> None:
    assert decode_verdicts(encode_verdicts(verdicts), LIMITS) == verdicts


@given(PULLS)
def test_a_pull_reads_back_what_was_written(request_: PullRequest) -> None:
    assert decode_pull(encode_pull(request_), LIMITS) == request_


def test_verdicts_on_which_all_recipients_agree_take_one_line() -> None:
    taken = EnvelopeVerdicts(H41, HEADER.id, {H41: Verdict(Outcome.TAKEN), H54: Verdict(Outcome.TAKEN)})
    lines = json.loads(encode_verdicts([taken]))["verdicts"]
    assert lines == [{"origin": "H41", "id": HEADER.id, "to": ["H41", "H54"], "outcome": "taken"}]


@given(st.binary(max_size=200))
def test_any_bytes_are_verdicts_or_refused(data: bytes) -> None:
    decodes_or_is_refused(decode_verdicts, data)
    decodes_or_is_refused(decode_pull, data)


@settings(max_examples=30)
@given(PULLS, st.data())
def test_a_changed_byte_of_a_pull_decodes_or_is_refused(request_: PullRequest, data: st.DataObject) -> None:
    text = encode_pull(request_)
    at = data.draw(st.integers(0, len(text) - 1))
    wrong = text[:at] + bytes([data.draw(st.integers(0, 255))]) + text[at + 1 :]
    decodes_or_is_refused(decode_pull, wrong)
    decodes_or_is_refused(decode_verdicts, wrong)


def line(**changes: object) -> bytes:
    plain: dict[str, object] = {"origin": "H41", "id": HEADER.id, "to": ["H54"], "outcome": "taken"}
    return json.dumps({"verdicts": [{**plain, **changes}]}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "h41"},
        {"origin": None},
        {"id": "x"},
        {"to": []},
        {"to": ["H54", "H54"]},
        {"to": ["null"]},
        {"to": "H54"},
        {"outcome": "maybe"},
        {"outcome": 1},
        {"need": ["x"]},
        {"need": ["0" * 64] * (NEED_MAX + 1)},
        {"need": "0" * 64},
        {"reason": "Not A Word"},
        {"retry_s": -1},
        {"retry_s": 86_401},
        {"retry_s": True},
        {"retry_s": "1"},
        {"later": 1},
    ],
)
def test_a_verdict_of_another_form_is_refused(changes: dict[str, object]) -> None:
    assert refusal(decode_verdicts, line(**changes)).reason is Reason.WIRE_MALFORMED


def test_an_infinite_wait_is_refused_however_it_is_spelt() -> None:
    for spelt in (b"1e999", b"Infinity", b"NaN"):
        refusal(decode_verdicts, line(retry_s="?").replace(b'"?"', spelt))


def test_two_lines_on_one_envelope_are_joined_and_may_not_contradict() -> None:
    taken = json.loads(line())["verdicts"][0]
    refused = {**taken, "to": ["H41"], "outcome": "refused", "reason": "recipient-closed"}
    read = decode_verdicts(json.dumps({"verdicts": [taken, refused]}).encode(), LIMITS)
    closed = Verdict(Outcome.REFUSED, reason=Reason.RECIPIENT_CLOSED)
    assert read == (EnvelopeVerdicts(H41, HEADER.id, {H54: Verdict(Outcome.TAKEN), H41: closed}),)
    assert refusal(decode_verdicts, json.dumps({"verdicts": [taken, taken]}).encode()).rule == "twice"


def test_a_reason_of_a_later_version_is_still_a_refusal() -> None:
    read = decode_verdicts(line(outcome="refused", reason="moon-in-the-way"), LIMITS)
    assert read[0].verdicts[H54] == Verdict(Outcome.REFUSED, reason=Reason.INTERNAL)


def test_a_receipt_goes_with_the_verdicts_on_a_batch_and_belongs_to_each_of_them() -> None:
    said = tuple(EnvelopeVerdicts(H41, f"{number:036d}", {H54: Verdict(Outcome.TAKEN)}, RECEIPT) for number in (1, 2))
    assert decode_verdicts(encode_verdicts(said), LIMITS) == said
    plain = PullRequest("s", 1, 0, said, 5, 25_000)
    assert decode_pull(encode_pull(plain), LIMITS) == plain
    assert refusal(decode_verdicts, b'{"verdicts":[],"receipt":[]}').element == "receipt"


def test_what_a_later_version_adds_at_the_top_is_passed_over() -> None:
    known = json.loads(line())
    assert decode_verdicts(json.dumps({**known, "clock": {"a": 1}}).encode(), LIMITS) == decode_verdicts(line(), LIMITS)
    plain = PullRequest("s", 1, 0, (), 5, 25_000)
    later = json.dumps({**json.loads(encode_pull(plain)), "clock": [1]}).encode()
    assert decode_pull(later, LIMITS) == plain


@pytest.mark.parametrize(
    "changes",
    [
        {"session": ""},
        {"session": "a" * 65},
        {"session": "a b"},
        {"sequence": -1},
        {"sequence": None},
        {"confirmed": 1.5},
        {"room": "all"},
        {"wait_ms": 60_001},
        {"verdicts": None},
    ],
)
def test_a_pull_of_another_form_is_refused(changes: dict[str, object]) -> None:
    plain = json.loads(encode_pull(PullRequest("s", 1, 0, (), 5, 25_000)))
    assert refusal(decode_pull, json.dumps({**plain, **changes}).encode()).reason is Reason.WIRE_MALFORMED


def test_verdicts_on_more_recipients_or_of_more_bytes_than_a_batch_holds_are_too_large() -> None:
    one = EnvelopeVerdicts(H41, HEADER.id, {OrgId(("H10", str(n))): Verdict(Outcome.TAKEN) for n in range(1, 202)})
    assert refusal(decode_verdicts, encode_verdicts([one])).reason is Reason.WIRE_TOO_LARGE
    spaces = b" " * (LIMITS.verdict_bytes_max + 1)
    assert refusal(decode_verdicts, spaces).reason is Reason.WIRE_TOO_LARGE
    assert refusal(decode_pull, spaces).reason is Reason.WIRE_TOO_LARGE


def test_no_wait_longer_than_a_day_is_ever_written() -> None:
    patient = EnvelopeVerdicts(H41, HEADER.id, {H54: Verdict(Outcome.LATER, retry_s=1e9)})
    assert decode_verdicts(encode_verdicts([patient]), LIMITS)[0].verdicts[H54].retry_s == 86_400


# -- the time --------------------------------------------------------------------------------------------------------------

INSTANTS = st.integers(0, INSTANT_MAX_US)
ANSWERS = st.builds(ClockAnswer, INSTANTS, INSTANTS, INSTANTS, st.integers(0, STRATUM_MAX), INSTANTS, st.booleans())


@given(INSTANTS, ANSWERS)
def test_a_question_for_the_time_and_its_answer_read_back_as_written(t1_us: int, answer: ClockAnswer) -> None:
    assert decode_clock_question(encode_clock_question(t1_us)) == t1_us
    assert decode_clock_answer(encode_clock_answer(answer)) == answer
    assert max(len(encode_clock_answer(answer)), len(encode_clock_question(t1_us))) < CLOCK_BYTES_MAX / 4


@given(st.binary(max_size=200))
def test_any_bytes_are_a_question_or_an_answer_or_refused(data: bytes) -> None:
    for decode in (decode_clock_question, decode_clock_answer):
        try:
            decode(data)
        except Refused as refused:
            assert refused.reason is Reason.WIRE_MALFORMED


@given(ANSWERS, st.data())
def test_a_changed_byte_of_an_answer_decodes_or_is_refused(answer: ClockAnswer, data: st.DataObject) -> None:
    text = bytearray(encode_clock_answer(answer))
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_clock_answer(bytes(text))
    except Refused as refused:
        assert refused.reason is Reason.WIRE_MALFORMED


@pytest.mark.parametrize(
    "changes",
    [{"t2": -1}, {"t3": 1.5}, {"t1": None}, {"stratum": 256}, {"distance_us": True}, {"synchronised": 1}, {"t2": 2**60}],
)
def test_an_answer_of_another_form_is_refused(changes: dict[str, object]) -> None:
    plain = json.loads(encode_clock_answer(ClockAnswer(1, 2, 3, 4, 5, True)))
    assert decode_clock_answer(json.dumps({**plain, "leap": 1}).encode()).t3_us == 3, "a later version may say more"
    with pytest.raises(Refused):
        decode_clock_answer(json.dumps({**plain, **changes}).encode())
    with pytest.raises(Refused) as caught:
        decode_clock_question(b'{"t1":1' + b" " * CLOCK_BYTES_MAX + b"}")
    assert caught.value.reason is Reason.WIRE_TOO_LARGE


def test_the_time_is_told_with_the_wider_bound_of_its_two_moments() -> None:
    """A parent may have learned better, or lost its own parent, while the question was read."""
    told = told_time(7, Moment(100, 9, 3, True), Moment(120, 5, 2, True))
    assert told == ClockAnswer(7, 100, 120, 2, 9, True)
    assert not told_time(7, Moment(100, 9, 16, False), Moment(120, 5, 2, True)).synchronised

"""Whose turn it is on a link, and what a neighbour's word means for a row."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.core.custody import ROW_BYTES, Candidate, Offered, Settled, Settlement
from node.core.envelope import BodyRef, Lane
from node.core.errors import Deferred, Reason
from node.core.forwarding import (
    BODY_WAIT_MS,
    Patience,
    Turn,
    charge,
    cut_batch,
    in_turn,
    next_lane,
    settle,
    settle_astray,
    settle_choke,
    settle_failure,
    tells_home,
    together,
)
from node.core.identifier import OrgId
from node.core.wire import EnvelopeVerdicts, Outcome, Verdict

WEIGHTS = dict(zip(Lane, (16, 8, 4, 2, 1), strict=True))
PATIENCE = Patience(min_ms=200, max_ms=300_000, attempts_max=10)
NOW_MS = 1_930_000_000_000
ORIGIN = OrgId.canonical("H41")
HERE = OrgId.canonical("H54.02")


def row(item: int, lane: Lane = Lane.NORMAL, sender: str = "H41.07", size: int = 1000, envelope: int | None = None) -> Candidate:
    return Candidate(item, item if envelope is None else envelope, lane, sender, size)


def cut(
    lanes: Mapping[Lane, Sequence[Candidate]],
    turn: Turn | None = None,
    *,
    bytes_max: int = 1 << 20,
    rows_max: int = 5000,
    envelopes_max: int = 500,
    slow: bool = False,
    beside: Lane | None = None,
) -> tuple[list[Candidate], Turn]:
    limits = {"bytes_max": bytes_max, "rows_max": rows_max, "envelopes_max": envelopes_max}
    return cut_batch(lanes, WEIGHTS, turn or Turn(), **limits, slow=slow, beside=beside)


# --- lanes, decision 9 -----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(lanes=st.sets(st.sampled_from(Lane), min_size=1), size=st.integers(1, 200_000), rows_max=st.integers(1, 12))
def test_every_lane_with_work_gets_its_share_of_a_full_link_however_small_the_batches(
    lanes: set[Lane], size: int, rows_max: int
) -> None:
    """Decision 9: weighted fair between lanes, a floor for the lowest; also where every batch holds one row."""
    numbers = itertools.count()
    carried: Counter[Lane] = Counter()
    turn = Turn()
    total = sum(WEIGHTS[lane] for lane in lanes)
    while sum(carried.values()) < 6 * total:
        waiting = {lane: [row(next(numbers), lane, size=size) for _ in range(rows_max)] for lane in lanes}
        batch, turn = cut(waiting, turn, rows_max=rows_max, bytes_max=1 << 40)
        carried.update(each.lane for each in batch)
    for lane in lanes:
        fair = sum(carried.values()) * WEIGHTS[lane] / total
        assert abs(carried[lane] - fair) <= 2, (lane, carried)


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=3))
def test_the_lowest_lane_moves_although_hoa_toc_never_stops(sizes: list[int]) -> None:
    turn = Turn()
    numbers = itertools.count(100)
    left = [row(number, Lane.NORMAL, size=size) for number, size in enumerate(sizes)]
    for _ in range(sum(4 + 8 * size // 1000 for size in sizes)):  # hỏa tốc has eight times the weight
        urgent = [row(next(numbers), Lane.EXPRESS, size=1000)]
        batch, turn = cut({Lane.EXPRESS: urgent, Lane.NORMAL: left}, turn, rows_max=1)
        left = [each for each in left if each not in batch]
        if not left:
            return
    raise AssertionError(f"{len(left)} ordinary documents starved")


def test_a_row_that_arrives_in_an_idle_lane_goes_with_the_next_batch() -> None:
    """An idle lane saves up nothing and owes nothing: hỏa tốc waits for one batch at most. # QĐ 28/2018 Điều 6.2"""
    turn = Turn()
    for number in range(100):
        _, turn = cut({Lane.NORMAL: [row(number, size=900_000)]}, turn, rows_max=1)
    for number in range(100):
        _, turn = cut({Lane.EXPRESS: [row(1000 + number, Lane.EXPRESS)]}, turn, rows_max=1)
    both = {Lane.NORMAL: [row(5000)], Lane.EXPRESS: [row(5001, Lane.EXPRESS)]}
    batch, _ = cut(both, turn, rows_max=2)
    assert [each.item for each in batch] == [5001, 5000]
    batch, _ = cut({Lane.NORMAL: [row(6000)]}, turn, rows_max=1)
    assert [each.item for each in batch] == [6000]


@pytest.mark.parametrize("idle", [Lane.NORMAL, Lane.EXPRESS])
def test_a_lane_that_was_idle_for_long_has_saved_up_no_right_to_the_link(idle: Lane) -> None:
    """Else a day's quiet of ordinary documents would let them pass before hỏa tốc for as long."""
    busy = Lane.EXPRESS if idle is Lane.NORMAL else Lane.NORMAL
    numbers = itertools.count()
    turn = Turn()
    for _ in range(1000):
        _, turn = cut({busy: [row(next(numbers), busy)]}, turn, rows_max=1)
    carried: Counter[Lane] = Counter()
    for _ in range(18):
        batch, turn = cut({lane: [row(next(numbers), lane)] for lane in (busy, idle)}, turn, rows_max=1)
        carried.update(each.lane for each in batch)
    assert 1 <= carried[Lane.NORMAL] <= 3


def test_the_urgent_stand_first_in_a_batch() -> None:
    """QĐ 28/2018 Điều 6.2"""
    waiting = {lane: [row(int(lane), lane)] for lane in reversed(Lane)}
    batch, _ = cut(waiting)
    assert [each.lane for each in batch] == list(Lane)


# --- a slow link, which batches and bodies share ---------------------------------------------------------------------------


def test_on_a_slow_link_the_urgent_have_nothing_less_urgent_behind_them() -> None:
    """Their verdicts come sooner, and the others with the next batch."""
    waiting = {Lane.EXPRESS: [row(1, Lane.EXPRESS), row(2, Lane.EXPRESS)], Lane.NORMAL: [row(3)]}
    batch, turn = cut(waiting, slow=True)
    assert [each.item for each in batch] == [1, 2]
    batch, _ = cut({Lane.NORMAL: [row(3)]}, turn, slow=True)
    assert [each.item for each in batch] == [3]


def test_on_a_slow_link_the_urgent_join_a_batch_that_it_was_the_turn_of_others_to_begin() -> None:
    _, turn = cut({Lane.EXPRESS: [row(1, Lane.EXPRESS, size=100_000)]})
    batch, _ = cut({Lane.EXPRESS: [row(2, Lane.EXPRESS)], Lane.NORMAL: [row(3, size=20_000)]}, turn, slow=True)
    assert [each.item for each in batch] == [2, 3]


@settings(max_examples=30, deadline=None)
@given(
    lane=st.sampled_from(Lane),
    body=st.sampled_from(Lane),
    piece=st.integers(8_000, 64_000),
    size=st.integers(500, 20_000),
)
def test_batches_and_a_body_share_a_slow_link_by_the_weights_of_their_lanes(
    lane: Lane, body: Lane, piece: int, size: int
) -> None:
    """Decision 9: while the body of a hỏa tốc crosses, the others move, and none more than its share."""
    if lane is body:
        return
    numbers = itertools.count()
    turn = Turn()
    rows = bodies = 0
    for _ in range(60):
        waiting = {lane: [row(next(numbers), lane, size=size) for _ in range(200)]}
        batch, turn = cut(waiting, turn, bytes_max=piece, slow=True, beside=body)
        rows += sum(each.bytes for each in batch)
        if not batch:
            turn = charge(turn, body, piece, WEIGHTS)
            bodies += piece
    slack = max(piece, size) * 2 * max(1, WEIGHTS[lane] / WEIGHTS[body], WEIGHTS[body] / WEIGHTS[lane])
    assert abs(rows - bodies * WEIGHTS[lane] / WEIGHTS[body]) <= slack


def test_beside_a_body_of_their_own_lane_rows_go_on() -> None:
    turn = charge(Turn(), Lane.NORMAL, 10, WEIGHTS)
    for number in range(10):
        batch, turn = cut({Lane.NORMAL: [row(number)]}, turn, slow=True, beside=Lane.NORMAL)
        assert [each.item for each in batch] == [number]


def test_a_hoa_toc_goes_at_once_whatever_body_is_crossing() -> None:
    turn = Turn()
    for _ in range(100):
        turn = charge(turn, Lane.NORMAL, 64_000, WEIGHTS)
    batch, _ = cut({Lane.EXPRESS: [row(1, Lane.EXPRESS)], Lane.NORMAL: [row(2)]}, turn, slow=True, beside=Lane.NORMAL)
    assert [each.item for each in batch] == [1]


def test_bodies_take_turns_by_lane_and_the_urgent_begin() -> None:
    turn, order = Turn(), list[Lane]()
    for _ in range(18):
        lane = next_lane({Lane.NORMAL, Lane.EXPRESS}, turn)
        order.append(lane)
        turn = charge(turn, lane, 1000, WEIGHTS)
    assert order[0] is Lane.EXPRESS
    assert order.count(Lane.NORMAL) == 2
    with pytest.raises(ValueError, match="empty"):
        next_lane((), turn)


# --- senders ---------------------------------------------------------------------------------------------------------------


@given(senders=st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=60))
def test_the_order_of_one_sender_is_kept(senders: list[str]) -> None:
    """Decision 9: order is kept, whoever else has work."""
    rows = [row(number, sender=sender) for number, sender in enumerate(senders)]
    turned = in_turn(rows)
    assert sorted(each.item for each in turned) == list(range(len(senders)))
    for sender in set(senders):
        assert [each.item for each in turned if each.sender == sender] == [r.item for r in rows if r.sender == sender]


@given(senders=st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=60), rows_max=st.integers(1, 7))
def test_the_order_of_one_sender_is_kept_over_many_batches(senders: list[str], rows_max: int) -> None:
    left = [row(number, sender=sender) for number, sender in enumerate(senders)]
    gone: list[Candidate] = []
    turn = Turn()
    while left:
        batch, turn = cut({Lane.NORMAL: left}, turn, rows_max=rows_max)
        assert batch
        gone += batch
        left = [each for each in left if each not in batch]
    for sender in set(senders):
        items = [each.item for each in gone if each.sender == sender]
        assert items == sorted(items)


@pytest.mark.parametrize("rows_max", [1, 2, 3, 10])
def test_senders_take_turns_also_from_one_small_batch_to_the_next(rows_max: int) -> None:
    """Decision 9: fair between senders: one who hands in thousands does not stand before one who hands in one."""
    left = [row(number, sender="A") for number in range(100)] + [row(200, sender="B"), row(201, sender="C"), row(202, sender="B")]
    gone: list[str] = []
    turn = Turn()
    while len(gone) < 9:
        batch, turn = cut({Lane.NORMAL: left}, turn, rows_max=rows_max)
        gone += [each.sender for each in batch]
        left = [each for each in left if each not in batch]
    assert "".join(gone)[:5] == "ABCAB"


# --- bounds ----------------------------------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.tuples(st.sampled_from(Lane), st.integers(1, 4000), st.integers(0, 8)), min_size=1, max_size=60),
    bytes_max=st.integers(1, 8000),
    rows_max=st.integers(1, 30),
    envelopes_max=st.integers(1, 8),
)
def test_a_batch_keeps_its_bounds_but_the_first_row_always_fits(
    sizes: list[tuple[Lane, int, int]], bytes_max: int, rows_max: int, envelopes_max: int
) -> None:
    lanes: dict[Lane, list[Candidate]] = {}
    for number, (lane, size, envelope) in enumerate(sizes):
        lanes.setdefault(lane, []).append(row(number, lane, size=size, envelope=100 * lane + envelope))
    batch, _ = cut(lanes, bytes_max=bytes_max, rows_max=rows_max, envelopes_max=envelopes_max)
    first = {each.envelope: each.bytes for each in reversed(batch)}
    assert len(batch) >= 1
    assert len({each.item for each in batch}) == len(batch)
    assert len(first) <= envelopes_max
    if len(first) > 1:  # one envelope goes whole, whatever it takes
        assert len(batch) <= rows_max
        assert sum(first.values()) + ROW_BYTES * (len(batch) - len(first)) <= bytes_max


def test_a_row_larger_than_any_batch_goes_alone() -> None:
    batch, turn = cut({Lane.NORMAL: [row(1, size=50 << 20), row(2)]}, bytes_max=1 << 20)
    assert [each.item for each in batch] == [1]
    batch, _ = cut({Lane.NORMAL: [row(2)]}, turn, bytes_max=1 << 20)
    assert [each.item for each in batch] == [2]


def test_recipients_of_one_envelope_count_as_one_envelope() -> None:
    """Decision 7: one envelope per link, whatever the number of recipients."""
    batch, _ = cut({Lane.NORMAL: [row(number, envelope=1) for number in range(50)]}, envelopes_max=1)
    assert len(batch) == 50


def test_nothing_to_offer_gives_an_empty_batch() -> None:
    assert cut({Lane.NORMAL: []})[0] == []


# --- verdicts: what became of a row ----------------------------------------------------------------------------------------


def offered(
    item: int = 1, *, id_: str = "e-1", recipient: OrgId = HERE, attempts: int = 0, chokes: int = 0, in_doubt: bool = False
) -> Offered:
    return Offered(
        item=item,
        recipient=recipient,
        origin=ORIGIN,
        id=id_,
        header=b"{}",
        signature=b"s",
        certificate="ab",
        hops=(),
        attempts=attempts,
        bodies=(BodyRef("00" * 32, 10),),
        lane=Lane.NORMAL,
        in_doubt=in_doubt,
        chokes=chokes,
    )


def judged(verdict: Verdict | None, *, attempts: int = 0, chokes: int = 0, seed: int = 0) -> Settlement:
    said = [] if verdict is None else [EnvelopeVerdicts(ORIGIN, "e-1", {HERE: verdict})]
    row = offered(attempts=attempts, chokes=chokes)
    (found,) = settle([row], said, now_ms=NOW_MS, patience=PATIENCE, rng=random.Random(seed))
    return found


def test_taken_is_taken() -> None:
    assert judged(Verdict(Outcome.TAKEN)) == Settlement(1, Settled.TAKEN)


def test_needed_bodies_are_named_and_the_row_waits_for_them() -> None:
    found = judged(Verdict(Outcome.NEED, need=("aa", "bb")))
    assert found == Settlement(1, Settled.BODY, NOW_MS + BODY_WAIT_MS, need=("aa", "bb"))


def test_a_refusal_ends_the_delivery_with_its_reason() -> None:
    assert judged(Verdict(Outcome.REFUSED, reason=Reason.RECIPIENT_UNKNOWN)).reason is Reason.RECIPIENT_UNKNOWN
    found = judged(Verdict(Outcome.REFUSED))
    assert (found.settled, found.reason) == (Settled.ENDED, Reason.INTERNAL)


def test_a_row_nobody_spoke_of_stays_in_doubt_and_is_offered_again_at_once() -> None:
    """Decision 6."""
    assert judged(None) == Settlement(1, Settled.IN_DOUBT, NOW_MS, Reason.NOT_NOW)


def test_a_verdict_counts_for_its_own_envelope_and_recipient_only() -> None:
    """Decision 5: verdicts are per (envelope, recipient)."""
    other = OrgId.canonical("H54.03")
    rows = [offered(1), offered(2, recipient=other), offered(3, id_="e-2")]
    said = [
        EnvelopeVerdicts(ORIGIN, "e-1", {HERE: Verdict(Outcome.TAKEN)}),
        EnvelopeVerdicts(OrgId.canonical("H54"), "e-2", {HERE: Verdict(Outcome.TAKEN)}),
        EnvelopeVerdicts(ORIGIN, "e-9", {HERE: Verdict(Outcome.TAKEN)}),
    ]
    found = settle(rows, said, now_ms=NOW_MS, patience=PATIENCE, rng=random.Random(1))
    assert [(each.item, each.settled) for each in found] == [
        (1, Settled.TAKEN),
        (2, Settled.IN_DOUBT),
        (3, Settled.IN_DOUBT),
    ]


@given(retry_s=st.floats(0, 86_400), attempts=st.integers(0, 1000), seed=st.integers(0, 5))
def test_later_waits_as_long_as_asked_but_never_longer_than_the_cap(retry_s: float, attempts: int, seed: int) -> None:
    """Decision 11: a due time further off than the backoff cap means the cap."""
    found = judged(Verdict(Outcome.LATER, retry_s=retry_s), attempts=attempts, seed=seed)
    assert found.settled is Settled.LATER
    assert found.reason is Reason.NOT_NOW
    wait_ms = found.due_ms - NOW_MS
    assert min(max(int(retry_s * 1000), PATIENCE.min_ms), PATIENCE.max_ms) <= wait_ms <= PATIENCE.max_ms


def test_a_short_wait_that_was_asked_for_is_not_lengthened() -> None:
    assert judged(Verdict(Outcome.LATER, retry_s=0.5), attempts=9).due_ms == NOW_MS + 500


@pytest.mark.parametrize(("attempts", "settled"), [(0, Settled.LATER), (8, Settled.LATER), (9, Settled.HELD), (50, Settled.HELD)])
def test_what_the_neighbour_cannot_digest_is_held_for_a_person_after_enough_attempts(attempts: int, settled: Settled) -> None:
    """Poison is held and blocks nobody; it never ends by itself (decision 11)."""
    found = judged(Verdict(Outcome.LATER, reason=Reason.INTERNAL, retry_s=1), chokes=attempts)
    assert (found.settled, found.reason, found.was_in_doubt) == (settled, Reason.INTERNAL, False)


def test_a_neighbour_that_is_only_busy_may_say_later_for_ever() -> None:
    assert judged(Verdict(Outcome.LATER, reason=Reason.DISK_FULL, retry_s=30), attempts=999).settled is Settled.LATER


def test_waiting_for_a_busy_neighbour_is_not_choking() -> None:
    """A disk that was full for a week must not make a person decide about the first hiccup after it."""
    assert not judged(Verdict(Outcome.LATER, reason=Reason.DISK_FULL, retry_s=30), attempts=500).choked
    found = judged(Verdict(Outcome.LATER, reason=Reason.INTERNAL, retry_s=30), attempts=500)
    assert (found.settled, found.choked) == (Settled.LATER, True)


def test_the_rows_of_one_envelope_wait_for_the_same_time() -> None:
    """Decision 7: they go on together, as one envelope."""
    codes = [OrgId.canonical(f"H54.{number}") for number in range(10, 20)]
    rows = [offered(number, recipient=code, attempts=9) for number, code in enumerate(codes)]
    said = [EnvelopeVerdicts(ORIGIN, "e-1", dict.fromkeys(codes, Verdict(Outcome.LATER, retry_s=2)))]
    found = settle(rows, said, now_ms=NOW_MS, patience=PATIENCE, rng=random.Random(5))
    assert len({each.due_ms for each in found}) == 1


def test_rows_of_one_envelope_that_wait_for_two_directories_to_agree_are_due_together() -> None:
    """Decision 7; another envelope keeps a time of its own, and so does what was answered otherwise."""
    rows = [offered(number, recipient=OrgId.canonical(f"H54.{number + 10}")) for number in range(3)] + [offered(3, id_="e-2")]
    astray = [
        settle_astray(row, Reason.LOOP, now_ms=NOW_MS, patience=PATIENCE, rng=random.Random(number))
        for number, row in enumerate(rows)
    ]
    assert len({each.due_ms for each in astray}) == 4, "drawn apart"
    taken = Settlement(2, Settled.TAKEN)
    found = together([*astray[:2], taken, astray[3]], {row.item: row for row in rows})
    assert found[0].due_ms == found[1].due_ms == max(each.due_ms for each in astray[:2])
    assert found[2:] == [taken, astray[3]]


def test_a_document_that_two_directories_send_to_and_fro_waits_for_them_to_agree_and_never_ends_by_that() -> None:
    """Decision 11: a helper that is not up to date ends nothing."""
    for chokes in range(PATIENCE.attempts_max):
        row = offered(chokes=chokes)
        found = settle_astray(row, Reason.LOOP, now_ms=NOW_MS, patience=PATIENCE, rng=random.Random(chokes))
        assert (found.reason, found.was_in_doubt) == (Reason.LOOP, False)
        if chokes + 1 < PATIENCE.attempts_max:
            assert (found.settled, found.choked) == (Settled.LATER, True)
            assert PATIENCE.min_ms <= found.due_ms - NOW_MS <= PATIENCE.max_ms
        else:
            assert found.settled is Settled.HELD


@pytest.mark.parametrize("before", [False, True])
def test_an_offer_that_never_left_changes_nothing_of_the_doubt(before: bool) -> None:
    """Decision 6: neither does it raise a doubt nor lay an older one to rest."""
    (found,) = settle_failure([offered(in_doubt=before)], Deferred(10, Reason.NOT_NOW), now_ms=NOW_MS)
    assert (found.settled, found.was_in_doubt) == (Settled.UNSENT, before)
    assert found.due_ms == NOW_MS, "the wait is the neighbour's, not the row's"


@pytest.mark.parametrize("before", [False, True])
def test_an_offer_without_an_answer_is_in_doubt(before: bool) -> None:
    (found,) = settle_failure([offered(in_doubt=before)], Deferred(10, Reason.NOT_NOW, in_doubt=True), now_ms=NOW_MS)
    assert (found.settled, found.due_ms) == (Settled.IN_DOUBT, NOW_MS)


def choke(attempts: int) -> Settlement:
    return settle_choke(offered(chokes=attempts), Reason.WIRE_MALFORMED, now_ms=NOW_MS, patience=PATIENCE, rng=random.Random(3))


def test_a_batch_of_one_that_chokes_waits_longer_each_time_and_is_then_held_still_in_doubt() -> None:
    for attempts in range(PATIENCE.attempts_max - 1):
        found = choke(attempts)
        assert (found.settled, found.reason, found.was_in_doubt) == (Settled.CHOKED, Reason.WIRE_MALFORMED, True)
        assert PATIENCE.min_ms <= found.due_ms - NOW_MS <= max(PATIENCE.min_ms, PATIENCE.min_ms << attempts)
    found = choke(PATIENCE.attempts_max - 1)
    assert (found.settled, found.was_in_doubt) == (Settled.HELD, True)


@given(attempts=st.integers(0, 10**6), seed=st.integers(0, 3))
def test_waits_are_jittered_within_their_bounds_however_many_attempts(attempts: int, seed: int) -> None:
    assert PATIENCE.min_ms <= PATIENCE.wait_ms(attempts, random.Random(seed)) <= PATIENCE.max_ms


def test_jitter_is_full() -> None:
    waits = {PATIENCE.wait_ms(10, random.Random(seed)) for seed in range(50)}
    assert len(waits) > 40
    assert min(waits) < PATIENCE.min_ms * 200 < max(waits)


@pytest.mark.parametrize(("kind", "tells"), [("edoc", True), ("x-later.kind", True), ("status", False), ("notice", False)])
def test_notices_and_statuses_never_cause_notices(kind: str, tells: bool) -> None:
    """Decision 11."""
    assert tells_home(kind) is tells

"""The trace: the same events give the same digest, any other event another."""

from __future__ import annotations

from topology.sim.record import Record, stream


def test_the_same_events_give_the_same_digest_and_any_difference_another() -> None:
    def run(*events: tuple[float, str, str, int]) -> str:
        record = Record(lambda: now)
        for now, node, event, size in events:  # noqa: B007 – the record reads it
            record.note(node, event, size)
        return record.digest()

    first = (0.5, "hub", "call push", 7)
    assert run(first) == run(first)
    others = [(0.6, "hub", "call push", 7), (0.5, "h41", "call push", 7), (0.5, "hub", "commit", 7), (0.5, "hub", "call push", 8)]
    assert len({run(each) for each in [first, *others]}) == 5


def test_events_are_counted_and_told() -> None:
    told: list[tuple[float, str, str, int]] = []
    record = Record(lambda: 2.0, lambda *event: told.append(event))
    record.note("hub", "commit", 3)
    record.note("h41", "commit")
    assert record.counts == {"commit": 2}
    assert told == [(2.0, "hub", "commit", 3), (2.0, "h41", "commit", 0)]


def test_each_purpose_draws_from_a_stream_of_its_own() -> None:
    assert stream(7, "hub", "jitter").random() == stream(7, "hub", "jitter").random()
    assert len({stream(7, "hub", "jitter").random(), stream(7, "hub", "ids").random(), stream(8, "hub", "jitter").random()}) == 3

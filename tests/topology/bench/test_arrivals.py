"""The book of a bench: nothing passes for measured that is missing, doubled or changed."""

from __future__ import annotations

import asyncio

import pytest

from topology.bench.arrivals import Arrivals, Incomplete
from topology.bench.letters import Contents, Letters


class Book:
    """Arrivals under a clock that is set by hand."""

    def __init__(self, receivers: int = 1, quiet_s: float = 0.01) -> None:
        self.now = 0.0
        self.arrivals = Arrivals(Contents(1000), receivers, lambda: self.now, quiet_s)
        self.letters = Letters("H41", ["H51.1"])

    def send(self, number: int, at: float = 0.0) -> bytes:
        self.now = at
        return self.letters.write(number, self.arrivals.leaves(number))


async def test_all_is_complete_when_each_has_come_to_every_receiver() -> None:
    book = Book(receivers=2)
    numbers = book.arrivals.expect(2)
    packages = [book.send(number, at=number) for number in numbers]
    for package in packages:
        book.now = 10.0
        book.arrivals.got(0, package)
        book.now = 12.0
        book.arrivals.got(1, package)
    await book.arrivals.complete()
    assert book.arrivals.span_s(numbers) == 12.0
    assert (book.arrivals.first(numbers), book.arrivals.last(numbers)) == (10.0, 12.0)
    assert book.arrivals.waits_s(range(1, 2)) == [9.0, 11.0]
    assert book.arrivals.expect(3) == range(2, 5)


async def test_waiting_ends_with_the_last_arrival() -> None:
    book = Book(quiet_s=10)
    package = book.send(book.arrivals.expect(1)[0])
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(book.arrivals.complete())
        await asyncio.sleep(0)
        assert not waiting.done()
        book.arrivals.got(0, package)


async def test_some_may_be_left_out_and_the_first_since_an_instant_is_known() -> None:
    book = Book()
    numbers = book.arrivals.expect(3)
    for number in numbers[:2]:
        book.arrivals.got(0, book.send(number, at=1.0 + number))
    await book.arrivals.complete(but=1)
    with pytest.raises(Incomplete):
        await book.arrivals.complete()
    assert book.arrivals.first(range(2), since=1.0) == 2.0


async def test_what_does_not_come_is_counted() -> None:
    book = Book()
    numbers = book.arrivals.expect(3)
    book.arrivals.got(0, book.send(numbers[1]))
    with pytest.raises(Incomplete, match="2 lượt nhận"):
        await book.arrivals.complete()


def test_what_comes_twice_is_told() -> None:
    book = Book()
    package = book.send(book.arrivals.expect(1)[0])
    book.arrivals.got(0, package)
    with pytest.raises(Incomplete, match="văn bản 0 đến hai lần"):
        book.arrivals.got(0, package)


def test_what_comes_changed_or_unasked_is_told() -> None:
    book = Book()
    (number,) = book.arrivals.expect(1)
    content = bytearray(book.arrivals.leaves(number))
    content[-1] ^= 1
    with pytest.raises(Incomplete, match="nội dung khác"):
        book.arrivals.got(0, book.letters.write(number, bytes(content)))
    with pytest.raises(Incomplete, match="nội dung khác"):
        book.arrivals.got(0, book.send(99))

"""Simulated offices: they insist until they are answered, do each thing once, and lose nothing when they are killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import pytest

from tests.topology.sim.desk import ADDRESSES, TREE, Answer, Desk, DeskCalls, rehearse, until_idle
from topology import vxp
from topology.sim.checkers import judge
from topology.sim.door import NativeCalls, NoAnswer
from topology.sim.ledger import Ledger
from topology.sim.loop import Life, SimLoop
from topology.sim.offices import HURRY_S, Habits, SimOffice
from topology.sim.traffic import MADE_MS, Package, To, Traffic

CALM = Habits(
    p_hang_up=0, p_crash=0, p_fail=0, p_held=0, p_slow=0, p_processing=0, p_done_unfetched=0, p_look_sent=0, statuses=("01",)
)
PLAIN = Traffic(documents=20, p_bad=0, p_only_bad=0, p_broken=0, p_again=0, p_several=0)
LETTER = Package(1, "h41-07.so-noi-vu", "H41.07", (To("G22", "G22", "G22"),), 2_000, 3.0, "id-1")


@dataclass
class Watched:
    """Calls of one system, with the instant of each; `lost`: how many answers of an operation do not come."""

    inner: DeskCalls
    lost: dict[str, int] = field(default_factory=dict)
    made: list[tuple[float, str, bytes]] = field(default_factory=list)

    async def call(
        self, operation: str, fields: Mapping[str, str], body: bytes = b"{}", content_type: str = "application/json"
    ) -> Answer:
        self.made.append((asyncio.get_running_loop().time(), operation, body))
        answer = await self.inner.call(operation, fields, body, content_type)
        if self.lost.get(operation, 0):
            self.lost[operation] -= 1
            raise NoAnswer
        return answer

    def times(self, operation: str) -> list[float]:
        return [at_s for at_s, name, _ in self.made if name == operation]


@dataclass
class Two:
    """A sender and a receiver at one desk, each with a life of its own."""

    packages: tuple[Package, ...] = (LETTER,)
    habits: Habits = CALM
    desk: Desk = field(default_factory=Desk)
    lost: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loop = SimLoop()
        self.ledger = Ledger(self.packages, TREE.axis_code)
        systems = {system.id: system for system in ADDRESSES.systems}
        self.calls = {name: Watched(DeskCalls(self.desk, name)) for name in ("h41-07.so-noi-vu", "vpcp")}
        self.offices = {
            name: SimOffice(systems[name], calls, self.ledger, self.habits, 1, lambda: MADE_MS)
            for name, calls in self.calls.items()
        }
        self.lives: dict[str, Life] = {}
        self.sender, self.receiver = self.offices.values()

    def start(self, name: str) -> None:
        life = self.lives[name] = Life(self.loop, name)
        life.start(self.offices[name].run(), name=name)

    def run(self, course: Callable[[Two], Awaitable[None]] | None = None) -> None:
        """Start both, let course go on, then hurry until both are idle."""

        async def all_of_it() -> None:
            for name in self.offices:
                self.start(name)
            if course is not None:
                await course(self)
            for office in self.offices.values():
                office.hurry()
            await until_idle(list(self.offices.values()), self.desk)
            for office in self.offices.values():
                await office.read_sent()
            for life in self.lives.values():
                life.end()

        self.loop.run_until_complete(all_of_it())
        assert not self.loop.problems
        self.loop.close()

    @property
    def item(self) -> Any:
        (item,) = self.ledger.items.values()
        return item


def test_a_package_is_sent_taken_in_confirmed_and_answered() -> None:
    two = Two()
    two.run()
    sent = two.ledger.sent[1]
    assert list(sent.doc_ids) == ["doc-1"]
    assert (two.item.doc_id, two.item.package, two.item.processed, two.item.done) == ("doc-1", 1, 1, True)
    (news,) = two.ledger.news.values()
    assert (news.system, news.processed, news.done) == ("h41-07.so-noi-vu", 1, True)
    assert judge(two.ledger, ADDRESSES) == []


def test_a_package_leaves_when_its_time_has_come() -> None:
    two = Two((replace(LETTER, at_s=50.0),))

    async def until_it_left(two: Two) -> None:
        await asyncio.sleep(100.0)

    two.run(until_it_left)
    assert two.calls["h41-07.so-noi-vu"].times("sendEdoc") == [50.0]


def test_without_an_answer_the_same_bytes_come_again_after_growing_pauses() -> None:
    two = Two()
    line = two.calls["h41-07.so-noi-vu"]
    line.lost["sendEdoc"] = 6

    async def for_a_while(two: Two) -> None:
        await asyncio.sleep(600.0)

    two.run(for_a_while)
    assert len({body for _, name, body in line.made if name == "sendEdoc"}) == 1
    times = line.times("sendEdoc")
    assert len(times) == 7
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[5] > 4 * pauses[0]
    assert two.ledger.sent[1].tries == 7
    assert len(two.ledger.sent[1].doc_ids) == 1


def test_not_now_is_heard_as_such_and_the_package_comes_again() -> None:
    two = Two(desk=Desk(later=0.7))
    two.run()
    assert two.ledger.counts["office/told later"] > 3
    assert judge(two.ledger, ADDRESSES) == []


def test_a_final_refusal_ends_the_package() -> None:
    two = Two((replace(LETTER, to=(ADDRESSES.judge("H41.15"),), refusal="recipient-locked"),))
    two.run()
    assert two.ledger.sent[1].refusal == "recipient-locked"
    assert len(two.calls["h41-07.so-noi-vu"].times("sendEdoc")) == 1
    assert judge(two.ledger, ADDRESSES) == []


def test_the_same_file_handed_in_again_is_the_same_document() -> None:
    two = Two((replace(LETTER, again_s=30.0),))
    two.run()
    assert two.ledger.sent[1].tries == 2
    assert list(two.ledger.sent[1].doc_ids) == ["doc-1"]
    assert two.ledger.counts["path/repeated at the door"] == 1


def test_a_correction_waits_for_the_answer_to_what_it_corrects() -> None:
    elder = replace(LETTER, size=3_000)
    two = Two((elder, replace(LETTER, number=2, at_s=3.0, after=1)), CALM)
    line = two.calls["h41-07.so-noi-vu"]
    line.lost["sendEdoc"] = 4
    two.run()
    bodies = [body for _, name, body in line.made if name == "sendEdoc" and b"<edXML:StatusCode>" not in body]
    assert bodies[:5] == [elder.content(1)] * 5, "four times in vain, and once more"
    assert len(bodies) == 6


def test_a_document_is_taken_in_once_however_often_the_confirmation_is_lost() -> None:
    two = Two()
    two.calls["vpcp"].lost["updateStatus"] = 3
    two.run()
    assert two.calls["vpcp"].times("updateStatus")[3:]
    assert (two.item.processed, two.item.done) == (1, True)


def test_an_office_that_crashes_between_fetch_and_done_asks_again_and_does_nothing_twice() -> None:
    two = Two(habits=replace(CALM, p_crash=0.6))
    two.run()
    crashed = two.ledger.counts["office/crashed before processing"] + two.ledger.counts["office/crashed after processing"]
    assert crashed > 0
    assert (two.item.processed, two.item.done) == (1, True)
    assert judge(two.ledger, ADDRESSES) == []


def test_a_document_confirmed_before_it_was_fetched_is_fetched_all_the_same() -> None:
    two = Two(habits=replace(CALM, p_done_unfetched=1.0))
    two.calls["vpcp"].lost["getEdoc"] = 1  # the node has collected it by then, and lists it no more
    two.run()
    assert two.item.early
    assert two.item.processed == 1
    assert judge(two.ledger, ADDRESSES) == []


def test_an_office_that_fails_a_few_times_reads_it_in_the_end() -> None:
    two = Two(habits=replace(CALM, p_fail=1.0))
    two.run()
    assert 1 <= two.item.fail_tries < 5
    assert two.item.processed == 1


def test_an_office_that_fails_too_often_leaves_it_to_a_person_and_takes_it_in_when_it_is_released() -> None:
    two = Two(habits=replace(CALM, p_held=1.0))

    async def until_held(two: Two) -> None:
        while "held" not in {box.state for box in two.desk.boxes.get("vpcp", {}).values()}:
            await asyncio.sleep(1.0)
        await asyncio.sleep(200.0)
        assert not two.item.processed
        for box in two.desk.boxes["vpcp"].values():
            box.state, box.fails = "initial", 0

    two.run(until_held)
    assert two.item.fail_tries == 5
    assert (two.item.processed, two.item.done) == (1, True)


def test_an_office_that_was_killed_goes_on_where_its_memory_says() -> None:
    for seed in range(1, 6):
        ledger, desk, _ = rehearse(PLAIN, replace(CALM, poll_s=20.0), seed, Desk(seed, lose=0.2), kills=60)
        assert all(sent.ended for sent in ledger.sent.values())
        assert judge(ledger, ADDRESSES) == []
        assert not any(box.state == "initial" for boxes in desk.boxes.values() for box in boxes.values())


def killed_when(name: str, ready: Callable[[], bool]) -> Callable[[Two], Awaitable[None]]:
    """Kill one office the moment something is so, and start it again later."""

    async def course(two: Two) -> None:
        while not ready():
            await asyncio.sleep(0.01)
        two.lives[name].end()
        await asyncio.sleep(20.0)
        two.start(name)

    return course


def test_a_package_whose_answer_was_awaited_when_its_office_was_killed_comes_again() -> None:
    two = Two()
    line = two.calls["h41-07.so-noi-vu"]
    line.lost["sendEdoc"] = 3
    two.run(killed_when("h41-07.so-noi-vu", lambda: len(line.times("sendEdoc")) == 2))
    assert two.ledger.sent[1].ended
    assert judge(two.ledger, ADDRESSES) == []


def test_a_document_taken_in_when_its_office_was_killed_is_only_confirmed_afterwards() -> None:
    two = Two()
    items = two.ledger.items
    two.run(killed_when("vpcp", lambda: any(item.processed and not item.done for item in items.values())))
    assert (two.item.processed, two.item.fetches, two.item.done) == (1, 1, True)


def test_a_document_confirmed_unfetched_is_fetched_although_its_office_was_killed_and_nothing_lists_it_any_more() -> None:
    two = Two(habits=replace(CALM, p_done_unfetched=1.0))
    two.calls["vpcp"].lost["getEdoc"] = 1

    def collected() -> bool:
        return any(box.state == "done" for box in two.desk.boxes.get("vpcp", {}).values())

    two.run(killed_when("vpcp", collected))
    assert two.item.processed == 1
    assert judge(two.ledger, ADDRESSES) == []


def test_in_a_hurry_what_is_due_later_goes_now_and_looks_come_often() -> None:
    far = replace(LETTER, at_s=9_000.0)
    two = Two((far,), replace(CALM, poll_s=3_600.0))

    async def for_a_moment(two: Two) -> None:
        await asyncio.sleep(10.0)
        assert not two.sender.idle

    two.run(for_a_moment)
    assert two.loop.time() < 200.0
    assert two.item.done
    looks = two.calls["vpcp"].times("getReceivedEdocList")
    assert min(after - before for before, after in zip(looks, looks[2:], strict=False)) <= 2 * HURRY_S


def test_an_office_is_idle_only_when_it_has_looked_and_found_nothing() -> None:
    two = Two()
    assert not two.sender.idle
    assert not two.receiver.idle
    two.run()
    assert two.sender.idle
    assert two.receiver.idle
    two.receiver.hurry()
    assert not two.receiver.idle, "it has to look again"


def test_the_sent_list_is_read_to_the_end_although_one_answer_has_no_room_for_all() -> None:
    class Short(Desk):
        def _getSentEdocList(self, system: str, fields: Mapping[str, str], body: bytes) -> Answer:
            answer = super()._getSentEdocList(system, fields, body)
            return answer | {"data": answer["data"][: 20 if "docId" in fields else 2]}

    two = Two(tuple(replace(LETTER, number=number, document_id=f"id-{number}") for number in range(1, 6)), desk=Short())
    two.run()
    assert len(two.ledger.lines) == 5
    assert list(two.ledger.read) == ["h41-07.so-noi-vu", "vpcp"]


def test_a_listed_document_that_is_not_there_is_remembered_with_its_reason() -> None:
    class Empty(Desk):
        def _getEdoc(self, system: str, fields: Mapping[str, str], body: bytes) -> Answer:
            if self.boxes[system][fields["docId"]].kind == "edoc":
                self.boxes[system][fields["docId"]].state = "ended"
                fields = {"docId": "nothing"}
            return super()._getEdoc(system, fields, body)

    two = Two(desk=Empty())
    two.run()
    assert two.item.gone == "doc-unknown"
    assert any("listed and cannot be fetched" in each.text for each in judge(two.ledger, ADDRESSES))


@pytest.mark.parametrize("operation", ["getReceivedEdocList", "getSentEdocList", "updateStatus"])
def test_a_call_that_must_succeed_and_is_refused_is_found(operation: str) -> None:
    class Strict(Desk):
        def answer(self, system: str, name: str, fields: Mapping[str, str], body: bytes) -> Answer:
            if name == operation and self.calls[name] < 3:
                self.calls[name] += 1
                return {"status": "FAIL", "ErrorCode": "10", "ErrorDesc": "không [signature-wrong]", "DocId": "", "data": []}
            return super().answer(system, name, fields, body)

    two = Two(desk=Strict(), habits=replace(CALM, p_look_sent=1.0))
    two.run()
    assert any("signature-wrong" in each.text for each in two.ledger.wrong)


def test_the_same_seed_gives_the_same_run() -> None:
    def trace(seed: int) -> list[Any]:
        ledger, _, _ = rehearse(PLAIN, Habits(), seed, Desk(seed, lose=0.1, unreached=0.1), kills=5)
        return [*sorted(ledger.counts.items()), *((sent.tries, sent.last_s, sent.doc_ids) for sent in ledger.sent.values())]

    assert trace(4) == trace(4)
    assert trace(4) != trace(5)


@dataclass
class Native:
    """The native door of the same desk. lost: answers that do not come; later: confirmations that are put off; bare: no contents
    come along."""

    inner: Watched
    lost: int = 0
    later: int = 0
    bare: bool = False
    confirmed: list[list[str]] = field(default_factory=list)

    async def mailbox(self, kind: str, wait_s: int) -> list[tuple[Mapping[str, Any], bytes | None]]:
        listed = await self.inner.call("getReceivedEdocList", vxp.list_fields(kind))
        found: list[tuple[Mapping[str, Any], bytes | None]] = []
        for line in listed["data"]:
            content = None
            if not self.bare:
                content = vxp.package_in(await self.inner.call("getEdoc", {"docId": line["docId"]}))
            found.append(({"doc_id": line["docId"], "to": line["to"].split(";")}, content))
        if self.lost:
            self.lost -= 1
            raise NoAnswer
        return found

    async def done(self, doc_ids: list[str]) -> list[Mapping[str, Any]]:
        self.confirmed.append(doc_ids)
        if self.later:
            self.later -= 1
            return [{"status": "later"} for _ in doc_ids]
        for doc_id in doc_ids:
            await self.inner.call("updateStatus", {"docId": doc_id, "status": "done"})
        return [{"status": "ok"} for _ in doc_ids]


def modern(two: Two, **how: Any) -> Native:
    """The receiver collects at the native door."""
    name = "vpcp"
    systems = {system.id: system for system in ADDRESSES.systems}
    native = Native(two.calls[name], **how)
    two.receiver = two.offices[name] = SimOffice(
        systems[name], two.calls[name], two.ledger, two.habits, 1, lambda: MADE_MS, native=cast(NativeCalls, native)
    )
    return native


LETTERS = tuple(replace(LETTER, number=number, document_id=f"id-{number}") for number in (1, 2, 3))


@pytest.mark.parametrize("how", [{}, {"lost": 3}, {"later": 2}, {"bare": True}], ids=["well", "lost", "later", "bare"])
def test_a_modern_office_takes_each_in_once_and_confirms_them_together(how: dict[str, Any]) -> None:
    two = Two(LETTERS)
    native = modern(two, **how)
    two.run()
    assert [(item.processed, item.done) for item in two.ledger.items.values()] == [(1, True)] * 3
    assert judge(two.ledger, ADDRESSES) == []
    if not how.get("bare"):
        assert max(len(each) for each in native.confirmed) > 1

"""The plan of a run: it follows from the seed, holds every kind of case, and says what must become of each package."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import pytest

from node.core.errors import Reason, Refused
from node.core.package import Business, Package, Priority, Reference
from node.documents.draft import ReadLimits
from node.documents.edxml import Reader
from tests.topology.sim.desk import ADDRESSES, TREE
from topology.sim.traffic import ANY, Traffic, plan, status_content

MANY = plan(TREE, Traffic(documents=1_000), 3, ADDRESSES)


def read(data: bytes) -> Package:
    reader = Reader(ReadLimits(1 << 24, 1 << 24))
    reader.feed(data)
    return reader.close()


def test_the_same_seed_gives_the_same_plan_and_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (plan(TREE, Traffic(documents=20), seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert [each.content(7) for each in first] == [each.content(7) for each in again]
    assert first[0].content(7) != first[0].content(8)


def test_no_two_packages_are_alike() -> None:
    digests = Counter(hashlib.sha256(each.content(3)).digest() for each in MANY[:200])
    assert set(digests.values()) == {1}
    assert len({each.notation for each in MANY}) == len(MANY)


def test_packages_leave_in_order_within_the_span_and_a_share_of_them_within_one_minute() -> None:
    times = [each.at_s for each in MANY]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 600.0
    busiest = max(sum(begin <= at_s <= begin + 60 for at_s in times) for begin in times)
    assert busiest > 250  # a fifth of them in the burst, and a tenth of the others happens to fall there too


def test_hoa_toc_come_one_by_one_and_then_together_behind_all_others() -> None:
    found = plan(
        TREE, Traffic(documents=30, span_s=600.0, one_road=True, p_burst=1.0, p_urgent=0.0, express=(3, 5)), 3, ADDRESSES
    )
    express = [each for each in found if each.priority is Priority.EXPRESS]
    assert len(found) == 38
    assert {each.size for each in express} == {200_000}
    times = [each.at_s for each in express]
    assert times[3:] == [300.0] * 5
    assert times[:3] == [120.0, 180.0, 240.0]
    assert max(each.at_s for each in found if each not in express) <= 60.0


@pytest.mark.parametrize(
    ("kind", "share", "is_it"),
    [
        ("large", "p_large", lambda each: each.size > 128 * 1024),
        ("several", "p_several", lambda each: len(each.to) > 1),
        ("bad beside good", "p_bad", lambda each: each.bad and each.good),
        ("only bad", "p_only_bad", lambda each: not each.good),
        ("broken", "p_broken", lambda each: each.broken),
        ("update", "p_update", lambda each: each.after),
        ("again", "p_again", lambda each: each.again_s),
        ("urgent", "p_urgent", lambda each: each.priority),
        ("old form", "p_old_form", lambda each: any(to.organ and to.written != to.code for to in each.to)),
    ],
)
def test_every_kind_is_there_and_none_when_its_share_is_nothing(kind: str, share: str, is_it) -> None:  # type: ignore[no-untyped-def]
    assert any(is_it(each) for each in MANY), kind
    alone = replace(Traffic(documents=200), p_only_bad=0.0, p_bad=0.0, p_update=0.0)
    without = plan(TREE, replace(alone, **{share: 0.0}), 3, ADDRESSES)  # type: ignore[arg-type]
    assert not any(is_it(each) for each in without), kind


def test_two_organs_of_one_system_and_an_organ_a_superior_receives_for_are_addressed() -> None:
    def owners(each) -> Counter[str]:  # type: ignore[no-untyped-def]
        return Counter(ADDRESSES.owner[organ].id for organ in {to.organ for to in each.good})

    assert any(count > 1 for each in MANY for count in owners(each).values())
    assert any(to.organ not in ("", to.code) for each in MANY for to in each.to)


def test_nobody_writes_to_itself_and_no_receiver_stands_twice() -> None:
    for each in MANY:
        codes = [to.code for to in each.to]
        assert each.sender not in codes
        assert len(codes) == len(set(codes))
        assert ADDRESSES.owner[each.sender].id == each.system


def test_an_update_bears_the_receivers_the_lane_and_the_id_of_an_earlier_package_of_its_system() -> None:
    updates = [each for each in MANY if each.after]
    assert all(each.business is Business.UPDATE for each in updates)
    for each in updates:
        elder = MANY[each.after - 1]
        assert elder.number == each.after < each.number
        assert (elder.system, elder.sender, elder.to) == (each.system, each.sender, each.to)
        assert (elder.document_id, elder.priority) == (each.document_id, each.priority)
    same = Counter(each.document_id for each in MANY if not each.after)
    assert max(same.values()) > 1, "the same DocumentId with other content"


def test_the_door_reads_what_the_plan_says() -> None:
    for planned in MANY[:100]:
        if planned.broken:
            with pytest.raises(Refused):
                read(planned.content(3))
            continue
        package = read(planned.content(3))
        assert package.sender.code == planned.sender
        assert [party.code for party in package.recipients] == [to.written for to in planned.to]
        assert (package.document_id, package.number_notation) == (planned.document_id, planned.notation)
        assert (package.business, package.priority) == (planned.business, planned.priority)
        assert not package.missing
        assert package.oddities == (() if planned.subject else ("subject-missing",))
        assert (package.paper, package.due_date) == (planned.paper, planned.due_date)
        assert any(each.signable for each in package.attachments) is not planned.scanned


def test_a_size_is_what_it_says() -> None:
    for planned in MANY[:100]:
        assert abs(len(planned.content(3)) - planned.size) < 1_500 + 250 * len(planned.to)


def test_what_must_become_of_a_receiver_follows_from_the_directory() -> None:
    assert ADDRESSES.judge("H41.07").organ == "H41.07"
    assert ADDRESSES.judge("000.00.07.H41").code == "H41.07"
    assert ADDRESSES.judge("H41.20").organ == "H41"
    assert ADDRESSES.judge("G11.05").organ == "G11"
    reasons = {code: ADDRESSES.judge(code).refusal for code in ("H41.31", "H41.15", "H14.30", "H41.77")}
    assert list(reasons.values()) == [
        Reason.RECIPIENT_CLOSED.value,
        Reason.RECIPIENT_LOCKED.value,
        Reason.RECIPIENT_NOT_CONNECTED.value,
        Reason.RECIPIENT_UNKNOWN.value,
    ]


def test_a_package_that_nobody_can_receive_must_be_refused_and_one_that_somebody_can_must_not() -> None:
    for each in MANY:
        if each.broken:
            assert each.refusal == ANY
        elif each.good:
            assert not each.refusal
        else:
            assert each.refusal == each.to[0].refusal


def test_a_status_names_its_document_and_is_the_same_for_the_same_mark() -> None:
    about = Reference("G22", "7/CV-DT", "2026/11/22", "id-7")
    first, again, other = (status_content("H41", about, "01", mark, 1_795_300_000_000) for mark in ("a", "a", "b"))
    assert first == again != other
    package = read(first)
    assert package.status == "01"
    assert package.response_for == (about,)

"""Every judge bites: a clean run has nothing wrong, and each wrong put into its ledger or its tables is found and named."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from node.core.package import Priority
from tests.topology.sim.desk import ADDRESSES, Desk, rehearse
from topology.sim.checkers import Kept, Rules, judge
from topology.sim.ledger import Item, Ledger, Sent, StatusSent
from topology.sim.offices import Habits
from topology.sim.traffic import Package, To, Traffic

TRAFFIC = Traffic(documents=60, p_update=0.2, p_several=0.3, p_bad=0.2)
Spoil = Callable[[Ledger], None]


@cache
def clean() -> Ledger:
    ledger, _, _ = rehearse(TRAFFIC, Habits(p_held=0), 2, Desk(2, lose=0.1, unreached=0.1))
    return ledger


@pytest.fixture
def ledger() -> Ledger:
    return copy.deepcopy(clean())


def plain(ledger: Ledger) -> tuple[Sent, str, To, Item]:
    """A package delivered to one receiver, and its one item."""
    corrected = {sent.package.after for sent in ledger.sent.values()}
    for sent in ledger.sent.values():
        package = sent.package
        if sent.doc_ids and len(package.to) == 1 and not package.after and package.number not in corrected:
            (doc_id,) = sent.doc_ids
            organ = package.to[0].organ
            return sent, doc_id, package.to[0], ledger.items[ADDRESSES.owner[organ].id, doc_id]
    raise AssertionError("the run has no plain package")


def partly_refused(ledger: Ledger) -> Sent:
    return next(sent for sent in ledger.sent.values() if sent.doc_ids and sent.package.bad)


def wholly_refused(ledger: Ledger) -> Sent:
    return next(sent for sent in ledger.sent.values() if sent.refusal)


def a_status(ledger: Ledger) -> tuple[str, StatusSent]:
    return next((digest, status) for digest, status in ledger.statuses.items() if status.code == "01")


def set_line(ledger: Ledger, sent: Sent, doc_id: str, to: To, **changes: str) -> None:
    lines = ledger.lines[sent.package.system, doc_id]
    lines[to.code] = {**lines[to.code], **changes}


def forget(ledger: Ledger, item: Item) -> None:
    del ledger.items[item.system, item.doc_id]


def texts(found: Sequence[Any]) -> list[str]:
    return [f"{each.kind}: {each.text}" for each in found]


def test_a_clean_run_has_nothing_wrong(ledger: Ledger) -> None:
    assert any(sent.package.after for sent in ledger.sent.values())
    assert judge(ledger, ADDRESSES) == []
    assert judge(ledger, ADDRESSES, kept=Kept()) == []


# --- one wrong each --------------------------------------------------------------------------------------------------------


def no_answer(ledger: Ledger) -> None:
    sent, *_ = plain(ledger)
    sent.ended = False


def refused_though_it_can_be_received(ledger: Ledger) -> None:
    sent, _, _, item = plain(ledger)
    forget(ledger, item)
    del ledger.lines[sent.package.system, item.doc_id]
    ledger.statuses = {digest: each for digest, each in ledger.statuses.items() if each.package != sent.package.number}
    sent.doc_ids, sent.refusal = {}, "xml-malformed"


def refused_for_another_reason(ledger: Ledger) -> None:
    sent = next(each for each in ledger.sent.values() if each.package.refusal.startswith("recipient-"))
    sent.refusal = "system-unknown"


def taken_though_nobody_receives(ledger: Ledger) -> None:
    sent = wholly_refused(ledger)
    sent.refusal, sent.doc_ids = "", {"doc-x": 1.0}


def refused_and_in_custody(ledger: Ledger) -> None:
    sent, _, _, _ = plain(ledger)
    sent.doc_ids, sent.refusal = {}, "recipient-closed"


def bad_receiver_not_named(ledger: Ledger) -> None:
    partly_refused(ledger).text = "Đã nhận"


def same_file_refused_later(ledger: Ledger) -> None:
    plain(ledger)[0].refusal = "recipient-closed"


def second_doc_id_told(ledger: Ledger) -> None:
    plain(ledger)[0].doc_ids["doc-x"] = 9.0


def second_doc_id_in_the_sent_list(ledger: Ledger) -> None:
    sent, doc_id, to, _ = plain(ledger)
    line = ledger.lines[sent.package.system, doc_id][to.code]
    ledger.lines[sent.package.system, "doc-x"] = {to.code: {**line, "senderDocId": "doc-x"}}


def status_with_two_doc_ids(ledger: Ledger) -> None:
    a_status(ledger)[1].doc_ids["doc-x"] = 9.0


def strange_package_in_the_sent_list(ledger: Ledger) -> None:
    sent, doc_id, to, _ = plain(ledger)
    line = ledger.lines[sent.package.system, doc_id][to.code]
    ledger.lines[sent.package.system, "doc-x"] = {to.code: {**line, "notation": "9999/CV-DT"}}


def came_to_no_receiver(ledger: Ledger) -> None:
    plain(ledger)[3].to["VXP.SAAS.02"] = None


def came_to_the_wrong_office(ledger: Ledger) -> None:
    _, doc_id, _, item = plain(ledger)
    forget(ledger, item)
    item.system = next(system.id for system in ADDRESSES.systems if system.id != item.system)
    ledger.items[item.system, doc_id] = item


def under_another_doc_id(ledger: Ledger) -> None:
    item = plain(ledger)[3]
    forget(ledger, item)
    item.doc_id = "doc-x"
    ledger.items[item.system, "doc-x"] = item


def came_twice(ledger: Ledger) -> None:
    item = plain(ledger)[3]
    ledger.items[item.system, "doc-x"] = replace(item, doc_id="doc-x")


def processed_twice(ledger: Ledger) -> None:
    plain(ledger)[3].processed = 2


def collected_and_nowhere(ledger: Ledger) -> None:
    forget(ledger, plain(ledger)[3])


def collected_and_never_taken_in(ledger: Ledger) -> None:
    plain(ledger)[3].processed = 0


def collected_and_never_confirmed(ledger: Ledger) -> None:
    plain(ledger)[3].done_tries = 0


def sender_never_told(ledger: Ledger) -> None:
    sent, doc_id, to, _ = plain(ledger)
    set_line(ledger, sent, doc_id, to, sendStatus="moving")


def in_a_mailbox_for_ever(ledger: Ledger) -> None:
    sent, doc_id, to, item = plain(ledger)
    item.done, item.processed = False, 0
    set_line(ledger, sent, doc_id, to, sendStatus="in-mailbox")


def line_missing(ledger: Ledger) -> None:
    sent, doc_id, to, _ = plain(ledger)
    del ledger.lines[sent.package.system, doc_id][to.code]


def refused_on_the_way(ledger: Ledger) -> None:
    sent, doc_id, to, item = plain(ledger)
    forget(ledger, item)
    set_line(ledger, sent, doc_id, to, sendStatus="refused")


def refused_and_received(ledger: Ledger) -> None:
    sent, doc_id, to, _ = plain(ledger)
    ledger.changed[to.code] = None
    set_line(ledger, sent, doc_id, to, sendStatus="refused")


def expired_too_early(ledger: Ledger) -> None:
    sent, doc_id, to, item = plain(ledger)
    forget(ledger, item)
    set_line(ledger, sent, doc_id, to, sendStatus="expired")


def stopped_by_nobody(ledger: Ledger) -> None:
    sent, doc_id, to, item = plain(ledger)
    forget(ledger, item)
    set_line(ledger, sent, doc_id, to, sendStatus="stopped")


def bad_receiver_not_in_the_sent_list(ledger: Ledger) -> None:
    sent = partly_refused(ledger)
    lines = ledger.lines[sent.package.system, next(iter(sent.doc_ids))]
    del lines[sent.package.bad[0].code]


def bad_receiver_without_its_reason(ledger: Ledger) -> None:
    sent = partly_refused(ledger)
    set_line(ledger, sent, next(iter(sent.doc_ids)), sent.package.bad[0], sendStatusDesc="[internal]")


def drop_02(ledger: Ledger) -> None:
    number = partly_refused(ledger).package.notation
    key = next(key for key, news in ledger.news.items() if news.notation == number)
    del ledger.news[key]


def double_02(ledger: Ledger) -> None:
    number = partly_refused(ledger).package.notation
    system, doc_id = next(key for key, news in ledger.news.items() if news.notation == number)
    ledger.news[system, "doc-x"] = replace(ledger.news[system, doc_id], doc_id="doc-x")


def a_02_without_cause(ledger: Ledger) -> None:
    sent, _, to, _ = plain(ledger)
    give_02(ledger, sent, to)


def a_02_to_somebody_else(ledger: Ledger) -> None:
    news = next(news for news in ledger.news.values() if news.code == "02")
    news.system = "somebody-else"


def a_02_from_an_office(ledger: Ledger) -> None:
    next(news for news in ledger.news.values() if news.code == "02").organ = "H41"


def status_never_came(ledger: Ledger) -> None:
    digest, _ = a_status(ledger)
    ledger.news = {key: news for key, news in ledger.news.items() if news.digest != digest}


def status_came_twice(ledger: Ledger) -> None:
    digest, _ = a_status(ledger)
    news = next(news for news in ledger.news.values() if news.digest == digest)
    ledger.news[news.system, "doc-x"] = replace(news, doc_id="doc-x")


def status_read_twice(ledger: Ledger) -> None:
    digest, _ = a_status(ledger)
    next(news for news in ledger.news.values() if news.digest == digest).processed = 2


def status_to_the_wrong_office(ledger: Ledger) -> None:
    digest, _ = a_status(ledger)
    next(news for news in ledger.news.values() if news.digest == digest).system = "somebody-else"


def status_unanswered(ledger: Ledger) -> None:
    a_status(ledger)[1].ended = False


def status_refused(ledger: Ledger) -> None:
    a_status(ledger)[1].refusal = "status-target-unknown"


def status_unconfirmed(ledger: Ledger) -> None:
    news = next(iter(ledger.news.values()))
    news.done, news.done_tries = False, 0


def status_not_shown(ledger: Ledger) -> None:
    sent, doc_id, to, _ = plain(ledger)
    set_line(ledger, sent, doc_id, to, receiveStatus="01")


def overtaken(ledger: Ledger) -> None:
    for sent in ledger.sent.values():
        elder = ledger.sent.get(sent.package.after)
        if elder is not None and elder.doc_ids and sent.doc_ids:
            mine = next(item for item in ledger.items.values() if item.package == sent.package.number)
            for item in ledger.items.values():
                if item.package == elder.package.number and ledger.organs_of(item) == ledger.organs_of(mine):
                    item.seen, mine.seen = mine.seen, item.seen
                    return
    raise AssertionError("the run has no correction")


WRONGS: list[tuple[Spoil, str]] = [
    (no_answer, "stuck: package … of … got no final answer"),
    (refused_though_it_can_be_received, "wrong: package … of … was refused with xml-malformed although"),
    (refused_for_another_reason, "wrong: package … of … was refused with system-unknown, not with"),
    (taken_though_nobody_receives, "wrong: package … of … was taken although it must be refused"),
    (refused_and_in_custody, "wrong: package … was refused with recipient-closed and taken as"),
    (bad_receiver_not_named, "is not named with"),
    (same_file_refused_later, "was taken, and the same file is refused with"),
    (second_doc_id_told, "doubled: package … is in custody 2 times"),
    (second_doc_id_in_the_sent_list, "doubled: package … is in custody 2 times"),
    (status_with_two_doc_ids, "doubled: status 01 of … on package … is in custody 2 times"),
    (strange_package_in_the_sent_list, "wrong: …: doc-x in its sent list is none of its packages"),
    (came_to_no_receiver, "came to VXP.SAAS.02"),
    (came_to_the_wrong_office, "lies before the wrong office"),
    (under_another_doc_id, "doubled: …: doc-x, package … to …, is not what its sender was told"),
    (came_twice, "doubled: package … came to … 2 times"),
    (processed_twice, "doubled: … has processed … 2 times"),
    (collected_and_nowhere, "lost: package … to … is said to be collected"),
    (collected_and_never_taken_in, "lost: package … to … is said to be collected"),
    (collected_and_never_confirmed, "its office never confirmed it"),
    (sender_never_told, "stuck: package … to … was collected, and its sender is told moving still"),
    (in_a_mailbox_for_ever, "stuck: package … to … is in-mailbox still"),
    (line_missing, "has no line in the sent list"),
    (refused_on_the_way, "is refused although it could be delivered"),
    (refused_and_received, "is said to be refused, and its office has it"),
    (expired_too_early, "is expired although it could be delivered"),
    (stopped_by_nobody, "is stopped although it could be delivered"),
    (bad_receiver_not_in_the_sent_list, "no line for"),
    (bad_receiver_without_its_reason, "must be refused, it is refused: [internal]"),
    (drop_02, "lost: package … to … was not delivered, and of 1 notices to its sender 0 came"),
    (double_02, "doubled: package … to …: 2 notices"),
    (a_02_without_cause, "wrong: package … to …: 1 notices that it was not delivered, where there is no cause"),
    (a_02_to_somebody_else, "which is not its own"),
    (a_02_from_an_office, "status 02 from H41 on … which nobody sent"),
    (status_never_came, "never came home"),
    (status_came_twice, "doubled: status 01 of … on package … came home 2 times"),
    (status_read_twice, "doubled: … has read status 01"),
    (status_to_the_wrong_office, "came to somebody-else instead of"),
    (status_unanswered, "stuck: status 01 of … on package … got no final answer"),
    (status_refused, "was refused with status-target-unknown"),
    (status_unconfirmed, "and cannot confirm it"),
    (status_not_shown, "has office status 01, its receiver said 03"),
    (overtaken, "which it corrects"),
]


@pytest.mark.parametrize(("spoil", "sentence"), WRONGS, ids=[spoil.__name__ for spoil, _ in WRONGS])
def test_the_judge_finds(ledger: Ledger, spoil: Spoil, sentence: str) -> None:
    spoil(ledger)
    found = texts(judge(ledger, ADDRESSES))
    pattern = ".*".join(re.escape(part) for part in sentence.split("…"))
    assert any(re.search(pattern, text) for text in found), found or "nothing"


def test_what_was_seen_to_be_wrong_at_once_is_in_the_judgement(ledger: Ledger) -> None:
    ledger.bad("two suns in the sky")
    assert texts(judge(ledger, ADDRESSES)) == ["wrong: two suns in the sky"]


# --- what a run may allow --------------------------------------------------------------------------------------------------


def test_the_same_file_may_be_another_document_after_the_window_or_after_an_end_without_delivery(ledger: Ledger) -> None:
    sent, doc_id, to, item = plain(ledger)
    second_doc_id_told(ledger)
    sent.last_s = sent.first_s + 100_000.0
    twin = ledger.lines[sent.package.system, doc_id][to.code]
    ledger.lines[sent.package.system, "doc-x"] = {to.code: {**twin, "senderDocId": "doc-x"}}
    ledger.items[item.system, "doc-x"] = replace(item, doc_id="doc-x")
    assert judge(ledger, ADDRESSES) == []
    sent.last_s = sent.first_s
    assert any("custody 2 times" in text for text in texts(judge(ledger, ADDRESSES)))
    ledger.changed[to.code] = None
    forget(ledger, item)
    set_line(ledger, sent, doc_id, to, sendStatus="refused")
    assert not any("custody" in text for text in texts(judge(ledger, ADDRESSES)))


def test_an_expired_document_is_no_wrong_where_the_run_was_long_enough_and_its_sender_was_told(ledger: Ledger) -> None:
    expired_too_early(ledger)
    sent, to = the_expired(ledger)
    ledger.statuses = {digest: each for digest, each in ledger.statuses.items() if each.package != sent.package.number}
    known = set(ledger.statuses)
    ledger.news = {key: news for key, news in ledger.news.items() if news.digest in known or news.code == "02"}
    assert any("of 1 notices" in text for text in texts(judge(ledger, ADDRESSES, Rules(may_expire=True))))
    give_02(ledger, sent, to)
    assert judge(ledger, ADDRESSES, Rules(may_expire=True)) == []


def the_expired(ledger: Ledger) -> tuple[Sent, To]:
    """The one delivery that `expired_too_early` has spoilt."""
    return next(
        (sent, to)
        for sent in ledger.sent.values()
        for doc_id in sent.doc_ids
        for to in sent.package.good
        if ledger.lines[sent.package.system, doc_id][to.code]["sendStatus"] == "expired"
    )


def give_02(ledger: Ledger, sent: Sent, to: To) -> None:
    """The axis tells the sender that this receiver was not delivered to."""
    template = next(news for news in ledger.news.values() if news.code == "02")
    system = sent.package.system
    text = f"[Trục] Bên nhận Một cơ quan ({to.code}): Đã hết hạn chuyển."
    ledger.news[system, "doc-x"] = replace(
        template, system=system, doc_id="doc-x", notation=sent.package.notation, description=text
    )


def test_a_changed_receiver_may_be_refused_or_delivered(ledger: Ledger) -> None:
    sent, doc_id, to, _ = plain(ledger)
    refused_on_the_way(ledger)
    ledger.changed[to.code] = None
    give_02(ledger, sent, to)
    assert judge(ledger, ADDRESSES) == []
    set_line(ledger, sent, doc_id, to, sendStatus="collected")
    assert any("lost" in text for text in texts(judge(ledger, ADDRESSES))), "and never lost"


def test_a_held_item_waits_for_a_person_and_what_no_node_holds_is_lost(ledger: Ledger) -> None:
    sent, doc_id, to, item = plain(ledger)
    in_a_mailbox_for_ever(ledger)
    ledger.statuses = {digest: each for digest, each in ledger.statuses.items() if each.package != sent.package.number}
    ledger.news = {key: news for key, news in ledger.news.items() if news.digest in ledger.statuses or news.code == "02"}
    place = (doc_id, to.code)
    assert judge(ledger, ADDRESSES, kept=Kept(held={place})) == []
    assert "stuck" in texts(judge(ledger, ADDRESSES, kept=Kept(present={place})))[0]
    assert "no node holds it" in texts(judge(ledger, ADDRESSES, kept=Kept()))[0]
    item.fail_tries = 5
    assert judge(ledger, ADDRESSES) == [], "its office failed often enough"


# --- hỏa tốc on a slow line -------------------------------------------------------------------------------------------------


def hurried(*ways: tuple[Priority, float, float]) -> list[str]:
    """Judge documents of 200 kB, each sent at one moment and seen at another, at 10 kB/s for the ordinary ones at least."""
    ledger = Ledger((), "TRUC")
    to = To("H41.07", "H41.07", "H41.07")
    for number, (priority, told_s, seen_s) in enumerate(ways, 1):
        package = Package(number, "nghean", "H41", (to,), 200_000, 0.0, f"vb-{number}", priority=priority)
        ledger.sent[number] = Sent(package, doc_ids={f"d-{number}": told_s}, ended=True)
        item = Item(ADDRESSES.owner["H41.07"].id, f"d-{number}", number, to={"H41.07": None}, package=number, seen_s=seen_s)
        ledger.items[item.system, item.doc_id] = item
    found = judge(ledger, ADDRESSES, Rules(express_s=20.0, share_bytes_per_s=10_000.0))
    return [text for text in texts(found) if "hỏa tốc" in text]


EXPRESS, NORMAL = Priority.EXPRESS, Priority.NORMAL


def test_a_hoa_toc_that_takes_too_long_is_found_unless_another_is_near_it() -> None:
    assert hurried((EXPRESS, 0.0, 20.0), (EXPRESS, 40.0, 55.0)) == []
    (found,) = hurried((EXPRESS, 0.0, 21.0), (EXPRESS, 40.0, 55.0))
    assert "a hỏa tốc, was on its way for 21 s, more than 20" in found
    assert hurried((EXPRESS, 0.0, 21.0), (EXPRESS, 10.0, 35.0)) == []


def test_that_the_others_stand_still_beside_many_hoa_toc_is_found() -> None:
    many = [(EXPRESS, 0.0, 10.0), (EXPRESS, 0.0, 40.0)]
    behind = (NORMAL, 0.0, 100.0)
    assert hurried(*many, behind, (NORMAL, 0.0, 15.0), (NORMAL, 0.0, 39.0)) == []
    (found,) = hurried(*many, behind, (NORMAL, 0.0, 15.0), (NORMAL, 0.0, 41.0))
    assert "ordinary documents had 200000 bytes in 40 s while 2 hỏa tốc were on their way" in found
    assert hurried(*many, (NORMAL, 0.0, 39.0)) == [], "then none waited any more"

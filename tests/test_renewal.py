"""Certificates renew themselves in time, when the parent says so and when an operator wants it; what fails is tried again."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from node.adapters import authority
from node.adapters.enrolment import Renewals, Request
from node.adapters.issuing import Issuing
from node.core.errors import Deferred, Reason, Refused
from node.core.standing import DAY_MS, RENEWED_BEFORE_MS, Roots, TrustAnswer
from node.renewal import Renewal
from tests.adapters.enrolling import H41, ZONE, Hub, Newcomer
from tests.adapters.pki import Clock
from tests.adapters.test_own_keys import Province

ASK_S = 0.01


async def now(work: Callable[[], Any]) -> Any:
    return work()


class Above:
    """The hub as the province asks it; faults come first."""

    def __init__(self, province: Province, known: frozenset[str]) -> None:
        self.renewals = Renewals(province.hub.issuing, province.hub.book, province.hub.directory)
        self.province = province
        self.known = known
        self.faults: list[Exception] = []
        self.asked = 0
        self.pins: list[frozenset[str]] = []

    async def renew(self, csr: str, authority_csr: str) -> tuple[str, str]:
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        asked = Request(b"", csr, authority_csr)
        return self.renewals.renew(H41, self.province.pin, self.known, asked, self.province.hub.now_ms)

    def pin(self, pins: frozenset[str]) -> None:
        self.pins.append(pins)


class Node:
    """An enrolled province with an authority of its own; its office certificate is from its own root."""

    def __init__(self, folder: Path) -> None:
        self.hub = Hub(folder / "hub")
        self.issuing = Issuing(folder / "ca", ZONE, H41)
        self.province = Province(self.hub, folder / "h41")
        token = self.hub.invite()
        link = self.province.own.ask(new_key=False)
        outcome: Any = self.hub.enrolment.answer(Request(token.secret, link, self.issuing.ask()), self.hub.now_ms)
        self.province.own.take(outcome.link)
        self.issuing.answered(outcome.authority, self.hub.now)
        self.above = Above(self.province, frozenset({self.province.pin}))
        self.clock = Clock(self.hub.now_ms)
        self.ends = {"link": self.hub.now_ms + 398 * DAY_MS}
        self.reloads = 0
        self.office = (folder / "office.pem", folder / "office.key")
        self.issuing.own_office(folder / "office", ["localhost", "127.0.0.1"], self.hub.now)
        self.wish = folder / "renew"
        self.renewal = Renewal(
            self.clock,
            random.Random(1),
            now,
            self.province.own,
            self.issuing,
            self.above,
            self.ends,
            self._reload,
            self.wish,
            self.office,
            ASK_S,
        )

    def _reload(self) -> None:
        self.reloads += 1

    async def look(self, *, soon: bool = True) -> list[str]:
        if soon:
            self.renewal._next_s = 0.0
        with capture_logs() as logs:
            await self.renewal.look()
        return [entry["event"] for entry in logs]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_a_certificate_is_renewed_90_days_before_its_end_and_not_earlier(node: Node) -> None:
    node.renewal._office_s = math.inf
    node.clock.now_ms = node.ends["link"] - RENEWED_BEFORE_MS
    assert await node.look() == []
    node.clock.now_ms += 1
    assert "certificate renewed" in await node.look()
    assert node.reloads == 1
    node.ends["link"] += 300 * DAY_MS
    assert await node.look() == []


async def test_an_authority_near_its_end_is_renewed_like_the_link(node: Node) -> None:
    node.ends["authority"] = node.clock.now_ms + 10 * DAY_MS
    before = node.issuing.certificate()
    assert "certificate renewed" in await node.look()
    assert node.issuing.certificate() != before


@pytest.mark.parametrize("fault", [Deferred(1.0), Refused(Reason.OPERATION_UNKNOWN)])
async def test_a_renewal_that_fails_is_said_and_tried_again_later(node: Node, fault: Exception) -> None:
    node.ends["link"] = node.clock.now_ms
    node.above.faults.append(fault)
    assert await node.look() == ["certificate not renewed"]
    assert await node.look(soon=False) == [], "not at once"
    assert "certificate renewed" in await node.look()


async def test_a_parent_that_would_sign_otherwise_today_is_asked_once(node: Node) -> None:
    answer = TrustAnswer("s", 0, False, renew=True)
    for _ in range(3):
        await node.renewal.heard(answer)
    assert "certificate renewed" in await node.look()
    assert await node.look() == []
    assert node.above.asked == 1


async def test_an_operators_wish_for_a_new_key_is_fulfilled_and_the_parent_knows_both_keys_meanwhile(node: Node) -> None:
    old = node.province.pin
    node.wish.write_text("node\n")
    assert "certificate renewed" in await node.look()
    (book,) = (peer.pins for peer in node.hub.enrolment.book().peers)
    assert book[0] == old
    assert len(book) == 2
    assert not node.wish.exists()
    assert node.renewal.told()[1][0].pin == book[1]
    await asyncio.sleep(ASK_S * 4)
    assert "the next key is in use" in await node.look()
    assert node.province.pin == book[1]
    node.wish.write_text("node\n")
    node.above.known = frozenset(book)
    await node.look()
    (again,) = (peer.pins for peer in node.hub.enrolment.book().peers)
    assert again[0] == book[1], "the one in use stays, the oldest goes"


async def test_an_operators_wish_for_another_issuing_key_is_fulfilled(node: Node) -> None:
    before = authority.pin_of(x509.load_der_x509_certificate(node.issuing.certificate()))
    node.wish.write_text("authority\n")
    await node.look()
    assert authority.pin_of(x509.load_der_x509_certificate(node.issuing.certificate())) != before
    node.wish.write_text("something else")
    assert await node.look() == []


async def test_files_that_an_operator_has_changed_are_taken_up(node: Node) -> None:
    """Another authority writes PEM files; nobody has to send a signal."""
    await node.look()
    node.province.files.trust.write_text(node.province.files.trust.read_text() + "\n")
    await node.look()
    await node.look()
    assert node.reloads == 1


async def test_the_office_listeners_certificate_is_renewed_under_the_same_names(node: Node) -> None:
    before = x509.load_pem_x509_certificates(node.office[0].read_bytes())[0]
    assert await node.look() == []
    node.renewal._office_s = 0.0
    node.clock.now_ms += 320 * DAY_MS
    assert "certificate of the office listener renewed" in await node.look()
    after = x509.load_pem_x509_certificates(node.office[0].read_bytes())[0]
    assert after.serial_number != before.serial_number
    assert after.public_key() == before.public_key()
    assert after.extensions.get_extension_for_class(x509.SubjectAlternativeName) == before.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )


async def test_the_hub_signs_its_own_and_follows_its_own_issuing_key(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")
    from node.adapters.own_keys import Files, OwnKeys

    own = OwnKeys(Files(hub.certificate, hub.key, hub.trust, tmp_path / "keys.json"), ZONE, ())
    office = (tmp_path / "office.pem", tmp_path / "office.key")
    parts: Any = (
        Clock(hub.now_ms),
        random.Random(1),
        now,
        own,
        hub.issuing,
        None,
        {},
        lambda: None,
        tmp_path / "renew",
        office,
        1.0,
    )
    renewal = Renewal(*parts)
    hub.issuing.rotate_hub(hub.now)
    assert not own.is_under(hub.issuing.certificate())
    await renewal.look()
    assert own.is_under(hub.issuing.certificate())
    new, old = hub.issuing.rotate_root(hub.now + timedelta(days=1))
    hub.trust.write_text(new + old)
    assert renewal.told() == (Roots((new, old), hub.issuing.crosses()), ())


# --- the parent's side ---------------------------------------------------------------------------------------------------


def renewed(node: Node, newcomer: Newcomer, *known: str) -> tuple[str, str]:
    asked = Request(b"", newcomer.csr, newcomer.authority_csr)
    return node.above.renewals.renew(H41, node.province.pin, known, asked, node.hub.now_ms)


def test_a_renewal_gives_the_name_of_the_child_that_asks_whatever_it_asks_for(node: Node) -> None:
    """Threats, row 21."""
    link, below = renewed(node, Newcomer("h14.small.test"), node.province.pin)
    (first, *_) = x509.load_pem_x509_certificates(link.encode())
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"h41.{ZONE}"]
    constraints = x509.load_pem_x509_certificates(below.encode())[0].extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.value.permitted_subtrees == [x509.DNSName(f"h41.{ZONE}")]


def test_a_key_that_the_configuration_pins_is_changed_there(node: Node) -> None:
    node.hub.enrolment.remove(H41, "", node.hub.now)
    with pytest.raises(Refused) as caught:
        renewed(node, Newcomer(), node.province.pin)
    assert caught.value.reason is Reason.PEER_KEY
    assert renewed(node, Newcomer())[0]


def test_a_child_that_asks_without_end_is_told_to_come_tomorrow(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threats, row 28."""
    monkeypatch.setattr("node.adapters.issuing.ISSUED_A_DAY_MAX", 4)
    renewed(node, Newcomer(), node.province.pin)
    with pytest.raises(Deferred):
        renewed(node, Newcomer(), node.province.pin)

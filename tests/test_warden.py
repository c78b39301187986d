"""What one authority revokes is known to the whole tree in a question at each hop, and enforced there; alarms are said once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from node.adapters import authority
from node.adapters.http.tls import signed_by
from node.adapters.issuing import Issuing
from node.adapters.lists import Lists
from node.core.errors import Deferred, Reason, Refused
from node.core.identifier import HUB, OrgId
from node.core.standing import DAY_MS, Handover, Listed, Roots, TrustAnswer, TrustQuestion
from node.warden import Warden
from tests.adapters.enrolling import ZONE, Newcomer
from tests.adapters.pki import NOW_MS, Clock

NOW = datetime.fromtimestamp(NOW_MS // 1000, UTC)
H41, H14 = OrgId(("H41",)), OrgId(("H14",))
UNIT = OrgId(("H41", "07"))


async def now(work: Callable[[], Any]) -> Any:
    return work()


class Quiet:
    """Keys that need nothing, and children that are told nothing of them."""

    async def look(self) -> None: ...
    async def heard(self, answer: TrustAnswer) -> None: ...

    def told(self) -> tuple[Roots, tuple[Handover, ...]]:
        return Roots(), ()

    def stale(self, chain: Sequence[bytes]) -> bool:
        return bool(chain)

    async def renew(self, peer: OrgId, chain: Sequence[bytes], csr: str, authority_csr: str) -> tuple[str, str]:
        return csr, authority_csr


@dataclass
class Node:
    """One node's keys, and its question to the node above. fault: what comes of the next questions instead."""

    code: OrgId
    issuing: Issuing
    lists: Lists
    clock: Clock = field(default_factory=Clock)
    parent: Node | None = None
    swept: int = 0
    faults: list[Exception] = field(default_factory=list)
    asked: list[TrustQuestion] = field(default_factory=list)
    changes: int = 0
    ends_ms: dict[str, int] = field(default_factory=dict)
    warden: Warden = field(init=False)

    def __post_init__(self) -> None:
        self.start("first")

    def start(self, session: str) -> None:
        above = (self.parent.code, self) if self.parent is not None else None
        rng = random.Random(1)
        sides = (self._sweep, lambda: self.changes, self.ends_ms, Quiet(), Quiet(), 20.0)
        self.warden = Warden(self.clock, self.lists, self.issuing, above, now, rng, session, *sides)

    def _sweep(self) -> int:
        self.swept += 1
        return 0

    async def trust(self, question: TrustQuestion) -> TrustAnswer:
        assert self.parent is not None
        self.asked.append(question)
        if self.faults:
            raise self.faults.pop(0)
        return await self.parent.warden.answer(self.code, (), question)

    async def look(self) -> None:
        self.warden._ask_at_s = 0.0
        await self.warden.look()


@dataclass
class Tree:
    hub: Node
    h41: Node
    h14: Node
    unit: tuple[bytes, ...]
    """The chain of a unit below H41, DER, to the root."""

    async def rounds(self, *nodes: Node) -> None:
        for node in nodes:
            await node.look()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    top = Issuing(tmp_path / "hub", ZONE, HUB)
    (tmp_path / "trust.pem").write_text(top.found(NOW))

    def node(code: OrgId, issuing: Issuing, parent: Node | None) -> Node:
        return Node(code, issuing, Lists(issuing.folder / "lists.json", tmp_path / "trust.pem", 30 * DAY_MS), parent=parent)

    hub = node(HUB, top, None)
    provinces = []
    for code in (H41, H14):
        below = Issuing(tmp_path / str(code), ZONE, code)
        below.answered(top.issue(code, (), Newcomer().csr, below.ask(), NOW).authority, NOW)
        provinces.append(node(code, below, hub))
    root = (tmp_path / "trust.pem").read_bytes()
    chain = provinces[0].issuing.issue(UNIT, (), Newcomer().csr, "", NOW).certificate
    unit = [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(chain.encode() + root)]
    return Tree(hub, provinces[0], provinces[1], tuple(unit))


def is_revoked(node: Node, chain: tuple[bytes, ...]) -> bool:
    return node.lists.revoked_ms(signed_by(chain)) is not None


async def test_what_a_province_revokes_goes_up_to_the_root_and_down_again_in_one_question_at_each_hop(tree: Tree) -> None:
    """Threats, row 22: a revoked leaf."""
    await tree.rounds(tree.hub, tree.h41, tree.h14)
    tree.h41.issuing.revoke(UNIT, "lost", NOW)
    before = tree.h14.swept
    await tree.rounds(tree.h41, tree.hub, tree.h14)
    assert [is_revoked(each, tree.unit) for each in (tree.h41, tree.hub, tree.h14)] == [True] * 3
    assert tree.h14.swept == before + 1, "what is open there was looked at"
    (tree.h14.issuing.folder / "lists.json").read_text().index("BEGIN X509 CRL")


async def test_what_the_hub_revokes_is_known_below_and_takes_everything_under_it_along(tree: Tree) -> None:
    """Threats, row 22: a revoked intermediate."""
    tree.hub.issuing.revoke(H41, "", NOW)
    await tree.rounds(tree.hub, tree.h14)
    assert is_revoked(tree.h14, tree.unit)
    assert is_revoked(tree.h14, tree.unit[1:])


async def test_nothing_is_told_twice_and_a_parent_that_was_restarted_is_told_all_again(tree: Tree) -> None:
    await tree.rounds(tree.hub, tree.h41, tree.h41)
    first, *_, last = tree.h41.asked
    assert len(first.lists) == 1
    assert last.lists == ()
    tree.hub.start("second")
    tree.hub.lists = Lists(tree.hub.issuing.folder / "none.json", tree.hub.lists._trust, 0)
    tree.hub.start("second")
    await tree.h41.look()
    assert len(tree.h41.asked[-1].lists) == 1
    assert tree.hub.lists.version == 1


@pytest.mark.parametrize("fault", [Deferred(1.0), Refused(Reason.OPERATION_UNKNOWN), Refused(Reason.WIRE_MALFORMED)])
async def test_a_parent_that_cannot_answer_is_asked_again_later(tree: Tree, fault: Exception) -> None:
    tree.hub.issuing.revoke(H41, "", NOW)
    await tree.hub.look()
    tree.h14.faults.append(fault)
    await tree.h14.look()
    assert not is_revoked(tree.h14, tree.unit)
    await tree.h14.warden.look()
    assert len(tree.h14.asked) == 1, "not at once"
    await tree.h14.look()
    assert is_revoked(tree.h14, tree.unit)


async def test_a_list_that_does_not_count_is_said_and_the_others_of_the_same_question_count(tree: Tree) -> None:
    good = tree.h41.issuing.lists(NOW)[0]
    with capture_logs() as logs:
        await tree.hub.warden.answer(H41, (), TrustQuestion("", 0, (Listed("x", "y"), Listed(*good))))
    assert [entry["event"] for entry in logs] == ["revocation list refused", "revocation list"]
    assert tree.hub.lists.version == 1


async def test_a_child_whose_certificate_would_be_signed_otherwise_today_is_told_to_renew(tree: Tree) -> None:
    answers = [await tree.hub.warden.answer(H41, chain, TrustQuestion("", 0)) for chain in ((), (b"old", b"issuer"))]
    assert [each.renew for each in answers] == [False, True]


async def test_an_authority_that_cannot_sign_is_said_and_stops_nothing(tree: Tree) -> None:
    (tree.h41.issuing.folder / "issued.json").write_text("broken")
    with capture_logs() as logs:
        await tree.h41.look()
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["own revocation list not made"]
    assert tree.h41.asked


async def test_an_authority_whose_folder_cannot_be_looked_into_is_said_and_the_warden_goes_on(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ready() -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tree.h41.issuing, "ready", ready)
    with capture_logs() as said:
        await tree.h41.look()
    assert "own revocation list not made" in [line["event"] for line in said]
    assert tree.h41.asked


async def test_a_node_that_was_removed_from_the_register_is_looked_for_among_the_open_connections(tree: Tree) -> None:
    await tree.hub.look()
    before = tree.hub.swept
    await tree.hub.look()
    assert tree.hub.swept == before
    tree.hub.changes += 1
    await tree.hub.look()
    assert tree.hub.swept == before + 1


async def test_the_end_of_a_certificate_is_said_once_at_each_alarm(tree: Tree) -> None:
    hub = tree.hub
    hub.ends_ms["link"] = NOW_MS + 61 * DAY_MS
    said = []
    for days in (0, 2, 3, 32, 55, 60.5, 61.5):
        hub.clock.now_ms = NOW_MS + int(days * DAY_MS)
        with capture_logs() as logs:
            await hub.look()
        said.append([(entry["days"], entry["log_level"]) for entry in logs if entry["event"] == "certificate ends"])
    assert said == [[], [(60, "warning")], [], [(30, "warning")], [(7, "warning")], [(1, "error")], [(0, "error")]]


def test_a_newcomers_key_is_pinned_as_the_lists_name_keys(tree: Tree) -> None:
    signer = authority.kept(tree.h41.issuing.folder / "issuing")
    assert signed_by(tree.unit)[0][0] == authority.pin_of(signer.certificate)

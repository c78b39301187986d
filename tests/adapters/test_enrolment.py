"""What a parent grants: to whom, once, under which name; what a second machine, a transfer and a removal mean; what survives."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from node.adapters import authority, directory_file, enrolment, issuing, peers
from node.adapters.enrolment import Grant, Newcomers, Waiting
from node.adapters.folders import BadFile
from node.core.errors import Reason, Refused
from node.core.identifier import HUB, OrgId
from tests.adapters.enrolling import H14, H41, ZONE, Hub, Newcomer


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def granted(hub: Hub, outcome: Grant | Waiting) -> x509.Certificate:
    assert isinstance(outcome, Grant)
    leaf, *rest = x509.load_pem_x509_certificates(outcome.link.encode())
    root = x509.load_pem_x509_certificate(outcome.trust.encode())
    PolicyBuilder().store(Store([root])).time(hub.now).build_client_verifier().verify(leaf, rest)
    return leaf


def names(leaf: x509.Certificate) -> list[str]:
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def refusal(hub: Hub, newcomer: Newcomer, token: object, later_ms: int = 0) -> Reason:
    with pytest.raises(Refused) as caught:
        hub.enrolment.answer(newcomer.request(token), hub.now_ms + later_ms)  # type: ignore[arg-type]
    return caught.value.reason


def test_an_invited_node_gets_certificates_place_and_directory_and_is_registered(hub: Hub) -> None:
    newcomer, token = Newcomer(), hub.invite()
    outcome = hub.enrolment.answer(newcomer.request(token), hub.now_ms)
    assert isinstance(outcome, Grant)
    assert names(granted(hub, outcome)) == [f"h41.{ZONE}"]
    assert hub.enrolment.book().pins() == {H41: (newcomer.pin,)}
    directory = directory_file.load(hub.directory)
    node = directory.node(H41)
    assert node is not None
    assert (node.parent, node.prefixes) == (HUB, (H41,))
    assert outcome.directory == hub.directory.read_text()
    below = x509.load_pem_x509_certificates(outcome.authority.encode())[0]
    permitted = below.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
    assert permitted == [x509.DNSName(f"h41.{ZONE}")]


def test_the_name_comes_from_the_token_and_never_from_the_request(hub: Hub) -> None:
    """Threats, row 21: a wrong but valid certificate."""
    outcome = hub.enrolment.answer(Newcomer(f"h14.{ZONE}", ZONE).request(hub.invite(H41)), hub.now_ms)
    assert names(granted(hub, outcome)) == [f"h41.{ZONE}"]


def test_a_lost_answer_is_given_again_to_the_same_key_and_to_no_other(hub: Hub) -> None:
    newcomer, token = Newcomer(), hub.invite()
    first = hub.enrolment.answer(newcomer.request(token), hub.now_ms)
    assert hub.enrolment.answer(newcomer.request(token), hub.now_ms + 10_000_000) == first
    assert refusal(hub, Newcomer(), token) is Reason.INVITE_USED


def test_without_auto_a_person_approves_and_then_it_is_granted(hub: Hub) -> None:
    newcomer, token = Newcomer(), hub.invite(auto=False)
    assert hub.enrolment.approve(H41, newcomer.pin, hub.now_ms) is None, "nobody has asked yet"
    assert hub.enrolment.answer(newcomer.request(token), hub.now_ms) == Waiting(H41)
    assert hub.enrolment.book().peers == ()
    assert hub.issuing.issued()[1:] == ()
    assert refusal(hub, Newcomer(), token) is Reason.INVITE_USED, "what is approved is the key that asked"
    assert hub.enrolment.approve(H41, Newcomer().pin, hub.now_ms) is None, "and no other"
    approved = hub.enrolment.approve(H41, newcomer.pin, hub.now_ms)
    assert approved is not None
    assert approved.pin == newcomer.pin
    granted(hub, hub.enrolment.answer(newcomer.request(token), hub.now_ms))


def test_an_expired_token_and_one_that_was_replaced_open_nothing(hub: Hub) -> None:
    first = hub.invite()
    second = hub.invite()
    assert refusal(hub, Newcomer(), first) is Reason.INVITE_UNKNOWN
    assert refusal(hub, Newcomer(), second, later_ms=3_600_000) is Reason.INVITE_EXPIRED
    assert hub.enrolment.book().peers == ()


def test_a_registered_code_is_not_invited_again_without_a_transfer(hub: Hub) -> None:
    hub.enrolment.answer(Newcomer().request(hub.invite()), hub.now_ms)
    with pytest.raises(Refused) as caught:
        hub.invite()
    assert caught.value.reason is Reason.PEER_REGISTERED


def test_a_transfer_puts_the_new_key_in_the_place_of_the_old_and_revokes_what_that_had(hub: Hub) -> None:
    old, new = Newcomer(), Newcomer()
    hub.enrolment.answer(old.request(hub.invite()), hub.now_ms)
    token = hub.invite(transfer=True)
    assert hub.enrolment.book().pins() == {H41: (old.pin,)}, "until the new one is in, the old one works"
    granted(hub, hub.enrolment.answer(new.request(token), hub.now_ms))
    assert hub.enrolment.book().pins() == {H41: (new.pin,)}
    standing = {row.pin for row in hub.issuing.issued() if row.code == "H41" and row.revoked is None}
    assert old.pin not in standing
    assert new.pin in standing
    listed = x509.load_pem_x509_crl(hub.issuing.revocations(hub.now).encode())
    assert len(list(listed)) == 2, "its link certificate and its authority"


def test_a_removed_node_is_neither_registered_nor_invited_and_its_token_is_dead(hub: Hub) -> None:
    newcomer, token = Newcomer(), hub.invite()
    hub.enrolment.answer(newcomer.request(token), hub.now_ms)
    assert hub.enrolment.remove(H41, "", hub.now)
    assert refusal(hub, newcomer, token) is Reason.INVITE_UNKNOWN
    assert not hub.enrolment.remove(H41, "", hub.now)


def test_a_child_that_the_configuration_declares_is_not_invited(tmp_path: Path) -> None:
    hub = Hub(tmp_path, frozenset({H14}))
    for transfer in (False, True):
        with pytest.raises(Refused):
            hub.invite(H14, transfer=transfer)


def test_nobody_is_invited_under_a_name_this_node_may_not_give(hub: Hub) -> None:
    with pytest.raises(BadFile):
        hub.invite(HUB)


def test_a_province_invites_its_units_and_nobody_elses(hub: Hub, tmp_path: Path) -> None:
    from node.adapters.enrolment import Enrolment
    from node.adapters.folders import write
    from node.adapters.issuing import Issuing
    from node.core.enrolment import Invitation

    below_it = Issuing(tmp_path / "h41", ZONE, H41)
    newcomer = Newcomer()
    request = newcomer.request(hub.invite())
    outcome = hub.enrolment.answer(type(request)(request.secret, request.link, below_it.ask()), hub.now_ms)
    assert isinstance(outcome, Grant)
    below_it.answered(outcome.authority, hub.now)
    write(tmp_path / "h41" / "directory.json", outcome.directory)
    write(tmp_path / "h41" / "link.pem", outcome.link)
    files = (tmp_path / "h41" / "link.pem", hub.trust, tmp_path / "h41" / "directory.json")
    province = Enrolment(H41, ZONE, tmp_path / "h41" / "peers.json", below_it, files, frozenset())
    unit = Invitation(OrgId(("H41", "07")), "Sở", "", (), "", hub.now_ms + 1, True)
    token = province.invite(unit, b"u" * 16)
    below = province.answer(Newcomer().request(token), hub.now_ms)
    assert names(granted(hub, below)) == [f"07.h41.{ZONE}"]
    with pytest.raises(BadFile, match="H14"):
        province.invite(Invitation(H14, "", "", (), "", 0), b"v" * 16)


def test_a_broken_request_uses_nothing_up(hub: Hub) -> None:
    newcomer, token = Newcomer(), hub.invite()
    request = newcomer.request(token)
    with pytest.raises(Refused) as caught:
        hub.enrolment.answer(type(request)(token.secret, "no request", ""), hub.now_ms)
    assert caught.value.reason is Reason.WIRE_MALFORMED
    granted(hub, hub.enrolment.answer(request, hub.now_ms))


def test_a_parent_whose_directory_is_broken_grants_nothing_and_the_token_stays_good(hub: Hub) -> None:
    newcomer, token = Newcomer(), hub.invite()
    good = hub.directory.read_text()
    hub.directory.write_text("{}")
    with pytest.raises(BadFile):
        hub.enrolment.answer(newcomer.request(token), hub.now_ms)
    assert hub.enrolment.book().peers == ()
    hub.directory.write_text(good)
    granted(hub, hub.enrolment.answer(newcomer.request(token), hub.now_ms))


def test_a_crash_between_signing_and_registering_is_mended_by_asking_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    newcomer, token = Newcomer(), hub.invite()
    with monkeypatch.context() as broken:
        broken.setattr(peers, "write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            hub.enrolment.answer(newcomer.request(token), hub.now_ms)
    leaf = granted(hub, hub.enrolment.answer(newcomer.request(token), hub.now_ms))
    assert f"{leaf.serial_number:x}" in {row.serial for row in hub.issuing.issued()}, "and both can be revoked"


def test_the_secret_is_kept_hashed(hub: Hub) -> None:
    token = hub.invite()
    assert token.secret.hex() not in hub.book.read_text()
    assert token.text() not in hub.book.read_text()


def test_the_token_names_the_parents_key(hub: Hub) -> None:
    assert hub.invite().key.hex() == authority.pin(authority.kept_key(hub.folder / "link").public_key())


def test_a_question_that_is_repeated_writes_nothing(hub: Hub) -> None:
    newcomer, token = Newcomer(), hub.invite(auto=False)
    other = hub.invite(H14, auto=False)
    for who, whose in ((newcomer, token), (Newcomer(), other)):
        hub.enrolment.answer(who.request(whose), hub.now_ms)
    before = hub.book.stat().st_ino, hub.book.read_text()
    hub.enrolment.answer(newcomer.request(token), hub.now_ms)
    assert (hub.book.stat().st_ino, hub.book.read_text()) == before


def test_what_was_revoked_or_is_long_over_is_not_handed_out_again(hub: Hub) -> None:
    newcomer, token = Newcomer(), hub.invite()
    granted(hub, hub.enrolment.answer(newcomer.request(token), hub.now_ms))
    assert refusal(hub, newcomer, token, later_ms=60 * 86_400_000) is Reason.INVITE_EXPIRED
    hub.issuing.revoke(H41, "lost", hub.now)
    assert refusal(hub, newcomer, token) is Reason.INVITE_USED


def test_another_authority_key_is_another_machine(hub: Hub) -> None:
    newcomer, token = Newcomer(), hub.invite(auto=False)
    hub.enrolment.answer(newcomer.request(token), hub.now_ms)
    newcomer.below = Newcomer().below
    assert refusal(hub, newcomer, token) is Reason.INVITE_USED


def test_a_disk_that_is_full_leaves_nobody_in_the_directory_and_the_next_question_finishes_it(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threats, row 27: disk exhaustion."""
    newcomer, token = Newcomer(), hub.invite()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for module in (issuing, peers, enrolment):
        with monkeypatch.context() as broken:
            broken.setattr(module, "write", full)
            with pytest.raises(OSError, match="No space"):
                hub.enrolment.answer(newcomer.request(token), hub.now_ms)
        assert directory_file.load(hub.directory).node(H41) is None
    granted(hub, hub.enrolment.answer(newcomer.request(token), hub.now_ms))
    assert directory_file.load(hub.directory).node(H41) is not None
    taken = directory_file.load(hub.directory).version
    hub.enrolment.answer(newcomer.request(token), hub.now_ms)
    assert directory_file.load(hub.directory).version == taken


def test_a_transfer_keeps_all_that_the_old_machine_covers(hub: Hub) -> None:
    k41 = OrgId(("K41",))
    token = hub.invite(prefixes=(k41,))
    hub.enrolment.answer(Newcomer().request(token), hub.now_ms)
    outcome = hub.enrolment.answer(Newcomer().request(hub.invite(transfer=True)), hub.now_ms)
    assert isinstance(outcome, Grant)
    node = directory_file.load(hub.directory).node(H41)
    assert node is not None
    assert node.prefixes == (H41, k41)
    below = x509.load_pem_x509_certificates(outcome.authority.encode())[0]
    permitted = below.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
    assert permitted == [x509.DNSName(f"h41.{ZONE}"), x509.DNSName(f"k41.{ZONE}")]


async def test_a_wrong_secret_costs_no_look_at_the_book(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threats, row 28: guessing takes nothing from the others."""

    async def run(work: Callable[[], Any]) -> Any:
        return work()

    door = Newcomers(hub.enrolment, run, lambda: hub.now_ms, lambda: None)
    newcomer, token = Newcomer(), hub.invite()
    reads: list[Path] = []
    load = peers.load

    def counted(path: Path) -> peers.Book:
        reads.append(path)
        return load(path)

    monkeypatch.setattr(peers, "load", counted)
    for guess in range(20):
        with pytest.raises(Refused) as caught:
            await door.answer(bytes([255, guess]) * 8, newcomer.csr, "")
        assert caught.value.reason is Reason.INVITE_UNKNOWN
    assert len(reads) == 1
    assert (await door.answer(token.secret, newcomer.csr, newcomer.authority_csr))["state"] == "granted"

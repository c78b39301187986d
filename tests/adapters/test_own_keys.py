"""A node's own key and roots as files: what takes their place and what does not, and what a crash leaves behind."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from node.adapters import authority
from node.adapters.folders import BadFile
from node.adapters.issuing import Issuing
from node.adapters.own_keys import Files, OwnKeys
from node.core.identifier import HUB, OrgId
from node.core.standing import Handover, Roots
from tests.adapters.enrolling import H14, H41, ZONE, Hub
from tests.adapters.pki import authority as root_of
from tests.adapters.pki import leaf, new_key

LATER = timedelta(days=1)


class Province:
    """A node below the hub, with files of its own."""

    def __init__(self, hub: Hub, folder: Path, *pins: str) -> None:
        self.hub = hub
        self.files = Files(folder / "link.pem", folder / "link.key", folder / "trust.pem", folder / "keys.json")
        self.pins = pins
        folder.mkdir()
        authority.kept_key(folder / "link")
        self.files.trust.write_bytes(hub.trust.read_bytes())
        self.files.certificate.write_text(self.signed(authority.request(authority.kept_key(folder / "link"), ["x"])))
        self.own = self.opened()

    def opened(self) -> OwnKeys:
        return OwnKeys(self.files, f"h41.{ZONE}", self.pins)

    def signed(self, csr: str, code: OrgId = H41) -> str:
        return self.hub.issuing.issue(code, (), csr, "", self.hub.now).certificate

    @property
    def pin(self) -> str:
        """Of the key in place, which the certificate in place belongs to."""
        key = authority.pin(authority.kept_key(self.files.key.with_suffix("")).public_key())
        assert authority.pin_of(x509.load_pem_x509_certificates(self.files.certificate.read_bytes())[0]) == key
        return key


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


@pytest.fixture
def province(hub: Hub, tmp_path: Path) -> Province:
    return Province(hub, tmp_path / "h41", authority.pin(authority.kept_key(hub.folder / "link").public_key()))


def test_a_renewed_certificate_takes_its_place_at_once_and_the_key_stays(province: Province) -> None:
    before, stamp = province.pin, province.own.stamp()
    assert not province.own.take(province.signed(province.own.ask(new_key=False)))
    assert province.pin == before
    assert province.own.stamp() != stamp


def test_a_new_key_waits_until_it_is_switched_to_and_has_the_old_ones_word(province: Province) -> None:
    before = province.pin
    assert province.own.take(province.signed(province.own.ask(new_key=True)))
    assert (province.pin, province.own.waits()) == (before, True)
    (word,) = province.own.handovers()
    assert authority.taken_over([before], [word]) == {before, word.pin}
    province.own.switch()
    assert (province.pin, province.own.waits()) == (word.pin, False)
    assert province.files.key.stat().st_mode & 0o777 == 0o600
    assert province.opened().handovers() == (word,)


def test_asking_again_for_a_new_key_makes_no_third_one(province: Province) -> None:
    first = province.own.ask(new_key=True)
    assert authority.requested_key(first) == authority.requested_key(province.own.ask(new_key=True))


def test_a_crash_between_key_and_certificate_is_finished_at_the_next_start(province: Province) -> None:
    province.own.take(province.signed(province.own.ask(new_key=True)))
    (word,) = province.own.handovers()
    province.files.key.with_name("next-link.key").replace(province.files.key)
    province.opened()
    assert province.pin == word.pin


def test_what_was_not_asked_for_is_refused_and_nothing_changes(province: Province, tmp_path: Path) -> None:
    """Threats, row 26: hostile answers of a parent."""
    csr, stamp = province.own.ask(new_key=False), province.own.stamp()
    stranger = authority.request(authority.kept_key(tmp_path / "stranger"), ["x"])
    elsewhere = Hub(tmp_path / "elsewhere").issuing.issue(H41, (), csr, "", province.hub.now).certificate
    for chain in (province.signed(csr, H14), province.signed(stranger), elsewhere, "nothing"):
        with pytest.raises(BadFile):
            province.own.take(chain)
    assert province.own.stamp() == stamp


# --- the parent's key ----------------------------------------------------------------------------------------------------


def test_the_parents_next_key_is_known_by_the_word_of_the_one_before_and_by_no_others(province: Province, tmp_path: Path) -> None:
    """Threats, row 21: a wrong but valid certificate."""
    old = authority.kept_key(province.hub.folder / "link")
    known, new, third = province.own.parent_pins(), "a" * 64, "b" * 64
    stranger = authority.hand_over(authority.kept_key(tmp_path / "stranger"), new)
    forged = Handover(authority.hand_over(old, new).key, third, authority.hand_over(old, new).signature)
    assert not province.own.hear([stranger, forged, Handover("", new, "00"), Handover(stranger.key, new, "xx")])
    assert province.own.hear([authority.hand_over(old, new)])
    assert not province.own.hear([authority.hand_over(old, new)])
    assert province.opened().parent_pins() == known | {new}


def test_a_node_that_pins_no_parent_learns_no_pins(hub: Hub, tmp_path: Path) -> None:
    province = Province(hub, tmp_path / "h41")
    assert not province.own.hear([authority.hand_over(authority.kept_key(hub.folder / "link"), "a" * 64)])
    assert province.own.parent_pins() == frozenset()


# --- the roots -----------------------------------------------------------------------------------------------------------


def told(hub: Hub, *roots: str) -> Roots:
    return Roots(roots, hub.issuing.crosses())


def test_a_new_root_is_trusted_by_the_old_ones_word_and_the_old_one_goes_when_nothing_needs_it(province: Province) -> None:
    hub = province.hub
    new, old = hub.issuing.rotate_root(hub.now + LATER)
    chain = province.signed(province.own.ask(new_key=False))
    province.own.take(chain)  # it believes what is below the new root before it knows it
    assert not province.own.follow(Roots((new, old), ()))
    assert province.own.follow(told(hub, new, old))
    assert province.files.trust.read_text() == old + new
    assert province.own.follow(told(hub, new))
    assert province.files.trust.read_text() == new
    assert province.own.roots() == told(hub, new), "the nodes below hear of it too"
    assert not province.own.follow(told(hub, new))


def test_the_old_root_stays_as_long_as_our_own_certificate_is_under_it(province: Province) -> None:
    hub = province.hub
    new, old = hub.issuing.rotate_root(hub.now + LATER)
    assert province.own.follow(told(hub, new, old))
    assert not province.own.follow(told(hub, new))
    assert province.files.trust.read_text() == old + new


def test_a_parent_makes_no_roots_and_takes_none_away(province: Province) -> None:
    """Threats, row 21: a province that would be the root of its children."""
    rogue, other = root_of("rogue"), root_of("rogue", root_of("other"))
    mine = province.files.trust.read_text()
    for roots, crosses in (
        ((rogue.pem.decode(), mine), (rogue.pem.decode(),)),
        ((rogue.pem.decode(),), (authority.pem(other.certificate),)),
        ((), ()),
        ((rogue.pem.decode(),), ()),
    ):
        assert not province.own.follow(Roots(roots, crosses))
    assert province.files.trust.read_text() == mine


def test_the_hubs_issuing_key_does_not_make_itself_a_root(province: Province) -> None:
    """Threats, row 21: it lies on a machine that serves the network, and the root's need not."""
    signer = authority.kept(province.hub.folder / "ca" / "issuing")
    name = signer.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    risen = root_of(str(name), key=signer.key)
    assert not province.own.follow(Roots((risen.pem.decode(), province.files.trust.read_text()), (signer.chain,)))


def test_a_leaf_that_the_root_signed_makes_nobody_a_root() -> None:
    root, key = root_of("root"), new_key()
    vouching, risen = leaf(root, "x.test", subject="risen", key=key), root_of("risen", key=key)
    known = root.pem.decode()
    assert authority.followed(known, [risen.pem.decode(), known], [authority.pem(vouching.certificate)]) == known
    crossed = root_of("risen", root, key=key)
    assert authority.followed(known, [risen.pem.decode(), known], [authority.pem(crossed.certificate)]) != known


# --- the authority's own keys --------------------------------------------------------------------------------------------


def test_a_key_that_no_longer_signs_still_makes_the_list_of_what_it_signed(hub: Hub, province: Province) -> None:
    before = hub.issuing.issued()[-1]
    first = authority.kept(hub.folder / "ca" / "issuing")
    hub.issuing.rotate_hub(hub.now)
    after = x509.load_pem_x509_certificates(province.signed(province.own.ask(new_key=False)).encode())[0]
    hub.issuing.revoke(H41, "lost", hub.now)
    found = {}
    for chain, text in hub.issuing.lists(hub.now):
        signer, made = x509.load_pem_x509_certificates(chain.encode())[0], x509.load_pem_x509_crl(text.encode())
        assert made.is_signature_valid(signer.public_key())  # type: ignore[arg-type]
        found[authority.pin_of(signer)] = {each.serial_number for each in made}
    assert found[authority.pin_of(first.certificate)] == {int(before.serial, 16)}
    assert found[authority.pin(authority.kept(hub.folder / "ca" / "issuing").key.public_key())] == {after.serial_number}


def test_an_issuing_key_that_a_crash_left_without_its_certificate_gets_it(hub: Hub, tmp_path: Path) -> None:
    below = Issuing(tmp_path / "h41", ZONE, H41)
    below.answered(hub.issuing.issue(H41, (), below.ask(), below.ask(), hub.now).authority, hub.now)
    granted = hub.issuing.issue(H41, (), below.ask(), below.ask_next(), hub.now)
    (tmp_path / "h41" / "next.pem").write_text(granted.authority)
    (tmp_path / "h41" / "next.key").replace(tmp_path / "h41" / "issuing.key")
    assert authority.pin_of(x509.load_der_x509_certificate(below.certificate())) == granted.authority_pin
    assert HUB.dns_name(ZONE) == ZONE

"""Tokens survive being carried and nothing else; an invitation opens once, in time, for one key; a newcomer finds its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.core.directory import Connection, Directory, Entry, NodeEntry
from node.core.enrolment import ANSWERED_AGAIN_MS, PREFIX, Allowance, Invitation, Token, find, hashed, overshadowed, placed
from node.core.errors import Reason, Refused
from node.core.identifier import HUB, OrgId

H41, H14 = OrgId(("H41",)), OrgId(("H14",))
SECRET, OTHER = b"s" * 16, b"o" * 16
PIN, OTHER_PIN = "a" * 64, "b" * 64
BELOW = "c" * 64
KEYS = (PIN, BELOW)
TOKEN = Token(H41, HUB, "small.test", b"r" * 32, b"k" * 32, SECRET)
INVITED = Invitation(H41, "Tỉnh", "tỉnh", (), hashed(SECRET), 1000)
DIRECTORY = Directory((), (NodeEntry(HUB, "Gốc", "", None, ()),), "Trục", "TRUC", 7)


def refusal(*args: object) -> Reason:
    with pytest.raises(Refused) as caught:
        find(*args)  # type: ignore[arg-type]
    return caught.value.reason


# --- tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_is_one_word_and_comes_back_whole() -> None:
    for token in (TOKEN, replace(TOKEN, code=OrgId(("H41", "07")), parent=H41, zone="truc.internal")):
        assert Token.read(f"  {token.text()}\n") == token
        assert " " not in token.text()


def test_a_token_shows_its_secret_nowhere_but_in_itself() -> None:
    assert SECRET.hex() not in repr(TOKEN)
    assert "ssss" not in repr(TOKEN)


@given(st.integers(len(PREFIX), len(TOKEN.text()) - 1), st.sampled_from("ABCabc012-_"))
def test_one_wrong_character_makes_no_other_token(place: int, character: str) -> None:
    text = TOKEN.text()
    changed = text[:place] + character + text[place + 1 :]
    try:
        assert Token.read(changed) == TOKEN  # the last character has bits that mean nothing
    except Refused as refused:
        assert refused.reason is Reason.INVITE_MALFORMED


@given(st.text(max_size=200))
def test_any_text_is_a_token_or_refused_without_repeating_it(text: str) -> None:
    for word in (text, PREFIX + text):
        with pytest.raises(Refused) as caught:
            Token.read(word)
        assert (caught.value.reason, caught.value.value) == (Reason.INVITE_MALFORMED, "")


@pytest.mark.parametrize("length", [len(PREFIX), 40, len(TOKEN.text()) - 4])
def test_a_token_cut_short_is_known_as_such(length: int) -> None:
    with pytest.raises(Refused):
        Token.read(TOKEN.text()[:length])


# --- invitations -------------------------------------------------------------------------------------------------------


def test_a_token_opens_its_invitation_for_the_first_key_that_shows_it() -> None:
    assert find([INVITED], {}, SECRET, KEYS, 999) == replace(INVITED, pin=PIN, authority_pin=BELOW)


def test_a_wrong_secret_opens_nothing() -> None:
    assert refusal([INVITED], {}, OTHER, KEYS, 0) is Reason.INVITE_UNKNOWN
    assert refusal([], {}, SECRET, KEYS, 0) is Reason.INVITE_UNKNOWN


def test_a_token_ends_at_its_instant_but_who_used_it_in_time_may_ask_again() -> None:
    assert refusal([INVITED], {}, SECRET, KEYS, 1000) is Reason.INVITE_EXPIRED
    used = replace(INVITED, pin=PIN, authority_pin=BELOW, granted=("x", ""))
    assert find([used], {H41: (PIN,)}, SECRET, KEYS, 5000) == used
    assert refusal([used], {}, SECRET, KEYS, 1000 + ANSWERED_AGAIN_MS) is Reason.INVITE_EXPIRED


def test_who_waits_for_approval_waits_no_longer_than_the_invitation_lives() -> None:
    waiting = replace(INVITED, pin=PIN, authority_pin=BELOW)
    assert find([waiting], {}, SECRET, KEYS, 999) == waiting
    assert refusal([waiting], {}, SECRET, KEYS, 1000) is Reason.INVITE_EXPIRED


def test_a_used_token_opens_nothing_for_another_key() -> None:
    assert refusal([replace(INVITED, pin=PIN)], {}, SECRET, (OTHER_PIN, BELOW), 0) is Reason.INVITE_USED


def test_the_key_of_the_authority_is_bound_at_its_first_use_like_the_links() -> None:
    used = replace(INVITED, pin=PIN, authority_pin=BELOW)
    for keys in ((PIN, OTHER_PIN), (PIN, "")):
        assert refusal([used], {}, SECRET, keys, 0) is Reason.INVITE_USED


def test_a_code_that_is_registered_is_taken_over_by_a_transfer_only() -> None:
    assert refusal([INVITED], {H41: (OTHER_PIN,)}, SECRET, KEYS, 0) is Reason.PEER_REGISTERED
    moving = replace(INVITED, transfer=True)
    assert find([moving], {H41: (OTHER_PIN,)}, SECRET, KEYS, 0).pin == PIN


# --- the place ---------------------------------------------------------------------------------------------------------


def test_a_newcomer_gets_its_node_its_prefixes_and_an_organ_that_exchanges() -> None:
    changed = placed(DIRECTORY, HUB, replace(INVITED, prefixes=(OrgId(("K41",)),)))
    assert changed.node(H41) == NodeEntry(H41, "Tỉnh", "tỉnh", HUB, (H41, OrgId(("K41",))))
    assert [(entry.code, entry.connection) for entry in changed.entries] == [(H41, Connection.OFFICIAL)]
    assert changed.version == 8
    assert placed(changed, HUB, INVITED) is changed, "a second look changes nothing"


def test_what_the_directory_says_of_an_organ_stays() -> None:
    known = replace(DIRECTORY, entries=(Entry(H41, "UBND tỉnh", connection=Connection.TRIAL),))
    assert placed(known, HUB, INVITED).entries == known.entries


def test_a_code_that_is_somebody_elses_has_no_place_here() -> None:
    elsewhere = placed(placed(DIRECTORY, HUB, INVITED), H41, replace(INVITED, code=OrgId(("H41", "07")), name="Sở"))
    with pytest.raises(ValueError, match="below"):
        placed(elsewhere, HUB, replace(INVITED, code=OrgId(("H41", "07"))))
    with pytest.raises(ValueError, match="H41"):
        placed(elsewhere, HUB, replace(INVITED, code=H14, prefixes=(H41,)))


def test_a_code_within_what_a_sibling_covers_is_told_with_that_sibling() -> None:
    known = placed(DIRECTORY, HUB, INVITED)
    inside = OrgId(("H41", "07"))
    assert overshadowed(known, HUB, replace(INVITED, code=H14, prefixes=(inside,))) == ((inside, H41),)
    assert overshadowed(known, HUB, INVITED) == (), "a node does not stand in its own way"
    assert overshadowed(known, H41, replace(INVITED, code=inside)) == (), "nor does its parent"


# --- how often strangers may ask ---------------------------------------------------------------------------------------


def test_an_address_may_ask_a_few_times_at_once_and_then_slowly() -> None:
    allowance = Allowance(3, 1.0, 10)
    assert [allowance.take("a", 0.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert allowance.take("b", 0.0), "another address is another matter"
    assert [allowance.take("a", 1.0), allowance.take("a", 1.0)] == [True, False]
    assert [allowance.take("a", 100.0) for _ in range(4)] == [True] * 3 + [False]


def test_the_addresses_remembered_are_bounded() -> None:
    allowance = Allowance(1, 0.0, 2)
    assert [allowance.take(address, 0.0) for address in ("a", "b", "c", "a", "c")] == [True, True, True, True, False]

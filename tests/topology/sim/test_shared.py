from node import registrar
from node.core import changes
from node.core.changes import encode, fold
from node.core.identifier import HUB
from tests.core.test_changes import organ, tree
from topology.sim.shared import DIRECTORIES_MAX, reading_once


def test_what_the_same_changes_say_is_made_once_and_of_others_anew() -> None:
    writer = tree()
    before = writer.books
    with reading_once():
        one = vars(registrar)["fold"](before)
        assert vars(registrar)["fold"](changes.Books(dict(before.logs))) is one
        writer.say("H41", codes={"H41.31": (organ("H41.31", "Tên mới"),)})
        assert vars(registrar)["fold"](writer.books) == fold(writer.books) != one
        for number in range(DIRECTORIES_MAX):
            writer.say("H41", codes={"H41.31": (organ("H41.31", f"Tên {number}"),)})
            vars(registrar)["fold"](writer.books)
        assert vars(registrar)["fold"](before) == one, "forgotten, and made again"


def test_a_change_is_read_once_and_only_within_a_run() -> None:
    body = encode(tree().books.logs[HUB][0].change)
    with reading_once():
        assert changes.decode(body) is changes.decode(bytes(body))
    assert changes.decode(body) is not changes.decode(body)

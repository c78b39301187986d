"""A tree grows tier by tier by its nodes' own commands, and nothing is copied from one node to another.

The commands are stand-ins; the real ones are tried in tests/processes/test_enrolment.py and by scripts/demo.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from tests.adapters.pki import authority, leaf
from topology.joining import NotJoined, grow
from topology.model import Tree
from topology.ports import Guards
from topology.render import Place, enrolled, render

COMMAND = """
import json, os, pathlib, sys
words = sys.argv[1:]
told = sys.stdin.read()
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([words, told.strip()]) + "\\n")
if words[:2] == ["peer", "invite"]:
    print(json.dumps({"token": "token of " + words[2]}))
    sys.exit(0)
if "fails" in os.environ:
    sys.exit("no answer from there")
folder = pathlib.Path(words[words.index("--dir") + 1] if words[0] == "join" else words[words.index("--config") + 1]).absolute()
folder = folder if words[0] == "join" else folder.parent
for name in ("link.pem", "trust.pem"):
    (folder / name).write_text(pathlib.Path(os.environ["LEAF"]).read_text())
"""


class World:
    """A rendered tree, its commands, and what was called and started."""

    def __init__(self, tree: Tree, root: Path, guards: Guards, now: datetime) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.tree = tree
        self.guards = guards
        self.now = now
        (root / "command.py").write_text(COMMAND)
        (root / "leaf.pem").write_bytes(leaf(authority("root"), "x.test").pem)
        self.environment = {**os.environ, "CALLS": str(root / "calls"), "LEAF": str(root / "leaf.pem")}
        self.started: list[str] = []
        self.awaited: list[list[str]] = []

    def grow(self) -> tuple[Place, ...]:
        places = render(self.tree, self.root, self.guards, self.now, enrol=True)
        command = (sys.executable, str(self.root / "command.py"))
        grow(places, command, self.environment, lambda place: self.started.append(str(place.site.code)), self._await)
        return places

    def _await(self, places: Sequence[Place]) -> None:
        self.awaited.append([str(place.site.code) for place in places])
        assert set(self.awaited[-1]) <= set(self.started), "asked before it runs"

    def calls(self) -> list[tuple[list[str], str]]:
        return [(words, told) for words, told in map(json.loads, (self.root / "calls").read_text().splitlines())]


@pytest.fixture
def world(small: Tree, tmp_path: Path, now: datetime) -> Iterator[World]:
    with closing(Guards()) as guards:
        yield World(small, tmp_path / "tree", guards, now)


def test_each_tier_joins_the_one_above_once_that_runs(world: World) -> None:
    places = {str(place.site.code): place for place in world.grow()}
    assert world.started == ["", "H41", "H14", "H41.07"]
    assert world.awaited == [[], ["", ""], ["H41"]]
    founding, *others = world.calls()
    assert founding[0][:2] == ["ca", "init"]
    invited = [words for words, _ in others if words[:2] == ["peer", "invite"]]
    assert sorted(words[2] for words in invited) == ["H14", "H41", "H41.07"]
    assert ["--prefix", "K41"] in [words[3:5] for words in invited]
    joined = {told: words for words, told in others if words[0] == "join"}
    assert set(joined) == {"token of H41", "token of H14", "token of H41.07"}
    assert joined["token of H41.07"][1] == f"https://127.0.0.1:{places['H41'].settings.link.listen_port}"
    assert enrolled(world.root) is False, "that is the commands' work, and these are none"


def test_nothing_of_keys_is_written_for_a_node_but_its_parents_pin(world: World) -> None:
    places = {str(place.site.code): place for place in world.grow()}
    unit = places["H41.07"].config.parent
    assert sorted(path.name for path in unit.iterdir()) == ["data", "link.pem", "node.toml", "systems.json", "trust.pem"]
    assert 'authority = "ca"' in places["H41.07"].config.read_text()
    assert "[[link.children]]" not in places["H41"].config.read_text()
    assert (places[""].config.parent / "directory.json").is_file(), "the tree starts with the hub's"
    assert len(places["H41.07"].config.read_text().partition('parent_pins = ["')[2].partition('"')[0]) == 64


def test_who_is_a_node_already_is_only_started(world: World) -> None:
    world.grow()
    (world.root / "calls").unlink()
    world.started.clear()
    world.grow()
    assert world.started == ["", "H41", "H14", "H41.07"]
    assert not (world.root / "calls").exists()


def test_a_command_that_fails_is_told_with_what_it_said(world: World) -> None:
    world.environment["fails"] = "1"
    with pytest.raises(NotJoined, match="ca init: no answer from there"):
        world.grow()

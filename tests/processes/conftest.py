"""Trees for the stories of this folder: the seven nodes of the default tree, shared, and three nodes for a story of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes.tree import Tree, missing
from tests.processes.trees import tree_text


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = missing()
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.processes)
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """The default tree. A story leaves it with every node up and nothing waiting for the offices that others use."""
    with Tree(tmp_path_factory.mktemp("seven") / "tree") as tree:
        yield tree


@pytest.fixture
def small(tmp_path: Path) -> Callable[[], Tree]:
    """Makes a tree of three nodes, each above the next, in one folder; the second call continues there."""
    topology = tmp_path / "small.toml"
    topology.write_text(tree_text("nho", {"H41": "", "H41.07": "H41"}))
    return lambda: Tree(tmp_path / "tree", topology)

"""Acts beside the journal: appended, taken once, and there again when the taking was not finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from node.adapters.acts import NAME, ActsFile
from node.core.audit import Act

ACT: dict[str, Any] = {
    "what": "system.add",
    "subject": "so",
    "who": "anh Ba",
    "before": None,
    "after": {},
    "done_ms": 5,
    "id": "1",
}


def test_acts_are_appended_and_taken_once(tmp_path: Path) -> None:
    acts = ActsFile(tmp_path)
    assert acts.take() == ([], 0)
    acts.write(ACT)
    acts.write({**ACT, "id": "2"})
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    expected = [Act("system.add", "so", "anh Ba", "", None, {}, 5, number) for number in ("1", "2")]
    assert acts.take() == (expected, 0)
    assert ActsFile(tmp_path).take() == (expected, 0)  # killed before it said done
    acts.write({**ACT, "id": "3"})
    acts.done()
    assert [act.id for act in acts.take()[0]] == ["3"]


def test_a_line_that_cannot_be_read_is_counted_and_the_others_are_taken(tmp_path: Path) -> None:
    acts = ActsFile(tmp_path)
    acts.write(ACT)
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"what"\n[]\n\xff\n')
    acts.write({**ACT, "id": "2"})
    found, unread = acts.take()
    assert ([act.id for act in found], unread) == (["1", "2"], 3)

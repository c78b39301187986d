"""Recording what a person did with a command that works on files: in the journal of the running node, else in a file that it
takes in when it starts. Every act has who, when, what, before and after, never a secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from node.cli.desk import running
from node.cli.talk import Code, Stop, who
from node.cli.trust import now_ms


def record(data_dir: Path, what: str, subject: str, before: Any, after: Any, why: str = "") -> None:
    """`Stop` where the act, which is done, could not be recorded."""
    act = _act(what, subject, before, after, why)
    try:
        running().post("/api/acts", act)
    except Stop:
        _lay_down(data_dir, act)


def record_first(data_dir: Path, what: str, subject: str, before: Any, after: Any) -> None:
    """`record` for a folder in which no node has run yet."""
    _lay_down(data_dir, _act(what, subject, before, after, ""))


def _act(what: str, subject: str, before: Any, after: Any, why: str) -> dict[str, Any]:
    from node.adapters import chance

    act = {"what": what, "subject": subject, "who": who(), "why": why, "before": before, "after": after}
    return act | {"id": chance.token(), "done_ms": now_ms()}


def _lay_down(data_dir: Path, act: dict[str, Any]) -> None:
    from node.adapters.acts import ActsFile

    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        ActsFile(data_dir).write(act)
    except OSError as error:
        said = (
            f"đã làm, nhưng không ghi được vào nhật ký ({error.filename}: {error.strerror})",
            f"it is done, but could not be recorded ({error.filename}: {error.strerror})",
        )
        raise Stop(Code.FAILED, said, ("báo người quản trị", "tell the administrator")) from None

"""What the commands of trust share: the time, the node's authority, its peers, and files that are not what they should be.

Knows `truc`'s way of speaking, the configuration and the adapters of trust.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from node.adapters.clock import HostClock
from node.adapters.folders import BadFile
from node.adapters.issuing import Issuing
from node.cli.talk import Code, Stop, Texts
from node.config import NodeConfig
from node.core.errors import Refused
from node.core.identifier import OrgId
from node.core.words import sentence


def now_ms() -> int:
    """The host's time: a command has no parent to ask."""
    return HostClock(1).utc_ms()


def now() -> datetime:
    return datetime.fromtimestamp(now_ms() // 1000, UTC)


@contextmanager
def files_said() -> Iterator[None]:
    """What is wrong with a file, said to the operator."""
    try:
        yield
    except BadFile as error:
        vi, en = error.texts
        raise Stop(Code.FAILED, (vi, en)) from None
    except OSError as error:
        what = (f"không dùng được {error.filename}: {error.strerror}", f"{error.filename} cannot be used: {error.strerror}")
        todo = ("chạy lệnh bằng người dùng của nút, hoặc sudo", "run the command as the node's user, or with sudo")
        refused = isinstance(error, PermissionError)
        raise Stop(Code.NOT_ALLOWED if refused else Code.FAILED, what, todo if refused else None) from None


def organ(text: str) -> OrgId:
    """A node's code as an operator writes it."""
    try:
        return OrgId.parse(text)
    except Refused as refused:
        raise Stop(Code.USAGE, (sentence(refused), sentence(refused, "en"))) from None


def authority_of(config: NodeConfig) -> Issuing:
    """The authority that `link.authority` names, made or not."""
    return Issuing(set_option(config.link.authority, "link.authority", "ca"), config.node.zone, OrgId.canonical(config.node.code))


def ready_authority(config: NodeConfig) -> Issuing:
    """The same; `Stop` where it cannot sign yet."""
    issuing = authority_of(config)
    if not issuing.ready():
        what: Texts = (f"nút này chưa có nơi cấp chứng thư ở {issuing.folder}", f"there is no authority in {issuing.folder}")
        hub = ("chạy truc ca init", "run truc ca init")
        below = ("kết nạp nút này bằng truc join, hoặc chạy truc ca init", "let this node join (truc join), or run truc ca init")
        raise Stop(Code.FAILED, what, below if config.node.code else hub)
    return issuing


def set_option(path: Path | None, option: str, usual: str) -> Path:
    """What an option that may be left out says; `Stop` where it does not."""
    if path is None:
        section, _, key = option.partition(".")
        what = (f"cấu hình chưa đặt {option}", f"{option} is not set")
        todo = (f'thêm {key} = "{usual}" vào mục [{section}]', f'add {key} = "{usual}" to [{section}]')
        raise Stop(Code.CONFIG, what, todo)
    return path

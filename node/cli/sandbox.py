"""`truc sandbox`: a whole tree of nodes on this machine, to try things out, until SIGTERM or Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from node.cli.face import Command, option
from node.cli.talk import Code, Stop, json_line, say, t
from node.config import ConfigError
from node.core.words import visible


@click.command(
    cls=Command,
    texts=(
        "Chạy cả một cây nút trên máy này cho đến khi nhận SIGTERM hoặc Ctrl-C.\n"
        "Mỗi nút là một tiến trình, có chứng thư thật. Chạy lại với cùng thư mục thì cây tiếp tục như trước khi dừng.",
        "Run a whole tree of nodes on this machine until SIGTERM or Ctrl-C.\n"
        "Each node is a process with real certificates. The same folder continues where it was.",
    ),
)
@option(
    "--dir",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("sandbox"),
    texts=("thư mục của cây (mặc định: ./sandbox)", "folder of the tree (default: ./sandbox)"),
)
@option(
    "--topology",
    metavar="FILE",
    type=click.Path(path_type=Path),
    texts=(
        "tệp mô tả cây (mặc định: cây của thư mục, hoặc cây bảy nút)",
        "the tree's file (default: the folder's own, or seven nodes)",
    ),
)
@option(
    "--enrol",
    is_flag=True,
    texts=(
        "cây mới: mỗi nút được nút cấp trên mời và tự vào cây, không chép khóa nào (lâu hơn vài giây)",
        "a new tree: each node is invited by its parent and joins it, no key is copied (some seconds more)",
    ),
)
@option(
    "--json",
    "as_json",
    is_flag=True,
    texts=("khi mọi nút đã sẵn sàng, in một dòng JSON", "print one JSON line once every node is ready"),
)
def command(folder: Path, topology: Path | None, enrol: bool, as_json: bool) -> None:
    from topology.local import Sandbox, SandboxError

    sandbox = Sandbox(folder, topology, say=say, enrol=enrol)
    if not as_json:
        say(f"Đang dựng cây trong {sandbox.root} …", f"Setting up a tree in {sandbox.root} …")
    try:
        sandbox.run(json_line if as_json else _show)
    except SandboxError as error:
        raise Stop(Code.FAILED, error.texts) from None
    except ConfigError as error:
        raise unusable_tree(error) from None


def unusable_tree(error: ConfigError) -> Stop:
    """The tree's file, or a file rendered from it, cannot be used; exit code 78."""
    lines = "\n  ".join(visible(problem) for problem in error.problems)
    return Stop(
        Code.CONFIG,
        (f"chưa dùng được cây này\n  {lines}", f"this tree cannot be used\n  {lines}"),
        ("sửa tệp rồi thử truc topology check", "mend the file, then try truc topology check"),
    )


def _show(ready: Mapping[str, Any]) -> None:
    for depth, node in _downwards(ready["nodes"], None, 0):
        for line in _lines(node):
            click.echo("    " * depth + visible(line))
    click.echo(t(f"Chứng thư gốc: {ready['ca']}", f"Root certificates: {ready['ca']}"))
    say(
        "Mọi nút đã sẵn sàng. Khóa bí mật của các hệ thống ở tệp systems.json của từng nút. Ctrl-C để dừng.",
        "Every node is ready. The systems' secrets are in each node's systems.json. Ctrl-C stops.",
    )


def _downwards(nodes: Sequence[Mapping[str, Any]], parent: str | None, depth: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each node with its depth, right after it all that is below it."""
    for node in nodes:
        if node["parent"] == parent:
            yield depth, node
            yield from _downwards(nodes, node["code"], depth + 1)


def _lines(node: Mapping[str, Any]) -> Iterator[str]:
    yield f"{node['name']} [{node['code'] or t('nút gốc', 'hub')}]"
    yield f"  VXP: {node['public']}/vxp"
    for system in node["systems"]:
        yield f"  {t('hệ thống', 'system')} {system['id']}: {', '.join(system['codes'])}"
    yield f"  truc status --config {node['config']}"

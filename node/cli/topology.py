"""`truc topology`: whether a tree obeys the laws, and its files on disk without starting anything."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.face import Group
from node.cli.sandbox import unusable_tree
from node.cli.talk import Code, Stop, say
from node.config import ConfigError

file_argument = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))


@click.group(cls=Group, texts=("Kiểm tra và dựng tệp cho một cây nút.", "Check a tree of nodes and render its files."))
def command() -> None:
    pass


@command.command(
    "check",
    texts=(
        "Kiểm tra tệp mô tả cây: đúng dạng và đúng các quy tắc.\nMã thoát 78 khi chưa dùng được.",
        "Check a tree's file: its form and the laws of trees.\nExit code 78 where it cannot be used.",
    ),
)
@file_argument
def check(file: Path) -> None:
    from topology.load import load_lawful

    try:
        tree = load_lawful(file)
    except ConfigError as error:
        raise unusable_tree(error) from None
    systems = sum(len(site.systems) for site in tree.sites)
    say(
        f"Cây dùng được: {len(tree.sites)} điểm kết nối, {systems} hệ thống, {len(tree.entries)} cơ quan.",
        f"The tree can be used: {len(tree.sites)} sites, {systems} systems, {len(tree.entries)} organs.",
    )


@command.command(
    "render",
    texts=(
        "Ghi cấu hình, danh mục, khóa và chứng thư của mọi nút vào DIR, không chạy nút nào.",
        "Write every node's configuration, directory, keys and certificates to DIR; start nothing.",
    ),
)
@file_argument
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def render(file: Path, folder: Path) -> None:
    from topology.local import Sandbox, SandboxError

    sandbox = Sandbox(folder, file)
    try:
        places = sandbox.prepare()
    except SandboxError as error:
        raise Stop(Code.FAILED, error.texts) from None
    except ConfigError as error:
        raise unusable_tree(error) from None
    finally:
        sandbox.release()
    for place in places:
        click.echo(str(place.config))

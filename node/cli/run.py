"""`truc run`: the node itself, in the foreground, until SIGTERM."""

from __future__ import annotations

import click

from node.cli.face import Command, config_option
from node.cli.talk import config_path


@click.command(
    cls=Command,
    texts=(
        "Chạy nút ở tiền cảnh cho đến khi nhận SIGTERM.\nMã thoát 78: cấu hình sai, chạy lại cũng vô ích.",
        "Run the node in the foreground until SIGTERM.\nExit code 78: the configuration is wrong, starting again is useless.",
    ),
)
@config_option
def command() -> int:
    from node.app import main

    return main(config_path())

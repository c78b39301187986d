"""`truc config`: whether the files of a node can be used, and which value of each option is in force."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from node.cli.face import Group, config_option, json_option
from node.cli.talk import bad_configuration, config_path, json_line, say, t, table
from node.config import ConfigError, NodeConfig, Origins, load
from node.core.words import visible

ORIGINS = {"default": ("mặc định", "default"), "file": ("tệp", "file"), "environment": ("biến môi trường", "environment")}


def load_config() -> tuple[NodeConfig, Origins]:
    """What `--config` names, with the environment over it. `Stop` (78) with every problem found."""
    try:
        return load(config_path(), os.environ)
    except ConfigError as error:
        raise bad_configuration(error.problems) from None


@click.group(cls=Group, texts=("Kiểm tra và xem cấu hình của nút.", "Check and show the node's configuration."))
def command() -> None:
    pass


@command.command(
    "check",
    texts=(
        "Kiểm tra tệp cấu hình và mọi tệp mà nó chỉ đến.\nMã thoát 78 khi có tệp chưa dùng được.",
        "Check the configuration and every file it names.\nExit code 78 where one cannot be used.",
    ),
)
@config_option
def check() -> None:
    config, _ = load_config()
    problems = [*_missing(config), *_unusable(config)]
    if problems:
        raise bad_configuration(problems)
    say(f"Cấu hình dùng được: {config_path()}", f"The configuration can be used: {config_path()}")


def _missing(config: NodeConfig) -> Iterator[str]:
    named = {
        "link.certificate": config.link.certificate,
        "link.key": config.link.key,
        "link.trust": config.link.trust,
        "office.certificate": config.office.certificate,
        "office.key": config.office.key,
    }
    for option, path in named.items():
        try:
            with path.open("rb"):
                open_to_others = option.endswith(".key") and path.stat().st_mode & 0o077
        except OSError as error:
            yield f"{option}: {path}: " + t(f"không đọc được ({error.strerror})", f"cannot be read ({error.strerror})")
            continue
        if open_to_others:
            yield f"{option}: {path}: " + t("người khác đọc được khóa — chạy chmod 600", "others may read the key: run chmod 600")


def _unusable(config: NodeConfig) -> Iterator[str]:
    from node.adapters import calendar_files, directory_file, registry

    try:
        calendar_files.load(config.calendar.folder)
    except calendar_files.CalendarError as error:
        yield f"calendar.folder: {error}"
    try:
        directory_file.load(config.node.directory)
    except directory_file.DirectoryFileError as error:
        yield f"node.directory: {error}"
    if config.link.peers is not None:
        from node.adapters import peers
        from node.adapters.folders import BadFile

        try:
            peers.load(config.link.peers)
        except BadFile as error:
            yield f"link.peers: {t(*error.texts)}"
    try:
        registry.load(config.node.systems)
    except registry.RegistryError as error:
        yield f"node.systems: {error}"


@command.command(
    "show", texts=("In giá trị đang có hiệu lực của mọi tùy chọn và nguồn của nó.", "Show every option in force and its origin.")
)
@json_option
@config_option
def show(as_json: bool) -> None:
    config, origins = load_config()
    values = config.model_dump(mode="json")
    rows = [(key, values[key.partition(".")[0]][key.partition(".")[2]], str(origin)) for key, origin in origins.items()]
    if as_json:
        for key, value, origin in rows:
            json_line({"key": key, "value": value, "origin": origin})
        return
    headings = t("tùy chọn|giá trị|nguồn", "option|value|origin").split("|")
    table(headings, ((key, _plain(value), t(*ORIGINS[origin])) for key, value, origin in rows))


def _plain(value: object) -> str:
    if isinstance(value, Path | str):
        return visible(str(value)) or '""'
    return str(value).lower() if isinstance(value, bool) else str(value)

"""`truc bench`: how fast real nodes on this machine carry documents, and what each document costs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from node.cli.face import Group, option
from node.cli.sandbox import unusable_tree
from node.cli.talk import Code, Stop, json_line, say, t, table
from node.config import ConfigError

_F = TypeVar("_F", bound=Callable[..., Any])

RUNS_MAX = 100
DOCUMENTS_MAX = 1_000_000
WINDOW_MAX = 1000
SYSTEMS_MAX = 500
NODES_MAX = 40
CHILDREN_MAX = 800
ENVELOPES_MAX = 40_000_000
MB = 1_000_000


def documents_option(default: int, vi: str = "số văn bản mỗi lần", en: str = "documents in a run") -> Callable[[_F], _F]:
    texts = (f"{vi} (mặc định: {default})", f"{en} (default: {default})")
    return option("--documents", type=click.IntRange(1, DOCUMENTS_MAX), default=default, texts=texts)


def window_option(default: int) -> Callable[[_F], _F]:
    texts = (f"số lời gọi cùng lúc (mặc định: {default})", f"calls under way at once (default: {default})")
    return option("--window", type=click.IntRange(1, WINDOW_MAX), default=default, texts=texts)


def rate_option(default: int, vi: str, en: str) -> Callable[[_F], _F]:
    texts = (f"{vi} (mặc định: {default})", f"{en} (default: {default})")
    return option("--rate", type=click.IntRange(1, 1000), default=default, texts=texts)


def common_options(command: _F) -> _F:
    """What every workload takes."""
    for each in (
        option("--json", "as_json", is_flag=True, texts=("in mỗi mục một dòng JSON", "one JSON line for each item")),
        option(
            "--keep",
            metavar="DIR",
            type=click.Path(path_type=Path),
            texts=("chạy các nút trong thư mục này và giữ nó lại", "run the nodes in this folder and keep it"),
        ),
        option(
            "--door",
            type=click.Choice(["native", "single", "vxp"]),
            default="native",
            texts=(
                "cửa của các hệ thống: native (nhiều gói tin một lần gọi; mặc định), single (mỗi gói tin một lần gọi), vxp",
                "the offices' door: native (many packages in a request; default), single (one package in a request), vxp",
            ),
        ),
        option("--runs", type=click.IntRange(1, RUNS_MAX), default=3, texts=("số lần chạy (mặc định: 3)", "runs (default: 3)")),
    ):
        command = each(command)
    return command


@click.group(
    cls=Group,
    texts=(
        "Đo các nút thật trên máy này: hệ thống gửi, nút của Bên gửi, nút giữa, nút của Bên nhận, hệ thống nhận.\n"
        "Văn bản mất, trùng hoặc sai khác thì không có kết quả, mã thoát 1.",
        "Measure real nodes on this machine: sending office, sender's node, a node between, receiver's node, receiving office.\n"
        "A document lost, doubled or changed means no figures and exit code 1.",
    ),
)
def command() -> None:
    pass


@command.command("relay", texts=("Văn bản 10 kB, nhanh hết mức.", "Documents of 10 kB, as fast as they go."))
@documents_option(2000)
@window_option(64)
@common_options
def relay(**given: Any) -> None:
    _bench("relay", given)


@command.command(
    "light", texts=("Văn bản 10 kB, ít: mỗi văn bản đi mất bao lâu.", "A few documents of 10 kB: how long each takes.")
)
@documents_option(200)
@rate_option(20, "số văn bản mỗi giây", "documents in a second")
@common_options
def light(**given: Any) -> None:
    _bench("light", given, window=8)


@command.command("large", texts=("Văn bản 1 MB, nhanh hết mức.", "Documents of 1 MB, as fast as they go."))
@documents_option(60)
@window_option(8)
@common_options
def large(**given: Any) -> None:
    _bench("large", given, size=MB)


@command.command(
    "fanout",
    texts=(
        "Một văn bản 1 MB tới nhiều Bên nhận: qua chặng đầu mấy lần, tới nơi sau bao lâu.",
        "A document of 1 MB to many recipients: how often it crosses the first link, and when it has arrived.",
    ),
)
@documents_option(3)
@option(
    "--recipients",
    type=click.IntRange(1, SYSTEMS_MAX),
    default=60,
    texts=("số Bên nhận (mặc định: 60)", "recipients (default: 60)"),
)
@option(
    "--nodes",
    type=click.IntRange(1, NODES_MAX),
    default=6,
    texts=("số nút của các Bên nhận (mặc định: 6)", "nodes of the recipients (default: 6)"),
)
@common_options
def fanout(**given: Any) -> None:
    _bench("fanout", given, size=MB, window=1)


@command.command(
    "urgent",
    texts=(
        "Văn bản hỏa tốc giữa lúc đường truyền đầy văn bản thường: đi mất bao lâu.",
        "Documents of the highest priority beside a full load of ordinary ones: how long they take.",
    ),
)
@documents_option(2000, "số văn bản thường mỗi lần", "ordinary documents in a run")
@window_option(64)
@rate_option(5, "số văn bản hỏa tốc mỗi giây", "urgent documents in a second")
@common_options
def urgent(**given: Any) -> None:
    _bench("urgent", given)


@command.command(
    "backlog",
    texts=(
        "Nút giữa đứng yên tới khi mọi văn bản chờ ở nút đầu, rồi chạy tiếp: dồn đi nhanh đến đâu.",
        "The node between stands still until all wait at the first, then goes on: how fast they leave.",
    ),
)
@documents_option(2000)
@window_option(64)
@common_options
def backlog(**given: Any) -> None:
    _bench("backlog", given)


@command.command(
    "poll",
    texts=("Nhiều hệ thống hỏi hộp văn bản chờ lấy đang trống.", "Many office systems ask for their empty mailboxes."),
)
@documents_option(2000, "số câu hỏi mỗi lần", "questions in a run")
@option(
    "--systems",
    "recipients",
    type=click.IntRange(1, SYSTEMS_MAX),
    default=200,
    texts=("số hệ thống (mặc định: 200)", "office systems (default: 200)"),
)
@window_option(32)
@common_options
def poll(**given: Any) -> None:
    _bench("poll", given)


@command.command(
    "kill",
    texts=(
        "Nút giữa bị SIGKILL giữa lúc chuyển, rồi lúc mọi văn bản chờ ở đó: chạy lại và chuyển tiếp sau bao lâu.",
        "The node between is killed in the stream, and with all waiting there: how soon it serves again.",
    ),
)
@documents_option(1000, "số văn bản mỗi lần giết", "documents for each kill")
@window_option(64)
@common_options
def kill(**given: Any) -> None:
    _bench("kill", given)


@command.command(
    "grown",
    texts=(
        "Như relay, lần lượt ở một nút giữa trống và một nút giữa có nhiều bì đang chờ, đã bàn giao; rồi khởi động lại cả hai.",
        "As relay, in turn at an empty node and at one with many envelopes waiting and handed over; then both are started again.",
    ),
)
@documents_option(1000)
@option(
    "--backlog",
    type=click.IntRange(0, ENVELOPES_MAX),
    default=100_000,
    texts=("số bì chờ một nút không trả lời (mặc định: 100000)", "envelopes that wait for a silent neighbour (default: 100000)"),
)
@option(
    "--history",
    type=click.IntRange(0, ENVELOPES_MAX),
    default=1_000_000,
    texts=("số bì đã bàn giao (mặc định: 1000000)", "envelopes that were handed over (default: 1000000)"),
)
@window_option(64)
@common_options
def grown(**given: Any) -> None:
    _bench("grown", given)


@command.command(
    "children",
    texts=(
        "Nhiều nút cấp dưới giữ kết nối với nút giữa mà không có gì để gửi: tốn bao nhiêu bộ nhớ và CPU của nó.",
        "Many children hold their connection to the node between and have nothing to send: what they take of it.",
    ),
)
@option(
    "--children",
    type=click.IntRange(1, CHILDREN_MAX),
    default=700,
    texts=("số nút cấp dưới (mặc định: 700)", "children (default: 700)"),
)
@common_options
def children(**given: Any) -> None:
    _bench("children", given, documents=1)


def _bench(workload: str, given: dict[str, Any], **fixed: Any) -> None:
    from topology.bench.run import BenchFailed, run
    from topology.bench.workloads import Plan
    from topology.local import SandboxError

    as_json, keep = given.pop("as_json"), given.pop("keep")
    rows: list[Mapping[str, Any]] = []
    try:
        run(Plan(workload, **given, **fixed), _written(given), json_line if as_json else rows.append, say, keep)
    except (BenchFailed, SandboxError) as error:
        raise Stop(Code.FAILED, error.texts) from None
    except ConfigError as error:
        raise unusable_tree(error) from None
    if not as_json:
        _show(rows)


def _written(given: Mapping[str, Any]) -> str:
    """The command with every option that counts, also those that were not written."""
    context = click.get_current_context()
    names = {param.name: param.opts[0] for param in context.command.params}
    return " ".join([context.command_path, *(f"{names[name]} {value}" for name, value in sorted(given.items()))])


def _show(rows: list[Mapping[str, Any]]) -> None:
    idle = [row for row in rows if row["what"] == "idle"]
    table(
        [t("nút, khi rỗi", "node, idle"), "RSS MB", "PSS MB", "CPU %"],
        [(row["node"], row["rss_mb"], row["pss_mb"], row["cpu_percent"]) for row in idle],
    )
    figures = [row for row in rows if row["what"] == "figure"]
    table(
        [t("số đo", "figure"), t("ít nhất", "min"), t("giữa", "median"), t("nhiều nhất", "max")],
        [(row["figure"], row["min"], row["median"], row["max"]) for row in figures],
    )
    click.echo(t("Độ nhiễu của máy: ", "Noise of the machine: ") + f"{figures[0]['noise']:.2f}. {figures[0]['command']}")

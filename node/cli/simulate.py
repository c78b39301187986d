"""`truc simulate`: the whole tree in one process under virtual time, with faults; what must never happen is looked for.

Data on stdout, progress on stderr; exit code 1 when anything was lost, doubled, left over or not repeatable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.face import Group, option
from node.cli.sandbox import unusable_tree
from node.cli.talk import Code, Stop, json_line, say, t, table
from node.config import ConfigError

if TYPE_CHECKING:
    from topology.sim.campaign import Plan, Summary

Row = Mapping[str, Any]

SEEDS_MAX = 1_000_000
VIOLATIONS_SHOWN_MAX = 10
PROGRESS_S = 2.0

topology_option = option(
    "--topology",
    metavar="FILE",
    type=click.Path(path_type=Path),
    texts=("tệp mô tả cây (mặc định: cây bảy nút)", "the tree's file (default: seven nodes)"),
)
profile_option = option(
    "--profile",
    metavar="NAME",
    default="small",
    texts=(
        "kịch bản: small, quiet, medium, country, expiry, flood, slow, change, moves, clocks, days, month (mặc định: small)",
        "profile: small, quiet, medium, country, expiry, flood, slow, change, moves, clocks, days, month (default: small)",
    ),
)
jobs_option = option(
    "--jobs",
    "-j",
    type=click.IntRange(1, 256),
    default=2,
    texts=("số tiến trình chạy song song (mặc định: 2)", "processes side by side (default: 2)"),
)
json_option = option(
    "--json",
    "as_json",
    is_flag=True,
    texts=("in mỗi lần chạy một dòng JSON, cuối cùng là dòng tổng hợp", "one JSON line per seed, then one with the summary"),
)


@click.group(
    cls=Group,
    texts=(
        "Diễn tập cả cây nút trong thời gian ảo, có sự cố: mất điện, đứt mạng, đĩa hỏng, đồng hồ sai.\n"
        "Mã của nút là mã thật; mỗi số (seed) cho đúng một diễn biến, chạy lại được.",
        "Rehearse a whole tree under virtual time with faults: power cuts, partitions, bad disks, wrong clocks.\n"
        "The nodes run their production code; one seed is one course of events.",
    ),
)
def command() -> None:
    pass


@command.command(
    "run",
    texts=(
        "Chạy nhiều seed và tổng hợp: có gì mất, trùng, kẹt hoặc không lặp lại được không.\nMã thoát 1 khi có vi phạm.",
        "Run many seeds and sum up: is anything lost, doubled, stuck or not repeatable?\nExit code 1 on any violation.",
    ),
)
@topology_option
@profile_option
@option("--seeds", metavar="A..B", default="1..20", texts=("các seed (mặc định: 1..20)", "the seeds (default: 1..20)"))
@jobs_option
@option(
    "--resume",
    metavar="FILE",
    type=click.Path(path_type=Path),
    texts=(
        "tệp chứa các dòng --json của lần chạy dở: bỏ qua các seed đã có ở đó",
        "a file with the --json lines of an interrupted campaign: its seeds are not run again",
    ),
)
@json_option
def run(topology: Path | None, profile: str, seeds: str, jobs: int, resume: Path | None, as_json: bool) -> int:
    from topology.sim.campaign import Plan
    from topology.sim.expected import MUST

    known = _known(resume, profile)
    must = MUST if profile in ("small", "medium") and topology is None else ()
    return _campaign(Plan(_profile(profile), _seeds(seeds), jobs, _lawful(topology), must=must, known=known), as_json)


@command.command(
    "replay",
    texts=(
        "Chạy lại một seed và in diễn biến; --node chỉ một nút, --until dừng in ở giây ảo nào.",
        "Run one seed again and print what happens; --node shows one node only, --until stops printing at a virtual second.",
    ),
)
@topology_option
@profile_option
@option("--seed", type=click.IntRange(0), required=True, texts=("seed cần chạy lại", "the seed to run again"))
@option("--node", metavar="NAME", texts=("chỉ in sự việc của nút này (ví dụ h41)", "only this node's events (for example h41)"))
@option("--until", type=float, texts=("chỉ in đến giây ảo này", "print up to this virtual second only"))
@option(
    "--mutant", default="", metavar="NAME", texts=("cấy lỗi này vào trước (xem mutants)", "plant this bug first (see mutants)")
)
@json_option
def replay(
    topology: Path | None, profile: str, seed: int, node: str | None, until: float | None, mutant: str, as_json: bool
) -> int:
    from topology.sim.worker import work

    def tell(now_s: float, name: str, event: str, size: int) -> None:
        if (node is None or name == node) and (until is None or now_s <= until):
            click.echo(f"{now_s:14.6f}  {name or '-':<20} {event} {size or ''}".rstrip(), err=as_json)

    path = _lawful(topology)
    tree = str(path) if path else None
    job = {"topology": tree, "profile": _profile(profile), "seed": seed, "mutant": _mutant(mutant), "whole": True}
    row = work(job, {}, tell).row()
    _show_row(row, as_json)
    return Code.DONE if row["ok"] else Code.FAILED


@command.command(
    "mutants",
    texts=(
        "Cấy từng lỗi đã biết vào mã của nút và xem bao nhiêu seed thì diễn tập tìm ra.\nMã thoát 1 khi có lỗi không tìm ra.",
        "Plant each known bug in the nodes' code and see after how many seeds the rehearsal finds it.\n"
        "Exit code 1 when one is not found.",
    ),
)
@option("--seeds", metavar="A..B", default="1..200", texts=("các seed (mặc định: 1..200)", "the seeds (default: 1..200)"))
@option("--only", metavar="NAME", multiple=True, texts=("chỉ lỗi này (dùng nhiều lần được)", "only this bug (may be repeated)"))
@jobs_option
@json_option
def mutants(seeds: str, only: Sequence[str], jobs: int, as_json: bool) -> int:
    from topology.sim.campaign import Plan
    from topology.sim.mutants import MUTANTS

    rows = []
    for name in only or tuple(MUTANTS):
        mutant = MUTANTS[_mutant(name)]
        plan = Plan(mutant.profile, _seeds(seeds), jobs, mutant=name, stop_at_first=True)
        say(f"Lỗi cấy: {name} …", f"Planted: {name} …")
        summary = _run(plan, lambda row: None)
        found = sorted(summary.failed)[0] if summary.failed else None
        rows.append({"mutant": name, "found": found is not None, "seed": found, "seeds": summary.seeds, "what": mutant.what})
        if as_json:
            json_line(rows[-1])
    if not as_json:
        table(
            [t("lỗi", "bug"), t("tìm ra ở seed", "found by seed"), t("đã chạy", "seeds run"), t("nội dung", "what it is")],
            [(row["mutant"], row["seed"] or t("KHÔNG", "NOT FOUND"), row["seeds"], row["what"]) for row in rows],
        )
    return Code.DONE if all(row["found"] for row in rows) else Code.FAILED


@command.command(
    "country",
    texts=(
        "Một ngày của cả nước: trục quốc gia, các tỉnh và các đơn vị bên dưới, trong một tiến trình.",
        "A day of the whole country: the national hub, the provinces and what is below them, in one process.",
    ),
)
@option(
    "--year",
    type=click.Choice(["2018", "2025"]),
    default="2018",
    texts=("cây của năm nào: 2018 (63 tỉnh, 700 huyện) hay 2025 (34 tỉnh, 3.321 xã)", "the tree of which year"),
)
@option("--documents", type=click.IntRange(1, 1_000_000), default=20_000, texts=("số văn bản", "documents"))
@option("--seed", type=click.IntRange(0), default=1, texts=("seed (mặc định: 1)", "the seed (default: 1)"))
@json_option
def country(year: str, documents: int, seed: int, as_json: bool) -> int:
    from topology.sim.country import day

    say("Đang dựng cây …", "Building the tree …")
    row = day(year, documents, seed, say).row()
    _show_row(row, as_json)
    return Code.DONE if row["ok"] else Code.FAILED


# --- one campaign -----------------------------------------------------------------------------------------------------------


def _campaign(plan: Plan, as_json: bool) -> int:
    summary = _run(plan, json_line if as_json else lambda row: None)
    if as_json:
        json_line(summary.row())
    else:
        _show_summary(summary)
    for seed in sorted(summary.failed)[:1]:
        line = _replay_line(plan, seed)
        say(f"Xem lại: {line}", f"See it again: {line}")
    return Code.DONE if summary.good else Code.FAILED


def _run(plan: Plan, heard: Callable[[Row], None]) -> Summary:
    from topology.sim import campaign

    last = [0.0]
    counts = {"seeds": 0, "failed": 0}

    def progress(row: Row) -> None:
        heard(row)
        counts["seeds"] += 1
        counts["failed"] += not row["ok"]
        now = asyncio.get_running_loop().time()
        if not row["ok"]:
            _show_violations(row)
        if now - last[0] > PROGRESS_S or counts["seeds"] == len(plan.seeds):
            last[0] = now
            done, all_ = counts["seeds"], len(plan.seeds)
            say(f"{done}/{all_} seed, {counts['failed']} vi phạm", f"{done}/{all_} seeds, {counts['failed']} failed")

    try:
        return asyncio.run(campaign.run(plan, progress))
    except BaseExceptionGroup as group:  # not `except*`: Python 3.11.2 wraps what is raised there
        ended = group.subgroup(campaign.WorkerFailed)
        if ended is None:
            raise
        error = _first(ended)
        raise Stop(Code.FAILED, (f"tiến trình diễn tập dừng: {error}", f"a rehearsal process ended: {error}")) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _replay_line(plan: Plan, seed: int) -> str:
    parts = ["truc simulate replay", f"--profile {plan.profile}", f"--seed {seed}"]
    if plan.topology is not None:
        parts.append(f"--topology {plan.topology}")
    if plan.mutant:
        parts.append(f"--mutant {plan.mutant}")
    return " ".join(parts)


def _show_violations(row: Row) -> None:
    for text in row["violations"][:VIOLATIONS_SHOWN_MAX]:
        say(f"seed {row['seed']}: {text}", f"seed {row['seed']}: {text}")


def _show_row(row: Row, as_json: bool) -> None:
    if as_json:
        json_line(row)
        return
    _show_violations(row)
    click.echo(
        t(
            f"seed {row['seed']}: {row['documents']} văn bản, {row['deliveries']} lượt gửi; mất {row['lost']}, "
            f"trùng {row['doubled']}, kẹt {row['stuck']}, sai khác {row['wrong']}; {row['virtual_s']:.0f} giây ảo trong "
            f"{row['real_s']:.1f} giây; vết {row['digest']}",
            f"seed {row['seed']}: {row['documents']} documents, {row['deliveries']} deliveries; lost {row['lost']}, "
            f"doubled {row['doubled']}, stuck {row['stuck']}, wrong {row['wrong']}; {row['virtual_s']:.0f} virtual seconds in "
            f"{row['real_s']:.1f}; trace {row['digest']}",
        )
    )


def _show_summary(summary: Summary) -> None:
    row = summary.row()
    click.echo(
        t(
            f"{row['seeds']} seed: {row['documents']} văn bản, {row['deliveries']} lượt gửi. Mất {row['lost']}, "
            f"trùng {row['doubled']}, kẹt {row['stuck']}, sai khác {row['wrong']}, "
            f"không lặp lại được {row['nondeterministic']}/{row['repeated']}.",
            f"{row['seeds']} seeds: {row['documents']} documents, {row['deliveries']} deliveries. Lost {row['lost']}, "
            f"doubled {row['doubled']}, stuck {row['stuck']}, wrong {row['wrong']}, "
            f"not repeatable {row['nondeterministic']}/{row['repeated']}.",
        )
    )
    click.echo(
        t(
            f"{row['virtual_s'] / 3600:.0f} giờ ảo trong {row['real_s']:.0f} giây. Sự cố: ",
            f"{row['virtual_s'] / 3600:.0f} virtual hours in {row['real_s']:.0f} seconds. Faults: ",
        )
        + ", ".join(f"{name} {count}" for name, count in row["faults"].items())
    )
    if row["did_not_happen"]:
        missing = ", ".join(row["did_not_happen"])
        click.echo(t(f"Chưa xảy ra lần nào: {missing}", f"Did not happen: {missing}"))
    if summary.failed:
        seeds = ", ".join(str(seed) for seed in sorted(summary.failed)[:20])
        click.echo(t(f"Seed có vi phạm: {seeds}", f"Seeds with violations: {seeds}"))


# --- what was asked for -----------------------------------------------------------------------------------------------------


def _seeds(text: str) -> Sequence[int]:
    first, separator, last = text.partition("..")
    try:
        seeds = range(int(first), int(last if separator else first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds or seeds[0] < 0 or len(seeds) > SEEDS_MAX:
        raise Stop(
            Code.USAGE,
            (f"--seeds {text}: không phải dạng A..B, A không lớn hơn B", f"--seeds {text}: not of the form A..B with A ≤ B"),
            ("viết chẳng hạn --seeds 1..200", "write for example --seeds 1..200"),
        )
    return seeds


def _profile(name: str) -> str:
    from topology.sim.profile import PROFILES

    if name not in PROFILES:
        known = ", ".join(PROFILES)
        raise Stop(
            Code.USAGE, (f"không có kịch bản {name}", f"there is no profile {name}"), (f"chọn: {known}", f"choose: {known}")
        )
    return name


def _mutant(name: str) -> str:
    from topology.sim.mutants import MUTANTS

    if name and name not in MUTANTS:
        known = ", ".join(MUTANTS)
        raise Stop(
            Code.USAGE,
            (f"không có lỗi cấy tên {name}", f"there is no planted bug {name}"),
            (f"chọn: {known}", f"choose: {known}"),
        )
    return name


def _lawful(topology: Path | None) -> Path | None:
    from topology.load import load_lawful

    if topology is not None:
        try:
            load_lawful(topology)
        except ConfigError as error:
            raise unusable_tree(error) from None
    return topology


def _known(resume: Path | None, profile: str) -> dict[int, Row]:
    from topology.sim.campaign import read_rows

    if resume is None:
        return {}
    try:
        with resume.open(encoding="utf-8") as lines:
            rows = read_rows(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(
            Code.USAGE,
            (f"--resume {resume}: không đọc được ({error})", f"--resume {resume}: cannot be read ({error})"),
            ("chỉ tệp chứa các dòng --json của lần chạy trước", "name a file with the --json lines of an earlier run"),
        ) from None
    other = sorted({str(row.get("profile")) for row in rows.values()} - {profile})
    if other:
        raise Stop(
            Code.USAGE,
            (
                f"--resume {resume}: các dòng của kịch bản {', '.join(other)}",
                f"--resume {resume}: rows of profile {', '.join(other)}",
            ),
        )
    return rows

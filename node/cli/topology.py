"""`truc topology`: whether a tree obeys the laws, its files on disk without starting anything, and a tree made from a seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from node.cli.face import Group, option
from node.cli.sandbox import unusable_tree
from node.cli.talk import Code, Stop, say, t
from node.config import ConfigError

file_argument = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))


@click.group(
    cls=Group, texts=("Kiểm tra, dựng tệp, sinh ra một cây nút.", "Check a tree of nodes, render its files, or make one.")
)
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


SHAPES = ("2018", "2025", "nation")


@command.command(
    "generate",
    texts=(
        "Sinh ra một cây để diễn tập, in tệp mô tả cây ra stdout.\n"
        "2018: nút gốc, 63 tỉnh, 700 huyện. 2025: nút gốc, 34 tỉnh, 3.321 xã. nation: chỉ mã cấp 1, có bộ, ngành.\n"
        "Không nêu --shape thì số tỉnh, số đơn vị dưới mỗi điểm và số cấp là tùy ý. Cùng tham số thì ra đúng cây đó.",
        "Generate a tree for rehearsals and print its file on stdout.\n"
        "2018: hub, 63 provinces, 700 districts. 2025: hub, 34 provinces, 3,321 communes. nation: level-1 codes and ministries.\n"
        "Without --shape the numbers of provinces, of units and of tiers are free. The same arguments give the same tree.",
    ),
)
@option("--shape", type=click.Choice(SHAPES), texts=("cây của cả nước", "a country"))
@option("--provinces", metavar="N", type=click.IntRange(1, 63), texts=("số tỉnh (2)", "number of provinces (2)"))
@option(
    "--units",
    metavar="N",
    type=click.IntRange(1, 900),
    texts=("số đơn vị ngay dưới mỗi điểm (2)", "sites right below each site (2)"),
)
@option("--depth", metavar="N", type=click.IntRange(1, 8), texts=("số cấp dưới nút gốc (2)", "tiers below the hub (2)"))
@option("--ministries", is_flag=True, texts=("thêm bộ, ngành", "add the ministries"))
@option(
    "--systems",
    metavar="N",
    type=click.IntRange(1, 20),
    default=1,
    texts=("số hệ thống ở mỗi điểm (1)", "systems at each site (1)"),
)
@option(
    "--seed",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    texts=("seed: cùng seed, cùng cây (0)", "the seed (0)"),
)
@option("-o", "output", metavar="FILE", type=click.Path(path_type=Path), texts=("ghi vào tệp này", "write to this file"))
def generate(
    shape: str | None,
    provinces: int | None,
    units: int | None,
    depth: int | None,
    ministries: bool,
    systems: int,
    seed: int,
    output: Path | None,
) -> None:
    from topology import generate as country
    from topology.dump import dump

    sizes = {"provinces": provinces, "units": units, "depth": depth}
    asked = {name: size for name, size in sizes.items() if size is not None}
    if shape is not None and asked:
        given = ", ".join(f"--{name}" for name in asked)
        raise click.UsageError(t(f"--shape không đi cùng {given}.", f"--shape does not go with {given}."))
    try:
        wanted = country.small(**asked) if shape is None else country.SHAPES[shape]
        tree = country.generate(replace(wanted, systems=systems, ministries=ministries or wanted.ministries), seed)
    except ValueError as error:
        raise Stop(Code.USAGE, (f"không sinh được cây này ({error})", f"this tree cannot be generated ({error})")) from None
    words = [f"--shape {shape}"] if shape else [f"--{name} {size}" for name, size in asked.items()]
    words += ["--ministries"] * ministries + [f"--systems {systems}"] * (systems > 1) + [f"--seed {seed}"]
    _put(dump(tree, country.heading(tree, f"truc topology generate {' '.join(words)}")), output)
    say(
        f"Đã sinh cây: {len(tree.sites)} điểm kết nối, {len(tree.entries)} cơ quan.",
        f"The tree was generated: {len(tree.sites)} sites, {len(tree.entries)} organs.",
    )


def _put(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        why = (f"không ghi được {output} ({error.strerror})", f"cannot write {output} ({error.strerror})")
        raise Stop(Code.FAILED, why) from None

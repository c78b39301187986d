"""`truc topology`: a tree checked, rendered without starting anything, and generated from a seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner, Result

from node.cli.root import truc
from node.cli.topology import SHAPES
from topology.generate import SHAPES as COUNTRIES
from topology.generate import generate as made
from topology.generate import small
from topology.load import default_topology, load_lawful


def run(*arguments: str) -> Result:
    return CliRunner().invoke(truc, ["topology", *arguments])


def test_a_lawful_tree_is_called_usable() -> None:
    result = run("check", str(default_topology()))
    assert result.exit_code == 0
    assert "Cây dùng được: 7 điểm kết nối, 13 hệ thống" in result.stderr


def test_an_unlawful_tree_ends_with_78_and_the_law(tmp_path: Path) -> None:
    text = default_topology().read_text(encoding="utf-8").replace('parent = "H14"', 'parent = "H15"')
    (tmp_path / "tree.toml").write_text(text, encoding="utf-8")
    result = run("check", str(tmp_path / "tree.toml"))
    assert result.exit_code == 78
    assert 'không có điểm kết nối cấp trên mã "H15"' in result.stderr


def test_a_rendered_tree_names_its_configurations_and_gives_the_folder_free(tmp_path: Path) -> None:
    for _ in range(2):  # the second time finds the folder unlocked
        result = run("render", str(default_topology()), str(tmp_path / "tree"))
        assert result.exit_code == 0
        configs = [Path(line) for line in result.stdout.splitlines()]
        assert [config.parent.name for config in configs][:3] == ["hub", "h41", "h14"]
        assert all(config.is_file() for config in configs)


def test_a_folder_that_cannot_be_made_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("render", str(default_topology()), str(tmp_path / "file" / "tree"))
    assert result.exit_code == 1
    assert "không dùng được thư mục" in result.stderr


def test_the_shapes_that_can_be_asked_for_are_those_there_are() -> None:
    assert set(SHAPES) == set(COUNTRIES)


def test_a_generated_tree_goes_to_stdout_and_can_be_used(tmp_path: Path) -> None:
    result = run("generate", "--provinces", "3", "--units", "2", "--depth", "3", "--ministries", "--systems", "2", "--seed", "5")
    assert result.exit_code == 0
    assert "Đã sinh cây: 38 điểm kết nối" in result.stderr
    (tmp_path / "tree.toml").write_text(result.stdout, encoding="utf-8")
    wanted = replace(small(3, 2, 3), ministries=True, systems=2)
    assert load_lawful(tmp_path / "tree.toml") == made(wanted, 5)


def test_a_country_is_generated_with_all_that_its_shape_says() -> None:
    result = run("generate", "--shape", "nation")
    assert "Đã sinh cây: 51 điểm kết nối" in result.stderr
    assert result.stdout == (default_topology().parent / "nation.toml").read_text(encoding="utf-8")


def test_the_command_in_a_generated_file_makes_that_file_again(tmp_path: Path) -> None:
    for arguments in (
        ("--shape", "2018", "--seed", "4"),
        ("--units", "3", "--systems", "2"),
        ("--shape", "nation", "--ministries"),
    ):
        first = run("generate", *arguments).stdout
        command = first.splitlines()[0].split("truc topology ")[1].split()
        assert run(*command, "-o", str(tmp_path / "tree.toml")).exit_code == 0
        again = (tmp_path / "tree.toml").read_text(encoding="utf-8")
        assert again == first


def test_a_country_and_sizes_of_ones_own_do_not_go_together() -> None:
    result = run("generate", "--shape", "2018", "--units", "3")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--shape không đi cùng --units" in result.stderr


def test_a_tree_too_large_is_a_usage_error() -> None:
    result = run("generate", "--provinces", "60", "--units", "900", "--depth", "3")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "không sinh được cây này (sites = " in result.stderr


def test_a_file_that_cannot_be_written_ends_with_1(tmp_path: Path) -> None:
    result = run("generate", "-o", str(tmp_path / "none" / "tree.toml"))
    assert result.exit_code == 1
    assert "không ghi được" in result.stderr

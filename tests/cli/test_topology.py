"""`truc topology`: a tree checked, and rendered without starting anything."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from node.cli.root import truc
from topology.load import default_topology


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

"""The configuration of a node: what the file says, what the environment overrides, and what is refused with which words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from node.config import Child, ConfigError, NodeConfig, Origin, load

EXPLAINED = Path(__file__).parent.parent / "configs" / "node.toml"
SMALLEST = """\
[node]
name = "Nút thử"
data_dir = "data"
directory = "directory.json"
systems = "/elsewhere/systems.json"

[link]
certificate = "link.pem"
key = "link.key"
trust = "trust.pem"

[office]
certificate = "office.pem"
key = "office.key"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str, env: dict[str, str] | None = None) -> str:
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(path, env or {})
    return str(caught.value).replace(str(path), "node.toml")


def options() -> list[tuple[str, str, FieldInfo]]:
    found = []
    for section, field in NodeConfig.model_fields.items():
        model: Any = field.annotation
        found += [(section, key, inner) for key, inner in model.model_fields.items()]
    return found


# --- configs/node.toml -------------------------------------------------------------------------------------------------


def test_the_explained_file_names_every_option_with_its_default_and_nothing_else() -> None:
    config, origins = load(EXPLAINED, {})  # an option unknown to the models is refused here
    for section, key, field in options():
        assert origins[f"{section}.{key}"] is Origin.FILE, f"{section}.{key} is not in configs/node.toml"
        if not field.is_required():
            assert getattr(getattr(config, section), key) == field.default, f"{section}.{key}"


def test_the_explained_file_shows_how_a_child_is_declared(tmp_path: Path) -> None:
    example = EXPLAINED.read_text(encoding="utf-8")
    example = re.sub(r"(?m)^#> ", "", example).replace("children = []\n", "")
    # what follows [[link.children]] would belong to the child, so the example moves to the end
    lines = re.findall(r"(?m)^\[\[link\.children\]\]\n(?:(?:code|pins) = .*\n)+", example)
    config, _ = load(written(tmp_path, example.replace(lines[0], "") + lines[0]), {})
    assert config.link.children[0].model_fields_set == set(Child.model_fields)


def test_the_explained_file_states_every_bound() -> None:
    text = EXPLAINED.read_text(encoding="utf-8")
    for section, key, field in options():
        lower, upper = bounds(field)
        if lower is None:
            continue
        table = text[text.index(f"\n[{section}]\n") :]
        lines = table[: table.index(f"\n{key} = ")].split("\n")
        said = " ".join(lines[-12:])
        assert (f"{lower} … {upper}" if upper else f"từ {lower}") in said, f"{section}.{key}: {lower} {upper}"


def bounds(field: FieldInfo) -> tuple[str | None, str | None]:
    stated: dict[str, str] = {}
    metadata = [*field.metadata]
    for extra in get_args(field.annotation):
        metadata += getattr(extra, "metadata", [])
    for constraint in metadata:
        for name in ("ge", "le"):
            value = getattr(constraint, name, None)
            if value is not None:
                stated[name] = str(int(value)) if value == int(value) else str(value)
    return stated.get("ge"), stated.get("le")


# --- what is in force --------------------------------------------------------------------------------------------------


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, SMALLEST)
    monkeypatch.chdir(tmp_path.parent)
    config, _ = load(Path(tmp_path.name) / "node.toml", {})
    assert config.node.data_dir == tmp_path / "data"
    assert config.link.trust == tmp_path / "trust.pem"
    assert config.node.systems == Path("/elsewhere/systems.json")


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    text = SMALLEST.replace("[link]", "[link]\nlisten_port = 7001\npull_wait_s = 5")
    env = {"TRUC_LINK__LISTEN_PORT": "7002", "TRUC_STORE__GROUP_MAX": "9", "PATH": "/bin"}
    config, origins = load(written(tmp_path, text), env)
    assert (config.link.listen_port, config.link.pull_wait_s, config.store.group_max) == (7002, 5.0, 9)
    assert origins["link.listen_port"] is Origin.ENVIRONMENT
    assert origins["store.group_max"] is Origin.ENVIRONMENT
    assert origins["link.pull_wait_s"] is Origin.FILE
    assert origins["link.idle_timeout_s"] is Origin.DEFAULT
    assert list(origins) == [f"{section}.{key}" for section, key, _ in options()]


def test_lists_and_tables_can_come_from_the_environment(tmp_path: Path) -> None:
    env = {
        "TRUC_FORWARDING__WEIGHTS": "9, 7, 5, 3, 1",
        "TRUC_LINK__CHILDREN": '[{code = "H41", pins = ["aa"]}, {code = "H14"}]',
        "TRUC_LINK__PARENT_PINS": "",
        "TRUC_NODE__DATA_DIR": "other",
    }
    config, _ = load(written(tmp_path, SMALLEST), env)
    assert config.forwarding.weights == (9, 7, 5, 3, 1)
    assert [(child.code, child.pins) for child in config.link.children] == [("H41", ("aa",)), ("H14", ())]
    assert config.link.parent_pins == ()
    assert config.node.data_dir == tmp_path / "other"


def test_the_commands_own_variables_are_no_options(tmp_path: Path) -> None:
    config, _ = load(written(tmp_path, SMALLEST), {"TRUC_LANG": "en", "TRUC_CONFIG": "/etc/truc/node.toml"})
    assert config.node.name == "Nút thử"


# --- what is refused, and how it is said -------------------------------------------------------------------------------


def test_an_unknown_key_is_refused_with_the_likely_name(tmp_path: Path) -> None:
    text = refused(tmp_path, SMALLEST.replace("[link]", "[link]\nlisten_prot = 1"))
    assert text == "node.toml:8: link.listen_prot: không có tùy chọn này — có phải listen_port?"


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, SMALLEST + "\n[ofice]\n") == "node.toml:16: ofice: không có tùy chọn này — có phải office?"


def test_an_unknown_variable_is_refused_with_the_likely_name(tmp_path: Path) -> None:
    text = refused(tmp_path, SMALLEST, {"TRUC_LINK__LISTEN_PROT": "1", "TRUC_ODD": "x"})
    assert text.splitlines() == [
        "TRUC_LINK__LISTEN_PROT: không có biến môi trường này — có phải TRUC_LINK__LISTEN_PORT?",
        "TRUC_ODD: không có biến môi trường này — xóa đi hoặc sửa tên",
    ]


def test_a_bad_value_of_a_variable_is_blamed_on_the_variable(tmp_path: Path) -> None:
    text = refused(tmp_path, SMALLEST.replace("[link]", "[link]\nlisten_port = 1"), {"TRUC_LINK__LISTEN_PORT": "many"})
    assert text == "TRUC_LINK__LISTEN_PORT: link.listen_port: phải là số nguyên — sửa giá trị 'many'"


def test_a_broken_list_in_a_variable_is_refused(tmp_path: Path) -> None:
    text = refused(tmp_path, SMALLEST, {"TRUC_LINK__CHILDREN": "[{code = "})
    assert text == "TRUC_LINK__CHILDREN: link.children: không đọc được danh sách — viết a,b,c hoặc như trong TOML: [...]"


def test_every_problem_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = SMALLEST.replace('name = "Nút thử"\n', "log_level = 'loud'\n") + "connections_max = 3\nlisten_port = 70000\n"
    assert refused(tmp_path, text).splitlines() == [
        "node.toml:1: node.name: còn thiếu — thêm tùy chọn này",
        "node.toml:2: node.log_level: phải có dạng ^(debug|info|warning|error)$ — sửa giá trị 'loud'",
        "node.toml:16: office.listen_port: phải không quá 65535 — sửa giá trị 70000",
        "node.toml:15: office.connections_max: phải từ 4 trở lên — sửa giá trị 3",
    ]


def test_a_problem_inside_the_second_child_points_at_that_child(tmp_path: Path) -> None:
    text = SMALLEST + '\n[[link.children]]\ncode = "H41"\n\n[[link.children]]\npin = []\n'
    assert refused(tmp_path, text).splitlines() == [
        "node.toml:19: link.children[1].code: còn thiếu — thêm tùy chọn này",
        "node.toml:20: link.children[1].pin: không có tùy chọn này — có phải pins?",
    ]


def test_a_dotted_key_is_found_too(tmp_path: Path) -> None:
    text = "store.group_max = 0\n" + SMALLEST
    assert refused(tmp_path, text) == "node.toml:1: store.group_max: phải từ 1 trở lên — sửa giá trị 0"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("[store]\ninline_bytes_max = 600000\n", "node.toml:17: store.inline_bytes_max: không được quá một nửa"),
        ("[store]\nfree_urgent_percent = 11\n", "node.toml:17: store.free_urgent_percent: không được lớn hơn"),
        ("[admin]\nlisten_host = '0.0.0.0'\n", "node.toml:17: admin.listen_host: chỉ được là 127.0.0.1"),
    ],
)
def test_relations_between_options_are_checked_and_named(tmp_path: Path, change: str, problem: str) -> None:
    assert refused(tmp_path, SMALLEST + "\n" + change).startswith(problem)


def test_a_node_below_the_hub_needs_a_parent_and_the_hub_has_none(tmp_path: Path) -> None:
    below = refused(tmp_path, SMALLEST.replace("[node]", '[node]\ncode = "H41"'))
    assert below.startswith("node.toml:8: link.parent_url: còn thiếu")
    hub = refused(tmp_path, SMALLEST.replace("[link]", '[link]\nparent_url = "https://127.0.0.1:1"'))
    assert hub.startswith("node.toml:8: link.parent_url: nút gốc")


def test_an_empty_path_is_a_missing_one(tmp_path: Path) -> None:
    text = refused(tmp_path, SMALLEST.replace('"data"', '" "'))
    assert text == "node.toml:3: node.data_dir: còn thiếu — thêm tùy chọn này"


def test_a_table_that_is_no_table_is_refused(tmp_path: Path) -> None:
    text = refused(tmp_path, "store = 3\n" + SMALLEST, {"TRUC_STORE__GROUP_MAX": "9"})
    assert "store: phải là một mục TOML — viết thành [store]" in text


def test_broken_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    assert refused(tmp_path, SMALLEST + "oops\n").startswith("node.toml:15: sai cú pháp TOML")


def test_a_missing_file_and_one_that_is_not_utf8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: không đọc được"):
        load(tmp_path / "absent.toml", {})
    path = tmp_path / "node.toml"
    path.write_bytes("[node]\nname = 'Nút'".encode("utf-16"))
    with pytest.raises(ConfigError, match="không phải văn bản UTF-8"):
        load(path, {})

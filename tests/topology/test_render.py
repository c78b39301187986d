"""A tree rendered into folders: what each node finds there, what rendering again keeps, and that others can read the files."""

from __future__ import annotations

import json
import ssl
import stat
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509

from node.adapters import directory_file, registry
from node.adapters.authority import pin
from node.config import ConfigError
from node.core.identifier import OrgId
from topology.load import default_topology, load, load_lawful
from topology.model import Tree
from topology.ports import Guards
from topology.render import Place, render

Write = Callable[..., Path]


@pytest.fixture
def guards() -> Iterator[Guards]:
    with Guards() as held:
        yield held


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sandbox"


def by_code(places: tuple[Place, ...]) -> dict[str, Place]:
    return {str(place.site.code): place for place in places}


def texts(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


# --- what is there -----------------------------------------------------------------------------------------------------


def test_every_site_gets_its_folder_parents_first(small: Tree, root: Path, guards: Guards, now: datetime) -> None:
    places = render(small, root, guards, now)
    assert [place.config for place in places] == [root / name / "node.toml" for name in ("hub", "h41", "h14", "h41.07")]
    for place in places:
        assert stat.S_IMODE(place.settings.node.data_dir.stat().st_mode) == 0o700


def test_neighbours_know_each_others_address_name_and_key(small: Tree, root: Path, guards: Guards, now: datetime) -> None:
    places = by_code(render(small, root, guards, now))
    hub, province, unit = places[""].settings, places["H41"].settings, places["H41.07"].settings
    assert hub.link.parent_url == ""
    assert province.link.parent_url == f"https://127.0.0.1:{hub.link.listen_port}"
    assert (unit.link.parent_url, unit.link.parent_code) == (f"https://127.0.0.1:{province.link.listen_port}", "H41")
    assert [child.code for child in hub.link.children] == ["H41", "H14"]
    leaf = x509.load_pem_x509_certificate(province.link.certificate.read_bytes())
    key_pin = pin(leaf.public_key())  # type: ignore[arg-type]
    assert hub.link.children[0].pins == (key_pin,)
    assert unit.link.parent_pins == (key_pin,)


def test_every_listener_has_a_port_of_its_own(small: Tree, root: Path, guards: Guards, now: datetime) -> None:
    settings = [place.settings for place in render(small, root, guards, now)]
    ports = [listener.listen_port for s in settings for listener in (s.link, s.office, s.admin)]
    assert len(set(ports)) == 3 * len(small.sites)
    assert 0 not in ports


def test_the_files_are_what_the_nodes_read(root: Path, guards: Guards, now: datetime) -> None:
    tree = load_lawful(default_topology())
    for place in render(tree, root, guards, now):
        assert directory_file.load(place.settings.node.directory) == tree.directory()
        systems = registry.load(place.settings.node.systems)
        assert [(system.id, system.codes) for system in systems] == [(system.id, system.codes) for system in place.site.systems]
        for listener in (place.settings.link, place.settings.office):
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(listener.certificate, listener.key)
        assert place.settings.link.trust.read_text() == (root / "pki" / "root.pem").read_text()
    assert (root / "ca.pem").read_text().count("BEGIN CERTIFICATE") == 2


def test_secrets_are_long_distinct_and_their_owners_alone(small: Tree, root: Path, guards: Guards, now: datetime) -> None:
    places = render(small, root, guards, now)
    secrets = [row["secrets"][0] for place in places for row in place.systems()]
    assert len(set(secrets)) == 3
    assert all(len(secret) >= 32 for secret in secrets)
    private = [*root.rglob("*.key"), *root.rglob("systems.json")]
    assert len(private) == 2 + 4 * 3 + 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def test_options_of_the_tree_and_of_a_site_reach_the_configuration(
    written: Write, root: Path, guards: Guards, now: datetime
) -> None:
    path = written(
        ('[[sites]]\nname = "Gốc"', '[options.link]\nprobe_max_s = 1.5\nidle_timeout_s = 9\n\n[[sites]]\nname = "Gốc"'),
        ('parent = "H41"', 'parent = "H41"\noptions.link.idle_timeout_s = 7\noptions.forwarding.weights = [5, 4, 3, 2, 1]'),
    )
    places = by_code(render(load(path), root, guards, now))
    assert [places[code].settings.link.idle_timeout_s for code in ("", "H41.07")] == [9, 7]
    assert places["H41.07"].settings.forwarding.weights == (5, 4, 3, 2, 1)
    assert {place.settings.link.probe_max_s for place in places.values()} == {1.5}


def test_an_option_with_a_bad_value_is_refused(written: Write, root: Path, guards: Guards, now: datetime) -> None:
    path = written(('parent = "H41"', 'parent = "H41"\noptions.link.idle_timeout_s = 1'))
    with pytest.raises(ConfigError, match=r"link\.idle_timeout_s: phải từ 5 trở lên"):
        render(load(path), root, guards, now)


def test_a_name_is_written_as_it_is_whatever_it_holds(written: Write, root: Path, guards: Guards, now: datetime) -> None:
    name = 'Sở "Nội vụ" \\ #1 \n[office] \x7f.'
    toml = json.dumps(name).replace("\x7f", "\\u007f")
    path = written(('name = "Sở Nội vụ"\ncode = "H41.07"\nparent', f'name = {toml}\ncode = "H41.07"\nparent'))
    assert by_code(render(load(path), root, guards, now))["H41.07"].settings.node.name == name


# --- rendering again ---------------------------------------------------------------------------------------------------


def test_rendering_again_changes_nothing(small: Tree, root: Path, guards: Guards, now: datetime) -> None:
    render(small, root, guards, now)
    before = texts(root)
    for keep in (False, True):
        render(small, root, guards, now, keep=keep)
        assert texts(root) == before


def test_a_changed_tree_keeps_ports_keys_and_secrets(
    small: Tree, written: Write, root: Path, guards: Guards, now: datetime
) -> None:
    before = by_code(render(small, root, guards, now))
    secret, key = before["H41"].systems()[0]["secrets"], before["H41"].settings.link.key.read_text()
    changed = load(
        written(('parent = ""\n\n', 'parent = ""\nprefixes = ["H14", "K14"]\n\n'), ('["H41", "K41"]\n\n', '["H41"]\n\n'))
    )
    after = by_code(render(changed, root, guards, now))
    assert after["H41"].settings.link.listen_port == before["H41"].settings.link.listen_port
    assert after["H41"].settings.link.key.read_text() == key
    assert [(row["codes"], row["secrets"]) for row in after["H41"].systems()] == [(["H41"], secret)]
    directory = directory_file.load(after[""].settings.node.directory)
    assert directory.version == 2, "or the nodes would refuse it as an older one"
    assert directory.node(OrgId(("H14",))).prefixes == (OrgId(("H14",)), OrgId(("K14",)))  # type: ignore[union-attr]


def test_a_configuration_changed_by_hand_is_kept_with_the_same_tree_only(
    small: Tree, root: Path, guards: Guards, now: datetime
) -> None:
    config = render(small, root, guards, now)[1].config
    config.write_text(config.read_text() + "[store]\ngroup_max = 7\n")
    assert render(small, root, guards, now, keep=True)[1].settings.store.group_max == 7
    assert render(small, root, guards, now)[1].settings.store.group_max == 512


def test_a_lost_configuration_is_made_anew_for_all(small: Tree, root: Path, guards: Guards, now: datetime) -> None:
    before = by_code(render(small, root, guards, now))
    before["H41"].config.unlink()
    after = by_code(render(small, root, guards, now, keep=True))
    assert after["H41.07"].settings.link.parent_url == f"https://127.0.0.1:{after['H41'].settings.link.listen_port}"
    assert after[""].settings.link.listen_port == before[""].settings.link.listen_port


def add_system(place: Place, code: str) -> None:
    rows = [*place.systems(), {"id": "added", "codes": [code], "secrets": ["s" * 32], "networks": [], "disabled": True}]
    place.settings.node.systems.write_text(json.dumps({"format": "truc-systems-1", "systems": rows}))


def test_a_system_added_by_an_operator_stays(small: Tree, root: Path, guards: Guards, now: datetime) -> None:
    add_system(render(small, root, guards, now)[1], "H41.88")
    for keep in (True, False):
        rows = render(small, root, guards, now, keep=keep)[1].systems()
        assert [row["id"] for row in rows] == ["nghean", "added"]


def test_an_added_system_gives_way_when_the_tree_gives_its_code_to_another(
    small: Tree, root: Path, guards: Guards, now: datetime
) -> None:
    add_system(render(small, root, guards, now)[1], "H41.07")
    assert [row["id"] for row in render(small, root, guards, now)[1].systems()] == ["nghean"]


def test_a_damaged_register_of_systems_is_named_not_replaced(small: Tree, root: Path, guards: Guards, now: datetime) -> None:
    path = render(small, root, guards, now)[1].settings.node.systems
    path.write_text('{"systems": [{"id": "nghean"}]}')
    with pytest.raises(ConfigError, match=r"systems\.json: không đọc được danh sách hệ thống"):
        render(small, root, guards, now)
    assert path.read_text() == '{"systems": [{"id": "nghean"}]}'

"""The systems file: strict, private, never torn, and a broken one does not stop the offices."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from node.adapters.client_certificates import of_file
from node.adapters.registry import Registry, RegistryError, load, save, update
from node.core.identifier import OrgId
from node.core.office import System
from node.core.tally import Tally
from tests.adapters.pki import leaf

H41_07 = OrgId(("H41", "07"))
H41_08 = OrgId(("H41", "08"))

ROW: Mapping[str, Any] = {
    "id": "h41-07.vanphong",
    "codes": ["H41.07"],
    "secrets": ["khoa-thu-2026"],
    "networks": ["127.0.0.0/8"],
    "disabled": False,
    "all_or_nothing": False,
}


def write(path: Path, *rows: Mapping[str, Any], mode: int = 0o600, **head: Any) -> Path:
    """As an editor would: a new file put in the place of the old one."""
    fresh = path.with_name("fresh")
    fresh.write_text(json.dumps({"format": "truc-systems-1", "systems": rows, **head}), encoding="utf-8")
    fresh.chmod(mode)
    fresh.rename(path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "systems.json"


def test_a_system_is_read_with_its_codes_secrets_and_networks(path: Path) -> None:
    system = Registry(write(path, ROW)).get("h41-07.vanphong")
    assert system == System("h41-07.vanphong", (H41_07,), ("khoa-thu-2026",), (ip_network("127.0.0.0/8"),))
    assert ip_address("127.0.0.1") in system.networks[0]


def test_certificates_are_kept_as_they_were_registered(path: Path) -> None:
    shown = (of_file(leaf(None).pem), replace(of_file(leaf(None).pem), revoked=True))
    bound = System("a", (H41_07,), ("x",), certificates=shown)
    save(path, (bound,))
    assert load(path) == (bound,)
    for der, told in (("?", "not base64"), ("AAAA", "no certificate")):
        with pytest.raises(RegistryError, match=rf"systems\[0\].certificates: {told}"):
            load(write(path, {**ROW, "certificates": [{"der": der}]}))


def test_an_unknown_id_is_no_system(path: Path) -> None:
    assert Registry(write(path, ROW)).get("someone") is None


def test_a_change_of_the_file_is_seen_at_the_next_question(path: Path) -> None:
    systems = Registry(write(path, ROW))
    assert systems.served() == {H41_07}
    write(path, ROW, {**ROW, "id": "h41-08", "codes": ["H41.08"]})
    assert systems.served() == {H41_07, H41_08}
    assert [system.id for system in systems.all()] == ["h41-07.vanphong", "h41-08"]


def test_a_disabled_system_is_known_but_serves_nobody(path: Path) -> None:
    systems = Registry(write(path, {**ROW, "disabled": True}))
    held = systems.get("h41-07.vanphong")
    assert held is not None and held.disabled
    assert systems.served() == frozenset()


def test_a_broken_file_leaves_the_last_good_one_in_use_and_is_told_once(path: Path) -> None:
    tally = Tally()
    systems = Registry(write(path, ROW), tally)
    path.write_text("{ half a fi", encoding="utf-8")
    with capture_logs() as logs:
        assert systems.get("h41-07.vanphong") is not None
        assert systems.served() == {H41_07}
    assert tally.value("truc_registry_errors_total") == 1
    assert [line["log_level"] for line in logs] == ["error"]
    assert "Invalid JSON" in systems.problem
    write(path, {**ROW, "codes": ["H41.08"]})
    assert systems.served() == {H41_08}
    assert systems.problem == ""


def test_a_file_that_vanishes_leaves_the_last_good_one_in_use(path: Path) -> None:
    tally = Tally()
    systems = Registry(write(path, ROW), tally)
    path.unlink()
    assert systems.served() == {H41_07}
    assert tally.value("truc_registry_errors_total") == 1


def test_opening_the_file_to_others_later_is_noticed_and_so_is_closing_it(path: Path) -> None:
    systems = Registry(write(path, ROW))
    path.chmod(0o640)
    assert systems.served() == {H41_07}
    assert "0640" in systems.problem
    path.chmod(0o600)
    systems.served()
    assert systems.problem == ""


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_may_touch_is_refused(path: Path, mode: int) -> None:
    with pytest.raises(RegistryError, match="chmod 600"):
        Registry(write(path, ROW, mode=mode))


def test_a_missing_file_is_refused_at_the_start(path: Path) -> None:
    with pytest.raises(RegistryError, match="No such file"):
        Registry(path)


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({**ROW, "codes": ["h41.07"]}, "systems[0].codes[0]"),
        ({**ROW, "codes": ["000.00.07.H41"]}, "systems[0].codes[0]"),
        ({**ROW, "codes": [""]}, "systems[0].codes[0]"),
        ({**ROW, "codes": [7]}, "systems[0].codes[0]"),
        ({**ROW, "secrets": []}, "systems[0].secrets"),
        ({**ROW, "secrets": ["a", "b", "c"]}, "systems[0].secrets"),
        ({**ROW, "secrets": [""]}, "systems[0].secrets[0]"),
        ({**ROW, "secrets": ["a\nb"]}, "systems[0].secrets[0]"),
        ({**ROW, "networks": ["10.0.0.1/8"]}, "systems[0].networks[0]"),
        ({**ROW, "networks": [10]}, "systems[0].networks[0]"),
        ({**ROW, "id": "văn phòng"}, "systems[0].id"),
        ({**ROW, "id": ""}, "systems[0].id"),
        ({**ROW, "pasword": "x"}, "systems[0].pasword"),
        ({key: value for key, value in ROW.items() if key != "id"}, "systems[0].id"),
    ],
)
def test_a_wrong_entry_is_refused_by_its_place(path: Path, row: Mapping[str, Any], place: str) -> None:
    with pytest.raises(RegistryError) as caught:
        load(write(path, row))
    assert any(problem.startswith(f"{path}: {place}:") for problem in caught.value.problems), caught.value.problems


def test_the_secret_of_a_refused_entry_is_not_told(path: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        load(write(path, {**ROW, "secrets": ["khoa\nthat-bi-mat"]}))
    assert "that-bi-mat" not in str(caught.value)


def test_another_format_is_refused(path: Path) -> None:
    with pytest.raises(RegistryError, match="format"):
        load(write(path, ROW, format="truc-systems-2"))


def test_two_enabled_systems_cannot_claim_one_code(path: Path) -> None:  # QĐ 28/2018 Điều 7.3
    second = {**ROW, "id": "another"}
    with pytest.raises(RegistryError, match=r"H41\.07 already belongs to h41-07\.vanphong"):
        load(write(path, ROW, second))
    assert len(load(write(path, ROW, {**second, "disabled": True}))) == 2


def test_one_system_may_serve_several_organs(path: Path) -> None:  # QĐ 28/2018 Điều 7.3.a–c
    assert Registry(write(path, {**ROW, "codes": ["H41.07", "H41.08"]})).served() == {H41_07, H41_08}


def test_an_id_twice_is_refused(path: Path) -> None:
    with pytest.raises(RegistryError, match="twice"):
        load(write(path, ROW, {**ROW, "codes": ["H41.08"]}))


def test_what_is_saved_reads_back_and_is_private(path: Path) -> None:
    systems = (
        System("a.1", (H41_07,), ("một", "hai"), (ip_network("10.0.0.0/8"), ip_network("fd00::/8")), False, True),
        System("b-2", (H41_08,), ("ba",), (), True, False),
    )
    save(path, systems)
    assert load(path) == systems
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    save(path, ())
    assert load(path) == ()


def test_saving_what_breaks_a_law_changes_nothing(path: Path) -> None:
    good = (System("a", (H41_07,), ("x",)),)
    save(path, good)
    with pytest.raises(RegistryError, match="already belongs"):
        save(path, (*good, System("b", (H41_07,), ("y",))))
    assert load(path) == good
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["systems.json", "systems.json.lock"]


def test_a_system_without_codes_only_reads_figures(path: Path) -> None:  # QĐ 28/2018 Điều 14.3
    save(path, (System("thong-ke", (), ("x",)),))
    assert load(path)[0].codes == ()


@pytest.mark.parametrize(
    "system",
    [
        System("văn phòng", (H41_07,), ("x",)),
        System("a", (H41_07,), ()),
        System("a", (H41_07,), ("a\nb",)),
    ],
)
def test_what_could_not_be_read_back_is_not_written(path: Path, system: System) -> None:
    save(path, ())
    with pytest.raises(RegistryError, match=r"systems\[0\]"):
        save(path, (system,))
    assert load(path) == ()


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = (System("a", (H41_07,), ("x",)),)
    save(path, good)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, ())
    assert load(path) == good
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["systems.json", "systems.json.lock"]


def test_the_file_and_its_folder_are_synced_before_anyone_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real(handle)

    monkeypatch.setattr(os, "fsync", note)
    save(path, ())
    assert synced == [f".systems.json.{os.getpid()}.tmp", path.parent.name]


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = write(tmp_path / "real" / "systems.json", ROW)
    path.symlink_to(real)
    save(path, ())
    assert path.is_symlink()
    assert load(real) == ()


ADD_ONE = """
import sys
from pathlib import Path
from node.adapters.registry import update
from node.core.identifier import OrgId
from node.core.office import System
for number in range(10):
    name = f"{sys.argv[2]}-{number}"
    update(Path(sys.argv[1]), lambda systems: (*systems, System(name, (OrgId(("Z99", name.upper())),), ("x",))))
"""


def test_two_operators_at_once_lose_nothing_of_each_other(path: Path) -> None:
    save(path, ())
    home = Path(__file__).parents[2]
    both = [subprocess.Popen([sys.executable, "-c", ADD_ONE, str(path), name], cwd=home) for name in ("one", "two")]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(load(path)) == 20


def test_an_update_returns_what_was_written(path: Path) -> None:
    save(path, ())
    written = update(path, lambda systems: (*systems, System("a", (H41_07,), ("x",))))
    assert written == load(path)

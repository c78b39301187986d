"""The scripts a new user starts: what they need of a machine, in which order they work, and that a failure is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"
COMMANDS = sorted(path.name for path in SCRIPTS.iterdir() if path.suffix != ".lock")
PLAIN_PATH = "/usr/bin:/bin"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts in a folder of their own, beside nothing but the project's file."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def run(checkout: Path, script: str, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(checkout / script), *arguments]
    environment = {"PATH": PLAIN_PATH, "HOME": str(checkout), **(env or {})}
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False)


def pretend(checkout: Path, failing: str = "") -> Path:
    """Setup and tools that note their call in a file; the one called `failing` fails."""
    log = checkout / "log"
    for name in ("scripts/setup", ".venv/bin/ruff", ".venv/bin/mypy", ".venv/bin/python"):
        called = Path(name).name
        program(checkout / name, f'echo "{called} $*" >>{log}\ncase "{called} $*" in "{failing or "nothing"}"*) exit 3 ;; esac')
    return log


@pytest.mark.parametrize("name", [*(f"scripts/{each}" for each in COMMANDS), ".ci/run"])
def test_a_script_is_executable_and_plain_shell(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    assert (ROOT / name).read_text().startswith("#!/bin/sh\n")
    assert subprocess.run(["/bin/sh", "-n", ROOT / name], check=False).returncode == 0


# --- scripts/test, scripts/demo, .ci/run -------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["scripts/test", ".ci/run"])
def test_all_checks_run_in_order_and_pytest_has_the_last_word(checkout: Path, script: str) -> None:
    log = pretend(checkout)
    assert run(checkout, script).returncode == 0
    assert [line.split()[:2] for line in log.read_text().splitlines()] == [
        ["setup", "--dev"],
        ["ruff", "check"],
        ["ruff", "format"],
        ["mypy", "--no-error-summary"],
        ["python", "-m"],
    ]
    assert log.read_text().splitlines()[-1].startswith("python -m pytest -n 2")


@pytest.mark.parametrize("failing", ["setup", "ruff check", "ruff format", "mypy", "python -m pytest"])
def test_any_check_that_fails_fails_the_whole(checkout: Path, failing: str) -> None:
    log = pretend(checkout, failing)
    assert run(checkout, ".ci/run").returncode == 3
    assert log.read_text().splitlines()[-1].startswith(failing)


def test_arguments_reach_pytest_and_the_demonstration(checkout: Path) -> None:
    log = pretend(checkout)
    run(checkout, "scripts/test", "tests/core", "-x")
    run(checkout, "scripts/demo", "--stay")
    assert log.read_text().splitlines()[-3:] == [
        "python -m pytest -n 2 tests/core -x",
        "setup ",
        "python -m topology.demo --stay",
    ]


# --- scripts/setup -----------------------------------------------------------------------------------------------------


def test_a_machine_without_a_fitting_python_is_told_what_to_install(checkout: Path) -> None:
    old = program(checkout / "bin" / "python3.9", "exit 1")
    done = run(checkout, "scripts/setup", env={"PYTHON": str(old)})
    assert done.returncode == 69
    assert "không tìm thấy Python 3.11 trở lên" in done.stderr
    assert "Cần làm: cài python3" in done.stderr


def without_venv(checkout: Path) -> Path:
    """A Python as Debian ships it: `ensurepip` is in another package."""
    body = f'case "$2" in *ensurepip*) [ -e {checkout}/installed ] || exit 1 ;; esac\nexec {sys.executable} "$@"'
    return program(checkout / "bin" / "python3", body)


def test_a_python_without_venv_is_mended_by_root_with_apt(checkout: Path) -> None:
    without_venv(checkout)
    program(checkout / "bin" / "id", "echo 0")
    program(checkout / "bin" / "apt-get", f'echo "apt-get $*" >>{checkout}/log; exit 4')
    done = run(checkout, "scripts/setup", env={"PATH": f"{checkout}/bin:{PLAIN_PATH}"})
    assert (checkout / "log").read_text() == "apt-get update -qq\n"
    assert done.returncode == 69
    assert "không cài được gói python3-venv" in done.stderr


def test_a_python_without_venv_is_told_to_anybody_else(checkout: Path) -> None:
    without_venv(checkout)
    program(checkout / "bin" / "id", "echo 1000")
    done = run(checkout, "scripts/setup", env={"PATH": f"{checkout}/bin:{PLAIN_PATH}"})
    assert done.returncode == 69
    assert "Cần làm: chạy với quyền root: apt-get install python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def installing(checkout: Path) -> dict[str, str]:
    """A Python whose environments install nothing but note what they were asked to."""
    made = f"mkdir -p .venv/bin; cp {checkout}/bin/pip .venv/bin/python; cp {checkout}/bin/pip .venv/bin/truc"
    which = 'case "$*" in *compileall*) log=compiled ;; *) log=log ;; esac'
    program(checkout / "bin" / "pip", f'{which}; echo "$*" >>{checkout}/$log')
    program(checkout / "bin" / "python3", f'case "$*" in "-m venv"*) {made} ;; *) exec {sys.executable} "$@" ;; esac')
    return {"PATH": f"{checkout}/bin:{PLAIN_PATH}"}


def test_every_package_is_checked_against_its_hash_and_the_project_brings_none_of_its_own(checkout: Path) -> None:
    """Threats, row 35."""
    done = run(checkout, "scripts/setup", env=installing(checkout))
    assert done.returncode == 0, done.stderr
    locked, own = (checkout / "log").read_text().splitlines()
    assert locked.endswith("--require-hashes -r scripts/requirements.lock")
    assert own.endswith("install --no-deps --no-build-isolation --editable .")


def test_an_environment_is_made_once_and_anew_when_its_recipe_changes(checkout: Path) -> None:
    env, log = installing(checkout), checkout / "log"
    assert run(checkout, "scripts/setup", "--dev", env=env).returncode == 0
    log.unlink()
    for arguments in ([], ["--dev"]):
        assert run(checkout, "scripts/setup", *arguments, env=env).returncode == 0
    assert not log.exists()
    assert (checkout / "compiled").read_text().count("node topology") == 3, "code may be newer each time"
    (checkout / "scripts" / "requirements-dev.lock").write_text("# newer\n")
    assert run(checkout, "scripts/setup", env=env).returncode == 0
    assert not log.exists()
    assert run(checkout, "scripts/setup", "--dev", env=env).returncode == 0
    assert log.exists()


def test_an_environment_for_running_does_not_pass_for_one_with_the_tests_tools(checkout: Path) -> None:
    env, log = installing(checkout), checkout / "log"
    assert run(checkout, "scripts/setup", env=env).returncode == 0
    log.unlink()
    assert run(checkout, "scripts/setup", "--dev", env=env).returncode == 0
    assert log.exists()


# --- the lock files ----------------------------------------------------------------------------------------------------


def locked(name: str) -> dict[str, str]:
    """Package to version; every one must carry a hash."""
    text = (SCRIPTS / name).read_text()
    found = {}
    for entry in re.split(r"\n(?=[a-z])", text.split("\n", 2)[2]):
        package, version = re.match(r"([a-z0-9.-]+)==(\S+)", entry).groups()  # type: ignore[union-attr]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"{name}: {package} has no hash"
        found[package] = version
    return found


@pytest.mark.parametrize(("name", "groups"), [("requirements.lock", ()), ("requirements-dev.lock", ("dev",))])
def test_the_lock_holds_what_the_project_asks_for_and_no_address(name: str, groups: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted += [each for group in groups for each in project["dependency-groups"][group]]
    versions = locked(name)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[requirement.name]), f"{requirement}: run scripts/lock"
    assert "://" not in (SCRIPTS / name).read_text()


def test_both_locks_agree_so_that_one_environment_serves_for_both() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()

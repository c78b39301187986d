"""Which processes of this machine run a node of a given configuration: the operating system's word, not ours.

A node may have been started by the rehearsal or by hand; either way its command line or its environment names the
configuration, and that is what this looks for in /proc, and what a process has used of the machine. Knows nothing of trees.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

PROC = Path("/proc")
OPTION = "--config"
VARIABLE = "TRUC_CONFIG"


def running(configs: Iterable[Path]) -> Mapping[Path, tuple[int, ...]]:
    """Per configuration file the ids of the processes that run a node with it: `truc run --config PATH` or TRUC_CONFIG."""
    found: dict[Path, list[int]] = {config: [] for config in configs}
    by_path = {os.path.realpath(config): config for config in found}
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        config = by_path.get(_config_of(entry) or "")
        if config is not None:
            found[config].append(int(entry.name))
    return {config: tuple(sorted(pids)) for config, pids in found.items()}


def tell(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False if the process is gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def cpu_s(pid: int) -> float:
    """CPU seconds (user and system) a process has used."""
    values = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory of a process, and its fair share of what it has in common with others: rss and pss, in MB."""
    found = {}
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in ("Rss", "Pss"):
            found[key.lower()] = int(value.split()[0]) / 1024
    return found


def _config_of(process: Path) -> str | None:
    """The absolute path of the configuration a process was told to run; None if it is no node, is gone or is not ours to see."""
    try:
        arguments = (process / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        if "run" not in arguments or "python" not in os.path.basename(os.readlink(process / "exe")):
            return None  # a wrapper such as timeout(1) names the path too; its child is the node
        written = _option(arguments) or _variable(process)
        return os.path.realpath(os.path.join(os.readlink(process / "cwd"), written)) if written else None
    except OSError:  # the process ended meanwhile, or belongs to someone else
        return None


def _option(arguments: list[str]) -> str | None:
    for position, argument in enumerate(arguments):
        if argument == OPTION and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"{OPTION}="):
            return argument.removeprefix(f"{OPTION}=")
    return None


def _variable(process: Path) -> str | None:
    for setting in (process / "environ").read_bytes().decode(errors="surrogateescape").split("\0"):
        if setting.startswith(f"{VARIABLE}="):
            return setting.removeprefix(f"{VARIABLE}=")
    return None

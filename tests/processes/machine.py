"""What this machine can do to a node: each capability is tried once, and where one is missing the reason has a name.

A probe returns why the capability is missing, "" when it is there. Knows nothing of nodes; leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

COMMAND_S = 60.0
FAKETIME = "libfaketimeMT.so.1"
PLACES = ("/usr/lib", "/usr/local/lib", "/usr/lib64")
TRIAL = "truc-trial"

Probe = Callable[[], str]


def sh(*command: str, given: str = "") -> str:
    """Run a command of the system and return what it prints. Raises AssertionError with its own words when it fails."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=COMMAND_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AssertionError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[:300]}")
    return done.stdout


def skip_without(*probes: Probe) -> None:
    """Skip the test by the name of what is missing."""
    for probe in probes:
        if why := probe():
            pytest.skip(f"not run: {why}")


def no_root() -> str:
    return "" if os.geteuid() == 0 else "not root: no mounts and no network namespaces here"


def _no_command(*names: str) -> str:
    missing = [name for name in names if shutil.which(name) is None]
    return f"{', '.join(missing)} not installed" if missing else ""


def _fails(what: str, *steps: tuple[str, ...]) -> str:
    try:
        for step in steps:
            sh(*step)
    except AssertionError as error:
        return f"{what}: {error}"
    return ""


@cache
def no_strace() -> str:
    """Errors and deaths at a system call."""
    trial = ("strace", "-f", "-D", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=9", "true")
    return _no_command("strace") or _fails("strace may not trace here", trial)


@cache
def no_tmpfs() -> str:
    """A disk of any size that grows by a remount."""
    if why := no_root() or _no_command("mount", "umount"):
        return why
    with tempfile.TemporaryDirectory() as folder:
        why = _fails("no tmpfs", ("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder))
        return why or _fails("a tmpfs stays", ("umount", folder))


@cache
def no_power_cut() -> str:
    """An ext4 file system on a loop device, which can be shut down without writing its journal."""
    if why := no_root() or _no_command("mkfs.ext4", "mount", "umount"):
        return why
    with tempfile.TemporaryDirectory() as folder:
        image, there = f"{folder}/image", f"{folder}/there"
        Path(there).mkdir()
        made = (("truncate", "-s", "16M", image), ("mkfs.ext4", "-q", "-F", image), ("mount", "-o", "loop", image, there))
        if why := _fails("no ext4 on a loop device", *made):
            return why
        try:
            return _fails("no shutdown of a file system", (sys.executable, "-m", "tests.processes.disks", there))
        finally:
            sh("umount", there)


@cache
def no_namespaces() -> str:
    """Networks of one's own, joined by pairs of interfaces on a bridge, with a filter that can be changed."""
    if why := no_root() or _no_command("ip", "nft", "nsenter"):
        return why
    inside = ("ip", "netns", "exec", TRIAL)
    try:
        return _fails(
            "no network namespaces",
            ("ip", "netns", "add", TRIAL),
            (*inside, "ip", "link", "add", "br0", "type", "bridge"),
            (*inside, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"),
            (*inside, "nft", "add table inet f; add chain inet f c { type filter hook input priority 0; }"),
            (*inside, "nft", "add rule inet f c ip saddr 10.0.0.1 meta l4proto tcp reject with tcp reset"),
        )
    finally:
        _fails("", ("ip", "netns", "del", TRIAL))


@cache
def no_slow_lines() -> str:
    """Lines with a bandwidth."""
    if why := no_namespaces() or _no_command("tc"):
        return why
    inside = ("ip", "netns", "exec", TRIAL)
    shape = ("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "256kbit", "burst", "16kb", "latency", "400ms")
    try:
        return _fails("no traffic shaping", ("ip", "netns", "add", TRIAL), (*inside, *shape))
    finally:
        _fails("", ("ip", "netns", "del", TRIAL))


@cache
def faketime() -> str:
    """The library that fakes the clock of a process with threads; "" where it is not installed."""
    found = (path for place in PLACES for path in Path(place).glob(f"*/faketime/{FAKETIME}"))
    return str(next(found, "")) or str(next((p for place in PLACES for p in Path(place).glob(f"faketime/{FAKETIME}")), ""))


def no_faketime() -> str:
    """Clocks that are set while a process runs."""
    return "" if faketime() else f"libfaketime ({FAKETIME}) not installed"


CAPABILITIES: dict[str, Probe] = {
    "strace": no_strace,
    "tmpfs": no_tmpfs,
    "power cut": no_power_cut,
    "namespaces": no_namespaces,
    "slow lines": no_slow_lines,
    "faketime": no_faketime,
}

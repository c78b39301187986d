"""The process that a node runs in: its event loop, its open files, what its last error was.

A part of the composition root. Knows the configuration and what the store calls a full disk; nothing of duties.
"""

from __future__ import annotations

import asyncio
import errno
import resource
from importlib import import_module, util

import structlog

from node import config
from node.adapters.sqlite.writer import is_full

log = structlog.get_logger()

FILES_BESIDE = 256


def take_faster_loop() -> None:
    """uvloop where somebody has installed it beside truc: about a tenth less CPU. Nothing else depends on it."""
    if util.find_spec("uvloop") is not None:
        asyncio.set_event_loop_policy(import_module("uvloop").EventLoopPolicy())
        log.info("uvloop runs this node")


def no_room(error: BaseException) -> bool:
    """The disk, or what the node may use of it, is full: a start needs room for a second copy of the WAL and one row more."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return is_full(error)


def causes(error: BaseException) -> list[BaseException]:
    """What a task group bundled, one by one."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for each in error.exceptions for cause in causes(each)]
    return [error]


def allow_files(settings: config.NodeConfig) -> None:
    """Room for every connection the listeners may hold: the usual limit of 1,024 descriptors is less than that."""
    wanted = settings.link.connections_max + settings.office.connections_max + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("fewer open files allowed than the listeners may need", allowed=allowed, wanted=wanted)

"""The process that a node runs in: its event loop, its open files, what its last error was.

A part of the composition root. Knows the configuration and what the store calls a full disk; nothing of duties.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module, util

import structlog

from node import config
from node.adapters.sqlite.writer import StoreFailed, is_full
from node.gateway import Loop

log = structlog.get_logger()

FILES_BESIDE = 256
EXIT_FAILED = 1


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


def leave(error: Exception) -> None:
    """The disk has failed: end at once. Closing SQLite would repeat the sync that failed (decision 3), and a node that took its
    time to wind down would answer nobody any more."""
    log.error("the disk has failed, the process ends", reason=str(error)[:500])
    sys.stderr.flush()
    os._exit(EXIT_FAILED)


def ending_with_the_disk(loop: Loop, leave: Callable[[Exception], None]) -> Loop:
    """The loop, and `leave` with the first error of the disk that comes out of it."""

    @wraps(loop)
    async def run() -> None:
        try:
            await loop()
        except (StoreFailed, OSError) as error:
            leave(error)
            raise

    return run

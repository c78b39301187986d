"""The log: one event per line on stderr, JSON in service and readable on a terminal.

An event is a constant phrase; the rest are fields: `node`, `tier`, `envelope`, `neighbour`, `attempt`, `count`, `duration_ms`,
`reason`, `trace_id`. Never content, subjects, names of people or secrets: the legal trail is the journal table, not this.
Modules ask for `structlog.get_logger()`; what asyncio and libraries say through `logging` passes the same gate.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from node.core.instant import iso_utc
from node.core.words import unsafe, visible

VALUE_MAX = 2000
"""Characters kept of one value."""
TRACE_MAX = 8000
"""Characters kept of a traceback: its end, where the cause is."""
NAME_MAX = 60
FIELDS_MAX = 40

HIDDEN = frozenset({"secret", "secrets", "token", "password", "authorization", "key_pem", "subject", "content", "body"})
"""Fields that never reach a line, whatever they hold."""

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

_RESERVED = ("ts", "level", "event")


def configure(
    *,
    level: str,
    utc_ms: Callable[[], int],
    stream: TextIO | None = None,
    terminal: bool | None = None,
    **constant: str,
) -> Lines:
    """Set up structlog and `logging` for this process. level: one of LEVELS. constant: fields of every line (node, tier).

    stream: stderr unless given; terminal: readable lines instead of JSON, by default whether the stream is a terminal.
    Returns where the lines go.
    """
    target = sys.stderr if stream is None else stream
    readable = target.isatty() if terminal is None else terminal
    out = Lines(target)
    chain = _chain(utc_ms, constant, readable)
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", out)),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge(chain, out)]
    root.setLevel(max(LEVELS[level], logging.INFO))  # libraries at debug level tell secrets and contents
    logging.getLogger("aiohttp.access").disabled = True  # every listener counts; a probe of /healthz is no news
    return out


def _chain(utc_ms: Callable[[], int], constant: Mapping[str, str], readable: bool) -> list[Processor]:
    def stamp(_: WrappedLogger, name: str, event: EventDict) -> EventDict:
        level = "error" if name == "exception" else {"warn": "warning", "fatal": "critical"}.get(name, name)
        return {**constant, **event, "ts": iso_utc(utc_ms()), "level": level}

    return [stamp, _explain, _bound, _readable_line if readable else _json_line]


def _explain(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """`exc_info` becomes the end of a traceback."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    elif isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[0] is not None:
        event["exception"] = "".join(traceback.format_exception(*info))[-TRACE_MAX:]
    return event


def _bound(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Order the fields, hide what must not be told, cut what is long."""
    names = [*_RESERVED, *(name for name in event if name not in _RESERVED)][: FIELDS_MAX + len(_RESERVED)]
    return {name[:NAME_MAX]: _plain(name, event.get(name, "")) for name in names}


def _plain(name: str, value: object) -> object:
    if name.lower() in HIDDEN:
        return "***"
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = value if isinstance(value, str) else str(value)
    limit = TRACE_MAX if name == "exception" else VALUE_MAX
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _json_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    """One JSON object; every control and bidirectional character stands as \\uXXXX, so a line is a line."""
    line = json.dumps(event, ensure_ascii=False, default=str)
    return line if line.isascii() and line.isprintable() else "".join(_escaped(c) if unsafe(c) else c for c in line)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def _readable_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    rest = dict(event)
    trace = rest.pop("exception", "")
    head = f"{rest.pop('ts')} {rest.pop('level'):<8} {visible(str(rest.pop('event')))}"
    line = head + "".join(f" {visible(name)}={visible(str(value))}" for name, value in rest.items())
    return "\n    ".join([line, *map(visible, str(trace).splitlines())])


class Lines:
    """Where lines go. A log that cannot be written must not stop documents: lost lines are counted, nothing is raised."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lost = 0

    def write(self, text: str) -> int:
        try:
            written = self.stream.write(text)
        except (OSError, ValueError):  # the reader of a pipe is gone, or the stream is closed
            self.lost += 1
            return 0
        return written

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError):
            self.lost += 1


class _Bridge(logging.Handler):
    """What libraries say through `logging`, as an event of ours."""

    def __init__(self, chain: list[Processor], out: Lines) -> None:
        super().__init__()
        self._chain = chain
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        try:
            result: Any = {"event": record.getMessage(), "logger": record.name, "exc_info": record.exc_info}
            for processor in self._chain:
                result = processor(None, record.levelname.lower(), result)
        except Exception:  # a library's faulty call: logging's own way of saying so, on stderr
            self.handleError(record)
            return
        self._out.write(f"{result}\n")
        self._out.flush()

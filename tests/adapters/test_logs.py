"""The log: one event, one line, nothing hidden in it and nothing told that must not be."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from node.adapters import logs
from node.core.words import unsafe

NOW_MS = 1_795_316_400_123


@pytest.fixture(autouse=True)
def _leave_no_trace() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = before
    logging.getLogger("aiohttp.access").disabled = False


def start(level: str = "info", terminal: bool = False) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level=level, utc_ms=lambda: NOW_MS, stream=stream, terminal=terminal, node="Tỉnh Quảng Ninh", tier="tỉnh")
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_the_fields_operators_search_for() -> None:
    stream = start()
    structlog.get_logger("node.forwarder").info("batch handed over", neighbour="hub", count=3, duration_ms=12.5)
    assert lines(stream) == [
        {
            "ts": "2026-11-22T03:00:00.123Z",
            "level": "info",
            "event": "batch handed over",
            "node": "Tỉnh Quảng Ninh",
            "tier": "tỉnh",
            "neighbour": "hub",
            "count": 3,
            "duration_ms": 12.5,
        }
    ]
    assert "Tỉnh Quảng Ninh" in stream.getvalue(), "Vietnamese stays readable"


def test_what_lies_below_the_level_is_not_written() -> None:
    stream = start("warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_name_with_line_breaks_escapes_and_direction_marks_stays_one_harmless_line() -> None:
    """Threats, row 29."""
    stream = start()
    hostile = "a\r\nb\x1b[31m\u202e\u2028\x85\x7f\u200b\ud800\U000e0041"
    structlog.get_logger().info("peer refused", reason=hostile)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.rstrip("\n").isascii() or all(character.isprintable() for character in text.rstrip("\n"))
    assert lines(stream)[0]["reason"] == hostile, "the escaped form loses nothing"


@given(st.text(st.characters(codec=None), max_size=60))
def test_any_text_whatever_is_one_printable_line(text: str) -> None:
    for terminal in (False, True):
        stream = start(terminal=terminal)
        structlog.get_logger().info("seen", reason=text)
        line = stream.getvalue()
        assert line.endswith("\n")
        assert not [character for character in line[:-1] if unsafe(character)]


def test_a_long_value_is_cut_and_a_flood_of_fields_is_bounded() -> None:
    stream = start()
    structlog.get_logger().info("seen", reason="x" * 1_000_000, **{f"field_{number}": number for number in range(500)})
    line = lines(stream)[0]
    assert len(line["reason"]) == logs.VALUE_MAX
    assert line["reason"].endswith("...")
    assert len(line) <= logs.FIELDS_MAX + 3


def test_secrets_and_subjects_never_reach_a_line() -> None:
    stream = start()
    structlog.get_logger().info(
        "signed in", secret="khoa-thu-2026", Authorization="Bearer abc", subject="Về việc mật", envelope="e1"
    )
    for hidden in ("khoa-thu-2026", "abc", "Về việc mật"):
        assert hidden not in stream.getvalue()
    assert lines(stream)[0]["envelope"] == "e1"


def test_an_exception_is_told_with_its_end_on_the_same_line() -> None:
    stream = start()
    try:
        raise ValueError("đĩa hỏng")
    except ValueError:
        structlog.get_logger().exception("loop fell")
    line = lines(stream)[0]
    assert line["level"] == "error"
    assert line["exception"].endswith("ValueError: đĩa hỏng\n")


def test_what_a_library_logs_passes_the_same_gate() -> None:
    stream = start()
    logging.getLogger("asyncio").error("task %s\nfell", "seven", exc_info=ValueError("why"))
    logging.getLogger("aiohttp.access").info("GET /healthz")
    logging.getLogger("sqlite").debug("select secret")
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["level"]) == ("task seven\nfell", "asyncio", "error")
    assert "ValueError: why" in line["exception"]


def test_numbers_that_json_does_not_know_become_words() -> None:
    stream = start()
    structlog.get_logger().info("seen", duration_ms=float("nan"), count=True)
    assert lines(stream)[0]["duration_ms"] == "nan"
    assert lines(stream)[0]["count"] is True


def test_on_a_terminal_a_line_reads_as_a_line() -> None:
    stream = start(terminal=True)
    structlog.get_logger().warning("child silent", neighbour="H41.07\x1b[2J")
    assert stream.getvalue() == (
        "2026-11-22T03:00:00.123Z warning  child silent node=Tỉnh Quảng Ninh tier=tỉnh neighbour=H41.07<U+001B>[2J\n"
    )


def test_a_log_nobody_reads_does_not_stop_the_node() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    out = logs.configure(level="info", utc_ms=lambda: NOW_MS, stream=Gone())
    structlog.get_logger().error("still alive")
    logging.getLogger("asyncio").error("still alive")
    assert out.lost == 2

"""`truc status`: one sentence of health, the problems with the command that helps, then the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from node.cli.desk import running
from node.cli.face import Command, config_option, json_option
from node.cli.talk import json_line, lang, pairs, t, when
from node.core.words import label, visible


@click.command(cls=Command, texts=("Tình trạng của nút đang chạy.", "How the running node is."))
@json_option
@config_option
def command(as_json: bool) -> None:
    facts = running().get("/api/status")
    if as_json:
        json_line(facts)
        return
    code = f" ({facts['code']})" if facts["code"] else ""
    click.echo(t("Nút", "Node") + f" {visible(facts['node'] + code)} {label('health', facts['health'], lang())}.")
    for problem in facts["problems"]:
        click.echo(f"  ! {_complaint(problem)}")
        if problem.get("command"):
            click.echo(f"    → {visible(problem['command'])}")
    pairs(_figures(facts))


def _complaint(problem: Mapping[str, Any]) -> str:
    """The node's own words are Vietnamese; in English the label of the code stands for them."""
    text = problem["text"] if lang() == "vi" and problem.get("text") else label("problem", problem["code"], lang())
    return f"{visible(text)} [{visible(problem['code'])}]"


def _clock(clock: Mapping[str, Any]) -> str:
    state, since = label("clock", clock["state"], lang()), when(clock.get("since_ms"))
    figures = t(
        f"máy lệch {clock['offset_s']:+.3f} s, sai số ±{clock['bound_s']:.3f} s, bậc {clock['stratum']}",
        f"host off by {clock['offset_s']:+.3f} s, bound ±{clock['bound_s']:.3f} s, stratum {clock['stratum']}",
    )
    return f"{state} {t('từ', 'since')} {since}; {figures}"


def _directory(state: Mapping[str, Any]) -> str:
    age = state["age_s"]
    compared = t(f", so với nút cấp trên {age:.0f} giây trước", f", compared with the parent's {age:.0f} s ago") if age else ""
    unsigned = "" if state["signed"] else t(", theo tệp, chưa có bản ký của nút gốc", ", by the file: the hub was not heard yet")
    return t("bản", "version") + f" {state['version']}{unsigned}{compared}"


def _figures(facts: Mapping[str, Any]) -> list[tuple[str, object]]:
    up, down = t("đang thông", "up"), t("mất kết nối", "down")
    lines: list[tuple[str, object]] = []
    parent = facts["parent"]
    if parent is not None:
        since = f" {t('từ', 'since')} {when(parent['since_ms'])}" if parent.get("since_ms") else ""
        lines.append(
            (t("nút cấp trên", "parent"), f"{parent['code'] or t('nút gốc', 'hub')} {up if parent['up'] else down}{since}")
        )
    for child in facts["children"]:
        seen = when(child.get("last_seen_ms")) or t("chưa từng", "never")
        state = up if child["up"] else t(f"im lặng, lần cuối {seen}", f"silent, last seen {seen}")
        lines.append((t("nút cấp dưới", "child"), f"{child['code']} {child.get('name', '')} {state}"))
    oldest = facts["outbox"].get("oldest_age_s") or 0
    waiting = t(f" (lâu nhất {oldest:.0f} giây)", f" (oldest {oldest:.0f} s)") if facts["outbox"]["depth"] else ""
    if clock := facts.get("clock"):
        lines.append((t("đồng hồ", "clock"), _clock(clock)))
    if directory := facts.get("directory"):
        lines.append((t("danh mục", "directory"), _directory(directory)))
    lines += [
        (t("hàng chờ chuyển", "outbox"), f"{facts['outbox']['depth']}{waiting}"),
        (t("hộp văn bản chờ lấy", "mailbox"), facts["mailbox"]["depth"]),
        (t("tạm dừng, chờ người vận hành", "held"), facts["held"]),
        (t("chạy từ", "running since"), f"{when(facts['started_ms'])}, truc {facts['version']}"),
    ]
    return lines

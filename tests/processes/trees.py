"""The file of a small tree for one story: whose child each node is; one organ and one office at each."""

from __future__ import annotations

from collections.abc import Mapping

HUB_ORGAN = "G22"


def tree_text(zone: str, parents: Mapping[str, str], *, probe_max_s: float = 2.0, request_timeout_s: float = 60.0) -> str:
    """parents: by code, parents before children; the hub is added. Its organ is G22, that of any other node has its code."""
    lines = [f'zone = "{zone}.truc.internal"', "[axis]", 'name = "Trục thử"', 'code = "TRUC"', "[options.link]"]
    lines += [f"probe_max_s = {probe_max_s}", f"request_timeout_s = {request_timeout_s}"]
    lines += _site("", HUB_ORGAN, "prefixes = ['G22']")
    for code, parent in parents.items():
        lines += _site(code, code, f'parent = "{parent}"')
    for organ in (HUB_ORGAN, *parents):
        lines += ["[[organs]]", f'code = "{organ}"', f'name = "Cơ quan {organ}"', 'connection = "chinh-thuc"']
    return "\n".join(lines) + "\n"


def _site(code: str, organ: str, place: str) -> list[str]:
    site = ["[[sites]]", f'name = "Nút {organ}"', f'code = "{code}"', place]
    return [*site, "[[sites.systems]]", f'id = "{organ.lower()}"', f'codes = ["{organ}"]']

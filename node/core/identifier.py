"""Organisation codes (mã định danh cơ quan, tổ chức), held root first whatever form they were written in.

`parse` applies the rule to what others write; `canonical` admits only what a node itself writes. The table that goes before
the rule is the directory's. Knows `errors`; nothing of who holds a code, since when, or where its office is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from node.core.errors import Reason, Refused

CODE_CHARS_MAX = 35
"""QĐ 20/2020/QĐ-TTg: a code has at most 35 characters, dots included."""
WRITTEN_CHARS_MAX = 400
"""More than this is not looked at: white space and compatibility forms around a code fit easily."""
CODES_REMEMBERED = 32_768
"""Of those read last from a wire or a row: more than a tree has nodes."""
ELEMENT = "OrganId"

PLACEHOLDERS = frozenset(
    {"NULL", "(NULL)", "NONE", "NIL", "N/A", "NA", "NAN", "UNDEFINED", "UNKNOWN", "-", "--", "---", "_", "?", "..."}
)
"""What programs write when they have no code; seen in real packages, in any case of letters."""

_GROUP = r"(?!XN--)[0-9A-Z](?:[0-9A-Z-]*[0-9A-Z])?"  # a DNS label too; xn-- belongs to IDNA (RFC 5890)
_CODE = re.compile(rf"{_GROUP}(?:\.{_GROUP})*")
_CHARACTERS = re.compile(r"[0-9A-Z.-]*")
_LEVEL_1 = re.compile(r"[A-Z][0-9]{2}")
_AROUND_DOT = re.compile(r"\s*\.\s*")
_OLD_WIDTHS = (3, 2, 2, 3)
"""QCVN 102:2016: M.XX of level 1, then levels 2, 3 and 4, counted from the root."""


@dataclass(frozen=True, slots=True, order=True)
class OrgId:
    """A code as level codes root first: ("G12", "18"). () is the hub itself.

    Groups keep their width and zeros: G12.01 and G12.1 are two organs. Make one from text with `parse` or `canonical`.
    """

    path: tuple[str, ...]

    def __hash__(self) -> int:
        """As the generated one, in half the time: codes are keys everywhere."""
        return hash(self.path)

    def __str__(self) -> str:
        """Root first, dots between: "G12.18"; "" for the hub."""
        return ".".join(self.path)

    @classmethod
    @lru_cache(CODES_REMEMBERED)
    def canonical(cls, text: str) -> OrgId:
        """Read exactly what `str()` gives, "" (the hub) included; anything else is `Refused(CODE_*)`, as by `parse`."""
        if not text:
            return HUB
        code = cls.parse(text)
        if str(code) != text:
            raise _refused(Reason.CODE_BAD_GROUP, text, f"= {code}")
        return code

    @classmethod
    def parse(cls, text: str) -> OrgId:
        """Read a code as people and programs write it, by rule alone.

        Any case, full-width letters, space around the code and its dots. The form of QCVN 102:2016 (level 1 last) is
        turned round and its zero groups dropped; the form of QĐ 20/2020 is kept as it stands.
        Raises `Refused(CODE_EMPTY | CODE_PLACEHOLDER | CODE_TOO_LONG | CODE_BAD_CHARACTER | CODE_BAD_GROUP)`, the value
        being the text received.
        """
        plain = normalise(text)
        if not plain:
            raise _refused(Reason.CODE_EMPTY, text)
        if plain in PLACEHOLDERS:
            raise _refused(Reason.CODE_PLACEHOLDER, text)
        if len(plain) > CODE_CHARS_MAX:
            raise _refused(Reason.CODE_TOO_LONG, text, f"≤ {CODE_CHARS_MAX}")
        if not _CHARACTERS.fullmatch(plain):
            raise _refused(Reason.CODE_BAD_CHARACTER, text, "0-9 A-Z . -")
        if not _CODE.fullmatch(plain):
            raise _refused(Reason.CODE_BAD_GROUP, text, "[0-9A-Z-]+")
        if not plain.strip("0.-"):  # QCVN 102:2016: zeros mean "no unit at this level", and here at no level
            raise _refused(Reason.CODE_BAD_GROUP, text, "≠ 0")
        return cls(_root_first(tuple(plain.split("."))))

    @property
    def level1(self) -> OrgId:
        """The code's first level; the hub for the hub."""
        return OrgId(self.path[:1])

    @property
    def parent(self) -> OrgId | None:
        """One level up; the hub above a level-1 code, None above the hub. A matter of codes, not of nodes."""
        return OrgId(self.path[:-1]) if self.path else None

    def upwards(self) -> Iterator[OrgId]:
        """The code itself, then its superiors up to level 1: the longest prefix first. The hub is not among them."""
        for length in range(len(self.path), 0, -1):
            yield OrgId(self.path[:length])

    def covers(self, other: OrgId) -> bool:
        """Whether this code is `other` or stands above it, group by group: H5 does not cover H54. The hub covers all."""
        return other.path[: len(self.path)] == self.path

    def dns_name(self, zone: str) -> str:
        """The node's name in the tree's zone, lower case: ("G12", "18") -> "18.g12.<zone>"; the hub is the zone itself."""
        return ".".join((*reversed(self.path), zone)).lower()

    def old_form(self) -> str | None:
        """The 13 characters of QCVN 102:2016 ("000.00.18.G12"), or None: letters, other widths and zero groups have none."""
        if not self.path or len(self.path) > len(_OLD_WIDTHS) or not _LEVEL_1.fullmatch(self.path[0]):
            return None
        for group, width in zip(self.path[1:], _OLD_WIDTHS[1:], strict=False):
            if len(group) != width or not group.isdigit() or _is_zero(group):
                return None
        empty = tuple("0" * width for width in _OLD_WIDTHS[len(self.path) :])
        return ".".join(reversed(self.path + empty))


HUB = OrgId(())


def tops(codes: Iterable[OrgId]) -> tuple[OrgId, ...]:
    """The fewest codes that cover all of these, in order: those that no other one covers."""
    every = set(codes)
    if HUB in every:
        return (HUB,)
    return tuple(code for code in sorted(every) if every.isdisjoint([*code.upwards()][1:]))


def normalise(text: str) -> str:
    """One spelling for texts that mean the same code: NFKC, no space at the ends or around dots, upper case.

    The directory's table is keyed by it. Text that is not ASCII afterwards is no code; it keeps apart from all that is
    (upper case would make SS of ß). Raises `Refused(CODE_TOO_LONG)` for more than `WRITTEN_CHARS_MAX` characters.
    """
    if len(text) > WRITTEN_CHARS_MAX:
        raise _refused(Reason.CODE_TOO_LONG, text, f"≤ {CODE_CHARS_MAX}")
    plain = _AROUND_DOT.sub(".", unicodedata.normalize("NFKC", text).strip())
    return plain.upper() if plain.isascii() else plain.casefold()


def _root_first(groups: tuple[str, ...]) -> tuple[str, ...]:
    if not _LEVEL_1.fullmatch(groups[-1]) or _LEVEL_1.fullmatch(groups[0]):
        return groups  # QĐ 20/2020/QĐ-TTg: level 1 leftmost, or a body with a scheme of its own
    return tuple(group for group in reversed(groups) if not _is_zero(group))


def _is_zero(group: str) -> bool:
    return not group.strip("0")


def _refused(reason: Reason, text: str, rule: str = "") -> Refused:
    return Refused(reason, ELEMENT, text, rule)

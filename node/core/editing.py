"""Acts on the directory as a person means them: close a code, name its successors, change an organ from a day on, take a list in.

Each takes the directory as it is and says what it should be (`changes.Wanted`). Knows `directory` and `changes`; whether this
node may say so is judged there, whether laws hold where it is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from node.core.directory import Connection, Directory, Entry, Fate
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.wanted import Wanted

DAY = timedelta(days=1)


def closed(
    directory: Directory,
    code: OrgId,
    last: date,
    successors: Sequence[OrgId],
    fate: Fate | None,
    source: str,
    source_day: date | None,
) -> Wanted:
    """The code ends after that day. `Refused(RECIPIENT_UNKNOWN | DIRECTORY_LAW)`: there is none, or it is not open then."""
    history = _history(directory, code)
    open_then = directory.entry(code, last)
    if open_then is None or open_then is not history[-1] or _ends_by(open_then, last):
        raise Refused(Reason.DIRECTORY_LAW, "code", f"{code}: {last}", "valid_to")
    ended = replace(open_then, valid_to=last, **_passing(successors, fate, source, source_day))
    return Wanted(codes={code: (*history[:-1], ended)})


def succeeded(
    directory: Directory, code: OrgId, successors: Sequence[OrgId], fate: Fate | None, source: str, source_day: date | None
) -> Wanted:
    """Others take the place of a code that is closed, or has a last day. Raises as `closed`."""
    history = _history(directory, code)
    last = history[-1]
    if last.valid_to is None and last.connection is not Connection.CLOSED:
        raise Refused(Reason.DIRECTORY_LAW, "code", str(code), "valid_to")
    return Wanted(codes={code: (*history[:-1], replace(last, **_passing(successors, fate, source, source_day)))})


def changed(directory: Directory, code: OrgId, begins: date | None, values: Mapping[str, Any]) -> Wanted:
    """An organ is otherwise from that day on, and was as it was before; None: it is set right for all of its last entry. A code
    that is new begins on that day. values: fields of `Entry`. `Refused(DIRECTORY_LAW)`: a later entry is there already, or the
    code ended before."""
    history = directory.history(code)
    if not history:
        name = values.get("name") or str(code)
        return Wanted(codes={code: (Entry(code, **{**values, "name": name, "valid_from": begins}),)})
    last = history[-1]
    if begins is None or begins == last.valid_from:
        return Wanted(codes={code: (*history[:-1], replace(last, **values))})
    if last.begins_after(begins):
        raise Refused(Reason.DIRECTORY_LAW, "code", f"{code}: {begins}", "valid_from")
    if last.ended_before(begins):  # opened again, with nothing of what closed it
        anew = replace(last, valid_from=begins, valid_to=None, successor=None, also=(), fate=None, **values)
        return Wanted(codes={code: (*history, anew)})
    before = replace(last, valid_to=begins - DAY, successor=None, also=(), fate=None)
    return Wanted(codes={code: (*history[:-1], before, replace(last, valid_from=begins, connection_from=None, **values))})


def taken_in(directory: Directory, listed: Iterable[Entry], said: frozenset[str]) -> Wanted:
    """A list of organs, as others publish it. said: the fields of `Entry` that it has; of an organ that is there already the
    others stay. Codes that are not listed stay as they are."""
    by_code: dict[OrgId, list[Entry]] = {}
    for entry in listed:
        by_code.setdefault(entry.code, []).append(entry)
    wanted = {}
    for code, entries in by_code.items():
        known = {entry.valid_from: entry for entry in directory.history(code)}
        if len(entries) == len(known) == 1:
            known[entries[0].valid_from] = next(iter(known.values()))
        wanted[code] = tuple(_merged(known.get(entry.valid_from), entry, said) for entry in sorted(entries, key=_begins))
    return Wanted(codes={code: entries for code, entries in wanted.items() if entries != directory.history(code)})


def only(wanted: Wanted, codes: Iterable[OrgId]) -> Wanted:
    """What is wanted of these codes."""
    kept = frozenset(codes)
    return Wanted(
        {code: node for code, node in wanted.nodes.items() if code in kept},
        {code: entries for code, entries in wanted.codes.items() if code in kept},
    )


def _ends_by(entry: Entry, last: date) -> bool:
    return entry.connection is Connection.CLOSED or (entry.valid_to is not None and entry.valid_to <= last)


def _history(directory: Directory, code: OrgId) -> tuple[Entry, ...]:
    history = directory.history(code)
    if not history:
        raise Refused(Reason.RECIPIENT_UNKNOWN, "code", str(code))
    return history


def _passing(successors: Sequence[OrgId], fate: Fate | None, source: str, source_day: date | None) -> dict[str, Any]:
    found: dict[str, Any] = {"successor": successors[0] if successors else None, "also": tuple(successors[1:]), "fate": fate}
    return found | ({"source": source} if source else {}) | ({"source_day": source_day} if source_day else {})


def _merged(known: Entry | None, entry: Entry, said: frozenset[str]) -> Entry:
    if known is None:
        return entry
    return replace(known, **{name: getattr(entry, name) for name in said})


def _begins(entry: Entry) -> date:
    return entry.valid_from or date.min

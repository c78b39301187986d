"""Whom a package is from and for: the sender it may speak for, every receiver judged, the docIds their offices see.

Pure: told the directory, the table and the day. What a status is for is found by whoever knows the documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from node.core import words
from node.core.custody import DoorRefusal, StatusReport
from node.core.directory import Directory
from node.core.envelope import Recipient, derived_doc_id
from node.core.errors import Reason, Refused
from node.core.identifier import OrgId
from node.core.instant import parse_old
from node.core.joining import joined_by, meant
from node.core.office import Problem, System
from node.core.package import Package, Party
from node.core.routing import Forward, Refuse, Table, decide


@dataclass(frozen=True, slots=True)
class View:
    """What packages that are judged together are judged by. owners: the system that serves an organ."""

    directory: Directory
    table: Table
    today: date
    owners: Mapping[OrgId, str]


@dataclass(frozen=True, slots=True)
class Addressed:
    """A package's receivers after judgement: those it goes to with their routes, and those it does not."""

    recipients: tuple[Recipient, ...]
    routes: Mapping[OrgId, OrgId | None]
    problems: tuple[Problem, ...]
    refused: tuple[DoorRefusal, ...]


def sender_of(view: View, system: System, party: Party) -> OrgId:
    """The package's From decides; it must be one of the system's codes and an organ of this day. # QĐ 28/2018 Điều 6.1"""
    sender = view.directory.resolve(party.code)
    if sender not in system.codes:
        raise Refused(Reason.SENDER_NOT_ALLOWED, "From/OrganId", party.code, ", ".join(str(code) for code in system.codes))
    if not view.table.owns(sender):
        raise Refused(Reason.SENDER_OUTSIDE, "From/OrganId", party.code)
    if view.directory.entry(sender, view.today) is None:
        raise Refused(Reason.SENDER_UNKNOWN, "From/OrganId", party.code)
    return sender


def address(view: View, written: Sequence[tuple[str, str]], system: System) -> Addressed:
    """Judge every receiver: (code or text to resolve, code as written). One bad receiver does not stop the others; with none
    left, or where the system asked for all or nothing, all stops: `Refused`. # QĐ 28/2018 Điều 7.1, 8.2, 21.2"""
    recipients: dict[OrgId, Recipient] = {}
    routes: dict[OrgId, OrgId | None] = {}
    problems: list[Problem] = []
    refused: list[DoorRefusal] = []
    for text, as_written in written:
        code: OrgId | None = None
        try:
            code = view.directory.resolve(text)
            receiving = view.directory.receiver(code, view.today)
            decision = decide(view.table, receiving.organ)
            if isinstance(decision, Refuse):
                raise Refused(decision.reason, "To/OrganId", as_written)
        except Refused as refusal:
            successor = refusal.rule if refusal.reason is Reason.RECIPIENT_CLOSED else ""
            problems.append(Problem(as_written, refusal, successor))
            refused.append(
                DoorRefusal(
                    str(code) if code is not None else f"?{as_written}"[:400], as_written[:400], refusal.reason, successor
                )
            )
            continue
        recipients.setdefault(code, Recipient(code, as_written[:400], receiving.via))
        routes[code] = decision.neighbour if isinstance(decision, Forward) else None
    addressed = Addressed(tuple(recipients.values()), routes, tuple(problems), tuple(refused))
    _check(addressed, system)
    return addressed


def _check(addressed: Addressed, system: System) -> None:
    if addressed.recipients and not (addressed.problems and system.all_or_nothing):
        return
    if len(addressed.problems) == 1 and not addressed.recipients:
        raise addressed.problems[0].refusal
    reason = Reason.ALL_OR_NOTHING if addressed.recipients else Reason.NO_RECIPIENT
    named = " ".join(words.with_code(problem.refusal) for problem in addressed.problems[:20])
    raise Refused(reason, "To/OrganId", "; ".join(problem.written for problem in addressed.problems), named)


def owners_of(systems: Sequence[System]) -> dict[OrgId, str]:
    return {code: system.id for system in systems for code in system.codes}


def doc_ids(owners: Mapping[OrgId, str], doc_id: str, recipients: Sequence[Recipient]) -> dict[OrgId, str]:
    """The docId each receiving organ's office sees: the package's own, but for the second organ of one and the same system,
    which must be able to tell its two items apart."""
    found: dict[OrgId, str] = {}
    taken: set[str] = set()
    for recipient in recipients:
        organ = recipient.organ
        if organ in found:
            continue
        system = owners.get(organ, "")
        found[organ] = derived_doc_id(doc_id, str(organ)) if system and system in taken else doc_id
        taken.add(system)
    return found


def status_targets(directory: Directory, package: Package, reporter: OrgId, known: Sequence[OrgId]) -> list[tuple[str, str]]:
    """Whom a status is for, as (code, code as written): those whom the node knows for the document it names, else
    ResponseFor/OrganId, else (one vendor swaps the two fields) ResponseFor/Code. `Refused(STATUS_TARGET_UNKNOWN)`."""
    reference = package.response_for[0]
    if package.status == "13":
        known = meant(directory, reference, known)
    if known:
        return [(str(code), reference.organ or str(code)) for code in known]
    for text in (reference.organ, reference.code):
        try:
            code = directory.resolve(text)
        except Refused:
            continue
        if package.status == "13" and code == reporter:
            continue  # a sender cannot take a document back from itself
        if directory.history(code) or text == reference.organ:
            return [(str(code), text)]
    raise Refused(Reason.STATUS_TARGET_UNKNOWN, "ResponseFor/OrganId", reference.organ or reference.document_id)


def report_of(package: Package, reporter: OrgId, here: Sequence[OrgId]) -> StatusReport | None:
    """What a status says, for matching it to the document, when its addressee is served by this node."""
    if not package.is_status or not here:
        return None
    reference = package.response_for[0]
    return StatusReport(
        reporter,
        package.status,
        package.description[:2000],
        parse_old(package.timestamp) or 0,
        here[0],
        *joined_by(reference),
    )

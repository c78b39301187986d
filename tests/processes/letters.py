"""Packages and clients for the stories of this folder: what an office writes, and the connector it writes with."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp

from node.core.package import Business, Party, Priority, Reference
from node.documents.edxml_writer import DocumentMessage, File, StatusMessage, write_document, write_status
from tests.processes.tree import System, Tree
from tests.vxp_client import VxpClient, VxpFailed

T = TypeVar("T")

DATE = "2026/11/22"
MADE_MS = 1_790_000_000_000
LATER = re.compile(r"\[(disk-full|not-now)\]\s*$")
NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError)


def letter(
    sender: str,
    *to: str,
    number: int = 1,
    size: int = 2_000,
    document_id: str = "",
    priority: Priority = Priority.NORMAL,
    business: Business = Business.NEW,
    seed: object = 0,
) -> bytes:
    """A document package of about `size` bytes; the same arguments give the same bytes, another number or seed others."""

    def written(*attachments: File) -> bytes:
        return write_document(
            DocumentMessage(
                sender=Party(sender, f"Bên gửi {sender}"),
                recipients=tuple(Party(code, f"Bên nhận {code}") for code in to),
                document_id=document_id or f"{seed}-{number}",
                number=str(number),
                notation="CV-TH",
                date=DATE,
                subject=f"V/v diễn tập gửi, nhận số {number}",
                timestamp_ms=MADE_MS,
                priority=priority,
                business=business,
                business_document_id=document_id if business is Business.UPDATE else "",
                attachments=attachments,
            )
        )

    room = size - len(written()) - 500  # what an attachment adds around its content
    if room <= 0:
        return written()
    return written(File(name=f"vb {number}.pdf", content=random.Random(f"{seed}/{number}").randbytes(room * 3 // 4)))


def status(organ: str, about: Reference, code: str, mark: str, at_ms: int = MADE_MS) -> bytes:
    """A status package of a receiving organ. mark: makes its bytes unlike those of any other."""
    return write_status(
        StatusMessage(
            sender=Party(organ, f"Cơ quan {organ}"),
            response_for=about,
            status=code,
            timestamp_ms=at_ms,
            description=f"trạng thái {code}",
            staff=mark,
        )
    )


def connector(tree: Tree, code: str, timeout_s: float = 60.0) -> VxpClient:
    """The connector of the office system that has this code."""
    return connector_of(tree, tree.system_of(code), timeout_s)


def connector_of(tree: Tree, system: System, timeout_s: float = 60.0) -> VxpClient:
    dial = tree.nodes[system.node].dial
    return VxpClient(system.url, system.id, system.secret, tree.tls(), timeout_s=timeout_s, dial=dial)


async def insist(call: Callable[[], Awaitable[T]], within_s: float = 60.0) -> T:
    """The same call until it is answered, as a connector whose node is away."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                return await call()
            except NO_ANSWER:
                await asyncio.sleep(0.1)  # a connector's pause before it tries again


def later(answer: object) -> str:
    """Why the node cannot take or give it now: the reason in an answer that says so, or in a `VxpFailed`; "" for any other."""
    if isinstance(answer, VxpFailed):
        answer = answer.answer
    if not isinstance(answer, dict) or answer["status"] == "OK":
        return ""
    found = LATER.search(answer["ErrorDesc"])
    return found[1] if found else ""


async def arrived(client: VxpClient, doc_id: str) -> dict[str, Any] | None:
    """The line of this docId in the received list, if it is there."""
    return next((line for line in await client.received() if line["docId"] == doc_id), None)

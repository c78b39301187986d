"""An office system for rehearsals: hands packages in at a node's VXP face and collects what waits, as a connector does.

Knows the face's wire (fields as signed headers) and nothing of the node behind it. It signs every call afresh; the habits of the
vendor's SDK, left-over headers among them, are played by the tests' own client.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import aiohttp

from node.core.instant import VIETNAM

PREFIX = "XroadVnpt-"
CALL_S = 90.0
"""What one call may take."""

Answer = Mapping[str, Any]


class CallFailed(Exception):
    """The node answered FAIL, or nothing that can be read. The text is what a clerk would see."""


class Office:
    """One registered system at one node. url: the endpoint of the face. Use the session of the rehearsal, which knows its CA."""

    def __init__(self, session: aiohttp.ClientSession, url: str, system_id: str, secret: str) -> None:
        self._session = session
        self._url = url
        self.system_id = system_id
        self._secret = secret

    async def send(self, package: bytes, kind: str = "edoc") -> Answer:
        """Hand a package in; the whole answer, OK or FAIL. kind: edoc or status."""
        fields = {"servicetype": "eDoc", "messagetype": kind, "hash-file": hashlib.sha256(package).hexdigest()}
        return await self._call("sendEdoc", fields, package, "application/octet-stream")

    async def waiting(self, kind: str = "edoc") -> list[Answer]:
        """What lies ready to be collected."""
        return await self._list("getReceivedEdocList", {"servicetype": "eDoc", "messagetype": kind})

    async def sent(self, doc_id: str) -> list[Answer]:
        """A line for each receiver of one package."""
        return await self._list("getSentEdocList", {"servicetype": "eDoc", "messagetype": "edoc", "docId": doc_id})

    async def fetch(self, doc_id: str) -> bytes:
        """The package's bytes. Raises `CallFailed`."""
        return base64.b64decode(_succeeded(await self._call("getEdoc", {"docId": doc_id}))["data"], validate=True)

    async def settle(self, doc_id: str, word: str = "done") -> None:
        """Tell the node: done, processing or fail. Raises `CallFailed`."""
        _succeeded(await self._call("updateStatus", {"docId": doc_id, "status": word}))

    async def _list(self, operation: str, fields: Mapping[str, str]) -> list[Answer]:
        items: list[Answer] = _succeeded(await self._call(operation, fields))["data"]
        return items

    async def _call(
        self, operation: str, fields: Mapping[str, str], body: bytes = b"{}", content_type: str = "application/json"
    ) -> Answer:
        now = datetime.now(VIETNAM)
        values = {"systemid": self.system_id, **fields}
        values |= {"timestamp": f"{now:%d%m%YT%H%M%S}+{now.microsecond // 1000:04}", "Content-Type": content_type}
        text = json.dumps({PREFIX + name: value for name, value in values.items()}, separators=(",", ":"))
        headers = {PREFIX + name: value for name, value in values.items()} | {"Content-Type": content_type}
        headers[PREFIX + "sign-header"] = text
        headers[PREFIX + "hash-header"] = hmac.new(self._secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        try:
            async with self._session.post(f"{self._url}/{operation}", data=body, headers=headers, timeout=timeout) as response:
                answer: Answer = json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CallFailed(f"{operation}: {error or type(error).__name__}") from error
        return answer


def _succeeded(answer: Answer) -> Answer:
    if answer["status"] != "OK":
        raise CallFailed(f"{answer['ErrorCode']}: {answer['ErrorDesc']}")
    return answer

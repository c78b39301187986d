"""The people of a rehearsal: office systems that hand packages in and collect them, and an operator who asks nodes questions.

Knows the operations of the VXP face (their wire is in `vxp`) and the admin listener, and nothing of the node behind them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from node.core.instant import VIETNAM
from topology import vxp

Answer = vxp.Answer

CALL_S = 90.0
"""What one call may take."""


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
        return await self._call("sendEdoc", vxp.package_fields(package, kind), package, vxp.FILE_TYPE)

    async def waiting(self, kind: str = "edoc") -> list[Answer]:
        """What lies ready to be collected."""
        return await self._list("getReceivedEdocList", vxp.list_fields(kind))

    async def sent(self, doc_id: str) -> list[Answer]:
        """A line for each receiver of one package."""
        return await self._list("getSentEdocList", vxp.list_fields("edoc", doc_id))

    async def fetch(self, doc_id: str) -> bytes:
        """The package's bytes. Raises `CallFailed`."""
        return vxp.package_in(_succeeded(await self._call("getEdoc", {"docId": doc_id})))

    async def download(self, doc_id: str) -> bytes:
        """The same by downloadEdoc, as a file. Its failures have no words, only emptiness. Raises `CallFailed`."""
        if package := await self._exchange("GET", "downloadEdoc", {"docId": doc_id}):
            return package
        raise CallFailed(f"downloadEdoc: {doc_id}")

    async def settle(self, doc_id: str, word: str = "done") -> None:
        """Tell the node: done, processing or fail. Raises `CallFailed`."""
        _succeeded(await self._call("updateStatus", {"docId": doc_id, "status": word}))

    async def _list(self, operation: str, fields: Mapping[str, str]) -> list[Answer]:
        items: list[Answer] = _succeeded(await self._call(operation, fields))["data"]
        return items

    async def _call(
        self, operation: str, fields: Mapping[str, str], body: bytes = vxp.EMPTY, content_type: str = vxp.JSON_TYPE
    ) -> Answer:
        try:
            return vxp.read_answer(await self._exchange("POST", operation, fields, body, content_type))
        except ValueError as error:
            raise CallFailed(f"{operation}: {error}") from error

    async def _exchange(
        self,
        method: str,
        operation: str,
        fields: Mapping[str, str],
        body: bytes | None = None,
        content_type: str = vxp.JSON_TYPE,
    ) -> bytes:
        headers = vxp.headers(self.system_id, self._secret, fields, datetime.now(VIETNAM), content_type)
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        url = f"{self._url}/{operation}"
        try:
            async with self._session.request(method, url, data=body, headers=headers, timeout=timeout) as response:
                return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CallFailed(f"{operation}: {error or type(error).__name__}") from error


class Rehearsal:
    """The running sandbox: its offices by code, its nodes for an operator's questions."""

    def __init__(self, ready: Mapping[str, Any], session: aiohttp.ClientSession) -> None:
        self.nodes: Sequence[Mapping[str, Any]] = ready["nodes"]
        self._session = session
        self.offices: dict[str, Office] = {}
        for node in self.nodes:
            for system in node["systems"]:
                office = Office(session, f"{node['public']}/vxp", system["id"], system["secret"])
                self.offices |= dict.fromkeys(system["codes"], office)

    async def ask(self, node: Mapping[str, Any], path: str, **query: str) -> Any:
        """A question to a node's admin listener, with the token it keeps in its data folder."""
        token = (Path(node["data"]) / "admin.token").read_text(encoding="ascii").strip()
        return json.loads(await self._get(node, path, params=query, headers={"Authorization": f"Bearer {token}"}))

    async def metrics(self, node: Mapping[str, Any]) -> str:
        """What a node counts, in Prometheus' text form."""
        return await self._get(node, "/metrics")

    async def is_ready(self, node: Mapping[str, Any]) -> bool:
        try:
            await self._get(node, "/readyz")
        except CallFailed:
            return False
        return True

    async def _get(self, node: Mapping[str, Any], path: str, **call: Any) -> str:
        try:
            async with self._session.get(f"{node['admin']}{path}", **call) as response:
                response.raise_for_status()
                return await response.text()
        except aiohttp.ClientError as error:
            raise CallFailed(f"{node['name']} không trả lời: {error}") from error


def _succeeded(answer: Answer) -> Answer:
    if answer["status"] != "OK":
        raise CallFailed(f"{answer['ErrorCode']}: {answer['ErrorDesc']}")
    return answer
